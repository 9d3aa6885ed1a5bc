"""Products of groups: of Lie groups, or of finite ones."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups.base import Group, LieGroup, require_trailing
from manifold_ae.groups.finite_group import MAX_ORDER, FiniteGroup
from manifold_ae.groups.matrix_group import block_diagonal

__all__ = ["Product"]


class Product:
    """G × H × …, all of its factors Lie groups, or all of them finite.

    Of Lie groups, an element is one flat axis with the factors' coordinates in turn, as ``split``
    and ``join`` take it apart and put it together; X is that of the factors in turn, and so is the
    vector that ``act`` moves. Of finite groups, an element is an integer, that of the last factor
    counting fastest. A product among the factors is taken apart.

    Raises:
        ValueError: for no factors, Lie groups beside finite ones, or too large an order.

    Example:
        >>> from manifold_ae.groups import SO2, SO3, Cyclic
        >>> G = Product(SO2(), SO3())
        >>> G.dim, G.element_shape, G.degree
        (4, (13,), 5)
        >>> Product(Cyclic(2), Cyclic(3)).order
        6
    """

    factors: tuple[Any, ...]

    def __new__(cls, *factors: Group) -> Any:
        if not factors or not all(isinstance(factor, Group) for factor in factors):
            raise ValueError(f"factors = {factors!r}: expected one group or more")
        if all(isinstance(factor, LieGroup) for factor in factors):
            return object.__new__(_LieProduct)
        if all(isinstance(factor, FiniteGroup) for factor in factors):
            return object.__new__(_FiniteProduct)
        raise ValueError(
            f"factors = {factors!r}: a Lie group beside a finite one, whose elements are integers; "
            "put a torus in the place of a cyclic group, or keep two groups and act with both"
        )

    def __getnewargs__(self) -> tuple[Group, ...]:
        return self.factors

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.factors))})"

    @property
    def spec(self) -> str:
        return "*".join(factor.spec for factor in self.factors)


def _flattened(factors: tuple[Group, ...]) -> tuple[Any, ...]:
    flat: list[Group] = []
    for factor in factors:
        flat += factor.factors if isinstance(factor, Product) else [factor]
    return tuple(flat)


class _LieProduct(Product, LieGroup):
    def __init__(self, *factors: LieGroup) -> None:
        object.__setattr__(self, "factors", _flattened(factors))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self!r} is a value: {name} cannot be set, make another group")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LieProduct) and self.factors == other.factors

    def __hash__(self) -> int:
        return hash((Product, self.factors))

    @property
    def _sizes(self) -> list[int]:
        return [math.prod(factor.element_shape) for factor in self.factors]

    @property
    def dim(self) -> int:  # type: ignore[override]
        return sum(factor.dim for factor in self.factors)

    @property
    def element_shape(self) -> tuple[int]:  # type: ignore[override]
        return (sum(self._sizes),)

    @property
    def degree(self) -> int:  # type: ignore[override]
        return sum(factor.degree for factor in self.factors)

    @property
    def matrix_size(self) -> int:
        return sum(factor.matrix_size for factor in self.factors)

    @property
    def is_compact(self) -> bool:  # type: ignore[override]
        return all(factor.is_compact for factor in self.factors)

    @property
    def is_abelian(self) -> bool:  # type: ignore[override]
        return all(factor.is_abelian for factor in self.factors)

    @property
    def parts(self) -> tuple[int, ...]:
        return tuple(part for factor in self.factors for part in factor.parts)

    @property
    def periods(self) -> tuple[tuple[float, ...], ...]:  # type: ignore[override]
        found, before = [], 0
        for factor in self.factors:
            after = self.dim - before - factor.dim
            found += [(0.0,) * before + period + (0.0,) * after for period in factor.periods]
            before += factor.dim
        return tuple(found)

    # ---- coordinates of the factors ---------------------------------------------------------

    def split(self, g: Tensor) -> tuple[Tensor, ...]:
        """The factors' elements, of shapes ``(*, *factor.element_shape)``."""
        self._require_element("g", g)
        return tuple(
            part.unflatten(-1, factor.element_shape) if len(factor.element_shape) > 1 else part
            for factor, part in zip(self.factors, g.split(self._sizes, -1), strict=True)
        )

    def join(self, parts: Iterable[Tensor]) -> Tensor:
        """The element from those of the factors; the inverse of ``split``."""
        flat = [
            part.flatten(part.dim() - len(factor.element_shape))
            for factor, part in zip(self.factors, parts, strict=True)
        ]
        return _joined(flat)

    def split_coordinates(self, X: Tensor) -> tuple[Tensor, ...]:
        """The factors' parts of an element of the algebra, of shapes ``(*, factor.dim)``."""
        self._require_coordinates("X", X)
        return X.split([factor.dim for factor in self.factors], -1)

    def split_vector(self, x: Tensor) -> tuple[Tensor, ...]:
        """What each factor moves of a vector that ``act`` moves, ``(*, factor.degree)``."""
        require_trailing(self, "x", x, (self.degree,))
        return x.split([factor.degree for factor in self.factors], -1)

    def _each(self, function: Callable[..., Tensor], *arguments: Iterable[Tensor]) -> list[Tensor]:
        """A map of every factor, applied to its parts."""
        return [function(*part) for part in zip(self.factors, *arguments, strict=True)]

    # ---- the group --------------------------------------------------------------------------

    def identity(
        self, *batch_shape: int, dtype: torch.dtype | None = None, device: Any = None
    ) -> Tensor:
        return self.join(
            factor.identity(*batch_shape, dtype=dtype, device=device) for factor in self.factors
        )

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        return self.join(
            factor.random(*sample_shape, generator=generator, dtype=dtype, device=device)
            for factor in self.factors
        )

    def _compose(self, g: Tensor, h: Tensor) -> Tensor:
        return self.join(self._each(lambda G, g, h: G.compose(g, h), self.split(g), self.split(h)))

    def _inverse(self, g: Tensor) -> Tensor:
        return self.join(self._each(lambda G, g: G.inverse(g), self.split(g)))

    def _matrix(self, g: Tensor) -> Tensor:
        return block_diagonal(self._each(lambda G, g: G.matrix(g), self.split(g)))

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        moved = self._each(lambda G, g, x: G.act(g, x), self.split(g), self.split_vector(x))
        return _joined(moved)

    def _exp(self, X: Tensor) -> Tensor:
        return self.join(self._each(lambda G, X: G.exp(X), self.split_coordinates(X)))

    def _log(self, g: Tensor) -> Tensor:
        return torch.cat(self._each(lambda G, g: G.log(g), self.split(g)), -1)

    def _has_log(self, g: Tensor) -> Tensor:
        return torch.stack(self._each(lambda G, g: G.has_log(g), self.split(g))).all(0)

    def _hat(self, X: Tensor) -> Tensor:
        return block_diagonal(self._each(lambda G, X: G.hat(X), self.split_coordinates(X)))

    def _vee(self, A: Tensor) -> Tensor:
        parts, before = [], 0
        for factor in self.factors:
            inside = slice(before, before + factor.matrix_size)
            parts.append(factor.vee(A[..., inside, inside]))
            before += factor.matrix_size
        return torch.cat(parts, -1)

    def _bracket(self, X: Tensor, Y: Tensor) -> Tensor:
        parts = self.split_coordinates(X), self.split_coordinates(Y)
        return torch.cat(self._each(lambda G, X, Y: G.bracket(X, Y), *parts), -1)

    def _adjoint(self, g: Tensor) -> Tensor:
        return block_diagonal(self._each(lambda G, g: G.adjoint(g), self.split(g)))


