"""What it takes to train a homomorphism autoencoder."""

from dataclasses import dataclass

from manifold_ae.experiments.config import COURSES, NETWORKS, PADDINGS, Configuration

__all__ = ["HAE", "MODELS", "OF_WORLDS", "PHIS"]

#: What moves latents: a learned representation, or something to compare it with.
MODELS = ("hae", "affine", "given", "givens", "unstructured", "still")
PHIS = ("auto", "linear", "mlp", "lookup")
#: What is drawn of a world.
OF_WORLDS = ("world", "hold_out", "hold_out_bins", "largest", "traces", "horizon")
#: What only a learned representation has, only a perceptron, and only a variational model.
LEARNED = ("phi", "blocks", "orthogonal", "scramble", "settle_steps")
OF_PERCEPTRONS = ("scramble", "phi_hidden", "phi_activation", "phi_skip")
VARIATIONAL = ("initial_time", "kl_warmup")


@dataclass(frozen=True)
class HAE(Configuration):
    """Configuration of an HAE run; every field is a key of ``config.toml`` and of ``--set``."""

    # What is learned, from what.
    #: A world, or PATH.npz with ``observations`` and ``actions``.
    data: str = "sprites"
    #: Options of the world, each KEY=VALUE.
    world: tuple[str, ...] = ()
    #: Group of the actions in a file; a world has its own.
    group: str | None = None
    #: Traces drawn from a world to train on, their steps, and the largest angle of an action.
    traces: int = 10000
    steps: int = 2
    largest: float = 2.0
    data_seed: int = 0
    test_fraction: float = 0.1
    #: What is left out of training, of a world: "combinations", the states in which the first two
    #: factors are both in their first part of ``hold_out_bins``; "actions", those whose first
    #: coordinate is between a half and three quarters of ``largest``.
    hold_out: str = "none"
    hold_out_bins: int = 4
    likelihood: str = "gaussian"

    # The model.
    #: What moves latents: hae; affine, of scale-translation:n alone, which has its form and learns
    #: a projection to size - 1 dimensions, or none without a size; or a baseline.
    model: str = "hae"
    #: "auto": linear on a Lie group, lookup on a finite one.
    phi: str = "auto"
    #: Sizes of blocks as "2,2,1"; "soft"; "none"; "auto" takes what suits the group.
    blocks: str = "auto"
    #: Size of the representation where the blocks do not say it; 0 for that of "auto" blocks.
    size: int = 0
    #: By default where the group is finite or compact.
    orthogonal: bool | None = None
    #: Further latent dimensions that no action moves.
    free: int = 0
    #: Seed of a frozen network through which actions pass before φ (phi = "mlp").
    scramble: int | None = None
    #: Latent manifold of a variational model; none for the deterministic one.
    manifold: str | None = None
    initial_time: float = 0.02
    phi_hidden: tuple[int, ...] = (64, 64)
    #: Of a perceptron φ, "relu" or "tanh"; and whether it is added to a linear map.
    phi_activation: str = "tanh"
    phi_skip: bool = True
    #: "mlp", or "conv" for pictures, whose border is then as ``padding`` says.
    network: str = "mlp"
    padding: str = "zeros"
    #: Of perceptrons.
    encoder_hidden: tuple[int, ...] = (256, 256)
    decoder_hidden: tuple[int, ...] = (256, 256)

    # The loss, of which the reconstruction of the mean observation counts as one.
    prediction_weight: float = 0.2
    bracket_weight: float = 1.0
    closure_weight: float = 0.0
    sparsity_weight: float = 0.01
    frequency_weight: float = 0.01
    table_weight: float = 0.1
    #: Of products of a perceptron's actions; it comes in when frequency and sparsity have faded.
    homomorphism_weight: float = 0.0
    #: The part of training over which sparsity and frequency weights fall to 0.
    fade: float = 0.5

    # Training.
    epochs: int = 25
    batch_size: int = 128
    lr: float = 1e-3
    lr_schedule: str = "cosine"
    #: How many times faster the representation learns than the networks; 0 for what suits φ.
    representation_lr: float = 0.0
    kl_warmup: float = 0.2
    seed: int = 0
    #: Runs with as many seeds, from ``seed`` on, as one computation.
    seeds: int = 1
    #: Short trials of which the best, by training loss, goes on; 1 for none.
    restarts: int = 4
    restart_epochs: int = 3
    #: Steps of Gauss and Newton at the end, of what is linear in φ; by itself 3 of a perceptron.
    settle_steps: int | None = None

    # Where it runs.
    device: str = "auto"
    precision: str = "32-true"
    devices: int = 1
    compile: bool = False

    # Evaluation.
    #: Long traces for the rollout error.
    num_rollouts: int = 100
    horizon: int = 128

    def __post_init__(self) -> None:
        choices = {
            "model": MODELS,
            "phi": PHIS,
            "hold_out": ("none", "combinations", "actions"),
            "network": NETWORKS[:2],
            "padding": PADDINGS,
            "precision": ("32-true", "bf16-mixed", "16-mixed"),
            "lr_schedule": COURSES,
            "phi_activation": ("relu", "tanh"),
        }
        positive = (
            "traces", "steps", "largest", "epochs", "batch_size", "lr", "restarts",
            "restart_epochs", "devices", "num_rollouts", "horizon", "initial_time", "hold_out_bins",
            "seeds",
        )  # fmt: skip
        if self.restarts > 1 and self.restart_epochs > self.epochs:
            raise ValueError(
                f"restart_epochs = {self.restart_epochs}: expected at most epochs = {self.epochs}"
            )
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"test_fraction = {self.test_fraction!r}: expected between 0 and 1")
        if not 0 < self.fade <= 1:
            raise ValueError(f"fade = {self.fade!r}: expected a part of training, up to 1")
        if not 0 <= self.kl_warmup <= 1:
            raise ValueError(f"kl_warmup = {self.kl_warmup!r}: expected a part of training, 0 to 1")
        least_zero = (
            "prediction_weight", "bracket_weight", "closure_weight", "sparsity_weight",
            "frequency_weight", "table_weight", "homomorphism_weight", "representation_lr", "free",
            "size", "seed", "data_seed",
        )  # fmt: skip
        self._require(choices=choices, positive=positive, least_zero=least_zero)
        if self.settle_steps is not None and self.settle_steps < 0:
            raise ValueError(f"settle_steps = {self.settle_steps}: expected 0 or more, or None")
        self.block_sizes()

    def check_heeded(self) -> None:
        if self.data.endswith(".npz"):
            self.refuse(OF_WORLDS, f"only of a world, and {self.data} is a file")
        self._check_network(self.network)
        others = {
            "affine": ("free",),
            "given": ("size", "free"),
            "unstructured": ("representation_lr",),
            "still": ("prediction_weight", "representation_lr"),
        }
        names = LEARNED if self.model != "hae" else ()
        self.refuse(
            (*names, *others.get(self.model, ())), f"model = {self.model!r} does not have it"
        )
        if self.phi != "mlp":
            self.refuse(OF_PERCEPTRONS, "only of a perceptron, phi = 'mlp'")
        if self.manifold is None:
            self.refuse(VARIATIONAL, "only of a variational model, which has a manifold")
        if self.hold_out != "combinations":
            self.refuse(("hold_out_bins",), "only of hold_out = 'combinations'")

    def block_sizes(self) -> tuple[int, ...] | str:
        """``blocks`` as sizes, or the word that it is."""
        if self.blocks in ("auto", "soft", "none"):
            return self.blocks
        parts = self.blocks.split(",")
        if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
            raise ValueError(
                f"blocks = {self.blocks!r}: expected sizes as '2,2,1', or auto, soft, none"
            )
        return tuple(int(part) for part in parts)
