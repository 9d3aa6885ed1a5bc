"""Matrix Lie groups and finite groups, shared by the manifolds and by the models."""

import difflib
from collections.abc import Callable

from manifold_ae.groups import defects, finite, rotations
from manifold_ae.groups.action import Action
from manifold_ae.groups.affine import Affine
from manifold_ae.groups.affine_representation import AffineRepresentation
from manifold_ae.groups.base import Group, LieGroup
from manifold_ae.groups.cyclic import Cyclic
from manifold_ae.groups.dihedral import Dihedral
from manifold_ae.groups.finite_group import FiniteGroup
from manifold_ae.groups.givens import GivensRepresentation
from manifold_ae.groups.gl import GL
from manifold_ae.groups.images import PeriodicImages
from manifold_ae.groups.irreducible import harmonics, irrep
from manifold_ae.groups.irreducible_finite import irreps
from manifold_ae.groups.learned import LearnedRepresentation
from manifold_ae.groups.polyhedral import Icosahedral, Octahedral, Tetrahedral
from manifold_ae.groups.product import Product
from manifold_ae.groups.representations import (
    Defining,
    Factor,
    Representation,
    Sum,
    TensorProduct,
    Trivial,
)
from manifold_ae.groups.scale_translation import ScaleTranslation
from manifold_ae.groups.scan import cumulative
from manifold_ae.groups.se2 import SE2
from manifold_ae.groups.se3 import SE3
from manifold_ae.groups.so2 import SO2
from manifold_ae.groups.so3 import SO3
from manifold_ae.groups.son import SO
from manifold_ae.groups.torus import Torus

__all__ = [
    "GL",
    "SE2",
    "SE3",
    "SO",
    "SO2",
    "SO3",
    "Action",
    "Affine",
    "AffineRepresentation",
    "Cyclic",
    "Defining",
    "Dihedral",
    "Factor",
    "FiniteGroup",
    "GivensRepresentation",
    "Group",
    "Icosahedral",
    "LearnedRepresentation",
    "LieGroup",
    "Octahedral",
    "PeriodicImages",
    "Product",
    "Representation",
    "ScaleTranslation",
    "Sum",
    "TensorProduct",
    "Tetrahedral",
    "Torus",
    "Trivial",
    "cumulative",
    "defects",
    "finite",
    "harmonics",
    "irrep",
    "irreps",
    "names",
    "parse",
    "rotations",
]

#: Name in a specification → (constructor, whether a size follows, what it is).
_SPECIFICATIONS: dict[str, tuple[Callable[..., Group], bool, str]] = {
    "affine": (Affine, True, "x ↦ Ax + b in ℝⁿ, A invertible"),
    "cyclic": (Cyclic, True, "turns of the plane by multiples of 2π/n"),
    "diagonal-scale-translation": (
        lambda n: ScaleTranslation(n, diagonal=True),
        True,
        "x ↦ s x + b in ℝⁿ, with a scale for each coordinate",
    ),
    "dihedral": (Dihedral, True, "symmetries of a regular polygon with n corners"),
    "gl": (GL, True, "invertible matrices of size n"),
    "icosahedral": (Icosahedral, False, "the 60 rotations of an icosahedron"),
    "octahedral": (Octahedral, False, "the 24 rotations of a cube"),
    "scale-translation": (ScaleTranslation, True, "x ↦ s x + b in ℝⁿ, one scale"),
    "se2": (SE2, False, "rigid motions of the plane"),
    "se3": (SE3, False, "rigid motions of space"),
    "so": (SO, True, "rotations of ℝⁿ, n at least 2"),
    "so2": (SO2, False, "rotations of the plane: one angle"),
    "so3": (SO3, False, "rotations of space"),
    "tetrahedral": (Tetrahedral, False, "the 12 rotations of a tetrahedron"),
    "torus": (Torus, True, "n angles"),
}


def names() -> dict[str, str]:
    """Specifications that ``parse`` reads, with a line on each."""
    return {
        name + (":n" if sized else ""): line for name, (_, sized, line) in _SPECIFICATIONS.items()
    }


def parse(spec: str) -> Group:
    """The group that a specification names: ``"so3"``, ``"torus:2"``, ``"cyclic:5"``, ...

    Products are written with ``*``.

    Raises:
        ValueError: if there is no such group; the message lists those that there are.

    Example:
        >>> parse("scale-translation:3")
        ScaleTranslation(3)
        >>> parse("torus:2*so3")
        Product(Torus(2), SO3())
    """
    if "*" in spec:
        return Product(*(parse(factor) for factor in spec.split("*")))
    name, _, size = spec.strip().lower().partition(":")
    if name not in _SPECIFICATIONS:
        near = difflib.get_close_matches(name, _SPECIFICATIONS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"no group {spec!r}{hint}; there are: {', '.join(names())}")
    constructor, sized, _ = _SPECIFICATIONS[name]
    if not sized:
        if size:
            raise ValueError(f"group {spec!r}: {name} takes no size, write {name!r}")
        return constructor()
    if not size.isdecimal():
        raise ValueError(f"group {spec!r}: write {name}:n with a number n, as in '{name}:2'")
    return constructor(int(size))
