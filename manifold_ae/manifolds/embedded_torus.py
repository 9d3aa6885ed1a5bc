r"""The torus of revolution in ℝ³, with the metric that ℝ³ gives it."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds import torus_geodesics as geodesics
from manifold_ae.manifolds.profile import Profile
from manifold_ae.manifolds.revolution import Revolution, Shortest
from manifold_ae.numerics import Fused, normalise

__all__ = ["EmbeddedTorus"]


class EmbeddedTorus(Revolution):
    r"""Torus of revolution; points ((a + c cos φ) cos θ, (a + c cos φ) sin θ, c sin φ).

    Here a is the major radius, c the minor one, θ the rotation and φ the tube angle: φ = 0 on the
    outer equator, π on the inner. Volume 4π²ac, scalar curvature 2 cos φ / (c (a + c cos φ)).

    Distances, logarithms and transport follow the shortest geodesic, found numerically (see
    ``torus_geodesics``), at about two milliseconds a pair; they have first derivatives only. In
    float64 expmap(x, logmap(x, y)) returns to y within 1e-11 for the default radii; the inner
    equator is unstable, and makes that 1e-8 for a/c = 10 and 1e-5 for a/c = 20. Radii of ratio
    1.5 to 20 are verified; elsewhere the search may raise an ArithmeticError.

    Arguments:
        major_radius: a, from the axis to the middle of the tube.
        minor_radius: c, of the tube; 0 < c < a.

    Raises:
        ValueError: if the radii are not of a torus without self-intersection.

    Example:
        >>> M = EmbeddedTorus()
        >>> M.from_angles(torch.tensor([0.0, torch.pi / 2]))
        tensor([3.0000, 0.0000, 0.6000])
    """

    name = "EmbeddedTorus"
    angle_names = ("rotation", "tube")

    def __init__(self, major_radius: float = 3.0, minor_radius: float = 0.6) -> None:
        super().__init__()
        for name, value in (("major_radius", major_radius), ("minor_radius", minor_radius)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"EmbeddedTorus: {name} must be a number, got {value!r}")
        if not 0 < minor_radius < major_radius < math.inf:
            raise ValueError(
                f"EmbeddedTorus: radii must satisfy 0 < minor_radius < major_radius, got "
                f"major_radius = {major_radius!r}, minor_radius = {minor_radius!r}"
            )
        self._major = float(major_radius)
        self._minor = float(minor_radius)
        self._profile = Profile(
            np.array([self._major, self._minor, 0.0]),
            np.array([0.0, 0.0, self._minor]),
            2 * math.pi * self._minor,
            poles=False,
        )

    @property
    def _key(self) -> tuple[float, float]:
        return self._major, self._minor

    @property
    def major_radius(self) -> float:
        return self._major

    @property
    def minor_radius(self) -> float:
        return self._minor

    @property
    def profile(self) -> Profile:
        """The circle, as a series of one harmonic; its place α is the tube angle."""
        return self._profile

    @property
    def volume(self) -> float:
        return 4 * math.pi**2 * self._major * self._minor

    @property
    def spec(self) -> str:
        """The name that ``parse`` reads back.

        Raises:
            ValueError: for other radii than the default ones, which have no name.
        """
        if self._key != (3.0, 0.6):
            raise ValueError(
                f"{self!r} has no name: 'embedded-torus' is that of EmbeddedTorus(3.0, 0.6); "
                "construct other radii in Python"
            )
        return "embedded-torus"

    # ---- angles -----------------------------------------------------------------------------

    def from_angles(self, angles: Tensor) -> Tensor:
        """Points of shape ``(*, 3)`` at (rotation, tube), in radians, of shape ``(*, 2)``."""
        rotation, tube = angles.unbind(-1)
        rho = self._major + self._minor * torch.cos(tube)
        return torch.stack(
            [rho * torch.cos(rotation), rho * torch.sin(rotation), self._minor * torch.sin(tube)],
            -1,
        )

    def to_angles(self, x: Tensor) -> Tensor:
        """Rotation and tube angle in (−π, π], of shape ``(*, 2)``."""
        return torch.stack([torch.atan2(x[..., 1], x[..., 0]), self.tube_angle(x)], -1)

    def tube_angle(self, x: Tensor) -> Tensor:
        """φ in (−π, π], of shape ``(*)``."""
        rho = torch.linalg.vector_norm(x[..., :2], dim=-1)
        return torch.atan2(x[..., 2], rho - self._major)

    def place(self, x: Tensor) -> Tensor:
        """The tube angle."""
        return self.tube_angle(x)

    def tube_cosine(self, x: Tensor) -> Tensor:
        """cos φ, of shape ``(*)``."""
        return (torch.linalg.vector_norm(x[..., :2], dim=-1) - self._major) / self._minor

    def frame(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cos, sin = normalise(x[..., :2]).unbind(-1)
        rho = x[..., 0] * cos + x[..., 1] * sin
        tube = normalise(torch.stack([rho - self._major, x[..., 2]], -1))
        cos_tube, sin_tube = tube.unbind(-1)
        zero = torch.zeros_like(cos)
        return (
            torch.stack([-sin_tube * cos, -sin_tube * sin, cos_tube], -1),
            torch.stack([-sin, cos, zero], -1),
            torch.stack([cos_tube * cos, cos_tube * sin, sin_tube], -1),
        )

    # ---- maps -------------------------------------------------------------------------------

    def scalar_curvature(self, x: Tensor) -> Tensor:
        cosine = self.tube_cosine(x)
        return 2 * cosine / (self._minor * (self._major + self._minor * cosine))

    def projx(self, x: Tensor) -> Tensor:
        """Closest point of the torus.

        Points of the axis are as close to every rotation, and get θ = 0; those of the circle
        inside the tube are as close to every tube angle, and get φ = 0. The gradient of the angle
        that is chosen is zero there.
        """
        self._require("x", x, self.ambient_shape)
        equatorial = normalise(x[..., :2])
        rho = (x[..., :2] * equatorial).sum(-1)
        tube = normalise(torch.stack([rho - self._major, x[..., 2]], -1))
        radius = self._major + self._minor * tube[..., :1]
        return torch.cat([radius * equatorial, self._minor * tube[..., 1:]], -1)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        normal = self.frame(x)[2]
        return u - (normal * u).sum(-1, keepdim=True) * normal

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        along_tube, along_rotation, _ = self.frame(x.double())
        v = u.double()
        angles = self.to_angles(x.double())
        path = geodesics.follow(
            self._major,
            self._minor,
            angles[..., 1],
            (v * along_tube).sum(-1),
            (v * along_rotation).sum(-1),
        )
        end = torch.stack([angles[..., 0] + path.rotation, path.tube], -1)
        return self.from_angles(end).to(x.dtype)

    def velocities(self, x: Tensor, y: Tensor) -> Tensor:
        """Velocities of the shortest geodesic from x to y in unit time, at both of its ends.

        Components along the tube angle and the rotation at x, then at y, of shape ``(*, 4)``, in
        float64; differentiable once.
        """
        x, y = torch.broadcast_tensors(x.double(), y.double())
        dot = (x[..., :2] * y[..., :2]).sum(-1)
        cross = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
        turn = torch.atan2(cross, dot)
        return _Velocities.of(
            self._major, self._minor, self.tube_angle(x), self.tube_angle(y), turn
        )

    def shortest(self, x: Tensor, y: Tensor) -> Shortest:
        velocity = self.velocities(x, y)[..., :2]
        path = geodesics.follow(
            self._major, self._minor, self.tube_angle(x.double()), *velocity.unbind(-1)
        )
        turning = (path.first_slope + path.second) / 2
        return Shortest(velocity.square().sum(-1), path.first, turning, path.gauss)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The shortest u with expmap(x, u) = y; at the cut locus, one of them."""
        velocity = self.velocities(x, y)[..., :2].unsqueeze(-1)
        along_tube, along_rotation, _ = self.frame(x.double())
        u = velocity[..., 0, :] * along_tube + velocity[..., 1, :] * along_rotation
        return u.to(x.dtype)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        # The speed is the same at both ends but for rounding: their mean is symmetric in x and y.
        start, end = self.velocities(x, y).unflatten(-1, (2, 2)).unbind(-2)
        length = torch.linalg.vector_norm(start, dim=-1, keepdim=keepdim)
        length = (length + torch.linalg.vector_norm(end, dim=-1, keepdim=keepdim)) / 2
        return length.to(x.dtype)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport along the shortest geodesic: the angle with it is kept."""
        x, y = torch.broadcast_tensors(x.double(), y.double())
        tube, rotation, _ = self.frame(x)
        other_tube, other_rotation, _ = self.frame(y)
        start, end = self.velocities(x, y).unflatten(-1, (2, 2)).unbind(-2)
        # Of points closer than this the direction is rounding; the frame turns by ∫ sin φ dθ.
        still = (start * start).sum(-1, keepdim=True) < 1e-12
        middle = (self.tube_angle(x) + self.tube_angle(y)) / 2
        cross = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
        angle = torch.sin(middle) * cross / x[..., :2].square().sum(-1)
        turned = torch.stack([torch.cos(angle), torch.sin(angle)], -1)
        fixed = torch.zeros_like(turned)
        fixed[..., 0] = 1
        start = normalise(torch.where(still, fixed, start))
        end = normalise(torch.where(still, turned, end))
        cos = (start * end).sum(-1)
        sin = start[..., 0] * end[..., 1] - start[..., 1] * end[..., 0]
        a, b = (v.double() * tube).sum(-1), (v.double() * rotation).sum(-1)
        a, b = (a * cos - b * sin).unsqueeze(-1), (a * sin + b * cos).unsqueeze(-1)
        return (a * other_tube + b * other_rotation).to(v.dtype)

    @property
    def short_time_limit(self) -> float:
        """At most 1/2, and the time at which Brownian motion has not yet gone round the tube."""
        return min(1 / 2, (2 * math.pi * self.minor_radius / 7) ** 2)

    def base_point(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        """The point of the outer equator at θ = 0."""
        return self.from_angles(torch.zeros(2, dtype=dtype, device=device))

    def random_uniform(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        """Points uniform with respect to area: the tube angle has density (1 + c/a cos φ)/2π.

        A uniform φ is kept with probability (1 + c/a cos φ)/2 and moved by π otherwise, which
        gives that density exactly.
        """
        shape = (*sample_shape, 3)
        draws = torch.rand(shape, generator=generator, dtype=dtype, device=device)
        rotation, tube = (2 * math.pi * draws[..., :2]).unbind(-1)
        kept = 2 * draws[..., 2] < 1 + self._minor / self._major * torch.cos(tube)
        tube = torch.where(kept, tube, tube + math.pi)
        return self.from_angles(torch.stack([rotation, tube], -1))


class _Velocities(Fused):
    """(c φ̇, ρ θ̇) at both ends of the shortest geodesic between (φ, 0) and (φ', turn).

    The derivative is that of the boundary value problem of Jacobi's equation: moving the far end
    by (p, n), along the geodesic and across it, changes the velocity here by (p, n/J₁); moving the
    near end with its velocity kept parallel, by (−p, −n J₂/J₁).
    """

    constants = 2
    first_only = "the shortest geodesics of EmbeddedTorus"

    @staticmethod
    def value(*arguments: Any) -> tuple[Tensor, ...]:
        major, minor, tube, other, turn = arguments
        # Solved from the smaller tube angle, so that distances are symmetric to the last bit.
        swap = tube > other
        low, high = torch.where(swap, other, tube), torch.where(swap, tube, other)
        found = geodesics.connect(major, minor, low, high, turn.abs())
        turned = torch.stack([torch.ones_like(turn), torch.where(turn < 0, -1.0, 1.0)], -1)
        swapped = swap.unsqueeze(-1)
        start = torch.where(swapped, -found.end, found.start)
        end = torch.where(swapped, -found.start, found.end)
        # Reversed in rotation and in direction: (ṫ, ṙ) → (ṫ, −ṙ) at the ends exchanged.
        flip = torch.where(swapped, turned.new_tensor([1.0, -1.0]), 1.0)
        start, end = start * flip * turned, end * flip * turned
        # J₂ of the path run backwards is J̇₁ at its end.
        forward = torch.where(swap, found.first_slope, found.second)
        backward = torch.where(swap, found.second, found.first_slope)
        return torch.cat([start, end], -1), start, end, found.first, forward, backward

    @staticmethod
    def derivative(gradient: Tensor, *saved: Any) -> tuple[Tensor | None, ...]:
        major, minor, _, other, turn, start, end, first, forward, backward = saved
        tiny = torch.finfo(first.dtype).eps
        inverse = 1 / torch.where(first.abs() < tiny, tiny, first)
        here, there = _direction(start), _direction(end)
        total: list[Tensor] = []
        # What the gradient says of the components along and across the geodesic at both ends.
        at_start, at_end = gradient[..., :2], gradient[..., 2:]
        a0, n0 = _along_across(at_start, here)
        a1, n1 = _along_across(at_end, there)

        def moved(near_by: Tensor, far_by: Tensor) -> Tensor:
            """Change of the loss as the ends move by vectors with their velocities parallel."""
            p0, m0 = _along_across(near_by, here)
            p1, m1 = _along_across(far_by, there)
            across_start = (m1 - m0 * forward) * inverse
            across_end = (m1 * backward - m0) * inverse
            return (p1 - p0) * (a0 + a1) + across_start * n0 + across_end * n1

        zero = torch.zeros_like(start)
        unit_tube = torch.stack([torch.full_like(turn, minor), torch.zeros_like(turn)], -1)
        rho = major + minor * torch.cos(other)
        unit_turn = torch.stack([torch.zeros_like(turn), rho], -1)
        total.append(moved(unit_tube, zero))
        total.append(moved(zero, unit_tube))
        # The frame turns along a parallel: its components change by ∓ sin φ a radian.
        turning = moved(zero, unit_turn)
        sine = torch.sin(other)
        turning = turning + sine * (at_end[..., 0] * -end[..., 1] + at_end[..., 1] * end[..., 0])
        total.append(turning)
        return tuple(total)


def _direction(velocity: Tensor) -> Tensor:
    still = (velocity == 0).all(-1, keepdim=True)
    return normalise(torch.where(still, velocity.new_tensor([1.0, 0.0]), velocity))


def _along_across(vector: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    along = (vector * direction).sum(-1)
    across = direction[..., 0] * vector[..., 1] - direction[..., 1] * vector[..., 0]
    return along, across
