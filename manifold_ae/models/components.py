r"""A start from principal components, turned so that they lie nearest to the manifold.

Tuning to a place z on M, averaged over many cells, pictures or features, is to first order linear
in the coordinates e(z) by which M is embedded: (cos θ, sin θ) of each angle, the entries of a
rotation. So the leading components of the data are e(z), up to noise and to a linear map that they
do not tell. With y the k leading components of unit covariance, and e ~ m + A u for points of the
prior on M, u of unit covariance, what is left of that map is a rotation Q of ℝᵏ:

    f = m + A Qᵀ y,   Q minimising  Σ |Qᵀ y − u(π(f))|²,

with π(f) the point of M that features f are taken to. It is found as in Procrustes' problem: points
for given Q, then the Q that carries the components nearest to them, in turn. One in ten random
rotations ends at the least value on SO(3), one in three on T²; the best of ``STARTS`` is taken.

A folded map of M needs components that M does not have, and so lies further from them: what
training of a network settles by chance is settled here before it begins, by a few numbers that all
data tell of together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.models.starting import features_of

__all__ = ["Frame", "arranged", "check_arranges", "components_locations", "has_arrangement"]

#: Rotations that are begun at, rows that they look at, and turns of the search.
STARTS, ROWS, TURNS = 32, 500, 25
#: Points that tell m and A.
POINTS = 2**15
#: Of the largest eigenvalue: what lies below is rounding, and no component.
LEAST = 1e-6
#: Of the mean eigenvalue of the encoder's features: what keeps their weights small.
RIDGE = 1e-3


@dataclass(frozen=True)
class Frame:
    """The coordinates of M by components of unit covariance: e = mean + axes u.

    Attributes:
        mean: ``(feature_size,)``.
        axes: ``(feature_size, k)``; an entry that others determine takes no component.
    """

    manifold: Manifold
    mean: Tensor
    axes: Tensor

    @classmethod
    def of(cls, M: Manifold) -> "Frame":
        """That of points of M as its default prior has them.

        Raises:
            ValueError: if the features of M are not its coordinates.
        """
        check_arranges(M)
        e = M.embed(_points(M, POINTS))
        mean = e.mean(0)
        values, vectors = torch.linalg.eigh((e - mean).T @ (e - mean) / len(e))
        kept = values > LEAST * values[-1]
        return cls(M, mean, vectors[:, kept] * values[kept].sqrt())

    def features(self, u: Tensor) -> Tensor:
        """What ``from_features`` makes a point of, ``(*, feature_size)``, from ``(*, k)``."""
        return self.mean + u @ self.axes.T

    def nearest(self, u: Tensor) -> Tensor:
        """The components of the points that u is taken to, ``(*, k)``."""
        e = self.manifold.embed(self.manifold.from_features(self.features(u)))
        return (e - self.mean) @ (self.axes / self.axes.square().sum(0))


def has_arrangement(M: Manifold) -> bool:
    """Whether components can be arranged on M: whether features are coordinates.

    Not on a quotient without an embedding of its own, whose features are coordinates of the cover.
    """
    if M.sheets > 1 or M.embedding_size != M.feature_size:
        return False
    z = _points(M, 8)
    return bool(M.dist(M.from_features(M.embed(z)), z).max() < 1e-5)


def _points(M: Manifold, n: int) -> Tensor:
    """Of the default prior, the same whenever it is asked."""
    generator = torch.Generator().manual_seed(0)
    prior: Any = M.default_prior()
    return prior.draw(n, generator=generator, dtype=torch.float64)


def check_arranges(M: Manifold) -> None:
    """Refuse a manifold on which components have no arrangement.

    Raises:
        ValueError: where ``has_arrangement`` is false.
    """
    if has_arrangement(M):
        return
    raise ValueError(
        f"start = 'components' on {M!r}: the coordinates that embed it are not what makes a point "
        "of it; take start = 'spread'"
    )


def arranged(
    M: Manifold, x: Tensor, *, starts: int = STARTS, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Features that are linear in x and lie nearest to M, and how near.

    Arguments:
        x: data ``(n, k)``, of at least two rows that differ.
        starts: rotations that are begun at.
        generator: of these, on the CPU.

    Returns:
        Features ``(n, feature_size)``, float64, of which ``M.from_features`` makes points; and
        the mean square of what is left, over that of the components: 0 where all lie on M.

    Raises:
        ValueError: as ``Frame.of`` does, and if x does not vary.
    """
    frame = Frame.of(M)
    x = x.detach().cpu().double()
    deviations = x - x.mean(0)
    y = _principal(deviations, frame.axes.shape[1])
    size = y.shape[1]
    if size == 0:
        raise ValueError(
            f"start = 'components': {len(x)} row(s) that do not vary have none; start = 'random' "
            "asks for none"
        )
    some = y[:: max(1, len(y) // ROWS)]
    shape = (starts, frame.axes.shape[1], size)
    turns = torch.randn(shape, dtype=torch.float64, generator=generator)
    # (starts, size, k), of orthonormal rows. Signs make them uniform: without these all have one
    # determinant, and of RP², whose isometries turn and do not reflect, half of all data none.
    turned, scale = torch.linalg.qr(turns)
    turns = (turned * scale.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)).mT
    for _ in range(TURNS):
        left, _, right = torch.linalg.svd(some.T @ frame.nearest(some @ turns), full_matrices=False)
        turns = left @ right
    u = some @ turns
    left_over = (u - frame.nearest(u)).square().mean((1, 2))
    best = int(left_over.argmin())
    return frame.features(y @ turns[best]), left_over[best]


def _principal(x: Tensor, most: int) -> Tensor:
    """Principal components ``(n, k)`` of unit variance, at most so many, of centred rows."""
    n, features = x.shape
    if n < 2:
        return x.new_empty(n, 0)
    # Of the smaller of the two matrices: pictures have more pixels than there are rows.
    values, vectors = torch.linalg.eigh(x @ x.T if features > n else x.T @ x)
    values, vectors = values.flip(0)[:most], vectors.flip(1)[:, :most]
    held = values > LEAST**2 * values[0].clamp_min(torch.finfo(values.dtype).tiny)
    values, vectors = values[held], vectors[:, held]
    return vectors * n**0.5 if features > n else x @ vectors / values.sqrt() * n**0.5


@torch.no_grad()
def components_locations(
    model: Any,
    x: Tensor,
    encode: Callable[[], Any],
    *,
    generator: torch.Generator | None = None,
) -> None:
    """Set a model's location head so that it places the data where components lie; in place.

    The head is linear in what the encoder makes of the data: of all its weights those are taken
    that come nearest to the arrangement, by ridge regression.

    Arguments:
        model: a ``DeltaVAE`` whose head reads the location from features.
        x: the data as the encoder sees them, ``(n, k)``; see ``Likelihood.seen_rows``.
        encode: calls the encoder and the head on the same data.
        generator: of the rotations that are begun at.

    Raises:
        ValueError: as ``arranged`` does, or if the encoder gives the place itself.
    """
    h = features_of(model, encode)
    f, _ = arranged(model.manifold, x, generator=generator)
    f = f.to(h.device)
    mean, centre = h.mean(0), f.mean(0)
    covariance = (h - mean).T @ (h - mean)
    # Features that are alike for all rows tell nothing, and have weights zero.
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean().clamp_min(LEAST))
    rows = torch.linalg.solve(covariance, (h - mean).T @ (f - centre)).T
    linear, k = model.head.linear, model.head.sizes[0]
    linear.weight[:k] = rows.to(linear.weight)
    linear.bias[:k] = (centre - rows @ mean).to(linear.bias)
