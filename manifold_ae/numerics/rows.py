"""Many rows, so many at a time: what bounds the memory of whatever is done row by row."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def in_parts(
    rows: int, x: Tensor, given: Mapping[str, Any] | None = None
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Parts of x of at most so many rows, each with those of what else is known of them.

    Of no rows at all there is one part, without any.
    """
    for start in range(0, max(1, len(x)), rows):
        own = slice(start, start + rows)
        yield x[own], {name: value[own] for name, value in (given or {}).items()}
