"""What is measured of a homomorphism autoencoder does not depend on how much is held at a time."""

import math
from typing import Any

import pytest
import torch

from manifold_ae import run
from manifold_ae.experiments import HAE
from manifold_ae.groups import SO3, Defining, LearnedRepresentation
from manifold_ae.models.transitions import ByRepresentation
from manifold_ae.run.homomorphism_evaluation import Evaluation

TINY = HAE(
    world=("size=8", "radius=1.0"), traces=200, epochs=1, restarts=1, encoder_hidden=(8,),
    decoder_hidden=(8,), num_rollouts=4, horizon=3, device="cpu",
)  # fmt: skip


def flat(found: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in found.items() if k != "rollout"} | found["rollout"]


@pytest.mark.parametrize("changes", [{"hold_out": "combinations"}, {"model": "unstructured"}])
def test_in_small_batches_as_in_one(changes):
    trained = run.train(TINY.replace(**changes))
    source, long = trained.traces(), trained.long_traces()
    sizes: list[int] = []

    def record(_: Any, inputs: tuple[torch.Tensor]) -> None:
        sizes.append(inputs[0].numel())

    found = []
    for most in (2**22, 640):
        sizes.clear()
        with trained.model.encoder.register_forward_pre_hook(record):
            arguments = trained.model, trained.config, source, long, trained.device
            evaluation = Evaluation(*arguments, max_elements=most)
            found.append(flat(evaluation.measure()))
            # Rollouts have a batch of their own, of traces.
            sizes.clear()
            evaluation.losses()
            evaluation.encode_traces(source.train)
    assert 0 < max(sizes) <= 640
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-4, abs=1e-9), name


def test_a_batch_is_one_trace_at_least():
    trained = run.train(TINY)
    arguments = trained.model, trained.config, trained.traces(), trained.long_traces()
    found = Evaluation(*arguments, trained.device, max_elements=1).losses()
    assert found["mse"] == pytest.approx(trained.evaluate()["mse"], rel=1e-5)


@pytest.mark.parametrize("columns", [1, 3])
def test_the_matrix_of_several_columns_is_what_moves_them(columns, dtype, generator):
    moves = ByRepresentation(Defining(SO3()), columns)
    X = torch.randn(4, 5, 3, dtype=dtype, generator=generator)
    z = torch.randn(4, 5, moves.size, dtype=dtype, generator=generator)
    found = (moves.matrix(X) @ z.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found, moves.step(z, X))


def test_a_representation_that_moves_columns_is_measured_too():
    config = TINY.replace(
        data="solids", world=("size=12",), manifold="so3", blocks="3", traces=40, horizon=2
    )
    trained = run.train(config)
    assert isinstance(trained.model.transition.representation, LearnedRepresentation)
    found = trained.evaluate()
    assert found["blocks"] == [3]
    for name in ("homomorphism_error", "equivariance_error", "alignment_residual"):
        assert math.isfinite(found[name]), name


@pytest.mark.parametrize("data", ["grid-world", "solids"])
def test_disentanglement_is_measured_or_said_to_be_left_out(data):
    world = ("rows=3", "columns=4") if data == "grid-world" else ("size=8",)
    found = run.train(TINY.replace(data=data, world=world, traces=40)).evaluate()
    if data == "grid-world":
        assert 0 <= found["d_lsbd"] <= 2 and "left_out" not in found
    else:
        assert "D_LSBD" in found["left_out"] and "d_lsbd" not in found
