"""Real-valued features: Gaussians, and Student's t where there are outliers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manifold_ae.models.likelihoods.base import Likelihood, quick_factor, standard_gamma
from manifold_ae.numerics import constant, log_gamma_ratio

__all__ = ["Gaussian", "LearnedGaussian", "StudentT"]


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return value


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)


class Gaussian(Likelihood):
    """N(mean, σ² I) with a fixed variance, 1 by default: the observation model of the paper."""

    name = "gaussian"
    default_scaling = "range"

    def __init__(
        self, event_shape: int | Sequence[int], variance: float = 1.0, *, masks: bool = False
    ) -> None:
        super().__init__(event_shape, masks=masks)
        self.variance = _positive("variance", variance)

    def terms(self, output: Tensor, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        norm = math.log(2 * math.pi * self.variance)
        return -0.5 * ((x - output).square() / self.variance + norm)

    def batch_terms(
        self, output: Tensor, x: Tensor, exposure: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if self.masks or exposure is not None:
            return super().batch_terms(output, x, exposure)
        # One fused kernel forward and one backward, instead of seven passes over the batch.
        error = nn.functional.mse_loss(output, x)
        half = 0.5 * math.prod(self.event_shape)
        most = constant(-half * math.log(2 * math.pi * self.variance), error.dtype, error.device)
        return torch.add(most, error, alpha=-half / self.variance), error

    def mean(self, output: Tensor, exposure: Tensor | None = None) -> Tensor:
        return output

    def draw(
        self,
        output: Tensor,
        exposure: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return output + math.sqrt(self.variance) * _normal(output, generator)


class _Scaled(Likelihood):
    """A location by the decoder, and a scale learned for every feature.

    ``minimum`` bounds the scale softly from below: a feature that never varies would otherwise
    drive the likelihood to infinity. In units of the scaled data.
    """

    default_scaling = "standard"

    def __init__(
        self, event_shape: int | Sequence[int], minimum: float = 0.02, *, masks: bool = False
    ) -> None:
        super().__init__(event_shape, masks=masks)
        self.minimum = _positive("minimum", minimum)
        self.log_scale = nn.Parameter(torch.zeros(self.event_shape))

    @property
    def scale(self) -> Tensor:
        """Scales σ, of shape ``event_shape``; 0.3 beyond the minimum before training."""
        return self.minimum + 0.3 * quick_factor(self.log_scale)

    def mean(self, output: Tensor, exposure: Tensor | None = None) -> Tensor:
        return output


class LearnedGaussian(_Scaled):
    """N(mean, diag σ²) with a standard deviation learned for every feature.

    ``minimum`` bounds σ softly from below: a feature that never varies would otherwise drive the
    likelihood to infinity. In units of the scaled data.
    """

    name = "gaussian-learned"

    def terms(self, output: Tensor, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        scale = self.scale
        square = ((x - output) / scale).square()
        return -0.5 * (square + 2 * torch.log(scale) + math.log(2 * math.pi))

    def draw(
        self,
        output: Tensor,
        exposure: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return output + self.scale * _normal(output, generator)


class StudentT(_Scaled):
    r"""Student's t about the mean, for data with outliers: scale and tails learned per feature.

        log p = log Γ((ν+1)/2) − log Γ(ν/2) − ½ log(νπ) − log σ − ½ (ν+1) log(1 + w²/ν),

    w = (x − mean)/σ. A value far out counts by the logarithm of its distance, where a Gaussian
    counts the square. ν lies between 1, from where there is a mean, and 1,001, where the law is a
    Gaussian but for one part in a thousand; 5 before training.
    """

    name = "student-t"
    # Outliers make a standard deviation as large as they like, and ``minimum`` with it.
    default_scaling = "robust"

    def __init__(
        self, event_shape: int | Sequence[int], minimum: float = 0.02, *, masks: bool = False
    ) -> None:
        super().__init__(event_shape, minimum, masks=masks)
        self.log_tail = nn.Parameter(torch.zeros(self.event_shape))

    @property
    def degrees_of_freedom(self) -> Tensor:
        """ν, of shape ``event_shape``."""
        return 1 + 4 * quick_factor(self.log_tail, -4.0, math.log(250.0))

    def terms(self, output: Tensor, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        scale, nu = self.scale, self.degrees_of_freedom
        half = nu / 2
        norm = log_gamma_ratio(half, 0.5) - 0.5 * torch.log(math.pi * nu) - torch.log(scale)
        return norm - (half + 0.5) * _log1p_square((x - output) / (scale * nu.sqrt()))

    def draw(
        self,
        output: Tensor,
        exposure: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        half = (self.degrees_of_freedom / 2).expand_as(output)
        # χ²_ν / ν
        mixing = standard_gamma(half, generator) / half
        tiny = torch.finfo(mixing.dtype).tiny
        noise = _normal(output, generator) / mixing.clamp_min(tiny).sqrt()
        return output + self.scale * noise


def _log1p_square(w: Tensor) -> Tensor:
    """log(1 + w²), where the square may overflow too."""
    size = w.abs()
    near, far = size.clamp_max(1e4), size.clamp_min(1e4)
    return torch.where(size <= 1e4, torch.log1p(near.square()), 2 * torch.log(far))
