r"""Is a learned representation equivalent to the true one? A change of basis A between them.

ρ and ρ_true are equivalent if an invertible A has A ρ_true(g) = ρ(g) A for all g. With matrices of
both at the same g,

    residual(A) = Σ \|A ρ_true − ρ A\|² / Σ \|A ρ_true\|²,

whose stationary values are the eigenvalues of a generalised symmetric eigenproblem in A. A small
least eigenvalue alone says little: where ρ shares one block with ρ_true, A may carry that block and
be zero on the rest. And where ρ is perfect there are as many solutions as the commutant of ρ_true
has dimensions, most of them badly conditioned. So all solutions are taken together, the near-null
space, and in it the A of least condition number κ(A): residual(A) counts only where κ(A) is small.

Beside it stands the gap of characters, E \|tr ρ − tr ρ_true\|, for which no basis is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from manifold_ae.metrics._checks import square

__all__ = ["Alignment", "align_matrices", "align_representations"]

#: Condition numbers below this leave A invertible enough.
LARGEST_CONDITION = 10.0
#: Singular values below this, relative to the largest, are rounding: of eigenvectors, not of A.
SINGULAR = 1e-9


@dataclass(frozen=True)
class Alignment:
    """How a representation is aligned with the true one.

    Attributes:
        residual: of the matrix below.
        condition: κ of it, the least in the near-null space; infinite where all are singular.
        character_gap: E |tr ρ − tr ρ_true|.
        null_dimension: of the near-null space.
        matrix: A, of shape ``(n, n)``, in float64, of mean square singular value 1.
    """

    residual: float
    condition: float
    character_gap: float
    null_dimension: int
    matrix: Tensor = field(repr=False, compare=False)

    @property
    def counts(self) -> bool:
        """Whether A is invertible enough, κ(A) < 10, for the residual to mean anything."""
        return self.condition < LARGEST_CONDITION


@torch.no_grad()
def align_representations(
    rho: Callable[[Any], Tensor],
    truth: Callable[[Any], Tensor],
    actions: Tensor,
    *,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Alignment:
    """``align_matrices`` of two representations at the same actions."""
    return align_matrices(rho(actions), truth(actions), tolerance=tolerance, seed=seed)


def align_matrices(
    matrices: Tensor, true: Tensor, *, tolerance: float = 0.1, seed: int = 0
) -> Alignment:
    r"""The best-conditioned A of the near-null space of A ↦ Aρ_true − ρA.

    The near-null space is spanned by the solutions whose own residual is at most ``tolerance``, or
    at most twice the least. That is meant for actions that reach through the whole group: over the
    Haar law orthogonal blocks that are inequivalent have residual 2. Small actions tell blocks less
    well apart; where the largest residual is below 2, the tolerance is less in proportion. κ is
    minimised from a closed form that is optimal for orthogonal representations, and from seeded
    random starts, so that the result depends on the arguments alone. Unchanged by orthogonal
    changes of basis of either representation. The cost grows as n⁶: 0.2 s at n = 25.

    Where one representation is smaller, it is filled up with trivial dimensions: free dimensions of
    a latent space, on which nothing acts, neither help nor hurt.

    Arguments:
        matrices: ρ(g), of shape ``(*, n, n)``.
        true: ρ_true at the same g, of shape ``(*, m, m)``.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or the tolerance is not in [0, 2).

    Example:
        >>> angles = torch.linspace(0, 6, 20)
        >>> c, s = angles.cos(), angles.sin()
        >>> turn = torch.stack([c, -s, s, c], -1).view(-1, 2, 2)
        >>> result = align_matrices(turn.mT, turn)
        >>> round(result.residual, 6), round(result.condition, 6), result.counts
        (0.0, 1.0, True)
    """
    if not 0 <= tolerance < 2:
        raise ValueError(f"tolerance={tolerance!r}: expected a relative residual in [0, 2)")
    if matrices.shape[:-2] != true.shape[:-2]:
        raise ValueError(
            f"matrices has shape {tuple(matrices.shape)} and true {tuple(true.shape)}: expected "
            "one matrix of each for every action"
        )
    rho, rho_true = square("matrices", matrices), square("true", true)
    n = max(rho.shape[-1], rho_true.shape[-1])
    p, q = _filled(rho, n).cpu().numpy(), _filled(rho_true, n).cpu().numpy()
    gap = np.abs(np.trace(p, axis1=1, axis2=2) - np.trace(q, axis1=1, axis2=2)).mean()
    values, solutions = _solutions(p, q)
    near = values <= max(tolerance * min(1.0, values[-1] / 2), 2 * values[0])
    space = solutions[near]
    best = _best_conditioned(space, q, seed)
    best *= np.sqrt(n) / np.linalg.norm(best)
    residual = np.square(best @ q - p @ best).sum() / np.square(best @ q).sum()
    return Alignment(
        residual=float(residual),
        condition=_condition(best),
        character_gap=float(gap),
        null_dimension=len(space),
        matrix=torch.from_numpy(best),
    )


def _filled(matrices: Tensor, n: int) -> Tensor:
    """Block-diagonal with an identity that fills up to n."""
    filled = torch.eye(n, dtype=matrices.dtype, device=matrices.device).repeat(len(matrices), 1, 1)
    filled[:, : matrices.shape[-1], : matrices.shape[-1]] = matrices
    return filled


def _solutions(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Stationary residuals, ascending, and their A of shape ``(n², n, n)``.

    With A = B (E q qᵀ)^{-1/2} the denominator is \|B\|². The quadratic form of the numerator is
    tr A(E q qᵀ)Aᵀ + tr Aᵀ(E pᵀp)A − 2 E tr Aᵀ p A qᵀ.
    """
    n = p.shape[-1]
    scale = np.einsum("kij,klj->il", q, q) / len(q)
    spectrum, axes = np.linalg.eigh(scale)
    if spectrum[0] <= 1e-12 * spectrum[-1]:
        raise ValueError(
            "true has matrices with a common kernel: expected a representation, whose matrices are "
            "invertible"
        )
    root = (axes / np.sqrt(spectrum)) @ axes.T
    gram = np.einsum("kji,kjl->il", p, p) / len(p)
    # Of B_ij and B_kl, in this order: E p_ik (R q R)_jl with R the root.
    cross = np.tensordot(p, root @ q @ root, (0, 0)).transpose(0, 2, 1, 3).reshape(n * n, n * n)
    cross /= len(p)
    form = np.eye(n * n) + np.kron(gram, root @ root) - cross - cross.T
    values, vectors = np.linalg.eigh(form)
    return np.maximum(values, 0.0), vectors.T.reshape(-1, n, n) @ root


