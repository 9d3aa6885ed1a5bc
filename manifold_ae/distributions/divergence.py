"""Exact divergences between the laws, registered with ``torch.distributions.kl_divergence``."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from manifold_ae import heat
from manifold_ae.distributions.base import ManifoldDistribution
from manifold_ae.distributions.brownian import HeatKernel
from manifold_ae.distributions.priors import (
    ProductLaw,
    RiemannianUniform,
    StandardNormal,
    default_prior,
)
from manifold_ae.manifolds import Product

__all__ = ["kl_by_factor"]


def _check_same_manifold(q: ManifoldDistribution, p: ManifoldDistribution) -> None:
    if q.manifold is not p.manifold and q.manifold != p.manifold:
        raise ValueError(f"q lives on {q.manifold!r} and p on {p.manifold!r}")


@register_kl(HeatKernel, RiemannianUniform)
def _(q: HeatKernel, p: RiemannianUniform) -> Tensor:
    _check_same_manifold(q, p)
    return heat.kl_uniform(q.manifold, q.loc, q.time)


@register_kl(HeatKernel, StandardNormal)
def _(q: HeatKernel, p: StandardNormal) -> Tensor:
    _check_same_manifold(q, p)
    return _normal_kl(q).sum(-1)


@register_kl(HeatKernel, ProductLaw)
def _(q: HeatKernel, p: ProductLaw) -> Tensor:
    return kl_by_factors(q, p)


def kl_by_factors(q: Any, p: ProductLaw) -> Tensor:
    """The sum over the factors of a product, each of which has a law of q's kind."""
    _check_same_manifold(q, p)
    laws = q.manifold.each(partial(type(q), validate_args=False), q.loc, time=q.time)
    values = [kl_divergence(*pair) for pair in zip(laws, p.factors, strict=True)]
    return torch.stack(values).sum(0)


def kl_by_factor(q: Any, p: Any) -> Tensor:
    """KL(q ‖ p) in its parts, of shape ``(*, k)``: a part for each time of the manifold.

    These are the factors of a product, and the directions of Euclidean space; elsewhere there is
    one part. So it shows which of them carry what the data tell: a spare one has next to nothing.

    Arguments:
        q: a law with ``loc`` and ``time``, as ``HeatKernel``.
        p: the manifold's default prior.
    """
    _check_same_manifold(q, p)
    if isinstance(q.manifold, Product):
        laws = q.manifold.each(partial(type(q), validate_args=False), q.loc, time=q.time)
        pairs = zip(laws, map(default_prior, q.manifold.factors), strict=True)
        return torch.cat([kl_by_factor(*pair) for pair in pairs], -1)
    if isinstance(q, HeatKernel) and isinstance(p, StandardNormal):
        return _normal_kl(q)
    return kl_divergence(q, p).unsqueeze(-1)


def _normal_kl(q: HeatKernel) -> Tensor:
    return 0.5 * (q.time + q.loc.square() - 1 - torch.log(q.time))


@register_kl(RiemannianUniform, RiemannianUniform)
def _(q: RiemannianUniform, p: RiemannianUniform) -> Tensor:
    _check_same_manifold(q, p)
    return torch.zeros(torch.broadcast_shapes(q.batch_shape, p.batch_shape))


@register_kl(ManifoldDistribution, ManifoldDistribution)
def _(q: ManifoldDistribution, p: ManifoldDistribution) -> Tensor:
    _check_same_manifold(q, p)
    raise NotImplementedError(
        f"no exact KL of {type(q).__name__} to {type(p).__name__} on {q.manifold!r}; "
        "heat.kl_asymptotic(M, loc, time) is the short-time formula for the heat kernel, and "
        "heat.kl_monte_carlo(q.limit, p, n) estimates it with a standard error where there is a "
        "density (on a Submanifold heat.kl_monte_carlo(q, p, n), with q a RandomWalk)"
    )
