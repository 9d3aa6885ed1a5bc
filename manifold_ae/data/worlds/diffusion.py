r"""Points of the plane that a diffusion process moves, seen as a blob.

The actions are the steps of the process, elements of `groups.ScaleTranslation(2)` (see
`manifold_ae.diffusion`); a state is a point x, and an action (a, v) moves it,

    x ↦ s x + b,        (s, b) = exp(a, v) = (eᵃ, φ₁(a) v).

Points move by the matrix [[s I, b], [0, 1]] on (x, 1): that is `truth`, of size 3, and the least
that a homomorphism autoencoder has to find. The picture is no linear function of x, so that the
identity is no encoder.

It departs from other worlds in this: states are points, not elements, and the group's action on
them is transitive but not free (what scales about a point leaves it in place); and actions are not
drawn from a law of their own, but are those that the process takes from states of its own. `traces`
are windows of whole chains, each at a random place.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.datasets import make_moons
from torch import Tensor

from manifold_ae.diffusion import Denoiser, Schedule, diffusion_trace, exact
from manifold_ae.groups import Defining, ScaleTranslation

from .._checks import at_least, one_of
from ..traces import Traces
from .base import HiddenFactor, World, where
from .registry import register

KINDS = ("vp", "ve", "ddpm", "ddim")
POINTS = ("gaussians", "moons")
#: Those that begin with noise and remove it.
DENOISING = ("ddpm", "ddim")
#: Standard deviation of each of the eight Gaussians, of which the whole has 1 in each coordinate.
DEVIATION = 0.1
#: How many points the two moons have, and the noise on them before they are scaled.
MOONS, MOONS_NOISE = 500, 0.05
#: Variance that the whole of a VE chain adds: as much as the data have.
ADDED = 1.0


class ProcessWorld(World):
    """A world of points `(n,)` that steps of a diffusion process move: what such worlds share.

    Arguments:
        group: That of the steps.
        length: The number of steps of a whole chain.
    """

    #: Only actions that scale about the point itself leave it in place.
    stabiliser = "scalings about the point"

    def __init__(
        self,
        group: ScaleTranslation,
        shape: tuple[int, ...],
        length: int,
        limit: float,
        options: dict[str, Any],
    ) -> None:
        names = ("x", "y") if group.n == 2 else tuple(f"x{k + 1}" for k in range(group.n))
        factors = tuple(HiddenFactor(name, -limit, limit, circular=False) for name in names)
        super().__init__(group, shape, factors, options)
        self.truth = Defining(group)
        self.length = self.longest = length

    @abstractmethod
    def _windows(
        self, n: int, steps: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """States and actions of so many steps at random places of `n` chains, float64."""

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.group.degree,)

    def labels(self, states: Tensor) -> Tensor:
        limit = self.factors[0].high
        return self._checked(states).clamp(-limit, limit)

    def move(self, states: Tensor, actions: Tensor) -> Tensor:
        states = self._checked(states)
        assert isinstance(self.group, ScaleTranslation)
        return self.group.act(self.group.exp(actions), states)

    def random_states(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return `n` points at random times of the process, with shape `(n, *state_shape)`."""
        at_least("n", n)
        points = self._windows(n, 1, generator)[0][:, 0]
        return points.to(where(generator, device), dtype or torch.get_default_dtype())

    def random_actions(
        self,
        n: int,
        steps: int,
        generator: torch.Generator | None = None,
        *,
        largest: float | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return steps as they follow each other in the process, `(n, steps, group.dim)` float32.

        Of a process that removes noise they belong to the states that they were predicted at.

        Raises:
            ValueError: If there are not so many steps, or `largest` is given.
        """
        self._require(n, steps, largest)
        return self._windows(n, steps, generator)[1].to(where(generator, device)).float()

    def traces(
        self,
        n: int,
        steps: int,
        generator: torch.Generator | None = None,
        *,
        largest: float | None = None,
        device: torch.device | str | None = None,
    ) -> Traces:
        """Return windows of `steps` steps at random places of `n` chains.

        Raises:
            ValueError: If a chain has not so many steps, or `largest` is given.
        """
        self._require(n, steps, largest)
        states, actions = self._windows(n, steps, generator)
        place = where(generator, device)
        path = states.to(place).float()
        return Traces(
            observations=self.render(path),
            actions=actions.to(place).float(),
            group=self.group,
            states=path,
            name=self.name,
        )

    def _require(self, n: int, steps: int, largest: float | None) -> None:
        at_least("n", n)
        at_least("steps", steps)
        if steps > self.length:
            raise ValueError(
                f"steps={steps}: expected at most {self.length}, those of a whole chain; a world "
                f"with length={steps} has more"
            )
        if largest is not None:
            raise ValueError(
                f"largest={largest!r}: the process decides how large its steps are; leave it out, "
                "and take another length for other steps"
            )


@register("diffusion", "points that noising or denoising steps move, seen as a blob")
class Diffusion(ProcessWorld):
    r"""Points of eight Gaussians or two moons under a diffusion process, seen as a blob.

    A blob is exp −\|u − x\|²/2w², averaged over each pixel; **x runs to the right and y down**, the
    picture covers [−reach, reach]², and a blob beyond its border leaves it. Noise is removed with
    the exact score of the data. VP, DDPM and DDIM take `length` steps of the linear schedule of
    1,000 steps; VE adds the variance of the data once more, in equal steps.

    Arguments:
        kind: `"vp"`, `"ve"`, `"ddpm"` or `"ddim"`.
        points: `"gaussians"` or `"moons"`; both have mean 0 and unit mean square.
        length: The number of steps of a whole chain, up to 1,000.
        size: The number of pixels along each axis, at least 8.
        reach: How far the picture reaches from its middle.
        width: w, the standard deviation of the blob.

    Raises:
        ValueError: If an argument is out of its range or is no known name.

    Example:
        >>> world = Diffusion(kind="ddim", points="moons")
        >>> world.traces(3, 2).shape, world.group
        ((16, 16), ScaleTranslation(2))
    """

    name = "diffusion"
    chunk: ClassVar[dict[str, int]] = {"cpu": 4096, "cuda": 65536}

    def __init__(
        self,
        *,
        kind: str = "vp",
        points: str = "gaussians",
        length: int = 50,
        size: int = 16,
        reach: float = 5.0,
        width: float = 0.75,
    ) -> None:
        one_of("kind", kind, KINDS)
        one_of("points", points, POINTS)
        at_least("size", size, 8)
        for name, value in (("reach", reach), ("width", width)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value!r}: expected a positive number")
        given = {"kind": kind, "points": points, "length": length, "size": size}
        given |= {"reach": reach, "width": width}
        super().__init__(ScaleTranslation(2), (size, size), length, reach, given)
        self.kind, self.points, self.width = kind, points, width
        self.schedule, self.times = visited(length)
        self._edges = torch.linspace(-reach, reach, size + 1, dtype=torch.float64)
        if points == "moons":
            self._cloud = _moons()
            self.denoiser: Denoiser = exact.empirical(self._cloud, self.schedule)
        else:
            self._cloud = _ring()
            spread = torch.full_like(self._cloud, DEVIATION**2)
            self.denoiser = exact.mixture(self._cloud, spread, self.schedule)

    def random_points(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return `n` points of the data, `(n, 2)`, float64."""
        place = None if generator is None else generator.device
        rows = torch.randint(len(self._cloud), (n,), generator=generator, device=place)
        found = self._cloud.to(rows.device)[rows]
        if self.points == "moons":
            return found
        return found + DEVIATION * _normal(n, generator)

    def _windows(
        self, n: int, steps: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        options: dict[str, Any] = {"schedule": self.schedule, "times": self.times}
        if self.kind in DENOISING:
            start = _normal(n, generator)
            options["denoiser"] = self.denoiser
        else:
            start = self.random_points(n, generator)
            options["times"] = self.times[::-1]
        if self.kind == "ve":
            options = {"sigmas": [math.sqrt(ADDED / self.length)] * self.length}
        made = diffusion_trace(self.kind, start, steps=steps, generator=generator, **options)
        return made.observations, made.actions

    def _draw(self, states: Tensor) -> Tensor:
        edges = (self._edges.to(states) - states.unsqueeze(-1)) / (math.sqrt(2) * self.width)
        # A Gaussian's mean over each pixel, along each axis: at most 1.
        pixel = (self._edges[1] - self._edges[0]).item()
        whole = self.width * math.sqrt(math.pi / 2) / pixel
        right, down = (whole * torch.erf(edges).diff(dim=-1)).unbind(-2)
        return down.unsqueeze(-1) * right.unsqueeze(-2)


def visited(length: int) -> tuple[Schedule, tuple[int, ...]]:
    """The linear schedule, and `length` + 1 of its times, from noise to data.

    Raises:
        ValueError: If it has not so many.
    """
    schedule = Schedule.linear(1000)
    if at_least("length", length) > schedule.steps:
        raise ValueError(f"length={length!r}: expected at most {schedule.steps}, of {schedule!r}")
    return schedule, schedule.times(length)


def _normal(n: int, generator: torch.Generator | None) -> Tensor:
    place = None if generator is None else generator.device
    return torch.randn(n, 2, generator=generator, dtype=torch.float64, device=place)


def _ring() -> Tensor:
    """Means of eight Gaussians, such that the mixture has unit variance in each coordinate."""
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    radius = math.sqrt(2 * (1 - DEVIATION**2))
    return radius * torch.stack((angles.cos(), angles.sin()), -1)


def _moons() -> Tensor:
    points = torch.from_numpy(np.asarray(make_moons(MOONS, noise=MOONS_NOISE, random_state=0)[0]))
    points = points - points.mean(0)
    return points / points.square().mean().sqrt()
