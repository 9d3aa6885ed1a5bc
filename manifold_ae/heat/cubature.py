r"""The divergence on a quotient of up to three dimensions, by a cubature of the noise.

On M/Γ with M homogeneous, let p(y) be the kernel's density on the cover from z, relative to the
uniform law, and f(y) = 1/|Γ| Σ_g p(g·y), that on the quotient. Under y ∼ q_M(t; z, ·),

    K(z, t) = E log f = K_M(t) − log|Γ| + E log(1 + Σ_{g ≠ 1} p(g·y)/p(y)),                  (1)

and, as E 1/f = ∫ f/f = 1 over the quotient,

    K(z, t) = E [log f + 1/f − 1],                                                          (2)

without cancellation where f is near one, as it is late. The cover's exact sampler makes y of a
normal tangent vector ε; E is Gauss' rule in each of its d components. The integrand varies over
ε of order one at every time: early the last term of (1) is nothing, later the logarithm bends where
y is as far from z as from its image, over a width of √t divided by the distance of the images.

The group acts on the factors of a product apart, and so do densities: they are evaluated at the
nodes of every factor, and summed over all of their combinations.

Accuracy, absolutely: 5e-5 in three dimensions, 1e-6 in two (held in the tests against finer rules,
against tables, and against Monte Carlo). Cost: |Γ| kernels on the cover for each of about POINTSᵈ
nodes, at every point whose images meet at its time: on one core 10 ms a point on S³ by a group of
order five, 50 with its slopes (``tests/benchmarks/cubature.py``).
"""

import math

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.heat import circle, sphere
from manifold_ae.heat.homogeneous import radial
from manifold_ae.heat.kernel import Generic, kl_uniform, log_kernel
from manifold_ae.manifolds import SO3, FlatTorus, Manifold, Product, Quotient, Sphere
from manifold_ae.numerics import (
    LAWS,
    Fused,
    built_once,
    cos_sqrt,
    expm1_defect,
    hidden_by_vmap,
    sinc_sqrt,
    with_slopes,
)

__all__ = ["MAX_DIM", "by_cubature", "cubature", "from_densities", "geodesic_rule", "have_met"]

#: Points of Gauss' rule in each direction, by the dimension.
POINTS = {1: 48, 2: 40, 3: 24}
MAX_DIM = max(POINTS)
#: Nodes of less weight are left out.
NEGLIGIBLE = 1e-11
#: Standard deviations of the kernel that count.
REACH = 6.5
#: Time on Sᵈ from which polar coordinates serve better than the noise of the sampler, by d.
WIDE = {1: 0.15, 2: 0.15, 3: 0.4}
#: The images of a point have not met while δ²/8t is above this: e^{-APART} is lost beside one.
APART = 36.0
#: (1) down to this K, (2) below.
SWITCH = 0.02
#: Kernels evaluated at once.
CHUNK = 2**20


@built_once
def normal_rule(dim: int, points: int) -> tuple[Tensor, Tensor]:
    """Nodes (N, dim) and weights (N,) of a mean over N(0, I), float64."""
    x, w = hermegauss(points)
    grid = np.stack(np.meshgrid(*[x] * dim, indexing="ij"), -1).reshape(-1, dim)
    weight = np.stack(np.meshgrid(*[w / w.sum()] * dim, indexing="ij"), -1).prod(-1).ravel()
    kept = weight > NEGLIGIBLE
    return torch.from_numpy(grid[kept]), torch.from_numpy(weight[kept] / weight[kept].sum())


