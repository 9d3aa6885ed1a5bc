r"""Points that cover a manifold evenly, each for a cell of known volume.

Where coordinates move independently (on flat tori, Euclidean space, products) the points are those
of axes, crossed, and whatever is summed over all of them is summed along one axis at a time. Each
axis takes so many points that the spacing h, the root of a cell's volume, is alike in all.

On the two- and three-dimensional spheres, their projective spaces and SO(3) there is no lattice:
spirals of evenly spread points take its place (Fibonacci's on S², super-Fibonacci's on S³). On any
other compact manifold, uniform samples do, always the same ones.

References:
    M. Alexa, *Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of SO(3)*, CVPR 2022.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.manifolds import (
    SO3,
    Euclidean,
    FlatTorus,
    Manifold,
    Product,
    RealProjective,
    Sphere,
)

__all__ = ["Axis", "Lattice", "lattice"]

#: Bounds of Euclidean coordinates, in turn.
Ranges = Iterator[tuple[float, float]]
#: Where samples of other manifolds start.
SEED = 20220619
#: How many points a lattice has by itself: on a line, on crossed lines, elsewhere.
SIZES = (1000, 4096, 2500)


@dataclass(frozen=True, eq=False)
class Axis:
    """Points of one factor.

    Arguments:
        manifold: the factor.
        points: of shape ``(k, *ambient_shape)``, float64.
        cell: the volume that each stands for.
    """

    manifold: Manifold
    points: Tensor
    cell: float

    def __len__(self) -> int:
        return len(self.points)

    @property
    def spacing(self) -> float:
        """h, the root of a cell's volume."""
        return self.cell ** (1 / self.manifold.dim)


@dataclass(frozen=True, eq=False)
class Lattice:
    """Points of a manifold: those of its axes, crossed.

    Arguments:
        manifold: the manifold M.
        axes: whose points they are made of; messages over them have the shape ``shape``.
    """

    manifold: Manifold
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points along each axis."""
        return tuple(len(axis) for axis in self.axes)

    def __len__(self) -> int:
        return math.prod(self.shape)

    @property
    def points(self) -> Tensor:
        """All of them, of shape ``(len, *ambient_shape)``, float64; the last axis runs first."""
        grids = torch.meshgrid(*(torch.arange(k) for k in self.shape), indexing="ij")
        parts = [
            axis.points[grid.flatten().to(axis.points.device)].flatten(1)
            for axis, grid in zip(self.axes, grids, strict=True)
        ]
        return torch.cat(parts, -1).reshape(len(self), *self.manifold.ambient_shape)

    @property
    def cell(self) -> float:
        """The volume that each point stands for."""
        return math.prod(axis.cell for axis in self.axes)

    def times(self, t: Tensor) -> list[Tensor]:
        """The axes' own times, 0-dimensional, of a time of shape ``M.time_shape``."""
        return _times(self.manifold, t)

    def to(self, device: torch.device | str) -> "Lattice":
        """The same on a device."""
        axes = tuple(Axis(a.manifold, a.points.to(device), a.cell) for a in self.axes)
        return Lattice(self.manifold, axes)


def lattice(
    manifold: Manifold,
    count: int | None = None,
    *,
    low: Tensor | float = -4.0,
    high: Tensor | float = 4.0,
) -> Lattice:
    """About ``count`` points that cover M, or of Euclidean axes the part between two bounds.

    Arguments:
        count: by default 1000 in one dimension, 4096 on several axes, 2500 elsewhere.
        low, high: bounds of Euclidean coordinates, for all of them or for each in turn.

    Raises:
        ValueError: if there is to be no point, or a bound is not below the other.
    """
    bounds = torch.broadcast_tensors(
        *(torch.as_tensor(bound, dtype=torch.float64).cpu() for bound in (low, high)),
        torch.zeros(_euclidean(manifold), dtype=torch.float64),
    )
    ranges = list(zip(bounds[0].tolist(), bounds[1].tolist(), strict=True))
    for least, most in ranges:
        if not -math.inf < least < most < math.inf:
            raise ValueError(f"low, high = {least:g}, {most:g}: expected a bounded range")
    factors = _factors(manifold, iter(ranges))
    if count is None:
        lines = all(factor.dim == 1 for factor in factors)
        count = SIZES[2] if not lines else SIZES[min(len(factors), 2) - 1]
    if count < 1:
        raise ValueError(f"count = {count!r}: expected at least one point")
    volume = math.prod(factor.volume for factor in factors)
    spacing = (volume / count) ** (1 / sum(factor.dim for factor in factors))
    return Lattice(manifold, tuple(factor.axis(spacing) for factor in factors))


