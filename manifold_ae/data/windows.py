"""Rows of recordings in the order of time: how long since the row before, and batches of windows.

A row that has no row before it, since it is the first of its trial or of a window, has the elapsed
time ∞: what is known of an infinitely distant past is nothing.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ._checks import at_least
from .batches import _check_rank, _map, _Seeded, _tensors
from .given import check_times
from .seeding import generator_for


def in_order(given: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """Return the places of rows in the order of their trials, and of time within a trial.

    Arguments:
        given: What is known of the rows: `groups` tells trials apart, if it is there.
        rows: Their numbers in the recording, rising, with shape `(n,)`.

    Returns:
        A permutation of `0 ... n - 1`, int64.
    """
    if "groups" not in given:
        return torch.arange(len(rows))
    return torch.argsort(given["groups"].cpu(), stable=True)


def elapsed_times(given: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """Return the time since the row before in the same trial, of rows that are in order.

    Where there are no time stamps, row numbers serve: a row that was left out for testing is a gap
    of one more unit.

    Arguments:
        given: What is known of the rows, of which `groups` and `times` are looked at.
        rows: Their numbers in the recording, with shape `(n,)`.

    Returns:
        Positive times, with shape `(n,)`, float64; ∞ for the first row of a trial.

    Raises:
        ValueError: If time does not rise from row to row of a trial.
    """
    times = given.get("times", rows).cpu().double()
    groups = given.get("groups")
    check_times(times, groups)
    elapsed = torch.full((len(times),), math.inf, dtype=torch.float64)
    elapsed[1:] = times[1:] - times[:-1]
    if groups is not None:
        first = groups.cpu()[1:] != groups.cpu()[:-1]
        elapsed[1:][first] = math.inf
    return elapsed


class Windows(_Seeded):
    """Batches of windows: consecutive rows, each with the time since the one before.

    The rows are laid end to end, trial after trial, and cut into windows of one length, from
    another place in every epoch. The windows come in an order drawn anew; every row comes once an
    epoch. A batch is a dict with what `x` has, and `elapsed`, `(rows,)`: ∞ at the start of each
    window, and where one trial ends in it and another begins, so that nothing reaches across.

    Processes share batches as in `Shuffled`, by windows.

    Arguments:
        x: The values `(n, *shape)`, or a dict of tensors of n rows, in the order of time; batches
            are made on their device.
        elapsed: The time since the row before, ∞ for none, with shape `(n,)`, as `elapsed_times`
            returns it.
        window: The number of rows of a window, at least 2. Of fewer rows than that, all are one.
        batch_size: The number of rows of a batch, of one process: as many whole windows as it
            holds, and at least one.
        seed: Which orders.
        rank: The number of this process.
        world_size: The number of processes.

    Raises:
        ValueError: If a number is out of its range, lengths differ, or there are fewer windows than
            processes.

    Example:
        >>> inf = float("inf")
        >>> elapsed = torch.tensor([inf, 1, 1, 1, inf, 1])
        >>> windows = Windows(torch.arange(6), elapsed, window=3, batch_size=6, seed=0)
        >>> [sorted(batch["x"].tolist()) for batch in windows.epoch(0)]
        [[0, 1, 2, 3, 4, 5]]
    """

    def __init__(
        self,
        x: Tensor | Mapping[str, Tensor],
        elapsed: Tensor,
        window: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        at_least("window", window, 2)
        at_least("batch_size", batch_size)
        _check_rank(rank, world_size)
        parts = dict(x) if isinstance(x, Mapping) else {"x": x}
        first = next(iter(parts.values()))
        known = elapsed.to(torch.float32)
        if elapsed.ndim != 1 or not (known > 0).all():
            raise ValueError(
                f"elapsed has shape {tuple(elapsed.shape)} and values from "
                f"{elapsed.min().item():g}: expected (n,) positive times, with ∞ for none"
            )
        parts["elapsed"] = known.to(first.device)
        for name, value in _tensors(parts).items():
            if len(value) != len(elapsed):
                raise ValueError(f"{name} has {len(value)} rows: expected {len(elapsed)}")
        self.parts, self.rows = parts, len(elapsed)
        self.window = min(window, self.rows)
        self.per_batch = max(1, batch_size // self.window)
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.whole, self.rest = divmod(self.rows, self.window)
        count = self.whole + (self.rest > 0)
        if count < world_size:
            raise ValueError(
                f"{self.rows} rows make {count} window(s) of {self.window}: expected at least "
                f"{world_size}, one for each process"
            )
        full, left = divmod(count, self.per_batch * world_size)
        self._steps = full + (left >= world_size)

    def __len__(self) -> int:
        """The number of steps of an epoch, the same for every process."""
        return self._steps

    def share(self, step: int) -> float:
        """The rows of this process in a step, over the mean of all; see `Shuffled.share`."""
        first = step * self.per_batch * self.world_size
        lengths = self._lengths()[first : first + self.per_batch * self.world_size]
        parts = [int(part.sum()) for part in lengths.tensor_split(self.world_size)]
        return parts[self.rank] * self.world_size / sum(parts)

    def _lengths(self) -> Tensor:
        """Rows of each window of an epoch: the one that may be shorter is the last."""
        rest = [self.rest] if self.rest else []
        return torch.tensor([self.window] * self.whole + rest)

    def epoch(self, k: int) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of epoch `k`, each of whole windows one after another."""
        # drawn on the CPU, so that every device sees one order
        generator = generator_for("windows", self.seed, k)
        begin = int(torch.randint(self.rows, (), generator=generator))
        order = torch.randperm(self.whole, generator=generator).tolist()
        order += [self.whole] * (self.rest > 0)
        laid = torch.arange(self.rows).roll(-begin).split(self.window)
        size = self.per_batch * self.world_size
        for step in range(self._steps):
            every = torch.tensor(order[step * size : (step + 1) * size])
            own = [laid[i] for i in every.tensor_split(self.world_size)[self.rank].tolist()]
            rows = torch.cat(own).to(self.parts["elapsed"].device)
            batch: dict[str, Any] = _map(lambda value, rows=rows: value[rows], self.parts)
            batch["elapsed"] = batch["elapsed"].clone()
            starts = torch.tensor([0, *(len(window) for window in own[:-1])]).cumsum(0)
            batch["elapsed"][starts.to(rows.device)] = math.inf
            yield batch
