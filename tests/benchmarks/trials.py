"""How often the best of so many trials is folded: axes without a sign, on the projective plane.

    python tests/benchmarks/trials.py [--first 100] [--seeds 23] [--output FILE.json]

A candidate of ``select`` is trained as there, with five trials and with twelve. Latents that reach
less than nine tenths of the plane's volume are those of a folded map: uniform ones reach 95 %. Of
seeds from 100 on, by which constants may be chosen; those of ``selection.py`` begin at 0.
"""

import argparse
from pathlib import Path
from typing import Any

import common
import torch
from selection import asked
from tqdm import tqdm

from manifold_ae import manifolds
from manifold_ae.run.seeds import spread
from manifold_ae.run.selection.judging import Judge

KIND, NAME, RESTARTS = "axis", "projective:2", (5, 12)
FULL = 0.9


def one(seed: int, restarts: int) -> dict[str, Any]:
    """A candidate's record."""
    config, dataset = asked(KIND, seed, 2000, {"test_fraction": 0.25, "restarts": restarts})
    record = Judge(config, dataset, None)(NAME, manifolds.parse(NAME)).record
    kept = ("train_elbo", "log_likelihood", "coverage", "hole")
    return {"seed": seed, "restarts": restarts} | {key: record[key] for key in kept}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    table = {}
    for restarts in RESTARTS:
        own = [run for run in runs if run["restarts"] == restarts]
        folded = [run["seed"] for run in own if run["coverage"] < FULL]
        elbo = spread([run["train_elbo"] for run in own])
        table[f"{restarts} trials"] = {"folded": len(folded), "of": len(own), "elbo": elbo}
        table[f"{restarts} trials"]["seeds folded"] = ", ".join(map(str, folded)) or "none"
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=23)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(options.first, options.first + options.seeds)
    jobs = [(seed, restarts) for seed in seeds for restarts in RESTARTS]
    runs = [one(*job) for job in tqdm(jobs, unit="run")]
    common.write(
        options.output,
        {"machine": common.machine("cpu"), "table": summary(runs), "runs": runs},
    )


if __name__ == "__main__":
    main()
