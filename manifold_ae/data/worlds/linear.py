"""Linear encoders: fixed matrices from observations to latents, the oracles of worlds that have."""

import torch
from torch import Tensor


class LinearEncoder(torch.nn.Module):
    """A fixed linear map h(o) = H o of observations.

    Arguments:
        rows: H, with shape `(size, features)`, float64.
        shape: The shape of one observation, of so many features.
    """

    matrix: Tensor

    def __init__(self, rows: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.size = shape, len(rows)
        self.register_buffer("matrix", rows)

    def forward(self, observations: Tensor) -> Tensor:
        """Latents `(*, size)` of observations `(*, *shape)`, of their dtype.

        Raises:
            ValueError: If the observations have another shape.
        """
        axes = observations.ndim - len(self.shape)
        if axes < 0 or tuple(observations.shape[axes:]) != self.shape:
            raise ValueError(
                f"observations has shape {tuple(observations.shape)}: expected "
                f"(*, {', '.join(map(str, self.shape))})"
            )
        flat = observations.flatten(axes) if self.shape else observations.unsqueeze(-1)
        return (flat.double() @ self.matrix.mT).to(observations.dtype)

    def extra_repr(self) -> str:
        return f"shape={self.shape}, size={self.size}"
