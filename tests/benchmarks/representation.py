"""φ, exponentials and products of a training batch, against the generic matrix exponential.

    python tests/benchmarks/representation.py [--device cpu] [--rounds 30] [--output FILE.json]

A batch of 500 traces of 2 actions: ρ of each action by ``LearnedRepresentation``, applied one after
the other to latents, forward and backward; the peer is the same φ, put in a matrix of full size,
``torch.linalg.matrix_exp``, and the product with the latent. The floor is a linear map of actions
to as many entries, and a sum of squares of as many numbers as latents: what is left if exponentials
and products cost nothing. ``affine`` is the exponential of x ↦ s x + b in 64 dimensions alone, by
its closed form. They alternate in one process; the median of the ratio within a round is reported.
On a CPU, times are the process' own, which what else runs on the machine does not add to.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import machine, write
from torch import Tensor

from manifold_ae.groups import SO3, LearnedRepresentation, LieGroup, ScaleTranslation, Torus

BATCH, STEPS = 500, 2
CASES: dict[str, tuple[LieGroup, list[int], int, bool]] = {
    "blocks 2, 2": (Torus(2), [2, 2], 0, True),
    "blocks 3": (SO3(), [3], 0, True),
    "blocks 2, 2, free 1": (Torus(2), [2, 2], 1, True),
    "blocks 2, 2, 1, not orthogonal": (Torus(2), [2, 2, 1], 0, False),
    "blocks 2, not orthogonal": (Torus(1), [2], 0, False),
    "blocks 4 (no closed form)": (SO3(), [4], 0, True),
}


def timed(action: Callable[[], Tensor], device: str) -> float:
    """Seconds of a pass forward and backward."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    start = clock()
    action().backward()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return clock() - start


def contenders(name: str, device: str) -> tuple[Callable[[], Tensor], ...]:
    """The library's way, the generic one, and the floor."""
    group, blocks, free, orthogonal = CASES[name]
    torch.manual_seed(0)
    rho = LearnedRepresentation(group, blocks=blocks, free=free, orthogonal=orthogonal).to(device)
    X = torch.randn(BATCH, STEPS, group.dim, device=device)
    z = torch.randn(BATCH, rho.size, device=device)
    basis = rho.generators().detach().requires_grad_()

    def ours() -> Tensor:
        return rho.rollout(X, z).square().sum()

    def generic() -> Tensor:
        matrices = torch.linalg.matrix_exp(torch.einsum("bti,inm->btnm", X, basis))
        moved, path = z.unsqueeze(-1), []
        for matrix in matrices.unbind(1):
            moved = matrix @ moved
            path.append(moved)
        return torch.stack(path).square().sum()

    weight = torch.randn(rho.layout.entries, group.dim, device=device).requires_grad_()

    def floor() -> Tensor:
        entries = weight @ X.reshape(-1, group.dim).mT
        return entries[: rho.size].square().sum()

    return ours, generic, floor


def affine(device: str, n: int = 64, batch: int = 64) -> tuple[Callable[[], Tensor], ...]:
    """The exponential of scale and translation."""
    group = ScaleTranslation(n)
    X = torch.randn(batch, n + 1, device=device).requires_grad_()

    def ours() -> Tensor:
        return group.exp(X).square().sum()

    def generic() -> Tensor:
        return torch.linalg.matrix_exp(group.hat(X)).square().sum()

    return ours, generic


def compared(*all_of: Callable[[], Tensor], device: str, rounds: int) -> dict[str, float]:
    """Of the library's way, the generic one and, where there is one, the floor."""
    times = []
    for _ in range(rounds + 3):
        times.append([timed(action, device) for action in all_of])
    kept = times[3:]
    mine, theirs, *_ = zip(*kept, strict=True)
    found = {
        "milliseconds": 1e3 * statistics.median(mine),
        "generic, milliseconds": 1e3 * statistics.median(theirs),
        "ratio": statistics.median(row[0] / row[1] for row in kept),
    }
    if len(all_of) > 2:
        found["floor, ratio"] = statistics.median(row[2] / row[1] for row in kept)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    device, rounds = arguments.device, arguments.rounds
    results = {
        name: compared(*contenders(name, device), device=device, rounds=rounds) for name in CASES
    }
    results["affine, 64 dimensions, batch 64"] = compared(
        *affine(device), device=device, rounds=rounds
    )
    write(arguments.output, {"machine": machine(device), f"{BATCH} × {STEPS} actions": results})


if __name__ == "__main__":
    main()
