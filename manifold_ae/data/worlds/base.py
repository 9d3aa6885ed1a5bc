r"""What a world is: a thing that a group moves, and what is seen of it.

The states of a world are the elements of its group G: a state is what brought the thing there from
its resting place. An action X, given by coordinates of the Lie algebra or by an element where G is
finite, moves a state from the left, and the group acts on what is seen by

    s ↦ exp(X) s,        exp(X) · render(s) = render(exp(X) s),

which is well defined where different states look different, that is, where the stabiliser of the
picture is trivial; each world says whether it is.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from manifold_ae.groups import FiniteGroup, Group, LieGroup, Representation

from .._checks import at_least
from ..traces import Traces


@dataclass(frozen=True)
class HiddenFactor:
    """A hidden factor as a label for plots and for splits: a number between two bounds.

    Arguments:
        name: What it is called.
        low: The least value.
        high: The greatest value.
        circular: Whether it is an angle that wraps, in radians in [low, high) = [0, 2π).
    """

    name: str
    low: float = 0.0
    high: float = 2 * math.pi
    circular: bool = True


class World(ABC):
    """A thing that a group moves, and what is seen of it.

    Arguments:
        group: The group G; a state is one of its elements.
        shape: The shape of one observation; colours first, where there are any.
        factors: The hidden factors that `labels` gives, in turn.
        options: What the world was made with, for its repr.
    """

    #: The name that `load` knows it by.
    name: str = ""
    #: Whether the moves are an action of the group; where not, `truth` is None.
    is_group_action: bool = True
    #: A faithful representation of the group to hold what was learned against, or None; where there
    #: is an exactly equivariant linear encoder, the representation that moves its latents.
    truth: Representation | None
    #: Why there is no truth; empty where there is one.
    why_no_truth: str = ""
    #: The group elements that leave the observation as it is, in words.
    stabiliser: str = "trivial"
    #: Bounds of the observations' values.
    value_range: tuple[float, float] = (0.0, 1.0)
    #: The most steps that a trace can have; None where there is no end.
    longest: int | None = None
    #: How many observations are drawn at a time, by the type of the device.
    chunk: ClassVar[dict[str, int]] = {"cpu": 32, "cuda": 4096}

    def __init__(
        self,
        group: Group,
        shape: tuple[int, ...],
        factors: tuple[HiddenFactor, ...],
        options: dict[str, Any],
    ) -> None:
        self.group, self.shape, self.factors = group, shape, factors
        self._options = options

    @abstractmethod
    def _draw(self, states: Tensor) -> Tensor:
        """Observations `(n, *shape)` of states `(n, *state_shape)`, a chunk at a time."""

    @abstractmethod
    def labels(self, states: Tensor) -> Tensor:
        """The hidden factors of states `(*, *state_shape)`, with shape `(*, len(factors))`."""

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return self.group.element_shape

    @property
    def angles(self) -> tuple[str, ...]:
        """The names of those factors that are angles."""
        return tuple(factor.name for factor in self.factors if factor.circular)

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """The least and the greatest value of each factor."""
        return tuple((factor.low, factor.high) for factor in self.factors)

    def render(self, states: Tensor) -> Tensor:
        """What is seen, a function of the state alone.

        Arguments:
            states: Group elements, with shape `(*, *state_shape)`.

        Returns:
            Observations with shape `(*, *shape)`, of the dtype of the states (float32 for integers)
            and on their device.

        Raises:
            ValueError: If the states have another shape or dtype.
        """
        states = self._checked(states)
        batch = states.shape[: states.ndim - len(self.state_shape)]
        flat = states.reshape(-1, *self.state_shape)
        size = self.chunk.get(states.device.type, self.chunk["cpu"])
        drawn = [self._draw(part) for part in flat.split(size)] if len(flat) else []
        if not drawn:
            dtype = states.dtype if states.is_floating_point() else torch.float32
            return torch.zeros((*batch, *self.shape), dtype=dtype, device=states.device)
        return torch.cat(drawn).reshape(*batch, *self.shape)

    def move(self, states: Tensor, actions: Tensor) -> Tensor:
        """The states exp(X) s, where the actions take them.

        Arguments:
            states: Group elements, with shape `(*, *state_shape)`.
            actions: Coordinates of the Lie algebra, with shape `(*, group.dim)`, or elements of a
                finite group, integers with shape `(*)`.

        Raises:
            ValueError: If either has another shape or dtype.
        """
        states = self._checked(states)
        if isinstance(self.group, LieGroup):
            return self.group.compose(self.group.exp(actions), states)
        return self.group.compose(actions, states)

    def random_states(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return `n` states of the uniform (Haar) law, with shape `(n, *state_shape)`."""
        at_least("n", n)
        device = where(generator, device)
        return self.group.random(n, generator=generator, dtype=dtype, device=device)

    def random_actions(
        self,
        n: int,
        steps: int,
        generator: torch.Generator | None = None,
        *,
        largest: float | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return random actions, `(n, steps, group.dim)` float32, or `(n, steps)` int64.

        Arguments:
            n: The number of traces.
            steps: The number of actions in each.
            generator: Where randomness comes from.
            largest: Without it, actions of the uniform (Haar) law, as principal logarithms: angles
                up to half a turn. With it, these shrunk by `largest`/π, so that no angle is above
                `largest` radians; in a finite group, uniform among the products of at most
                `largest` generators and their inverses.
            device: Where the actions are to be; by default, with the generator.

        Raises:
            ValueError: If an argument is out of its range.
        """
        at_least("n", n)
        at_least("steps", steps)
        device = where(generator, device)
        if isinstance(self.group, FiniteGroup):
            near = _within(self.group, largest).to(device)
            drawn = torch.randint(len(near), (n, steps), generator=generator, device=device)
            return near[drawn]
        if largest is not None and not 0 < largest <= math.pi:
            raise ValueError(
                f"largest={largest!r}: expected an angle in radians in (0, π], or None for the "
                "uniform law"
            )
        assert isinstance(self.group, LieGroup)
        drawn = self.group.random(n, steps, generator=generator, dtype=torch.float64, device=device)
        shrunk = 1.0 if largest is None else largest / math.pi
        return (shrunk * self.group.log(drawn)).float()

    def traces(
        self,
        n: int,
        steps: int,
        generator: torch.Generator | None = None,
        *,
        largest: float | None = None,
        device: torch.device | str | None = None,
    ) -> Traces:
        """Return `n` traces of `steps` random actions from random states.

        States are composed in double precision, so that long traces stay exact.

        Arguments:
            n: The number of traces.
            steps: The number of actions in each; it has one observation more.
            generator: Where randomness comes from.
            largest: As in `random_actions`.
            device: Where the traces are to be; by default, with the generator.

        Raises:
            ValueError: If an argument is out of its range.
        """
        actions = self.random_actions(n, steps, generator=generator, largest=largest, device=device)
        exact = torch.float64 if isinstance(self.group, LieGroup) else None
        state = self.random_states(n, generator=generator, dtype=exact, device=device)
        states = [state]
        for t in range(steps):
            action = actions[:, t].to(exact) if exact else actions[:, t]
            states.append(self.move(states[-1], action))
        path = torch.stack(states, 1)
        path = path.float() if exact else path
        return Traces(
            observations=self.render(path),
            actions=actions,
            group=self.group,
            states=path,
            name=self.name,
        )

    def _checked(self, states: Tensor) -> Tensor:
        shape, wanted = tuple(states.shape), self.state_shape
        if shape[len(shape) - len(wanted) :] != wanted or len(shape) < len(wanted):
            raise ValueError(
                f"states has shape {shape}: expected (*, {', '.join(map(str, wanted))})"
            )
        finite = isinstance(self.group, FiniteGroup)
        if states.is_floating_point() == finite or states.is_complex():
            expected = "int64, elements of a finite group" if finite else "float32 or float64"
            raise ValueError(f"states has dtype {states.dtype}: expected {expected}")
        if isinstance(self.group, FiniteGroup):
            wrong = (states < 0) | (states >= self.group.order)
            if wrong.any():
                raise ValueError(
                    f"states has {int(states[wrong][0])}: expected elements 0 … "
                    f"{self.group.order - 1} of {self.group!r}"
                )
        return states

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        return f"{type(self).__name__}({given})"


def where(
    generator: torch.Generator | None, device: torch.device | str | None
) -> torch.device | str | None:
    """Where random numbers are drawn: on `device`, or else with the generator."""
    return generator.device if device is None and generator is not None else device


def _within(group: FiniteGroup, largest: float | None) -> Tensor:
    """The elements that are products of at most `largest` generators and their inverses, sorted."""
    if largest is None:
        return torch.arange(group.order)
    at_least("largest", largest)  # type: ignore[arg-type]
    generators = torch.as_tensor(group.generators)
    letters = torch.cat((generators, group.inverse(generators)))
    near = torch.zeros(1, dtype=torch.int64)
    for _ in range(int(largest)):
        further = group.compose(letters[:, None], near[None]).flatten()
        found = torch.cat((near, further)).unique()
        if len(found) == len(near):
            break
        near = found
    return near
