r"""A solid in colours, turned about: the group SO(3), or SO(3) × SO(2) with the hue.

The solid is a polycube that no rotation maps to itself, so that each rotation of it is seen as
another picture: a symmetric one could not tell R from RS, with S a symmetry. A state is the
rotation matrix R from the solid's own axes to the camera's, or that and the hue's rotation. The
camera looks along z, in parallel projection; x runs to the right and y up.
"""

import torch
from torch import Tensor

from manifold_ae.groups import SO2, SO3, Defining, Group, Product

from .._checks import at_least
from .angles import ROTATION, euler_angles, turn
from .base import HiddenFactor, World
from .colours import chroma
from .polycubes import draw, face_colours, farthest_corner, polycube, symmetries
from .registry import register

MOST_CUBES = 12


@register("solids", "an asymmetric polycube in colours, turned about: SO(3), or SO(3) x hue")
class Solids(World):
    """A coloured polycube under rotations, and, if wanted, its hue on a circle.

    `labels` are the Euler angles of R = R_z(azimuth) R_y(tilt) R_z(roll), then the hue.

    Arguments:
        hue: Whether the faces' hues turn, too: the group is then SO(3) × SO(2).
        cubes: The number of cubes, from 1 to 12. One, two or three cubes make symmetric shapes, of
            which the colours alone tell the rotations apart.
        size: The number of pixels along each axis, at least 8.
        samples: Rays along each axis of a pixel, 1 to 4.
        seed: Which solid, in which colours.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> Solids(size=16).shape
        (3, 16, 16)
    """

    name = "solids"

    def __init__(
        self, *, hue: bool = False, cubes: int = 5, size: int = 32, samples: int = 2, seed: int = 0
    ) -> None:
        at_least("cubes", cubes)
        at_least("size", size, 8)
        at_least("samples", samples)
        for name, value, most in (("cubes", cubes, MOST_CUBES), ("samples", samples, 4)):
            if value > most:
                raise ValueError(f"{name}={value!r}: expected at most {most}")
        group: Group = Product(SO3(), SO2()) if hue else SO3()
        factors = (*ROTATION, HiddenFactor("hue")) if hue else ROTATION
        given = {"hue": hue, "cubes": cubes, "size": size, "samples": samples, "seed": seed}
        super().__init__(group, (3, size, size), factors, given)
        self.truth = Defining(group)
        self.cells = polycube(cubes, seed)
        self._hue, self._amplitude, self._lightness = face_colours(self.cells, seed)
        centres = self.cells.double() - self.cells.double().mean(0)
        scale = 0.97 / farthest_corner(centres)
        self._centres, self._half = scale * centres, scale / 2
        self._size, self._samples = size, samples

    def symmetries(self) -> int:
        """How many rotations keep the solid with its colours: one, the identity."""
        return len(symmetries(self.cells, self._colours(torch.zeros(1, dtype=torch.float64))[0]))

    def labels(self, states: Tensor) -> Tensor:
        rotation, hue = self._parts(self._checked(states))
        angles = euler_angles(rotation)
        return angles if hue is None else torch.cat((angles, turn(hue)[..., None]), -1)

    def _parts(self, states: Tensor) -> tuple[Tensor, Tensor | None]:
        """The rotation, and the angle of the hue where it turns."""
        if not isinstance(self.group, Product):
            return states, None
        rotation, circle = self.group.split(states)  # type: ignore[attr-defined]
        return rotation, torch.atan2(circle[..., 1, 0], circle[..., 0, 0])

    def _colours(self, hue: Tensor) -> Tensor:
        """Colours of the faces, `(n, cubes, 6, 3)`, at hues turned by the angles given, `(n,)`."""
        own, amplitude, lightness = (
            t.to(hue) for t in (self._hue, self._amplitude, self._lightness)
        )
        return lightness[..., None] + chroma(own + hue[:, None, None], amplitude)

    def _draw(self, states: Tensor) -> Tensor:
        rotation, hue = self._parts(states)
        turned = torch.zeros_like(rotation[:1, 0, 0]) if hue is None else hue
        return draw(
            rotation,
            self._centres.to(states),
            self._half,
            self._colours(turned),
            self._size,
            self._samples,
        )
