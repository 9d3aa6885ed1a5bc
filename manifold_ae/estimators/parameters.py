"""Parameters of an estimator, as a configuration has them: plain values, by the same names."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from manifold_ae import manifolds
from manifold_ae.experiments import VAE
from manifold_ae.manifolds import Manifold

__all__ = ["DATA", "named", "plain", "seed_of", "shared"]

#: Fields of a configuration that say which rows are trained and tested on.
DATA = (
    "data",
    "data_dir",
    "covariates",
    "exposure",
    "groups",
    "times",
    "labels",
    "split",
    "test_fraction",
    "split_seed",
)


def shared(names: Iterable[str]) -> list[str]:
    """Those of an estimator's parameters that are fields of a configuration."""
    own = {field.name for field in fields(VAE)}
    return [name for name in names if name in own]


def named(manifold: Any) -> Manifold:
    """The manifold meant.

    Raises:
        ValueError: if it is neither a name nor a manifold that has one.
    """
    if isinstance(manifold, str):
        return manifolds.parse(manifold)
    if not isinstance(manifold, Manifold):
        raise ValueError(
            f"manifold = {manifold!r}: expected a name, as 'circle', or a manifold that has one"
        )
    try:
        same = manifolds.parse(manifold.spec) == manifold
    except ValueError:
        same = False
    if not same:
        raise ValueError(
            f"manifold = {manifold!r} has no name that manifolds.parse reads; train it by "
            "models.DeltaVAE"
        )
    return manifold


def seed_of(random_state: Any) -> int:
    """An integer stands for itself, as --seed does; anything else is drawn from."""
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def plain(value: Any) -> Any:
    """NumPy's numbers, as searches give them, as Python's; sequences as tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(map(plain, value))
    return value
