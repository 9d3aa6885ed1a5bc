"""Surfaces of revolution: against the round sphere, the embedded torus, and what needs no profile.

The circle and the half circle as profiles are surfaces that the library knows by other routes; the
bean and the spheroids are held to integrals, to a projected walk and to automatic differentiation.
"""

import math

import numpy as np
import pytest
import torch
from catalogue import bean
from scipy import integrate, special, stats
from torch.distributions import kl_divergence

from manifold_ae import heat, manifolds
from manifold_ae.distributions import RandomWalk, RiemannianUniform, WrappedNormal
from manifold_ae.heat import revolution, revolution_divergence, revolution_modes, sphere
from manifold_ae.manifolds import EmbeddedTorus, Sphere, Spheroid, Submanifold, SurfaceOfRevolution
from manifold_ae.manifolds.derivatives import jacobian
from manifold_ae.manifolds.revolution import Shortest
from manifold_ae.numerics import axial_norm

PI = math.pi


def circle(u):
    return 3 + 0.6 * u.cos(), 0.6 * u.sin()


TORUS, SPHERE, BEAN = SurfaceOfRevolution(circle), Spheroid(1.0, 1.0), SurfaceOfRevolution(bean)
PROLATE, OBLATE = Spheroid(1.0, 1.5), Spheroid(1.0, 0.6)
KNOWN = ((SPHERE, Sphere(2)), (TORUS, EmbeddedTorus()))
#: The oblate one takes the same way as the prolate one.
OWN = (
    pytest.param(PROLATE, id="prolate"),
    pytest.param(OBLATE, id="oblate", marks=pytest.mark.slow),
    pytest.param(BEAN, id="bean"),
)


def known(test):
    return pytest.mark.parametrize(("surface", "oracle"), KNOWN, ids=["sphere", "torus"])(test)


def own(test):
    return pytest.mark.parametrize("surface", OWN)(test)


def spheroids(test):
    """As ``own``, the bean slowly."""
    marked = (*OWN[:2], pytest.param(BEAN, id="bean", marks=pytest.mark.slow))
    return pytest.mark.parametrize("surface", marked)(test)


def number(t: float) -> torch.Tensor:
    return torch.tensor(t, dtype=torch.float64)


def draws(surface, *shape: int, generator) -> torch.Tensor:
    return surface.random_uniform(*shape, generator=generator, dtype=torch.float64)


def at(surface, *angles: float) -> torch.Tensor:
    """The point at (rotation, profile)."""
    return surface.from_angles(torch.tensor(angles, dtype=torch.float64))


