"""Latents as a table of text."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner

from manifold_ae import run
from manifold_ae.cli import main
from manifold_ae.experiments import VAE


def test_encode_writes_the_same_numbers_as_text(tmp_path):
    counts = np.random.default_rng(0).poisson(2.0, (30, 4))
    np.save(tmp_path / "counts.npy", counts)
    config = VAE(
        manifold="torus:2",
        data=str(tmp_path / "counts.npy"),
        likelihood="poisson",
        epochs=1,
        encoder_hidden=(4,),
        decoder_hidden=(4,),
    )
    trained = run.train(config, tmp_path / "run")
    other = ["encode", str(tmp_path / "run"), "--data", config.data, "-o", str(tmp_path / "a.txt")]
    refused = CliRunner().invoke(main, other)
    assert refused.exit_code == 2 and "neither .npz nor .csv" in refused.output
    path = tmp_path / "new" / "angles.csv"
    arguments = ["encode", str(tmp_path / "run"), "--data", config.data, "-o", str(path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    expected = trained.encode(counts)
    for k in range(2):
        found = [float(row[f"angles_{k}"]) for row in rows]
        assert found == expected["angles"][:, k].tolist()
    assert [int(row["rows"]) for row in rows] == list(range(30))
    assert [float(row["standard_deviation"]) for row in rows] == pytest.approx(
        expected["standard_deviation"].tolist()
    )


def test_a_table_numbers_what_has_several_columns(tmp_path):
    arrays = {
        "points": np.arange(8.0).reshape(2, 2, 2),
        "angle": np.array([[1.5], [2.5]]),
        "part": np.array(["train", "test, too"]),
    }
    run.save_table(tmp_path / "a.csv", arrays)
    text = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert text[0] == "points_0,points_1,points_2,points_3,angle,part"
    assert text[1:] == ["0.0,1.0,2.0,3.0,1.5,train", '4.0,5.0,6.0,7.0,2.5,"test, too"']
