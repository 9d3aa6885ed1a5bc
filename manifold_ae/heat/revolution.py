r"""Heat kernel of a closed surface of revolution, and of the embedded torus above all.

With s the arclength along the profile, ρ(s) its distance from the axis and θ the rotation, the
generator ½Δ separates. For a function e^{imθ} f(s) it is −H_m, and with g = √ρ f

    H_m g = ½ Wᵀ W g + m²/(2ρ²) g,     W g = √ρ (g/√ρ)'.                                     (1)

On a periodic grid with an odd number of points the derivative is Fourier's, antisymmetric and
exact for all that the grid resolves; each H_m is a symmetric matrix, whose eigenpairs λ, ψ (with
∫ψ²ρ ds = 1) converge faster than any power of the spacing. Then

    q(t; x, y) = (1/2π) Σ_m e^{im(θ − θ')} Σ_j e^{−λ_mj t} ψ_mj(s) ψ_mj(s'),                     (2)

with the eigenfunctions interpolated by their Fourier series. From the crossover time on, (2) is
right to 1e-14 of its peak 1/2πt. Below it, with r the distance and J the determinant of the
exponential map (``manifolds.torus_geodesics``), Minakshisundaram and Pleijel's expansion

    log q = −r²/2t − log 2πt − ½ log J + g(t; x, y),     g = a₁t + a₂t² + …,                 (3)

takes over; its remainder g is what (2) gives at four times from the crossover on, continued to
zero, for points at which these are to be had. So log q is right to 1e-6 wherever it is at most
RELIABLE nats below its peak, at its time or at the crossover, whichever is later.

Further out (2) has no digits left, and g is left out. The value has the right exponent and
leading factor but no more: it is that of one shortest geodesic, and on the cut locus, where there
are several, lacks log 2 or more. Against a product of sixteen short-time kernels, whose terms are
all positive, it is at t = 0.4 between 1.4 nats too low and 0.05 too high, 5 % of log q at most.

**Divergence.** K(φ, t) = KL(q ‖ uniform) is integrated from (2) by the trapezoid rule, which is
spectrally accurate here, and continued to t = 0 by

    −log 2πt − 1 + log V + Sc(φ) t/4 + c₂(φ) t² + c₃(φ) t³ + …;                                (4)

as on spheres, log(e^K − 1) is tabulated, over (cos φ, log t): an even function of the tube angle
is a smooth one of its cosine.

References:
    S. Minakshisundaram, Å. Pleijel, *Some properties of the eigenfunctions of the Laplace-operator
    on Riemannian manifolds*, Canad. J. Math. 1 (1949), 242–256, for (3).
    L. N. Trefethen, *Spectral Methods in MATLAB* (2000), chapter 3, for the matrix of (1).
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from manifold_ae.heat.kernel import kl_uniform, log_kernel
from manifold_ae.heat.tables import Table2
from manifold_ae.manifolds import EmbeddedTorus
from manifold_ae.manifolds.torus_geodesics import follow
from manifold_ae.numerics import Fused, built_once, refuse_second_derivatives

__all__ = ["Spectrum", "crossover", "divergence", "spectrum"]

#: Exponents λt past which modes are left out: e^{−40} is 4e-18.
CUT = 40.0
#: Nats below the peak down to which the spectral sum has the digits for a logarithm.
RELIABLE = 17.0
#: Times, in units of the crossover, from which the remainder of (3) is continued to zero.
CONTINUED = (1.0, 1.4, 1.8, 2.2)
#: Samples for which the modes are summed at once.
CHUNK = 512
#: Ratios of the radii: fatter tori curve too much, and the number of modes grows with the ratio.
MIN_ASPECT, MAX_ASPECT = 1.5, 50.0


class Spectrum:
    """Modes of (1) with λ ≤ some bound, for a closed profile ρ(s) of the given length.

    Attributes:
        frequency: m of every mode, of shape ``(p,)``; a mode with m > 0 counts for ±m.
        rate: λ, of shape ``(p,)``.
        series: Fourier coefficients of ψ over 1, cos ks, sin ks, …, of shape ``(p, 2n + 1)``.
    """

    def __init__(
        self, profile: Callable[[np.ndarray], np.ndarray], length: float, bound: float
    ) -> None:
        scale = length / (2 * math.pi)
        # Harmonics that reach the bound, and as many again as ρ's own variation mixes in.
        harmonics = math.ceil(1.4 * scale * math.sqrt(2 * bound) + 14)
        n = 2 * harmonics + 1
        angle = 2 * np.pi * np.arange(n) / n
        rho = profile(scale * angle)
        gap = angle[:, None] - angle
        off = ~np.eye(n, dtype=bool)
        derivative = np.zeros((n, n))
        sign = (-1.0) ** (np.arange(n)[:, None] - np.arange(n))
        derivative[off] = (sign / 2)[off] / np.sin(gap[off] / 2) / scale
        root = np.sqrt(rho)
        flow = root[:, None] * derivative / root
        kinetic = flow.T @ flow / 2
        largest = math.ceil(float(rho.max()) * math.sqrt(2 * bound))
        potential = 1 / (2 * rho**2)
        k = np.arange(1, harmonics + 1)
        waves = np.concatenate(
            [np.ones((1, n)), np.cos(k[:, None] * angle), np.sin(k[:, None] * angle)]
        )
        weights = np.full(n, 2 / n)
        weights[0] = 1 / n
        frequency, rate, series = [], [], []
        for m in range(largest + 1):
            values, vectors = np.linalg.eigh(kinetic + np.diag(m * m * potential))
            kept = values <= bound
            psi = vectors[:, kept].T / (root * math.sqrt(length / n))
            if m == 0:
                values[0] = 0.0  # the constant, of which rounding leaves 1e-13
            frequency.append(np.full(kept.sum(), m))
            rate.append(values[kept])
            series.append(psi @ waves.T * weights)
        self.frequency = np.concatenate(frequency)
        self.rate = np.concatenate(rate)
        self.series = np.concatenate(series)
        self._copies: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def values(self, angle: np.ndarray) -> np.ndarray:
        """ψ at places 2πs/length, of shape ``(*, p)``."""
        k = np.arange(1, self.series.shape[1] // 2 + 1)
        turns = np.asarray(angle)[..., None] * k
        waves = np.concatenate([np.ones_like(turns[..., :1]), np.cos(turns), np.sin(turns)], -1)
        return waves @ self.series.T

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
            modes = _waves(a, basis) * _waves(b, basis) * torch.exp(-decay * s.unsqueeze(-1))
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


def _waves(angle: Tensor, series: Tensor) -> Tensor:
    """Fourier series (p, 2k + 1) at angles (n), of shape (n, p)."""
    k = torch.arange(1, series.shape[-1] // 2 + 1, dtype=angle.dtype, device=angle.device)
    turns = angle.unsqueeze(-1) * k
    waves = torch.cat([torch.ones_like(turns[..., :1]), torch.cos(turns), torch.sin(turns)], -1)
    return waves @ series.T


# ---- the embedded torus -----------------------------------------------------------------------


def crossover(manifold: EmbeddedTorus) -> float:
    """Time at which the spectral sum takes over from the expansion: 0.05 for radii 3 and 0.6.

    It is set by the largest curvature, 1/(c (a − c)), and by the way round the tube.
    """
    major, minor = manifold.major_radius, manifold.minor_radius
    return 0.05 * min((minor / 0.6) ** 2, minor * (major - minor) / 1.44)


@built_once
def spectrum(major: float, minor: float) -> Spectrum:
    """Modes for times from the crossover on; built on first use."""
    manifold = EmbeddedTorus(major, minor)
    if not MIN_ASPECT <= major / minor <= MAX_ASPECT:
        raise NotImplementedError(
            f"{manifold!r}: the heat kernel is computed for radii of ratio {MIN_ASPECT:g} to "
            f"{MAX_ASPECT:g}; distributions.RandomWalk samples it approximately, and "
            "heat.kl_asymptotic gives the divergence for short times"
        )
    return Spectrum(
        lambda s: major + minor * np.cos(s / minor),
        2 * math.pi * minor,
        CUT / crossover(manifold),
    )


@log_kernel.register
def _(manifold: EmbeddedTorus, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """By (2) and (3); see the module's docstring for what holds where."""
    batched = torch._C._functorch.is_batchedtensor  # pyright: ignore[reportAttributeAccessIssue]
    if any(batched(v) for v in (x, y, t)):
        raise NotImplementedError(
            f"{manifold!r}: the heat kernel chooses its formula by the values of its arguments, "
            "which torch.func.vmap hides; call it on the whole batch"
        )
    dtype = x.dtype
    x, y = torch.broadcast_tensors(x.double(), y.double())
    t = t.double()
    shape = torch.broadcast_shapes(x.shape[:-1], t.shape)
    x, y = (v.expand(*shape, 3).reshape(-1, 3) for v in (x, y))
    t = t.expand(shape).reshape(-1)
    start = crossover(manifold)
    modes = spectrum(manifold.major_radius, manifold.minor_radius)
    late = t >= start
    result = torch.zeros_like(t)
    if late.any():
        q = modes.density(*_angles(manifold, x[late], y[late]), t[late])
        # Where the sum has lost its digits, the expansion takes over.
        lost = ~(q.detach() * (2 * math.pi * t[late].detach()) > math.exp(-RELIABLE))
        result = result.index_put((late,), torch.log(torch.where(lost, 1.0, q)))
        early = (~late).index_put((late,), lost)
    else:
        early = ~late
    if early.any():
        value = _expansion(manifold, x[early], y[early], t[early])
        result = result.index_put((early,), value)
    return result.reshape(shape).to(dtype)


