"""How often something succeeded, over two settings, for several methods and conditions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from manifold_ae.plots.arrays import Array, as_array
from manifold_ae.plots.mosaic import colour_bar
from manifold_ae.plots.style import INK, MUTED, TICK, Sheet, axis_label, panel_title

__all__ = ["success_maps"]

#: Side of a cell, gaps between panels, and room for labels on the left and below, in inches.
SIDE, GAP, LEFT, BELOW, HEAD = 0.5, 0.3, 0.6, 0.44, 0.56
#: Of failures and of successes, told apart by lightness as well.
CMAP = "cividis"


def success_maps(
    won: Any,
    of: Any,
    *,
    methods: Sequence[str],
    conditions: Sequence[str],
    rows: Sequence[Any],
    columns: Sequence[Any],
    labels: tuple[str, str] = ("", ""),
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """A heat map for each method and condition: the part of runs that succeeded, and their number.

    A cell without runs is left white, with a dash.

    Arguments:
        won: successes, integers ``(methods, conditions, rows, columns)``.
        of: runs, of the same shape.
        methods: names, of rows of panels.
        conditions: names, of columns of panels.
        rows, columns: values of the two settings; rows from the top.
        labels: names of the two settings.
        title, subtitle: first lines.

    Raises:
        ValueError: unless shapes fit the names, and 0 ≤ won ≤ of in integers.

    Example:
        >>> names = {"methods": ["a"], "conditions": ["b"], "rows": [1], "columns": [1, 2]}
        >>> figure = success_maps([[[[2, 0]]]], [[[[2, 3]]]], **names)
    """
    shape = (len(methods), len(conditions), len(rows), len(columns))
    if min(shape) == 0:
        raise ValueError(f"methods, conditions, rows and columns are {shape}: expected none empty")
    counts, runs = _counts("won", won, shape), _counts("of", of, shape)
    if (counts > runs).any():
        where = tuple(int(i) for i in np.argwhere(counts > runs)[0])
        raise ValueError(
            f"won = {counts[where]} of {runs[where]} runs at {where}: expected at most as many"
        )
    width, height = SIDE * len(columns), SIDE * len(rows)
    step_x, step_y = width + GAP, height + HEAD
    right = LEFT + step_x * len(conditions) - GAP
    bottom = step_y * len(methods) + BELOW
    sheet = Sheet(right + 0.75, bottom, title, subtitle)
    norm = Normalize(0, 1)
    scale = ScalarMappable(norm, CMAP)
    for i, method in enumerate(methods):
        for j, condition in enumerate(conditions):
            axes = sheet.axes(LEFT + j * step_x, HEAD + i * step_y, width, height)
            share = np.ma.masked_array(counts[i, j] / runs[i, j].clip(1), runs[i, j] == 0)
            axes.imshow(share, cmap=CMAP, norm=norm, interpolation="nearest", aspect="auto")
            panel_title(axes, f"{method}\n{condition}" if j == 0 else condition)
            axes.set_xticks(range(len(columns)), [str(c) for c in columns])
            axes.set_yticks(range(len(rows)), [str(r) for r in rows])
            axes.tick_params(
                length=0, labelleft=j == 0, labelbottom=i == len(methods) - 1, labelsize=TICK
            )
            if j == 0:
                axis_label(axes.yaxis, labels[0])
            if i == len(methods) - 1:
                axis_label(axes.xaxis, labels[1])
            for (row, column), number in np.ndenumerate(runs[i, j]):
                done = counts[i, j, row, column]
                light = number and done / number > 0.5
                axes.text(
                    column,
                    row,
                    f"{done}/{number}" if number else "–",
                    ha="center",
                    va="center",
                    fontsize=TICK,
                    color=INK if light else MUTED if not number else "white",
                )
    colour_bar(sheet, scale, right + 0.12, HEAD, height)
    return sheet.figure


def _counts(name: str, values: Any, shape: tuple[int, ...]) -> Array:
    """Numbers of runs as integers, or a ValueError."""
    array = as_array(values)
    if array.shape != shape:
        raise ValueError(
            f"{name} has shape {array.shape}: expected {shape}, methods, conditions, rows, columns"
        )
    if array.dtype.kind not in "iu" or (array < 0).any():
        raise ValueError(f"{name} of dtype {array.dtype}: expected integers of at least 0")
    return array
