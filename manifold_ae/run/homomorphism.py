"""Runs of a homomorphism autoencoder: built, trained, evaluated, drawn."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from manifold_ae import data, groups
from manifold_ae.data import Traces
from manifold_ae.data.seeding import generator_for
from manifold_ae.experiments import HAE, OF_WORLDS
from manifold_ae.models import HomomorphismAutoencoder, likelihoods
from manifold_ae.run.base import Run
from manifold_ae.run.files import (
    as_it_was,
    begun_with,
    existing_checkpoint,
    group_of,
    group_record,
    prepare_together,
    save_arrays,
)
from manifold_ae.run.fingerprint import known
from manifold_ae.run.homomorphism_evaluation import Evaluation
from manifold_ae.run.homomorphism_pictures import figures_of
from manifold_ae.run.representations import PENALTIES, build_model, penalties_of
from manifold_ae.run.seeds import assemble, extra_of, members_of, seeds_line
from manifold_ae.run.settling import LEFT_OUT, can_settle, require_settling, settle
from manifold_ae.run.support import check_support
from manifold_ae.run.traces import (
    TraceData,
    draw_traces,
    load_traces,
    takes_largest,
    with_their_steps,
)
from manifold_ae.run.trials import train_together
from manifold_ae.training import Checkpoint, Schedule, make_fabric

__all__ = ["HAERun", "describe", "load", "train"]

#: Steps of settling where the configuration leaves them open, of a perceptron.
SETTLE_STEPS = 3
#: What these fields are in runs that are older than they.
BEFORE = {"phi_activation": "relu", "phi_skip": False, "homomorphism_weight": 0.0}


@dataclass(kw_only=True)
class HAERun(Run):
    """A trained homomorphism autoencoder with the traces that it learned from."""

    config: HAE
    model: HomomorphismAutoencoder
    source: TraceData | None = None
    #: Whether the traces were handed over, so that the configuration does not say which they are.
    in_memory: bool = False
    shared: ClassVar[tuple[str, ...]] = ("source",)

    def load_data(self) -> None:
        self.traces()

    def traces(self) -> TraceData:
        """What the run was trained and is tested on, made or read again if need be.

        Raises:
            ValueError: if a run that was read back had its traces in memory, or they are others
                now.
        """
        if self.source is None and self.in_memory:
            raise ValueError(
                "this run was trained on traces that were given in memory; set run.source to them, "
                "a TraceData"
            )
        if self.source is None:
            self.source = load_traces(self.config)
        found = self.source
        self._require_begun_with(found, found.kept, found.fingerprint)
        return found

    # ---- use --------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, observations: Tensor, *, batch_size: int = 4096) -> Tensor:
        """Latents ``(n, size)`` of observations ``(n, *shape)``, on the CPU."""
        self.model.eval()
        parts = observations.split(batch_size)
        return torch.cat([self.model.encode(part.to(self.device)).cpu() for part in parts])

    def rollout(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Predictions ``(n, T, *shape)`` from the first observations and actions, on the CPU."""
        self.model.eval()
        return self.model.rollout(observations.to(self.device), actions.to(self.device)).cpu()

    def long_traces(self) -> Traces:
        """Traces of ``config.horizon`` steps of the world; the test traces of data in a file."""
        source = self.traces()
        if source.world is None:
            return source.test[: self.config.num_rollouts]
        generator = generator_for("long traces", self.config.data_seed)
        steps = min(self.config.horizon, source.world.longest or self.config.horizon)
        return draw_traces(self.config, source.world, self.config.num_rollouts, steps, generator)

    def evaluate(self, *, num_samples: int | None = None, progress: bool = False) -> dict[str, Any]:
        """Everything that is measured of the model, the same every time; see ``Evaluation``."""
        if num_samples is not None:
            raise ValueError(
                f"num_samples = {num_samples}: a homomorphism autoencoder has no importance "
                "samples; leave it out"
            )
        source, long = self.traces(), self.long_traces()
        found = Evaluation(self.model, self.config, source, long, self.device).measure()
        found["seconds"] = sum(row["seconds"] for row in self.history)
        found["epochs"] = len(self.history)
        return found

    def table(self, metrics: dict[str, Any]) -> str:
        rows = [
            (name, f"{value:.4g}" if isinstance(value, float) else str(value))
            for name, value in metrics.items()
            if name != "rollout"
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:>{width}}  {value}" for name, value in rows]
        rollout = metrics["rollout"]
        lines += ["", "squared error per feature of predictions, by number of steps"]
        lines.append(f"{'steps':>{width}}  " + "".join(f"{h:>10}" for h in rollout["horizons"]))
        for name in ("prediction", "copying", "autoencoding", "unstructured"):
            cells = "".join(f"{_cell(value):>10}" for value in rollout[name])
            lines.append(f"{name:>{width}}  {cells}")
        return "\n".join(lines)

    # ---- files ------------------------------------------------------------------------------

    def save_latents(self) -> None:
        """Latents of the test traces' observations, with actions and angles, as ``latents.npz``."""
        source = self.traces()
        test = source.test
        latents = self.encode(test.observations.flatten(0, 1)).unflatten(0, (len(test), -1))
        arrays = {"latents": latents.numpy(), "actions": test.actions.numpy()}
        labels = source.labels(test.states)
        if labels is not None:
            arrays["angles"] = labels.numpy()
        save_arrays(self._own_folder() / "latents.npz", arrays)

    def encode_file(
        self, source: str, *, progress: bool = False, **options: Any
    ) -> dict[str, np.ndarray]:
        """Latents ``(n, steps + 1, size)`` of all observations of a file of traces."""
        for name, value in options.items():
            raise ValueError(f"{name} = {value!r}: an HAE is given actions alone; leave it out")
        traces = data.load_traces(source, self.model.group)
        if traces.shape != self.model.likelihood.event_shape:
            raise ValueError(
                f"{source}: observations of shape {traces.shape}: this run was trained on "
                f"{self.model.likelihood.event_shape}"
            )
        z = self.encode(traces.observations.flatten(0, 1)).unflatten(0, (len(traces), -1))
        return {"latents": z.numpy(), "actions": traces.actions.numpy()}

    def save_samples(
        self, n: int, path: Path, *, seed: int = 0, progress: bool = False, **options: Any
    ) -> list[Path]:
        raise NotImplementedError(
            "a homomorphism autoencoder has no prior of single observations to sample from; draw "
            "its pictures with `plot`, or use run.rollout and model.traverse"
        )

    def draw(self, *, seed: int = 0) -> list[Path]:
        """Every picture of the run, in ``figures/``; the paths written."""
        return self._draw(figures_of(self))


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


