"""The simple periodic picture on the flat torus: how often single runs fail, and restarts.

    python tests/benchmarks/simple_picture.py single|restarts [--output FILE.json]
        [--start components]

The picture (cos θ + cos φ)/2 of 64 × 64 pixels, translated at random, under a Gaussian of unit
variance. With the true decoder no ELBO exceeds −2048 log 2π + 2 log(e^{-512} I₀(512)) = −3772.05;
Pérez Rey et al. (2019), Table 2, report −3813.00 ± 5.16.

``single``: runs of 500 steps, judged by the determinant of the encoder's winding matrix: ±1 is a
homeomorphism. They begin at random weights, or where ``--start`` says. ``restarts``: master seeds,
1,000 steps each, going on from the best of R trials of 200 steps by training ELBO. What FILE has of
the same settings is kept, so that a run goes on where it was stopped.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import common
from scipy.special import ive
from tqdm import tqdm

from manifold_ae import run
from manifold_ae.experiments import STARTS, VAE
from manifold_ae.run.paper import winding_determinant

LIMIT = -2048 * math.log(2 * math.pi) + 2 * math.log(float(ive(0, 512)))
BASE = VAE(
    manifold="torus:2",
    data="torus",
    likelihood="gaussian",
    batch_size=128,
    steps_per_epoch=50,
    lr_schedule="one-cycle",
    kl_warmup=0.1,
)


def outcome(trained: run.VAERun, started: float, num_samples: int) -> dict[str, Any]:
    evaluated = trained.evaluate(num_samples=num_samples)
    return {
        "seed": trained.config.seed,
        "determinant": winding_determinant(trained),
        "elbo": evaluated["elbo"],
        "kl": evaluated["kl"],
        "mean_log_time": evaluated["mean_log_time"],
        "log_likelihood": evaluated["log_likelihood"],
        "num_samples": num_samples,
        "seconds": time.monotonic() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["single", "restarts"])
    parser.add_argument("--seeds", type=int, help="20 single runs or 10 master seeds by default")
    parser.add_argument("--restarts", type=int, default=8)
    parser.add_argument("--epochs", type=int, help="of 50 steps; 10 and 20 by default")
    parser.add_argument("--start", choices=STARTS[1:], default="random")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    base = BASE.replace(device=arguments.device, start=arguments.start)
    if arguments.what == "single":
        seeds = range(arguments.seeds or 20)
        single = base.replace(epochs=arguments.epochs or 10)
        configs = [single.replace(seed=seed) for seed in seeds]
    else:
        seeds = range(1000, 1000 + (arguments.seeds or 10))
        configs = [
            base.replace(
                epochs=arguments.epochs or 20,
                seed=seed,
                restarts=arguments.restarts,
                restart_epochs=min(4, arguments.epochs or 4),
            )
            for seed in seeds
        ]
    runs = kept(arguments.output, configs[0])
    for config in tqdm(configs, desc=arguments.what):
        if any(entry["seed"] == config.seed for entry in runs):
            continue
        started = time.monotonic()
        trained = run.train(config)
        runs.append(outcome(trained, started, 1 if arguments.what == "single" else 100))
        tqdm.write(str(runs[-1]))
        if arguments.output is not None:
            common.keep(arguments.output, summary(arguments.what, configs[0], runs))
    common.write(arguments.output, summary(arguments.what, configs[0], runs))


def settings(config: VAE) -> dict[str, Any]:
    """What a file is told from others by."""
    return {
        "start": config.start,
        "steps": config.epochs * config.steps_per_epoch,
        "restarts": config.restarts,
        "steps_of_a_trial": config.restart_epochs * config.steps_per_epoch,
    }


def kept(path: Path | None, config: VAE) -> list[dict[str, Any]]:
    """The runs of a file that is there, if it is of the same settings."""
    if path is None or not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    if not settings(config).items() <= content.items():
        raise SystemExit(f"{path} is of other settings than {settings(config)}: give another file")
    return content["runs"]


def summary(what: str, config: VAE, runs: list[dict[str, Any]]) -> dict[str, Any]:
    good = [abs(entry["determinant"] or 0) == 1 for entry in runs]
    elbos = {
        name: [entry["elbo"] for entry, ok in zip(runs, good, strict=True) if ok == wanted]
        for name, wanted in (("homeomorphisms", True), ("failures", False))
    }
    return {
        "command": f"python tests/benchmarks/simple_picture.py {what}"
        + (f" --start {config.start}" if config.start != "random" else ""),
        "machine": common.machine(config.device),
        "limit": LIMIT,
        "published_elbo": "-3813.00 ± 5.16",
        **settings(config),
        "homeomorphisms": sum(good),
        "of": len(good),
        "elbo": {name: common.spread(values) for name, values in elbos.items() if values},
        "runs": runs,
    }


if __name__ == "__main__":
    main()
