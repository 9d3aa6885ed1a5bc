r"""Pictures on a torus, shifted: by any angle through their waves, by whole pixels as they are."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups.action import Map, refuse_sizes, register
from manifold_ae.groups.base import check_size, require_trailing, require_values
from manifold_ae.groups.cyclic import Cyclic
from manifold_ae.groups.product import Product
from manifold_ae.groups.torus import Torus

__all__ = ["PeriodicImages"]


@dataclass(frozen=True, repr=False)
class PeriodicImages:
    r"""Pictures of shape ``(*, height, width)`` whose opposite edges meet.

    ``Torus(2)`` acts by (θ, φ)·f (x, y) = f(x − θ, y − φ), which moves the content down and to the
    right, each wave of the picture by its own phase: f̂(k, l) ↦ e^{−i(kθ + lφ)} f̂(k, l). It is
    exact for pictures that are sums of waves below the Nyquist frequency. A real wave at that
    frequency, which an even number of pixels has, cannot be shifted by a part of a pixel; pictures
    that hold one are refused. ``Product(Cyclic(height), Cyclic(width))`` shifts any picture, by
    whole pixels.

    Example:
        >>> from manifold_ae.groups import Action
        >>> G, images = Torus(2), PeriodicImages(3, 3)
        >>> x = torch.eye(3)
        >>> third = G.exp(torch.tensor([2 * torch.pi / 3, 0.0]))
        >>> torch.allclose(Action(G, images)(third, x), x.roll(1, 0), atol=1e-6)
        True
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        check_size("PeriodicImages", self.height, argument="height")
        check_size("PeriodicImages", self.width, argument="width")

    def __repr__(self) -> str:
        return f"PeriodicImages({self.height}, {self.width})"

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


@register(Torus, PeriodicImages)
def _by_waves(G: Torus, images: PeriodicImages) -> Map:
    if G.n != 2:
        raise refuse_sizes(G, images, "a picture has two angles, use Torus(2)")

    def shifted(g: Tensor, x: Tensor) -> Tensor:
        require_trailing(images, "x", x, images.shape)
        waves = torch.fft.rfft2(x)
        _require_no_nyquist(images, x, waves)
        angles = G.log(g)
        like: dict[str, Any] = {"dtype": x.dtype, "device": x.device}
        # Whole numbers; at the Nyquist frequency there is nothing to shift.
        k = torch.fft.fftfreq(images.height, 1 / images.height, **like)
        l = torch.fft.rfftfreq(images.width, 1 / images.width, **like)  # noqa: E741
        phase = angles[..., 0, None, None] * k[:, None] + angles[..., 1, None, None] * l
        turned = waves * torch.complex(torch.cos(phase), -torch.sin(phase))
        return torch.fft.irfft2(turned, s=images.shape)

    return shifted


def _require_no_nyquist(images: PeriodicImages, x: Tensor, waves: Tensor) -> None:
    rounding = 16 * torch.finfo(x.dtype).eps * x.detach().abs().sum((-2, -1))
    for axis, pixels in ((-2, images.height), (-1, images.width)):
        if pixels % 2:
            continue
        highest = waves.detach().select(axis, pixels // 2).abs().amax(-1)
        message = (
            f"x has a wave of the Nyquist frequency, {pixels // 2} for {pixels} pixels (or is not "
            "finite): it cannot be shifted by a part of a pixel. Take an odd number of pixels, "
            "leave that wave out, or shift by whole pixels with "
            f"Product(Cyclic({images.height}), Cyclic({images.width}))"
        )
        require_values(highest <= rounding, lambda message=message: message)


@register(Product, PeriodicImages)
def _by_pixels(G: Any, images: PeriodicImages) -> Map:
    pixels = Product(Cyclic(images.height), Cyclic(images.width))
    if pixels != G:
        raise refuse_sizes(
            G,
            images,
            f"use Torus(2), or {pixels!r}",
        )

    def shifted(g: Tensor, x: Tensor) -> Tensor:
        require_trailing(images, "x", x, images.shape)
        down, right = G.split(g)
        pixel = torch.arange(math.prod(images.shape), device=x.device)
        rows, columns = pixel // images.width, pixel % images.width
        rows = (rows - down.unsqueeze(-1)) % images.height
        columns = (columns - right.unsqueeze(-1)) % images.width
        source, flat = rows * images.width + columns, x.flatten(-2)
        shape = torch.broadcast_shapes(source.shape, flat.shape)
        moved = torch.gather(flat.expand(shape), -1, source.expand(shape))
        return moved.unflatten(-1, images.shape)

    return shifted