@dataclass(frozen=True)
class _Factor:
    """What an axis is made of, before it is known how fine."""

    manifold: Manifold
    volume: float
    make: Callable[[int], Tensor]

    @property
    def dim(self) -> int:
        return self.manifold.dim

    def axis(self, spacing: float) -> Axis:
        count = max(1, round(self.volume / spacing**self.dim))
        return Axis(self.manifold, self.make(count), self.volume / count)


# ---- factors of a manifold, and what of a time is whose -------------------------------------


@singledispatch
def _factors(manifold: Manifold, ranges: Ranges) -> list[_Factor]:
    return [_Factor(manifold, manifold.volume, lambda count: _cover(manifold, count))]


@_factors.register
def _(manifold: Product, ranges: Ranges) -> list[_Factor]:
    return [part for factor in manifold.factors for part in _factors(factor, ranges)]


@_factors.register
def _(manifold: FlatTorus, ranges: Ranges) -> list[_Factor]:
    return [_Factor(FlatTorus(1), 2 * math.pi, _circle)] * manifold.dim


@_factors.register
def _(manifold: Euclidean, ranges: Ranges) -> list[_Factor]:
    return [_line(*next(ranges)) for _ in range(manifold.dim)]


@singledispatch
def _euclidean(manifold: Manifold) -> int:
    """How many Euclidean axes there are."""
    return 0


@_euclidean.register
def _(manifold: Product) -> int:
    return sum(map(_euclidean, manifold.factors))


@_euclidean.register
def _(manifold: Euclidean) -> int:
    return manifold.dim


@singledispatch
def _times(manifold: Manifold, t: Tensor) -> list[Tensor]:
    return [t]


@_times.register
def _(manifold: Product, t: Tensor) -> list[Tensor]:
    pairs = zip(manifold.factors, manifold.split_time(t), strict=True)
    return [time for factor, part in pairs for time in _times(factor, part)]


@_times.register
def _(manifold: FlatTorus, t: Tensor) -> list[Tensor]:
    return [t] * manifold.dim


@_times.register
def _(manifold: Euclidean, t: Tensor) -> list[Tensor]:
    # One coordinate is a Euclidean(1), whose times have one entry.
    return list(t.split(1, -1))


# ---- points ---------------------------------------------------------------------------------


def _circle(count: int) -> Tensor:
    angles = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return torch.stack([angles.cos(), angles.sin()], -1)


def _line(low: float, high: float) -> _Factor:
    def make(count: int) -> Tensor:
        middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        return (low + (high - low) * middles).unsqueeze(-1)

    return _Factor(Euclidean(1), high - low, make)


@singledispatch
def _cover(manifold: Manifold, count: int) -> Tensor:
    """So many points spread evenly over a compact manifold."""
    generator = torch.Generator().manual_seed(SEED)
    return manifold.random_uniform(count, generator=generator, dtype=torch.float64)


def _fibonacci(height: Tensor) -> Tensor:
    """Points of S² at heights that are evenly spaced, each a golden section of a turn further."""
    turn = torch.arange(len(height), dtype=torch.float64) * (math.pi * (3 - math.sqrt(5)))
    radius = (1 - height.square()).sqrt()
    return torch.stack([radius * turn.cos(), radius * turn.sin(), height], -1)


def _super_fibonacci(count: int) -> Tensor:
    """Points of S³, even on it and on its quotient by the antipode (Alexa, 2022, algorithm 1)."""
    phi, psi = math.sqrt(2), 1.533751168755204288118041
    s = torch.arange(count, dtype=torch.float64) + 0.5
    r, R = (s / count).sqrt(), (1 - s / count).sqrt()
    a, b = 2 * math.pi * s / phi, 2 * math.pi * s / psi
    return torch.stack([r * a.sin(), r * a.cos(), R * b.sin(), R * b.cos()], -1)


def _levels(count: int) -> Tensor:
    """Middles of equal parts of (0, 1)."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


@_cover.register
def _(manifold: Sphere, count: int) -> Tensor:
    if manifold.dim > 3:
        return _cover.dispatch(Manifold)(manifold, count)
    made = {
        1: _circle,
        2: lambda count: _fibonacci(2 * _levels(count) - 1),
        3: _super_fibonacci,
    }
    return made[manifold.dim](count)


@_cover.register
def _(manifold: RealProjective, count: int) -> Tensor:
    if manifold.dim > 3:
        return _cover.dispatch(Manifold)(manifold, count)
    made = {
        1: lambda count: _circle(2 * count)[:count],
        2: lambda count: _fibonacci(_levels(count)),
        3: _super_fibonacci,
    }
    return made[manifold.dim](count)


@_cover.register
def _(manifold: SO3, count: int) -> Tensor:
    return rotations.from_quaternion(_super_fibonacci(count))
