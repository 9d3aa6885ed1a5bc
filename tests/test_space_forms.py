"""The divergence on SO(3)/Γ and S³/Γ: two formulas, limits that are known, and Monte Carlo."""

import math

import numpy as np
import pytest
import torch

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RiemannianUniform
from manifold_ae.groups import finite, rotations
from manifold_ae.heat import space_forms
from manifold_ae.heat.sphere_tables import divergence
from manifold_ae.manifolds import SO3, Quotient, RealProjective, Sphere

#: A turn of S³ by the same angle in two planes: x ↦ g x.
TURN = np.kron(np.eye(2), finite.cyclic(5)[1, :2, :2])


def lifted(matrices: np.ndarray) -> np.ndarray:
    q = rotations.to_quaternion(torch.from_numpy(matrices)).numpy()
    return np.concatenate([q, -q])


def both(group: np.ndarray, s: float) -> tuple[float, float]:
    """K by the early formula and by the late one."""
    u, weight = space_forms._directions(group)
    early = float(divergence(3, np.array([s]))[0]) - math.log(len(group))
    early += space_forms._overlap(group, s, u, weight)
    return early, space_forms._Late(group, s, u, weight)(s)


@pytest.mark.parametrize(
    ("group", "s"),
    [
        (lifted(finite.cyclic(3)), 0.1),
        (lifted(finite.dihedral(2)), 0.1),
        (lifted(finite.dihedral(7)), 0.1),
        (lifted(finite.tetrahedral()), 0.07),
        (lifted(finite.octahedral()), 0.04),
        (lifted(finite.icosahedral()), 0.022),
        (space_forms.one_sided(Sphere(3), finite.generate([TURN]))[0], 0.1),  # type: ignore[index]
    ],
    ids=["C3", "D2", "D7", "T", "O", "I", "lens"],
)
def test_the_formulas_agree_where_one_takes_over(group, s):
    early, late = both(group, s)
    assert early == pytest.approx(late, abs=1e-7)


def test_divided_by_one_or_by_the_antipode_it_is_the_known_one():
    s = np.array([1e-3, 0.02, 0.1, 0.11, 0.3, 1.0, 3.0])
    one = np.array([[1.0, 0.0, 0.0, 0.0]])
    assert space_forms.divergence_of(np.concatenate([one, -one]), s) == pytest.approx(
        divergence(3, s, folded=True), rel=1e-8
    )


def test_divided_by_a_fine_cyclic_group_it_is_that_of_the_sphere():
    """SO(3)/SO(2) is S², with the same time."""
    t = np.array([0.3, 0.5, 1.0, 2.0, 5.0])
    found = space_forms.divergence_of(lifted(finite.cyclic(60)), t / 4)
    assert found == pytest.approx(divergence(2, t), rel=1e-7)


QUOTIENTS = (
    Quotient(SO3(), finite.dihedral(2), name="brick"),
    Quotient(Sphere(3), [TURN], name="lens"),
    Quotient(Sphere(4), [-np.eye(5)], name="axes"),
)
over = pytest.mark.parametrize("manifold", QUOTIENTS, ids=str)


def test_before_the_images_meet_it_is_that_of_the_cover(dtype):
    manifold = QUOTIENTS[0]
    x = manifold.base_point(dtype=dtype)
    t = manifold.shortest_loop**2 * x.new_tensor([1e-12, 1e-6, 1e-3, 4e-3])
    found = heat.kl_uniform(manifold, x, t)
    expected = heat.kl_uniform(SO3(), x, t) - math.log(4)
    assert found.dtype == dtype
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


@over
def test_it_agrees_with_monte_carlo_from_every_point(manifold, device, generator):
    t = torch.tensor([1e-3, 0.05, 0.2, 0.6], dtype=torch.float64, device=device)
    x = manifold.random_uniform(4, generator=generator, dtype=t.dtype, device=device)
    q, prior = HeatKernel(manifold, x, t), RiemannianUniform(manifold)
    value, error = heat.kl_monte_carlo(q, prior, 2000, generator=generator)
    exact = torch.distributions.kl_divergence(q, prior)
    assert exact.shape == (4,)
    assert ((value - exact).abs() <= 4 * error + 1e-4).all()


@over
def test_it_falls_with_the_slope_that_it_says(manifold):
    t = torch.logspace(-8, 2, 60, dtype=torch.float64).requires_grad_()
    x = manifold.base_point(dtype=torch.float64)
    value = heat.kl_uniform(manifold, x, t)
    (slope,) = torch.autograd.grad(value.sum(), t)
    assert (value >= 0).all()
    assert (slope <= 0).all()
    h = 1e-4 * t.detach()
    ends = [heat.kl_uniform(manifold, x, t.detach() + sign * h) for sign in (1, -1)]
    numeric = (ends[0] - ends[1]) / (2 * h)
    assert ((slope - numeric).abs() <= 1e-3 * slope.abs() + 1e-9 / t).all()


def test_left_and_right_are_alike():
    eye = np.eye(3)
    group = finite.dihedral(2)
    right = QUOTIENTS[0]
    left = Quotient(SO3(), [np.kron(g, eye) for g in group])
    x = SO3().base_point()
    t = torch.tensor([0.01, 0.1, 0.5])
    assert torch.allclose(heat.kl_uniform(left, x, t), heat.kl_uniform(right, x, t), rtol=1e-5)
    mirrored = np.diag([1.0, -1.0, -1.0, -1.0])
    turned = Quotient(Sphere(3), [mirrored @ TURN @ mirrored])
    z = Sphere(3).base_point()
    lens = heat.kl_uniform(QUOTIENTS[1], z, t)
    assert torch.allclose(heat.kl_uniform(turned, z, t), lens, rtol=1e-5)


def test_projective_space_by_its_own_action_is_the_same():
    z = Sphere(4).base_point()
    t = torch.tensor([0.1, 1.0])
    expected = heat.kl_uniform(RealProjective(4), z, t)
    assert torch.equal(heat.kl_uniform(QUOTIENTS[2], z, t), expected)
