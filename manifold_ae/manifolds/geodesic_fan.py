"""Fans of geodesics on tori of revolution, and where a meridian is crossed at the wanted place."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Linear", "bracketed", "wrap"]


def wrap(angle: Tensor) -> Tensor:
    """The same angle in [−π, π]."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


class Linear:
    """Functions on equal steps, linear between them: rough, and quick.

    Arguments:
        values: at the ends of all steps, of shape ``(n + 1, k)``.
    """

    def __init__(self, values: Tensor) -> None:
        self._rows = torch.cat([values[:-1], values.diff(dim=0)], -1)

    def __call__(self, place: Tensor) -> tuple[Tensor, ...]:
        """The k functions at places in [0, n], each of the shape of ``place``."""
        index = place.long().clamp_max_(len(self._rows) - 1)
        rows = self._rows.index_select(0, index.reshape(-1)).unflatten(0, place.shape)
        low, rise = rows.chunk(2, -1)
        return torch.addcmul(low, rise, (place - index).unsqueeze(-1)).unbind(-1)


def bracketed(
    forces: Callable[[Tensor], tuple[Tensor, Tensor]],
    angle: Tensor,
    phi: Tensor,
    speed: Tensor,
    momentum: Tensor,
    goal: Tensor,
    target: Tensor,
    *,
    h: Tensor,
    steps: int,
    count: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Geodesics that nearly cross the meridian ``goal`` at the place ``target``.

    The rotation θ never turns back along a geodesic, so each path of the fan crosses the meridian
    once; between neighbours that pass the target on two sides lies one that meets it.

    Arguments:
        forces: from places φ to φ̈ and θ̇/Λ.
        angle: directions of the fan, ``(n, k)``, in ascending order.
        phi, speed, momentum: places, their rates, and momenta Λ at the start, ``(n, k)``.
        goal, target: the rotation that is wanted, and the place, ``(n, 1)``.
        h: a step of length, ``(n, 1)``.
        steps: how many.
        count: how many geodesics to return.

    Returns:
        Directions and lengths, ``(n, count)``, the shortest first, with length 0 where there are
        fewer; and the lengths once more, infinite there.
    """
    theta = torch.zeros_like(phi)
    miss = torch.full_like(phi, math.nan)
    length = torch.full_like(phi, math.inf)
    pull, rate = forces(phi)
    for k in range(steps):
        # Nyström's step of order four, and Simpson's rule for θ.
        middle = phi + h / 2 * (speed + h / 4 * pull)
        pull_middle, rate_middle = forces(middle)
        after = phi + h * (speed + h / 6 * (pull + 2 * pull_middle))
        pull_after, rate_after = forces(phi + h * (speed + h / 2 * pull_middle))
        turned = theta + h / 6 * momentum * (rate + 4 * rate_middle + rate_after)
        speed = speed + h / 6 * (pull + 4 * pull_middle + pull_after)
        crossed = (theta < goal) & (turned >= goal)
        part = (goal - theta) / (turned - theta)
        miss = torch.where(crossed, phi + part * (after - phi) - target, miss)
        length = torch.where(crossed, (k + part) * h, length)
        phi, theta = after, turned
        pull, rate = forces(phi)
    left, right = wrap(miss[..., :-1]), wrap(miss[..., 1:])
    met = (left * right <= 0) & ((left - right).abs() < math.pi)
    part = torch.where(met, left / torch.where(met, left - right, 1.0), 0.5).nan_to_num(0.5)
    guess = torch.where(met, torch.lerp(length[..., :-1], length[..., 1:], part), math.inf)
    best, index = guess.topk(count, dim=-1, largest=False)
    low, high = angle.gather(-1, index), angle.gather(-1, index + 1)
    direction = torch.lerp(low, high, part.gather(-1, index))
    return direction, torch.where(torch.isfinite(best), best, 0.0), best
