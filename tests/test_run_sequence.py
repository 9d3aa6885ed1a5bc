"""Runs with a prior along time, and smoothing of what a run encodes."""

import dataclasses

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.testing import assert_close

from manifold_ae import data, run
from manifold_ae.cli.main import main
from manifold_ae.data import Recording
from manifold_ae.experiments import VAE
from manifold_ae.models import DeltaVAE
from manifold_ae.run.sequences import windows_of
from manifold_ae.run.stopping import patience, validation

SMALL = VAE(
    manifold="circle",
    likelihood="poisson",
    epochs=2,
    batch_size=32,
    encoder_hidden=(8, 8),
    decoder_hidden=(8,),
    num_samples=3,
    kl_warmup=0.0,
    sequence=8,
)
OPTIONS = [
    *("--epochs", "2", "--batch-size", "32", "--num-samples", "3", "--quiet"),
    *("--set", "encoder_hidden=[8, 8]", "--set", "decoder_hidden=[8]"),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Counts at a moving position: three trials, their rows in turn, stamps half a unit apart."""
    simulation = data.simulate("ring", 120, cells=8, smooth=True, rate=0.05, seed=0)
    groups = np.arange(120) % 3
    path = tmp_path_factory.mktemp("data") / "ring.npz"
    np.savez(path, x=simulation.x.numpy(), groups=groups, times=np.arange(120) / 6.0)
    return path


@pytest.fixture(scope="module")
def trained(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "ring"
    made = run.train(SMALL.replace(data=str(archive), split="blocks"), folder)
    made.finish()
    return made


def test_a_run_learns_a_rate_in_the_unit_of_its_times(trained):
    assert trained.model.motion is not None
    assert trained.model.motion.unit == pytest.approx(0.5)
    row = trained.history[-1]
    assert {"coupling", "rate"} <= row.keys()
    assert row["elbo"] == pytest.approx(row["elbo"], abs=0) and row["loss"] == pytest.approx(
        -row["elbo"], rel=1e-5
    )
    assert trained.evaluate()["rate"] == pytest.approx(trained.model.motion.rate.item())
    assert "rate" in trained.table(trained.evaluate())


def test_it_is_loaded_with_its_motion(trained):
    again = run.load(trained.folder, device="cpu")
    assert again.config.sequence == 8
    assert_close(again.model.motion.rate, trained.model.motion.rate)
    assert again.model.motion.unit == trained.model.motion.unit


def test_patience_judges_by_the_elbo_that_is_trained(trained):
    """Windows of the rows that are held out, by the loss itself, in the mean over its noise."""
    config, dataset = trained.config.replace(patience=3, sequence=50), trained.data()
    training, held = validation(config, dataset)
    device = torch.device("cpu")
    judge = patience(config, dataset, held, trained.scaling, trained.conditions, device)
    x = trained.scaled(dataset.train[held])
    assert len(training.train) + len(x) == len(dataset.train)
    known = data.rows_of(dataset.train_given, held)
    own = dataclasses.replace(
        dataset, train=x, train_rows=dataset.train_rows[held], train_given=known
    )
    batches = windows_of(config, own, x)
    with torch.no_grad():
        drawn = [trained.model.loss(**some) for k in range(400) for some in batches.epoch(k)]
    by_loss = torch.stack([terms["elbo"] for terms in drawn])
    error = by_loss.std().item() * (1 / 400 + len(x) / 1000) ** 0.5
    assert judge.score(trained.model) == pytest.approx(by_loss.mean().item(), abs=4 * error)
    # What the rows alone say is another number.
    coupling = torch.stack([terms["coupling"] for terms in drawn]).mean().item()
    assert abs(coupling) > 8 * error
    alone = dataclasses.replace(trained.config, patience=3, sequence=0)
    by_rows = patience(alone, dataset, held, trained.scaling, trained.conditions, device)
    expected = by_loss.mean().item() - coupling
    assert by_rows.score(trained.model) == pytest.approx(expected, abs=4 * error)


def test_patience_with_a_sequence_from_the_command_line(archive, tmp_path):
    command = ["train", "vae", "--manifold", "circle", "--data", str(archive), "--likelihood"]
    command += ["poisson", "--split", "groups", "--sequence", "8", "--patience", "1"]
    done = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "run"), *OPTIONS])
    assert done.exit_code == 0, done.output
    assert "best_epoch" in done.output


class Killed(Exception):
    pass


def test_it_goes_on_where_it_stopped(trained, tmp_path, monkeypatch):
    count, forward = 0, DeltaVAE.forward

    def fatal(self, *arguments, **weights):
        nonlocal count
        count += 1
        if count > 4:  # in the second of two epochs
            raise Killed
        return forward(self, *arguments, **weights)

    with monkeypatch.context() as patch:
        patch.setattr(DeltaVAE, "forward", fatal)
        with pytest.raises(Killed):
            run.train(trained.config, tmp_path / "run", checkpoint_seconds=0.0)
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    resumed = run.train(trained.config, tmp_path / "run", resume=True)
    for name, value in trained.model.state_dict().items():
        assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=0)


def test_seeds_are_trained_together(archive):
    group = run.train(SMALL.replace(data=str(archive), seeds=2, epochs=1))
    alone = run.train(SMALL.replace(data=str(archive), seed=1, epochs=1))
    member = group.runs[1]
    assert_close(member.model.motion.raw, alone.model.motion.raw, rtol=1e-4, atol=1e-6)


def test_smoothing_keeps_the_order_of_the_rows(trained, archive):
    recording = data.read(archive)
    found = trained.smooth(recording, rate=0.05, count=60)
    encoded = trained.encode(recording.x)
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in encoded.items()}
    assert all(np.isfinite(value).all() for value in found.values())
    for trial in range(3):
        own = torch.arange(trial, 120, 3)
        given = {"times": recording.given["times"][own]}
        alone = trained.smooth(Recording("one", recording.x[own], given), rate=0.05, count=60)
        assert_close(found["points"][own.numpy()], alone["points"])


def test_rows_without_order_are_told(trained):
    x = torch.ones(5, 8)
    # one unit apart, where there are no stamps
    stamped = Recording("a", x, {"times": torch.arange(5.0, dtype=torch.float64)})
    one = trained.smooth(Recording("a", x), rate=0.2, count=50)
    assert_close(one["points"], trained.smooth(stamped, rate=0.2, count=50)["points"])


def test_from_the_command_line(archive, tmp_path):
    folder, output = str(tmp_path / "run"), str(tmp_path / "latents.npz")

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(main, [*arguments])
        assert result.exit_code == 0, result.output
        return result.output

    call(
        "train", "vae", "--manifold", "circle", "--data", str(archive), "--likelihood", "poisson",
        "--sequence", "8", "--out", folder, *OPTIONS,
    )  # fmt: skip
    call("encode", folder, "--data", str(archive), "-o", output, "--smooth", "--points", "60")
    likeliest = np.load(output)
    assert likeliest["points"].shape == (120, 2) and likeliest["angles"].shape == (120, 1)
    call(
        "encode", folder, "--data", str(archive), "-o", output,
        "--smooth", "--points", "60", "--rate", "1e6",
    )  # fmt: skip
    alone = np.load(output)
    assert (alone["time"].mean() > likeliest["time"].mean()).all()
    result = CliRunner().invoke(
        main, ["encode", folder, "--data", str(archive), "-o", output, "--rate", "1"]
    )
    assert result.exit_code and "ask for smooth" in result.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence": 1}, "sequence = 1: expected a window of at least 2 rows, or 0"),
        ({"sequence": -3}, "sequence = -3"),
        ({"sequence": 8, "num_importance": 5}, "num_importance = 1, not 5"),
    ],
)
def test_refusals_of_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        VAE(**change)


def test_data_without_order_are_refused():
    with pytest.raises(ValueError, match=r"sequence = 8: .*torus.* is drawn afresh at every step"):
        run.train(SMALL.replace(data="torus", manifold="torus:2", likelihood="gaussian"))
    lonely = data.from_array(torch.ones(6, 4), groups=torch.arange(6), split="groups")
    with pytest.raises(ValueError, match="no row of array follows another in its trial"):
        run.train(SMALL, dataset=lonely)
