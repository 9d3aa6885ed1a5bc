"""What the benchmark scripts share: the machine in words, and results written aside."""

import fcntl
import json
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def spread(values: list[float]) -> dict[str, float | None]:
    """Mean and standard deviation over seeds; None of one alone."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "sd": deviation}


def write(path: Path | None, content: dict[str, Any]) -> None:
    """Print as JSON, and keep it in a file if one is given."""
    print(json.dumps(content, indent=1))
    if path is not None:
        keep(path, content)


def keep(path: Path, content: dict[str, Any]) -> None:
    """Write a file of JSON; a reader sees the old one or the new one."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def read(path: Path) -> dict[str, Any]:
    """What a file of runs holds; of one that is not there yet, nothing."""
    if not path.exists():
        return {"runs": []}
    return json.loads(path.read_text(encoding="utf-8"))


def has(path: Path, wanted: dict[str, Any]) -> bool:
    """Whether a file has a run with these entries."""
    return any(all(run.get(k) == v for k, v in wanted.items()) for run in read(path)["runs"])


def add(path: Path, run: dict[str, Any], summary: Callable[[list[Any]], Any], **said: Any) -> None:
    """Put a run into a file, whoever else writes to it, and the summary of all runs.

    A run of the same kind, rows, gain, steps, seed and start that came before it stays alone.
    """
    names = ("kind", "samples", "gain", "steps", "seed", "start")
    own = {name: run[name] for name in names if name in run}
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if has(path, own):
            return
        runs = [*read(path)["runs"], run]
        keep(path, {**said, "machine": machine("cpu"), "summary": summary(runs), "runs": runs})
