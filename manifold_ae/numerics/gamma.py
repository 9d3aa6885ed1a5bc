"""Logarithms of differences and differences of logarithms: of Γ and of its derivatives."""

import torch
from torch import Tensor

from manifold_ae.numerics.series import power_sum


def log1m_exp(s: Tensor) -> Tensor:
    r"""log(1 − e^{−s}) for s > 0, accurate relative to itself at both ends; −∞ at s = 0.

    As a map of s to −log(1 − e^{−s}) it is its own inverse.
    """
    near = torch.log(-torch.expm1(-s.clamp_max(1.0)))
    far = torch.log1p(-torch.exp(-s.clamp_min(1.0)))
    return torch.where(s < 1.0, near, far)


#: Stirling's series: log Γ(x) = (x − ½) log x − x + ½ log 2π + Σ_k c_k x^{1−2k}. From x = 16 on
#: these terms leave 1e-17 out.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
_STIRLING_SLOPE = tuple((1 - 2 * k) * c for k, c in enumerate(_STIRLING, 1))
_STIRLING_CURVATURE = tuple(-2 * k * c for k, c in enumerate(_STIRLING_SLOPE, 1))
_STIRLING_FROM = 16.0


def log_gamma_ratio(x: Tensor, b: float | Tensor) -> Tensor:
    r"""log Γ(x + b) − log Γ(x) for x > 0, b ≥ 0: too large to subtract when x is large."""
    small, x_ = x.clamp_max(_STIRLING_FROM), x.clamp_min(_STIRLING_FROM)
    y_ = x_ + b
    rest = power_sum(y_, _STIRLING, -1.0, -2.0) - power_sum(x_, _STIRLING, -1.0, -2.0)
    large = (x_ - 0.5) * torch.log1p(b / x_) + b * (torch.log(y_) - 1) + rest
    return torch.where(x < _STIRLING_FROM, torch.lgamma(small + b) - torch.lgamma(small), large)


def digamma_difference(x: Tensor, b: float) -> Tensor:
    r"""ψ(x + b) − ψ(x) for x, b > 0: the derivative of ``log_gamma_ratio``, accurate likewise."""
    small, x_ = x.clamp_max(_STIRLING_FROM), x.clamp_min(_STIRLING_FROM)
    y_ = x_ + b
    rest = power_sum(y_, _STIRLING_SLOPE, -2.0, -2.0) - power_sum(x_, _STIRLING_SLOPE, -2.0, -2.0)
    large = torch.log1p(b / x_) + b / (2 * x_ * y_) + rest
    return torch.where(x < _STIRLING_FROM, torch.digamma(small + b) - torch.digamma(small), large)


def trigamma_difference(x: Tensor, b: float) -> Tensor:
    r"""ψ₁(x + b) − ψ₁(x) for x, b > 0: the derivative of ``digamma_difference``.

    Below x = 16 it is as accurate as torch's trigamma, 1e-10; from there on, to rounding.
    """
    small, x_ = x.clamp_max(_STIRLING_FROM), x.clamp_min(_STIRLING_FROM)
    y_ = x_ + b
    curvature = _STIRLING_CURVATURE
    rest = power_sum(y_, curvature, -3.0, -2.0) - power_sum(x_, curvature, -3.0, -2.0)
    large = rest - b / x_ / y_ * (1 + 0.5 / x_ + 0.5 / y_)
    direct = torch.polygamma(1, small + b) - torch.polygamma(1, small)
    return torch.where(x < _STIRLING_FROM, direct, large)
