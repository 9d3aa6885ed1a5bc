r"""Homogeneous quotients: SO(3)/Γ and S³/Γ, with Γ acting by multiplication from one side.

Unit quaternions are a group, S³, and SO(3) = S³/±1 of radius 2. If every element of Γ acts by
x ↦ x g, multiplications from the left commute with Γ and take any point to any other: the kernel of
the quotient looks alike from everywhere, and its divergence K from the uniform law depends on the
time alone. Likewise with left and right exchanged; not if Γ needs both, as for lens spaces in
general. (Nor on Sᵈ/±1, whose K is that of ℝPᵈ.) K is computed on S³, Γ being taken with −1 for
SO(3), and its time s = t/4.

Notation: ψ ∈ [0, π] is the distance from 1 on S³, p(ψ) the kernel's density relative to the
uniform law, and

    f(x) = 1/|Γ| Σ_g p(ψ(x g)),    K = ∫ f log f dx,    ∫ dx = 1.                            (1)

**Early.** As f does not change under x ↦ x g, K = ∫ p log f:

    K = K_{S³} − log|Γ| + ∫ p(x) log(1 + Σ_{g ≠ 1} p(x g)/p(x)) dx.                          (2)

The integrand is smooth, and the last term of order e^{−δ²/8s}, δ the least ψ(g): nothing, before
the images of a point meet.

**Late.** f − 1 = Σ_n n e^{−(n²−1)s/2} 1/|Γ| Σ_g χ_n(x g) over those n > 1 whose representation of
dimension n, of character χ_n = sin nψ/sin ψ, has vectors that Γ fixes: without cancellation,
K = ∫ (1 + e) log(1 + e) − e with e = f − 1. In the end K ~ ½ n m_n e^{−(n²−1)s}, with n the least
of these and m_n = 1/|Γ| Σ_g χ_n(g).

Both integrals run over ψ and over directions, by Gauss' rule in ψ and in the height above the plane
that the axis of Γ of highest order k is perpendicular to, and by the trapezoid rule in the
longitude, of which, Γ acting by conjugation, one k-th suffices, and the upper hemisphere, as
ψ(x⁻¹g) = ψ(g⁻¹x).
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss

from manifold_ae.groups import rotations
from manifold_ae.heat.homogeneous import check_dimension
from manifold_ae.heat.kernel import Generic
from manifold_ae.heat.sphere_tables import divergence, divergence_table, x_log_x_excess
from manifold_ae.heat.tables import Table1
from manifold_ae.manifolds import SO3, Manifold, Quotient, Sphere
from manifold_ae.numerics import built_once

__all__ = ["divergence_of", "one_sided", "quotient_table"]

#: The images of a point have not met while δ²/8s is above this: e^{-APART} is lost beside one.
APART = 30.0
#: (2) is used until K falls to this, and not past LATEST, where p takes more images.
SWITCH, LATEST = 0.1, 0.11
#: Matrices whose entries differ by less are the same.
TOLERANCE = 1e-6
#: As close to 0 and π as characters are evaluated: nearer they are constant to rounding.
POLE = 1e-7
#: Terms of the late series below this are left out.
NEGLIGIBLE = 1e-17
#: Standard deviations of p that count.
REACH = 8.0
#: Nodes in ψ, in height, and in all of the longitude.
RADII, HEIGHTS, LONGITUDES = 56, 24, 96


def _directions(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (m, 3) and weights (m,) of a mean over them, for functions that Γ does not turn.

    ``group`` holds unit quaternions (order, 4).
    """
    vectors = group[1:, 1:]
    lengths = np.linalg.norm(vectors, axis=1)
    axes = vectors[lengths > 1e-6] / lengths[lengths > 1e-6, None]
    centre = 1 + len(vectors) - len(axes)  # 1, and −1 where it is in Γ
    if len(axes) == 0:
        return np.array([[0.0, 0.0, 1.0]]), np.ones(1)
    along = (np.abs(np.abs(axes @ axes.T) - 1) < 1e-6).sum(1)
    axis, order = axes[along.argmax()], (along.max() + centre) // centre
    turns = 1 if along.max() == len(axes) else max(4, math.ceil(LONGITUDES / order))
    frame = np.linalg.svd(axis[None])[2]  # the axis, and two directions perpendicular to it
    height, weight = leggauss(2 * HEIGHTS)
    height, weight = height[HEIGHTS:], weight[HEIGHTS:]
    longitude = 2 * np.pi / order * (np.arange(turns) + 0.5) / turns
    across = np.cos(longitude)[:, None] * frame[1] + np.sin(longitude)[:, None] * frame[2]
    sine = np.sqrt(1 - height**2)
    u = height[:, None, None] * frame[0] + sine[:, None, None] * across
    return u.reshape(-1, 3), np.repeat(weight / turns, turns)


