r"""Exact denoisers: the best predictions of the noise, in closed form, for laws that are known.

The best prediction is the mean of ε given x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) ε, which is the score of the
noisy data's law up to a factor,

    ε̂(x, t) = E[ε | x_t = x] = −√(1 − ᾱ_t) ∇ log p_t(x).

Here are those of a Gaussian, of a mixture of Gaussians and of finitely many points: oracles of
samplers and of learned denoisers. Everything is computed in float64, and returned in the dtype of
x and on its device.
"""

import math
from typing import Any

import torch
from torch import Tensor

from manifold_ae.diffusion.schedule import Schedule, Time, require_vectors
from manifold_ae.diffusion.steps import Denoiser
from manifold_ae.groups.base import check_size, require_values

__all__ = ["empirical", "gaussian", "mixture"]


def gaussian(mean: Any, covariance: Any, schedule: Schedule) -> Denoiser:
    r"""The denoiser of data N(m, Σ): ε̂ = √(1 − ᾱ) (ᾱ Σ + (1 − ᾱ) I)⁻¹ (x − √ᾱ m).

    Args:
        mean: m, of shape ``(n,)``.
        covariance: Σ, of shape ``(n, n)``, or its diagonal ``(n,)``; it may be singular.
        schedule: with ᾱ.

    Raises:
        ValueError: if the covariance is not symmetric and positive semidefinite; when it is called,
            for times outside 1 … T.

    Example:
        >>> schedule = Schedule.linear(1000)
        >>> denoiser = gaussian([0.0, 0.0], [1.0, 1.0], schedule)
        >>> denoiser(torch.tensor([1.0, 2.0]), 1000)
        tensor([1.0000, 2.0000])
    """
    m = table("mean", mean, 1)
    return mixture(m[None], table("covariance", covariance, 1, 2)[None], schedule)


def mixture(means: Any, covariances: Any, schedule: Schedule, weights: Any = None) -> Denoiser:
    r"""The denoiser of data Σ_k w_k N(m_k, Σ_k): those of its parts, weighed by their posterior.

    Args:
        means: m_k, of shape ``(k, n)``.
        covariances: Σ_k, of shape ``(k, n, n)``, or their diagonals ``(k, n)``.
        schedule: with ᾱ.
        weights: w_k ≥ 0, of shape ``(k,)``, scaled to sum to 1; equal unless given.

    Raises:
        ValueError: if shapes do not fit, a covariance is not symmetric and positive semidefinite,
            or weights are negative; when it is called, for times outside 1 … T.
    """
    m = table("means", means, 2)
    axes, values = eigenbasis(table("covariances", covariances, 2, 3), tuple(m.shape))
    log_weights = _log_weights(weights, len(m))
    centres = _into(axes, m)  # (k, n), in the eigenbasis of each

    def denoiser(x: Tensor, t: Time) -> Tensor:
        alpha_bar, y = _at(schedule, x, t, m.shape[-1])
        where = y.device
        U = None if axes is None else axes.to(where)
        variances = alpha_bar.unsqueeze(-1) * values.to(where) + (1 - alpha_bar).unsqueeze(-1)
        offsets = _into(U, y.unsqueeze(-2)) - alpha_bar.sqrt().unsqueeze(-1) * centres.to(where)
        scaled = offsets / variances  # (*, k, n)
        # log w_k N(x; …), up to what all have in common
        log_parts = -0.5 * (scaled * offsets + variances.log()).sum(-1) + log_weights.to(where)
        shares = torch.softmax(log_parts, -1).unsqueeze(-1)
        parts = scaled if U is None else torch.einsum("kij,...kj->...ki", U, scaled)
        return ((1 - alpha_bar).sqrt() * (shares * parts).sum(-2)).to(x.dtype)

    return denoiser


