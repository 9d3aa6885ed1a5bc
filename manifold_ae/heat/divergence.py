"""Divergence from the uniform law where no exact form is needed or known."""

import math
from typing import Any

import torch
from torch import Tensor

from manifold_ae.heat.kernel import Generic
from manifold_ae.manifolds import Manifold
from manifold_ae.numerics import exceeds

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
    _require_compact(manifold)
    return short_time(manifold, loc, time, 1 / 4, allow_inaccurate)


def kl_published(manifold: Manifold, loc: Tensor, time: Tensor) -> Tensor:
    """The formula as printed in the ΔVAE paper, §3.7, with (d + 4)/24 · Sc · t; for comparison."""
    _require_compact(manifold)
    return short_time(manifold, loc, time, None, True)


def _require_compact(manifold: Manifold) -> None:
    # Before the shape of times is looked at, which is another on Euclidean space.
    if not manifold.compact:
        raise ValueError(f"{manifold!r} is not compact: it has no uniform law to diverge from")


@Generic
def short_time(
    manifold: Manifold,
    loc: Tensor,
    time: Tensor,
    coefficient: float | None,
    allow_inaccurate: bool,
) -> Tensor:
    """The formula with a coefficient of Sc·t; None for that of the paper."""
    d = manifold.dim
    coefficient = (d + 4) / 24 if coefficient is None else coefficient
    check_short(manifold, time, allow_inaccurate)
    curvature = manifold.scalar_curvature(loc)
    return (
        -d / 2 * torch.log(2 * math.pi * time)
        - d / 2
        + math.log(manifold.volume)
        + coefficient * curvature * time
    )


def check_short(manifold: Manifold, time: Tensor, allow_inaccurate: bool) -> None:
    """Raise a ValueError where a time is not positive, or past the formula's range if that counts.

    While compiling, and under the transforms of torch.func, values are not looked at.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return
    require_positive(time)
    if not allow_inaccurate and bool(exceeds(time, manifold.short_time_limit).any()):
        raise ValueError(
            f"time = {time.max().item():.4g} is too long for the short-time formula on "
            f"{manifold!r} (it holds up to {manifold.short_time_limit:.3g}); use kl_divergence "
            "where that is exact, heat.kl_monte_carlo elsewhere, or pass allow_inaccurate=True"
        )


def require_positive(time: Tensor) -> None:
    """Raise a ValueError unless all times are positive and finite."""
    bad = ~((time > 0) & torch.isfinite(time))
    if bool(bad.any()):
        raise ValueError(
            f"time = {time[bad].flatten()[0].item()} must be positive and finite; it is the "
            "variance of Brownian motion"
        )


def kl_monte_carlo(
    q: torch.distributions.Distribution,
    p: torch.distributions.Distribution,
    n: int,
    *,
    walks: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Estimate of KL(q ‖ p) from n samples of q, and its standard error, each of q's batch shape.

    Further arguments (``generator=``) go to ``q.sample``.

    A ``RandomWalk`` is judged by the heat kernel that it approximates: the way on the embedded
    torus and its quotients, which have a density and no exact sampler. Its bias, which falls like
    1/steps, is not in the standard error.

    On a ``Submanifold`` there is no density, and q is a ``RandomWalk``: its samples are judged by
    ``monte_carlo_log_kernel`` with ``walks`` further walks for each (1000 if not given) of as many
    steps; on a product, the factors that are no Submanifold by the heat kernel. What the logarithm
    of that estimate lacks on average, half its relative variance, is added. What remains is the
    bias of the walk, which falls like 1/steps and is not in the standard error: on S² and S³ with
    ten steps it is below 0.05 up to t = 0.5.

    Raises:
        ValueError: if n < 2; if ``walks`` is given where q has a density; on a Submanifold, where
            a step is too long, or a sample was never reached (see ``monte_carlo_log_kernel``).
        NotImplementedError: if q has neither a density nor that way to one.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise ValueError(f"n = {n!r} must be an integer: a standard error takes at least 2 samples")
    z = q.sample((n,), **kwargs)  # type: ignore[arg-type]
    manifold = getattr(q, "manifold", None)
    log_q = estimated_log_density.dispatch(type(manifold))(manifold, q, z, walks, **kwargs)
    difference = log_q - p.log_prob(z)
    return difference.mean(0), difference.std(0) / math.sqrt(n)


@Generic
def estimated_log_density(
    manifold: Manifold | None,
    q: torch.distributions.Distribution,
    z: Tensor,
    walks: int | None,
    **kwargs: Any,
) -> Tensor:
    """log q(z), or an estimate of it without bias to first order, of the batch shape of z."""
    if walks is not None:
        raise ValueError(
            f"walks = {walks}: {q!r} is not estimated by walks, as a RandomWalk on a Submanifold "
            "is; leave walks out"
        )
    # A walk has no density: its samples are judged by the law that it approximates.
    return getattr(q, "limit", q).log_prob(z)
