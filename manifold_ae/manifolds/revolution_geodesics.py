r"""Geodesics of surfaces of revolution: from a start, and between two points.

With s the arclength along the profile and θ the rotation the metric is ds² + ρ² dθ², and

    s̈ = ρρ' θ̇²,   θ̈ = −2 (ρ'/ρ) ṡ θ̇.                                                        (1)

On a closed profile these are solved as they stand. At the poles of the other kind (1) is singular,
though the surface is not; there a geodesic runs on the unit sphere, q = (sin σ cos θ, sin σ sin θ,
cos σ), σ = πs/L. With b = L/π, c = cos σ, R = ρ/sin σ and Q = (R² − b²)/sin² σ, which are smooth
functions of c, and j = q_x w_y − q_y w_x for a velocity w, the metric is b²|w|² + Q j², and

    b² ẇ = −j w_z (Q' − 2QR'/R) ẑ×q − 2Qj ẑ×w + ½ Q' j² ẑ + μ q,                             (2)

μ keeping |q| = 1, primes by c. Either is solved on pieces of the path by Picard's iteration at
Chebyshev points; beside it run two normal Jacobi fields, J̈ = −K v² J for a path of length v run in
unit time: J₁(0) = 0, J̇₁(0) = 1 and J₂(0) = 1, J̇₂(0) = 0. J₁ at the end is the determinant of the
exponential map.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from manifold_ae.manifolds.profile import Profile, over_sine
from manifold_ae.numerics import axial_norm, normalise

__all__ = ["Cap", "Path", "Ring", "follow"]

#: Chebyshev points of a piece, and rounds of Picard's iteration at most; those for the Jacobi
#: fields, linear and of order two, leave 0.64ⁿ/(2n)! on a ``piece``.
POINTS, ROUNDS, FIELD_ROUNDS = 18, 16, 10
#: Pieces of the longest path that is followed: seconds.
MAX_PIECES = 10_000
#: Change in a round of Picard's iteration after which one more is the last.
CONVERGED = 1e-10


class Path(NamedTuple):
    """The end of a geodesic run in unit time: point, velocity and normal in ℝ³, Jacobi fields."""

    end: Tensor  # (*, 3)
    velocity: Tensor
    normal: Tensor
    first: Tensor  # J₁, of shape (*)
    second: Tensor  # J₂
    first_slope: Tensor  # J̇₁

    def reshaped(self, shape: torch.Size) -> "Path":
        """The same with another batch shape."""
        return Path(*(part.reshape((*shape, *part.shape[1:])) for part in self))


class Ring:
    """The coordinates (s, θ) of (1), for a closed profile."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def lift(self, x: Tensor, place: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates and their velocity for points x at places α and tangent vectors u."""
        at = self.profile.jet(place)
        cos, sin = normalise(x[..., :2]).unbind(-1)
        along = at.rho_slope * (cos * u[..., 0] + sin * u[..., 1]) + at.z_slope * u[..., 2]
        spin = (cos * u[..., 1] - sin * u[..., 0]) / at.rho
        turn = torch.atan2(sin, cos)
        return (
            torch.stack([place * self.profile.scale, turn], -1),
            torch.stack([along, spin], -1),
        )

    def drop(self, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Point, velocity and normal in ℝ³."""
        at = self.profile.jet(y[..., 0] / self.profile.scale)
        cos, sin = y[..., 1].cos(), y[..., 1].sin()
        along, across = v[..., 0], at.rho * v[..., 1]
        flat = along * at.rho_slope
        return (
            torch.stack([at.rho * cos, at.rho * sin, at.z], -1),
            torch.stack(
                [flat * cos - across * sin, flat * sin + across * cos, along * at.z_slope], -1
            ),
            torch.stack([at.z_slope * cos, at.z_slope * sin, -at.rho_slope], -1),
        )

    def force(self, y: Tensor, v: Tensor) -> Tensor:
        """(1)."""
        at = self.profile.jet(y[..., 0] / self.profile.scale)
        along, spin = v.unbind(-1)
        return torch.stack(
            [at.rho * at.rho_slope * spin**2, -2 * at.rho_slope / at.rho * along * spin], -1
        )

    def gauss(self, y: Tensor) -> Tensor:
        """K."""
        return self.profile.curvature(y[..., 0] / self.profile.scale)

    def normed(self, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """What rounding has moved away, put back."""
        return y, v


class Cap:
    """The coordinates q of (2), for a profile from pole to pole."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        n = len(profile.rho) // 2
        ratio = over_sine(profile.rho)[: n + 1]
        defect = chebyshev.chebsub(chebyshev.chebmul(ratio, ratio), [profile.scale**2])
        excess = chebyshev.chebdiv(defect, [0.5, 0.0, -0.5])[0]
        height = profile.z[: n + 1]
        rows = [ratio, excess, height]
        rows += [chebyshev.chebder(row) for row in rows]
        size = max(len(row) for row in rows)
        self._series = np.stack([np.pad(row, (0, size - len(row))) for row in rows], -1)
        self._copies: dict[torch.device, Tensor] = {}

    def _at(self, y: Tensor) -> tuple[Tensor, ...]:
        """R, Q, z and their derivatives by c."""
        if y.device not in self._copies:
            with torch.inference_mode(False):
                self._copies[y.device] = torch.tensor(self._series, device=y.device)
        series = self._copies[y.device]
        turns = self._place(y).unsqueeze(-1) * torch.arange(
            len(series), dtype=y.dtype, device=y.device
        )
        return (turns.cos() @ series).unbind(-1)

    @staticmethod
    def _place(y: Tensor) -> Tensor:
        return torch.atan2(axial_norm(y), y[..., 2])

    def lift(self, x: Tensor, place: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        at = self.profile.jet(place)
        flat = x[..., :2] * (place.sin() / axial_norm(x)).unsqueeze(-1)
        q = torch.cat([flat, place.cos().unsqueeze(-1)], -1)
        ratio, _, _, slope, _, _ = self._at(q)
        up = at.rho_slope * (flat * u[..., :2]).sum(-1) + at.z_slope * place.sin() * u[..., 2]
        up = (-up / self.profile.scale).unsqueeze(-1)
        w = (u[..., :2] - slope.unsqueeze(-1) * up * flat) / ratio.unsqueeze(-1)
        return q, torch.cat([w, up], -1)

    def point(self, y: Tensor) -> Tensor:
        """The point in ℝ³."""
        ratio, _, height, *_ = (part.unsqueeze(-1) for part in self._at(y))
        return torch.cat([ratio * y[..., :2], height], -1)

    def drop(self, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ratio, _, height, slope, _, rise = (part.unsqueeze(-1) for part in self._at(y))
        flat, up = y[..., :2], v[..., 2:]
        at = self.profile.jet(self._place(y))
        across = flat * (at.z_slope / axial_norm(y)).unsqueeze(-1)
        return (
            torch.cat([ratio * flat, height], -1),
            torch.cat([ratio * v[..., :2] + slope * up * flat, rise * up], -1),
            torch.cat([across, -at.rho_slope.unsqueeze(-1)], -1),
        )

    def force(self, y: Tensor, v: Tensor) -> Tensor:
        """(2)."""
        ratio, excess, _, slope, excess_slope, _ = self._at(y)
        spin = y[..., 0] * v[..., 1] - y[..., 1] * v[..., 0]
        first = -spin * v[..., 2] * (excess_slope - 2 * excess * slope / ratio)
        second = -2 * excess * spin
        flat = (
            torch.stack(
                [
                    -first * y[..., 1] - second * v[..., 1],
                    first * y[..., 0] + second * v[..., 0],
                    excess_slope * spin**2 / 2,
                ],
                -1,
            )
            / self.profile.scale**2
        )
        normal = (flat * y).sum(-1) + v.square().sum(-1)
        return flat - normal.unsqueeze(-1) * y

    def gauss(self, y: Tensor) -> Tensor:
        return self.profile.curvature(self._place(y))

    def normed(self, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        y = y / torch.linalg.vector_norm(y, dim=-1, keepdim=True)
        return y, v - (v * y).sum(-1, keepdim=True) * y


@lru_cache
def _collocation(device: torch.device) -> tuple[Tensor, Tensor]:
    """Chebyshev points τ of [0, 1], and the matrix (n + 1, n) for ∫₀^τ f, its last row at τ = 1."""
    k = np.arange(POINTS)
    x = -np.cos((2 * k + 1) * np.pi / (2 * POINTS))
    to_series = np.linalg.inv(chebyshev.chebvander(x, POINTS - 1))
    ends = np.append(x, 1.0)
    rows = [
        chebyshev.chebval(ends, chebyshev.chebint(column, lbnd=-1, scl=0.5))
        for column in to_series.T
    ]
    with torch.inference_mode(False):
        return (
            torch.tensor((x + 1) / 2, device=device),
            torch.tensor(np.stack(rows, -1), device=device),
        )


def follow(chart: Ring | Cap, x: Tensor, place: Tensor, u: Tensor) -> Path:
    """The geodesic from points x ``(*, 3)`` at places α with velocity u, after unit time; float64.

    Raises:
        ValueError: if the path is longer than MAX_PIECES of the profile's ``piece``.
    """
    _, matrix = _collocation(x.device)
    x, u = torch.broadcast_tensors(x, u)
    place = place.expand(x.shape[:-1])
    square = u.square().sum(-1)
    # A velocity that is not finite gives NaN, and leaves the others their pieces.
    lengths = torch.where(torch.isfinite(square), square, 0.0).detach()
    longest = lengths.max().sqrt().item() if square.numel() else 0.0
    piece = chart.profile.piece
    if longest > MAX_PIECES * piece:
        raise ValueError(
            f"u has length {longest:.3g}: geodesics of this surface are followed numerically, up "
            f"to length {MAX_PIECES * piece:.3g}; shorten u"
        )
    pieces = max(1, math.ceil(longest / piece))
    whole = matrix / pieces
    inner = whole[:-1]
    y, v = chart.lift(x, place, u)
    zero, one = torch.zeros_like(square), torch.ones_like(square)
    fields = torch.stack([zero, one], -1)  # J₁, J₂
    slopes = torch.stack([one, zero], -1)
    for _ in range(pieces):
        # Nodes stand in the last axis but one.
        start, speed = y.unsqueeze(-2), v.unsqueeze(-2)
        rate = speed.expand(*v.shape[:-1], POINTS, -1)
        at = start + inner @ rate
        settled = False
        for _ in range(ROUNDS):
            before, rate = rate, speed + inner @ chart.force(at, rate)
            at = start + inner @ rate
            if settled:
                break
            # Of order two, so that what is left after one more round is below rounding.
            change = (rate - before).detach().abs().amax().item() if rate.numel() else 0.0
            settled = not change > CONVERGED * longest
        stiffness = -(square.unsqueeze(-1) * chart.gauss(at)).unsqueeze(-1)
        line, steady = fields.unsqueeze(-2), slopes.unsqueeze(-2)
        field = line + inner.sum(-1, keepdim=True) * steady
        for _ in range(FIELD_ROUNDS):
            field = line + inner @ (steady + inner @ (stiffness * field))
        bend = stiffness * field
        fields = fields + (whole[-1:] @ (steady + inner @ bend)).squeeze(-2)
        slopes = slopes + (whole[-1:] @ bend).squeeze(-2)
        push = chart.force(at, rate)
        y = y + (whole[-1:] @ rate).squeeze(-2)
        v = v + (whole[-1:] @ push).squeeze(-2)
        y, v = chart.normed(y, v)
    end, velocity, normal = chart.drop(y, v)
    return Path(end, velocity, normal, fields[..., 0], fields[..., 1], slopes[..., 0])
