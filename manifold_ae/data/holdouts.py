r"""What a model is to be asked about, held out of the traces it learns from.

Traces drawn at random; actions of a band that is never seen in training; or combinations of factors
that are never seen together, while each alone is. A trace is on one side as a whole.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ._checks import at_least
from .splits import split_rows
from .traces import Traces


def split_random(
    traces: Traces, test_fraction: float = 0.2, seed: int = 0
) -> tuple[Traces, Traces]:
    """Traces to train on and to test on, drawn at random, as `split_rows` does.

    Raises:
        ValueError: If there is but one trace, or `test_fraction` is not between 0 and 1.
    """
    if len(traces) < 2:
        raise ValueError(
            f"{traces!r}: expected at least two traces, to train on and to test on; cut a long "
            "one into pieces"
        )
    train, test = split_rows(len(traces), "random", test_fraction, seed)
    return traces[train], traces[test]


def hold_out_actions(
    traces: Traces,
    *,
    axis: int | None = None,
    low: float | None = None,
    high: float | None = None,
    elements: Sequence[int] | None = None,
) -> tuple[Traces, Traces]:
    """Traces none of whose actions lies in a band, to train on, and the others, to test on.

    Arguments:
        traces: The traces to split.
        axis: Of a Lie group: which coordinate X_axis, or None for the length |X| of all of them.
        low: Of a Lie group: the band is low ≤ X_axis < high.
        high: See `low`.
        elements: Of a finite group: the elements held out.

    Raises:
        ValueError: If the band is not given as the group needs it, or one of the parts is empty.
    """
    if traces.is_finite:
        if elements is None or axis is not None or low is not None or high is not None:
            raise ValueError(
                f"{traces.group!r} is finite: give elements=..., the integers to hold out, and no "
                "axis, low or high"
            )
        inside = torch.isin(traces.actions, torch.as_tensor(elements).to(traces.actions))
        what = f"elements={list(elements)!r}"
    else:
        if elements is not None or low is None or high is None or not low < high:
            raise ValueError(
                f"low={low!r}, high={high!r}, elements={elements!r}: expected low < high, the band "
                f"of a coordinate of {traces.group!r}, and no elements"
            )
        dim = traces.group.dim
        if axis is not None and (isinstance(axis, bool) or axis not in range(dim)):
            raise ValueError(
                f"axis={axis!r}: expected an integer from 0 to {dim - 1}, or None for the length"
            )
        x = traces.actions
        x = torch.linalg.vector_norm(x, dim=-1) if axis is None else x[..., axis]
        inside = (x >= low) & (x < high)
        what = f"the band from {low} to {high}"
    return _parted(traces, inside.any(1), what, "actions")


def hold_out_combinations(
    traces: Traces,
    values: Tensor,
    cells: Sequence[Sequence[int | None]],
    bins: Sequence[int],
    ranges: Sequence[tuple[float, float]] | None = None,
) -> tuple[Traces, Traces]:
    """Traces that never visit given cells of the factors' values, and those that do.

    Each factor alone is seen in training over its whole range; the combinations held out are not.

    Arguments:
        traces: The traces to split.
        values: The factors of every observation, with shape `(n, steps + 1, k)`: for instance
            `world.labels(traces.states)`.
        cells: Tuples of k bin numbers, from 0, that are held out together; None for any bin.
        bins: In how many equal parts the range of each factor is cut, k numbers of at least 1.
        ranges: The least and the greatest value of each factor, as `world.ranges`; by default 0 and
            2π, those of angles.

    Raises:
        ValueError: If shapes disagree, values lie outside their range, a bin does not exist, or one
            of the parts is empty.
    """
    n, length = len(traces), traces.steps + 1
    if values.ndim != 3 or tuple(values.shape[:2]) != (n, length) or not values.shape[2]:
        raise ValueError(
            f"values has shape {tuple(values.shape)}: expected ({n}, {length}, k), the k factors "
            "of every observation, as world.labels(traces.states) gives them"
        )
    visits = in_cells(values, cells, bins, ranges)
    return _parted(traces, visits.any(1), f"cells={[tuple(c) for c in cells]!r}", "states")


def in_cells(
    values: Tensor,
    cells: Sequence[Sequence[int | None]],
    bins: Sequence[int],
    ranges: Sequence[tuple[float, float]] | None = None,
) -> Tensor:
    """Which of the factors' values `(*, k)` lie in one of the cells; see `hold_out_combinations`.

    Raises:
        ValueError: If values lie outside their range, a bin does not exist, or numbers disagree.
    """
    k = values.shape[-1]
    if len(bins) != k:
        raise ValueError(f"bins={tuple(bins)!r}: expected {k} numbers, one for each factor")
    for count in bins:
        at_least("bins", count)
    bounds = [(0.0, 2 * math.pi)] * k if ranges is None else [tuple(pair) for pair in ranges]
    if len(bounds) != k or not all(len(p) == 2 and p[0] < p[1] for p in bounds):
        raise ValueError(f"ranges={bounds!r}: expected {k} pairs low < high, one for each factor")
    low, high = torch.tensor(bounds, dtype=values.dtype, device=values.device).unbind(-1)
    outside = ~((values >= low) & (values <= high))
    if outside.any():
        first = tuple(int(i) for i in outside.nonzero()[0])
        raise ValueError(
            f"values is {float(values[first]):g} for factor {first[-1]} at {first[:-1]}: "
            f"expected {bounds[first[-1]][0]:g} to {bounds[first[-1]][1]:g}; give ranges=..."
        )
    counts = torch.tensor(list(bins), dtype=torch.int64, device=values.device)
    binned = ((values - low) / (high - low) * counts).long()
    binned = torch.minimum(binned, counts - 1)
    inside = torch.zeros(values.shape[:-1], dtype=torch.bool, device=values.device)
    for cell in cells:
        if len(cell) != k or any(
            b is not None and (isinstance(b, bool) or b not in range(c))
            for b, c in zip(cell, bins, strict=False)
        ):
            raise ValueError(
                f"cells has {tuple(cell)!r}: expected {k} bin numbers below {tuple(bins)}, or None"
            )
        here = [binned[..., i] == b for i, b in enumerate(cell) if b is not None]
        if not here:
            raise ValueError(f"cells has {tuple(cell)!r}: expected a bin number beside None")
        inside |= torch.stack(here).all(0)
    return inside


def _parted(traces: Traces, held_out: Tensor, what: str, kind: str) -> tuple[Traces, Traces]:
    count = int(held_out.sum())
    if count == 0:
        raise ValueError(f"{what}: no trace has {kind} there; nothing is held out, take another")
    if count == len(traces):
        raise ValueError(
            f"{what}: all {count} traces have {kind} there, and none is left to train on; hold out "
            "less, or take shorter traces"
        )
    return traces[~held_out], traces[held_out]
