r"""The unit sphere Sᵈ = {x ∈ ℝᵈ⁺¹ : \|x\| = 1}, for every d ≥ 1."""

import math
from typing import Any

import torch
from torch import Tensor

from manifold_ae.manifolds.base import Manifold, check_dimension, check_prime
from manifold_ae.numerics import arc_over_sine, chord_angle, cos_sqrt, normalise, sinc_sqrt

__all__ = ["Sphere"]


class Sphere(Manifold):
    r"""Unit sphere of dimension d; points of shape ``(*, d + 1)``.

    Volume 2 π^{(d+1)/2} / Γ((d+1)/2), scalar curvature d(d − 1).

    Example:
        >>> M = Sphere(2)
        >>> M.dim, M.ambient_shape, round(M.volume, 6)
        (2, (3,), 12.566371)
    """

    name = "Sphere"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self._dim = check_dimension("Sphere", dim)

    @property
    def _key(self) -> tuple[int]:
        return (self._dim,)

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def ambient_shape(self) -> tuple[int]:
        return (self._dim + 1,)

    @property
    def volume(self) -> float:
        half = (self._dim + 1) / 2
        return 2 * math.exp(half * math.log(math.pi) - math.lgamma(half))

    @property
    def spec(self) -> str:
        return f"sphere:{self._dim}"

    def betti_numbers(self, prime: int = 2) -> tuple[int, ...]:
        check_prime(prime)
        return (1, *[0] * (self._dim - 1), 1)

    @property
    def angle_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return {1: ("angle",), 2: ("longitude", "latitude")}.get(self._dim, ())

    def to_angles(self, x: Tensor) -> Tensor:
        """The angle on S¹; longitude in (−π, π] and latitude in [−π/2, π/2] on S²."""
        if self._dim > 2:
            return super().to_angles(x)
        longitude = torch.atan2(x[..., 1], x[..., 0])
        if self._dim == 1:
            return longitude.unsqueeze(-1)
        equatorial = torch.linalg.vector_norm(x[..., :2], dim=-1)
        return torch.stack([longitude, torch.atan2(x[..., 2], equatorial)], -1)

    def from_angles(self, angles: Tensor) -> Tensor:
        """Points of S¹ at an angle, of S² at longitude and latitude, of shape ``(*, d)``."""
        if self._dim > 2:
            return super().from_angles(angles)
        self._require("angles", angles, (self._dim,))
        around = torch.stack([torch.cos(angles[..., 0]), torch.sin(angles[..., 0])], -1)
        if self._dim == 1:
            return around
        height = angles[..., 1:]
        return torch.cat([torch.cos(height) * around, torch.sin(height)], -1)

    def scalar_curvature(self, x: Tensor) -> Tensor:
        return torch.full_like(x[..., 0], self._dim * (self._dim - 1))

    def projx(self, x: Tensor) -> Tensor:
        r"""Closest point x/\|x\|; the first basis vector for x = 0, to which all are as close."""
        self._require("x", x, self.ambient_shape)
        return normalise(x)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        return u - (x * u).sum(-1, keepdim=True) * x

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        r"""cos\|u\| x + (sin\|u\| / \|u\|) u, for u tangent at x; smooth at u = 0."""
        # In float64 the square of no float32 overflows.
        v = u.double()
        square = (v * v).sum(-1, keepdim=True)
        return normalise(cos_sqrt(square) * x + sinc_sqrt(square) * v).to(x.dtype)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        r"""The shortest u with expmap(x, u) = y, of shape ``(*, d + 1)``.

        At y = −x every unit direction serves: the one nearest to the basis vector in which x is
        smallest is chosen, so that \|u\| = π there too.
        """
        # Projected twice: next to the antipode, what is left after once is mostly rounding.
        tangent = self.proju(x, self.proju(x, y - x))
        cosine = (x * y).sum(-1, keepdim=True)
        sine_squared = (tangent * tangent).sum(-1, keepdim=True)
        u = arc_over_sine(sine_squared, cosine) * tangent
        # sin²θ below rounding of the coordinates: the direction of `tangent` is noise.
        antipodal = (cosine < 0) & (sine_squared < torch.finfo(x.dtype).eps ** 2)
        return torch.where(antipodal, math.pi * self._some_direction(x), u)

    def _some_direction(self, x: Tensor) -> Tensor:
        """A unit tangent vector at x, chosen without discontinuity except between basis vectors."""
        smallest = x.abs().argmin(-1)
        basis = torch.nn.functional.one_hot(smallest, self._dim + 1).to(x.dtype)
        return normalise(self.proju(x, basis))

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport of v along the shortest geodesic from x to y.

        Between antipodes there is no single shortest geodesic: v is left as it is, which
        transports it along every geodesic perpendicular to it.
        """
        # The reflection in the hyperplane perpendicular to x + y takes x to −y: an isometry,
        # however little of x + y is left next to the antipode.
        normal = x + y
        square = (normal * normal).sum(-1, keepdim=True)
        regular = square > torch.finfo(x.dtype).eps ** 2
        along = regular * (normal * v).sum(-1, keepdim=True) / torch.where(regular, square, 1.0)
        moved = self.proju(y, v - 2 * along * normal)
        # What rounding of x + y took from the length is given back.
        before = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
        after = torch.linalg.vector_norm(moved, dim=-1, keepdim=True)
        tiny = torch.finfo(x.dtype).tiny
        return moved * torch.where(after > tiny, before / after.clamp_min(tiny), 1.0)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        distance = chord_angle(x, y)
        return distance.unsqueeze(-1) if keepdim else distance

    def walk_centre(self, x: Tensor, t: Tensor) -> Tensor:
        """x / (1 + dt/4), as Δx = −d x."""
        return x / (1 + t * (self._dim / 4)).unsqueeze(-1)

    def base_point(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        point = torch.zeros(self._dim + 1, dtype=dtype, device=device)
        point[0] = 1
        return point

    def random_uniform(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        shape = (*sample_shape, self._dim + 1)
        return normalise(torch.randn(shape, generator=generator, dtype=dtype, device=device))
