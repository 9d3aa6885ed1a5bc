"""Tensors that are no points of a manifold are refused by name, wherever they are given."""

import pytest
import torch
from catalogue import MANIFOLDS, WITH_EXACT_KL, WITH_KERNEL, WITH_SAMPLER, over, points

from manifold_ae import heat
from manifold_ae.manifolds import Euclidean, Product, Sphere, Submanifold
from manifold_ae.numerics import normalise


def refused(name: str, bad: torch.Tensor):
    shape = str(tuple(bad.shape)).replace("(", r"\(").replace(")", r"\)")
    return pytest.raises(ValueError, match=f"{name} has shape {shape}")


def wrong(manifold) -> list[torch.Tensor]:
    """A coordinate too many, and an axis too few."""
    shape = manifold.ambient_shape
    return [torch.randn(5, *shape[:-1], shape[-1] + 1), torch.tensor(1.0)]


@over(MANIFOLDS)
def test_maps_refuse_other_shapes(manifold):
    x = points(manifold, 5)
    for bad in wrong(manifold):
        for method, names in (
            (manifold.dist, ("x", "y")),
            (manifold.logmap, ("x", "y")),
            (manifold.expmap, ("x", "u")),
            (manifold.proju, ("x", "u")),
        ):
            with refused(names[0], bad):
                method(bad, x)
            with refused(names[1], bad):
                method(x, bad)
            with refused(names[1], bad):
                method(x, **{names[1]: bad})
        with refused("v", bad):
            manifold.transp(x, x, bad)


@over(WITH_KERNEL)
def test_kernels_refuse_other_shapes(manifold):
    x, t = points(manifold, 5), torch.full((5, *manifold.time_shape), 0.1)
    for bad in wrong(manifold):
        with refused("x", bad):
            heat.log_kernel(manifold, bad, x, t)
        with refused("y", bad):
            heat.log_kernel(manifold, x, bad, t)
        if manifold in WITH_EXACT_KL:
            with refused("x", bad):
                heat.kl_uniform(manifold, bad, t)
            with refused("loc", bad):
                heat.kl_asymptotic(manifold, bad, t)
        if manifold in WITH_SAMPLER:
            with refused("x", bad):
                heat.brownian_step(manifold, bad, t, torch.randn(5, *heat.noise_shape(manifold)))


def test_times_of_another_shape_are_refused():
    for manifold in (Product(Sphere(2), Sphere(1)), Euclidean(2)):
        x, bad = manifold.base_point(), torch.full((5, 3), 0.1)
        with refused("t", bad):
            heat.log_kernel(manifold, x, x, bad)


def test_a_submanifold_refuses_other_shapes():
    manifold = Submanifold((3,), normalise, volume=1.0)
    x, bad, t = manifold.base_point(), torch.randn(5, 4), torch.tensor(0.1)
    with refused("u", bad):
        manifold.expmap(x, bad)
    with refused("y", bad):
        heat.short_time_log_kernel(manifold, x, bad, t)
    with refused("loc", bad):
        heat.kl_asymptotic(manifold, bad, t)
