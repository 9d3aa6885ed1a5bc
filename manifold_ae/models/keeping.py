"""Whether what moves latents keeps them on a manifold."""

import math
from typing import Any

import torch

from manifold_ae.groups import FiniteGroup
from manifold_ae.manifolds import Manifold
from manifold_ae.models.transitions import Transition

__all__ = ["check_keeps", "columns_of"]

#: A point moved by ρ may be so far from the manifold, in float32.
ON_MANIFOLD = 1e-4


def columns_of(manifold: Manifold, representation: Any) -> int:
    """How many vectors of ρ's size make a point of M."""
    whole = math.prod(manifold.ambient_shape)
    if manifold.ambient_shape[0] != representation.size:
        raise ValueError(
            f"a representation of size {representation.size} does not act on points of {manifold!r}"
            f", of shape {manifold.ambient_shape}: expected size {manifold.ambient_shape[0]}"
        )
    return whole // representation.size


def check_keeps(manifold: Manifold, transition: Transition) -> None:
    """Refuse a transition that takes points off the manifold."""
    generator = torch.Generator().manual_seed(0)
    like = next(transition.parameters(), torch.zeros(()))
    where = {"dtype": like.dtype, "device": like.device}
    prior: Any = manifold.default_prior()
    points = prior.sample((16,), generator=generator).to(**where)
    z = points.flatten(1)
    if z.shape[-1] != transition.size:
        raise ValueError(
            f"a transition of latents of size {transition.size} does not act on points of "
            f"{manifold!r}, of shape {manifold.ambient_shape}"
        )
    group = transition.group
    if isinstance(group, FiniteGroup):
        action = torch.arange(16, device=like.device) % group.order
    else:
        action = torch.randn(16, group.dim, generator=generator).to(**where)
    with torch.no_grad():
        moved = transition.step(z, action).unflatten(-1, manifold.ambient_shape)
        gap = (moved - manifold.projx(moved)).abs().max().item()
    if not gap < ON_MANIFOLD:
        raise ValueError(
            f"the representation takes points of {manifold!r} off it, by {gap:.3g}: expected one "
            "that keeps it, such as an orthogonal one on a sphere, blocks=[2] * d on a flat torus"
        )
