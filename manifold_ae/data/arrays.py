"""Arrays of a user's, a row a measurement, in a `.npy` file or in memory.

What is wrong with an array is found here and named by its place, before it is a NaN in training.
A file's header is checked against the file's length first, so that an absurd one allocates nothing,
and the values are then read through a memory map.
"""

import math
import os
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from ._checks import did_you_mean

_CHUNK = 2**22
#: The part of a feature's range that rounding to float32 may take away.
RESOLUTION = 1e-3
REAL_KINDS = "biuf"
#: Those of words.
WORDS = "US"
_MAGIC = b"\x93NUMPY"
#: Numbers of axes of values: rows of features, or of pictures.
VALUES = (2, 3)
_SHAPES = {1: "(n,)", 2: "(n, features)", 3: "(n, height, width)"}
_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_array(path: str | os.PathLike[str]) -> Tensor:
    """Return the array in a `.npy` file, of one row or more, as a checked float32 tensor.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As `load` does, but for the number of rows.
    """
    return to_float32(open_array(path, minimum_rows=1), Path(path).name)


def open_array(
    path: str | os.PathLike[str],
    *,
    minimum_rows: int = 2,
    axes: tuple[int, ...] = VALUES,
    words: bool = False,
) -> np.ndarray:
    """Return the array in a `.npy` file as a read-only memory map, once its header is checked.

    Arguments:
        path: The file.
        minimum_rows: How many rows there have to be.
        axes: The numbers of axes that there may be.
        words: Whether its elements may be words.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no `.npy` file, is shorter or longer than its header says, or
            holds an array that `from_array` refuses for its shape or type.
    """
    path = Path(path)
    require_file(path, ".npy")
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
        if start != _MAGIC:
            what = "an .npz archive or zip file" if start[:2] == b"PK" else "no .npy file"
            raise ValueError(
                f"{path} is {what} by its first bytes; save one array with numpy.save(path, array)"
            )
        file.seek(0)
        shape, fortran, dtype = read_header(file, str(path))
        offset = file.tell()
    check_layout(shape, dtype, path.name, minimum_rows, axes, words=words)
    promised, held = math.prod(shape) * dtype.itemsize, path.stat().st_size - offset
    if promised != held:
        state = "is truncated" if held < promised else "goes on after its array"
        raise ValueError(
            f"{path} {state}: shape {shape} of {dtype} makes {promised} bytes, and {held} follow "
            f"the header; save it again with numpy.save"
        )
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def require_file(path: Path, ending: str) -> None:
    """Raise a `FileNotFoundError` that names the nearest file, unless there is this one."""
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        near = (p.name for p in path.parent.glob(f"*{ending}")) if path.parent.is_dir() else ()
        raise FileNotFoundError(
            f"{path} {state}: expected a {ending} file{did_you_mean(path.name, near)}"
        )


