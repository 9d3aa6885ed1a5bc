r"""Given real representations of groups: homomorphisms ρ into invertible matrices.

A representation is called on *actions*: coordinates X of the Lie algebra, of shape ``(*, dim)``,
of which it takes ρ(exp X), or elements of a finite group, integers of shape ``(*)``. ``rho.of(g)``
takes elements of either. The matrices act on columns, products newest on the left:
ρ(gh) = ρ(g) ρ(h). Representations are immutable values; those learned are in ``groups.learned``,
the irreducible ones in ``groups.irreducible``.
"""

import copy
from abc import ABC, abstractmethod
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from manifold_ae.groups.base import Group, LieGroup
from manifold_ae.groups.finite_group import FiniteGroup

__all__ = ["Defining", "Factor", "Representation", "Sum", "TensorProduct", "Trivial"]


class Representation(ABC):
    """A homomorphism of a group into the invertible matrices of one size.

    A subclass states ``group``, ``size`` and ``_key`` (its parameters, which decide equality), and
    writes ``of``; ``__call__`` where actions have a shorter way than through their element.
    """

    group: Group
    size: int
    #: Of matrices where elements are integers; None for torch's default one.
    dtype: torch.dtype | None = None

    @property
    @abstractmethod
    def _key(self) -> tuple[Any, ...]:
        """The parameters that the constructor took, in its order."""

    @abstractmethod
    def of(self, g: Tensor) -> Tensor:
        """ρ(g) of shape ``(*, size, size)``, for elements g of shape ``(*, *element_shape)``."""

    def __call__(self, action: Tensor) -> Tensor:
        """ρ of actions, of shape ``(*, size, size)``: ρ(exp X), or ρ(g) of a finite group.

        Of the dtype of X; where actions are integers, as ``in_dtype`` says.
        """
        return self.of(self.group.exp(action) if isinstance(self.group, LieGroup) else action)

    def in_dtype(self, dtype: torch.dtype) -> Self:
        """The same representation, whose matrices are of that dtype where actions are integers.

        Equal to this one. Where actions are coordinates, theirs decides.
        """
        found = copy.copy(self)
        found.dtype = dtype
        return found

    def character(self, action: Tensor) -> Tensor:
        """χ = tr ρ of actions, of shape ``(*)``."""
        return torch.diagonal(self(action), dim1=-2, dim2=-1).sum(-1)

    def generators(self) -> Tensor:
        """The matrices dρ(eᵢ) of the basis of the Lie algebra, ``(dim, size, size)``, float64.

        Empty, (0, size, size), for a finite group.
        """
        if not self.group.dim:
            return torch.zeros(0, self.size, self.size, dtype=torch.float64)
        zero = torch.zeros(self.group.dim, dtype=torch.float64)
        slopes = torch.autograd.functional.jacobian(self, zero)
        assert isinstance(slopes, Tensor)
        return slopes.movedim(-1, 0)

    def generator(self, X: Tensor) -> Tensor:
        """dρ(X) of shape ``(*, size, size)``, for coordinates X of shape ``(*, dim)``.

        Raises:
            ValueError: of a finite group, which has no Lie algebra.
        """
        if not isinstance(self.group, LieGroup):
            raise ValueError(f"{self.group!r} is finite and has no Lie algebra: call rho on g")
        self.group._require_coordinates("X", X)
        basis = self.generators().to(X)
        return (X[..., None, None] * basis).sum(-3)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._key))})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key == other._key  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self._key))


class Trivial(Representation):
    """ρ(g) = I, of any size."""

    def __init__(self, group: Group, size: int = 1) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"size must be an integer of at least 1, got {size!r}")
        self.group, self.size = group, size

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.group, self.size

    def of(self, g: Tensor) -> Tensor:
        dtype = self.dtype or torch.get_default_dtype()
        dtype = g.dtype if g.is_floating_point() else dtype
        batch = g.shape[: g.dim() - len(self.group.element_shape)]
        return torch.eye(self.size, dtype=dtype, device=g.device).repeat(*batch, 1, 1)


