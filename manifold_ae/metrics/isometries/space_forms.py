r"""Sᵈ/Γ: projective spaces, SO(3), which is S³/±1, its quotients, and lens spaces.

The isometries of Sᵈ/Γ are those of the sphere that respect Γ: Q ∈ O(d + 1) for which some
automorphism τ of Γ has

    Q g = τ(g) Q    for all g ∈ Γ.                                                            (1)

Those of one τ are the orthogonal matrices of a linear space V_τ, and with C ∈ V_τ its polar part
is in V_τ, since CᵀC commutes with Γ. Inner automorphisms give nothing new, as Γ moves no point of
the quotient. With C_γ = Σ (γ_i b_i) a_iᵀ for chosen images γ_i b_i,

    argmax_Q Σ ⟨γ_i b_i, Q a_i⟩ = polar(P_τ C_γ),    P_τ C = 1/|Γ| Σ_g τ(g) C gᵀ,             (2)

and the best images for given Q are the nearest ones: to take one after the other never makes the
fit worse, and ends. It is done for every τ (up to inner ones), from many random Q at once on some
of the points, and from the best of these on all of them. For Γ = ±1 one start more is the leading
eigenvector of the moments E b b ⊗ a a, which for uniform points and no noise is Q itself: there
Σ (bᵀQa)² has the eigenvalue 1/n on Q, at most 2/n(n + 2) elsewhere.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.manifolds import SO3, Manifold, Quotient, RealProjective, Sphere
from manifold_ae.metrics.isometries.base import Isometry, nearest_isometry
from manifold_ae.metrics.isometries.procrustes import polar, turn_in_words

__all__ = ["Lifted", "PoseIsometry"]

#: Random starts, the points that they see, and the rounds of (2) on these; how many go on, on all
#: points, for at most so many rounds.
STARTS, POINTS, ROUNDS, KEPT, LAST_ROUNDS = 96, 96, 8, 6, 200
#: Images of generators that are tried for automorphisms.
MOST = 200_000
#: Matrices whose entries differ by less are the same.
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Lifted(Isometry):
    """x ↦ Q x on a quotient of a sphere.

    Attributes:
        matrix: Q ``(d + 1, d + 1)``, orthogonal, one of those that mean the same.
    """

    manifold: Manifold
    matrix: Tensor

    def apply(self, x: Tensor) -> Tensor:
        return (x.double() @ self.matrix.to(x.device).mT).to(x.dtype)

    @property
    def words(self) -> str:
        return turn_in_words(self.matrix)


@dataclass(frozen=True, eq=False)
class PoseIsometry(Isometry):
    """R ↦ L R N, or R ↦ L Rᵀ N, on SO(3) and its quotients.

    Attributes:
        left, right: L and N ``(3, 3)``, rotations.
        inverted: whether R is transposed first.
    """

    manifold: Manifold
    left: Tensor
    right: Tensor
    inverted: bool

    def apply(self, x: Tensor) -> Tensor:
        y = x.double()
        y = y.mT if self.inverted else y
        return (self.left.to(x.device) @ y @ self.right.to(x.device)).to(x.dtype)

    @property
    def words(self) -> str:
        inner = "Rᵀ" if self.inverted else "R"
        return (
            f"R ↦ L {inner} N with L a {turn_in_words(self.left)} and N a "
            f"{turn_in_words(self.right)}"
        )


@nearest_isometry.register
def _(M: RealProjective, a: Tensor, b: Tensor, rng: np.random.Generator) -> Lifted:
    assert M.matrices is not None
    matrix = _best(M.matrices, a, b, rng)
    odd = matrix.shape[-1] % 2 == 1
    return Lifted(M, -matrix if odd and torch.linalg.det(matrix) < 0 else matrix)


@nearest_isometry.register
def _(M: SO3, a: Tensor, b: Tensor, rng: np.random.Generator) -> PoseIsometry:
    signs = np.stack([np.eye(4), -np.eye(4)])
    quaternions = rotations.to_quaternion(a), rotations.to_quaternion(b)
    return _pose(M, _best(signs, *quaternions, rng))


@nearest_isometry.register
def _(M: Quotient, a: Tensor, b: Tensor, rng: np.random.Generator) -> Isometry:
    if M.matrices is not None and isinstance(M.cover, Sphere):
        return Lifted(M, _best(M.matrices, a, b, rng))
    if M.matrices is not None and isinstance(M.cover, SO3):
        lifted = np.stack([_lift(g) for g in M.matrices])
        quaternions = rotations.to_quaternion(a), rotations.to_quaternion(b)
        return _pose(M, _best(np.concatenate([lifted, -lifted]), *quaternions, rng))
    raise NotImplementedError(
        f"{M!r}, a quotient of {M.cover!r}{'' if M.matrices is not None else ' by functions'}: "
        "its isometries are not known here, only those of quotients of spheres and of SO(3) by "
        "matrices, and of KleinBottle()"
    )


# ---- SO(3) by quaternions -------------------------------------------------------------------


def _left(q: Tensor) -> Tensor:
    """The matrix of p ↦ q p, ``(4, 4)``."""
    w, x, y, z = q.tolist()
    return q.new_tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])


def _right(q: Tensor) -> Tensor:
    """The matrix of p ↦ p q, ``(4, 4)``."""
    w, x, y, z = q.tolist()
    return q.new_tensor([[w, -x, -y, -z], [x, w, z, -y], [y, -z, w, x], [z, y, -x, w]])


_CONJUGATE = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)


def _pose(M: Manifold, matrix: Tensor) -> PoseIsometry:
    """What an orthogonal matrix on quaternions is on rotations.

    Of determinant 1 it is q ↦ l q r; then p = l r is the image of 1, and q ↦ (l q r) p̄ = l q l̄.
    """
    inverted = bool(torch.linalg.det(matrix) < 0)
    proper = matrix * _CONJUGATE if inverted else matrix
    p = proper[:, 0]
    left = (_right(p * _CONJUGATE) @ proper)[1:, 1:]
    return PoseIsometry(M, left, left.mT @ rotations.from_quaternion(p), inverted)


def _lift(action: np.ndarray) -> np.ndarray:
    """An isometry of SO(3), a matrix on nine coordinates, as one of quaternions, up to sign."""
    function = torch.from_numpy(np.ascontiguousarray(action, dtype=np.float64))
    one = (function @ torch.eye(3, dtype=torch.float64).reshape(9)).reshape(3, 3)
    basis = rotations.hat(torch.eye(3, dtype=torch.float64)).reshape(3, 9)
    # L x̂ N (L N)ᵀ = (L x)^ of rotations, −(L x)^ where they are inverted first.
    turned = rotations.vee((basis @ function.mT).reshape(3, 3, 3) @ one.mT).mT
    inverted = bool(torch.linalg.det(turned) < 0)
    left = rotations.to_quaternion(-turned if inverted else turned)
    right = _left(left * _CONJUGATE) @ rotations.to_quaternion(one)
    matrix = _left(left) @ _right(right)
    return (matrix * _CONJUGATE if inverted else matrix).numpy()


# ---- the search -----------------------------------------------------------------------------


def _best(elements: np.ndarray, a: Tensor, b: Tensor, rng: np.random.Generator) -> Tensor:
    """Q of the least sum of squared distances of Q a_i from the nearest image of b_i."""
    group = torch.from_numpy(np.ascontiguousarray(elements, dtype=np.float64))
    size = a.shape[-1]
    some = torch.from_numpy(rng.permutation(len(a))[:POINTS])
    images = b @ group.mT  # (order, n, size)
    found: list[tuple[float, Tensor]] = []
    for order in _outer_automorphisms(_content(elements)):
        partner = group[list(order)]
        starts = torch.from_numpy(rng.standard_normal((STARTS, size, size)))
        starts = torch.cat([starts, _moments(a, b)[None]]) if len(group) == 2 else starts
        matrices = polar(_projected(starts, group, partner))
        if not torch.allclose(partner @ matrices[0], matrices[0] @ group, atol=TOLERANCE):
            continue  # no orthogonal matrix turns g into τ(g)
        reached, values = _climb(matrices, group, partner, a[some], images[:, some], ROUNDS)
        kept = reached[values.topk(KEPT).indices]
        reached, values = _climb(kept, group, partner, a, images, LAST_ROUNDS)
        found.append((values.max().item(), reached[values.argmax()]))
    return max(found, key=lambda pair: pair[0])[1]


def _projected(matrices: Tensor, group: Tensor, partner: Tensor) -> Tensor:
    """P_τ of (2), of matrices ``(k, n, n)``."""
    return torch.einsum("gij,kjl,gml->kim", partner, matrices, group) / len(group)


def _climb(
    matrices: Tensor, group: Tensor, partner: Tensor, a: Tensor, images: Tensor, rounds: int
) -> tuple[Tensor, Tensor]:
    """The rounds of (2) from several Q ``(k, n, n)`` at once, and the sums of products reached."""
    last = torch.full((len(matrices),), -math.inf, dtype=a.dtype)
    for _ in range(rounds + 1):
        moved = a @ matrices.mT  # (k, points, n)
        products = torch.einsum("kpn,gpn->kpg", moved, images)
        best, index = products.max(-1)
        value = best.sum(-1)
        if (value - last <= 1e-12 * len(a)).all():
            break
        last = value
        nearest = images[index, torch.arange(len(a))]  # (k, points, n)
        matrices = polar(_projected(nearest.mT @ a, group, partner))
    return matrices, value


def _moments(a: Tensor, b: Tensor) -> Tensor:
    """The matrix X ``(n, n)`` of norm one for which Σ (bᵀ X a)² is greatest."""
    products = (b.unsqueeze(-1) * a.unsqueeze(-2)).flatten(1)
    return torch.linalg.eigh(products.mT @ products)[1][:, -1].reshape(a.shape[-1], -1)


# ---- automorphisms of Γ ---------------------------------------------------------------------


def _content(elements: np.ndarray) -> tuple[bytes, tuple[int, ...]]:
    return np.ascontiguousarray(elements, dtype=np.float64).tobytes(), elements.shape


@lru_cache(maxsize=32)
def _outer_automorphisms(content: tuple[bytes, tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Automorphisms of Γ that keep traces, as (1) asks, as permutations of its elements.

    One of every class modulo inner ones, the identity first.
    """
    elements = np.frombuffer(content[0]).reshape(content[1])
    n = len(elements)
    table = _table(elements)
    identity = int(np.abs(elements - np.eye(elements.shape[-1])).max((1, 2)).argmin())
    traces = np.trace(elements, axis1=1, axis2=2)
    generators, words = _words(table, identity)
    alike = [np.flatnonzero(np.abs(traces - traces[g]) < 1e-4) for g in generators]
    if math.prod(map(len, alike)) > MOST:
        raise NotImplementedError(
            f"a group of order {n} with {len(generators)} generators: too many automorphisms to try"
        )
    inverse = (table == identity).argmax(1)
    found: list[tuple[int, ...]] = []
    seen: set[bytes] = set()
    for images in itertools.product(*alike):
        mapped = np.full(n, identity)
        for element, parent, generator in words:
            mapped[element] = table[mapped[parent], images[generator]]
        if len(set(mapped.tolist())) < n or mapped.tobytes() in seen:
            continue
        pairs = zip(generators, images, strict=True)
        if any((mapped[table[:, g]] != table[mapped, h]).any() for g, h in pairs):
            continue
        if (np.abs(traces[mapped] - traces) > 1e-4).any():
            continue
        for h in range(n):
            seen.add(table[table[h, mapped], inverse[h]].tobytes())
        found.append(tuple(mapped.tolist()))
    found.sort(key=lambda order: order != tuple(range(n)))
    return tuple(found)


def _table(elements: np.ndarray) -> np.ndarray:
    """The number of the product of every two elements, of shape (order, order)."""
    flat = elements.reshape(len(elements), -1)
    rows = []
    for g in elements:
        moved = (g @ elements).reshape(len(elements), -1)
        # Of orthogonal matrices the one with the largest inner product.
        rows.append((moved @ flat.T).argmax(1))
    return np.stack(rows)


def _words(table: np.ndarray, identity: int) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Few generators, and every other element as (element, shorter element, generator's place)."""
    n = len(table)
    orders = []
    for g in range(n):
        power, order = g, 1
        while power != identity:
            power, order = table[power, g], order + 1
        orders.append(order)
    generators: list[int] = []
    words: list[tuple[int, int, int]] = []
    reached = {identity}
    for candidate in sorted(range(n), key=lambda g: -orders[g]):
        if len(reached) == n:
            break
        if candidate in reached:
            continue
        generators.append(candidate)
        reached, words, queue = {identity}, [], [identity]
        for element in queue:  # grows while it is walked
            for place, generator in enumerate(generators):
                product = int(table[element, generator])
                if product not in reached:
                    reached.add(product)
                    words.append((product, element, place))
                    queue.append(product)
    return generators, words
