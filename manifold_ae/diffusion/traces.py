r"""Traces of diffusion processes: what is seen, and the actions that lead from each to the next.

A trace o₁, g₁, o₂, … has x at successive times as observations, and as actions the steps between
them, in coordinates of the Lie algebra of ``groups.ScaleTranslation(n)``,

    (log s, b/φ₁(log s)),        φ₁(a) = (eᵃ − 1)/a,

whose exp is one to one: nothing is lost. An action is n + 1 numbers, 785 for a picture of 28×28
pixels, where its matrix would have 616,225. ``data.diffusion_traces`` makes data to learn from.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from manifold_ae.diffusion import samplers
from manifold_ae.diffusion.chains import Chain
from manifold_ae.diffusion.schedule import Schedule
from manifold_ae.groups import ScaleTranslation
from manifold_ae.groups.base import check_size

__all__ = ["KINDS", "DiffusionTrace", "diffusion_trace"]

#: Kind → the chain that it is a trace of.
KINDS: dict[str, Callable[..., Chain]] = {
    "ddim": samplers.ddim_chain,
    "ddpm": samplers.ddpm_chain,
    "ve": samplers.ve_chain,
    "vp": samplers.vp_chain,
}


class DiffusionTrace(NamedTuple):
    """Observations ``(n, K + 1, *shape)``, actions ``(n, K, features + 1)``, and what they are of.

    Both are float64; ``times`` is ``(n, K + 1)``, int64, and ``group`` that of the actions.
    """

    observations: Tensor
    actions: Tensor
    times: Tensor
    group: ScaleTranslation


def diffusion_trace(
    kind: str,
    x: Tensor,
    schedule: Schedule | None = None,
    *,
    steps: int | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> DiffusionTrace:
    """Traces of a diffusion process, one from every start, computed in float64.

    Args:
        kind: ``"vp"`` or ``"ve"``, which add noise, or ``"ddpm"`` or ``"ddim"``, which remove it.
        x: starts, of shape ``(n, *shape)``: clean data where noise is added, standard normal where
            it is removed. Pictures have their pixels as features.
        schedule: with ᾱ, of all kinds but VE.
        steps: how many steps a trace has; each is a window at a random place of its process. By
            default the whole process.
        generator: where randomness comes from.
        options: what ``samplers.vp_chain``, ``ve_chain``, ``ddpm_chain`` or ``ddim_chain`` takes
            besides: ``denoiser``, on rows ``(n, features)`` of float64, to remove noise by,
            ``times``, ``eta``, ``variance``, ``sigmas``, ``progress``.

    Raises:
        ValueError: if there is no such kind, an option is missing or is none of this kind, or what
            the chain refuses.

    Example:
        >>> trace = diffusion_trace(
        ...     "vp", torch.ones(5, 28, 28), Schedule.linear(), times=(0, 9, 50)
        ... )
        >>> trace.observations.shape, trace.actions.shape
        (torch.Size([5, 3, 28, 28]), torch.Size([5, 2, 785]))
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(KINDS)}")
    if schedule is not None:
        options["schedule"] = schedule
    _require_options(kind, options)
    if not isinstance(x, Tensor):
        raise ValueError(f"x is {type(x).__name__}: expected a tensor, torch.as_tensor(x)")
    if x.dim() < 2 or x.numel() < 1:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected (n, *shape), a start for each")
    start = x.double().flatten(1)
    chain = KINDS[kind](x=start, generator=generator, **options)
    first, count = _windows(len(start), len(chain), steps, start.device, generator)
    places = first + torch.arange(count + 1, device=start.device)
    rows = torch.arange(len(start), device=start.device).unsqueeze(-1)
    # The logarithms of those steps alone that are kept.
    actions = chain.group.log(chain.elements[rows, places[:, :-1]])
    return DiffusionTrace(
        observations=chain.states[rows, places].unflatten(-1, x.shape[1:]),
        actions=actions,
        times=torch.tensor(chain.times, device=start.device)[places],
        group=chain.group,
    )


def _windows(
    n: int, length: int, steps: int | None, device: torch.device, generator: torch.Generator | None
) -> tuple[Tensor, int]:
    """Where each of n traces begins in its process, of shape ``(n, 1)``, and its steps."""
    if steps is None:
        return torch.zeros(n, 1, dtype=torch.int64, device=device), length
    check_size("diffusion_trace", steps, argument="steps")
    if steps > length:
        raise ValueError(f"steps={steps}: expected at most {length}, those of the process")
    shape = (n, 1)
    first = torch.randint(length - steps + 1, shape, generator=generator, device=device)
    return first, steps


def _require_options(kind: str, options: dict[str, Any]) -> None:
    """Raise a ValueError unless these are what the chain of this kind takes and needs."""
    taken = dict(inspect.signature(KINDS[kind]).parameters)
    for name in ("x", "generator"):
        del taken[name]
    if unknown := [name for name in options if name not in taken]:
        raise ValueError(
            f"{unknown[0]}={options[unknown[0]]!r}: traces of kind {kind!r} have no such option; "
            f"they have {', '.join(taken)}"
        )
    needed = [name for name, p in taken.items() if p.default is p.empty]
    if missing := [name for name in needed if name not in options]:
        raise ValueError(f"{missing[0]} is missing: traces of kind {kind!r} need {missing[0]}=…")
