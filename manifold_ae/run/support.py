"""Whether observations are such that a likelihood has a meaning for them."""

from torch import Tensor

from manifold_ae import data
from manifold_ae.models.likelihoods import Likelihood

__all__ = ["check_support"]


def check_support(likelihood: Likelihood, x: Tensor, name: str, way: str) -> None:
    """Refuse observations, as the model sees them, that the likelihood gives no meaning to.

    Arguments:
        name: what they are called where something is wrong with them.
        way: how to put it right.

    Raises:
        ValueError: if values lie outside the support, or are no counts where counts are needed.
    """
    if likelihood.support is not None and x.numel():
        low, high = likelihood.support
        least, most = x.min().item(), x.max().item()
        if least < low or most > high:
            raise ValueError(
                f"{name} run from {least:.4g} to {most:.4g}: likelihood {likelihood.name!r} takes "
                f"{low:g} to {high:g}; {way}"
            )
    if likelihood.counts:
        data.check_counts(x, name)
