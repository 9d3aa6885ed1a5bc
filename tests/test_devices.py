"""Several processes train as one: here two on the CPU, started by the script itself."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import manifold_ae
from manifold_ae import run
from manifold_ae.data import Repeated, Shuffled, Together
from manifold_ae.replicas import Replicas
from manifold_ae.training import Checkpoint, Schedule, fit, make_fabric

ROWS, BATCH, EPOCHS = 21, 8, 3

COMMON = """
import torch
from torch import nn

class Regression(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()

    def forward(self, x, **_):
        loss = (self.layers(x) - x.sum(-1, keepdim=True)).square().mean()
        return {"loss": loss, "mse": loss.detach()}
"""

SCRIPT = (
    COMMON
    + """
import json, math, sys
from pathlib import Path
from manifold_ae import run
from manifold_ae.data import Shuffled, Together
from manifold_ae.experiments import VAE
from manifold_ae.replicas import Replicas
from manifold_ae.training import NonFiniteLossError, Schedule, fit, make_fabric

torch.set_num_threads(1)
folder = Path(sys.argv[1])
rows, batch, epochs = map(int, sys.argv[2:])
fabric = make_fabric("cpu", devices=2)
rank = fabric.global_rank
x = torch.rand(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
source = Shuffled(x, batch // 2, 0, rank=rank, world_size=2)
options = dict(epochs=epochs, schedule=Schedule(lr=0.05), fabric=fabric, progress=False)

# A folder of its own for every process shows which of them write.
one = folder / f"one-{rank}"
one.mkdir()
fit(Regression(), source, folder=one, **options)
many = folder / f"many-{rank}"
many.mkdir()
replicas = Replicas([Regression(0), Regression(1)], (0, 1))
fit(replicas, Together([source, source.seeded(1)]), folder=many, **options)

class Broken(Regression):
    def forward(self, x, **_):
        terms = super().forward(x)
        return {name: term * (math.nan if rank == 1 else 1.0) for name, term in terms.items()}

try:
    fit(Broken(), source, **options)
except NonFiniteLossError as error:
    (folder / f"error-{rank}.txt").write_text(str(error))

config = VAE(
    manifold="euclidean:2", data="digits", encoder_hidden=(8,), decoder_hidden=(8,), epochs=2,
    batch_size=128, num_samples=2, device="cpu", devices=2, restarts=2, restart_epochs=1,
)
# Each process would write elsewhere, were it not told where.
trained = run.train(config, folder / f"vae-{rank}")
if trained.is_main:
    trained.finish()
"""
)


def start(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script as two processes."""
    environment = {k: v for k, v in os.environ.items() if "RANK" not in k and "MASTER" not in k}
    environment |= {
        "PYTHONPATH": str(Path(manifold_ae.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    path = Path(arguments[0]) / "script.py"
    path.write_text(code)
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    start(SCRIPT, str(folder), str(ROWS), str(BATCH), str(EPOCHS))
    return folder


@pytest.fixture(scope="module")
def regression() -> Any:
    names: dict[str, Any] = {}
    exec(COMMON, names)
    return names["Regression"]


def alone(model: nn.Module, source: Any) -> Checkpoint:
    return fit(
        model, source, epochs=EPOCHS, schedule=Schedule(lr=0.05), fabric=make_fabric("cpu"),
        progress=False,
    )  # fmt: skip


def rows() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(ROWS, 3, dtype=torch.float64, generator=generator)


def assert_equal_runs(found: Checkpoint, expected: Checkpoint) -> None:
    for name, value in expected.model.items():
        torch.testing.assert_close(found.model[name], value, rtol=1e-10, atol=1e-10)
    assert len(found.history) == len(expected.history)
    for row, other in zip(found.history, expected.history, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-10)


def test_two_processes_are_one_with_the_batch_of_both(trained, regression):
    """Also where the last batch, of five rows, does not divide."""
    expected = alone(regression(), Shuffled(rows(), BATCH, 0))
    assert_equal_runs(Checkpoint.load(trained / "one-0" / "checkpoint.pt"), expected)
    assert list((trained / "one-1").iterdir()) == []
    with (trained / "one-0" / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == EPOCHS


def test_so_are_replicas(trained, regression):
    source = Shuffled(rows(), BATCH, 0)
    expected = alone(
        Replicas([regression(0), regression(1)], (0, 1)), Together([source, source.seeded(1)])
    )
    assert_equal_runs(Checkpoint.load(trained / "many-0" / "checkpoint.pt"), expected)
    assert list((trained / "many-1").iterdir()) == []


def test_a_loss_that_is_not_finite_in_one_stops_all(trained):
    for rank in (0, 1):
        message = (trained / f"error-{rank}.txt").read_text()
        assert message.startswith("loss, mse not finite at step 1 of 3 in epoch 1")


def test_a_run_on_two_devices_is_one_folder(trained):
    assert not (trained / "vae-1").exists()
    loaded = run.load(trained / "vae-0", device="cpu")
    assert loaded.config.devices == 2
    assert len(loaded.history) == 2
    assert len(Checkpoint.load(trained / "vae-0" / "checkpoint.pt").extra["trials"]) == 2
    metrics = json.loads((trained / "vae-0" / "metrics.json").read_text())
    assert math.isfinite(metrics["elbo"])
    assert loaded.evaluate()["elbo"] == metrics["elbo"]


@pytest.mark.slow
def test_the_command_line_starts_its_processes(tmp_path):
    code = "from manifold_ae.cli import main\nimport sys\nmain(sys.argv[2:])"
    words = "train vae --manifold circle --data digits --epochs 1 --devices 2 --device cpu --quiet"
    out = tmp_path / "run"
    start(code, str(tmp_path), *words.split(), "--seeds", "2", "--out", str(out))
    assert sorted(json.loads((out / "metrics.json").read_text())["seeds"]) == ["0", "1"]
    start(code, str(tmp_path), *words.split(), "--seeds", "2", "--out", str(out), "--resume")


@pytest.mark.parametrize(
    ("size", "batch", "world"), [(21, 8, 2), (23, 6, 3), (20, 4, 1), (9, 4, 2)]
)
def test_shares_make_the_mean_over_processes_that_over_rows(size, batch, world):
    x = torch.rand(size, dtype=torch.float64)
    parts = [Shuffled(x, batch, 0, rank, world) for rank in range(world)]
    whole = Shuffled(x, batch * world, 0)
    for step, joint in enumerate(list(whole.epoch(0))[: len(parts[0])]):
        own = [list(part.epoch(0))[step].mean() * part.share(step) for part in parts]
        torch.testing.assert_close(torch.stack(own).mean(), joint.mean())
    twice = Repeated(parts[0], 2)
    assert [twice.share(step) for step in range(len(twice))] == 2 * [
        parts[0].share(step) for step in range(len(parts[0]))
    ]


def test_one_device_by_its_number_is_not_several():
    with pytest.raises(ValueError, match=r"device = 'cuda:1' is one; for devices = 2 write 'cuda'"):
        make_fabric("cuda:1", devices=2)
