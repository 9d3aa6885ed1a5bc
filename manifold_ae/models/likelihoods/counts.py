r"""Counts: Poisson, and the negative binomial where they vary more than that.

The decoder gives the logarithm of a rate. With an exposure e (the length of a bin, the depth of a
library, the attention paid) the mean of an observation is μ = e · rate.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manifold_ae.models.likelihoods.base import Likelihood, quick_factor, standard_gamma
from manifold_ae.numerics import log_gamma_ratio, soft_clamp

__all__ = ["NegativeBinomial", "Poisson"]


class _Counts(Likelihood):
    """Independent counts, by their log-rates; the encoder sees log(1 + x).

    Log-rates are bounded softly to ±15, beyond which rates leave the range of any recording.
    """

    default_scaling = "none"
    counts = True
    density = False
    as_is = True
    takes_exposure = True

    def _seen(self, x: Tensor) -> list[Tensor]:
        return [torch.log1p(x)]

    def log_mean(self, output: Tensor, exposure: Tensor | None = None) -> Tensor:
        """log μ of every count, of shape ``(*, *event_shape)``."""
        log_rate = soft_clamp(output, -15.0, 15.0)
        return log_rate if exposure is None else log_rate + self._per_event(exposure.log())

    def mean(self, output: Tensor, exposure: Tensor | None = None) -> Tensor:
        self._check_exposure(exposure)
        return self.log_mean(output, exposure).exp()

    def variance(self, mean: Tensor) -> Tensor:
        """The variance of a count of that mean."""
        return mean

    def checks(
        self, output: Tensor, x: Tensor, exposure: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``dispersion``: Σ (x − μ)² / Σ Var(x | z) of an observation; 1 where the law suits.

        More, where counts vary more about the decoded means than the law has it.
        """
        filled, observed = self._filled(x)
        mean = self.mean(output, exposure)
        squares, expected = (mean - filled).square(), self.variance(mean)
        if observed is not None:
            squares, expected = (torch.where(observed, v, 0.0) for v in (squares, expected))
        tiny = torch.finfo(mean.dtype).tiny
        return {"dispersion": self._sum(squares) / self._sum(expected).clamp_min(tiny)}


class Poisson(_Counts):
    """Independent counts, by their log-rates; the encoder sees log(1 + x).

    Log-rates are bounded softly to ±15, beyond which rates leave the range of any recording.
    """

    name = "poisson"

    def terms(self, output: Tensor, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        log_mean = self.log_mean(output, exposure)
        return x * log_mean - log_mean.exp() - torch.lgamma(x + 1)

    def draw(
        self,
        output: Tensor,
        exposure: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return torch.poisson(self.mean(output, exposure), generator=generator)


class NegativeBinomial(_Counts):
    r"""Counts that vary more than Poisson's: a dispersion learned for every feature.

    Of mean μ and variance μ + α μ²; with r = 1/α

        log p = log Γ(x+r) − log Γ(r) − log x! − (x + r) log(1 + μ/r) + x log(μ/r).

    The dispersion α lies between 10⁻⁴, where the law is Poisson's but for counts in the thousands,
    and 100; 0.1 before training. Log-rates as in ``Poisson``.
    """

    name = "negative-binomial"

    def __init__(self, event_shape: int | Sequence[int], *, masks: bool = False) -> None:
        super().__init__(event_shape, masks=masks)
        self.log_dispersion = nn.Parameter(torch.zeros(self.event_shape))

    @property
    def dispersion(self) -> Tensor:
        """α, of shape ``event_shape``."""
        return 0.1 * quick_factor(self.log_dispersion, math.log(1e-3), math.log(1e3))

    def variance(self, mean: Tensor) -> Tensor:
        return mean + self.dispersion * mean.square()

    def terms(self, output: Tensor, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        log_mean = self.log_mean(output, exposure)
        alpha = self.dispersion
        r = 1 / alpha
        # Where r is large, log Γ(x + r) − log Γ(r) and x log r are too, and all but cancel.
        ways = log_gamma_ratio(r, x) + x * torch.log(alpha)
        spread = (x + r) * torch.log1p(alpha * log_mean.exp())
        return ways - torch.lgamma(x + 1) + x * log_mean - spread

    def draw(
        self,
        output: Tensor,
        exposure: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        mean = self.mean(output, exposure)
        r = (1 / self.dispersion).expand_as(mean)
        gamma = standard_gamma(r, generator)
        return torch.poisson(mean * gamma / r, generator=generator)
