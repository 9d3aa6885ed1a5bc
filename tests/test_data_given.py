"""What is known of rows beside their values, and batches that carry it."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from manifold_ae import data as d
from manifold_ae.data import given as g
from manifold_ae.replicas import Replicas


def known(n: int) -> dict[str, torch.Tensor]:
    return {
        "covariates": torch.arange(2.0 * n).view(n, 2),
        "exposure": torch.arange(1.0, n + 1),
        "groups": torch.arange(n) % 2,
        "times": torch.arange(n, dtype=torch.float64),
    }


def made(**changes) -> d.Dataset:
    x, rows = torch.zeros(4, 3), torch.arange(4)
    given = {"train_given": known(4), "test_given": known(4)} | changes
    return d.Dataset("mine", x, x, rows, rows, **given)


# ---- data sets ------------------------------------------------------------------------------


def test_a_data_set_holds_what_is_given():
    held = made()
    assert held.covariates == 2 and set(held.train_given) == set(g.LAYOUT)
    assert made(train_given={}, test_given={}).covariates == 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("exposures", torch.ones(4), r"'exposures'\]: expected one of .*did you mean 'exposure'"),
        ("exposure", torch.ones(3), r"train_given\['exposure'\] has 3 rows: expected 4"),
        ("exposure", torch.ones(4, dtype=torch.float64), r"torch.float64: expected .*float32"),
        ("exposure", torch.tensor([1.0, 0, 2, 0]), r"is 0 at row 1, and 2 .*positive"),
        ("exposure", torch.tensor([1.0, torch.nan, 2, 1]), r"is nan at row 1.*finite"),
        ("exposure", [1.0, 1.0, 1.0, 1.0], r"has the type list: expected a tensor"),
        ("covariates", torch.ones(4), r"has shape \(4,\).*expected a tensor \(n, c\)"),
        ("covariates", torch.ones(4, 0), r"has no column"),
        ("covariates", torch.tensor([[torch.inf]] * 4), r"is inf at row 0"),
        ("groups", torch.zeros(4), r"float32: expected a tensor \(n,\) of torch.int64"),
        ("times", torch.tensor([0.0, 5, 1, 4]).double(), r"5 in row 1 to 4 in row 3 of group 1"),
        ("times", torch.zeros(4).double(), r"from 0 in row 0 to 0 in row 2 of group 0"),
    ],
)
def test_what_is_given_has_to_fit(key, value, message):
    with pytest.raises(ValueError, match=message):
        made(train_given=known(4) | {key: value})


def test_both_parts_have_the_same_beside_them():
    with pytest.raises(ValueError, match=r"test_given has nothing: expected the same"):
        made(test_given={})
    with pytest.raises(ValueError, match=r"test_given has covariates \(1,\).*covariates \(2,\)"):
        made(
            train_given={"covariates": torch.ones(4, 2)},
            test_given={"covariates": torch.ones(4, 1)},
        )


def test_times_start_anew_with_every_group():
    times = torch.tensor([5.0, 0.0, 6.0, 1.0]).double()
    g.check_times(times, torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match=r"5 in row 0 to 0 in row 1: .*tell trials apart by"):
        g.check_times(times)


# ---- batches --------------------------------------------------------------------------------


def test_a_batch_is_a_dict_only_where_the_model_is_given_something():
    x, given = torch.rand(4, 3), known(4)
    assert d.batch_of(x, {}) is x
    assert d.batch_of(x, {"times": given["times"], "groups": given["groups"]}) is x
    batch = d.batch_of(x, given)
    assert set(batch) == {"x", "covariates", "exposure"} and batch["x"] is x


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_dicts_are_taken_as_tensors_and_tuples_are(world_size):
    n = 11
    x, given = torch.arange(3.0 * n).view(n, 3), known(n)
    whole = {"x": x, "exposure": given["exposure"]}
    for rank in range(world_size):
        place = {"rank": rank, "world_size": world_size}
        source = d.Shuffled(whole, 2, 7, **place)
        alone, pair = d.Shuffled(x, 2, 7, **place), d.Shuffled(tuple(whole.values()), 2, 7, **place)
        assert len(source) == len(alone)
        assert [source.share(k) for k in range(len(source))] == [
            alone.share(k) for k in range(len(alone))
        ]
        for batch, bare, both in zip(source.epoch(3), alone.epoch(3), pair.epoch(3), strict=True):
            assert_close(batch["x"], bare, rtol=0, atol=0)
            assert_close(batch["exposure"], both[1], rtol=0, atol=0)
            # every row with its own
            assert_close(batch["x"][:, 0], 3 * (batch["exposure"] - 1), rtol=0, atol=0)


def test_dicts_are_repeated_and_put_together():
    source = d.Shuffled({"x": torch.arange(5.0), "exposure": torch.arange(5.0)}, 2, 0)
    twice = d.Repeated(source, 2)
    assert len(list(twice.epoch(0))) == len(twice) == 6
    both = d.Together([twice, twice.seeded(1)])
    first = next(both.epoch(0))
    assert first["x"].shape == (2, 2) and first.keys() == {"x", "exposure"}
    assert_close(first["x"][1], next(twice.seeded(1).epoch(0))["x"], rtol=0, atol=0)
    assert not torch.equal(first["x"][0], first["x"][1])


def test_tensors_of_a_dict_have_as_many_rows():
    with pytest.raises(ValueError, match=r"x\['exposure'\] has 4 rows, and x\['x'\] has 5"):
        d.Shuffled({"x": torch.ones(5), "exposure": torch.ones(4)}, 2, 0)
    with pytest.raises(ValueError, match="expected at least one tensor"):
        d.Shuffled({}, 2, 0)


class _Regression(torch.nn.Module):
    """A model whose batches are dicts, and which draws."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        rate = self.linear(batch["x"] + torch.randn_like(batch["x"])).squeeze(-1)
        return {"loss": (batch["exposure"] * rate).square().mean()}


def test_replicas_take_dicts():
    models = [_Regression() for _ in range(3)]
    source = d.Shuffled({"x": torch.rand(5, 3), "exposure": torch.rand(5) + 1}, 2, 0)
    batch = next(d.Together([source.seeded(k) for k in range(3)]).epoch(0))
    values = []
    for mapped in (True, False):
        replicas = Replicas(models, range(3), mapped=mapped)
        values.append(replicas(batch)["loss"])
        assert replicas.separately == (None if mapped else "asked for")
    assert values[0].shape == (3,)
    assert_close(*values)


def test_all_rows_of_a_recording_may_be_trained_on():
    x = np.arange(12.0).reshape(6, 2)
    times = np.arange(6.0)
    whole = d.as_recording(x, name="all", times=times, labels=np.arange(6)).training()
    assert (whole.train.numpy() == x).all() and whole.test.shape == (0, 2)
    assert whole.train_given["times"].tolist() == times.tolist()
    assert whole.train_labels.tolist() == list(range(6)) and len(whole.test_given["times"]) == 0


def test_a_part_that_there_is_not_is_named(tmp_path):
    x = np.arange(12.0).reshape(6, 2)
    np.save(tmp_path / "x.npy", x)
    for call in (d.from_array, d.as_recording, d.read, d.load_file):
        given = x if call in (d.from_array, d.as_recording) else tmp_path / "x.npy"
        with pytest.raises(ValueError, match=r"part.*covariate.*covariates"):
            call(given, covariate=np.ones(6))
    assert set(d.options("x.npy")) == {*d.Beside.__annotations__, "missing"}
