"""What labels look like: a colour for every point, and the key that explains the colours.

The kind of labels decides: integers (or words) are classes, one float a point is an angle, two
are a pair of angles, and without labels all points have one colour.
"""

import math
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.colours import MARKERS, PALETTE, PLAIN, cyclic_colours, periodic_colours
from manifold_ae.plots.style import INK, LABEL, TICK, Sheet, angle_axis

__all__ = ["Colouring", "colouring"]


class Colouring:
    """A colour for each of n points: here one for all, with no key.

    Attributes:
        rgb: sRGB in [0, 1], of shape ``(n, 3)``.
        marker: index into ``colours.MARKERS``, of shape ``(n,)``.
        width: what the key takes beside the picture, in inches.
    """

    width = 0.0

    def __init__(self, rgb: Array, marker: Array | None = None) -> None:
        self.rgb = rgb
        self.marker = np.zeros(len(rgb), dtype=int) if marker is None else marker

    def draw_key(self, sheet: Sheet, left: float, top: float) -> None:
        """Draw the key with its top left corner there, in inches."""

    def without_key(self) -> "Colouring":
        """The same colours, explained elsewhere."""
        return Colouring(self.rgb, self.marker)

    def repeated(self, times: int) -> "Colouring":
        """Colours and key for all n points so many times over, one round after another."""
        repeated = copy(self)
        repeated.rgb, repeated.marker = np.tile(self.rgb, (times, 1)), np.tile(self.marker, times)
        return repeated


class _Classes(Colouring):
    """A legend of the classes, in two columns where there are many."""

    def __init__(self, labels: Array) -> None:
        names, index = np.unique(labels, return_inverse=True)
        most = len(PALETTE) * len(MARKERS)
        if len(names) > most:
            raise ValueError(
                f"labels holds {len(names)} classes; at most {most} can be told apart. Pass fewer, "
                "or pass angles in radians as floats"
            )
        self._names = [str(name) for name in names]
        self._columns = 1 if len(names) <= 14 else 1 + (len(names) - 1) // 14
        widest = max(len(name) for name in self._names)
        self.width = 0.15 + self._columns * (0.42 + 0.09 * widest)
        palette = np.array([to_rgb(colour) for colour in PALETTE])
        super().__init__(palette[index % len(PALETTE)], index // len(PALETTE))

    def draw_key(self, sheet: Sheet, left: float, top: float) -> None:
        handles = [
            Line2D(
                [],
                [],
                linestyle="none",
                marker=MARKERS[k // len(PALETTE)],
                markersize=7,
                markerfacecolor=PALETTE[k % len(PALETTE)],
                markeredgewidth=0,
            )
            for k in range(len(self._names))
        ]
        sheet.figure.legend(
            handles,
            self._names,
            loc="upper left",
            bbox_to_anchor=sheet.place(left + 0.1, top),
            ncols=self._columns,
            fontsize=LABEL,
            labelcolor=INK,
            frameon=False,
            handletextpad=0.2,
            columnspacing=0.6,
            borderpad=0.0,
            borderaxespad=0.0,
        )


class _Angle(Colouring):
    """A ring that shows the colour of each angle."""

    width = 1.75

    def draw_key(self, sheet: Sheet, left: float, top: float) -> None:
        axes = sheet.axes(left + 0.38, top + 0.45, 1.0, 1.0)
        axes.set_label("key")
        axes.axis("off")
        side = np.linspace(-1, 1, 301)
        x, y = np.meshgrid(side, side)
        radius = np.hypot(x, y)
        # Opacity falls within about a pixel, so that the ring's edges are smooth.
        inside = np.clip((1 - radius) * 75, 0, 1) * np.clip((radius - 0.55) * 75, 0, 1)
        ring = np.dstack([cyclic_colours(np.arctan2(y, x)), inside])
        axes.imshow(ring, origin="lower", extent=(-1, 1, -1, 1), interpolation="nearest")
        for turn, text in ((0.0, "0"), (0.5, "π/2"), (1.0, "±π"), (-0.5, "−π/2")):
            place = 1.28 * math.cos(math.pi * turn), 1.28 * math.sin(math.pi * turn)
            axes.text(*place, text, ha="center", va="center", fontsize=TICK, color=INK)
        axes.text(0, 1.62, "label", ha="center", va="bottom", fontsize=LABEL, color=INK)


class _TwoAngles(Colouring):
    """A square that shows the colour of each pair of angles, as in the paper's figure 5."""

    width = 1.9

    def draw_key(self, sheet: Sheet, left: float, top: float) -> None:
        axes = sheet.axes(left + 0.65, top + 0.05, 1.15, 1.15)
        axes.set_label("key")
        side = np.linspace(-math.pi, math.pi, 173)
        grid = np.stack(np.meshgrid(side, side), -1)
        span = (-math.pi, math.pi, -math.pi, math.pi)
        axes.imshow(periodic_colours(grid), origin="lower", extent=span, interpolation="nearest")
        angle_axis(axes.xaxis, "label 1", halves=False)
        angle_axis(axes.yaxis, "label 2", halves=False)
        axes.xaxis.labelpad = axes.yaxis.labelpad = 1


def colouring(labels: Sequence[Any] | Array | Any | None, n: int) -> Colouring:
    """Colours and key for n points.

    Arguments:
        labels: integers, booleans or words of shape ``(n,)``: classes; floats of shape ``(n,)``
            or ``(n, 1)``: one angle in radians; floats of shape ``(n, k)``: two or more, of which
            the first two are shown; None: none.

    Raises:
        ValueError: if the labels are of another length, shape or kind, or are not finite.
    """
    if labels is None:
        return Colouring(np.tile(to_rgb(PLAIN), (n, 1)))
    labels = as_array(labels)
    expected = (
        f"expected classes as integers ({n},), one angle in radians as floats ({n},) or ({n}, 1), "
        f"or two angles or more ({n}, k)"
    )
    if labels.ndim == 0 or len(labels) != n:
        raise ValueError(f"labels has shape {labels.shape} for {n} points; {expected}")
    if labels.dtype.kind in "iubUS" and labels.ndim == 1:
        return _Classes(labels)
    if labels.dtype.kind != "f" or labels.ndim > 2 or 0 in labels.shape[1:]:
        raise ValueError(f"labels has shape {labels.shape} and dtype {labels.dtype}; {expected}")
    angles = check_finite("labels", labels, "leave out the points without a label")
    if angles.ndim == 2 and angles.shape[1] > 1:
        return _TwoAngles(periodic_colours(angles[:, :2]))
    return _Angle(cyclic_colours(angles.reshape(n)))
