"""Errors of predictions against how far ahead they look."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from manifold_ae.plots.arrays import Array, as_array, check_finite
from manifold_ae.plots.colours import PALETTE
from manifold_ae.plots.style import FAINT, INK, LABEL, MUTED, TICK, Sheet, axis_label

__all__ = ["rollout_errors"]

#: Size of the panel, and the least distance between labels, in inches.
WIDTH, HEIGHT, APART = 5.4, 3.4, 0.19


def rollout_errors(
    horizons: Sequence[int] | Array | Any,
    errors: Mapping[str, Any],
    *,
    references: Sequence[str] = ("copying", "autoencoding"),
    title: str | None = None,
) -> Figure:
    """Errors against the horizon, both on logarithmic scales, with names at the ends of lines.

    Arguments:
        horizons: numbers of steps, of shape ``(k,)``, increasing and at least 1.
        errors: name → positive values, of shape ``(k,)``; or ``(seeds, k)``, drawn as the median
            over seeds and a band from the least to the greatest.
        references: names of what gives the errors a scale, drawn in grey.
        title: the first line.

    Raises:
        ValueError: if there are no errors or too many, shapes do not fit, or values are not
            positive and finite.

    Example:
        >>> errors = {"linear φ": [1e-4, 1e-4, 2e-4], "copying": [0.1, 0.1, 0.1]}
        >>> figure = rollout_errors([1, 4, 16], errors)
    """
    steps = as_array(horizons)
    if steps.ndim != 1 or not len(steps):
        raise ValueError(f"horizons has shape {steps.shape}; expected (k,), k at least 1")
    steps = check_finite("horizons", steps, "leave those out")
    if steps[0] < 1 or (np.diff(steps) <= 0).any():
        raise ValueError(
            f"horizons = {as_array(horizons).tolist()}; expected increasing numbers of at least 1"
        )
    values = {str(name): _checked(str(name), value, len(steps)) for name, value in errors.items()}
    own = [name for name in values if name not in references]
    if not values or len(own) > len(PALETTE):
        raise ValueError(
            f"errors has {len(values)} names; expected at least one and at most {len(PALETTE)} "
            "beside the references: draw them in several figures"
        )
    seeds = sorted({len(value) for value in values.values()} - {1})
    several = " to ".join(str(n) for n in ([seeds[0], seeds[-1]] if len(seeds) > 1 else seeds))
    note = f"Lines: medians of {several} seeds; bands: from the least to the greatest"
    right = 0.25 + 0.088 * max(map(len, values))
    left = 0.98
    sheet = Sheet(
        left + WIDTH + right, 0.1 + HEIGHT + 0.5, title or "Rollout", note if seeds else ""
    )
    axes = sheet.axes(left, 0.1, WIDTH, HEIGHT)
    _scales(axes, steps, np.concatenate([value.ravel() for value in values.values()]))
    colours = dict(zip(own, PALETTE, strict=False))
    ends = []
    for name, value in values.items():
        colour = colours.get(name, MUTED)
        middle = np.median(value, 0)
        axes.plot(
            steps,
            middle,
            color=colour,
            linewidth=1.8 if name in own else 1.2,
            linestyle="-" if name in own else "--",
            marker="o",
            ms=4 if name in own else 2.5,
            label=name,
        )
        if len(value) > 1:
            axes.fill_between(
                steps, value.min(0), value.max(0), color=colour, alpha=0.18, linewidth=0
            )
        ends.append((name, colour, float(middle[-1])))
    _name_ends(axes, ends)
    return sheet.figure


def _checked(name: str, values: Any, count: int) -> Array:
    """Errors of shape ``(seeds, count)``."""
    array = as_array(values)
    if array.ndim not in (1, 2) or array.shape[-1] != count or not array.size:
        raise ValueError(
            f"errors[{name!r}] has shape {array.shape}; expected ({count},), one a horizon, or "
            f"(seeds, {count})"
        )
    array = check_finite(f"errors[{name!r}]", array, "leave out the horizon, or the run")
    if (array <= 0).any():
        raise ValueError(
            f"errors[{name!r}] holds {float(array.min()):g}; a logarithmic scale takes positive "
            "values: leave out the horizon, or the name"
        )
    return array.reshape(-1, count)


def _scales(axes: Axes, steps: Array, values: Array) -> None:
    axes.set(xscale="log", yscale="log")
    reach = float(np.log(steps[-1] / steps[0])) or 1.0
    axes.set_xlim(steps[0] * np.exp(-0.03 * reach), steps[-1] * np.exp(0.03 * reach))
    low, high = np.log(values.min()), np.log(values.max())
    # At least a factor of two either way, so that nothing is not blown up into a slope.
    middle, half = (low + high) / 2, max(1.1 * (high - low) / 2, np.log(2.0))
    axes.set_ylim(float(np.exp(middle - half)), float(np.exp(middle + half)))
    shown = steps[_ticks(steps, reach)]
    axes.set_xticks(shown, [f"{step:g}" for step in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    # Minor ticks are labelled where there are too few decades.
    axes.tick_params(
        which="minor", color=FAINT, length=2, width=0.6, labelsize=TICK, labelcolor=MUTED
    )
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axis_label(axes.xaxis, "horizon, steps")
    axis_label(axes.yaxis, "error")
    axes.xaxis.labelpad = 1


def _ticks(steps: Array, reach: float) -> list[int]:
    """Horizons at least 0.4 inches apart, from the first on."""
    places = WIDTH * np.log(steps / steps[0]) / reach
    kept = [0]
    for k in range(1, len(steps)):
        if places[k] - places[kept[-1]] >= 0.4:
            kept.append(k)
    return kept


def _name_ends(axes: Axes, ends: list[tuple[str, str, float]]) -> None:
    """Names to the right of the lines' ends, moved apart where they would overlap."""
    ends = sorted(ends, key=lambda end: end[2])
    low, high = np.log(axes.get_ylim())
    wanted = HEIGHT * (np.log([end[2] for end in ends]) - low) / (high - low)
    places = np.maximum.accumulate(wanted - APART * np.arange(len(ends)))
    places = (places + _pulled(wanted)) / 2 + APART * np.arange(len(ends))
    for (name, colour, _), at, place in zip(ends, wanted, places, strict=True):
        axes.annotate(
            name,
            (1.0, at / HEIGHT),
            (1.035, place / HEIGHT),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=LABEL,
            color=INK if colour != MUTED else MUTED,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 1.0, "shrinkA": 1},
        )


def _pulled(wanted: Array) -> Array:
    """As the running maximum, but from above: so that groups stay where they were on average."""
    apart = wanted - APART * np.arange(len(wanted))
    return np.minimum.accumulate(apart[::-1])[::-1]
