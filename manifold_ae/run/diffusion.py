"""Runs of a diffusion model: built, trained, evaluated, sampled, drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from manifold_ae import data
from manifold_ae.data import Dataset, Scaling
from manifold_ae.experiments import Diffusion
from manifold_ae.run.base import Run
from manifold_ae.run.diffusion_model import build_model, load_data, make_schedule, resolve
from manifold_ae.run.diffusion_run import DiffusionRun, test_loss
from manifold_ae.run.files import prepare_together
from manifold_ae.run.fingerprint import kept_of, known
from manifold_ae.run.seeds import assemble, extra_of, members_of, seeds_line
from manifold_ae.run.trials import train_together
from manifold_ae.training import Checkpoint, Schedule, Source, make_fabric

__all__ = [
    "DiffusionRun",
    "build_model",
    "describe",
    "load",
    "load_data",
    "make_schedule",
    "train",
]

#: Rows of test data that the loss is taken of after every epoch.
TESTED = 1000


def make_source(config: Diffusion, dataset: Dataset, scaling: Scaling, fabric: Fabric) -> Source:
    """Batches for training, on the device: drawn afresh where the data can be, else in passes."""
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
    once = data.Shuffled(x, config.batch_size, config.seed, **ranks)
    return data.Repeated(once, -(-config.steps_per_epoch // len(once)))


# ---- training -------------------------------------------------------------------------------


def train(
    config: Diffusion,
    folder: Path | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
    dataset: Dataset | None = None,
    checkpoint_seconds: float = 10.0,
) -> Run:
    """Train a diffusion model as configured, and keep it in ``folder`` if one is given.

    Returns:
        A ``DiffusionRun``; of several seeds, a ``SeedsRun``.

    Raises:
        ValueError: if the configuration does not fit the data, the data once scaled do not fit the
            schedule, or the folder holds another run.
    """
    dataset = load_data(config) if dataset is None else dataset
    config = resolve(config, dataset)
    fabric = make_fabric(config.device, config.precision, config.devices)
    scaling = Scaling.fit(config.scaling, dataset.train, dataset.value_range)
    test = scaling.apply(dataset.test)
    # What cannot be trained is refused here, before anything is written.
    make_schedule(config).require_scaled(scaling.apply(dataset.train))
    folder = prepare_together(fabric, folder, config, resume)
    source: Any = make_source(config, dataset, scaling, fabric)

    def tested(model: Any) -> Callable[[int, int], dict[str, float]]:
        def after(_: int, k: int) -> dict[str, float]:
            own = model if config.seeds == 1 else model.model(k)
            return test_loss(own, test, TESTED, "test_")

        return after

    model, last = train_together(
        members_of(config),
        lambda config: build_model(config, dataset.shape),
        lambda config: source.seeded(config.seed),
        lambda row: -row["loss"],
        schedule=Schedule(config.lr, config.lr_schedule, kl_warmup=None),
        fabric=fabric,
        folder=folder,
        resume=resume,
        extra=extra_of(
            config,
            {
                "kind": "diffusion",
                "config": config.to_mapping(),
                "scaling": scaling.state_dict(),
                "event_shape": list(dataset.shape),
                "dataset": dataset.name,
                "data": kept_of(dataset),
            },
        ),
        progress=progress,
        checkpoint_seconds=checkpoint_seconds,
        after_epoch=tested,
    )

    def make(config: Diffusion, model: Any, last: Checkpoint, folder: Path | None) -> DiffusionRun:
        return DiffusionRun(
            folder=folder,
            config=config,
            model=model,
            scaling=scaling,
            device=fabric.device,
            history=last.history,
            dataset=dataset,
            dataset_name=dataset.name,
            is_main=fabric.is_global_zero,
        )

    return assemble(config, model, last, folder, fabric, make)


def describe(config: Diffusion) -> str:
    """What ``train`` would do with a configuration, after one step of it; nothing is written."""
    dataset = load_data(config)
    config = resolve(config, dataset)
    fabric = make_fabric(config.device, config.precision)
    scaling = Scaling.fit(config.scaling, dataset.train, dataset.value_range)
    model = build_model(config, dataset.shape).to(fabric.device)
    model.schedule.require_scaled(scaling.apply(dataset.train))
    source = make_source(config, dataset, scaling, fabric)
    terms = model.loss(next(iter(source.epoch(0))))
    terms["loss"].backward()
    parameters = sum(w.numel() for w in model.network.parameters())
    return (
        f"{config.to_toml()}\n"
        f"{dataset!r}\n"
        f"{model.schedule!r}, {parameters:,} parameters, on {fabric.device}\n"
        f"{len(source)} steps an epoch, {len(source) * config.epochs:,} in all\n"
        + seeds_line(
            config, lambda config: build_model(config, dataset.shape).to(fabric.device), source
        )
        + "first step: "
        + ", ".join(f"{k} {v.item():.4g}" for k, v in terms.items())
    )


def load(folder: Path, checkpoint: Checkpoint, *, device: str = "auto") -> DiffusionRun:
    """The run that a checkpoint holds."""
    try:
        config = Diffusion.from_mapping(checkpoint.extra["config"])
        scaling = Scaling.from_state_dict(checkpoint.extra["scaling"])
        shape = tuple(checkpoint.extra["event_shape"])
        name = checkpoint.extra["dataset"]
    except KeyError as error:
        raise ValueError(
            f"{folder / 'checkpoint.pt'} is not the checkpoint of a diffusion model: it lacks "
            f"{error}"
        ) from error
    model = build_model(config, shape)
    model.load_state_dict(checkpoint.model)
    fabric = make_fabric(device)
    return DiffusionRun(
        folder=folder,
        config=config,
        model=model.to(fabric.device),
        scaling=scaling,
        device=fabric.device,
        history=checkpoint.history,
        dataset_name=name,
        record=known(checkpoint.extra),
    )
