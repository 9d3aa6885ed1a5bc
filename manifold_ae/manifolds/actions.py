"""The natural actions of groups on manifolds, for ``groups.Action``.

All but those on Euclidean space are by isometries. On ℝPᵈ a point is a vector up to sign, and so
is what it is moved to.
"""

import math
from typing import Any

import torch
from torch import Tensor

from manifold_ae import groups
from manifold_ae.groups.action import Action, Map, refuse_sizes, register
from manifold_ae.groups.base import Group, require_trailing
from manifold_ae.groups.matrix_group import OrthogonalGroup
from manifold_ae.manifolds.base import Manifold
from manifold_ae.manifolds.euclidean import Euclidean
from manifold_ae.manifolds.product import Product
from manifold_ae.manifolds.projective import RealProjective
from manifold_ae.manifolds.rotation import SO3
from manifold_ae.manifolds.sphere import Sphere
from manifold_ae.manifolds.torus import FlatTorus

#: How far a finite group's matrices may be from orthogonal.
_TOLERANCE = 1e-6


@register(Group, Euclidean)
@register(OrthogonalGroup, Sphere, RealProjective)
@register(groups.Torus, Sphere, RealProjective, FlatTorus)
@register(groups.SO2, FlatTorus)
def _on_vectors(G: Group, M: Manifold) -> Map:
    """G as it acts on vectors."""
    size = math.prod(M.ambient_shape)
    if G.degree != size:
        raise refuse_sizes(
            G, M, f"it moves vectors of size {G.degree}, points here have {size} coordinates"
        )
    return G.act


@register(groups.FiniteGroup, Sphere, RealProjective)
def _by_orthogonal_matrices(G: groups.FiniteGroup, M: Manifold) -> Map:
    act = _on_vectors(G, M)
    matrices = G.matrix(torch.tensor(G.generators, dtype=torch.int64), dtype=torch.float64)
    gap = matrices.mT @ matrices - torch.eye(matrices.shape[-1], dtype=torch.float64)
    if gap.numel() and float(gap.abs().amax()) > _TOLERANCE:
        raise refuse_sizes(G, M, "its matrices are not orthogonal")
    return act


@register(groups.FiniteGroup, FlatTorus)
def _on_every_circle(G: groups.FiniteGroup, M: FlatTorus) -> Map:
    act = _by_orthogonal_matrices(G, M)
    matrices = G.matrix(torch.tensor(G.generators, dtype=torch.int64), dtype=torch.float64)
    circle = torch.arange(matrices.shape[-1]) // 2
    if bool((matrices[:, circle[:, None] != circle].abs() > _TOLERANCE).any()):
        raise refuse_sizes(G, M, "its matrices mix the coordinates of several circles")
    return act


@register(groups.SO3, SO3)
def _on_rotations(G: groups.SO3, M: SO3) -> Map:
    """g·R = gR: what turns is the world, not the body."""

    def turned(g: Tensor, x: Tensor) -> Tensor:
        require_trailing(M, "x", x, M.ambient_shape)
        return G.compose(g, x)

    return turned


@register(groups.Product, Product)
def _on_every_factor(G: Any, M: Product) -> Map:
    if len(G.factors) != len(M.factors):
        raise refuse_sizes(
            G, M, f"it has {len(G.factors)} factors, the manifold has {len(M.factors)}"
        )
    actions = [Action(H, N) for H, N in zip(G.factors, M.factors, strict=True)]

    def moved(g: Tensor, x: Tensor) -> Tensor:
        parts = zip(actions, G.split(g), M.split(x), strict=True)
        return M.join(action(h, y) for action, h, y in parts)

    return moved
