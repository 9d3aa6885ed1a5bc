"""What a quotient checks of an action: that it is a group, isometric, and free.

Where there is no exact test, it is tried on random points; fixed points, which those do not find,
are looked for where they must be.
"""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds.base import Manifold
from manifold_ae.manifolds.product import Product

__all__ = ["check_distance", "check_free", "check_functions", "check_isometric", "find_inverses"]

#: Points that an action is tried on, for what has no exact test.
TRIALS = 256
#: An action that moves some point by less than this fixes a point.
FIXED = 1e-5
#: Lengths and points must be kept to this.
TOLERANCE = 1e-8
#: An error below this is taken for rounding.
ROUNDED = 1e-5
#: Matrices that are searched with at once.
AT_ONCE = 64
#: Steps against the gradient, in search of a point that a function fixes.
DESCENT = 200


class Action(Protocol):
    """What is checked of a ``Quotient``."""

    cover: Manifold
    order: int
    functions: tuple[Callable[[Tensor], Tensor], ...]

    @property
    def matrices(self) -> np.ndarray | None: ...
    @property
    def ambient_shape(self) -> tuple[int, ...]: ...
    def images(self, x: Tensor) -> Tensor: ...
    def push(self, x: Tensor, u: Tensor) -> Tensor: ...


def trials(action: Action) -> Tensor:
    """Random points, always the same."""
    generator = torch.Generator().manual_seed(0)
    return action.cover.random_uniform(TRIALS, generator=generator, dtype=torch.float64)


def check_distance(cover: Manifold) -> None:
    """Refuse a manifold without a distance, by which the nearest image is found."""
    x = cover.base_point(dtype=torch.float64)
    try:
        cover.dist(x, x)
    except NotImplementedError:
        raise ValueError(
            f"cover = {cover!r} has no geodesic distance, by which a quotient tells the nearest of "
            "a point's images: divide one of those that have, or give the quotient's own embedding "
            "to Submanifold"
        ) from None


def check_functions(action: Action) -> None:
    """Refuse functions that do not take points to points."""
    x = trials(action)
    for g, function in enumerate(action.functions, 1):
        moved = function(x)
        if not isinstance(moved, Tensor):
            raise ValueError(
                f"element {g} of the group returns {moved!r}: an action takes points, of shape "
                f"(*, {', '.join(map(str, action.ambient_shape))}), to points"
            )
        if (moved.shape, moved.dtype) != (x.shape, x.dtype):
            raise ValueError(
                f"element {g} of the group takes points of shape {tuple(x.shape)} and dtype "
                f"{x.dtype} to {tuple(moved.shape)} and {moved.dtype}; it has to keep both"
            )


def check_isometric(action: Action) -> None:
    """Refuse an action that leads off the manifold, changes lengths, or mixes factors."""
    x = trials(action)
    generator = torch.Generator().manual_seed(1)
    u = action.cover.proju(x, torch.randn(x.shape, generator=generator, dtype=x.dtype))
    moved = action.images(x)
    axes = tuple(range(-len(action.ambient_shape), 0))
    off = (moved - action.cover.projx(moved)).abs().amax(axes)
    refuse(action, ~(off <= TOLERANCE), x, "leads off the manifold, by", off)
    check_factors(action, x, u)
    # Lengths of all tangent vectors decide; those of random ones nearly surely.
    change = action.cover.inner(moved, action.push(x, u)) / action.cover.inner(x, u) - 1
    refuse(action, ~(change.abs() <= TOLERANCE), x, "is not an isometry: |u|² changes by", change)


def check_factors(action: Action, x: Tensor, u: Tensor) -> None:
    """On a product, each factor runs its own time: an action must not mix them."""
    if not isinstance(action.cover, Product):
        return
    parts = action.cover.split(u)
    for k in range(len(parts)):
        alone = action.cover.join(
            part if j == k else torch.zeros_like(part) for j, part in enumerate(parts)
        )
        pushed = action.cover.split(action.push(x, alone))
        others = [part.flatten(2).abs().amax(-1) for j, part in enumerate(pushed) if j != k]
        if others:
            mixed = torch.stack(others).amax(0)
            what = "mixes the factors of a product, each of which has a time of its own, by"
            refuse(action, ~(mixed <= TOLERANCE), x, what, mixed)


