r"""Projective spaces and rotations: the sphere's kernel, folded.

On ℝPᵈ = Sᵈ/±1, at distance r ≤ π/2,  V q(t, r) = ½ (V q)_{Sᵈ}(t, r) + ½ (V q)_{Sᵈ}(t, π − r).

SO(3) with the angle as its distance is S³ of radius 2 with antipodes identified. Radius 2 halves
distances and divides times by four: V q_{SO(3)}(t, θ) = V q_{ℝP³}(t/4, θ/2), and the divergence
from the uniform law is that of ℝP³ at t/4.

The exact samplers depend continuously on the point, not on the vector or sign that stands for it.
On ℝPᵈ the tangent noise is v = A x, with A antisymmetric and its entries above the diagonal
independent and standard normal: it has covariance I − x xᵀ, and −x gives −v. On SO(3) it is ω̂ R,
ω ∼ N(0, I): turned in the world's frame, it commutes with R → R g, so the sampler is continuous on
the quotient by the symmetries of an object too.
"""

import math

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.heat import sphere
from manifold_ae.heat.homogeneous import GeodesicStep, check_dimension, divergence, radial
from manifold_ae.heat.kernel import brownian_step, kl_uniform, log_kernel, noise_shape
from manifold_ae.manifolds import SO3, RealProjective
from manifold_ae.numerics import LAWS, Fused, built_once

__all__ = ["odd_tangent"]


def _log_folded(dim: int, r: Tensor, t: Tensor) -> Tensor:
    """log(V q) on ℝPᵈ, in float64."""
    near = sphere.log_relative_density(dim, r, t)
    far = sphere.log_relative_density(dim, math.pi - r, t)
    return torch.logaddexp(near, far) - math.log(2)


@built_once
def _antisymmetric(n: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each entry of an antisymmetric n × n matrix, which number above the diagonal it is."""
    rows, columns = np.triu_indices(n, 1)
    place, sign = np.zeros((2, n, n))
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    sign[rows, columns], sign[columns, rows] = 1, -1
    return (
        torch.tensor(place.ravel(), dtype=torch.long, device=device),
        torch.tensor(sign.ravel(), dtype=dtype, device=device),
    )


# ---- projective spaces ----------------------------------------------------------------------


def odd_tangent(x: Tensor, noise: Tensor) -> Tensor:
    """v = A x of the shape of x, standard normal on the tangent space: −x gives −v.

    ``noise`` holds the entries of A above its diagonal, of shape ``(*, n (n − 1)/2)``.
    """
    n = x.shape[-1]
    place, sign = _antisymmetric(n, noise.dtype, noise.device)
    matrix = (noise.index_select(-1, place) * sign).unflatten(-1, (n, n))
    # Products and sums, not matmul, which autocast would round to half precision.
    return (matrix * x.unsqueeze(-2)).sum(-1)


@log_kernel.register
def _(manifold: RealProjective, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    dim = check_dimension(manifold, manifold.dim)
    r = manifold.dist(x.double(), y.double())
    return (_log_folded(dim, r, t.double()) - math.log(manifold.volume)).to(x.dtype)


@kl_uniform.register
def _(manifold: RealProjective, x: Tensor, t: Tensor) -> Tensor:
    return divergence(manifold, manifold.dim, x, t, folded=True)


@noise_shape.register
def _(manifold: RealProjective) -> tuple[int, ...]:
    return (manifold.dim * (manifold.dim + 1) // 2,)


@brownian_step.register
def _(manifold: RealProjective, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    dim = check_dimension(manifold, manifold.dim)
    batch = noise.shape[:-1]
    x, t = x.expand(*batch, dim + 1), t.expand(batch)
    return GeodesicStep.of(dim, x, t, odd_tangent(x, noise))


# ---- rotations ------------------------------------------------------------------------------


@log_kernel.register
def _(manifold: SO3, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    r = manifold.dist(x.double(), y.double()) / 2
    return (_log_folded(3, r, t.double() / 4) - math.log(manifold.volume)).to(x.dtype)


@kl_uniform.register
def _(manifold: SO3, x: Tensor, t: Tensor) -> Tensor:
    return divergence(manifold, 3, x, t / 4, folded=True)


@noise_shape.register
def _(manifold: SO3) -> tuple[int, ...]:
    return (3,)


class _RotationVector(Fused):
    """ω = 2 r v/ρ with r = G_t(ρ) on S³ at a quarter of the time: of a length corrected from χ."""

    first_only = LAWS

    @staticmethod
    def value(t: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        length = torch.linalg.vector_norm(v, dim=-1)
        log_ratio, *slopes = radial(3, length, t / 4)
        ratio = 2 * log_ratio.exp().unsqueeze(-1)
        return ratio * v, length, ratio, *slopes

    @staticmethod
    def derivative(gradient: Tensor, *saved: Tensor) -> tuple[Tensor | None, ...]:
        t, v, length, ratio, along_length, along_log_time = saved
        by_ratio = ratio.squeeze(-1) * (gradient * v).sum(-1)
        by_v = None
        if v.requires_grad:
            tiny = torch.finfo(v.dtype).tiny
            by_length = (by_ratio * along_length / length.clamp_min(tiny)).unsqueeze(-1)
            by_v = torch.addcmul(ratio * gradient, by_length, v)
        return by_ratio * along_log_time / t, by_v


@brownian_step.register
def _(manifold: SO3, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    omega = _RotationVector.of(t.expand(noise.shape[:-1]), noise)
    return rotations.compose(rotations.exp(omega), x)
