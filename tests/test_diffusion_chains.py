"""Chains of diffusion steps: composed, replayed, inverted; their laws; and the collapse."""

import math
from itertools import pairwise

import pytest
import torch

from manifold_ae import diffusion, groups
from manifold_ae.diffusion import GaussianAffineLaw, Schedule, exact, samplers

LINEAR, COSINE = Schedule.linear(1000), Schedule.cosine(50)


def normal(generator, *shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, device=generator.device, generator=generator)


def gap(x, y):
    return ((x - y).abs().max() / y.abs().max().clamp_min(1)).item()


def covariance(n, generator):
    a = normal(generator, n, n)
    return a @ a.mT / n + 0.1 * torch.eye(n, dtype=a.dtype, device=a.device)


def two_modes(schedule, n=3):
    means = 1.5 * torch.ones(2, n, dtype=torch.float64) * torch.tensor([[1.0], [-1.0]])
    return exact.mixture(means, torch.full((2, n), 0.05), schedule)


def random_elements(generator, *batch, count, n=4, dtype=torch.float64):
    """Elements whose scales stay about one, so that long products do too."""
    log_scale = 0.1 * normal(generator, *batch, count, 1)
    return torch.cat([log_scale.exp(), normal(generator, *batch, count, n)], -1).to(dtype)


# ---- composing ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16, 33])
def test_a_chain_composes_to_the_product_of_its_elements(count, generator, dtype):
    g = random_elements(generator, 6, count=count, dtype=dtype)
    G, product, prefixes = groups.ScaleTranslation(4), g[:, 0], [g[:, 0]]
    for k in range(1, count):
        product = G.compose(g[:, k], product)
        prefixes.append(product)
    tolerance = 200 * torch.finfo(dtype).eps
    assert gap(diffusion.compose(g), product) <= tolerance
    assert gap(diffusion.cumulative(g), torch.stack(prefixes, 1)) <= tolerance
    matrices = groups.cumulative(G.matrix(g))
    assert gap(G.matrix(diffusion.cumulative(g)), matrices) <= tolerance


def test_products_of_scales_out_of_any_range_stay_finite():
    """Σ b_k / (s_1 … s_k), the other way to write them, divides by what underflows."""
    g = torch.tensor([[0.1, 1.0]], dtype=torch.float64).expand(1000, 2)
    assert gap(diffusion.compose(g), torch.tensor([0.0, 1 / 0.9], dtype=torch.float64)) <= 1e-14
    assert diffusion.cumulative(g).isfinite().all()


