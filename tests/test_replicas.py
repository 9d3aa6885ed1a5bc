"""Several models as one computation: each is the run with its seed, whatever the others do."""

import copy
import csv
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from manifold_ae import groups, manifolds
from manifold_ae.data import Fresh, Repeated, Shuffled, Together
from manifold_ae.data.seeding import mix
from manifold_ae.diffusion import Schedule as NoiseSchedule
from manifold_ae.distributions import HeatKernel, PowerSpherical, RandomWalk, WrappedNormal
from manifold_ae.models import DeltaVAE, DiffusionModel, HomomorphismAutoencoder, known_divergence
from manifold_ae.nn import MLP, MLPDenoiser
from manifold_ae.replicas import Replicas
from manifold_ae.training import Checkpoint, NonFiniteLossError, Schedule, fit, make_fabric

#: Rows to train on, features, rows of a batch: ten steps an epoch, of which the last is smaller.
ROWS, FEATURES, BATCH = 78, 6, 8
SEEDS = (3, 4, 11)


@pytest.fixture(scope="session")
def fabric(pytestconfig) -> Fabric:
    kind, _, index = pytestconfig.getoption("--device").partition(":")
    return Fabric(accelerator=kind, devices=[int(index)] if index else 1)


def seeded(seed: int, build: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("weights", seed))
        return build().to(dtype)


def vae(spec: str, posterior: Any = HeatKernel) -> Callable[[], nn.Module]:
    M = manifolds.parse(spec)
    return lambda: DeltaVAE(
        M,
        MLP(FEATURES, (9, 9)),
        MLP(M.embedding_size, (9,)),
        posterior=posterior,
        divergence=known_divergence(M, posterior),
    )


def rows(dtype: torch.dtype, device: Any = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(ROWS, FEATURES, generator=generator, dtype=dtype).to(device)


def trained(
    build: Callable[[], nn.Module],
    source: Any,
    fabric: Fabric,
    dtype: torch.dtype,
    seeds: tuple[int, ...] = SEEDS,
    epochs: int = 2,
    mapped: bool = True,
    **options: Any,
) -> tuple[Replicas, Checkpoint]:
    model = Replicas([seeded(seed, build, dtype) for seed in seeds], seeds, mapped=mapped)
    sources = Together([source.seeded(seed) for seed in seeds])
    options.setdefault("schedule", Schedule(lr=0.01, shape="one-cycle", kl_warmup=0.5))
    last = fit(model, sources, epochs=epochs, fabric=fabric, progress=False, **options)
    return model, last


def alone(
    build: Callable[[], nn.Module],
    source: Any,
    fabric: Fabric,
    dtype: torch.dtype,
    seed: int,
    epochs: int = 2,
    **options: Any,
) -> Checkpoint:
    options.setdefault("schedule", Schedule(lr=0.01, shape="one-cycle", kl_warmup=0.5))
    return fit(
        seeded(seed, build, dtype), source.seeded(seed), epochs=epochs, fabric=fabric, seed=seed,
        progress=False, **options,
    )  # fmt: skip


def assert_close(found: Checkpoint, expected: Checkpoint, tolerance: float) -> None:
    """Equal weights, averages of Adam and metrics, to a part of their own size."""
    assert found.epoch == expected.epoch
    assert found.model.keys() == expected.model.keys()
    for name, value in expected.model.items():
        torch.testing.assert_close(found.model[name], value, rtol=tolerance, atol=tolerance)
    for i, state in expected.optimizer["state"].items():
        for name, value in state.items():
            torch.testing.assert_close(
                found.optimizer["state"][i][name], value, rtol=tolerance, atol=tolerance
            )
    groups = [copy.deepcopy(c.optimizer["param_groups"]) for c in (found, expected)]
    assert groups[0] == groups[1]
    assert len(found.history) == len(expected.history)
    for row, other in zip(found.history, expected.history, strict=True):
        assert list(row) == list(other)
        for name in row.keys() - {"seconds"}:
            assert row[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance)


# ---- each is the single run with its seed -------------------------------------------------------


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("spec", "posterior"),
    [
        ("sphere:2", HeatKernel),
        pytest.param("torus:2", RandomWalk, marks=SLOW),
        pytest.param("euclidean:2", HeatKernel, marks=SLOW),
        pytest.param("sphere:3", PowerSpherical, marks=SLOW),
        pytest.param("sphere:20", WrappedNormal, marks=SLOW),
        pytest.param("sphere:20", RandomWalk, marks=SLOW),
        pytest.param("embedded-torus", RandomWalk, marks=SLOW),
        pytest.param("projective:2", HeatKernel, marks=SLOW),
        pytest.param("so3*projective:2", HeatKernel, marks=SLOW),
        pytest.param("klein-bottle", HeatKernel, marks=SLOW),
    ],
)
def test_a_replica_is_the_single_run_with_its_seed(spec, posterior, fabric, device):
    """Twenty steps in float64, each with orders and noise of its own."""
    build, source = vae(spec, posterior), Shuffled(rows(torch.float64, device), BATCH, 0)
    model, last = trained(build, source, fabric, torch.float64)
    assert model.separately is None
    assert len({row["loss"] for row in last.history}) == 2 * len(SEEDS)
    for seed, own in zip(SEEDS, model.split(last), strict=True):
        assert_close(own, alone(build, source, fabric, torch.float64, seed), 1e-9)


