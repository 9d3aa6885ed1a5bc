"""Lattices of points, and posteriors of recordings by messages forward and backward over them."""

import contextlib
import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from manifold_ae import data, heat, manifolds
from manifold_ae.distributions import HeatKernel
from manifold_ae.models import BrownianPrior, DeltaVAE, likelihoods
from manifold_ae.models.lattices import lattice
from manifold_ae.models.smoothing import (
    chain,
    forward_backward,
    likeliest_rate,
    moments,
    smooth,
)
from manifold_ae.models.smoothing.observed import _Emissions
from manifold_ae.nn import MLP

INF = math.inf


def run(grid, log_emission, variances, log_start):
    """log γ of all rows, and log p of them."""
    parts = list(forward_backward(grid, lambda i, j: log_emission[i:j], variances, log_start))
    parts.sort(key=lambda part: part[0])
    return torch.cat([gamma for _, gamma, _ in parts]), sum(part for _, _, part in parts)


# ---- lattices -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    ["circle", "torus:2", "torus:3", "sphere:1", "sphere:2", "sphere:3", "so3", "projective:1",
     "projective:2", "projective:3", "sphere:2*circle"],
)  # fmt: skip
def test_sums_over_a_lattice_are_integrals(spec):
    M = manifolds.parse(spec)
    grid = lattice(M, 3000)
    assert 2000 < len(grid) < 4500
    assert_close(len(grid) * grid.cell, M.volume, rtol=1e-9, atol=0)
    y = grid.points
    assert y.shape == (len(grid), *M.ambient_shape) and y.dtype == torch.float64
    assert_close(M.projx(y), y, rtol=0, atol=1e-9)
    z = M.random_uniform(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    time = torch.full((20, 1, *M.time_shape), 0.25).double()
    mass = heat.log_kernel(M, z.unsqueeze(1), y, time.expand(20, len(y), *M.time_shape)).exp()
    # random points in their place would have errors of 3 to 10 %
    assert_close(mass.sum(1) * grid.cell, torch.ones(20).double(), rtol=0, atol=0.02)


@pytest.mark.parametrize("spec", ["klein-bottle", "embedded-torus"])
def test_other_manifolds_are_covered_by_samples(spec):
    M = manifolds.parse(spec)
    grid = lattice(M, 500)
    assert len(grid) == 500 and torch.equal(grid.points, lattice(M, 500).points)
    assert_close(len(grid) * grid.cell, M.volume)


def test_euclidean_axes_lie_between_their_bounds():
    M = manifolds.parse("circle*euclidean:2")
    grid = lattice(M, 4000, low=torch.tensor([-1.0, 0.0]), high=torch.tensor([1.0, 3.0]))
    assert len(grid.axes) == 3 and len(grid) == pytest.approx(4000, rel=0.1)
    spacings = [axis.spacing for axis in grid.axes]
    assert max(spacings) < 1.1 * min(spacings)
    flat = grid.points[:, 2:]
    assert (flat > torch.tensor([-1.0, 0.0])).all() and (flat < torch.tensor([1.0, 3.0])).all()
    assert [t.tolist() for t in grid.times(torch.tensor([1.0, 2.0, 3.0]))] == [1.0, [2.0], [3.0]]
    for low, high in ((1.0, 1.0), (0.0, INF), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="expected a bounded range"):
            lattice(M, 10, low=low, high=high)
    with pytest.raises(ValueError, match="count = 0: expected at least one point"):
        lattice(M, 0)


@pytest.mark.parametrize(
    "spec", ["circle", "sphere:2", "sphere:3", "so3", "projective:2", "projective:3"]
)
@pytest.mark.parametrize("t", [1e-3, 0.05, 3.0])
def test_transitions_are_the_kernel(spec, t):
    M = manifolds.parse(spec)
    y = lattice(M, 60).points
    time = torch.tensor(t).double()
    found = chain._log_transition(M, y, time)
    expected = heat.log_kernel(M, y.unsqueeze(1), y, time.expand(len(y), len(y))).log_softmax(1)
    # from a table, without which a matrix would take minutes; of what is not quite impossible
    likely = expected > -600
    assert_close(found[likely], expected[likely], rtol=1e-5, atol=1e-5)
    assert_close(found.exp(), expected.exp(), rtol=0, atol=1e-6)


# ---- the algorithm --------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["circle", "sphere:2", "torus:2", "circle*euclidean:1"])
@pytest.mark.parametrize("floor", [640.0, 1.0])
def test_messages_do_what_summing_over_all_chains_does(spec, floor, monkeypatch):
    monkeypatch.setattr(chain, "FLOOR", floor)
    M = manifolds.parse(spec)
    grid = lattice(M, 12, low=-1.0, high=1.0)
    K, n = len(grid), 4
    generator = torch.Generator().manual_seed(0)
    emission = 3 * torch.randn(n, K, generator=generator).double()
    start = torch.randn(K, generator=generator).double().log_softmax(0)
    variances = torch.tensor([INF, 0.3, 1.0, 0.2]).double().reshape(-1, *[1] * len(M.time_shape))
    variances = variances.expand(n, *M.time_shape)
    y = grid.points
    steps = []
    for v in variances[1:]:
        kernel = heat.log_kernel(M, y.unsqueeze(1), y, v.expand(K, K, *M.time_shape))
        steps.append(kernel.log_softmax(1))
    joint = torch.zeros(*[K] * n).double()
    for states in itertools.product(range(K), repeat=2):
        joint[states] += start[states[0]] + steps[0][states]
    joint += steps[1][None, :, :, None] + steps[2][None, None]
    for i in range(n):
        joint += emission[i].reshape([K if j == i else 1 for j in range(n)])
    gamma, evidence = run(grid, emission, variances, start)
    assert_close(evidence, torch.logsumexp(joint.flatten(), 0).item(), rtol=0, atol=1e-8)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        assert_close(
            gamma[i], (joint.logsumexp(others) - evidence), rtol=0, atol=2e-8 if floor > 1 else 1e-4
        )


def test_on_a_line_it_is_the_kalman_smoother():
    M, n, rate, noise = manifolds.parse("euclidean:1"), 50, 0.05, 0.3
    generator = torch.Generator().manual_seed(0)
    z = (math.sqrt(rate) * torch.randn(n, generator=generator, dtype=torch.float64)).cumsum(0)
    x = z + math.sqrt(noise) * torch.randn(n, generator=generator, dtype=torch.float64)
    # rows 20 and 21 are far apart in time
    steps = torch.full((n, 1), rate, dtype=torch.float64)
    steps[21] = 40 * rate
    grid = lattice(M, 800, low=-10.0, high=10.0)
    y = grid.points[:, 0]
    emission = -((x.unsqueeze(1) - y) ** 2) / (2 * noise) - 0.5 * math.log(2 * math.pi * noise)
    start = -(y**2) / 2 - 0.5 * math.log(2 * math.pi) + math.log(grid.cell)
    gamma, evidence = run(grid, emission, steps, start)
    # Kalman's filter and Rauch's smoother, as they are written
    means, variances, predicted, log_p = [], [], [], 0.0
    m, v = torch.tensor(0.0).double(), torch.tensor(1.0).double()
    for k in range(n):
        if k:
            v = v + steps[k, 0]
        predicted.append((m, v))
        law = torch.distributions.Normal(m, (v + noise).sqrt())
        log_p += law.log_prob(x[k]).item()
        gain = v / (v + noise)
        m, v = m + gain * (x[k] - m), (1 - gain) * v
        means.append(m)
        variances.append(v)
    for k in reversed(range(n - 1)):
        ahead, spread = predicted[k + 1]
        back = variances[k] / spread
        means[k] = means[k] + back * (means[k + 1] - ahead)
        variances[k] = variances[k] + back**2 * (variances[k + 1] - spread)
    mean, time = moments(M, grid.points, gamma)
    assert_close(mean[:, 0], torch.stack(means), rtol=0, atol=1e-6)
    assert_close(time[:, 0], torch.stack(variances), rtol=0, atol=1e-6)
    assert_close(evidence, log_p, rtol=0, atol=1e-5)


def test_a_surprise_is_weighed_in_logarithms(monkeypatch):
    """What a matrix product cannot tell from nothing is what happened: a leap of 20 deviations."""
    M = manifolds.parse("circle")
    grid = lattice(M, 300)
    angles = torch.tensor([0.0, 0.0, 2.5, 2.5]).double()
    emission = 4000 * (M.to_angles(grid.points).T - angles.unsqueeze(1)).cos()
    variances = torch.full((4,), 0.002).double()
    start = torch.zeros(len(grid)).double()
    gamma, evidence = run(grid, emission, variances, start)
    exactly = []
    monkeypatch.setattr(chain, "TRUSTED", -1.0)
    monkeypatch.setattr(chain, "FLOOR", 1e-3)
    exactly = run(grid, emission, variances, start)
    assert gamma.isfinite().all()
    assert_close(gamma.exp(), exactly[0].exp(), rtol=0, atol=1e-9)
    assert_close(evidence, exactly[1], rtol=1e-9, atol=1e-6)
    # the leap costs what the kernel says
    assert evidence < 4 * 4000 - 700


# ---- of a model -----------------------------------------------------------------------------


def model(spec: str, *, features: int = 8, motion: bool = True) -> DeltaVAE:
    """A model that is not trained, but sharp: what it says of x depends on z by much."""
    M = manifolds.parse(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = DeltaVAE(
            M, MLP(features, (8,)), MLP(M.embedding_size, (32,)),
            likelihood=likelihoods.named("poisson", (features,)),
            motion=BrownianPrior(M, initial=0.1) if motion else None,
        )  # fmt: skip
        for parameter in vae.decoder.parameters():
            parameter.data *= 2.5
    return vae.eval()


def observed(vae: DeltaVAE, n: int, rate: float, seed: int = 0):
    """A path on the manifold, and counts along it."""
    generator = torch.Generator().manual_seed(seed)
    M = vae.manifold
    points = [M.base_point()]
    for _ in range(n - 1):
        law = HeatKernel(M, points[-1], torch.full(M.time_shape, rate))
        points.append(law.sample(generator=generator))
    z = torch.stack(points)
    with torch.no_grad():
        x = torch.poisson(vae.decode(z), generator=generator)
    return z, x, data.elapsed_times({}, torch.arange(n))


@pytest.mark.parametrize(
    "spec",
    ["circle", "torus:2", "sphere:2", "so3", "projective:2", "circle*euclidean:1"],
)
def test_neighbours_tell_where_a_row_lies(spec):
    vae = model(spec)
    M = vae.manifold
    z, x, elapsed = observed(vae, 24, 0.04)
    count = 300 if M.dim < 3 else 600
    coarse = pytest.warns(UserWarning, match="points there are enough")
    with coarse if M.dim == 3 else contextlib.nullcontext():
        alone = smooth(vae, x, elapsed, rate=INF, count=count)
        together = smooth(vae, x, elapsed, rate=0.04, count=count, keep=True)
    assert together.points.shape == z.shape and together.time.shape == (24, *M.time_shape)
    assert_close(M.projx(together.points), together.points, rtol=0, atol=1e-5)
    error = [M.dist(found.points, z).square().mean().sqrt() for found in (alone, together)]
    assert error[1] < 0.8 * error[0]
    assert together.time.mean() < 0.8 * alone.time.mean()
    assert together.log_marginals is not None
    assert_close(together.log_marginals.exp().sum(1), torch.ones(24), rtol=0, atol=1e-4)


def test_without_coupling_every_row_is_on_its_own():
    vae = model("sphere:2")
    _, x, elapsed = observed(vae, 6, 0.04)
    grid = lattice(vae.manifold, 300)
    y = grid.points.float()
    with torch.no_grad():
        log_p = torch.stack([vae.conditional_log_prob(row, y) for row in x]).double()
    expected = log_p.log_softmax(1)
    for rate, times in ((INF, elapsed), (0.04, torch.full((6,), INF)), (1e6, elapsed)):
        found = smooth(vae, x, times, rate=rate, count=300, keep=True)
        assert_close(found.log_marginals.double(), expected, rtol=0, atol=1e-4)
        evidence = (log_p.logsumexp(1) - math.log(len(grid))).sum().item()
        assert_close(found.log_evidence, evidence, rtol=0, atol=1e-3)
    # and a rate of nearly nothing, of one place for all, on the points that there are
    with pytest.warns(UserWarning, match="short for the spacing"):
        still = smooth(vae, x, elapsed, rate=1e-7, count=300, keep=True)
    at_one = log_p.sum(0).log_softmax(0).expand(6, -1)
    assert_close(still.log_marginals.double().exp(), at_one.exp(), rtol=0, atol=1e-4)


def test_a_finer_lattice_says_the_same():
    vae = model("circle")
    _, x, elapsed = observed(vae, 20, 0.02)
    coarse, fine = (smooth(vae, x, elapsed, rate=0.02, count=count) for count in (150, 600))
    # the decoder's layers have kinks, so that the error falls with the square of the spacing
    assert vae.manifold.dist(coarse.points, fine.points).max() < 1e-3
    assert_close(coarse.time, fine.time, rtol=1e-3, atol=1e-6)
    # of 20 rows, whose log p(x | z) are single precision
    assert_close(coarse.log_evidence, fine.log_evidence, rtol=0, atol=3e-3)


def test_trials_are_smoothed_apart():
    vae = model("circle")
    _, x, elapsed = observed(vae, 20, 0.02)
    elapsed[8] = INF
    both = smooth(vae, x, elapsed, count=200)
    first = smooth(vae, x[:8], elapsed[:8], count=200)
    second = smooth(vae, x[8:], elapsed[8:], count=200)
    assert_close(both.points, torch.cat([first.points, second.points]))
    assert_close(both.log_evidence, first.log_evidence + second.log_evidence)
    # its own prior along time is what a model is smoothed by
    assert_close(both.points, smooth(vae, x, elapsed, rate=vae.motion.rate, count=200).points)


def test_the_encoders_bound_is_below_the_evidence():
    """Over windows that are whole trials, the training objective bounds what smoothing computes."""
    vae = model("circle")
    _, x, elapsed = observed(vae, 12, 0.02)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bounds = [vae.loss(x, elapsed=elapsed.float())["elbo"].item() * 12 for _ in range(50)]
    evidence = smooth(vae, x, elapsed, count=300).log_evidence
    assert sum(bounds) / 50 < evidence


def test_the_likeliest_rate_is_that_of_the_motion():
    vae, unit = model("circle", features=16), 0.1
    _, x, elapsed = observed(vae, 250, 0.05)
    rate = likeliest_rate(vae, x, unit * elapsed, count=100)
    assert 0.6 < rate * unit / 0.05 < 1.6
    evidence = [
        smooth(vae, x, unit * elapsed, rate=r, count=100).log_evidence
        for r in (rate / 3, rate, 3 * rate)
    ]
    assert evidence[1] > max(evidence[0], evidence[2])
    with pytest.raises(ValueError, match="no row follows another"):
        likeliest_rate(vae, x, torch.full((250,), INF))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, "rate = 0.0: expected positive variances"),
        ({"rate": math.nan}, "rate = nan"),
        ({"elapsed": torch.ones(3)}, "elapsed has 3 rows: expected 5"),
        ({"elapsed": torch.zeros(5)}, "expected positive times"),
        ({"elapsed": torch.full((5,), math.nan)}, "expected positive times"),
    ],
)
def test_refusals_of_smoothing(change, message):
    vae = model("circle")
    arguments = {"elapsed": torch.ones(5), "rate": 0.1} | change
    with pytest.raises(ValueError, match=message):
        smooth(vae, torch.ones(5, 8), **arguments)


