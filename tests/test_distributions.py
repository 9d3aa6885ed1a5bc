"""Laws on the manifolds: conventions, exactness of the sampler, gradients through it, refusals.

The sampler is judged by what is known of Brownian motion in closed form: coordinates are
eigenfunctions, so that E z = e^{−λt/2} loc with λ = d on Sᵈ and λ = 1 on tori, and the zonal
function of degree 2 gives E cos² r; and by the distribution function integrated from the density.
"""

import math
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from catalogue import (
    COMPACT,
    MANIFOLDS,
    SPHERES,
    TORI,
    WITH_EXACT_KL,
    WITH_SAMPLER,
    batched_time,
    law_at,
    noise_for,
    over,
    points,
    tangents,
)
from numpy.polynomial.legendre import leggauss
from scipy import stats
from scipy.interpolate import CubicHermiteSpline
from torch.distributions import Normal, kl_divergence

import manifold_ae
from manifold_ae import heat
from manifold_ae.distributions import (
    HeatKernel,
    ProductLaw,
    RandomWalk,
    RiemannianUniform,
    StandardNormal,
    default_prior,
)
from manifold_ae.manifolds import (
    SO3,
    Euclidean,
    FlatTorus,
    Product,
    RealProjective,
    Sphere,
)

PACKAGE = str(Path(manifold_ae.__file__).parents[1])
BROWNIAN = pytest.mark.parametrize("law", [HeatKernel, RandomWalk])


# ---- conventions ----------------------------------------------------------------------------


@BROWNIAN
@over(WITH_SAMPLER)
@pytest.mark.parametrize("batch", [(), (0,), (2, 3)], ids=str)
def test_shapes(law, manifold, batch, dtype, device, generator):
    loc = points(manifold, *batch, generator=generator, dtype=dtype, device=device)
    time = batched_time(manifold, torch.full(batch, 0.3, dtype=dtype, device=device))
    q = law(manifold, loc, time)
    event = manifold.ambient_shape
    assert (q.batch_shape, q.event_shape) == (batch, event)
    for sample_shape in ((), (4,), (0,), (2, 1)):
        for z in (
            q.sample(sample_shape, generator=generator),
            q.rsample(torch.Size(sample_shape), generator=generator),
        ):
            assert z.shape == (*sample_shape, *batch, *event)
            assert z.dtype == dtype
            assert z.device.type == device.type
            assert q.support.check(z).all()
            assert q.limit.log_prob(z).shape == (*sample_shape, *batch)
            assert q.limit.log_prob(z).dtype == dtype
    if manifold in WITH_EXACT_KL or not manifold.compact:
        assert q.limit.entropy().shape == batch
        assert q.limit.entropy().dtype == dtype
        assert q.limit.entropy().device.type == device.type
    assert repr(manifold) in repr(q)
    assert repr(batch) in repr(q)


@over(WITH_SAMPLER)
def test_loc_and_time_broadcast(manifold, device):
    loc = points(manifold, 3, 1, device=device)
    time = batched_time(manifold, torch.tensor([0.1, 0.2], device=device))
    q = HeatKernel(manifold, loc, time)
    assert q.batch_shape == (3, 2)
    assert q.loc.shape == (3, 2, *manifold.ambient_shape)
    assert q.time.shape == (3, 2, *manifold.time_shape)
    assert q.sample((5,)).shape == (5, 3, 2, *manifold.ambient_shape)


@over(tuple(M for M in COMPACT if not M.time_shape))
def test_time_may_be_a_number(manifold, dtype, device):
    loc = manifold.base_point(dtype=dtype, device=device)
    assert HeatKernel(manifold, loc, 0.25).time.item() == pytest.approx(0.25)
    assert HeatKernel(manifold, loc, 0.25).time.dtype == dtype
    assert HeatKernel(manifold, loc, torch.tensor(1, device=device)).time.item() == 1.0


@BROWNIAN
@over(WITH_SAMPLER)
def test_expand(law, manifold, device, generator):
    q = law_at(law, manifold, [0.1, 0.2], generator)
    wide = q.expand((4, 2))
    assert type(wide) is law
    assert (wide.batch_shape, wide.event_shape) == ((4, 2), manifold.ambient_shape)
    assert wide.sample().shape == (4, 2, *manifold.ambient_shape)
    assert torch.equal(wide.time[3], q.time)
    if law is RandomWalk:
        seven = RandomWalk(manifold, q.loc, q.time, 7)
        assert seven.expand((2, 2)).steps == 7


