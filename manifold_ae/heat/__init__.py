"""Heat kernels on the latent manifolds: densities, exact samplers, divergences.

Throughout, the generator is ½Δ, so that t is a variance; densities are with respect to Riemannian
volume; divergences are in nats.
"""

from manifold_ae.heat import (  # noqa: F401  (they register themselves)
    euclidean,
    homogeneous,
    product,
    projective,
    quotient,
    revolution,
    revolution_divergence,
    submanifold,
)
from manifold_ae.heat.divergence import kl_asymptotic, kl_monte_carlo, kl_published
from manifold_ae.heat.kernel import (
    brownian_step,
    entropy,
    has_sampler,
    is_quick,
    kl_uniform,
    log_kernel,
    noise_shape,
)
from manifold_ae.heat.radial import radial_quantile
from manifold_ae.heat.submanifold import monte_carlo_log_kernel, short_time_log_kernel

__all__ = [
    "brownian_step",
    "entropy",
    "has_sampler",
    "is_quick",
    "kl_asymptotic",
    "kl_monte_carlo",
    "kl_published",
    "kl_uniform",
    "log_kernel",
    "monte_carlo_log_kernel",
    "noise_shape",
    "radial_quantile",
    "short_time_log_kernel",
]
