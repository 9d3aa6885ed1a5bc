r"""The degree of a map f : M → N of closed manifolds of one dimension, by two routes.

    deg f = Σ_{f(x) = y} sign det Df(x)    for every regular value y,
    deg f = 1/Vol(N) ∫_M det Df dVol       (the degree formula),

with Df in oriented frames. A homeomorphism has degree ±1; a map that misses a point has degree 0.
The first asks for all preimages, the second for none: they fail in different ways, as do several
values y. On manifolds without an orientation the number of preimages modulo two is left.

Source: J. Milnor, *Topology from the Differentiable Viewpoint*, 1965, §§ 4 and 5.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.manifolds.frames import oriented_frame

__all__ = ["Degree", "degree", "degree_integral", "differential", "signed_preimages"]

#: Steps of Newton's method in search of a preimage, each of at most this length.
NEWTON_STEPS = 20
LONGEST_STEP = 0.3
#: Of the starts, the part that is followed for each value: those with the nearest images.
FOLLOWED = 1 / 8
#: Preimages nearer than this are one, by the size Vol^{1/d} of the manifold.
APART = 3e-3
#: A value is not regular enough where |det Df| is below this.
SMALLEST_DETERMINANT = 1e-2
#: The integral says something if its standard error is below this.
LARGEST_ERROR = 0.15

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Degree:
    """What two routes say of a degree.

    Attributes:
        value: the degree, or None where the routes or the values do not agree.
        modulus: 0, or 2 where only the parity is defined.
        counts: the signed number of preimages of each value; modulo two without an orientation.
        preimages: their number of each value.
        integral: ∫ det Df / Vol, by uniform points; None without an orientation.
        standard_error: of the integral.
        reversed: the part of these points where det Df has not the sign that it has at most.
        reason: why there is no value; empty otherwise.
    """

    value: int | None
    modulus: int
    counts: tuple[int, ...]
    preimages: tuple[int, ...]
    integral: float | None
    standard_error: float | None
    reversed: float | None
    reason: str = ""


def differential(f: Map, source: Manifold, target: Manifold, x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x), and Df(x) in oriented orthonormal frames by central differences.

    Arguments:
        x: points ``(n, *source.ambient_shape)``.

    Returns:
        Values ``(n, *target.ambient_shape)`` and matrices ``(n, target.dim, source.dim)``.
    """
    n, d = len(x), source.dim
    h = torch.finfo(x.dtype).eps ** (1 / 3)
    frame = oriented_frame(source, x).transpose(0, 1)
    ends = source.projx(torch.cat([x + h * frame, x - h * frame]))
    values = f(torch.cat([x, ends.flatten(0, 1)]))
    y, moved = values[:n], values[n:].unflatten(0, (2, d, n))
    base = y.expand_as(moved)
    moved = target.nearest(base, moved)
    slope = target.proju(base[0], (moved[0] - moved[1]) / (2 * h))
    rows = oriented_frame(target, y).transpose(0, 1)
    entries = target.inner(
        y.expand(len(rows), d, *y.shape),
        slope.expand(len(rows), *slope.shape),
        rows.unsqueeze(1).expand(len(rows), d, *y.shape),
    )
    return y, entries.permute(2, 0, 1)


