r"""A manifold that the user brings: a submanifold of ℝᴰ given by its closest-point projection.

The projection P, or a function whose zeros are the manifold, is all that has to be written. What
else the library asks for follows from it by automatic differentiation: at points x,

    tangent projector DP(x),    second fundamental form II(u, v) = D²P(x)[u, v],
    scalar curvature |tr II|² − |II|² (Gauss),    geodesics x'' = II(x', x'),

and, by a Monte Carlo method with a standard error, the volume and uniform samples (see ``tube``).
The metric is the one that ℝᴰ induces.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from manifold_ae.manifolds.base import Manifold
from manifold_ae.manifolds.chords import chord
from manifold_ae.manifolds.closest_point import ClosestPoint
from manifold_ae.manifolds.derivatives import Map, jacobian
from manifold_ae.manifolds.diagnosis import Report, diagnose
from manifold_ae.manifolds.projection import Embedding, Projection, bending, lifted
from manifold_ae.manifolds.tube import Tube

__all__ = ["Submanifold"]

#: Entries of the second derivatives that are held at once.
CHUNK = 2**22
#: Points at which the rank of DP is counted.
RANK_POINTS = 64


class Submanifold(Manifold):
    r"""The submanifold of ℝᴰ whose closest-point projection is ``project``.

    Arguments:
        ambient_shape: shape of a point.
        project: P, from ``(*, *ambient_shape)`` to the same shape, dtype and device: the closest
            point of the manifold, twice differentiable near it.
        level_set: in place of ``project``, a function from ``(*, *ambient_shape)`` to ``(*, k)``,
            or ``(*)``, whose zeros are the manifold, with a derivative of rank k there; the closest
            point is then solved for (see ``closest_point``).
        name: what it is called; the name of the function if none is given.
        dim: its dimension; the rank of DP if none is given.
        volume: its volume, ``math.inf`` if it is not compact; otherwise estimated when asked for.
        sample: draws uniformly: ``sample(n, generator=, dtype=, device=)``, of shape
            ``(n, *ambient_shape)``; otherwise by rejection from the estimate of the volume.
        geodesic_steps: steps in which ``expmap`` integrates the geodesic.
        dtype, device: where dimension and volume are found; float64 on the CPU.

    ``check`` looks for the usual mistakes in a projection: run it first. Two are equal if their
    arguments are, functions being compared by identity. It has no logarithm and no distance.

    Example:
        >>> M = Submanifold((3,), lambda y: y / y.norm(dim=-1, keepdim=True), name="sphere")
        >>> M.dim, round(M.scalar_curvature(torch.tensor([0.0, 0.6, 0.8])).item(), 4)
        (2, 2.0)
    """

    name = "Submanifold"

    def __init__(
        self,
        ambient_shape: tuple[int, ...],
        project: Map | None = None,
        *,
        level_set: Map | None = None,
        name: str | None = None,
        dim: int | None = None,
        volume: float | None = None,
        sample: Callable[..., Tensor] | None = None,
        geodesic_steps: int = 32,
        dtype: torch.dtype = torch.float64,
        device: Any = None,
    ) -> None:
        super().__init__()
        shape = (ambient_shape,) if isinstance(ambient_shape, int) else tuple(ambient_shape)
        if not shape or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
            raise ValueError(
                f"ambient_shape = {ambient_shape!r} must hold positive integers, as (3,) does"
            )
        if (project is None) == (level_set is None):
            raise ValueError(
                "give one of project= (the closest point) and level_set= (a function that is zero "
                f"on the manifold), got {'neither' if project is None else 'both'}"
            )
        for label, function in (("project", project), ("level_set", level_set), ("sample", sample)):
            if function is not None and not callable(function):
                raise ValueError(f"{label} = {function!r} must be a function of a tensor")
        ambient = math.prod(shape)
        if dim is not None and (
            isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim < ambient
        ):
            raise ValueError(f"dim = {dim!r} must be an integer from 1 to {ambient - 1}")
        if volume is not None and not volume > 0:
            raise ValueError(f"volume = {volume!r} must be positive, or None to be estimated")
        if isinstance(geodesic_steps, bool) or not isinstance(geodesic_steps, int):
            raise ValueError(f"geodesic_steps = {geodesic_steps!r} must be an integer")
        if geodesic_steps < 1:
            raise ValueError(f"geodesic_steps = {geodesic_steps} must be at least 1")
        given = project if level_set is None else level_set
        assert given is not None
        self.name = name or getattr(given, "__name__", type(given).__name__)
        self.embedding: Embedding = (
            Projection(given, shape, self.name)
            if level_set is None
            else ClosestPoint(level_set, shape, self.name)
        )
        self.ndim = len(shape)
        self.geodesic_steps = geodesic_steps
        self._shape, self.given_dim, self._volume = shape, dim, volume
        # In a tuple, out of the sight of nn.Module, which would take over a module's parameters.
        self._functions = (project, level_set, sample)
        self.like = torch.empty(0, dtype=dtype, device=device)

    @property
    def _key(self) -> tuple[Any, ...]:
        return (
            self._shape, *self._functions, self.name, self.given_dim, self._volume,
            self.geodesic_steps, self.like.dtype, self.like.device,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Submanifold({self._shape}, name={self.name!r})"

    @property
    def ambient_shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def spec(self) -> str:
        """Its name: ``manifolds.parse`` cannot read a function back."""
        return self.name

    # ---- what is found out once ---------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Dimension: given, or the rank of DP, which has to be the same at all points tried.

        Raises:
            ValueError: if it is not, or DP is no projector.
        """
        return self._found_dim if self.given_dim is None else self.given_dim

    @property
    def volume(self) -> float:
        """Volume: given, or a Monte Carlo estimate with standard error ``volume_error``.

        Estimated once, with a fixed seed, on first use; see ``manifolds.tube``.

        Raises:
            ValueError: if it cannot be estimated; the message says why.
        """
        return self._tube.volume if self._volume is None else self._volume

    @property
    def volume_error(self) -> float:
        """Standard error of ``volume``; zero if it was given."""
        return self._tube.error if self._volume is None else 0.0

    @cached_property
    def _seeds(self) -> Tensor:
        """Points of the manifold, flat ``(n, D)``."""
        with torch.no_grad():
            noise = torch.randn(
                RANK_POINTS,
                math.prod(self._shape),
                generator=torch.Generator().manual_seed(0),
                dtype=torch.float64,
            )
            return self.embedding.project(self.embedding.project(noise.to(self.like)))

    @cached_property
    def _found_dim(self) -> int:
        with torch.no_grad():
            slopes = jacobian(self.embedding.project, self._seeds)
            values = torch.linalg.svdvals(slopes)
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"{self!r}: the derivative of its projection is not finite")
        ranks = (values > 0.5).sum(-1)
        low, high = int(ranks.min()), int(ranks.max())
        blurred = values[(values > 0.1) & (values < 0.9)]
        if low != high or blurred.numel():
            raise ValueError(
                f"{self!r}: the derivative of its projection has rank {low} to {high}, and "
                f"{blurred.numel()} singular values that are neither 0 nor 1; on a manifold it is "
                "a projector of constant rank. M.check() says more"
            )
        if not 1 <= low < values.shape[-1]:
            raise ValueError(
                f"{self!r}: the derivative of its projection has rank {low}; a submanifold of "
                f"dimension 1 to {values.shape[-1] - 1} was expected"
            )
        return low

    @cached_property
    def _tube(self) -> Tube:
        try:
            return Tube.of(self.embedding.project, self.dim, math.prod(self._shape), self.like)
        except ValueError as error:
            raise ValueError(f"{self!r}: {error}") from None

    @cached_property
    def _largest_form(self) -> float:
        """The largest |II|² at the points tried."""
        with torch.no_grad():
            return self.embedding.form(self._seeds).square().sum((-3, -2, -1)).max().item()

    @property
    def short_time_limit(self) -> float:
        """1/|II|², where that is largest of the points tried: 1/d on the unit sphere."""
        form = self._largest_form
        return 1 / form if form > 0 else math.inf

    # ---- whether it is right --------------------------------------------------------------------

    def check(self, points: Tensor | None = None, *, seed: int = 0) -> Report:
        """Look for what is wrong with the projection; see ``manifolds.diagnosis``.

        Args:
            points: ambient points near the manifold, of shape ``(n, *ambient_shape)``, n at least
                8, in float64 as a rule; if none are given, normal ones of a fitting spread.
            seed: where the random directions start.

        Returns:
            A report: ``ok``, ``problems`` in words, and the figures; ``print`` it.
        """
        with torch.no_grad():
            return diagnose(self, points, seed)

    # ---- projections ----------------------------------------------------------------------------

    def _flat(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors of points or vectors, broadcast, each of shape ``(n, D)``."""
        tensors = tuple(torch.broadcast_tensors(*tensors))
        dim = math.prod(self._shape)
        return tuple(tensor.reshape(tensor.numel() // dim, dim) for tensor in tensors)

    def _over(self, function: Map, x: Tensor) -> Tensor:
        """A function of flat points, in parts that fit into memory."""
        rows = max(1, CHUNK // x.shape[-1] ** 3)
        if len(x) <= rows:
            return function(x)
        return torch.cat([function(part) for part in x.split(rows)])

    def projx(self, x: Tensor) -> Tensor:
        """The closest point.

        Raises:
            ValueError: if ``project`` changes shape or dtype.
            RuntimeError: if a level set's closest point is not found.
        """
        return self.embedding(x)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """Tangent part DP(x) u."""
        shape = torch.broadcast_shapes(x.shape, u.shape)
        points, vectors = self._flat(x, u)
        return self.embedding.tangent(points, vectors).reshape(shape)

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        product = u * (u if v is None else v)
        return product.sum(tuple(range(-self.ndim, 0)), keepdim=keepdim)

    # ---- curvature ------------------------------------------------------------------------------

    def second_fundamental_form(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """II(u, v), normal at x, of the shape of a point; of u and v the tangent parts count."""
        shape = torch.broadcast_shapes(x.shape, u.shape, v.shape)
        points, *vectors = self._flat(x, u, v)
        u, v = (self.embedding.tangent(points, vector) for vector in vectors)
        return self.embedding.bend(points, u, v).reshape(shape)

    def scalar_curvature(self, x: Tensor) -> Tensor:
        """|tr II|² − |II|² by Gauss' equation, of shape ``(*)``."""

        def curvature(x: Tensor) -> Tensor:
            form = self.embedding.form(x)
            trace = form.diagonal(dim1=-2, dim2=-1).sum(-1)
            return trace.square().sum(-1) - form.square().sum((-3, -2, -1))

        (points,) = self._flat(x)
        return self._over(curvature, points).reshape(x.shape[: x.dim() - self.ndim])

    def mean_curvature(self, x: Tensor) -> Tensor:
        """The mean curvature vector tr II / d, of the shape of x: −x on the unit sphere."""

        def trace(x: Tensor) -> Tensor:
            form = self.embedding.form(x)
            return form.diagonal(dim1=-2, dim2=-1).sum(-1)

        (points,) = self._flat(x)
        return (self._over(trace, points) / self.dim).reshape(x.shape)

    def walk_centre(self, x: Tensor, t: Tensor) -> Tensor:
        (points,) = self._flat(x)
        found = self._over(lambda x: bending(self.embedding.form(x)), points)
        batch = x.shape[: x.dim() - self.ndim]
        return lifted(x, t, found[:, :-1].reshape(x.shape), found[:, -1].reshape(batch))

    # ---- maps -----------------------------------------------------------------------------------

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        r"""End of the geodesic that starts at x with velocity u and runs for a unit of time.

        x'' = D²P(x)[x', x'], by ``geodesic_steps`` steps of the classical Runge–Kutta method, each
        followed by a projection of point and velocity: of order four. On the unit sphere the error
        of 32 steps is 8e-6 at length π, and 3e-8 at length 1.
        """
        shape = torch.broadcast_shapes(x.shape, u.shape)
        z, v = self._flat(x, u)
        h = 1 / self.geodesic_steps
        v = self.embedding.tangent(z, v)
        bend = self.embedding.bend
        for _ in range(self.geodesic_steps):
            a1 = bend(z, v, v)
            v2 = v + h / 2 * a1
            a2 = bend(z + h / 2 * v, v2, v2)
            v3 = v + h / 2 * a2
            a3 = bend(z + h / 2 * v2, v3, v3)
            v4 = v + h * a3
            a4 = bend(z + h * v3, v4, v4)
            z = self.embedding.project(z + h / 6 * (v + 2 * v2 + 2 * v3 + v4))
            v = self.embedding.tangent(z, v + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4))
        return z.reshape(shape)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError(
            f"{self!r} has no logarithm: a projection does not tell which geodesic is the "
            "shortest; for neighbouring points M.proju(x, y - x) is right to second order"
        )

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        raise NotImplementedError(
            f"{self!r} has no geodesic distance: a projection does not tell which geodesic is the "
            "shortest; the chord |x - y| bounds it from below, and "
            "M.dist_nearby(x, y) gives it for neighbouring points"
        )

    def dist_nearby(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Geodesic distance of neighbouring points, of shape ``(*)``, from their chord c.

        Right to O(κ⁴c⁵), and exact where geodesics are circles; see ``manifolds.chords``.

        Raises:
            ValueError: for points between which M turns by more than an angle of one.
        """
        points = self._flat(x, y)
        found = chord(self.embedding, *points)
        if not bool(found.near.all()):
            first, second = (p.detach()[~found.near][0].tolist() for p in points)
            raise ValueError(
                f"x = {first} and y = {second} are too far apart on {self!r} for their chord to "
                "tell the distance: the tangent plane turns by more than about 1 radian between "
                "them"
            )
        shape = torch.broadcast_shapes(x.shape, y.shape)
        # The root of zero has no derivative; the subgradient there is zero.
        positive = found.squared_distance > 0
        root = torch.where(positive, found.squared_distance, 1.0).sqrt()
        return torch.where(positive, root, 0.0).reshape(shape[: len(shape) - self.ndim])

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Transport by projection: the tangent part of v at y; parallel to first order."""
        return self.proju(y, v.expand(torch.broadcast_shapes(x.shape, v.shape)))

    # ---- points ---------------------------------------------------------------------------------

    def base_point(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        dtype = torch.get_default_dtype() if dtype is None else dtype
        return self._seeds[0].reshape(self._shape).to(device=device or "cpu", dtype=dtype)

    def random_uniform(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        """Uniform points, by ``sample`` or by rejection (see ``manifolds.tube``).

        Rejection is exact but on a share of the volume of the order of 1e-5, which comes too
        rarely: where the weight of a proposal exceeds all those that the volume is the mean of.
        """
        dtype = torch.get_default_dtype() if dtype is None else dtype
        n = math.prod(sample_shape)
        shape = (*sample_shape, *self._shape)
        sample = self._functions[2]
        with torch.no_grad():
            if sample is not None:
                points = sample(n, generator=generator, dtype=dtype, device=device)
                if tuple(points.shape) != (n, *self._shape):
                    raise ValueError(
                        f"sample of {self!r} returned shape {tuple(points.shape)} for n = {n}; "
                        f"expected {(n, *self._shape)}"
                    )
                return points.reshape(shape)
            if self._volume is not None and math.isinf(self._volume):
                raise ValueError(
                    f"{self!r} has infinite volume and no uniform distribution; give sample= if "
                    "there is a law to start from"
                )
            like = torch.empty(0, dtype=dtype, device=device)
            return self._tube.sample(n, generator, like).reshape(shape)
