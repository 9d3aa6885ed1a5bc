"""A closest-point projection that is given, and the geometry that its derivatives hold.

At points x of the manifold, by ``derivatives``: DP(x) is the projector on the tangent space, and
D²P(x)[u, v] = II(u, v), the second fundamental form, for u and v tangent (differentiate
P(γ(s)) = γ(s) twice along a curve γ). As P = ∇(½|y|² − ½ dist²(y, M)), DP is symmetric wherever it
exists, and D²P symmetric in all three arguments: reverse mode alone gives everything.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from manifold_ae.manifolds.derivatives import Map, gradient, hessians, jacobian

__all__ = ["Embedding", "Projection", "bending", "lifted"]


class Embedding(Protocol):
    """What a submanifold is known by; on flat points and vectors ``(n, D)`` but for the call."""

    def __call__(self, y: Tensor) -> Tensor:
        """P(y), of points ``(*, *ambient_shape)``."""
        ...

    def project(self, y: Tensor) -> Tensor:
        """P(y)."""
        ...

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """DP(x) u."""
        ...

    def bend(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """II(u, v) for u and v tangent at x, smoothly continued to neighbouring x, u and v."""
        ...

    def form(self, x: Tensor) -> Tensor:
        """II at x as a tensor ``(n, D, D, D)``, its normal axis first."""
        ...


class Projection:
    """The embedding that ``function``, of tensors ``(*, *ambient_shape)``, projects onto."""

    def __init__(self, function: Map, ambient_shape: tuple[int, ...], name: str) -> None:
        self.function, self.ambient_shape, self.name = function, ambient_shape, name

    def __call__(self, y: Tensor) -> Tensor:
        x = self.function(y)
        if not isinstance(x, Tensor):
            raise ValueError(
                f"project of {self.name!r} returns {x!r}; expected a tensor of shape "
                f"{tuple(y.shape)}, the closest points"
            )
        if x.shape != y.shape or x.dtype != y.dtype:
            raise ValueError(
                f"project of {self.name!r} maps {tuple(y.shape)} of {y.dtype} to {tuple(x.shape)} "
                f"of {x.dtype}; it has to keep both"
            )
        return x

    def project(self, y: Tensor) -> Tensor:
        return self(y.reshape(len(y), *self.ambient_shape)).reshape(
            len(y), math.prod(self.ambient_shape)
        )

    def tangent(self, x: Tensor, u: Tensor) -> Tensor:
        return gradient(self.project, x, u)

    def bend(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return gradient(lambda y: gradient(self.project, y, u), x, v)

    def form(self, x: Tensor) -> Tensor:
        tangent = jacobian(self.project, x)
        return torch.einsum("nwab,nau,nbv->nwuv", hessians(self.project, x), tangent, tangent)


def bending(form: Tensor) -> Tensor:
    r"""The trace N of II ``(n, D, D, D)``, then \|⟨N, II⟩\|², of shape ``(n, D + 1)``."""
    trace = form.diagonal(dim1=-2, dim2=-1).sum(-1)
    along = torch.einsum("nw,nwuv->nuv", trace, form)
    return torch.cat([trace, along.square().sum((-2, -1)).unsqueeze(-1)], -1)


def lifted(x: Tensor, t: Tensor, trace: Tensor, square: Tensor) -> Tensor:
    r"""x + (t/4) N / √(1 + (t/4)²\|⟨N, II⟩\|²), on the normal space at x.

    The distance from x is below \|N\|/\|⟨N, II⟩\|, and so below that of the first focal point in
    the direction of N, which is \|N\| over the largest eigenvalue of ⟨N, II⟩.

    Args:
        x: points of shape ``(*, *ambient_shape)``.
        t: time of a step, of shape ``(*)``.
        trace: N, of the shape of x.
        square: \|⟨N, II⟩\|², of shape ``(*)``.
    """
    quarter = t / 4
    scale = quarter / (1 + quarter.square() * square).sqrt()
    return x + scale.reshape(scale.shape + (1,) * (x.dim() - square.dim())) * trace
