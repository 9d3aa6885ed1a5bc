"""Multi-layer perceptrons, the networks of the ΔVAE paper."""

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Fully connected hidden layers, each followed by ReLU: inputs to features.

    Arguments:
        event_shape: shape of one input, flattened; an integer n stands for ``(n,)``.
        hidden: width of each hidden layer; the last is ``out_features``.

    Maps ``(*, *event_shape)`` to ``(*, out_features)``. The paper's encoder is
    ``MLP(shape, (512, 512, 512))``, its decoder ``MLP(ambient_shape, (512, 512))``; the output
    layers belong to the model and to the likelihood.
    """

    def __init__(self, event_shape: int | Sequence[int], hidden: Sequence[int]) -> None:
        super().__init__()
        self.event_shape = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        if not hidden or min(*hidden, *self.event_shape, 1) < 1:
            raise ValueError(
                f"MLP needs at least one hidden layer and positive sizes, got event_shape = "
                f"{self.event_shape}, hidden = {tuple(hidden)}"
            )
        self.out_features = hidden[-1]
        widths = [math.prod(self.event_shape), *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            # In place: the linear map does not need its output to be differentiated.
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(x.dim() - len(self.event_shape)))
