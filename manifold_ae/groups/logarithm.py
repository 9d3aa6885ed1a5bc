r"""The principal logarithm of real matrices, by inverse scaling and squaring.

log A = 2ᵏ log A^{1/2ᵏ}: square roots until what is left is near the identity, and there the series
log A = 2 artanh Z = 2 (Z + Z³/3 + Z⁵/5 + …), Z = (A − I)(A + I)⁻¹ (Higham, *Functions of Matrices*,
2008, chapters 6 and 11). All steps are differentiable, at the identity and at repeated eigenvalues
too, where the derivative of an eigendecomposition is not. In float64 inside.
"""

import torch
from torch import Tensor

from manifold_ae.groups.base import looks_at_values, product, require_values

__all__ = ["has_orthogonal_log", "has_principal_log", "inverse", "matrix_log", "orthogonal_log"]

#: How far from the identity a root may be: ‖Z‖ ≤ 1/7, and the series' terms fall as 49⁻ᵏ.
_NEAR = 0.25
_TERMS = 11
#: What is no more than rounding of an eigenvalue.
_ROUNDING = 16 * torch.finfo(torch.float64).eps
#: Square roots, and steps for each, that are never exceeded.
_MOST_ROOTS, _MOST_STEPS = 60, 60
#: The same inside torch.func and while compiling, where no value can be looked at: enough for
#: ‖log A‖ ≤ 64.
_FIXED_ROOTS, _FIXED_STEPS = 8, 16


def inverse(g: Tensor) -> Tensor:
    """g⁻¹ for matrices ``(*, m, m)``.

    Raises:
        ValueError: if one of them is singular, or not finite.
    """
    found, info = torch.linalg.inv_ex(g)
    holds = (info == 0) & torch.isfinite(found).all(-1).all(-1)
    require_values(
        holds, lambda: "g has a matrix that is singular or not finite, and has no inverse"
    )
    return found


def matrix_log(A: Tensor) -> Tensor:
    """The logarithm of ``(*, m, m)`` whose eigenvalues have imaginary parts in (−π, π).

    Raises:
        ValueError: if an eigenvalue lies on the closed negative axis, to the rounding of float64
            beside the largest eigenvalue.
    """
    _require_principal(A)
    root = A.double()
    eye = torch.eye(A.shape[-1], dtype=root.dtype, device=A.device)
    look = looks_at_values()
    scale = 1.0
    for _ in range(_MOST_ROOTS if look else _FIXED_ROOTS):
        if look and _distance(root, eye) <= _NEAR:
            break
        root = _square_root(root, look)
        scale *= 2
    return (scale * _near_identity(root, eye)).to(A.dtype)


def orthogonal_log(g: Tensor) -> Tensor:
    """The antisymmetric logarithm of rotations ``(*, m, m)`` none of whose angles is π.

    A rotation's root is the orthogonal factor of I + g: where g turns by θ, I + g is a turn by θ/2
    times 2 cos(θ/2) > 0. After three roots no angle is above π/8.

    Raises:
        ValueError: if an angle is π to 1e-7, or g is a reflection.
    """
    # What float32 rounded is made a rotation again: next to half a turn, its eigenvalues could
    # be two real numbers next to −1.
    R = _orthogonal_factor(g.double(), 2)
    require_values(
        _turns_less_than_half(R),
        lambda: (
            "g has a matrix that is not finite, or has the eigenvalue −1: it turns by π in some "
            "plane, or reflects; such a matrix has no principal logarithm"
        ),
    )
    eye = torch.eye(g.shape[-1], dtype=R.dtype, device=g.device)
    # Singular values of (I + R)/2 may be as small as 1e-7, then they are at least 0.7 and 0.9.
    for steps in (12, 6, 5):
        R = _orthogonal_factor((eye + R) / 2, steps)
    A = _near_identity(R, eye)
    return (4 * (A - A.mT)).to(g.dtype)


