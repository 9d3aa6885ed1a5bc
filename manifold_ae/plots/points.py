"""Points on a manifold, in the picture that suits the manifold.

``latents`` checks its arguments and hands over to ``draw_points``, a ``singledispatch`` on the
manifold's type: a new manifold's picture is a file that registers itself there. Manifolds
without a picture of their own are shown by pairs of ambient coordinates.
"""

import math
from collections.abc import Callable, Sequence
from functools import singledispatch
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_ae.manifolds import Manifold
from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.colours import MARKERS
from manifold_ae.plots.labels import Colouring, colouring
from manifold_ae.plots.style import Sheet, axis_label

__all__ = ["draw_pairs", "draw_points", "latents", "scatter"]

#: Pairs of coordinates shown at most: all those of four coordinates.
MOST_PANELS = 6


def latents(
    manifold: Manifold, points: Any, labels: Any = None, *, title: str | None = None
) -> Figure:
    """Points on a manifold, coloured by labels.

    Points off the manifold are shown where ``manifold.projx`` puts them, or nearly so.

    Arguments:
        manifold: where the points lie.
        points: tensor or array of shape ``(n, *manifold.ambient_shape)``.
        labels: classes, as integers of shape ``(n,)``; one angle in radians, as floats of shape
            ``(n,)`` or ``(n, 1)``; two angles, ``(n, 2)``; or None.
        title: the first line; by default the manifold and the number of points.

    Raises:
        ValueError: if points or labels are of the wrong shape, or are not finite.

    Example:
        >>> from manifold_ae.manifolds import Sphere
        >>> M = Sphere(2)
        >>> figure = latents(M, M.random_uniform(500))
    """
    shown = as_array(points)
    if shown.shape[1:] != manifold.ambient_shape or shown.ndim == 0:
        raise ValueError(
            f"points has shape {shown.shape}; points of {manifold!r} have shape "
            f"(n, {', '.join(map(str, manifold.ambient_shape))})"
        )
    if not len(shown):
        raise ValueError(f"points has shape {shown.shape}: there is nothing to draw")
    shown = check_finite("points", shown, "leave those points out, or look at the encoder")
    colours = colouring(labels, len(shown))
    return draw_points(
        manifold, shown, colours, f"{manifold!r}, {len(shown)} points" if title is None else title
    )


@singledispatch
def draw_points(manifold: Manifold, points: Array, colours: Colouring, title: str) -> Figure:
    """The picture of a manifold; register one for a new type with ``@draw_points.register``.

    This one, for types without their own, shows pairs of ambient coordinates.

    Arguments:
        manifold: where the points lie.
        points: finite floats of shape ``(n, *manifold.ambient_shape)``, n ≥ 1.
        colours: their colours, and the key.
        title: the first line.
    """
    flat = points.reshape(len(points), -1)
    return draw_pairs(flat, flat.var(0), "x", "coordinates", colours, title)


def subscript(k: int) -> str:
    """An index as subscript digits: 12 → ₁₂."""
    return str(k).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def scatter(axes: Axes, coordinates: Sequence[Array], colours: Colouring, **style: Any) -> None:
    """Points at the given coordinates, two or three arrays of shape ``(n,)``.

    Drawn in an order shuffled once and for all, so that no class hides another for coming later.
    Points at NaN are left out.
    """
    n = len(colours.rgb)
    order = np.random.default_rng(0).permutation(n)
    order = order[np.isfinite(coordinates[0][order])]
    area = axes.bbox.width * axes.bbox.height / axes.figure.dpi**2
    # Square points an inch of panel: together the points cover about a fifth of it.
    size = float(np.clip(1000 * area / n, 1.5, 28))
    look = {"s": size, "alpha": 0.9 if n <= 5000 else 0.7} | style
    for k, marker in enumerate(MARKERS):
        one = order[colours.marker[order] == k]
        if len(one):
            axes.scatter(
                *(values[one] for values in coordinates),
                c=colours.rgb[one],
                marker=marker,
                linewidths=0,
                rasterized=True,
                **look,
            )


def draw_pairs(
    coordinates: Array,
    spread: Array,
    name: str,
    what: str,
    colours: Colouring,
    title: str,
    frame: Callable[[Axes], None] | None = None,
) -> Figure:
    """Panels of pairs of coordinates: those of the four that vary most.

    Arguments:
        coordinates: of shape ``(n, k)``, k ≥ 2.
        spread: how much each varies, of shape ``(k,)``.
        name: the symbol of a coordinate, before its number.
        what: what coordinates are called in the plural.
        colours: the colours of the n points.
        title: the first line.
        frame: what to draw below the points of every panel, and its limits.
    """
    k = coordinates.shape[1]
    if k < 2:
        raise ValueError(f"coordinates has shape {coordinates.shape}; pairs take at least two")
    # Ties, and spreads that differ by rounding alone, go to the lower index.
    most = np.sort(np.argsort(-np.round(spread, 12), kind="stable")[:4])
    pairs = list(combinations(most.tolist(), 2))[:MOST_PANELS]
    total = math.comb(k, 2)
    subtitle = ""
    if len(pairs) < total:
        subtitle = f"{len(pairs)} of {total} pairs, among the four {what} that vary most"
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    side, gap = (3.6, 0.0) if len(pairs) == 1 else (2.3, 0.72)
    left = 0.72
    width = left + columns * side + (columns - 1) * gap
    sheet = Sheet(
        width + colours.width, rows * side + (rows - 1) * gap * 0.85 + 0.52, title, subtitle
    )
    for panel, (i, j) in enumerate(pairs):
        row, column = divmod(panel, columns)
        axes = sheet.axes(
            left + column * (side + gap), row * (side + 0.85 * gap) + 0.05, side, side
        )
        if frame is not None:
            frame(axes)
        scatter(axes, (coordinates[:, i], coordinates[:, j]), colours)
        axes.set_aspect("equal", adjustable="datalim" if frame is None else "box")
        axis_label(axes.xaxis, name + subscript(i + 1))
        axis_label(axes.yaxis, name + subscript(j + 1))
        axes.xaxis.labelpad = axes.yaxis.labelpad = 1
    colours.draw_key(sheet, width, 0.05)
    return sheet.figure
