"""A recording: rows of values with what is known beside them, as read from a file or from memory.

Whatever kind of file the arrays come from, they are checked and brought to their types here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from ._checks import one_of
from .arrays import WORDS, check_layout, to_float32
from .base import Dataset
from .columns import PARTS, Columns
from .given import check_given, rows_of
from .splits import split_rows


@dataclass(frozen=True, eq=False)
class Recording:
    """Rows in their order, not yet in parts to train and to test on.

    Arguments:
        name: What it is called.
        x: The values, with shape `(n, *shape)`, float32; NaN only if `columns.missing` allows it.
        given: What is known beside them, as in `Dataset.train_given`.
        labels: Integer classes `(n,)`, angles in radians `(n, k)`, or none.
        columns: How they were read.
        binary: Whether the values are booleans.
    """

    name: str
    x: Tensor
    given: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None
    columns: Columns = field(default_factory=Columns)
    binary: bool = False

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.x)

    def dataset(self, split: str = "random", test_fraction: float = 0.2, seed: int = 0) -> Dataset:
        """Return the data set made of the rows; see `split_rows` for the arguments.

        Raises:
            ValueError: If there are fewer than two rows, or no such split.
        """
        groups = self.given.get("groups")
        return self._parted(*split_rows(len(self), split, test_fraction, seed, groups=groups))

    def training(self) -> Dataset:
        """Return the data set all rows of which are trained on, in their order."""
        rows = torch.arange(len(self))
        return self._parted(rows, rows[:0])

    def _parted(self, train: Tensor, test: Tensor) -> Dataset:
        return Dataset(
            name=self.name,
            train=self.x[train],
            test=self.x[test],
            train_rows=train,
            test_rows=test,
            train_labels=None if self.labels is None else self.labels[train],
            test_labels=None if self.labels is None else self.labels[test],
            default_likelihood="bernoulli" if self.binary else "gaussian-learned",
            default_start="components",
            value_range=(0.0, 1.0) if self.binary else None,
            train_given=rows_of(self.given, train),
            test_given=rows_of(self.given, test),
            missing=self.columns.missing,
            columns=self.columns,
        )


def recording(
    x: np.ndarray, parts: Mapping[str, np.ndarray], columns: Columns, name: str
) -> Recording:
    """Return the recording that arrays make.

    Arguments:
        x: The values, of real numbers, with shape `(n, features)` or `(n, height, width)`.
        parts: By the names in `columns.PARTS`, what is beside them: covariates of real numbers
            `(n,)` or `(n, c)`, exposure `(n,)`, groups, integers or words `(n,)`, times `(n,)`,
            labels, integers or words `(n,)` or angles in radians `(n,)` or `(n, k)`.
        columns: How they were read, kept with them.
        name: What to call it.

    Raises:
        ValueError: If a type or a shape is another, lengths differ, or values are not finite.
    """
    check_layout(x.shape, x.dtype, name, minimum_rows=1)
    parts = {part: _numbered(v) if part in CLASSES else v for part, v in parts.items()}
    for part, value in parts.items():
        check_layout(value.shape, value.dtype, f"{part} of {name}", 1, AXES[part])
        if len(value) != len(x):
            raise ValueError(
                f"{part} of {name} has {len(value)} rows: expected {len(x)}, one for each of x"
            )
    made = {part: CONVERSIONS[part](value, f"{part} of {name}") for part, value in parts.items()}
    labels = made.pop("labels", None)
    check_given(made, len(x), name)
    return Recording(
        name,
        to_float32(x, name, missing=columns.missing),
        made,
        labels,
        columns,
        binary=x.dtype.kind == "b",
    )


class Beside(TypedDict, total=False):
    """What may stand beside values, as keyword arguments: arrays, or the names of what holds them.

    Arguments:
        covariates: Real numbers `(n,)` or `(n, c)`, given to the model beside the values.
        exposure: Positive numbers `(n,)`, by which rates are multiplied.
        groups: Integers or words `(n,)`, the trial or session of each row.
        times: Numbers `(n,)` that rise from row to row of a group.
        labels: Integers or words `(n,)`, or angles in radians `(n,)` or `(n, k)`; they colour
            pictures.
    """

    covariates: Any
    exposure: Any
    groups: Any
    times: Any
    labels: Any


def as_recording(
    x: Any, *, name: str = "array", missing: str = "refuse", **beside: Unpack[Beside]
) -> Recording:
    """Return the recording made of arrays in memory.

    Arguments:
        x: An array or tensor of real numbers, with shape `(n, features)` or `(n, height, width)`.
        name: What to call it.
        missing: `"refuse"`, or `"mask"` where NaN stands for a value that is missing.
        beside: Arrays, as `Beside` says.

    Raises:
        ValueError: If the elements are not real numbers, the array has another number of axes, no
            row or no features, or values that are NaN, infinite or beyond float32, or vary by so
            little about so much that float32 does not hold it; or what is beside them is not as
            said.
    """
    for part in beside:
        one_of("part", part, PARTS)
    parts = {part: _array(value) for part, value in beside.items() if value is not None}
    return recording(_array(x), parts, Columns(missing=missing), name)


def from_array(
    x: Any,
    *,
    name: str = "array",
    split: str = "random",
    test_fraction: float = 0.2,
    seed: int = 0,
    missing: str = "refuse",
    **beside: Unpack[Beside],
) -> Dataset:
    """Return the data set made of an array in memory.

    The likelihood offered is Bernoulli for booleans and a Gaussian of learned width for numbers;
    counts are for the user to declare, since integers may also be pixels.

    Arguments:
        x: As in `as_recording`; so also `name`, `missing` and `beside`.
        split: `"random"`, or `"blocks"` or `"groups"` for recordings, as in `split_rows`.
        test_fraction: The part to test on.
        seed: Which split.

    Raises:
        ValueError: As `as_recording` does, and of fewer than two rows.
    """
    values = _array(x)
    check_layout(values.shape, values.dtype, name)
    found = as_recording(values, name=name, missing=missing, **beside)
    return found.dataset(split, test_fraction, seed)


def _array(x: Any) -> np.ndarray:
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        # NumPy has no bfloat16
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    return np.asarray(x)


def _numbered(x: np.ndarray) -> np.ndarray:
    """Words as the numbers of them, in the order of the alphabet; numbers as they are."""
    if x.dtype == object and all(isinstance(word, str) for word in x.flat):
        x = x.astype(str)  # as pandas has them
    return np.unique(x, return_inverse=True)[1].reshape(x.shape) if x.dtype.kind in WORDS else x


def _covariates(x: np.ndarray, name: str) -> Tensor:
    return to_float32(x[:, None] if x.ndim == 1 else x, name)


def _groups(x: np.ndarray, name: str) -> Tensor:
    if x.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has elements of type {x.dtype}: expected integers or words, the trial of "
            "each row; numpy.unique(groups, return_inverse=True)[1] makes them of anything"
        )
    return torch.from_numpy(x.astype(np.int64))


def _times(x: np.ndarray, name: str) -> Tensor:
    return torch.from_numpy(np.array(x, np.float64))


def _labels(x: np.ndarray, name: str) -> Tensor:
    if x.dtype.kind == "f":
        return to_float32(x[:, None] if x.ndim == 1 else x, name)
    if x.ndim != 1:
        raise ValueError(
            f"{name} has shape {x.shape} and type {x.dtype}: expected integer classes (n,), or "
            "angles in radians, floats, (n, k)"
        )
    return torch.from_numpy(x.astype(np.int64))


#: Parts that name classes, which may be words.
CLASSES = ("groups", "labels")
#: Part → how many axes its array may have, and how it is brought to its type.
AXES: dict[str, tuple[int, ...]] = {
    "covariates": (1, 2),
    "exposure": (1,),
    "groups": (1,),
    "times": (1,),
    "labels": (1, 2),
}
CONVERSIONS: dict[str, Callable[[np.ndarray, str], Tensor]] = {
    "covariates": _covariates,
    "exposure": to_float32,
    "groups": _groups,
    "times": _times,
    "labels": _labels,
}
