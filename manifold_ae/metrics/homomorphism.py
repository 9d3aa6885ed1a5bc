r"""Is a learned map of actions a homomorphism? Its defects, over the whole group.

A representation has ρ(gh) = ρ(g) ρ(h), ρ(g) ρ(g⁻¹) = I and ρ(e) = I; ``groups.defects`` says by how
much a map misses them. Here they are measured at random elements: of the Haar law where the group
is compact, so that products wrap. Two angles drawn from the whole circle add up past half a turn in
a quarter of the draws. Small actions alone do not show a weight that is no integer: on SO(2) the
weight ω has the homomorphism error \|sin πω\|/2, 15 % at 0.9, and none as long as nothing wraps.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from manifold_ae.groups import Group, defects

__all__ = ["HomomorphismDefects", "homomorphism_defects"]


class _Represents(Protocol):
    group: Group
    size: int

    def __call__(self, action: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class HomomorphismDefects:
    r"""Relative errors of the three laws; all are zero for a representation.

    Attributes:
        homomorphism: E \|ρ(gh) − ρ(g)ρ(h)\| / E \|ρ(gh)\|.
        inverse: E \|ρ(g)ρ(g⁻¹) − I\| / \|I\|.
        identity: \|ρ(e) − I\| / \|I\|.
    """

    homomorphism: float
    inverse: float
    identity: float


@torch.no_grad()
def homomorphism_defects(
    rho: _Represents,
    n: int = 1000,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> HomomorphismDefects:
    """The defects of ρ over n random pairs of elements of its group.

    For actions of one's own, see the functions of ``groups.defects``.

    Arguments:
        rho: from actions to matrices ``(*, size, size)``, with the ``group`` of the actions.
        n: the number of pairs; the error of the homomorphism error falls as 1/√n.
        generator, dtype, device: of the actions.

    Raises:
        ValueError: if n is not at least 1, or ρ has values that are not finite.

    Example:
        >>> from manifold_ae.groups import SO3, irrep
        >>> found = homomorphism_defects(irrep(SO3(), 2), 100, dtype=torch.float64)
        >>> found.homomorphism < 1e-6, found.inverse < 1e-12, found.identity < 1e-12
        (True, True, True)
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n={n!r}: expected an integer of at least 1")
    like: dict[str, Any] = {"dtype": dtype, "device": device}
    X, Y = defects.random_actions(rho.group, 2, n, generator=generator, **like).unbind(0)
    found = HomomorphismDefects(
        homomorphism=defects.homomorphism_error(rho, X, Y).item(),
        inverse=defects.inverse_error(rho, X).item(),
        identity=defects.identity_error(rho, **like).item(),
    )
    for name, value in asdict(found).items():
        if not math.isfinite(value):
            raise ValueError(
                f"rho has a {name} error of {value}: expected finite matrices, not all of them "
                "zero, at elements of the whole group"
            )
    return found
