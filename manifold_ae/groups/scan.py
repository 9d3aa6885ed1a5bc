"""Running products along a sequence of matrices."""

import torch
from torch import Tensor

__all__ = ["cumulative", "tree_pays"]

#: From so many steps on, and on a CPU up to so many entries a step, the tree is the faster of the
#: two: ``tests/benchmarks/scan.py``. On one core, forward and backward, it takes 1.5 to 1.8 times
#: the time of the loop at 8 steps, 0.7 at 32 and 0.3 at 128 of a few entries, 1 at 32 of 500
#: entries and at 128 of 1000, and 1.4 times at 128 of 4500.
LONG, SMALL_STEP = 32, 512


def cumulative(matrices: Tensor) -> Tensor:
    """The products g_t … g_2 g_1 for t = 1, …, T, newest on the left.

    Args:
        matrices: g_1, …, g_T, of shape ``(*, T, n, n)``.

    Returns:
        Tensor: of the same shape; the last of the sequence is the product of all.

    By a loop over t, or, for long sequences, by a tree, which needs 2 log₂ T batched steps instead
    of T, and twice the products: it pays where starting a step is what costs.

    Raises:
        ValueError: if ``matrices`` is no sequence of square matrices.
    """
    if matrices.dim() < 3 or matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(
            f"matrices has shape {tuple(matrices.shape)}: expected (*, T, n, n), T square matrices "
            "along the third axis from the end"
        )
    steps = matrices.shape[-3]
    if steps < 2:
        return matrices.clone()
    with torch.autocast(matrices.device.type, enabled=False):
        pays = tree_pays(steps, matrices.numel() // steps, matrices.device)
        return tree(matrices) if pays else loop(matrices)


def tree_pays(steps: int, entries: int, device: torch.device) -> bool:
    """Whether the tree is the faster way to products of so many steps, of so many entries each."""
    return steps >= LONG and (device.type == "cuda" or entries <= SMALL_STEP)


def loop(matrices: Tensor) -> Tensor:
    """One product after the other."""
    first, *others = matrices.unbind(-3)
    products = [first]
    for matrix in others:
        products.append(matrix @ products[-1])
    return torch.stack(products, -3)


def tree(matrices: Tensor) -> Tensor:
    """Products of pairs, the running products of these, and from them those in between.

    The scan of Ladner and Fischer (1980), in the form that does 2T products in 2 log₂ T steps.
    """
    steps = matrices.shape[-3]
    if steps == 1:
        return matrices
    odd, even = matrices[..., 0::2, :, :], matrices[..., 1::2, :, :]
    pairs = tree(even @ odd[..., : steps // 2, :, :])  # g_2 g_1, g_4 g_3 g_2 g_1, …
    later = odd[..., 1:, :, :] @ pairs[..., : (steps - 1) // 2, :, :]
    between = torch.cat([odd[..., :1, :, :], later], -3)
    whole = steps // 2 * 2
    woven = torch.stack([between[..., : steps // 2, :, :], pairs], -3).flatten(-4, -3)
    return woven if whole == steps else torch.cat([woven, between[..., -1:, :, :]], -3)
