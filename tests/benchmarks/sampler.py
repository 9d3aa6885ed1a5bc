r"""The exact samplers against the densities, and their gradients against expectations.

    python tests/benchmarks/sampler.py [--quick] [--output FILE.json]

**Laws.** For every manifold, time and dtype, samples from a random start. The distance from the
start is held by Kolmogorov and Smirnov's test against the distribution function integrated from
``heat.log_kernel`` in geodesic polar coordinates, up to the cut locus; on products, and for the
angles of a torus, on every factor. Directions on isotropic spaces: with u the unit vector from the
start, in d dimensions,

    n d |ū|² ∼ χ²_d (Rayleigh),   n d (d + 2)/2 · |mean(u uᵀ) − I/d|² ∼ χ²_{(d−1)(d+2)/2} (Bingham),

and once more with the length, n d |mean(r u)|² / mean(r²) ∼ χ²_d. For every manifold, means of
eigenfunctions f of −½Δ with eigenvalue λ: E f(z) = e^{−λt} f(start), as z-scores.

**Gradients.** Of E f(z) by time and by start, along an orthonormal frame, from ``rsample``: f a
random sum of eigenfunctions; and on spheres and projective spaces f(z) = e^{⟨a,z⟩}, or
e^{⟨a,z⟩²}, which is none, against quadrature.

The distribution functions come from the density alone, not from the sampler's table. With N
p-values, N/1000 are expected below 0.001: the run passes if none is below 0.001/N, and the same
for z-scores (Bonferroni).

References:
    K. V. Mardia, P. E. Jupp, *Directional Statistics*, Wiley, 2000, §10.4 and §10.7.
"""

import argparse
import math
import sys
import time as clock
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from scipy import special
from scipy.interpolate import CubicSpline
from scipy.stats import kstwo
from torch import Tensor

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel
from manifold_ae.groups import finite, rotations
from manifold_ae.manifolds import (
    SO3,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    Quotient,
    RealProjective,
    Sphere,
)

TIMES = (1e-4, 1e-2, 0.1, 1.0, 10.0)
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LEVEL = 1e-3
#: Samples at a time: larger chunks leave the cache.
CHUNK = 20_000
#: What a derivative may err by beyond its standard error. In float64 the radius table's slope along
#: time, which errs by 3e-8 at t = 10 on S³, of 6e-7; more would be seen through the standard error.
ALLOWANCE = {torch.float32: 1e-6, torch.float64: 1e-7}

Law = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Statistic:
    """A number of a sample whose distribution function is known."""

    name: str
    values: Callable[[Tensor, Tensor], Tensor]
    law: Callable[[Tensor, Tensor], Law]


@dataclass(frozen=True)
class Case:
    """What is tested on a manifold.

    ``features`` are eigenfunctions, of shape ``(*, k)``; ``rates`` their λ, ``(k, times)``: one
    column for every entry of the time. ``factors`` are isotropic, and ``split`` gives their points.
    """

    manifold: Manifold
    features: Callable[[Tensor], Tensor]
    rates: Tensor
    factors: tuple[Manifold, ...] = ()
    split: Callable[[Tensor], tuple[Tensor, ...]] = lambda x: (x,)
    statistics: tuple[Statistic, ...] = ()

    def times(self, t: float) -> Tensor:
        """t, 2t, …: every entry of the time another, lest exchanged times go unseen."""
        if not self.manifold.time_shape:
            return torch.tensor(t, dtype=torch.float64)
        return t * torch.arange(1.0, 1 + self.manifold.time_shape[0], dtype=torch.float64)

    def factor_times(self, t: Tensor) -> tuple[Tensor, ...]:
        return t.unbind(-1) if self.manifold.time_shape else (t,) * len(self.factors)

    def decay(self, t: Tensor) -> Tensor:
        """e^{−λt} of shape ``(k,)``."""
        return torch.exp(-(self.rates.to(t) * t.reshape(-1)).sum(-1))


# ---- distribution functions, from the density ------------------------------------------------


