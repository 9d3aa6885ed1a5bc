r"""A ΔVAE trained by a tighter bound: several posterior samples, weighted by importance.

With z_k ∼ q(z|x) and weights w_k = p(x|z_k) p(z_k) / q(z_k|x),

    L_K(x) = E log (1/K) Σ_k w_k ,   L_1 = ELBO ≤ L_2 ≤ … ≤ log p(x),

(Burda et al., eqs 8 and Theorem 1). The mean of weights may be large by one of them alone, so an
observation may hold several places open at once where the ELBO makes it choose one.
"""

import math
from typing import Any

import torch
from torch import Tensor

from manifold_ae.models.delta_vae import DeltaVAE

__all__ = ["ImportanceWeightedVAE"]


class ImportanceWeightedVAE(DeltaVAE):
    """A ``DeltaVAE`` whose loss is −L_K, of K = ``num_importance`` posterior samples.

    All else, the ELBO of ``elbo`` among it, is the ΔVAE's. The weights take a density of the
    posterior's law and of the prior: where the heat kernel has none, ``loss`` raises
    ``NotImplementedError``. A walk's samples are taken to be its limit's, and L_K is then a bound
    as far as the walk is close.

    Arguments:
        num_importance: K. With K = 1 the expectation of the loss is the ΔVAE's with
            ``divergence="sampled"``.
        args, kwargs: those of ``DeltaVAE``.

    Raises:
        ValueError: if K is below 1.

    References:
        Y. Burda, R. Grosse and R. Salakhutdinov, *Importance Weighted Autoencoders*, 2016.
        https://arxiv.org/abs/1509.00519

    Example:
        >>> from manifold_ae.manifolds import Sphere
        >>> from manifold_ae.nn import MLP
        >>> networks = MLP(64, (16,)), MLP(3, (16,))
        >>> vae = ImportanceWeightedVAE(Sphere(2), *networks, num_importance=5)
        >>> sorted(vae.loss(torch.rand(8, 64)))
        ['bound', 'elbo', 'kl', 'loss', 'mean_log_time', 'mse']
    """

    def __init__(self, *args: Any, num_importance: int, **kwargs: Any) -> None:
        if num_importance < 1:
            raise ValueError(f"num_importance = {num_importance}: expected at least 1")
        super().__init__(*args, **kwargs)
        self.num_importance = num_importance

    def loss(
        self,
        x: Tensor,
        kl_weight: float = 1.0,
        *,
        covariates: Tensor | None = None,
        exposure: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Named terms, averaged over the batch.

        Returns:
            ``loss`` = −E log (1/K) Σ p(x|z_k) (p(z_k)/q(z_k|x))^kl_weight, the only one with a
            gradient; ``bound`` = L_K, and ``elbo`` and ``kl``, means over the K samples, in nats,
            with weight one; ``mse`` per feature; ``mean_log_time``.
        """
        q = self.posterior(x, covariates=covariates, exposure=exposure)
        z = q.rsample(torch.Size((self.num_importance,)))
        output = self._output(z, covariates)
        log_likelihood = self.likelihood.log_prob(output, x, exposure)
        log_ratio = self.prior.log_prob(z) - q.limit.log_prob(z)
        loss = -self._bound(log_likelihood + kl_weight * log_ratio)
        with torch.no_grad():
            return {
                "loss": loss,
                "bound": self._bound(log_likelihood + log_ratio),
                "elbo": (log_likelihood + log_ratio).mean(),
                "kl": -log_ratio.mean(),
                "mse": self.likelihood.error(output, x, exposure).mean(),
                "mean_log_time": q.time.log().mean(),  # type: ignore[attr-defined]
            }

    def _bound(self, log_weights: Tensor) -> Tensor:
        """The mean over the batch of the logarithm of the mean of weights ``(K, *)``."""
        return (torch.logsumexp(log_weights, 0) - math.log(self.num_importance)).mean()
