"""Arguments that make no sense on a submanifold: named in words, and never a NaN."""

import math

import pytest
import torch
from torch import Tensor

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RandomWalk
from manifold_ae.manifolds import FlatTorus, Product, Sphere, Submanifold
from manifold_ae.numerics import exceeds, normalise

SPHERE = Submanifold((3,), normalise, name="sphere", volume=Sphere(2).volume)


def start(dtype, device) -> Tensor:
    return Sphere(2).base_point(dtype=dtype, device=device)


# ---- projections ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_projection_on_one_point_is_found_out(value):
    report = Submanifold((3,), lambda y: 0 * y + value, name="point").check()
    assert not report.ok
    assert any("takes all points to one" in problem for problem in report.problems)


def test_a_projection_that_returns_no_tensor_is_found_out():
    report = Submanifold((3,), lambda y: 3, name="three").check()  # type: ignore[arg-type,return-value]
    assert any("returns 3; expected a tensor" in problem for problem in report.problems)


def test_a_level_set_that_crosses_itself_is_called_singular():
    def lemniscate(y: Tensor) -> Tensor:
        square = y.square()
        return square.sum(-1) ** 2 - 2 * (square[..., 0] - square[..., 1])

    report = Submanifold((2,), level_set=lemniscate, name="lemniscate").check()
    assert [problem[:41] for problem in report.problems] == [
        "the gradient of level_set is degenerate: "
    ]


# ---- kernels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("allow_inaccurate", [False, True])
def test_antipodes_have_no_short_time_kernel(allow_inaccurate, dtype, device):
    x = start(dtype, device)
    t = x.new_tensor(0.1)
    divided = Submanifold((3,), lambda y: y / y.norm(dim=-1, keepdim=True), name="divided")
    with pytest.raises(ValueError, match="has no closest point"):
        heat.short_time_log_kernel(divided, x, -x, t, allow_inaccurate=allow_inaccurate)


def test_points_and_times_that_are_not_finite_are_refused(device):
    x = start(torch.float64, device)
    t = x.new_tensor(0.1)
    with pytest.raises(ValueError, match="y holds 3 entries that are not finite"):
        heat.short_time_log_kernel(SPHERE, x, x * math.nan, t)
    with pytest.raises(ValueError, match="x holds 3 entries that are not finite"):
        heat.monte_carlo_log_kernel(SPHERE, x * math.nan, x, t, 10)
    with pytest.raises(ValueError, match="time = inf must be positive and finite"):
        heat.short_time_log_kernel(SPHERE, x, x, t * math.inf, allow_inaccurate=True)
    with pytest.raises(ValueError, match="time = inf must be positive and finite"):
        heat.kl_asymptotic(Sphere(2), x, t * math.inf, allow_inaccurate=True)


def test_numbers_for_tensors_are_refused_by_name(device):
    x = start(torch.float64, device)
    for function in (heat.log_kernel, heat.short_time_log_kernel):
        manifold = Sphere(2) if function is heat.log_kernel else SPHERE
        with pytest.raises(TypeError, match=r"t = 0\.1 must be a tensor"):
            function(manifold, x, x, 0.1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"x = \[1, 0, 0\] must be a tensor"):
            function(manifold, [1, 0, 0], x, x.new_tensor(0.1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"time = 0\.1 must be a tensor"):
        heat.kl_asymptotic(Sphere(2), x, 0.1)  # type: ignore[arg-type]


def test_a_limit_admits_its_own_figure(dtype, device):
    x = start(dtype, device)
    t = x.new_tensor(0.5)
    assert not exceeds(t, 0.5 * (1 - torch.finfo(dtype).eps))
    assert exceeds(t * (1 + 1e-5), 0.5)
    # |II|² is 2 but for rounding.
    assert heat.kl_asymptotic(SPHERE, x, t) == pytest.approx(
        heat.kl_asymptotic(Sphere(2), x, t).item(), abs=1e-5
    )
    y = Sphere(2).expmap(x, x.new_tensor([0.0, 0.1, 0.2]))
    assert torch.isfinite(heat.short_time_log_kernel(SPHERE, x, y, t))


# ---- divergence by walks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "walks", "message"),
    [
        (2.5, 100, r"n = 2\.5 must be an integer"),
        (1, 100, "at least 2 samples"),
        (10, 0, "walks = 0 must be an integer of at least 2"),
        (10, 2.5, r"walks = 2\.5 must be an integer"),
    ],
)
def test_numbers_of_samples_and_walks_are_checked(n, walks, message, device):
    q = RandomWalk(SPHERE, start(torch.float64, device), 0.1)
    with pytest.raises(ValueError, match=message):
        heat.kl_monte_carlo(q, SPHERE.default_prior(), n, walks=walks)


def test_the_divergence_of_a_product_is_estimated_by_its_factors(dtype, device, generator):
    M, exact = Product(SPHERE, FlatTorus(1)), Product(Sphere(2), FlatTorus(1))
    x = exact.base_point(dtype=dtype, device=device)
    q = RandomWalk(M, x, x.new_tensor([[0.3, 0.5], [0.6, 1.0]]))
    value, error = heat.kl_monte_carlo(q, M.default_prior(), 100, walks=200, generator=generator)
    expected = heat.kl_uniform(exact, q.loc, q.time)
    assert value.dtype == dtype
    assert value.shape == (2,)
    assert ((value - expected).abs() <= 4 * error + 0.05).all()
    with pytest.raises(NotImplementedError):
        heat.kl_monte_carlo(HeatKernel(M, q.loc, q.time), M.default_prior(), 10)
