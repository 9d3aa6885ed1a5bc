"""Models without a latent, to which what a latent gains is held.

Without covariates every observation has one law; with them the law is a function of these alone.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from manifold_ae.models.conditioning import known
from manifold_ae.models.ends import out_shape
from manifold_ae.models.likelihoods import Likelihood

__all__ = ["CovariatesOnly", "LatentFree"]

#: Evaluations of the likelihood, at most.
EVALUATIONS = 120
#: Nats an observation, by which a step that gains less is the last.
TOLERANCE = 1e-6


class LatentFree(nn.Module):
    """p(x) = p(x | output), with one output for all, fitted by maximum likelihood.

    Arguments:
        likelihood: the observation model; a copy of it is fitted.

    Example:
        >>> from manifold_ae.models.likelihoods import Poisson
        >>> x = torch.tensor([[1.0, 4.0], [3.0, 8.0]])
        >>> model = LatentFree(Poisson(2)).fit(x)
        >>> model.likelihood.mean(model.output).round(decimals=3)
        tensor([2., 6.], dtype=torch.float64, grad_fn=<RoundBackward1>)
    """

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = copy.deepcopy(likelihood).double()
        device = next((p.device for p in self.likelihood.parameters()), None)
        # The shape of an output is that of the layer that makes one.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            layer = likelihood.output_layer(1)
            output = torch.zeros_like(layer(torch.zeros(1)), dtype=torch.float64, device=device)
        self.output = nn.Parameter(output)
        #: Whether each value of the observations fitted to varies, of the shape ``event_shape``.
        self.varies: Tensor = torch.ones(likelihood.event_shape, dtype=torch.bool)

    def fit(
        self, x: Tensor, exposure: Tensor | None = None, *, tolerance: float = TOLERANCE
    ) -> "LatentFree":
        """Maximum likelihood on x ``(n, *event_shape)``, by L-BFGS; returns itself.

        Arguments:
            exposure: of every observation, ``(n,)``, where the likelihood takes one.
            tolerance: nats an observation that a step has to gain to go on.

        Raises:
            ValueError: if the likelihood of x is not finite.
        """
        x, exposure = x.double(), None if exposure is None else exposure.double()
        self.to(x.device)
        # What is missing neither varies nor keeps a feature from it.
        least = x.nan_to_num(math.inf, math.inf, -math.inf).amin(0)
        self.varies = x.nan_to_num(-math.inf, math.inf, -math.inf).amax(0) > least
        optimizer = torch.optim.LBFGS(
            list(self.parameters()),
            max_iter=EVALUATIONS,
            max_eval=EVALUATIONS,
            tolerance_grad=1e-6,
            tolerance_change=tolerance,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = -self._log_prob(x, exposure).mean()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        if not torch.isfinite(self.log_prob(x, exposure)).all():
            raise ValueError("x has no finite likelihood without a latent: check its values")
        return self

    @torch.no_grad()
    def log_prob(self, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        """log p(x) of x ``(n, *event_shape)``, of shape ``(n)``."""
        return self._log_prob(x.double(), None if exposure is None else exposure.double())

    def _log_prob(self, x: Tensor, exposure: Tensor | None) -> Tensor:
        output = self.output.expand(len(x), *self.output.shape)
        return self.likelihood.log_prob(output, x, exposure)


class CovariatesOnly(nn.Module):
    """p(x | c), decoded from the covariates alone: a ΔVAE that has lost its latent.

    It is trained as a ΔVAE is, by batches that are dicts; its loss is −log p(x | c).

    Arguments:
        decoder: of covariates ``(*, count)``, as a ΔVAE's is of latents.
        likelihood: the observation model.
        count: how many covariates there are.

    Example:
        >>> from manifold_ae.models.likelihoods import Poisson
        >>> from manifold_ae.nn import MLP
        >>> model = CovariatesOnly(MLP(2, (8,)), Poisson(3), 2)
        >>> model.log_prob(torch.ones(5, 3), covariates=torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(self, decoder: nn.Module, likelihood: Likelihood, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"count = {count!r}: without covariates, take LatentFree")
        self.count = count
        self.decoder = decoder
        self.likelihood = likelihood
        self.output = likelihood.output_layer(out_shape(decoder))

    def log_prob(
        self, x: Tensor, *, covariates: Tensor | None = None, exposure: Tensor | None = None
    ) -> Tensor:
        """log p(x | c) of x ``(n, *event_shape)``, of shape ``(n,)``."""
        (given,) = known(covariates, self.count, x.shape[:1])
        return self.likelihood.log_prob(self.output(self.decoder(given)), x, exposure)

    def forward(self, batch: Any, **weights: Any) -> dict[str, Tensor]:
        """``loss``, and −loss as ``elbo``, of a batch; there is no KL to weigh."""
        loss = -self.log_prob(**batch).mean()
        return {"loss": loss, "elbo": -loss.detach()}
