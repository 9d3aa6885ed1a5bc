"""Observation models and the ΔVAE: constants, gradients, bounds, and cases with a known answer."""

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from catalogue import MANIFOLDS, WITH_EXACT_KL, WITH_SAMPLER, batched_time, over, points
from scipy import stats
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RandomWalk, StandardNormal
from manifold_ae.manifolds import Euclidean, FlatTorus, Manifold, Sphere
from manifold_ae.models import DeltaVAE, likelihoods
from manifold_ae.nn import MLP

KINDS = (
    likelihoods.Gaussian,
    partial(likelihoods.Gaussian, variance=0.3),
    likelihoods.LearnedGaussian,
    likelihoods.Bernoulli,
    likelihoods.StudentT,
    likelihoods.Poisson,
    likelihoods.NegativeBinomial,
)
KIND_NAMES = (
    "gaussian", "gaussian-0.3", "gaussian-learned", "bernoulli", "student-t", "poisson",
    "negative-binomial",
)  # fmt: skip
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)


def observations(likelihood: likelihoods.Likelihood, *shape: int, **kwargs) -> torch.Tensor:
    """Data of the kind that a likelihood is for: counts, fractions, or any number."""
    noise = torch.rand(*shape, *likelihood.event_shape, **kwargs)
    return (10 * noise).floor() if likelihood.counts else noise


# ---- likelihoods ----------------------------------------------------------------------------


#: The law of one feature, by scipy, given its mean.
LAWS = {
    likelihoods.Gaussian: lambda p, mean: stats.norm(mean, math.sqrt(p.variance)),
    likelihoods.LearnedGaussian: lambda p, mean: stats.norm(mean, array(p.scale)),
    likelihoods.Bernoulli: lambda _, mean: stats.bernoulli(mean),
    likelihoods.StudentT: lambda p, mean: stats.t(
        array(p.degrees_of_freedom), mean, array(p.scale)
    ),
    likelihoods.Poisson: lambda _, mean: stats.poisson(mean),
    likelihoods.NegativeBinomial: lambda p, mean: stats.nbinom(
        1 / array(p.dispersion), 1 / (1 + array(p.dispersion) * mean)
    ),
}


def array(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()


def law(likelihood: likelihoods.Likelihood, output: torch.Tensor) -> Any:
    return LAWS[type(likelihood)](likelihood, array(likelihood.mean(output)))


@EVERY_KIND
def test_log_probabilities_have_every_constant(kind, dtype, device, generator):
    kwargs = {"dtype": dtype, "device": device, "generator": generator}
    likelihood = kind((2, 3)).to(device, dtype)
    for parameter in likelihood.parameters():
        nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)
    output = torch.randn(4, 5, 2, 3, **kwargs)
    x = observations(likelihood, 5, **kwargs)
    if likelihood.name == "bernoulli":  # which has a density on 0 and 1 alone
        x = x.round()
    found = likelihood.log_prob(output, x)
    assert found.shape == (4, 5)
    assert found.dtype == dtype
    expected = law(likelihood, output)
    terms = (expected.logpdf if hasattr(expected.dist, "pdf") else expected.logpmf)(array(x))
    assert array(found) == pytest.approx(
        terms.sum((-1, -2)), rel=1e-4 if dtype == torch.float32 else 1e-9
    )


@EVERY_KIND
def test_terms_of_a_batch_are_means_of_the_log_probabilities(kind, device, generator):
    kwargs = {"dtype": torch.float64, "device": device, "generator": generator}
    likelihood = kind((2, 3)).to(device, torch.float64)
    output = torch.randn(5, 2, 3, **kwargs).requires_grad_()
    x = observations(likelihood, 5, **kwargs)
    log_prob, error = likelihood.batch_terms(output, x)
    expected = likelihood.log_prob(output, x).mean()
    assert log_prob.item() == pytest.approx(expected.item())
    assert error.item() == pytest.approx((likelihood.mean(output) - x).square().mean().item())
    slopes = torch.autograd.grad(log_prob, output)[0], torch.autograd.grad(expected, output)[0]
    assert torch.allclose(*slopes)


