r"""Features that are held out of a row, predicted from the others (co-smoothing).

With points y_k that cover M evenly, and x = (a, b) the features that are seen and held out,

    w_k ∝ p(a | y_k) p(y_k),    log p(b | a) = log Σ_k w_k p(b | y_k),
    E[b | a] = Σ_k w_k E[b | y_k].

The encoder, which takes whole rows, has no part in it. A model that has learned where a row is
predicts what it has not seen; one that has learned rows by heart does not.

References:
    F. Pei, J. Ye, D. Zoltowski et al., *Neural Latents Benchmark '21*, 2021,
    https://arxiv.org/abs/2109.04463
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from manifold_ae.models.delta_vae import DeltaVAE
from manifold_ae.models.lattices import lattice
from manifold_ae.numerics import in_parts

__all__ = ["HeldOut", "predict_held_out"]

#: Values of log p that are held at once.
ELEMENTS = 2**22


@dataclass(frozen=True)
class HeldOut:
    """What the rest of a row says of its held-out features.

    Attributes:
        log_prob: log p(b | a) ``(n,)``, in nats.
        mean: E[b | a] ``(n, held)``.
    """

    log_prob: Tensor
    mean: Tensor


@torch.no_grad()
def predict_held_out(
    model: DeltaVAE, x: Tensor, held: Tensor, *, points: int | None = None, **given: Tensor
) -> HeldOut:
    """Predict the held-out features of observations x ``(n, *event_shape)`` from their others.

    Arguments:
        held: which features are held out, booleans ``event_shape``.
        points: of the manifold; by default as many as ``models.lattice`` takes.
        given: covariates ``(n, c)`` and exposure ``(n,)``, where the model takes them.

    Missing values neither tell of the others nor count in ``log_prob``; they have a mean.

    Raises:
        ValueError: if none or all of the features are held out, or shapes do not fit.
    """
    shape = model.likelihood.event_shape
    if held.dtype != torch.bool or tuple(held.shape) != shape or held.all() or not held.any():
        raise ValueError(
            f"held has shape {tuple(held.shape)}, dtype {held.dtype} and {int(held.sum())} "
            f"features: expected booleans of shape {shape}, of which some are True and some are not"
        )
    z = lattice(model.manifold, points).points.to(x)
    held = held.flatten().to(x.device)
    prior = model.prior.log_prob(z).unsqueeze(1)
    rows = max(1, ELEMENTS // (len(z) * math.prod(shape)))
    log_probs, means = [], []
    for part, own in in_parts(rows, x, given):
        covariates = own.get("covariates")
        if covariates is None:
            output = model._output(z).unsqueeze(1)
        else:
            wide = z.unsqueeze(1).expand(-1, len(part), *z.shape[1:])
            output = model._output(wide, covariates.expand(len(z), *covariates.shape))
        exposure = own.get("exposure")
        gaps = part.isnan()
        terms = model.likelihood.terms(output, part.masked_fill(gaps, 0.0), exposure)
        terms = terms.masked_fill(gaps, 0.0).flatten(2).double()  # (points, rows, features)
        seen = terms[..., ~held].sum(-1) + prior
        log_weights = seen - seen.logsumexp(0)
        log_probs.append((log_weights + terms[..., held].sum(-1)).logsumexp(0))
        mean = model.likelihood.mean(output, exposure).flatten(2)[..., held].double()
        means.append((log_weights.exp().unsqueeze(-1) * mean).sum(0))
    return HeldOut(torch.cat(log_probs), torch.cat(means))
