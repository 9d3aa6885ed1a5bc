"""What a ΔVAE is to be compared with: angles by PCA, and circular coordinates.

Both are fitted on training rows alone, and say where other rows are.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.metrics._checks import finite

__all__ = ["CircularCoordinates", "PrincipalAngles"]

#: Rows by which circular coordinates are extended to others.
NEIGHBOURS = 5
#: Rows from which on half are left out of circular coordinates.
MANY = 1000
#: Distances that are held at once.
ELEMENTS = 2**24


@dataclass(frozen=True)
class PrincipalAngles:
    """One angle in every plane of two principal components in turn.

    Attributes:
        mean: of the training rows, ``(features,)``.
        components: of most variance, ``(2 k, features)``.
    """

    mean: Tensor
    components: Tensor

    @staticmethod
    def fit(x: Tensor, angles: int = 1) -> "PrincipalAngles":
        """Components of the rows of x ``(n, features)``, for so many angles.

        Raises:
            ValueError: if x is not finite, or has too few rows or features.
        """
        x = finite("x", x)
        if x.dim() != 2 or min(x.shape) < 2 * angles or angles < 1:
            raise ValueError(
                f"x has shape {tuple(x.shape)}: {angles} angles take at least {2 * angles} rows "
                "and features"
            )
        mean = x.mean(0)
        return PrincipalAngles(
            mean, torch.linalg.svd(x - mean, full_matrices=False)[2][: 2 * angles]
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Angles in (−π, π] of rows x ``(n, features)``, of shape ``(n, k)``."""
        scores = (x.double() - self.mean) @ self.components.mT
        return torch.atan2(scores[:, 1::2], scores[:, 0::2])


@dataclass(frozen=True)
class CircularCoordinates:
    """Circular and toroidal coordinates from persistent cohomology, by DREiMac.

    Landmarks are farthest points, which in noise are outliers, the more so the more rows there are.
    So the fit leaves out rows that lie far from their neighbours: of ``MANY`` rows and more half of
    them.

    Other rows than those of the fit have the circular mean of the five nearest of these, in the
    principal components in which the fit was made.

    References:
        J. A. Perea, *Sparse circular coordinates via principal ℤ-bundles*, 2020,
        https://arxiv.org/abs/1809.09269
        L. Scoccola, H. Gakhar, J. Bush et al., *Toroidal coordinates: decorrelating circular
        coordinates with lattice reduction*, 2023, https://arxiv.org/abs/2212.07201
    """

    mean: Tensor
    components: Tensor
    scores: Tensor
    angles: Tensor

    @staticmethod
    def fit(
        x: Tensor,
        angles: int = 1,
        *,
        components: int = 6,
        landmarks: int = 200,
        densest: float | None = None,
    ) -> "CircularCoordinates":
        """Coordinates of the rows of x ``(n, features)``, by the most persistent classes of H¹.

        Arguments:
            angles: how many, each of a class.
            components: principal ones, that distances are measured in.
            landmarks: on which cohomology is computed.
            densest: the part of the rows that are fitted to, those nearest to their neighbours; by
                default all, and half from ``MANY`` rows on.

        Raises:
            ModuleNotFoundError: without the extra ``topology``.
            ValueError: if there are fewer classes than angles, or x is not finite.
        """
        part = (1.0 if len(x) < MANY else 0.5) if densest is None else densest
        if not 0 < part <= 1:
            raise ValueError(f"densest = {densest!r}: expected a part of the rows, above 0, to 1")
        dreimac: Any = _dreimac()
        x = finite("x", x)
        mean = x.mean(0)
        axes = torch.linalg.svd(x - mean, full_matrices=False)[2][:components]
        scores = (x - mean) @ axes.mT
        scores = scores[_isolation(scores).argsort()[: math.ceil(part * len(x))]]
        kind = {"n_landmarks": min(landmarks, len(scores)), "prime": 47, "maxdim": 1}
        # Also of classes that live too short for the standard range.
        options = {"standard_range": False}
        try:
            if angles == 1:
                found = dreimac.CircularCoords(scores.numpy(), **kind).get_coordinates(**options)
            else:
                found = dreimac.ToroidalCoords(scores.numpy(), **kind).get_coordinates(
                    cocycle_idxs=list(range(angles)), **options
                )
        except Exception as error:  # DREiMac raises no kind of its own
            raise ValueError(f"x has not {angles} classes of loops to follow: {error}") from error
        coordinates = torch.from_numpy(np.atleast_2d(np.asarray(found, dtype=np.float64))).mT
        return CircularCoordinates(mean, axes, scores, coordinates)

    def __call__(self, x: Tensor) -> Tensor:
        """Angles in (−π, π] of rows x ``(n, features)``, of shape ``(n, k)``."""
        scores = (x.double() - self.mean) @ self.components.mT
        nearest = torch.cdist(scores, self.scores).topk(
            min(NEIGHBOURS, len(self.scores)), largest=False
        )
        angles = self.angles[nearest.indices]
        return torch.atan2(angles.sin().sum(1), angles.cos().sum(1))


def _isolation(scores: Tensor) -> Tensor:
    """How far each row is from its k-th neighbour, k a fiftieth of the rows, ``(n,)``."""
    k = min(len(scores) - 1, max(10, len(scores) // 50))
    rows = max(1, ELEMENTS // len(scores))
    parts = [
        torch.cdist(part, scores).topk(k + 1, largest=False).values[:, -1]
        for part in scores.split(rows)
    ]
    return torch.cat(parts)


def _dreimac() -> Any:
    try:
        import dreimac  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "circular coordinates need DREiMac: pip install 'manifold-ae[topology]'"
        ) from error
    return dreimac
