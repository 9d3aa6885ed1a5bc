"""``seeds``: several runs as one computation, written as ordinary run folders and one table."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from matplotlib.image import imread

from manifold_ae import run
from manifold_ae.cli import main
from manifold_ae.experiments import HAE, VAE, Diffusion
from manifold_ae.models import DeltaVAE
from manifold_ae.run.seeds import SeedsRun
from manifold_ae.training import Checkpoint

TINY = VAE(
    manifold="euclidean:2", data="digits", encoder_hidden=(8,), decoder_hidden=(8,), epochs=2,
    batch_size=256, num_samples=2, device="cpu", seed=4, seeds=3,
)  # fmt: skip
SEEDS = (4, 5, 6)


@pytest.fixture(scope="module")
def group(tmp_path_factory) -> Any:
    trained = run.train(TINY, tmp_path_factory.mktemp("seeds") / "group", checkpoint_seconds=0.0)
    trained.metrics = trained.finish()
    return trained


def test_every_seed_is_an_ordinary_run(group, tmp_path):
    assert isinstance(group, SeedsRun)
    assert sorted(path.name for path in group.folder.iterdir()) == [
        "checkpoint.pt", "config.toml", "figures", "metrics.csv", "metrics.json",
        "seed-4", "seed-5", "seed-6",
    ]  # fmt: skip
    alone = run.train(TINY.replace(seed=5, seeds=1), tmp_path / "alone")
    alone.finish()
    own = run.load(group.folder / "seed-5", device="cpu")
    names = {path.name for path in (tmp_path / "alone").iterdir()}
    assert {path.name for path in own.folder.iterdir()} == names
    assert (own.folder / "config.toml").read_text() == (
        tmp_path / "alone" / "config.toml"
    ).read_text()
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(own.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    for row, other in zip(own.history, alone.history, strict=True):
        assert list(row) == list(other)
        assert row["elbo"] == pytest.approx(other["elbo"], rel=1e-5)
    with (own.folder / "metrics.csv").open() as file:
        assert [float(row["elbo"]) for row in csv.DictReader(file)] == [
            row["elbo"] for row in own.history
        ]
    assert own.evaluate()["elbo"] == pytest.approx(alone.evaluate()["elbo"], rel=1e-5)
    # One of them goes on as any run does.
    folder = tmp_path / "seed"
    shutil.copytree(own.folder, folder)
    again = run.train(own.config, folder, resume=True)
    assert again.history == own.history


def test_the_table_has_means_and_standard_deviations(group):
    written = json.loads((group.folder / "metrics.json").read_text())
    assert written == group.metrics
    own = [json.loads((group.folder / f"seed-{s}" / "metrics.json").read_text()) for s in SEEDS]
    for name in ("elbo", "kl", "mse", "log_likelihood", "seconds"):
        values = [metrics[name] for metrics in own]
        assert written[name]["mean"] == pytest.approx(np.mean(values))
        assert written[name]["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert len({metrics["elbo"] for metrics in own}) == 3
    assert [written["seeds"][str(seed)] for seed in SEEDS] == own
    line = next(line for line in group.table(written).splitlines() if "elbo" in line)
    assert f"{written['elbo']['mean']:.6g}  ± {written['elbo']['sd']:.2g}" in line


def test_commands_understand_the_folder(group, tmp_path):
    folder = tmp_path / "group"
    shutil.copytree(group.folder, folder)

    def call(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, "--device", "cpu"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert "4, 5, 6" in call("evaluate", str(folder))
    again = json.loads((folder / "metrics.json").read_text())
    assert again["elbo"] == pytest.approx(group.metrics["elbo"])
    output = tmp_path / "latents.npz"
    call("encode", str(folder), "--data", "digits", "-o", str(output))
    with np.load(output) as arrays:
        assert arrays["seed-6/points"].shape == (1797, 2)
    made = call("sample", str(folder), "-n", "3").split()
    assert [Path(path) for path in made if path.endswith(".npy")] == [
        folder / f"seed-{seed}" / "samples.npy" for seed in SEEDS
    ]
    there = tmp_path / "new" / "folder"
    made = call("sample", str(folder), "-n", "3", "-o", str(there / "some.npy")).split()
    assert [Path(path) for path in made if path.endswith(".npy")] == [
        there / f"seed-{seed}" / "some.npy" for seed in SEEDS
    ]
    assert np.load(there / "seed-5" / "some.npy").shape == (3, 8, 8)
    assert not (folder / "seed-5" / "some.npy").exists()
    figures = [folder / "seed-4" / "figures" / "curves.png", folder / "figures" / "curves.png"]
    for figure in figures:
        figure.unlink()
    said = call("plot", str(folder)).split()
    for figure in figures:
        assert str(figure) in said
        assert figure.exists()


def test_every_kind_of_picture_of_all_seeds_is_one(group):
    """Side by side, two in a row for three seeds: as wide as two, and of the seeds' own pixels."""
    kinds = {path.name for path in (group.folder / "seed-4" / "figures").iterdir()}
    assert {path.name for path in (group.folder / "figures").iterdir()} == kinds
    own = imread(group.folder / "seed-4" / "figures" / "latents.png")
    joint = imread(group.folder / "figures" / "latents.png")
    panel = 2 * own.shape[1] / own.shape[0]
    assert panel * 0.9 < joint.shape[1] / (joint.shape[0] / 2) < panel * 1.1


