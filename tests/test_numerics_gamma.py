"""Logarithms and gamma functions that are accurate at both ends, against mpmath."""

import math

import mpmath
import pytest
import torch

from manifold_ae.numerics import digamma_difference, log1m_exp, log_gamma_ratio, trigamma_difference


@pytest.mark.parametrize("s", [1e-30, 1e-8, 0.3, 0.999, 1.0, 1.001, 5.0, 40.0])
def test_log1m_exp(s, dtype, device, tolerance):
    x = torch.tensor(s, dtype=dtype, device=device, requires_grad=True)
    value = log1m_exp(x)
    (slope,) = torch.autograd.grad(value, x)
    with mpmath.workdps(60):
        expected = float(mpmath.log(-mpmath.expm1(-mpmath.mpf(s))))
    assert value.item() == pytest.approx(expected, rel=tolerance)
    assert slope.item() == pytest.approx(1 / math.expm1(s), rel=tolerance)
    assert -log1m_exp(-log1m_exp(x)).item() == pytest.approx(s, rel=1e-4) or s == 1e-30


def test_log1m_exp_at_its_ends(dtype, device):
    x = torch.tensor([0.0, math.inf], dtype=dtype, device=device)
    assert log1m_exp(x).tolist() == [-math.inf, 0.0]


@pytest.mark.parametrize("b", [0.5, 1.0, 2.5, 25.0])
@pytest.mark.parametrize("x", [0.5, 3.0, 15.999, 16.0, 17.0, 1e3, 1e8, 1e14, 1e30])
def test_ratios_of_gamma_functions(x, b, device):
    point = torch.tensor(x, dtype=torch.float64, device=device, requires_grad=True)
    ratio, difference = log_gamma_ratio(point, b), digamma_difference(point, b)
    (slope,) = torch.autograd.grad(ratio, point)
    with mpmath.workdps(60):
        x_, b_ = mpmath.mpf(x), mpmath.mpf(b)
        value = float(mpmath.loggamma(x_ + b_) - mpmath.loggamma(x_))
        derivative = float(mpmath.psi(0, x_ + b_) - mpmath.psi(0, x_))
        curvature = float(mpmath.psi(1, x_ + b_) - mpmath.psi(1, x_))
    assert ratio.item() == pytest.approx(value, rel=1e-13, abs=2e-14)
    assert difference.item() == pytest.approx(derivative, rel=2e-13)
    assert slope.item() == pytest.approx(derivative, rel=1e-12)
    # torch's own trigamma, below 16, is good to 1e-10.
    assert trigamma_difference(point, b).item() == pytest.approx(
        curvature, rel=1e-9 if x < 16 else 1e-12
    )
