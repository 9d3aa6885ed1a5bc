r"""The wrapped normal law: a normal tangent vector, pushed through the exponential map.

    x = exp_z(√t ξ),  ξ ∼ N(0, I) on the tangent space at z                                      (1)

Its density sums over all tangent vectors that lead to x, each divided by the factor by which the
exponential map stretches volume there. On Euclidean space and on flat tori it stretches nothing,
and this *is* the heat kernel; elsewhere the two agree for short times.

Generic functions, which a manifold registers as those of ``heat``: ``exp_step`` (it has a
default) with ``exp_noise_shape``, ``log_density_of_exp``, ``divergence_of_exp``; and
``entropy_of_exp``, where that is not the logarithm of the volume less the divergence.
"""

import math
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.distributions import register_kl

from manifold_ae import heat
from manifold_ae.distributions import wrapped_sphere
from manifold_ae.distributions.base import normal_like
from manifold_ae.distributions.brownian import HeatKernel, _Brownian
from manifold_ae.distributions.divergence import _check_same_manifold, kl_by_factors
from manifold_ae.distributions.priors import ProductLaw, RiemannianUniform, StandardNormal
from manifold_ae.heat.homogeneous import expanded
from manifold_ae.heat.projective import odd_tangent
from manifold_ae.manifolds import (
    SO3,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    Quotient,
    RealProjective,
    Revolution,
    Sphere,
)

__all__ = ["WrappedNormal", "divergence_of_exp", "exp_step", "log_density_of_exp"]


class WrappedNormal(_Brownian):
    """Law of exp_z of a normal tangent vector of variance ``time`` (equation 1 of the module).

    Arguments:
        manifold: a manifold with an exponential map.
        loc: z, of shape ``(*, *ambient_shape)``.
        time: variance t > 0, of shape ``(*, *time_shape)``.
        validate_args: check values (see ``ManifoldDistribution``).

    Sampling is reparametrised, continuous and differentiable in ``loc`` and ``time`` (on a quotient
    of one's own the law is right, but paths may jump). On spheres, projective spaces and rotations
    the density is exact, and has integrable singularities: see ``log_prob``. As t grows the law
    does not become uniform there; on S² it stays 0.24 nats away. On surfaces of revolution, the
    embedded torus among them, it can be sampled but has no density: infinitely many geodesics lead
    to every point, and where they focus, along whole curves, it is infinite.

    Example:
        >>> from manifold_ae.manifolds import Sphere
        >>> M = Sphere(2)
        >>> q = WrappedNormal(M, M.base_point(), torch.tensor(0.1))
        >>> q.log_prob(M.base_point())
        tensor(0.4647)

    References:
        E. Mathieu, C. Le Lan, C. J. Maddison, R. Tomioka, Y. W. Teh, *Continuous Hierarchical
        Representations with Poincaré Variational Auto-Encoders*, 2019, §3.2,
        https://arxiv.org/abs/1901.06033
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> "WrappedNormal":
        loc, time = self._expanded(batch_shape)
        return WrappedNormal(self.manifold, loc, time, validate_args=False)

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        shape = (*torch.Size(sample_shape), *self.batch_shape, *exp_noise_shape(self.manifold))
        noise = normal_like(self.loc, shape, generator)
        return exp_step(self.manifold, self.loc, self.time, noise)

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(value) of shape ``(*)``, in nats, with respect to volume.

        On Sᵈ, d ≥ 2, the density has no bound at the antipode nor at ``loc``. Closer than the dtype
        resolves it is taken as at that distance: finite, with gradient zero.
        """
        self._check_value(value)
        return log_density_of_exp(self.manifold, self.loc, value, self.time)

    def entropy(self) -> Tensor:
        """Differential entropy with respect to volume, in nats, of the batch shape."""
        return entropy_of_exp(self.manifold, self.loc, self.time)


@register_kl(WrappedNormal, RiemannianUniform)
def _(q: WrappedNormal, p: RiemannianUniform) -> Tensor:
    _check_same_manifold(q, p)
    return divergence_of_exp(q.manifold, q.loc, q.time)


@register_kl(WrappedNormal, StandardNormal)
def _(q: WrappedNormal, p: StandardNormal) -> Tensor:
    _check_same_manifold(q, p)
    same = HeatKernel(q.manifold, q.loc, q.time, validate_args=False)
    return torch.distributions.kl_divergence(same, p)


@register_kl(WrappedNormal, ProductLaw)
def _(q: WrappedNormal, p: ProductLaw) -> Tensor:
    return kl_by_factors(q, p)


# ---- what manifolds register ------------------------------------------------------------------


