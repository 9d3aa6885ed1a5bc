"""Contracts of the groups, held by every group of the catalogue, and what each is by itself.

Exponentials are compared with torch's and scipy's of matrices, the adjoint action with
conjugation, the motions of space with scipy's rotations and with geomstats.
"""

import copy
import importlib.util
import math
import pickle
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from catalogue import FINITE_GROUPS, LIE_GROUPS, over_groups
from scipy.spatial.transform import Rotation

from manifold_ae import groups
from manifold_ae.groups import finite, rotations

GROUPS = (*LIE_GROUPS, *FINITE_GROUPS)
COMPACT = tuple(G for G in LIE_GROUPS if G.is_compact)


def gap(x: torch.Tensor, y: torch.Tensor) -> float:
    difference = (x - y).detach().abs()
    return difference.max().item() if difference.numel() else 0.0


def size(*tensors: torch.Tensor) -> float:
    """1, or the largest entry where that is more: what rounding is relative to."""
    return max(1.0, *(tensor.detach().abs().max().item() for tensor in tensors))


def apply(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (matrix * x.unsqueeze(-2)).sum(-1)


@pytest.fixture
def draw(dtype, device, generator):
    """``draw(group, *shape)``: random elements of the test's dtype, on its device."""

    def sample(group, *shape):
        return group.random(*shape, generator=generator, dtype=dtype, device=device)

    return sample


@pytest.fixture
def algebra(dtype, device, generator):
    """``algebra(group, *shape)``: random coordinates, well inside the domain of log."""

    def sample(group, *shape):
        X = torch.randn(*shape, group.dim, dtype=dtype, device=device, generator=generator)
        return X / max(1, group.dim) ** 0.5

    return sample


def represented(group, g: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return group.matrix(g) if group.dim else group.matrix(g, dtype=dtype)


# ---- values ---------------------------------------------------------------------------------


@over_groups(GROUPS)
def test_groups_are_values(group):
    again = copy.deepcopy(group)
    assert again == group == pickle.loads(pickle.dumps(group))
    assert hash(again) == hash(group)
    assert [group == G for G in GROUPS].count(True) == 1
    with pytest.raises(AttributeError):
        group.n = 7
    if type(group) is not groups.FiniteGroup:
        assert groups.parse(group.spec) == group
        assert eval(repr(group), vars(groups)) == group


# ---- the group ------------------------------------------------------------------------------


@over_groups(GROUPS)
def test_the_axioms_of_a_group(group, draw, dtype, device, tolerance):
    g, h, k = draw(group, 20), draw(group, 20), draw(group, 20)
    assert g.shape == (20, *group.element_shape)
    e = group.identity(20, dtype=dtype, device=device)
    assert e.shape == g.shape
    assert e.dtype == g.dtype == (dtype if group.dim else torch.int64)
    left = group.compose(group.compose(g, h), k)
    slack = tolerance * size(g, h, k) ** 3
    assert gap(left, group.compose(g, group.compose(h, k))) <= slack
    assert gap(group.compose(e, g), g) == 0
    assert gap(group.compose(g, e), g) == 0
    back = group.inverse(g)
    slack = tolerance * size(g) * size(back) ** 2
    assert gap(group.compose(g, back), e) <= slack
    assert gap(group.compose(back, g), e) <= slack
    commutes = gap(group.compose(g, h), group.compose(h, g)) <= tolerance * size(g, h) ** 2
    assert commutes == group.is_abelian


@over_groups(GROUPS)
def test_matrices_are_a_homomorphism_and_act_is_an_action(group, draw, dtype, tolerance, generator):
    g, h = draw(group, 20), draw(group, 20)
    G, H = represented(group, g, dtype), represented(group, h, dtype)
    assert G.dtype == dtype
    product = represented(group, group.compose(g, h), dtype)
    slack = tolerance * size(G, H) ** 2
    assert gap(product, G @ H) <= slack
    x = torch.randn(20, group.degree, dtype=dtype, device=g.device, generator=generator)
    moved = group.act(group.compose(g, h), x)
    assert moved.dtype == dtype
    assert gap(moved, group.act(g, group.act(h, x))) <= slack * size(x)
    if G.shape[-1] == group.degree:
        assert gap(group.act(g, x), apply(G, x)) <= slack
    elif "*" not in group.spec:  # affine maps, on homogeneous coordinates
        one = torch.ones_like(x[:, :1])
        assert gap(group.act(g, x), apply(G, torch.cat([x, one], -1))[:, :-1]) <= slack


@over_groups(GROUPS)
def test_batch_axes_broadcast(group, draw, dtype, device):
    g, h = draw(group, 3, 1), draw(group, 4)
    product = group.compose(g, h)
    assert product.shape == (3, 4, *group.element_shape)
    assert gap(product[2, 3], group.compose(g[2, 0], h[3])) <= 1e-5 * size(product)
    x = torch.ones(4, group.degree, dtype=dtype, device=device)
    assert group.act(g, x).shape == (3, 4, group.degree)
    assert group.compose(g[:0], h).shape == (0, 4, *group.element_shape)
    assert group.identity(dtype=dtype).shape == group.element_shape
    if group.dim:
        X = torch.zeros(3, 1, group.dim, dtype=dtype, device=device)
        assert group.bracket(X, X[0].expand(4, -1)).shape == (3, 4, group.dim)
        assert group.adjoint(g).shape == (3, 1, group.dim, group.dim)
        assert group.log(g[:0]).shape == (0, 1, group.dim)
        assert group.exp(X[:0]).shape == (0, 1, *group.element_shape)


# ---- the algebra ----------------------------------------------------------------------------


@over_groups(LIE_GROUPS)
def test_exp_agrees_with_the_exponential_of_matrices(group, algebra, tolerance):
    X = 3 * algebra(group, 20)
    found, A = group.matrix(group.exp(X)), group.hat(X)
    slack = 10 * tolerance * size(found)
    assert gap(found, torch.linalg.matrix_exp(A.double()).to(found)) <= slack
    expected = np.stack([scipy.linalg.expm(a) for a in A.double().cpu().numpy()])
    assert np.abs(found.cpu().numpy() - expected).max() <= slack
    assert torch.equal(group.vee(A), X) or gap(group.vee(A), X) <= tolerance
    assert group.vee(A).dtype == X.dtype == found.dtype


@over_groups(LIE_GROUPS)
def test_exp_is_a_homomorphism_along_lines(group, algebra, tolerance):
    X = algebra(group, 20)
    e = group.identity(20, dtype=X.dtype, device=X.device)
    assert gap(group.exp(torch.zeros_like(X)), e) <= torch.finfo(X.dtype).eps
    product = group.compose(group.exp(0.7 * X), group.exp(1.6 * X))
    assert gap(product, group.exp(2.3 * X)) <= tolerance * size(product)
    assert gap(group.inverse(group.exp(X)), group.exp(-X)) <= tolerance * size(group.exp(-X))


@over_groups(LIE_GROUPS)
def test_log_inverts_exp(group, algebra, tolerance):
    X = algebra(group, 70)
    scale = torch.tensor([0.0, 1e-30, 1e-9, 1e-3, 0.1, 1.0, 2.5]).repeat(10).unsqueeze(-1).to(X)
    X = scale * X / torch.linalg.vector_norm(X, dim=-1, keepdim=True)
    g = group.exp(X)
    found = group.log(g)
    assert found.dtype == X.dtype
    # Rounding of g, through the condition of the logarithm.
    slack = tolerance * size(group.matrix(group.inverse(g))) * size(g)
    assert gap(found, X) <= slack
    assert gap(group.exp(found), g) <= slack


@over_groups(LIE_GROUPS)
def test_exp_inverts_log(group, draw, tolerance):
    g = draw(group, 200)
    X = group.log(g)
    assert torch.isfinite(X).all()
    assert gap(group.exp(X), g) <= 10 * tolerance * size(g)


@over_groups(LIE_GROUPS)
def test_the_bracket_is_that_of_a_lie_algebra(group, algebra, tolerance):
    X, Y, Z = algebra(group, 20), algebra(group, 20), algebra(group, 20)
    b = group.bracket
    A, B = group.hat(X), group.hat(Y)
    assert gap(group.hat(b(X, Y)), A @ B - B @ A) <= tolerance
    assert gap(b(X, Y), -b(Y, X)) <= tolerance
    assert gap(b(X, b(Y, Z)) + b(Y, b(Z, X)) + b(Z, b(X, Y)), torch.zeros_like(X)) <= tolerance
    assert (gap(b(X, Y), torch.zeros_like(X)) <= tolerance) == group.is_abelian


@over_groups(LIE_GROUPS)
def test_the_adjoint_action_is_conjugation(group, algebra, draw, tolerance):
    g, h, X, Y = draw(group, 20), draw(group, 20), algebra(group, 20), algebra(group, 20)
    matrix, back = group.matrix(g), group.matrix(group.inverse(g))
    Ad = group.adjoint(g)
    slack = 10 * tolerance * size(matrix, back) ** 2
    assert gap(group.hat(apply(Ad, X)), matrix @ group.hat(X) @ back) <= slack
    conjugate = group.compose(group.compose(g, group.exp(X)), group.inverse(g))
    assert gap(group.exp(apply(Ad, X)), conjugate) <= slack * size(conjugate)
    assert gap(group.adjoint(group.compose(g, h)), Ad @ group.adjoint(h)) <= slack * size(Ad)
    moved = group.bracket(apply(Ad, X), apply(Ad, Y))
    assert gap(moved, apply(Ad, group.bracket(X, Y))) <= slack * size(Ad)


@over_groups(LIE_GROUPS)
def test_the_bracket_is_the_derivative_of_the_adjoint_action(group, device, generator):
    like = {"dtype": torch.float64, "device": device, "generator": generator}
    X, Y = torch.randn(2, group.dim, **like)
    _, found = torch.autograd.functional.jvp(
        lambda t: apply(group.adjoint(group.exp(t * X)), Y), torch.zeros_like(X[:1]), X[:1] ** 0
    )
    assert gap(found, group.bracket(X, Y)) <= 1e-12


@over_groups(LIE_GROUPS)
def test_closed_subgroups_close(group, dtype, device):
    for period in group.periods:
        X = torch.tensor(period, dtype=dtype, device=device)
        e = group.identity(dtype=dtype, device=device)
        assert gap(group.exp(2 * math.pi * X), e) <= 4 * math.pi * torch.finfo(dtype).eps
        assert gap(group.exp(math.pi * X), e) > 1
    # All directions of the basis that close are among them.
    basis = 2 * math.pi * torch.eye(group.dim, dtype=torch.float64, device=device)
    ends = group.exp(basis)
    e = group.identity(dtype=torch.float64, device=device)
    closed = [gap(end, e) <= 1e-12 for end in ends]
    assert sum(closed) == len(group.periods)


# ---- derivatives ----------------------------------------------------------------------------


@over_groups(LIE_GROUPS)
def test_derivatives_are_right_twice_at_zero_and_elsewhere(group, generator, device):
    X = torch.randn(group.dim, dtype=torch.float64, device=device, generator=generator)
    weights = torch.linspace(1, 2, group.dim, dtype=torch.float64, device=device)
    for start in (torch.zeros_like(X), 0.5 * X / group.dim**0.5):
        leaf = start.requires_grad_()
        assert torch.autograd.gradcheck(group.exp, leaf, fast_mode=True)
        assert torch.autograd.gradgradcheck(group.exp, leaf, fast_mode=True)

        def log(X: torch.Tensor) -> torch.Tensor:
            # exp leads to elements whichever way X is moved.
            return (weights * group.log(group.compose(group.exp(X), group.exp(X)))).sum()

        assert torch.autograd.gradcheck(log, leaf, fast_mode=True)
        assert torch.autograd.gradgradcheck(log, leaf, fast_mode=True)


@over_groups(LIE_GROUPS)
def test_derivatives_at_the_identity_are_finite(group, dtype, device):
    e = group.identity(5, dtype=dtype, device=device)
    for function in (group.log, group.inverse, group.adjoint, group.matrix):
        leaf = e.clone().requires_grad_()
        value = function(leaf)
        if not value.requires_grad:  # Ad of an abelian group
            continue
        weights = torch.linspace(1, 2, value.numel(), dtype=dtype, device=device).view_as(value)
        (slope,) = torch.autograd.grad((weights * value).sum(), leaf, create_graph=True)
        assert torch.isfinite(slope).all()
        if slope.requires_grad:
            (second,) = torch.autograd.grad(slope.square().sum(), leaf, allow_unused=True)
            assert second is None or torch.isfinite(second).all()


@over_groups(LIE_GROUPS)
def test_torch_func_agrees(group, generator, device):
    like = {"dtype": torch.float64, "device": device, "generator": generator}
    X = torch.randn(4, group.dim, **like) / 2 / group.dim**0.5
    assert gap(torch.func.vmap(group.exp)(X), group.exp(X)) <= 1e-13
    g = group.exp(X)
    assert gap(torch.func.vmap(group.log)(g), X) <= 1e-12
    slopes = torch.func.vmap(torch.func.jacrev(lambda X: group.log(group.exp(X))))(X)
    assert gap(slopes, torch.eye(group.dim, dtype=X.dtype, device=device)) <= 1e-11


# ---- laws -----------------------------------------------------------------------------------


@over_groups(COMPACT)
def test_random_elements_have_the_haar_law(group, generator, device):
    n = 4000
    g = group.random(n, generator=generator, dtype=torch.float64, device=device)
    X = torch.linspace(1, 2, group.dim, dtype=torch.float64, device=device)
    shifted = group.matrix(group.compose(group.exp(X), g))
    for matrix in (group.matrix(g), shifted):
        # No trivial part: means vanish. Irreducible blocks: second moments are 1/size.
        assert matrix.mean(0).abs().max().item() <= 5 / n**0.5
    moments = [matrix.square().mean(0) for matrix in (group.matrix(g), shifted)]
    assert gap(*moments) <= 6 / n**0.5
    sign, log_volume = torch.linalg.slogdet(group.matrix(g))
    assert (sign == 1).all()
    assert gap(log_volume, torch.zeros_like(log_volume)) <= 1e-12


@over_groups(FINITE_GROUPS)
def test_finite_groups_are_drawn_uniformly(group, generator, device):
    n = 200 * group.order
    counts = torch.bincount(group.random(n, generator=generator, device=device))
    assert len(counts) == group.order
    assert (counts - 200).abs().max() <= 5 * 200**0.5


@over_groups(GROUPS)
def test_generators_of_chance_are_followed(group, device):
    first, second = (
        group.random(5, generator=torch.Generator(device).manual_seed(3), device=device)
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert first.dtype == (torch.get_default_dtype() if group.dim else torch.int64)


# ---- errors ---------------------------------------------------------------------------------


@over_groups(LIE_GROUPS)
def test_wrong_shapes_and_dtypes_are_refused(group, dtype):
    X = torch.zeros(2, group.dim + 1, dtype=dtype)
    g = torch.zeros(2, *(n + 1 for n in group.element_shape), dtype=dtype)
    e = group.identity(dtype=dtype)
    for call in (group.exp, group.hat, lambda X: group.bracket(X, X)):
        with pytest.raises(ValueError, match=rf"X has shape .*trailing shape \({group.dim},"):
            call(X)
    for call in (group.log, group.inverse, group.matrix, group.adjoint):
        with pytest.raises(ValueError, match="g has shape"):
            call(g)
    with pytest.raises(ValueError, match="h has shape"):
        group.compose(e, g)
    with pytest.raises(ValueError, match="Y has shape"):
        group.bracket(X[:, 1:], X)
    with pytest.raises(ValueError, match="x has shape"):
        group.act(e, torch.zeros(group.degree + 1, dtype=dtype))
    with pytest.raises(ValueError, match="A has shape"):
        group.vee(torch.zeros(1, 1, 77))
    for wrong in (torch.int64, torch.complex64, torch.float16):
        with pytest.raises(ValueError, match=rf"X has dtype {wrong}.*\.float\(\)"):
            group.exp(torch.zeros(group.dim, dtype=wrong))
        with pytest.raises(ValueError, match=rf"g has dtype {wrong}"):
            group.log(torch.zeros(group.element_shape, dtype=wrong))


@over_groups(FINITE_GROUPS)
def test_what_is_no_element_of_a_finite_group_is_refused(group):
    e = group.identity()
    for wrong in (torch.tensor(-1), torch.tensor([0, group.order])):
        with pytest.raises(ValueError, match=f"outside 0 … {group.order - 1}"):
            group.compose(e, wrong)
    for dtype in (torch.float32, torch.bool):
        with pytest.raises(ValueError, match=f"dtype {dtype}.*integers"):
            group.inverse(torch.zeros(2, dtype=dtype))
    assert torch.equal(group.compose(e, torch.zeros(2, dtype=torch.uint8)), torch.zeros(2))
    with pytest.raises(TypeError, match="g is of type int"):
        group.inverse(1)


@over_groups(LIE_GROUPS)
def test_what_is_not_finite_stays_in_its_element(group, dtype):
    X = torch.zeros(3, group.dim, dtype=dtype)
    X[1] = math.nan
    g = group.exp(X)
    e = group.identity(dtype=dtype)
    assert gap(g[0], e) == gap(g[2], e) == 0
    assert not torch.isfinite(g[1]).all()


#: Elements that have no logarithm, by group.
WITHOUT_LOGARITHM = {
    "a turn by π in a plane": (groups.SO(4), torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))),
    "a reflection": (groups.SO(5), torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0, 1.0]))),
    "a reflection of the plane": (groups.SO2(), torch.diag(torch.tensor([1.0, -1.0]))),
    "a reflection of space": (groups.SO3(), torch.diag(torch.tensor([1.0, 1.0, -1.0]))),
    "a reflection, in SO(3)": (groups.SO(3), -torch.eye(3)),
    "a reflection and a shift": (groups.SE3(), torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0]))),
    "not a number, in SO3": (groups.SO3(), torch.full((3, 3), math.nan)),
    "infinite, in SO2": (groups.SO2(), torch.diag(torch.tensor([math.inf, 1.0]))),
    "not a number, in SO(4)": (groups.SO(4), torch.full((4, 4), math.nan)),
    "singular, in SO(4)": (groups.SO(4), torch.ones(4, 4)),
    "negative determinant": (groups.GL(2), torch.diag(torch.tensor([-1.0, 2.0]))),
    "minus identity": (groups.GL(2), -torch.eye(2)),
    "singular": (groups.GL(2), torch.ones(2, 2)),
    "not a number": (groups.GL(2), torch.full((2, 2), math.nan)),
    "affine": (groups.Affine(1), torch.tensor([[-1.0, 3.0], [0.0, 1.0]])),
    "scale zero": (groups.ScaleTranslation(1), torch.tensor([0.0, 1.0])),
    "negative scale": (groups.ScaleTranslation(2, True), torch.tensor([1.0, -1.0, 1.0, 1.0])),
    "scale not a number": (groups.ScaleTranslation(1), torch.tensor([math.nan, 1.0])),
}


