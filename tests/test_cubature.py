"""The divergence on quotients that do not look alike from everywhere: cubature over the noise."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RiemannianUniform
from manifold_ae.groups import finite
from manifold_ae.heat import cubature, sphere
from manifold_ae.heat.cubature import by_cubature
from manifold_ae.heat.lens import column, first_plane
from manifold_ae.manifolds import (
    SO3,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    Quotient,
    RealProjective,
    Sphere,
)
from manifold_ae.models import known_divergence


def turns(*angles: float) -> np.ndarray:
    """A rotation of the planes of consecutive pairs of coordinates."""
    matrix = np.zeros((2 * len(angles), 2 * len(angles)))
    for k, angle in enumerate(angles):
        c, s = math.cos(angle), math.sin(angle)
        matrix[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[c, -s], [s, c]]
    return matrix


def lens(p: int, q: int) -> Quotient:
    return Quotient(Sphere(3), [turns(2 * math.pi / p, 2 * math.pi * q / p)], name=f"L({p},{q})")


BACK = [1.0, -1.0]
#: x ↦ x + ½, −y, −z + ½ and its like: the closed flat manifold without a continuous isometry.
SCREWS = [
    turns(math.pi, 0, math.pi) @ np.diag([1, 1, *BACK, *BACK]),
    turns(0, math.pi, 0) @ np.diag([*BACK, 1, 1, *BACK]) @ turns(math.pi, 0, 0),
]
UNEVEN = lens(5, 2)
SPUN = Quotient(Product(Sphere(2), FlatTorus(1)), [-np.eye(5)], name="spun")
MIRRORED = Quotient(
    Product(Sphere(2), FlatTorus(1)), [np.diag([1.0, 1, -1, -1, -1])], name="mirror"
)
SCREWED = Quotient(FlatTorus(3), SCREWS, name="screwed")
GLIDED = Quotient(FlatTorus(2), [np.diag([-1.0, -1.0, 1.0, -1.0])], name="by a glide")
SHIFTED = Quotient(FlatTorus(2), [turns(math.pi, 2 * math.pi / 3)], name="shifted")
QUOTIENTS = (UNEVEN, SPUN, MIRRORED, SCREWED, GLIDED, SHIFTED)
over = pytest.mark.parametrize("manifold", QUOTIENTS, ids=str)


def at(
    manifold: Manifold, n: int, generator: torch.Generator, *times: float
) -> tuple[Tensor, Tensor]:
    """Points (times · n) and times, every time for n points."""
    kwargs = {"generator": generator, "dtype": torch.float64, "device": generator.device}
    x = manifold.random_uniform(len(times) * n, **kwargs)
    t = x.new_tensor(times).repeat_interleave(n)
    return x, t.reshape(-1, *[1] * len(manifold.time_shape)).expand(-1, *manifold.time_shape)


# ---- the parts --------------------------------------------------------------------------------


def test_two_geodesics_on_the_three_sphere_are_the_contour_integral():
    r = torch.linspace(0, math.pi, 301, dtype=torch.float64)
    for t in (1e-6, 1e-2, 0.3, sphere.CROSSOVER):
        time = torch.full_like(r, t)
        expected = sphere.by_contour(3, r, time)
        found = sphere.by_geodesics(r, time)
        assert ((found - expected).abs() <= 1e-8 * expected.abs().clamp_min(1)).all()
    # Towards both ends of [0, π], where sin r vanishes.
    r = torch.tensor([0.0, 1e-9, 1.5 - 1e-9, 1.5, math.pi - 1e-9, math.pi], dtype=torch.float64)
    value = sphere.by_geodesics(r.requires_grad_(), torch.tensor(0.3, dtype=torch.float64))
    (slope,) = torch.autograd.grad(value.sum(), r)
    assert torch.isfinite(slope).all()
    assert value[2].item() == pytest.approx(value[3].item(), abs=1e-8)


@pytest.mark.parametrize("cover", [Sphere(1), Sphere(2), Sphere(3), SO3(), FlatTorus(2)], ids=repr)
def test_means_over_the_kernel_are_those_of_its_density(cover, generator):
    """E q(s; y, w) = q(s + t; x, w): a rule in y against the semigroup law."""
    for t in (1e-4, 0.1, 0.4, 3.0):
        x, time = at(cover, 2, generator, t)
        y, weight = cubature.cubature(cover, x, time, 24)
        assert weight.sum(-1) == pytest.approx(1.0, abs=1e-12)
        assert (cover.projx(y) - y).abs().max() < 1e-12
        w = cover.random_uniform(2, 1, generator=generator, dtype=x.dtype, device=x.device)
        later = x.new_tensor(0.3)
        mean = (heat.log_kernel(cover, y, w, later).exp() * weight).sum(-1)
        expected = heat.log_kernel(cover, x, w.squeeze(1), time + later).exp()
        assert torch.allclose(mean, expected, rtol=1e-6, atol=1e-7)


# ---- what is known otherwise ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quotient", "known", "bound"),
    [
        (GLIDED, KleinBottle(), 2e-7),
        (Quotient(Sphere(2), [-np.eye(3)]), RealProjective(2), 1e-5),
        (Quotient(Sphere(3), [lambda x: -x]), RealProjective(3), 5e-5),
        (Quotient(SO3(), finite.dihedral(2)), Quotient(SO3(), finite.dihedral(2)), 5e-5),
    ],
    ids=["Klein bottle", "projective plane", "projective space", "brick"],
)
def test_it_is_the_tabulated_one_where_there_is_a_table(quotient, known, bound, generator):
    times = (1e-6, 0.14, 0.16, 0.35, 0.7, 1.0, 3.0, 100.0)
    x, t = at(quotient, 1, generator, *times)
    found, expected = by_cubature(quotient, x, t), heat.kl_uniform(known, x, t)
    assert ((found - expected).abs() <= bound).all()
    assert (found >= 0).all()


@over
def test_a_finer_rule_says_the_same_at_every_time(manifold, generator):
    x, t = at(manifold, 1, generator, 1e-6, 0.1, 0.38, 2.0, 100.0)
    coarse = by_cubature(manifold, x, t)
    fine = by_cubature(manifold, x, t, cubature.POINTS[manifold.dim] * 5 // 4)
    assert ((coarse - fine).abs() <= (5e-5 if manifold.dim == 3 else 1e-6)).all()
    assert (coarse >= 0).all()


@over
def test_it_agrees_with_monte_carlo(manifold, device, generator):
    x, t = at(manifold, 1, generator, 1e-3, 0.1, 0.4)
    q, prior = HeatKernel(manifold, x, t), RiemannianUniform(manifold)
    value, error = heat.kl_monte_carlo(q, prior, 1000, generator=generator)
    exact = by_cubature(manifold, x, t)
    assert exact.shape == (3,)
    assert ((value - exact).abs() <= 4.5 * error + 1e-4).all()


def test_each_factor_runs_its_own_time(generator):
    """Long on the circle, the antipodes of S² are not told apart: K is that of ℝP²."""
    x = SPUN.random_uniform(3, generator=generator, dtype=torch.float64)
    t = x.new_tensor([0.4, 60.0])
    expected = heat.kl_uniform(RealProjective(2), x[:, :3], t[0])
    assert (heat.kl_uniform(SPUN, x, t) - expected).abs().max() <= 1e-5
    # Long on S², neither are opposite angles: a circle of half the length.
    t = x.new_tensor([30.0, 0.4])
    expected = heat.kl_uniform(FlatTorus(1), x[:, 3:], 4 * t[1])
    assert (heat.kl_uniform(SPUN, x, t) - expected).abs().max() <= 1e-6


# ---- as a function ----------------------------------------------------------------------------


@over
def test_it_does_not_depend_on_the_image_and_is_of_the_dtype(manifold, dtype, generator):
    x, t = at(manifold, 1, generator, 0.2, 0.8)
    images = manifold.images(x)[1].to(dtype)
    here = by_cubature(manifold, x.to(dtype), t.to(dtype))
    there = by_cubature(manifold, images, t.to(dtype))
    assert here.dtype == dtype
    assert torch.allclose(here, there, atol=5e-5)


@pytest.mark.parametrize("manifold", [UNEVEN, MIRRORED, GLIDED], ids=str)
def test_its_slopes_are_those_of_its_values(manifold, generator):
    x, t = at(manifold, 1, generator, 0.1, 0.5)
    noise = torch.randn(x.shape, dtype=x.dtype, generator=generator, device=x.device)
    u = manifold.proju(x, noise)
    x.requires_grad_()
    t = t.clone().requires_grad_()
    value = by_cubature(manifold, x, t)
    along_x, along_t = torch.autograd.grad(value.sum(), (x, t))
    h = 1e-4
    with torch.no_grad():

        def difference(dx: Tensor, dt: Tensor) -> Tensor:
            ends = [
                by_cubature(manifold, manifold.expmap(x, sign * dx), t + sign * dt)
                for sign in (1, -1)
            ]
            return (ends[0] - ends[1]) / (2 * h)

        by_x = difference(h * u, torch.zeros_like(t))
        by_t = difference(torch.zeros_like(u), h * torch.ones_like(t))
    # Between values they are within the error of the rule, which varies as fast as they do.
    assert ((along_x * u).sum(-1) - by_x).abs().max() <= 2e-4
    along_t = along_t.reshape(len(x), -1).sum(-1)
    assert ((along_t - by_t).abs() <= 2e-4 + 1e-4 * by_t.abs()).all()
    assert by_x.abs().max() > 1e-3 or manifold is MIRRORED
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(by_cubature(manifold, x, t).sum(), x, create_graph=True)


@pytest.mark.parametrize("manifold", [SPUN, GLIDED], ids=str)
def test_a_model_samples_rather_than_integrate_at_every_point(manifold):
    assert known_divergence(manifold, HeatKernel) == "sampled"
    assert not heat.is_quick(manifold)
    assert heat.is_quick(KleinBottle()) and heat.is_quick(RealProjective(3))
    assert not heat.is_quick(Product(Sphere(2), manifold))


def test_lens_spaces_are_told_from_others():
    assert first_plane(UNEVEN) == pytest.approx(np.diag([1.0, 1, 0, 0]))
    basis = np.linalg.qr(np.random.default_rng(100).standard_normal((4, 4)))[0]
    turned = Quotient(Sphere(3), [basis @ turns(2 * math.pi / 7, 6 * math.pi / 7) @ basis.T])
    plane = first_plane(turned)
    # Which of the planes comes first is of no matter.
    expected = basis[:, :2] @ basis[:, :2].T
    assert plane == pytest.approx(expected) or plane == pytest.approx(np.eye(4) - expected)
    # A prism manifold: a turn by a quarter of both planes, and an exchange of them.
    swap = np.kron(np.array([[0.0, -1.0], [1.0, 0.0]]), np.diag([1.0, -1.0]))
    prism = Quotient(Sphere(3), [turns(math.pi / 2, math.pi / 2), swap])
    assert first_plane(prism) is None
    assert first_plane(GLIDED) is None


@pytest.mark.parametrize("t", [1e-3, 0.03, 0.1, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("quotient", [UNEVEN, lens(7, 3)], ids=["L(5,2)", "L(7,3)"])
def test_half_of_the_nodes_serve_a_lens_space(quotient, t):
    """Its rule, of one time and many points, against that of any quotient, point by point."""
    plane = first_plane(quotient)
    across, along = (torch.tensor(np.linalg.eigh(plane)[1][:, k]) for k in (0, -1))
    c = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64).unsqueeze(-1)
    x, t = c.sqrt() * along + (1 - c).sqrt() * across, torch.tensor(t, dtype=torch.float64)
    found = column(quotient, x, along, across, t) * torch.exp(-8 * t)
    torch.testing.assert_close(found, by_cubature(quotient, x, t.expand(4)), rtol=2e-4, atol=3e-5)


@pytest.mark.slow
def test_lens_spaces_are_tabulated(dtype, generator):
    x, t = at(UNEVEN, 3, generator, 1e-9, 1e-3, 0.03, 0.06, 0.2, 0.5, 1.5, 3.0, 6.0)
    expected = by_cubature(UNEVEN, x, t)
    x, t = x.to(dtype).requires_grad_(), t.to(dtype).requires_grad_()
    found = kl_divergence(HeatKernel(UNEVEN, x, t), RiemannianUniform(UNEVEN))
    bound = 5e-5 if dtype == torch.float64 else 1e-4
    assert found.dtype == dtype
    assert ((found - expected).abs() <= bound).all()
    assert (found >= 0).all()
    slopes = torch.autograd.grad(found.sum(), (x, t))
    with torch.enable_grad():
        again = by_cubature(UNEVEN, x.double(), t.double())
    others = torch.autograd.grad(again.sum(), (x, t))
    along = [UNEVEN.proju(x.detach(), slope) for slope in (slopes[0], others[0])]
    assert (along[0] - along[1]).abs().max() <= 1e-3
    assert ((slopes[1] - others[1]).abs() <= 1e-3 + 1e-4 * others[1].abs()).all()
    assert known_divergence(UNEVEN, HeatKernel) == "exact"
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(heat.kl_uniform(UNEVEN, x, t).sum(), x, create_graph=True)


def test_more_dimensions_and_covers_without_a_rule_are_refused():
    five = Quotient(Sphere(5), [turns(2 * math.pi / 3, 4 * math.pi / 3, 2 * math.pi / 3)])
    t = torch.tensor(0.1)
    with pytest.raises(NotImplementedError, match=r"up to dimension 3, not 5.*kl_monte_carlo"):
        heat.kl_uniform(five, five.base_point(), t)
    with pytest.raises(NotImplementedError, match="vmap"):
        torch.func.vmap(lambda x: heat.kl_uniform(GLIDED, x, t))(GLIDED.random_uniform(2))
