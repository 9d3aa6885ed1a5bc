"""The importance-weighted bound: against the ELBO, the log-likelihood's estimate, and itself."""

import copy
import math
from functools import partial

import pytest
import torch
from catalogue import WITH_SAMPLER, over
from torch import nn

from manifold_ae import run
from manifold_ae.distributions import RandomWalk
from manifold_ae.experiments import VAE
from manifold_ae.manifolds import Euclidean, FlatTorus, Manifold, Sphere
from manifold_ae.models import DeltaVAE, ImportanceWeightedVAE, likelihoods
from manifold_ae.run.delta_vae import build_model

SAMPLED = {"divergence": "sampled"}


def small(manifold: Manifold, kind=DeltaVAE, features: int = 6, **kwargs) -> DeltaVAE:
    encoder = nn.Sequential(nn.Linear(features, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(manifold.embedding_size, 7), nn.Tanh())
    kwargs.setdefault("likelihood", likelihoods.Gaussian(features))
    return kind(manifold, encoder, decoder, **SAMPLED, **kwargs)


def weighted(num_importance: int):
    return partial(ImportanceWeightedVAE, num_importance=num_importance)


@over(WITH_SAMPLER)
def test_one_sample_gives_the_elbo(manifold, dtype, device):
    """To the last digit: both draw the same noise, and the same terms come of it."""
    own = small(manifold).to(device, dtype)
    other = small(manifold, weighted(1)).to(device, dtype)
    other.load_state_dict(own.state_dict())
    x = torch.randn(9, 6, dtype=dtype, device=device)
    for weight in (1.0, 0.3):
        torch.manual_seed(1)
        expected = own.loss(x, kl_weight=weight)
        torch.manual_seed(1)
        found = other.loss(x, kl_weight=weight)
        torch.manual_seed(1)
        called = other(x, kl_weight=weight)
        slack = 1e-4 if dtype == torch.float32 else 1e-9
        for name, value in expected.items():
            assert found[name].item() == pytest.approx(value.item(), rel=slack, abs=slack), name
            assert found[name].requires_grad == (name == "loss")
            assert torch.equal(found[name], called[name])
        assert found["bound"].item() == pytest.approx(found["elbo"].item(), rel=slack)


@pytest.mark.parametrize("manifold", [Sphere(2), FlatTorus(2), Euclidean(2)], ids=str)
def test_the_bound_is_the_estimate_of_the_log_likelihood(manifold, device):
    """Two routes: the training loss, and the evaluation's estimator with as many samples."""
    vae = small(manifold, weighted(6)).to(device, torch.float64)
    x = torch.randn(9, 6, dtype=torch.float64, device=device)
    torch.manual_seed(3)
    terms = vae.loss(x)
    torch.manual_seed(3)
    expected = vae.log_likelihood(x, 6).mean()
    assert terms["bound"].item() == pytest.approx(expected.item(), rel=1e-9)
    assert terms["loss"].item() == pytest.approx(-expected.item(), rel=1e-9)


@pytest.mark.parametrize("manifold", [FlatTorus(2), Euclidean(2)], ids=str)
def test_the_bound_rises_with_the_samples(manifold, device):
    """In expectation, strictly, and below what many samples give; by the same posterior."""
    vae = small(manifold).to(device, torch.float64)
    with torch.no_grad():  # so that the posterior matters
        for parameter in vae.output.parameters():
            parameter.mul_(4.0)
    x = 2 * torch.randn(20, 6, dtype=torch.float64, device=device)
    torch.manual_seed(5)
    means, errors = [], []
    for count in (1, 3, 10, 40):
        other = copy.deepcopy(vae)
        other.__class__ = ImportanceWeightedVAE
        other.num_importance = count
        with torch.no_grad():
            values = torch.stack([other.loss(x)["bound"] for _ in range(80)])
        means.append(values.mean().item())
        errors.append(values.std().item() / math.sqrt(len(values)))
    exact = vae.log_likelihood(x, 3000).mean().item()
    for low, high, *spread in zip(means, means[1:], errors, errors[1:], strict=False):
        assert high > low + 3 * math.hypot(*spread)
    assert means[-1] < exact


@over(WITH_SAMPLER)
def test_a_gradient_reaches_every_parameter_and_is_that_of_the_loss(manifold, device):
    vae = small(manifold, weighted(3)).to(device, torch.float64)
    x = torch.randn(8, 6, dtype=torch.float64, device=device)

    def loss() -> torch.Tensor:
        torch.manual_seed(2)
        return vae.loss(x, kl_weight=0.7)["loss"]

    loss().backward()
    parameters = list(vae.parameters())
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name
    slope = sum(p.grad.square().sum().item() for p in parameters)
    step = 1e-5 / math.sqrt(slope)
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(parameter.grad, alpha=sign * step)
            values.append(loss().item())
    # Samplers interpolate in tables, whose own derivative is not that of the law to all digits.
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-3)


def test_laws_without_a_density_are_refused(device):
    vae = small(Sphere(20), weighted(2), posterior=partial(RandomWalk, steps=3)).to(device)
    with pytest.raises(NotImplementedError):
        vae.loss(torch.randn(4, 6, device=device))
    with pytest.raises(ValueError, match="num_importance = 0: expected at least 1"):
        small(Sphere(2), weighted(0))


# ---- as a run ---------------------------------------------------------------------------------

TINY = VAE(
    manifold="circle", encoder_hidden=(16,), decoder_hidden=(16,), epochs=2, num_samples=3,
    num_importance=4, device="cpu",
)  # fmt: skip


def test_runs_train_it_keep_it_and_find_it_again(tmp_path):
    trained = run.train(TINY, tmp_path / "run")
    assert isinstance(trained.model, ImportanceWeightedVAE)
    for row in trained.history:
        assert row["elbo"] < row["bound"]
    found = run.load(tmp_path / "run", device="cpu")
    assert found.config.num_importance == 4
    assert found.model.num_importance == 4
    x = trained.data().test[:5]
    assert (found.encode(x)["points"] == trained.encode(x)["points"]).all()


def test_runs_of_before_train_the_elbo():
    config = VAE.from_mapping({"likelihood": "gaussian", "posterior": "heat-kernel"})
    assert type(build_model(config, (64,))) is DeltaVAE
    with pytest.raises(ValueError, match="num_importance = 0"):
        VAE(num_importance=0)


def test_seeds_at_once_are_the_single_runs():
    together = run.train(TINY.replace(seeds=2, epochs=1))
    for seed, member in together.runs.items():
        alone = run.train(TINY.replace(seed=seed, epochs=1))
        for own, other in zip(alone.model.parameters(), member.model.parameters(), strict=True):
            assert torch.allclose(own, other, atol=1e-5)
