"""Finite groups of matrices: generated from a few elements, and the symmetries of solids."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from manifold_ae.groups import rotations

__all__ = [
    "MAX_ORDER",
    "cyclic",
    "dihedral",
    "generate",
    "icosahedral",
    "octahedral",
    "tetrahedral",
]

#: A set of generators that reaches so many elements is taken not to generate a finite group.
MAX_ORDER = 1000
#: Elements whose entries differ by less than this are the same.
TOLERANCE = 1e-6


def generate(generators: Sequence[np.ndarray]) -> np.ndarray:
    """All elements of the group that square matrices generate, of shape ``(order, n, n)``.

    The identity comes first.

    Raises:
        ValueError: if a generator is not a finite square matrix of the size of the first, and of
            determinant ±1, or the products do not close after ``MAX_ORDER`` elements.
    """
    for g in generators:
        if np.iscomplexobj(g):
            raise ValueError(f"a generator of dtype {np.asarray(g).dtype}: expected real matrices")
    matrices = [np.asarray(g, dtype=np.float64) for g in generators]
    n = matrices[0].shape[-1] if matrices and matrices[0].ndim else 0
    for g in matrices:
        if g.shape != (n, n) or n == 0 or not np.isfinite(g).all():
            raise ValueError(
                f"a generator of shape {g.shape}: expected finite square matrices of one size"
            )
    if not matrices:
        raise ValueError("no generators: a group needs at least one matrix")
    for g in matrices:
        sign, log_volume = np.linalg.slogdet(g)
        if sign == 0 or abs(log_volume) > TOLERANCE:
            raise ValueError(
                f"a generator of determinant {sign:.0f}·exp({log_volume:.3g}): no power of it is "
                "the identity; the elements of a finite group have determinant 1 or −1"
            )
    elements = [np.eye(n)]
    for element in elements:  # grows while it is walked
        for g in matrices:
            product = g @ element
            if np.abs(np.stack(elements) - product).max((1, 2)).min() > TOLERANCE:
                elements.append(product)
                if len(elements) > MAX_ORDER:
                    raise ValueError(
                        f"the generators reach more than {MAX_ORDER} elements: they do not "
                        "generate a finite group (an angle that is no part of a turn?)"
                    )
    return np.stack(elements)


def _turn(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    """Rotation about an axis."""
    direction = torch.tensor(axis, dtype=torch.float64)
    return rotations.exp(angle * direction / torch.linalg.vector_norm(direction)).numpy()


def _check_order(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_ORDER:
        raise ValueError(f"n must be an integer from 1 to {MAX_ORDER}, got {n!r}")


@lru_cache(typed=True)
def cyclic(n: int) -> np.ndarray:
    """Rotations about the z axis by multiples of 2π/n: symmetries of a pyramid, ``(n, 3, 3)``."""
    _check_order(n)
    return generate([_turn((0, 0, 1), 2 * math.pi / n)])


@lru_cache(typed=True)
def dihedral(n: int) -> np.ndarray:
    """Rotations that keep a prism over a regular n-gon, ``(2n, 3, 3)``."""
    _check_order(n)
    return generate([_turn((0, 0, 1), 2 * math.pi / n), _turn((1, 0, 0), math.pi)])


@lru_cache
def tetrahedral() -> np.ndarray:
    """Rotations that keep a regular tetrahedron, ``(12, 3, 3)``."""
    return generate([_turn((1, 1, 1), 2 * math.pi / 3), _turn((0, 0, 1), math.pi)])


@lru_cache
def octahedral() -> np.ndarray:
    """Rotations that keep a cube or an octahedron, ``(24, 3, 3)``."""
    return generate([_turn((1, 1, 1), 2 * math.pi / 3), _turn((0, 0, 1), math.pi / 2)])


@lru_cache
def icosahedral() -> np.ndarray:
    """Rotations that keep an icosahedron or a dodecahedron, ``(60, 3, 3)``."""
    golden = (1 + math.sqrt(5)) / 2
    return generate([_turn((0, 1, golden), 2 * math.pi / 5), _turn((1, 1, 1), 2 * math.pi / 3)])
