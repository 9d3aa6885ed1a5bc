"""Means, axes and clusters of points on a manifold, by its own maps.

X. Pennec, *Intrinsic Statistics on Riemannian Manifolds*, J. Math. Imaging Vis. 25, 2006.
P. T. Fletcher et al., *Principal Geodesic Analysis*, IEEE Trans. Med. Imaging 23, 2004, whose
linearisation in the tangent space at the mean is meant here.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds import Manifold

__all__ = ["Clusters", "PrincipalGeodesics", "cluster", "frechet_mean", "principal_geodesics"]

#: Points that the descent to a mean may start from; the best is taken.
STARTS = 64


def frechet_mean(
    M: Manifold,
    points: Tensor | np.ndarray,
    weights: Tensor | np.ndarray | None = None,
    *,
    tolerance: float = 1e-9,
    max_iterations: int = 1000,
) -> Tensor:
    """The point z with the least mean squared distance Σ wᵢ d(z, xᵢ)², by descent.

    A step is exp_z(Σ wᵢ log_z xᵢ), halved until it leads down, from the best of 64 of the points.
    There may be several such points: of data all around a circle, or all over a sphere, the mean
    says little.

    Arguments:
        points: of shape ``(n, *ambient_shape)``.
        weights: of shape ``(n,)``, not negative; as 1/radius² of uncertain latents.
        tolerance: length of the step at which to stop.

    Returns:
        The mean, of shape ``ambient_shape``, in the dtype of the points.

    Raises:
        ValueError: if points or weights are none, or the descent does not come to an end.
    """
    given = _points(M, points)
    x = given.double()
    w = _weights(weights, x)
    starts = x[torch.linspace(0, len(x) - 1, min(STARTS, len(x))).long()]
    costs = torch.stack([_cost(M, start, x, w) for start in starts])
    mean = _descend(M, starts[costs.argmin()], x, w, tolerance, max_iterations)
    return mean.to(given.dtype)


def _cost(M: Manifold, z: Tensor, x: Tensor, w: Tensor) -> Tensor:
    return (w * M.dist(z.expand_as(x), x).square()).sum()


def _descend(
    M: Manifold, z: Tensor, x: Tensor, w: Tensor, tolerance: float = 1e-9, iterations: int = 1000
) -> Tensor:
    """The mean that a descent from z leads to."""
    least = _cost(M, z, x, w)
    weigh = w.reshape(-1, *[1] * len(M.ambient_shape))
    length = torch.inf
    for _ in range(iterations):
        step = (weigh * M.logmap(z.expand_as(x), x)).sum(0)
        length = M.inner(z, step).sqrt()
        scale = 1.0
        while length * scale > tolerance:
            new = M.expmap(z, scale * step)
            if (reached := _cost(M, new, x, w)) < least:
                z, least = new, reached
                break
            scale /= 2
        else:
            return z
    raise ValueError(
        f"points have no clear Fréchet mean on {M!r}: after {iterations} steps the next is still "
        f"{length:.2g} long; raise max_iterations, or look at clusters instead"
    )


@dataclass(frozen=True, eq=False)
class PrincipalGeodesics:
    """Axes of the points about their mean, in the tangent space there.

    Arguments:
        manifold: M.
        mean: their Fréchet mean, of shape ``ambient_shape``.
        directions: unit tangent vectors at the mean, orthogonal, ``(k, *ambient_shape)``.
        variances: mean squared coordinates along them, ``(k,)``, falling.
        ratios: the parts of the whole variance, ``(k,)``.
        coordinates: of the points, ``(n, k)``.
    """

    manifold: Manifold
    mean: Tensor
    directions: Tensor
    variances: Tensor
    ratios: Tensor
    coordinates: Tensor

    def at(self, coordinates: Tensor) -> Tensor:
        """Points exp_mean(Σ cᵢ directionᵢ), for coordinates c of shape ``(*, k)``."""
        flat = coordinates @ self.directions.flatten(1)
        tangent = flat.reshape(*coordinates.shape[:-1], *self.manifold.ambient_shape)
        return self.manifold.expmap(self.mean.expand_as(tangent), tangent)


def principal_geodesics(
    M: Manifold, points: Tensor | np.ndarray, count: int | None = None
) -> PrincipalGeodesics:
    """Principal geodesic analysis: PCA of log_mean xᵢ by the metric of M, on any manifold.

    Arguments:
        points: of shape ``(n, *ambient_shape)``.
        count: of directions; as many as dimensions if none is given.

    Raises:
        ValueError: if points are none, or ``count`` is not between 1 and the dimension.
    """
    count = M.dim if count is None else count
    if not 1 <= count <= M.dim:
        raise ValueError(f"count = {count!r}: expected 1 to {M.dim}, the dimension of {M!r}")
    given = _points(M, points)
    mean = frechet_mean(M, given.double())
    flat = M.logmap(mean.expand_as(given), given.double()).flatten(1)
    # An orthonormal basis of the tangent space, in coordinates that make lengths Euclidean: the
    # metric on ambient vectors is a quadratic form, of which the root is taken.
    size = flat.shape[1]
    units = torch.eye(size, dtype=torch.float64, device=flat.device).reshape(-1, *M.ambient_shape)
    values, vectors = torch.linalg.eigh(M.inner(mean, units[:, None], units[None]))
    root = vectors * values.sqrt() @ vectors.T
    tangent = M.proju(mean.expand_as(units), units).flatten(1)
    basis = torch.linalg.svd(tangent @ root)[2][: M.dim]
    inside = flat @ root @ basis.T
    variances, axes = torch.linalg.eigh(inside.T @ inside / len(flat))
    variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)[:, :count]
    total = variances.sum()
    directions = (axes.T @ basis @ torch.linalg.inv(root)).reshape(count, *M.ambient_shape)
    ratios = variances[:count] / torch.where(total > 0, total, 1.0)
    made = (mean, directions, variances[:count], ratios, inside @ axes)
    return PrincipalGeodesics(M, *(value.to(given.dtype) for value in made))


@dataclass(frozen=True, eq=False)
class Clusters:
    """Points in groups about centres.

    Arguments:
        centres: of shape ``(k, *ambient_shape)``.
        labels: the centre nearest to every point, ``(n,)``, int64.
        inertia: the sum of squared distances to them.
    """

    centres: Tensor
    labels: Tensor
    inertia: float


def cluster(
    M: Manifold,
    points: Tensor | np.ndarray,
    count: int,
    *,
    seed: int = 0,
    restarts: int = 10,
    max_iterations: int = 300,
) -> Clusters:
    """k-means on any manifold, with Fréchet means as centres: the best of several starts.

    Starts are drawn by D² weighting (D. Arthur and S. Vassilvitskii, *k-means++*, 2007).

    Arguments:
        points: of shape ``(n, *ambient_shape)``.
        count: k, of clusters.
        seed: of the starts.

    Raises:
        ValueError: if points are none, or fewer than clusters.
    """
    given = _points(M, points)
    if not 1 <= count <= len(given):
        raise ValueError(f"count = {count!r}: expected 1 to {len(given)}, the number of points")
    if restarts < 1 or max_iterations < 1:
        raise ValueError(f"restarts = {restarts!r}, {max_iterations = }: expected at least 1")
    x = given.double()
    generator = torch.Generator().manual_seed(seed)
    runs = (_lloyd(M, x, _spread(M, x, count, generator), max_iterations) for _ in range(restarts))
    best = min(runs, key=lambda found: found.inertia)
    return Clusters(best.centres.to(given.dtype), best.labels, best.inertia)


def _lloyd(M: Manifold, x: Tensor, centres: Tensor, max_iterations: int) -> Clusters:
    """Labels and centres in turn, until no label changes (S. Lloyd, 1982)."""
    labels = None
    for _ in range(max_iterations):
        squares = torch.stack([M.dist(z.expand_as(x), x).square() for z in centres], -1)
        least, new = squares.min(-1)
        # A centre that no point is nearest to goes to the point that is farthest from its own.
        for k in (torch.bincount(new, minlength=len(centres)) == 0).nonzero().flatten():
            far = least.argmax()
            new[far], least[far] = k, 0.0
        if labels is not None and torch.equal(new, labels):
            break
        labels = new
        parts = [x[labels == k] for k in range(len(centres))]
        pairs = zip(centres, parts, strict=True)
        centres = torch.stack([_descend(M, z, part, _weights(None, part)) for z, part in pairs])
    assert labels is not None
    inertia = M.dist(centres[labels], x).square().sum().item()
    return Clusters(centres, labels, inertia)


def _spread(M: Manifold, x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Points of x, each with a probability as its squared distance from those before."""
    chosen = [int(torch.randint(len(x), (), generator=generator))]
    squares = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for _ in range(count - 1):
        new = M.dist(x, x[chosen[-1]].expand_as(x)).square().cpu()
        squares = torch.minimum(squares, new)
        # Points that all coincide with centres leave nothing to choose by.
        odds = squares if squares.sum() > 0 else torch.ones_like(squares)
        chosen.append(int(torch.multinomial(odds, 1, generator=generator)))
    return x[chosen]


