r"""Irreducible real representations of SO(2), tori, SO(3) and finite groups.

- SO(2), weight k: the rotation of the plane by kθ. Tori, weights (k₁, …, k_n): by Σ kᵢ θᵢ. The
  weights k and −k are equivalent; weight zero is one-dimensional and trivial.
- SO(3), degree l: D^l of size 2l + 1, in the orthonormal basis of real harmonics
  (cos mφ, sin mφ) for m = l, …, 1, then m = 0. So D¹(R) = R, and a rotation about z by θ is
  block-diagonal: rotations of the plane by lθ, …, θ, and 1.
- Cyclic(n), weight k: the rotation of the plane by 2πk/n; one-dimensional for k = 0 and n/2.
- other finite groups: the number in the list of ``irreducible_finite.irreps(group)``.
"""

import math
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.groups.base import Group, LieGroup, product, require_trailing
from manifold_ae.groups.cyclic import Cyclic, plane_turns
from manifold_ae.groups.finite_group import FiniteGroup
from manifold_ae.groups.irreducible_finite import FiniteIrrep
from manifold_ae.groups.representations import Representation
from manifold_ae.groups.so2 import SO2
from manifold_ae.groups.so3 import SO3
from manifold_ae.groups.torus import Torus
from manifold_ae.numerics import built_once

__all__ = ["harmonics", "irrep"]


@singledispatch
def irrep(group: Group, label: Any) -> Representation:
    """The irreducible real representation of a group with that label; see this module.

    Args:
        group: ``SO2()``, ``Torus(n)``, ``SO3()`` or a finite group.
        label: a weight, n weights, a degree, or a number in ``irreps(group)``.

    Raises:
        NotImplementedError: for other groups: ``Defining(group)`` is their matrices.
        ValueError: if there is no such label.

    Example:
        >>> irrep(SO3(), 2)(torch.zeros(3)).shape
        torch.Size([5, 5])
    """
    raise NotImplementedError(
        f"irreducible representations of {group!r} are not listed: Defining(group) is its "
        "matrices, Factor(product, k, rho) a representation of a product by its factor k"
    )


@irrep.register
def _(group: SO2, label: Any) -> Representation:
    return _CircleIrrep(group, (label,))


@irrep.register
def _(group: Torus, label: Any) -> Representation:
    weights = (label,) if isinstance(label, int) else tuple(label)
    return _CircleIrrep(group, weights)


@irrep.register
def _(group: SO3, label: Any) -> Representation:
    return _RotationIrrep(group, label)


@irrep.register
def _(group: FiniteGroup, label: Any) -> Representation:
    return FiniteIrrep(group, label)


@irrep.register
def _(group: Cyclic, label: Any) -> Representation:
    return _CyclicIrrep(group, label)


def _is_integer(label: Any) -> bool:
    return isinstance(label, int) and not isinstance(label, bool)


# ---- circles --------------------------------------------------------------------------------


class _CircleIrrep(Representation):
    """The plane turned by Σ kᵢ θᵢ."""

    def __init__(self, group: SO2 | Torus, weights: tuple[int, ...]) -> None:
        if len(weights) != group.dim or not all(map(_is_integer, weights)):
            raise ValueError(
                f"weights = {weights!r}: {group!r} has {group.dim} integers, one for each angle"
            )
        self.group, self.weights = group, weights
        self.size = 2 if any(weights) else 1

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.group, self.weights

    def __repr__(self) -> str:
        label = self.weights[0] if len(self.weights) == 1 else self.weights
        return f"irrep({self.group!r}, {label!r})"

    def of(self, g: Tensor) -> Tensor:
        assert isinstance(self.group, LieGroup)
        return self(self.group.log(g))

    def __call__(self, action: Tensor) -> Tensor:
        assert isinstance(self.group, LieGroup)
        self.group._require_coordinates("X", action)
        # By products and sums: matmul rounds to fewer digits under autocast.
        turn = (action * torch.tensor(self.weights).to(action)).sum(-1)
        cosine, sine = torch.cos(turn), torch.sin(turn)
        if self.size == 1:
            return cosine[..., None, None]
        return torch.stack([cosine, -sine, sine, cosine], -1).unflatten(-1, (2, 2))


class _CyclicIrrep(Representation):
    """The plane turned by 2πk/n."""

    def __init__(self, group: Cyclic, weight: int) -> None:
        if not _is_integer(weight):
            raise ValueError(f"weight must be an integer, got {weight!r}")
        self.group: Cyclic = group
        self.weight = weight
        self.size = 1 if 2 * weight % group.order == 0 else 2

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.group, self.weight

    def __repr__(self) -> str:
        return f"irrep({self.group!r}, {self.weight!r})"

    def of(self, g: Tensor) -> Tensor:
        self.group._require_element("g", g)
        turns = _turns(self.group.order, self.dtype or torch.get_default_dtype(), g.device)
        return turns[self.weight * g.long() % self.group.order][..., : self.size, : self.size]


