"""Denoisers, the model that trains and samples them, and the distance that judges its samples."""

import math

import pytest
import torch
from torch import nn

from manifold_ae import data
from manifold_ae.data import Fresh, mixture_parameters
from manifold_ae.data.seeding import generator_for
from manifold_ae.diffusion import Schedule, diffusion_trace, exact, samplers
from manifold_ae.metrics import sample_quality, sliced_wasserstein
from manifold_ae.models import DiffusionModel
from manifold_ae.nn import MLPDenoiser, TimeEmbedding
from manifold_ae.training import Schedule as Course
from manifold_ae.training import fit, make_fabric

POINTS = ("mixture", "moons", "s-curve")


def model(shape=(2,), dtype=torch.float32, ema=0.9, steps=20, device="cpu") -> DiffusionModel:
    denoiser = MLPDenoiser(shape, width=16, depth=2, embedding=8)
    # Not the zeros that it begins with: what is predicted has to depend on everything.
    for layer in (denoiser.leave, denoiser.gain):
        nn.init.normal_(layer.weight, std=0.1)
    made = DiffusionModel(Schedule.cosine(steps), denoiser, shape, ema)
    return made.to(device=device, dtype=dtype)


# ---- networks -----------------------------------------------------------------------------------


def test_the_embedding_is_the_formula(dtype, device):
    embedding = TimeEmbedding(6, longest=100.0).to(device=device, dtype=dtype)
    t = torch.arange(50, device=device)
    wanted = [f(t * 100.0 ** (-j / 2)) for f in (torch.sin, torch.cos) for j in range(3)]
    found = embedding(t)
    assert found.dtype == dtype and found.shape == (50, 6)
    # Angles of up to 49 radians in float32.
    torch.testing.assert_close(found, torch.stack(wanted, -1).to(dtype), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2,), (8, 8), (3, 4, 4)])
def test_a_denoiser_keeps_shape_and_dtype(shape, dtype, device):
    network = model(shape, dtype, device=device).network
    x = torch.randn(5, 3, *shape, dtype=dtype, device=device)
    t = torch.randint(1, 21, (5, 3), device=device)
    found = network(x, t)
    assert found.shape == x.shape and found.dtype == dtype
    torch.testing.assert_close(network(x[1, 2], t[1, 2]), found[1, 2])
    torch.testing.assert_close(network(x, 7), network(x, torch.full((5, 3), 7, device=device)))
    assert not torch.allclose(network(x, 7), network(x, 8))


def test_a_denoiser_begins_in_bounds(dtype, device):
    """It predicts that all is noise: samples are about half as large as that."""
    diffusion = DiffusionModel(Schedule.linear(1000), MLPDenoiser((4, 4), 8, 1), (4, 4))
    diffusion = diffusion.to(device=device, dtype=dtype)
    x = torch.randn(3, 4, 4, dtype=dtype, device=device)
    assert torch.equal(diffusion.network(x, 5), x)
    assert 0.2 < diffusion.sample(100, steps=20).std().item() < 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimeEmbedding(5), "size=5: expected an even integer"),
        (lambda: TimeEmbedding(2), "size=2: expected an even integer of at least 4"),
        (lambda: TimeEmbedding(8, 1.0), "longest=1.0: expected a number above 1"),
        (lambda: TimeEmbedding(8)(torch.zeros(2)), "t has dtype torch.float32: expected integers"),
        (lambda: MLPDenoiser(2, width=0), "positive sizes, got .*width=0"),
        (lambda: MLPDenoiser(2)(torch.zeros(4, 3), 1), r"x has shape \(4, 3\): expected \(\*, 2\)"),
        (
            lambda: MLPDenoiser(2)(torch.zeros(4, 2), torch.ones(3).long()),
            r"t has shape \(3,\): expected \(4,\)",
        ),
    ],
)
def test_wrong_arguments_of_networks_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- the model ----------------------------------------------------------------------------------


def test_the_loss_is_the_formula(dtype, device, tolerance):
    diffusion = model((4, 4), dtype, device=device)
    x, noise = torch.randn(2, 7, 4, 4, dtype=dtype, device=device)
    t = torch.randint(1, 21, (7,), device=device)
    alpha = diffusion.schedule.alpha_bar.to(device)[t][:, None, None]
    noisy = alpha.sqrt().to(dtype) * x + (1 - alpha).sqrt().to(dtype) * noise
    wanted = (noise - diffusion.network(noisy, t)).square().mean((1, 2))
    torch.testing.assert_close(
        diffusion.errors(x, t, noise), wanted, rtol=tolerance, atol=tolerance
    )


