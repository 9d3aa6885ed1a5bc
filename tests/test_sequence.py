"""The prior along time: a bound, its samples, its rate; and the model that has it."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from manifold_ae import data, heat, manifolds
from manifold_ae.distributions import HeatKernel
from manifold_ae.models import BrownianPrior, DeltaVAE, likelihoods
from manifold_ae.nn import MLP
from manifold_ae.replicas import Replicas

INF = math.inf
SPECS = [
    "circle", "torus:2", "sphere:2", "so3", "projective:2", "klein-bottle", "euclidean:2",
    "circle*euclidean:1", "sphere:2*circle",
]  # fmt: skip


def walk(M, n: int, variance: float, dtype=torch.float64, seed: int = 0) -> torch.Tensor:
    """A Brownian motion on M, sampled step by step."""
    generator = torch.Generator().manual_seed(seed)
    z = M.base_point(dtype=dtype)
    points = [z]
    time = torch.full(M.time_shape, variance, dtype=dtype)
    for _ in range(n - 1):
        points.append(HeatKernel(M, points[-1], time).sample(generator=generator))
    return torch.stack(points)


# ---- the coupling ---------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_the_coupling_is_the_kernel_over_the_prior(spec, dtype):
    M = manifolds.parse(spec)
    prior = M.default_prior()
    motion = BrownianPrior(M, initial=0.3, unit=2.0).to(dtype)
    z = walk(M, 6, 0.2, dtype).requires_grad_()
    elapsed = torch.tensor([INF, 1.0, 3.0, INF, 0.5, 1.0], dtype=dtype)
    coupling = motion.coupling(z, elapsed, prior)
    assert coupling.shape == (6,) and coupling[0] == coupling[3] == 0
    assert_close(motion.rate, torch.full(M.time_shape, 0.15, dtype=dtype), rtol=1e-4, atol=0)
    for i in (1, 2, 4, 5):
        law = HeatKernel(M, z[i - 1], motion.rate * elapsed[i])
        assert_close(coupling[i], law.log_prob(z[i]) - prior.log_prob(z[i]))
    coupling.sum().backward()
    assert z.grad is not None and z.grad.isfinite().all()
    assert motion.raw.grad is not None and motion.raw.grad.isfinite().all()
    assert (z.grad[[1, 2, 4]].flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("spec", [s for s in SPECS if "euclidean" not in s])
@pytest.mark.parametrize("elapsed", [1e4, 1e12])
def test_after_a_long_time_nothing_is_joined(spec, elapsed, dtype):
    M = manifolds.parse(spec)
    z = walk(M, 5, 0.3, dtype)
    long = torch.tensor([INF] + [elapsed] * 4)
    coupling = BrownianPrior(M).to(dtype).coupling(z, long, M.default_prior())
    assert_close(coupling, torch.zeros_like(coupling), rtol=0, atol=1e-5)


def test_one_row_has_no_coupling():
    M = manifolds.parse("sphere:2")
    assert BrownianPrior(M).coupling(walk(M, 1, 0.1), torch.tensor([INF]), M.default_prior()) == 0


def test_the_bound_is_one_and_falls_short_by_a_divergence():
    """Three rows on a circle of 48 points, all of whose 48³ chains are summed over."""
    M, K, n = manifolds.parse("circle"), 48, 3
    angles = torch.arange(K, dtype=torch.float64) * (2 * math.pi / K)
    y, cell = M.from_angles(angles.unsqueeze(-1)), 2 * math.pi / K
    prior = M.default_prior()
    motion = BrownianPrior(M, initial=0.3).double()
    elapsed = torch.tensor([INF, 1.0, 2.0], dtype=torch.float64)
    centres, widths = torch.tensor([0.3, 1.4, 1.2]).double(), torch.tensor([0.3, 0.8, 0.2]).double()
    q = HeatKernel(M, M.from_angles(centres.unsqueeze(-1)), widths)
    log_q = q.log_prob(y.unsqueeze(1)).mT + math.log(cell)
    # what was observed, in any way: log p(x_i | z)
    log_p = 2 * torch.cos(angles - torch.tensor([[0.1], [1.5], [0.9]]).double()) - 1.3
    pairs = [
        motion.coupling(
            torch.stack([y.repeat_interleave(K, 0), y.repeat(K, 1)], 1).flatten(0, 1),
            torch.tensor([INF, elapsed[i]] * K * K),
            prior,
        )[1::2].view(K, K)
        for i in (1, 2)
    ]
    weights = log_q.exp()
    assert_close(weights.sum(1), torch.ones(n).double(), rtol=0, atol=1e-9)
    start = prior.log_prob(y) + math.log(cell)
    # the module's bound
    rows = (weights * log_p).sum(1) - (weights * (log_q - start)).sum(1)
    joined = [weights[i - 1] @ pairs[i - 1] @ weights[i] for i in (1, 2)]
    bound = rows.sum() + sum(joined)
    # log p(x_1, x_2, x_3) and the posterior, over all chains
    chain = start[:, None, None] + start[:, None] + start + pairs[0][:, :, None] + pairs[1]
    joint = chain + log_p[0][:, None, None] + log_p[1][:, None] + log_p[2]
    evidence = torch.logsumexp(joint.flatten(), 0)
    field = log_q[0][:, None, None] + log_q[1][:, None] + log_q[2]
    gap = (field.exp() * (field - (joint - evidence))).sum()
    assert_close(evidence - bound, gap, rtol=1e-9, atol=1e-9)
    assert bound < evidence < bound + 5
    # and by samples of the posterior, as in training
    generator = torch.Generator().manual_seed(0)
    z = q.sample((20000,), generator=generator)
    sampled = motion.coupling(z.flatten(0, 1), elapsed.repeat(20000), prior).view(-1, 3).sum(1)
    error = sampled.std() / math.sqrt(len(sampled))
    assert abs(sampled.mean() - sum(joined)) < 4 * error


@pytest.mark.parametrize("spec", ["circle", "sphere:2", "euclidean:2"])
def test_the_rate_is_learned(spec):
    """From a path that is known: the rate of greatest likelihood is that of its motion."""
    M = manifolds.parse(spec)
    z = walk(M, 300, 0.05)
    # stamps in another unit, ten a step
    elapsed = torch.full((300,), 10.0).double()
    elapsed[0] = INF
    motion = BrownianPrior(M, unit=10.0).double()
    optimizer = torch.optim.Adam(motion.parameters(), 0.03)
    for _ in range(60):
        optimizer.zero_grad()
        (-motion.coupling(z, elapsed, M.default_prior()).mean()).backward()
        optimizer.step()
    assert_close(motion.rate, torch.full_like(motion.rate, 0.005), rtol=0.25, atol=0)


def test_rates_stay_within_their_range():
    motion = BrownianPrior(manifolds.parse("circle"), rate_range=(1e-3, 1e1))
    for raw in (-1e4, 1e4):
        motion.raw.data.fill_(raw)
        assert 0.99e-3 <= motion.rate <= 1.01e1
    state = BrownianPrior(manifolds.parse("circle"), unit=7.0).state_dict()
    motion.load_state_dict(state)
    assert motion.unit == 7.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initial": 0.0}, "rate_range = .* and initial = 0"),
        ({"initial": 1e5}, "rate_range"),
        ({"unit": 0.0}, "unit = 0.0: expected a positive time"),
        ({"unit": INF}, "unit = inf"),
    ],
)
def test_refusals_of_the_prior(change, message):
    with pytest.raises(ValueError, match=message):
        BrownianPrior(manifolds.parse("circle"), **change)


def test_a_manifold_without_a_kernel_is_refused():
    with pytest.raises(NotImplementedError, match="exact heat kernel is verified up to"):
        BrownianPrior(manifolds.Sphere(12))


# ---- the model that has it ------------------------------------------------------------------


def model(spec: str, seed: int = 0, **options) -> DeltaVAE:
    M = manifolds.parse(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DeltaVAE(
            M, MLP(6, (8,)), MLP(M.embedding_size, (8,)), motion=BrownianPrior(M), **options
        )


@pytest.mark.parametrize("spec", ["circle", "torus:2", "so3", "circle*euclidean:1"])
def test_the_loss_has_the_coupling_in_its_divergence(spec):
    vae = model(spec)
    x = torch.rand(7, 6, generator=torch.Generator().manual_seed(0))
    elapsed = torch.tensor([INF, 1, 1, INF, 1, 2, 1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        joined = vae({"x": x, "elapsed": elapsed}, kl_weight=0.5)
        torch.manual_seed(1)
        alone = vae(x, kl_weight=0.5)
        torch.manual_seed(1)
        z = vae.posterior(x).rsample()
    expected = vae.motion.coupling(z, elapsed, vae.prior).mean()
    assert_close(joined["coupling"], expected)
    assert_close(joined["elbo"], alone["elbo"] + expected)
    assert_close(joined["loss"], alone["loss"] - 0.5 * expected)
    assert_close(joined["kl"], alone["kl"])
    assert joined.keys() - alone.keys() == {"coupling", "rate"}
    joined["loss"].backward()
    assert vae.motion.raw.grad is not None and vae.motion.raw.grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in vae.parameters())


def test_replicas_have_priors_of_their_own():
    models = [model("circle", k) for k in range(3)]
    source = data.Windows(
        torch.rand(20, 6, generator=torch.Generator().manual_seed(0)),
        torch.tensor([INF] + [1.0] * 19), 4, 8, 0,
    )  # fmt: skip
    batch = next(data.Together([source.seeded(k) for k in range(3)]).epoch(0))
    values = []
    for mapped in (True, False):
        replicas = Replicas(models, range(3), mapped=mapped)
        values.append(replicas(batch))
        assert replicas.separately == (None if mapped else "asked for")
    for name, value in values[0].items():
        assert value.shape == (3,)
        assert_close(value, values[1][name], rtol=1e-4, atol=1e-5)


def test_rows_of_a_model_without_a_motion_have_no_order():
    M = manifolds.parse("circle")
    vae = DeltaVAE(M, MLP(6, (8,)), MLP(2, (8,)))
    with pytest.raises(ValueError, match="elapsed: this model has no prior along time"):
        vae.loss(torch.rand(3, 6), elapsed=torch.ones(3))
    other = BrownianPrior(manifolds.parse("sphere:2"))
    with pytest.raises(ValueError, match=r"motion is on Sphere\(2\): expected one on FlatTorus"):
        DeltaVAE(M, MLP(6, (8,)), MLP(2, (8,)), motion=other)


def test_log_prob_of_what_was_observed_broadcasts():
    vae = model("circle", likelihood=likelihoods.named("poisson", (6,)))
    x, z = torch.ones(4, 6), vae.manifold.random_uniform(3)
    whole = vae.conditional_log_prob(x, z.unsqueeze(1).expand(3, 4, 2))
    assert whole.shape == (3, 4)
    for i, j in itertools.product(range(3), range(4)):
        assert_close(whole[i, j], vae.conditional_log_prob(x[j], z[i]))


def test_the_kernel_has_every_length_of_time():
    # the coupling relies on it, for gaps of any length
    M = manifolds.parse("sphere:2")
    z = walk(M, 2, 1.0)
    for t in (1e-9, 1e9):
        assert heat.log_kernel(M, z[0], z[1], torch.tensor(t).double()).isfinite()