def grid(surface, n: int, rotations: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """(rotation, place) over the surface, and weights of the integral over its area."""
    place, across = revolution_divergence._rule(surface, n / surface.profile.scale)
    rotation = 2 * PI * torch.arange(rotations, dtype=torch.float64) / rotations
    angles = torch.cartesian_prod(rotation, torch.from_numpy(place))
    weights = torch.from_numpy(across).repeat(rotations) * surface.volume / rotations
    return angles, weights


# ---- geometry -------------------------------------------------------------------------------


@known
def test_maps_of_a_known_surface(surface, oracle, generator):
    x, y = draws(oracle, 2, 6, generator=generator)
    u = oracle.proju(x, torch.randn(6, 3, generator=generator, dtype=torch.float64))
    assert surface.volume == pytest.approx(oracle.volume, rel=1e-13)
    for name, arguments in (
        ("projx", (3 * u + y,)), ("proju", (x, y)), ("scalar_curvature", (x,)), ("expmap", (x, u)),
        ("logmap", (x, y)), ("dist", (x, y)), ("transp", (x, y, u)),
    ):  # fmt: skip
        found, expected = getattr(surface, name)(*arguments), getattr(oracle, name)(*arguments)
        assert (found - expected).abs().max().item() <= 1e-10, name


@pytest.mark.parametrize(("a", "c"), [(1.0, 1.5), (1.0, 0.6), (2.0, 0.7)])
def test_area_and_curvature_of_spheroids(a, c):
    surface = Spheroid(a, c)
    e = math.sqrt(abs(1 - (a / c) ** 2)) if c > a else math.sqrt(1 - (c / a) ** 2)
    cap = c / (a * e) * math.asin(e) if c > a else (c / a) ** 2 * math.atanh(e) / e
    assert surface.volume == pytest.approx(2 * PI * a * a * (1 + cap), rel=1e-12)
    u = torch.linspace(0, PI, 9, dtype=torch.float64)
    x = torch.stack([a * u.sin(), 0 * u, c * u.cos()], -1)
    # K = c²/(a² cos² u + c² sin² u)², u the parametric colatitude.
    gauss = (c / (a * a * u.cos() ** 2 + c * c * u.sin() ** 2)) ** 2
    assert torch.allclose(surface.scalar_curvature(x), 2 * gauss, rtol=1e-8)


@own
def test_gauss_bonnet(surface):
    angles, weights = grid(surface, 60, 4)
    total = (surface.profile.curvature(angles[:, 1]) * weights).sum().item()
    assert total == pytest.approx(4 * PI if surface.profile.poles else 0.0, abs=1e-8)


@own
def test_uniform_points_have_the_law_of_the_area(surface, generator):
    rotation, place = surface.to_angles(draws(surface, 4000, generator=generator)).T.numpy()
    assert stats.kstest(rotation, stats.uniform(-PI, 2 * PI).cdf).pvalue > 1e-3
    nodes = np.linspace(0 if surface.profile.poles else -PI, PI, 2001)
    share = integrate.cumulative_simpson(
        surface.profile.radius(surface.profile.scale * nodes), x=nodes, initial=0
    )
    law = lambda a: np.interp(a, nodes, share / share[-1])  # noqa: E731
    assert stats.kstest(place, law).pvalue > 1e-3


@own
def test_projection_is_implicitly_differentiable_twice(surface, generator):
    y = draws(surface, 6, generator=generator)
    y = y + 0.1 * torch.randn(6, 3, generator=generator, dtype=torch.float64)
    y.requires_grad_()
    assert torch.autograd.gradcheck(surface.projx, y)
    assert torch.autograd.gradgradcheck(surface.projx, y)


def test_at_the_poles_the_projection_is_that_of_the_tangent_plane():
    pole = torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, -9.0]], dtype=torch.float64)
    x = PROLATE.projx(pole)
    assert x[:, 2].tolist() == pytest.approx([1.5, -1.5], abs=1e-13)
    plane = torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    assert (jacobian(PROLATE.projx, x) - plane).abs().max().item() <= 1e-8
    basis = torch.eye(3, dtype=torch.float64)
    for k in range(3):
        assert torch.allclose(PROLATE.proju(x, basis[k]), plane[k].expand(2, 3), atol=1e-12)
    assert PROLATE.dist(*x).item() == pytest.approx(PROLATE.profile.length, abs=1e-12)
    assert PROLATE.scalar_curvature(x).tolist() == pytest.approx([4.5, 4.5], abs=1e-8)


def test_meridians_of_a_spheroid_have_the_length_of_an_ellipse():
    # L = 2c E(1 − a²/c²): Legendre's complete integral of the second kind.
    assert PROLATE.profile.length == pytest.approx(3 * special.ellipe(1 - 1 / 2.25), rel=1e-13)


@own
def test_distances_are_least_over_a_finer_search(surface, generator, monkeypatch):
    x, y = draws(surface, 2, 3, generator=generator)
    d = surface.dist(x, y)
    from manifold_ae.manifolds import revolution_connect

    monkeypatch.setattr(revolution_connect, "DIRECTIONS", 160)
    monkeypatch.setattr(revolution_connect, "BRACKETS", 12)
    assert (d - surface.dist(x, y)).abs().max().item() <= 1e-9
    assert (surface.expmap(x, surface.logmap(x, y)) - y).abs().max().item() <= 1e-8


@own
def test_distance_solves_the_eikonal_equation(surface, generator):
    x, y = draws(surface, 2, 3, generator=generator)
    y.requires_grad_()
    (slope,) = torch.autograd.grad(surface.dist(x, y).sum(), y)
    length = torch.linalg.vector_norm(surface.proju(y.detach(), slope), dim=-1)
    assert torch.allclose(length, torch.ones_like(length), atol=1e-8)


@spheroids
def test_points_of_float32_are_joined_and_second_derivatives_refused(surface, generator):
    x, y = draws(surface, 2, 2, generator=generator)
    near, there = x.float(), y.float()
    d = surface.dist(near, there)
    assert d.dtype == torch.float32
    assert torch.allclose(d.double(), surface.dist(x, y), atol=1e-6)
    assert (surface.dist(near, near) == 0).all()
    x.requires_grad_()
    with pytest.raises(RuntimeError, match=r"shortest geodesics of S.* first derivatives only"):
        torch.autograd.grad(surface.dist(x[:1], y[:1]).sum(), x, create_graph=True)


