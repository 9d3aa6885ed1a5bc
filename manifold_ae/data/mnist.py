"""MNIST: 60,000 and 10,000 pictures of handwritten digits, 28×28 pixels with values 0 to 255.

The four files are known by the MD5 of their decoded bytes, so that any compression of them passes.

References:
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, *Gradient-based learning applied to document
    recognition*, Proceedings of the IEEE 86, 1998.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .base import Dataset, register
from .download import CACHE_VARIABLE, cache_folder, fetch
from .idx import read_idx

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


@dataclass(frozen=True)
class IdxFile:
    """One of the four files: its name without `.gz`, its number of axes, its MD5 when decoded."""

    name: str
    ndim: int
    md5: str


FILES = {
    "train": IdxFile("train-images-idx3-ubyte", 3, "6bbc9ace898e44ae57da46a324031adb"),
    "train_labels": IdxFile("train-labels-idx1-ubyte", 1, "a25bea736e30d166cdddb491f175f624"),
    "test": IdxFile("t10k-images-idx3-ubyte", 3, "2646ac647ad5339dbf082846283269ea"),
    "test_labels": IdxFile("t10k-labels-idx1-ubyte", 1, "27ae3e4e09519cfbb04c329615203637"),
}


@register("mnist", "70,000 handwritten digits, 28x28 pixels, downloaded once (11 MB)")
def load_mnist(
    *,
    data_dir: str | os.PathLike[str] | None = None,
    verify: bool = True,
    progress: bool = True,
    mirrors: Sequence[str] = MIRRORS,
) -> Dataset:
    """Return MNIST, raw values 0 to 255, with the digits 0 to 9 as labels.

    Arguments:
        data_dir: A folder that has the four files, gzipped or not. If none, they are downloaded
            once into the cache folder (`$MANIFOLD_AE_CACHE`, else the system's own place).
        verify: Whether files in `data_dir` must be MNIST's own. `False` lets pass what has the same
            format and names, such as Fashion-MNIST. Downloads are always verified.
        progress: Whether to draw a progress bar while downloading.
        mirrors: Base URLs to download from, tried in turn.

    Raises:
        FileNotFoundError: If `data_dir` lacks one of the files.
        ValueError: If a file is damaged, is not MNIST's, or images and labels differ in number.
        DownloadError: If no mirror has the files.
    """
    if data_dir is not None:
        parts = {
            part: _read(_locate(Path(data_dir), file), file, verify) for part, file in FILES.items()
        }
    else:
        parts = {part: _obtain(file, mirrors, progress) for part, file in FILES.items()}
    for part in ("train", "test"):
        images, labels = len(parts[part]), len(parts[f"{part}_labels"])
        if images != labels:
            raise ValueError(
                f"{FILES[part].name} has {images} images and {FILES[f'{part}_labels'].name} "
                f"{labels} labels: expected as many of both"
            )
    return Dataset(
        name="mnist",
        train=parts["train"].float(),
        test=parts["test"].float(),
        train_rows=torch.arange(len(parts["train"])),
        test_rows=torch.arange(len(parts["test"])),
        train_labels=parts["train_labels"].long(),
        test_labels=parts["test_labels"].long(),
        default_likelihood="gaussian",
        default_scaling="range",
        value_range=(0.0, 255.0),
    )


def _read(path: Path, file: IdxFile, verify: bool = True) -> Tensor:
    """The bytes of one file; its hash, if it is to be verified, must be the one expected."""
    elements, md5 = read_idx(path, file.ndim)
    if verify and md5 != file.md5:
        raise ValueError(
            f"{path}: the decoded bytes have MD5 {md5}, and MNIST's {file.name} has {file.md5}; "
            f"fetch it again, or pass verify=False if it is meant to be another data set"
        )
    return elements


def _locate(folder: Path, file: IdxFile) -> Path:
    """The path of one file in the user's folder, gzipped or not."""
    folder = folder.expanduser()
    for name in (file.name, f"{file.name}.gz"):
        if (folder / name).is_file():
            return folder / name
    state = "lacks" if folder.is_dir() else "does not exist; it should have"
    raise FileNotFoundError(
        f"data_dir={str(folder)!r} {state} {file.name} or {file.name}.gz; MNIST takes four files, "
        f"gzipped or not: {', '.join(f.name for f in FILES.values())}"
    )


def _obtain(file: IdxFile, mirrors: Sequence[str], progress: bool) -> Tensor:
    """The bytes of one file from the cache, downloaded if it is not there or has been damaged."""
    folder, name = cache_folder() / "mnist", f"{file.name}.gz"
    if (folder / name).exists():
        try:
            return _read(folder / name, file)
        except ValueError:
            (folder / name).unlink()
    path = fetch(
        name,
        folder,
        mirrors,
        lambda part: _read(part, file),
        otherwise=(
            f"Put the four files ({', '.join(f.name + '.gz' for f in FILES.values())}) in "
            f"{folder}, or in a folder of yours and pass data_dir= (--data-dir on the command "
            f"line); ${CACHE_VARIABLE} moves the cache. The data set 'digits' (--data digits) "
            f"needs no download."
        ),
        progress=progress,
    )
    return _read(path, file)