@pytest.mark.parametrize("kind", WITHOUT_LOGARITHM)
def test_outside_its_domain_the_logarithm_is_refused(kind, dtype):
    group, g = WITHOUT_LOGARITHM[kind]
    batch = torch.stack([group.identity(dtype=dtype), g.to(dtype)])
    with pytest.raises(ValueError, match=r"^g has a (matrix|scale)"):
        group.log(batch)


@pytest.mark.parametrize(
    "kind", ["a turn by π in a plane", "negative determinant", "minus identity", "affine"]
)
def test_elements_say_whether_they_have_a_logarithm(kind, dtype):
    group, g = WITHOUT_LOGARITHM[kind]
    batch = torch.stack([group.identity(), g, torch.full_like(g, math.nan)]).to(dtype)
    pair = groups.Product(groups.SO2(), group)
    e = groups.SO2().identity(3, dtype=dtype)
    for found in (group.has_log(batch), pair.has_log(pair.join([e, batch]))):
        assert found.tolist() == [True, False, False]
    with pytest.raises(ValueError, match="no principal logarithm"):
        group.log(batch[1])


def test_the_logarithm_of_rotations_has_the_derivative_forwards_too():
    G = groups.SO(4)
    X = 0.3 * torch.ones(5, G.dim, dtype=torch.float64)
    slope = torch.func.vmap(torch.func.jacfwd(lambda X: G.log(G.exp(X))))(X)
    assert gap(slope, torch.eye(G.dim, dtype=torch.float64).expand(5, -1, -1)) <= 1e-12


