"""Tables of smooth functions by polynomials on cells, and geodesics that are followed by them."""

import math

import numpy as np
import pytest
import torch
from catalogue import bean

from manifold_ae.manifolds import Spheroid, SurfaceOfRevolution
from manifold_ae.manifolds.geodesic_fan import Linear
from manifold_ae.manifolds.piecewise import Piecewise

SURFACES = [Spheroid(1.0, 1.5), Spheroid(1.0, 0.6), SurfaceOfRevolution(bean)]


def waves(x: np.ndarray) -> np.ndarray:
    return np.stack([np.sin(x), 1 / (1.3 - np.cos(x)), np.cos(7 * x)], -1)


def test_values_and_slopes_are_those_of_the_functions():
    table = Piecewise(waves, 0.0, 2 * math.pi, periodic=True)
    x = torch.linspace(-4, 9, 4001, dtype=torch.float64, requires_grad=True)
    found = table(x)
    expected = torch.from_numpy(waves(x.detach().numpy()))
    assert (found - expected).abs().max().item() <= 5e-14
    (slope,) = torch.autograd.grad(found[:, 0].sum(), x)
    assert (slope - x.detach().cos()).abs().max().item() <= 1e-10


def test_beyond_an_interval_the_value_is_held():
    table = Piecewise(lambda x: np.exp(x)[:, None], -1.0, 1.0)
    far = table(torch.tensor([-1e9, -1.0, 1.0, 1.0 + 1e-12, 1e9], dtype=torch.float64))[:, 0]
    assert far[1:4].tolist() == pytest.approx([math.exp(-1), math.e, math.e], rel=1e-11)
    assert math.exp(-1.2) < far[0].item() <= far[1].item()
    assert far[3].item() <= far[4].item() < math.exp(1.2)


def test_points_that_are_not_finite_have_no_value():
    table = Piecewise(waves, 0.0, 2 * math.pi, periodic=True)
    x = torch.tensor([math.nan, 0.5], dtype=torch.float64)
    assert table(x).isnan().all(-1).tolist() == [True, False]
    assert table(x[:0]).shape == (0, 3)


def test_lines_between_equal_steps():
    grid = torch.linspace(0, 1, 11, dtype=torch.float64)
    table = Linear(torch.stack([grid, grid.square()], -1))
    line, square = table(torch.tensor([[0.0, 2.5], [9.5, 10.0]], dtype=torch.float64))
    assert line.flatten().tolist() == pytest.approx([0, 0.25, 0.95, 1])
    assert square.flatten().tolist() == pytest.approx([0, 0.065, 0.905, 1])


@pytest.mark.parametrize(("a", "c"), [(1.0, 1.5), (1.0, 0.6)])
def test_bends_of_a_spheroid_are_those_of_the_ellipse(a, c):
    """κ₁ = κ₂ a²/g, κ₂ = c/(a√g), g = a² cos² u + c² sin² u, u the parametric colatitude."""
    surface = Spheroid(a, c)
    cosine = torch.linspace(-1, 1, 401, dtype=torch.float64)
    at = surface.profile.jet(cosine.arccos())
    u = torch.atan2(at.rho / a, at.z / c)
    g = (a * u.cos()) ** 2 + (c * u.sin()) ** 2
    across = c / a / g.sqrt()
    gauss, gap = surface._chart.bends(cosine)
    assert (gauss - across**2 * a * a / g).abs().max().item() <= 1e-10
    # Of the gap only its product with Λ² ≤ ρ² counts.
    error = gap - across**2 * (c * c - a * a) / (g * a * a)
    assert (error * at.rho**2).abs().max().item() <= 1e-10
    assert error.abs().max().item() <= 1e-7


@pytest.mark.parametrize("surface", SURFACES, ids=["prolate", "oblate", "bean"])
def test_short_and_long_geodesics_of_a_batch_are_those_alone(surface, generator):
    x, y = surface.random_uniform(2, 5, generator=generator, dtype=torch.float64)
    u = surface.proju(x, torch.randn(5, 3, generator=generator, dtype=torch.float64))
    u = u * torch.tensor([0.0, 1e-6, 0.3, 2.0, 9.0], dtype=torch.float64).unsqueeze(-1)
    together = surface.expmap(x, u)
    alone = torch.stack([surface.expmap(x[k], u[k]) for k in range(5)])
    assert (together - alone).abs().max().item() <= 1e-12
    apart = torch.stack([surface.dist(x[k], y[k]) for k in range(3)])
    assert (surface.dist(x, y)[:3] - apart).abs().max().item() <= 1e-12
    assert surface.expmap(x[:0], u[:0]).shape == (0, 3)
    assert surface.dist(x[:0], y[:0]).shape == (0,)


@pytest.mark.parametrize("surface", SURFACES, ids=["prolate", "oblate", "bean"])
def test_a_geodesic_keeps_its_speed_its_momentum_and_the_surface(surface, generator):
    x = surface.random_uniform(20, generator=generator, dtype=torch.float64)
    u = surface.proju(x, torch.randn(20, 3, generator=generator, dtype=torch.float64))
    end = surface.expmap(x, u)
    here = torch.func.jvp(lambda s: surface.expmap(x, s * u), (u.new_ones(()),), (u.new_ones(()),))
    v = here[1]
    assert (surface.projx(end) - end).abs().max().item() <= 1e-11
    assert (v.norm(dim=-1) - u.norm(dim=-1)).abs().max().item() <= 1e-9
    before, after = (p[:, 0] * w[:, 1] - p[:, 1] * w[:, 0] for p, w in ((x, u), (end, v)))
    assert (before - after).abs().max().item() <= 1e-9
