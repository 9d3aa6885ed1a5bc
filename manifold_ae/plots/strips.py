"""Sequences of images in rows: what was true over what was predicted, and walks along the algebra.

Items are images, or rows of features, which are drawn as lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.colours import DIVERGING, PALETTE, PLAIN
from manifold_ae.plots.mosaic import TARGET, Mosaic, Tone, channels_last, tone
from manifold_ae.plots.style import FAINT, INK, LABEL, MUTED, Sheet, in_pi

__all__ = ["strips", "traversals"]

#: Differences below this fraction of the images' range stay pale.
LEAST_RANGE = 0.1


@dataclass(frozen=True)
class _Row:
    """A row ready to draw: items ``(k, …)``, and the scale of those with one value a pixel."""

    name: str
    items: Array
    scale: Tone
    signed: bool


def strips(
    rows: Sequence[Any],
    names: Sequence[str],
    *,
    columns: Sequence[Any] | None = None,
    signed: Sequence[str] = ("difference",),
    title: str | None = None,
) -> Figure:
    """Sequences of images, a row each, such as what was true over what was predicted.

    Arguments:
        rows: arrays of one shape: images ``(k, height, width)``, with one or three channels first
            or last; or rows of features ``(k, features)``, drawn as lines. Or several lists of
            such arrays, one for each trace, which are set a little apart.
        names: of the rows; of each trace's rows, where there are several.
        columns: what stands above the k columns: numbers of steps, ``[0, 1, 2, 4]``, or words.
        signed: names of rows that are differences: from blue over white at zero to orange, in
            colours about a middle grey; with a scale of their own, which the second line gives.
        title: the first line.

    Raises:
        ValueError: if shapes differ or are none of these, lengths do not fit, or values are not
            finite.

    Example:
        >>> true = np.random.default_rng(0).random((4, 8, 8))
        >>> figure = strips([true, true**2], ["true", "predicted"], columns=[0, 1, 2, 4])
    """
    groups = [list(group) for group in rows] if _grouped(rows) else [list(rows)]
    names = [str(name) for name in names]
    for group in groups:
        if len(group) != len(names) or not group:
            raise ValueError(
                f"names = {names!r} for {len(group)} rows; expected a name for each row"
            )
    texts = None if columns is None else _steps(list(columns))
    made, note = _rows(groups, names, signed)
    return _draw(made, texts, title or "", note)


def traversals(
    images: Any, amounts: Any, names: Sequence[str], *, title: str | None = None
) -> Figure:
    """Images along directions of the Lie algebra: a row a direction X, a column an amount s.

    Arguments:
        images: what is seen at ρ(sX) z, of shape ``(directions, k, height, width)``, with one or
            three channels first or last; or features, ``(directions, k, features)``.
        amounts: s, of shape ``(k,)``, written in units of π.
        names: of the directions.
        title: the first line.

    Raises:
        ValueError: if shapes are none of these, lengths do not fit, or values are not finite.

    Example:
        >>> s = np.linspace(-np.pi, np.pi, 5)
        >>> figure = traversals(np.cos(s)[None, :, None, None] * np.eye(4), s, ["turn"])
    """
    given = as_array(images)
    if given.ndim < 3 or not given.size:
        raise ValueError(
            f"images has shape {given.shape}; expected (directions, k, height, width), with "
            "channels or without, or (directions, k, features)"
        )
    s = as_array(amounts)
    if s.shape != given.shape[1:2]:
        raise ValueError(f"amounts has shape {s.shape}; expected {given.shape[1:2]}, one an image")
    s = check_finite("amounts", s, "leave those out")
    if len(names) != len(given):
        raise ValueError(f"names = {list(names)!r}; expected one for each of {len(given)} rows")
    made, note = _rows([list(given)], [str(name) for name in names], ())
    return _draw(made, [in_pi(float(value)) for value in s], title or "", note)


def _grouped(rows: Sequence[Any]) -> bool:
    return len(rows) > 0 and isinstance(rows[0], (list, tuple))


def _steps(columns: list[Any]) -> list[str]:
    """Texts above the columns; of numbers of steps, the first says that they are times."""
    if all(isinstance(value, (int, np.integer)) for value in columns):
        return [f"t = {value}" if k == 0 else str(value) for k, value in enumerate(columns)]
    return [str(value) for value in columns]


def _rows(
    groups: list[list[Any]], names: list[str], signed: Sequence[str]
) -> tuple[list[list[_Row]], str]:
    """All rows with their scales, and what the second line says of them."""
    arrays = [
        [_checked(name, array) for name, array in zip(names, group, strict=True)]
        for group in groups
    ]
    shape = arrays[0][0].shape
    for group in arrays:
        for name, array in zip(names, group, strict=True):
            if array.shape != shape:
                raise ValueError(
                    f"row {name!r} has shape {array.shape}; expected that of the first, {shape}"
                )
    plain = [k for k, name in enumerate(names) if name not in signed]
    apart = [k for k in range(len(names)) if k not in plain]
    images = np.stack([[group[k] for k in plain] for group in arrays]) if plain else None
    span = 0.0 if images is None else float(np.ptp(images))
    reach = max((float(np.abs(group[k]).max()) for group in arrays for k in apart), default=0.0)
    limit = max(reach, LEAST_RANGE * span) or 1.0
    scale = Tone("gray_r", 0.0, 1.0)
    if images is not None:
        # All of them at once, so that colours out of range are scaled alike.
        images = channels_last(images) if images.ndim == 6 else images
        low, high = float(images.min()), float(images.max())
        features = images.ndim == 4
        scale = Tone("", low, max(high, low + 1e-12)) if features else tone(images)
    made = []
    for g, group in enumerate(arrays):
        row: list[_Row] = []
        for k, name in enumerate(names):
            if k in plain:
                assert images is not None
                row.append(_Row(name, images[g, plain.index(k)], scale, False))
                continue
            values = group[k]
            if values.ndim == 4:
                values = 0.5 + np.moveaxis(values, 1, -1) / (2 * limit)
            row.append(_Row(name, values, Tone(DIVERGING, -limit, limit), True))
        made.append(row)
    listed = " and ".join(names[k] for k in apart)
    return made, f"{listed}: from −{limit:.2g} to {limit:.2g}" if apart else ""


def _checked(name: str, values: Any) -> Array:
    """Features ``(k, features)``, images ``(k, height, width)``, or three channels first."""
    array = as_array(values)
    if array.ndim == 4 and array.shape[1] not in (1, 3):
        array = np.moveaxis(array, -1, 1)
    channels = array.shape[1] if array.ndim == 4 else 1
    if array.ndim not in (2, 3, 4) or channels not in (1, 3) or not array.size:
        raise ValueError(
            f"row {name!r} has shape {as_array(values).shape}; expected images (k, height, width), "
            "with one or three channels first or last, or rows of features (k, features)"
        )
    array = check_finite(f"row {name!r}", array, "look at the model that made them")
    return array[:, 0] if array.ndim == 4 and channels == 1 else array


def _draw(groups: list[list[_Row]], texts: list[str] | None, title: str, note: str) -> Figure:
    first = groups[0][0].items
    count = len(first)
    if texts is not None and len(texts) != count:
        raise ValueError(f"columns has length {len(texts)}; expected one for each of {count}")
    left = 0.2 + 0.085 * max(len(row.name) for row in groups[0])
    top, gap = 0.24 if texts else 0.0, 0.14
    if first.ndim == 2:
        width, height = count * max(0.7, min(1.5, 7.0 / count)), 0.7
        draw = _lines
    else:
        mosaic = _mosaic(groups[0][0])
        width, height = mosaic.width, mosaic.height
        draw = _images
    step = len(groups[0]) * height + gap
    sheet = Sheet(left + width, top + len(groups) * step - gap, title, note)
    for g, group in enumerate(groups):
        for k, row in enumerate(group):
            axes = sheet.axes(left, top + g * step + k * height, width, height)
            draw(axes, row)
            axes.set(xticks=[])
            axes.set_yticks([np.mean(axes.get_ylim())], [row.name])
            axes.tick_params(length=0, labelcolor=INK, labelsize=LABEL)
    if texts:
        longest = max(map(len, texts))
        each = max(1, int(np.ceil((0.085 * longest + 0.08) * count / width)))
        for k in range(0, count, each):
            x, y = sheet.place(left + (k + 0.5) * width / count, top - 0.05)
            sheet.figure.text(x, y, texts[k], ha="center", va="bottom", fontsize=LABEL, color=MUTED)
    return sheet.figure


def _mosaic(row: _Row) -> Mosaic:
    # Few images are not blown up to the full width.
    return Mosaic(row.items[None], min(TARGET, len(row.items) * 150))


def _images(axes: Axes, row: _Row) -> None:
    count = len(row.items)
    _mosaic(row).draw(axes, row.scale, (0, count, 0, 1))
    # A figure at the edge of a white image has to be told from that of the next.
    axes.vlines(range(count + 1), 0, 1, color=FAINT, linewidth=0.8, clip_on=False)
    axes.hlines((0, 1), 0, count, color=FAINT, linewidth=0.8, clip_on=False)


def _lines(axes: Axes, row: _Row) -> None:
    """Features from left to right in each column's nine tenths."""
    features = row.items.shape[1]
    within = 0.5 + 0.9 * ((np.arange(features) + 0.5) / features - 0.5)
    few = features <= 12
    for k, values in enumerate(row.items):
        axes.plot(
            k + within,
            values,
            color=PALETTE[1] if row.signed else PLAIN,
            linewidth=1.2,
            marker="o" if few else "",
            ms=2.5,
        )
        axes.axvline(k, color=FAINT, linewidth=0.8)
    low, high = row.scale.low, row.scale.high
    margin = 0.1 * (high - low)
    if low < 0 < high:
        axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    axes.set(xlim=(0, len(row.items)), ylim=(low - margin, high + margin))