@built_once
def _turns(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.from_numpy(plane_turns(n)).to(device, dtype)


# ---- rotations of space ---------------------------------------------------------------------


class _RotationIrrep(Representation):
    """D^l by D^l = Cᵀ (D^{l−1} ⊗ R) C, with the isometry C of degree l into degrees l−1 and 1.

    So D^l is a polynomial in the entries of R: exact, and smooth everywhere.
    """

    def __init__(self, group: SO3, degree: int) -> None:
        if not _is_integer(degree) or degree < 0:
            raise ValueError(f"degree must be an integer of at least 0, got {degree!r}")
        self.group, self.degree, self.size = group, degree, 2 * degree + 1

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.group, self.degree

    def __repr__(self) -> str:
        return f"irrep({self.group!r}, {self.degree!r})"

    def of(self, g: Tensor) -> Tensor:
        if self.degree == 0:
            return torch.ones_like(g[..., :1, :1])
        matrix = g
        for degree in range(2, self.degree + 1):
            c = _coupling(degree, g.dtype, g.device)  # (2l − 1, 3, 2l + 1)
            pairs = matrix[..., :, None, :, None] * g[..., None, :, None, :]
            pairs = pairs.flatten(-2).flatten(-3, -2)
            c = c.flatten(0, 1)
            matrix = product(c.mT, product(pairs, c))
        return matrix

    def __call__(self, action: Tensor) -> Tensor:
        assert isinstance(self.group, LieGroup)
        self.group._require_coordinates("X", action)
        return self.of(rotations.exp(action))


def harmonics(degree: int, x: Tensor) -> Tensor:
    r"""Real solid harmonics Y_l of shape ``(*, 2l + 1)`` at x of shape ``(*, 3)``.

    Y_l(Rx) = D^l(R) Y_l(x), in the basis of ``irrep(SO3(), degree)``, polynomials of degree l.
    On the unit sphere they are orthonormal, with \|Y_l(x)\|² = (2l + 1)/4π. By
    Y_l ∝ Cᵀ (Y_{l−1} ⊗ x).

    Raises:
        ValueError: if the degree is none, or x is no floating-point tensor ``(*, 3)``.
    """
    if not _is_integer(degree) or degree < 0:
        raise ValueError(f"degree must be an integer of at least 0, got {degree!r}")
    require_trailing("harmonics", "x", x, (3,))
    value = torch.full_like(x[..., :1], math.sqrt(1 / (4 * math.pi)))
    if degree == 0:
        return value
    value = value * math.sqrt(3.0) * x
    for n in range(2, degree + 1):
        c = _coupling(n, x.dtype, x.device)
        pairs = value[..., :, None] * x[..., None, :]  # (*, 2n − 1, 3)
        scale = math.sqrt((2 * n + 1) / n)
        value = scale * (pairs.unsqueeze(-1) * c).sum((-3, -2))
    return value


@built_once
def _coupling(degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The isometry of degree l into degrees l − 1 and 1, of shape ``(2l − 1, 3, 2l + 1)``.

    The Clebsch–Gordan coefficients ⟨l−1, m−q; 1, q | l, m⟩ are square roots of ratios
    (Varshalovich et al., 1988, table 8.2), here between the real bases.
    """
    lower, n = degree - 1, (2 * degree - 1) * 2 * degree
    complex_ = torch.zeros(2 * degree - 1, 3, 2 * degree + 1, dtype=torch.complex128)
    for m in range(-degree, degree + 1):
        squares = {
            1: (degree + m - 1) * (degree + m) / n,
            0: 2 * (degree - m) * (degree + m) / n,
            -1: (degree - m - 1) * (degree - m) / n,
        }
        for q, square in squares.items():
            if abs(m - q) <= lower:
                complex_[m - q + lower, q + 1, m + degree] = math.sqrt(square)
    a, b, c = (_real_basis(k) for k in (lower, 1, degree))
    real = torch.einsum("ia,jb,abk,kc->ijc", a.mH, b.mH, complex_, c)
    return real.real.to(device, dtype)


def _real_basis(degree: int) -> Tensor:
    """Columns: (cos mφ, sin mφ), m = l … 1, then m = 0, in the complex basis \\|−l⟩ … \\|l⟩."""
    columns = torch.zeros(2 * degree + 1, 2 * degree + 1, dtype=torch.complex128)
    i = torch.tensor(1j, dtype=torch.complex128)
    for k, m in enumerate(range(degree, 0, -1)):
        sign = (-1) ** m
        columns[degree - m, 2 * k], columns[degree + m, 2 * k] = 1, sign
        columns[degree - m, 2 * k + 1], columns[degree + m, 2 * k + 1] = i, -sign * i
    columns = columns / math.sqrt(2)
    columns[degree, 2 * degree] = 1
    return columns
