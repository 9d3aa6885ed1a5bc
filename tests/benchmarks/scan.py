"""Running products of matrices: a loop against a tree, forward and backward, in one process.

    python tests/benchmarks/scan.py [--device cpu] [--rounds 9] [--output FILE.json]

Where the ratio passes 1 is the crossover that ``groups.cumulative`` goes by, in entries a step.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import machine, write
from torch import Tensor

from manifold_ae.groups import scan

STEPS = (2, 4, 8, 32, 128)
BATCHES = (1, 16, 64, 500)
SIZES = (2, 3, 4)


def timed(products: Callable[[Tensor], Tensor], matrices: Tensor) -> float:
    """Milliseconds of a pass forward and backward."""
    if matrices.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    products(matrices).sum().backward()
    if matrices.is_cuda:
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    for size, batch, steps in itertools.product(SIZES, BATCHES, STEPS):
        noise = torch.randn(batch, steps, size, size, device=arguments.device)
        matrices = torch.linalg.qr(noise)[0].requires_grad_()
        times: dict[str, list[float]] = {"loop": [], "tree": []}
        for _ in range(arguments.rounds):
            times["loop"].append(timed(scan.loop, matrices))
            times["tree"].append(timed(scan.tree, matrices))
        pairs = zip(times["tree"], times["loop"], strict=True)
        rows.append(
            {
                "size": size,
                "batch": batch,
                "steps": steps,
                "entries a step": batch * size**2,
                "loop, ms": statistics.median(times["loop"]),
                "tree, ms": statistics.median(times["tree"]),
                "tree over loop": statistics.median(a / b for a, b in pairs),
            }
        )
    write(arguments.output, {"machine": machine(arguments.device), "running products": rows})


if __name__ == "__main__":
    main()
