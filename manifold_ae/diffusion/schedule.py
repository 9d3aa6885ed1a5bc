r"""Noise schedules: how much of the data is left after t of T noising steps.

Throughout this package ᾱ_t is the share of the signal's variance that is left at time t, with
ᾱ₀ = 1, α_t = ᾱ_t/ᾱ_{t−1} and β_t = 1 − α_t: given clean data x₀ of unit scale, the noisy

    x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) ε,        ε ~ N(0, I).

Times are integers from 0, clean, to T, nearly pure noise.
"""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups.base import check_size, require_values

__all__ = ["Schedule", "Time"]

#: One time for all samples, or one each: integers, of the batch shape ``(*)``.
Time = int | Tensor

#: Nats a coordinate, up to which the end of a schedule passes for the prior. Ho et al.'s linear
#: schedule has 2.0e-5; the scaled-linear one of latent diffusion, known to end too early (Lin et
#: al., 2024, https://arxiv.org/abs/2305.08891), 2.3e-3.
PRIOR_REACHED = 1e-3

#: Root mean squares that pass for unit scale: pictures in [0, 1] have 0.3 to 0.6, in [−1, 1] up to
#: 1; the raw values of the 8×8 digits have 7.8, bytes some 100.
SCALES = (0.2, 5.0)


