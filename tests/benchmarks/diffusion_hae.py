"""Diffusion steps as actions of a group, learned by homomorphism autoencoders, over seeds.

    python tests/benchmarks/diffusion_hae.py points FILE.json [--seeds 5]    blobs: what is learned
    python tests/benchmarks/diffusion_hae.py gaussian FILE.json [--seeds 5]  vectors: the oracle
    python tests/benchmarks/diffusion_hae.py digits FILE.json [--seeds 5]    sizes of the latent
    python tests/benchmarks/diffusion_hae.py pictures FILE.json              what ρ costs at 28×28

Every run is written as soon as it ends, and is not made again when the command is repeated. One
thread a process.
"""

import time
from pathlib import Path
from typing import Any

import click
import digits_hae
import pictures_hae
import torch
from common import machine, write
from hae import read, summarise
from tqdm import tqdm

from manifold_ae import metrics, run
from manifold_ae.data import Traces
from manifold_ae.data.worlds import Diffusion, GaussianDiffusion
from manifold_ae.experiments import HAE
from manifold_ae.groups import LearnedRepresentation
from manifold_ae.models import HomomorphismAutoencoder, likelihoods
from manifold_ae.run.files import write_json

#: Eight Gaussians, 50 steps, traces of three; what the runs have in common.
POINTS: dict[str, Any] = {
    "data": "diffusion", "traces": 6000, "steps": 3, "epochs": 15, "restarts": 1, "lr": 2e-3,
    "horizon": 50, "num_rollouts": 200,
    "encoder_hidden": (128, 128), "decoder_hidden": (128, 128),
}  # fmt: skip
VE, DDIM, MOONS = ({"world": (option,)} for option in ("kind=ve", "kind=ddim", "points=moons"))
#: A perceptron as Keurti et al. have it, with nothing beside it and no end of its own.
PLAIN = {"phi": "mlp", "phi_activation": "relu", "phi_skip": False, "settle_steps": 0}
#: The name of a run → what differs.
RUNS: dict[str, dict[str, Any]] = {
    "VP, linear φ": {},
    "VP, perceptron φ": PLAIN,
    "VP, perceptron φ, scrambled actions": {**PLAIN, "scramble": 1},
    "VP, rotations only": {"orthogonal": True},
    "VP, unstructured": {"model": "unstructured"},
    "VE, linear φ": VE,
    "VE, rotations only": {**VE, "orthogonal": True},
    "DDIM, linear φ": DDIM,
    "VP on moons, linear φ": MOONS,
}


