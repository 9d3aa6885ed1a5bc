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


@kl_uniform.register
def _(manifold: Sphere, x: Tensor, t: Tensor) -> Tensor:
    divergence = torch.nn.functional.softplus(divergence_table(_check_sphere(manifold))(t.log()))
    return divergence.expand(torch.broadcast_shapes(t.shape, x.shape[:-1]))


@brownian_step.register
def _(manifold: Sphere, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    # The direction of the projected noise is uniform and depends continuously on x; only its
    # length ρ has to be corrected, from the χ law to the law of the geodesic distance.
    dim = _check_sphere(manifold)
    v = manifold.proju(x, noise)
    length = torch.linalg.vector_norm(v, dim=-1).clamp_min(torch.finfo(x.dtype).tiny)
    log_scale = 0.5 * t.log()
    if dim > 1:
        log_scale = log_scale + radius_table(dim)(length, t.log())
    radius = length * log_scale.exp()
    along = (radius.sin() / length).unsqueeze(-1)
    return torch.addcmul(radius.cos().unsqueeze(-1) * x, along, v)


@log_kernel.register
def _(manifold: FlatTorus, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    r = manifold.angle_differences(x.double(), y.double())
    relative = circle.log_relative_density(r, t.double().unsqueeze(-1)).sum(-1)
    return (relative - math.log(manifold.volume)).to(x.dtype)


@kl_uniform.register
def _(manifold: FlatTorus, x: Tensor, t: Tensor) -> Tensor:
    divergence = manifold.dim * torch.nn.functional.softplus(divergence_table(1)(t.log()))
    return divergence.expand(torch.broadcast_shapes(t.shape, x.shape[:-1]))


@brownian_step.register
def _(manifold: FlatTorus, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    return manifold.rotate(x, t.sqrt().unsqueeze(-1) * noise[..., : manifold.dim])
