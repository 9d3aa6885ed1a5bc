"""Runs of a ΔVAE: built, trained, evaluated, drawn."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from manifold_ae import data, heat, manifolds
from manifold_ae.data import Dataset, Scaling
from manifold_ae.data.seeding import generator_for, mix
from manifold_ae.distributions import HeatKernel, PowerSpherical, RandomWalk, WrappedNormal
from manifold_ae.experiments import VAE
from manifold_ae.metrics import Topology, evaluate_bound
from manifold_ae.models import (
    DeltaVAE,
    ImportanceWeightedVAE,
    known_divergence,
    likelihoods,
)
from manifold_ae.run.base import Run
from manifold_ae.run.files import prepare_together, save_arrays
from manifold_ae.run.networks import build_networks
from manifold_ae.run.seeds import assemble, extra_of, members_of, seeds_line
from manifold_ae.run.support import check_support
from manifold_ae.run.topology import topology
from manifold_ae.run.trials import train_together
from manifold_ae.training import Checkpoint, Schedule, make_fabric, write_aside

__all__ = ["VAERun", "build_model", "describe", "load", "load_data", "resolve", "train"]

#: What data are called where a likelihood refuses them, and how to put it right.
SCALED = ("data, once scaled,", "use --scaling range, or another likelihood")


@dataclass(kw_only=True)
class VAERun(Run):
    """A trained ΔVAE with what it takes to use it on raw data."""

    config: VAE
    model: DeltaVAE
    scaling: Scaling
    dataset: Dataset | None = None
    dataset_name: str = ""
    shared: ClassVar[tuple[str, ...]] = ("dataset",)

    # ---- data -------------------------------------------------------------------------------

    def load_data(self) -> None:
        self.data()

    def data(self) -> Dataset:
        """The data that the run was trained and is tested on, loaded if need be."""
        if self.dataset is None:
            found = load_data(self.config)
            if found.name != self.dataset_name or found.shape != self.model.likelihood.event_shape:
                raise ValueError(
                    f"this run was trained on {self.dataset_name!r}, which was given in memory; "
                    "set run.dataset to it"
                )
            self.dataset = found
        return self.dataset

    def scaled(self, x: Tensor | np.ndarray) -> Tensor:
        """Raw observations as the model sees them, on its device."""
        x = torch.as_tensor(x).to(torch.float32)
        if not torch.isfinite(x).all():
            raise ValueError(
                f"data has {int((~torch.isfinite(x)).sum())} values that are not finite"
            )
        shape = self.model.likelihood.event_shape
        if tuple(x.shape[1:]) != shape:
            raise ValueError(
                f"data of shape {tuple(x.shape)}: this run was trained on observations of shape "
                f"{shape}, so (n, {', '.join(map(str, shape))}) is expected"
            )
        if self.model.likelihood.counts:
            data.check_counts(x, "data")
        scaled = self.scaling.apply(x)
        check_support(self.model.likelihood, scaled, *SCALED)
        return scaled.to(self.device)

    # ---- use --------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, x: Tensor | np.ndarray, *, batch_size: int = 4096) -> dict[str, np.ndarray]:
        """Where raw observations x ``(n, *shape)`` lie, and how sure the model is.

        Returns:
            ``points`` (n, *ambient_shape); ``angles`` (n, k) in radians where the manifold has
            them; ``time`` (n, *time_shape), the posterior's variance; ``standard_deviation``, its
            root: radians per direction on spheres and tori, the latent's own unit elsewhere.
        """
        self.model.eval()
        x = torch.as_tensor(x)
        parts = [self.model.posterior_law(self.scaled(part)) for part in x.split(batch_size)]
        points = torch.cat([q.loc for q in parts]).cpu()  # type: ignore[attr-defined]
        time = torch.cat([q.time for q in parts]).cpu()  # type: ignore[attr-defined]
        result = {"points": points, "time": time, "standard_deviation": time.sqrt()}
        if self.model.manifold.angle_names:
            result["angles"] = self.model.manifold.to_angles(points)
        return {name: value.numpy() for name, value in result.items()}

    def evaluate(self, *, num_samples: int | None = None, progress: bool = False) -> dict[str, Any]:
        """Metrics on the test part, in scaled units; see ``metrics.evaluate_bound``."""
        self.model.eval()
        generator = generator_for("evaluate", self.config.seed, device=self.device)
        metrics: dict[str, Any] = evaluate_bound(
            self.model,
            self.scaled(self.data().test),
            num_samples=num_samples or self.config.num_samples,
            generator=generator,
            progress=progress,
        )
        metrics["seconds"] = sum(row["seconds"] for row in self.history)
        metrics["epochs"] = len(self.history)
        metrics["num_samples"] = num_samples or self.config.num_samples
        return metrics

    def topology(self, *, points: int = 4096, landmarks: int = 200) -> Topology:
        """Whether the encoder captures the shape of the data; see ``metrics.topology``.

        Arguments:
            points: of the grid of factors, where these are known (data ``torus``).
            landmarks: for the homology of samples, where they are not.

        Raises:
            ModuleNotFoundError: if homology is asked for, and ripser is not installed.
        """
        return topology(self, points=points, landmarks=landmarks)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Mean observations at latents z, in scaled units, on the CPU."""
        self.model.eval()
        return self.model.decode(z.to(self.device)).cpu()

    def sample(self, n: int, *, seed: int = 0) -> Tensor:
        """n mean observations at latents drawn from the prior, in raw units."""
        self.model.eval()
        generator = generator_for("sample", seed, device=self.device)
        return self.scaling.invert(self.model.sample(n, generator=generator).cpu())

    def table(self, metrics: dict[str, Any]) -> str:
        names = ("elbo", "kl", "mse", "log_likelihood", "mean_log_time", "seconds")
        width = max(map(len, names))
        lines = []
        for name in names:
            spread = metrics.get(f"{name}_se")
            tail = "" if spread is None else f"  ± {spread:.2g}"
            lines.append(f"{name:>{width}}  {metrics[name]:.6g}{tail}")
        return "\n".join(lines)

    # ---- files ------------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint:
        """All that ``load`` asks for; training cannot go on from it, for it has no optimiser."""
        shape = self.model.likelihood.event_shape
        return Checkpoint(
            epoch=len(self.history),
            model={name: value.detach().cpu() for name, value in self.model.state_dict().items()},
            optimizer={},
            history=self.history,
            extra=_record(self.config, self.scaling, shape, self.dataset_name),
        )

    def save_latents(self) -> None:
        """Locations, times and labels of every row, with row numbers, as ``latents.npz``."""
        folder = self._own_folder()
        dataset = self.data()
        parts = {
            "train": (dataset.train, dataset.train_rows, dataset.train_labels),
            "test": (dataset.test, dataset.test_rows, dataset.test_labels),
        }
        arrays: dict[str, list[np.ndarray]] = {}
        for part, (x, rows, labels) in parts.items():
            encoded = {**self.encode(x), "rows": rows.numpy(), "part": np.full(len(x), part)}
            if labels is not None:
                encoded["labels"] = labels.numpy()
            for name, value in encoded.items():
                arrays.setdefault(name, []).append(value)
        save_arrays(
            folder / "latents.npz",
            {name: np.concatenate(values) for name, values in arrays.items()},
        )

    def encode_file(self, source: str) -> dict[str, np.ndarray]:
        """``encode`` of a whole ``.npy`` file, or of all rows of a data set, with row numbers."""
        if source in data.names():
            dataset = load_data(self.config.replace(data=source))
            x = torch.cat([dataset.train, dataset.test])
            rows = torch.cat([dataset.train_rows, dataset.test_rows]).numpy()
            part = np.repeat(["train", "test"], [len(dataset.train), len(dataset.test)])
            return {**self.encode(x), "rows": rows, "part": part}
        x = data.read_array(source)
        return {**self.encode(x), "rows": np.arange(len(x))}

    def save_samples(
        self, n: int, path: Path, *, seed: int = 0, progress: bool = False, **options: Any
    ) -> list[Path]:
        """New observations as a ``.npy`` file, and beside it a picture of up to 64; the paths."""
        from manifold_ae import plots

        for name, value in options.items():
            raise ValueError(
                f"{name} = {value!r}: samples of a ΔVAE are decoded at once; leave it out"
            )
        if path.suffix != ".npy":
            raise ValueError(f"{path}: samples are written as .npy, and a picture beside as .png")
        x = self.sample(n, seed=seed)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, x.numpy())

        write_aside(path, write)
        picture = path.with_suffix(".png")
        plots.save(plots.samples(self.scaling.apply(x[:64])), picture)
        return [path, picture]

    def draw(self, *, seed: int = 0) -> list[Path]:
        """Every picture of the run, in ``figures/``; the paths written."""
        from manifold_ae import plots

        dataset, manifold = self.data(), self.model.manifold
        count = min(4000, len(dataset.test))
        points = torch.from_numpy(self.encode(dataset.test[:count])["points"])
        labels = None if dataset.test_labels is None else dataset.test_labels[:count]
        shown = self.scaled(dataset.test[:12])
        with torch.no_grad():
            rebuilt = self.model.decode(self.model.posterior_law(shown).loc)  # type: ignore[attr-defined]
        title = f"{dataset.name} on {manifold!r}"
        figures = {
            "latents": plots.latents(manifold, points, labels, title=title),
            "decoded_grid": plots.decoded_grid(
                manifold, self.decode, dataset.shape, at=plots.medoid(manifold, points)
            ),
            "reconstructions": plots.reconstructions(shown.cpu(), rebuilt.cpu()),
            "curves": plots.curves(self._curves()),
        }
        return self._draw(figures)


