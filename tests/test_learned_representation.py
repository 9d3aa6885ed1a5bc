"""Learned representations: what holds by construction, penalties, blocks that are found.

Also the exponentials of blocks, running products, and the measures in ``groups.defects``.
"""

import cmath
import copy
import math

import mpmath as mp
import pytest
import torch
from torch import Tensor

from manifold_ae.groups import (
    GL,
    SE2,
    SO2,
    SO3,
    Cyclic,
    Defining,
    Dihedral,
    LearnedRepresentation,
    Product,
    Sum,
    Torus,
    Trivial,
    cumulative,
    defects,
    irrep,
    irreps,
    scan,
)
from manifold_ae.groups.exponentials import entries_of, exp_block, matrix_of
from manifold_ae.groups.scramble import Scramble
from manifold_ae.numerics import cosh_sqrt, sinhc_slope, sinhc_sqrt, soft_root

SCENE = Product(SO3(), SO2())
#: Arguments of representations of Lie groups whose φ is linear.
LINEAR = {
    "planes": (Torus(2), {"blocks": [2, 2]}),
    "plane": (SO2(), {"blocks": [2]}),
    "mixed": (SCENE, {"blocks": [2, 3, 2], "free": 1}),
    "full": (SO3(), {"size": 4}),
    "soft": (Torus(2), {"size": 5, "blocks": "soft", "free": 1}),
    "general": (SE2(), {"blocks": [2, 1, 3], "orthogonal": False}),
    "general full": (GL(2), {"size": 3, "orthogonal": False}),
}
OTHERS = {
    "mlp": (SO3(), {"blocks": [3, 1], "phi": "mlp"}),
    "scrambled": (Torus(2), {"size": 4, "phi": "mlp", "scramble": 3, "hidden": (8,)}),
    "general mlp": (SO2(), {"size": 2, "phi": "mlp", "orthogonal": False}),
    "lookup": (Dihedral(4), {"blocks": [1, 2, 2], "phi": "lookup", "free": 1}),
    "free lookup": (Cyclic(5), {"size": 3, "phi": "lookup", "orthogonal": False}),
}
ALL = LINEAR | OTHERS
linear = pytest.mark.parametrize("name", LINEAR)
every = pytest.mark.parametrize("name", ALL)


def built(name: str, dtype: torch.dtype, device: torch.device) -> LearnedRepresentation:
    group, arguments = ALL[name]
    return LearnedRepresentation(group, **arguments).to(device, dtype)


def with_generators(
    group, matrices: Tensor, *, soft: bool = False, orthogonal: bool = True
) -> LearnedRepresentation:
    """The linear φ with those generators, of shape ``(dim, n, n)``."""
    n = matrices.shape[-1]
    blocks = "soft" if soft else None
    rho = LearnedRepresentation(group, n, blocks=blocks, orthogonal=orthogonal).to(matrices.dtype)
    rows, columns = torch.triu_indices(n, n, 1)
    entries = matrices[:, rows, columns] if orthogonal else matrices.flatten(1)
    with torch.no_grad():
        rho.weight.copy_(entries.mT)
    return rho


def actions(rho: LearnedRepresentation, *shape: int, generator=None) -> Tensor:
    like = next(rho.parameters())
    return defects.random_actions(
        rho.group, *shape, generator=generator, dtype=like.dtype, device=like.device
    )


# ---- contracts ------------------------------------------------------------------------------


