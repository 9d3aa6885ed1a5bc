r"""Which action leads from one latent to another: the least of |z₂ − ρ(g) z₁|² over the group.

A finite group is searched whole. On a Lie group the function of algebra coordinates X has several
minima (ρ wraps), so the search starts from the best of many random elements and from zero, and goes
down by Levenberg's and Marquardt's method, every sample on its own.
"""

import torch
from torch import Tensor

from manifold_ae.groups import FiniteGroup, LieGroup
from manifold_ae.groups.base import broadcast
from manifold_ae.models.transitions import Transition

__all__ = ["infer_action"]

#: Random elements to start from; of these the best so many are followed for so many steps, and of
#: those again: representations of degree 2 and more have local minima, in which a few would stop.
STARTS, STAGES = 512, ((24, 5), (4, 20))


def infer_action(transition: Transition, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Actions ``(*, dim)``, or ``(*)`` for a finite group, and the least squared distance ``(*)``.

    For latents ``(*, size)``. Deterministic: the starting points are always the same.

    Raises:
        ValueError: if a latent is not finite, or shapes do not fit.
    """
    size = transition.size
    shapes = tuple(before.shape), tuple(after.shape)
    if any(shape[-1:] != (size,) for shape in shapes) or not broadcast(
        shapes[0][:-1], shapes[1][:-1]
    ):
        raise ValueError(
            f"before and after of shapes {shapes[0]} and {shapes[1]}: expected latents (*, {size}) "
            "whose batch axes broadcast, one after for every before"
        )
    batch = torch.broadcast_shapes(before.shape[:-1], after.shape[:-1])
    z = before.expand(*batch, -1).reshape(-1, before.shape[-1])
    target = after.expand(*batch, -1).reshape(-1, before.shape[-1])
    if not (torch.isfinite(z).all() and torch.isfinite(target).all()):
        raise ValueError("latents are not finite: look at the observations, and at the weights")
    group = transition.group
    if isinstance(group, FiniteGroup):
        elements = torch.arange(group.order, device=z.device)
        value, index = _distances(transition, z, target, elements).min(-1)
        return index.reshape(batch), value.reshape(batch)
    assert isinstance(group, LieGroup)
    if not len(z):
        return z.new_zeros(*batch, group.dim), z.new_zeros(batch)
    generator = torch.Generator().manual_seed(0)
    random = group.random(STARTS - 1, generator=generator, dtype=torch.float64)
    starts = torch.cat([torch.zeros(1, group.dim, dtype=torch.float64), group.log(random)])
    starts = starts.to(z)
    value = _distances(transition, z, target, starts)
    x = starts.expand(len(z), *starts.shape)
    for followed, steps in STAGES:
        best = value.topk(followed, largest=False).indices  # (n, followed)
        x = x.gather(1, best.unsqueeze(-1).expand(-1, -1, group.dim))
        start, goal = (a.unsqueeze(1).expand(-1, followed, -1) for a in (z, target))
        x, value = _descend(transition, start, goal, x, steps)
    chosen = value.argmin(1)
    rows = torch.arange(len(x), device=x.device)
    found = principal(group, x[rows, chosen])
    return found.reshape(*batch, group.dim), value[rows, chosen].reshape(batch)


def principal(group: LieGroup, X: Tensor) -> Tensor:
    """Of the actions that do what X do, the principal ones; X itself where there is none."""
    g = group.exp(X)
    holds = group.has_log(g)
    found = X.clone()
    found[holds] = group.log(g[holds])
    return found


def _distances(transition: Transition, z: Tensor, target: Tensor, actions: Tensor) -> Tensor:
    """|target − ρ(g) z|² for every sample and every action, ``(n, k)``."""
    parts = []
    for some, goal in zip(z.split(1024), target.split(1024), strict=True):
        moved = transition.step(some.unsqueeze(1), actions)
        parts.append((goal.unsqueeze(1) - moved).square().sum(-1))
    return torch.cat(parts)


def _descend(
    transition: Transition, z: Tensor, target: Tensor, x: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
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
    for _ in range(steps):
        rows = [a.reshape(-1, a.shape[-1]) for a in (x, z, target)]
        j = jacobian(*rows).reshape(*shape[:-1], -1, dim)
        normal = j.mT @ j
        slope = (j.mT @ residual(x, z, target).unsqueeze(-1)).squeeze(-1)
        # Relative to the curvature, and never singular.
        size = normal.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(torch.finfo(x.dtype).tiny)
        lift = ((damping + torch.finfo(x.dtype).eps) * size)[..., None, None] * eye
        trial = x - torch.linalg.solve_ex(normal + lift, slope)[0]  # not finite, it is not better
        reached = value(trial)
        better = reached < best
        x = torch.where(better.unsqueeze(-1), trial, x)
        best = torch.where(better, reached, best)
        damping = torch.where(better, damping / 5, damping * 5).clamp(1e-8, 1e8)
    return x, best
