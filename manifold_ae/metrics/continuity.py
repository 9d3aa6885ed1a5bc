"""Continuity: does the largest jump of a map shrink with the step?

Short segments of the source, on a grid of tori and at random elsewhere, are mapped; those with the
largest jumps are divided, and so again. Jumps of a continuous map shrink in the ratio of the
steps, at least in the end; a discontinuity stays in one part of a segment that crosses it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from manifold_ae.manifolds import FlatTorus, Manifold
from manifold_ae.manifolds.frames import oriented_frame
from manifold_ae.metrics.distances import gap

__all__ = ["Continuity", "continuity", "segments"]

#: Parts that a segment is divided into.
PARTS = 4
#: Segments with the largest jumps, which are divided.
WORST = 32


@dataclass(frozen=True)
class Continuity:
    """Largest jumps at ever smaller steps.

    Attributes:
        steps: lengths of the segments, each a quarter of the one before.
        jumps: the largest distance between the images of a segment's ends.
        continuous: True if the last jump is at most a quarter of the first; False if it is more
            than half of it; None between, where the map is steep or the steps are too long.
    """

    steps: tuple[float, ...]
    jumps: tuple[float, ...]

    @property
    def continuous(self) -> bool | None:
        first, last = self.jumps[0], self.jumps[-1]
        if last <= first / PARTS:
            return True
        return False if last > first / 2 else None


@torch.no_grad()
def continuity(
    f: Callable[[Tensor], Tensor],
    source: Manifold,
    target: Manifold,
    *,
    points: int = 4096,
    refinements: int = 2,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> Continuity:
    """The largest jump of f over short segments of the source, refined.

    Arguments:
        f: from points ``(n, *source.ambient_shape)`` to points ``(n, *target.ambient_shape)``.
        points: where segments start; their length is (Vol/points)^{1/d}.
        refinements: how often the segments with the largest jumps are divided by four.
        dtype: of the points that f is given.

    Raises:
        ValueError: if there are no refinements, without which nothing can be told.
    """
    if refinements < 1:
        raise ValueError(f"refinements = {refinements!r}: expected 1 or more")
    x, u = segments(source, points, generator, dtype)
    step = source.inner(x, u).sqrt().max().item()
    left, right = torch.zeros(len(x), dtype=dtype), torch.ones(len(x), dtype=dtype)
    steps, jumps = [], []
    for k in range(refinements + 1):
        if k:
            x, u = x.repeat_interleave(PARTS, 0), u.repeat_interleave(PARTS, 0)
            width = (right - left).repeat_interleave(PARTS) / PARTS
            parts = torch.arange(PARTS, dtype=dtype).repeat(len(left))
            left = left.repeat_interleave(PARTS) + parts * width
            right = left + width
        jump = gap(target, f(_along(source, x, u, left)), f(_along(source, x, u, right)))
        steps.append(step / PARTS**k)
        jumps.append(jump.max().item())
        worst = jump.argsort(descending=True)[:WORST].to(x.device)
        x, u, left, right = x[worst], u[worst], left[worst], right[worst]
    return Continuity(tuple(steps), tuple(jumps))


def _along(M: Manifold, x: Tensor, u: Tensor, part: Tensor) -> Tensor:
    return M.expmap(x, part.reshape(-1, *[1] * len(M.ambient_shape)) * u)


@singledispatch
def segments(
    M: Manifold, points: int, generator: torch.Generator | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Starts of short geodesics and their tangent vectors, of one length: at random."""
    x = M.random_uniform(points, generator=generator, dtype=dtype)
    directions = torch.randn(points, M.dim, generator=generator, dtype=dtype)
    length = (M.volume / points) ** (1 / M.dim)
    directions = length * directions / torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
    weights = directions.reshape(points, M.dim, *[1] * len(M.ambient_shape))
    return x, (weights * oriented_frame(M, x)).sum(1)


@segments.register
def _(
    M: FlatTorus, points: int, generator: torch.Generator | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Every edge of a square grid."""
    n = max(2, round(points ** (1 / M.dim)))
    axis = torch.arange(n, dtype=dtype) * (2 * math.pi / n)
    grid = torch.cartesian_prod(*[axis] * M.dim).reshape(-1, M.dim)
    x = M.from_angles(grid).repeat(M.dim, 1)
    angles = torch.eye(M.dim, dtype=dtype).repeat_interleave(len(grid), 0) * (2 * math.pi / n)
    return x, M._along(x, angles)
