"""Groups of affine maps x ↦ Ax + b, by their homogeneous matrices [[A, b], [0, 1]]."""

import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.groups.matrix_group import MatrixGroup

__all__ = ["HomogeneousGroup", "homogeneous"]


class HomogeneousGroup(MatrixGroup):
    """Maps x ↦ Ax + b of ℝⁿ, with elements of shape ``(*, n + 1, n + 1)``; n is ``degree``."""

    is_compact = False

    @property
    def matrix_size(self) -> int:
        return self.degree + 1

    def _parts(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """A of shape ``(*, n, n)`` and b of shape ``(*, n)``."""
        return g[..., :-1, :-1], g[..., :-1, -1]

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        linear, translation = self._parts(g)
        return rotations.turn(linear, x) + translation


class RigidMotions(HomogeneousGroup):
    """The groups of rotations and translations: the linear part is orthogonal."""

    is_abelian = False

    def _inverse(self, g: Tensor) -> Tensor:
        rotation, translation = self._parts(g)
        return homogeneous(rotation.mT, -rotations.turn(rotation.mT, translation))


def homogeneous(linear: Tensor, translation: Tensor, corner: float = 1.0) -> Tensor:
    """[[A, b], [0, corner]], of shape ``(*, n + 1, n + 1)``: corner 0 in the algebra."""
    n = linear.shape[-1]
    batch = torch.broadcast_shapes(linear.shape[:-2], translation.shape[:-1])
    columns = linear.expand(*batch, n, n), translation.expand(*batch, n).unsqueeze(-1)
    last = torch.zeros(n + 1, dtype=linear.dtype, device=linear.device)
    last[-1] = corner
    return torch.cat([torch.cat(columns, -1), last.expand(*batch, 1, n + 1)], -2)
