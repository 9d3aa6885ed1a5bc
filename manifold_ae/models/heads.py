"""The encoder's head: a point on the manifold, and the time that its Brownian motion runs."""

import math

import torch
from torch import Tensor, nn

from manifold_ae.manifolds import Manifold
from manifold_ae.numerics import soft_clamp

__all__ = ["PosteriorHead", "reshaped"]

#: Bounds of log t in the authors' code: their tanh range is twice the one that its names say
#: (max_log_t = −5, min_log_t = −7.5), so that log t reaches −3.75 and no more.
PAPER_RANGE = (-8.75, -3.75)
#: Times in which float32 arithmetic carries a gradient: past the upper end a posterior is uniform
#: to four digits, and nothing would pull it back.
TIME_RANGE = (1e-6, 1e1)


def reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The last axis of x as axes of the given shape; () takes it away."""
    if len(shape) == 1:
        return x
    return x.unflatten(-1, shape) if shape else x.squeeze(-1)


class PosteriorHead(nn.Module):
    """Features ``(*, f)`` to points ``(*, *ambient_shape)`` and times ``(*, *time_shape)``.

    One linear map gives both; ``manifold.from_features`` takes its first part onto the manifold,
    and log t is read from the rest. Where an encoder knows the place itself, its first features are
    taken as they are, and the linear map is of the others alone.

    Arguments:
        given: whether the first ``manifold.feature_size`` features are the place.
        bound: ``"soft"`` keeps log t within ``time_range``, softly, and leaves it free inside; one
            that has left it finds back, see ``numerics.soft_clamp``. ``"paper"`` is the authors'
            tanh, log t ∈ (−8.75, −3.75).
        time_range: of the soft bound.
        initial: time at which an untrained head starts (soft bound only).
    """

    def __init__(
        self,
        features: int,
        manifold: Manifold,
        *,
        given: bool = False,
        bound: str = "soft",
        time_range: tuple[float, float] = TIME_RANGE,
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
        self.manifold = manifold
        self.bound = bound
        self.log_range = (math.log(low), math.log(high))
        self.sizes = [manifold.feature_size, math.prod(manifold.time_shape)]
        self.given = given
        if given and features <= self.sizes[0]:
            raise ValueError(
                f"features = {features}: expected more than the {self.sizes[0]} that are the place "
                f"on {manifold!r}, to read the time from"
            )
        if given:
            self.linear = nn.Linear(features - self.sizes[0], self.sizes[1])
        else:
            self.linear = nn.Linear(features, sum(self.sizes))
        if bound == "soft":
            with torch.no_grad():
                self.linear.bias[-self.sizes[1] :] += math.log(initial)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.is_autocast_enabled(features.device.type):
            return self._read(features)
        # Half precision would move points by 1e-2 and times by as much.
        with torch.autocast(features.device.type, enabled=False):
            return self._read(features.to(self.linear.weight.dtype))

    def _read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if self.given:
            split = [self.sizes[0], features.shape[-1] - self.sizes[0]]
            point, rest = features.split(split, -1)
            raw = self.linear(rest)
        else:
            point, raw = self.linear(features).split(self.sizes, -1)
        point = self.manifold.from_features(point)
        raw = reshaped(raw, self.manifold.time_shape)
        if self.bound == "paper":
            low, high = PAPER_RANGE
            return point, torch.exp((low + high) / 2 + (high - low) / 2 * torch.tanh(raw))
        return point, soft_clamp(raw, *self.log_range, returns=True).exp()
