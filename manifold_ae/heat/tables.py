"""Smooth functions of one or two variables, tabulated once and interpolated piecewise.

On each cell the function is its polynomial interpolant of degree 5 at Chebyshev–Lobatto points.
Neighbouring cells share their end points, so the interpolant is continuous to rounding, and its
derivative to the accuracy of the table. Tables are built in float64 and evaluated in the dtype
and on the device of their argument.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

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


class _Cached:
    """float64 coefficients, with a copy for every (dtype, device) that asked."""

    def __init__(self, coefficients: np.ndarray) -> None:
        self._copies = {
            (torch.float64, torch.device("cpu")): torch.from_numpy(coefficients.copy())
        }
        self._master = torch.from_numpy(coefficients.copy())

    def like(self, x: Tensor) -> Tensor:
        key = (x.dtype, x.device)
        if key not in self._copies:
            self._copies[key] = self._master.to(dtype=x.dtype, device=x.device)
        return self._copies[key]


def _locate(x: Tensor, low: float, width: float, cells: int) -> tuple[Tensor, Tensor]:
    """Index of the cell that holds x, and the position in it, in [−1, 1]."""
    position = (x - low) / width
    cell = position.detach().floor().clamp(0, cells - 1)
    return cell.long(), 2 * (position - cell) - 1


class Table1:
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
        self.low, self.high, self.cells = low, high, cells
        self.slope_below, self.slope_above = slope_below, slope_above
        self._coefficients = _Cached(_windows(values, 0) @ _TO_MONOMIALS.T)

    def __call__(self, u: Tensor) -> Tensor:
        inside = u.clamp(self.low, self.high)
        width = (self.high - self.low) / self.cells
        cell, s = _locate(inside, self.low, width, self.cells)
        coefficients = self._coefficients.like(u)[cell].unbind(-1)
        result = coefficients[-1]
        for coefficient in reversed(coefficients[:-1]):
            result = torch.addcmul(coefficient, result, s)
        if self.slope_below == self.slope_above == 0:
            return result
        below = (u - self.low).clamp_max(0)
        above = (u - self.high).clamp_min(0)
        return result + self.slope_below * below + self.slope_above * above


class Table2:
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
        self.x_range, self.x_cells = x_range, x_cells
        self.u_range, self.u_cells = u_range, u_cells
        self.slope_below, self.slope_above = slope_below, slope_above
        windows = _windows(_windows(values, 1), 0)  # (x_cells, 6, u_cells, 6)
        coefficients = np.einsum("aicj,ki,lj->ackl", windows, _TO_MONOMIALS, _TO_MONOMIALS)
        shape = (x_cells * u_cells, DEGREE + 1, DEGREE + 1)
        self._coefficients = _Cached(coefficients.reshape(shape))

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        x, u = torch.broadcast_tensors(x, u)
        inside_x, inside_u = x.clamp(*self.x_range), u.clamp(*self.u_range)
        x_width = (self.x_range[1] - self.x_range[0]) / self.x_cells
        u_width = (self.u_range[1] - self.u_range[0]) / self.u_cells
        x_cell, s = _locate(inside_x, self.x_range[0], x_width, self.x_cells)
        u_cell, w = _locate(inside_u, self.u_range[0], u_width, self.u_cells)
        rows = self._coefficients.like(x)[x_cell * self.u_cells + u_cell]  # (*, 6, 6)
        s = s.unsqueeze(-1)
        row = rows[..., -1, :]
        for k in reversed(range(DEGREE)):
            row = torch.addcmul(rows[..., k, :], row, s)
        result = row[..., -1]
        for k in reversed(range(DEGREE)):
            result = torch.addcmul(row[..., k], result, w)
        below = (u - self.u_range[0]).clamp_max(0)
        above = (u - self.u_range[1]).clamp_min(0)
        return result + self.slope_below * below + self.slope_above * above
