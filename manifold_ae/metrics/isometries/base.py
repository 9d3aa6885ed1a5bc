r"""Which isometry of a manifold carries one set of latents nearest to another?

Two autoencoders that have learned the same, or one and the truth, agree up to what no data tell:
where an angle starts, which way it runs, how a sphere is turned. ``nearest_isometry`` finds, over
the whole isometry group of M, the φ with

    Σ_i |e(φ(a_i)) − e(b_i)|² = min,                                                          (1)

e the coordinates in which M is embedded, and |·| on a quotient the distance to the nearest image.
Squared chords weigh points without bias where the noise is isotropic, are bounded where M is
compact, so that no single row decides, and have their least value in closed form, or at the end of
a few monotone steps, where geodesic distances have none.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.metrics._checks import finite, same
from manifold_ae.metrics.distances import gap

__all__ = ["Aligned", "Isometry", "align_latents", "nearest_isometry"]


class Isometry(ABC):
    """An isometry φ of a manifold (on flat tori also an automorphism), as an immutable value."""

    manifold: Manifold

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """φ(x) of shape ``(*, *ambient_shape)``, in the dtype and on the device of x."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What it is, in words; angles in degrees."""


@dataclass(frozen=True)
class Aligned:
    """Latents a carried nearest to latents b.

    Attributes:
        isometry: φ, of (1) in the module's docstring.
        residuals: distances of φ(a_i) from b_i, float64 ``(n,)``: geodesic, and on the embedded
            torus and submanifolds the chord's length.
    """

    isometry: Isometry
    residuals: Tensor

    @property
    def words(self) -> str:
        """What the isometry is, in words."""
        return self.isometry.words

    @property
    def mean_distance(self) -> float:
        """Mean of the residual distances."""
        return self.residuals.mean().item()

    def apply(self, x: Tensor) -> Tensor:
        """φ(x), for any points x of shape ``(*, *ambient_shape)``."""
        self.isometry.manifold.require_shape("x", x)
        return self.isometry.apply(x)


@torch.no_grad()
def align_latents(M: Manifold, a: Tensor, b: Tensor, *, seed: int = 0) -> Aligned:
    """The isometry of M that carries points a nearest to points b, row by row.

    Arguments:
        a, b: of shape ``(n, *ambient_shape)``, noisy; row i of both belongs to one observation.
        seed: of the random starts of those searches that have any.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or a point is not one of M.
        NotImplementedError: for manifolds whose isometries are not known here.
    """
    a, b = _points(M, "a", a), _points(M, "b", b)
    same("b", b, a.shape, "one row for every row of a")
    isometry = nearest_isometry(M, a, b, np.random.default_rng(seed))
    return Aligned(isometry, gap(M, isometry.apply(a), b))


@singledispatch
def nearest_isometry(M: Manifold, a: Tensor, b: Tensor, rng: np.random.Generator) -> Isometry:
    """The isometry of least (1), for points a and b ``(n, *ambient_shape)`` in float64.

    Raises:
        NotImplementedError: for manifolds whose isometries are not known here.
    """
    raise NotImplementedError(
        f"{M!r}: its isometries are not known here; those of Euclidean spaces, spheres, projective "
        "spaces, SO(3), their quotients by matrices, flat tori, the Klein bottle, surfaces of "
        "revolution and products of these are. Register your own with "
        "metrics.isometries.nearest_isometry"
    )


def _points(M: Manifold, name: str, x: Tensor) -> Tensor:
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} is a {type(x).__name__}: expected a tensor of points of {M!r}")
    shape = tuple(M.ambient_shape)
    if x.dim() != 1 + len(shape) or tuple(x.shape[1:]) != shape:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}: points of {M!r} have shape (n, "
            f"{', '.join(map(str, shape))})"
        )
    x = finite(name, x).cpu()
    off = (M.projx(x) - x).abs().amax().item()
    if off > 1e-3 * max(1.0, x.abs().amax().item()):
        raise ValueError(
            f"{name} lies {off:.3g} away from {M!r}: M.projx({name}) projects points there, "
            "M.from_angles(angles) makes them of angles"
        )
    return M.projx(x)
