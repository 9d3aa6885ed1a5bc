r"""Convolutional networks for pictures: weights shared over positions.

A picture has shape ``(h, w)`` or ``(c, h, w)``, channels first. ``ConvEncoder`` is the usual one.
``ConvDecoder`` draws by profiles, of rows i and of columns j, that it multiplies. Each axis starts
from features that are bilinear in the latent z and a table over the axis' positions,

    m(i) = Σ_a z_a P_a(i) + p(i),                                                         (1)

which a network f, the same at every position, makes into profiles. Maps are sums of r products,

    M_c(i, j) = Σ_{k=1}^{r} f(m(i))_{ck} g(n(j))_{ck} + b_c,                              (2)

with g and n of the columns; and a convolution, the same at every pixel, draws from these.

With (cos θ, sin θ) in z and tables of that kind, m(i) is a function of i − θ: of where a row lies
relative to a thing at θ. What is drawn by weights that are shared over positions is then drawn at
any place, and as rows and columns meet in products alone, in any combination of places: also where
training has shown nothing. All tables are learned; nothing but the picture's shape is given. In the
spatial broadcast decoder of Watters et al. positions stand *beside* the latent instead, and one
network has to learn the shift.

References:
    N. Watters, L. Matthey, C. P. Burgess, A. Lerchner, *Spatial Broadcast Decoder: A Simple
    Architecture for Learning Disentangled Representations in VAEs*, 2019,
    https://arxiv.org/abs/1901.07017
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["PADDINGS", "ConvDecoder", "ConvEncoder"]

#: What lies beyond the border of a picture, as torch's convolutions have it.
PADDINGS = ("zeros", "circular", "reflect", "replicate")
#: Slope of the maps' nonlinearity below zero.
LEAK = 0.1


class ConvEncoder(nn.Module):
    """3×3 convolutions of stride 2, each followed by ReLU: pictures to features.

    Arguments:
        event_shape: of a picture, ``(h, w)`` or ``(c, h, w)``.
        channels: of each layer, which halves the picture, rounding up.
        padding: one of ``PADDINGS``; ``"circular"`` for pictures that are periodic.

    Maps ``(*, *event_shape)`` to ``(*, out_features)``, all pixels of the last layer's channels.

    Raises:
        ValueError: if the shape is not that of a picture, or there is no layer.

    Example:
        >>> ConvEncoder((3, 17, 16), (16, 32))(torch.zeros(5, 3, 17, 16)).shape
        torch.Size([5, 640])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        channels: Sequence[int] = (16, 32),
        *,
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        first, height, width = _picture(self.event_shape)
        _check("channels", channels)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise((first, *channels)):
            _check_padding(padding, height, width)
            layers += [
                nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1, padding_mode=padding),  # type: ignore[arg-type]
                nn.ReLU(inplace=True),
            ]
            height, width = (height + 1) // 2, (width + 1) // 2
        self.out_features = channels[-1] * height * width
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.dim() - len(self.event_shape)]
        pictures = x.reshape(-1, *_picture(self.event_shape))
        return self.layers(pictures).reshape(*batch, self.out_features)


class ConvDecoder(nn.Module):
    """Equations (1) and (2), and a 3×3 convolution between leaky ReLUs: latents to maps.

    Arguments:
        in_features: size of a latent, or its shape, which is flattened.
        event_shape: of the picture that is drawn, ``(h, w)`` or ``(c, h, w)``.
        hidden: widths of the layers of f and g; the first is that of m.
        maps: c, how many maps there are, of the products and of the convolution.
        rank: r, how many products are added in a map.
        padding: one of ``PADDINGS``; ``"circular"`` for pictures that are periodic.

    Maps ``(*, in_features)`` to ``(*, maps, h, w)``, which is its ``out_maps``: the layer from
    there to a picture is the likelihood's, one linear map for all pixels.

    Raises:
        ValueError: if a shape or a number is not positive, or the shape not that of a picture.

    Example:
        >>> ConvDecoder(4, (16, 16))(torch.zeros(5, 4)).shape
        torch.Size([5, 4, 16, 16])
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        event_shape: Sequence[int],
        hidden: Sequence[int] = (64,),
        *,
        maps: int = 4,
        rank: int = 8,
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        self.event_shape = (in_features,) if isinstance(in_features, int) else tuple(in_features)
        _, height, width = _picture(tuple(event_shape))
        _check("in_features", self.event_shape)
        _check("hidden", hidden)
        _check("maps and rank", (maps, rank))
        _check_padding(padding, height, width)
        self.out_maps = (maps, height, width)
        self.rank = rank
        size = math.prod(self.event_shape)
        self.rows = _Profiles(size, height, hidden, maps * rank)
        self.columns = _Profiles(size, width, hidden, maps * rank)
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))
        # Leaky: so few maps may all start below zero, and would then never learn.
        self.layers = nn.Sequential(
            nn.LeakyReLU(LEAK),
            nn.Conv2d(maps, maps, 3, padding=1, padding_mode=padding),  # type: ignore[arg-type]
            nn.LeakyReLU(LEAK, inplace=True),
        )

    def forward(self, z: Tensor) -> Tensor:
        batch = z.shape[: z.dim() - len(self.event_shape)]
        z = z.reshape(-1, math.prod(self.event_shape))
        split = (self.out_maps[0], self.rank)
        rows = self.rows(z).unflatten(-1, split).transpose(1, 2)  # (n, c, h, r)
        columns = self.columns(z).unflatten(-1, split).permute(0, 2, 3, 1)  # (n, c, r, w)
        maps = rows @ columns / math.sqrt(self.rank) + self.bias
        return self.layers(maps).reshape(*batch, *self.out_maps)


class _Profiles(nn.Module):
    """Along one axis: latents ``(n, size)`` to ``(n, positions, count)``, equation (1) and f."""

    def __init__(self, size: int, positions: int, hidden: Sequence[int], count: int) -> None:
        super().__init__()
        self.positions = positions
        # From zero: what of a latent does not serve an axis stays out of it, where a random start
        # would have to be unlearned, and is not in places that training does not show.
        self.of_latent = nn.Parameter(torch.zeros(size, positions * hidden[0]))
        self.of_position = nn.Parameter(torch.randn(positions * hidden[0]) / size**0.5)
        layers: list[nn.Module] = [nn.ReLU()]
        for fan_in, fan_out in itertools.pairwise(hidden):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], count))

    def forward(self, z: Tensor) -> Tensor:
        m = torch.addmm(self.of_position, z, self.of_latent)
        return self.layers(m.unflatten(-1, (self.positions, -1)))


def _picture(event_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width of a picture."""
    if len(event_shape) not in (2, 3) or min(event_shape) < 1:
        raise ValueError(
            f"event_shape = {event_shape}: expected that of a picture, (h, w) or (c, h, w); for "
            "others take nn.MLP"
        )
    return (1, *event_shape)[-3:]  # type: ignore[return-value]


def _check(name: str, sizes: Sequence[int]) -> None:
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{name} = {tuple(sizes)}: expected one positive number or more")


def _check_padding(padding: str, height: int, width: int) -> None:
    if padding not in PADDINGS:
        raise ValueError(f"padding = {padding!r}: expected one of {', '.join(PADDINGS)}")
    if padding == "reflect" and min(height, width) < 2:
        raise ValueError(
            f"padding = 'reflect' at a layer of {height}×{width} pixels: expected two each way or "
            "more; take another padding or fewer layers"
        )
