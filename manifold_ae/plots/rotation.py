"""Pictures of SO(3): the ball of rotation vectors, of length at most π."""

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.manifolds import SO3
from manifold_ae.plots.arrays import Array
from manifold_ae.plots.ball import ball_charts, draw_ball
from manifold_ae.plots.charts import Chart, chart_grid
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import draw_points

__all__: list[str] = []

WHAT = (
    "Rotation vectors ω, axis times angle, in the ball of radius π: opposite boundary points are "
    "one and the same rotation"
)


@draw_points.register(SO3)
def _points(manifold: SO3, points: Array, colours: Colouring, title: str) -> Figure:
    omega = manifold.to_angles(manifold.projx(torch.from_numpy(points))).numpy()
    return draw_ball(omega, math.pi, "ω", colours, title, WHAT)


@chart_grid.register(SO3)
def _grid(manifold: SO3, size: int | None) -> tuple[Chart, ...]:
    def rotation(omega: Tensor) -> Tensor:
        return rotations.exp(omega)

    return ball_charts(rotation, math.pi, "ω", ("−π", "π"), WHAT, size or 9)