@dataclass(frozen=True, repr=False, eq=False)
class Schedule:
    r"""The table ᾱ₀ = 1 > ᾱ₁ > … > ᾱ_T > 0, in float64; two of the same table are equal.

    Args:
        alpha_bar: ᾱ, of shape ``(T + 1,)``.
        name: what it is called.

    Raises:
        ValueError: unless ᾱ begins with 1, decreases strictly and stays positive.

    Example:
        >>> schedule = Schedule.linear(1000)
        >>> schedule.steps, schedule.alpha_bar.shape, schedule.reaches_prior
        (1000, torch.Size([1001]), True)
    """

    alpha_bar: Tensor
    name: str = "custom"

    def __post_init__(self) -> None:
        table = torch.as_tensor(self.alpha_bar, dtype=torch.float64, device="cpu").detach().clone()
        if table.dim() != 1 or len(table) < 2:
            raise ValueError(
                f"alpha_bar has shape {tuple(table.shape)}: expected (T + 1,), one entry at least "
                "after the first"
            )
        if table[0] != 1:
            raise ValueError(
                f"alpha_bar begins with {table[0].item():g}: expected 1, clean data; put it before"
            )
        fine = (table[1:] < table[:-1]) & (table[1:] > 0)
        if not bool(fine.all()):
            t = 1 + int((~fine).nonzero()[0])
            raise ValueError(
                f"alpha_bar[{t}] is {table[t].item():g}, after {table[t - 1].item():g}: expected "
                "positive numbers that decrease strictly; cap β below 1"
            )
        object.__setattr__(self, "alpha_bar", table)

    # ---- the usual ones ---------------------------------------------------------------------

    @classmethod
    def linear(cls, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> "Schedule":
        """β from ``start`` to ``end`` in equal steps.

        The defaults are those of Ho et al. (2020, https://arxiv.org/abs/2006.11239), for 1,000
        steps. With fewer steps the same β do not reach the prior (see ``reaches_prior``).

        Raises:
            ValueError: unless 0 < start ≤ end < 1 and there is a step.
        """
        _check_betas(steps, start, end)
        return cls._from_betas(torch.linspace(start, end, steps, dtype=torch.float64), "linear")

    @classmethod
    def scaled_linear(
        cls, steps: int = 1000, start: float = 0.00085, end: float = 0.012
    ) -> "Schedule":
        """√β from √start to √end in equal steps (Rombach et al., 2022, latent diffusion).

        Raises:
            ValueError: unless 0 < start ≤ end < 1 and there is a step.
        """
        _check_betas(steps, start, end)
        root = torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64)
        return cls._from_betas(root.square(), "scaled-linear")

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> "Schedule":
        r"""ᾱ_t = f(t)/f(0), f(t) = cos²(π/2 · (t/T + offset)/(1 + offset)), and β ≤ ``largest``.

        Nichol and Dhariwal (2021, https://arxiv.org/abs/2102.09672), eq. 17. It suits any number
        of steps.

        Raises:
            ValueError: unless offset ≥ 0, 0 < largest < 1 and there is a step.
        """
        check_size("Schedule.cosine", steps, argument="steps")
        if not (math.isfinite(offset) and offset >= 0):
            raise ValueError(f"offset={offset!r}: expected a number of at least 0, such as 0.008")
        if not 0 < largest < 1:
            raise ValueError(f"largest={largest!r}: expected a bound of β in (0, 1), such as 0.999")
        share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        f = torch.cos(math.pi / 2 * (share + offset) / (1 + offset)).square()
        return cls._from_betas((1 - f[1:] / f[:-1]).clamp_max(largest), "cosine")

    @classmethod
    def _from_betas(cls, beta: Tensor, name: str) -> "Schedule":
        one = torch.ones(1, dtype=torch.float64)
        return cls(torch.cat([one, torch.cumprod(1 - beta, 0)]), name)

    # ---- what it is -------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """T."""
        return len(self.alpha_bar) - 1

    @property
    def beta(self) -> Tensor:
        """β of shape ``(T + 1,)``, with β₀ = 0: the variance of the noise of each step."""
        return torch.cat([torch.zeros_like(self.alpha_bar[:1]), 1 - self._ratios])

    @property
    def _ratios(self) -> Tensor:
        return self.alpha_bar[1:] / self.alpha_bar[:-1]

    @property
    def prior_divergence(self) -> float:
        r"""Nats a coordinate from x_T to N(0, 1): −½ log(1 − ᾱ_T), for data of mean square 1.

        This is KL(N(√ᾱ_T x₀, 1 − ᾱ_T) ‖ N(0, 1)), ½ (ᾱ_T x₀² − ᾱ_T − log(1 − ᾱ_T)), in the mean.
        """
        return -0.5 * math.log1p(-self.alpha_bar[-1].item())

    @property
    def reaches_prior(self) -> bool:
        """Whether x_T may be drawn from N(0, I): ``prior_divergence`` is at most 10⁻³ nats."""
        return self.prior_divergence <= PRIOR_REACHED

    def __repr__(self) -> str:
        end = f"alpha_bar_T={self.alpha_bar[-1].item():.3g}"
        way = "" if self.reaches_prior else ", which does not reach the prior"
        return f"Schedule({self.name!r}, steps={self.steps}, {end}{way})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and torch.equal(self.alpha_bar, other.alpha_bar)

    def __hash__(self) -> int:
        return hash(tuple(self.alpha_bar.tolist()))

    # ---- times and data ---------------------------------------------------------------------

    def times(self, calls: int) -> tuple[int, ...]:
        """Times T = t₀ > t₁ > … > 0 for so many calls of a denoiser, evenly spaced.

        Raises:
            ValueError: unless there are from 1 to T calls.

        Example:
            >>> Schedule.linear(1000).times(4)
            (1000, 750, 500, 250, 0)
        """
        check_size("Schedule.times", calls, argument="calls")
        if calls > self.steps:
            raise ValueError(
                f"calls={calls}: expected at most {self.steps}, the steps of {self!r}; a schedule "
                "of more steps has more times"
            )
        return tuple(self.steps - (k * self.steps) // calls for k in range(calls + 1))

    def require_times(self, times: Sequence[int], *, rising: bool = False) -> tuple[int, ...]:
        """The times as integers, if a chain can visit them in turn.

        Args:
            times: from first to last, both included: falling for a denoiser, else rising.
            rising: which of the two.

        Raises:
            ValueError: for fewer than two times, times out of order, or outside 0 … T.
        """
        found = tuple(_integer("times", t) for t in times)
        if len(found) < 2:
            raise ValueError(
                f"times={found}: expected two times at least, where a chain begins and where it "
                f"ends, such as {(0, self.steps) if rising else (self.steps, 0)}"
            )
        for s, t in pairwise(found):
            if (t <= s) if rising else (t >= s):
                way = "rise: noise is added" if rising else "fall: noise is removed"
                raise ValueError(f"times has {s} before {t}: expected times that {way}; sort them")
        self.require_order(max(found), min(found))
        return found

    def require_order(self, t: Time, s: Time) -> None:
        """Raise a ValueError unless 0 ≤ s < t ≤ T, all integers."""
        if not isinstance(t, Tensor) and not isinstance(s, Tensor):
            t, s = _integer("t", t), _integer("s", s)
            if not 0 <= s < t <= self.steps:
                raise ValueError(
                    f"t={t} and s={s}: expected 0 ≤ s < t ≤ {self.steps}, the noisier time t first"
                )
            return
        for name, time in (("t", t), ("s", s)):
            _integer(name, time)
        late, early = torch.as_tensor(t), torch.as_tensor(s)
        require_values(
            (early >= 0) & (early < late) & (late <= self.steps),
            lambda: (
                f"t from {int(late.min())} to {int(late.max())} and s from {int(early.min())} to "
                f"{int(early.max())}: expected 0 ≤ s < t ≤ {self.steps} for each sample"
            ),
        )

    def at(self, t: Time) -> Tensor:
        """ᾱ_t in float64: of shape ``()``, or ``(*, 1)`` for times of shape ``(*)``."""
        if isinstance(t, Tensor):
            return self.alpha_bar.to(t.device)[t].unsqueeze(-1)
        return self.alpha_bar[t]

    def require_scaled(self, data: Tensor) -> None:
        """Raise a ValueError unless data are floating point, finite, and of about unit scale.

        The noise has unit variance, so that data of another scale are drowned too early, or not
        at all. What can be known of data is their root mean square about 0: it must lie between
        0.2 and 5.
        """
        require_vectors("data", data)
        size = data.detach().double().square().mean().sqrt()
        low, high = SCALES
        require_values(
            (size >= low) & (size <= high),
            lambda: (
                f"data have root mean square {size.item():.3g}: expected about 1, between {low:g} "
                f"and {high:g}, as the noise of {self!r} has 1; standardise them, or scale "
                "pictures to [−1, 1]"
            ),
        )


def require_vectors(name: str, x: Tensor, when: str = "") -> None:
    """Raise a ValueError unless x is float32 or float64, of shape ``(*, n)``, and finite."""
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} is {kind}: expected a tensor of float32 or float64")
    if x.dim() < 1 or x.numel() < 1:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: expected (*, n), vectors in a row")
    require_values(
        x.isfinite().all(),
        lambda: (
            f"{name} has {int((~x.isfinite()).sum())} of {x.numel()} values that are not finite"
            f"{when}: see what made them, a network that diverged or data with gaps"
        ),
    )


def _integer(name: str, t: Any) -> Any:
    """t as a Python integer, or as a tensor of integers; a ValueError if it is neither."""
    if isinstance(t, Tensor):
        if t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
            raise ValueError(f"{name} has dtype {t.dtype}: expected integers, with t.long()")
        return t
    if isinstance(t, bool) or not isinstance(t, numbers.Integral):
        raise ValueError(f"{name}={t!r}: expected an integer, the number of a step")
    return int(t)


def _check_betas(steps: int, start: float, end: float) -> None:
    check_size("Schedule", steps, argument="steps")
    if not 0 < start <= end < 1:
        raise ValueError(
            f"start={start!r} and end={end!r}: expected variances 0 < start ≤ end < 1, such as "
            "1e-4 and 0.02"
        )
