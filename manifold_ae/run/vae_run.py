"""A trained ΔVAE on raw data: encoded, evaluated, decoded, drawn, kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from manifold_ae import data
from manifold_ae.data import Columns, Dataset, Recording, Scaling
from manifold_ae.data.given import SEEN
from manifold_ae.data.seeding import generator_for
from manifold_ae.experiments import VAE
from manifold_ae.metrics import Topology, evaluate_bound
from manifold_ae.models import DeltaVAE
from manifold_ae.run import advice
from manifold_ae.run.base import Run
from manifold_ae.run.conditions import Conditions
from manifold_ae.run.encoding import described, encoded
from manifold_ae.run.files import save_arrays
from manifold_ae.run.fingerprint import fingerprint_of, kept_of
from manifold_ae.run.sequences import likeliest, rate_of, smoothed
from manifold_ae.run.stopping import validation
from manifold_ae.run.support import check_observed, check_support
from manifold_ae.run.vae_model import load_data
from manifold_ae.training import Checkpoint, write_aside

__all__ = ["SCALED", "VAERun", "record", "seen"]

#: What data are called where a likelihood refuses them, and how to put it right.
SCALED = (
    "data, once scaled,",
    "use --scaling range; where rows held out go beyond those trained on, bring the data into that "
    "range and use --scaling none; or take another likelihood",
)


@dataclass(kw_only=True)
class VAERun(Run):
    """A trained ΔVAE with what it takes to use it on raw data."""

    config: VAE
    model: DeltaVAE
    scaling: Scaling
    dataset: Dataset | None = None
    dataset_name: str = ""
    #: What is known of rows beside their values, in the units of the model.
    conditions: Conditions = field(default_factory=Conditions)
    #: How the file that was trained on was read.
    columns: Columns | None = None
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
        found = self.dataset
        self._require_begun_with(found, kept_of(found), lambda: fingerprint_of(found))
        return found

    def scaled(self, x: Tensor | np.ndarray) -> Tensor:
        """Raw observations as the model sees them, on its device.

        NaN stands for a value that is missing, in runs with ``missing = "mask"``.
        """
        x = torch.as_tensor(x).to(torch.float32)
        masks, shape = self.model.likelihood.masks, self.model.likelihood.event_shape
        wrong = torch.isinf(x) if masks else ~torch.isfinite(x)
        if wrong.any():
            raise ValueError(
                f"data has {int(wrong.sum())} values that are not finite"
                + ("" if masks else "; where NaN is a missing value, train with --missing mask")
            )
        if tuple(x.shape[1:]) != shape:
            raise ValueError(
                f"data of shape {tuple(x.shape)}: this run was trained on observations of shape "
                f"{shape}, so (n, {', '.join(map(str, shape))}) is expected"
            )
        if masks:
            check_observed(x, "data")
        if self.model.likelihood.counts:
            data.check_counts(x, "data", missing="mask" if masks else "refuse")
        scaled = self.scaling.apply(x)
        check_support(self.model.likelihood, scaled, *SCALED)
        return scaled.to(self.device)

    def given(self, rows: int, **raw: Any) -> dict[str, Any]:
        """Raw covariates and exposures of rows as the model is given them, on its device."""
        return self.conditions.apply(raw, rows, device=self.device)

    # ---- use --------------------------------------------------------------------------------

    def encode(
        self,
        x: Tensor | np.ndarray,
        *,
        covariates: Tensor | np.ndarray | None = None,
        exposure: Tensor | np.ndarray | None = None,
        refined: bool = False,
        batch_size: int = 4096,
        progress: bool = False,
    ) -> dict[str, np.ndarray]:
        """Where raw observations x ``(n, *shape)`` lie, and how sure the model is.

        Arguments:
            covariates: raw, ``(n, c)``, where the run was trained with some.
            exposure: raw, ``(n,)``, likewise.
            refined: by the model's own posterior (``models.refine``) in place of the encoder's,
                which is an approximation to it and, with few rows, too narrow. Some milliseconds a
                row; the same at each call.
            batch_size: rows that the encoder takes at once.
            progress: show a bar while posteriors are refined.

        Returns:
            ``points`` (n, *ambient_shape); ``angles`` (n, k) in radians where the manifold has
            them; ``time`` (n, *time_shape), the posterior's variance; ``standard_deviation``, its
            root: radians per direction on spheres and tori, the latent's own unit elsewhere. With
            ``refined`` also ``radius`` (n,), of the geodesic ball that holds 90 %.

        Raises:
            NotImplementedError: with ``refined``, as ``models.refine`` does.
        """
        self.model.eval()
        x = torch.as_tensor(x)
        known = self.given(len(x), covariates=covariates, exposure=exposure)
        return encoded(self, x, known, refined=refined, batch_size=batch_size, progress=progress)

    def smooth(
        self, recording: Recording, *, rate: float | None = None, count: int | None = None
    ) -> dict[str, np.ndarray]:
        """Where the rows of a recording lie given all of its rows, as ``encode`` has it.

        Arguments:
            recording: raw rows, as ``data.read`` returns them; ``groups`` tells trials apart, and
                without ``times`` the rows are one unit of time apart.
            rate: the variance of the latents' motion per unit of time; by default that under which
                the recording is likeliest, whether or not the run had a prior along time.
            count: about how many points of the manifold to compute over.

        Raises:
            ValueError: as ``models.smooth`` does.
        """
        self.model.eval()
        known = self.given(len(recording), **seen(recording.given))
        found = smoothed(
            self.model, self.scaled(recording.x), recording, known, rate=rate, count=count
        )
        return described(self.model.manifold, found.points.cpu(), found.time.cpu())

    def rate(self, recording: Recording, *, count: int | None = None) -> float:
        """The variance per unit of time, of the latents' motion, under which rows are likeliest.

        Arguments:
            recording: raw rows, as in ``smooth``; so also ``count``.
        """
        self.model.eval()
        known = self.given(len(recording), **seen(recording.given))
        return likeliest(self.model, self.scaled(recording.x), recording, known, count=count)

    def evaluate(self, *, num_samples: int | None = None, progress: bool = False) -> dict[str, Any]:
        """Metrics on the test part, in scaled units; see ``metrics.evaluate_bound``."""
        self.model.eval()
        generator = generator_for("evaluate", self.config.seed, device=self.device)
        dataset = self.data()
        metrics: dict[str, Any] = evaluate_bound(
            self.model,
            self.scaled(dataset.test),
            given=self.given(len(dataset.test), **dataset.test_given),
            num_samples=num_samples or self.config.num_samples,
            generator=generator,
            progress=progress,
        )
        metrics["seconds"] = sum(row["seconds"] for row in self.history)
        metrics["epochs"] = len(self.history)
        metrics["num_samples"] = num_samples or self.config.num_samples
        metrics |= rate_of(self.model)
        if self.config.patience:
            metrics["best_epoch"] = 1 + int(
                np.argmax([row.get("validation_elbo", -math.inf) for row in self.history])
            )
        return metrics

    def topology(self, *, points: int = 4096, landmarks: int = 200) -> Topology:
        """Whether the encoder captures the shape of the data; see ``metrics.topology``.

        Arguments:
            points: of the grid of factors, where these are known (data ``torus``).
            landmarks: for the homology of samples, where they are not.

        Raises:
            ModuleNotFoundError: if homology is asked for, and ripser is not installed.
        """
        from manifold_ae.run.evaluation.topology import topology

        return topology(self, points=points, landmarks=landmarks)

    @torch.no_grad()
    def decode(self, z: Tensor, **raw: Any) -> Tensor:
        """Mean observations at latents z ``(n, *ambient_shape)``, in scaled units, on the CPU.

        Arguments:
            raw: ``covariates`` (n, c) and ``exposure`` (n,), raw; by default, each, the mean
                covariates and the typical exposure (the geometric mean) of the training rows.
        """
        self.model.eval()
        rows = math.prod(z.shape[: self._batch_dims(z)])
        given = self.conditions.apply(raw, rows, typical=True, device=self.device)
        shaped = {
            name: value.reshape(*z.shape[: self._batch_dims(z)], *value.shape[1:])
            for name, value in given.items()
        }
        return self.model.decode(z.to(self.device), **shaped).cpu()

    def _batch_dims(self, z: Tensor) -> int:
        return z.dim() - len(self.model.manifold.ambient_shape)

    def sample(self, n: int, *, seed: int = 0, **raw: Any) -> Tensor:
        """n mean observations at latents drawn from the prior, in raw units.

        Arguments:
            raw: ``covariates`` (n, c) and ``exposure`` (n,), raw, as in ``decode``.
        """
        self.model.eval()
        generator = generator_for("sample", seed, device=self.device)
        given = self.conditions.apply(raw, n, typical=True, device=self.device)
        return self.scaling.invert(self.model.sample(n, generator=generator, **given).cpu())

    def table(self, metrics: dict[str, Any]) -> str:
        names = ("elbo", "kl", "mse", "log_likelihood", "mean_log_time", "seconds")
        width = max(map(len, names))
        lines = []
        for name in names:
            spread = metrics.get(f"{name}_se")
            tail = "" if spread is None else f"  ± {spread:.2g}"
            lines.append(f"{name:>{width}}  {metrics[name]:.6g}{tail}")
        for name in ("best_epoch", "dispersion", "rate"):
            if name in metrics:
                lines.append(f"{name:>{width}}  {metrics[name]:.6g}")
        return "\n".join([*lines, *advice.verdict(self.config, metrics)])

    # ---- files ------------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint:
        """All that ``load`` asks for; training cannot go on from it, for it has no optimiser."""
        shape = self.model.likelihood.event_shape
        return Checkpoint(
            epoch=len(self.history),
            model={name: value.detach().cpu() for name, value in self.model.state_dict().items()},
            optimizer={},
            history=self.history,
            extra=record(
                self.config, self.scaling, shape, self.dataset_name, self.conditions, self.columns
            ),
        )

    def save_latents(self) -> None:
        """Locations, times and labels of every row, with row numbers, as ``latents.npz``.

        ``part`` says which rows were trained on, judged by (``validation``) and tested on.
        """
        folder = self._own_folder()
        dataset = self.data()
        _, held = validation(self.config, dataset)
        part = np.full(len(dataset.train), "train", "<U10")
        if held is not None:
            part[held.numpy()] = "validation"
        parts = [
            {**self.encode(x, **seen(given)), "rows": rows.numpy(), "part": which}
            | ({} if labels is None else {"labels": labels.numpy()})
            for x, given, rows, labels, which in (
                (
                    dataset.train,
                    dataset.train_given,
                    dataset.train_rows,
                    dataset.train_labels,
                    part,
                ),
                (
                    dataset.test,
                    dataset.test_given,
                    dataset.test_rows,
                    dataset.test_labels,
                    np.full(len(dataset.test), "test", "<U10"),
                ),
            )
        ]
        save_arrays(
            folder / "latents.npz",
            {name: np.concatenate([own[name] for own in parts]) for name in parts[0]},
        )

    def encode_file(
        self,
        source: str,
        *,
        smooth: bool = False,
        refined: bool = False,
        rate: float | None = None,
        count: int | None = None,
        progress: bool = False,
        **options: Any,
    ) -> dict[str, np.ndarray]:
        """``encode`` of a whole file, or of all rows of a data set, with row numbers.

        Arguments:
            source: a file, read as the one that was trained on was, or a data set's name.
            smooth: take every row's neighbours in time into account; then ``rate`` and ``count``
                are those of the method of that name.
            refined: as in ``encode``; so also ``progress``.
            options: ``covariates``, ``exposure``, ``groups``, ``times``: what holds them there, if
                that is another.
        """
        if not smooth and (rate is not None or count is not None):
            raise ValueError("rate and count are those of smoothing: ask for smooth (--smooth)")
        if smooth and refined:
            raise ValueError(
                "smooth and refined are two posteriors, given all rows and given each alone, and "
                "the encoder has no part in either: ask for one of them"
            )
        how: dict[str, Any] = {"refined": refined, "progress": progress}
        if source in data.names():
            if smooth:
                raise ValueError(f"{source!r} is no recording: its rows have no order in time")
            dataset = load_data(self.config.replace(data=source))
            x = torch.cat([dataset.train, dataset.test])
            rows = torch.cat([dataset.train_rows, dataset.test_rows]).numpy()
            part = np.repeat(["train", "test"], [len(dataset.train), len(dataset.test)])
            return {**self.encode(x, **how), "rows": rows, "part": part}
        recording = data.read(source, like=self.columns, **options)
        found = (
            self.smooth(recording, rate=rate, count=count)
            if smooth
            else self.encode(recording.x, **how, **seen(recording.given))
        )
        labels = {} if recording.labels is None else {"labels": recording.labels.numpy()}
        return {**found, "rows": np.arange(len(recording)), **labels}

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

        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, write)
        picture = path.with_suffix(".png")
        plots.save(plots.samples(self.scaling.apply(x[:64])), picture)
        return [path, picture]

    def draw(self, *, seed: int = 0) -> list[Path]:
        """Every picture of the run, in ``figures/``; the paths written."""
        from manifold_ae import plots

        dataset, manifold = self.data(), self.model.manifold
        count = min(4000, len(dataset.test))
        known = seen(dataset.test_given)
        given = {name: value[:count] for name, value in known.items()}
        points = torch.from_numpy(self.encode(dataset.test[:count], **given)["points"])
        labels = None if dataset.test_labels is None else dataset.test_labels[:count]
        shown = self.scaled(dataset.test[:12])
        given = self.given(len(shown), **{name: value[:12] for name, value in known.items()})
        with torch.no_grad():
            law: Any = self.model.posterior_law(shown, **given)
            rebuilt = self.model.decode(law.loc, **given)
        title = f"{dataset.name} on {manifold!r}"
        figures = {
            "latents": plots.latents(manifold, points, labels, title=title),
            "decoded_grid": plots.decoded_grid(
                manifold, self.decode, dataset.shape, at=plots.medoid(manifold, points)
            ),
            "reconstructions": plots.reconstructions(
                shown.cpu(), rebuilt.cpu(), gaps=self.model.likelihood.masks
            ),
            "curves": plots.curves(self._curves()),
        }
        return self._draw(figures)


def seen(given: Mapping[str, Tensor]) -> dict[str, Any]:
    """Of what is known of rows, what a model is given."""
    return {name: given[name] for name in SEEN if name in given}


def record(
    config: VAE,
    scaling: Scaling,
    event_shape: tuple[int, ...],
    name: str,
    conditions: Conditions,
    columns: Columns | None,
) -> dict[str, Any]:
    """What a checkpoint says of a run beside its weights, and ``load`` asks for."""
    beside: dict[str, Any] = {}
    if conditions != Conditions():
        beside["conditions"] = conditions.state_dict()
    if columns is not None:
        beside["columns"] = columns.to_mapping()
    return beside | {
        "kind": "vae",
        "config": config.to_mapping(),
        "scaling": scaling.state_dict(),
        "event_shape": list(event_shape),
        "dataset": name,
    }
