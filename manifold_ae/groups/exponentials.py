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
from manifold_ae.numerics import Fused, cosh_sqrt, sinhc_sqrt, sinhc_sqrt_slope

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
        return _exp_plane(entries.squeeze(-1)) if antisymmetric else _ExpTwo.of(entries)
    if size == 3 and antisymmetric:
        # The entries above the diagonal of ω̂ are (−z, y, −x).
        minus_z, y, minus_x = entries.unbind(-1)
        return rotations.exp(torch.stack([-minus_x, y, -minus_z], -1))
    return torch.linalg.matrix_exp(matrix_of(entries, size, antisymmetric))


def _exp_plane(a: Tensor) -> Tensor:
    """exp [[0, a], [−a, 0]] of shape ``(*, 2, 2)``."""
    cosine, sine = torch.cos(a), torch.sin(a)
    return torch.stack([cosine, sine, -sine, cosine], -1).unflatten(-1, (2, 2))


class _ExpTwo(Fused):
    """P I + Q [[h, b], [c, −h]], h = (a − d)/2, P = e^τ cosh √δ, Q = e^τ sinh √δ / √δ."""

    @staticmethod
    def value(entries: Tensor) -> tuple[Tensor, ...]:
        a, b, c, d = entries.unbind(-1)
        h = (a - d) / 2
        square = h * h + b * c
        root = square.abs().sqrt().clamp_min(torch.finfo(entries.dtype).tiny)
        real = square > 0
        growth = torch.exp((a + d) / 2)
        p = growth * torch.where(real, torch.cosh(root), torch.cos(root))
        q = growth * torch.where(real, torch.sinh(root), torch.sin(root)) / root
        diagonal = q * h
        matrix = torch.stack([p + diagonal, q * b, q * c, p - diagonal], -1)
        return matrix.unflatten(-1, (2, 2)), p, q

    @staticmethod
    def derivative(gradient: Tensor, entries: Tensor, *kept: Tensor) -> tuple[Tensor]:
        a, b, c, d = entries.unbind(-1)
        h, growth, (p, q) = (a - d) / 2, torch.exp((a + d) / 2), kept
        square = h * h + b * c
        if torch.is_grad_enabled():  # to be differentiated again
            p, q = growth * cosh_sqrt(square), growth * sinhc_sqrt(square)
        ga, gb, gc, gd = gradient.flatten(-2).unbind(-1)
        to_p, to_q = ga + gd, h * (ga - gd) + b * gb + c * gc
        to_half_trace = to_p * p + to_q * q
        to_square = to_p * q / 2 + to_q * growth * sinhc_sqrt_slope(square)
        to_h = q * (ga - gd) + 2 * h * to_square
        return (
            torch.stack(
                [
                    (to_half_trace + to_h) / 2,
                    q * gb + c * to_square,
                    q * gc + b * to_square,
                    (to_half_trace - to_h) / 2,
                ],
                -1,
            ),
        )
