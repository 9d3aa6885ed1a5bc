"""Where blocks are held, and what of it shows in learned representations."""

import pytest
import torch

from manifold_ae.groups import Cyclic, LearnedRepresentation, Torus, parse
from manifold_ae.groups.block_layout import BlockLayout

SIZES = {"in order": (2, 2, 3), "mixed": (2, 3, 2, 1), "one": (4,)}
sizes = pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))


@sizes
@pytest.mark.parametrize("free", [0, 2])
def test_dense_matrices_hold_the_blocks_in_their_order(sizes, free, dtype):
    layout = BlockLayout(sizes, free, orthogonal=False)
    parts = [part.unflatten(-1, (k, k)) for part, (k, _) in _kinds(layout, dtype)]
    whole = layout.dense(parts, 1.0)
    blocks: dict[int, torch.Tensor] = {}
    for part, (_, which) in zip(parts, layout.kinds, strict=True):
        blocks.update(zip(which, part.unbind(-3), strict=True))
    expected = [
        torch.block_diag(*(blocks[n][k] for n in range(len(sizes))), torch.eye(free, dtype=dtype))
        for k in range(len(whole))
    ]
    torch.testing.assert_close(whole, torch.stack(expected), rtol=0, atol=0)
    z = torch.randn(5, layout.size, dtype=dtype)
    torch.testing.assert_close(layout.moved(parts, z), (whole @ z.unsqueeze(-1)).squeeze(-1))


def _kinds(layout: BlockLayout, dtype: torch.dtype):
    entries = torch.randn(5, layout.entries, dtype=dtype)
    return zip(layout.by_kind(entries), layout.kinds, strict=True)


@sizes
def test_it_leaves_no_trace_in_what_is_saved(sizes):
    assert not BlockLayout(sizes, 1, orthogonal=True).state_dict()
    rho = LearnedRepresentation(Torus(2), blocks=[2, 3], free=1)
    assert list(rho.state_dict()) == ["weight"]


def test_general_blocks_of_three_beside_others(dtype):
    """torch's exponential views its argument, and a part of a row of entries is no view."""
    rho = LearnedRepresentation(parse("torus:2*so3"), blocks=[2, 3, 3], orthogonal=False).to(dtype)
    X = torch.randn(7, 4, 5, dtype=dtype)
    z = torch.randn(7, 8, dtype=dtype)
    path = rho.rollout(X, z)
    path.square().sum().backward()
    assert rho.weight.grad is not None and rho.weight.grad.isfinite().all()
    for step in range(4):
        z = (rho(X[:, step]) @ z.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(path[:, -1], z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(2,), (5, 0, 2)])
def test_a_rollout_says_which_actions_it_takes(shape):
    rho = LearnedRepresentation(Torus(2), blocks=[2, 2])
    with pytest.raises(ValueError, match=r"actions has shape .* expected \(\*, T, 2\), one step"):
        rho.rollout(torch.zeros(shape), torch.zeros(4))
    finite = LearnedRepresentation(Cyclic(3), blocks=[2], phi="lookup")
    with pytest.raises(ValueError, match=r"expected \(\*, T\), one step or more"):
        finite.rollout(torch.tensor(1), torch.zeros(2))
