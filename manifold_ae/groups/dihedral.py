r"""Dihedral groups: the symmetries of a regular polygon, reflections among them."""

import numpy as np

from manifold_ae.groups import finite
from manifold_ae.groups.cyclic import plane_turns
from manifold_ae.groups.finite_group import FiniteGroup, check_order

__all__ = ["Dihedral"]


class Dihedral(FiniteGroup):
    """D_n, of order 2n: rᵏ turns the plane by 2πk/n, and n + k is rᵏs, s = diag(1, −1).

    Example:
        >>> G = Dihedral(3)
        >>> G.order, G.is_abelian, G.generators
        (6, False, (1, 3))
    """

    def __init__(self, n: int) -> None:
        check_order("Dihedral", n, finite.MAX_ORDER // 2)
        k = np.arange(n)
        total, difference = (k[:, None] + k) % n, (k[:, None] - k) % n
        # s r^j = r^{−j} s
        table = np.block([[total, n + total], [n + difference, difference]])
        turns = plane_turns(n)
        super().__init__(table, np.concatenate([turns, turns * np.array([1.0, -1.0])]) + 0.0)

    def __repr__(self) -> str:
        return f"Dihedral({self.order // 2})"

    @property
    def spec(self) -> str:
        return f"dihedral:{self.order // 2}"
