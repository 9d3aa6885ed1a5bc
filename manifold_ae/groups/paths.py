r"""Where a sequence of exponentials takes vectors: exp A_t ⋯ exp A_1 z for t = 1, …, T.

Blocks are given by their entries, as ``exponentials`` has them. Components come first here: entries
of shape ``(entries, *, T)``, vectors of shape ``(k, *)``. Blocks with a closed form make one node
of the graph, exponentials, products and their derivatives together: of a few hundred small matrices
the calls cost more than the arithmetic. With z_t = R_t z_{t−1} and a_t the derivative by z_t, of
all that follows too,

    c_t = R_tᵀ a_t,        a_{t−1} = c_t + (derivative by z_{t−1} itself),                 (1)

and the derivative by A_t is that of ⟨a_t, exp(A_t) z_{t−1}⟩. What is to be differentiated again, or
is seen by ``torch.func`` or ``torch.compile``, takes the same steps as nodes of their own.
"""

import torch
from torch import Tensor

from manifold_ae.groups import rotations
from manifold_ae.groups.base import product
from manifold_ae.groups.exponentials import exp_block, general_slope, general_terms
from manifold_ae.groups.scan import cumulative, tree_pays
from manifold_ae.numerics import Fused, constant

__all__ = ["along", "through"]


def along(entries: Tensor, z: Tensor, size: int, antisymmetric: bool) -> Tensor:
    """exp A_t ⋯ exp A_1 z, of shape ``(*, T, k)``: here components are last.

    Args:
        entries: of A_1, …, A_T, of shape ``(entries_of(k, antisymmetric), *, T)``.
        z: of shape ``(k, *)``.
        size: k.
        antisymmetric: whether the A_t are, and are given by what is above the diagonal.
    """
    path = _FUSED.get((size, antisymmetric))
    traced = torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling()
    shape = entries.shape[1:-1]
    long = tree_pays(entries.shape[-1], shape.numel() * size * size, entries.device)
    if path is None or traced or long or entries.dtype != z.dtype:
        return _by_nodes(entries, z, size, antisymmetric)
    if z.shape[1:] != shape:
        shape = torch.broadcast_shapes(z.shape[1:], shape)
        entries = entries.movedim(0, -1).expand(*shape, -1, -1).movedim(-1, 0)
        z = z.movedim(0, -1).expand(*shape, -1).movedim(-1, 0)
    return path.of(entries, z).permute(*range(2, len(shape) + 2), 0, 1)


def _by_nodes(entries: Tensor, z: Tensor, size: int, antisymmetric: bool) -> Tensor:
    blocks = exp_block(entries.movedim(0, -1), size, antisymmetric)
    return through(blocks, z.movedim(0, -1))


def through(blocks: Tensor, z: Tensor) -> Tensor:
    """R_t ⋯ R_1 z of shape ``(*, T, k)``.

    Args:
        blocks: R_1, …, R_T, of shape ``(*, T, k, k)``.
        z: of shape ``(*, k)``.
    """
    if tree_pays(blocks.shape[-3], blocks[..., 0, :, :].numel(), blocks.device):
        return product(cumulative(blocks), z[..., None, :, None]).squeeze(-1)
    z, path = z.unsqueeze(-1), []
    for block in blocks.unbind(-3):
        z = product(block, z)
        path.append(z)
    return torch.stack(path, -3).squeeze(-1)


