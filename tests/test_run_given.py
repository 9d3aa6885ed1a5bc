"""Runs on data as they are: conditions, values that are missing, early stopping, advice."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from manifold_ae import data, manifolds, metrics, run
from manifold_ae.cli.main import main
from manifold_ae.experiments import VAE
from manifold_ae.run import advice
from manifold_ae.run.conditions import Conditions
from manifold_ae.run.delta_vae import build_model
from manifold_ae.run.fingerprint import fingerprint_of, kept_of
from manifold_ae.run.stopping import Patience, validation
from manifold_ae.run.support import clocks
from manifold_ae.training import Checkpoint

SMALL = VAE(
    manifold="circle",
    epochs=2,
    batch_size=32,
    encoder_hidden=(8, 8),
    decoder_hidden=(8,),
    num_samples=3,
    kl_warmup=0.0,
)
OPTIONS = [
    *("--epochs", "2", "--batch-size", "32", "--num-samples", "3", "--quiet"),
    *("--set", "encoder_hidden=[8, 8]", "--set", "decoder_hidden=[8]"),
]


def ring(n: int = 120, cells: int = 8, gain: float = 1.0, seed: int = 0):
    """Counts of cells tuned to an angle, with an exposure and two covariates that scale rates."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    centres = np.linspace(0, 2 * np.pi, cells, endpoint=False)
    exposure = rng.uniform(0.5, 4.0, n)
    covariates = rng.normal(size=(n, 2))
    rate = np.exp(1 + np.cos(angle[:, None] - centres) + 0.3 * gain * covariates[:, :1])
    return rng.poisson(rate * exposure[:, None]), covariates, exposure, angle


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    x, covariates, exposure, angle = ring()
    path = tmp_path_factory.mktemp("data") / "ring.npz"
    groups = np.repeat(np.arange(6), 20)
    times = np.tile(np.arange(20.0), 6)
    np.savez(
        path,
        x=x,
        covariates=covariates,
        exposure=exposure,
        groups=groups,
        times=times,
        labels=angle[:, None],
    )
    return path


@pytest.fixture(scope="module")
def trained(archive, tmp_path_factory) -> run.VAERun:
    folder = tmp_path_factory.mktemp("run") / "ring"
    config = SMALL.replace(data=str(archive), likelihood="negative-binomial", split="groups")
    made = run.train(config, folder)
    made.finish()
    return made


# ---- conditions -----------------------------------------------------------------------------


def test_conditions_go_all_the_way(trained, archive):
    assert trained.model.covariates == 2
    assert trained.model.exposure
    dataset = trained.data()
    # Whole trials are held out, and times and groups are no model's business.
    groups = {
        part: set(getattr(dataset, f"{part}_given")["groups"].tolist())
        for part in ("train", "test")
    }
    assert not groups["train"] & groups["test"]
    with np.load(trained.folder / "latents.npz") as file:
        latents = dict(file)
    assert sorted(latents["rows"]) == list(range(120))
    assert latents["labels"].shape == (120, 1)
    metrics = json.loads((trained.folder / "metrics.json").read_text())
    assert all(math.isfinite(metrics[name]) for name in ("elbo", "log_likelihood", "dispersion"))
    again = run.load(trained.folder)
    assert again.conditions == trained.conditions
    encoded = again.encode_file(str(archive))
    order = np.argsort(latents["rows"])
    assert np.allclose(encoded["points"], latents["points"][order], atol=1e-5)
    # What a row comes with decides where it is read to lie.
    raw = data.read(archive)
    given = {name: raw.given[name] for name in ("covariates", "exposure")}
    at = again.encode(raw.x, **given)["points"]
    assert np.allclose(at, encoded["points"], atol=1e-6)
    shifted = again.encode(raw.x, **given | {"covariates": given["covariates"] + 3})["points"]
    assert not np.allclose(at, shifted, atol=1e-3)


