"""First and second derivatives of maps that act on every point of a batch by itself.

Flat points only, of shape ``(n, D)``. Reverse mode throughout, by ``torch.func``: what comes out
can be differentiated again, inside other transforms too, and works under ``torch.no_grad``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "Map",
    "gradient",
    "hessian",
    "hessians",
    "jacobian",
    "value_and_jacobian",
]

#: From a batch of points to a batch of values, point by point.
Map = Callable[[Tensor], Tensor]


def value_and_jacobian(function: Map, x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and ∂f_w/∂x_u of shape ``(n, k, D)``, for a map from ``(n, D)`` to ``(n, k)``."""
    value, pull = torch.func.vjp(function, x)[:2]
    n, k = value.shape
    basis = torch.eye(k, dtype=value.dtype, device=value.device).unsqueeze(1).expand(k, n, k)
    (rows,) = torch.func.vmap(pull)(basis)
    return value, rows.movedim(0, 1)


def jacobian(function: Map, x: Tensor) -> Tensor:
    """∂f_w/∂x_u of shape ``(n, k, D)``, for a map from ``(n, D)`` to ``(n, k)``."""
    return value_and_jacobian(function, x)[1]


def gradient(function: Map, x: Tensor, w: Tensor) -> Tensor:
    """∇(w · f)(x) = Df(x)ᵀ w, of shape ``(n, D)``, for w of the shape of f(x)."""
    pull = torch.func.vjp(function, x)[1]
    return pull(w)[0]


def hessian(function: Map, x: Tensor, w: Tensor) -> Tensor:
    """∇²(w · f)(x), of shape ``(n, D, D)``, for w of the shape of f(x)."""
    return jacobian(lambda y: gradient(function, y, w), x)


def hessians(function: Map, x: Tensor) -> Tensor:
    """∂²f_w/∂x_u ∂x_v, of shape ``(n, k, D, D)``, for a map from ``(n, D)`` to ``(n, k)``."""
    basis = torch.eye(function(x[:1].detach()).shape[-1], dtype=x.dtype, device=x.device)
    return torch.stack([hessian(function, x, w.expand(len(x), -1)) for w in basis], 1)
