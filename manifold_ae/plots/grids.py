"""What a decoder makes of a grid of points, laid out as the manifold is.

Images are shown where their points lie; features as tuning curves over one dimension, and as
tuning maps over two.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.charts import Chart, charts_of, notes_of
from manifold_ae.plots.mosaic import TARGET, Mosaic, channels_last, tone
from manifold_ae.plots.style import Sheet, panel_title
from manifold_ae.plots.tuning import draw_curves, draw_maps

__all__ = ["decoded_grid"]

#: Width in inches past which panels go on in another row.
WIDEST = 13.0


def decoded_grid(
    manifold: Manifold,
    decode: Callable[[Tensor], Tensor],
    image_shape: tuple[int, ...],
    *,
    size: int | None = None,
    cmap: str | None = None,
    title: str | None = None,
    at: Any = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Figure:
    """What a decoder makes of a grid of points over a manifold.

    Circles become a strip, flat tori a square of angles, S² longitude and latitude, Euclidean
    space quantiles of its prior (in three dimensions three slices), ℝP² a disc, SO(3) and ℝP³
    three slices of a ball; more dimensions, a slice through the origin of angles or coordinates,
    as the second line says. On a product one factor varies at a time. Points are the middles of
    cells, so a period is covered once, without repeating its edge.

    Arguments:
        manifold: the latent space.
        decode: takes points ``(n, *manifold.ambient_shape)`` to mean images
            ``(n, *image_shape)``; called once, without gradients.
        image_shape: ``(height, width)``, or with one or three channels first; or ``(features,)``,
            drawn as tuning curves or tuning maps.
        size: the number of columns; by default 8 to 16 for images, more for features.
        cmap: colour map; by default ink on white for values in [0, 1], or else viridis.
        title: the first line; by default the manifold.
        at: on a product, the point at which the other factors stay while one varies, of shape
            ``manifold.ambient_shape``, see ``medoid``; by default the base point. Grids of other
            manifolds do not depend on it.
        dtype: of the points given to ``decode``; by default torch's.
        device: of those points; by default torch's.

    Raises:
        ValueError: if size is below 1, image_shape is none of these, no grid is registered for
            the manifold, or ``at`` or what is decoded is of another shape or not finite.

    Example:
        >>> from manifold_ae.manifolds import FlatTorus
        >>> M = FlatTorus(2)
        >>> figure = decoded_grid(M, lambda z: z[:, [0, 2]].unsqueeze(1), (1, 2))
    """
    image_shape = tuple(image_shape)
    features = len(image_shape) == 1
    if (
        min(image_shape, default=0) < 1
        or len(image_shape) > 3
        or (len(image_shape) == 3 and image_shape[0] not in (1, 3))
    ):
        raise ValueError(
            f"image_shape = {image_shape}; expected (height, width), (1, height, width), "
            "(3, height, width), or (features,)"
        )
    if size is not None and size < 1:
        raise ValueError(f"size = {size}; expected at least 1 column")
    if features and size is None:
        size = 180 if manifold.dim == 1 else 48
    charts = charts_of(manifold, size)
    if at is not None:
        point = _point(manifold, at)
        charts = tuple(chart.through(point) for chart in charts)
    values = _decoded(charts, decode, image_shape, dtype, device)
    title = f"Decoded over {manifold!r}" if title is None else title
    if not features:
        return _draw_images(charts, values, title, cmap)
    grids = _laid_out(charts, values)
    if len(charts) == 1 and charts[0].up is None:
        return draw_curves(charts[0], grids[0], title)
    return draw_maps(charts, grids, title)


def _point(manifold: Manifold, at: Any) -> Tensor:
    point = as_array(at)
    if point.shape != manifold.ambient_shape:
        raise ValueError(
            f"at has shape {point.shape}; expected one point of {manifold!r}, of shape "
            f"{manifold.ambient_shape}"
        )
    return torch.from_numpy(check_finite("at", point, "leave it out for the base point"))


def _decoded(
    charts: Sequence[Chart],
    decode: Callable[[Tensor], Tensor],
    image_shape: tuple[int, ...],
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> Array:
    """Values at the cells shown, chart after chart, of shape ``(cells, *image_shape)``."""
    points = torch.cat([chart.points[chart.mask] for chart in charts]).to(
        device=device if device is not None else torch.get_default_device(),
        dtype=dtype if dtype is not None else torch.get_default_dtype(),
    )
    with torch.no_grad():
        images: Any = decode(points)
    values = as_array(images)
    if values.shape != (len(points), *image_shape):
        raise ValueError(
            f"decode returned shape {values.shape} for {len(points)} points; expected "
            f"{(len(points), *image_shape)}, from image_shape = {image_shape}"
        )
    return check_finite("what decode returned", values, "look at the decoder")


def _laid_out(charts: Sequence[Chart], values: Array, blank: float = np.nan) -> list[Array]:
    """For each chart ``(slices, rows, columns, *shape)``, blank in the cells that are not shown."""
    grids, start = [], 0
    for chart in charts:
        mask = chart.mask.numpy()
        grid = np.full((*mask.shape, *values.shape[1:]), blank)
        count = int(mask.sum())
        grid[mask] = values[start : start + count]
        grids.append(grid)
        start += count
    return grids


def _draw_images(charts: Sequence[Chart], values: Array, title: str, cmap: str | None) -> Figure:
    if values.ndim == 4:
        values = channels_last(values)
    scale = tone(values, cmap)
    # White for colours; for values, what colour maps leave blank.
    grids = _laid_out(charts, values, 1.0 if values.ndim == 4 else np.nan)
    alone = sum(chart.panels for chart in charts) == 1
    top = 0.3 if any(chart.slices for chart in charts) else 0.05
    places: list[tuple[Chart, int, Mosaic, float, float]] = []
    x = y = width = tallest = 0.0
    for chart, grid in zip(charts, grids, strict=True):
        # A strip is as wide as a square alone would be.
        target = TARGET if alone or chart.up is None else TARGET // 2
        own = 0.3 if chart.up is None else 0.85
        for k in range(chart.panels):
            mosaic = Mosaic(grid[k], int(target * min(1.0, grid.shape[2] / grid.shape[1])))
            left = own if k == 0 else 0.3
            if x and x + left + mosaic.width > WIDEST:
                x, y, left, tallest = 0.0, y + top + tallest + 0.48, own, 0.0
            places.append((chart, k, mosaic, x + left, y))
            x += left + mosaic.width
            width, tallest = max(width, x), max(tallest, mosaic.height)
    sheet = Sheet(width + 0.12, y + top + tallest + 0.48, title, notes_of(charts))
    for chart, k, mosaic, left, above in places:
        axes = sheet.axes(left, above + top, mosaic.width, mosaic.height)
        mosaic.draw(axes, scale, chart.extent)
        chart.finish(axes)
        chart.across.draw(axes.xaxis)
        if chart.up is None:
            axes.set_yticks([])
        else:
            chart.up.draw(axes.yaxis, texts=k == 0)
        if chart.slices:
            panel_title(axes, chart.slices[k])
    return sheet.figure