def has_orthogonal_log(g: Tensor) -> Tensor:
    """Whether matrices ``(*, m, m)`` are in the domain of ``orthogonal_log``, of shape ``(*)``."""
    return _turns_less_than_half(_orthogonal_factor(g.double(), 2))


def _turns_less_than_half(R: Tensor) -> Tensor:
    finite = torch.isfinite(R).all(-1).all(-1)
    symmetric = torch.where(finite[..., None, None], (R + R.mT) / 2, 0.0).detach()
    return finite & (torch.linalg.eigvalsh(symmetric)[..., 0] > -1 + _ROUNDING)


def _near_identity(A: Tensor, eye: Tensor) -> Tensor:
    """2 artanh((A − I)(A + I)⁻¹)."""
    # Not torch.linalg.solve, whose derivative forwards is wrong under vmap.
    Z = product(torch.linalg.inv_ex(A + eye)[0], A - eye)
    square = product(Z, Z)
    total = eye / (2 * _TERMS + 1)
    for k in range(_TERMS - 1, -1, -1):
        total = product(square, total) + eye / (2 * k + 1)
    return 2 * product(Z, total)


def _square_root(A: Tensor, look: bool) -> Tensor:
    """A^{1/2} by the iteration of Denman and Beavers (1976), scaled by determinants.

    Y → A^{1/2} and Z → A^{−1/2}. The product form, which needs one inverse a step, starts with
    (2 + A + A⁻¹)/4 in the place of (1 + A)/2, and next to the negative axis that costs twice the
    digits.
    """
    Y, Z = A, torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    for _ in range(_MOST_STEPS if look else _FIXED_STEPS):
        log_det = torch.linalg.slogdet(Y.detach())[1] + torch.linalg.slogdet(Z.detach())[1]
        # The scaling changes the path, not the limit: it takes no part in derivatives.
        mu = torch.exp(-log_det / (2 * A.shape[-1]))[..., None, None]
        before = Y
        Y, Z = (
            (mu * Y + torch.linalg.inv_ex(Z)[0] / mu) / 2,
            (mu * Z + torch.linalg.inv_ex(Y)[0] / mu) / 2,
        )
        change = (Y.detach() - before.detach()).abs().amax((-2, -1))
        # The error is of the order of the square of the last change.
        if look and bool((change <= 1e-8 * Y.detach().abs().amax((-2, -1))).all()):
            break
    return Y


def _orthogonal_factor(Y: Tensor, steps: int) -> Tensor:
    """U of Y = U H, H > 0, by Newton's method with Frobenius scaling (Higham, 2008, §8.6)."""
    for _ in range(steps):
        back = torch.linalg.inv_ex(Y)[0].mT
        size = torch.linalg.matrix_norm(back) / torch.linalg.matrix_norm(Y)
        mu = size.detach().sqrt()[..., None, None]
        Y = (mu * Y + back / mu) / 2
    return Y


def _distance(A: Tensor, eye: Tensor) -> float:
    """The largest ‖A − I‖ of a batch, in the maximum of row sums."""
    gap = (A.detach() - eye).abs().sum(-1)
    return float(gap.amax()) if gap.numel() else 0.0


def has_principal_log(A: Tensor) -> Tensor:
    """Whether matrices ``(*, m, m)`` are in the domain of ``matrix_log``, of shape ``(*)``."""
    finite = torch.isfinite(A).all(-1).all(-1)[..., None, None]
    values = torch.linalg.eigvals(torch.where(finite, A, 0.0).detach().double())
    size = values.abs().amax(-1, keepdim=True)
    return ((values.real > _ROUNDING * size) | (values.imag.abs() > _ROUNDING * size)).all(-1)


def _require_principal(A: Tensor) -> None:
    if not looks_at_values():
        return
    require_values(
        has_principal_log(A),
        lambda: (
            "g has a matrix that is not finite, or has an eigenvalue on the closed negative axis: "
            "such a matrix has no principal logarithm"
        ),
    )
