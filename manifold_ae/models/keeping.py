"""Whether what moves latents keeps them on a manifold."""

import math
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import FiniteGroup
from manifold_ae.manifolds import Manifold, Product, Quotient
from manifold_ae.models.transitions import Transition

__all__ = ["check_keeps", "columns_of"]

#: A point moved by ρ may be so far from the manifold, in float32.
ON_MANIFOLD = 1e-4
#: And so far apart may be what two coordinates of one point are moved to.
SAME = 1e-2


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
    for other in _other_coordinates(manifold, points):
        with torch.no_grad():
            there = transition.step(other.flatten(1), action).unflatten(-1, manifold.ambient_shape)
            apart = manifold.dist(moved, there).max().item()
        if not apart < SAME:
            raise ValueError(
                f"the representation takes two coordinates of one point of {manifold!r} {apart:.3g}"
                " apart: it moves the space that covers it, and not the points themselves; choose "
                "a manifold that the group acts on, such as a projective space for an orthogonal "
                "representation"
            )


@singledispatch
def _other_coordinates(manifold: Manifold, points: Tensor) -> list[Tensor]:
    """The same points by other coordinates, where they have any."""
    return []


@_other_coordinates.register
def _(manifold: Quotient, points: Tensor) -> list[Tensor]:
    return list(manifold.images(points)[1:])


@_other_coordinates.register
def _(manifold: Product, points: Tensor) -> list[Tensor]:
    parts = list(manifold.split(points))
    return [
        manifold.join([*parts[:k], other, *parts[k + 1 :]])
        for k, factor in enumerate(manifold.factors)
        for other in _other_coordinates(factor, parts[k])
    ]
