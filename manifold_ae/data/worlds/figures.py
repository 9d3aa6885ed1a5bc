r"""Flat figures made of square cells, drawn anti-aliased from their exact signed distance.

A figure is a polyomino: cells of a square grid, joined along their sides. It is the union of its
maximal straight runs of cells, each a box; the signed distance to a box with centre c and half
sides h is

    d(q) = |max(|q − c| − h, 0)| + min(max(|q − c| − h), 0),

of which the least over the runs is negative inside and exact outside. A pixel's coverage is
`1/2 − d/width`, kept in [0, 1], for pixels of that width. (Where two runs met without overlapping,
there would be a seam; a figure without a 2×2 square of cells has none.)
"""

import itertools

import torch
from torch import Tensor

from ..seeding import generator_for

Cells = frozenset[tuple[int, int]]

#: Figures by name; rows go down.
DRAWINGS = {"L": ("X.", "X.", "XX"), "F": (".XX", "XX.", ".X.")}
RANDOM = "random"


def figure(name: str, cells: int, seed: int) -> Cells:
    """The cells (x, y) of a figure in `DRAWINGS`, or a random one, that no symmetry maps to itself.

    Arguments:
        name: A name in `DRAWINGS`, or `"random"`.
        cells: The number of cells of a random figure, at least 4.
        seed: Which random figure.
    """
    if name != RANDOM:
        rows = enumerate(DRAWINGS[name])
        return frozenset((x, y) for y, row in rows for x, cell in enumerate(row) if cell == "X")
    generator = generator_for("figure", cells, seed)
    # of four cells the L has no symmetry, of more most figures have none
    while True:
        grown = _grow(cells, generator)
        if not _has_square(grown) and not is_symmetric(grown):
            return grown


def is_symmetric(cells: Cells) -> bool:
    """Whether one of the seven rotations and reflections of the square maps the figure to itself.

    Reflections count: where the aspect is a factor, a mirror image may look like a rotation.
    """
    images = []
    for flip, (x, y) in itertools.product((1, -1), ((1, 0), (0, 1), (-1, 0), (0, -1))):
        images.append(_at_origin({(x * a - y * b * flip, y * a + x * b * flip) for a, b in cells}))
    return images.count(images[0]) > 1


def boxes(cells: Cells, radius: float) -> tuple[Tensor, Tensor]:
    """Centres and half sides of the figure's runs, each `(runs, 2)`, float64.

    The origin is the middle of the cells' centres; the farthest corner is `radius` away.
    """
    runs = {_run(cells, cell, step) for cell in cells for step in ((1, 0), (0, 1))}
    # a run of one cell lies in the other run through it
    longest = [run for run in runs if not any(run < other for other in runs)]
    spans = [torch.tensor(sorted(run), dtype=torch.float64) for run in longest]
    low = torch.stack([span.amin(0) - 0.5 for span in spans])
    high = torch.stack([span.amax(0) + 0.5 for span in spans])
    middle = torch.tensor(sorted(cells), dtype=torch.float64).mean(0)
    corners = torch.stack([low, high]) - middle
    farthest = torch.linalg.vector_norm(corners.abs().amax(0), dim=-1).max()
    scale = radius / farthest
    order = torch.argsort(low @ torch.tensor([1.0, 100.0], dtype=torch.float64))
    return scale * ((low + high) / 2 - middle)[order], scale * ((high - low) / 2)[order]


def coverage(q: tuple[Tensor, Tensor], centres: Tensor, halves: Tensor, width: float) -> Tensor:
    """How much of each pixel the figure covers, in [0, 1], with shape `(n, height, width)`.

    Arguments:
        q: The pixels' coordinates x and y from the figure's origin, each `(n, height, width)`.
        centres: Of the boxes, with shape `(n or 1, runs, 2)`.
        halves: Half sides of the boxes, with shape `(n or 1, runs, 2)`.
        width: The width of a pixel.
    """
    nearest = None
    for run in range(centres.shape[-2]):
        box = zip(q, centres[:, run].unbind(-1), halves[:, run].unbind(-1), strict=True)
        x, y = ((p - c[:, None, None]).abs() - h[:, None, None] for p, c, h in box)
        outside = torch.hypot(x.clamp_min(0), y.clamp_min(0))
        distance = outside + torch.maximum(x, y).clamp_max(0)
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
    assert nearest is not None
    return (0.5 - nearest / width).clamp(0, 1)


def _grow(count: int, generator: torch.Generator) -> Cells:
    cells = {(0, 0)}
    while len(cells) < count:
        steps = ((1, 0), (0, 1), (-1, 0), (0, -1))
        border = {(x + a, y + b) for x, y in cells for a, b in steps} - cells
        chosen = int(torch.randint(len(border), (), generator=generator))
        cells.add(sorted(border)[chosen])
    return frozenset(cells)


def _has_square(cells: Cells) -> bool:
    return any({(x + 1, y), (x, y + 1), (x + 1, y + 1)} <= cells for x, y in cells)


def _at_origin(cells: set[tuple[int, int]]) -> Cells:
    left, top = min(x for x, _ in cells), min(y for _, y in cells)
    return frozenset((x - left, y - top) for x, y in cells)


def _run(cells: Cells, cell: tuple[int, int], step: tuple[int, int]) -> Cells:
    """The maximal straight run of cells through one of them."""
    run = {cell}
    for sign in (1, -1):
        x, y = cell
        while (x := x + sign * step[0], y := y + sign * step[1]) in cells:
            run.add((x, y))
    return frozenset(run)
