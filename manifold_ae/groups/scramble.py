"""A fixed random change of coordinates of actions, to show that none were given away."""

import torch
from torch import Tensor, nn

from manifold_ae.groups.base import product, require_trailing

__all__ = ["Scramble"]


class Scramble(nn.Module):
    """A frozen random network on actions, one to one: ``(*, dim)`` to ``(*, width)``.

    x ↦ A x with orthonormal columns A, then twice x ↦ s(Q x + b) with an orthogonal Q, a random
    shift b and s(u) = u + 0.9 sin u, which increases strictly. Without the inverse, which needs
    A, Q and b, neither the zero nor the addition of coordinates is to be seen.

    Args:
        dim: number of coordinates.
        seed: of the random matrices; the same seed gives the same network.
        width: number of outputs, at least ``dim``.
    """

    def __init__(self, dim: int, seed: int, width: int | None = None) -> None:
        super().__init__()
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"scramble must be an integer, the seed, or None, got {seed!r}")
        self.dim, self.seed = dim, seed
        self.width = 4 * dim if width is None else width
        if self.width < dim:
            raise ValueError(f"width must be at least dim = {dim}, got {width!r}")
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(3, self.width, self.width, generator=generator, dtype=torch.float64)
        shift = torch.randn(2, self.width, generator=generator, dtype=torch.float64)
        dtype = torch.get_default_dtype()
        turns = torch.linalg.qr(noise)[0]
        self.lift: Tensor
        self.turns: Tensor
        self.shifts: Tensor
        self.register_buffer("lift", turns[0, :dim].to(dtype))
        self.register_buffer("turns", turns[1:].to(dtype))
        self.register_buffer("shifts", shift.to(dtype))

    def forward(self, action: Tensor) -> Tensor:
        require_trailing(repr(self), "X", action, (self.dim,))
        x = product(action, self.lift)
        for turn, shift in zip(self.turns, self.shifts, strict=True):
            x = product(x, turn) + shift
            x = x + 0.9 * torch.sin(x)
        return x

    def extra_repr(self) -> str:
        return f"{self.dim}, seed={self.seed}, width={self.width}"
