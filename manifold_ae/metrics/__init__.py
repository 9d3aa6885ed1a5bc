"""Measures of what was learned."""

from manifold_ae.metrics.actions import (
    ActionDefects,
    action_defects,
    probed_defects,
    residual_of_moves,
)
from manifold_ae.metrics.aligning import align
from manifold_ae.metrics.alignment import Alignment, align_matrices, align_representations
from manifold_ae.metrics.baselines import CircularCoordinates, PrincipalAngles
from manifold_ae.metrics.blocks import Blocks, find_blocks, off_block_energy
from manifold_ae.metrics.consistency import Consistency, consistency
from manifold_ae.metrics.continuity import Continuity, continuity
from manifold_ae.metrics.coverage import Coverage, coverage
from manifold_ae.metrics.degree import Degree, degree, degree_integral, signed_preimages
from manifold_ae.metrics.disentanglement import Disentanglement, GivenFactor, d_lsbd, dispersion
from manifold_ae.metrics.equivariance import (
    equivariance_error,
    trace_equivariance,
    transition_error,
)
from manifold_ae.metrics.homomorphism import HomomorphismDefects, homomorphism_defects
from manifold_ae.metrics.isometries import Aligned, Isometry, align_latents
from manifold_ae.metrics.likelihood import evaluate_bound
from manifold_ae.metrics.misfit import excess_kurtosis
from manifold_ae.metrics.persistence import (
    Homology,
    betti_of_data,
    betti_of_latents,
    enough_landmarks,
    farthest_points,
    homology,
)
from manifold_ae.metrics.rollout import HORIZONS, RolloutErrors, evaluate_rollout, rollout_errors
from manifold_ae.metrics.selection import Candidate, Selection, block_error, choose
from manifold_ae.metrics.topology import Topology, certify_map, certify_samples
from manifold_ae.metrics.torus_alignment import TorusAlignment, align_torus
from manifold_ae.metrics.wasserstein import SampleQuality, sample_quality, sliced_wasserstein
from manifold_ae.metrics.winding import degree_from_loops, induced_matrix, winding_matrix

__all__ = [
    "HORIZONS",
    "ActionDefects",
    "Aligned",
    "Alignment",
    "Blocks",
    "Candidate",
    "CircularCoordinates",
    "Consistency",
    "Continuity",
    "Coverage",
    "Degree",
    "Disentanglement",
    "GivenFactor",
    "Homology",
    "HomomorphismDefects",
    "Isometry",
    "PrincipalAngles",
    "RolloutErrors",
    "SampleQuality",
    "Selection",
    "Topology",
    "TorusAlignment",
    "action_defects",
    "align",
    "align_latents",
    "align_matrices",
    "align_representations",
    "align_torus",
    "betti_of_data",
    "betti_of_latents",
    "block_error",
    "certify_map",
    "certify_samples",
    "choose",
    "consistency",
    "continuity",
    "coverage",
    "d_lsbd",
    "degree",
    "degree_from_loops",
    "degree_integral",
    "dispersion",
    "enough_landmarks",
    "equivariance_error",
    "evaluate_bound",
    "evaluate_rollout",
    "excess_kurtosis",
    "farthest_points",
    "find_blocks",
    "homology",
    "homomorphism_defects",
    "induced_matrix",
    "off_block_energy",
    "probed_defects",
    "residual_of_moves",
    "rollout_errors",
    "sample_quality",
    "signed_preimages",
    "sliced_wasserstein",
    "trace_equivariance",
    "transition_error",
    "winding_matrix",
]
