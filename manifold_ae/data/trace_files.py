"""Traces of a user's own, in a `.npz` file: what is wrong with it is named before it is read.

The file's directory and the headers of its arrays are checked against its length, so that absurd
sizes allocate nothing, and no object is ever unpickled.
"""

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups import FiniteGroup, Group

from ._checks import did_you_mean
from .arrays import REAL_KINDS, read_header, require_file, to_float32
from .traces import Traces, check_elements, check_layout

#: Deflate makes at most so many bytes of one.
_GREATEST_RATIO = 1032
_KEYS = ("observations", "actions", "states")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FAILURES = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)


def load_traces(path: str | os.PathLike[str], group: Group, *, name: str | None = None) -> Traces:
    """Return the traces in a `.npz` file, as numpy.savez writes it.

    Arguments:
        path: The file, with `observations`, `(n, steps + 1, *shape)`, real numbers; `actions`, of a
            Lie group floating-point coordinates `(n, steps, group.dim)`, of a finite one integers
            `(n, steps)`; and `states`, if they are known.
        group: The group of the actions.
        name: What to call the traces; by default, as the file.

    Raises:
        FileNotFoundError: If there is no such file; names the nearest one in its folder.
        ValueError: If it is no `.npz` file, or truncated, an array is missing, of a wrong shape or
            type, or has values that are not finite or are no elements of the group.
    """
    path = Path(path)
    require_file(path, ".npz")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
            headers = {k: _header(archive, members, k, path) for k in _wanted(members, path)}
            check_layout(headers["observations"], headers["actions"], group, path.name)
            arrays = {k: _read(archive, members[k]) for k in headers}
    except _FAILURES as error:
        raise ValueError(
            f"{path} is truncated, or no .npz file ({error}); save it again with "
            "numpy.savez(path, observations=..., actions=...)"
        ) from error
    states = arrays.get("states")
    return Traces(
        observations=to_float32(arrays["observations"], "observations"),
        actions=_actions(arrays["actions"], group),
        group=group,
        states=None if states is None else torch.from_numpy(states),
        name=name or path.stem,
    )


def _wanted(members: dict[str, zipfile.ZipInfo], path: Path) -> list[str]:
    for key in _KEYS[:2]:
        if key not in members:
            held = ", ".join(members) or "nothing"
            others = [name for name in members if name not in _KEYS]
            raise ValueError(
                f"{path} has no {key!r}, it has {held}{did_you_mean(key, others)}; save it with "
                "numpy.savez(path, observations=..., actions=...)"
            )
    return [key for key in _KEYS if key in members]


def _header(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], key: str, path: Path
) -> tuple[int, ...]:
    """The shape of an array, once its header agrees with the archive's directory."""
    info = members[key]
    place = f"{key!r} in {path.name}"
    if info.compress_type not in _METHODS:
        raise ValueError(f"{place} is compressed in a way that numpy.savez has not; save it again")
    if info.file_size > _GREATEST_RATIO * (info.compress_size + 64):
        raise ValueError(
            f"{place} is said to hold {info.file_size} bytes in {info.compress_size}: no file does"
        )
    with archive.open(info) as file:
        shape, _, dtype = read_header(file, place)
        promised, held = math.prod(shape) * dtype.itemsize, info.file_size - file.tell()
    if dtype.kind not in REAL_KINDS:
        raise ValueError(
            f"{place} has elements of type {dtype}: expected real numbers, as no object is "
            "unpickled; convert it with array.astype"
        )
    if promised != held:
        raise ValueError(
            f"{place}: shape {shape} of {dtype} makes {promised} bytes, and {held} follow the "
            "header; save it again with numpy.savez"
        )
    return shape


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        shape, fortran, dtype = read_header(file, info.filename)
        return _values(file, dtype).reshape(shape, order="F" if fortran else "C")


def _values(file: IO[bytes], dtype: np.dtype) -> np.ndarray:
    # read to the end, where the archive's checksum is compared
    values = np.frombuffer(bytearray(file.read()), dtype)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _actions(x: np.ndarray, group: Group) -> Tensor:
    integers = x.dtype.kind in "iu"
    if not isinstance(group, FiniteGroup):
        if x.dtype.kind != "f":
            raise ValueError(
                f"actions has elements of type {x.dtype}: {group!r} is a Lie group and takes "
                "coordinates of its algebra, floats; convert them with array.astype, or give the "
                "finite group that these integers number"
            )
        return to_float32(x, "actions")
    if not integers:
        raise ValueError(
            f"actions has elements of type {x.dtype}: {group!r} is finite, and its elements are "
            f"integers from 0 to {group.order - 1}; convert them with array.astype, or give a Lie "
            "group"
        )
    # unsigned values past int64 become negative, and are refused as well
    actions = torch.from_numpy(x.astype(np.int64))
    check_elements(actions, group)
    return actions
