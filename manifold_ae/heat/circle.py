r"""Heat kernel of the unit circle: the wrapped normal law.

With r ∈ [0, π] the angle and t the variance,

    q(t, r) = (2πt)^{-1/2} Σ_k e^{-(r + 2πk)²/2t} = (2π)^{-1} (1 + 2 Σ_{n ≥ 1} e^{-n²t/2} cos nr),

the two series being each other's Poisson summation. Either converges everywhere; images are few
for small t, frequencies for large.
"""

import math

import torch
from torch import Tensor

__all__ = ["log_relative_density"]

#: Images up to |k| = 2 and frequencies up to n = 7 both err by less than 1e-16 here.
CROSSOVER = 2.0
IMAGES = 2
FREQUENCIES = 7


def log_relative_density(r: Tensor, t: Tensor) -> Tensor:
    """log(2π q(t, r)), of the broadcast shape of r and t: zero for the uniform law."""
    return torch.where(
        t < CROSSOVER,
        by_images(r, t.clamp_max(CROSSOVER)),
        by_frequencies(r, t.clamp_min(CROSSOVER)),
    )


def by_images(r: Tensor, t: Tensor) -> Tensor:
    """log(2π q) as a sum over the geodesics from one point to the other."""
    k = torch.arange(-IMAGES, IMAGES + 1, dtype=r.dtype, device=r.device)
    # (r + 2πk)² − r², so that the leading exponent is exact when t is tiny.
    excess = 4 * math.pi * k * (r.unsqueeze(-1) + math.pi * k)
    wrapped = torch.logsumexp(-excess / (2 * t.unsqueeze(-1)), -1)
    return wrapped - r * r / (2 * t) - 0.5 * torch.log(t / (2 * math.pi))


def by_frequencies(r: Tensor, t: Tensor) -> Tensor:
    """log(2π q) by its Fourier series."""
    return torch.log1p(relative_excess(r, t))


def relative_excess(r: Tensor, t: Tensor) -> Tensor:
    """2π q − 1 by its Fourier series, without cancellation as t → ∞."""
    n = torch.arange(1, FREQUENCIES + 1, dtype=r.dtype, device=r.device)
    terms = torch.exp(-n * n * t.unsqueeze(-1) / 2) * torch.cos(n * r.unsqueeze(-1))
    return 2 * terms.sum(-1)
