r"""Exponentials of small matrices, each by its closed form where there is one.

A block of size k is given by *entries*: all k² of a matrix A, row by row, or the k(k−1)/2 above the
diagonal of an antisymmetric one, row by row. exp A is

- k = 1: eᵃ, and 1 where A is antisymmetric;
- k = 2, antisymmetric: the rotation by −A₁₂, which is taken as the angle's negative;
- k = 2: e^τ (cosh √δ I + sinh √δ / √δ (A − τI)), τ = tr A / 2, δ = −det(A − τI), which is entire
  in δ: cos and sin where δ < 0;
- k = 3, antisymmetric: Rodrigues' formula;
- else: ``torch.linalg.matrix_exp``.

All are differentiable twice, the closed forms by their own formulas.
"""

import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.numerics import cosh_sqrt, sinhc_sqrt

__all__ = ["entries_of", "exp_block", "matrix_of"]


def entries_of(size: int, antisymmetric: bool) -> int:
    """How many numbers a block of that size is given by."""
    return size * (size - 1) // 2 if antisymmetric else size * size


def matrix_of(entries: Tensor, size: int, antisymmetric: bool) -> Tensor:
    """The matrix A of shape ``(*, k, k)`` of entries ``(*, entries_of(k, antisymmetric))``."""
    if not antisymmetric:
        return entries.unflatten(-1, (size, size))
    rows, columns = torch.triu_indices(size, size, 1, device=entries.device)
    upper = entries.new_zeros(*entries.shape[:-1], size, size)
    upper[..., rows, columns] = entries
    return upper - upper.mT


def exp_block(entries: Tensor, size: int, antisymmetric: bool) -> Tensor:
    """exp A of shape ``(*, k, k)`` of entries ``(*, entries_of(k, antisymmetric))``."""
    if size == 1:
        if antisymmetric:
            return entries.new_ones(*entries.shape[:-1], 1, 1)
        return torch.exp(entries).unsqueeze(-1)
    if size == 2:
        return _exp_plane(entries.squeeze(-1)) if antisymmetric else _exp_two(entries)
    if size == 3 and antisymmetric:
        # The entries above the diagonal of ω̂ are (−z, y, −x).
        minus_z, y, minus_x = entries.unbind(-1)
        return rotations.exp(torch.stack([-minus_x, y, -minus_z], -1))
    return torch.linalg.matrix_exp(matrix_of(entries, size, antisymmetric))


def _exp_plane(a: Tensor) -> Tensor:
    """exp [[0, a], [−a, 0]] of shape ``(*, 2, 2)``."""
    cosine, sine = torch.cos(a), torch.sin(a)
    return torch.stack([cosine, sine, -sine, cosine], -1).unflatten(-1, (2, 2))


def _exp_two(entries: Tensor) -> Tensor:
    a, b, c, d = entries.unbind(-1)
    half = (a - d) / 2
    square = half * half + b * c
    growth = torch.exp((a + d) / 2)
    even, odd = growth * cosh_sqrt(square), growth * sinhc_sqrt(square)
    diagonal = odd * half
    return torch.stack([even + diagonal, odd * b, odd * c, even - diagonal], -1).unflatten(
        -1, (2, 2)
    )