@over(WITH_SAMPLER)
def test_log_prob_pairs_every_sample_with_its_law(manifold, device, generator):
    q = law_at(HeatKernel, manifold, [0.05, 0.7, 3.0], generator)
    z = q.sample((5,), generator=generator)
    together = q.log_prob(z)
    for k in range(3):
        alone = HeatKernel(manifold, q.loc[k], q.time[k])
        assert torch.allclose(together[:, k], alone.log_prob(z[:, k]), atol=1e-9)
    # A value of fewer axes than the batch serves every law in it.
    one = points(manifold, generator=generator, dtype=torch.float64, device=device)
    assert q.log_prob(one).shape == (3,)
    assert q.log_prob(z[:, :1]).shape == (5, 3)


@BROWNIAN
@over(WITH_SAMPLER)
def test_sampling_follows_its_generator_alone(law, manifold, device, generator):
    q = law_at(law, manifold, [0.1, 0.2], generator)

    def draw(seed: int) -> torch.Tensor:
        return q.sample((3,), generator=torch.Generator(device=device).manual_seed(seed))

    before = torch.get_rng_state()
    first = draw(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, draw(1))
    assert not torch.equal(first, draw(2))


@BROWNIAN
@over(WITH_SAMPLER)
def test_only_rsample_carries_a_gradient(law, manifold, generator):
    q = law_at(law, manifold, 0.1, generator)
    loc, time = q.loc.clone().requires_grad_(), q.time.clone().requires_grad_()
    q = law(manifold, loc, time)
    assert q.has_rsample
    assert not q.sample().requires_grad
    assert q.rsample().requires_grad
    slopes = torch.autograd.grad(q.rsample((50,)).square().sum() + q.rsample().sum(), (loc, time))
    assert all(torch.isfinite(slope).all() for slope in slopes)
    assert slopes[1].abs().max() > 0


@over(MANIFOLDS)
def test_priors(manifold, dtype, device, generator):
    prior = manifold.default_prior()
    assert prior == default_prior(manifold)
    assert hash(prior) == hash(default_prior(manifold))
    flat = StandardNormal if isinstance(manifold, Euclidean) else ProductLaw
    assert type(prior) is (RiemannianUniform if manifold.compact else flat)
    z = prior.sample((5, 2), generator=generator, dtype=dtype, device=device)
    assert z.shape == (5, 2, *manifold.ambient_shape)
    assert z.dtype == dtype
    log_prob = prior.log_prob(z)
    assert log_prob.shape == (5, 2)
    assert log_prob.dtype == dtype
    if manifold.compact:
        expected = torch.full_like(log_prob, -math.log(manifold.volume))
    elif isinstance(manifold, Product):
        parts = zip(manifold.factors, manifold.split(z), strict=True)
        expected = torch.stack([M.default_prior().log_prob(part) for M, part in parts]).sum(0)
    else:
        expected = Normal(0.0, 1.0).log_prob(z).sum(-1)
    assert torch.allclose(log_prob, expected, rtol=1e-6)
    # −E log p is the entropy: for the uniform law without any spread.
    many = prior.log_prob(prior.sample((4000,), generator=generator, dtype=dtype, device=device))
    assert -many.mean().item() == pytest.approx(
        prior.entropy().item(), abs=5 * math.sqrt(manifold.dim / 2 / 4000)
    )
    wide = prior.expand((3,))
    assert wide.batch_shape == (3,)
    assert wide.sample((2,)).shape == (2, 3, *manifold.ambient_shape)
    assert wide.log_prob(wide.sample((2,))).shape == (2, 3)
    assert wide.log_prob(wide.sample((2,))[:, 0][:, None]).shape == (2, 3)
    assert kl_divergence(prior, prior) == 0 if manifold.compact else True


def test_there_is_no_uniform_law_on_euclidean_space():
    with pytest.raises(ValueError, match=r"Euclidean\(3\).*default_prior"):
        RiemannianUniform(Euclidean(3))


# ---- Euclidean space: torch's own normal law --------------------------------------------------


def test_heat_kernel_of_euclidean_space_is_the_normal_law(dtype, device, generator):
    kwargs = {"dtype": dtype, "device": device, "generator": generator}
    manifold = Euclidean(3)
    loc, time = torch.randn(50, 3, **kwargs), torch.rand(50, 3, **kwargs) + 0.1
    q, theirs = HeatKernel(manifold, loc, time), Normal(loc, time.sqrt())
    z = q.sample((4,), generator=generator)
    assert torch.allclose(q.log_prob(z), theirs.log_prob(z).sum(-1), rtol=1e-4, atol=1e-4)
    assert torch.allclose(q.entropy(), theirs.entropy().sum(-1), rtol=1e-5)
    prior = manifold.default_prior()
    expected = kl_divergence(theirs, Normal(torch.zeros_like(loc), 1.0)).sum(-1)
    assert torch.allclose(kl_divergence(q, prior), expected, rtol=1e-4, atol=1e-5)
    state = generator.get_state()
    drawn = q.rsample(generator=generator)
    noise = torch.randn(loc.shape, **{**kwargs, "generator": generator.set_state(state)})
    assert torch.allclose(drawn, loc + time.sqrt() * noise)


