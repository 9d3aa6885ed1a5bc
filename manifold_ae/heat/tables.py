"""Smooth functions of one or two variables, tabulated once and interpolated piecewise.

On each cell the function is its polynomial interpolant of degree 5 at Chebyshev–Lobatto points.
Neighbouring cells share their end points, so the interpolant is continuous to rounding, and its
derivative to the accuracy of the table. Tables are built in float64 and evaluated in the dtype
and on the device of their argument.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from manifold_ae.numerics import with_slopes

__all__ = ["Table1", "Table2", "lobatto_grid"]

DEGREE = 5
#: Chebyshev–Lobatto points of [0, 1].
_LOBATTO = (1 - np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)) / 2
#: Values at these points → monomial coefficients.
_TO_MONOMIALS = np.linalg.inv(np.vander(_LOBATTO, increasing=True))


def lobatto_grid(low: float, high: float, cells: int) -> np.ndarray:
    """All interpolation points of ``cells`` equal cells on [low, high]: cells · DEGREE + 1."""
    width = (high - low) / cells
    starts = low + width * np.arange(cells)
    points = starts[:, None] + width * _LOBATTO[:-1]
    return np.append(points.ravel(), high)


def _windows(values: np.ndarray, axis: int) -> np.ndarray:
    """Split an axis of cells · DEGREE + 1 shared points into (cells, DEGREE + 1)."""
    cells = (values.shape[axis] - 1) // DEGREE
    index = DEGREE * np.arange(cells)[:, None] + np.arange(DEGREE + 1)
    return np.take(values, index, axis)


def _powers(s: Tensor) -> Tensor:
    """s^k and, before its factor k, the derivative s^{k−1}, of shape ``(*, 2, DEGREE + 1)``.

    By products: torch's power costs more than all the rest of a lookup.
    """
    one = torch.ones_like(s)
    square = s * s
    ladder = [one, s, square, square * s, square * square, square * square * s]
    return torch.stack([*ladder, one, *ladder[:-1]], -1).unflatten(-1, (2, DEGREE + 1))


class _Table:
    """Polynomial cells over a box of equal intervals, with a straight one added at every end."""

    def __init__(self, ranges: list[tuple[float, float]], cells: list[int]) -> None:
        #: Position of x along an axis is x · rate + start; the whole part is the cell.
        self.rates = [n / (b - a) for (a, b), n in zip(ranges, cells, strict=True)]
        self.starts = [1 - a * r for (a, _), r in zip(ranges, self.rates, strict=True)]
        self.cells = [n + 2 for n in cells]
        self._copies: dict[tuple[torch.dtype, torch.device], tuple[Tensor, ...]] = {}
        self._master: Tensor

    def evaluate(self, *points: Tensor) -> tuple[Tensor, ...]:
        """Value, and the slope along each variable."""
        raise NotImplementedError

    def __call__(self, *points: Tensor) -> Tensor:
        return with_slopes(self.evaluate, *torch.broadcast_tensors(*points))

    def _tensors(self, like: Tensor) -> tuple[Tensor, ...]:
        """Coefficients; rates, starts, last cells, strides; factors of powers."""
        key = (like.dtype, like.device)
        if key not in self._copies:
            last = [n - 1 for n in self.cells]
            strides = [math.prod(self.cells[axis + 1 :]) for axis in range(len(self.cells))]
            k = np.arange(DEGREE + 1)
            factors = np.stack([[np.ones_like(k), rate * k] for rate in self.rates])
            rows = (self.rates, self.starts, last, strides, factors)
            with torch.inference_mode(False):
                self._copies[key] = (
                    self._master.to(like),
                    *(torch.tensor(np.asarray(row), dtype=key[0], device=key[1]) for row in rows),
                )
        return self._copies[key]

    def _locate(self, *points: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of the cell that holds a point, and powers of its position in the cell.

        The powers have shape ``(*, variables, 2, DEGREE + 1)``: s^k, and its derivative by the
        variable. Few and plain operations: this stands in every training step.
        """
        coefficients, rates, starts, last, strides, factors = self._tensors(points[0])
        position = torch.addcmul(starts, torch.stack(points, -1), rates)
        # fmin lets a NaN pass to the value, and not to the index.
        cell = torch.fmin(position.floor(), last).clamp_min_(0)
        powers = factors * _powers(position - cell)
        index = (cell * strides).sum(-1).long()
        found = coefficients.index_select(0, index.flatten())
        return found.view(*index.shape, *coefficients.shape[1:]), powers