def test_rows_without_their_conditions_are_refused(trained):
    x = torch.ones(4, 8)
    with pytest.raises(ValueError, match=r"trained with covariates.*covariates= of shape \(n, 2\)"):
        trained.encode(x, exposure=torch.ones(4))
    with pytest.raises(ValueError, match=r"trained with exposure.*exposure= of shape \(n,\)"):
        trained.encode(x, covariates=torch.ones(4, 2))
    both = r"covariates and exposure: .*covariates= of shape \(n, 2\) and exposure= of shape \(n,\)"
    with pytest.raises(ValueError, match=both):
        trained.encode(x)
    with pytest.raises(ValueError, match=r"covariates of shape \(4, 3\): expected \(4, 2\)"):
        trained.encode(x, covariates=torch.ones(4, 3), exposure=torch.ones(4))
    with pytest.raises(ValueError, match="positive numbers"):
        trained.encode(x, covariates=torch.ones(4, 2), exposure=torch.zeros(4))
    with pytest.raises(ValueError, match="finite numbers"):
        trained.encode(x, covariates=torch.full((4, 2), math.nan), exposure=torch.ones(4))
    with pytest.raises(ValueError, match="has 3 rows: expected 4"):
        trained.encode(x, covariates=torch.ones(4, 2), exposure=torch.ones(3))
    plain = dataclasses.replace(trained, conditions=Conditions())
    with pytest.raises(ValueError, match="exposure are given, and this run was trained without"):
        plain.encode(x, exposure=torch.ones(4))


def test_samples_and_decoded_points_are_of_typical_rows_or_of_those_asked_for(trained):
    typical = trained.sample(5, seed=1)
    unit = trained.conditions.exposure
    mean = trained.conditions.covariates.shift
    same = trained.sample(
        5, seed=1, covariates=mean.expand(5, 2).float(), exposure=torch.full((5,), unit)
    )
    assert torch.allclose(typical, same, rtol=1e-5)
    doubled = trained.sample(
        5, seed=1, covariates=mean.expand(5, 2).float(), exposure=torch.full((5,), 2 * unit)
    )
    assert torch.allclose(2 * typical, doubled, rtol=1e-4)
    # What is not given is typical, whichever of the two it is.
    alone = trained.sample(5, seed=1, exposure=torch.full((5,), 2 * unit))
    assert torch.allclose(alone, doubled, rtol=1e-4)
    moved = {"covariates": torch.ones(5, 2)}
    alone = trained.sample(5, seed=1, **moved)
    assert not torch.allclose(alone, typical, rtol=1e-3)
    both = trained.sample(5, seed=1, **moved, exposure=torch.full((5,), unit))
    assert torch.allclose(alone, both, rtol=1e-5)
    with pytest.raises(ValueError, match=r"covariates of shape \(5, 3\): expected \(5, 2\)"):
        trained.sample(5, covariates=torch.ones(5, 3))
    z = trained.model.manifold.random_uniform(3, 4)
    assert trained.decode(z).shape == (3, 4, 8)
    other = trained.decode(z, covariates=torch.ones(12, 2), exposure=torch.ones(12))
    assert other.shape == (3, 4, 8)


