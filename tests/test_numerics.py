"""Elementary functions at their limits: values, first and second derivatives, in both dtypes.

The truth is mpmath at 50 digits, at the very number that the dtype holds.
"""

import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from manifold_ae.numerics import (
    arc_over_sine,
    built_once,
    chord_angle,
    constant,
    cos_sqrt,
    in_parts,
    normalise,
    sinc_sqrt,
    soft_clamp,
    with_slopes,
)

DIGITS = 50
# Around every point where a formula changes hands, or where the textbook one has no value.
SQUARES = (0.0, 1e-300, 1e-38, 1e-20, 1e-8, 1e-3, 0.0099999, 0.0100001, 0.3, 1.0, 9.87, 40.0, 1e3)


def jet(f: Callable[[Tensor], Tensor], x: float, dtype: torch.dtype, device: torch.device):
    """f and its first two derivatives at the float that the dtype holds in place of x."""
    point = torch.tensor(x, dtype=dtype, device=device, requires_grad=True)
    value = f(point)
    (slope,) = torch.autograd.grad(value, point, create_graph=True)
    (bend,) = torch.autograd.grad(slope, point)
    return point.item(), (value.item(), slope.item(), bend.item())


def exact_jet(f: Callable[[mp.mpf], mp.mpf], x: float) -> tuple[float, float, float]:
    """The same from mpmath: Taylor coefficients by Cauchy's integral, so also at x = 0."""
    with mp.workdps(DIGITS):
        derivatives = [mp.diff(f, mp.mpf(x), k, h=mp.mpf(10) ** -12) for k in (1, 2)]
        return (float(f(mp.mpf(x))), *map(float, derivatives))


def cos_root(s: mp.mpf) -> mp.mpf:
    return mp.cos(mp.sqrt(s)).real


def sinc_root(s: mp.mpf) -> mp.mpf:
    return mp.sinc(mp.sqrt(s)).real


@pytest.mark.parametrize("s", SQUARES)
@pytest.mark.parametrize(("f", "exact"), [(cos_sqrt, cos_root), (sinc_sqrt, sinc_root)])
def test_functions_of_a_square_and_their_derivatives(f, exact, s, dtype, device):
    s, found = jet(f, s, dtype, device)
    expected = exact_jet(exact, s)
    eps = torch.finfo(dtype).eps
    # Arguments of cos and sin are rounded: an error of √s·eps in the value, as large in slopes.
    # Beyond the series, derivatives divide differences of order one by powers of s.
    root = 1 + math.sqrt(s)
    cancellation = [1.0, 10.0, 100.0] if s < 0.01 else [1.0, 1 / s, 1 / s**2]
    for value, truth, loss in zip(found, expected, cancellation, strict=True):
        assert value == pytest.approx(truth, rel=0, abs=8 * eps * root * max(1.0, loss))


def test_functions_of_a_square_keep_shape_and_dtype(dtype, device):
    s = torch.zeros(2, 0, 3, dtype=dtype, device=device)
    for f in (cos_sqrt, sinc_sqrt):
        assert f(s).shape == s.shape
        assert f(s).dtype == dtype


ANGLES = (0.0, 1e-12, 1e-6, 1e-3, 0.0316, 0.0317, 0.5, math.pi / 2, 2.5, 3.1, math.pi - 1e-3)


@pytest.mark.parametrize("theta", ANGLES)
def test_arc_over_sine(theta, dtype, device):
    square = torch.tensor(math.sin(theta) ** 2, dtype=dtype, device=device, requires_grad=True)
    cosine = torch.tensor(math.cos(theta), dtype=dtype, device=device, requires_grad=True)
    value = arc_over_sine(square, cosine)
    by_square, by_cosine = torch.autograd.grad(value, (square, cosine), create_graph=True)
    total = by_square + by_cosine
    bend = torch.autograd.grad(total, square)[0] if total.requires_grad else torch.zeros(())
    assert torch.isfinite(bend)

    eps = torch.finfo(dtype).eps
    with mp.workdps(DIGITS):
        s, c = mp.mpf(square.item()), mp.mpf(cosine.item())
        truth = mp.mpf(1) if s == 0 else mp.atan2(mp.sqrt(s), c) / mp.sqrt(s)
        assert float(value.detach()) == pytest.approx(float(truth), rel=8 * eps)

        # Along the circle, s = sin²θ and c = cos θ: the derivative by θ has a closed form.
        x = mp.mpf(theta)
        slope = x / 3 if x < 1e-6 else (mp.sin(x) - x * mp.cos(x)) / mp.sin(x) ** 2
        along = 2 * math.sin(theta) * math.cos(theta) * by_square - math.sin(theta) * by_cosine
        # At θ near π, it is a difference of terms larger than itself by 1/sin θ.
        loss = 1 / max(math.sin(theta), 0.1) ** 3
        assert along.item() == pytest.approx(float(slope), rel=100 * eps * loss, abs=8 * eps)


