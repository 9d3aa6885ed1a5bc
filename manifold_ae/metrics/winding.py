"""Loops: what a map does to the first homology of manifolds.

Every loop of the data goes to a loop of the latents; how often that winds around each loop of the
latent manifold is an integer, or, where running twice around can be undone, as for turns of
SO(3), an integer modulo two. On a torus these are all there is to know of a map up to deformation.
"""

import math
from collections.abc import Callable
from functools import singledispatch

import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.manifolds import (
    SO3,
    EmbeddedTorus,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    RealProjective,
    Sphere,
)

__all__ = ["degree_from_loops", "induced_matrix", "loops", "winding_matrix", "windings"]


@torch.no_grad()
def winding_matrix(
    encode: Callable[[Tensor], Tensor], manifold: FlatTorus, factors: int, *, points: int = 256
) -> Tensor:
    """How often each latent angle turns while each angle of the data turns once.

    Arguments:
        encode: from data angles ``(n, factors)`` in radians to points ``(n, 2d)`` of the torus.
        points: steps around each loop; too few would cut across the latent circle.

    Returns:
        Integers W of shape ``(d, factors)``. An encoder that is a homeomorphism of the torus has
        determinant ±1.

    Raises:
        ValueError: if a latent angle jumps by more than a quarter turn between neighbours, so that
            its winding cannot be told.
    """
    start = torch.zeros(points + 1, factors)
    columns = []
    for k in range(factors):
        loop = start.clone()
        loop[:, k] = torch.linspace(0, 2 * math.pi, points + 1)
        columns.append(windings(manifold, encode(loop), k)[0])
    return torch.tensor(columns, dtype=torch.int64).reshape(factors, manifold.dim).T


@torch.no_grad()
def induced_matrix(
    f: Callable[[Tensor], Tensor], source: Manifold, target: Manifold, *, points: int = 256
) -> tuple[Tensor, tuple[int, ...]]:
    """The map of first homology, by following the images of the loops of the source.

    Arguments:
        f: from points ``(n, *source.ambient_shape)`` to points ``(n, *target.ambient_shape)``.
        points: steps around each loop.

    Returns:
        Integers of shape ``(rows, loops of the source)``, and the order of each row's class: 0
        where it counts in ℤ, 2 where it counts modulo two.

    Raises:
        ValueError: if the image of a loop jumps, so that its winding cannot be told.
        NotImplementedError: if the loops of one of the manifolds are not known.
    """
    turns = torch.linspace(0, 1, points + 1, dtype=torch.float64)
    still = target.base_point(dtype=torch.float64).expand(2, *target.ambient_shape)
    orders = windings(target, still)[1]
    columns: list[list[int]] = []
    for k, loop in enumerate(loops(source)):
        columns.append(windings(target, f(loop(turns)), k)[0])
    return torch.tensor(columns, dtype=torch.int64).reshape(len(columns), len(orders)).T, orders


def degree_from_loops(M: Manifold, matrix: Tensor) -> tuple[int, int] | None:
    """The degree of a map M → M that its matrix on loops decides, and the modulus it is known to.

    The determinant on tori, by the products of the loops' dual classes; modulo two the same ring
    decides on projective spaces, SO(3) and the Klein bottle. None where loops do not decide.
    """
    return _top_degree(M, matrix)


# ---- loops ----------------------------------------------------------------------------------


@singledispatch
def loops(M: Manifold) -> list[Callable[[Tensor], Tensor]]:
    """Closed paths, from turns t ``(n,)`` in [0, 1], whose classes generate H₁(M, ℤ).

    Raises:
        NotImplementedError: where they are not known.
    """
    raise NotImplementedError(f"the loops of {M!r} are not known: metrics.degree needs none")


@loops.register
def _(M: FlatTorus) -> list[Callable[[Tensor], Tensor]]:
    return [
        lambda t, k=k: M.from_angles(2 * math.pi * t[:, None] * torch.eye(M.dim).to(t)[k])
        for k in range(M.dim)
    ]


@loops.register
def _(M: EmbeddedTorus) -> list[Callable[[Tensor], Tensor]]:
    return [
        lambda t, k=k: M.from_angles(2 * math.pi * t[:, None] * torch.eye(2).to(t)[k])
        for k in range(2)
    ]


