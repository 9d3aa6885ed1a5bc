r"""The steps of diffusion processes as elements of ``groups.ScaleTranslation(n)``.

Every step, noising or denoising, is x ↦ s x + b with a scale s > 0 that the schedule alone decides
and a translation b along noise, drawn or predicted. With times s < t, ᾱ of the schedule,
α = ᾱ_t/ᾱ_s, a = 1/√α, and a denoiser's ε̂ at (x_t, t):

    VP noising    (√α, √(1 − α) ε)
    VE noising    (1, σ ε)
    DDPM          (a, −a (1 − α)/√(1 − ᾱ_t) ε̂ + σ ξ),
                  σ² = 1 − α or (1 − α)(1 − ᾱ_s)/(1 − ᾱ_t), and 0 where s = 0
    DDIM          (a, (√(1 − ᾱ_s − σ²) − a √(1 − ᾱ_t)) ε̂ + σ ξ),
                  σ = η √((1 − ᾱ_s)/(1 − ᾱ_t)) √(1 − α)

This is the form in the predicted noise. Written with the predicted x̂₀, the same point is reached
by another element, whose scale is 0 in the last step: it has no inverse.

A step is an element that acts on all x, yet ε̂ was predicted at one: on others it does what it did
there. Coefficients are computed in float64, whatever the noise.

References:
    Ho, Jain and Abbeel, *Denoising diffusion probabilistic models*, 2020,
    https://arxiv.org/abs/2006.11239, eq. 2, 4, 7 and 11. Song, Meng and Ermon, *Denoising diffusion
    implicit models*, 2021, https://arxiv.org/abs/2010.02502, eq. 12 and 16. Song et al.,
    *Score-based generative modeling through stochastic differential equations*, 2021,
    https://arxiv.org/abs/2011.13456 (VP, VE).
"""

import math
import numbers
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from manifold_ae.diffusion.schedule import Schedule, Time, require_vectors
from manifold_ae.groups.base import require_values

__all__ = ["Denoiser", "ddim_step", "ddpm_step", "ve_step", "vp_step"]

#: ``denoiser(x, t)`` → the predicted noise ε̂, of the shape and dtype of x, which is ``(*, n)``, for
#: a time, or times of shape ``(*)``.
Denoiser = Callable[[Tensor, Time], Tensor]


def vp_step(schedule: Schedule, t: Time, noise: Tensor, *, s: Time | None = None) -> Tensor:
    """Variance-preserving noising from time s to t: (√α, √(1 − α) ε).

    Args:
        schedule: with ᾱ.
        t: the time after the step, an integer or integers of shape ``(*)``.
        noise: ε, standard normal, of shape ``(*, n)``.
        s: the time before it, t − 1 unless given; from 0 to t it is the whole process at once.

    Returns:
        Tensor: an element of ``ScaleTranslation(n)``, of shape ``(*, n + 1)``.

    Raises:
        ValueError: unless 0 ≤ s < t ≤ T and the noise is finite.

    Example:
        >>> schedule = Schedule.linear(1000)
        >>> vp_step(schedule, 500, torch.ones(2), s=0)
        tensor([0.2803, 0.9599, 0.9599])
    """
    s = _before(t, s)
    schedule.require_order(t, s)
    require_vectors("noise", noise)
    ratio = schedule.at(t) / schedule.at(s)
    return _element(ratio.sqrt(), (1 - ratio).sqrt(), noise)


def ve_step(sigma: float | Tensor, noise: Tensor) -> Tensor:
    """Variance-exploding noising, a translation: (1, σ ε), of shape ``(*, n + 1)``.

    Args:
        sigma: σ ≥ 0, a number or one a sample, of shape ``(*)``.
        noise: ε, standard normal, of shape ``(*, n)``.

    Raises:
        ValueError: if σ is negative or not finite, or the noise is not finite.
    """
    require_vectors("noise", noise)
    if not isinstance(sigma, numbers.Real | Tensor):
        raise ValueError(f"sigma={sigma!r}: expected a number, or a tensor of one a sample")
    sizes = torch.as_tensor(sigma, dtype=torch.float64)
    require_values(
        sizes.isfinite() & (sizes >= 0),
        lambda: f"sigma={sigma!r}: expected a standard deviation, a finite number of at least 0",
    )
    sizes = sizes.unsqueeze(-1) if sizes.dim() else sizes
    return _element(torch.ones_like(sizes), sizes, noise)


def ddpm_step(
    schedule: Schedule,
    t: Time,
    predicted_noise: Tensor,
    noise: Tensor | None = None,
    *,
    variance: str = "posterior",
    s: Time | None = None,
) -> Tensor:
    """Ancestral denoising from time t to s < t; no noise is added in the step to 0.

    Args:
        schedule: with ᾱ.
        t: the time before the step, an integer or integers of shape ``(*)``.
        predicted_noise: ε̂ at (x_t, t), of shape ``(*, n)``.
        noise: ξ, standard normal, of the same shape; it may be left out in a step to 0 alone.
        variance: ``"beta"``, 1 − α, or ``"posterior"``, β̃ = (1 − α)(1 − ᾱ_s)/(1 − ᾱ_t).
        s: the time after it, t − 1 unless given.

    Returns:
        Tensor: an element of ``ScaleTranslation(n)``, of shape ``(*, n + 1)``.

    Raises:
        ValueError: unless 0 ≤ s < t ≤ T, noises are finite, and the variance is one of the two.
    """
    s = _before(t, s)
    schedule.require_order(t, s)
    late, early = schedule.at(t), schedule.at(s)
    ratio = late / early
    if variance == "posterior":
        spread = (1 - ratio) * (1 - early) / (1 - late)
    elif variance == "beta":
        spread = torch.where(early < 1, 1 - ratio, 0.0)
    else:
        raise ValueError(f"variance={variance!r}: expected 'beta' or 'posterior'")
    along = -(1 - ratio) / (ratio.sqrt() * (1 - late).sqrt())
    return _denoising(t, ratio.rsqrt(), along, spread.sqrt(), predicted_noise, noise)