@torch.no_grad()
def degree(
    f: Map,
    source: Manifold,
    target: Manifold,
    *,
    values: int = 3,
    starts: int = 1024,
    points: int = 1024,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> Degree:
    """The degree of f by signed preimages and by the degree formula, which have to agree.

    Arguments:
        f: from points ``(n, *source.ambient_shape)`` to points ``(n, *target.ambient_shape)``.
        values: regular values y whose preimages are counted.
        starts: points from which preimages are searched for.
        points: of the integral, drawn uniformly.
        dtype: of the points that f is given.

    Raises:
        ValueError: if the manifolds are not compact, or differ in dimension.
        NotImplementedError: if no frame is known on one of them.
    """
    _check(source, target)
    oriented = source.orientable is True and target.orientable is True
    counts, preimages = [], []
    for y in regular_values(f, source, target, values, starts, generator, dtype):
        signs = y[1]
        preimages.append(len(signs))
        counts.append(int(signs.sum()) if oriented else len(signs) % 2)
    integral = error = against = None
    if oriented:
        densities = _densities(f, source, target, points, generator, dtype)
        integral, error = _mean(densities)
        positive = (densities > 0).double().mean().item()
        against = min(positive, 1 - positive)
    reason = _disagreement(counts, values, integral, error)
    return Degree(
        None if reason else counts[0],
        0 if oriented else 2,
        tuple(counts),
        tuple(preimages),
        integral,
        error,
        against,
        reason,
    )


def _disagreement(
    counts: list[int], values: int, integral: float | None, error: float | None
) -> str:
    if len(counts) < values:
        return f"only {len(counts)} of {values} values were regular"
    if len(set(counts)) > 1:
        return f"the preimages of {values} values give {', '.join(map(str, counts))}"
    if integral is None or error is None:
        return ""
    if not error < LARGEST_ERROR:
        return f"the integral of the Jacobian has a standard error of {error:.2g}"
    if abs(integral - counts[0]) > max(3 * error, 0.1):
        return (
            f"preimages give {counts[0]}, the integral of the Jacobian {integral:.3g} ± {error:.2g}"
        )
    return ""


def _check(source: Manifold, target: Manifold) -> None:
    if source.dim != target.dim:
        raise ValueError(
            f"source = {source!r} has dimension {source.dim}, target = {target!r} {target.dim}: a "
            "degree is that of a map between manifolds of one dimension"
        )
    for name, M in (("source", source), ("target", target)):
        if not M.compact:
            raise ValueError(
                f"{name} = {M!r} is not compact: only maps of closed manifolds have a degree"
            )


@torch.no_grad()
def degree_integral(
    f: Map,
    source: Manifold,
    target: Manifold,
    *,
    points: int = 1024,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[float, float]:
    """∫ det Df / Vol(N) and its standard error, by uniform points.

    Raises:
        ValueError: if one of the manifolds is not known to be orientable, or ``degree`` refuses it.
    """
    _check(source, target)
    for name, M in (("source", source), ("target", target)):
        if M.orientable is not True:
            raise ValueError(
                f"{name} = {M!r} is not known to be orientable: determinants have no "
                "sign there, and the degree is defined modulo two; use degree"
            )
    return _mean(_densities(f, source, target, points, generator, dtype))


def _densities(
    f: Map,
    source: Manifold,
    target: Manifold,
    points: int,
    generator: torch.Generator | None,
    dtype: torch.dtype,
) -> Tensor:
    """det Df · Vol(M)/Vol(N) at uniform points, of shape ``(points,)``."""
    x = source.random_uniform(points, generator=generator, dtype=dtype)
    _, slopes = differential(f, source, target, x)
    return torch.linalg.det(slopes.double()) * (source.volume / target.volume)


def _mean(values: Tensor) -> tuple[float, float]:
    """The mean and its standard error."""
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


def regular_values(
    f: Map,
    source: Manifold,
    target: Manifold,
    values: int,
    starts: int,
    generator: torch.Generator | None,
    dtype: torch.dtype,
) -> list[tuple[Tensor, Tensor]]:
    """Up to ``values`` regular values of 3 times as many tried: preimages, and signs of det Df."""
    x = source.random_uniform(starts, generator=generator, dtype=dtype)
    images = f(x)
    found = []
    for _ in range(3 * values):
        y = target.random_uniform(generator=generator, dtype=dtype).to(images)
        preimages, determinants = signed_preimages(f, source, target, y, x, images)
        if not len(determinants) or determinants.abs().min() > SMALLEST_DETERMINANT:
            found.append((preimages, determinants.sign()))
        if len(found) == values:
            break
    return found


@torch.no_grad()
def signed_preimages(
    f: Map, source: Manifold, target: Manifold, y: Tensor, x: Tensor, images: Tensor
) -> tuple[Tensor, Tensor]:
    """The points where f is y, by Newton's method from the points x with the nearest images.

    Arguments:
        y: a point of the target.
        x: points ``(n, *source.ambient_shape)`` to start from, and their images.

    Returns:
        Preimages ``(m, *source.ambient_shape)`` and det Df there ``(m)``.
    """
    x = x[_gap(target, images, y).argsort()[: math.ceil(FOLLOWED * len(x))]]
    tolerance = 10 * torch.finfo(x.dtype).eps ** 0.5
    left, found, determinants = x, [], []
    axes = (-1, *[1] * len(source.ambient_shape))
    for _ in range(NEWTON_STEPS):
        value, slopes = differential(f, source, target, left)
        done = _gap(target, value, y) <= tolerance
        toward = target.proju(value, target.nearest(value, y.expand_as(value)) - value)
        rows = oriented_frame(target, value).transpose(0, 1)
        wanted = torch.stack([target.inner(value, toward, row) for row in rows], -1)
        # By the pseudoinverse: where f is constant it stays.
        step = (torch.linalg.pinv(slopes) @ wanted.unsqueeze(-1)).squeeze(-1)
        length = torch.linalg.vector_norm(step, dim=-1, keepdim=True)
        step = step * (LONGEST_STEP / length.clamp_min(LONGEST_STEP))
        frame = oriented_frame(source, left).transpose(0, 1)
        moves = step.T.reshape(source.dim, *axes)
        left = source.projx(left + (moves * frame).sum(0))
        # Those that have arrived after one more step: so rounding does not tell them apart.
        found.append(left[done])
        determinants.append(torch.linalg.det(slopes[done].double()))
        left = left[~done]
        if not len(left):
            break
    points, slopes = torch.cat(found), torch.cat(determinants)
    return _distinct(source, points, slopes)


def _gap(M: Manifold, x: Tensor, y: Tensor) -> Tensor:
    """Ambient distance between x ``(n, *)`` and the nearest image of y, of shape ``(n)``."""
    return torch.linalg.vector_norm((M.nearest(x, y.expand_as(x)) - x).flatten(1), dim=-1)


def _distinct(M: Manifold, points: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Each of the points once."""
    apart = APART * M.volume ** (1 / M.dim)
    kept: list[int] = []
    for k in range(len(points)):
        if not kept or _gap(M, points[kept], points[k]).min() > apart:
            kept.append(k)
    return points[kept], slopes[kept]
