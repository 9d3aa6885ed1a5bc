"""Clouds of points in the plane side by side on one scale: samples beside data, and a process."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.labels import colouring
from manifold_ae.plots.points import scatter
from manifold_ae.plots.style import Sheet, panel_title

__all__ = ["clouds"]


def clouds(
    points: Sequence[Any],
    names: Sequence[str],
    *,
    labels: Any = None,
    columns: int = 4,
    title: str | None = None,
) -> Figure:
    """Several sets of points in the plane, a panel each, all with the limits of them together.

    Arguments:
        points: arrays of shape ``(n, 2)``; n may differ.
        names: what stands above each panel.
        labels: of the points of every panel alike, as ``latents`` takes them; or None.
        columns: panels in a row.
        title: the first line.

    Raises:
        ValueError: if shapes are others, values are not finite, lengths do not fit, or columns is
            below 1.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(500, 2))
        >>> figure = clouds([x, 0.5 * x], ["data", "samples"])
    """
    if columns < 1:
        raise ValueError(f"columns = {columns}; expected at least 1")
    sets = [_checked(k, value) for k, value in enumerate(points)]
    if not sets or len(names) != len(sets):
        raise ValueError(f"names = {list(names)!r}; expected one for each of {len(sets)} clouds")
    everything = np.concatenate(sets)
    low, high = everything.min(0), everything.max(0)
    # One scale for both axes: the plane has one.
    reach = 0.53 * float((high - low).max()) or 1.0
    middle = (low + high) / 2
    columns = min(columns, len(sets))
    side, gap_x, gap_y = (2.9, 0.16, 0.42) if columns <= 3 else (2.05, 0.14, 0.4)
    rows = -(-len(sets) // columns)
    colours = [colouring(labels, len(value)) for value in sets]
    left, top = 0.35, 0.3
    width = left + columns * (side + gap_x) - gap_x
    sheet = Sheet(width + colours[0].width, top + rows * (side + gap_y) - gap_y + 0.25, title or "")
    for panel, (value, name) in enumerate(zip(sets, names, strict=True)):
        row, column = divmod(panel, columns)
        axes = sheet.axes(left + column * (side + gap_x), top + row * (side + gap_y), side, side)
        axes.set(
            xlim=(middle[0] - reach, middle[0] + reach),
            ylim=(middle[1] - reach, middle[1] + reach),
            aspect="equal",
        )
        axes.locator_params(nbins=5)
        last = panel + columns >= len(sets)
        axes.tick_params(labelleft=column == 0, labelbottom=last)
        scatter(axes, (value[:, 0], value[:, 1]), colours[panel])
        panel_title(axes, str(name))
    colours[0].draw_key(sheet, width, top)
    return sheet.figure


def _checked(k: int, values: Any) -> Array:
    array = as_array(values)
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise ValueError(
            f"points[{k}] has shape {array.shape}; expected (n, 2), n at least 1: of more "
            "features, choose two"
        )
    return check_finite(f"points[{k}]", array, "look at the model that made them")
