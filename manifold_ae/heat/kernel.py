"""The heat kernel of a manifold, as generic functions that each manifold registers.

A manifold with an exact kernel registers ``log_kernel``; with an exact divergence from the uniform
law, ``kl_uniform``; with an exact one-step sampler, ``brownian_step``. Where nothing is registered
the function says so and names what there is instead.
"""

import math
from functools import singledispatch

from torch import Tensor

from manifold_ae.manifolds import Manifold

__all__ = [
    "brownian_step",
    "entropy",
    "has_sampler",
    "kl_uniform",
    "log_kernel",
    "noise_shape",
]


@singledispatch
def log_kernel(manifold: Manifold, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """log q(t; x, y), the log-density at y of Brownian motion that started at x a time t before.

    Args:
        x, y: points of shape ``(*, *ambient_shape)``, symmetric in their roles.
        t: time (variance), positive, of shape ``(*, *time_shape)``.

    Returns:
        Log-density with respect to Riemannian volume, in nats, of shape ``(*)``.

    Raises:
        NotImplementedError: where the manifold has no exact heat kernel.
    """
    raise NotImplementedError(
        f"{manifold!r} has no exact heat kernel; distributions.RandomWalk samples it approximately"
    )


@singledispatch
def kl_uniform(manifold: Manifold, x: Tensor, t: Tensor) -> Tensor:
    """KL(q(t; x, ·) ‖ uniform) in nats, exact, of shape ``(*)``; differentiable in x and t.

    Raises:
        NotImplementedError: where no exact divergence is known.
    """
    raise NotImplementedError(
        f"{manifold!r} has no exact KL to the uniform law; heat.kl_asymptotic holds for short "
        "times, heat.kl_monte_carlo estimates it with a standard error"
    )


@singledispatch
def entropy(manifold: Manifold, x: Tensor, t: Tensor) -> Tensor:
    """Differential entropy of q(t; x, ·) with respect to volume, in nats, of shape ``(*)``."""
    return math.log(manifold.volume) - kl_uniform(manifold, x, t)


@singledispatch
def brownian_step(manifold: Manifold, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """A point with exactly the law q(t; x, ·), continuous and differentiable in x and t.

    Args:
        x: start, of shape ``(*, *ambient_shape)``.
        t: time of shape ``(*, *time_shape)``.
        noise: standard normal, of shape ``(*, *noise_shape(manifold))``; x and t are expanded to
            its batch shape.

    Raises:
        NotImplementedError: where no exact sampler is known.
    """
    raise NotImplementedError(
        f"{manifold!r} has no exact sampler; distributions.RandomWalk samples it approximately"
    )


@singledispatch
def has_sampler(manifold: Manifold) -> bool:
    """Whether ``brownian_step`` is known for a manifold."""
    return brownian_step.dispatch(type(manifold)) is not brownian_step.dispatch(object)


@singledispatch
def noise_shape(manifold: Manifold) -> tuple[int, ...]:
    """Shape of the normal noise that ``brownian_step`` takes for one point."""
    return manifold.ambient_shape
