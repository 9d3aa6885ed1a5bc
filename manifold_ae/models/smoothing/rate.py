"""How fast a recording moves over the manifold."""

import math

import torch
from torch import Tensor

from manifold_ae.models.delta_vae import DeltaVAE
from manifold_ae.models.smoothing.chain import RESOLVED, Chain
from manifold_ae.models.smoothing.observed import Observed

__all__ = ["likeliest_rate"]

#: Rates that are tried, and halvings of the interval about the best of them.
TRIED, REFINED = 8, 4
#: A variance after which hardly anything is known of where a motion began.
LONGEST = 10.0


@torch.no_grad()
def likeliest_rate(
    model: DeltaVAE,
    x: Tensor,
    elapsed: Tensor,
    *,
    count: int | None = None,
    covariates: Tensor | None = None,
    exposure: Tensor | None = None,
) -> float:
    """The rate of motion, alike in all directions, under which a recording is likeliest.

    The rate of ``BrownianPrior`` is learned with posteriors that are independent from row to row:
    it comes out larger, by about twice their variance over the time between rows, as independent
    samples lie further apart than the latents do. Here the posteriors are those of the chain.

    log p(x_1, …, x_n) is looked at for ``TRIED`` rates, from the least that the points resolve to
    one that joins nothing, and then between the neighbours of the best.

    Arguments are those of ``smooth``.

    Raises:
        ValueError: as ``smooth`` does, and if no row follows another.
    """
    observed = Observed(model, x, elapsed, {"covariates": covariates, "exposure": exposure}, count)
    finite = observed.steps[observed.steps.isfinite()]
    if not len(finite):
        raise ValueError("elapsed: no row follows another, so that nothing tells of a rate")
    usual = finite.median().item()
    least = max(RESOLVED * axis.spacing for axis in observed.lattice.axes) ** 2
    shape = model.manifold.time_shape
    # Few states a row, and all rows: kept, as every rate asks for them.
    emissions = observed.emissions(0, len(x))
    known: dict[float, float] = {}

    def evidence(log_rate: float) -> float:
        if log_rate not in known:
            rates = torch.full(shape, math.exp(log_rate), dtype=torch.float64)
            variances = observed.variances(rates)
            known[log_rate] = _log_evidence(observed, emissions, variances)
        return known[log_rate]

    low, high = math.log(least / usual), math.log(max(LONGEST, 4 * least) / usual)
    tried = torch.linspace(low, high, TRIED).tolist()
    best = max(tried, key=evidence)
    width = (high - low) / (TRIED - 1)
    for _ in range(REFINED):
        width /= 2
        near = [best - width, best, best + width]
        best = max((t for t in near if low <= t <= high), key=evidence)
    return math.exp(best)


def _log_evidence(observed: Observed, emissions: Tensor, variances: Tensor) -> float:
    """log p of all rows, in nats."""
    total = 0.0
    for start, end in observed.chains(variances):
        chain, message = Chain(observed.lattice), None
        for k in range(start, end):
            message, scale = chain.step(message, emissions[k], variances[k], observed.log_start)
            total += scale
    return total
