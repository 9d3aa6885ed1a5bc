r"""Hue as a circle: colours turned about the axis of greys.

A colour in RGB is a grey plus a vector across the greys, its chroma. Turning the chroma by φ about
the axis (1, 1, 1) is a linear map of RGB, and an action of the circle. The colours

    colour(φ)_k = 1/2 + a cos(φ − 2πk/3),        k = 0, 1, 2 for red, green, blue,

stay in [0, 1] for amplitudes a up to 1/2, at all hues φ.
"""

import math

import torch
from torch import Tensor


def chroma(hue: Tensor, amplitude: Tensor | float) -> Tensor:
    """The vectors `a cos(φ − 2πk/3)`, with shape `(*, 3)`, of hues φ with shape `(*)`."""
    thirds = torch.arange(3, dtype=hue.dtype, device=hue.device) * (2 * math.pi / 3)
    wave = torch.cos(hue.unsqueeze(-1) - thirds)
    return wave * (amplitude.unsqueeze(-1) if isinstance(amplitude, Tensor) else amplitude)