def _condition(a: np.ndarray) -> float:
    s = np.linalg.svd(a, compute_uv=False)
    return float(s[0] / s[-1]) if s[-1] > SINGULAR * s[0] else float("inf")


def _best_conditioned(space: np.ndarray, q: np.ndarray, seed: int, starts: int = 8) -> np.ndarray:
    """The matrix of least condition number in the span of the matrices ``(m, n, n)``.

    log κ is the limit of smooth functions: see ``_spread``.
    """
    m = len(space)
    if m == 1:
        return space[0].copy()
    # Orthonormal in the Euclidean sense, so that a matrix's coefficients are inner products.
    basis = np.linalg.qr(space.reshape(m, -1).T)[0].T.reshape(space.shape)
    draws = np.random.default_rng(seed).standard_normal((starts, m))
    # A random element of a space has the largest rank in it.
    if not np.isfinite(_condition(np.tensordot(draws[0], basis, 1))):
        return np.tensordot(draws[0], basis, 1)
    candidates = [_balanced(np.tensordot(draw, basis, 1), q) for draw in draws[:2]]
    coefficients = [np.tensordot(basis, c, ((1, 2), (0, 1))) for c in candidates] + list(draws)
    found = []
    for c in coefficients:
        for power in (1, 4, 16, 64):
            c = minimize(_spread, c / np.linalg.norm(c), (basis, power), jac=True).x
            found.append(np.tensordot(c / np.linalg.norm(c), basis, 1))
        if _condition(found[-1]) < 1 + 1e-6:
            break
    return min(found, key=_condition)


def _spread(c: np.ndarray, basis: np.ndarray, power: int) -> tuple[float, np.ndarray]:
    r"""log \|σ\|_p + log \|1/σ\|_p for the singular values σ of Σ c_i A_i, and its gradient."""
    u, s, vt = np.linalg.svd(np.tensordot(c, basis, 1))
    s = np.maximum(s, 1e-15 * s[0])
    log_s = np.log(s)
    up = np.exp(power * (log_s - log_s[0]))
    down = np.exp(power * (log_s[-1] - log_s))
    value = log_s[0] - log_s[-1] + (np.log(up.sum()) + np.log(down.sum())) / power
    slope = (up / up.sum() - down / down.sum()) / s
    return float(value), np.tensordot(basis, (u * slope) @ vt, ((1, 2), (0, 1)))


def _balanced(a: np.ndarray, q: np.ndarray) -> np.ndarray:
    """A (E ρ_trueᵀ AᵀA ρ_true)^{-1/2}: for orthogonal representations, A's polar part.

    For orthogonal ρ_true over the Haar law the mean commutes with ρ_true, so that this solves the
    same equation as A; and if A is invertible it does not depend on which solution A was.
    """
    image = a @ q
    mean = np.einsum("kji,kjl->il", image, image) / len(q)
    spectrum, axes = np.linalg.eigh(mean)
    if spectrum[0] <= 1e-12 * spectrum[-1]:
        return a
    return a @ (axes / np.sqrt(spectrum)) @ axes.T