def test_the_units_of_conditions_are_those_of_the_training_rows():
    given = {
        "covariates": torch.tensor([[1.0, 5.0], [3.0, 5.0]]),
        "exposure": torch.tensor([1.0, 4.0]),
        "times": torch.tensor([0.0, 1.0], dtype=torch.float64),
    }
    fitted = Conditions.fit(given)
    assert fitted.count == 2
    assert fitted.exposure == pytest.approx(2.0)
    found = fitted.apply(given, 2)
    assert set(found) == {"covariates", "exposure"}
    assert torch.allclose(found["covariates"], torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    assert torch.allclose(found["exposure"], torch.tensor([0.5, 2.0]))
    assert Conditions.from_state_dict(fitted.state_dict()) == fitted
    assert Conditions.from_state_dict({}) == Conditions()
    assert Conditions().apply({}, 3) == {}
    with pytest.raises(ValueError, match=r"exposure = -1.0: expected the positive unit"):
        Conditions.from_state_dict({"exposure": -1.0})


def test_an_exposure_needs_a_rate(archive, tmp_path):
    config = SMALL.replace(data=str(archive), likelihood="gaussian")
    with pytest.raises(ValueError, match="exposure = True: likelihood 'gaussian' has no rate"):
        run.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_several_seeds_and_restarts_take_conditions_and_gaps(archive, tmp_path):
    x, covariates, exposure, _ = ring()
    x = x.astype(float)
    x[::7, 3] = np.nan
    dataset = data.from_array(x, covariates=covariates, exposure=exposure, missing="mask")
    config = SMALL.replace(
        likelihood="poisson", seeds=2, restarts=2, restart_epochs=1, patience=1, epochs=3
    )
    group = run.train(config, tmp_path / "group", dataset=dataset)
    metrics = group.finish()
    assert math.isfinite(metrics["elbo"]["mean"])
    # Trials are not judged by validation rows: their columns are empty there.
    rows = list(csv.DictReader((tmp_path / "group" / "metrics.csv").read_text().splitlines()))
    assert rows[0]["validation_elbo"] == ""
    assert float(rows[-1]["validation_elbo"]) < 0
    assert 2 <= metrics["best_epoch"]["mean"] <= 3
    assert "± " in group.table(metrics)


# ---- values that are missing ----------------------------------------------------------------


def with_holes(x: np.ndarray) -> np.ndarray:
    x = x.astype(float)
    rng = np.random.default_rng(3)
    x[rng.uniform(size=x.shape) < 0.2] = np.nan
    x[:, 0] = np.where(np.isnan(x[:, 0]), 1.0, x[:, 0])
    return x


@pytest.mark.parametrize(
    ("likelihood", "scaling"),
    [
        ("poisson", "none"),
        ("gaussian-learned", "standard"),
        ("student-t", "robust"),
        ("gaussian", "range"),
        ("von-mises", "none"),
    ],
)
def test_missing_values_go_all_the_way(likelihood, scaling, tmp_path):
    counts, _, _, angle = ring(80)
    whole = (
        counts
        if likelihood != "von-mises"
        else np.angle(np.exp(1j * (angle[:, None] + np.arange(8))))
    )
    np.save(tmp_path / "holes.npy", with_holes(whole))
    config = SMALL.replace(data=str(tmp_path / "holes.npy"), likelihood=likelihood, missing="mask")
    trained = run.train(config, tmp_path / "run")
    assert trained.config.scaling == scaling
    metrics = trained.finish()
    assert all(math.isfinite(value) for value in metrics.values())
    again = run.load(tmp_path / "run")
    encoded = again.encode_file(str(tmp_path / "holes.npy"))
    assert np.isfinite(encoded["points"]).all()
    # A row with nothing has no place.
    with pytest.raises(ValueError, match="of which nothing is observed, the first is row 1"):
        again.encode(np.stack([whole[0], np.full(8, np.nan)]))
    with pytest.raises(ValueError, match="1 values that are not finite"):
        again.encode(np.where(np.arange(8) == 2, np.inf, whole[:1].astype(float)))


def test_missing_values_are_refused_unless_asked_for(tmp_path):
    x = ring(40)[0].astype(float)
    x[4] = np.nan
    np.save(tmp_path / "holes.npy", x)
    config = SMALL.replace(data=str(tmp_path / "holes.npy"), likelihood="poisson")
    with pytest.raises(ValueError, match="missing"):
        run.train(config)
    with pytest.raises(ValueError, match=r"has 1 row\(s\) of which nothing is observed"):
        run.train(config.replace(missing="mask"))
    complete = run.train(config, dataset=data.from_array(ring(40)[0]))
    with pytest.raises(ValueError, match=r"8 values that are not finite; where NaN is .*--missing"):
        complete.encode(x)


def test_a_data_set_in_memory_says_itself_that_values_are_missing():
    dataset = data.from_array(with_holes(ring(60)[0]), missing="mask")
    trained = run.train(SMALL.replace(likelihood="poisson"), dataset=dataset)
    assert trained.config.missing == "mask"
    assert trained.model.likelihood.masks


def test_runs_of_before_have_no_masks_and_no_conditions(tmp_path):
    """A checkpoint and a configuration without the new keys: as they were."""
    trained = run.train(SMALL.replace(data="digits", epochs=1), tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    new = (
        "covariates", "exposure", "groups", "times", "labels", "missing", "patience",
        "validation_fraction",
    )  # fmt: skip
    for name in new:
        content["extra"]["config"].pop(name, None)
    assert "conditions" not in content["extra"]
    torch.save(content, path)
    again = run.load(tmp_path / "run")
    assert again.config == trained.config
    assert again.conditions == Conditions()
    x = trained.data().test[:5]
    assert np.array_equal(again.encode(x)["points"], trained.encode(x)["points"])


# ---- early stopping -------------------------------------------------------------------------


def state(folder: Path) -> dict:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def stopping(archive: Path, **changes) -> VAE:
    # A rate of learning at which few rows are soon learned by heart.
    settings = {"epochs": 30, "patience": 3, "lr": 0.03, "batch_size": 16} | changes
    return SMALL.replace(data=str(archive), likelihood="poisson", **settings)


def test_training_stops_and_keeps_the_best_weights(archive, tmp_path):
    trained = run.train(stopping(archive), tmp_path / "run")
    history = trained.history
    scores = [row["validation_elbo"] for row in history]
    best = int(np.argmax(scores))
    assert len(history) < 30
    assert len(history) == best + 1 + 3
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert [float(row["validation_elbo"]) for row in rows] == pytest.approx(scores)
    # The weights are those of a run that ended at its best epoch.
    until = run.train(stopping(archive, patience=30, epochs=best + 1))
    ends = zip(trained.model.state_dict().values(), until.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in ends)
    kept = state(tmp_path / "run")
    assert kept["extra"]["stopping"]["weights"] is None
    assert all(
        torch.equal(value, kept["model"][name])
        for name, value in trained.model.state_dict().items()
    )
    metrics = trained.finish()
    assert metrics["best_epoch"] == best + 1
    assert "best_epoch" in trained.table(metrics)
    # A run that has stopped does not go on.
    resumed = run.train(stopping(archive), tmp_path / "run", resume=True)
    assert len(resumed.history) == len(history)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            resumed.model.state_dict().values(), trained.model.state_dict().values(), strict=True
        )
    )


