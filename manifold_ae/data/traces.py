r"""Traces: what a homomorphism autoencoder learns from, observations and the actions between them.

A trace is o₁, g₁, o₂, g₂, …: action g_t of a group G takes observation o_t to o_{t+1}. Actions are
coordinates of the Lie algebra, `(n, steps, G.dim)`, of which the element is exp X, or, where G is
finite, its elements themselves, integers `(n, steps)`.

The splits hold out what a model is to be asked about: traces drawn at random, actions of a band
that is never seen in training, or combinations of factors that are never seen together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from manifold_ae.groups import FiniteGroup, Group

from ._checks import at_least
from .splits import split_rows


@dataclass(frozen=True, eq=False, repr=False)
class Traces:
    """Observations and the actions that lead from each to the next.

    Arguments:
        observations: With shape `(n, steps + 1, *shape)`, float32, finite.
        actions: Of a Lie group, with shape `(n, steps, group.dim)`, float32, finite; of a finite
            group, with shape `(n, steps)`, int64, in 0 … order − 1.
        group: The group of the actions.
        states: The hidden states, where they are known, with shape `(n, steps + 1, *)`.
        name: What they are called in titles and file names.

    Raises:
        ValueError: If shapes or dtypes disagree, or values are not finite, or are no elements.

    Example:
        >>> from manifold_ae.groups import Torus
        >>> traces = Traces(torch.zeros(10, 3, 8, 8), torch.zeros(10, 2, 1), Torus(1))
        >>> len(traces), traces.steps, traces[:4].shape
        (10, 2, (8, 8))
    """

    observations: Tensor
    actions: Tensor
    group: Group
    states: Tensor | None = None
    name: str = "traces"

    def __post_init__(self) -> None:
        if not isinstance(self.group, Group):
            raise ValueError(
                f"group={self.group!r}: expected a group, such as manifold_ae.groups.Torus(2)"
            )
        check_layout(
            tuple(self.observations.shape), tuple(self.actions.shape), self.group, self.name
        )
        for name, x, dtype in (
            ("observations", self.observations, torch.float32),
            ("actions", self.actions, torch.int64 if self.is_finite else torch.float32),
        ):
            if x.dtype != dtype:
                raise ValueError(
                    f"{name} has dtype {x.dtype}: expected {dtype}; convert with .to({dtype})"
                )
        for name in ("observations", "actions"):
            _check_values(name, getattr(self, name))
        if isinstance(self.group, FiniteGroup):
            _check_elements(self.actions, self.group)
        n, length = self.observations.shape[:2]
        if self.states is not None and tuple(self.states.shape[:2]) != (n, length):
            raise ValueError(
                f"states has shape {tuple(self.states.shape)}: expected ({n}, {length}, ...), a "
                "state for each observation"
            )

    @property
    def steps(self) -> int:
        """The number of actions in each trace; observations are one more."""
        return self.actions.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one observation."""
        return tuple(self.observations.shape[2:])

    @property
    def features(self) -> int:
        """The number of elements of one observation."""
        return math.prod(self.shape)

    @property
    def is_finite(self) -> bool:
        """Whether actions are elements of a finite group, integers."""
        return isinstance(self.group, FiniteGroup)

    def __len__(self) -> int:
        return len(self.observations)

    def __getitem__(self, rows: slice | Tensor | Sequence[int]) -> "Traces":
        """Some of the traces, by a slice, row numbers or a mask `(n,)`.

        Raises:
            TypeError: If `rows` is one row number.
            ValueError: If no trace is left.
        """
        if isinstance(rows, int) or (isinstance(rows, Tensor) and rows.ndim == 0):
            raise TypeError(f"traces[{rows}]: expected a slice or rows; take traces[{rows}:][:1]")
        chosen = rows if isinstance(rows, slice) else torch.as_tensor(rows)
        states = None if self.states is None else self.states[chosen]
        return self._with(self.observations[chosen], self.actions[chosen], states)

    def window(self, start: int, steps: int) -> "Traces":
        """The part of every trace of so many steps from step `start` on, from 0.

        Raises:
            ValueError: If the traces are shorter.
        """
        at_least("start", start, 0)
        at_least("steps", steps)
        if start + steps > self.steps:
            raise ValueError(
                f"start={start} and steps={steps}: expected at most {self.steps} steps in all"
            )
        seen, done = slice(start, start + steps + 1), slice(start, start + steps)
        states = None if self.states is None else self.states[:, seen]
        return self._with(self.observations[:, seen], self.actions[:, done], states)

    def to(self, device: torch.device | str) -> "Traces":
        """The traces on another device."""
        states = None if self.states is None else self.states.to(device)
        return self._with(self.observations.to(device), self.actions.to(device), states)

    def _with(self, observations: Tensor, actions: Tensor, states: Tensor | None) -> "Traces":
        return replace(self, observations=observations, actions=actions, states=states)

    def __repr__(self) -> str:
        return (
            f"Traces({self.name!r}, n={len(self)}, steps={self.steps}, shape={self.shape}, "
            f"group={self.group!r})"
        )


