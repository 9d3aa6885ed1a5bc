"""Scores of rows and of features: which rows are off the manifold of the rest, and whether features
that are held out can be told from the others.

**Off the manifold.** A row that the model can explain from no place (a cell that does not cycle, a
picture of something else) is less likely under it than rows that it makes itself:

    p = (1 + #{draws with log p(x') ≤ log p(x)}) / (1 + draws),    x' ∼ the model.

Under the model p is uniform, so that p < α is a false alarm in the part α of all good rows. Where
values are missing, a row is compared with draws of which the same are missing. A decoder that knows
its training rows too well gives lower log-likelihoods to new good ones; so the part of the test
rows below α stands beside, which is α where the model is well calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from manifold_ae.data.given import SEEN, rows_of
from manifold_ae.data.seeding import generator_for
from manifold_ae.models import DeltaVAE
from manifold_ae.models.held_out import predict_held_out
from manifold_ae.numerics import in_parts

if TYPE_CHECKING:
    from manifold_ae.run.vae_run import VAERun

__all__ = ["OffManifold", "cosmoothing", "off_manifold", "score_rows"]

#: Rows whose log-likelihood is estimated at once.
ROWS = 500
#: Draws for each set of values that are missing, at least.
LEAST_DRAWS = 100


@dataclass(frozen=True)
class OffManifold:
    """How surprising rows are to a model.

    Attributes:
        log_likelihood: log p(x) ``(n,)``, in scaled units.
        p_value: the part of the model's own rows that are no more likely ``(n,)``.
        z_score: standard deviations of log p(x) above the mean of the model's own rows ``(n,)``.
    """

    log_likelihood: Tensor
    p_value: Tensor
    z_score: Tensor


def score_rows(
    model: DeltaVAE,
    x: Tensor,
    *,
    draws: int = 2000,
    num_samples: int = 100,
    generator: torch.Generator | None = None,
    **given: Tensor,
) -> OffManifold:
    """How surprising scaled observations x ``(n, *event_shape)`` are, beside the model's own.

    Arguments:
        draws: of the model, whose conditions are those of rows of x, taken at random. Of every set
            of values that are missing together, rows are compared with fewer of them where there
            are many sets, 100 at least: some ten milliseconds a set.
        num_samples: importance samples of each log-likelihood.
        given: covariates and exposure of the rows, where the model takes them.

    Raises:
        ValueError: if x is empty, or there are no draws.
    """
    if len(x) == 0 or draws < 1:
        raise ValueError(f"{len(x)} rows and {draws} draws: expected at least one of both")
    gaps = x.isnan()
    sets, of_row = torch.unique(gaps.flatten(1), dim=0, return_inverse=True)
    count = min(draws, max(LEAST_DRAWS, draws // len(sets)))
    chosen = torch.randint(len(x), (count,), generator=generator, device=x.device)
    conditions = rows_of(given, chosen)
    whole = model.sample(count, noise=True, generator=generator, **conditions)
    found, p_value, z_score = torch.empty(3, len(x), dtype=torch.float64).unbind()
    for k, missing in enumerate(sets):
        rows = (of_row == k).nonzero().squeeze(-1)
        own = whole.masked_fill(missing.reshape(x.shape[1:]), math.nan)
        reference = _log_likelihoods(model, own, conditions, num_samples, generator)
        reference = reference.sort().values
        mine = _log_likelihoods(model, x[rows], rows_of(given, rows), num_samples, generator)
        below = torch.searchsorted(reference, mine, right=True).double()
        spread = reference.std() if count > 1 else torch.tensor(math.nan)
        rows = rows.cpu()
        found[rows], p_value[rows] = mine, (1 + below) / (1 + count)
        z_score[rows] = (mine - reference.mean()) / spread
    return OffManifold(found, p_value, z_score)


def _log_likelihoods(
    model: DeltaVAE,
    x: Tensor,
    given: Mapping[str, Tensor],
    num_samples: int,
    generator: torch.Generator | None,
) -> Tensor:
    parts = [
        model.log_likelihood(batch, num_samples, generator=generator, **own)
        for batch, own in in_parts(ROWS, x, given)
    ]
    return torch.cat(parts).double().cpu()


def off_manifold(
    run: VAERun, *, draws: int = 2000, num_samples: int = 100, level: float = 0.05
) -> dict[str, Any]:
    """``score_rows`` of the test rows: the figures, and row by row under ``rows``.

    Returns:
        ``level``; ``part``, of the test rows with p below it; ``rows`` with ``row`` (numbers in the
        data), ``log_likelihood``, ``p_value`` and ``z_score``.
    """
    if not 0 < level < 1:
        raise ValueError(f"level = {level!r}: expected a probability between 0 and 1")
    run.model.eval()
    dataset = run.data()
    x = run.scaled(dataset.test)
    found = score_rows(
        run.model,
        x,
        draws=draws,
        num_samples=num_samples,
        generator=generator_for("off-manifold", run.config.seed, device=run.device),
        **_given(run),
    )
    return {
        "level": level,
        "part": (found.p_value < level).double().mean().item(),
        "rows": {
            "row": dataset.test_rows.numpy(),
            "log_likelihood": found.log_likelihood.numpy(),
            "p_value": found.p_value.numpy(),
            "z_score": found.z_score.numpy(),
        },
    }


def cosmoothing(run: VAERun, *, folds: int = 5) -> dict[str, float]:
    """Features of test rows, predicted a fold at a time from the features of the other folds.

    Returns:
        ``r2``: 1 − Σ(x − E[x | others])² / Σ(x − mean of training rows)², in scaled units; of
        counts also ``bits_per_spike``: the log-likelihood above that of Poisson counts of the
        training rows' mean rates, over the number of counts, in bits.

    Raises:
        ValueError: if there are fewer features than folds, or fewer than two folds.
        NotImplementedError: for angles, which have no variance about a mean.
    """
    run.model.eval()
    dataset, likelihood = run.data(), run.model.likelihood
    if likelihood.planes > 1:
        raise NotImplementedError(
            f"co-smoothing of {likelihood.name!r} data: it is measured on counts and real numbers; "
            "leave --cosmoothing out"
        )
    features = math.prod(likelihood.event_shape)
    if not 2 <= folds <= features:
        raise ValueError(
            f"folds = {folds!r}: expected from 2 to {features}, the number of features"
        )
    x, train = run.scaled(dataset.test), run.scaled(dataset.train)
    given, known = _given(run), _given(run, "train")
    flat, flat_train = x.flatten(1).double(), train.flatten(1).double()
    there, there_train = ~flat.isnan(), ~flat_train.isnan()
    exposures = [g.get("exposure", torch.ones(1, device=x.device)).double() for g in (given, known)]
    exposed = (there_train * exposures[1].unsqueeze(-1)).sum(0)
    rates = (flat_train.nansum(0) / exposed).clamp_min(1e-9)
    expected = exposures[0][:, None] * rates
    fold = torch.arange(features, device=x.device) % folds
    gain, squares, baseline = 0.0, 0.0, 0.0
    for k in range(folds):
        held = fold == k
        found = predict_held_out(run.model, x, held.reshape(likelihood.event_shape), **given)
        seen = there[:, held]
        values, usual = flat[:, held][seen], expected.expand(len(x), -1)[:, held][seen]
        squares += (values - found.mean[seen]).square().sum().item()
        baseline += (values - usual).square().sum().item()
        if likelihood.counts:
            poisson = values * usual.log() - usual - torch.lgamma(values + 1)
            gain += (found.log_prob.sum() - poisson.sum()).item()
    result = {"r2": 1 - squares / baseline if baseline > 0 else math.nan}
    if likelihood.counts:
        result["bits_per_spike"] = gain / (math.log(2) * max(1.0, flat.nansum().item()))
    return result


def _given(run: VAERun, part: str = "test") -> dict[str, Any]:
    dataset = run.data()
    known = getattr(dataset, f"{part}_given")
    own = {name: known[name] for name in SEEN if name in known}
    return run.given(len(getattr(dataset, part)), **own)