def test_a_run_that_is_stopped_and_resumed_is_the_undisturbed_one(archive, tmp_path, monkeypatch):
    config = stopping(archive, epochs=6)
    whole = run.train(config, tmp_path / "whole")
    looks = Patience.look

    def killed(self, model, epoch, *rest):
        if epoch == 4:
            raise KeyboardInterrupt
        return looks(self, model, epoch, *rest)

    monkeypatch.setattr(Patience, "look", killed)
    with pytest.raises(KeyboardInterrupt):
        run.train(config, tmp_path / "cut", checkpoint_seconds=0.0)
    monkeypatch.undo()
    assert state(tmp_path / "cut")["epoch"] == 3
    resumed = run.train(config, tmp_path / "cut", resume=True)
    assert [row["validation_elbo"] for row in resumed.history] == [
        row["validation_elbo"] for row in whole.history
    ]
    ends = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in ends)


@pytest.mark.parametrize("changes", [{}, {"seeds": 2}, {"restarts": 2, "restart_epochs": 1}])
def test_a_run_goes_on_with_the_data_that_it_was_begun_with_or_not_at_all(changes, tmp_path):
    x = ring(60)[0]
    config, path, folder = SMALL.replace(**changes), tmp_path / "x.npy", tmp_path / "run"
    config = config.replace(data=str(path), likelihood="poisson")
    np.save(path, x)
    run.train(config, folder)
    run.train(config, folder, resume=True)
    kept = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    x[7, 3] += 1
    np.save(path, x)
    with pytest.raises(ValueError, match=r"data have changed.*\(48, 8\) of float32.*SHA-256"):
        run.train(config, folder, resume=True)
    with pytest.raises(ValueError, match=r"cannot evaluate .*data have changed"):
        run.load(folder).load_data()
    assert {file: file.read_bytes() for file in kept} == kept
    # A run of before knew nothing of its data, and goes on with what there is.
    for file in folder.rglob("checkpoint.pt"):
        checkpoint = Checkpoint.load(file)
        for part in (checkpoint.extra, checkpoint.extra.get("own", {})):
            part.pop("data", None)
        checkpoint.save(file)
    run.train(config, folder, resume=True)


def test_a_run_of_data_in_memory_does_not_go_on_with_others(tmp_path):
    own = data.from_array(np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32))
    config = SMALL.replace(data="digits", likelihood="gaussian", scaling="standard", start="random")
    run.train(config, tmp_path, dataset=own)
    with pytest.raises(ValueError, match="now those that its configuration names"):
        run.train(config, tmp_path, resume=True)
    run.train(config, tmp_path, dataset=own, resume=True)
    loaded = run.load(tmp_path)
    loaded.dataset = dataclasses.replace(own, train=own.train + 1)
    with pytest.raises(ValueError, match=r"cannot evaluate .* data have changed"):
        loaded.evaluate()
    loaded.dataset = own
    assert math.isfinite(loaded.evaluate()["elbo"])


