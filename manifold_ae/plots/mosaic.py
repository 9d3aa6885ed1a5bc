"""Images side by side with one colour scale, pixel by pixel."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap

from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.style import DPI, MUTED, TICK, Sheet

__all__ = ["Mosaic", "Tone", "as_images", "channels_last", "colour_bar", "tone"]

#: Width in pixels that grids of images are enlarged to, as far as whole factors allow.
TARGET = 1050


@dataclass(frozen=True)
class Tone:
    """One colour scale for all images of a picture: the map, and the values at its ends."""

    cmap: str | Colormap
    low: float
    high: float


def tone(values: Array, cmap: str | None = None) -> Tone:
    """The scale for values of any shape: ink on white for values in [0, 1], or else viridis.

    Values count as in [0, 1] when they leave it by at most a quarter, as a decoder's mean may.
    """
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    unit = low >= -0.25 and high <= 1.25
    if unit:
        low, high = max(low, 0.0), min(high, 1.0)
    return Tone(cmap or ("gray_r" if unit else "viridis"), low, max(high, low + 1e-12))


class Mosaic:
    """Images side by side, enlarged by a whole factor, with thin white lines between.

    Arguments:
        images: of shape ``(rows, columns, height, width)``, or with three channels last.
        target: the width in pixels to come near to, from below where that is possible.
    """

    def __init__(self, images: Array, target: int = TARGET) -> None:
        rows, columns, _, width = images.shape[:4]
        factor = max(1, int(target / (columns * width * 1.07)))
        gap = max(1, round(factor * width / 56))
        tiles = images.repeat(factor, axis=2).repeat(factor, axis=3)
        edge = ((0, 0), (0, 0), (gap, gap), (gap, gap), (0, 0))[: images.ndim]
        # White for colours; for values, what colour maps leave blank.
        blank = 1.0 if images.ndim == 5 else np.nan
        tiles = np.pad(tiles, edge, constant_values=blank)
        pixels = np.moveaxis(tiles, 2, 1)
        self.pixels = pixels.reshape(
            rows * tiles.shape[2], columns * tiles.shape[3], *images.shape[4:]
        )
        self.tile_height, self.tile_width = tiles.shape[2] / DPI, tiles.shape[3] / DPI
        self.height, self.width = self.pixels.shape[0] / DPI, self.pixels.shape[1] / DPI

    def draw(
        self, axes: Axes, scale: Tone, extent: tuple[float, float, float, float] | None = None
    ) -> None:
        """Show the images in axes of the mosaic's width and height, pixel by pixel."""
        axes.imshow(
            self.pixels,
            cmap=scale.cmap,
            vmin=scale.low,
            vmax=scale.high,
            extent=extent,
            interpolation="nearest",
            aspect="auto",
        )
        axes.spines[:].set_visible(False)


def as_images(name: str, values: Any, *, gaps: bool = False) -> tuple[Array, bool]:
    """Finite values, one item a row, and whether the items are images.

    Images ``(n, height, width)``, or with one or three channels first, come back with three
    channels last or none; rows of features ``(n, features)`` as they are. With ``gaps``, NaN stands
    for what is missing.

    Raises:
        ValueError: if the values are of another shape, there are none, or some are not finite.
    """
    array = as_array(values)
    channels = array.shape[1] if array.ndim == 4 else 1
    if array.ndim not in (2, 3, 4) or channels not in (1, 3) or not array.size:
        raise ValueError(
            f"{name} has shape {array.shape}; expected images (n, height, width), "
            "(n, 1, height, width) or (n, 3, height, width), or rows of features (n, features)"
        )
    known = np.where(np.isnan(array), 0.0, array) if gaps else array
    known = check_finite(name, known, "look at the decoder that made them")
    array = np.where(np.isnan(array), np.nan, known) if gaps else known
    if array.ndim == 4:
        array = channels_last(array)
    return array, array.ndim > 2


def channels_last(images: Array) -> Array:
    """Images ``(*, 1, height, width)`` without that axis; those with three colours, colours last.

    Colours that leave [0, 1] by more than a quarter are scaled into it, all alike; lesser
    excesses are clipped.
    """
    if images.shape[-3] == 1:
        return images[..., 0, :, :]
    colours = np.moveaxis(images, -3, -1)
    low, high = np.nanmin(colours), np.nanmax(colours)
    if low < -0.25 or high > 1.25:
        colours = (colours - low) / max(float(high - low), 1e-12)
    return np.clip(colours, 0, 1)


def colour_bar(sheet: Sheet, shown: Any, left: float, top: float, height: float) -> None:
    """A slim scale of the values of an image."""
    axes = sheet.axes(left, top, 0.12, height)
    axes.set_label("scale")
    bar = sheet.figure.colorbar(shown, cax=axes)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    axes.tick_params(labelsize=TICK, labelcolor=MUTED, color=MUTED, length=2)
