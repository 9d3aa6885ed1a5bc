r"""Which action leads from one latent to another: the least of |z₂ − ρ(g) z₁|² over the group.

A finite group is searched whole. On a Lie group the function of algebra coordinates X has several
minima (ρ wraps), so the search starts from the best of many random elements and from zero, and goes
down by Levenberg's and Marquardt's method, every sample on its own.
"""

import torch
from torch import Tensor

from manifold_ae.groups import FiniteGroup, LieGroup
from manifold_ae.models.transitions import Transition

__all__ = ["infer_action"]

#: Random elements to start from, of which so many best are followed for so many steps.
STARTS, FOLLOWED, STEPS = 256, 4, 25


def infer_action(transition: Transition, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Actions ``(*, dim)``, or ``(*)`` for a finite group, and the least squared distance ``(*)``.

    For latents ``(*, size)``. Deterministic: the starting points are always the same.
    """
    batch = torch.broadcast_shapes(before.shape[:-1], after.shape[:-1])
    z = before.expand(*batch, -1).reshape(-1, before.shape[-1])
    target = after.expand(*batch, -1).reshape(-1, before.shape[-1])
    group = transition.group
    if isinstance(group, FiniteGroup):
        elements = torch.arange(group.order, device=z.device)
        value, index = _distances(transition, z, target, elements).min(-1)
        return index.reshape(batch), value.reshape(batch)
    assert isinstance(group, LieGroup)
    generator = torch.Generator().manual_seed(0)
    random = group.random(STARTS - 1, generator=generator, dtype=torch.float64)
    starts = torch.cat([torch.zeros(1, group.dim, dtype=torch.float64), group.log(random)])
    starts = starts.to(z)
    best = _distances(transition, z, target, starts).topk(FOLLOWED, largest=False).indices
    x = starts[best]  # (n, FOLLOWED, dim)
    z, target = (
        z.unsqueeze(1).expand(-1, FOLLOWED, -1),
        target.unsqueeze(1).expand(-1, FOLLOWED, -1),
    )
    x, value = _descend(transition, z, target, x)
    chosen = value.argmin(1)
    rows = torch.arange(len(x), device=x.device)
    found = group.log(group.exp(x[rows, chosen]))  # the principal one of equal actions
    return found.reshape(*batch, group.dim), value[rows, chosen].reshape(batch)


def _distances(transition: Transition, z: Tensor, target: Tensor, actions: Tensor) -> Tensor:
    """|target − ρ(g) z|² for every sample and every action, ``(n, k)``."""
    k = len(actions)
    parts = []
    for some, goal in zip(z.split(1024), target.split(1024), strict=True):
        moved = transition.step(
            some.unsqueeze(1).expand(-1, k, -1), actions.expand(len(some), *actions.shape)
        )
        parts.append((goal.unsqueeze(1) - moved).square().sum(-1))
    return torch.cat(parts)


def _descend(transition: Transition, z: Tensor, target: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Levenberg and Marquardt on the residual, from x ``(*, dim)``."""

    def residual(x: Tensor, z: Tensor, target: Tensor) -> Tensor:
        return target - transition.step(z, x)

    def value(x: Tensor) -> Tensor:
        return residual(x, z, target).square().sum(-1)

    shape, dim = x.shape, x.shape[-1]
    jacobian = torch.func.vmap(torch.func.jacrev(residual))
    damping = torch.full(shape[:-1], 1e-2, dtype=x.dtype, device=x.device)
    eye = torch.eye(dim, dtype=x.dtype, device=x.device)
    best = value(x)
    for _ in range(STEPS):
        rows = [a.reshape(-1, a.shape[-1]) for a in (x, z, target)]
        j = jacobian(*rows).reshape(*shape[:-1], -1, dim)
        normal = j.mT @ j
        slope = (j.mT @ residual(x, z, target).unsqueeze(-1)).squeeze(-1)
        # Relative to the curvature, and never singular.
        size = normal.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(torch.finfo(x.dtype).tiny)
        lift = ((damping + torch.finfo(x.dtype).eps) * size)[..., None, None] * eye
        trial = x - torch.linalg.solve(normal + lift, slope)
        reached = value(trial)
        better = reached < best
        x = torch.where(better.unsqueeze(-1), trial, x)
        best = torch.where(better, reached, best)
        damping = torch.where(better, damping / 5, damping * 5).clamp(1e-8, 1e8)
    return x, best