@singledispatch
def exp_step(manifold: Manifold, loc: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    """exp_loc(√time ξ), with ξ the normal tangent vector that is made of ambient noise.

    Unless a manifold registers another, ξ is the tangent part of the noise, in the scale of
    ``M.inner``, which may differ from that of the ambient space by a constant.

    Args:
        loc: of shape ``(*, *ambient_shape)``.
        time: of shape ``(*, *time_shape)``.
        noise: standard normal, of shape ``(*, *exp_noise_shape(manifold))``.

    Raises:
        NotImplementedError: where a sample has several times and nothing is registered.
    """
    if manifold.time_shape:
        raise NotImplementedError(
            f"{manifold!r} has times of shape {manifold.time_shape} and has not registered "
            "exp_step, the sampler of WrappedNormal; use HeatKernel"
        )
    v = manifold.proju(loc, noise)
    axes = tuple(range(-len(manifold.ambient_shape), 0))
    scale = time.sqrt()
    with torch.no_grad():
        ambient, own = v.square().sum(axes), manifold.inner(loc, v)
        factor = torch.where(own > 0, ambient / own, 1.0).sqrt()
    scale = (scale * factor).reshape(factor.shape + (1,) * len(axes))
    return manifold.expmap(loc, scale * v)


@singledispatch
def exp_noise_shape(manifold: Manifold) -> tuple[int, ...]:
    """Shape of the normal noise that ``exp_step`` takes for one point."""
    return manifold.ambient_shape


@singledispatch
def log_density_of_exp(manifold: Manifold, loc: Tensor, value: Tensor, time: Tensor) -> Tensor:
    """Log-density at ``value`` of exp_loc(√time ξ), with respect to volume, of shape ``(*)``.

    Raises:
        NotImplementedError: where the manifold has not registered it.
    """
    raise NotImplementedError(
        f"the density of WrappedNormal on {manifold!r} is not known: it sums over all geodesics "
        "that lead to a point; rsample works, and HeatKernel has a density where heat.log_kernel "
        "is known"
    )


@log_density_of_exp.register
def _(manifold: Revolution, loc: Tensor, value: Tensor, time: Tensor) -> Tensor:
    """Refused: (1) has no closed form here, and no bound where geodesics from ``loc`` focus."""
    raise NotImplementedError(
        f"the density of WrappedNormal on {manifold!r} is not known: infinitely many geodesics "
        "lead to every point and all count, and it is infinite along the curves of points that "
        "are conjugate to loc; rsample works, and HeatKernel has a density"
    )


@singledispatch
def divergence_of_exp(manifold: Manifold, loc: Tensor, time: Tensor) -> Tensor:
    """KL of exp_loc(√time ξ) to the uniform law, in nats, exact, of shape ``(*)``.

    Raises:
        NotImplementedError: where the manifold has not registered it.
    """
    raise NotImplementedError(
        f"WrappedNormal on {manifold!r} has no exact KL to the uniform law; HeatKernel has one "
        "where it is known, and heat.kl_monte_carlo(q, p, n) estimates it with a standard error "
        "where WrappedNormal has a density"
    )


@singledispatch
def entropy_of_exp(manifold: Manifold, loc: Tensor, time: Tensor) -> Tensor:
    """Differential entropy of exp_loc(√time ξ), in nats, of shape ``(*)``."""
    return math.log(manifold.volume) - divergence_of_exp(manifold, loc, time)


# ---- Euclidean space and flat tori: the heat kernel -------------------------------------------


@exp_step.register(Euclidean)
def _(manifold: Manifold, loc: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    return heat.brownian_step(manifold, loc, time, noise)


@log_density_of_exp.register(Euclidean)
@log_density_of_exp.register(FlatTorus)
def _(manifold: Manifold, loc: Tensor, value: Tensor, time: Tensor) -> Tensor:
    return heat.log_kernel(manifold, loc, value, time)


@entropy_of_exp.register
def _(manifold: Euclidean, loc: Tensor, time: Tensor) -> Tensor:
    return heat.entropy(manifold, loc, time)


@divergence_of_exp.register
def _(manifold: FlatTorus, loc: Tensor, time: Tensor) -> Tensor:
    return heat.kl_uniform(manifold, loc, time)


# ---- rotations, quotients, products -----------------------------------------------------------


@log_density_of_exp.register
def _(manifold: SO3, loc: Tensor, value: Tensor, time: Tensor) -> Tensor:
    # S³ of radius 2 with antipodes identified: both of them count.
    r, t = manifold.dist(loc.double(), value.double()) / 2, time.double() / 4
    resolved = torch.finfo(value.dtype).eps
    near = wrapped_sphere.log_relative_density(3, r, t, resolved)
    far = wrapped_sphere.log_relative_density(3, math.pi - r, t, resolved)
    relative = torch.logaddexp(near, far) - math.log(2)
    return (relative - math.log(manifold.volume)).to(loc.dtype)


@log_density_of_exp.register
def _(manifold: Quotient, loc: Tensor, value: Tensor, time: Tensor) -> Tensor:
    rank, time_rank = len(manifold.ambient_shape), len(manifold.time_shape)
    batches = (p.shape[: p.dim() - k] for p, k in ((loc, rank), (value, rank), (time, time_rank)))
    shape = (*torch.broadcast_shapes(*batches), *manifold.ambient_shape)
    images = manifold.images(value.expand(shape))
    return torch.logsumexp(log_density_of_exp(manifold.cover, loc, images, time), 0)


@exp_noise_shape.register
def _(manifold: Quotient) -> tuple[int, ...]:
    return exp_noise_shape(manifold.cover)


@exp_step.register
def _(manifold: Quotient, loc: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    return exp_step(manifold.cover, loc, time, noise)


@exp_noise_shape.register(KleinBottle)
@exp_noise_shape.register(RealProjective)
def _(manifold: Manifold) -> tuple[int, ...]:
    return heat.noise_shape(manifold)


@exp_step.register
def _(manifold: RealProjective, loc: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    loc = loc.expand(*noise.shape[:-1], -1)
    v = odd_tangent(loc, noise)
    return manifold.expmap(loc, time.sqrt().unsqueeze(-1) * v)


@exp_step.register
def _(manifold: KleinBottle, loc: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    return heat.brownian_step(manifold, loc, time, noise)


@exp_noise_shape.register
def _(manifold: Product) -> tuple[int, ...]:
    return (sum(math.prod(exp_noise_shape(factor)) for factor in manifold.factors),)


@exp_step.register
def _(manifold: Product, loc: Tensor, time: Tensor, noise: Tensor) -> Tensor:
    shapes = [exp_noise_shape(factor) for factor in manifold.factors]
    noises = [
        part.unflatten(-1, shape)
        for part, shape in zip(noise.split(list(map(math.prod, shapes)), -1), shapes, strict=True)
    ]
    parts = zip(
        manifold.factors, manifold.split(loc), manifold.split_time(time), noises, strict=True
    )
    return manifold.join(exp_step(*part) for part in parts)


@log_density_of_exp.register
def _(manifold: Product, loc: Tensor, value: Tensor, time: Tensor) -> Tensor:
    return manifold.total(log_density_of_exp, loc, value, time=time)


# ---- spheres ----------------------------------------------------------------------------------


@log_density_of_exp.register
def _(manifold: Sphere, loc: Tensor, value: Tensor, time: Tensor) -> Tensor:
    if manifold.dim == 1:
        return heat.log_kernel(manifold, loc, value, time)
    r = manifold.dist(loc.double(), value.double())
    resolved = torch.finfo(value.dtype).eps
    relative = wrapped_sphere.log_relative_density(manifold.dim, r, time.double(), resolved)
    return (relative - math.log(manifold.volume)).to(loc.dtype)


@divergence_of_exp.register
def _(manifold: Sphere, loc: Tensor, time: Tensor) -> Tensor:
    if manifold.dim == 1:
        return heat.kl_uniform(manifold, loc, time)
    if manifold.dim > wrapped_sphere.MAX_DIM:
        raise NotImplementedError(
            f"{manifold!r}: the divergence of WrappedNormal is verified up to "
            f"Sphere({wrapped_sphere.MAX_DIM}); PowerSpherical has one in every dimension"
        )
    return _tabulated(manifold, manifold.dim, False, loc, time)


def _tabulated(manifold: Manifold, dim: int, folded: bool, loc: Tensor, time: Tensor) -> Tensor:
    table = wrapped_sphere.divergence_table(dim, folded)
    return table(expanded(manifold, loc, time).double().log()).to(loc.dtype)


@divergence_of_exp.register
def _(manifold: RealProjective, loc: Tensor, time: Tensor) -> Tensor:
    # The exponential map of the quotient is that of the sphere: its law is the sphere's, folded.
    if manifold.dim == 1:
        return heat.kl_uniform(manifold, loc, time)
    if manifold.dim > wrapped_sphere.MAX_DIM:
        raise NotImplementedError(
            f"{manifold!r}: the divergence of WrappedNormal is verified up to "
            f"RealProjective({wrapped_sphere.MAX_DIM}); heat.kl_monte_carlo(q, p, n) estimates it "
            "with a standard error"
        )
    return _tabulated(manifold, manifold.dim, True, loc, time)


@divergence_of_exp.register
def _(manifold: SO3, loc: Tensor, time: Tensor) -> Tensor:
    return _tabulated(manifold, 3, True, loc, time / 4)


@divergence_of_exp.register
def _(manifold: KleinBottle, loc: Tensor, time: Tensor) -> Tensor:
    # Flat: exp stretches nothing, and this is the heat kernel.
    return heat.kl_uniform(manifold, loc, time)


@divergence_of_exp.register
def _(manifold: Product, loc: Tensor, time: Tensor) -> Tensor:
    return manifold.total(divergence_of_exp, loc, time=time)


@entropy_of_exp.register
def _(manifold: Product, loc: Tensor, time: Tensor) -> Tensor:
    return manifold.total(entropy_of_exp, loc, time=time)
