"""A run's folder: what is written there, always aside and then renamed."""

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch
from lightning_fabric import Fabric
from torch import nn

from manifold_ae import groups
from manifold_ae.experiments import Configuration
from manifold_ae.groups import FiniteGroup, Group
from manifold_ae.training import Checkpoint, write_aside

__all__ = [
    "answered_before",
    "as_it_was",
    "begun_with",
    "existing_checkpoint",
    "group_of",
    "group_record",
    "prepare_folder",
    "prepare_together",
    "read_checkpoint",
    "save_arrays",
    "save_table",
    "save_weights",
    "write_json",
]

C = TypeVar("C", bound=Configuration)
#: What can be asked of a run, by the names under which ``metrics.json`` keeps the answers.
QUESTIONS = ("topology", "coverage", "consistency", "off_manifold", "cosmoothing")
#: What may change when a run goes on: where it runs.
WHERE = ("device", "devices", "precision", "compile")


def prepare_folder(
    folder: Path, config: C, resume: bool, complete: Callable[[C], C] = lambda config: config
) -> Path:
    """Make the run's folder, or check that the run in it is the one to go on with.

    Arguments:
        complete: what gives a configuration of an older version the fields that it lacks.
    """
    folder = Path(folder)
    path = folder / "config.toml"
    if path.exists():
        if not resume:
            raise ValueError(
                f"{folder} holds a run already; pass --resume to go on with it, or another --out"
            )
        kind = type(config)
        before = complete(kind.from_mapping(kind.read(path)))
        where = {name: getattr(config, name) for name in WHERE if hasattr(config, name)}
        if before.replace(**where) != config:
            changed = [
                f"{name} = {value!r} (was {before.to_mapping().get(name)!r})"
                for name, value in config.to_mapping().items()
                if before.to_mapping().get(name) != value and name not in where
            ]
            raise ValueError(f"cannot resume {folder} with {', '.join(changed)}")
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(path, lambda temporary: temporary.write_text(config.to_toml(), encoding="utf-8"))
    return folder


def as_it_was(config: C, folder: Path | None, before: Mapping[str, Any]) -> C:
    """A configuration with what the run in a folder is older than as it was then.

    Fields that its ``config.toml`` lacks have the default of now where they are not given, which
    another model would follow from.

    Arguments:
        before: such fields, and what they are in runs that are older than they.
    """
    path = None if folder is None else Path(folder) / "config.toml"
    if path is None or not path.exists():
        return config
    kind = type(config)
    kept = kind.read(path)
    older = {name: value for name, value in before.items() if name not in kept}
    changes = {k: v for k, v in older.items() if getattr(config, k) == getattr(kind, k)}
    return config.replace(**changes)


def begun_with(folder: Path | None, kind: type[C]) -> C | None:
    """The configuration of the run in a folder; None where there is no run."""
    path = None if folder is None else Path(folder) / "config.toml"
    return None if path is None or not path.exists() else kind.from_mapping(kind.read(path))


def prepare_together(
    fabric: Fabric,
    folder: Path | None,
    config: C,
    resume: bool,
    complete: Callable[[C], C] = lambda config: config,
) -> Path | None:
    """``prepare_folder`` by the first process, for all: its folder is that of every process."""
    folder = fabric.broadcast(folder)
    if folder is not None and fabric.is_global_zero:
        prepare_folder(folder, config, resume, complete)
    fabric.barrier()
    return folder


def existing_checkpoint(folder: Path | None) -> Checkpoint | None:
    """The checkpoint in a run's folder, if it got that far."""
    if folder is None or not (folder / "checkpoint.pt").exists():
        return None
    return Checkpoint.load(folder / "checkpoint.pt")


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a run's folder.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    path = Path(folder) / "checkpoint.pt"
    if not path.exists():
        raise ValueError(f"{folder} holds no run: there is no {path}")
    return Checkpoint.load(path)


def save_weights(path: Path, model: nn.Module, config: Configuration) -> None:
    """All parameters as safetensors, with the configuration as metadata."""
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    metadata = {"format": "1", "config": config.to_toml()}
    # Its own writing to files tells of a full disk by no OSError.
    content = safetensors.torch.save(weights, metadata=metadata)
    write_aside(path, lambda temporary: temporary.write_bytes(content))


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A compressed .npz file, written aside and renamed; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_aside(path, write)


def save_table(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays ``(n, *)`` as a .csv file with a header, a row an entry of the first axis.

    An array of several columns has them numbered: ``angles_0``, ``angles_1``, ...
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        flat = value.reshape(len(value), -1)
        single = value.ndim == 1 or flat.shape[1] == 1
        names = [name] if single else [f"{name}_{k}" for k in range(flat.shape[1])]
        columns |= dict(zip(names, flat.T, strict=True))

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))

    write_aside(path, write)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file, written aside and renamed; numbers that are not finite are null there."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"
    write_aside(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _finite(value: Any) -> Any:
    """Content with None for numbers that are not finite, for which JSON has no words."""
    if isinstance(value, Mapping):
        return {name: _finite(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def answered_before(folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What ``metrics.json`` in a run's folder keeps of questions asked before, by name.

    Arguments:
        metrics: of the run as it is now; what was asked after fewer epochs holds no longer.
    """
    try:
        kept = json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if kept.get("epochs") != metrics.get("epochs"):
        return {}
    return {name: kept[name] for name in QUESTIONS if name in kept}


def group_record(group: Group) -> Any:
    """A group as a checkpoint holds it: its name, or the table of one that has none."""
    factors = getattr(group, "factors", ())
    if factors:
        return {"factors": [group_record(factor) for factor in factors]}
    if type(group) is FiniteGroup:
        matrices = None if group._matrices is None else torch.from_numpy(group._matrices.copy())
        return {"table": group.table, "matrices": matrices}
    return group.spec


def group_of(record: Any) -> Group:
    """The group that ``group_record`` wrote down."""
    if isinstance(record, str):
        return groups.parse(record)
    if "factors" in record:
        return groups.Product(*map(group_of, record["factors"]))
    matrices = record["matrices"]
    return FiniteGroup(
        record["table"].numpy(), None if matrices is None else matrices.double().numpy()
    )
