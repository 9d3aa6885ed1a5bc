"""Traces of diffusion processes, and the collapse in the layout that they have."""

import pytest
import torch

from manifold_ae import data, diffusion
from manifold_ae.diffusion import Schedule, exact

SCHEDULE = Schedule.cosine(50)


def normal(generator, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=generator, device=generator.device)


def gap(x, y):
    return ((x - y).abs().max() / y.abs().max().clamp_min(1)).item()


def options(kind, n):
    """What each kind needs."""
    denoiser = exact.mixture(torch.stack([torch.ones(n), -torch.ones(n)]), torch.full((2, n), 0.1),
                             SCHEDULE)  # fmt: skip
    return {
        "vp": {"schedule": SCHEDULE},
        "ve": {"sigmas": [0.1 * k for k in range(1, 51)]},
        "ddpm": {"schedule": SCHEDULE, "denoiser": denoiser, "variance": "beta"},
        "ddim": {"schedule": SCHEDULE, "denoiser": denoiser},
    }[kind]


KINDS = ("vp", "ve", "ddpm", "ddim")


@pytest.mark.parametrize("shape", [(2,), (8, 8), (28, 28)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_actions_take_each_observation_to_the_next(kind, shape, generator):
    x = normal(generator, 6, *shape)
    n = x[0].numel()
    trace = diffusion.diffusion_trace(kind, x, generator=generator, **options(kind, n))
    assert trace.observations.shape == (6, 51, *shape)
    assert trace.actions.shape == (6, 50, n + 1)
    flat, G = trace.observations.flatten(2), trace.group
    assert torch.equal(trace.observations[:, 0], x)
    assert gap(G.act(G.exp(trace.actions), flat[:, :-1]), flat[:, 1:]) <= 1e-12
    # The whole trace by one element: that of the composed actions.
    one = diffusion.compose(G.exp(trace.actions))
    assert gap(G.act(one, flat[:, 0]), flat[:, -1]) <= 1e-11
    rising = kind in ("vp", "ve")
    assert torch.equal(trace.times[0], torch.arange(51) if rising else torch.arange(50, -1, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_windows_lie_at_random_places_of_the_process(kind, generator):
    x = normal(generator, 400, 2)
    trace = diffusion.diffusion_trace(kind, x, steps=3, generator=generator, **options(kind, 2))
    assert trace.observations.shape == (400, 4, 2) and trace.actions.shape == (400, 3, 3)
    G = trace.group
    moved = G.act(G.exp(trace.actions), trace.observations[:, :-1])
    assert gap(moved, trace.observations[:, 1:]) <= 1e-12
    assert (trace.times.diff() == (1 if kind in ("vp", "ve") else -1)).all()
    assert len(trace.times[:, 0].unique()) > 40  # of 48 places


def test_traces_are_data_in_single_precision(generator):
    x = normal(generator, 20, 8, 8)
    traces = data.diffusion_traces("ddim", x, generator=generator, **options("ddim", 64))
    assert isinstance(traces, data.Traces)
    assert traces.observations.dtype == traces.actions.dtype == torch.float32
    assert traces.shape == (8, 8) and traces.group.dim == 65 and "ddim" in repr(traces)
    G, flat = traces.group, traces.observations.flatten(2)
    one = diffusion.compose(G.exp(traces.actions))
    assert gap(G.act(one, flat[:, 0]), flat[:, -1]) <= 1e-3
    assert gap(G.act(G.exp(traces.actions), flat[:, :-1]), flat[:, 1:]) <= 1e-5
    assert torch.equal(traces.states, traces.observations)


def test_what_is_seen_may_be_something_else_than_the_state(generator):
    x = normal(generator, 5, 2)
    grid = torch.linspace(-3, 3, 16, dtype=torch.float64, device=x.device)

    def blob(points):
        near = torch.exp(-2 * (points.unsqueeze(-1) - grid).square())
        return near[..., 0, :, None] * near[..., 1, None, :]

    traces = data.diffusion_traces(
        "vp", x, SCHEDULE, observe=blob, times=(0, 10, 30), generator=generator
    )
    assert traces.shape == (16, 16) and traces.states.shape == (5, 3, 2)
    assert traces.actions.shape == (5, 2, 3)
    assert gap(traces.observations, blob(traces.states).float()) <= 1e-6


def test_traces_are_drawn_again_from_the_same_seed(generator):
    x = normal(generator, 5, 2)
    device = generator.device
    first, second = (
        diffusion.diffusion_trace(
            "vp", x, SCHEDULE, steps=2, generator=torch.Generator(device).manual_seed(3)
        )
        for _ in range(2)
    )
    assert torch.equal(first.observations, second.observations)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("euler", {}, "kind='euler': expected one of ddim, ddpm, ve, vp"),
        ("vp", {}, "schedule is missing"),
        ("ve", {}, "sigmas is missing"),
        ("ddim", {"schedule": SCHEDULE}, "denoiser is missing"),
        ("ddpm", {"schedule": SCHEDULE, "denoiser": lambda x, t: x, "eta": 1.0}, "no such option"),
        ("ve", {"schedule": SCHEDULE, "sigmas": [1.0]}, "no such option; they have sigmas"),
        ("vp", {"schedule": SCHEDULE, "steps": 51}, "steps=51: expected at most 50"),
        ("vp", {"schedule": SCHEDULE, "steps": 0}, "steps must be"),
        ("vp", {"schedule": SCHEDULE, "times": (3,)}, "expected two times at least"),
    ],
)
def test_traces_refuse_what_their_kind_does_not_take(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        diffusion.diffusion_trace(kind, torch.ones(2, 3), **changes)


def test_traces_refuse_starts_of_another_kind():
    with pytest.raises(ValueError, match=r"expected \(n, \*shape\)"):
        diffusion.diffusion_trace("vp", torch.ones(3), SCHEDULE)
    with pytest.raises(ValueError, match="root mean square 100"):
        diffusion.diffusion_trace("vp", torch.full((2, 8, 8), 100), SCHEDULE)
