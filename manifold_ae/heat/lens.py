r"""Lens spaces: S³ by a finite group of rotations of two perpendicular planes.

All rotations of the two planes commute with Γ, and take any two points to each other whose parts in
the first plane are of one length. So the divergence K from the uniform law is a function of the
time and of

    c = \|P x\|² ∈ [0, 1],    P the projection on the first plane,

in which it is smooth. It is computed by ``cubature`` at Chebyshev points of c and log t, once for a
group; with the points (√c, √(1 − c)) of ℂ², whose conjugation turns every g into its inverse and
halves the nodes. Invariant functions begin with c − ½ itself, of degree 2, so that K falls at least
like e^{−8t}; what is tabulated is e^{8t} K, as on the Klein bottle.

Accuracy, absolutely: that of ``cubature``, 5e-5. The table of L(5, 2) takes about four seconds
on one core, others in proportion to their order; a batch of 640 then takes a millisecond.
"""

import math

import numpy as np
import torch
from torch import Tensor

from manifold_ae.heat import sphere
from manifold_ae.heat.cubature import POINTS, from_densities, geodesic_rule, have_met
from manifold_ae.heat.kernel import kl_uniform
from manifold_ae.heat.tables import Table2
from manifold_ae.manifolds import Quotient, Sphere
from manifold_ae.numerics import built_once, with_slopes

__all__ = ["column", "first_plane", "lens_divergence"]

#: Matrices whose entries differ by less are the same.
TOLERANCE = 1e-6
#: K falls like e^{−DECAY t}.
DECAY = 8.0
#: From this time on e^{8t} K is constant to 1e-12.
LONG = 4.0
#: Cells in c; cells in log t from the first time at which images meet, and before it.
PLACES, TIMES = 3, 20


@built_once
def first_plane(manifold: Quotient) -> np.ndarray | None:
    """P, of shape (4, 4); None where the group does not rotate two planes of S³."""
    if manifold.cover != Sphere(3) or manifold.matrices is None:
        return None
    group = manifold.matrices
    # The antisymmetric parts of rotations of two planes, and so any sum of them, are rotations by
    # a right angle in each, times a number; its square tells the planes apart.
    weight = np.random.default_rng(0).standard_normal(len(group))
    turn = np.tensordot(weight, group - group.transpose(0, 2, 1), 1)
    values, vectors = np.linalg.eigh(turn @ turn)
    if values[2] - values[1] < TOLERANCE * abs(values[0]):
        return None
    plane = vectors[:, :2] @ vectors[:, :2].T
    if np.abs(plane @ group - group @ plane).max() > TOLERANCE:
        return None
    # Rotations, not reflections, of each: they commute with the sum.
    return plane if np.abs(turn @ group - group @ turn).max() < TOLERANCE else None


@built_once
def lens_table(manifold: Quotient) -> Table2:
    """e^{8t} K over (c, log t)."""
    plane = first_plane(manifold)
    assert plane is not None
    vectors = np.linalg.eigh(plane).eigenvectors
    across, along = (torch.from_numpy(vectors[:, k].copy()) for k in (0, -1))

    def scaled(c: np.ndarray, u: np.ndarray) -> np.ndarray:
        place = torch.from_numpy(np.clip(c, 0, 1)).unsqueeze(-1)
        x = place.sqrt() * along + (1 - place).sqrt() * across
        columns = [column(manifold, x, along, across, t) for t in torch.from_numpy(np.exp(u))]
        return torch.stack(columns, -1).numpy()

    cells = math.ceil(math.log(LONG / 1e-15) / (math.log(LONG / 5e-3) / TIMES))
    return Table2(
        scaled, (0.0, 1.0), PLACES, (math.log(1e-15), math.log(LONG)), cells, slope_below=-1.5
    )


def column(manifold: Quotient, x: Tensor, along: Tensor, across: Tensor, t: Tensor) -> Tensor:
    """e^{8t} K at points √c · along + √(1 − c) · across, (n, 4), at one time; of shape ``(n)``."""
    apart = (kl_uniform(manifold.cover, x[0], t) - math.log(manifold.order)).expand(len(x))
    if not have_met(manifold, t):
        return torch.exp(DECAY * t) * apart
    v, weight = (part[0] for part in geodesic_rule(3, t.unsqueeze(0), POINTS[3]))
    half = v[:, 0] > 0
    v, weight = v[half], weight[half] / weight[half].sum()
    images = manifold.images(x)
    # Tangent vectors that the conjugation of both planes changes the sign of, and the third.
    turned = torch.from_numpy(np.linalg.svd(torch.stack([along, across]).numpy())[2][2:].copy())
    radius = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    cosine, v = radius.cos(), v * (radius.sin() / radius)  # no node is at the middle
    flipped = v[:, :2] @ turned
    found = []
    for k, point in enumerate(x):
        third = (point @ along) * across - (point @ across) * along
        y = cosine * point + flipped + v[:, 2:] * third
        r = torch.acos((images[:, k] @ y.mT).clamp(-1, 1))
        early = t < sphere.CROSSOVER
        log_p = sphere.by_geodesics(r, t) if early else sphere.by_spectrum(3, r, t)
        found.append(from_densities(apart[:1], log_p.unsqueeze(1), weight[None]))
    return torch.exp(DECAY * t) * torch.cat(found)


def lens_divergence(manifold: Quotient, plane: np.ndarray, x: Tensor, t: Tensor) -> Tensor:
    """K of shape ``(*)``, differentiable once in x and t."""
    table = lens_table(manifold)
    projection = torch.tensor(plane, dtype=x.dtype, device=x.device)
    part = (projection * x.unsqueeze(-2)).sum(-1)
    c = part.square().sum(-1)

    def evaluate(c: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        value, along_c, along_log_time = table.evaluate(c, t.log())
        decay = torch.exp(-DECAY * t)
        return (
            decay * value.clamp_min(0),
            decay * along_c,
            decay * (along_log_time / t - DECAY * value),
        )

    shape = torch.broadcast_shapes(c.shape, t.shape)
    return with_slopes(evaluate, c.expand(shape), t.expand(shape))
