r"""Pictures of projective spaces, in which x and −x are one point.

ℝP¹ is a circle that is round in half a turn, ℝP² a disc and ℝP³ a ball whose opposite boundary
points are one; of more dimensions the sphere's pairs of coordinates are shown, with x and −x both.
"""

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from manifold_ae.manifolds import Quotient, RealProjective
from manifold_ae.plots.arrays import Array
from manifold_ae.plots.ball import ball_charts, disc_cells, draw_ball, glued_rim
from manifold_ae.plots.charts import Chart, Ticks, cells, chart_grid
from manifold_ae.plots.circle import draw_circle
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import draw_points, scatter
from manifold_ae.plots.style import FAINT, LABEL, MUTED, Sheet

__all__ = ["lambert", "lambert_inverse"]

#: How far beyond the rim of the disc, of radius 1, points are repeated faintly.
MARGIN = 0.06

LINE = "The angle of a line through the origin: half a turn leads back to it"

DISC = (
    "The half of the sphere with x₃ ≥ 0, by an equal-area projection: opposite points of the rim "
    "are one"
)
BALL = (
    "Distance and direction u from the line x₁, in the ball of radius π/2: opposite boundary "
    "points are one"
)


def lambert(points: Array) -> Array:
    r"""Lambert's equal-area projection (x₁, x₂)/√(1 + x₃), ``(n, 2)``, of unit vectors ``(n, 3)``.

    The half with x₃ ≥ 0 becomes the unit disc, and −x lies opposite to x, beyond the rim. The
    centre of projection's antipode, which has no place, becomes NaN.
    """
    height = 1 + points[..., 2:]
    return np.where(height > 0, points[..., :2] / np.sqrt(np.where(height > 0, height, 1)), np.nan)


def lambert_inverse(places: Tensor) -> Tensor:
    r"""The unit vectors (p √(2 − \|p\|²), 1 − \|p\|²), ``(*, 3)``, of places p in the disc."""
    square = (places * places).sum(-1, keepdim=True).clamp_max(1.0)
    return torch.cat([places * (2 - square).sqrt(), 1 - square], -1)


@draw_points.register(RealProjective)
def _points(manifold: RealProjective, points: Array, colours: Colouring, title: str) -> Figure:
    points = manifold.projx(torch.from_numpy(points)).numpy()
    if manifold.dim == 1:
        doubled = 2 * np.arctan2(points[:, 1], points[:, 0])
        return draw_circle(
            doubled,
            colours,
            title,
            LINE,
            ("0", "π/4", "±π/2", "−π/4"),
        )
    if manifold.dim == 2:
        return _disc(points, colours, title)
    if manifold.dim == 3:
        u = manifold.cover.logmap(
            manifold.base_point(dtype=torch.float64),
            torch.from_numpy(np.where(points[:, :1] < 0, -points, points)),
        )
        return draw_ball(u.numpy()[:, 1:], math.pi / 2, "u", colours, title, BALL)
    return draw_points.dispatch(Quotient)(manifold, points, colours, title)


def _disc(points: Array, colours: Colouring, title: str) -> Figure:
    side = 4.6
    sheet = Sheet(side + colours.width, side, title, DISC)
    axes = sheet.axes(0.0, 0.0, side, side)
    axes.axis("off")
    limit = 1.14
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    _frame(axes)
    points = np.where(points[:, 2:] < 0, -points, points)
    scatter(axes, list(lambert(points).T), colours)
    beyond = lambert(-points)
    near = np.linalg.norm(beyond, axis=1, keepdims=True) <= 1 + MARGIN
    scatter(axes, list(np.where(near, beyond, np.nan).T), colours, alpha=0.25)
    colours.draw_key(sheet, side, 0.05)
    return sheet.figure


def _frame(axes: Axes) -> None:
    """The rim, circles at 30° and 60° from x₃, and where the three axes meet the disc."""
    for degrees in (30, 60):
        radius = math.sqrt(1 - math.cos(math.radians(degrees)))
        axes.add_patch(
            Circle((0, 0), radius, facecolor="none", edgecolor=FAINT, linewidth=0.6, zorder=0)
        )
    for ends in ([-1, 1], [0, 0]), ([0, 0], [-1, 1]):
        axes.plot(*ends, color=FAINT, linewidth=0.6, zorder=0)
    glued_rim(axes)
    for x, y, text in ((1.1, 0, "x₁"), (-1.1, 0, "x₁"), (0, 1.1, "x₂"), (0, -1.1, "x₂")):
        axes.text(x, y, text, ha="center", va="center", fontsize=LABEL, color=MUTED)


@chart_grid.register(RealProjective)
def _grid(manifold: RealProjective, size: int | None) -> Chart | tuple[Chart, ...]:
    d = manifold.dim
    if d == 1:
        theta = cells(size or 16, -math.pi / 2, math.pi / 2)
        places = tuple(math.pi * k / 4 for k in range(-2, 3))
        texts = ("−π/2", "−π/4", "0", "π/4", "π/2")
        return Chart(
            points=torch.stack([theta.cos(), theta.sin()], -1)[None, None],
            across=Ticks("θ", -math.pi / 2, math.pi / 2, places, texts, periodic=True),
            note=LINE,
        )
    if d == 3:
        return ball_charts(_around_base, math.pi / 2, "u", ("−π/2", "π/2"), BALL, size or 9)
    columns = size or 13
    across, up, shown = disc_cells(columns)
    points = torch.zeros(1, columns, columns, d + 1, dtype=torch.float64)
    points[..., :3] = lambert_inverse(torch.stack([across, up], -1))
    return Chart(
        points=points,
        across=Ticks("towards x₁", -1.0, 1.0, (), ()),
        up=Ticks("towards x₂", -1.0, 1.0, (), ()),
        note=DISC if d == 2 else f"{DISC}. A slice: coordinates beyond the third at 0",
        shown=shown[None],
        outline=glued_rim,
    )


def _around_base(places: Tensor) -> Tensor:
    r"""The points (cos \|u\|, u sin \|u\| / \|u\|) of ℝP³, ``(*, 4)``, of places ``(*, 3)``."""
    length = torch.linalg.vector_norm(places, dim=-1, keepdim=True)
    return torch.cat([length.cos(), places * torch.sinc(length / math.pi)], -1)
