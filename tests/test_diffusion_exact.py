"""Exact denoisers: against the score by automatic differentiation, and against each other."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from manifold_ae import diffusion
from manifold_ae.diffusion import Schedule, exact, samplers
from manifold_ae.groups import SO2, Affine, ScaleTranslation

SCHEDULE = Schedule.linear(1000)
TIMES = (1, 10, 300, 1000)


def normal(generator, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=generator, device=generator.device)


def gap(x, y):
    return ((x - y).abs().max() / y.abs().max().clamp_min(1)).item()


def parts(generator, k=4, n=3):
    a = normal(generator, k, n, n)
    covariances = a @ a.mT / n + 0.05 * torch.eye(n, dtype=a.dtype, device=a.device)
    return 2 * normal(generator, k, n), covariances, normal(generator, k).square()


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("diagonal", [False, True])
def test_a_mixtures_denoiser_is_its_score(t, diagonal, generator):
    means, covariances, weights = parts(generator)
    if diagonal:
        covariances = torch.diag_embed(torch.diagonal(covariances, 0, -2, -1))
    given = torch.diagonal(covariances, 0, -2, -1) if diagonal else covariances
    signal = SCHEDULE.alpha_bar[t].item()
    noisy = signal * covariances + (1 - signal) * torch.eye(3).to(covariances)
    law = MixtureSameFamily(
        Categorical(weights), MultivariateNormal(math.sqrt(signal) * means, noisy)
    )
    x = (2 * normal(generator, 50, 3)).requires_grad_()
    (score,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    denoiser = exact.mixture(means, given, SCHEDULE, weights)
    assert gap(denoiser(x, t), -math.sqrt(1 - signal) * score) <= 1e-10


@pytest.mark.parametrize("t", TIMES)
def test_a_gaussian_is_a_mixture_of_one_and_of_copies(t, generator):
    mean, cov = (p[0] for p in parts(generator)[:2])
    x = normal(generator, 20, 3)
    one = exact.gaussian(mean, cov, SCHEDULE)(x, t)
    signal = SCHEDULE.alpha_bar[t].item()
    eye = torch.eye(3).to(cov)
    offset = (x - math.sqrt(signal) * mean).mT
    expected = math.sqrt(1 - signal) * torch.linalg.solve(signal * cov + (1 - signal) * eye, offset)
    assert gap(one, expected.mT) <= 1e-12
    copies = exact.mixture(mean.expand(3, 3), cov.expand(3, 3, 3), SCHEDULE)
    assert gap(copies(x, t), one) <= 1e-12


@pytest.mark.parametrize("chunk", [1, 7, 30, 4096])
@pytest.mark.parametrize("t", TIMES)
def test_finitely_many_points_are_a_mixture_without_width(t, chunk, generator):
    data, weights = normal(generator, 30, 3), normal(generator, 30).square()
    x = 3 * normal(generator, 4, 5, 3)
    for w in (None, weights):
        expected = exact.mixture(data, torch.zeros(30, 3), SCHEDULE, w)(x, t)
        found = exact.empirical(data, SCHEDULE, w, chunk=chunk)(x, t)
        assert gap(found, expected) <= 1e-10
    # Points of weight 0 are as good as left out, a whole chunk of them too.
    weights[:15] = 0
    found = exact.empirical(data, SCHEDULE, weights, chunk=chunk)(x, t)
    assert gap(found, exact.empirical(data[15:], SCHEDULE, weights[15:])(x, t)) <= 1e-10


def test_the_prediction_is_the_mean_of_the_noise(generator):
    """The definition, by drawing: regression of ε on x_t has no residual that x_t explains."""
    means, covariances, weights = parts(generator, 2, 2)
    n = 200_000
    which = torch.multinomial(weights, n, replacement=True, generator=generator)
    root = torch.linalg.cholesky(covariances)
    clean = means[which] + torch.einsum("nij,nj->ni", root[which], normal(generator, n, 2))
    noise, signal = normal(generator, n, 2), SCHEDULE.alpha_bar[300].item()
    x = math.sqrt(signal) * clean + math.sqrt(1 - signal) * noise
    residual = noise - exact.mixture(means, covariances, SCHEDULE, weights)(x, 300)
    for feature in (torch.ones_like(x), x, x.square(), torch.sin(3 * x), x.flip(-1)):
        error = 5 * (residual * feature).std(0) / math.sqrt(n)
        assert ((residual * feature).mean(0).abs() <= error).all()


def test_denoisers_are_finite_wherever_they_are_asked(generator, dtype):
    means, covariances, _ = parts(generator)
    data = normal(generator, 30, 3)
    far = torch.tensor([[0.0, 0.0, 0.0], [1e4, -1e4, 1e4], [1e15, 0.0, 0.0]], dtype=dtype)
    far = far.to(data.device)
    for denoiser in (
        exact.gaussian(means[0], torch.zeros(3), SCHEDULE),
        exact.mixture(means, covariances, SCHEDULE),
        exact.empirical(data, SCHEDULE),
    ):
        for t in TIMES:
            predicted = denoiser(far, t)
            assert predicted.isfinite().all() and predicted.dtype == dtype
        x = far.repeat(2, 1)[:4]
        together = denoiser(x, torch.tensor(TIMES, device=x.device))
        singly = torch.stack([denoiser(x[i], t) for i, t in enumerate(TIMES)])
        assert gap(together, singly) <= 1e-6


def test_sampling_with_the_empirical_denoiser_returns_the_data(generator, dtype):
    data = normal(generator, 20, 4)
    x = normal(generator, 15, 4).to(dtype)
    end = samplers.ddim(exact.empirical(data, SCHEDULE), SCHEDULE, x, SCHEDULE.times(100))
    nearest = torch.cdist(end.double(), data).min(-1).values
    assert nearest.max() <= (1e-4 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: exact.gaussian([0.0], [-1.0], SCHEDULE), "eigenvalue -1"),
        (lambda: exact.gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], SCHEDULE), "eigenvalue -1"),
        (lambda: exact.gaussian([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]], SCHEDULE), "symmetric"),
        (lambda: exact.gaussian([0.0, 0.0], [1.0], SCHEDULE), "covariance has shape"),
        (lambda: exact.gaussian([math.nan], [1.0], SCHEDULE), "mean has 1 of 1"),
        (lambda: exact.gaussian(0.0, 1.0, SCHEDULE), "expected 1 axes"),
        (lambda: exact.mixture([[0.0]], [[1.0]], SCHEDULE, [1.0, 1.0]), "weights has 2 entries"),
        (lambda: exact.mixture([[0.0]], [[1.0]], SCHEDULE, [-1.0]), "weights has 1 entries"),
        (lambda: exact.mixture([[0.0]], [[1.0]], SCHEDULE, [0.0]), "not all 0"),
        (lambda: exact.empirical(torch.zeros(0, 2), SCHEDULE), "none of them empty"),
        (lambda: exact.empirical([[math.inf]], SCHEDULE), "data has 1 of 1"),
        (lambda: exact.empirical([[0.0]], SCHEDULE, chunk=0), "chunk"),
    ],
)
def test_laws_that_are_none_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("t", [0, 1001, 0.5, torch.tensor([1, 0]), torch.tensor([[[1]]])])
def test_denoisers_refuse_times_and_points_of_another_kind(t):
    x = torch.zeros(2, 2)
    for denoiser in (
        exact.gaussian([0.0, 0.0], [1.0, 1.0], SCHEDULE),
        exact.empirical([[0.0, 0.0]], SCHEDULE),
    ):
        with pytest.raises(ValueError, match="expected"):
            denoiser(x, t)
        with pytest.raises(ValueError, match="x has shape"):
            denoiser(torch.zeros(2, 3), 5)


# ---- the published matrices -----------------------------------------------------------------


#: Few steps, so that each does much.
SHORT, TIME = Schedule.cosine(10), 6


def published(generator, n=3):
    """A state, the mean and variance that the report gives it, noise, and clean data."""
    clean, x, noise = normal(generator, 3, n)
    mean, variance = diffusion.published_posterior(SHORT, TIME, x, clean)
    return x, mean, variance, noise, clean


def homogeneous(x):
    return torch.cat([x, torch.ones_like(x[..., :1])], -1)


def test_the_published_matrix_does_what_it_says_at_its_own_state(generator):
    x, mean, variance, noise, _ = published(generator)
    M = diffusion.published_denoising_matrix(x, mean, variance, noise)
    assert gap(M @ homogeneous(x), homogeneous(mean + variance * noise)) <= 1e-12
    # A variance stands where the standard deviation belongs.
    added = diffusion.ddpm_step(SHORT, TIME, torch.zeros_like(x), noise)[1:]
    assert gap(added, variance.sqrt() * noise) <= 1e-12
    assert variance < 0.5 * variance.sqrt()


def test_the_published_matrix_is_undefined_at_zero(generator):
    x, mean, variance, noise, _ = published(generator)
    x[1] = 0.0
    with pytest.raises(ValueError, match="x has 1 entries that are 0"):
        diffusion.published_denoising_matrix(x, mean, variance, noise)
    x[1] = 1e-12
    M = diffusion.published_denoising_matrix(x, mean, variance, noise)
    assert M.abs().max() > 1e9
    # And not invertible where the mean is 0.
    mean[1] = 0.0
    assert torch.linalg.det(diffusion.published_denoising_matrix(x, mean, variance, noise)) == 0


def test_the_published_matrix_depends_on_the_state(generator):
    """What takes x to its mean takes no other state to its own, although the step is one."""
    x, first, variance, noise, clean = published(generator)
    other = x + 0.5
    second, _ = diffusion.published_posterior(SHORT, TIME, other, clean)
    M, N = (
        diffusion.published_denoising_matrix(y, mean, variance, noise)
        for y, mean in ((x, first), (other, second))
    )
    assert gap(M, N) > 0.1
    assert gap((M @ homogeneous(other))[:3], second + variance * noise) > 0.01
    # One affine element, with x₀ given, is right at both.
    late, early = SHORT.alpha_bar[TIME].item(), SHORT.alpha_bar[TIME - 1].item()
    scale = math.sqrt(late / early) * (1 - early) / (1 - late)
    assert gap(scale * other + (first - scale * x), second) <= 1e-12


def test_matrices_with_bounded_entries_are_not_closed():
    """Neither under products nor under inverses, and they need not have inverses at all."""
    bound = 1.0
    x, mean = torch.tensor([0.5, 0.5]).double(), torch.tensor([0.25, 0.5]).double()
    noise = torch.ones(2).double()
    M = diffusion.published_denoising_matrix(x, mean, 0.8, noise)
    assert M.abs().max() <= bound
    assert (M @ M).abs().max() > 1.3 * bound
    assert torch.linalg.inv(M).abs().max() > 1.9 * bound
    assert torch.linalg.det(0 * M) == 0 and (0 * M).abs().max() <= bound


def test_a_published_matrix_with_a_negative_ratio_has_no_logarithm():
    one = torch.ones(1, dtype=torch.float64)
    M = diffusion.published_denoising_matrix(0.1 * one, -0.1 * one, 0.5, one)
    with pytest.raises(ValueError, match="log"):
        Affine(1).log(M)


def test_exp_of_a_compact_group_is_not_one_to_one():
    turns = 2 * math.pi * torch.arange(3, dtype=torch.float64)[:, None]
    assert gap(SO2().exp(turns), torch.eye(2).double().expand(3, 2, 2)) <= 1e-15
    # That of the group that is used here is, although it is not compact.
    G = ScaleTranslation(2)
    X = torch.randn(1000, 3, dtype=torch.float64)
    assert gap(G.log(G.exp(X)), X) <= 1e-13


def test_noising_as_published_is_an_element_of_the_group(generator):
    noise = normal(generator, 3)
    M = torch.eye(4).to(noise)
    M[:3, 3] = 0.3 * noise
    assert torch.equal(ScaleTranslation(3).matrix(diffusion.ve_step(0.3, noise)), M)


def test_the_published_matrix_refuses_shapes_that_differ():
    one = torch.ones(2)
    with pytest.raises(ValueError, match=r"mean has shape \(3,\)"):
        diffusion.published_denoising_matrix(one, torch.ones(3), 0.1, one)
    with pytest.raises(ValueError, match="noise has 2 of 2"):
        diffusion.published_denoising_matrix(one, one, 0.1, one / 0)
