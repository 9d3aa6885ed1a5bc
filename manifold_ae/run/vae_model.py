"""What a configuration of a ΔVAE means: its posterior, its divergence, its untrained model."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from manifold_ae import data, heat, manifolds
from manifold_ae.data import Dataset
from manifold_ae.data.seeding import mix
from manifold_ae.distributions import HeatKernel, PowerSpherical, RandomWalk, WrappedNormal
from manifold_ae.experiments import DATA_OPTIONS, VAE
from manifold_ae.models import (
    BrownianPrior,
    DeltaVAE,
    ImportanceWeightedVAE,
    encoder_shape,
    known_divergence,
    likelihoods,
)
from manifold_ae.run.networks import build_networks
from manifold_ae.run.starting import resolved_start

__all__ = ["build_model", "load_data", "posterior_of", "resolve", "resolved_divergence"]

#: Fields that say what is known beside the values; passed on where they are set.
BESIDE = ("covariates", "exposure", "groups", "times", "labels")


def load_data(config: VAE) -> Dataset:
    """The data that a configuration names."""
    options = {name: getattr(config, name) for name in DATA_OPTIONS.get(config.data, ())}
    options |= {name: v for name in BESIDE if (v := getattr(config, name)) is not None}
    if config.missing != "refuse":
        options["missing"] = config.missing
    return data.load(
        config.data,
        data_dir=config.data_dir,
        split=config.split,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
        **options,
    )


def resolve(config: VAE, dataset: Dataset) -> VAE:
    """The configuration with every ``"auto"`` that depends on the data replaced."""
    name = dataset.default_likelihood if config.likelihood == "auto" else config.likelihood
    likelihood = likelihoods.named(name, dataset.shape)
    if dataset.missing == "mask":  # given in memory, where the configuration says nothing of it
        config = config.replace(missing="mask")
    scaling = config.scaling
    if scaling == "auto":
        own = None if likelihood.as_is else dataset.default_scaling
        scaling = own or likelihood.default_scaling
    if likelihood.as_is and scaling != "none":
        unit = "counts" if likelihood.counts else "angles"
        raise ValueError(f"scaling = {scaling!r}: likelihood {name!r} needs the {unit} as is")
    if likelihood.counts:
        columns = () if dataset.columns is None else dataset.columns.features
        for part in ("train", "test"):
            data.check_counts(
                getattr(dataset, part),
                dataset.name,
                missing=config.missing,
                rows=getattr(dataset, f"{part}_rows"),
                columns=columns,
            )
    posterior = config.posterior
    if posterior == "auto":
        exact = heat.has_sampler(manifolds.parse(config.manifold))
        posterior = "heat-kernel" if exact else "random-walk"
    schedule = config.lr_schedule
    if schedule == "auto":
        schedule = "constant" if dataset.draw is None else "one-cycle"
    start = resolved_start(config, dataset)
    config = config.replace(
        likelihood=name, scaling=scaling, posterior=posterior, start=start, lr_schedule=schedule
    )
    return config.replace(divergence=resolved_divergence(config))


def posterior_of(config: VAE) -> Callable[..., Any]:
    """The law that a configuration names, as ``DeltaVAE`` takes it."""
    posteriors: dict[str, Callable[..., Any]] = {
        "heat-kernel": HeatKernel,
        "random-walk": functools.partial(RandomWalk, steps=config.walk_steps),
        "power-spherical": PowerSpherical,
        "wrapped-normal": WrappedNormal,
    }
    return posteriors[config.posterior]


def resolved_divergence(config: VAE) -> str:
    """The KL term of the loss: that of the configuration, or the first that there is."""
    if config.divergence != "auto":
        return config.divergence
    return known_divergence(manifolds.parse(config.manifold), posterior_of(config))


def build_model(
    config: VAE,
    event_shape: tuple[int, ...],
    covariates: int = 0,
    exposure: bool = False,
    *,
    unit: float = 1.0,
) -> DeltaVAE:
    """An untrained model; its initial weights are a function of ``config.seed``.

    Arguments:
        covariates: how many there are.
        exposure: whether observations come with one.
        unit: the usual time between rows, for a prior along time; kept with the weights.
    """
    manifold = manifolds.parse(config.manifold)
    posterior = posterior_of(config)
    # A law that does not live on the manifold says so now.
    posterior(manifold, manifold.base_point(), torch.ones(manifold.time_shape))
    count = config.num_importance
    kind = (
        DeltaVAE if count == 1 else functools.partial(ImportanceWeightedVAE, num_importance=count)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("weights", config.seed))
        likelihood = likelihoods.named(
            config.likelihood, event_shape, masks=config.missing == "mask"
        )
        seen = encoder_shape(likelihood, covariates, exposure)
        latents = manifold.embedding_size + covariates
        return kind(
            manifold,
            *build_networks(config, event_shape, latents, seen=seen),
            posterior=posterior,
            likelihood=likelihood,
            # Runs of before there was a choice say nothing.
            divergence=resolved_divergence(config),
            covariates=covariates,
            exposure=exposure,
            time_bound=config.time_bound,
            initial_time=config.initial_time,
            motion=BrownianPrior(manifold, unit=unit) if config.sequence else None,
        )
