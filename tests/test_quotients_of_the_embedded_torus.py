"""Quotients of the embedded torus: a density, walks, and the divergence by walks."""

import numpy as np
import pytest
import torch

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RandomWalk
from manifold_ae.heat import cubature
from manifold_ae.manifolds import EmbeddedTorus, Quotient, Sphere

#: Through the centre: half a turn, and the tube turned over.
HALF = Quotient(EmbeddedTorus(), [-np.eye(3)], name="half a torus")


@pytest.mark.slow
def test_the_divergence_is_estimated_by_walks_and_judged_by_the_kernel(generator):
    x = HALF.base_point(dtype=torch.float64)
    t = x.new_tensor(0.05)
    prior = HALF.default_prior()
    walk = RandomWalk(HALF, x, t, 20)
    value, error = heat.kl_monte_carlo(walk, prior, 40, generator=generator)
    # The images of a point have not met yet.
    short = heat.kl_asymptotic(HALF, x, t)
    assert abs((value - short).item()) <= 4 * error.item() + 0.05
    with pytest.raises(NotImplementedError, match="no exact sampler"):
        heat.kl_monte_carlo(HeatKernel(HALF, x, t), prior, 10)


def test_its_divergence_has_no_rule_and_the_way_out_is_named():
    x = HALF.base_point(dtype=torch.float64).unsqueeze(0)
    with pytest.raises(NotImplementedError, match=r"no rule.*kl_monte_carlo.*RandomWalk"):
        cubature.cubature(HALF.cover, x, x.new_ones(1), 24)


def test_a_walk_is_judged_by_its_limit(generator):
    """On S², where that is exact, the walk's bias is what is left."""
    M = Sphere(2)
    walk = RandomWalk(M, M.base_point(dtype=torch.float64), 0.1, 50, corrected=True)
    value, error = heat.kl_monte_carlo(walk, M.default_prior(), 4000, generator=generator)
    exact = heat.kl_uniform(M, walk.loc, walk.time)
    assert abs((value - exact).item()) <= 4 * error.item() + 0.005
    with pytest.raises(ValueError, match="leave walks out"):
        heat.kl_monte_carlo(walk, M.default_prior(), 10, walks=5)
