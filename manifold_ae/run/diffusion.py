"""Runs of a diffusion model: built, trained, evaluated, sampled, drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from manifold_ae import data, metrics
from manifold_ae import diffusion as process
from manifold_ae.data import Dataset, Scaling
from manifold_ae.data.seeding import generator_for, mix
from manifold_ae.experiments import Diffusion
from manifold_ae.models import DiffusionModel
from manifold_ae.nn import MLPDenoiser
from manifold_ae.run.base import Run
from manifold_ae.run.files import prepare_together
from manifold_ae.run.fingerprint import fingerprint_of
from manifold_ae.run.seeds import assemble, extra_of, members_of, seeds_line
from manifold_ae.run.trials import train_together
from manifold_ae.training import Checkpoint, Schedule, Source, make_fabric, write_aside

__all__ = [
    "DiffusionRun",
    "build_model",
    "describe",
    "load",
    "load_data",
    "make_schedule",
    "train",
]

#: Columns of the metrics that are drawn, and what they are called.
CURVES = {"loss": "Error of the noise", "mse": "Error of the signal"}
#: Nats a coordinate between the end of a schedule and the noise that samples start from, beyond
#: which they would be of another law: the scaled-linear schedule's 2.3e-3 pass, as they do in use.
NEAR_THE_PRIOR = 1e-2
#: How many states of a chain are drawn, and of how many points or pictures.
SHOWN_TIMES, SHOWN_POINTS, SHOWN_PICTURES = 8, 2000, 6
#: Rows of test data that the loss is taken of after every epoch, and at the end.
TESTED, TESTED_AT_THE_END = 1000, 10_000


@dataclass(kw_only=True)
class DiffusionRun(Run):
    """A trained diffusion model with what it takes to use it on raw data."""

    config: Diffusion
    model: DiffusionModel
    scaling: Scaling
    dataset: Dataset | None = None
    dataset_name: str = ""
    shared: ClassVar[tuple[str, ...]] = ("dataset",)

    def load_data(self) -> None:
        self.data()

    # ---- data -------------------------------------------------------------------------------

    def data(self) -> Dataset:
        """The data that the run was trained and is tested on, loaded if need be."""
        if self.dataset is None:
            found = load_data(self.config)
            if found.name != self.dataset_name or found.shape != self.model.event_shape:
                raise ValueError(
                    f"this run was trained on {self.dataset_name!r}, which was given in memory; "
                    "set run.dataset to it"
                )
            self.dataset = found
        return self.dataset

    # ---- use --------------------------------------------------------------------------------

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        calls: int | None = None,
        eta: float | None = None,
        progress: bool = False,
    ) -> Tensor:
        """n new observations ``(n, *shape)`` in raw units, on the CPU.

        Arguments:
            n: how many.
            seed: which ones.
            calls: of the network, for each; those of the configuration unless given.
            eta: η of the DDIM steps; that of the configuration unless given.
            progress: whether to show a bar.

        Raises:
            ValueError: if there are more calls than steps, or η is negative.
        """
        chain = self.chain(n, seed=seed, calls=calls, eta=eta, progress=progress)
        return self.scaling.invert(self._shaped(chain.end))

    def chain(
        self,
        n: int,
        *,
        seed: int = 0,
        calls: int | None = None,
        eta: float | None = None,
        progress: bool = False,
    ) -> process.Chain:
        """The chain that ``sample`` ends, on rows in scaled units, with its elements."""
        self.model.eval()
        return self.model.chain(
            n,
            steps=self.config.calls if calls is None else calls,
            eta=self.config.eta if eta is None else eta,
            generator=generator_for("sample", seed, device=self.device),
            progress=progress,
        )

    def _shaped(self, rows: Tensor) -> Tensor:
        """Rows ``(*, features)`` as values ``(*, *shape)``, on the CPU."""
        return rows.unflatten(-1, self.model.event_shape).cpu()

    def evaluate(self, *, num_samples: int | None = None, progress: bool = False) -> dict[str, Any]:
        """Everything that is measured of the model, the same every time, in scaled units.

        ``loss`` and ``mse`` on test data, of the average of the weights; the sliced Wasserstein
        distance of samples to test data, beside its floor (see ``metrics.sample_quality``), at most
        ``num_samples`` of them; ``prior_divergence`` of the schedule.
        """
        model, test = self.model.eval(), self.scaling.apply(self.data().test)
        found: dict[str, Any] = _test_loss(model, test, TESTED_AT_THE_END, "")
        limit = self.config.num_samples if num_samples is None else num_samples
        generator = generator_for("evaluate", self.config.seed, device=self.device)
        count = max(1, min(len(test) // 2, limit))
        chosen = torch.randperm(len(test), generator=generator_for("halves", self.config.seed))
        new = model.sample(
            count,
            steps=self.config.calls,
            eta=self.config.eta,
            generator=generator,
            progress=progress,
        )
        quality = metrics.sample_quality(
            new,
            test[chosen[: 2 * count]].to(self.device),
            directions=self.config.directions,
            generator=generator,
        )
        found["sliced_wasserstein"] = quality.distance
        found["sliced_wasserstein_floor"] = quality.floor
        found["sliced_wasserstein_ratio"] = quality.ratio
        found["num_samples"], found["calls"] = count, self.config.calls
        found["prior_divergence"] = model.schedule.prior_divergence
        found["seconds"] = sum(row["seconds"] for row in self.history)
        found["epochs"] = len(self.history)
        return found

    def table(self, metrics: dict[str, Any]) -> str:
        width = max(map(len, metrics))
        return "\n".join(
            f"{name:>{width}}  {f'{value:.4g}' if isinstance(value, float) else value}"
            for name, value in metrics.items()
        )

    # ---- files ------------------------------------------------------------------------------

    def save_latents(self) -> None:
        """Writes nothing: this model has no latents, but paths from noise to data."""

    def encode_file(self, source: str, **options: Any) -> dict[str, np.ndarray]:
        raise NotImplementedError(
            "a diffusion model has no encoder; the noise that leads to an x is found by "
            "diffusion.samplers.ddim_inversion(run.model.denoiser, run.model.schedule, x)"
        )

    def save_samples(
        self, n: int, path: Path, *, seed: int = 0, progress: bool = False, **options: Any
    ) -> list[Path]:
        """New observations as a ``.npy`` file; beside it a picture of them, and one of the chain.

        Arguments:
            options: ``calls`` and ``eta``, as of ``sample``.
        """
        from manifold_ae import plots

        if path.suffix != ".npy":
            raise ValueError(f"{path}: samples are written as .npy, and pictures beside as .png")
        chain = self.chain(n, seed=seed, progress=progress, **options)
        x = self._shaped(chain.end)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, self.scaling.invert(x).numpy())

        write_aside(path, write)
        pictures = {"": self._samples(x), "-chain": self._path(chain)}
        paths = [path]
        for ending, figure in pictures.items():
            paths.append(path.with_name(f"{path.stem}{ending}.png"))
            plots.save(figure, paths[-1])
        return paths

    def draw(self, *, seed: int = 0) -> list[Path]:
        """Every picture of the run, in ``figures/``; the paths written."""
        from manifold_ae import plots

        chain = self.chain(SHOWN_POINTS if self._is_plane else 64, seed=seed)
        title = f"{self.dataset_name}, {self.config.calls} steps"
        return self._draw(
            {
                "samples": self._samples(self._shaped(chain.end)),
                "chain": self._path(chain),
                "curves": plots.curves(self._curves(), panels=CURVES, title=title),
            }
        )

    @property
    def _is_plane(self) -> bool:
        return self.model.event_shape == (2,)

    def _samples(self, x: Tensor) -> Any:
        """Samples, in scaled units, beside as many of the test data."""
        from manifold_ae import plots

        title = f"{self.dataset_name}: data, and samples by {self.config.calls} steps"
        test = self.scaling.apply(self.data().test)
        if self._is_plane:
            sets = [test[:SHOWN_POINTS], x[:SHOWN_POINTS]]
            return plots.clouds(sets, ["test data", "samples"], title=title)
        # In raw units, pictures have their usual range; one scale serves both halves.
        both = [self._shown(test[:32]), self._shown(x[:32])]
        return plots.samples(torch.cat(both), columns=8, title=f"{title}, below")

    def _path(self, chain: process.Chain) -> Any:
        """A chain at eight of its times, the first and the last among them.

        They are evenly spaced in the angle whose cosine is √ᾱ, the part of the data in x_t, and
        whose sine is that of the noise: in t, most would show noise.
        """
        from manifold_ae import plots

        angle = self.model.schedule.alpha_bar[list(chain.times)].sqrt().acos()
        even = torch.linspace(angle[0].item(), 0, SHOWN_TIMES, dtype=angle.dtype)
        places = (angle - even.unsqueeze(-1)).abs().argmin(-1).unique()
        names = [f"t = {chain.times[k]}" for k in places.tolist()]
        title = f"{self.dataset_name}: from noise to samples in {len(chain)} steps"
        states = self._shaped(chain.states[:, places])
        if self._is_plane:
            shown = states[:SHOWN_POINTS].transpose(0, 1)
            # One colour a path: by the direction that it comes from.
            angles = torch.atan2(shown[0, :, 1], shown[0, :, 0])
            title = f"{title}, coloured by the direction of the noise"
            return plots.clouds(list(shown), names, labels=angles, title=title)
        rows = [[row.numpy()] for row in self._shown(states[:SHOWN_PICTURES])]
        return plots.strips(rows, [""], columns=names, title=title)

    def _shown(self, x: Tensor) -> Tensor:
        """Values in scaled units as they are drawn: pictures of a known range from 0 to 1."""
        raw, known = self.scaling.invert(x), self.data().value_range
        return x if known is None else ((raw - known[0]) / (known[1] - known[0])).clamp(0, 1)


# ---- building -------------------------------------------------------------------------------


def load_data(config: Diffusion) -> Dataset:
    """The data that a configuration names."""
    return data.load(
        config.data,
        data_dir=config.data_dir,
        split=config.split,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
    )


def resolve(config: Diffusion, dataset: Dataset) -> Diffusion:
    """The configuration with ``scaling = "auto"`` replaced."""
    if config.scaling != "auto":
        return config
    if dataset.default_scaling == "none":
        return config.replace(scaling="none")
    return config.replace(scaling="overall" if len(dataset.shape) > 1 else "standard")


def make_schedule(config: Diffusion) -> process.Schedule:
    """The noise schedule that a configuration names, of its number of steps.

    Raises:
        ValueError: if it ends too far from the noise that samples start from.
    """
    kinds = {
        "linear": process.Schedule.linear,
        "scaled-linear": process.Schedule.scaled_linear,
        "cosine": process.Schedule.cosine,
    }
    made = kinds[config.schedule](config.steps)
    if made.prior_divergence > NEAR_THE_PRIOR:
        raise ValueError(
            f"schedule = {config.schedule!r} of steps = {config.steps} ends "
            f"{made.prior_divergence:.2g} nats a coordinate from the noise that samples start "
            f"from: expected at most {NEAR_THE_PRIOR:g}; use --schedule cosine, or --steps 1000"
        )
    return made


def build_model(config: Diffusion, event_shape: tuple[int, ...]) -> DiffusionModel:
    """An untrained model; its initial weights are a function of ``config.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("weights", config.seed))
        denoiser = MLPDenoiser(event_shape, config.width, config.depth, config.embedding)
        return DiffusionModel(make_schedule(config), denoiser, event_shape, config.ema)


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


@torch.no_grad()
def _test_loss(model: DiffusionModel, test: Tensor, count: int, prefix: str) -> dict[str, float]:
    """Terms of the loss of the averaged weights, with the same times and noise every time."""
    before = model.training
    device = next(model.parameters()).device
    terms = model.eval().loss(
        test[:count].to(device), generator=generator_for("test loss", device=device)
    )
    model.train(before)
    return {f"{prefix}{name}": value.item() for name, value in terms.items()}


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

    def test_loss(model: Any) -> Callable[[int, int], dict[str, float]]:
        def after(_: int, k: int) -> dict[str, float]:
            own = model if config.seeds == 1 else model.model(k)
            return _test_loss(own, test, TESTED, "test_")

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
                "data": fingerprint_of(dataset),
            },
        ),
        progress=progress,
        checkpoint_seconds=checkpoint_seconds,
        after_epoch=test_loss,
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
    )
