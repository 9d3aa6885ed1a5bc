"""What a learned representation may be asked for: sizes of blocks, and what φ suits a group."""

from collections.abc import Sequence
from typing import Any

from manifold_ae.groups.base import Group
from manifold_ae.groups.finite_group import FiniteGroup

__all__ = ["check_phi", "sizes_of"]


def sizes_of(size: int | None, blocks: Sequence[int] | str | None, free: int) -> tuple[int, ...]:
    """The sizes of the blocks, checked against ``size`` and ``free``."""
    if isinstance(free, bool) or not isinstance(free, int) or free < 0:
        raise ValueError(f"free must be an integer of at least 0, got {free!r}")
    if isinstance(blocks, str) and blocks != "soft":
        raise ValueError(f"blocks must be sizes, 'soft' or None, got {blocks!r}")
    if blocks is None or isinstance(blocks, str):
        if isinstance(size, bool) or not isinstance(size, int) or size <= free:
            raise ValueError(
                f"size must be an integer greater than free = {free} where blocks = {blocks!r}, "
                f"got {size!r}"
            )
        return (size - free,)
    if not isinstance(blocks, Sequence):
        raise ValueError(f"blocks = {blocks!r}: expected a list of sizes, such as [2, 2]")
    found = tuple(blocks)
    if not found or not all(isinstance(k, int) and not isinstance(k, bool) for k in found):
        raise ValueError(f"blocks = {blocks!r}: expected integers, one or more")
    if min(found) < 1:
        raise ValueError(f"blocks = {blocks!r}: sizes must be positive")
    if size is not None and size != sum(found) + free:
        raise ValueError(
            f"size = {size!r}, but blocks = {blocks!r} and free = {free} add up to "
            f"{sum(found) + free}; leave size out"
        )
    return found


def check_phi(
    group: Group,
    phi: str,
    scramble: int | None,
    skip: bool,
    determinants: Any,
    orthogonal: bool,
) -> None:
    finite = isinstance(group, FiniteGroup)
    if phi not in ("linear", "mlp", "lookup"):
        raise ValueError(f"phi must be 'linear', 'mlp' or 'lookup', got {phi!r}")
    if finite != (phi == "lookup"):
        way = (
            "its elements are integers, use phi='lookup'"
            if finite
            else "its actions are coordinates, use phi='linear' or phi='mlp'"
        )
        raise ValueError(f"phi = {phi!r} for {group!r}: {way}")
    if scramble is not None and phi != "mlp":
        raise ValueError(
            f"scramble = {scramble!r} with phi = {phi!r}: scrambled coordinates are no longer "
            "those of a Lie algebra, and only phi='mlp' can undo them"
        )
    if skip and phi != "mlp":
        raise ValueError(
            f"skip = {skip!r} with phi = {phi!r}: the linear map is beside a perceptron; leave "
            "skip out, or use phi='mlp'"
        )
    if determinants is not None and (phi != "lookup" or not orthogonal):
        raise ValueError("determinants are those of phi='lookup' with orthogonal=True")
