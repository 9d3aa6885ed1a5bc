"""Groups that act on the points of a space: a manifold, or pictures.

Which group acts on what is registered by those who know the space: the actions on manifolds lie in
``manifolds.actions``, those on pictures in ``groups.images``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from manifold_ae.groups.base import Group

__all__ = ["Action", "register"]

Map = Callable[[Tensor, Tensor], Tensor]
Builder = Callable[[Any, Any], Map]

_ACTIONS: dict[tuple[type, type], Builder] = {}


def register(group: type, *spaces: type) -> Callable[[Builder], Builder]:
    """Decorate ``build(G, M)``, which returns the map (g, x) ↦ g·x or raises a ValueError."""

    def keep(build: Builder) -> Builder:
        for space in spaces:
            _ACTIONS[group, space] = build
        return build

    return keep


@dataclass(frozen=True, repr=False)
class Action:
    """The natural action of G on the points of a space: e·x = x, (gh)·x = g·(h·x).

    Args:
        group: a group of ``groups``.
        space: a manifold, or ``PeriodicImages``.

    Raises:
        ValueError: if no action of the group on the space is known, or their sizes differ.

    Example:
        >>> import torch
        >>> from manifold_ae import groups, manifolds
        >>> action = Action(groups.SO2(), manifolds.FlatTorus(1))
        >>> action(groups.SO2().exp(torch.tensor([torch.pi / 2])), torch.tensor([1.0, 0.0])).round()
        tensor([-0., 1.])
    """

    group: Group
    space: Any
    _map: Map = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for G in type(self.group).__mro__:
            for M in type(self.space).__mro__:
                if (G, M) in _ACTIONS:
                    object.__setattr__(self, "_map", _ACTIONS[G, M](self.group, self.space))
                    return
        known = sorted({f"{G.__name__} on {M.__name__}" for G, M in _ACTIONS})
        raise ValueError(
            f"no action of {self.group!r} on {self.space!r} is known; there are those of "
            f"{', '.join(known)}; groups.action.register adds another"
        )

    def __repr__(self) -> str:
        return f"Action({self.group!r}, {self.space!r})"

    def __call__(self, g: Tensor, x: Tensor) -> Tensor:
        """g·x, for elements g ``(*, *element_shape)`` and points x; the batch axes broadcast."""
        return self._map(g, x)


def refuse_sizes(group: Any, space: Any, expected: str) -> ValueError:
    """The error for a group and a space of sizes that do not fit."""
    return ValueError(f"{group!r} does not act on {space!r}: {expected}")
