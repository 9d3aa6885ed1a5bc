"""Training and test rows.

A random permutation tells nothing about new data where neighbouring rows are nearly equal, as in a
recording: each test row then has a training row beside it. There, whole stretches of time are held
out instead. (The rows next to a boundary still resemble each other; longer blocks make them fewer.)
"""

import math

import torch
from torch import Tensor

from ._checks import at_least, one_of
from .seeding import generator_for

BLOCKS = 20


def _random(n: int, test_fraction: float, seed: int, groups: Tensor | None) -> Tensor:
    """A mask over rows, of which `test_fraction` are drawn without replacement."""
    count = min(max(round(n * test_fraction), 1), n - 1)
    mask = torch.zeros(n, dtype=torch.bool)
    mask[torch.randperm(n, generator=generator_for("split", "random", seed))[:count]] = True
    return mask


def _blocks(n: int, test_fraction: float, seed: int, groups: Tensor | None) -> Tensor:
    """A mask over rows cut in contiguous blocks, of which `test_fraction` are drawn."""
    # more than BLOCKS where a smaller part than one block is to be held out, or kept
    blocks = min(n, max(BLOCKS, math.ceil(1 / min(test_fraction, 1 - test_fraction))))
    if groups is None:
        block_of_row = torch.arange(n) * blocks // n
        return _random(blocks, test_fraction, seed, None)[block_of_row]
    # Each trial in as many blocks as are its part of the rows, and at least one.
    block_of_row, first = torch.empty(n, dtype=torch.int64), 0
    for group in groups.unique():
        rows = (groups == group).nonzero().squeeze(-1)
        own = min(len(rows), max(1, round(blocks * len(rows) / n)))
        block_of_row[rows] = first + torch.arange(len(rows)) * own // len(rows)
        first += own
    return _whole(block_of_row, test_fraction, seed, "blocks")


def _groups(n: int, test_fraction: float, seed: int, groups: Tensor | None) -> Tensor:
    """A mask over rows that holds out whole groups, together about `test_fraction` of the rows."""
    if groups is None:
        raise ValueError(
            "split='groups' holds out whole trials, and these data have none: name them by "
            "groups=... (--groups), or take split='blocks'"
        )
    return _whole(groups, test_fraction, seed, "groups")


def _whole(part_of_row: Tensor, test_fraction: float, seed: int, what: str) -> Tensor:
    """A mask of whole parts of unequal size, drawn until their rows come nearest to the fraction.

    There is at least one on either side.
    """
    numbers, place, sizes = part_of_row.unique(return_inverse=True, return_counts=True)
    count = len(numbers)
    if count < 2:
        raise ValueError(
            f"split={what!r}: all rows are of one group: expected at least two, one to train on "
            "and one to test on"
        )
    order = torch.randperm(count, generator=generator_for("split", what, seed))
    held = sizes[order].cumsum(0)[:-1]
    taken = int((held - test_fraction * len(place)).abs().argmin()) + 1
    mask = torch.zeros(count, dtype=torch.bool)
    mask[order[:taken]] = True
    return mask[place]


SPLITS = {"random": _random, "blocks": _blocks, "groups": _groups}


def split_rows(
    n: int,
    how: str = "random",
    test_fraction: float = 0.2,
    seed: int = 0,
    *,
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the rows to train on and the rows to test on, a function of the arguments alone.

    Arguments:
        n: The number of rows, at least 2.
        how: `"random"`, rows drawn without replacement; `"blocks"`, for recordings: the rows are
            cut in 20 contiguous blocks of nearly equal length (more if `test_fraction` is below
            1/20 or above 19/20), and whole blocks are drawn; or `"groups"`, whole trials.
        test_fraction: The part to test on, strictly between 0 and 1. It is rounded to whole rows,
            or blocks, or groups, with at least one on either side; where blocks or groups are of
            unequal length, drawn until the number of their rows is nearest.
        seed: Which draw.
        groups: The trial or session of each row, int64, with shape `(n,)`. A block does not go from
            one to another, and a trial has as many as are its part of the rows.

    Returns:
        Row numbers of the training and of the test part, int64, sorted, disjoint and together
        `0 ... n - 1`.

    Raises:
        ValueError: If `n` is below 2, `how` is unknown or `test_fraction` is not between 0 and 1;
            if there are no groups to hold out, or fewer than two.

    Example:
        >>> train, test = split_rows(10, "blocks", test_fraction=0.3)
        >>> len(train), len(test)
        (7, 3)
        >>> trials = torch.tensor([4, 4, 4, 4, 7, 7, 7, 9, 9, 9])
        >>> trials[split_rows(10, "groups", test_fraction=0.3, groups=trials)[1]].unique()
        tensor([9])
    """
    at_least("n", n, 2)
    one_of("split", how, SPLITS)
    if not 0 < test_fraction < 1:
        raise ValueError(
            f"test_fraction={test_fraction!r}: expected a number strictly between 0 and 1"
        )
    if groups is not None and len(groups) != n:
        raise ValueError(f"groups has {len(groups)} rows: expected {n}")
    mask = SPLITS[how](n, test_fraction, seed, groups)
    return (~mask).nonzero().squeeze(-1), mask.nonzero().squeeze(-1)