def refuse(action: Action, bad: Tensor, x: Tensor, what: str, amount: Tensor) -> None:
    if bad.any():
        g, k = (int(i) for i in bad.nonzero()[0])
        rounded = amount[g, k].abs().item() <= ROUNDED
        raise ValueError(
            f"element {g} of the group {what} {amount[g, k].item():.3g} at the point "
            f"{x[k].tolist()}"
            + (f"; actions are needed to {TOLERANCE:g}, so in float64" if rounded else "")
        )


def find_inverses(action: Action) -> Tensor:
    """The number of the inverse of every element; the products must be elements too."""
    if action.matrices is not None:  # generated: closed, and each once
        flat = action.matrices.reshape(action.order, -1)
        inverses = np.linalg.inv(action.matrices).reshape(action.order, -1)
        return torch.tensor([int(np.abs(flat - h).max(1).argmin()) for h in inverses])
    x = trials(action)[:8]
    images = action.images(x)
    inverses = []
    for g in range(action.order):
        same = (images[g] - images[:g]).flatten(1).abs().amax(-1) <= FIXED
        if same.any():
            raise ValueError(
                f"elements {int(same.int().argmax())} and {g} of the group are the same: as "
                "functions, actions are all the elements but the identity, once each"
            )
        twice = action.images(images[g])  # (order, 8, ...): h·g·x
        errors = (twice.unsqueeze(1) - images.unsqueeze(0)).flatten(2).abs().amax(-1)
        if (errors.amin(1) > FIXED).any():
            raise ValueError(
                f"actions are not a group: element {g} times element "
                f"{int(errors.amin(1).argmax())} is none of the {action.order}"
            )
        inverses.append(int(errors[:, 0].argmin()))
    return torch.tensor(inverses)


def check_free(action: Action) -> tuple[float, Tensor]:
    """The least displacement found, and where; or a ValueError with a point that is fixed."""
    if action.matrices is None:
        found = [least_displacement(action, g) for g in range(1, action.order)]
    else:
        found = least_displacements(action, action.matrices)
    least, where = math.inf, action.cover.base_point(dtype=torch.float64)
    for g, (displacement, point) in enumerate(found, 1):
        if displacement < FIXED:
            raise ValueError(
                f"the action is not free: element {g} of the group fixes the point {point.tolist()}"
            )
        if displacement < least:
            least, where = displacement, point
    return least, where


def moved_by(action: Action, x: Tensor, moved: Tensor) -> Tensor:
    """|moved − x| over all the axes of a point."""
    return torch.linalg.vector_norm(
        (moved - x).flatten(x.dim() - len(action.ambient_shape)), dim=-1
    )


def least_displacement(action: Action, g: int) -> tuple[float, Tensor]:
    r"""min \|g·x − x\| over M, and where, for a function: in steps against the gradient."""
    return descend(action, g, trials(action), lambda x, moved: moved_by(action, x, moved))


