"""Brownian motion on a manifold, stopped at a time: exactly, and by the projected random walk."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from manifold_ae import heat
from manifold_ae.distributions.base import (
    ManifoldDistribution,
    check_points,
    check_times,
    normal_like,
)
from manifold_ae.manifolds import Manifold

__all__ = ["HeatKernel", "RandomWalk"]


class _Brownian(ManifoldDistribution):
    """Brownian motion from ``loc``, after ``time``: the parameters and their shapes."""

    def __init__(
        self,
        manifold: Manifold,
        loc: Tensor,
        time: Tensor | float,
        *,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(time, Tensor) or (time.dtype, time.device) != (loc.dtype, loc.device):
            time = torch.as_tensor(time, dtype=loc.dtype, device=loc.device)
        checked = Distribution._validate_args if validate_args is None else validate_args
        if checked and not torch.compiler.is_compiling():
            check_points("loc", loc, manifold)
            check_times("time", time, manifold)
        loc_batch = loc.shape[: loc.dim() - len(manifold.ambient_shape)]
        time_batch = time.shape[: time.dim() - len(manifold.time_shape)]
        if loc_batch == time_batch:  # the usual case, in every training step
            self.loc, self.time = loc, time
            super().__init__(manifold, loc_batch, validate_args=validate_args)
            return
        try:
            batch_shape = torch.broadcast_shapes(loc_batch, time_batch)
        except RuntimeError:
            raise ValueError(
                f"time has batch shape {tuple(time_batch)}, which does not broadcast with "
                f"{tuple(loc_batch)}, that of loc"
            ) from None
        self.loc = loc.expand(batch_shape + manifold.ambient_shape)
        self.time = time.expand(batch_shape + manifold.time_shape)
        super().__init__(manifold, batch_shape, validate_args=validate_args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.manifold!r}, batch_shape={tuple(self.batch_shape)})"

    def _expanded(self, batch_shape: Any) -> tuple[Tensor, Tensor]:
        batch_shape = torch.Size(batch_shape)
        return (
            self.loc.expand(batch_shape + self.manifold.ambient_shape),
            self.time.expand(batch_shape + self.manifold.time_shape),
        )


class HeatKernel(_Brownian):
    """The transition kernel of Brownian motion with generator ½Δ: law of the point after ``time``.

    Arguments:
        manifold: where it moves.
        loc: start z, of shape ``(*, *ambient_shape)``.
        time: variance t > 0, one a sample, of shape ``(*, *time_shape)``.
        validate_args: check values (see ``ManifoldDistribution``).

    Sampling is exact and in one step, reparametrised: continuous and differentiable in ``loc`` and
    ``time`` (on a quotient of one's own, only as far as the group commutes with the sampler of the
    cover). On manifolds without an exact sampler or density it says so. On
    Euclidean space this is the normal law with a variance per dimension.

    Example:
        >>> from manifold_ae.manifolds import Sphere
        >>> M = Sphere(2)
        >>> q = HeatKernel(M, M.base_point(), torch.tensor(0.1))
        >>> q.log_prob(M.base_point())
        tensor(0.4814)

    References:
        L. A. Pérez Rey, V. Menkovski, J. W. Portegies, *Diffusion Variational Autoencoders*,
        2019, §3.2, https://arxiv.org/abs/1901.08991
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> "HeatKernel":
        loc, time = self._expanded(batch_shape)
        return HeatKernel(self.manifold, loc, time, validate_args=False)

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        shape = (*torch.Size(sample_shape), *self.batch_shape, *heat.noise_shape(self.manifold))
        noise = normal_like(self.loc, shape, generator)
        return heat.brownian_step(self.manifold, self.loc, self.time, noise)

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(t; z, value) of shape ``(*)``, in nats, with respect to volume."""
        self._check_value(value)
        return heat.log_kernel(self.manifold, self.loc, value, self.time)

    def entropy(self) -> Tensor:
        """Differential entropy with respect to volume, in nats, of the batch shape."""
        return heat.entropy(self.manifold, self.loc, self.time)


class RandomWalk(_Brownian):
    r"""The projected random walk of ``steps`` Gaussian steps, which tends to ``HeatKernel``.

        z_{k+1} = P(z_k + √(t/N) ε_k),  z_0 = loc,  ε_k ∼ N(0, I) in the ambient space.

    The ΔVAE paper's approximate reparametrisation (§3.6). It needs nothing of the manifold but its
    projection P. It has no density of its own; ``limit`` is the heat kernel that it approximates.
    Its bias grows with t and dimension: with ten steps, E cos r is 0.986 of the exact value on S¹
    at t = 0.5, and 1.36 of it on S⁹. ``corrected=True`` takes steps of time h = t/N without the
    leading order of that bias, on every manifold, whatever its curvature:

        z_{k+1} = P(z_k + (h/4) Δz + √h (T ε_k + ε_k/√2 − T ε_k/√2)),

    T the projector on the tangent space at z_k, and Δz the Laplacian of the coordinates, a normal
    vector (``Manifold.walk_centre``). Noise across the manifold has half the variance. The error of
    a step is then of order h³, that of the walk of order 1/N², in place of 1/N; for the proof see
    the page on manifolds. The two ratios above become 0.998 and 1.03.
    """

    def __init__(
        self,
        manifold: Manifold,
        loc: Tensor,
        time: Tensor | float,
        steps: int = 10,
        *,
        corrected: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps must be an integer of at least 1, got {steps!r}")
        self.steps = steps
        self.corrected = corrected
        super().__init__(manifold, loc, time, validate_args=validate_args)

    @property
    def limit(self) -> HeatKernel:
        return HeatKernel(self.manifold, self.loc, self.time, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "RandomWalk":
        loc, time = self._expanded(batch_shape)
        return RandomWalk(
            self.manifold, loc, time, self.steps, corrected=self.corrected, validate_args=False
        )

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = normal_like(self.loc, (self.steps, *shape), generator)
        manifold, duration = self.manifold, self.time / self.steps
        increments = manifold.scale_noise(noise, duration)
        z = self.loc
        for step in increments.unbind(0):
            if self.corrected:
                tangent = manifold.proju(z, step)
                step = tangent + (step - tangent) / math.sqrt(2)
                z = manifold.walk_centre(z, duration)
            z = manifold.projx(z + step)
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        raise NotImplementedError(
            "RandomWalk has no density; .limit is the HeatKernel that it approximates, and has one"
        )
