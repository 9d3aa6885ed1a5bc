"""Pictures of the Klein bottle: half the square of the torus, glued with a flip left to right."""

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from manifold_ae.manifolds import KleinBottle
from manifold_ae.plots.arrays import Array
from manifold_ae.plots.charts import Chart, Ticks, angle_ticks, cells, chart_grid
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import draw_points, scatter
from manifold_ae.plots.style import MUTED, Sheet
from manifold_ae.plots.torus import MARGIN

__all__: list[str] = []

WHAT = "Left and right edge are glued upside down, top and bottom as they are"

GLIDE = Ticks("θ", 0.0, math.pi, (0.0, math.pi / 2, math.pi), ("0", "π/2", "π"))


@draw_points.register(KleinBottle)
def _points(manifold: KleinBottle, points: Array, colours: Colouring, title: str) -> Figure:
    angles = manifold.to_angles(torch.from_numpy(points)).numpy()
    height, left = 5.0, 0.85
    across, up = math.pi + 2 * MARGIN, 2 * math.pi + 2 * MARGIN
    width = height * across / up
    room = left + max(width, 3.4)
    sheet = Sheet(room + colours.width, height + 0.6, title, WHAT)
    axes = sheet.axes(left, 0.05, width, height)
    axes.set(xlim=(-MARGIN, math.pi + MARGIN), ylim=(-math.pi - MARGIN, math.pi + MARGIN))
    axes.set_aspect("equal")
    GLIDE.draw(axes.xaxis)
    angle_ticks("φ").draw(axes.yaxis)
    axes.spines[:].set_visible(False)
    scatter(axes, list(angles.T), colours)
    for right in (-1, 0, 1):
        for turn in (-1, 0, 1):
            if right or turn:
                flip = np.array([1.0, -1.0 if right else 1.0])
                moved = flip * angles + math.pi * np.array([right, 2 * turn])
                inside = (np.abs(moved - [math.pi / 2, 0]) <= [across / 2, up / 2]).all(
                    1, keepdims=True
                )
                scatter(axes, list(np.where(inside, moved, np.nan).T), colours, alpha=0.25)
    _glue(axes)
    colours.draw_key(sheet, room, 0.05)
    return sheet.figure


def _glue(axes: Axes) -> None:
    """The edges: one arrowhead up on the left and down on the right, two alike on the others."""
    axes.add_patch(
        Rectangle(
            (0, -math.pi),
            math.pi,
            2 * math.pi,
            facecolor="none",
            edgecolor=MUTED,
            linewidth=1.0,
            clip_on=False,
        )
    )
    middle = math.pi / 2
    heads = [(0.0, 0.0, "^"), (math.pi, 0.0, "v")]
    heads += [(middle + dx, edge, ">") for dx in (-0.09, 0.09) for edge in (-math.pi, math.pi)]
    for x, y, marker in heads:
        axes.plot(x, y, marker=marker, markersize=7, color=MUTED, markeredgewidth=0, clip_on=False)


@chart_grid.register(KleinBottle)
def _grid(manifold: KleinBottle, size: int | None) -> Chart:
    columns = size or 8
    theta = cells(columns, 0.0, math.pi).expand(2 * columns, -1)
    phi = cells(2 * columns, -math.pi, math.pi).flip(0)[:, None].expand(-1, columns)
    return Chart(
        points=manifold.from_angles(torch.stack([theta, phi], -1))[None],
        across=GLIDE,
        up=angle_ticks("φ"),
        note=WHAT,
        outline=_glue,
    )
