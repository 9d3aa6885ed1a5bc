"""Runs of a diffusion model: what is written, read back, resumed, sampled and refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from manifold_ae import data, plots, run
from manifold_ae.cli import main
from manifold_ae.experiments import VAE, Diffusion
from manifold_ae.run import diffusion as module
from manifold_ae.run.files import prepare_folder
from manifold_ae.training import Checkpoint, fit

SMALL = Diffusion(
    data="moons",
    schedule="cosine",
    steps=20,
    width=16,
    depth=1,
    embedding=8,
    epochs=3,
    batch_size=32,
    steps_per_epoch=4,
    calls=5,
    num_samples=100,
    directions=16,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> run.DiffusionRun:
    trained = run.train(SMALL, tmp_path_factory.mktemp("run") / "moons")
    trained.finish()
    return trained


def test_a_run_folder_holds_what_is_promised(finished):
    names = {str(p.relative_to(finished.folder)) for p in finished.folder.rglob("*.*")}
    assert names == {
        "config.toml",
        "metrics.csv",
        "metrics.json",
        "checkpoint.pt",
        "weights.safetensors",
        "figures/samples.png",
        "figures/chain.png",
        "figures/curves.png",
    }
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    assert {"loss", "mse", "sliced_wasserstein", "sliced_wasserstein_floor"} <= set(metrics)
    assert metrics["sliced_wasserstein"] > metrics["sliced_wasserstein_floor"] > 0
    assert (metrics["num_samples"], metrics["calls"], metrics["epochs"]) == (100, 5, 3)
    rows = list(csv.DictReader((finished.folder / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert {"loss", "mse", "test_loss", "test_mse"} <= set(rows[0])
    assert "kl_weight" not in rows[0]
    assert Diffusion.from_mapping(Diffusion.read(finished.folder / "config.toml")) == (
        finished.config
    )


def test_a_loaded_run_is_the_same(finished):
    loaded = run.load(finished.folder)
    assert isinstance(loaded, run.DiffusionRun) and loaded.config == finished.config
    assert loaded.evaluate() == finished.evaluate()
    assert torch.equal(loaded.sample(7), finished.sample(7))
    assert loaded.table(loaded.evaluate()).count("\n") == 9


@pytest.mark.parametrize("cut", [1, 2])
def test_a_resumed_run_is_the_same_bit_for_bit(finished, tmp_path, cut):
    """The average of the weights included, and the number of its steps."""
    whole = Checkpoint.load(finished.folder / "checkpoint.pt")
    folder = tmp_path / "run"
    prepare_folder(folder, finished.config, False)
    dataset = finished.data()
    model = module.build_model(finished.config, dataset.shape)
    fabric = module.make_fabric("cpu")
    first = fit(
        model,
        module.make_source(finished.config, dataset, finished.scaling, fabric),
        epochs=3,
        until=cut,
        schedule=module.Schedule(finished.config.lr, "cosine", None),
        fabric=fabric,
        folder=folder,
        extra=whole.extra,
        progress=False,
        after_epoch=lambda *_: {"test_loss": 0.0, "test_mse": 0.0},
    )
    assert first.epoch == cut and first.model["updates"].item() == 4 * cut
    resumed = run.train(finished.config, folder, resume=True)
    last = Checkpoint.load(folder / "checkpoint.pt")
    assert last.epoch == 3 and set(last.model) == set(whole.model)
    for name, value in whole.model.items():
        assert torch.equal(last.model[name], value), name
    assert torch.equal(resumed.sample(5), finished.sample(5))


def test_samples_are_functions_of_their_seed(finished):
    x = finished.sample(20, seed=3)
    assert x.shape == (20, 2) and x.isfinite().all()
    assert torch.equal(x, finished.sample(20, seed=3))
    assert not torch.equal(x, finished.sample(20, seed=4))
    assert not torch.equal(x, finished.sample(20, seed=3, calls=10))
    assert not torch.equal(x, finished.sample(20, seed=3, eta=1.0))


def test_pictures_come_back_in_raw_units():
    config = SMALL.replace(data="digits", epochs=1)
    trained = run.train(config)
    assert trained.config.scaling == "overall" and trained.sample(3).shape == (3, 8, 8)
    x = trained.data().train
    torch.testing.assert_close(trained.scaling.invert(trained.scaling.apply(x)), x)


def test_epochs_of_few_data_are_several_passes():
    """An epoch has the steps that it is to have, and every pass an order of its own."""
    source = data.Repeated(data.Shuffled(torch.arange(10), batch_size=4, seed=0), times=3)
    batches = [list(source.epoch(k)) for k in (0, 1)]
    assert len(source) == len(batches[0]) == 9
    passes = [torch.cat(some[i : i + 3]).tolist() for some in batches for i in (0, 3, 6)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 6
    with pytest.raises(ValueError, match="times=0: expected an integer of at least 1"):
        data.Repeated(source.source, times=0)
    config, digits = SMALL.replace(data="digits", scaling="overall"), data.load("digits")
    scaling = data.Scaling.fit("overall", digits.train)
    made = module.make_source(config, digits, scaling, module.make_fabric("cpu"))
    assert len(made) == 45  # one pass has more than the 4 steps asked for
    config = config.replace(batch_size=256, steps_per_epoch=200)
    assert len(module.make_source(config, digits, scaling, module.make_fabric("cpu"))) == 204


def test_arrays_are_standardised(tmp_path):
    path = tmp_path / "array.npy"
    rng = np.random.default_rng(0)
    np.save(path, 100 + 30 * rng.normal(size=(90, 3)))
    folder = tmp_path / "run"
    trained = run.train(SMALL.replace(data=str(path), epochs=1, calls=3), folder)
    assert trained.config.scaling == "standard"
    trained.finish()
    assert 50 < trained.sample(40).mean() < 150


def test_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    settings = [
        part
        for name in ("steps", "width", "depth", "embedding", "directions")
        for part in ("--set", f"{name}={getattr(SMALL, name)}")
    ]
    common = ["--schedule", "cosine", "--epochs", "1", "--steps-per-epoch", "2", "--calls", "4"]
    common += ["--num-samples", "50", "--batch-size", "16", *settings]
    command = ["train", "diffusion", "--data", "s-curve", *common]
    dry = runner.invoke(main, [*command, "--dry-run"])
    assert dry.exit_code == 0 and "first step: loss 0" in dry.output, dry.output
    assert not list(tmp_path.iterdir())
    done = runner.invoke(main, [*command, "--quiet"])
    assert done.exit_code == 0 and "sliced_wasserstein_floor" in done.output, done.output
    folder = Path("runs") / "s-curve-diffusion-1"
    for arguments in (
        ["evaluate", str(folder), "--num-samples", "20"],
        ["plot", str(folder)],
        ["sample", str(folder), "-n", "9", "--calls", "3", "--eta", "1", "-o", "x.npy"],
    ):
        result = runner.invoke(main, arguments)
        assert result.exit_code == 0, result.output
    assert json.loads((folder / "metrics.json").read_text())["num_samples"] == 20
    assert np.load("x.npy").shape == (9, 2)
    assert Path("x.png").exists() and Path("x-chain.png").exists()
    for arguments, message in (
        (["sample", str(folder), "--calls", "21"], "calls=21: expected at most 20"),
        (["encode", str(folder), "--data", "moons"], "a diffusion model has no encoder"),
    ):
        result = runner.invoke(main, arguments)
        assert result.exit_code == 1 and message in result.output, result.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "quadratic"}, "schedule = 'quadratic': expected linear, scaled-linear"),
        ({"scaling": "unit"}, "scaling = 'unit': expected auto, none"),
        ({"ema": 1.0}, "ema = 1.0: expected at least 0 and below 1"),
        ({"eta": -1.0}, "eta = -1.0: expected at least 0"),
        ({"calls": 21}, "calls = 21: expected at most steps = 20"),
        ({"test_fraction": 1.0}, "test_fraction = 1.0: expected between 0 and 1"),
        ({"width": 0}, "width = 0: expected a positive number"),
        ({"restarts": 4}, "unknown key 'restarts'"),
    ],
)
def test_wrong_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SMALL.replace(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "digits", "scaling": "none"}, r"root mean square 7\.76: expected about 1"),
        ({"schedule": "linear"}, "of steps = 20 ends .* nats a coordinate from the noise"),
        ({"data": "moon"}, "did you mean 'moons'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run.train(SMALL.replace(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_not_a_run_of_this_kind_is_refused(finished, tmp_path):
    with pytest.raises(ValueError, match="holds a run already"):
        run.train(finished.config, finished.folder)
    with pytest.raises(ValueError, match=r"cannot resume .* with seed = 1 \(was 0\)"):
        run.train(finished.config.replace(seed=1), finished.folder, resume=True)
    with pytest.raises(ValueError, match=r"expected a path|written as \.npy"):
        finished.save_samples(3, tmp_path / "x.png")
    checkpoint = Checkpoint.load(finished.folder / "checkpoint.pt")
    del checkpoint.extra["scaling"]
    with pytest.raises(ValueError, match="not the checkpoint of a diffusion model: it lacks 'sc"):
        module.load(finished.folder, checkpoint)
    given = run.train(SMALL.replace(epochs=1), dataset=data.from_array(np.eye(40)[:, :2] + 0.3))
    given.dataset = None
    with pytest.raises(ValueError, match="given in memory"):
        given.data()


def test_steps_of_samples_are_only_of_a_diffusion_model(tmp_path):
    small = VAE(epochs=1, encoder_hidden=(4,), decoder_hidden=(4,), batch_size=1024)
    trained = run.train(small)
    with pytest.raises(ValueError, match="calls = 5: samples of a ΔVAE are decoded at once"):
        trained.save_samples(2, tmp_path / "x.npy", calls=5)


@pytest.mark.parametrize(
    ("points", "names", "options", "message"),
    [
        ([np.zeros((3, 3))], ["a"], {}, r"points\[0\] has shape \(3, 3\); expected \(n, 2\)"),
        ([np.zeros((3, 2))], ["a", "b"], {}, "expected one for each of 1 clouds"),
        ([np.full((3, 2), np.nan)], ["a"], {}, r"points\[0\] has 6 entries of 6"),
        ([np.zeros((3, 2))], ["a"], {"columns": 0}, "columns = 0; expected at least 1"),
    ],
)
def test_wrong_clouds_are_refused(points, names, options, message):
    with pytest.raises(ValueError, match=message):
        plots.clouds(points, names, **options)


def test_clouds_have_one_scale():
    figure = plots.clouds([np.zeros((1, 2)), np.array([[2.0, 0.0], [0.0, 4.0]])], ["a", "b"])
    limits = {(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}
    assert len(limits) == 1
    (x, y) = limits.pop()
    assert x[1] - x[0] == pytest.approx(y[1] - y[0]) and y[0] < 0 and y[1] > 4
