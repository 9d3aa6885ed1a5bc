"""Measures of what was learned."""

from manifold_ae.metrics.likelihood import evaluate_bound
from manifold_ae.metrics.topology import winding_matrix

__all__ = ["evaluate_bound", "winding_matrix"]
