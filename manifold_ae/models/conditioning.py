"""What is known of an observation beside its values, where the networks see it.

Covariates are numbers that move an observation and are no latent: a batch, a speed, a gain. The
decoder sees them behind the embedded latent, p(x | z, c); so does the encoder, q(z | x, c), for the
place has to be read from x at another gain. An exposure multiplies the rates; the encoder sees its
logarithm, by which it knows how much the counts weigh.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from manifold_ae.models.likelihoods import Likelihood

__all__ = ["encoder_shape", "extended", "known"]


def encoder_shape(
    likelihood: Likelihood, covariates: int = 0, exposure: bool = False
) -> tuple[int, ...]:
    """The shape of what the encoder of a ``DeltaVAE`` sees of one observation.

    That of ``likelihood.encoder_input``, and with it c further numbers, one for each covariate and
    one for the exposure: at the end of a vector, or as further channels, constant, of a picture.

    Example:
        >>> from manifold_ae.models import likelihoods
        >>> encoder_shape(likelihoods.Poisson(30), covariates=2, exposure=True)
        (33,)
        >>> encoder_shape(likelihoods.Gaussian((28, 28)), covariates=2)
        (3, 28, 28)
    """
    shape, more = likelihood.input_shape, covariates + exposure
    if more == 0:
        return shape
    if len(shape) < 2:
        return ((shape[0] if shape else 1) + more,)
    channels, *size = shape if len(shape) > 2 else (1, *shape)
    return (channels + more, *size)


def extended(x: Tensor, shape: Sequence[int], numbers: Sequence[Tensor]) -> Tensor:
    """x ``(*, *shape)`` with further numbers ``(*, k)``, as ``encoder_shape`` says."""
    if not numbers:
        return x
    more = torch.cat([*numbers], -1)
    if len(shape) < 2:
        return torch.cat([x if shape else x.unsqueeze(-1), more], -1)
    size = shape if len(shape) == 2 else shape[1:]
    planes = more[(..., *(None,) * len(size))].expand(*more.shape, *size)
    return torch.cat([x.unsqueeze(-3) if len(shape) == 2 else x, planes], -len(size) - 1)


def known(covariates: Tensor | None, count: int, batch: Sequence[int]) -> list[Tensor]:
    """Covariates as a list of one tensor ``(*batch, count)``, or of none where the model has none.

    Raises:
        ValueError: if they are not given to a model that has some, or to one that has none, or are
            not so many.
    """
    if covariates is None and count == 0:
        return []
    if covariates is None:
        raise ValueError(
            f"this model has {count} covariate(s), and none are given: pass covariates= of shape "
            f"(n, {count})"
        )
    if count == 0:
        raise ValueError(
            f"covariates of shape {tuple(covariates.shape)}: this model has none; build it with "
            "DeltaVAE(..., covariates=c)"
        )
    if covariates.dim() < 1 or covariates.shape[-1] != count:
        raise ValueError(
            f"covariates of shape {tuple(covariates.shape)}: expected (n, {count}), for this model "
            f"has {count}"
        )
    return [covariates.expand(*batch, count)]
