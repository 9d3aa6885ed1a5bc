"""How long the sphere waits on a plateau, over the simple picture of the paper's table 2.

    python tests/benchmarks/sphere_plateau.py [--output docs/results/sphere_plateau.json]

Two runs of half the batch and two or three times the steps of the quick preset of that time: the
training ELBO as it goes, and the figures on test pictures, beside the published value.
"""

import argparse
from pathlib import Path
from typing import Any

import common
import torch

from manifold_ae import run
from manifold_ae.experiments import VAE
from manifold_ae.experiments.paper import TABLES

#: Steps an epoch and epochs, by the seed of a run.
RUNS = {777: (100, 15), 778: (150, 8)}
ABOUT = VAE(
    manifold="sphere:2",
    data="torus",
    likelihood="gaussian",
    batch_size=64,
    lr_schedule="one-cycle",
    kl_warmup=0.1,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", type=float, default=1.0, help="of the steps, to try it out")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    mean, sd = TABLES["table2"].published["sphere:2"].elbo
    content: dict[str, Any] = {
        "command": "python tests/benchmarks/sphere_plateau.py"
        + f" --part {arguments.part}" * (arguments.part != 1),
        "machine": common.machine(arguments.device),
        "published_elbo": {"mean": mean, "sd": sd},
        "on test pictures": {},
    }
    for seed, (steps, epochs) in RUNS.items():
        config = ABOUT.replace(
            steps_per_epoch=max(1, round(arguments.part * steps)),
            epochs=epochs,
            seed=seed,
            device=arguments.device,
        )
        trained = run.train(config, progress=True)
        count = config.steps_per_epoch * epochs
        found = trained.evaluate(num_samples=1)  # the ELBO does not depend on them
        content["on test pictures"][f"{count} steps, seed {seed}"] = {
            name: found[name] for name in ("elbo", "kl", "mse")
        }
        content[f"training ELBO, {count} steps"] = {
            str(config.steps_per_epoch * row["epoch"]): row["elbo"] for row in trained.history
        }
    common.write(arguments.output, content)


if __name__ == "__main__":
    main()
