"""Euclidean space: the latent space of a standard VAE, with a variance per dimension."""

import math
from typing import Any

import torch
from torch import Tensor

from manifold_ae.manifolds.base import Manifold, check_dimension, check_prime

__all__ = ["Euclidean"]


class Euclidean(Manifold):
    """Flat space ℝᵈ; points of shape ``(*, d)``, times of shape ``(*, d)``: a variance each.

    Example:
        >>> Euclidean(2).default_prior()
        StandardNormal(Euclidean(2))
    """

    name = "Euclidean"
    reversible = True

    def __init__(self, dim: int) -> None:
        super().__init__()
        self._dim = check_dimension("Euclidean", dim)

    @property
    def _key(self) -> tuple[int]:
        return (self._dim,)

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def ambient_shape(self) -> tuple[int]:
        return (self._dim,)

    @property
    def time_shape(self) -> tuple[int]:  # type: ignore[override]
        return (self._dim,)

    @property
    def volume(self) -> float:
        return math.inf

    @property
    def spec(self) -> str:
        return f"euclidean:{self._dim}"

    def betti_numbers(self, prime: int = 2) -> tuple[int, ...]:
        """Those of a point."""
        check_prime(prime)
        return (1, *[0] * self._dim)

    @property
    def orientable(self) -> bool:
        return True

    def scalar_curvature(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[..., 0])

    def projx(self, x: Tensor) -> Tensor:
        self._require("x", x, self.ambient_shape)
        return x

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        return u.expand(torch.broadcast_shapes(x.shape, u.shape))

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        return x + u

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return v.expand(torch.broadcast_shapes(x.shape, y.shape, v.shape))

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        return torch.linalg.vector_norm(x - y, dim=-1, keepdim=keepdim)

    def scale_noise(self, noise: Tensor, t: Tensor) -> Tensor:
        return t.sqrt() * noise

    def walk_centre(self, x: Tensor, t: Tensor) -> Tensor:
        return x

    def base_point(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return torch.zeros(self._dim, dtype=dtype, device=device)

    def random_uniform(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        raise ValueError(
            f"{self!r} has infinite volume and no uniform distribution; "
            "sample from M.default_prior(), the standard normal"
        )

    def random(
        self, *size: int, dtype: torch.dtype | None = None, device: Any = None, **kwargs: Any
    ) -> Tensor:
        """Standard normal points, as geoopt's ``Euclidean.random`` gives."""
        self._sample_shape(size)
        return torch.randn(*size, dtype=dtype, device=device, **kwargs)
