"""Cost of the exact divergence on quotients that look different from different points.

    python tests/benchmarks/cubature.py [--rounds 9] [--output FILE.json]

A batch of points at a time when their images have met, so that all of them are integrated. Beside
the cubature stands, in the same process, Monte Carlo by the exact sampler. The error of the
cubature is that against a rule of a quarter more points in each direction. Monte Carlo at the same
error takes (s/e)² samples, with s the standard deviation of one, and e the accuracy that the
cubature states: 1e-6 in two dimensions, 5e-5 in three. Times are those of the processor, of one
thread; ratios are medians over rounds of the ratio within a round.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from torch import Tensor

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RiemannianUniform
from manifold_ae.heat import cubature
from manifold_ae.manifolds import FlatTorus, Product, Quotient, Sphere

BATCH, SAMPLES = 16, 2000
#: What the cubature states of its error, by the dimension.
STATED = {2: 1e-6, 3: 5e-5}


def turns(*angles: float) -> np.ndarray:
    """A rotation of the planes of consecutive pairs of coordinates."""
    matrix = np.zeros((2 * len(angles), 2 * len(angles)))
    for k, angle in enumerate(angles):
        c, s = math.cos(angle), math.sin(angle)
        matrix[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[c, -s], [s, c]]
    return matrix


def quotients() -> dict[str, tuple[Quotient, float]]:
    """Each with a time at which the images of a point have met, and are not yet mixed."""
    back = [1.0, -1.0]
    screws = [
        turns(math.pi, 0, math.pi) @ np.diag([1, 1, *back, *back]),
        turns(0, math.pi, 0) @ np.diag([*back, 1, 1, *back]) @ turns(math.pi, 0, 0),
    ]
    glide = np.diag([-1.0, -1.0, 1.0, -1.0])
    spin = turns(2 * math.pi / 5, 4 * math.pi / 5)
    return {
        "flat, by a glide": (Quotient(FlatTorus(2), [glide]), 0.5),
        "flat, by two screws": (Quotient(FlatTorus(3), screws), 0.5),
        "S2 x S1, by x -> -x": (Quotient(Product(Sphere(2), FlatTorus(1)), [-np.eye(5)]), 0.5),
        "lens space L(5, 2)": (Quotient(Sphere(3), [spin]), 0.2),
    }


def seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def measured(quotient: Quotient, t: float, rounds: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    x = quotient.random_uniform(BATCH, generator=generator, dtype=torch.float64)
    times = torch.full((BATCH, *quotient.time_shape), t, dtype=x.dtype)
    points = cubature.POINTS[quotient.dim]
    leaf, moment = x.clone().requires_grad_(), times.clone().requires_grad_()
    q = HeatKernel(quotient, x, times)
    prior = RiemannianUniform(quotient)

    def value() -> Tensor:
        return cubature.by_cubature(quotient, x, times)

    def with_slopes() -> Tensor:
        total = cubature.by_cubature(quotient, leaf, moment).sum()
        return torch.autograd.grad(total, (leaf, moment))[1]

    def monte_carlo() -> tuple[Tensor, Tensor]:
        return heat.kl_monte_carlo(q, prior, SAMPLES, generator=generator)

    fine = cubature.by_cubature(quotient, x, times, points * 5 // 4)
    error = (value() - fine).abs().max().item()
    estimate, deviation = monte_carlo()
    # Of the largest of 16 standard normals, 5 is beyond one in 10⁵.
    score = ((estimate - fine) / deviation).abs().max().item()
    if score > 5:
        raise ArithmeticError(f"{quotient!r}: Monte Carlo is {score:.1f} standard errors off")
    needed = SAMPLES * (deviation.square().mean().item() / STATED[quotient.dim] ** 2)
    found: dict[str, list[float]] = {"cubature": [], "slopes": [], "sampled": []}
    with_slopes()
    for _ in range(rounds):
        for name, action in zip(found, (value, with_slopes, monte_carlo), strict=True):
            found[name].append(seconds(action))
    ratio = statistics.median(
        a / b for a, b in zip(found["cubature"], found["sampled"], strict=True)
    )
    return {
        "dimension": quotient.dim,
        "order": quotient.order,
        "time": t,
        "milliseconds_a_point": 1e3 * statistics.median(found["cubature"]) / BATCH,
        "with_slopes": 1e3 * statistics.median(found["slopes"]) / BATCH,
        "error": error,
        "over_monte_carlo_at_the_stated_error": ratio * SAMPLES / needed,
        "error_of_monte_carlo_in_the_same_time": math.sqrt(
            deviation.square().mean().item() / ratio
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    common.write(
        arguments.output,
        {
            "command": "python tests/benchmarks/cubature.py",
            "machine": common.machine("cpu"),
            "batch": BATCH,
            "quotients": {
                name: measured(quotient, t, arguments.rounds)
                for name, (quotient, t) in quotients().items()
            },
        },
    )


if __name__ == "__main__":
    main()