@pytest.mark.parametrize("square", [0.0, 1e-300, 1e-45, 1e-38, 1e-30, 1e-20, 1e-14])
@pytest.mark.parametrize("cosine", [-1.0, 1.0])
def test_arc_over_sine_is_finite_up_to_both_ends(square, cosine, dtype, device):
    s = torch.tensor(square, dtype=dtype, device=device, requires_grad=True)
    c = torch.tensor(cosine, dtype=dtype, device=device, requires_grad=True)
    value = arc_over_sine(s, c)
    assert torch.isfinite(value)
    # What flows on is weighted by the tangent vector, whose length is sin θ; the caller's cut
    # gives it weight zero, and zero times the slope must not be NaN.
    slopes = torch.autograd.grad(0 * value, (s, c))
    assert all(torch.isfinite(slope) for slope in slopes)


def on_circle(theta: float | mp.mpf) -> list[float]:
    return [float(mp.cos(theta)), float(mp.sin(theta)), 0.0]


@given(theta=st.floats(0.0, math.pi), turn=st.floats(0.0, 6.0))
def test_chord_angle_is_accurate_from_zero_to_pi(theta, turn, dtype, device):
    x = torch.tensor(on_circle(turn), dtype=dtype, device=device)
    y = torch.tensor(on_circle(turn + theta), dtype=dtype, device=device)
    with mp.workdps(DIGITS):
        cross = mp.fsub(mp.mpf(x[0].item()) * y[1].item(), mp.mpf(x[1].item()) * y[0].item())
        dot = mp.mpf(x[0].item()) * y[0].item() + mp.mpf(x[1].item()) * y[1].item()
        truth = float(mp.atan2(abs(cross), dot))
    # Within the rounding of coordinates: absolutely, for the vectors are not exactly of length one.
    assert chord_angle(x, y).item() == pytest.approx(truth, abs=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("gap", [1e-18, 1e-12, 1e-6, 1e-3])
@pytest.mark.parametrize("near_pi", [False, True])
def test_chord_angle_keeps_relative_accuracy_of_small_gaps(gap, near_pi, dtype, device):
    # Where arccos is off by √eps, 3e-4 in float32. The coordinates hold the gap itself.
    x = torch.tensor([1.0, 0.0], dtype=dtype, device=device)
    y = torch.tensor([-1.0 if near_pi else 1.0, gap], dtype=dtype, device=device)
    y = torch.stack([y[0] * math.cos(gap), y[1]])
    found = chord_angle(x, y).item()
    expected = math.pi - gap if near_pi else gap
    scale = math.pi if near_pi else gap
    assert found == pytest.approx(expected, abs=4 * torch.finfo(dtype).eps * scale + gap**3)


def test_chord_angle_gradient_has_length_one_and_is_zero_at_the_ends(dtype, device):
    x = torch.tensor([1.0, 0.0, 0.0], dtype=dtype, device=device)
    for y in (x, -x):
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        slopes = torch.autograd.grad(chord_angle(a, b), (a, b))
        assert all(torch.equal(slope, torch.zeros_like(x)) for slope in slopes)
    for theta in (1e-6, 0.5, 3.0, math.pi - 1e-6):
        y = torch.tensor(on_circle(theta), dtype=dtype, device=device, requires_grad=True)
        (slope,) = torch.autograd.grad(chord_angle(x, y), y)
        tangent = slope - (slope * y.detach()).sum() * y.detach()
        assert tangent.norm().item() == pytest.approx(
            1.0, abs=1e-5 if dtype.itemsize == 4 else 1e-9
        )


def magnitudes(dtype: torch.dtype) -> list[float]:
    info = torch.finfo(dtype)
    return [info.max, info.max / 4, 1e30, 1.0, 1e-30, info.tiny * 16, info.tiny, info.tiny / 8]


def test_normalise_holds_for_every_magnitude(dtype, device):
    direction = np.array([2.0, -1.0, 2.0]) / 3
    for size in magnitudes(dtype):
        y = torch.tensor(size * direction, dtype=torch.float64).to(dtype).to(device)
        y.requires_grad_()
        unit = normalise(y)
        assert unit.norm().item() == pytest.approx(1.0, abs=4 * torch.finfo(dtype).eps)
        # A subnormal number holds fewer digits, a GPU may hold it as zero, and the slope 1/|y|
        # is beyond the largest number.
        if size >= torch.finfo(dtype).tiny * 16:
            assert unit.detach().cpu().double().numpy() == pytest.approx(
                direction, abs=4 * torch.finfo(dtype).eps
            )
            (slope,) = torch.autograd.grad(unit[0], y)
            assert torch.isfinite(slope).all()


def test_normalise_holds_where_the_length_itself_overflows(dtype, device):
    largest = torch.finfo(dtype).max
    y = torch.tensor([largest, -largest, largest, largest], dtype=dtype, device=device)
    assert normalise(y).tolist() == pytest.approx([0.5, -0.5, 0.5, 0.5], rel=1e-6)


def test_normalise_of_zero_is_the_first_basis_vector_with_gradient_zero(dtype, device):
    y = torch.zeros(2, 3, dtype=dtype, device=device, requires_grad=True)
    unit = normalise(y)
    assert unit.tolist() == [[1.0, 0.0, 0.0]] * 2
    for again in (True, False):
        (slope,) = torch.autograd.grad(unit.sum(), y, create_graph=again)
        assert torch.equal(slope, torch.zeros_like(y))


def test_normalise_does_not_mix_up_its_rows(dtype, device):
    # A zero, a huge and a tiny vector in one batch.
    y = torch.tensor([[0.0, 0.0], [0.0, -1e30], [3e-30, 4e-30]], dtype=dtype, device=device)
    expected = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.6, 0.8]], dtype=dtype, device=device)
    assert torch.allclose(normalise(y), expected, rtol=4 * torch.finfo(dtype).eps)
    assert normalise(y[:0]).shape == (0, 2)
    assert torch.equal(y[0], torch.zeros_like(y[0]))  # the argument is not touched


