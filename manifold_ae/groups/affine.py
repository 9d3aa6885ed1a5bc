r"""Aff(n) = GL(n) ⋉ ℝⁿ: the invertible affine maps."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import logarithm
from manifold_ae.groups.base import check_size
from manifold_ae.groups.homogeneous import HomogeneousGroup, homogeneous
from manifold_ae.groups.matrix_group import matrix_exp

__all__ = ["Affine"]


@dataclass(frozen=True, repr=False)
class Affine(HomogeneousGroup):
    """x ↦ Ax + b; elements [[A, b], [0, 1]] of shape ``(*, n + 1, n + 1)``.

    X is (A row by row, b), of shape ``(*, n² + n)``; exp and log are those of the homogeneous
    matrices, log where no eigenvalue of A lies on the closed negative axis. ``random`` is exp of
    independent entries, N(0, 1/n) in A and N(0, 1) in b.

    Raises:
        ValueError: by ``log`` outside its domain, and by ``inverse`` for a singular A.

    Example:
        >>> G = Affine(1)
        >>> G.act(G.exp(torch.tensor([0.0, 2.0])), torch.ones(1))
        tensor([3.])
    """

    n: int
    is_abelian = False

    def __post_init__(self) -> None:
        check_size("Affine", self.n)

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.n * self.n + self.n

    @property
    def degree(self) -> int:  # type: ignore[override]
        return self.n

    @property
    def spec(self) -> str:
        return f"affine:{self.n}"

    def _inverse(self, g: Tensor) -> Tensor:
        linear, b = self._parts(g)
        back = logarithm.inverse(linear)
        return homogeneous(back, -(back * b.unsqueeze(-2)).sum(-1))

    def _exp(self, X: Tensor) -> Tensor:
        A, v, size = self._rescaled(self._hat(X))
        linear, b = self._parts(matrix_exp(homogeneous(A, v, 0.0)))
        return homogeneous(linear, size * b)

    def _log(self, g: Tensor) -> Tensor:
        linear, b, size = self._rescaled(g)
        A, v = self._parts(logarithm.matrix_log(homogeneous(linear, b)))
        return torch.cat([A.flatten(-2), size * v], -1)

    def _has_log(self, g: Tensor) -> Tensor:
        linear, b, _ = self._rescaled(g)
        return logarithm.has_principal_log(homogeneous(linear, b))

    def _rescaled(self, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A, b/c and c: both maps are linear in b, and a large b must not set their scaling."""
        A, b = self._parts(matrix)
        size = b.detach().abs().amax(-1, keepdim=True).clamp_min(1.0)
        return A, b / size, size

    def _hat(self, X: Tensor) -> Tensor:
        A = X[..., : self.n * self.n].unflatten(-1, (self.n, self.n))
        return homogeneous(A, X[..., self.n * self.n :], 0.0)

    def _vee(self, A: Tensor) -> Tensor:
        linear, b = self._parts(A)
        return torch.cat([linear.flatten(-2), b], -1)

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        shape = (*sample_shape, self.dim)
        X = torch.randn(shape, generator=generator, dtype=dtype, device=device)
        A, b = X[..., : self.n * self.n], X[..., self.n * self.n :]
        return self._exp(torch.cat([A / self.n**0.5, b], -1))
