"""The divergence of the wrapped normal law on rotations, projective spaces and products."""

import math

import numpy as np
import pytest
import torch
from catalogue import law_at
from numpy.polynomial.legendre import leggauss
from torch.distributions import kl_divergence

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, WrappedNormal
from manifold_ae.distributions.wrapped_normal import log_density_of_exp
from manifold_ae.groups import rotations
from manifold_ae.manifolds import (
    SO3,
    EmbeddedTorus,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Product,
    RealProjective,
    Sphere,
)

MANIFOLDS = (
    SO3(),
    RealProjective(1),
    RealProjective(2),
    RealProjective(5),
    KleinBottle(),
    Product(Sphere(2), SO3()),
    Product(RealProjective(2), Euclidean(2)),
)
over = pytest.mark.parametrize("manifold", MANIFOLDS, ids=[M.spec for M in MANIFOLDS])


@over
def test_it_agrees_with_monte_carlo(manifold, generator):
    q = law_at(WrappedNormal, manifold, [1e-3, 0.5, 5.0], generator)
    prior = manifold.default_prior()
    value, error = heat.kl_monte_carlo(q, prior, 4000, generator=generator)
    exact = kl_divergence(q, prior)
    assert exact.shape == (3,)
    single = WrappedNormal(manifold, q.loc.float(), q.time.float())
    assert torch.allclose(kl_divergence(single, prior), exact.float(), rtol=1e-4, atol=1e-4)
    assert ((value - exact).abs() <= 4.5 * error + 1e-3).all()


@over
def test_its_slope_is_that_of_its_value(manifold, device, generator):
    q = law_at(WrappedNormal, manifold, [1e-4, 0.2, 1.3, 4.0], generator)
    prior = manifold.default_prior()

    def divergence(log_time: torch.Tensor) -> torch.Tensor:
        return kl_divergence(WrappedNormal(manifold, q.loc, log_time.exp()), prior)

    log_time = q.time.log().requires_grad_()
    assert torch.autograd.gradcheck(divergence, (log_time,), eps=1e-5, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("t", [1e-5, 0.03, 0.5, 4.0, 60.0, 1e4])
def test_on_rotations_it_agrees_with_quadrature_over_the_angle(t):
    manifold = SO3()
    one = manifold.base_point(dtype=torch.float64)
    nodes, weights = leggauss(600)
    # Graded towards both ends, where the density is like a logarithm or a pole.
    reach = min(math.pi, 14 * math.sqrt(t))
    u = (nodes + 1) / 2
    angle = np.concatenate([reach / 2 * u**4, reach - reach / 2 * u**4])
    w = np.tile(weights * reach * u**3, 2) * (1 - np.cos(angle)) / math.pi
    turned = rotations.exp(torch.from_numpy(angle)[:, None] * one[0])
    log_q = log_density_of_exp(manifold, one, turned, one.new_tensor(t)).numpy()
    relative = log_q + math.log(manifold.volume)
    mass = (w * np.exp(relative)).sum()
    assert mass == pytest.approx(1, abs=1e-6)
    found = kl_divergence(
        WrappedNormal(manifold, one, one.new_tensor(t)), manifold.default_prior()
    ).item()
    assert found == pytest.approx((w * np.exp(relative) * relative).sum(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("manifold", [SO3(), RealProjective(2), RealProjective(5)], ids=str)
def test_at_short_times_it_is_that_of_the_heat_kernel(manifold, device):
    x = manifold.base_point(dtype=torch.float64, device=device)
    t = x.new_tensor([1e-12, 1e-8, 1e-5])
    wrapped, heated = (
        kl_divergence(kind(manifold, x, t), manifold.default_prior())
        for kind in (WrappedNormal, HeatKernel)
    )
    # −Sc t/12: what the heat kernel's curvature term and that of the exponential map differ by.
    assert ((wrapped - heated).abs() <= 10 * manifold.dim**2 * t + 1e-7).all()


def test_entropy_of_a_product_that_is_not_compact_is_that_of_its_factors(generator):
    manifold = Product(Sphere(2), Euclidean(2))
    q = law_at(WrappedNormal, manifold, [0.1, 2.0], generator)
    parts = manifold.each(lambda M, x, t: WrappedNormal(M, x, t).entropy(), q.loc, time=q.time)
    assert torch.allclose(q.entropy(), parts[0] + parts[1])
    z = q.sample((5000,), generator=generator)
    surprise = -q.log_prob(z)
    assert (
        (surprise.mean(0) - q.entropy()).abs() <= 4.5 * surprise.std(0) / math.sqrt(len(z))
    ).all()


def test_factors_are_taken_in_turn():
    manifold = Product(Sphere(2), FlatTorus(1), SO3())
    x, t = manifold.random_uniform(5), torch.rand(5, 3)
    factors = manifold.each(lambda M, x, t: (M, tuple(x.shape), t.shape), x, time=t)
    shapes = ((5, 3), (5, 2), (5, 3, 3))
    assert factors == [(M, s, (5,)) for M, s in zip(manifold.factors, shapes, strict=True)]


@pytest.mark.parametrize("manifold", [RealProjective(51), EmbeddedTorus()], ids=str)
def test_where_it_is_not_known_that_is_said(manifold):
    q = WrappedNormal(manifold, manifold.base_point(), 0.1)
    with pytest.raises(NotImplementedError, match="kl_monte_carlo"):
        kl_divergence(q, manifold.default_prior())
