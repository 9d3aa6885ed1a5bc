r"""Is a learned map of actions a homomorphism? Its defects, over the whole group.

A representation has ρ(gh) = ρ(g) ρ(h), ρ(g) ρ(g⁻¹) = I and ρ(e) = I. With norms \|·\| of Frobenius,

    homomorphism = E \|ρ(gh) − ρ(g) ρ(h)\| / E \|ρ(gh)\|,
    inverse = E \|ρ(g) ρ(g⁻¹) − I\| / \|I\|,
    identity = \|ρ(e) − I\| / \|I\|.

ρ takes an element of a Lie group by its principal logarithm, and products are formed in the group.
So where the group closes, the logarithm of gh jumps: two angles drawn from the whole circle add up
past half a turn in a quarter of the draws. Small actions alone do not show a weight that is no
integer: on SO(2) the weight ω has the homomorphism error \|sin πω\|/2, 15 % at 0.9, and none as
long as nothing wraps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import Group, LieGroup
from manifold_ae.metrics._checks import finite

__all__ = ["HomomorphismDefects", "homomorphism_defects", "random_actions"]


@dataclass(frozen=True)
class HomomorphismDefects:
    """Relative errors of the three laws; all are zero for a representation."""

    homomorphism: float
    inverse: float
    identity: float


def random_actions(
    group: Group,
    n: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> Tensor:
    """Actions of n random elements: of the Haar law where the group is compact.

    Principal logarithms ``(n, dim)`` of a Lie group, integers ``(n,)`` of a finite one.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n={n!r}: expected an integer of at least 1")
    return _action(group, group.random(n, generator=generator, dtype=dtype, device=device))


def _action(group: Group, g: Tensor) -> Tensor:
    return group.log(g) if isinstance(group, LieGroup) else g


@torch.no_grad()
def homomorphism_defects(
    rho: Callable[[Any], Tensor], group: Group, X: Tensor, Y: Tensor
) -> HomomorphismDefects:
    """The defects of ρ at pairs of actions; take them from ``random_actions``.

    Arguments:
        rho: from actions to matrices ``(n, s, s)``.
        X, Y: actions, ``(n, dim)`` of a Lie group, within the domain of its logarithm; ``(n,)``,
            integers, of a finite one.

    Raises:
        ValueError: if shapes do not fit, there are no actions, or values are not finite.

    Example:
        >>> from manifold_ae.groups import SO2
        >>> X, Y = random_actions(SO2(), 2000, generator=torch.manual_seed(0)).chunk(2)
        >>> defects = homomorphism_defects(lambda X: SO2().exp(0.9 * X), SO2(), X, Y)
        >>> round(defects.homomorphism, 1), round(defects.inverse, 6), defects.identity
        (0.2, 0.0, 0.0)
    """
    if X.shape != Y.shape:
        raise ValueError(f"X has shape {tuple(X.shape)} and Y {tuple(Y.shape)}: expected pairs")
    if X.numel() == 0:
        raise ValueError(f"X has shape {tuple(X.shape)}: there is nothing to measure")
    lie = isinstance(group, LieGroup)
    g, h = (group.exp(X), group.exp(Y)) if lie else (X, Y)
    neutral = group.identity(1, dtype=X.dtype, device=X.device)

    def matrices(name: str, action: Tensor) -> Tensor:
        value = rho(action)
        if value.ndim < 3 or value.shape[-1] != value.shape[-2]:
            raise ValueError(
                f"rho gives shape {tuple(value.shape)} for {len(action)} actions: expected square "
                "matrices (n, s, s)"
            )
        return finite(f"rho of {name}", value)

    product = matrices("gh", _action(group, group.compose(g, h)))
    at_g, at_h = matrices("g", X), matrices("h", Y)
    inverse = matrices("the inverse", _action(group, group.inverse(g)))
    unit = matrices("the identity", _action(group, neutral))
    eye = torch.eye(product.shape[-1], dtype=product.dtype, device=product.device)
    size = product.shape[-1] ** 0.5
    return HomomorphismDefects(
        homomorphism=_mean_norm(product - at_g @ at_h) / _mean_norm(product),
        inverse=_mean_norm(at_g @ inverse - eye) / size,
        identity=_mean_norm(unit - eye) / size,
    )


def _mean_norm(matrices: Tensor) -> float:
    return torch.linalg.matrix_norm(matrices).mean().item()
