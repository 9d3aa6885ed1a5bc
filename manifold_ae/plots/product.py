"""Pictures of products: those of the factors side by side."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from manifold_ae.manifolds import Manifold, Product
from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.charts import Chart, chart_grid, charts_of
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import draw_points
from manifold_ae.plots.style import DPI, Sheet

__all__ = ["medoid"]

#: Width in inches past which pictures go on in another row.
WIDEST = 15.5

#: Points that a medoid is looked for among, at most.
CANDIDATES = 500


def medoid(manifold: Manifold, points: Any) -> Tensor:
    """Of the points, that whose distances to the others add up to the least: a median.

    Distances are those of the coordinates ``manifold.embed``, to the nearest of ``unfold``:
    geodesics can take a millisecond a pair. Of more than 500 points, 500 evenly spaced ones stand
    for all.

    Arguments:
        manifold: where the points lie.
        points: of shape ``(n, *manifold.ambient_shape)``, n ≥ 1.

    Raises:
        ValueError: if points is of another shape, empty, or not finite.
    """
    array = as_array(points)
    if array.shape[1:] != manifold.ambient_shape or array.ndim == 0 or not len(array):
        raise ValueError(
            f"points has shape {array.shape}; expected points of {manifold!r}, at least one, of "
            f"shape (n, {', '.join(map(str, manifold.ambient_shape))})"
        )
    array = check_finite("points", array, "leave those points out, or look at the encoder")
    some = np.linspace(0, len(array) - 1, min(len(array), CANDIDATES)).round().astype(int)
    x = torch.from_numpy(array[some])
    distances = torch.cdist(manifold.embed(x), manifold.embed(manifold.unfold(x))).amin(0)
    return x[int(distances.sum(1).argmin())]


@draw_points.register(Product)
def _points(manifold: Product, points: Array, colours: Colouring, title: str) -> Figure:
    parts = manifold.split(torch.from_numpy(points))
    bare = colours.without_key()
    pictures = [
        _pixels(draw_points(factor, part.numpy(), bare, repr(factor)))
        for factor, part in zip(manifold.factors, parts, strict=True)
    ]
    places: list[tuple[Array, float, float]] = []
    x = y = width = tallest = 0.0
    for picture in pictures:
        high, wide = picture.shape[0] / DPI, picture.shape[1] / DPI
        if x and x + wide > WIDEST:
            x, y, tallest = 0.0, y + tallest, 0.0
        places.append((picture, x, y))
        x += wide
        width, tallest = max(width, x), max(tallest, high)
    sheet = Sheet(width + colours.width, y + tallest, title)
    for picture, left, top in places:
        axes = sheet.axes(left, top, picture.shape[1] / DPI, picture.shape[0] / DPI)
        axes.axis("off")
        axes.imshow(picture, interpolation="nearest", aspect="auto")
    colours.draw_key(sheet, width, 0.14)
    return sheet.figure


def _pixels(figure: Figure) -> Array:
    """A factor's picture, pixel by pixel: it keeps its own layout, whatever registered it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


@chart_grid.register(Product)
def _grid(manifold: Product, size: int | None) -> tuple[Chart, ...]:
    base = manifold.split(manifold.base_point(dtype=torch.float64))
    still = [torch.zeros(factor.ambient_shape, dtype=torch.bool) for factor in manifold.factors]
    rule = "One factor varies at a time, the others stay at one point" if len(base) > 1 else ""
    charts = []
    for k, factor in enumerate(manifold.factors):
        for chart in charts_of(factor, size):
            varies = ~still[k] if chart.varies is None else chart.varies
            titles = chart.slices or ("",) * chart.panels
            charts.append(
                replace(
                    chart,
                    points=manifold.join([*base[:k], chart.points, *base[k + 1 :]]),
                    varies=manifold.join([*still[:k], varies, *still[k + 1 :]]),
                    slices=tuple(", ".join(filter(None, [repr(factor), text])) for text in titles),
                    note=rule,
                )
            )
    return tuple(charts)
