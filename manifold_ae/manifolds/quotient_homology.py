"""Betti numbers of quotients M/Γ of spheres and of SO(3).

Where M is simply connected, Γ is the fundamental group of M/Γ, and H₁ with coefficients in ℤ/p is
Γ/[Γ, Γ]Γᵖ. On a closed oriented 3-manifold H₂ is its dual: the whole answer for S³/Γ, and for
SO(3)/Γ, which is S³ by the quaternions over Γ. A group that acts freely on an even sphere is ±1;
an abelian one on an odd sphere is cyclic, and the quotient a lens space.
"""

from functools import singledispatch

import numpy as np
import torch

from manifold_ae.groups import finite, rotations
from manifold_ae.manifolds.base import Manifold
from manifold_ae.manifolds.rotation import SO3
from manifold_ae.manifolds.sphere import Sphere

__all__ = ["quotient_betti"]

#: Entries of matrices that differ by less are the same.
TOLERANCE = 1e-6


@singledispatch
def quotient_betti(
    cover: Manifold, elements: np.ndarray | None, prime: int
) -> tuple[int, ...] | None:
    """Betti numbers of cover/Γ over ℤ/p, or None where they are not known.

    Arguments:
        elements: Γ as matrices on flattened points, of shape ``(order, n, n)``; None for functions.
    """
    return None


@quotient_betti.register
def _(cover: Sphere, elements: np.ndarray | None, prime: int) -> tuple[int, ...] | None:
    if cover.dim == 1:
        return (1, 1)
    if elements is None:
        return None
    top = int((np.linalg.det(elements) > 0).all())
    if len(elements) % prime:
        return (1, *[0] * (cover.dim - 1), top)
    if cover.dim == 3:
        rank = abelian_rank(elements, prime)
        return (1, rank, rank, 1)
    commute = all(np.allclose(a @ b, b @ a, atol=TOLERANCE) for a in elements for b in elements)
    return (1,) * (cover.dim + 1) if commute else None


@quotient_betti.register
def _(cover: SO3, elements: np.ndarray | None, prime: int) -> tuple[int, ...] | None:
    """For multiplications from one side: those from both at once are left out."""
    if elements is None:
        return None
    one = np.eye(3)
    moved = (elements @ one.reshape(9)).reshape(-1, 3, 3)
    from_right = [np.kron(one, g.T) for g in moved]
    from_left = [np.kron(g, one) for g in moved]
    if not any(np.allclose(elements, side, atol=TOLERANCE) for side in (from_right, from_left)):
        return None
    w, x, y, z = rotations.to_quaternion(torch.from_numpy(moved)).numpy().T
    rows = [[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]
    lifted = np.moveaxis(np.array(rows), -1, 0)  # q ↦ gq
    rank = abelian_rank(np.concatenate([lifted, -lifted]), prime)
    return (1, rank, rank, 1)


def abelian_rank(elements: np.ndarray, prime: int) -> int:
    """dim of Γ/[Γ, Γ]Γᵖ over ℤ/p, for all the elements of Γ as matrices ``(order, n, n)``."""
    inverses = np.linalg.inv(elements)
    commutators = np.einsum("aij,bjk,akl,blm->abim", elements, elements, inverses, inverses)
    powers = np.linalg.matrix_power(elements, prime)
    found = np.concatenate([commutators.reshape(-1, *elements.shape[1:]), powers])
    generators = [np.eye(elements.shape[-1])]
    subgroup = finite.generate(generators)
    for element in found[np.unique(found.round(5) + 0.0, axis=0, return_index=True)[1]]:
        if np.abs(subgroup - element).max((1, 2)).min() > TOLERANCE:
            generators.append(element)
            subgroup = finite.generate(generators)
    index, rank = len(elements) // len(subgroup), 0
    while index > 1:
        index, rank = index // prime, rank + 1
    return rank
