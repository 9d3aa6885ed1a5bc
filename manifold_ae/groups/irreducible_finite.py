r"""All irreducible real representations of a finite group, computed from its table.

The left regular representation, L_g e_h = e_{gh}, holds every one of them, and commutes with the
right multiplications R_h e_k = e_{kh⁻¹}. A random symmetric S = Σ a_h R_h, a_h = a_{h⁻¹}, acts on
the copies of an irreducible representation as a random Hermitian matrix over ℝ, ℂ or ℍ, of
distinct eigenvalues: so every eigenspace of S is one copy, irreducible over ℝ whatever its type
(Frobenius and Schur). With an orthonormal basis Q of an eigenspace, ρ(g) = Qᵀ L_g Q. An error δ in
the eigenspace leaves one of δ² in the homomorphism.

The type is ⟨χ, χ⟩ = 1 (real), 2 (complex) or 4 (quaternionic), and Σ size²/⟨χ, χ⟩ = order.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups.finite_group import FiniteGroup
from manifold_ae.groups.representations import Representation
from manifold_ae.numerics import built_once

__all__ = ["FiniteIrrep", "irreps"]

#: Eigenvalues of S nearer than this, of a spread of order √order, count as one. Eigenspaces are
#: then right to 1e-8, and the representations to 1e-16.
GAP = 1e-6
#: How far from a homomorphism, from an integer type, or from equality of characters is rounding.
ROUNDING = 1e-9
ATTEMPTS = 10


def irreps(group: FiniteGroup) -> tuple["FiniteIrrep", ...]:
    """All irreducible real representations of a finite group, up to equivalence, orthogonal.

    The trivial one first; then by size, and by their characters: the larger first, at the first
    element where two differ.

    Example:
        >>> from manifold_ae.groups import Cyclic
        >>> [rho.size for rho in irreps(Cyclic(5))]
        [1, 2, 2]
    """
    return tuple(FiniteIrrep(group, index) for index in range(len(_decomposed(group))))


class FiniteIrrep(Representation):
    """The irreducible real representation of a number in ``irreps(group)``."""

    def __init__(self, group: FiniteGroup, index: int) -> None:
        count = len(_decomposed(group))
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise ValueError(
                f"index must be an integer from 0 to {count - 1}, the irreducible representations "
                f"of {group!r}, got {index!r}"
            )
        self.group, self.index = group, index
        self.size = _decomposed(group)[index].shape[-1]

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.group, self.index

    def __repr__(self) -> str:
        return f"irrep({self.group!r}, {self.index!r})"

    @property
    def type(self) -> int:
        """⟨χ, χ⟩: 1 real, 2 complex, 4 quaternionic."""
        return _type(np.trace(_decomposed(self.group)[self.index], axis1=1, axis2=2))

    def of(self, g: Tensor) -> Tensor:
        self.group._require_element("g", g)
        dtype = self.dtype or torch.get_default_dtype()
        return _matrices(self.group, self.index, dtype, g.device)[g.long()]


@built_once
def _matrices(group: FiniteGroup, index: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.from_numpy(_decomposed(group)[index]).to(device, dtype)


def _type(character: np.ndarray) -> int:
    return round(float(np.mean(character**2)))


@built_once
def _decomposed(group: FiniteGroup) -> tuple[np.ndarray, ...]:
    """Matrices of every irreducible representation, of shape ``(order, size, size)``."""
    table = group.table.numpy()
    random = np.random.default_rng(0)
    for _ in range(ATTEMPTS):
        found = _attempt(table, random)
        if found is not None:
            return found
    raise RuntimeError(
        f"{group!r}: {ATTEMPTS} random elements of the commutant did not tell its "
        f"{len(table)} dimensions apart; is its table that of a group?"
    )


def _attempt(table: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, ...] | None:
    """The representations from one S; None where eigenvalues of S happen to lie too near."""
    order = len(table)
    inverse = (table == 0).argmax(1)
    a = random.standard_normal(order)
    a = (a + a[inverse]) / 2
    # S e_k = Σ_h a_h e_{kh⁻¹}: the entry at (j, k) is a_{j⁻¹k}.
    values, vectors = np.linalg.eigh(a[table[inverse]])
    borders = np.flatnonzero(np.diff(values) > GAP) + 1
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for space in np.split(vectors, borders, axis=1):
        basis = _basis(table, space)
        # ⟨q_a, L_g q_b⟩ = Σ_h q_a(gh) q_b(h)
        matrices = np.stack([column[table] @ basis for column in basis.T], 1)
        character = np.trace(matrices, axis1=1, axis2=2)
        if not _irreducible(table, character) or basis.shape != space.shape:
            return None
        if not any(np.abs(character - other).max() <= ROUNDING for other, _ in found):
            found.append((character, matrices))
    if sum(m.shape[-1] ** 2 // _type(character) for character, m in found) != order:
        return None
    found.sort(key=lambda pair: (pair[1].shape[-1], *(-np.round(pair[0], 6))))
    return tuple(matrices for _, matrices in found)


def _irreducible(table: np.ndarray, character: np.ndarray) -> bool:
    """Whether ⟨χ, χ⟩ and the mean of χ(g²) are those of a type: (1, 1), (2, 0) or (4, −2).

    Two equal representations of real type also have ⟨χ, χ⟩ = 4, but 2 as the mean.
    """
    found = np.mean(character**2), np.mean(character[np.diagonal(table)])
    return any(np.abs(np.subtract(found, t)).max() < ROUNDING for t in ((1, 1), (2, 0), (4, -2)))


def _basis(table: np.ndarray, space: np.ndarray) -> np.ndarray:
    """An orthonormal basis: the orbit of the projection of e_0, by Gram and Schmidt.

    That vector generates the space, and the basis depends on the space alone, not on which of its
    bases the eigenvectors are. The squares of what the orbit adds to r vectors are (s − r)/s in the
    mean: a vector that adds a tenth is always found.
    """
    seed = space @ space[0]
    basis: list[np.ndarray] = []
    for row in table:
        vector = np.empty_like(seed)
        vector[row] = seed  # L_g e_h = e_{gh}
        for _ in range(2):  # twice is enough (Kahan)
            for other in basis:
                vector = vector - other * (other @ vector)
        length = np.linalg.norm(vector)
        if length > 0.1 * np.linalg.norm(seed):
            basis.append(vector / length)
        if len(basis) == space.shape[1]:
            break
    return np.stack(basis, 1)
