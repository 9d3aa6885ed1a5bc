"""By how much log-likelihoods of trained ΔVAEs change from 100 importance samples to 1,000.

    python tests/benchmarks/importance_samples.py TABLE [--few 100] [--many 1000] [--rows 1000]
        [--output docs/results/importance_samples.json]

TABLE is the folder that ``manifold-ae reproduce`` filled, or any other with runs of ΔVAEs below it.
Both estimates are of the same rows, the first of the test part, with noise of their own; the change
is given with its standard error over rows. But for that noise it is not negative: the estimate is a
lower bound that rises with the samples.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import common
import torch
from tqdm import tqdm

from manifold_ae import run
from manifold_ae.data.seeding import generator_for

#: Rows at a time.
BATCH = 100


def estimates(trained: run.VAERun, x: torch.Tensor, num_samples: int) -> torch.Tensor:
    """Of log p(x), one a row, in nats."""
    generator = generator_for("importance", num_samples, device=trained.device)
    parts = [
        trained.model.log_likelihood(part, num_samples, generator=generator).cpu()
        for part in tqdm(x.split(BATCH), desc=str(num_samples), leave=False)
    ]
    return torch.cat(parts).double()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.table.rglob("weights.safetensors"))
    if not folders:
        raise SystemExit(f"{arguments.table} has no finished run below it: train some first")
    rows: dict[str, dict[str, Any]] = {}
    dataset = None
    for folder in tqdm(folders, desc="runs"):
        trained = run.load(folder, device=arguments.device)
        trained.dataset = dataset
        dataset = trained.data()
        trained.model.eval()
        x = trained.scaled(dataset.test[: arguments.rows])
        few, many = (estimates(trained, x, n) for n in (arguments.few, arguments.many))
        change = many - few
        rows[str(folder.relative_to(arguments.table))] = {
            f"log_likelihood_{arguments.few}": few.mean().item(),
            f"log_likelihood_{arguments.many}": many.mean().item(),
            "change": change.mean().item(),
            "standard_error": change.std().item() / math.sqrt(len(change)),
        }
        tqdm.write(f"{folder} {rows[str(folder.relative_to(arguments.table))]}")
        common.write(
            arguments.output,
            {
                "command": "python tests/benchmarks/importance_samples.py TABLE",
                "machine": common.machine(arguments.device),
                "rows": len(x),
                "log-likelihoods": rows,
            },
        )


if __name__ == "__main__":
    main()
