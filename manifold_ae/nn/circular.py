r"""Networks for periodic pictures that know nothing but the periods: what is moved, moves with it.

A picture has the shape ``(h, w)``; rows and columns are angles, from −π in steps of 2π/h and 2π/w,
and wrap. ``CircularConv`` correlates pictures with filters as large as they are. With it,

- ``CircularEncoder`` gives two angles that turn exactly as the picture is shifted: circular means
  of where its filters respond. For translations of one picture in white noise, a correlation and a
  softmax are the exact posterior, once the filter is that picture over the variance.
- ``CircularDecoder`` draws a bump at the two angles and correlates it: it shifts as they turn.

So the map from translations of a picture to the flat torus is a homeomorphism from the first step
on, wherever the means are not zero; what is left to learn is which features to follow.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["CircularConv", "CircularDecoder", "CircularEncoder"]


class CircularConv(nn.Module):
    r"""Circular correlation with full-sized filters, y_o = b_o + Σ_c Σ_s w_{oc}(s) x_c(· + s).

    Computed by Fourier transforms, in the precision of the weights, autocast or not.

    Args:
        in_maps, out_maps: numbers of maps.
        size: height and width of a map.

    Example:
        >>> CircularConv(1, 8, (64, 48))(torch.randn(5, 1, 64, 48)).shape
        torch.Size([5, 8, 64, 48])
    """

    def __init__(self, in_maps: int, out_maps: int, size: tuple[int, int]) -> None:
        super().__init__()
        if min(in_maps, out_maps, *size) < 1:
            raise ValueError(
                f"CircularConv needs positive sizes, got in_maps={in_maps}, out_maps={out_maps}, "
                f"size={size}"
            )
        self.size = size
        bound = 1 / math.sqrt(in_maps * math.prod(size))
        self.weight = nn.Parameter(torch.empty(out_maps, in_maps, *size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_maps))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(*, in_maps, h, w)`` to maps ``(*, out_maps, h, w)``."""
        if tuple(x.shape[-3:]) != (self.weight.shape[1], *self.size):
            raise ValueError(
                f"x has shape {tuple(x.shape)}: expected "
                f"(*, {', '.join(map(str, (self.weight.shape[1], *self.size)))})"
            )
        with torch.autocast(x.device.type, enabled=False):
            waves = torch.fft.rfft2(x.to(self.weight.dtype))
            filters = torch.fft.rfft2(self.weight).conj()
            product = torch.einsum("...chw,ochw->...ohw", waves, filters)
            y = torch.fft.irfft2(product, s=self.size)
        return y + self.bias[:, None, None]


class CircularEncoder(nn.Module):
    r"""Pictures to two angles that turn with them, and to features that do not.

        ℓ = W₂ silu(W₁ silu(w ⋆ x)),   p = softmax(ℓ),   (Σ p e^{iθ}, Σ p e^{iφ})

    with W₁, W₂ across maps, the same at every pixel. The circular means come first, as cosine and
    sine of each, then the features: how far each mean is from 0, and for every map its mean and the
    logarithm of its mean exponential.

    Args:
        event_shape: ``(h, w)`` of a picture.
        maps: how many filters.

    Attributes:
        location_features: 4; a model takes so many features for its latents as they are.
        out_features: these and the features.

    Raises:
        ValueError: unless pictures have two axes; when called, if shapes do not fit.

    Example:
        >>> encoder = CircularEncoder((64, 64))
        >>> encoder(torch.randn(5, 64, 64)).shape[-1] == encoder.out_features
        True
    """

    location_features = 4

    def __init__(self, event_shape: Sequence[int], maps: int = 8) -> None:
        super().__init__()
        self.event_shape = picture_size(event_shape)
        self.respond = CircularConv(1, maps, self.event_shape)
        self.mix = nn.Linear(maps, maps)
        self.judge = nn.Linear(maps, 1)
        self.out_features = self.location_features + 2 + 2 * maps
        self.rows, self.columns = (_Circle(n) for n in self.event_shape)

    def forward(self, x: Tensor) -> Tensor:
        maps = nn.functional.silu(self.respond(x.unsqueeze(-3))).movedim(-3, -1)
        maps = nn.functional.silu(self.mix(maps))
        likely = self.judge(maps).squeeze(-1).flatten(-2).softmax(-1)
        likely = likely.unflatten(-1, self.event_shape)
        means = torch.cat([self.rows.mean(likely.sum(-1)), self.columns.mean(likely.sum(-2))], -1)
        flat = maps.flatten(-3, -2)
        pixels = math.log(flat.shape[-2])
        lengths = means.unflatten(-1, (2, 2)).square().sum(-1)
        return torch.cat([means, lengths, flat.mean(-2), flat.logsumexp(-2) - pixels], -1)


