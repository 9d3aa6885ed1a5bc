"""A run, from data to files: what is written, read back, resumed and refused."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from manifold_ae import data, run
from manifold_ae.experiments import VAE
from manifold_ae.run import seeds

SMALL = VAE(
    epochs=3, batch_size=256, encoder_hidden=(16, 16, 16), decoder_hidden=(16, 16), num_samples=5
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> run.VAERun:
    trained = run.train(SMALL, tmp_path_factory.mktemp("run") / "sphere")
    trained.finish()
    return trained


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)["model"]


def test_a_run_folder_holds_what_is_promised(finished):
    names = {str(p.relative_to(finished.folder)) for p in finished.folder.rglob("*.*")}
    assert names == {
        "config.toml",
        "metrics.csv",
        "metrics.json",
        "latents.npz",
        "checkpoint.pt",
        "weights.safetensors",
        "figures/latents.png",
        "figures/decoded_grid.png",
        "figures/reconstructions.png",
        "figures/curves.png",
    }
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    assert {"elbo", "kl", "mse", "log_likelihood", "mean_log_time", "seconds"} <= set(metrics)
    assert metrics["log_likelihood"] >= metrics["elbo"] - 3 * metrics["elbo_se"]
    rows = list(csv.DictReader((finished.folder / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert VAE.from_mapping(VAE.read(finished.folder / "config.toml")) == finished.config


def test_latents_cover_all_rows_once(finished):
    with np.load(finished.folder / "latents.npz") as file:
        latents = dict(file)
    assert sorted(latents["rows"]) == list(range(1797))
    assert (latents["part"] == "train").sum() == len(finished.data().train)
    assert np.allclose(np.linalg.norm(latents["points"], axis=-1), 1, atol=1e-5)
    assert np.allclose(latents["standard_deviation"] ** 2, latents["time"], rtol=1e-5)
    x, y, z = latents["points"].T
    assert np.allclose(latents["angles"][:, 0], np.arctan2(y, x), atol=1e-5)
    assert np.allclose(latents["angles"][:, 1], np.arcsin(z.clip(-1, 1)), atol=1e-3)


def test_a_loaded_run_gives_the_same_figures(finished):
    loaded = run.load(finished.folder)
    assert loaded.config == finished.config
    assert loaded.evaluate() == finished.evaluate()
    x = finished.data().test[:7]
    for name, value in finished.encode(x).items():
        np.testing.assert_array_equal(loaded.encode(x)[name], value)


def test_samples_come_back_in_raw_units(finished):
    x = finished.sample(50)
    assert x.shape == (50, 8, 8)
    assert torch.equal(x, finished.sample(50))
    assert 2 < x.max() < 40  # digits are counts from 0 to 16, scaled to [0, 1] for training


class Killed(Exception):
    pass


@pytest.mark.parametrize("steps", [3, 8])
def test_resuming_equals_never_stopping(finished, tmp_path, monkeypatch, steps):
    """Six steps make an epoch: the first kill leaves no checkpoint, the second is in epoch 2."""
    count = 0
    forward = run.delta_vae.DeltaVAE.loss

    def fatal(self, *arguments, **weights):
        nonlocal count
        count += 1
        if count > steps:
            raise Killed
        return forward(self, *arguments, **weights)

    folder = tmp_path / "again"
    with monkeypatch.context() as patch:
        patch.setattr(run.delta_vae.DeltaVAE, "forward", fatal)
        with pytest.raises(Killed):
            run.train(SMALL, folder, checkpoint_seconds=0.0)
    assert (folder / "checkpoint.pt").exists() == (steps > 6)
    resumed = run.train(SMALL, folder, resume=True)
    expected = state(finished.folder)
    for name, value in state(folder).items():
        assert torch.equal(value, expected[name]), name
    assert [row["elbo"] for row in resumed.history] == [row["elbo"] for row in finished.history]


def test_another_run_in_the_folder_is_not_overwritten(finished):
    with pytest.raises(ValueError, match="--resume"):
        run.train(SMALL, finished.folder)
    with pytest.raises(ValueError, match=r"lr = 0\.1 \(was 0\.001\)"):
        run.train(SMALL.replace(lr=0.1), finished.folder, resume=True)


def test_the_best_trial_goes_on(tmp_path):
    config = SMALL.replace(restarts=3, restart_epochs=1, manifold="torus:2")
    whole = run.train(config, tmp_path / "whole")
    trials = [
        torch.load(tmp_path / "whole" / "trials" / str(k) / "checkpoint.pt", weights_only=True)
        for k in range(3)
    ]
    elbos = [trial["history"][0]["elbo"] for trial in trials]
    assert len(set(elbos)) == 3
    assert whole.history[0]["elbo"] == max(elbos)
    assert len(whole.history) == 3
    # Killed after its trials, the run comes to the same end.
    (tmp_path / "whole" / "checkpoint.pt").rename(tmp_path / "first.pt")
    run.train(config, tmp_path / "whole", resume=True)
    first = torch.load(tmp_path / "first.pt", weights_only=True)["model"]
    for name, value in state(tmp_path / "whole").items():
        assert torch.equal(value, first[name]), name


def test_a_users_array_goes_all_the_way(tmp_path):
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 300)
    rates = np.exp(1 + np.cos(angle[:, None] - np.linspace(0, 2 * np.pi, 12, endpoint=False)))
    np.save(tmp_path / "counts.npy", np.random.default_rng(1).poisson(rates))
    config = SMALL.replace(
        data=str(tmp_path / "counts.npy"), manifold="circle", likelihood="poisson", split="blocks"
    )
    trained = run.train(config, tmp_path / "ring")
    metrics = trained.finish()
    assert np.isfinite(list(metrics.values())).all()
    np.save(tmp_path / "one.npy", np.zeros((1, 12)))
    encoded = trained.encode_file(str(tmp_path / "one.npy"))
    assert encoded["angles"].shape == (1, 1)
    np.save(tmp_path / "wrong.npy", np.zeros((5, 11)))
    with pytest.raises(ValueError, match=r"\(5, 11\).*\(n, 12\)"):
        trained.encode_file(str(tmp_path / "wrong.npy"))
    np.save(tmp_path / "negative.npy", np.full((5, 12), -1))
    with pytest.raises(ValueError, match="negative"):
        trained.encode_file(str(tmp_path / "negative.npy"))


@pytest.mark.parametrize("damage", ["truncated", "emptied", "removed"])
def test_a_damaged_checkpoint_is_refused(finished, tmp_path, damage):
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    path = folder / "checkpoint.pt"
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 5000 if damage == "truncated" else 0])
    with pytest.raises(ValueError, match=r"checkpoint\.pt"):
        run.load(folder)


def test_what_does_not_fit_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"device"):
        run.train(SMALL.replace(device="tpu"), tmp_path / "a")
    with pytest.raises(ValueError, match="no likelihood 'normal'"):
        run.train(SMALL.replace(likelihood="normal"), tmp_path / "b")
    with pytest.raises(ValueError, match="sphere"):
        run.train(SMALL.replace(manifold="shpere:2"), tmp_path / "c")
    with pytest.raises(ValueError, match="scaling"):
        run.train(SMALL.replace(likelihood="poisson", scaling="range"), tmp_path / "d")
    assert not any(path.exists() for path in (tmp_path / "b", tmp_path / "d"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_dir": "mnist"}, "data_dir = 'mnist': data = 'digits' reads nothing there"),
        ({"steps_per_epoch": 7}, "steps_per_epoch = 7: an epoch is once through the 1438 rows"),
        ({"noise": 0.3}, r"noise = 0.3: data = 'digits' does not have it \(torus, poses alone\)"),
        ({"padding": "reflect"}, "padding = 'reflect': network = 'mlp' does not have it"),
        ({"walk_steps": 20}, "walk_steps = 20: posterior = 'heat-kernel' takes no walk"),
        ({"validation_fraction": 0.2}, "validation_fraction = 0.2: patience = 0 holds no rows"),
    ],
)
def test_values_that_nothing_would_look_at_are_refused(changes, message, tmp_path):
    config = SMALL.replace(**changes)
    for refused in (lambda: run.train(config, tmp_path / "run"), lambda: run.describe(config)):
        with pytest.raises(ValueError, match=message):
            refused()
    assert not (tmp_path / "run").exists()
    # Runs that were begun with such a value are read, and go on.
    begun = run.train(config.replace(epochs=1), tmp_path / "run", strict=False)
    assert run.load(tmp_path / "run").config == begun.config
    assert run.train(begun.config, tmp_path / "run", resume=True).history == begun.history


def test_values_that_are_looked_at_are_taken():
    small = SMALL.replace(
        epochs=1, device="cpu", data="torus", likelihood="gaussian", num_samples=1
    )
    for changes in (
        {"steps_per_epoch": 1, "walk_steps": 2, "posterior": "random-walk"},
        {"translations": "fixed", "patience": 1, "validation_fraction": 0.5},
    ):
        run.describe(small.replace(manifold="torus:2", **changes))
    run.describe(SMALL.replace(restarts=2, restart_epochs=1))


def test_one_test_row_has_no_standard_error(tmp_path):
    x = torch.randn(21, 4, generator=torch.Generator().manual_seed(0))
    one = data.from_array(x, test_fraction=0.05)
    assert len(one.test) == 1
    config = VAE(
        manifold="circle", encoder_hidden=(4,), decoder_hidden=(4,), epochs=1, num_samples=2,
        device="cpu",
    )  # fmt: skip
    trained = run.train(config, tmp_path / "run", dataset=one)
    found = trained.finish()
    assert not [name for name in found if name.endswith("_se")]
    assert "±" not in trained.table(found)
    assert all(map(math.isfinite, strict_json(tmp_path / "run" / "metrics.json").values()))
    group = run.train(config.replace(seeds=2), tmp_path / "group", dataset=one)
    assert "elbo" in group.table(group.finish())


def test_numbers_that_are_not_finite_are_null_in_a_file(tmp_path):
    content = {"a": math.inf, "b": [1.0, -math.inf], "c": {"d": (math.nan, None, "nan", True, 3)}}
    run.write_json(tmp_path / "a.json", content)
    assert strict_json(tmp_path / "a.json") == {
        "a": None,
        "b": [1.0, None],
        "c": {"d": [None, None, "nan", True, 3]},
    }
    assert seeds.spread([1.0, math.inf]) == {"mean": math.inf, "sd": None}


def strict_json(path):
    def refuse(name):
        raise AssertionError(f"{path} holds {name}, which is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)