def frame(manifold: Manifold, x: Tensor) -> Tensor:
    """An orthonormal basis of the tangent space at x, of shape ``(dim, *ambient_shape)``."""
    if isinstance(manifold, SO3) or getattr(manifold, "cover", None) == SO3():
        return SO3().along(x, torch.eye(3).to(x))  # the body's frame, in which a group acts
    size = x.numel()
    basis = torch.eye(size, dtype=x.dtype).reshape(size, *x.shape)
    tangent = manifold.proju(x.expand_as(basis), basis).reshape(size, size)
    u = torch.linalg.svd(tangent).Vh[: manifold.dim].reshape(-1, *x.shape)
    length = manifold.inner(x, u).sqrt()
    return u / length.reshape(-1, *[1] * x.dim())


def polar_factor(manifold: Manifold, s: Tensor) -> Tensor:
    """Riemannian volume over ds dω at distance s from a point: the spaces here are homogeneous."""
    while isinstance(manifold, Quotient):
        manifold = manifold.cover
    if isinstance(manifold, Sphere):
        return torch.sin(s) ** (manifold.dim - 1)
    if isinstance(manifold, SO3):
        return 4 * torch.sin(s / 2) ** 2
    return s ** (manifold.dim - 1)  # flat


def cut_distance(manifold: Manifold, x: Tensor, u: Tensor) -> Tensor:
    """How far the geodesics from x along unit vectors u, ``(k, *ambient_shape)``, are shortest."""
    low = torch.zeros(len(u), dtype=x.dtype)
    high = torch.full_like(low, 1.001 * math.pi * math.sqrt(manifold.dim))
    for _ in range(40):
        s = (low + high) / 2
        y = manifold.expmap(x.expand_as(u), s.reshape(-1, *[1] * x.dim()) * u)
        shortest = manifold.dist(x.expand_as(u), y) >= s - 1e-9
        low, high = torch.where(shortest, s, low), torch.where(shortest, high, s)
    return low


def one_direction(dim: int) -> tuple[Tensor, Tensor]:
    """Where all directions are alike, one, with the area of the unit sphere as its weight."""
    area = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)
    return torch.eye(dim, dtype=torch.float64)[:1], torch.tensor([area], dtype=torch.float64)


def circle_of_directions() -> tuple[Tensor, Tensor]:
    n = 1500
    angle = 2 * math.pi / n * (torch.arange(n, dtype=torch.float64) + 0.5)
    return torch.stack([angle.cos(), angle.sin()], -1), torch.full_like(angle, 2 * math.pi / n)


def octahedral_directions(n: int = 4181, before: int = 2584) -> tuple[Tensor, Tensor]:
    """Of (a, b, 1) with 0 ≤ a ≤ b ≤ 1, one of 48 congruent parts of the sphere.

    A Fibonacci lattice, folded by the baker's map, which no curve of equal cut distance follows:
    across those the mass up to a distance has a kink.
    """
    k = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    u, v = (1 - (2 * (w % 1) - 1).abs() for w in (k, before * k))
    b = u.sqrt()
    plane = torch.stack([v * b, b, torch.ones_like(b)], -1)
    square = plane.square().sum(-1)
    return plane / square.sqrt().unsqueeze(-1), 48 / (2 * n) / square**1.5


