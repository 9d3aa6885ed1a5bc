"""Grids of points over a manifold, and the axes that they are drawn on.

``chart_grid`` is a ``singledispatch`` on the manifold's type: a new manifold registers its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.plots.style import axis_label

__all__ = ["Chart", "Ticks", "angle_ticks", "cells", "chart_grid", "charts_of", "notes_of"]


@dataclass(frozen=True)
class Ticks:
    """One axis of a chart, from ``low`` to ``high``, cut into cells of equal width.

    Attributes:
        label: what it measures.
        low: coordinate of its first edge.
        high: coordinate of its last edge.
        places: coordinates of the ticks.
        texts: what the ticks say.
        periodic: whether its two edges are the same place.
    """

    label: str
    low: float
    high: float
    places: tuple[float, ...]
    texts: tuple[str, ...]
    periodic: bool = False

    def draw(self, axis: Axis, *, texts: bool = True, inner: bool = False) -> None:
        """Put the ticks on an axis whose limits are ``low`` and ``high``.

        In panels side by side, ``inner`` leaves out the first and last, which would touch.
        """
        which = slice(1, -1) if inner else slice(None)
        places = self.places[which]
        axis.set_ticks(places, self.texts[which] if texts else [""] * len(places))
        if texts:
            axis_label(axis, self.label)
            axis.labelpad = 2


@dataclass(frozen=True, eq=False)
class Chart:
    """Points on a grid over a manifold, in the order in which pictures are laid out.

    Attributes:
        points: of shape ``(slices, rows, columns, *ambient_shape)``, float64, rows from the top.
        across: the axis of the columns.
        up: the axis of the rows, from the bottom up; None in one dimension.
        slices: a title for each slice, where there are several.
        note: how the points were chosen, where the axes do not say it.
        shown: which cells are drawn, of shape ``(slices, rows, columns)``; None for all. What the
            points of the others are does not matter.
        varies: which coordinates vary, of shape ``ambient_shape``; None where all do. The others
            may be held elsewhere, see ``through``.
        outline: what to draw on the axes over the cells: edges, and how they are glued.
    """

    points: Tensor
    across: Ticks
    up: Ticks | None = None
    slices: tuple[str, ...] = ()
    note: str = ""
    shown: Tensor | None = None
    varies: Tensor | None = None
    outline: Callable[[Axes], None] | None = None

    @property
    def panels(self) -> int:
        """How many slices are drawn, side by side."""
        return len(self.points)

    @property
    def mask(self) -> Tensor:
        """Which cells are drawn, of shape ``(slices, rows, columns)``."""
        if self.shown is None:
            return torch.ones(self.points.shape[:3], dtype=torch.bool)
        return self.shown

    def through(self, point: Tensor) -> "Chart":
        """The chart with those coordinates that do not vary as in ``point``."""
        if self.varies is None:
            return self
        return replace(self, points=torch.where(self.varies, self.points, point.to(self.points)))

    def finish(self, axes: Axes) -> None:
        """Draw the outline, and set the limits to the chart's edges."""
        if self.outline is not None:
            self.outline(axes)
            left, right, bottom, top = self.extent
            axes.set(xlim=(left, right), ylim=(bottom, top))

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top edge."""
        low, high = (0.0, 1.0) if self.up is None else (self.up.low, self.up.high)
        return self.across.low, self.across.high, low, high


@singledispatch
def chart_grid(manifold: Manifold, size: int | None) -> Chart | tuple[Chart, ...]:
    """A grid of points on a manifold; register one for a new type with ``@chart_grid.register``.

    Several charts are drawn side by side, each on its own axes.

    Arguments:
        manifold: what to lay the grid over.
        size: the number of columns; None for a number that suits images.

    Raises:
        ValueError: if no grid is registered for manifolds of this type.
    """
    raise ValueError(
        f"manifold = {manifold!r}: no grid of points is known for it; register one with "
        f"@manifold_ae.plots.chart_grid.register({type(manifold).__name__})"
    )


def charts_of(manifold: Manifold, size: int | None) -> tuple[Chart, ...]:
    """What ``chart_grid`` gives, one chart or several, as a tuple."""
    charts = chart_grid(manifold, size)
    return charts if isinstance(charts, tuple) else (charts,)


def notes_of(charts: Sequence[Chart]) -> str:
    """The charts' notes, each of them once."""
    return ". ".join(dict.fromkeys(chart.note for chart in charts if chart.note))


def cells(count: int, low: float, high: float) -> Tensor:
    """Middles of ``count`` cells of equal width between two edges, of shape ``(count,)``.

    Round a circle they are one full period, and no point comes twice.
    """
    return low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count


def angle_ticks(label: str) -> Ticks:
    """An angle from −π to π, with ticks in multiples of π/2."""
    places = tuple(math.pi * k / 2 for k in range(-2, 3))
    return Ticks(label, -math.pi, math.pi, places, ("−π", "−π/2", "0", "π/2", "π"), periodic=True)
