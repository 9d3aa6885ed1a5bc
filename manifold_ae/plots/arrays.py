"""Tensors and sequences as numpy arrays to draw, checked where they come in."""

from typing import Any

import numpy as np
import torch

__all__ = ["Array", "as_array", "check_finite"]

#: An array of any shape and kind; the docstrings give the shapes.
Array = np.ndarray[Any, Any]


def as_array(values: Any) -> Array:
    """Values as an array on the CPU, detached from any graph; bfloat16 and half widen."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        if values.is_floating_point():
            values = values.to(torch.float64)
        return values.numpy()
    return np.asarray(values)


def check_finite(name: str, values: Array, remedy: str) -> Array:
    """Values as float64, or a ValueError that counts the entries that are not finite.

    Raises:
        ValueError: if an entry is not a number, or is infinite.
    """
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} has dtype {values.dtype}; expected numbers") from error
    bad = ~np.isfinite(numbers)
    if bad.any():
        raise ValueError(
            f"{name} has {bad.sum()} entries of {bad.size} that are not finite, the first at index "
            f"{tuple(int(i) for i in np.argwhere(bad)[0])}; {remedy}"
        )
    return numbers
