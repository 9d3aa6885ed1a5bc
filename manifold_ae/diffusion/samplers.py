r"""Samplers: a start, and the elements of ``diffusion.steps`` that act on it one after the other.

    x_s = g_t · x_t,        g_t = ddim_step(schedule, t, s, denoiser(x_t, t))

A *denoiser* takes x_t of shape ``(*, n)`` and its time t, and returns the predicted noise, of the
shape and dtype of x. Pictures are rows of pixels here. Gradients flow through all of it; sampling
from a network belongs under ``torch.no_grad()``.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from itertools import pairwise

import torch
from torch import Tensor
from tqdm import tqdm

from manifold_ae.diffusion import chains
from manifold_ae.diffusion.chains import Chain
from manifold_ae.diffusion.schedule import Schedule, require_vectors
from manifold_ae.diffusion.steps import Denoiser, ddim_step, ddpm_step, ve_step, vp_step
from manifold_ae.groups import ScaleTranslation

__all__ = [
    "ddim",
    "ddim_chain",
    "ddim_inversion",
    "ddpm",
    "ddpm_chain",
    "ve_chain",
    "vp_chain",
]

#: ``make(t, s, predicted_noise)`` → an element.
Make = Callable[[int, int, Tensor], Tensor]


# ---- removing noise -----------------------------------------------------------------------------


def ddim(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    times: Sequence[int] | None = None,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """What x at the first of the times becomes at the last, by DDIM steps.

    Args:
        denoiser: ``denoiser(x, t)`` → predicted noise.
        schedule: with ᾱ.
        x: x_t at the first time, of shape ``(*, n)``: from T on, standard normal.
        times: falling times, such as ``schedule.times(50)``; by default all, T, T − 1, …, 0.
        eta: η ≥ 0, how much noise each step adds.
        generator: where that noise comes from.
        progress: whether to show a bar.

    Raises:
        ValueError: if the times are no chain, η does not fit, or x or a prediction is not finite
            or of another shape.

    Example:
        >>> from manifold_ae.diffusion import exact
        >>> schedule = Schedule.linear(1000)
        >>> denoiser = exact.gaussian(torch.tensor([3.0]), torch.tensor([0.0]), schedule)
        >>> ddim(denoiser, schedule, torch.tensor([[-1.0], [1.0]]), schedule.times(10))
        tensor([[3.],
                [3.]])
    """
    make = _ddim(schedule, x, eta, generator)
    return _last(_denoise(denoiser, schedule, x, times, make, progress))


def ddim_chain(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    times: Sequence[int] | None = None,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Chain:
    """As ``ddim``, with all states and elements on the way: K (2n + 1) numbers a sample."""
    make = _ddim(schedule, x, eta, generator)
    return _recorded(x, _denoise(denoiser, schedule, x, times, make, progress))


def ddpm(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    times: Sequence[int] | None = None,
    *,
    variance: str = "posterior",
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """What x at the first of the times becomes at the last, by DDPM steps.

    Args:
        denoiser: ``denoiser(x, t)`` → predicted noise.
        schedule: with ᾱ.
        x: x_t at the first time, of shape ``(*, n)``: from T on, standard normal.
        times: falling times; by default all, T, T − 1, …, 0.
        variance: ``"posterior"`` or ``"beta"``, as in ``ddpm_step``.
        generator: where the noise comes from.
        progress: whether to show a bar.

    Raises:
        ValueError: if the times are no chain, the variance is not one of the two, or x or a
            prediction is not finite or of another shape.
    """
    make = _ddpm(schedule, x, variance, generator)
    return _last(_denoise(denoiser, schedule, x, times, make, progress))


def ddpm_chain(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    times: Sequence[int] | None = None,
    *,
    variance: str = "posterior",
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Chain:
    """As ``ddpm``, with all states and elements on the way: K (2n + 1) numbers a sample."""
    make = _ddpm(schedule, x, variance, generator)
    return _recorded(x, _denoise(denoiser, schedule, x, times, make, progress))


def ddim_inversion(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    times: Sequence[int] | None = None,
    *,
    tolerance: float | None = None,
    iterations: int = 200,
    progress: bool = False,
) -> Tensor:
    """The x_t from which ``ddim`` with η = 0 comes to x: the inverse of the map, without a record.

    The element that led to x_s was predicted at the x_t that is sought, g(x_t)·x_t = x_s, so that
    its inverse is not known; x_t is found by iteration of

        x ← x + (x_s − g(x)·x)/κ,        κ = √(ᾱ_s ᾱ_t) + √((1 − ᾱ_s)(1 − ᾱ_t)),

    where κ is the slope of the step on standard normal data. It converges for short steps; long
    ones between modes need not be one to one.

    Args:
        denoiser: ``denoiser(x, t)`` → predicted noise.
        schedule: with ᾱ.
        x: at the last of the times, of shape ``(*, n)``.
        times: the falling times of the chain to be undone; by default T, T − 1, …, 0.
        tolerance: change of an iteration, relative to the largest entry and to the scale of the
            step, to stop at; by default 64 roundings.
        iterations: how many to try for each step.
        progress: whether to show a bar.

    Raises:
        ValueError: as ``ddim``, and if a step does not converge.
    """
    times = _falling(schedule, times)
    require_vectors("x", x)
    group = ScaleTranslation(x.shape[-1])
    bound = 64 * torch.finfo(x.dtype).eps if tolerance is None else tolerance
    pairs = list(pairwise(times))[::-1]
    for t, s in tqdm(pairs, disable=not progress, desc="DDIM inversion"):
        late, early = schedule.at(t), schedule.at(s)
        slope = ((early * late).sqrt() + ((1 - early) * (1 - late)).sqrt()).item()
        # Rounding of x_t is enlarged by the scale of the step.
        close = bound * (early / late).sqrt().item()
        after, change = x, torch.inf
        for _ in range(iterations):
            g = ddim_step(schedule, t, s, _predict(denoiser, x, t))
            correction = (after - group.act(g, x)) / slope
            x = x + correction
            change = (correction.abs().max() / x.abs().max().clamp_min(1)).item()
            if change <= close:
                break
        else:
            raise ValueError(
                f"the step from t={t} to s={s} is not inverted after {iterations} iterations, "
                f"which still change it by {change:.2g}: take shorter steps, or record the chain "
                "and use its inverse()"
            )
    return x


# ---- adding noise -------------------------------------------------------------------------------


def vp_chain(
    schedule: Schedule,
    x: Tensor,
    times: Sequence[int] | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Chain:
    """Noising with the variance preserved, from clean or noisy x on.

    Args:
        schedule: with ᾱ.
        x: x at the first of the times, of shape ``(*, n)``.
        times: rising times; by default 0, 1, …, T.
        generator: where the noise comes from.

    Raises:
        ValueError: if the times are no chain, or x is not finite or far from unit scale.
    """
    visited = range(schedule.steps + 1) if times is None else times
    times = schedule.require_times(visited, rising=True)
    schedule.require_scaled(x)
    group, states, elements = ScaleTranslation(x.shape[-1]), [x], []
    for s, t in pairwise(times):
        elements.append(vp_step(schedule, t, _noise(x, generator), s=s))
        states.append(group.act(elements[-1], states[-1]))
    return chains.stack(times, states, elements)


def ve_chain(
    sigmas: Sequence[float] | Tensor,
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Chain:
    """Noising by translations: x_k = x_{k−1} + σ_k ε, for σ₁, …, σ_K in turn, at times 0, …, K.

    Raises:
        ValueError: if there is no σ, one is negative or not finite, or x is not finite.
    """
    sizes = torch.as_tensor(sigmas, dtype=torch.float64)
    if sizes.dim() != 1 or len(sizes) < 1:
        raise ValueError(
            f"sigmas has shape {tuple(sizes.shape)}: expected (K,), a standard deviation for each "
            "of at least one step"
        )
    require_vectors("x", x)
    group, states, elements = ScaleTranslation(x.shape[-1]), [x], []
    for sigma in sizes.tolist():
        elements.append(ve_step(sigma, _noise(x, generator)))
        states.append(group.act(elements[-1], states[-1]))
    return chains.stack(range(len(sizes) + 1), states, elements)


# ---- what they share ----------------------------------------------------------------------------


def _noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _ddim(schedule: Schedule, x: Tensor, eta: float, generator: torch.Generator | None) -> Make:
    def make(t: int, s: int, predicted: Tensor) -> Tensor:
        # The step to 0 adds none, whatever η.
        noise = _noise(x, generator) if eta and s else None
        return ddim_step(schedule, t, s, predicted, eta, noise)

    return make


def _ddpm(schedule: Schedule, x: Tensor, variance: str, generator: torch.Generator | None) -> Make:
    step = partial(ddpm_step, schedule, variance=variance)

    def make(t: int, s: int, predicted: Tensor) -> Tensor:
        return step(t, predicted, _noise(x, generator) if s else None, s=s)

    return make


def _denoise(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    times: Sequence[int] | None,
    make: Make,
    progress: bool,
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """t, s, the element between them and the state that it leads to, step by step."""
    times = _falling(schedule, times)
    require_vectors("x", x)
    group = ScaleTranslation(x.shape[-1])
    pairs = list(pairwise(times))
    for t, s in tqdm(pairs, disable=not progress, desc="denoising"):
        g = make(t, s, _predict(denoiser, x, t))
        x = group.act(g, x)
        yield t, s, g, x


def _falling(schedule: Schedule, times: Sequence[int] | None) -> tuple[int, ...]:
    visited = range(schedule.steps, -1, -1) if times is None else times
    return schedule.require_times(visited)


def _last(path: Iterator[tuple[int, int, Tensor, Tensor]]) -> Tensor:
    """The state that a path ends in; there is one, as every chain has a step."""
    return reduce(lambda _, step: step, path)[-1]


def _recorded(x: Tensor, path: Iterator[tuple[int, int, Tensor, Tensor]]) -> Chain:
    states, elements, times = [x], [], []
    for t, s, g, y in path:
        times += [s] if times else [t, s]
        elements.append(g)
        states.append(y)
    return chains.stack(times, states, elements)


def _predict(denoiser: Denoiser, x: Tensor, t: int) -> Tensor:
    predicted = denoiser(x, t)
    if not isinstance(predicted, Tensor):
        raise ValueError(
            f"the denoiser returned {type(predicted).__name__} at t={t}: expected a tensor of "
            "shape and dtype of x; of an output with parts, return the one that is the noise"
        )
    if predicted.shape != x.shape or predicted.dtype != x.dtype:
        raise ValueError(
            f"the denoiser returned {tuple(predicted.shape)}, {predicted.dtype} at t={t}: expected "
            f"{tuple(x.shape)}, {x.dtype}, the noise predicted for each entry of x"
        )
    return predicted
