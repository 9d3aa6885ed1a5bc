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


def soft_clamp(x: Tensor, low: float, high: float) -> Tensor:
    r"""The line bent smoothly into (low, high): m + w/√(1 + (w/h)²), w = x − m.

    Here m is the middle of the interval and h half its length. The slope is 1 in the middle and
    falls off beyond the bounds as \|w/h\|⁻³: not to zero, as a hard clamp's does, nor
    exponentially, so a value that was carried far out comes back.
    """
    middle, half = (low + high) / 2, (high - low) / 2
    like = x.dtype, x.device
    return _SoftClamp.of(x, constant(middle, *like), constant(half, *like))


def exceeds(x: Tensor, limit: float) -> Tensor:
    """Whether x > limit by more than rounding: a limit that was computed admits its own figure."""
    return x > limit * (1 + 8 * torch.finfo(x.dtype).eps)
