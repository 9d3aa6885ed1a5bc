r"""Geodesics of surfaces of revolution from a start, by equations of positions alone.

With s the arclength along the profile, ρ(s) and z(s) its coordinates, κ₁ = ρ'z'' − z'ρ'' and κ₂ =
z'/ρ the principal curvatures for the normal (z', −ρ'), and K = κ₁κ₂, a geodesic of velocity u keeps
E = |u|² and Clairaut's Λ = ρ²θ̇. So the place on the profile obeys an equation of its own,

    s̈ = Λ² ρ'/ρ³,     or     c̈ = (Λ² R'(c)/R³ − E c)/b²                                      (1)

where there are poles, at which the former is singular: c = cos σ, σ = πs/L, b = L/π, and R =
ρ/sin σ, which is a smooth function of c. Across the axis a geodesic accelerates along the normal
only, which makes x + iy a solution of a linear equation along it, and so are two normal Jacobi
fields,

    ξ̈ = −(K E + G Λ²) ξ,   J̈ = −K E J,     G = κ₂(κ₂ − κ₁)/ρ²,                               (2)

with J₁(0) = 0, J̇₁(0) = 1 and J₂(0) = 1, J̇₂(0) = 0 for a path run in unit time. All coefficients are
smooth, at the poles too. No force depends on a velocity: on pieces of the path at Chebyshev points
Picard's iteration leaves (h²B)ⁿ/(2n)! after n rounds. J₁ at the end is the determinant of the
exponential map.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from manifold_ae.manifolds.piecewise import Piecewise
from manifold_ae.manifolds.profile import Profile, over_sine
from manifold_ae.numerics import normalise

__all__ = ["Cap", "Path", "Ring", "follow"]

#: Chebyshev points of a piece, and rounds of Picard's iteration at most.
POINTS, ROUNDS = 18, 24
#: Pieces of the longest path that is followed: seconds.
MAX_PIECES = 10_000
#: Change in a round of Picard's iteration after which one more is the last.
CONVERGED = 1e-11


class Path(NamedTuple):
    """A geodesic run in unit time: point, velocity and normal in ℝ³ at its end, Jacobi fields."""

    end: Tensor  # (*, 3)
    velocity: Tensor
    normal: Tensor
    first: Tensor  # J₁, of shape (*)
    second: Tensor  # J₂
    first_slope: Tensor  # J̇₁
    gauss: Tensor  # the mean of K along the way

    def reshaped(self, shape: torch.Size) -> "Path":
        """The same with another batch shape."""
        return Path(*(part.reshape((*shape, *part.shape[1:])) for part in self))


class Ring:
    """The coordinate α = s/scale, for a closed profile."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

        def forces(angle: np.ndarray) -> np.ndarray:
            at = profile.jet(torch.from_numpy(angle))
            return (at.rho_slope / at.rho**3 / profile.scale).numpy()[:, None]

        def bends(angle: np.ndarray) -> np.ndarray:
            place = torch.from_numpy(angle)
            along, across = profile.principal_curvatures(place)
            gap = across * (across - along) / profile.jet(place).rho ** 2
            return torch.stack([along * across, gap], -1).numpy()

        self._forces, self._bends = (
            Piecewise(function, 0.0, 2 * math.pi, periodic=True) for function in (forces, bends)
        )

    def lift(self, x: Tensor, place: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """The coordinate and its rate for points x at places α and tangent vectors u."""
        at = self.profile.jet(place)
        across = (normalise(x[..., :2]) * u[..., :2]).sum(-1)
        return place, (at.rho_slope * across + at.z_slope * u[..., 2]) / self.profile.scale

    def drop(self, place: Tensor, rate: Tensor, ring: Tensor, spin: Tensor) -> tuple[Tensor, ...]:
        """Point, velocity and normal in ℝ³ of a coordinate, and of x + iy."""
        at = self.profile.jet(place)
        rise = at.z_slope * rate * self.profile.scale
        normal = ring * (at.z_slope / at.rho).unsqueeze(-1)
        return _joined(ring, at.z), _joined(spin, rise), _joined(normal, -at.rho_slope)

    def force(self, place: Tensor, energy: Tensor, square: Tensor) -> Tensor:
        """(1) for E and Λ²."""
        return self._forces(place).squeeze(-1) * square

    def bends(self, place: Tensor) -> tuple[Tensor, ...]:
        """K and G."""
        return self._bends(place).unbind(-1)


class Cap:
    """The coordinate c, for a profile from pole to pole."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        n = len(profile.rho) // 2
        ratio, height = over_sine(profile.rho)[: n + 1], profile.z[: n + 1]
        slope, rise = chebyshev.chebder(ratio), chebyshev.chebder(height)
        # (κ₂ − κ₁)/sin² σ: as a series, which can be divided by 1 − c².
        nodes = np.cos((2 * np.arange(4 * n + 8) + 1) * np.pi / (8 * n + 16))
        along, across = _curvatures(profile, nodes)
        series = chebyshev.chebfit(nodes, across - along, len(nodes) - 1)
        # Division multiplies what rounding has left of a coefficient by its number squared.
        series = chebyshev.chebtrim(series, 1e-14 * np.abs(across).max())
        defect = chebyshev.chebdiv(series, [0.5, 0.0, -0.5])[0]

        def shape(c: np.ndarray) -> np.ndarray:
            outward, rim = chebyshev.chebval(c, slope), chebyshev.chebval(c, ratio)
            # ρ' = (R c − R' sin² σ)/b
            tilt = (rim * c - outward * (1 - c) * (1 + c)) / profile.scale
            rows = chebyshev.chebval(c, height), chebyshev.chebval(c, rise), tilt
            return np.stack([*rows, _curvatures(profile, c)[1]], -1)

        def forces(c: np.ndarray) -> np.ndarray:
            pull = chebyshev.chebval(c, slope) / chebyshev.chebval(c, ratio) ** 3
            return pull[:, None] / profile.scale**2

        def bends(c: np.ndarray) -> np.ndarray:
            along, across = _curvatures(profile, c)
            gap = across * chebyshev.chebval(c, defect) / chebyshev.chebval(c, ratio) ** 2
            return np.stack([along * across, gap], -1)

        self._shape, self._forces, self._bends = (
            Piecewise(function, -1.0, 1.0) for function in (shape, forces, bends)
        )

    def lift(self, x: Tensor, place: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        at, sine = self.profile.jet(place), place.sin()
        # ċ = −sin σ ṡ/b, with ṡ along (ρ' cos θ, ρ' sin θ, z').
        across = (normalise(x[..., :2]) * u[..., :2]).sum(-1)
        along = at.rho_slope * across + at.z_slope * u[..., 2]
        return place.cos(), -sine * along / self.profile.scale

    def height(self, c: Tensor) -> Tensor:
        """z."""
        return self._shape(c)[..., 0]

    def drop(self, c: Tensor, rate: Tensor, ring: Tensor, spin: Tensor) -> tuple[Tensor, ...]:
        height, rise, tilt, across = self._shape(c).unbind(-1)
        normal = ring * across.unsqueeze(-1)
        return _joined(ring, height), _joined(spin, rise * rate), _joined(normal, -tilt)

    def force(self, c: Tensor, energy: Tensor, square: Tensor) -> Tensor:
        return self._forces(c).squeeze(-1) * square - c * (energy / self.profile.scale**2)

    def bends(self, c: Tensor) -> tuple[Tensor, ...]:
        return self._bends(c).unbind(-1)


def _joined(flat: Tensor, up: Tensor) -> Tensor:
    return torch.cat([flat, up.unsqueeze(-1)], -1)


def _curvatures(profile: Profile, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """κ₁ and κ₂ at cosines c of σ."""
    along, across = profile.principal_curvatures(torch.from_numpy(np.arccos(np.clip(c, -1, 1))))
    return along.numpy(), across.numpy()


@lru_cache
def _collocation(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Chebyshev points τ of [0, 1]; matrices for ∫₀^τ f and ∫₀^τ∫₀^s f, their last columns at 1.

    Of shapes (n), (n, n + 1), (n, n + 1): they stand on the right of f.
    """
    k = np.arange(POINTS)
    x = -np.cos((2 * k + 1) * np.pi / (2 * POINTS))
    to_series = np.linalg.inv(chebyshev.chebvander(x, POINTS - 1))
    ends = np.append(x, 1.0)
    once, twice = (
        np.stack(
            [
                chebyshev.chebval(ends, chebyshev.chebint(column, order, lbnd=-1, scl=0.5))
                for column in to_series.T
            ]
        )
        for order in (1, 2)
    )
    with torch.inference_mode(False):
        parts = (torch.tensor(part, device=device) for part in ((x + 1) / 2, once, twice))
        nodes, single, double = parts
        return nodes, single, double


def follow(chart: Ring | Cap, x: Tensor, place: Tensor, u: Tensor) -> Path:
    """The geodesic from points x ``(*, 3)`` at places α with velocity u, after unit time; float64.

    Raises:
        ValueError: if the path is longer than MAX_PIECES of the profile's ``piece``.
    """
    x, u = torch.broadcast_tensors(x, u)
    shape = x.shape[:-1]
    place = place.expand(shape).reshape(-1)
    x, u = x.reshape(-1, 3), u.reshape(-1, 3)
    energy = u.square().sum(-1)
    # A velocity that is not finite gives NaN, and takes one piece.
    lengths = torch.where(torch.isfinite(energy), energy, 0.0).detach().sqrt()
    longest = lengths.max().item() if len(lengths) else 0.0
    piece = chart.profile.piece
    if longest > MAX_PIECES * piece:
        raise ValueError(
            f"u has length {longest:.3g}: geodesics of this surface are followed numerically, up "
            f"to length {MAX_PIECES * piece:.3g}; shorten u"
        )
    # The longest first: those that go on are the first ones, piece after piece.
    pieces, order = (lengths / piece).ceil().clamp_min(1).sort(descending=True)
    x, place, u, energy = x[order], place[order], u[order], energy[order]
    momentum = x[:, 0] * u[:, 1] - x[:, 1] * u[:, 0]
    rates = torch.stack([energy, momentum.square(), 1 / pieces], -1)
    zero, one = torch.zeros_like(energy), torch.ones_like(energy)
    fields = torch.stack([x[:, 0], x[:, 1], zero, one], -1)  # ξ, J₁, J₂
    slopes = torch.stack([u[:, 0], u[:, 1], one, zero], -1)
    state: tuple[Tensor, ...] = (*chart.lift(x, place, u), fields, slopes, zero)
    for k in range(int(pieces[0].item()) if len(pieces) else 0):
        n = int((pieces > k).sum())
        after = _piece(chart, tuple(part[:n] for part in state), rates[:n])
        state = tuple(torch.cat([a, part[n:]]) for a, part in zip(after, state, strict=True))
    back = order.argsort()
    at, rate, fields, slopes, gauss = (part[back] for part in state)
    end, velocity, normal = chart.drop(at, rate, fields[:, :2], slopes[:, :2])
    path = Path(end, velocity, normal, fields[:, 2], fields[:, 3], slopes[:, 2], gauss)
    return path.reshaped(shape)


def _piece(chart: Ring | Cap, state: tuple[Tensor, ...], rates: Tensor) -> tuple[Tensor, ...]:
    """The state a piece further on: coordinate, its rate (n), fields, their rates (n, 4), ∫K (n).

    ``rates`` are E, Λ² and the piece's share of the path, (n, 3).
    """
    at, rate, fields, slopes, total = state
    nodes, once, twice = _collocation(at.device)
    energy, square, h = (part.unsqueeze(-1) for part in rates.unbind(-1))
    inner, double, single = twice[:, :-1], twice[:, -1], once[:, -1]
    line = at.unsqueeze(-1) + h * nodes * rate.unsqueeze(-1)
    path, settled = line, False
    for _ in range(ROUNDS):
        before, path = path, line + h * h * (chart.force(path, energy, square) @ inner)
        if settled:
            break
        settled = not bool(((path - before).detach().abs() > CONVERGED).any())
    push = chart.force(path, energy, square)
    gauss, gap = chart.bends(path)
    steady = energy * gauss
    ring = steady + square * gap
    # Of both parts of ξ, of both J.
    stiffness = torch.stack([ring, ring, steady, steady], -2) * -(h * h).unsqueeze(-1)
    start = fields.unsqueeze(-1) + (h * nodes).unsqueeze(-2) * slopes.unsqueeze(-1)
    field, settled = start, False
    for _ in range(ROUNDS):
        before, field = field, start + (stiffness * field) @ inner
        if settled:
            break
        size = field.detach().abs().amax(-1, keepdim=True)
        settled = not bool(((field - before).detach().abs() > CONVERGED * size).any())
    bend = stiffness * field
    return (
        at + h[:, 0] * rate + h[:, 0] ** 2 * (push @ double),
        rate + h[:, 0] * (push @ single),
        fields + h * slopes + bend @ double,
        slopes + bend @ single / h,
        total + h[:, 0] * (gauss @ single),
    )
