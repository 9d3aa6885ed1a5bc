"""What can be run, as plain frozen dataclasses."""

from manifold_ae.experiments.vae import POSTERIORS, VAE

__all__ = ["POSTERIORS", "VAE"]
