r"""Divergence from the uniform law of the heat kernel on a surface of revolution.

K(α, t) = KL(q ‖ uniform) depends on the place α on the profile and on the time. It is integrated
from the modes of ``revolution_modes``, by rules that are spectrally accurate here: the trapezoid's
over the rotation and over a closed profile, Gauss' over the cosine of α from pole to pole. To
t = 0 it is continued by

    −log 2πt − 1 + log V + Sc(α) t/4 + c₂(α) t² + c₃(α) t³ + …;                                (1)

as on spheres, log(e^K − 1) is tabulated, over (α, log t), or (cos α, log t) where K is even in α:
an even function of an angle is a smooth one of its cosine. It is so with poles, and where the
profile looks the same from both sides, as the embedded torus' does.
"""

import math

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from manifold_ae.heat.kernel import kl_uniform
from manifold_ae.heat.revolution import crossover, spectrum
from manifold_ae.heat.revolution_modes import CUT
from manifold_ae.heat.tables import Table2
from manifold_ae.manifolds import Revolution
from manifold_ae.numerics import LAWS, Fused, built_once

__all__ = ["divergence", "divergence_table"]

#: Places from which K is interpolated: so many at first, twice as many until the last quarter of
#: the series is below RESOLVED, and these at most.
PLACES, MAX_PLACES, RESOLVED = 16, 128, 1e-7
#: Chebyshev points of log t from the crossover to the end of the table.
TIMES = 80


