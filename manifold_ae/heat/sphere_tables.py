r"""What the heat kernel of a sphere gives as a function of time alone, or of time and one radius.

Both tables are built on first use, in a fraction of a second, from the kernel in ``heat.sphere``
by Gauss–Legendre quadrature, and kept for the process.

**Divergence.** K(t) = KL(q(t, ·) ‖ uniform) falls from −d/2 log t + const to ~ ½(d + 1) e^{-td}.
What is tabulated is log(e^K − 1) over log t, a straight line for small t and log K for large: so K,
its softplus, is positive and accurate relative to itself, derivative included, for every t. The
same for ℝPᵈ, whose kernel is that of Sᵈ folded: V q(r) = ½ (V q)(r) + ½ (V q)(π − r) on the sphere.

**Radius.** Draw a tangent vector v ∼ N(0, I): ρ = \|v\| has the χ law of d degrees of freedom.
G_t = F_t⁻¹ ∘ F_χ, with F_t the distribution function of the geodesic distance at time t, turns ρ
into that distance. What is tabulated is log(G_t(ρ)/ρ) over (ρ, log t): ½ log t in the limit of
short times, constant in t in that of long ones, smooth in between.
"""

import math

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from scipy import special

from manifold_ae.heat import sphere
from manifold_ae.heat.tables import Table1, Table2
from manifold_ae.numerics import built_once

__all__ = ["divergence_table", "radius_table"]

#: Before this time the short-time formula is exact to 1e-8 in every dimension up to ten.
SHORT = 1e-5
#: Beyond twelve standard deviations plus √d, nothing: the χ law's tail is below 1e-30.
REACH = 12.0


def _log_relative_density(
    dim: int, r: np.ndarray, t: np.ndarray, folded: bool = False
) -> np.ndarray:
    """log(V q) with the radius along the first axis and one time a column."""
    r_, t_ = torch.from_numpy(r), torch.from_numpy(t)
    relative = sphere.log_relative_density(dim, r_, t_)
    if folded:
        other = sphere.log_relative_density(dim, math.pi - r_, t_)
        relative = torch.logaddexp(relative, other) - math.log(2)
    return relative.numpy()


def _relative_excess(dim: int, r: np.ndarray, t: np.ndarray, folded: bool = False) -> np.ndarray:
    """V q − 1 for times at which the spectral series holds."""
    r_, t_ = torch.from_numpy(r), torch.from_numpy(t)
    excess = sphere.relative_excess(dim, r_, t_)
    if folded:
        excess = (excess + sphere.relative_excess(dim, math.pi - r_, t_)) / 2
    return excess.numpy()


def _log_area_fraction(dim: int, folded: bool = False) -> float:
    """log of Vol(S^{d−1}) / V: density of r under the uniform law, over sin^{d−1} r."""
    whole = math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2) - 0.5 * math.log(math.pi)
    return whole + math.log(2) if folded else whole


def x_log_x_excess(e: np.ndarray) -> np.ndarray:
    """(1 + e) log(1 + e) − e ≥ 0 for e ≥ −1, without cancellation for small e."""
    e = np.maximum(e, -1.0)
    series = e * e * (1 / 2 - e * (1 / 6 - e * (1 / 12 - e * (1 / 20 - e / 30))))
    return np.where(np.abs(e) < 1e-3, series, special.xlog1py(1 + e, e) - e)


def divergence(dim: int, t: np.ndarray, folded: bool = False) -> np.ndarray:
    """KL of the heat kernel of Sᵈ, or ℝPᵈ, to the uniform law, for times of shape (n,)."""
    if (t < SHORT).any():
        curvature, volume = dim * (dim - 1), _volume(dim) / (2 if folded else 1)
        formula = -dim / 2 * (np.log(2 * np.pi * t) + 1) + math.log(volume) + curvature * t / 4
        return np.where(t < SHORT, formula, divergence(dim, np.maximum(t, SHORT), folded))
    nodes, weights = leggauss(160)
    late = t >= 2.0
    furthest = np.pi / 2 if folded else np.pi
    reach = np.minimum(furthest, (REACH + math.sqrt(dim)) * np.sqrt(t))
    reach = np.where(late, furthest, reach)
    r = reach * (nodes[:, None] + 1) / 2
    w = weights[:, None] / 2 * reach * np.sin(r) ** (dim - 1)
    w = w * math.exp(_log_area_fraction(dim, folded))
    log_density = _log_relative_density(dim, r, t, folded)
    early_value = (w * np.exp(log_density) * log_density).sum(0)
    excess = _relative_excess(dim, r, np.maximum(t, 2.0), folded)
    late_value = (w * x_log_x_excess(excess)).sum(0)
    return np.where(late, late_value, early_value)


