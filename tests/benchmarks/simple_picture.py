"""The simple periodic picture on the flat torus: how often single runs fail, and restarts.

    python tests/benchmarks/simple_picture.py [--output docs/results/simple_picture.json]

The picture (cos θ + cos φ)/2 of 64 × 64 pixels, translated at random, under a Gaussian of unit
variance. With the true decoder no ELBO exceeds −2048 log 2π + 2 log(e^{-512} I₀(512)) = −3772.05;
Pérez Rey et al. (2019), Table 2, report −3813.00 ± 5.16.

Single runs of 500 steps are judged by the determinant of the encoder's winding matrix: ±1 is a
homeomorphism. Then three master seeds run 3,000 steps, each going on from the best of R trials by
training ELBO.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import common
import torch
from scipy.special import ive
from tqdm import tqdm

from manifold_ae import data, metrics, run
from manifold_ae.experiments import VAE

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


def determinant(trained: run.Run) -> int | None:
    """Of the winding matrix; None where the encoder is discontinuous."""
    picture = data.PeriodicPicture.simple()

    def encode(angles: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(trained.encode(picture.translate(angles))["points"])

    try:
        winding = metrics.winding_matrix(encode, trained.model.manifold, 2)  # type: ignore[arg-type]
    except ValueError:
        return None
    return round(torch.linalg.det(winding.double()).item())


def outcome(trained: run.Run, started: float, num_samples: int) -> dict[str, Any]:
    evaluated = trained.evaluate(num_samples=num_samples)
    return {
        "seed": trained.config.seed,
        "determinant": determinant(trained),
        "elbo": evaluated["elbo"],
        "kl": evaluated["kl"],
        "mean_log_time": evaluated["mean_log_time"],
        "log_likelihood": evaluated["log_likelihood"],
        "num_samples": num_samples,
        "seconds": time.monotonic() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="single runs")
    parser.add_argument("--masters", type=int, default=3, help="runs with restarts")
    parser.add_argument("--restarts", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    base = BASE.replace(device=arguments.device)

    single = []
    for seed in tqdm(range(arguments.seeds), desc="single runs"):
        started = time.monotonic()
        trained = run.train(base.replace(epochs=10, seed=seed))
        single.append(outcome(trained, started, 1))
        tqdm.write(str(single[-1]))
    restarted = []
    for seed in tqdm(range(arguments.masters), desc="restarts"):
        started = time.monotonic()
        config = base.replace(
            epochs=60, seed=1000 + seed, restarts=arguments.restarts, restart_epochs=4
        )
        trained = run.train(config)
        restarted.append(outcome(trained, started, 100))
        tqdm.write(str(restarted[-1]))
    good = [abs(entry["determinant"] or 0) == 1 for entry in single]
    common.write(
        arguments.output,
        {
            "command": "python tests/benchmarks/simple_picture.py",
            "machine": common.machine(str(trained.device)),
            "limit": LIMIT,
            "published_elbo": "-3813.00 ± 5.16",
            "single_runs": {
                "steps": 500,
                "homeomorphisms": sum(good),
                "of": len(good),
                "elbo_of_homeomorphisms": common.spread(
                    [entry["elbo"] for entry, ok in zip(single, good, strict=True) if ok]
                ),
                "elbo_of_failures": common.spread(
                    [entry["elbo"] for entry, ok in zip(single, good, strict=True) if not ok]
                ),
                "runs": single,
            },
            "with_restarts": {
                "steps": 3000,
                "restarts": arguments.restarts,
                "steps_of_a_trial": 200,
                "runs": restarted,
            },
        },
    )


if __name__ == "__main__":
    main()
