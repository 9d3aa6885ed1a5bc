r"""Geodesics of the torus of revolution, in its angles: from a start, and between two points.

With θ the rotation and φ the tube angle, ρ = a + c cos φ the distance from the axis, and K the
Gaussian curvature, the metric is c² dφ² + ρ² dθ². Velocities are given by their components
(c φ̇, ρ θ̇) along the unit vectors of the two angles. Clairaut's relation leaves one equation,

    φ̈ = −Λ² sin φ / (c ρ³),   θ̇ = Λ/ρ²,   Λ = ρ² θ̇ constant,   K = cos φ / (c ρ),            (1)

solved on pieces of the path by Picard's iteration at Chebyshev points: for an equation of second
order its error falls like (h² B)ⁿ/(2n)!, below rounding after a dozen rounds. Beside the path run
two normal Jacobi fields, J̈ = −K v² J for a path of length v run in unit time:

    J₁(0) = 0, J̇₁(0) = 1     and     J₂(0) = 1, J̇₂(0) = 0.                                  (2)

J₁ at the end is the determinant of the exponential map, and 1/J₁ that of Van Vleck.

Two points are joined by every geodesic that a fan of directions from the first one brackets, up
to the length of a path that surely joins them; Newton's method with (2) finishes each, and the
shortest is kept, to rounding times J₁. A pair of geodesics that are
conjugate within the spacing of the fan might be missed together, in which case a longer one is
returned; none was missing in a thousand random pairs on the default torus, against a fan six times
as fine.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds.geodesic_fan import bracketed, wrap

__all__ = ["Connection", "Path", "connect", "follow", "injectivity_radius", "longest_piece"]

#: Chebyshev points of a piece, and rounds of Picard's iteration.
POINTS, ROUNDS = 20, 11
#: Pieces of the longest path that is followed: seconds.
MAX_PIECES = 10_000
#: Evenly spaced directions of the fan, and those that crowd towards each side of a limit.
DIRECTIONS, CROWD = 32, 14
#: Steps of the fan's paths for every piece of ``follow``.
STEPS = 8
#: Geodesics of the fan that are finished with Newton's method, and the steps it takes at most.
BRACKETS, NEWTON = 4, 12
#: Pairs for which a fan is opened at once.
PAIRS = 512


class Path(NamedTuple):
    """The end of a geodesic run in unit time; every field has the batch's shape."""

    tube: Tensor
    rotation: Tensor
    along_tube: Tensor  # c φ̇
    along_rotation: Tensor  # ρ θ̇
    first: Tensor  # J₁
    second: Tensor  # J₂
    first_slope: Tensor  # J̇₁
    gauss: Tensor  # the mean of K along the way


class Connection(NamedTuple):
    """The shortest geodesic between two points: velocities at both ends, and its Jacobi fields."""

    start: Tensor  # (*, 2): components (c φ̇, ρ θ̇)
    end: Tensor
    first: Tensor
    second: Tensor
    first_slope: Tensor