def _angles(g: np.ndarray, psi: np.ndarray, u: np.ndarray) -> np.ndarray:
    """ψ(x g) of shape (radii, directions), for x = cos ψ + sin ψ u and one g."""
    cosine = g[0] * np.cos(psi)[:, None] - np.sin(psi)[:, None] * (u @ g[1:])
    return np.arccos(np.clip(cosine, -1, 1))


def _amplitude(psi: np.ndarray, s: float) -> np.ndarray:
    """p e^{ψ²/2s} up to a constant, from two geodesics: enough for s ≤ LATEST."""
    rest = np.maximum(np.pi - psi, 1e-9)
    return -((np.pi + rest) * np.expm1(-2 * np.pi / s * rest) + 2 * rest) / np.sin(rest)


def _overlap(group: np.ndarray, s: float, u: np.ndarray, weight: np.ndarray) -> float:
    """The last term of (2)."""
    reach = min(np.pi, REACH * math.sqrt(s))
    near = group[np.arccos(np.clip(group[:, 0], -1, 1)) < 2 * reach][1:]
    nodes, radial = leggauss(RADII)
    psi = reach * (nodes + 1) / 2
    own, exponent = _amplitude(psi, s), psi**2 / (2 * s)
    ratios = np.zeros((len(psi), len(u)))
    for g in near:  # one at a time: what fits into the cache is twice as fast
        angle = _angles(g, psi, u)
        ratios += np.exp(exponent[:, None] - angle**2 / (2 * s)) * _amplitude(angle, s)
    ratios /= own[:, None]
    constant = 2 * np.pi**2 * (2 * np.pi * s) ** -1.5 * math.exp(s / 2)
    density = constant * own * np.exp(-exponent) * 2 / np.pi * np.sin(psi) ** 2
    return float(reach / 2 * (radial * density) @ (np.log1p(ratios) @ weight))


class _Late:
    """K by the second formula, for times from ``first`` on."""

    def __init__(self, group: np.ndarray, first: float, u: np.ndarray, weight: np.ndarray) -> None:
        last = math.ceil(math.sqrt(1 - 2 * math.log(NEGLIGIBLE) / first)) + 3
        fixed = [n for n in range(2, last) if _multiplicity(group, n)]
        self.n = np.array(fixed or [_least(group)], dtype=float)
        nodes, radial = leggauss(RADII)
        # Where −1 ∈ Γ, f(−x) = f(x).
        top = np.pi / 2 if group[1:, 0].min() < TOLERANCE - 1 else np.pi
        psi = top * (nodes + 1) / 2
        # Of 2/π sin²ψ dψ, and twice on half of the range.
        self.weight = (radial * np.sin(psi) ** 2)[:, None] * weight
        self.zonal = np.zeros((len(self.n), len(psi), len(u)))
        for g in group:
            angle = np.clip(_angles(g, psi, u), POLE, np.pi - POLE)
            sine = len(group) * np.sin(angle)
            for zonal, n in zip(self.zonal, self.n, strict=True):
                zonal += np.sin(n * angle) / sine

    def __call__(self, s: float) -> float:
        size = self.n * np.exp(-(self.n**2 - 1) * s / 2)
        return float((self.weight * x_log_x_excess(np.tensordot(size, self.zonal, 1))).sum())


def _multiplicity(group: np.ndarray, n: int) -> int:
    """m_n, how many dimensions of vectors Γ fixes in the representation of dimension n."""
    return round(_character(n, np.arccos(np.clip(group[:, 0], -1, 1))).mean())


def _least(group: np.ndarray) -> int:
    """The least n > 1 with m_n > 0."""
    return next(n for n in itertools.count(2) if _multiplicity(group, n))


