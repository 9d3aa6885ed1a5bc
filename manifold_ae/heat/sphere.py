r"""Heat kernel of the unit sphere Sᵈ, in every dimension by the same two formulas.

Notation: r ∈ [0, π] is the geodesic distance, t the variance parameter of Brownian motion
(generator ½Δ), ν = (d − 1)/2, V the volume, and q(t, r) the density with respect to volume.

**Spectral series.** The zonal expansion, eigenvalues l(l + 2ν) with multiplicity N_l:

    V q(t, r) = Σ_l N_l e^{-l(l + 2ν) t/2} C_l^ν(cos r) / C_l^ν(1).                          (1)

It converges fast for large t. For small t it cancels: at the antipode q is of order e^{-π²/2t}.

**Inverse Laplace transform.** Write e^{-(l + ν)² t/2} as the characteristic function of a normal
variable x of variance t, and sum (1) over l by the generating function of Gegenbauer's
polynomials. What remains is an integral over x of

    (2πt)^{-1/2} e^{-x²/2t} · sin x · (2 cos x − 2 cos r)^{-(ν + 1)}

on a line above the real axis; its branch points are x = ±r + 2πk. The integrand is odd, so the
line may be folded into a loop around the positive ones. Both sin(x)/x and cos x are entire
functions of w = x², and with w = r² − 2tz the integral becomes a Bromwich integral,

    q(t, r) = V^{-1} e^{ν²t/2 − r²/2t} (2πt)^{-1/2} 4πt · (1/2πi) ∫ e^z F(z) dz,              (2)
    F(z) = sin x / x · (2 cos x − 2 cos r)^{-(ν + 1)},    x = √(r² − 2tz),

whose singularities all lie on z ≤ 0, at z = 0 and, for the other geodesics, further left. So one
quadrature on Weideman's optimised Talbot contour, of a dozen points in the upper half-plane, is
accurate to 1e-9 *relative to q* for every r in [0, π], the antipode and coincidence included,
however small t is: the factor e^{-r²/2t} stands outside. In the leading order, F ~ (2tz)^{-(ν+1)}
gives the Gaussian. As t grows e^{ν²t/2} cancels against the integral, and (1) takes over.

**Two geodesics.** On S³ the sum over the geodesics through both points is elementary,

    V q(t, r) ∝ Σ_k (r + 2πk)/sin r · e^{−(r + 2πk)²/2t},

and for t < CROSSOVER all but the shortest and the one round the other side are below e^{−39}.

References:
    J. A. C. Weideman, *Optimizing Talbot's contours for the inversion of the Laplace transform*,
    SIAM J. Numer. Anal. 44 (2006), 2342–2362, for the contour.
"""

import math

import numpy as np
import torch
from torch import Tensor

from manifold_ae.heat import circle
from manifold_ae.numerics import built_once, expm1_ratio, sinc_sqrt

__all__ = [
    "MAX_DIM",
    "by_contour",
    "by_geodesics",
    "by_spectrum",
    "log_relative_density",
    "relative_excess",
]

#: Largest dimension for which the error bounds below have been verified.
MAX_DIM = 10
#: Time at which the series takes over: its cancellation at the antipode loses five digits of
#: sixteen there, and e^{ν²t/2} as much at most.
CROSSOVER = 0.5
#: Larger batches are evaluated in parts of this size.
CHUNK = 2**14
#: Degrees of the spectral series at t ≥ CROSSOVER: what is left out is below 1e-17.
DEGREES = 20


