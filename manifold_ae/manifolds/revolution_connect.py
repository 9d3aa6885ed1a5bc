r"""The shortest geodesic between two points of a surface of revolution.

A fan of geodesics is opened from the first point x, on the side to which the rotation turns, as far
as a path that surely joins the two. Which of them lead to the second point y is told by

- closed profiles: the rotation never turns back along a geodesic, so that each path of the fan
  crosses the meridian of y once; between neighbours that pass y on two sides lies one that meets
  it.
  Directions crowd next to the meridian of x, where paths wind round the tube, and next to the
  momentum Λ = ρ of a neck, a parallel where ρ is least, at which paths come to stay;
- profiles from pole to pole: the distance to y has a local minimum over directions and lengths.

Newton's method with the Jacobi field J₁ finishes each, and the shortest is kept. A pair of
geodesics that are conjugate within the spacing of the fan might be missed together, in which case a
longer one is returned.
"""

import math
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from manifold_ae.manifolds.geodesic_fan import Linear, bracketed, wrap
from manifold_ae.manifolds.profile import Profile
from manifold_ae.manifolds.revolution_geodesics import Cap, Path, Ring, follow
from manifold_ae.numerics import normalise

__all__ = ["basis", "connect", "correction"]

#: Directions of a fan, evenly on one side of the meridian; those that crowd towards each side of a
#: limit; steps for every piece of ``follow``.
DIRECTIONS, CROWD, STEPS = 48, 14, 6
#: Geodesics of the fan that are finished with Newton's method, and the steps it takes at most.
BRACKETS, NEWTON = 5, 14
#: Pairs for which a fan is opened at once, and points of the table that it follows.
PAIRS, TABLE = 256, 4096


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.cross(a, b)


