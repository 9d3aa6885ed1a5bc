"""What every latent manifold knows: its coordinates, its maps, its volume and its curvature.

A point is the trailing axis (or axes) of a tensor, of shape ``(*, *M.ambient_shape)``. Manifolds
are immutable values: two of the same kind and size are equal, and hash alike. They subclass
``geoopt.Manifold``, so that geoopt's ``ManifoldParameter`` and ``RiemannianAdam`` take them.
"""

import functools
import importlib
import inspect
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import geoopt
import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds.projection import Projection, bending, lifted

__all__ = ["Manifold"]

#: Maps whose tensors are all points or vectors: every class's own refuses what has another shape.
MAPS = ("proju", "expmap", "logmap", "transp", "dist")


def _checked(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A map that looks at the shapes of its arguments first, and at nothing else of them."""
    names = tuple(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def call(self: "Manifold", *points: Any, **options: Any) -> Tensor:
        for name, value in zip(names, points, strict=False):
            if isinstance(value, Tensor):
                self.require_shape(name, value)
        for name, value in options.items():
            if isinstance(value, Tensor):
                self.require_shape(name, value)
        return method(self, *points, **options)

    return call


class Manifold(geoopt.Manifold):
    """A Riemannian manifold, isometrically embedded in a vector space of ambient coordinates.

    A subclass states ``_key`` (its parameters, which decide equality), ``dim``,
    ``ambient_shape``, ``volume`` and the maps.
    """

    ndim = 1
    reversible = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in MAPS:
            if name in cls.__dict__:
                setattr(cls, name, _checked(cls.__dict__[name]))

    #: What the prior and the posterior time look like; () means one time a sample.
    time_shape: tuple[int, ...] = ()

    # ---- what it is -------------------------------------------------------------------------

    @property
    @abstractmethod
    def _key(self) -> tuple[Any, ...]:
        """The parameters that the constructor took, in its order."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimension of the manifold."""

    @property
    @abstractmethod
    def ambient_shape(self) -> tuple[int, ...]:
        """Shape of one point."""

    @property
    @abstractmethod
    def volume(self) -> float:
        """Riemannian volume; infinite where the manifold is not compact."""

    @property
    @abstractmethod
    def spec(self) -> str:
        """The name that ``manifolds.parse`` reads back."""

    @property
    def compact(self) -> bool:
        """Whether the volume is finite (all manifolds here are complete)."""
        return math.isfinite(self.volume)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._key))})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key == other._key  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self._key))

    # ---- topology ---------------------------------------------------------------------------

    def betti_numbers(self, prime: int = 2) -> tuple[int, ...] | None:
        """Dimensions of H₀, …, H_d with coefficients in ℤ/p; None where they are not known.

        Torsion shows in the difference between primes: SO(3) has (1, 1, 1, 1) over ℤ/2, and
        (1, 0, 0, 1) over every other.

        Raises:
            ValueError: if ``prime`` is no prime number.
        """
        check_prime(prime)
        return None

    @property
    def orientable(self) -> bool | None:
        """Whether it can be oriented; None where that is not known.

        A closed connected manifold can if, and only if, H_d(ℤ/3) is not zero.
        """
        betti = self.betti_numbers(3) if self.compact else None
        return None if betti is None else betti[-1] == 1

    # ---- geometry ---------------------------------------------------------------------------

    @abstractmethod
    def scalar_curvature(self, x: Tensor) -> Tensor:
        """Scalar curvature at points x of shape ``(*, *ambient_shape)``, of shape ``(*)``."""

    @abstractmethod
    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """Geodesic distance between x and y, of shape ``(*)``."""

    @abstractmethod
    def base_point(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        """A point to start from, of shape ``ambient_shape``."""

    @abstractmethod
    def random_uniform(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        """Points drawn uniformly, of shape ``(*sample_shape, *ambient_shape)``.

        Unlike geoopt's ``random``, which takes the full shape, this takes the sample shape.
        """

    # ---- for models -------------------------------------------------------------------------

    #: How many points of a cover decode to one of this manifold; more than one only on a quotient
    #: of which no embedding is known, where the model averages over them.
    sheets = 1

    @property
    def feature_size(self) -> int:
        """How many unconstrained numbers ``from_features`` makes a point of."""
        return math.prod(self.ambient_shape)

    def from_features(self, features: Tensor) -> Tensor:
        """A point from numbers ``(*, feature_size)``, as an encoder gives them: projected."""
        self._require("features", features, (self.feature_size,))
        return self.projx(_unflattened(features, self.ambient_shape))

    @property
    def embedding_size(self) -> int:
        """How many coordinates ``embed`` gives."""
        return math.prod(self.ambient_shape)

    def embed(self, x: Tensor) -> Tensor:
        """Coordinates ``(*, embedding_size)`` that are one for one with points: for a decoder."""
        return x.flatten(x.dim() - len(self.ambient_shape))

    def unfold(self, x: Tensor) -> Tensor:
        """The points of the cover over x, of shape ``(sheets, *, *ambient_shape)``."""
        return x.unsqueeze(0)

    def nearest(self, x: Tensor, y: Tensor) -> Tensor:
        """Of the tensors that stand for the point y, the nearest to x: y, but on a quotient."""
        return y.expand(torch.broadcast_shapes(x.shape, y.shape))

    def scale_noise(self, noise: Tensor, t: Tensor) -> Tensor:
        """Ambient standard normal noise, scaled so that its tangent part has variance t.

        Args:
            noise: of shape ``(*, *ambient_shape)``.
            t: of shape ``(*, *time_shape)``.
        """
        scale = t.sqrt()
        return scale.reshape(scale.shape + (1,) * len(self.ambient_shape)) * noise

    @property
    def is_cover(self) -> bool:
        """Whether two tensors on the manifold are two points: not so on quotients."""
        return True

    @property
    def short_time_limit(self) -> float:
        """The time up to which ``heat.kl_asymptotic`` is accurate: 1/d, unless loops are short."""
        return 1 / self.dim

    def walk_centre(self, x: Tensor, t: Tensor) -> Tensor:
        r"""x + (t/4) Δx + O(t²) on the normal space at x: where a corrected step of a walk starts.

        Δx is the Laplacian of the coordinates: in the induced metric, the trace of the second
        fundamental form. However long t is, the centre stays before the first focal point. See
        ``RandomWalk``. By automatic differentiation of ``projx``, on manifolds that do not know
        better.

        Args:
            x: points of shape ``(*, *ambient_shape)``.
            t: time of a step, of shape ``(*)``, with ``time_shape`` at its end.
        """
        embedding = Projection(self.projx, self.ambient_shape, repr(self))
        batch = x.shape[: x.dim() - len(self.ambient_shape)]
        found = bending(embedding.form(x.reshape(batch.numel(), -1)))
        return lifted(x, t, found[:, :-1].reshape(x.shape), found[:, -1].reshape(batch))

    def action_matrix(self, g: np.ndarray) -> np.ndarray:
        """A linear action on points as a matrix on their flattened coordinates."""
        n = math.prod(self.ambient_shape)
        if g.shape != (n, n):
            raise ValueError(
                f"an action of shape {g.shape}: linear actions on {self!r} are matrices of shape "
                f"{(n, n)}, on the flattened coordinates of a point"
            )
        if g.dtype.kind not in "biuf":
            raise ValueError(f"an action of dtype {g.dtype}: linear actions are real matrices")
        return g.astype(np.float64)

    # ---- angles -----------------------------------------------------------------------------

    #: Names of the angles that ``to_angles`` gives; none where the manifold has no such chart.
    angle_names: tuple[str, ...] = ()

    def to_angles(self, x: Tensor) -> Tensor:
        """Angles in radians of points x, of shape ``(*, len(angle_names))``."""
        raise ValueError(f"{self!r} has no angles; its points are their ambient coordinates")

    def from_angles(self, angles: Tensor) -> Tensor:
        """Points at angles of shape ``(*, len(angle_names))``: what ``to_angles`` takes back."""
        raise ValueError(f"{self!r} has no angles; its points are their ambient coordinates")

    def default_prior(self) -> torch.distributions.Distribution:
        """Uniform where the manifold is compact, the standard normal on Euclidean space."""
        # The one reference upwards: distributions are built on manifolds, not the reverse.
        return importlib.import_module("manifold_ae.distributions").default_prior(self)

    # ---- geoopt's conventions ---------------------------------------------------------------

    def random(
        self, *size: int, dtype: torch.dtype | None = None, device: Any = None, **kwargs: Any
    ) -> Tensor:
        """geoopt's sampler: like ``random_uniform``, but ``size`` ends with ``ambient_shape``."""
        sample_shape = self._sample_shape(size)
        return self.random_uniform(*sample_shape, dtype=dtype, device=device, **kwargs)

    def origin(
        self,
        *size: int,
        dtype: torch.dtype | None = None,
        device: Any = None,
        seed: int | None = 42,
    ) -> Tensor:
        """geoopt's origin: the base point, of shape ``size``, which ends with ``ambient_shape``."""
        self._sample_shape(size)
        return self.base_point(dtype=dtype, device=device).expand(size).clone()

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Riemannian gradient from the ambient one: its tangent part."""
        return self.proju(x, u)

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        """Inner product of tangent vectors at x: that of the ambient space."""
        return (u * (u if v is None else v)).sum(-1, keepdim=keepdim)

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """First-order retraction: step in ambient space and project."""
        return self.projx(x + u)

    def _sample_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        rank = len(self.ambient_shape)
        if tuple(size[len(size) - rank :]) != self.ambient_shape:
            raise ValueError(
                f"size = {tuple(size)} must end with the ambient shape {self.ambient_shape} "
                f"of {self!r}; random_uniform takes the sample shape alone"
            )
        return tuple(size[: len(size) - rank])

    def _require(self, name: str, x: Tensor, shape: tuple[int, ...]) -> None:
        """Raise a ValueError unless x is float32 or float64 and its shape ends with ``shape``."""
        if x.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"{name} has dtype {x.dtype}; {self!r} takes float32 or float64, convert it with "
                ".float()"
            )
        if x.dim() < len(shape) or tuple(x.shape[x.dim() - len(shape) :]) != shape:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; on {self!r} it has trailing shape {shape}"
            )

    def require_shape(self, name: str, x: Tensor) -> None:
        """Raise a ValueError unless the shape of x, points or vectors, ends with that of one."""
        shape = self.ambient_shape
        if x.shape[-len(shape) :] != shape:
            raise ValueError(self._check_shape(x.shape, name)[1])

    def require_time_shape(self, name: str, t: Tensor) -> None:
        """Raise a ValueError unless the shape of t ends with ``time_shape``."""
        rank = len(self.time_shape)
        if rank and t.shape[-rank:] != self.time_shape:
            raise ValueError(
                f"{name} has shape {tuple(t.shape)}; times on {self!r} have trailing shape "
                f"{self.time_shape}"
            )

    def _check_shape(self, shape: Any, name: str) -> tuple[bool, str | None]:
        rank = len(self.ambient_shape)
        if len(shape) < rank or tuple(shape[len(shape) - rank :]) != self.ambient_shape:
            return False, (
                f"{name} has shape {tuple(shape)}; points of {self!r} have trailing shape "
                f"{self.ambient_shape}"
            )
        return True, None

    def _check_point_on_manifold(
        self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        deviation = (x - self.projx(x)).abs().amax().item() if x.numel() else 0.0
        if deviation <= atol + rtol * (x.abs().amax().item() if x.numel() else 0.0):
            return True, None
        return False, f"x lies {deviation:.3g} away from {self!r}; M.projx(x) projects it there"

    def _check_vector_on_tangent(
        self, x: Tensor, u: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        deviation = (u - self.proju(x, u)).abs().amax().item() if u.numel() else 0.0
        if deviation <= atol + rtol * (u.abs().amax().item() if u.numel() else 0.0):
            return True, None
        return False, f"u has a normal part of {deviation:.3g}; M.proju(x, u) removes it"


def _unflattened(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if len(shape) == 1 else x.unflatten(-1, shape)


def check_dimension(name: str, dim: Any) -> int:
    """A manifold's dimension as an int ≥ 1, or a ValueError that says what was given."""
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise ValueError(f"{name}: dimension must be an integer of at least 1, got {dim!r}")
    return dim


def check_prime(prime: Any) -> int:
    """A prime number as an int, or a ValueError that says what was given."""
    whole = isinstance(prime, int) and not isinstance(prime, bool) and prime > 1
    if not whole or any(prime % k == 0 for k in range(2, math.isqrt(prime) + 1)):
        raise ValueError(
            f"prime = {prime!r}: coefficients are integers modulo a prime number, as 2 or 3"
        )
    return prime