# ---- divergences ----------------------------------------------------------------------------


@over(WITH_EXACT_KL)
def test_entropy_and_divergence_add_up_to_log_volume(manifold, dtype, device, generator):
    times = [1e-6, 1e-3, 0.1, 0.5, 2.0, 20.0]
    q = law_at(HeatKernel, manifold, times, generator, dtype=dtype)
    prior = RiemannianUniform(manifold)
    divergence = kl_divergence(q, prior)
    assert divergence.shape == (6,)
    assert divergence.dtype == dtype
    total = q.entropy() + divergence
    assert torch.allclose(total, prior.entropy().to(total), rtol=1e-5)
    if manifold not in WITH_SAMPLER:
        return
    z = q.sample((3000,), generator=generator)
    surprise = -q.log_prob(z)
    error = surprise.std(0) / math.sqrt(3000)
    assert ((surprise.mean(0) - q.entropy()).abs() <= 4.5 * error + 1e-4).all()


@over(WITH_SAMPLER)
def test_the_random_walk_has_no_density_and_says_what_there_is(manifold, generator):
    w = law_at(RandomWalk, manifold, 0.1, generator)
    with pytest.raises(NotImplementedError, match=r"kl_asymptotic.*kl_monte_carlo"):
        kl_divergence(w, manifold.default_prior())
    with pytest.raises(NotImplementedError, match=r"\.limit.*HeatKernel"):
        w.log_prob(w.loc)
    assert type(w.limit) is HeatKernel
    assert torch.equal(w.limit.time, w.time)
    q = HeatKernel(manifold, w.loc, w.time)
    assert q.limit is q


def test_divergences_between_other_laws_are_refused():
    on_sphere = HeatKernel(Sphere(2), Sphere(2).base_point(), 0.1)
    with pytest.raises(ValueError, match=r"Sphere\(2\).*FlatTorus\(1\)"):
        kl_divergence(on_sphere, RiemannianUniform(FlatTorus(1)))
    with pytest.raises(ValueError, match=r"Sphere\(2\).*Sphere\(3\)"):
        kl_divergence(on_sphere, RiemannianUniform(Sphere(3)))
    with pytest.raises(NotImplementedError, match="kl_monte_carlo"):
        kl_divergence(on_sphere, on_sphere)
    with pytest.raises(NotImplementedError, match="kl_monte_carlo"):
        kl_divergence(RiemannianUniform(Sphere(2)), on_sphere)


# ---- exactness of the sampler ---------------------------------------------------------------


@cache
def radius_cdf(d: int, t: float) -> CubicHermiteSpline:
    """Distribution function of the distance from the start on Sᵈ, integrated from the density."""
    manifold, (nodes, weights) = Sphere(d), leggauss(8)
    edges = np.linspace(0, min(math.pi, (10 + math.sqrt(d)) * math.sqrt(t)), 401)
    half = np.diff(edges)[:, None] / 2
    area = 2 * math.pi ** (d / 2) / math.gamma(d / 2)

    def density(r: np.ndarray) -> np.ndarray:
        x = manifold.base_point(dtype=torch.float64)
        y = torch.zeros(*r.shape, d + 1, dtype=torch.float64)
        y[..., 0], y[..., 1] = torch.from_numpy(np.cos(r)), torch.from_numpy(np.sin(r))
        log_q = heat.log_kernel(manifold, x, y, x.new_tensor(t)).numpy()
        return area * np.sin(r) ** (d - 1) * np.exp(log_q)

    masses = (density(edges[:-1, None] + half * (nodes + 1)) * weights * half).sum(-1)
    below = np.concatenate([[0.0], np.cumsum(masses)])
    assert below[-1] == pytest.approx(1.0, abs=1e-8)
    return CubicHermiteSpline(edges, below, density(edges))


def kolmogorov_smirnov(n: int, d: int, t: float, r: torch.Tensor) -> None:
    cdf = radius_cdf(d, t)
    radii = r.flatten()[:n].cpu().double().numpy().clip(0, cdf.x[-1])
    result = stats.kstest(radii, cdf)
    assert result.pvalue > 1e-3, f"KS distance {result.statistic:.2e} at t = {t}"


@pytest.mark.parametrize("t", [1e-5, 0.05, 0.6, 3.0])
@over(SPHERES)
def test_radius_of_spheres_has_the_law_of_the_density(manifold, t, generator):
    q = law_at(HeatKernel, manifold, t, generator)
    z = q.sample((20_000,), generator=generator)
    kolmogorov_smirnov(20_000, manifold.dim, t, manifold.dist(q.loc, z))