def test_derivatives_of_normalise(device):
    y = torch.tensor([[0.3, -1.2, 2.0], [1e-3, 2e-3, -1e-3]], dtype=torch.float64, device=device)
    y.requires_grad_()
    assert torch.autograd.gradcheck(normalise, (y,), eps=1e-9, atol=1e-5)
    assert torch.autograd.gradgradcheck(normalise, (10 * y.detach()).requires_grad_(), atol=1e-5)
    batched = torch.func.vmap(torch.func.jacrev(normalise))(y)
    unit = normalise(y)
    projector = torch.eye(3, device=device) - unit.unsqueeze(-1) * unit.unsqueeze(-2)
    assert torch.allclose(batched, projector / y.norm(dim=-1)[:, None, None])


BOUNDS = (math.log(1e-6), math.log(10.0))


def exact_soft_clamp(x: mp.mpf, low: float, high: float) -> mp.mpf:
    with mp.workdps(DIGITS + 40):
        middle, half = mp.mpf(low + high) / 2, mp.mpf(high - low) / 2
        w = (x - middle) / half
        return middle + half * w / mp.sqrt(1 + w**2)


@pytest.mark.parametrize("x", [-60.0, -20.0, -13.8, -5.0, 0.0, 2.3, 5.0, 12.0, 40.0])
def test_soft_clamp_and_its_derivatives(x, dtype, device):
    low, high = BOUNDS
    x, found = jet(lambda x: soft_clamp(x, low, high), x, dtype, device)
    expected = exact_jet(lambda x: exact_soft_clamp(x, low, high), x)
    eps = torch.finfo(dtype).eps
    for value, truth, scale in zip(found, expected, (20.0, 1.0, 1.0), strict=True):
        assert value == pytest.approx(truth, abs=8 * eps * scale)


def test_soft_clamp_stays_within_its_bounds(dtype, device):
    low, high = -15.0, 15.0
    x = torch.tensor([0.01, 1.5], dtype=dtype, device=device)
    assert (soft_clamp(x, low, high) / x - 1).abs().max() < 0.006
    # However far: a diverging network must meet the bound, not what rounding makes of it.
    far = torch.tensor([1e10, 1e20, 1e30], dtype=dtype, device=device)
    slack = 4 * torch.finfo(dtype).eps * high
    assert (soft_clamp(far, low, high) - high).abs().max() <= slack
    assert (soft_clamp(-far, low, high) - low).abs().max() <= slack
    assert soft_clamp(far[:1] * math.nan, low, high).isnan().all()


def test_soft_clamp_rises_and_keeps_a_gradient_far_beyond_both_bounds(dtype, device):
    low, high = BOUNDS
    x = torch.linspace(-100, 100, 4001, dtype=dtype, device=device, requires_grad=True)
    y = soft_clamp(x, low, high)
    assert (y.diff() >= 2 * torch.finfo(dtype).eps * low).all()
    half = (high - low) / 2
    for excess in (5.0, 17.0, 60.0, 1000.0):
        for bound, side in ((low, -1), (high, 1)):
            _, (_, slope, _) = jet(
                lambda x: soft_clamp(x, low, high), bound + side * excess, dtype, device
            )
            w = 1 + excess / half
            assert slope == pytest.approx((1 + w**2) ** -1.5, rel=1e-4)


