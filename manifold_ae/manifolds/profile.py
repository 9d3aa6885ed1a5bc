r"""The curve that a surface of revolution turns about the z axis, by its arclength.

With α = 2πs/P, s the arclength and P the period, both coordinates are Fourier series,

    ρ(α) = Σ_k a_k cos kα + b_k sin kα,     z(α) likewise,                                   (1)

which converge faster than any power where the curve is smooth. Either the curve is closed, and P is
its length; or it leads from the axis to the axis, and is run there and back on both sides of it:
P is twice its length L, ρ is odd in α (sines alone) and z even (cosines alone), if the curve meets
the axis at right angles, so that the surface is smooth at its poles α = 0 and π. There

    ρ/sin α = Σ_k b_k U_{k−1}(cos α)                                                           (2)

is a polynomial in cos α, and so are all functions that are smooth on the surface and do not change
as it turns.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Curve", "Jet", "Profile"]

#: The curve as the user writes it: from parameters u of shape ``(n,)`` to ρ and z of that shape.
Curve = Callable[[Tensor], tuple[Tensor, Tensor]]

#: Largest number of points at which a curve is sampled; a part of the largest coefficient that the
#: last third of them may reach, and below which coefficients are left out.
MAX_SAMPLES, RESOLVED, NEGLIGIBLE = 4096, 1e-11, 1e-15
#: Least speed of a curve, relative to its mean, and least chord over arc: else a cusp, a crossing.
SLOWEST, PINCHED = 1e-3, 0.02
#: Newton's steps between two neighbouring points of a table: where the slope stays away from zero,
#: and where it need not, as that of the area at the poles.
STEPS, MANY_STEPS = 4, 16


class Jet(NamedTuple):
    """Coordinates and their first two derivatives by s, each of shape ``(*)``."""

    rho: Tensor
    z: Tensor
    rho_slope: Tensor
    z_slope: Tensor
    rho_bend: Tensor
    z_bend: Tensor


class Profile:
    """The curve (1), from its Fourier coefficients.

    Attributes:
        rho, z: coefficients of 1, cos kα, sin kα in turn, of shape ``(2n + 1,)``.
        period: P.
        poles: whether the curve leads from the axis to the axis.
    """

    def __init__(self, rho: np.ndarray, z: np.ndarray, period: float, poles: bool) -> None:
        self.rho, self.z, self.period, self.poles = rho, z, period, poles
        self.scale = period / (2 * math.pi)
        k = np.arange(1, len(rho) // 2 + 1) / self.scale
        columns = [rho, z]
        for _ in range(2):
            columns += [_slope(column, k) for column in columns[-2:]]
        self._jet = np.stack(columns, -1)
        self._copies: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    @staticmethod
    def of(curve: Curve, poles: bool, name: str) -> "Profile":
        """The series of a curve, parametrised over [0, 2π] if closed, over [0, π] with poles.

        Raises:
            ValueError: if it is not a smooth embedded curve of that kind; the message says why.
        """
        n = 64
        while True:
            w = _sampled(curve, poles, n, name)
            if _resolved(w):
                break
            if n >= MAX_SAMPLES:
                ends = "meet the axis at right angles" if poles else "close smoothly after u = 2π"
                raise ValueError(
                    f"{name}: {n} points do not resolve the profile, which has to be smooth and to "
                    + ends
                )
            n *= 2
        frequencies = np.fft.fftfreq(n, 1 / n)
        coefficients = np.fft.fft(w) / n
        # Speeds are no finite series: sampled more finely, until they are resolved too.
        while True:
            fine = 2 * np.pi * np.arange(n) / n
            speed = np.abs(_sum(1j * frequencies * coefficients, frequencies, fine))
            if speed.min() < SLOWEST * speed.mean():
                raise ValueError(
                    f"{name}: the profile stops or has a cusp near u = "
                    f"{fine[speed.argmin()]:.4g}: its velocity there is {speed.min():.3g}"
                )
            pace = np.fft.fft(speed) / n
            period = 2 * np.pi * pace[0].real
            waves = np.fft.fftfreq(n, 1 / n)
            drift = np.where(waves == 0, 0, pace / np.where(waves == 0, 1, 1j * waves))
            drift[0] = -drift.sum()  # s(0) = 0
            # u at equal steps of s, by Newton's method from the even one, which cannot leave.
            u = np.interp(fine, np.real(_sum(drift, waves, fine)) * 2 * np.pi / period + fine, fine)
            for _ in range(8):
                s = pace[0].real * u + np.real(_sum(drift, waves, u))
                u = u - (s - fine * period / (2 * np.pi)) / np.interp(
                    u, np.append(fine, 2 * np.pi), np.append(speed, speed[0])
                )
            even = _sum(coefficients, frequencies, u)
            if _resolved(even):
                break
            if n >= MAX_SAMPLES:
                raise ValueError(f"{name}: the profile is not smooth: {n} points do not resolve it")
            n *= 2
        _check_embedded(even, period, poles, name)
        return Profile(*_series(even, poles), period, poles)

    @property
    def length(self) -> float:
        """Length of the curve on one side of the axis: P, or P/2 with poles."""
        return self.period / 2 if self.poles else self.period

    @property
    def even(self) -> bool:
        """Whether functions of the surface's own are even in α: α → −α changes no distance."""
        n = len(self.rho) // 2
        return self.poles or not bool(self.rho[n + 1 :].any() or self.z[1 : n + 1].any())

    @property
    def area(self) -> float:
        """Area of the surface, 2π∫ρ ds."""
        end = np.array([2 * math.pi * self.length / self.period])
        return 2 * math.pi * self._covered(end).item()

    # ---- values -----------------------------------------------------------------------------

    def jet(self, angle: Tensor) -> Jet:
        """Everything at places α of shape ``(*)``, differentiable."""
        waves = _waves(angle, len(self.rho) // 2)
        return Jet(*(waves @ self._tensor("jet", self._jet, angle)).unbind(-1))

    def radius(self, s: np.ndarray) -> np.ndarray:
        """ρ at arclengths s; below zero on the way back from the second pole."""
        k = np.arange(1, len(self.rho) // 2 + 1)
        turns = np.asarray(s)[..., None] / self.scale * k
        waves = np.concatenate([np.ones_like(turns[..., :1]), np.cos(turns), np.sin(turns)], -1)
        return waves @ self.rho

    def curvature(self, angle: Tensor) -> Tensor:
        """Gauss' curvature K = −ρ''/ρ of the surface at α, of shape ``(*)``."""
        bend, rho = self._jet[:, 4], self.rho
        if self.poles:  # both over sin α, by (2)
            bend, rho = over_sine(bend), over_sine(rho)
        waves = _waves(angle, len(bend) // 2)
        both = waves @ self._tensor("curvature", np.stack([bend, rho], -1), angle)
        return -both[..., 0] / both[..., 1]

    def principal_curvatures(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        """ρ'z'' − z'ρ'' and z'/ρ, along the profile and across it, for the normal (z', −ρ')."""
        at = self.jet(angle)
        slope, rho = self._jet[:, 3], self.rho
        if self.poles:  # both over sin α, by (2)
            slope, rho = over_sine(slope), over_sine(rho)
        waves = _waves(angle, len(slope) // 2)
        both = waves @ self._tensor("across", np.stack([slope, rho], -1), angle)
        along = at.rho_slope * at.z_bend - at.z_slope * at.rho_bend
        return along, both[..., 0] / both[..., 1]

    @cached_property
    def largest_curvature(self) -> float:
        """The largest \\|K\\|."""
        with torch.no_grad():
            return self.curvature(self.places(512)).abs().max().item()

    @cached_property
    def necks(self) -> list[tuple[float, float]]:
        """α and ρ of the parallels where ρ is least or largest, which are geodesics."""
        angle = self.places(2048)
        with torch.no_grad():
            slope = self.jet(angle).rho_slope
            turning = (slope * slope.roll(-1) <= 0) & (slope != 0)
            if self.poles:
                turning[-1] = False
            low, sign = angle[turning], slope[turning].sign()

            def falling(a: Tensor) -> tuple[Tensor, Tensor]:
                at = self.jet(a)
                return -sign * at.rho_slope, -sign * self.scale * at.rho_bend

            found = _bracketed(falling, low, low + (angle[1] - angle[0]), MANY_STEPS)
            return list(zip(found.tolist(), self.jet(found).rho.tolist(), strict=True))

    @cached_property
    def shortest_loop(self) -> float:
        """The shortest of the closed geodesics along the profile and the parallels."""
        return min(self.period, *(2 * math.pi * rho for _, rho in self.necks))

    @cached_property
    def injectivity_radius(self) -> float:
        """A length up to which geodesics are the shortest: π/√K, or half of a loop."""
        return min(math.pi / math.sqrt(self.largest_curvature), self.shortest_loop / 2)

    @cached_property
    def piece(self) -> float:
        """Length of a geodesic on which its equations change little."""
        return min(0.8 / math.sqrt(self.largest_curvature), self.shortest_loop / 8)

    def places(self, n: int) -> Tensor:
        """n equal steps of α over the curve, float64, at none of the poles."""
        offset, total = (0.5, math.pi) if self.poles else (0.0, 2 * math.pi)
        return (torch.arange(n, dtype=torch.float64) + offset) * (total / n)

    # ---- inverse problems -------------------------------------------------------------------

    def closest(self, rho: Tensor, z: Tensor) -> Tensor:
        """α of the closest point of the curve to (ρ, z), ρ ≥ 0, float64, of one shape ``(*)``.

        From the nearest of a table, by Newton's method kept between its neighbours; then by two
        steps that carry the first two derivatives, which are those of the implicit function.
        At a centre of curvature it has none, and zero is given.
        """
        shape = rho.shape
        rho, z = rho.reshape(-1), z.reshape(-1)
        with torch.no_grad():
            angle = self._nearest(rho, z)
        for _ in range(2):
            value, slope = self._stationary(angle, rho, z)
            flat = slope.detach() < 1e-9
            angle = angle - torch.where(flat, 0.0, value / torch.where(flat, 1.0, slope))
        return angle.reshape(shape)

    def _stationary(self, angle: Tensor, rho: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """½ ∂|γ − p|²/∂α and its derivative, over scale²."""
        at = self.jet(angle)
        value = (at.rho - rho) * at.rho_slope + (at.z - z) * at.z_slope
        bend = (at.rho - rho) * at.rho_bend + (at.z - z) * at.z_bend
        return value / self.scale, bend + at.rho_slope**2 + at.z_slope**2

    def _nearest(self, rho: Tensor, z: Tensor) -> Tensor:
        n = 64 + 8 * (len(self.rho) // 2)
        table = self.places(n).to(rho.device)
        at = self.jet(table)
        # The squared distance less what all points of the table share.
        points = torch.stack([at.rho, at.z, -(at.rho**2 + at.z**2) / 2])
        here = torch.stack([rho, z, torch.ones_like(rho)], -1)
        index = torch.cat([(part @ points).argmax(-1) for part in here.split(2**14)])
        start, step = table[index], table[1] - table[0]
        return _bracketed(lambda a: self._stationary(a, rho, z), start - step, start + step)

    def covered(self, share: Tensor) -> Tensor:
        """α up to which a share of the area lies, for shares in [0, 1], float64; no derivative."""
        n = 64 + 8 * (len(self.rho) // 2)
        edges = np.linspace(0, 2 * math.pi * self.length / self.period, n + 1)
        parts = self._covered(edges)
        table = torch.tensor(parts / parts[-1], device=share.device)
        places = torch.tensor(edges, device=share.device)
        series = self._tensor("covered", self._integral[:, None], share)
        offset, rate = float(self._integral[1 : len(self._integral) // 2 + 1].sum()), self.rho[0]
        index = (torch.searchsorted(table, share.contiguous(), right=True) - 1).clamp(0, n - 1)

        def excess(a: Tensor) -> tuple[Tensor, Tensor]:
            area = (_waves(a, len(self.rho) // 2) @ series).squeeze(-1) - offset
            area = area + rate * self.scale * a
            whole = float(parts[-1])
            return area / whole - share, self.jet(a).rho * self.scale / whole

        with torch.no_grad():
            return _bracketed(excess, places[index], places[index + 1], MANY_STEPS)

    @cached_property
    def _integral(self) -> np.ndarray:
        """Series of ∫ρ ds but for its linear part and a constant."""
        n = len(self.rho) // 2
        k = np.arange(1, n + 1) / self.scale
        return np.concatenate([[0.0], -self.rho[n + 1 :] / k, self.rho[1 : n + 1] / k])

    def _covered(self, angle: np.ndarray) -> np.ndarray:
        """∫ρ ds from α = 0."""
        n = len(self.rho) // 2
        turns = angle[:, None] * np.arange(1, n + 1)
        waves = np.concatenate([np.cos(turns) - 1, np.sin(turns)], -1)
        return waves @ self._integral[1:] + self.rho[0] * self.scale * angle

    def _tensor(self, name: str, values: np.ndarray, like: Tensor) -> Tensor:
        key = (name, like.dtype, like.device)
        if key not in self._copies:
            with torch.inference_mode(False):
                self._copies[key] = torch.tensor(values, dtype=like.dtype, device=like.device)
        return self._copies[key]


def _bracketed(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    low: Tensor,
    high: Tensor,
    steps: int = STEPS,
) -> Tensor:
    """Root of an increasing function, given with its slope, by Newton's method and bisection."""
    x = (low + high) / 2
    for _ in range(steps):
        f, df = function(x)
        below = f < 0
        low, high = torch.where(below, x, low), torch.where(below, high, x)
        moved = x - f / torch.where(df > 0, df, 1.0)
        inside = (df > 0) & (moved >= low) & (moved <= high)
        x = torch.where(inside, moved, (low + high) / 2)
    return x


def _waves(angle: Tensor, n: int) -> Tensor:
    """1, cos kα, sin kα for k = 1 … n, of shape ``(*, 2n + 1)``."""
    turns = angle.unsqueeze(-1) * torch.arange(1, n + 1, dtype=angle.dtype, device=angle.device)
    return torch.cat([torch.ones_like(angle).unsqueeze(-1), turns.cos(), turns.sin()], -1)


def _slope(series: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Coefficients of the derivative."""
    n = len(k)
    return np.concatenate([[0.0], k * series[n + 1 :], -k * series[1 : n + 1]])


def over_sine(series: np.ndarray) -> np.ndarray:
    """Σ b_k sin kα / sin α as a series of cosines: sin kα/sin α = Σ cos((k − 1 − 2i)α), i < k."""
    n = len(series) // 2
    result = np.zeros_like(series)
    for k, b in enumerate(series[n + 1 :], 1):
        for j in range(k - 1, -1, -2):
            result[j] += b if j == 0 else 2 * b
    return result


def _sampled(curve: Curve, poles: bool, n: int, name: str) -> np.ndarray:
    """ρ + iz at n equal parameters over the full turn; with poles, there and back."""
    count = n // 2 + 1 if poles else n
    u = torch.arange(count, dtype=torch.float64) * (2 * math.pi / n)
    with torch.no_grad():
        result = curve(u)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ValueError(f"{name}: the profile returns {result!r}; expected a pair (rho, z)")
    parts = []
    for label, part in zip(("rho", "z"), result, strict=True):
        if not isinstance(part, Tensor) or part.shape != u.shape or not part.is_floating_point():
            raise ValueError(
                f"{name}: {label} of the profile is {part!r} for u of shape {tuple(u.shape)}; "
                "expected a tensor of that shape"
            )
        if not bool(torch.isfinite(part).all()):
            bad = u[~torch.isfinite(part)][0].item()
            raise ValueError(f"{name}: {label} of the profile is not finite at u = {bad:.4g}")
        parts.append(part.double().cpu().numpy())
    rho, z = parts
    size = float(np.abs(rho).max())
    inner = rho[1:-1] if poles else rho
    if inner.min() <= 0:
        bad = float(u[int(inner.argmin()) + int(poles)])
        raise ValueError(
            f"{name}: rho = {inner.min():.4g} at u = {bad:.4g}: the distance from the axis has to "
            "be positive" + ("" if poles else "; a profile from pole to pole takes poles=True")
        )
    if poles and max(abs(rho[0]), abs(rho[-1])) > 1e-7 * size:
        raise ValueError(
            f"{name}: rho = {rho[0]:.4g} and {rho[-1]:.4g} at u = 0 and π; a profile with "
            "poles=True starts and ends on the axis, with rho = 0"
        )
    if not poles:
        return rho + 1j * z
    rho[[0, -1]] = 0.0
    return np.concatenate([rho + 1j * z, (-rho + 1j * z)[-2:0:-1]])


def _resolved(w: np.ndarray) -> bool:
    size = np.abs(np.fft.fft(w))
    last = np.abs(np.fft.fftfreq(len(w), 1 / len(w))) > len(w) / 3
    return bool(size[last].max() <= RESOLVED * size[1:].max())


def _sum(coefficients: np.ndarray, frequencies: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Σ c_k e^{iku}, of the terms that count."""
    kept = np.abs(coefficients) > 1e-18 * np.abs(coefficients).max()
    return np.exp(1j * at[:, None] * frequencies[kept]) @ coefficients[kept]


def _series(w: np.ndarray, poles: bool) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of ρ and z, cut where they are negligible."""
    n = len(w)
    found = []
    for part, odd in ((np.real(w), True), (np.imag(w), False)):
        c = np.fft.rfft(part) / n
        cos, sin = 2 * c.real[: n // 2], -2 * c.imag[: n // 2]
        cos[0] /= 2
        if poles:
            (cos if odd else sin)[:] = 0.0
        found.append((cos, sin))
    size = max(np.abs(part[1:]).max() for pair in found for part in pair)
    for pair in found:
        for part in pair:
            part[np.abs(part) <= NEGLIGIBLE * size] = 0.0
    last = max(int(np.flatnonzero(part)[-1]) for pair in found for part in pair if part.any())
    rho, z = (np.concatenate([cos[: last + 1], sin[1 : last + 1]]) for cos, sin in found)
    return rho, z


def _check_embedded(w: np.ndarray, period: float, poles: bool, name: str) -> None:
    """Refuse a curve that meets itself: chords that are short for their arc."""
    w = w[:: max(1, len(w) // 512)]
    n = len(w)
    gap = np.abs(np.arange(n)[:, None] - np.arange(n))
    arc = np.minimum(gap, n - gap) * period / n
    ratio = np.abs(w[:, None] - w) / np.where(gap == 0, 1, arc)
    ratio[gap == 0] = 1.0
    if ratio.min() < PINCHED:
        i, j = np.unravel_index(int(ratio.argmin()), ratio.shape)
        raise ValueError(
            f"{name}: the profile meets itself, or nearly, at (rho, z) = ({w[i].real:.4g}, "
            f"{w[i].imag:.4g}): points {arc[i, j]:.3g} apart along it are {abs(w[i] - w[j]):.2g} "
            "apart"
        )
