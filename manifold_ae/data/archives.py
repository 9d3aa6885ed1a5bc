"""`.npz` files as numpy.savez writes them, read without trust.

The archive's directory and the headers of its arrays are checked against its length, so that absurd
sizes allocate nothing, and no object is ever unpickled.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from .arrays import REAL_KINDS, WORDS, read_header, require_file

#: Deflate makes at most so many bytes of one.
_GREATEST_RATIO = 1032
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FAILURES = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)


class Archive:
    """The arrays of an open `.npz` file; made by ``open_archive``."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive
        self._members = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}

    @property
    def names(self) -> list[str]:
        """What the arrays are called."""
        return list(self._members)

    def header(self, key: str, *, words: bool = False) -> tuple[tuple[int, ...], np.dtype]:
        """The shape and the type of an array, once its header agrees with the directory.

        Arguments:
            words: Whether its elements may be words.

        Raises:
            ValueError: If they disagree, or its elements are not real numbers.
        """
        info = self._members[key]
        place = f"{key!r} in {self.path.name}"
        if info.compress_type not in _METHODS:
            raise ValueError(
                f"{place} is compressed in a way that numpy.savez has not; save it again"
            )
        if info.file_size > _GREATEST_RATIO * (info.compress_size + 64):
            raise ValueError(
                f"{place} is said to hold {info.file_size} bytes in {info.compress_size}: no file "
                "does"
            )
        with self._archive.open(info) as file:
            shape, _, dtype = read_header(file, place)
            promised, held = math.prod(shape) * dtype.itemsize, info.file_size - file.tell()
        if dtype.kind not in REAL_KINDS + WORDS * words:
            raise ValueError(
                f"{place} has elements of type {dtype}: expected real numbers, as no object is "
                "unpickled; convert it with array.astype"
            )
        if promised != held:
            raise ValueError(
                f"{place}: shape {shape} of {dtype} makes {promised} bytes, and {held} follow the "
                "header; save it again with numpy.savez"
            )
        return shape, dtype

    def read(self, key: str) -> np.ndarray:
        """An array, whose ``header`` has been looked at."""
        with self._archive.open(self._members[key]) as file:
            shape, fortran, dtype = read_header(file, key)
            return _values(file, dtype).reshape(shape, order="F" if fortran else "C")


@contextmanager
def open_archive(path: Path, keys: str) -> Iterator[Archive]:
    """Open a `.npz` file for the length of a with-statement.

    Arguments:
        path: The file.
        keys: What it is to be saved with, for the message: `"observations=..., actions=..."`.

    Raises:
        FileNotFoundError: If there is no such file; names the nearest one in its folder.
        ValueError: If it is no `.npz` file or truncated, whenever that is found out.
    """
    require_file(path, ".npz")
    try:
        with zipfile.ZipFile(path) as archive:
            yield Archive(path, archive)
    except _FAILURES as error:
        raise ValueError(
            f"{path} is truncated, or no .npz file ({error}); save it again with "
            f"numpy.savez(path, {keys})"
        ) from error


def _values(file: IO[bytes], dtype: np.dtype) -> np.ndarray:
    # read to the end, where the archive's checksum is compared
    values = np.frombuffer(bytearray(file.read()), dtype)
    return values.astype(dtype.newbyteorder("="), copy=False)
