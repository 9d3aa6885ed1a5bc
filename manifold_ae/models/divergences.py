"""The KL term of a ΔVAE's loss, and which of them there is for a law."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, ManifoldDistribution
from manifold_ae.manifolds import Manifold

__all__ = ["DIVERGENCES", "known_divergence"]


def _exact(q: ManifoldDistribution, prior: ManifoldDistribution, z: Tensor) -> Tensor:
    return kl_divergence(q, prior)


def _sampled(q: ManifoldDistribution, prior: ManifoldDistribution, z: Tensor) -> Tensor:
    return q.log_prob(z) - prior.log_prob(z)


def _short_time(q: Any, prior: ManifoldDistribution, z: Tensor) -> Tensor:
    if not isinstance(q, HeatKernel):
        raise NotImplementedError(
            f"divergence = 'short-time' is the heat kernel's; {q!r} has its own, or none: take "
            "HeatKernel or RandomWalk as the posterior"
        )
    return heat.kl_asymptotic(q.manifold, q.loc, q.time, allow_inaccurate=True)


#: The KL term of the loss, from the law, the prior and a sample.
DIVERGENCES: dict[str, Callable[[Any, Any, Tensor], Tensor]] = {
    "exact": _exact,
    "sampled": _sampled,
    "short-time": _short_time,
}


def known_divergence(manifold: Manifold, posterior: Callable[..., ManifoldDistribution]) -> str:
    """The first of ``DIVERGENCES`` that there is for a law on M, tried at one point.

    Where the exact one is an integral at every point, as on some quotients, ``"sampled"`` comes
    before it: a step of training would take seconds.

    Arguments:
        posterior: maps ``(M, loc, time)`` to a law, as in ``DeltaVAE``.

    Raises:
        NotImplementedError: if there is none; the reason is that of the last.
    """
    z = manifold.base_point()
    q = posterior(manifold, z, torch.full(manifold.time_shape, 0.01)).limit
    quick = heat.is_quick(manifold)
    *first, last = DIVERGENCES if quick else ("sampled", "exact", "short-time")
    for name in first:
        try:
            DIVERGENCES[name](q, manifold.default_prior(), z)
        except NotImplementedError:
            continue
        return name
    DIVERGENCES[last](q, manifold.default_prior(), z)
    return last
