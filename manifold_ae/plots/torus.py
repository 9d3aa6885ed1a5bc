"""Pictures of flat tori: a circle, a square whose opposite edges are one, pairs of angles."""

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from manifold_ae.manifolds import FlatTorus
from manifold_ae.plots.arrays import Array
from manifold_ae.plots.charts import Chart, angle_ticks, cells, chart_grid
from manifold_ae.plots.circle import draw_circle
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import draw_pairs, draw_points, scatter
from manifold_ae.plots.style import MUTED, Sheet, angle_axis

__all__ = ["MARGIN", "repeat", "square_frame"]

#: How far beyond the square, in radians, points are repeated faintly.
MARGIN = 0.09 * math.pi


@draw_points.register(FlatTorus)
def _points(manifold: FlatTorus, points: Array, colours: Colouring, title: str) -> Figure:
    pairs = points.reshape(len(points), manifold.dim, 2)
    angles = np.arctan2(pairs[..., 1], pairs[..., 0])
    if manifold.dim == 1:
        return draw_circle(angles[:, 0], colours, title)
    if manifold.dim == 2:
        return _square(angles, colours, title)
    # Circular variance: one less the length of the mean of the points on each circle.
    spread = 1 - np.hypot(np.cos(angles).mean(0), np.sin(angles).mean(0))
    return draw_pairs(angles, spread, "θ", "angles", colours, title, _frame)


def _frame(axes: Axes) -> None:
    axes.set(xlim=(-math.pi, math.pi), ylim=(-math.pi, math.pi))
    angle_axis(axes.xaxis)
    angle_axis(axes.yaxis)


def _square(angles: Array, colours: Colouring, title: str) -> Figure:
    side, left = 4.4, 0.8
    sheet = Sheet(left + side + colours.width, side + 0.6, title)
    axes = sheet.axes(left, 0.05, side, side)
    limit = math.pi + MARGIN
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    angle_axis(axes.xaxis, "θ₁")
    angle_axis(axes.yaxis, "θ₂")
    axes.spines[:].set_visible(False)
    scatter(axes, (angles[:, 0], angles[:, 1]), colours)
    repeat(axes, angles, colours)
    square_frame(axes)
    colours.draw_key(sheet, left + side, 0.05)
    return sheet.figure


def repeat(axes: Axes, angles: Array, colours: Colouring) -> None:
    """Points within MARGIN of the square's edges once more, faintly, beyond the opposite ones."""
    limit = math.pi + MARGIN
    for right in (-1, 0, 1):
        for up in (-1, 0, 1):
            if right or up:
                moved = angles + 2 * math.pi * np.array([right, up])
                moved = np.where((np.abs(moved) <= limit).all(1, keepdims=True), moved, np.nan)
                scatter(axes, (moved[:, 0], moved[:, 1]), colours, alpha=0.25)


def square_frame(axes: Axes) -> None:
    """The square's edges, with one arrowhead on the pair left and right, two on the other."""
    axes.add_patch(
        Rectangle(
            (-math.pi, -math.pi),
            2 * math.pi,
            2 * math.pi,
            facecolor="none",
            edgecolor=MUTED,
            linewidth=1.0,
        )
    )
    for edge in (-math.pi, math.pi):
        axes.plot(edge, 0, marker="^", markersize=7, color=MUTED, markeredgewidth=0)
        for place in (-0.09, 0.09):
            axes.plot(place, edge, marker=">", markersize=7, color=MUTED, markeredgewidth=0)


@chart_grid.register(FlatTorus)
def _grid(manifold: FlatTorus, size: int | None) -> Chart:
    columns = size or (16 if manifold.dim == 1 else 12)
    rows = 1 if manifold.dim == 1 else columns
    angles = torch.zeros(rows, columns, manifold.dim, dtype=torch.float64)
    angles[..., 0] = cells(columns, -math.pi, math.pi)
    if manifold.dim > 1:
        angles[..., 1] = cells(rows, -math.pi, math.pi).flip(0)[:, None]
    rest = "θ₃" if manifold.dim == 3 else "the other angles"
    return Chart(
        points=manifold.from_angles(angles)[None],
        across=angle_ticks("θ" if manifold.dim == 1 else "θ₁"),
        up=None if manifold.dim == 1 else angle_ticks("θ₂"),
        note=f"A slice: {rest} at 0" if manifold.dim > 2 else "",
    )
