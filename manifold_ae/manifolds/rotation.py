r"""The rotation group SO(3) as a manifold: points are rotation matrices."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.manifolds.base import Manifold, check_prime

__all__ = ["SO3"]


class SO3(Manifold):
    r"""Rotations of space; points of shape ``(*, 3, 3)``.

    The distance is the angle of the rotation from one to the other, in radians; in the nine
    ambient coordinates \|dR\|² = 2 dθ². Volume 8π², scalar curvature 3/2: it is the sphere S³ of
    radius 2 with antipodes identified.

    Example:
        >>> M = SO3()
        >>> M.dist(M.base_point(), torch.diag(torch.tensor([-1.0, -1.0, 1.0])))
        tensor(3.1416)
    """

    name = "SO3"
    ndim = 2

    @property
    def _key(self) -> tuple[()]:
        return ()

    @property
    def dim(self) -> int:
        return 3

    @property
    def ambient_shape(self) -> tuple[int, int]:
        return (3, 3)

    @property
    def volume(self) -> float:
        return 8 * math.pi**2

    @property
    def spec(self) -> str:
        return "so3"

    def betti_numbers(self, prime: int = 2) -> tuple[int, ...]:
        """Those of ℝP³."""
        return (1, 1, 1, 1) if check_prime(prime) == 2 else (1, 0, 0, 1)

    @property
    def angle_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("rotation_x", "rotation_y", "rotation_z")

    def to_angles(self, x: Tensor) -> Tensor:
        """The rotation vector: axis times angle, of length at most π."""
        return rotations.log(x)

    def from_angles(self, angles: Tensor) -> Tensor:
        """The rotation of a rotation vector ``(*, 3)``."""
        self._require("angles", angles, (3,))
        return rotations.exp(angles)

    def scalar_curvature(self, x: Tensor) -> Tensor:
        return torch.full_like(x[..., 0, 0], 1.5)

    def projx(self, x: Tensor) -> Tensor:
        """The nearest rotation; see ``groups.rotations.nearest_rotation``."""
        self._require("x", x, self.ambient_shape)
        return rotations.nearest_rotation(x)

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        """½ tr(uᵀ v): the inner product of angular velocities."""
        return (u * (u if v is None else v)).sum((-2, -1), keepdim=keepdim) / 2

    def scale_noise(self, noise: Tensor, t: Tensor) -> Tensor:
        return (2 * t).sqrt()[..., None, None] * noise

    def walk_centre(self, x: Tensor, t: Tensor) -> Tensor:
        """R / (1 + t/2), as ΔR = −2R."""
        return x / (1 + t / 2)[..., None, None]

    def action_matrix(self, g: np.ndarray) -> np.ndarray:
        """A 3 × 3 rotation g as R ↦ R g; a 9 × 9 matrix as it is."""
        return super().action_matrix(np.kron(np.eye(3), g.T) if g.shape == (3, 3) else g)

    def velocity(self, x: Tensor, u: Tensor) -> Tensor:
        """The angular velocity ω of shape ``(*, 3)``, in the body's frame: u's tangent part xω̂."""
        return rotations.vee(rotations.compose(x.mT, u))

    def along(self, x: Tensor, omega: Tensor) -> Tensor:
        """The tangent vector xω̂ of shape ``(*, 3, 3)``."""
        return rotations.compose(x, rotations.hat(omega))

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        return self.along(x, self.velocity(x, u))

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        return rotations.compose(x, rotations.exp(self.velocity(x, u)))

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The shortest u with expmap(x, u) = y; for half a turn see ``groups.rotations.log``."""
        return self.along(x, rotations.log_quaternion(_between(x, y)).to(x.dtype))

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport of v along the shortest geodesic: for x = 1, y exp(−½ log y) v."""
        back = rotations.exp(-rotations.log_quaternion(_between(x, y)) / 2).to(v.dtype)
        return self.along(y, rotations.turn(back, self.velocity(x, v)))

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """The angle of xᵀy in [0, π]; its subgradient is zero at 0 and at π."""
        quaternion = _between(x, y)
        half = torch.atan2(
            torch.linalg.vector_norm(quaternion[..., 1:], dim=-1), quaternion[..., 0]
        )
        angle = (2 * half).to(x.dtype)
        return angle[..., None, None] if keepdim else angle

    def base_point(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return torch.eye(3, dtype=dtype, device=device)

    def random_uniform(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        return rotations.random_uniform(
            sample_shape, generator=generator, dtype=dtype, device=device
        )


def _between(x: Tensor, y: Tensor) -> Tensor:
    """The quaternion of xᵀy, in float64: in float32, small angles would be rounding."""
    return rotations.to_quaternion(rotations.compose(x.double().mT, y.double()))
