"""What is trained: models, and the observation models that they share."""

from manifold_ae.models import likelihoods
from manifold_ae.models.delta_vae import DeltaVAE, known_divergence

__all__ = ["DeltaVAE", "known_divergence", "likelihoods"]
