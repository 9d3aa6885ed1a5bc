r"""Gaussian data: a DDIM step is one affine map for all states, and so is a whole chain.

In general the element of a step depends on where it is taken. For data N(m, Σ) the predicted noise
is affine in x, and with it the step from t to s, at η = 0,

    x_s = √ᾱ_s m + S (x_t − √ᾱ_t m),
    S = (√(ᾱ_s ᾱ_t) Σ + √((1 − ᾱ_s)(1 − ᾱ_t)) I)(ᾱ_t Σ + (1 − ᾱ_t) I)⁻¹:

each principal axis, of variance λ, has a scale of its own, the cosine formula of the vectors
(√(ᾱ λ), √(1 − ᾱ)) at t and s. The means √ᾱ m are carried into each other, so that a chain is
again such a map, with the product of the scales: the oracle of everything that learns from chains.
As an element in the form of the predicted noise the step still differs from state to state.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manifold_ae.diffusion.exact import eigenbasis, table
from manifold_ae.diffusion.schedule import Schedule

__all__ = ["gaussian_chain", "gaussian_step"]


def gaussian_step(schedule: Schedule, t: int, s: int, mean: Any, covariance: Any) -> Tensor:
    """The DDIM step from time t to s < t for data N(m, Σ), at η = 0, as one map for all states.

    Args:
        schedule: with ᾱ.
        t: the time before the step.
        s: the time after it.
        mean: m, of shape ``(n,)``.
        covariance: Σ, of shape ``(n, n)``, or its diagonal ``(n,)``.

    Returns:
        Tensor: in float64: for a diagonal, an element of ``ScaleTranslation(n, diagonal=True)``, of
        shape ``(2n,)``; for a matrix, of ``Affine(n)``, of shape ``(n + 1, n + 1)``.

    Raises:
        ValueError: unless 0 ≤ s < t ≤ T and Σ is symmetric and positive semidefinite; and where
            the map is not invertible: to time 0, if Σ is singular.
    """
    return gaussian_chain(schedule, (t, s), mean, covariance)


def gaussian_chain(schedule: Schedule, times: Sequence[int], mean: Any, covariance: Any) -> Tensor:
    """A whole chain of DDIM steps for data N(m, Σ), at η = 0, as one map for all states.

    Args:
        schedule: with ᾱ.
        times: falling times, as ``samplers.ddim`` takes them.
        mean: m, of shape ``(n,)``.
        covariance: Σ, of shape ``(n, n)``, or its diagonal ``(n,)``.

    Returns:
        Tensor: as of ``gaussian_step``.

    Raises:
        ValueError: as ``gaussian_step``.

    Example:
        >>> schedule = Schedule.linear(1000)
        >>> gaussian_chain(schedule, schedule.times(1000), [1.0], [0.25])
        tensor([0.4985, 0.9968], dtype=torch.float64)
    """
    visited = torch.tensor(schedule.require_times(times))
    m = table("mean", mean, 1)
    axes, values = eigenbasis(table("covariance", covariance, 1, 2), tuple(m.shape))
    if visited[-1] == 0 and bool((values == 0).any()):
        raise ValueError(
            "covariance is singular: the step to time 0 has no inverse, and is no element of a "
            "group; end the chain at time 1"
        )
    signal, noise = schedule.at(visited), 1 - schedule.at(visited)  # (K + 1, 1)
    late, early = slice(None, -1), slice(1, None)
    shared = (signal[late] * signal[early]).sqrt() * values
    shared = shared + (noise[late] * noise[early]).sqrt()
    scale = (shared / (signal[late] * values + noise[late])).prod(0)
    first, last = signal[0].sqrt(), signal[-1].sqrt()
    if axes is None:
        return torch.cat([scale, (last - scale * first) * m])
    linear = (axes * scale) @ axes.mT
    moved = last * m - first * (linear @ m)
    bottom = torch.eye(len(m) + 1, dtype=m.dtype)[-1:]
    return torch.cat([torch.cat([linear, moved[:, None]], -1), bottom])
