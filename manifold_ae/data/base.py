"""What a data set is, and the registry of those that have a name.

A data set holds raw values: what was measured, unscaled, as float32. What is done to them before
training is `Scaling`'s business, what the training loop iterates over is `Shuffled`'s or `Fresh`'s.

Adding a data set takes a file with a function under `@register(name, summary)` and that file's line
in `data/__init__.py`. The function's keyword arguments are the data set's options, save those named
`data_dir`, `split`, `test_fraction` and `seed`, which `load` passes to whoever asks for them. Those
of a `TypedDict`, as in `**beside: Unpack[Beside]`, are its keys.
"""

import inspect
import math
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from ._checks import did_you_mean, one_of
from .columns import MISSING, Columns
from .given import check_given


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Raw data in two parts, one to train on and one to test on.

    Arguments:
        name: What it is called in titles and file names.
        train: Values to train on, with shape `(n, *shape)`, float32, unscaled.
        test: Values to test on, with shape `(m, *shape)`, float32, unscaled.
        train_rows: Row numbers of `train` in the original array, with shape `(n,)`, int64.
        test_rows: Row numbers of `test` in the original array, with shape `(m,)`, int64.
        train_labels: Integer classes `(n,)`, angles in radians `(n, k)`, or none.
        test_labels: Integer classes `(m,)`, angles in radians `(m, k)`, or none.
        default_likelihood: The observation model to use unless another is asked for: `"gaussian"`,
            `"gaussian-learned"`, `"bernoulli"` or `"poisson"`.
        default_scaling: The kind of `Scaling` to use, whatever real-valued likelihood there is;
            without one, the likelihood's own.
        default_start: Where encoders begin unless another start is asked for: `"random"` or
            `"components"`.
        value_range: The least and the greatest value possible, where they are known.
        draw: For data that can be drawn afresh, `draw(n, generator=None, device=None)` returns `n`
            new values `(n, *shape)` and their labels.
        train_given: What is known of the rows of `train` beside their values, by name:
            `covariates`, `exposure`, `groups`, `times`, those that there are (see `given`).
        test_given: The same of the rows of `test`.
        missing: `"refuse"`, or `"mask"` where NaN among the values stands for one that is missing.
        columns: How the file that they are from was read, to read others likewise.

    Raises:
        ValueError: If the parts differ in shape or in what is given, are not float32, have labels
            or row numbers of another length, or what is given is not as `given` says; if a value is
            NaN and may not be missing, or a feature has no value to train on.
    """

    name: str
    train: Tensor
    test: Tensor
    train_rows: Tensor
    test_rows: Tensor
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    default_likelihood: str = "gaussian-learned"
    default_scaling: str | None = None
    default_start: str = "random"
    value_range: tuple[float, float] | None = None
    draw: Callable[..., tuple[Tensor, Tensor]] | None = None
    train_given: Mapping[str, Tensor] = field(default_factory=dict)
    test_given: Mapping[str, Tensor] = field(default_factory=dict)
    missing: str = "refuse"
    columns: Columns | None = None

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x, rows = getattr(self, part), getattr(self, f"{part}_rows")
            labels = getattr(self, f"{part}_labels")
            if x.dtype != torch.float32:
                raise ValueError(f"{part} has dtype {x.dtype}: expected torch.float32")
            for name, other in ((f"{part}_rows", rows), (f"{part}_labels", labels)):
                if other is not None and len(other) != len(x):
                    raise ValueError(f"{name} has length {len(other)}: expected {len(x)}")
            if self.missing == "refuse" and x.isnan().any():
                first = tuple(x.isnan().nonzero()[0].tolist())
                raise ValueError(
                    f"{part} is NaN at {first}, as {int(x.isnan().sum())} of its values are: "
                    "expected numbers, or missing='mask' (--missing mask)"
                )
            check_given(getattr(self, f"{part}_given"), len(x), f"{part}_given")
        one_of("missing", self.missing, MISSING)
        if self.missing == "mask" and (unseen := self.train.isnan().all(0)).any():
            first = tuple(unseen.nonzero()[0].tolist())
            raise ValueError(
                f"train has no value of feature {first[0] if len(first) == 1 else first}: leave it "
                "out, or take another split"
            )
        if self.train.shape[1:] != self.test.shape[1:]:
            raise ValueError(
                f"test has values of shape {tuple(self.test.shape[1:])}: "
                f"expected {self.shape}, the shape of those to train on"
            )
        kinds = [sorted(self.train_given), sorted(self.test_given)]
        if kinds[0] != kinds[1] or self.covariates != _columns(self.test_given):
            raise ValueError(
                f"test_given has {_listed(self.test_given)}: expected the same as train_given, "
                f"{_listed(self.train_given)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value."""
        return tuple(self.train.shape[1:])

    @property
    def features(self) -> int:
        """The number of elements of one value."""
        return math.prod(self.shape)

    @property
    def covariates(self) -> int:
        """The number of covariates of a row, 0 where there are none."""
        return _columns(self.train_given)

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Height and width where a value is a picture, that is, has two axes."""
        return (self.shape[0], self.shape[1]) if len(self.shape) == 2 else None

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, train={tuple(self.train.shape)}, "
            f"test={tuple(self.test.shape)}, default_likelihood={self.default_likelihood!r})"
        )


def _columns(given: Mapping[str, Tensor]) -> int:
    return given["covariates"].shape[1] if "covariates" in given else 0


def _listed(given: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(v.shape[1:])}" for name, v in given.items()) or "nothing"


COMMON = {"data_dir": None, "split": "random", "test_fraction": 0.2, "seed": 0}
"""The arguments of `load` that are not one data set's own, with their defaults."""


