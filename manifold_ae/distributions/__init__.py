"""Laws on the latent manifolds, by the conventions of ``torch.distributions``."""

from manifold_ae.distributions.base import ManifoldDistribution
from manifold_ae.distributions.brownian import HeatKernel, RandomWalk
from manifold_ae.distributions.divergence import kl_by_factor
from manifold_ae.distributions.power_spherical import PowerSpherical
from manifold_ae.distributions.priors import (
    ProductLaw,
    RiemannianUniform,
    StandardNormal,
    default_prior,
)
from manifold_ae.distributions.wrapped_normal import WrappedNormal

__all__ = [
    "HeatKernel",
    "ManifoldDistribution",
    "PowerSpherical",
    "ProductLaw",
    "RandomWalk",
    "RiemannianUniform",
    "StandardNormal",
    "WrappedNormal",
    "default_prior",
    "kl_by_factor",
]
