"""Observation models p(x | z): what the decoder's output means.

The choice decides what is learned. A Gaussian of unit variance on pictures in [0, 1] sees only
structure that moves the picture by more than one unit in all; counts look different under a
Poisson law than under a Gaussian one. Each model owns the shape of its output layer, gives
log-probabilities in nats with every constant, summed over the event, and names the scaling of the
data that suits it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manifold_ae.models.heads import reshaped
from manifold_ae.numerics import constant, soft_clamp

__all__ = ["Bernoulli", "Gaussian", "LearnedGaussian", "Likelihood", "Poisson", "named", "names"]


class _Unflattened(nn.Module):
    """A linear layer onto an event of any shape."""

    def __init__(self, in_features: int, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, math.prod(event_shape))
        self.event_shape = event_shape

    def forward(self, features: Tensor) -> Tensor:
        return reshaped(self.linear(features), self.event_shape)


class _Pixelwise(nn.Module):
    """A linear layer onto the channels of a picture, the same at every pixel."""

    def __init__(self, maps: tuple[int, ...], event_shape: tuple[int, ...]) -> None:
        super().__init__()
        if len(maps) != 3 or len(event_shape) not in (2, 3) or event_shape[-2:] != maps[1:]:
            raise ValueError(
                f"the decoder gives maps of shape {maps}: observations of shape {event_shape} are "
                "no pictures of that size"
            )
        self.linear = nn.Conv2d(maps[0], math.prod(event_shape[:-2]), 1)
        self.event_shape = event_shape

    def forward(self, maps: Tensor) -> Tensor:
        pictures = self.linear(maps.reshape(-1, *maps.shape[-3:]))
        return pictures.reshape(*maps.shape[:-3], *self.event_shape)


class Likelihood(nn.Module, ABC):
    """p(x | z) for x of shape ``event_shape``, given the output of its own layer."""

    #: The name on the command line.
    name: str
    #: The scaling of raw data that suits this model, a kind of ``data.Scaling``.
    default_scaling: str
    #: Whether x must be counts: integers of at least 0.
    counts = False
    #: Whether log_prob is that of a density, which depends on the unit of x; else a probability.
    density = True
    #: The least and the greatest value that x may have once scaled; None for any.
    support: tuple[float, float] | None = None

    def __init__(self, event_shape: int | Sequence[int]) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)

    def output_layer(self, in_features: int | Sequence[int]) -> nn.Module:
        """The decoder's last layer: features ``(*, in_features)`` to ``(*, *event_shape)``.

        Of maps ``(*, c, h, w)``, whose shape ``in_features`` then is, one layer for all pixels.
        """
        if isinstance(in_features, int):
            return _Unflattened(in_features, self.event_shape)
        return _Pixelwise(tuple(in_features), self.event_shape)

    def encoder_input(self, x: Tensor) -> Tensor:
        """What the encoder sees of x; x itself, unless its range is too wide for a network."""
        return x

    @abstractmethod
    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x | z), summed over the event, of shape ``(*)``."""

    def batch_terms(self, output: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of log p(x | z) over a batch, and the mean squared error per feature."""
        with torch.no_grad():
            error = nn.functional.mse_loss(self.mean(output), x)
        return self.log_prob(output, x).mean(), error

    @abstractmethod
    def mean(self, output: Tensor) -> Tensor:
        """E[x | z], of shape ``(*, *event_shape)``."""

    @abstractmethod
    def draw(self, output: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """One observation from p(x | z), of shape ``(*, *event_shape)``."""

    def _sum(self, terms: Tensor) -> Tensor:
        return terms.flatten(terms.dim() - len(self.event_shape)).sum(-1)


class Gaussian(Likelihood):
    """N(mean, σ² I) with a fixed variance, 1 by default: the observation model of the paper."""

    name = "gaussian"
    default_scaling = "range"

    def __init__(self, event_shape: int | Sequence[int], variance: float = 1.0) -> None:
        super().__init__(event_shape)
        if not (math.isfinite(variance) and variance > 0):
            raise ValueError(f"variance must be positive and finite, got {variance!r}")
        self.variance = variance

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        features = math.prod(self.event_shape)
        norm = features * math.log(2 * math.pi * self.variance)
        return -0.5 * (self._sum((x - output).square()) / self.variance + norm)

    def batch_terms(self, output: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        # One fused kernel forward and one backward, instead of seven passes over the batch.
        error = nn.functional.mse_loss(output, x)
        half = 0.5 * math.prod(self.event_shape)
        most = constant(-half * math.log(2 * math.pi * self.variance), error.dtype, error.device)
        return torch.add(most, error, alpha=-half / self.variance), error

    def mean(self, output: Tensor) -> Tensor:
        return output

    def draw(self, output: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(
            output.shape, dtype=output.dtype, device=output.device, generator=generator
        )
        return output + math.sqrt(self.variance) * noise


class LearnedGaussian(Likelihood):
    """N(mean, diag σ²) with a standard deviation learned for every feature.

    ``minimum`` bounds σ softly from below: a feature that never varies would otherwise drive the
    likelihood to infinity. In units of the scaled data.
    """

    name = "gaussian-learned"
    default_scaling = "standard"

    def __init__(self, event_shape: int | Sequence[int], minimum: float = 0.02) -> None:
        super().__init__(event_shape)
        if not (math.isfinite(minimum) and minimum > 0):
            raise ValueError(f"minimum must be positive and finite, got {minimum!r}")
        self.minimum = minimum
        self.log_scale = nn.Parameter(torch.zeros(self.event_shape))

    @property
    def scale(self) -> Tensor:
        """Standard deviations, of shape ``event_shape``; 0.3 before training."""
        # Adam moves a parameter by about its learning rate a step, whatever the gradient; a scale
        # has to move by factors while the network's weights move by hundredths.
        return self.minimum + 0.3 * torch.exp(soft_clamp(10 * self.log_scale, -12.0, 12.0))

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        scale = self.scale
        terms = ((x - output) / scale).square() + 2 * torch.log(scale) + math.log(2 * math.pi)
        return -0.5 * self._sum(terms)

    def mean(self, output: Tensor) -> Tensor:
        return output

    def draw(self, output: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(
            output.shape, dtype=output.dtype, device=output.device, generator=generator
        )
        return output + self.scale * noise


class Bernoulli(Likelihood):
    """Independent binary features, by their logits.

    For values between 0 and 1 that are not binary, the log-probability is the usual
    cross-entropy, which is not a density; ELBOs are then comparable among themselves alone.
    """

    name = "bernoulli"
    default_scaling = "range"
    density = False
    support = (0.0, 1.0)

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        loss = nn.functional.binary_cross_entropy_with_logits(
            output, x.expand_as(output), reduction="none"
        )
        return -self._sum(loss)

    def mean(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output)

    def draw(self, output: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(torch.sigmoid(output), generator=generator)


class Poisson(Likelihood):
    """Independent counts, by their log-rates; the encoder sees log(1 + x).

    Log-rates are bounded softly to ±15, beyond which rates leave the range of any recording.
    """

    name = "poisson"
    default_scaling = "none"
    counts = True
    density = False

    def encoder_input(self, x: Tensor) -> Tensor:
        return torch.log1p(x)

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        log_rate = soft_clamp(output, -15.0, 15.0)
        return self._sum(x * log_rate - log_rate.exp() - torch.lgamma(x + 1))

    def mean(self, output: Tensor) -> Tensor:
        return soft_clamp(output, -15.0, 15.0).exp()

    def draw(self, output: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.poisson(self.mean(output), generator=generator)


_LIKELIHOODS: dict[str, type[Likelihood]] = {
    kind.name: kind for kind in (Gaussian, LearnedGaussian, Bernoulli, Poisson)
}


def names() -> dict[str, str]:
    """Names on the command line, with a line on each."""
    return {name: (kind.__doc__ or "").splitlines()[0] for name, kind in _LIKELIHOODS.items()}


def named(name: str, event_shape: int | Sequence[int]) -> Likelihood:
    """The likelihood of that name, for events of the given shape.

    Raises:
        ValueError: if there is none; the message lists those that there are.
    """
    if name not in _LIKELIHOODS:
        raise ValueError(f"no likelihood {name!r}; there are {', '.join(_LIKELIHOODS)}")
    return _LIKELIHOODS[name](event_shape)
