r"""Solids made of unit cubes joined along their faces, in colours, and how they are drawn.

Seen in parallel projection along z, the ray through the point (x, y) of the picture meets the
slab |q_a − c_a| ≤ h of a cube along its own axis a, with q = Rᵀ(x, y, s), at depths s between

    (c_a − o_a)/d_a ± h/|d_a|,        o = Rᵀ(x, y, 0),  d = Rᵀ e_z,

and the cube itself from the greatest of the lower bounds to the least of the upper ones; what is
seen is the nearest of the upper ones over the cubes, a z-buffer, and the face whose slab it ends.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups.finite import octahedral

from ..seeding import generator_for

#: The side of a cube that a face looks from: +x, −x, +y, −y, +z, −z.
SIDES = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
#: From so many cubes there are solids whose shape alone has no rotational symmetry.
LEAST_ASYMMETRIC = 4


def polycube(cubes: int, seed: int) -> Tensor:
    """Centres of unit cubes on the integer lattice, joined along faces, `(cubes, 3)`, int64.

    From four cubes on no rotation but the identity maps the solid to itself.
    """
    generator = generator_for("polycube", cubes, seed)
    while True:
        cells = {(0, 0, 0)}
        while len(cells) < cubes:
            border = {_sum(cell, side) for cell in cells for side in SIDES} - cells
            cells.add(sorted(border)[int(torch.randint(len(border), (), generator=generator))])
        found = torch.tensor(sorted(cells))
        if cubes < LEAST_ASYMMETRIC or len(symmetries(found)) == 1:
            return found


def face_colours(cells: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, chroma and lightness of every face, each `(cubes, 6)`, float64, by the golden angle.

    Hues a golden part of the circle apart are all different, and evenly spread.
    """
    generator = generator_for("face colours", len(cells), seed)
    count = 6 * len(cells)
    order = torch.randperm(count, generator=generator).double().unflatten(0, (len(cells), 6))
    golden = (5**0.5 - 1) / 2
    hue = 2 * torch.pi * (order * golden).remainder(1)
    lightness = 0.4 + 0.2 * (order * golden**2 * 3).remainder(1)
    return hue, torch.full_like(hue, 0.38), lightness


def symmetries(cells: Tensor, colours: Tensor | None = None) -> np.ndarray:
    """Those of the 24 rotations of the cube that map the solid to itself, `(k, 3, 3)`.

    Arguments:
        cells: Centres of the cubes, `(cubes, 3)`.
        colours: Of the faces, `(cubes, 6, channels)`; a rotation then has to keep them, too.
    """
    rotations = octahedral().round().astype(np.int64)
    here = _faces(cells.numpy(), colours)
    kept = [r for r in rotations if _faces(cells.numpy(), colours, r) == here]
    return np.stack(kept)


def _faces(cells: np.ndarray, colours: Tensor | None, rotation: np.ndarray | None = None) -> set:
    """Outer faces, each a place, a direction and a colour, from the least corner."""
    turn = np.eye(3, dtype=np.int64) if rotation is None else rotation
    moved = cells @ turn.T
    moved = moved - moved.min(0)
    inside = {tuple(cell) for cell in cells.tolist()}
    found = set()
    for k, (cell, place) in enumerate(zip(cells.tolist(), moved.tolist(), strict=True)):
        for j, side in enumerate(SIDES):
            if _sum(cell, side) not in inside:
                colour = () if colours is None else tuple(colours[k, j].tolist())
                found.add((tuple(place), tuple((turn @ np.array(side)).tolist()), colour))
    return found


def draw(
    rotation: Tensor, centres: Tensor, half: float, colours: Tensor, size: int, samples: int
) -> Tensor:
    """Pictures of the solid, turned, from the front, with shape `(n, 3, size, size)`.

    The light is at the camera: a face is the darker the more it is turned away, whatever its
    rotation about the line of sight. What lies outside the solid is black.

    Arguments:
        rotation: R, with shape `(n, 3, 3)`.
        centres: Of the cubes, with shape `(cubes, 3)`, in [-1, 1].
        half: h, half a cube's side.
        colours: Of the faces, with shape `(n or 1, cubes, 6, 3)`.
        size: The number of pixels along each axis; the picture spans [-1, 1].
        samples: Rays along each axis of a pixel.
    """
    rays = size * samples
    step = 2 / rays
    line = (torch.arange(rays, dtype=rotation.dtype, device=rotation.device) + 0.5) * step - 1
    direction = rotation[:, 2]
    # a ray within a slab never meets its sides: they are moved as far as can be squared
    floor = torch.finfo(rotation.dtype).tiny ** 0.25
    safe = torch.where(direction.abs() < floor, floor, direction)
    inverse = 1 / safe
    # rows go down, y goes up
    across = (rotation[:, 0] * inverse)[:, :, None, None] * line
    down = (rotation[:, 1] * inverse)[:, :, None, None] * -line[:, None]
    origin = across + down
    upper = centres * inverse[:, None] + half * inverse.abs()[:, None]
    depth = 2 * half * inverse.abs()
    best = torch.full_like(origin[:, 0], -torch.inf)
    face = torch.full(best.shape, 3 * len(centres), dtype=torch.uint8, device=best.device)
    q = origin.unbind(1)
    for k in range(len(centres)):
        x, y, z = (upper[:, k, a, None, None] - q[a] for a in range(3))
        near = torch.minimum(torch.minimum(x, y), z)
        shrunk = (v - depth[:, a, None, None] for a, v in enumerate((x, y, z)))
        a, b, c = shrunk
        far = torch.maximum(torch.maximum(a, b), c)
        seen = (near >= far) & (near > best)
        best = torch.where(seen, near, best)
        # 0, 1, 2 for the axis whose slab ends first
        axis = (near < x).to(torch.uint8) * (1 + (near < y).to(torch.uint8))
        face = torch.where(seen, 3 * k + axis, face)
    table = _seen_colours(colours, direction)
    picked = table.gather(1, face.flatten(1).long()[:, :, None].expand(-1, -1, 3))
    fine = picked.unflatten(1, (size, samples, size, samples))
    # by slices: a reduction over two short axes is ten times slower
    parts = [fine[:, :, i, :, j] for i in range(samples) for j in range(samples)]
    return (sum(parts[1:], parts[0]) / len(parts)).movedim(-1, 1)


def _seen_colours(colours: Tensor, direction: Tensor) -> Tensor:
    """Colours of the faces that look at the camera, `(n, 3 * cubes + 1, 3)`, the last black."""
    front, back = colours[:, :, 0::2], colours[:, :, 1::2]
    towards = (direction > 0)[:, None, :, None]
    light = 0.55 + 0.45 * direction.abs()[:, None, :, None]
    lit = torch.where(towards, front, back) * light
    black = torch.zeros_like(lit[:, :1, 0])
    return torch.cat((lit.flatten(1, 2), black), 1)


def _sum(a: Sequence[int], b: Sequence[int]) -> tuple[int, int, int]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def farthest_corner(centres: Tensor) -> float:
    """The distance from the origin of the farthest corner of unit cubes with these centres."""
    corners = torch.tensor(list(itertools.product((-0.5, 0.5), repeat=3)), dtype=centres.dtype)
    return float(torch.linalg.vector_norm(centres[:, None] + corners, dim=-1).max())
