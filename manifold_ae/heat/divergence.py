"""Divergence from the uniform law where no exact form is needed or known."""

import math
from typing import Any

import torch
from torch import Tensor

from manifold_ae.heat.kernel import Generic
from manifold_ae.manifolds import Manifold

__all__ = ["kl_asymptotic", "kl_monte_carlo", "kl_published"]


def kl_asymptotic(
    manifold: Manifold, loc: Tensor, time: Tensor, *, allow_inaccurate: bool = False
) -> Tensor:
    r"""Short-time formula for KL(heat kernel ‖ uniform), on any closed manifold.

        −d/2 log(2πt) − d/2 + log Vol + Sc(z) t/4 + O(t²)

    The coefficient of Sc·t is ¼ in every dimension. Pérez Rey et al., *Diffusion Variational
    Autoencoders*, §3.7, give (d + 4)/24 and conjecture it for every manifold; that equals ¼ at
    d = 2 alone. On S³ at t = 0.1 the exact value is 2.328816: this formula is 0.0009 above it,
    theirs 0.026 (see ``kl_published``).

    Args:
        loc: points z of shape ``(*, *ambient_shape)``.
        time: t of shape ``(*)``.
        allow_inaccurate: evaluate it also past ``manifold.short_time_limit``. Up to there the error
            is about 0.005 on S² and 0.02 on S³; past it, it may be of any size.

    Raises:
        ValueError: if a time is too long, or the manifold is not compact.
    """
    return short_time(manifold, loc, time, 1 / 4, allow_inaccurate)


def kl_published(manifold: Manifold, loc: Tensor, time: Tensor) -> Tensor:
    """The formula as printed in the ΔVAE paper, §3.7, with (d + 4)/24 · Sc · t; for comparison."""
    return short_time(manifold, loc, time, None, True)


@Generic
def short_time(
    manifold: Manifold,
    loc: Tensor,
    time: Tensor,
    coefficient: float | None,
    allow_inaccurate: bool,
) -> Tensor:
    """The formula with a coefficient of Sc·t; None for that of the paper."""
    if not manifold.compact:
        raise ValueError(f"{manifold!r} is not compact: it has no uniform law to diverge from")
    d = manifold.dim
    coefficient = (d + 4) / 24 if coefficient is None else coefficient
    if not torch.compiler.is_compiling() and not bool((time > 0).all()):
        bad = time[~(time > 0)].flatten()[0].item()
        raise ValueError(f"time = {bad} must be positive; it is the variance of Brownian motion")
    if (
        not allow_inaccurate
        and not torch.compiler.is_compiling()
        and bool((time > manifold.short_time_limit).any())
    ):
        raise ValueError(
            f"time = {time.max().item():.4g} is too long for the short-time formula on "
            f"{manifold!r} (it holds up to {manifold.short_time_limit:.3g}); use kl_divergence "
            "where that is exact, or pass allow_inaccurate=True"
        )
    curvature = manifold.scalar_curvature(loc)
    return (
        -d / 2 * torch.log(2 * math.pi * time)
        - d / 2
        + math.log(manifold.volume)
        + coefficient * curvature * time
    )


def kl_monte_carlo(
    q: torch.distributions.Distribution, p: torch.distributions.Distribution, n: int, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Estimate of KL(q ‖ p) from n samples of q, and its standard error, each of q's batch shape.

    Further arguments (``generator=``) go to ``q.sample``.
    """
    if n < 2:
        raise ValueError(f"n = {n}: a standard error takes at least 2 samples")
    z = q.sample((n,), **kwargs)  # type: ignore[arg-type]
    difference = q.log_prob(z) - p.log_prob(z)
    return difference.mean(0), difference.std(0) / math.sqrt(n)
