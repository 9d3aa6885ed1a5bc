"""What is trained: models, and the observation models that they share."""

from manifold_ae.models import likelihoods, transitions
from manifold_ae.models.delta_vae import DeltaVAE, known_divergence
from manifold_ae.models.diffusion import DiffusionModel
from manifold_ae.models.homomorphism import HomomorphismAutoencoder
from manifold_ae.models.one_step import ElementStep, OneStep, PointStep

__all__ = [
    "DeltaVAE",
    "DiffusionModel",
    "ElementStep",
    "HomomorphismAutoencoder",
    "OneStep",
    "PointStep",
    "known_divergence",
    "likelihoods",
    "transitions",
]
