"""The training loop, for every model of this library.

It knows nothing of models but this: called with a batch and a mapping of weights, a model returns
named terms, of which ``loss`` has a gradient; its ``after_step``, if it has one, is called after
each step of the optimiser. It knows nothing of data but this: a source has a length (steps an
epoch) and ``epoch(k)`` yields the batches of epoch k, always the same ones.

A model may be several trained at once (``replicas.Replicas``): then it tells their number by
``members``, the terms have one value for each, ``begin_epoch(epoch, rank)`` is called where each
has to start its own random stream, and one that diverges does not stop the others.

An epoch's randomness is a function of (seed, epoch) alone, so a run that continues from a
checkpoint repeats, bit for bit on a CPU, what it would have done undisturbed.
"""

import copy
import csv
import io
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from tqdm import tqdm

from manifold_ae.data.seeding import mix

__all__ = [
    "Checkpoint",
    "NonFiniteLossError",
    "Schedule",
    "Source",
    "Stopping",
    "fit",
    "make_fabric",
    "write_aside",
]

#: Version of the checkpoint's layout; a reader refuses those that it does not know.
CHECKPOINT_FORMAT = 1
#: Courses of the learning rate.
SHAPES = ("constant", "cosine", "one-cycle")


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


class NonFiniteLossError(RuntimeError):
    """A term of the loss became NaN or infinite; the last good checkpoint is untouched."""


