"""Angles and norms of vectors, at zero, at antipodes and at any magnitude."""

import torch
from torch import Tensor

from manifold_ae.numerics.derivatives import Fused
from manifold_ae.numerics.kept import constant
from manifold_ae.numerics.series import series_where


def arc_over_sine(sine_squared: Tensor, cosine: Tensor) -> Tensor:
    r"""θ / sin θ for the angle θ ∈ [0, π] with the given sin²θ and cos θ; 1 at θ = 0.

    At θ = π the ratio diverges; the value returned there is finite but has no meaning, and the
    caller chooses (see ``Sphere.logmap``).
    """
    # arcsin(x)/x = Σ (2k)! / (4^k (k!)² (2k+1)) x^{2k}; six terms reach 1e-16 at the threshold.
    threshold = 1e-3
    coefficients = (1.0, 1 / 6, 3 / 40, 5 / 112, 35 / 1152, 63 / 2816)
    series = series_where(sine_squared, threshold, coefficients)
    regular = (sine_squared >= threshold) | (cosine < 0)
    floor = torch.finfo(sine_squared.dtype).tiny
    root = torch.where(regular, sine_squared, 1.0).clamp_min(floor).sqrt()
    angle = torch.atan2(root, torch.where(regular, cosine, 0.0))
    return torch.where(regular, angle / root, series)


def chord_angle(x: Tensor, y: Tensor) -> Tensor:
    r"""Angle between unit vectors, 2 atan2(\|x − y\|, \|x + y\|), over the last axis.

    Accurate to rounding from 0 to π (Kahan, "How futile are mindless assessments of roundoff",
    2006, §12), where arccos loses half the digits. The angle has no gradient at 0 and at π; the
    subgradient there is zero.
    """
    difference = torch.linalg.vector_norm(x - y, dim=-1)
    total = torch.linalg.vector_norm(x + y, dim=-1)
    return 2 * torch.atan2(difference, total)


class _Normalise(Fused):
    @staticmethod
    def value(y: Tensor) -> tuple[Tensor, ...]:
        # In float64 nothing that float32 can hold overflows, and the offset, which no float32
        # can cancel, decides for the zero vector alone.
        offset = constant((1e-150,) + (0.0,) * (y.shape[-1] - 1), torch.float64, y.device)
        shifted = y + offset
        norm = torch.linalg.vector_norm(shifted, dim=-1, keepdim=True)
        return (shifted / norm).to(y.dtype), norm

    @staticmethod
    def derivative(gradient: Tensor, y: Tensor, norm: Tensor) -> tuple[Tensor]:
        if torch.is_grad_enabled():  # to be differentiated again
            norm = torch.linalg.vector_norm(y, dim=-1, keepdim=True, dtype=torch.float64)
        # Above the offset, which is the norm of float64's zero vector.
        tiny = max(torch.finfo(y.dtype).tiny, 2e-150)
        inverse = torch.where(norm < tiny, 0.0, 1 / norm.clamp_min(tiny)).to(y.dtype)
        x = y * inverse
        along = (gradient * x).sum(-1, keepdim=True)
        return (torch.addcmul(gradient, along, x, value=-1) * inverse,)


def normalise(y: Tensor) -> Tensor:
    r"""y / \|y\| over the last axis, for vectors of any magnitude that the dtype can hold.

    The zero vector has no direction: every unit vector is equally close to it, and the first
    basis vector is returned, with gradient zero.
    """
    if y.dtype == torch.float64:
        # Scaled by the largest entry, no square underflows or overflows.
        scale = y.detach().abs().amax(-1, keepdim=True)
        y = y / torch.where(scale > 0, scale, 1.0)
    return _Normalise.of(y)


def axial_norm(x: Tensor) -> Tensor:
    r"""√(x₁² + x₂²) of the last axis, at least 10⁻⁷: the distance from the axis of the third.

    Its gradient is zero below; no square overflows. An even function f of the distance is off by no
    more than rounding there, and so is an odd one as the factor f/distance of (x₁, x₂).
    """
    least = 1e-7
    first, second = x[..., 0], x[..., 1]
    below = (first.abs() < least) & (second.abs() < least)
    return torch.hypot(torch.where(below, least, first), torch.where(below, 0.0, second))
