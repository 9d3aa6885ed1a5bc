"""Angles, such as torsions of a molecule or phases of a rhythm."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manifold_ae.models.likelihoods.base import Likelihood, quick_factor
from manifold_ae.numerics import axial_norm

__all__ = ["VonMises"]


class VonMises(Likelihood):
    r"""Angles in radians, on the circle each; the encoder sees their cosines and sines.

    The decoder gives a vector of the plane for every angle, bent into the unit disc:
    u = v/√(1 + |v|²). The law of the angle x is von Mises' with natural parameter κ u,

        log p = κ u · (cos x, sin x) − log 2π I₀(κ |u|):

    its mean direction is that of u and its concentration κ |u|, at most the κ that is learned for
    the feature, and less where the decoder is not sure. So it is a smooth function of v, at v = 0
    too, where an angle by itself, or a direction, has no gradient. κ lies between 10⁻³ and 10⁴ (a
    deviation of half a degree); 4 before training.
    """

    name = "von-mises"
    default_scaling = "none"
    as_is = True
    #: One turn either way, with room for rounding: more is no angle in radians, or one unwrapped.
    support = (-2 * math.pi * (1 + 1e-6), 2 * math.pi * (1 + 1e-6))
    numbers = 2
    planes = 2

    def __init__(self, event_shape: int | Sequence[int], *, masks: bool = False) -> None:
        super().__init__(event_shape, masks=masks)
        self.log_concentration = nn.Parameter(torch.zeros(self.event_shape))

    @property
    def concentration(self) -> Tensor:
        """The greatest concentration κ of every feature, of shape ``event_shape``."""
        return 4 * quick_factor(self.log_concentration, math.log(2.5e-4), math.log(2.5e3))

    def _seen(self, x: Tensor) -> list[Tensor]:
        return [torch.cos(x), torch.sin(x)]

    def _vectors(self, output: Tensor) -> Tensor:
        """The decoder's vectors, ``(*, *event_shape, 2)``."""
        return output.movedim(output.dim() - len(self.event_shape) - 1, -1)

    def _disc(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """u, ``(*, *event_shape, 2)``, and its length."""
        v = self._vectors(output)
        length = axial_norm(v)
        root = torch.hypot(length, torch.ones_like(length))
        return v / root.unsqueeze(-1), length / root

    def terms(self, output: Tensor, x: Tensor, exposure: Tensor | None = None) -> Tensor:
        u, length = self._disc(output)
        kappa = self.concentration
        a, b = u.unbind(-1)
        cos, sin = torch.cos(x), torch.sin(x)
        along, across = a * cos + b * sin, b * cos - a * sin
        # |u| − u·x̂, which cancels where it matters most.
        ahead = along > 0
        close = across.square() / torch.where(ahead, length + along, 1.0)
        gap = torch.where(ahead, close, length - along)
        return -kappa * gap - torch.log(2 * math.pi * torch.special.i0e(kappa * length))

    def _squares(self, output: Tensor, x: Tensor, exposure: Tensor | None) -> Tensor:
        """Squared distances along the circle."""
        gap = x - self.mean(output)
        return torch.atan2(torch.sin(gap), torch.cos(gap)).square()

    def mean(self, output: Tensor, exposure: Tensor | None = None) -> Tensor:
        """The mean direction of every angle, in (−π, π]; 0 where there is none."""
        first, second = self._vectors(output).unbind(-1)
        nowhere = (first == 0) & (second == 0)
        return torch.atan2(second, torch.where(nowhere, 1.0, first))

    def draw(
        self,
        output: Tensor,
        exposure: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        kappa = self.concentration * self._disc(output)[1]
        x = self.mean(output) + _von_mises(kappa, generator)
        return torch.remainder(x + math.pi, 2 * math.pi) - math.pi


def _von_mises(kappa: Tensor, generator: torch.Generator | None) -> Tensor:
    """Angles about 0 of the given concentrations, by rejection from a wrapped Cauchy law.

    References:
        D. J. Best, N. I. Fisher, *Efficient simulation of the von Mises distribution*, Applied
        Statistics 28, 1979
    """
    k = kappa.detach().double()
    tau = 1 + torch.sqrt(1 + 4 * k.square())
    rho = (tau - torch.sqrt(2 * tau)) / (2 * k.clamp_min(1e-300))
    # Below, the concentration is none: (1 + ρ²)/(2ρ) → 1/κ.
    r = torch.where(k < 1e-5, 1 / k.clamp_min(1e-300), (1 + rho.square()) / (2 * rho))
    angles = torch.zeros_like(k)
    left = ~k.isnan()
    where = {"dtype": k.dtype, "device": k.device, "generator": generator}
    while left.any():
        u1, u2, u3 = torch.rand(3, *k.shape, **where)
        z = torch.cos(math.pi * u1)
        f = ((1 + r * z) / (r + z)).clamp(-1.0, 1.0)
        c = k * (r - f)
        taken = left & ((c * (2 - c) > u2) | (torch.log(c / u2) + 1 - c >= 0))
        angles = torch.where(taken, torch.sign(u3 - 0.5) * torch.acos(f), angles)
        left &= ~taken
    return torch.where(k.isnan(), k, angles).to(kappa.dtype)
