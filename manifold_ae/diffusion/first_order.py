r"""Chains as affine maps, to first order about their starts.

The element of a DDIM step, (a, c ε̂(x_t, t)), does at its own state what the step does, and at no
other: at x_t + δ the step does a δ + c Dε̂(x_t, t) δ + O(|δ|²) more, the element a δ. The map that
agrees to first order is an element of ``groups.Affine(n)``,

    h_t = (A_t, x_s − A_t x_t),        A_t = a I + c Dε̂(x_t, t),

and the chain rule says that these compose: h_K … h_1 is to the whole chain what each is to its
step. To first order a chain is one element again, for a neighbourhood and not for a point alone.
For Gaussian data ε̂ is affine, and it is one element for all states, that of ``gaussian_chain``.

It costs n derivatives of the denoiser for every call of it.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from manifold_ae.diffusion import samplers
from manifold_ae.diffusion.schedule import Schedule, require_vectors
from manifold_ae.diffusion.steps import Denoiser
from manifold_ae.groups import Affine
from manifold_ae.groups.homogeneous import homogeneous

__all__ = ["ddim_first_order"]


def ddim_first_order(
    denoiser: Denoiser, schedule: Schedule, x: Tensor, times: Sequence[int] | None = None
) -> Tensor:
    """What a chain of DDIM steps at η = 0 does to x and, to first order, to what is near it.

    Args:
        denoiser: ``denoiser(x, t)`` → predicted noise, that of each row from this row alone, and
            differentiable.
        schedule: with ᾱ.
        x: x_t at the first of the times, of shape ``(*, n)``.
        times: falling times; by default all, T, T − 1, …, 0.

    Returns:
        Tensor: elements of ``Affine(n)``, of shape ``(*, n + 1, n + 1)``, without a gradient:
        acting on x, the end of the chain; its linear part, the derivative of the end by x.

    Raises:
        ValueError: as ``samplers.ddim``, and if a prediction has no gradient.

    Example:
        >>> from manifold_ae.diffusion import exact
        >>> schedule = Schedule.linear(1000)
        >>> denoiser = exact.gaussian([3.0], [0.25], schedule)
        >>> ddim_first_order(denoiser, schedule, torch.zeros(1), schedule.times(1000))
        tensor([[0.4985, 2.9905],
                [0.0000, 1.0000]])
    """
    visited = schedule.require_times(
        range(schedule.steps, -1, -1) if times is None else tuple(times)
    )
    require_vectors("x", x)
    group = Affine(x.shape[-1])
    total = group.identity(*x.shape[:-1], dtype=x.dtype, device=x.device)
    for t, s in pairwise(visited):
        step, x = _step(denoiser, schedule, x, (t, s))
        total = group.compose(step, total)
    return total


def _step(
    denoiser: Denoiser, schedule: Schedule, x: Tensor, times: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """h_t, of shape ``(*, n + 1, n + 1)``, and x_s."""
    with torch.enable_grad():
        before = x.detach().requires_grad_()
        predicted = denoiser(before, times[0])
        if not predicted.requires_grad:
            raise ValueError(
                f"the denoiser's prediction at t={times[0]} has no gradient: expected one that is "
                "differentiable by x; do not detach it, nor compute it under torch.no_grad()"
            )
        after = samplers.ddim(lambda *_: predicted, schedule, before, times)
        # Rows do not look at each other: the gradient of a sum over them is that of each.
        rows = [
            torch.autograd.grad(after[..., i].sum(), before, retain_graph=True)[0]
            for i in range(x.shape[-1])
        ]
    linear, after = torch.stack(rows, -2), after.detach()
    moved = after - (linear @ before.detach().unsqueeze(-1)).squeeze(-1)
    return homogeneous(linear, moved), after
