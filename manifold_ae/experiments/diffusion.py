"""What it takes to train a diffusion model."""

from dataclasses import dataclass

from manifold_ae.experiments.config import COURSES, Configuration

__all__ = ["SCHEDULES", "Diffusion"]

SCHEDULES = ("linear", "scaled-linear", "cosine")


@dataclass(frozen=True)
class Diffusion(Configuration):
    """Configuration of a diffusion run; a field is a key of ``config.toml`` and of ``--set``."""

    # What is learned, from what.
    data: str = "mixture"
    data_dir: str | None = None
    split: str = "random"
    test_fraction: float = 0.2
    split_seed: int = 0
    #: "auto" takes the data's own where they are at unit scale; else "overall" for pictures, so
    #: that no pixel is blown up, and "standard" for features.
    scaling: str = "auto"

    # The process.
    schedule: str = "linear"
    #: T.
    steps: int = 1000

    # The model.
    width: int = 128
    depth: int = 3
    embedding: int = 64
    #: What each step of training keeps of the average of the weights; 0 for no average.
    ema: float = 0.999

    # Training.
    epochs: int = 40
    batch_size: int = 256
    #: Steps that count as an epoch: of fresh data, or at least so many in passes over others.
    steps_per_epoch: int = 200
    lr: float = 1e-3
    lr_schedule: str = "cosine"
    seed: int = 0
    #: Runs with as many seeds, from ``seed`` on, as one computation.
    seeds: int = 1

    # Where it runs.
    device: str = "auto"
    precision: str = "32-true"
    devices: int = 1
    compile: bool = False

    # Sampling and evaluation.
    #: Calls of the network for a sample.
    calls: int = 50
    #: η of the DDIM steps.
    eta: float = 0.0
    #: At most so many samples are held against the data.
    num_samples: int = 5000
    #: Directions of the sliced Wasserstein distance.
    directions: int = 256

    def __post_init__(self) -> None:
        choices = {
            "split": ("random", "blocks"),
            "scaling": ("auto", "none", "range", "standard", "max", "overall"),
            "schedule": SCHEDULES,
            "precision": ("32-true", "bf16-mixed", "16-mixed"),
            "lr_schedule": COURSES,
        }
        positive = (
            "steps", "width", "depth", "embedding", "epochs", "batch_size", "steps_per_epoch",
            "lr", "devices", "calls", "num_samples", "directions", "seeds",
        )  # fmt: skip
        if self.calls > self.steps:
            raise ValueError(
                f"calls = {self.calls}: expected at most steps = {self.steps}, a call for each"
            )
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"test_fraction = {self.test_fraction!r}: expected between 0 and 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema = {self.ema!r}: expected at least 0 and below 1")
        least_zero = ("eta", "seed", "split_seed")
        self._require(choices=choices, positive=positive, least_zero=least_zero)
