"""Every posterior on every manifold that it knows: any time, any batch, special places.

``test_torture`` holds the maps and kernels to this, and ``test_posteriors`` the laws on spheres of
any dimension; here are the laws as a model uses them, sample, density and divergence.
"""

import math

import pytest
import torch
from catalogue import (
    MANIFOLDS,
    SPHERES,
    WITH_EXACT_KL,
    WITH_KERNEL,
    WITH_SAMPLER,
    batched_time,
    points,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import kl_divergence

from manifold_ae.distributions import HeatKernel, PowerSpherical, RandomWalk, WrappedNormal
from manifold_ae.manifolds import (
    SO3,
    EmbeddedTorus,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    RealProjective,
    Sphere,
    Spheroid,
)

WRAPPED = (
    *SPHERES,
    *(M for M in MANIFOLDS if isinstance(M, Euclidean | FlatTorus)),
    SO3(),
    RealProjective(2),
    RealProjective(3),
    KleinBottle(),
    Product(Sphere(2), FlatTorus(1)),
)
#: Of the tables that take seconds to build, other tests hold the values.
QUICK = tuple(M for M in MANIFOLDS if M not in (Sphere(5), Sphere(10)))
PAIRS = [
    *((HeatKernel, M) for M in QUICK if M in WITH_SAMPLER),
    *((RandomWalk, M) for M in MANIFOLDS),
    *((PowerSpherical, M) for M in SPHERES),
    *((WrappedNormal, M) for M in WRAPPED),
]
LAWS = pytest.mark.parametrize(
    ("law", "manifold"), PAIRS, ids=[f"{law.__name__}-{M.spec}" for law, M in PAIRS]
)


def place(manifold: Manifold, batch: tuple[int, ...], dtype: torch.dtype, seed: int):
    """Locations: the base point and its opposite among them, where there are several."""
    generator = torch.Generator().manual_seed(seed)
    loc = points(manifold, *batch, dtype=dtype, generator=generator)
    if loc.numel() and batch:
        base = manifold.base_point(dtype=dtype)
        loc[0], loc[-1] = base, manifold.projx(-base)
    return loc


def finite(value: torch.Tensor, *leaves: torch.Tensor) -> None:
    assert torch.isfinite(value).all()
    if value.requires_grad and value.numel():
        for slope in torch.autograd.grad(value.sum(), leaves, retain_graph=True, allow_unused=True):
            assert slope is None or torch.isfinite(slope).all()


@settings(max_examples=6)
@given(
    exponent=st.floats(-12, 6),
    batch=st.sampled_from([(), (0,), (3,), (2, 2)]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
@LAWS
def test_laws_are_finite_at_any_time_and_in_any_batch(law, manifold, exponent, batch, dtype, seed):
    loc = place(manifold, batch, dtype, seed).requires_grad_()
    time = torch.full(batch, 10.0**exponent, dtype=dtype, requires_grad=True)
    q = law(manifold, loc, batched_time(manifold, time))
    z = q.rsample()
    assert z.shape == (*batch, *manifold.ambient_shape)
    assert z.dtype == dtype
    assert q.support.check(z).all()
    finite(z, loc, time)
    if law is RandomWalk:
        return
    if law is not HeatKernel or manifold in WITH_KERNEL:
        opposite = manifold.projx(-loc.detach())
        for value in (z.detach(), loc.detach(), opposite):
            finite(q.log_prob(value), loc, time)
    if law is not HeatKernel or manifold in WITH_EXACT_KL:
        divergence = kl_divergence(q, manifold.default_prior())
        finite(divergence, loc, time)
        # Of a density that is uniform rounding is left, relative to its logarithm.
        assert (divergence >= -1e-5).all()


@pytest.mark.parametrize("manifold", [EmbeddedTorus(), Spheroid()], ids=repr)
@pytest.mark.parametrize("t", [1e-12, 1e-4, 0.3, 1e6])
def test_kernels_without_a_sampler_are_finite_too(manifold, t, dtype):
    loc = place(manifold, (3,), dtype, 0).requires_grad_()
    time = torch.full((3,), t, dtype=dtype, requires_grad=True)
    q = HeatKernel(manifold, loc, time)
    for value in (loc.detach(), manifold.projx(-loc.detach())):
        finite(q.log_prob(value), loc, time)
    finite(kl_divergence(q, manifold.default_prior()), loc, time)


@LAWS
def test_what_is_no_point_is_refused_by_every_law(law, manifold):
    good = points(manifold, 3)
    time = batched_time(manifold, torch.full((3,), 0.1))
    broken = good.clone()
    broken[1] = math.nan
    wrong = [(good.half(), r"loc has dtype torch\.float16"), (broken, r"loc holds .* non-finite")]
    if manifold.compact:
        wrong += [(torch.zeros_like(good), "loc holds points off"), (2 * good, "points off")]
    for loc, message in wrong:
        with pytest.raises(ValueError, match=message):
            law(manifold, loc, time, validate_args=True)
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="time must be positive and finite"):
            law(
                manifold,
                good,
                batched_time(manifold, torch.tensor([0.1, 0.1, bad])),
                validate_args=True,
            )
