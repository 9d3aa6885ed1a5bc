"""Worlds: what is drawn follows the group, by acting on states and on the pictures themselves."""

import itertools
import math

import numpy as np
import pytest
import torch

from manifold_ae.data import worlds
from manifold_ae.data.worlds.figures import boxes, coverage, figure, is_symmetric
from manifold_ae.data.worlds.polycubes import polycube, symmetries
from manifold_ae.groups import FiniteGroup, LieGroup, rotations
from manifold_ae.groups.finite import octahedral

ALL = ("x", "y", "rotation", "scale", "hue")
WORLDS = {
    "grid": ("grid-world", {}),
    "blob": ("grid-world", {"rows": 3, "columns": 7, "agent": "blob"}),
    "sprites": ("sprites", {}),
    "sprites, all factors": ("sprites", {"factors": ALL, "figure": "random", "size": 16}),
    "simple picture": ("pictures", {"size": 8}),
    "picture": ("pictures", {"picture": "fourier", "size": 12, "seed": 3}),
    "solid": ("solids", {"size": 16}),
    "solid and hue": ("solids", {"size": 16, "hue": True, "cubes": 6, "seed": 1}),
    "field": ("fields", {}),
    "field of degree 2": ("fields", {"degree": 2, "size": 5, "seed": 1}),
}
every_world = pytest.mark.parametrize("which", WORLDS)


def make(which: str) -> worlds.World:
    name, options = WORLDS[which]
    return worlds.load(name, **options)


def gap(x: torch.Tensor, y: torch.Tensor) -> float:
    return (x - y).abs().max().item()


@pytest.fixture
def cpu() -> torch.Generator:
    """Where a test compares with what is written down here, on the CPU."""
    return torch.Generator().manual_seed(11)


def act(world: worlds.World, X: torch.Tensor) -> torch.Tensor:
    """The group elements of actions."""
    return world.group.exp(X) if isinstance(world.group, LieGroup) else X


