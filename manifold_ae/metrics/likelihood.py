"""ELBO, KL, reconstruction error and log-likelihood of a ΔVAE on held-out data."""

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from manifold_ae.numerics import in_parts

__all__ = ["evaluate_bound"]

#: Posterior samples in all, below which small data are gone through repeatedly for the ELBO.
ELBO_SAMPLES = 20_000


class _Model(Protocol):
    """``elbo(x, generator=, **given)`` and ``log_likelihood(x, num_samples, generator=, **given)``,
    as ``DeltaVAE`` has them."""

    @property
    def elbo(self) -> Callable[..., dict[str, Tensor]]: ...
    @property
    def log_likelihood(self) -> Callable[..., Tensor]: ...


@torch.no_grad()
def evaluate_bound(
    model: _Model,
    x: Tensor,
    *,
    given: Mapping[str, Tensor] | None = None,
    num_samples: int = 100,
    batch_size: int = 500,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Means over the observations x, of shape ``(n, *event_shape)``, and standard errors.

    ``elbo``, ``kl`` and ``mse`` come from the model's own ``elbo``: from the exact posterior where
    it can be sampled, so that with an exact KL the ELBO is a bound however the model was trained.
    ``log_likelihood`` is the importance-sampled estimate from ``num_samples`` samples. ``elbo_se``
    and ``log_likelihood_se`` are standard errors over the observations, of which a single one has
    none. Further terms of ``elbo`` are averaged likewise.

    Arguments:
        given: what else is known of the observations, ``covariates`` and ``exposure``, a row each.
    """
    if len(x) == 0:
        raise ValueError("x is empty: there is nothing to evaluate")
    repeats = min(50, max(1, math.ceil(ELBO_SAMPLES / len(x))))
    collected: dict[str, list[Tensor]] = {}
    bar = tqdm(total=len(x), desc="evaluating", unit="row", disable=not progress, leave=False)
    for batch, more in in_parts(batch_size, x, given):
        rounds = [model.elbo(batch, generator=generator, **more) for _ in range(repeats)]
        for name in rounds[0]:
            mean = torch.stack([terms[name] for terms in rounds]).double().mean(0)
            collected.setdefault(name, []).append(mean)
        estimate = model.log_likelihood(batch, num_samples, generator=generator, **more)
        collected.setdefault("log_likelihood", []).append(estimate.double())
        bar.update(len(batch))
    bar.close()
    values = {name: torch.cat(parts) for name, parts in collected.items()}
    result = {name: value.mean().item() for name, value in values.items()}
    for name in ("elbo", "log_likelihood") if len(x) > 1 else ():
        result[f"{name}_se"] = values[name].std().item() / math.sqrt(len(x))
    return result
