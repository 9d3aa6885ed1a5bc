"""The look that all pictures share: white sheets, one set of font sizes, titles on the left.

Axes are placed in inches from the top left corner of a sheet, and on whole pixels of the saved
picture, so that a picture's aspect is that of its manifold and image grids come out pixel by
pixel. Only ``matplotlib.figure`` is used: no pyplot, no global settings, no display.
"""

import math
import os
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

__all__ = [
    "DPI",
    "FAINT",
    "INK",
    "LABEL",
    "MUTED",
    "TICK",
    "Sheet",
    "angle_axis",
    "in_pi",
    "save",
    "tidy",
]

DPI = 150

#: Text and lines, secondary text, and what should barely be seen.
INK, MUTED, FAINT = "#1f2328", "#636c76", "#d0d7de"

#: Font sizes in points.
TITLE, LABEL, TICK = 13.0, 10.5, 9.5

_PAD = 0.14
_TITLE_LINE, _SUBTITLE_LINE, _TITLE_GAP = 0.25, 0.21, 0.1

_ANGLES = ((-1.0, "−π"), (-0.5, "−π/2"), (0.0, "0"), (0.5, "π/2"), (1.0, "π"))


class Sheet:
    """A white figure with a title, and below it room for axes placed in inches.

    Arguments:
        width: width of the room, in inches.
        height: height of the room, in inches.
        title: first line, in bold; wrapped to the width.
        subtitle: second line, in grey; wrapped to the width.
    """

    def __init__(self, width: float, height: float, title: str = "", subtitle: str = "") -> None:
        # About 8.5 bold characters of the title's size go to an inch, 12 of the subtitle's.
        title = textwrap.fill(title, max(20, int(8.5 * width)))
        subtitle = textwrap.fill(subtitle[:1].upper() + subtitle[1:], max(24, int(12 * width)))
        title_height = _TITLE_LINE * len(title.splitlines())
        head = title_height + _SUBTITLE_LINE * len(subtitle.splitlines())
        self._top = _PAD + (head + _TITLE_GAP if head else 0.0)
        self._width = _whole(width + 2 * _PAD)
        self._height = _whole(height + self._top + _PAD)
        self.figure = Figure(figsize=(self._width, self._height), dpi=DPI, facecolor="white")
        if title:
            self._head(title, _PAD, fontsize=TITLE, fontweight="bold", color=INK)
        if subtitle:
            self._head(subtitle, _PAD + title_height, fontsize=LABEL, color=MUTED)

    def _head(self, text: str, top: float, **style: Any) -> None:
        self.figure.text(
            _PAD / self._width, 1 - top / self._height, text, ha="left", va="top", **style
        )

    def place(self, left: float, top: float) -> tuple[float, float]:
        """A position in inches from the top left of the room, as fractions of the figure."""
        return (_PAD + left) / self._width, 1 - (self._top + top) / self._height

    def axes(self, left: float, top: float, width: float, height: float, **kwargs: Any) -> Axes:
        """Axes whose frame covers the given box, in inches from the top left of the room."""
        x, y = _whole(_PAD + left), self._height - _whole(self._top + top + height)
        box = (x / self._width, y / self._height, width / self._width, height / self._height)
        axes = self.figure.add_axes(box, facecolor="white", **kwargs)
        tidy(axes)
        return axes


def _whole(inches: float) -> float:
    """The nearest whole number of pixels, in inches."""
    return round(inches * DPI) / DPI


def tidy(axes: Axes) -> None:
    """Thin grey frame and ticks, readable labels."""
    axes.tick_params(labelsize=TICK, labelcolor=MUTED, color=FAINT, length=3, width=0.8)
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.8)


def panel_title(axes: Axes, text: str) -> None:
    """A panel's title, at its left."""
    axes.set_title(text, loc="left", fontsize=LABEL, color=INK, pad=6)


def axis_label(axis: Axis, text: str) -> None:
    """An axis's label."""
    axis.set_label_text(text, fontsize=LABEL, color=INK)


def angle_axis(axis: Axis, label: str = "", *, halves: bool = True) -> None:
    """Ticks from −π to π in multiples of π/2, or of π where ``halves`` is false."""
    shown = _ANGLES if halves else _ANGLES[::2]
    axis.set_ticks([math.pi * turn for turn, _ in shown], [text for _, text in shown])
    if label:
        axis_label(axis, label)


def in_pi(angle: float) -> str:
    """An angle in units of π: 0, π/2, −2π/3, or 0.37π where it is no multiple of π/12."""
    turns = angle / math.pi
    near = Fraction(turns).limit_denominator(12)
    if abs(turns - near) > 1e-4 or 12 % near.denominator:
        return f"{turns:.2f}π".replace("-", "−")
    if near == 0:
        return "0"
    top = "π" if abs(near.numerator) == 1 else f"{abs(near.numerator)}π"
    below = "" if near.denominator == 1 else f"/{near.denominator}"
    return ("−" if near < 0 else "") + top + below


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as a PNG of 150 dots an inch, and return its path.

    The picture is written beside its destination and renamed, so that a reader sees the old
    picture or the new one, never half of one. Missing folders are made.

    Raises:
        ValueError: if the path ends in anything but ``.png``.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path = {str(path)!r}: figures are saved as PNG, give a name in '.png'")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # Without the software's version in it, the same picture is the same file.
        figure.savefig(aside, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path
