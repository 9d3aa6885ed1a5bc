"""The other posteriors: power spherical and wrapped normal, beside the heat kernel.

Each is judged by what it is: the half-angle of the power spherical law has a Beta law (by scipy),
the wrapped normal sums over preimages (by numpy); densities by their integral, divergences by
quadrature and by Monte Carlo, gradients of expectations by the derivative of a quadrature.
"""

import math
from functools import cache

import mpmath
import numpy as np
import pytest
import torch
from catalogue import MANIFOLDS, SPHERES, batched_time, law_at, over, points
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial.legendre import leggauss
from scipy import stats
from torch.distributions import kl_divergence

from manifold_ae import heat, run
from manifold_ae.distributions import (
    HeatKernel,
    PowerSpherical,
    RiemannianUniform,
    WrappedNormal,
    wrapped_sphere,
)
from manifold_ae.distributions.power_spherical import radius_table
from manifold_ae.distributions.wrapped_normal import divergence_of_exp, exp_step, log_density_of_exp
from manifold_ae.experiments import POSTERIORS, VAE
from manifold_ae.manifolds import (
    SO3,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    Quotient,
    RealProjective,
    Sphere,
)
from manifold_ae.models import DeltaVAE
from manifold_ae.nn import MLP

FLAT = tuple(M for M in MANIFOLDS if isinstance(M, Euclidean | FlatTorus))
#: Law, manifold: every pair that exists.
PAIRS = [(PowerSpherical, M) for M in SPHERES] + [(WrappedNormal, M) for M in (*SPHERES, *FLAT)]
LAWS = pytest.mark.parametrize(
    ("law", "manifold"), PAIRS, ids=[f"{law.__name__}-{M.spec}" for law, M in PAIRS]
)
ON_SPHERES = pytest.mark.parametrize("law", [PowerSpherical, WrappedNormal])


# ---- conventions ------------------------------------------------------------------------------


@LAWS
@pytest.mark.parametrize("batch", [(0,), (2, 3)], ids=str)
def test_shapes(law, manifold, batch, dtype, device, generator):
    loc = points(manifold, *batch, generator=generator, dtype=dtype, device=device)
    q = law(manifold, loc, batched_time(manifold, torch.full(batch, 0.3).to(loc)))
    assert (q.batch_shape, q.event_shape) == (batch, manifold.ambient_shape)
    assert q.limit is q
    for sample_shape in ((), (4,), (0,), (2, 1)):
        z = q.rsample(sample_shape, generator=generator)
        assert z.shape == (*sample_shape, *batch, *manifold.ambient_shape)
        assert z.dtype == dtype
        assert q.support.check(z).all()
        assert q.log_prob(z).shape == (*sample_shape, *batch)
        assert q.log_prob(z).dtype == dtype
    for value in (q.entropy(), kl_divergence(q, manifold.default_prior())):
        assert value.shape == batch
        assert value.dtype == dtype
    wide = q.expand((5, *batch))
    assert type(wide) is law
    assert wide.batch_shape == (5, *batch)
    assert torch.equal(wide.entropy()[0], q.entropy())
    assert wide.sample((2,)).shape == (2, 5, *batch, *manifold.ambient_shape)
    assert repr(manifold) in repr(q)


@LAWS
def test_sampling_follows_its_generator_alone(law, manifold, device, generator):
    q = law_at(law, manifold, [0.1, 0.2], generator)

    def draw(seed: int) -> torch.Tensor:
        return q.sample((3,), generator=torch.Generator(device=device).manual_seed(seed))

    before = torch.get_rng_state()
    first = draw(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, draw(1))
    assert not torch.equal(first, draw(2))


@LAWS
def test_only_rsample_carries_a_gradient(law, manifold, generator):
    q = law_at(law, manifold, 0.1, generator)
    loc, time = q.loc.clone().requires_grad_(), q.time.clone().requires_grad_()
    q = law(manifold, loc, time)
    assert not q.sample().requires_grad
    slopes = torch.autograd.grad(q.rsample((50,)).square().sum() + q.rsample().sum(), (loc, time))
    assert all(torch.isfinite(slope).all() for slope in slopes)
    assert slopes[1].abs().max() > 0