@dataclass(frozen=True)
class _Entry:
    name: str
    loader: Callable[..., Dataset]
    summary: str
    options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _defaults(self.loader))


def _defaults(loader: Callable[..., Dataset]) -> dict[str, Any]:
    """The keyword arguments of a loader with their defaults.

    Those that several loaders share are the keys of a ``TypedDict``, and None where not given.
    """
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(loader).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            found[name] = parameter.default
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            found |= {key: None for kind in get_args(parameter.annotation) for key in _keys(kind)}
    return found


def _keys(kind: type) -> list[str]:
    return list(get_type_hints(kind))


_REGISTRY: dict[str, _Entry] = {}
_FILE_PREFIX = "PATH"


def register(name: str, summary: str) -> Callable[[Callable[..., Dataset]], Callable[..., Dataset]]:
    """Register the decorated function as the loader of the data set `name`.

    Arguments:
        name: The name that `load` knows it by. A name such as `"PATH.npy"` stands for all files
            with that ending; the loader of one takes the path as its positional argument.
        summary: One line on what it is.

    Raises:
        ValueError: If the name is taken.
    """

    def decorate(loader: Callable[..., Dataset]) -> Callable[..., Dataset]:
        if name in _REGISTRY:
            raise ValueError(f"name={name!r}: a data set of this name is registered already")
        _REGISTRY[name] = _Entry(name, loader, summary)
        return loader

    return decorate


def names() -> dict[str, str]:
    """Return the names that `load` knows, kinds of files last, each with a line on what it is."""
    ordered = sorted(_REGISTRY, key=lambda name: (name.startswith(_FILE_PREFIX), name))
    return {name: _REGISTRY[name].summary for name in ordered}


def options(spec: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the options that a data set has of its own, with their defaults.

    Raises:
        ValueError: If there is no such data set.
    """
    own = _find(spec)[0].options
    return {name: default for name, default in own.items() if name not in COMMON}


def takes_folder(spec: str | os.PathLike[str]) -> bool:
    """Whether a data set comes in files, for which `load` takes a `data_dir`.

    Raises:
        ValueError: If there is no such data set.
    """
    return "data_dir" in _find(spec)[0].options


#: Data sets that `load` made from a name: what is derived from them is another object.
_NAMED: "weakref.WeakSet[Dataset]" = weakref.WeakSet()


def load(
    spec: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    split: str = "random",
    test_fraction: float = 0.2,
    seed: int = 0,
    **own_options: Any,
) -> Dataset:
    """Load a data set by its name, or a file of the user's.

    Arguments:
        spec: One of `names()`, or a path that ends in `.npy`, `.npz` or `.csv`.
        data_dir: A folder that has the files of a data set that comes in files; others ignore it.
        split: How the test part is chosen, `"random"`, `"blocks"` or `"groups"` (see
            `split_rows`).
        test_fraction: The part of the rows to test on.
        seed: Which split, or which draw where the data are drawn.
        own_options: What this data set takes beside these; `options(spec)` lists them.

    Raises:
        ValueError: If there is no such data set, it has no such option, or `split` or
            `test_fraction` is given for data that come with a test part of their own.

    Example:
        >>> load("digits").shape
        (8, 8)
    """
    entry, positional = _find(spec)
    own = options(spec)
    for name in own_options:
        if name not in own:
            listed = ", ".join(own) if own else "none"
            raise ValueError(
                f"{name}={own_options[name]!r}: {entry.name} has no such option; "
                f"it has {listed}{did_you_mean(name, own)}"
            )
    common = {
        "data_dir": data_dir,
        "split": split,
        "test_fraction": test_fraction,
        "seed": seed,
    }
    for name in ("split", "test_fraction"):
        if name not in entry.options and common[name] != COMMON[name]:
            raise ValueError(
                f"{name}={common[name]!r}: {entry.name} has a test part of its own; "
                f"leave {name} at {COMMON[name]!r}"
            )
    taken = {name: value for name, value in common.items() if name in entry.options}
    found = entry.loader(*positional, **taken, **own_options)
    if not positional:
        _NAMED.add(found)
    return found


def is_named(dataset: Dataset) -> bool:
    """Whether a data set is as `load` returned it for a name of `names()`."""
    return dataset in _NAMED


def _find(spec: str | os.PathLike[str]) -> tuple[_Entry, tuple[Path, ...]]:
    """The registry's entry for `spec`, and what its loader takes by position."""
    text = os.fspath(spec)
    ending = f"{_FILE_PREFIX}{Path(text).suffix.lower()}"
    if text in _REGISTRY and not text.startswith(_FILE_PREFIX):
        return _REGISTRY[text], ()
    if ending in _REGISTRY:
        return _REGISTRY[ending], (Path(text).expanduser(),)
    raise ValueError(
        f"data={text!r}: expected one of {', '.join(names())}{did_you_mean(text, _REGISTRY)}"
    )
