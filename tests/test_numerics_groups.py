"""The functions that exponentials of groups are made of, against mpmath, where formulas meet."""

import math

import mpmath as mp
import pytest
import torch

from manifold_ae.numerics import expm1_ratio, half_cotangent_defect_sqrt, sinc_defect_sqrt

DIGITS = 50
SQUARES = (0.0, 1e-300, 1e-30, 1e-8, 1e-3, 0.3, 0.9999999, 1.0, 1.0000001, 5.0, math.pi**2)


def jet(f, x, dtype, device):
    """The float that the dtype holds in place of x; f and two derivatives there."""
    point = torch.tensor(x, dtype=dtype, device=device, requires_grad=True)
    value = f(point)
    (slope,) = torch.autograd.grad(value, point, create_graph=True)
    (bend,) = torch.autograd.grad(slope, point)
    return point.item(), (value.item(), slope.item(), bend.item())


def taylor(f, x: float) -> tuple[float, float, float]:
    """f and two derivatives from mpmath, around x but not at it: at 0 they are limits."""
    with mp.workdps(DIGITS):
        coefficients = mp.taylor(f, mp.mpf(x), 2, method="quad", radius=mp.mpf("0.5"))
        return tuple(float(mp.re(c) * math.factorial(k)) for k, c in enumerate(coefficients))


def sinc_defect(s):
    return (1 - mp.sinc(mp.sqrt(s))) / s


def half_cotangent_defect(s):
    half = mp.sqrt(s) / 2
    return (1 - half * mp.cot(half)) / s


@pytest.mark.parametrize("s", SQUARES)
@pytest.mark.parametrize(
    ("f", "exact"),
    [
        (sinc_defect_sqrt, sinc_defect),
        (half_cotangent_defect_sqrt, half_cotangent_defect),
    ],
)
def test_defects_of_sinc_and_of_the_half_cotangent(f, exact, s, dtype, device):
    s, found = jet(f, s, dtype, device)
    assert found == pytest.approx(taylor(exact, s), rel=0, abs=8 * torch.finfo(dtype).eps)


def test_their_limits_at_zero():
    zero = torch.zeros((), dtype=torch.float64)
    assert sinc_defect_sqrt(zero).item() == pytest.approx(1 / 6, rel=1e-16)
    assert half_cotangent_defect_sqrt(zero).item() == pytest.approx(1 / 12, rel=1e-16)
    assert expm1_ratio(zero).item() == 1


@pytest.mark.parametrize("a", [0.0, 1e-300, 1e-9, 1e-3, 0.5, 0.9999999, 1.0, 1.0000001, 3.0, 30.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ratio_of_expm1(a, sign, dtype, device):
    a, found = jet(expm1_ratio, sign * a, dtype, device)
    expected = taylor(lambda a: mp.expm1(a) / a, a)
    assert found == pytest.approx(expected, rel=20 * torch.finfo(dtype).eps)


def test_ratio_of_expm1_far_out(dtype, device):
    far = torch.tensor([-1e30, -100.0], dtype=dtype, device=device, requires_grad=True)
    value = expm1_ratio(far)
    assert value.tolist() == pytest.approx([1e-30, 0.01], rel=1e-6)
    (slope,) = torch.autograd.grad(value.sum(), far)
    assert slope.tolist() == pytest.approx([0, 1e-4], rel=1e-6)
    assert expm1_ratio(1e4 * torch.ones_like(far)).tolist() == [math.inf] * 2