def test_data_are_known_by_their_values_rows_and_conditions():
    x, covariates, exposure, angle = ring(40)

    def found(x=x, **changes):
        options = {"covariates": covariates, "exposure": exposure, "labels": angle} | changes
        return fingerprint_of(data.from_array(x, **options))

    first = found()
    assert first["shape"] == [32, 8]
    assert found() == first == found(labels=angle + 1)
    for changes in (
        {"covariates": covariates + 1},
        {"exposure": 2 * exposure},
        {"seed": 1},
        {"split": "blocks"},
        {"x": x[::-1]},
        {"x": x[:, ::-1]},
        {"groups": np.arange(40)},
    ):
        assert found(**changes)["sha256"] != first["sha256"], changes
    # Those that a configuration names are known by it; what is made of them is not.
    digits = data.load("digits")
    assert kept_of(digits) is None
    turned = dataclasses.replace(digits, train=digits.train.flip(-1))
    assert kept_of(turned) == fingerprint_of(turned) != fingerprint_of(digits)


def test_each_of_several_seeds_stops_where_it_would_alone(archive, tmp_path):
    config = stopping(archive, epochs=6, patience=1)
    group = run.train(config.replace(seeds=2), tmp_path / "group")
    for seed, member in group.runs.items():
        alone = run.train(config.replace(seed=seed))
        scores = [row["validation_elbo"] for row in alone.history]
        together = [row["validation_elbo"] for row in member.history]
        assert together[: len(scores)] == pytest.approx(scores, rel=1e-3)
        for a, b in zip(
            member.model.state_dict().values(), alone.model.state_dict().values(), strict=True
        ):
            assert torch.allclose(a, b, atol=2e-2)