def test_terms_of_a_batch(dtype, device):
    diffusion = model(dtype=dtype, device=device)
    terms = diffusion(torch.randn(64, 2, dtype=dtype, device=device))
    assert set(terms) == {"loss", "mse"}
    assert terms["loss"].dtype == dtype and terms["loss"].requires_grad
    assert 0 < terms["mse"].item() < terms["loss"].item() and not terms["mse"].requires_grad
    terms["loss"].backward()
    assert all(
        w.grad is not None and w.grad.isfinite().all() for w in diffusion.network.parameters()
    )
    assert all(w.grad is None for w in diffusion.average.parameters())


def test_every_time_comes_as_often(device):
    """With a batch of T rows, each of the times 1, …, T comes once."""
    diffusion = model(steps=20, device=device)
    seen = []
    diffusion.network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[1]))
    diffusion.loss(torch.randn(20, 2, device=device))
    assert seen[0].sort().values.tolist() == list(range(1, 21))
    assert seen[0].tolist() != list(range(1, 21))


def test_the_average_is_the_formula(dtype, device, tolerance):
    diffusion = model(dtype=dtype, ema=0.7, device=device)
    wanted = [w.detach().clone() for w in diffusion.network.parameters()]
    optimizer = torch.optim.SGD(diffusion.parameter_groups(), lr=0.02)
    for k in range(1, 41):
        loss = diffusion.loss(torch.randn(8, 2, dtype=dtype, device=device))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        diffusion.after_step()
        d = min(0.7, k / (k + 9))
        wanted = [
            d * mean + (1 - d) * w.detach()
            for mean, w in zip(wanted, diffusion.network.parameters(), strict=True)
        ]
    assert diffusion.updates.item() == 40
    for mean, value in zip(diffusion.average.parameters(), wanted, strict=True):
        torch.testing.assert_close(mean, value, rtol=tolerance, atol=tolerance)


def test_training_and_evaluation_use_their_own_weights(device):
    diffusion = model(device=device)
    x = torch.randn(3, 2, device=device)
    with torch.no_grad():
        for w in diffusion.network.parameters():
            w += 0.1
    assert torch.equal(diffusion.train().denoiser(x, 4), diffusion.network(x, 4))
    assert torch.equal(diffusion.eval().denoiser(x, 4), diffusion.average(x, 4))
    assert not torch.allclose(diffusion.network(x, 4), diffusion.average(x, 4))
    # Samples are those of the average in either mode.
    drawn = [m.sample(4, steps=5, generator=generator_for("ema")) for m in
             (diffusion.train(), diffusion.eval())]  # fmt: skip
    assert torch.equal(*drawn)


def test_no_average_is_the_last_weights(device):
    diffusion = model(ema=0.0, device=device)
    with torch.no_grad():
        for w in diffusion.network.parameters():
            w.normal_()
    diffusion.after_step()
    for mean, w in zip(diffusion.average.parameters(), diffusion.network.parameters(), strict=True):
        assert torch.equal(mean, w)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_chain_ends_in_the_samples(dtype, device, eta):
    diffusion = model((4, 4), dtype, device=device).eval()
    draw = {"steps": 8, "eta": eta}
    chain = diffusion.chain(3, generator=generator_for("chain", device=device), **draw)
    x = diffusion.sample(3, generator=generator_for("chain", device=device), **draw)
    assert x.shape == (3, 4, 4) and x.dtype == dtype
    assert torch.equal(chain.end, x.flatten(1))
    assert chain.times == diffusion.schedule.times(8)
    # One element does what eight steps did, and the chain is actions of elements alone.
    torch.testing.assert_close(
        chain.group.act(chain.element, chain.start), chain.end, rtol=1e-4, atol=1e-4
    )
    replayed = samplers.chains.replay(chain.elements, chain.start)
    assert torch.equal(replayed, chain.states)
    again = diffusion.sample(3, generator=generator_for("other", device=device), **draw)
    assert not torch.allclose(x, again)


def test_the_denoiser_serves_traces_of_either_dtype(dtype, device):
    diffusion = model((4, 4), torch.float32, device=device).eval()
    rows = torch.randn(2, 3, 16, dtype=dtype, device=device)
    assert diffusion.denoiser(rows, 5).shape == rows.shape
    assert diffusion.denoiser(rows, 5).dtype == dtype
    trace = diffusion_trace(
        "ddim",
        torch.randn(2, 4, 4, device=device),
        diffusion.schedule,
        denoiser=diffusion.denoiser,
        times=(20, 10, 0),
    )
    assert trace.actions.shape == (2, 2, 17)


