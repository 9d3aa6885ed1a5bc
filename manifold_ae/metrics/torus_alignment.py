r"""Latent angles against true ones, up to what a flat torus cannot tell: its own homeomorphisms.

Which two angles are called the first and the second, and where they start, nobody can know: an
autoencoder of translations has succeeded if α = W θ + c with W ∈ GL(d, ℤ). Row j of W is the
character of the data nearest to latent angle j,

    W_j = argmax_m |c_m|,   c_m = mean e^{i(α_j − m·θ)},   c_j = arg c_{W_j},

the largest Fourier coefficient of e^{iα_j}; |c| = 1 for α = W θ + c,
and e^{−σ²/2} with normal noise of variance σ².
It needs no loops, so it works on noisy samples, and for maps that are known on samples alone;
``winding_matrix`` is the other route, for encoders that can be asked anywhere.

Noise may make the rows that are best one by one a matrix that is not invertible over the integers,
or the best rows of one angle the same as of another. Where the map is known to be an automorphism,
W is the matrix of determinant ±1 with the greatest Σ_j |c_j|: of least Σ_ij (1 − cos(α − Wθ − c)).
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from manifold_ae.metrics._checks import finite, same

__all__ = ["TorusAlignment", "align_torus"]

#: Matrices whose determinants are taken; entries of the table of Fourier terms held at once.
MATRICES, ENTRIES = 20_000, 2**22


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


def align_torus(
    latent: Tensor, angles: Tensor, *, bound: int = 3, unimodular: bool = False
) -> TorusAlignment:
    """The integer matrix and the shift that carry true angles nearest to latent ones.

    Arguments:
        latent: α, in radians, ``(n, d)``.
        angles: θ, in radians, ``(n, k)``.
        bound: of the entries of W.
        unimodular: look among matrices of determinant ±1 alone, for as many angles as latents.

    Raises:
        ValueError: if shapes do not fit, values are not finite, bound is not positive, or W has
            more than 200,000 possible rows.

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
    if (2 * bound + 1) ** angles.shape[1] > 200_000:
        raise ValueError(
            f"bound = {bound} with {angles.shape[1]} angles: W has {2 * bound + 1}^"
            f"{angles.shape[1]} possible rows; take a smaller bound"
        )
    if unimodular and latent.shape != angles.shape:
        raise ValueError(
            f"latent has shape {tuple(latent.shape)} and angles {tuple(angles.shape)}: a matrix of "
            "determinant ±1 is square"
        )
    entries = range(-bound, bound + 1)
    choices = torch.tensor(list(itertools.product(entries, repeat=angles.shape[1])))
    coefficients = _coefficients(latent, angles, choices.double())
    best = _unimodular(choices, coefficients.abs()) if unimodular else coefficients.abs().argmax(1)
    reached = coefficients[torch.arange(len(best)), best]
    return TorusAlignment(choices[best], reached.angle(), tuple(reached.abs().tolist()))


def _coefficients(latent: Tensor, angles: Tensor, choices: Tensor) -> Tensor:
    """c_m of every latent angle and every m, of shape ``(d, choices)``."""
    waves = torch.polar(torch.ones_like(latent), latent).mT
    parts = []
    for some in choices.split(max(1, ENTRIES // len(angles))):
        phase = angles @ some.mT
        parts.append(waves @ torch.polar(torch.ones_like(phase), -phase))
    return torch.cat(parts, 1) / len(latent)


def _unimodular(choices: Tensor, size: Tensor) -> Tensor:
    """The rows of the W of determinant ±1 with the greatest sum of sizes ``(d, choices)``.

    Of all matrices whose rows are among the best so many, and of all signed permutations.
    """
    d = len(size)
    unit = (choices.abs().sum(1) == 1).nonzero()[:, 0]
    axis = choices[unit].abs().argmax(1)
    of_axis = torch.where(axis == torch.arange(d)[:, None, None], size[:, unit], -1.0)
    signed, place = of_axis.max(-1)  # by axis and latent angle
    column, row = linear_sum_assignment(-signed.numpy())
    best = unit[place[column, row]][row.argsort()]
    value = size[torch.arange(d), best].sum()
    count = min(size.shape[1], max(2, int(MATRICES ** (1 / d))))
    top = size.topk(count, dim=1)
    grid = torch.cartesian_prod(*[torch.arange(count)] * d).reshape(-1, d)
    rows = torch.stack([top.indices[j, grid[:, j]] for j in range(d)], 1)
    sums = torch.stack([top.values[j, grid[:, j]] for j in range(d)], 1).sum(1)
    determinants = np.linalg.det(choices[rows].double().numpy()).round()
    sums[torch.from_numpy(np.abs(determinants) != 1)] = -1.0
    return rows[sums.argmax()] if sums.max() > value else best


def _wrapped(angles: Tensor) -> Tensor:
    return torch.atan2(angles.sin(), angles.cos())