def at(world: worlds.World, *angles: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """One state on a torus, by its angles."""
    assert isinstance(world.group, LieGroup)
    return world.group.exp(torch.tensor([angles], dtype=dtype))


def start(world: worlds.World, n: int, generator: torch.Generator, dtype: torch.dtype):
    """Random states and actions in one dtype."""
    states = world.random_states(n, generator=generator, dtype=dtype)
    actions = world.random_actions(n, 2, generator=generator)
    if isinstance(world.group, LieGroup):
        actions = actions.to(dtype)
    return states, actions[:, 0], actions[:, 1]


# ---- contracts of every world ---------------------------------------------------------------


@every_world
def test_observations_are_finite_numbers_of_the_shape_and_range_promised(
    which, dtype, device, generator
):
    world = make(which)
    states, X, _ = start(world, 20, generator, dtype)
    seen = world.render(states)
    assert seen.shape == (20, *world.shape)
    assert seen.device.type == device.type
    assert seen.isfinite().all()
    assert seen.dtype == (dtype if states.is_floating_point() else torch.float32)
    low, high = world.value_range
    assert seen.min() >= low - 1e-6
    assert seen.max() <= high + 1e-6
    labels = world.labels(states)
    assert labels.shape == (20, len(world.factors))
    for value, (least, most) in zip(labels.unbind(-1), world.ranges, strict=True):
        assert least <= value.min()
        assert value.max() <= most
    assert world.move(states, X).shape == states.shape
    assert world.render(states[:0]).shape == (0, *world.shape)
    assert gap(world.render(states.unflatten(0, (4, 5))).flatten(0, 1), seen) == 0


@every_world
def test_the_moves_are_an_action_of_the_group(which, dtype, generator):
    world = make(which)
    states, X, Y = start(world, 10, generator, dtype)
    G = world.group
    limit = 1e-9 if dtype == torch.float64 else 5e-3
    twice = world.render(world.move(world.move(states, X), Y))
    together = world.render(G.compose(G.compose(act(world, Y), act(world, X)), states))
    back = G.inverse(act(world, X))
    undone = world.render(G.compose(back, world.move(states, X)))
    # On the edge of a pixel's ray a solid's face may come or go with the last digit.
    edges = 0 if "solid" not in which else 4
    for one, other in ((twice, together), (undone, world.render(states))):
        assert ((one - other).abs() > limit).sum() <= edges * len(states)
        assert (one - other).abs().mean() <= limit
    rest = torch.zeros_like(X)
    assert gap(world.render(world.move(states, rest)), world.render(states)) <= limit


@every_world
def test_the_truth_is_a_representation_of_the_group_and_faithful(which, generator):
    world = make(which)
    rho = world.truth
    assert rho is not None
    assert rho.group == world.group
    _, X, Y = start(world, 20, generator, torch.float64)
    product = world.group.compose(act(world, X), act(world, Y))
    assert gap(rho.of(product), rho(X) @ rho(Y)) <= 1e-5
    away = world.random_states(50, generator=generator, dtype=torch.float64)
    rest = world.group.identity(50, dtype=torch.float64, device=away.device)
    different = torch.linalg.matrix_norm(rho.of(away) - rho.of(rest))
    moved = (world.render(away) - world.render(rest)).flatten(1).abs().amax(1) > 1e-6
    assert torch.equal(different > 1e-3, moved)


@every_world
def test_traces_are_renderings_of_states_that_the_actions_lead_through(which, generator):
    world = make(which)
    traces = world.traces(6, 5, generator=generator)
    assert (len(traces), traces.steps, traces.shape) == (6, 5, world.shape)
    assert traces.group == world.group
    assert traces.states is not None
    assert torch.equal(world.render(traces.states), traces.observations)
    for t in range(5):
        moved = world.move(traces.states[:, t], traces.actions[:, t])
        assert gap(moved, traces.states[:, t + 1]) <= 1e-5
    seeds = (torch.Generator().manual_seed(5) for _ in range(2))
    one, other = (make(which).traces(3, 1, generator=g) for g in seeds)
    assert torch.equal(one.observations, other.observations)
    assert torch.equal(one.actions, other.actions)


@every_world
def test_small_actions_stay_small(which, generator):
    world = make(which)
    if isinstance(world.group, FiniteGroup):
        drawn = world.random_actions(200, 1, generator=generator, largest=1)
        assert len(drawn.unique()) == 5
        beyond = world.random_actions(500, 1, generator=generator, largest=100)
        assert len(beyond.unique()) == world.group.order
        return
    assert world.random_actions(500, 2, generator=generator).abs().max() > 2.5
    small = world.random_actions(500, 2, generator=generator, largest=0.3)
    assert small.shape == (500, 2, world.group.dim)
    assert small.dtype == torch.float32
    assert 0.25 < small.abs().max() <= 0.3


def test_every_name_has_a_line_and_options():
    assert set(worlds.names()) == {
        "diffusion", "fields", "gaussian-diffusion", "grid-world", "pictures", "solids", "sprites",
    }  # fmt: skip
    assert all(line and "\n" not in line for line in worlds.names().values())
    assert worlds.options("solids")["cubes"] == 5
    for name in worlds.names():
        assert worlds.load(name).name == name
        assert worlds.load(name).stabiliser.startswith("scalings" if "diff" in name else "trivial")
    assert "axis" in worlds.load("fields", degree=1).stabiliser
    assert repr(worlds.load("fields", size=9)) == "Fields(degree=4, size=9, seed=0)"
    assert make("sprites").angles == ("x", "y")
    assert make("solid").angles == ("azimuth", "roll")


# ---- the group acts on the pictures themselves ------------------------------------------------


@pytest.mark.parametrize("agent", ["pixel", "blob"])
def test_an_agent_on_the_grid_moves_by_whole_cells_and_wraps(agent):
    world = worlds.load("grid-world", rows=4, columns=5, agent=agent)
    states = torch.arange(20)
    rest = world.render(states)
    if agent == "pixel":
        assert torch.equal(rest.flatten(1), torch.eye(20))
    for i, j in itertools.product(range(4), range(5)):
        moved = world.render(world.move(states, torch.tensor(5 * i + j)))
        assert torch.equal(moved, rest.roll((i, j), (1, 2)))


@pytest.mark.parametrize("factors", [("x", "y"), ALL])
def test_sprites_translated_by_whole_pixels_are_rolled(factors, dtype, cpu):
    world = worlds.load("sprites", factors=factors, size=16)
    states = world.random_states(10, generator=cpu, dtype=dtype)
    limit = 1e-4 if dtype == torch.float32 else 1e-12
    for right, down in ((1, 0), (0, 1), (-3, 20)):
        X = torch.zeros(world.group.dim, dtype=dtype)
        X[:2] = torch.tensor([right, down], dtype=dtype) * (2 * math.pi / 16)
        moved = world.render(world.move(states, X))
        assert gap(moved, world.render(states).roll((down, right), (-2, -1))) <= limit


def test_a_quarter_turn_turns_the_picture_about_the_figure(cpu):
    world = worlds.load("sprites", factors=("x", "y", "rotation"), size=16, figure="F")
    rest = world.render(world.group.identity(1, dtype=torch.float64))
    quarter = world.render(at(world, 0.0, 0.0, math.pi / 2))
    # Pixel 8 is the origin; the grid has a pixel more on its one side.
    turned = rest.roll((-8, -8), (1, 2)).rot90(-1, (1, 2)).roll((8, 8 + 1), (1, 2))
    assert gap(quarter, turned) <= 1e-12
    assert gap(quarter, rest) > 0.5


def hue_turn(angle: float) -> torch.Tensor:
    """RGB turned about the greys, from red towards green."""
    axis = torch.ones(3, dtype=torch.float64) / math.sqrt(3)
    return rotations.exp(angle * axis)


@pytest.mark.parametrize("which", ["sprites, all factors", "solid and hue"])
def test_the_hue_turns_the_colours_about_the_greys(which, cpu):
    world = make(which)
    states = world.random_states(10, generator=cpu, dtype=torch.float64)
    X = torch.zeros(world.group.dim, dtype=torch.float64)
    for angle in (0.3, 2.0, -1.0):
        X[-1] = angle
        turned = torch.einsum("ij,njhw->nihw", hue_turn(angle), world.render(states))
        assert gap(world.render(world.move(states, X)), turned) <= 1e-12


def test_scale_and_aspect_make_a_circle_on_which_no_two_look_alike():
    world = worlds.load("sprites", factors=("scale",), size=32)
    angles = torch.arange(24, dtype=torch.float64).unsqueeze(-1) * (2 * math.pi / 24)
    assert isinstance(world.group, LieGroup)
    seen = world.render(world.group.exp(angles))
    mass = seen.sum((1, 2))
    # The area is that at rest times e^{2a cos φ}, whatever the aspect.
    area = torch.exp(2 * 0.35 * torch.cos(angles[:, 0]))
    assert gap(mass / mass.mean(), area / area.mean()) <= 0.03
    apart = torch.cdist(seen.flatten(1), seen.flatten(1))
    assert (apart + 10 * torch.eye(24)).min() > 0.3


@pytest.mark.parametrize("figure_name", ["L", "F", "random"])
def test_figures_are_covered_as_by_many_fine_samples(figure_name):
    centres, halves = boxes(figure(figure_name, 6, 1), 1.5)
    fine = (torch.arange(640, dtype=torch.float64) + 0.5) * (4 / 640) - 2
    y, x = torch.meshgrid(fine, fine, indexing="ij")
    inside = torch.zeros(640, 640, dtype=torch.bool)
    for (cx, cy), (hx, hy) in zip(centres.tolist(), halves.tolist(), strict=True):
        inside |= ((x - cx).abs() <= hx) & ((y - cy).abs() <= hy)
    exact = inside.double().unflatten(0, (32, 20)).unflatten(-1, (32, 20)).mean((1, 3))
    coarse = (torch.arange(32, dtype=torch.float64) + 0.5) / 8 - 2
    y, x = torch.meshgrid(coarse, coarse, indexing="ij")
    drawn = coverage((x[None], y[None]), centres[None], halves[None], 1 / 8)[0]
    # A twentieth of a pixel is what the samples tell; a corner is a quarter of a pixel off at most.
    assert (drawn - exact).abs().max() <= 0.26
    assert ((drawn - exact).abs() > 0.051).sum() <= 16
    assert torch.hypot(x, y)[drawn > 0].max() <= 1.5 + 1 / 8


@pytest.mark.parametrize("seed", range(5))
def test_random_figures_have_no_symmetry(seed):
    cells = figure("random", 5, seed)
    assert len(cells) == 5
    assert not is_symmetric(cells)
    assert not is_symmetric(figure("L", 0, 0)) and not is_symmetric(figure("F", 0, 0))
    assert is_symmetric(frozenset({(0, 0), (1, 0), (2, 0), (1, 1)}))
    assert is_symmetric(frozenset({(0, 0), (1, 0), (0, 1)}))


@pytest.mark.parametrize("which", ["simple picture", "picture"])
def test_pictures_are_translated_by_a_shift_of_their_fourier_series(which, cpu):
    world = make(which)
    size = world.shape[-1]
    states = world.random_states(10, generator=cpu, dtype=torch.float64)
    shift = torch.tensor([0.7, -2.9], dtype=torch.float64)
    k = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    phase = k[:, None] * shift[0] + k * shift[1]
    spectrum = torch.fft.fft2(world.render(states)) * torch.polar(torch.ones_like(phase), -phase)
    shifted = torch.fft.ifft2(spectrum)
    assert shifted.imag.abs().max() <= 1e-12
    assert gap(world.render(world.move(states, shift)), shifted.real) <= 1e-12


def test_fields_are_rotated_by_rotating_the_points_or_the_coefficients(cpu):
    world = worlds.load("fields", degree=4)
    assert isinstance(world, worlds.Fields)
    R = world.random_states(10, generator=cpu, dtype=torch.float64)
    points = world.points.flatten(0, 1)
    rotated = world.evaluate(points @ R).unflatten(-1, world.shape)
    assert gap(world.render(R), rotated) <= 1e-12
    seen = world.harmonic_encoder()(world.render(R))
    turned = (world.truth.of(R) @ world.coefficients[:, None]).squeeze(-1)
    assert gap(seen, turned) <= 1e-12


@pytest.mark.parametrize("which", ["simple picture", "picture", "field", "field of degree 2"])
def test_linear_encoders_are_exactly_equivariant(which, dtype, tolerance, cpu):
    world = make(which)
    assert isinstance(world, worlds.Pictures | worlds.Fields)
    pictures = isinstance(world, worlds.Pictures)
    encode = world.fourier_encoder() if pictures else world.harmonic_encoder()
    states, X, _ = start(world, 50, cpu, dtype)
    assert world.truth is not None
    before, after = encode(world.render(states)), encode(world.render(world.move(states, X)))
    assert before.shape == (50, world.truth.size) == (50, encode.size)
    led = (world.truth(X) @ before.unsqueeze(-1)).squeeze(-1)
    # All waves are scaled to size one: the faintest has lost as many digits as it is fainter.
    faintest = 1e3 if which == "picture" else 1
    assert gap(led, after) <= faintest * tolerance
    assert before.abs().max() > 0.1
    with pytest.raises(ValueError, match=r"observations has shape \(5, 3\)"):
        encode(torch.zeros(5, 3))


# ---- solids ---------------------------------------------------------------------------------


def test_solids_are_what_a_walk_along_each_ray_finds(cpu):
    """Point by point from the camera on: the first point inside a cube, and the side it is on."""
    world = worlds.load("solids", size=12, samples=1)
    assert isinstance(world, worlds.Solids)
    R = world.random_states(3, generator=cpu, dtype=torch.float64)
    drawn = world.render(R)
    axis = (torch.arange(12, dtype=torch.float64) + 0.5) / 6 - 1
    depth = torch.linspace(1.2, -1.2, 6001, dtype=torch.float64)
    y, x, s = torch.meshgrid(-axis, axis, depth, indexing="ij")
    colours = world._colours(torch.zeros(1, dtype=torch.float64))[0]
    for rotation, picture in zip(R, drawn, strict=True):
        q = torch.stack((x, y, s), -1) @ rotation
        offset = q.unsqueeze(-2) - world._centres  # (12, 12, depths, cubes, 3)
        inside = (offset.abs() <= world._half).all(-1)
        met = inside.any(-1)
        first = met.int().argmax(-1)
        assert (met.any(-1) == (picture > 0).any(0)).all()
        for i, j in met.any(-1).nonzero().tolist():
            k = int(inside[i, j, first[i, j]].int().argmax())
            o = offset[i, j, first[i, j], k]
            a = int(o.abs().argmax())
            side = 2 * a + int(o[a] < 0)
            light = 0.55 + 0.45 * rotation[2, a].abs()
            near_edge = o.abs().sort().values[-2] > 0.99 * world._half
            assert near_edge or gap(picture[:, i, j], colours[k, side] * light) <= 1e-12


def test_a_quarter_turn_about_the_line_of_sight_turns_the_picture(cpu):
    world = make("solid")
    R = world.random_states(20, generator=cpu, dtype=torch.float64)
    quarter = torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64)
    turned = world.render(world.move(R, quarter))
    assert gap(turned, world.render(R).rot90(1, (2, 3))) <= 1e-12


