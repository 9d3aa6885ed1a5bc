"""Given representations: homomorphisms, orthogonal, irreducible by their characters.

Lie groups are tested on elements of the Haar law, whose products wrap past π; finite ones on all.
"""

import math

import pytest
import torch
from scipy.special import sph_harm_y

from manifold_ae.groups import (
    SO2,
    SO3,
    Cyclic,
    Defining,
    Dihedral,
    Factor,
    FiniteGroup,
    GivensRepresentation,
    Icosahedral,
    LearnedRepresentation,
    Octahedral,
    Product,
    Representation,
    Sum,
    TensorProduct,
    Torus,
    Trivial,
    harmonics,
    irrep,
    irreps,
)
from manifold_ae.groups.base import LieGroup
from manifold_ae.groups.irreducible_finite import FiniteIrrep
from manifold_ae.models.transitions import Unstructured

#: i and j of the quaternions, on ℝ⁴ from the left.
I = [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]]  # noqa: E741
J = [[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]]


def quaternions() -> FiniteGroup:
    return FiniteGroup.from_matrices([torch.tensor(m).double().numpy() for m in (I, J)])


SCENE = Product(SO3(), SO2())
GRID = Product(Cyclic(3), Cyclic(4))
GIVEN: tuple[Representation, ...] = (
    irrep(SO2(), 0),
    irrep(SO2(), -3),
    irrep(Torus(2), (1, -2)),
    irrep(Torus(1), 2),
    *(irrep(SO3(), degree) for degree in (0, 2, 5)),
    Defining(SO3()),
    Defining(Torus(2)),
    Trivial(SO3(), 2),
    Sum(irrep(SO2(), 1), irrep(SO2(), 2), Trivial(SO2())),
    TensorProduct(irrep(SO3(), 1), irrep(SO3(), 2)),
    Sum(Factor(SCENE, 0, irrep(SO3(), 1)), Factor(SCENE, 1, irrep(SO2(), 1))),
    irrep(Cyclic(1), 0),
    irrep(Cyclic(6), 3),
    irrep(Cyclic(7), -2),
    Sum(Factor(GRID, 0, irrep(Cyclic(3), 1)), Factor(GRID, 1, irrep(Cyclic(4), 1)), Trivial(GRID)),
    Defining(Octahedral()),
    *irreps(Octahedral()),
    *irreps(quaternions()),
    TensorProduct(irrep(Dihedral(5), 1), irrep(Dihedral(5), 2)),
)
FINITE = {
    "cyclic 1": (Cyclic(1), [1]),
    "cyclic 2": (Cyclic(2), [1, 1]),
    "cyclic 7": (Cyclic(7), [1, 2, 2, 2]),
    "dihedral 5": (Dihedral(5), [1, 1, 2, 2]),
    "dihedral 6": (Dihedral(6), [1, 1, 1, 1, 2, 2]),
    "octahedral": (Octahedral(), [1, 1, 2, 3, 3]),
    "icosahedral": (Icosahedral(), [1, 3, 3, 4, 5]),
    "quaternions": (quaternions(), [1, 1, 1, 1, 4]),
    "torus grid": (GRID, [1, 1, 2, 2, 2, 2, 2]),
    "squares": (Product(Dihedral(4), Cyclic(2)), [1] * 8 + [2] * 2),
}
given = pytest.mark.parametrize("rho", GIVEN, ids=repr)
finite = pytest.mark.parametrize("name", FINITE)


