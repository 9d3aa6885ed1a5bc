"""Where training of a ΔVAE begins, as its configuration says."""

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from manifold_ae import manifolds
from manifold_ae.data import Dataset
from manifold_ae.data.seeding import generator_for
from manifold_ae.experiments import VAE
from manifold_ae.models import (
    DeltaVAE,
    LatentFree,
    begin_at,
    check_arranges,
    components_locations,
    has_arrangement,
    spread_locations,
)
from manifold_ae.models.likelihoods import Likelihood

__all__ = ["STARTED", "check_start", "resolved_start", "starter"]

#: Training rows that a start from the data looks at, about.
STARTED = 2000
#: Nats an observation, to which the model without a latent is fitted that a decoder begins at.
ROUGHLY = 1e-2


def starter(
    config: VAE,
    build: Callable[[VAE], DeltaVAE],
    batch: Callable[[], Tensor | Mapping[str, Tensor]],
) -> Callable[[VAE], DeltaVAE]:
    """``build``, or with another ``start`` than ``"random"`` what begins from the data after it.

    Arguments:
        build: the untrained model of a configuration.
        batch: all training rows, scaled, as the model is called with them.
    """
    if config.start == "random":
        return build
    rows = batch()
    given = {"x": rows} if isinstance(rows, Tensor) else dict(rows)
    stride = max(1, len(given["x"]) // STARTED)
    given = {name: value[::stride].cpu() for name, value in given.items()}
    x = given.pop("x")
    exposure = given.get("exposure")
    floor = LatentFree(build(config).likelihood).fit(x, exposure, tolerance=ROUGHLY)

    def begun(config: VAE) -> DeltaVAE:
        model = build(config)
        generator = generator_for(config.start, config.seed)
        encode = functools.partial(model.posterior, x, **given)
        if config.start == "spread":
            spread_locations(model, encode, generator=generator)
        else:
            numbers = _explained_by_latents(model.likelihood, x, **given)
            components_locations(model, numbers, encode, generator=generator)
        begin_at(model, floor)
        return model

    return begun


def _explained_by_latents(
    likelihood: Likelihood,
    x: Tensor,
    covariates: Tensor | None = None,
    exposure: Tensor | None = None,
    **_: Tensor,
) -> Tensor:
    """The numbers of x ``(n, k)`` of which components are taken: those of rates where there is an
    exposure, and less what is linear in covariates, as neither is the latents'.
    """
    if exposure is not None:
        x = x / exposure.reshape(-1, *[1] * (x.dim() - 1))
    numbers = likelihood.seen_rows(x).double()
    if covariates is None:
        return numbers
    beside = torch.cat([covariates.double(), torch.ones(len(x), 1, dtype=torch.float64)], 1)
    left = numbers - beside @ torch.linalg.lstsq(beside, numbers, driver="gelsd").solution
    gaps = x.isnan().flatten(1)
    return left.masked_fill(gaps.repeat(1, left.shape[1] // gaps.shape[1]), 0.0)


def resolved_start(config: VAE, dataset: Dataset) -> str:
    """Where encoders begin: with ``"auto"`` as the data's own says, where there is such a start."""
    if config.start != "auto":
        return config.start
    suits = config.network != "circular" and has_arrangement(manifolds.parse(config.manifold))
    x = dataset.train.flatten(1)
    # Rows that are all alike have no components.
    varies = bool(((x != x[:1]) & ~x.isnan() & ~x[:1].isnan()).any())
    return dataset.default_start if suits and varies else "random"


def check_start(config: VAE) -> None:
    """Refuse a start that the manifold does not have.

    Raises:
        ValueError: as ``models.components.check_arranges`` does.
    """
    if config.start == "components":
        check_arranges(manifolds.parse(config.manifold))