def test_a_thousand_steps_collapse_to_one_element(generator):
    """T noising steps are (√ᾱ_T, Σ √(ᾱ_T/ᾱ_i) √(1 − α_i) ε_i), and act as all of them do."""
    x = normal(generator, 20, 6)
    chain = samplers.vp_chain(LINEAR, x, generator=generator)
    G = chain.group
    assert gap(G.act(chain.element, x), chain.end) <= 1e-12
    assert gap(diffusion.cumulative(chain.elements)[:, -1], chain.element) <= 1e-12
    assert math.isclose(chain.element[0, 0].item(), LINEAR.alpha_bar[-1].sqrt(), rel_tol=1e-12)
    beta, alpha_bar = LINEAR.beta[1:].to(x), LINEAR.alpha_bar.to(x)
    noise = chain.elements[..., 1:] / beta.sqrt()[:, None]  # what was drawn
    weights = (alpha_bar[-1] / alpha_bar[1:]).sqrt() * beta.sqrt()
    assert gap(chain.element[:, 1:], torch.einsum("k,bkn->bn", weights, noise)) <= 1e-12
    assert math.isclose(weights.square().sum().item(), 1 - alpha_bar[-1].item(), rel_tol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_sampled_chains_are_composed_replayed_and_inverted(eta, generator):
    x = normal(generator, 30, 3)
    chain = samplers.ddim_chain(
        two_modes(LINEAR), LINEAR, x, LINEAR.times(100), eta=eta, generator=generator
    )
    G = chain.group
    assert chain.times == LINEAR.times(100) and len(chain) == 100
    assert gap(G.act(chain.element, chain.start), chain.end) <= 1e-12
    assert gap(diffusion.replay(chain.elements, x), chain.states) == 0
    back = chain.inverse()
    assert gap(diffusion.replay(back.elements, chain.end), back.states) <= 1e-10
    assert gap(G.act(back.element, chain.end), x) <= 1e-10
    assert back.times == chain.times[::-1]
    # Where x leads by the elements of another start is not where the process leads it.
    moved = diffusion.replay(chain.elements, x.flip(0))[:, -1]
    assert gap(moved, chain.end.flip(0)) > 0.1


def test_samplers_are_the_actions_of_their_elements(generator, dtype):
    x = normal(generator, 10, 3, dtype=dtype)
    denoiser = two_modes(COSINE)
    for sampler, recorder, options in (
        (samplers.ddim, samplers.ddim_chain, {"eta": 0.7}),
        (samplers.ddpm, samplers.ddpm_chain, {"variance": "beta"}),
        (samplers.ddpm, samplers.ddpm_chain, {"variance": "posterior"}),
    ):
        state = generator.get_state()
        end = sampler(denoiser, COSINE, x, generator=generator, **options)
        generator.set_state(state)
        chain = recorder(denoiser, COSINE, x, generator=generator, **options)
        assert torch.equal(chain.end, end) and end.dtype == dtype
        assert chain.states.shape == (10, 51, 3) and chain.elements.shape == (10, 50, 4)


def test_ddim_is_inverted_without_a_record(generator):
    x = normal(generator, 20, 3)
    denoiser, times = two_modes(LINEAR), LINEAR.times(100)
    end = samplers.ddim(denoiser, LINEAR, x, times)
    assert gap(samplers.ddim_inversion(denoiser, LINEAR, end, times), x) <= 1e-10
    with pytest.raises(ValueError, match="is not inverted after 2 iterations"):
        samplers.ddim_inversion(denoiser, LINEAR, end, times, iterations=2)


def law_of_a_step(schedule, t, s, mean, variances, eta):
    """That of a DDIM step on Gaussian data: ε̂ = (x − √ᾱ m) √(1 − ᾱ)/D, put into the step."""
    late = schedule.alpha_bar[t]
    slope = (1 - late).sqrt() / (late * variances + 1 - late)
    one, zero = torch.ones_like(mean), torch.zeros_like(mean)
    a, *along = diffusion.ddim_step(schedule, t, s, one, eta, zero)
    spread = diffusion.ddim_step(schedule, t, s, zero, eta, one)[1:]
    pull = torch.stack(along) * slope
    return GaussianAffineLaw(a + pull, -pull * late.sqrt() * mean, spread.square())


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_what_samplers_draw_has_the_law_that_steps_compose_to(eta, generator):
    """On Gaussian data, with noise too, a whole chain is one law; with many steps the data's."""
    mean, variances = (
        torch.tensor([1.0, -0.5, 0.0]).double(),
        torch.tensor([0.1, 1.0, 3.0]).double(),
    )
    zero, one, errors = torch.zeros(3).double(), torch.ones(3).double(), []
    for calls in (50, 250):
        law = GaussianAffineLaw(one, zero, zero)
        for t, s in pairwise(LINEAR.times(calls)):
            law = law_of_a_step(LINEAR, t, s, mean, variances, eta) @ law
        found = law.act(zero, one)
        errors.append((found[1] / variances - 1).abs().max().item())
        if calls == 50:
            expected, n = found, 10_000
    assert errors[1] < 0.3 * errors[0] and errors[1] < 0.1
    x, denoiser = normal(generator, n, 3), exact.gaussian(mean, variances, LINEAR)
    options = {"eta": eta, "generator": generator}
    end = samplers.ddim(denoiser, LINEAR, x, LINEAR.times(50), **options).cpu()
    assert ((end.mean(0) - expected[0]).abs() <= 5 * (expected[1] / n).sqrt()).all()
    assert (end.var(0) / expected[1] - 1).abs().max() <= 5 * math.sqrt(2 / n)


def test_progress_shows_a_bar(capsys):
    x = torch.zeros(1, 1)
    samplers.ddim(exact.gaussian([0.0], [1.0], COSINE), COSINE, x, (50, 20, 0), progress=True)
    assert "denoising" in capsys.readouterr().err
    samplers.ddim(exact.gaussian([0.0], [1.0], COSINE), COSINE, x, (50, 20, 0))
    assert capsys.readouterr().err == ""


# ---- laws -----------------------------------------------------------------------------------


def random_law(generator, n=3, dtype=torch.float64):
    s, m, v = (normal(generator, k, dtype=dtype) for k in (1, n, 1))
    return GaussianAffineLaw(s.exp(), m, v.square())


def same(p, q):
    return max(gap(getattr(p, name), getattr(q, name)) for name in ("scale", "mean", "variance"))


def test_laws_form_a_monoid(generator, dtype, tolerance):
    p, q, r = (random_law(generator, dtype=dtype) for _ in range(3))
    one = GaussianAffineLaw.identity(3, dtype, generator.device)
    assert same((p @ q) @ r, p @ (q @ r)) <= tolerance
    assert same(p @ one, p) == same(one @ p, p) == 0
    g, h = (random_elements(generator, count=1, n=3, dtype=dtype)[0] for _ in range(2))
    product = groups.ScaleTranslation(3).compose(g, h)
    law = GaussianAffineLaw.of
    assert same(law(g) @ law(h), law(product)) <= tolerance
    assert same(law(g) @ law(g).inverse(), one) <= tolerance
    with pytest.raises(ValueError, match="a law with noise has no inverse"):
        p.inverse()


def test_the_law_of_a_thousand_noising_steps_is_the_marginal():
    law = GaussianAffineLaw.identity(2, torch.float64)
    for t in range(1, 1001):
        law = GaussianAffineLaw.vp(LINEAR, t, 2) @ law
    assert same(law, GaussianAffineLaw.vp(LINEAR, 1000, 2, s=0)) <= 1e-12
    assert math.isclose(law.variance.item(), 1 - LINEAR.alpha_bar[-1].item(), rel_tol=1e-12)
    mean, variance = law.act(torch.ones(2).double(), torch.full((1,), 0.5).double())
    assert gap(mean, law.scale * torch.ones(2)) == 0
    assert math.isclose(variance.item(), (0.5 * law.scale**2 + law.variance).item())


@pytest.mark.parametrize("diagonal", [False, True])
def test_samples_of_a_product_have_its_law(diagonal, generator):
    p, q = random_law(generator), random_law(generator)
    if diagonal:
        p = GaussianAffineLaw(normal(generator, 3).exp(), p.mean, normal(generator, 3).square())
    G = (p @ q).group
    n = 20_000
    first = q.sample(n, generator=generator)
    if diagonal:  # in the group of the other
        first = torch.cat([first[:, :1].expand(n, 3), first[:, 1:]], -1)
    drawn = G.compose(p.sample(n, generator=generator), first)
    law = p @ q
    b = drawn[:, -3:]
    assert gap(drawn[:, :-3], law.scale.expand(n, -1)) <= 1e-12
    error = 5 * law.variance.sqrt() / math.sqrt(n)
    assert ((b.mean(0) - law.mean).abs() <= error).all()
    assert (b.var(0) / law.variance - 1).abs().max() <= 5 * math.sqrt(2 / n)


@pytest.mark.parametrize(
    ("s", "m", "v"),
    [
        ([0.0], [1.0, 2.0], [1.0]),
        ([1.0], [1.0, 2.0], [-1.0]),
        ([1.0, 1.0, 1.0], [1.0, 2.0], [1.0]),
        ([1.0], [1.0, math.nan], [1.0]),
    ],
)
def test_what_is_no_law_is_refused(s, m, v):
    with pytest.raises(ValueError, match=r"expected|not finite"):
        GaussianAffineLaw(*map(torch.tensor, (s, m, v)))


# ---- the collapse for Gaussian data ---------------------------------------------------------


@pytest.mark.parametrize("schedule", [LINEAR, Schedule.cosine(1000)], ids=["linear", "cosine"])
def test_a_chain_on_gaussian_data_is_one_map_for_all_states(schedule, generator):
    n, times = 4, schedule.times(200)
    mean, cov = normal(generator, n).cpu(), covariance(n, generator).cpu()
    x = normal(generator, 50, n)
    end = samplers.ddim(exact.gaussian(mean, cov, schedule), schedule, x, times)
    one = diffusion.gaussian_chain(schedule, times, mean, cov).to(x.device)
    assert gap(groups.Affine(n).act(one, x), end) <= 1e-12
    # Diagonal, in a group of its own, and in that of all affine maps.
    variances = torch.diagonal(cov)
    end = samplers.ddim(exact.gaussian(mean, variances, schedule), schedule, x, times)
    G = groups.ScaleTranslation(n, diagonal=True)
    one = diffusion.gaussian_chain(schedule, times, mean, variances).to(x.device)
    assert gap(G.act(one, x), end) <= 1e-12
    full = diffusion.gaussian_chain(schedule, times, mean, torch.diag(variances)).to(x.device)
    assert gap(G.matrix(one), full) <= 1e-12


def test_the_step_is_the_printed_formula_and_steps_compose(generator):
    mean, variances = normal(generator, 3).cpu(), torch.tensor([0.01, 1.0, 4.0]).double()
    t, s = 700, 300
    late, early = LINEAR.alpha_bar[t], LINEAR.alpha_bar[s]
    a = (early / late).sqrt()
    c = (1 - early).sqrt() - a * (1 - late).sqrt()
    D = late * variances + 1 - late
    scale = a + c * (1 - late).sqrt() / D
    b = -c * (late * (1 - late)).sqrt() * mean / D
    one = diffusion.gaussian_step(LINEAR, t, s, mean, variances)
    assert gap(one, torch.cat([scale, b])) <= 1e-12
    G = groups.ScaleTranslation(3, diagonal=True)
    parts = [
        diffusion.gaussian_step(LINEAR, *pair, mean, variances) for pair in ((t, 400), (400, s))
    ]
    together = diffusion.gaussian_chain(LINEAR, (t, 400, s), mean, variances)
    assert gap(G.compose(parts[1], parts[0]), together) <= 1e-14
    # Of unit variance: the cosine of the difference of the angles arccos √ᾱ.
    angle = torch.acos(late.sqrt()) - torch.acos(early.sqrt())
    assert math.isclose(one[1].item(), math.cos(angle), rel_tol=1e-12)


def test_all_steps_together_map_the_prior_to_the_data():
    """In the limit of many steps the scale is √(λ/(ᾱλ + 1 − ᾱ)); the error falls as 1/T."""
    variances = torch.tensor([0.25, 1.0, 4.0]).double()
    errors = []
    for steps in (250, 500, 1000):
        schedule = Schedule.linear(1000)
        times = schedule.times(steps)
        one = diffusion.gaussian_chain(schedule, times, torch.zeros(3), variances)
        end = schedule.alpha_bar[-1]
        limit = (variances / (end * variances + 1 - end)).sqrt()
        errors.append((one[:3] / limit - 1).abs().max().item())
    assert errors[2] < 0.01
    assert errors[0] > 1.8 * errors[1] > 3 * errors[2]


def test_elements_in_the_form_of_the_noise_differ_from_state_to_state(generator):
    x = normal(generator, 2, 3)
    denoiser = exact.gaussian(torch.zeros(3), torch.full((3,), 0.3), COSINE)
    first, second = samplers.ddim_chain(denoiser, COSINE, x, (50, 25)).elements[:, 0]
    assert gap(first[1:], second[1:]) > 0.1 and first[0] == second[0]


def test_the_collapse_refuses_what_has_no_inverse():
    with pytest.raises(ValueError, match="covariance is singular"):
        diffusion.gaussian_step(LINEAR, 5, 0, [0.0, 0.0], [1.0, 0.0])
    assert diffusion.gaussian_step(LINEAR, 5, 1, [0.0, 0.0], [1.0, 0.0]).isfinite().all()
    with pytest.raises(ValueError, match="expected 0 ≤ s < t ≤ 1000"):
        diffusion.gaussian_step(LINEAR, 1001, 0, [0.0], [1.0])


# ---- bad input ------------------------------------------------------------------------------


def zero_noise(x, t):
    return torch.zeros_like(x)


@pytest.mark.parametrize(
    "times", [(), (50,), (0, 50), (50, 50, 0), (51, 0), (50, -1), (50, 2.5), (50, 10, 20, 0)]
)
def test_times_that_are_no_chain_are_refused(times):
    x = torch.zeros(1, 2)
    for sampler in (samplers.ddim, samplers.ddpm, samplers.ddim_chain, samplers.ddim_inversion):
        with pytest.raises(ValueError, match="expected"):
            sampler(zero_noise, COSINE, x, times)
    if times != (0, 50):
        with pytest.raises(ValueError, match="expected"):
            samplers.vp_chain(COSINE, torch.ones(1, 2), times[::-1])


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        (lambda x, t: torch.full_like(x, math.nan), "predicted_noise has 4 of 4 .* at t=50"),
        (lambda x, t: x if t > 20 else x / 0, "not finite at t=20"),
        (lambda x, t: x[..., :1], r"returned \(2, 1\)"),
        (lambda x, t: x.double(), "returned .*float64"),
    ],
)
def test_denoisers_that_fail_are_named_with_the_time(denoiser, message):
    x = torch.ones(2, 2)
    for sampler in (samplers.ddim, samplers.ddpm):
        with pytest.raises(ValueError, match=message):
            sampler(denoiser, COSINE, x, (50, 20, 0))