def test_validation_rows_are_neither_trained_nor_tested_on(archive, tmp_path):
    config = stopping(archive, split="groups", epochs=1)
    trained = run.train(config, tmp_path / "run")
    trained.save_latents()
    with np.load(tmp_path / "run" / "latents.npz") as file:
        rows, part = file["rows"], file["part"]
    assert sorted(rows) == list(range(120))
    parts = {name: set(rows[part == name] // 20) for name in ("train", "validation", "test")}
    assert all(parts.values())
    # Whole trials, as the test part is.
    assert not parts["train"] & parts["validation"]
    assert not (parts["train"] | parts["validation"]) & parts["test"]
    training, held = validation(trained.config, trained.data())
    assert len(training.train) + len(held) == len(trained.data().train)
    assert set(training.train_rows.tolist()) == set(rows[part == "train"].tolist())
    # Units are those of what is trained on.
    assert trained.conditions == Conditions.fit(training.train_given)
    same, none = validation(config.replace(patience=0), trained.data())
    assert same is trained.data()
    assert none is None


def test_patience_with_data_without_end_is_refused():
    with pytest.raises(ValueError, match="patience = 2: torus is drawn afresh at every step"):
        run.train(SMALL.replace(data="torus", manifold="torus:2", patience=2))
    with pytest.raises(ValueError, match="patience = -1"):
        VAE(patience=-1)
    with pytest.raises(ValueError, match=r"validation_fraction = 1.0"):
        VAE(validation_fraction=1.0)


def test_an_elbo_that_is_no_bound_is_told():
    exact = {"kl": 2.0, "mean_log_time": -3.0}
    assert not advice.verdict(SMALL.replace(divergence="exact"), exact)
    config = SMALL.replace(manifold="sphere:12", divergence="short-time")
    (line,) = advice.verdict(config, exact)
    assert "no bound" in line and "up to times of 0.083 (log t = -2.5)" in line
    # Beside what else there is to tell.
    assert len(advice.verdict(config, exact | {"kl": 0.0})) == 2


# ---- outliers -------------------------------------------------------------------------------


def spoilt(n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of cells tuned to an angle, three in a thousand of whose values are far out."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, n)
    centres = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    x = np.exp(np.cos(angle[:, None] - centres)) + 0.1 * rng.normal(size=(n, 8))
    x = np.where(rng.uniform(size=x.shape) < 0.003, 1e4 * rng.normal(size=x.shape), x)
    return torch.from_numpy(x).float(), torch.from_numpy(angle).float()


def test_outliers_do_not_spoil_the_map_of_a_model_that_is_made_for_them():
    x, angle = spoilt()
    config = SMALL.replace(
        likelihood="student-t", epochs=10, encoder_hidden=(64,), decoder_hidden=(64,)
    )
    trained = run.train(config, dataset=data.from_array(x))
    clean = x.abs().amax(1) < 100
    points = torch.from_numpy(trained.encode(x[clean])["points"])
    M = trained.model.manifold
    found = metrics.align(M, points, M.from_angles(angle[clean].unsqueeze(-1)))
    assert found.mean_distance < 0.2


@pytest.mark.parametrize("rows", [80, 2000])
@pytest.mark.parametrize("scaling", ["standard", "robust"])
def test_outliers_under_a_gaussian_are_told(rows, scaling):
    dataset = data.from_array(spoilt(rows)[0])
    config = SMALL.replace(likelihood="gaussian-learned", scaling=scaling)
    line = advice.outliers(config, dataset)
    assert "from the median of their feature" in line and "--likelihood student-t" in line
    assert line in advice.before(config, dataset)
    assert not advice.outliers(config.replace(likelihood="student-t"), dataset)
    assert not advice.outliers(config, data.from_array(torch.randn(rows, 8)))


def test_a_run_of_before_the_robust_scaling_goes_on_as_it_was(tmp_path):
    dataset = data.from_array(spoilt(80)[0])
    config = SMALL.replace(likelihood="student-t", epochs=1)
    run.train(config.replace(scaling="standard"), tmp_path, dataset=dataset)
    assert run.train(config, tmp_path, dataset=dataset, resume=True).config.scaling == "standard"


# ---- advice ---------------------------------------------------------------------------------


def test_few_rows_are_told(caplog):
    dataset = data.from_array(ring(100)[0])
    config = SMALL.replace(likelihood="poisson", epochs=1)
    with caplog.at_level("WARNING", logger="manifold_ae"):
        run.train(config, dataset=dataset)
    told = "80 rows to train on are few for circle (dimension 1): below about 500"
    assert caplog.text.count(told) == 1
    many = dataclasses.replace(
        dataset, train=dataset.train[:1].expand(500, 8), train_rows=torch.arange(500)
    )
    assert not advice.few_rows(config, many)
    assert advice.few_rows(config.replace(manifold="torus:2"), many)
    # Posteriors are not refined everywhere.
    assert "--refined" in advice.few_rows(config.replace(manifold="sphere:3"), dataset)
    for name in ("sphere:12", "so3*embedded-torus"):
        assert "--refined" not in advice.few_rows(config.replace(manifold=name), dataset)


def test_a_column_of_time_stamps_among_the_values_is_told(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 3))
    path = tmp_path / "table.csv"
    rows = [f"{0.1 * k:.1f},{a},{b},{c}" for k, (a, b, c) in enumerate(x)]
    path.write_text("\n".join(["seconds,a,b,c", *rows]))
    (told,) = clocks(data.load(path))
    assert told.startswith("feature 'seconds' rises") and "--times" in told
    assert clocks(data.load(path, times="seconds")) == []
    assert clocks(data.load(path, split="blocks")) == [told]
    (told,) = clocks(data.from_array(np.column_stack([x, np.arange(40)])))
    assert told.startswith("feature 3 rises") and "leave it out of the array" in told
    assert clocks(data.load("digits")) == []


def test_counts_under_a_gaussian_are_told():
    counts = data.from_array(ring(100)[0])
    for name in ("gaussian-learned", "gaussian", "student-t"):
        line = advice.unlike_counts(SMALL.replace(likelihood=name), counts)
        assert "--likelihood poisson" in line
    for name in ("poisson", "negative-binomial", "bernoulli"):
        assert not advice.unlike_counts(SMALL.replace(likelihood=name), counts)
    gaussian = SMALL.replace(likelihood="gaussian-learned")
    others = [
        np.random.default_rng(0).normal(size=(50, 4)),
        np.random.default_rng(0).integers(0, 2, (50, 4)),
        -ring(50)[0],
        ring(64)[0].reshape(32, 4, 4),
    ]
    for x in others:
        assert not advice.unlike_counts(gaussian, data.from_array(x))
    holes = data.from_array(with_holes(ring(60)[0]), missing="mask")
    assert advice.unlike_counts(gaussian, holes)


def test_counts_that_vary_too_much_for_poisson_are_told():
    """The dispersion is 1 where counts are Poisson about what is decoded, and told where not."""
    rng = np.random.default_rng(0)
    rate = 5 * np.ones((600, 6))
    calm, wild = rng.poisson(rate), rng.poisson(rate * rng.gamma(1.0, 1.0, rate.shape))
    config = SMALL.replace(likelihood="poisson", epochs=12, lr=0.01)
    reached = {}
    for name, x in (("calm", calm), ("wild", wild)):
        trained = run.train(config, dataset=data.from_array(x))
        metrics = trained.evaluate()
        reached[name] = metrics["dispersion"]
        told = "vary" in trained.table(metrics)
        assert told == (name == "wild")
    assert reached["calm"] == pytest.approx(1, abs=0.3)
    assert reached["wild"] > 2
    wide = run.train(config.replace(likelihood="negative-binomial"), dataset=data.from_array(wild))
    metrics = wide.evaluate()
    assert metrics["dispersion"] < 1.5
    assert metrics["log_likelihood"] > -6 * 5
    line = advice.verdict(config, {"dispersion": 2.34})[0]
    assert line.startswith("counts vary 2.3 times as much about the decoded means as a Poisson law")
    assert "negative-binomial" in line
    assert advice.verdict(config, {"dispersion": math.nan}) == []
    assert advice.verdict(config, {"kl": 2.0}) == []
    (line,) = advice.verdict(config, {"kl": 1e-4, "dispersion": 2.34})
    assert "latents carry no information" in line
    (line,) = advice.verdict(config, {"kl": 14.6, "mean_log_time": -13.6})
    assert "narrow as they can be (mean log t = -13.6, of -13.8 or more)" in line
    assert advice.verdict(config.replace(time_bound="paper"), {"mean_log_time": -13.6}) == []
    assert advice.verdict(config, {"kl": 7.0, "mean_log_time": -8.0}) == []
    assert advice.verdict(config, {}) == []


# ---- the command line -----------------------------------------------------------------------


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_a_table_with_its_columns_from_the_command_line(tmp_path, caplog):
    x, covariates, exposure, angle = ring(60)
    names = [*(f"cell{k}" for k in range(8)), "speed", "bin", "trial", "t", "angle"]
    trial, t = np.repeat(np.arange(6), 10), np.tile(np.arange(10), 6)
    rows = np.column_stack([x, covariates[:, 0], exposure, trial, t, angle])
    path = tmp_path / "ring.csv"
    path.write_text(
        "\n".join([",".join(names), *(",".join(f"{v:g}" for v in row) for row in rows)])
    )
    invoke(
        *("train", "vae", "--data", str(path), "--manifold", "circle", "--likelihood", "poisson"),
        *("--covariates", "speed", "--exposure", "bin", "--groups", "trial", "--times", "t"),
        *("--labels", "angle", "--split", "groups", "--patience", "1", "--missing", "mask"),
        *("--out", str(tmp_path / "run"), *OPTIONS),
    )
    assert "rows to train on are few" in caplog.text
    trained = run.load(tmp_path / "run")
    assert trained.model.likelihood.event_shape == (8,)
    assert (trained.model.covariates, trained.model.exposure) == (1, True)
    out = invoke(
        "encode", str(tmp_path / "run"), "--data", str(path), "-o", str(tmp_path / "z.npz")
    )
    assert "points (60, 2)" in out
    assert "log_likelihood" in invoke("evaluate", str(tmp_path / "run"), "--num-samples", "2")
    invoke("sample", str(tmp_path / "run"), "-n", "4")
    invoke("plot", str(tmp_path / "run"))


def test_the_models_own_posterior_from_the_command_line(tmp_path):
    np.save(tmp_path / "x.npy", ring(60)[0])
    where = ("--data", str(tmp_path / "x.npy"))
    invoke(
        *("train", "vae", *where, "--manifold", "circle", "--likelihood", "poisson"),
        *("--out", str(tmp_path / "run"), *OPTIONS),
    )
    output = ("-o", str(tmp_path / "z.npz"))
    out = invoke("encode", str(tmp_path / "run"), *where, "--refined", *output)
    assert "radius (60,)" in out
    with np.load(tmp_path / "z.npz") as found:
        assert (found["radius"] > 0).all() and found["angles"].shape == (60, 1)
    out = invoke("encode", str(tmp_path / "run"), *where, "--refined", "--smooth", code=1)
    assert "ask for one of them" in out


def test_other_files_name_their_conditions_from_the_command_line(tmp_path):
    x, covariates, exposure, _ = ring(60)
    for name, value in (("x", x), ("c", covariates), ("e", exposure)):
        np.save(tmp_path / f"{name}.npy", value)
    beside = ("--covariates", str(tmp_path / "c.npy"), "--exposure", str(tmp_path / "e.npy"))
    where = ("--data", str(tmp_path / "x.npy"))
    shown = invoke(
        *("train", "vae", *where, *beside, "--manifold", "circle", "--likelihood", "poisson"),
        *("--patience", "3", "--dry-run"),
    )
    assert "rows held out of training to stop by" in shown
    assert "warning: 43 rows to train on are few" in shown
    invoke(
        *("train", "vae", *where, *beside, "--manifold", "circle", "--likelihood", "poisson"),
        *("--out", str(tmp_path / "run"), *OPTIONS),
    )
    out = tmp_path / "z.npz"
    invoke("encode", str(tmp_path / "run"), *where, *beside, "-o", str(out))
    result = CliRunner().invoke(main, ["encode", str(tmp_path / "run"), *where, "-o", str(out)])
    assert result.exit_code != 0
    assert "--covariates" in result.output


def test_a_nuisance_beside_an_angle_trains_on_counts(tmp_path):
    np.save(tmp_path / "x.npy", ring(60)[0])
    invoke(
        *("train", "vae", "--data", str(tmp_path / "x.npy"), "--likelihood", "poisson"),
        *("--manifold", "torus:1*euclidean:1", "--out", str(tmp_path / "run"), *OPTIONS),
    )
    with np.load(tmp_path / "run" / "latents.npz") as file:
        assert file["points"].shape == (60, 3)
        assert file["angles"].shape == (60, 1)
        assert file["time"].shape == (60, 2)


def test_the_circle_has_one_name():
    help_text = " ".join(invoke("train", "vae", "--help").split())
    assert "circle is the name of S¹: sphere:1 and torus:1 are the same space" in help_text
    assert "projective:1 a circle of half its length" in help_text
    assert "sphere:1 and torus:1 are the same space" in invoke("list", "manifolds")
    assert manifolds.parse("projective:1").volume == manifolds.parse("circle").volume / 2
    listed = invoke("list", "likelihoods")
    assert all(name in listed for name in ("student-t", "negative-binomial", "von-mises"))


def test_models_are_built_with_what_they_are_given():
    model = build_model(
        SMALL.replace(likelihood="poisson", divergence="exact", posterior="heat-kernel"),
        (8,),
        covariates=2,
        exposure=True,
    )
    assert model.encoder.event_shape == (11,)
    assert model.decoder.event_shape == (4,)
    with pytest.raises(ValueError, match="network = 'circular' sees pictures"):
        build_model(
            VAE(
                network="circular",
                manifold="torus:2",
                likelihood="gaussian",
                posterior="heat-kernel",
                divergence="exact",
            ),
            (16, 16),
            covariates=1,
        )


def test_what_the_test_part_does_not_fit_is_refused_before_training():
    x = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    x[50, 1] = 1.5
    rows = torch.arange(60)
    dataset = data.Dataset(
        name="shares", train=x[:40], test=x[40:], train_rows=rows[:40], test_rows=rows[40:]
    )
    with pytest.raises(ValueError, match="rows held out go beyond"):
        run.train(VAE(manifold="circle", likelihood="bernoulli", epochs=1), dataset=dataset)


def test_patience_with_nothing_but_trials_is_refused():
    with pytest.raises(ValueError, match="nothing is left to stop"):
        VAE(patience=2, restarts=2, epochs=5, restart_epochs=5)
