r"""Surfaces of revolution in ℝ³, with the metric that ℝ³ gives them.

Points are (ρ(α) cos θ, ρ(α) sin θ, z(α)): θ is the rotation, α = 2πs/P the place on the profile, by
arclength (see ``profile``). The closest point lies on the same half plane through the axis, so that
it is the closest on the profile.
"""

import math
from abc import abstractmethod
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_ae.manifolds import revolution_geodesics as geodesics
from manifold_ae.manifolds.base import Manifold, check_prime
from manifold_ae.manifolds.profile import Curve, Profile
from manifold_ae.manifolds.projection import lifted
from manifold_ae.manifolds.revolution_connect import basis, connect, correction
from manifold_ae.numerics import axial_norm, differentiable_once, normalise

__all__ = ["Revolution", "Shortest", "Spheroid", "SurfaceOfRevolution"]


class Shortest(NamedTuple):
    """What the heat kernel asks of a shortest geodesic run in unit time; each of shape ``(*)``.

    Float64, and differentiable once.
    """

    square: Tensor  # r²
    spread: Tensor  # J, the determinant of the exponential map
    turning: Tensor  # the mean of its rates J̇ at both ends
    gauss: Tensor  # the mean of Gauss' curvature along the way


class Revolution(Manifold):
    """What the heat kernel asks of a surface of revolution; θ and α are its coordinates."""

    @property
    @abstractmethod
    def profile(self) -> Profile:
        """The curve that is turned about the z axis."""

    @abstractmethod
    def place(self, x: Tensor) -> Tensor:
        """α of points x ``(*, 3)``, of shape ``(*)``."""

    @abstractmethod
    def shortest(self, x: Tensor, y: Tensor) -> Shortest:
        """Of points ``(*, 3)``."""

    @abstractmethod
    def frame(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors along the profile and the rotation, and the normal (z', −ρ')."""

    def walk_centre(self, x: Tensor, t: Tensor) -> Tensor:
        point = x.double()
        along, across = self.profile.principal_curvatures(self.place(point))
        total = along + across
        trace = -total.unsqueeze(-1) * self.frame(point)[2]
        square = total.square() * (along.square() + across.square())
        return lifted(point, t.double(), trace, square).to(x.dtype)

    def betti_numbers(self, prime: int = 2) -> tuple[int, ...]:
        """Those of a sphere with poles, of a torus without."""
        check_prime(prime)
        return (1, 0, 1) if self.profile.poles else (1, 2, 1)

    @property
    def dim(self) -> int:
        return 2

    @property
    def ambient_shape(self) -> tuple[int]:
        return (3,)


class SurfaceOfRevolution(Revolution):
    r"""The surface that a profile curve sweeps as it turns about the z axis.

    The curve is closed and off the axis, and the surface a torus; or it leads from pole to pole,
    and the surface is a sphere. Scalar curvature −2ρ''(s)/ρ(s), volume 2π∫ρ ds.

    Arguments:
        profile: from parameters u of shape ``(n,)``, float64, to a pair of tensors of that shape:
            ρ, the distance from the axis, and z. u runs over [0, 2π] where the curve is closed,
            over [0, π] where it leads from pole to pole; it need not be the arclength.
        poles: whether the curve starts and ends on the axis.
        name: what it is called; the name of the function if none is given.

    Two are equal if their arguments are, functions being compared by identity.

    Distances, logarithms and transport follow the shortest geodesic, found numerically (see
    ``revolution_connect``), at some two milliseconds a pair of a batch; they have first derivatives
    only.

    Raises:
        ValueError: if the profile is not a smooth curve of its kind without self-intersection.

    Example:
        >>> def bean(u):
        ...     return 2 + u.cos() - 0.2 * (2 * u).cos(), u.sin()
        >>> M = SurfaceOfRevolution(bean)
        >>> round(M.volume, 4)
        76.7174
    """

    name = "SurfaceOfRevolution"
    angle_names = ("rotation", "profile")

    def __init__(self, profile: Curve, *, poles: bool = False, name: str | None = None) -> None:
        super().__init__()
        if not callable(profile):
            raise ValueError(f"profile = {profile!r} must be a function of a tensor")
        if not isinstance(poles, bool):
            raise ValueError(f"poles = {poles!r} must be True or False")
        self.name = name or getattr(profile, "__name__", type(profile).__name__)
        # In a tuple, out of the sight of nn.Module, which would take over a module's parameters.
        self._given = (profile, poles)
        self._profile = Profile.of(profile, poles, repr(self))

    @property
    def _key(self) -> tuple[Any, ...]:
        return (*self._given, self.name)

    def __repr__(self) -> str:
        return f"SurfaceOfRevolution({self.name}, poles={self._given[1]})"

    @property
    def profile(self) -> Profile:
        return self._profile

    @cached_property
    def _area(self) -> float:
        return self.profile.area

    @property
    def volume(self) -> float:
        return self._area

    @property
    def spec(self) -> str:
        """Its name: ``manifolds.parse`` cannot read a function back."""
        return self.name

    # ---- coordinates ------------------------------------------------------------------------

    def place(self, x: Tensor) -> Tensor:
        """α ∈ (−π, π], with poles in [0, π], of the closest point to x ``(*, 3)``."""
        return self._placed(axial_norm(x.double()), x[..., 2].double()).to(x.dtype)

    def _placed(self, rho: Tensor, z: Tensor) -> Tensor:
        """``place`` of the closest point to (ρ, z), in float64."""
        angle = self.profile.closest(rho, z)
        if self.profile.poles:
            return angle
        return torch.where(angle > math.pi, angle - 2 * math.pi, angle)

    def from_angles(self, angles: Tensor) -> Tensor:
        """Points of shape ``(*, 3)`` at (rotation, profile), of shape ``(*, 2)``."""
        rotation, place = angles.double().unbind(-1)
        at = self.profile.jet(place)
        x = torch.stack([at.rho * torch.cos(rotation), at.rho * torch.sin(rotation), at.z], -1)
        return x.to(angles.dtype)

    def to_angles(self, x: Tensor) -> Tensor:
        """Rotation in (−π, π] and α, of shape ``(*, 2)``."""
        return torch.stack([torch.atan2(x[..., 1], x[..., 0]), self.place(x)], -1)

    def frame(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        at = self.profile.jet(self.place(x.double()))
        cos, sin = normalise(x[..., :2].double()).unbind(-1)
        # The series' speed is one but for their rounding.
        speed = torch.hypot(at.rho_slope, at.z_slope)
        at = at._replace(rho_slope=at.rho_slope / speed, z_slope=at.z_slope / speed)
        # At the poles, where the direction means nothing, the normal's share of it is zero.
        across = x[..., :2].double() * (at.z_slope / axial_norm(x.double())).unsqueeze(-1)
        return (
            torch.stack([at.rho_slope * cos, at.rho_slope * sin, at.z_slope], -1).to(x.dtype),
            torch.stack([-sin, cos, torch.zeros_like(cos)], -1).to(x.dtype),
            torch.cat([across, -at.rho_slope.unsqueeze(-1)], -1).to(x.dtype),
        )

    # ---- maps -------------------------------------------------------------------------------

    def scalar_curvature(self, x: Tensor) -> Tensor:
        return (2 * self.profile.curvature(self.place(x.double()))).to(x.dtype)

    def projx(self, x: Tensor) -> Tensor:
        """Closest point of the surface.

        Points of the axis may be as close to every rotation, and get θ = 0; those as close to two
        places of the profile get one of them.
        """
        self._require("x", x, self.ambient_shape)
        y = x.double()
        rho = axial_norm(y)
        at = self.profile.jet(self.profile.closest(rho, y[..., 2]))
        # Next to a pole as a factor, which is smooth there; elsewhere along a unit vector, which
        # the axis has too.
        pole = (at.rho.detach() < 1e-3 * self.profile.scale).unsqueeze(-1)
        factor = (at.rho / rho).unsqueeze(-1) * y[..., :2]
        # Of x in its own dtype, which holds the slope 1/ρ too.
        unit = normalise(x[..., :2]).double()
        flat = torch.where(pole, factor, at.rho.unsqueeze(-1) * unit)
        return torch.cat([flat, at.z.unsqueeze(-1)], -1).to(x.dtype)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        normal = self.frame(x)[2]
        return u - (normal * u).sum(-1, keepdim=True) * normal

    # ---- geodesics --------------------------------------------------------------------------

    @cached_property
    def _chart(self) -> geodesics.Ring | geodesics.Cap:
        return (geodesics.Cap if self.profile.poles else geodesics.Ring)(self.profile)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """End of the geodesic that starts at x with velocity u, in unit time."""
        start = x.double()
        return geodesics.follow(self._chart, start, self.place(start), u.double()).end.to(x.dtype)

    def _joined(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, geodesics.Path]:
        """Which pairs are exchanged, and the shortest geodesic of each, with its velocity.

        Pairs are ordered by α, so that distances are symmetric to the last bit. The derivatives are
        those of one of Newton's steps, at its end: of the implicit function.
        """
        x, y = torch.broadcast_tensors(x.double(), y.double())
        shape = x.shape[:-1]
        x, y = x.reshape(-1, 3), y.reshape(-1, 3)
        finite = (torch.isfinite(x) & torch.isfinite(y)).all(-1, keepdim=True)
        rest = self.base_point(dtype=x.dtype, device=x.device)
        # What rounding, that of float32 above all, has moved off the surface is never met.
        x, y = (self.projx(torch.where(finite, point, rest)) for point in (x, y))
        # By the norm as it is: a smooth one is 1e-7 at a pole, and no path from there would arrive.
        place, other = (
            self._placed(torch.linalg.vector_norm(point[:, :2], dim=-1), point[:, 2])
            for point in (x, y)
        )
        swap = place > other
        x, y = torch.where(swap[:, None], y, x), torch.where(swap[:, None], x, y)
        place, other = torch.where(swap, other, place), torch.where(swap, place, other)
        normal = self.frame(x)[2]
        parts = (part.detach() for part in (x, place, normal, y, other))
        u = connect(self._chart, *parts)
        if x.requires_grad or y.requires_grad:
            with torch.no_grad():
                path = geodesics.follow(self._chart, x, place, u)
            moved = u - (u * normal).sum(-1, keepdim=True) * normal
            end = geodesics.follow(self._chart, x, place, moved).end
            u = moved + correction(path, normal.detach(), u, y - end)
            u = differentiable_once(u, f"the shortest geodesics of {self!r}")
        # To itself no way at all: what rounding leaves of it has no direction.
        u = torch.where((x == y).all(-1, keepdim=True), u - u.detach(), u)
        path = geodesics.follow(self._chart, x, place, u)
        u = torch.where(finite, u, torch.nan)
        return swap.reshape(shape), u.reshape(*shape, 3), path.reshaped(shape)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The shortest u with expmap(x, u) = y; at the cut locus, one of them."""
        swap, u, path = self._joined(x, y)
        # Geodesics keep their speed, and their integration all but a few roundings of it.
        before, after = (v.detach().square().sum(-1, keepdim=True) for v in (u, path.velocity))
        ratio = torch.where(after > 0, before / after, 1.0).sqrt()
        u = torch.where(swap.unsqueeze(-1), -ratio * path.velocity, u)
        return self.proju(x.double(), u).to(x.dtype)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        u = self._joined(x, y)[1]
        return torch.linalg.vector_norm(u, dim=-1, keepdim=keepdim).to(x.dtype)

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport along the shortest geodesic: the angle with it is kept."""
        swap, u, path = self._joined(x, y)
        swap = swap.unsqueeze(-1)
        here, there = self.frame(x.double())[2], self.frame(y.double())[2]
        here, there = torch.broadcast_tensors(here, there)
        # Of points closer than this the direction is rounding: the normal is turned to the other.
        still = (u * u).sum(-1, keepdim=True) < 1e-12
        start = torch.where(swap, -path.velocity, u)
        end = torch.where(swap, -u, path.velocity)
        aside = basis(here, torch.zeros_like(here))[0]
        along, across = basis(here, torch.where(still, aside, start))
        v = v.double()
        turned = aside - (aside * there).sum(-1, keepdim=True) / (
            1 + (here * there).sum(-1, keepdim=True).clamp_min(-0.5)
        ) * (here + there)
        after, beside = basis(there, torch.where(still, turned, end))
        moved = (v * along).sum(-1, keepdim=True) * after
        return (moved + (v * across).sum(-1, keepdim=True) * beside).to(x.dtype)

    def shortest(self, x: Tensor, y: Tensor) -> Shortest:
        _, u, path = self._joined(x, y)
        # J₂ of the path run backwards is J̇₁ at its end.
        turning = (path.first_slope + path.second) / 2
        return Shortest(u.square().sum(-1), path.first, turning, path.gauss)

    @property
    def short_time_limit(self) -> float:
        r"""1/3K where \|K\| is largest, and before Brownian motion has gone round the surface.

        The formula is within 0.05 nats there: on spheroids of ratio 0.6 and 1.5 it is off by 0.046
        and 0.042, and at 1/2K by 0.08, since the curvature varies.
        """
        return min(1 / (3 * self.profile.largest_curvature), (self.profile.shortest_loop / 7) ** 2)

    def base_point(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        """The point at θ = 0 and α = 0; with poles, half way between them."""
        angles = torch.zeros(2, dtype=dtype, device=device)
        angles[1] = math.pi / 2 if self.profile.poles else 0.0
        return self.from_angles(angles)

    def random_uniform(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        """Points uniform with respect to area: θ uniform, α by the inverse of ∫ρ ds."""
        dtype = torch.get_default_dtype() if dtype is None else dtype
        draws = torch.rand(
            (*sample_shape, 2), generator=generator, dtype=torch.float64, device=device
        )
        place = self.profile.covered(draws[..., 1])
        return self.from_angles(torch.stack([2 * math.pi * draws[..., 0], place], -1)).to(dtype)


class Spheroid(SurfaceOfRevolution):
    r"""Ellipsoid of revolution; points with (x² + y²)/a² + z²/c² = 1.

    Arguments:
        equatorial_radius: a.
        polar_radius: c; longer than a for a prolate spheroid, shorter for an oblate one.

    Raises:
        ValueError: if a radius is not positive, or their ratio too large for a profile.

    Example:
        >>> round(Spheroid(1.0, 1.0).volume, 6)  # 4π
        12.566371
    """

    name = "Spheroid"

    def __init__(self, equatorial_radius: float = 1.0, polar_radius: float = 1.5) -> None:
        radii = (("equatorial_radius", equatorial_radius), ("polar_radius", polar_radius))
        for name, value in radii:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"Spheroid: {name} must be a number, got {value!r}")
            if not 0 < value < math.inf:
                raise ValueError(f"Spheroid: {name} must be positive and finite, got {value!r}")
        a, c = float(equatorial_radius), float(polar_radius)
        self._radii = (a, c)
        super().__init__(
            lambda u: (a * torch.sin(u), c * torch.cos(u)), poles=True, name="Spheroid"
        )

    @property
    def _key(self) -> tuple[float, float]:
        return self._radii

    def __repr__(self) -> str:
        return f"Spheroid({self._radii[0]!r}, {self._radii[1]!r})"

    @property
    def spec(self) -> str:
        """The name that ``parse`` reads back.

        Raises:
            ValueError: for other radii than the default ones, which have no name.
        """
        if self._key != (1.0, 1.5):
            raise ValueError(
                f"{self!r} has no name: 'spheroid' is that of Spheroid(1.0, 1.5); construct other "
                "radii in Python"
            )
        return "spheroid"
