r"""Surfaces of revolution: turns about the axis, reflections in planes through it, and flips of the
profile where it allows them.

The metric ds² + ρ(s)² dθ² knows of the profile nothing but ρ: every change of its place
α ↦ ±α + δ that leaves ρ alone is an isometry. Between two poles this can be α ↦ π − α alone; on a
closed profile, from Fourier coefficients ρ_k at the largest of which with k > 0,

    shifts:  kδ ∈ 2πℤ,      flips α ↦ δ − α:  kδ + 2 arg ρ_k ∈ 2πℤ,  ρ = Σ ρ_k e^{ikα}.

All are tried. The best turn of each has a closed form, the argument of Σ ρ(a)ρ(b) e^{i(θ_b ∓ θ_a)}.
Surfaces that have more isometries, as a round sphere has, are aligned by these alone.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds import Revolution
from manifold_ae.manifolds.profile import Profile
from manifold_ae.metrics.isometries.base import Isometry, nearest_isometry
from manifold_ae.metrics.isometries.procrustes import degrees

__all__ = ["RevolutionIsometry", "profile_symmetries"]

#: Points at which ρ is compared, and how far two values may be apart, relative to the largest.
GRID, TOLERANCE = 512, 1e-6


@dataclass(frozen=True, eq=False)
class RevolutionIsometry(Isometry):
    """(θ, α) ↦ (sign · θ + turn, flip · α + shift).

    Attributes:
        sign: 1, or −1 for a reflection in a plane through the axis.
        turn: about the axis, in radians.
        flip: 1, or −1 where the profile is run backwards.
        shift: of the place on the profile.
    """

    manifold: Revolution
    sign: int
    turn: float
    flip: int
    shift: float

    def apply(self, x: Tensor) -> Tensor:
        y = x.double()
        if (self.flip, self.shift) == (1, 0.0):
            distance, height = y[..., :2].norm(dim=-1), y[..., 2]
        else:
            # α by arclength, of whatever the surface calls its own angles.
            at = self.manifold.profile.jet(self.flip * self.manifold.place(y) + self.shift)
            distance, height = at.rho, at.z
        theta = self.sign * torch.atan2(y[..., 1], y[..., 0]) + self.turn
        moved = [distance * theta.cos(), distance * theta.sin(), height]
        return torch.stack(moved, -1).to(x.dtype)

    @property
    def words(self) -> str:
        parts = ["reflection θ ↦ −θ"] if self.sign < 0 else []
        parts.append(f"turn by {degrees(self.turn)}")
        if (self.flip, self.shift) != (1, 0.0):
            parts.append(f"profile α ↦ {degrees(self.shift)} {'−' if self.flip < 0 else '+'} α")
        return ", ".join(parts)


@nearest_isometry.register
def _(M: Revolution, a: Tensor, b: Tensor, rng: np.random.Generator) -> RevolutionIsometry:
    target = torch.complex(b[:, 0], b[:, 1])
    found = []
    for flip, shift in profile_symmetries(M.profile):
        for sign in (1, -1):
            moved = RevolutionIsometry(M, sign, 0.0, flip, shift).apply(a)
            product = (torch.complex(moved[:, 0], moved[:, 1]).conj() * target).sum()
            # |moved|² differs between flips where the embedding is not flipped with the metric.
            error = moved.square().sum() / 2 - product.abs() - (moved[:, 2] * b[:, 2]).sum()
            found.append((error.item(), sign, product.angle().item(), flip, shift))
    _, sign, turn, flip, shift = min(found)
    return RevolutionIsometry(M, sign, turn, flip, shift)


@lru_cache(maxsize=16)
def profile_symmetries(profile: Profile) -> tuple[tuple[int, float], ...]:
    """(±1, δ) of every α ↦ ±α + δ that leaves ρ alone, the identity first."""
    if profile.poles:
        candidates = [(-1, math.pi)]
    else:
        n = len(profile.rho) // 2
        waves = (profile.rho[1 : n + 1] - 1j * profile.rho[n + 1 :]) / 2
        k = int(np.abs(waves).argmax()) + 1
        steps = 2 * np.pi * np.arange(k) / k
        candidates = [(1, float(step)) for step in steps[1:]]
        candidates += [(-1, float(step - 2 * np.angle(waves[k - 1]) / k)) for step in steps]
    # Not from α = 0, where a profile may happen to be symmetric to the grid.
    alpha = torch.arange(GRID, dtype=torch.float64) * (2 * math.pi / GRID) + 0.1
    rho = profile.jet(alpha).rho.abs()
    kept = [(1, 0.0)]
    for flip, shift in candidates:
        gap = (profile.jet(flip * alpha + shift).rho.abs() - rho).abs().max()
        if gap <= TOLERANCE * rho.max():
            kept.append((flip, math.remainder(shift, 2 * math.pi)))
    return tuple(kept)
