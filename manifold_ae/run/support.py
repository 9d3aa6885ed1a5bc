"""Whether observations have a meaning for a likelihood; and which are none at all."""

import torch
from torch import Tensor

from manifold_ae import data
from manifold_ae.data import Dataset
from manifold_ae.models.likelihoods import Likelihood

__all__ = ["check_observed", "check_support", "clocks"]

#: Rows, from which values that rise all through do so by no chance.
LONG = 20


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


def clocks(dataset: Dataset) -> list[str]:
    """Words for features that rise from row to row all through, as time stamps and numbers of rows.

    They would be learned as data, and the recording would seem to be a line.
    """
    if len(dataset.shape) != 1 or len(dataset.train) + len(dataset.test) < LONG:
        return []
    order = torch.cat([dataset.train_rows, dataset.test_rows]).argsort()
    x = torch.cat([dataset.train, dataset.test])[order]
    rising = (x[1:] > x[:-1]).all(0).nonzero().flatten().tolist()
    if not rising:
        return []
    names = () if dataset.columns is None else dataset.columns.features
    which = ", ".join(repr(names[k]) if names else str(k) for k in rising)
    way = "name it by --times" if names else "leave it out of the array"
    return [
        f"feature {which} rises from row to row all through, as time stamps and numbers of rows "
        f"do, and is taken for data: if it is no value, {way}"
    ]
