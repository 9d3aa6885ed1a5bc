"""Runs of a ΔVAE: built, trained, evaluated, drawn."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from manifold_ae import data
from manifold_ae.data import Columns, Dataset, Scaling
from manifold_ae.data.seeding import generator_for
from manifold_ae.experiments import VAE
from manifold_ae.models import DeltaVAE, likelihoods
from manifold_ae.run import advice
from manifold_ae.run.base import Run
from manifold_ae.run.conditions import Conditions
from manifold_ae.run.files import WHERE, as_it_was, begun_with, prepare_together
from manifold_ae.run.fingerprint import kept_of, known
from manifold_ae.run.seeds import assemble, extra_of, members_of, seeds_line
from manifold_ae.run.sequences import time_unit, windows_of
from manifold_ae.run.starting import STARTED, check_start, starter
from manifold_ae.run.stopping import patience, validation
from manifold_ae.run.support import check_observed, check_support, clocks
from manifold_ae.run.trials import train_together
from manifold_ae.run.vae_model import build_model, load_data, resolve, resolved_divergence
from manifold_ae.run.vae_run import SCALED, VAERun, record, seen
from manifold_ae.training import Checkpoint, Schedule, make_fabric

__all__ = ["VAERun", "build_model", "describe", "load", "load_data", "resolve", "train"]

#: What fields are in runs that are older than they.
BEFORE = {"start": "random"}


# ---- building -------------------------------------------------------------------------------


def make_source(
    config: VAE, dataset: Dataset, scaling: Scaling, conditions: Conditions, fabric: Fabric
) -> data.Fresh | data.Shuffled | data.Windows:
    """Batches for training, on the device."""
    ranks = {"rank": fabric.global_rank, "world_size": fabric.world_size}
    if dataset.draw is not None:
        return data.Fresh(
            dataset.draw,
            config.batch_size,
            config.steps_per_epoch,
            config.seed,
            fabric.device,
            transform=scaling.apply,
            **ranks,
        )
    x = scaling.apply(dataset.train).to(fabric.device)
    batch = data.batch_of(x, conditions.apply(seen(dataset.train_given), len(x)))
    if config.sequence:
        return windows_of(config, dataset, batch, **ranks)
    return data.Shuffled(batch, config.batch_size, config.seed, **ranks)


# ---- training -------------------------------------------------------------------------------


def train(
    config: VAE,
    folder: Path | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
    dataset: Dataset | None = None,
    checkpoint_seconds: float = 10.0,
    strict: bool = True,
) -> Run:
    """Train a ΔVAE as configured, and keep it in ``folder`` if one is given.

    Arguments:
        strict: whether values that nothing would look at are refused. They are no mistake of one
            configuration of several that share them, nor of a run that goes on.

    Returns:
        A ``VAERun``; of several seeds, a ``SeedsRun``.

    Raises:
        ValueError: if the configuration does not fit the data, or the folder holds another run, or
            one that was begun with other data.
    """
    if strict and not resume:
        config.check_heeded()
    dataset = load_data(config) if dataset is None else dataset
    config = _as_begun(config, folder) if resume else config
    config = resolve(config, dataset)
    if strict and not resume:
        _check_heeded(config, dataset)
    fabric = make_fabric(config.device, config.precision, config.devices)
    training, held, scaling, conditions = _prepare(config, dataset)
    schedule = Schedule(config.lr, config.lr_schedule, config.kl_warmup)

    unit = time_unit(config, training)

    def build(config: VAE) -> DeltaVAE:
        return build_model(
            config, dataset.shape, conditions.count, conditions.exposure is not None, unit=unit
        )

    def rows() -> Any:
        if training.draw is not None:
            generator = generator_for("start", config.seed)
            return scaling.apply(training.draw(STARTED, generator=generator)[0])
        given = conditions.apply(seen(training.train_given), len(training.train))
        return data.batch_of(scaling.apply(training.train), given)

    # What cannot be trained is refused here, before anything is written.
    begin = starter(config, build, rows)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        first = conditions.apply(seen(training.train_given), len(training.train))
        few = {name: value[:2] for name, value in first.items()}
        begin(config).loss(scaling.apply(training.train[:2]), **few)

    def complete(old: VAE) -> VAE:
        old = as_it_was(old, folder, BEFORE)
        return old.replace(divergence=resolved_divergence(old))

    folder = prepare_together(fabric, folder, config, resume, complete)
    if fabric.is_global_zero:
        advice.say([*clocks(dataset), *advice.before(config, training)])
    source = make_source(config, training, scaling, conditions, fabric)
    model, last = train_together(
        members_of(config),
        begin,
        lambda config: source.seeded(config.seed),
        lambda row: row["elbo"],
        schedule=schedule,
        fabric=fabric,
        folder=folder,
        resume=resume,
        extra=extra_of(
            config,
            record(config, scaling, dataset.shape, dataset.name, conditions, dataset.columns)
            | {"data": kept_of(dataset)},
        ),
        progress=progress,
        checkpoint_seconds=checkpoint_seconds,
        stopping=patience(config, dataset, held, scaling, conditions, fabric.device),
    )

    def make(config: VAE, model: Any, last: Checkpoint, folder: Path | None) -> VAERun:
        return VAERun(
            folder=folder,
            config=config,
            model=model,
            scaling=scaling,
            device=fabric.device,
            history=last.history,
            dataset=dataset,
            dataset_name=dataset.name,
            conditions=conditions,
            columns=dataset.columns,
            is_main=fabric.is_global_zero,
        )

    return assemble(config, model, last, folder, fabric, make)


def _prepare(config: VAE, dataset: Dataset) -> tuple[Dataset, Tensor | None, Scaling, Conditions]:
    """What is trained on, the places of the rows held out of it, and the units of both."""
    check_start(config)
    training, held = validation(config, dataset)
    masks = config.missing == "mask"
    if masks:
        check_observed(dataset.train, "the training part")
        check_observed(dataset.test, "the test part")
    scaling = Scaling.fit(
        config.scaling, training.train, training.value_range, missing=config.missing
    )
    likelihood = likelihoods.named(config.likelihood, dataset.shape, masks=masks)
    for part in (dataset.train, dataset.test):
        check_support(likelihood, scaling.apply(part), *SCALED)
    return training, held, scaling, Conditions.fit(training.train_given)


def _check_heeded(config: VAE, dataset: Dataset) -> None:
    """Refuse values that nothing would look at, of a resolved configuration and its data.

    Raises:
        ValueError: for the first such value.
    """
    if not data.takes_folder(config.data):
        config.refuse(("data_dir",), f"data = {config.data!r} reads nothing there, 'mnist' does")
    if dataset.draw is None:
        rows = len(dataset.train)
        config.refuse(("steps_per_epoch",), f"an epoch is once through the {rows} rows")
    if config.posterior != "random-walk":
        config.refuse(("walk_steps",), f"posterior = {config.posterior!r} takes no walk")


def _as_begun(config: VAE, folder: Path | None) -> VAE:
    """A configuration to go on with: what it leaves open is as the run was begun with.

    What is chosen by itself may be another choice now than it was then.
    """
    begun = begun_with(folder, VAE)
    if begun is not None:
        config = config.replace(
            **{
                name: getattr(begun, name)
                for name, value in config.to_mapping().items()
                if value == "auto" and name not in WHERE
            }
        )
    return as_it_was(config, folder, BEFORE)


def describe(config: VAE) -> str:
    """What ``train`` would do with a configuration, after one step of it; nothing is written."""
    config.check_heeded()
    dataset = load_data(config)
    config = resolve(config, dataset)
    _check_heeded(config, dataset)
    fabric = make_fabric(config.device, config.precision)
    training, held, scaling, conditions = _prepare(config, dataset)
    unit = time_unit(config, training)

    def build(config: VAE) -> DeltaVAE:
        return build_model(
            config, dataset.shape, conditions.count, conditions.exposure is not None, unit=unit
        ).to(fabric.device)

    model = build(config)
    source = make_source(config, training, scaling, conditions, fabric)
    terms = model(next(iter(source.epoch(0))))
    terms["loss"].backward()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"{config.to_toml()}\n"
        f"{dataset!r}\n"
        f"{model.manifold!r}, {parameters:,} parameters, on {fabric.device}\n"
        f"{len(source)} steps an epoch, {len(source) * config.epochs:,} in all\n"
        + ("" if held is None else f"{len(held)} rows held out of training to stop by\n")
        + "".join(
            f"warning: {line}\n" for line in (*clocks(dataset), *advice.before(config, training))
        )
        + seeds_line(config, build, source)
        + "first step: "
        + ", ".join(f"{k} {v.item():.4g}" for k, v in terms.items())
    )


def load(folder: Path | None, checkpoint: Checkpoint, *, device: str = "auto") -> VAERun:
    """The run that a checkpoint holds; without a folder, one that writes nothing."""
    try:
        config = VAE.from_mapping({**BEFORE, **checkpoint.extra["config"]})
        scaling = Scaling.from_state_dict(checkpoint.extra["scaling"])
        shape = tuple(checkpoint.extra["event_shape"])
        name = checkpoint.extra["dataset"]
        conditions = Conditions.from_state_dict(checkpoint.extra.get("conditions", {}))
        kept = checkpoint.extra.get("columns")
    except KeyError as error:
        raise ValueError(
            f"{folder or 'this'} holds no checkpoint of a ΔVAE: it lacks {error}"
        ) from error
    model = build_model(config, shape, conditions.count, conditions.exposure is not None)
    model.load_state_dict(checkpoint.model)
    fabric = make_fabric(device)
    return VAERun(
        folder=folder,
        config=config,
        model=model.to(fabric.device),
        scaling=scaling,
        device=fabric.device,
        history=checkpoint.history,
        dataset_name=name,
        record=known(checkpoint.extra),
        conditions=conditions,
        columns=None if kept is None else Columns.from_mapping(kept),
    )
