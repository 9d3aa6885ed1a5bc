r"""A figure moved about on a true torus, with rotation, scale and colour as further factors.

The picture is periodic: both axes are angles, in steps of 2π/size, from −π; **x runs to the right**
and **y down**, and the figure that leaves on one side comes back on the other. Every factor is a
circle, so the group is a torus and a state the (cos, sin) of each factor's angle in turn:

- `x`, `y`: where the figure's origin is; angle 0 is pixel `size // 2`;
- `rotation`: turns the figure from the x axis towards the y axis, clockwise as seen;
- `scale`: an angle φ with (log size, log aspect) = a (cos φ, sin φ). A size alone is no circle, and
  its action, if it is to be one, runs to and fro: then φ and −φ look alike. With the aspect (length
  along the figure's x axis over that along its y axis) beside it, all φ look different;
- `hue`: the colour's angle about the greys. The observations are then in RGB, colours first.

The figure has no symmetry, neither rotation nor reflection, hence a trivial stabiliser.
"""

import math
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import Defining, Torus

from .._checks import at_least, did_you_mean, one_of
from .angles import circle_angles, turn
from .base import HiddenFactor, World
from .colours import chroma
from .figures import DRAWINGS, RANDOM, boxes, coverage, figure
from .registry import register

FACTORS = ("x", "y", "rotation", "scale", "hue")
#: Greatest chroma, so that colours stay between 0.05 and 0.95.
AMPLITUDE = 0.45
#: a, the greatest logarithm of size and of aspect.
STRETCH = 0.35
#: The least that a random figure of no symmetry takes.
LEAST_CELLS = 4


class Sprites(World):
    """A figure on a true torus: translations, and as many other circles as asked for.

    Arguments:
        factors: Which of `FACTORS` are moved, in the order of the coordinates of an action.
        figure: `"L"`, `"F"`, or `"random"`: cells joined at random, without symmetry.
        size: The number of pixels along each axis, at least 8.
        radius: From the figure's origin to its farthest corner at scale 1, in radians: the width of
            the picture is 2π.
        cells: The number of cells of a random figure, from 4 to 12.
        seed: Which random figure.

    Raises:
        ValueError: If an argument is out of its range or is no known name.

    Example:
        >>> world = Sprites(factors=("x", "hue"), size=16)
        >>> world.shape, world.group.dim
        ((3, 16, 16), 2)
    """

    name = "sprites"

    def __init__(
        self,
        *,
        factors: tuple[str, ...] = ("x", "y"),
        figure: str = "L",
        size: int = 32,
        radius: float = 1.5,
        cells: int = 5,
        seed: int = 0,
    ) -> None:
        chosen = _check_factors(factors)
        one_of("figure", figure, (*DRAWINGS, RANDOM))
        at_least("size", size, 8)
        at_least("cells", cells, LEAST_CELLS)
        if cells > 12:
            raise ValueError(f"cells={cells!r}: expected at most 12")
        # the largest figure, turned any way, must not meet its own copy round the torus
        largest = _largest_stretch() if "scale" in chosen else 1.0
        limit = (math.pi - 2 * math.pi / size) / largest
        if not 0 < radius <= limit:
            raise ValueError(
                f"radius={radius!r}: expected a number in (0, {limit:.3g}], so that the figure "
                "does not meet itself round the torus"
            )
        group = Torus(len(chosen))
        shape = (3, size, size) if "hue" in chosen else (size, size)
        given = {"factors": chosen, "figure": figure, "size": size, "radius": radius}
        if figure == RANDOM:
            given |= {"cells": cells, "seed": seed}
        super().__init__(group, shape, tuple(HiddenFactor(name) for name in chosen), given)
        self.truth = Defining(group)
        self._size, self._reach = size, radius * largest
        self._centres, self._halves = boxes(_figure(figure, cells, seed), radius)

    def labels(self, states: Tensor) -> Tensor:
        return turn(self._angles(self._checked(states)))

    def _angles(self, states: Tensor) -> Tensor:
        return circle_angles(states)

    def _draw(self, states: Tensor) -> Tensor:
        named = zip((f.name for f in self.factors), self._angles(states).unbind(-1), strict=True)
        angle = dict(named)
        rest = torch.zeros_like(states[:, 0])
        width = 2 * math.pi / self._size
        pixels = torch.arange(self._size, dtype=states.dtype, device=states.device) * width
        x, y = (_wrapped(pixels - math.pi - angle.get(k, rest)[:, None]) for k in ("x", "y"))
        q = x[:, None, :].expand(-1, self._size, -1), y[:, :, None].expand(-1, -1, self._size)
        if "rotation" in angle:
            c, s = (f(angle["rotation"])[:, None, None] for f in (torch.cos, torch.sin))
            q = c * q[0] + s * q[1], c * q[1] - s * q[0]
        centres, halves = (t.to(states)[None] for t in (self._centres, self._halves))
        if "scale" in angle:
            stretch = _stretch(angle["scale"])[:, None]
            centres, halves = stretch * centres, stretch * halves
        covered = coverage(q, centres, halves, width)
        if "hue" not in angle:
            return covered
        return (0.5 + chroma(angle["hue"], AMPLITUDE))[:, :, None, None] * covered[:, None]


