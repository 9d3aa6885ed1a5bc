r"""Radii of the balls that hold a given part of a heat kernel.

    P(dist(z, loc) ≤ r_p(t)) = p,    z of law q(t; loc, ·).

Where the law of the distance depends on the time alone, r_p is a function of one variable, smooth
in log t: r_p/√t is the quantile of the χ law of d degrees of freedom for short times, constant over
√t for long ones. It is tabulated, from the kernel by quadrature. On spheres, projective spaces and
SO(3), which is S³/±1 of radius 2 (a time t there is t/4 on S³),

    F_t(r) ∝ ∫₀^r q(t, s) sin^{d−1} s ds;

on flat tori, the distance being the root of the sum of squares of d angles of equal law,

    F^{(d)}(r) = ∫ q(t, u) F^{(d−1)}(√(r² − u²)) du.
"""

import math

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from scipy import special
from scipy.interpolate import CubicSpline, PchipInterpolator
from torch import Tensor

from manifold_ae.heat.homogeneous import check_dimension
from manifold_ae.heat.kernel import Generic
from manifold_ae.heat.sphere_tables import _log_relative_density
from manifold_ae.manifolds import SO3, FlatTorus, Manifold, RealProjective, Sphere
from manifold_ae.numerics import built_once

__all__ = ["radial_quantile"]

#: log t from the shortest to the longest time tabulated, and how many; beyond, the limits.
SHORT, LONG, TIMES = math.log(1e-6), math.log(60.0), 64
#: Panels in r, and nodes in each; nodes of the convolution; standard deviations that count.
PANELS, ORDER, NODES, REACH = 100, 5, 64, 9.0


@Generic
def radial_quantile(manifold: Manifold, level: float, t: Tensor) -> Tensor:
    """The radius of the geodesic ball that holds the part ``level`` of a kernel, ``(*)``.

    Arguments:
        level: p, between 0 and 1.
        t: time (variance), positive, of shape ``(*, *time_shape)``.

    Raises:
        NotImplementedError: where the law of the distance has more than one parameter, or is not
            known; the quantile of distances of draws stands in for it.

    Example:
        >>> t = torch.tensor([0.01])
        >>> radial_quantile(FlatTorus(1), 0.95, t).round(decimals=4)  # 1.96 √t
        tensor([0.1960])
    """
    raise NotImplementedError(
        f"{manifold!r}: the law of the distance is not tabulated; take the quantile of "
        "M.dist(z, loc) over draws z of the kernel"
    )


@radial_quantile.register
def _(manifold: Sphere, level: float, t: Tensor) -> Tensor:
    return _sphere(check_dimension(manifold, manifold.dim), level, t, folded=False)


@radial_quantile.register
def _(manifold: RealProjective, level: float, t: Tensor) -> Tensor:
    return _sphere(check_dimension(manifold, manifold.dim), level, t, folded=True)


@radial_quantile.register
def _(manifold: SO3, level: float, t: Tensor) -> Tensor:
    return 2 * _sphere(3, level, t / 4, folded=True)


@radial_quantile.register
def _(manifold: FlatTorus, level: float, t: Tensor) -> Tensor:
    return _evaluated(torus_table(manifold.dim, _checked(level)), t)


def _sphere(dim: int, level: float, t: Tensor, folded: bool) -> Tensor:
    return _evaluated(sphere_table(dim, _checked(level), folded), t)


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level = {level!r}: expected a probability between 0 and 1")
    return float(level)


def _evaluated(table: CubicSpline, t: Tensor) -> Tensor:
    log_time = t.detach().double().cpu().log().numpy()
    inside = np.clip(log_time, SHORT, LONG)
    # Before the first time the law is that of the tangent space, after the last it is uniform.
    value = np.exp(table(inside) + np.minimum(log_time, SHORT) / 2 - SHORT / 2)
    return torch.from_numpy(np.asarray(value)).to(t)


@built_once
def sphere_table(dim: int, level: float, folded: bool) -> CubicSpline:
    """log r_p over log t on Sᵈ, or ℝPᵈ."""
    times = np.linspace(SHORT, LONG, TIMES)
    t = np.exp(times)
    furthest = math.pi / 2 if folded else math.pi
    end = np.minimum(furthest, (REACH + math.sqrt(dim)) * np.sqrt(t))
    nodes, weights = leggauss(ORDER)
    r = end / PANELS * (np.arange(PANELS)[:, None] + (nodes + 1) / 2)[..., None]
    density = np.sin(r) ** (dim - 1) * np.exp(_log_relative_density(dim, r, t, folded))
    below = np.einsum("i,pit->pt", weights, density).cumsum(0)
    edges = np.linspace(0, end, PANELS + 1)
    radii = [_inverted(edges[:, k], below[:, k], level) for k in range(TIMES)]
    return CubicSpline(times, np.log(radii))


@built_once
def torus_table(dim: int, level: float) -> CubicSpline:
    """log r_p over log t on Tᵈ."""
    times = np.linspace(SHORT, LONG, TIMES)
    radii = []
    for t in np.exp(times):
        end = min(math.sqrt(dim) * math.pi, (REACH + math.sqrt(dim)) * math.sqrt(t))
        r = np.linspace(0, end, 2 * PANELS + 1)
        below = _angle_below(r, t)
        for _ in range(dim - 1):
            below = _convolved(r, below, t)
        radii.append(_inverted(r, below[1:], level))
    return CubicSpline(times, np.log(radii))


def _inverted(r: np.ndarray, below: np.ndarray, level: float) -> float:
    """Where a distribution function, ``below`` of a constant at r[1:], has the value ``level``."""
    values = np.minimum(np.append(0.0, below / below[-1]), 1.0)
    rising = np.append(True, np.diff(values) > 1e-15)
    return float(PchipInterpolator(values[rising], r[rising])(level))


def _angle_below(r: np.ndarray, t: float) -> np.ndarray:
    """P(|θ| ≤ r) of a wrapped normal of variance t; 1 from r = π on."""
    k = _images(t)[:, None]
    inside = np.minimum(r, np.pi)
    scale = math.sqrt(2 * t)
    total = special.erf((inside + k) / scale) - special.erf((k - inside) / scale)
    return np.where(r >= np.pi, 1.0, total.sum(0) / 2)


def _convolved(r: np.ndarray, below: np.ndarray, t: float) -> np.ndarray:
    """P(u² + v² ≤ r²) of an angle u and a distance v of distribution function ``below`` at r.

    With u = min(r, π) sin ψ, so that the root has no infinite slope at the end.
    """
    nodes, weights = leggauss(NODES)
    psi = np.pi / 4 * (nodes + 1)
    u = np.minimum(r, np.pi)[:, None] * np.sin(psi)
    jacobian = np.minimum(r, np.pi)[:, None] * np.cos(psi) * weights * np.pi / 4
    density = (
        np.exp(-((u[..., None] + _images(t)) ** 2) / (2 * t)).sum(-1) * 2 / math.sqrt(2 * np.pi * t)
    )
    rest = np.sqrt(np.maximum(r[:, None] ** 2 - u**2, 0))
    return (jacobian * density * PchipInterpolator(r, below)(rest)).sum(1)


def _images(t: float) -> np.ndarray:
    """The multiples of 2π by which an angle of variance t may have been moved."""
    most = math.ceil(REACH * math.sqrt(t) / (2 * math.pi)) + 1
    return 2 * np.pi * np.arange(-most, most + 1)
