"""What it takes to ask which manifold fits data."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from manifold_ae.experiments.config import COURSES, NETWORKS, PADDINGS, Configuration
from manifold_ae.experiments.vae import VAE

__all__ = ["Select"]


@dataclass(frozen=True)
class Select(Configuration):
    """Configuration of a choice between latent manifolds; those fields that a ΔVAE has, too, are
    the same for every candidate.
    """

    # What is asked, of what.
    data: str = "digits"
    data_dir: str | None = None
    #: What is known of rows beside their values, as for a ΔVAE.
    covariates: str | None = None
    exposure: str | None = None
    groups: str | None = None
    times: str | None = None
    labels: str | None = None
    missing: str = "refuse"
    #: Euclidean baselines of the dimensions of these, and of the next ones, always join.
    manifolds: tuple[str, ...] = ("circle", "torus:2", "sphere:2", "projective:2", "so3")
    split: str = "random"
    test_fraction: float = 0.2
    split_seed: int = 0
    likelihood: str = "auto"
    scaling: str = "auto"

    # Every candidate: small networks, few steps.
    network: str = "mlp"
    padding: str = "zeros"
    encoder_hidden: tuple[int, ...] = (64, 64)
    decoder_hidden: tuple[int, ...] = (64, 64)
    initial_time: float = 0.1
    start: str = "spread"
    #: Of the whole training, in batches; as many epochs as that makes.
    steps: int = 300
    batch_size: int = 250
    lr: float = 8e-3
    lr_schedule: str = "one-cycle"
    kl_warmup: float = 0.4
    seed: int = 0
    #: Trials of which the best, by training ELBO, goes on, and the part of training that they are.
    restarts: int = 12
    trial: float = 0.3

    # Where it runs.
    device: str = "auto"
    precision: str = "32-true"

    # How candidates are judged.
    #: Importance samples of the log-likelihood of a row.
    num_samples: int = 100
    #: Blocks of rows, over which standard errors are taken.
    blocks: int = 20
    #: Rows that homology is computed on; 0 for no homology.
    landmarks: int = 200

    def __post_init__(self) -> None:
        choices = {
            "network": NETWORKS[:2],
            "padding": PADDINGS,
            "start": ("random", "spread"),
            "lr_schedule": COURSES,
        }
        positive = ("steps", "batch_size", "lr", "restarts", "num_samples", "initial_time")
        self._require(choices=choices, positive=positive, least_zero=("seed", "split_seed"))
        self._check_network(self.network)
        if not self.manifolds:
            raise ValueError("manifolds is empty: expected at least one, as in circle,torus:2")
        if not 0 < self.trial <= 1:
            raise ValueError(f"trial = {self.trial!r}: expected a part of training, up to 1")
        if self.blocks < 2:
            raise ValueError(f"blocks = {self.blocks!r}: expected at least 2, for a standard error")
        if self.landmarks < 0 or self.landmarks == 1:
            raise ValueError(
                f"landmarks = {self.landmarks!r}: expected at least 2, or 0 to leave homology out"
            )
        # The rest is checked where it is used, and here before anything is trained.
        self.candidate(self.manifolds[0], batches=1)

    def candidate(self, manifold: str, *, batches: int, **changes: Any) -> VAE:
        """The run of one candidate.

        Arguments:
            batches: how many make an epoch of the data.
        """
        epochs = max(1, round(self.steps / batches))
        fields = {field.name for field in dataclasses.fields(VAE)}
        shared = {k: v for k, v in self.to_mapping().items() if k in fields}
        own = {
            "manifold": manifold,
            "epochs": epochs,
            "restart_epochs": max(1, round(self.trial * epochs)),
        }
        return VAE.from_mapping(shared | own | changes)
