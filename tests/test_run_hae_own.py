"""Runs on traces of one's own: degenerate ones, groups without a name, what cannot be measured."""

import json
import math
from typing import Any

import pytest
import torch

from manifold_ae import groups, run
from manifold_ae.data import Traces
from manifold_ae.experiments import HAE
from manifold_ae.groups import FiniteGroup
from manifold_ae.run.representations import automatic_blocks

TINY = HAE(
    epochs=1, restarts=1, encoder_hidden=(8,), decoder_hidden=(8,), num_rollouts=3, device="cpu"
)


def own(group: groups.Group, n: int = 20, steps: int = 2, **changes: Any) -> run.TraceData:
    """Traces of noise, the last five of them to test on."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(group, FiniteGroup):
        actions = torch.randint(group.order, (n, steps), generator=generator)
    else:
        actions = torch.randn(n, steps, group.dim, generator=generator)
    o = torch.randn(n, steps + 1, 6, generator=generator)
    whole = Traces(changes.get("observations", o), changes.get("actions", actions), group)
    return run.TraceData(whole[:-5], whole[-5:])


KLEIN = FiniteGroup([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])


@pytest.mark.parametrize(
    "group", [KLEIN, groups.Product(groups.Cyclic(3), KLEIN)], ids=["table", "product"]
)
def test_a_group_without_a_name_is_read_back(group, tmp_path):
    source = own(group)
    trained = run.train(TINY, tmp_path / "run", traces=source)
    loaded = run.load(tmp_path / "run", device="cpu")
    assert loaded.model.group == group
    torch.testing.assert_close(
        loaded.encode(source.test.observations), trained.encode(source.test.observations)
    )
    # What the configuration names, sprites, is not what it learned from.
    with pytest.raises(ValueError, match=r"given in memory; set run\.source"):
        loaded.evaluate()
    loaded.source = source
    assert loaded.evaluate()["mse"] == trained.evaluate()["mse"]


@pytest.mark.parametrize(("spec", "orthogonal"), [("gl:2", True), ("torus:2*so3", False)])
def test_every_group_is_measured(spec, orthogonal):
    trained = run.train(TINY.replace(orthogonal=orthogonal), traces=own(groups.parse(spec)))
    found = trained.evaluate()
    assert math.isfinite(found["homomorphism_error"])
    json.dumps(found, allow_nan=False)


def test_actions_that_do_nothing_have_no_frequency():
    group = groups.Torus(1)
    source = own(group, actions=torch.zeros(20, 2, 1))
    trained = run.train(TINY.replace(phi="mlp"), traces=source)
    assert trained.history[0]["frequency"] == 0
    assert trained.history[0]["loss"] < 100


def test_the_table_has_an_unstructured_network_beside_the_rest():
    trained = run.train(TINY, traces=own(groups.Torus(2), steps=4))
    found = trained.evaluate()
    errors = found["rollout"]["unstructured"]
    assert len(errors) == 3 and all(value > 0 for value in errors)
    assert found["rollout"] == trained.evaluate()["rollout"]
    assert "unstructured" in trained.table(found)


def test_a_collapsed_encoder_is_told():
    trained = run.train(TINY, traces=own(groups.Torus(2)))
    with torch.no_grad():
        trained.model.head.weight.zero_()
    found = trained.evaluate()
    assert found["equivariance_error"] is None
    assert "None" in trained.table(found)


@pytest.mark.parametrize(
    ("group", "sizes"),
    [
        (groups.Cyclic(1), (2,)),
        (groups.Cyclic(2), (2,)),
        (groups.Cyclic(7), (2,)),
        (groups.Dihedral(5), (2,)),
        (groups.Dihedral(2), (2, 2)),
        (KLEIN, (2, 2)),
        (groups.Octahedral(), (3,)),
        (groups.Icosahedral(), (3,)),
        (groups.Product(groups.Cyclic(3), groups.Tetrahedral()), (2, 3)),
        (groups.parse("so3*torus:2*se2"), (3, 3, 3, 2, 2, 3)),
    ],
    ids=str,
)
def test_blocks_leave_room_for_a_faithful_representation(group, sizes):
    assert automatic_blocks(group) == sizes


@pytest.mark.parametrize(
    ("changes", "observations", "message"),
    [
        ({}, torch.ones(20, 3, 6), "all observations are the same"),
        ({"likelihood": "bernoulli"}, None, "observations run from .* takes 0 to 1; scale them"),
        ({"likelihood": "poisson"}, None, "observations is negative .* expected counts"),
        ({"hold_out": "combinations"}, None, "only of a world; of traces of your own, split"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_training(
    changes, observations, message, tmp_path
):
    given = {} if observations is None else {"observations": observations}
    with pytest.raises(ValueError, match=message):
        run.train(TINY.replace(**changes), tmp_path / "run", traces=own(groups.Torus(2), **given))
    assert not (tmp_path / "run").exists()


def test_unseen_combinations_that_no_test_trace_ends_in_are_undefined():
    config = TINY.replace(
        world=("size=16",), traces=40, steps=1, hold_out="combinations", hold_out_bins=2, horizon=2
    )
    # Of its four test traces two begin unseen, and none ends so from a seen beginning.
    found = run.train(config.replace(data_seed=1)).evaluate()
    assert found["held_out_error"] is None and found["held_out_ratio"] is None
    json.dumps(found, allow_nan=False)
