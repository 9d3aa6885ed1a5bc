r"""SE(2): rigid motions of the plane."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups.homogeneous import RigidMotions, homogeneous
from manifold_ae.groups.so2 import SO2
from manifold_ae.numerics import cos_sqrt, sinc_sqrt

__all__ = ["SE2"]


@dataclass(frozen=True, repr=False)
class SE2(RigidMotions):
    r"""x ↦ Rx + b in the plane; elements [[R, b], [0, 1]] of shape ``(*, 3, 3)``, X = (θ, v).

    exp(θ, v) = (R(θ), V v) with V = ∫₀¹ R(sθ) ds = (sin θ/θ) I + ((1 − cos θ)/θ) J, J a quarter of
    a turn; log has θ in [−π, π], where V⁻¹ = (θ/2) cot(θ/2) I − (θ/2) J. ``random`` draws R of the
    Haar law and b standard normal.

    Example:
        >>> G = SE2()
        >>> G.act(G.exp(torch.tensor([0.0, 1.0, 2.0])), torch.zeros(2))
        tensor([1., 2.])
    """

    dim = 3
    degree = 2
    periods = ((1.0, 0.0, 0.0),)

    @property
    def spec(self) -> str:
        return "se2"

    def _exp(self, X: Tensor) -> Tensor:
        theta, v = X[..., :1], X[..., 1:]
        half = sinc_sqrt((theta / 2).square())
        straight, across = sinc_sqrt(theta.square()), theta / 2 * half * half
        return homogeneous(SO2()._exp(theta), straight * v + across * _quarter_turn(v))

    def _log(self, g: Tensor) -> Tensor:
        rotation, b = self._parts(g)
        theta = SO2()._log(rotation)
        square = (theta / 2).square()
        straight = cos_sqrt(square) / sinc_sqrt(square)
        return torch.cat([theta, straight * b - theta / 2 * _quarter_turn(b)], -1)

    def _hat(self, X: Tensor) -> Tensor:
        return homogeneous(SO2()._hat(X[..., :1]), X[..., 1:], 0.0)

    def _vee(self, A: Tensor) -> Tensor:
        return torch.cat([SO2()._vee(A[..., :2, :2]), A[..., :2, 2]], -1)

    def _bracket(self, X: Tensor, Y: Tensor) -> Tensor:
        first = X[..., :1] * _quarter_turn(Y[..., 1:]) - Y[..., :1] * _quarter_turn(X[..., 1:])
        return torch.cat([torch.zeros_like(first[..., :1]), first], -1)

    def _adjoint(self, g: Tensor) -> Tensor:
        rotation, b = self._parts(g)
        top = torch.zeros_like(g[..., :1, :])
        top[..., 0] = 1
        lower = torch.cat([-_quarter_turn(b).unsqueeze(-1), rotation], -1)
        return torch.cat([top, lower], -2)

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        like: dict[str, Any] = {"generator": generator, "dtype": dtype, "device": device}
        return homogeneous(
            SO2().random(*sample_shape, **like), torch.randn(*sample_shape, 2, **like)
        )


def _quarter_turn(v: Tensor) -> Tensor:
    """J v = (−v₂, v₁)."""
    return torch.stack([-v[..., 1], v[..., 0]], -1)
