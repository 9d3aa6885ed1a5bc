"""The rotation groups of the regular solids, by their matrices in ``groups.finite``."""

from typing import Any

import numpy as np

from manifold_ae.groups import finite
from manifold_ae.groups.finite_group import FiniteGroup, products

__all__ = ["Icosahedral", "Octahedral", "Tetrahedral"]


class _Polyhedral(FiniteGroup):
    """Rotations of space that keep a solid; ``act`` turns vectors of shape ``(*, 3)``."""

    _elements: Any

    def __init__(self) -> None:
        elements: np.ndarray = type(self)._elements()
        super().__init__(products(elements), elements)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def spec(self) -> str:
        return type(self).__name__.lower()


class Tetrahedral(_Polyhedral):
    """The 12 rotations that keep a regular tetrahedron."""

    _elements = staticmethod(finite.tetrahedral)


class Octahedral(_Polyhedral):
    """The 24 rotations that keep a cube or an octahedron."""

    _elements = staticmethod(finite.octahedral)


class Icosahedral(_Polyhedral):
    """The 60 rotations that keep an icosahedron or a dodecahedron."""

    _elements = staticmethod(finite.icosahedral)