@pytest.fixture
def default_dtype(dtype):
    """Integer actions have no floating-point type: their matrices have torch's default one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield dtype
    torch.set_default_dtype(before)


@given
def test_given_representations_are_orthogonal_homomorphisms(rho, default_dtype, device, generator):
    like = {"dtype": default_dtype, "device": device, "generator": generator}
    g, h = rho.group.random(40, **like), rho.group.random(40, **like)
    at_g, at_h, at_gh = rho.of(g), rho.of(h), rho.of(rho.group.compose(g, h))
    assert at_g.dtype == default_dtype
    assert at_g.shape == (40, rho.size, rho.size)
    bound = 100 * torch.finfo(default_dtype).eps
    assert (at_gh - at_g @ at_h).abs().max() <= bound
    eye = torch.eye(rho.size, dtype=default_dtype, device=device)
    assert (at_g @ at_g.mT - eye).abs().max() <= bound
    neutral = rho.group.identity(dtype=default_dtype, device=device)
    assert (rho.of(neutral) - eye).abs().max() <= bound


@given
def test_actions_and_elements_agree(rho, default_dtype, device, generator):
    group = rho.group
    if isinstance(group, LieGroup):
        # Twice beyond half a turn.
        shape = (30, group.dim)
        X = 5 * torch.randn(shape, generator=generator, dtype=default_dtype, device=device)
        g = group.exp(X)
    else:
        X = g = torch.arange(group.order, device=device)
    found = rho(X)
    assert (found - rho.of(g)).abs().max() <= 300 * torch.finfo(default_dtype).eps
    trace = torch.diagonal(found, dim1=-2, dim2=-1).sum(-1)
    assert torch.equal(rho.character(X), trace)
    generators = rho.generators()
    assert generators.shape == (group.dim, rho.size, rho.size)
    if isinstance(group, LieGroup):
        near = torch.linalg.matrix_exp(rho.generator(X.double()))
        assert (near - rho(X.double())).abs().max() <= 1e-11


SMOOTH = (irrep(Torus(2), (1, -2)), irrep(SO3(), 2), Sum(Factor(SCENE, 1, irrep(SO2(), 3))))


@pytest.mark.parametrize("rho", SMOOTH, ids=repr)
def test_derivatives_are_right_twice(rho, device, generator):
    X = torch.randn(1, rho.group.dim, generator=generator, dtype=torch.float64, device=device)
    for at in (X, torch.zeros_like(X)):
        leaf = at.requires_grad_()
        assert torch.autograd.gradcheck(rho, leaf)
        assert torch.autograd.gradgradcheck(rho, leaf)


def test_values():
    for rho in GIVEN:
        assert rho == rho
        assert hash(rho) == hash(rho)
    assert irrep(SO3(), 2) == irrep(SO3(), 2) != irrep(SO3(), 1)
    assert repr(irrep(Torus(2), (1, 0))) == "irrep(Torus(2), (1, 0))"
    assert repr(Sum(irrep(SO2(), 1), Trivial(SO2()))) == "Sum(irrep(SO2(), 1), Trivial(SO2(), 1))"


# ---- rotations of space ---------------------------------------------------------------------


def test_degree_one_is_the_rotation_itself(generator):
    g = SO3().random(20, generator=generator, dtype=torch.float64)
    assert torch.equal(irrep(SO3(), 1).of(g), g)


@pytest.mark.parametrize("degree", range(6))
def test_turns_about_z_are_turns_of_planes(degree):
    found = irrep(SO3(), degree).generators()[2]
    expected = torch.zeros_like(found)
    for k, m in enumerate(range(degree, 0, -1)):
        expected[2 * k + 1, 2 * k], expected[2 * k, 2 * k + 1] = m, -m
    assert torch.allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("degree", range(5))
def test_harmonics_are_those_of_scipy_and_turn_with_the_irrep(degree, generator):
    x = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    x = x / x.norm(dim=-1, keepdim=True)
    theirs = sph_harm_y  # of (l, m, polar angle, azimuth)
    polar, azimuth = torch.arccos(x[:, 2]).numpy(), torch.atan2(x[:, 1], x[:, 0]).numpy()
    columns = []
    for m in range(degree, 0, -1):
        value = (-1) ** m * math.sqrt(2) * torch.from_numpy(theirs(degree, m, polar, azimuth))
        columns += [value.real, value.imag]
    columns.append(torch.from_numpy(theirs(degree, 0, polar, azimuth)).real)
    found = harmonics(degree, x)
    assert torch.allclose(found, torch.stack(columns, -1), atol=1e-13)
    g = SO3().random(30, generator=generator, dtype=torch.float64)
    turned = harmonics(degree, (g @ x.unsqueeze(-1)).squeeze(-1))
    assert torch.allclose(
        turned, (irrep(SO3(), degree).of(g) @ found.unsqueeze(-1))[..., 0], atol=1e-12
    )


def test_characters_of_rotations_are_orthonormal():
    """By Weyl's formula: the Haar law of the angle has density (1 − cos θ)/π on [0, π]."""
    n = 64
    theta = math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    weight = (1 - torch.cos(theta)) / n
    X = theta.unsqueeze(-1) * torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    chi = torch.stack([irrep(SO3(), degree).character(X) for degree in range(6)])
    assert torch.allclose((chi * weight) @ chi.T, torch.eye(6, dtype=torch.float64), atol=1e-12)


def test_characters_of_circles_are_orthogonal():
    theta = 2 * math.pi * torch.arange(32, dtype=torch.float64) / 32
    chi = torch.stack([irrep(SO2(), k).character(theta.unsqueeze(-1)) for k in range(5)])
    # Those of a weight other than zero are of complex type: ⟨χ, χ⟩ = 2.
    expected = torch.diag(torch.tensor([1.0, 2, 2, 2, 2], dtype=torch.float64))
    assert torch.allclose(chi @ chi.T / 32, expected, atol=1e-13)