@every
def test_its_parts_agree(name, dtype, device, generator, tolerance):
    rho = built(name, dtype, device)
    X = actions(rho, 6, 3, generator=generator)
    whole = rho(X)
    assert whole.dtype == dtype
    assert whole.shape == (6, 3, rho.size, rho.size)
    assert torch.equal(whole, rho.matrix(X))
    size = whole.abs().max().item()
    eye = torch.eye(rho.free, dtype=dtype, device=device).expand(6, 3, -1, -1)
    for n in range(6):
        for t in range(3):
            parts = [block[n, t] for block in rho.blocks(X)]
            assert torch.equal(whole[n, t], torch.block_diag(*parts, eye[n, t]))
    if rho.orthogonal:
        gap = whole @ whole.mT - torch.eye(rho.size, dtype=dtype, device=device)
        assert gap.abs().max() <= tolerance
    z = torch.randn(6, rho.size, dtype=dtype, device=device, generator=generator)
    moved = rho.act(X[:, 0], z)
    assert (moved - (whole[:, 0] @ z.unsqueeze(-1)).squeeze(-1)).abs().max() <= size * tolerance
    path = rho.rollout(X, z)
    expected = (cumulative(whole) @ z[:, None, :, None]).squeeze(-1)
    assert path.shape == (6, 3, rho.size)
    assert (path - expected).abs().max() <= 10 * size**3 * tolerance
    assert torch.equal(path[..., rho.size - rho.free :], expected[..., rho.size - rho.free :])
    if rho.phi != "lookup":
        series = torch.linalg.matrix_exp(rho.generator(X))
        assert (whole - series).abs().max() <= 10 * size * tolerance


@linear
def test_a_linear_map_has_the_one_parameter_law_by_construction(name, dtype, device, tolerance):
    rho = built(name, dtype, device)
    X = actions(rho, 20)
    assert defects.identity_error(rho, dtype=dtype, device=device) == 0
    bound = 10 * rho(X).abs().max().item() ** 2 * tolerance
    assert defects.inverse_error(rho, X) <= bound
    assert (rho(0.3 * X) @ rho(0.7 * X) - rho(X)).abs().max() <= bound


def test_the_perceptron_has_neither_identity_nor_inverse():
    rho = LearnedRepresentation(SO3(), 3, phi="mlp")
    assert defects.identity_error(rho) > 0.01
    assert defects.inverse_error(rho, actions(rho, 50)) > 0.01


@pytest.mark.parametrize("orthogonal", [True, False])
def test_a_lookup_fixes_the_identity(orthogonal):
    rho = LearnedRepresentation(Dihedral(5), blocks=[2, 2, 1], phi="lookup", orthogonal=orthogonal)
    assert defects.identity_error(rho) == 0
    with pytest.raises(ValueError, match="no Lie algebra"):
        rho.generator(torch.tensor(1))


@every
def test_states_are_saved_and_loaded(name, dtype, device, tmp_path):
    rho = built(name, dtype, device)
    torch.save(rho.state_dict(), tmp_path / "rho.pt")
    other = built(name, dtype, device)
    other.load_state_dict(torch.load(tmp_path / "rho.pt", weights_only=True))
    X = actions(rho, 5)
    assert torch.equal(rho(X), other(X))
    assert torch.equal(rho(X), copy.deepcopy(rho)(X))
    assert repr(rho.group) in repr(rho)
    assert f"phi='{rho.phi}'" in repr(rho)


@every
def test_gradients_are_finite_and_reach_every_parameter(name, dtype, device):
    rho = built(name, dtype, device)
    if rho.phi == "lookup":
        X = torch.arange(rho.group.order, device=device).unsqueeze(0)
    else:
        X = torch.cat([actions(rho, 4, 2), torch.zeros(4, 1, rho.group.dim).to(actions(rho, 1))], 1)
        X.requires_grad_()
    z = torch.randn(len(X), rho.size, dtype=dtype, device=device)
    loss = rho.rollout(X, z).square().sum() + (rho(X) * z.mean()).sum()
    loss = loss + rho(X).cumsum(-1).sin().sum() + sum(rho.penalties().values())
    loss.backward()
    for parameter in rho.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().max() > 0
    if X.requires_grad:
        assert X.grad is not None
        assert torch.isfinite(X.grad).all()


@pytest.mark.parametrize("name", ["planes", "mixed", "general"])
def test_derivatives_are_right_twice(name, device, generator):
    rho = built(name, torch.float64, device)
    X = actions(rho, 1, generator=generator) / 2
    for at in (X, torch.zeros_like(X)):
        leaf = at.clone().requires_grad_()
        assert torch.autograd.gradcheck(rho, leaf)
        assert torch.autograd.gradgradcheck(rho, leaf)