@built_once
def polar_rule(dim: int, points: int) -> tuple[Tensor, Tensor, Tensor]:
    """Radii in (0, 1) and directions, (N,) and (N, dim), with weights (N,) for both; float64."""
    radius, weight = leggauss(2 * points // 3)
    longitudes = {1: 1, 2: 2 * points, 3: points}[dim]
    longitude = 2 * np.pi * (np.arange(longitudes) + 0.5) / longitudes
    circle_ = np.stack([np.cos(longitude), np.sin(longitude)], -1)
    if dim == 1:
        u, across = np.array([[1.0], [-1.0]]), np.ones(2)
    elif dim == 2:
        u, across = circle_, np.ones(longitudes)
    else:
        height, across = leggauss(points // 2)
        ring = np.sqrt(1 - height**2)[:, None, None] * circle_
        top = np.broadcast_to(height[:, None, None], (*ring.shape[:-1], 1))
        u = np.concatenate([ring, top], -1).reshape(-1, 3)
        across = np.repeat(across, longitudes)
    weight = np.outer(weight, across).ravel()
    nodes = np.repeat((radius + 1) / 2, len(u)), np.tile(u, (len(radius), 1)), weight
    radii, directions, weights = (torch.from_numpy(part) for part in nodes)
    return radii, directions, weights


def geodesic_rule(dim: int, t: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Tangent vectors v (n, N, dim), with |v| the distance on Sᵈ, and weights (n, N).

    Before ``WIDE`` by Gauss' rule for the noise of the sampler; from there on, when that winds the
    plane round the sphere, by Gauss' rule in the distance, and directions.
    """
    nodes, weight = (part.to(t.device) for part in normal_rule(dim, points))
    length = torch.linalg.vector_norm(nodes, dim=-1).expand(len(t), -1)

    def log_ratio(time: Tensor) -> tuple[Tensor, Tensor]:
        value, _, along_log_time = radial(dim, length, time)
        return value, along_log_time / time

    early = with_slopes(log_ratio, t.unsqueeze(-1).expand_as(length)).exp().unsqueeze(-1) * nodes
    part, u, area = (part.to(t.device) for part in polar_rule(dim, points))
    # The density and the area of spheres, at every radius once.
    distance = (REACH * t.sqrt()).clamp_max(math.pi).unsqueeze(-1) * part
    log_density = sphere.log_relative_density(dim, distance, t.unsqueeze(-1))
    share = torch.softmax(
        log_density + (dim - 1) * torch.log(torch.sin(distance)) + torch.log(area), -1
    )
    late = distance.unsqueeze(-1) * u
    wide = (t >= WIDE[dim]).unsqueeze(-1)
    size = max(len(nodes), len(part))
    v = torch.where(wide.unsqueeze(-1), _padded(late, size), _padded(early, size))
    share, weight = (_padded(w.unsqueeze(-1), size).squeeze(-1) for w in (share, weight[None]))
    return v, torch.where(wide, share, weight)


def _padded(values: Tensor, size: int) -> Tensor:
    """Zeros after the nodes (n, N, k), up to ``size`` of them."""
    return torch.nn.functional.pad(values, (0, 0, 0, size - values.shape[1]))


# ---- what the cover gives ---------------------------------------------------------------------


@Generic
def cubature(manifold: Manifold, x: Tensor, t: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Points y and weights of a mean over the kernel from x, differentiable in x and t.

    Args:
        x: of shape ``(n, *ambient_shape)``, float64.
        t: of shape ``(n, *time_shape)``.
        points: in each direction.

    Returns:
        y of shape ``(n, N, *ambient_shape)``; weights of shape ``(n, N)``, of sum one.

    Raises:
        NotImplementedError: where none is known.
    """
    raise NotImplementedError(
        f"{manifold!r} has no rule for means over its heat kernel, of which the KL on a quotient "
        "is computed; heat.kl_monte_carlo(q, p, n) estimates it with a standard error, with q a "
        "HeatKernel where the cover has a sampler, a RandomWalk elsewhere"
    )


@cubature.register
def _(manifold: SO3, x: Tensor, t: Tensor, points: int) -> tuple[Tensor, Tensor]:
    # S³ of radius 2, whose rotations by 2r about u do not depend on the sign of a quaternion.
    v, weight = geodesic_rule(3, t / 4, points)
    return rotations.compose(rotations.exp(2 * v), x.unsqueeze(1)), weight


@cubature.register
def _(manifold: Sphere, x: Tensor, t: Tensor, points: int) -> tuple[Tensor, Tensor]:
    v, weight = geodesic_rule(manifold.dim, t, points)
    # In the frame of the reflection that takes the last axis to ∓x. It is held while x is
    # differentiated: taking the tangent part is, to first order, to transport it.
    last = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)[-1]
    axis = (x.detach() + torch.where(x[:, -1:] < 0, -1.0, 1.0) * last).unsqueeze(1)
    inner = (v * axis[..., :-1]).sum(-1, keepdim=True)
    v = torch.nn.functional.pad(v, (0, 1)) - 2 * inner / axis.square().sum(-1, keepdim=True) * axis
    square = v.square().sum(-1, keepdim=True)
    here = x.unsqueeze(1)
    tangent = v - (v * here).sum(-1, keepdim=True) * here
    return cos_sqrt(square) * here + sinc_sqrt(square) * tangent, weight


def _angle_rule(t: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Angles and weights (n, points) of a mean over the kernel of a circle.

    Normal angles wind round and round as t grows. The trapezoid rule in the angle itself, as far as
    the kernel reaches or once round, converges geometrically at every time.
    """
    step = (2 * torch.arange(points, dtype=t.dtype, device=t.device) + 1) / points - 1
    angles = (REACH * t.sqrt()).clamp_max(math.pi).unsqueeze(-1) * step
    log_weight = circle.log_relative_density(angles.abs(), t.unsqueeze(-1))
    return angles, torch.softmax(log_weight, -1)


@cubature.register
def _(manifold: FlatTorus, x: Tensor, t: Tensor, points: int) -> tuple[Tensor, Tensor]:
    angles, weight = _angle_rule(t, points)
    axis = torch.arange(points, device=x.device)
    index = torch.cartesian_prod(*[axis] * manifold.dim).reshape(-1, manifold.dim)
    return manifold.rotate(x.unsqueeze(1), angles[:, index]), weight[:, index].prod(-1)


@Generic
def log_densities(
    manifold: Manifold, x: Tensor, t: Tensor, points: int, quotient: Quotient
) -> tuple[Tensor, Tensor]:
    """log p(g·y) for every g and every node, of shape ``(order, n, N)``; weights ``(n, N)``.

    Args:
        manifold: the cover.
        x: of shape ``(n, *ambient_shape)``, float64.
        t: of shape ``(n, *time_shape)``.
        points: in each direction.
    """
    y, weight = cubature(manifold, x, t, points)
    return _relative(manifold, x, quotient.images(y), t), weight


def _relative(manifold: Manifold, x: Tensor, images: Tensor, t: Tensor) -> Tensor:
    """log p at images (order, n, N, *ambient_shape)."""
    return log_kernel(manifold, x.unsqueeze(1), images, t.unsqueeze(1)) + math.log(manifold.volume)


@log_densities.register
def _(
    manifold: FlatTorus, x: Tensor, t: Tensor, points: int, quotient: Quotient
) -> tuple[Tensor, Tensor]:
    # An isometry permutes the circles: what turning one of them changes of log p adds up.
    d = manifold.dim
    angles, own = _angle_rule(t, points)
    alone = torch.diag_embed(angles.unsqueeze(-1).expand(-1, -1, d)).transpose(1, 2).flatten(1, 2)
    turned = torch.cat([torch.zeros_like(alone[:, :1]), alone], 1)
    y = manifold.rotate(x.unsqueeze(1), turned)
    log_p = _relative(manifold, x, quotient.images(y), t)
    still, moved = log_p[..., :1], log_p[..., 1:].unflatten(-1, (d, points))
    total, weight = still, own.new_ones(len(x), 1)
    for change in (moved - still.unsqueeze(-1)).unbind(-2):
        total = (total.unsqueeze(-1) + change.unsqueeze(-2)).flatten(-2)
        weight = (weight.unsqueeze(-1) * own.unsqueeze(-2)).flatten(-2)
    return total, weight


@log_densities.register
def _(
    manifold: Product, x: Tensor, t: Tensor, points: int, quotient: Quotient
) -> tuple[Tensor, Tensor]:
    parts, times = manifold.split(x), manifold.split_time(t)
    total, weight = x.new_zeros(1, 1, 1), x.new_ones(1, 1)
    for k, factor in enumerate(manifold.factors):
        y, own = cubature(factor, parts[k], times[k], points)
        point = [part.unsqueeze(1) for part in parts]
        point[k] = y
        images = manifold.split(quotient.images(manifold.join(point)))[k]
        log_p = _relative(factor, parts[k], images, times[k])
        total = (total.unsqueeze(-1) + log_p.unsqueeze(-2)).flatten(-2)
        weight = (weight.unsqueeze(-1) * own.unsqueeze(-2)).flatten(-2)
    return total, weight


# ---- the divergence ---------------------------------------------------------------------------


def by_cubature(quotient: Quotient, x: Tensor, t: Tensor, points: int | None = None) -> Tensor:
    """K of shape ``(*)``, differentiable once in x and t; see the module's docstring.

    Args:
        x: points of shape ``(*, *ambient_shape)``.
        t: times of shape ``(*, *time_shape)``.
        points: of Gauss' rule in each direction; those of the dimension if not given.

    Raises:
        NotImplementedError: if the dimension is above ``MAX_DIM``, or the cover has no exact
            kernel, sampler or divergence.
    """
    if quotient.dim > MAX_DIM:
        raise NotImplementedError(
            f"{quotient!r} has no exact KL to the uniform law: it would depend on the point as "
            f"well, and is computed up to dimension {MAX_DIM}, not {quotient.dim}; "
            f"heat.kl_asymptotic holds up to t = {quotient.short_time_limit:.3g}, and "
            "heat.kl_monte_carlo(q, p, n) estimates it with a standard error where the cover has a "
            "density and a sampler"
        )
    shape = torch.broadcast_shapes(
        x.shape[: x.dim() - len(quotient.ambient_shape)],
        t.shape[: t.dim() - len(quotient.time_shape)],
    )
    x = x.expand(shape + quotient.ambient_shape)
    t = t.expand(shape + quotient.time_shape)
    if hidden_by_vmap(x, t):
        raise NotImplementedError(
            f"{quotient!r}: the divergence is computed where the values of its arguments ask for "
            "it, which torch.func.vmap hides; call it on the whole batch"
        )
    points = POINTS[quotient.dim] if points is None else points
    sloped = torch.is_grad_enabled() and (x.requires_grad or t.requires_grad)
    return _Cubature.of(quotient, points, sloped, x, t)


class _Cubature(Fused):
    """K with its slopes, found together and a part of the batch at a time."""

    constants = 3
    first_only = LAWS

    @staticmethod
    def value(
        quotient: Quotient, points: int, sloped: bool, x: Tensor, t: Tensor
    ) -> tuple[Tensor, ...]:
        start, time = x.double(), t.double()
        shape = t.shape[: t.dim() - len(quotient.time_shape)]
        start = start.reshape(-1, *quotient.ambient_shape)
        time = time.reshape(-1, *quotient.time_shape)
        rows = max(1, CHUNK // (quotient.order * points**quotient.dim))
        pairs = zip(start.split(rows), time.split(rows), strict=True)
        if not sloped:
            parts = [_evaluate(quotient, points, *pair) for pair in pairs]
            return (torch.cat(parts).reshape(shape).to(x.dtype),)
        parts = [_with_slopes(quotient, points, *pair) for pair in pairs]
        value, along_x, along_t = (torch.cat(part) for part in zip(*parts, strict=True))
        return (
            value.reshape(shape).to(x.dtype),
            along_x.reshape(x.shape).to(x.dtype),
            along_t.reshape(t.shape).to(t.dtype),
        )

    @staticmethod
    def derivative(gradient: Tensor, *arguments: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(
            gradient.reshape(gradient.shape + (1,) * (slope.dim() - gradient.dim())) * slope
            for slope in arguments[-2:]
        )


@torch.enable_grad()
def _with_slopes(
    quotient: Quotient, points: int, x: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """K and its slopes along x and t, of a part of the batch."""
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    value = _evaluate(quotient, points, x, t)
    along_x, along_t = torch.autograd.grad(value.sum(), (x, t), allow_unused=True)
    return value.detach(), torch.zeros_like(x) if along_x is None else along_x, along_t


def _evaluate(quotient: Quotient, points: int, x: Tensor, t: Tensor) -> Tensor:
    """K of a part of the batch, float64."""
    value = kl_uniform(quotient.cover, x, t) - math.log(quotient.order)
    meeting = have_met(quotient, t.detach().reshape(len(t), -1).amax(-1)).nonzero().squeeze(-1)
    if not len(meeting):
        return value
    log_p, weight = log_densities(quotient.cover, x[meeting], t[meeting], points, quotient)
    return value.index_put((meeting,), from_densities(value[meeting], log_p, weight))


def have_met(quotient: Quotient, t: Tensor) -> Tensor:
    """Whether the images of a point have met at times t, of shape ``(*)``."""
    return ~(t * 8 * APART < quotient.shortest_loop**2)


def from_densities(apart: Tensor, log_p: Tensor, weight: Tensor) -> Tensor:
    """K by (1) and (2), of shape ``(n)``.

    Args:
        apart: K_M − log|Γ|, of shape ``(n)``.
        log_p: of every g at every node, the identity first, of shape ``(order, n, N)``.
        weight: of the nodes, of shape ``(n, N)``.
    """
    summed = torch.logsumexp(log_p, 0)
    early = apart + ((summed - log_p[0]) * weight).sum(-1)
    near = early.detach() < SWITCH
    if not bool(near.any()):
        return early
    log_f = summed - math.log(len(log_p))
    # log f + 1/f − 1; where (1) is taken instead, this must not overflow.
    small = torch.where(near.unsqueeze(-1), log_f, 0.0)
    late = (small.square() * expm1_defect(-small) * weight).sum(-1)
    return torch.where(near, late, early)
