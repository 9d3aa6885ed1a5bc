"""Exact log-densities and KLs against a file of reference values.

    python tests/benchmarks/reference.py FOLDER [--device cpu] [--output FILE]

FOLDER holds heat_kernel.json and embedded_torus.json.

Errors of log-densities are relative to max(1, |log q|), those of KLs absolute.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor

from manifold_ae import heat
from manifold_ae.manifolds import SO3, EmbeddedTorus, Manifold, RealProjective, Sphere


def manifold_of(name: str) -> Manifold:
    """The manifold that an entry names: S2, RP3, SO3, EmbeddedTorus."""
    if name == "EmbeddedTorus":
        return EmbeddedTorus()
    kind, dim = re.fullmatch(r"(S|RP|SO)(\d+)", name).groups()  # type: ignore[union-attr]
    return {"S": Sphere, "RP": RealProjective, "SO": lambda _: SO3()}[kind](int(dim))


def pair(manifold: Manifold, entry: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Two points at the distance of an entry; on the embedded torus, one of them twice."""
    start = manifold.base_point(dtype=torch.float64)
    if isinstance(manifold, EmbeddedTorus):
        x = manifold.from_angles(start.new_tensor([0.3, entry["tube_angle"]]))
        return x, x
    u = torch.zeros_like(start)
    u[(0,) * (u.dim() - 1) + (1,)] = 1
    u = manifold.proju(start, u)
    u = u / manifold.inner(start, u).sqrt()
    return start, manifold.expmap(start, entry.get("distance", 0.0) * u)


def measured(
    entries: list[dict[str, Any]], dtype: torch.dtype, device: torch.device
) -> dict[str, dict[str, float]]:
    """Largest errors of a dtype, by manifold."""
    result: dict[str, dict[str, float]] = {}
    for entry in entries:
        manifold = manifold_of(entry["manifold"])
        row = result.setdefault(
            entry["manifold"],
            {
                "densities": 0,
                "largest_error_of_log_density": 0.0,
                "kls": 0,
                "largest_error_of_kl": 0.0,
            },
        )
        x, y = (point.to(device, dtype) for point in pair(manifold, entry))
        time = torch.tensor(entry["time"], dtype=dtype, device=device)
        if "kl_to_uniform" in entry:
            error = abs(heat.kl_uniform(manifold, x, time).item() - entry["kl_to_uniform"])
            row["kls"] += 1
            row["largest_error_of_kl"] = max(row["largest_error_of_kl"], error)
        expected = entry.get("log_density", entry.get("log_density_at_start"))
        if expected is not None:
            error = abs(heat.log_kernel(manifold, x, y, time).item() - expected)
            row["densities"] += 1
            row["largest_error_of_log_density"] = max(
                row["largest_error_of_log_density"], error / max(1.0, abs(expected))
            )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    entries = []
    for name in ("heat_kernel.json", "embedded_torus.json"):
        entries += json.loads((arguments.folder / name).read_text(encoding="utf-8"))
    common.write(
        arguments.output,
        {
            "command": "python tests/benchmarks/reference.py FOLDER",
            "machine": common.machine(arguments.device),
            "float64": measured(entries, torch.float64, device),
            "float32": measured(entries, torch.float32, device),
        },
    )


if __name__ == "__main__":
    main()