def test_autocast_does_not_round_the_actions():
    rho = LearnedRepresentation(Torus(2), blocks=[2, 2])
    X = 10 * torch.randn(20, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rho(X)
    assert torch.equal(found, rho(X))


def test_elements_as_well_as_actions():
    rho = with_generators(SO3(), Defining(SO3()).generators())
    g = SO3().random(10, dtype=torch.float64)
    assert torch.allclose(rho.of(g), g, atol=1e-12)
    lookup = LearnedRepresentation(Cyclic(3), 2, phi="lookup")
    assert torch.equal(lookup.of(torch.tensor([1])), lookup(torch.tensor([1])))


# ---- exponentials of blocks -----------------------------------------------------------------


@pytest.mark.parametrize("antisymmetric", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_exponentials_of_blocks(size, antisymmetric, dtype, device, generator, tolerance):
    count = entries_of(size, antisymmetric)
    noise = torch.randn(200, count, dtype=dtype, device=device, generator=generator)
    scale = 10 ** torch.linspace(-6, 0.5, 200, dtype=dtype, device=device).unsqueeze(-1)
    entries = (noise * scale).requires_grad_()
    found = exp_block(entries, size, antisymmetric)
    expected = torch.linalg.matrix_exp(matrix_of(entries, size, antisymmetric).double())
    error = (found - expected).abs().amax((-2, -1)) / expected.abs().amax((-2, -1))
    assert error.max() <= 10 * tolerance
    if count:
        weights = torch.linspace(1, 2, found[0].numel(), dtype=dtype, device=device)
        weights = weights.view_as(found[0])
        (slope,) = torch.autograd.grad((weights * found).sum(), entries, retain_graph=True)
        (theirs,) = torch.autograd.grad((weights * expected).sum(), entries)
        gap = (slope - theirs).abs().amax(-1) / theirs.abs().amax(-1)
        assert gap.max() <= 100 * tolerance


@pytest.mark.parametrize(
    "matrix",
    [
        [[0.0, 0.0], [0.0, 0.0]],
        [[0.0, 1.0], [0.0, 0.0]],
        [[2.0, 0.0], [0.0, 2.0]],
        [[1.0, -3.0], [2.0, -1.5]],
        [[1.0, 3.0], [2.0, -1.5]],
        [[0.5, 1.0], [-0.25, -0.5]],
    ],
)
def test_matrices_of_two_rows_of_every_kind(matrix):
    entries = torch.tensor(matrix, dtype=torch.float64).flatten().requires_grad_()
    expected = torch.linalg.matrix_exp(entries.detach().view(2, 2))
    assert torch.allclose(exp_block(entries, 2, False), expected, rtol=1e-13, atol=1e-14)
    assert torch.autograd.gradcheck(lambda e: exp_block(e, 2, False), entries)
    assert torch.autograd.gradgradcheck(lambda e: exp_block(e, 2, False), entries)


def test_exponentials_of_large_matrices_are_finite(dtype):
    """e^τ vanishes and cosh √δ overflows in float32, where the exponential itself is small."""
    rows = [[-5.0, 0.0, 0.0, -300.0], [-300.0, 1.0, 0.0, -5.0], [-200.0, 0, 0, -200.0]]
    rows.append([0.0, -1e4, 1e4, 0.0])
    entries = torch.tensor(rows, dtype=dtype, requires_grad=True)
    found = exp_block(entries, 2, False)
    assert torch.allclose(found[0].diagonal(), torch.exp(entries[0, ::3]), rtol=1e-4)
    (slope,) = torch.autograd.grad(found.sum(), entries, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), entries)
    for value in (found, slope, bend):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("s", [-30.0, -1.01, -0.99, -1e-9, 0.0, 1e-9, 0.99, 1.01, 30.0])
def test_functions_of_a_signed_square(s, dtype):
    point = torch.tensor(s, dtype=dtype, requires_grad=True)
    root = cmath.sqrt(point.item())
    even = cmath.cosh(root).real
    odd = (cmath.sinh(root) / root).real if s else 1.0
    eps = torch.finfo(dtype).eps
    assert cosh_sqrt(point).item() == pytest.approx(even, rel=20 * eps, abs=20 * eps)
    assert sinhc_sqrt(point).item() == pytest.approx(odd, rel=20 * eps, abs=20 * eps)
    (slope,) = torch.autograd.grad(cosh_sqrt(point), point, create_graph=True)
    assert slope.item() == pytest.approx(odd / 2, rel=20 * eps, abs=20 * eps)
    double = point.detach().double().requires_grad_()
    for function in (cosh_sqrt, sinhc_sqrt):
        assert torch.autograd.gradcheck(function, double)
        assert torch.autograd.gradgradcheck(function, double)


@pytest.mark.parametrize("s", [-30.0, -0.26, -0.24, -1e-12, 0.0, 1e-12, 0.24, 0.26, 30.0])
def test_the_slope_of_a_signed_square(s, dtype):
    at = torch.tensor([s], dtype=dtype)
    with mp.workdps(40):
        root = mp.sqrt(mp.mpf(at.item()))
        even, odd = mp.cosh(root).real, mp.re(mp.sinh(root) / root) if s else mp.mpf(1)
        expected = float(3 * (even - odd) / s) if s else 1.0
        given = [torch.tensor([3 * float(v)], dtype=dtype) for v in (even, odd, 1)]
    found = sinhc_slope(at, *given)
    eps = torch.finfo(dtype).eps
    size = 1 + max(abs(v.item()) for v in given)
    assert found.item() == pytest.approx(expected, rel=0, abs=20 * eps * size)


def test_a_root_with_a_slope_at_zero(dtype):
    s = torch.tensor([0.0, 1e-30, 1e-6, 1.0], dtype=dtype, requires_grad=True)
    value = soft_root(s)
    (slope,) = torch.autograd.grad(value.sum(), s, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), s)
    assert value[0] == 0
    assert slope[0].item() == pytest.approx(500, rel=1e-6)
    assert torch.isfinite(bend).all()
    assert (value - s.sqrt()).abs().max() <= 1e-3


