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


def _random(n: int, test_fraction: float, seed: int) -> Tensor:
    """A mask over rows, of which `test_fraction` are drawn without replacement."""
    count = min(max(round(n * test_fraction), 1), n - 1)
    mask = torch.zeros(n, dtype=torch.bool)
    mask[torch.randperm(n, generator=generator_for("split", "random", seed))[:count]] = True
    return mask


def _blocks(n: int, test_fraction: float, seed: int) -> Tensor:
    """A mask over rows cut in contiguous blocks, of which `test_fraction` are drawn."""
    # more than BLOCKS where a smaller part than one block is to be held out, or kept
    blocks = min(n, max(BLOCKS, math.ceil(1 / min(test_fraction, 1 - test_fraction))))
    block_of_row = torch.arange(n) * blocks // n
    return _random(blocks, test_fraction, seed)[block_of_row]


SPLITS = {"random": _random, "blocks": _blocks}


def split_rows(
    n: int, how: str = "random", test_fraction: float = 0.2, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the rows to train on and the rows to test on, a function of the arguments alone.

    Arguments:
        n: The number of rows, at least 2.
        how: `"random"`, rows drawn without replacement; or `"blocks"`, for recordings: the rows are
            cut in 20 contiguous blocks of nearly equal length (more if `test_fraction` is below
            1/20 or above 19/20), and whole blocks are drawn.
        test_fraction: The part to test on, strictly between 0 and 1. It is rounded to whole rows,
            or blocks, with at least one on either side.
        seed: Which draw.

    Returns:
        Row numbers of the training and of the test part, int64, sorted, disjoint and together
        `0 ... n - 1`.

    Raises:
        ValueError: If `n` is below 2, `how` is unknown or `test_fraction` is not between 0 and 1.

    Example:
        >>> train, test = split_rows(10, "blocks", test_fraction=0.3)
        >>> len(train), len(test)
        (7, 3)
    """
    at_least("n", n, 2)
    one_of("split", how, SPLITS)
    if not 0 < test_fraction < 1:
        raise ValueError(
            f"test_fraction={test_fraction!r}: expected a number strictly between 0 and 1"
        )
    mask = SPLITS[how](n, test_fraction, seed)
    return (~mask).nonzero().squeeze(-1), mask.nonzero().squeeze(-1)