def _joined(parts: list[Tensor]) -> Tensor:
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], -1)


class _FiniteProduct(Product, FiniteGroup):
    def __init__(self, *factors: FiniteGroup) -> None:
        self.factors = _flattened(factors)
        self._orders = tuple(factor.order for factor in self.factors)
        order = math.prod(self._orders)
        if order > MAX_ORDER:
            raise ValueError(
                f"a product of order {order}: a group by its table has at most {MAX_ORDER} "
                "elements; put a torus in the place of cyclic groups"
            )
        digits = np.unravel_index(np.arange(order), self._orders)
        columns = [
            factor._table[np.ix_(digit, digit)]
            for factor, digit in zip(self.factors, digits, strict=True)
        ]
        table = np.asarray(np.ravel_multi_index(columns, self._orders))
        steps = [math.prod(self._orders[k + 1 :]) for k in range(len(self._orders))]
        generators = [
            step * g
            for factor, step in zip(self.factors, steps, strict=True)
            for g in factor.generators
        ]
        matrices = _block_matrices(self.factors, digits)
        self._keep(table, matrices, tuple(sorted(generators)))

    def split(self, g: Tensor) -> tuple[Tensor, ...]:
        """The factors' elements, of shape ``(*)``."""
        self._require_element("g", g)
        return torch.unravel_index(g.long(), self._orders)

    def join(self, parts: Iterable[Tensor]) -> Tensor:
        """The element from those of the factors; the inverse of ``split``."""
        total: Tensor | int = 0
        for factor, part in zip(self.factors, parts, strict=True):
            factor._require_element("part", part)
            total = total * factor.order + part.long()
        return torch.as_tensor(total)


def _block_matrices(factors: tuple[FiniteGroup, ...], digits: tuple[np.ndarray, ...]) -> np.ndarray:
    blocks = [
        factor.matrix(torch.from_numpy(digit), dtype=torch.float64)
        for factor, digit in zip(factors, digits, strict=True)
    ]
    return block_diagonal(blocks).numpy()
