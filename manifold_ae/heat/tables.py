"""Smooth functions of one or two variables, tabulated once and interpolated piecewise.

On each cell the function is its polynomial interpolant of degree 5 at Chebyshev–Lobatto points.
Neighbouring cells share their end points, so the interpolant is continuous to rounding, and its
derivative to the accuracy of the table. Tables are built in float64 and evaluated in the dtype
and on the device of their argument.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Table1", "Table2", "lobatto_grid"]

DEGREE = 5
_LOBATTO = -np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
#: Values at the Lobatto points of [−1, 1] → monomial coefficients.
_TO_MONOMIALS = np.linalg.inv(np.vander(_LOBATTO, increasing=True))


def lobatto_grid(low: float, high: float, cells: int) -> np.ndarray:
    """All interpolation points of ``cells`` equal cells on [low, high]: cells · DEGREE + 1."""
    width = (high - low) / cells
    starts = low + width * np.arange(cells)
    points = starts[:, None] + width * (_LOBATTO[:-1] + 1) / 2
    return np.append(points.ravel(), high)


def _windows(values: np.ndarray, axis: int) -> np.ndarray:
    """Split an axis of cells · DEGREE + 1 shared points into (cells, DEGREE + 1)."""
    cells = (values.shape[axis] - 1) // DEGREE
    index = DEGREE * np.arange(cells)[:, None] + np.arange(DEGREE + 1)
    return np.take(values, index, axis=axis)


class _Interpolated(torch.autograd.Function):
    """Value of a table at points, and its slopes: one node of the graph, first derivatives only.

    ``table.evaluate(*points)`` gives the value and a slope for every variable.
    """

    @staticmethod
    def forward(table: "_Table", *points: Tensor) -> tuple[Tensor, ...]:
        return table.evaluate(*points)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(gradient * slope for slope in ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: Any, table: "_Table", *points: Tensor) -> Any:
        moved = [
            point if dim is None else point.movedim(dim, 0)
            for point, dim in zip(points, in_dims[1:], strict=True)
        ]
        output = _Interpolated.apply(table, *torch.broadcast_tensors(*moved))
        return output, (0,) * len(output)


class _Table:
    """Cells on equal intervals, and where a point lies among them."""

    def __init__(self, ranges: list[tuple[float, float]], cells: list[int], values: np.ndarray):
        self.ranges, self.cells = ranges, cells
        self.widths = [(b - a) / n for (a, b), n in zip(ranges, cells, strict=True)]
        windows = values
        for axis in reversed(range(values.ndim)):
            windows = _windows(windows, axis)
        self._master = torch.from_numpy(self._to_monomials(windows))
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def _to_monomials(self, windows: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def evaluate(self, *points: Tensor) -> tuple[Tensor, ...]:
        """Value, and the slope along each variable."""
        raise NotImplementedError

    def __call__(self, *points: Tensor) -> Tensor:
        return _Interpolated.apply(self, *torch.broadcast_tensors(*points))[0]

    def _coefficients(self, like: Tensor) -> Tensor:
        key = (like.dtype, like.device)
        if key not in self._copies:
            self._copies[key] = self._master.to(dtype=like.dtype, device=like.device)
        return self._copies[key]

    def _locate(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Index of the cell that holds x, and the powers of the position in it, in [−1, 1]."""
        position = (x - self.ranges[axis][0]) / self.widths[axis]
        cell = position.floor().clamp_(0, self.cells[axis] - 1)
        s = torch.sub(2 * (position - cell), 1)
        square = s * s
        fourth = square * square
        powers = [torch.ones_like(s), s, square, s * square, fourth, s * fourth]
        return cell.long(), torch.stack(powers, -1)


#: d/ds of the powers 1, s, ..., s⁵ are these multiples of the powers before.
_SLOPES = tuple(range(1, DEGREE + 1))


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
        values = np.asarray(function(lobatto_grid(low, high, cells)))
        self.slopes_beyond = (slope_below, slope_above)
        super().__init__([(low, high)], [cells], values)

    def _to_monomials(self, windows: np.ndarray) -> np.ndarray:
        return windows @ _TO_MONOMIALS.T

    def evaluate(self, *points: Tensor) -> tuple[Tensor, ...]:
        (u,) = points
        inside = u.clamp(*self.ranges[0])
        cell, powers = self._locate(inside, 0)
        row = self._coefficients(u)[cell]
        value = (row * powers).sum(-1)
        slope = (row[..., 1:] * powers[..., :-1] * row.new_tensor(_SLOPES)).sum(-1)
        slope *= 2 / self.widths[0]
        return _beyond(u, inside, value, slope, self.slopes_beyond)


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
        values = np.asarray(
            function(lobatto_grid(*x_range, x_cells), lobatto_grid(*u_range, u_cells))
        )
        self.slopes_beyond = (slope_below, slope_above)
        super().__init__([x_range, u_range], [x_cells, u_cells], values)

    def _to_monomials(self, windows: np.ndarray) -> np.ndarray:
        monomials = np.einsum("aicj,ki,lj->ackl", windows, _TO_MONOMIALS, _TO_MONOMIALS)
        return np.ascontiguousarray(monomials).reshape(-1, DEGREE + 1, DEGREE + 1)

    def evaluate(self, *points: Tensor) -> tuple[Tensor, ...]:
        x, u = points
        inside_x, inside_u = x.clamp(*self.ranges[0]), u.clamp(*self.ranges[1])
        x_cell, x_powers = self._locate(inside_x, 0)
        u_cell, u_powers = self._locate(inside_u, 1)
        block = self._coefficients(x)[x_cell * self.cells[1] + u_cell]  # (*, 6, 6)
        along_x = (block @ u_powers.unsqueeze(-1)).squeeze(-1)
        along_u = (x_powers.unsqueeze(-2) @ block).squeeze(-2)
        value = (along_x * x_powers).sum(-1)
        multiples = block.new_tensor(_SLOPES)
        x_slope = (along_x[..., 1:] * x_powers[..., :-1] * multiples).sum(-1)
        u_slope = (along_u[..., 1:] * u_powers[..., :-1] * multiples).sum(-1)
        x_slope = torch.where(x == inside_x, x_slope * (2 / self.widths[0]), 0.0)
        u_slope *= 2 / self.widths[1]
        value, u_slope = _beyond(u, inside_u, value, u_slope, self.slopes_beyond)
        return value, x_slope, u_slope


def _beyond(
    u: Tensor, inside: Tensor, value: Tensor, slope: Tensor, slopes: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Continue by straight lines where u is outside the table."""
    excess = u - inside
    line = torch.where(excess < 0, slopes[0], slopes[1]).to(u.dtype)
    return value + line * excess, torch.where(excess == 0, slope, line)