def test_distance_from_the_axis_has_a_gradient_at_the_axis():
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    value = axial_norm(x + torch.tensor([[0.0, 0.0, 1.0], [3e-8, 0.0, 0.0]]))
    assert value.tolist() == [1e-7, 1e-7]
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert not slope.any()
    assert axial_norm(torch.tensor([3.0, 4.0, 7.0])).item() == 5.0


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "poles", "message"),
    [
        (lambda u: (u.cos(), u.sin()), False, "distance from the axis has to be positive"),
        (lambda u: (2 + u.cos(), u.sin()), True, "starts and ends on the axis"),
        (lambda u: (u.sin(), u), True, "not smooth|not resolve"),
        (lambda u: (2 + u.cos().abs(), u.sin()), False, "do not resolve"),
        (lambda u: (3 + u.cos(), (2 * u).sin()), False, "meets itself"),
        (lambda u: (3 + u.cos() ** 3, u.sin() ** 3), False, "cusp"),
        (lambda u: 2 + u.cos(), False, "expected a pair"),
        (lambda u: (2 + u.cos(), u.sin()[:3]), False, "expected a tensor of that shape"),
        (lambda u: (2 + u.cos(), u / 0), False, "not finite"),
    ],
)
def test_profiles_that_make_no_surface_are_refused(profile, poles, message):
    with pytest.raises(ValueError, match=message):
        SurfaceOfRevolution(profile, poles=poles)