@LAWS
def test_wrong_times_and_locations_are_refused(law, manifold):
    loc = points(manifold, 4)
    for bad in (0.0, -1.0, math.nan, math.inf):
        time = batched_time(manifold, torch.tensor([0.1, 0.1, 0.1, bad]))
        with pytest.raises(ValueError, match="time must be positive and finite"):
            law(manifold, loc, time, validate_args=True)
    with pytest.raises(ValueError, match="loc has shape"):
        law(manifold, loc[..., :-1], 0.1, validate_args=True)
    q = law(manifold, loc, batched_time(manifold, torch.full((4,), 0.1)), validate_args=True)
    with pytest.raises(ValueError, match=r"value holds .* non-finite"):
        q.log_prob(loc * math.nan)


def test_the_power_spherical_law_lives_on_spheres():
    for manifold in FLAT:
        time = batched_time(manifold, torch.tensor(0.1))
        with pytest.raises(ValueError, match=r"lives on spheres, got .*WrappedNormal"):
            PowerSpherical(manifold, points(manifold), time)


def test_what_is_not_known_is_refused_by_name():
    z = Sphere(2).base_point()
    with pytest.raises(NotImplementedError, match=r"Sphere\(2\).*HeatKernel"):
        log_density_of_exp.dispatch(object)(Sphere(2), z, z, torch.tensor(0.1))
    with pytest.raises(NotImplementedError, match=r"Sphere\(2\).*HeatKernel.*kl_monte_carlo"):
        divergence_of_exp.dispatch(object)(Sphere(2), z, torch.tensor(0.1))
    with pytest.raises(NotImplementedError, match=r"Euclidean\(2\).*exp_step.*HeatKernel"):
        exp_step.dispatch(object)(Euclidean(2), z[:2], z[:2], z[:2])
    with pytest.raises(NotImplementedError, match=r"Sphere\(51\).*PowerSpherical"):
        WrappedNormal(Sphere(51), Sphere(51).base_point(), 0.1).entropy()


# ---- densities --------------------------------------------------------------------------------


def at_radius(manifold: Manifold, r: np.ndarray) -> torch.Tensor:
    """Points at the given distances from the base point of a sphere."""
    y = torch.zeros(*r.shape, manifold.dim + 1, dtype=torch.float64)
    y[..., 0], y[..., 1] = torch.from_numpy(np.cos(r)), torch.from_numpy(np.sin(r))
    return y


