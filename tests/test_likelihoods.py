"""Observation models by other routes: sums and quadrature, scipy, limits, extremes, gaps."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import nn
from torch.func import functional_call, vmap

from manifold_ae.models import likelihoods
from manifold_ae.models.likelihoods import (
    Bernoulli,
    Gaussian,
    LearnedGaussian,
    Likelihood,
    NegativeBinomial,
    Poisson,
    StudentT,
    VonMises,
)
from manifold_ae.numerics import log_gamma_ratio

KINDS = (Gaussian, LearnedGaussian, StudentT, Bernoulli, Poisson, NegativeBinomial, VonMises)
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
COUNTS = pytest.mark.parametrize("kind", [Poisson, NegativeBinomial], ids=lambda kind: kind.name)


def array(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()


def values(likelihood: Likelihood, *shape: int, **kwargs) -> torch.Tensor:
    """Data of the kind that a likelihood is for."""
    noise = torch.rand(*shape, *likelihood.event_shape, **kwargs)
    if likelihood.counts:
        return (10 * noise).floor()
    return noise.round() if likelihood.name == "bernoulli" else 6 * noise - 3


def output_of(likelihood: Likelihood, *shape: int, **kwargs) -> torch.Tensor:
    several = () if likelihood.numbers == 1 else (likelihood.numbers,)
    return torch.randn(*shape, *several, *likelihood.event_shape, **kwargs)


def stirred(likelihood: Likelihood, generator: torch.Generator) -> Likelihood:
    """With other parameters than at the start."""
    for parameter in likelihood.parameters():
        nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)
    return likelihood


# ---- the laws -------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [-0.2, 0.0, 0.3])
@pytest.mark.parametrize("log_rate", [-3.0, 0.0, 2.5])
def test_counts_sum_to_one_and_have_the_mean_and_variance_they_tell(log_rate, quick, device):
    likelihood = NegativeBinomial(1).to(device, torch.float64)
    nn.init.constant_(likelihood.log_dispersion, quick)
    output = torch.tensor([log_rate], dtype=torch.float64, device=device)
    x = torch.arange(20_000, dtype=torch.float64, device=device)[:, None]
    p = likelihood.log_prob(output, x).exp()
    mean = likelihood.mean(output)
    assert p.sum().item() == pytest.approx(1, abs=1e-9)
    assert (p @ x).item() == pytest.approx(mean.item(), rel=1e-8)
    second = (p @ (x - mean).square()).item()
    assert second == pytest.approx(likelihood.variance(mean).item(), rel=1e-7)


@pytest.mark.parametrize("quick", [-0.5, 0.0, 0.2, 2.0])
@pytest.mark.parametrize("vector", [(0.0, 0.0), (0.3, -0.1), (-2.0, 5.0), (40.0, 1.0)])
def test_angles_have_a_density_that_is_von_mises(vector, quick, device):
    likelihood = VonMises(1).to(device, torch.float64)
    nn.init.constant_(likelihood.log_concentration, quick)
    output = torch.tensor(vector, dtype=torch.float64, device=device)[:, None]
    direction = math.atan2(vector[1], vector[0])
    length = math.hypot(*vector)
    kappa = likelihood.concentration.item() * length / math.hypot(1, length)
    # Trapezoids on a circle converge faster than any power.
    grid = torch.linspace(-math.pi, math.pi, 4097, dtype=torch.float64, device=device)[:-1, None]
    log_p = likelihood.log_prob(output, grid)
    assert log_p.exp().mean().item() * 2 * math.pi == pytest.approx(1, abs=1e-6)
    expected = kappa * np.cos(array(grid)[:, 0] - direction) - math.log(2 * math.pi)
    expected -= math.log(special.i0e(kappa)) + kappa
    assert array(log_p) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    if 0 < kappa < 100:
        scipy = stats.vonmises(kappa, loc=direction).logpdf(array(grid)[:, 0])
        assert array(log_p) == pytest.approx(scipy, abs=1e-6)
    # One turn further is the same angle.
    assert torch.allclose(log_p, likelihood.log_prob(output, grid + 2 * math.pi))


def test_concentrated_angles_are_gaussian(device, dtype):
    """In float32 too, where κ(cos δ − 1) is the difference of numbers that are all but equal."""
    likelihood = VonMises(1).to(device, dtype)
    nn.init.constant_(likelihood.log_concentration, 10.0)
    output = torch.tensor([[1e5], [0.0]], dtype=dtype, device=device)
    kappa = likelihood.concentration.item()
    assert 9e3 < kappa < 1e4
    x = torch.tensor([0.0, 0.01, -0.03], dtype=dtype, device=device)[:, None]
    found = likelihood.log_prob(output, x)
    expected = stats.norm(0, kappa**-0.5).logpdf(array(x)[:, 0])
    assert array(found) == pytest.approx(expected, abs=2e-2 if dtype == torch.float32 else 1e-3)


@pytest.mark.parametrize("tail", [-1.0, 0.0, 1.0])
def test_densities_of_student_s_t_integrate_to_one(tail, device):
    likelihood = StudentT(1).to(device, torch.float64)
    nn.init.constant_(likelihood.log_tail, tail)
    output = torch.tensor([0.7], dtype=torch.float64, device=device)

    def density(x: float) -> float:
        at = torch.tensor([x], dtype=torch.float64, device=device)
        return likelihood.log_prob(output, at).exp().item()

    scale = likelihood.scale.item()
    # Heavy tails: the range is doubled, and what lies beyond is scipy's.
    far = 1e4 * scale
    edges = 0.7 + np.array([-far, -30 * scale, 0.0, 30 * scale, far])
    mass = sum(integrate.quad(density, a, b, limit=200)[0] for a, b in pairwise(edges))
    law = stats.t(likelihood.degrees_of_freedom.item(), 0.7, scale)
    assert mass + 2 * law.sf(0.7 + far) == pytest.approx(1, abs=1e-6)
    x = 0.7 + scale * np.array([-2e6, -9e3, -1.0, 0.0, 0.1, 1.1e4, 1e9])
    found = likelihood.log_prob(output, torch.tensor(x, device=device)[:, None])
    assert array(found) == pytest.approx(law.logpdf(x), rel=1e-8)


def test_light_tails_are_gaussian_and_small_dispersions_poisson(device):
    t, gaussian = StudentT(3).to(device), LearnedGaussian(3).to(device)
    nn.init.constant_(t.log_tail, 5.0)
    x = torch.tensor([[-0.5, 0.1, 0.4]], device=device)
    zero = torch.zeros(1, 3, device=device)
    assert t.log_prob(zero, x).item() == pytest.approx(gaussian.log_prob(zero, x).item(), abs=0.02)
    wide, poisson = NegativeBinomial(3).to(device), Poisson(3).to(device)
    nn.init.constant_(wide.log_dispersion, -50.0)
    x = torch.tensor([[0.0, 1.0, 4.0]], device=device)
    assert wide.dispersion.max() < 1.1e-4
    assert wide.log_prob(zero, x).item() == pytest.approx(
        poisson.log_prob(zero, x).item(), abs=2e-3
    )


@pytest.mark.parametrize("r", [0.01, 0.7, 10.0, 15.9, 16.1, 1e4])
def test_ratios_of_gamma_functions_for_any_step(r, dtype, device):
    steps = torch.tensor([0.0, 1.0, 3.0, 200.0, 1e4], dtype=dtype, device=device)
    found = log_gamma_ratio(torch.tensor(r, dtype=dtype, device=device), steps)
    b = array(steps)
    expected = special.gammaln(r + b) - special.gammaln(r)
    slack = 1e-5 if dtype == torch.float32 else 1e-11
    assert array(found) == pytest.approx(expected, rel=slack, abs=slack)


@COUNTS
def test_exposure_multiplies_the_rate(kind, dtype, device, generator):
    likelihood = stirred(kind((2, 3)).to(device, dtype), generator)
    where = {"dtype": dtype, "device": device, "generator": generator}
    output, x = output_of(likelihood, 4, 5, **where), values(likelihood, 5, **where)
    exposure = 0.2 + 3 * torch.rand(5, **where)
    rate = likelihood.mean(output)
    mean = likelihood.mean(output, exposure)
    assert torch.allclose(mean, rate * exposure[:, None, None])
    law = stats.poisson(array(mean))
    if kind is NegativeBinomial:
        alpha = array(likelihood.dispersion)
        law = stats.nbinom(1 / alpha, 1 / (1 + alpha * array(mean)))
    found = likelihood.log_prob(output, x, exposure)
    rel = 1e-4 if dtype == torch.float32 else 1e-9
    assert array(found) == pytest.approx(law.logpmf(array(x)).sum((-1, -2)), rel=rel)
    log_prob, error = likelihood.batch_terms(output, x, exposure)
    assert log_prob.item() == pytest.approx(found.mean().item(), rel=1e-5)
    assert error.item() == pytest.approx((mean - x).square().mean().item(), rel=1e-5)
    # An exposure of one is none.
    ones = torch.ones(5, dtype=dtype, device=device)
    assert torch.equal(likelihood.log_prob(output, x, ones), likelihood.log_prob(output, x))
    drawn = likelihood.draw(output[:1].expand(2000, -1, -1, -1), exposure, generator=generator)
    assert array(drawn.mean(0)) == pytest.approx(array(mean[0]), rel=0.2, abs=0.1)


@EVERY_KIND
def test_exposure_is_refused_where_there_is_no_rate(kind):
    likelihood = kind(3)
    output, x = output_of(likelihood, 2), values(likelihood, 2)
    if likelihood.takes_exposure:
        assert likelihood.log_prob(output, x, torch.ones(2)).shape == (2,)
        return
    with pytest.raises(ValueError, match=rf"exposure of shape \(2,\): likelihood '{kind.name}'"):
        likelihood.log_prob(output, x, torch.ones(2))
    with pytest.raises(ValueError, match="has no rate"):
        likelihood.batch_terms(output, x, torch.ones(2))


@COUNTS
def test_dispersion_is_one_where_the_law_suits_and_more_where_it_does_not(kind, generator, device):
    likelihood = kind(20).to(device)
    output = torch.linspace(-1, 2, 20, device=device).expand(3000, 20)
    exposure = 0.5 + torch.rand(3000, device=device)
    x = likelihood.draw(output, exposure, generator=generator)
    found = likelihood.checks(output, x, exposure)["dispersion"]
    assert found.shape == (3000,)
    assert found.mean().item() == pytest.approx(1, abs=0.05)
    wider = NegativeBinomial(20).to(device)
    nn.init.constant_(wider.log_dispersion, 0.3)
    x = wider.draw(output, exposure, generator=generator)
    assert likelihood.checks(output, x, exposure)["dispersion"].mean() > 2


@pytest.mark.parametrize("kappa", [1e-3, 0.5, 4.0, 3e3])
def test_draws_of_angles_have_their_law(kappa, device, generator):
    n = 20_000
    likelihood = VonMises(1).to(device)
    with torch.no_grad():
        likelihood.log_concentration.fill_(10.0)
    greatest = likelihood.concentration.item()
    length = (kappa / greatest) / math.sqrt(1 - (kappa / greatest) ** 2)
    output = length * torch.tensor([[math.cos(3.0)], [math.sin(3.0)]], device=device)
    state = generator.get_state()
    with torch.no_grad():
        x = likelihood.draw(output.expand(n, 2, 1), generator=generator)
        again = likelihood.draw(output.expand(n, 2, 1), generator=generator.set_state(state))
    assert torch.equal(x, again)
    assert x.shape == (n, 1)
    assert ((x >= -math.pi) & (x <= math.pi)).all()
    about = np.angle(np.exp(1j * (array(x)[:, 0] - 3.0)))
    assert stats.kstest(about, lambda a: von_mises_cdf(a, kappa)).pvalue > 1e-4


def von_mises_cdf(a: np.ndarray, kappa: float) -> np.ndarray:
    """The distribution function of angles about 0, cut at ±π, by quadrature."""
    grid = np.linspace(-np.pi, np.pi, 200_001)
    density = np.exp(kappa * (np.cos(grid) - 1))
    cumulated = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return np.interp(a, grid, cumulated / cumulated[-1])


def test_errors_of_angles_go_the_shorter_way(device):
    likelihood = VonMises(2).to(device)
    directions = torch.tensor([3.0, -1.0], device=device)
    output = torch.stack([directions.cos(), directions.sin()])
    x = torch.tensor([[-3.0, -1.0 + 2 * math.pi]], device=device)
    expected = (2 * math.pi - 6) ** 2 / 2
    assert torch.allclose(likelihood.mean(output), directions)
    assert likelihood.error(output[None], x).item() == pytest.approx(expected, rel=1e-4)
    assert likelihood.batch_terms(output[None], x)[1].item() == pytest.approx(expected, rel=1e-4)


# ---- extremes -------------------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("parameter", [-1e6, -1.0, 0.0, 1.0, 1e6])
def test_values_and_slopes_are_finite_at_extremes(kind, parameter, dtype, device):
    likelihood = kind(6).to(device, dtype)
    for own in likelihood.parameters():
        nn.init.constant_(own, parameter)
    numbers = torch.tensor([-1e4, -50.0, -1e-30, 0.0, 50.0, 1e4], dtype=dtype, device=device)
    several = numbers.expand(likelihood.numbers, 6)
    output = (numbers if likelihood.numbers == 1 else several).clone().requires_grad_()
    x = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0], dtype=dtype, device=device)
    value = likelihood.log_prob(output, x)
    slopes = torch.autograd.grad(value, [output, *likelihood.parameters()])
    assert torch.isfinite(value)
    assert all(torch.isfinite(slope).all() for slope in slopes)
    assert torch.isfinite(likelihood.mean(output)).all()
    assert torch.isfinite(likelihood.error(output, x))


def test_far_outliers_count_by_the_logarithm_of_their_distance(dtype, device):
    likelihood = StudentT(1).to(device, dtype)
    output = torch.zeros(3, 1, dtype=dtype, device=device, requires_grad=True)
    x = torch.tensor([[1e3], [1e10], [1e30]], dtype=dtype, device=device)
    log_p = likelihood.log_prob(output, x)
    slopes = torch.autograd.grad(log_p.sum(), output)[0]
    nu = likelihood.degrees_of_freedom.item()
    assert (log_p[0] - log_p[1]).item() == pytest.approx((nu + 1) * math.log(1e7), rel=1e-3)
    # d log p / d mean = (ν + 1)/(x − mean) far out: an outlier hardly pulls.
    assert array(slopes)[:, 0] == pytest.approx((nu + 1) / array(x)[:, 0], rel=1e-3)


def test_slopes_of_angles_at_the_middle_of_the_disc(device):
    """κ (cos x, sin x) there, where a mean direction has none."""
    likelihood = VonMises(1).to(device, torch.float64)
    output = torch.zeros(2, 1, dtype=torch.float64, device=device, requires_grad=True)
    x = torch.tensor([0.4], dtype=torch.float64, device=device)
    slope = torch.autograd.grad(likelihood.log_prob(output, x), output)[0]
    kappa = likelihood.concentration.item()
    assert array(slope)[:, 0] == pytest.approx([kappa * math.cos(0.4), kappa * math.sin(0.4)])
    assert torch.autograd.gradcheck(
        lambda v: likelihood.log_prob(v, x),
        torch.tensor([[0.3], [-0.8]], dtype=torch.float64, requires_grad=True),
    )


# ---- values that are missing ----------------------------------------------------------------


@EVERY_KIND
def test_what_is_missing_is_left_out(kind, dtype, device, generator):
    where = {"dtype": dtype, "device": device, "generator": generator}
    masking = stirred(kind(7, masks=True).to(device, dtype), generator)
    whole = kind(7).to(device, dtype)
    whole.load_state_dict(masking.state_dict())
    output = output_of(masking, 5, **where).requires_grad_()
    x = values(masking, 5, **where)
    gone = torch.rand(5, 7, **where) < 0.4
    gone[0] = False
    holed = torch.where(gone, math.nan, x)
    terms = torch.where(gone, 0.0, whole.terms(output, x))
    found = masking.log_prob(output, holed)
    assert torch.allclose(found, terms.sum(-1))
    # The same slopes as of the observed part alone.
    wanted = [output, *masking.parameters()]
    own = torch.autograd.grad(found.sum(), wanted, retain_graph=True)
    other = torch.autograd.grad(terms.sum(), [output, *whole.parameters()])
    assert all(torch.allclose(a, b) for a, b in zip(own, other, strict=True))
    squares = whole._squares(output, x, None)
    known = (~gone).sum(-1)
    expected = torch.where(gone, 0.0, squares).sum(-1) / known
    assert torch.allclose(masking.error(output, holed), expected)
    log_prob, error = masking.batch_terms(output, holed)
    assert torch.allclose(log_prob, found.mean())
    assert error.item() == pytest.approx((expected * known).sum().item() / known.sum().item())
    assert all(
        torch.isfinite(v).all() and v.shape == (5,) for v in masking.checks(output, holed).values()
    )
    # Nothing missing: as without.
    assert torch.equal(masking.log_prob(output, x), whole.log_prob(output, x))
    assert torch.allclose(masking.error(output, x), whole.error(output, x))


@EVERY_KIND
def test_an_event_of_which_nothing_is_observed_says_nothing(kind, device):
    likelihood = kind(3, masks=True).to(device)
    output = output_of(likelihood, 2, device=device).requires_grad_()
    x = torch.full((2, 3), math.nan, device=device)
    found = likelihood.log_prob(output, x)
    slopes = torch.autograd.grad(found.sum(), [output, *likelihood.parameters()])
    assert torch.equal(found, torch.zeros(2, device=device))
    assert all(torch.equal(slope, torch.zeros_like(slope)) for slope in slopes)
    assert torch.equal(likelihood.error(output, x), torch.zeros(2, device=device))
    assert torch.isfinite(torch.stack(likelihood.batch_terms(output, x))).all()


@EVERY_KIND
@pytest.mark.parametrize("event", [(4,), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("masks", [False, True])
def test_what_the_encoder_sees(kind, event, masks):
    likelihood = kind(event, masks=masks)
    x = values(likelihood, 6)
    if masks:
        x[..., 0] = math.nan
    seen = likelihood.encoder_input(x)
    assert seen.shape == (6, *likelihood.input_shape)
    assert torch.isfinite(seen).all()
    planes = likelihood.planes + masks
    if planes == 1:
        assert seen.shape == x.shape
        return
    channels = event[0] if len(event) == 3 else 1
    parts = seen.split(event[0], 1) if len(event) == 1 else seen.split(channels, 1)
    assert len(parts) == planes
    if masks:
        observed = torch.ones(event)
        observed[..., 0] = 0
        assert torch.equal(parts[-1].reshape(6, *event), observed.expand(6, *event))
        for part in parts[:-1]:
            assert torch.equal(part[..., 0], torch.zeros_like(part[..., 0]))


def test_what_the_encoder_sees_of_angles_is_the_same_one_turn_on():
    likelihood = VonMises(3)
    x = torch.tensor([[-3.0, 0.0, 1.0]])
    seen = likelihood.encoder_input(x)
    assert torch.allclose(seen, torch.cat([x.cos(), x.sin()], -1))
    assert torch.allclose(seen, likelihood.encoder_input(x + 2 * math.pi), atol=1e-6)


# ---- as one computation ---------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("masks", [False, True])
def test_stacked_models_are_mapped_over(kind, masks, generator):
    models = [stirred(kind(4, masks=masks), generator) for _ in range(3)]
    stack = {
        name: torch.stack([dict(model.named_parameters())[name].detach() for model in models])
        for name, _ in models[0].named_parameters()
    }
    output = output_of(models[0], 3, 5, generator=generator)
    x = values(models[0], 3, 5, generator=generator)
    if masks:
        x[:, 1, 2] = math.nan

    class LogProb(nn.Module):
        def __init__(self, likelihood: Likelihood) -> None:
            super().__init__()
            self.likelihood = likelihood

        def forward(self, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return torch.stack(self.likelihood.batch_terms(output, x))

    module = LogProb(models[0])
    stack = {f"likelihood.{name}": value for name, value in stack.items()}
    found = vmap(partial(functional_call, module))(stack, (output, x))
    expected = [torch.stack(m.batch_terms(o, v)) for m, o, v in zip(models, output, x, strict=True)]
    assert torch.allclose(found, torch.stack(expected), atol=1e-6)


@EVERY_KIND
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
def test_compiled_they_give_the_same(kind, generator):
    torch.compiler.reset()
    likelihood = stirred(kind(4, masks=True), generator)
    output = output_of(likelihood, 5, generator=generator).requires_grad_()
    x = values(likelihood, 5, generator=generator)
    x[1, 2] = math.nan
    wanted = [output, *likelihood.parameters()]
    # First as it is: what is built once must be there, or the graph breaks.
    expected = likelihood.log_prob(output, x)
    compiled = torch.compile(likelihood.log_prob, backend="aot_eager", fullgraph=True)
    found = compiled(output, x)
    assert torch.allclose(found, expected, atol=1e-5)
    slopes = zip(
        torch.autograd.grad(found.sum(), wanted),
        torch.autograd.grad(expected.sum(), wanted),
        strict=True,
    )
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in slopes)


def test_by_name_with_gaps():
    assert likelihoods.named("poisson", 3, masks=True).masks
    assert not likelihoods.named("poisson", 3).masks


# ---- what is learned ------------------------------------------------------------------------


def fitted(likelihood: Likelihood, output: torch.Tensor, x: torch.Tensor, steps: int = 300) -> None:
    """Adam on the law's own parameters; alone, 300 steps at this rate move a number by 0.9."""
    adam = torch.optim.Adam(likelihood.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = -likelihood.log_prob(output, x).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()


def test_dispersions_are_learned_in_few_steps(generator):
    """From 0.1 to other orders of magnitude."""
    truth, likelihood = NegativeBinomial(3), NegativeBinomial(3)
    with torch.no_grad():
        truth.log_dispersion.copy_(torch.tensor([-0.2, 0.1, 0.25]))
    output = torch.tensor([4.0, 1.0, 3.0]).expand(700, 3)
    fitted(likelihood, output, truth.draw(output, generator=generator).detach())
    ratio = likelihood.dispersion / truth.dispersion
    assert (ratio.log().abs() < 0.3).all(), ratio


def test_concentrations_are_learned_in_few_steps(generator):
    truth, likelihood = VonMises(3), VonMises(3)
    with torch.no_grad():
        truth.log_concentration.copy_(torch.tensor([-0.15, 0.2, 0.35]))
    output = 1e4 * torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 0.2]]).expand(700, 2, 3)
    fitted(likelihood, output, truth.draw(output, generator=generator).detach())
    ratio = likelihood.concentration / truth.concentration
    assert (ratio.log().abs() < 0.2).all(), ratio


def test_scales_and_tails_are_learned_in_few_steps(generator):
    truth, likelihood = StudentT(2), StudentT(2)
    with torch.no_grad():
        truth.log_scale.copy_(torch.tensor([-0.1, 0.15]))
        truth.log_tail.copy_(torch.tensor([-0.1, -0.2]))
    output = torch.zeros(1500, 2)
    fitted(likelihood, output, truth.draw(output, generator=generator).detach())
    scale = likelihood.scale / truth.scale
    tail = likelihood.degrees_of_freedom / truth.degrees_of_freedom
    assert (scale.log().abs() < 0.15).all(), scale
    assert (tail.log().abs() < 0.6).all(), tail


def test_angles_about_a_direction_that_is_no_number_are_none():
    output = torch.zeros(4, 2, 3)
    output[1, 0, 2] = torch.nan
    drawn = likelihoods.VonMises(3).draw(output, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn.isnan(), output.isnan().any(1))
