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
from manifold_ae.numerics import Fused, constant, cosh_sqrt, sinhc_slope, sinhc_sqrt

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
        signs = constant((-1.0, 1.0, -1.0), entries.dtype, entries.device)
        return rotations.exp(entries.flip(-1) * signs)
    # torch's views the matrices, which a part of a longer row of entries does not allow.
    return torch.linalg.matrix_exp(matrix_of(entries, size, antisymmetric).contiguous())


def _exp_plane(a: Tensor) -> Tensor:
    """exp [[0, a], [−a, 0]] of shape ``(*, 2, 2)``."""
    cosine, sine = torch.cos(a), torch.sin(a)
    return torch.stack([cosine, sine, -sine, cosine], -1).unflatten(-1, (2, 2))


class _ExpTwo(Fused):
    """P I + Q [[h, b], [c, −h]], h = (a − d)/2, P = e^τ cosh √δ, Q = e^τ sinh √δ / √δ."""

    @staticmethod
    def value(entries: Tensor) -> tuple[Tensor, ...]:
        a, b, c, d = entries.unbind(-1)
        h, half_trace = (a - d) / 2, (a + d) / 2
        square, tiny = torch.addcmul(h * h, b, c), torch.finfo(entries.dtype).tiny
        # One of the two is zero. With a factor for each, no case is computed in vain and no
        # e^τ = 0 meets cosh √δ = ∞: e^τ cosh r = e^{τ+r} (1 + e^{−2r}) / 2, and sinh likewise.
        rate, angle = square.clamp_min(tiny).sqrt(), (-square).clamp_min(tiny).sqrt()
        growth, fall = torch.exp(half_trace + rate), torch.expm1(-2 * rate)
        p = growth * (1 + fall / 2) * torch.cos(angle)
        q = growth * (fall / (-2 * rate)) * (torch.sin(angle) / angle)
        diagonal = q * h
        matrix = torch.stack([p + diagonal, q * b, q * c, p - diagonal], -1)
        return matrix.unflatten(-1, (2, 2)), p, q

    @staticmethod
    def derivative(gradient: Tensor, entries: Tensor, *kept: Tensor) -> tuple[Tensor]:
        a, b, c, d = entries.unbind(-1)
        h, half_trace, (p, q) = (a - d) / 2, (a + d) / 2, kept
        square, growth = torch.addcmul(h * h, b, c), torch.exp(half_trace)
        if torch.is_grad_enabled():  # to be differentiated again
            p, q = _even_and_odd(half_trace, square)
        ga, gb, gc, gd = gradient.flatten(-2).unbind(-1)
        to_p, between = ga + gd, ga - gd
        to_q = torch.addcmul(torch.addcmul(h * between, b, gb), c, gc)
        to_half_trace = torch.addcmul(to_p * p, to_q, q) / 2
        to_square = torch.addcmul(to_p * q, to_q, sinhc_slope(square, p, q, growth)) / 2
        to_half_h = torch.addcmul(q * between / 2, h, to_square)
        return (
            torch.stack(
                [
                    to_half_trace + to_half_h,
                    torch.addcmul(q * gb, c, to_square),
                    torch.addcmul(q * gc, b, to_square),
                    to_half_trace - to_half_h,
                ],
                -1,
            ),
        )


def _even_and_odd(half_trace: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
    """P and Q, differentiable by torch, everywhere."""
    growth, real, near = torch.exp(half_trace), square > 0, square.abs() < 1
    root = square.abs().clamp_min(1.0).sqrt()
    rate = torch.where(real & ~near, root, 0.0)
    up, down = torch.exp(half_trace + rate), torch.exp(half_trace - rate)
    p = torch.where(real, (up + down) / 2, growth * torch.cos(root))
    q = torch.where(real, (up - down) / 2, growth * torch.sin(root)) / root
    inner = square.clamp(-1.0, 1.0)
    return (
        torch.where(near, growth * cosh_sqrt(inner), p),
        torch.where(near, growth * sinhc_sqrt(inner), q),
    )