def panels(manifold: Manifold, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes r on [0, π], graded towards its ends, and weights that hold the area of the shell."""
    nodes, weights = leggauss(400)
    u, d = (nodes + 1) / 2, manifold.dim
    reach = min(math.pi, (12 + math.sqrt(d)) * math.sqrt(t))
    half = reach / 2 * u**4
    r = np.concatenate([half, reach - half])
    w = np.tile(weights * reach * u**3, 2)
    return r, w * 2 * math.pi ** (d / 2) / math.gamma(d / 2) * np.sin(r) ** (d - 1)


@cache
def on_shells(law: type, manifold: Manifold, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, their probabilities by quadrature of the density, and log-densities."""
    r, w = panels(manifold, t)
    q = law(manifold, manifold.base_point(dtype=torch.float64), t)
    log_q = q.log_prob(at_radius(manifold, r)).numpy()
    return r, w * np.exp(log_q), log_q


@pytest.mark.parametrize("t", [1e-5, 0.05, 0.6, 3.0, 40.0])
@over(SPHERES)
@ON_SPHERES
def test_densities_integrate_to_one(law, manifold, t):
    _, probability, _ = on_shells(law, manifold, t)
    assert probability.sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("t", [1e-5, 0.05, 0.6, 3.0])
@over(SPHERES)
@ON_SPHERES
def test_radius_has_the_law_of_the_density(law, manifold, t, generator):
    q = law_at(law, manifold, t, generator)
    r = manifold.dist(q.loc, q.sample((20_000,), generator=generator)).cpu().numpy()
    shells, probability, _ = on_shells(law, manifold, t)
    order = np.argsort(shells)
    # Half of a node's weight lies before it.
    below = np.cumsum(probability[order]) - probability[order] / 2
    assert stats.kstest(r, lambda x: np.interp(x, shells[order], below)).pvalue > 1e-3


@over(SPHERES)
@ON_SPHERES
def test_directions_are_uniform(law, manifold, generator):
    n, d = 20_000, manifold.dim
    q = law_at(law, manifold, 0.5, generator)
    u = manifold.logmap(q.loc, q.sample((n,), generator=generator))
    u = u / u.norm(dim=-1, keepdim=True)
    projector = torch.eye(d + 1).to(u) - q.loc[:, None] * q.loc
    assert u.mean(0).abs().max().item() <= 5 / math.sqrt(n * d)
    assert (u.T @ u / n - projector / d).abs().max().item() <= 6 * math.sqrt(2 / n) / d


@over(SPHERES)
@ON_SPHERES
def test_samples_are_continuous_in_the_location(law, manifold, dtype, device, generator):
    """Also next to a pole and to its antipode, where a reflection of a fixed pole would jump."""
    pole = manifold.base_point(dtype=dtype, device=device)
    for start in (pole, -pole):
        steps = 1e-3 * torch.randn(
            20, manifold.dim + 1, dtype=dtype, device=device, generator=generator
        )
        near = manifold.projx(start + steps)
        seed = generator.get_state()
        z, y = (
            law(manifold, x, 0.5).sample(generator=generator.set_state(seed))
            for x in (start.expand_as(near), near)
        )
        assert (z - y).abs().max().item() < 0.1


# ---- power spherical --------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1e-7, 1e-3, 0.1, 1.0, 5.0, 40.0])
@over(SPHERES)
def test_the_time_of_the_power_spherical_law_matches_the_mean_of_the_heat_kernel(
    manifold, t, dtype
):
    d = manifold.dim
    q = PowerSpherical(manifold, manifold.base_point(dtype=dtype), t)
    assert q.concentration.item() == pytest.approx(d / math.expm1(d * t / 2), rel=1e-5, abs=1e-30)
    assert q.mean[0].item() == pytest.approx(math.exp(-d * t / 2), rel=1e-5, abs=1e-30)
    if d * t > 50:  # past what float32 can hold
        return
    again = PowerSpherical.from_concentration(manifold, q.loc, q.concentration)
    assert again.time.item() == pytest.approx(t, rel=1e-5)
    assert again.entropy().item() == pytest.approx(q.entropy().item(), rel=1e-4)


@pytest.mark.parametrize("d", [1, 2, 3, 5, 10, 50])
def test_the_radius_of_the_power_spherical_law_has_the_quantiles_of_its_beta_law(d, dtype):
    """sin²(r/2) ∼ Beta(d/2, κ + d/2), exactly and without sampling."""
    rho = torch.linspace(max(0.05, math.sqrt(d) - 5), math.sqrt(d) + 5, 100, dtype=dtype)[:, None]
    kappa = torch.tensor([0.0, 0.1, 1.0, 7.3, 100.0, 1e4, 1e8], dtype=dtype)
    r = (rho * radius_table(d)(rho, torch.log1p(kappa / d)).exp()).double().numpy()
    law = stats.beta(d / 2, kappa.double().numpy() + d / 2)
    error = law.cdf(np.sin(r / 2) ** 2) - stats.chi(d).cdf(rho.double().numpy())
    assert np.abs(error).max() <= (1e-7 if dtype == torch.float64 else 2e-5)


@pytest.mark.parametrize("kappa", [0.0, 1e-3, 0.5, 7.3, 40.0, 1e3])
@over(SPHERES)
def test_the_power_spherical_density_is_that_of_the_paper(manifold, kappa, device, generator):
    """log q = κ log(1 + ⟨z, x⟩) − (α + β) log 2 − β log π − log Γ(α) + log Γ(α + β), their (6)."""
    z, x = points(manifold, 2, 50, generator=generator, dtype=torch.float64, device=device)
    q = PowerSpherical.from_concentration(manifold, z, kappa)
    beta = manifold.dim / 2
    alpha = beta + kappa
    constant = (alpha + beta) * math.log(2) + beta * math.log(math.pi)
    constant += math.lgamma(alpha) - math.lgamma(alpha + beta)
    expected = kappa * torch.log1p((z * x).sum(-1)) - constant
    assert torch.allclose(q.log_prob(x), expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("kappa", [0.0, 1e-9, 1e-4, 0.0099, 0.0101, 0.5, 7.3, 1e3, 1e6, 1e8])
@over(SPHERES)
def test_the_power_spherical_divergence_is_accurate(manifold, kappa):
    """Against log B(d/2, d/2)/B(α, β) + κ (ψ(α) − ψ(α + β)) to 60 digits, relative to itself."""
    loc = manifold.base_point(dtype=torch.float64)
    concentration = torch.tensor(kappa, dtype=torch.float64, requires_grad=True)
    q = PowerSpherical.from_concentration(manifold, loc, concentration)
    found = kl_divergence(q, RiemannianUniform(manifold))
    (slope,) = torch.autograd.grad(found, concentration)
    with mpmath.workdps(60):
        beta = mpmath.mpf(manifold.dim) / 2
        alpha = beta + mpmath.mpf(kappa)
        expected = mpmath.log(mpmath.beta(beta, beta) / mpmath.beta(alpha, beta))
        expected += mpmath.mpf(kappa) * (mpmath.psi(0, alpha) - mpmath.psi(0, alpha + beta))
        along = mpmath.mpf(kappa) * (mpmath.psi(1, alpha) - mpmath.psi(1, alpha + beta))
    assert found.item() == pytest.approx(float(expected), rel=1e-10, abs=0)
    assert slope.item() == pytest.approx(float(along), rel=2e-9, abs=0)  # as torch's trigamma


@over(SPHERES)
def test_concentration_zero_is_the_uniform_law(manifold, dtype, device, generator):
    kwargs = {"dtype": dtype, "device": device, "generator": generator}
    loc = points(manifold, 3, **kwargs)
    kappa = torch.zeros(3, dtype=dtype, device=device, requires_grad=True)
    q = PowerSpherical.from_concentration(manifold, loc, kappa)
    uniform = RiemannianUniform(manifold)
    x = torch.stack([loc, -loc, points(manifold, 3, **kwargs)])
    assert torch.allclose(q.log_prob(x), uniform.log_prob(x), atol=1e-6)
    assert (kl_divergence(q, uniform) == 0).all()
    assert torch.isinf(q.time).all()
    z = q.rsample((4000,), generator=generator)
    (slope,) = torch.autograd.grad((z * loc).sum(-1).mean(0).sum(), kappa, retain_graph=True)
    # E⟨z, loc⟩ = κ/(κ + d).
    expected = torch.full_like(slope, 1 / manifold.dim)
    assert torch.allclose(slope, expected, rtol=0.1)
    (flat,) = torch.autograd.grad(kl_divergence(q, uniform).sum(), kappa)
    assert (flat == 0).all()


def test_concentrations_that_are_none_are_refused():
    M = Sphere(2)
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"concentration must be at least 0 .* got {bad}"):
            PowerSpherical.from_concentration(M, M.base_point(), bad, validate_args=True)
    q = PowerSpherical.from_concentration(M, M.base_point(), 3.0, validate_args=True)
    with pytest.raises(ValueError, match="value holds points off"):
        q.log_prob(torch.ones(3))
    with pytest.raises(ValueError, match="lives on spheres"):
        PowerSpherical.from_concentration(FlatTorus(1), torch.ones(2), 1.0)


# ---- wrapped normal ---------------------------------------------------------------------------


@over((*FLAT, Sphere(1)))
def test_the_wrapped_normal_is_the_heat_kernel_where_exp_stretches_nothing(
    manifold, dtype, device, generator
):
    q = law_at(WrappedNormal, manifold, [1e-4, 0.3, 2.0, 30.0], generator, dtype=dtype)
    p = HeatKernel(manifold, q.loc, q.time)
    z = p.sample((20,), generator=generator)
    prior = manifold.default_prior()
    assert torch.equal(q.log_prob(z), p.log_prob(z))
    assert torch.equal(q.entropy(), p.entropy())
    assert torch.equal(kl_divergence(q, prior), kl_divergence(p, prior))


@pytest.mark.parametrize("t", [1e-3, 0.2, 1.0, 8.0])
@pytest.mark.parametrize("d", [2, 3, 6])
def test_the_wrapped_normal_density_sums_over_preimages(d, t):
    r = np.array([0.01, 0.4, 1.3, 2.9, 3.1])
    lengths = [r] + [s * r + 2 * math.pi * k for k in range(1, 12) for s in (1, -1)]
    expected = sum(
        (2 * math.pi * t) ** (-d / 2) * np.exp(-(x**2) / (2 * t)) * (x / np.sin(r)) ** (d - 1)
        for x in lengths
    )
    M = Sphere(d)
    q = WrappedNormal(M, M.base_point(dtype=torch.float64), t)
    with np.errstate(divide="ignore"):
        log_expected = np.log(expected)
    regular = np.isfinite(log_expected)
    found = q.log_prob(at_radius(M, r)).numpy()
    assert found[regular] == pytest.approx(log_expected[regular], rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("d", [2, 3, 4, 5, 10, 20])
def test_images_and_expansion_agree_where_one_takes_over(d):
    r = torch.linspace(1e-3, math.pi - 1e-3, 50, dtype=torch.float64)
    t = torch.tensor(wrapped_sphere.LONG, dtype=torch.float64)
    images, expansion = wrapped_sphere.by_images(d, r, t), wrapped_sphere.by_expansion(d, r, t)
    assert (images - expansion).abs().max().item() <= 1e-10


@pytest.mark.parametrize("d", [2, 3, 5, 10])
def test_the_wrapped_normal_tends_to_the_heat_kernel_at_short_times(d):
    M = Sphere(d)
    for t in (1e-3, 1e-5):
        z = at_radius(M, math.sqrt(t) * np.linspace(0.1, 3, 10))
        x = M.base_point(dtype=torch.float64)
        q, p = WrappedNormal(M, x, t), HeatKernel(M, x, t)
        # The kernel has half of the exponent of r/sin r: they differ in order (d − 1) r²/12.
        assert (q.log_prob(z) - p.log_prob(z)).abs().max().item() <= d * d * t


@pytest.mark.parametrize(("d", "limit"), [(2, math.log(4 / math.pi)), (3, math.log(2))])
def test_the_wrapped_normal_does_not_become_uniform(d, limit):
    M = Sphere(d)
    q = WrappedNormal(M, M.base_point(dtype=torch.float64), 1e7)
    assert kl_divergence(q, RiemannianUniform(M)).item() == pytest.approx(limit, abs=1e-6)


def test_the_step_is_in_the_scale_of_the_metric(device, generator):
    class Wide(Sphere):
        """A sphere of radius two, in the coordinates of the unit sphere."""

        def inner(self, x, u, v=None, *, keepdim=False):
            return 4 * super().inner(x, u, v, keepdim=keepdim)

    kwargs = {"dtype": torch.float64, "device": device, "generator": generator}
    x, noise = Sphere(2).random_uniform(50, **kwargs), torch.randn(50, 3, **kwargs)
    t = x.new_full((50,), 0.4)
    # Half as far in angle, which is a quarter of the time.
    assert torch.allclose(
        exp_step(Wide(2), x, t, noise), exp_step(Sphere(2), x, t / 4, noise), atol=1e-12
    )


# ---- divergences ------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1e-6, 1e-3, 0.07, 0.6, 3.0, 40.0, 1e3])
@over(SPHERES)
@ON_SPHERES
def test_divergences_agree_with_quadrature(law, manifold, t):
    q = law(manifold, manifold.base_point(dtype=torch.float64), t)
    _, probability, log_q = on_shells(law, manifold, t)
    expected = (probability * (log_q + math.log(manifold.volume))).sum()
    assert kl_divergence(q, RiemannianUniform(manifold)).item() == pytest.approx(
        expected, rel=1e-7, abs=1e-7
    )


@LAWS
def test_divergences_agree_with_monte_carlo(law, manifold, generator):
    q = law_at(law, manifold, [1e-3, 0.3, 1.5], generator)
    prior = manifold.default_prior()
    estimate, error = heat.kl_monte_carlo(q, prior, 5_000, generator=generator)
    assert ((estimate - kl_divergence(q, prior)).abs() <= 4.5 * error).all()


@LAWS
def test_divergences_have_the_slopes_of_their_values(law, manifold, generator):
    q = law_at(law, manifold, [1e-4, 0.2, 1.3, 4.0], generator)
    prior = manifold.default_prior()

    def divergence(log_time: torch.Tensor) -> torch.Tensor:
        return kl_divergence(law(manifold, q.loc, log_time.exp()), prior)

    log_time = q.time.log().requires_grad_()
    assert torch.autograd.gradcheck(divergence, (log_time,), eps=1e-5, atol=1e-5, rtol=1e-4)


def test_laws_on_two_manifolds_are_not_compared():
    for law in (PowerSpherical, WrappedNormal):
        q = law(Sphere(2), Sphere(2).base_point(), 0.1)
        with pytest.raises(ValueError, match=r"Sphere\(2\).*Sphere\(3\)"):
            kl_divergence(q, RiemannianUniform(Sphere(3)))


# ---- gradients of expectations ----------------------------------------------------------------


@pytest.mark.parametrize("t", [1e-3, 0.4, 3.0])
@over(SPHERES)
@ON_SPHERES
def test_gradients_of_an_expectation_are_right(law, manifold, t, dtype, device, generator):
    """E f(z) for f = ⟨z, a⟩ and f = ⟨z, a⟩², whose zonal parts are integrated by quadrature."""
    n, d = 20_000, manifold.dim

    def moment(t: float, power: int) -> float:
        r, probability, _ = on_shells(law, manifold, t)
        # As powers of 2 sin²(r/2) = 1 − cos r, so that nothing cancels at short times.
        return ((2 * np.sin(r / 2) ** 2) ** power * probability).sum()

    h = 1e-4 * t
    along = [(moment(t + h, k) - moment(t - h, k)) / (2 * h) for k in (1, 2)]
    kwargs = {"dtype": dtype, "device": device, "generator": generator}
    loc, a = manifold.random_uniform(**kwargs), torch.randn(d + 1, **kwargs)
    start = loc.expand(n, d + 1).clone().requires_grad_()
    time = torch.full((n,), t, dtype=dtype, device=device, requires_grad=True)
    z = law(manifold, start, time, validate_args=False).rsample(generator=generator)
    versine = (z - loc).square().sum(-1) / 2

    def close(found: torch.Tensor, expected: torch.Tensor | float) -> None:
        found = found.double()
        error = found.std(0) / math.sqrt(n)
        assert ((found.mean(0) - expected).abs() <= 3.9 * error + 1e-5).all()

    for power, expected in zip((1, 2), along, strict=True):
        (slope,) = torch.autograd.grad(versine.pow(power).sum(), time, retain_graph=True)
        close(slope, expected)
    # E⟨z, a⟩ = (1 − E versine) ⟨loc, a⟩.
    (slope,) = torch.autograd.grad((z @ a).sum(), start)
    close(manifold.proju(loc, slope), (1 - moment(t, 1)) * manifold.proju(loc, a).double())


@LAWS
def test_vmap_and_grad(law, manifold, generator):
    q = law_at(law, manifold, [0.1, 0.4, 1.0], generator)
    z = q.sample(generator=generator)
    prior = manifold.default_prior()

    def value(loc: torch.Tensor, time: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        one = law(manifold, loc, time, validate_args=False)
        return one.log_prob(z) + kl_divergence(one, prior)

    slopes = torch.func.vmap(torch.func.grad(value, argnums=1))(q.loc, q.time, z)
    time = q.time.clone().requires_grad_()
    (expected,) = torch.autograd.grad(value(q.loc, time, z).sum(), time)
    assert torch.allclose(slopes, expected)


# ---- extremes ---------------------------------------------------------------------------------

EXPONENTS = st.floats(-12, 8, allow_nan=False)
DIMENSIONS = st.sampled_from([1, 2, 3, 10])


def finite_everywhere(q: PowerSpherical | WrappedNormal, *leaves: torch.Tensor) -> None:
    """Densities at the location, at its antipode and next to both, samples, divergences."""
    M, loc = q.manifold, q.loc.detach()
    nudge = 1e-7 * torch.randn(loc.shape, dtype=loc.dtype)
    values = torch.stack([loc, -loc, M.projx(loc + nudge), M.projx(-loc + nudge)])
    results = [
        q.log_prob(values),
        q.rsample((5,)),
        q.entropy(),
        kl_divergence(q, RiemannianUniform(M)),
        q.log_prob(q.sample((5,))),
    ]
    for result in results:
        assert torch.isfinite(result).all()
        slopes = torch.autograd.grad(result.sum(), leaves, retain_graph=True, allow_unused=True)
        assert all(slope is None or torch.isfinite(slope).all() for slope in slopes)


@given(d=DIMENSIONS, exponent=EXPONENTS | st.none())
def test_the_power_spherical_law_is_finite_for_every_concentration(d, exponent, dtype):
    M = Sphere(d)
    loc = M.random_uniform(3, dtype=dtype).requires_grad_()
    kappa = 0.0 if exponent is None else 10.0**exponent
    concentration = torch.full((3,), kappa, dtype=dtype, requires_grad=True)
    q = PowerSpherical.from_concentration(M, loc, concentration)
    finite_everywhere(q, loc, concentration)
    assert torch.isfinite(q.mean).all()


@given(d=DIMENSIONS, exponent=EXPONENTS)
@ON_SPHERES
def test_laws_are_finite_at_every_time(law, d, exponent, dtype):
    M = Sphere(d)
    loc = M.random_uniform(3, dtype=dtype).requires_grad_()
    time = torch.full((3,), 10.0**exponent, dtype=dtype, requires_grad=True)
    finite_everywhere(law(M, loc, time), loc, time)


# ---- models -----------------------------------------------------------------------------------


@LAWS
def test_a_model_trains(law, manifold):
    x = torch.rand(32, 12)
    ambient = math.prod(manifold.ambient_shape)
    vae = DeltaVAE(manifold, MLP(12, (16,)), MLP(ambient, (16,)), posterior=law)
    adam = torch.optim.Adam(vae.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = vae.loss(x)["loss"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert type(vae.posterior_law(x)) is law
    terms = vae.elbo(x)
    assert torch.isfinite(terms["elbo"]).all()
    assert torch.isfinite(vae.log_likelihood(x, 5)).all()


@pytest.mark.parametrize("posterior", POSTERIORS[1:])
def test_every_posterior_can_be_configured(posterior):
    config = VAE(posterior=posterior, encoder_hidden=(8,), decoder_hidden=(8,))
    vae = run.delta_vae.build_model(
        run.delta_vae.resolve(config, run.delta_vae.load_data(config)), (8, 8)
    )
    law = type(vae.posterior(torch.rand(2, 8, 8)))
    assert law.__name__.lower() == posterior.replace("-", "")


def test_a_posterior_that_does_not_fit_is_refused_before_training():
    config = VAE(posterior="power-spherical", manifold="torus:2", likelihood="gaussian")
    with pytest.raises(ValueError, match=r"lives on spheres, got FlatTorus\(2\)"):
        run.delta_vae.build_model(config, (8, 8))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
@ON_SPHERES
def test_a_compiled_model_is_the_same_model(law):
    x = torch.randn(16, 6)
    vae = DeltaVAE(Sphere(2), MLP(6, (16,)), MLP(3, (16,)), posterior=law)
    compiled = torch.compile(vae, backend="aot_eager")
    for size in (16, 9):
        losses, slopes = [], []
        for model in (vae, compiled):
            torch.manual_seed(size)
            loss = model(x[:size])["loss"]
            losses.append(loss.item())
            slopes.append(torch.autograd.grad(loss, list(vae.parameters())))
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        for a, b in zip(*slopes, strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("t", [1e-5, 0.05, 0.6, 3.0])
@over(SPHERES)
@ON_SPHERES
def test_radius_has_the_law_of_the_density_to_many_samples(
    law, manifold, t, dtype, device, generator
):
    loc = manifold.base_point(dtype=dtype, device=device)
    z = law(manifold, loc, t).sample((200_000,), generator=generator)
    r = manifold.dist(loc.double(), z.double()).cpu().numpy()
    shells, probability, _ = on_shells(law, manifold, t)
    order = np.argsort(shells)
    below = np.cumsum(probability[order]) - probability[order] / 2
    assert stats.kstest(r, lambda x: np.interp(x, shells[order], below)).pvalue > 1e-4


# ---- wrapped normal beyond spheres ------------------------------------------------------------


@pytest.mark.parametrize(
    "manifold",
    [SO3(), RealProjective(2), KleinBottle(), Product(Sphere(2), SO3())],
    ids=str,
)
def test_wrapped_normal_on_rotations_quotients_and_products(manifold, generator):
    """The density integrates to one, is one for all images, and is that of the samples."""
    loc = manifold.random_uniform(generator=generator, dtype=torch.float64)
    time = batched_time(manifold, loc.new_tensor(0.8))
    q = WrappedNormal(manifold, loc, time)
    y = manifold.random_uniform(20_000, generator=generator, dtype=torch.float64)
    relative = q.log_prob(y).exp() * manifold.volume
    error = relative.std() / math.sqrt(len(y))
    assert abs(relative.mean() - 1) <= 4.5 * error
    # E_q of a bounded function, from samples and from the density.
    samples = q.sample((20_000,), generator=generator)
    direct = torch.cos(manifold.dist(loc, samples))
    weighted = relative * torch.cos(manifold.dist(loc, y))
    spread = (direct.var() / len(direct) + weighted.var() / len(y)).sqrt()
    assert abs(direct.mean() - weighted.mean()) <= 4.5 * spread
    if isinstance(manifold, Quotient):
        assert torch.allclose(q.log_prob(y[:50]), q.log_prob(manifold.images(y[:50])[1]))
