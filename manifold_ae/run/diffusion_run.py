"""A trained diffusion model on raw data: sampled, evaluated, drawn, kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from manifold_ae import diffusion as process
from manifold_ae import metrics
from manifold_ae.data import Dataset, Scaling
from manifold_ae.data.seeding import generator_for
from manifold_ae.experiments import Diffusion
from manifold_ae.models import DiffusionModel
from manifold_ae.run.base import Run
from manifold_ae.run.diffusion_model import load_data
from manifold_ae.run.fingerprint import fingerprint_of, kept_of
from manifold_ae.training import write_aside

__all__ = ["DiffusionRun", "test_loss"]

#: Columns of the metrics that are drawn, and what they are called.
CURVES = {"loss": "Error of the noise", "mse": "Error of the signal"}
#: How many states of a chain are drawn, and of how many points or pictures.
SHOWN_TIMES, SHOWN_POINTS, SHOWN_PICTURES = 8, 2000, 6
#: Rows of test data that the loss is taken of at the end.
TESTED_AT_THE_END = 10_000


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
        found = self.dataset
        self._require_begun_with(found, kept_of(found), lambda: fingerprint_of(found))
        return found

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
        found: dict[str, Any] = test_loss(model, test, TESTED_AT_THE_END, "")
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

    def encode_file(
        self, source: str, *, progress: bool = False, **options: Any
    ) -> dict[str, np.ndarray]:
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

        path.parent.mkdir(parents=True, exist_ok=True)
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


@torch.no_grad()
def test_loss(model: DiffusionModel, test: Tensor, count: int, prefix: str) -> dict[str, float]:
    """Terms of the loss of the averaged weights, with the same times and noise every time."""
    before = model.training
    device = next(model.parameters()).device
    terms = model.eval().loss(
        test[:count].to(device), generator=generator_for("test loss", device=device)
    )
    model.train(before)
    return {f"{prefix}{name}": value.item() for name, value in terms.items()}
