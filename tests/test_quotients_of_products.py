"""Quotients of products, with a time a factor; laws that do not depend on the representative."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RandomWalk, WrappedNormal
from manifold_ae.distributions.wrapped_normal import exp_noise_shape, exp_step
from manifold_ae.manifolds import (
    SO3,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    Quotient,
    RealProjective,
    Sphere,
)

#: The reflection fixes a circle of the sphere; with half a turn of the circle it is free.
MIRRORED = Quotient(Product(Sphere(2), FlatTorus(1)), [np.diag([1.0, 1, -1, -1, -1])])
TIMES = [[0.2, 0.1], [0.05, 0.15]]


def start(n: int, generator, **kwargs) -> Tensor:
    return MIRRORED.random_uniform(n, generator=generator, **kwargs)


@pytest.mark.parametrize("n", [2, 3])
def test_the_short_time_formula_goes_by_the_factors(n, dtype, device, generator):
    x = start(n, generator, dtype=dtype, device=device)
    for row in TIMES:
        found = heat.kl_asymptotic(MIRRORED, x, x.new_tensor(row))
        sphere, angle = MIRRORED.cover.split(x)  # type: ignore[attr-defined]
        expected = (
            heat.kl_asymptotic(Sphere(2), sphere, x.new_tensor(row[0]))
            + heat.kl_asymptotic(FlatTorus(1), angle, x.new_tensor(row[1]))
            - math.log(2)
        )
        assert found.shape == (n,)
        assert torch.allclose(found, expected)
    published = heat.kl_published(MIRRORED, x, x.new_tensor(TIMES[0]))
    # In two dimensions the coefficients agree, and the circle is flat.
    assert torch.allclose(published, heat.kl_asymptotic(MIRRORED, x, x.new_tensor(TIMES[0])))
    with pytest.raises(ValueError, match=r"time = 0\.5 is too long.*Quotient"):
        heat.kl_asymptotic(MIRRORED, x, x.new_tensor([0.5, 0.1]))


@pytest.mark.parametrize("law", [HeatKernel, WrappedNormal])
def test_densities_have_mass_one_and_agree_with_samples(law, dtype, device, generator):
    x = start(2, generator, dtype=dtype, device=device)
    q = law(MIRRORED, x, x.new_tensor([[0.6, 0.9], [0.4, 2.0]]))
    y = MIRRORED.random_uniform(20_000, 1, generator=generator, dtype=dtype, device=device)
    relative = q.log_prob(y).exp() * MIRRORED.volume
    error = relative.std(0) / math.sqrt(len(y))
    assert ((relative.mean(0) - 1).abs() <= 4.5 * error).all()
    # E f(z) of a function on the quotient, from samples and from the density.
    z = q.sample((20_000,), generator=generator)
    samples = z[..., 0] + z[..., 2] * z[..., 3]
    weighed = (y[..., 0] + y[..., 2] * y[..., 3]) * relative
    spread = (samples.var(0) + weighed.var(0)).sqrt() / math.sqrt(len(y))
    assert ((samples.mean(0) - weighed.mean(0)).abs() <= 4.5 * spread).all()


def test_a_walk_on_it_has_a_time_a_factor(device, generator):
    x = start(3, generator, dtype=torch.float64, device=device)
    q = RandomWalk(MIRRORED, x, x.new_tensor([1e-8, 0.5]), corrected=True)
    z = q.sample((100,), generator=generator)
    sphere, angle = (z - x)[..., :3], (z - x)[..., 3:]
    assert sphere.abs().max() < 1e-3
    assert angle.abs().max() > 0.1


# ---- representatives --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "manifold",
    [RealProjective(1), RealProjective(2), RealProjective(5), KleinBottle()],
    ids=repr,
)
def test_a_wrapped_normal_step_does_not_depend_on_the_representative(manifold, device, generator):
    kwargs = {"generator": generator, "dtype": torch.float64, "device": device}
    x = manifold.random_uniform(50, **kwargs)
    noise = torch.randn(50, *exp_noise_shape(manifold), **kwargs)
    t = x.new_tensor(0.7)
    here = exp_step(manifold, x, t, noise)
    there = exp_step(manifold, manifold.images(x)[1], t, noise)
    assert manifold.dist(here, there).max() <= 1e-7


def pair(a: Manifold, b: Manifold) -> Manifold:
    return Product(a, b)


@pytest.mark.parametrize(
    "manifold",
    [RealProjective(2), RealProjective(9), KleinBottle(), pair(SO3(), RealProjective(3))],
    ids=repr,
)
def test_wrapped_normal_steps_have_the_length_of_normal_ones(manifold, dtype, device, generator):
    kwargs = {"generator": generator, "dtype": dtype, "device": device}
    x = manifold.random_uniform(5000, **kwargs)
    t = 1e-4
    time = x.new_full(manifold.time_shape, t)
    z = WrappedNormal(manifold, x, time).sample(generator=generator)
    assert z.shape == x.shape
    square = manifold.dist(x, z).square() / t  # χ² of dim degrees
    d = manifold.dim
    assert square.mean().item() == pytest.approx(d, abs=4.5 * math.sqrt(2 * d / 5000))
    assert square.var().item() == pytest.approx(2 * d, rel=0.25)
