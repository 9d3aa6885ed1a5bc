"""What is known of a row beside its values: covariates, exposure, trial, time.

Each is a tensor with one entry a row, held by name in a mapping that has only those that there are:

    covariates  (n, c) float32   what moves the observations and is no latent: a batch, a speed
    exposure    (n,)   float32   by what a rate is multiplied: the length of a bin, the depth
    groups      (n,)   int64     the trial or session that the row belongs to
    times       (n,)   float64   time stamps, rising from row to row of a group

A model sees the first two, in batches that are dicts (``batch_of``); the others say which rows
belong together and in what order.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ._checks import did_you_mean

#: Name → type and number of axes.
LAYOUT: dict[str, tuple[torch.dtype, int]] = {
    "covariates": (torch.float32, 2),
    "exposure": (torch.float32, 1),
    "groups": (torch.int64, 1),
    "times": (torch.float64, 1),
}
#: Those that a model is given with a batch.
SEEN = ("covariates", "exposure")


def check_given(given: Mapping[str, Tensor], rows: int, name: str = "given") -> None:
    """Raise unless every entry is one that there is, for so many rows, with values that make sense.

    Arguments:
        given: The mapping.
        rows: The number of rows that it is for.
        name: What to call it in the message.

    Raises:
        ValueError: If a name is unknown, or an entry has another type, shape or number of rows,
            values that are not finite, an exposure that is not positive, times that do not rise.
    """
    for key, value in given.items():
        place = f"{name}[{key!r}]"
        if key not in LAYOUT:
            raise ValueError(
                f"{place}: expected one of {', '.join(LAYOUT)}{did_you_mean(str(key), LAYOUT)}"
            )
        dtype, axes = LAYOUT[key]
        if not isinstance(value, Tensor) or value.dtype != dtype or value.ndim != axes:
            what = (
                f"shape {tuple(value.shape)} and type {value.dtype}"
                if isinstance(value, Tensor)
                else f"the type {type(value).__name__}"
            )
            wanted = "(n, c)" if axes == 2 else "(n,)"
            raise ValueError(f"{place} has {what}: expected a tensor {wanted} of {dtype}")
        if len(value) != rows:
            raise ValueError(f"{place} has {len(value)} rows: expected {rows}, one for each of x")
        if axes == 2 and value.shape[1] < 1:
            raise ValueError(f"{place} has no column: expected at least one, or no entry at all")
        _require(value.isfinite(), value, place, "finite numbers")
    if "exposure" in given:
        value = given["exposure"]
        _require(value > 0, value, f"{name}['exposure']", "positive numbers")
    if "times" in given:
        check_times(given["times"], given.get("groups"), f"{name}['times']")


def check_times(times: Tensor, groups: Tensor | None = None, name: str = "times") -> None:
    """Raise unless time rises from each row to the next of the same group, in the order of rows.

    Arguments:
        times: Time stamps, with shape `(n,)`.
        groups: The group of each row, with shape `(n,)`; without any, all rows are one.
        name: What to call the times in the message.

    Raises:
        ValueError: If a time is not after that of the row before; names both rows.
    """
    order = torch.arange(len(times))
    if groups is not None:
        # Rows of a group need not lie together: bring them together, each in its order.
        order = torch.argsort(groups.cpu(), stable=True)
    sorted_times = times.cpu()[order]
    falls = sorted_times[1:] <= sorted_times[:-1]
    where = ""
    if groups is not None:
        falls &= groups.cpu()[order][1:] == groups.cpu()[order][:-1]
    if falls.any():
        k = int(falls.nonzero()[0])
        before, after = int(order[k]), int(order[k + 1])
        if groups is not None:
            where = f" of group {int(groups[after])}"
        raise ValueError(
            f"{name} goes from {times[before].item():.15g} in row {before} to "
            f"{times[after].item():.15g} in row {after}{where}: expected times that rise from row "
            "to row; sort the rows by time, or tell trials apart by groups"
        )


def rows_of(given: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """Return the entries of some rows."""
    return {name: value[rows] for name, value in given.items()}


def batch_of(x: Tensor, given: Mapping[str, Tensor]) -> Any:
    """Return rows as a model takes them: `x`, or with it in a dict what a model is given.

    Arguments:
        x: The values, with shape `(n, *shape)`.
        given: What is known of them; `groups` and `times` are left out.

    Example:
        >>> sorted(batch_of(torch.zeros(3, 2), {"exposure": torch.ones(3)}))
        ['exposure', 'x']
    """
    seen = {name: given[name].to(x.device) for name in SEEN if name in given}
    return {"x": x, **seen} if seen else x


def _require(good: Tensor, value: Tensor, place: str, wanted: str) -> None:
    if not good.all():
        first = tuple((~good).nonzero()[0].tolist())
        raise ValueError(
            f"{place} is {value[first].item():g} at row {first[0]}, and {int((~good).sum())} of "
            f"its values are not as expected: {wanted}"
        )