@pytest.mark.parametrize("cubes", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("seed", range(3))
def test_no_rotation_maps_a_solid_to_itself(cubes, seed):
    world = worlds.load("solids", cubes=cubes, seed=seed)
    assert isinstance(world, worlds.Solids)
    assert world.symmetries() == 1
    assert len(world.cells.unique(dim=0)) == cubes
    apart = (world.cells[:, None] - world.cells).abs().sum(-1)
    reached = torch.matrix_power((apart <= 1).long(), cubes)
    assert (reached > 0).all(), "the cubes are not joined"
    alone = len(symmetries(world.cells))
    assert alone == {1: 24, 2: 8}.get(cubes, alone)
    assert cubes < 4 or alone == 1


def test_symmetries_of_known_solids():
    line = torch.tensor([[0, 0, 0], [1, 0, 0], [2, 0, 0]])
    assert len(symmetries(line)) == 8
    corner = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert len(symmetries(corner)) == 3
    painted = torch.zeros(4, 6, 1)
    assert len(symmetries(corner, painted)) == 3
    painted[0, 1] = 1.0
    assert len(symmetries(corner, painted)) == 1


def test_rotations_of_a_solid_look_different(cpu):
    world = make("solid")
    R = torch.from_numpy(octahedral())
    tilted = world.random_states(1, generator=cpu, dtype=torch.float64)
    seen = world.render(tilted @ R).flatten(1)
    assert (torch.cdist(seen, seen) + 100 * torch.eye(24)).min() > 2
    assert polycube(5, 0).equal(polycube(5, 0))
    assert any(not polycube(5, 0).equal(polycube(5, seed)) for seed in range(1, 5))


# ---- the bordered variant ---------------------------------------------------------------------


def test_bordered_sprites_say_that_they_are_no_group_action(dtype, cpu):
    factors = ("x", "y", "rotation")
    world = worlds.load("sprites", factors=factors, bordered=True)
    assert isinstance(world, worlds.BorderedSprites)
    assert "not a group action" in world.name
    assert "bordered=True" in repr(world)
    assert not world.is_group_action
    assert world.truth is None
    assert "do not cancel" in world.why_no_truth
    assert "not a group action" in (worlds.BorderedSprites.__doc__ or "")
    states = world.random_states(30, generator=cpu, dtype=dtype)
    assert states.shape == (30, 3)
    far = torch.tensor([10.0, 10.0, 1.0], dtype=dtype)
    there = world.move(states, far)
    assert gap(there[:, :2], torch.full_like(there[:, :2], world.limit)) <= 1e-6
    # Nothing cancels at the border, and nothing is cut off by the picture's.
    assert gap(world.move(there, -far), states) > 1
    for corner in itertools.product((-10.0, 10.0), (-10.0, 10.0), (0.4,)):
        seen = world.render(world.move(states, torch.tensor(corner, dtype=dtype)))
        edge = torch.cat((seen[:, [0, -1]].flatten(1), seen[:, :, [0, -1]].flatten(1)), 1)
        assert edge.abs().max() == 0
    traces = world.traces(4, 3, generator=cpu, largest=0.5)
    assert traces.states is not None
    assert torch.equal(world.render(traces.states), traces.observations)
    assert traces.name == world.name
    # Away from the border it is the torus.
    torus = worlds.load("sprites", factors=factors)
    middle = torch.tensor([[0.3, -0.2, 2.0]], dtype=dtype)
    assert isinstance(torus.group, LieGroup)
    assert gap(world.render(middle), torus.render(torus.group.exp(middle))) <= 1e-4
    labels = world.labels(states)
    for value, (low, high) in zip(labels.unbind(-1), world.ranges, strict=True):
        assert low <= value.min() <= value.max() <= high


# ---- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gridworld", {}, "world='gridworld': expected one of .*, fields, .* mean 'grid-world'"),
        ("sprites", {"factor": ("x",)}, "factor=.*no such option; it has factors.*mean 'factors'"),
        ("sprites", {"factors": "xy"}, r"factors='xy': expected names in a tuple"),
        ("sprites", {"factors": ("x", "hu")}, "factors has 'hu': .* did you mean 'hue'"),
        ("sprites", {"factors": ("x", "x")}, "each but once"),
        ("sprites", {"factors": ()}, "at least one of x, y"),
        ("sprites", {"figure": "l"}, "figure='l': expected one of L, F, random; did you mean 'L'"),
        ("sprites", {"size": 4}, "size=4: expected an integer of at least 8"),
        ("sprites", {"radius": 3.0}, r"radius=3.0: expected a number in \(0, 2.95\]"),
        ("sprites", {"radius": math.nan}, "radius=nan"),
        ("sprites", {"cells": 3}, "cells=3"),
        ("sprites", {"cells": 13}, "cells=13: expected at most 12"),
        ("sprites", {"factors": ("hue",), "bordered": True}, "expected 'x' or 'y'.*bordered=False"),
        ("grid-world", {"rows": 2}, "rows=2: expected an integer of at least 3"),
        ("grid-world", {"agent": "dot"}, "agent='dot'"),
        ("solids", {"cubes": 0}, "cubes=0"),
        ("solids", {"cubes": 13}, "cubes=13: expected at most 12"),
        ("solids", {"samples": 5}, "samples=5: expected at most 4"),
        ("fields", {"degree": 9}, "degree=9: expected at most 8"),
        ("fields", {"degree": 4, "size": 4}, "size=4: expected at least 5 latitudes"),
        ("pictures", {"picture": "cosine"}, "picture='cosine'"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        worlds.load(name, **options)


def test_states_and_actions_that_are_none_are_refused():
    grid, sprites = worlds.load("grid-world"), worlds.load("sprites")
    with pytest.raises(ValueError, match=r"states has shape \(3, 2\): expected \(\*, 4\)"):
        sprites.render(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"states has dtype torch\.int64: expected float32"):
        sprites.render(torch.zeros(3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"states has dtype torch\.float32: expected int64"):
        grid.render(torch.zeros(3))
    with pytest.raises(ValueError, match="states has 25: expected elements 0 … 24"):
        grid.render(torch.tensor([25]))
    with pytest.raises(ValueError, match=r"largest=4\.0: expected an angle in radians in \(0, π\]"):
        sprites.random_actions(3, 1, largest=4.0)
    with pytest.raises(ValueError, match=r"largest=0\.5: expected an integer of at least 1"):
        grid.random_actions(3, 1, largest=0.5)
    with pytest.raises(ValueError, match="steps=0"):
        grid.traces(3, 0)
    with pytest.raises(ValueError, match="n=0"):
        grid.random_states(0)
    with pytest.raises(ValueError, match=r"X has shape \(3,\)"):
        sprites.move(torch.zeros(5, 4), torch.zeros(3))
    bordered = worlds.load("sprites", bordered=True)
    with pytest.raises(ValueError, match=r"actions has shape \(3,\): expected \(\*, 2\)"):
        bordered.move(torch.zeros(5, 2), torch.zeros(3))


def test_numbers_of_numpy_serve_as_well():
    assert worlds.load("grid-world", rows=np.int64(3)).shape == (3, 5)


def test_without_a_generator_the_global_stream_is_drawn_from():
    for name in worlds.names():
        world = worlds.load(name)
        drawn = []
        for _ in range(2):
            torch.manual_seed(3)
            # Where a process decides, a largest action is refused.
            drawn.append(world.traces(2, 1, largest=1 if world.longest is None else None))
        assert torch.equal(drawn[0].observations, drawn[1].observations)
        assert torch.equal(drawn[0].actions, drawn[1].actions)