@lru_cache
def _collocation(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Chebyshev points τ of [0, 1]; matrices for ∫₀^τ f and ∫₀^τ∫₀^s f, their last rows at τ = 1.

    Of shapes (n), (n + 1, n), (n + 1, n).
    """
    k = np.arange(POINTS)
    x = -np.cos((2 * k + 1) * np.pi / (2 * POINTS))
    chebyshev = np.polynomial.chebyshev
    to_series = np.linalg.inv(chebyshev.chebvander(x, POINTS - 1))
    ends = np.append(x, 1.0)
    matrices = []
    for order in (1, 2):
        rows = [
            chebyshev.chebval(ends, chebyshev.chebint(column, order, lbnd=-1, scl=0.5))
            for column in to_series.T
        ]
        matrices.append(np.stack(rows, -1))
    with torch.inference_mode(False):
        return (
            torch.tensor((x + 1) / 2, device=device),
            torch.tensor(matrices[0], device=device),
            torch.tensor(matrices[1], device=device),
        )


def longest_piece(major: float, minor: float) -> float:
    """Length of path on which Picard's iteration reaches rounding: 1.3/√B, B the slope of (1).

    A geodesic has \\|Λ\\| ≤ ρ along all of it, so that B ≤ (1 + 3c/ρ)/(cρ).
    """
    least = major - minor
    bound = (1 + 3 * minor / least) / (minor * least)
    # Nor more than two radians of the tube, which the points resolve.
    return min(2 * minor, 1.3 / math.sqrt(bound))


def injectivity_radius(major: float, minor: float) -> float:
    """What a geodesic must be shorter than to be surely the shortest between its ends.

    The least of π/√K at the outer equator, and half of the two shortest closed geodesics.
    """
    return math.pi * min(math.sqrt(minor * (major + minor)), minor, major - minor)


def follow(
    major: float, minor: float, tube: Tensor, along_tube: Tensor, along_rotation: Tensor
) -> Path:
    """The geodesic from tube angle φ and rotation 0 with the given velocity, after unit time.

    Float64; differentiable by automatic differentiation, twice and more.

    Raises:
        ValueError: if the path is longer than MAX_PIECES of ``longest_piece``.
    """
    _, once, twice = _collocation(tube.device)
    nodes, _, _ = _collocation(tube.device)
    tube, along_tube, along_rotation = torch.broadcast_tensors(tube, along_tube, along_rotation)
    square = along_tube**2 + along_rotation**2
    # A velocity that is not finite gives NaN, and leaves the others their pieces.
    lengths = torch.where(torch.isfinite(square), square, 0.0).detach()
    longest = lengths.max().sqrt().item() if square.numel() else 0.0
    piece = longest_piece(major, minor)
    if longest > MAX_PIECES * piece:
        raise ValueError(
            f"u has length {longest:.3g}: geodesics on the torus of radii {major}, {minor} are "
            f"followed numerically, up to length {MAX_PIECES * piece:.3g}; shorten u"
        )
    pieces = max(1, math.ceil(longest / piece))
    h = 1 / pieces
    momentum = (major + minor * torch.cos(tube)) * along_rotation
    force = momentum.square().unsqueeze(-1) / minor
    speed = along_tube / minor
    rotation, total = torch.zeros_like(tube), torch.zeros_like(tube)
    zero, one = torch.zeros_like(tube), torch.ones_like(tube)
    fields = torch.stack([zero, one])  # J₁, J₂
    slopes = torch.stack([one, zero])
    integrate, double = h * once, h * h * twice
    inner = double[:-1].T
    for _ in range(pieces):
        start = tube.unsqueeze(-1) + h * nodes * speed.unsqueeze(-1)
        phi, pull = start, start
        for _ in range(ROUNDS):
            pull = -force * torch.sin(phi) / (major + minor * torch.cos(phi)) ** 3
            phi = start + pull @ inner
        pull = -force * torch.sin(phi) / (major + minor * torch.cos(phi)) ** 3
        rho = major + minor * torch.cos(phi)
        gauss = torch.cos(phi) / (minor * rho)
        total = total + gauss @ integrate[-1]
        stiffness = -square.unsqueeze(-1) * gauss
        line = fields.unsqueeze(-1) + h * nodes * slopes.unsqueeze(-1)
        field = line
        for _ in range(ROUNDS):
            field = line + (stiffness * field) @ inner
        bend = stiffness * field
        rotation = rotation + momentum * ((1 / rho.square()) @ integrate[-1])
        tube = tube + h * speed + pull @ double[-1]
        speed = speed + pull @ integrate[-1]
        fields = fields + h * slopes + bend @ double[-1]
        slopes = slopes + bend @ integrate[-1]
    rho = major + minor * torch.cos(tube)
    return Path(
        tube, rotation, minor * speed, momentum / rho, fields[0], fields[1], slopes[0], total
    )


def _fan(
    major: float, minor: float, tube: Tensor, other: Tensor, turn: Tensor
) -> tuple[Tensor, Tensor]:
    """Velocities (n, BRACKETS, 2) of geodesics that nearly end at (other, turn), and their lengths.

    The rotation never turns back along a geodesic, so each path of the fan crosses the target's
    meridian once; between neighbours that pass it on two sides lies one that meets it. The length
    is infinite where there are fewer.
    """
    kwargs = {"dtype": tube.dtype, "device": tube.device}
    # Down to the inner equator, along it, and up again; or along one parallel: both surely join.
    descent = minor * (2 * math.pi - wrap(tube).abs() - wrap(other).abs())
    parallel = major + minor * torch.minimum(torch.cos(tube), torch.cos(other))
    bound = torch.minimum(
        descent + (major - minor) * turn, minor * wrap(other - tube).abs() + parallel * turn
    )
    steps = max(8, math.ceil(1.25 * STEPS * bound.max().item() / longest_piece(major, minor)))
    # Longer by a quarter, so that both neighbours of the shortest arrive.
    h = (bound * (1.25 / steps)).unsqueeze(-1)
    # Paths change fastest with their direction next to the meridian, where they wind round the
    # tube, and next to Λ = a − c, where they come to stay at the inner equator, which is unstable.
    even = math.pi / 2 * (torch.arange(DIRECTIONS, **kwargs) + 0.5) / DIRECTIONS
    crowd = 0.2 * 0.5 ** torch.arange(CROWD, **kwargs)
    critical = torch.asin((major - minor) / (major + minor * torch.cos(tube))).unsqueeze(-1)
    crowded = torch.cat([critical - crowd, critical + crowd], -1).clamp(1e-9, math.pi / 2)
    quarter = torch.cat([even.expand(len(tube), -1), crowd.expand(len(tube), -1), crowded], -1)
    angle = torch.cat([quarter, math.pi - quarter], -1).sort(-1).values
    phi = tube.unsqueeze(-1).expand(angle.shape)
    momentum = (major + minor * torch.cos(phi)) * torch.sin(angle)
    force = -(momentum**2) / minor
    speed = torch.cos(angle) / minor
    goal, target = turn.unsqueeze(-1), other.unsqueeze(-1)

    def forces(at: Tensor) -> tuple[Tensor, Tensor]:
        """φ̈ and θ̇/Λ."""
        inverse = 1 / (major + minor * torch.cos(at))
        square = inverse * inverse
        return force * torch.sin(at) * inverse * square, square

    direction, size, best = bracketed(
        forces, angle, phi, speed, momentum, goal, target, h=h, steps=steps, count=BRACKETS
    )
    return torch.stack([size * torch.cos(direction), size * torch.sin(direction)], -1), best


def _unit(along_tube: Tensor, along_rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Direction of a velocity; that of the tube angle where it vanishes."""
    size = torch.hypot(along_tube, along_rotation)
    still = size == 0
    size = torch.where(still, 1.0, size)
    return torch.where(still, 1.0, along_tube / size), along_rotation / size


def _finish(
    major: float, minor: float, tube: Tensor, other: Tensor, turn: Tensor, velocity: Tensor
) -> tuple[Tensor, Tensor]:
    """Velocities (n, 2) from (φ, 0) to (φ', turn) by Newton's method, and by how much they miss."""
    velocity = velocity.clone()
    missed = torch.full_like(tube, math.inf)
    active = torch.arange(len(tube), device=tube.device)
    reach = 1.5 * (2 * math.pi * minor + (major + minor) * math.pi)
    for _ in range(NEWTON):
        along_tube, along_rotation = velocity[active].unbind(-1)
        path = follow(major, minor, tube[active], along_tube, along_rotation)
        miss_tube = minor * wrap(other[active] - path.tube)
        miss_turn = (major + minor * torch.cos(path.tube)) * (turn[active] - path.rotation)
        miss = torch.hypot(miss_tube, miss_turn)
        there = _unit(path.along_tube, path.along_rotation)
        here = _unit(along_tube, along_rotation)
        along = miss_tube * there[0] + miss_turn * there[1]
        across = miss_turn * there[0] - miss_tube * there[1]
        across = across / torch.where(path.first.abs() < 1e-6, 1e-6, path.first)
        step = torch.stack(
            [along * here[0] - across * here[1], along * here[1] + across * here[0]], -1
        )
        # At most half the tube's radius: further off, the linear model means nothing.
        size = torch.linalg.vector_norm(step, dim=-1, keepdim=True)
        moved = velocity[active] + step * (0.5 * minor / size.clamp_min(0.5 * minor))
        length = torch.linalg.vector_norm(moved, dim=-1, keepdim=True)
        # A miss of 1e-8 leaves 1e-16 after the step, or what rounding leaves.
        velocity[active] = moved * (reach / length.clamp_min(reach))
        missed[active] = miss
        active = active[miss > 1e-8 * minor]
        if not len(active):
            break
    return velocity, missed


@torch.no_grad()
def connect(major: float, minor: float, tube: Tensor, other: Tensor, turn: Tensor) -> Connection:
    """The shortest geodesic from tube angle φ to φ', the rotation growing by ``turn`` ∈ [0, π].

    All of one shape and float64.

    Raises:
        ArithmeticError: if none is found; the message says between which points.
    """
    shape = tube.shape
    # NaN stays with the pairs that hold any, which are put off with the trivial path.
    finite = torch.isfinite(tube) & torch.isfinite(other) & torch.isfinite(turn)
    tube, other, turn = (torch.where(finite, a, 0.0).reshape(-1) for a in (tube, other, turn))
    if not len(tube):
        zero = tube.reshape(shape)
        empty = zero.unsqueeze(-1).expand(*shape, 2)
        return Connection(empty, empty, zero, zero, zero)
    # The straight line of the chart, and the one round the other side of the tube.
    straight = wrap(other - tube)
    lines = [straight, straight - 2 * math.pi * torch.where(straight >= 0, 1.0, -1.0)]
    middle = (major + minor * torch.cos(tube + straight / 2)) * turn
    near = torch.hypot(minor * straight, middle) < 1.2 * injectivity_radius(major, minor)
    velocity = torch.zeros(len(tube), 2, dtype=tube.dtype, device=tube.device)
    best = torch.full_like(tube, math.inf)

    def attempt(which: Tensor, guess: Tensor) -> None:
        """Finish guesses for the pairs of these numbers, and keep what is shorter."""
        if not len(which):
            return
        found, miss = _finish(major, minor, tube[which], other[which], turn[which], guess)
        length = torch.linalg.vector_norm(found, dim=-1)
        length = torch.where(miss <= 1e-8 * minor, length, math.inf)
        shortest = best.scatter_reduce(0, which, length, "amin")
        better = (length < best[which]) & (length == shortest[which])
        velocity[which[better]], best[which[better]] = found[better], length[better]

    first = near.nonzero().squeeze(-1)
    attempt(first, torch.stack([minor * straight, middle], -1)[first])
    # A geodesic within the injectivity radius is the shortest; for other pairs a fan is opened.
    rest = (best >= injectivity_radius(major, minor)).nonzero().squeeze(-1)
    for some in rest.split(PAIRS) if len(rest) else ():
        guesses, lengths = _fan(major, minor, tube[some], other[some], turn[some])
        # The estimates are good to less than half the tube's radius.
        limit = torch.minimum(best[some], lengths[:, 0]) + 0.5 * minor
        row, column = (torch.isfinite(lengths) & (lengths < limit.unsqueeze(-1))).nonzero().T
        # Meridians, which no two paths of the fan bracket.
        bare = (middle[some] < 0.1 * minor) | ~torch.isfinite(lengths[:, 0])
        along = [torch.stack([minor * line[some], middle[some]], -1)[bare] for line in lines]
        attempt(
            torch.cat([some[row], some[bare], some[bare]]),
            torch.cat([guesses[row, column], *along]),
        )
    lost = ~torch.isfinite(best)
    if lost.any():
        k = int(lost.nonzero()[0])
        raise ArithmeticError(
            f"no geodesic found between tube angles {tube[k].item():.6g} and {other[k].item():.6g} "
            f"turned by {turn[k].item():.6g} on the torus of radii {major}, {minor}; the search is "
            "verified for radii of ratio 1.5 to 20, torus_geodesics.DIRECTIONS and CROWD refine it"
        )
    path = follow(major, minor, tube, *velocity.unbind(-1))
    end = torch.stack([path.along_tube, path.along_rotation], -1)
    velocity = torch.where(finite.reshape(-1, 1), velocity, torch.nan)
    end = torch.where(finite.reshape(-1, 1), end, torch.nan)
    return Connection(
        velocity.reshape(*shape, 2),
        end.reshape(*shape, 2),
        path.first.reshape(shape),
        path.second.reshape(shape),
        path.first_slope.reshape(shape),
    )
