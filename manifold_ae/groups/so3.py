r"""SO(3): rotations of space, by the formulas of ``groups.rotations``."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.groups.matrix_group import OrthogonalGroup, require_rotations

__all__ = ["SO3"]


@dataclass(frozen=True, repr=False)
class SO3(OrthogonalGroup):
    r"""Rotations of space; elements of shape ``(*, 3, 3)``, the points of ``manifolds.SO3``.

    X is a rotation vector ω, axis times angle; exp by Rodrigues' formula, \|log g\| ≤ π, and of the
    two logarithms of half a turn the one whose first component different from zero is positive.
    [X, Y] = X × Y, Ad_g = g.

    Raises:
        ValueError: by ``log`` of a reflection, or of what is not finite.

    Example:
        >>> G = SO3()
        >>> G.bracket(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
        tensor([0., 0., 1.])
    """

    dim = 3
    degree = 3
    is_abelian = False
    periods = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    @property
    def spec(self) -> str:
        return "so3"

    def _exp(self, X: Tensor) -> Tensor:
        return rotations.exp(X)

    def _log(self, g: Tensor) -> Tensor:
        require_rotations(g)
        return rotations.log(g)

    def _hat(self, X: Tensor) -> Tensor:
        return rotations.hat(X)

    def _vee(self, A: Tensor) -> Tensor:
        return rotations.vee(A)

    def _bracket(self, X: Tensor, Y: Tensor) -> Tensor:
        return rotations.turn(rotations.hat(X), Y)

    def _adjoint(self, g: Tensor) -> Tensor:
        return g

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        return rotations.random_uniform(
            sample_shape, generator=generator, dtype=dtype, device=device
        )