def test_a_group_goes_on_as_if_never_stopped(group, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    count, loss = 0, DeltaVAE.loss

    def fatal(self: Any, x: Any, **weights: float) -> Any:
        nonlocal count
        count += 1
        if count > 9:  # of six steps an epoch
            raise Killed
        return loss(self, x, **weights)

    folder = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(DeltaVAE, "forward", fatal)
        with pytest.raises(Killed):
            run.train(TINY, folder, checkpoint_seconds=0.0)
    with pytest.raises(ValueError, match=r"no .*seed-4 yet: training was stopped"):
        run.load(folder)
    with pytest.raises(ValueError, match=r"seeds = 4 \(was 3\)"):
        run.train(TINY.replace(seeds=4), folder, resume=True)
    run.train(TINY, folder, resume=True)
    for seed in SEEDS:
        found, expected = (
            Checkpoint.load(where / f"seed-{seed}" / "checkpoint.pt").model
            for where in (folder, group.folder)
        )
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_seed_that_diverges_is_named_and_stops_nothing(tmp_path, monkeypatch):
    original = run.delta_vae.build_model

    def build(config: VAE, *given: Any, **options: Any) -> DeltaVAE:
        model = original(config, *given, **options)
        if config.seed == 5:
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)
        return model

    monkeypatch.setattr(run.delta_vae, "build_model", build)
    trained = run.train(TINY.replace(epochs=1), tmp_path / "group")
    assert list(trained.runs) == [4, 6]
    metrics = trained.finish()
    assert list(metrics["seeds"]) == ["4", "6"]
    assert "not finite at step 1" in metrics["lost"]["5"]
    assert "seed 5: " in trained.table(metrics)
    assert not (tmp_path / "group" / "seed-5").exists()
    loaded = run.load(tmp_path / "group", device="cpu")
    assert loaded.lost == trained.lost
    assert list(loaded.runs) == [4, 6]


def test_a_homomorphism_autoencoder_too(tmp_path):
    config = HAE(
        world=("size=16",), traces=40, epochs=2, batch_size=16, encoder_hidden=(8,),
        decoder_hidden=(8,), num_rollouts=2, horizon=4, restarts=2, restart_epochs=1,
        device="cpu", seeds=2,
    )  # fmt: skip
    trained = run.train(config, tmp_path / "group")
    metrics = trained.evaluate()
    assert list(metrics["seeds"]) == ["0", "1"]
    alone = run.train(config.replace(seeds=1), tmp_path / "alone")
    own = run.load(tmp_path / "group" / "seed-0", device="cpu")
    assert [row["loss"] for row in own.history] == pytest.approx(
        [row["loss"] for row in alone.history], rel=1e-4
    )
    extra = [
        Checkpoint.load(tmp_path / f / "checkpoint.pt").extra for f in ("group/seed-0", "alone")
    ]
    assert extra[0]["trials"] == pytest.approx(extra[1]["trials"], rel=1e-5)
    assert extra[0].keys() == extra[1].keys()


def test_a_diffusion_model_too(tmp_path):
    config = Diffusion(
        data="moons", width=8, depth=1, embedding=4, epochs=2, steps_per_epoch=4, batch_size=32,
        num_samples=50, directions=4, calls=5, device="cpu", seed=3, seeds=2,
    )  # fmt: skip
    trained = run.train(config, tmp_path / "group")
    metrics = trained.finish()
    assert list(metrics["seeds"]) == ["3", "4"]
    for seed in (3, 4):
        alone = run.train(config.replace(seed=seed, seeds=1))
        own = run.load(tmp_path / "group" / f"seed-{seed}", device="cpu")
        for row, other in zip(own.history, alone.history, strict=True):
            assert list(row) == list(other)
            for name in ("loss", "mse", "test_loss", "test_mse"):
                assert row[name] == pytest.approx(other[name], rel=1e-4)
        for name, value in alone.model.state_dict().items():
            torch.testing.assert_close(own.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert (tmp_path / "group" / "figures" / "samples.png").exists()
    assert "2 seeds, 3 to 4, as one computation\nfirst step: loss" in run.describe(config)
    with pytest.raises(ValueError, match="compile with seeds = 2"):
        config.replace(compile=True)


def test_what_one_step_would_be_is_told(monkeypatch):
    assert "3 seeds, 4 to 6, as one computation\nfirst step: loss" in run.describe(TINY)
    assert "seeds, " not in run.describe(TINY.replace(seeds=1))


def test_half_precision_with_one_scale_for_all_is_refused():
    with pytest.raises(ValueError, match=r"'16-mixed' with seeds = 3"):
        TINY.replace(precision="16-mixed")
    assert TINY.replace(precision="bf16-mixed").seeds == 3
    with pytest.raises(ValueError, match="compile with seeds = 3"):
        TINY.replace(compile=True)
    with pytest.raises(ValueError, match="seeds = 0"):
        TINY.replace(seeds=0)
