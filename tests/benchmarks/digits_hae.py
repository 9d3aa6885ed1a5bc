"""Digits under diffusion steps: how small a latent can be. What ``diffusion_hae.py digits`` runs.

Pictures of 8×8 pixels are moved by steps of a diffusion process, elements of ScaleTranslation(64),
and seen as they are; denoising steps take their noise from a network trained here, one for all
seeds. Encoder and decoder are affine: an equivariant code is a function of (Px, 1), and the best
decoder of it that is linear is found by linear algebra, which is what the floor is.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from manifold_ae import data, metrics, run
from manifold_ae.data import Traces
from manifold_ae.diffusion import Denoiser, Schedule
from manifold_ae.experiments import Diffusion
from manifold_ae.groups import AffineRepresentation, Defining, LearnedRepresentation, defects
from manifold_ae.models import HomomorphismAutoencoder, likelihoods

PIXELS, LENGTH, WINDOW = 64, 50, 3
#: Chains of ``LENGTH`` steps to learn from, and to test on.
CHAINS, TESTED = 600, 100
SIZES, FREE_SIZES = (65, 48, 32, 16, 8, 4, 2), (16, 8, 4)
BATCH, LEARNING_RATE, BRACKETS = 128, 3e-3, 64
DENOISER = Diffusion(data="digits", width=256, epochs=12, device="cpu")


@dataclass(frozen=True)
class Arm:
    """A family of runs: the steps learned from, the kind of φ, and where it starts."""

    kind: str
    free: bool = False
    #: Whether a free φ starts at random, with a bracket penalty, and not from the affine one.
    random: bool = False
    steps: int = 1000

    @property
    def sizes(self) -> tuple[int, ...]:
        return FREE_SIZES if self.free else SIZES


ARMS = {
    "VP, affine": Arm("vp"),
    "DDIM, affine": Arm("ddim"),
    "VP, free φ from the affine": Arm("vp", free=True, steps=400),
    "DDIM, free φ from the affine": Arm("ddim", free=True, steps=400),
    "VP, free φ at random": Arm("vp", free=True, random=True, steps=600),
}


@dataclass(frozen=True)
class Digits:
    """Digits in scaled units, and the process that moves them."""

    schedule: Schedule
    denoiser: Denoiser
    train: Tensor
    test: Tensor
    #: What the denoiser reached: the error of the noise, and of samples.
    reached: dict[str, float]

    @classmethod
    def load(cls) -> "Digits":
        trained = run.train(DENOISER)
        found, digits = trained.evaluate(), trained.data()
        model = trained.model.eval().requires_grad_(False)
        parts = (trained.scaling.apply(x).flatten(1) for x in (digits.train, digits.test))
        names = ("loss", "sliced_wasserstein_ratio")
        reached = {name: found[name] for name in names}
        return cls(model.schedule, model.denoiser, *parts, reached)

    def chains(self, kind: str, count: int, seed: int, *, test: bool = False) -> Traces:
        """Whole chains; those that add noise begin with digits of one part."""
        generator = torch.Generator().manual_seed(seed)
        times = self.schedule.times(LENGTH)
        if kind == "ddim":
            x = torch.randn(count, PIXELS, generator=generator)
            options: dict[str, Any] = {"denoiser": self.denoiser, "times": times}
        else:
            digits = self.test if test else self.train
            x = digits[torch.randint(len(digits), (count,), generator=generator)]
            options = {"times": times[::-1]}
        return data.diffusion_traces(kind, x, self.schedule, generator=generator, **options)


def windows(chains: Traces) -> Traces:
    """The parts of chains that are learned from."""
    starts = range(0, LENGTH - WINDOW + 1, WINDOW)
    parts = [chains.window(start, WINDOW) for start in starts]
    joined = (torch.cat([getattr(p, n) for p in parts]) for n in ("observations", "actions"))
    return Traces(*joined, chains.group)


class Pixels(nn.Module):
    """What is seen as features, as they are: the model's own layers are all there is."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.event_shape, self.out_features = (count,), count

    def forward(self, x: Tensor) -> Tensor:
        return x


def build(arm: Arm, size: int, traces: Traces, signal: float) -> HomomorphismAutoencoder:
    """A model that starts as the affine representation of a random projection, or at random."""
    affine = AffineRepresentation(traces.group, size)
    rho: Any = affine
    if arm.free:
        rho = LearnedRepresentation(traces.group, size, orthogonal=False)
    model = HomomorphismAutoencoder(
        Pixels(PIXELS), Pixels(size), rho, likelihoods.Gaussian((PIXELS,)),
        prediction_weight=0.2, reconstruction_weight=1 / ((WINDOW + 1) * signal),
    )  # fmt: skip
    if arm.random:
        return model
    assert affine.projection is not None and isinstance(model.head, nn.Linear)
    P, leave = affine.projection, next(m for m in model.output.modules() if type(m) is nn.Linear)
    with torch.no_grad():
        model.head.weight.copy_(torch.cat([P, torch.zeros_like(P[:1])]))
        model.head.bias.copy_(affine.code(torch.zeros(PIXELS)))
        leave.weight.copy_(model.head.weight.mT)
        leave.bias.zero_()
        if arm.free:
            basis = torch.eye(traces.group.dim)
            rho.weight.copy_(affine.generator(basis).flatten(1).mT)
    return model