# ---- building -------------------------------------------------------------------------------


def load_data(config: VAE) -> Dataset:
    """The data that a configuration names."""
    options: dict[str, Any] = {}
    if config.data == "torus":
        options = {
            "picture": config.picture,
            "order": config.order,
            "discount": config.discount,
            "translations": config.translations,
            "noise": config.noise,
            "picture_seed": config.picture_seed,
        }
    return data.load(
        config.data,
        data_dir=config.data_dir,
        split=config.split,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
        **options,
    )


def resolve(config: VAE, dataset: Dataset) -> VAE:
    """The configuration with every ``"auto"`` that depends on the data replaced."""
    name = dataset.default_likelihood if config.likelihood == "auto" else config.likelihood
    likelihood = likelihoods.named(name, dataset.shape)
    scaling = config.scaling
    if scaling == "auto":
        own = None if likelihood.counts else dataset.default_scaling
        scaling = own or likelihood.default_scaling
    if likelihood.counts:
        if scaling != "none":
            raise ValueError(f"scaling = {scaling!r}: likelihood {name!r} needs the counts as is")
        data.check_counts(dataset.train, config.data)
        data.check_counts(dataset.test, config.data)
    posterior = config.posterior
    if posterior == "auto":
        exact = heat.has_sampler(manifolds.parse(config.manifold))
        posterior = "heat-kernel" if exact else "random-walk"
    config = config.replace(likelihood=name, scaling=scaling, posterior=posterior)
    return config.replace(divergence=resolved_divergence(config))


