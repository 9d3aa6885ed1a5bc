r"""Positions on a manifold: independent and uniform, or Brownian motion with that law at all times.

The motion has generator ½Δ·rate, so that its law after a time s is the heat kernel of rate · s. It
is exact on flat tori (sums of normal increments) and on the square (the free motion, folded at the
edges). On SO(3) it is a product of small rotations exp(ω̂), with ω normal, of variance at most
``LARGEST`` an axis. The axes of ℝP² are one axis turned by it: rotations carry the motion of SO(3)
to that of the sphere, and so to that of ℝP², at the same rate.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from manifold_ae.groups import rotations, scan
from manifold_ae.manifolds import FlatTorus

#: Variance of the single rotations of which a step is made.
LARGEST = 0.01

Draw = Callable[[int, torch.Generator], Tensor]
Walk = Callable[[int, float, torch.Generator], Tensor]


def torus_uniform(dim: int) -> Draw:
    """Independent points of Tᵈ, of shape `(n, 2 d)`."""
    return lambda n, generator: FlatTorus(dim).random_uniform(
        n, generator=generator, dtype=torch.float64
    )


def torus_walk(dim: int) -> Walk:
    """Brownian motion on Tᵈ, of shape `(n, 2 d)`."""

    def walk(n: int, rate: float, generator: torch.Generator) -> Tensor:
        steps = math.sqrt(rate) * _normal(n, dim, generator)
        steps[0] = 2 * math.pi * torch.rand(dim, dtype=torch.float64, generator=generator)
        return FlatTorus(dim).from_angles(steps.cumsum(0))

    return walk


def rotation_uniform(n: int, generator: torch.Generator) -> Tensor:
    """Independent rotations, of shape `(n, 3, 3)`."""
    return rotations.random_uniform((n,), generator=generator, dtype=torch.float64)


def rotation_walk(n: int, rate: float, generator: torch.Generator) -> Tensor:
    """Brownian motion on SO(3), of shape `(n, 3, 3)`."""
    parts = max(1, math.ceil(rate / LARGEST))
    small = math.sqrt(rate / parts) * _normal((n - 1) * parts, 3, generator)
    first = rotation_uniform(1, generator)
    path = scan.cumulative(torch.cat([first, rotations.exp(small)]))[::parts]
    # Rounding adds up along the path.
    return rotations.nearest_rotation(path)


def axis_uniform(n: int, generator: torch.Generator) -> Tensor:
    """Independent axes as unit vectors, of shape `(n, 3)`."""
    v = _normal(n, 3, generator)
    return v / v.norm(dim=-1, keepdim=True)


def axis_walk(n: int, rate: float, generator: torch.Generator) -> Tensor:
    """Brownian motion on ℝP², as unit vectors, of shape `(n, 3)`."""
    return rotation_walk(n, rate, generator)[..., 0]


def square_uniform(n: int, generator: torch.Generator) -> Tensor:
    """Independent points of [−1, 1]², of shape `(n, 2)`."""
    return 2 * torch.rand(n, 2, dtype=torch.float64, generator=generator) - 1


def square_walk(n: int, rate: float, generator: torch.Generator) -> Tensor:
    """Brownian motion on [−1, 1]², reflected at the edges, of shape `(n, 2)`."""
    steps = math.sqrt(rate) * _normal(n, 2, generator)
    steps[0] = square_uniform(1, generator)[0]
    return 1 - ((steps.cumsum(0) + 1).remainder(4) - 2).abs()


def _normal(n: int, k: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, k, dtype=torch.float64, generator=generator)
