"""Finite groups as values: elements are the integers 0 … order − 1, and 0 is the identity."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups import finite
from manifold_ae.groups.base import Group, require_values
from manifold_ae.numerics import built_once

__all__ = ["MAX_ORDER", "FiniteGroup"]

#: Tables are kept whole: 200 MB at this order.
MAX_ORDER = 5000


class FiniteGroup(Group):
    """A finite group by its table, ``table[g, h] = gh``; elements of shape ``(*)``, int64.

    Its matrices are those given, or else permutations: ``act`` on x of shape ``(*, order)`` moves
    the entry at h to gh (the regular representation).

    Args:
        table: integers of shape ``(order, order)``; 0 is the identity.
        matrices: of shape ``(order, m, m)``, one to one, that of gh the product of those of g and
            h.

    Raises:
        ValueError: if the table is not that of a group, or the matrices do not follow it.

    Example:
        >>> G = FiniteGroup([[0, 1], [1, 0]])
        >>> G.compose(torch.tensor(1), torch.tensor([0, 1]))
        tensor([1, 0])
    """

    dim = 0
    element_shape = ()
    is_compact = True

    def __init__(
        self, table: Sequence[Sequence[int]] | np.ndarray, matrices: np.ndarray | None = None
    ) -> None:
        checked = _checked_table(table)
        generators = _generators(checked)
        _check_associative(checked, generators)
        if matrices is not None:
            matrices = _checked_matrices(matrices, checked, generators)
        self._keep(checked, matrices, generators)

    def _keep(
        self, table: np.ndarray, matrices: np.ndarray | None, generators: tuple[int, ...]
    ) -> None:
        """Become the group of a table, and matrices, that are known to be right."""
        self._table, self._matrices, self._generators = table, matrices, generators
        content = hashlib.sha256(table.tobytes())
        content.update(b"" if matrices is None else matrices.tobytes())
        self._value = (type(self), self.order, self.degree, content.digest())

    @classmethod
    def from_matrices(cls, generators: Sequence[np.ndarray]) -> "FiniteGroup":
        """The group that square matrices generate; see ``groups.finite.generate``.

        Raises:
            ValueError: if they generate none of at most ``finite.MAX_ORDER`` elements.
        """
        elements = finite.generate(generators)
        return FiniteGroup(products(elements), elements)

    # ---- what it is -------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(self, "_value"):
            raise AttributeError(f"{self!r} is a value: {name} cannot be set, make another group")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FiniteGroup) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        size = "" if self._matrices is None else f", matrices of size {self.degree}"
        return f"FiniteGroup(<table of order {self.order}{size}>)"

    @property
    def spec(self) -> str:
        raise ValueError(f"{self!r} has no name; groups.parse reads those of groups.names()")

    @property
    def order(self) -> int:
        """How many elements there are."""
        return len(self._table)

    @property
    def table(self) -> Tensor:
        """gh for all g and h, of shape ``(order, order)``, int64."""
        return torch.from_numpy(self._table.copy())

    @property
    def generators(self) -> tuple[int, ...]:
        """A few elements, of which all are products."""
        return self._generators

    @property
    def is_abelian(self) -> bool:  # type: ignore[override]
        return bool((self._table == self._table.T).all())

    @property
    def degree(self) -> int:  # type: ignore[override]
        return self.order if self._matrices is None else self._matrices.shape[-1]

    # ---- the group --------------------------------------------------------------------------

    def identity(
        self, *batch_shape: int, dtype: torch.dtype | None = None, device: Any = None
    ) -> Tensor:
        """Zeros of shape ``batch_shape``; ``dtype`` is that of matrices, elements are int64."""
        return torch.zeros(batch_shape, dtype=torch.int64, device=device)

    def matrix(self, g: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Matrices of shape ``(*, m, m)``, one to one, with matrix(gh) = matrix(g) matrix(h)."""
        self._require_element("g", g)
        dtype = dtype or torch.get_default_dtype()
        if self._matrices is not None:
            return _on(self, "matrices", g.device, dtype)[g.long()]
        moved = _on(self, "table", g.device)[g.long()]  # in column h, a one in row gh
        return torch.nn.functional.one_hot(moved, self.order).mT.to(dtype)

    def _matrix(self, g: Tensor) -> Tensor:
        return self.matrix(g)

    def _compose(self, g: Tensor, h: Tensor) -> Tensor:
        return _on(self, "table", g.device)[g.long(), h.long()]

    def _inverse(self, g: Tensor) -> Tensor:
        return _on(self, "inverses", g.device)[g.long()]

    def _act(self, g: Tensor, x: Tensor) -> Tensor:
        if self._matrices is not None:
            return (self.matrix(g, dtype=x.dtype) * x.unsqueeze(-2)).sum(-1)
        # (g·x)[h] = x[g⁻¹h]
        index = _on(self, "table", g.device)[self._inverse(g)]
        shape = torch.broadcast_shapes(index.shape, x.shape)
        return torch.gather(x.expand(shape), -1, index.expand(shape))

    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        """Elements drawn uniformly, int64 whatever ``dtype`` is."""
        return torch.randint(self.order, sample_shape, generator=generator, device=device)

    def _require_element(self, name: str, g: Tensor) -> None:
        if not isinstance(g, Tensor):
            raise TypeError(f"{name} is of type {type(g).__name__}: {self!r} takes tensors")
        if g.is_floating_point() or g.is_complex() or g.dtype == torch.bool:
            raise ValueError(
                f"{name} has dtype {g.dtype}; elements of {self!r} are integers, as int64"
            )
        require_values(
            (g >= 0) & (g < self.order),
            lambda: f"{name} has entries outside 0 … {self.order - 1}, the elements of {self!r}",
        )


