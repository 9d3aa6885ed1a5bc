"""Homology of samples: right where the shape is known, silent where it cannot be told."""

import importlib
import math
import sys

import pytest
import torch
from sklearn.metrics.pairwise import nan_euclidean_distances
from torch import Tensor
from torch.testing import assert_close

from manifold_ae import manifolds, metrics
from manifold_ae.metrics.distances import pairwise
from manifold_ae.metrics.persistence import distances_from

PRIMES = (2, 3)
ripser = pytest.importorskip("ripser", reason="the extra topology is not installed")


def numbers(M: manifolds.Manifold, top: int) -> dict[int, tuple[int, ...]]:
    return {p: (M.betti_numbers(p) or ())[: top + 1] for p in PRIMES}


@pytest.mark.parametrize(
    ("spec", "landmarks"),
    [
        ("circle", 40),
        ("sphere:2", 80),
        ("torus:2", 120),
        ("projective:2", 100),
        ("klein-bottle", 150),
        ("so3", 180),
    ],
)
def test_uniform_samples_of_manifolds(spec, landmarks, dtype):
    """Torsion shows: over ℤ/3, RP² is a point and SO(3) has no loop."""
    M = manifolds.parse(spec)
    z = M.random_uniform(1500, generator=torch.Generator().manual_seed(0), dtype=dtype)
    found = metrics.betti_of_latents(M, z, landmarks=landmarks)
    assert found.betti == numbers(M, min(2, M.dim))
    assert found.landmarks == landmarks


def sheet(generator: torch.Generator) -> Tensor:
    return torch.rand(1500, 2, generator=generator)


def torus_of_pictures(generator: torch.Generator) -> Tensor:
    """A flat torus, turned into fifty dimensions, with a little noise."""
    T = manifolds.FlatTorus(2)
    x = T.random_uniform(1500, generator=generator)
    frame = torch.linalg.qr(torch.randn(50, 4, generator=generator)).Q
    return x @ frame.T + 0.01 * torch.randn(1500, 50, generator=generator)


def pieces(generator: torch.Generator) -> Tensor:
    """Three discs, far apart."""
    x = torch.rand(1500, 2, generator=generator)
    return x + 9 * torch.arange(3).repeat(500)[:, None]


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(sheet, (1, 0, 0)), (torus_of_pictures, (1, 2, 1)), (pieces, (3, 0, 0))],
)
def test_data_by_euclidean_distances(draw, expected):
    x = draw(torch.Generator().manual_seed(0))
    found = metrics.betti_of_data(x, landmarks=120)
    assert found.betti == dict.fromkeys(PRIMES, expected)


def test_noise_in_many_dimensions_cannot_be_told():
    x = torch.randn(1000, 20, generator=torch.Generator().manual_seed(0))
    found = metrics.betti_of_data(x, landmarks=100)
    assert found.betti == dict.fromkeys(PRIMES, (None, None, None))
    assert found.diameter < 4.5 * found.scale


def polygon(n: int) -> Tensor:
    """Geodesic distances of n equally spaced points of the circle."""
    k = torch.arange(n, dtype=torch.float64)
    turns = (k[:, None] - k).abs() / n
    return 2 * math.pi * torch.minimum(turns, 1 - turns)


def test_bars_of_a_regular_polygon():
    """A loop born when neighbours meet, at 2π/n; it dies at 2π/3 (Adamaszek and Adams, 2017)."""
    side = 2 * math.pi / 30
    found = metrics.homology(polygon(30), 2 * math.pi / 3 / 3.1, dimension=1)
    (born, dead), *rest = found.bars[2][0]
    assert born * found.scale == pytest.approx(side)
    assert dead * found.scale == pytest.approx(2 * math.pi / 3)
    assert not rest
    # Alive until 3.1 ε it is doubtful; until 4 ε, it counts; at 2.7 ε, π is less than 4.5 ε.
    assert found.betti[2] == (1, None)
    for times, expected in ((4.0, (1, 1)), (2.7, (None, None))):
        scale = 2 * math.pi / 3 / times
        assert metrics.homology(polygon(30), scale, dimension=1).betti[3] == expected
    with pytest.raises(ValueError, match="every point is one"):
        metrics.homology(polygon(30), 0.0, dimension=1)


def test_landmarks_cover_the_sample_and_lie_apart(generator):
    M = manifolds.Sphere(2)
    z = M.random_uniform(300, generator=generator, dtype=torch.float64)
    chosen, scale, distances = metrics.farthest_points(
        lambda k: pairwise(M, z[k : k + 1], z)[0], 300, 40
    )
    assert len(set(chosen)) == 40
    covered = M.dist(z.unsqueeze(1), z[chosen]).amin(1).max().item()
    assert covered == pytest.approx(scale)
    apart = distances + torch.eye(40, dtype=torch.float64) * 9
    assert apart.min().item() >= scale
    torch.testing.assert_close(distances, M.dist(z[chosen].unsqueeze(1), z[chosen]))


def test_without_ripser_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ripser", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'manifold-ae\[topology\]'"):
        metrics.homology(polygon(10), 0.5, dimension=1)
    monkeypatch.undo()
    assert importlib.import_module("ripser") is ripser


