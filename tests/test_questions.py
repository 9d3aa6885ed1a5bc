"""evaluate --coverage, --consistency, --off-manifold, --cosmoothing, on the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from manifold_ae import data, metrics, run
from manifold_ae.cli.main import main
from manifold_ae.experiments import VAE
from manifold_ae.models import likelihoods


def config(path: Path, **more: Any) -> VAE:
    return VAE(
        manifold="circle", likelihood="poisson", data=str(path), epochs=12, batch_size=64, lr=3e-3,
        encoder_hidden=(32,), decoder_hidden=(32,), device="cpu", num_samples=5, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts, true angles, a run, a group of two seeds, and a run on another manifold."""
    root = tmp_path_factory.mktemp("questions")
    recording = data.simulate("ring", 300, seed=0)
    np.save(root / "counts.npy", recording.x.numpy())
    assert recording.angles is not None
    np.save(root / "angles.npy", recording.angles.numpy())
    path = root / "counts.npy"
    run.train(config(path), root / "one")
    run.train(config(path, seed=5, seeds=2), root / "group")
    run.train(config(path).replace(manifold="torus:2", epochs=1), root / "torus")
    return root


def evaluate(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--device", "cpu"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_all_questions_at_once(folder: Path) -> None:
    code, said = evaluate(
        folder / "one", "--coverage", folder / "angles.npy", "--consistency", folder / "group",
        "--off-manifold", "--cosmoothing",
    )  # fmt: skip
    assert code == 0, said
    assert "90 % regions hold" in said
    assert "3 runs: latents" in said
    assert "60 test rows are less likely" in said
    assert "bits a count" in said
    kept = json.loads((folder / "one" / "metrics.json").read_text())
    assert 0 <= kept["coverage"]["coverage"] <= 1
    assert len(kept["consistency"]["distances"]) == 3
    assert kept["consistency"]["mean_distance"] < kept["consistency"]["chance"]
    with np.load(folder / "one" / "off_manifold.npz") as archive:
        rows = dict(archive)
    assert len(rows["p_value"]) == len(np.unique(rows["row"])) == 60
    assert kept["off_manifold"]["part"] == pytest.approx((rows["p_value"] < 0.05).mean())
    assert kept["cosmoothing"]["r2"] > 0


def test_seeds_are_consistent_with_each_other_unasked(folder: Path) -> None:
    code, said = evaluate(folder / "group", "--coverage", folder / "angles.npy")
    assert code == 0, said
    assert "2 runs: latents" in said
    assert "seed 5: 90 % regions" in said
    kept = json.loads((folder / "group" / "metrics.json").read_text())
    assert kept["consistency"]["runs"] == ["this run seed 5", "this run seed 6"]


def test_answers_are_kept_until_they_are_asked_for_again(folder: Path) -> None:
    assert evaluate(folder / "one", "--cosmoothing")[0] == 0
    path = folder / "one" / "metrics.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"topology": {"captured": True}}))
    code, said = evaluate(folder / "one", "--num-samples", 3)
    assert code == 0 and "Features from the others" not in said
    again = json.loads(path.read_text())
    assert again["cosmoothing"] == kept["cosmoothing"]
    assert again["topology"] == {"captured": True}
    assert again["num_samples"] == 3
    # Those of the model after fewer epochs are those of another.
    path.write_text(json.dumps(again | {"epochs": 1}))
    assert evaluate(folder / "one")[0] == 0
    assert "cosmoothing" not in json.loads(path.read_text())


def test_the_topology_of_every_seed_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for homology, which is an extra."""

    def topology(self: run.VAERun) -> metrics.Topology:
        return metrics.Topology(self.config.seed == 5, f"seed is {self.config.seed}", {})

    monkeypatch.setattr(run.VAERun, "topology", topology)
    code, said = evaluate(folder / "group", "--topology")
    assert code == 0, said
    assert "seed 5: seed is 5" in said and "seed 6: seed is 6" in said
    kept = json.loads((folder / "group" / "metrics.json").read_text())["topology"]
    assert {name: own["captured"] for name, own in kept.items()} == {
        "seed 5": True,
        "seed 6": False,
    }
    with pytest.raises(ValueError, match=r"is of one seed: .*run\.ask\(.*topology=True"):
        run.load(folder / "group", device="cpu").topology()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--coverage",), "have no labels"),
        (("--coverage", "counts.npy"), r"truth has shape (300, 30)"),
        (("--coverage", "missing.npy"), "missing.npy"),
        (("--consistency", "torus"), "is on FlatTorus(2), the first run on FlatTorus(1)"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_line(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    option, *rest = arguments
    code, said = evaluate(folder / "one", option, *(folder / name for name in rest))
    assert code == 1
    assert message in said
    assert "Traceback" not in said


def test_files_of_truth_are_checked(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("angles")
    with pytest.raises(ValueError, match="no array of true positions"):
        run.read_truth(tmp_path / "text.npy")
    np.save(tmp_path / "nan.npy", np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="not finite"):
        run.read_truth(tmp_path / "nan.npy")
    np.savez(tmp_path / "one.npz", angles=np.arange(3.0))
    assert run.read_truth(tmp_path / "one.npz").tolist() == [0, 1, 2]
    np.savez(tmp_path / "two.npz", angles=np.arange(3.0), rates=np.arange(2.0))
    with pytest.raises(ValueError, match="it holds angles, rates: expected one array"):
        run.read_truth(tmp_path / "two.npz")
    np.save(tmp_path / "words.npy", np.array(["a"]))
    with pytest.raises(ValueError, match="real numbers"):
        run.read_truth(tmp_path / "words.npy")


def test_a_nuisance_beside_an_angle_is_not_judged(tmp_path: Path) -> None:
    recording = data.simulate("ring", 300, seed=0)
    assert recording.angles is not None
    np.save(tmp_path / "angles.npy", recording.angles.numpy())
    np.save(tmp_path / "counts.npy", recording.x.numpy())
    config_ = config(tmp_path / "counts.npy").replace(manifold="torus:1*euclidean:1")
    run.train(config_, tmp_path / "run", progress=False)
    code, said = evaluate(tmp_path / "run", "--coverage", tmp_path / "angles.npy")
    assert code == 0, said
    assert "positions of FlatTorus(1) alone" in said
    assert "model's own posterior hold" in said
    kept = json.loads((tmp_path / "run" / "metrics.json").read_text())["coverage"]
    assert kept["part"] == "FlatTorus(1)"
    assert kept["refined"]["mean_error"] < 0.5


def test_positions_of_other_rows_or_in_degrees_are_told(folder: Path) -> None:
    trained = run.load(folder / "one", device="cpu")
    angles = torch.from_numpy(np.load(folder / "angles.npy"))
    with pytest.raises(ValueError, match="truth has 301 rows, and the data have 300"):
        run.calibrate(trained, torch.cat([angles, angles[:1]]))
    with pytest.warns(UserWarning, match="truth reaches .* taken as radians"):
        run.calibrate(trained, torch.rad2deg(angles), refined=False)


def test_runs_with_and_without_covariates_are_compared(tmp_path: Path) -> None:
    x = data.simulate("ring", 300, seed=0).x.numpy()
    speed = np.random.default_rng(0).normal(size=300).astype(np.float32)
    np.savez(tmp_path / "counts.npz", x=x, covariates=speed[:, None])
    np.save(tmp_path / "counts.npy", x)
    run.train(config(tmp_path / "counts.npz"), tmp_path / "with", progress=False)
    run.train(config(tmp_path / "counts.npy"), tmp_path / "without", progress=False)
    code, said = evaluate(tmp_path / "with", "--consistency", tmp_path / "without")
    assert code == 0 and "2 runs: latents" in said, said
    code, said = evaluate(tmp_path / "without", "--consistency", tmp_path / "with")
    assert code == 1
    assert "with was trained with covariates, and the data of the first run have none" in said


def test_what_a_model_cannot_tell_is_said_beside_the_other_answers(folder: Path) -> None:
    trained = run.load(folder / "one", device="cpu")
    trained.model.likelihood = likelihoods.named("von-mises", (30,))
    answers = run.ask(trained, hold_out=True)
    assert answers["cosmoothing"].words.startswith("--cosmoothing: not known: co-smoothing of")
    assert "unknown" in answers["cosmoothing"].record


def test_one_run_alone_has_nothing_to_compare(folder: Path) -> None:
    trained = run.load(folder / "one", device="cpu")
    assert run.compare({"one": trained}) is None
    again = run.compare({"one": trained, "again": trained})
    assert again is not None
    assert again.mean < 1e-3
    assert torch.is_tensor(again.aligned[0, 1].residuals)
