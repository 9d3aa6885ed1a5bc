"""The unexpected: cut points, degenerate input, times from 1e-12 to 1e6, wrong arguments.

Held by every manifold of the catalogue, and at the ends of the dimensions: a right answer, or an
error that names the argument, its value and the way out. Never NaN for valid input, in a value or
in a gradient; and NaN, where checks are off, stays with the samples that hold it.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from catalogue import (
    MANIFOLDS,
    WITH_EXACT_KL,
    WITH_KERNEL,
    WITH_SAMPLER,
    batched_time,
    length,
    noise_for,
    over,
    points,
    tangents,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RandomWalk
from manifold_ae.groups import finite
from manifold_ae.manifolds import (
    SO3,
    EmbeddedTorus,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    Quotient,
    RealProjective,
    Revolution,
    Sphere,
)

LARGE = (Sphere(50), RealProjective(50), FlatTorus(50), Euclidean(50))
EVERYWHERE = (*MANIFOLDS, *LARGE)
DIVIDED = tuple(M for M in MANIFOLDS if isinstance(M, Quotient))
TIMES = (1e-12, 1e-6, 0.49, 0.51, 30.0, 1e3, 1e6)
MAGNITUDES = (0.0, 1e-45, 1e-38, 1e-20, 1.0, 1e10, 1e20, 1e30)
#: Some of the catalogue, one of each kind, where every example costs.
KINDS = (Euclidean(2), Sphere(1), Sphere(10), FlatTorus(2), SO3(), RealProjective(2), KleinBottle())


#: Those whose tables take seconds to build; on a manifold of the same kind the test is quick.
SLOW_DIVERGENCE = (*map(Sphere, (3, 5, 10)), *map(RealProjective, (2, 3)), SO3())
SLOW_STEP = (Sphere(5), Sphere(10))


def over_slow(manifolds: tuple[Manifold, ...], slow: tuple[Manifold, ...]) -> Callable:
    """Parametrise over ``manifold``, with some of them, and products of these, marked slow."""
    parts = [(M, M.factors if isinstance(M, Product) else (M,)) for M in manifolds]
    mark = pytest.mark.slow
    return pytest.mark.parametrize(
        "manifold",
        [
            pytest.param(M, id=M.spec, marks=[mark] if set(factors) & set(slow) else [])
            for M, factors in parts
        ],
    )


def largest(x: torch.Tensor) -> float:
    return x.detach().abs().max().item() if x.numel() else 0.0


def sound(f: Callable[..., torch.Tensor], *arguments: torch.Tensor) -> torch.Tensor:
    """The value of f, which is finite and has finite gradients."""
    leaves = [argument.detach().clone().requires_grad_() for argument in arguments]
    value = f(*leaves)
    assert torch.isfinite(value).all()
    if value.requires_grad:
        weights = torch.linspace(1, 2, value.numel(), dtype=value.dtype, device=value.device)
        total = (value.flatten() * weights).sum()
        for slope in torch.autograd.grad(total, leaves, allow_unused=True):
            assert slope is None or torch.isfinite(slope).all()
    return value.detach()


def on(manifold: Manifold, x: torch.Tensor) -> bool:
    return bool(HeatKernel(manifold, x, 1.0, validate_args=False).support.check(x).all())


def special_pairs(manifold: Manifold, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """Points with themselves, with those opposite, and with one more; poles are among them."""
    base = manifold.base_point(dtype=kwargs["dtype"], device=kwargs["generator"].device)
    x = torch.stack([base, manifold.projx(-base), points(manifold, **kwargs)])
    if len(manifold.ambient_shape) == 1:  # the pole on the last axis
        pole = torch.zeros_like(base)
        pole[-1] = 1
        x = torch.cat([x, manifold.projx(pole).unsqueeze(0)])
    y = torch.cat([x, manifold.projx(-x), x.flip(0)])
    return x.repeat(3, *[1] * len(manifold.ambient_shape)), y


def times(manifold: Manifold, x: torch.Tensor, t: float) -> torch.Tensor:
    batch = x.shape[: x.dim() - len(manifold.ambient_shape)]
    return batched_time(manifold, torch.full(batch, t, dtype=x.dtype, device=x.device))


# ---- times and places -----------------------------------------------------------------------


@over((*WITH_KERNEL, FlatTorus(50), Euclidean(50)))
def test_kernels_are_finite_at_every_time_and_special_place(manifold, dtype, generator):
    x, y = special_pairs(manifold, dtype=dtype, generator=generator)
    some = (1e-12, 1e6) if isinstance(manifold, Revolution) else TIMES
    for t in some:
        value = sound(
            lambda x, y, t: heat.log_kernel(manifold, x, y, t), x, y, times(manifold, x, t)
        )
        if manifold.compact and t > 1e4:  # uniform
            assert largest(value + math.log(manifold.volume)) <= 1e-5


@over_slow(WITH_EXACT_KL, SLOW_DIVERGENCE)
def test_divergences_are_finite_and_fall_to_zero_at_every_time(manifold, dtype, generator):
    x, _ = special_pairs(manifold, dtype=dtype, generator=generator)
    values = torch.stack(
        [
            sound(lambda x, t: heat.kl_uniform(manifold, x, t), x, times(manifold, x, t))
            for t in TIMES
        ]
    )
    assert (values >= 0).all()
    assert (values.diff(dim=0) <= 0).all()
    assert largest(values[-1]) <= 1e-12


@over_slow((*WITH_SAMPLER, FlatTorus(50)), SLOW_STEP)
def test_steps_and_walks_stay_on_the_manifold_at_every_time(manifold, dtype, generator):
    x, _ = special_pairs(manifold, dtype=dtype, generator=generator)
    for t in TIMES:
        time = times(manifold, x, t)
        for size in (0.0, 1.0, 1e3):
            noise = size * noise_for(manifold, len(x), dtype=dtype, generator=generator)
            z = sound(lambda x, t, e=noise: heat.brownian_step(manifold, x, t, e), x, time)
            assert on(manifold, z)
        walk = sound(
            lambda x, t: RandomWalk(manifold, x, t, 3).rsample(generator=generator), x, time
        )
        assert on(manifold, walk)


@settings(max_examples=10)
@given(log_t=st.floats(math.log(1e-12), math.log(1e6)), r=st.floats(0, math.pi))
@over(KINDS)
def test_kernels_are_finite_and_symmetric_at_any_time_and_distance(manifold, log_t, r, generator):
    x = points(manifold, dtype=torch.float64, generator=generator, device=generator.device)
    u = tangents(manifold, x, generator)
    y = manifold.expmap(x, r * u / length(manifold, x, u))
    t = times(manifold, x, math.exp(log_t))
    there = sound(lambda x, y, t: heat.log_kernel(manifold, x, y, t), x, y, t)
    back = heat.log_kernel(manifold, y, x, t)
    assert abs((there - back).item()) <= 1e-6 * max(1.0, abs(there.item()))


@settings(max_examples=8)
@given(magnitude=st.sampled_from(MAGNITUDES), seed=st.integers(0, 1000))
@over(EVERYWHERE)
def test_maps_of_any_magnitude_end_on_the_manifold(manifold, magnitude, seed):
    generator = torch.Generator().manual_seed(seed)
    for dtype in (torch.float32, torch.float64):
        y = torch.randn(2, *manifold.ambient_shape, dtype=dtype, generator=generator)
        features = torch.randn(2, manifold.feature_size, dtype=dtype, generator=generator)
        assert on(manifold, sound(manifold.projx, magnitude * y))
        assert on(manifold, sound(manifold.from_features, magnitude * features))
        x = points(manifold, 2, dtype=dtype, generator=generator)
        u = magnitude * tangents(manifold, x, generator)
        assert on(manifold, sound(manifold.retr, x, u))
        if not isinstance(manifold, Revolution):
            assert on(manifold, sound(manifold.expmap, x, u))


def test_geodesics_of_the_embedded_torus_have_a_longest():
    manifold = EmbeddedTorus()
    x = manifold.base_point(dtype=torch.float64)
    for size in (1e5, 1e30):
        with pytest.raises(ValueError, match=r"u has length 1e\+.*shorten u"):
            manifold.expmap(x, x.new_tensor([0.0, size, 0.0]))
    # Three times round the outer equator, and one such path leaves the others of its batch alone.
    around = x.new_tensor([[0.0, 6 * math.pi * 3.6, 0.0], [0.0, 0.0, math.nan], [0.0, 1e-3, 0.0]])
    end = manifold.expmap(x, around)
    assert largest(end[0] - x) <= 1e-6
    assert torch.isnan(end[1]).any()
    assert largest(end[2] - manifold.expmap(x, around[2])) <= 1e-12


# ---- dimensions -----------------------------------------------------------------------------


@over((Sphere(50), RealProjective(50)))
def test_in_high_dimensions_the_kernel_says_what_there_is_instead(manifold):
    x, t = manifold.base_point(), torch.tensor(0.01)
    q = HeatKernel(manifold, x, t)
    noise = torch.zeros(heat.noise_shape(manifold))
    for call in (
        lambda: heat.log_kernel(manifold, x, x, t),
        lambda: heat.kl_uniform(manifold, x, t),
        lambda: heat.brownian_step(manifold, x, t, noise),
        lambda: q.log_prob(x),
        q.rsample,
        q.entropy,
        lambda: torch.distributions.kl_divergence(q, manifold.default_prior()),
    ):
        with pytest.raises(NotImplementedError, match=r"50\).*dimension 10.*RandomWalk.*asympt"):
            call()
    assert on(manifold, RandomWalk(manifold, x, t).sample((5,)))
    assert torch.isfinite(heat.kl_asymptotic(manifold, x, t))


@over(LARGE)
def test_geometry_works_in_high_dimensions(manifold, dtype, generator):
    kwargs = {"dtype": dtype, "generator": generator}
    x, y = points(manifold, 20, **kwargs), points(manifold, 20, **kwargs)
    slack = 1000 * torch.finfo(dtype).eps
    u = manifold.logmap(x, y)
    assert largest(manifold.dist(manifold.expmap(x, u), y)) <= slack
    assert largest(length(manifold, x, u) - manifold.dist(x, y)) <= slack
    moved = manifold.transp(x, y, u)
    assert largest(length(manifold, y, moved) - length(manifold, x, u)) <= slack
    assert manifold.volume > 0
    assert torch.isfinite(manifold.default_prior().log_prob(x)).all()


# ---- what is not a number -------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@over(MANIFOLDS)
def test_what_is_not_finite_stays_with_its_sample(manifold, bad, dtype, generator):
    good = points(manifold, 3, dtype=dtype, generator=generator)
    broken = good.clone()
    broken[1] = bad
    v = tangents(manifold, good, generator)
    time = times(manifold, good, 0.3)
    features = manifold.embed(good) if manifold.feature_size == manifold.embedding_size else None
    calls: list[Callable[[torch.Tensor], torch.Tensor]] = [
        manifold.projx,
        manifold.embed,
        manifold.scalar_curvature,
        lambda x: manifold.expmap(x, v),
        lambda x: manifold.expmap(good, x),
        lambda x: manifold.proju(x, v),
        lambda x: manifold.dist(good, x),
        lambda x: manifold.dist(x, good),
        lambda x: manifold.logmap(good, x),
        lambda x: manifold.transp(good, x, v),
        lambda x: RandomWalk(manifold, x, time, validate_args=False).rsample(),
    ]
    if manifold in WITH_KERNEL:
        calls.append(lambda x: heat.log_kernel(manifold, good, x, time))
    if manifold in WITH_EXACT_KL and manifold not in SLOW_DIVERGENCE:
        calls.append(lambda x: heat.kl_uniform(manifold, x, time))
    if manifold in WITH_SAMPLER and manifold not in SLOW_STEP:
        calls.append(lambda x: HeatKernel(manifold, x, time, validate_args=False).rsample())
    for call in calls:
        assert not torch.isnan(call(broken)[[0, 2]]).any()
    assert not torch.isfinite(manifold.projx(broken)[1]).all()
    if math.isnan(bad):
        assert torch.isnan(manifold.dist(good, broken)[1])
    if features is not None:
        features[1] = bad
        x = manifold.from_features(features)
        assert not torch.isfinite(x[1]).all()
        assert torch.isfinite(x[[0, 2]]).all()
    slow = time.clone()
    slow[1] = bad
    walk = RandomWalk(manifold, good, slow, validate_args=False).rsample()
    assert not torch.isfinite(walk[1]).all()
    assert torch.isfinite(walk[[0, 2]]).all()


# ---- arguments ------------------------------------------------------------------------------


@over(EVERYWHERE)
def test_wrong_shapes_and_dtypes_are_refused_by_name(manifold):
    x = points(manifold, 2)
    features = torch.ones(2, manifold.feature_size)
    for name, f, good in (
        ("x", manifold.projx, x),
        ("features", manifold.from_features, features),
    ):
        wide = torch.cat([good, good], -1)
        for bad in (good[..., :-1], wide, good.sum()):
            with pytest.raises(ValueError, match=rf"{name} has shape .*trailing shape") as refused:
                f(bad)
            assert str(tuple(bad.shape)) in str(refused.value)
        for dtype in (torch.float16, torch.bfloat16, torch.int64, torch.complex64):
            with pytest.raises(ValueError, match=rf"{name} has dtype {dtype}.*float32"):
                f(good.to(dtype))


@over(EVERYWHERE, geodesics=True)
def test_batches_of_any_shape_and_layout_give_what_single_points_do(manifold, generator):
    kwargs = {"dtype": torch.float64, "generator": generator}
    shape = manifold.ambient_shape
    x, y = points(manifold, 2, 3, **kwargs), points(manifold, 2, 3, **kwargs)
    u = tangents(manifold, x, generator)
    features = torch.randn(2, 3, manifold.feature_size, **kwargs)

    def strided(a: torch.Tensor) -> torch.Tensor:
        """The same values, every other one of a tensor of which the axes were exchanged."""
        laid = torch.stack([a, a], -1).transpose(0, 1).contiguous().transpose(0, 1)[..., 0]
        assert not laid.is_contiguous()
        return laid

    for f, arguments in (
        (manifold.projx, (x,)),
        (manifold.embed, (x,)),
        (manifold.from_features, (features,)),
        (manifold.expmap, (x, u)),
        (manifold.logmap, (x, y)),
        (manifold.dist, (x, y)),
        (manifold.transp, (x, y, u)),
    ):
        before = [a.clone() for a in arguments]
        whole = f(*arguments)
        assert torch.allclose(f(*map(strided, arguments)), whole, atol=1e-12)
        assert torch.allclose(f(*(a[1, 2] for a in arguments)), whole[1, 2], atol=1e-9)
        assert f(*(a[:0] for a in arguments)).shape == (0, *whole.shape[1:])
        wide = f(*(a[1, 2].expand(4, *a.shape[2:]) for a in arguments))
        assert torch.allclose(wide, whole[1, 2].expand_as(wide), atol=1e-9)
        assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))
    assert manifold.default_prior().sample(()).shape == shape
    assert manifold.default_prior().sample((0,)).shape == (0, *shape)


# ---- features and embeddings ----------------------------------------------------------------


@over(DIVIDED)
def test_embeddings_do_not_depend_on_the_representative(manifold, generator):
    x = points(manifold, 50, dtype=torch.float64, generator=generator)
    images = manifold.images(x)
    assert largest(manifold.dist(images, x)) <= 1e-12
    if manifold.sheets > 1:  # then a model averages over the cover
        assert manifold.unfold(x).shape == (manifold.order, *x.shape)
        return
    assert largest(manifold.embed(images) - manifold.embed(x)) <= 1e-14
    assert largest(manifold.dist(manifold.from_features(manifold.embed(x)), x)) <= 1e-7
    # One for one: distances of embeddings and of points vanish together.
    apart = torch.cdist(manifold.embed(x), manifold.embed(x))
    there = manifold.dist(x.unsqueeze(0), x.unsqueeze(1))
    assert (apart >= 0.1 * there - 1e-12).all()


@over(EVERYWHERE)
def test_features_at_zero_give_a_point(manifold, dtype):
    zero = torch.zeros(manifold.feature_size, dtype=dtype)
    assert on(manifold, sound(manifold.from_features, zero))


@pytest.mark.parametrize("dim", [1, 2, 3, 50])
def test_leading_eigenvectors_at_repeated_eigenvalues(dim, dtype):
    manifold = RealProjective(dim)

    def line(features: torch.Tensor) -> torch.Tensor:
        """The matrix that returns, which unlike its eigenvector has no sign to be chosen."""
        return manifold.embed(manifold.from_features(features))

    axes = torch.eye(dim + 1, dtype=dtype)
    lines = manifold.embed(axes)
    for features in (lines[0], lines.sum(0), -lines.sum(0), -lines[0], lines[0] + lines[-1]):
        assert on(manifold, sound(manifold.from_features, features))
        leaf = features.clone().requires_grad_()
        total = (manifold.from_features(leaf) * axes.sum(0).cumsum(0)).sum()
        (slope,) = torch.autograd.grad(total, leaf, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), leaf)
        assert torch.isfinite(second).all()
    if dtype == torch.float64 and dim < 5:
        # The others agree, the leading one is alone: smooth, and no derivative is left out.
        leaf = lines[0].clone().requires_grad_()
        assert torch.autograd.gradcheck(line, leaf)
        assert torch.autograd.gradgradcheck(line, leaf)


@over((RealProjective(2), RealProjective(5), KleinBottle(), SO3()))
def test_derivatives_of_features_are_right_twice(manifold, generator):
    features = torch.randn(2, manifold.feature_size, dtype=torch.float64, generator=generator)
    features.requires_grad_()

    def embedded(features: torch.Tensor) -> torch.Tensor:
        return manifold.embed(manifold.from_features(features))

    assert torch.autograd.gradcheck(embedded, features)
    assert torch.autograd.gradgradcheck(embedded, features)


# ---- quotients ------------------------------------------------------------------------------


@over(DIVIDED)
def test_a_step_does_not_depend_on_the_representative(manifold, generator):
    x = points(manifold, 30, dtype=torch.float64, generator=generator)
    noise = noise_for(manifold, 30, dtype=torch.float64, generator=generator)
    for t in (1e-6, 0.1, 2.0):
        time = times(manifold, x, t)
        z = heat.brownian_step(manifold, x, time, noise)
        for image in manifold.images(x):
            again = heat.brownian_step(manifold, image, time, noise)
            assert largest(manifold.dist(z, again)) <= 1e-7


def half_turn(x: torch.Tensor) -> torch.Tensor:
    return x * x.new_tensor([-1, -1, 1])


def reflected(x: torch.Tensor) -> torch.Tensor:
    return x * x.new_tensor([1, 1, 1, -1])


def sheared(x: torch.Tensor) -> torch.Tensor:
    a, b = FlatTorus(2).to_angles(x).unbind(-1)
    return FlatTorus(2).from_angles(torch.stack([a + b, b], -1))


def third(x: torch.Tensor) -> torch.Tensor:
    return FlatTorus(1).rotate(x, torch.full_like(x[..., :1], 2 * math.pi / 3))


FIXED = r"not free: element \d of the group fixes the point \["
OFF = r"element \d of the group leads off the manifold, by .* at the point \["


@pytest.mark.parametrize(
    ("cover", "actions", "message"),
    [
        (Sphere(2), [finite.cyclic(3)[1]], FIXED),
        (Sphere(2), [half_turn], FIXED),
        (Sphere(2), [lambda x: x], "elements 0 and 1 .* are the same"),
        (FlatTorus(2), [np.diag([1.0, 1, 1, -1])], FIXED),
        (FlatTorus(2), [reflected], FIXED),
        (FlatTorus(2), [np.eye(4)[[2, 3, 0, 1]]], FIXED),
        (Sphere(3), [np.diag([-1.0, -1, 1, 1])], FIXED),
        (SO3(), [lambda x: x.mT], FIXED),
        (Product(Sphere(2), FlatTorus(1)), [np.diag([1.0, 1, -1, 1, 1])], FIXED),
        (Sphere(2), [2 * np.eye(3)], OFF),
        (Sphere(2), [np.eye(3) + np.eye(3, k=1)], OFF),
        (Sphere(2), [np.zeros((3, 3))], OFF),
        (Sphere(2), [np.full((3, 3), math.nan)], OFF),
        (Sphere(2), [lambda x: 2 * x], OFF),
        (Sphere(2), [lambda x: x + 1], OFF),
        (Sphere(2), [lambda x: math.nan * x], OFF),
        (SO3(), [-np.eye(3)], OFF),
        (FlatTorus(2), [sheared], r"not an isometry: .* at the point \["),
        (Sphere(2), [lambda x: -x.detach()], r"not an isometry"),
        (FlatTorus(1), [third], "not a group: element 1 times element 1"),
        (Sphere(2), [lambda x: -x, lambda x: -x], "elements 1 and 2 .* are the same"),
        (Sphere(2), [np.eye(3)], "identity alone"),
        (Sphere(2), [], "actions is empty"),
        (Sphere(2), [np.eye(4)], r"shape \(4, 4\)"),
        (Sphere(2), [lambda x: x[..., :2]], r"element 1 .* to \(256, 2\)"),
        (Sphere(2), [lambda x: x.float()], "float32; it has to keep both"),
        (Sphere(2), [lambda x: None], "element 1 of the group returns None"),
        (Sphere(1), [np.array([[0.6, -0.8], [0.8, 0.6]])], "more than 1000 elements"),
        (Euclidean(2), [-np.eye(2)], "not compact"),
        ("sphere:2", [-np.eye(3)], "'sphere:2' is not a manifold"),
    ],
)
def test_wrong_actions_are_refused_with_what_shows_it(cover, actions, message):
    with pytest.raises(ValueError, match=message):
        Quotient(cover, actions)


def test_functions_divide_as_matrices_do(generator):
    def turned(x: torch.Tensor) -> torch.Tensor:
        return x * x.new_tensor([-1, -1, 1, -1])

    by_function, by_matrix = Quotient(FlatTorus(2), [turned]), KleinBottle()
    x, y = points(by_matrix, 2, 50, dtype=torch.float64, generator=generator)
    assert torch.allclose(by_function.dist(x, y), by_matrix.dist(x, y))
    assert torch.allclose(by_function.logmap(x, y), by_matrix.logmap(x, y))
    v = tangents(by_matrix, x, generator)
    assert torch.allclose(by_function.transp(x, y, v), by_matrix.transp(x, y, v))
    assert by_function.volume == by_matrix.volume
    three = Quotient(FlatTorus(1), [third, lambda x: third(third(x))])
    assert three.order == 3
    assert three.least_displacement == pytest.approx(math.sqrt(3))


# ---- products -------------------------------------------------------------------------------


def test_nested_products_are_flat(generator):
    a, b, c = Sphere(2), SO3(), Euclidean(2)
    flat = Product(a, b, c)
    for nested in (Product(Product(a, b), c), Product(a, Product(b, Product(c)))):
        assert nested == flat
        assert hash(nested) == hash(flat)
        assert nested.factors == (a, b, c)
    assert flat.time_shape == (4,)
    x = points(flat, 5, 2, generator=generator)
    assert torch.equal(flat.join(flat.split(x)), x)
    parts = flat.split(x)
    assert [part.shape[2:] for part in parts] == [(3,), (3, 3), (2,)]
    assert all(map(torch.equal, flat.split(flat.join(parts)), parts))
    # Factors of different batches broadcast.
    wide = flat.join([parts[0][0, 0], parts[1][:, :1], parts[2]])
    assert torch.equal(wide[3, 1, :3], parts[0][0, 0])
    with pytest.raises(ValueError, match="expected one manifold or more"):
        Product()
    with pytest.raises(ValueError, match="expected one manifold or more"):
        Product(a, "circle")


def test_one_angle_may_be_sure_and_the_other_not(dtype, generator):
    manifold = Product(FlatTorus(1), FlatTorus(1))
    circle = FlatTorus(1)
    loc = manifold.base_point(dtype=dtype).expand(2000, 4)
    time = torch.tensor([1e-12, 1e6], dtype=dtype)
    q = HeatKernel(manifold, loc, time)
    z = sound(lambda t: HeatKernel(manifold, loc, t).rsample(generator=generator), time)
    sure, unsure = manifold.split(z)
    assert largest(circle.dist(sure, loc[:, :2])) <= 1e-5
    assert largest(unsure.mean(0)) <= 5 / math.sqrt(2 * 2000)
    alone = [HeatKernel(circle, loc[:, :2], t) for t in time]
    pairs = zip(alone, (sure, unsure), strict=True)
    assert torch.allclose(q.log_prob(z), sum(law.log_prob(part) for law, part in pairs))
    divergence = torch.distributions.kl_divergence(q, manifold.default_prior())
    prior = circle.default_prior()
    expected = [torch.distributions.kl_divergence(law, prior) for law in alone]
    assert torch.allclose(divergence, expected[0] + expected[1])
    assert largest(expected[1]) <= 1e-12


# ---- quotients that would be wrong ------------------------------------------------------------


@pytest.mark.parametrize(
    "cover",
    [RealProjective(3), KleinBottle(), Product(RealProjective(3), FlatTorus(1))],
    ids=str,
)
def test_a_quotient_is_no_cover(cover):
    size = math.prod(cover.ambient_shape)
    with pytest.raises(ValueError, match="give the whole group on its cover"):
        Quotient(cover, [-np.eye(size)])


def test_actions_that_mix_the_factors_of_a_product_are_refused():
    swap = np.zeros((4, 4))
    swap[0, 2] = swap[1, 3] = 1
    swap[2, 0] = swap[3, 1] = -1
    with pytest.raises(ValueError, match="mixes the factors"):
        Quotient(Product(FlatTorus(1), FlatTorus(1)), [swap])


def test_equal_quotients_are_equal():
    g = finite.dihedral(2)
    first, second = Quotient(SO3(), g), Quotient(SO3(), [g[2], g[1]])
    assert first == second
    assert hash(first) == hash(second)


@over(MANIFOLDS)
def test_an_empty_batch_has_empty_derivatives(manifold, dtype):
    loc = manifold.base_point(dtype=dtype).expand(0, *manifold.ambient_shape).clone()
    time = torch.full((0, *manifold.time_shape), 0.1, dtype=dtype).requires_grad_()
    loc.requires_grad_()
    q = HeatKernel(manifold, loc, time)
    walk = RandomWalk(manifold, loc, time, 2, corrected=True)
    for value in (q.log_prob(loc.detach()), walk.rsample()):
        assert value.dtype == dtype and not value.numel()
        slopes = torch.autograd.grad(value.sum(), (loc, time))
        assert [slope.shape for slope in slopes] == [loc.shape, time.shape]
