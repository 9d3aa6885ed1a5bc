"""The command line, as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from manifold_ae import run
from manifold_ae.cli import main

SMALL = [
    "--epochs", "2", "--batch-size", "256", "--num-samples", "3", "--quiet",
    "--set", "encoder_hidden=[16, 16, 16]", "--set", "decoder_hidden=[16, 16]",
]  # fmt: skip


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run"
    output = call("train", "vae", "--manifold", "torus:2", "--out", str(path), *SMALL)
    assert "log_likelihood" in output
    return path


def test_help_does_not_import_torch():
    code = (
        "import sys; from manifold_ae.cli import main\n"
        "for words in (['--help'], *(['train', kind, '--help'] for kind in ('vae', 'hae')),\n"
        "              ['encode', '--help'], ['list', 'experiments']):\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_option_shows_its_default():
    text = " ".join(call("train", "vae", "--help").split())
    assert "[default: sphere:2]" in text
    assert "--likelihood" in text


@pytest.mark.parametrize(
    ("what", "entry"),
    [
        ("manifolds", "sphere:d"),
        ("data", "digits"),
        ("worlds", "grid-world"),
        ("groups", "torus:n"),
        ("likelihoods", "poisson"),
        ("experiments", "hae"),
    ],
)
def test_list(what, entry):
    assert entry in call("list", what)
    assert entry in call("list")


def test_evaluate_plot_sample_encode(folder, tmp_path):
    assert "elbo" in call("evaluate", str(folder), "--num-samples", "4")
    assert json.loads((folder / "metrics.json").read_text())["num_samples"] == 4
    assert "latents.png" in call("plot", str(folder))
    new = tmp_path / "folder" / "new.npy"
    call("sample", str(folder), "-n", "5", "-o", str(new))
    assert np.load(new).shape == (5, 8, 8)
    assert new.with_suffix(".png").exists()
    out = tmp_path / "latents.npz"
    call("encode", str(folder), "--data", "digits", "-o", str(out))
    latents = arrays(out)
    assert latents["angles"].shape == (1797, 2)
    trained = arrays(folder / "latents.npz")
    np.testing.assert_array_equal(latents["rows"], trained["rows"])
    np.testing.assert_allclose(latents["points"], trained["points"], atol=1e-5)


def test_resume_takes_the_runs_own_configuration(folder):
    assert "elbo" in call("train", "vae", "--out", str(folder), "--resume", "--quiet")
    text = call(
        "train", "vae", "--out", str(folder), "--resume", "--epochs", "9", "--quiet", code=1
    )
    assert "epochs = 9 (was 2)" in text


@pytest.mark.parametrize(
    ("words", "name", "said"),
    [
        (["train", "vae", "--out", "somewhere"], "train", "--resume goes on from there"),
        (["reproduce", "table2"], "reproduce", "the same command goes on from there"),
        (["plot", "."], "load", "Error: stopped\n"),
    ],
)
def test_a_command_that_is_stopped_says_what_goes_on(words, name, said, monkeypatch):
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, name, stopped)
    text = call(*words, code=1)
    assert said in text
    assert ("--resume" in text) == (words[0] == "train")


def test_dry_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = call("train", "vae", "--dry-run", *SMALL)
    assert "first step" in text
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_file_and_what_overrides_it(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('manifold = "circle"\nepochs = 7\n')
    text = call("train", "vae", "--config", str(path), "--dry-run", *SMALL)
    assert 'manifold = "circle"' in text
    assert "epochs = 2" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "vae", "--manifold", "shpere:2"], "did you mean 'sphere'"),
        (["train", "vae", "--set", "epohcs=3"], "did you mean 'epochs'"),
        (["train", "vae", "--set", "epochs"], "KEY=VALUE"),
        (["train", "vae", "--data", "missing.npy"], "does not exist"),
        (["train", "vae", "--data", "digitz"], "did you mean 'digits'"),
        (["train", "vae", "--device", "tpu"], "cpu"),
        (["train", "vae", "--likelihood", "cauchy"], "gaussian"),
        (["train", "vae", "--epochs", "0"], "epochs"),
    ],
)
def test_one_wrong_argument_is_one_clear_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = call(*arguments, "--quiet", code=1)
    assert message in text
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1


def test_usage_errors(tmp_path):
    call("train", "vae", "--resume", code=2)
    call("train", "vae", "--resume", "--out", str(tmp_path / "nothing"), code=2)
    call("evaluate", str(tmp_path / "nothing"), code=2)
    assert "holds no run" in call("evaluate", str(tmp_path), code=1)


def test_an_option_before_what_is_trained_is_told_where_it_belongs():
    found = CliRunner().invoke(main, ["train", "--manifold", "circle"])
    assert found.exit_code == 2
    assert "manifold-ae train vae --manifold" in found.output
    assert CliRunner().invoke(main, ["train", "--help"]).exit_code == 0