def basis(normal: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors along u and across it in the tangent plane; some, where u is zero."""
    still = (u == 0).all(-1, keepdim=True)
    aside = _cross(normal, normal.roll(1, -1) * normal.new_tensor([1.0, -1.0, 1.0]))
    along = normalise(torch.where(still, aside, u))
    return along, _cross(normal, along)


def bound(profile: Profile, place: Tensor, other: Tensor, turn: Tensor) -> Tensor:
    """Length of a path that surely joins: along the profile, round one parallel, and on."""
    found = []
    apart = (lambda a: a) if profile.poles else wrap
    for at, radius in profile.necks:
        found.append(
            profile.scale * (apart(place - at).abs() + apart(other - at).abs()) + radius * turn
        )
    straight = profile.scale * apart(place - other).abs()
    radius = torch.minimum(profile.jet(place).rho, profile.jet(other).rho)
    found.append(straight + radius * turn)
    if profile.poles:
        found += [profile.scale * (place + other), profile.scale * (2 * math.pi - place - other)]
    return torch.stack(found).amin(0)


def _frame(x: Tensor, normal: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors along the profile, α growing, and along the rotation, on the side of y."""
    cos, sin = normalise(x[:, :2]).unbind(-1)
    across = torch.stack([-sin, cos, torch.zeros_like(cos)], -1)
    along = _cross(normal, across)
    side = torch.where((across * y).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return along, across * side


@singledispatch
def _fan(chart: Any, *arguments: Tensor) -> tuple[Tensor, Tensor]:
    """Velocities (n, BRACKETS, 3) of geodesics that pass near y, and about how long they are.

    The length is infinite where there are fewer.
    """
    raise TypeError(f"chart = {chart!r}: expected a Ring or a Cap")


@_fan.register
def _ring_fan(
    chart: Ring,
    x: Tensor,
    place: Tensor,
    normal: Tensor,
    y: Tensor,
    longest: Tensor,
    other: Tensor,
    turn: Tensor,
) -> tuple[Tensor, Tensor]:
    """As ``_cap_fan``; after those that are bracketed, two along the meridian."""
    profile = chart.profile
    kwargs = {"dtype": x.dtype, "device": x.device}
    steps = max(8, math.ceil(1.25 * STEPS * longest.max().item() / profile.piece))
    # Longer by a quarter, so that both neighbours of the shortest arrive.
    h = (longest * (1.25 / steps)).unsqueeze(-1)
    radius = profile.jet(place).rho
    even = math.pi / 2 * (torch.arange(DIRECTIONS, **kwargs) + 0.5) / DIRECTIONS
    crowd = 0.2 * 0.5 ** torch.arange(CROWD, **kwargs)
    quarter = [even.expand(len(x), -1), crowd.expand(len(x), -1)]
    for _, neck in profile.necks:
        critical = torch.asin((neck / radius).clamp_max(1)).unsqueeze(-1)
        quarter += [critical - crowd, critical + crowd]
    angle = torch.cat(quarter, -1).clamp(1e-9, math.pi / 2)
    angle = torch.cat([angle, math.pi - angle], -1).sort(-1).values
    phi = place.unsqueeze(-1).expand(angle.shape)
    momentum = radius.unsqueeze(-1) * angle.sin()
    speed = angle.cos() / profile.scale
    goal, target = turn.unsqueeze(-1), other.unsqueeze(-1)
    # α̈/Λ² = ρ'/(ρ³ scale) and θ̇/Λ = 1/ρ², between neighbours of a table.
    at = profile.jet(torch.arange(TABLE + 1, **kwargs) * (2 * math.pi / TABLE))
    table = Linear(torch.stack([at.rho_slope / (at.rho**3 * profile.scale), at.rho**-2], -1))
    square = momentum**2

    def forces(at: Tensor) -> tuple[Tensor, Tensor]:
        """α̈ and θ̇/Λ."""
        pull, rate = table(torch.remainder(at, 2 * math.pi) * (TABLE / (2 * math.pi)))
        return square * pull, rate

    direction, size, best = bracketed(
        forces, angle, phi, speed, momentum, goal, target, h=h, steps=steps, count=BRACKETS
    )
    # Meridians, which no two paths of the fan bracket.
    straight = wrap(other - place)
    lines = torch.stack(
        [straight, straight - 2 * math.pi * torch.where(straight >= 0, 1.0, -1.0)], -1
    )
    round_ = radius * turn
    bare = (round_ < 0.5 * profile.piece) | ~torch.isfinite(best[:, 0])
    lines = lines * profile.scale
    score = torch.where(bare.unsqueeze(-1), torch.hypot(lines, round_.unsqueeze(-1)), math.inf)
    parts = (
        torch.cat([size * direction.cos(), lines], -1).unsqueeze(-1),
        torch.cat([size * direction.sin(), round_.unsqueeze(-1).expand_as(lines)], -1).unsqueeze(
            -1
        ),
    )
    along, across = _frame(x, normal, y)
    velocity = parts[0] * along.unsqueeze(1) + parts[1] * across.unsqueeze(1)
    return velocity, _rivals(torch.cat([best, score], -1), 0.5 * profile.piece)


@_fan.register
def _cap_fan(
    chart: Cap,
    x: Tensor,
    place: Tensor,
    normal: Tensor,
    target: Tensor,
    longest: Tensor,
    *unused: Tensor,
) -> tuple[Tensor, Tensor]:
    """Velocities (n, BRACKETS, 3) of geodesics that pass near y, and about how long they are.

    The length is infinite where there are fewer.
    """
    profile = chart.profile
    steps = max(12, math.ceil(1.15 * STEPS * longest.max().item() / profile.piece))
    h = 1.15 * longest / steps
    along, across = _frame(x, normal, target)
    angle = math.pi * torch.arange(DIRECTIONS + 1, dtype=x.dtype, device=x.device) / DIRECTIONS
    angle = angle.unsqueeze(-1)
    unit = angle.cos() * along.unsqueeze(1) + angle.sin() * across.unsqueeze(1)
    start = x.unsqueeze(1).expand_as(unit)
    c, rate = chart.lift(start, place.unsqueeze(1).expand(unit.shape[:2]), unit)
    square = (start[..., 0] * unit[..., 1] - start[..., 1] * unit[..., 0]).square()
    grid = torch.linspace(-1, 1, TABLE + 1, dtype=x.dtype, device=x.device)
    one = torch.ones_like(grid)
    parts = chart.force(grid, 0 * one, one), *chart.bends(grid), chart.height(grid)
    table, pull = Linear(torch.stack(parts, -1)), 1 / profile.scale**2

    def at(y: Tensor) -> tuple[Tensor, Tensor]:
        """Accelerations of c and of both parts of ξ, and z, between neighbours of the table."""
        force, gauss, gap, height = table((y[0].clamp(-1, 1) + 1) * (TABLE / 2))
        bend = gauss + gap * square
        return torch.stack([force * square - pull * y[0], -bend * y[1], -bend * y[2]]), height

    y = torch.stack([c, start[..., 0], start[..., 1]])
    v = torch.stack([rate, unit[..., 0], unit[..., 1]])
    step = h.unsqueeze(-1)
    gaps = []
    for k in range(steps + 1):
        force, height = at(y)
        flat = (y[1] - target[:, :1]).square() + (y[2] - target[:, 1:2]).square()
        gaps.append(flat + (height - target[:, 2:]).square())
        if k < steps:  # Nyström's step of order four
            middle, _ = at(y + step / 2 * (v + step / 4 * force))
            after, _ = at(y + step * (v + step / 2 * middle))
            y = y + step * (v + step / 6 * (force + 2 * middle))
            v = v + step / 6 * (force + 4 * middle + after)
    gap = torch.stack(gaps, 1)  # (n, steps + 1, directions)
    padded = torch.nn.functional.pad(gap, (1, 1, 1, 1), value=math.inf)
    least = -torch.nn.functional.max_pool2d(-padded, 3, 1)
    near = (gap <= least).clone()
    near[:, 0] = False
    number = torch.arange(steps + 1, dtype=x.dtype, device=x.device)[:, None]
    length = h[:, None, None] * number
    # Neighbours are about as far apart as they are long times their angle.
    reach = 2.5 * (length * math.pi / DIRECTIONS + h[:, None, None])
    score = torch.where(near & (gap.sqrt() <= reach), length, math.inf)
    best, index = score.flatten(1).topk(BRACKETS, dim=-1, largest=False)
    size = torch.where(torch.isfinite(best), best, 0.0).unsqueeze(-1)
    which = (index % (DIRECTIONS + 1)).unsqueeze(-1).expand(-1, -1, 3)
    missed = gap.flatten(1).gather(-1, index).sqrt()
    return unit.gather(1, which) * size, _rivals(best, 1.5 * missed)


def _rivals(length: Tensor, error: Tensor | float) -> Tensor:
    """Estimated lengths (n, k), infinite where the geodesic is surely longer than another."""
    least = (length + error).amin(-1, keepdim=True)
    return torch.where(length - error <= least, length, math.inf)


def _finish(
    chart: Ring | Cap, x: Tensor, place: Tensor, normal: Tensor, y: Tensor, u: Tensor
) -> tuple[Tensor, Tensor]:
    """Velocities (n, 3) from x to y by Newton's method, and by how much they miss."""
    u = u.clone()
    missed = torch.full_like(place, math.inf)
    active = torch.arange(len(x), device=x.device)
    largest = 0.5 * chart.profile.piece
    for _ in range(NEWTON):
        here = u[active]
        path = follow(chart, x[active], place[active], here)
        miss = y[active] - path.end
        far = torch.linalg.vector_norm(miss, dim=-1)
        step = correction(path, normal[active], here, miss)
        size = torch.linalg.vector_norm(step, dim=-1, keepdim=True)
        u[active] = here + step * (largest / size.clamp_min(largest))
        missed[active] = far
        # A miss of 1e-8 leaves 1e-16 after the step, or what rounding leaves.
        active = active[far > 1e-8]
        if not len(active):
            break
    return u, missed


def correction(path: Path, normal: Tensor, u: Tensor, miss: Tensor) -> Tensor:
    """Newton's step: the change of u that moves the end of the path by ``miss``."""
    along, across = basis(normal, u)
    there, aside = basis(
        path.normal, torch.where((u == 0).all(-1, keepdim=True), along, path.velocity)
    )
    first = torch.where(path.first.abs() < 1e-6, 1e-6, path.first)
    return (miss * there).sum(-1, keepdim=True) * along + (
        (miss * aside).sum(-1) / first
    ).unsqueeze(-1) * across


@torch.no_grad()
def connect(
    chart: Ring | Cap, x: Tensor, place: Tensor, normal: Tensor, y: Tensor, other: Tensor
) -> Tensor:
    """Velocity u of the shortest geodesic from x to y; both ``(n, 3)``, float64, at α and α'.

    Raises:
        ArithmeticError: if none is found; the message says between which points.
    """
    dot = (x[:, :2] * y[:, :2]).sum(-1)
    cross = x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]
    turn = torch.atan2(cross, dot).abs()
    u = torch.zeros_like(x)
    best = torch.full_like(place, math.inf)
    if not len(x):
        return u

    def attempt(which: Tensor, guess: Tensor) -> None:
        """Finish guesses for the pairs of these numbers, and keep what is shorter."""
        if not len(which):
            return
        found, miss = _finish(chart, x[which], place[which], normal[which], y[which], guess)
        length = torch.linalg.vector_norm(found, dim=-1)
        length = torch.where(miss <= 1e-8, length, math.inf)
        shortest = best.scatter_reduce(0, which, length, "amin")
        better = (length < best[which]) & (length == shortest[which])
        u[which[better]], best[which[better]] = found[better], length[better]

    chord = y - x
    sure = chart.profile.injectivity_radius
    close = (torch.linalg.vector_norm(chord, dim=-1) < 0.8 * sure).nonzero().squeeze(-1)
    tangent = chord - (chord * normal).sum(-1, keepdim=True) * normal
    attempt(close, tangent[close])
    rest = (best >= sure).nonzero().squeeze(-1)
    longest = bound(chart.profile, place, other, turn)
    for some in rest.split(PAIRS) if len(rest) else ():
        parts = (part[some] for part in (x, place, normal, y, longest, other, turn))
        guess, score = _fan(chart, *parts)
        row, column = torch.isfinite(score).nonzero().T
        attempt(some[row], guess[row, column])
    lost = ~torch.isfinite(best)
    if lost.any():
        k = int(lost.nonzero()[0])
        raise ArithmeticError(
            f"no geodesic found from {x[k].tolist()} to {y[k].tolist()}; "
            "revolution_geodesics.DIRECTIONS refines the search"
        )
    return u
