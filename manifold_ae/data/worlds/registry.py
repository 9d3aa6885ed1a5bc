"""The worlds that have a name.

Adding one takes a file with a class under `@register(name, summary)`, and that file's line in
`data/worlds/__init__.py`. The keyword arguments of the class are the world's options.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .._checks import did_you_mean
from .base import World

_REGISTRY: dict[str, tuple[Callable[..., World], str]] = {}
_Maker = TypeVar("_Maker", bound=Callable[..., World])


def register(name: str, summary: str) -> Callable[[_Maker], _Maker]:
    """Register the decorated class, or function that returns a world, under `name`.

    Raises:
        ValueError: If the name is taken.
    """

    def decorate(maker: _Maker) -> _Maker:
        if name in _REGISTRY:
            raise ValueError(f"name={name!r}: a world of this name is registered already")
        _REGISTRY[name] = (maker, summary)
        return maker

    return decorate


def names() -> dict[str, str]:
    """Return the names that `load` knows, each with a line on what it is."""
    return {name: _REGISTRY[name][1] for name in sorted(_REGISTRY)}


def options(name: str) -> dict[str, Any]:
    """Return the options that a world has, with their defaults.

    Raises:
        ValueError: If there is no such world.
    """
    parameters = inspect.signature(_find(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def load(name: str, **own_options: Any) -> World:
    """Load a world by its name.

    Arguments:
        name: One of `names()`.
        own_options: What this world takes; `options(name)` lists them.

    Raises:
        ValueError: If there is no such world, or it has no such option, or a value is out of range.

    Example:
        >>> load("grid-world", rows=3, columns=4).shape
        (3, 4)
    """
    maker, own = _find(name), options(name)
    for option in own_options:
        if option not in own:
            raise ValueError(
                f"{option}={own_options[option]!r}: {name} has no such option; "
                f"it has {', '.join(own)}{did_you_mean(option, own)}"
            )
    return maker(**own_options)


def _find(name: str) -> Callable[..., World]:
    if name not in _REGISTRY:
        raise ValueError(
            f"world={name!r}: expected one of {', '.join(names())}{did_you_mean(name, _REGISTRY)}"
        )
    return _REGISTRY[name][0]
