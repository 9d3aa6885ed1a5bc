r"""Cyclic groups: turns of the plane by multiples of 2π/n."""

import math

import numpy as np

from manifold_ae.groups.finite_group import FiniteGroup, check_order

__all__ = ["Cyclic"]


class Cyclic(FiniteGroup):
    """C_n: integers modulo n, of which k turns the plane by 2πk/n.

    Example:
        >>> import torch
        >>> G = Cyclic(4)
        >>> G.compose(torch.tensor(3), torch.tensor(2))
        tensor(1)
        >>> G.act(torch.tensor(1), torch.tensor([1.0, 0.0])).round()
        tensor([0., 1.])
    """

    def __init__(self, n: int) -> None:
        check_order("Cyclic", n)
        k = np.arange(n)
        super().__init__((k[:, None] + k) % n, plane_turns(n))

    def __repr__(self) -> str:
        return f"Cyclic({self.order})"

    @property
    def spec(self) -> str:
        return f"cyclic:{self.order}"


def plane_turns(n: int) -> np.ndarray:
    """Turns of the plane by 2πk/n for k = 0 … n − 1, of shape ``(n, 2, 2)``."""
    # cos(π/2) is not zero in floating point; quarters of a turn are made exact.
    angle = 2 * math.pi * np.arange(n) / n
    cosine, sine = np.cos(angle), np.sin(angle)
    quarter = 4 * np.arange(n) % n == 0
    cosine, sine = np.where(quarter, cosine.round(), cosine), np.where(quarter, sine.round(), sine)
    return np.stack([cosine, -sine, sine, cosine], -1).reshape(n, 2, 2) + 0.0
