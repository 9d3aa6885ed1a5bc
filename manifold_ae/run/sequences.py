"""Recordings whose rows have an order: what a prior along time is trained on, and smoothing."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae import data
from manifold_ae.data import Dataset, Recording
from manifold_ae.experiments import VAE
from manifold_ae.models import DeltaVAE, Smoothed, likeliest_rate, smooth

__all__ = ["likeliest", "rate_of", "smoothed", "time_unit", "windows_of"]

#: Rows that tell of the rate, where there are more.
ROWS = 2000


def time_unit(config: VAE, dataset: Dataset) -> float:
    """The usual time between rows that are trained on: the median; 1 where it is not asked for.

    Raises:
        ValueError: if the rows have no order, or no row follows another.
    """
    if not config.sequence:
        return 1.0
    if dataset.draw is not None:
        raise ValueError(
            f"sequence = {config.sequence}: {dataset.name} is drawn afresh at every step, and its "
            "rows have no order; leave it out"
        )
    elapsed = _elapsed(dataset)[1]
    finite = elapsed[elapsed.isfinite()]
    if not len(finite):
        raise ValueError(
            f"sequence = {config.sequence}: no row of {dataset.name} follows another in its trial; "
            "leave it out"
        )
    return finite.median().item()


def windows_of(config: VAE, dataset: Dataset, batch: Any, **ranks: int) -> data.Windows:
    """Batches of windows of the training rows, which ``batch`` has as a model takes them."""
    order, elapsed = _elapsed(dataset)
    parts = batch if isinstance(batch, dict) else {"x": batch}
    laid = {name: value[order.to(value.device)] for name, value in parts.items()}
    return data.Windows(laid, elapsed, config.sequence, config.batch_size, config.seed, **ranks)


def _elapsed(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The places of training rows in order, and the time since the row before of each."""
    order = data.in_order(dataset.train_given, dataset.train_rows)
    given = data.rows_of(dataset.train_given, order)
    return order, data.elapsed_times(given, dataset.train_rows[order])


def smoothed(
    model: DeltaVAE,
    x: Tensor,
    recording: Recording,
    known: dict[str, Any],
    *,
    rate: float | None = None,
    count: int | None = None,
) -> Smoothed:
    """Posteriors of the rows of a recording given all of them, in the order of its rows.

    Arguments:
        x: the rows as the model sees them.
        recording: which of them follow each other, and when.
        known: what the model is given beside x.
        rate: as in ``models.smooth``; by default the likeliest, see ``likeliest``.
        count: as in ``models.smooth``.
    """
    if rate is None:
        rate = likeliest(model, x, recording, known, count=count)
    order, x, elapsed, known = _laid(x, recording, known)
    found = smooth(model, x, elapsed, rate=rate, count=count, **known)
    back = torch.argsort(order).to(x.device)
    return Smoothed(found.points[back], found.time[back], found.log_evidence, None, found.lattice)


def likeliest(
    model: DeltaVAE,
    x: Tensor,
    recording: Recording,
    known: dict[str, Any],
    *,
    count: int | None = None,
) -> float:
    """The rate under which a recording is likeliest, by its first ``ROWS`` rows."""
    _, x, elapsed, known = _laid(x, recording, known)
    first = {name: value[:ROWS] for name, value in known.items()}
    return likeliest_rate(model, x[:ROWS], elapsed[:ROWS], count=count, **first)


def _laid(
    x: Tensor, recording: Recording, known: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """The order of the rows, and in that order: they, the time since the row before, the rest."""
    rows = torch.arange(len(recording))
    order = data.in_order(recording.given, rows)
    elapsed = data.elapsed_times(data.rows_of(recording.given, order), rows[order])
    place = order.to(x.device)
    return order, x[place], elapsed, {name: value[place] for name, value in known.items()}


def rate_of(model: DeltaVAE) -> dict[str, float]:
    """The rate of a model's prior along time, where it has one: its mean over factors."""
    return {} if model.motion is None else {"rate": float(np.mean(model.motion.rate.tolist()))}
