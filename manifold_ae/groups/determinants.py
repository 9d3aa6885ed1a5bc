"""Determinants of representations of finite groups, which no exponential of theirs reaches.

An orthogonal block of determinant −1 is no exponential of an antisymmetric matrix: a learned table
of rotations takes its signs from here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from manifold_ae.groups.finite_group import FiniteGroup
from manifold_ae.groups.irreducible_finite import irreps

__all__ = ["determinants_of"]


def determinants_of(
    group: FiniteGroup, sizes: Sequence[int], given: Sequence[Sequence[int]] | None
) -> Tensor:
    """±1 of shape ``(blocks, order)``: those given, or those of irreducible representations.

    Raises:
        ValueError: if those given are no homomorphisms to ±1, one a block.
    """
    if given is None:
        return _of_irreducibles(group, sizes)
    signs = torch.as_tensor(given, dtype=torch.get_default_dtype())
    if signs.shape != (len(sizes), group.order) or (signs.abs() != 1).any():
        raise ValueError(
            f"determinants of shape {tuple(signs.shape)}: expected ±1 of shape "
            f"{(len(sizes), group.order)}, a row a block, a column an element"
        )
    if (signs[:, group.table] != signs[:, :, None] * signs[:, None]).any():
        raise ValueError("determinants: expected homomorphisms, that of gh the product")
    return signs


def _of_irreducibles(group: FiniteGroup, sizes: Sequence[int]) -> Tensor:
    """Determinants of irreducible representations of those sizes, in turn, ``(blocks, order)``."""
    elements = torch.arange(group.order)
    rows, used = [], dict.fromkeys(sizes, 0)
    for size in sizes:
        fitting = [rho for rho in irreps(group) if rho.size == size]
        if size == 1:
            fitting = fitting[1:] + fitting[:1]
        if not fitting:
            rows.append(torch.ones(group.order))
            continue
        rho = fitting[used[size] % len(fitting)]
        used[size] += 1
        rows.append(torch.linalg.det(rho.of(elements)).sign())
    return torch.stack(rows)