def posterior_of(config: VAE) -> Callable[..., Any]:
    """The law that a configuration names, as ``DeltaVAE`` takes it."""
    posteriors: dict[str, Callable[..., Any]] = {
        "heat-kernel": HeatKernel,
        "random-walk": functools.partial(RandomWalk, steps=config.walk_steps),
        "power-spherical": PowerSpherical,
        "wrapped-normal": WrappedNormal,
    }
    return posteriors[config.posterior]


def resolved_divergence(config: VAE) -> str:
    """The KL term of the loss: that of the configuration, or the first that there is."""
    if config.divergence != "auto":
        return config.divergence
    return known_divergence(manifolds.parse(config.manifold), posterior_of(config))


def build_model(config: VAE, event_shape: tuple[int, ...]) -> DeltaVAE:
    """An untrained model; its initial weights are a function of ``config.seed``."""
    manifold = manifolds.parse(config.manifold)
    posterior = posterior_of(config)
    # A law that does not live on the manifold says so now.
    posterior(manifold, manifold.base_point(), torch.ones(manifold.time_shape))
    count = config.num_importance
    kind = (
        DeltaVAE if count == 1 else functools.partial(ImportanceWeightedVAE, num_importance=count)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("weights", config.seed))
        return kind(
            manifold,
            *build_networks(config, event_shape, manifold.embedding_size),
            posterior=posterior,
            likelihood=likelihoods.named(config.likelihood, event_shape),
            # Runs of before there was a choice say nothing.
            divergence=resolved_divergence(config),
            time_bound=config.time_bound,
            initial_time=config.initial_time,
        )


