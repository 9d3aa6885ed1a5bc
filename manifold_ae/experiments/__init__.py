"""What can be run, as plain frozen dataclasses."""

from manifold_ae.experiments.vae import VAE

__all__ = ["VAE"]
