"""Pictures of surfaces of revolution: as they lie in space, and cut open along the profile."""

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.path import Path

from manifold_ae.manifolds import SurfaceOfRevolution
from manifold_ae.plots.arrays import Array
from manifold_ae.plots.charts import Chart, Ticks, angle_ticks, cells, chart_grid
from manifold_ae.plots.embedded_torus import project, view
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import draw_points, scatter
from manifold_ae.plots.style import MUTED, Sheet, panel_title
from manifold_ae.plots.torus import MARGIN, repeat, square_frame

__all__ = ["hidden"]

#: Patches of the drawn surface, along the rotation and along the profile.
PATCHES = (96, 48)


def _inside(manifold: SurfaceOfRevolution) -> Path:
    """The region that the profile encloses, with its reflection where it ends on the axis."""
    angle = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    at = manifold.profile.jet(angle)
    return Path(torch.stack([at.rho, at.z], -1).numpy())


def hidden(manifold: SurfaceOfRevolution, points: Array) -> Array:
    """Whether the surface itself stands before its points ``(n, 3)``: booleans ``(n)``."""
    region, scale = _inside(manifold), manifold.profile.scale
    reach = 2 * float(np.abs(region.vertices).max())
    covered = np.zeros(len(points), dtype=bool)
    # Along the ray to the reader, as far as the surface reaches; starting clear of the point.
    for step in np.linspace(0.02 * scale, 1.5 * reach, 300):
        x, y, z = np.moveaxis(points + step * view()[2], -1, 0)
        covered |= region.contains_points(np.stack([np.hypot(x, y), z], -1))
    return covered


def _ticks(manifold: SurfaceOfRevolution) -> Ticks:
    if not manifold.profile.poles:
        return angle_ticks("profile, by length")
    return Ticks(
        label="from pole to pole, by length",
        low=-math.pi,
        high=0.0,
        places=(-math.pi, -math.pi / 2, 0.0),
        texts=("u = π", "half", "u = 0"),
    )


@draw_points.register(SurfaceOfRevolution)
def _points(manifold: SurfaceOfRevolution, points: Array, colours: Colouring, title: str) -> Figure:
    poles, ticks = manifold.profile.poles, _ticks(manifold)
    side, width, gap, top = 3.9, 4.4, 1.25, 0.3
    sheet = Sheet(width + gap + side + colours.width, top + side + 0.55, title)
    axes = sheet.axes(0.0, top, width, side)
    panel_title(axes, "In space; faint where the surface hides them")
    axes.axis("off")
    placed = manifold.projx(torch.from_numpy(np.asarray(points, dtype=np.float64)))
    angles = manifold.to_angles(placed).numpy()
    _surface(axes, manifold, width / side)
    behind = hidden(manifold, placed.numpy())
    across, up = project(placed.numpy())
    scatter(axes, (np.where(behind, across, np.nan), up), colours, alpha=0.15)
    scatter(axes, (np.where(behind, np.nan, across), up), colours)
    left = width + gap
    axes = sheet.axes(left, top, side, side if not poles else side * 0.62)
    panel_title(axes, "Cut open along a meridian" if poles else "Cut open along two circles")
    limit = math.pi + MARGIN
    angle_ticks("rotation").draw(axes.xaxis)
    ticks.draw(axes.yaxis)
    axes.spines[:].set_visible(False)
    if poles:
        angles[:, 1] *= -1  # the pole that the profile starts from is on top
        axes.set(xlim=(-limit, limit), ylim=(-math.pi - MARGIN, MARGIN))
        for edge in (-math.pi, math.pi):
            axes.plot([edge, edge], [-math.pi, 0], color=MUTED, linewidth=1.0)
        for pole in (-math.pi, 0.0):
            axes.axhline(pole, color=MUTED, linewidth=0.6, linestyle=":")
    else:
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        repeat(axes, angles, colours)
        square_frame(axes)
    scatter(axes, (angles[:, 0], angles[:, 1]), colours)
    colours.draw_key(sheet, left + side, top)
    return sheet.figure


def _surface(axes: Axes, manifold: SurfaceOfRevolution, aspect: float) -> None:
    """The front of the surface, lit from the upper left, in a grey too light to tint the points."""
    rotation = torch.linspace(-math.pi, math.pi, PATCHES[0] + 1, dtype=torch.float64)
    span = math.pi if manifold.profile.poles else 2 * math.pi
    place = torch.linspace(0, span, PATCHES[1] + 1, dtype=torch.float64)
    corners = manifold.from_angles(
        torch.stack(torch.meshgrid(rotation, place, indexing="ij"), -1)
    ).numpy()
    across, up = project(corners)
    reach = 0.52 * max((across.max() - across.min()) / aspect, up.max() - up.min())
    middle = (up.max() + up.min()) / 2
    axes.set(xlim=(-aspect * reach, aspect * reach), ylim=(middle - reach, middle + reach))
    axes.set_aspect("equal")
    quads = np.stack([across, up], -1)
    quads = np.stack([quads[:-1, :-1], quads[1:, :-1], quads[1:, 1:], quads[:-1, 1:]], -2)
    inner = torch.stack(
        torch.meshgrid(
            (rotation[1:] + rotation[:-1]) / 2, (place[1:] + place[:-1]) / 2, indexing="ij"
        ),
        -1,
    )
    centre = manifold.from_angles(inner)
    normal = manifold.frame(centre)[2].numpy()
    # Outwards: a step along it leaves the region that the profile encloses.
    moved = centre.numpy() + 1e-3 * manifold.profile.scale * normal
    flat = np.stack([np.hypot(moved[..., 0], moved[..., 1]), moved[..., 2]], -1).reshape(-1, 2)
    within = _inside(manifold).contains_points(flat).reshape(normal.shape[:-1])
    normal = np.where(within[..., None], -normal, normal)
    right, above, towards = view()
    light = np.clip(normal @ (-0.45 * right + 0.55 * above + 0.7 * towards), 0, 1)
    order = np.argsort((centre.numpy() @ towards).ravel())
    order = order[(normal @ towards).ravel()[order] > 0]
    shades = np.repeat((0.86 + 0.12 * light).reshape(-1, 1)[order], 3, axis=1)
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


@chart_grid.register(SurfaceOfRevolution)
def _grid(manifold: SurfaceOfRevolution, size: int | None) -> Chart:
    poles, ticks = manifold.profile.poles, _ticks(manifold)
    columns = size or (16 if poles else 12)
    rows = max(1, columns // 2) if poles else columns
    angles = torch.zeros(rows, columns, 2, dtype=torch.float64)
    angles[..., 0] = cells(columns, -math.pi, math.pi)
    place = cells(rows, ticks.low, ticks.high).flip(0)
    angles[..., 1] = (-place if poles else place)[:, None]
    return Chart(
        points=manifold.from_angles(angles)[None], across=angle_ticks("rotation"), up=ticks
    )
