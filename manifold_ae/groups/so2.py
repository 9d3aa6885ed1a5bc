r"""SO(2): rotations of the plane."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups.matrix_group import OrthogonalGroup, require_rotations

__all__ = ["SO2"]


@dataclass(frozen=True, repr=False)
class SO2(OrthogonalGroup):
    r"""Rotations of the plane; elements of shape ``(*, 2, 2)``, X the angle, of shape ``(*, 1)``.

    exp θ = [[cos θ, −sin θ], [sin θ, cos θ]]; log g in [−π, π]. The element nearest to a matrix
    has the same angle, so that log does not ask g to be orthogonal to rounding; of a reflection, or
    what is not finite, it raises a ValueError.

    Example:
        >>> G = SO2()
        >>> G.log(G.compose(G.exp(torch.tensor([2.0])), G.exp(torch.tensor([2.0]))))
        tensor([-2.2832])
    """

    dim = 1
    degree = 2
    is_abelian = True
    periods = ((1.0,),)

    @property
    def spec(self) -> str:
        return "so2"

    def _exp(self, X: Tensor) -> Tensor:
        cosine, sine = torch.cos(X[..., 0]), torch.sin(X[..., 0])
        return torch.stack([cosine, -sine, sine, cosine], -1).unflatten(-1, (2, 2))

    def _log(self, g: Tensor) -> Tensor:
        require_rotations(g)
        angle = torch.atan2(g[..., 1, 0] - g[..., 0, 1], g[..., 0, 0] + g[..., 1, 1])
        return angle.unsqueeze(-1)

    def _hat(self, X: Tensor) -> Tensor:
        zero = torch.zeros_like(X)
        return torch.cat([zero, -X, X, zero], -1).unflatten(-1, (2, 2))

    def _vee(self, A: Tensor) -> Tensor:
        return ((A[..., 1, 0] - A[..., 0, 1]) / 2).unsqueeze(-1)

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        turns = torch.rand((*sample_shape, 1), generator=generator, dtype=dtype, device=device)
        return self._exp(2 * math.pi * turns)