# ---- running products -----------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 31, 32, 33, 100])
def test_running_products(steps, dtype, device, generator, tolerance):
    like = {"dtype": dtype, "device": device, "generator": generator}
    g = SO3().random(2, steps, **like).requires_grad_()
    found = cumulative(g)
    expected, product = [], torch.eye(3, dtype=dtype, device=device)
    for t in range(steps):
        product = g[:, t] @ product  # newest on the left
        expected.append(product)
    gap = (found - torch.stack(expected, 1)).abs().max()
    assert gap <= steps * tolerance
    for way in (scan.loop, scan.tree):
        assert (way(g) - found).abs().max() <= steps * tolerance
    (slope,) = torch.autograd.grad(found[:, -1].sum(), g)
    assert torch.isfinite(slope).all()


def test_what_is_no_sequence_of_matrices_is_refused():
    for shape in ((3, 3), (4, 2, 3)):
        with pytest.raises(ValueError, match="square matrices"):
            cumulative(torch.zeros(shape))
    assert cumulative(torch.zeros(5, 0, 3, 3)).shape == (5, 0, 3, 3)


# ---- penalties and measures -----------------------------------------------------------------

TRUE = {
    "weights 1 and 2": Sum(irrep(Torus(2), (1, 0)), irrep(Torus(2), (1, 2))),
    "a weight and a trivial part": Sum(irrep(SO2(), 3), Trivial(SO2())),
    "rotations": Defining(SO3()),
    "degrees 1 and 2": Sum(irrep(SO3(), 1), irrep(SO3(), 2)),
}


@pytest.mark.parametrize("name", TRUE)
def test_penalties_and_measures_vanish_at_representations(name, dtype):
    truth = TRUE[name]
    rho = with_generators(truth.group, truth.generators().to(dtype))
    found = rho.penalties()
    del found["frequency"]  # of true representations too
    assert set(found) == ({"bracket", "closure"} if truth.group.dim > 1 else {"closure"})
    for value in found.values():
        assert value <= 1e3 * torch.finfo(dtype).eps
    X, Y = actions(rho, 200), actions(rho, 200)
    # Near half a turn the logarithm loses half the digits of float32.
    assert defects.homomorphism_error(rho, X, Y) <= (1e-11 if dtype == torch.float64 else 1e-4)
    assert defects.homomorphism_error(truth, X, Y) <= (1e-11 if dtype == torch.float64 else 1e-4)
    assert defects.inverse_error(rho, X) <= 1e3 * torch.finfo(dtype).eps