def test_what_has_left_a_soft_clamp_finds_back(dtype, device):
    low, high = BOUNDS
    half, middle = (high - low) / 2, (high + low) / 2
    x = torch.tensor([-400.0, low - 1, low + 1, -3.0, high - 1, high + 1, 400.0], dtype=dtype)
    x = x.to(device).requires_grad_()
    y = soft_clamp(x, low, high, returns=True)
    assert torch.equal(y, soft_clamp(x, low, high))
    (true,) = torch.autograd.grad(soft_clamp(x, low, high).sum(), x)
    away = (x.detach() - middle).sign()
    # Against the gradient is inward: the slope at the bounds, or more. Outward is the derivative.
    (inward,) = torch.autograd.grad(y, x, away, retain_graph=True)
    beyond = (x.detach() - middle).abs() > half
    assert torch.allclose(inward * away, true.where(~beyond, true.new_tensor(2**-1.5)))
    (outward,) = torch.autograd.grad(y, x, -away)
    assert torch.allclose(-outward * away, true)


def test_a_function_may_bring_its_own_slopes(device):
    def f(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x * y**2, y**2, 2 * x * y

    x, y = torch.randn(2, 5, dtype=torch.float64, device=device).requires_grad_()
    assert torch.equal(with_slopes(f, x, y), f(x, y)[0])
    assert torch.autograd.gradcheck(lambda x, y: with_slopes(f, x, y), (x, y))
    slopes = torch.func.vmap(torch.func.grad(lambda x, y: with_slopes(f, x, y)))(x, y)
    assert torch.allclose(slopes, y**2)
    # There is no second derivative, and asking for one is an error.
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(with_slopes(f, x, y).sum(), x, create_graph=True)


@pytest.mark.parametrize("first", ["inference_mode", "vmap and grad", "compile", "meta"])
def test_what_surrounds_the_first_call_does_not_reach_what_is_built(first):
    @built_once
    def table(n: int) -> torch.Tensor:
        made = torch.arange(float(n))
        return torch.from_numpy(np.cos(made.numpy()))  # fails on a tensor of a transform

    def use(x: torch.Tensor) -> torch.Tensor:
        return x * table(3).sum()

    if first == "inference_mode":
        with torch.inference_mode():
            use(torch.ones(2))
    elif first == "vmap and grad":
        torch.func.vmap(torch.func.grad(use))(torch.ones(2))
    elif first == "compile":
        torch.compile(use, backend="eager")(torch.ones(2))
    else:
        with torch.device("meta"):
            table(3)
    kept = table(3)
    assert kept is table(3)
    assert not kept.requires_grad
    assert torch.allclose(kept, torch.arange(3.0).cos())
    x = torch.ones(2, requires_grad=True)
    (slope,) = torch.autograd.grad((x * kept[1]).sum(), x)
    assert torch.equal(slope, kept[1].expand(2))


def test_a_table_that_cannot_be_built_says_why_and_is_tried_again():
    calls = []

    @built_once
    def table(n: int) -> int:
        calls.append(n)
        raise ValueError(f"no table for {n}")

    for _ in range(2):
        with pytest.raises(ValueError, match="no table for 7"):
            table(7)
    assert calls == [7, 7]


def test_constants_are_made_once_and_serve_training(dtype, device):
    with torch.inference_mode():
        row = constant((1.0, 0.25), dtype, device)
    assert row.tolist() == [1.0, 0.25]
    assert (row.dtype, row.device.type) == (dtype, device.type)
    assert constant((1.0, 0.25), dtype, device) is row
    assert constant(2.5, dtype, device).shape == ()
    x = torch.ones(2, dtype=dtype, device=device, requires_grad=True)
    (slope,) = torch.autograd.grad((x * row).sum(), x)
    assert torch.equal(slope, row)


def test_parts_of_rows_are_all_of_them_each_with_its_own() -> None:
    x, c = torch.arange(10.0), torch.arange(20.0).view(10, 2)
    parts = list(in_parts(4, x, {"covariates": c}))
    assert [len(part) for part, _ in parts] == [4, 4, 2]
    assert torch.cat([part for part, _ in parts]).equal(x)
    assert torch.cat([own["covariates"] for _, own in parts]).equal(c)
    assert [part.shape for part, own in in_parts(4, x[:0])] == [(0,)]
