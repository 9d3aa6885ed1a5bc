r"""SO(n): rotations of ℝⁿ."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import logarithm, rotations
from manifold_ae.groups.base import check_size
from manifold_ae.groups.matrix_group import OrthogonalGroup, matrix_exp, require_rotations
from manifold_ae.groups.so2 import SO2

__all__ = ["SO"]


@dataclass(frozen=True, repr=False)
class SO(OrthogonalGroup):
    """Rotations of ℝⁿ, n ≥ 2; elements of shape ``(*, n, n)``.

    X is the entries of X̂ above the diagonal, row by row, of shape ``(*, n(n − 1)/2)``; X̂ is
    antisymmetric. In three dimensions the rotation vector of ``SO3`` is (−X₃, X₂, −X₁), in two the
    angle of ``SO2`` is −X. For n ≤ 3, exp and log are theirs; from n = 4 on log is defined where
    no angle of the rotation is π.

    Raises:
        ValueError: by ``log`` outside its domain.

    Example:
        >>> G = SO(4)
        >>> G.dim, G.element_shape
        (6, (4, 4))
    """

    n: int

    def __post_init__(self) -> None:
        check_size("SO", self.n, 2)

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.n * (self.n - 1) // 2

    @property
    def degree(self) -> int:  # type: ignore[override]
        return self.n

    @property
    def is_abelian(self) -> bool:  # type: ignore[override]
        return self.n == 2

    @property
    def spec(self) -> str:
        return f"so:{self.n}"

    @property
    def periods(self) -> tuple[tuple[float, ...], ...]:  # type: ignore[override]
        return tuple(tuple(float(i == k) for i in range(self.dim)) for k in range(self.dim))

    def _upper(self, like: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = torch.triu_indices(self.n, self.n, 1, device=like.device)
        return rows, columns

    def _exp(self, X: Tensor) -> Tensor:
        if self.n == 2:
            return SO2()._exp(-X)
        return rotations.exp(_reversed(X)) if self.n == 3 else matrix_exp(self._hat(X))

    def _log(self, g: Tensor) -> Tensor:
        if self.n == 2:
            return -SO2()._log(g)
        if self.n == 3:
            require_rotations(g)
            return _reversed(rotations.log(g))
        return self._vee(logarithm.orthogonal_log(g))

    def _has_log(self, g: Tensor) -> Tensor:
        return super()._has_log(g) if self.n <= 3 else logarithm.has_orthogonal_log(g)

    def _hat(self, X: Tensor) -> Tensor:
        rows, columns = self._upper(X)
        upper = X.new_zeros(*X.shape[:-1], self.n, self.n)
        upper[..., rows, columns] = X
        return upper - upper.mT

    def _vee(self, A: Tensor) -> Tensor:
        rows, columns = self._upper(A)
        return (A[..., rows, columns] - A[..., columns, rows]) / 2

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        """The Haar law: the Q of a Gaussian matrix, with the signs that make it unique."""
        shape = (*sample_shape, self.n, self.n)
        q, r = torch.linalg.qr(torch.randn(shape, generator=generator, dtype=dtype, device=device))
        q = q * torch.sign(torch.diagonal(r, 0, -2, -1)).unsqueeze(-2)
        first = q[..., :1] * torch.sign(torch.linalg.det(q))[..., None, None]
        return torch.cat([first, q[..., 1:]], -1)


def _reversed(X: Tensor) -> Tensor:
    """(−X₃, X₂, −X₁): from entries above the diagonal to a rotation vector, and back."""
    x, y, z = X.unbind(-1)
    return torch.stack([-z, y, -x], -1)
