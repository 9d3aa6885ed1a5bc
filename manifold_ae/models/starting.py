r"""A start from the data: locations spread over the manifold, means in the middle of the data.

An untrained perceptron sends all observations to nearly one direction, since their common mean
outweighs what tells them apart; on a circle, say, the encoder then has winding zero, and training
may never mend that. Here the numbers that ``from_features`` makes a point of are chosen as

    f(x) = Qᵀ Λ^{−1/2} Uᵀ (h(x) − h̄),

with h the encoder's features, h̄ their mean, U and Λ the k leading eigenvectors and eigenvalues of
their covariance over the data, and Q a random rotation of ℝᵏ. So they have mean zero and the unit
as covariance: a loop of data winds about the origin as a rule, and no direction is preferred.

The decoder begins at the model without a latent, with the output that fits all data best as the
bias of its last layer. While it has yet to learn the mean of the data, the latent is only noise to
it, and the posterior's time may grow until nothing is left of the latent. A feature that does not
vary in the data begins with the bias alone: its fitted noise is tiny, and under it random weights
would outweigh all that the others tell.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from manifold_ae.models.latent_free import LatentFree

__all__ = ["begin_at", "features_of", "spread_locations"]

#: Of the largest eigenvalue: what lies below is rounding, and is not blown up.
LEAST = 1e-6


@torch.no_grad()
def spread_locations(
    model: Any, encode: Callable[[], Any], *, generator: torch.Generator | None = None
) -> None:
    """Set a model's location head so that, over the data, locations are spread; in place.

    Arguments:
        model: a ``DeltaVAE`` whose head reads the location from features.
        encode: calls the encoder and the head on the data, as ``lambda: model.posterior(x)``.
        generator: of the random rotation.

    Raises:
        ValueError: if the encoder gives the place itself, or there are fewer than two rows.
    """
    h = features_of(model, encode)
    weight, k = model.head.linear.weight, model.head.sizes[0]
    mean = h.mean(0)
    values, vectors = torch.linalg.eigh((h - mean).T @ (h - mean) / len(h))
    values, vectors = values.flip(0)[:k], vectors.flip(1)[:, :k]
    scale = (values > LEAST * values[0]) / values.clamp_min(LEAST * values[0]).sqrt()
    scale = scale.nan_to_num(0.0, 0.0, 0.0)
    turn = _rotation(k, generator).to(h)[: len(values)]
    rows = (vectors * scale @ turn).T
    weight[:k] = rows.to(weight)
    model.head.linear.bias[:k] = -(rows @ mean).to(weight)


@torch.no_grad()
def features_of(model: Any, encode: Callable[[], Any]) -> Tensor:
    """What a model's head reads the location of the data from, ``(n, f)``, float64.

    Raises:
        ValueError: if the encoder gives the place itself, or there are fewer than two rows.
    """
    if model.head.given:
        raise ValueError(
            f"{type(model.encoder).__name__} gives the place itself: it has no start from the data"
        )
    seen: list[Tensor] = []
    hook = model.head.linear.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        encode()
    finally:
        hook.remove()
    h = seen[0].flatten(0, -2).double()
    if len(h) < 2:
        raise ValueError(f"{len(h)} row(s): expected at least two, that have a spread")
    return h


@torch.no_grad()
def begin_at(model: Any, floor: LatentFree) -> None:
    """Let a model's output begin at that of a model without a latent, and its likelihood too.

    Weights of features that do not vary in what that model was fitted to begin at zero.

    Arguments:
        model: a ``DeltaVAE`` with the same likelihood.
    """
    weight, bias = model.output.linear.weight, model.output.linear.bias
    # Of a picture's layer the bias is that of all pixels of a channel.
    values = floor.output.reshape(len(bias), -1).mean(1)
    bias.copy_(values.to(bias))
    varies = floor.varies.expand(floor.output.shape).reshape(len(bias), -1).any(1)
    weight[~varies.to(weight.device)] = 0.0
    model.likelihood.load_state_dict(
        {name: value.to(bias.dtype) for name, value in floor.likelihood.state_dict().items()}
    )


def _rotation(k: int, generator: torch.Generator | None) -> Tensor:
    """A random orthogonal matrix, by the law of Haar up to signs."""
    q, r = torch.linalg.qr(torch.randn(k, k, dtype=torch.float64, generator=generator))
    return q * r.diagonal().sign()
