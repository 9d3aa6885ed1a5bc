"""Pictures of quotients in general: those of the cover, with every point at all of its images."""

from dataclasses import replace

import torch
from matplotlib.figure import Figure

from manifold_ae.manifolds import Quotient
from manifold_ae.plots.arrays import Array
from manifold_ae.plots.charts import Chart, chart_grid, charts_of
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import draw_points

__all__: list[str] = []


@draw_points.register(Quotient)
def _points(manifold: Quotient, points: Array, colours: Colouring, title: str) -> Figure:
    images = manifold.images(torch.from_numpy(points)).flatten(0, 1).numpy()
    return draw_points(
        manifold.cover,
        images,
        colours.repeated(manifold.order),
        f"{title}, each at its {manifold.order} images in {manifold.cover!r}",
    )


@chart_grid.register(Quotient)
def _grid(manifold: Quotient, size: int | None) -> tuple[Chart, ...]:
    own = f"On {manifold.cover!r}, where every point has {manifold.order} images"
    return tuple(
        replace(chart, note=". ".join(filter(None, [own, chart.note])))
        for chart in charts_of(manifold.cover, size)
    )
