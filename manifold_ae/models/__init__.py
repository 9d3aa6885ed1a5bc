"""What is trained: models, and the observation models that they share."""

from manifold_ae.models import likelihoods
from manifold_ae.models.delta_vae import DeltaVAE

__all__ = ["DeltaVAE", "likelihoods"]
