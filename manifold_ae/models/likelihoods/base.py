"""What every observation model is, and what it does with values that are missing."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manifold_ae.models.heads import reshaped
from manifold_ae.numerics import soft_clamp

__all__ = ["Likelihood", "appended", "appended_shape", "quick_factor", "standard_gamma"]


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

    def __init__(self, maps: tuple[int, ...], event_shape: tuple[int, ...], numbers: int) -> None:
        super().__init__()
        if len(maps) != 3 or len(event_shape) not in (2, 3) or event_shape[-2:] != maps[1:]:
            raise ValueError(
                f"the decoder gives maps of shape {maps}: observations of shape {event_shape} are "
                "no pictures of that size"
            )
        self.linear = nn.Conv2d(maps[0], numbers * math.prod(event_shape[:-2]), 1)
        self.event_shape = event_shape if numbers == 1 else (numbers, *event_shape)

    def forward(self, maps: Tensor) -> Tensor:
        pictures = self.linear(maps.reshape(-1, *maps.shape[-3:]))
        return pictures.reshape(*maps.shape[:-3], *self.event_shape)


class Likelihood(nn.Module, ABC):
    """p(x | z) for x of shape ``event_shape``, given the output of its own layer.

    Arguments:
        event_shape: the shape of one observation; an integer n stands for ``(n,)``.
        masks: whether values may be missing, as NaN. Then log-probabilities and errors are those
            of what was observed, and the encoder sees 0 in the place of what was not, and a mask
            (1 where observed) as further features. An event of which nothing was observed has
            log-probability 0.

    A model without ``masks`` does not look for NaN: its log-probabilities are NaN there.
    """

    #: The name on the command line.
    name: str
    #: The scaling of raw data that suits this model, a kind of ``data.Scaling``.
    default_scaling: str
    #: Whether x must be counts: integers of at least 0.
    counts = False
    #: Whether log_prob is that of a density, which depends on the unit of x; else a probability.
    density = True
    #: Whether x has a unit of its own, so that it must not be scaled.
    as_is = False
    #: Whether the mean is a rate times an exposure, which may differ between observations.
    takes_exposure = False
    #: The least and the greatest value that x may have once scaled; None for any.
    support: tuple[float, float] | None = None
    #: Numbers that the decoder gives for each value of x.
    numbers = 1
    #: Numbers that the encoder sees for each value of x, but for the mask.
    planes = 1

    def __init__(self, event_shape: int | Sequence[int], *, masks: bool = False) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.masks = masks

    # ---- the networks' ends -------------------------------------------------------------------

    def output_layer(self, in_features: int | Sequence[int]) -> nn.Module:
        """The decoder's last layer: features ``(*, in_features)`` to ``(*, *event_shape)``.

        Of a model with several ``numbers`` a value, to ``(*, numbers, *event_shape)``. Of maps
        ``(*, c, h, w)``, whose shape ``in_features`` then is, one layer for all pixels.
        """
        if isinstance(in_features, int):
            several = () if self.numbers == 1 else (self.numbers,)
            return _Unflattened(in_features, (*several, *self.event_shape))
        return _Pixelwise(tuple(in_features), self.event_shape, self.numbers)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of what ``encoder_input`` makes of one observation.

        That of the observation where the encoder sees it as it is. Several numbers a value lie one
        after another along the first axis of a vector, and are channels of a picture.
        """
        return appended_shape(self.event_shape, self.planes + self.masks - 1)

    def encoder_input(self, x: Tensor) -> Tensor:
        """What the encoder sees of x ``(*, *event_shape)``, of shape ``(*, *input_shape)``."""
        filled, observed = self._filled(x)
        planes = self._seen(filled)
        if observed is not None:
            # Filled with 0 in the encoder's own units, whatever these make of it.
            planes = [*(plane * observed for plane in planes), observed.to(x.dtype)]
        return appended(planes[0], planes[1:], len(self.event_shape))

    def seen_rows(self, x: Tensor) -> Tensor:
        """What the encoder sees of values x ``(n, *event_shape)``, as rows ``(n, k)``.

        Where a value is missing, the mean over the rows that have it.
        """
        filled, observed = self._filled(x)
        planes = self._seen(filled)
        if observed is not None:
            count = observed.sum(0).clamp_min(1)
            planes = [torch.where(observed, p, (p * observed).sum(0) / count) for p in planes]
        return torch.cat([plane.flatten(1) for plane in planes], 1)

    def _seen(self, x: Tensor) -> list[Tensor]:
        """The numbers that the encoder sees of each value, as tensors of the shape of x."""
        return [x]

    # ---- the law ------------------------------------------------------------------------------

    @abstractmethod
    def terms(self, output: Tensor, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        """log p of every value of an event of which nothing is missing, ``(*, *event_shape)``."""

    def log_prob(self, output: Tensor, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        """log p(x | z), summed over what was observed of the event, of shape ``(*)``.

        Arguments:
            output: that of ``output_layer``.
            x: ``(*, *event_shape)``.
            exposure: of every observation, positive, ``(*)``; of ``takes_exposure`` alone.
        """
        self._check_exposure(exposure)
        filled, observed = self._filled(x)
        terms = self.terms(output, filled, exposure)
        return self._sum(terms if observed is None else torch.where(observed, terms, 0.0))

    def error(self, output: Tensor, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        """The mean squared error over what was observed of each event, of shape ``(*)``."""
        filled, observed = self._filled(x)
        squares = self._squares(output, filled, exposure)
        if observed is None:
            return self._sum(squares) / max(1, math.prod(self.event_shape))
        known = self._sum(observed.to(squares.dtype)).clamp_min(1.0)
        return self._sum(torch.where(observed, squares, 0.0)) / known

    def batch_terms(
        self, output: Tensor, x: Tensor, exposure: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean of log p(x | z) over a batch, and the mean squared error of a value observed."""
        with torch.no_grad():
            filled, observed = self._filled(x)
            squares = self._squares(output, filled, exposure)
            if observed is None:
                error = squares.mean()
            else:
                error = torch.where(observed, squares, 0.0).sum() / observed.sum().clamp_min(1)
        return self.log_prob(output, x, exposure).mean(), error

    @abstractmethod
    def mean(self, output: Tensor, exposure: Tensor | None = None) -> Tensor:
        """E[x | z], of shape ``(*, *event_shape)``; of angles their mean direction."""

    @abstractmethod
    def draw(
        self,
        output: Tensor,
        exposure: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """One observation from p(x | z), of shape ``(*, *event_shape)``."""

    def checks(
        self, output: Tensor, x: Tensor, exposure: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Figures of every observation that tell whether this law suits, of shape ``(*)`` each."""
        return {}

    def _squares(self, output: Tensor, x: Tensor, exposure: Tensor | None) -> Tensor:
        """Squared errors of the mean, ``(*, *event_shape)``."""
        return (self.mean(output, exposure) - x).square()

    # ---- helpers ------------------------------------------------------------------------------

    def _filled(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x with 0 for what is missing, and what is not; None where nothing can be."""
        if not self.masks:
            return x, None
        observed = ~torch.isnan(x)
        return torch.where(observed, x, 0.0), observed

    def _check_exposure(self, exposure: Tensor | None) -> None:
        if exposure is not None and not self.takes_exposure:
            raise ValueError(
                f"exposure of shape {tuple(exposure.shape)}: likelihood {self.name!r} has no rate "
                "that it could multiply; take 'poisson' or 'negative-binomial', or leave it out"
            )

    def _per_event(self, values: Tensor) -> Tensor:
        """Values ``(*)`` of observations, as ``(*, 1, ..., 1)`` to go with ``event_shape``."""
        return values[(..., *(None,) * len(self.event_shape))]

    def _sum(self, terms: Tensor) -> Tensor:
        return terms.flatten(terms.dim() - len(self.event_shape)).sum(-1)


def appended_shape(shape: Sequence[int], more: int) -> tuple[int, ...]:
    """The shape of a value with as many further numbers (of a vector), or channels (of a picture).

    Of a vector ``(d,)`` and its further planes of d numbers, count these ``d`` times.
    """
    shape = tuple(shape)
    if more == 0:
        return shape
    if len(shape) == 1:
        return (shape[0] * (1 + more),)
    channels, *size = shape if len(shape) == 3 else (1, *shape)
    return (channels * (1 + more), *size)


def appended(first: Tensor, others: Sequence[Tensor], dims: int) -> Tensor:
    """Tensors ``(*, *shape)`` of ``dims`` axes a value, joined as ``appended_shape`` says."""
    if not others:
        return first
    if dims in (1, 3):
        return torch.cat([first, *others], -dims)
    return torch.stack([first, *others], -dims - 1)


def quick_factor(parameter: Tensor, low: float = -12.0, high: float = 12.0) -> Tensor:
    """exp of ten times a parameter, the exponent bent softly into (low, high); 1 at 0.

    Adam moves a parameter by about its learning rate a step, whatever the gradient; a scale has to
    move by factors while the network's weights move by hundredths.
    """
    return torch.exp(soft_clamp(10 * parameter, low, high))


def standard_gamma(shape: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws from Gamma(shape, 1); torch's own law takes no generator."""
    return torch._standard_gamma(shape.contiguous(), generator=generator)  # type: ignore[attr-defined]
