"""Bounds and roots that keep a slope, and comparisons that allow for rounding."""

import torch
from torch import Tensor

from manifold_ae.numerics.derivatives import Fused
from manifold_ae.numerics.kept import constant


def soft_root(s: Tensor) -> Tensor:
    r"""√(s + ε²) − ε for s ≥ 0, with ε = 10⁻³: a square root with a finite slope at zero, 1/2ε.

    Of a sum of squares it is a norm that is smooth at the origin: within ε of the norm, and zero
    at zero. Written without the difference, which would cancel.
    """
    epsilon = 1e-3
    return s / (torch.sqrt(s + epsilon**2) + epsilon)


class _SoftClamp(Fused):
    @staticmethod
    def value(x: Tensor, middle: Tensor, half: Tensor) -> tuple[Tensor, ...]:
        shift = x - middle
        root = torch.hypot(shift, half)
        return torch.addcmul(middle, shift / root, half), root

    @staticmethod
    def derivative(gradient: Tensor, *saved: Tensor) -> tuple[Tensor | None, ...]:
        x, middle, half, root = saved
        if torch.is_grad_enabled():  # to be differentiated again
            root = torch.hypot(x - middle, half)
        return gradient * (half / root) ** 3, None, None


class _ReturningClamp(_SoftClamp):
    @staticmethod
    def derivative(gradient: Tensor, *saved: Tensor) -> tuple[Tensor | None, ...]:
        x, middle, half, root = saved
        if torch.is_grad_enabled():  # to be differentiated again
            root = torch.hypot(x - middle, half)
        slope = (half / root) ** 3
        # Descent goes against the gradient: back to the middle where both have one sign.
        back = (gradient * (x - middle) > 0) & (root > 2**0.5 * half)
        return gradient * torch.where(back, 2**-1.5, slope), None, None


def soft_clamp(x: Tensor, low: float, high: float, *, returns: bool = False) -> Tensor:
    r"""The line bent smoothly into (low, high): m + w/√(1 + (w/h)²), w = x − m.

    Here m is the middle of the interval and h half its length. The slope is 1 in the middle and
    falls off beyond the bounds as \|w/h\|⁻³: not to zero, as a hard clamp's does, nor
    exponentially, so a value that was carried far out comes back.

    Arguments:
        returns: whether gradients that lead back from beyond a bound have the slope at the bound,
            2^(-3/2), however far x is. That is no derivative, but it is what an optimiser wants
            that divides by the gradients it has met: to Adam, a slope of 10⁻⁴ after slopes of 1
            is none for a thousand steps.
    """
    middle, half = (low + high) / 2, (high - low) / 2
    like = x.dtype, x.device
    kind = _ReturningClamp if returns else _SoftClamp
    return kind.of(x, constant(middle, *like), constant(half, *like))


def exceeds(x: Tensor, limit: float) -> Tensor:
    """Whether x > limit by more than rounding: a limit that was computed admits its own figure."""
    return x > limit * (1 + 8 * torch.finfo(x.dtype).eps)
