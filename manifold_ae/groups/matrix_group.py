"""Matrix groups: an element is its own matrix, and the product is that of matrices."""

from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.groups.base import LieGroup, looks_at_values, product, require_values

__all__ = ["MatrixGroup", "OrthogonalGroup", "block_diagonal", "matrix_exp", "require_rotations"]

#: Up to this size, products and sums are faster than a batched matrix product.
_SMALL = 4


class MatrixGroup(LieGroup):
    """A Lie group whose elements are matrices of shape ``(*, m, m)``."""

    @property
    def element_shape(self) -> tuple[int, int]:  # type: ignore[override]
        return (self.matrix_size, self.matrix_size)

    def identity(
        self, *batch_shape: int, dtype: torch.dtype | None = None, device: Any = None
    ) -> Tensor:
        eye = torch.eye(self.matrix_size, dtype=dtype, device=device)
        return eye.expand(*batch_shape, *eye.shape).clone()

    def _compose(self, g: Tensor, h: Tensor) -> Tensor:
        return rotations.compose(g, h) if self.matrix_size <= _SMALL else product(g, h)

    def _matrix(self, g: Tensor) -> Tensor:
        return g

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        return rotations.turn(g, x)


class OrthogonalGroup(MatrixGroup):
    """A compact group of rotations: the inverse is the transpose."""

    is_compact = True

    def _inverse(self, g: Tensor) -> Tensor:
        return g.mT


def require_rotations(g: Tensor) -> None:
    """Raise a ValueError unless matrices ``(*, m, m)`` are finite and turn rather than reflect.

    The closed forms of logarithms would take a reflection for the rotation nearest to it.
    """
    if looks_at_values():
        with torch.no_grad():
            turns = (torch.linalg.det(g) > 0) & torch.isfinite(g).all(-1).all(-1)
        require_values(
            turns,
            lambda: (
                "g has a matrix that is not finite, or of determinant 0 or below: it is no "
                "rotation, and has no logarithm; a reflection is a rotation times one that is fixed"
            ),
        )


def matrix_exp(A: Tensor) -> Tensor:
    """torch.linalg.matrix_exp, in the precision of A under autocast too."""
    with torch.autocast(A.device.type, enabled=False):
        return torch.linalg.matrix_exp(A.contiguous())  # it takes no expanded batch


def block_diagonal(blocks: list[Tensor]) -> Tensor:
    """Square matrices ``(*, m_k, m_k)`` along the diagonal of one, ``(*, Σ m_k, Σ m_k)``."""
    batch = torch.broadcast_shapes(*(block.shape[:-2] for block in blocks))
    size = sum(block.shape[-1] for block in blocks)
    rows, before = [], 0
    for block in blocks:
        m = block.shape[-1]
        padding = (before, size - before - m)
        rows.append(torch.nn.functional.pad(block.expand(*batch, m, m), padding))
        before += m
    return torch.cat(rows, -2)
