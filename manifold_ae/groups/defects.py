r"""How far a map is from a representation: measures for reports, and penalties for training.

``rho`` is called on actions, and has ``group`` and ``size``: a given ``Representation`` or a
``LearnedRepresentation``. Norms \|·\| are Frobenius norms. The measures are

- homomorphism: E\|ρ(gh) − ρ(g)ρ(h)\| / E\|ρ(gh)\|,
- identity: \|ρ(e) − I\| / \|I\|,
- inverse: E\|ρ(g)ρ(g⁻¹) − I\| / \|I\|.

gh is the action of the product: of a Lie group log(exp X exp Y), which wraps where the group
closes. Two numbers would not do it for X + Y: a rotation by weight 0.9 satisfies that exactly.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from manifold_ae.groups.base import Group, LieGroup, product
from manifold_ae.groups.finite_group import FiniteGroup
from manifold_ae.numerics import soft_root

__all__ = [
    "adjacency",
    "bracket_defect",
    "closure_defect",
    "frequency",
    "homomorphism_defect",
    "homomorphism_error",
    "identity_error",
    "inverse_error",
    "mean_frequency",
    "random_actions",
    "sparsity",
    "table_defect",
]


class _Represents(Protocol):
    group: Group
    size: int

    def __call__(self, action: Tensor, /) -> Tensor: ...


class _Generates(_Represents, Protocol):
    def generator(self, X: Tensor, /) -> Tensor: ...


def random_actions(
    group: Group,
    *sample_shape: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> Tensor:
    """Actions of random elements: log of ``group.random``, or the integers of a finite group.

    Products of two of them leave the domain of the logarithm: they wrap past π.
    """
    g = group.random(*sample_shape, generator=generator, dtype=dtype, device=device)
    return group.log(g) if isinstance(group, LieGroup) else g


# ---- measures -------------------------------------------------------------------------------


def homomorphism_error(rho: _Represents, X: Tensor, Y: Tensor) -> Tensor:
    r"""E\|ρ(gh) − ρ(g)ρ(h)\| / E\|ρ(gh)\|, a scalar, over pairs of actions g and h.

    Pairs whose product has no principal logarithm, as there are in GL(n) and Affine(n), are left
    out: gh has no action then.

    Args:
        rho: what is measured.
        X: actions g, of shape ``(n, dim)``, or ``(n,)`` of a finite group.
        Y: actions h, of the same shape.

    Raises:
        ValueError: if there are no actions, X and Y are no pairs, or no product of two has an
            action.
    """
    _require_some("X", X)
    if X.shape != Y.shape:
        raise ValueError(
            f"X has shape {tuple(X.shape)}, Y {tuple(Y.shape)}: expected pairs, of one shape"
        )
    if isinstance(rho.group, LieGroup):
        holds = rho.group.has_log(rho.group.compose(rho.group.exp(X), rho.group.exp(Y)))
        if not holds.any():
            raise ValueError(
                f"X and Y: no product of the {len(X)} pairs has a principal logarithm in "
                f"{rho.group!r}; take more pairs, or smaller actions"
            )
        X, Y = X[holds], Y[holds]
    whole = rho(_composed(rho.group, X, Y))
    return _norm(whole - product(rho(X), rho(Y))).mean() / _norm(whole).mean()


def identity_error(
    rho: _Represents, *, dtype: torch.dtype | None = None, device: Any = None
) -> Tensor:
    r"""\|ρ(e) − I\| / \|I\|, a scalar; dtype and device are those of the action, X = 0."""
    group = rho.group
    zero = torch.zeros(group.dim, dtype=dtype, device=device)
    return _from_identity(rho(zero if group.dim else group.identity(device=device)))


def inverse_error(rho: _Represents, X: Tensor) -> Tensor:
    r"""E\|ρ(g)ρ(g⁻¹) − I\| / \|I\|, a scalar, over actions X as in ``homomorphism_error``."""
    _require_some("X", X)
    back = -X if isinstance(rho.group, LieGroup) else rho.group.inverse(X)
    return _from_identity(product(rho(X), rho(back)))


def _composed(group: Group, X: Tensor, Y: Tensor) -> Tensor:
    if isinstance(group, LieGroup):
        return group.log(group.compose(group.exp(X), group.exp(Y)))
    return group.compose(X, Y)


def _norm(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix)


def _from_identity(matrix: Tensor) -> Tensor:
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return _norm(matrix - eye).mean() / _norm(eye)


def _require_some(name: str, X: Tensor) -> None:
    if X.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(X.shape)}: an error needs one action or more")


# ---- penalties ------------------------------------------------------------------------------


def bracket_defect(rho: _Generates, X: Tensor, Y: Tensor) -> Tensor:
    r"""E\|φ[X, Y] − (φX φY − φY φX)\|², a scalar, for the generators φ of ρ = exp φ.

    Zero for pairs of a basis makes a linear φ a representation of the Lie algebra: ρ is one of the
    group's universal cover, of the group itself where ``closure_defect`` vanishes too.
    """
    assert isinstance(rho.group, LieGroup)
    A, B = rho.generator(X), rho.generator(Y)
    gap = rho.generator(rho.group.bracket(X, Y)) - (product(A, B) - product(B, A))
    return gap.square().sum((-2, -1)).mean()


def homomorphism_defect(rho: _Represents, X: Tensor, Y: Tensor) -> Tensor:
    r"""E\|ρ(gh) − ρ(g)ρ(h)\|², a scalar, over pairs of actions g and h.

    Zero for all pairs exactly where ρ is a representation, of a φ of any kind: h = e makes
    ρ(e) = I, h = g⁻¹ the inverse, and products wrap where the group closes. ρ = I has none either:
    it does not tell which representation. Not relative to E\|ρ(gh)\|², unlike the measure, which
    is n for orthogonal matrices of size n.

    Pairs whose product has no principal logarithm count as zero: gh has no action then.

    Args:
        rho: what is penalised.
        X: actions g, of shape ``(n, dim)``, or ``(n,)`` of a finite group.
        Y: actions h, of the same shape.

    Raises:
        ValueError: if there are no actions.
    """
    _require_some("X", X)
    holds = torch.ones(len(X), dtype=torch.bool, device=X.device)
    if isinstance(rho.group, LieGroup):
        holds = rho.group.has_log(rho.group.compose(rho.group.exp(X), rho.group.exp(Y)))
        # Both are e where there is no logarithm: a NaN would reach the gradient through a mask.
        X, Y = (torch.where(holds[:, None], Z, 0.0) for Z in (X, Y))
    gap = rho(_composed(rho.group, X, Y)) - product(rho(X), rho(Y))
    return (gap.square().sum((-2, -1)) * holds).mean()


def closure_defect(rho: _Represents, *, dtype: torch.dtype, device: Any = None) -> Tensor:
    r"""Mean of \|ρ(2πX) − I\|² over ``group.periods``, for which exp(2πX) = e; a scalar.

    Of a plane turned by weight w it is 4 (1 − cos 2πw): zero at integers, with a basin between
    half-integers.

    Raises:
        ValueError: if no subgroup of the group is known to close.
    """
    periods = getattr(rho.group, "periods", ())
    if not periods:
        raise ValueError(f"no one-parameter subgroup of {rho.group!r} is known to close")
    matrix = rho(2 * torch.pi * torch.tensor(periods, dtype=dtype, device=device))
    eye = torch.eye(rho.size, dtype=matrix.dtype, device=matrix.device)
    return (matrix - eye).square().sum((-2, -1)).mean()


def table_defect(rho: _Represents, *, device: Any = None) -> Tensor:
    r"""Mean of \|ρ(sh) − ρ(s)ρ(h)\|² over generators s and all h of a finite group; a scalar.

    With ρ(e) = I it vanishes for representations alone, since every g is a product of generators.
    """
    group = rho.group
    if not isinstance(group, FiniteGroup):
        raise ValueError(f"{group!r} is no finite group: see bracket_defect and closure_defect")
    matrices = rho(torch.arange(group.order, device=device))
    s = torch.tensor(group.generators, dtype=torch.int64, device=device)
    if not len(s):
        s = torch.zeros(1, dtype=torch.int64, device=device)
    table = group.table.to(matrices.device)
    gap = matrices[table[s]] - product(matrices[s].unsqueeze(1), matrices)
    return gap.square().sum((-2, -1)).mean()


def adjacency(generators: Tensor, root: Callable[[Tensor], Tensor] = torch.sqrt) -> Tensor:
    """Which coordinates a family of matrices couples: √(Σᵢ Tᵢ²) by entries, ``(n, n)``.

    Args:
        generators: T₁, …, T_d, of shape ``(d, n, n)``.
        root: the square root, or a smooth one.
    """
    return root(generators.square().sum(0))


def sparsity(generators: Tensor) -> Tensor:
    r"""What the blocks of a family of matrices could still gain from a change of basis; a scalar.

    ½ (Σ_{ab} \|T_{·ab}\| − tr √(Σᵢ Tᵢᵀ Tᵢ)), for T₁, …, T_d of shape ``(d, n, n)``.

    The second term is half the nuclear norm of the matrices set one below the other, and does not
    change with an orthonormal basis; the first is a sum of the nuclear norms of their entries, to
    which they add up. So the difference is never negative, and it is zero exactly where no row and
    no column has two entries: for antisymmetric matrices, where they are blocks of two (and zeros)
    on the axes. (A matrix of spectral norm one that attains the nuclear norm would have a unit
    vector for each of those entries, and so a row or column of norm √2.) Commuting antisymmetric
    matrices always have such a basis: the generators of a torus, whose weights it leaves as they
    are, since its slope there is zero. Larger blocks, of groups that do not commute, leave it
    positive, and it then shrinks the generators as well: give it a small weight, beside the
    closure. It still finds the blocks of SO(3), 3 and 5, from eight random bases of ten; where it
    does not, it stays larger, and another start is told by that.

    Roots are smooth at zero (``numerics.soft_root``), where a sum of norms has no gradient. The
    derivative is finite once; in float64 inside.
    """
    T = generators.double()
    energy = product(T.mT, T).sum(0)
    values = torch.linalg.eigvalsh(energy).clamp_min(0.0)
    gain = adjacency(T, soft_root).sum() - soft_root(values).sum()
    return (gain / 2).to(generators.dtype)


def mean_frequency(generators: Tensor, X: Tensor) -> Tensor:
    r"""``frequency`` where φ is not linear: ½ E tr √(φ(X)ᵀ φ(X)) / E \|Xᵢ\|, a scalar.

    Of a torus it is E Σ \|angle\|, over all planes, in units of the actions: again least for an
    angle a plane where the angles of an action are independent, in whatever coordinates φ sees
    them. Zero where no action moves anything: a ratio to nothing tells of no frequency.

    Args:
        generators: φ(X), of shape ``(n, k, k)``.
        X: the actions, of shape ``(n, dim)``.
    """
    T = generators.double()
    values = torch.linalg.eigvalsh(product(T.mT, T)).clamp_min(0.0)
    size = soft_root(values).sum(-1).mean() / 2
    amount = X.double().abs().mean()
    moves = amount > 0
    return torch.where(moves, size / torch.where(moves, amount, 1.0), 0.0).to(generators.dtype)


def frequency(generators: Tensor, parts: Sequence[int]) -> Tensor:
    r"""How fast each direct factor of the group turns what it turns, in all; a scalar.

    ½ Σ_f tr √(Σ_{i ∈ f} Tᵢᵀ Tᵢ), for T₁, …, T_d of shape ``(d, n, n)`` and factors f, of which
    ``parts`` are the dimensions. It does not depend on the orthonormal basis of the latents. Of a
    torus it is Σ \|w\|, over all angles and all planes. Planes that turn with θ + φ and with φ tell
    points apart as well as planes that turn with θ and with φ, and cost one more: the least of the
    faithful are those in which each plane turns with one angle. It pulls all weights to zero
    besides: let it fade.
    """
    T = generators.double()
    energy = torch.stack([product(t.mT, t).sum(0) for t in T.split(list(parts))])
    values = torch.linalg.eigvalsh(energy).clamp_min(0.0)
    return (soft_root(values).sum() / 2).to(generators.dtype)
