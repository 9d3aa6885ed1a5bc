"""Coverage: how much of the latent volume do the encoded data reach?

A point of M is reached if a latent lies within r of it. With r such that 95 % of the volume is
within r of as many uniform points, latents that fill M evenly reach 95 %, and those on half of it
about half. Volumes are estimated by uniform points.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.metrics._checks import finite
from manifold_ae.metrics.distances import pairwise

__all__ = ["Coverage", "coverage"]

#: What uniform points reach, by the choice of r.
REACHED = 0.95


@dataclass(frozen=True)
class Coverage:
    """What part of a latent manifold is reached.

    Attributes:
        fraction: of the volume, within ``radius`` of a latent.
        radius: within which 95 % of the volume is of as many uniform points.
        hole: the largest distance found from a latent.
        uniform_hole: that from as many uniform points.
    """

    fraction: float
    radius: float
    hole: float
    uniform_hole: float


def coverage(
    M: Manifold, z: Tensor, *, points: int = 2000, generator: torch.Generator | None = None
) -> Coverage:
    """The part of M's volume that latents z ``(n, *ambient_shape)`` reach.

    Arguments:
        points: uniform ones, by which volumes are estimated.

    Raises:
        ValueError: if M is not compact, or latents are missing or not finite.
    """
    if not M.compact:
        raise ValueError(f"M = {M!r} is not compact: no part of an infinite volume is reached")
    M.require_shape("z", z)
    z = finite("z", z).cpu()
    kind = {"generator": generator, "dtype": torch.float64}
    probes = M.random_uniform(points, **kind)
    reference = M.random_uniform(len(z), **kind)
    usual = pairwise(M, probes, reference).amin(1)
    reached = pairwise(M, probes, z).amin(1)
    radius = usual.quantile(REACHED).item()
    return Coverage(
        (reached <= radius).double().mean().item(),
        radius,
        reached.max().item(),
        usual.max().item(),
    )
