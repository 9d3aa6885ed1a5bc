r"""Translations of a periodic picture, whose hidden factors are two angles: a flat torus.

A picture is a real function of two angles with a finite Fourier series,

    pic(θ, φ) = Re Σ_{|k|, |l| ≤ N} γ^{|k| + |l| - 1} a_{kl} e^{i(kθ + lφ)},

with a discount γ in (0, 1] on the higher terms. It is sampled on `size × size` pixels. **θ runs
down the rows** (the last axis but one) and **φ along the columns** (the last axis), both from −π in
steps of 2π/size, so that the origin is at pixel `(size // 2, size // 2)`. The picture translated by
shifts (s, r) is `pic(θ - s, φ - r)`: its content moves by s down and by r to the right, and wraps.
A shift multiplies coefficient (k, l) by `e^{-i(ks + lr)}`, which is exact also between pixels.

The term k = l = 0 is kept as published: it is the constant Re a_{00}/γ, which carries no
information on the translation, and takes up the more of the picture's range the smaller γ is.

References:
    L. A. Pérez Rey, V. Menkovski and J. W. Portegies, *Diffusion Variational Autoencoders*, 2020,
    section 4.2. https://arxiv.org/abs/1901.08991
"""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import at_least, deviation, one_of
from .base import Dataset, register
from .drawn import drawn
from .seeding import generator_for

_CHUNK = 1024


@functools.lru_cache(maxsize=16)
def _waves(order: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """e^{ikθ} at the pixels, with shape `(size, 2N + 1)`, complex, built in double precision."""
    # a table made in inference mode could not be used in a later call that needs gradients
    with torch.inference_mode(False):
        angles = torch.arange(size, dtype=torch.float64) * (2 * math.pi / size) - math.pi
        return _exponentials(angles, order).to(dtype).to(device)


def _exponentials(angles: Tensor, order: int) -> Tensor:
    """e^{ikα} for k = -N ... N, with shape `(*, 2N + 1)`."""
    k = torch.arange(-order, order + 1, dtype=angles.dtype, device=angles.device)
    phase = angles[..., None] * k
    return torch.complex(phase.cos(), phase.sin())


@dataclass(frozen=True, eq=False, repr=False)
class PeriodicPicture:
    """A real picture on the torus, given by its Fourier coefficients.

    Arguments:
        coefficients: The a_{kl}, complex, with shape `(2N + 1, 2N + 1)`; k and l run from -N to N.
        discount: γ, in (0, 1].
        size: The number of pixels along each axis, at least 2N + 1.

    Raises:
        ValueError: If the coefficients are no square of odd length, or not finite, the discount is
            outside (0, 1], or the pixels are too few to tell the highest waves from lower ones.

    Example:
        >>> picture = PeriodicPicture.simple(size=8)
        >>> picture.translate(torch.zeros(1, 2))[0, 4, 4]
        tensor(1.)
    """

    coefficients: Tensor
    discount: float = 1.0
    size: int = 64

    def __post_init__(self) -> None:
        a = self.coefficients
        if a.ndim != 2 or a.shape[0] != a.shape[1] or a.shape[0] % 2 == 0 or a.shape[0] < 3:
            raise ValueError(
                f"coefficients has shape {tuple(a.shape)}: expected (2N + 1, 2N + 1), N at least 1"
            )
        if not a.isfinite().all():
            raise ValueError("coefficients has values that are not finite")
        if not 0 < self.discount <= 1:
            raise ValueError(f"discount={self.discount!r}: expected a number in (0, 1]")
        at_least("size", self.size)
        if self.size < len(a):
            raise ValueError(
                f"size={self.size}: expected at least {len(a)} pixels for order {self.order}; "
                f"with fewer, high waves look like low ones"
            )
        object.__setattr__(self, "coefficients", a.detach().to("cpu", torch.complex128, copy=True))

    @classmethod
    def simple(cls, size: int = 64) -> "PeriodicPicture":
        """The picture (cos θ + cos φ)/2, of the lowest waves alone, with maximum 1."""
        a = torch.zeros(3, 3, dtype=torch.complex128)
        a[2, 1] = a[1, 2] = 0.5
        return cls(a, 1.0, size)

    @classmethod
    def fourier(
        cls, order: int = 3, discount: float = 0.3, seed: int = 0, size: int = 64
    ) -> "PeriodicPicture":
        """A picture with complex standard normal coefficients, scaled to the maximum |pic| = 1.

        The maximum is that of the function of two angles, not of its pixels: so the same seed gives
        the same picture at every size.

        Arguments:
            order: N, the highest wave number, at least 1.
            discount: γ, in (0, 1]: the smaller, the smoother.
            seed: Which picture.
            size: The number of pixels along each axis, at least 2N + 1.

        Raises:
            ValueError: If an argument is out of its range.
        """
        at_least("order", order)
        generator = generator_for("periodic picture", seed)
        shape = (2 * order + 1, 2 * order + 1)
        a = torch.randn(shape, dtype=torch.complex128, generator=generator)
        return cls(a / cls(a, discount, size)._greatest(), discount, size)

    @property
    def order(self) -> int:
        """N, the highest wave number."""
        return len(self.coefficients) // 2

    def translate(self, shifts: Tensor) -> Tensor:
        """Return the pictures translated by `shifts`, exactly, and differentiably.

        Two matrix products make a picture, at a cost of 2N + 1 operations a pixel. On a GPU they
        follow `torch.set_float32_matmul_precision`, which is exact by default.

        Arguments:
            shifts: Angles in radians by which the content moves down (θ) and to the right (φ), with
                shape `(*, 2)`, float32 or float64.

        Returns:
            The pictures, with shape `(*, size, size)`, of the dtype and on the device of `shifts`.

        Raises:
            ValueError: If `shifts` has another shape or dtype.

        Example:
            >>> shifts = torch.rand(128, 2) * 2 * math.pi
            >>> PeriodicPicture.fourier(order=3, discount=0.3).translate(shifts).shape
            torch.Size([128, 64, 64])
        """
        if shifts.ndim == 0 or shifts.shape[-1] != 2:
            raise ValueError(
                f"shifts has shape {tuple(shifts.shape)}: expected (*, 2), two angles a picture"
            )
        if shifts.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"shifts has dtype {shifts.dtype}: expected float32 or float64")
        waves = _waves(self.order, self.size, shifts.dtype.to_complex(), shifts.device)
        weights = self._weights().to(waves.dtype).to(shifts.device)
        turns = _exponentials(-shifts, self.order)
        turned = turns[..., 0, :, None] * weights * turns[..., 1, None, :]
        # autocast would do the products in half precision
        with torch.autocast(shifts.device.type, enabled=False):
            return _synthesise(waves, turned, waves)

    def _weights(self) -> Tensor:
        """γ^{|k| + |l| - 1} a_{kl}, with shape `(2N + 1, 2N + 1)`, complex128."""
        k = torch.arange(-self.order, self.order + 1).abs()
        powers = (k[:, None] + k - 1).to(torch.float64)
        return self.coefficients * torch.full_like(powers, self.discount).pow(powers)

    def _greatest(self) -> float:
        """The maximum of |pic| over both angles: on a grid, then on ever finer ones around it."""
        points = max(512, 32 * self.order)
        spacing, theta, phi = 2 * math.pi / points, 0.0, 0.0
        offsets = torch.arange(points, dtype=torch.float64)
        greatest = 0.0
        for _ in range(6):
            rows, columns = theta + spacing * offsets, phi + spacing * offsets
            values = _synthesise(
                _exponentials(rows, self.order),
                self._weights(),
                _exponentials(columns, self.order),
            ).abs()
            greatest, best = values.max().item(), int(values.argmax())
            theta, phi = float(rows[best // len(columns)]), float(columns[best % len(columns)])
            spacing, offsets = spacing / 16, torch.arange(-16, 17, dtype=torch.float64)
        return greatest

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PeriodicPicture)
            and (self.discount, self.size) == (other.discount, other.size)
            and torch.equal(self.coefficients, other.coefficients)
        )

    def __hash__(self) -> int:
        return hash((self.order, self.discount, self.size))

    def __repr__(self) -> str:
        return f"PeriodicPicture(order={self.order}, discount={self.discount}, size={self.size})"


