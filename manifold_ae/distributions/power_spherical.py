r"""The power spherical law on Sᵈ: a density that is a power of one linear function of the point.

Notation: z is the location, r the geodesic distance from it, κ ≥ 0 the concentration, t the time.

    q(x) = (1 + ⟨z, x⟩)^κ / N(κ) = cos^{2κ}(r/2) / N'(κ)

The half-angle has the law sin²(r/2) ∼ Beta(d/2, κ + d/2), so that E cos r = κ/(κ + d). For the heat
kernel it is e^{−dt/2}; **t is the time at which the two means agree**,

    κ = d / (e^{dt/2} − 1),    t = (2/d) log(1 + d/κ),                                       (1)

and κ → 2/t for short times. In between stands y = log(1 + κ/d) = −log(1 − e^{−dt/2}), in which
everything is regular, from the uniform law at y = 0 up.

The sampler is that of the heat kernel with another radius: v is the tangent part of Gaussian
noise, ρ = \|v\| has the χ law, and r = F⁻¹(F_χ(ρ)) the one above. De Cao & Aziz draw from Beta by
way of Gamma variates and turn a fixed pole to z by a Householder reflection, which has no limit as
z tends to the pole; this one is continuous in z. Their d is the ambient dimension, d + 1 here.

References:
    N. De Cao, W. Aziz, *The Power Spherical distribution*, 2020, equations 6 to 12,
    https://arxiv.org/abs/2006.04437
"""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch.distributions import Distribution, register_kl

from manifold_ae.distributions.base import check_points, normal_like
from manifold_ae.distributions.brownian import _Brownian
from manifold_ae.distributions.divergence import _check_same_manifold
from manifold_ae.distributions.priors import RiemannianUniform
from manifold_ae.heat.tables import Table2
from manifold_ae.manifolds import Manifold, Sphere
from manifold_ae.numerics import (
    built_once,
    digamma_difference,
    log1m_exp,
    log_gamma_ratio,
    power_sum,
    trigamma_difference,
    with_slopes,
)

__all__ = ["PowerSpherical"]


