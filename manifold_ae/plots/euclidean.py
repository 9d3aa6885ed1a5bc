"""Pictures of Euclidean space, against its prior: the standard normal."""

import math
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from mpl_toolkits.mplot3d.axes3d import Axes3D

from manifold_ae.manifolds import Euclidean
from manifold_ae.plots.arrays import Array
from manifold_ae.plots.charts import Chart, Ticks, cells, chart_grid
from manifold_ae.plots.circle import spread
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import draw_pairs, draw_points, scatter, subscript
from manifold_ae.plots.style import FAINT, MUTED, TICK, Sheet, axis_label

__all__: list[str] = []


@draw_points.register(Euclidean)
def _points(manifold: Euclidean, points: Array, colours: Colouring, title: str) -> Figure:
    if manifold.dim == 1:
        return _line(points[:, 0], colours, title)
    if manifold.dim == 2:
        return _plane(points, colours, title)
    if manifold.dim == 3:
        return _space(points, colours, title)
    return draw_pairs(points, points.var(0), "z", "coordinates", colours, title)


def _line(values: Array, colours: Colouring, title: str) -> Figure:
    width = 6.0
    sheet = Sheet(width + colours.width, 2.6, title)
    axes = sheet.axes(0.1, 0.05, width - 0.2, 2.0)
    offset, density = spread(values)
    low, high = min(-3.0, float(values.min())), max(3.0, float(values.max()))
    grid = np.linspace(low, high, 400)
    prior = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi) / density
    for sign in (-1, 1):
        axes.plot(grid, sign * prior, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    top = 1.08 * max(1.0, float(prior.max()))
    axes.text(0, top, "N(0, 1), the prior", ha="center", va="bottom", fontsize=TICK, color=MUTED)
    scatter(axes, (values, offset), colours)
    margin = 0.02 * (high - low)
    axes.set(xlim=(low - margin, high + margin), ylim=(-top, 1.2 * top), yticks=[])
    axes.spines[["left", "right", "top"]].set_visible(False)
    axis_label(axes.xaxis, "z")
    colours.draw_key(sheet, width, 0.05)
    return sheet.figure


def _frame(axes: Axes, limit: float) -> None:
    """Circles at one, two and three standard deviations of the prior."""
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    for radius in (1, 2, 3):
        axes.add_patch(
            Circle((0, 0), radius, facecolor="none", edgecolor=FAINT, linewidth=1.0, zorder=0)
        )


def _limit(points: Array) -> float:
    return 1.06 * max(3.0, float(np.abs(points).max()))


def _plane(points: Array, colours: Colouring, title: str) -> Figure:
    side, left = 4.4, 0.65
    sheet = Sheet(
        left + side + colours.width,
        side + 0.6,
        title,
        "Circles: one, two and three standard deviations of the prior",
    )
    axes = sheet.axes(left, 0.05, side, side)
    _frame(axes, _limit(points))
    scatter(axes, (points[:, 0], points[:, 1]), colours)
    axis_label(axes.xaxis, "z₁")
    axis_label(axes.yaxis, "z₂")
    colours.draw_key(sheet, left + side, 0.05)
    return sheet.figure


def _space(points: Array, colours: Colouring, title: str) -> Figure:
    side, panel, gap, left = 4.9, 1.42, 0.32, 5.45
    width = left + panel
    sheet = Sheet(width + colours.width, 3 * panel + 2 * gap + 0.4, title)
    limit = _limit(points)
    view = sheet.axes(-0.1, 0.0, side, side, projection="3d", computed_zorder=False)
    assert isinstance(view, Axes3D)
    view.set(xlim=(-limit, limit), ylim=(-limit, limit), zlim=(-limit, limit))
    view.set_box_aspect((1, 1, 1))
    view.view_init(elev=22, azim=-55)
    _walls(view, limit)
    size = float(np.clip(9000 / len(points), 1.5, 28))
    scatter(view, (points[:, 0], points[:, 1], points[:, 2]), colours, s=size, depthshade=False)
    for row, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
        axes = sheet.axes(left, 0.05 + row * (panel + gap), panel, panel)
        _frame(axes, limit)
        scatter(axes, (points[:, i], points[:, j]), colours, s=4)
        axes.set(xticks=[], yticks=[])
        for axis, k in ((axes.xaxis, i), (axes.yaxis, j)):
            axis_label(axis, "z" + subscript(k + 1))
            axis.labelpad = 2
    colours.draw_key(sheet, width, 0.05)
    return sheet.figure


def _walls(view: Axes3D, limit: float) -> None:
    """White walls with faint lines at whole multiples of the prior's standard deviation."""
    view.grid(False)
    step = max(1, round(limit / 4))
    ticks = [step * k for k in range(-int(limit / step), int(limit / step) + 1)]
    names: dict[str, Any] = {"z₁": view.xaxis, "z₂": view.yaxis, "z₃": view.zaxis}
    for name, axis in names.items():
        axis.set_pane_color((1.0, 1.0, 1.0, 1.0))
        axis.line.set_color(FAINT)
        axis.set_ticks(ticks)
        axis_label(axis, name)
    ends = [-limit, limit]
    style: dict[str, Any] = {"color": FAINT, "linewidth": 0.7, "zorder": 0}
    # The walls behind the points as seen from this side: floor, left and back.
    for at in [*ticks, -limit, limit]:
        view.plot([at, at], ends, [-limit, -limit], **style)
        view.plot(ends, [at, at], [-limit, -limit], **style)
        view.plot([-limit, -limit], [at, at], ends, **style)
        view.plot([-limit, -limit], ends, [at, at], **style)
        view.plot([at, at], [limit, limit], ends, **style)
        view.plot(ends, [limit, limit], [at, at], **style)


def _normal_ticks(label: str) -> Ticks:
    """Cells of equal probability under the prior, with ticks at whole standard deviations."""
    values = torch.arange(-2, 3, dtype=torch.float64)
    return Ticks(
        label,
        low=0.0,
        high=1.0,
        places=tuple(torch.special.ndtr(values).tolist()),
        texts=("−2", "−1", "0", "1", "2"),
    )


@chart_grid.register(Euclidean)
def _grid(manifold: Euclidean, size: int | None) -> Chart:
    d = manifold.dim
    columns = size or {1: 16, 3: 8}.get(d, 12)
    rows = 1 if d == 1 else columns
    heights = torch.special.ndtri(cells(3, 0.0, 1.0)) if d == 3 else torch.zeros(1)
    z = torch.zeros(len(heights), rows, columns, d, dtype=torch.float64)
    z[..., 0] = torch.special.ndtri(cells(columns, 0.0, 1.0))
    if d > 1:
        z[..., 1] = torch.special.ndtri(cells(rows, 0.0, 1.0)).flip(0)[:, None]
    if d == 3:
        z[..., 2] = heights[:, None, None]
    note = "At quantiles of the standard normal prior"
    return Chart(
        points=z,
        across=_normal_ticks("z" if d == 1 else "z₁"),
        up=None if d == 1 else _normal_ticks("z₂"),
        slices=tuple(f"z₃ = {_signed(height)}" for height in heights.tolist()) if d == 3 else (),
        note=note if d <= 3 else f"{note}; a slice: the other coordinates at 0",
    )


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−") if abs(value) > 1e-9 else "0"
