"""The loop: what it records, that a run goes on as if never stopped, and what stops it."""

import copy
import csv
import itertools
import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from lightning_fabric import Fabric
from torch import nn

import manifold_ae
from manifold_ae import training
from manifold_ae.training import Checkpoint, NonFiniteLossError, Schedule, fit, write_aside

PACKAGE = str(Path(manifold_ae.__file__).parents[1])


class Toy(nn.Module):
    """A linear regression with noise on its output; remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.calls: list[dict[str, float]] = []
        #: At this call (from 1), which term becomes NaN, or its gradient alone.
        self.fault: tuple[int, str] | None = None

    def forward(self, x: torch.Tensor, kl_weight: float) -> dict[str, torch.Tensor]:
        self.calls.append({"kl_weight": kl_weight, "training": float(self.training)})
        y = self.linear(x)
        y = y + 0.1 * torch.randn_like(y)
        terms = {"loss": y.square().mean(), "elbo": -y.detach().square().mean()}
        if self.fault is not None and self.fault[0] == len(self.calls):
            name = self.fault[1]
            if name == "gradient":
                # The root of zero: a value without fault, and an infinite slope times zero.
                terms["loss"] = terms["loss"] + (0 * self.linear.weight).sum().sqrt()
            else:
                terms[name] = terms[name] * math.nan
        return terms

    def statistics(self, x: torch.Tensor) -> dict[str, float]:
        return {"largest |x|": x.abs().max().item()}


class Batches:
    """Batches that are a function of (seed, epoch) alone."""

    def __init__(self, steps: int = 5, seed: int = 0, device: Any = "cpu") -> None:
        self.steps, self.seed, self.device = steps, seed, device

    def __len__(self) -> int:
        return self.steps

    def epoch(self, k: int) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(1000 * self.seed + k)
        for _ in range(self.steps):
            yield torch.randn(8, 4, generator=generator).to(self.device)


@pytest.fixture(scope="session")
def fabric(pytestconfig) -> Fabric:
    kind, _, index = pytestconfig.getoption("--device").partition(":")
    return Fabric(accelerator=kind, devices=[int(index)] if index else 1)


@pytest.fixture
def train(fabric, device):
    """``train(model, epochs=..., **)``: a short run of a model."""

    def run(model: nn.Module | None = None, epochs: int = 4, **kwargs: Any) -> Checkpoint:
        kwargs.setdefault("schedule", Schedule(lr=0.05))
        source = kwargs.pop("source", Batches(device=device))
        kwargs.setdefault("progress", False)
        model = fresh() if model is None else model
        return fit(model, source, epochs=epochs, fabric=fabric, **kwargs)

    return run


def fresh(seed: int = 0) -> Toy:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Toy()


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of nested dicts and lists, by its path; but not how long things took."""
    if isinstance(value, dict):
        items = [(str(key), part) for key, part in value.items() if key != "seconds"]
    elif isinstance(value, list | tuple):
        items = [(str(key), part) for key, part in enumerate(value)]
    else:
        return {name: value}
    return {path: leaf for key, part in items for path, leaf in flat(part, f"{name}/{key}").items()}


def assert_identical(found: Checkpoint, expected: Checkpoint) -> None:
    left, right = flat(vars(found)), flat(vars(expected))
    assert left.keys() == right.keys()
    for name, value in left.items():
        other = right[name]
        if isinstance(value, torch.Tensor):
            assert torch.equal(value.cpu(), other.cpu()), name
        else:
            assert value == other, name


# ---- what is recorded -------------------------------------------------------------------------


def test_an_epoch_is_a_row(train, tmp_path):
    model = fresh()
    seen = []
    last = train(
        model,
        epochs=3,
        folder=tmp_path,
        extra={"note": "kept"},
        after_epoch=lambda k, _: seen.append(k) or {"extra": 10.0 * k},
    )
    assert len(model.calls) == 15
    assert all(call["training"] for call in model.calls)
    assert last.epoch == 3
    assert seen == [1, 2, 3]
    assert last.extra == {"note": "kept"}
    assert [row["epoch"] for row in last.history] == [1, 2, 3]
    assert list(last.history[0]) == ["epoch", "loss", "elbo", "kl_weight", "seconds", "extra"]
    assert all(row["loss"] == pytest.approx(-row["elbo"]) for row in last.history)
    assert last.history[-1]["loss"] < last.history[0]["loss"]
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{k: float(v) for k, v in row.items()} for row in rows] == last.history
    assert_identical(Checkpoint.load(tmp_path / "checkpoint.pt"), last)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.csv"]


