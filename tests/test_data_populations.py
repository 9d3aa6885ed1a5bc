"""Simulated recordings: rates against the formula, the law of counts, the law of positions."""

import math

import pytest
import torch

from manifold_ae import data, manifolds
from manifold_ae.data.populations import KINDS, Bumps, waves
from manifold_ae.distributions import HeatKernel

TUNED = [kind for kind in KINDS if kind not in ("noise", "pictures")]
#: Few features where positions alone are looked at.
FEW = {kind: 25 if kind == "pictures" else 1 for kind in KINDS}
PLACED = [kind for kind in KINDS if kind != "noise"]


def bump(kind, z, c, sharpness):
    """exp(κ s) of single points, by angles and distances of the manifold."""
    M = manifolds.parse(KINDS[kind].manifold)
    if kind in ("ring", "torus"):
        turned = M.to_angles(z) - M.to_angles(c)
        return math.exp(sharpness * sum(math.cos(a) - 1 for a in turned.tolist()))
    d = M.dist(z, c).item()
    s = {
        "so3": math.cos(d) - 1,
        "axis": math.cos(d) ** 2 - 1,
        "sheet": -d * d / 2,
    }[kind]
    return math.exp(sharpness * s)


@pytest.mark.parametrize("kind", TUNED)
def test_rates_are_bumps_about_the_preferred_positions(kind):
    s = data.simulate(kind, 20, seed=3, background=0.7, gain=1.5, sharpness=2.5)
    assert isinstance(s.tuning, Bumps)
    z, c = s.points.double(), s.tuning.preferred
    for k in (0, 7, 19):
        for i in (0, 4):
            expected = 1.5 * 0.7 + s.tuning.peaks[i].item() * bump(kind, z[k], c[i], 2.5)
            assert s.means[k, i].item() == pytest.approx(expected, rel=1e-4)
    assert (s.tuning.peaks >= 1.5 * 5).all() and (s.tuning.peaks <= 1.5 * 10).all()
    at = torch.arange(len(c))
    torch.testing.assert_close(s.tuning(c)[at, at], 1.5 * 0.7 + s.tuning.peaks)


