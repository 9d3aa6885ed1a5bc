"""Spheres and flat tori, whose heat kernels look alike from every point.

Densities are evaluated in float64 and returned in the dtype of the points: at short times they
are differences of large numbers.
"""

import math

import torch
from torch import Tensor

from manifold_ae.heat import circle, sphere
from manifold_ae.heat.kernel import brownian_step, kl_uniform, log_kernel
from manifold_ae.heat.sphere_tables import divergence_table, radius_table
from manifold_ae.manifolds import FlatTorus, Sphere
from manifold_ae.numerics import Fused, refuse_second_derivatives

__all__: list[str] = []


def _check_sphere(manifold: Sphere) -> int:
    if manifold.dim > sphere.MAX_DIM:
        raise NotImplementedError(
            f"{manifold!r}: the exact heat kernel is verified up to Sphere({sphere.MAX_DIM}); "
            "distributions.RandomWalk samples it approximately, and heat.kl_asymptotic gives the "
            "divergence for short times"
        )
    return manifold.dim


@log_kernel.register
def _(manifold: Sphere, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    dim = _check_sphere(manifold)
    r = manifold.dist(x.double(), y.double())
    if dim == 1:
        relative = circle.log_relative_density(r, t.double())
    else:
        relative = sphere.log_relative_density(dim, r, t.double())
    return (relative - math.log(manifold.volume)).to(x.dtype)


class _Divergence(Fused):
    """K(t) = softplus(table(log t))."""

    constants = 1

    @staticmethod
    def value(dim: int, t: Tensor) -> tuple[Tensor, ...]:
        logit, slope = divergence_table(dim).evaluate(t.log())
        return torch.nn.functional.softplus(logit), logit, slope

    @staticmethod
    def derivative(gradient: Tensor, dim: int, *saved: Tensor) -> tuple[Tensor]:
        refuse_second_derivatives()
        t, logit, slope = saved
        return (gradient * slope * torch.sigmoid(logit) / t,)


def _batched(t: Tensor, x: Tensor) -> Tensor:
    """One time a point of x, of shape ``(*, n)``."""
    return t if t.shape == x.shape[:-1] else t.expand(torch.broadcast_shapes(t.shape, x.shape[:-1]))


@kl_uniform.register
def _(manifold: Sphere, x: Tensor, t: Tensor) -> Tensor:
    return _Divergence.of(_check_sphere(manifold), _batched(t, x))


class _SphereStep(Fused):
    """z = cos(r) x + sin(r) v/ρ, with v the tangent part of the noise, ρ its length, r = G_t(ρ).

    The direction of v is uniform and depends continuously on x; only its length has to be
    corrected, from the χ law to that of the geodesic distance. Written with its derivative, since
    it stands in every training step: the graph of its thirty operations costs more than they do.
    """

    constants = 1

    @staticmethod
    def value(dim: int, x: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        normal = (x * noise).sum(-1, keepdim=True)
        v = torch.addcmul(noise, normal, x, value=-1)
        length = torch.linalg.vector_norm(v, dim=-1).clamp_min_(torch.finfo(x.dtype).tiny)
        if dim == 1:
            ratio = t.sqrt()
            along_length, along_log_time = torch.zeros_like(t), torch.full_like(t, 0.5)
        else:
            log_ratio, along_length, along_log_time = radius_table(dim).evaluate(length, t.log())
            ratio = log_ratio.exp()
        radius = length * ratio
        cosine, sine = radius.cos().unsqueeze(-1), radius.sin().unsqueeze(-1)
        direction = v / length.unsqueeze(-1)
        z = torch.addcmul(cosine * x, sine, direction)
        return z, direction, cosine, sine, normal, length, ratio, along_length, along_log_time

    @staticmethod
    def derivative(gradient: Tensor, dim: int, *saved: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        x, t, noise, direction, cosine, sine, normal, length, ratio, *slopes = saved
        along_length, along_log_time = slopes
        radius = length * ratio
        along = (gradient * direction).sum(-1, keepdim=True)
        by_radius = cosine * along - sine * (gradient * x).sum(-1, keepdim=True)
        # v enters through its direction, perpendicularly, and through its length.
        by_length = torch.addcmul(ratio, radius, along_length).unsqueeze(-1) * by_radius
        by_v = torch.addcmul(gradient, along, direction, value=-1) * (sine / length.unsqueeze(-1))
        by_v = torch.addcmul(by_v, by_length, direction)
        across = (by_v * x).sum(-1, keepdim=True)
        by_x = torch.addcmul(cosine * gradient, normal, by_v, value=-1)
        by_x = torch.addcmul(by_x, across, noise, value=-1)
        by_noise = torch.addcmul(by_v, across, x, value=-1) if noise.requires_grad else None
        return by_x, radius * along_log_time / t * by_radius.squeeze(-1), by_noise


@brownian_step.register
def _(manifold: Sphere, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    dim = _check_sphere(manifold)
    if x.shape != noise.shape or t.shape != noise.shape[:-1]:
        x, t = x.expand_as(noise), t.expand(noise.shape[:-1])
    return _SphereStep.of(dim, x, t, noise)


@log_kernel.register
def _(manifold: FlatTorus, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    r = manifold.angle_differences(x.double(), y.double())
    relative = circle.log_relative_density(r, t.double().unsqueeze(-1)).sum(-1)
    return (relative - math.log(manifold.volume)).to(x.dtype)


@kl_uniform.register
def _(manifold: FlatTorus, x: Tensor, t: Tensor) -> Tensor:
    return manifold.dim * _Divergence.of(1, _batched(t, x))


@brownian_step.register
def _(manifold: FlatTorus, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    return manifold.rotate(x, t.sqrt().unsqueeze(-1) * noise[..., : manifold.dim])
