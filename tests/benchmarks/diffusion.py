"""Diffusion steps as elements of a group: the identities, and what composing them costs.

    python tests/benchmarks/diffusion.py [--device cpu] [--rounds 5] [--output FILE.json]
                                         [--only identities|speed]    the other part stays as it is

Errors are largest differences, relative to the largest entry or to 1. The time is that of 1,000
steps on 500 pictures of 784 pixels: composed and applied, from a stored chain (1.6 GB in float32),
or as the steps come, of which none is kept.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from common import machine, write
from torch import Tensor

from manifold_ae import diffusion
from manifold_ae.diffusion import GaussianAffineLaw, Schedule, ddim_step, ddpm_step, exact, samplers
from manifold_ae.groups import Affine, ScaleTranslation

DOUBLE = torch.float64
SCHEDULES = {
    "linear": Schedule.linear(1000),
    "scaled-linear": Schedule.scaled_linear(1000),
    "cosine": Schedule.cosine(1000),
}


def gap(x: Tensor, y: Tensor) -> float:
    return ((x - y).abs().max() / y.abs().max().clamp_min(1)).item()


# ---- identities ---------------------------------------------------------------------------------


def recurrence(
    schedule: Schedule, x: Tensor, denoiser: diffusion.Denoiser, eta: float, noises: Tensor
) -> Tensor:
    """DDIM over all times as Song et al. print it (eq. 12), by the predicted clean data."""
    for k, (t, s) in enumerate(pairwise(range(schedule.steps, -1, -1))):
        late, early = schedule.alpha_bar[t], schedule.alpha_bar[s]
        sigma = eta * ((1 - early) / (1 - late)).sqrt() * (1 - late / early).sqrt()
        predicted = denoiser(x, t)
        clean = (x - (1 - late).sqrt() * predicted) / late.sqrt()
        direction = (1 - early - sigma**2).clamp_min(0).sqrt() * predicted
        x = early.sqrt() * clean + direction + sigma * noises[k]
    return x


def identities(schedule: Schedule) -> dict[str, float]:
    """Largest errors, in float64, on a mixture in eight dimensions."""
    generator = torch.Generator().manual_seed(0)
    n, steps = 8, schedule.steps
    means, x = torch.randn(2, 5, n, generator=generator, dtype=DOUBLE)
    denoiser = exact.mixture(means, torch.full((5, n), 0.2), schedule)
    noises = torch.randn(steps, 5, n, generator=generator, dtype=DOUBLE)
    G, found = ScaleTranslation(n), {}
    for eta in (0.0, 1.0):
        y = x
        for k, (t, s) in enumerate(pairwise(range(steps, -1, -1))):
            y = G.act(ddim_step(schedule, t, s, denoiser(y, t), eta, noises[k]), y)
        expected = recurrence(schedule, x, denoiser, eta, noises)
        found[f"1,000 DDIM steps against the recurrence, η = {eta:g}"] = gap(y, expected)
    pairs = [
        (ddim_step(schedule, t, t - 1, x, 1.0, noises[0]), ddpm_step(schedule, t, x, noises[0]))
        for t in range(1, steps + 1)
    ]
    found["DDIM with η = 1 against DDPM with β̃"] = max(gap(g, h) for g, h in pairs)

    noising = samplers.vp_chain(schedule, x, generator=generator)
    found["1,000 noising steps as one element"] = gap(G.act(noising.element, x), noising.end)
    scanned = diffusion.cumulative(noising.elements)
    found["the same by a scan, all prefixes"] = max(
        gap(G.act(scanned[:, k], x), noising.states[:, k + 1]) for k in range(steps)
    )
    law = GaussianAffineLaw.identity(n, DOUBLE)
    for t in range(1, steps + 1):
        law = GaussianAffineLaw.vp(schedule, t, n) @ law
    signal = schedule.alpha_bar[-1]
    found["the law of 1,000 noising steps"] = max(
        gap(law.variance, 1 - signal), gap(law.scale, signal.sqrt())
    )

    chain = samplers.ddim_chain(denoiser, schedule, x)
    found["1,000 DDIM steps as one element"] = gap(G.act(chain.element, x), chain.end)
    # Scales 1/√ᾱ_T of 157, 15 and 20,000: s x and b cancel all but the data.
    away = torch.linalg.vector_norm(G.act(chain.element, x) - chain.end, dim=-1)
    away = away / torch.linalg.vector_norm(chain.end, dim=-1)
    kappa = chain.condition
    found["its condition number"] = kappa.max().item()
    found["its error in roundings, over the condition number"] = (
        away / kappa
    ).max().item() / torch.finfo(DOUBLE).eps
    returned = chain.inverse()
    found["the way back as one element"] = gap(G.act(returned.element, returned.start), x)
    found["replay"] = gap(diffusion.replay(chain.elements, x)[:, -1], chain.end)
    back = diffusion.replay(chain.inverse().elements, chain.end)[:, -1]
    found["inversion by the inverse elements"] = gap(back, x)
    times = schedule.times(100)
    end = samplers.ddim(denoiser, schedule, x, times)
    found["inversion of the map, 100 steps"] = gap(
        samplers.ddim_inversion(denoiser, schedule, end, times), x
    )

    a = torch.randn(n, n, generator=generator, dtype=DOUBLE)
    covariance = a @ a.mT / n + 0.1 * torch.eye(n)
    gaussian = exact.gaussian(means[0], covariance, schedule)
    one = diffusion.gaussian_chain(schedule, range(steps, -1, -1), means[0], covariance)
    end = samplers.ddim(gaussian, schedule, x)
    found["Gaussian data: 1,000 steps as one map for all states"] = gap(Affine(n).act(one, x), end)
    return found


# ---- speed --------------------------------------------------------------------------------------


def timed(run: Callable[[], object], rounds: int, device: str) -> dict[str, float]:
    """Median seconds, by the clock and of the processor, after one round that is not counted."""
    clock, processor = [], []
    for _ in range(rounds + 1):
        start, used = time.perf_counter(), time.process_time()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return {"clock": statistics.median(clock[1:]), "processor": statistics.median(processor[1:])}


def speed(device: str, rounds: int, steps: int = 1000, pictures: int = 500) -> dict[str, Any]:
    """Seconds for 1,000 elements on 500 pictures of 784 pixels."""
    pixels = 784
    schedule, G = Schedule.linear(steps), ScaleTranslation(pixels)
    like = {"device": device, "dtype": torch.float32}
    x = torch.randn(pictures, pixels, **like)
    # The same noise in every step: drawing it is not what is measured.
    noise = torch.randn(pictures, pixels, **like)
    elements = torch.empty(pictures, steps, pixels + 1, **like)
    for k in range(steps):
        elements[:, k] = diffusion.vp_step(schedule, k + 1, noise)

    def stepwise() -> Tensor:
        y = x
        for k in range(steps):
            y = G.act(elements[:, k], y)
        return y

    def streamed() -> Tensor:
        product = G.identity(pictures, **like)
        for k in range(steps):
            product = G.compose(diffusion.vp_step(schedule, k + 1, noise), product)
        return G.act(product, x)

    one = diffusion.compose(elements)
    error = gap(G.act(one, x), stepwise())
    return {
        "composed and applied": timed(
            lambda: G.act(diffusion.compose(elements), x), rounds, device
        ),
        "the composed element alone, applied": timed(lambda: G.act(one, x), rounds, device),
        "steps applied one by one": timed(stepwise, rounds, device),
        "steps made, and composed as they come": timed(streamed, min(rounds, 2), device),
        "difference of composed and one by one, float32": error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", choices=["identities", "speed"])
    arguments = parser.parse_args()
    content: dict[str, Any] = {"machine": machine(arguments.device)}
    if arguments.only is not None and arguments.output is not None and arguments.output.exists():
        content = json.loads(arguments.output.read_text(encoding="utf-8"))
    if arguments.only != "speed":
        rows = {name: identities(schedule) for name, schedule in SCHEDULES.items()}
        content["largest relative error, float64"] = rows
    if arguments.only != "identities":
        seconds = speed(arguments.device, arguments.rounds)
        content["seconds, 1,000 steps on 500 pictures of 784 pixels"] = seconds
    write(arguments.output, content)


if __name__ == "__main__":
    main()
