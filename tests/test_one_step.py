"""One element in place of a chain: the read-outs, what the form changes, and what it cannot."""

import math

import pytest
import torch
from torch import nn

from manifold_ae.diffusion import Schedule, ddim_first_order, ddim_step, exact, samplers
from manifold_ae.groups import ScaleTranslation
from manifold_ae.models import ElementStep, PointStep
from manifold_ae.numerics import expm1_ratio

SCHEDULE = Schedule.linear(1000)
LARGEST = 1 / math.sqrt(SCHEDULE.alpha_bar[-1].item())
READOUTS = {
    "point": lambda network: PointStep(network(2), 2),
    "translation": lambda network: ElementStep(network(2), 2),
    "scale of the chain": lambda network: ElementStep(network(2), 2, LARGEST),
    "scale learned": lambda network: ElementStep(network(3), 2, None),
}
every_readout = pytest.mark.parametrize("name", READOUTS)


def modes():
    return exact.mixture([[1.0, 1.0], [-1.0, -1.0]], [[0.1, 0.1]] * 2, SCHEDULE)


def build(name, dtype, device="cpu"):
    def network(outputs):
        return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, outputs))

    return READOUTS[name](network).to(device=device, dtype=dtype)


def normal(*shape, dtype, generator):
    return torch.randn(shape, dtype=dtype, device=generator.device, generator=generator)


# ---- the form -----------------------------------------------------------------------------------


@every_readout
def test_it_maps_and_samples(name, dtype, device, generator):
    model = build(name, dtype, device)
    x = normal(5, 3, 2, dtype=dtype, generator=generator)
    found = model(x)
    assert found.shape == x.shape and found.dtype == dtype
    torch.testing.assert_close(model(x[1, 2]), found[1, 2])
    twins = [torch.Generator(device).manual_seed(3) for _ in range(2)]
    start = normal(7, 2, dtype=dtype, generator=twins[0])
    assert torch.equal(model.sample(7, generator=twins[1]), model(start))
    assert not model.sample(2).requires_grad


@pytest.mark.parametrize("name", [name for name in READOUTS if name != "point"])
def test_an_element_takes_x_to_its_end(name, dtype, device, generator):
    model = build(name, dtype, device)
    x = normal(50, 2, dtype=dtype, generator=generator)
    g, G = model.element(x), model.group
    torch.testing.assert_close(G.act(g, x), model(x))
    near = 1e3 * torch.finfo(dtype).eps
    torch.testing.assert_close(G.log(g), model.coordinates(x), rtol=near, atol=near)
    # It is an element: it has an inverse, whatever the network says.
    torch.testing.assert_close(G.act(G.inverse(g), model(x)), x, rtol=0, atol=near)


def test_the_element_of_a_chain_is_a_single_step_of_another_prediction(generator):
    """b = −√(1/ᾱ_T − 1) ε̄: what enlarges an error in ε̄."""
    x = normal(100, 2, dtype=torch.float64, generator=generator)
    chain = samplers.ddim_chain(modes(), SCHEDULE, x, SCHEDULE.times(50))
    root = SCHEDULE.alpha_bar[-1].sqrt()
    mean_noise = (x - root * chain.end) / (1 - root**2).sqrt()
    single = ddim_step(SCHEDULE, 1000, 0, mean_noise)
    torch.testing.assert_close(chain.element, single, rtol=1e-10, atol=1e-10)
    assert torch.allclose(chain.element[:, 0], torch.tensor(LARGEST, dtype=torch.float64))
    gain = (1 / root**2 - 1).sqrt()
    off = ddim_step(SCHEDULE, 1000, 0, mean_noise + 1e-3)
    gap = ScaleTranslation(2).act(off, x) - chain.end
    torch.testing.assert_close(gap, (-1e-3 * gain).expand_as(gap), rtol=1e-7, atol=0)