def _arc(M: Manifold, t: Tensor, angle: float) -> Tensor:
    """Along a great circle, from the base point."""
    start = M.base_point(dtype=t.dtype, device=t.device)
    side = torch.roll(start, 1)
    return torch.cos(angle * t)[:, None] * start + torch.sin(angle * t)[:, None] * side


@loops.register
def _(M: Sphere) -> list[Callable[[Tensor], Tensor]]:
    return [lambda t: _arc(M, t, 2 * math.pi)] if M.dim == 1 else []


@loops.register
def _(M: RealProjective) -> list[Callable[[Tensor], Tensor]]:
    """Half a great circle, which ends at the same line."""
    return [lambda t: _arc(M, t, math.pi)]


@loops.register
def _(M: SO3) -> list[Callable[[Tensor], Tensor]]:
    """A full turn about an axis."""
    axis = torch.tensor([0.0, 0.0, 2 * math.pi])
    return [lambda t: rotations.exp(t[:, None] * axis.to(t))]


@loops.register
def _(M: KleinBottle) -> list[Callable[[Tensor], Tensor]]:
    """The glide, θ from 0 to π; and φ once around, which, run twice, can be undone."""
    angles = torch.tensor([[math.pi, 0.0], [0.0, 2 * math.pi]])
    return [lambda t, a=a: M.from_angles(t[:, None] * a.to(t)) for a in angles]


@loops.register
def _(M: Product) -> list[Callable[[Tensor], Tensor]]:
    found = []
    for k, factor in enumerate(M.factors):
        for loop in loops(factor):

            def path(t: Tensor, k: int = k, loop: Callable[[Tensor], Tensor] = loop) -> Tensor:
                still = [N.base_point(dtype=t.dtype, device=t.device) for N in M.factors]
                return M.join(loop(t) if j == k else part for j, part in enumerate(still))

            found.append(path)
    return found


# ---- windings -------------------------------------------------------------------------------


@singledispatch
def windings(M: Manifold, path: Tensor, k: int = 0) -> tuple[list[int], tuple[int, ...]]:
    """The class in H₁(M, ℤ) of a closed path, and the orders of its entries, 0 for ℤ.

    Arguments:
        path: points ``(n, *ambient_shape)``, the last equal to the first.
        k: what the path is called where it is refused.

    Raises:
        ValueError: if neighbours are too far apart to tell how the path goes on, or it is open.
        NotImplementedError: where H₁ is not known.
    """
    raise NotImplementedError(f"the loops of {M!r} are not known: metrics.degree needs none")


def _turns(steps: Tensor, k: int) -> list[int]:
    """Whole turns of angles that change by these steps ``(n, d)``."""
    largest = steps.abs().max().item()
    if largest > math.pi / 2:
        raise ValueError(
            f"a latent angle jumps by {largest:.3g} rad between neighbours on loop {k}: "
            f"the encoder is discontinuous there, or {len(steps)} points are too few"
        )
    turned = steps.sum(0) / (2 * math.pi)
    if (turned - turned.round()).abs().max().item() > 0.25:
        raise ValueError(f"the image of loop {k} is open: it ends {turned.tolist()} turns on")
    return [int(n) for n in turned.round()]


def _wrapped(angles: Tensor) -> Tensor:
    """Steps of angles, in (−π, π]."""
    steps = angles.diff(dim=0)
    return torch.atan2(steps.sin(), steps.cos())


@windings.register
def _(M: FlatTorus, path: Tensor, k: int = 0) -> tuple[list[int], tuple[int, ...]]:
    return _turns(M.signed_angles(path[:-1], path[1:]), k), (0,) * M.dim


@windings.register
def _(M: EmbeddedTorus, path: Tensor, k: int = 0) -> tuple[list[int], tuple[int, ...]]:
    return _turns(_wrapped(M.to_angles(path)), k), (0, 0)


@windings.register
def _(M: Sphere, path: Tensor, k: int = 0) -> tuple[list[int], tuple[int, ...]]:
    if M.dim > 1:
        return [], ()
    return _turns(_wrapped(M.to_angles(path)), k), (0,)


