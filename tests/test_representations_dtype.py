"""Given representations of finite groups in the precision of what they move."""

import pytest
import torch

from manifold_ae import groups
from manifold_ae.groups import Cyclic, Icosahedral, Product, Representation
from manifold_ae.models.transitions import ByRepresentation

C5, A5 = Cyclic(5), Icosahedral()
BOTH = Product(C5, Cyclic(3))
GIVEN: dict[str, Representation] = {
    "trivial": groups.Trivial(C5, 2),
    "defining": groups.Defining(A5),
    "plane": groups.irrep(C5, 2),
    "irreducible": groups.irreps(A5)[1],
    "sum": groups.Sum(groups.irreps(A5)[1], groups.Trivial(A5)),
    "product": groups.TensorProduct(groups.irreps(A5)[1], groups.Defining(A5)),
    "factor": groups.Factor(BOTH, 0, groups.irrep(C5, 1)),
    "product of groups": groups.Defining(BOTH),
}


@pytest.mark.parametrize("name", GIVEN)
def test_matrices_follow_the_group_in_the_precision_asked_for(name, dtype, device, generator):
    rho = GIVEN[name].in_dtype(dtype)
    assert rho == GIVEN[name] and hash(rho) == hash(GIVEN[name])
    assert GIVEN[name].dtype is None
    g, h = rho.group.random(2, 30, generator=generator, device=device)
    found = rho(rho.group.compose(g, h))
    assert found.dtype == rho.of(g).dtype == dtype
    error = (found - rho(g) @ rho(h)).abs().max()
    assert error <= 20 * torch.finfo(dtype).eps
    assert GIVEN[name](g).dtype == torch.get_default_dtype()


@pytest.mark.parametrize("name", GIVEN)
def test_latents_are_moved_in_their_own_precision(name, dtype, device, generator):
    moves = ByRepresentation(GIVEN[name])
    g = moves.group.random(4, 6, generator=generator, device=device)
    z = torch.randn(4, moves.size, dtype=torch.float64).to(device, dtype)
    path = moves.unroll(z, g)
    back = path[:, -1]
    for action in g.flip(1).unbind(1):
        back = moves.step(back, moves.group.inverse(action))
    assert path.dtype == dtype
    assert (back - z).abs().max() <= 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        moves.matrix(g[:, 0], dtype=dtype) @ z[..., None], path[:, 1, :, None]
    )


def test_coordinates_decide_for_themselves(dtype):
    rho = groups.Defining(groups.SO3()).in_dtype(torch.float32)
    assert rho(torch.ones(3, dtype=dtype)).dtype == dtype
