"""What the training loop iterates over: epochs of batches, each a function of (seed, epoch) alone.

So a run resumed at an epoch sees the batches that an uninterrupted one sees, and no random state of
the data has to be saved. Several processes see different rows in the same number of steps.
"""

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from ._checks import at_least
from .seeding import generator_for


def _check_rank(rank: int, world_size: int) -> None:
    at_least("world_size", world_size)
    at_least("rank", rank, 0)
    if rank >= world_size:
        raise ValueError(
            f"rank={rank}: expected 0 to {world_size - 1}, with world_size={world_size}"
        )


def _map(function: Callable[..., Tensor], *batches: Any) -> Any:
    """Apply a function of tensors to those in the same places of batches that are alike.

    A batch is a tensor, or a tuple of tensors, or a dict of them.
    """
    first = batches[0]
    if isinstance(first, dict):
        return {name: function(*(batch[name] for batch in batches)) for name in first}
    if isinstance(first, tuple):
        return tuple(function(*parts) for parts in zip(*batches, strict=True))
    return function(*batches)


def _tensors(batch: Any) -> dict[str, Tensor]:
    """The tensors of a batch, each with what to call it."""
    if isinstance(batch, dict):
        return {f"x[{name!r}]": value for name, value in batch.items()}
    if isinstance(batch, tuple):
        return {f"x[{k}]": value for k, value in enumerate(batch)}
    return {"x": batch}


class _Seeded:
    """A source whose batches depend on a seed beside the epoch."""

    seed: int

    def seeded(self, seed: int) -> Self:
        """Return a source of the same data with orders, or draws, of another seed."""
        other = copy.copy(self)
        other.seed = seed
        return other


class Shuffled(_Seeded):
    """Batches of rows, of one tensor or of several alike, in an order drawn anew for each epoch.

    Of w processes with batches of b rows, one step takes together the rows that one process alone
    would take with batches of w·b, each process its part. Fewer than w rows at the end of an epoch
    are left for another; else every row comes once an epoch, in a smaller last batch if need be.

    Arguments:
        x: The values, with shape `(n, *shape)`; batches are made on its device. Of a tuple of
            tensors with the same number of rows, the batches are tuples; of a dict, dicts, such
            as `given.batch_of` makes of values and what is known beside them.
        batch_size: The number of rows of a batch, of one process.
        seed: Which orders.
        rank: The number of this process.
        world_size: The number of processes.

    Raises:
        ValueError: If a number is out of its range, or there are fewer rows than processes.

    Example:
        >>> batches = Shuffled(torch.arange(5), batch_size=2, seed=0)
        >>> len(batches), [len(x) for x in batches.epoch(0)]
        (3, [2, 2, 1])
    """

    def __init__(
        self,
        x: Tensor | tuple[Tensor, ...] | dict[str, Tensor],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        at_least("batch_size", batch_size)
        _check_rank(rank, world_size)
        tensors = _tensors(x)
        if not tensors:
            raise ValueError(f"x={x!r}: expected at least one tensor")
        first = next(iter(tensors.values()))
        for name, value in tensors.items():
            if value.ndim == 0 or len(value) < world_size:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}: expected at least {world_size} "
                    f"row(s), one for each process"
                )
            if len(value) != len(first):
                raise ValueError(
                    f"{name} has {len(value)} rows, and {next(iter(tensors))} has {len(first)}: "
                    f"expected as many"
                )
        self.rows, self.device = len(first), first.device
        self.x, self.batch_size, self.seed = x, batch_size, seed
        self.rank, self.world_size = rank, world_size
        whole, rest = divmod(len(first), batch_size * world_size)
        self._steps = whole + (rest >= world_size)

    def __len__(self) -> int:
        """The number of steps of an epoch, the same for every process."""
        return self._steps

    def share(self, step: int) -> float:
        """The rows of this process in a step, over the mean of all: what its loss counts for.

        Then the mean over processes of what they weigh so is that over the rows of all. It is 1
        but in the last step of an epoch, where the rows may not divide.
        """
        whole = self.batch_size * self.world_size
        rows = min(whole, self.rows - step * whole)
        own = rows // self.world_size + (self.rank < rows % self.world_size)
        return own * self.world_size / rows

    def epoch(self, k: int) -> Iterator[Any]:
        """Yield the batches of epoch `k`, each with shape `(batch_size, *shape)` or shorter."""
        # drawn on the CPU, so that every device sees one order
        order = torch.randperm(self.rows, generator=generator_for("shuffle", self.seed, k))
        order = order.to(self.device)
        for step in order.split(self.batch_size * self.world_size)[: self._steps]:
            own = step.tensor_split(self.world_size)[self.rank]
            yield _map(operator.itemgetter(own), self.x)


