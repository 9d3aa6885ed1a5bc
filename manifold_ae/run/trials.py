"""Training with seeds and restarts: several runs at once, of short trials the best of which go on.

Trials are the same runs cut short, and all those of one call are one computation
(``replicas.Replicas``). What a trial reaches is what it would reach alone, but for rounding; that a
run which goes on from a checkpoint repeats bit for bit holds for the whole.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import nn

from manifold_ae import data
from manifold_ae.data.seeding import mix
from manifold_ae.replicas import Replicas
from manifold_ae.run.files import existing_checkpoint
from manifold_ae.run.fingerprint import require_same
from manifold_ae.training import Checkpoint, Schedule, Source, Stopping, fit

__all__ = ["train_together", "train_with_restarts"]


def train_with_restarts(
    config: Any,
    build: Callable[[Any], Any],
    make_source: Callable[[Any], Source],
    quality: Callable[[dict[str, float]], float],
    **options: Any,
) -> tuple[Any, Checkpoint]:
    """A trained model and its last checkpoint: ``train_together`` of one configuration."""
    return train_together([config], build, make_source, quality, **options)


def train_together(
    configs: Sequence[Any],
    build: Callable[[Any], Any],
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
    stopping: Stopping | None = None,
    after_epoch: Callable[[Any], Callable[[int, int], Mapping[str, float]]] | None = None,
) -> tuple[Any, Checkpoint]:
    """A trained model and its last checkpoint; of several configurations, ``Replicas`` of them.

    Arguments:
        configs: equal but for ``seed``; with ``epochs``, ``restarts``, ``restart_epochs``,
            ``precision`` and ``compile``; those without ``restarts`` have no trials.
        build: the untrained model of a configuration.
        make_source: its batches.
        quality: of an epoch's row of metrics, by which the best trial is chosen; more is better.
            A trial that diverged has −∞.
        extra: kept in every checkpoint; what the trials reached is added. By its ``"data"``, a
            fingerprint, those of a run that goes on are known again.
        stopping: what may end training early; trials are as long as they are said to be.
        after_epoch: makes what ``fit`` takes under this name, given the model that is trained.

    Raises:
        NonFiniteLossError: when every model diverged.
        ValueError: if the run that is to go on was begun with other data.
    """

    def begun(folder: Path | None) -> Checkpoint | None:
        found = existing_checkpoint(folder) if resume else None
        if folder is not None and found is not None:
            # Of several seeds the fingerprint is with what is the same for all.
            kept, own = (each.get("own", each) for each in (found.extra, extra))
            require_same(folder, kept, own.get("data"))
        return found

    def attempt(
        configs: Sequence[Any], folder: Path | None, start: Checkpoint | None, until: int | None
    ) -> tuple[Any, Checkpoint]:
        models: list[nn.Module] = [build(config) for config in configs]
        sources = [make_source(config) for config in configs]
        first, one = configs[0], len(configs) == 1
        model = models[0] if one else Replicas(models, [config.seed for config in configs])
        if first.compile and one:  # replicas are not: see Replicas.compile
            model.compile()
        last = fit(
            model,
            sources[0] if one else data.Together(sources),
            epochs=first.epochs,
            until=until,
            schedule=schedule,
            fabric=fabric,
            seed=first.seed,
            folder=folder,
            checkpoint_seconds=checkpoint_seconds,
            resume=start,
            extra=extra,
            progress=progress,
            stopping=stopping if until is None else None,
            after_epoch=None if after_epoch is None else after_epoch(model),
        )
        return model, last

    start = begun(folder)
    count = getattr(configs[0], "restarts", 1)
    if count == 1:
        return attempt(configs, folder, start, None)
    trials = [
        config.replace(seed=mix("trial", config.seed, k) >> 1)
        for config in configs
        for k in range(count)
    ]
    if start is None:
        done = _try(trials, attempt, begun, None if folder is None else folder / "trials", fabric)
        reached = [_score(trial, configs[0].restart_epochs, quality) for trial in done]
    else:
        done, reached = [], _flat(start.extra["trials"])
    # The place among the trials of the best of each configuration.
    best = [
        max(range(first, first + count), key=reached.__getitem__)
        for first in range(0, len(trials), count)
    ]
    parts = [reached[first : first + count] for first in range(0, len(trials), count)]
    extra["trials"] = parts[0] if len(configs) == 1 else parts
    if start is None:
        chosen = [done[k] for k in best]
        start = chosen[0] if len(chosen) == 1 else Replicas.join(chosen)
    return attempt([trials[k] for k in best], folder, start, None)


def _try(
    trials: Sequence[Any],
    attempt: Callable[..., tuple[Any, Checkpoint]],
    begun: Callable[[Path | None], Checkpoint | None],
    folder: Path | None,
    fabric: Fabric,
) -> list[Checkpoint]:
    """The checkpoint of every trial, also kept as ``trials/K/checkpoint.pt`` unless it diverged."""
    until = trials[0].restart_epochs
    own = [None if folder is None else folder / str(k) for k in range(len(trials))]
    kept = [begun(path) for path in own]
    found = [trial for trial in kept if trial is not None and trial.epoch >= until]
    if len(found) == len(trials):
        return found
    for path in own:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    if trials[0].precision == "16-mixed":
        # Gradients are scaled in common there: one that overflows would stop all.
        done = []
        for trial, path, start in zip(trials, own, kept, strict=True):
            done.append(attempt([trial], path, start, until)[1])
        return done
    model, last = attempt(trials, folder, begun(folder), until)
    done = model.split(last)
    for trial, path in zip(done, own, strict=True):
        if path is not None and "lost" not in trial.extra and fabric.is_global_zero:
            trial.save(path / "checkpoint.pt")
    return done


def _score(trial: Checkpoint, epochs: int, quality: Callable[[dict[str, float]], float]) -> float:
    return -math.inf if "lost" in trial.extra else float(quality(trial.history[epochs - 1]))


def _flat(scores: list[Any]) -> list[float]:
    nested = [score if isinstance(score, list) else [score] for score in scores]
    return [value for part in nested for value in part]