def least_displacements(action: Action, matrices: np.ndarray) -> list[tuple[float, Tensor]]:
    r"""min \|g·x − x\| over M, and where, for every matrix but the first, all at once.

    A matrix fixes a point exactly if its eigenspace of 1 meets M. Without such a space it
    fixes none; with one, its points nearest to M are among the starts. For an orthogonal
    matrix, with \|x\| constant on M, \|Ax − x\|² falls in every step of x ← P((A + Aᵀ + 2)x).
    What holds for an element holds for its conjugates and for its inverse, of which one is looked
    at: it stands for them, its point included.
    """
    first = conjugates(matrices)[1:]
    chosen, place = np.unique(first, return_inverse=True)
    a = torch.from_numpy(matrices[chosen])
    eye = torch.eye(a.shape[-1], dtype=a.dtype)
    _, singular, vh = torch.linalg.svd(a - eye)
    kept = (singular < TOLERANCE).to(a.dtype)
    on_space = vh.mT @ (kept.unsqueeze(-1) * vh)  # the projection on the eigenspace of 1
    x = trials(action)
    found: list[tuple[float, Tensor]] = [(math.inf, x[0])] * len(a)

    def search(which: Tensor, starts: Tensor, rounds: int) -> None:
        """From starts (len(which), n, coordinates), keep the least for each."""
        symmetric = (a + a.mT + 2 * eye)[which]
        for _ in range(rounds):
            starts = project(starts @ symmetric)
        points = starts.unflatten(-1, action.ambient_shape)
        moved = (starts @ a[which].mT).unflatten(-1, action.ambient_shape)
        distance, best = moved_by(action, points, moved).min(-1)
        for k, g in enumerate(which.tolist()):
            found[g] = distance[k].item(), points[k, best[k]]

    def project(flat: Tensor) -> Tensor:
        return action.cover.projx(flat.unflatten(-1, action.ambient_shape)).flatten(2)

    fixing = kept.any(-1)
    # Free for certain: the search only says by how much.
    for which in (~fixing).nonzero().squeeze(-1).split(AT_ONCE):
        search(which, x[:16].flatten(1).expand(len(which), -1, -1), 20)
    for which in fixing.nonzero().squeeze(-1).split(AT_ONCE):
        starts = x.flatten(1).expand(len(which), -1, -1)
        # The nearest to the eigenspace: projections in turn, on it and on M.
        near = starts
        for _ in range(50):
            near = project(near @ on_space[which])
        search(which, torch.cat([starts, near], 1), 100)
    return [found[k] for k in place]


def conjugates(matrices: np.ndarray) -> np.ndarray:
    """For every element the first that it, or its inverse, is conjugate to, of shape (order,)."""
    first = np.full(len(matrices), -1)
    inverses, traces = np.linalg.inv(matrices), np.trace(matrices, axis1=1, axis2=2)
    for g, matrix in enumerate(matrices):
        if first[g] >= 0:
            continue
        first[g] = g
        # Of an isometry the inverse has the same trace.
        for candidate in np.flatnonzero((first < 0) & (np.abs(traces - traces[g]) < FIXED)):
            ours = np.stack([matrices[candidate], inverses[candidate]])
            # h g = c h, for some h.
            gaps = np.abs(matrices @ matrix - ours[:, None] @ matrices).max((-2, -1))
            if gaps.min() < FIXED:
                first[candidate] = g
    return first


def descend(
    action: Action, g: int, x: Tensor, displacement: Callable[[Tensor, Tensor], Tensor]
) -> tuple[float, Tensor]:
    function = action.functions[g - 1]
    axes = (-1, *[1] * len(action.ambient_shape))
    value = displacement(x, function(x))
    step = torch.full_like(value, 0.25)
    for _ in range(DESCENT):
        if value.amin() < FIXED / 2:
            break
        leaf = x.detach().requires_grad_()
        energy = displacement(leaf, function(leaf)).square().sum()
        (gradient,) = torch.autograd.grad(energy, leaf)
        gradient = action.cover.proju(x, gradient)
        # Where a zero is near, half of it is gone in a step of |d|²/|∇|d|²|² (Polyak); where
        # there is none that is too long, and a step that has led down before is taken.
        square = gradient.flatten(1).square().sum(-1)
        polyak = value.square() / torch.where(square > 0, square, 1.0)
        found = torch.zeros_like(value, dtype=torch.bool)
        for size in (polyak, step):
            proposal = action.cover.projx(x - size.reshape(axes) * gradient)
            new = displacement(proposal, function(proposal))
            better = new < value
            x = torch.where(better.reshape(axes), proposal, x)
            value = torch.where(better, new, value)
            gradient = torch.where(better.reshape(axes), 0.0, gradient)
            found |= better
        step = torch.where(found, 1.2 * step, 0.5 * step)
    best = int(value.argmin())
    return value[best].item(), x[best]
