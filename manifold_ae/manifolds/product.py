"""Products of manifolds, with one time a factor."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds.base import Manifold, check_prime

__all__ = ["Product"]


class Product(Manifold):
    """A × B × …; points of shape ``(*, n)``: the factors' coordinates in turn, flattened.

    A time has one entry a factor (d entries for a ``Euclidean(d)``), so that one coordinate of a
    sample can be known well and another hardly. A product among the factors is taken apart.

    Example:
        >>> from manifold_ae.manifolds import FlatTorus, Sphere
        >>> M = Product(Sphere(2), FlatTorus(1))
        >>> M.dim, M.ambient_shape, M.time_shape
        (3, (5,), (2,))
    """

    name = "Product"

    def __init__(self, *factors: Manifold) -> None:
        super().__init__()
        if not factors or not all(isinstance(factor, Manifold) for factor in factors):
            raise ValueError(f"factors = {factors!r}: expected one manifold or more")
        flat: list[Manifold] = []
        for factor in factors:
            flat += factor.factors if isinstance(factor, Product) else [factor]
        # A plain tuple: factors are parts of a value, not submodules.
        self.factors: tuple[Manifold, ...]
        object.__setattr__(self, "factors", tuple(flat))
        self._sizes = [math.prod(factor.ambient_shape) for factor in flat]
        self._time_sizes = [math.prod(factor.time_shape) for factor in flat]
        self._feature_sizes = [factor.feature_size for factor in flat]

    @property
    def _key(self) -> tuple[Manifold, ...]:
        return self.factors

    @property
    def dim(self) -> int:
        return sum(factor.dim for factor in self.factors)

    @property
    def ambient_shape(self) -> tuple[int]:
        return (sum(self._sizes),)

    @property
    def time_shape(self) -> tuple[int]:  # type: ignore[override]
        return (sum(self._time_sizes),)

    @property
    def volume(self) -> float:
        return math.prod(factor.volume for factor in self.factors)

    @property
    def spec(self) -> str:
        return "*".join(factor.spec for factor in self.factors)

    def betti_numbers(self, prime: int = 2) -> tuple[int, ...] | None:
        """Künneth's formula over a field: the Poincaré polynomials are multiplied."""
        total = [1]
        for factor in self.factors:
            betti = factor.betti_numbers(check_prime(prime))
            if betti is None:
                return None
            total = np.convolve(total, betti).tolist()
        return tuple(total)

    @property
    def orientable(self) -> bool | None:
        """Whether all the factors are."""
        known = [factor.orientable for factor in self.factors]
        return False if False in known else None if None in known else True

    # ---- coordinates of the factors ---------------------------------------------------------

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The factors' points (or tangent vectors), of shapes ``(*, *factor.ambient_shape)``."""
        self._require("x", x, self.ambient_shape)
        parts = x.split(self._sizes, -1)
        return tuple(
            part if len(factor.ambient_shape) == 1 else part.unflatten(-1, factor.ambient_shape)
            for factor, part in zip(self.factors, parts, strict=True)
        )

    def join(self, parts: Iterable[Tensor]) -> Tensor:
        """The point of the product from the factors' points; the inverse of ``split``."""
        flat = [
            part.flatten(part.dim() - len(factor.ambient_shape))
            for factor, part in zip(self.factors, parts, strict=True)
        ]
        shape = torch.broadcast_shapes(*(part.shape[:-1] for part in flat))
        return torch.cat([part.expand(*shape, part.shape[-1]) for part in flat], -1)

    def split_time(self, t: Tensor) -> tuple[Tensor, ...]:
        """The factors' times, of shapes ``(*, *factor.time_shape)``."""
        return tuple(
            part if factor.time_shape else part.squeeze(-1)
            for factor, part in zip(self.factors, t.split(self._time_sizes, -1), strict=True)
        )

    def each(
        self, function: Callable[..., Any], *points: Tensor, time: Tensor | None = None
    ) -> list[Any]:
        """``function(factor, *parts)`` of every factor, with its parts of the points in turn, and,
        if a time is given, its part of that last.
        """
        parts = [self.split(point) for point in points]
        if time is not None:
            parts.append(self.split_time(time))
        return [function(*part) for part in zip(self.factors, *parts, strict=True)]

    def total(
        self, function: Callable[..., Tensor], *points: Tensor, time: Tensor | None = None
    ) -> Tensor:
        """The sum of ``each``."""
        return torch.stack(self.each(function, *points, time=time)).sum(0)

    def _joined(self, function: Callable[..., Tensor], *points: Tensor) -> Tensor:
        """A map of every factor, joined."""
        return self.join(self.each(function, *points))

    # ---- maps -------------------------------------------------------------------------------

    def scalar_curvature(self, x: Tensor) -> Tensor:
        return self.total(lambda M, x: M.scalar_curvature(x), x)

    def projx(self, x: Tensor) -> Tensor:
        return self._joined(lambda M, x: M.projx(x), x)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        return self._joined(lambda M, x, u: M.proju(x, u), x, u)

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        total = self.total(lambda M, x, u, v: M.inner(x, u, v), x, u, u if v is None else v)
        return total.unsqueeze(-1) if keepdim else total

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        return self._joined(lambda M, x, u: M.expmap(x, u), x, u)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        return self._joined(lambda M, x, y: M.logmap(x, y), x, y)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return self._joined(lambda M, x, y, v: M.transp(x, y, v), x, y, v)

    def nearest(self, x: Tensor, y: Tensor) -> Tensor:
        return self._joined(lambda M, x, y: M.nearest(x, y), x, y)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """√(Σ dᵢ²) over the factors; its subgradient is zero where x = y."""
        distances = torch.stack(self.each(lambda M, x, y: M.dist(x, y), x, y), -1)
        return torch.linalg.vector_norm(distances, dim=-1, keepdim=keepdim)

    def scale_noise(self, noise: Tensor, t: Tensor) -> Tensor:
        return self.join(self.each(lambda M, e, t: M.scale_noise(e, t), noise, time=t))

    @property
    def is_cover(self) -> bool:
        return all(factor.is_cover for factor in self.factors)

    def walk_centre(self, x: Tensor, t: Tensor) -> Tensor:
        return self.join(self.each(lambda M, x, t: M.walk_centre(x, t), x, time=t))

    def base_point(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return self.join(factor.base_point(dtype=dtype, device=device) for factor in self.factors)

    def random_uniform(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        return self.join(
            factor.random_uniform(*sample_shape, generator=generator, dtype=dtype, device=device)
            for factor in self.factors
        )

    # ---- for models -------------------------------------------------------------------------

    @property
    def sheets(self) -> int:  # type: ignore[override]
        return math.prod(factor.sheets for factor in self.factors)

    @property
    def feature_size(self) -> int:
        return sum(self._feature_sizes)

    def from_features(self, features: Tensor) -> Tensor:
        self._require("features", features, (self.feature_size,))
        parts = features.split(self._feature_sizes, -1)
        return self.join(
            factor.from_features(part) for factor, part in zip(self.factors, parts, strict=True)
        )

    @property
    def embedding_size(self) -> int:
        return sum(factor.embedding_size for factor in self.factors)

    def embed(self, x: Tensor) -> Tensor:
        return torch.cat(self.each(lambda M, x: M.embed(x), x), -1)

    def unfold(self, x: Tensor) -> Tensor:
        unfolded = x.unsqueeze(0)
        for k, factor in enumerate(self.factors):
            if factor.sheets == 1:
                continue
            parts = list(self.split(unfolded))
            parts[k] = factor.unfold(parts[k])  # (sheets, before, *, *ambient_shape)
            unfolded = self.join(parts).flatten(0, 1)
        return unfolded

    @property
    def angle_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(
            f"{name}_{k + 1}"
            for k, factor in enumerate(self.factors)
            for name in factor.angle_names
        )

    def to_angles(self, x: Tensor) -> Tensor:
        """The angles of those factors that have any, in turn."""
        if not self.angle_names:
            return super().to_angles(x)
        pairs = zip(self.factors, self.split(x), strict=True)
        return torch.cat(
            [factor.to_angles(part) for factor, part in pairs if factor.angle_names], -1
        )

    def from_angles(self, angles: Tensor) -> Tensor:
        """Points at the factors' angles in turn.

        Raises:
            ValueError: if a factor has none.
        """
        sizes = [len(factor.angle_names) for factor in self.factors]
        for factor, size in zip(self.factors, sizes, strict=True):
            if not size:
                raise ValueError(f"{self!r}: its factor {factor!r} has no angles; join() its parts")
        self._require("angles", angles, (sum(sizes),))
        pairs = zip(self.factors, angles.split(sizes, -1), strict=True)
        return self.join(factor.from_angles(part) for factor, part in pairs)