class PowerSpherical(_Brownian):
    """The power spherical law (De Cao & Aziz, 2020), with a time in place of a concentration.

    Arguments:
        manifold: a ``Sphere``, of any dimension.
        loc: mean direction z, of shape ``(*, d + 1)``.
        time: t > 0 of shape ``(*)``, for which E cos r is that of ``HeatKernel``: equation (1).
        validate_args: check values (see ``ManifoldDistribution``).

    Sampling is reparametrised, in one step, continuous and differentiable in ``loc`` and ``time``;
    density, entropy and the divergence from the uniform law are closed forms.

    Raises:
        ValueError: if the manifold is not a sphere.

    Example:
        >>> from manifold_ae.manifolds import Sphere
        >>> M = Sphere(2)
        >>> PowerSpherical(M, M.base_point(), torch.tensor(0.1)).concentration
        tensor(19.0167)
    """

    def __init__(
        self,
        manifold: Manifold,
        loc: Tensor,
        time: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        _check_sphere(manifold)
        super().__init__(manifold, loc, time, validate_args=validate_args)
        self._y = -log1m_exp(manifold.dim / 2 * self.time.double())

    @classmethod
    def from_concentration(
        cls,
        manifold: Manifold,
        loc: Tensor,
        concentration: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> "PowerSpherical":
        """The law with the given κ ≥ 0, of shape ``(*)``; κ = 0 is the uniform law, of time ∞.

        Raises:
            ValueError: if a concentration is negative or not finite.
        """
        _check_sphere(manifold)
        kappa = torch.as_tensor(concentration, dtype=loc.dtype, device=loc.device)
        checked = Distribution._validate_args if validate_args is None else validate_args
        if checked and not torch.compiler.is_compiling():
            check_points("loc", loc, manifold)
            bad = ~((kappa >= 0) & torch.isfinite(kappa))
            if bad.any():
                raise ValueError(
                    f"concentration must be at least 0 and finite, got "
                    f"{kappa[bad].flatten()[0].item()}; 0 is the uniform law"
                )
        y = torch.log1p(kappa.double() / manifold.dim)
        time = (-2 / manifold.dim * log1m_exp(y)).to(loc.dtype)
        law = cls(manifold, loc, time, validate_args=False)
        law._y = y.expand(law.batch_shape)
        law._validate_args = bool(checked)
        return law

    @property
    def concentration(self) -> Tensor:
        """κ, of the batch shape."""
        return self._kappa.to(self.loc.dtype)

    @property
    def _kappa(self) -> Tensor:
        return self.manifold.dim * torch.expm1(self._y)

    @property
    def mean(self) -> Tensor:
        """E x = κ/(κ + d) z, inside the ball, of shape ``(*, d + 1)``."""
        return -torch.expm1(-self._y).to(self.loc.dtype).unsqueeze(-1) * self.loc

    def expand(self, batch_shape: Any, _instance: Any = None) -> "PowerSpherical":
        loc, time = self._expanded(batch_shape)
        wide = PowerSpherical(self.manifold, loc, time, validate_args=False)
        wide._y = self._y.expand(wide.batch_shape)
        return wide

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        noise = normal_like(self.loc, self._extended_shape(torch.Size(sample_shape)), generator)
        v = self.manifold.proju(self.loc, noise)
        length = torch.linalg.vector_norm(v, dim=-1)
        ratio = radius_table(self.manifold.dim)(length, self._y.to(length)).exp()
        return self.manifold.expmap(self.loc, ratio.unsqueeze(-1) * v)

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(value) of shape ``(*)``, in nats, with respect to volume.

        At the antipode the density vanishes, unless κ = 0. The logarithm there is that at the
        distance that the dtype resolves: finite, with gradient zero.
        """
        self._check_value(value)
        z, x = self.loc.double(), value.double()
        near, far = (z - x).square().sum(-1), (z + x).square().sum(-1)
        # cos²(r/2) = far / (near + far): rounding of either length, which κ would multiply, drops
        # out.
        resolved = torch.finfo(value.dtype).eps ** 2
        log_power = -torch.log1p(near / far.clamp_min(resolved))
        relative = self._kappa * log_power + _log_peak(self.manifold.dim, self._kappa)
        return (relative - math.log(self.manifold.volume)).to(self.loc.dtype)

    def entropy(self) -> Tensor:
        """Differential entropy with respect to volume, in nats, of the batch shape."""
        divergence = _divergence(self.manifold.dim, self._kappa)
        return (math.log(self.manifold.volume) - divergence).to(self.loc.dtype)


@register_kl(PowerSpherical, RiemannianUniform)
def _(q: PowerSpherical, p: RiemannianUniform) -> Tensor:
    _check_same_manifold(q, p)
    return _divergence(q.manifold.dim, q._kappa).to(q.loc.dtype)


def _check_sphere(manifold: Manifold) -> None:
    if not isinstance(manifold, Sphere):
        raise ValueError(
            f"PowerSpherical lives on spheres, got {manifold!r}; HeatKernel and WrappedNormal "
            "serve other manifolds"
        )


def _log_peak(dim: int, kappa: Tensor) -> Tensor:
    """log(V q) at the location: log B(d/2, d/2) − log B(κ + d/2, d/2)."""
    half = dim / 2
    return log_gamma_ratio(kappa + half, half) - (math.lgamma(dim) - math.lgamma(half))


def _divergence(dim: int, kappa: Tensor) -> Tensor:
    """KL to the uniform law: log(V q) at the location, and κ E log cos²(r/2)."""
    return with_slopes(partial(_divergence_and_slope, dim), kappa)


def _divergence_and_slope(dim: int, kappa: Tensor) -> tuple[Tensor, Tensor]:
    # The closed form loses K, of order κ², beside one.
    half, threshold = dim / 2, 0.05 * dim
    small, large = kappa.clamp_max(threshold), kappa.clamp_min(threshold)
    series = power_sum(small, _divergence_series(dim), 2.0)
    closed = _log_peak(dim, large) - large * digamma_difference(large + half, half)
    # ∂K/∂κ, in which all but one term cancels.
    slope = -kappa * trigamma_difference(kappa + half, half)
    return torch.where(kappa < threshold, series, closed), slope


@built_once
def _divergence_series(dim: int) -> tuple[float, ...]:
    """Coefficients of K from κ² on; it converges for κ < d/2.

    ∂K/∂κ = κ (ψ₁(κ + d/2) − ψ₁(κ + d)), integrated term by term; 14 terms reach 1e-14 at d/20.
    """
    return tuple(
        float(special.polygamma(m + 1, dim / 2) - special.polygamma(m + 1, dim))
        / ((m + 2) * math.factorial(m))
        for m in range(14)
    )


@built_once
def radius_table(dim: int) -> Table2:
    """log(r/ρ) over the length ρ of the noise and y = log(1 + κ/d); accurate to 1e-7."""
    reach = 12 + math.sqrt(dim)

    def log_ratio(rho: np.ndarray, y: np.ndarray) -> np.ndarray:
        # Next to zero F_χ ~ ρᵈ / (2^{d/2} Γ(d/2 + 1)) and F ~ (r/2)ᵈ / (d/2 · B(d/2, κ + d/2)).
        half, kappa = dim / 2, dim * np.expm1(y)
        log_peak = special.gammaln(kappa + dim) - special.gammaln(kappa + half)
        at_zero = 0.5 * math.log(2) - log_peak / dim
        square = rho[1:, None] ** 2 / 2
        lower, upper = special.gammainc(half, square), special.gammaincc(half, square)
        # The smaller tail is matched, so that r is accurate far out.
        left = lower < 0.5
        a, b = np.where(left, half, half + kappa), np.where(left, half + kappa, half)
        tail = special.betaincinv(a, b, np.where(left, lower, upper))
        tail, rest = np.sqrt(tail), np.sqrt(1 - tail)
        radius = 2 * np.arctan2(np.where(left, tail, rest), np.where(left, rest, tail))
        # In high dimensions the tail underflows at small ρ: no noise is so short.
        regular = lower > 1e-280
        ratio = np.log(np.where(regular, radius, 1.0) / rho[1:, None])
        return np.vstack([at_zero, np.where(regular, ratio, at_zero)])

    return Table2(log_ratio, (0.0, reach), 60, (0.0, 20.0), 80, slope_above=-0.5)