@pytest.mark.parametrize(
    ("group", "g"),
    [
        (groups.GL(2), torch.ones(2, 2)),
        (groups.GL(2), torch.full((2, 2), math.nan)),
        (groups.Affine(1), torch.tensor([[0.0, 1.0], [0.0, 1.0]])),
        (groups.ScaleTranslation(1), torch.zeros(2)),
    ],
    ids=repr,
)
def test_what_has_no_inverse_is_refused(group, g):
    with pytest.raises(ValueError, match=r"^g has a (matrix that is singular|scale)"):
        group.inverse(g)


@pytest.mark.parametrize("make", ["Torus", "SO", "ScaleTranslation", "Affine", "GL"])
@pytest.mark.parametrize("n", [0, -1, 1.0, "2", True, None])
def test_sizes_that_are_none_are_refused(make, n):
    with pytest.raises(ValueError, match=f"{make}: n must be an integer of at least") as refused:
        getattr(groups, make)(n)
    assert repr(n) in str(refused.value)


@pytest.mark.parametrize(("make", "most"), [("Cyclic", 1000), ("Dihedral", 500)])
@pytest.mark.parametrize("n", [0, 1001, 2.0, True])
def test_orders_that_are_none_are_refused(make, most, n):
    with pytest.raises(ValueError, match=f"{make}: n must be an integer from 1 to {most}"):
        getattr(groups, make)(n)


