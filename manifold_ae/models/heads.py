"""The encoder's two heads: a point on the manifold, and the time that its Brownian motion runs."""

import math

import torch
from torch import Tensor, nn

from manifold_ae.manifolds import Manifold
from manifold_ae.numerics import soft_clamp

__all__ = ["LocationHead", "TimeHead"]

#: Bounds of log t in the authors' code: their tanh range is twice the one that its names say
#: (max_log_t = −5, min_log_t = −7.5), so that log t reaches −3.75 and no more.
PAPER_RANGE = (-8.75, -3.75)


class LocationHead(nn.Module):
    """Features ``(*, f)`` to points ``(*, *ambient_shape)``: a linear map, then the projection."""

    def __init__(self, features: int, manifold: Manifold) -> None:
        super().__init__()
        self.manifold = manifold
        self.linear = nn.Linear(features, math.prod(manifold.ambient_shape))

    def forward(self, features: Tensor) -> Tensor:
        point = self.linear(features).unflatten(-1, self.manifold.ambient_shape)
        return self.manifold.projx(point)


class TimeHead(nn.Module):
    """Features ``(*, f)`` to times ``(*, *time_shape)``.

    Arguments:
        bound: ``"soft"`` keeps log t within ``time_range``, softly, and leaves it free inside;
            ``"paper"`` is the authors' tanh, log t ∈ (−8.75, −3.75).
        initial: time at which an untrained head starts (soft bound only).
    """

    def __init__(
        self,
        features: int,
        manifold: Manifold,
        *,
        bound: str = "soft",
        time_range: tuple[float, float] = (1e-6, 1e1),
        initial: float = 0.02,
    ) -> None:
        super().__init__()
        if bound not in ("soft", "paper"):
            raise ValueError(f"bound must be 'soft' or 'paper', got {bound!r}")
        low, high = time_range
        if not 0 < low < initial < high < math.inf:
            raise ValueError(
                f"expected 0 < time_range[0] < initial < time_range[1], got time_range = "
                f"{time_range} and initial = {initial}"
            )
        self.bound = bound
        self.time_shape = manifold.time_shape
        self.log_range = (math.log(low), math.log(high))
        self.offset = math.log(initial)
        self.linear = nn.Linear(features, math.prod(manifold.time_shape))

    def forward(self, features: Tensor) -> Tensor:
        raw = self.linear(features).unflatten(-1, self.time_shape or (1,))
        raw = raw if self.time_shape else raw.squeeze(-1)
        if self.bound == "paper":
            low, high = PAPER_RANGE
            return torch.exp((low + high) / 2 + (high - low) / 2 * torch.tanh(raw))
        return soft_clamp(raw + self.offset, *self.log_range).exp()
