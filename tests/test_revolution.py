"""The torus of revolution: its geodesics and its heat kernel, against integrals and other routes.

The reference values, to nine digits and more, were computed before the code was written.
"""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import kl_divergence

from manifold_ae import heat, manifolds
from manifold_ae.distributions import HeatKernel, RandomWalk, RiemannianUniform
from manifold_ae.heat import revolution
from manifold_ae.manifolds import EmbeddedTorus, FlatTorus, torus_geodesics

PI = math.pi
M = EmbeddedTorus()

#: Tube angle, time, KL to the uniform law, log-density at the start; radii 3 and 0.6.
REFERENCE = [
    (0.0, 0.02, 5.34224629, 2.0756822445082546),
    (1.5629814196964145, 0.02, 5.337709889, 2.074158304569752),
    (3.125962839392829, 0.02, 5.330903225, 2.0718479706469477),
    (0.0, 0.1, 3.749666845, 0.47225171100663904),
    (1.5629814196964145, 0.1, 3.728056071, 0.4647324276921875),
    (3.125962839392829, 0.1, 3.697226647, 0.4535372848907698),
    (0.0, 0.5, 2.213611311, -1.110397845228598),
    (1.5629814196964145, 0.5, 2.137059706, -1.145133838469466),
    (3.125962839392829, 0.5, 2.040091235, -1.1936273432232567),
    (0.0, 2.0, 1.227243392, -2.393991625916516),
    (1.5629814196964145, 2.0, 1.165132549, -2.4772372271077217),
    (3.125962839392829, 2.0, 1.092207293, -2.584328105971661),
]


def at(*angles: float, manifold: EmbeddedTorus = M) -> torch.Tensor:
    """The point at (rotation, tube)."""
    return manifold.from_angles(torch.tensor(angles, dtype=torch.float64))


def number(t: float) -> torch.Tensor:
    return torch.tensor(t, dtype=torch.float64)


