"""Measures of what was learned."""

from manifold_ae.metrics.actions import ActionDefects, action_defects, residual_of_moves
from manifold_ae.metrics.alignment import Alignment, align, align_matrices
from manifold_ae.metrics.blocks import Blocks, find_blocks, off_block_energy
from manifold_ae.metrics.disentanglement import Disentanglement, GivenFactor, d_lsbd, dispersion
from manifold_ae.metrics.equivariance import equivariance_error, trace_equivariance
from manifold_ae.metrics.homomorphism import HomomorphismDefects, homomorphism_defects
from manifold_ae.metrics.likelihood import evaluate_bound
from manifold_ae.metrics.rollout import HORIZONS, RolloutErrors, evaluate_rollout, rollout_errors
from manifold_ae.metrics.topology import winding_matrix
from manifold_ae.metrics.wasserstein import SampleQuality, sample_quality, sliced_wasserstein

__all__ = [
    "HORIZONS",
    "ActionDefects",
    "Alignment",
    "Blocks",
    "Disentanglement",
    "GivenFactor",
    "HomomorphismDefects",
    "RolloutErrors",
    "SampleQuality",
    "action_defects",
    "align",
    "align_matrices",
    "d_lsbd",
    "dispersion",
    "equivariance_error",
    "evaluate_bound",
    "evaluate_rollout",
    "find_blocks",
    "homomorphism_defects",
    "off_block_energy",
    "residual_of_moves",
    "rollout_errors",
    "sample_quality",
    "sliced_wasserstein",
    "trace_equivariance",
    "winding_matrix",
]