def _to_cells(values: np.ndarray, axis: int, slopes: tuple[float, float]) -> np.ndarray:
    """Values on the shared points of an axis as monomials (cells + 2, DEGREE + 1), put last.

    The added cells hold straight lines; ``slopes`` are theirs, per cell.
    """
    monomials = np.moveaxis(_windows(values, axis), (axis, axis + 1), (-2, -1)) @ _TO_MONOMIALS.T
    first = np.zeros_like(monomials[..., :1, :])
    last = np.zeros_like(first)
    ends = np.take(values, [0, -1], axis=axis)
    ends = np.moveaxis(ends, axis, -1)
    first[..., 0, 0], first[..., 0, 1] = ends[..., 0] - slopes[0], slopes[0]
    last[..., 0, 0], last[..., 0, 1] = ends[..., 1], slopes[1]
    return np.concatenate([first, monomials, last], -2)


class Table1(_Table):
    """A function of u on [low, high], continued by straight lines of given slopes beyond."""

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        low: float,
        high: float,
        cells: int,
        *,
        slope_below: float = 0.0,
        slope_above: float = 0.0,
    ) -> None:
        super().__init__([(low, high)], [cells])
        values = np.asarray(function(lobatto_grid(low, high, cells)))
        slopes = (slope_below / self.rates[0], slope_above / self.rates[0])
        self._master = torch.from_numpy(_to_cells(values, 0, slopes))

    def evaluate(self, *points: Tensor) -> tuple[Tensor, ...]:
        block, powers = self._locate(*points)  # (*, 6), (*, 1, 2, 6)
        # Products and sums, not matmul, which autocast would round to half precision.
        return (block.unsqueeze(-2) * powers.squeeze(-3)).sum(-1).unbind(-1)


class Table2(_Table):
    """A function of (x, u) on a rectangle; constant beyond in x, straight lines beyond in u.

    ``function`` maps the grids of x and of u, of sizes m and n, to values of shape (m, n).
    """

    def __init__(
        self,
        function: Callable[[np.ndarray, np.ndarray], np.ndarray],
        x_range: tuple[float, float],
        x_cells: int,
        u_range: tuple[float, float],
        u_cells: int,
        *,
        slope_below: float = 0.0,
        slope_above: float = 0.0,
    ) -> None:
        super().__init__([x_range, u_range], [x_cells, u_cells])
        values = np.asarray(
            function(lobatto_grid(*x_range, x_cells), lobatto_grid(*u_range, u_cells))
        )
        slopes = (slope_below / self.rates[1], slope_above / self.rates[1])
        cells = _to_cells(values, 1, slopes)  # (m, u_cells, 6)
        value = _to_cells(cells, 0, (0.0, 0.0))  # (u_cells, 6, x_cells, 6)
        value = value.transpose(2, 0, 3, 1)  # (x_cells, u_cells, 6 of x, 6 of u)
        self._master = torch.from_numpy(value.reshape(-1, DEGREE + 1, DEGREE + 1).copy())

    def evaluate(self, *points: Tensor) -> tuple[Tensor, ...]:
        block, powers = self._locate(*points)  # (*, 6, 6), (*, 2, 2, 6)
        along_x, along_u = powers.unbind(-3)
        rows = (block.unsqueeze(-3) * along_u.unsqueeze(-2)).sum(-1)  # (*, 2 of u, 6 of x)
        both = (rows.unsqueeze(-3) * along_x.unsqueeze(-2)).sum(-1)  # (*, 2 of x, 2 of u)
        value, by_u, by_x, _ = both.flatten(-2).unbind(-1)
        return value, by_x, by_u
