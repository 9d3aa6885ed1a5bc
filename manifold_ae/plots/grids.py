"""What a decoder makes of a grid of points, laid out as the manifold is.

Images are shown where their points lie; features as tuning curves over one dimension, and as
tuning maps over two.
"""

from collections.abc import Callable
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.charts import Chart, chart_grid
from manifold_ae.plots.mosaic import TARGET, Mosaic, channels_last, tone
from manifold_ae.plots.style import Sheet, panel_title
from manifold_ae.plots.tuning import draw_curves, draw_maps

__all__ = ["decoded_grid"]


def decoded_grid(
    manifold: Manifold,
    decode: Callable[[Tensor], Tensor],
    image_shape: tuple[int, ...],
    *,
    size: int | None = None,
    cmap: str | None = None,
    title: str | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Figure:
    """What a decoder makes of a grid of points over a manifold.

    Circles become a strip, flat tori a square of angles, S² longitude and latitude, Euclidean
    space quantiles of its prior (in three dimensions three slices); more dimensions, a slice
    through the origin of angles or coordinates, as the second line says. Points are the middles
    of cells, so a period is covered once, without repeating its edge.

    Arguments:
        manifold: the latent space.
        decode: takes points ``(n, *manifold.ambient_shape)`` to mean images
            ``(n, *image_shape)``; called once, without gradients.
        image_shape: ``(height, width)``, or with one or three channels first; or ``(features,)``,
            drawn as tuning curves or tuning maps.
        size: the number of columns; by default 8 to 16 for images, more for features.
        cmap: colour map; by default ink on white for values in [0, 1], or else viridis.
        title: the first line; by default the manifold.
        dtype: of the points given to ``decode``; by default torch's.
        device: of those points; by default torch's.

    Raises:
        ValueError: if size is below 1, image_shape is none of these, no grid is registered for
            the manifold, or what is decoded is of another shape or not finite.

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
    chart = chart_grid(manifold, size)
    values = _decoded(chart, decode, image_shape, dtype, device)
    title = f"Decoded over {manifold!r}" if title is None else title
    if not features:
        return _draw_images(chart, values, title, cmap)
    return (
        draw_curves(chart, values, title) if chart.up is None else draw_maps(chart, values, title)
    )


def _decoded(
    chart: Chart,
    decode: Callable[[Tensor], Tensor],
    image_shape: tuple[int, ...],
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> Array:
    """Values of shape ``(slices, rows, columns, *image_shape)``."""
    grid = chart.points.shape[:3]
    points = chart.points.flatten(0, 2).to(
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
    values = check_finite("what decode returned", values, "look at the decoder")
    return values.reshape(*grid, *image_shape)


def _draw_images(chart: Chart, values: Array, title: str, cmap: str | None) -> Figure:
    if values.ndim == 6:
        values = channels_last(values)
    scale = tone(values, cmap)
    slices = len(values)
    mosaics = [Mosaic(one, TARGET if slices == 1 else TARGET // 2) for one in values]
    width, height = mosaics[0].width, mosaics[0].height
    left, gap = (0.0 if chart.up is None else 0.85), 0.3
    top = 0.3 if chart.slices else 0.05
    sheet = Sheet(
        left + slices * width + (slices - 1) * gap + 0.12, top + height + 0.48, title, chart.note
    )
    for k, mosaic in enumerate(mosaics):
        axes = sheet.axes(left + k * (width + gap), top, width, height)
        mosaic.draw(axes, scale, chart.extent)
        chart.across.draw(axes.xaxis)
        if chart.up is None:
            axes.set_yticks([])
        else:
            chart.up.draw(axes.yaxis, texts=k == 0)
        if chart.slices:
            panel_title(axes, chart.slices[k])
    return sheet.figure