def test_one_by_one_they_are_the_same(fabric, device):
    build, source = vae("euclidean:2"), Shuffled(rows(torch.float64, device), 26, 0)
    model, last = trained(build, source, fabric, torch.float64, mapped=False)
    assert model.separately == "asked for"
    for seed, own in zip(SEEDS, model.split(last), strict=True):
        assert_close(own, alone(build, source, fabric, torch.float64, seed), 1e-9)


class Drawing(nn.Module):
    """A regression that draws in every way that replicas know, and writes to a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.tied = nn.Linear(FEATURES, 2), nn.Linear(FEATURES, 2)
        self.tied.weight = self.linear.weight
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, **_: float) -> dict[str, Tensor]:
        self.calls += 1
        like = {"dtype": x.dtype, "device": x.device}
        y = self.linear(x) + 0.1 * torch.randn(len(x), 2, **like) * self.frozen
        y = y[torch.randperm(len(x), device=x.device)] + self.tied(x) + torch.rand((2,), **like)
        y = y + torch.randn_like(y) * torch.rand_like(y[:1])
        y = y * torch.randint(1, 3, (2,), device=x.device)
        return {"loss": y.square().mean()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [
            {"params": [self.linear.weight, self.frozen]},
            {"params": [self.linear.bias, self.tied.bias], "lr_scale": 3.0},
        ]


def test_every_kind_of_draw_tied_weights_buffers_and_groups(fabric, dtype, device, tolerance):
    source = Shuffled(rows(dtype, device), BATCH, 0)
    model, last = trained(Drawing, source, fabric, dtype)
    assert sum(p.numel() for p in model.parameters()) == 3 * sum(
        p.numel() for p in Drawing().parameters()
    )
    for k, seed in enumerate(SEEDS):
        own, single = model.split(last)[k], alone(Drawing, source, fabric, dtype, seed)
        assert_close(own, single, 10 * tolerance)
        assert own.model["calls"] == 20
        assert torch.equal(own.model["tied.weight"], own.model["linear.weight"])
        taken = model.model(k)
        assert isinstance(taken, Drawing)
        assert taken.tied.weight is taken.linear.weight
        assert not taken.frozen.requires_grad
        assert torch.equal(taken.state_dict()["linear.weight"], own.model["linear.weight"])


def test_a_homomorphism_autoencoder_too(fabric, device):
    """With a learned representation that learns faster than the rest, on batches of two tensors."""

    def build() -> nn.Module:
        return HomomorphismAutoencoder(
            MLP(FEATURES, (8,)),
            MLP(4, (8,)),
            groups.LearnedRepresentation(groups.Torus(2), blocks=[2, 2]),
            penalties={"frequency": 0.01},
        )

    x = rows(torch.float64, device)
    actions = torch.rand(ROWS // 3, 2, 2, dtype=torch.float64, device=device)
    source = Shuffled((x.unflatten(0, (-1, 3)), actions), BATCH, 0)
    options = {"schedule": Schedule(lr=1e-3, kl_warmup=None, fade=0.5), "epochs": 3}
    model, last = trained(build, source, fabric, torch.float64, **options)
    assert model.separately is None
    for seed, own in zip(SEEDS, model.split(last), strict=True):
        assert_close(own, alone(build, source, fabric, torch.float64, seed, **options), 1e-9)


def test_a_diffusion_model_too(fabric, device):
    """Its average of weights follows after each step; its batches are drawn, not shuffled."""

    def draw(n: int, generator: Any, device: Any) -> tuple[Tensor, Tensor]:
        x = torch.randn(n, 2, generator=generator, device=device, dtype=torch.float64)
        return x, x

    def build() -> nn.Module:
        return DiffusionModel(NoiseSchedule.linear(50), MLPDenoiser(2, width=8, depth=1), (2,))

    source = Fresh(draw, BATCH, 5, 0, device)
    options = {"schedule": Schedule(lr=1e-3, kl_warmup=None), "epochs": 2}
    model, last = trained(build, source, fabric, torch.float64, **options)
    assert model.separately is None
    for seed, own in zip(SEEDS, model.split(last), strict=True):
        assert_close(own, alone(build, source, fabric, torch.float64, seed, **options), 1e-9)


def test_what_cannot_be_mapped_is_computed_one_by_one(fabric, device):
    M = manifolds.Submanifold(
        (3,), level_set=lambda y: y.square().sum(-1) - 1, name="ball", volume=4 * math.pi
    )

    def build() -> nn.Module:
        return DeltaVAE(
            M, MLP(FEATURES, (8,)), MLP(3, (8,)), posterior=functools.partial(RandomWalk, steps=2),
            divergence="short-time",
        )  # fmt: skip

    source = Shuffled(rows(torch.float64, device), 40, 0)
    model, last = trained(build, source, fabric, torch.float64, epochs=1)
    assert model.separately is not None
    for seed, own in zip(SEEDS, model.split(last), strict=True):
        assert_close(own, alone(build, source, fabric, torch.float64, seed, epochs=1), 1e-9)


# ---- what becomes of one is nothing to the others -----------------------------------------------


class Diverging(nn.Module):
    """A regression whose loss, or its slope, is not finite once the weight is past a bound."""

    def __init__(self, kind: str, bound: float) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.rand(FEATURES))
        self.register_buffer("bound", torch.tensor(bound))

    def forward(self, x: Tensor, **_: float) -> dict[str, Tensor]:
        loss = (x @ self.weight - 9).square().mean() + 0.1 * torch.randn((), dtype=x.dtype)
        past = self.weight.detach().mean() > self.bound
        if self.kind == "loss":
            return {"loss": torch.where(past, math.nan, loss)}
        # The root of zero: a value without fault, and an infinite slope times zero.
        return {"loss": loss + torch.where(past, (0 * self.weight).sum(), 1.0).sqrt()}

    def statistics(self, x: Tensor) -> dict[str, float]:
        return {"rows": float(len(x))}


def diverging(kind: str, bounds: tuple[float, ...]) -> Replicas:
    models = []
    for seed, bound in zip(SEEDS, bounds, strict=True):
        models.append(seeded(seed, functools.partial(Diverging, kind, bound), torch.float64))
    return Replicas(models, SEEDS)


# With one step an epoch the loss of the next is never seen: the weights tell.
@pytest.mark.parametrize(
    ("kind", "batch", "said"),
    [("loss", BATCH, "rows = 8"), ("gradient", BATCH, "loss = nan"), ("gradient", ROWS, "weight")],
)
def test_one_that_diverges_does_not_stop_the_others(kind, batch, said, fabric, tmp_path):
    source = Shuffled(rows(torch.float64), batch, 0)
    sources = Together([source.seeded(seed) for seed in SEEDS])
    options = {
        "epochs": 3,
        "schedule": Schedule(lr=0.02 * batch / BATCH),
        "fabric": fabric,
        "progress": False,
    }
    whole = diverging(kind, (9.0, 0.7, 9.0))
    last = fit(whole, sources, folder=tmp_path, **options)
    (k,) = last.extra["lost"]
    assert k == 1
    assert "not finite" in last.extra["lost"][1]
    assert said in last.extra["lost"][1]
    same = diverging(kind, (9.0, 9.0, 9.0))
    expected = fit(same, sources, **options)
    for j in (0, 2):
        for name, value in whole.split(last)[j].model.items():
            torch.testing.assert_close(value, same.split(expected)[j].model[name])
            assert torch.isfinite(value).all()
    with (tmp_path / "metrics.csv").open() as file:
        found = [(int(row["epoch"]), int(row["replica"])) for row in csv.DictReader(file)]
    assert [pair for pair in found if pair[1] != 1] == [(e, j) for e in (1, 2, 3) for j in (0, 2)]
    assert len([pair for pair in found if pair[1] == 1]) < 3
    # Nor does it come back.
    again = fit(diverging(kind, (9.0, 0.7, 9.0)), sources, resume=last, **{**options, "epochs": 4})
    assert again.extra["lost"] == last.extra["lost"]
    assert [row["replica"] for row in again.history if row["epoch"] == 4] == [0, 2]
    assert whole.split(last)[1].extra["lost"] == {0: last.extra["lost"][1]}
    joined = Replicas.join(whole.split(last))
    assert joined.extra == last.extra
    assert joined.history == last.history


def test_when_none_is_left_the_loop_stops(fabric, tmp_path):
    sources = Together([Shuffled(rows(torch.float64), BATCH, seed) for seed in SEEDS])
    with pytest.raises(NonFiniteLossError, match=r"loss not finite at step 1 of 10 in epoch 1"):
        fit(
            diverging("loss", (0.0, 0.0, 0.0)), sources, epochs=2, schedule=Schedule(),
            fabric=fabric, progress=False, folder=tmp_path,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


# ---- going on -----------------------------------------------------------------------------------


def test_replicas_go_on_as_if_never_stopped(fabric, tmp_path, device):
    build, source = vae("euclidean:2"), Shuffled(rows(torch.float32, device), 2 * BATCH, 0)
    whole, expected = trained(build, source, fabric, torch.float32)
    _, first = trained(build, source, fabric, torch.float32, until=1, folder=tmp_path)
    first = Checkpoint.load(tmp_path / "checkpoint.pt")
    _, second = trained(build, source, fabric, torch.float32, resume=first)
    assert second.model.keys() == expected.model.keys()
    for name, value in expected.model.items():
        assert torch.equal(second.model[name], value), name
    rows_of = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in c.history]
        for c in (second, expected)
    ]
    assert rows_of[0] == rows_of[1]
    # Taken apart and put together, nothing is lost.
    joined = Replicas.join(whole.split(expected))
    assert joined.history == expected.history
    assert all(torch.equal(joined.model[name], v) for name, v in expected.model.items())
    for i, state in expected.optimizer["state"].items():
        assert all(torch.equal(joined.optimizer["state"][i][n], v) for n, v in state.items())
    # And one of them goes on alone.
    own = whole.split(first)[1]
    single = alone(build, source, fabric, torch.float32, SEEDS[1], resume=own)
    full = alone(build, source, fabric, torch.float32, SEEDS[1])
    assert single.history[-1]["loss"] == pytest.approx(full.history[-1]["loss"], rel=1e-4)


# ---- what is refused ----------------------------------------------------------------------------


def test_what_is_no_set_of_replicas_is_refused():
    two = [nn.Linear(2, 3), nn.Linear(2, 4)]
    with pytest.raises(ValueError, match="'weight' of shapes"):
        Replicas(two, (0, 1))
    with pytest.raises(ValueError, match="2 model"):
        Replicas(two, (0,))
    with pytest.raises(ValueError, match="0 model"):
        Replicas([], ())
    source = Shuffled(torch.rand(5, 2), 2, 0)
    with pytest.raises(ValueError, match=r"\[2, 3\] steps"):
        Together([source, Repeated(source, 1), Shuffled(torch.rand(4, 2), 2, 0)])
    checkpoints = [Checkpoint(e, {}, {"state": {}}, [], {}) for e in (1, 2)]
    with pytest.raises(ValueError, match=r"epochs \[1, 2\]"):
        Replicas.join(checkpoints)


def test_replicas_are_not_compiled():
    """It would make them slower: see ``tests/benchmarks/replicas.py --compile``."""
    with pytest.raises(NotImplementedError, match="leave compile out"):
        Replicas([nn.Linear(2, 3)], (0,)).compile()


def test_half_precision_is_that_of_the_single_run(device):
    """Autocast reaches through the map; what a step gives differs by the rounding of bfloat16."""
    fabric = make_fabric(str(device), "bf16-mixed")
    build, source = vae("euclidean:2"), Shuffled(rows(torch.float32, device), 26, 0)
    model, last = trained(build, source, fabric, torch.float32, epochs=1)
    for seed, own in zip(SEEDS, model.split(last), strict=True):
        single = alone(build, source, fabric, torch.float32, seed, epochs=1)
        assert own.history[0]["loss"] == pytest.approx(single.history[0]["loss"], rel=1e-2)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 2), nn.Dropout())

    def forward(self, x: Tensor, **_: float) -> dict[str, Tensor]:
        return {"loss": self.layers(x).square().mean()}


def test_draws_that_no_replica_could_repeat_are_refused(fabric):
    with pytest.raises(NotImplementedError, match="Dropping draws random numbers by other"):
        trained(Dropping, Shuffled(rows(torch.float32), BATCH, 0), fabric, torch.float32)


class Wavering(nn.Module):
    """Draws once more in training than it did when it was looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.times = nn.Parameter(torch.ones(FEATURES)), [1, 2]

    def forward(self, x: Tensor, **_: float) -> dict[str, Tensor]:
        noise = sum(torch.randn(()) for _ in range(self.times.pop(0)))
        return {"loss": (x @ self.weight).square().mean() + noise}


def test_draws_that_change_from_call_to_call_are_refused(fabric):
    with pytest.raises(RuntimeError, match="randn draws more than in the first call"):
        trained(Wavering, Shuffled(rows(torch.float32), BATCH, 0), fabric, torch.float32)