def radial_law(
    manifold: Manifold,
    directions: tuple[Tensor, Tensor],
    x: Tensor,
    t: Tensor,
    panels: int = 120,
    order: int = 2,
    log_density: Callable[[Tensor], Tensor] | None = None,
) -> Law:
    """Distribution function of the distance from x, integrated from ``heat.log_kernel``.

    ``log_density`` gives the same numbers at points y, where there is a cheaper way to them.
    """
    if log_density is None:

        def log_density(y: Tensor) -> Tensor:
            return heat.log_kernel(manifold, x, y, t)

    coordinates, weights = directions
    u = torch.einsum("kd,d...->k...", coordinates, frame(manifold, x))
    cut = cut_distance(manifold, x, u)
    reach = min(cut.max().item(), (9 + math.sqrt(manifold.dim)) * t.sqrt().item())
    edges = torch.linspace(0, reach, panels + 1, dtype=x.dtype)
    # Panels of every direction end at its cut locus.
    start, stop = (torch.minimum(e, cut[:, None]) for e in (edges[:-1], edges[1:]))  # (k, panels)
    nodes, node_weights = (torch.from_numpy(v) for v in leggauss(order))
    half = (stop - start).unsqueeze(-1) / 2
    s = start.unsqueeze(-1) + half * (nodes + 1)  # (k, panels, order)

    y = manifold.expmap(x, s.reshape(*s.shape, *[1] * x.dim()) * u[:, None, None])
    density = torch.exp(log_density(y)) * polar_factor(manifold, s)
    masses = torch.einsum("k,kpo,o->p", weights, density * half, node_weights).numpy()
    below = np.concatenate([[0.0], masses.cumsum()])
    if abs(below[-1] - 1) > 5e-5:  # a twentieth of what a million samples can see
        raise RuntimeError(
            f"the density of {manifold!r} at time {t.item():.3g} integrates to {below[-1]:.6f}, "
            "not to one: more directions or panels are needed"
        )
    spline = CubicSpline(edges.numpy(), below)
    return lambda r: np.clip(spline(np.clip(r, 0, reach)), 0, 1)


def circle_law(t: Tensor) -> Law:
    """That of a signed angle, as a function on the line: it grows by one every turn."""
    x = FlatTorus(1).base_point(dtype=torch.float64)
    radial = radial_law(FlatTorus(1), one_direction(1), x, t, 400, 6)

    def law(angle: np.ndarray) -> np.ndarray:
        turns = np.round(angle / (2 * np.pi))
        rest = angle - 2 * np.pi * turns
        return turns + 0.5 + np.sign(rest) * radial(np.abs(rest)) / 2

    return law


def distance(manifold: Manifold, directions: tuple[Tensor, Tensor]) -> Statistic:
    return Statistic("distance", manifold.dist, lambda x, t: radial_law(manifold, directions, x, t))


# ---- the manifolds ---------------------------------------------------------------------------


def rates(*values: float | tuple[float, ...]) -> Tensor:
    return torch.tensor([v if isinstance(v, tuple) else (v,) for v in values], dtype=torch.float64)


def sphere(d: int) -> Case:
    return Case(Sphere(d), lambda z: z, rates(*[d / 2] * (d + 1)), (Sphere(d),))


def projective(d: int) -> Case:
    """The entries of z zᵀ − I/(d + 1), of degree two."""
    manifold = RealProjective(d)
    rows, columns = torch.triu_indices(d + 1, d + 1)
    mean = (rows == columns) / (d + 1)
    k = len(rows)
    return Case(manifold, lambda z: manifold.embed(z) - mean, rates(*[d + 1] * k), (manifold,))


def torus() -> Case:
    """Re and Im of e^{ik·θ}."""
    frequencies = torch.tensor([(1, 0), (0, 1), (1, 1), (1, -1), (2, 1), (1, 2), (2, -2)])

    def features(z: Tensor) -> Tensor:
        phase = (FlatTorus(2).to_angles(z).unsqueeze(-2) * frequencies).sum(-1)
        return torch.cat([phase.cos(), phase.sin()], -1)

    return Case(
        FlatTorus(2),
        features,
        rates(*(frequencies.square().sum(-1) / 2).repeat(2).tolist()),
        (FlatTorus(1), FlatTorus(1)),
        lambda x: x.split(2, -1),
        (distance(FlatTorus(2), circle_of_directions()),),
    )


def rotation_group() -> Case:
    return Case(SO3(), lambda z: z.flatten(-2), rates(*[1.0] * 9), (SO3(),))