@pytest.mark.parametrize("scale", [1.0, 3.0, LARGEST])
def test_the_loss_of_log_coordinates_is_that_of_points_scaled(scale, generator):
    layer = nn.Linear(2, 2)
    model = ElementStep(layer, 2, scale).double()
    x, y = (normal(50, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    element = torch.cat([torch.full_like(x[:, :1], scale), y - scale * x], -1)
    factor = expm1_ratio(torch.tensor(math.log(scale), dtype=torch.float64)) ** 2
    points, log = model.loss(x, y)["loss"], model.log_loss(x, element)["loss"]
    torch.testing.assert_close(points, factor * log)
    slopes = [torch.autograd.grad(loss, layer.weight)[0] for loss in (points, log)]
    torch.testing.assert_close(slopes[0], factor * slopes[1])


def test_all_scales_reach_the_same_points_where_the_network_has_a_linear_part(generator):
    """y = s x + φ₁ v: a change of s is one of the weights of v, and nothing more."""
    x = normal(50, 2, dtype=torch.float64, generator=generator)
    ends = nn.Linear(2, 2)
    point = PointStep(ends, 2).double()
    for scale in (0.1, 1.0, LARGEST):
        layer = nn.Linear(2, 2)
        model = ElementStep(layer, 2, scale).double()
        width = expm1_ratio(torch.tensor(math.log(scale), dtype=torch.float64))
        with torch.no_grad():
            eye = torch.eye(2, dtype=torch.float64)
            layer.weight.copy_((ends.weight - scale * eye) / width)
            layer.bias.copy_(ends.bias / width)
        torch.testing.assert_close(model(x), point(x), rtol=0, atol=1e-11)


# ---- losses -------------------------------------------------------------------------------------


@every_readout
def test_the_derivative_term_is_that_of_central_differences(name, generator):
    model = build(name, torch.float64)
    x, y = (normal(20, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    wanted = normal(20, 2, 2, dtype=torch.float64, generator=generator)
    terms = model.loss(x, y, wanted, weight=0.5)
    steps = 1e-6 * torch.eye(2, dtype=torch.float64)
    slopes = torch.stack([(model(x + h) - model(x - h)) / 2e-6 for h in steps], -1)
    direct = (slopes - wanted).square().sum((1, 2)).mean() / 2
    torch.testing.assert_close(terms["derivative"], direct.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(terms["points"], (model(x) - y).square().mean().detach())
    torch.testing.assert_close(terms["loss"], terms["points"] + 0.5 * terms["derivative"])
    # The term itself has a gradient: a difference of the loss along a direction of the weights.
    weight = next(model.parameters())
    slope = torch.autograd.grad(terms["loss"], weight)[0]
    along = torch.randn_like(weight)
    ends = []
    for h in (1e-6, -1e-6):
        with torch.no_grad():
            weight += h * along
        ends.append(model.loss(x, y, wanted, weight=0.5)["loss"].item())
        with torch.no_grad():
            weight -= h * along
    expected = (slope * along).sum().item()
    assert math.isclose((ends[0] - ends[1]) / 2e-6, expected, rel_tol=1e-5)


@pytest.mark.parametrize("name", [name for name in READOUTS if name != "scale learned"])
def test_a_linear_network_learns_gaussian_data_to_the_end(name, generator):
    """Where the whole chain is one affine map, every read-out of a fixed scale finds it."""
    denoiser = exact.gaussian([1.0, -0.5], [0.25, 2.0], SCHEDULE)
    x = normal(40, 2, dtype=torch.float64, generator=generator)
    times = SCHEDULE.times(50)
    end = samplers.ddim(denoiser, SCHEDULE, x, times)
    derivative = ddim_first_order(denoiser, SCHEDULE, x, times)[:, :2, :2]
    model = READOUTS[name](lambda outputs: nn.Linear(2, outputs)).double()
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=100, tolerance_grad=1e-14, tolerance_change=1e-20,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimiser.zero_grad()
        loss = model.loss(x, end, derivative)["loss"]
        loss.backward()
        return loss

    optimiser.step(closure)
    fresh = normal(40, 2, dtype=torch.float64, generator=generator)
    assert (model(fresh) - samplers.ddim(denoiser, SCHEDULE, fresh, times)).abs().max() < 1e-6


def test_a_network_makes_modes_that_no_fixed_element_makes(generator):
    """Of 400 traces: the share of samples near one of two modes."""
    x = normal(400, 2, dtype=torch.float32, generator=generator)
    chain = samplers.ddim_chain(modes(), SCHEDULE, x.double(), SCHEDULE.times(20))
    model = ElementStep(
        nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 2)),
        2,
    )
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        loss = model.loss(x, chain.end.float())["loss"]
        adam.zero_grad()
        loss.backward()
        adam.step()
    made = model.sample(1000, generator=generator)

    def between(points):
        return (points.sum(-1).abs() < 0.5).double().mean().item()

    assert between(made) < 0.1
    # Any one affine map of normal noise with the moments of the data has a Gaussian's share.
    spread = math.sqrt(2 * (1 + 0.1) + 2)  # of x + y
    share = math.erf(0.5 / spread / math.sqrt(2))
    assert share > 0.15
    best = made.mean(0) + (x - x.mean(0)) @ torch.linalg.cholesky(torch.cov(made.mT)).mT
    assert abs(between(best) - share) < 0.08


# ---- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ElementStep(nn.Linear(2, 2), 2, 0.0), "scale=0.0: expected a positive number"),
        (lambda: ElementStep(nn.Linear(2, 2), 2, math.inf), "scale=inf: expected a positive"),
        (lambda: PointStep(nn.Linear(2, 3), 2)(torch.ones(4, 2)), r"returned shape \(4, 3\)"),
        (
            lambda: ElementStep(nn.Linear(2, 2), 2, None)(torch.ones(4, 2)),
            r"expected \(4, 3\), 3 numbers for each x",
        ),
        (lambda: PointStep(nn.Linear(2, 2), 2).sample(0), "count=0: expected how many"),
        (
            lambda: PointStep(nn.Linear(2, 2), 2).loss(torch.ones(4, 2), torch.ones(3, 2)),
            r"y has shape \(3, 2\): expected \(4, 2\)",
        ),
        (
            lambda: PointStep(nn.Linear(2, 2), 2).loss(torch.ones(4, 2), torch.ones(4, 2) / 0),
            "y has 8 of 8 values that are not finite",
        ),
        (
            lambda: PointStep(nn.Linear(2, 2), 2).loss(
                torch.ones(4, 2), torch.ones(4, 2), torch.ones(4, 2)
            ),
            r"derivative has shape \(4, 2\): expected \(4, 2, 2\)",
        ),
        (
            lambda: PointStep(nn.Linear(2, 2), 2).loss(
                torch.ones(4, 2), torch.ones(4, 2), torch.ones(4, 2, 2), weight=-1.0
            ),
            "weight=-1.0: expected a finite number",
        ),
        (
            lambda: ElementStep(nn.Linear(2, 2), 2).log_loss(torch.ones(4, 2), torch.zeros(4, 3)),
            "scale that is not positive",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
