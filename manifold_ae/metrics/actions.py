r"""Is a learned map a homomorphism on the actions that occur? For groups that are not compact.

There no law reaches through the whole group: what can be asked is how a map does on the actions of
traces, on products of neighbours, and on the product of a whole trace,

    E \|ρ(g_T ⋯ g₁) − ρ(g_T) ⋯ ρ(g₁)\| / E \|ρ(g_T ⋯ g₁)\|.

Small actions are near the identity, and so are matrices that know nothing of them: with 0.1 between
ρ(g) and I no map that stays as near can be wrong by more than 20 %. So beside every error relative
to ρ stands one relative to what ρ moves, ρ − I.

Large matrices are not made: for ξ standard normal E |M ξ|² = |M|², and a ρ that moves vectors
without its matrices (``act``) is measured by what it does to some of these.
"""

import math
from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Tensor

from manifold_ae.groups import Group, LieGroup, defects
from manifold_ae.metrics.alignment import Alignment

__all__ = ["ActionDefects", "action_defects", "probed_defects", "residual_of_moves"]


class _Represents(Protocol):
    group: Group
    size: int

    def __call__(self, action: Tensor, /) -> Tensor: ...


class _Moves(Protocol):
    size: int

    @property
    def group(self) -> Group: ...

    def act(self, action: Tensor, z: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class ActionDefects:
    r"""Relative errors over the actions of traces; all are zero for a representation.

    Attributes:
        homomorphism: E \|ρ(hg) − ρ(h)ρ(g)\| / E \|ρ(hg)\|, over neighbours g, h of a trace whose
            product has a principal logarithm, and so an action; in GL(n) and Affine(n) some have
            none.
        homomorphism_of_moves: the same over E \|ρ(hg) − I\|.
        composition: of the product of a whole trace, as in the module's docstring, over traces
            whose product has an action; infinite if there are none, and where a matrix overflows.
        inverse: E \|ρ(g)ρ(g⁻¹) − I\| / \|I\|.
        identity: \|ρ(e) − I\| / \|I\|.
    """

    homomorphism: float
    homomorphism_of_moves: float
    composition: float
    inverse: float
    identity: float


@torch.no_grad()
def action_defects(rho: _Represents, actions: Tensor) -> ActionDefects:
    """The defects of ρ over the actions of traces.

    Products are composed in float64, in the group; matrices are of the dtype of the actions.

    Arguments:
        rho: from actions to matrices ``(*, size, size)``, with the Lie ``group`` of the actions.
        actions: coordinates of the Lie algebra, of shape ``(n, T, dim)``, T at least 2.

    Raises:
        ValueError: if the group is finite, there are no neighbours, none of their products has an
            action, actions do not move, or ρ of them, or of products of neighbours, is not finite.

    Example:
        >>> from manifold_ae.groups import Defining, ScaleTranslation
        >>> actions = torch.linspace(-1, 1, 60).view(4, 5, 3)
        >>> action_defects(Defining(ScaleTranslation(2)), actions).composition < 1e-5
        True
    """
    group = _require(rho.group, actions)
    g, h = actions[:, :-1].flatten(0, 1), actions[:, 1:].flatten(0, 1)
    matrices = rho(actions)
    products, holds = _products(group, g, h)
    whole = rho(products)
    eye = torch.eye(rho.size, dtype=whole.dtype, device=whole.device)
    steps = (matrices[:, 1:] @ matrices[:, :-1]).flatten(0, 1)[holds]
    wrong = _norm(whole - steps)
    found = ActionDefects(
        homomorphism=wrong / _norm(whole),
        homomorphism_of_moves=_over(wrong, _norm(whole - eye)),
        composition=_composition(rho, group, actions, matrices),
        inverse=defects.inverse_error(rho, g).item(),
        identity=defects.identity_error(rho, dtype=actions.dtype, device=actions.device).item(),
    )
    return _finite(found)


@torch.no_grad()
def probed_defects(
    rho: _Moves, actions: Tensor, *, probes: int = 16, generator: torch.Generator | None = None
) -> ActionDefects:
    """As ``action_defects``, by what ρ does to random vectors: no matrix is made.

    Norms are those of estimates |M Ξ|/√k for k probes Ξ: right to about 1/√(2k) where M has rank 1,
    and better the more M is of full rank. Where ρ is a homomorphism both are rounding.

    Arguments:
        rho: with ``act(action, z)`` → ρ(action) z, and the Lie ``group`` of the actions.
        actions: coordinates of the Lie algebra, of shape ``(n, T, dim)``, T at least 2.
        probes: k.
        generator: where the probes come from.

    Raises:
        ValueError: as ``action_defects``, and if there is no probe.

    Example:
        >>> from manifold_ae.groups import AffineRepresentation, ScaleTranslation
        >>> rho, actions = AffineRepresentation(ScaleTranslation(784)), torch.ones(4, 3, 785) / 9
        >>> probed_defects(rho, actions).homomorphism_of_moves < 1e-5
        True
    """
    group = _require(rho.group, actions)
    if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
        raise ValueError(f"probes={probes!r}: expected an integer of at least 1")
    place = actions.device if generator is None else generator.device
    shape = (probes, rho.size)
    z = torch.randn(shape, generator=generator, dtype=actions.dtype, device=place)
    z = z.to(actions.device)

    def moved(X: Tensor, z: Tensor) -> Tensor:
        return rho.act(X.unsqueeze(-2), z)

    g, h = actions[:, :-1].flatten(0, 1), actions[:, 1:].flatten(0, 1)
    products, holds = _products(group, g, h)
    whole = moved(products, z)
    wrong = _norm(whole - moved(h[holds], moved(g[holds], z)))

    def composition() -> float:
        ends, holds = _through(group, actions)
        path = z.expand(len(ends), *z.shape)
        for X in actions[holds].unbind(1):
            path = moved(X, path)
        return _or_infinite(_norm(moved(ends, z) - path) / _norm(moved(ends, z)))

    return _finite(
        ActionDefects(
            homomorphism=wrong / _norm(whole),
            homomorphism_of_moves=_over(wrong, _norm(whole - z)),
            composition=composition(),
            inverse=_norm(moved(-g, moved(g, z)) - z) / _norm(z),
            identity=_norm(moved(torch.zeros_like(g[:1]), z) - z) / _norm(z),
        )
    )


def _require(group: Group, actions: Tensor) -> LieGroup:
    if actions.ndim != 3 or actions.shape[1] < 2 or not len(actions):
        raise ValueError(
            f"actions has shape {tuple(actions.shape)}: expected (n, T, dim) with n at least 1 and "
            "T at least 2, so that there are products"
        )
    if not isinstance(group, LieGroup):
        raise ValueError(f"rho is of {group!r}, which is finite: see homomorphism_defects")
    return group


def _finite(found: ActionDefects) -> ActionDefects:
    for name, value in asdict(found).items():
        if not math.isfinite(value) and name != "composition":
            raise ValueError(f"rho has an error {name} of {value}: expected finite matrices")
    return found


def _composition(rho: _Represents, group: LieGroup, actions: Tensor, matrices: Tensor) -> float:
    ends, holds = _through(group, actions)
    steps = matrices[holds]
    moved = steps[:, 0]
    for t in range(1, actions.shape[1]):
        moved = steps[:, t] @ moved
    whole = rho(ends)
    return _or_infinite(_norm(whole - moved) / _norm(whole))


def _or_infinite(error: float) -> float:
    """An error, infinite where matrices overflow, or there are none."""
    return error if math.isfinite(error) else math.inf


def _products(group: LieGroup, X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Actions Y after X, of shape ``(m, dim)``, and which of the n pairs have one."""
    products, holds = _through(group, torch.stack([X, Y], 1))
    if not len(products):
        raise ValueError(
            f"actions: none of the {len(X)} products of neighbours has a principal logarithm in "
            f"{group!r}; take more traces, or smaller actions"
        )
    return products, holds


def _through(group: LieGroup, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Actions of the products g_T ⋯ g₁ of traces, ``(m, dim)``, and which of the n have one."""
    first, *others = group.exp(actions.double()).unbind(1)
    whole = first
    for g in others:
        whole = group.compose(g, whole)
    holds = group.has_log(whole)
    return group.log(whole[holds]).to(actions.dtype), holds


def _norm(matrices: Tensor) -> float:
    return torch.linalg.matrix_norm(matrices).mean().item()


def _over(wrong: float, moved: float) -> float:
    if not moved > 0:
        raise ValueError("actions do not move: every matrix is I; expected actions other than 0")
    return wrong / moved


def residual_of_moves(found: Alignment, true: Tensor) -> float:
    r"""The residual of an alignment relative to what moves: \|A (ρ_true − I)\|² for \|A ρ_true\|².

    Arguments:
        found: of ``align_matrices``.
        true: ρ_true, of shape ``(*, n, n)``, as it was aligned with.

    Raises:
        ValueError: if true is of another size than A, or is I throughout.
    """
    A, q = found.matrix, true.detach().double().cpu()
    if q.shape[-2:] != A.shape:
        raise ValueError(
            f"true has shape {tuple(true.shape)}: expected (*, {len(A)}, {len(A)}), as A has"
        )
    eye = torch.eye(len(A), dtype=torch.float64)
    whole, moved = ((A @ m).square().sum().item() for m in (q, q - eye))
    return _over(found.residual * whole, moved)
