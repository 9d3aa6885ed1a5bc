r"""Learned representations of actions: ρ(X) = exp φ(X), with a learned map φ to matrices.

φ sends the coordinates X of the Lie algebra, of shape ``(*, dim)``, to generators: antisymmetric
matrices where ρ is to be orthogonal, in blocks along the diagonal.

- ``phi="linear"``: φ(X) = Σ Xᵢ Tᵢ without a bias. ρ(e) = I, ρ(X)ρ(−X) = I and the one-parameter law
  ρ((s + t)X) = ρ(sX)ρ(tX) hold by construction. The bracket and closure are left to learn, or to
  penalise.
- ``phi="mlp"``: the perceptron of Keurti et al. ("Homomorphism Autoencoder", 2023), with biases:
  none of these hold, ρ(e) = I neither. With ``skip`` it is added to a linear map, φ(X) = W s + f(s)
  of the coordinates s = X, or of what the scramble makes of them; f starts at zero.
- ``phi="lookup"``: of a finite group, whose actions are integers: a generator for every element,
  and ρ(e) = I fixed.
"""

import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from manifold_ae.groups import defects
from manifold_ae.groups.base import Group, LieGroup, in_full, require_dtype
from manifold_ae.groups.block_layout import BlockLayout
from manifold_ae.groups.determinants import determinants_of
from manifold_ae.groups.exponentials import exp_block, matrix_of
from manifold_ae.groups.finite_group import FiniteGroup
from manifold_ae.groups.learned_arguments import check_phi, sizes_of
from manifold_ae.groups.scramble import Scramble

__all__ = ["LearnedRepresentation"]


