"""What the measures say when an argument is wrong: one wording for each mistake."""

from collections.abc import Sequence

import torch
from torch import Tensor


def finite(name: str, x: Tensor) -> Tensor:
    """x in float64, detached, or a ``ValueError`` that names it where it is empty or not finite."""
    if x.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: there is nothing to measure")
    if x.is_complex():
        raise ValueError(f"{name} has dtype {x.dtype}: expected real numbers")
    x = x.detach().double()
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name} has {bad} of {x.numel()} values that are not finite")
    return x


def square(name: str, x: Tensor) -> Tensor:
    """Matrices ``(*, n, n)`` as ``(k, n, n)``, finite and in float64, or a ``ValueError``."""
    if x.ndim < 3 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: expected square matrices (*, n, n)")
    return finite(name, x).reshape(-1, *x.shape[-2:])


def same(name: str, x: Tensor, shape: Sequence[int], why: str) -> None:
    """Raise a ``ValueError`` where x has not the shape that another argument asks for."""
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(x.shape)}: expected {tuple(shape)}, {why}")


def traces(observations: Tensor, actions: Tensor) -> None:
    """Raise a ``ValueError`` unless these are some ``(n, T + 1, *shape)`` and ``(n, T, *)``."""
    if actions.ndim < 2:
        raise ValueError(
            f"actions has shape {tuple(actions.shape)}: expected (n, T, *), T steps for every trace"
        )
    n, steps = actions.shape[:2]
    shape = (n, steps + 1, *observations.shape[2:])
    same("observations", observations, shape, "one more observation than actions in every trace")
    if n == 0 or steps == 0:
        raise ValueError(f"actions has shape {tuple(actions.shape)}: there is nothing to measure")


def partition(sizes: Sequence[int], n: int) -> tuple[int, ...]:
    """Block sizes that add up to n, or a ``ValueError``."""
    sizes = tuple(sizes)
    if any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in sizes):
        raise ValueError(f"sizes={sizes!r}: expected integers of at least 1")
    if sum(sizes) != n:
        raise ValueError(
            f"sizes={sizes!r} add up to {sum(sizes)}: expected {n}, the size of the matrices"
        )
    return sizes
