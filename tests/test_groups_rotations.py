"""Rotations and finite groups: against scipy and the matrix exponential, and where they degenerate.

The degenerate places are the identity, half a turn, and matrices whose nearest rotation is not
determined.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from manifold_ae.groups import finite, rotations

#: Rotation angles: nothing, rounding, the series' end, the middle, and next to half a turn.
ANGLES = (0.0, 1e-30, 1e-12, 1e-6, 0.1, 0.101, 1.0, 3.0, math.pi - 1e-6, math.pi - 1e-9)


def vectors(angle: float, generator: torch.Generator, n: int = 20) -> torch.Tensor:
    """Rotation vectors of the given length, the axes of coordinates among their directions."""
    v = torch.randn(n, 3, dtype=torch.float64, generator=generator, device=generator.device)
    v = torch.cat([v, torch.eye(3).to(v), -torch.eye(3).to(v)])
    return angle * v / torch.linalg.vector_norm(v, dim=-1, keepdim=True)


def gap(x: torch.Tensor, y: torch.Tensor) -> float:
    return (x - y).detach().abs().max().item()


def diagonal(*entries: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.diag(torch.tensor(entries, dtype=dtype))


# ---- the algebra ----------------------------------------------------------------------------


def test_hat_is_the_cross_product_and_vee_its_inverse(dtype, device, generator, tolerance):
    omega, v = torch.randn(2, 50, 3, dtype=dtype, device=device, generator=generator)
    turned = rotations.turn(rotations.hat(omega), v)
    assert gap(turned, torch.linalg.cross(omega, v)) <= tolerance
    assert torch.equal(rotations.vee(rotations.hat(omega)), omega)
    matrix = torch.randn(50, 3, 3, dtype=dtype, device=device, generator=generator)
    antisymmetric = (matrix - matrix.mT) / 2
    assert gap(rotations.hat(rotations.vee(matrix)), antisymmetric) <= tolerance
    assert gap(rotations.compose(matrix, matrix.mT), matrix @ matrix.mT) <= 10 * tolerance


# ---- exponential and logarithm --------------------------------------------------------------


@pytest.mark.parametrize("angle", [*ANGLES, math.pi, 4.0, 7.0, 100.0])
def test_exp_agrees_with_scipy_and_with_the_matrix_exponential(angle, generator):
    omega = vectors(angle, generator)
    found = rotations.exp(omega)
    expected = Rotation.from_rotvec(omega.cpu().numpy()).as_matrix()
    assert gap(found.cpu(), torch.from_numpy(expected)) <= 1e-14 * max(1.0, angle)
    if angle <= 10:
        assert gap(found, torch.linalg.matrix_exp(rotations.hat(omega))) <= 1e-13
    assert gap(rotations.exp(omega.float()), rotations.exp(omega.float().double()).float()) <= 1e-6


@pytest.mark.parametrize("angle", ANGLES)
def test_the_logarithm_inverts_the_exponential(angle, dtype, generator):
    omega = vectors(angle, generator).to(dtype)
    precise = dtype == torch.float64
    found = rotations.log(rotations.exp(omega))
    # Past rounding of half a turn, float32 does not know on which side of it a rotation lies.
    if not precise and angle > 3:
        found, omega = rotations.exp(found), rotations.exp(omega)
    limit = (1e-7 if angle > 3 else 1e-14) if precise else 2e-6
    assert gap(found, omega) <= limit


def test_half_a_turn_has_the_positive_one_of_its_two_logarithms(generator):
    omega = vectors(math.pi, generator)
    axis = omega / math.pi
    half_turn = 2 * axis.unsqueeze(-1) * axis.unsqueeze(-2) - torch.eye(3).to(axis)
    found = rotations.log(half_turn)
    assert gap(found.norm(dim=-1), torch.full_like(found[:, 0], math.pi)) <= 1e-12
    assert gap(rotations.exp(found), half_turn) <= 1e-12
    exact = torch.stack([diagonal(1, -1, -1), diagonal(-1, 1, -1), diagonal(-1, -1, 1)])
    assert gap(rotations.log(exact), math.pi * torch.eye(3, dtype=torch.float64)) <= 1e-15


@given(
    st.tuples(*[st.floats(-1e30, 1e30)] * 3),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_exp_of_any_vector_is_a_rotation_with_finite_gradients(omega, dtype):
    leaf = torch.tensor(omega, dtype=dtype, requires_grad=True)
    rotation = rotations.exp(leaf)
    limit = 50 * torch.finfo(dtype).eps
    assert gap(rotation @ rotation.mT, torch.eye(3, dtype=dtype)) <= limit
    assert torch.linalg.det(rotation).item() == pytest.approx(1, abs=limit)
    (slope,) = torch.autograd.grad((rotation * torch.arange(9.0).view(3, 3)).sum(), leaf)
    assert torch.isfinite(slope).all()


# ---- quaternions ----------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [*ANGLES, math.pi])
def test_quaternions_agree_with_scipy(angle, generator):
    omega = vectors(angle, generator)
    theirs = Rotation.from_rotvec(omega.cpu().numpy())
    expected = torch.from_numpy(theirs.as_quat(scalar_first=True)).to(omega)
    found = rotations.to_quaternion(torch.from_numpy(theirs.as_matrix()).to(omega))
    assert gap(found.norm(dim=-1), torch.ones_like(found[:, 0])) <= 1e-15
    assert (found[:, 0] >= 0).all()
    sign = (found * expected).sum(-1, keepdim=True).sign()
    assert gap(found, sign * expected) <= 1e-14
    assert (
        gap(rotations.from_quaternion(found).cpu(), torch.from_numpy(theirs.as_matrix())) <= 1e-14
    )
    assert torch.allclose(rotations.log_quaternion(found).norm(dim=-1), omega.norm(dim=-1))


# ---- derivatives ----------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 1e-8, 0.1, 2.0, math.pi - 1e-3, math.pi - 1e-6])
def test_derivatives_of_exp_and_log_are_right_twice(angle, generator):
    omega = vectors(angle, generator, n=1)[:2].requires_grad_()
    assert torch.autograd.gradcheck(rotations.exp, omega)
    assert torch.autograd.gradgradcheck(rotations.exp, omega)

    def log(omega: torch.Tensor) -> torch.Tensor:
        # exp leads to rotations whichever way omega is moved.
        return rotations.log(rotations.exp(omega))

    # Steps must not reach beyond half a turn, where the logarithm changes its sign.
    near = math.pi - angle < 1e-5
    assert torch.autograd.gradcheck(log, omega, eps=1e-8 if near else 1e-6, atol=1e-5, rtol=1e-2)
    if not near:
        assert torch.autograd.gradgradcheck(log, omega, atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("name", ["exp", "log", "to_quaternion", "nearest_rotation"])
def test_first_and_second_derivatives_are_finite_everywhere(name, dtype, generator):
    for angle in (*ANGLES, math.pi):
        omega = vectors(angle, generator).to(dtype)
        x = omega if name == "exp" else rotations.exp(omega)
        leaf = x.clone().requires_grad_()
        value = getattr(rotations, name)(leaf)
        weights = torch.linspace(1, 2, value.numel(), dtype=dtype).view_as(value)
        (slope,) = torch.autograd.grad((weights * value).sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), leaf)
        assert torch.isfinite(value).all()
        assert torch.isfinite(slope).all()
        assert torch.isfinite(second).all()


# ---- the nearest rotation -------------------------------------------------------------------

#: Matrices by what is special about them; at those marked False the rotation is not determined.
MATRICES = {
    "rank 3": (diagonal(3, 2, 1), True),
    "identity": (diagonal(1, 1, 1), True),
    "repeated singular values": (diagonal(2, 2, 1), True),
    "rank 2": (diagonal(2, 1, 0), True),
    "negative determinant": (diagonal(3, 2, -1), True),
    "rank 0": (diagonal(0, 0, 0), False),
    "rank 1": (torch.ones(3, 3, dtype=torch.float64), False),
    "minus identity": (diagonal(-1, -1, -1), False),
    "opposite singular values": (diagonal(3, 1, -1), False),
}
matrices = pytest.mark.parametrize("kind", MATRICES)


@matrices
def test_the_nearest_rotation_is_a_rotation_and_none_is_nearer(kind, dtype, generator):
    y, _ = MATRICES[kind]
    for scale in (1e-30, 1e-10, 1.0, 1e10, 1e30):
        leaf = (scale * y).to(dtype).requires_grad_()
        found = rotations.nearest_rotation(leaf)
        assert gap(found @ found.mT, torch.eye(3, dtype=dtype)) <= 20 * torch.finfo(dtype).eps
        assert torch.linalg.det(found).item() == pytest.approx(1, abs=1e-5)
        (slope,) = torch.autograd.grad((found * torch.arange(9.0).view(3, 3)).sum(), leaf)
        assert torch.isfinite(slope).all()
    others = rotations.random_uniform((2000,), dtype=torch.float64, generator=generator)
    distance = (rotations.nearest_rotation(y) - y).norm()
    assert ((others - y).flatten(1).norm(dim=1) >= distance - 1e-12).all()


@matrices
def test_derivatives_of_the_nearest_rotation(kind, generator):
    y, determined = MATRICES[kind]
    left, right = rotations.random_uniform((2,), dtype=torch.float64, generator=generator)
    for matrix in (y, left @ y @ right):
        leaf = matrix.clone().requires_grad_()
        if determined:
            assert torch.autograd.gradcheck(rotations.nearest_rotation, leaf)
            assert torch.autograd.gradgradcheck(rotations.nearest_rotation, leaf)
            continue
        value = rotations.nearest_rotation(leaf)
        (slope,) = torch.autograd.grad((left * value).sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), leaf)
        assert torch.isfinite(slope).all()
        assert torch.isfinite(second).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_in_its_matrix(bad, dtype):
    y = torch.eye(3, dtype=dtype).repeat(3, 1, 1)
    y[1, 0, 2] = bad
    found = rotations.nearest_rotation(y)
    assert torch.isnan(found[1]).all()
    assert torch.equal(found[[0, 2]], y[[0, 2]])
    assert rotations.nearest_rotation(y[:0]).shape == (0, 3, 3)


# ---- finite groups --------------------------------------------------------------------------

GROUPS = {
    "cyclic 1": (lambda: finite.cyclic(1), 1),
    "cyclic 7": (lambda: finite.cyclic(7), 7),
    "dihedral 1": (lambda: finite.dihedral(1), 2),
    "dihedral 6": (lambda: finite.dihedral(6), 12),
    "tetrahedral": (finite.tetrahedral, 12),
    "octahedral": (finite.octahedral, 24),
    "icosahedral": (finite.icosahedral, 60),
}


@pytest.mark.parametrize("name", GROUPS)
def test_finite_groups_are_groups_of_rotations(name):
    make, order = GROUPS[name]
    elements = make()
    assert elements.shape == (order, 3, 3)
    assert np.array_equal(elements[0], np.eye(3))
    assert np.abs(elements @ elements.swapaxes(1, 2) - np.eye(3)).max() <= 1e-13
    assert np.abs(np.linalg.det(elements) - 1).max() <= 1e-13

    def number(matrices: np.ndarray) -> np.ndarray:
        """Which element a matrix is, with none left over."""
        gaps = np.abs(matrices[..., None, :, :] - elements).max((-2, -1))
        assert gaps.min(-1).max() <= 1e-12
        assert ((gaps <= 1e-6).sum(-1) == 1).all()
        return gaps.argmin(-1)

    table = number(elements[:, None] @ elements[None])
    assert all(sorted(row) == list(range(order)) for row in (*table, *table.T))
    inverse = number(elements.swapaxes(1, 2))
    assert (table[np.arange(order), inverse] == 0).all()


@pytest.mark.parametrize(
    ("generators", "message"),
    [
        ([], "no generators"),
        ([np.eye(2), np.eye(3)], r"shape \(3, 3\)"),
        ([np.ones(3)], r"shape \(3,\)"),
        ([np.float64(3)], r"shape \(\)"),
        ([np.zeros((0, 0))], r"shape \(0, 0\)"),
        ([np.full((2, 2), math.nan)], "expected finite"),
        ([1j * np.eye(2)], "complex128: expected real"),
        ([2 * np.eye(2)], "determinant"),
        ([np.eye(2) / 2], "determinant"),
        ([1e200 * np.eye(2)], "determinant"),
        ([np.zeros((2, 2))], "determinant"),
        ([np.diag([1.0, 0.0])], "determinant"),
        ([np.array([[1.0, 1.0], [0.0, 1.0]])], "more than 1000 elements"),
        ([np.array([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]])], "more than 1000"),
    ],
)
def test_generators_of_no_finite_group_are_refused(generators, message):
    with pytest.raises(ValueError, match=message):
        finite.generate(generators)


@pytest.mark.parametrize("make", [finite.cyclic, finite.dihedral])
@pytest.mark.parametrize("n", [0, -1, 1.5, 3.0, "3", True, None, 1001])
def test_orders_that_are_none_are_refused(make, n):
    with pytest.raises(ValueError, match="n must be an integer") as refused:
        make(n)
    assert repr(n) in str(refused.value)
