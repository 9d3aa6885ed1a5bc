r"""The torus Tⁿ = SO(2)ⁿ as a group: n angles that add."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups.base import LieGroup, check_size

__all__ = ["Torus"]


@dataclass(frozen=True, repr=False)
class Torus(LieGroup):
    """n angles; elements of shape ``(*, 2n)``: (cos, sin) of each, the points of ``FlatTorus(n)``.

    X is the n angles, of shape ``(*, n)``; log in [−π, π]. ``act`` turns n vectors of the plane,
    one beside the other.

    Example:
        >>> G = Torus(2)
        >>> G.log(G.inverse(G.exp(torch.tensor([1.0, 2.0]))))
        tensor([-1.0000, -2.0000])
    """

    n: int
    is_compact = True
    is_abelian = True

    def __post_init__(self) -> None:
        check_size("Torus", self.n)

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.n

    @property
    def degree(self) -> int:  # type: ignore[override]
        return 2 * self.n

    @property
    def element_shape(self) -> tuple[int]:  # type: ignore[override]
        return (2 * self.n,)

    @property
    def spec(self) -> str:
        return f"torus:{self.n}"

    @property
    def parts(self) -> tuple[int, ...]:
        return (1,) * self.n

    @property
    def periods(self) -> tuple[tuple[float, ...], ...]:  # type: ignore[override]
        return tuple(tuple(float(i == k) for i in range(self.n)) for k in range(self.n))

    def identity(
        self, *batch_shape: int, dtype: torch.dtype | None = None, device: Any = None
    ) -> Tensor:
        return self._exp(torch.zeros(*batch_shape, self.n, dtype=dtype, device=device))

    def _pairs(self, g: Tensor) -> tuple[Tensor, Tensor]:
        cosine, sine = g.unflatten(-1, (self.n, 2)).unbind(-1)
        return cosine, sine

    def _compose(self, g: Tensor, h: Tensor) -> Tensor:
        (c, s), (a, b) = self._pairs(g), self._pairs(h)
        return torch.stack([c * a - s * b, s * a + c * b], -1).flatten(-2)

    def _inverse(self, g: Tensor) -> Tensor:
        cosine, sine = self._pairs(g)
        return torch.stack([cosine, -sine], -1).flatten(-2)

    def _matrix(self, g: Tensor) -> Tensor:
        return self._blocks(*self._pairs(g))

    def _blocks(self, a: Tensor, b: Tensor) -> Tensor:
        """The blocks [[a, −b], [b, a]] along a diagonal, ``(*, 2n, 2n)``, of a and b ``(*, n)``."""
        block = torch.stack([a, -b, b, a], -1).unflatten(-1, (2, 2))  # (*, n, 2, 2)
        rows = torch.eye(self.n, dtype=a.dtype, device=a.device)
        return torch.einsum("...kij,kl->...kilj", block, rows).flatten(-4, -3).flatten(-2)

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        return self._compose(g, x)

    def _exp(self, X: Tensor) -> Tensor:
        return torch.stack([torch.cos(X), torch.sin(X)], -1).flatten(-2)

    def _log(self, g: Tensor) -> Tensor:
        cosine, sine = self._pairs(g)
        return torch.atan2(sine, cosine)

    def _hat(self, X: Tensor) -> Tensor:
        return self._blocks(torch.zeros_like(X), X)

    def _vee(self, A: Tensor) -> Tensor:
        skew = (A.mT - A) / 2
        return torch.diagonal(skew, 1, -2, -1)[..., ::2]

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        turns = torch.rand((*sample_shape, self.n), generator=generator, dtype=dtype, device=device)
        return self._exp(2 * math.pi * turns)
