"""What it takes to train a ΔVAE."""

from dataclasses import dataclass

from manifold_ae.experiments.config import COURSES, NETWORKS, PADDINGS, Configuration

__all__ = ["DATA_OPTIONS", "DIVERGENCES", "POSTERIORS", "SPLITS", "STARTS", "VAE"]

SPLITS = ("random", "blocks", "groups")
STARTS = ("auto", "random", "spread", "components")
DIVERGENCES = ("auto", "exact", "sampled", "short-time")
POSTERIORS = ("auto", "heat-kernel", "random-walk", "power-spherical", "wrapped-normal")

#: Fields that are options of data sets of the library's own.
DATA_OPTIONS = {
    "torus": ("picture", "order", "discount", "translations", "noise", "picture_seed"),
    "poses": ("order", "translations", "noise", "picture_seed"),
}
#: Those that the simple picture does not look at.
OF_FOURIER = ("order", "discount", "picture_seed")


@dataclass(frozen=True)
class VAE(Configuration):
    """Configuration of a ΔVAE run; every field is a key of ``config.toml`` and of ``--set``."""

    # What is learned, from what.
    manifold: str = "sphere:2"
    data: str = "digits"
    data_dir: str | None = None
    #: What holds what is known of a row beside its values: columns of a ``.csv`` file, arrays of a
    #: ``.npz`` file (there, by themselves, those of these names), or other ``.npy`` files.
    #: Covariates may be several columns, ``"speed,gain"``; labels colour pictures and no more.
    covariates: str | None = None
    exposure: str | None = None
    groups: str | None = None
    times: str | None = None
    labels: str | None = None
    #: What NaN among the values is: "refuse", an error; "mask", a value that is missing.
    missing: str = "refuse"
    #: "random"; "blocks" of rows, for recordings; "groups", whole trials.
    split: str = "random"
    test_fraction: float = 0.2
    #: Which split; not the run's seed, so that runs with other seeds are tested on the same rows.
    split_seed: int = 0
    #: "auto" takes the data's own.
    likelihood: str = "auto"
    #: "auto" takes the data's own, or else the likelihood's.
    scaling: str = "auto"

    # The periodic pictures (data = "torus"), and functions on the sphere (data = "poses").
    picture: str = "simple"
    order: int = 3
    discount: float = 0.3
    translations: str = "fresh"
    noise: float = 0.0
    picture_seed: int = 0

    # The model.
    #: "auto" takes the heat kernel where it has an exact sampler, else the random walk.
    posterior: str = "auto"
    walk_steps: int = 10
    #: The KL term of the loss; "auto" takes the first of the others that there is.
    divergence: str = "auto"
    #: Posterior samples of the importance-weighted bound that is trained; 1 for the ELBO.
    num_importance: int = 1
    #: Rows of a window of a prior along time, whose rate is learned; 0 for rows without an order.
    sequence: int = 0
    #: "soft" or "paper": see models.heads.PosteriorHead.
    time_bound: str = "soft"
    initial_time: float = 0.02
    #: Where the encoder begins: "random"; "spread" over the manifold, by the training data; or
    #: "components", where their principal components lie nearest to it. See models.starting and
    #: models.components. "auto" takes the last of them for data of one's own, where the manifold
    #: and the network have it, and else the first.
    start: str = "auto"
    #: "mlp"; "conv" for pictures, whose border is then as ``padding`` says; or "circular" for
    #: translations of periodic pictures on torus:2, equivariant by construction.
    network: str = "mlp"
    padding: str = "zeros"
    #: Of perceptrons.
    encoder_hidden: tuple[int, ...] = (512, 512, 512)
    decoder_hidden: tuple[int, ...] = (512, 512)

    # Training.
    epochs: int = 100
    batch_size: int = 128
    #: Steps that count as an epoch where data are drawn afresh.
    steps_per_epoch: int = 100
    lr: float = 1e-3
    #: "auto" is one-cycle where data are drawn afresh, and else constant, which patience suits.
    lr_schedule: str = "auto"
    #: The part of training over which the weight of the KL term rises from 0 to 1.
    kl_warmup: float = 0.2
    seed: int = 0
    #: Runs with as many seeds, from ``seed`` on, as one computation.
    seeds: int = 1
    #: Short trials of which the best, by training ELBO, goes on; 1 for none.
    restarts: int = 1
    restart_epochs: int = 5
    #: Epochs without a better ELBO of the validation rows, after which training stops; the best
    #: weights are kept. 0 for none: then there are no validation rows.
    patience: int = 0
    #: The part of the training rows that is held out to judge by.
    validation_fraction: float = 0.1

    # Where it runs.
    device: str = "auto"
    precision: str = "32-true"
    devices: int = 1
    #: Compile the training step with torch.compile: a minute at the start, for faster steps.
    compile: bool = False

    # Evaluation.
    num_samples: int = 100

    def __post_init__(self) -> None:
        choices = {
            "split": SPLITS,
            "missing": ("refuse", "mask"),
            "picture": ("simple", "fourier"),
            "translations": ("fresh", "fixed"),
            "posterior": POSTERIORS,
            "divergence": DIVERGENCES,
            "time_bound": ("soft", "paper"),
            "start": STARTS,
            "network": NETWORKS,
            "padding": PADDINGS,
            "precision": ("32-true", "bf16-mixed", "16-mixed"),
            "scaling": ("auto", "none", "range", "standard", "robust", "max"),
            "lr_schedule": ("auto", *COURSES),
        }
        positive = (
            "walk_steps", "initial_time", "epochs", "batch_size", "steps_per_epoch", "lr",
            "restarts", "restart_epochs", "devices", "num_samples", "order", "seeds",
            "num_importance",
        )  # fmt: skip
        if self.restarts > 1 and self.restart_epochs > self.epochs:
            raise ValueError(
                f"restart_epochs = {self.restart_epochs}: expected at most epochs = {self.epochs}"
            )
        if self.patience and self.restarts > 1 and self.restart_epochs == self.epochs:
            raise ValueError(
                f"patience = {self.patience} with restart_epochs = epochs = {self.epochs}: trials "
                "are not stopped early, and nothing is left to stop; take more epochs"
            )
        for name in ("test_fraction", "validation_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}: expected between 0 and 1")
        if not 0 <= self.kl_warmup <= 1:
            raise ValueError(f"kl_warmup = {self.kl_warmup!r}: expected a part of training, 0 to 1")
        if self.sequence and (self.sequence < 2 or self.num_importance > 1):
            raise ValueError(
                f"sequence = {self.sequence}: expected a window of at least 2 rows, or 0; and "
                f"num_importance = 1, not {self.num_importance}"
            )
        least_zero = ("noise", "patience", "seed", "sequence", "split_seed", "picture_seed")
        self._require(choices=choices, positive=positive, least_zero=least_zero)
        if self.start not in ("auto", "random") and self.network == "circular":
            raise ValueError(
                f"start = {self.start!r} with network = 'circular': its encoder gives the place "
                "itself; leave start out"
            )
        if self.network == "circular" and self.manifold != "torus:2":
            raise ValueError(
                f"network = 'circular' gives two angles, and manifold = {self.manifold!r}: take "
                "torus:2, or network = 'conv'"
            )

    def check_heeded(self) -> None:
        self._check_network(self.network)
        if self.data == "torus" and self.picture == "simple":
            self.refuse(OF_FOURIER, "picture = 'simple' does not have it, 'fourier' does")
        own = DATA_OPTIONS.get(self.data, ())
        for name in sorted(
            {name for names in DATA_OPTIONS.values() for name in names}.difference(own)
        ):
            have = ", ".join(data for data, names in DATA_OPTIONS.items() if name in names)
            self.refuse((name,), f"data = {self.data!r} does not have it ({have} alone)")
        if not self.patience:
            self.refuse(("validation_fraction",), "patience = 0 holds no rows out of training")