def grid(rotations: int, tubes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points over the whole torus, and their weights in the trapezoid rule."""
    rotation = 2 * PI * torch.arange(rotations, dtype=torch.float64) / rotations
    tube = 2 * PI * torch.arange(tubes, dtype=torch.float64) / tubes
    angles = torch.stack(torch.meshgrid(rotation, tube, indexing="ij"), -1).reshape(-1, 2)
    weight = M.minor_radius * (M.major_radius + M.minor_radius * torch.cos(angles[:, 1]))
    return M.from_angles(angles), weight * (4 * PI**2 / len(angles))


# ---- geometry -------------------------------------------------------------------------------


def test_volume_and_curvature_by_integration():
    a, c = M.major_radius, M.minor_radius
    area, _ = integrate.quad(lambda p: 2 * PI * (a + c * math.cos(p)) * c, 0, 2 * PI)
    assert M.volume == pytest.approx(area, rel=1e-12)
    points, weights = grid(4, 64)
    total = (M.scalar_curvature(points) * weights).sum().item()
    assert total == pytest.approx(0.0, abs=1e-12)  # Gauss–Bonnet


@pytest.mark.parametrize(
    "radii",
    [(0.6, 3.0), (1.0, 1.0), (3.0, 0.0), (3.0, -1.0), (math.inf, 1.0), ("3", 1.0), (True, 0.1)],
)
def test_radii_that_make_no_torus_are_refused(radii):
    with pytest.raises(ValueError, match="radi") as refused:
        EmbeddedTorus(*radii)
    assert repr(radii[0]) in str(refused.value) or repr(radii[1]) in str(refused.value)


def test_only_the_default_radii_have_a_name():
    assert manifolds.parse("embedded-torus") == EmbeddedTorus(3, 0.6)
    with pytest.raises(ValueError, match=r"EmbeddedTorus\(2\.0, 1\.0\) has no name"):
        _ = EmbeddedTorus(2, 1).spec
    with pytest.raises(ValueError, match="takes no dimension"):
        manifolds.parse("embedded-torus:2")


def test_projection_on_the_axis_and_on_the_core_circle(dtype):
    y = torch.tensor([[0, 0, 0], [0, 0, 1], [3, 0, 0], [0, -3, 0]], dtype=dtype, requires_grad=True)
    x = M.projx(y)
    expected = M.from_angles(
        torch.tensor([[0, PI], [0, PI - math.atan(1 / 3)], [0, 0], [-PI / 2, 0]])
    )
    assert torch.allclose(x.double(), expected.double(), atol=1e-6)
    (slope,) = torch.autograd.grad(x.sum(), y)
    assert torch.isfinite(slope).all()


def test_angles_there_and_back(generator, dtype, tolerance):
    angles = (2 * torch.rand(200, 2, generator=generator, dtype=dtype) - 1) * 3.14
    assert (M.to_angles(M.from_angles(angles)) - angles).abs().max() <= 10 * tolerance
    assert torch.allclose(M.tube_cosine(M.from_angles(angles)), torch.cos(angles[:, 1]), atol=1e-5)


def test_uniform_points_have_the_law_of_the_area(generator):
    x = M.random_uniform(20_000, generator=generator, dtype=torch.float64)
    rotation, tube = M.to_angles(x).T.numpy()
    e = M.minor_radius / M.major_radius
    assert stats.kstest(rotation, stats.uniform(-PI, 2 * PI).cdf).pvalue > 1e-3
    law = lambda p: (p + PI + e * np.sin(p)) / (2 * PI)  # noqa: E731
    assert stats.kstest(tube, law).pvalue > 1e-3


def test_known_geodesics():
    # Meridians and the two equators.
    assert M.dist(at(0.3, -1.0), at(0.3, 1.4)).item() == pytest.approx(0.6 * 2.4, abs=1e-12)
    assert M.dist(at(0.0, 0.0), at(0.5, 0.0)).item() == pytest.approx(3.6 * 0.5, abs=1e-12)
    assert M.dist(at(0.0, PI), at(3.0, PI)).item() == pytest.approx(2.4 * 3.0, abs=1e-10)
    # Past π √(c (a + c)) the outer equator is not the shortest way.
    assert M.dist(at(0.0, 0.0), at(1.5, 0.0)).item() < 3.6 * 1.5 - 1e-3


@pytest.mark.parametrize(
    ("radii", "tolerance"), [((2.0, 1.0), 1e-11), ((1.5, 1.0), 1e-11), ((6.0, 0.6), 1e-7)]
)
def test_geodesics_of_other_radii(radii, tolerance, generator):
    other = EmbeddedTorus(*radii)
    x, y = other.random_uniform(2, 40, generator=generator, dtype=torch.float64)
    u = other.logmap(x, y)
    assert (other.expmap(x, u) - y).abs().max().item() <= tolerance


def test_clairaut_and_speed_are_conserved(generator):
    x = M.random_uniform(20, generator=generator, dtype=torch.float64)
    u = 4 * M.proju(x, torch.randn(20, 3, generator=generator, dtype=torch.float64))
    velocity = torch.stack([(u * axis).sum(-1) for axis in M.frame(x)[:2]], -1)
    tube = M.tube_angle(x)
    path = torus_geodesics.follow(3.0, 0.6, tube, velocity[:, 0], velocity[:, 1])
    speed = torch.hypot(path.along_tube, path.along_rotation)
    assert torch.allclose(speed, torch.linalg.vector_norm(u, dim=-1), rtol=1e-12)
    # The Wronskian of the two Jacobi fields, by the second from the path run backwards.
    back = torus_geodesics.follow(3.0, 0.6, path.tube, -path.along_tube, -path.along_rotation)
    assert torch.allclose(back.second, path.first_slope, rtol=1e-7, atol=1e-7)
    assert torch.allclose(back.first, path.first, rtol=1e-7, atol=1e-7)


def test_distance_solves_the_eikonal_equation(generator):
    x = M.random_uniform(generator=generator, dtype=torch.float64)
    y = M.random_uniform(40, generator=generator, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(M.dist(x, y).sum(), y)
    length = torch.linalg.vector_norm(M.proju(y.detach(), slope), dim=-1)
    assert torch.allclose(length, torch.ones(40, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("function", [M.dist, M.logmap, lambda x, y: M.transp(x, y, x.roll(1, -1))])
def test_derivatives_of_shortest_geodesics(function, generator):
    x, y = M.random_uniform(2, 2, generator=generator, dtype=torch.float64)
    moved = lambda e, f: function(M.expmap(x, M.proju(x, e)), M.expmap(y, M.proju(y, f)))  # noqa: E731
    zero = [torch.zeros_like(x).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(moved, zero, eps=1e-6, atol=1e-5)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(moved(*zero).sum(), zero, create_graph=True)


# ---- the kernel -----------------------------------------------------------------------------


@pytest.mark.parametrize(("tube", "t", "kl", "log_density"), REFERENCE)
def test_reference_values(tube, t, kl, log_density, dtype):
    x, time = at(0.7, tube).to(dtype), torch.tensor(t, dtype=dtype)
    tolerance = 1e-6 if dtype == torch.float64 else 1e-5
    assert heat.kl_uniform(M, x, time).item() == pytest.approx(kl, abs=tolerance)
    found = heat.log_kernel(M, x, x, time).item()
    assert found == pytest.approx(log_density, abs=tolerance * max(1, abs(log_density)))


@pytest.mark.parametrize("t", [0.06, 0.3, 2.0, 30.0])
def test_kernel_integrates_to_one(t):
    points, weights = grid(151, 51)
    modes = revolution.spectrum(M)
    x = at(0.0, 2.0).expand_as(points)
    q = modes.density(*revolution._angles(M, x, points), number(t).expand(len(points)))
    assert (q * weights).sum().item() == pytest.approx(1.0, abs=1e-11)


@pytest.mark.parametrize("t", [1e-6, 1e-3, 0.03])
def test_kernel_integrates_to_one_at_short_times(t):
    # In polar coordinates of the normal law's own scale; J₁ of the exponential map is the area.
    x = at(0.4, 2.2)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    r = torch.tensor(5.5 * (nodes + 1) / 2) * math.sqrt(t)
    angle = 2 * PI * torch.arange(12, dtype=torch.float64) / 12
    along = [torch.outer(r, f(angle)).flatten() for f in (torch.cos, torch.sin)]
    path = torus_geodesics.follow(3.0, 0.6, number(2.2).expand(len(along[0])), *along)
    y = M.from_angles(torch.stack([0.4 + path.rotation, path.tube], -1))
    q = heat.log_kernel(M, x, y, number(t)).exp() * path.first
    q = q.reshape(len(r), 12).mean(-1) * 2 * PI * r
    total = (torch.tensor(weights) * q).sum().item() * 5.5 / 2 * math.sqrt(t)
    assert total == pytest.approx(1 - math.exp(-(5.5**2) / 2), abs=1e-7)


@pytest.mark.parametrize(("s", "t"), [(0.06, 0.08), (0.5, 1.0)])
def test_semigroup_law_by_quadrature(s, t):
    points, weights = grid(151, 51)
    modes = revolution.spectrum(M)

    def density(x: torch.Tensor, time: float) -> torch.Tensor:
        angles = revolution._angles(M, x.expand_as(points), points)
        return modes.density(*angles, number(time).expand(len(points)))

    x, z = at(0.0, 1.0), at(0.3, 2.2)
    total = (density(x, s) * density(z, t) * weights).sum()
    assert total.log().item() == pytest.approx(
        heat.log_kernel(M, x, z, number(s + t)).item(), abs=1e-9
    )


@pytest.mark.parametrize("tube", [0.0, 1.3, PI])
def test_value_and_slopes_are_continuous_across_the_crossover(tube):
    start, step = revolution.crossover(M), 1e-9
    x = at(0.0, tube)
    y = torch.stack([at(0.0, tube), at(0.1, tube), at(0.05, tube + 0.6), at(-0.2, tube - 0.4)])

    def at_time(t: float) -> tuple[torch.Tensor, ...]:
        leaf, time = y.clone().requires_grad_(), number(t).expand(4).clone().requires_grad_()
        value = heat.log_kernel(M, x, leaf, time)
        return value, *torch.autograd.grad(value.sum(), (leaf, time))

    # Through the expansion the slope by time is that of a polynomial, to its own remainder.
    for before, after, slack in zip(
        at_time(start - step), at_time(start + step), (1e-6, 1e-5, 1e-3), strict=True
    ):
        assert (before - after).abs().max().item() <= slack


def test_expansion_agrees_with_a_finer_spectrum():
    """Times below the crossover, by a spectrum that reaches five times lower."""
    t = 0.01
    modes = revolution.Spectrum(lambda s: 3 + 0.6 * np.cos(s / 0.6), 1.2 * PI, 40 / t)
    tube = torch.linspace(0, PI, 7, dtype=torch.float64).repeat(4)
    other = tube + torch.linspace(-0.3, 0.4, 28, dtype=torch.float64)
    turn = torch.linspace(-0.09, 0.07, 28, dtype=torch.float64)
    expected = modes.density(tube, other, turn, torch.full_like(turn, t)).log()
    x = M.from_angles(torch.stack([torch.zeros_like(tube), tube], -1))
    y = M.from_angles(torch.stack([turn, other], -1))
    found = heat.log_kernel(M, x, y, number(t))
    assert expected.min() < -4
    assert ((found - expected).abs() / expected.abs().clamp_min(1)).max().item() <= 1e-7


def test_far_away_the_exponent_is_right():
    x, y = at(0.0, 0.5), at(0.8, -1.2)
    r = M.dist(x, y).item()
    for t in (1e-6, 1e-4, 1e-2):
        found = heat.log_kernel(M, x, y, number(t)).item()
        assert found == pytest.approx(-r * r / (2 * t) - math.log(2 * PI * t), abs=0.5)
    # And nothing is NaN where the spectral sum is lost in rounding.
    t = torch.logspace(-8, 3, 40, dtype=torch.float64)
    value = heat.log_kernel(M, at(0.0, 0.0), at(PI, PI), t)
    assert torch.isfinite(value).all()
    assert (value.diff() > 0).all()


def test_a_thin_torus_is_locally_a_flat_one():
    """For a → ∞ the metric tends to that of circles of radii c and a."""
    thin = EmbeddedTorus(20.0, 0.6)
    t, c = 0.3, 0.6
    for tube, turn in ((0.4, 0.01), (2.0, 0.0), (PI, -0.02)):
        found = heat.log_kernel(
            thin, at(0.0, 0.1, manifold=thin), at(turn, tube, manifold=thin), number(t)
        )
        flat = FlatTorus(1)
        around = heat.log_kernel(
            flat,
            flat.from_angles(number(0.1)[None]),
            flat.from_angles(number(tube)[None]),
            number(t / c**2),
        ).item() - math.log(c)
        rho = 20 + 0.6 * (math.cos(tube) + math.cos(0.1)) / 2
        along = -((rho * turn) ** 2) / (2 * t) - 0.5 * math.log(2 * PI * t)
        assert found.item() == pytest.approx(around + along, abs=2e-2)


@pytest.mark.parametrize("t", [1e-3, 0.04, 0.06, 1.0])
def test_derivatives_of_the_log_density(t):
    x, y = at(0.0, 1.0), at(0.02 + 0.1 * math.sqrt(t), 1.0 + math.sqrt(t))

    def f(e: torch.Tensor, g: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        there = M.expmap(y, M.proju(y, g))
        return heat.log_kernel(M, M.expmap(x, M.proju(x, e)), there, t * u.exp())

    zero = [torch.zeros_like(x).requires_grad_(), torch.zeros_like(x).requires_grad_()]
    u = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(f, (*zero, u), eps=1e-6, atol=1e-5, rtol=1e-4)


def test_what_is_not_offered_says_so():
    x, t = M.base_point(), torch.tensor(0.1)
    with pytest.raises(NotImplementedError, match="RandomWalk"):
        heat.brownian_step(M, x, t, x)
    with pytest.raises(NotImplementedError, match="vmap"):
        torch.func.vmap(lambda y: heat.log_kernel(M, x, y, t))(x.expand(3, 3))
    with pytest.raises(NotImplementedError, match=r"EmbeddedTorus\(1000\.0, 0\.6\).*RandomWalk"):
        wide = EmbeddedTorus(1000.0, 0.6)
        heat.log_kernel(wide, wide.base_point(), wide.base_point(), t)


# ---- divergence -----------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.06, 0.4, 3.0])
def test_divergence_is_the_integral_of_the_kernel(t):
    points, weights = grid(161, 61)
    x = at(0.0, 2.4)
    angles = revolution._angles(M, x.expand_as(points), points)
    q = revolution.spectrum(M).density(*angles, number(t).expand(len(points)))
    q = q.clamp_min(1e-300)
    expected = (q * (q * M.volume).log() * weights).sum().item()
    assert heat.kl_uniform(M, x, number(t)).item() == pytest.approx(expected, abs=1e-7)


def test_divergence_at_short_times_is_that_of_the_short_time_formula():
    tube = torch.linspace(0, PI, 9, dtype=torch.float64)
    x = M.from_angles(torch.stack([tube, tube], -1))
    for t, slack in ((1e-5, 1e-8), (1e-3, 1e-6), (0.01, 5e-5)):
        exact, formula = heat.kl_uniform(M, x, number(t)), heat.kl_asymptotic(M, x, number(t))
        assert (exact - formula).abs().max().item() <= slack


def test_divergence_at_long_times_is_that_of_the_first_eigenfunction():
    modes = revolution.spectrum(M)
    first = np.flatnonzero(modes.rate == modes.rate[modes.rate > 0].min())
    t, tube = 150.0, np.array([0.0, 1.0, 2.5])
    psi = modes.values(tube)[:, first].squeeze(-1)
    # K = ½ V Σ e^{−2λt} ψ² over the two modes e^{±iθ} ψ, normalised over the whole torus.
    expected = M.volume / (2 * PI) * psi**2 * np.exp(-2 * modes.rate[first] * t)
    x = M.from_angles(torch.tensor(np.stack([tube, tube], -1)))
    assert heat.kl_uniform(M, x, number(t)).numpy() == pytest.approx(expected, rel=1e-5)


def test_slopes_of_the_divergence(generator):
    x = M.random_uniform(6, generator=generator, dtype=torch.float64)
    t = torch.tensor([1e-4, 0.01, 0.049, 0.051, 1.0, 20.0], dtype=torch.float64)

    def f(e: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return heat.kl_uniform(M, M.projx(x + e), t * u.exp())

    zero = torch.zeros_like(x).requires_grad_(), torch.zeros_like(t).requires_grad_()
    assert torch.autograd.gradcheck(f, zero, eps=1e-5, atol=1e-6)
    q = HeatKernel(M, x, t)
    assert torch.equal(kl_divergence(q, RiemannianUniform(M)), heat.kl_uniform(M, x, t))


@pytest.mark.slow
@pytest.mark.parametrize("t", [0.05, 0.5])
def test_a_fine_random_walk_has_the_law_of_the_kernel(t, generator):
    n, x = 100_000, at(0.0, 2.0)
    walk = RandomWalk(M, x.expand(n, 3), t, steps=200)
    angles = M.to_angles(walk.sample(generator=generator))
    points, weights = grid(241, 91)
    pairs = revolution._angles(M, x.expand_as(points), points)
    q = revolution.spectrum(M).density(*pairs, number(t).expand(len(points))) * weights
    place = M.to_angles(points)
    for f in (
        lambda a: torch.cos(a[:, 0]),
        lambda a: torch.cos(a[:, 1]),
        lambda a: torch.sin(a[:, 1]),
        lambda a: torch.cos(a[:, 0]) * torch.cos(2 * a[:, 1]),
    ):
        sample = f(angles)
        error = sample.std().item() / math.sqrt(n)
        # A walk of N steps is off by about t/N of what it moves.
        assert sample.mean().item() == pytest.approx(
            (q * f(place)).sum().item(), abs=4 * error + t / 100
        )
