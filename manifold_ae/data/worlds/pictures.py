r"""A periodic picture under translations, the group T²: an oracle for linear measures.

Translated by (s, r), the wave (k, l) of the picture turns by ks + lr. So each wave that the picture
has spans a plane on which a translation acts by the rotation of weight (k, l), the linear map from
the picture to its Fourier coefficients is exactly equivariant, and the sum of these planes is the
truth.
"""

import torch
from torch import Tensor

from manifold_ae.groups import Sum, Torus, irrep

from .._checks import at_least, one_of
from ..torus import PICTURES, PeriodicPicture
from .angles import circle_angles, turn
from .base import HiddenFactor, World
from .linear import LinearEncoder
from .registry import register


@register("pictures", "translations of a periodic picture: waves turn, a linear oracle on T^2")
class Pictures(World):
    """Translations of one `PeriodicPicture`, θ down and φ to the right.

    Arguments:
        picture: `"simple"`, (cos θ + cos φ)/2; or `"fourier"`, with random coefficients.
        order: N, the highest wave number, of `"fourier"` alone.
        discount: γ, of `"fourier"` alone.
        size: The number of pixels along each axis.
        seed: Which picture, of `"fourier"` alone.

    Raises:
        ValueError: If an argument is out of its range or is no known name.

    Example:
        >>> world = Pictures(size=16)
        >>> world.waves
        ((0, 1), (1, 0))
    """

    name = "pictures"
    value_range = (-1.0, 1.0)

    def __init__(
        self,
        *,
        picture: str = "simple",
        order: int = 3,
        discount: float = 0.3,
        size: int = 32,
        seed: int = 0,
    ) -> None:
        one_of("picture", picture, PICTURES)
        at_least("size", size)
        self.picture: PeriodicPicture = PICTURES[picture](
            order=order, discount=discount, seed=seed, size=size
        )
        group = Torus(2)
        given = {"picture": picture, "size": size}
        if picture != "simple":
            given |= {"order": order, "discount": discount, "seed": seed}
        super().__init__(group, (size, size), (HiddenFactor("down"), HiddenFactor("right")), given)
        self.waves, self._rows = _waves(self.picture)
        self.truth = Sum(*(irrep(group, wave) for wave in self.waves))

    def labels(self, states: Tensor) -> Tensor:
        return turn(circle_angles(self._checked(states)))

    def fourier_encoder(self) -> LinearEncoder:
        """The linear map to the coefficients of `waves`, in turn, that `truth` moves exactly.

        Scaled, for each wave, to the unit circle.
        """
        return LinearEncoder(self._rows, self.shape)

    def _draw(self, states: Tensor) -> Tensor:
        return self.picture.translate(circle_angles(states))


def _waves(picture: PeriodicPicture) -> tuple[tuple[tuple[int, int], ...], Tensor]:
    """The waves (k, l) of a picture, one of each pair ±(k, l), and the rows that measure them.

    The rows, `(2 * waves, size * size)`, are conjugate Fourier coefficients, real and imaginary
    part in turn: those of the picture itself turn by −(ks + lr), their conjugates by ks + lr.
    """
    rest = picture.translate(torch.zeros(1, 2, dtype=torch.float64))[0]
    size = picture.size
    pixels = torch.arange(size, dtype=torch.float64) * (2 * torch.pi / size) - torch.pi
    greatest = rest.abs().max()
    waves, rows = [], []
    for k in range(picture.order + 1):
        for m in range(-picture.order, picture.order + 1):
            if (k, m) <= (0, 0):
                continue
            phase = k * pixels[:, None] + m * pixels
            row = torch.stack((phase.cos(), phase.sin())).flatten(1)
            size_of = torch.linalg.vector_norm(row @ rest.flatten()) / size**2
            # below rounding of the picture there is no wave
            if size_of > 1e3 * torch.finfo(torch.float64).eps * greatest:
                waves.append((k, m))
                rows.append(row / (size_of * size**2))
    return tuple(waves), torch.cat(rows)
