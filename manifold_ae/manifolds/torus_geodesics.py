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
shortest is kept. Its residual is below 1e-12 of the tube's radius. A pair of geodesics that are
conjugate within the spacing of the fan might be missed together, in which case a longer one is
returned; none was found missing in 10⁴ random pairs against a fan four times as fine.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Connection", "Path", "connect", "follow", "longest_piece"]

#: Chebyshev points of a piece, and rounds of Picard's iteration.
POINTS, ROUNDS = 18, 12
#: Evenly spaced directions of the fan, and those that crowd towards each side of a limit.
DIRECTIONS, CROWD = 48, 18
#: Steps of the fan's paths for every piece of ``follow``.
STEPS = 6
#: Geodesics that are finished with Newton's method, beside the straight lines of the chart.
BRACKETS = 5
NEWTON = 8


class Path(NamedTuple):
    """The end of a geodesic run in unit time; every field has the batch's shape."""

    tube: Tensor
    rotation: Tensor
    along_tube: Tensor  # c φ̇
    along_rotation: Tensor  # ρ θ̇
    first: Tensor  # J₁
    second: Tensor  # J₂
    first_slope: Tensor  # J̇₁


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
    """Length of path on which Picard's iteration reaches rounding: 0.9/√B, B the slope of (1).

    A geodesic has \\|Λ\\| ≤ ρ along all of it, so that B ≤ (1 + 3c/ρ)/(cρ).
    """
    least = major - minor
    bound = (1 + 3 * minor / least) / (minor * least)
    # Nor more than a radian of the tube, which the points resolve.
    return min(minor, 0.9 / math.sqrt(bound))


def follow(
    major: float, minor: float, tube: Tensor, along_tube: Tensor, along_rotation: Tensor
) -> Path:
    """The geodesic from tube angle φ and rotation 0 with the given velocity, after unit time.

    Float64; differentiable by automatic differentiation, twice and more.
    """
    _, once, twice = _collocation(tube.device)
    nodes, _, _ = _collocation(tube.device)
    tube, along_tube, along_rotation = torch.broadcast_tensors(tube, along_tube, along_rotation)
    square = along_tube**2 + along_rotation**2
    longest = square.detach().max().sqrt().item() if square.numel() else 0.0
    pieces = max(1, math.ceil(longest / longest_piece(major, minor))) if longest < 1e4 else 1
    h = 1 / pieces
    momentum = (major + minor * torch.cos(tube)) * along_rotation
    force = momentum.square().unsqueeze(-1) / minor
    speed = along_tube / minor
    rotation = torch.zeros_like(tube)
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
        stiffness = -square.unsqueeze(-1) * torch.cos(phi) / (minor * rho)
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
    return Path(tube, rotation, minor * speed, momentum / rho, fields[0], fields[1], slopes[0])


def _wrap(angle: Tensor) -> Tensor:
    """The same angle in [−π, π]."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def _fan(
    major: float, minor: float, tube: Tensor, other: Tensor, turn: Tensor
) -> tuple[Tensor, Tensor]:
    """Velocities (*, BRACKETS, 2) of geodesics that nearly end at (other, turn), and their lengths.

    The rotation never turns back along a geodesic, so each path of the fan crosses the target's
    meridian once; between neighbours that pass it on two sides lies one that meets it.
    """
    kwargs = {"dtype": tube.dtype, "device": tube.device}
    # Down to the inner equator, along it, and up again: a path that surely joins the two.
    away = lambda phi: minor * (math.pi - _wrap(phi).abs())  # noqa: E731
    direct = minor * _wrap(other - tube).abs() + turn * (
        major + minor * torch.minimum(torch.cos(tube), torch.cos(other))
    )
    bound = torch.minimum(away(tube) + away(other) + (major - minor) * turn, direct)
    steps = max(8, math.ceil(STEPS * bound.max().item() / longest_piece(major, minor)))
    step = (bound * (1.02 / steps)).unsqueeze(-1)
    # Paths change fastest with their direction next to the meridian, where they wind round the
    # tube, and next to Λ = a − c, where they come to stay at the inner equator, which is unstable.
    even = math.pi * (torch.arange(DIRECTIONS, **kwargs) + 0.5) / DIRECTIONS
    crowd = 0.3 * 0.6 ** torch.arange(CROWD, **kwargs)
    critical = torch.asin((major - minor) / (major + minor * torch.cos(tube))).unsqueeze(-1)
    below = torch.cat(
        [even.expand(*tube.shape, -1), crowd.expand(*tube.shape, -1)]
        + [(critical + sign * crowd).clamp(1e-9, math.pi / 2) for sign in (-1, 1)],
        -1,
    )
    angle = torch.cat([below, math.pi - below[..., DIRECTIONS:]], -1).sort(-1).values
    phi = tube.unsqueeze(-1).expand(angle.shape)
    rho = major + minor * torch.cos(phi)
    momentum = rho * torch.sin(angle)
    force = momentum**2 / minor
    speed = (torch.cos(angle) / minor).expand_as(phi)
    theta = torch.zeros_like(phi)
    goal, target = turn.unsqueeze(-1), other.unsqueeze(-1)
    miss = torch.full_like(phi, math.nan)
    length = torch.full_like(phi, math.inf)
    for k in range(steps):
        before_phi, before_theta = phi, theta
        # Kutta's classical step for φ; Simpson's rule, which it contains, for θ.
        pull = lambda p: -force * torch.sin(p) / (major + minor * torch.cos(p)) ** 3  # noqa: E731
        a1 = pull(phi)
        p2 = phi + step / 2 * speed
        a2 = pull(p2)
        p3 = p2 + step**2 / 4 * a1
        a3 = pull(p3)
        p4 = phi + step * speed + step**2 / 2 * a2
        a4 = pull(p4)
        rate = lambda p: momentum / (major + minor * torch.cos(p)) ** 2  # noqa: E731
        middle = rate((p2 + p3) / 2)
        first = rate(phi)
        phi = phi + step * speed + step**2 / 6 * (a1 + a2 + a3)
        speed = speed + step / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
        theta = theta + step / 6 * (first + 4 * middle + rate(phi))
        crossed = (before_theta < goal) & (theta >= goal)
        part = (goal - before_theta) / (theta - before_theta)
        miss = torch.where(crossed, _wrap(before_phi + part * (phi - before_phi) - target), miss)
        length = torch.where(crossed, (k + part) * step, length)
    left, right = miss[..., :-1], miss[..., 1:]
    met = (left * right <= 0) & ((left - right).abs() < math.pi)
    part = torch.where(met, left / torch.where(met, left - right, 1.0), 0.5).nan_to_num(0.5)
    guess = torch.lerp(length[..., :-1], length[..., 1:], part)
    guess = torch.where(met, guess, math.inf)
    best, index = guess.topk(BRACKETS, dim=-1, largest=False)
    direction = torch.lerp(
        angle.gather(-1, index), angle.gather(-1, index + 1), part.gather(-1, index)
    )
    found = torch.isfinite(best)
    size = torch.where(found, best, 0.0)
    velocity = torch.stack([size * torch.cos(direction), size * torch.sin(direction)], -1)
    return velocity, found


def _unit(along_tube: Tensor, along_rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Direction of a velocity; that of the tube angle where it vanishes."""
    size = torch.hypot(along_tube, along_rotation)
    still = size == 0
    size = torch.where(still, 1.0, size)
    return torch.where(still, 1.0, along_tube / size), along_rotation / size