# ---- training -------------------------------------------------------------------------------


def train(
    config: HAE,
    folder: Path | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
    traces: TraceData | None = None,
    checkpoint_seconds: float = 10.0,
) -> Run:
    """Train a homomorphism autoencoder as configured, and keep it in ``folder`` if one is given.

    Returns:
        An ``HAERun``; of several seeds, a ``SeedsRun``.

    Raises:
        ValueError: if the configuration does not fit the data, or the folder holds another run.
    """
    if resume:
        config = as_it_was(config, folder, BEFORE)
    else:
        config.check_heeded()
    source = load_traces(config) if traces is None else traces
    config = with_their_steps(config, source, begun_with(folder, HAE) if resume else None)
    # What cannot be trained is refused here, before anything is written.
    _check(config, source)
    if not resume:
        _check_heeded(config, source)
    fabric = make_fabric(config.device, config.precision, config.devices)
    signal, shape, group = source.signal, source.shape, source.group
    extra = {
        "kind": "hae",
        "config": config.to_mapping(),
        "event_shape": list(shape),
        "group": group_record(group),
        "in_memory": traces is not None,
        "signal": signal,
        "data": source.kept,
    }
    folder = prepare_together(
        fabric, folder, config, resume, lambda old: as_it_was(old, folder, BEFORE)
    )
    train = source.train.to(fabric.device)
    schedule = Schedule(config.lr, config.lr_schedule, config.kl_warmup, config.fade)
    ranks = {"rank": fabric.global_rank, "world_size": fabric.world_size}
    batches = data.Shuffled(
        (train.observations, train.actions), config.batch_size, config.seed, **ranks
    )
    model, last = train_together(
        members_of(config),
        lambda config: build_model(config, group, shape, signal),
        lambda config: batches.seeded(config.seed),
        lambda row: -row["loss"],
        schedule=schedule,
        fabric=fabric,
        folder=folder,
        resume=resume,
        extra=extra_of(config, extra),
        progress=progress,
        checkpoint_seconds=checkpoint_seconds,
    )

    def make(config: HAE, model: Any, last: Checkpoint, folder: Path | None) -> HAERun:
        trained = HAERun(
            folder=folder,
            config=config,
            model=model,
            device=fabric.device,
            history=last.history,
            source=source,
            in_memory=traces is not None,
            is_main=fabric.is_global_zero,
        )
        _settle(trained, last, resume)
        return trained

    return assemble(config, model, last, folder, fabric, make)


def _check(config: HAE, source: TraceData) -> None:
    """Refuse what cannot be trained on traces.

    Raises:
        ValueError: which names the field, or says what is wrong with the observations.
    """
    group = source.group
    if source.world is None:
        if config.hold_out != "none":
            raise ValueError(
                f"hold_out = {config.hold_out!r}: only of a world; of traces of your own, split "
                "them with data.hold_out_combinations or data.hold_out_actions before"
            )
        if config.group is not None and groups.parse(config.group) != group:
            raise ValueError(f"group = {config.group!r}: the traces given are of {group!r}")
    likelihood = likelihoods.named(config.likelihood, source.shape)
    for part in (source.train, source.test):
        check_support(
            likelihood, part.observations.flatten(0, 1), "observations",
            "scale them before, or take another likelihood",
        )  # fmt: skip
    model = build_model(config, group, source.shape, source.signal)
    if config.settle_steps:
        require_settling(model, len(source.train))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        few = source.train[:2]
        model.loss(few.observations, few.actions)