def fit(model: HomomorphismAutoencoder, traces: Traces, arm: Arm, seed: int) -> None:
    """Adam with a cosine; of a free φ at random, the bracket of some pairs of the basis besides."""
    basis, generator = torch.eye(traces.group.dim), torch.Generator().manual_seed(seed)
    factor = 10.0 if arm.random else 1.0
    groups = [
        {"params": group["params"], "lr": LEARNING_RATE * (factor if k else 1.0)}
        for k, group in enumerate(model.parameter_groups())
    ]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, arm.steps)
    for _ in range(arm.steps):
        rows = torch.randint(len(traces), (BATCH,), generator=generator)
        loss = model.loss(traces.observations[rows], traces.actions[rows])["loss"]
        if arm.random:
            first = torch.randint(len(basis), (BRACKETS,), generator=generator)
            other = torch.randint(1, len(basis), (BRACKETS,), generator=generator)
            pairs = basis[first], basis[(first + other) % len(basis)]
            loss = loss + defects.bracket_defect(model.representation, *pairs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def errors(model: HomomorphismAutoencoder, long: Traces, seen: Tensor) -> dict[str, float]:
    """Errors per pixel, whose variance is 1 over the digits, over whole chains of one kind."""
    o, actions, size = long.observations, long.actions, model.transition.size
    guess = model.rollout(o[:, :-1], actions.unsqueeze(2)).squeeze(2)
    error = (guess - o[:, 1:]).square().mean((0, 2))
    far = (model.rollout(o[:, 0], actions)[:, -1] - o[:, -1]).square().mean()
    # Of all codes of size m − 1 that are linear, the one that loses least of what was learned from.
    axes = torch.linalg.eigh(torch.cov(seen.mT))[1][:, PIXELS + 1 - size :]
    left = o[:, 1:] - seen.mean(0)
    return {
        "one_step_error": error.mean().item(),
        "one_step_floor": (left - left @ axes @ axes.mT).square().mean().item(),
        "last_step_error": error[-1].item(),
        "rollout_error": far.item(),
    }


@torch.no_grad()
def of_representation(model: HomomorphismAutoencoder, long: Traces) -> dict[str, float]:
    """How far ρ is from a homomorphism, and from ρ_true by the encoder, over noising steps."""
    of = metrics.action_defects(model.representation, long.actions)
    # The encoder, of matrix A on (x, 1), is to carry ρ_true into ρ.
    assert isinstance(model.head, nn.Linear)
    A = torch.cat([model.head.weight, model.head.bias.unsqueeze(-1)], -1)
    X = long.actions.flatten(0, 1)
    true = Defining(long.group)(X)
    moved = A @ (true - torch.eye(PIXELS + 1))
    gap = A @ true - model.representation(X) @ A
    return {
        "homomorphism_error_of_moves": of.homomorphism_of_moves,
        "composition_error": of.composition,
        "alignment_residual_of_moves": (gap.square().sum() / moved.square().sum()).item(),
    }


def once(digits: Digits, name: str, size: int, seed: int) -> dict[str, float]:
    """One run: built, trained on steps of one kind, and measured on whole chains of both."""
    arm, started = ARMS[name], time.monotonic()
    train = windows(digits.chains(arm.kind, CHAINS, 2 * seed))
    o = train.observations.flatten(0, 1)
    signal = (o - o.mean(0)).square().sum(1).mean().item() / 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(arm, size, train, signal)
    fit(model, train, arm, seed)
    long = {k: digits.chains(k, TESTED, 2 * seed + 1, test=True) for k in ("vp", "ddim")}
    found = of_representation(model, long["vp"][:20])
    for kind, chains in long.items():
        measured = errors(model, chains, o)
        found |= {f"{kind}_{measure}": value for measure, value in measured.items()}
    found["wall_seconds"] = time.monotonic() - started
    return found


def tables(runs: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Measure → size → arm → mean and spread over seeds, of ``runs`` by arm and "size, seed"."""
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, done in runs.items():
        for which, found in done.items():
            size = which.partition(",")[0]
            for measured, value in found.items():
                row = values.setdefault(measured, {}).setdefault(size, {})
                row.setdefault(name, []).append(value)
    return {
        measured: {
            size: {
                name: {
                    "mean": statistics.fmean(given),
                    "sd": statistics.stdev(given) if len(given) > 1 else None,
                }
                for name, given in row.items()
            }
            for size, row in sorted(rows.items(), key=lambda entry: -int(entry[0]))
        }
        for measured, rows in values.items()
    }
