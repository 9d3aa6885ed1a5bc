r"""Chains of steps: one element after the other, and the one element that they compose to.

The elements g₁, …, g_K of ``groups.ScaleTranslation(n)`` that a process took, oldest first, are a
tensor of shape ``(*, K, n + 1)``. Their product, newest on the left, is again one scale and one
translation,

    g_K … g₁ = (w₀, Σ_k w_k b_k),        w_k = s_K … s_{k+1},

so that a whole chain acts at the cost of one step, and products of neighbours may be taken in any
order: by halves, in log₂ K rounds (Blelloch, *Prefix sums and their applications*, 1990).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from manifold_ae.groups import ScaleTranslation
from manifold_ae.groups.base import require_values

__all__ = ["Chain", "compose", "condition", "cumulative", "invert", "replay"]


@dataclass(frozen=True, eq=False, repr=False)
class Chain:
    """What a process did: the times it visited, the states there, and the elements in between.

    Args:
        times: t₀, …, t_K: rising where noise was added, falling where it was removed.
        states: x at these times, of shape ``(*, K + 1, n)``.
        elements: g₁, …, g_K, of shape ``(*, K, n + 1)``, with x_{k} = g_k · x_{k−1}.

    Raises:
        ValueError: if the lengths do not fit.
    """

    times: tuple[int, ...]
    states: Tensor
    elements: Tensor

    def __post_init__(self) -> None:
        group = _group(self.elements)
        wanted = (*self.elements.shape[:-2], self.elements.shape[-2] + 1, group.n)
        if tuple(self.states.shape) != wanted or len(self.times) != wanted[-2]:
            raise ValueError(
                f"states has shape {tuple(self.states.shape)} at {len(self.times)} times: expected "
                f"{wanted} at {wanted[-2]}, one state more than there are elements"
            )

    @property
    def group(self) -> ScaleTranslation:
        """The group that the elements are of."""
        return _group(self.elements)

    @property
    def start(self) -> Tensor:
        """Where it began, of shape ``(*, n)``."""
        return self.states[..., 0, :]

    @property
    def end(self) -> Tensor:
        """Where it ended, of shape ``(*, n)``."""
        return self.states[..., -1, :]

    @property
    def element(self) -> Tensor:
        """The one element that takes start to end, of shape ``(*, n + 1)``."""
        return compose(self.elements)

    @property
    def condition(self) -> Tensor:
        """How much ``element`` enlarges roundings at the start, of shape ``(*)``."""
        return condition(self.elements, self.start)

    def __len__(self) -> int:
        return self.elements.shape[-2]

    def __repr__(self) -> str:
        return (
            f"Chain(times={self.times[0]}…{self.times[-1]}, steps={len(self)}, "
            f"batch={tuple(self.states.shape[:-2])}, group={self.group!r})"
        )

    def inverse(self) -> "Chain":
        """The chain that goes back, by the inverse elements in the opposite order."""
        return Chain(self.times[::-1], self.states.flip(-2), invert(self.elements))


def compose(elements: Tensor) -> Tensor:
    """g_K … g₁, of shape ``(*, n + 1)``, for elements of shape ``(*, K, n + 1)``, oldest first.

    Not by K products, but as the weighted sum above: one pass over the elements, no division.

    Raises:
        ValueError: if there is no element, a scale is not positive, or the product is not finite.

    Example:
        >>> elements = torch.tensor([[2.0, 1.0], [3.0, 0.0]])  # x ↦ 2x + 1, then x ↦ 3x
        >>> compose(elements)
        tensor([6., 3.])
    """
    _group(elements)
    first, weights = _weights(elements)
    with torch.autocast(elements.device.type, enabled=False):
        # The scales are summed with the translations: to leave them out would copy all the rest.
        summed = (weights.unsqueeze(-2) @ elements).squeeze(-2)
    found = torch.cat([first, summed[..., 1:]], -1)
    require_values(
        found.isfinite(),
        lambda: (
            "elements have a product that is not finite: expected finite translations, and scales "
            f"whose product {found.dtype} holds; take float64, or fewer elements"
        ),
    )
    return found


def _weights(elements: Tensor) -> tuple[Tensor, Tensor]:
    """w₀ of shape ``(*, 1)``, and w₁, …, w_K of shape ``(*, K)``."""
    later = torch.cumprod(elements[..., 0].flip(-1), -1).flip(-1)  # s_K … s_k
    return later[..., :1], torch.cat([later[..., 1:], torch.ones_like(later[..., :1])], -1)


def condition(elements: Tensor, x: Tensor) -> Tensor:
    r"""How much the product of a chain enlarges roundings at x, at least 1, of shape ``(*)``.

    It is the condition number of the sum w₀ x + Σ_k w_k b_k, of which g_K … g₁ x is the value:

        κ = (w₀ \|x\| + Σ_k w_k \|b_k\|)/\|g_K … g₁ x\|.

    A rounding of x alone, or of the product's translation, is enlarged as much, whatever the order
    of summation: where scales grow, as from noise to data, elements of float64 are as good as
    κ · 10⁻¹⁶. The way back has a κ of about 1. Infinite where the value is 0.

    Args:
        elements: of shape ``(*, K, n + 1)``, oldest first.
        x: where the product acts, of shape ``(*, n)``.

    Raises:
        ValueError: if there is no element, or x has another size.

    Example:
        >>> elements = torch.tensor([[100.0, -99.0], [1.0, 0.0]])
        >>> condition(elements, torch.ones(1))
        tensor(199.)
    """
    group = _group(elements)
    first, weights = _weights(elements)
    end = torch.linalg.vector_norm(group.act(compose(elements), x), dim=-1)
    sizes = torch.linalg.vector_norm(elements[..., 1:], dim=-1)
    terms = first.squeeze(-1) * torch.linalg.vector_norm(x, dim=-1) + (weights * sizes).sum(-1)
    # Where all terms vanish there is nothing to round.
    ratio = torch.where(end > 0, terms / end, torch.where(terms > 0, torch.inf, 1.0))
    return ratio.clamp_min(1.0)


def cumulative(elements: Tensor) -> Tensor:
    """g_k … g₁ for k = 1, …, K, of the shape of the elements ``(*, K, n + 1)``: all prefixes.

    By an associative scan: products of neighbours, the prefixes of these, and those in between.
    That is 2K products in 2 log₂ K batched rounds, and no division, which would lose the digits
    that the scales gain.

    Raises:
        ValueError: if there is no element.
    """
    return _scan(_group(elements), elements)


def _scan(group: ScaleTranslation, g: Tensor) -> Tensor:
    count = g.shape[-2]
    if count == 1:
        return g
    older, newer = g[..., 0::2, :], g[..., 1::2, :]
    pairs = _scan(group, group.compose(newer, older[..., : count // 2, :]))  # g₂g₁, g₄g₃g₂g₁, …
    later = group.compose(older[..., 1:, :], pairs[..., : (count - 1) // 2, :])
    result = torch.empty_like(g)
    result[..., 0, :] = g[..., 0, :]
    result[..., 1::2, :] = pairs
    result[..., 2::2, :] = later
    return result


def replay(elements: Tensor, x: Tensor) -> Tensor:
    """The states that elements lead to from x, one after the other, x among them.

    Args:
        elements: of shape ``(*, K, n + 1)``, oldest first.
        x: where to begin, of shape ``(*, n)``; not necessarily where the elements were made.

    Returns:
        Tensor: of shape ``(*, K + 1, n)``.

    Raises:
        ValueError: if there is no element, or x has another size.
    """
    group = _group(elements)
    states = [x]
    for g in elements.unbind(-2):
        states.append(group.act(g, states[-1]))
    return torch.stack(torch.broadcast_tensors(*states), -2)


def invert(elements: Tensor) -> Tensor:
    """g_K⁻¹, …, g₁⁻¹: the chain that goes back, of the shape of the elements.

    It undoes these very elements: the translations that were recorded, noise among them. Laws of
    noise have no inverses (see ``GaussianAffineLaw``), so that without the record there is a way
    back for η = 0 alone, ``samplers.ddim_inversion``.

    Raises:
        ValueError: if there is no element, or one without an inverse.
    """
    return _group(elements).inverse(elements.flip(-2))


def stack(times: Sequence[int], states: Sequence[Tensor], elements: Sequence[Tensor]) -> Chain:
    """The chain of states ``(*, n)`` and elements ``(*, n + 1)`` in turn."""
    return Chain(tuple(times), torch.stack(list(states), -2), torch.stack(list(elements), -2))


def _group(elements: Tensor) -> ScaleTranslation:
    """ScaleTranslation(n), if elements are a sequence of its elements."""
    if elements.dim() < 2 or elements.shape[-1] < 2 or elements.shape[-2] < 1:
        raise ValueError(
            f"elements has shape {tuple(elements.shape)}: expected (*, K, n + 1), at least one "
            "element of ScaleTranslation(n), along the second axis from the end"
        )
    if not elements.is_floating_point():
        raise ValueError(f"elements has dtype {elements.dtype}: expected floating point")
    scales = elements[..., 0]
    require_values(
        scales > 0,
        lambda: f"elements have scales from {scales.min().item():g}, not positive: expected s > 0",
    )
    return ScaleTranslation(elements.shape[-1] - 1)