def _check_heeded(config: HAE, source: TraceData) -> None:
    """Refuse values that nothing would look at, of these traces and what is learned from them.

    Raises:
        ValueError: for the first such value.
    """
    if source.world is None:
        config.refuse(OF_WORLDS, "only of a world, and these traces are your own")
    elif not takes_largest(source.world) and config.hold_out != "actions":
        config.refuse(("largest",), f"an angle, which actions of {source.group!r} do not have")
    model = build_model(config, source.group, source.shape, source.signal)
    rho = getattr(model.transition, "representation", None)
    known, what = penalties_of(rho), f"model = {config.model!r}" if rho is None else repr(rho)
    for name in PENALTIES:
        if name not in known and getattr(config, f"{name}_weight"):
            config.refuse((f"{name}_weight",), f"{what} has no such penalty")
    if not model.fades:
        config.refuse(("fade",), "there is no penalty that fades")


def _settle(trained: HAERun, last: Checkpoint, resume: bool) -> None:
    """Let ρ settle on the latents of traces, unless the run's checkpoint says that it has."""
    config, source = trained.config, trained.traces()
    steps = config.settle_steps
    if steps is None:
        rho = getattr(trained.model.transition, "representation", None)
        suits = getattr(rho, "phi", "") == "mlp" and len(source.train) >= LEFT_OUT
        steps = SETTLE_STEPS if suits and can_settle(trained.model) else 0
    done = existing_checkpoint(trained.folder) if resume else None
    if steps == 0:
        return
    if done is not None and done.extra.get("settled"):
        trained.model.load_state_dict(done.model)
        return
    z = trained.encode(source.train.observations.flatten(0, 1))
    z = z.unflatten(0, (len(source.train), -1)).to(trained.device)
    actions = source.train.actions.to(trained.device)
    settle(trained.model, z, actions, steps=steps)
    if trained.folder is not None and trained.is_main:
        weights = {name: value.cpu() for name, value in trained.model.state_dict().items()}
        extra = {**last.extra, "settled": True}
        settled = dataclasses.replace(last, model=weights, extra=extra)
        settled.save(trained.folder / "checkpoint.pt")


def describe(config: HAE) -> str:
    """What ``train`` would do with a configuration, after one step of it; nothing is written."""
    config.check_heeded()
    source = load_traces(config)
    config = with_their_steps(config, source)
    _check(config, source)
    _check_heeded(config, source)
    fabric = make_fabric(config.device, config.precision)
    model = build_model(config, source.group, source.shape, source.signal).to(fabric.device)
    few = source.train[: config.batch_size].to(fabric.device)
    terms = model.loss(few.observations, few.actions)
    terms["loss"].backward()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    batches = data.Shuffled((few.observations, few.actions), config.batch_size, config.seed)
    steps = math.ceil(len(source.train) / config.batch_size)
    return (
        f"{config.to_toml()}\n"
        f"{source.train!r}, {len(source.test)} more to test on\n"
        f"actions up to {source.train.actions.abs().max().item():.3g}\n"
        f"{model.transition!r}\n{parameters:,} parameters, on {fabric.device}\n"
        f"{steps} steps an epoch, {steps * config.epochs:,} in all\n"
        + seeds_line(
            config,
            lambda config: build_model(config, source.group, source.shape, source.signal).to(
                fabric.device
            ),
            batches,
        )
        + "first step: "
        + ", ".join(f"{k} {v.item():.4g}" for k, v in terms.items())
    )


def load(folder: Path, checkpoint: Checkpoint, *, device: str = "auto") -> HAERun:
    """The run that a checkpoint holds."""
    try:
        config = HAE.from_mapping({**BEFORE, **checkpoint.extra["config"]})
        shape = tuple(checkpoint.extra["event_shape"])
        group = group_of(checkpoint.extra["group"])
        signal = checkpoint.extra["signal"]
    except KeyError as error:
        raise ValueError(
            f"{folder / 'checkpoint.pt'} is not the checkpoint of an HAE: it lacks {error}"
        ) from error
    model = build_model(config, group, shape, signal)
    model.load_state_dict(checkpoint.model)
    fabric = make_fabric(device)
    return HAERun(
        folder=folder,
        config=config,
        model=model.to(fabric.device),
        device=fabric.device,
        history=checkpoint.history,
        # Runs of before there was a choice say nothing.
        in_memory=checkpoint.extra.get("in_memory", False),
        record=known(checkpoint.extra),
    )
