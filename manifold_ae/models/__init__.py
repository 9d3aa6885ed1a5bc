"""What is trained: models, and the observation models that they share."""

from manifold_ae.models import likelihoods, transitions
from manifold_ae.models.components import (
    arranged,
    check_arranges,
    components_locations,
    has_arrangement,
)
from manifold_ae.models.conditioning import encoder_shape
from manifold_ae.models.delta_vae import DeltaVAE
from manifold_ae.models.diffusion import DiffusionModel
from manifold_ae.models.divergences import known_divergence
from manifold_ae.models.homomorphism import HomomorphismAutoencoder
from manifold_ae.models.importance import ImportanceWeightedVAE
from manifold_ae.models.latent_free import CovariatesOnly, LatentFree
from manifold_ae.models.lattices import Lattice, lattice
from manifold_ae.models.one_step import ElementStep, OneStep, PointStep
from manifold_ae.models.refinement import WeightedPosterior, posterior_on_grid, refine
from manifold_ae.models.sequence import BrownianPrior
from manifold_ae.models.smoothing import Smoothed, forward_backward, likeliest_rate, smooth
from manifold_ae.models.starting import begin_at, spread_locations

__all__ = [
    "BrownianPrior",
    "CovariatesOnly",
    "DeltaVAE",
    "DiffusionModel",
    "ElementStep",
    "HomomorphismAutoencoder",
    "ImportanceWeightedVAE",
    "LatentFree",
    "Lattice",
    "OneStep",
    "PointStep",
    "Smoothed",
    "WeightedPosterior",
    "arranged",
    "begin_at",
    "check_arranges",
    "components_locations",
    "encoder_shape",
    "forward_backward",
    "has_arrangement",
    "known_divergence",
    "lattice",
    "likeliest_rate",
    "likelihoods",
    "posterior_on_grid",
    "refine",
    "smooth",
    "spread_locations",
    "transitions",
]