@built_once
def _on(group: FiniteGroup, what: str, device: torch.device, dtype: Any = torch.int64) -> Tensor:
    """The table, the inverses or the matrices of a group, on a device."""
    array = (group._table == 0).argmax(1) if what == "inverses" else getattr(group, f"_{what}")
    return torch.from_numpy(array).to(device, dtype)


def check_order(name: str, n: Any, most: int = finite.MAX_ORDER) -> None:
    """Raise a ValueError that says what was given unless n is an int from 1 to ``most``."""
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= most:
        raise ValueError(f"{name}: n must be an integer from 1 to {most}, got {n!r}")


def _checked_table(table: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    try:
        array = np.array(table)
    except ValueError as error:
        raise ValueError(f"table: {error}; expected rows of one length") from error
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not len(array):
        raise ValueError(f"table has shape {array.shape}: expected (order, order)")
    n = len(array)
    if n > MAX_ORDER:
        raise ValueError(f"table is that of {n} elements: expected at most {MAX_ORDER}")
    if array.dtype.kind not in "iu":
        raise ValueError(f"table has dtype {array.dtype}: expected integers from 0 to {n - 1}")
    every = np.arange(n)
    if not ((array[0] == every).all() and (array[:, 0] == every).all()):
        raise ValueError("table: element 0 is not the identity; number the elements so that it is")
    for axis, place in ((1, "row"), (0, "column")):
        wrong = (np.sort(array, axis) != (every if axis else every[:, None])).any(axis)
        if wrong.any():
            k = int(wrong.argmax())
            raise ValueError(
                f"table: {place} {k} does not hold every element from 0 to {n - 1} once, so that "
                "products cannot be undone"
            )
    return array.astype(np.int64)


def _generators(table: np.ndarray) -> tuple[int, ...]:
    """Elements, each the first that is no product of those before, of which all are products."""
    chosen: list[int] = []
    reached = np.zeros(len(table), dtype=bool)
    reached[0] = True
    while not reached.all():
        chosen.append(int(reached.argmin()))
        front = np.flatnonzero(reached)
        while len(front):
            found = np.unique(table[front][:, chosen])
            front = found[~reached[found]]
            reached[front] = True
    return tuple(chosen)


def _check_associative(table: np.ndarray, generators: tuple[int, ...]) -> None:
    """(x g) y = x (g y) for all x and y, for generators g: Light's test, enough for all g."""
    for g in generators:
        wrong = table[table[:, g]] != table[:, table[g]]
        if wrong.any():
            x, y = (int(k) for k in np.argwhere(wrong)[0])
            raise ValueError(
                f"table: ({x}·{g})·{y} = {table[table[x, g], y]}, but {x}·({g}·{y}) = "
                f"{table[x, table[g, y]]}: the product is not associative"
            )


def products(elements: np.ndarray) -> np.ndarray:
    """The table of a group of matrices ``(order, m, m)``: for each product, which element it is."""
    flat = elements.reshape(len(elements), -1)
    rows = []
    for element in elements:
        moved = (element @ elements).reshape(flat.shape)
        square = (moved**2).sum(1)[:, None] + (flat**2).sum(1) - 2 * moved @ flat.T
        rows.append(square.argmin(1))
    return np.stack(rows)


def _checked_matrices(
    matrices: np.ndarray, table: np.ndarray, generators: tuple[int, ...]
) -> np.ndarray:
    array = np.array(matrices, dtype=np.float64)
    n = len(table)
    if array.ndim != 3 or array.shape[0] != n or array.shape[1] != array.shape[2]:
        raise ValueError(f"matrices have shape {array.shape}: expected ({n}, m, m), one an element")
    if not np.isfinite(array).all():
        raise ValueError("matrices have entries that are not finite")
    away = np.abs(array - np.eye(array.shape[-1])).reshape(n, -1).max(1)
    if away[0] > finite.TOLERANCE:
        raise ValueError("matrices: that of element 0, the identity, is not the identity matrix")
    # With those of the generators, all products follow; and then a matrix is met twice only if
    # that of the identity is.
    for g in generators:
        if np.abs(array[g] @ array - array[table[g]]).max() > finite.TOLERANCE:
            raise ValueError(f"matrices: that of {g} and another do not multiply as the table says")
    if (away[1:] <= finite.TOLERANCE).any():
        other = int(away[1:].argmin()) + 1
        raise ValueError(f"matrices: those of 0 and {other} are the same; expected one to one")
    return array
