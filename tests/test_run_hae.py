"""Runs of homomorphism autoencoders: every world, every model; resumed, read back, refused."""

import csv
import json
import math
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from manifold_ae import data, groups, run
from manifold_ae.data import worlds
from manifold_ae.experiments import HAE, VAE
from manifold_ae.models import HomomorphismAutoencoder
from manifold_ae.run.representations import build_model
from manifold_ae.run.traces import TraceData, load_traces
from manifold_ae.training import Checkpoint

TINY = HAE(
    world=("size=16",),
    traces=60,
    test_fraction=0.2,
    epochs=2,
    restarts=1,
    restart_epochs=1,
    batch_size=32,
    encoder_hidden=(32,),
    decoder_hidden=(32,),
    num_rollouts=4,
    horizon=4,
    device="cpu",
)
#: Of traces in a file nothing is drawn.
OWN: dict[str, Any] = {"world": (), "traces": HAE.traces, "horizon": HAE.horizon}
#: Configurations by the name of the test: every world, every model.
CASES: dict[str, dict[str, Any]] = {
    "colours": {"world": ("size=16", "factors=x,y,hue")},
    "bordered": {"world": ("size=16", "bordered=true", "radius=1")},
    "grid world": {"data": "grid-world", "world": ()},
    "general grid": {"data": "grid-world", "world": ("agent=blob",), "orthogonal": False},
    "solids": {"data": "solids", "world": ("size=8", "samples=1")},
    "solids with hue": {"data": "solids", "world": ("size=8", "samples=1", "hue=true")},
    "fields": {"data": "fields", "world": ("degree=2", "size=8")},
    "pictures": {"data": "pictures"},
    "given": {"model": "given"},
    "given solids": {"model": "given", "data": "solids", "world": ("size=8", "samples=1")},
    "given grid": {"model": "given", "data": "grid-world", "world": ()},
    "givens": {"model": "givens"},
    "givens grid": {"model": "givens", "data": "grid-world", "world": ()},
    "unstructured": {"model": "unstructured"},
    "unstructured grid": {"model": "unstructured", "data": "grid-world", "world": ()},
    "still": {"model": "still"},
    "still grid": {"model": "still", "data": "grid-world", "world": ()},
    "perceptron": {"phi": "mlp", "phi_hidden": (16,)},
    "scrambled": {"phi": "mlp", "phi_hidden": (16,), "scramble": 1},
    "soft": {"blocks": "soft", "size": 6},
    "one block": {"blocks": "none"},
    "two blocks": {"blocks": "2,2", "free": 1, "closure_weight": 0.1},
    "general": {"orthogonal": False},
    "on a torus": {"manifold": "torus:2", "blocks": "2,2"},
    "gaussian": {"manifold": "euclidean:4"},
    "on rotations": {
        "manifold": "so3", "data": "solids", "world": ("size=8", "samples=1"), "blocks": "3",
    },
    "still on a torus": {"manifold": "torus:2", "model": "still"},
    "bernoulli": {"likelihood": "bernoulli"},
    "half precision": {"precision": "bf16-mixed"},
}  # fmt: skip
#: Those whose pictures are drawn without ``-m slow``: a picture takes a third of a second.
DRAWN = ("bordered", "still grid", "unstructured", "two blocks", "on rotations", "scrambled")


def config_of(name: str, **options: Any) -> HAE:
    return TINY.replace(**{**CASES[name], **options})


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return Checkpoint.load(folder / "checkpoint.pt").model


def rows_of(folder: Path) -> list[dict[str, str]]:
    lines = (folder / "metrics.csv").read_text().splitlines()
    return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(lines)]


def assert_finite(value: Any, name: str = "") -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            assert_finite(inner, key)
    elif isinstance(value, list | tuple):
        for inner in value:
            assert_finite(inner, name)
    elif value is not None and name != "left_out":
        assert math.isfinite(value), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> run.HAERun:
    trained = run.train(TINY, tmp_path_factory.mktemp("run") / "sprites")
    trained.finish()
    return trained