class Repeated:
    """Several epochs of another source as one, for data so few that each would be over at once.

    Arguments:
        source: What to repeat, with orders of its own for each of its epochs.
        times: How many of its epochs make one of these.

    Raises:
        ValueError: If `times` is below 1.

    Example:
        >>> twice = Repeated(Shuffled(torch.arange(5), batch_size=2, seed=0), times=2)
        >>> len(twice), [len(x) for x in twice.epoch(0)]
        (6, [2, 2, 1, 2, 2, 1])
    """

    def __init__(self, source: Shuffled, times: int) -> None:
        at_least("times", times)
        self.source, self.times = source, times

    def seeded(self, seed: int) -> "Repeated":
        """Return a source of the same data with orders of another seed."""
        return Repeated(self.source.seeded(seed), self.times)

    def __len__(self) -> int:
        """The number of steps of an epoch."""
        return self.times * len(self.source)

    def share(self, step: int) -> float:
        """What the loss of this process counts for in a step; see `Shuffled.share`."""
        return self.source.share(step % len(self.source))

    def epoch(self, k: int) -> Iterator[Any]:
        """Yield the batches of epoch `k`: those of epochs `k · times` and following."""
        for j in range(self.times):
            yield from self.source.epoch(k * self.times + j)


class Fresh(_Seeded):
    """Batches drawn anew at every step, for data without end.

    The same numbers come only from the same kind of device: random numbers are drawn on it.

    Arguments:
        draw: `draw(n, generator=..., device=...)` returns `n` values `(n, *shape)` and labels, as
            `Dataset.draw` does.
        batch_size: The number of values of a batch, of one process.
        steps_per_epoch: The number of batches of what is to count as an epoch.
        seed: Which draws.
        device: Where to draw them.
        transform: Applied to each batch, such as the `apply` of a `Scaling`.
        rank: The number of this process; each draws from a stream of its own.
        world_size: The number of processes.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        draw: Callable[..., tuple[Tensor, Tensor]],
        batch_size: int,
        steps_per_epoch: int,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        transform: Callable[[Tensor], Tensor] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        at_least("batch_size", batch_size)
        at_least("steps_per_epoch", steps_per_epoch)
        _check_rank(rank, world_size)
        self.draw, self.transform = draw, transform
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.seed, self.device, self.rank = seed, torch.device(device), rank

    def __len__(self) -> int:
        """The number of steps of an epoch."""
        return self.steps_per_epoch

    def share(self, step: int) -> float:
        """What the loss of this process counts for in a step: as much as that of any other."""
        return 1.0

    def epoch(self, k: int) -> Iterator[Tensor]:
        """Yield the batches of epoch `k`, each with shape `(batch_size, *shape)`."""
        generator = generator_for("fresh", self.seed, k, self.rank, device=self.device)
        for _ in range(self.steps_per_epoch):
            x, _ = self.draw(self.batch_size, generator=generator, device=self.device)
            yield x if self.transform is None else self.transform(x)


class Together:
    """Batches of several sources side by side, for models that are trained as one computation.

    Arguments:
        sources: Of as many steps an epoch each, with batches of the same shapes.

    Raises:
        ValueError: If there is none, or their lengths differ.

    Example:
        >>> one = Shuffled(torch.arange(5), batch_size=2, seed=0)
        >>> [x.shape for x in Together([one, one.seeded(1), one.seeded(2)]).epoch(0)]
        [torch.Size([3, 2]), torch.Size([3, 2]), torch.Size([3, 1])]
    """

    def __init__(self, sources: Sequence[Any]) -> None:
        lengths = sorted({len(source) for source in sources})
        if len(lengths) != 1:
            raise ValueError(
                f"sources of {lengths} steps an epoch: expected at least one source, and one length"
            )
        self.sources = tuple(sources)

    def __len__(self) -> int:
        """The number of steps of an epoch."""
        return len(self.sources[0])

    def share(self, step: int) -> float:
        """What the loss of this process counts for in a step; see `Shuffled.share`."""
        return self.sources[0].share(step)

    def epoch(self, k: int) -> Iterator[Any]:
        """Yield the batches of epoch `k`, each with shape `(len(sources), batch_size, *shape)`."""
        for batches in zip(*(source.epoch(k) for source in self.sources), strict=True):
            yield _map(lambda *parts: torch.stack(parts), *batches)
