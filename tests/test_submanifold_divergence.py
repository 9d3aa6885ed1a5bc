"""The divergence on manifolds given by a projection: estimated by walks, and where formulas end."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RandomWalk, RiemannianUniform
from manifold_ae.manifolds import Sphere, Submanifold
from manifold_ae.numerics import normalise


def sphere(d: int, radius: float = 1.0) -> Submanifold:
    volume = Sphere(d).volume * radius**d
    return Submanifold((d + 1,), lambda y: radius * normalise(y), name=f"S{d}", volume=volume)


def walk(manifold: Submanifold, d: int, t: list[float], steps: int, **kwargs) -> RandomWalk:
    x = Sphere(d).base_point(**kwargs).expand(len(t), -1)
    return RandomWalk(manifold, x, x.new_tensor(t), steps)


def check(d: int, t: list[float], n: int, walks: int, dtype, device, generator) -> None:
    manifold = sphere(d)
    q = walk(manifold, d, t, 10, dtype=dtype, device=device)
    value, error = heat.kl_monte_carlo(
        q, RiemannianUniform(manifold), n, walks=walks, generator=generator
    )
    assert value.shape == error.shape == (len(t),)
    assert value.dtype == dtype
    exact = heat.kl_uniform(Sphere(d), q.loc, q.time)
    assert ((value - exact).abs() <= 4 * error + 0.05).all()
    assert (error < 2 * math.sqrt(d / 2 / n) + 0.05).all()


def test_walks_estimate_the_divergence_past_the_short_time_limit(dtype, device, generator):
    check(2, [0.3, 0.7], 60, 300, dtype, device, generator)


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 3])
def test_the_bias_of_the_walk_is_as_stated(d, device, generator):
    check(d, [0.1, 0.3, 0.5], 1500, 1000, torch.float64, device, generator)


def test_the_short_time_limit_is_that_of_the_curvature():
    for d in (2, 3):
        assert sphere(d).short_time_limit == pytest.approx(1 / d)
    small = sphere(2, 0.1)
    assert small.short_time_limit == pytest.approx(0.01 / 2)
    x = 0.1 * Sphere(2).base_point(dtype=torch.float64)
    with pytest.raises(ValueError, match=r"holds up to 0\.005"):
        heat.kl_asymptotic(small, x, x.new_tensor(0.02))


def test_what_there_is_instead_is_said():
    manifold = sphere(2)
    q = HeatKernel(manifold, Sphere(2).base_point(), 0.1)
    prior = manifold.default_prior()
    with pytest.raises(NotImplementedError, match=r"up to t = 0\.5.*RandomWalk\(M, loc"):
        kl_divergence(q, prior)
    with pytest.raises(NotImplementedError, match="RandomWalk"):
        heat.kl_monte_carlo(q, prior, 10)
    # A step too long for the expansion at its end.
    with pytest.raises(ValueError, match="at least 8 are needed"):
        heat.kl_monte_carlo(walk(manifold, 2, [0.9], 2), prior, 10)
    for law in (HeatKernel(Sphere(2), Sphere(2).base_point(), 0.1), Normal(0.0, 1.0)):
        with pytest.raises(ValueError, match="walks = 5"):
            heat.kl_monte_carlo(law, law, 10, walks=5)