# ---- finite groups --------------------------------------------------------------------------


@finite
def test_irreps_of_finite_groups_are_all_of_them(name):
    group, sizes = FINITE[name]
    found = irreps(group)
    assert [rho.size for rho in found] == sizes
    g = torch.arange(group.order)
    chi = torch.stack([rho.character(g).double() for rho in found])
    types = torch.tensor([rho.type for rho in found], dtype=torch.float64)
    assert torch.allclose(chi @ chi.T / group.order, torch.diag(types), atol=1e-5)
    assert sum(rho.size**2 / rho.type for rho in found) == group.order
    assert torch.equal(found[0](g), torch.ones(group.order, 1, 1))
    # The regular representation holds each size/type times.
    regular = torch.zeros(group.order, dtype=torch.float64)
    regular[0] = group.order
    total = sum(rho.size / rho.type * rho.character(g).double() for rho in found)
    assert torch.allclose(torch.as_tensor(total), regular, atol=1e-4)


def test_types_of_frobenius_and_schur():
    assert [rho.type for rho in irreps(quaternions())] == [1, 1, 1, 1, 4]
    assert [rho.type for rho in irreps(Cyclic(4))] == [1, 1, 2]
    assert [rho.type for rho in irreps(Dihedral(3))] == [1, 1, 1]


def test_weights_of_cyclic_groups_are_those_of_the_list():
    for n in (1, 2, 5, 8):
        listed = {tuple(rho.character(torch.arange(n)).tolist()) for rho in irreps(Cyclic(n))}
        for k in range(-n, n + 1):
            chi = irrep(Cyclic(n), k).character(torch.arange(n))
            assert min((chi - torch.tensor(c)).abs().max().item() for c in listed) <= 1e-5
    turn = irrep(Cyclic(4), 1)(torch.tensor(1))
    assert torch.equal(turn, torch.tensor([[0.0, -1.0], [1.0, 0.0]]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_elements_of_every_integer_type_are_elements(dtype, generator):
    G, H = Cyclic(200), Dihedral(100)
    g = torch.tensor([0, 1, 1, 199])
    rho = LearnedRepresentation(H, blocks=[2], phi="lookup")
    moves = Unstructured(H, 2)
    for function in (
        irrep(G, 99),
        irreps(H)[5],
        rho,
        rho.blocks,
        GivensRepresentation(H, 3),
        lambda g: moves.step(torch.ones(4, 2), g),
        lambda g: Product(Cyclic(4), Cyclic(200)).join([g % 4, g]),
    ):
        wanted, found = (function(each) for each in (g, g.to(dtype)))
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


# ---- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: irrep(SO3(), -1), "degree must be"),
        (lambda: irrep(SO3(), 1.0), "degree must be"),
        (lambda: irrep(SO2(), 0.9), r"weights = \(0.9,\)"),
        (lambda: irrep(Torus(2), (1,)), "has 2 integers"),
        (lambda: irrep(Cyclic(3), "1"), "weight must be"),
        (lambda: irrep(Octahedral(), 5), "from 0 to 4"),
        (lambda: FiniteIrrep(Octahedral(), True), "got True"),
        (lambda: harmonics(-1, torch.zeros(3)), "degree must be"),
        (lambda: Trivial(SO2(), 0), "size must be"),
        (lambda: Sum(), "expected one representation"),
        (lambda: Sum(irrep(SO2(), 1), irrep(SO3(), 1)), "expected one group"),
        (lambda: Factor(SO2(), 0, irrep(SO2(), 1)), "no product"),
        (lambda: Factor(SCENE, 2, irrep(SO2(), 1)), "from 0 to 1, got 2"),
        (lambda: Factor(SCENE, 0, irrep(SO2(), 1)), "factor 0 of"),
        (lambda: irrep(SO2(), 1)(torch.zeros(2)), r"shape \(2,\)"),
        (lambda: irrep(SO2(), 1)(torch.zeros(1, dtype=torch.int64)), "dtype torch.int64"),
        (lambda: irrep(SO3(), 2)(torch.zeros(2)), r"shape \(2,\)"),
        (lambda: irrep(SO3(), 2).generator(torch.zeros(2)), r"shape \(2,\)"),
        (lambda: irrep(Cyclic(3), 1).generator(torch.zeros(0)), "has no Lie algebra"),
        (lambda: harmonics(2, torch.zeros(2)), r"shape \(2,\)"),
    ],
)
def test_what_is_no_representation_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_groups_without_a_list_are_refused_with_the_way_out():
    with pytest.raises(NotImplementedError, match=r"Defining\(group\)"):
        irrep(SCENE, 1)
