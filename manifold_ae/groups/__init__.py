"""Matrix Lie groups and finite groups, shared by the manifolds and by the models."""

from manifold_ae.groups import defects, finite, rotations
from manifold_ae.groups.base import Group, LieGroup
from manifold_ae.groups.cyclic import Cyclic
from manifold_ae.groups.finite_group import FiniteGroup
from manifold_ae.groups.irreducible import harmonics, irrep
from manifold_ae.groups.irreducible_finite import irreps
from manifold_ae.groups.learned import LearnedRepresentation
from manifold_ae.groups.product import Product
from manifold_ae.groups.representations import (
    Defining,
    Factor,
    Representation,
    Sum,
    TensorProduct,
    Trivial,
)
from manifold_ae.groups.scan import cumulative
from manifold_ae.groups.so2 import SO2
from manifold_ae.groups.so3 import SO3
from manifold_ae.groups.torus import Torus

__all__ = [
    "SO2",
    "SO3",
    "Cyclic",
    "Defining",
    "Factor",
    "FiniteGroup",
    "Group",
    "LearnedRepresentation",
    "LieGroup",
    "Product",
    "Representation",
    "Sum",
    "TensorProduct",
    "Torus",
    "Trivial",
    "cumulative",
    "defects",
    "finite",
    "harmonics",
    "irrep",
    "irreps",
    "rotations",
]
