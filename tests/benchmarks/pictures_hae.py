"""What ρ costs on pictures of 28×28 pixels. What ``diffusion_hae.py pictures`` runs.

Steps of training alternate in one process, so that drift of the machine's speed cancels in the
ratios; the median over rounds of the ratio within a round is reported, by the clock and by the time
of the processor, which other processes disturb less. The peer is the same network
without ρ: latents stay where they are, and all the rest is done.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from manifold_ae import data
from manifold_ae.data import Traces
from manifold_ae.diffusion import Schedule
from manifold_ae.groups import AffineRepresentation, Defining
from manifold_ae.models import HomomorphismAutoencoder
from manifold_ae.models.transitions import Still
from manifold_ae.nn import MLP
from manifold_ae.training import make_optimizer

SHAPE, HIDDEN, STEPS = (28, 28), (512, 512), 3


def picture_traces(count: int, seed: int = 0) -> Traces:
    """Digits enlarged to 28×28 pixels under noising steps."""
    digits = data.load("digits").train[:count].view(-1, 1, 8, 8)
    x = torch.nn.functional.interpolate(digits, SHAPE, mode="bilinear").squeeze(1)
    low, high = x.amin(), x.amax()
    generator = torch.Generator().manual_seed(seed)
    return data.diffusion_traces(
        "vp", 2 * (x - low) / (high - low) - 1, Schedule.linear(), steps=STEPS,
        times=range(0, 1001, 20), generator=generator,
    )  # fmt: skip


def stepper(moves: Any, traces: Traces) -> Callable[[], None]:
    """One step of training, on one batch."""
    torch.manual_seed(0)
    model = HomomorphismAutoencoder(MLP(SHAPE, HIDDEN), MLP(moves.size, HIDDEN), moves)
    optimiser = make_optimizer(model, 1e-3)

    def step() -> None:
        loss = model.loss(traces.observations, traces.actions)["loss"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def interleaved(contenders: dict[str, Callable[[], None]], rounds: int) -> dict[str, Any]:
    """Median milliseconds, and the median of ratios to the first contender within a round."""
    clocks = {"clock": time.perf_counter, "processor": time.process_time}
    for step in contenders.values():
        step()
        step()
    times: dict[str, dict[str, list[float]]] = {
        clock: {name: [] for name in contenders} for clock in clocks
    }
    for _ in range(rounds):
        for name, step in contenders.items():
            before = {clock: now() for clock, now in clocks.items()}
            step()
            for clock, now in clocks.items():
                times[clock][name].append(now() - before[clock])
    found: dict[str, dict[str, float]] = {name: {} for name in contenders}
    for clock, by_name in times.items():
        peer = next(iter(by_name.values()))
        for name, values in by_name.items():
            ratios = [a / b for a, b in zip(values, peer, strict=True)]
            found[name][f"{clock}, milliseconds"] = 1e3 * statistics.median(values)
            found[name][f"{clock}, ratio"] = statistics.median(ratios)
    return found


def cost(rounds: int, batch: int = 128, few: int = 8) -> dict[str, Any]:
    """Steps of training with and without ρ, at two sizes; dense matrices on a smaller batch."""
    traces = picture_traces(batch)
    G, found = traces.group, {}
    for size in (65, 785):
        found[f"latent of {size}, batch {batch}"] = interleaved(
            {
                "without ρ": stepper(Still(G, size), traces),
                "affine, P learned": stepper(AffineRepresentation(G, size), traces),
            },
            rounds,
        )
    small = traces[:few]
    found[f"latent of 785, batch {few}"] = interleaved(
        {
            "without ρ": stepper(Still(G, 785), small),
            "affine, P = I": stepper(AffineRepresentation(G), small),
            "dense matrices of 785²": stepper(Defining(G), small),
        },
        rounds,
    )
    return found
