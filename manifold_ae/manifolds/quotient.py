r"""Quotients: a manifold divided by a finite group of isometries that acts freely.

A point of M/Γ is given by any point of M over it; distances, kernels and coordinates for models do
not depend on which. The action must be free (no element but the identity fixes a point), or the
quotient has corners; and isometric, or it has no metric. Both are checked when a quotient is made.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups import finite
from manifold_ae.manifolds import group_action
from manifold_ae.manifolds.base import Manifold, check_prime
from manifold_ae.manifolds.quotient_homology import quotient_betti

__all__ = ["Quotient"]

Action = Callable[[Tensor], Tensor]


class Quotient(Manifold):
    r"""M/Γ for a finite group Γ of isometries of M, acting freely.

    Arguments:
        cover: M, compact.
        actions: square matrices that generate Γ, acting on the flattened coordinates of a point
            (on ``SO3()``, a 3 × 3 rotation g acts by R ↦ R g: the symmetries of an object); or
            functions ``x ↦ g·x`` on tensors ``(*, *ambient_shape)``, differentiable: all the
            elements of Γ but the identity.
        name: how it prints.

    For matrices freeness is decided (an eigenspace of 1 that does not meet M); for functions fixed
    points are searched for. ``least_displacement`` is the least distance, in ambient coordinates,
    by which an element of Γ was found to move a point.

    Raises:
        ValueError: if the action is not free, not isometric, does not stay on M or is not a finite
            group; with the point that shows it.

    Example:
        >>> from manifold_ae.groups import finite
        >>> from manifold_ae.manifolds import SO3
        >>> M = Quotient(SO3(), finite.octahedral(), name="orientations of a cube")
        >>> M.order, round(SO3().volume / M.volume)
        (24, 24)
    """

    name = "Quotient"

    def __init__(
        self, cover: Manifold, actions: Sequence[Any] | np.ndarray | Tensor, *, name: str = ""
    ) -> None:
        super().__init__()
        if not isinstance(cover, Manifold):
            raise ValueError(f"cover = {cover!r} is not a manifold")
        if not cover.is_cover:
            raise ValueError(
                f"cover = {cover!r} is, or holds, a quotient itself: give the whole group on its "
                "cover"
            )
        if not cover.compact:
            raise ValueError(f"cover = {cover!r} is not compact: only compact ones can be divided")
        group_action.check_distance(cover)
        if callable(actions):
            raise ValueError(f"actions = {actions!r} must be a list: of matrices, or of functions")
        actions = list(actions)
        if len(actions) == 0:
            raise ValueError("actions is empty: a quotient takes at least one element of the group")
        object.__setattr__(self, "cover", cover)
        self.cover: Manifold
        self._name = name
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self.functions: tuple[Action, ...] = ()
        self._matrices: np.ndarray | None = None
        if all(callable(action) and not isinstance(action, Tensor) for action in actions):
            self.functions = tuple(actions)  # type: ignore[arg-type]
            self.order = len(actions) + 1
            group_action.check_functions(self)
        else:
            matrices = [cover.action_matrix(np.asarray(action)) for action in actions]
            self._matrices = np.stack([np.eye(matrices[0].shape[0]), *matrices])
            self.order = len(self._matrices)
            group_action.check_isometric(self)  # before they are multiplied without end
            self._copies.clear()
            self._matrices = finite.generate(matrices)
            self.order = len(self._matrices)
        if self.order == 1:
            raise ValueError("actions generate the identity alone: there is nothing to divide by")
        group_action.check_isometric(self)
        self._inverses = group_action.find_inverses(self)
        self.least_displacement, point = group_action.check_free(self)
        images = self.images(point)[1:]
        #: Length of the shortest loop found that is none on the cover, as a geodesic distance.
        self.shortest_loop = self.cover.dist(point.expand_as(images), images).min().item()

    # ---- what it is -------------------------------------------------------------------------

    @property
    def matrices(self) -> np.ndarray | None:
        """The elements of Γ, 1 first, on flattened points (order, n, n); None for functions."""
        return self._matrices

    @cached_property
    def _key(self) -> tuple[Any, ...]:  # type: ignore[override]
        if self._matrices is None:
            return (self.cover, self.functions)
        elements = np.unique(self._matrices.round(6) + 0.0, axis=0)  # in one order, without −0
        return (self.cover, elements.tobytes())

    def __repr__(self) -> str:
        return self._name or f"Quotient({self.cover!r}, order={self.order})"

    @property
    def dim(self) -> int:
        return self.cover.dim

    @property
    def ndim(self) -> int:  # type: ignore[override]
        return self.cover.ndim

    @property
    def ambient_shape(self) -> tuple[int, ...]:
        return self.cover.ambient_shape

    @property
    def time_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.cover.time_shape

    @property
    def volume(self) -> float:
        return self.cover.volume / self.order

    @property
    def spec(self) -> str:
        """Its name: no specification that ``parse`` reads leads to a quotient of one's own."""
        return self._name or f"{self.cover.spec}/{self.order}"

    def betti_numbers(self, prime: int = 2) -> tuple[int, ...] | None:
        """Those of quotients of spheres and of SO(3), as far as ``quotient_homology`` has them."""
        return quotient_betti(self.cover, self._matrices, check_prime(prime))

    # ---- the action -------------------------------------------------------------------------

    def images(self, x: Tensor) -> Tensor:
        """g·x for every g ∈ Γ, the identity first: of shape ``(order, *, *ambient_shape)``."""
        if self._matrices is None:
            return torch.stack([x, *(function(x) for function in self.functions)])
        return self._act(x)

    def push(self, x: Tensor, u: Tensor) -> Tensor:
        """The derivative of every g ∈ Γ at x on a vector u: of the shape of ``images``."""
        if self._matrices is not None:
            return self._act(u.expand(torch.broadcast_shapes(x.shape, u.shape)))
        u = u.expand(torch.broadcast_shapes(x.shape, u.shape)).contiguous()
        x = x.expand_as(u).contiguous()
        return torch.stack([u, *(torch.func.jvp(f, (x,), (u,))[1] for f in self.functions)])

    def _act(self, x: Tensor) -> Tensor:
        key = (x.dtype, x.device)
        if key not in self._copies:
            with torch.inference_mode(False):
                self._copies[key] = torch.tensor(self._matrices, dtype=key[0], device=key[1])
        rank = len(self.ambient_shape)
        flat = x.flatten(x.dim() - rank)
        n = flat.shape[-1]
        matrices = self._copies[key].reshape(self.order, *[1] * (flat.dim() - 1), n, n)
        # Products and sums: matmul rounds to fewer digits under autocast, and where TF32 is on.
        return (matrices * flat.unsqueeze(-2)).sum(-1).reshape(self.order, *x.shape)

    def nearest_index(self, x: Tensor, y: Tensor) -> Tensor:
        """The number of the g ∈ Γ for which g·y is nearest to x, of shape ``(*)``."""
        x, y = torch.broadcast_tensors(x, y)
        with torch.no_grad():
            return self.cover.dist(x.double(), self.images(y.double())).argmin(0)

    def _pick(self, images: Tensor, index: Tensor) -> Tensor:
        index = index.reshape(1, *index.shape, *[1] * len(self.ambient_shape))
        return torch.take_along_dim(images, index, 0).squeeze(0)

    def nearest(self, x: Tensor, y: Tensor) -> Tensor:
        """The image of y nearest to x, of the broadcast shape."""
        x, y = torch.broadcast_tensors(x, y)
        return self._pick(self.images(y), self.nearest_index(x, y))

    # ---- geometry ---------------------------------------------------------------------------

    def scalar_curvature(self, x: Tensor) -> Tensor:
        return self.cover.scalar_curvature(x)

    def projx(self, x: Tensor) -> Tensor:
        return self.cover.projx(x)

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        return self.cover.proju(x, u)

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        return self.cover.inner(x, u, v, keepdim=keepdim)

    def scale_noise(self, noise: Tensor, t: Tensor) -> Tensor:
        return self.cover.scale_noise(noise, t)

    @property
    def is_cover(self) -> bool:
        return False

    @property
    def short_time_limit(self) -> float:
        """At most the cover's, and the time at which the images of a point do not meet yet."""
        return min(self.cover.short_time_limit, (self.shortest_loop / 7) ** 2)

    def walk_centre(self, x: Tensor, t: Tensor) -> Tensor:
        return self.cover.walk_centre(x, t)

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        return self.cover.expmap(x, u)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """The shortest u for which expmap(x, u) is an image of y; the first if several are."""
        return self.cover.logmap(x, self.nearest(x, y))

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport along the shortest geodesic, as a vector at y itself."""
        x, y, v = torch.broadcast_tensors(x, y, v)
        index = self.nearest_index(x, y)
        there = self._pick(self.images(y), index)
        inverse = self._inverses.to(index.device)[index]
        return self._pick(self.push(there, self.cover.transp(x, there, v)), inverse)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """The least distance from x to an image of y."""
        x, y = torch.broadcast_tensors(x, y)
        return self.cover.dist(x, self.images(y), keepdim=keepdim).amin(0)

    def base_point(self, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return self.cover.base_point(dtype=dtype, device=device)

    def random_uniform(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        return self.cover.random_uniform(
            *sample_shape, generator=generator, dtype=dtype, device=device
        )

    # ---- for models -------------------------------------------------------------------------

    @property
    def sheets(self) -> int:  # type: ignore[override]
        return self.order

    def unfold(self, x: Tensor) -> Tensor:
        return self.images(x)
