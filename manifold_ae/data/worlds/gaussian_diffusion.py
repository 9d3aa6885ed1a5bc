r"""Gaussian data, where a DDIM step is one affine map for all states: the oracle.

With the exact score of N(m, diag λ) the predicted noise is affine in x, and the whole of a step
from time t to s is one and the same element of `groups.ScaleTranslation(n, diagonal=True)`,

    x ↦ S x + b,        S_i = a + c √(1 − ᾱ_t)/D_i,   b_i = −c √(ᾱ_t (1 − ᾱ_t)) m_i/D_i,

with D_i = ᾱ_t λ_i + 1 − ᾱ_t, a = √(ᾱ_s/ᾱ_t) and c = √(1 − ᾱ_s) − a √(1 − ᾱ_t): see
`manifold_ae.diffusion.gaussian_step`. Vectors are seen as they are, so that a linear encoder
suffices, and nothing but the representation is left to find.
"""

from itertools import accumulate, pairwise

import torch
from torch import Tensor

from manifold_ae.diffusion import gaussian_step
from manifold_ae.groups import ScaleTranslation

from .._checks import at_least
from .diffusion import ProcessWorld, visited
from .registry import register

#: Means and variances of the first coordinate and the last; those between lie between.
MEANS, VARIANCES = (1.0, -1.0), (0.1, 1.5)
#: Vectors have no bounds; beyond these, six standard deviations, one comes in a billion.
LIMIT = 8.0


@register("gaussian-diffusion", "Gaussian vectors under DDIM steps, one map for all of them")
class GaussianDiffusion(ProcessWorld):
    """Vectors of a Gaussian under DDIM steps, seen as they are.

    A chain visits `length` + 1 times of the linear schedule of 1,000 steps, from noise to data.
    Traces visit a random subset of these, each its own: steps from every time to the next alone are
    small, and one family of one parameter, which many representations fit nearly as well.

    Arguments:
        dim: The number of coordinates.
        length: The number of steps of a whole chain, up to 1,000.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> world = GaussianDiffusion(dim=3)
        >>> world.traces(5, 2).shape, world.group
        ((3,), ScaleTranslation(3, diagonal=True))
    """

    name = "gaussian-diffusion"
    stabiliser = "scalings about the point, along each axis"
    value_range = (-LIMIT, LIMIT)

    def __init__(self, *, dim: int = 2, length: int = 50) -> None:
        at_least("dim", dim)
        group = ScaleTranslation(dim, diagonal=True)
        super().__init__(group, (dim,), length, LIMIT, {"dim": dim, "length": length})
        self.schedule, self.times = visited(length)
        self.mean, self.variances = (
            torch.linspace(*ends, dim, dtype=torch.float64) for ends in (MEANS, VARIANCES)
        )
        steps = [
            gaussian_step(self.schedule, t, s, self.mean, self.variances)
            for t, s in pairwise(self.times)
        ]
        # What leads from noise to each of the times.
        self._from_noise = torch.stack(
            list(accumulate(steps, lambda g, h: group.compose(h, g), initial=_identity(group)))
        )

    def _windows(
        self, n: int, steps: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        assert isinstance(self.group, ScaleTranslation)
        place = None if generator is None else generator.device
        x = torch.randn(n, self.group.n, generator=generator, dtype=torch.float64, device=place)
        order = torch.rand(n, self.length + 1, generator=generator, device=place).argsort(1)
        g = self._from_noise.to(x.device)[order[:, : steps + 1].sort(1).values]
        between = self.group.compose(g[:, 1:], self.group.inverse(g[:, :-1]))
        return self.group.act(g, x.unsqueeze(1)), self.group.log(between)

    def _draw(self, states: Tensor) -> Tensor:
        return states


def _identity(group: ScaleTranslation) -> Tensor:
    return group.identity(dtype=torch.float64)