@dataclass(frozen=True)
class Schedule:
    """How the learning rate and the weight of the KL term depend on progress.

    Arguments:
        lr: learning rate, the peak of it for ``"one-cycle"``.
        shape: ``"constant"``; ``"cosine"``, constant for the first half and a cosine down; or
            ``"one-cycle"``, a cosine up over the first 30 % and a cosine down.
        kl_warmup: the part of training over which the weight of the KL term rises linearly from 0
            to 1; None for models that have no such term.
        fade: the part of training after which ``fading_weight``, of penalties that are to vanish,
            is 0; it falls linearly from 1. None for models that have none.
    """

    lr: float = 1e-3
    shape: str = "constant"
    kl_warmup: float | None = 0.0
    fade: float | None = None

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"shape = {self.shape!r}: expected one of {', '.join(SHAPES)}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr = {self.lr!r}: expected a positive number")
        if self.kl_warmup is not None and not 0 <= self.kl_warmup <= 1:
            raise ValueError(f"kl_warmup = {self.kl_warmup!r}: expected a part of training, 0 to 1")
        if self.fade is not None and not 0 < self.fade <= 1:
            raise ValueError(f"fade = {self.fade!r}: expected a part of training, up to 1, or None")

    def learning_rate(self, progress: float) -> float:
        """Learning rate when a fraction ``progress`` of all steps is done."""
        if self.shape == "constant":
            return self.lr
        peak = 0.5 if self.shape == "cosine" else 0.3
        if progress >= peak:
            fall = (progress - peak) / (1 - peak)
            return self.lr * (1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * fall)) / 2)
        if self.shape == "cosine":
            return self.lr
        return self.lr * (1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * progress / peak)) / 2)

    def weights(self, progress: float) -> dict[str, float]:
        """Weights passed to the model when a fraction ``progress`` of all steps is done."""
        found = {}
        if self.kl_warmup is not None:
            found["kl_weight"] = min(1.0, progress / self.kl_warmup) if self.kl_warmup > 0 else 1.0
        if self.fade is not None:
            found["fading_weight"] = max(0.0, 1.0 - progress / self.fade)
        return found


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on: parameters, optimiser, epochs done, and what was measured."""

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    history: list[dict[str, float]]
    extra: dict[str, Any]

    def save(self, path: Path) -> None:
        """Written aside and renamed, so that a kill at any moment leaves the old one or the new."""
        content = {"format": CHECKPOINT_FORMAT, **vars(self)}
        write_aside(path, lambda temporary: torch.save(content, temporary))

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read without executing code (``weights_only``).

        Raises:
            ValueError: if the file is damaged, or of a format that this version does not know.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a readable checkpoint: {error}") from error
        found = content.pop("format", None) if isinstance(content, dict) else None
        if found != CHECKPOINT_FORMAT:
            raise ValueError(
                f"{path} has checkpoint format {found!r}; this version reads {CHECKPOINT_FORMAT}"
            )
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"{path} is not a whole checkpoint: {error}") from error


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary neighbour of ``path``, then rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    """A CSV row an epoch, written aside and renamed."""
    text = io.StringIO()
    if history:
        # Of trials that went on, the first rows may lack what came later.
        names = dict.fromkeys(name for row in history for name in row)
        writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
    write_aside(path, lambda temporary: temporary.write_text(text.getvalue(), encoding="utf-8"))


class _Autocast(MixedPrecision):
    """Mixed precision that leaves a batch as it is: what a loss is held against is not rounded."""

    def convert_input(self, data: Any) -> Any:
        return data


def make_fabric(device: str = "auto", precision: str = "32-true", devices: int = 1) -> Fabric:
    """Device, precision and processes, from their names on the command line.

    With several ``devices`` the script that runs is started once more for each of them, unless
    torchrun has done so: on CPUs they are processes, which talk by gloo.

    Raises:
        ValueError: if there is no such device, or it is one and ``devices`` are several.
    """
    kind, _, index = device.partition(":")
    if kind == "auto":
        # Not Apple's GPU: it has no float64, in which the heat kernels are evaluated.
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise ValueError(f"device = {device!r}: expected auto, cpu, cuda or cuda:K")
    if kind == "cpu" and index:
        raise ValueError(f"device = {device!r}: there is one CPU, write 'cpu'")
    if devices > 1 and index:
        raise ValueError(f"device = {device!r} is one; for devices = {devices} write {kind!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda': this PyTorch sees no GPU; use --device cpu or auto")
    which: Any = [int(index)] if index else devices
    how: dict[str, Any] = {"precision": precision}
    if precision.endswith("-mixed"):
        how = {"plugins": [_Autocast(precision, kind)]}  # type: ignore[arg-type]
    if devices > 1:
        how["strategy"] = "ddp"
    fabric = Fabric(accelerator=kind, devices=which, **how)
    fabric.launch()
    return fabric


def make_optimizer(model: nn.Module, lr: float) -> torch.optim.Adam:
    """Adam, in its fused form wherever the device has one.

    A model may say by ``parameter_groups()`` which parameters learn faster: groups as torch's
    optimisers take them, with a factor ``lr_scale``.
    """
    devices = {parameter.device.type for parameter in model.parameters()}
    own = getattr(model, "parameter_groups", None)
    groups = [{"params": list(model.parameters())}] if own is None else own()
    return torch.optim.Adam(groups, lr=lr, fused=devices <= {"cpu", "cuda"})


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
            record = _Record(model, epoch, len(source), lost, fabric)
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


def check_parameters(model: nn.Module, epoch: int, lost: dict[int, str]) -> None:
    """Refuse to go on, or to save, once a weight is not finite; the losses may have been."""
    count = getattr(model, "members", 1)
    names, values = zip(*model.named_parameters(), strict=True)
    finite = torch.stack([torch.isfinite(v.detach()).view(count, -1).all(1) for v in values]).cpu()
    for k in range(count):
        if k not in lost and not finite[:, k].all():
            lost[k] = (
                f"parameter {names[int(finite[:, k].int().argmin())]} is not finite after epoch "
                f"{epoch}, though every loss was: a gradient overflowed. Checkpoints saved before "
                "are good; try a smaller --lr"
            )
    _require_one(lost, count)


def _require_one(lost: dict[int, str], count: int) -> None:
    """Raise when no model is left, with the reason of the last."""
    if len(lost) == count:
        raise NonFiniteLossError(list(lost.values())[-1])


class _Record:
    """Terms of one epoch, kept on the device: reading them back is what would slow it down."""

    def __init__(
        self, model: nn.Module, epoch: int, steps: int, lost: dict[int, str], fabric: Fabric
    ) -> None:
        self.model, self.epoch, self.steps, self.lost = model, epoch, steps, lost
        self.fabric = fabric
        #: Whether other processes have parts of it: then all look at once, when it is whole.
        self.shared = fabric.world_size > 1
        self.names: list[str] = []
        self.rows: list[Tensor] = []
        self.checked = 0
        self.eager = False

    def add(self, terms: Mapping[str, Tensor], batch: Any, weight: float) -> None:
        self.names = self.names or list(terms)
        row = torch.stack([terms[name].detach() for name in self.names])
        # On a CPU nothing waits for a value, so every step is looked at.
        self.eager = row.device.type == "cpu" and not self.shared
        self.rows.append(row if weight == 1.0 else row * weight)
        self.batch = batch

    def check(self) -> str:
        """Note what was not finite since the last check, and raise if no model is left.

        Returns a line for the bar.
        """
        table = torch.stack(self.rows[self.checked :]).cpu()
        by_model = table.view(*table.shape[:2], -1)
        for k, own in enumerate(by_model.unbind(-1)):
            bad = ~torch.isfinite(own)
            if k not in self.lost and bad.any():
                first = int(bad.any(1).nonzero()[0])
                which = (k,) if table.dim() == 3 else ()
                self.lost[k] = self._reason(self.checked + first + 1, own[first], bad[first], which)
        _require_one(self.lost, by_model.shape[-1])
        self.checked = len(self.rows)
        left = [k for k in range(by_model.shape[-1]) if k not in self.lost]
        values = dict(zip(self.names, by_model[-1][:, left].mean(1).tolist(), strict=True))
        shown = {name: values[name] for name in ("elbo", "kl", "mse") if name in values}
        line = " ".join(f"{name} {value:.4g}" for name, value in (shown or values).items())
        return f"epoch {self.epoch + 1} {line}"

    def _reason(self, step: int, row: Tensor, bad: Tensor, which: tuple[int, ...]) -> str:
        terms = [name for name, wrong in zip(self.names, bad, strict=True) if wrong]
        values = zip(self.names, row.tolist(), strict=True)
        statistics = getattr(self.model, "statistics", lambda *_: {})(self.batch, *which)
        return (
            f"{', '.join(terms)} not finite at step {step} of {self.steps} in epoch "
            f"{self.epoch + 1} ({', '.join(f'{name} = {value:.4g}' for name, value in values)}). "
            f"State of the model: "
            f"{', '.join(f'{k} = {v:.4g}' for k, v in statistics.items()) or 'not told'}. "
            "Checkpoints saved before are good; try a smaller --lr, or check the data's scaling"
        )

    def finish(self) -> dict[int, dict[str, float]]:
        """Means over the epoch for every model, once all of it was looked at."""
        if self.shared:
            mean: Any = self.fabric.all_reduce(torch.stack(self.rows), reduce_op="mean")
            self.rows = list(mean.unbind(0))
        if self.checked < len(self.rows):
            self.check()
        means = torch.stack(self.rows).double().mean(0).cpu()
        if means.dim() == 1:
            return {0: dict(zip(self.names, means.tolist(), strict=True))}
        return {
            k: {"replica": k, **dict(zip(self.names, own.tolist(), strict=True))}
            for k, own in enumerate(means.unbind(1))
        }