def test_a_state_dict_is_the_whole_model(device):
    one, other = model(device=device), model(device=device)
    one.after_step()
    other.load_state_dict(one.state_dict())
    x = torch.randn(3, 2, device=device)
    for mode in (True, False):
        assert torch.equal(one.train(mode).denoiser(x, 3), other.train(mode).denoiser(x, 3))
    assert other.updates.item() == 1


class Constant(nn.Module):
    """A denoiser that says the same whatever x is."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: torch.Tensor, t: int | torch.Tensor) -> torch.Tensor:
        return self.value.expand_as(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: model(ema=1.0), r"ema=1.0: expected .* in \[0, 1\)"),
        (
            lambda: DiffusionModel(Schedule.cosine(5), MLPDenoiser(2), (3,)),
            r"event_shape=\(3,\): the denoiser takes \(2,\)",
        ),
        (lambda: model().loss(torch.zeros(4, 3)), r"x has shape \(4, 3\): expected \(n, 2\)"),
        (lambda: model().loss(torch.zeros(4, 2).double()), "dtype torch.float64: expected torch.f"),
        (lambda: model().sample(0), "n=0: expected how many"),
        (lambda: model().sample(2, steps=21), "calls=21: expected at most 20"),
        (lambda: model().sample(2, steps=0), "calls must be an integer of at least 1, got 0"),
        (lambda: model().sample(2, steps=5, eta=-1.0), "eta=-1"),
        (lambda: model().denoiser(torch.zeros(2, 2), 0), "0 ≤ s < t"),
        (lambda: model().denoiser(torch.zeros(2, 3), 1), r"expected \(\*, 2\)"),
        (
            lambda: DiffusionModel(Schedule.cosine(5), Constant(math.nan), (2,)).sample(3, steps=5),
            "not finite",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POINTS)
def test_points_have_unit_moments(name):
    """Mean 0 and variance 1 in each coordinate, as far as 200,000 points tell."""
    x, labels = data.load(name).draw(200_000, generator=generator_for(name))
    assert len(labels) == len(x)
    torch.testing.assert_close(x.mean(0), torch.zeros(2), rtol=0, atol=0.012)
    torch.testing.assert_close(x.var(0), torch.ones(2), rtol=0, atol=0.015)


@pytest.mark.parametrize("name", POINTS)
def test_points_are_functions_of_their_seed(name):
    one, same, other = (data.load(name, seed=seed, num_train=50) for seed in (0, 0, 1))
    assert torch.equal(one.train, same.train) and not torch.equal(one.train, other.train)
    assert not torch.equal(one.train, one.test[:50])
    assert (one.shape, one.default_scaling) == ((2,), "none")


@pytest.mark.parametrize("name", ["moons", "s-curve"])
def test_points_without_noise_lie_on_their_curve(name):
    x, label = data.load(name, noise=0.0).draw(500, generator=generator_for(name))
    if name == "moons":
        x = x.double() * torch.tensor([0.75, 0.5625 - 1 / math.pi]).sqrt()
        x = x + torch.tensor([0.5, 0.25])
        radii = torch.linalg.vector_norm(x - label[:, None] * torch.tensor([1.0, 0.5]), dim=1)
    else:
        x = x.double() * torch.tensor([0.5, 1.5 + 4 / (3 * math.pi)]).sqrt()
        centre = torch.stack([torch.zeros(500), -label[:, 0].sign()], 1)
        radii = torch.linalg.vector_norm(x - centre, dim=1)
    torch.testing.assert_close(radii, torch.ones_like(radii), rtol=0, atol=1e-6)


def test_the_mixture_is_that_of_its_parameters():
    x, k = data.load("mixture", components=5, spread=0.2).draw(
        100_000, generator=generator_for("mixture")
    )
    means, variances = mixture_parameters(5, 0.2)
    for j in range(5):
        part = x[k == j].double()
        torch.testing.assert_close(part.mean(0), means[j], rtol=0, atol=0.01)
        torch.testing.assert_close(part.var(0), variances[j], rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mixture", {"components": 2}, "components=2: expected an integer of at least 3"),
        ("mixture", {"spread": -0.1}, "spread=-0.1: expected a standard deviation"),
        ("moons", {"noise": math.inf}, "noise=inf: expected a standard deviation"),
        ("s-curve", {"num_test": 0}, "num_test=0: expected an integer of at least 1"),
    ],
)
def test_wrong_options_of_points_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, **options)


def test_one_scale_for_all_features():
    x = torch.tensor([[0.0, 5.0, 1.0], [0.0, 7.0, 2.0]])
    scaling = data.Scaling.fit("overall", x)
    torch.testing.assert_close(scaling.shift, x.double().mean())
    torch.testing.assert_close(scaling.scale, x.double().std(correction=0))
    torch.testing.assert_close(scaling.invert(scaling.apply(x)), x)


# ---- the distance -------------------------------------------------------------------------------


def test_the_distance_against_scipy(dtype, device):
    from scipy.stats import wasserstein_distance

    x = torch.randn(40, 1, dtype=dtype, device=device)
    y = 2 * torch.randn(64, 1, dtype=dtype, device=device) + 1
    found = sliced_wasserstein(x, y, order=1, directions=3)
    wanted = wasserstein_distance(x[:, 0].cpu().double(), y[:, 0].cpu().double())
    assert found == pytest.approx(float(wanted), rel=1e-12)


def test_the_distance_of_a_translation(device):
    """E |θ·v|² = |v|²/d, whatever the samples; unequal numbers of rows by their repetition."""
    x = torch.randn(30, 4, dtype=torch.float64, device=device)
    v = torch.tensor([3.0, 0.0, 4.0, 0.0], dtype=torch.float64, device=device)
    found = sliced_wasserstein(x, x + v, directions=20_000)
    assert found == pytest.approx(2.5, rel=0.02)
    y = torch.randn(20, 4, dtype=torch.float64, device=device)
    pair = [
        sliced_wasserstein(a, b, generator=torch.Generator(device).manual_seed(0))
        for a, b in ((x, y), (x.repeat(2, 1), y.repeat(3, 1)))
    ]
    assert pair[0] == pytest.approx(pair[1], rel=1e-12)


def test_quality_of_samples(generator):
    draw = data.load("mixture").draw
    assert draw is not None
    points, new = draw(4000)[0], draw(2000)[0]
    good = sample_quality(new, points, directions=64, generator=generator)
    bad = sample_quality(1.2 * new, points, directions=64, generator=generator)
    assert good.ratio is not None and good.ratio < 1.7
    assert bad.distance > 2 * good.distance
    assert good.as_dict() == {"distance": good.distance, "floor": good.floor, "ratio": good.ratio}
    assert sample_quality(points[:5], torch.zeros(9, 2), directions=4).ratio is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sliced_wasserstein(torch.zeros(3, 2), torch.zeros(3, 1)), r"x has shape \(3, 2\)"),
        (lambda: sliced_wasserstein(torch.zeros(3), torch.zeros(3)), r"x has shape \(3,\)"),
        (lambda: sliced_wasserstein(torch.zeros(3, 2), torch.zeros(0, 2)), "nothing to measure"),
        (
            lambda: sliced_wasserstein(torch.full((3, 2), math.nan), torch.zeros(3, 2)),
            "x has 6 of 6 values that are not finite",
        ),
        (lambda: sliced_wasserstein(*torch.zeros(2, 3, 2), order=0.5), "order=0.5: expected p"),
        (lambda: sliced_wasserstein(*torch.zeros(2, 3, 2), directions=0), "directions=0: expected"),
        (lambda: sample_quality(torch.zeros(3, 2), torch.zeros(1, 2)), "expected two rows"),
    ],
)
def test_wrong_arguments_of_distances_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- what training reaches ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_trained_denoiser_is_near_the_exact_one():
    """Eight Gaussians: loss within 0.02 of the best, samples within twice the floor of new data."""
    torch.manual_seed(0)
    points = data.load("mixture")
    assert points.draw is not None
    schedule = Schedule.linear(1000)
    diffusion = DiffusionModel(schedule, MLPDenoiser(2), (2,))
    fit(
        diffusion,
        Fresh(points.draw, 256, 200, seed=0),
        epochs=40,
        schedule=Course(1e-3, "cosine", None),
        fabric=make_fabric("cpu"),
        progress=False,
    )
    diffusion.eval()
    means, variances = mixture_parameters()
    best = exact.mixture(means, variances, schedule)
    x, t = points.test, torch.randint(1, 1001, (len(points.test),))
    noise = torch.randn_like(x)
    noisy = schedule.at(t).sqrt() * x + (1 - schedule.at(t)).sqrt() * noise
    least = (noise - best(noisy, t)).square().mean().item()
    assert least <= diffusion.errors(x, t, noise).mean().item() < least + 0.02
    quality = sample_quality(diffusion.sample(5000), x)
    assert quality.ratio is not None and quality.ratio < 2
