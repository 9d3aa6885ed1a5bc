r"""D_LSBD: how far an encoder is from a linearly disentangled representation.

A group G = G_1 × … × G_K moves a base point x₀ through the data. With ρ = ρ_1 ⊕ … ⊕ ρ_K, each
factor acting on a space Z_k of its own, all ρ(g)⁻¹ h(g·x₀) are one point if h is equivariant.
Their dispersion, at the best ρ, is the measure (definition 4.3 of Tonnaer's thesis):

    D = inf_ρ Σ_k E \|ρ_k(g)⁻¹ π_k h(g·x₀) − E ρ_k(g')⁻¹ π_k h(g'·x₀)\|²,

in an inner product on every Z_k that is invariant under ρ_k and in which E \|π_k h\|² = 1. So each
factor contributes from 0, equivariant, to 1, and D is between 0 and K.

It is estimated from above, as published. The data are all g_1 … g_K·x₀ on a grid. Of the factor k,
h minus its mean over g_k varies with g_k alone if h is disentangled, and its principal components
span Z_k. On a circle they are two, scaled to equal variance, and ρ_k is a rotation by ω times the
angle, of the integer ω between −10 and 10 that suits best. The sign of ω is a matter of the
components' signs; |ω| is reported.

For an irreducible ρ_k that is given, of another group, the components have no preferred basis: the
best affine map B from them to the space of ρ_k is found with it: the dispersion of ρ_k(g)⁻¹ B(y),
relative to E \|B(y)\|², is least at an eigenvector. So neither a scaling to equal variance nor a
mean over g_k is relied on, which for elements drawn at random would leave an error.

References:
    Tonnaer, Pérez Rey, Menkovski, Holenderski, Portegies: Quantifying and Learning Linear
    Symmetry-Based Disentanglement, ICML 2022, https://arxiv.org/abs/2011.06070; section 4.4 of
    Tonnaer's thesis has the same in more detail. The authors' code
    (https://github.com/luis-armando-perez-rey/lsbd-vae) divides by N − 1 where the definition has a
    mean, as here: its values for each factor are (N − 1)/N of these. Of the factors it took the sum
    first, which is the definition, and takes their mean now: ``Disentanglement.mean``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.metrics._checks import finite

__all__ = ["Disentanglement", "GivenFactor", "d_lsbd", "dispersion"]

#: Variances below this fraction of the latents' are taken for rounding.
ROUNDING = 1e-10


@dataclass(frozen=True)
class GivenFactor:
    """A factor of the group that is no circle: its elements on the grid and its irreps.

    Attributes:
        actions: one for each point of the factor's axis of the grid, as the irreps take them.
        irreps: orthogonal irreducible representations to choose from, ``rho(actions)`` of shape
            ``(n, s, s)``; those larger than the latent space are out of the question.
    """

    actions: Tensor
    irreps: Sequence[Callable[[Any], Tensor]]


@dataclass(frozen=True)
class Disentanglement:
    r"""D_LSBD and what it is made of.

    Attributes:
        value: D, the sum over the factors, from 0 to their number.
        factors: what every factor contributes, from 0 to 1.
        chosen: of a circle \|ω\|; of a given factor which of its irreps; None where the latents do
            not depend on the factor.
    """

    value: float
    factors: tuple[float, ...]
    chosen: tuple[int | None, ...]

    @property
    def mean(self) -> float:
        """D over the number of factors, from 0 to 1."""
        return self.value / len(self.factors)


@torch.no_grad()
def d_lsbd(
    z: Tensor, factors: Sequence[GivenFactor | None] | None = None, *, max_weight: int = 10
) -> Disentanglement:
    r"""D_LSBD of the latents of all points of a grid over the group.

    Unchanged by orthogonal maps, translations and scaling of the latents; where it is zero, by all
    invertible affine maps. A factor on which the latents do not depend contributes 1, the limit of
    ever fainter noise; by the definition as published it would contribute nothing, and an encoder
    that ignores everything would be perfect.

    Arguments:
        z: h(g_1 … g_K·x₀), of shape ``(n_1, …, n_K, d)``: an axis for every factor, in the order of
            the group. On the axis of a circle the angles are 2πi/n_k, all of the circle.
        factors: for every axis None, a circle, or what is given of another group; by default all
            are circles.
        max_weight: the largest \|ω\|; an axis of n_k angles tells them apart below n_k/2.

    Raises:
        ValueError: if shapes do not fit, values are not finite, there are fewer angles than
            2 ``max_weight`` + 1, the latents are fewer than the components needed, or the latents
            are all equal.

    Example:
        >>> angles = torch.arange(24) * (2 * torch.pi / 24)
        >>> a, b = torch.meshgrid(angles, angles, indexing="ij")
        >>> z = torch.stack([a.cos(), a.sin(), (2 * b).cos(), (2 * b).sin()], -1)
        >>> result = d_lsbd(z)
        >>> round(result.value, 6), result.chosen
        (0.0, (1, 2))
    """
    if z.ndim < 2:
        raise ValueError(f"z has shape {tuple(z.shape)}: expected (n_1, …, n_K, d)")
    factors = [None] * (z.ndim - 1) if factors is None else list(factors)
    if len(factors) != z.ndim - 1:
        raise ValueError(
            f"factors has {len(factors)} entries: expected {z.ndim - 1}, one for each axis but the "
            f"last of z, of shape {tuple(z.shape)}"
        )
    if isinstance(max_weight, bool) or not isinstance(max_weight, int) or max_weight < 1:
        raise ValueError(f"max_weight={max_weight!r}: expected an integer of at least 1")
    precision = torch.finfo(z.dtype).eps if z.is_floating_point() else 0.0
    z = finite("z", z)
    centred = z - z.flatten(0, -2).mean(0)
    total = centred.square().sum(-1).mean().item()
    if total <= 4 * precision**2 * z.square().sum(-1).mean().item():
        raise ValueError("z has no spread: the encoder has collapsed, and D_LSBD is undefined")
    contributions, chosen = [], []
    for axis, factor in enumerate(factors):
        varying = z - z.mean(axis, keepdim=True)
        if varying.square().sum(-1).mean().item() <= max(ROUNDING, precision) * total:
            contribution, choice = 1.0, None
        elif factor is None:
            contribution, choice = _circle(varying, axis, max_weight)
        else:
            contribution, choice = _given(varying, axis, factor)
        contributions.append(contribution)
        chosen.append(choice)
    return Disentanglement(sum(contributions), tuple(contributions), tuple(chosen))


def dispersion(z: Tensor, matrices: Tensor) -> float:
    r"""E \|ρ(g)⁻¹ z − E ρ(g')⁻¹ z'\|² / E \|z\|² for latents z = h(g·x₀) and a ρ that is known.

    What D_LSBD is the least of, over ρ. For orthogonal ρ it is in [0, 1].

    Arguments:
        z: of shape ``(*, s)``.
        matrices: ρ(g), of shape ``(*, s, s)``.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or the latents are all zero.
    """
    if matrices.shape != (*z.shape, z.shape[-1]):
        raise ValueError(
            f"matrices has shape {tuple(matrices.shape)}: expected {(*z.shape, z.shape[-1])}, one "
            "for every latent of z"
        )
    z, matrices = finite("z", z), finite("matrices", matrices)
    total = z.square().sum(-1).mean().item()
    if total == 0:
        raise ValueError("z is zero everywhere: its dispersion is undefined")
    back = torch.linalg.solve(matrices, z.unsqueeze(-1)).squeeze(-1).flatten(0, -2)
    return (back - back.mean(0)).square().sum(-1).mean().item() / total


def _require_room(varying: Tensor, size: int) -> None:
    if varying.shape[-1] < size:
        raise ValueError(
            f"z has {varying.shape[-1]} latent dimensions: expected at least {size}, the size of a "
            "representation of each factor"
        )


def _components(varying: Tensor, size: int) -> Tensor:
    r"""The leading principal components, scaled to E \|y\|² = 1 in equal parts, ``(*, size)``.

    Components that are rounding alone are left at zero.
    """
    flat = varying.flatten(0, -2)
    spectrum, axes = torch.linalg.eigh(flat.mT @ flat / len(flat))
    spectrum, axes = spectrum[-size:], axes[:, -size:]
    kept = spectrum > ROUNDING * spectrum[-1]
    scale = torch.where(kept, spectrum, 1.0).rsqrt() * kept / kept.double().sum().sqrt()
    return varying @ (axes * scale)


def _circle(varying: Tensor, axis: int, max_weight: int) -> tuple[float, int]:
    r"""1 − \|E e^{−iωθ} y\|² for the best ω, with the plane as complex numbers."""
    n = varying.shape[axis]
    if n <= 2 * max_weight:
        raise ValueError(
            f"z has {n} angles on axis {axis}: expected more than {2 * max_weight}, so that "
            f"weights up to {max_weight} differ on them; take a smaller max_weight or more angles"
        )
    _require_room(varying, 2)
    plane = torch.view_as_complex(_components(varying, 2).contiguous())
    profile = plane.movedim(axis, 0).reshape(n, -1).mean(1)
    power = torch.fft.fft(profile).abs().square() / n**2
    weights = torch.arange(1, max_weight + 1, device=power.device)
    shared = torch.maximum(power[weights], power[-weights])
    best = int(shared.argmax())
    return min(max(1 - shared[best].item(), 0.0), 1.0), best + 1


def _given(varying: Tensor, axis: int, factor: GivenFactor) -> tuple[float, int]:
    if not factor.irreps:
        raise ValueError(f"factors[{axis}].irreps is empty: expected one representation or more")
    found, smallest = [], 0
    for k, rho in enumerate(factor.irreps):
        matrices = finite(f"factors[{axis}].irreps[{k}]", rho(factor.actions)).to(varying.device)
        n, s = varying.shape[axis], matrices.shape[-1]
        if matrices.shape != (n, s, s):
            raise ValueError(
                f"factors[{axis}].irreps[{k}] gives shape {tuple(matrices.shape)}: expected "
                f"({n}, s, s), a matrix for each point of that axis of z"
            )
        if (matrices @ matrices.mT - torch.eye(s).to(matrices)).abs().max() > 1e-3:
            raise ValueError(
                f"factors[{axis}].irreps[{k}] is not orthogonal: expected the irrep in a basis in "
                "which it is"
            )
        smallest = min(smallest or s, s)
        if s > varying.shape[-1]:
            continue
        y = _components(varying, s).movedim(axis, 0).reshape(n, -1, s)
        found.append((_best_dispersion(y, matrices), k))
    _require_room(varying, smallest)
    return min(found)


def _best_dispersion(y: Tensor, matrices: Tensor) -> float:
    r"""min_B 1 − \|E ρᵀ B y\|² / E \|B y\|², for y of shape ``(n, m, s)`` and ρ ``(n, s, s)``.

    y is given a further component, the constant 1, so that B is affine. With C_{jia} = E ρ_ij y_a
    and S = E y yᵀ, it is 1 minus the largest eigenvalue of C S⁻¹ Cᵀ, contracted over i and a.
    """
    n, m = y.shape[:2]
    y = torch.cat([y, torch.ones_like(y[..., :1])], -1)
    correlation = torch.einsum("nij,na->jia", matrices, y.mean(1)) / n
    flat = y.flatten(0, 1)
    inverse = torch.linalg.pinv(flat.mT @ flat / (n * m), rtol=ROUNDING, hermitian=True)
    shared = torch.einsum("jia,ab,kib->jk", correlation, inverse, correlation)
    return min(max(1 - torch.linalg.eigvalsh(shared)[-1].item(), 0.0), 1.0)
