"""Matrices with blocks along the diagonal, of which those of one size are held together.

A block of size k is given by its entries, as ``exponentials`` has them; entries of all blocks are
one row, block after block, by sizes in the order in which they first occur. Free dimensions, the
last ones, have no entries.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from manifold_ae.groups.base import broadcast, product, require_dtype
from manifold_ae.groups.exponentials import entries_of, matrix_of
from manifold_ae.groups.paths import along, through

__all__ = ["BlockLayout"]


class BlockLayout(nn.Module):
    """Where the blocks of matrices ``(*, size, size)`` are; it has no parameters.

    Args:
        sizes: of the blocks, in their order.
        free: further dimensions, the last ones.
        orthogonal: whether blocks are antisymmetric, and given by what is above the diagonal.

    ``kinds`` are the sizes that occur, each with the numbers of its blocks; ``widths``, how many
    entries the blocks of a kind have in all; ``entries``, those of all kinds.
    """

    def __init__(self, sizes: Sequence[int], free: int, orthogonal: bool) -> None:
        super().__init__()
        self.sizes, self.free, self.orthogonal = tuple(sizes), free, orthogonal
        self.size = sum(self.sizes) + free
        starts = [0, *itertools.accumulate(self.sizes)]
        self.kinds: list[tuple[int, list[int]]] = []  # (size, which blocks)
        for size in dict.fromkeys(self.sizes):
            which = [n for n, k in enumerate(self.sizes) if k == size]
            self.kinds.append((size, which))
        order: list[int] = []  # coordinates, in the order in which blocks are held
        where = torch.full((self.size, self.size), -1)
        count = 0
        for size, which in self.kinds:
            for block in which:
                inside = slice(starts[block], starts[block] + size)
                order += range(self.size)[inside]
                where[inside, inside] = count + torch.arange(size * size).view(size, size)
                count += size * size
        for n in range(self.size - self.free, self.size):
            order.append(n)
            where[n, n] = count + 1
        where[where < 0] = count
        self._held: Tensor
        self._order: Tensor
        self._back: Tensor
        self.register_buffer("_held", where.flatten(), persistent=False)
        self.register_buffer("_order", torch.tensor(order), persistent=False)
        self.register_buffer("_back", torch.argsort(torch.tensor(order)), persistent=False)
        self._sorted = order == list(range(self.size))
        self.widths = [len(which) * entries_of(size, self.orthogonal) for size, which in self.kinds]
        self.entries = sum(self.widths)

    def random_entries(self, rows: int) -> Tensor:
        """Entries of random generators, of shape ``(rows, entries)``."""
        parts = []
        for size, which in self.kinds:
            upper = torch.randn(rows, len(which), entries_of(size, True)) / max(size - 1, 1) ** 0.5
            if self.orthogonal:
                parts.append(upper.flatten(1))
                continue
            noise = 0.1 * torch.randn(rows, len(which), size, size) / size**0.5
            matrix = matrix_of(upper, size, True) + (noise + noise.mT) / 2
            parts.append(matrix.flatten(1))
        return torch.cat(parts, 1)

    def random_matrices(self, rows: int) -> Tensor:
        """Entries of random orthogonal matrices of both determinants."""
        parts = [
            torch.linalg.qr(torch.randn(rows, len(which), size, size))[0].flatten(1)
            for size, which in self.kinds
        ]
        return torch.cat(parts, 1)

    def by_kind(self, entries: Tensor) -> list[Tensor]:
        """Entries of shape ``(*, count, k²)`` or ``(*, count, k (k − 1)/2)``, for every size k."""
        return [
            part.unflatten(-1, (len(which), entries_of(size, self.orthogonal)))
            for part, (size, which) in zip(entries.split(self.widths, -1), self.kinds, strict=True)
        ]

    def dense(self, kinds: list[Tensor], diagonal: float) -> Tensor:
        """The matrices ``(*, size, size)`` with the blocks, and a number for the free part."""
        if len(self.sizes) == 1 and not self.free:
            return kinds[0].squeeze(-3)
        flat = [blocks.flatten(-3) for blocks in kinds]
        ends = flat[0].new_tensor([0.0, diagonal]).expand(*flat[0].shape[:-1], 2)
        whole = torch.cat([*flat, ends], -1)
        return whole.index_select(-1, self._held).unflatten(-1, (self.size, self.size))

    def moved(self, kinds: list[Tensor], z: Tensor) -> Tensor:
        """Blocks ``(*, count, k, k)``, for every size k, times latents z ``(*, size)``."""
        *parts, rest = self._parts(z, kinds[0], kinds[0].shape[:-3])
        moved = [
            product(blocks, part.unsqueeze(-1)).squeeze(-1)
            for blocks, part in zip(kinds, parts, strict=True)
        ]
        return self._whole(moved, rest)

    def rolled(self, kinds: list[Tensor], z: Tensor) -> Tensor:
        """Products g_t ⋯ g_1 of blocks ``(*, T, count, k, k)`` times z: ``(*, T, size)``."""
        *parts, rest = self._parts(z, kinds[0], kinds[0].shape[:-4])
        paths = [
            through(blocks.transpose(-4, -3), part).transpose(-3, -2)
            for blocks, part in zip(kinds, parts, strict=True)
        ]
        return self._whole(paths, rest.unsqueeze(-2))

    def rolled_by_entries(self, entries: Tensor, z: Tensor) -> Tensor:
        """``rolled`` by the exponentials of entries that come first, ``(entries, *, T)``."""
        if len(self.sizes) == 1 and not self.free:
            self._require_latents(z, entries, entries.shape[1:-1])
            return along(entries, z.movedim(-1, 0), self.size, self.orthogonal)
        *parts, rest = self._parts(z, entries, entries.shape[1:-1])
        paths = []
        for E, part, (size, which) in zip(
            entries.split(self.widths), parts, self.kinds, strict=True
        ):
            width = entries_of(size, self.orthogonal)
            E = E.unflatten(0, (len(which), width)).transpose(0, 1)
            path = along(E, part.movedim((-2, -1), (1, 0)), size, self.orthogonal)
            paths.append(path.movedim(0, -2))
        return self._whole(paths, rest.unsqueeze(-2))

    def _parts(self, z: Tensor, moves: Tensor, batch: torch.Size) -> list[Tensor]:
        """Of latents, the parts ``(*, count, k)`` of every kind, and the free one ``(*, free)``.

        ``moves`` is what is to move them, of which ``batch`` are the batch axes.
        """
        self._require_latents(z, moves, batch)
        held = z if self._sorted else z.index_select(-1, self._order)
        widths = [size * len(which) for size, which in self.kinds]
        *parts, rest = held.split([*widths, self.free], -1)
        sizes = [size for size, _ in self.kinds]
        return [
            *(part.unflatten(-1, (-1, size)) for part, size in zip(parts, sizes, strict=True)),
            rest,
        ]

    def _whole(self, parts: list[Tensor], rest: Tensor) -> Tensor:
        """Latents of their parts, those of ``_parts``; the free one broadcasts."""
        flat = [part.flatten(-2) for part in parts]
        if self.free:
            flat.append(rest.expand(*flat[0].shape[:-1], self.free))
        whole = flat[0] if len(flat) == 1 else torch.cat(flat, -1)
        return whole if self._sorted else whole.index_select(-1, self._back)

    def _require_latents(self, z: Tensor, moves: Tensor, batch: torch.Size) -> None:
        if z.shape[-1:] != (self.size,):
            raise ValueError(
                f"z has shape {tuple(z.shape)}; latents have trailing shape ({self.size},)"
            )
        require_dtype("z", z, moves.dtype)
        if not broadcast(z.shape[:-1], batch):
            raise ValueError(
                f"z has shape {tuple(z.shape)}, the actions have batch axes {tuple(batch)}: "
                "expected axes that broadcast"
            )