@windings.register
def _(M: RealProjective, path: Tensor, k: int = 0) -> tuple[list[int], tuple[int, ...]]:
    """Whether a vector that follows the line comes back as its negative."""
    if M.dim == 1:
        return _turns(_wrapped(2 * Sphere(1).to_angles(path)), k), (0,)
    return [_sheet(path, k)], (2,)


@windings.register
def _(M: SO3, path: Tensor, k: int = 0) -> tuple[list[int], tuple[int, ...]]:
    """Whether a quaternion that follows the rotation comes back as its negative."""
    return [_sheet(rotations.to_quaternion(path), k)], (2,)


def _sheet(vectors: Tensor, k: int) -> int:
    """0 if vectors up to sign close up when followed continuously, 1 if with the sign changed."""
    cosines = (vectors[:-1] * vectors[1:]).sum(-1)
    if cosines.abs().min().item() < math.cos(math.pi / 4):
        raise ValueError(
            f"the image of loop {k} jumps by {math.acos(cosines.abs().min().item()):.3g} rad "
            f"between neighbours: the encoder is discontinuous there, or {len(cosines)} points are "
            "too few"
        )
    closes = (vectors[0] * vectors[-1]).sum().sign() * cosines.sign().prod()
    return int(closes.item() < 0)


@windings.register
def _(M: KleinBottle, path: Tensor, k: int = 0) -> tuple[list[int], tuple[int, ...]]:
    """Half turns of θ; and modulo two the turns of φ, upstairs."""
    torus = FlatTorus(2)
    # The sheet of a point is that of the one before, or the other one.
    crossed = M.nearest_index(path[:-1], path[1:]).cumsum(0) % 2
    sheets = torch.cat([crossed.new_zeros(1), crossed])
    upstairs = torch.where(sheets[:, None] == 1, M.images(path)[1], path)
    steps = torus.signed_angles(upstairs[:-1], upstairs[1:])
    largest = steps.abs().max().item()
    if largest > math.pi / 4:
        raise ValueError(
            f"a latent angle jumps by {largest:.3g} rad between neighbours on loop {k}: "
            f"the encoder is discontinuous there, or {len(steps)} points are too few"
        )
    glide, reflected = (steps.sum(0)).tolist()
    half_turns = round(glide / math.pi)
    # The end lies at (−1)ᵏ φ + 2πm over a start at φ.
    start = torus.to_angles(path[0])[1].item()
    end = start + reflected
    turns = round((end - start * (-1) ** half_turns) / (2 * math.pi))
    return [half_turns, turns % 2], (0, 2)


@windings.register
def _(M: Product, path: Tensor, k: int = 0) -> tuple[list[int], tuple[int, ...]]:
    counts: list[int] = []
    orders: tuple[int, ...] = ()
    for factor, part in zip(M.factors, M.split(path), strict=True):
        more, their = windings(factor, part, k)
        counts, orders = counts + more, orders + their
    return counts, orders


# ---- what loops say of the degree -------------------------------------------------------------


@singledispatch
def _top_degree(M: Manifold, matrix: Tensor) -> tuple[int, int] | None:
    return None


@_top_degree.register(FlatTorus)
@_top_degree.register(EmbeddedTorus)
def _(M: Manifold, matrix: Tensor) -> tuple[int, int]:
    return round(torch.linalg.det(matrix.double()).item()), 0


@_top_degree.register
def _(M: Sphere, matrix: Tensor) -> tuple[int, int] | None:
    return (int(matrix.item()), 0) if M.dim == 1 else None


@_top_degree.register(SO3)
@_top_degree.register(RealProjective)
def _(M: Manifold, matrix: Tensor) -> tuple[int, int]:
    """wᵈ generates the top class, and goes to (matrix · w)ᵈ."""
    return (int(matrix.item()), 0) if M.dim == 1 else (int(matrix.item()) % 2, 2)


@_top_degree.register
def _(M: KleinBottle, matrix: Tensor) -> tuple[int, int]:
    """αβ = β² = 1, α² = 0, for the classes dual to the glide and to the turn."""
    cup = torch.tensor([[0, 1], [1, 1]])
    return int(matrix[0] @ cup @ matrix[1]) % 2, 2
