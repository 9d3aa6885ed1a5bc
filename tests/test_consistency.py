"""Consistency of latents of several runs."""

import math

import numpy as np
import pytest
import torch

from manifold_ae import metrics
from manifold_ae.groups import rotations
from manifold_ae.manifolds import FlatTorus, Sphere


def test_copies_agree_and_others_do_not() -> None:
    M = Sphere(2)
    generator = torch.Generator().manual_seed(0)
    z = M.random_uniform(400, generator=generator, dtype=torch.float64)
    turn = rotations.random_uniform((), generator=generator, dtype=torch.float64)
    noise = torch.randn(400, 3, generator=generator)
    other = M.random_uniform(400, generator=generator, dtype=torch.float64)
    found = metrics.consistency(M, [z, M.projx(z @ turn.mT + 0.1 * noise), other], names="abc")
    # Two of three directions of the noise are tangent: 0.1 √(π/2) in the mean.
    assert found.distances[0, 1] == pytest.approx(0.125, abs=0.02)
    assert found.distances[0, 2] == pytest.approx(found.chance, abs=0.05)
    assert 1.4 < found.chance < math.pi / 2
    assert np.array_equal(found.distances, found.distances.T)
    assert found.mean == pytest.approx(found.distances[np.triu_indices(3, 1)].mean())
    assert found.record()["isometries"]["a to b"] == found.aligned[0, 1].words
    assert "a to b: 0.1" in found.words
    carried = found.aligned[0, 1].apply(z)
    assert M.dist(carried, z @ turn.mT).max() < 0.05


def test_what_cannot_be_compared_is_refused() -> None:
    M = FlatTorus(1)
    z = M.random_uniform(10)
    with pytest.raises(ValueError, match="latents of 1 runs"):
        metrics.consistency(M, [z])
    with pytest.raises(ValueError, match="3, 10 rows"):
        metrics.consistency(M, [z, z[:3]])
    with pytest.raises(ValueError, match="1 names"):
        metrics.consistency(M, [z, z], names=["a"])
