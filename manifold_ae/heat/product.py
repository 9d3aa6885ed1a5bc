"""Products: coordinates move independently, each at its own time."""

from torch import Tensor

from manifold_ae.heat.divergence import short_time
from manifold_ae.heat.kernel import (
    brownian_step,
    entropy,
    has_sampler,
    is_quick,
    kl_uniform,
    log_kernel,
    noise_shape,
)
from manifold_ae.manifolds import Manifold, Product

__all__: list[str] = []


@log_kernel.register
def _(manifold: Product, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    return manifold.total(log_kernel, x, y, time=t)


@kl_uniform.register
def _(manifold: Product, x: Tensor, t: Tensor) -> Tensor:
    return manifold.total(kl_uniform, x, time=t)


@entropy.register
def _(manifold: Product, x: Tensor, t: Tensor) -> Tensor:
    return manifold.total(entropy, x, time=t)


def _noise_sizes(manifold: Product) -> list[int]:
    return [noise_shape(factor)[0] for factor in manifold.factors]


@noise_shape.register
def _(manifold: Product) -> tuple[int, ...]:
    return (sum(_noise_sizes(manifold)),)


@short_time.register
def _(
    manifold: Product,
    loc: Tensor,
    time: Tensor,
    coefficient: float | None,
    allow_inaccurate: bool,
) -> Tensor:
    def of_factor(factor: Manifold, x: Tensor, t: Tensor) -> Tensor:
        return short_time(factor, x, t, coefficient, allow_inaccurate)

    return manifold.total(of_factor, loc, time=time)


@is_quick.register
def _(manifold: Product) -> bool:
    return all(map(is_quick, manifold.factors))


@has_sampler.register
def _(manifold: Product) -> bool:
    return all(map(has_sampler, manifold.factors))


@brownian_step.register
def _(manifold: Product, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    parts = zip(
        manifold.factors,
        manifold.split(x),
        manifold.split_time(t),
        noise.split(_noise_sizes(manifold), -1),
        strict=True,
    )
    return manifold.join(brownian_step(*part) for part in parts)