# ---- every world, every model -------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CASES))
def test_a_run_goes_all_the_way(name, tmp_path):
    trained = run.train(config_of(name), tmp_path / "run")
    metrics = trained.evaluate()
    trained.save(metrics)
    assert_finite(metrics)
    assert len(trained.history) == 2
    loaded = run.load(tmp_path / "run", device="cpu")
    assert loaded.config == trained.config
    again = loaded.evaluate()
    assert {**again, "seconds": 0} == {**metrics, "seconds": 0}
    assert metrics["rollout"]["horizons"] == (1, 2, 4)
    for line in ("prediction", "copying", "autoencoding"):
        assert line in loaded.table(again)
    moves = trained.model.transition
    assert ("homomorphism_error" in metrics) == hasattr(moves, "representation")
    known = trained.traces().world
    assert known is not None
    if "homomorphism_error" in metrics:
        assert ("alignment_residual" in metrics) == (name != "bordered")
    circles = isinstance(moves.group, groups.Torus) or "grid" in name
    assert ("d_lsbd" in metrics) == (name != "bordered" and circles)
    assert ("D_LSBD" in metrics.get("left_out", "")) == (name != "bordered" and not circles)
    assert ("kl" in metrics) == (trained.config.manifold is not None)
    if name in DRAWN:
        assert all(path.exists() for path in loaded.draw())
    with pytest.raises(NotImplementedError, match="no prior"):
        loaded.save_samples(3, tmp_path / "samples.npy")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in DRAWN])
def test_every_run_is_drawn(name, tmp_path):
    trained = run.train(config_of(name), tmp_path / "run")
    assert all(path.exists() for path in trained.draw())


def test_a_given_representation_is_exact(tmp_path):
    """What is measured of a model whose ρ is right: its homomorphism, and its alignment."""
    for name in ("given", "given solids", "given grid"):
        metrics = run.train(config_of(name, epochs=1)).evaluate()
        assert metrics["homomorphism_error"] < 1e-5
        assert metrics["inverse_error"] < 1e-5
        assert metrics["alignment_residual"] < 1e-5
        assert metrics["alignment_condition"] < 1.01


@pytest.mark.slow
def test_a_run_learns_two_angles(tmp_path):
    config = HAE(
        world=("size=16",), traces=3000, epochs=25, restarts=3, restart_epochs=3,
        encoder_hidden=(128,), decoder_hidden=(128,), num_rollouts=20, horizon=32, device="cpu",
    )  # fmt: skip
    metrics = run.train(config).evaluate()
    assert metrics["alignment_residual"] < 1e-3
    assert metrics["homomorphism_error"] < 0.05
    assert metrics["blocks"] == [2, 2]
    rollout = metrics["rollout"]
    assert rollout["prediction"][-1] < 0.3 * rollout["copying"][-1]


# ---- the folder ---------------------------------------------------------------------------------


def test_a_run_folder_holds_what_is_promised(finished):
    names = {str(p.relative_to(finished.folder)) for p in finished.folder.rglob("*.*")}
    assert names == {
        "config.toml",
        "metrics.csv",
        "metrics.json",
        "latents.npz",
        "checkpoint.pt",
        "weights.safetensors",
        "figures/curves.png",
        "figures/latents.png",
        "figures/rollout.png",
        "figures/traversals.png",
        "figures/representation_1.png",
        "figures/representation_2.png",
    }

    def refuse(name: str) -> Any:
        raise AssertionError(f"metrics.json holds {name}, which is no JSON")

    text = (finished.folder / "metrics.json").read_text()
    metrics = json.loads(text, parse_constant=refuse)
    assert {"mse", "prediction", "rollout", "homomorphism_error", "d_lsbd", "seconds"} <= set(
        metrics
    )
    rows = rows_of(finished.folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"loss", "reconstruction", "prediction", "bracket", "frequency"} <= set(rows[0])
    assert float(rows[0]["fading_weight"]) == 0.0
    assert HAE.from_mapping(HAE.read(finished.folder / "config.toml")) == finished.config
    weights = safetensors.torch.load_file(finished.folder / "weights.safetensors")
    model = finished.model.state_dict()
    assert weights.keys() == model.keys()
    assert all(torch.equal(weights[name], model[name]) for name in weights)


