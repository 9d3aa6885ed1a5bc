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
from manifold_ae.numerics import Fused, built_once, constant, cosh_sqrt, sinhc_slope, sinhc_sqrt

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
    """``general_terms``, as one node."""

    @staticmethod
    def value(entries: Tensor) -> tuple[Tensor, ...]:
        value, *kept = general_terms(entries.movedim(-1, 0).unflatten(0, (2, 2)))
        return value.movedim((0, 1), (-2, -1)), *kept

    @staticmethod
    def derivative(gradient: Tensor, entries: Tensor, *kept: Tensor) -> tuple[Tensor]:
        if torch.is_grad_enabled():  # to be differentiated again
            A = entries.movedim(-1, 0).unflatten(0, (2, 2))
            D, square, half_trace = _invariants(A)
            kept = (D, square, half_trace, *_even_and_odd(half_trace, square))
        slope = general_slope(gradient.movedim((-2, -1), (0, 1)), *kept)
        return (slope.reshape(4, *slope.shape[2:]).movedim(0, -1),)


def general_terms(A: Tensor) -> tuple[Tensor, ...]:
    """exp A = P I + Q D of A ``(2, 2, *)``, and what ``general_slope`` takes: D, δ, τ, P and Q.

    D = A − τI, δ = −det D, P = e^τ cosh √δ, Q = e^τ sinh √δ / √δ.
    """
    D, square, half_trace = _invariants(A)
    # √δ and √−δ, one of which is zero. With a factor for each, no case is computed in vain and no
    # e^τ = 0 meets cosh √δ = ∞: e^τ cosh r = e^{τ+r} (1 + e^{−2r}) / 2, and sinh likewise.
    tiny = torch.finfo(A.dtype).tiny
    rate, angle = square.clamp_min(tiny).sqrt(), (-square).clamp_min(tiny).sqrt()
    growth, back = torch.exp(half_trace + rate), rate * constant(-2.0, A.dtype, A.device)
    fall = torch.expm1(back)
    p = torch.addcmul(growth, growth, fall, value=0.5) * torch.cos(angle)
    q = growth * (fall / back) * (torch.sin(angle) / angle)
    value = torch.addcmul(p * _eye(A.dim(), A.dtype, A.device), q, D)
    return value, D, square, half_trace, p, q


def general_slope(
    G: Tensor, D: Tensor, square: Tensor, half_trace: Tensor, p: Tensor, q: Tensor
) -> Tensor:
    """The derivative by A of ⟨G, exp A⟩, all of shape ``(2, 2, *)`` or ``(*)``.

    With 2α = tr G, 2κ = ⟨G, D⟩ and S the slope of ``sinhc_slope``: the part of G that commutes with
    Dᵀ moves the eigenvalues, and P and Q with them; the rest is multiplied by Q. In all
    Q G + (α (P − Q) + κ Q) I + (α Q + κ S) Dᵀ.
    """
    eye = _eye(G.dim(), G.dtype, G.device)
    alpha, kappa = (G * eye).mean((0, 1)), (G * D).mean((0, 1))  # halves of these
    slope = sinhc_slope(square, p, q, torch.exp(half_trace))
    to_eye = torch.addcmul(alpha * (p - q), kappa, q)
    to_deviator = torch.addcmul(alpha * q, kappa, slope)
    rest = torch.addcmul(q * G, to_eye, eye, value=2)
    return torch.addcmul(rest, to_deviator, D.transpose(0, 1), value=2)


def _invariants(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """D, δ and τ."""
    a, b, c, d = A.flatten(0, 1).unbind(0)
    half_trace = torch.lerp(a, d, 0.5)
    D = torch.addcmul(A, _eye(A.dim(), A.dtype, A.device), half_trace, value=-1)
    h = a - half_trace
    return D, torch.addcmul(h * h, b, c), half_trace


@built_once
def _eye(dim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.eye(2, dtype=dtype, device=device).view(2, 2, *[1] * (dim - 2))


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
