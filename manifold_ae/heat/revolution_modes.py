r"""Eigenfunctions of the Laplacian on a surface of revolution.

With s the arclength along the profile, ρ(s) its distance from the axis and θ the rotation, the
generator ½Δ separates. The functions e^{imθ} f(s) have the energy and the norm

    E_m(f) = ½ ∫ (f'² + m² f²/ρ²) ρ ds,     ∥f∥² = ∫ f² ρ ds,                                 (1)

and the modes, eigenvalues λ with functions ψ of norm one, are where E_m is stationary. The
functions f are taken from a finite basis, orthonormalised in the norm (1), of which both integrals
are computed to rounding:

- on a closed profile, the trigonometric polynomials on an odd number of equal steps, with Fourier's
  differentiation matrix, which is exact for all that the grid resolves;
- on a profile from pole to pole, the Legendre functions P_l^m(cos σ), l = m, m + 1, …, of the
  sphere with the same meridians, σ = πs/L. They vanish at the poles as smooth functions e^{imθ} f
  do, with the power sin^m σ, and on the round sphere they are the modes. Integrals over cos σ are
  by Gauss' rule.

Errors fall faster than any power of the size of the basis. Either way ψ is then a Fourier series in
the place α of ``manifolds.profile``: the Legendre functions are trigonometric polynomials of σ.

    q(t; x, y) = (1/2π) Σ_m e^{im(θ − θ')} Σ_j e^{−λ_mj t} ψ_mj(s) ψ_mj(s').                    (2)

References:
    L. N. Trefethen, *Spectral Methods in MATLAB* (2000), chapter 3, for the matrix on a circle.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["CUT", "Spectrum"]

#: Exponents λt past which modes are left out: e^{−40} is 4e-18.
CUT = 40.0
#: Samples for which the modes are summed at once.
CHUNK = 512


class Spectrum:
    """Modes of (1) with λ ≤ some bound, for a profile ρ(s) of the given length.

    Arguments:
        profile: ρ, from arclengths to distances from the axis.
        length: of the closed profile, or from pole to pole.
        bound: the largest λ.
        poles: whether the profile leads from pole to pole.

    Attributes:
        frequency: m of every mode, of shape ``(p,)``; a mode with m > 0 counts for ±m.
        rate: λ, of shape ``(p,)``.
        series: Fourier coefficients of ψ over 1, cos kα, sin kα, …, of shape ``(p, 2n + 1)``.
    """

    def __init__(
        self,
        profile: Callable[[np.ndarray], np.ndarray],
        length: float,
        bound: float,
        poles: bool = False,
    ) -> None:
        wave = math.sqrt(2 * bound)
        basis = (_Legendre if poles else _Fourier)(profile, length, wave)
        frequency, rate, series = [], [], []
        for m in range(math.ceil(basis.widest * wave) + 1):
            values, slopes, rows = basis.functions(m)
            # Orthonormal columns for functions of norm one, and the energy of each pair of them.
            root = np.sqrt(basis.weight * basis.rho)[:, None]
            unit, change = np.linalg.qr(root * values)
            flow = np.linalg.solve(change.T, (root * slopes).T).T
            spin = m * unit / basis.rho[:, None]
            energies, vectors = np.linalg.eigh((flow.T @ flow + spin.T @ spin) / 2)
            kept = energies <= bound
            if m == 0:
                energies[0] = 0.0  # the constant, of which rounding leaves 1e-13
            frequency.append(np.full(kept.sum(), m))
            rate.append(energies[kept])
            series.append(np.linalg.solve(change, vectors[:, kept]).T @ rows)
        self.frequency = np.concatenate(frequency)
        self.rate = np.concatenate(rate)
        self.series = np.concatenate(series)
        self._copies: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def values(self, angle: np.ndarray) -> np.ndarray:
        """ψ at places α, of shape ``(*, p)``."""
        return _waves(np.asarray(angle), self.series.shape[1] // 2) @ self.series.T

    def density(self, angle: Tensor, other: Tensor, turn: Tensor, t: Tensor) -> Tensor:
        """q by (2), all arguments and the result of shape ``(n,)``, float64."""
        frequency, rate, series = self._tensors(angle.device)
        parts = []
        for a, b, d, s in zip(*(v.split(CHUNK) for v in (angle, other, turn, t)), strict=True):
            # What the earliest time does not need is left out.
            kept = rate * s.detach().min() <= CUT if len(s) else rate < 0
            m, decay, basis = frequency[kept], rate[kept], series[kept]
            orders = torch.arange(int(m.max()) + 1 if len(m) else 1, device=a.device)
            around = torch.cos(d.unsqueeze(-1) * orders) * torch.where(orders > 0, 2.0, 1.0)
            modes = (
                _series_at(a, basis) * _series_at(b, basis) * torch.exp(-decay * s.unsqueeze(-1))
            )
            parts.append((modes * around.index_select(-1, m)).sum(-1) / (2 * math.pi))
        return torch.cat(parts) if parts else angle * t

    def _tensors(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        if device not in self._copies:
            with torch.inference_mode(False):
                self._copies[device] = (
                    torch.tensor(self.frequency, device=device),
                    torch.tensor(self.rate, device=device),
                    torch.tensor(self.series, device=device),
                )
        return self._copies[device]


class _Fourier:
    """Cardinal functions on equal steps of a closed profile, of waves up to a number ``wave``.

    ``rho`` and ``weight`` (of ∫ ds) stand at the nodes; ``functions`` gives values and slopes there
    as columns, and the Fourier coefficients as rows.
    """

    def __init__(
        self, profile: Callable[[np.ndarray], np.ndarray], length: float, wave: float
    ) -> None:
        scale = length / (2 * math.pi)
        # Harmonics that reach the bound, and as many again as ρ's own variation mixes in.
        harmonics = math.ceil(1.4 * scale * wave + 14)
        n = 2 * harmonics + 1
        angle = 2 * np.pi * np.arange(n) / n
        self.rho = profile(scale * angle)
        self.widest = float(self.rho.max())
        self.weight = np.full(n, length / n)
        gap = angle[:, None] - angle
        off = ~np.eye(n, dtype=bool)
        sign = (-1.0) ** (np.arange(n)[:, None] - np.arange(n))
        derivative = np.zeros((n, n))
        derivative[off] = (sign / 2)[off] / np.sin(gap[off] / 2) / scale
        self._functions = np.eye(n), derivative, _to_series(n)

    def functions(self, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._functions


class _Legendre:
    """Legendre functions of order m on a profile from pole to pole; the rest as ``_Fourier``."""

    def __init__(
        self, profile: Callable[[np.ndarray], np.ndarray], length: float, wave: float
    ) -> None:
        self._scale = length / math.pi
        self.widest = float(profile(np.linspace(0, length, 4097)).max())
        self._degree = math.ceil(1.4 * max(self._scale, self.widest) * wave + 14)
        # Half as many nodes again as a product of two functions takes, for ρ.
        cosine, weight = np.polynomial.legendre.leggauss(self._degree + self._degree // 2 + 24)
        self._cosine, self._sine = cosine, np.sqrt((1 - cosine) * (1 + cosine))
        self.rho = profile(self._scale * np.arctan2(self._sine, cosine))
        self.weight = self._scale * weight / self._sine
        n = 2 * self._degree + 1
        self._grid = 2 * np.pi * np.arange(n) / n
        self._to_series = _to_series(n)

    def functions(self, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values = legendre(self._cosine, self._sine, m, self._degree)
        degree = np.arange(m, self._degree + 1)
        # sin σ dP_l/dσ = l cos σ P_l − c_l P_{l−1}
        before = np.concatenate([np.zeros_like(values[:, :1]), values[:, :-1]], -1)
        step = np.sqrt((2 * degree + 1) * (degree**2 - m * m) / np.maximum(2 * degree - 1, 1))
        slopes = degree * self._cosine[:, None] * values - step * before
        slopes /= self._scale * self._sine[:, None]
        # On the way back, e^{imθ} f is met half a turn further: f(−σ) = (−1)^m f(σ).
        back = np.where(self._grid > np.pi, (-1.0) ** m, 1.0)[:, None]
        around = legendre(np.cos(self._grid), np.abs(np.sin(self._grid)), m, self._degree)
        return values, slopes, (back * around).T @ self._to_series


def legendre(cosine: np.ndarray, sine: np.ndarray, m: int, degree: int) -> np.ndarray:
    """P_l^m, l = m … degree, of norm one in ∫ dcos σ, of shape ``(n, degree − m + 1)``."""
    k = np.arange(1, m + 1)
    first = np.sqrt(0.5 * np.prod((2 * k + 1) / (2 * k))) * sine**m
    columns = [first, math.sqrt(2 * m + 3) * cosine * first]
    for n in range(m + 2, degree + 1):
        a = math.sqrt((4 * n * n - 1) / (n * n - m * m))
        b = math.sqrt(((n - 1) ** 2 - m * m) / (4 * (n - 1) ** 2 - 1))
        columns.append(a * (cosine * columns[-1] - b * columns[-2]))
    return np.stack(columns[: degree - m + 1], -1)


def _waves(angle: np.ndarray, n: int) -> np.ndarray:
    """1, cos kα, sin kα for k = 1 … n, of shape ``(*, 2n + 1)``."""
    turns = angle[..., None] * np.arange(1, n + 1)
    return np.concatenate([np.ones_like(angle)[..., None], np.cos(turns), np.sin(turns)], -1)


def _to_series(n: int) -> np.ndarray:
    """Values on n equal steps of a turn, n odd → Fourier coefficients: (n, n), from the right."""
    weights = np.full(n, 2 / n)
    weights[0] = 1 / n
    return _waves(2 * np.pi * np.arange(n) / n, n // 2) * weights


def _series_at(angle: Tensor, series: Tensor) -> Tensor:
    """Fourier series (p, 2k + 1) at angles (n), of shape (n, p)."""
    k = torch.arange(1, series.shape[-1] // 2 + 1, dtype=angle.dtype, device=angle.device)
    turns = angle.unsqueeze(-1) * k
    waves = torch.cat([torch.ones_like(turns[..., :1]), torch.cos(turns), torch.sin(turns)], -1)
    return waves @ series.T
