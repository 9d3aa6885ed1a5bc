r"""Traces: what a homomorphism autoencoder learns from, observations and the actions between them.

A trace is o₁, g₁, o₂, g₂, …: action g_t of a group G takes observation o_t to o_{t+1}. Actions are
coordinates of the Lie algebra, `(n, steps, G.dim)`, of which the element is exp X, or, where G is
finite, its elements themselves, integers `(n, steps)`.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups import FiniteGroup, Group

from ._checks import at_least


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
            check_elements(self.actions, self.group)
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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.npz` file that `load_traces(path, group)` reads back.

        Raises:
            ValueError: If the path does not end in `.npz`.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"path={str(path)!r}: expected a file that ends in .npz")
        arrays = {"observations": self.observations, "actions": self.actions}
        if self.states is not None:
            arrays["states"] = self.states
        plain: dict[str, Any] = {name: x.detach().cpu().numpy() for name, x in arrays.items()}
        with path.open("wb") as file:
            np.savez(file, **plain)

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
    if not isinstance(group, Group):
        raise ValueError(f"group={group!r}: expected a group, such as manifold_ae.groups.Torus(2)")
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


def check_elements(actions: Tensor, group: FiniteGroup) -> None:
    """Raise unless integers `(n, steps)` are elements of the group.

    Raises:
        ValueError: Which names the first that is none, and its place.
    """
    wrong = (actions < 0) | (actions >= group.order)
    if wrong.any():
        first = tuple(int(i) for i in wrong.nonzero()[0])
        raise ValueError(
            f"actions is {int(actions[first])} in trace {first[0]}, step {first[1]}: expected the "
            f"elements 0 … {group.order - 1} of {group!r}; number them from 0, the identity"
        )
