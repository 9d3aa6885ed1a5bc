"""What can be run, as plain frozen dataclasses."""

from manifold_ae.experiments.config import Configuration
from manifold_ae.experiments.hae import HAE
from manifold_ae.experiments.vae import DIVERGENCES, POSTERIORS, VAE

__all__ = ["DIVERGENCES", "HAE", "POSTERIORS", "VAE", "Configuration"]
