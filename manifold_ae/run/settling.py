r"""The end of training: what is linear in φ, by least squares on latents that stay as they are.

The entries of φ are linear in the weights Θ of its last layer (and of the linear map beside it),
φ(g) = Θ f(g). For latents z and z' before and after an action g, a step of Gauss and Newton
minimises, over the change δ of Θ,

    Σ |ρ(g) z + J δ f(g) − z'|² + λ Σ_k D_k δ_k²,        J = ∂(exp φ · z)/∂φ,              (1)

with D the diagonal of the matrix of the normal equations (Levenberg and Marquardt's damping). That
matrix is Σ JᵀJ ⊗ f fᵀ, so that it costs a few products of matrices. Θ is near where it is going:
the matrix is that of the first step in all of them.

Of a homomorphism the generators φ(g) lie in the image of the Lie algebra, of dim G dimensions at
most. Where those of a perceptron nearly do, as those of soft blocks that have found their planes,
they are projected on it, Θ ← U Uᵀ Θ with orthonormal columns U, and δ is sought as U c: fewer
unknowns are less disturbed by the errors of latents.

Of a perceptron, what gradient descent leaves of its error is small beside the errors of single
latents, which do not add up along a sequence; its own do, and after T actions have grown by √T.
The sum over all traces averages the former away.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from manifold_ae.groups import LearnedRepresentation, LieGroup
from manifold_ae.models import HomomorphismAutoencoder

__all__ = ["LEFT_OUT", "can_settle", "image", "require_settling", "settle", "transitions_of"]

#: The most unknowns, whose normal equations take 130 MB.
MOST = 4000
#: Values of λ that are tried, on one trace of so many that are left out.
DAMPINGS = tuple(10.0**-k for k in range(2, 12))
LEFT_OUT = 5
#: The part of the generators' energy that may lie outside of dim G dimensions and is taken off.
OUTSIDE = 1e-3
#: Rows of (1) at a time.
CHUNK = 8192


def can_settle(model: HomomorphismAutoencoder) -> bool:
    """Whether φ has a linear part, of up to ``MOST`` unknowns, that moves one column of latents."""
    rho = getattr(model.transition, "representation", None)
    if not isinstance(rho, LearnedRepresentation) or rho.phi == "lookup":
        return False
    return model.manifold is None and _unknowns(rho) <= MOST


def require_settling(model: HomomorphismAutoencoder, traces: int) -> None:
    """Raise unless ``settle`` takes a model, and so many traces.

    Raises:
        ValueError: which says what it takes.
    """
    if not can_settle(model):
        raise ValueError(
            "settling takes a linear φ or a perceptron of a deterministic model, with at most "
            f"{MOST} unknowns in its last layer; take settle_steps = 0"
        )
    if traces < LEFT_OUT:
        raise ValueError(
            f"{traces} traces: settling takes {LEFT_OUT} or more; take settle_steps = 0, or more "
            "traces"
        )


def settle(model: HomomorphismAutoencoder, z: Tensor, actions: Tensor, *, steps: int) -> None:
    """Steps of (1) from where φ is, in place; in float64, and λ by the traces left out.

    Where the group is known, products of successive actions and inverses count as actions too.

    Arguments:
        z: the latents of the observations of traces, ``(n, T + 1, size)``.
        actions: ``(n, T, group.dim)``.
        steps: of Gauss and Newton; it ends sooner where one does not better the traces left out.
            What is not better on them in the end than before is not kept.

    Raises:
        ValueError: if there is nothing to settle, or too much; or fewer traces than ``LEFT_OUT``.
    """
    require_settling(model, len(z))
    rho: Any = getattr(model.transition, "representation", None)
    chosen = torch.arange(len(z), device=z.device) % LEFT_OUT == 0
    fitted, kept = (transitions_of(rho, z[rows], actions[rows]) for rows in (~chosen, chosen))
    with torch.no_grad():
        start, error_at_start = rho.coefficients(), _error(rho, *kept)
        U = image(rho, fitted[0])
        rho.add_to_coefficients((U @ U.mT).to(start) @ start - start)
        _descend(rho, U, fitted, kept, steps)
        if _error(rho, *kept) > error_at_start:
            rho.add_to_coefficients(start - rho.coefficients())


def image(rho: LearnedRepresentation, X: Tensor) -> Tensor:
    """U: orthonormal directions ``(entries, r)``, in which the entries of φ(X) lie.

    dim G of them where the entries nearly do, all of them elsewhere.
    """
    with torch.no_grad():
        entries = rho._phi(X).double()
        values, vectors = torch.linalg.eigh(entries.mT @ entries)
    outside = values[: max(0, len(values) - rho.group.dim)].clamp_min(0.0).sum()
    if outside <= OUTSIDE * values.sum():
        return vectors[:, -rho.group.dim :]
    return torch.eye(len(values), dtype=torch.float64, device=X.device)


def _descend(rho: LearnedRepresentation, U: Tensor, fitted: Any, kept: Any, steps: int) -> None:
    """Steps of (1) along U, with the traces fitted and kept, as by ``transitions_of``."""
    if steps:
        A = _matrix(rho, U, *fitted)
        for _ in range(steps):
            b = _right_side(rho, U, *fitted)
            before, best, change = _error(rho, *kept), torch.inf, torch.zeros_like(b)
            for damping in DAMPINGS:
                matrix = A + torch.diag(damping * A.diagonal() + _least(A))
                # A matrix that is not positive definite for rounding takes more damping.
                factor, info = torch.linalg.cholesky_ex(matrix)
                if info.item():
                    continue
                found = torch.cholesky_solve(b.unsqueeze(-1), factor).squeeze(-1)
                found = U @ found.unflatten(0, (U.shape[1], -1))
                error = _error(rho, *kept, change=found)
                if error < best:
                    best, change = error, found
            if not best < before:
                return
            rho.add_to_coefficients(change.to(kept[0].dtype))


def transitions_of(
    rho: LearnedRepresentation, z: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Actions ``(N, dim)`` and the latents before and after them, of traces as in ``settle``.

    Behind a scramble, those that occurred. Of a known group also their inverses, from after to
    before, and log(exp g_{t+1} exp g_t) of two in turn, where it has a principal logarithm.
    """
    size = z.shape[-1]
    before, after, single = z[:, :-1], z[:, 1:], actions
    rows = [(single, before, after)]
    group = rho.group
    if rho.scramble is None and isinstance(group, LieGroup):
        rows.append((-single, after, before))
        if actions.shape[1] > 1:
            both = group.compose(group.exp(actions[:, 1:]), group.exp(actions[:, :-1]))
            holds = group.has_log(both)
            rows.append((group.log(both[holds]), z[:, :-2][holds], z[:, 2:][holds]))
    flat = [
        (X.reshape(-1, group.dim), x.reshape(-1, size), y.reshape(-1, size)) for X, x, y in rows
    ]
    X, x, y = (torch.cat(parts) for parts in zip(*flat, strict=True))
    return X, x, y


