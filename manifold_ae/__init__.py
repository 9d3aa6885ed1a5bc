"""Autoencoders whose latent space has a shape: manifold-latent VAEs (ΔVAE) and their geometry.

Submodules are imported on first use, so that ``import manifold_ae`` costs nothing and the command
line answers ``--help`` without importing torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manifold_ae import (
        data,
        diffusion,
        distributions,
        estimators,
        experiments,
        groups,
        heat,
        interop,
        manifolds,
        metrics,
        models,
        nn,
        numerics,
        plots,
        replicas,
        run,
        training,
    )

__version__ = "0.1.0"

__all__ = [
    "data",
    "diffusion",
    "distributions",
    "estimators",
    "experiments",
    "groups",
    "heat",
    "interop",
    "manifolds",
    "metrics",
    "models",
    "nn",
    "numerics",
    "plots",
    "replicas",
    "run",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
