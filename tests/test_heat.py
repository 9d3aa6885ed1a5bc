"""Heat kernels: against mpmath, against each other's series, and against the equation they solve.

Log-densities are judged by an error of tol · max(1, |log q|). Reference values come from three
sources: a file beside the checkout where there is one, mpmath at as many digits as the cancellation
of the spectral series takes, and the second formula that a manifold has for the same number.
"""

import math
import re
from functools import cache

import hypothesis.extra.numpy as hnp
import mpmath as mp
import numpy as np
import pytest
import torch
from catalogue import (
    COMPACT,
    MANIFOLDS,
    WITH_EXACT_KL,
    WITH_KERNEL,
    WITH_ONE_TIME,
    WITH_SAMPLER,
    as_factor,
    batched_time,
    has,
    homogeneous,
    over,
    points,
    sample_size,
    unit_tangents,
)
from hypothesis import given
from numpy.polynomial.legendre import leggauss
from scipy import stats

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RiemannianUniform
from manifold_ae.groups import finite
from manifold_ae.heat import circle, sphere
from manifold_ae.manifolds import (
    SO3,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    Quotient,
    RealProjective,
    Revolution,
    Sphere,
)

PI = math.pi
LOG_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
COMPACT_WITH_KERNEL = tuple(M for M in WITH_KERNEL if M.compact)


def log_errors(found: torch.Tensor, expected: torch.Tensor | np.ndarray) -> float:
    """Largest error, in units of max(1, |log q|)."""
    expected = torch.as_tensor(expected, dtype=torch.float64).cpu()
    error = (found.detach().double().cpu() - expected).abs() / expected.abs().clamp_min(1)
    assert torch.isfinite(error).all()
    return error.max().item()