def _unknowns(rho: LearnedRepresentation) -> int:
    like = next(rho.parameters())
    return rho.layout.entries * rho.features(like.new_zeros(1, rho.group.dim)).shape[-1]


def _least(A: Tensor) -> Tensor:
    """Of features that never occur, the diagonal is zero: their weights stay as they are."""
    return torch.finfo(A.dtype).eps * A.diagonal().mean()


def _error(
    rho: LearnedRepresentation, X: Tensor, x: Tensor, y: Tensor, change: Tensor | None = None
) -> float:
    """The mean of |ρ(g) z − z'|², with Θ + δ in place of Θ."""
    total = 0.0
    for g, before, after in zip(X.split(CHUNK), x.split(CHUNK), y.split(CHUNK), strict=True):
        entries = rho._phi(g).double()
        if change is not None:
            entries = entries + rho.features(g).double() @ change.mT
        gap = rho.act_by_entries(entries, before.double()) - after
        total += gap.square().sum().item()
    return total / len(X)


def _chunks(
    rho: LearnedRepresentation, U: Tensor, X: Tensor, x: Tensor, y: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Features f, J U and z' − ρ(g) z, in float64, of some rows at a time."""
    for g, before, after in zip(X.split(CHUNK), x.split(CHUNK), y.split(CHUNK), strict=True):
        with torch.enable_grad():
            entries = rho._phi(g).detach().double().requires_grad_()
            moved = rho.act_by_entries(entries, before.double())
            rows = [
                torch.autograd.grad(column.sum(), entries, retain_graph=True)[0]
                for column in moved.unbind(-1)
            ]
        yield rho.features(g).double(), torch.stack(rows, -2) @ U, after - moved.detach()


def _matrix(rho: LearnedRepresentation, U: Tensor, X: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Σ JᵀJ ⊗ f fᵀ, by directions U and features."""
    count = U.shape[1]
    p = _unknowns(rho) // len(U)
    A = torch.zeros(count, p, count, p, dtype=torch.float64, device=x.device)
    for f, J, _ in _chunks(rho, U, X, x, y):
        JJ = J.mT @ J
        for k in range(count):
            for m in range(k, count):
                part = f.mT @ (f * JJ[:, k, m, None])
                A[k, :, m] += part
                if m > k:
                    A[m, :, k] += part.mT
    return A.reshape(count * p, count * p)


def _right_side(rho: LearnedRepresentation, U: Tensor, X: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Σ Jᵀ(z' − ρ(g) z) ⊗ f."""
    parts = [
        (J.mT @ gap.unsqueeze(-1)).squeeze(-1).mT @ f for f, J, gap in _chunks(rho, U, X, x, y)
    ]
    return torch.stack(parts).sum(0).flatten()