def empirical(data: Any, schedule: Schedule, weights: Any = None, *, chunk: int = 4096) -> Denoiser:
    r"""The denoiser of finitely many points, the best there is for a training set:

        ε̂ = (x − √ᾱ x̂₀)/√(1 − ᾱ),    x̂₀ = Σ_i x_i softmax_i(log w_i − \|x − √ᾱ x_i\|²/2(1 − ᾱ)).

    With it, samplers return points of the data. The sums run over ``chunk`` points at a time, with
    the largest exponent so far taken out, so that memory is that of one chunk.

    Args:
        data: x_i, of shape ``(N, n)``.
        schedule: with ᾱ.
        weights: w_i ≥ 0, of shape ``(N,)``, scaled to sum to 1; equal unless given.
        chunk: how many points at a time.

    Raises:
        ValueError: if data are empty or not finite, or weights are negative; when it is called, for
            times outside 1 … T.
    """
    points = table("data", data, 2)
    check_size("empirical", chunk, argument="chunk")
    log_weights = _log_weights(weights, len(points))
    # About its mean, the squares of the data are as small as they get.
    middle = points.mean(0)
    points = points - middle
    halves = points.square().sum(-1) / 2

    def denoiser(x: Tensor, t: Time) -> Tensor:
        alpha_bar, y = _at(schedule, x, t, points.shape[-1])
        root = alpha_bar.sqrt()
        offsets = y - root * middle.to(y.device)
        flat = offsets.reshape(-1, offsets.shape[-1])
        pull, push = (c.expand(*y.shape[:-1], 1).reshape(-1, 1) for c in (root, alpha_bar))
        highest = flat.new_full((len(flat), 1), -math.inf)
        total, summed = torch.zeros_like(highest), torch.zeros_like(flat)
        for start in range(0, len(points), chunk):
            part = slice(start, start + chunk)
            near, size = points[part].to(y.device), halves[part].to(y.device)
            # −|x − √ᾱ x_i|²/2(1 − ᾱ), without |x|², which all have in common
            logits = (pull * (flat @ near.mT) - push * size) / (1 - push)
            logits = logits + log_weights[part].to(y.device)
            peak = torch.maximum(highest, logits.amax(-1, keepdim=True))
            # A first chunk of weights 0 alone has no peak, and adds nothing.
            known = torch.where(peak.isfinite(), peak, 0.0)
            shares, kept = torch.exp(logits - known), torch.exp(highest - known)
            total = kept * total + shares.sum(-1, keepdim=True)
            summed = kept * summed + shares @ near
            highest = peak
        clean = (summed / total).reshape(offsets.shape)
        return ((offsets - root * clean) / (1 - alpha_bar).sqrt()).to(x.dtype)

    return denoiser


# ---- tables -------------------------------------------------------------------------------------


def eigenbasis(covariance: Tensor, shape: tuple[int, ...]) -> tuple[Tensor | None, Tensor]:
    """Axes ``(*, n, n)``, in columns, or None for a diagonal, and variances ``(*, n)`` along them.

    Raises:
        ValueError: unless the shape is ``(*, n)`` or ``(*, n, n)``, and the matrices are symmetric
            and positive semidefinite.
    """
    found = tuple(covariance.shape)
    if found == shape:
        axes, values = None, covariance
    elif found == (*shape, shape[-1]):
        if not torch.allclose(covariance, covariance.mT, rtol=1e-6, atol=0.0):
            raise ValueError("covariance is not symmetric: take (C + C.mT) / 2, if that is meant")
        values, axes = torch.linalg.eigh(covariance)
    else:
        raise ValueError(
            f"covariance has shape {found}: expected {(*shape, shape[-1])}, or {shape} for a "
            "diagonal one"
        )
    # Eigenvalues of a singular matrix come out as zero up to its rounding.
    rounding = 100 * torch.finfo(values.dtype).eps * values.abs().amax(-1, keepdim=True)
    if bool((values < -rounding).any()):
        raise ValueError(
            f"covariance has eigenvalue {values.min().item():g}: expected variances of at least 0"
        )
    return axes, values.clamp_min(0.0)


def _into(axes: Tensor | None, x: Tensor) -> Tensor:
    """x of shape ``(*, k, n)`` in the coordinates of axes ``(k, n, n)``."""
    return x if axes is None else torch.einsum("kij,...ki->...kj", axes, x)


def table(name: str, values: Any, *dims: int) -> Tensor:
    """What was given as finite float64 on the CPU, of so many axes."""
    given = values.detach() if isinstance(values, Tensor) else values
    found = torch.as_tensor(given, dtype=torch.float64, device="cpu")
    if found.dim() not in dims or found.numel() < 1:
        wanted = " or ".join(map(str, dims))
        raise ValueError(
            f"{name} has shape {tuple(found.shape)}: expected {wanted} axes, none of them empty"
        )
    require_vectors(name, found)
    return found


def _log_weights(weights: Any, count: int) -> Tensor:
    """log of weights scaled to sum to 1, of shape ``(count,)``; −∞ for 0."""
    if weights is None:
        return torch.full((count,), -math.log(count), dtype=torch.float64)
    w = table("weights", weights, 1)
    if len(w) != count or bool((w < 0).any()) or not bool((w > 0).any()):
        raise ValueError(
            f"weights has {len(w)} entries from {w.min().item():g}: expected {count}, none of them "
            "negative and not all 0"
        )
    return torch.log(w / w.sum())


def _at(schedule: Schedule, x: Tensor, t: Time, n: int) -> tuple[Tensor, Tensor]:
    """ᾱ_t, of shape ``(1,)`` or ``(*, 1)``, and x in float64."""
    schedule.require_order(t, 0)
    require_vectors("x", x)
    if x.shape[-1] != n:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected (*, {n}), as the data have")
    if isinstance(t, Tensor):
        require_values(
            torch.tensor(t.dim() < x.dim()),
            lambda: f"t has shape {tuple(t.shape)}: expected that of x without its last axis",
        )
    alpha_bar = schedule.at(t)
    alpha_bar = alpha_bar if alpha_bar.dim() else alpha_bar.unsqueeze(-1)
    return alpha_bar.to(x.device), x.double()
