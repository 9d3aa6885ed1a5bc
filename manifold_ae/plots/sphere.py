"""Pictures of spheres: globes and an equal-area map of S², a circle for S¹, pairs beyond.

Longitude is the angle of (x₁, x₂), latitude the angle above their plane, as on the globe.
"""

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from manifold_ae.manifolds import Sphere
from manifold_ae.plots.arrays import Array
from manifold_ae.plots.charts import Chart, Ticks, angle_ticks, cells, chart_grid
from manifold_ae.plots.circle import draw_circle
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import draw_pairs, draw_points, scatter
from manifold_ae.plots.style import FAINT, MUTED, Sheet, panel_title

__all__ = ["hammer", "orthographic"]

#: Latitude from which the front of the globe is seen, in radians; the back is seen from opposite.
ELEVATION = math.radians(20)


def longitude_latitude(points: Array) -> tuple[Array, Array]:
    """Longitude in (−π, π] and latitude in [−π/2, π/2], each ``(n)``, of points ``(n, 3)``."""
    x, y, z = np.moveaxis(points, -1, 0)
    return np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))


def hammer(longitude: Array, latitude: Array) -> tuple[Array, Array]:
    """Hammer's equal-area map of the sphere onto the ellipse \\|x\\| ≤ 2√2, \\|y\\| ≤ √2.

    References:
        Ueber die Planisphäre von Aitow und verwandte Entwürfe (Ernst Hammer, 1892)
    """
    scale = np.sqrt(2 / (1 + np.cos(latitude) * np.cos(longitude / 2)))
    return 2 * scale * np.cos(latitude) * np.sin(longitude / 2), scale * np.sin(latitude)


def orthographic(points: Array, longitude: float, latitude: float) -> tuple[Array, Array]:
    """Points ``(n, 3)`` as seen from afar, above the given place; NaN on the hidden side."""
    cos, sin = math.cos(longitude), math.sin(longitude)
    east = np.array([-sin, cos, 0.0])
    towards = np.array([math.cos(latitude) * cos, math.cos(latitude) * sin, math.sin(latitude)])
    visible = points @ towards >= 0
    x, y = points @ east, points @ np.cross(towards, east)
    return np.where(visible, x, np.nan), np.where(visible, y, np.nan)


@draw_points.register(Sphere)
def _points(manifold: Sphere, points: Array, colours: Colouring, title: str) -> Figure:
    if manifold.dim == 1:
        return draw_circle(np.arctan2(points[:, 1], points[:, 0]), colours, title)
    if manifold.dim == 2:
        return _globes(points, colours, title)
    return draw_pairs(points, points.var(0), "x", "coordinates", colours, title, _disc)


def _disc(axes: Axes) -> None:
    axes.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axes.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor=FAINT, linewidth=1.0, zorder=0))


def _graticule() -> list[tuple[Array, Array, bool]]:
    """Meridians and parallels every 30°, and whether each is where the map is cut, at ±180°."""
    along, lines = np.linspace(-math.pi, math.pi, 181), []
    for k in range(-6, 7):
        lines.append((np.full(91, k * math.pi / 6), along[::2] / 2, abs(k) == 6))
    for k in range(-2, 3):
        lines.append((along, np.full(181, k * math.pi / 6), False))
    return lines


def _globes(points: Array, colours: Colouring, title: str) -> Figure:
    side, gap, top = 2.45, 0.22, 0.3
    width = 4 * side + 2 * gap
    sheet = Sheet(width + colours.width, top + side + 0.05, title)
    limit = 1.04
    for left, name, longitude, latitude in (
        (0.0, "Front", 0.0, ELEVATION),
        (side + gap, "Back", math.pi, -ELEVATION),
    ):
        axes = sheet.axes(left, top, side, side)
        axes.axis("off")
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        panel_title(axes, name)
        _ball(axes)
        for lon, lat, cut in _graticule():
            line = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)
            _grid_line(axes, *orthographic(line, longitude, latitude), cut)
        scatter(axes, orthographic(points, longitude, latitude), colours)
    axes = sheet.axes(2 * (side + gap), top, 2 * side, side)
    axes.axis("off")
    reach = limit * math.sqrt(2)
    axes.set(xlim=(-2 * reach, 2 * reach), ylim=(-reach, reach), aspect="equal")
    panel_title(axes, "Equal-area map, cut along the dark meridian")
    for lon, lat, cut in _graticule():
        _grid_line(axes, *hammer(lon, lat), cut)
    scatter(axes, hammer(*longitude_latitude(points)), colours)
    colours.draw_key(sheet, width, top)
    return sheet.figure


def _grid_line(axes: Axes, x: Array, y: Array, cut: bool) -> None:
    axes.plot(
        x,
        y,
        color=MUTED if cut else FAINT,
        linewidth=1.2 if cut else 0.6,
        zorder=0.9 if cut else 0.5,
    )


def _ball(axes: Axes) -> None:
    """A globe lit from the upper left, faintly, so as not to tint the points' colours."""
    side = np.linspace(-1, 1, 360)
    x, y = np.meshgrid(side, side)
    height = np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
    light = np.clip((-0.45 * x + 0.55 * y + 0.7 * height), 0, 1)
    shade = np.dstack([0.9 + 0.09 * light] * 3 + [(x**2 + y**2 <= 1).astype(float)])
    axes.imshow(shade, origin="lower", extent=(-1, 1, -1, 1), interpolation="bilinear", zorder=0)
    axes.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor=FAINT, linewidth=1.0, zorder=0.6))


def _degrees(label: str, limit: int) -> Ticks:
    steps = [k * limit // 2 for k in range(-2, 3)]
    return Ticks(
        label,
        low=-math.radians(limit),
        high=math.radians(limit),
        places=tuple(math.radians(step) for step in steps),
        texts=tuple(f"{step}°".replace("-", "−") for step in steps),
        periodic=limit == 180,
    )


@chart_grid.register(Sphere)
def _grid(manifold: Sphere, size: int | None) -> Chart:
    columns = size or 16
    longitude = cells(columns, -math.pi, math.pi)
    if manifold.dim == 1:
        circle = torch.stack([torch.cos(longitude), torch.sin(longitude)], -1)
        return Chart(points=circle[None, None], across=angle_ticks("θ"))
    rows = max(1, columns // 2)
    latitude = cells(rows, -math.pi / 2, math.pi / 2).flip(0)[:, None]
    points = torch.zeros(1, rows, columns, manifold.dim + 1, dtype=torch.float64)
    points[..., 0] = torch.cos(latitude) * torch.cos(longitude)
    points[..., 1] = torch.cos(latitude) * torch.sin(longitude)
    points[..., 2] = torch.sin(latitude)
    return Chart(
        points=points,
        across=_degrees("longitude", 180),
        up=_degrees("latitude", 90),
        note="A slice: coordinates beyond the third at 0" if manifold.dim > 2 else "",
    )