def _angles(manifold: EmbeddedTorus, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Tube angles of both, and the rotation from one to the other, in (−π, π]."""
    dot = (x[..., :2] * y[..., :2]).sum(-1)
    cross = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
    return manifold.tube_angle(x), manifold.tube_angle(y), torch.atan2(cross, dot)


def _expansion(manifold: EmbeddedTorus, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """log q by (3), all of one batch axis."""
    tube, other, turn = _angles(manifold, x, y)
    velocity = manifold.velocities(x, y)[..., :2]
    path = follow(
        manifold.major_radius, manifold.minor_radius, tube, velocity[..., 0], velocity[..., 1]
    )
    square = velocity.square().sum(-1)
    # Zero at conjugate points, where the shortest geodesic may end but does not go beyond.
    leading = -0.5 * torch.log(path.first.clamp_min(1e-4))
    start = crossover(manifold)
    near = (t < start) & (square.detach() < 2 * RELIABLE * start)
    if near.any():
        remainder = _remainder(
            manifold, tube[near], other[near], turn[near], square[near], leading[near], t[near]
        )
        leading = leading.index_add(0, near.nonzero().squeeze(-1), remainder)
    return leading - square / (2 * t) - torch.log(2 * math.pi * t)


def _remainder(
    manifold: EmbeddedTorus,
    tube: Tensor,
    other: Tensor,
    turn: Tensor,
    square: Tensor,
    leading: Tensor,
    t: Tensor,
) -> Tensor:
    """g(t) of (3): a polynomial through its values at four times, and through g(0) = 0."""
    modes = spectrum(manifold.major_radius, manifold.minor_radius)
    times = [crossover(manifold) * factor for factor in CONTINUED]
    total = torch.zeros_like(t)
    for k, time in enumerate(times):
        at = torch.full_like(t, time)
        q = modes.density(tube, other, turn, at)
        g = torch.log(q) + square / (2 * time) + math.log(2 * math.pi * time) - leading
        weight = t / time
        for j, node in enumerate(times):
            if j != k:
                weight = weight * (t - node) / (time - node)
        total = total + weight * g
    return total


# ---- divergence -------------------------------------------------------------------------------

#: Chebyshev points of cos φ from which K is interpolated.
PLACES = 16


def divergence(manifold: EmbeddedTorus, cosine: np.ndarray, t: float) -> np.ndarray:
    """KL to the uniform law from tube angles of the given cosines, for one t ≥ the crossover."""
    major, minor = manifold.major_radius, manifold.minor_radius
    modes = spectrum(major, minor)
    kept = (modes.rate * t <= max(CUT, 1.5 * modes.rate[1:].min() * t + CUT)) & (modes.rate > 0)
    m, rate = modes.frequency[kept], modes.rate[kept]
    lowest = rate.min()
    # The grid resolves the square of what the modes do; by symmetry half of the turn suffices.
    harmonics = math.ceil(minor * math.sqrt(2 * min(CUT / t, modes.rate.max())) + 6)
    tubes = 2 * math.pi * np.arange(3 * harmonics) / (3 * harmonics)
    orders = int(m.max())
    turns = math.pi * np.arange(3 * (orders + 6) // 2 + 1) / (3 * (orders + 6) // 2)
    here = modes.values(np.arccos(cosine))[:, kept]
    there = modes.values(tubes)[:, kept]
    # Scaled by the slowest decay, so that late times keep their digits.
    here = here * np.exp(-(rate - lowest) * t)
    parts = np.zeros((orders + 1, len(cosine), len(tubes)))
    for order in range(orders + 1):
        one = m == order
        parts[order] = here[:, one] @ there[:, one].T * (2.0 if order else 1.0)
    shape = np.einsum(
        "dm,mij->dij", np.cos(turns[:, None] * np.arange(orders + 1)), parts, optimize=True
    )
    excess = shape * (manifold.volume / (2 * math.pi) * math.exp(-lowest * t))
    along = np.full(len(turns), 1.0 / (len(turns) - 1))
    along[[0, -1]] /= 2
    across = (1 + minor / major * np.cos(tubes)) / len(tubes)
    return np.einsum("dij,d,j->i", _x_log_x_excess(excess), along, across, optimize=True)


def _x_log_x_excess(e: np.ndarray) -> np.ndarray:
    """(1 + e) log(1 + e) − e ≥ 0, without cancellation for small e; 1 below e = −1."""
    series = e * e * (1 / 2 - e * (1 / 6 - e * (1 / 12 - e * (1 / 20 - e / 30))))
    density = np.maximum(1 + e, 1e-300)
    return np.where(np.abs(e) < 1e-3, series, density * np.log(density) - e)


@built_once
def divergence_table(major: float, minor: float) -> Table2:
    """log(e^K − 1) over (cos φ, log t); see the module's docstring."""
    manifold = EmbeddedTorus(major, minor)
    start = crossover(manifold)
    rates = spectrum(major, minor).rate
    # K falls like e^{−2λt}: the table ends before that underflows.
    slowest = float(rates[rates > 0].min())
    longest = 300 / slowest
    places = np.cos(np.pi * (np.arange(PLACES) + 0.5) / PLACES)
    to_series = np.linalg.inv(chebyshev.chebvander(places, PLACES - 1))
    curvature = 2 * places / (minor * (major + minor * places))

    def short(t: np.ndarray | float) -> np.ndarray:
        t = np.asarray(t)[..., None]
        return -np.log(2 * np.pi * t) - 1 + math.log(manifold.volume) + curvature * t / 4

    # (K − the known terms of (4)) / t² as a polynomial, through its values at five times.
    times = start * np.array([1.0, 1.5, 2.0, 2.5, 3.0])
    rest = np.stack([(divergence(manifold, places, t) - short(t)) / t**2 for t in times])
    powers = np.linalg.solve(np.vander(times, increasing=True), rest)

    def values(cosine: np.ndarray, u: np.ndarray) -> np.ndarray:
        t = np.exp(u)
        columns = np.where(
            (t < start)[:, None],
            short(t) + t[:, None] ** 2 * (np.vander(t, len(times), increasing=True) @ powers),
            0.0,
        )
        for k in np.flatnonzero(t >= start):
            columns[k] = divergence(manifold, places, float(t[k]))
        inverse_softplus = columns + np.log(-np.expm1(-columns))
        return chebyshev.chebvander(cosine, PLACES - 1) @ (to_series @ inverse_softplus.T)

    # It begins where e^{−K} is lost beside one, and log(e^K − 1) is a straight line.
    times_range = (math.log(1e-15), math.log(longest))
    return Table2(
        values,
        (-1.0, 1.0),
        6,
        times_range,
        180,
        slope_below=-1.0,
        slope_above=-2 * slowest * longest,
    )


class _Divergence(Fused):
    """K(φ, t) = softplus(table(cos φ, log t))."""

    constants = 2

    @staticmethod
    def value(major: float, minor: float, cosine: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        table = divergence_table(major, minor)
        logit, along, slope = table.evaluate(cosine, t.log())
        return torch.nn.functional.softplus(logit), logit, along, slope

    @staticmethod
    def derivative(gradient: Tensor, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        refuse_second_derivatives()
        t, logit, along, slope = arguments[3:]
        by_logit = gradient * torch.sigmoid(logit)
        return by_logit * along, by_logit * slope / t


@kl_uniform.register
def _(manifold: EmbeddedTorus, x: Tensor, t: Tensor) -> Tensor:
    cosine, t = torch.broadcast_tensors(manifold.tube_cosine(x), t)
    return _Divergence.of(manifold.major_radius, manifold.minor_radius, cosine, t)