@pytest.mark.parametrize("kind", PLACED)
@pytest.mark.parametrize("smooth", [False, True])
def test_the_tuning_of_the_points_gives_the_means_in_either_dtype(kind, smooth):
    s = data.simulate(kind, 12, smooth=smooth)
    M = manifolds.parse(s.manifold)
    assert s.points.shape == (12, *M.ambient_shape) and s.x.shape == s.means.shape
    assert {s.x.dtype, s.points.dtype, s.means.dtype} == {torch.float32}
    torch.testing.assert_close(M.projx(s.points), s.points)
    torch.testing.assert_close(s.tuning(s.points), s.means, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(s.tuning(s.points.double()).float(), s.means, atol=1e-4, rtol=1e-4)
    if s.angles is not None:
        torch.testing.assert_close(M.from_angles(s.angles), s.points)


def test_an_axis_has_no_sign():
    s = data.simulate("axis", 5)
    torch.testing.assert_close(s.tuning(-s.points), s.tuning(s.points))


@pytest.mark.parametrize("dispersion", [0.0, 0.5])
def test_counts_have_the_mean_and_the_variance_of_their_law(dispersion):
    s = data.simulate("noise", 20_000, cells=6, dispersion=dispersion)
    rate = s.means[0].double()
    counts = s.x.double()
    assert (counts == counts.floor()).all() and (counts >= 0).all()
    assert (s.means == s.means[0]).all()
    variance = rate + dispersion * rate.square()
    error = (counts.mean(0) - rate) / (variance / len(counts)).sqrt()
    assert error.abs().max() < 4
    torch.testing.assert_close(counts.var(0), variance, rtol=0.08, atol=0.0)
    zero = torch.exp(-rate) if not dispersion else (1 + dispersion * rate) ** (-1 / dispersion)
    torch.testing.assert_close((counts == 0).double().mean(0), zero, atol=0.015, rtol=0.0)


def test_counts_of_tuned_cells_are_poisson_given_the_position():
    s = data.simulate("ring", 4000)
    z = (s.x - s.means) / s.means.sqrt()
    assert z.mean().abs() < 4 / math.sqrt(z.numel())
    assert z.square().mean().item() == pytest.approx(1, abs=0.03)


def test_pictures_are_translated_with_gaussian_noise():
    s = data.simulate("pictures", 300, noise=0.2, cells=64, seed=2)
    picture = waves(2, 8)
    expected = picture.translate(s.angles.double()).flatten(1)
    torch.testing.assert_close(s.means.double(), expected, atol=1e-5, rtol=0)
    assert (s.x - s.means).std().item() == pytest.approx(0.2, rel=0.03)
    assert s.likelihood == "gaussian-learned"


@pytest.mark.parametrize("seed", range(4))
def test_a_picture_has_unit_variance_and_is_moved_by_either_angle(seed):
    pixels = waves(seed, 32).translate(torch.zeros(1, 2, dtype=torch.float64))[0]
    assert pixels.mean().item() == pytest.approx(0, abs=1e-9)
    assert pixels.var(correction=0).item() == pytest.approx(1)
    for shift in ([math.pi, 0.0], [0.0, math.pi]):
        moved = waves(seed, 32).translate(torch.tensor([shift], dtype=torch.float64))[0]
        # The odd waves change their sign: cos θ alone has a quarter of the variance.
        assert (moved - pixels).square().mean() > 1


#: Functions of positions, by kind, with their mean under the uniform law.
MOMENTS = {
    "ring": lambda z: torch.cat([z, z[:, :1] * z[:, 1:]], 1),
    "torus": lambda z: torch.cat([z, z[:, :2] * z[:, 2:]], 1),
    "so3": lambda z: z.flatten(1),
    "axis": lambda z: torch.cat([z[:, :1] * z[:, 1:], z.square() - 1 / 3], 1),
    "sheet": lambda z: torch.cat([z, z.square() - 1 / 3, z[:, :1] * z[:, 1:]], 1),
    "pictures": lambda z: z,
}


@pytest.mark.parametrize("kind", MOMENTS)
def test_independent_positions_are_uniform(kind):
    f = MOMENTS[kind](data.simulate(kind, 5000, cells=FEW[kind]).points.double())
    assert ((f.mean(0) / f.std(0)).abs() * math.sqrt(len(f))).max() < 4


@pytest.mark.parametrize("kind", MOMENTS)
def test_moving_positions_are_uniform_at_the_first_and_at_later_times(kind):
    walk, generator = KINDS[kind].walk, torch.Generator().manual_seed(1)
    drawn = [walk(4, 0.02, generator) for _ in range(300)]
    for at in (0, 3):
        f = MOMENTS[kind](torch.stack([points[at] for points in drawn]))
        assert ((f.mean(0) / f.std(0)).abs() * math.sqrt(len(f))).max() < 4


@pytest.mark.parametrize("kind", ["ring", "torus", "so3", "axis"])
def test_a_step_is_that_of_the_heat_kernel(kind):
    """The mean distance of neighbours in time, against draws of the exact law."""
    n, rate = 4000, 0.15
    s = data.simulate(kind, n, smooth=True, rate=rate, cells=1)
    M = manifolds.parse(s.manifold)
    points = M.projx(s.points.double())
    steps = M.dist(points[:-1], points[1:])
    law = HeatKernel(M, points[0], torch.full(M.time_shape, rate, dtype=torch.float64))
    drawn = M.dist(points[0], law.sample((n,), generator=torch.Generator().manual_seed(0)))
    error = math.hypot(steps.std().item(), drawn.std().item()) / math.sqrt(n)
    assert abs(steps.mean() - drawn.mean()) < 4 * error
    torch.testing.assert_close(steps.std(), drawn.std(), rtol=0.08, atol=0.0)


def test_rotations_forget_at_the_rate_of_the_lowest_representation():
    """E tr(R₀ᵀ Rₛ) = 3 e^{−rate·s}: the eigenvalue of ½Δ on entries of rotations is −1."""
    s = data.simulate("so3", 20_000, smooth=True, rate=0.05, cells=1)
    R = s.points.double()
    for lag in (1, 10, 20):
        trace = (R[lag:] * R[:-lag]).sum((-2, -1)).mean().item()
        assert trace == pytest.approx(3 * math.exp(-0.05 * lag), abs=0.12)


def test_the_motion_on_the_square_is_reflected_at_its_edges():
    """cos(π(z + 1)/2) is an eigenfunction with reflecting edges: it decays by e^{−rate π²/8}."""
    s = data.simulate("sheet", 20_000, smooth=True, rate=0.1, cells=1)
    assert s.points.abs().max() <= 1
    f = torch.cos(math.pi / 2 * (s.points.double() + 1))
    ratio = (f[1:] * f[:-1]).mean() / f.square().mean()
    assert ratio.item() == pytest.approx(math.exp(-0.1 * math.pi**2 / 8), abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_a_function_of_the_seed(kind):
    a, b, c = (data.simulate(kind, 8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a.x, b.x)
    assert not torch.equal(a.x, c.x)
    again = data.simulate(kind, 8, seed=2, population=1)
    assert not torch.equal(a.x, again.x)
    if a.tuning is not None:
        torch.testing.assert_close(a.tuning(a.points), again.tuning(a.points))
        assert not torch.equal(c.tuning(c.points), again.tuning(c.points))


def test_times_are_there_where_positions_move():
    assert data.simulate("ring", 4).times is None
    times = data.simulate("ring", 4, smooth=True).times
    assert times.dtype == torch.float64 and times.tolist() == [0, 1, 2, 3]
    assert data.simulate("noise", 4, smooth=True).times is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "rings"}, "did you mean 'ring'"),
        ({"n": 0}, "n=0"),
        ({"cells": 0}, "cells=0"),
        ({"gain": 0.0}, "gain=0.0"),
        ({"peak": math.nan}, "peak=nan"),
        ({"dispersion": -1.0}, "dispersion=-1.0"),
        ({"noise": math.inf}, "noise=inf"),
        ({"rate": 2.0}, "rate=2.0"),
        ({"sharpness": -1.0}, "sharpness=-1.0"),
        ({"kind": "pictures", "cells": 10}, "a square"),
    ],
)
def test_what_is_wrong_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        data.simulate(**{"kind": "ring", "n": 5, **given})


def test_a_tuning_refuses_positions_of_another_shape():
    with pytest.raises(ValueError, match="points has shape"):
        data.simulate("so3", 2).tuning(torch.zeros(4, 2))