def read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and type of the array that a file in `.npy` format goes on with.

    Raises:
        ValueError: If the header cannot be read.
    """
    try:
        return _HEADER_READERS[npy.read_magic(file)](file)
    except (KeyError, ValueError, EOFError, tokenize.TokenError) as error:
        raise ValueError(
            f"{name} has a header that cannot be read ({error}); save it again with numpy.save"
        ) from error


def check_counts(
    x: Tensor,
    name: str = "data",
    *,
    missing: str = "refuse",
    rows: Tensor | None = None,
    columns: Sequence[str] = (),
) -> None:
    """Raise unless all values are counts: whole numbers, none of them negative.

    Arguments:
        x: The values, with shape `(n, *)`.
        name: What to call them in the message.
        missing: `"mask"` if NaN stands for a value that is missing.
        rows: Row numbers of x in the data, with shape `(n,)`.
        columns: Names of the features, if they have any.

    Raises:
        ValueError: If a value is negative or not whole; names the first.
    """
    fractional = (x != x.floor()) | x.isinf()
    if missing == "mask":
        fractional &= ~x.isnan()
    for mask, what in ((x < 0, "negative"), (fractional, "not a whole number")):
        if mask.any():
            first = _first(mask.cpu().numpy())
            row = first[0] if rows is None else int(rows[first[0]])
            place, hint = _place((row, *first[1:])), ""
            if columns:
                place = f"row {row}, column {columns[first[1]]!r}"
                hint = (
                    "; a column that is no value is named by --times, --covariates, --exposure, "
                    "--groups or --labels"
                )
            raise ValueError(
                f"{name} is {what} ({x[first].item():g}) at {place}, as {int(mask.sum())} "
                f"of its values are: expected counts{hint}; use a Gaussian likelihood otherwise"
            )


def check_layout(
    shape: tuple[int, ...],
    dtype: np.dtype,
    name: str,
    minimum_rows: int = 2,
    axes: tuple[int, ...] = VALUES,
    *,
    words: bool = False,
) -> None:
    """Raise unless an array of this shape and type may hold rows of real numbers, or of words."""
    if dtype.kind not in REAL_KINDS + WORDS * words:
        raise ValueError(
            f"{name} has elements of type {dtype}: expected real numbers "
            f"(booleans, integers or floats); convert it with array.astype"
        )
    if len(shape) not in axes:
        wanted = " or ".join(_SHAPES[length] for length in axes)
        raise ValueError(
            f"{name} has shape {shape}: expected {wanted}; reshape it with "
            f"array.reshape({'len(array), -1' if max(axes) > 1 else '-1'})"
        )
    if shape[0] < minimum_rows:
        why = ", one to train on and one to test on" if minimum_rows == 2 else ""
        raise ValueError(
            f"{name} has shape {shape}, {shape[0]} row(s): expected at least {minimum_rows}{why}"
        )
    if min(shape[1:], default=1) < 1:
        raise ValueError(f"{name} has shape {shape}: expected at least one feature")


def to_float32(
    x: np.ndarray, name: str, *, missing: str = "refuse", axes: tuple[str, ...] = ("row",)
) -> Tensor:
    """The values as a new float32 tensor, made in chunks, every one of them finite.

    Arguments:
        x: The values, with shape `(n, *)`.
        name: What to call them in the message.
        missing: `"mask"` lets NaN pass, which then stands for a value that is missing.
        axes: What the first axes count: of traces, `("trace", "step")`.

    Raises:
        ValueError: If a value is not finite in float32, or if float32 rounds away more than
            ``RESOLUTION`` of what a feature varies by.
    """
    out = np.empty(x.shape, np.float32)
    faults = dict.fromkeys(("NaN", "infinite", "beyond float32"), 0)
    first: tuple[int, ...] | None = None
    rows = max(1, _CHUNK // math.prod(x.shape[1:]))
    for start in range(0, len(x), rows):
        given, taken = x[start : start + rows], out[start : start + rows]
        with np.errstate(over="ignore"):
            taken[...] = given
        wrong = np.isinf(taken) if missing == "mask" else ~np.isfinite(taken)
        if wrong.any():
            found = given[wrong]
            faults["NaN"] += int(np.isnan(found).sum())
            faults["infinite"] += int(np.isinf(found).sum())
            faults["beyond float32"] += int(np.isfinite(found).sum())
            if first is None:
                row, *rest = _first(wrong)
                first = (start + row, *rest)
    if first is not None:
        counts = ", ".join(f"{count} {what}" for what, count in faults.items() if count)
        raise ValueError(
            f"{name} has values that cannot be trained on ({counts}), the first "
            f"({x[first]:g}) at {_place(first, axes)}: expected finite numbers below 3.4e38; "
            f"remove these {axes[0]}s, fill them in, or change the unit"
            + (
                "; where NaN is a value that is missing, missing='mask' (--missing mask)"
                if faults["NaN"] and axes == ("row",)
                else ""
            )
        )
    if not np.can_cast(x.dtype, np.float32):
        _check_resolution(x, out, rows, name)
    return torch.from_numpy(out)


def _check_resolution(x: np.ndarray, rounded: np.ndarray, rows: int, name: str) -> None:
    """Raise where rounding to float32 takes away what a feature varies by."""
    low, high = np.full(x.shape[1:], np.inf), np.full(x.shape[1:], -np.inf)
    lost = np.zeros(x.shape[1:])
    for start in range(0, len(x), rows):
        given = x[start : start + rows].astype(np.float64)
        # fmin and fmax: what is missing says nothing
        low = np.fmin(low, np.fmin.reduce(given, 0))
        high = np.fmax(high, np.fmax.reduce(given, 0))
        off = np.abs(given - rounded[start : start + rows])
        lost = np.fmax(lost, np.fmax.reduce(off, 0))
    blurred = lost > RESOLUTION * (high - low)
    # What is constant has nothing to lose, whatever its digits.
    blurred &= high > low
    if blurred.any():
        first = _first(blurred)
        raise ValueError(
            f"{name} varies by {(high - low)[first]:.3g} about {low[first]:.6g}"
            f"{_feature(first)}, and float32 rounds it by "
            f"{lost[first]:.3g}: expected at most {RESOLUTION:g} of the range; subtract an offset "
            "first, as in array - array.mean(0)"
        )


def _first(mask: np.ndarray) -> tuple[int, ...]:
    """The index of the first true element."""
    return tuple(int(i) for i in np.unravel_index(mask.argmax(), mask.shape))


def _feature(index: tuple[int, ...]) -> str:
    """Words for the index of a feature, of which there may be but one."""
    return f" in feature {index[0] if len(index) == 1 else index}" if index else ""


def _place(index: tuple[int, ...], axes: tuple[str, ...] = ("row",)) -> str:
    """Words for the index of an element, counted from 0 as in NumPy."""
    words = [f"{axis} {k}" for axis, k in zip(axes, index, strict=False)]
    rest = index[len(axes) :]
    if len(rest) == 1:
        words.append(f"column {rest[0]}")
    elif rest:
        words.append(f"element {rest}")
    return ", ".join(words)