@EVERY_KIND
def test_draws_have_the_moments_of_the_law(kind, device, generator):
    n = 40_000
    likelihood = kind(3).to(device)
    output = torch.tensor([-1.0, 0.2, 1.5], device=device)
    state = generator.get_state()
    with torch.no_grad():
        x = likelihood.draw(output.expand(n, 3), generator=generator)
        again = likelihood.draw(output.expand(n, 3), generator=generator.set_state(state))
    assert torch.equal(x, again)
    expected = law(likelihood, output)
    assert (abs(array(x.mean(0)) - expected.mean()) <= 4.5 * expected.std() / math.sqrt(n)).all()
    assert array(x.var(0)) == pytest.approx(expected.var(), rel=0.06)
    # Draws are likely under their own law, less so under another.
    own, other = (likelihood.log_prob(o.expand(n, 3), x).mean() for o in (output, output.flip(0)))
    assert own > other


@EVERY_KIND
def test_log_probabilities_and_slopes_are_finite_for_any_output(kind, dtype, device):
    likelihood = kind(4).to(device, dtype)
    output = torch.tensor([-1e4, -50.0, 50.0, 1e4], dtype=dtype, device=device, requires_grad=True)
    x = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=dtype, device=device)
    value = likelihood.log_prob(output, x)
    slopes = torch.autograd.grad(value, [output, *likelihood.parameters()])
    assert torch.isfinite(value)
    assert all(torch.isfinite(slope).all() for slope in slopes)
    assert torch.isfinite(likelihood.mean(output)).all()


def test_learned_scales_are_bounded_and_start_at_three_tenths(dtype, device):
    likelihood = likelihoods.LearnedGaussian(5, minimum=0.05).to(device, dtype)
    assert likelihood.scale.detach().mean().item() == pytest.approx(0.35, abs=1e-3)
    with torch.no_grad():
        likelihood.log_scale.copy_(torch.tensor([-1e6, -10.0, 0.0, 10.0, 1e6]))
    assert torch.isfinite(likelihood.scale).all()
    assert (likelihood.scale >= 0.05).all()
    assert (likelihood.scale.diff() >= 0).all()


def test_gray_values_are_judged_by_the_cross_entropy(device):
    output, x = torch.tensor([0.3, -2.0], device=device), torch.tensor([0.25, 0.9], device=device)
    p = torch.sigmoid(output)
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum()
    assert likelihoods.Bernoulli(2).log_prob(output, x).item() == pytest.approx(expected.item())
    binary = torch.tensor([1.0, 0.0], device=device)
    assert likelihoods.Bernoulli(2).log_prob(output, binary).item() == pytest.approx(
        Bernoulli(logits=output).log_prob(binary).sum().item()
    )


def test_what_the_encoder_sees_of_counts(device):
    x = torch.tensor([0.0, 1.0, 1e4], device=device)
    assert torch.allclose(likelihoods.Poisson(3).encoder_input(x), torch.log1p(x))
    assert torch.equal(likelihoods.Gaussian(3).encoder_input(x), x)


@EVERY_KIND
def test_the_output_layer_has_the_shape_of_the_event(kind):
    likelihood = kind((2, 3))
    assert likelihood.output_layer(7)(torch.zeros(4, 5, 7)).shape == (4, 5, 2, 3)
    assert kind(6).event_shape == (6,)
    assert kind([2, 3]).event_shape == (2, 3)


def test_likelihoods_by_name():
    for name, line in likelihoods.names().items():
        assert line
        likelihood = likelihoods.named(name, 3)
        assert likelihood.name == name
        assert likelihood.default_scaling
    with pytest.raises(ValueError, match="no likelihood 'gausian'; there are gaussian"):
        likelihoods.named("gausian", 3)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_wrong_widths_are_refused(bad):
    with pytest.raises(ValueError, match=f"variance must be positive and finite, got {bad}"):
        likelihoods.Gaussian(3, variance=bad)
    with pytest.raises(ValueError, match=f"minimum must be positive and finite, got {bad}"):
        likelihoods.LearnedGaussian(3, minimum=bad)


# ---- the model ------------------------------------------------------------------------------


class Identity(nn.Module):
    """Passes its input on, and tells its number of features."""

    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z


