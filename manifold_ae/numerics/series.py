r"""Power series, and entire functions by theirs near zero and by the textbook formula elsewhere.

Those of the square of an angle, s = |u|², never differentiate a square root of zero.
"""

import math

import torch
from torch import Tensor

from manifold_ae.numerics.kept import constant


def series_where(s: Tensor, threshold: float, coefficients: tuple[float, ...]) -> Tensor:
    """Polynomial in s, by Horner's rule, evaluated at s clipped to the interval where it holds."""
    small = s.clamp(-threshold, threshold)
    result = torch.full_like(small, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result * small + coefficient
    return result


def power_sum(
    x: Tensor, coefficients: tuple[float, ...], start: float = 0.0, step: float = 1.0
) -> Tensor:
    """Σ_k c_k x^{start + k step}, in few operations."""
    exponents = tuple(start + k * step for k in range(len(coefficients)))
    powers = x.unsqueeze(-1) ** constant(exponents, x.dtype, x.device)
    return (powers * constant(coefficients, x.dtype, x.device)).sum(-1)


def cos_sqrt(s: Tensor) -> Tensor:
    r"""cos √s for s ≥ 0, smooth at zero: as a function of s it is entire.

    With s = |u|², no square root of zero is ever differentiated.
    """
    threshold = 1e-2
    series = series_where(s, threshold, (1.0, -1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800))
    return torch.where(s < threshold, series, torch.cos(s.clamp_min(threshold).sqrt()))


def sinc_sqrt(s: Tensor) -> Tensor:
    r"""sin √s / √s for s ≥ 0, smooth at zero."""
    threshold = 1e-2
    series = series_where(
        s, threshold, (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800)
    )
    root = s.clamp_min(threshold).sqrt()
    return torch.where(s < threshold, series, torch.sin(root) / root)


#: 1/(2k)! and 1/(2k+1)!: ten terms leave 1e-17 out at \|s\| = 1.
_EVEN = tuple(1 / math.factorial(2 * k) for k in range(10))
_ODD = tuple(1 / math.factorial(2 * k + 1) for k in range(10))


def cosh_sqrt(s: Tensor) -> Tensor:
    r"""cosh √s for s ≥ 0 and cos √−s for s < 0: one entire function of s."""
    up, down = s.clamp_min(1.0).sqrt(), (-s).clamp_min(1.0).sqrt()
    far = torch.where(s > 0, torch.cosh(up), torch.cos(down))
    return torch.where(s.abs() < 1.0, series_where(s, 1.0, _EVEN), far)


def sinhc_sqrt(s: Tensor) -> Tensor:
    r"""sinh √s / √s for s > 0 and sin √−s / √−s for s < 0: one entire function of s."""
    up, down = s.clamp_min(1.0).sqrt(), (-s).clamp_min(1.0).sqrt()
    far = torch.where(s > 0, torch.sinh(up) / up, torch.sin(down) / down)
    return torch.where(s.abs() < 1.0, series_where(s, 1.0, _ODD), far)


#: Of C = cosh √s and S = sinh √s / √s: (C − S)/s = Σ_k s^k (2k + 2)/(2k + 3)!. Seven terms leave
#: 1e-17 out at \|s\| = 1/4, and four 3e-9.
_SINHC_SLOPE = tuple((2 * k + 2) / math.factorial(2 * k + 3) for k in range(7))


def sinhc_slope(s: Tensor, even: Tensor, odd: Tensor, scale: Tensor) -> Tensor:
    r"""(C − S)/s, an entire function of s: 2 dS/ds, for C = cosh √s and S = sinh √s / √s.

    cos √−s and sin √−s / √−s where s < 0.

    Args:
        s: of shape ``(*)``, as all others.
        even: C, times the scale.
        odd: S, times the scale.
        scale: a common factor, that of the result too.
    """
    kept = _SINHC_SLOPE if s.dtype == torch.float64 else _SINHC_SLOPE[:4]
    quarter, *terms = (constant(x, s.dtype, s.device) for x in (0.25, *kept))
    near = s.abs() < quarter
    small, large = s, s
    if torch.is_grad_enabled():  # what is not selected is to have a finite derivative
        small, large = torch.where(near, s, 0.0), torch.where(near, 1.0, s)
    series = terms[-1]
    for term in reversed(terms[:-1]):
        series = torch.addcmul(term, series, small)
    return torch.where(near, series * scale, (even - odd) / large)


#: (1 − sin √s/√s)/s = Σ_k (−s)^k/(2k + 3)!; ten terms leave 1e-22 out at s = 1.
_SINC_DEFECT = tuple((-1) ** k / math.factorial(2 * k + 3) for k in range(10))


def sinc_defect_sqrt(s: Tensor) -> Tensor:
    r"""(1 − sin √s / √s) / s for s ≥ 0, smooth at zero, where it is 1/6."""
    series = series_where(s, 1.0, _SINC_DEFECT)
    return torch.where(s < 1, series, (1 - sinc_sqrt(s)) / s.clamp_min(1.0))


#: (1 − (√s/2) cot(√s/2))/s = Σ_k |B_2k| s^{k−1}/(2k)!, with Bernoulli's numbers; s^k counts for
#: 40^{−k} at s = 1, and twelve terms leave 1e-19 out.
_BERNOULLI = (
    (1, 6), (1, 30), (1, 42), (1, 30), (5, 66), (691, 2730), (7, 6), (3617, 510),
    (43867, 798), (174611, 330), (854513, 138), (236364091, 2730),
)  # fmt: skip
_HALF_COTANGENT_DEFECT = tuple(
    above / below / math.factorial(2 * k) for k, (above, below) in enumerate(_BERNOULLI, 1)
)


def half_cotangent_defect_sqrt(s: Tensor) -> Tensor:
    r"""(1 − (√s/2) cot(√s/2)) / s for 0 ≤ s < 4π², smooth at zero, where it is 1/12."""
    series = series_where(s, 1.0, _HALF_COTANGENT_DEFECT)
    far = s.clamp_min(1.0)
    return torch.where(s < 1, series, (1 - cos_sqrt(far / 4) / sinc_sqrt(far / 4)) / far)


#: (e^a − 1)/a = Σ_k a^k/(k + 1)!; these terms leave 1e-19 out at |a| = 1.
_EXPM1_RATIO = tuple(1 / math.factorial(k + 1) for k in range(20))


def expm1_ratio(a: Tensor) -> Tensor:
    r"""φ₁(a) = (eᵃ − 1)/a, positive for every a, smooth at zero, where it is 1."""
    near = a.abs() < 1
    far = torch.where(near, 1.0, a)
    return torch.where(near, series_where(a, 1.0, _EXPM1_RATIO), torch.expm1(far) / far)


#: (e^a − 1 − a)/a² = Σ_k a^k/(k + 2)!; these terms leave 1e-20 out at |a| = 1.
_EXPM1_DEFECT = tuple(1 / math.factorial(k + 2) for k in range(20))


def expm1_defect(a: Tensor) -> Tensor:
    r"""φ₂(a) = (eᵃ − 1 − a)/a², positive for every a, smooth at zero, where it is 1/2."""
    near = a.abs() < 1
    far = torch.where(near, 1.0, a)
    return torch.where(near, series_where(a, 1.0, _EXPM1_DEFECT), (torch.expm1(far) - far) / far**2)
