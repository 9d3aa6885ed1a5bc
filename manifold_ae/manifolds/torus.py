"""The flat torus Tᵈ = (S¹)ᵈ, a product of unit circles."""

import math
from typing import Any

import torch
from torch import Tensor

from manifold_ae.manifolds.base import Manifold, check_dimension, check_prime
from manifold_ae.numerics import chord_angle, normalise

__all__ = ["FlatTorus"]


class FlatTorus(Manifold):
    """Product of d unit circles; points of shape ``(*, 2d)``: (cos, sin) of each angle in turn.

    ``circle`` names ``FlatTorus(1)``. Volume (2π)ᵈ, curvature zero.

    Example:
        >>> M = FlatTorus(2)
        >>> M.from_angles(torch.tensor([0.0, torch.pi]))
        tensor([ 1.0000e+00,  0.0000e+00, -1.0000e+00, -8.7423e-08])
    """

    name = "FlatTorus"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self._dim = check_dimension("FlatTorus", dim)

    @property
    def _key(self) -> tuple[int]:
        return (self._dim,)

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def ambient_shape(self) -> tuple[int]:
        return (2 * self._dim,)

    @property
    def volume(self) -> float:
        return (2 * math.pi) ** self._dim

    @property
    def spec(self) -> str:
        return "circle" if self._dim == 1 else f"torus:{self._dim}"

    def betti_numbers(self, prime: int = 2) -> tuple[int, ...]:
        """d choose k, for the products of k of the circles."""
        check_prime(prime)
        return tuple(math.comb(self._dim, k) for k in range(self._dim + 1))

    @property
    def angle_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"angle_{k + 1}" for k in range(self._dim)) if self._dim > 1 else ("angle",)

    # ---- angles -----------------------------------------------------------------------------

    def from_angles(self, angles: Tensor) -> Tensor:
        """Points of shape ``(*, 2d)`` at the given angles in radians, of shape ``(*, d)``."""
        return torch.stack([torch.cos(angles), torch.sin(angles)], -1).flatten(-2)

    def to_angles(self, x: Tensor) -> Tensor:
        """Angles in (−π, π], of shape ``(*, d)``."""
        pairs = self._pairs(x)
        return torch.atan2(pairs[..., 1], pairs[..., 0])

    def _pairs(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self._dim, 2))

    def angle_differences(self, x: Tensor, y: Tensor) -> Tensor:
        """Unsigned angle in [0, π] between x and y on every circle, of shape ``(*, d)``."""
        return chord_angle(self._pairs(x), self._pairs(y))

    # ---- maps -------------------------------------------------------------------------------

    def scalar_curvature(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[..., 0])

    def projx(self, x: Tensor) -> Tensor:
        """Every (cos, sin) pair normalised; a pair of zeros becomes the angle 0."""
        self._require("x", x, self.ambient_shape)
        return normalise(self._pairs(x)).flatten(-2)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        return self._along(x, self._speed(x, u))

    def _speed(self, x: Tensor, u: Tensor) -> Tensor:
        """Angular velocities of the tangent part of u, of shape ``(*, d)``."""
        a, b = self._pairs(x), self._pairs(u)
        return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]

    def _along(self, x: Tensor, speed: Tensor) -> Tensor:
        """The tangent vector at x with the given angular velocities."""
        a = self._pairs(x)
        return torch.stack([-a[..., 1] * speed, a[..., 0] * speed], -1).flatten(-2)

    def rotate(self, x: Tensor, angles: Tensor) -> Tensor:
        """x with each of its circles turned by the given angles, of shape ``(*, d)``."""
        cosine, sine = torch.cos(angles), torch.sin(angles)
        a, b = self._pairs(x).unbind(-1)
        return torch.stack([a * cosine - b * sine, b * cosine + a * sine], -1).flatten(-2)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        return self.projx(self.rotate(x, self._speed(x, u)))

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The shortest u with expmap(x, u) = y; half a turn is taken in the positive direction."""
        return self._along(x, self.signed_angles(x, y))

    def signed_angles(self, x: Tensor, y: Tensor) -> Tensor:
        """Angles in (−π, π] by which to turn x into y, of shape ``(*, d)``."""
        a, b = self._pairs(x), self._pairs(y)
        cosine = (a * b).sum(-1)
        sine = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
        return torch.atan2(sine, cosine)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return self._along(y, self._speed(x, v))

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        return torch.linalg.vector_norm(self.angle_differences(x, y), dim=-1, keepdim=keepdim)

    def walk_centre(self, x: Tensor, t: Tensor) -> Tensor:
        """x / (1 + t/4), as Δx = −x."""
        return x / (1 + t / 4).unsqueeze(-1)

    def base_point(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return self.from_angles(torch.zeros(self._dim, dtype=dtype, device=device))

    def random_uniform(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        shape = (*sample_shape, self._dim)
        turns = torch.rand(shape, generator=generator, dtype=dtype, device=device)
        return self.from_angles(2 * math.pi * turns)
