r"""Brownian motion on a submanifold that is known by its closest-point projection alone.

There is no exact kernel. There are the first terms of its short-time expansion,

    log q(t; x, y) = −d/2 log(2πt) − r²/2t + Ric(u, u) r²/12 + Sc t/12 + …,                   (1)

with r the geodesic distance, u the direction of the chord, and both curvatures taken at the middle
of it: the first term of the square root of the Van Vleck–Morette determinant, and the heat kernel's
first coefficient, Sc/6 for e^{sΔ} at s = t/2. What is left out is of fourth order in |II| r and
|II| √t, and of third where the curvature varies.
r² is c² + |II(u, u)|²c⁴/12 in terms of the chord c and its direction u (see ``manifolds.chords``).
And there is a Monte Carlo estimate for any time, with the bias of the projected walk; the
divergence from the uniform law likewise.

References:
    N. Berline, E. Getzler, M. Vergne, *Heat Kernels and Dirac Operators*, 1992, §2.5, for the
    expansion.
"""

import math
from typing import Any

import torch
from torch import Tensor

from manifold_ae.heat.divergence import estimated_log_density, require_positive
from manifold_ae.heat.kernel import kl_uniform, log_kernel, require_tensor
from manifold_ae.manifolds import Manifold, Product, Submanifold
from manifold_ae.manifolds.chords import BEND, Chord, chord
from manifold_ae.numerics import exceeds

__all__ = ["monte_carlo_log_kernel", "short_time_log_kernel"]

#: Largest |II|² t of the expansion, and largest |II|² t/N of the last step of a walk.
SHORT_TIME, SHORT_STEP = 1.0, 0.25
#: Walks that end more than this number of standard deviations from y count for nothing.
FAR = 9.0
#: Walks for the density at one sample, and points that are walked with at once.
WALKS, CHUNK = 1000, 2**17


def short_time_log_kernel(
    manifold: Submanifold, x: Tensor, y: Tensor, t: Tensor, *, allow_inaccurate: bool = False
) -> Tensor:
    r"""log q(t; x, y) by the short-time expansion (1), of shape ``(*)``, for neighbouring points.

    Args:
        x, y: points of shape ``(*, *ambient_shape)``.
        t: time of shape ``(*)``.
        allow_inaccurate: evaluate it also past the range.

    The range: |II|² t ≤ 1 (on Sᵈ, d t ≤ 1), and the tangent plane turns by an angle of at most 1
    from x to y (on Sᵈ, |x − y| ≤ 1). On S² and S³ the error is below 0.008 in it, mostly from the
    distance, and shrinks as the fourth power of angle and √t.

    Raises:
        ValueError: past that range, or if a time is not positive; in any case where the middle of
            the chord has no closest point, as between antipodes of a sphere.
    """
    x, y, t, batch = _flat(manifold, x, y, t)
    found = chord(manifold.embedding, x, y)
    lost = ~torch.isfinite(found.bend)
    if bool(lost.any()):
        first, second = (p.detach()[lost][0].tolist() for p in (x, y))
        raise ValueError(
            f"the middle between x = {first} and y = {second} has no closest point on "
            f"{manifold!r}; use heat.monte_carlo_log_kernel"
        )
    if not allow_inaccurate:
        _check_range(manifold, found, t)
    return _expansion(manifold.dim, found, t).reshape(batch)


