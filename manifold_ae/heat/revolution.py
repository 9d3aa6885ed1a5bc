r"""Heat kernel of a surface of revolution: the embedded torus, spheroids, any smooth profile.

From the crossover time on, the sum over the modes of ``revolution_modes`` is right to 1e-14 of its
peak 1/2πt. Below it, with r the distance and J the determinant of the exponential map,
Minakshisundaram and Pleijel's expansion

    log q = −r²/2t − log 2πt − ½ log J + g(t; x, y),     g = a₁t + a₂t² + …,                 (1)

takes over; its remainder g is what the sum gives at four times from the crossover on, continued to
zero, for points at which these are to be had. So log q is right to 1e-6 wherever it is at most
RELIABLE nats below its peak, at its time or at the crossover, whichever is later.

Further out the sum has no digits left. There g is the first coefficient as it would be if the
surface looked the same in all directions from x, and from y: by Riccati's equation for J̇/J

    g ≈ K̄t/8 + u/8,     u = (1 − J̇/J) t/r²,                                                   (2)

with K̄ the mean of Gauss' curvature along the way, run in unit time, and J̇ the mean of its values
for both directions. Where geodesics come together again u grows beyond all bounds, and

    −½ log J + u/8     becomes     ½ log(2π/uJ) + log(e^{−1/u} I₀(1/u)),                        (3)

which is the same to the first order, and at a point where they meet from all sides exact in t: at
the antipode of a sphere, at a pole of a spheroid seen from the other.

On the round sphere the tails are right to 0.04 t nats, and exactly at antipodes. Elsewhere the
value is that of one shortest geodesic, and lacks log 2 and more next to the cut locus, where there
are several. Against a product of eight to sixteen short-time kernels, whose terms are all positive,
from a point at α = 1: spheroid of ratio 1.5, t = 0.2, between 0.78 nats too low and 0.40 too high,
half of the points within 0.013; of ratio 0.6, t = 0.15, between 0.60 too low and 0.02, half within
0.1; embedded torus, t = 0.8, between 1.4 and 0.06 too low, half within 0.08: 5 % of log q at most.

References:
    S. Minakshisundaram, Å. Pleijel, *Some properties of the eigenfunctions of the Laplace-operator
    on Riemannian manifolds*, Canad. J. Math. 1 (1949), 242–256, for (1).
"""

import math

import torch
from torch import Tensor

from manifold_ae.heat.kernel import log_kernel
from manifold_ae.heat.revolution_modes import CUT, Spectrum
from manifold_ae.manifolds import Revolution
from manifold_ae.manifolds.revolution import Shortest
from manifold_ae.numerics import built_once, hidden_by_vmap

__all__ = ["Spectrum", "crossover", "spectrum"]

#: Nats below the peak down to which the spectral sum has the digits for a logarithm.
RELIABLE = 17.0
#: Times, in units of the crossover, from which the remainder of (1) is continued to zero.
CONTINUED = (1.0, 1.4, 1.8, 2.2)
#: Least u for (3): below, its logarithm is u/8 to rounding.
SPREADING = 1e-7
#: Modes that are kept at most; a neck is at least this wide, in radii of the profile's own circle.
MAX_MODES, NARROWEST = 46_000, 0.5


def crossover(manifold: Revolution) -> float:
    """Time at which the spectral sum takes over from the expansion.

    It is set by the largest curvature and by the shortest closed geodesic: 0.05 for the embedded
    torus of radii 3 and 0.6.
    """
    profile = manifold.profile
    return 0.05 * min(
        (profile.shortest_loop / (1.2 * math.pi)) ** 2, 1 / (1.44 * profile.largest_curvature)
    )


@built_once
def spectrum(manifold: Revolution) -> Spectrum:
    """Modes for times from the crossover on; built on first use."""
    profile = manifold.profile
    bound = CUT / crossover(manifold)
    modes = manifold.volume * bound / (4 * math.pi)  # Weyl's law; ±m count once
    neck = min(rho for _, rho in profile.necks) / profile.scale
    if modes > MAX_MODES or neck < NARROWEST:
        raise NotImplementedError(
            f"{manifold!r}: the heat kernel takes about {modes:.0f} modes, at most {MAX_MODES} are "
            f"computed, and a neck of {neck:.2g} times the profile's scale P/2π, of at least "
            f"{NARROWEST}; distributions.RandomWalk samples it approximately, and "
            "heat.kl_asymptotic gives the divergence for short times"
        )
    return Spectrum(profile.radius, profile.length, bound, profile.poles)


@log_kernel.register
def _(manifold: Revolution, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """By the modes and (1); see the module's docstring for what holds where."""
    if hidden_by_vmap(x, y, t):
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
    if not len(t):  # which no formula below is asked of; the derivatives are as empty
        return (x.sum(-1) + y.sum(-1) + t).reshape(shape).to(dtype)
    start = crossover(manifold)
    modes = spectrum(manifold)
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


def _angles(manifold: Revolution, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places α of both, and the rotation from one to the other, in (−π, π]."""
    dot = (x[..., :2] * y[..., :2]).sum(-1)
    cross = x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
    return manifold.place(x), manifold.place(y), torch.atan2(cross, dot)


def _expansion(manifold: Revolution, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """log q by (1) and (2), all of one batch axis."""
    place, other, turn = _angles(manifold, x, y)
    way = manifold.shortest(x, y)
    start, square = crossover(manifold), way.square
    near = (t < start) & (square.detach() < 2 * RELIABLE * start)
    factor = torch.zeros_like(t)
    if near.any():
        # Far from conjugate points, where J is zero.
        leading = -0.5 * torch.log(way.spread[near])
        remainder = _remainder(
            manifold, place[near], other[near], turn[near], square[near], leading, t[near]
        )
        factor = factor.index_put((near,), leading + remainder)
    far = ~near
    if far.any():
        factor = factor.index_put((far,), _far(Shortest(*(part[far] for part in way)), t[far]))
    return factor - square / (2 * t) - torch.log(2 * math.pi * t)


def _far(way: Shortest, t: Tensor) -> Tensor:
    """−½ log J + g by (2) and (3)."""
    spread = way.spread.clamp_min(0)
    # u J, which is positive where geodesics that were close come together again.
    meeting = t * (way.spread - way.turning) / way.square
    focused = meeting.detach() > SPREADING * spread.detach()
    narrow = torch.where(focused, meeting, 1.0)
    inverse = torch.where(focused, spread / narrow, 1.0)
    bessel = 0.5 * torch.log(2 * math.pi / narrow) + torch.log(torch.special.i0e(inverse))
    wide = torch.where(focused, 1.0, spread)
    plain = -0.5 * torch.log(wide) + torch.where(focused, 0.0, meeting) / (8 * wide)
    return torch.where(focused, bessel, plain) + way.gauss * t / 8


def _remainder(
    manifold: Revolution,
    place: Tensor,
    other: Tensor,
    turn: Tensor,
    square: Tensor,
    leading: Tensor,
    t: Tensor,
) -> Tensor:
    """g(t) of (1): a polynomial through its values at four times, and through g(0) = 0."""
    modes = spectrum(manifold)
    times = [crossover(manifold) * factor for factor in CONTINUED]
    total = torch.zeros_like(t)
    for k, time in enumerate(times):
        at = torch.full_like(t, time)
        q = modes.density(place, other, turn, at)
        g = torch.log(q) + square / (2 * time) + math.log(2 * math.pi * time) - leading
        weight = t / time
        for j, node in enumerate(times):
            if j != k:
                weight = weight * (t - node) / (time - node)
        total = total + weight * g
    return total
