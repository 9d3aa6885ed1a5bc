"""Observation models p(x | z): what the decoder's output means.

The choice decides what is learned. A Gaussian of unit variance on pictures in [0, 1] sees only
structure that moves the picture by more than one unit in all; counts look different under a
Poisson law than under a Gaussian one, and angles have no mean that a Gaussian could find. Each
model owns the shape of its output layer, gives log-probabilities in nats with every constant,
summed over what was observed of an event, and names the scaling of the data that suits it.
"""

from collections.abc import Sequence

from manifold_ae.models.likelihoods.base import Likelihood
from manifold_ae.models.likelihoods.binary import Bernoulli
from manifold_ae.models.likelihoods.circular import VonMises
from manifold_ae.models.likelihoods.counts import NegativeBinomial, Poisson
from manifold_ae.models.likelihoods.real import Gaussian, LearnedGaussian, StudentT

__all__ = [
    "Bernoulli",
    "Gaussian",
    "LearnedGaussian",
    "Likelihood",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
    "VonMises",
    "named",
    "names",
]

_LIKELIHOODS: dict[str, type[Likelihood]] = {
    kind.name: kind
    for kind in (
        Gaussian, LearnedGaussian, StudentT, Bernoulli, Poisson, NegativeBinomial, VonMises
    )
}  # fmt: skip


def names() -> dict[str, str]:
    """Names on the command line, with a line on each."""
    return {name: (kind.__doc__ or "").splitlines()[0] for name, kind in _LIKELIHOODS.items()}


def named(name: str, event_shape: int | Sequence[int], *, masks: bool = False) -> Likelihood:
    """The likelihood of that name, for events of the given shape.

    Arguments:
        masks: whether values may be missing; see ``Likelihood``.

    Raises:
        ValueError: if there is none; the message lists those that there are.
    """
    if name not in _LIKELIHOODS:
        raise ValueError(f"no likelihood {name!r}; there are {', '.join(_LIKELIHOODS)}")
    return _LIKELIHOODS[name](event_shape, masks=masks)
