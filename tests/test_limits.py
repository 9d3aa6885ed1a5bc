"""The map of where translations are captured: its rule, its rival, its picture, its command."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from manifold_ae import plots
from manifold_ae.data import PeriodicPicture
from manifold_ae.manifolds import FlatTorus

SCRIPT = Path(__file__).parent / "benchmarks" / "limits.py"
TORUS = FlatTorus(2)


@pytest.fixture(scope="module")
def limits() -> Any:
    """The script as a module; its neighbours lie in its folder."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("limits", SCRIPT)
        assert spec is not None and spec.loader is not None
        module = sys.modules["limits"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.JUDGED = 200  # for speed
        yield module
    finally:
        sys.path.remove(str(SCRIPT.parent))
        sys.modules.pop("limits", None)


@pytest.fixture(scope="module")
def cell(limits: ModuleType) -> Any:
    return limits.Cell(3, 0.3, 1.0)


@pytest.fixture(scope="module")
def dataset(cell):
    return cell.load(0)


def encoder_by_waves(picture: PeriodicPicture):
    """Angles from the phases of the two lowest waves, which turn as the picture is shifted."""

    def encode(x: torch.Tensor) -> torch.Tensor:
        waves = torch.fft.fft2(x)
        known = torch.fft.fft2(picture.translate(torch.zeros(2)))
        turned = torch.stack([waves[..., 1, 0] / known[1, 0], waves[..., 0, 1] / known[0, 1]], -1)
        return TORUS.from_angles(-turned.angle())

    return encode


def test_an_encoder_by_waves_captures_noise_free_pictures(limits, cell, dataset):
    picture = cell.picture(0)
    encode = encoder_by_waves(picture)
    winding = limits.windings(encode, picture)
    assert winding.tolist() == [[1, 0], [0, 1]]
    clean = picture.translate(dataset.test_labels)
    latent = TORUS.to_angles(encode(clean))
    told = limits.verdict(latent, dataset, winding, exact=0.0, sampled=False)
    assert told["captured"] and told["error"] < 1e-3 and told["determinant"] == 1


@pytest.mark.parametrize("exact", [0.0, 0.2])
def test_an_error_is_measured_against_what_noise_allows(exact, limits, dataset):
    noise = 0.25 * torch.randn(dataset.test_labels.shape)
    told = limits.verdict(
        dataset.test_labels + noise, dataset, torch.eye(2), exact=exact, sampled=False
    )
    # The mean length of a vector of two normals is √(π/2) of their deviation: 0.313.
    assert told["error"] == pytest.approx(0.25 * math.sqrt(math.pi / 2), abs=0.05)
    assert told["captured"] == (told["error"] <= max(0.3, 2 * exact))


def test_angles_that_guess_are_refused_however_much_noise_there_is(limits, dataset):
    noise = 1.2 * torch.randn(dataset.test_labels.shape)
    told = limits.verdict(
        dataset.test_labels + noise, dataset, torch.eye(2), exact=2.0, sampled=False
    )
    assert not told["captured"] and told["error"] > 1


@pytest.mark.parametrize(
    ("winding", "sampled", "captured"),
    [
        (torch.eye(2), False, True),
        (torch.tensor([[0, -1], [1, 0]]), False, True),
        (torch.tensor([[1, 1], [1, 1]]), False, False),
        (torch.tensor([[2, 0], [0, 1]]), False, False),
        (None, False, False),
        (None, True, True),
    ],
)
def test_windings_count_where_there_are_any(winding, sampled, captured, limits, dataset):
    told = limits.verdict(dataset.test_labels, dataset, winding, exact=0.0, sampled=sampled)
    assert told["captured"] is captured


def test_a_folded_map_is_not_captured(limits, dataset):
    latent = dataset.test_labels[:, :1].expand(-1, 2)
    told = limits.verdict(latent, dataset, torch.eye(2), exact=0.0, sampled=False)
    assert told["error"] is None and not told["captured"]


def test_an_encoder_that_jumps_has_no_windings(limits, cell):
    picture = cell.picture(0)
    encode = encoder_by_waves(picture)

    def torn(x):
        z = encode(x)
        return torch.where(z[..., :1] > 0, z, -z)

    assert limits.windings(torn, picture) is None


def test_the_exact_posterior_reaches_the_bound_of_cramer_and_rao(limits, cell):
    picture = cell.picture(0)
    steps = 1e-4 * torch.eye(2, dtype=torch.float64)
    slopes = (picture.translate(steps) - picture.translate(-steps)).flatten(1).mT / 2e-4
    information = slopes.mT @ slopes / cell.noise**2
    bound = torch.linalg.inv(information).trace().sqrt().item()
    shifts = 2 * math.pi * torch.rand(200, 2)
    x = picture.translate(shifts)
    means = limits.posterior_mean(picture, x + cell.noise * torch.randn_like(x), cell.noise, fine=2)
    away = torch.atan2((means - shifts).sin(), (means - shifts).cos())
    # Of 200 errors the root mean square is known to 5 %.
    assert away.square().sum(-1).mean().sqrt().item() == pytest.approx(bound, rel=0.2)


def test_the_posterior_by_series_is_that_by_templates(limits, cell):
    picture, noise = cell.picture(0), 2.0
    x = picture.translate(torch.rand(5, 2, dtype=torch.float64))
    x = x + noise * torch.randn_like(x)
    turns = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
    grid = torch.cartesian_prod(turns, turns)
    likely = (x.flatten(1) @ picture.translate(grid).flatten(1).mT / noise**2).softmax(-1)
    expected = torch.atan2(likely @ grid.sin(), likely @ grid.cos())
    torch.testing.assert_close(limits.posterior_mean(picture, x, noise, fine=1), expected)


def test_a_curriculum_ends_at_the_picture_itself(limits, cell, dataset):
    picture = cell.picture(0)
    data = limits.growing(dataset, picture, 0.0, steps=6)
    assert data.draw is not None
    waves = []
    for _ in range(6):
        x, shifts = data.draw(2, generator=torch.Generator().manual_seed(0))
        waves.append(int((torch.fft.rfft2(x)[0].abs() > 1e-2).nonzero()[:, 1].max()))
    assert waves == [1, 2, 3, 3, 3, 3]
    torch.testing.assert_close(x, picture.translate(shifts), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_toroidal_coordinates_find_clean_pictures(limits):
    pytest.importorskip("dreimac")
    clean = limits.Cell(3, 0.3, 0.0)
    told = limits.toroidal(clean, clean.load(0), 0)
    assert told["captured"] and told["determinant"] is None


def test_without_the_rival_the_way_out_is_named(limits, cell, dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "dreimac", None)
    with pytest.raises(ModuleNotFoundError, match=r"manifold-ae\[topology\]"):
        limits.toroidal(cell, dataset, 0)


@pytest.mark.parametrize(("refusals", "components"), [(0, None), (1, 4), (2, None)])
def test_the_rival_is_asked_twice_before_it_fails(
    refusals, components, limits, cell, dataset, monkeypatch
):
    asked = []

    class Coordinates:
        def __init__(self, x: np.ndarray, landmarks: int) -> None:
            assert x.shape == (len(dataset.test), components or 64 * 64)

        def get_coordinates(self, *, cocycle_idxs: list[int], standard_range: bool) -> Any:
            asked.append(standard_range)
            if len(asked) <= refusals:
                raise Exception("too short")
            return list(dataset.test_labels.numpy().T)

    monkeypatch.setitem(sys.modules, "dreimac", SimpleNamespace(ToroidalCoords=Coordinates))
    told = limits.toroidal(cell, dataset, 0, components)
    assert asked == [True, False][: refusals + 1]
    assert told["captured"] == (refusals < 2)
    assert told.get("refused", []) == ["too short"] * (2 if refusals == 2 else 0)


def test_the_command_goes_on_where_it_stopped(limits, tmp_path, monkeypatch):
    path = tmp_path / "limits.json"
    for name, value in {"FITTED": 20, "JUDGED": 20, "STARTS": ((0.0, 0.0),)}.items():
        monkeypatch.setattr(limits, name, value)

    def run(*options: str) -> dict[str, Any]:
        command = ["limits.py", "map", "--output", str(path), "--steps", "10", "--batch-size", "2"]
        command += ["--seeds", "1", "--methods", "circular", *options]
        monkeypatch.setattr(sys, "argv", command)
        limits.main()
        return json.loads(path.read_text(encoding="utf-8"))

    first = run("--cells", "3,0.3,1")
    both = run("--cells", "3,0.3,1", "10,0.3,1")
    assert len(first["runs"]) == 1 and len(both["runs"]) == 2
    assert both["runs"][0] == first["runs"][0]
    table = both["circular, 10 steps of 2"]
    assert [(row["N"], row["γ = 0.3"][-4:]) for row in table] == [(3, "of 1"), (10, "of 1")]


def test_a_map_shows_every_cell_and_number():
    won, of = np.zeros((2, 3, 1, 2), int), np.full((2, 3, 1, 2), 5)
    won[0, 0, 0, 1], of[1, 2, 0, 0] = 4, 0
    figure = plots.success_maps(
        won, of, methods=["a", "b"], conditions=["x", "y", "z"], rows=[3], columns=[0.1, 0.3]
    )
    shown = [axes for axes in figure.axes if axes.get_label() != "scale"]
    written = [[text.get_text() for text in axes.texts] for axes in shown]
    assert written == [["0/5", "4/5"], *[["0/5", "0/5"]] * 4, ["–", "0/5"]]
    values = np.ma.filled(shown[0].images[0].get_array(), np.nan)
    assert values.tolist() == [[0.0, 0.8]]
    assert np.ma.getmaskarray(shown[-1].images[0].get_array()).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("won", "of", "message"),
    [
        ([[[[2]]]], [[[[1]]]], "won = 2 of 1 runs"),
        ([[[2]]], [[[[1]]]], "won has shape"),
        ([[[[0.5]]]], [[[[1]]]], "won of dtype float64"),
        ([[[[-1]]]], [[[[1]]]], "at least 0"),
    ],
)
def test_counts_that_cannot_be_are_refused(won, of, message):
    names = {"methods": ["a"], "conditions": ["b"], "rows": [1], "columns": [1]}
    with pytest.raises(ValueError, match=message):
        plots.success_maps(won, of, **names)
    with pytest.raises(ValueError, match="expected none empty"):
        plots.success_maps(won, of, **names | {"rows": []})
