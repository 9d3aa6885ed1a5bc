"""Worlds that steps of diffusion processes move: points seen as blobs, and Gaussian vectors."""

import math

import pytest
import torch

from manifold_ae import diffusion
from manifold_ae.data import worlds
from manifold_ae.data.worlds.diffusion import KINDS, ProcessWorld
from manifold_ae.diffusion import exact
from manifold_ae.groups import LieGroup

WORLDS = {
    **{kind: ("diffusion", {"kind": kind, "length": 10}) for kind in KINDS},
    "moons": ("diffusion", {"kind": "ddim", "points": "moons", "length": 10}),
    "gaussian": ("gaussian-diffusion", {"dim": 3, "length": 10}),
}
every_world = pytest.mark.parametrize("which", WORLDS)


def make(which: str) -> ProcessWorld:
    name, options = WORLDS[which]
    world = worlds.load(name, **options)
    assert isinstance(world, ProcessWorld)
    return world


def gap(x: torch.Tensor, y: torch.Tensor) -> float:
    return (x - y).abs().max().item()


# ---- contracts ------------------------------------------------------------------------------


@every_world
def test_states_are_points_and_are_seen_within_the_range(which, dtype, device, generator):
    world = make(which)
    states = world.random_states(20, generator=generator, dtype=dtype)
    assert states.shape == (20, world.group.degree)
    seen = world.render(states)
    assert seen.shape == (20, *world.shape)
    assert (seen.dtype, seen.device.type) == (dtype, device.type)
    low, high = world.value_range
    assert low <= seen.min() and seen.max() <= high
    labels = world.labels(states)
    assert labels.shape == (20, len(world.factors))
    assert world.angles == ()
    assert world.render(states[:0]).shape == (0, *world.shape)
    # Different points look different.
    apart = torch.pdist(seen.flatten(1).double())
    assert apart.min() > 1e-3


@every_world
def test_the_moves_are_the_action_of_the_group_that_the_truth_represents(which, dtype, generator):
    world, limit = make(which), 1e-4 if dtype == torch.float32 else 1e-12
    states = world.random_states(10, generator=generator, dtype=dtype)
    X, Y = world.random_actions(10, 2, generator=generator).to(dtype).unbind(1)
    G, rho = world.group, world.truth
    assert isinstance(G, LieGroup)
    assert rho is not None and rho.group == G
    twice = world.move(world.move(states, X), Y)
    together = G.compose(G.exp(Y), G.exp(X))
    assert gap(twice, G.act(together, states)) <= limit
    assert gap(rho.of(together), rho(Y) @ rho(X)) <= limit
    one = torch.cat((states, torch.ones_like(states[:, :1])), -1)
    assert gap((rho(X) @ one.unsqueeze(-1))[:, :-1, 0], world.move(states, X)) <= limit
    assert gap(world.move(states, torch.zeros_like(X)), states) == 0


@every_world
def test_traces_are_windows_of_chains_that_the_actions_lead_through(which, generator):
    world = make(which)
    for steps in (2, 10):
        traces = world.traces(6, steps, generator=generator)
        assert (len(traces), traces.steps, traces.shape) == (6, steps, world.shape)
        assert traces.group == world.group
        assert traces.states is not None
        assert torch.equal(world.render(traces.states), traces.observations)
        for t in range(steps):
            moved = world.move(traces.states[:, t], traces.actions[:, t])
            assert gap(moved, traces.states[:, t + 1]) <= 1e-5
    seeds = (torch.Generator().manual_seed(5) for _ in range(2))
    one, other = (make(which).traces(3, 1, generator=g) for g in seeds)
    assert torch.equal(one.observations, other.observations)
    assert torch.equal(one.actions, other.actions)


# ---- the processes --------------------------------------------------------------------------


@pytest.mark.parametrize("points", ["gaussians", "moons"])
def test_the_data_have_unit_scale_and_denoising_returns_to_them(points):
    generator = torch.Generator().manual_seed(0)
    world = worlds.Diffusion(kind="ddim", points=points)
    data = world.random_points(4000, generator)
    assert gap(data.mean(0), torch.zeros(2)) <= 0.05
    assert abs(data.square().mean().item() - 1) <= 0.05
    reached = world.traces(200, 50, generator).states
    assert reached is not None
    nearest = torch.cdist(reached[:, -1].double(), data).amin(1)
    assert nearest.mean() <= 0.1
    # It began as noise, and the noising kinds end as noise.
    assert (reached[:, 0].std() - 1).abs() <= 0.1
    noised = worlds.Diffusion(kind="vp", points=points).traces(500, 50, generator).states
    assert noised is not None
    assert (noised[:, -1].std(0) - 1).abs().max() <= 0.1
    spread = worlds.Diffusion(kind="ve", points=points).traces(500, 50, generator)
    assert spread.states is not None
    assert abs(spread.states[:, -1].square().mean().item() - 2) <= 0.2
    assert spread.actions[..., 0].abs().max() == 0


def test_a_blob_is_a_gaussian_averaged_over_each_pixel():
    world = worlds.Diffusion(size=8, reach=2.0, width=0.6)
    x = torch.tensor([[0.3, -1.1]], dtype=torch.float64)
    fine = (torch.arange(800, dtype=torch.float64) + 0.5) / 200 - 2
    right, down = (torch.exp(-(fine - c).square() / (2 * 0.6**2)) for c in x[0])
    averaged = (down[:, None] * right).unflatten(0, (8, 100)).unflatten(-1, (8, 100)).mean((1, 3))
    assert gap(world.render(x)[0], averaged) <= 1e-5
    assert world.render(x)[0].argmax() == 1 * 8 + 4  # the second row, the fifth column


def test_gaussian_chains_compose_to_the_closed_form():
    generator = torch.Generator().manual_seed(1)
    world = worlds.GaussianDiffusion(dim=3, length=20)
    states, actions = world._windows(4, 20, generator)
    whole = diffusion.gaussian_chain(world.schedule, world.times, world.mean, world.variances)
    assert gap(world.group.act(whole, states[:, 0]), states[:, -1]) <= 1e-12
    denoiser = exact.gaussian(world.mean, world.variances, world.schedule)
    by_scores = diffusion.samplers.ddim(denoiser, world.schedule, states[:, 0], world.times)
    assert gap(by_scores, states[:, -1]) <= 1e-12
    assert gap(actions[0], actions[3]) == 0


# ---- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "vpp"}, "kind='vpp': expected one of vp, ve, ddpm, ddim"),
        ({"points": "moon"}, "points='moon'.*did you mean 'moons'"),
        ({"length": 0}, "length=0: expected an integer of at least 1"),
        ({"length": 1001}, "length=1001: expected at most 1000"),
        ({"size": 4}, "size=4: expected an integer of at least 8"),
        ({"width": 0.0}, "width=0.0: expected a positive number"),
        ({"reach": math.inf}, "reach=inf: expected a positive number"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        worlds.load("diffusion", **options)


@every_world
def test_what_a_process_does_not_have_is_refused(which):
    world = make(which)
    with pytest.raises(ValueError, match="steps=11: expected at most 10, those of a whole chain"):
        world.traces(2, 11)
    with pytest.raises(ValueError, match=r"largest=0\.5: the process decides"):
        world.random_actions(2, 2, largest=0.5)
    with pytest.raises(ValueError, match="n=0: expected an integer of at least 1"):
        world.random_states(0)
    with pytest.raises(ValueError, match="states has shape"):
        world.render(torch.zeros(3, 7))