def at_distance(manifold: Manifold, r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two points at geodesic distance r, along a geodesic that starts at the base point."""
    x = manifold.base_point(dtype=torch.float64, device=r.device)
    # The velocity of the second ambient direction is tangent at the base point of all of them.
    u = torch.zeros_like(x)
    u[(0,) * (u.dim() - 1) + (1,)] = 1
    u = manifold.proju(x, u)
    u = u / manifold.inner(x, u).sqrt()
    y = manifold.expmap(x, as_factor(manifold, r) * u)
    return x, y


# ---- values: mpmath -------------------------------------------------------------------------


@cache
def exact_log_density(d: int, t: float, r: float) -> float:
    """log q on Sᵈ by the spectral series, with digits enough for what cancels."""
    digits = 60 + int(1.1 * r * r / (2 * t) / math.log(10))
    with mp.workdps(digits):
        total = spectral_sum(d, mp.mpf(t), mp.cos(mp.mpf(r)))
        volume = 2 * mp.pi ** (mp.mpf(d + 1) / 2) / mp.gamma(mp.mpf(d + 1) / 2)
        return float(mp.log(total / volume))


def spectral_sum(d: int, t: mp.mpf, x: mp.mpf) -> mp.mpf:
    """Σ_l N_l e^{-l(l+d−1)t/2} P_l(x), P_l(1) = 1, until the terms are below the precision."""
    before, here, total = mp.mpf(1), x, mp.mpf(1)
    degree = 1
    while True:
        multiplicity = math.comb(d + degree, d) - (
            math.comb(d + degree - 2, d) if degree > 1 else 0
        )
        weight = multiplicity * mp.exp(-degree * (degree + d - 1) * t / 2)
        total += weight * here
        if weight < mp.mpf(10) ** -mp.mp.dps:
            return total
        step = (2 * degree + d - 1) * x * here - degree * before
        before, here = here, step / (degree + d - 1)
        degree += 1


MPMATH_CASES = [
    (1, 0.02, PI), (1, 0.3, 1.0), (1, 2.0, PI), (1, 5.0, 0.4),
    (2, 1e-3, 0.0), (2, 1e-3, 0.3), (2, 0.02, 1.0), (2, 0.02, PI), (2, 0.25, PI), (2, 0.4, 2.0),
    (2, 0.5, PI), (2, 0.6, 3.0), (2, 3.0, 1.0), (3, 0.05, PI), (3, 0.7, 0.5),
    (4, 0.02, 0.1), (5, 0.1, PI), (5, 0.22, PI), (6, 0.3, 2.5), (7, 0.45, 3.1), (8, 0.02, PI),
    (9, 0.5, PI), (10, 0.02, 0.0), (10, 0.1, 2.0), (10, 0.25, PI), (10, 0.49, PI), (10, 1.0, 3.0),
]  # fmt: skip


@pytest.mark.parametrize(("d", "t", "r"), MPMATH_CASES)
def test_log_densities_of_spheres_agree_with_mpmath(d, t, r, dtype, device):
    manifold = Sphere(d)
    x, y = at_distance(manifold, torch.tensor(r, dtype=torch.float64, device=device))
    x, y = x.to(dtype), y.to(dtype)
    found = heat.log_kernel(manifold, x, y, torch.tensor(t, dtype=dtype, device=device))
    assert found.dtype == dtype
    exact = exact_log_density(d, t, r)
    assert log_errors(found, exact) <= (1e-8 if dtype == torch.float64 else 1e-5)
    if d == 1:
        flat = heat.log_kernel(FlatTorus(1), x, y, torch.tensor(t, dtype=dtype, device=device))
        assert log_errors(flat, exact) <= (1e-8 if dtype == torch.float64 else 1e-5)


def test_log_density_of_the_flat_torus_is_the_sum_over_its_circles(device):
    manifold = FlatTorus(3)
    angles = torch.tensor([0.3, PI, 1.7], dtype=torch.float64, device=device)
    x, y = manifold.base_point().to(angles), manifold.from_angles(angles)
    for t in (0.02, 0.5, 4.0):
        found = heat.log_kernel(manifold, x, y, angles.new_tensor(t))
        exact = sum(exact_log_density(1, t, r) for r in angles.tolist())
        assert log_errors(found, exact) <= 1e-8


def test_log_density_of_euclidean_space_is_the_normal_one(dtype, device, generator):
    kwargs = {"dtype": dtype, "device": device, "generator": generator}
    x, y = torch.randn(2, 50, 3, **kwargs)
    t = torch.rand(50, 3, **kwargs) + 0.1
    found = heat.log_kernel(Euclidean(3), x, y, t)
    normal = stats.norm(x.cpu().double().numpy(), t.cpu().double().sqrt().numpy())
    assert log_errors(found, normal.logpdf(y.cpu().double().numpy()).sum(-1)) <= 1e-5


def reference_manifold(name: str) -> Manifold:
    """The manifold of an entry: S2, RP3, SO3, ..."""
    kind, dim = re.fullmatch(r"(S|RP|SO)(\d+)", name).groups()  # type: ignore[union-attr]
    return {"S": Sphere, "RP": RealProjective, "SO": lambda _: SO3()}[kind](int(dim))


def test_log_densities_and_divergences_agree_with_the_reference_file(reference, dtype, device):
    seen = 0
    for entry in reference("heat_kernel.json"):
        manifold = reference_manifold(entry["manifold"])
        spaces = [manifold, *([FlatTorus(1)] if manifold.dim == 1 else [])]
        t = torch.tensor(entry["time"], dtype=dtype, device=device)
        for space in spaces:
            seen += 1
            if "kl_to_uniform" in entry:
                found = heat.kl_uniform(space, space.base_point().to(t), t)
                slack = 1e-7 if dtype == torch.float64 else 1e-5
                assert found.item() == pytest.approx(entry["kl_to_uniform"], abs=slack), entry
            else:
                r = torch.tensor(entry["distance"], dtype=torch.float64, device=device)
                x, y = at_distance(space, r)
                found = heat.log_kernel(space, x.to(dtype), y.to(dtype), t)
                assert log_errors(found, entry["log_density"]) <= LOG_TOLERANCE[dtype], entry
    assert seen > 400


# ---- values: two routes ---------------------------------------------------------------------


@pytest.mark.parametrize("d", range(2, sphere.MAX_DIM + 1))
def test_contour_and_spectral_series_agree(d, generator, device):
    kwargs = {"dtype": torch.float64, "device": device, "generator": generator}
    # Where both are good; for the series, before e^{-r²/2t} is lost among its digits.
    t = 0.3 + 0.5 * torch.rand(2000, **kwargs)
    r = PI * torch.rand(2000, **kwargs)
    r[:2] = torch.tensor([0.0, PI])
    kept = r * r / (2 * t) < 11
    found, expected = sphere.by_contour(d, r, t)[kept], sphere.by_spectrum(d, r, t)[kept]
    assert kept.sum() > 1000
    assert log_errors(found, expected) <= 2e-9 * 10 ** max(0, (d - 5) / 2)


def image_sum_of_s3(r: np.ndarray, t: np.ndarray) -> np.ndarray:
    """log q on S³: (2πt)^{-3/2} e^{t/2} Σ_k (r + 2πk)/sin r · e^{-(r + 2πk)²/2t}, in long double.

    At r = 0 and π by its limit, the derivative of the terms over ±1.
    """
    r, t = np.longdouble(r), np.longdouble(t)
    pi = np.longdouble("3.14159265358979323846264338327950288")
    k = np.arange(-6, 7).reshape(-1, *[1] * np.broadcast(r, t).ndim)
    image = r + 2 * pi * k
    shift = np.exp(-(image**2 - r**2) / (2 * t))
    at_zero, at_pi = r == 0, np.abs(r - pi) < 1e-8
    # d/dr of (r + 2πk) e^{…}; at π images k and −k − 1 pair up, and the sum is smooth.
    slope = (1 - image**2 / t) * shift
    inner = (image * shift).sum(0) / np.where(at_zero | at_pi, 1, np.sin(r))
    total = np.where(at_zero, slope.sum(0), np.where(at_pi, -slope.sum(0), inner))
    return np.float64(np.log(total) - r**2 / (2 * t) + t / 2 - 1.5 * np.log(2 * pi * t))


def test_three_sphere_agrees_with_its_image_sum(device):
    t = np.geomspace(1e-6, 1.0, 40)[:, None]
    r = np.concatenate([[0.0], np.linspace(1e-3, PI - 1e-2, 60), [PI]])[None]
    x, y = at_distance(Sphere(3), torch.tensor(r[0], device=device))
    found = heat.log_kernel(Sphere(3), x, y, torch.tensor(t, device=device))
    assert log_errors(found, image_sum_of_s3(r, t)) <= 1e-8


def test_images_and_frequencies_of_the_circle_agree(device):
    t = torch.linspace(1.5, 3.0, 30, dtype=torch.float64, device=device).unsqueeze(-1)
    r = torch.linspace(0, PI, 50, dtype=torch.float64, device=device)
    assert log_errors(circle.by_images(r, t), circle.by_frequencies(r, t).cpu()) <= 1e-9


@pytest.mark.parametrize("d", range(1, sphere.MAX_DIM - 1))
def test_dimensions_are_linked_by_a_derivative(d, device, generator):
    """q_{d+2} = −e^{dt/2} / (2π sin r) ∂_r q_d."""
    kwargs = {"dtype": torch.float64, "device": device, "generator": generator}
    t = torch.exp(torch.empty(300, dtype=torch.float64, device=device).uniform_(
        math.log(1e-3), math.log(2.0), generator=generator
    ))  # fmt: skip
    r = (0.05 + 3.0 * torch.rand(300, **kwargs)).requires_grad_()

    def log_density(dim: int) -> torch.Tensor:
        relative = (
            circle.log_relative_density(r, t)
            if dim == 1
            else sphere.log_relative_density(dim, r, t)
        )
        return relative - math.log(Sphere(dim).volume)

    here = log_density(d)
    (slope,) = torch.autograd.grad(here.sum(), r)
    expected = here + d * t / 2 + torch.log(-slope / (2 * PI * torch.sin(r)))
    # The slope loses digits where the density is nearly flat: far out, at long times.
    kept = (slope.abs() > 1e-2) & torch.isfinite(expected)
    assert kept.double().mean() > 0.8
    assert log_errors(log_density(d + 2)[kept], expected[kept].detach()) <= 1e-6


# ---- what a heat kernel is ------------------------------------------------------------------


def radial_integral(d: int, f, t: float, nodes: int = 200) -> float:
    """∫ over Sᵈ of a function of the distance r, by Gauss–Legendre over r ≤ 14 √t + …"""
    reach = min(PI, (12 + math.sqrt(d)) * math.sqrt(t))
    x, w = leggauss(nodes)
    r = torch.from_numpy(reach * (x + 1) / 2)
    area = 2 * PI ** (d / 2) / math.gamma(d / 2)
    return float((torch.from_numpy(w) * reach / 2 * area * torch.sin(r) ** (d - 1) * f(r)).sum())


@pytest.mark.parametrize("t", [1e-6, 1e-4, 1e-2, 0.3, 0.499, 0.501, 2.0, 10.0])
@over(tuple(M for M in WITH_KERNEL if isinstance(M, Sphere)))
def test_kernel_of_spheres_integrates_to_one(manifold, t):
    def density(r: torch.Tensor) -> torch.Tensor:
        x, y = at_distance(manifold, r)
        return heat.log_kernel(manifold, x, y, torch.tensor(t, dtype=torch.float64)).exp()

    assert radial_integral(manifold.dim, density, t) == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("t", [0.3, 1.0, 5.0])
@over(COMPACT_WITH_KERNEL)
def test_kernel_integrates_to_one_by_monte_carlo(manifold, t, device, generator):
    # Needs nothing of the manifold: the mean over uniform points is 1/volume, from any start.
    kwargs = {"generator": generator, "dtype": torch.float64, "device": device}
    x = points(manifold, 3, 1, **kwargs)
    y = points(manifold, sample_size(manifold, 6_000), **kwargs)
    time = batched_time(manifold, x.new_tensor(t))
    relative = heat.log_kernel(manifold, x, y, time).exp() * manifold.volume
    error = relative.std(-1) / math.sqrt(relative.shape[-1])
    assert ((relative.mean(-1) - 1).abs() <= 4.5 * error).all()


@pytest.mark.parametrize(("s", "t"), [(0.4, 0.3), (0.2, 1.0)])
@over(tuple(M for M in COMPACT_WITH_KERNEL if M in WITH_SAMPLER))
def test_semigroup_law(manifold, s, t, device, generator):
    """∫ q(s; x, y) q(t; y, z) dy = q(s + t; x, z), by Monte Carlo over y."""
    kwargs = {"generator": generator, "dtype": torch.float64, "device": device}
    x, z = points(manifold, 3, 1, **kwargs), points(manifold, 3, 1, **kwargs)
    times = [batched_time(manifold, x.new_tensor(value)) for value in (s, t, s + t)]
    # From the law of y given x, so that one factor of the integrand is the weight.
    y = HeatKernel(manifold, x, times[0]).sample((8_000,), generator=generator)
    values = heat.log_kernel(manifold, y, z, times[1]).exp().squeeze(-1).T
    expected = heat.log_kernel(manifold, x, z, times[2]).exp().squeeze(-1)
    error = values.std(-1) / math.sqrt(values.shape[-1])
    assert ((values.mean(-1) - expected).abs() <= 4.5 * error).all()


@over(WITH_KERNEL)
def test_kernel_is_symmetric(manifold, dtype, device, generator):
    kwargs = {"generator": generator, "dtype": dtype, "device": device}
    x, y = points(manifold, 50, **kwargs), points(manifold, 50, **kwargs)
    t = batched_time(manifold, torch.linspace(0.01, 3, 50, dtype=dtype, device=device))
    there, back = heat.log_kernel(manifold, x, y, t), heat.log_kernel(manifold, y, x, t)
    assert log_errors(there, back) <= 1e-6


@over(WITH_KERNEL)
def test_short_time_limit_is_gaussian(manifold, device, generator):
    """log q = −r²/2t − d/2 log 2πt + O(r²) + O(t)."""
    kwargs = {"generator": generator, "dtype": torch.float64, "device": device}
    x = points(manifold, 100, **kwargs)
    t = x.new_tensor(1e-8)
    reach = as_factor(manifold, torch.linspace(0, 6, 100).to(x))
    u = reach * unit_tangents(manifold, x, generator)
    y = manifold.expmap(x, t.sqrt() * u)
    found = heat.log_kernel(manifold, x, y, batched_time(manifold, t.expand(100)))
    square = manifold.inner(x, u)
    expected = -square / 2 - manifold.dim / 2 * torch.log(2 * PI * t)
    # The next term, d(d − 1)/12 r² on spheres, is below 3e-7 · d²; coordinates round at 1e-16.
    assert (found - expected).abs().max().item() <= 1e-6 * manifold.dim**2


@pytest.mark.parametrize("t", [0.05, 0.3, 0.49, 0.51, 1.9, 2.1])
@pytest.mark.parametrize("d", range(1, sphere.MAX_DIM + 1))
def test_heat_equation_on_spheres(d, t, device):
    """∂_t q = ½ (∂_r² q + (d − 1) cot r ∂_r q), by automatic differentiation."""
    r = torch.linspace(0.2, 3.0, 15, dtype=torch.float64, device=device, requires_grad=True)
    time = torch.full_like(r, t).requires_grad_()
    kernel = circle if d == 1 else sphere
    arguments = (r, time) if d == 1 else (d, r, time)
    q = kernel.log_relative_density(*arguments).exp()
    by_r, by_t = torch.autograd.grad(q.sum(), (r, time), create_graph=True)
    (by_rr,) = torch.autograd.grad(by_r.sum(), r)
    laplacian = by_rr + (d - 1) / torch.tan(r) * by_r
    # Terms of the Laplacian cancel where q is small beside its largest values.
    scale = q.detach().clamp_min(1e-8) * (1 + d * d / t**2)
    assert ((by_t - laplacian / 2).abs() / scale).max().item() <= 1e-7


@over(WITH_KERNEL)
def test_heat_equation_in_coordinates(manifold, device, generator):
    """∂_t q = ½ Δ q for every manifold: Δ = Σᵢ d²/ds² along d orthonormal geodesics."""
    kwargs = {"generator": generator, "dtype": torch.float64, "device": device}
    x, y = points(manifold, **kwargs), points(manifold, **kwargs)
    projector = torch.stack(
        [manifold.proju(y, e.view_as(y)).flatten() for e in torch.eye(y.numel()).to(y)]
    )
    basis = torch.linalg.svd(projector).U[:, : manifold.dim].T.reshape(-1, *y.shape)
    basis = basis / as_factor(manifold, manifold.inner(y, basis).sqrt())
    t = batched_time(manifold, x.new_tensor(0.7)).clone().requires_grad_()
    q = heat.log_kernel(manifold, x, y, t).exp()
    by_t = torch.autograd.grad(q, t)[0].sum()  # one rate per entry of the time; all at once
    laplacian = 0.0
    for direction in basis:
        s = torch.zeros((), dtype=torch.float64, device=device, requires_grad=True)
        along = heat.log_kernel(manifold, x, manifold.expmap(y, s * direction), t.detach()).exp()
        (slope,) = torch.autograd.grad(along, s, create_graph=True)
        laplacian += torch.autograd.grad(slope, s)[0].item()
    assert by_t.item() == pytest.approx(laplacian / 2, abs=1e-6 * (1 + abs(laplacian)))


# ---- crossovers and limits ------------------------------------------------------------------


def value_and_slope(d: int, r: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
    time = torch.full_like(r, t).requires_grad_()
    value = (
        circle.log_relative_density(r, time) if d == 1 else sphere.log_relative_density(d, r, time)
    )
    return value.detach(), torch.autograd.grad(value.sum(), time)[0]


@pytest.mark.parametrize("d", range(1, sphere.MAX_DIM + 1))
def test_value_and_slope_are_continuous_across_the_crossover(d, device):
    crossover = circle.CROSSOVER if d == 1 else sphere.CROSSOVER
    step = 1e-9
    r = torch.linspace(0, PI, 40, dtype=torch.float64, device=device)
    before, slope_before = value_and_slope(d, r, crossover - step)
    after, slope_after = value_and_slope(d, r, crossover + step)
    # The series has lost digits at the antipode of high dimensions, five at the most.
    assert log_errors(before, after) <= 1e-7
    assert log_errors(slope_before, slope_after) <= 1e-6


@pytest.mark.parametrize("t", [1e-6, 1e-3, 0.1, 0.5, 2.0, 10.0, 1e2])
@over(WITH_KERNEL)
def test_gradients_of_the_log_density_are_finite(manifold, t, dtype, device, generator):
    start = points(manifold, generator=generator, dtype=torch.float64, device=device)
    u = unit_tangents(manifold, start, generator)
    distances = [0.0, 1e-12, 1e-8, 1e-4, 1e-2, 1.0, 3.0, PI - 1e-6, PI]
    r = torch.tensor(distances, dtype=torch.float64, device=device)
    y = manifold.expmap(start, as_factor(manifold, r) * u).to(dtype).requires_grad_()
    x = start.to(dtype).expand_as(y).clone().requires_grad_()
    time = batched_time(manifold, torch.full((len(y),), t, dtype=dtype, device=device))
    time = time.clone().requires_grad_()
    value = heat.log_kernel(manifold, x, y, time)
    assert torch.isfinite(value).all()
    slopes = torch.autograd.grad(value.sum(), (x, y, time))
    assert all(torch.isfinite(slope).all() for slope in slopes)
    assert all(slope.dtype == dtype for slope in slopes)
    # At coincidence, where all points are alike, the density is stationary in space.
    if homogeneous(manifold):
        assert manifold.proju(y.detach(), slopes[1])[0].abs().max().item() <= 1e-3


@over(WITH_KERNEL, geodesics=True)
def test_gradients_of_the_log_density_are_right(manifold, device, generator):
    kwargs = {"generator": generator, "dtype": torch.float64, "device": device}
    x, y = points(manifold, 4, **kwargs), points(manifold, 4, **kwargs)
    for t in (0.05, 0.4, 1.0):
        time = batched_time(manifold, torch.full((4,), t).to(x)).clone().requires_grad_()

        def f(u: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return heat.log_kernel(manifold, manifold.expmap(x, manifold.proju(x, u)), y, time)

        u = torch.zeros_like(x, requires_grad=True)
        assert torch.autograd.gradcheck(f, (u, time), eps=1e-6, atol=1e-5, rtol=1e-4)


@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3, min_side=0))
@over(WITH_KERNEL[::2], geodesics=True)
def test_points_and_times_broadcast(manifold, shapes, device):
    first, second, third = shapes.input_shapes
    x, y = points(manifold, *first, device=device), points(manifold, *second, device=device)
    t = batched_time(manifold, 0.1 + torch.rand(third, device=device))
    assert heat.log_kernel(manifold, x, y, t).shape == shapes.result_shape
    if manifold in WITH_EXACT_KL:
        assert heat.kl_uniform(manifold, x, t).shape == np.broadcast_shapes(first, third)


@over(WITH_KERNEL)
def test_every_sample_has_its_own_time(manifold, dtype, device, generator):
    kwargs = {"generator": generator, "dtype": dtype, "device": device}
    x, y = points(manifold, 6, **kwargs), points(manifold, 6, **kwargs)
    # On both sides of every crossover.
    t = batched_time(manifold, x.new_tensor([1e-3, 0.49, 0.51, 1.9, 2.1, 50.0]))
    together = heat.log_kernel(manifold, x, y, t)
    for k in range(6):
        alone = heat.log_kernel(manifold, x[k], y[k], t[k])
        assert log_errors(together[k], alone) <= 1e-6


def test_what_has_no_exact_kernel_says_so():
    class Unknown(Sphere):
        pass

    beyond = Sphere(sphere.MAX_DIM + 1)
    x, t = beyond.base_point(), torch.tensor(0.1)
    for call in (
        lambda: heat.log_kernel(beyond, x, x, t),
        lambda: heat.kl_uniform(beyond, x, t),
        lambda: heat.brownian_step(beyond, x, t, x),
    ):
        with pytest.raises(NotImplementedError, match=r"Sphere\(11\).*RandomWalk"):
            call()
    for function in (heat.log_kernel, heat.kl_uniform, heat.brownian_step):
        with pytest.raises(TypeError, match="'no manifold': expected a manifold"):
            function("no manifold", x, t, x) if function is not heat.kl_uniform else function(
                "no manifold", x, t
            )


# ---- divergence from the uniform law --------------------------------------------------------


def exact_divergence(d: int, t: float) -> float:
    """KL on Sᵈ by quadrature of mpmath's density: nothing of the library in it."""
    reach = min(PI, (12 + math.sqrt(d)) * math.sqrt(t))
    nodes, weights = leggauss(60)
    with mp.workdps(30 + int(reach * reach / (2 * t) / 2)):
        fraction = mp.gamma(mp.mpf(d + 1) / 2) / mp.gamma(mp.mpf(d) / 2) / mp.sqrt(mp.pi)
        total = mp.mpf(0)
        for x, w in zip(nodes.tolist(), weights.tolist(), strict=True):
            r = mp.mpf(reach) * (x + 1) / 2
            q = spectral_sum(d, mp.mpf(t), mp.cos(r))
            total += w * mp.mpf(reach) / 2 * fraction * mp.sin(r) ** (d - 1) * q * mp.log(q)
        return float(total)


@pytest.mark.parametrize(
    ("d", "t"),
    [(1, 0.1), (1, 3.0), (2, 0.05), (2, 1.0), (3, 0.1), (4, 1.7), (5, 0.5), (7, 0.3),
     (8, 0.1), (10, 0.2), (10, 2.5)],
)  # fmt: skip
def test_divergence_agrees_with_mpmath(d, t, device):
    x = Sphere(d).base_point(dtype=torch.float64, device=device)
    found = heat.kl_uniform(Sphere(d), x, x.new_tensor(t))
    assert found.item() == pytest.approx(exact_divergence(d, t), rel=1e-7, abs=1e-9)


def test_divergence_on_tori_is_one_circles_for_each_angle(dtype, device):
    t = torch.tensor([1e-4, 0.1, 1.0, 10.0], dtype=dtype, device=device)
    one = heat.kl_uniform(FlatTorus(1), FlatTorus(1).base_point().to(t), t)
    three = heat.kl_uniform(FlatTorus(3), FlatTorus(3).base_point().to(t), t)
    assert torch.allclose(three, 3 * one, rtol=1e-6)
    # The flat circle and S¹ are one space.
    assert torch.equal(one, heat.kl_uniform(Sphere(1), Sphere(1).base_point().to(t), t))


@over(WITH_ONE_TIME)
def test_divergence_is_positive_and_falls_for_every_time(manifold, dtype, device):
    x = manifold.base_point(dtype=dtype, device=device)
    t = torch.logspace(-12, 6, 800, dtype=torch.float64, device=device).to(dtype)
    time = batched_time(manifold, t).clone().requires_grad_()
    value = heat.kl_uniform(manifold, x, time)
    (slope,) = torch.autograd.grad(value.sum(), time)
    assert torch.isfinite(value).all()
    assert torch.isfinite(slope).all()
    assert (value >= 0).all()
    assert (slope <= 0).all()
    assert (value.diff() <= 1e-6 * value[1:]).all()
    # While it is representable at all, it is above zero and falling.
    visible = value > 1e-30
    assert t[visible].max() * manifold.dim > 15
    inner = visible & (t < 0.9 * t[visible].max())
    assert (slope[inner] < 0).all()


@over(tuple(M for M in WITH_ONE_TIME if not isinstance(M, Revolution)))
def test_divergence_at_long_times_is_that_of_the_first_eigenfunction(manifold, device):
    """K = ½ m e^{−2λt} + …: on Sᵈ λ = d/2 with m = d + 1; on Tᵈ λ = ½ with m = 2d.

    On ℝPᵈ λ = d + 1, with as many eigenfunctions as Sᵈ has of degree 2; on SO(3) λ = 1, with the
    nine entries of the matrix; on the Klein bottle λ = ½, with √2 cos φ alone. The dihedral group
    of order four fixes two of the five dimensions of degree 2, where λ = 3.
    """
    d = manifold.dim
    rate, count = {
        Sphere: (d, d + 1),
        FlatTorus: (1, 2 * d),
        RealProjective: (2 * (d + 1), math.comb(d + 2, 2) - 1),
        SO3: (2, 9),
        KleinBottle: (1, 2),
        Quotient: (6, 10),
    }[type(manifold)]
    x = manifold.base_point(dtype=torch.float64, device=device)
    t = torch.tensor([30.0, 45.0, 60.0], dtype=torch.float64, device=device) / rate
    expected = count / 2 * torch.exp(-rate * t)
    found = heat.kl_uniform(manifold, x, t)
    assert (found / expected - 1).abs().max().item() <= 1e-5


@over(WITH_ONE_TIME)
def test_slope_of_the_divergence_is_right(manifold, device):
    x = manifold.base_point(dtype=torch.float64, device=device)
    t = torch.logspace(-8, 1.3, 60, dtype=torch.float64, device=device).requires_grad_()
    value = heat.kl_uniform(manifold, x, t)
    (slope,) = torch.autograd.grad(value.sum(), t)
    # Of log K by log t, so that the differences are as good where K has all but vanished.
    later, earlier = (heat.kl_uniform(manifold, x, t.detach() * f) for f in (1.0005, 1 / 1.0005))
    finite = torch.log(later / earlier) / (2 * math.log(1.0005))
    assert (slope * t / value / finite - 1).abs().max().item() <= 1e-5


@over(WITH_ONE_TIME)
def test_divergence_at_very_short_times_is_that_of_the_short_time_formula(manifold, device):
    x = manifold.base_point(dtype=torch.float64, device=device)
    t = torch.tensor([1e-12, 1e-9, 1e-6, 1e-5], dtype=torch.float64, device=device)
    exact, formula = heat.kl_uniform(manifold, x, t), heat.kl_asymptotic(manifold, x, t)
    assert (exact - formula).abs().max().item() <= 1e-7


def test_short_time_formula_on_the_three_sphere():
    x, t = Sphere(3).base_point(dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)
    exact = heat.kl_uniform(Sphere(3), x, t).item()
    assert exact == pytest.approx(2.328816, abs=5e-7)
    assert heat.kl_asymptotic(Sphere(3), x, t).item() - exact == pytest.approx(0.0009, abs=5e-5)
    assert heat.kl_published(Sphere(3), x, t).item() - exact == pytest.approx(0.026, abs=5e-4)


def test_short_time_formula_on_the_two_sphere():
    x, t = Sphere(2).base_point(dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    formula = heat.kl_asymptotic(Sphere(2), x, t)
    exact = heat.kl_uniform(Sphere(2), x, t)
    assert abs(formula.item() - exact.item()) == pytest.approx(0.005, abs=1e-3)
    # The published coefficient is right at d = 2 alone.
    assert heat.kl_published(Sphere(2), x, t).item() == pytest.approx(formula.item())


@over(COMPACT)
def test_short_time_formula_refuses_what_is_too_long(manifold, device):
    x = manifold.base_point(device=device)
    limit = manifold.short_time_limit
    if isinstance(manifold, Product):  # where each factor has a limit of its own
        limit = min(factor.short_time_limit for factor in manifold.factors)

    def times(*values: float) -> torch.Tensor:
        return batched_time(manifold, torch.tensor(values, device=device))

    assert (heat.kl_asymptotic(manifold, x, times(0.999 * limit)) > -2).all()
    late = times(0.01, 1.01 * limit)
    with pytest.raises(ValueError, match=r"time = .* too long .* kl_divergence"):
        heat.kl_asymptotic(manifold, x, late)
    heat.kl_asymptotic(manifold, x, late, allow_inaccurate=True)
    for bad in (0.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="time"):
            heat.kl_asymptotic(manifold, x, times(bad))


@over(tuple(M for M in WITH_ONE_TIME if M.dim <= 3))
def test_short_time_formula_holds_up_to_its_limit(manifold, device, generator):
    x = points(manifold, 5, generator=generator, dtype=torch.float64, device=device)
    t = x.new_tensor(0.999 * manifold.short_time_limit)
    error = heat.kl_asymptotic(manifold, x, t) - heat.kl_uniform(manifold, x, t)
    assert error.abs().max().item() <= 0.05


def test_short_time_limit_knows_the_loops_of_a_quotient():
    cube = Quotient(SO3(), finite.icosahedral())
    assert cube.shortest_loop == pytest.approx(2 * PI / 5, rel=1e-6)
    with pytest.raises(ValueError, match="too long"):
        heat.kl_asymptotic(cube, cube.base_point(), torch.tensor(0.05))


def test_short_time_formula_refuses_euclidean_space():
    for formula in (heat.kl_asymptotic, heat.kl_published):
        with pytest.raises(ValueError, match=r"Euclidean\(2\) is not compact"):
            formula(Euclidean(2), torch.zeros(2), torch.tensor(0.1))


@over(tuple(M for M in WITH_EXACT_KL if M in WITH_SAMPLER))
def test_monte_carlo_divergence_is_within_its_standard_error(manifold, dtype, device, generator):
    x = points(manifold, 4, generator=generator, dtype=dtype, device=device)
    t = batched_time(manifold, x.new_tensor([1e-3, 0.1, 0.6, 2.0]))
    q = HeatKernel(manifold, x, t)
    value, error = heat.kl_monte_carlo(q, RiemannianUniform(manifold), 4000, generator=generator)
    assert value.shape == error.shape == (4,)
    assert (error > 0).all()
    exact = heat.kl_uniform(manifold, x, t)
    assert ((value - exact).abs() <= 4 * error + 1e-4).all()
    # log q + d/2 log 2πt is −χ²_d/2 in the limit of short times, of variance d/2.
    assert error[0].item() == pytest.approx(math.sqrt(manifold.dim / 2 / 4000), rel=0.2)


def test_monte_carlo_divergence_needs_two_samples():
    q = HeatKernel(Sphere(2), Sphere(2).base_point(), 0.1)
    for n in (1, 0, -3):
        with pytest.raises(ValueError, match=f"n = {n}"):
            heat.kl_monte_carlo(q, RiemannianUniform(Sphere(2)), n)


@over(tuple(M for M in MANIFOLDS if not has(heat.kl_uniform, M)))
def test_no_divergence_where_there_is_no_uniform_law(manifold):
    with pytest.raises(NotImplementedError, match=r"kl_asymptotic.*kl_monte_carlo"):
        heat.kl_uniform(manifold, manifold.base_point(), batched_time(manifold, torch.tensor(0.1)))


# ---- torch.compile ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@over((Sphere(2), FlatTorus(2), SO3(), RealProjective(3), KleinBottle()))
def test_kernels_compile_without_graph_breaks(manifold, device):
    torch.compiler.reset()  # of how often one function may be traced, others have had their share
    x, y = (manifold.random_uniform(64, device=device) for _ in range(2))
    t = 0.01 + 0.1 * torch.rand(64, device=device)
    noise = torch.randn(64, *heat.noise_shape(manifold), device=device)
    t.requires_grad_()

    def step(x: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        z = heat.brownian_step(manifold, x, t, noise)
        return (z * y).sum() + heat.kl_uniform(manifold, x, t).sum()

    def density(x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return heat.log_kernel(manifold, x, y, t).sum()

    for function, arguments in ((step, (x, t, noise)), (density, (x, y, t))):
        expected = function(*arguments)  # builds the tables, which is not traced
        found = torch.compile(function, fullgraph=True)(*arguments)
        assert torch.allclose(found, expected, rtol=1e-4)
        slopes = [torch.autograd.grad(value, t)[0] for value in (found, expected)]
        assert torch.allclose(*slopes, rtol=1e-3, atol=1e-4)
    with torch.no_grad():  # is traced on its own
        for function, arguments in ((step, (x, t, noise)), (density, (x, y, t))):
            found = torch.compile(function, backend="eager", fullgraph=True)(*arguments)
            assert torch.allclose(found, function(*arguments), rtol=1e-4)