def test_what_cannot_be_smoothed_is_refused():
    with pytest.raises(ValueError, match="trained without a prior along time: name the variance"):
        smooth(model("circle", motion=False), torch.ones(2, 8), torch.ones(2))
    with pytest.raises(ValueError, match=r"has 4 dimensions: .* up to 3"):
        smooth(model("torus:4"), torch.ones(2, 8), torch.ones(2))


@pytest.mark.parametrize("covariates", [0, 2])
@pytest.mark.parametrize("exposure", [False, True])
def test_emissions_are_those_of_the_model_at_every_point(covariates, exposure):
    """What points decode to is shared by the rows only where nothing of the rows enters it."""
    M = manifolds.Sphere(2)
    likelihood = likelihoods.Poisson((4,))
    torch.manual_seed(3)
    vae = DeltaVAE(
        M, MLP(4 + covariates + exposure, (8,)), MLP(3 + covariates, (8,)), likelihood=likelihood,
        covariates=covariates, exposure=exposure,
    )  # fmt: skip
    x, y = torch.poisson(2 * torch.ones(6, 4)), M.random_uniform(5)
    given = {}
    if covariates:
        given["covariates"] = torch.randn(6, covariates)
    if exposure:
        given["exposure"] = torch.rand(6) + 0.5
    found = _Emissions(vae, y, x, given)(1, 5)
    for row in range(1, 5):
        own = {name: value[row] for name, value in given.items()}
        alone = [vae.conditional_log_prob(x[row], z, **own) for z in y]
        assert_close(found[row - 1], torch.stack(alone).double(), rtol=1e-5, atol=1e-5)
