"""Linear maps of many replicas as one product of matrices."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Linear", "is_mapped"]


class _StackedLinear(torch.autograd.Function):
    """x Wᵀ + b for every replica, of ``(K, n, f)``, ``(K, g, f)`` and ``(K, g)``.

    Its own derivative lays out the slopes as the weights are: those of a mapped ``linear`` come
    transposed, and are copied, which is a fifth of a step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            gradient @ weight if wanted[0] else None,
            gradient.mT @ x if wanted[1] else None,
            gradient.sum(1) if wanted[2] else None,
        )


class Linear(torch.autograd.Function):
    """``linear`` of one replica, which ``vmap`` takes to ``_StackedLinear``."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        x, weight, bias = (
            value.expand(info.batch_size, *value.shape) if axis is None else value.movedim(axis, 0)
            for value, axis in zip(inputs, in_dims, strict=True)
        )
        rows = x.reshape(info.batch_size, -1, x.shape[-1])
        y: Any = _StackedLinear.apply(rows, weight, bias)
        return y.view(*x.shape[:-1], weight.shape[-2]), 0


def is_mapped(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether ``Linear`` serves: not where half precision is chosen."""
    return (
        bias is not None
        and torch._C._are_functorch_transforms_active()
        and not torch.is_autocast_enabled(x.device.type)
    )
