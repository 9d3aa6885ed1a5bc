"""Training curves: the measures of a run against its epochs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from manifold_ae.plots.arrays import Array
from manifold_ae.plots.style import INK, LABEL, MUTED, TICK, Sheet, axis_label, panel_title

__all__ = ["curves"]

#: Column → what its panel is called.
PANELS = {
    "elbo": "ELBO (nats)",
    "kl": "KL divergence (nats)",
    "mse": "MSE per pixel",
    "mean_log_time": "Mean log t",
}

#: Prefix of a column → name, colour and line.
KINDS = {"": ("training", "#446fdd", 1.4), "test_": ("test", "#f17d08", 1.8)}


def curves(
    metrics: Mapping[str, Sequence[Any] | Array],
    *,
    title: str | None = None,
    panels: Mapping[str, str] = PANELS,
) -> Figure:
    """ELBO, KL divergence, squared error and mean log t, or other columns, against the epoch.

    Limits follow percentiles, so that the first epochs of a run do not flatten the rest; a note
    in the corner says when values lie outside.

    Arguments:
        metrics: column → values, one an epoch, as read from ``metrics.csv``: ``epoch``, and any
            of the panels' columns, each also as ``test_...``. Text is read as numbers; empty text,
            None and NaN are gaps.
        title: the first line.
        panels: column → what its panel is called, two in a row.

    Raises:
        ValueError: if there is no column ``epoch``, none to draw, a column's length differs, or
            a value is not a number.
    """
    if "epoch" not in metrics:
        raise ValueError(f"metrics has columns {sorted(metrics)}; expected 'epoch' among them")
    epoch = _numbers("epoch", metrics["epoch"])
    if np.isnan(epoch).any():
        raise ValueError(f"metrics['epoch'] = {list(metrics['epoch'])}; expected a number in each")
    known = [prefix + name for name in panels for prefix in KINDS]
    columns = {name: _numbers(name, metrics[name]) for name in known if name in metrics}
    if not columns:
        raise ValueError(f"metrics has columns {sorted(metrics)}; expected some of {known}")
    for name, values in columns.items():
        if len(values) != len(epoch):
            raise ValueError(
                f"metrics[{name!r}] has length {len(values)}; expected {len(epoch)}, "
                "that of 'epoch'"
            )
    left, width, height, gap_x, gap_y = 0.75, 3.3, 1.75, 0.95, 0.75
    rows = math.ceil(len(panels) / 2)
    sheet = Sheet(
        left + 2 * width + gap_x + 0.1,
        0.3 + rows * height + (rows - 1) * gap_y + 0.5,
        title or "Training",
    )
    for panel, (name, text) in enumerate(panels.items()):
        row, column = divmod(panel, 2)
        box = (left + column * (width + gap_x), 0.3 + row * (height + gap_y), width, height)
        axes = sheet.axes(*box)
        axes.set_label(name)
        axes.spines[["top", "right"]].set_visible(False)
        panel_title(axes, text)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _draw(
            axes, epoch, {prefix: columns.get(prefix + name) for prefix in KINDS}, legend=panel == 0
        )
    return sheet.figure


def _numbers(name: str, values: Any) -> Array:
    """A column as floats; gaps as NaN, and infinities too, which cannot be drawn."""
    numbers = []
    for row, value in enumerate(values):
        try:
            number = math.nan if value is None or value == "" else float(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"metrics[{name!r}][{row}] = {value!r}; expected a number, or nothing"
            ) from error
        numbers.append(number if math.isfinite(number) else math.nan)
    return np.array(numbers, dtype=np.float64)


def _draw(axes: Axes, epoch: Array, columns: Mapping[str, Array | None], *, legend: bool) -> None:
    drawn = {
        prefix: values
        for prefix, values in columns.items()
        if values is not None and np.isfinite(values).any()
    }
    if not drawn:
        axes.set(xticks=[], yticks=[])
        axes.text(
            0.5,
            0.5,
            "not recorded",
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=LABEL,
            color=MUTED,
        )
        return
    for prefix, values in drawn.items():
        name, colour, width = KINDS[prefix]
        here = np.isfinite(values)
        # A line through one value, or between gaps, would not be seen.
        marker = "o" if here.sum() <= 12 else ""
        axes.plot(
            epoch[here],
            values[here],
            color=colour,
            linewidth=width,
            marker=marker,
            ms=4,
            label=name,
        )
    axis_label(axes.xaxis, "epoch")
    axes.xaxis.labelpad = 1
    margin = 0.03 * float(np.ptp(epoch)) or 0.5
    axes.set_xlim(float(epoch.min()) - margin, float(epoch.max()) + margin)
    low, high = _limits(np.concatenate(list(drawn.values())))
    axes.set_ylim(low, high)
    outside = np.zeros(len(epoch), dtype=bool)
    for values in drawn.values():
        outside |= (values < low) | (values > high)
    count = int(outside.sum())
    if count:
        text = f"{count} epoch{'s' if count > 1 else ''} off the scale"
        axes.text(1.0, 1.03, text, transform=axes.transAxes, ha="right", fontsize=TICK, color=MUTED)
    if legend and len(drawn) > 1:
        axes.legend(fontsize=TICK, labelcolor=INK, frameon=False, borderpad=0.1, handlelength=1.4)


def _limits(values: Array) -> tuple[float, float]:
    """Limits round the middle seven tenths with room to spare, or round all where that is near."""
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    if len(values) >= 10:
        inner = np.percentile(values, [15, 85])
        span = float(inner[1] - inner[0])
        # A span of zero says nothing: nearly all values are equal.
        if 0 < 5 * span < high - low:
            low = max(low, float(inner[0]) - 0.6 * span)
            high = min(high, float(inner[1]) + 0.6 * span)
    margin = 0.06 * (high - low) or max(1e-3, 0.05 * abs(high))
    return low - margin, high + margin
