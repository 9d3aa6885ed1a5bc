"""Traces of a user's own, in a `.npz` file: what is wrong with it is named before it is read.

How it is read is said in `archives`.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from manifold_ae.groups import FiniteGroup, Group

from ._checks import did_you_mean
from .archives import open_archive
from .arrays import to_float32
from .traces import Traces, check_elements, check_layout

#: The arrays of such a file.
KEYS = ("observations", "actions", "states")
#: What their first axes count.
AXES = ("trace", "step")


def load_traces(path: str | os.PathLike[str], group: Group, *, name: str | None = None) -> Traces:
    """Return the traces in a `.npz` file, as numpy.savez writes it.

    Arguments:
        path: The file, with `observations`, `(n, steps + 1, *shape)`, real numbers; `actions`, of a
            Lie group floating-point coordinates `(n, steps, group.dim)`, of a finite one integers
            `(n, steps)`; and `states`, if they are known.
        group: The group of the actions.
        name: What to call the traces; by default, as the file.

    Raises:
        FileNotFoundError: If there is no such file; names the nearest one in its folder.
        ValueError: If it is no `.npz` file, or truncated, an array is missing, of a wrong shape or
            type, or has values that are not finite or are no elements of the group.
    """
    path = Path(path)
    with open_archive(path, "observations=..., actions=...") as archive:
        wanted = _wanted(archive.names, path)
        headers = {key: archive.header(key)[0] for key in wanted}
        check_layout(headers["observations"], headers["actions"], group, path.name)
        arrays = {key: archive.read(key) for key in wanted}
    states = arrays.get("states")
    return Traces(
        observations=to_float32(arrays["observations"], "observations", axes=AXES),
        actions=_actions(arrays["actions"], group),
        group=group,
        states=None if states is None else torch.from_numpy(states),
        name=name or path.stem,
    )


def _wanted(names: list[str], path: Path) -> list[str]:
    for key in KEYS[:2]:
        if key not in names:
            held = ", ".join(names) or "nothing"
            if "x" in names:
                raise ValueError(
                    f"{path} holds rows ({held}) and no traces: it is a file for a ΔVAE, as in "
                    "manifold-ae train vae --data; traces have observations and actions"
                )
            others = [name for name in names if name not in KEYS]
            raise ValueError(
                f"{path} has no {key!r}, it has {held}{did_you_mean(key, others)}; save it with "
                "numpy.savez(path, observations=..., actions=...)"
            )
    return [key for key in KEYS if key in names]


def _actions(x: np.ndarray, group: Group) -> Tensor:
    integers = x.dtype.kind in "iu"
    if not isinstance(group, FiniteGroup):
        if x.dtype.kind != "f":
            raise ValueError(
                f"actions has elements of type {x.dtype}: {group!r} is a Lie group and takes "
                "coordinates of its algebra, floats; convert them with array.astype, or give the "
                "finite group that these integers number"
            )
        return to_float32(x, "actions", axes=AXES)
    if not integers:
        raise ValueError(
            f"actions has elements of type {x.dtype}: {group!r} is finite, and its elements are "
            f"integers from 0 to {group.order - 1}; convert them with array.astype, or give a Lie "
            "group"
        )
    # unsigned values past int64 become negative, and are refused as well
    actions = torch.from_numpy(x.astype(np.int64))
    check_elements(actions, group)
    return actions
