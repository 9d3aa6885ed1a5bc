"""What can be run, as plain frozen dataclasses."""

from manifold_ae.experiments.config import COURSES, NETWORKS, PADDINGS, Configuration
from manifold_ae.experiments.diffusion import SCHEDULES, Diffusion
from manifold_ae.experiments.hae import HAE, MODELS, OF_WORLDS, PHIS
from manifold_ae.experiments.select import Select
from manifold_ae.experiments.vae import (
    DATA_OPTIONS,
    DIVERGENCES,
    POSTERIORS,
    SPLITS,
    STARTS,
    VAE,
)

__all__ = [
    "COURSES",
    "DATA_OPTIONS",
    "DIVERGENCES",
    "HAE",
    "MODELS",
    "NETWORKS",
    "OF_WORLDS",
    "PADDINGS",
    "PHIS",
    "POSTERIORS",
    "SCHEDULES",
    "SPLITS",
    "STARTS",
    "VAE",
    "Configuration",
    "Diffusion",
    "Select",
]
