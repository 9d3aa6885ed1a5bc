"""Distances between many points of a manifold, where they may be many."""

from functools import singledispatch

import torch
from torch import Tensor

from manifold_ae.manifolds import EmbeddedTorus, Manifold, Product, Submanifold

__all__ = ["gap", "pairwise"]

#: Pairs whose distances are computed at once.
CHUNK = 2**18


@singledispatch
def gap(M: Manifold, x: Tensor, y: Tensor) -> Tensor:
    """Distance of x from y, broadcast, of shape ``(*)``: geodesic where it has a closed form.

    Elsewhere, on the embedded torus and on submanifolds, the chord's length in the embedding.
    """
    return M.dist(x, y)


@gap.register(EmbeddedTorus)
@gap.register(Submanifold)
def _(M: Manifold, x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.vector_norm(M.embed(x) - M.embed(y), dim=-1)


@gap.register
def _(M: Product, x: Tensor, y: Tensor) -> Tensor:
    parts = M.each(lambda factor, x, y: gap(factor, x, y), x, y)
    return torch.linalg.vector_norm(torch.stack(parts), dim=0)


@torch.no_grad()
def pairwise(M: Manifold, x: Tensor, y: Tensor) -> Tensor:
    """Distances of points x ``(n, *)`` from points y ``(m, *)``, of shape ``(n, m)``."""
    rows = max(1, CHUNK // max(1, len(y)))
    return torch.cat([gap(M, part.unsqueeze(1), y.unsqueeze(0)) for part in x.split(rows)])