def plane(weight: float) -> Tensor:
    return weight * torch.tensor([[[0.0, -1.0], [1.0, 0.0]]], dtype=torch.float64)


def test_a_weight_that_is_no_integer_has_a_closure_defect_alone():
    rho = with_generators(SO2(), plane(0.9))
    assert rho.penalties()["closure"].item() == pytest.approx(4 * (1 - math.cos(1.8 * math.pi)))
    two = with_generators(Torus(2), torch.cat([plane(0.9), plane(1.0)]))
    assert two.penalties()["bracket"] == 0
    # X and Y are uniform on [−π, π]: their sum leaves the interval with probability 1/4, and ρ is
    # then wrong by a turn of 2π·0.9: a gap of |e^{1.8πi} − 1| = 2 sin 0.1π.
    X = 2 * math.pi * (torch.rand(100_000, 1, dtype=torch.float64) - 0.5)
    found = defects.homomorphism_error(rho, X, X.flip(0))
    assert found.item() == pytest.approx(2 * math.sin(0.1 * math.pi) / 4, rel=0.02)


def spinor() -> Tensor:
    """so(3) on ℝ⁴ = ℍ by half the imaginary quaternions: a representation of SU(2) alone."""
    i = torch.tensor([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]])
    j = torch.tensor([[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]])
    return torch.stack([i, j, i @ j]).double() / 2


def test_spinors_have_a_closure_defect_alone():
    rho = with_generators(SO3(), spinor())
    found = rho.penalties()
    assert found["bracket"] <= 1e-28
    assert found["closure"].item() == pytest.approx(16)  # |−I − I|²
    X, Y = actions(rho, 500), actions(rho, 500)
    assert defects.homomorphism_error(rho, X, Y) > 0.1


def test_generators_that_do_not_commute_have_a_bracket_defect():
    turn_z, turn_x = Defining(SO3()).generators()[[2, 0]]
    rho = with_generators(Torus(2), torch.stack([turn_z, turn_x]))
    assert rho.penalties()["bracket"].item() == pytest.approx(2)  # |ŷ|²
    assert rho.penalties(torch.zeros(5, 2).double())["bracket"].item() == pytest.approx(2)
    assert rho.penalties()["closure"] <= 1e-25


def test_the_bracket_of_a_perceptron_is_taken_where_asked():
    rho = LearnedRepresentation(SO3(), 3, phi="mlp")
    assert set(rho.penalties()) == {"closure"}
    X = actions(rho, 30)
    found = rho.penalties(X, X.flip(0))
    assert found["bracket"] > 0
    sum(found.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in rho.parameters() if p.grad is not None)


def test_the_table_defect_vanishes_at_representations_alone():
    for rho in irreps(Dihedral(4)):
        assert defects.table_defect(rho) <= 1e-12
    assert LearnedRepresentation(Dihedral(4), 2, phi="lookup").penalties()["table"] > 0.1
    with pytest.raises(ValueError, match="no finite group"):
        defects.table_defect(irrep(SO2(), 1))
    with pytest.raises(ValueError, match="known to close"):
        defects.closure_defect(Defining(GL(2)), dtype=torch.float64)
    with pytest.raises(ValueError, match="one action or more"):
        defects.inverse_error(irrep(SO2(), 1), torch.zeros(0, 1))


# ---- sparsity -------------------------------------------------------------------------------


