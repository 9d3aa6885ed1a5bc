"""Digits under diffusion steps: small latents are as good as linear algebra allows, no better."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from manifold_ae import data
from manifold_ae.data import Scaling
from manifold_ae.diffusion import Schedule, exact

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.fixture(scope="module")
def experiment() -> ModuleType:
    name = "digits_hae"
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits(experiment):
    """With the exact denoiser of the training digits in place of a trained one."""
    dataset = data.load("digits", seed=0)
    scaling = Scaling.fit("overall", dataset.train, None)
    train, test = (scaling.apply(x).flatten(1) for x in (dataset.train, dataset.test))
    schedule = Schedule.linear(1000)
    denoiser = exact.empirical(train, schedule)
    return experiment.Digits(schedule, denoiser, train, test, {})


@pytest.mark.slow
@pytest.mark.parametrize("size", [65, 16, 4])
def test_a_learned_projection_reaches_the_principal_axes(size, experiment, digits):
    found = experiment.once(digits, "VP, affine", size, 100)
    assert found["homomorphism_error_of_moves"] <= 1e-5
    assert found["composition_error"] <= 1e-5
    assert found["alignment_residual_of_moves"] <= 1e-4
    floor = found["vp_one_step_floor"]
    if size == 65:
        assert max(found["vp_rollout_error"], found["ddim_rollout_error"]) <= 1e-6
        return
    assert 0.98 * floor <= found["vp_one_step_error"] <= 1.05 * floor
    # Nothing is lost on the way: 50 steps are as good as the last of them.
    assert found["vp_rollout_error"] <= 1.01 * found["vp_last_step_error"]


@pytest.mark.slow
def test_a_free_map_has_nothing_to_gain_from_leaving_the_affine_one(experiment, digits):
    found = experiment.once(digits, "VP, free φ from the affine", 4, 100)
    assert found["homomorphism_error_of_moves"] <= 0.01
    assert found["vp_one_step_error"] >= 0.98 * found["vp_one_step_floor"]


def test_tables_are_means_over_seeds(experiment):
    runs = {"a": {"4, 0": {"e": 1.0}, "4, 1": {"e": 3.0}, "16, 0": {"e": 5.0}}}
    found = experiment.tables(runs)["e"]
    assert list(found) == ["16", "4"]
    assert found["4"]["a"]["mean"] == 2.0 and found["4"]["a"]["sd"] == pytest.approx(2**0.5)
    assert found["16"]["a"] == {"mean": 5.0, "sd": None}
