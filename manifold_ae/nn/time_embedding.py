r"""Integer times as features: sines and cosines of geometrically spaced frequencies.

    t ↦ (sin ω₁t, …, sin ω_k t, cos ω₁t, …, cos ω_k t),    ω_j = longest^(−(j − 1)/(k − 1))

from one radian a step down to one in ``longest`` steps, so that neighbouring times differ in the
first features, and times far apart in the last.

References:
    Vaswani et al., *Attention is all you need*, 2017, https://arxiv.org/abs/1706.03762, section
    3.5; in diffusion models: Ho et al., 2020, https://arxiv.org/abs/2006.11239, appendix B.
"""

import torch
from torch import Tensor, nn

__all__ = ["TimeEmbedding"]


class TimeEmbedding(nn.Module):
    """Integers of shape ``(*)`` to features ``(*, size)`` of the dtype of the weights around it.

    Args:
        size: how many features, an even number of at least 4.
        longest: steps a radian of the slowest feature.

    Raises:
        ValueError: if the size is odd or below 4, or ``longest`` is not above 1; when called, for
            times that are not integers.

    Example:
        >>> TimeEmbedding(4)(torch.tensor([0, 1]))[:, 2:]
        tensor([[1.0000, 1.0000],
                [0.5403, 1.0000]])
    """

    frequencies: Tensor

    def __init__(self, size: int, longest: float = 10_000.0) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 4 or size % 2:
            raise ValueError(f"size={size!r}: expected an even integer of at least 4, such as 64")
        if not 1 < longest < float("inf"):
            raise ValueError(f"longest={longest!r}: expected a number above 1, such as 10,000")
        self.size = size
        exponents = torch.linspace(0, -1, size // 2, dtype=torch.float64)
        powers = torch.pow(torch.tensor(longest, dtype=torch.float64), exponents)
        # A function of the arguments alone: not in the state, but moved and cast with the weights.
        self.register_buffer("frequencies", powers.float(), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        if t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
            raise ValueError(f"t has dtype {t.dtype}: expected integers, with t.long()")
        angles = t.unsqueeze(-1).to(self.frequencies.dtype) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)
