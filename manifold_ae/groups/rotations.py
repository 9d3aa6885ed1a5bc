r"""Rotations of space: the formulas of SO(3) that the manifolds and the groups share.

A rotation is a matrix R of shape ``(*, 3, 3)``; an element of the Lie algebra so(3) is a rotation
vector ω of shape ``(*, 3)``: axis times angle, in radians. ω̂ is the matrix with ω̂ v = ω × v. All
functions are batched, differentiable twice, and finite with their derivatives at the identity and
at half a turn.
"""

from typing import Any

import torch
from torch import Tensor

from manifold_ae.numerics import (
    Fused,
    arc_over_sine,
    built_once,
    constant,
    sinc_defect_sqrt,
    sinc_sqrt,
)

__all__ = [
    "compose",
    "exp",
    "from_quaternion",
    "hat",
    "log",
    "log_quaternion",
    "nearest_rotation",
    "random_uniform",
    "to_quaternion",
    "turn",
    "vee",
]


def compose(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product a b of matrices ``(*, n, k)`` and ``(*, k, m)``, batched.

    By products and sums: matmul rounds to fewer digits under autocast, and where TF32 is on.
    """
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2)


def turn(rotation: Tensor, v: Tensor) -> Tensor:
    """R v of shape ``(*, 3)``, for R of shape ``(*, 3, 3)`` and v of shape ``(*, 3)``."""
    return (rotation * v.unsqueeze(-2)).sum(-1)


def hat(omega: Tensor) -> Tensor:
    """The antisymmetric matrix ω̂ of shape ``(*, 3, 3)``, ω̂ v = ω × v, of ω of shape ``(*, 3)``."""
    x, y, z = omega.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def vee(matrix: Tensor) -> Tensor:
    """The ω of shape ``(*, 3)`` whose ω̂ is the antisymmetric part of a matrix ``(*, 3, 3)``."""
    return (
        torch.stack(
            [
                matrix[..., 2, 1] - matrix[..., 1, 2],
                matrix[..., 0, 2] - matrix[..., 2, 0],
                matrix[..., 1, 0] - matrix[..., 0, 1],
            ],
            -1,
        )
        / 2
    )


class _Exp(Fused):
    """With θ = |ω|: S = sin θ / θ, K = (1 − cos θ) / θ², D = (1 − S) / θ²."""

    @staticmethod
    def value(omega: Tensor) -> tuple[Tensor, ...]:
        w = omega.double()
        square = (w * w).sum(-1, keepdim=True)
        cosine, sinc, k = rodrigues(square)
        # Of cos θ, S ω and K ω ωᵀ, row by row.
        flat = torch.cat([cosine, sinc * w], -1) @ _placing(w.device)
        rotation = torch.addcmul(flat.unflatten(-1, (3, 3)), (k * w).unsqueeze(-1), w.unsqueeze(-2))
        return rotation.to(omega.dtype, copy=True), rotation, square, sinc, k

    @staticmethod
    def derivative(gradient: Tensor, omega: Tensor, *kept: Tensor) -> tuple[Tensor]:
        w, g = omega.double(), gradient.double()
        rotation, square, sinc, k = kept
        if torch.is_grad_enabled():  # to be differentiated again
            rotation, square = exp(w), (w * w).sum(-1, keepdim=True)
            sinc, k = sinc_sqrt(square), sinc_sqrt(square / 4).square() / 2
        # Of Rᵀ g, the sum of its products with the parts of ŷ. In float64, which neither autocast
        # nor TF32 rounds.
        torque = (rotation.mT @ g).flatten(-2) @ _placing(w.device)[1:].mT
        return (by_axis(torque, w, square, sinc, k, dim=-1).to(omega.dtype),)


def rodrigues(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """cos θ, S = sin θ / θ and K = (1 − cos θ) / θ² of θ², in float64."""
    half = square.clamp_min(torch.finfo(square.dtype).tiny).sqrt() * constant(
        0.5, square.dtype, square.device
    )
    sine = torch.sin(half)
    chord = sine / half
    one_half = constant(0.5, square.dtype, square.device)
    cosine = torch.addcmul(constant(1.0, square.dtype, square.device), sine, sine, value=-2)
    return cosine, chord * torch.cos(half), chord * chord * one_half


def by_axis(
    torque: Tensor, w: Tensor, square: Tensor, sinc: Tensor, k: Tensor, *, dim: int
) -> Tensor:
    """The derivative by ω of what turns by ⟨torque, y⟩ as R turns by R ŷ, with θ², S and K.

    dR = R ŷ with y = (I − K ω̂ + D ω̂²) dω, and ω̂² = ω ωᵀ − θ² I; vectors along ``dim``.
    """
    if torch.is_grad_enabled():  # to be differentiated again
        d = sinc_defect_sqrt(square)
    else:
        # It meets ω twice, so that what cancels at ω = 0 stays below rounding.
        one = constant(1.0, w.dtype, w.device)
        d = (one - sinc) / square.clamp_min(torch.finfo(w.dtype).tiny)
    along = d * (w * torque).sum(dim, keepdim=True)
    turned = torch.addcmul(sinc * torque, k, torch.linalg.cross(w, torque, dim=dim))
    return torch.addcmul(turned, along, w)


@built_once
def _placing(device: torch.device) -> Tensor:
    """Where 1 and the components of ω stand in I and ω̂, of shape ``(4, 9)``."""
    basis = torch.eye(3, dtype=torch.float64, device=device)
    return torch.stack([basis, *hat(basis)]).flatten(1)


def exp(omega: Tensor) -> Tensor:
    r"""Rodrigues' formula, of shape ``(*, 3, 3)``, for rotation vectors of shape ``(*, 3)``.

    exp ω̂ = cos θ I + (sin θ / θ) ω̂ + ((1 − cos θ) / θ²) ω ωᵀ, with θ = \|ω\|; smooth at ω = 0.
    In float64 inside, where the square of no float32 overflows.
    """
    return _Exp.of(omega)


def to_quaternion(rotation: Tensor) -> Tensor:
    """Unit quaternion (w, x, y, z) of shape ``(*, 4)`` with w ≥ 0.

    Of the four ways to read it from a rotation matrix the one is taken that divides by the largest
    component (Shepperd, 1978). At half a turn, w = 0, the first of x, y, z that is not zero is
    positive.
    """
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = (2 * vee(m)).unbind(-1)
    xy, xz, yz = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    # Row k is 4 q_k q.
    rows = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, wx, wy, wz], -1),
            torch.stack([wx, 1 + xx - yy - zz, xy, xz], -1),
            torch.stack([wy, xy, 1 - xx + yy - zz, yz], -1),
            torch.stack([wz, xz, yz, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    largest = torch.diagonal(rows, dim1=-2, dim2=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    row = torch.gather(rows, -2, index).squeeze(-2)
    quaternion = row / torch.linalg.vector_norm(row, dim=-1, keepdim=True)
    return quaternion * _leading_sign(quaternion.detach())


def _leading_sign(quaternion: Tensor) -> Tensor:
    """±1 of shape ``(*, 1)``: the sign of the first component that is not zero."""
    sign = torch.sign(quaternion)
    first = (sign != 0).int().argmax(-1, keepdim=True)
    return torch.gather(sign, -1, first)


def from_quaternion(quaternion: Tensor) -> Tensor:
    """The rotation matrix ``(*, 3, 3)`` of a unit quaternion (w, x, y, z) of shape ``(*, 4)``."""
    w, v = quaternion[..., :1], quaternion[..., 1:]
    eye = torch.eye(3, dtype=v.dtype, device=v.device)
    outer = v.unsqueeze(-1) * v.unsqueeze(-2)
    scale = (w * w - (v * v).sum(-1, keepdim=True)).unsqueeze(-1)
    return scale * eye + 2 * outer + 2 * w.unsqueeze(-1) * hat(v)


def log(rotation: Tensor) -> Tensor:
    r"""Rotation vector of shape ``(*, 3)``, \|ω\| ≤ π, of a rotation ``(*, 3, 3)``.

    At half a turn there are two, ω and −ω: that whose first component different from zero is
    positive.
    """
    return log_quaternion(to_quaternion(rotation))


def log_quaternion(quaternion: Tensor) -> Tensor:
    """The rotation vector of shape ``(*, 3)`` of a unit quaternion with w ≥ 0, ``(*, 4)``."""
    w, v = quaternion[..., :1], quaternion[..., 1:]
    return 2 * arc_over_sine((v * v).sum(-1, keepdim=True), w) * v


class _NearestRotation(Fused):
    @staticmethod
    def value(y: Tensor) -> tuple[Tensor, ...]:
        # LAPACK refuses NaN for the whole batch; here it stays with the matrices that hold any.
        finite = torch.isfinite(y).all(-1).all(-1)[..., None, None]
        u, s, vh = torch.linalg.svd(torch.where(finite, y, 0.0))
        sign = torch.where(torch.linalg.det(u) * torch.linalg.det(vh) < 0, -1.0, 1.0)
        flip = torch.ones_like(s)
        flip[..., 2] = sign
        s = s * flip
        # Of the symmetric factor H = Rᵀ Y: eigenvectors, and tr H − H inverted.
        sums = s.sum(-1, keepdim=True) - s
        floor = torch.finfo(y.dtype).eps * s[..., :1] + 1e3 * torch.finfo(y.dtype).tiny
        inverse = torch.where(sums > floor, 1 / torch.where(sums > floor, sums, 1.0), 0.0)
        rotation = compose(u * flip.unsqueeze(-2), vh)
        rotation = torch.where(finite, rotation, torch.nan)
        return rotation, rotation.clone(), vh, inverse

    @staticmethod
    def derivative(gradient: Tensor, y: Tensor, *kept: Tensor) -> tuple[Tensor]:
        if torch.is_grad_enabled():  # to be differentiated again
            return (_differentiable(gradient, y, *kept[1:]),)
        rotation, vh, inverse = kept
        torque = 2 * vee(compose(rotation.mT, gradient))
        omega = turn(vh.mT, inverse * turn(vh, torque))
        return (compose(rotation, hat(omega)),)


def _differentiable(gradient: Tensor, y: Tensor, vh: Tensor, inverse: Tensor) -> Tensor:
    rotation = _NearestRotation.of(y)
    h = compose(rotation.mT, y)
    eye = torch.eye(3, dtype=y.dtype, device=y.device)
    trace = torch.diagonal(h, dim1=-2, dim2=-1).sum(-1)[..., None, None]
    torque = 2 * vee(compose(rotation.mT, gradient))
    matrix = trace * eye - (h + h.mT) / 2
    regular = (inverse > 0).all(-1, keepdim=True)
    solved = torch.linalg.solve(torch.where(regular.unsqueeze(-1), matrix, eye), torque)
    # Elsewhere by the inverse on what is determined, which one step of Newton's method lets depend
    # on the matrix.
    omega = turn(vh.mT, inverse * turn(vh, torque))
    rest = torque - turn(matrix, omega)
    omega = omega + turn(vh.mT, inverse * turn(vh, rest))
    return compose(rotation, hat(torch.where(regular, solved, omega)))


def nearest_rotation(y: Tensor) -> Tensor:
    r"""The rotation nearest to a matrix y of shape ``(*, 3, 3)``, in the Euclidean distance.

    U diag(1, 1, det(U Vᵀ)) Vᵀ for the singular value decomposition y = U S Vᵀ: a rotation also
    where det y < 0. With H = Rᵀ y its differential is dR = R ω̂, (tr H − H) ω = 2 vee(Rᵀ dy); that
    is finite at repeated singular values, where the derivative of the decomposition itself is not.
    Where two singular values, the smaller with the sign of det y, add up to zero (y of rank one,
    say), there is no single nearest rotation: one is chosen, and what of the gradient would be
    infinite is zero.
    """
    return _NearestRotation.of(y)


def random_uniform(
    shape: tuple[int, ...],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> Tensor:
    """Rotations of the Haar law, of shape ``(*shape, 3, 3)``."""
    q = torch.randn((*shape, 4), generator=generator, dtype=dtype, device=device)
    return from_quaternion(q / torch.linalg.vector_norm(q, dim=-1, keepdim=True))