def divergence(manifold: Revolution, place: np.ndarray, t: float) -> np.ndarray:
    """KL to the uniform law from places α of shape ``(n,)``, for one t ≥ the crossover."""
    modes = spectrum(manifold)
    kept = (modes.rate * t <= max(CUT, 1.5 * modes.rate[1:].min() * t + CUT)) & (modes.rate > 0)
    m, rate = modes.frequency[kept], modes.rate[kept]
    lowest = rate.min()
    # The grid resolves the square of what the modes do; by symmetry half of the turn suffices.
    wave = math.sqrt(2 * min(CUT / t, modes.rate.max()))
    there, across = _rule(manifold, wave)
    orders = int(m.max())
    turns = math.pi * np.arange(3 * (orders + 6) // 2 + 1) / (3 * (orders + 6) // 2)
    near = modes.values(place)[:, kept]
    far = modes.values(there)[:, kept]
    # Scaled by the slowest decay, so that late times keep their digits.
    near = near * np.exp(-(rate - lowest) * t)
    parts = np.zeros((orders + 1, len(place), len(there)))
    for order in range(orders + 1):
        one = m == order
        parts[order] = near[:, one] @ far[:, one].T * (2.0 if order else 1.0)
    shape = np.einsum(
        "dm,mij->dij", np.cos(turns[:, None] * np.arange(orders + 1)), parts, optimize=True
    )
    excess = shape * (manifold.volume / (2 * math.pi) * math.exp(-lowest * t))
    along = np.full(len(turns), 1.0 / (len(turns) - 1))
    along[[0, -1]] /= 2
    return np.einsum("dij,d,j->i", _x_log_x_excess(excess), along, across, optimize=True)


def _rule(manifold: Revolution, wave: float) -> tuple[np.ndarray, np.ndarray]:
    """Places and weights, of sum one, for the mean over the area of waves up to a number."""
    profile = manifold.profile
    if profile.poles:
        n = 2 * math.ceil(1.5 * profile.scale * wave + 6) + len(profile.rho) // 4
        cosine, weight = np.polynomial.legendre.leggauss(n)
        place = np.arccos(cosine)
        weight = weight / np.sin(place) * profile.radius(profile.scale * place)
    else:
        n = 3 * math.ceil(profile.scale * wave + 6) + len(profile.rho) // 2
        place = 2 * math.pi * np.arange(n) / n
        weight = profile.radius(profile.scale * place)
    return place, weight / weight.sum()


def _x_log_x_excess(e: np.ndarray) -> np.ndarray:
    """(1 + e) log(1 + e) − e ≥ 0, without cancellation for small e; 1 below e = −1."""
    series = e * e * (1 / 2 - e * (1 / 6 - e * (1 / 12 - e * (1 / 20 - e / 30))))
    density = np.maximum(1 + e, 1e-300)
    return np.where(np.abs(e) < 1e-3, series, density * np.log(density) - e)


def _inverse_softplus(k: np.ndarray) -> np.ndarray:
    """log(e^K − 1)."""
    return k + np.log(-np.expm1(-k))


class _Even:
    """Functions of α that are smooth ones of cos α, from their values at Chebyshev points."""

    range = (-1.0, 1.0)

    def __init__(self, n: int) -> None:
        points = np.cos(np.pi * (np.arange(n) + 0.5) / n)
        self.places = np.arccos(points)
        self._to_series = np.linalg.inv(chebyshev.chebvander(points, n - 1))

    def series(self, values: np.ndarray) -> np.ndarray:
        return self._to_series @ values

    @staticmethod
    def basis(x: np.ndarray, n: int) -> np.ndarray:
        return chebyshev.chebvander(x, n - 1)


class _Periodic:
    """Functions of α, from their values at equal steps."""

    range = (0.0, 2 * math.pi)

    def __init__(self, n: int) -> None:
        self.places = 2 * np.pi * np.arange(n - 1) / (n - 1)  # an odd number
        weights = np.full((n - 1, 1), 2 / (n - 1))
        weights[0] /= 2
        self._to_series = self.basis(self.places, n - 1).T * weights

    def series(self, values: np.ndarray) -> np.ndarray:
        return self._to_series @ values

    @staticmethod
    def basis(x: np.ndarray, n: int) -> np.ndarray:
        """1, cos x, sin x, cos 2x, …"""
        k = (np.arange(n) + 1) // 2
        turns = x[:, None] * k
        return np.where(np.arange(n) % 2 == 1, np.cos(turns), np.where(k == 0, 1.0, np.sin(turns)))


@built_once
def divergence_table(manifold: Revolution) -> Table2:
    """log(e^K − 1) over cos α or α, and log t; see the module's docstring."""
    profile, start = manifold.profile, crossover(manifold)
    rates = spectrum(manifold).rate
    # K falls like e^{−2λt}: the table ends before that underflows.
    slowest = float(rates[rates > 0].min())
    longest = 300 / slowest
    kind = _Even if profile.even else _Periodic
    n = PLACES
    while True:
        grid = kind(n)
        size = np.abs(grid.series(divergence(manifold, grid.places, start)))
        if size[-n // 4 :].max() <= RESOLVED * size.max():
            break
        if n >= MAX_PLACES:
            raise NotImplementedError(
                f"{manifold!r}: {n} places do not resolve the divergence along the profile; "
                "heat.kl_asymptotic gives it for short times"
            )
        n *= 2
    places = grid.places
    curvature = 2 * profile.curvature(torch.from_numpy(places)).numpy()

    def short(t: np.ndarray | float) -> np.ndarray:
        t = np.asarray(t)[..., None]
        return -np.log(2 * np.pi * t) - 1 + math.log(manifold.volume) + curvature * t / 4

    # (K − the known terms of (1)) / t² as a polynomial, through its values at five times.
    times = start * np.array([1.0, 1.5, 2.0, 2.5, 3.0])
    rest = np.stack([(divergence(manifold, places, t) - short(t)) / t**2 for t in times])
    powers = np.linalg.solve(np.vander(times, increasing=True), rest)

    # From the crossover on, through Chebyshev points of log t.
    ends = math.log(start), math.log(longest)
    nodes = np.cos(np.pi * (np.arange(TIMES) + 0.5) / TIMES)
    late = np.stack(
        [divergence(manifold, places, math.exp(u)) for u in np.interp(nodes, (-1, 1), ends)]
    )
    late = np.linalg.solve(chebyshev.chebvander(nodes, TIMES - 1), _inverse_softplus(late))

    def values(x: np.ndarray, u: np.ndarray) -> np.ndarray:
        t = np.exp(u.clip(max=ends[0]))
        early = short(t) + t[:, None] ** 2 * (np.vander(t, len(times), increasing=True) @ powers)
        after = chebyshev.chebvander(np.interp(u, ends, (-1, 1)), TIMES - 1) @ late
        columns = np.where((u < ends[0])[:, None], _inverse_softplus(early), after)
        series = grid.series(columns.T)
        return grid.basis(x, len(series)) @ series

    # It begins where e^{−K} is lost beside one, and log(e^K − 1) is a straight line.
    times_range = (math.log(1e-15), math.log(longest))
    return Table2(
        values,
        kind.range,
        n,
        times_range,
        180,
        slope_below=-1.0,
        slope_above=-2 * slowest * longest,
    )


class _Divergence(Fused):
    """K(α, t) = softplus(table(x, log t)), x = cos α or α."""

    constants = 1
    first_only = LAWS

    @staticmethod
    def value(manifold: Revolution, x: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        table = divergence_table(manifold)
        logit, along, slope = table.evaluate(x, t.log())
        return torch.nn.functional.softplus(logit), logit, along, slope

    @staticmethod
    def derivative(gradient: Tensor, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        t, logit, along, slope = arguments[2:]
        by_logit = gradient * torch.sigmoid(logit)
        return by_logit * along, by_logit * slope / t


@kl_uniform.register
def _(manifold: Revolution, x: Tensor, t: Tensor) -> Tensor:
    place = manifold.place(x)
    at = torch.cos(place) if manifold.profile.even else torch.remainder(place, 2 * math.pi)
    at, t = torch.broadcast_tensors(at, t)
    return _Divergence.of(manifold, at, t)
