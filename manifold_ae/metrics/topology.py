"""Does an encoder capture the shape of its data?"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from manifold_ae.manifolds import FlatTorus

__all__ = ["winding_matrix"]


@torch.no_grad()
def winding_matrix(
    encode: Callable[[Tensor], Tensor], manifold: FlatTorus, factors: int, *, points: int = 256
) -> Tensor:
    """How often each latent angle turns while each angle of the data turns once.

    Arguments:
        encode: from data angles ``(n, factors)`` in radians to points ``(n, 2d)`` of the torus.
        points: steps around each loop; too few would cut across the latent circle.

    Returns:
        Integers W of shape ``(d, factors)``. An encoder that is a homeomorphism of the torus has
        determinant ±1.

    Raises:
        ValueError: if a latent angle jumps by more than a quarter turn between neighbours, so that
            its winding cannot be told.
    """
    start = torch.zeros(points + 1, factors)
    columns = []
    for k in range(factors):
        loop = start.clone()
        loop[:, k] = torch.linspace(0, 2 * math.pi, points + 1)
        z = encode(loop)
        steps = manifold.signed_angles(z[:-1], z[1:])
        largest = steps.abs().max().item()
        if largest > math.pi / 2:
            raise ValueError(
                f"a latent angle jumps by {largest:.3g} rad between neighbours on loop {k}: "
                f"the encoder is discontinuous there, or {points} points are too few"
            )
        columns.append((steps.sum(0) / (2 * math.pi)).round())
    return torch.stack(columns, -1).long()
