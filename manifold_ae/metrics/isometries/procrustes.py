r"""Euclidean spaces and spheres: Procrustes' problem, solved by one singular value decomposition.

    Σ |Q a_i − b_i|² = min over O(n):   Q = polar(Σ b_i a_iᵀ),                                (1)

U Vᵀ for the decomposition U S Vᵀ; in Euclidean space of the points less their means, which the
translation carries to each other.

References:
    P. H. Schönemann, *A generalized solution of the orthogonal Procrustes problem*, 1966,
    https://doi.org/10.1007/BF02289451
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.manifolds import Euclidean, Manifold, Sphere
from manifold_ae.metrics.isometries.base import Isometry, nearest_isometry

__all__ = ["Rigid", "degrees", "polar", "turn_in_words"]


@dataclass(frozen=True, eq=False)
class Rigid(Isometry):
    """x ↦ Q x + c.

    Attributes:
        matrix: Q, orthogonal, ``(n, n)``.
        offset: c, ``(n,)``; zero but in Euclidean space.
    """

    manifold: Manifold
    matrix: Tensor
    offset: Tensor

    def apply(self, x: Tensor) -> Tensor:
        return (x.double() @ self.matrix.to(x.device).mT + self.offset.to(x.device)).to(x.dtype)

    @property
    def words(self) -> str:
        moved = "" if not self.offset.any() else f", then a shift by {_vector(self.offset)}"
        return turn_in_words(self.matrix) + moved


@nearest_isometry.register
def _(M: Sphere, a: Tensor, b: Tensor, rng: np.random.Generator) -> Rigid:
    return Rigid(M, polar(b.mT @ a), torch.zeros(a.shape[-1], dtype=torch.float64))


@nearest_isometry.register
def _(M: Euclidean, a: Tensor, b: Tensor, rng: np.random.Generator) -> Rigid:
    matrix = polar((b - b.mean(0)).mT @ (a - a.mean(0)))
    return Rigid(M, matrix, b.mean(0) - matrix @ a.mean(0))


def polar(matrix: Tensor) -> Tensor:
    """The orthogonal matrix nearest to a matrix ``(*, n, n)``."""
    u, _, vh = torch.linalg.svd(matrix)
    return u @ vh


def turn_in_words(matrix: Tensor) -> str:
    """An orthogonal matrix ``(n, n)``: of which angle, and where it is one of space, which axis."""
    n = matrix.shape[-1]
    proper = torch.linalg.det(matrix) > 0
    if n == 1:
        return "identity" if proper else "reflection"
    if n == 2:
        if proper:
            return f"turn by {degrees(torch.atan2(matrix[1, 0], matrix[0, 0]))}"
        axis = torch.atan2(matrix[1, 0], matrix[0, 0]) / 2
        return f"reflection that keeps the direction {degrees(axis)}"
    if n == 3:
        rotation = matrix if proper else -matrix
        angle, axis = _axis(rotation)
        turn = f"turn by {degrees(angle)} about {_vector(axis)}"
        if angle < 1e-6:
            return "identity" if proper else "x ↦ −x"
        return turn if proper else f"x ↦ −x, then a {turn}"
    angles = torch.linalg.eigvals(matrix).angle().abs().sort(descending=True).values
    # One of the eigenvalues −1 is the reflection's; the others come in pairs.
    planes = [angle for angle in angles[0 if proper else 1 :: 2] if angle > 1e-6]
    if proper and not planes:
        return "identity"
    turned = f"turn of ℝ{str(n).translate(_RAISED)} by {', '.join(map(degrees, planes))}"
    return turned if proper else f"reflection, and a {turned}" if planes else "reflection"


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _axis(rotation: Tensor) -> tuple[Tensor, Tensor]:
    vector = rotations.log(rotation)
    angle = vector.norm()
    return angle, vector / angle if angle > 1e-12 else torch.eye(3, dtype=vector.dtype)[2]


def degrees(angle: Tensor | float) -> str:
    """An angle in radians, in degrees with one digit after the point."""
    return f"{_rounded(math.degrees(float(angle)), 1):.1f}°"


def _vector(v: Tensor) -> str:
    return "(" + ", ".join(f"{_rounded(x, 2):.2f}" for x in v.tolist()) + ")"


def _rounded(x: float, digits: int) -> float:
    """Without a minus sign before zero."""
    return round(x, digits) + 0.0