def test_latents_are_those_of_the_test_traces(finished):
    with np.load(finished.folder / "latents.npz") as file:
        latents = dict(file)
    test = finished.traces().test
    assert latents["latents"].shape == (12, 3, 4)
    assert np.array_equal(latents["actions"], test.actions.numpy())
    assert latents["angles"].shape == (12, 3, 2)
    one = finished.model.encode(test.observations[5, 1])
    np.testing.assert_allclose(latents["latents"][5, 1], one.detach().numpy(), atol=1e-5)
    # From one observation to the next, the angles move by the action.
    step = latents["angles"][:, 1:] - latents["angles"][:, :-1] - latents["actions"]
    assert np.abs(np.sin(step / 2)).max() < 1e-5


def test_a_loaded_run_is_the_trained_one(finished):
    loaded = run.load(finished.folder, device="cpu")
    assert isinstance(loaded, run.HAERun)
    test = finished.traces().test
    o, actions = test.observations[:, 0], test.actions
    assert torch.equal(loaded.encode(o), finished.encode(o))
    assert torch.equal(loaded.rollout(o, actions), finished.rollout(o, actions))
    assert torch.equal(loaded.traces().test.observations, test.observations)
    with pytest.raises(ValueError, match="num_samples = 5"):
        loaded.evaluate(num_samples=5)


def test_nothing_is_written_without_a_folder():
    trained = run.train(TINY.replace(epochs=1))
    assert trained.folder is None
    with pytest.raises(ValueError, match="no folder"):
        trained.finish()


def test_both_kinds_of_run_are_loaded(finished, tmp_path):
    small = VAE(
        manifold="circle", epochs=1, batch_size=600, encoder_hidden=(8,), decoder_hidden=(8,),
        device="cpu",
    )  # fmt: skip
    run.train(small, tmp_path / "vae")
    assert isinstance(run.load(tmp_path / "vae"), run.VAERun)
    assert isinstance(run.load(finished.folder), run.HAERun)
    checkpoint = Checkpoint.load(finished.folder / "checkpoint.pt")
    for change, message in (({"kind": "gan"}, "unknown kind of run 'gan'"), ({}, "lacks 'signal'")):
        extra = {k: v for k, v in checkpoint.extra.items() if change or k != "signal"} | change
        other = tmp_path / message.split()[0]
        other.mkdir()
        Checkpoint(**{**vars(checkpoint), "extra": extra}).save(other / "checkpoint.pt")
        with pytest.raises(ValueError, match=message):
            run.load(other)


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_loading_executes_nothing(finished, tmp_path):
    folder, trace = tmp_path / "copy", tmp_path / "executed"
    shutil.copytree(finished.folder, folder)
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    content["extra"]["group"] = Payload(trace)
    for write in (
        lambda: torch.save(content, folder / "checkpoint.pt"),
        lambda: (folder / "checkpoint.pt").write_bytes(pickle.dumps(content)),
    ):
        write()
        with pytest.raises(ValueError, match="not a readable checkpoint"):
            run.load(folder)
    assert not trace.exists()


# ---- resuming -----------------------------------------------------------------------------------


class Killed(Exception):
    pass


def assert_same_run(folder: Path, whole: Path) -> None:
    expected, found = weights_of(whole), weights_of(folder)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert rows_of(folder) == rows_of(whole)


