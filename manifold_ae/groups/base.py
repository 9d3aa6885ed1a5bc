r"""What every group knows: its product, its inverses, its matrices, and what it moves.

An element is the trailing axes of a tensor, of shape ``(*, *G.element_shape)``. An element X of
the Lie algebra is a row of coordinates, of shape ``(*, G.dim)``, in the basis that ``hat`` states.
Groups are immutable values: two of the same kind and size are equal, and hash alike. All maps are
batched, their batch axes broadcast, and they are differentiable twice, backwards: forward mode
(``torch.func.jacfwd``) is not written where a formula is one node, as in SO(3) and SE(3).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

__all__ = ["Group", "LieGroup"]


class Group(ABC):
    """A group that acts on vectors by matrices, or by maps of one degree.

    A subclass is a frozen dataclass, whose fields decide equality. It states the attributes below
    and writes ``_compose``, ``_inverse``, ``_matrix`` and ``_act``, whose arguments have been
    checked.
    """

    #: Dimension of the Lie algebra; 0 for a finite group.
    dim: int
    #: Shape of one element.
    element_shape: tuple[int, ...]
    #: Size of the vectors that ``act`` moves.
    degree: int
    is_compact: bool
    is_abelian: bool

    # ---- what it is -------------------------------------------------------------------------

    @property
    @abstractmethod
    def spec(self) -> str:
        """The name that ``groups.parse`` reads back."""

    @property
    def _key(self) -> tuple[Any, ...]:
        """The parameters that the constructor took, in its order."""
        return tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._key))})"

    # ---- the group --------------------------------------------------------------------------

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """The product gh, of shape ``(*, *element_shape)``: h acts first."""
        self._require_element("g", g)
        self._require_element("h", h)
        return self._compose(g, h)

    def inverse(self, g: Tensor) -> Tensor:
        """g⁻¹, of shape ``(*, *element_shape)``."""
        self._require_element("g", g)
        return self._inverse(g)

    @abstractmethod
    def identity(
        self, *batch_shape: int, dtype: torch.dtype | None = None, device: Any = None
    ) -> Tensor:
        """The neutral element, of shape ``(*batch_shape, *element_shape)``."""

    def matrix(self, g: Tensor) -> Tensor:
        """Matrices of shape ``(*, m, m)``, one to one, with matrix(gh) = matrix(g) matrix(h)."""
        self._require_element("g", g)
        return self._matrix(g)

    def act(self, g: Tensor, x: Tensor) -> Tensor:
        """g·x for vectors x of shape ``(*, degree)``; (gh)·x = g·(h·x)."""
        self._require_element("g", g)
        require_trailing(self, "x", x, (self.degree,))
        return self._act(g, x)

    @abstractmethod
    def random(
        self,
        *sample_shape: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: Any = None,
    ) -> Tensor:
        """Elements drawn at random, of shape ``(*sample_shape, *element_shape)``.

        Of the Haar law where the group is compact; elsewhere of the law that the class states.
        """

    @abstractmethod
    def _compose(self, g: Tensor, h: Tensor) -> Tensor: ...

    @abstractmethod
    def _inverse(self, g: Tensor) -> Tensor: ...

    @abstractmethod
    def _matrix(self, g: Tensor) -> Tensor: ...

    @abstractmethod
    def _act(self, g: Tensor, x: Tensor) -> Tensor: ...

    def _require_element(self, name: str, g: Tensor) -> None:
        require_trailing(self, name, g, self.element_shape)


class LieGroup(Group):
    r"""A matrix Lie group: exp and log between it and its algebra.

    A subclass writes ``_exp``, ``_log``, ``_hat`` and ``_vee``, and ``_bracket`` or ``_adjoint``
    where a closed form is cheaper than matrices.
    """

    #: Generators X of closed one-parameter subgroups, exp(2πX) = e: one for each direction of the
    #: basis that closes.
    periods: tuple[tuple[float, ...], ...] = ()

    @property
    def parts(self) -> tuple[int, ...]:
        """Dimensions of the direct factors, whose coordinates come in turn."""
        return (self.dim,)

    def exp(self, X: Tensor) -> Tensor:
        """exp X of shape ``(*, *element_shape)``, for coordinates X of shape ``(*, dim)``."""
        self._require_coordinates("X", X)
        return self._exp(X)

    def log(self, g: Tensor) -> Tensor:
        """The principal logarithm, of shape ``(*, dim)``: exp(log g) = g where g has one."""
        self._require_element("g", g)
        return self._log(g)

    def has_log(self, g: Tensor) -> Tensor:
        """Whether elements have a principal logarithm, of shape ``(*)``.

        In most groups all have one that are finite. Of what is no element, as a reflection is none
        of the rotations, nothing is told.
        """
        self._require_element("g", g)
        return self._has_log(g)

    def bracket(self, X: Tensor, Y: Tensor) -> Tensor:
        """[X, Y] of shape ``(*, dim)``: hat[X, Y] = X̂Ŷ − ŶX̂."""
        self._require_coordinates("X", X)
        self._require_coordinates("Y", Y)
        return self._bracket(X, Y)

    def hat(self, X: Tensor) -> Tensor:
        """X̂ of shape ``(*, m, m)``, the matrix whose exponential is the matrix of exp X."""
        self._require_coordinates("X", X)
        return self._hat(X)

    def vee(self, A: Tensor) -> Tensor:
        """The X of shape ``(*, dim)`` with X̂ = A, for A of shape ``(*, m, m)`` in the algebra."""
        m = self.matrix_size
        require_trailing(self, "A", A, (m, m))
        return self._vee(A)

    def adjoint(self, g: Tensor) -> Tensor:
        """Ad_g of shape ``(*, dim, dim)``: the matrix of X ↦ g X̂ g⁻¹; exp(Ad_g X) = g exp X g⁻¹."""
        self._require_element("g", g)
        return self._adjoint(g)

    @property
    def matrix_size(self) -> int:
        """m: how many rows ``matrix`` and ``hat`` have."""
        return self.degree

    @abstractmethod
    def _exp(self, X: Tensor) -> Tensor: ...

    @abstractmethod
    def _log(self, g: Tensor) -> Tensor: ...

    def _has_log(self, g: Tensor) -> Tensor:
        return torch.isfinite(g).flatten(g.dim() - len(self.element_shape)).all(-1)

    @abstractmethod
    def _hat(self, X: Tensor) -> Tensor: ...

    @abstractmethod
    def _vee(self, A: Tensor) -> Tensor: ...

    def _bracket(self, X: Tensor, Y: Tensor) -> Tensor:
        if self.is_abelian:
            return torch.zeros_like(X + Y)
        A, B = self._hat(X), self._hat(Y)
        return self._vee(product(A, B) - product(B, A))

    def _adjoint(self, g: Tensor) -> Tensor:
        basis = torch.eye(self.dim, dtype=g.dtype, device=g.device)
        shape = g.shape[: g.dim() - len(self.element_shape)]
        if self.is_abelian:
            return basis.expand(*shape, self.dim, self.dim)
        matrix, back = self._matrix(g), self._matrix(self._inverse(g))
        moved = product(product(matrix.unsqueeze(-3), self._hat(basis)), back.unsqueeze(-3))
        return self._vee(moved).mT

    def _require_coordinates(self, name: str, X: Tensor) -> None:
        require_trailing(self, name, X, (self.dim,))


def product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product a b, in the precision of its factors under autocast too."""
    with in_full(a):
        return a @ b


