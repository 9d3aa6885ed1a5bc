r"""Density and divergence of the wrapped normal law on Sᵈ.

Notation: r ∈ [0, π] is the geodesic distance from the location, t the variance. The tangent vectors
that the exponential map takes to a point have the lengths \|r + 2πk\|, k ∈ ℤ, and it stretches
volume there by (\|sin r\| / \|r + 2πk\|)^{d−1}. So

    q(r) = (2πt)^{-d/2} Σ_k (|r + 2πk| / sin r)^{d−1} e^{−(r + 2πk)²/2t}.                    (1)

For d ≥ 2 whole spheres of tangent vectors meet in the antipode, and in the location itself: q grows
there like sin^{1−d} r, integrably. At the location that is the share of walks right round, of order
e^{−2π²/t}. When t is large (1) takes many terms, and Euler's and Maclaurin's formula gives

    q(r) = Γ(d/2) / (2 π^{d/2+1}) sin^{1−d} r · (1 − ε(r)),                                  (2)

so that r becomes uniform on [0, π], and not the point on the sphere; ε comes from the kink of
\|ρ\|^{d−1} at zero, O(t^{-d/2}), for even d, and is O(e^{−t/2}) for odd d.
"""

import math

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from scipy import special
from torch import Tensor

from manifold_ae.heat.tables import Table1
from manifold_ae.numerics import built_once

__all__ = [
    "MAX_DIM",
    "divergence",
    "divergence_table",
    "log_radial_density",
    "log_relative_density",
]

#: Largest dimension for which the divergence has been verified, to 1e-6; it is 2e-8 up to ten.
MAX_DIM = 50
#: From here on (2) errs by less than 1e-10; until then, images up to |k| = 32 by less than 1e-17.
LONG = 400.0
IMAGES = 32
#: Before this time the expansion of K in t is exact to 1e-8 in every dimension up to fifty.
SHORT = 1e-6
#: Before this time three images on either side are as good as all.
EARLY = 1.0


def log_relative_density(dim: int, r: Tensor, t: Tensor, resolved: float) -> Tensor:
    """log(V q), of the broadcast shape of r and t; float64.

    Within the distance ``resolved`` of 0 and π, q is taken as at that distance: finite, with
    gradient zero.
    """
    r = r.clamp(resolved, math.pi - resolved)
    along = log_radial_density(dim, r, t)
    return along - (dim - 1) * torch.log(torch.sin(r)) - _log_area_fraction(dim)


def log_radial_density(dim: int, r: Tensor, t: Tensor, images: int = IMAGES) -> Tensor:
    """log of the density of r on [0, π], for 0 < r."""
    return torch.where(
        t < LONG,
        by_images(dim, r, t.clamp_max(LONG), images),
        by_expansion(dim, r, t.clamp_min(LONG)),
    )


def _log_area_fraction(dim: int) -> float:
    """log of Vol(S^{d−1}) / Vol(S^d)."""
    return math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2) - 0.5 * math.log(math.pi)


def by_images(dim: int, r: Tensor, t: Tensor, images: int = IMAGES) -> Tensor:
    """The sum (1)."""
    k = torch.arange(-images, images + 1, dtype=r.dtype, device=r.device)
    r_ = r.unsqueeze(-1)
    # (r + 2πk)² − r², so that the leading exponent is exact when t is tiny.
    excess = 4 * math.pi * k * (r_ + math.pi * k)
    terms = (dim - 1) * torch.log((r_ + 2 * math.pi * k).abs()) - excess / (2 * t.unsqueeze(-1))
    return (
        torch.logsumexp(terms, -1)
        - r * r / (2 * t)
        - dim / 2 * torch.log(2 * t)
        + math.log(2)
        - math.lgamma(dim / 2)
    )


def by_expansion(dim: int, r: Tensor, t: Tensor) -> Tensor:
    """The long-time limit (2), with ε to the order t^{−d/2−5}."""
    if dim % 2:
        return torch.zeros_like(r * t) - math.log(math.pi)
    share = torch.zeros_like(r * t)
    for j in range(6):
        n = dim + 2 * j
        log_size = (
            math.lgamma(n) - math.lgamma(j + 1) - math.lgamma(dim / 2) + n * math.log(2 * math.pi)
        ) - math.lgamma(n + 1)
        size = torch.exp(log_size - (j + dim / 2) * torch.log(2 * t))
        share = share + 2 * (-1) ** j * size * _bernoulli(n, r / (2 * math.pi))
    return torch.log1p(-share) - math.log(math.pi)


def _bernoulli(n: int, x: Tensor) -> Tensor:
    """Bernoulli's polynomial of degree n on [0, 1]."""
    numbers = special.bernoulli(n)
    result = torch.zeros_like(x)
    for k in range(n + 1):
        result = result * x + math.comb(n, k) * float(numbers[k])
    return result


def divergence(dim: int, t: np.ndarray, folded: bool = False) -> np.ndarray:
    """KL to the uniform law of Sᵈ, or folded of ℝPᵈ, by quadrature, for times of shape (n,)."""
    if (t < SHORT).any():
        # log(r / sin r) = r²/6 + O(r⁴), and E r² = d t.
        formula = (
            -dim / 2 * (np.log(2 * np.pi * t) + 1)
            + math.log(2)
            + (dim + 1) / 2 * math.log(math.pi)
            - math.lgamma((dim + 1) / 2)
            + dim * (dim - 1) * t / 6
        ) - (math.log(2) if folded else 0.0)
        return np.where(t < SHORT, formula, divergence(dim, np.maximum(t, SHORT), folded))
    nodes, weights = leggauss(160)
    # Graded towards both ends, as the integrand there is like a power of r or a logarithm.
    u = (nodes[:, None] + 1) / 2
    reach = np.minimum(np.pi, (12 + math.sqrt(dim)) * np.sqrt(t))
    left, right = reach / 2 * u**4, reach - reach / 2 * u**4
    w = weights[:, None] * reach * u**3
    images = 3 if (t < EARLY).all() else 0 if (t >= LONG).all() else IMAGES
    total = np.zeros_like(t)
    for r, sine in ((left, np.sin(left)), (right, np.sin(np.pi - reach + reach / 2 * u**4))):
        r_, t_ = torch.from_numpy(r), torch.from_numpy(t)
        along = log_radial_density(dim, r_, t_, images).numpy()
        both = along
        if folded:  # V q is the mean of those at r and π − r, whose sines are the same
            far = log_radial_density(dim, math.pi - r_, t_, images).numpy()
            both = np.logaddexp(along, far) - math.log(2)
        relative = both - (dim - 1) * np.log(sine) - _log_area_fraction(dim)
        total += (w * np.exp(along) * relative).sum(0)
    return total


@built_once
def divergence_table(dim: int, folded: bool = False) -> Table1:
    """K over log t, for dim ≥ 2: a straight line for short times, constant for long ones.

    That of Sᵈ, or folded of ℝPᵈ.

    Unlike the heat kernel's it does not fall to zero: the table of K itself is accurate relative to
    it.
    """

    def function(u: np.ndarray) -> np.ndarray:
        t = np.exp(u)
        # Slices by number, not np.split at an array, which torch.compile fails to trace.
        early, long = int((t < EARLY).sum()), int((t < LONG).sum())
        parts = t[:early], t[early:long], t[long:]
        return np.concatenate([divergence(dim, part, folded) for part in parts])

    return Table1(function, math.log(1e-10), math.log(1e8), 450, slope_below=-dim / 2)
