"""Where each row of a recording lies given all rows, under a trained decoder."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.models.delta_vae import DeltaVAE
from manifold_ae.models.lattices import Lattice
from manifold_ae.models.refinement import variance_about
from manifold_ae.models.smoothing.chain import RESOLVED, forward_backward
from manifold_ae.models.smoothing.observed import Observed

__all__ = ["Smoothed", "moments", "smooth"]

#: Elements of weights over points that are looked at at once, at most.
ELEMENTS = 2**18
#: Iterations of the Fréchet mean.
ITERATIONS = 8


@dataclass(frozen=True, eq=False)
class Smoothed:
    """What a recording says of where each of its rows lies.

    Arguments:
        points: posterior means on the manifold (Fréchet), of shape ``(n, *ambient_shape)``.
        time: posterior variances per direction about them, of shape ``(n, *time_shape)``.
        log_evidence: log p of all rows of each chain, summed, in nats.
        log_marginals: log γ of shape ``(n, points of the lattice)``, if they were kept.
        lattice: the points that it was computed over.
    """

    points: Tensor
    time: Tensor
    log_evidence: float
    log_marginals: Tensor | None
    lattice: Lattice


@torch.no_grad()
def smooth(
    model: DeltaVAE,
    x: Tensor,
    elapsed: Tensor,
    *,
    rate: Tensor | float | None = None,
    count: int | None = None,
    covariates: Tensor | None = None,
    exposure: Tensor | None = None,
    keep: bool = False,
) -> Smoothed:
    """The posteriors of the rows of a recording under a trained decoder and a prior along time.

    Arguments:
        model: the model; of its parts the decoder and the likelihood decide.
        x: rows ``(n, *event_shape)`` as the model takes them, in the order of time.
        elapsed: time since the row before, ``(n,)``, ∞ at the start of a trial; as
            ``data.elapsed_times`` returns it. They are rounded to three digits, so that transitions
            are few.
        rate: variance per unit of time, of shape ``time_shape`` or a number for all; by default
            that of the model's own prior along time, which is too large where posteriors are wide
            (see ``likeliest_rate``). ∞ joins nothing: every row is on its own.
        count: about how many points to compute over; see ``lattice``.
        covariates: as in ``DeltaVAE.loss``; so also ``exposure``.
        keep: whether to keep the posteriors themselves, n rows of as many numbers as points.

    Raises:
        ValueError: if there is no rate, or not a positive one; if lengths differ; or on a manifold
            of more than three dimensions, which so few points do not cover.
    """
    observed = Observed(model, x, elapsed, {"covariates": covariates, "exposure": exposure}, count)
    M, n = model.manifold, len(x)
    variances = observed.variances(_rates(model, rate))
    _warn_unresolved(observed.lattice, variances)
    where: dict[str, Any] = {"dtype": torch.float64, "device": observed.points.device}
    mean = torch.empty(n, *M.ambient_shape, **where)
    time = torch.empty(n, *M.time_shape, **where)
    marginals = torch.empty(n, len(observed.lattice), device=where["device"]) if keep else None
    evidence = 0.0
    for start, end in observed.chains(variances):
        for k, log_gamma, part in forward_backward(
            observed.lattice,
            lambda i, j, start=start: observed.emissions(start + i, start + j),
            variances[start:end],
            observed.log_start,
        ):
            rows = slice(start + k, start + k + len(log_gamma))
            mean[rows], time[rows] = moments(M, observed.points, log_gamma)
            evidence += part
            if marginals is not None:
                marginals[rows] = log_gamma
    return Smoothed(mean.to(x), time.to(x), evidence, marginals, observed.lattice)


def _rates(model: DeltaVAE, rate: Tensor | float | None) -> Tensor:
    if rate is None:
        if model.motion is None:
            raise ValueError(
                "rate: this model was trained without a prior along time: name the variance per "
                "unit of time by which its latents move, as in rate=0.02"
            )
        rate = model.motion.rate
    rates = torch.as_tensor(rate, dtype=torch.float64).cpu().expand(model.manifold.time_shape)
    if not (rates > 0).all():
        raise ValueError(f"rate = {rate!r}: expected positive variances per unit of time")
    return rates


def _warn_unresolved(grid: Lattice, variances: Tensor) -> None:
    """Say so where a step is too short for the spacing of the points."""
    finite = variances[variances.reshape(len(variances), -1).isfinite().all(1)]
    if not finite.numel():
        return
    shortest = finite.amin(0)
    for axis, time in zip(grid.axes, grid.times(shortest), strict=True):
        step = math.sqrt(time.item())
        if step < RESOLVED * axis.spacing:
            factor = (RESOLVED * axis.spacing / step) ** axis.manifold.dim
            warnings.warn(
                f"a step of the chain ({step:.2g}) is short for the spacing of {len(axis)} points "
                f"of {axis.manifold!r} ({axis.spacing:.2g}), so that latents move less than they "
                f"should: {math.ceil(factor * len(axis))} points there are enough",
                stacklevel=3,
            )


def moments(manifold: Manifold, points: Tensor, log_gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Fréchet means and variances per direction of weights γ over points.

    From the most probable point, m ← exp_m(Σ_k γ_k log_m y_k), over the points that have weight.

    Arguments:
        points: of shape ``(K, *ambient_shape)``.
        log_gamma: of shape ``(n, K)``.

    Returns:
        Means ``(n, *ambient_shape)`` and variances ``(n, *time_shape)``.
    """
    means, times = [], []
    for part in log_gamma.split(max(1, ELEMENTS // len(points))):
        weights = part.softmax(1)
        held = (weights > 1e-12 * weights.amax(1, keepdim=True)).any(0)
        y, w = points[held], weights[:, held] / weights[:, held].sum(1, keepdim=True)
        m = points[weights.argmax(1)]
        shape = (len(m), len(y), *manifold.ambient_shape)
        for _ in range(ITERATIONS):
            v = manifold.logmap(m.unsqueeze(1).expand(shape), y.expand(shape))
            step = torch.einsum("nk,nk...->n...", w, v)
            m = manifold.projx(manifold.expmap(m, step))
            if step.abs().max() < 1e-7:
                break
        means.append(m)
        times.append(variance_about(manifold, y.unsqueeze(1), w.mT, m))
    return torch.cat(means), torch.cat(times)
