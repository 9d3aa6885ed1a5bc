"""What residuals tell of an observation model."""

import torch
from torch import Tensor

__all__ = ["excess_kurtosis"]


def excess_kurtosis(residuals: Tensor) -> float:
    """The median over features of the excess kurtosis of residuals ``(n, *shape)``.

    It is 0 for a Gaussian. What is NaN is missing, and left out; so are features that never vary.
    """
    x = residuals.flatten(1).double()
    x = x - x.nanmean(0)
    second, fourth = x.square().nanmean(0), x.pow(4).nanmean(0)
    varied = second > 0
    if not varied.any():
        return 0.0
    return torch.median(fourth[varied] / second[varied].square() - 3).item()