def _character(n: float, psi: np.ndarray) -> np.ndarray:
    """sin nψ/sin ψ."""
    psi = np.clip(psi, POLE, np.pi - POLE)
    return np.sin(n * psi) / np.sin(psi)


def divergence_of(group: np.ndarray, s: np.ndarray) -> np.ndarray:
    """K of S³/Γ for ascending times s of shape (n,); Γ as unit quaternions (order, 4), 1 first."""
    u, weight = _directions(group)
    meet = math.acos(np.clip(group[1:, 0].max(), -1, 1)) ** 2 / (8 * APART)
    result = divergence(3, s) - math.log(len(group))
    late: _Late | None = None
    for k in np.flatnonzero(s > meet):
        if late is None and s[k] <= LATEST:
            result[k] += _overlap(group, s[k], u, weight)
            if result[k] > SWITCH:
                continue
        late = _Late(group, s[k], u, weight) if late is None else late
        result[k] = late(s[k])
    return result


# ---- which quotients ------------------------------------------------------------------------


def _multipliers(
    matrices: np.ndarray, one: np.ndarray, *sides: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray | None:
    """What 1 is taken to, (order, n), if one of the sides makes all the matrices of that."""
    g = matrices @ one.ravel()
    for side in sides:
        if np.abs(np.stack([side(each) for each in g]) - matrices).max() < TOLERANCE:
            return g
    return None


@Generic
def one_sided(manifold: Manifold, matrices: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Γ as unit quaternions (order, 4), 1 first, and s/t; None where it is not of one side.

    Args:
        manifold: the cover.
        matrices: the elements of Γ on its flattened points, (order, n, n), 1 first.
    """
    return None


@one_sided.register
def _(manifold: SO3, matrices: np.ndarray) -> tuple[np.ndarray, float] | None:
    eye = np.eye(3)
    g = _multipliers(
        matrices,
        eye,
        lambda g: np.kron(eye, g.reshape(3, 3).T),
        lambda g: np.kron(g.reshape(3, 3), eye),
    )
    if g is None:
        return None
    q = rotations.to_quaternion(torch.from_numpy(g.reshape(-1, 3, 3))).numpy()
    return np.concatenate([q, -q]), 1 / 4


@one_sided.register
def _(manifold: Sphere, matrices: np.ndarray) -> tuple[np.ndarray, float] | None:
    if manifold.dim != 3:
        return None

    def left(g: np.ndarray) -> np.ndarray:
        """The matrix of x ↦ g x."""
        a, b, c, d = g
        return np.array([[a, -b, -c, -d], [b, a, -d, c], [c, d, a, -b], [d, -c, b, a]])

    conjugate = np.diag([1.0, -1.0, -1.0, -1.0])
    # x g is the conjugate of the product of the conjugates, in reverse order.
    g = _multipliers(
        matrices,
        conjugate[0],
        left,
        lambda g: conjugate @ left(conjugate @ g) @ conjugate,
    )
    return None if g is None else (g, 1.0)


@built_once
def quotient_table(manifold: Quotient) -> tuple[Table1, float] | None:
    """log(e^K − 1) over log s, and s/t; None where K may depend on more than the time."""
    if manifold.matrices is None:
        return None
    cover = manifold.cover
    if isinstance(cover, Sphere) and manifold.order == 2:  # only x ↦ −x acts freely
        return divergence_table(check_dimension(manifold, manifold.dim), True), 1.0
    found = one_sided(manifold.cover, manifold.matrices)
    if found is None:
        return None
    group, scale = found
    content = np.unique(group.round(9) + 0.0, axis=0)[::-1]  # in one order, without −0; 1 first
    return _table(content.tobytes()), scale


@built_once
def _table(content: bytes) -> Table1:
    """log(e^K − 1) over log s, for a group of unit quaternions."""
    group = np.frombuffer(content).reshape(-1, 4)

    def inverse_softplus(u: np.ndarray) -> np.ndarray:
        k = divergence_of(group, np.exp(u))
        return k + np.log(-np.expm1(-k))

    # As in ``divergence_table``: K ends like e^{−(n² − 1)s}.
    decay = _least(group) ** 2 - 1
    longest = min(1e2, 600 / decay)
    low, high = math.log(1e-15), math.log(longest)
    slopes = {"slope_below": -1.5, "slope_above": -decay * longest}
    return Table1(inverse_softplus, low, high, 250, **slopes)
