"""Modules whose parameters and buffers are those of several, stacked along a new first axis."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

__all__ = ["nth", "replaced", "stacked"]


def nth(tree: Any, k: int) -> Any:
    """The k-th of what is stacked in every tensor of a tree."""
    return tree_map_only(Tensor, lambda value: value[k], tree)


@torch.no_grad()
def replaced(module: nn.Module, value_of: Callable[[str, Tensor], Tensor]) -> nn.Module:
    """A copy of a module with other values in its parameters and buffers; what is tied stays so."""
    made = copy.deepcopy(module)
    known: dict[Tensor, Tensor] = {}
    tensors = (
        *made.named_parameters(remove_duplicate=False),
        *made.named_buffers(remove_duplicate=False),
    )
    for name, old in tensors:
        if old not in known:
            value = value_of(name, old.detach())
            is_parameter = isinstance(old, nn.Parameter)
            known[old] = nn.Parameter(value, old.requires_grad) if is_parameter else value
        owner, _, leaf = name.rpartition(".")
        setattr(made.get_submodule(owner), leaf, known[old])
    return made


def stacked(models: Sequence[nn.Module]) -> nn.Module:
    """A copy of the first model whose parameters and buffers are those of all, stacked."""
    every = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in models]

    def of_all(name: str, first: Tensor) -> Tensor:
        values = [own.get(name) for own in every]
        shapes = [None if value is None else tuple(value.shape) for value in values]
        if set(shapes) != {tuple(first.shape)}:
            raise ValueError(
                f"models have {name!r} of shapes {shapes}: expected models of one architecture"
            )
        return torch.stack([own[name] for own in every])

    return replaced(models[0], of_all)