# ---- names ----------------------------------------------------------------------------------


def test_every_name_is_read():
    for name, line in groups.names().items():
        group = groups.parse(name.replace(":n", ":3"))
        assert line
        assert groups.parse(group.spec) == group
    assert groups.parse(" SO3 ") == groups.SO3()
    assert groups.parse("torus:2*so3") == groups.Product(groups.Torus(2), groups.SO3())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("so33", "did you mean 'so3'.*torus:n"),
        ("so3:2", "takes no size, write 'so3'"),
        ("torus", "write torus:n"),
        ("torus:x", "write torus:n"),
        ("torus:0", "at least 1, got 0"),
        ("so:1", "at least 2, got 1"),
        ("so3*cyclic:3", "a Lie group beside a finite one"),
        ("", "there are"),
    ],
)
def test_names_of_no_group_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        groups.parse(spec)


# ---- each by itself -------------------------------------------------------------------------


def test_rotations_of_two_and_three_dimensions_are_those_of_so(dtype, generator, tolerance):
    X = torch.randn(20, 3, dtype=dtype, generator=generator)
    omega = torch.stack([-X[:, 2], X[:, 1], -X[:, 0]], -1)
    assert gap(groups.SO(3).hat(X), groups.SO3().hat(omega)) == 0
    assert gap(groups.SO(3).exp(X), groups.SO3().exp(omega)) <= tolerance
    assert gap(groups.SO(2).exp(X[:, :1]), groups.SO2().exp(-X[:, :1])) <= tolerance


