r"""Points in the plane: eight Gaussians, two moons, an S: what samplers are first tried on.

All are laws of mean zero and unit variance in each coordinate, exactly and before anything is
drawn, as a noise schedule expects them: the moments are known in closed form, and divided out. So
fresh points, samples and densities all live in the same coordinates.

References:
    The moons and the S (its curve, seen from the side) are those of scikit-learn,
    `sklearn.datasets.make_moons` and `make_s_curve`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ._checks import at_least, deviation
from .base import Dataset, register
from .drawn import drawn


def mixture_parameters(components: int = 8, spread: float = 0.1) -> tuple[Tensor, Tensor]:
    """Return the means and variances of the data set `mixture`, for closed forms.

    Gaussians of equal weight are centred on a circle of radius r, with standard deviation `spread`
    times r in every direction; r² (1/2 + spread²) = 1 makes the variance of each coordinate 1.

    Arguments:
        components: How many, at least 3.
        spread: The standard deviation of each, in radii; at least 0.

    Returns:
        Means `(components, 2)` and variances `(components, 2)`, float64, as
        `diffusion.exact.mixture` takes them.

    Raises:
        ValueError: If there are fewer than 3, or the spread is negative or not finite.

    Example:
        >>> means, variances = mixture_parameters()
        >>> (means.square().mean(0) + variances.mean(0)).float()
        tensor([1., 1.])
    """
    at_least("components", components, 3)
    deviation("spread", spread)
    radius = 1 / math.sqrt(0.5 + spread**2)
    angles = torch.arange(components, dtype=torch.float64) * (2 * math.pi / components)
    means = radius * torch.stack([angles.cos(), angles.sin()], -1)
    return means, torch.full_like(means, (spread * radius) ** 2)


@register("mixture", "Gaussians on a circle in the plane, eight of them, drawn")
def load_mixture(
    *,
    seed: int = 0,
    components: int = 8,
    spread: float = 0.1,
    num_train: int = 10_000,
    num_test: int = 10_000,
) -> Dataset:
    """Return points of a mixture of Gaussians, with the number of each one's Gaussian as labels.

    Arguments:
        seed: Which points.
        components: How many Gaussians, at least 3.
        spread: Their standard deviation, in radii of the circle that they are centred on.
        num_train: The number of points in `train`, a sample of what `draw` gives without end.
        num_test: The number of points in `test`.

    Raises:
        ValueError: If an argument is out of its range.
    """
    means, variances = mixture_parameters(components, spread)

    def points(n: int, source: _Source) -> tuple[Tensor, Tensor]:
        k = source.integers(n, components)
        place = means.to(k.device, torch.float32)[k]
        return place + math.sqrt(variances[0, 0].item()) * source.normal(n, 2), k

    return _dataset("mixture", points, seed, num_train, num_test)


@register("moons", "two half circles in the plane, each about an end of the other, drawn")
def load_moons(
    *, seed: int = 0, noise: float = 0.1, num_train: int = 10_000, num_test: int = 10_000
) -> Dataset:
    """Return points near two half circles, (cos a, sin a) and (1 − cos a, 1/2 − sin a), 0 ≤ a < π.

    They are standardised: of mean (1/2, 1/4) and variances 3/4 + noise², 9/16 − 1/π + noise². The
    labels are which of the two.

    Arguments:
        seed: Which points.
        noise: The standard deviation about the half circles, in their radii.
        num_train: The number of points in `train`, a sample of what `draw` gives without end.
        num_test: The number of points in `test`.

    Raises:
        ValueError: If an argument is out of its range.
    """
    deviation("noise", noise)
    scale = torch.tensor([0.75, 0.5625 - 1 / math.pi], dtype=torch.float64)
    scale = (scale + noise**2).sqrt()

    def points(n: int, source: _Source) -> tuple[Tensor, Tensor]:
        a, which = math.pi * source.uniform(n), source.integers(n, 2)
        sign = 1.0 - 2.0 * which
        curve = torch.stack([which + sign * a.cos(), 0.5 * which + sign * a.sin()], -1)
        middle = torch.tensor([0.5, 0.25], device=a.device)
        return (curve - middle + noise * source.normal(n, 2)) / scale.to(a.device, a.dtype), which

    return _dataset("moons", points, seed, num_train, num_test)


@register("s-curve", "an S in the plane, two three-quarter circles, drawn")
def load_s_curve(
    *, seed: int = 0, noise: float = 0.05, num_train: int = 10_000, num_test: int = 10_000
) -> Dataset:
    """Return points near the curve (sin a, sign(a) (cos a − 1)), for −3π/2 ≤ a < 3π/2.

    They are standardised: of mean zero and variances 1/2 + noise², 3/2 + 4/(3π) + noise². The
    labels are a, in radians, the distance along the curve.

    Arguments:
        seed: Which points.
        noise: The standard deviation about the curve, in the radius of its circles.
        num_train: The number of points in `train`, a sample of what `draw` gives without end.
        num_test: The number of points in `test`.

    Raises:
        ValueError: If an argument is out of its range.
    """
    deviation("noise", noise)
    scale = torch.tensor([0.5, 1.5 + 4 / (3 * math.pi)], dtype=torch.float64)
    scale = (scale + noise**2).sqrt()

    def points(n: int, source: _Source) -> tuple[Tensor, Tensor]:
        a = 3 * math.pi * (source.uniform(n) - 0.5)
        curve = torch.stack([a.sin(), a.sign() * (a.cos() - 1)], -1)
        x = (curve + noise * source.normal(n, 2)) / scale.to(a.device, a.dtype)
        return x, a.unsqueeze(-1)

    return _dataset("s-curve", points, seed, num_train, num_test)


class _Source:
    """Random numbers, drawn where the generator lives, else on a device, in float32."""

    def __init__(
        self, generator: torch.Generator | None, device: torch.device | str | None
    ) -> None:
        self.generator = generator
        self.device = generator.device if generator is not None else device

    def uniform(self, n: int) -> Tensor:
        return torch.rand(n, dtype=torch.float32, device=self.device, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float32, device=self.device, generator=self.generator)

    def integers(self, n: int, below: int) -> Tensor:
        return torch.randint(below, (n,), device=self.device, generator=self.generator)


def _dataset(
    name: str,
    points: Callable[[int, _Source], tuple[Tensor, Tensor]],
    seed: int,
    num_train: int,
    num_test: int,
) -> Dataset:
    def draw(
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return `n` new points `(n, 2)` and their labels.

        Random numbers are drawn where `generator` lives, and moved to `device`, if one is given.
        """
        x, labels = points(n, _Source(generator, device))
        where = x.device if device is None else device
        return x.to(where), labels.to(where)

    return drawn(
        name, draw, seed=seed, num_train=num_train, num_test=num_test, default_scaling="none"
    )
