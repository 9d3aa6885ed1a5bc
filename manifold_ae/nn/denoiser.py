r"""Denoisers: networks that predict the noise in x at time t, ε̂(x, t).

A denoiser is a module called as ``denoiser(x, t)`` with x of shape ``(*, *event_shape)`` and
integers t of shape ``(*)``, or one integer for all; what it returns has the shape of x. Those here
have an ``event_shape``, which is checked where there is one. That is all that
``models.DiffusionModel`` asks for: a U-Net for larger pictures is another module of this form, in a
file beside this one, and takes channels first as its ``event_shape``, such as ``(1, 28, 28)``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manifold_ae.nn.time_embedding import TimeEmbedding

__all__ = ["MLPDenoiser"]


class MLPDenoiser(nn.Module):
    r"""A residual network on flattened x, told the time in every block.

        h ← h + V silu(W h + E τ(t)),        ε̂ = V₀ h + g(τ(t)) x,

    with h linear in x at first, and τ the sines and cosines of ``TimeEmbedding`` passed through one
    layer of their own. The second term is there because ε̂ tends to x where all is noise, at every
    size of x; for the same reason nothing is normalised here. It begins with V₀ = 0 and g = 1, by
    predicting that all is noise: then samples stay in bounds, whereas an error of ε̂ that is left
    over at time T grows by 1/√ᾱ_T, some hundred times, on the way to time 0.

    Args:
        event_shape: shape of one x, flattened; an integer n stands for ``(n,)``.
        width: of the hidden layers.
        depth: how many blocks.
        embedding: features of the time.

    Raises:
        ValueError: if a size is below 1; when called, if shapes do not fit or times are not
            integers.

    Example:
        >>> denoiser = MLPDenoiser((8, 8), width=32, depth=2)
        >>> denoiser(torch.randn(5, 8, 8), torch.tensor([1, 2, 3, 500, 1000])).shape
        torch.Size([5, 8, 8])
    """

    def __init__(
        self,
        event_shape: int | Sequence[int],
        width: int = 128,
        depth: int = 3,
        embedding: int = 64,
    ) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        if min(width, depth, *self.event_shape, 1) < 1:
            raise ValueError(
                f"MLPDenoiser needs positive sizes, got event_shape={self.event_shape}, "
                f"width={width}, depth={depth}"
            )
        features = math.prod(self.event_shape)
        self.time = nn.Sequential(TimeEmbedding(embedding), nn.Linear(embedding, width), nn.SiLU())
        self.enter = nn.Linear(features, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.leave = nn.Linear(width, features)
        self.gain = nn.Linear(width, 1)
        for zero in (self.leave.weight, self.leave.bias, self.gain.weight):
            nn.init.zeros_(zero)
        nn.init.ones_(self.gain.bias)

    def forward(self, x: Tensor, t: int | Tensor) -> Tensor:
        batch = tuple(x.shape[: x.dim() - len(self.event_shape)])
        if (*batch, *self.event_shape) != tuple(x.shape):
            raise ValueError(
                f"x has shape {tuple(x.shape)}: expected (*, "
                f"{', '.join(map(str, self.event_shape))})"
            )
        times = torch.as_tensor(t, device=x.device)
        if times.dim() and tuple(times.shape) != batch:
            raise ValueError(
                f"t has shape {tuple(times.shape)}: expected {batch}, a time for each x, or ()"
            )
        rows, tau = x.flatten(len(batch)), self.time(times)
        h = self.enter(rows)
        for block in self.blocks:
            h = block(h, tau)
        return (self.leave(h) + self.gain(tau) * rows).unflatten(-1, self.event_shape)


class _Block(nn.Module):
    """h ↦ h + V silu(W h + E τ)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(width, width)
        self.told = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, h: Tensor, tau: Tensor) -> Tensor:
        return h + self.out(nn.functional.silu(self.into(h) + self.told(tau)))
