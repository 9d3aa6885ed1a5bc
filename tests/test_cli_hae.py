"""The command line on homomorphism autoencoders, as a user meets it."""

import dataclasses
import json
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from manifold_ae.cli import main
from manifold_ae.data import worlds
from manifold_ae.experiments import HAE

SMALL = [
    "--world", "size=16", "--traces", "40", "--epochs", "2", "--restarts", "1", "--horizon", "4",
    "--restart-epochs", "1", "--batch-size", "16", "--device", "cpu", "--quiet",
    "--set", "encoder_hidden=[16]", "--set", "decoder_hidden=[16]", "--set", "num_rollouts=3",
]  # fmt: skip


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "run"
    output = call("train", "hae", "--data", "sprites", "--out", str(path), *SMALL)
    assert "homomorphism_error" in output
    assert "autoencoding" in output
    return path


def test_every_option_is_a_field_and_shows_its_default():
    command = main.commands["train"].commands["hae"]  # type: ignore[attr-defined]
    fields = {field.name: field.default for field in dataclasses.fields(HAE)}
    context = click.Context(command)
    text = " ".join(command.get_help(context).split())
    for parameter in command.params:
        if parameter.name in fields and parameter.name != "world":
            assert f"[default: {fields[parameter.name]}]" in text, parameter.name
            assert parameter.default is None, "the configuration decides"
    own = {"out", "resume", "config", "settings", "dry_run", "quiet"}
    assert {parameter.name for parameter in command.params} - own <= set(fields)


def test_dry_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = call("train", "hae", "--dry-run", *SMALL)
    assert "first step: loss" in text
    assert 'world = ["size=16"]' in text
    assert list(tmp_path.iterdir()) == []


def test_a_run_gets_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k in (1, 2):
        text = call("train", "hae", "--data", "grid-world", "--model", "still", *SMALL[2:])
        assert f"run in runs/grid-world-still-{k}" in text
    assert {path.name for path in Path("runs").iterdir()} == {
        "grid-world-still-1", "grid-world-still-2",
    }  # fmt: skip


def test_evaluate_and_plot(folder):
    before = json.loads((folder / "metrics.json").read_text())
    text = call("evaluate", str(folder), "--device", "cpu")
    assert "rollout_growth" in text
    assert json.loads((folder / "metrics.json").read_text()) == before
    assert "num_samples = 4" in call("evaluate", str(folder), "--num-samples", "4", code=1)
    drawn = call("plot", str(folder)).split()
    assert {Path(name).name for name in drawn} == {
        path.name for path in (folder / "figures").iterdir()
    }


def test_encode_takes_traces(folder, tmp_path):
    traces = worlds.load("sprites", size=16).traces(5, 3, torch.Generator().manual_seed(0))
    traces.save(tmp_path / "more.npz")
    out = tmp_path / "latents.npz"
    text = call("encode", str(folder), "--data", str(tmp_path / "more.npz"), "-o", str(out))
    assert "latents (5, 4, 4)" in text
    with np.load(out) as file:
        assert np.array_equal(file["actions"], traces.actions.numpy())
        assert np.isfinite(file["latents"]).all()
    assert "npz" in call("encode", str(folder), "--data", "sprites", "-o", str(out), code=1)


def test_sample_says_what_there_is_instead(folder):
    text = call("sample", str(folder), code=1)
    assert "has no prior" in text
    assert "plot" in text
    assert not (folder / "samples.npy").exists()


def test_resume_takes_the_runs_own_configuration(folder):
    assert "mse" in call("train", "hae", "--out", str(folder), "--resume", "--quiet")
    again = ("train", "hae", "--out", str(folder), "--resume", "--quiet")
    assert "steps = 5 (was 2)" in call(*again, "--steps", "5", code=1)
    assert "--resume" in call("train", "hae", "--out", str(folder), *SMALL, code=1)


def test_a_configuration_file_and_what_overrides_it(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('data = "grid-world"\nepochs = 7\nblocks = "2,2,1"\northogonal = false\n')
    text = call("train", "hae", "--config", str(path), "--orthogonal", "--dry-run", *SMALL[2:])
    for line in ('data = "grid-world"', "epochs = 2", 'blocks = "2,2,1"', "orthogonal = true"):
        assert line in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits"], "expected a world"),
        (["--data", "sprite"], "did you mean 'sprites'"),
        (["--data", "recording.npy"], "PATH.npz"),
        (["--data", "missing.npz"], "--group"),
        (["--data", "missing.npz", "--group", "torus:1"], "does not exist"),
        (["--group", "torus:2"], "has a group of its own"),
        (["--world", "sise=16"], "did you mean 'size'"),
        (["--world", "size"], "KEY=VALUE"),
        (["--set", "epohcs=3"], "did you mean 'epochs'"),
        (["--blocks", "2,2", "--size", "5"], "size = 5"),
        (["--blocks", "two"], "blocks = 'two'"),
        (["--scramble", "1"], "scramble = 1"),
        (["--device", "cuda:1", "--devices", "2"], "devices = 2"),
        (["--epochs", "1"], "restart_epochs = 3"),
        (["--model", "still", "--blocks", "2,2"], "blocks = '2,2'"),
        (["--lr", "-1"], "lr = -1.0"),
        (["--likelihood", "cauchy"], "gaussian"),
    ],
)
def test_one_wrong_argument_is_one_clear_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = () if "missing.npz" in arguments else ("--set", "traces=20")
    text = call("train", "hae", *arguments, "--quiet", *few, code=1)
    assert message in text
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_usage_errors(tmp_path):
    assert "invalid choice" in call("train", "hae", "--model", "hea", code=2).lower().replace(
        "is not one of", "invalid choice"
    )
    call("train", "hae", "--resume", code=2)
    call("train", "hae", "--resume", "--out", str(tmp_path / "nothing"), code=2)