@pytest.mark.parametrize("t", [1e-5, 0.6, 3.0])
@over(TORI)
def test_angles_of_tori_have_the_law_of_the_density(manifold, t, generator):
    q = law_at(HeatKernel, manifold, t, generator)
    z = q.sample((20_000 // manifold.dim,), generator=generator)
    kolmogorov_smirnov(20_000, 1, t, manifold.angle_differences(q.loc, z))


@pytest.mark.slow
@pytest.mark.parametrize("t", [1e-6, 1e-2, 0.3, 1.0, 8.0])
@over(SPHERES)
def test_radius_of_spheres_has_the_law_of_the_density_to_a_million_samples(
    manifold, t, dtype, generator
):
    q = law_at(HeatKernel, manifold, t, generator, dtype=dtype)
    z = q.sample((1_000_000,), generator=generator)
    kolmogorov_smirnov(1_000_000, manifold.dim, t, manifold.dist(q.loc, z))


@pytest.mark.parametrize("t", [1e-8, 1e-4, 0.1, 0.5, 1.0, 5.0, 50.0, 1e3])
@over(tuple(M for M in SPHERES if M.dim > 1))
def test_one_step_matches_the_quantiles(manifold, t, device):
    """F_t(r) = F_χ(ρ), the distribution of the length of the noise: exactly, without sampling."""
    d = manifold.dim
    x = manifold.base_point(dtype=torch.float64, device=device)
    rho = torch.linspace(0.02, math.sqrt(d) + 5, 60, dtype=torch.float64, device=device)
    noise = torch.zeros(60, d + 1, dtype=torch.float64, device=device)
    noise[:, 1] = rho
    noise[:, 0] = 1.7  # the normal part is thrown away
    z = heat.brownian_step(manifold, x, x.new_tensor(t), noise)
    r = manifold.dist(x, z).cpu().numpy()
    assert np.all(np.diff(r) > 0) or t > 100
    expected = stats.chi(d).cdf(rho.cpu().numpy())
    cdf = radius_cdf(d, t)
    assert np.abs(cdf(r.clip(0, cdf.x[-1])) - expected).max() <= 1e-6


def test_one_step_on_the_two_sphere_has_the_known_ratio(device):
    """G_t(ρ)/(√t ρ): 1.000 at t = 1e-4, 0.992 to 0.991 at 0.1, 0.919 to 0.626 at 1, for ρ ≤ 5."""
    manifold = Sphere(2)
    x = manifold.base_point(dtype=torch.float64, device=device)
    for t, near, far in ((1e-4, 1.0, 1.0), (0.1, 0.992, 0.991), (1.0, 0.919, 0.626)):
        noise = x.new_tensor([[0, 1e-3, 0], [0, 5.0, 0]])
        r = manifold.dist(x, heat.brownian_step(manifold, x, x.new_tensor(t), noise))
        ratio = (r / (math.sqrt(t) * noise[:, 1])).tolist()
        assert ratio == pytest.approx([near, far], abs=6e-4)


@pytest.mark.parametrize("t", [1e-4, 0.01, 0.3, 1.0, 3.0, 10.0])
@over(SPHERES)
def test_means_of_the_first_two_zonal_functions_are_exact(manifold, t, dtype, generator):
    """E cos r = e^{−dt/2} and E cos² r = (1 + d e^{−(d+1)t}) / (d + 1)."""
    n, d = 20_000, manifold.dim
    q = law_at(HeatKernel, manifold, t, generator, dtype=dtype)
    # In float64, and as 1 − cos r = |z − loc|²/2, so that nothing cancels at short times.
    z = q.sample((n,), generator=generator).double()
    versine = (z - q.loc.double()).square().sum(-1) / 2
    for power, expected in ((1, -math.expm1(-d * t / 2)), (2, None)):
        values = versine if power == 1 else 1 - (1 - versine) ** 2
        if expected is None:
            expected = -d / (d + 1) * math.expm1(-(d + 1) * t)
        error = values.std().item() / math.sqrt(n)
        assert values.mean().item() == pytest.approx(expected, abs=4.5 * error)


@pytest.mark.parametrize("t", [1e-4, 0.3, 3.0])
@over(TORI)
def test_means_of_the_coordinates_of_tori_are_exact(manifold, t, dtype, generator):
    n = 20_000
    q = law_at(HeatKernel, manifold, t, generator, dtype=dtype)
    z = q.sample((n,), generator=generator).double()
    error = z.std(0) / math.sqrt(n)
    assert ((z.mean(0) - math.exp(-t / 2) * q.loc).abs() <= 4.5 * error + 1e-6).all()
    # Angles are independent.
    turn = torch.cos(manifold.signed_angles(q.loc.double(), z).sum(-1))
    expected = math.exp(-manifold.dim * t / 2)
    assert turn.mean().item() == pytest.approx(expected, abs=4.5 * turn.std().item() / n**0.5)


@over(SPHERES)
def test_directions_are_uniform(manifold, generator):
    n, d = 20_000, manifold.dim
    q = law_at(HeatKernel, manifold, 0.5, generator)
    u = manifold.logmap(q.loc, q.sample((n,), generator=generator))
    u = u / u.norm(dim=-1, keepdim=True)
    projector = torch.eye(d + 1).to(u) - q.loc[:, None] * q.loc
    assert u.mean(0).abs().max().item() <= 5 / math.sqrt(n * d)
    assert (u.T @ u / n - projector / d).abs().max().item() <= 5 * math.sqrt(2 / n) / d * 1.2


@over(SPHERES)
def test_a_step_turns_with_the_sphere(manifold, dtype, device, generator, tolerance):
    kwargs = {"dtype": dtype, "device": device, "generator": generator}
    x = manifold.random_uniform(30, **kwargs)
    noise = torch.randn(x.shape, **kwargs)
    turn = torch.linalg.qr(torch.randn(x.shape[-1], x.shape[-1], **kwargs)).Q
    t = torch.tensor(0.4, dtype=dtype, device=device)
    there = heat.brownian_step(manifold, x, t, noise) @ turn.T
    back = heat.brownian_step(manifold, x @ turn.T, t, noise @ turn.T)
    assert (there - back).abs().max().item() <= tolerance


# ---- gradients through the sampler ------------------------------------------------------------


@pytest.mark.parametrize("t", [1e-3, 0.1, 0.5, 1.0, 3.0])
@over((*SPHERES, *TORI))
def test_gradients_of_an_expectation_are_right(manifold, t, dtype, device, generator):
    """E ⟨z, a⟩ = e^{−λt/2} ⟨loc, a⟩, so its derivatives by time and start are known."""
    n, rate = 20_000, manifold.dim if isinstance(manifold, Sphere) else 1
    kwargs = {"dtype": dtype, "device": device, "generator": generator}
    start = manifold.random_uniform(**kwargs)
    loc = start.expand(n, *start.shape).clone().requires_grad_()
    time = torch.full((n,), t, dtype=dtype, device=device, requires_grad=True)
    # Along the start itself, as E cos r; and obliquely, to see the start's gradient.
    for a in (start, torch.randn(start.shape, **kwargs)):
        z = HeatKernel(manifold, loc, time).rsample(generator=generator)
        by_loc, by_time = torch.autograd.grad((z * a).sum(), (loc, time))
        decay = math.exp(-rate * t / 2)
        expected = -rate / 2 * decay * (start * a).sum().item()
        error = by_time.std().item() / math.sqrt(n)
        assert by_time.mean().item() == pytest.approx(expected, abs=4.5 * error + 1e-6)
        along = manifold.proju(start, by_loc)
        error = along.std(0) / math.sqrt(n)
        expected_along = decay * manifold.proju(start, a)
        assert ((along.mean(0) - expected_along).abs() <= 4.5 * error + 1e-5).all()


@BROWNIAN
@over(WITH_SAMPLER)
def test_samples_have_the_derivatives_that_autograd_says(law, manifold, generator):
    q = law_at(law, manifold, [0.02, 0.4, 1.5], generator)

    def draw(u: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        loc = manifold.expmap(q.loc, manifold.proju(q.loc, u))
        fixed = torch.Generator(device=u.device).manual_seed(5)
        return law(manifold, loc, time).rsample((2,), generator=fixed)

    u = torch.zeros_like(q.loc, requires_grad=True)
    time = q.time.clone().requires_grad_()
    assert torch.autograd.gradcheck(draw, (u, time), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-40, 1e-30, 1e-20, 1e-10, 1e-5])
@over(WITH_SAMPLER)
def test_a_step_is_smooth_where_the_noise_vanishes(manifold, size, dtype, device, generator):
    x = points(manifold, generator=generator, dtype=dtype, device=device)
    noise = size * noise_for(manifold, dtype=dtype, generator=generator)
    for t in (1e-6, 0.1, 2.0):
        leaf = x.clone().requires_grad_()
        time = batched_time(manifold, torch.tensor(t, dtype=dtype, device=device))
        time = time.clone().requires_grad_()
        z = heat.brownian_step(manifold, leaf, time, noise)
        assert (z - x).abs().max().item() <= 20 * size + 2 * torch.finfo(dtype).eps
        a = torch.randn(x.shape, dtype=dtype, device=device, generator=generator)
        by_x, by_time = torch.autograd.grad((z * a).sum(), (leaf, time))
        assert torch.isfinite(by_x).all()
        assert torch.isfinite(by_time).all()
        # In the limit z = x, so the tangent part of a comes back.
        assert torch.allclose(manifold.proju(x, by_x), manifold.proju(x, a), atol=1e-3)


@over(WITH_SAMPLER)
def test_a_step_is_a_differentiable_function_of_its_noise(manifold, device, generator):
    x = points(manifold, 3, generator=generator, dtype=torch.float64, device=device)
    noise = noise_for(manifold, 3, dtype=x.dtype, generator=generator)
    t = batched_time(manifold, x.new_tensor([0.01, 0.4, 2.0]))
    assert torch.autograd.gradcheck(
        lambda noise: heat.brownian_step(manifold, x, t, noise), noise.requires_grad_()
    )


@pytest.mark.parametrize("log_t", [-40.0, -16.2, -16.0, -13.8, 4.5, 4.7, 14.0])
@over(WITH_SAMPLER)
def test_steps_far_outside_any_table_are_finite(manifold, log_t, dtype, device, generator):
    q = law_at(HeatKernel, manifold, [math.exp(log_t)] * 200, generator, dtype=dtype)
    time = q.time.clone().requires_grad_()
    z = HeatKernel(manifold, q.loc, time).rsample(generator=generator)
    (slope,) = torch.autograd.grad(z.sum(), time)
    assert torch.isfinite(z).all()
    assert torch.isfinite(slope).all()
    assert HeatKernel(manifold, q.loc, time).support.check(z.detach()).all()
    noise = 0 * noise_for(manifold, 200, dtype=dtype, generator=generator) + 40.0  # beyond any
    assert torch.isfinite(heat.brownian_step(manifold, q.loc, q.time, noise)).all()


@pytest.mark.slow
@pytest.mark.parametrize("first", ["inference_mode", "functional grad", "compile"])
@pytest.mark.parametrize(
    ("law", "name"),
    [
        ("HeatKernel", "sphere:2"),
        ("HeatKernel", "projective:2"),
        ("HeatKernel", "klein-bottle"),
        ("HeatKernel", "so3"),
        ("HeatKernel", "embedded-torus"),
        ("PowerSpherical", "sphere:3"),
        ("WrappedNormal", "sphere:2"),
    ],
)
def test_what_is_cached_on_first_use_serves_training(law, name, first):
    """Tables are built when they are first needed, wherever that is: in a process of its own."""
    code = f"""
import torch
from torch.distributions import kl_divergence
from manifold_ae import distributions, manifolds

M = manifolds.parse({name!r})
x, y = M.random_uniform(4), M.random_uniform(4)

def f(t, x, y):
    q = distributions.{law}(M, x, t, validate_args=False)
    value = q.log_prob(y) + kl_divergence(q, M.default_prior())
    return value + q.rsample().sum(-1) if {first!r} != "functional grad" and {name!r} not in (
        "so3", "embedded-torus") else value

t = torch.full((4,), 0.1)
if {first!r} == "inference_mode":
    with torch.inference_mode():
        f(t, x, y)
elif {first!r} == "compile":
    torch.compile(f, backend="eager")(t, x, y)
elif {name!r} == "embedded-torus":  # which vmap does not take
    torch.func.grad(lambda t: f(t, x, y).sum())(t)
else:
    torch.func.vmap(torch.func.grad(f))(t, x, y)
t.requires_grad_()
f(t, x, y).sum().backward()
assert torch.isfinite(t.grad).all()
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE},
        check=False,
    )
    assert result.returncode == 0, result.stderr[-600:]


# ---- the random walk --------------------------------------------------------------------------

#: E cos r of ten steps over the exact e^{−dt/2}; the last is the precision of the number.
BIAS = [
    (1, 0.1, 0.9994, 1e-4), (1, 0.5, 0.986, 1e-3), (1, 1.0, 0.932, 1e-3),
    (5, 0.1, 1.003, 1e-3), (5, 0.5, 1.07, 1e-2), (5, 1.0, 1.33, 1e-2),
    (9, 0.1, 1.013, 1e-3), (9, 0.5, 1.36, 1e-2), (9, 1.0, 2.9, 0.1),
]  # fmt: skip


@pytest.mark.parametrize(("d", "t", "ratio", "precision"), BIAS)
def test_bias_of_the_random_walk(d, t, ratio, precision, device, generator):
    n, manifold = 60_000, Sphere(d)
    loc = manifold.base_point(dtype=torch.float64, device=device)
    z = RandomWalk(manifold, loc, t).sample((n,), generator=generator)
    cosine = (z * loc).sum(-1)
    error = cosine.std().item() / math.sqrt(n)
    exact = math.exp(-d * t / 2)
    assert cosine.mean().item() == pytest.approx(ratio * exact, abs=4 * error + precision * exact)


@pytest.mark.parametrize("t", [0.1, 0.3])
@over(
    (Sphere(1), Sphere(2), Sphere(5), Sphere(9), SO3(), FlatTorus(2), RealProjective(3),
     Product(Sphere(5), SO3()))
)  # fmt: skip
def test_the_corrected_walk_has_lost_the_leading_bias(manifold, t, device, generator):
    """Of five steps: what is left of the error is below a third of the plain walk's, or noise.

    Log-densities at the start see the spread of the samples on every manifold alike.
    """
    n = 20_000
    loc = manifold.base_point(dtype=torch.float64, device=device)
    time = batched_time(manifold, loc.new_tensor(t))
    q = HeatKernel(manifold, loc, time)

    def mean(law: HeatKernel | RandomWalk) -> tuple[float, float]:
        values = q.log_prob(law.sample((n,), generator=generator))
        return values.mean().item(), values.std().item() / math.sqrt(n)

    exact, _ = mean(q)
    plain, error = mean(RandomWalk(manifold, loc, time, 5))
    corrected, _ = mean(RandomWalk(manifold, loc, time, 5, corrected=True))
    assert abs(corrected - exact) <= abs(plain - exact) / 3 + 6 * error


@over((*SPHERES, *TORI))
def test_the_random_walk_tends_to_the_heat_kernel(manifold, device, generator):
    n, t, rate = 6_000, 0.3, manifold.dim if isinstance(manifold, Sphere) else 1
    loc = manifold.base_point(dtype=torch.float64, device=device)
    z = RandomWalk(manifold, loc, t, steps=100).sample((n,), generator=generator)
    error = z.std(0) / math.sqrt(n)
    exact = math.exp(-rate * t / 2) * loc
    bias = 0.01 * manifold.dim**2 * t  # first order in 1/steps
    assert ((z.mean(0) - exact).abs() <= 4.5 * error + bias).all()


def test_the_random_walk_on_euclidean_space_is_exact(device, generator):
    time = torch.tensor([0.5, 2.0], dtype=torch.float64, device=device)
    w = RandomWalk(Euclidean(2), torch.zeros_like(time), time, steps=3)
    z = w.sample((40_000,), generator=generator)
    assert (z.var(0) / time).tolist() == pytest.approx([1.0, 1.0], abs=5 * math.sqrt(2 / 40_000))
    assert stats.kstest((z[:, 1] / math.sqrt(2.0)).cpu().numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("steps", [0, -1, 2.5, "10", True, None])
def test_wrong_numbers_of_steps_are_refused(steps):
    with pytest.raises(ValueError, match="steps") as refused:
        RandomWalk(Sphere(2), Sphere(2).base_point(), 0.1, steps)
    assert repr(steps) in str(refused.value)


# ---- arguments --------------------------------------------------------------------------------


@BROWNIAN
@over(COMPACT)
@pytest.mark.parametrize("bad", [0.0, -1e-3, math.nan, math.inf, -math.inf])
def test_times_that_are_no_variance_are_refused(law, manifold, bad):
    loc = manifold.base_point()
    time = batched_time(manifold, torch.tensor([0.1, bad]))
    with pytest.raises(ValueError, match=rf"time must be positive and finite, got {bad}"):
        law(manifold, loc, time, validate_args=True)
    with pytest.raises(ValueError, match="time"):
        law(manifold, loc, bad, validate_args=True)


@BROWNIAN
@over(MANIFOLDS)
def test_locations_that_are_no_points_are_refused(law, manifold, device):
    good = points(manifold, 4, device=device)
    time = batched_time(manifold, torch.full((4,), 0.1, device=device))

    def refused(loc: torch.Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            law(manifold, loc, time, validate_args=True)

    refused(good[..., :-1], r"loc has shape .* trailing shape")
    refused(torch.cat([good, good], -1), r"loc has shape .* trailing shape")
    refused(good.sum(), r"loc has shape \(\)")
    refused(good.half(), "loc has dtype torch.float16; expected float32 or float64")
    refused(good.bfloat16(), "loc has dtype torch.bfloat16")
    refused(good.long(), "loc has dtype torch.int64")
    for bad in (math.nan, math.inf):
        broken = good.clone()
        broken[2] = bad
        refused(broken, "loc holds .* non-finite")
    if manifold.compact:
        broken = good.clone()
        broken[2] *= 1.001
        refused(broken, r"loc holds points off .*projx")
        refused(torch.zeros_like(good), r"loc holds points off .*projx")


@over(MANIFOLDS)
def test_values_that_are_no_points_are_refused(manifold, device):
    good = points(manifold, 4, device=device)
    time = batched_time(manifold, torch.full((4,), 0.1, device=device))
    laws = [manifold.default_prior(), HeatKernel(manifold, good, time, validate_args=True)]
    for law in laws:
        for value, message in (
            (good[..., :-1], "value has shape"),
            (good.half(), "value has dtype"),
            (good * math.nan, "value holds .* non-finite"),
        ):
            with pytest.raises(ValueError, match=message):
                law.log_prob(value)
        if manifold.compact:
            with pytest.raises(ValueError, match="value holds points off"):
                law.log_prob(1.01 * good)


def test_times_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"time has shape \(4,\); times on Euclidean\(2\)"):
        HeatKernel(Euclidean(2), torch.zeros(4, 2), torch.full((4,), 0.1), validate_args=True)
    with pytest.raises(ValueError, match=r"time has shape \(\)"):
        HeatKernel(Euclidean(2), torch.zeros(4, 2), 0.1, validate_args=True)


@BROWNIAN
def test_batches_that_do_not_fit_are_refused(law):
    loc = Sphere(2).base_point().expand(4, 3)
    with pytest.raises(ValueError, match=r"time.*\(5,\)"):
        law(Sphere(2), loc, torch.full((5,), 0.1), validate_args=True)


@over(tuple(M for M in COMPACT if M in WITH_SAMPLER))
def test_float32_rounding_is_no_reason_to_refuse(manifold, device, generator):
    # Points after a long chain of maps in float32, as a training run makes them.
    x = points(manifold, 2000, device=device, generator=generator)
    for _ in range(20):
        x = manifold.expmap(x, 3 * tangents(manifold, x, generator))
    time = batched_time(manifold, torch.full((2000,), 0.1, device=device))
    q = HeatKernel(manifold, x, time, validate_args=True)
    q.log_prob(q.sample(generator=generator))


def test_checks_can_be_switched_off():
    q = HeatKernel(Sphere(2), torch.ones(3), 0.1, validate_args=False)
    assert q.log_prob(torch.ones(3)).shape == ()


@over(WITH_EXACT_KL)
def test_a_time_that_is_not_finite_gives_nan_and_not_an_index_error(manifold, device):
    # With the checks off, as in training: the loop reports NaN and names the step. On a GPU an
    # index out of range takes the whole process down.
    loc = manifold.base_point(device=device)
    for bad in (math.nan, -1.0):
        time = batched_time(manifold, torch.full((3,), bad, device=device))
        q = HeatKernel(manifold, loc, time, validate_args=False)
        if manifold in WITH_SAMPLER:
            assert torch.isnan(q.rsample()).any()
        assert torch.isnan(kl_divergence(q, RiemannianUniform(manifold))).all()


# ---- transforms of torch ----------------------------------------------------------------------


# The kernel of the embedded torus chooses its formula by the values of its arguments.
@over(WITH_SAMPLER)
def test_vmap_and_grad(manifold, device, generator):
    q = law_at(HeatKernel, manifold, [0.1, 0.4, 1.0], generator)
    z = q.sample(generator=generator)

    def log_prob(loc: torch.Tensor, time: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return HeatKernel(manifold, loc, time, validate_args=False).log_prob(z)

    one_by_one = torch.func.vmap(log_prob)(q.loc, q.time, z)
    assert torch.allclose(one_by_one, q.log_prob(z))
    slopes = torch.func.vmap(torch.func.grad(log_prob, argnums=1))(q.loc, q.time, z)
    time = q.time.clone().requires_grad_()
    (expected,) = torch.autograd.grad(heat.log_kernel(manifold, q.loc, z, time).sum(), time)
    assert torch.allclose(slopes, expected)


@over(WITH_EXACT_KL)
def test_vmap_and_grad_of_the_divergence_and_the_sampler(manifold, device, generator):
    q = law_at(HeatKernel, manifold, [0.1, 0.4, 1.0], generator)
    prior = manifold.default_prior()

    def divergence(loc: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return kl_divergence(HeatKernel(manifold, loc, time, validate_args=False), prior)

    slopes = torch.func.vmap(torch.func.grad(divergence, argnums=1))(q.loc, q.time)
    time = q.time.clone().requires_grad_()
    (expected,) = torch.autograd.grad(divergence(q.loc, time).sum(), time)
    assert torch.allclose(slopes, expected)

    if manifold not in WITH_SAMPLER:
        return
    noise = noise_for(manifold, 3, dtype=q.loc.dtype, generator=generator)
    stepped = torch.func.vmap(lambda x, t, e: heat.brownian_step(manifold, x, t, e))(
        q.loc, q.time, noise
    )
    assert torch.allclose(stepped, heat.brownian_step(manifold, q.loc, q.time, noise))