def test_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match=r"profile = 3\.0"):
        SurfaceOfRevolution(3.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="poles = 1"):
        SurfaceOfRevolution(circle, poles=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="polar_radius must be positive and finite, got -1"):
        Spheroid(1.0, -1)
    with pytest.raises(ValueError, match="equatorial_radius must be a number, got '1'"):
        Spheroid("1", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Spheroid\(1\.0, 1\.0\) has no name"):
        _ = SPHERE.spec
    assert manifolds.parse("spheroid") == PROLATE
    assert SurfaceOfRevolution(circle) == TORUS != SurfaceOfRevolution(lambda u: circle(u))


@pytest.mark.parametrize("surface", [PROLATE, BEAN, EmbeddedTorus()], ids=repr)
def test_the_wrapped_normal_law_is_sampled_but_has_no_density(surface, dtype):
    loc = surface.base_point(dtype=dtype)
    q = WrappedNormal(surface, loc, torch.tensor(0.1, dtype=dtype))
    x = q.rsample((3,))
    assert surface.check_point_on_manifold(x)
    with pytest.raises(NotImplementedError, match=r"conjugate.*rsample works.*HeatKernel"):
        q.log_prob(x)
    with pytest.raises(NotImplementedError, match="no exact KL"):
        kl_divergence(q, RiemannianUniform(surface))


def test_a_thin_neck_has_no_kernel():
    thin = SurfaceOfRevolution(lambda u: (1.2 + u.cos(), u.sin()))
    with pytest.raises(NotImplementedError, match=r"neck of 0\.2.*RandomWalk"):
        heat.log_kernel(thin, thin.base_point(), thin.base_point(), torch.tensor(0.1))


# ---- the kernel -----------------------------------------------------------------------------


def test_modes_of_the_round_sphere_are_the_spherical_harmonics():
    modes = revolution_modes.Spectrum(np.sin, PI, 310.0, poles=True)
    degree = (np.sqrt(1 + 8 * modes.rate) - 1) / 2
    assert degree == pytest.approx(np.round(degree), abs=1e-10)
    count = np.bincount(np.round(degree).astype(int))
    assert (count == np.arange(len(count)) + 1).all()  # m = 0 … l


@known
def test_kernel_and_divergence_of_a_known_surface(surface, oracle, generator):
    t = torch.logspace(-6, 1.5, 12, dtype=torch.float64)
    x = draws(oracle, 12, generator=generator)
    u = oracle.proju(x, torch.randn(12, 3, generator=generator, dtype=torch.float64))
    y = oracle.expmap(x, u * t.sqrt().clamp_max(1).unsqueeze(-1))
    expected = heat.log_kernel(oracle, x, y, t)
    error = (heat.log_kernel(surface, x, y, t) - expected) / expected.abs().clamp_min(1)
    assert error.abs().max().item() <= 1e-8
    difference = heat.kl_uniform(surface, x, t) - heat.kl_uniform(oracle, x, t)
    assert difference.abs().max().item() <= 1e-7


@own
def test_kernel_integrates_to_one_and_to_its_divergence(surface):
    modes, t = revolution.spectrum(surface), 0.2
    angles, weights = grid(surface, 14)
    start = torch.full_like(weights, 1.0)
    q = modes.density(start, angles[:, 1], angles[:, 0], number(t).expand_as(start))
    assert (q * weights).sum().item() == pytest.approx(1.0, abs=1e-10)
    kl = (q * (q.clamp_min(1e-300) * surface.volume).log() * weights).sum().item()
    x = at(surface, 0.3, 1.0)
    assert heat.kl_uniform(surface, x, number(t)).item() == pytest.approx(kl, abs=1e-7)


@spheroids
def test_semigroup_law(surface):
    modes = revolution.spectrum(surface)
    angles, weights = grid(surface, 16)

    def density(place: float, turn: float, t: float) -> torch.Tensor:
        start = torch.full_like(weights, place)
        return modes.density(start, angles[:, 1], angles[:, 0] - turn, number(t).expand_as(start))

    total = (density(0.9, 0.0, 0.1) * density(1.4, 0.5, 0.25) * weights).sum()
    x, y = at(surface, 0.0, 0.9), at(surface, 0.5, 1.4)
    found = heat.log_kernel(surface, x, y, number(0.35)).item()
    assert total.log().item() == pytest.approx(found, abs=1e-9)


@spheroids
def test_short_times_by_a_spectrum_that_reaches_lower(surface):
    profile, start = surface.profile, revolution.crossover(surface)
    t = start / 2
    modes = revolution_modes.Spectrum(profile.radius, profile.length, 36 / t, profile.poles)
    place = torch.linspace(0.2, 2.9, 8, dtype=torch.float64)
    other = place + torch.linspace(-1, 1, 8, dtype=torch.float64) * 2 * t**0.5 / profile.scale
    turn = torch.linspace(2, -2, 8, dtype=torch.float64) * t**0.5 / profile.jet(place).rho
    expected = modes.density(place, other, turn, torch.full_like(turn, t)).log()
    x = surface.from_angles(torch.stack([0 * turn, place], -1))
    y = surface.from_angles(torch.stack([turn, other], -1))
    found = heat.log_kernel(surface, x, y, number(t))
    assert (found - expected).abs().max().item() <= 2e-6


@spheroids
def test_short_times_by_the_expansion_of_a_submanifold(surface, generator):
    other = Submanifold((3,), surface.projx, dim=2)
    x = draws(surface, 8, generator=generator)
    t = number(1e-3)
    u = surface.proju(x, torch.randn(8, 3, generator=generator, dtype=torch.float64))
    y = surface.expmap(x, u * t.sqrt())
    found, expected = heat.log_kernel(surface, x, y, t), heat.short_time_log_kernel(other, x, y, t)
    assert (found - expected).abs().max().item() <= 2e-4
    assert (heat.kl_uniform(surface, x, t) - heat.kl_asymptotic(surface, x, t)).abs().max() <= 1e-5
    assert torch.allclose(surface.scalar_curvature(x), other.scalar_curvature(x), atol=1e-7)


@pytest.mark.parametrize("t", [1e-4, 0.01, 0.2])
def test_far_tails_are_right_to_the_second_order_at_every_distance(t):
    """On the round sphere, from J = sin r/r: in t below 0.04 t, where the modes have no digits."""
    r = torch.linspace(0.05, PI - 1e-9, 4000, dtype=torch.float64)
    time = torch.full_like(r, t)
    way = Shortest(r.square(), r.sin() / r, r.cos(), torch.ones_like(r))
    expected = sphere.log_relative_density(2, r, time) - math.log(4 * PI)
    found = revolution._far(way, time) - r.square() / (2 * t) - math.log(2 * PI * t)
    far = expected < -revolution.RELIABLE - math.log(2 * PI * t)
    assert far.any()
    assert (found - expected)[far].abs().max().item() <= 0.04 * t


def test_from_pole_to_pole_the_far_tail_is_exact():
    x = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    leaf = (-x).requires_grad_()
    found = heat.log_kernel(SPHERE, x, leaf, number(0.03))
    expected = heat.log_kernel(Sphere(2), x, -x, number(0.03)).item()
    assert found.item() == pytest.approx(expected, abs=1e-8)
    (slope,) = torch.autograd.grad(found, leaf)
    assert torch.isfinite(slope).all()


@pytest.mark.slow
def test_far_tails_by_a_product_of_short_time_kernels():
    """q(t) as eight kernels of t/8 by quadrature: sums of what is positive keep their digits."""
    surface, start, t, hops, n, turns = PROLATE, 1.0, 0.2, 8, 34, 60
    profile, step = surface.profile, t / hops
    modes = revolution_modes.Spectrum(profile.radius, profile.length, 36 / step, profile.poles)
    cosine, weight = np.polynomial.legendre.leggauss(n)
    place = np.arccos(cosine)
    area = profile.scale * weight / np.sin(place) * profile.radius(profile.scale * place)
    area = torch.from_numpy(area * 2 * PI / turns).unsqueeze(-1)
    place = torch.from_numpy(place)
    rotation = 2 * PI * torch.arange(turns, dtype=torch.float64) / turns

    def density(*angles: torch.Tensor) -> torch.Tensor:
        shape = angles[0].shape
        flat = [angle.reshape(-1) for angle in angles]
        q = modes.density(*flat, torch.full_like(flat[0], step)).reshape(shape)
        return torch.where(q * 2 * PI * step > 1e-12, q, 0.0)

    kernel = density(*torch.meshgrid(place, place, rotation, indexing="ij"))
    apart = (torch.arange(turns)[:, None] - torch.arange(turns)) % turns
    here, around = torch.meshgrid(place, rotation, indexing="ij")
    q = density(torch.full_like(here, start), here, around)
    for _ in range(hops - 1):
        mass = q * area
        q = torch.stack([kernel[:, j][:, apart] @ mass[j] for j in range(n)]).sum(0)
    chosen = torch.zeros_like(q, dtype=torch.bool)
    chosen[::2, : turns // 2 + 1 : 3] = True
    chosen &= q * 2 * PI * t < math.exp(-revolution.RELIABLE - 0.05)
    y = surface.from_angles(torch.stack([around, here], -1)[chosen])
    error = heat.log_kernel(surface, at(surface, 0.0, start), y, number(t)) - q[chosen].log()
    assert len(y) > 20
    assert error.abs().median().item() <= 0.03
    assert error.min().item() >= -0.9  # two geodesics: log 2
    assert error.max().item() <= 0.5


@own
def test_slopes_of_kernel_and_divergence(surface, generator):
    x = draws(surface, 3, generator=generator)
    t = torch.tensor([1e-3, 0.03, 0.5], dtype=torch.float64)
    steps = torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
    y = surface.expmap(x, surface.proju(x, steps[0]) * t.sqrt().unsqueeze(-1))

    # Along one direction for each of the three points at once.
    def kernel(e: torch.Tensor, f: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        here, there = surface.projx(x + e * steps[1]), surface.projx(y + f * steps[2])
        return heat.log_kernel(surface, here, there, t * s.exp())

    def divergence(e: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return heat.kl_uniform(surface, surface.projx(x + e * steps[1]), t * s.exp())

    zero = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(kernel, zero, eps=1e-6, atol=1e-4, rtol=1e-3)
    assert torch.autograd.gradcheck(divergence, zero[::2], eps=1e-5, atol=1e-5)


@pytest.mark.slow
@own
def test_a_fine_random_walk_has_the_law_of_the_kernel(surface, generator):
    n, t, start = 60_000, 0.2, 1.0
    x = at(surface, 0.0, start)
    walk = RandomWalk(surface, x.expand(n, 3), t, steps=100).sample(generator=generator)
    angles, weights = grid(surface, 14)
    q = revolution.spectrum(surface).density(
        torch.full_like(weights, start), angles[:, 1], angles[:, 0], number(t).expand_as(weights)
    )
    points = surface.from_angles(angles)
    for f in (
        lambda y: y[:, 0], lambda y: y[:, 2], lambda y: y[:, 0] * y[:, 2], lambda y: y[:, 1] ** 2,
    ):  # fmt: skip
        sample = f(walk)
        error = sample.std().item() / math.sqrt(n)
        mean = (q * weights * f(points)).sum().item()
        # A walk of N steps is off by about t/N of what it moves.
        assert sample.mean().item() == pytest.approx(mean, abs=4 * error + t / 50)


@pytest.mark.parametrize("y", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (-0.6, 0.0, 1.2)])
@pytest.mark.parametrize("near", [0.0, 1e-12, 1e-9, 1e-7])
def test_geodesics_from_a_pole_arrive_everywhere(y, near):
    M = Spheroid(1.0, 1.5)
    x = M.projx(torch.tensor([near, 0.0, 1.5], dtype=torch.float64))
    y = M.projx(torch.tensor(y, dtype=torch.float64))
    length = M.profile.scale * M.place(y)
    assert M.dist(x, y).item() == pytest.approx(length.item(), abs=near + 1e-9)
    # Places are taken by a norm that is 1e-7 at a pole.
    assert torch.allclose(M.expmap(x, M.logmap(x, y)), y, atol=2e-7)
