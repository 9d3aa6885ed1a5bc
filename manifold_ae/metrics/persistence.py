r"""Betti numbers of a sample, by persistent homology, for data without known factors.

Landmarks are chosen as farthest points: all the sample lies within ε of one, and they lie ε apart.
Vietoris–Rips complexes of the landmarks, at every scale, have classes that are born and die:

    a class counts  if it is born by 2.8 ε and lives past 3.2 ε;
    it is noise     if it dies before 2.8 ε, is born after 3.2 ε, or dies within 5/4 of its birth;
    otherwise it is doubtful, and the Betti number of its dimension is not told.

On a sample of a manifold, gaps between landmarks close by then (over uniform samples of seven
manifolds and of flat sheets, at 2.6 ε at the latest), while a loop of length L lives until L/3:
those longer than 9.6 ε are seen. Nothing is told of a sample whose diameter is below
4.5 ε: it has no scales to tell apart, as noise in many dimensions. Torsion is seen by the
difference between coefficients in ℤ/2 and ℤ/3.

Sources: F. Chazal, S. Oudot, *Towards persistence-based reconstruction in Euclidean spaces*, 2008,
for classes that live through a range of scales; U. Bauer, *Ripser*, 2021, for the computation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.metrics._checks import finite
from manifold_ae.metrics.distances import pairwise

__all__ = [
    "Homology",
    "betti_of_data",
    "betti_of_latents",
    "enough_landmarks",
    "farthest_points",
    "homology",
]

#: Born by this many ε, a class may count; it is past them that it has to live.
BORN, ALIVE = 2.8, 3.2
#: Death over birth, below which a class is noise.
SHORTEST = 1.25
#: Diameter in ε, below which nothing is told.
SMALLEST = 4.5
PRIMES: tuple[int, ...] = (2, 3)
#: Landmarks are lowered by this factor, down to so few, until of so many samples of uniform points
#: all but so many show what M has.
FEWER, FEWEST, DRAWS, BUT = 0.7, 8, 12, 1


@dataclass(frozen=True)
class Homology:
    """Betti numbers of a sample.

    Attributes:
        betti: by prime, those of dimensions 0, 1, …; None for each that cannot be told.
        scale: ε, within which every point of the sample is of a landmark.
        diameter: of the landmarks.
        landmarks: their number.
        bars: by prime and dimension, birth and death in units of ε, of those that do not die
            within 5/4 of their birth; an infinite death is one after 3.2 ε.
    """

    betti: dict[int, tuple[int | None, ...]]
    scale: float
    diameter: float
    landmarks: int
    bars: dict[int, list[list[tuple[float, float]]]]


def farthest_points(
    rows: Callable[[int], Tensor], n: int, count: int
) -> tuple[list[int], float, Tensor]:
    """Landmarks, each the farthest from those before, and ε.

    Arguments:
        rows: distances ``(n,)`` of point k from all.
        n: number of points.
        count: of landmarks.

    Returns:
        Their numbers; the largest distance of a point from the nearest; their distances
        ``(count, count)``.
    """
    chosen, kept = [0], [rows(0)]
    nearest = kept[0].clone()
    while len(chosen) < min(count, n):
        k = int(nearest.argmax())
        chosen.append(k)
        kept.append(rows(k))
        nearest = torch.minimum(nearest, kept[-1])
    distances = torch.stack(kept)[:, chosen]
    return chosen, nearest.max().item(), (distances + distances.T) / 2


def homology(distances: Tensor, scale: float, *, dimension: int) -> Homology:
    """Betti numbers of landmarks, from their distances ``(n, n)`` and ε, by the rule above.

    Raises:
        ValueError: if the points do not differ, so that there is no scale.
        ModuleNotFoundError: if ripser is not installed.
    """
    ripser = _ripser()
    matrix = distances.double().numpy().copy()
    np.fill_diagonal(matrix, 0.0)
    diameter = float(matrix.max())
    if not scale > 0:
        raise ValueError(
            f"ε = {scale!r} with {len(matrix)} landmarks: every point is one, and there is no "
            "scale to tell noise by; take fewer landmarks, or more points"
        )
    betti: dict[int, tuple[int | None, ...]] = {}
    bars: dict[int, list[list[tuple[float, float]]]] = {}
    for prime in PRIMES:
        if diameter < SMALLEST * scale:
            betti[prime], bars[prime] = (None,) * (dimension + 1), [[] for _ in range(dimension)]
            continue
        found = ripser(
            matrix, distance_matrix=True, maxdim=dimension, thresh=ALIVE * scale, coeff=prime
        )["dgms"]
        relative = [diagram / scale for diagram in found]
        betti[prime] = tuple(map(_count, relative))
        bars[prime] = [
            [(float(b), float(d)) for b, d in diagram if d > SHORTEST * b]
            for diagram in relative[1:]
        ]
    return Homology(betti, scale, diameter, len(matrix), bars)


def _count(diagram: np.ndarray) -> int | None:
    """How many bars ``(n, 2)``, in units of ε, count; None where one is doubtful."""
    born, dead = diagram.T
    counts = (born <= BORN) & (dead >= ALIVE)
    noise = (dead < BORN) | (born > ALIVE) | (dead < SHORTEST * born)
    return int(counts.sum()) if (counts | noise).all() else None


def betti_of_latents(
    M: Manifold, z: Tensor, *, landmarks: int = 200, dimension: int | None = None
) -> Homology:
    """Betti numbers of latents z ``(n, *ambient_shape)``, by geodesic distances.

    Arguments:
        dimension: up to which; M's by default, and at most 2.
    """
    M.require_shape("z", z)
    z = finite("z", z).cpu()

    def rows(k: int) -> Tensor:
        return pairwise(M, z[k : k + 1], z)[0]

    top = min(2, M.dim) if dimension is None else dimension
    return _of_sample(rows, len(z), landmarks, top)


def enough_landmarks(
    M: Manifold, n: int, most: int, *, generator: torch.Generator | None = None
) -> int | None:
    """Through how many landmarks n uniform points of M show its Betti numbers; None: through none.

    The more landmarks there are for the points, the more ε is a matter of gaps between points, and
    not of M: of 500 points on a circle 30 landmarks see one loop, and 200 may see none. So the
    number is lowered from ``most`` until, of ``DRAWS`` samples, all but ``BUT`` show what M has;
    and once more, if that does as well.

    Arguments:
        M: compact.
        generator: of the samples.
    """
    samples = [M.random_uniform(n, generator=generator, dtype=torch.float64) for _ in range(DRAWS)]
    count, enough = min(most, math.ceil(n / 2)), None
    while count >= FEWEST:
        if _mostly_show(M, samples, count):
            if enough is not None:
                return count
            enough = count
        elif enough is not None:
            return enough
        count = int(FEWER * count)
    return enough


def _mostly_show(M: Manifold, samples: list[Tensor], count: int) -> bool:
    missed = 0
    for z in samples:
        missed += not _shows(M, betti_of_latents(M, z, landmarks=count))
        if missed > BUT:
            return False
    return True


def _shows(M: Manifold, found: Homology) -> bool:
    """Whether Betti numbers are told, and those of M, where these are known."""
    for prime, betti in found.betti.items():
        known = M.betti_numbers(prime)
        if None in betti or (known is not None and betti != known[: len(betti)]):
            return False
    return True


def betti_of_data(
    x: Tensor, *, landmarks: int = 200, dimension: int = 2, missing: str = "refuse"
) -> Homology:
    """Betti numbers of observations x ``(n, *shape)``, by Euclidean distances.

    Arguments:
        missing: ``"mask"`` lets NaN stand for a value that is missing; see ``distances_from``.

    Raises:
        ValueError: if x is not finite otherwise, or two rows have no value in common.
    """
    if missing == "mask":
        finite("x", x.nan_to_num(0.0, torch.inf, -torch.inf))
        x = x.cpu().double().flatten(1)
    else:
        x = finite("x", x).cpu().flatten(1)
    x = x - x.nanmean(0)
    return _of_sample(lambda k: distances_from(x, k), len(x), landmarks, dimension)


def distances_from(x: Tensor, k: int) -> Tensor:
    """Euclidean distances ``(n,)`` of row k of x ``(n, features)`` from all.

    Of rows with missing values (NaN), by those values that both have, as if the others were as far
    apart on average: √(features/common · Σ over common (x_i − x_k)²).

    Raises:
        ValueError: if a row has no value in common with row k.
    """
    known = ~x.isnan()
    filled = torch.where(known, x, 0.0)
    squares = filled * filled
    if known.all():
        found = squares.sum(-1) + squares[k].sum() - 2 * (filled @ filled[k])
        return found.clamp_min(0).sqrt()
    shared = known.to(x.dtype)
    common = shared @ shared[k]
    if (common == 0).any():
        other = int((common == 0).nonzero()[0])
        raise ValueError(
            f"rows {k} and {other} have no value in common, so that nothing tells how far apart "
            "they are: leave out rows of which few values are known"
        )
    found = squares @ shared[k] + shared @ squares[k] - 2 * (filled @ filled[k])
    return (found.clamp_min(0) * x.shape[1] / common).sqrt()


def _of_sample(rows: Callable[[int], Tensor], n: int, landmarks: int, dimension: int) -> Homology:
    if n < 2 or landmarks < 2:
        raise ValueError(f"{n} points, landmarks = {landmarks!r}: expected 2 or more of both")
    # Some points are left over: their distance is the scale.
    count = min(landmarks, math.ceil(n / 2))
    _, scale, distances = farthest_points(rows, n, count)
    return homology(distances, scale, dimension=dimension)


def _ripser() -> Any:
    """ripser's function, when it is called for."""
    try:
        from ripser import ripser  # type: ignore[import-not-found]  # of an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "persistent homology needs ripser, which is not installed: "
            "pip install 'manifold-ae[topology]'"
        ) from error
    return ripser
