r"""A solid ball whose opposite boundary points are one: what SO(3) and ℝP³ look like from a point.

Geodesics from the centre are straight and keep their lengths; where one leaves the ball, it comes
in again on the opposite side.
"""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from mpl_toolkits.mplot3d.axes3d import Axes3D
from torch import Tensor

from manifold_ae.plots.arrays import Array
from manifold_ae.plots.charts import Chart, Ticks, cells
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import scatter, subscript
from manifold_ae.plots.style import FAINT, INK, LABEL, MUTED, Sheet, panel_title

__all__ = ["ball_charts", "disc_cells", "draw_ball", "glued_rim"]

#: From where the ball is seen: elevation and azimuth, in degrees.
ELEVATION, AZIMUTH = 20, -60


def glued_rim(axes: Axes, radius: float = 1.0) -> None:
    """A circle with arrowheads that match on opposite sides: one on one pair, two on the other.

    All of them go round the same way: so does the rim when opposite points are glued.
    """
    axes.add_patch(
        Circle((0, 0), radius, facecolor="none", edgecolor=MUTED, linewidth=1.0, clip_on=False)
    )
    for places in ((45.0,), (131.0, 139.0)):
        for degrees in (place + turn for place in places for turn in (0.0, 180.0)):
            angle = math.radians(degrees)
            axes.plot(
                radius * math.cos(angle),
                radius * math.sin(angle),
                marker=(3, 0, degrees),
                markersize=7,
                color=MUTED,
                markeredgewidth=0,
                clip_on=False,
            )


def disc_cells(size: int, radius: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates across and up of cells over a square, and which of the cells lie on its disc.

    All of shape ``(size, size)``, rows from the top; a cell lies there if its middle does.
    """
    middles = cells(size, -radius, radius)
    up, across = torch.meshgrid(middles.flip(0), middles, indexing="ij")
    return across, up, across.square() + up.square() <= radius**2


def ball_charts(
    points: Callable[[Tensor], Tensor],
    radius: float,
    name: str,
    ticks: tuple[str, str],
    note: str,
    size: int,
) -> tuple[Chart, ...]:
    """Three planes through the centre of the ball.

    Arguments:
        points: takes places in the ball, ``(*, 3)``, to points of the manifold.
        radius: of the ball.
        name: the symbol of a coordinate, before its number.
        ticks: the texts of minus the radius and of the radius.
        note: what the ball is.
        size: the number of columns, and of rows.
    """
    across, up, shown = disc_cells(size, radius)
    charts = []
    for i, j in combinations(range(3), 2):
        places = torch.zeros(1, size, size, 3, dtype=torch.float64)
        places[..., i], places[..., j] = across, up
        labels = [
            Ticks(name + subscript(k + 1), -radius, radius, (-radius, 0.0, radius),
                  (ticks[0], "0", ticks[1]))
            for k in (i, j)
        ]  # fmt: skip
        charts.append(
            Chart(
                points=points(places),
                across=labels[0],
                up=labels[1],
                slices=(f"{name}{subscript(4 - i - j)} = 0",),
                note=note,
                shown=shown[None],
                outline=lambda axes: glued_rim(axes, radius),
            )
        )
    return tuple(charts)


def draw_ball(
    places: Array, radius: float, name: str, colours: Colouring, title: str, subtitle: str
) -> Figure:
    """The ball, and its projections along each of the three axes.

    Arguments:
        places: in the ball, of shape ``(n, 3)``.
        radius: of the ball.
        name: the symbol of a coordinate, before its number.
        colours: the colours of the n points.
        title: the first line.
        subtitle: what the ball is.
    """
    places = places / radius
    side, panel, gap = 4.6, 1.95, 0.35
    left, top = side + 0.35, 0.3
    width = left + 2 * panel + gap
    sheet = Sheet(width + colours.width, 2 * panel + gap + top + 0.1, title, subtitle)
    view = sheet.axes(-0.1, 0.05, side + 0.1, side - 0.05, projection="3d", computed_zorder=False)
    assert isinstance(view, Axes3D)
    view.set_axis_off()
    view.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    view.set_box_aspect((1, 1, 1), zoom=1.55)  # pyright: ignore[reportArgumentType]
    view.view_init(elev=ELEVATION, azim=AZIMUTH)
    _wires(view)
    for k, end in enumerate(np.eye(3)):
        view.plot(*np.stack([-end, end], -1), color=FAINT, linewidth=1.0, zorder=0.5)
        x, y, z = (1.12 * end).tolist()
        view.text(
            x,
            y,
            z,
            name + subscript(k + 1),
            fontsize=LABEL,
            color=INK,
            ha="center",
            va="center",
            zorder=3,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    size = float(np.clip(7000 / len(places), 1.5, 22))
    scatter(view, list(places.T), colours, s=size, depthshade=False, zorder=1)
    for k, (i, j) in enumerate(combinations(range(3), 2)):
        row, column = divmod(k, 2)
        axes = sheet.axes(left + column * (panel + gap), top + row * (panel + gap), panel, panel)
        axes.axis("off")
        axes.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), aspect="equal")
        for ends in ([-1, 1], [0, 0]), ([0, 0], [-1, 1]):
            axes.plot(*ends, color=FAINT, linewidth=0.6, zorder=0)
        glued_rim(axes)
        scatter(axes, (places[:, i], places[:, j]), colours)
        panel_title(axes, f"{name}{subscript(i + 1)} across, {name}{subscript(j + 1)} up")
    colours.draw_key(sheet, width, 0.05)
    return sheet.figure


def _wires(view: Axes3D) -> None:
    """Meridians and parallels of the boundary: those behind below the points, the others above."""
    elevation, azimuth = math.radians(ELEVATION), math.radians(AZIMUTH)
    towards = np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    along = np.linspace(-math.pi, math.pi, 121)
    lines = [(np.full(121, k * math.pi / 4), along) for k in range(4)]
    lines += [(along, np.full(121, k * math.pi / 4)) for k in (-1, 0, 1)]
    for lon, lat in lines:
        line = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)
        front = (line @ towards >= 0)[:, None]
        for side, order, width in ((~front, 0.0, 0.6), (front, 2.0, 0.6)):
            view.plot(*np.where(side, line, np.nan).T, color=FAINT, linewidth=width, zorder=order)
    # The outline: the great circle at right angles to the line of sight.
    east = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
    circle = np.outer(np.cos(along), east) + np.outer(np.sin(along), np.cross(towards, east))
    view.plot(*circle.T, color=MUTED, linewidth=1.0, zorder=0.2)
