"""Cost of a posterior's part of a training step: sample and divergence, forward and backward.

    python tests/benchmarks/posterior.py [--device cpu] [--rounds 60] [--output FILE.json]

The exact one-step sampler with the exact divergence, against the walk of ten steps with the same
divergence, the power spherical law, the von Mises–Fisher law of the hyperspherical VAE (see
``von_mises_fisher``), and the Gaussian of a standard VAE. All contenders alternate in
one process; ratios are medians over rounds of the ratio within a round. ``log_prob`` is that of a
million pairs of points on S² at a million different times, in float32.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import torch
import von_mises_fisher
from step import timed
from torch import Tensor
from torch.distributions import kl_divergence

from manifold_ae.distributions import HeatKernel, PowerSpherical, RandomWalk, RiemannianUniform
from manifold_ae.manifolds import SO3, FlatTorus, Manifold, RealProjective, Sphere

BATCH = 640


def leaves(manifold: Manifold, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Locations, times and a fixed weight for the gradient of the sample."""
    torch.manual_seed(0)
    loc = manifold.random_uniform(BATCH, device=device).requires_grad_()
    log_time = torch.empty(BATCH, device=device).uniform_(-7, -2).exp().requires_grad_()
    return loc, log_time, torch.randn(BATCH, *manifold.ambient_shape, device=device)


def part(law: type, manifold: Manifold, device: torch.device) -> Callable[[], None]:
    loc, t, weight = leaves(manifold, device)
    prior = RiemannianUniform(manifold)

    def run() -> None:
        q = law(manifold, loc, t, validate_args=False)
        loss = (q.rsample() * weight).sum() + kl_divergence(q.limit, prior).sum()
        torch.autograd.grad(loss, (loc, t))

    return run


def von_mises(manifold: Manifold, device: torch.device) -> Callable[[], None]:
    loc, t, weight = leaves(manifold, device)

    def run() -> None:
        z, kl = von_mises_fisher.sample_and_divergence(loc, t)
        torch.autograd.grad((z * weight).sum() + kl.sum(), (loc, t))

    return run


def gaussian(device: torch.device) -> Callable[[], None]:
    torch.manual_seed(0)
    mean = torch.randn(BATCH, 2, device=device, requires_grad=True)
    log_variance = torch.randn(BATCH, 2, device=device, requires_grad=True)
    weight = torch.randn(BATCH, 2, device=device)

    def run() -> None:
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        torch.autograd.grad((z * weight).sum() + kl, (mean, log_variance))

    return run


def costs(device: torch.device, rounds: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for manifold in (Sphere(2), Sphere(5), SO3(), FlatTorus(2), RealProjective(3)):
        contenders = {
            "exact": part(HeatKernel, manifold, device),
            "walk of 10": part(RandomWalk, manifold, device),
            "gaussian": gaussian(device),
        }
        if isinstance(manifold, Sphere):
            contenders["power spherical"] = part(PowerSpherical, manifold, device)
            contenders["von Mises–Fisher"] = von_mises(manifold, device)
        for action in contenders.values():
            timed(action, device, 5)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, action in contenders.items():
                times[name].append(timed(action, device, 5))
        pairs = zip(times["exact"], times["walk of 10"], strict=True)
        result[manifold.spec] = {
            "exact over walk": statistics.median(a / b for a, b in pairs),
            **{f"{name}, ms": 1e3 * statistics.median(each) for name, each in times.items()},
        }
    return result


def million(device: torch.device) -> dict[str, float]:
    """Seconds for log q of a million pairs, a time each, log-uniform over all that is supported."""
    n, manifold = 1_000_000, Sphere(2)
    torch.manual_seed(0)
    x, y = manifold.random_uniform(n, device=device), manifold.random_uniform(n, device=device)
    t = torch.empty(n, device=device).uniform_(math.log(1e-6), math.log(1e2)).exp()
    q = HeatKernel(manifold, x, t, validate_args=False)
    seconds = []
    with torch.no_grad():
        q.log_prob(y)
        for _ in range(5):
            started = time.perf_counter()
            q.log_prob(y)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    return {"median": statistics.median(seconds), "least": min(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    common.write(
        arguments.output,
        {
            "command": "python tests/benchmarks/posterior.py",
            "machine": common.machine(arguments.device),
            "batch": BATCH,
            "von Mises–Fisher by": (
                "hyperspherical_vae" if von_mises_fisher.INSTALLED else "tests/benchmarks"
            ),
            "manifolds": costs(device, arguments.rounds),
            "seconds for a million log-densities on sphere:2": million(device),
        },
    )


if __name__ == "__main__":
    main()