# ---- what is given ------------------------------------------------------------------------------


def _points(M: Manifold, points: Tensor | np.ndarray) -> Tensor:
    """Points ``(n, *ambient_shape)`` as a tensor of floats.

    Raises:
        ValueError: if they are none, not finite, or not on the manifold.
    """
    x = torch.as_tensor(points).detach()
    if x.dim() != 1 + len(M.ambient_shape) or not len(x):
        raise ValueError(
            f"points has shape {tuple(x.shape)}: expected (n, *{M.ambient_shape}), n at least 1"
        )
    M.require_shape("points", x)
    if not x.is_floating_point():
        raise ValueError(f"points has dtype {x.dtype}: expected float32 or float64")
    if not x.isfinite().all():
        row = int((~x.isfinite()).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"points has a value that is not finite in row {row}")
    off = (x.double() - M.projx(x.double())).abs().flatten(1).amax(1)
    if off.max() > 1e-3:
        raise ValueError(
            f"points: row {int(off.argmax())} lies {off.max():.2g} away from {M!r}; "
            "M.projx(points) projects it there"
        )
    return x


def _weights(weights: Tensor | np.ndarray | None, x: Tensor) -> Tensor:
    """Weights ``(n,)`` of sum one."""
    if weights is None:
        return x.new_full((len(x),), 1 / len(x))
    w = torch.as_tensor(weights).detach().to(x)
    if w.shape != (len(x),) or not (w.isfinite() & (w >= 0)).all() or not w.sum() > 0:
        raise ValueError(
            f"weights has shape {tuple(w.shape)}: expected ({len(x)},), finite and not negative, "
            "with a positive sum"
        )
    return w / w.sum()
