"""Build, train, evaluate, save: the one place where data, models, training and pictures meet.

    trained = run.train(VAE(manifold="sphere:2"), "runs/sphere")  # or HAE(...), Diffusion(...)
    trained = run.load("runs/sphere")

What is to be run is a configuration of ``manifold_ae.experiments``; a module here for each kind
knows how.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

from manifold_ae.experiments import HAE, VAE, Configuration, Diffusion
from manifold_ae.run import delta_vae, diffusion, homomorphism, seeds
from manifold_ae.run.base import Run
from manifold_ae.run.delta_vae import VAERun
from manifold_ae.run.diffusion import DiffusionRun
from manifold_ae.run.evaluation.calibration import Calibration, calibrate, regions
from manifold_ae.run.evaluation.questions import ask, compare, read_truth
from manifold_ae.run.evaluation.scores import cosmoothing, off_manifold
from manifold_ae.run.files import (
    answered_before,
    read_checkpoint,
    save_arrays,
    save_table,
    write_json,
)
from manifold_ae.run.homomorphism import HAERun
from manifold_ae.run.paper import collect, is_one_of_several, reproduce, table_text
from manifold_ae.run.seeds import SeedsRun
from manifold_ae.run.selection import next_step, select
from manifold_ae.run.selection import table as selection_table
from manifold_ae.run.traces import TraceData

__all__ = [
    "Calibration",
    "DiffusionRun",
    "HAERun",
    "Run",
    "SeedsRun",
    "TraceData",
    "VAERun",
    "answered_before",
    "ask",
    "calibrate",
    "collect",
    "compare",
    "cosmoothing",
    "describe",
    "is_one_of_several",
    "load",
    "next_step",
    "off_manifold",
    "read_truth",
    "regions",
    "reproduce",
    "save_arrays",
    "save_table",
    "select",
    "selection_table",
    "table_text",
    "train",
    "write_json",
]

#: The name in a checkpoint → the module that has it; those of before there were two say nothing.
_KINDS: dict[str, ModuleType] = {
    "vae": delta_vae,
    "hae": homomorphism,
    "diffusion": diffusion,
    "seeds": seeds,
}
_BY_CONFIGURATION: dict[type[Configuration], ModuleType] = {
    VAE: delta_vae,
    HAE: homomorphism,
    Diffusion: diffusion,
}


def train(config: Configuration, folder: Path | str | None = None, **options: Any) -> Any:
    """Train what a configuration says, and keep it in ``folder`` if one is given.

    Arguments:
        config: a ``VAE``, an ``HAE`` or a ``Diffusion``.
        folder: the run's; nothing is written without one.
        options: ``resume``, ``progress``, ``checkpoint_seconds``, and ``dataset`` (``traces`` of an
            HAE) for data in memory.

    Returns:
        A ``VAERun``, an ``HAERun`` or a ``DiffusionRun``; of several seeds a ``SeedsRun``.

    Raises:
        ValueError: if the configuration does not fit the data, or the folder holds another run.
    """
    module = _BY_CONFIGURATION[type(config)]
    return module.train(config, None if folder is None else Path(folder), **options)


def describe(config: Configuration) -> str:
    """What ``train`` would do with a configuration, after one step of it; nothing is written."""
    return _BY_CONFIGURATION[type(config)].describe(config)


def load(folder: Path | str, *, device: str = "auto") -> Any:
    """A run from its folder, ready to use, evaluate and draw: what ``train`` returned.

    Raises:
        ValueError: if the folder holds no checkpoint, or a damaged one.
    """
    checkpoint = read_checkpoint(Path(folder))
    kind = checkpoint.extra.get("kind", "vae")
    if kind not in _KINDS:
        raise ValueError(f"{folder}: unknown kind of run {kind!r}; there are {', '.join(_KINDS)}")
    return _KINDS[kind].load(Path(folder), checkpoint, device=device)