class _Path(Fused):
    """``along`` of blocks of one kind. A subclass writes, of entries E ``(entries, *, T)``,

    exponential(E) -> (exp A ``(k, k, *, T)``, *kept)
    slope(a, c, before, *kept) -> the derivative by E, with ``before`` the z_{t−1}

    with a, c and z_{t−1} of shape ``(k, *, T)``, of ``precision`` or that of its arguments; c is
    left out where it is no ``turn``.
    """

    size: int
    antisymmetric: bool
    turn = True
    precision: torch.dtype | None = None

    @staticmethod
    def exponential(E: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError

    @staticmethod
    def slope(a: Tensor, c: Tensor | None, before: Tensor, *kept: Tensor) -> Tensor:
        raise NotImplementedError

    @classmethod
    def value(cls, entries: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        E, x = entries, z
        if cls.precision is not None:
            E, x = E.to(cls.precision), x.to(cls.precision)
        R, *kept = cls.exponential(E)
        points = [x]
        for matrix in R.unbind(-1):
            points.append((matrix * points[-1]).sum(1))
        path, before = torch.stack(points[1:]), torch.stack(points[:-1])
        if cls.precision is not None:
            path = path.to(z.dtype)
        return path, R, before, *kept

    @classmethod
    def derivative(
        cls, gradient: Tensor, entries: Tensor, z: Tensor, *kept: Tensor
    ) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # to be differentiated again

            def plain(entries: Tensor, z: Tensor) -> Tensor:
                path = _by_nodes(entries, z, cls.size, cls.antisymmetric)
                return path.movedim((-2, -1), (0, 1))

            return torch.func.vjp(plain, entries, z)[1](gradient)
        R, before, *others = kept
        if cls.precision is not None:
            gradient = gradient.to(cls.precision)
        own, matrices = gradient.unbind(0), R.unbind(-1)
        a, c = [own[-1]], []
        for t in range(len(own) - 1, 0, -1):
            c.append((matrices[t] * a[-1].unsqueeze(1)).sum(0))
            a.append(own[t - 1] + c[-1])
        by_z = None
        if cls.turn or z.requires_grad:
            c.append((matrices[0] * a[-1].unsqueeze(1)).sum(0))
            by_z = c[-1].to(z.dtype)
        first, last = torch.stack(a[::-1], -1), torch.stack(c[::-1], -1) if cls.turn else None
        by_entries = cls.slope(first, last, before.movedim(0, -1), *others)
        return by_entries.to(entries.dtype), by_z


class _Plane(_Path):
    """Rotations by −a."""

    size, antisymmetric = 2, True

    @staticmethod
    def exponential(E: Tensor) -> tuple[Tensor, ...]:
        cosine, sine = torch.cos(E), torch.sin(E)
        return (torch.cat([cosine, sine, -sine, cosine]).view(2, 2, *E.shape[1:]),)

    @staticmethod
    def slope(a: Tensor, c: Tensor | None, before: Tensor, *kept: Tensor) -> Tensor:
        assert c is not None
        # The torque is the same before the turn and after it.
        return torch.addcmul(c[:1] * before[1:], c[1:], before[:1], value=-1)


class _Space(_Path):
    """Rodrigues' formula, in float64 as ``rotations.exp``."""

    size, antisymmetric, precision = 3, True, torch.float64

    @staticmethod
    def exponential(E: Tensor) -> tuple[Tensor, ...]:
        w = _axis(E)
        square = (w * w).sum(0, keepdim=True)
        cosine, sinc, k = rotations.rodrigues(square)
        x, y, z = (sinc * w).unbind(0)
        one = cosine.squeeze(0)
        turn = torch.stack([one, -z, y, z, one, -x, -y, x, one]).view(3, 3, *w.shape[1:])
        R = torch.addcmul(turn, (k * w).unsqueeze(1), w.unsqueeze(0))
        return R, w, square, sinc, k

    @staticmethod
    def slope(a: Tensor, c: Tensor | None, before: Tensor, *kept: Tensor) -> Tensor:
        assert c is not None
        # ⟨a, R ŷ z⟩ = ⟨Rᵀa, y × z⟩ = ⟨z × c, y⟩, with y as in the derivative of ``rotations.exp``.
        torque = torch.linalg.cross(before, c, dim=0)
        return _axis(rotations.by_axis(torque, *kept, dim=0))


def _axis(E: Tensor) -> Tensor:
    """ω of the entries above the diagonal of ω̂, (−z, y, −x), and the entries of ω."""
    signs = constant((-1.0, 1.0, -1.0), E.dtype, E.device)
    return E.flip(0) * signs.view(3, *[1] * (E.dim() - 1))


class _General(_Path):
    """Blocks of two that are any matrices."""

    size, antisymmetric, turn = 2, False, False

    @staticmethod
    def exponential(E: Tensor) -> tuple[Tensor, ...]:
        return general_terms(E.view(2, 2, *E.shape[1:]))

    @staticmethod
    def slope(a: Tensor, c: Tensor | None, before: Tensor, *kept: Tensor) -> Tensor:
        by_matrix = a.unsqueeze(1) * before.unsqueeze(0)
        slope = general_slope(by_matrix, *kept)
        return slope.reshape(4, *slope.shape[2:])


_FUSED: dict[tuple[int, bool], type[_Path]] = {
    (path.size, path.antisymmetric): path for path in (_Plane, _Space, _General)
}
