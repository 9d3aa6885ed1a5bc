"""Traces of diffusion processes, as data to learn from.

The actions are the steps of the process, elements of `groups.ScaleTranslation`; see
`manifold_ae.diffusion`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from manifold_ae.diffusion import Schedule, diffusion_trace

from .traces import Traces


def diffusion_traces(
    kind: str,
    x: Tensor,
    schedule: Schedule | None = None,
    *,
    observe: Callable[[Tensor], Tensor] | None = None,
    steps: int | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Traces:
    """Return traces of a diffusion process, one from every start, with its states.

    Arguments:
        kind: `"vp"` or `"ve"`, which add noise, or `"ddpm"` or `"ddim"`, which remove it.
        x: Starts, with shape `(n, *shape)`: clean data where noise is added, standard normal where
            it is removed.
        schedule: Of all kinds but `"ve"`.
        observe: What is seen of states `(*, *shape)`, such as points drawn as pictures; by default
            the states themselves.
        steps: How many steps each trace has, at a random place of its process; by default all.
        generator: Where randomness comes from.
        options: As of `manifold_ae.diffusion.diffusion_trace`: `denoiser`, `times`, `eta`,
            `variance`, `sigmas`, `progress`.

    Raises:
        ValueError: If something that the kind needs is missing or wrong.

    Example:
        >>> traces = diffusion_traces("ve", torch.zeros(4, 8, 8), sigmas=[0.1, 0.1, 0.2])
        >>> traces.shape, traces.actions.shape, traces.group
        ((8, 8), torch.Size([4, 3, 65]), ScaleTranslation(64))
    """
    made = diffusion_trace(kind, x, schedule, steps=steps, generator=generator, **options)
    states = made.observations
    observations = states if observe is None else observe(states)
    return Traces(
        observations=observations.float(),
        actions=made.actions.float(),
        group=made.group,
        states=states.float(),
        name=f"{kind} diffusion",
    )