#: Actions over which the mean frequency of a perceptron is taken, and pairs of them that are to be
#: multiplied.
FEW, PAIRS = 64, 128
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class LearnedRepresentation(nn.Module):
    """ρ(X) = exp φ(X) of shape ``(*, size, size)``, a module that is called on actions.

    Args:
        group: of the actions: a Lie group, or a finite one for ``phi="lookup"``.
        size: of the matrices, free dimensions included; with given blocks it follows from them.
        blocks: sizes of the blocks; ``"soft"`` for one block, whose finer blocks the penalty
            ``sparsity`` finds, of generators or, of a lookup, of the odd parts (ρ(g) − ρ(g)ᵀ) / 2
            (of elements of order two there are none); None for one block.
        phi: ``"linear"``, ``"mlp"`` or ``"lookup"``; see this module.
        orthogonal: whether the generators are antisymmetric. A lookup that is not orthogonal
            holds free matrices, which no exponential is taken of.
        free: further dimensions, the last ones, that no action moves.
        hidden: widths of the perceptron's layers.
        scramble: seed of a fixed random change of coordinates before the perceptron.
        activation: of the perceptron, ``"relu"`` or ``"tanh"``; the smooth one comes nearer to the
            inverse of a scramble, which is smooth.
        skip: whether a perceptron is added to a linear map, which finds the weights sooner: a
            perceptron alone starts out nearly constant, and may end in an even function, |X|.
        determinants: of an orthogonal lookup, which no exponential of an antisymmetric matrix
            reaches: ±1 for every block and element, each row a homomorphism. Without them those of
            the group's irreducible representations of the block's size, one after the other (of
            size 1, where the determinant is all there is, the trivial one last), and 1 where it has
            none of that size. They follow from the table; which rotation is not said.

    The blocks start as random rotations of order one: entries of Tᵢ normal, with deviation
    1/√(k − 1) in a block of size k, so that the weights of a plane are standard normal; near
    integers by chance alone. Each has the sign that suits the brackets better. Blocks that are not
    orthogonal have a symmetric part besides, of deviation 0.1/√k. The perceptron starts as torch's
    layers do, and its last layer, where there is a linear map beside it, at zero.

    Raises:
        ValueError: if sizes contradict each other, or ``phi`` does not suit the group.

    Example:
        >>> from manifold_ae.groups import Torus
        >>> rho = LearnedRepresentation(Torus(2), blocks=[2, 2])
        >>> rho(torch.zeros(2)).trace()
        tensor(4., grad_fn=<TraceBackward0>)
    """

    def __init__(
        self,
        group: Group,
        size: int | None = None,
        *,
        blocks: Sequence[int] | str | None = None,
        phi: str = "linear",
        orthogonal: bool = True,
        free: int = 0,
        hidden: Sequence[int] = (64, 64),
        scramble: int | None = None,
        activation: str = "relu",
        skip: bool = False,
        determinants: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        check_phi(group, phi, scramble, skip, determinants, orthogonal)
        self.group, self.phi, self.orthogonal, self.free = group, phi, orthogonal, free
        self.block_sizes = sizes_of(size, blocks, free)
        self.soft, self.skip = blocks == "soft", skip
        self.size = sum(self.block_sizes) + free
        self.layout = BlockLayout(self.block_sizes, free, orthogonal)
        if phi != "lookup" and self.layout.entries == 0:
            raise ValueError(
                f"blocks = {list(self.block_sizes)}: an orthogonal block of size 1 moves nothing; "
                "use blocks of size 2 or more, free=, or orthogonal=False"
            )
        self.scramble = None if scramble is None else Scramble(group.dim, scramble)
        self.network: nn.Module | None = None
        if phi == "linear":
            self.weight = nn.Parameter(self.layout.random_entries(group.dim).mT.contiguous())
            self._turn_round()
        elif phi == "mlp":
            first = group.dim if self.scramble is None else self.scramble.width
            self.network = _perceptron(first, hidden, self.layout.entries, activation)
            if skip:
                self._add_linear(group.dim, first)
        else:
            assert isinstance(group, FiniteGroup)
            rows = self.layout.random_entries(group.order - 1)
            if not orthogonal:
                rows = self.layout.random_matrices(group.order - 1)
            self.weight = nn.Parameter(rows)
            if orthogonal:
                self.signs: Tensor
                self.register_buffer(
                    "signs", determinants_of(group, self.block_sizes, determinants)
                )

    def _add_linear(self, dim: int, first: int) -> None:
        """A linear map of ``first`` inputs beside the perceptron, which is to start at zero."""
        assert isinstance(self.network, nn.Sequential)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        # A scramble of more coordinates than there are actions is to turn planes no faster.
        entries = self.layout.random_entries(first) * math.sqrt(dim / first)
        self.weight = nn.Parameter(entries.mT.contiguous())
        if self.scramble is None:
            self._turn_round()

    @torch.no_grad()
    def _turn_round(self) -> None:
        """Give every block of a linear φ the sign with the smaller bracket defect.

        With the other one, ⟨φ[X, Y], [φX, φY]⟩ < 0, the defect has its next zero at φ = 0.
        """
        assert isinstance(self.group, LieGroup)
        if self.group.is_abelian:
            return
        basis = torch.eye(self.group.dim, dtype=self.weight.dtype, device=self.weight.device)
        X, Y = basis.unsqueeze(0), basis.unsqueeze(1)
        entries, start = self.weight, 0
        for (size, which), width in zip(self.layout.kinds, self.layout.widths, strict=True):
            each = width // len(which)
            for _ in which:
                rows = entries[start : start + each]
                A, B, C = (
                    matrix_of(Z @ rows.mT, size, self.orthogonal)
                    for Z in (X, Y, self.group.bracket(X, Y))
                )
                if (C * (A @ B - B @ A)).sum() < 0:
                    rows.neg_()
                start += each

    # ---- φ ----------------------------------------------------------------------------------

    def _phi(self, action: Tensor) -> Tensor:
        """Entries of the blocks of φ, of shape ``(*, entries)``, in the order they are held."""
        return self._components(action).movedim(0, -1)

    def _components(self, action: Tensor) -> Tensor:
        """``_phi`` of shape ``(entries, *)``."""
        assert isinstance(self.group, LieGroup)
        self.group._require_coordinates("X", action)
        dtype = (next(self.parameters()) if self.network is not None else self.weight).dtype
        require_dtype("X", action, dtype)
        with in_full(action):
            s = action if self.scramble is None else self.scramble(action)
            if self.network is None:
                return self._linear(s)
            entries = self.network(s).movedim(-1, 0)
            return entries + self._linear(s) if self.skip else entries

    def _linear(self, s: Tensor) -> Tensor:
        """W s, of shape ``(entries, *)``: a tall matrix times a small one is the slower product."""
        return (self.weight @ s.reshape(-1, s.shape[-1]).mT).view(len(self.weight), *s.shape[:-1])

    def features(self, action: Tensor) -> Tensor:
        """What the entries of φ are linear in, ``(*, p)``: φ's entries are these times (W, V, b).

        The coordinates of a linear φ; of a perceptron its last hidden layer and one; of a
        perceptron beside a linear map, both.

        Raises:
            ValueError: for lookups.
        """
        if self.phi == "lookup":
            raise ValueError(f"{self!r} is a table: there is nothing that φ is linear in")
        s = action if self.scramble is None else self.scramble(action)
        if self.network is None:
            return s
        assert isinstance(self.network, nn.Sequential)
        hidden = self.network[:-1](s)
        parts = [s, hidden] if self.skip else [hidden]
        return torch.cat([*parts, torch.ones_like(hidden[..., :1])], -1)

    @torch.no_grad()
    def coefficients(self) -> Tensor:
        """Those of ``features``, (W, V, b), of shape ``(entries, p)``; a copy."""
        if self.network is None:
            return self.weight.clone()
        assert isinstance(self.network, nn.Sequential)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        parts = [self.weight] if self.skip else []
        return torch.cat([*parts, last.weight, last.bias.unsqueeze(-1)], -1)

    @torch.no_grad()
    def add_to_coefficients(self, change: Tensor) -> None:
        """Add to the coefficients of ``features``, of shape ``(entries, p)``, in place."""
        if self.network is None:
            self.weight += change
            return
        assert isinstance(self.network, nn.Sequential)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        first = change.shape[-1] - last.in_features - 1
        if self.skip:
            self.weight += change[:, :first]
        last.weight += change[:, first:-1]
        last.bias.add_(change[:, -1])

    def act_by_entries(self, entries: Tensor, z: Tensor) -> Tensor:
        """exp of the matrix with the given entries of φ ``(*, entries)``, times z ``(*, size)``."""
        kinds = zip(self.layout.by_kind(entries), self.layout.kinds, strict=True)
        blocks = [exp_block(part, size, self.orthogonal) for part, (size, _) in kinds]
        return self.layout.moved(blocks, z)

    def _blocks(self, action: Tensor) -> list[Tensor]:
        """Blocks of ρ of shape ``(*, count, k, k)``, for every size k."""
        if self.phi == "lookup":
            self.group._require_element("g", action)
            return [blocks[action.long()] for blocks in self._looked_up()]
        kinds = zip(self.layout.by_kind(self._phi(action)), self.layout.kinds, strict=True)
        return [exp_block(part, size, self.orthogonal) for part, (size, _) in kinds]

    def _looked_up(self) -> list[Tensor]:
        """Blocks of all elements of a finite group, ``(order, count, k, k)``."""
        result = []
        for part, (size, which) in zip(
            self.layout.by_kind(self.weight), self.layout.kinds, strict=True
        ):
            if self.orthogonal:
                blocks = exp_block(part, size, True)
                flips = torch.ones(len(blocks), len(which), 1, size).to(blocks)
                flips[..., 0, -1] = self.signs[which][:, 1:].mT
                blocks = blocks * flips
            else:
                blocks = part.unflatten(-1, (size, size))
            eye = torch.eye(size, dtype=blocks.dtype, device=blocks.device)
            result.append(torch.cat([eye.expand(1, len(which), size, size), blocks]))
        return result

    def _matrices(self) -> Tensor:
        """ρ of all elements of a finite group, ``(order, size, size)``."""
        return self.layout.dense(self._looked_up(), 1.0)

    # ---- what it gives ----------------------------------------------------------------------

    def forward(self, action: Tensor) -> Tensor:
        return self.layout.dense(self._blocks(action), 1.0)

    def matrix(self, action: Tensor) -> Tensor:
        """ρ of actions, of shape ``(*, size, size)``: the same as calling the module."""
        return self(action)

    def of(self, g: Tensor) -> Tensor:
        """ρ of elements g of shape ``(*, *element_shape)``, by their principal logarithm."""
        return self(self.group.log(g) if isinstance(self.group, LieGroup) else g)

    def generator(self, action: Tensor) -> Tensor:
        """φ of actions, of shape ``(*, size, size)``.

        Raises:
            ValueError: for lookups, which are no exponentials.
        """
        if self.phi == "lookup":
            raise ValueError(f"{self.group!r} has no Lie algebra: rho(g) is a matrix of the table")
        kinds = zip(self.layout.by_kind(self._phi(action)), self.layout.kinds, strict=True)
        blocks = [matrix_of(part, size, self.orthogonal) for part, (size, _) in kinds]
        return self.layout.dense(blocks, 0.0)

    def generators(self) -> Tensor:
        """φ of the basis of the Lie algebra, of shape ``(dim, size, size)``."""
        like = next(self.parameters())
        return self.generator(torch.eye(self.group.dim, dtype=like.dtype, device=like.device))

    def blocks(self, action: Tensor) -> tuple[Tensor, ...]:
        """The blocks of ρ in their order, each of shape ``(*, k, k)``, without the free part."""
        found: dict[int, Tensor] = {}
        for blocks, (_, which) in zip(self._blocks(action), self.layout.kinds, strict=True):
            found.update(zip(which, blocks.unbind(-3), strict=True))
        return tuple(found[n] for n in range(len(self.block_sizes)))

    def act(self, action: Tensor, z: Tensor) -> Tensor:
        """ρ(X) z for latents z of shape ``(*, size)``, block by block."""
        return self.layout.moved(self._blocks(action), z)

    def rollout(self, actions: Tensor, z: Tensor) -> Tensor:
        """ρ(X_t) … ρ(X_1) z for t = 1 … T, of shape ``(*, T, size)``.

        Args:
            actions: of shape ``(*, T, dim)``, or ``(*, T)`` of a finite group.
            z: latents before the first action, of shape ``(*, size)``.
        """
        own = 0 if self.phi == "lookup" else 1
        if actions.dim() <= own or not actions.shape[-1 - own]:
            wanted = "(*, T)" if self.phi == "lookup" else f"(*, T, {self.group.dim})"
            raise ValueError(
                f"actions has shape {tuple(actions.shape)}: expected {wanted}, one step or more"
            )
        if self.phi == "lookup":
            return self.layout.rolled(self._blocks(actions), z)
        return self.layout.rolled_by_entries(self._components(actions), z)

    # ---- penalties --------------------------------------------------------------------------

    def penalties(
        self,
        X: Tensor | None = None,
        Y: Tensor | None = None,
        *,
        only: Collection[str] | None = None,
    ) -> dict[str, Tensor]:
        """What is left to learn, as scalars by name, with finite gradients; see ``defects``.

        ``bracket``, of a linear φ over all pairs of the basis, of a perceptron over X and Y if both
        are given; ``closure``, where the group has closed subgroups; ``frequency``, of a
        perceptron over X; ``homomorphism``, of a perceptron that is told the group, which one
        behind a scramble is not, over products of X with Y, or with X in the opposite order;
        ``table``, of lookups; ``sparsity``, of soft blocks.

        Args:
            X: actions of shape ``(n, dim)``.
            Y: as many others.
            only: names of those wanted, of those that there are; all by default.
        """
        like = next(self.parameters(), torch.empty(0))
        found: dict[str, Tensor] = {}

        def wanted(name: str) -> bool:
            return only is None or name in only

        if self.phi == "lookup":
            if wanted("table"):
                found["table"] = defects.table_defect(self, device=like.device)
            if self.soft and wanted("sparsity"):
                matrices = self._matrices()
                found["sparsity"] = defects.sparsity((matrices - matrices.mT) / 2)
            return found
        if self.phi == "linear":
            # The defect is bilinear: it is zero everywhere where it is on pairs of the basis.
            basis = torch.eye(self.group.dim, dtype=like.dtype, device=like.device)
            first, second = torch.triu_indices(len(basis), len(basis), 1, device=like.device)
            X, Y = (basis[first], basis[second]) if len(basis) > 1 else (None, None)
        if X is not None and Y is not None and wanted("bracket"):
            # Planes commute whatever is learned: nothing is to be computed at every step.
            planes = self.phi == "linear" and self.orthogonal and max(self.block_sizes) <= 2
            none = planes and self.group.is_abelian
            found["bracket"] = like.new_zeros(()) if none else defects.bracket_defect(self, X, Y)
        if getattr(self.group, "periods", ()) and wanted("closure"):
            found["closure"] = defects.closure_defect(self, dtype=like.dtype, device=like.device)
        if self.phi == "linear" and wanted("frequency"):
            assert isinstance(self.group, LieGroup)
            found["frequency"] = defects.frequency(self.generators(), self.group.parts)
        elif X is not None and wanted("frequency"):
            few = X[:FEW]
            found["frequency"] = defects.mean_frequency(self.generator(few), few)
        told = self.network is not None and self.scramble is None
        if X is not None and told and wanted("homomorphism"):
            first, second = X[:PAIRS], (X.flip(0) if Y is None else Y)[:PAIRS]
            found["homomorphism"] = defects.homomorphism_defect(self, first, second)
        if self.soft and wanted("sparsity"):
            found["sparsity"] = defects.sparsity(self.generators())
        return found

    def fast_parameters(self) -> list[nn.Parameter]:
        """Those few that are to settle before others have fitted wrong ones.

        All of them, but for a perceptron beside a linear map.
        """
        slow = self.network.parameters() if self.skip and self.network is not None else ()
        chosen = {id(parameter) for parameter in slow}
        return [parameter for parameter in self.parameters() if id(parameter) not in chosen]

    def discovered_blocks(self, threshold: float = 0.1) -> tuple[tuple[int, ...], ...]:
        """Sets of coordinates that the generators, or the matrices of a lookup, couple: the blocks.

        Args:
            threshold: entries below this part of the largest do not count.
        """
        with torch.no_grad():
            telling = self._matrices() if self.phi == "lookup" else self.generators()
            strength = defects.adjacency(telling)
            linked = (strength > threshold * strength.amax()).cpu()
        linked = linked | linked.mT | torch.eye(self.size, dtype=torch.bool)
        for _ in range(self.size):
            linked = (linked.float() @ linked.float()) > 0
        rows = dict.fromkeys(tuple(row.nonzero().flatten().tolist()) for row in linked)
        return tuple(rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        blocks: Any = "'soft'" if self.soft else list(self.block_sizes)
        free = f", free={self.free}" if self.free else ""
        return (
            f"{self.group!r}, size={self.size}, blocks={blocks}, phi={self.phi!r}, "
            f"orthogonal={self.orthogonal}{free}"
        )


def _perceptron(inputs: int, hidden: Sequence[int], outputs: int, activation: str) -> nn.Sequential:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation = {activation!r}: expected one of {', '.join(ACTIVATIONS)}")
    if not hidden or min(hidden) < 1:
        raise ValueError(f"hidden = {tuple(hidden)}: expected one positive width or more")
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise((inputs, *hidden)):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))
