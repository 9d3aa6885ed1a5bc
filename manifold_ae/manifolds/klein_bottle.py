"""The flat Klein bottle: the torus of two angles under (θ, φ) ~ (θ + π, −φ)."""

import math

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds.base import check_prime
from manifold_ae.manifolds.quotient import Quotient
from manifold_ae.manifolds.torus import FlatTorus
from manifold_ae.numerics import normalise

__all__ = ["KleinBottle"]


class KleinBottle(Quotient):
    """Flat Klein bottle of volume 2π²; points of shape ``(*, 4)``: (cos, sin) of θ and of φ.

    For models it is embedded in five coordinates, cos 2θ, sin 2θ, cos φ, cos θ sin φ and
    sin θ sin φ, which do not change under (θ, φ) → (θ + π, −φ); an encoder's five numbers are read
    in the same way.
    """

    name = "KleinBottle"
    feature_size = 5  # type: ignore[assignment]
    embedding_size = 5  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(FlatTorus(2), [np.diag([-1.0, -1.0, 1.0, -1.0])])

    @property
    def _key(self) -> tuple[()]:
        return ()

    def __repr__(self) -> str:
        return "KleinBottle()"

    @property
    def spec(self) -> str:
        return "klein-bottle"

    @property
    def angle_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("glide", "reflected")

    def to_angles(self, x: Tensor) -> Tensor:
        """θ in [0, π) and φ in (−π, π], of the image that has such a θ."""
        theta, phi = torch.atan2(x[..., 1::2], x[..., 0::2]).unbind(-1)
        turned = (theta < 0) | (theta >= math.pi)
        theta = torch.where(turned, theta + math.pi, theta) % math.pi
        return torch.stack([theta, torch.where(turned, -phi, phi)], -1)

    def from_angles(self, angles: Tensor) -> Tensor:
        """Points of shape ``(*, 4)`` at angles θ, φ in radians, of shape ``(*, 2)``."""
        return FlatTorus(2).from_angles(angles)

    def betti_numbers(self, prime: int = 2) -> tuple[int, ...]:
        """H₁ = ℤ ⊕ ℤ/2: the second loop, and the surface itself, are seen over ℤ/2 alone."""
        return (1, 2, 1) if check_prime(prime) == 2 else (1, 1, 0)

    # ---- for models -------------------------------------------------------------------------

    @property
    def sheets(self) -> int:  # type: ignore[override]
        return 1

    def unfold(self, x: Tensor) -> Tensor:
        return x.unsqueeze(0)

    def from_features(self, features: Tensor) -> Tensor:
        """The point whose embedding has the direction of 2θ, and of φ given θ, of these numbers."""
        self._require("features", features, (5,))
        double = normalise(features[..., :2])
        theta = torch.atan2(double[..., 1], double[..., 0]) / 2
        glide = torch.stack([theta.cos(), theta.sin()], -1)
        sine = (glide * features[..., 3:]).sum(-1)
        return torch.cat([glide, normalise(torch.stack([features[..., 2], sine], -1))], -1)

    def embed(self, x: Tensor) -> Tensor:
        a, b, c, s = x.unbind(-1)
        return torch.stack([a * a - b * b, 2 * a * b, c, a * s, b * s], -1)