def characters(cosine: Tensor, degrees: tuple[int, ...]) -> list[Tensor]:
    """χ_l = sin((l + ½)θ) / sin(θ/2), of cos θ."""
    before, here, found = -torch.ones_like(cosine), torch.ones_like(cosine), []
    for degree in range(1, max(degrees) + 1):
        before, here = here, 2 * cosine * here - before
        if degree in degrees:
            found.append(here)
    return found


def cubes() -> Case:
    """χ_l(yᵀ z g), averaged over the group, for random y: zero but for l = 4, 6, 8, ..."""
    group = torch.from_numpy(finite.octahedral())
    manifold = Quotient(SO3(), finite.octahedral(), name="so3/octahedral")
    generator = torch.Generator().manual_seed(5)
    y = SO3().random_uniform(2, generator=generator, dtype=torch.float64)
    images = rotations.compose(y[:, None], group.mT).flatten(-2)  # tr(yᵀ z g) = ⟨y gᵀ, z⟩
    degrees = (4, 6, 8)
    quaternions = rotations.to_quaternion(group)

    def features(z: Tensor) -> Tensor:
        trace = z.flatten(-2) @ images.to(z).flatten(0, 1).T
        values = characters((trace - 1) / 2, degrees)
        means = [value.unflatten(-1, images.shape[:2]).mean(-1) for value in values]
        return torch.cat(means, -1)

    def nearest(x: Tensor, z: Tensor) -> Tensor:
        """``manifold.dist``, without the images as matrices: a fiftieth of its cost."""
        q = rotations.to_quaternion(rotations.compose(x.mT.expand_as(z), z))
        w = (q @ quaternions.T).abs().amax(-1)
        return 2 * torch.atan2((1 - w * w).clamp_min(0).sqrt(), w)

    def law(x: Tensor, t: Tensor) -> Law:
        """With Σ_g q(t; x, y g) from q on SO(3), a function of the angle, held as a spline."""
        angle = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
        one = SO3().base_point(dtype=torch.float64)
        turned = rotations.exp(angle[:, None] * torch.eye(3).to(angle)[0])
        spline = CubicSpline(angle.numpy(), heat.log_kernel(SO3(), one, turned, t).numpy())

        def log_density(z: Tensor) -> Tensor:
            q = rotations.to_quaternion(rotations.compose(x.mT.expand_as(z), z))
            w = (q @ quaternions.T).abs()
            angles = 2 * torch.atan2((1 - w * w).clamp_min(0).sqrt(), w)
            return torch.logsumexp(torch.from_numpy(spline(angles.numpy())), -1)

        near = SO3().expmap(x, 0.3 * frame(SO3(), x))
        exact = heat.log_kernel(manifold, x, near, t)
        torch.testing.assert_close(log_density(near), exact, rtol=1e-6, atol=1e-6)
        return radial_law(manifold, octahedral_directions(), x, t, 60, 2, log_density)

    check = manifold.random_uniform(200, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(nearest(y[0], check), manifold.dist(y[0], check))
    return Case(
        manifold,
        features,
        rates(*(l * (l + 1) / 2 for l in degrees for _ in y)),  # noqa: E741  (its name)
        statistics=(Statistic("distance", nearest, law),),
    )


def klein() -> Case:
    """Functions of (θ, φ) that θ + π, −φ leaves; 2θ moves on a circle at four times the time."""
    manifold = KleinBottle()

    def features(z: Tensor) -> Tensor:
        a, b, c, s = z.unbind(-1)
        cos2, sin2 = a * a - b * b, 2 * a * b
        more = [2 * c * c - 1, 2 * c * s * a, 2 * c * s * b, cos2 * c, sin2 * c]
        return torch.cat([manifold.embed(z), torch.stack(more, -1)], -1)

    def double_angle(x: Tensor, z: Tensor) -> Tensor:
        turn = 2 * FlatTorus(1).signed_angles(x[..., :2], z[..., :2]).squeeze(-1)
        return torch.atan2(turn.sin(), turn.cos())

    def folded_angle(x: Tensor, z: Tensor) -> Tensor:
        return torch.atan2(z[..., 3], z[..., 2]).abs()

    def folded_law(x: Tensor, t: Tensor) -> Law:
        phi, law = math.atan2(x[3], x[2]), circle_law(t)
        return lambda r: law(r - phi) - law(-r - phi)

    return Case(
        manifold,
        features,
        rates(2, 2, 0.5, 1, 1, 2, 2.5, 2.5, 2.5, 2.5),
        statistics=(
            distance(manifold, circle_of_directions()),
            Statistic("double angle", double_angle, lambda x, t: circle_law(4 * t)),
            Statistic("folded angle", folded_angle, folded_law),
        ),
    )


def product() -> Case:
    manifold = Product(Sphere(2), FlatTorus(1))

    def features(z: Tensor) -> Tensor:
        a, b = manifold.split(z)
        return torch.cat([z, (a.unsqueeze(-1) * b.unsqueeze(-2)).flatten(-2)], -1)

    return Case(
        manifold,
        features,
        rates(*[(1.0, 0.0)] * 3, *[(0.0, 0.5)] * 2, *[(1.0, 0.5)] * 6),
        manifold.factors,
        manifold.split,
    )


CASES: tuple[Callable[[], Case], ...] = (
    lambda: sphere(2),
    lambda: sphere(3),
    lambda: sphere(7),
    torus,
    rotation_group,
    lambda: projective(2),
    lambda: projective(3),
    klein,
    cubes,
    product,
)


# ---- tests of the laws -----------------------------------------------------------------------


def kolmogorov_smirnov(values: np.ndarray, law: Law) -> tuple[float, float]:
    """The largest gap between the distribution functions, and its p-value."""
    n = len(values)
    expected = law(np.sort(values))
    steps = np.arange(n + 1) / n
    gap = max((expected - steps[:-1]).max(), (steps[1:] - expected).max())
    return float(gap), float(kstwo.sf(gap, n))


class Moments:
    """Sums over samples: of features, and of directions and lengths of the isotropic factors."""

    def __init__(self, case: Case, x: Tensor) -> None:
        self.case, self.n = case, 0
        self.expected = case.features(x)
        self.sum = self.square = torch.zeros_like(self.expected)
        parts = zip(case.factors, case.split(x), strict=True) if case.factors else ()
        self.factors = [(M, part, frame(M, part)) for M, part in parts]
        self.directions = [
            [torch.zeros(M.dim).double(), torch.zeros(M.dim, M.dim).double(),
             torch.zeros(M.dim).double(), torch.zeros(()).double()]
            for M in case.factors
        ]  # fmt: skip

    def add(self, z: Tensor) -> None:
        # Less the start's value: at short times their difference is small.
        f = self.case.features(z) - self.expected
        self.n += len(f)
        self.sum, self.square = self.sum + f.sum(0), self.square + f.square().sum(0)
        parts = self.case.split(z) if self.factors else ()
        for (M, x, basis), part, sums in zip(self.factors, parts, self.directions, strict=True):
            log = M.logmap(x.expand_as(part), part)
            coordinates = torch.stack([M.inner(x, log, e) for e in basis], -1)  # (n, dim)
            # In float32 a sample may be the start itself: it has no direction, and counts as 0.
            length = torch.linalg.vector_norm(coordinates, dim=-1, keepdim=True)
            u = coordinates / torch.where(length > 0, length, 1.0)
            sums[0] += u.sum(0)
            sums[1] += u.T @ u
            sums[2] += coordinates.sum(0)
            sums[3] += coordinates.square().sum()

    def feature_p_values(self, t: Tensor) -> list[float]:
        """Two-sided, of the z-scores of the means; their errors from the samples."""
        mean = self.sum / self.n
        error = ((self.square / self.n - mean**2) / self.n).clamp_min(0).sqrt()
        off = mean - (self.case.decay(t) - 1) * self.expected
        return special.erfc((off / error).abs().numpy() / math.sqrt(2)).tolist()

    def direction_p_values(self) -> dict[str, float]:
        found = {}
        for k, ((M, *_), sums) in enumerate(zip(self.factors, self.directions, strict=True)):
            d, n, suffix = M.dim, self.n, f" {k + 1}" if len(self.factors) > 1 else ""
            statistics = {"direction": (n * d * (sums[0] / n).square().sum(), d)}
            if d > 1:
                deviation = sums[1] / n - torch.eye(d) / d
                bingham = n * d * (d + 2) / 2 * deviation.square().sum()
                statistics["second moments"] = (bingham, (d - 1) * (d + 2) // 2)
            statistics["mean vector"] = (d * sums[2].square().sum() / sums[3], d)
            for name, (value, freedom) in statistics.items():
                found[name + suffix] = float(special.chdtrc(freedom, value.item()))
        return found


def laws_of(case: Case, x: Tensor, t: Tensor) -> dict[str, Law]:
    laws = {s.name: s.law(x, t) for s in case.statistics}
    parts = (
        zip(case.factors, case.split(x), case.factor_times(t), strict=True) if case.factors else ()
    )
    for k, (M, part, time) in enumerate(parts):
        suffix = f" {k + 1}" if len(case.factors) > 1 else ""
        laws[f"radius{suffix}"] = radial_law(M, one_direction(M.dim), part, time, 400, 6)
    return laws


def tests_of(
    case: Case,
    x: Tensor,
    t: Tensor,
    dtype: torch.dtype,
    n: int,
    laws: dict[str, Law],
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """p-values of all the tests of n samples, drawn on the device and judged on the CPU."""
    generator = torch.Generator(device).manual_seed(seed)
    start = x.to(dtype)
    q = HeatKernel(case.manifold, start.to(device), t.to(device, dtype))
    # What the samples really start from; statistics are taken in float64.
    start = start.double()
    moments, columns = Moments(case, start), {name: [] for name in laws}
    parts = case.split(start)
    for done in range(0, n, CHUNK):
        z = q.sample((min(n - done, CHUNK),), generator=generator).double().cpu()
        moments.add(z)
        for s in case.statistics:
            columns[s.name].append(s.values(start, z).numpy())
        names = [name for name in laws if name.startswith("radius")]
        for name, M, a, b in zip(names, case.factors, parts, case.split(z), strict=False):
            columns[name].append(M.dist(a.expand_as(b), b).numpy())
    gaps, p_values = {}, {}
    for name, law in laws.items():
        gaps[name], p_values[name] = kolmogorov_smirnov(np.concatenate(columns[name]), law)
    p_values |= moments.direction_p_values()
    for k, p in enumerate(moments.feature_p_values(t)):
        p_values[f"mean of eigenfunction {k + 1}"] = p
    return {"largest_gap": max(gaps.values()), "p_values": p_values}


# ---- gradients -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expectation:
    """f of shape ``(n,)`` at points, and E f(z) as a function of the start and of the time."""

    name: str
    function: Callable[[Tensor], Tensor]
    value: Callable[[Tensor, Tensor], Tensor]


def of_eigenfunctions(case: Case, generator: torch.Generator) -> Expectation:
    a = torch.randn(len(case.rates), generator=generator, dtype=torch.float64)
    return Expectation(
        "eigenfunctions",
        lambda z: (case.features(z) * a.to(z)).sum(-1),
        lambda x, t: (case.features(x) * a * case.decay(t)).sum(-1),
    )


def of_exponential(manifold: Manifold, power: int, generator: torch.Generator) -> Expectation:
    """f(z) = e^{⟨a,z⟩^power}: over the sphere at distance r from the start, ⟨a, z⟩ is

    ⟨a, x⟩ cos r + |a − ⟨a, x⟩ x| sin r · y,   y of density ∝ (1 − y²)^{(d−3)/2}.
    """
    d = manifold.dim
    furthest = math.pi / 2 if isinstance(manifold, RealProjective) else math.pi
    a = torch.randn(d + 1, generator=generator, dtype=torch.float64)
    y, y_weights = (torch.from_numpy(v) for v in special.roots_gegenbauer(40, (d - 2) / 2))
    nodes, node_weights = (torch.from_numpy(v) for v in leggauss(400))
    area = one_direction(d)[1]

    def value(x: Tensor, t: Tensor) -> Tensor:
        reach = min(furthest, (9 + math.sqrt(d)) * math.sqrt(t.item()))
        r = reach * (nodes + 1) / 2
        base = manifold.base_point(dtype=torch.float64)
        there = torch.zeros(len(r), d + 1, dtype=torch.float64)
        there[:, 0], there[:, 1] = r.cos(), r.sin()
        density = torch.exp(heat.log_kernel(manifold, base, there, t)) * r.sin() ** (d - 1)
        along = (a * x).sum()
        across = torch.linalg.vector_norm(a - along * x)
        product = along * r.cos()[:, None] + across * r.sin()[:, None] * y
        mean = (torch.exp(product**power) * y_weights).sum(-1) / y_weights.sum()
        return area.squeeze() * reach / 2 * (density * mean * node_weights).sum()

    return Expectation(
        f"exponential{'' if power == 1 else ' of square'}",
        lambda z: torch.exp((z * a.to(z)).sum(-1) ** power),
        value,
    )


def expectations(case: Case, generator: torch.Generator) -> list[Expectation]:
    found = [of_eigenfunctions(case, generator)]
    if isinstance(case.manifold, Sphere):
        found.append(of_exponential(case.manifold, 1, generator))
    if isinstance(case.manifold, Sphere | RealProjective):
        found.append(of_exponential(case.manifold, 2, generator))
    return found


def gradient_z_scores(
    case: Case,
    f: Expectation,
    x: Tensor,
    t: Tensor,
    dtype: torch.dtype,
    n: int,
    seed: int,
    device: torch.device,
) -> list[float]:
    """Of the derivatives by every entry of the time, and along a frame at the start."""
    leaf, time = x.clone().requires_grad_(), t.clone().requires_grad_()
    by_x, by_t = torch.autograd.grad(f.value(leaf, time), (leaf, time))
    basis = frame(case.manifold, x).flatten(1)
    expected = torch.cat([by_t.reshape(-1), basis @ by_x.flatten()])
    generator = torch.Generator(device).manual_seed(seed)
    total = square = torch.zeros_like(expected)
    for done in range(0, n, CHUNK):
        size = min(n - done, CHUNK)
        start = x.to(device, dtype).expand(size, *x.shape).clone().requires_grad_()
        times = t.to(device, dtype).expand(size, *t.shape).clone().requires_grad_()
        z = HeatKernel(case.manifold, start, times).rsample(generator=generator)
        by_start, by_time = (
            slope.double().cpu()
            for slope in torch.autograd.grad(f.function(z).sum(), (start, times))
        )
        along = by_start.flatten(1) @ basis.T
        values = torch.cat([by_time.reshape(size, -1), along], -1)
        total, square = total + values.sum(0), square + values.square().sum(0)
    mean = total / n
    error = ((square / n - mean**2) / n).clamp_min(0).sqrt()
    return ((mean - expected) / torch.hypot(error, error.new_tensor(ALLOWANCE[dtype]))).tolist()


# ---- the run ---------------------------------------------------------------------------------


def p_summary(p_values: list[float]) -> dict[str, float | int]:
    return {
        "tests": len(p_values),
        "below_0.001": sum(p < LEVEL for p in p_values),
        "smallest_p": min(p_values),
    }


def z_summary(z_scores: list[float]) -> dict[str, float | int]:
    return {
        "derivatives": len(z_scores),
        "beyond_3": sum(abs(z) > 3 for z in z_scores),
        "largest_z": max(map(abs, z_scores)),
        "mean_square_z": sum(z * z for z in z_scores) / len(z_scores),
    }


def measure(
    times: tuple[float, ...], samples: int, gradient_samples: int, seed: int, device: torch.device
) -> dict[str, Any]:
    laws: list[dict[str, Any]] = []
    gradients: list[dict[str, Any]] = []
    for make in CASES:
        case = make()
        name = case.manifold.spec
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
        x = case.manifold.random_uniform(generator=generator, dtype=torch.float64)
        begin = clock.perf_counter()
        for time in times:
            t = case.times(time)
            known = laws_of(case, x, t)
            for kind, dtype in DTYPES.items():
                key = {"manifold": name, "time": time, "dtype": kind}
                own = zlib.crc32(f"{seed} {name} {time} {kind}".encode())
                laws.append(key | tests_of(case, x, t, dtype, samples, known, own, device))
                chance = torch.Generator().manual_seed(own)
                for f in expectations(case, chance):
                    own += 1
                    z = gradient_z_scores(case, f, x, t, dtype, gradient_samples, own, device)
                    gradients.append(key | {"function": f.name, "z_scores": z})
        print(f"{name}: {clock.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    return summary(laws, gradients)


def summary(laws: list[dict[str, Any]], gradients: list[dict[str, Any]]) -> dict[str, Any]:
    def p_of(rows: list[dict[str, Any]], kind: str = "") -> list[float]:
        return [p for row in rows for key, p in row["p_values"].items() if key.startswith(kind)]

    def z_of(rows: list[dict[str, Any]]) -> list[float]:
        return [z for row in rows for z in row["z_scores"]]

    def chosen(rows: list[dict[str, Any]], **values: str) -> list[dict[str, Any]]:
        return [row for row in rows if all(row[k] == v for k, v in values.items())]

    all_p, all_z = p_of(laws), z_of(gradients)
    if not np.isfinite(all_p).all() or not np.isfinite(all_z).all():
        raise RuntimeError("a p-value or a z-score is not finite: the test itself has failed")
    p_level, z_level = LEVEL / len(all_p), LEVEL / len(all_z)
    largest = math.sqrt(2) * special.erfcinv(z_level)
    manifolds = list(dict.fromkeys(row["manifold"] for row in laws))
    kinds = ("radius", "distance", "double angle", "folded angle", "direction", "second moments",
             "mean vector", "mean of eigenfunction")  # fmt: skip
    functions = list(dict.fromkeys(row["function"] for row in gradients))
    return {
        "summary": {
            "laws": p_summary(all_p) | {"Bonferroni_level": p_level, "single": laws},
            "gradients": z_summary(all_z) | {"Bonferroni_level": largest, "single": gradients},
        },
        "laws_by_manifold": {
            name: {
                kind: p_summary(p_of(chosen(laws, manifold=name, dtype=kind))) for kind in DTYPES
            }
            for name in manifolds
        },
        "laws_by_statistic": {
            kind: p_summary(found) for kind in kinds if (found := p_of(laws, kind))
        },
        "gradients_by_manifold": {
            name: {
                kind: z_summary(z_of(chosen(gradients, manifold=name, dtype=kind)))
                for kind in DTYPES
            }
            for name in manifolds
        },
        "gradients_by_function": {
            name: z_summary(z_of(chosen(gradients, function=name))) for name in functions
        },
        "passed": bool(min(all_p) >= p_level and max(map(abs, all_z)) <= largest),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--gradient-samples", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="20,000 samples at two times")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    samples, gradient_samples, times = arguments.samples, arguments.gradient_samples, TIMES
    if arguments.quick:
        samples, gradient_samples, times = 20_000, 20_000, (1e-2, 1.0)
    begin = clock.process_time()
    result = measure(
        times, samples, gradient_samples, arguments.seed, torch.device(arguments.device)
    )
    common.write(
        arguments.output,
        {
            "command": "python tests/benchmarks/sampler.py" + " --quick" * arguments.quick,
            "machine": common.machine(arguments.device),
            "samples": samples,
            "gradient samples": gradient_samples,
            "times": list(times),
            "CPU seconds": clock.process_time() - begin,
        }
        | result,
    )
    if not result["passed"]:
        sys.exit("a law or a gradient is off by more than chance: see the smallest p-values")


if __name__ == "__main__":
    main()
