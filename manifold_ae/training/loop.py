"""Epochs of steps of the optimiser, and checkpoints between them."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from manifold_ae.data.seeding import mix
from manifold_ae.training.checkpoints import Checkpoint, write_metrics
from manifold_ae.training.devices import make_optimizer
from manifold_ae.training.record import Record, check_parameters
from manifold_ae.training.schedule import Schedule

__all__ = ["Source", "Stopping", "fit"]


class Source(Protocol):
    """Where batches come from.

    Where several processes train, it may also have ``share(step)``: the rows of this process in a
    step over the mean of all, 1 if it has none.
    """

    def __len__(self) -> int: ...
    def epoch(self, k: int) -> Iterator[Any]: ...


class Stopping(Protocol):
    """What judges a model after every epoch, and says when training is to end before its time.

    ``look`` returns further columns of metrics for each model that is trained; ``finish`` gives the
    model the weights that were best.
    """

    @property
    def done(self) -> bool: ...
    def look(
        self, model: nn.Module, epoch: int, lost: Mapping[int, str], fabric: Fabric
    ) -> list[dict[str, float]]: ...
    def finish(self, model: nn.Module) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def fit(
    model: nn.Module,
    source: Source,
    *,
    epochs: int,
    schedule: Schedule,
    fabric: Fabric,
    seed: int = 0,
    folder: Path | None = None,
    checkpoint_seconds: float = 10.0,
    resume: Checkpoint | None = None,
    until: int | None = None,
    extra: Mapping[str, Any] | None = None,
    progress: bool = True,
    after_epoch: Callable[[int, int], Mapping[str, float]] | None = None,
    stopping: Stopping | None = None,
) -> Checkpoint:
    """Train ``model`` in place, and return its last checkpoint.

    Arguments:
        epochs: how many make the whole run, over which the schedule extends.
        until: stop after this many of them, for a later call to go on from; all by default.
        folder: where ``checkpoint.pt`` and ``metrics.csv`` go; nothing is written without one.
            Of several models, a row of metrics is of one of them, by its ``replica``.
        checkpoint_seconds: at least so long between checkpoints, but for the last.
        resume: go on from here, with the same model, source and schedule.
        extra: plain values and tensors to keep in the checkpoint.
        after_epoch: further columns of metrics, given the number of epochs done and, of several
            models, the place of the one that a row is of; else 0.
        stopping: what may end training early; the model then has the weights that it chose, and so
            has the last checkpoint. Its state is kept in ``extra["stopping"]``.

    Where several processes train, gradients are averaged, each by its ``share`` of the rows: a
    step is that of one process with the batch of all, but for the noise, of which every process
    has a stream of its own. Metrics are of all, and the first process alone writes.

    Of several models, those that diverged are named in the checkpoint's ``extra["lost"]``, with
    the reason; they have no rows from that epoch on.

    Raises:
        NonFiniteLossError: naming the step, the terms, and the state of the latents; of several
            models, when none is left.
    """
    # On the device first: the optimiser's state follows its parameters when it is loaded.
    model.to(fabric.device)
    optimizer = make_optimizer(model, schedule.lr)
    if resume is not None:
        model.load_state_dict(resume.model)
        optimizer.load_state_dict(copy.deepcopy(resume.optimizer))
    step_model, step_optimizer = fabric.setup(model, optimizer)
    after_step = getattr(model, "after_step", None)
    begin_epoch = getattr(model, "begin_epoch", None)
    share = getattr(source, "share", None) if fabric.world_size > 1 else None
    history = list(resume.history) if resume is not None else []
    begin = resume.epoch if resume is not None else 0
    end = epochs if until is None else min(until, epochs)
    extra = dict(extra or {})
    lost: dict[int, str] = dict(resume.extra.get("lost", {})) if resume is not None else {}
    if stopping is not None and resume is not None and "stopping" in resume.extra:
        stopping.load_state_dict(resume.extra["stopping"])
        end = begin if stopping.done else end

    def checkpoint(epoch: int) -> Checkpoint:
        kept = {**extra, "lost": dict(lost)} if lost else extra
        if stopping is not None:
            kept = {**kept, "stopping": stopping.state_dict()}
        return Checkpoint(epoch, model.state_dict(), optimizer.state_dict(), history, kept)

    saved = time.monotonic()
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    bar = tqdm(
        total=end * len(source),
        initial=begin * len(source),
        unit="step",
        disable=not progress or fabric.global_rank > 0,
        mininterval=0.5,
        dynamic_ncols=True,
    )
    with bar, torch.random.fork_rng(devices=devices):
        model.train()
        for epoch in range(begin, end):
            started = time.monotonic()
            torch.manual_seed(mix("epoch", seed, epoch, fabric.global_rank))
            if begin_epoch is not None:
                begin_epoch(epoch, fabric.global_rank)
            record = Record(model, epoch, len(source), lost, fabric)
            for step, batch in enumerate(source.epoch(epoch)):
                done = (epoch + step / len(source)) / epochs
                for group in optimizer.param_groups:
                    group["lr"] = schedule.learning_rate(done) * group.get("lr_scale", 1.0)
                terms = step_model(batch, **schedule.weights(done))
                step_optimizer.zero_grad(set_to_none=True)
                # Of several models the sum: the gradient of each is that of its own loss.
                weight = 1.0 if share is None else share(step)
                loss = terms["loss"].sum()
                fabric.backward(loss if weight == 1.0 else loss * weight)
                step_optimizer.step()
                if after_step is not None:
                    after_step()
                record.add(terms, batch, weight)
                if (bar.update() and not record.shared) or record.eager:
                    bar.set_postfix_str(record.check(), refresh=False)
            rows = record.finish()
            check_parameters(model, epoch + 1, lost)
            common: dict[str, float] = dict(schedule.weights((epoch + 1) / epochs))
            common["seconds"] = time.monotonic() - started
            judged = None if stopping is None else stopping.look(model, epoch + 1, lost, fabric)
            history += [
                {
                    "epoch": epoch + 1,
                    **row,
                    **(judged[k] if judged else {}),
                    **common,
                    **(after_epoch(epoch + 1, k) if after_epoch is not None else {}),
                }
                for k, row in rows.items()
                if k not in lost
            ]
            last = epoch + 1 == end
            if stopping is not None and (stopping.done or epoch + 1 == epochs):
                stopping.finish(model)
                last, end = True, epoch + 1
            if folder is not None and fabric.is_global_zero:
                write_metrics(folder / "metrics.csv", history)
                if last or time.monotonic() - saved >= checkpoint_seconds:
                    checkpoint(epoch + 1).save(folder / "checkpoint.pt")
                    saved = time.monotonic()
            if last:
                break
    return copy.deepcopy(checkpoint(max(begin, end)))
