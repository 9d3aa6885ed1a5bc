"""Products: factor by factor, equal factors in the order that fits best.

Flat tori among the factors are one flat torus, and Euclidean spaces one Euclidean space, with all
the maps that those have. Which of the other factors of one kind goes where is decided by the least
sum of squared chords, over all permutations.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from manifold_ae.manifolds import Euclidean, FlatTorus, Manifold, Product
from manifold_ae.metrics.isometries.base import Isometry, nearest_isometry

__all__ = ["ProductIsometry"]

#: Kinds of which several together are one of the same kind.
JOINED: tuple[Callable[[int], Manifold], ...] = (FlatTorus, Euclidean)


@dataclass(frozen=True, eq=False)
class ProductIsometry(Isometry):
    """An isometry of every group of factors.

    Attributes:
        parts: (where from, isometry, where to): the factors, by their numbers, whose coordinates
            it takes, and those whose coordinates it gives.
    """

    manifold: Product
    parts: tuple[tuple[tuple[int, ...], Isometry, tuple[int, ...]], ...]

    def apply(self, x: Tensor) -> Tensor:
        given = self.manifold.split(x)
        moved: list[Tensor] = list(given)
        for source, isometry, target in self.parts:
            if len(source) == 1:
                moved[target[0]] = isometry.apply(given[source[0]])
                continue
            joined = isometry.apply(torch.cat([given[k] for k in source], -1))
            sizes = [math.prod(self.manifold.factors[k].ambient_shape) for k in target]
            for k, part in zip(target, joined.split(sizes, -1), strict=True):
                moved[k] = part
        return self.manifold.join(moved)

    @property
    def words(self) -> str:
        lines = []
        for source, isometry, target in self.parts:
            name = "×".join(repr(self.manifold.factors[k]) for k in source)
            places = f"factor {_numbers(source)}"
            if source != target:
                places += f" to {_numbers(target)}"
            lines.append(f"{name} ({places}): {isometry.words}")
        return "; ".join(lines)


@nearest_isometry.register
def _(M: Product, a: Tensor, b: Tensor, rng: np.random.Generator) -> ProductIsometry:
    first, second = M.split(a), M.split(b)
    parts: list[tuple[tuple[int, ...], Isometry, tuple[int, ...]]] = []
    for kind, members in _groups(M.factors):
        if kind is not None:
            whole = kind(sum(M.factors[k].dim for k in members))
            x, y = (torch.cat([points[k] for k in members], -1) for points in (first, second))
            parts.append((members, nearest_isometry(whole, x, y, rng), members))
            continue
        N = M.factors[members[0]]
        fits = [[nearest_isometry(N, first[i], second[j], rng) for j in members] for i in members]
        costs = [
            [
                _squared_chords(N, fit.apply(first[i]), second[j])
                for fit, j in zip(row, members, strict=True)
            ]
            for row, i in zip(fits, members, strict=True)
        ]
        for i, j in zip(*linear_sum_assignment(costs), strict=True):
            parts.append(((members[i],), fits[i][j], (members[j],)))
    return ProductIsometry(M, tuple(sorted(parts, key=lambda part: part[0])))


def _groups(
    factors: Sequence[Manifold],
) -> list[tuple[Callable[[int], Manifold] | None, tuple[int, ...]]]:
    """The factors that may be mixed or exchanged, by their numbers, and what they are joined to."""
    groups: dict[object, list[int]] = {}
    for k, factor in enumerate(factors):
        key = type(factor) if type(factor) in JOINED else factor
        groups.setdefault(key, []).append(k)
    return [
        (key if key in JOINED and len(members) > 1 else None, tuple(members))  # type: ignore[misc]
        for key, members in groups.items()
    ]


def _squared_chords(M: Manifold, x: Tensor, y: Tensor) -> float:
    return (x - M.nearest(x, y)).square().sum().item()


def _numbers(members: tuple[int, ...]) -> str:
    return ", ".join(str(k + 1) for k in members)
