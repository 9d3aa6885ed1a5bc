"""From a file of 10,000 × 100 spike counts to its angles, by the two commands of the guide.

    python tests/benchmarks/counts.py --output docs/results/counts.json

The settings are the defaults. What is measured is all that a user waits for: training with its
evaluation and pictures, and encoding; by the clock, and in seconds of processor time, which do not
depend on what else the machine does. Angles are held against the true ones up to a shift and a
reflection, on the rows that were held out; beside them stand those of the model's own posterior
(``encode --refined``, timed apart), of two principal components, circular coordinates, and the
decoder that knows the tuning curves, whose error none can beat in the mean square.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, spread, write
from torch import Tensor

from manifold_ae import data, metrics

CELLS = 100


def angular_errors(found: Tensor, true: Tensor) -> Tensor:
    """Differences of angles ``(n,)`` in degrees, once shift and direction are as they fit best."""
    best: list[Tensor] = []
    for sign in (1, -1):
        turn = torch.exp(1j * (found - sign * true))
        middle = turn.mean()
        best.append(torch.angle(turn / middle).abs() * (180 / math.pi))
    return min(best, key=lambda errors: errors.square().mean().item())


def rms(values: Tensor) -> float:
    return values.square().mean().sqrt().item()


def optimal_angles(recording: data.Simulation, rows: Tensor, points: int = 720) -> Tensor:
    """Circular means of p(angle | counts) under the true tuning curves, on a grid."""
    grid = torch.linspace(-math.pi, math.pi, points + 1, dtype=torch.float64)[:-1]
    assert recording.tuning is not None
    rates = recording.tuning(torch.stack([grid.cos(), grid.sin()], -1))
    log_p = recording.x[rows].double() @ rates.log().T - rates.sum(-1)
    return torch.angle(log_p.softmax(-1).to(torch.complex128) @ torch.exp(1j * grid))


def command(*arguments: str) -> tuple[float, float]:
    """Run ``manifold-ae``; seconds by the clock, and of processor time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "manifold_ae", *arguments], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return time.perf_counter() - start, used


def one(seed: int, rows: int, folder: Path, options: list[str]) -> dict[str, Any]:
    recording = data.simulate("ring", rows, cells=CELLS, seed=seed)
    assert recording.angles is not None
    counts, run, angles = folder / "counts.npy", folder / "run", folder / "angles.npz"
    np.save(counts, recording.x.numpy().astype(np.int64))
    train = ["train", "vae", "--manifold", "circle", "--data", str(counts)]
    train += ["--likelihood", "poisson", "--seed", str(seed), "--out", str(run), "--quiet"]
    trained, used = command(*train, *options)
    encoded, more = command("encode", str(run), "--data", str(counts), "-o", str(angles))
    parts = np.load(run / "latents.npz")
    test = torch.from_numpy(parts["rows"][parts["part"] == "test"])
    true = recording.angles[:, 0].double()[test]
    ours = np.load(angles)
    errors = angular_errors(torch.from_numpy(ours["angles"][:, 0]).double()[test], true)
    refining, _ = command("encode", str(run), "--data", str(counts), "--refined", "-o", str(angles))
    refined = np.load(angles)
    gaps = angular_errors(torch.from_numpy(refined["angles"][:, 0]).double()[test], true)
    held = gaps <= torch.from_numpy(refined["radius"]).double()[test].rad2deg()
    optimal = angular_errors(optimal_angles(recording, test), true)
    radius = torch.from_numpy(ours["standard_deviation"]).double()[test].rad2deg()
    roots, others = recording.x.sqrt(), {}
    fitted = torch.from_numpy(parts["rows"][parts["part"] != "test"])
    for name, fit in (
        ("pca", metrics.PrincipalAngles.fit),
        ("circular_coordinates", metrics.CircularCoordinates.fit),
    ):
        try:
            found = fit(roots[fitted])(roots[test])[:, 0]
        except ModuleNotFoundError as error:  # of an extra
            print(f"{name} left out: {error}", file=sys.stderr)
            continue
        others[f"rms_error_of_{name}"] = rms(angular_errors(found, true))
    return {
        "seed": seed,
        "training_seconds": trained,
        "encoding_seconds": encoded,
        "processor_seconds": used + more,
        "refining_seconds": refining,
        "rms_error_degrees": rms(errors),
        "rms_radius_degrees": rms(radius),
        "rms_error_refined": rms(gaps),
        "held_by_90_percent_regions": held.double().mean().item(),
        **others,
        "rms_error_of_the_optimal_decoder": rms(optimal),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument(
        "--option", action="append", default=[], help="of train vae, as --epochs=50"
    )
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    runs = []
    for seed in range(100, 100 + arguments.seeds):  # 0 to 99 are for trying things out
        with tempfile.TemporaryDirectory() as folder:
            runs.append(one(seed, arguments.rows, Path(folder), arguments.option))
    figures = {name: spread([run[name] for run in runs]) for name in runs[0] if name != "seed"}
    write(
        arguments.output,
        {
            "machine": machine("cpu") | {"load": round(os.getloadavg()[2], 1)},
            "rows": arguments.rows,
            "cells": CELLS,
            "figures": [figures],
            "runs": runs,
        },
    )


if __name__ == "__main__":
    main()
