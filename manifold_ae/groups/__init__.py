"""Matrix Lie groups and finite groups, shared by the manifolds and by the models."""

from manifold_ae.groups import finite, rotations

__all__ = ["finite", "rotations"]
