"""Features that are yes or no."""

import torch
from torch import Tensor, nn

from manifold_ae.models.likelihoods.base import Likelihood

__all__ = ["Bernoulli"]


class Bernoulli(Likelihood):
    """Independent binary features, by their logits.

    For values between 0 and 1 that are not binary, the log-probability is the usual
    cross-entropy, which is not a density; ELBOs are then comparable among themselves alone.
    """

    name = "bernoulli"
    default_scaling = "range"
    density = False
    support = (0.0, 1.0)

    def terms(self, output: Tensor, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        return -nn.functional.binary_cross_entropy_with_logits(
            output, x.expand_as(output), reduction="none"
        )

    def mean(self, output: Tensor, exposure: Tensor | None = None) -> Tensor:
        return torch.sigmoid(output)

    def draw(
        self,
        output: Tensor,
        exposure: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return torch.bernoulli(torch.sigmoid(output), generator=generator)