class Defining(Representation):
    """The matrices that a group is given by: ρ(g) = ``group.matrix(g)``."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.size = group.matrix(group.identity()).shape[-1]

    @property
    def _key(self) -> tuple[Any, ...]:
        return (self.group,)

    def of(self, g: Tensor) -> Tensor:
        if isinstance(self.group, FiniteGroup):
            return self.group.matrix(g, dtype=self.dtype)
        return self.group.matrix(g)


class _Compound(Representation):
    """Several representations of one group, put together."""

    def __init__(self, *parts: Representation) -> None:
        if not parts or not all(isinstance(part, Representation) for part in parts):
            raise ValueError(f"parts = {parts!r}: expected one representation or more")
        self.parts, self.group = parts, parts[0].group
        for part in parts:
            if part.group != self.group:
                raise ValueError(
                    f"representations of {self.group!r} and of {part.group!r}: expected one group; "
                    "Factor(product, k, rho) makes one of a product from one of its factor k"
                )

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.parts

    def in_dtype(self, dtype: torch.dtype) -> Self:
        found = super().in_dtype(dtype)
        found.parts = tuple(part.in_dtype(dtype) for part in self.parts)
        return found

    def of(self, g: Tensor) -> Tensor:
        return self._joined([part.of(g) for part in self.parts])

    def __call__(self, action: Tensor) -> Tensor:
        return self._joined([part(action) for part in self.parts])

    @abstractmethod
    def _joined(self, matrices: list[Tensor]) -> Tensor:
        """The matrix from those of the parts."""


class Sum(_Compound):
    """The direct sum ρ₁ ⊕ ρ₂ ⊕ …: block-diagonal matrices.

    Example:
        >>> from manifold_ae.groups import SO2, irrep
        >>> rho = Sum(irrep(SO2(), 1), irrep(SO2(), 2), Trivial(SO2()))
        >>> rho(torch.zeros(4, 1)).shape
        torch.Size([4, 5, 5])
    """

    def __init__(self, *parts: Representation) -> None:
        super().__init__(*parts)
        self.size = sum(part.size for part in parts)

    def _joined(self, matrices: list[Tensor]) -> Tensor:
        rows, before = [], 0
        for part, matrix in zip(self.parts, matrices, strict=True):
            rows.append(F.pad(matrix, (before, self.size - before - part.size)))
            before += part.size
        return torch.cat(rows, -2)


class TensorProduct(_Compound):
    """The tensor product ρ₁ ⊗ ρ₂ ⊗ …: Kronecker products, the first factor's index slowest."""

    def __init__(self, *parts: Representation) -> None:
        super().__init__(*parts)
        self.size = 1
        for part in parts:
            self.size *= part.size

    def _joined(self, matrices: list[Tensor]) -> Tensor:
        result = matrices[0]
        for matrix in matrices[1:]:
            pairs = result[..., :, None, :, None] * matrix[..., None, :, None, :]
            result = pairs.flatten(-2).flatten(-3, -2)
        return result


class Factor(Representation):
    """A representation of one factor of a product group, as one of the product: ρ(g_k).

    Args:
        group: a ``Product``.
        index: which of its factors, from 0.
        rho: a representation of that factor.

    Raises:
        ValueError: if there is no such factor, or ``rho`` is of another group.
    """

    def __init__(self, group: Group, index: int, rho: Representation) -> None:
        factors = getattr(group, "factors", None)
        if factors is None:
            raise ValueError(f"{group!r} is no product: use {rho!r} itself")
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(factors):
            raise ValueError(
                f"index must be an integer from 0 to {len(factors) - 1}, got {index!r}"
            )
        if factors[index] != rho.group:
            raise ValueError(
                f"rho is of {rho.group!r}, factor {index} of {group!r} is {factors[index]!r}"
            )
        self.group, self.index, self.rho, self.size = group, index, rho, rho.size

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.group, self.index, self.rho

    def in_dtype(self, dtype: torch.dtype) -> Self:
        found = super().in_dtype(dtype)
        found.rho = self.rho.in_dtype(dtype)
        return found

    def of(self, g: Tensor) -> Tensor:
        return self.rho.of(self.group.split(g)[self.index])  # type: ignore[attr-defined]

    def __call__(self, action: Tensor) -> Tensor:
        if not isinstance(self.group, LieGroup):
            return self.of(action)
        parts = self.group.split_coordinates(action)  # type: ignore[attr-defined]
        return self.rho(parts[self.index])
