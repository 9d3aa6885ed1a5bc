"""Training with restarts: short trials, of which the best goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lightning_fabric import Fabric
from torch import nn

from manifold_ae.data.seeding import mix
from manifold_ae.run.files import existing_checkpoint
from manifold_ae.training import Checkpoint, Schedule, Source, fit

__all__ = ["train_with_restarts"]

M = TypeVar("M", bound=nn.Module)


def train_with_restarts(
    config: Any,
    build: Callable[[Any], M],
    make_source: Callable[[Any], Source],
    quality: Callable[[dict[str, float]], float],
    *,
    schedule: Schedule,
    fabric: Fabric,
    folder: Path | None,
    resume: bool,
    extra: dict[str, Any],
    progress: bool,
    checkpoint_seconds: float,
) -> tuple[M, Checkpoint]:
    """A trained model and its last checkpoint.

    Arguments:
        config: with ``seed``, ``epochs``, ``restarts``, ``restart_epochs`` and ``compile``.
        build: the untrained model of a configuration.
        make_source: its batches.
        quality: of an epoch's row of metrics, by which the best trial is chosen; more is better.
        extra: kept in every checkpoint; what the trials reached is added.
    """

    def attempt(
        config: Any, folder: Path | None, start: Checkpoint | None, until: int | None
    ) -> tuple[M, Checkpoint]:
        model = build(config)
        if config.compile:
            model.compile()
        last = fit(
            model,
            make_source(config),
            epochs=config.epochs,
            until=until,
            schedule=schedule,
            fabric=fabric,
            seed=config.seed,
            folder=folder,
            checkpoint_seconds=checkpoint_seconds,
            resume=start,
            extra=extra,
            progress=progress,
        )
        return model, last

    start = existing_checkpoint(folder) if resume else None
    if config.restarts == 1:
        return attempt(config, folder, start, None)
    # Trials are the same runs cut short: the best simply goes on.
    trials = []
    for k in range(config.restarts):
        trial = config.replace(seed=mix("trial", config.seed, k) >> 1)
        where = None if folder is None else folder / "trials" / str(k)
        if where is not None:
            where.mkdir(parents=True, exist_ok=True)
        done = existing_checkpoint(where) if resume else None
        if start is None and (done is None or done.epoch < config.restart_epochs):
            done = attempt(trial, where, done, config.restart_epochs)[1]
        if done is not None:
            trials.append((quality(done.history[config.restart_epochs - 1]), trial, done))
    _, winner, best = max(trials, key=lambda entry: entry[0])
    extra["trials"] = [float(entry[0]) for entry in trials]
    return attempt(winner, folder, start or best, None)
