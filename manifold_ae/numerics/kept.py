"""What is built once in a process and shared by all later calls."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def built_once(build: Callable[..., Any]) -> Callable[..., Any]:
    """Results of a function kept by its arguments, for the process.

    As ``functools.cache``, but built in a thread of its own: what surrounds the first call
    (inference mode, ``no_grad``, a transform of ``torch.func``, a default device, a tracer) belongs
    to the caller's thread, and must not find its way into what later calls share.
    """
    kept: dict[tuple[Any, ...], Any] = {}

    def build_apart(*key: Any) -> None:
        with ThreadPoolExecutor(1) as thread:
            kept[key] = thread.submit(build, *key).result()

    @wraps(build)
    def get(*key: Any) -> Any:
        if key not in kept:
            torch.compiler.disable(build_apart)(*key)
        return kept[key]

    return get


@built_once
def constant(value: float | tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number or a row of numbers as a tensor, made once: torch converts a float at every use."""
    return torch.tensor(value, dtype=dtype, device=device)