class CircularDecoder(nn.Module):
    r"""Two angles to maps of features at every pixel, which shift as the angles turn.

        silu(w ⋆ e^{κ (cos(· − θ) − 1)} ⊗ e^{κ' (cos(· − φ) − 1)})

    Bumps are as wide as two pixels at first; κ and κ' are learned.

    Args:
        event_shape: ``(h, w)`` of a picture.
        maps: how many filters, and maps.

    Attributes:
        out_maps: the shape of what it gives, ``(maps, h, w)``: a likelihood's output layer works
            at every pixel alike.

    Example:
        >>> CircularDecoder((64, 64))(torch.randn(5, 4)).shape
        torch.Size([5, 8, 64, 64])
    """

    def __init__(self, event_shape: Sequence[int], maps: int = 8) -> None:
        super().__init__()
        self.picture = picture_size(event_shape)
        self.event_shape = (4,)
        self.out_maps = (maps, *self.picture)
        self.rows, self.columns = (_Circle(n) for n in self.picture)
        # The width of a bump is 1/√κ.
        first = torch.tensor([2 * math.log(n / (4 * math.pi)) for n in self.picture])
        self.log_kappa = nn.Parameter(first)
        self.draw = CircularConv(1, maps, self.picture)
        # Responses of the size of one: a bump covers a few pixels of many.
        with torch.no_grad():
            self.draw.weight.mul_(math.sqrt(math.prod(self.picture)) / 4)

    def forward(self, z: Tensor) -> Tensor:
        if z.shape[-1:] != (4,):
            raise ValueError(
                f"z has shape {tuple(z.shape)}: expected (*, 4), cosine and sine of two angles"
            )
        row, column = self.log_kappa.exp()
        bump = self.rows.bump(z[..., :2], row).unsqueeze(-1)
        bump = bump * self.columns.bump(z[..., 2:], column).unsqueeze(-2)
        return nn.functional.silu(self.draw(bump.unsqueeze(-3)))


class _Circle(nn.Module):
    """The angles of n pixels, as cosines and sines."""

    def __init__(self, n: int) -> None:
        super().__init__()
        angles = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n) - math.pi
        points = torch.stack([angles.cos(), angles.sin()], -1)
        self.points: Tensor
        self.register_buffer("points", points.to(torch.get_default_dtype()), persistent=False)

    def mean(self, weight: Tensor) -> Tensor:
        """The mean point ``(*, 2)`` under weights ``(*, n)``."""
        return weight @ self.points

    def bump(self, z: Tensor, kappa: Tensor) -> Tensor:
        """e^{κ (cos(angle − z) − 1)} at every angle, ``(*, n)``, for points z ``(*, 2)``."""
        return torch.exp(kappa * (z @ self.points.mT - 1))


def picture_size(event_shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of pictures of one channel.

    Raises:
        ValueError: unless there are two axes, of two pixels at least.
    """
    if len(event_shape) != 2 or min(event_shape) < 2:
        raise ValueError(
            f"event_shape = {tuple(event_shape)}: expected (height, width) of a periodic picture"
        )
    return event_shape[0], event_shape[1]
