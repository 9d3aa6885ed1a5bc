"""What a scientist should be told of a run: few samples, a likelihood that looks wrong."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from manifold_ae import manifolds
from manifold_ae.data import Dataset, Scaling
from manifold_ae.experiments import VAE
from manifold_ae.models.heads import TIME_RANGE
from manifold_ae.models.refinement import can_refine

__all__ = ["before", "say", "verdict"]

#: Rows for each dimension of the latent space, from which simulated cells on a ring or a torus were
#: decoded nearly as well as by the ideal observer, and regions held what they say or little less;
#: from 100 on a torus they held 77 % for 90 % (docs/results/decoding.md).
ROWS_PER_DIMENSION = 500
#: Σ (x − μ)²/Σ Var(x | z) above which counts are called overdispersed.
DISPERSED = 1.5
#: Nats of the KL below which a latent tells next to nothing of a row.
EMPTY = 0.05
#: How near to the shortest time there is the mean log t may be.
PINNED = 0.5

#: Standard deviations beyond which a value is an outlier, whatever else the law of its feature.
FAR = 20.0
#: Rows, or a few more, from which the spread of a feature is told.
LOOKED_AT = 10_000

_LOGGER = logging.getLogger("manifold_ae")


def before(config: VAE, dataset: Dataset) -> list[str]:
    """What can be told before training, a sentence or two each.

    Arguments:
        config: resolved: with the likelihood that will be used.
        dataset: with the rows that will be trained on.
    """
    found = [
        few_rows(config, dataset),
        unlike_counts(config, dataset),
        outliers(config, dataset),
    ]
    return [line for line in found if line]


def few_rows(config: VAE, dataset: Dataset) -> str:
    """Words for fewer training rows than the latent space's dimension asks for; else none."""
    manifold = manifolds.parse(config.manifold)
    wanted = ROWS_PER_DIMENSION * manifold.dim
    if dataset.draw is not None or len(dataset.train) >= wanted:
        return ""
    return (
        f"{len(dataset.train)} rows to train on are few for {config.manifold} (dimension "
        f"{manifold.dim}): below about {wanted}, networks learn noise by heart, and regions hold "
        "less than they say; compare with principal components, and try --patience 20"
        + (
            "; encode --refined says better where rows are and how sure that is"
            if can_refine(manifold)
            else ""
        )
    )


def unlike_counts(config: VAE, dataset: Dataset) -> str:
    """Words for counts under a likelihood for real numbers; else none.

    Counts are rows of features (pictures have integers too), whole and at least 0, of more than two
    values.
    """
    x = dataset.train
    if len(dataset.shape) != 1 or not config.likelihood.startswith(("gaussian", "student")):
        return ""
    if dataset.default_scaling is not None or not look_like_counts(x):
        return ""
    return (
        f"all values are whole numbers of at least 0, as counts are, and the likelihood is "
        f"{config.likelihood!r}: of counts, --likelihood poisson or negative-binomial finds the "
        "shape where a Gaussian may not"
    )


def outliers(config: VAE, dataset: Dataset) -> str:
    """Words for values far from all others of their feature under a Gaussian; else none."""
    gaussian = config.likelihood.startswith("gaussian")
    if not gaussian or config.scaling not in ("standard", "robust"):
        return ""
    # Not by the standard deviation, which outliers set.
    # Of a feature that is hardly ever seen, a part of the rows may hold nothing.
    step = 1 if config.missing == "mask" else 1 + len(dataset.train) // LOOKED_AT
    scaling = Scaling.fit("robust", dataset.train[::step], missing=config.missing)
    sizes = scaling.apply(dataset.train).abs().nan_to_num(0.0)
    largest = sizes.max().item()
    if largest <= FAR:
        return ""
    number = int((sizes > FAR).sum())
    return (
        f"{number} value(s) to train on lie more than {FAR:.0f} standard deviations, as their "
        f"quartiles tell them, from the median of their feature, the farthest {largest:.3g}: under "
        "a Gaussian such outliers outweigh all other values; take --likelihood student-t, or, if "
        "they are mistakes, make them NaN and take --missing mask"
    )


def look_like_counts(x: Tensor) -> bool:
    """Whether values are whole, at least 0, and more than zeros and ones."""
    known = x[~torch.isnan(x)]
    whole = bool(((known >= 0) & (known == known.floor())).all())
    return whole and known.numel() > 0 and known.max().item() > 1


def verdict(config: VAE, metrics: Mapping[str, Any]) -> list[str]:
    """What the metrics of a trained model tell of its latents and of its likelihood."""
    return [*no_bound(config), *_latents_and_likelihood(config, metrics)]


def no_bound(config: VAE) -> list[str]:
    """Words for an ELBO with the short-time formula in the place of its KL; else none."""
    if config.divergence != "short-time":
        return []
    limit = manifolds.parse(config.manifold).short_time_limit
    return [
        "the KL is by the short-time formula, and with it the ELBO is no bound of the "
        f"log-likelihood: the formula holds up to times of {limit:.2g} (log t = "
        f"{math.log(limit):.2g}); compare models by log_likelihood"
    ]


def _latents_and_likelihood(config: VAE, metrics: Mapping[str, Any]) -> list[str]:
    if metrics.get("kl", math.inf) < EMPTY:
        return [
            f"the KL is {metrics['kl']:.2g} nats: latents carry no information, and where a row is "
            "placed means nothing; train longer or with a larger --kl-warmup, or look whether "
            "there is structure at all by `manifold-ae select`"
        ]
    shortest = math.log(TIME_RANGE[0])
    if config.time_bound == "soft" and metrics.get("mean_log_time", 0.0) < shortest + PINNED:
        return [
            "posteriors are as narrow as they can be (mean log t = "
            f"{metrics['mean_log_time']:.3g}, of {shortest:.3g} or more): the encoder is sure of "
            "places that the data may not tell; train with --lr-schedule one-cycle, or a smaller "
            "--lr"
        ]
    dispersion = metrics.get("dispersion", math.nan)
    if not dispersion > DISPERSED:
        return []
    if config.likelihood == "poisson":
        law, way = "a Poisson law", "--likelihood negative-binomial learns by how much"
    else:
        law, way = "their law", "it may not be trained to the end"
    return [
        f"counts vary {dispersion:.2g} times as much about the decoded means as {law} has it "
        f"(the variance of residuals over the expected one): {way}; or the latent space is too "
        "small for what moves them, or folded, and a run with --restarts 8 ends higher"
    ]


def say(lines: list[str]) -> None:
    """Warn, on standard error unless logging is set up otherwise."""
    for line in lines:
        _LOGGER.warning("warning: %s", line)
