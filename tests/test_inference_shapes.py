"""Inferring actions: no observations at all, and shapes that do not fit."""

import pytest
import torch

from manifold_ae.groups import SO3, Cyclic, LearnedRepresentation
from manifold_ae.models.inference import infer_action
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


@pytest.mark.parametrize(
    ("before", "after"), [((2, 3), (3, 3)), ((2, 4), (2, 4)), ((2, 3), (2, 1)), ((), (3,))]
)
def test_shapes_that_do_not_fit_are_named(before, after):
    with pytest.raises(
        ValueError, match=r"before and after of shapes .* expected latents \(\*, 3\)"
    ):
        infer_action(TURNS, torch.zeros(before), torch.zeros(after))
