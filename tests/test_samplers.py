"""The benchmark of the samplers: its short form passes, and its own parts are right."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from manifold_ae.manifolds import KleinBottle, Sphere

SCRIPT = Path(__file__).parent / "benchmarks" / "sampler.py"


@pytest.fixture(scope="module")
def sampler() -> Any:
    """The script as a module; its neighbours lie in its folder."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("sampler", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["sampler"] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(SCRIPT.parent))
        sys.modules.pop("sampler", None)


def test_law_of_the_distance_for_long_times_is_that_of_the_volume(sampler: ModuleType) -> None:
    """On S²: (1 − cos r)/2. On the Klein bottle from φ = 0, discs of area πr² while r ≤ π/2."""
    r = np.linspace(0, 1.5, 40)
    t = torch.tensor(50.0, dtype=torch.float64)
    x = Sphere(2).base_point(dtype=torch.float64)
    law = sampler.radial_law(Sphere(2), sampler.one_direction(2), x, t)
    assert np.abs(law(r) - (1 - np.cos(r)) / 2).max() <= 1e-8
    x = KleinBottle().base_point(dtype=torch.float64)
    law = sampler.radial_law(KleinBottle(), sampler.circle_of_directions(), x, t)
    assert np.abs(law(r) - r * r / (2 * np.pi)).max() <= 1e-5


def test_samples_of_another_law_are_found_out(
    sampler: ModuleType, generator: torch.Generator
) -> None:
    """Time off by 5 %: at 50,000 samples no doubt is left."""
    t = torch.tensor(0.1, dtype=torch.float64)
    case = sampler.sphere(2)
    x = case.manifold.random_uniform(generator=generator, dtype=torch.float64)
    laws = sampler.laws_of(case, x, t)
    right = sampler.tests_of(case, x, t, torch.float64, 50_000, laws, 1, t.device)["p_values"]
    assert min(right.values()) > 1e-4
    wrong = sampler.tests_of(case, x, 1.05 * t, torch.float64, 50_000, laws, 1, t.device)[
        "p_values"
    ]
    assert wrong["radius"] < 1e-4


@pytest.mark.slow
def test_the_short_form_of_the_benchmark_passes(tmp_path: Path) -> None:
    output = tmp_path / "sampler.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--output", output],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text(encoding="utf-8"))
    assert result["passed"]
    assert len(result["laws_by_manifold"]) == 10
