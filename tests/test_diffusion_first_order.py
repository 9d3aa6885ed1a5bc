"""Chains as affine maps, to first order: closed forms, differences, and the chain itself."""

import pytest
import torch

from manifold_ae.diffusion import Schedule, ddim_first_order, exact, gaussian_chain, samplers
from manifold_ae.groups import Affine
from manifold_ae.models import DiffusionModel
from manifold_ae.nn import MLPDenoiser

SCHEDULE = Schedule.linear(1000)
DOUBLE = torch.float64
#: Rotated, so that nothing is diagonal.
COVARIANCE = [[1.0, 0.4], [0.4, 0.5]]


def modes(schedule=SCHEDULE):
    return exact.mixture([[1.5, 1.0], [-1.0, -1.5]], [[0.2, 0.1]] * 2, schedule)


def test_of_gaussian_data_it_is_the_one_map_for_all_states(dtype, device, generator):
    denoiser = exact.gaussian([1.0, -0.5], COVARIANCE, SCHEDULE)
    x = torch.randn(7, 3, 2, dtype=dtype, device=device, generator=generator)
    times = SCHEDULE.times(20)
    found = ddim_first_order(denoiser, SCHEDULE, x, times)
    wanted = gaussian_chain(SCHEDULE, times, [1.0, -0.5], COVARIANCE)
    assert found.shape == (7, 3, 3, 3) and found.dtype == dtype and not found.requires_grad
    # Scales of up to 157 cancel down to 1: so many roundings.
    near = 1e4 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double().cpu(), wanted.expand(7, 3, 3, 3), rtol=0, atol=near)


def test_its_derivative_is_that_of_central_differences(generator):
    x = torch.randn(50, 2, dtype=DOUBLE, generator=generator)
    times, step = SCHEDULE.times(10), 1e-5
    found = ddim_first_order(modes(), SCHEDULE, x, times)[:, :2, :2]
    for i, e in enumerate(torch.eye(2, dtype=DOUBLE)):
        ends = [samplers.ddim(modes(), SCHEDULE, x + h * e, times) for h in (step, -step)]
        slope = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(found[..., i], slope, rtol=1e-4, atol=1e-6)


def test_at_its_start_it_does_what_the_chain_does_and_nearby_to_first_order(generator):
    """The composed element of scalings is wrong there to first order, by the scale of the chain."""
    x = torch.randn(200, 2, dtype=DOUBLE, generator=generator)
    away = torch.randn(200, 2, dtype=DOUBLE, generator=generator)
    times, group = SCHEDULE.times(10), Affine(2)
    chain = samplers.ddim_chain(modes(), SCHEDULE, x, times)
    found = ddim_first_order(modes(), SCHEDULE, x, times)
    torch.testing.assert_close(group.act(found, x), chain.end, rtol=0, atol=1e-11)
    errors, others = [], []
    for size in (1e-2, 1e-3):
        near = x + size * away
        true = samplers.ddim(modes(), SCHEDULE, near, times)
        errors.append((group.act(found, near) - true).norm(dim=-1).median())
        others.append((chain.group.act(chain.element, near) - true).norm(dim=-1).median())
    assert 50 < errors[0] / errors[1] < 200  # a remainder of second order
    assert 8 < others[0] / others[1] < 12 and others[1] > 1e3 * errors[1]


def test_parts_of_a_chain_compose(generator):
    """The chain rule is the product of Affine(n)."""
    x = torch.randn(20, 2, dtype=DOUBLE, generator=generator)
    whole = ddim_first_order(modes(), SCHEDULE, x, (1000, 600, 200, 0))
    first = ddim_first_order(modes(), SCHEDULE, x, (1000, 600))
    middle = samplers.ddim(modes(), SCHEDULE, x, (1000, 600))
    rest = ddim_first_order(modes(), SCHEDULE, middle, (600, 200, 0))
    torch.testing.assert_close(Affine(2).compose(rest, first), whole, rtol=1e-10, atol=1e-10)


def test_a_network_has_one_too(dtype, generator):
    model = DiffusionModel(Schedule.cosine(20), MLPDenoiser(2, 8, 1), (2,)).to(dtype)
    x = torch.randn(5, 2, dtype=dtype, generator=generator)
    with torch.no_grad():
        found = ddim_first_order(model.denoiser, model.schedule, x, (20, 10, 0))
        end = samplers.ddim(model.denoiser, model.schedule, x, (20, 10, 0))
    near = 1e4 * torch.finfo(dtype).eps
    torch.testing.assert_close(Affine(2).act(found, x), end, rtol=near, atol=near)


def test_what_has_no_derivative_is_refused():
    x = torch.zeros(3, 2, dtype=DOUBLE)
    detached = lambda x, t: modes()(x, t).detach()  # noqa: E731
    with pytest.raises(ValueError, match="prediction at t=1000 has no gradient"):
        ddim_first_order(detached, SCHEDULE, x, (1000, 0))
    with pytest.raises(ValueError, match="expected times that fall"):
        ddim_first_order(modes(), SCHEDULE, x, (0, 1000))
    with pytest.raises(ValueError, match="values that are not finite"):
        ddim_first_order(modes(), SCHEDULE, x / 0, (1000, 0))
