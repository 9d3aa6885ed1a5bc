"""Points along a line or round a circle, spread sideways as far as they are dense.

On a bare line, a thousand points that coincide look like one. Each is moved off the line by up to
the density where it lies, so that the outline is the density and the crowding inside is even.
"""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from manifold_ae.plots.arrays import Array
from manifold_ae.plots.labels import Colouring
from manifold_ae.plots.points import scatter
from manifold_ae.plots.style import FAINT, INK, LABEL, Sheet

__all__ = ["draw_circle", "spread"]

#: How far from the circle, of radius 1, the densest points are moved.
BAND = 0.3


def spread(positions: Array, *, period: float | None = None) -> tuple[Array, float]:
    """Offsets in [−1, 1] off the line, and the density that 1 stands for.

    The largest offset where a point lies is proportional to the density there, estimated with a
    Gaussian kernel of Silverman's width; offsets fill the band evenly and without chance.

    Arguments:
        positions: of shape ``(n,)``.
        period: the length at which positions repeat, or None on a line.
    """
    n = len(positions)
    if period is None:
        deviation = float(positions.std())
        low, high = float(positions.min()), float(positions.max())
    else:
        turns = 2 * math.pi / period
        resultant = abs(np.exp(1j * turns * positions).mean())
        deviation = math.sqrt(-2 * math.log(min(max(resultant, 1e-9), 1 - 1e-9))) / turns
        deviation = min(deviation, period / 6)
        low, high = -period / 2, period / 2
        positions = (positions - low) % period + low
    width = max(1.06 * deviation * n**-0.2, 1e-3 * max(high - low, 1e-6))
    if period is None:
        low, high = low - 4 * width, high + 4 * width
    bins = 720
    counts, edges = np.histogram(positions, bins, (low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    distance = np.arange(bins) * (high - low) / bins
    distance = np.minimum(distance, (high - low) - distance)
    kernel = np.exp(-0.5 * (distance / width) ** 2)
    smooth = np.fft.irfft(np.fft.rfft(counts) * np.fft.rfft(kernel), bins)
    density = smooth / (smooth.sum() * (high - low) / bins)
    here = np.interp(positions, middles, density, period=period)
    # Multiples of the golden ratio fill an interval evenly however many there are.
    rank = np.empty(n)
    rank[np.argsort(positions, kind="stable")] = np.arange(n)
    side = 2 * ((rank + 0.5) * (math.sqrt(5) - 1) / 2 % 1) - 1
    return side * here / here.max(), float(here.max())


def draw_circle(
    angles: Array,
    colours: Colouring,
    title: str,
    subtitle: str = "",
    texts: tuple[str, str, str, str] = ("0", "π/2", "±π", "−π/2"),
) -> Figure:
    """Points at angles in radians, of shape ``(n,)``, round a circle of radius 1.

    The texts stand at the right, at the top, at the left and at the bottom.
    """
    side = 4.2
    sheet = Sheet(side + colours.width, side, title, subtitle)
    axes = sheet.axes(0, 0, side, side)
    axes.axis("off")
    axes.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor=FAINT, linewidth=1.2, zorder=0))
    for turn, text in zip((0.0, 0.5, 1.0, -0.5), texts, strict=True):
        direction = np.array([math.cos(math.pi * turn), math.sin(math.pi * turn)])
        ends = np.outer([1 - BAND, 1 + BAND], direction)
        axes.plot(*ends.T, color=FAINT, linewidth=0.8, zorder=0)
        x, y = 0.53 * direction
        axes.text(float(x), float(y), text, ha="center", va="center", fontsize=LABEL, color=INK)
    offset, _ = spread(angles, period=2 * math.pi)
    radius = 1 + BAND * offset
    size = float(np.clip(9000 / len(angles), 1.5, 28))
    scatter(axes, (radius * np.cos(angles), radius * np.sin(angles)), colours, s=size)
    limit = 1 + BAND + 0.08
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    colours.draw_key(sheet, side, 0.1)
    return sheet.figure