def test_half_turns_have_a_logarithm_where_a_formula_gives_one(dtype):
    half = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=dtype))
    assert gap(groups.SO2().log(half[:2, :2]), torch.full((1,), math.pi, dtype=dtype)) <= 1e-6
    assert gap(groups.SE2().log(half)[:1], torch.full((1,), math.pi, dtype=dtype)) <= 1e-6
    moved = torch.eye(4, dtype=dtype)
    moved[:3, :3], moved[:3, 3] = half, 1.0
    found = groups.SE3().exp(groups.SE3().log(moved))
    assert gap(found, moved) <= 1e-5 if dtype == torch.float32 else 1e-12


@pytest.mark.parametrize("away", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("n", [4, 5, 8])
def test_the_logarithm_of_rotations_next_to_half_turns(n, away, generator):
    angles = torch.full((n // 2,), math.pi - away, dtype=torch.float64)
    angles[1:] = torch.linspace(0.3, math.pi - away, n // 2 - 1, dtype=torch.float64)
    A = torch.zeros(n, n, dtype=torch.float64)
    for k, angle in enumerate(angles):
        A[2 * k, 2 * k + 1], A[2 * k + 1, 2 * k] = -angle, angle
    G = groups.SO(n)
    Q = G.random(10, dtype=torch.float64, generator=generator)
    X = G.vee(Q @ A @ Q.mT)
    assert gap(G.log(G.exp(X)), X) <= 1e-13 / away


def test_logarithms_of_matrices_agree_with_scipy(generator):
    for n in (2, 3, 6):
        g = groups.GL(n).random(10, dtype=torch.float64, generator=generator)
        expected = np.stack([scipy.linalg.logm(a) for a in g.numpy()])
        found = groups.GL(n).hat(groups.GL(n).log(g)).numpy()
        assert np.abs(found - expected).max() <= 1e-11 * np.abs(expected).max()
    # Not to be diagonalised, of large norm, and next to the negative axis.
    jordan = torch.tensor([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 2.0]]).double()
    large = torch.diag(torch.tensor([1e6, 1.0, 1e-6])).double()
    turn = groups.SO2().exp(torch.tensor([math.pi - 1e-4], dtype=torch.float64))
    for matrix in (jordan, large, 3 * turn):
        G = groups.GL(len(matrix))
        again = torch.linalg.matrix_exp(G.hat(G.log(matrix)))
        assert gap(again, matrix) <= 1e-11 * size(matrix)


def test_a_large_translation_costs_no_digits_of_the_linear_part(generator):
    G = groups.Affine(2)
    X = torch.randn(10, 6, dtype=torch.float64, generator=generator) / 2
    far = X * torch.tensor([1.0, 1.0, 1.0, 1.0, 1e9, 1e9]).double()
    assert gap(G.exp(far)[:, :2, :2], G.exp(X)[:, :2, :2]) <= 1e-14
    found = G.log(G.exp(far))
    assert gap(found[:, :4], X[:, :4]) <= 1e-13
    assert gap(found[:, 4:], far[:, 4:]) <= 1e-4


def test_scales_and_translations_are_the_affine_maps_they_are(dtype, generator, tolerance):
    G, whole = groups.ScaleTranslation(2), groups.Affine(2)
    X = torch.randn(20, 3, dtype=dtype, generator=generator)
    a, zero = X[:, :1], torch.zeros_like(X[:, :1])
    as_affine = torch.cat([a, zero, zero, a, X[:, 1:]], -1)
    found = G.matrix(G.exp(X))
    assert gap(found, whole.exp(as_affine)) <= tolerance * size(found)
    extreme = torch.tensor([[-80.0, 1.0, 1.0], [80.0, 1.0, 1.0]], dtype=dtype)
    assert gap(G.log(G.exp(extreme)) / extreme, torch.ones_like(extreme)) <= 10 * tolerance


def test_motions_of_space_agree_with_scipy(generator):
    G = groups.SE3()
    X = torch.randn(50, 6, dtype=torch.float64, generator=generator)
    g = G.exp(X)
    theirs = Rotation.from_rotvec(X[:, :3].numpy())
    assert np.abs(g[:, :3, :3].numpy() - theirs.as_matrix()).max() <= 1e-14
    assert gap(groups.SO3().log(g[:, :3, :3]), torch.from_numpy(theirs.as_rotvec())) <= 1e-13
    h = G.random(50, dtype=torch.float64, generator=generator)
    turned = theirs * Rotation.from_matrix(h[:, :3, :3].numpy())
    found = G.compose(g, h)[:, :3, :3]
    assert np.abs(found.numpy() - turned.as_matrix()).max() <= 1e-13
    moved = theirs.apply(h[:, :3, 3].numpy()) + g[:, :3, 3].numpy()
    assert np.abs(G.act(g, h[:, :3, 3]).numpy() - moved).max() <= 1e-13


@pytest.fixture(scope="module")
def special_euclidean():
    """geomstats' SE(n) as matrices, numpy backend; geomstats 2.8 asks numpy 2.4 for trapz."""
    if importlib.util.find_spec("geomstats") is None:
        pytest.skip("geomstats, an oracle for rigid motions, is not installed")
    lent = not hasattr(np, "trapz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if lent:
            np.trapz = np.trapezoid  # type: ignore[attr-defined]  # noqa: NPY201
        try:
            import geomstats.backend as backend
            from geomstats.geometry.special_euclidean import SpecialEuclidean
        except Exception as error:
            pytest.skip(f"geomstats does not import here: {error!r}")
        finally:
            if lent:
                del np.trapz  # type: ignore[attr-defined]  # noqa: NPY201
    if "numpy" not in backend.__name__:
        pytest.skip(f"geomstats runs on {backend.__name__}, not on numpy")
    return SpecialEuclidean


@pytest.mark.parametrize("group", [groups.SE2(), groups.SE3()], ids=repr)
def test_rigid_motions_agree_with_geomstats(group, generator, special_euclidean):
    X, Y = torch.randn(2, 20, group.dim, dtype=torch.float64, generator=generator) / 2
    g, h = group.exp(X), group.exp(Y)
    a, b = g.numpy(), h.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = special_euclidean(n=group.degree, equip=False)
        expected = {
            "exp": theirs.exp(group.hat(X).numpy()),
            "log": theirs.log(a),
            "compose": theirs.compose(a, b),
            "inverse": theirs.inverse(a),
            "bracket": theirs.lie_algebra.bracket(group.hat(X).numpy(), group.hat(Y).numpy()),
        }
    found = {
        "exp": g,
        "log": group.hat(group.log(g)),
        "compose": group.compose(g, h),
        "inverse": group.inverse(g),
        "bracket": group.hat(group.bracket(X, Y)),
    }
    for name, value in found.items():
        assert value.numpy() == pytest.approx(expected[name], abs=1e-10), name


def test_products_are_split_and_joined(dtype, generator):
    G = groups.Product(groups.SO3(), groups.Product(groups.Torus(2), groups.ScaleTranslation(1)))
    assert G.factors == (groups.SO3(), groups.Torus(2), groups.ScaleTranslation(1))
    g = G.random(5, dtype=dtype, generator=generator)
    parts = G.split(g)
    assert [part.shape for part in parts] == [(5, 3, 3), (5, 4), (5, 2)]
    assert torch.equal(G.join(parts), g)
    X = torch.randn(5, G.dim, dtype=dtype, generator=generator)
    for factor, h, x in zip(G.factors, G.split(G.exp(X)), G.split_coordinates(X), strict=True):
        assert torch.equal(h, factor.exp(x))
    C = groups.Product(groups.Cyclic(2), groups.Cyclic(3))
    every = torch.arange(6)
    assert torch.equal(C.join(C.split(every)), every)
    for factor, parts in zip(C.factors, zip(C.split(every), strict=True), strict=True):
        assert factor.order == int(parts[0].max()) + 1
    with pytest.raises(ValueError, match=r"a Lie group beside a finite one"):
        groups.Product(groups.SO2(), groups.Cyclic(2))
    with pytest.raises(ValueError, match="expected one group or more"):
        groups.Product()
    with pytest.raises(ValueError, match="a product of order 10000"):
        groups.Product(groups.Cyclic(100), groups.Cyclic(100))


# ---- finite groups --------------------------------------------------------------------------


@over_groups(FINITE_GROUPS)
def test_tables_inverses_and_generators(group):
    every = torch.arange(group.order)
    table = group.table
    assert torch.equal(table, group.compose(every[:, None], every))
    table[0, 0] = 7  # a copy
    assert group.table[0, 0] == 0
    reached = {0}
    front = {0}
    while front:
        front = {int(group.table[g, k]) for g in front for k in group.generators} - reached
        reached |= front
    assert len(reached) == group.order
    # Matrices are one to one.
    matrices = group.matrix(every, dtype=torch.float64).flatten(1)
    assert torch.pdist(matrices).min() > 1e-3 if group.order > 1 else True


def test_cyclic_and_dihedral_groups_lie_in_the_rotations(dtype, tolerance):
    turns = groups.SO2().exp(2 * math.pi / 7 * torch.arange(7, dtype=dtype)[:, None])
    assert gap(groups.Cyclic(7).matrix(torch.arange(7), dtype=dtype), turns) <= tolerance
    D = groups.Dihedral(7)
    matrices = D.matrix(torch.arange(14), dtype=dtype)
    assert gap(matrices[:7], turns) <= tolerance
    assert gap(torch.linalg.det(matrices[7:]), -torch.ones(7, dtype=dtype)) <= tolerance
    assert torch.equal(D.inverse(torch.arange(7, 14)), torch.arange(7, 14))


def test_groups_by_their_matrices_are_those_by_name():
    found = groups.FiniteGroup.from_matrices(finite.octahedral()[1:])
    assert found.order == 24
    quaternions = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]])
    other = np.array([[0, 0, -1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, -1, 0, 0]])
    Q = groups.FiniteGroup.from_matrices([quaternions, other])
    squares = Q.compose(torch.arange(8), torch.arange(8))
    assert Q.order == 8
    assert not Q.is_abelian
    assert sorted(squares.tolist()).count(0) == 2  # 1 and −1; all others square to −1
    for G in (groups.Tetrahedral(), groups.Octahedral(), groups.Icosahedral()):
        matrices = G.matrix(torch.arange(G.order), dtype=torch.float64)
        assert gap(rotations.nearest_rotation(matrices), matrices) <= 1e-12


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[0, 1]], r"shape \(1, 2\)"),
        ([[0, 1], [1]], "table: .*expected rows of one length"),
        (np.zeros((0, 0), dtype=int), r"shape \(0, 0\)"),
        ([[0.0, 1.0], [1.0, 0.0]], "expected integers"),
        ([[1, 0], [0, 1]], "0 is not the identity"),
        ([[0, 1], [1, 1]], "row 1 does not hold every element"),
        ([[0, 1], [1, 2]], "row 1 does not hold every element"),
        ([[0, 1, 2], [1, 2, 0], [2, 1, 0]], "column 1 does not hold"),
        (np.zeros((5001, 5001), dtype=np.int8), "at most 5000"),
    ],
)
def test_tables_of_no_group_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        groups.FiniteGroup(table)


