r"""Sliced Wasserstein distance: how far samples are from data, when neither has a density.

    SW_p(P, Q)ᵖ = E_θ W_p(θ·P, θ·Q)ᵖ,        W_p(P, Q)ᵖ = ∫₀¹ |F_P⁻¹(u) − F_Q⁻¹(u)|ᵖ du,

the mean over directions θ of the distance in one dimension, which sorting solves. Finite samples
of one law are not at distance 0 from each other: a distance means something beside its *floor*,
that of two independent halves of the data.

References:
    Bonneel, Rabin, Peyré and Pfister, *Sliced and Radon Wasserstein barycenters of measures*, 2015,
    https://doi.org/10.1007/s10851-014-0506-3.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from manifold_ae.metrics._checks import finite

__all__ = ["SampleQuality", "sample_quality", "sliced_wasserstein"]

#: Projections held at once, in float64: 32 MiB.
_CHUNK = 2**22


@dataclass(frozen=True)
class SampleQuality:
    """Distance of samples to data, and its floor, that of the data's two halves to each other."""

    distance: float
    floor: float

    @property
    def ratio(self) -> float | None:
        """Distance over floor: 1 for samples as good as new data; None where the floor is 0."""
        return self.distance / self.floor if self.floor > 0 else None

    def as_dict(self) -> dict[str, float | None]:
        """Everything by its name, as JSON takes it."""
        return {**asdict(self), "ratio": self.ratio}


def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    *,
    order: float = 2.0,
    directions: int = 256,
    generator: torch.Generator | None = None,
) -> float:
    """SW_p between the empirical laws of x and y, in the unit of the data.

    Args:
        x: ``(n, *shape)``.
        y: ``(m, *shape)``; m need not be n.
        order: p ≥ 1.
        directions: how many θ, uniform on the sphere, the mean is over.
        generator: where they come from, on the device of x.

    Raises:
        ValueError: if shapes do not fit, values are not finite, p is below 1, or there is no
            direction.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> round(sliced_wasserstein(x, x + 3), 12)
        3.0
    """
    if not 1 <= order < torch.inf:
        raise ValueError(f"order={order!r}: expected p of at least 1, finite")
    if isinstance(directions, bool) or not isinstance(directions, int) or directions < 1:
        raise ValueError(f"directions={directions!r}: expected an integer of at least 1")
    if x.dim() < 2 or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}: expected (n, *shape) and "
            "(m, *shape)"
        )
    x, y = finite("x", x).flatten(1), finite("y", y).flatten(1)
    shape = (directions, x.shape[1])
    theta = torch.randn(shape, dtype=x.dtype, device=x.device, generator=generator)
    theta = theta / torch.linalg.vector_norm(theta, dim=1, keepdim=True)
    at_x, at_y, widths = _quantiles(len(x), len(y), x.device)
    total = x.new_zeros(())
    for some in theta.split(max(1, _CHUNK // len(widths))):
        # (directions, n) and (directions, m): sorting is fastest along what lies together
        p, q = (some @ x.mT).sort(-1).values, (some @ y.mT).sort(-1).values
        gaps = (p[:, at_x] - q[:, at_y]).abs().pow(order)
        total += (gaps @ widths).sum()
    return (total / directions).pow(1 / order).item()


def _quantiles(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where both quantile functions are constant: which value each has there, and the width.

    The steps are at multiples of 1/n and of 1/m: at integers, in units of 1/(n m).
    """
    ends = torch.cat(
        [
            m * torch.arange(1, n + 1, device=device),
            n * torch.arange(1, m + 1, device=device),
        ]
    ).unique()
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return starts // m, starts // n, (ends - starts).double() / (n * m)


def sample_quality(
    samples: Tensor,
    data: Tensor,
    *,
    order: float = 2.0,
    directions: int = 256,
    generator: torch.Generator | None = None,
) -> SampleQuality:
    """How far samples are from data, beside how far data are from data.

    Data are parted in two at random. The distance is the mean of those of samples to either half,
    of as many samples as a half has rows, where there are so many; with fewer, it is the larger for
    it, and so the judgement the harder.

    Args:
        samples: ``(n, *shape)``.
        data: ``(m, *shape)`` that the samples were not made from, m at least 2.
        order: p ≥ 1.
        directions: how many θ, the same ones for every distance.
        generator: where halves and directions come from, on the device of the data.

    Raises:
        ValueError: as ``sliced_wasserstein``, and if there are fewer than two rows of data.
    """
    if len(data) < 2:
        raise ValueError(f"data has shape {tuple(data.shape)}: expected two rows at least")
    order_of_rows = torch.randperm(len(data), generator=generator, device=data.device)
    seed = torch.randint(2**62, (), generator=generator, device=data.device).item()
    half = len(data) // 2
    first, second = data[order_of_rows[:half]], data[order_of_rows[half : 2 * half]]

    def distance(x: Tensor, y: Tensor) -> float:
        same = torch.Generator(x.device).manual_seed(int(seed))
        return sliced_wasserstein(x, y, order=order, directions=directions, generator=same)

    new = samples[:half]
    return SampleQuality(
        distance=(distance(new, first) + distance(new, second)) / 2, floor=distance(first, second)
    )
