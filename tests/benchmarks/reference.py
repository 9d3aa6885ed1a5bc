"""Exact log-densities and KLs against a file of reference values.

    python tests/benchmarks/reference.py ../shared/reference/heat_kernel.json [--output FILE]

Errors of log-densities are relative to max(1, |log q|), those of KLs absolute.
"""

import argparse
import json
import math
import re
from pathlib import Path

import common
import torch

from manifold_ae import heat
from manifold_ae.manifolds import Sphere


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    entries = json.loads(arguments.reference.read_text(encoding="utf-8"))
    result: dict[str, dict[str, float]] = {}
    for entry in entries:
        match = re.fullmatch(r"S(\d+)", entry["manifold"])
        if match is None:
            continue
        manifold = Sphere(int(match.group(1)))
        start = manifold.base_point(dtype=torch.float64)
        time = torch.tensor(entry["time"], dtype=torch.float64)
        row = result.setdefault(
            entry["manifold"],
            {
                "densities": 0,
                "largest_error_of_log_density": 0.0,
                "kls": 0,
                "largest_error_of_kl": 0.0,
            },
        )
        if "kl_to_uniform" in entry:
            error = abs(heat.kl_uniform(manifold, start, time).item() - entry["kl_to_uniform"])
            row["kls"] += 1
            row["largest_error_of_kl"] = max(row["largest_error_of_kl"], error)
        else:
            r = entry["distance"]
            point = torch.zeros_like(start)
            point[0], point[1] = math.cos(r), math.sin(r)
            expected = entry["log_density"]
            error = abs(heat.log_kernel(manifold, start, point, time).item() - expected)
            row["densities"] += 1
            row["largest_error_of_log_density"] = max(
                row["largest_error_of_log_density"], error / max(1.0, abs(expected))
            )
    common.write(
        arguments.output,
        {
            "command": "python tests/benchmarks/reference.py heat_kernel.json",
            "machine": common.machine("cpu"),
            "dtype": "float64",
            "manifolds": result,
        },
    )


if __name__ == "__main__":
    main()
