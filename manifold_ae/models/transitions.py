r"""How actions move latents: by a representation, or, to compare with, without one.

A transition takes the latent z₁ of the first observation and a sequence of actions g₁ … g_T to the
latents z₁, …, z_{T+1} that they lead to. A homomorphism autoencoder moves by matrices,

    z_{t+1} = ρ(g_t) z_t = ρ(g_t) ⋯ ρ(g₁) z₁,                                             (1)

newest on the left. The others here know nothing of the group.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from manifold_ae.groups import FiniteGroup, Group, Representation
from manifold_ae.groups.base import product

__all__ = ["ByRepresentation", "Still", "Transition", "Unstructured"]


class Transition(nn.Module, ABC):
    """What moves latents ``(*, size)``; see the module's docstring.

    ``group`` is that of the actions: algebra coordinates ``(*, group.dim)``, or integers ``(*)``
    for a finite group.
    """

    group: Group
    size: int

    @abstractmethod
    def step(self, z: Tensor, action: Tensor) -> Tensor:
        """The latent ``(*, size)`` after one action on z ``(*, size)``; batch axes broadcast."""

    def unroll(self, z: Tensor, actions: Tensor) -> Tensor:
        """z ``(*, size)`` and what T actions make of it one after another: ``(*, T + 1, size)``."""
        axis = z.dim() - 1
        path = [z]
        for action in actions.unbind(axis):
            path.append(self.step(path[-1], action))
        return torch.stack(path, axis)


class ByRepresentation(Transition):
    """Equation (1), for a representation ρ given or learned.

    Latents of size k · ``representation.size`` are k vectors that move together, as the columns of
    a matrix do: a rotation R of SO(3), flattened, under R ↦ ρ(g) R.
    """

    def __init__(self, representation: Any, columns: int = 1) -> None:
        super().__init__()
        self.representation = representation
        self.group = representation.group
        self.columns = columns
        self.size = representation.size * columns

    def _rho(self, action: Tensor, dtype: torch.dtype) -> Tensor:
        """ρ(g), of the latents' dtype: that of a given ρ is its own where actions are integers."""
        given = isinstance(self.representation, Representation)
        rho = self.representation.in_dtype(dtype) if given else self.representation
        return rho(action)

    def matrix(self, action: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """What moves a whole latent, ρ(g) ⊗ I for several columns: ``(*, size, size)``.

        ``dtype`` is that of latents; where actions are coordinates, theirs.
        """
        rho = self._rho(action, dtype)
        if self.columns == 1:
            return rho
        eye = torch.eye(self.columns, dtype=rho.dtype, device=rho.device)
        return torch.kron(rho, eye)

    def _move(self, matrix: Tensor, z: Tensor) -> Tensor:
        return product(matrix, z.unflatten(-1, (-1, self.columns))).flatten(-2)

    def step(self, z: Tensor, action: Tensor) -> Tensor:
        if self.columns == 1 and hasattr(self.representation, "act"):
            return self.representation.act(action, z)
        return self._move(self._rho(action, z.dtype), z)

    def unroll(self, z: Tensor, actions: Tensor) -> Tensor:
        # All matrices at once: φ and the exponential cost as much for one action as for hundreds.
        axis = z.dim() - 1
        if self.columns == 1 and hasattr(self.representation, "rollout"):
            return torch.cat([z.unsqueeze(axis), self.representation.rollout(actions, z)], axis)
        path = [z]
        for matrix in self._rho(actions, z.dtype).unbind(axis):
            path.append(self._move(matrix, path[-1]))
        return torch.stack(path, axis)


class Unstructured(Transition):
    """z + f(z, g) with a network f: latent dynamics that no group law binds.

    Actions of a finite group enter one-hot.
    """

    def __init__(self, group: Group, size: int, hidden: Sequence[int] = (128, 128)) -> None:
        super().__init__()
        self.group, self.size = group, size
        self.order = group.order if isinstance(group, FiniteGroup) else 0
        widths = [size + (self.order or group.dim), *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], size))

    def step(self, z: Tensor, action: Tensor) -> Tensor:
        if self.order:
            self.group._require_element("action", action)
            action = nn.functional.one_hot(action.long(), self.order).to(z.dtype)
        batch = torch.broadcast_shapes(z.shape[:-1], action.shape[:-1])
        both = torch.cat([z.expand(*batch, -1), action.expand(*batch, -1)], -1)
        return z + self.network(both)


class Still(Transition):
    """z stays where it is: an autoencoder that ignores actions predicts what it saw first."""

    def __init__(self, group: Group, size: int) -> None:
        super().__init__()
        self.group, self.size = group, size

    def step(self, z: Tensor, action: Tensor) -> Tensor:
        own = 0 if isinstance(self.group, FiniteGroup) else 1
        batch = action.shape[: action.dim() - own]
        return z.expand(*torch.broadcast_shapes(z.shape[:-1], batch), -1)