@torch.no_grad()
def connect(major: float, minor: float, tube: Tensor, other: Tensor, turn: Tensor) -> Connection:
    """The shortest geodesic from tube angle φ to φ', the rotation growing by ``turn`` ∈ [0, π].

    All of one shape and float64.
    """
    shape = tube.shape
    tube, other, turn = tube.flatten(), other.flatten(), turn.flatten()
    if not tube.numel():
        zero = tube.reshape(shape)
        empty = zero.unsqueeze(-1).expand(*shape, 2)
        return Connection(empty, empty, zero, zero, zero)
    velocity, found = _fan(major, minor, tube, other, turn)
    straight = _wrap(other - tube)
    away = straight - 2 * math.pi * torch.where(straight >= 0, 1.0, -1.0)
    mean = major + minor * (torch.cos(tube) + torch.cos(other)) / 2
    lines = torch.stack(
        [torch.stack([minor * change, mean * turn], -1) for change in (straight, away)], -2
    )
    velocity = torch.cat([lines, velocity], -2)
    usable = torch.cat([torch.ones_like(found[..., :2]), found], -1)
    start, goal_tube, goal_turn = (
        v.unsqueeze(-1).expand(usable.shape) for v in (tube, other, turn)
    )
    reach = 1.5 * (minor * math.pi * 2 + (major + minor) * math.pi)
    for k in range(NEWTON + 1):
        along_tube, along_rotation = velocity.unbind(-1)
        path = follow(major, minor, start, along_tube, along_rotation)
        rho = major + minor * torch.cos(path.tube)
        miss_tube = minor * _wrap(goal_tube - path.tube)
        miss_turn = rho * (goal_turn - path.rotation)
        miss = torch.hypot(miss_tube, miss_turn)
        if k == NEWTON:
            break
        there = _unit(path.along_tube, path.along_rotation)
        here = _unit(along_tube, along_rotation)
        along = miss_tube * there[0] + miss_turn * there[1]
        across = miss_turn * there[0] - miss_tube * there[1]
        across = across / torch.where(path.first.abs() < 1e-6, 1e-6, path.first)
        step = torch.stack(
            [along * here[0] - across * here[1], along * here[1] + across * here[0]], -1
        )
        # A step of half the tube's radius at most: further off, the linear model means nothing.
        size = torch.linalg.vector_norm(step, dim=-1, keepdim=True)
        velocity = velocity + step * (0.5 * minor / size.clamp_min(0.5 * minor))
        length = torch.linalg.vector_norm(velocity, dim=-1, keepdim=True)
        velocity = velocity * (reach / length.clamp_min(reach))
    length = torch.linalg.vector_norm(velocity, dim=-1)
    good = usable & (miss <= 1e-9 * (1 + major))
    if not good.any(-1).all():
        k = int((~good.any(-1)).nonzero()[0])
        raise ArithmeticError(
            f"no geodesic found between tube angles {tube[k].item():.6g} and {other[k].item():.6g} "
            f"turned by {turn[k].item():.6g} on the torus of radii {major}, {minor}"
        )
    best = torch.where(good, length, math.inf).argmin(-1, keepdim=True)

    def chosen(value: Tensor) -> Tensor:
        return value.gather(-1, best).reshape(shape)

    return Connection(
        torch.stack([chosen(along_tube), chosen(along_rotation)], -1),
        torch.stack([chosen(path.along_tube), chosen(path.along_rotation)], -1),
        chosen(path.first),
        chosen(path.second),
        chosen(path.first_slope),
    )