@built_once
def divergence_table(dim: int, folded: bool = False) -> Table1:
    """log(e^K − 1) over log t, of Sᵈ or, folded, of ℝPᵈ; see the module's docstring."""

    def inverse_softplus(u: np.ndarray) -> np.ndarray:
        k = divergence(dim, np.exp(u), folded)
        return k + np.log(-np.expm1(-k))

    # K falls like e^{-2λt}, λ the first eigenvalue of −½Δ: the table ends before that underflows.
    # It begins where e^{-K} is lost beside one, and log(e^K − 1) is a straight line.
    decay = 2 * (dim + 1) if folded else dim
    longest = min(1e2, 600 / decay)
    return Table1(
        inverse_softplus,
        math.log(1e-15),
        math.log(longest),
        250,
        slope_below=-dim / 2,
        slope_above=-decay * longest,
    )


@built_once
def radius_table(dim: int) -> Table2:
    """log(G_t(ρ)/ρ) over (ρ, log t), for dim ≥ 2; see the module's docstring."""
    reach = REACH + math.sqrt(dim)

    def log_ratio(rho: np.ndarray, u: np.ndarray) -> np.ndarray:
        t = np.exp(u)
        log_peak = _log_relative_density(dim, np.zeros(()), t) - math.log(_volume(dim))
        at_zero = -0.5 * math.log(2 * math.pi) - log_peak / dim
        radius = _matched_radius(dim, rho[1:, None], t)
        return np.vstack([at_zero, np.log(radius / rho[1:, None])])

    # Long before t = 100 the law is uniform to rounding.
    times = (math.log(1e-7), math.log(1e2))
    return Table2(log_ratio, (0.0, reach), 60, times, 42, slope_below=0.5)


def _volume(dim: int) -> float:
    return 2 * math.pi ** ((dim + 1) / 2) / math.gamma((dim + 1) / 2)


def _matched_radius(dim: int, rho: np.ndarray, t: np.ndarray) -> np.ndarray:
    """G_t(ρ), for ρ > 0 of shape (m, 1) and t of shape (n,): where F_t and F_χ agree.

    The smaller tail is matched, whichever it is, so that G is accurate far out. The radial density
    is held on equal panels, as polynomials, and integrated exactly from there; next to r = 0 and
    r = π, where it vanishes like a power, that power is held apart.
    """
    panels, order = 40, 12
    end = np.minimum(math.pi, (REACH + math.sqrt(dim) + 2) * np.sqrt(t))
    width = end / panels
    nodes, weights = leggauss(order)
    offset = (nodes + 1) / 2
    r = width * (np.arange(panels)[:, None] + offset)[..., None]  # (panels, order, n)
    density = (
        width
        * math.exp(_log_area_fraction(dim))
        * np.sin(r) ** (dim - 1)
        * np.exp(_log_relative_density(dim, r, t))
    )
    masses = np.einsum("i,pin->pn", weights / 2, density)
    density, masses = density / masses.sum(0), masses / masses.sum(0)
    zero = np.zeros_like(t)[None]
    below = np.concatenate([zero, masses.cumsum(0)])
    above = np.concatenate([masses[::-1].cumsum(0)[::-1], zero])

    # Monomials of the density in s ∈ [−1, 1], and of its primitive that vanishes at s = −1.
    monomials = np.einsum("ki,pin->kpn", np.linalg.inv(np.vander(nodes, increasing=True)), density)
    k = np.arange(order)[:, None, None]
    primitive = np.concatenate([zero[None].repeat(panels, 1), monomials / (2 * (k + 1))])
    primitive[0] = -np.einsum("kpn,k->pn", primitive, (-1.0) ** np.arange(order + 1))

    # On the outermost panels: density / σ^{d−1} as a polynomial in the distance σ from the end.
    powers = np.linalg.pinv(np.vander(offset, 8, increasing=True))
    scaled = offset[:, None] ** (dim - 1)
    j = np.arange(8)[:, None]
    head = (powers @ (density[0] / scaled)) / (dim + j)
    tail = (powers @ (density[-1, ::-1] / scaled)) / (dim + j)

    square = rho * rho / 2
    lower, upper = special.gammainc(dim / 2, square), special.gammaincc(dim / 2, square)
    left = lower < 0.5
    target = np.where(left, lower, upper) + zero
    count = np.where(left[None], below[1:-1, None] <= lower, above[1:-1, None] > upper).sum(0)
    column = np.arange(t.size)
    local = primitive[:, count, column]  # (order + 1, m, n)
    start, stop = below[count, column], above[count, column]
    first = left & (count == 0)
    last = ~left & (count == panels - 1) & (end == math.pi)

    def horner(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
        result = np.zeros_like(x)
        for coefficient in coefficients[::-1]:
            result = result * x + coefficient
        return result

    low, high = np.zeros_like(target), np.ones_like(target)
    for _ in range(46):
        middle = (low + high) / 2
        part = horner(local, 2 * middle - 1)
        tail_mass = np.where(left, start + part, stop - part)
        tail_mass = np.where(first, middle**dim * horner(head, middle), tail_mass)
        tail_mass = np.where(last, (1 - middle) ** dim * horner(tail, 1 - middle), tail_mass)
        below_target = (tail_mass < target) == left
        low, high = np.where(below_target, middle, low), np.where(below_target, high, middle)
    return (count + (low + high) / 2) * width
