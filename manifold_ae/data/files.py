"""Files of a user's own: `.npy`, `.npz` and `.csv`, with what is known beside the values.

    .npy   one array, the values; options name other .npy files that hold what is beside them
    .npz   arrays x, and what there is of covariates, exposure, groups, times, labels; options name
           other keys
    .csv   a header and rows; options name the columns that are not values

``load`` makes a data set of one, to train on; ``read`` reads another in the same way, to encode.
"""

import contextlib
import os
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np

from . import trace_files
from ._checks import did_you_mean, one_of
from .archives import Archive, open_archive
from .arrays import VALUES, check_layout, open_array
from .base import Dataset, register
from .columns import PARTS, Columns
from .given import SEEN
from .recordings import AXES, CLASSES, Beside, Recording, recording
from .tables import read_table

#: Parts that no model sees.
UNSEEN = ("groups", "times", "labels")
_Read = tuple[np.ndarray, dict[str, np.ndarray], Columns]


def _read_array(path: Path, columns: Columns, optional: Container[str]) -> _Read:
    x = open_array(path, minimum_rows=1)
    parts = {
        part: open_array(
            Path(other).expanduser(), minimum_rows=1, axes=AXES[part], words=part in CLASSES
        )
        for part, (other,) in columns.named().items()
    }
    return x, parts, columns


def _read_archive(path: Path, columns: Columns, optional: Container[str]) -> _Read:
    with open_archive(path, "x=..., groups=..., times=...") as archive:
        keys = _keys(archive, columns, optional)
        for part, key in keys.items():
            words = part in CLASSES
            shape, dtype = archive.header(key, words=words)
            place = f"{key!r} in {path.name}"
            if part == "x":
                check_layout(shape, dtype, place, minimum_rows=1)
            else:
                check_layout(shape, dtype, place, 1, AXES[part], words=words)
        arrays = {part: archive.read(key) for part, key in keys.items()}
    return arrays.pop("x"), arrays, columns


def _keys(archive: Archive, columns: Columns, optional: Container[str]) -> dict[str, str]:
    """Part → the array that holds it, for those that there are."""
    names = archive.names
    if "x" not in names:
        held = ", ".join(names) or "nothing"
        if set(trace_files.KEYS[:2]) <= set(names):
            raise ValueError(
                f"{archive.path} holds traces ({held}) and no rows: it is a file for "
                "manifold-ae train hae --data; rows are x, with numpy.savez(path, x=...)"
            )
        raise ValueError(
            f"{archive.path} has no 'x', it has {held}: the values are to be called x; save it "
            f"with numpy.savez(path, x={_values(archive)}, ...)"
        )
    keys = {part: part for part in PARTS if part in names} | {"x": "x"}
    absent = []
    for part, (key,) in columns.named().items():
        if key in names:
            keys[part] = key
        elif part not in optional:
            absent.append((key, part))
    if absent:
        wanted = " and ".join(f"no {key!r} for {part}" for key, part in absent)
        raise ValueError(
            f"{archive.path} has {wanted}, it has {', '.join(names)}"
            f"{did_you_mean(absent[0][0], names)}"
        )
    return keys


def _values(archive: Archive) -> str:
    """The one array that may be values, by its shape; else dots."""
    found = []
    for name in archive.names:
        with contextlib.suppress(ValueError):
            found += [name] if len(archive.header(name)[0]) in VALUES else []
    return found[0] if len(found) == 1 and found[0].isidentifier() else "..."


def _read_table(path: Path, columns: Columns, optional: Container[str]) -> _Read:
    return read_table(path, columns, optional)


READERS: dict[str, Callable[[Path, Columns, Container[str]], _Read]] = {
    ".npy": _read_array,
    ".npz": _read_archive,
    ".csv": _read_table,
}