def test_products_that_are_not_associative_are_refused():
    # Of the Latin squares of order 5 with an identity, only those of the cyclic group are groups.
    table = np.array(
        [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]
    )
    with pytest.raises(ValueError, match="not associative"):
        groups.FiniteGroup(table)


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        (np.ones((2, 2)), "expected \\(2, m, m\\)"),
        (np.full((2, 1, 1), math.nan), "not finite"),
        (np.ones((2, 1, 1)), "those of 0 and 1 are the same"),
        (np.array([[[1.0]], [[2.0]]]), "do not multiply as the table says"),
        (np.array([[[-1.0]], [[1.0]]]), "0, the identity, is not"),
    ],
)
def test_matrices_that_do_not_follow_the_table_are_refused(matrices, message):
    with pytest.raises(ValueError, match=message):
        groups.FiniteGroup([[0, 1], [1, 0]], matrices)


def test_autocast_takes_no_digits(generator):
    for group in (groups.SO(5), groups.GL(5), groups.Affine(5)):
        X = torch.randn(3, group.dim, generator=generator) / 3
        with torch.autocast("cpu", dtype=torch.bfloat16):
            g = group.exp(X)
            found = group.log(group.compose(g, g))
        assert gap(found, group.log(group.compose(group.exp(X), group.exp(X)))) <= 1e-5


@pytest.mark.slow
@over_groups(LIE_GROUPS)
def test_graphs_are_whole(group, generator):
    g, X = group.random(3, generator=generator), torch.randn(3, group.dim, generator=generator) / 3
    calls = {
        group.exp: (X,),
        group.log: (g,),
        group.inverse: (g,),
        group.compose: (g, g),
        group.adjoint: (g,),
        group.bracket: (X, 2 * X),
    }
    for function, arguments in calls.items():
        torch._dynamo.reset()
        graph = torch.compile(function, backend="eager", fullgraph=True)
        assert gap(graph(*arguments), function(*arguments)) <= 1e-5 * size(g)