@built_once
def _talbot(points: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes z and weights e^z dz of the modified Talbot contour, upper half, conjugated.

    They are conjugated so that √(r² − 2tz) falls in the upper half-plane.
    """
    n = 2 * points
    theta = (2 * np.arange(points) + 1) * np.pi / n
    angle = 0.6407 * theta
    z = n * (-0.4814 + 0.6122 * theta / np.tan(angle) + 0.2645j * theta)
    dz = n * (0.6122 / np.tan(angle) - 0.6122 * 0.6407 * theta / np.sin(angle) ** 2 + 0.2645j)
    weights = -(2 / n) * np.exp(z) * dz
    return torch.tensor(z.conj(), device=device), torch.tensor(weights.conj(), device=device)


def by_contour(dim: int, r: Tensor, t: Tensor) -> Tensor:
    """log(V q(t, r)) by the inverse Laplace transform (2); float64, meant for t ≤ CROSSOVER."""
    nu = (dim - 1) / 2
    r, t = torch.broadcast_tensors(r, t)
    # More points for higher dimensions, where F is steeper; too many lose digits to e^z.
    z, weights = _talbot(12 + dim // 2, r.device)
    r_, t_ = r.unsqueeze(-1), t.unsqueeze(-1)
    # e^{2ir} − 1 = 2i sin r e^{ir}, whose digits at r ≈ π are those of sin r.
    sine, cosine = torch.sin(r), torch.cos(r)
    turn = torch.complex(-2 * sine * sine, 2 * sine * cosine).unsqueeze(-1)
    step = -2 * t_ * z
    x = torch.sqrt(r_ * r_ + step)
    # 2 cos x − 2 cos r = e^{-ix} f g with f = 1 − e^{i(x−r)} and g = 1 − e^{i(x+r)}, Im x > 0: both
    # have a positive real part, so the principal logarithm of the product is continuous along the
    # contour. x − r is formed without cancellation, and g from f. Then sin x is, up to the factor
    # ½i e^{-ix}, f + g − fg.
    f = -torch.expm1(1j * (step / (x + r_)))
    g = f + turn * (f - 1)
    fg = f * g
    exponent = 1j * nu * x - (nu + 1) * (torch.log(fg) - torch.log(2 * t_))
    integral = (weights * ((f + g - fg) / x) * torch.exp(exponent)).sum(-1).real / 2
    return (
        torch.log(integral)
        - r * r / (2 * t)
        + nu * nu * t / 2
        - (nu + 0.5) * torch.log(2 * t)
        + 0.5 * math.log(4 * math.pi)
    )


def by_geodesics(r: Tensor, t: Tensor) -> Tensor:
    """log(V q(t, r)) on S³ by two geodesics; float64, meant for t ≤ CROSSOVER."""
    # Near the antipode both are of one order, and each is divided by sin r: with ρ = π − r,
    # r − (π + ρ) e^{−2πρ/t} = ρ ((π + ρ) (2π/t) φ₁(−2πρ/t) − 2). Near zero the second is nothing.
    near = r < 1.5
    rest = math.pi - torch.where(near, math.pi, r)
    both = (math.pi + rest) * (2 * math.pi / t) * expm1_ratio(-2 * math.pi / t * rest) - 2
    short = torch.where(near, r, rest)
    amplitude = torch.where(near, 1.0, both) / sinc_sqrt(short * short)
    normal = math.log(2 * math.pi**2) - 1.5 * torch.log(2 * math.pi * t)
    return torch.log(amplitude) + normal - r * r / (2 * t) + t / 2


def _early(dim: int, r: Tensor, t: Tensor) -> Tensor:
    return by_geodesics(r, t) if dim == 3 else by_contour(dim, r, t)


def relative_excess(dim: int, r: Tensor, t: Tensor) -> Tensor:
    """V q(t, r) − 1 by the spectral series (1), without cancellation as t → ∞; t ≥ CROSSOVER.

    (On the circle the series holds from ``circle.CROSSOVER``.)
    """
    if dim == 1:
        return circle.relative_excess(r, t)
    nu = (dim - 1) / 2
    cosine = torch.cos(r)
    before, harmonic = torch.ones_like(cosine), cosine
    total = torch.zeros_like(cosine * t)
    for degree in range(1, DEGREES + 1):
        multiplicity = math.comb(dim + degree, dim) - (
            math.comb(dim + degree - 2, dim) if degree > 1 else 0
        )
        rate = degree * (degree + 2 * nu) / 2
        total = total + multiplicity * torch.exp(-rate * t) * harmonic
        before, harmonic = (
            harmonic,
            (2 * (degree + nu) * cosine * harmonic - degree * before) / (degree + 2 * nu),
        )
    return total


def by_spectrum(dim: int, r: Tensor, t: Tensor) -> Tensor:
    """log(V q(t, r)) by the spectral series (1); float64, meant for t ≥ CROSSOVER."""
    return torch.log1p(relative_excess(dim, r, t))


def log_relative_density(dim: int, r: Tensor, t: Tensor) -> Tensor:
    """log(V q(t, r)) for 1 ≤ dim ≤ MAX_DIM: zero for the uniform law.

    Args:
        r: geodesic distance in [0, π], of shape ``(*)``.
        t: time, positive, of a shape that broadcasts with r.

    Accurate to 1e-8 absolutely, or relatively where the log-density is large, for every t > 0.
    """
    if dim == 1:
        return circle.log_relative_density(r, t)
    many = max(r.numel(), t.numel()) > CHUNK
    if many and not _differentiated(r, t):
        return _in_chunks(dim, r, t)
    return torch.where(
        t < CROSSOVER,
        _early(dim, r, t.clamp_max(CROSSOVER)),
        by_spectrum(dim, r, t.clamp_min(CROSSOVER)),
    )


def _differentiated(*tensors: Tensor) -> bool:
    """Whether the graph of an evaluation is wanted, by autograd, torch.func or torch.compile."""
    return (
        (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
        or torch._C._are_functorch_transforms_active()
        or torch.compiler.is_compiling()
    )


def _in_chunks(dim: int, r: Tensor, t: Tensor) -> Tensor:
    """The same, each formula only where it is used, and on as much as the caches hold."""
    r, t = torch.broadcast_tensors(r, t)
    shape, r, t = r.shape, r.reshape(-1), t.reshape(-1)
    result = torch.empty_like(r)
    early = t < CROSSOVER
    late = ~early  # and what is NaN
    for part in early.nonzero().squeeze(-1).split(CHUNK):
        result[part] = _early(dim, r[part], t[part])
    for part in late.nonzero().squeeze(-1).split(CHUNK):
        result[part] = by_spectrum(dim, r[part], t[part])
    return result.reshape(shape)
