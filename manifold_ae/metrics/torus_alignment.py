r"""Latent angles against true ones, up to what a flat torus cannot tell: its own homeomorphisms.

Which two angles are called the first and the second, and where they start, nobody can know: an
autoencoder of translations has succeeded if α = W θ + c with W ∈ GL(d, ℤ). Row j of W is the
character of the data nearest to latent angle j,

    W_j = argmax_m |c_m|,   c_m = mean e^{i(α_j − m·θ)},   c_j = arg c_{W_j},

the largest Fourier coefficient of e^{iα_j}; |c| = 1 for α = W θ + c,
and e^{−σ²/2} with normal noise of variance σ².
It needs no loops, so it works on noisy samples, and for maps that are known on samples alone;
``winding_matrix`` is the other route, for encoders that can be asked anywhere.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from manifold_ae.metrics._checks import finite, same

__all__ = ["TorusAlignment", "align_torus"]


@dataclass(frozen=True)
class TorusAlignment:
    """α ≈ W θ + c.

    Attributes:
        matrix: W, integers ``(d, k)``.
        shift: c, in (−π, π], ``(d,)``.
        concentration: |mean e^{i(α_j − W_j·θ − c_j)}| of each latent angle, between 0 and 1.
    """

    matrix: Tensor
    shift: Tensor
    concentration: tuple[float, ...]

    @property
    def determinant(self) -> int:
        """det W; 0 unless W is square."""
        if self.matrix.shape[0] != self.matrix.shape[1]:
            return 0
        return round(torch.linalg.det(self.matrix.double()).item())

    def decode(self, latent: Tensor) -> Tensor:
        """θ = W⁻¹(α − c), in (−π, π], of latent angles α ``(n, d)``.

        Raises:
            ValueError: unless det W = ±1, or if shapes do not fit.
        """
        if abs(self.determinant) != 1:
            raise ValueError(
                f"matrix = {self.matrix.tolist()} has determinant {self.determinant}: expected "
                "±1; these latent angles do not tell the true ones"
            )
        same("latent", latent, (len(latent), len(self.shift)), "angles as those of the fit")
        inverse = torch.linalg.inv(self.matrix.double()).round()
        return _wrapped((finite("latent", latent).cpu() - self.shift) @ inverse.mT)

    def errors(self, latent: Tensor, angles: Tensor) -> Tensor:
        """Distances on the torus between decoded and true angles ``(n, d)``, in radians ``(n,)``.

        For angles that have nothing to do with each other, on two circles, their mean is 2.40.

        Raises:
            ValueError: as ``decode``.
        """
        decoded = self.decode(latent)
        same("angles", angles, decoded.shape, "one row for every row of latent")
        return _wrapped(decoded - finite("angles", angles).cpu()).norm(dim=-1)


def align_torus(latent: Tensor, angles: Tensor, *, bound: int = 3) -> TorusAlignment:
    """The integer matrix and the shift that carry true angles nearest to latent ones.

    Arguments:
        latent: α, in radians, ``(n, d)``.
        angles: θ, in radians, ``(n, k)``.
        bound: of the entries of W.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or bound is not positive.

    Example:
        >>> angles = torch.rand(100, 2) * 6
        >>> latent = torch.stack([angles[:, 1] + 1, angles[:, 0] - angles[:, 1]], -1)
        >>> align_torus(latent, angles).matrix.tolist()
        [[0, 1], [1, -1]]
    """
    if bound < 1:
        raise ValueError(f"bound = {bound}: expected a positive integer")
    if latent.ndim != 2 or angles.ndim != 2:
        raise ValueError(
            f"latent has shape {tuple(latent.shape)} and angles {tuple(angles.shape)}: expected "
            "(n, d) and (n, k)"
        )
    same("angles", angles, (len(latent), angles.shape[1]), "one row for every row of latent")
    latent, angles = finite("latent", latent).cpu(), finite("angles", angles).cpu()
    entries = range(-bound, bound + 1)
    choices = torch.tensor(list(itertools.product(entries, repeat=angles.shape[1])))
    phase = angles @ choices.double().mT
    coefficients = torch.polar(torch.ones_like(latent), latent).mT @ torch.polar(
        torch.ones_like(phase), -phase
    )
    coefficients = coefficients / len(latent)
    best = coefficients.abs().argmax(1)
    reached = coefficients[torch.arange(len(best)), best]
    return TorusAlignment(choices[best], reached.angle(), tuple(reached.abs().tolist()))


def _wrapped(angles: Tensor) -> Tensor:
    return torch.atan2(angles.sin(), angles.cos())
