r"""GL(n): the invertible matrices."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import logarithm
from manifold_ae.groups.base import check_size
from manifold_ae.groups.matrix_group import MatrixGroup, matrix_exp

__all__ = ["GL"]


@dataclass(frozen=True, repr=False)
class GL(MatrixGroup):
    """Invertible matrices of shape ``(*, n, n)``, X their entries row by row, ``(*, n²)``.

    log where no eigenvalue lies on the closed negative axis, of imaginary parts in (−π, π).
    ``random`` is exp of independent N(0, 1/n) entries: matrices of positive determinant.

    Raises:
        ValueError: by ``log`` outside its domain, and by ``inverse`` for a singular matrix.

    Example:
        >>> G = GL(2)
        >>> G.log(2 * torch.eye(2))
        tensor([0.6931, 0.0000, 0.0000, 0.6931])
    """

    n: int

    def __post_init__(self) -> None:
        check_size("GL", self.n)

    @property
    def is_compact(self) -> bool:  # type: ignore[override]
        return False

    @property
    def is_abelian(self) -> bool:  # type: ignore[override]
        return self.n == 1

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.n * self.n

    @property
    def degree(self) -> int:  # type: ignore[override]
        return self.n

    @property
    def spec(self) -> str:
        return f"gl:{self.n}"

    def _inverse(self, g: Tensor) -> Tensor:
        return logarithm.inverse(g)

    def _exp(self, X: Tensor) -> Tensor:
        return matrix_exp(self._hat(X))

    def _log(self, g: Tensor) -> Tensor:
        return self._vee(logarithm.matrix_log(g))

    def _has_log(self, g: Tensor) -> Tensor:
        return logarithm.has_principal_log(g)

    def _hat(self, X: Tensor) -> Tensor:
        return X.unflatten(-1, (self.n, self.n))

    def _vee(self, A: Tensor) -> Tensor:
        return A.flatten(-2)

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        shape = (*sample_shape, self.dim)
        X = torch.randn(shape, generator=generator, dtype=dtype, device=device)
        return self._exp(X / self.n**0.5)
