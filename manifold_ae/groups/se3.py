r"""SE(3): rigid motions of space, poses of a body."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.groups.homogeneous import RigidMotions, homogeneous
from manifold_ae.groups.matrix_group import block_diagonal, require_rotations
from manifold_ae.numerics import half_cotangent_defect_sqrt, sinc_defect_sqrt, sinc_sqrt

__all__ = ["SE3"]


@dataclass(frozen=True, repr=False)
class SE3(RigidMotions):
    r"""x ↦ Rx + b in space; elements [[R, b], [0, 1]] of shape ``(*, 4, 4)``, X = (ω, v).

    exp(ω, v) = (exp ω̂, V v) with the left Jacobian of SO(3), θ = \|ω\|,

        V = I + (1 − cos θ)/θ² ω̂ + (θ − sin θ)/θ³ ω̂²,
        V⁻¹ = I − ω̂/2 + (1 − (θ/2) cot(θ/2))/θ² ω̂².

    log has \|ω\| ≤ π; at half a turn see ``groups.rotations.log``. ``random`` draws R of the Haar
    law and b standard normal.

    Example:
        >>> G = SE3()
        >>> G.act(G.exp(torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0, 3.0])), torch.zeros(3))
        tensor([1., 2., 3.])
    """

    dim = 6
    degree = 3
    periods = tuple(tuple(float(i == k) for i in range(6)) for k in range(3))

    @property
    def spec(self) -> str:
        return "se3"

    def _exp(self, X: Tensor) -> Tensor:
        # In float64 inside, as rotations.exp is: the square of no float32 overflows.
        omega, v = X[..., :3].double(), X[..., 3:].double()
        square = omega.square().sum(-1, keepdim=True)
        once = torch.linalg.cross(omega, v)
        twice = torch.linalg.cross(omega, once)
        half = sinc_sqrt(square / 4)
        moved = v + half * half / 2 * once + sinc_defect_sqrt(square) * twice
        return homogeneous(rotations.exp(X[..., :3]), moved.to(X.dtype))

    def _log(self, g: Tensor) -> Tensor:
        rotation, b = self._parts(g)
        require_rotations(rotation)
        omega = rotations.log(rotation)
        once = torch.linalg.cross(omega, b)
        twice = torch.linalg.cross(omega, once)
        square = omega.square().sum(-1, keepdim=True)
        return torch.cat([omega, b - once / 2 + half_cotangent_defect_sqrt(square) * twice], -1)

    def _hat(self, X: Tensor) -> Tensor:
        return homogeneous(rotations.hat(X[..., :3]), X[..., 3:], 0.0)

    def _vee(self, A: Tensor) -> Tensor:
        return torch.cat([rotations.vee(A[..., :3, :3]), A[..., :3, 3]], -1)

    def _bracket(self, X: Tensor, Y: Tensor) -> Tensor:
        X, Y = torch.broadcast_tensors(X, Y)
        (a, v), (b, w) = X.split(3, -1), Y.split(3, -1)
        moved = torch.linalg.cross(a, w) - torch.linalg.cross(b, v)
        return torch.cat([torch.linalg.cross(a, b), moved], -1)

    def _adjoint(self, g: Tensor) -> Tensor:
        """[[R, 0], [b̂R, R]]."""
        rotation, b = self._parts(g)
        lower = rotations.compose(rotations.hat(b), rotation)
        corner = torch.nn.functional.pad(lower, (0, 3, 3, 0))
        return block_diagonal([rotation, rotation]) + corner

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        like: dict[str, Any] = {"generator": generator, "dtype": dtype, "device": device}
        rotation = rotations.random_uniform(sample_shape, **like)
        return homogeneous(rotation, torch.randn(*sample_shape, 3, **like))
