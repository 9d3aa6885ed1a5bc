"""What can be run, as plain frozen dataclasses."""

from manifold_ae.experiments.vae import DIVERGENCES, POSTERIORS, VAE

__all__ = ["DIVERGENCES", "POSTERIORS", "VAE"]