def ddim_step(
    schedule: Schedule,
    t: Time,
    s: Time,
    predicted_noise: Tensor,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """Implicit denoising from time t to any s < t: deterministic at η = 0; η = 1 is DDPM with β̃.

    Args:
        schedule: with ᾱ.
        t: the time before the step, an integer or integers of shape ``(*)``.
        s: the time after it, of the same kind.
        predicted_noise: ε̂ at (x_t, t), of shape ``(*, n)``.
        eta: η ≥ 0, how much noise is added.
        noise: ξ, standard normal, of the same shape; it may be left out where none is added.

    Returns:
        Tensor: an element of ``ScaleTranslation(n)``, of shape ``(*, n + 1)``.

    Raises:
        ValueError: unless 0 ≤ s < t ≤ T, noises are finite, and η ≥ 0 leaves 1 − ᾱ_s − σ² ≥ 0,
            as all η ≤ 1 do.

    Example:
        >>> schedule = Schedule.linear(1000)
        >>> ddim_step(schedule, 500, 250, torch.ones(2))
        tensor([ 2.5824, -1.7890, -1.7890])
    """
    schedule.require_order(t, s)
    if isinstance(eta, bool) or not isinstance(eta, numbers.Real) or not 0 <= eta < math.inf:
        raise ValueError(f"eta={eta!r}: expected a number of at least 0; 0 adds no noise")
    late, early = schedule.at(t), schedule.at(s)
    ratio = late / early
    # σ² = η² share (1 − ᾱ_s); the share is at most 1, and 1 in the step to 0, where ᾱ_s = 1.
    share = (1 - ratio) / (1 - late)
    taken = float(eta) ** 2 * share
    require_values(
        (taken <= 1) | (early == 1),
        lambda: (
            f"eta={eta!r}: the noise of the step has more variance than is left at its end; "
            f"expected at most {share.max().rsqrt().item():.6g} here, and 1 is safe everywhere"
        ),
    )
    left = 1 - early
    kept = (left * (1 - taken).clamp_min(0.0)).sqrt()
    along = kept - ratio.rsqrt() * (1 - late).sqrt()
    return _denoising(t, ratio.rsqrt(), along, (left * taken).sqrt(), predicted_noise, noise)


def _before(t: Time, s: Time | None) -> Time:
    """The time s, the one before t unless it is given."""
    # No number at all is refused with the other times.
    return s if s is not None else t - 1 if isinstance(t, numbers.Integral | Tensor) else 0


def _denoising(
    t: Time, scale: Tensor, along: Tensor, spread: Tensor, predicted: Tensor, noise: Tensor | None
) -> Tensor:
    """(scale, along ε̂ + spread ξ); ξ must be given where the spread is not 0."""
    when = "" if isinstance(t, Tensor) else f" at t={t}"
    require_vectors("predicted_noise", predicted, when)
    element = _element(scale, along, predicted)
    if noise is None:
        require_values(
            spread == 0,
            lambda: (
                f"noise=None: expected standard normal noise of shape {tuple(predicted.shape)}, as "
                f"the step{when} adds some; zeros of that shape leave it out"
            ),
        )
        return element
    require_vectors("noise", noise)
    if noise.shape != predicted.shape or noise.dtype != predicted.dtype:
        raise ValueError(
            f"noise has shape {tuple(noise.shape)}, {noise.dtype}: expected "
            f"{tuple(predicted.shape)}, {predicted.dtype}, those of predicted_noise"
        )
    added = element[..., 1:] + spread.to(element) * noise
    return torch.cat([element[..., :1], added], -1)


def _element(scale: Tensor, size: Tensor, noise: Tensor) -> Tensor:
    """(scale, size ε) of shape ``(*, n + 1)``, for coefficients of shape ``()`` or ``(*, 1)``."""
    like: dict[str, Any] = {"dtype": noise.dtype, "device": noise.device}
    own = tuple(torch.broadcast_shapes(scale.shape, size.shape))[:-1]
    batch = tuple(noise.shape[:-1])
    if any(m not in (1, n) for m, n in zip(own[::-1], batch[::-1], strict=False)):
        raise ValueError(
            f"noise has shape {tuple(noise.shape)}, for times or sizes of shape {own}: expected "
            f"{(*own, noise.shape[-1])}, one of them for each sample"
        )
    b = size.to(**like) * noise
    return torch.cat([scale.to(**like).expand(*b.shape[:-1], 1), b], -1)
