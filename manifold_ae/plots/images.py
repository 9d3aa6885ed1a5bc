"""Pictures of many items: samples, and originals beside their reconstructions.

Items are images, or rows of features.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from manifold_ae.plots.arrays import Array, as_array
from manifold_ae.plots.colours import PALETTE
from manifold_ae.plots.mosaic import Mosaic, as_images, colour_bar, tone
from manifold_ae.plots.style import INK, LABEL, MUTED, Sheet, axis_label, panel_title

__all__ = ["reconstructions", "samples"]


def samples(images: Any, *, columns: int = 8, title: str | None = None) -> Figure:
    """A grid of images, from left to right and from the top, with one colour scale.

    Arguments:
        images: of shape ``(n, height, width)``, or with one or three channels first; rows of
            features ``(n, features)`` become the rows of a heat map.
        columns: images in a row.
        title: the first line.

    Raises:
        ValueError: if the shape is another, values are not finite, or columns is below 1.
    """
    if columns < 1:
        raise ValueError(f"columns = {columns}; expected at least 1")
    items, pictures = as_images("images", images)
    if not pictures:
        return _heat_map(items, title or f"{len(items)} samples")
    columns = min(columns, len(items))
    rows = -(-len(items) // columns)
    blank = np.full((rows * columns, *items.shape[1:]), 1.0 if items.ndim == 4 else np.nan)
    blank[: len(items)] = items
    mosaic = Mosaic(blank.reshape(rows, columns, *items.shape[1:]))
    sheet = Sheet(mosaic.width, mosaic.height, title or "")
    axes = sheet.axes(0, 0, mosaic.width, mosaic.height)
    mosaic.draw(axes, tone(items))
    axes.set(xticks=[], yticks=[])
    return sheet.figure


def _heat_map(rows: Array, title: str) -> Figure:
    height = min(4.5, max(1.5, 0.09 * len(rows)))
    sheet = Sheet(6.6, height + 0.6, title)
    axes = sheet.axes(0.65, 0.05, 5.0, height)
    shown = axes.imshow(rows, cmap="viridis", interpolation="nearest", aspect="auto")
    axis_label(axes.xaxis, "feature")
    axis_label(axes.yaxis, "sample")
    colour_bar(sheet, shown, 5.8, 0.05, height)
    return sheet.figure


def reconstructions(
    originals: Any,
    reconstructions: Any,
    *,
    count: int = 12,
    labels: Sequence[Any] | Any | None = None,
    title: str | None = None,
    gaps: bool = False,
) -> Figure:
    """The first originals, and below or over each what became of it.

    Arguments:
        originals: images ``(n, height, width)``, or with one or three channels first: shown in
            pairs of rows; or rows of features ``(n, features)``: shown as lines, one over another.
        reconstructions: of the same shape.
        count: how many to show, at most.
        labels: what to write above each, of length n; or None.
        title: the first line.
        gaps: whether originals may have NaN, for what is missing: it is left blank.

    Raises:
        ValueError: if shapes differ or are none of these, values are not finite, count is below
            1, or labels is of another length.
    """
    before, pictures = as_images("originals", originals, gaps=gaps)
    after, _ = as_images("reconstructions", reconstructions)
    if before.shape != after.shape:
        raise ValueError(
            f"reconstructions has shape {as_array(reconstructions).shape}; expected that of "
            f"originals, {as_array(originals).shape}"
        )
    if count < 1:
        raise ValueError(f"count = {count}; expected at least 1")
    names = [] if labels is None else [str(label) for label in as_array(labels).tolist()]
    if labels is not None and len(names) != len(before):
        raise ValueError(f"labels has length {len(names)}; expected one for each of {len(before)}")
    before, after, names = before[:count], after[:count], names[:count]
    draw = _image_pairs if pictures else _line_pairs
    return draw(before, after, names, title or "")


def _image_pairs(before: Array, after: Array, names: list[str], title: str) -> Figure:
    columns = min(12, len(before))
    scale = tone(before)
    strips = []
    for start in range(0, len(before), columns):
        pair = np.stack([before[start : start + columns], after[start : start + columns]])
        missing = columns - pair.shape[1]
        pad = ((0, 0), (0, missing)) + ((0, 0),) * (pair.ndim - 2)
        blank = 1.0 if pair.ndim == 5 else np.nan
        # Few images are not blown up to the full width.
        target = min(1300, columns * 150)
        strips.append(Mosaic(np.pad(pair, pad, constant_values=blank), target))
    left, above, gap = 1.25, 0.24 if names else 0.0, 0.16
    step = above + strips[0].height + gap
    sheet = Sheet(left + strips[0].width, len(strips) * step - gap, title)
    for row, strip in enumerate(strips):
        axes = sheet.axes(left, row * step + above, strip.width, strip.height)
        strip.draw(axes, scale, (0, columns, 0, 2))
        axes.set(xticks=[])
        axes.set_yticks([1.5, 0.5], ["original", "reconstruction"])
        axes.tick_params(length=0, labelcolor=INK, labelsize=LABEL)
        for k, name in enumerate(names[row * columns : (row + 1) * columns]):
            axes.text(k + 0.5, 2.0, name, ha="center", va="bottom", fontsize=LABEL, color=MUTED)
    return sheet.figure


def _line_pairs(before: Array, after: Array, names: list[str], title: str) -> Figure:
    columns = min(4, len(before))
    rows = -(-len(before) // columns)
    width, height, gap, above, left = 2.0, 1.15, 0.15, 0.3, 0.45
    step = height + (above if names else gap)
    sheet = Sheet(left + columns * (width + gap), 0.3 + rows * step + 0.45, title)
    low = float(min(np.nanmin(before), after.min()))
    high = float(max(np.nanmax(before), after.max()))
    margin = 0.06 * (high - low) or 1.0
    feature = np.arange(before.shape[1])
    lines = []
    for k in range(len(before)):
        row, column = divmod(k, columns)
        top = 0.3 + row * step + (above if names else gap) - gap
        axes = sheet.axes(left + column * (width + gap), top, width, height)
        few = len(feature) <= 40
        lines = [
            *axes.plot(
                feature, before[k], color=MUTED, linewidth=1.2, marker="o" if few else "", ms=3
            ),
            *axes.plot(feature, after[k], color=PALETTE[1], linewidth=1.5),
        ]
        axes.set_ylim(low - margin, high + margin)
        axes.tick_params(labelleft=column == 0, labelbottom=k + columns >= len(before))
        axes.spines[["right", "top"]].set_visible(False)
        if names:
            panel_title(axes, names[k])
        if k + columns >= len(before):
            axis_label(axes.xaxis, "feature")
            axes.xaxis.labelpad = 1
    sheet.figure.legend(
        lines,
        ["original", "reconstruction"],
        loc="upper left",
        bbox_to_anchor=sheet.place(left, 0),
        ncols=2,
        fontsize=LABEL,
        labelcolor=INK,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
    )
    return sheet.figure
