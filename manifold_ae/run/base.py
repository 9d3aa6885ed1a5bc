"""What every run is: a trained model, its configuration, its folder."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from manifold_ae.metrics import Topology
from manifold_ae.run.files import answered_before, save_weights, write_json
from manifold_ae.run.fingerprint import require_same

__all__ = ["Run"]


@dataclass(kw_only=True)
class Run(ABC):
    """A trained model with what it takes to use it on raw data.

    The subclasses have the model and the configuration by their types, and ``encode``, ``sample``
    or ``rollout`` as the model has them.
    """

    folder: Path | None
    config: Any
    model: Any
    device: torch.device
    history: list[dict[str, float]]
    #: Whether this process is the one that writes, of those that train data-parallel.
    is_main: bool = True
    #: What a run that was read back says of its data: their fingerprint, as ``"data"``.
    record: Mapping[str, Any] = field(default_factory=dict)
    _known: Any = field(default=None, init=False, repr=False)
    #: Fields that hold the data, the same for every seed.
    shared: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def load_data(self) -> None:
        """Load or make the data that the run is tested on, if that is not done yet."""

    @abstractmethod
    def evaluate(self, *, num_samples: int | None = None, progress: bool = False) -> dict[str, Any]:
        """Metrics on the test part."""

    @abstractmethod
    def table(self, metrics: dict[str, Any]) -> str:
        """Metrics as lines for people."""

    @abstractmethod
    def save_latents(self) -> None:
        """Where the data lie, as ``latents.npz``."""

    @abstractmethod
    def encode_file(self, source: str, *, progress: bool = False, **options: Any) -> dict[str, Any]:
        """Where the rows of a data file lie, as arrays by name.

        Raises:
            ValueError: for an option that such a model does not have.
        """

    @abstractmethod
    def save_samples(
        self, n: int, path: Path, *, seed: int = 0, progress: bool = False, **options: Any
    ) -> list[Path]:
        """New observations as a ``.npy`` file, and a picture of them; the paths.

        Missing folders are made.

        Raises:
            ValueError: for an option that samples of such a model do not have.
        """

    @abstractmethod
    def draw(self, *, seed: int = 0) -> list[Path]:
        """Every picture of the run, in ``figures/``; the paths written."""

    def topology(self, *, points: int = 4096, landmarks: int = 200) -> Topology:
        """Whether the latents have the topology of the data, with a verdict in words.

        Raises:
            ValueError: for models without a latent manifold.
        """
        raise ValueError(
            f"{type(self).__name__}: topology is that of an encoder into a manifold, so of a ΔVAE; "
            "leave --topology out"
        )

    @property
    def pictures(self) -> Path:
        """Where ``draw`` puts them."""
        return self._own_folder() / "figures"

    def finish(self, *, progress: bool = False) -> dict[str, Any]:
        """Evaluate, save and draw a run that has been trained; the final metrics."""
        self._own_folder()
        metrics = self.evaluate(progress=progress)
        self.save(metrics)
        self.draw()
        return metrics

    def save(self, metrics: dict[str, Any]) -> None:
        """Weights, latents and final metrics beside the checkpoint; answers of before stay."""
        folder = self._own_folder()
        save_weights(folder / "weights.safetensors", self.model, self.config)
        write_json(folder / "metrics.json", metrics | answered_before(folder, metrics))
        self.save_latents()

    def _require_begun_with(
        self, held: Any, kept: Mapping[str, Any] | None, find: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Refuse data other than those that the run was begun with; each object is looked at once.

        Arguments:
            held: the data.
            kept: what a run keeps of them, as in ``fingerprint.kept_of``.
            find: their fingerprint.
        """
        if held is not self._known:
            now = kept if self.record.get("data") is None else find()
            require_same(self.folder, self.record, now, doing="evaluate")
            self._known = held

    def _own_folder(self) -> Path:
        if self.folder is None:
            raise ValueError(
                "this run has no folder to write to; give one to train(config, folder)"
            )
        return self.folder

    def _draw(self, figures: dict[str, Any]) -> list[Path]:
        from manifold_ae import plots

        folder = self._own_folder() / "figures"
        folder.mkdir(exist_ok=True)
        paths = []
        for name, figure in figures.items():
            paths.append(folder / f"{name}.png")
            plots.save(figure, paths[-1])
        return paths

    def _curves(self) -> dict[str, list[float]]:
        return {name: [row[name] for row in self.history] for name in self.history[0]}