def monte_carlo_log_kernel(
    manifold: Submanifold,
    x: Tensor,
    y: Tensor,
    t: Tensor,
    n: int,
    steps: int = 10,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Estimate of log q(t; x, y) from n projected random walks, and its standard error.

        q(t; x, y) ≈ E q(h; z_{N−1}, y),    h = t/N,

    with z the walk of ``distributions.RandomWalk`` from x, and q(h; ·) the short-time expansion.
    Both results have shape ``(*)``. The standard error tells the spread, not the bias of the walk,
    which is of first order in h: on S² at t = 0.5 ten steps leave about −0.01 at r = 0, and
    0.1 at r = 2. It grows where y is rarely reached. Memory is n times that of the batch.

    Args:
        x, y: points of shape ``(*, *ambient_shape)``.
        t: time of shape ``(*)``.
        n: number of walks, at least 2.
        steps: N, the number of steps of time h that make up t, the last one by the kernel.

    Raises:
        ValueError: if |II|² h > 1/4 at y, a step being too long for the expansion; if no walk came
            near y.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise ValueError(f"n = {n!r} must be an integer: a standard error takes at least 2 walks")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be an integer of at least 1, got {steps!r}")
    x, y, t, batch = _flat(manifold, x, y, t)
    h = t / steps
    coarse = chord(manifold.embedding, y, y).form_squared * h
    if bool((coarse > SHORT_STEP).any()):
        enough = math.ceil(steps * coarse.max().item() / SHORT_STEP)
        raise ValueError(
            f"steps = {steps}: a step of time {h.max().item():.3g} is too long for the short-time "
            f"formula at its end; at least {enough} are needed here"
        )
    shape = (n, *x.shape)
    z, scale = x.expand(shape), h.sqrt().unsqueeze(-1)
    for _ in range(steps - 1):
        noise = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
        z = manifold.embedding.project((z + scale * noise).reshape(-1, x.shape[-1])).reshape(shape)
    square = (z - y).square().sum(-1)
    close = square <= FAR**2 * h
    if not bool(close.any(0).all()):
        lost = y.detach()[~close.any(0)][0].tolist()
        raise ValueError(
            f"none of n = {n} walks came near y = {lost} in its last step; take more walks, or "
            "fewer steps"
        )
    walk, point = close.nonzero(as_tuple=True)
    found = chord(manifold.embedding, z[walk, point], y[point])
    # Where the chord is too long for the corrections, the density is negligible.
    plain = -manifold.dim / 2 * torch.log(2 * math.pi * h[point]) - square[close] / (2 * h[point])
    last = torch.where(found.near, _expansion(manifold.dim, found, h[point]), plain)
    log_density = torch.full_like(square, -math.inf).index_put((walk, point), last)
    log_mean = torch.logsumexp(log_density, 0) - math.log(n)
    relative = torch.exp(log_density - log_mean)
    error = relative.std(0) / math.sqrt(n)
    return log_mean.reshape(batch), error.reshape(batch)


@kl_uniform.register
def _(manifold: Submanifold, x: Tensor, t: Tensor) -> Tensor:
    raise NotImplementedError(
        f"{manifold!r} has no exact KL to the uniform law; heat.kl_asymptotic holds up to "
        f"t = {manifold.short_time_limit:.3g}, and past it "
        "heat.kl_monte_carlo(RandomWalk(M, loc, time, steps), M.default_prior(), n) estimates it "
        "with a standard error, and with the bias of the walk"
    )


@estimated_log_density.register
def _(manifold: Submanifold, q: Any, z: Tensor, walks: int | None, **kwargs: Any) -> Tensor:
    if not hasattr(q, "steps"):
        return q.log_prob(z)
    walks = WALKS if walks is None else walks
    if isinstance(walks, bool) or not isinstance(walks, int) or walks < 2:
        raise ValueError(f"walks = {walks!r} must be an integer of at least 2")
    rows = max(1, CHUNK // (walks * max(1, math.prod(q.batch_shape))))
    estimates = [
        monte_carlo_log_kernel(manifold, q.loc, part, q.time, walks, q.steps, **kwargs)
        for part in z.split(rows)
    ]
    # E log X ≈ log E X − Var X / 2(E X)².
    return torch.cat([value + error.square() / 2 for value, error in estimates])


@estimated_log_density.register
def _(manifold: Product, q: Any, z: Tensor, walks: int | None, **kwargs: Any) -> Tensor:
    walked = [isinstance(factor, Submanifold) for factor in manifold.factors]
    if not hasattr(q, "steps") or not any(walked):
        return estimated_log_density.dispatch(Manifold)(manifold, q, z, walks, **kwargs)

    def of_factor(factor: Manifold, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        if not isinstance(factor, Submanifold):
            return log_kernel(factor, x, z, t)
        law = type(q)(factor, x, t, q.steps, validate_args=False)
        return estimated_log_density(factor, law, z, walks, **kwargs)

    return manifold.total(of_factor, q.loc, z, time=q.time)


def _flat(
    manifold: Submanifold, x: Tensor, y: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor, torch.Size]:
    """Points ``(n, D)``, times ``(n,)`` and the shape of the batch, all broadcast."""
    if not isinstance(manifold, Submanifold):
        raise TypeError(
            f"{manifold!r} is no Submanifold; heat.log_kernel gives the heat kernel of the others"
        )
    for name, value in {"x": x, "y": y, "t": t}.items():
        require_tensor(name, value)
    require_positive(t)
    for name, value in {"x": x, "y": y}.items():
        manifold.require_shape(name, value)
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"{name} holds {int((~torch.isfinite(value)).sum())} entries that are not finite"
            )
    event = manifold.ambient_shape
    batch = torch.broadcast_shapes(*(p.shape[: p.dim() - len(event)] for p in (x, y)), t.shape)
    x, y = (p.expand(batch + event).reshape(-1, math.prod(event)) for p in (x, y))
    return x, y, t.expand(batch).reshape(-1), batch


def _check_range(manifold: Submanifold, found: Chord, t: Tensor) -> None:
    if not bool(found.near.all()):
        raise ValueError(
            f"x and y are too far apart for the short-time formula on {manifold!r}: the tangent "
            f"plane turns by {found.bend[~found.near].max().item():.3g} between two of them, for "
            f"at most {BEND}, or their chord leaves the manifold; use heat.monte_carlo_log_kernel, "
            "or pass allow_inaccurate=True"
        )
    long = exceeds(found.form_squared * t, SHORT_TIME)
    if bool(long.any()):
        raise ValueError(
            f"time = {t[long].max().item():.4g} is too long for the short-time formula on "
            f"{manifold!r} (it holds up to {(SHORT_TIME / found.form_squared[long]).min():.3g} "
            "there); use heat.monte_carlo_log_kernel, or pass allow_inaccurate=True"
        )


def _expansion(dim: int, found: Chord, t: Tensor) -> Tensor:
    """(1), of shape ``(n,)``."""
    return (
        -dim / 2 * torch.log(2 * math.pi * t)
        - found.squared_distance / (2 * t)
        + found.ricci / 12
        + found.scalar * t / 12
    )
