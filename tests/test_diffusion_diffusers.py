"""Steps against the schedulers of diffusers, whose ᾱ is float32: the tables agree to 1e-6.

Between early times it takes an ᾱ near 1 from 1, and float32 leaves few digits of that: steps of
DDPM then differ by 10⁻⁴. Lent a table in float64, its formulas agree with those here to rounding.

    pip install diffusers && pytest -m slow tests/test_diffusion_diffusers.py

It is no dependency, not even of the tests.
"""

import pytest
import torch

from manifold_ae.diffusion import Schedule, ddim_step, ddpm_step, vp_step
from manifold_ae.groups import ScaleTranslation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]

#: Ours, and the arguments of theirs.
SCHEDULES = {
    "linear": (Schedule.linear(1000), {"beta_schedule": "linear"}),
    "scaled-linear": (
        Schedule.scaled_linear(1000),
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    ),
    "cosine": (Schedule.cosine(1000), {"beta_schedule": "squaredcos_cap_v2"}),
}
COMMON = {"num_train_timesteps": 1000, "clip_sample": False}
#: How far a step goes; their times count from 0, and clean is −1.
STRIDES = (1, 2, 20, 250)


@pytest.fixture(params=SCHEDULES)
def both(request):
    pytest.importorskip("diffusers", exc_type=ImportError)
    return SCHEDULES[request.param]


def lend(theirs, schedule):
    """Their scheduler with our table, in float64."""
    theirs.alphas_cumprod = schedule.alpha_bar[1:]
    theirs.one = theirs.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    return theirs


def draws(generator):
    return torch.randn(3, 20, 4, dtype=torch.float64, generator=generator)


def gap(x, y):
    return ((x - y).abs().max() / y.abs().max().clamp_min(1)).item()


def error(g, x, expected):
    """Relative to the terms of the step, of which the scale makes x the largest."""
    moved = ScaleTranslation(x.shape[-1]).act(g, x)
    return ((moved - expected).abs().max() / g.abs().max().clamp_min(1)).item()


def test_the_tables_agree(both):
    from diffusers import DDPMScheduler

    schedule, options = both
    theirs = DDPMScheduler(**COMMON, **options).alphas_cumprod.double()
    assert gap(theirs, schedule.alpha_bar[1:]) <= 1e-6


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_steps_agree(both, stride, eta, generator):
    from diffusers import DDIMScheduler

    schedule, options = both
    theirs = lend(DDIMScheduler(**COMMON, **options), schedule)
    theirs.set_timesteps(1000 // stride)
    x, predicted, noise = draws(generator)
    for t in (999, 750, 500, 260, stride - 1):
        if t < stride - 1:
            continue
        expected = theirs.step(predicted, t, x, eta=eta, variance_noise=noise).prev_sample
        g = ddim_step(schedule, t + 1, max(t + 1 - stride, 0), predicted, eta, noise)
        assert error(g, x, expected) <= 1e-11


@pytest.mark.parametrize("stride", [1, 20])
@pytest.mark.parametrize(
    ("variance", "theirs"), [("posterior", "fixed_small"), ("beta", "fixed_large")]
)
def test_ddpm_steps_agree(both, stride, variance, theirs, generator):
    from diffusers import DDPMScheduler

    schedule, options = both
    scheduler = lend(DDPMScheduler(**COMMON, **options, variance_type=theirs), schedule)
    scheduler.set_timesteps(1000 // stride)
    x, predicted, _ = draws(generator)
    for t in scheduler.timesteps[[0, 10, 25, -2, -1]].tolist():
        s = max(t + 1 - stride, 0)
        mine, other = (torch.Generator().manual_seed(t) for _ in range(2))
        expected = scheduler.step(predicted, t, x, generator=other).prev_sample
        noise = torch.randn(x.shape, generator=mine, dtype=x.dtype)
        g = ddpm_step(schedule, t + 1, predicted, noise, s=s, variance=variance)
        assert error(g, x, expected) <= 1e-11


def test_noising_agrees(both, generator):
    from diffusers import DDPMScheduler

    schedule, options = both
    theirs = lend(DDPMScheduler(**COMMON, **options), schedule)
    x, noise, _ = draws(generator)
    t = torch.tensor([0, 10, 500, 999] * 5)
    g = vp_step(schedule, t + 1, noise, s=torch.zeros_like(t))
    assert error(g, x, theirs.add_noise(x, noise, t)) <= 1e-11
