"""Data sets that are drawn: parts to look at and to test on, and the source of more."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._checks import at_least
from .base import Dataset
from .seeding import generator_for

Draw = Callable[..., tuple[Tensor, Tensor]]


def drawn(
    name: str,
    draw: Draw,
    *,
    seed: int,
    num_train: int,
    num_test: int,
    fresh: bool = True,
    **fields: Any,
) -> Dataset:
    """Return the data set of what `draw(n, generator)` draws, values and labels.

    Arguments:
        name: Its name, of which, with `seed`, the random streams of both parts are.
        draw: See `Dataset.draw`.
        seed: Which ones.
        num_train: The number of rows in `train`.
        num_test: The number of rows in `test`.
        fresh: Whether new ones are drawn at every step of training.
        fields: Further fields of `Dataset`.

    Raises:
        ValueError: If a part would be empty.
    """
    at_least("num_train", num_train)
    at_least("num_test", num_test)
    train, train_labels = draw(num_train, generator_for(name, "train", seed))
    test, test_labels = draw(num_test, generator_for(name, "test", seed))
    return Dataset(
        name=name,
        train=train,
        test=test,
        train_rows=torch.arange(num_train),
        test_rows=torch.arange(num_train, num_train + num_test),
        train_labels=train_labels,
        test_labels=test_labels,
        draw=draw if fresh else None,
        **fields,
    )
