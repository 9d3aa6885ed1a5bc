"""Features over a manifold: tuning curves over one dimension, tuning maps over two."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from manifold_ae.plots.arrays import Array
from manifold_ae.plots.charts import Chart, notes_of
from manifold_ae.plots.colours import CYCLIC, PLAIN
from manifold_ae.plots.mosaic import colour_bar
from manifold_ae.plots.style import INK, TICK, Sheet, axis_label, panel_title

__all__ = ["draw_curves", "draw_maps"]

#: Features that are told apart as single curves; more of them are also shown as a heat map.
MOST_CURVES = 12

#: Panels of maps at most.
MOST_MAPS = 16


def draw_curves(chart: Chart, values: Array, title: str) -> Figure:
    """Each feature against position, and a heat map of all where there are many.

    A curve's colour is the position of its peak, by which the rows of the heat map are sorted.

    Arguments:
        chart: a chart of one dimension.
        values: of shape ``(1, 1, columns, features)``.
        title: the first line.
    """
    curves = values[0, 0].T
    features, columns = curves.shape
    low, high = chart.across.low, chart.across.high
    positions = _middles(chart, columns)
    peak = curves.argmax(1)
    order = np.argsort(peak, kind="stable")
    colours = (CYCLIC if chart.across.periodic else matplotlib.colormaps["viridis"])(
        (peak + 0.5) / columns
    )
    many = features > MOST_CURVES
    counted = f"{features} feature{'s' * (features > 1)}, coloured by the place of the peak"
    left, width, height, below = 0.75, 5.4, 2.2, 3.0
    sheet = Sheet(
        left + width + 0.75,
        height + 0.6 + (0.2 + below if many else 0.2),
        title,
        ". ".join(filter(None, [counted, chart.note])),
    )
    axes = sheet.axes(left, 0.1, width, height)
    for feature in order:
        axes.plot(
            positions, curves[feature], color=colours[feature], linewidth=1.0 if many else 1.8
        )
    if not many:
        # Room above the highest peak for the number that stands there.
        margin = 0.03 * float(np.ptp(curves) or 1.0)
        for feature in order:
            x, y = float(positions[peak[feature]]), float(curves[feature].max())
            axes.text(
                x,
                y + margin,
                str(feature),
                color=INK,
                ha="center",
                va="bottom",
                fontsize=TICK,
            )
        axes.set_ylim(top=float(curves.max()) + 6 * margin)
    axes.set_xlim(low, high)
    axes.spines[["top", "right"]].set_visible(False)
    chart.across.draw(axes.xaxis, texts=not many)
    axis_label(axes.yaxis, "feature value")
    if many:
        heat = sheet.axes(left, height + 0.35, width, below)
        shown = heat.imshow(
            curves[order],
            cmap="viridis",
            extent=(low, high, features, 0),
            interpolation="nearest",
            aspect="auto",
        )
        chart.across.draw(heat.xaxis)
        heat.set_yticks([])
        axis_label(heat.yaxis, "features, by place of peak")
        colour_bar(sheet, shown, left + width + 0.12, height + 0.35, below)
    return sheet.figure


def draw_maps(charts: Sequence[Chart], values: Sequence[Array], title: str) -> Figure:
    """A map of each of the features that vary most, up to 16, with one colour scale.

    Several charts or slices stand side by side, with up to four features in rows below each
    other; over one dimension a feature is a curve.

    Arguments:
        charts: charts of one or two dimensions, or of slices of two.
        values: for each chart, of shape ``(slices, rows, columns, features)``, NaN in cells that
            are not shown.
        title: the first line.
    """
    features = values[0].shape[-1]
    flat = np.concatenate([grid.reshape(-1, features) for grid in values])
    flat = flat[np.isfinite(flat[:, 0])]
    slices = [
        (chart, grid[k], k)
        for chart, grid in zip(charts, values, strict=True)
        for k in range(chart.panels)
    ]
    several = len(slices) > 1
    chosen = np.sort(
        np.argsort(-np.round(flat.std(0), 12), kind="stable")[: 4 if several else MOST_MAPS]
    )
    low, high = float(flat[:, chosen].min()), float(flat[:, chosen].max())
    panels = [(int(feature), *one) for feature in chosen for one in slices]
    across = len(slices) if several else min(4, len(panels))
    down = math.ceil(len(panels) / across)
    rows, columns = slices[0][1].shape[:2]
    side, left = (1.8 if several or rows != columns else 1.5), 0.8
    # Axes that differ from chart to chart need room for their labels, and titles a line more.
    own = len(charts) > 1
    gap_x, gap_y, below = (0.8, 0.52, 0.42) if own else (0.16, 0.34, 0.0)
    sizes = [_size(chart, grid, side) for chart, grid, _ in slices]
    step = max(height for _, height in sizes) + below + gap_y
    width = left + across * (side + gap_x) - gap_x
    notes = [notes_of(charts)] if notes_of(charts) else []
    if len(chosen) < features:
        notes.insert(0, f"{len(chosen)} of {features} features, those that vary most")
    sheet = Sheet(width + 0.75, down * step + 0.48, title, ". ".join(notes))
    for panel, (feature, chart, grid, k) in enumerate(panels):
        row, column = divmod(panel, across)
        place = left + column * (side + gap_x), gap_y + row * step
        axes = sheet.axes(*place, *sizes[panel % len(sizes)])
        if chart.up is None:
            axes.plot(_middles(chart, grid.shape[1]), grid[0, :, feature], color=PLAIN)
            margin = 0.04 * max(high - low, 1e-12)
            axes.set(xlim=chart.extent[:2], ylim=(low - margin, high + margin))
        else:
            axes.imshow(
                grid[..., feature],
                cmap="viridis",
                vmin=low,
                vmax=high,
                extent=chart.extent,
                interpolation="nearest",
                aspect="auto",
            )
            chart.finish(axes)
            axes.spines[:].set_visible(chart.shown is None)
            chart.up.draw(axes.yaxis, texts=column == 0 or (own and k == 0), inner=True)
        chart.across.draw(axes.xaxis, texts=own or panel + across >= len(panels), inner=True)
        where = [chart.slices[k]] if chart.slices else []
        panel_title(axes, ("\n" if own else ", ").join([f"feature {feature}", *where]))
    scale = ScalarMappable(Normalize(low, high), "viridis")
    colour_bar(sheet, scale, width + 0.12, gap_y, down * step - gap_y - below)
    return sheet.figure


def _size(chart: Chart, grid: Array, side: float) -> tuple[float, float]:
    """Width and height of a panel, of square cells in two dimensions."""
    rows, columns = grid.shape[:2]
    if chart.up is None:
        return side, side
    return side * min(1.0, columns / rows), side * min(1.0, rows / columns)


def _middles(chart: Chart, columns: int) -> Array:
    """Positions of the cells across."""
    low, high = chart.across.low, chart.across.high
    return low + (high - low) * (np.arange(columns) + 0.5) / columns