def check_layout(
    observations: tuple[int, ...], actions: tuple[int, ...], group: Group, name: str = "traces"
) -> None:
    """Raise unless observations and actions of these shapes are traces of the group.

    Raises:
        ValueError: Which names the shape, and what was expected.
    """
    if len(observations) < 3 or min(observations) < 1 or observations[1] < 2:
        raise ValueError(
            f"{name}: observations has shape {observations}: expected (n, steps + 1, *shape), "
            "at least one trace of two observations of a feature or more"
        )
    n, steps = observations[0], observations[1] - 1
    finite = isinstance(group, FiniteGroup)
    wanted = (n, steps) if finite else (n, steps, group.dim)
    if actions == wanted:
        return
    way = ""
    if actions[1:2] == (steps + 1,):
        way = "; the action after the last observation is to be left out"
    elif finite and len(actions) == 3:
        way = f"; {group!r} is finite, its actions are elements, one integer a step"
    elif not finite and actions == (n, steps):
        way = f"; {group!r} takes coordinates of its algebra, so use actions[:, :, None] for one"
    raise ValueError(
        f"{name}: actions has shape {actions}: expected {wanted}, for observations of shape "
        f"{observations} and {group!r}{way}"
    )


def _check_values(name: str, x: Tensor) -> None:
    if x.is_floating_point() and not x.isfinite().all():
        wrong = ~x.isfinite()
        first = tuple(int(i) for i in wrong.nonzero()[0])
        raise ValueError(
            f"{name} is {x[first].item():g} in trace {first[0]}, step {first[1]}, as "
            f"{int(wrong.sum())} of its values are not finite: remove these traces, or mend them"
        )


def _check_elements(actions: Tensor, group: FiniteGroup) -> None:
    wrong = (actions < 0) | (actions >= group.order)
    if wrong.any():
        first = tuple(int(i) for i in wrong.nonzero()[0])
        raise ValueError(
            f"actions is {int(actions[first])} in trace {first[0]}, step {first[1]}: expected the "
            f"elements 0 … {group.order - 1} of {group!r}; number them from 0, the identity"
        )


# ---- splits ---------------------------------------------------------------------------------


def split_random(
    traces: Traces, test_fraction: float = 0.2, seed: int = 0
) -> tuple[Traces, Traces]:
    """Traces to train on and to test on, drawn at random, as `split_rows` does.

    Raises:
        ValueError: If there is but one trace, or `test_fraction` is not between 0 and 1.
    """
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
    traces: Traces, values: Tensor, cells: Sequence[Sequence[int | None]], bins: Sequence[int]
) -> tuple[Traces, Traces]:
    """Traces that never visit given cells of the factors' values, and those that do.

    Each factor alone is seen in training over its whole range; the combinations held out are not.

    Arguments:
        traces: The traces to split.
        values: The factors of every observation, with shape `(n, steps + 1, k)`: for instance
            `world.labels(traces.states)`, in [0, 2π).
        cells: Tuples of k bin numbers, from 0, that are held out together; None for any bin.
        bins: In how many equal parts of [0, 2π) each factor is cut, k numbers of at least 1.

    Raises:
        ValueError: If shapes disagree, values lie outside [0, 2π), a bin does not exist, or one of
            the parts is empty.
    """
    n, length = len(traces), traces.steps + 1
    if values.ndim != 3 or tuple(values.shape[:2]) != (n, length) or not values.shape[2]:
        raise ValueError(
            f"values has shape {tuple(values.shape)}: expected ({n}, {length}, k), the k factors "
            "of every observation, as world.labels(traces.states) gives them"
        )
    k = values.shape[2]
    if len(bins) != k:
        raise ValueError(f"bins={tuple(bins)!r}: expected {k} numbers, one for each factor")
    for count in bins:
        at_least("bins", count)
    if not ((values >= 0) & (values < 2 * math.pi)).all():
        raise ValueError(
            f"values goes from {float(values.min()):g} to {float(values.max()):g}: expected "
            "angles in [0, 2π); scale other factors to that range"
        )
    counts = torch.tensor(list(bins), dtype=torch.int64, device=values.device)
    binned = torch.minimum((values * counts / (2 * math.pi)).long(), counts - 1)
    visits = torch.zeros(n, length, dtype=torch.bool, device=values.device)
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
        visits |= torch.stack(here).all(0)
    return _parted(traces, visits.any(1), f"cells={[tuple(c) for c in cells]!r}", "states")


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
