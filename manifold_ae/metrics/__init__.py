"""Measures of what was learned."""

from manifold_ae.metrics.likelihood import evaluate_bound

__all__ = ["evaluate_bound"]