def small(manifold: Manifold, features: int = 6, **kwargs) -> DeltaVAE:
    latent = manifold.embedding_size
    # Smooth layers: a dead ReLU has no gradient to look for.
    encoder = nn.Sequential(nn.Linear(features, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(latent, 7), nn.Tanh())
    kwargs.setdefault("likelihood", likelihoods.Gaussian(features))
    if manifold.compact and manifold not in WITH_EXACT_KL:
        kwargs.setdefault("divergence", "sampled")
    return DeltaVAE(manifold, encoder, decoder, **kwargs)


POSTERIORS = pytest.mark.parametrize(
    "posterior", [HeatKernel, partial(RandomWalk, steps=3)], ids=["heat kernel", "walk"]
)


@POSTERIORS
@over(WITH_SAMPLER)
def test_terms_of_the_loss(manifold, posterior, dtype, device):
    vae = small(manifold, posterior=posterior).to(device, dtype)
    x = torch.randn(9, 6, dtype=dtype, device=device)
    torch.manual_seed(1)
    terms = vae.loss(x, kl_weight=0.3)
    torch.manual_seed(1)
    called = vae(x, kl_weight=0.3)
    assert set(terms) == {"loss", "elbo", "kl", "mse", "mean_log_time"}
    for name, value in terms.items():
        assert value.shape == ()
        assert value.dtype == dtype
        assert torch.isfinite(value)
        assert value.requires_grad == (name == "loss")
        assert torch.equal(value, called[name])
    # loss = w KL − log p and elbo = log p − KL, whatever the weight.
    loss, elbo, kl = (terms[name].item() for name in ("loss", "elbo", "kl"))
    slack = 1e-4 if dtype == torch.float32 else 1e-9
    assert loss == pytest.approx(0.3 * kl - (elbo + kl), rel=slack)
    # The Gaussian's log-probability is the squared error and a constant.
    expected = -0.5 * 6 * (terms["mse"].item() + math.log(2 * math.pi))
    assert elbo + kl == pytest.approx(expected, rel=slack)
    q = vae.posterior_law(x)
    if vae.divergence == "exact":
        assert kl == pytest.approx(kl_divergence(q, vae.prior).mean().item(), rel=slack)
    assert terms["mean_log_time"].item() == pytest.approx(q.time.log().mean().item(), rel=slack)


@POSTERIORS
@EVERY_KIND
@pytest.mark.parametrize("manifold", [Sphere(2), FlatTorus(2), Euclidean(2)], ids=str)
def test_a_gradient_reaches_every_parameter(manifold, posterior, kind, device):
    vae = small(manifold, likelihood=kind(6), posterior=posterior).to(device)
    x = observations(vae.likelihood, 32, device=device)
    vae.loss(x)["loss"].backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_on_euclidean_space_it_is_the_gaussian_vae(device, dtype):
    vae = small(Euclidean(2)).to(device, dtype)
    x = torch.randn(50, 6, dtype=dtype, device=device)
    torch.manual_seed(7)
    found = vae.loss(x)

    torch.manual_seed(7)
    q = vae.posterior(x)
    mean, deviation = q.loc, q.time.sqrt()
    z = mean + deviation * torch.randn_like(mean)
    reconstruction = Normal(vae.decode(z), 1.0).log_prob(x).sum(-1)
    divergence = kl_divergence(
        Normal(mean, deviation), Normal(torch.zeros_like(mean), torch.ones_like(mean))
    ).sum(-1)
    slack = 1e-5 if dtype == torch.float32 else 1e-12
    assert found["elbo"].item() == pytest.approx(
        (reconstruction - divergence).mean().item(), rel=slack
    )
    parameters = list(vae.parameters())
    slopes = torch.autograd.grad(found["loss"], parameters)
    expected = torch.autograd.grad((divergence - reconstruction).mean(), parameters)
    for slope, other in zip(slopes, expected, strict=True):
        assert torch.allclose(slope, other, rtol=1e-3, atol=1e-6)


class LinearGaussian:
    """x = W z + b + ε with orthogonal columns of W: posterior and evidence in closed form."""

    def __init__(self, device: torch.device, variance: float = 0.4) -> None:
        kwargs = {"dtype": torch.float64, "device": device}
        basis = torch.linalg.qr(torch.randn(5, 2, **kwargs)).Q
        self.weight = basis * torch.tensor([1.5, 0.7], **kwargs)
        self.bias = torch.randn(5, **kwargs)
        self.variance = variance
        self.mean, self.time = torch.zeros(2, **kwargs), torch.ones(2, **kwargs)
        self.model = DeltaVAE(
            Euclidean(2),
            nn.Linear(5, 2),
            Identity(2),
            posterior=self.posterior,
            likelihood=likelihoods.Gaussian(5, variance),
        ).to(device, torch.float64)
        with torch.no_grad():
            layer = next(m for m in self.model.output.modules() if isinstance(m, nn.Linear))
            layer.weight.copy_(self.weight)
            layer.bias.copy_(self.bias)
        self.x = self.bias + torch.randn(60, 5, **kwargs) * 1.3

    def posterior(self, manifold, loc, time, **kwargs) -> HeatKernel:
        """Takes the model's heads out of the play: the law is what the test sets."""
        return HeatKernel(manifold, self.mean, self.time, **kwargs)

    def set_exact(self, widen: float = 1.0) -> None:
        precision = self.weight.square().sum(0) / self.variance + 1
        self.mean = (self.x - self.bias) @ self.weight / self.variance / precision
        self.time = (widen / precision).expand_as(self.mean)

    @property
    def evidence(self) -> torch.Tensor:
        noise = self.variance * torch.eye(5).to(self.weight)
        return MultivariateNormal(self.bias, self.weight @ self.weight.T + noise).log_prob(self.x)


@pytest.mark.parametrize("num_samples", [1, 7])
def test_log_likelihood_with_the_exact_posterior_is_the_evidence(num_samples, device):
    """All importance weights are equal then, so one sample is enough."""
    case = LinearGaussian(device)
    case.set_exact()
    for max_points in (1, 100, 16384):
        found = case.model.log_likelihood(case.x, num_samples, max_elements=max_points)
        assert torch.allclose(found, case.evidence, atol=1e-9)
    terms = case.model.elbo(case.x)
    # One sample each of log p(x, z) − log q(z) would be exact; with the KL in closed form the
    # ELBO is so on average.
    gap = (terms["elbo"] - case.evidence).mean().item()
    spread = (terms["elbo"] - case.evidence).std().item() / math.sqrt(60)
    assert abs(gap) <= 4.5 * spread


def test_log_likelihood_rises_with_the_samples_to_the_evidence(device, generator):
    case = LinearGaussian(device)
    case.set_exact(widen=2.5)
    exact = case.evidence.mean().item()

    def estimate(num_samples: int, repeats: int) -> float:
        values = [
            case.model.log_likelihood(case.x, num_samples, generator=generator).mean()
            for _ in range(repeats)
        ]
        return torch.stack(values).mean().item()

    elbo = torch.stack([case.model.elbo(case.x)["elbo"].mean() for _ in range(200)]).mean().item()
    one, ten, many = estimate(1, 200), estimate(10, 100), estimate(2000, 4)
    assert elbo == pytest.approx(one, abs=0.1)  # the same bound
    assert one < ten - 0.05
    assert ten < many
    assert many == pytest.approx(exact, abs=0.01)
    # By how much a posterior that is too wide misses: KL(q ‖ exact), 2.5 times the variance.
    assert exact - elbo == pytest.approx(2 * 0.5 * (2.5 - 1 - math.log(2.5)), abs=0.1)


@over(WITH_SAMPLER)
def test_log_likelihood_does_not_depend_on_the_posterior(manifold, device, generator):
    """With a decoder that ignores z, p(x) = p(x | z); the weights p(z)/q(z) average to one."""

    times = torch.logspace(1, -2, 100, dtype=torch.float64, device=device)
    wide = 0.8
    if manifold in WITH_EXACT_KL:  # a time at which the kernel is 0.1 nats off the prior
        time = batched_time(manifold, times)
        divergence = heat.kl_uniform(manifold, manifold.base_point().to(times), time)
        wide = times[divergence < 0.1].min().item()

    def posterior(manifold: Manifold, loc: torch.Tensor, time: torch.Tensor, **kwargs):
        return HeatKernel(manifold, loc, torch.full_like(time, wide), **kwargs)

    vae = small(manifold, posterior=posterior).to(device, torch.float64)
    layer = next(m for m in vae.output.modules() if isinstance(m, nn.Linear))
    nn.init.zeros_(layer.weight)
    x = torch.randn(4, 6, dtype=torch.float64, device=device)
    exact = Normal(layer.bias.detach(), 1.0).log_prob(x).sum(-1)
    assert torch.allclose(vae.log_likelihood(x, 5_000, generator=generator), exact, atol=0.05)


@pytest.mark.parametrize("divergence", ["sampled", "short-time"])
def test_divergences_that_are_not_exact(divergence, device):
    """One without bias, one for short times: both near the exact one at t = 0.02, in mean."""
    exact = small(Sphere(2)).to(device)
    other = small(Sphere(2), divergence=divergence).to(device)
    other.load_state_dict(exact.state_dict())
    x = torch.randn(4000, 6, device=device)
    difference = other.loss(x)["kl"] - exact.loss(x)["kl"]
    assert abs(difference.item()) <= 4.5 / math.sqrt(4000)  # χ²₂/2 has variance 1
    with pytest.raises(ValueError, match="divergence = 'none': expected exact, sampled"):
        small(Sphere(2), divergence="none")


def test_log_likelihood_needs_a_sample():
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        small(Sphere(2)).log_likelihood(torch.zeros(3, 6), 0)


@over(WITH_SAMPLER)
def test_shapes_of_what_a_model_gives(manifold, device, generator):
    vae = small(manifold, likelihood=likelihoods.Bernoulli((2, 3)), features=6)
    vae.encoder = nn.Sequential(nn.Flatten(-2), vae.encoder)
    vae = vae.to(device)
    for batch in ((), (4,), (2, 3)):
        x = torch.rand(*batch, 2, 3, device=device)
        q = vae.posterior(x)
        assert q.batch_shape == batch
        assert q.loc.shape == (*batch, *manifold.ambient_shape)
        assert q.time.shape == (*batch, *manifold.time_shape)
        assert HeatKernel(manifold, q.loc, q.time, validate_args=True).support.check(q.loc).all()
        assert vae.decode(q.sample((5,))).shape == (5, *batch, 2, 3)
        assert vae.log_likelihood(x, 3).shape == batch
        assert {name: value.shape for name, value in vae.elbo(x).items()} == {
            name: torch.Size(batch) for name in ("elbo", "kl", "mse", "mean_log_time")
        }
    state = generator.get_state()
    drawn = vae.sample(7, generator=generator)
    assert drawn.shape == (7, 2, 3)
    assert torch.equal(drawn, vae.sample(7, generator=generator.set_state(state)))
    noisy = vae.sample(7, noise=True, generator=generator)
    assert set(noisy.unique().tolist()) <= {0.0, 1.0}
    assert all(math.isfinite(value) for value in vae.statistics(x).values())


def test_exact_law_behind_a_walk():
    vae = small(Sphere(2), posterior=partial(RandomWalk, steps=4))
    x = torch.randn(3, 6)
    assert type(vae.posterior(x)) is RandomWalk
    assert vae.posterior(x).steps == 4
    assert type(vae.posterior_law(x)) is HeatKernel
    assert torch.equal(vae.posterior_law(x).time, vae.posterior(x).time)
    assert type(small(Sphere(2)).posterior(x)) is HeatKernel


@pytest.mark.parametrize("manifold", [Sphere(2), Euclidean(2)], ids=str)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e2, 1e4, 1e8])
def test_times_stay_within_their_range(manifold, size, device):
    low, high = 1e-4, 2.0
    vae = small(manifold, time_range=(low, high)).to(device)
    vae.encoder = nn.Linear(6, 5).to(device)  # not bounded, as tanh is
    x = size * torch.randn(200, 6, device=device)
    t = vae.posterior(x).time
    assert torch.isfinite(t).all()
    assert (t >= low * (1 - 1e-5)).all()
    assert (t <= high * (1 + 1e-5)).all()
    # Both ends are reached, and nothing but them far out.
    if size >= 1e8:
        outer = ((t / low).log() < 1e-2) | ((high / t).log() < 1e-2)
        assert outer.double().mean() > 0.97

    paper = small(manifold, time_bound="paper").to(device)
    paper.encoder = vae.encoder
    log_t = paper.posterior(x).time.log()
    assert (log_t >= -8.75 - 1e-5).all()
    assert (log_t <= -3.75 + 1e-5).all()


