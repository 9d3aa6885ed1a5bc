"""Inferring actions: no observations at all, and shapes that do not fit."""

import pytest
import torch

from manifold_ae.groups import GL, SO3, Cyclic, Defining, LearnedRepresentation
from manifold_ae.models.inference import infer_action, principal
from manifold_ae.models.transitions import ByRepresentation

TURNS = ByRepresentation(LearnedRepresentation(SO3(), blocks=[3]))
STEPS = ByRepresentation(LearnedRepresentation(Cyclic(3), blocks=[2], phi="lookup"))


@pytest.mark.parametrize(("moves", "own"), [(TURNS, (3,)), (STEPS, ())])
@pytest.mark.parametrize("batch", [(0,), (4, 0)])
@torch.no_grad()
def test_nothing_is_inferred_from_nothing(moves, own, batch):
    z = torch.zeros(*batch, moves.size)
    action, value = infer_action(moves, z, z)
    assert action.shape == (*batch, *own) and value.shape == batch


def test_actions_without_a_principal_one_are_left_as_they_are():
    half_turn = torch.tensor([0.0, -torch.pi, torch.pi, 0.0], dtype=torch.float64)
    X = torch.stack([half_turn, 1.5 * half_turn])
    found = principal(GL(2), X)
    torch.testing.assert_close(found, torch.stack([half_turn, -half_turn / 2]), rtol=0, atol=1e-12)


@torch.no_grad()
def test_actions_of_all_matrices_are_inferred():
    moves = ByRepresentation(Defining(GL(2)))
    z = torch.tensor([[1.0, 0.5], [-0.3, 2.0], [0.1, 0.1]], dtype=torch.float64)
    action, value = infer_action(moves, z, -z)
    assert value.max() < 1e-12
    torch.testing.assert_close(moves.step(z, action), -z, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("before", "after"), [((2, 3), (3, 3)), ((2, 4), (2, 4)), ((2, 3), (2, 1)), ((), (3,))]
)
def test_shapes_that_do_not_fit_are_named(before, after):
    with pytest.raises(
        ValueError, match=r"before and after of shapes .* expected latents \(\*, 3\)"
    ):
        infer_action(TURNS, torch.zeros(before), torch.zeros(after))
