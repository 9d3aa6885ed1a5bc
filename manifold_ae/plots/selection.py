"""How far candidates are behind the best, with what speaks for and against each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from manifold_ae.plots.style import FAINT, INK, LABEL, MUTED, TICK, Sheet, axis_label

__all__ = ["selection"]

#: Colours of what remains, of other candidates, and of baselines.
REMAINS, OTHER, BASELINE = "#1a7f37", "#446fdd", "#8c959f"
#: Inches: a row, names on the left, the plot, and each column on the right of it.
ROW, LEFT, WIDTH, COLUMN = 0.32, 1.75, 3.6, 1.0
COLUMNS = ("dimension", "KL by factor", "covered", "Betti numbers")


def selection(
    rows: Sequence[Mapping[str, Any]],
    structure: Mapping[str, float],
    *,
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Candidates by their held-out log-likelihood behind the best, with standard errors.

    Arguments:
        rows: as ``metrics.Selection.rows``, the best first.
        structure: as ``metrics.Selection.structure``.
        title, subtitle: first lines.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows is empty: expected a candidate at least")
    height = ROW * len(rows)
    sheet = Sheet(LEFT + WIDTH + COLUMN * len(COLUMNS) + 0.8, height + 1.1, title, subtitle)
    axes = sheet.axes(LEFT, 0.3, WIDTH, height)
    at = np.arange(len(rows))
    for k, row in enumerate(rows):
        colour = REMAINS if row["remains"] else OTHER if row["asked"] else BASELINE
        axes.errorbar(
            -row["behind"],
            k,
            xerr=row["behind_se"],
            fmt="o" if row["asked"] else "s",
            color=colour,
            markersize=6,
            capsize=3,
            linewidth=1.4,
        )
    axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    names = [row["name"] + ("" if row["asked"] else " (baseline)") for row in rows]
    axes.set_yticks(at, names)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set(color=REMAINS if row["remains"] else INK, fontsize=LABEL)
        label.set_fontweight("bold" if row["remains"] else "normal")
    axes.tick_params(axis="y", length=0)
    least = min(-row["behind"] - row["behind_se"] for row in rows)
    axes.set_xlim(1.08 * min(least, -1e-3), -0.08 * min(least, -1e-3))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axis_label(axes.xaxis, "held-out log-likelihood over the best, nats an observation")
    cells = [[str(row["dim"]), _kl(row), _covered(row), _betti(row)] for row in rows]
    width, total = LEFT + WIDTH + 0.25, len(rows)
    for j, heading in enumerate(COLUMNS):
        x = width + COLUMN * (j + (0.35 if j > 1 else 0))
        _text(sheet, x, 0.22, heading, color=MUTED, va="bottom")
        for k in range(total):
            _text(sheet, x, 0.3 + ROW * (k + 0.55), cells[k][j], color=INK)
    gain = (
        f"best over a model without a latent: {structure['gain']:.2f} nats; "
        f"on shuffled features {structure['null_gain']:.2f}; ± {structure['se']:.2f}"
    )
    _text(sheet, 0, height + 1.05, gain, color=MUTED, va="bottom")
    return sheet.figure


def _text(
    sheet: Sheet, left: float, top: float, text: str, *, va: str = "center", color: str
) -> None:
    x, y = sheet.place(left, top)
    sheet.figure.text(x, y, text, ha="left", va=va, color=color, fontsize=TICK)


def _kl(row: Mapping[str, Any]) -> str:
    values = list(row["kl"].values())
    return "  ".join(f"{value:.1f}" for value in values[:4]) + (" …" if len(values) > 4 else "")


def _covered(row: Mapping[str, Any]) -> str:
    return "" if row["coverage"] is None else f"{row['coverage']:.0%}"


def _betti(row: Mapping[str, Any]) -> str:
    if row["betti"] is None:
        return ""
    return "(" + ", ".join("?" if b is None else str(b) for b in row["betti"]) + ")"
