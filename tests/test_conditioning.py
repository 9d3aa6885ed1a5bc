"""Covariates, exposures and values that are missing, in the model."""

import math

import pytest
import torch
from torch import nn

from manifold_ae.manifolds import Euclidean, FlatTorus, Manifold, RealProjective, Sphere
from manifold_ae.models import DeltaVAE, encoder_shape, likelihoods
from manifold_ae.models.conditioning import extended
from manifold_ae.nn import MLP, ConvEncoder
from manifold_ae.replicas import Replicas


def model(
    manifold: Manifold,
    likelihood: likelihoods.Likelihood,
    covariates: int = 0,
    exposure: bool = False,
    seed: int = 0,
) -> DeltaVAE:
    torch.manual_seed(seed)
    return DeltaVAE(
        manifold,
        MLP(encoder_shape(likelihood, covariates, exposure), (8, 8)),
        MLP(manifold.embedding_size + covariates, (8,)),
        likelihood=likelihood,
        covariates=covariates,
        exposure=exposure,
    )


MANIFOLDS = pytest.mark.parametrize(
    "manifold", [FlatTorus(1), Sphere(2), RealProjective(2), Euclidean(2)], ids=str
)


@pytest.mark.parametrize(
    ("event", "masks", "covariates", "exposure", "expected"),
    [
        ((5,), False, 0, False, (5,)),
        ((5,), False, 2, True, (8,)),
        ((5,), True, 2, False, (12,)),
        ((4, 6), False, 0, False, (4, 6)),
        ((4, 6), False, 2, False, (3, 4, 6)),
        ((4, 6), True, 1, True, (4, 4, 6)),
        ((2, 4, 6), True, 1, False, (5, 4, 6)),
    ],
)
def test_what_the_encoder_sees(event, masks, covariates, exposure, expected):
    likelihood = likelihoods.Poisson(event, masks=masks)
    shape = encoder_shape(likelihood, covariates, exposure)
    assert shape == expected
    more = [torch.rand(3, k) for k in (covariates, int(exposure)) if k]
    x = torch.ones(3, *event)
    seen = extended(likelihood.encoder_input(x), likelihood.input_shape, more)
    assert seen.shape == (3, *shape)
    if more:
        numbers = torch.cat(more, -1)
        k = numbers.shape[-1]
        found = seen[:, -k:]
        assert torch.equal(found.reshape(3, k, -1)[:, :, 0], numbers)
        assert torch.equal(found.reshape(3, k, -1)[:, :, -1], numbers)


def test_of_angles_it_sees_cosines_and_sines():
    assert encoder_shape(likelihoods.VonMises(4), 1) == (9,)
    assert encoder_shape(likelihoods.VonMises(4, masks=True)) == (12,)


