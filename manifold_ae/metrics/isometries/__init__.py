"""Isometries of the latent manifolds, found from pairs of points; see ``base``."""

from manifold_ae.metrics.isometries import (  # noqa: F401  (they register themselves)
    procrustes,
    products,
    revolution,
    space_forms,
    tori,
)
from manifold_ae.metrics.isometries.base import (
    Aligned,
    Isometry,
    align_latents,
    nearest_isometry,
)

__all__ = ["Aligned", "Isometry", "align_latents", "nearest_isometry"]