def test_time_starts_where_it_is_told(device):
    x = torch.randn(500, 6, device=device)
    for start in (1e-3, 0.02, 0.5):
        log_t = small(Sphere(2), initial_time=start).to(device).posterior(x).time.log()
        assert (log_t - math.log(start)).abs().max().item() < 1.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time_bound": "hard"}, "bound must be 'soft' or 'paper', got 'hard'"),
        ({"time_range": (0.0, 1.0)}, r"time_range = \(0.0, 1.0\)"),
        ({"time_range": (1.0, 0.1)}, r"time_range = \(1.0, 0.1\)"),
        ({"time_range": (1e-6, math.inf)}, r"time_range = \(1e-06, inf\)"),
        ({"initial_time": 11.0}, "initial = 11.0"),
        ({"initial_time": math.nan}, "initial = nan"),
    ],
)
def test_wrong_times_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(Sphere(2), **arguments)


def test_networks_say_their_sizes_or_the_error_says_how():
    class Mute(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(
        ValueError, match=r"Sequential does not tell its event_shape; .*likelihood="
    ):
        DeltaVAE(Sphere(2), nn.Sequential(nn.Linear(6, 5)), MLP(3, (4,)))
    gaussian = likelihoods.Gaussian(6)
    with pytest.raises(ValueError, match=r"encoder, a Mute, .* set encoder\.out_features"):
        DeltaVAE(Sphere(2), Mute(), MLP(3, (4,)), likelihood=gaussian)
    with pytest.raises(ValueError, match=r"decoder, a Mute, .* set decoder\.out_features"):
        DeltaVAE(Sphere(2), MLP(6, (4,)), Mute(), likelihood=gaussian)
    told = Mute()
    told.out_features = 6
    assert DeltaVAE(Sphere(2), told, MLP(3, (4,)), likelihood=gaussian).loss(torch.zeros(2, 6))


def test_the_default_likelihood_is_the_papers():
    vae = DeltaVAE(Sphere(2), MLP((2, 3), (4,)), MLP(3, (4,)))
    assert isinstance(vae.likelihood, likelihoods.Gaussian)
    assert vae.likelihood.variance == 1.0
    assert vae.likelihood.event_shape == (2, 3)
    assert vae.decode(vae.prior.sample((5,))).shape == (5, 2, 3)


@over(MANIFOLDS)
def test_a_prior_may_be_given(manifold):
    prior = manifold.default_prior()
    assert small(manifold, prior=prior).prior is prior
    assert small(manifold).prior == prior
    if isinstance(manifold, Euclidean):
        assert isinstance(prior, StandardNormal)


@over(WITH_SAMPLER)
def test_weights_travel(manifold, device):
    vae, other = small(manifold).to(device), small(manifold).to(device)
    x = torch.randn(5, 6, device=device)
    other.load_state_dict(vae.state_dict())
    for twin in (other, copy.deepcopy(vae)):
        assert torch.equal(twin.posterior(x).loc, vae.posterior(x).loc)
        assert torch.equal(twin.posterior(x).time, vae.posterior(x).time)
        z = points(manifold, 3, device=device)
        assert torch.equal(twin.decode(z), vae.decode(z))


@over(WITH_SAMPLER)
def test_half_precision_stays_out_of_the_geometry(manifold, device):
    vae = small(manifold).to(device)
    x = torch.randn(9, 6, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        q = vae.posterior(x)
        terms = vae.loss(x)
        terms["loss"].backward()
        evidence = vae.log_likelihood(x, 3)
    assert q.loc.dtype == q.time.dtype == torch.float32
    # Refuses points that are off by more than float32's rounding.
    HeatKernel(manifold, q.loc, q.time, validate_args=True)
    assert terms["kl"].dtype == torch.float32
    assert all(torch.isfinite(value) for value in terms.values())
    assert torch.isfinite(evidence).all()
    assert all(torch.isfinite(p.grad).all() for p in vae.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
@pytest.mark.parametrize("manifold", [Euclidean(2), Sphere(2), FlatTorus(2)], ids=str)
def test_a_compiled_model_is_the_same_model_for_every_batch(manifold, device):
    vae = small(manifold).to(device)
    x = torch.randn(16, 6, device=device)
    compiled = torch.compile(vae, backend="aot_eager")
    # The last batch of an epoch is smaller: the second size makes the compiler's sizes symbolic.
    for size in (16, 9, 5):
        losses, slopes = [], []
        for model in (vae, compiled):
            torch.manual_seed(size)
            loss = model(x[:size])["loss"]
            losses.append(loss.item())
            slopes.append(torch.autograd.grad(loss, list(vae.parameters())))
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        for a, b in zip(*slopes, strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)
