"""The coefficient ¼ of the short-time divergence, from the kernels: no table, no formula.

The derivation is in ``docs/theory/kl_coefficient.md``; what it says term by term is held here.
"""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import leggauss

from manifold_ae.heat import sphere
from manifold_ae.heat.sphere_tables import divergence

DIMENSIONS = pytest.mark.parametrize("d", [2, 3, 5, 7, 10])


def volume(d: int) -> float:
    return 2 * math.pi ** ((d + 1) / 2) / math.gamma((d + 1) / 2)


def excess(d: int, t: np.ndarray, *, folded: bool = False) -> np.ndarray:
    """KL less what it is without curvature, over Sc·t."""
    flat = -d / 2 * (np.log(2 * np.pi * t) + 1) + math.log(volume(d) / (2 if folded else 1))
    return (divergence(d, t, folded) - flat) / (d * (d - 1) * t)


def radial(d: int, t: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances, with a gradient, and their weights by volume; next to nothing lies beyond."""
    nodes, weights = map(torch.from_numpy, leggauss(160))
    reach = min(math.pi, (12 + math.sqrt(d)) * math.sqrt(t))
    r = (reach * (nodes + 1) / 2).requires_grad_()
    area = 2 * math.pi ** (d / 2) / math.gamma(d / 2)
    return r, reach / 2 * weights * area * torch.sin(r.detach()) ** (d - 1)


@DIMENSIONS
@pytest.mark.parametrize("folded", [False, True], ids=["sphere", "projective"])
def test_the_coefficient_is_a_quarter_in_every_dimension(d, folded):
    coarse, fine = excess(d, np.array([2e-3, 1e-3]), folded=folded)
    assert 2 * fine - coarse == pytest.approx(0.25, abs=2e-6)
    published = (d + 4) / 24
    assert (abs(2 * fine - coarse - published) < 1e-5) == (d == 2)


def test_the_next_order_on_the_three_sphere():
    t = np.array([0.01, 0.02])
    assert (excess(3, t) - 0.25) * 6 / t == pytest.approx([-1 / 12, -1 / 12], rel=5e-3)


@DIMENSIONS
def test_the_divergence_falls_at_half_the_fisher_information(d):
    t = 0.02
    r, weights = radial(d, t)
    log_q = sphere.log_relative_density(d, r, torch.tensor(t, dtype=torch.float64))
    (slope,) = torch.autograd.grad(log_q.sum(), r)
    mass = weights * log_q.detach().exp() / volume(d)
    assert mass.sum().item() == pytest.approx(1, abs=1e-9)
    production = -(mass * slope**2).sum().item() / 2
    later, earlier = divergence(d, np.array([t * 1.001, t / 1.001]))
    assert production == pytest.approx((later - earlier) / (t * (1.001 - 1 / 1.001)), rel=1e-6)
    short = -d / (2 * t) + d * (d - 1) / 4
    assert production == pytest.approx(short, abs=d**4 * t / 200)


@DIMENSIONS
def test_mean_square_distance(d):
    """E r² = d·t − Sc t²/6 + O(t³), the first of the three terms."""
    t = 1e-3
    r, weights = radial(d, t)
    log_q = sphere.log_relative_density(d, r, torch.tensor(t, dtype=torch.float64))
    square = (weights * (log_q.exp() / volume(d) * r**2)).sum().item()
    assert (d * t - square) / t**2 == pytest.approx(d * (d - 1) / 6, rel=2e-2)


def test_the_printed_expansion_has_not_mass_one():
    """§3.7 of the ΔVAE paper, as printed, and with the factor that it lacks, on S³ at t = 0.1."""
    d, t = 3, 0.1
    r, weights = radial(d, t)
    r = r.detach()
    bracket = 3 - d + (d - 1) * r**2 + (d - 3) * r / torch.tan(r)
    printed = (2 * math.pi * t) ** (-d / 2) * torch.exp(-(r**2) / (2 * t))
    printed = printed * (1 + (d - 1) * t / (8 * r**2) * bracket)
    assert (weights * printed).sum().item() == pytest.approx(0.952, abs=5e-4)
    whole = printed * (r / torch.sin(r)) ** ((d - 1) / 2)
    assert (weights * whole).sum().item() == pytest.approx(1, abs=2e-3)
