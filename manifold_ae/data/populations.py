r"""Simulated recordings whose hidden positions are known: cells tuned to a place on a manifold.

The rate of cell i at the position z is a bump over a background,

    λᵢ(z) = gain · (background + aᵢ exp(κ s(z, cᵢ))),

with its preferred position cᵢ, and s ≤ 0 that is zero at z = cᵢ alone: on tori the sum of
cos Δθ − 1 (von Mises bumps), on SO(3) cos ∠ − 1, on ℝP² (z·c)² − 1, on the plane −|z − c|²/2. The
peaks aᵢ lie between 5/8 and 5/4 of ``peak``, and preferred positions are spread as farthest points.
Counts are Poisson with these rates or, overdispersed, negative binomial of variance λ + φλ².

    recording = simulate("ring", 2000, seed=0)
    recording.x            # counts (2000, 30)
    recording.angles       # where the animal looked (2000, 1), in radians

Sources: K. Zhang, *Representation of spatial orientation by the intrinsic dynamics of the
head-direction cell ensemble*, 1996, for von Mises tuning; R. J. Gardner et al., *Toroidal topology
of population activity in grid cells*, 2022, for the torus of one module.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from manifold_ae import manifolds

from . import positions
from ._checks import at_least, one_of
from .seeding import generator_for
from .torus import PeriodicPicture

#: Candidates a cell, of which its preferred position is one.
CANDIDATES = 20
#: Side of the translated pictures, in pixels, and their Fourier series.
PICTURE_SIZE, PICTURE_ORDER, PICTURE_DISCOUNT = 16, 2, 0.5


@dataclass(frozen=True, eq=False)
class Bumps:
    """Cells tuned to positions: a map from positions `(*, *ambient_shape)` to rates `(*, cells)`.

    Arguments:
        preferred: Their positions of highest rate, with shape `(cells, *ambient_shape)`.
        peaks: What their rates rise by there, with shape `(cells,)`.
        background: Their rate elsewhere.
        sharpness: κ; a bump has the width 1/√κ, in radians (on the axes 1/√(2κ)).
        overlap: s(z, c), of flattened positions `(*, 1, k)` and `(cells, k)`.
    """

    preferred: Tensor
    peaks: Tensor
    background: float
    sharpness: float
    overlap: Callable[[Tensor, Tensor], Tensor] = field(repr=False)

    def __call__(self, points: Tensor) -> Tensor:
        shape = tuple(self.preferred.shape[1:])
        if tuple(points.shape[points.ndim - len(shape) :]) != shape:
            raise ValueError(f"points has shape {tuple(points.shape)}: expected (*, {shape})")
        kind = {"dtype": points.dtype, "device": points.device}
        z = points.flatten(points.ndim - len(shape)).unsqueeze(-2)
        s = self.overlap(z, self.preferred.flatten(1).to(**kind))
        return self.background + self.peaks.to(**kind) * (self.sharpness * s).exp()


@dataclass(frozen=True, eq=False, repr=False)
class Simulation:
    """A simulated recording, and the truth behind it.

    Arguments:
        kind: What was simulated.
        x: What is observed, with shape `(n, features)`, float32.
        means: Rates of counts, or means of pixels, in the same shape.
        manifold: A specification of where the positions are, as `manifolds.parse` takes it; none
            for noise.
        points: True positions, with shape `(n, *ambient_shape)`, float32, or none.
        angles: The same in radians, with shape `(n, k)`, on tori.
        times: Times of the rows, with shape `(n,)`, float64, where positions move along them.
        tuning: Maps positions `(*, *ambient_shape)` to means `(*, features)`; none for noise.
        likelihood: The observation model that the data are drawn from, or the one that includes it.
        noise: The standard deviation about the means, of pictures; 0 for counts.
    """

    kind: str
    x: Tensor
    means: Tensor
    manifold: str | None = None
    points: Tensor | None = None
    angles: Tensor | None = None
    times: Tensor | None = None
    tuning: Callable[[Tensor], Tensor] | None = None
    likelihood: str = "poisson"
    noise: float = 0.0

    def __repr__(self) -> str:
        return f"Simulation({self.kind!r}, x={tuple(self.x.shape)}, manifold={self.manifold!r})"


@dataclass(frozen=True)
class _Kind:
    """Where positions are, how they are drawn and how they move; and what cells are tuned to."""

    summary: str
    manifold: str | None
    cells: int
    sharpness: float
    uniform: positions.Draw | None = None
    walk: positions.Walk | None = None
    overlap: Callable[[Tensor, Tensor], Tensor] | None = None


def _on_a_torus(z: Tensor, c: Tensor) -> Tensor:
    return (z * c).sum(-1) - z.shape[-1] / 2


def _of_rotations(z: Tensor, c: Tensor) -> Tensor:
    return ((z * c).sum(-1) - 3) / 2


def _of_axes(z: Tensor, c: Tensor) -> Tensor:
    return (z * c).sum(-1).square() - 1


def _on_a_plane(z: Tensor, c: Tensor) -> Tensor:
    return -(z - c).square().sum(-1) / 2


KINDS: dict[str, _Kind] = {
    "ring": _Kind(
        "head-direction cells, tuned to one angle", "circle", 30, 4.0,
        positions.torus_uniform(1), positions.torus_walk(1), _on_a_torus,
    ),
    "torus": _Kind(
        "grid cells of one module, tuned to two angles", "torus:2", 50, 2.0,
        positions.torus_uniform(2), positions.torus_walk(2), _on_a_torus,
    ),
    "so3": _Kind(
        "cells tuned to poses in space", "so3", 60, 3.0,
        positions.rotation_uniform, positions.rotation_walk, _of_rotations,
    ),
    "axis": _Kind(
        "cells tuned to an axis without a sign", "projective:2", 40, 3.0,
        positions.axis_uniform, positions.axis_walk, _of_axes,
    ),
    "sheet": _Kind(
        "cells tuned to places in a square", "euclidean:2", 40, 6.0,
        positions.square_uniform, positions.square_walk, _on_a_plane,
    ),
    "noise": _Kind("cells that are tuned to nothing", None, 40, 0.0),
    "pictures": _Kind(
        "a periodic picture, translated", "torus:2", PICTURE_SIZE**2, 0.0,
        positions.torus_uniform(2), positions.torus_walk(2),
    ),
}  # fmt: skip


def simulate(
    kind: str,
    n: int,
    *,
    seed: int = 0,
    population: int | None = None,
    smooth: bool = False,
    rate: float = 0.02,
    cells: int | None = None,
    peak: float = 8.0,
    background: float = 0.5,
    sharpness: float | None = None,
    gain: float = 1.0,
    dispersion: float = 0.0,
    noise: float = 1.5,
) -> Simulation:
    """Return a simulated recording, a function of the arguments alone.

    Arguments:
        kind: `"ring"`, `"torus"`, `"so3"`, `"axis"`, `"sheet"`, `"noise"` or `"pictures"`.
        n: The number of observations.
        seed: Which positions and which noise.
        population: Which cells, or which picture; by default `seed` says that, too.
        smooth: Whether positions are those of a Brownian motion at the times 0, 1, 2, ...; else
            they are independent. Uniform they are either way.
        rate: The variance of that motion in a unit of time, at most 1: rad², or in the unit in
            which the square has the side 2.
        cells: The number of cells; of `"pictures"`, that of pixels, a square.
        peak: What rates rise by at their highest, 5/8 to 5/4 of it, in counts.
        background: The rate elsewhere, in counts.
        sharpness: κ of the tuning; each kind has its own.
        gain: A factor of all rates. The less, the noisier.
        dispersion: φ of the counts' variance λ + φλ²; 0 for Poisson.
        noise: The standard deviation of pixels about their mean, of `"pictures"`; that of their
            means is 1.

    Raises:
        ValueError: If there is no such kind, or an argument is out of its range.

    Example:
        >>> simulate("ring", 100)
        Simulation('ring', x=(100, 30), manifold='circle')
    """
    one_of("kind", kind, KINDS)
    at_least("n", n)
    positive = {"rate": rate, "peak": peak, "gain": gain}
    if sharpness is not None:
        positive["sharpness"] = sharpness
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r}: expected a positive number")
    for name, value in {"background": background, "dispersion": dispersion, "noise": noise}.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value!r}: expected a finite number of at least 0")
    if rate > 1:
        raise ValueError(f"rate={rate!r}: expected at most 1, a motion that is seen as one")
    own = KINDS[kind]
    count = at_least("cells", own.cells if cells is None else cells)
    world = seed if population is None else population
    points, times = None, None
    if own.uniform is not None and own.walk is not None:
        generator = generator_for("positions", kind, seed)
        points = own.walk(n, rate, generator) if smooth else own.uniform(n, generator)
        times = torch.arange(n, dtype=torch.float64) if smooth else None
    draw = generator_for("observations", kind, seed)
    if kind == "pictures":
        return _pictures(points, times, count, world, noise, draw)
    generator = generator_for("cells", kind, world)
    peaks = peak * (0.625 + 0.625 * torch.rand(count, dtype=torch.float64, generator=generator))
    tuning = None
    if points is None:
        # As much on the average as cells that are tuned have.
        rates = (gain * (background + peaks / 4)).expand(n, count)
    else:
        assert own.uniform is not None and own.overlap is not None
        candidates = own.uniform(CANDIDATES * count, generator)
        tuning = Bumps(
            preferred=_spread(candidates, count, own.overlap),
            peaks=gain * peaks,
            background=gain * background,
            sharpness=own.sharpness if sharpness is None else sharpness,
            overlap=own.overlap,
        )
        rates = tuning(points)
    return Simulation(
        kind=kind,
        x=_counts(rates, dispersion, draw),
        means=rates.float(),
        manifold=own.manifold,
        points=None if points is None else points.float(),
        angles=_angles(own.manifold, points),
        times=times,
        tuning=tuning,
    )


def waves(seed: int, size: int = PICTURE_SIZE) -> PeriodicPicture:
    """A picture of variance 1 of waves that all have their share, with phases drawn from a seed.

    Σ γ^{|k| + |l| − 1} cos(kθ + lφ + α_kl) up to a factor, over one of each pair ±(k, l) of at most
    order 2: so that either angle moves it, whatever the seed.
    """
    n = PICTURE_ORDER
    generator = generator_for("waves", seed)
    phase = 2 * math.pi * torch.rand(2 * n + 1, 2 * n + 1, dtype=torch.float64, generator=generator)
    k = torch.arange(-n, n + 1)
    half = (k[:, None] > 0) | ((k[:, None] == 0) & (k > 0))
    order = k[:, None].abs() + k.abs()
    weights = half * PICTURE_DISCOUNT ** (order - 1).double()
    scale = (weights.square().sum() / 2).sqrt()
    return PeriodicPicture(
        half * torch.polar((1 / scale).expand_as(phase), phase), PICTURE_DISCOUNT, size
    )


def _pictures(
    points: Tensor | None,
    times: Tensor | None,
    pixels: int,
    world: int,
    noise: float,
    generator: torch.Generator,
) -> Simulation:
    size = math.isqrt(pixels)
    if size * size != pixels:
        raise ValueError(f"cells={pixels}: expected a square, the pixels of a picture")
    picture = waves(world, size)
    torus = manifolds.FlatTorus(2)

    def tuning(points: Tensor) -> Tensor:
        return picture.translate(torus.to_angles(points)).flatten(-2)

    assert points is not None
    means = tuning(points)
    x = means + noise * torch.randn(means.shape, dtype=torch.float64, generator=generator)
    return Simulation(
        kind="pictures",
        x=x.float(),
        means=means.float(),
        manifold="torus:2",
        points=points.float(),
        angles=_angles("torus:2", points),
        times=times,
        tuning=tuning,
        likelihood="gaussian-learned",
        noise=noise,
    )


def _angles(spec: str | None, points: Tensor | None) -> Tensor | None:
    if spec is None or points is None:
        return None
    M = manifolds.parse(spec)
    return M.to_angles(points).float() if isinstance(M, manifolds.FlatTorus) else None


def _spread(candidates: Tensor, count: int, overlap: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Of the candidates `(m, *shape)` the first, then always the farthest from those before."""
    flat = candidates.flatten(1)
    chosen = [0]
    nearest = overlap(flat, flat[0])
    while len(chosen) < count:
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, overlap(flat, flat[chosen[-1]]))
    return candidates[chosen]


def _counts(rates: Tensor, dispersion: float, generator: torch.Generator) -> Tensor:
    """Poisson counts, or those of rates that vary by a gamma law of mean 1 and variance φ."""
    if dispersion > 0:
        rates = rates * _gamma(rates.shape, 1 / dispersion, generator) * dispersion
    return torch.poisson(rates, generator=generator).float()


def _gamma(shape: torch.Size, order: float, generator: torch.Generator) -> Tensor:
    """Draws of the gamma law of the given order and scale 1, from a generator."""
    alpha = torch.full(shape, order, dtype=torch.float64)
    # torch's own distributions draw by this; the public ones take no generator.
    return torch._standard_gamma(alpha, generator=generator)  # type: ignore[attr-defined]