def test_samples_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match="expected 2 or more"):
        metrics.betti_of_data(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="not finite"):
        metrics.betti_of_data(torch.full((9, 3), torch.inf))
    with pytest.raises(ValueError, match="no scale"):
        metrics.betti_of_data(torch.zeros(9, 3))


# ---- verdicts -------------------------------------------------------------------------------


def certified(M: manifolds.Manifold, z: Tensor, x: Tensor | None = None) -> metrics.Topology:
    generator = torch.Generator().manual_seed(0)
    return metrics.certify_samples(M, z, x, landmarks=100, generator=generator)


def ring_with_gaps(generator: torch.Generator, part: float = 0.15) -> Tensor:
    """A ring in twelve dimensions, of whose values some are missing."""
    angle = 2 * math.pi * torch.rand(800, 1, generator=generator)
    x = torch.cos(angle - 2 * math.pi * torch.arange(12) / 12)
    return x.masked_fill(torch.rand(x.shape, generator=generator) < part, math.nan)


def test_distances_of_rows_with_gaps_are_those_of_the_values_that_both_have(generator, dtype):
    x = ring_with_gaps(generator)[:40].to(dtype)
    expected = torch.from_numpy(nan_euclidean_distances(x.numpy()))
    found = torch.stack([distances_from(x, k) for k in range(len(x))])
    assert_close(found, expected.to(dtype), atol=1e-2 if dtype == torch.float32 else 1e-7, rtol=0)
    whole = x.nan_to_num(0.5)
    expected = torch.cdist(whole.double(), whole.double()).to(dtype)
    found = torch.stack([distances_from(whole, k) for k in range(len(x))])
    assert_close(found, expected, atol=1e-2 if dtype == torch.float32 else 1e-6, rtol=0)
    x[3, :6], x[5, 6:] = math.nan, math.nan
    with pytest.raises(ValueError, match="rows 3 and 5 have no value in common"):
        distances_from(x, 3)


def test_a_ring_with_gaps_has_the_numbers_of_a_ring(generator):
    x = ring_with_gaps(generator)
    with pytest.raises(ValueError, match="not finite"):
        metrics.betti_of_data(x)
    with pytest.raises(ValueError, match="not finite"):
        metrics.betti_of_data(x.nan_to_num(math.inf), missing="mask")
    found = metrics.betti_of_data(x, landmarks=20, dimension=1, missing="mask")
    assert found.betti == dict.fromkeys(PRIMES, (1, 1))
    circle = manifolds.FlatTorus(1)
    truth = circle.random_uniform(800, generator=generator)
    verdict = metrics.certify_samples(circle, truth, x, landmarks=20, missing="mask")
    assert verdict.captured is True


def test_verdicts_by_samples():
    generator = torch.Generator().manual_seed(0)
    C, S = manifolds.FlatTorus(1), manifolds.Sphere(2)
    z = C.random_uniform(1000, generator=generator)
    good = certified(C, z, torch.cat([z, 0.1 * z], -1))
    assert good.captured is True
    assert "same homology as FlatTorus(1)" in good.words
    # A tuning curve seen as a line: the data have no loop.
    assert certified(C, z, C.to_angles(z)).captured is False
    arc = certified(C, C.from_angles(C.to_angles(z) / 2), z)
    assert arc.captured is False
    assert "have not the homology of FlatTorus(1)" in arc.words
    noise = torch.randn(1000, 20, generator=generator)
    assert certified(C, z, noise).captured is None
    assert certified(C, z).captured is None
    # A sphere whose latents lie on a circle; one of which a small cap is missing.
    y = S.random_uniform(1000, generator=generator)
    assert certified(S, S.projx(y * torch.tensor([1.0, 1.0, 0.02])), y).captured is False
    # Too few landmarks for the thin tube.
    thin = manifolds.EmbeddedTorus()
    z = thin.random_uniform(300, generator=generator)
    few = certified(thin, z, z)
    assert few.captured is None
    assert "no 100 landmarks or fewer show its Betti numbers: take more rows" in few.words


@pytest.mark.parametrize("n", [200, 500])
def test_a_circle_of_few_points_is_seen_through_fewer_landmarks(n):
    """Through as many as there may be, gaps between the points are holes."""
    C = manifolds.FlatTorus(1)
    generator = torch.Generator().manual_seed(0)
    count = metrics.enough_landmarks(C, n, 200, generator=generator)
    assert count is not None and count < 0.2 * n
    samples = [C.random_uniform(n, generator=generator) for _ in range(5)]
    seen = [certified(C, z, z).captured for z in samples]
    assert seen.count(True) >= 4
    few = C.random_uniform(12, generator=generator)
    assert metrics.enough_landmarks(C, 12, 200, generator=generator) is None
    assert certified(C, few, few).captured is None


def test_latents_in_euclidean_space_are_compared_with_the_data():
    z = manifolds.FlatTorus(1).random_uniform(600, generator=torch.Generator().manual_seed(0))
    E = manifolds.Euclidean(2)
    assert certified(E, z, 2 * z).captured is True
    assert certified(E, z, torch.atan2(z[:, 1:], z[:, :1])).captured is False
