r"""The posterior that a decoder and a prior imply, where the encoder's is only near it.

An encoder is one function for all observations (amortised), and its law a heat kernel, with one
variance for all directions. The model's own posterior,

    p(z | x) = p(x | z) p(z) / p(x),

needs no encoder. Here it is a weighted sample: points drawn from a proposal that covers it, w ∝
p(x | z) p(z) / proposal(z). The proposal is a mixture of the heat kernel around the encoder's
place, one of WIDE times its variance, and the prior, so that a second mode is not overlooked; in
further rounds place and variance are those of the weighted sample before. With weights of effective
size 1/Σw² (Kish), means and quantiles are as certain as from that many draws.

References:
    C. Cremer, X. Li, D. Duvenaud, *Inference suboptimality in variational autoencoders*, 2018, for
    the gap that amortisation leaves, https://arxiv.org/abs/1801.03558
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.distributions import HeatKernel
from manifold_ae.manifolds import Euclidean, Manifold, Product
from manifold_ae.models.delta_vae import DeltaVAE

__all__ = [
    "WeightedPosterior",
    "can_refine",
    "posterior_on_grid",
    "refine",
    "rows_at_once",
    "variance_about",
]

#: Parts of the proposal that come from the prior and from the wide kernel, and its variance.
FROM_PRIOR, FROM_WIDE, WIDE = 0.2, 0.3, 6.0
#: Times of proposals stay below this: later a kernel is as good as the prior.
LONGEST = 3.0
#: Values that are decoded at once.
ELEMENTS = 2**24
#: Steps to the Fréchet mean: each leaves an error of the order of curvature times variance.
MEAN_STEPS = 4


@dataclass(frozen=True)
class WeightedPosterior:
    """Weighted points for every observation, and their mean.

    Attributes:
        centre: Fréchet mean, ``(n, *ambient_shape)``.
        points: ``(samples, n, *ambient_shape)``.
        weights: ``(samples, n)``, of sum one over samples.
    """

    manifold: Manifold
    centre: Tensor
    points: Tensor
    weights: Tensor

    @property
    def effective(self) -> Tensor:
        """How many equal draws the weights are worth, ``(n,)``."""
        return 1 / self.weights.square().sum(0)

    @property
    def time(self) -> Tensor:
        """Mean squared distance from the centre, per direction, ``(n, *time_shape)``."""
        return variance_about(self.manifold, self.points, self.weights, self.centre)

    def radius(self, level: float) -> Tensor:
        """Of the ball around the centre that holds the part ``level`` of the law, ``(n,)``."""
        if not 0 < level < 1:
            raise ValueError(f"level = {level!r}: expected a probability between 0 and 1")
        distance, order = self.manifold.dist(self.points, self.centre).sort(0)
        below = self.weights.double().gather(0, order).cumsum(0)
        index = (below < level).sum(0).clamp_max(len(distance) - 1)
        return distance.gather(0, index[None])[0]


@torch.no_grad()
def refine(
    model: DeltaVAE,
    x: Tensor,
    *,
    num_samples: int = 500,
    rounds: int = 2,
    generator: torch.Generator | None = None,
    **given: Any,
) -> WeightedPosterior:
    """The model's own posterior of observations x ``(n, *event_shape)``.

    Arguments:
        num_samples: of the last round; those before take half as many.
        rounds: at least 1. After the first, the proposal is around the mean of the round before.
        given: covariates and exposure, where the model takes them.

    Raises:
        ValueError: if a number is not positive.
        NotImplementedError: where the heat kernel has no density or no exact sampler, or the
            manifold no logarithm; on a quotient with several times.
    """
    if num_samples < 10 or rounds < 1:
        raise ValueError(
            f"num_samples = {num_samples!r}, rounds = {rounds!r}: expected at least 10 and 1"
        )
    M = model.manifold
    law: Any = model.posterior_law(x, **given)
    loc, time = law.loc, law.time
    for k in range(rounds):
        count = num_samples if k == rounds - 1 else max(10, num_samples // 2)
        points, log_weights = _round(model, x, loc, time, count, generator, given)
        weights = log_weights.softmax(0)
        loc = _mean(M, points, weights, loc)
        if k < rounds - 1:
            time = variance_about(M, points, weights, loc).clamp(1e-6, LONGEST).to(loc.dtype)
    return WeightedPosterior(M, loc, points, weights)


@torch.no_grad()
def can_refine(manifold: Manifold) -> bool:
    """Whether ``refine`` takes models on a manifold, tried at one point."""
    point = manifold.base_point().unsqueeze(0)
    near = HeatKernel(manifold, point, torch.full((1, *manifold.time_shape), 0.01))
    try:
        drawn = near.sample((1,), generator=torch.Generator().manual_seed(0))
        near.log_prob(drawn)
        weights = torch.ones(1, 1, dtype=drawn.dtype)
        variance_about(manifold, drawn, weights, _mean(manifold, drawn, weights, point))
    except NotImplementedError:
        return False
    return True


def rows_at_once(model: DeltaVAE, num_samples: int = 500) -> int:
    """How many rows to refine together, so that what they decode to fits the memory."""
    return max(1, min(200, ELEMENTS // (num_samples * math.prod(model.likelihood.event_shape))))


@torch.no_grad()
def posterior_on_grid(M: Manifold, grid: Tensor, log_joint: Tensor) -> WeightedPosterior:
    """The posterior from its log-density, up to a constant, at points that cover M evenly.

    With ``model.log_joint(x, grid[:, None])`` it is the model's own, and with the log-likelihood
    under known tuning curves that of the ideal observer. As exact as the grid is fine beside the
    law; ``effective`` tells how many points of it count.

    Arguments:
        grid: ``(points, *ambient_shape)``, uniform.
        log_joint: ``(points, n)``.

    Raises:
        ValueError: if shapes do not fit.
    """
    M.require_shape("grid", grid)
    if log_joint.dim() != 2 or len(log_joint) != len(grid):
        raise ValueError(
            f"log_joint has shape {tuple(log_joint.shape)}: expected ({len(grid)}, n), a row for "
            "every point of the grid"
        )
    weights = log_joint.softmax(0)
    points = grid.unsqueeze(1).expand(-1, log_joint.shape[1], *grid.shape[1:])
    start = grid[weights.argmax(0)]
    return WeightedPosterior(M, _mean(M, points, weights, start), points, weights)


def _round(
    model: DeltaVAE,
    x: Tensor,
    loc: Tensor,
    time: Tensor,
    count: int,
    generator: torch.Generator | None,
    given: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """Points ``(count, n, *)`` of the proposal and their log-weights ``(count, n)``."""
    M, prior = model.manifold, model.prior
    near = HeatKernel(M, loc, time.clamp_max(LONGEST), validate_args=False)
    wide = HeatKernel(M, loc, (WIDE * time).clamp_max(LONGEST), validate_args=False)
    from_prior, from_wide = round(FROM_PRIOR * count), round(FROM_WIDE * count)
    n = len(loc)
    kind = {"dtype": loc.dtype, "device": loc.device}
    drawn = prior.draw(from_prior * n, generator=generator, **kind)  # type: ignore[operator]
    points = torch.cat(
        [
            near.sample((count - from_prior - from_wide,), generator=generator),
            wide.sample((from_wide,), generator=generator),
            drawn.reshape(from_prior, n, *M.ambient_shape),
        ]
    )
    shares = (1 - FROM_PRIOR - FROM_WIDE, FROM_WIDE, FROM_PRIOR)
    densities = [law.log_prob(points) for law in (near, wide, prior)]
    mixture = torch.stack(
        [density + math.log(share) for density, share in zip(densities, shares, strict=True)]
    )
    return points, model.log_joint(x, points, **given) - mixture.logsumexp(0)


def _mean(M: Manifold, points: Tensor, weights: Tensor, start: Tensor) -> Tensor:
    """The weighted Fréchet mean, by steps along the mean logarithm.

    From the start or the heaviest point, whichever is nearer to all.
    """
    rank = len(M.ambient_shape)
    share = weights.reshape(*weights.shape, *[1] * rank)
    heaviest = points[weights.argmax(0), torch.arange(points.shape[1], device=points.device)]
    spreads = [(weights * M.dist(points, at).square()).sum(0) for at in (start, heaviest)]
    mean = torch.where((spreads[1] < spreads[0]).reshape(-1, *[1] * rank), heaviest, start)
    for _ in range(MEAN_STEPS):
        mean = M.expmap(mean, (share * M.logmap(mean.expand_as(points), points)).sum(0))
    return mean


def variance_about(M: Manifold, points: Tensor, weights: Tensor, mean: Tensor) -> Tensor:
    """Mean squared distance over the dimension, of every time its own, ``(n, *time_shape)``.

    Arguments:
        points: ``(samples, n, *ambient_shape)``, or ``(samples, 1, *ambient_shape)`` alike for all.
        weights: ``(samples, n)``, of sum one over samples.
        mean: ``(n, *ambient_shape)``.
    """
    if isinstance(M, Product):
        parts = zip(M.factors, M.split(points), M.split(mean), strict=True)
        own = [variance_about(N, x, weights, m).reshape(len(mean), -1) for N, x, m in parts]
        return torch.cat(own, -1)
    if isinstance(M, Euclidean):
        return (weights.unsqueeze(-1) * (points - mean).square()).sum(0)
    if M.time_shape:
        raise NotImplementedError(
            f"{M!r} has times of shape {M.time_shape}: posteriors are refined on manifolds with "
            "one time, and on products of such"
        )
    return (weights * M.dist(points, mean).square()).sum(0) / M.dim