def test_starts_that_are_not_finite_or_scaled_are_refused():
    with pytest.raises(ValueError, match="x has 1 of 2 values that are not finite"):
        samplers.ddim(zero_noise, COSINE, torch.tensor([[0.0, math.nan]]))
    with pytest.raises(ValueError, match="root mean square 200"):
        samplers.vp_chain(COSINE, torch.full((1, 2), 200.0))
    with pytest.raises(ValueError, match="sigmas has shape"):
        samplers.ve_chain([], torch.zeros(1, 2))
    with pytest.raises(ValueError, match="eta=-1"):
        samplers.ddim(zero_noise, COSINE, torch.zeros(1, 2), eta=-1)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (4, 1), ()])
def test_what_is_no_sequence_of_elements_is_refused(shape):
    elements = torch.ones(shape)
    for function in (
        diffusion.compose,
        diffusion.cumulative,
        diffusion.invert,
        lambda g: diffusion.replay(g, torch.zeros(2)),
    ):
        with pytest.raises(ValueError, match=r"elements has shape .* expected \(\*, K, n \+ 1\)"):
            function(elements)
    with pytest.raises(ValueError, match="states has shape"):
        diffusion.Chain((1, 0), torch.zeros(3, 2), torch.ones(1, 3))
    with pytest.raises(ValueError, match="not positive"):
        diffusion.invert(torch.zeros(2, 3))
