"""Latents on the planes that a representation turns, coloured by the hidden factors.

A plane on which ρ is the rotation by wθ shows a circle, and round it the colours of θ, |w| times
over. Where it does not follow the factor the colours are mixed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.circle import spread
from manifold_ae.plots.labels import Colouring, colouring
from manifold_ae.plots.points import scatter, subscript
from manifold_ae.plots.style import FAINT, Sheet, axis_label, panel_title

__all__ = ["planes"]

#: Planes shown at most: those that vary most.
MOST_PLANES = 8


@dataclass(frozen=True)
class _Plane:
    """Two coordinates of every latent, and what they are called."""

    x: Array
    y: Array
    across: str
    up: str

    @property
    def variance(self) -> float:
        return float(self.x.var() + self.y.var())


def planes(
    latents: Any,
    labels: Any = None,
    *,
    blocks: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Latents on the planes of a representation's blocks: a row a plane, a column a factor.

    All panels have one scale, with the origin, that no action moves, in the middle. So a plane
    without latents in it is a dot.

    Arguments:
        latents: of shape ``(n, size)``.
        labels: hidden factors to colour by: angles in radians, floats of shape ``(n, factors)`` or
            ``(n,)``; or classes, integers of shape ``(n,)``; or None.
        blocks: sizes of the blocks, in the order of the coordinates. A block of 2 is a plane; one
            of 3 is seen along its three axes; a larger one on its two principal axes; of one of 1
            the values, as wide as they are dense. By default pairs of coordinates, or, of an odd
            size, a single block.
        names: of the factors.
        title: the first line.

    Raises:
        ValueError: if shapes do not fit, blocks do not add up to the size, or values are not
            finite.

    Example:
        >>> angles = np.random.default_rng(0).uniform(-3, 3, (500, 2))
        >>> z = np.stack([np.cos(angles), np.sin(angles)], -1).reshape(500, 4)
        >>> figure = planes(z, angles, names=("x", "y"))
    """
    z = as_array(latents)
    if z.ndim != 2 or not z.size:
        raise ValueError(f"latents has shape {z.shape}; expected (n, size), n and size at least 1")
    z = check_finite("latents", z, "leave those out, or look at the encoder")
    columns = _columns(labels, names, len(z))
    shown = [
        plane
        for start, size in _starts(blocks, z.shape[1])
        for plane in _views(z[:, start : start + size], start)
    ]
    total = len(shown)
    variances = np.round([plane.variance for plane in shown], 12)
    most = np.sort(np.argsort(-variances, kind="stable")[:MOST_PLANES])
    shown = [shown[k] for k in most]
    note = f"{len(shown)} of {total} planes, those that vary most" if len(shown) < total else ""
    return _draw(shown, columns, f"{len(z)} latents" if title is None else title, note)


def _columns(labels: Any, names: Sequence[str] | None, n: int) -> list[tuple[str, Colouring]]:
    """What each column is called, and its colours."""
    if labels is None and names is not None:
        raise ValueError(f"names = {list(names)!r} without labels; expected both, or neither")
    given = None if labels is None else as_array(labels)
    if given is None or given.ndim != 2:
        factors: list[Any] = [given]
    elif len(given) != n or not given.shape[1] or given.dtype.kind != "f":
        raise ValueError(
            f"labels has shape {given.shape} and dtype {given.dtype} for {n} latents; expected "
            f"angles in radians as floats ({n}, factors), or classes as integers ({n},)"
        )
    else:
        factors = list(given.T)
    several = len(factors) > 1
    default = [f"factor {k + 1}" for k in range(len(factors))] if several else [""]
    texts = default if names is None else [str(name) for name in names]
    if len(texts) != len(factors):
        raise ValueError(
            f"names = {list(names or ())!r}; expected one for each of {len(factors)} factor(s) of "
            "labels"
        )
    return [(text, colouring(factor, n)) for text, factor in zip(texts, factors, strict=True)]


def _starts(blocks: Sequence[int] | None, size: int) -> list[tuple[int, int]]:
    """Where each block starts, and its size."""
    sizes = ((2,) * (size // 2) if size % 2 == 0 else (size,)) if blocks is None else tuple(blocks)
    whole = all(isinstance(k, int) and not isinstance(k, bool) and k > 0 for k in sizes)
    if not whole or sum(sizes) != size:
        raise ValueError(
            f"blocks = {list(sizes)}; expected positive integers that add up to {size}, the size "
            "of the latents: name those that no action moves as blocks too, or leave them out of "
            "both"
        )
    starts = np.cumsum([0, *sizes])
    return [(int(start), k) for start, k in zip(starts, sizes, strict=False)]


def _views(z: Array, start: int) -> list[_Plane]:
    """The planes that a block is seen on, for its latents ``(n, k)``."""
    k = z.shape[1]
    axes = ["z" + subscript(start + j + 1) for j in range(k)]
    if k == 1:
        offset, _ = spread(z[:, 0])
        # As wide as a tenth of the values reach, so that it stays a line.
        return [_Plane(z[:, 0], 0.1 * np.abs(z).max() * offset, axes[0], "")]
    if k <= 3:
        pairs = [(0, 1), (0, 2), (1, 2)][: 1 if k == 2 else 3]
        return [_Plane(z[:, i], z[:, j], axes[i], axes[j]) for i, j in pairs]
    values, directions = np.linalg.eigh(np.cov(z.T, bias=True))
    share = values[::-1] / max(float(values.sum()), np.finfo(float).tiny)
    first, second = directions[:, ::-1].T[:2]
    # Axes come with either sign.
    x, y = (z @ (axis * np.sign(axis[np.abs(axis).argmax()])) for axis in (first, second))
    block = f"{axes[0]} … {axes[-1]}"
    return [_Plane(x, y, f"first axis of {block}, {share[0]:.0%}", f"second axis, {share[1]:.0%}")]


def _draw(
    shown: list[_Plane], columns: list[tuple[str, Colouring]], title: str, note: str
) -> Figure:
    side = 2.3 if len(shown) * len(columns) > 1 else 3.6
    gap_x, gap_y, left, top = 0.2, 0.62, 0.75, 0.3 if any(name for name, _ in columns) else 0.05
    width = left + len(columns) * (side + gap_x) - gap_x
    colours = [colours for _, colours in columns]
    # Angles have one key for all factors.
    key = colours[0]
    sheet = Sheet(width + key.width, top + len(shown) * (side + gap_y) - gap_y + 0.5, title, note)
    reach = max(float(np.abs([plane.x, plane.y]).max()) for plane in shown)
    limit = 1.08 * reach or 1.0
    for row, plane in enumerate(shown):
        for column, (name, colour) in enumerate(columns):
            axes = sheet.axes(
                left + column * (side + gap_x), top + row * (side + gap_y), side, side
            )
            axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
            axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
            axes.locator_params(nbins=5)
            axes.tick_params(labelleft=column == 0)
            scatter(axes, (plane.x, plane.y), colour)
            axis_label(axes.xaxis, plane.across)
            axes.xaxis.labelpad = axes.yaxis.labelpad = 1
            if column == 0:
                axis_label(axes.yaxis, plane.up)
            if row == 0 and name:
                panel_title(axes, f"coloured by {name}")
    key.draw_key(sheet, width, top)
    return sheet.figure
