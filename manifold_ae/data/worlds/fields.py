r"""A function on the sphere under rotations: an oracle for linear measures, with SO(3).

The function has a finite series of real spherical harmonics, f = Σ_{1 ≤ l ≤ L} Σ_m c_l^m Y_l^m, and
is sampled at fixed points, on a grid of latitudes and longitudes. Rotated by R it is f(Rᵀx), and
its coefficients of degree l move among themselves,

    c_l ↦ D_l(R) c_l,

by the irreducible representation of that degree: so the linear map from the samples to the
coefficients is exactly equivariant, and the sum of these representations is the truth.
"""

import math

import torch
from torch import Tensor

from manifold_ae.groups import SO3, Representation, Sum, harmonics, irrep

from .._checks import at_least
from ..seeding import generator_for
from .angles import ROTATION, euler_angles
from .base import World
from .linear import LinearEncoder
from .registry import register

MOST_DEGREES = 8


@register("fields", "a function on the sphere, rotated: harmonics turn, a linear oracle on SO(3)")
class Fields(World):
    """Rotations of one function on the sphere with harmonics of degrees 1 … L.

    Coefficients are standard normal, scaled so that the function's mean square is 1/4. Degree 0, a
    constant that no rotation moves, is left out.

    Arguments:
        degree: L, from 1 to 8. Of degree 1 alone the field has rotations about an axis as its
            stabiliser; of degree 2 and more, in general, none.
        size: The number of latitudes, at least L + 1; there are twice as many longitudes.
        seed: Which function.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> Fields(degree=2, size=8).shape
        (8, 16)
    """

    name = "fields"
    truth: Representation
    value_range = (-math.inf, math.inf)

    def __init__(self, *, degree: int = 4, size: int = 16, seed: int = 0) -> None:
        at_least("degree", degree)
        if degree > MOST_DEGREES:
            raise ValueError(f"degree={degree!r}: expected at most {MOST_DEGREES}")
        at_least("size", size)
        if size <= degree:
            raise ValueError(
                f"size={size!r}: expected at least {degree + 1} latitudes for degree {degree}; "
                "with fewer, the samples do not determine the function"
            )
        group, factors = SO3(), ROTATION
        given = {"degree": degree, "size": size, "seed": seed}
        super().__init__(group, (size, 2 * size), factors, given)
        if degree == 1:
            self.stabiliser = "rotations about one axis: take degree=2 or more"
        generator = generator_for("field", degree, seed)
        drawn = torch.randn((degree + 1) ** 2 - 1, dtype=torch.float64, generator=generator)
        # the mean over the sphere of f² is |c|²/4π
        self.coefficients = drawn * math.sqrt(math.pi) / torch.linalg.vector_norm(drawn)
        self.degree, self.points = degree, _grid(size)
        self._samples = _harmonics(degree, self.points.flatten(0, 1))
        self.truth = Sum(*(irrep(group, n) for n in range(1, degree + 1)))

    def labels(self, states: Tensor) -> Tensor:
        return euler_angles(self._checked(states))

    def harmonic_encoder(self) -> LinearEncoder:
        """The linear map to the coefficients of degrees 1 … L, that `truth` moves exactly.

        By least squares, which is exact for a band-limited function; in the basis of `truth`.
        """
        return LinearEncoder(torch.linalg.pinv(self._samples), self.shape)

    def evaluate(self, points: Tensor) -> Tensor:
        """f at unit vectors `(*, 3)`, at rest, with shape `(*)`."""
        return (_harmonics(self.degree, points) * self.coefficients.to(points)).sum(-1)

    def _draw(self, states: Tensor) -> Tensor:
        moved = (self.truth.of(states) * self.coefficients.to(states)).sum(-1)
        return (moved @ self._samples.to(states).mT).unflatten(-1, self.shape)


def _harmonics(degree: int, points: Tensor) -> Tensor:
    """Y_l at unit vectors `(*, 3)` for l = 1 … degree, with shape `(*, (degree + 1)² − 1)`."""
    return torch.cat([harmonics(n, points) for n in range(1, degree + 1)], -1)


def _grid(size: int) -> Tensor:
    """Points in the middle of cells, from north to south and eastwards, `(size, 2 size, 3)`."""
    polar = (torch.arange(size, dtype=torch.float64) + 0.5) * (math.pi / size)
    azimuth = (torch.arange(2 * size, dtype=torch.float64) + 0.5) * (math.pi / size)
    ring = torch.stack((azimuth.cos(), azimuth.sin()), -1)
    across = polar.sin()[:, None, None] * ring
    up = polar.cos()[:, None, None].expand(-1, 2 * size, 1)
    return torch.cat((across, up), -1)
