"""Radii of balls that hold a part of a heat kernel, by tables and by draws."""

import math

import pytest
import torch
from scipy import stats

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel
from manifold_ae.manifolds import SO3, Euclidean, FlatTorus, Manifold, RealProjective, Sphere

EXACT: list[Manifold] = [
    *[Sphere(d) for d in (1, 2, 3, 5)],
    *[RealProjective(d) for d in (1, 2, 3)],
    SO3(),
    *[FlatTorus(d) for d in (1, 2, 3)],
]


@pytest.mark.parametrize("M", EXACT, ids=repr)
def test_a_part_of_the_draws_lies_in_the_ball(M: Manifold) -> None:
    n, generator = 20_000, torch.Generator().manual_seed(0)
    for t in (0.003, 0.3, 3.0):
        time = torch.full((n,), t, dtype=torch.float64)
        z = M.base_point(dtype=torch.float64)
        draws = HeatKernel(M, z, time).sample(generator=generator)
        for level in (0.5, 0.9):
            inside = M.dist(draws, z) <= heat.radial_quantile(M, level, time)
            # Four standard errors.
            assert abs(inside.double().mean().item() - level) < 4 * math.sqrt(0.25 / n)


@pytest.mark.parametrize("M", EXACT, ids=repr)
def test_short_times_are_those_of_the_tangent_space_and_long_ones_uniform(M: Manifold) -> None:
    short = torch.tensor([1e-9, 1e-6, 1e-4], dtype=torch.float64)
    chi = stats.chi(M.dim).ppf(0.9)
    assert heat.radial_quantile(M, 0.9, short) / short.sqrt() == pytest.approx([chi] * 3, rel=2e-4)
    far = heat.radial_quantile(M, 0.9, torch.tensor([60.0, 1e4], dtype=torch.float64))
    assert far[0].item() == pytest.approx(far[1].item(), rel=1e-6)
    uniform = M.random_uniform(20_000, generator=torch.Generator().manual_seed(1), dtype=far.dtype)
    inside = (M.dist(uniform, M.base_point(dtype=far.dtype)) <= far[0]).double().mean()
    assert inside.item() == pytest.approx(0.9, abs=0.009)


def test_the_circle_by_its_images() -> None:
    """Three of one space: S¹, T¹, and ℝP¹ at half the angle."""
    t = torch.tensor([0.01, 0.5, 2.0], dtype=torch.float64)
    r = heat.radial_quantile(FlatTorus(1), 0.8, t)
    for time, radius in zip(t.tolist(), r.tolist(), strict=True):
        law = stats.norm(scale=math.sqrt(time))
        mass = sum(
            law.cdf(radius + 2 * math.pi * k) - law.cdf(2 * math.pi * k - radius)
            for k in range(-9, 10)
        )
        assert mass == pytest.approx(0.8, abs=2e-6)
    assert torch.allclose(heat.radial_quantile(Sphere(1), 0.8, t), r, rtol=1e-4)
    assert torch.allclose(2 * heat.radial_quantile(RealProjective(1), 0.8, t / 4), r, rtol=1e-4)


def test_the_shape_and_kind_of_times_are_kept() -> None:
    r = heat.radial_quantile(Sphere(2), 0.9, torch.full((2, 3), 0.1))
    assert r.shape == (2, 3)
    assert r.dtype == torch.float32


def test_bad_levels_and_unknown_laws_are_refused() -> None:
    with pytest.raises(ValueError, match="level = 1: expected a probability"):
        heat.radial_quantile(Sphere(2), 1, torch.tensor(0.1))
    with pytest.raises(NotImplementedError, match="over draws z"):
        heat.radial_quantile(Euclidean(2), 0.9, torch.ones(2))
