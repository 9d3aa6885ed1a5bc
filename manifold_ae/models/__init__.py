"""What is trained: models, and the observation models that they share."""

from manifold_ae.models import likelihoods, transitions
from manifold_ae.models.conditioning import encoder_shape
from manifold_ae.models.delta_vae import DeltaVAE
from manifold_ae.models.diffusion import DiffusionModel
from manifold_ae.models.divergences import known_divergence
from manifold_ae.models.homomorphism import HomomorphismAutoencoder
from manifold_ae.models.importance import ImportanceWeightedVAE
from manifold_ae.models.one_step import ElementStep, OneStep, PointStep

__all__ = [
    "DeltaVAE",
    "DiffusionModel",
    "ElementStep",
    "HomomorphismAutoencoder",
    "ImportanceWeightedVAE",
    "OneStep",
    "PointStep",
    "encoder_shape",
    "known_divergence",
    "likelihoods",
    "transitions",
]
