r"""ℝ₊ ⋉ ℝⁿ: scalings and translations, which the steps of a diffusion process are."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups.base import LieGroup, check_size, require_values
from manifold_ae.groups.homogeneous import homogeneous
from manifold_ae.numerics import expm1_ratio

__all__ = ["ScaleTranslation"]


@dataclass(frozen=True, repr=False)
class ScaleTranslation(LieGroup):
    r"""x ↦ s x + b with s > 0; elements (s, b) of shape ``(*, n + 1)``, X = (log-scale a, v).

    (s₂, b₂)(s₁, b₁) = (s₂s₁, s₂b₁ + b₂), inverse (1/s, −b/s), exp(a, v) = (eᵃ, φ₁(a) v) with
    φ₁(a) = (eᵃ − 1)/a, log(s, b) = (ln s, b/φ₁(ln s)), [(a, v), (a', v')] = (0, av' − a'v). exp is
    one to one onto the group. With ``diagonal`` there is a scale for each coordinate, and elements
    have shape ``(*, 2n)``. ``random`` is exp of standard normal coordinates.

    Raises:
        ValueError: by ``log`` and ``inverse``, for a scale that is not positive.

    Example:
        >>> G = ScaleTranslation(2)
        >>> G.act(G.exp(torch.tensor([0.0, 1.0, 2.0])), torch.ones(2))
        tensor([2., 3.])
    """

    n: int
    diagonal: bool = False
    is_compact = False
    is_abelian = False

    def __post_init__(self) -> None:
        check_size("ScaleTranslation", self.n)
        if not isinstance(self.diagonal, bool):
            raise ValueError(f"ScaleTranslation: diagonal must be a bool, got {self.diagonal!r}")

    def __repr__(self) -> str:
        return f"ScaleTranslation({self.n}{', diagonal=True' if self.diagonal else ''})"

    @property
    def spec(self) -> str:
        return f"{'diagonal-' if self.diagonal else ''}scale-translation:{self.n}"

    @property
    def _scales(self) -> int:
        return self.n if self.diagonal else 1

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self._scales + self.n

    @property
    def element_shape(self) -> tuple[int]:  # type: ignore[override]
        return (self._scales + self.n,)

    @property
    def degree(self) -> int:  # type: ignore[override]
        return self.n

    @property
    def matrix_size(self) -> int:
        return self.n + 1

    def identity(
        self, *batch_shape: int, dtype: torch.dtype | None = None, device: Any = None
    ) -> Tensor:
        one = torch.ones(*batch_shape, self._scales, dtype=dtype, device=device)
        zero = torch.zeros(*batch_shape, self.n, dtype=dtype, device=device)
        return torch.cat([one, zero], -1)

    def _parts(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Scale, of shape ``(*, 1)`` or ``(*, n)``, and translation, ``(*, n)``."""
        return g[..., : self._scales], g[..., self._scales :]

    def _positive(self, g: Tensor) -> tuple[Tensor, Tensor]:
        scale, translation = self._parts(g)
        require_values(
            scale > 0, lambda: f"g has a scale that is not positive; those of {self!r} are"
        )
        return scale, translation

    def _compose(self, g: Tensor, h: Tensor) -> Tensor:
        (s, b), (s1, b1) = self._parts(g), self._parts(h)
        return torch.cat([s * s1, s * b1 + b], -1)

    def _inverse(self, g: Tensor) -> Tensor:
        s, b = self._positive(g)
        return torch.cat([1 / s, -b / s], -1)

    def _matrix(self, g: Tensor) -> Tensor:
        s, b = self._parts(g)
        return homogeneous(torch.diag_embed(s.expand(b.shape)), b)

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        s, b = self._parts(g)
        return s * x + b

    def _exp(self, X: Tensor) -> Tensor:
        a, v = self._parts(X)
        return torch.cat([torch.exp(a), expm1_ratio(a) * v], -1)

    def _log(self, g: Tensor) -> Tensor:
        s, b = self._positive(g)
        a = torch.log(s)
        return torch.cat([a, b / expm1_ratio(a)], -1)

    def _hat(self, X: Tensor) -> Tensor:
        a, v = self._parts(X)
        return homogeneous(torch.diag_embed(a.expand(v.shape)), v, 0.0)

    def _vee(self, A: Tensor) -> Tensor:
        scales = torch.diagonal(A[..., :-1, :-1], 0, -2, -1)
        a = scales if self.diagonal else scales.mean(-1, keepdim=True)
        return torch.cat([a, A[..., :-1, -1]], -1)

    def _bracket(self, X: Tensor, Y: Tensor) -> Tensor:
        (a, v), (b, w) = self._parts(X), self._parts(Y)
        moved = a * w - b * v
        return torch.cat([torch.zeros_like(moved[..., : self._scales]), moved], -1)

    def _adjoint(self, g: Tensor) -> Tensor:
        """[[I, 0], [−b, sI]]; with ``diagonal``, −b stands for a diagonal matrix."""
        s, b = self._parts(g)
        eye = torch.eye(self.dim, dtype=g.dtype, device=g.device)[: self._scales]
        side = torch.diag_embed(-b) if self.diagonal else -b.unsqueeze(-1)
        lower = torch.cat([side, torch.diag_embed(s.expand(b.shape))], -1)
        return torch.cat([eye.expand(*g.shape[:-1], *eye.shape), lower], -2)

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        shape = (*sample_shape, self.dim)
        return self._exp(torch.randn(shape, generator=generator, dtype=dtype, device=device))
