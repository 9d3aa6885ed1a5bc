"""A representation along a one-parameter path: the matrices ρ(sX), and their entries against s."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.colours import DIVERGING, PALETTE
from manifold_ae.plots.mosaic import colour_bar
from manifold_ae.plots.points import subscript
from manifold_ae.plots.style import (
    FAINT,
    INK,
    LABEL,
    MUTED,
    TICK,
    Sheet,
    axis_label,
    in_pi,
    panel_title,
)

__all__ = ["representation_path"]

#: Matrices shown.
MOST_MATRICES = 7

#: Entries that move, and coincide, by less than this fraction of the largest entry.
NEAR = 0.02


def representation_path(
    matrices: Any, parameter: Any, *, names: Sequence[str] | None = None, title: str | None = None
) -> Figure:
    """ρ(sX) as heat maps at some s, and below them the entries that move, as curves over s.

    Blocks show as squares on the diagonal, and a rotation of weight w as cos ws and ± sin ws.
    Entries whose curves coincide share a line.

    Arguments:
        matrices: ρ(sX), of shape ``(k, n, n)``, k ≥ 2; k of 100 or more make smooth curves.
        parameter: s, of shape ``(k,)``, increasing; as angles, in radians.
        names: of the n coordinates, written beside the matrices.
        title: the first line.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or s does not increase.

    Example:
        >>> s = np.linspace(0, 2 * np.pi, 100)
        >>> turns = np.moveaxis(np.array([[np.cos(s), -np.sin(s)], [np.sin(s), np.cos(s)]]), -1, 0)
        >>> figure = representation_path(turns, s)
    """
    rho = as_array(matrices)
    if rho.ndim != 3 or rho.shape[1] != rho.shape[2] or len(rho) < 2 or not rho.size:
        raise ValueError(f"matrices has shape {rho.shape}; expected (k, n, n), k at least 2")
    rho = check_finite("matrices", rho, "look at the representation that made them")
    s = as_array(parameter)
    if s.shape != rho.shape[:1]:
        raise ValueError(f"parameter has shape {s.shape}; expected {rho.shape[:1]}, that of ρ")
    s = check_finite("parameter", s, "leave those out")
    if (np.diff(s) <= 0).any():
        where = int(np.argmax(np.diff(s) <= 0))
        raise ValueError(
            f"parameter falls or stays from {s[where]:g} to {s[where + 1]:g} at index {where + 1}; "
            "expected increasing values: sort them with their matrices"
        )
    n = rho.shape[1]
    if names is not None and len(names) != n:
        raise ValueError(f"names = {list(names)!r}; expected {n}, one for each coordinate")
    limit = max(1.0, float(np.abs(rho).max()))
    moving, still = _curves(rho, NEAR * limit)
    notes = [f"{still} of {n * n} entries stand still and have no curve"] if still else []
    if len(moving) > len(PALETTE):
        notes.append(f"{len(PALETTE)} of {len(moving)} curves, those that move most")
        moving = moving[: len(PALETTE)]
    return _draw(rho, s, limit, moving, list(names or ()), title or "ρ along a path", notes)


def _curves(rho: Array, near: float) -> tuple[list[tuple[Array, list[str]]], int]:
    """Curves with the names of the entries that follow them, and how many entries stand still.

    The curves that move most come first.
    """
    n = rho.shape[1]
    comma = "," if n > 9 else ""
    paths = rho.reshape(len(rho), -1)
    moves = np.ptp(paths, axis=0)
    curves: list[tuple[Array, list[str]]] = []
    # Ties by rounding go to the first entry.
    for k in np.argsort(-np.round(moves, 6), kind="stable"):
        if moves[k] <= near:
            continue
        row, column = divmod(int(k), n)
        name = "ρ" + subscript(row + 1) + comma + subscript(column + 1)
        same = (names for path, names in curves if np.abs(path - paths[:, k]).max() <= near)
        found = next(same, None)
        if found is None:
            curves.append((paths[:, k], [name]))
        else:
            found.append(name)
    return curves, int((moves <= near).sum())


def _draw(
    rho: Array,
    s: Array,
    limit: float,
    curves: list[tuple[Array, list[str]]],
    names: list[str],
    title: str,
    notes: list[str],
) -> Figure:
    count = min(MOST_MATRICES, len(s))
    wanted = np.linspace(s[0], s[-1], count)
    chosen = np.unique(np.abs(s[:, None] - wanted).argmin(0))
    left, side, gap, top, height = 0.7, 1.2, 0.12, 0.3, 2.3
    if names:
        left = max(left, 0.25 + 0.085 * max(map(len, names)))
    width = count * (side + gap) - gap
    texts = [", ".join(entries[:3]) + ", …" * (len(entries) > 3) for _, entries in curves]
    key = 0.5 + 0.085 * max(map(len, texts), default=0)
    below = top + side + 0.45
    sheet = Sheet(left + width + max(key, 0.65), below + height + 0.5, title, ". ".join(notes))
    shown = None
    for place, k in enumerate(chosen):
        axes = sheet.axes(left + place * (side + gap), top, side, side)
        shown = axes.imshow(
            rho[k], cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto"
        )
        axes.set(xticks=[], yticks=[])
        if names and place == 0:
            axes.set_yticks(range(len(names)), names)
            axes.tick_params(length=0, labelcolor=INK, labelsize=TICK)
        panel_title(axes, ("s = " if place == 0 else "") + _value(s, float(s[k])))
    colour_bar(sheet, shown, left + width + 0.12, top, side)
    axes = sheet.axes(left, below, width, height)
    _lines(axes, s, curves)
    # Where the matrices above are.
    high = axes.get_ylim()[1]
    axes.plot(s[chosen], np.full(len(chosen), high), "v", color=MUTED, ms=4, clip_on=False)
    if not curves:
        return sheet.figure
    sheet.figure.legend(
        axes.lines[: len(curves)],
        texts,
        loc="upper left",
        bbox_to_anchor=sheet.place(left + width + 0.08, below),
        fontsize=LABEL,
        labelcolor=INK,
        frameon=False,
        handlelength=1.2,
        handletextpad=0.4,
        borderpad=0,
        borderaxespad=0,
    )
    return sheet.figure


def _lines(axes: Axes, s: Array, curves: list[tuple[Array, list[str]]]) -> None:
    for (path, _), colour in zip(curves, PALETTE, strict=False):
        axes.plot(s, path, color=colour, linewidth=1.8)
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    # A still path is drawn about zero.
    low = min([0.0, *(float(path.min()) for path, _ in curves)])
    high = max([0.0, *(float(path.max()) for path, _ in curves)])
    room = 0.1 * (high - low) or 1.0
    axes.set(xlim=(s[0], s[-1]), ylim=(low - room, high + room))
    axes.spines[["top", "right"]].set_visible(False)
    if _angular(s):
        step = math.pi / 2 * max(1, math.ceil((s[-1] - s[0]) / (4 * math.pi)))
        ticks = step * np.arange(math.ceil(s[0] / step - 1e-6), s[-1] / step + 1e-6)
        axes.set_xticks(ticks, [in_pi(float(tick)) for tick in ticks])
    axis_label(axes.xaxis, "s")
    axis_label(axes.yaxis, "entries of ρ(sX)")
    axes.xaxis.labelpad = axes.yaxis.labelpad = 1


def _angular(s: Array) -> bool:
    """Whether s covers half a turn, so that multiples of π make good ticks."""
    return float(s[-1] - s[0]) > math.pi - 1e-6


def _value(s: Array, value: float) -> str:
    return in_pi(value) if _angular(s) else f"{value:.2g}".replace("-", "−")
