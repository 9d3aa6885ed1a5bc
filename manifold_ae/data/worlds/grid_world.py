"""An agent on a grid without borders: the discrete torus Z_n × Z_m, a finite group.

Rows and columns wrap: the agent that leaves below comes back above. The state is the group element
that brought the agent from cell (0, 0); that of cell (i, j) is the integer `i * columns + j`.
"""

import math

import torch
from torch import Tensor

from manifold_ae.groups import Cyclic, Defining, Product, Sum, Trivial

from .._checks import at_least, one_of
from .base import HiddenFactor, World
from .registry import register


def _pixel(distance: Tensor) -> Tensor:
    """One in the cell itself, nought elsewhere; of squared distances."""
    return (distance < 0.25).float()


def _blob(distance: Tensor) -> Tensor:
    """A Gaussian bell, one cell wide, of squared distances."""
    return torch.exp(-distance / 2)


AGENTS = {"pixel": _pixel, "blob": _blob}


@register("grid-world", "an agent on a grid that wraps, one-hot 5x5: the finite group Z_n x Z_m")
class GridWorld(World):
    """An agent that is moved by whole cells on a grid that wraps.

    Arguments:
        rows: n, at least 3.
        columns: m, at least 3. (Z_2 has no rotation of the plane to be its truth.)
        agent: What is seen of it, `"pixel"` (the observation is one-hot) or `"blob"`, a bell one
            cell wide.

    Raises:
        ValueError: If an argument is out of its range or is no known name.

    Example:
        >>> world = GridWorld(rows=3, columns=3)
        >>> world.render(world.move(torch.tensor(0), torch.tensor(5)))
        tensor([[0., 0., 0.],
                [0., 0., 1.],
                [0., 0., 0.]])
    """

    name = "grid-world"

    def __init__(self, *, rows: int = 5, columns: int = 5, agent: str = "pixel") -> None:
        rows, columns = int(at_least("rows", rows, 3)), int(at_least("columns", columns, 3))
        one_of("agent", agent, AGENTS)
        group = Product(Cyclic(rows), Cyclic(columns))
        factors = (HiddenFactor("row"), HiddenFactor("column"))
        given = {"rows": rows, "columns": columns, "agent": agent}
        super().__init__(group, (rows, columns), factors, given)
        self.truth = Sum(Defining(group), Trivial(group, 1))
        down, right = (_to_nearest(n) for n in (rows, columns))
        self._picture = AGENTS[agent](down[:, None] ** 2 + right**2)

    def cells(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of the agent, each with the shape of the states."""
        states = self._checked(states)
        columns = self.shape[1]
        return torch.div(states, columns, rounding_mode="floor"), states % columns

    def labels(self, states: Tensor) -> Tensor:
        turns = [cell / n for cell, n in zip(self.cells(states), self.shape, strict=True)]
        return 2 * math.pi * torch.stack(turns, -1)

    def _draw(self, states: Tensor) -> Tensor:
        row, column = self.cells(states)
        rows, columns = (torch.arange(n, device=states.device) for n in self.shape)
        picture = self._picture.to(states.device)
        down = (rows - row[:, None]) % self.shape[0]
        right = (columns - column[:, None]) % self.shape[1]
        return picture[down[:, :, None], right[:, None, :]]


def _to_nearest(n: int) -> Tensor:
    """Distance from cell 0 to each of n cells on a circle."""
    steps = torch.arange(n)
    return torch.minimum(steps, n - steps).float()