def scrambled(matrices: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(matrices.shape[-2:], generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(noise)[0]
    return basis @ matrices @ basis.mT


def test_sparsity_is_least_at_blocks_whatever_their_weights():
    for weights in ([(1, 0), (0, 1)], [(3, 1), (-1, 2)], [(5, 5), (0, 1)]):
        matrices = Sum(*(irrep(Torus(2), w) for w in weights)).generators()
        leaf = matrices.clone().requires_grad_()
        value = defects.sparsity(leaf)
        assert value.abs() <= 1e-12
        (slope,) = torch.autograd.grad(value, leaf)
        assert slope.abs().max() <= 1e-9
        for seed in range(20):
            leaf = scrambled(matrices, seed).requires_grad_()
            value = defects.sparsity(leaf)
            assert value > 0.1
            (slope,) = torch.autograd.grad(value, leaf)
            assert torch.isfinite(slope).all()


def test_sparsity_is_never_negative_and_finite_at_zero(generator):
    for _ in range(50):
        noise = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)
        assert defects.sparsity(noise) >= -1e-2
        assert defects.sparsity(noise - noise.mT) >= -1e-2
    zero = torch.zeros(2, 4, 4, requires_grad=True)
    value = defects.sparsity(zero)
    (slope,) = torch.autograd.grad(value, zero)
    assert value == 0
    assert torch.equal(slope, torch.zeros_like(slope))


def recovered(truth: Sum, seed: int, weight: float, steps: int) -> LearnedRepresentation:
    """φ fitted to generators that are given up to an orthonormal basis, with soft blocks."""
    torch.manual_seed(seed)
    target = scrambled(truth.generators(), seed).float()
    rho = LearnedRepresentation(truth.group, truth.size, blocks="soft")
    basis = torch.nn.Parameter(torch.randn(truth.size, truth.size))
    optimizer = torch.optim.Adam([*rho.parameters(), basis], lr=0.05)
    for _ in range(steps):
        q = torch.linalg.matrix_exp(basis - basis.mT)
        fit = (rho.generators() - q @ target @ q.mT).square().sum()
        loss = fit + weight * rho.penalties()["sparsity"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return rho


@pytest.mark.parametrize("weights", [((1, 0), (0, 1)), ((1, 1), (-1, 2))])
def test_soft_blocks_are_found_from_a_random_basis(weights):
    truth = Sum(*(irrep(Torus(2), w) for w in weights))
    rho = recovered(truth, seed=1, weight=1.0, steps=250)
    blocks = rho.discovered_blocks()
    assert sorted(map(len, blocks)) == [2, 2]
    strengths = rho.generators().abs()
    found = sorted((strengths[:, a, b].tolist() for a, b in blocks), key=lambda w: w[1])
    expected = sorted(([float(abs(k)) for k in w] for w in weights), key=lambda w: w[1])
    assert torch.allclose(torch.tensor(found), torch.tensor(expected), atol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("degrees", [(1, 1), (1, 2)])
def test_soft_blocks_of_rotations_are_found(degrees, seed):
    truth = Sum(*(irrep(SO3(), degree) for degree in degrees))
    starts = [recovered(truth, seed=some, weight=0.3, steps=600) for some in (seed, seed + 10)]
    rho = min(starts, key=lambda rho: rho.penalties()["sparsity"].item())
    sizes = sorted(2 * degree + 1 for degree in degrees)
    assert sorted(map(len, rho.discovered_blocks())) == sizes


def test_soft_blocks_of_a_lookup_are_found():
    group, g = Cyclic(5), torch.arange(5)
    torch.manual_seed(0)
    truth = Sum(*(rho for rho in irreps(group) if rho.size == 2))
    turn, _ = torch.linalg.qr(torch.randn(4, 4))
    target = turn @ truth(g) @ turn.mT
    basis = torch.nn.Parameter(torch.randn(4, 4))
    rho = LearnedRepresentation(group, 4, blocks="soft", phi="lookup")
    optimizer = torch.optim.Adam([*rho.parameters(), basis], lr=0.05)
    for _ in range(800):
        q = torch.linalg.matrix_exp(basis - basis.mT)
        penalties = rho.penalties()
        fit = (rho(g) - q @ target @ q.mT).square().sum()
        loss = fit + penalties["sparsity"] + penalties["table"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sorted(map(len, rho.discovered_blocks())) == [2, 2]
    assert rho.penalties()["sparsity"] < 0.01
    assert rho.penalties(only=["table"]).keys() == {"table"}


# ---- lookups --------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [Cyclic(5), Dihedral(3)], ids=repr)
def test_a_lookup_learns_a_representation_from_its_table(group):
    torch.manual_seed(0)
    rho = LearnedRepresentation(group, blocks=[2], phi="lookup")
    optimizer = torch.optim.Adam(rho.parameters(), lr=0.1)
    for _ in range(150):
        loss = rho.penalties()["table"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    g = torch.arange(group.order)
    pairs = torch.cartesian_prod(g, g)
    assert defects.homomorphism_error(rho, *pairs.unbind(-1)) <= 1e-2
    # Reflections are reflections: the determinants are those of the group's own plane.
    plane = next(found for found in irreps(group) if found.size == 2)
    assert torch.allclose(torch.linalg.det(rho(g)), torch.linalg.det(plane(g)), atol=1e-5)


def test_determinants_can_be_given():
    group = Dihedral(3)
    signs = irreps(group)[1](torch.arange(6)).flatten()
    rho = LearnedRepresentation(
        group, blocks=[3, 2], phi="lookup", determinants=[[1] * 6, signs.tolist()]
    )
    three, two = rho.blocks(torch.arange(6))
    assert torch.allclose(torch.linalg.det(three), torch.ones(6))
    assert torch.allclose(torch.linalg.det(two), signs)
    assert torch.equal(rho.state_dict()["signs"][0], torch.ones(6))
    for bad, message in (
        ([[1] * 6], "expected ±1 of shape"),
        ([[1] * 6, [2] * 6], "expected ±1 of shape"),
        ([[1] * 6, [-1] * 6], "homomorphisms"),
    ):
        with pytest.raises(ValueError, match=message):
            LearnedRepresentation(group, blocks=[3, 2], phi="lookup", determinants=bad)


# ---- scrambled coordinates ------------------------------------------------------------------


def test_scrambled_coordinates_are_fixed_and_one_to_one(generator):
    found = Scramble(3, seed=5).double()
    assert not list(found.parameters())
    assert torch.equal(found.lift, Scramble(3, seed=5).double().lift)
    assert not torch.equal(found.lift, Scramble(3, seed=6).double().lift)
    X = 4 * torch.randn(100, 3, generator=generator, dtype=torch.float64)
    back = found(X)
    for turn, shift in zip(found.turns.flip(0), found.shifts.flip(0), strict=True):
        u = back.clone()
        for _ in range(3000):  # u + 0.9 sin u = y: a contraction
            u = back - 0.9 * torch.sin(u)
        back = (u - shift) @ torch.linalg.inv(turn)
    assert torch.allclose(back @ torch.linalg.pinv(found.lift), X, atol=1e-5)
    assert found(torch.zeros(3, dtype=torch.float64)).abs().min() > 1e-3


@pytest.mark.parametrize("arguments", [{}, {"phi": "mlp"}, {"phi": "mlp", "skip": True}])
def test_no_actions_at_all_have_no_matrices(arguments):
    rho = LearnedRepresentation(SO3(), blocks=[3], **arguments)
    assert rho(torch.zeros(0, 3)).shape == (0, 3, 3)


# ---- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "arguments", "message"),
    [
        (SO2(), {}, "size must be an integer"),
        (SO2(), {"size": 2, "free": 2}, "greater than free = 2"),
        (SO2(), {"size": True}, "got True"),
        (SO2(), {"blocks": "hard"}, "'soft' or None, got 'hard'"),
        (SO2(), {"blocks": []}, "expected integers, one or more"),
        (SO2(), {"blocks": [2.0]}, "expected integers, one or more"),
        (SO2(), {"blocks": 2}, r"a list of sizes, such as \[2, 2\]"),
        (SO2(), {"blocks": [2, 0]}, "must be positive"),
        (SO2(), {"blocks": [2], "size": 4}, "add up to 2"),
        (SO2(), {"blocks": [2], "free": -1}, "free must be"),
        (SO2(), {"blocks": [1, 1]}, "moves nothing"),
        (SO2(), {"blocks": [2], "phi": "cnn"}, "phi must be"),
        (SO2(), {"blocks": [2], "phi": "lookup"}, "use phi='linear'"),
        (Cyclic(3), {"blocks": [2]}, "use phi='lookup'"),
        (SO2(), {"blocks": [2], "scramble": 1}, "only phi='mlp' can undo"),
        (SO2(), {"blocks": [2], "phi": "mlp", "scramble": 1.5}, "scramble must be"),
        (SO2(), {"blocks": [2], "phi": "mlp", "hidden": ()}, "hidden"),
        (SO2(), {"blocks": [2], "determinants": [[1]]}, "phi='lookup'"),
    ],
)
def test_what_does_not_fit_is_refused(group, arguments, message):
    with pytest.raises(ValueError, match=message):
        LearnedRepresentation(group, **arguments)


def test_actions_that_do_not_fit_are_refused():
    rho = LearnedRepresentation(Torus(2), blocks=[2, 2])
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        rho(torch.zeros(3))
    with pytest.raises(ValueError, match=r"float64, the parameters torch\.float32"):
        rho(torch.zeros(2, dtype=torch.float64))
    with pytest.raises(ValueError, match="latents have trailing shape"):
        rho.act(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="one step or more"):
        rho.rollout(torch.zeros(5, 0, 2), torch.zeros(5, 4))
    for each in (rho, LearnedRepresentation(Torus(2), blocks="soft", size=4)):
        with pytest.raises(ValueError, match=r"z has shape \(3, 4\), the actions .* \(5,\)"):
            each.act(torch.zeros(5, 2), torch.zeros(3, 4))
        with pytest.raises(ValueError, match=r"z has shape \(3, 4\), the actions .* \(5,\)"):
            each.rollout(torch.zeros(5, 7, 2), torch.zeros(3, 4))
        with pytest.raises(ValueError, match=r"z has dtype torch\.float64, the parameters"):
            each.rollout(torch.zeros(5, 7, 2), torch.zeros(5, 4, dtype=torch.float64))


# ---- frequency, and the sign of blocks --------------------------------------------------------


def test_frequency_is_the_sum_of_weights_in_any_basis(generator):
    weights = torch.tensor([[1.0, -2.0], [0.0, 3.0]], dtype=torch.float64)  # angle, plane
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    T = torch.stack([torch.block_diag(*(w * turn for w in row)) for row in weights])
    assert defects.frequency(T, (1, 1)).item() == pytest.approx(6, abs=0.02)
    # One factor of two dimensions: √(Σ squares) in each plane.
    assert defects.frequency(T, (2,)).item() == pytest.approx(1 + 13**0.5, abs=0.02)
    basis = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator))[0]
    turned = defects.frequency(basis @ T @ basis.mT, (1, 1)).item()
    assert turned == pytest.approx(defects.frequency(T, (1, 1)).item(), rel=1e-9)
    zero = torch.zeros_like(T, requires_grad=True)
    defects.frequency(zero, (1, 1)).backward()
    assert torch.isfinite(zero.grad).all()


def test_of_faithful_weights_frequency_prefers_an_angle_a_plane():
    def cost(rows: list[list[float]]) -> float:
        turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
        return defects.frequency(
            torch.stack([torch.block_diag(*(w * turn for w in row)) for row in rows]), (1, 1)
        ).item()

    assert cost([[1, 0], [0, 1]]) < cost([[1, 0], [1, 1]]) < cost([[1, 1], [1, -1]])


@pytest.mark.parametrize("seed", range(5))
def test_blocks_start_where_the_bracket_leads_to_a_representation(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        rho = LearnedRepresentation(SO3(), blocks=[3, 3])
    optimizer = torch.optim.Adam(rho.parameters(), lr=0.03)
    for _ in range(300):
        loss = rho.penalties()["bracket"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1e-6
    # Neither block has become trivial: each is the rotations in some basis, of norm √6 in all.
    for block in (slice(0, 3), slice(3, 6)):
        norm = rho.generators()[:, block, block].norm().item()
        assert norm == pytest.approx(6**0.5, abs=1e-2)


@pytest.mark.parametrize("batch", [(), (2, 3), (200,)])  # the last is too large for the tree
@pytest.mark.parametrize("name", ["torus", "rotations"])
def test_long_rollouts_are_those_of_single_steps(name, batch, dtype, device, generator, tolerance):
    group, blocks = {"torus": (Torus(2), [2, 2]), "rotations": (SO3(), [3, 2, 3])}[name]
    rho = LearnedRepresentation(group, blocks=blocks, free=1).to(device, dtype)
    X = actions(rho, *batch, 37, generator=generator)
    z = torch.randn(*batch, rho.size, dtype=dtype, device=device, generator=generator)
    path = rho.rollout(X, z)
    assert path.shape == (*batch, 37, rho.size)
    for t in range(37):
        z = rho.act(X[..., t, :], z)
        assert (path[..., t, :] - z).abs().max() <= 40 * tolerance
