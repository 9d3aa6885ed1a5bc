"""Priors: uniform on a compact manifold, standard normal on Euclidean space, products of these.

They hold no tensors, so they serve every dtype and device.
"""

import math
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from manifold_ae.distributions.base import ManifoldDistribution
from manifold_ae.manifolds import Euclidean, Manifold, Product

__all__ = ["ProductLaw", "RiemannianUniform", "StandardNormal", "default_prior"]


class _Prior(ManifoldDistribution):
    manifold: Any

    def __init__(self, manifold: Manifold, *, validate_args: bool | None = None) -> None:
        super().__init__(manifold, validate_args=validate_args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.manifold!r})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.manifold == other.manifold  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self.manifold))

    def expand(self, batch_shape: Any, _instance: Any = None) -> ManifoldDistribution:
        expanded = type(self)(self.manifold, validate_args=self._validate_args)
        expanded._batch_shape = torch.Size(batch_shape)
        return expanded

    def rsample(
        self,
        sample_shape: Any = (),
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        shape = (*torch.Size(sample_shape), *self.batch_shape)
        return self._draw(shape, generator=generator, dtype=dtype, device=device)

    def sample(
        self,
        sample_shape: Any = (),
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        return self.rsample(sample_shape, generator=generator, dtype=dtype, device=device)

    def draw(self, n: int, **kwargs: Any) -> Tensor:
        return self.sample((n,), **kwargs)

    def _draw(self, shape: tuple[int, ...], **kwargs: Any) -> Tensor:
        raise NotImplementedError


class RiemannianUniform(_Prior):
    """The uniform law on a compact manifold: density 1 / volume.

    Raises:
        ValueError: if the manifold is not compact.
    """

    def __init__(self, manifold: Manifold, *, validate_args: bool | None = None) -> None:
        if not manifold.compact:
            raise ValueError(
                f"{manifold!r} has infinite volume and no uniform law; "
                "M.default_prior() gives the standard normal"
            )
        super().__init__(manifold, validate_args=validate_args)

    def _draw(self, shape: tuple[int, ...], **kwargs: Any) -> Tensor:
        return self.manifold.random_uniform(*shape, **kwargs)

    def log_prob(self, value: Tensor) -> Tensor:
        """−log(volume), of shape ``(*)``."""
        self._check_value(value)
        shape = value.shape[: value.dim() - len(self.event_shape)]
        shape = torch.broadcast_shapes(shape, self.batch_shape)
        return value.new_full(shape, -math.log(self.manifold.volume))

    def entropy(self) -> Tensor:
        """log(volume), of the batch shape."""
        return torch.full(self.batch_shape, math.log(self.manifold.volume))


class StandardNormal(_Prior):
    """N(0, I) on Euclidean space."""

    def _draw(self, shape: tuple[int, ...], **kwargs: Any) -> Tensor:
        return torch.randn((*shape, *self.event_shape), **kwargs)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, of shape ``(*)``."""
        self._check_value(value)
        log_density = -0.5 * (value.square() + math.log(2 * math.pi)).sum(-1)
        return log_density.expand(torch.broadcast_shapes(log_density.shape, self.batch_shape))

    def entropy(self) -> Tensor:
        """d/2 log(2πe), of the batch shape."""
        per_dimension = 0.5 * (math.log(2 * math.pi) + 1)
        return torch.full(self.batch_shape, self.manifold.dim * per_dimension)


class ProductLaw(_Prior):
    """Independent laws on the factors of a product, each its default prior."""

    def __init__(self, manifold: Product, *, validate_args: bool | None = None) -> None:
        super().__init__(manifold, validate_args=validate_args)
        self.factors: tuple[Any, ...] = tuple(map(default_prior, manifold.factors))

    def _draw(self, shape: tuple[int, ...], **kwargs: Any) -> Tensor:
        return self.manifold.join(law.sample(shape, **kwargs) for law in self.factors)

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum of the factors' log-densities, of shape ``(*)``."""
        self._check_value(value)
        parts = zip(self.factors, self.manifold.split(value), strict=True)
        total = torch.stack([law.log_prob(part) for law, part in parts]).sum(0)
        return total.expand(torch.broadcast_shapes(total.shape, self.batch_shape))

    def entropy(self) -> Tensor:
        """The sum of the factors' entropies, of the batch shape."""
        return torch.stack([law.entropy() for law in self.factors]).sum(0).expand(self.batch_shape)


@singledispatch
def default_prior(manifold: Manifold) -> ManifoldDistribution:
    """Uniform where the manifold is compact; a manifold of another kind registers its own."""
    return RiemannianUniform(manifold)


@default_prior.register
def _(manifold: Euclidean) -> ManifoldDistribution:
    return StandardNormal(manifold)


@default_prior.register
def _(manifold: Product) -> ManifoldDistribution:
    return RiemannianUniform(manifold) if manifold.compact else ProductLaw(manifold)
