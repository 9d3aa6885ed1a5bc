"""Whether observations are such that a likelihood has a meaning for them."""

import torch
from torch import Tensor

from manifold_ae import data
from manifold_ae.models.likelihoods import Likelihood

__all__ = ["check_observed", "check_support"]


def check_support(likelihood: Likelihood, x: Tensor, name: str, way: str) -> None:
    """Refuse observations, as the model sees them, that the likelihood gives no meaning to.

    Arguments:
        name: what they are called where something is wrong with them.
        way: how to put it right.

    Raises:
        ValueError: if values lie outside the support, or are no counts where counts are needed.
    """
    known = x[~torch.isnan(x)] if likelihood.masks else x
    if likelihood.support is not None and known.numel():
        low, high = likelihood.support
        least, most = known.min().item(), known.max().item()
        if least < low or most > high:
            raise ValueError(
                f"{name} run from {least:.4g} to {most:.4g}: likelihood {likelihood.name!r} takes "
                f"{low:g} to {high:g}; {way}"
            )
    if likelihood.counts:
        data.check_counts(x, name, missing="mask" if likelihood.masks else "refuse")


def check_observed(x: Tensor, name: str) -> None:
    """Refuse rows of which nothing is observed: there is nothing to place them by.

    Arguments:
        x: ``(n, *shape)``, NaN for what is missing.

    Raises:
        ValueError: if there are such rows; names the first.
    """
    empty = torch.isnan(x).flatten(1).all(1)
    if empty.any():
        raise ValueError(
            f"{name} has {int(empty.sum())} row(s) of which nothing is observed, the first is row "
            f"{int(empty.nonzero()[0])}: nothing tells where they lie but the prior; leave them out"
        )
