r"""Smooth functions of one variable by polynomials on equal cells, to rounding.

A series of sixty waves costs sixty cosines at every point; on a cell a polynomial of degree
``DEGREE`` through Chebyshev points has the same digits, for one row of a table and Horner's rule.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

__all__ = ["Piecewise"]

#: Degree on each cell; part of the largest value that the last two coefficients may reach.
DEGREE, RESOLVED = 11, 1e-15
#: Cells to begin with, and at most.
CELLS, MAX_CELLS = 16, 4096


class Piecewise:
    """Several functions on [start, stop], or of that period.

    Arguments:
        function: from points of shape ``(n,)`` to values of shape ``(n, k)``, both NumPy's.
        start, stop: of the interval.
        periodic: whether points are taken back into it; otherwise the values half a cell beyond
            the ends are those of all points further out.
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        start: float,
        stop: float,
        periodic: bool = False,
    ) -> None:
        self._start, self._periodic = start, periodic
        k = np.arange(DEGREE + 1)
        nodes = np.cos((2 * k + 1) * np.pi / (2 * (DEGREE + 1)))
        to_series = np.linalg.inv(chebyshev.chebvander(nodes, DEGREE))
        to_powers = np.zeros((DEGREE + 1, DEGREE + 1))
        for j, row in enumerate(np.eye(DEGREE + 1)):
            to_powers[j, : j + 1] = chebyshev.cheb2poly(row)[: j + 1]
        cells = CELLS
        while True:
            width = (stop - start) / cells
            middles = start + width * (np.arange(cells) + 0.5)
            values = function((middles + width / 2 * nodes[:, None]).ravel())
            series = np.einsum("jk,kcf->jcf", to_series, values.reshape(len(nodes), cells, -1))
            last = np.abs(series[-2:]).max((0, 1))
            if (last <= RESOLVED * np.abs(values).max(0)).all() or cells >= MAX_CELLS:
                break
            cells *= 2
        self._cells, self._width = cells, width
        #: Powers of the place in the cell, from −1 to 1, the highest first: (DEGREE + 1, cells, k).
        self._table = np.einsum("jp,jcf->pcf", to_powers, series)[::-1].copy()
        self._copies: dict[torch.device, Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Values at points x ``(*)``, float64, of shape ``(*, k)``; differentiable."""
        if x.device not in self._copies:
            with torch.inference_mode(False):
                self._copies[x.device] = torch.tensor(self._table, device=x.device)
        table = self._copies[x.device]
        place = (x - self._start) / self._width
        if self._periodic:
            place = torch.remainder(place, self._cells)
        # A point that is not finite has no cell, and is NaN in any.
        cell = place.detach().nan_to_num(0.0).long().clamp(0, self._cells - 1)
        # At most half a cell beyond the ends, where the polynomials still hold.
        within = (2 * (place - cell) - 1).clamp(-2, 2).unsqueeze(-1)
        rows = table.index_select(1, cell.reshape(-1)).unflatten(1, cell.shape)
        result = rows[0]
        for row in rows[1:]:
            result = torch.addcmul(row, result, within)
        return result