@MANIFOLDS
def test_covariates_reach_encoder_and_decoder(manifold, device, dtype):
    vae = model(manifold, likelihoods.Gaussian(6), covariates=2).to(device, dtype)
    where = {"dtype": dtype, "device": device}
    x, c = torch.randn(5, 6, **where), torch.randn(5, 2, **where)
    terms = vae({"x": x, "covariates": c}, kl_weight=0.5)
    terms["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in vae.parameters())
    torch.manual_seed(1)
    one = vae.loss(x, covariates=c)
    torch.manual_seed(1)
    assert torch.equal(one["loss"], vae({"x": x, "covariates": c})["loss"])
    assert not torch.equal(
        vae.posterior_law(x, covariates=c).loc, vae.posterior_law(x, covariates=-c).loc
    )
    z = vae.posterior_law(x, covariates=c).sample()
    assert not torch.equal(vae.decode(z, covariates=c), vae.decode(z, covariates=-c))
    # One covariate for all.
    all_alike = vae.decode(z, covariates=c[0])
    assert torch.allclose(all_alike, vae.decode(z, covariates=c[:1].expand(5, 2)))
    assert vae.elbo(x, covariates=c)["elbo"].shape == (5,)
    assert vae.log_likelihood(x, 3, covariates=c).shape == (5,)
    assert vae.sample(4, covariates=c[0]).shape == (4, 6)
    assert vae.sample(5, covariates=c, noise=True).shape == (5, 6)
    figures = vae.statistics({"x": x, "covariates": c})
    assert figures["largest |x|"] == pytest.approx(x.abs().max().item())
    assert all(math.isfinite(value) for value in figures.values())


def test_covariates_that_do_not_fit_are_refused():
    with_two = model(Sphere(2), likelihoods.Gaussian(6), covariates=2)
    without = model(Sphere(2), likelihoods.Gaussian(6))
    x, z = torch.randn(5, 6), Sphere(2).random_uniform(5)
    for call in (with_two.loss, with_two.posterior, with_two.elbo, with_two.log_likelihood):
        with pytest.raises(ValueError, match=r"has 2 covariate\(s\), and none are given"):
            call(x)
    with pytest.raises(ValueError, match="none are given"):
        with_two.decode(z)
    with pytest.raises(ValueError, match="none are given"):
        with_two.sample(3)
    with pytest.raises(ValueError, match=r"covariates of shape \(5, 3\): expected \(n, 2\)"):
        with_two.loss(x, covariates=torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"covariates of shape \(5, 3\): this model has none"):
        without.loss(x, covariates=torch.zeros(5, 3))
    with pytest.raises(ValueError, match="covariates = -1"):
        model(Sphere(2), likelihoods.Gaussian(6), covariates=-1)
    with pytest.raises(ValueError, match="exposure = True: likelihood 'gaussian' has no rate"):
        model(Sphere(2), likelihoods.Gaussian(6), exposure=True)
    with pytest.raises(ValueError, match="has no rate"):
        without.loss(x, exposure=torch.ones(5))


@MANIFOLDS
@pytest.mark.parametrize("sees", [False, True])
def test_exposure_multiplies_what_is_decoded(manifold, sees, device):
    vae = model(manifold, likelihoods.Poisson(6), exposure=sees).to(device)
    x = torch.randint(0, 5, (5, 6), device=device).float()
    e = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0], device=device)
    z = vae.posterior_law(x, exposure=e).sample()
    assert torch.allclose(vae.decode(z, exposure=e), vae.decode(z) * e[:, None])
    same = torch.equal(vae.posterior_law(x, exposure=e).loc, vae.posterior_law(x).loc)
    assert same != sees
    terms = vae({"x": x, "exposure": e})
    terms["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in vae.parameters())
    assert "dispersion" in vae.elbo(x, exposure=e)
    assert vae.log_likelihood(x, 7, exposure=e, max_elements=60).shape == (5,)
    # No exposure is an exposure of one.
    ones = torch.ones(5, device=device)
    torch.manual_seed(3)
    first = vae.loss(x)["loss"]
    torch.manual_seed(3)
    assert torch.allclose(first, vae.loss(x, exposure=ones)["loss"])


KINDS = pytest.mark.parametrize("name", list(likelihoods.names()))


def observations(name: str, n: int, d: int) -> torch.Tensor:
    kind = likelihoods.named(name, d)
    noise = torch.rand(n, d)
    if kind.counts:
        return (8 * noise).floor()
    return noise.round() if name == "bernoulli" else noise


@KINDS
def test_the_objective_of_what_is_missing_is_that_of_the_observed_part(name):
    """Of a model of the observed features alone, with the same networks but for what is not there.

    The features that are missing are the same in every row, so that there is such a model: its
    encoder has not the weights of the missing values, and its decoder not their outputs.
    """
    manifold, seen = FlatTorus(1), torch.tensor([0, 2, 3])
    part = model(manifold, likelihoods.named(name, 3, masks=True))
    whole = model(manifold, likelihoods.named(name, 5, masks=True))
    planes = part.likelihood.planes + 1
    numbers = part.likelihood.numbers
    columns = torch.cat([seen + 5 * k for k in range(planes)])
    rows = torch.cat([seen + 5 * k for k in range(numbers)])
    with torch.no_grad():
        for (key, mine), (_, theirs) in zip(
            whole.named_parameters(), part.named_parameters(), strict=True
        ):
            if mine.shape == theirs.shape:
                mine.copy_(theirs)
            elif key.startswith("encoder"):
                mine[:, columns] = theirs
            elif key.startswith("output"):
                mine[rows] = theirs
            else:
                mine[seen] = theirs
    x = observations(name, 7, 5)
    holed = torch.full_like(x, math.nan)
    holed[:, seen] = x[:, seen]
    found, expected = {}, {}
    for vae, data, out in ((whole, holed, found), (part, x[:, seen], expected)):
        torch.manual_seed(2)
        out |= vae.loss(data, kl_weight=0.7)
        generator = torch.Generator().manual_seed(5)
        out |= {f"each {k}": v for k, v in vae.elbo(data, generator=generator).items()}
        out["evidence"] = vae.log_likelihood(data, 20, generator=generator)
        out["loc"] = vae.posterior_law(data).loc
    for key, value in found.items():
        assert torch.allclose(value, expected[key], rtol=1e-4, atol=1e-5), key
    found["loss"].backward()
    # Nothing pulls at what would have told of the missing values.
    slope = whole.output.linear.weight.grad
    gone = [k for k in range(5 * numbers) if k not in rows.tolist()]
    assert torch.equal(slope[gone], torch.zeros_like(slope[gone]))
    assert all(torch.isfinite(p.grad).all() for p in whole.parameters())


@KINDS
def test_holes_at_random_and_a_row_with_nothing(name, device):
    vae = model(Sphere(2), likelihoods.named(name, 6, masks=True), covariates=1).to(device)
    x = observations(name, 9, 6).to(device)
    x[torch.rand(9, 6, device=device) < 0.3] = math.nan
    x[0] = math.nan
    c = torch.ones(9, 1, device=device)
    terms = vae.loss(x, covariates=c)
    terms["loss"].backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert all(torch.isfinite(p.grad).all() for p in vae.parameters())
    each = vae.elbo(x, covariates=c)
    assert all(torch.isfinite(value).all() for value in each.values())
    assert each["elbo"][0].item() == pytest.approx(-each["kl"][0].item())
    assert torch.isfinite(vae.log_likelihood(x, 5, covariates=c)).all()
    assert all(math.isfinite(v) for v in vae.statistics({"x": x, "covariates": c}).values())


def test_pictures_with_holes_and_covariates_through_convolutions():
    likelihood = likelihoods.Gaussian((16, 16), masks=True)
    encoder = ConvEncoder(encoder_shape(likelihood, covariates=1))
    decoder = MLP(4, (8,))
    vae = DeltaVAE(Sphere(2), encoder, decoder, likelihood=likelihood, covariates=1)
    x = torch.rand(3, 16, 16)
    x[:, :4] = math.nan
    assert torch.isfinite(vae.loss(x, covariates=torch.zeros(3, 1))["loss"])


@pytest.mark.parametrize("name", ["negative-binomial", "von-mises", "student-t", "poisson"])
def test_replicas_take_what_is_known_beside_the_values(name):
    masks = name != "poisson"
    exposure = likelihoods.named(name, 1).takes_exposure
    models = [
        model(FlatTorus(1), likelihoods.named(name, 4, masks=masks), 2, exposure, seed=k)
        for k in range(3)
    ]
    x = torch.stack([observations(name, 6, 4) for _ in range(3)])
    if masks:
        x[:, 1, 2] = math.nan
    batch = {"x": x, "covariates": torch.randn(3, 6, 2)}
    if exposure:
        batch["exposure"] = 0.5 + torch.rand(3, 6)
    replicas = Replicas(models, seeds=[1, 2, 3])
    found = replicas(batch, kl_weight=0.5)
    assert replicas.separately is None
    for k, single in enumerate(models):
        torch.manual_seed(replicas._stream[k])
        expected = single({key: value[k] for key, value in batch.items()}, kl_weight=0.5)
        for key, value in expected.items():
            assert found[key][k].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-5)
    found["loss"].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in replicas.parameters())
    assert all(math.isfinite(v) for v in replicas.statistics(batch, 1).values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
@KINDS
def test_compiled_with_holes_and_covariates_it_is_the_same_model(name):
    torch.compiler.reset()
    vae = model(FlatTorus(1), likelihoods.named(name, 4, masks=True), covariates=1)
    compiled = torch.compile(vae, backend="aot_eager")
    for size in (6, 5):
        x = observations(name, size, 4)
        x[0, 0] = math.nan
        batch = {"x": x, "covariates": torch.randn(size, 1)}
        losses, slopes = [], []
        for which in (vae, compiled):
            torch.manual_seed(size)
            loss = which(batch)["loss"]
            losses.append(loss.item())
            slopes.append(torch.autograd.grad(loss, list(vae.parameters())))
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        for a, b in zip(*slopes, strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_modules_of_ones_own_take_covariates():
    """A decoder is any module of the embedded latent and what stands behind it."""
    encoder = nn.Sequential(nn.Linear(7, 5), nn.Tanh())
    decoder = nn.Sequential(nn.Linear(3, 5), nn.Tanh())
    vae = DeltaVAE(FlatTorus(1), encoder, decoder, likelihood=likelihoods.Gaussian(6), covariates=1)
    assert torch.isfinite(vae.loss(torch.rand(4, 6), covariates=torch.rand(4, 1))["loss"])


def test_an_hae_of_angles_sees_cosines_and_sines():
    from manifold_ae.groups import SO2
    from manifold_ae.groups.learned import LearnedRepresentation
    from manifold_ae.models import HomomorphismAutoencoder

    likelihood = likelihoods.VonMises(4)
    hae = HomomorphismAutoencoder(
        MLP(likelihood.input_shape, (8,)),
        MLP(2, (8,)),
        LearnedRepresentation(SO2(), blocks=[2]),
        likelihood,
    )
    terms = hae.loss(torch.rand(3, 3, 4), torch.rand(3, 2, 1))
    terms["loss"].backward()
    assert all(torch.isfinite(value) for value in terms.values())
