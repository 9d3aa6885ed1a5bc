"""By what a run knows its data again, when it goes on: their shape, their type, a hash of them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from manifold_ae import data
from manifold_ae.data import Dataset

__all__ = ["fingerprint", "fingerprint_of", "kept_of", "known", "require_same"]


def fingerprint(values: Tensor, **others: Tensor) -> dict[str, Any]:
    """Shape and type of values, and a hash of their bytes and of those of other tensors by name.

    Example:
        >>> import torch
        >>> found = fingerprint(torch.arange(6.0).view(3, 2), rows=torch.arange(3))
        >>> found["shape"], found["dtype"], len(found["sha256"])
        ([3, 2], 'float32', 64)
    """
    found = hashlib.sha256()
    for name, tensor in {"values": values, **others}.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().data)
    return {
        "shape": list(values.shape),
        "dtype": str(values.dtype).removeprefix("torch."),
        "sha256": found.hexdigest(),
    }


def fingerprint_of(dataset: Dataset) -> dict[str, Any]:
    """That of a data set: of its values, its split, and what a model is given of its rows.

    Labels are seen by no model, and may change.
    """
    beside = {
        f"{part}_{name}": value
        for part in ("train", "test")
        for name, value in sorted(getattr(dataset, f"{part}_given").items())
    }
    rows = {"train_rows": dataset.train_rows, "test": dataset.test, "test_rows": dataset.test_rows}
    return fingerprint(dataset.train, **rows, **beside)


def kept_of(dataset: Dataset) -> dict[str, Any] | None:
    """What a run keeps of its data: their fingerprint; None where a name says which they are.

    What is computed from a name may differ by a rounding on another machine.
    """
    return None if data.is_named(dataset) else fingerprint_of(dataset)


def known(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a checkpoint keeps, the fingerprint of the data; nothing if it is older than that."""
    return {"data": extra["data"]} if "data" in extra else {}


def require_same(
    folder: Path | None,
    record: Mapping[str, Any],
    now: Mapping[str, Any] | None,
    *,
    doing: str = "resume",
) -> None:
    """Raise unless data are those that a run was begun with.

    Arguments:
        record: what the run keeps of its data, as ``"data"``; of a run that is older than that,
            nothing is known.
        now: the same of the data at hand.
        doing: what is refused otherwise.

    Raises:
        ValueError: if they are others.
    """
    if "data" not in record or record["data"] == now:
        return
    was, have = (_words(one) for one in (record["data"], now))
    way = ", or take another folder (--out)" if doing == "resume" else ""
    raise ValueError(
        f"cannot {doing} {folder or 'this run'}: the data have changed since it was begun (then "
        f"{was}; now {have}); give it the data that it was begun with{way}"
    )


def _words(known: Mapping[str, Any] | None) -> str:
    if known is None:
        return "those that its configuration names"
    return (
        f"training values {tuple(known['shape'])} of {known['dtype']}, "
        f"SHA-256 {known['sha256'][:12]}..."
    )
