r"""What can be wrong with a closest-point projection P that somebody wrote, and how it shows.

- It changes shape or dtype, returns numbers that are not finite, or mixes the points of a batch.
- P(P(y)) ≠ P(y): no projection.
- The residual y − P(y) is not normal, DP is not symmetric (an oblique projection), or another point
  of the manifold is closer: not the closest point.
- DP does not agree with differences of P (a detached part, a wrong backward pass), or jumps along a
  curve on the manifold (an edge): not smooth. A jump is found by bisection: between two points, the
  change of DP goes to zero with their distance, or it does not.
- The rank of DP varies, or is not the stated dimension; or all points are taken to one.
- DF is not of full rank on a level set: Newton's method then has no way onto it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from manifold_ae.manifolds.closest_point import ClosestPoint
from manifold_ae.manifolds.derivatives import Map, gradient, jacobian, value_and_jacobian

if TYPE_CHECKING:
    from manifold_ae.manifolds.submanifold import Submanifold

__all__ = ["Report", "diagnose"]

POINTS = 128
#: Points and steps of the descent to where a level set's gradient degenerates; their length.
SINGULAR, LEAP = 12, 0.2
#: A gradient this small relative to a typical one is taken for zero.
DEGENERATE = 1e-4
#: Bisections of an interval in which DP changes most: it shrinks by 2⁻³⁰.
BISECTIONS = 30
#: Paths on the manifold, their steps, and the length of these relative to its extent.
PATHS, PATH, STRIDE = 64, 30, 0.08


@dataclass(frozen=True)
class Report:
    """What ``Submanifold.check`` found. Lengths are relative to the extent of the manifold.

    ``ok`` is whether ``problems`` is empty. Figures that could not be computed are None.
    """

    ok: bool
    name: str
    problems: tuple[str, ...]
    #: Ranks of DP that were met.
    ranks: tuple[int, ...] = ()
    #: Largest |P(P(y)) − P(y)|.
    idempotence: float | None = None
    #: Largest tangent part of y − P(y), relative to its length.
    normality: float | None = None
    #: Largest |DP − DPᵀ| at points of the manifold.
    asymmetry: float | None = None
    #: How much closer another point of the manifold was than P(y).
    nearer: float | None = None
    #: Largest difference between autograd's derivative and a difference quotient.
    derivative: float | None = None
    #: Largest jump of DP along paths on the manifold.
    jump: float | None = None
    #: Smallest singular value of DF on a level set, relative to a typical one around it.
    gradient: float | None = None

    def __str__(self) -> str:
        figures = {
            "P(P(y)) - P(y)": self.idempotence,
            "tangent part of y - P(y)": self.normality,
            "asymmetry of DP": self.asymmetry,
            "another point closer by": self.nearer,
            "autograd against differences": self.derivative,
            "jump of DP": self.jump,
            "smallest gradient of the level set": self.gradient,
        }
        lines = [f"{self.name}: " + ("nothing wrong found" if self.ok else "not right")]
        lines += [f"  - {problem}" for problem in self.problems]
        lines += [f"  rank of DP: {', '.join(map(str, self.ranks))}"] if self.ranks else []
        lines += [f"  {k}: {v:.2g}" for k, v in figures.items() if v is not None]
        return "\n".join(lines)


@dataclass
class _Findings:
    """What has been found so far, and the points that it is looked for with, flat ``(n, D)``."""

    project: Map
    y: Tensor
    x: Tensor
    size: float
    noise: Tensor
    problems: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def rounding(self) -> float:
        """Tolerance of what is zero but for rounding: 1e-6 in float64, 1e-2 in float32."""
        return 70 * torch.finfo(self.y.dtype).eps ** 0.5

    def note(self, figure: str, value: float, most: float, problem: str) -> None:
        """Record a figure, and a problem unless it is at most ``most``."""
        self.figures[figure] = value
        if not value <= most:
            self.problems.append(problem.format(value))


def diagnose(manifold: "Submanifold", points: Tensor | None, seed: int) -> Report:
    """The report of ``Submanifold.check``."""
    found, problem = _start(manifold, points, seed)
    if found is None:
        return Report(False, manifold.name, (problem,))
    tests: list[Callable[..., None]] = [_shapes, _closest, _derivative, _rank, _smooth]
    if isinstance(manifold.embedding, ClosestPoint):
        tests.append(_level_set)
    for test in tests:
        try:
            test(manifold, found)
        except RuntimeError as error:  # a level set's closest point is not found, or torch's own
            found.problems.append(str(error))
        if test is _shapes and found.problems:
            break  # nothing that follows would mean anything
    # Once each: the tests that build on another meet its problems again.
    problems = tuple(dict.fromkeys(found.problems))
    return Report(not problems, manifold.name, problems, **found.figures)


def _start(
    manifold: "Submanifold", points: Tensor | None, seed: int
) -> tuple[_Findings | None, str]:
    """Points near the manifold and its extent; or what went wrong in the first calls."""
    shape = manifold.ambient_shape
    dim = math.prod(shape)
    generator = torch.Generator().manual_seed(seed)
    if points is None:
        noise = torch.randn(POINTS, dim, generator=generator, dtype=torch.float64)
        y = noise.to(manifold.like)
    else:
        if tuple(points.shape[1:]) != shape or len(points) < 8:
            raise ValueError(
                f"points has shape {tuple(points.shape)}; expected (n, *{shape}) with n at least 8"
            )
        y = points.reshape(len(points), dim)
    try:
        with torch.enable_grad():
            x = manifold.embedding.project(y.clone().requires_grad_())
            jacobian(manifold.embedding.project, y[:2])
    except Exception as error:  # whatever a function that somebody else wrote may raise
        return None, f"project fails with {type(error).__name__}: {error}"
    if not x.requires_grad:
        return None, "project cuts the graph of autograd: its result has no derivative"
    x = x.detach()
    problem = _not_finite(y, x)
    size = _extent(x)
    if not problem and size <= 100 * torch.finfo(x.dtype).eps * x.abs().max().item():
        return None, f"P takes all points to one, {x[0].tolist()}: no submanifold"
    if points is None:
        for _ in range(12):
            wide = x.mean(0) + 2 * size * y
            try:
                beyond = manifold.embedding.project(wide)
            except RuntimeError as error:
                return None, str(error)
            problem = problem or _not_finite(wide, beyond)
            if problem:
                break
            x, grown = beyond, _extent(beyond)
            if grown <= 1.2 * size:
                break
            size = grown
        else:
            x = manifold.embedding.project(y)  # not bounded: what lies around the origin
            size = _extent(x)
    if problem:
        return None, problem
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    y = x + 0.1 * size * noise if points is None else y
    x = manifold.embedding.project(y)
    problem = _not_finite(y, x)
    return (
        (None, problem)
        if problem
        else (_Findings(manifold.embedding.project, y, x, size, noise), "")
    )


def _extent(x: Tensor) -> float:
    """Root mean square distance from the middle."""
    return (x - x.mean(0)).square().sum(-1).mean().sqrt().item()


def _not_finite(y: Tensor, x: Tensor) -> str:
    bad = ~torch.isfinite(x).all(-1)
    if not bool(bad.any()):
        return ""
    return (
        f"P(y) is not finite for {int(bad.sum())} of {len(y)} points, as y = {y[bad][0].tolist()}"
    )


def _largest(x: Tensor) -> float:
    return torch.linalg.vector_norm(x.flatten(1), dim=-1).max().item()


def _shapes(manifold: "Submanifold", found: _Findings) -> None:
    """Every shape of batch and both dtypes, and each point by itself."""
    y = found.y[:6].reshape(6, *manifold.ambient_shape)
    whole = found.x[:6].reshape(y.shape)
    batches: tuple[tuple[int, ...], ...] = ((), (1,), (2, 3), (0,))
    for batch in batches:
        part = y[: math.prod(batch)].reshape(*batch, *manifold.ambient_shape)
        try:
            x = manifold.projx(part)
        except Exception as error:  # as above
            found.problems.append(
                f"project fails for a batch of shape {batch}, by {type(error).__name__}: {error}"
            )
            continue
        if x.numel() and not bool(
            (
                (x - whole[: math.prod(batch)].reshape(x.shape)).abs()
                <= found.rounding * found.size
            ).all()
        ):
            found.problems.append("P of a point depends on the others of its batch")
    if manifold.like.dtype == torch.float64 and y.dtype == torch.float64:
        try:
            manifold.projx(y.float())
        except Exception as error:  # as above
            found.problems.append(f"project fails in float32, by {type(error).__name__}: {error}")


def _closest(manifold: "Submanifold", found: _Findings) -> None:
    x, y, size, most = found.x, found.y, found.size, found.rounding
    found.note(
        "idempotence",
        _largest(found.project(x) - x) / size,
        most,
        "P is not idempotent: P(P(y)) lies {:.2g} of the extent away from P(y)",
    )
    slopes = jacobian(found.project, x)
    found.note(
        "asymmetry",
        (slopes - slopes.mT).abs().max().item(),
        10 * most,
        "P is not the closest point: DP on the manifold differs from its transpose by {:.2g}, so "
        "it projects obliquely",
    )
    # The tangent space is the range of DP, whether or not DP is symmetric.
    left, value, _ = torch.linalg.svd(slopes)
    tangent = left * (value > 0.5).unsqueeze(-2)
    residual = y - x
    length = torch.linalg.vector_norm(residual, dim=-1)
    inward = torch.linalg.vector_norm(tangent.mT @ residual.unsqueeze(-1), dim=(-2, -1))
    share = inward / length.clamp_min(1e-3 * size)
    found.note(
        "normality",
        share.max().item(),
        10 * most,
        "P is not the closest point: y - P(y) has a tangent part of {:.2g} of its length",
    )
    nearest = torch.cdist(y, torch.cat([x, found.project(x + 0.3 * size * found.noise)])).amin(-1)
    found.note(
        "nearer",
        max(0.0, (length - nearest).max().item() / size),
        most,
        "P is not the closest point: another point of the manifold is closer to y by {:.2g} of the "
        "extent",
    )


def _derivative(manifold: "Submanifold", found: _Findings) -> None:
    """vᵀ DP v by autograd against differences of vᵀ P."""
    y, v = found.y, found.noise / torch.linalg.vector_norm(found.noise, dim=-1, keepdim=True)
    h = torch.finfo(y.dtype).eps ** (1 / 3) * found.size
    quotient = (found.project(y + h * v) - found.project(y - h * v)) / (2 * h)
    derivative = (gradient(found.project, y, v) * v).sum(-1)
    if not bool(torch.isfinite(derivative).all()):
        found.problems.append("the derivative of P is not finite")
        return
    # An edge between y ± hv spoils a quotient here and there, and is looked for elsewhere.
    difference = (derivative - (quotient * v).sum(-1)).abs()
    found.note(
        "derivative",
        difference.quantile(0.9).item(),
        1e-2 if y.dtype == torch.float32 else 1e-4,
        "autograd's derivative of P differs from a difference quotient by {:.2g}: a part of "
        "project is detached, rounded, or has a wrong backward pass",
    )


def _rank(manifold: "Submanifold", found: _Findings) -> None:
    value = torch.linalg.svdvals(jacobian(found.project, found.project(found.x)))
    ranks: tuple[int, ...] = tuple(sorted(set((value > 0.5).sum(-1).tolist())))
    found.figures["ranks"] = ranks
    blur = torch.minimum(value.abs(), (value - 1).abs()).max().item()
    if blur > 10 * found.rounding:
        found.problems.append(
            f"DP is no projector at points of the manifold: a singular value differs by {blur:.2g} "
            "from 0 and 1"
        )
    rank = ranks[-1]
    if len(ranks) > 1:
        found.problems.append(f"the rank of DP is not constant: {', '.join(map(str, ranks))}")
    elif rank in (0, value.shape[-1]):
        found.problems.append(f"the rank of DP is {rank} of {value.shape[-1]}: no submanifold")
    elif manifold.given_dim not in (None, rank):
        found.problems.append(f"the rank of DP is {rank}, but dim = {manifold.given_dim}")


def _smooth(manifold: "Submanifold", found: _Findings) -> None:
    """The largest jump of DP along paths on the manifold, narrowed down by bisection."""
    x, v = found.project(found.x[:PATHS]), found.noise[:PATHS]
    here = jacobian(found.project, x)
    largest = torch.zeros_like(x[:, 0])
    low, high = x.clone(), x.clone()
    for _ in range(PATH):
        v = (here @ v.unsqueeze(-1)).squeeze(-1)
        v = v / torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp_min(1e-12)
        after, there = value_and_jacobian(found.project, x + STRIDE * found.size * v)
        change = torch.linalg.matrix_norm(there - here)
        more = change > largest
        low[more], high[more], largest[more] = x[more], after[more], change[more]
        x, here = after, there
    low_slope, high_slope = jacobian(found.project, low), jacobian(found.project, high)
    for _ in range(BISECTIONS if x.dtype == torch.float64 else BISECTIONS // 3):
        middle = (low + high) / 2
        slope = jacobian(found.project, middle)
        before = torch.linalg.matrix_norm(slope - low_slope)
        after = torch.linalg.matrix_norm(high_slope - slope)
        left = (before > after).unsqueeze(-1)
        low, high = torch.where(left, low, middle), torch.where(left, middle, high)
        left = left.unsqueeze(-1)
        low_slope, high_slope = (
            torch.where(left, low_slope, slope),
            torch.where(left, slope, high_slope),
        )
    found.note(
        "jump",
        torch.linalg.matrix_norm(high_slope - low_slope).max().item(),
        1e-3 if x.dtype == torch.float64 else 0.1,
        "P is not smooth: its derivative jumps by {:.2g} on the manifold, which has an edge, a "
        "crease or a cut there",
    )


def _level_set(manifold: "Submanifold", found: _Findings) -> None:
    """The smallest singular value of DF, sought by descent along the set."""
    solver = manifold.embedding
    assert isinstance(solver, ClosestPoint)

    def smallest(x: Tensor) -> Tensor:
        slopes = jacobian(solver.constraints, x)
        return torch.linalg.eigvalsh(slopes @ slopes.mT)[:, :1].clamp_min(0)

    typical = smallest(found.y).sqrt().median().item()
    x = found.x[:SINGULAR]
    least = smallest(x).sqrt().min()
    for _ in range(SINGULAR):
        if least.item() < DEGENERATE * typical:
            break  # nor is there a tangent space at a singular point
        value = smallest(x)
        slope = solver.tangent(x, gradient(smallest, x, torch.ones_like(value)))
        square = slope.square().sum(-1, keepdim=True)
        # Newton's step to a zero, if there is one, no longer than a stride.
        step = 2 * value / square.clamp_min(1e-30) * slope
        length = torch.linalg.vector_norm(step, dim=-1, keepdim=True).clamp_min(1e-30)
        step = step * (LEAP * found.size / length).clamp_max(1)
        moved, arrived = solver.solve(x - step)
        better = arrived & (smallest(moved) < value).squeeze(-1)
        x = torch.where(better.unsqueeze(-1), moved, x)
        least = torch.minimum(least, smallest(x).sqrt().min())
    share = least.item() / typical if typical > 0 else 0.0
    found.figures["gradient"] = share
    if share < DEGENERATE:
        found.problems.append(
            "the gradient of level_set is degenerate: on the set, its smallest singular value is "
            f"{share:.2g} of a typical one; the set is singular there, or the function vanishes to "
            "second order (take its root)"
        )