def read(
    path: str | os.PathLike[str],
    *,
    like: Columns | None = None,
    missing: str | None = None,
    **beside: Unpack[Beside],
) -> Recording:
    """Return all rows of a file, in their order.

    Arguments:
        path: A file that ends in `.npy`, `.npz` or `.csv`.
        like: How the file that a model was trained on was read: the same columns and categories
            are taken here, groups, times and labels only if they are there. Other `.npy` files are
            named anew.
        missing: `"refuse"` or `"mask"`; by default that of `like`, or `"refuse"`.
        beside: The names of what holds the parts of `Beside`; of what kind they are, the module
            says. Of covariates and labels in a `.csv` file, several columns: `"speed,gain"`. Given
            beside `like`, they stand in place of what that has.

    Raises:
        FileNotFoundError: If there is no such file; names the nearest one in its folder.
        ValueError: If it is not a file of its kind, or truncated; has not what is named; or has
            values that are no numbers, not finite, or missing and not allowed to be.
    """
    for part in beside:
        one_of("part", part, PARTS)
    given = {part: name for part, name in beside.items() if name is not None}
    path = Path(path).expanduser()
    ending = one_of("data", path.suffix.lower(), READERS)
    columns = Columns.of(missing=missing or "refuse", **given)
    optional: tuple[str, ...] = ()
    if like is not None:
        columns = _merged(like, columns, path, missing)
        optional = tuple(part for part in UNSEEN if part not in given)
    for part, names in columns.named().items():
        if len(names) > 1 and ending != ".csv":
            raise ValueError(
                f"{part}={','.join(names)!r}: only a .csv file has several columns to name; "
                f"{path.name} takes one array"
            )
    x, parts, columns = READERS[ending](path, columns, optional)
    return replace(recording(x, parts, columns, path.name), name=path.stem)


def _merged(like: Columns, given: Columns, path: Path, missing: str | None) -> Columns:
    """How a file was read, with what is said anew in its place."""
    old, new = like.named(), given.named()
    if path.suffix.lower() == ".npy":
        absent = [part for part in SEEN if part in old and part not in new]
        if absent:
            trained = " and ".join(f"{part} ({old[part][0]})" for part in absent)
            raise ValueError(
                f"{path.name}: the model was trained with {trained}: name those of these rows, as "
                f"in {', '.join(f'{part}=PATH.npy' for part in absent)} "
                f"({' '.join(f'--{part} PATH.npy' for part in absent)})"
            )
        old = {}
    return Columns(
        **old | new,
        features=like.features,
        categories=like.categories,
        missing=missing or like.missing,
    )


@register("PATH.csv", "a table of yours, a header of column names and a row a measurement")
@register("PATH.npz", "arrays of yours by numpy.savez: x, and covariates, groups, times, ...")
@register("PATH.npy", "an array of yours, (n, features) or (n, height, width), saved by numpy.save")
def load_file(
    path: str | os.PathLike[str],
    *,
    split: str = "random",
    test_fraction: float = 0.2,
    seed: int = 0,
    missing: str = "refuse",
    **beside: Unpack[Beside],
) -> Dataset:
    """Return the data set made of a file.

    Arguments:
        path: The file, `.npy`, `.npz` or `.csv`.
        split: `"random"`, or `"blocks"` or `"groups"` for recordings, as in `split_rows`.
        test_fraction: The part to test on.
        seed: Which split.
        missing: `"refuse"`, or `"mask"` where NaN stands for a value that is missing.
        beside: What holds the parts of `Beside`, as in `read`.

    Raises:
        FileNotFoundError: If there is no such file; names the nearest one in its folder.
        ValueError: As `read` does, and if there are fewer than two rows.
    """
    found = read(path, missing=missing, **beside)
    if len(found) < 2:
        raise ValueError(
            f"{path} has shape {tuple(found.x.shape)}, 1 row(s): expected at least 2, one to train "
            "on and one to test on"
        )
    return found.dataset(split, test_fraction, seed)
