"""The idx format of MNIST, read strictly.

A file is two zero bytes, one byte for the type of the elements (0x08, unsigned bytes, is the only
one here), one byte for the number of axes, the axes' lengths as big-endian 32-bit integers, and the
elements in row-major order; nothing follows. It may be compressed by gzip, which is told from the
first two bytes rather than from the name.

References:
    Y. LeCun, C. Cortes and C. Burges, *The MNIST database of handwritten digits*, 1998.
"""

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

LARGEST = 2**30
"""More bytes than this (23 times MNIST) are taken for a damaged header, and not read."""

_UNSIGNED_BYTE = 0x08
_BLOCK = 2**20


def read_idx(path: str | os.PathLike[str], ndim: int | None = None) -> tuple[Tensor, str]:
    """Read an idx file of unsigned bytes, gzipped or not.

    Memory is taken as the elements arrive, so that a header that promises more than the file holds
    costs nothing.

    Arguments:
        path: The file.
        ndim: The number of axes expected; any if none.

    Returns:
        The elements, uint8, with the shape that the header gives, and the MD5 of the decoded bytes
        (the header's included), in hexadecimal.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not in this format, is truncated or damaged, has another number
            of axes, or goes on after its last element. The message names the file.
    """
    path = Path(path)
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not compressed:
            return _parse(raw, path, ndim)
        try:
            with gzip.GzipFile(fileobj=raw) as decoded:
                return _parse(decoded, path, ndim)
        except EOFError as error:
            raise ValueError(
                f"{path}: the gzip stream ends early; the file is truncated, fetch it again"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{path}: the gzip stream is damaged ({error}); fetch it again"
            ) from error


def _parse(stream: IO[bytes] | gzip.GzipFile, path: Path, ndim: int | None) -> tuple[Tensor, str]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE or magic[3] == 0:
        raise ValueError(
            f"{path}: starts with {magic.hex(' ') or 'nothing'}, which is no idx file of unsigned "
            f"bytes: expected 00 00 08, then the number of axes"
        )
    if ndim is not None and magic[3] != ndim:
        raise ValueError(
            f"{path}: has {magic[3]} axes, expected {ndim}; are images and labels exchanged?"
        )
    header = magic + stream.read(4 * magic[3])
    if len(header) < 4 * (magic[3] + 1):
        raise ValueError(f"{path}: ends within its header; the file is truncated, fetch it again")
    shape = struct.unpack(f">{magic[3]}I", header[4:])
    size = math.prod(shape)
    if not 0 < size <= LARGEST:
        raise ValueError(
            f"{path}: the header gives the shape {shape}, {size} bytes: expected 1 to {LARGEST}; "
            f"the header is damaged, fetch the file again"
        )

    digest = hashlib.md5(header, usedforsecurity=False)
    elements = bytearray()
    # one byte more than expected: it shows what follows the last element, and makes gzip reach its
    # own end, where it verifies its checksum
    while len(elements) <= size:
        block = stream.read(min(_BLOCK, size + 1 - len(elements)))
        if not block:
            break
        digest.update(block)
        elements += block
    if len(elements) != size:
        held = "more" if len(elements) > size else f"{len(elements)}"
        raise ValueError(
            f"{path}: the header's shape {shape} makes {size} bytes, and {held} follow it; "
            f"the file is damaged or truncated, fetch it again"
        )
    return torch.frombuffer(elements, dtype=torch.uint8).reshape(shape), digest.hexdigest()
