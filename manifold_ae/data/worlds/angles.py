"""Angles of states: what elements of groups are coloured by in plots, and binned by in splits."""

import math

import torch
from torch import Tensor

from .base import HiddenFactor

#: The factors of a rotation, in the order of `euler_angles`.
ROTATION = (
    HiddenFactor("azimuth"),
    HiddenFactor("tilt", 0.0, math.pi, circular=False),
    HiddenFactor("roll"),
)


def euler_angles(rotation: Tensor) -> Tensor:
    """Azimuth, tilt and roll of R = R_z(azimuth) R_y(tilt) R_z(roll), `(*, 3)`, of `(*, 3, 3)`.

    Azimuth and roll are in [0, 2π), tilt in [0, π]; at tilt 0 and π, where they are not determined,
    azimuth and roll are some angles all the same.
    """
    across, down, up = rotation[..., 2].unbind(-1)
    tilt = torch.atan2(torch.hypot(across, down), up)
    roll = torch.atan2(rotation[..., 2, 1], -rotation[..., 2, 0])
    return torch.stack((turn(torch.atan2(down, across)), tilt, turn(roll)), -1)


def circle_angles(pairs: Tensor) -> Tensor:
    """Angles in (−π, π], `(*, n)`, of the (cos, sin) of each in turn, `(*, 2n)`."""
    cosine, sine = pairs.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.atan2(sine, cosine)


def turn(angle: Tensor) -> Tensor:
    """Angles in [0, 2π)."""
    wrapped = angle.remainder(2 * math.pi)
    # the remainder of a negative angle next to zero rounds to 2π
    return torch.where(wrapped < 2 * math.pi, wrapped, 0.0)
