"""Pictures of the torus of revolution: as it lies in space, and cut open along two circles."""

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from manifold_ae.manifolds import EmbeddedTorus
from manifold_ae.plots.arrays import Array
from manifold_ae.plots.charts import Chart, angle_ticks, cells, chart_grid
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import draw_points, scatter
from manifold_ae.plots.style import Sheet, angle_axis, panel_title
from manifold_ae.plots.torus import MARGIN, repeat, square_frame

__all__ = ["hidden", "project", "view"]

#: From how far above the equator the torus is seen, in radians; rotation 0 faces the reader.
ELEVATION = math.radians(48)
#: Patches of the drawn surface, along the rotation and round the tube.
PATCHES = (96, 32)


def view() -> tuple[Array, Array, Array]:
    """Unit vectors to the right, up, and towards the reader."""
    towards = np.array([math.cos(ELEVATION), 0.0, math.sin(ELEVATION)])
    right = np.array([0.0, 1.0, 0.0])
    return right, np.cross(towards, right), towards


def project(points: Array) -> tuple[Array, Array]:
    """Points ``(*, 3)`` as seen from afar: to the right and up."""
    right, up, _ = view()
    return points @ right, points @ up


def hidden(manifold: EmbeddedTorus, points: Array) -> Array:
    """Whether the torus itself stands before its points ``(n, 3)``: booleans ``(n)``."""
    major, minor = manifold.major_radius, manifold.minor_radius
    # Along the ray to the reader, as far as the torus reaches; starting clear of the point.
    steps = np.linspace(0.02 * minor, 2 * (major + minor), 400)
    inside = np.zeros(len(points), dtype=bool)
    for step in steps:
        x, y, z = np.moveaxis(points + step * view()[2], -1, 0)
        inside |= np.hypot(np.hypot(x, y) - major, z) < minor * (1 - 1e-4)
    return inside


def _angles(points: Array, manifold: EmbeddedTorus) -> Array:
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y) - manifold.major_radius)], -1)


def _on_torus(manifold: EmbeddedTorus, rotation: Array, tube: Array) -> Array:
    rho = manifold.major_radius + manifold.minor_radius * np.cos(tube)
    z = manifold.minor_radius * np.sin(tube)
    return np.stack([rho * np.cos(rotation), rho * np.sin(rotation), z], -1)


@draw_points.register(EmbeddedTorus)
def _points(manifold: EmbeddedTorus, points: Array, colours: Colouring, title: str) -> Figure:
    side, width, gap, top = 3.9, 4.9, 0.85, 0.3
    sheet = Sheet(width + gap + side + colours.width, top + side + 0.55, title)
    axes = sheet.axes(0.0, top, width, side)
    panel_title(axes, "In space; faint where the torus hides them")
    axes.axis("off")
    reach = 1.04 * (manifold.major_radius + manifold.minor_radius)
    height = reach * side / width
    axes.set(xlim=(-reach, reach), ylim=(-height, height), aspect="equal")
    _surface(axes, manifold)
    angles = _angles(points, manifold)
    placed = _on_torus(manifold, *np.moveaxis(angles, -1, 0))
    behind = hidden(manifold, placed)
    across, up = project(placed)
    scatter(axes, (np.where(behind, across, np.nan), up), colours, alpha=0.15)
    scatter(axes, (np.where(behind, np.nan, across), up), colours)
    left = width + gap
    axes = sheet.axes(left, top, side, side)
    panel_title(axes, "Cut open along two circles")
    limit = math.pi + MARGIN
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    angle_axis(axes.xaxis, "rotation")
    angle_axis(axes.yaxis, "tube (0 outside, ±π inside)")
    axes.spines[:].set_visible(False)
    scatter(axes, (angles[:, 0], angles[:, 1]), colours)
    repeat(axes, angles, colours)
    square_frame(axes)
    colours.draw_key(sheet, left + side, top)
    return sheet.figure


def _surface(axes: Axes, manifold: EmbeddedTorus) -> None:
    """The front of the surface, lit from the upper left, in a grey too light to tint the points."""
    rotation = np.linspace(-math.pi, math.pi, PATCHES[0] + 1)
    tube = np.linspace(-math.pi, math.pi, PATCHES[1] + 1)
    corners = _on_torus(manifold, *np.meshgrid(rotation, tube, indexing="ij"))
    across, up = project(corners)
    quads = np.stack([across, up], -1)
    quads = np.stack([quads[:-1, :-1], quads[1:, :-1], quads[1:, 1:], quads[:-1, 1:]], -2)
    middle = np.meshgrid(
        (rotation[1:] + rotation[:-1]) / 2, (tube[1:] + tube[:-1]) / 2, indexing="ij"
    )
    normal = _on_torus(manifold, *middle)
    depth = normal @ view()[2]
    centre = manifold.major_radius * np.stack(
        [np.cos(middle[0]), np.sin(middle[0]), np.zeros_like(middle[0])], -1
    )
    normal = (normal - centre) / manifold.minor_radius
    right, above, towards = view()
    light = np.clip(normal @ (-0.45 * right + 0.55 * above + 0.7 * towards), 0, 1)
    grey = 0.86 + 0.12 * light
    order = np.argsort(depth.ravel())
    front = (normal @ towards).ravel()[order] > 0
    order = order[front]
    shades = np.repeat(grey.reshape(-1, 1)[order], 3, axis=1)
    axes.add_collection(
        PolyCollection(
            list(quads.reshape(-1, 4, 2)[order]),
            facecolors=shades.tolist(),
            edgecolors=(shades * 0.985).tolist(),
            linewidths=0.4,
            zorder=0,
            rasterized=True,
        )
    )


@chart_grid.register(EmbeddedTorus)
def _grid(manifold: EmbeddedTorus, size: int | None) -> Chart:
    columns = size or 12
    angles = torch.zeros(columns, columns, 2, dtype=torch.float64)
    angles[..., 0] = cells(columns, -math.pi, math.pi)
    angles[..., 1] = cells(columns, -math.pi, math.pi).flip(0)[:, None]
    return Chart(
        points=manifold.from_angles(angles)[None],
        across=angle_ticks("rotation"),
        up=angle_ticks("tube"),
    )