def _synthesise(rows: Tensor, weights: Tensor, columns: Tensor) -> Tensor:
    """Re Σ_{kl} weights_{kl} rows_{ik} columns_{jl}, with shape `(*, i, j)`.

    The second product is done in real numbers, since only its real part is wanted: half the work.
    """
    half = rows @ weights
    return torch.cat((half.real, half.imag), -1) @ torch.cat((columns.real, -columns.imag), -1).mT


def _simple(order: int, discount: float, seed: int, size: int) -> PeriodicPicture:
    return PeriodicPicture.simple(size)


PICTURES = {"simple": _simple, "fourier": PeriodicPicture.fourier}
TRANSLATIONS = ("fresh", "fixed")


@register("torus", "translations of a periodic picture, 64x64 pixels, drawn")
def load_torus(
    *,
    seed: int = 0,
    picture: str = "simple",
    order: int = 3,
    discount: float = 0.3,
    size: int = 64,
    translations: str = "fresh",
    num_train: int = 10_000,
    num_test: int = 2_000,
    noise: float = 0.0,
    picture_seed: int = 0,
) -> Dataset:
    """Return translations of one picture by uniform shifts, which are the labels, in [0, 2π).

    Arguments:
        seed: Which shifts, and which noise.
        picture: `"simple"`, (cos θ + cos φ)/2; or `"fourier"`, with random coefficients.
        order: N, of `"fourier"` alone.
        discount: γ, of `"fourier"` alone.
        size: The number of pixels along each axis.
        translations: `"fixed"`, `num_train` pictures to train on; or `"fresh"`, new ones at every
            step, by the data set's `draw`: then `train` is a sample to look at and to scale by.
        num_train: The number of pictures in `train`.
        num_test: The number of pictures in `test`.
        noise: The standard deviation of Gaussian noise on each pixel.
        picture_seed: Which picture, of `"fourier"` alone.

    Raises:
        ValueError: If an argument is out of its range or is no known name.
    """
    one_of("picture", picture, PICTURES)
    one_of("translations", translations, TRANSLATIONS)
    deviation("noise", noise)
    shown = PICTURES[picture](order=order, discount=discount, seed=picture_seed, size=size)

    def draw(
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return `n` new pictures `(n, size, size)` and their shifts `(n, 2)` in radians.

        Random numbers are drawn where `generator` lives, pictures made on `device` (by default the
        same).
        """
        source = generator.device if generator is not None else device
        single = {"dtype": torch.float32, "device": source, "generator": generator}
        shifts = (2 * math.pi * torch.rand(n, 2, **single)).to(source if device is None else device)
        x = torch.empty(n, size, size, dtype=torch.float32, device=shifts.device)
        for part, some in zip(x.split(_CHUNK), shifts.split(_CHUNK), strict=True):
            part.copy_(shown.translate(some))
        if noise:
            x += noise * torch.randn(x.shape, **single).to(x.device)
        return x, shifts

    return drawn(
        "torus",
        draw,
        seed=seed,
        num_train=num_train,
        num_test=num_test,
        fresh=translations == "fresh",
        default_likelihood="gaussian",
        default_scaling="none",
        value_range=None if noise else (-1.0, 1.0),
    )
