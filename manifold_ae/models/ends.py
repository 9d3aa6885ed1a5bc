"""What networks say of their ends: how many features they give, as maps or as a place."""

from typing import Any

from torch import nn

from manifold_ae.manifolds import Manifold

__all__ = ["gives_location", "out_features", "out_shape"]


def gives_location(encoder: nn.Module, manifold: Manifold) -> bool:
    """Whether an encoder's first features are a place on M.

    Raises:
        ValueError: if they are one on another manifold.
    """
    size = getattr(encoder, "location_features", None)
    if size is not None and size != manifold.feature_size:
        raise ValueError(
            f"the encoder, a {type(encoder).__name__}, gives a place by {size} features, and "
            f"{manifold!r} takes {manifold.feature_size}: give it another encoder"
        )
    return size is not None


def out_shape(decoder: nn.Module) -> int | tuple[int, ...]:
    """What a decoder gives: the shape of its maps where it has some, else how many features."""
    maps: Any = getattr(decoder, "out_maps", None)
    return out_features("decoder", decoder) if maps is None else tuple(maps)


def out_features(role: str, module: nn.Module) -> int:
    """How many features a network gives: its own word, or its last layer's."""
    for layer in (module, *reversed(list(module.modules()))):
        size = getattr(layer, "out_features", None)
        if isinstance(size, int):
            return size
    raise ValueError(
        f"the {role}, a {type(module).__name__}, does not tell its number of features; "
        f"set {role}.out_features"
    )
