"""Spheres and flat tori, whose heat kernels look alike from every point.

Densities are evaluated in float64 and returned in the dtype of the points: at short times they
are differences of large numbers.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from manifold_ae.heat import circle, sphere
from manifold_ae.heat.kernel import (
    brownian_step,
    has_sampler,
    kl_uniform,
    log_kernel,
    noise_shape,
)
from manifold_ae.heat.sphere_tables import divergence_table, radius_table
from manifold_ae.heat.tables import Table1
from manifold_ae.manifolds import FlatTorus, Manifold, Sphere
from manifold_ae.numerics import LAWS, Fused

__all__ = ["GeodesicStep", "Tabulated", "check_dimension", "divergence", "expanded", "radial"]


def check_dimension(manifold: Manifold, dim: int) -> int:
    """The dimension, or an error where the sphere's kernel has not been verified."""
    if dim > sphere.MAX_DIM:
        raise NotImplementedError(
            f"{manifold!r}: the exact heat kernel is verified up to dimension {sphere.MAX_DIM}; "
            "distributions.RandomWalk samples it approximately, and heat.kl_asymptotic gives the "
            "divergence for short times"
        )
    return dim


@log_kernel.register
def _(manifold: Sphere, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    dim = check_dimension(manifold, manifold.dim)
    r = manifold.dist(x.double(), y.double())
    relative = sphere.log_relative_density(dim, r, t.double())
    return (relative - math.log(manifold.volume)).to(x.dtype)


class Tabulated(Fused):
    """K(t) = softplus(table(log t)), the table being ``build(*key)``."""

    constants = 2
    first_only = LAWS

    @staticmethod
    def value(build: Callable[..., Table1], key: tuple[Any, ...], t: Tensor) -> tuple[Tensor, ...]:
        logit, slope = build(*key).evaluate(t.log())
        return torch.nn.functional.softplus(logit), logit, slope

    @staticmethod
    def derivative(
        gradient: Tensor, build: Callable[..., Table1], key: tuple[Any, ...], *saved: Tensor
    ) -> tuple[Tensor]:
        t, logit, slope = saved
        return (gradient * slope * torch.sigmoid(logit) / t,)


def expanded(manifold: Manifold, x: Tensor, t: Tensor) -> Tensor:
    """t, with the batch shape of the points x too."""
    batch = x.shape[: x.dim() - len(manifold.ambient_shape)]
    return t if t.shape == batch else t.expand(torch.broadcast_shapes(t.shape, batch))


def divergence(manifold: Manifold, dim: int, x: Tensor, t: Tensor, folded: bool = False) -> Tensor:
    """KL of the kernel of Sᵈ, or folded of ℝPᵈ, to the uniform law; x only gives its shape."""
    key = (check_dimension(manifold, dim), folded)
    return Tabulated.of(divergence_table, key, expanded(manifold, x, t))


@kl_uniform.register
def _(manifold: Sphere, x: Tensor, t: Tensor) -> Tensor:
    return divergence(manifold, manifold.dim, x, t)


def radial(dim: int, length: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""The radius G_t(ρ) that belongs to a tangent vector of length ρ, for the kernel of Sᵈ.

    Returns its logarithm less log ρ, and the slopes of that along ρ and along log t.
    """
    if dim == 1:
        return t.log() / 2, torch.zeros_like(t), torch.full_like(t, 0.5)
    log_ratio, along_length, along_log_time = radius_table(dim).evaluate(length, t.log())
    return log_ratio, along_length, along_log_time


class GeodesicStep(Fused):
    """z = cos(r) x + sin(r) v/ρ for a tangent vector v at x, ρ its length, r = G_t(ρ).

    With v ∼ N(0, I) the direction is uniform; only the length has to be corrected, from the χ law
    to that of the geodesic distance. Written with its derivative, since it stands in every
    training step: the graph of its thirty operations costs more than they do.
    """

    constants = 1
    first_only = LAWS

    @staticmethod
    def value(dim: int, x: Tensor, t: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        length = torch.linalg.vector_norm(v, dim=-1).clamp_min_(torch.finfo(x.dtype).tiny)
        log_ratio, *slopes = radial(dim, length, t)
        radius = length * log_ratio.exp()
        cosine, sine = radius.cos().unsqueeze(-1), radius.sin().unsqueeze(-1)
        direction = v / length.unsqueeze(-1)
        z = torch.addcmul(cosine * x, sine, direction)
        return z, direction, cosine, sine, length, radius, *slopes

    @staticmethod
    def derivative(gradient: Tensor, dim: int, *saved: Tensor) -> tuple[Tensor, ...]:
        x, t, _, direction, cosine, sine, length, radius, along_length, along_log_time = saved
        along = (gradient * direction).sum(-1, keepdim=True)
        by_radius = cosine * along - sine * (gradient * x).sum(-1, keepdim=True)
        # v enters through its direction, perpendicularly, and through its length.
        by_length = (radius / length + radius * along_length).unsqueeze(-1) * by_radius
        by_v = torch.addcmul(gradient, along, direction, value=-1) * (sine / length.unsqueeze(-1))
        by_v = torch.addcmul(by_v, by_length, direction)
        by_t = radius * along_log_time / t * by_radius.squeeze(-1)
        return cosine * gradient, by_t, by_v


class _SphereStep(Fused):
    """``GeodesicStep`` with v the tangent part of ambient noise: continuous in x."""

    constants = 1
    first_only = LAWS

    @staticmethod
    def value(dim: int, x: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        normal = (x * noise).sum(-1, keepdim=True)
        v = torch.addcmul(noise, normal, x, value=-1)
        z, *kept = GeodesicStep.value(dim, x, t, v)
        return z, normal, *kept

    @staticmethod
    def derivative(gradient: Tensor, dim: int, *saved: Tensor) -> tuple[Tensor | None, ...]:
        x, t, noise, normal, *kept = saved
        by_x, by_t, by_v = GeodesicStep.derivative(gradient, dim, x, t, noise, *kept)
        across = (by_v * x).sum(-1, keepdim=True)
        by_x = torch.addcmul(by_x, normal, by_v, value=-1)
        by_x = torch.addcmul(by_x, across, noise, value=-1)
        by_noise = torch.addcmul(by_v, across, x, value=-1) if noise.requires_grad else None
        return by_x, by_t, by_noise


@brownian_step.register
def _(manifold: Sphere, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    dim = check_dimension(manifold, manifold.dim)
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
    return manifold.dim * divergence(manifold, 1, x, t)


@brownian_step.register
def _(manifold: FlatTorus, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    return manifold.rotate(x, t.sqrt().unsqueeze(-1) * noise)


@has_sampler.register
def _(manifold: Sphere) -> bool:
    return manifold.dim <= sphere.MAX_DIM


@noise_shape.register
def _(manifold: FlatTorus) -> tuple[int, ...]:
    return (manifold.dim,)