def test_nothing_is_written_without_a_folder(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(epochs=1)
    assert list(tmp_path.iterdir()) == []


def test_a_row_is_the_mean_over_its_epoch(train):
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.calls = nn.Parameter(torch.zeros(())), 0

        def forward(self, x: torch.Tensor, kl_weight: float) -> dict[str, torch.Tensor]:
            self.calls += 1
            return {"loss": 0 * self.weight + self.calls}

    assert [row["loss"] for row in train(Counting(), epochs=2).history] == [3.0, 8.0]


def test_randomness_is_a_function_of_seed_and_epoch(train):
    before = torch.get_rng_state()
    first = train(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert_identical(train(seed=1), first)
    assert train(seed=2).history[0]["loss"] != first.history[0]["loss"]


def test_every_step_of_every_epoch_draws_afresh(train):
    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.drawn = nn.Parameter(torch.zeros(())), []

        def forward(self, x: torch.Tensor, kl_weight: float) -> dict[str, torch.Tensor]:
            self.drawn.append(torch.rand((), device=x.device).item())
            return {"loss": self.weight.square()}

    model = Drawing()
    train(model, epochs=3)
    assert len(set(model.drawn)) == len(model.drawn) == 15


def test_a_bar_is_shown_if_asked_for(train, capsys):
    train(epochs=1, progress=True)
    assert "epoch 1" in capsys.readouterr().err
    train(epochs=1)
    assert capsys.readouterr().err == ""


# ---- schedules --------------------------------------------------------------------------------


def test_a_constant_rate_is_constant():
    assert {Schedule(lr=0.3).learning_rate(k / 10) for k in range(11)} == {0.3}
    assert Schedule().weights(0.0) == {"kl_weight": 1.0}


def test_one_cycle_rises_and_falls():
    schedule = Schedule(lr=0.1, shape="one-cycle")
    rates = [schedule.learning_rate(k / 1000) for k in range(1001)]
    assert rates[0] == pytest.approx(0.1 / 25)
    assert rates[300] == max(rates) == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.1 * 1e-4)
    assert all(a < b for a, b in itertools.pairwise(rates[:301]))
    assert all(a > b for a, b in itertools.pairwise(rates[300:]))


def test_schedules_reach_the_model_and_the_optimiser(train, monkeypatch):
    model, rates = fresh(), []
    original = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    schedule = Schedule(lr=0.2, shape="one-cycle", kl_warmup=0.5)
    last = train(model, epochs=4, schedule=schedule)
    assert rates == pytest.approx([schedule.learning_rate(k / 20) for k in range(20)])
    weights = [min(1.0, k / 10) for k in range(20)]
    assert [call["kl_weight"] for call in model.calls] == pytest.approx(weights)
    assert [row["kl_weight"] for row in last.history] == pytest.approx([0.5, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": "one-cylce"},
        {"lr": -1.0},
        {"lr": math.nan},
        {"kl_warmup": -0.1},
        {"kl_warmup": 1.5},
    ],
)
def test_wrong_schedules_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        Schedule(**wrong)


# ---- going on ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 3, 4])
@pytest.mark.parametrize("through_file", [True, False])
def test_a_run_goes_on_as_if_never_stopped(train, tmp_path, cut, through_file):
    schedule = Schedule(lr=0.1, shape="one-cycle", kl_warmup=0.5)
    whole = train(schedule=schedule)
    first = train(schedule=schedule, until=cut, folder=tmp_path)
    assert first.epoch == cut
    if through_file and cut:
        first = Checkpoint.load(tmp_path / "checkpoint.pt")
    # Another model, from other weights: everything has to come from the checkpoint.
    second = train(fresh(seed=5), schedule=schedule, resume=first, folder=tmp_path)
    assert_identical(second, whole)
    if cut < 4:
        assert_identical(Checkpoint.load(tmp_path / "checkpoint.pt"), whole)
        assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 5


def test_a_checkpoint_is_a_snapshot(train):
    model = fresh()
    first = train(model, until=2)
    before = copy.deepcopy(first)
    whole = copy.deepcopy(train(model, resume=first))
    assert_identical(first, before)
    # It serves a second time.
    assert_identical(train(fresh(seed=5), resume=first), whole)


def test_checkpoints_come_no_more_often_than_asked(train, tmp_path, monkeypatch):
    saved = []
    original = Checkpoint.save

    def save(self: Checkpoint, path: Path) -> None:
        saved.append(self.epoch)
        original(self, path)

    monkeypatch.setattr(Checkpoint, "save", save)
    train(folder=tmp_path, checkpoint_seconds=1e9)
    assert saved == [4]
    train(folder=tmp_path, checkpoint_seconds=0.0)
    assert saved == [4, 1, 2, 3, 4]


TINY = {
    "manifold": "circle",
    "data": "digits",
    "encoder_hidden": [16],
    "decoder_hidden": [16],
    "epochs": 5,
    "device": "cpu",
}

KILLED = """
import os, signal, torch
from pathlib import Path
from manifold_ae import data, run
from manifold_ae.experiments import VAE

torch.set_num_threads(1)
original, started = data.Shuffled.epoch, []

def epoch(self, k):
    started.append(k)
    for step, batch in enumerate(original(self, k)):
        if len(started) == {calls} and step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

data.Shuffled.epoch = epoch
run.train(VAE.from_mapping({config!r}), Path({folder!r}), checkpoint_seconds=0.0)
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are split by threads, and rounded accordingly."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
# Epochs are counted over the whole run: the fourth of two trials of two is in their second epoch.
@pytest.mark.parametrize(
    ("restarts", "calls"), [(1, 3), (2, 4), pytest.param(2, 6, marks=pytest.mark.slow)]
)
def test_a_killed_run_goes_on_as_if_never_stopped(tmp_path, one_thread, restarts, calls):
    from manifold_ae import run
    from manifold_ae.experiments import VAE

    config = TINY | ({"restarts": restarts, "restart_epochs": 2} if restarts > 1 else {})
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(
            calls=calls, config=config, folder=str(tmp_path / "killed")
        )],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE},
        check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-800:]

    settings = VAE.from_mapping(config)
    with pytest.raises(ValueError, match="holds a run already"):
        run.train(settings, tmp_path / "killed")
    resumed = run.train(settings, tmp_path / "killed", resume=True, checkpoint_seconds=0.0)
    whole = run.train(settings, tmp_path / "whole", checkpoint_seconds=0.0)
    for trained in (resumed, whole):
        assert len(trained.history) == 5
        trained.save({})
    assert_identical(
        *(Checkpoint.load(tmp_path / name / "checkpoint.pt") for name in ("killed", "whole"))
    )
    killed_weights, whole_weights = (
        safetensors.torch.load_file(tmp_path / name / "weights.safetensors")
        for name in ("killed", "whole")
    )
    assert killed_weights.keys() == whole_weights.keys()
    assert all(torch.equal(killed_weights[name], whole_weights[name]) for name in whole_weights)
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
        for file in (
            (tmp_path / name / "metrics.csv").read_text().splitlines()
            for name in ("killed", "whole")
        )
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 5


# ---- damaged and hostile files ------------------------------------------------------------------


@pytest.fixture
def saved(train, tmp_path) -> Path:
    train(epochs=1, folder=tmp_path)
    return tmp_path / "checkpoint.pt"


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_checkpoints_are_refused(saved, kept):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is not a readable checkpoint"):
        Checkpoint.load(saved)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and no archive", b"\x80\x02."])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is not a readable checkpoint"):
        Checkpoint.load(path)


@pytest.mark.parametrize("found", [0, 2, "1", None])
def test_other_formats_are_refused(saved, found):
    content = torch.load(saved, weights_only=True)
    torch.save({**content, "format": found}, saved)
    with pytest.raises(ValueError, match=rf"has checkpoint format {found!r}; this version reads"):
        Checkpoint.load(saved)


def test_other_content_is_refused(saved):
    content = torch.load(saved, weights_only=True)
    torch.save([1, 2], saved)
    with pytest.raises(ValueError, match="checkpoint format None"):
        Checkpoint.load(saved)
    for wrong in (
        {name: value for name, value in content.items() if name != "optimizer"},
        {**content, "unknown": 1},
    ):
        torch.save(wrong, saved)
        with pytest.raises(ValueError, match=r"checkpoint\.pt"):
            Checkpoint.load(saved)


def test_a_missing_checkpoint_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Checkpoint.load(tmp_path / "checkpoint.pt")


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_a_checkpoint_executes_nothing(saved, tmp_path, plain_pickle):
    trace = tmp_path / "executed"
    content = {**torch.load(saved, weights_only=True), "extra": {"config": Payload(trace)}}
    if plain_pickle:
        saved.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, saved)
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        Checkpoint.load(saved)
    assert not trace.exists()
    # The payload is live: read without care, it acts.
    (pickle.loads(saved.read_bytes()) if plain_pickle else torch.load(saved, weights_only=False))
    assert trace.exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_aside(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="limits of files are of POSIX")
def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path):
    """Under a limit on the size of files, which fails a write as a full disk does."""
    import resource

    path = tmp_path / "checkpoint.pt"
    Checkpoint(1, {}, {}, [], {}).save(path)
    large = Checkpoint(2, {"weight": torch.randn(500_000)}, {}, [], {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"what was saved before is kept.*checkpoint.pt"):
            large.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert Checkpoint.load(path).epoch == 1
    assert list(tmp_path.iterdir()) == [path]
    large.save(path)
    assert Checkpoint.load(path).epoch == 2


@pytest.mark.skipif(os.name != "posix", reason="an open file can be replaced on POSIX alone")
def test_a_write_replaces_the_file_and_never_its_content(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with path.open() as reader:
        write_aside(path, lambda temporary: temporary.write_text("new"))
        assert reader.read() == "old"  # whoever had it open reads it to its end
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


# ---- losses that are not finite -----------------------------------------------------------------


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("name", ["loss", "elbo"])
@pytest.mark.parametrize(("call", "step", "epoch"), [(1, 1, 1), (13, 3, 3), (15, 5, 3)])
def test_a_loss_that_is_not_finite_stops_the_run(
    train, tmp_path, capsys, call, step, epoch, name, progress
):
    # So late in an epoch as its last step: the checkpoint that follows must not be written.
    model = fresh()
    model.fault = (call, name)
    with pytest.raises(NonFiniteLossError) as stopped:
        train(model, folder=tmp_path, checkpoint_seconds=0.0, progress=progress)
    message = str(stopped.value)
    assert message.startswith(f"{name} not finite at step {step} of 5 in epoch {epoch} (")
    assert f"{name} = nan" in message
    assert "largest |x| = " in message
    if epoch == 1:
        assert list(tmp_path.iterdir()) == []
        return
    kept = Checkpoint.load(tmp_path / "checkpoint.pt")
    assert kept.epoch == epoch - 1
    assert_identical(kept, train(until=epoch - 1))
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == epoch


@pytest.mark.parametrize(("call", "step"), [(13, 3), (15, 5)])
def test_values_that_are_read_late_are_read_before_anything_is_saved(
    train, tmp_path, monkeypatch, call, step
):
    """On a GPU terms are read when the bar is drawn, if at all: here as if on one."""
    original = training.record.Record.add

    def add(self: Any, *args: Any) -> None:
        original(self, *args)
        self.eager = False

    monkeypatch.setattr(training.record.Record, "add", add)
    model = fresh()
    model.fault = (call, "loss")
    with pytest.raises(NonFiniteLossError, match=f"step {step} of 5 in epoch 3"):
        train(model, folder=tmp_path, checkpoint_seconds=0.0)
    assert Checkpoint.load(tmp_path / "checkpoint.pt").epoch == 2


@pytest.mark.parametrize("call", [9, 10])
def test_the_last_checkpoint_is_good_whatever_went_wrong(train, tmp_path, call):
    """A gradient may be NaN where the loss is not; the weights are, one step later."""
    model = fresh()
    model.fault = (call, "gradient")
    with pytest.raises(NonFiniteLossError, match=r"step|weight|parameter"):
        train(model, folder=tmp_path, checkpoint_seconds=0.0)
    kept = Checkpoint.load(tmp_path / "checkpoint.pt")
    assert all(torch.isfinite(value).all() for value in kept.model.values())


def test_times_that_overflow_are_reported_and_not_an_index_error(train, tmp_path, device):
    from manifold_ae.manifolds import Sphere
    from manifold_ae.models import DeltaVAE
    from manifold_ae.nn import MLP

    class Broken(Batches):
        def epoch(self, k: int) -> Iterator[torch.Tensor]:
            for step, batch in enumerate(super().epoch(k)):
                yield batch * (math.nan if (k, step) == (1, 2) else 1.0)

    vae = DeltaVAE(Sphere(2), MLP(4, (8,)), MLP(3, (8,)))
    with pytest.raises(NonFiniteLossError, match=r"step 3 of 5 in epoch 2 .*kl = nan"):
        train(vae, source=Broken(device=device), folder=tmp_path, checkpoint_seconds=0.0)
    assert Checkpoint.load(tmp_path / "checkpoint.pt").epoch == 1
