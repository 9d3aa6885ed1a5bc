"""What the benchmark scripts share: the machine in words, and results written aside."""

import json
import os
import platform
import statistics
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


def spread(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation over seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
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