def make_source(
    config: VAE, dataset: Dataset, scaling: Scaling, fabric: Fabric
) -> data.Fresh | data.Shuffled:
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
    return data.Shuffled(x, config.batch_size, config.seed, **ranks)


# ---- training -------------------------------------------------------------------------------


def train(
    config: VAE,
    folder: Path | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
    dataset: Dataset | None = None,
    checkpoint_seconds: float = 10.0,
) -> Run:
    """Train a ΔVAE as configured, and keep it in ``folder`` if one is given.

    Returns:
        A ``VAERun``; of several seeds, a ``SeedsRun``.

    Raises:
        ValueError: if the configuration does not fit the data, or the folder holds another run.
    """
    dataset = load_data(config) if dataset is None else dataset
    config = resolve(config, dataset)
    fabric = make_fabric(config.device, config.precision, config.devices)
    scaling = Scaling.fit(config.scaling, dataset.train, dataset.value_range)
    schedule = Schedule(config.lr, config.lr_schedule, config.kl_warmup)
    likelihood = likelihoods.named(config.likelihood, dataset.shape)
    check_support(likelihood, scaling.apply(dataset.train), *SCALED)
    # What cannot be trained is refused here, before anything is written.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        build_model(config, dataset.shape).loss(scaling.apply(dataset.train[:2]))
    folder = prepare_together(fabric, folder, config, resume, _complete)
    source = make_source(config, dataset, scaling, fabric)
    model, last = train_together(
        members_of(config),
        lambda config: build_model(config, dataset.shape),
        lambda config: source.seeded(config.seed),
        lambda row: row["elbo"],
        schedule=schedule,
        fabric=fabric,
        folder=folder,
        resume=resume,
        extra=extra_of(
            config,
            _record(config, scaling, dataset.shape, dataset.name),
        ),
        progress=progress,
        checkpoint_seconds=checkpoint_seconds,
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
            is_main=fabric.is_global_zero,
        )

    return assemble(config, model, last, folder, fabric, make)


def _record(
    config: VAE, scaling: Scaling, event_shape: tuple[int, ...], name: str
) -> dict[str, Any]:
    """What a checkpoint says of a run beside its weights, and ``load`` asks for."""
    return {
        "kind": "vae",
        "config": config.to_mapping(),
        "scaling": scaling.state_dict(),
        "event_shape": list(event_shape),
        "dataset": name,
    }


def _complete(config: VAE) -> VAE:
    return config.replace(divergence=resolved_divergence(config))


def describe(config: VAE) -> str:
    """What ``train`` would do with a configuration, after one step of it; nothing is written."""
    dataset = load_data(config)
    config = resolve(config, dataset)
    fabric = make_fabric(config.device, config.precision)
    scaling = Scaling.fit(config.scaling, dataset.train, dataset.value_range)
    model = build_model(config, dataset.shape).to(fabric.device)
    source = make_source(config, dataset, scaling, fabric)
    terms = model.loss(next(iter(source.epoch(0))))
    terms["loss"].backward()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"{config.to_toml()}\n"
        f"{dataset!r}\n"
        f"{model.manifold!r}, {parameters:,} parameters, on {fabric.device}\n"
        f"{len(source)} steps an epoch, {len(source) * config.epochs:,} in all\n"
        + seeds_line(
            config, lambda config: build_model(config, dataset.shape).to(fabric.device), source
        )
        + "first step: "
        + ", ".join(f"{k} {v.item():.4g}" for k, v in terms.items())
    )


def load(folder: Path | None, checkpoint: Checkpoint, *, device: str = "auto") -> VAERun:
    """The run that a checkpoint holds; without a folder, one that writes nothing."""
    try:
        config = VAE.from_mapping(checkpoint.extra["config"])
        scaling = Scaling.from_state_dict(checkpoint.extra["scaling"])
        shape = tuple(checkpoint.extra["event_shape"])
        name = checkpoint.extra["dataset"]
    except KeyError as error:
        raise ValueError(
            f"{folder or 'this'} holds no checkpoint of a ΔVAE: it lacks {error}"
        ) from error
    model = build_model(config, shape)
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
    )
