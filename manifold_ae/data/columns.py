"""Which part of a file is what: values, covariates, exposure, groups, times, labels.

A name is that of a column of a `.csv` file, of an array of a `.npz` file, or of another `.npy` file
beside one. What was found out about a file that was trained on, such as the categories of a column
of words, is kept with it, so that another file is read in the same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ._checks import one_of

#: What to do with a value that is missing, that is, NaN.
MISSING = ("refuse", "mask")
#: The parts of a file beside its values, each named by an option of ``load``.
PARTS = ("covariates", "exposure", "groups", "times", "labels")


def names_in(part: str, value: Any) -> tuple[str, ...]:
    """Return the names in an option: none, `"a,b"`, or several strings.

    Raises:
        ValueError: If it is none of these, or a name is empty or comes twice.
    """
    if value is None:
        return ()
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'{part}={value!r}: expected names, as in "speed" or "speed,gain"')
    names = tuple(name.strip() for name in names)
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"{part}={value!r}: expected names, none of them empty or there twice")
    return names


@dataclass(frozen=True)
class Columns:
    """How a file is read.

    Arguments:
        covariates: Names of what holds the covariates.
        exposure: The name of what holds the exposure, at most one; so also `groups` and `times`.
        groups: Of the trial or session of a row.
        times: Of the time stamp of a row.
        labels: Of what colours pictures and is never seen by a model.
        features: Columns of a `.csv` file that are values, in order; empty where they are not
            known yet, which stands for all that are nothing else.
        categories: Of each column of covariates that holds words, those that there are, sorted:
            it becomes as many columns of zeros and ones.
        missing: `"refuse"` or `"mask"`: whether values may be NaN.

    Raises:
        ValueError: If a name is given twice, or several where there is to be one.
    """

    covariates: tuple[str, ...] = ()
    exposure: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: str = "refuse"

    def __post_init__(self) -> None:
        one_of("missing", self.missing, MISSING)
        for part in ("exposure", "groups", "times"):
            if len(getattr(self, part)) > 1:
                raise ValueError(f"{part}={getattr(self, part)!r}: expected one name")
        taken: dict[str, str] = {}
        for part in PARTS:
            for name in getattr(self, part):
                # What colours a picture may be what a model is given.
                if part != "labels" and taken.setdefault(name, part) != part:
                    raise ValueError(f"{part}={name!r}: this is {taken[name]} already")

    @classmethod
    def of(cls, *, missing: str = "refuse", **named: Any) -> "Columns":
        """Return those that options of ``load`` name."""
        parts: dict[str, Any] = {part: names_in(part, value) for part, value in named.items()}
        return cls(**parts, missing=missing)

    def named(self) -> dict[str, tuple[str, ...]]:
        """Return the names of every part that has any."""
        return {part: getattr(self, part) for part in PARTS if getattr(self, part)}

    def to_mapping(self) -> dict[str, Any]:
        """Return what TOML, JSON and `torch.load(weights_only=True)` can hold."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return plain | {"categories": {k: list(v) for k, v in self.categories.items()}}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Columns":
        """Return what ``to_mapping`` was taken from.

        Raises:
            ValueError: If an entry is unknown.
        """
        known = {f.name for f in fields(cls)}
        for name in mapping:
            if name not in known:
                raise ValueError(f"{name!r} is no entry of columns: expected {', '.join(known)}")
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in mapping.items()
        }
        plain["categories"] = {k: tuple(v) for k, v in mapping.get("categories", {}).items()}
        return cls(**plain)
