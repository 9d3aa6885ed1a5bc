r"""Flat tori, by ``align_torus``, and the flat Klein bottle.

A torus is carried onto itself by α ↦ W α + c. These are isometries where W permutes the angles
and changes their signs; the other W ∈ GL(d, ℤ) are taken too, since nothing in data says which
loops are the coordinate axes.

On the Klein bottle, (θ, φ) ~ (θ + π, −φ), isometries are those of the torus that commute with this:

    (θ, φ) ↦ (±θ + c, φ + d),   c ∈ [0, 2π),  d ∈ {0, π},

where a change of φ's sign is one of c by π. In its five coordinates (cos 2θ, sin 2θ, cos φ,
cos θ sin φ, sin θ sin φ) the squared chords of each of these four families are a trigonometric
polynomial of c, of degree two, whose least value is found from the roots of its derivative.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds import FlatTorus, KleinBottle
from manifold_ae.metrics.isometries.base import Isometry, nearest_isometry
from manifold_ae.metrics.isometries.procrustes import degrees
from manifold_ae.metrics.torus_alignment import TorusAlignment, align_torus

__all__ = ["KleinIsometry", "TorusAutomorphism"]


@dataclass(frozen=True, eq=False)
class TorusAutomorphism(Isometry):
    """α ↦ W α + c on the angles, det W = ±1."""

    manifold: FlatTorus
    alignment: TorusAlignment

    def apply(self, x: Tensor) -> Tensor:
        angles = self.manifold.to_angles(x.double())
        matrix = self.alignment.matrix.double().to(x.device)
        return self.manifold.from_angles(angles @ matrix.mT + self.alignment.shift.to(x.device)).to(
            x.dtype
        )

    @property
    def words(self) -> str:
        shift = ", ".join(map(degrees, self.alignment.shift))
        matrix = self.alignment.matrix
        if matrix.shape == (1, 1):
            return f"{'turn' if matrix.item() == 1 else 'reflection, then a turn'} by {shift}"
        isometry = bool((matrix.abs().sum(0) == 1).all() and (matrix.abs().sum(1) == 1).all())
        kind = "" if isometry else ", an automorphism that is no isometry"
        return f"angles α ↦ W α + ({shift}) with W = {matrix.tolist()}{kind}"


@nearest_isometry.register
def _(M: FlatTorus, a: Tensor, b: Tensor, rng: np.random.Generator) -> TorusAutomorphism:
    return TorusAutomorphism(M, align_torus(M.to_angles(b), M.to_angles(a), unimodular=True))


@dataclass(frozen=True, eq=False)
class KleinIsometry(Isometry):
    """(θ, φ) ↦ (sign · θ + glide, φ + lift).

    Attributes:
        sign: 1 or −1.
        glide: c, in (−π, π].
        lift: d, 0 or π.
    """

    manifold: KleinBottle
    sign: int
    glide: float
    lift: float

    def apply(self, x: Tensor) -> Tensor:
        theta, phi = torch.atan2(x[..., 1::2], x[..., 0::2]).double().unbind(-1)
        moved = torch.stack([self.sign * theta + self.glide, phi + self.lift], -1)
        return self.manifold.from_angles(moved).to(x.dtype)

    @property
    def words(self) -> str:
        first = "θ" if self.sign == 1 else "−θ"
        second = "φ" if self.lift == 0 else "φ + 180°"
        glide = f"{'+' if self.glide >= 0 else '−'} {degrees(abs(self.glide))}"
        return f"(θ, φ) ↦ ({first} {glide}, {second})"


@nearest_isometry.register
def _(M: KleinBottle, a: Tensor, b: Tensor, rng: np.random.Generator) -> KleinIsometry:
    target = M.embed(b)
    double, height, single = (
        torch.complex(target[:, 0], target[:, 1]),
        target[:, 2],
        torch.complex(target[:, 3], target[:, 4]),
    )
    found = []
    for sign in (1, -1):
        for lift in (0.0, math.pi):
            y = M.embed(KleinIsometry(M, sign, 0.0, lift).apply(a))
            # The products that the embedded points have, turned by c: Re z₂ e^{2ic} + Re z₁ e^{ic}.
            second = (torch.complex(y[:, 0], y[:, 1]) * double.conj()).sum().item()
            first = (torch.complex(y[:, 3], y[:, 4]) * single.conj()).sum().item()
            glide, value = _greatest(first, second)
            found.append((value + (y[:, 2] * height).sum().item(), sign, glide, lift))
    _, sign, glide, lift = max(found)
    return KleinIsometry(M, sign, glide, lift)


def _greatest(first: complex, second: complex) -> tuple[float, float]:
    """The c in (−π, π] where f(c) = Re (second e^{2ic} + first e^{ic}) is greatest, and f there.

    With u = e^{ic}, f' = 0 where 2 s u⁴ + f u³ − f̄ u − 2 s̄ = 0; the roots near the unit circle.
    """
    polynomial = [2 * second, first, 0, -np.conj(first), -2 * np.conj(second)]
    candidates = np.append(np.angle(np.roots(polynomial)), np.linspace(-np.pi, np.pi, 16)[1:])
    values = (second * np.exp(2j * candidates) + first * np.exp(1j * candidates)).real
    best = int(values.argmax())
    return float(candidates[best]), float(values[best])