class BorderedSprites(Sprites):
    """The figure in a picture with borders, where it stops: **not a group action**.

    The moves along x and y add, and are then cut off so that the figure stays in the picture. At a
    border a move and its inverse do not cancel, so there is no representation to learn, and `truth`
    is None; the actions are written as those of the torus only so that a model of it can be tried
    here. A state is the angle of each factor, `(*, k)`, in [−limit, limit] along x and y.

    Arguments:
        options: Those of `Sprites`; `factors` has x or y.

    Raises:
        ValueError: As `Sprites` does, or if neither x nor y is a factor.
    """

    name = "sprites (bordered: not a group action)"
    is_group_action = False
    why_no_truth = (
        "positions stop at the border: a move and its inverse do not cancel there, so the moves "
        "are no group action and have no representation"
    )
    stabiliser = "none, as no group acts"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        names = [factor.name for factor in self.factors]
        if not {"x", "y"} & set(names):
            raise ValueError(
                f"factors={tuple(names)!r}: expected 'x' or 'y' among them; without these there "
                "is no border, take bordered=False"
            )
        self.truth = None
        # from the outermost pixel's centre, a pixel and a half: the figure is seen as a whole
        self.limit = math.pi - 3 * math.pi / self._size - self._reach
        if self.limit <= 0:
            raise ValueError(
                f"radius={self._options['radius']!r}: the figure is as large as the picture with "
                "borders, and has nowhere to go; take a smaller one"
            )
        self.factors = tuple(
            HiddenFactor(name, -self.limit, self.limit, circular=False)
            if name in "xy"
            else HiddenFactor(name)
            for name in names
        )
        self._clamped = torch.tensor([name in "xy" for name in names])
        self._options["bordered"] = True

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (len(self.factors),)

    def move(self, states: Tensor, actions: Tensor) -> Tensor:
        states = self._checked(states)
        if actions.shape[-1:] != states.shape[-1:]:
            raise ValueError(
                f"actions has shape {tuple(actions.shape)}: expected (*, {len(self.factors)})"
            )
        return self._kept(states + actions)

    def random_states(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return `n` states, uniform between the borders and on the circles, `(n, k)`."""
        circles = super().random_states(n, generator=generator, dtype=dtype, device=device)
        angles = circle_angles(circles)
        free = angles * (self.limit / math.pi)
        return torch.where(self._clamped.to(angles.device), free, angles)

    def labels(self, states: Tensor) -> Tensor:
        states = self._checked(states)
        clamped = self._clamped.to(states.device)
        return torch.where(clamped, states, turn(states))

    def _angles(self, states: Tensor) -> Tensor:
        return states

    def _kept(self, states: Tensor) -> Tensor:
        inside = states.clamp(-self.limit, self.limit)
        return torch.where(self._clamped.to(states.device), inside, states)


@register("sprites", "an anti-aliased figure moved on a true torus; with rotation, scale, hue")
def sprites(
    *,
    factors: tuple[str, ...] = ("x", "y"),
    figure: str = "L",
    size: int = 32,
    radius: float = 1.5,
    cells: int = 5,
    seed: int = 0,
    bordered: bool = False,
) -> Sprites:
    """Return `Sprites`, or, with `bordered`, `BorderedSprites`, which is not a group action.

    Raises:
        ValueError: As these do.
    """
    made = BorderedSprites if bordered else Sprites
    return made(factors=factors, figure=figure, size=size, radius=radius, cells=cells, seed=seed)


_figure = figure


def _check_factors(factors: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(factors, str):
        raise ValueError(
            f"factors={factors!r}: expected names in a tuple, as in factors=('x', 'y')"
        )
    chosen = tuple(factors)
    for name in chosen:
        if name not in FACTORS:
            hint = did_you_mean(str(name), FACTORS)
            raise ValueError(f"factors has {name!r}: expected some of {', '.join(FACTORS)}{hint}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"factors={chosen!r}: expected at least one of {', '.join(FACTORS)}, each but once"
        )
    return chosen


def _wrapped(angles: Tensor) -> Tensor:
    """Angles in [−π, π)."""
    return (angles + math.pi).remainder(2 * math.pi) - math.pi


def _stretch(angle: Tensor) -> Tensor:
    """Factors along the figure's own axes, `(n, 2)`: size times aspect^½ and aspect^−½."""
    log_size, log_aspect = STRETCH * torch.cos(angle), STRETCH * torch.sin(angle)
    return torch.exp(torch.stack((log_size + log_aspect / 2, log_size - log_aspect / 2), -1))


def _largest_stretch() -> float:
    """The maximum of exp a (cos φ + sin φ / 2)."""
    return math.exp(STRETCH * math.sqrt(1.25))
