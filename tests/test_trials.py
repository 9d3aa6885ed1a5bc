"""Restarts and seeds: several runs as one computation, and each what it would be alone."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manifold_ae.data import Shuffled
from manifold_ae.data.seeding import mix
from manifold_ae.experiments.config import Configuration
from manifold_ae.run.trials import train_together, train_with_restarts
from manifold_ae.training import Checkpoint, NonFiniteLossError, Schedule, fit, make_fabric


@dataclasses.dataclass(frozen=True)
class Toy(Configuration):
    seed: int = 0
    epochs: int = 4
    restarts: int = 3
    restart_epochs: int = 2
    precision: str = "32-true"
    compile: bool = False


class Regression(nn.Module):
    """With noise; its loss is not finite where ``broken``."""

    def __init__(self, broken: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.register_buffer("fault", torch.tensor(math.nan if broken else 0.0))

    def forward(self, x: Tensor, **_: float) -> dict[str, Tensor]:
        y = self.linear(x) - 1 + 0.01 * torch.randn(len(x), 1)
        return {"loss": y.square().mean() + self.fault}


def build(config: Toy, broken: frozenset[int] = frozenset()) -> Regression:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Regression(config.seed in broken)


def trial_seeds(config: Toy) -> list[int]:
    return [mix("trial", config.seed, k) >> 1 for k in range(config.restarts)]


X = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
FABRIC = make_fabric("cpu")
OPTIONS: dict[str, Any] = {
    "schedule": Schedule(lr=0.05, shape="one-cycle", kl_warmup=None),
    "fabric": FABRIC,
    "resume": False,
    "progress": False,
    "checkpoint_seconds": 0.0,
}


def run(
    *configs: Toy, folder: Path | None = None, broken: frozenset[int] = frozenset(), **options: Any
) -> tuple[Any, Checkpoint]:
    return train_together(
        configs,
        lambda config: build(config, broken),
        lambda config: Shuffled(X, 8, config.seed),
        lambda row: -row["loss"],
        folder=folder,
        **{**OPTIONS, "extra": {}, **options},
    )


def alone(config: Toy, seed: int) -> Checkpoint:
    return fit(
        build(config.replace(seed=seed)), Shuffled(X, 8, seed), epochs=config.epochs, seed=seed,
        schedule=OPTIONS["schedule"], fabric=FABRIC, progress=False,
    )  # fmt: skip


def test_the_best_of_trials_that_are_one_computation_goes_on(tmp_path):
    config = Toy()
    model, last = run(config, folder=tmp_path)
    assert isinstance(model, Regression)
    single = [alone(config, seed) for seed in trial_seeds(config)]
    expected = [-one.history[1]["loss"] for one in single]
    assert last.extra["trials"] == pytest.approx(expected, rel=1e-5)
    assert len(set(expected)) == 3
    best = single[expected.index(max(expected))]
    assert [row["loss"] for row in last.history] == pytest.approx(
        [row["loss"] for row in best.history], rel=1e-5
    )
    for name, value in best.model.items():
        torch.testing.assert_close(last.model[name], value)
    for k in range(3):
        kept = Checkpoint.load(tmp_path / "trials" / str(k) / "checkpoint.pt")
        assert (kept.epoch, -kept.history[1]["loss"]) == (2, last.extra["trials"][k])


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_trial_that_diverges_is_not_chosen_and_stops_nothing(tmp_path, lost):
    config = Toy()
    broken = frozenset({trial_seeds(config)[lost]})
    _, last = run(config, folder=tmp_path, broken=broken)
    _, whole = run(config)
    assert last.extra["trials"][lost] == -math.inf
    left = [k for k in range(3) if k != lost]
    assert [last.extra["trials"][k] for k in left] == pytest.approx(
        [whole.extra["trials"][k] for k in left]
    )
    assert len(last.history) == 4
    assert "lost" not in last.extra
    assert not (tmp_path / "trials" / str(lost) / "checkpoint.pt").exists()
    # Stopped after its trials, the run comes to the same end; and so when it was done.
    for _ in range(2):
        _, again = run(config, folder=tmp_path, broken=broken, resume=True)
        assert all(torch.equal(again.model[name], v) for name, v in last.model.items())
        assert again.extra == last.extra
        (tmp_path / "checkpoint.pt").unlink()


def test_when_every_trial_diverges_that_is_said():
    config = Toy()
    with pytest.raises(NonFiniteLossError, match="step 1 of 3 in epoch 1"):
        run(config, broken=frozenset(trial_seeds(config)))


def test_in_half_precision_trials_come_one_after_another(monkeypatch):
    """Their gradients are scaled in common: one that overflows would stop all."""
    from manifold_ae.run import trials

    monkeypatch.setattr(trials, "Replicas", None)
    config = Toy(precision="16-mixed")
    _, last = run(config)
    _, same = train_with_restarts(
        config, build, lambda c: Shuffled(X, 8, c.seed), lambda row: -row["loss"],
        folder=None, extra={}, **OPTIONS,
    )  # fmt: skip
    assert last.extra == same.extra
    assert len(last.extra["trials"]) == 3


@pytest.mark.parametrize("restarts", [1, 3])
def test_several_seeds_are_one_computation(tmp_path, restarts):
    configs = [Toy(seed=seed, restarts=restarts) for seed in (5, 6)]
    group, last = run(*configs, folder=tmp_path)
    for k, config in enumerate(configs):
        _, expected = run(config)
        own = group.split(last)[k]
        assert [row["loss"] for row in own.history] == pytest.approx(
            [row["loss"] for row in expected.history], rel=1e-5
        )
        if restarts > 1:
            assert own.extra["trials"][k] == pytest.approx(expected.extra["trials"], rel=1e-5)
        for name, value in expected.model.items():
            torch.testing.assert_close(own.model[name], value)
    for stage in ("checkpoint.pt", "trials/checkpoint.pt"):
        (tmp_path / stage).unlink(missing_ok=True)
        _, again = run(*configs, folder=tmp_path, resume=True)
        assert all(torch.equal(again.model[name], v) for name, v in last.model.items())
        assert again.extra == last.extra
