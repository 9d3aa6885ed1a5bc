"""Brownian motion on Euclidean space: the normal law, with a variance per dimension."""

import math

import torch
from torch import Tensor

from manifold_ae.heat.kernel import brownian_step, entropy, log_kernel
from manifold_ae.manifolds import Euclidean

__all__: list[str] = []


@log_kernel.register
def _(manifold: Euclidean, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    return -0.5 * ((x - y).square() / t + torch.log(2 * math.pi * t)).sum(-1)


@brownian_step.register
def _(manifold: Euclidean, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    return x + torch.sqrt(t) * noise


@entropy.register
def _(manifold: Euclidean, x: Tensor, t: Tensor) -> Tensor:
    return 0.5 * (torch.log(2 * math.pi * t) + 1).sum(-1)