def killed_after(steps: int, config: HAE, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until so many steps have been taken, and no further."""
    count = 0
    loss = HomomorphismAutoencoder.loss

    def fatal(self: Any, batch: Any, **weights: float) -> Any:
        nonlocal count
        count += 1
        if count > steps:
            raise Killed
        return loss(self, *batch, **weights)

    with monkeypatch.context() as patch:
        patch.setattr(HomomorphismAutoencoder, "forward", fatal)
        with pytest.raises(Killed):
            run.train(config, folder, checkpoint_seconds=0.0)


# Two steps make an epoch. Of one run of four epochs: killed in the first epoch, in the third. Of
# two trials of one epoch, which are one computation: in it; in the winner's third epoch.
@pytest.mark.parametrize(("restarts", "steps"), [(1, 1), (1, 5), (2, 3), (2, 7)])
@pytest.mark.parametrize("name", ["soft", "on a torus"])
def test_resuming_equals_never_stopping(name, tmp_path, monkeypatch, restarts, steps):
    config = config_of(name, epochs=4, restarts=restarts)
    folder = tmp_path / "killed"
    killed_after(steps, config, folder, monkeypatch)
    with pytest.raises(ValueError, match="holds a run already"):
        run.train(config, folder)
    resumed = run.train(config, folder, resume=True, checkpoint_seconds=0.0)
    whole = run.train(config, tmp_path / "whole", checkpoint_seconds=0.0)
    assert_same_run(folder, tmp_path / "whole")
    first, second = (r.evaluate() | {"seconds": 0} for r in (resumed, whole))
    assert first == second


def test_an_unfinished_run_of_before_there_was_a_choice_goes_on_as_it_was(tmp_path, monkeypatch):
    """A perceptron alone was all that there was: its folder does not say so."""
    plain = {"phi_activation": "relu", "phi_skip": False, "homomorphism_weight": 0.0}
    config = TINY.replace(phi="mlp", **plain)
    folder = tmp_path / "killed"
    killed_after(3, config, folder, monkeypatch)
    path = folder / "config.toml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if line.split(" = ")[0] not in plain))
    today = HAE.from_mapping(HAE.read(path))
    assert today.phi_skip
    resumed = run.train(today, folder, resume=True, checkpoint_seconds=0.0)
    assert resumed.config == config
    run.train(config, tmp_path / "whole", checkpoint_seconds=0.0)
    assert_same_run(folder, tmp_path / "whole")
    assert HAE.from_mapping(HAE.read(path)) == config
    with pytest.raises(ValueError, match="cannot resume"):
        run.train(today.replace(homomorphism_weight=0.5), folder, resume=True)


def test_a_run_that_is_done_is_not_trained_again(finished, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(finished.folder, folder)
    run.train(TINY, folder, resume=True)
    assert_same_run(folder, finished.folder)


def test_another_configuration_does_not_go_on(finished):
    with pytest.raises(ValueError, match="--resume"):
        run.train(TINY, finished.folder)
    with pytest.raises(ValueError, match=r"prediction_weight = 9\.0 \(was 0\.2\)"):
        run.train(TINY.replace(prediction_weight=9.0), finished.folder, resume=True)
    with pytest.raises(ValueError, match=r"blocks = '4' \(was 'auto'\)"):
        run.train(TINY.replace(blocks="4"), finished.folder, resume=True)


def test_the_best_trial_goes_on(tmp_path):
    whole = run.train(TINY.replace(restarts=3), tmp_path / "run")
    losses = [
        Checkpoint.load(tmp_path / "run" / "trials" / str(k) / "checkpoint.pt").history[0]["loss"]
        for k in range(3)
    ]
    assert len(set(losses)) == 3
    assert whole.history[0]["loss"] == min(losses)
    extra = Checkpoint.load(tmp_path / "run" / "checkpoint.pt").extra
    assert extra["trials"] == [-loss for loss in losses]


# ---- traces of one's own ------------------------------------------------------------------------


def own_traces(path: Path, spec: str = "torus:1", n: int = 80, features: int = 12) -> None:
    """Tuning curves of a circle, turned by angles or by fifths."""
    group, generator = groups.parse(spec), torch.Generator().manual_seed(0)
    if group.dim:
        actions: Any = torch.rand(n, 2, 1, generator=generator) * 4 - 2
        moves = actions[..., 0]
    else:
        actions = group.random(n, 2, generator=generator)
        moves = actions * (2 * math.pi / 5)
    start = torch.rand(n, 1, generator=generator) * 2 * math.pi
    angles = torch.cat([start, start + moves.cumsum(1)], 1)
    centres = torch.arange(features) * (2 * math.pi / features)
    o = torch.exp(torch.cos(angles[..., None] - centres) - 1)
    np.savez(path, observations=o.numpy(), actions=actions.numpy())


@pytest.mark.parametrize("spec", ["torus:1", "so2", "cyclic:5"])
def test_traces_of_ones_own_go_all_the_way(spec, tmp_path):
    path = tmp_path / "own.npz"
    own_traces(path, spec)
    config = TINY.replace(data=str(path), group=spec, **OWN)
    trained = run.train(config, tmp_path / "run")
    metrics = trained.finish()
    assert_finite(metrics)
    assert metrics["rollout"]["horizons"] == (1, 2)
    assert "alignment_residual" not in metrics
    with np.load(tmp_path / "run" / "latents.npz") as file:
        assert set(file) == {"latents", "actions"}
        assert file["latents"].shape == (16, 3, 2)
    loaded = run.load(tmp_path / "run")
    assert loaded.evaluate()["mse"] == metrics["mse"]
    own_traces(tmp_path / "more.npz", spec, n=7)
    encoded = loaded.encode_file(str(tmp_path / "more.npz"))
    assert encoded["latents"].shape == (7, 3, 2)
    own_traces(tmp_path / "other.npz", spec, features=11)
    with pytest.raises(ValueError, match=r"shape \(11,\): this run was trained on \(12,\)"):
        loaded.encode_file(str(tmp_path / "other.npz"))


def test_traces_in_memory():
    world = worlds.load("sprites", size=16)
    parts = [world.traces(n, 2, torch.Generator().manual_seed(n)) for n in (40, 10)]
    trained = run.train(TINY, traces=TraceData(parts[0], parts[1], world))
    assert_finite(trained.evaluate())


# ---- what is held out ---------------------------------------------------------------------------


def test_combinations_are_held_out(tmp_path):
    config = TINY.replace(hold_out="combinations", traces=300)
    source = load_traces(config)
    assert source.world is not None
    quarter = math.pi / 2

    def inside(traces: data.Traces) -> torch.Tensor:
        assert source.world is not None
        return (source.world.labels(traces.states) < quarter).all(-1)

    assert not inside(source.train).any()
    assert 0 < inside(source.test).float().mean() < 0.2
    assert 200 < len(source.train) < 300
    # Each factor alone is seen all the way round.
    angles = source.world.labels(source.train.states)
    assert (angles.flatten(0, 1).amin(0) < 0.2).all()
    metrics = run.train(config).evaluate()
    assert_finite(metrics)
    assert metrics["held_out_ratio"] == pytest.approx(
        metrics["held_out_error"] / metrics["seen_error"]
    )


def test_actions_are_held_out():
    config = TINY.replace(hold_out="actions", traces=300)
    source = load_traces(config)
    first = source.train.actions[..., 0]
    assert not ((first >= 1.0) & (first < 1.5)).any()
    assert (first > 1.5).any()
    assert (first < 1.0).any()
    assert_finite(run.train(config).evaluate())


def test_a_cell_of_a_grid_is_held_out():
    config = config_of("grid world", hold_out="combinations", traces=200)
    source = load_traces(config)
    assert source.train.states is not None
    seen = source.train.states.flatten().unique().tolist()
    assert seen == [k for k in range(25) if k not in (0, 1, 5, 6)]
    assert_finite(run.train(config).evaluate())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "grid-world", "world": (), "hold_out": "actions"}, "is finite"),
        ({"world": ("size=16", "factors=x"), "hold_out": "combinations"}, "has one factor"),
        ({"hold_out": "combinations", "traces": 3}, "raise traces"),
        ({"hold_out": "combinations", "steps": 60, "traces": 20}, "fewer steps"),
    ],
)
def test_what_cannot_be_held_out_is_refused(changes, message):
    with pytest.raises(ValueError, match=rf"hold_out = .*{message}"):
        load_traces(TINY.replace(**changes))


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "digits"}, r"data = 'digits'.*expected a world .* or PATH\.npz"),
        ({"data": "recording.npy"}, r"data = 'recording\.npy'.*PATH\.npz"),
        ({"data": "sprite"}, r"data = 'sprite' \(did you mean 'sprites'\?\)"),
        ({"data": "missing.npz", **OWN}, r"traces in a file need the group"),
        ({"data": "missing.npz", "group": "torus:2", **OWN}, r"missing\.npz does not exist"),
        ({"data": "a.npz", "group": "torus:2"}, r"world = \('size=16',\): only of a world"),
        (
            {"data": "a.npz", "group": "torus:2", **OWN, "hold_out": "actions"},
            "hold_out = 'actions': only of a world",
        ),
        ({"data": "a.npz", "group": "torus:2", "world": ()}, "traces = 60: only of a world"),
        ({"data": "a.npz", "group": "tours:2", **OWN}, "did you mean 'torus'"),
        ({"group": "torus:2"}, r"group = 'torus:2': sprites has a group of its own"),
        ({"world": ("sise=16",)}, r"world = 'sise=16'.*did you mean 'size'"),
        ({"world": ("size",)}, r"world = 'size': expected KEY=VALUE"),
        ({"world": ("size=big",)}, r"world = 'size=big': expected a value like 32, of type int"),
        ({"world": ("size=16.5",)}, r"world = 'size=16\.5'"),
        ({"world": ("bordered=perhaps",)}, r"world = 'bordered=perhaps'.*of type bool"),
        ({"world": ("radius=nan",)}, r"radius=nan"),
        ({"world": ("factors=x,z",)}, r"factors has 'z'"),
        ({"largest": 4.0}, r"largest=4\.0"),
        ({"blocks": "2,2", "size": 5}, r"size = 5, but blocks = \(2, 2\)"),
        ({"blocks": "1,1"}, r"blocks = \[1, 1\]"),
        ({"scramble": 0}, "scramble = 0: only of a perceptron"),
        ({"phi": "lookup"}, r"phi = 'lookup' for Torus\(2\)"),
        ({"phi_hidden": (8,)}, r"phi_hidden = \(8,\): only of a perceptron"),
        ({"initial_time": 0.1}, "initial_time = 0.1: only of a variational model"),
        ({"hold_out_bins": 3}, "hold_out_bins = 3: only of hold_out = 'combinations'"),
        ({"model": "still", "prediction_weight": 1.0}, "model = 'still' does not have it"),
        ({"table_weight": 1.0}, "table_weight = 1.0: .* has no such penalty"),
        ({"homomorphism_weight": 1.0}, "homomorphism_weight = 1.0: .* has no such penalty"),
        (
            {"data": "grid-world", "world": (), "largest": 1.0},
            r"largest = 1.0: an angle, which actions of Product\(Cyclic",
        ),
        ({"model": "hae", "settle_steps": 2, "manifold": "torus:2"}, "settling takes a linear"),
        ({"settle_steps": 2, "traces": 4}, "4 traces: settling takes 5 or more"),
        ({"data": "grid-world", "world": (), "phi": "linear"}, r"phi = 'linear' for"),
        ({"manifold": "torus:2", "blocks": "none"}, "takes points of FlatTorus"),
        ({"manifold": "torus:3"}, "expected size 6"),
        ({"manifold": "tours:2"}, "did you mean 'torus'"),
        ({"likelihood": "gausian"}, "no likelihood 'gausian'"),
        ({"device": "cuda:1", "devices": 2}, "devices = 2"),
        ({"device": "tpu"}, "device = 'tpu'"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(changes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run.train(TINY.replace(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "hea"}, "model = 'hea': expected hae, affine, given"),
        ({"blocks": "2,x"}, "blocks = '2,x'"),
        ({"blocks": "0"}, "blocks = '0'"),
        ({"restart_epochs": 3, "restarts": 2}, "restart_epochs = 3: expected at most epochs = 2"),
        ({"test_fraction": 1.0}, "test_fraction = 1.0"),
        ({"prediction_weight": -1.0}, r"prediction_weight = -1\.0"),
        ({"prediction_weight": math.nan}, "prediction_weight = nan"),
        ({"fade": 0.0}, "fade = 0.0"),
        ({"model": "still", "blocks": "2,2"}, "blocks = '2,2': model = 'still'"),
        ({"model": "givens", "phi": "mlp"}, "phi = 'mlp': model = 'givens'"),
        ({"model": "given", "free": 1}, "free = 1: model = 'given'"),
        ({"wolrd": ()}, "did you mean 'world'"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**changes).check_heeded()


def test_runs_with_what_is_refused_now_are_read_and_go_on(tmp_path):
    """Those of before there was a perceptron's activation too, which a linear φ does not have."""
    path = tmp_path / "own.npz"
    own_traces(path)
    config = TINY.replace(data=str(path), group="torus:1", world=(), epochs=1)
    with pytest.raises(ValueError, match="only of a world"):
        run.train(config, tmp_path / "run")
    run.train(config.replace(**OWN), tmp_path / "run")
    text = (tmp_path / "run" / "config.toml").read_text()
    for name in ("phi_activation", "phi_skip", "horizon", "homomorphism_weight"):
        text = "".join(row for row in text.splitlines(True) if not row.startswith(f"{name} ="))
    (tmp_path / "run" / "config.toml").write_text(text + "horizon = 5\n")
    checkpoint = Checkpoint.load(tmp_path / "run" / "checkpoint.pt")
    for name in ("phi_activation", "phi_skip", "homomorphism_weight"):
        del checkpoint.extra["config"][name]
    checkpoint.extra["config"]["horizon"] = 5
    checkpoint.save(tmp_path / "run" / "checkpoint.pt")
    loaded = run.load(tmp_path / "run")
    assert loaded.config.horizon == 5 and loaded.config.phi_activation == "relu"
    again = run.train(config.replace(**{**OWN, "horizon": 5}), tmp_path / "run", resume=True)
    assert again.history == loaded.history


def test_options_of_a_world_are_read_by_their_types():
    config = TINY.replace(world=("size = 16", "bordered=False", "radius=1", "factors=hue, x"))
    world = load_traces(config).world
    assert repr(world) == "Sprites(factors=('hue', 'x'), figure='L', size=16, radius=1.0)"


def test_dry_run_describes_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = run.describe(TINY)
    assert "first step: loss" in text
    assert "LearnedRepresentation(Torus(2)" in text
    assert list(tmp_path.iterdir()) == []


def test_weights_mean_the_same_on_every_kind_of_data():
    """The reconstruction of the mean observation counts as one, whatever its units."""
    source = load_traces(TINY)
    model = build_model(TINY, source.group, source.shape, source.signal)
    o = source.train.observations
    mean = o.flatten(0, 1).mean(0)
    cost = (o - mean).square().sum((-1, -2)).sum(1).mean() / 2
    assert model.reconstruction_weight * cost.item() == pytest.approx(1.0, rel=1e-3)
