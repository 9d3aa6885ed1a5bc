"""Features over a manifold: tuning curves over one dimension, tuning maps over two."""

import math

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from manifold_ae.plots.arrays import Array
from manifold_ae.plots.charts import Chart
from manifold_ae.plots.colours import CYCLIC
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
    positions = low + (high - low) * (np.arange(columns) + 0.5) / columns
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
            x, y = positions[peak[feature]], curves[feature].max()
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


def draw_maps(chart: Chart, values: Array, title: str) -> Figure:
    """A map of each of the features that vary most, up to 16, with one colour scale.

    Arguments:
        chart: a chart of two dimensions, or of slices of two.
        values: of shape ``(slices, rows, columns, features)``.
        title: the first line.
    """
    slices, rows, columns, features = values.shape
    most = MOST_MAPS if slices == 1 else 4
    spread = values.reshape(-1, features).std(0)
    chosen = np.sort(np.argsort(-np.round(spread, 12), kind="stable")[:most])
    panels = [(int(feature), k) for feature in chosen for k in range(slices)]
    across = slices if slices > 1 else min(4, len(panels))
    down = math.ceil(len(panels) / across)
    side = 1.8 if slices > 1 or rows != columns else 1.5
    gap_x, gap_y, left = 0.16, 0.34, 0.8
    height = side * rows / columns
    width = left + across * (side + gap_x) - gap_x
    notes = [chart.note] if chart.note else []
    if len(chosen) < features:
        notes.insert(0, f"{len(chosen)} of {features} features, those that vary most")
    sheet = Sheet(width + 0.75, down * (height + gap_y) + 0.48, title, ". ".join(notes))
    shown = None
    for panel, (feature, k) in enumerate(panels):
        row, column = divmod(panel, across)
        axes = sheet.axes(
            left + column * (side + gap_x), gap_y + row * (height + gap_y), side, height
        )
        shown = axes.imshow(
            values[k, :, :, feature],
            cmap="viridis",
            vmin=float(values[..., chosen].min()),
            vmax=float(values[..., chosen].max()),
            extent=chart.extent,
            interpolation="nearest",
            aspect="auto",
        )
        chart.across.draw(axes.xaxis, texts=panel + across >= len(panels), inner=True)
        if chart.up is not None:
            chart.up.draw(axes.yaxis, texts=column == 0, inner=True)
        where = f", {chart.slices[k]}" if chart.slices else ""
        panel_title(axes, f"feature {feature}{where}")
    colour_bar(sheet, shown, width + 0.12, gap_y, down * (height + gap_y) - gap_y)
    return sheet.figure