def in_full(x: Tensor) -> AbstractContextManager[Any]:
    """In which products keep their factors' precision; entered at no cost where they do anyway."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def require_trailing(owner: object, name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise a ValueError unless x is float32 or float64 and its shape ends with ``shape``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} is of type {type(x).__name__}: {owner!r} takes tensors")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name} has dtype {x.dtype}; {owner!r} takes float32 or float64, convert it with "
            ".float()"
        )
    if x.dim() < len(shape) or tuple(x.shape[x.dim() - len(shape) :]) != shape:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}; in {owner!r} it has trailing shape {shape}"
        )


def require_dtype(name: str, x: Tensor, dtype: torch.dtype) -> None:
    """Raise a ValueError unless x has the dtype of the parameters that it meets."""
    if x.dtype != dtype:
        raise ValueError(
            f"{name} has dtype {x.dtype}, the parameters {dtype}: convert one of them with "
            ".to(dtype)"
        )


def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether axes of these lengths broadcast."""
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))


def require_values(holds: Tensor, message: Callable[[], str]) -> None:
    """Raise a ValueError with the message unless all of ``holds`` is true.

    While compiling, and inside torch.func, nothing is looked at.
    """
    if looks_at_values() and not bool(holds.all()):
        raise ValueError(message())


def looks_at_values() -> bool:
    """Whether a program may depend on values here: not in a graph, nor inside torch.func."""
    return not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())


def check_size(name: str, n: Any, least: int = 1, argument: str = "n") -> None:
    """Raise a ValueError that says what was given unless n is an int ≥ least."""
    if isinstance(n, bool) or not isinstance(n, int) or n < least:
        raise ValueError(f"{name}: {argument} must be an integer of at least {least}, got {n!r}")