def points(name: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """What is measured of one run; the scramble is another for each seed."""
    changes = {**POINTS, **RUNS[name]}
    if "scramble" in changes:
        changes["scramble"] = seed + 1
    config = HAE(seed=seed, device="cpu").replace(**changes).replace(**settings)
    trained = run.train(config)
    found = trained.evaluate()
    long = trained.long_traces()
    rollout = found["rollout_error"] = found["rollout"]["prediction"][-1]
    single = single_steps(trained, long)
    found["one_step_error"], found["last_step_error"] = single.mean().item(), single[-1].item()
    found["rollout_over_one_step"] = rollout / found["one_step_error"]
    found["rollout_over_last_step"] = rollout / found["last_step_error"]
    if name.startswith("VP"):
        # Elements of the same group, from a process that was never seen.
        other = Diffusion(kind="ddim").traces(200, 50, torch.Generator().manual_seed(7))
        guess = trained.rollout(other.observations[:, 0], other.actions)
        error = (guess - other.observations[:, 1:]).square().flatten(2).mean((0, 2))
        found["ddim_one_step_error"] = single_steps(trained, other).mean().item()
        for step in (10, 25, 50):
            found[f"ddim_error_after_{step}"] = error[step - 1].item()
    return found


def single_steps(trained: run.HAERun, traces: Traces) -> torch.Tensor:
    """Errors of every step of traces when each is predicted from the one before it, ``(T,)``."""
    before, after = traces.observations[:, :-1], traces.observations[:, 1:]
    guess = trained.rollout(before, traces.actions.unsqueeze(2)).squeeze(2)
    return (guess - after).square().flatten(2).mean((0, 2))


def fit_gaussian(
    seed: int, *, traces: int = 200, rounds: int = 4, length: int = 50
) -> tuple[HomomorphismAutoencoder, dict[str, Any]]:
    """A linear encoder and a linear φ on Gaussian vectors under DDIM steps, in float64.

    Returns:
        The model, and how far its ρ is from the affine maps that the steps are.
    """
    world = GaussianDiffusion(length=length)
    data = world.traces(traces, 3, torch.Generator().manual_seed(seed))
    long = world.traces(20, world.length, torch.Generator().manual_seed(seed + 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        n = world.shape[0]
        rho = LearnedRepresentation(world.group, n + 1, orthogonal=False)
        model = HomomorphismAutoencoder(
            torch.nn.Linear(n, n + 1),
            torch.nn.Linear(n + 1, n),
            rho,
            likelihoods.Gaussian(world.shape),
            penalties={"bracket": 1.0},
        ).double()
    o, actions = data.observations.double(), data.actions.double()
    started = time.monotonic()
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=250, history_size=50, line_search_fn="strong_wolfe",
        tolerance_grad=1e-14, tolerance_change=1e-18,
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = model.loss(o, actions)["loss"]
        loss.backward()
        return loss

    for _ in range(rounds):
        optimiser.step(closure)
    assert world.truth is not None
    steps, chain = actions.flatten(0, 1), long.actions.double()
    with torch.no_grad():
        # Of what solves A ρ_true = ρ A nearly, only the best: there is nothing but rounding.
        aligned = metrics.align_matrices(rho(steps), world.truth(steps), tolerance=1e-9)
        rollout = metrics.evaluate_rollout(
            model, long.observations.double(), chain, horizons=(1, world.length)
        )
    defects = metrics.action_defects(rho, chain)
    return model, {
        "alignment_residual": aligned.residual,
        "alignment_condition": aligned.condition,
        "alignment_residual_of_moves": metrics.residual_of_moves(aligned, world.truth(steps)),
        "homomorphism_error": defects.homomorphism,
        "homomorphism_error_of_moves": defects.homomorphism_of_moves,
        "composition_error": defects.composition,
        "one_step_error": rollout.prediction[0],
        "rollout_error": rollout.prediction[-1],
        "wall_seconds": time.monotonic() - started,
    }


#: What is summarised, of what a run has.
SUMMARY = (
    "homomorphism_error", "homomorphism_error_of_moves", "composition_error", "alignment_residual",
    "alignment_residual_of_moves", "alignment_condition", "equivariance_error", "identity_error",
    "one_step_error", "last_step_error", "rollout_error", "rollout_over_one_step",
    "rollout_over_last_step", "ddim_one_step_error", "ddim_error_after_10",
    "ddim_error_after_25", "ddim_error_after_50", "seconds", "wall_seconds",
)  # fmt: skip


@click.group()
def main() -> None:
    """See the module's docstring."""
    torch.set_num_threads(1)


@main.command("points")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--seeds", default=5, show_default=True)
@click.option("--name", "names", multiple=True, help="Only runs of this name.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="For a trial.")
def points_command(
    path: Path, seeds: int, names: tuple[str, ...], settings: tuple[str, ...]
) -> None:
    """Points seen as blobs: linear and perceptron φ, and what they are compared with."""
    content, given = read(path), dict(HAE.parse_setting(s) for s in settings)
    jobs = [(seed, name) for seed in range(seeds) for name in names or RUNS]
    for seed, name in tqdm(jobs, unit="run"):
        done = content["runs"].setdefault(name, {})
        if str(seed) in done:
            continue
        started = time.monotonic()
        done[str(seed)] = points(name, seed, given)
        done[str(seed)]["wall_seconds"] = time.monotonic() - started
        summarise(content, SUMMARY)
        write_json(path, content)


@main.command("gaussian")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--seeds", default=5, show_default=True)
def gaussian_command(path: Path, seeds: int) -> None:
    """Gaussian vectors under DDIM steps, where every step is one affine map."""
    content = read(path)
    for seed in tqdm(range(seeds), unit="run"):
        done = content["runs"].setdefault("linear encoder, linear φ", {})
        if str(seed) not in done:
            done[str(seed)] = fit_gaussian(seed)[1]
            summarise(content, SUMMARY)
            write_json(path, content)


@main.command("digits")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--seeds", default=5, show_default=True)
@click.option("--first", default=0, show_default=True, help="The first seed; from 100 on, trials.")
@click.option("--name", "names", multiple=True, help="Only runs of this name.")
@click.option("--size", "sizes", multiple=True, type=int, help="Only latents of this size.")
def digits_command(
    path: Path, seeds: int, first: int, names: tuple[str, ...], sizes: tuple[int, ...]
) -> None:
    """Digits under diffusion steps: how small a latent can be."""
    content = read(path)
    digits = digits_hae.Digits.load()
    jobs = [
        (seed, name, size)
        for seed in range(first, first + seeds)
        for name in names or digits_hae.ARMS
        for size in digits_hae.ARMS[name].sizes
        if not sizes or size in sizes
    ]
    for seed, name, size in tqdm(jobs, unit="run"):
        done = content["runs"].setdefault(name, {})
        if f"{size}, {seed}" in done:
            continue
        done[f"{size}, {seed}"] = digits_hae.once(digits, name, size, seed)
        content |= {"seeds": first + seeds, "denoiser": digits.reached}
        content |= digits_hae.tables(content["runs"])
        write_json(path, content)


@main.command("pictures")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--rounds", default=60, show_default=True)
@click.option("--threads", default=1, show_default=True)
def pictures_command(path: Path, rounds: int, threads: int) -> None:
    """What ρ costs on pictures of 28×28 pixels, beside the same network without it."""
    torch.set_num_threads(threads)
    write(path, {"machine": machine("cpu"), **pictures_hae.cost(rounds)})


if __name__ == "__main__":
    main()
