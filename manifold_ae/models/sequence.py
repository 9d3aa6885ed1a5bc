r"""A prior along time: latents that move as Brownian motion on their manifold.

Of a recording x₁, …, x_n the latents z₁, …, z_n are a Markov chain,

    z₁ ∼ p₀,    p(z_{i+1} | z_i) = q(r Δ_i; z_i, ·),

with the heat kernel q, the rate r (a variance per unit of time, learned) and Δ_i the time elapsed.
With a mean-field posterior Π_i q_i(z_i), q_i = q(· | x_i), Jensen's inequality gives

    log p(x₁, …, x_n) ≥ E_q[ Σ_i log p(x_i | z_i) + log p(z₁, …, z_n) − Σ_i log q_i(z_i) ]
      = Σ_i { E log p(x_i | z_i) − KL(q_i ‖ p₀) }
        + Σ_{i≥2} E log q(r Δ_{i−1}; z_{i−1}, z_i) / p₀(z_i),

which adds and takes away Σ_{i≥2} E log p₀(z_i). The first sum is the ELBO of rows
on their own; the second, the *coupling*, is estimated by the samples that the first has drawn
already (it is differentiable in both of its points). It is zero where the rate or a gap is so long
that the kernel is the uniform law, which is how trials are kept apart: there Δ = ∞.

On a compact manifold p₀ is the uniform law, stationary under Brownian motion, so that any window of
consecutive rows has the same prior as one that starts the recording, and its bound is one on its
own likelihood. On Euclidean space p₀ = N(0, I) is not stationary: there each window is a chain of
its own, that starts from p₀.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from manifold_ae import heat
from manifold_ae.manifolds import Manifold
from manifold_ae.models.heads import reshaped
from manifold_ae.numerics import soft_clamp

__all__ = ["BrownianPrior"]

#: The logarithm of the rate learns this much faster than the weights of networks.
SPEED = 10.0


class BrownianPrior(nn.Module):
    """p(z_{i+1} | z_i) = q(r Δ_i; z_i, ·), the heat kernel, with a learned rate r.

    Arguments:
        manifold: where the latents are; it has an exact heat kernel.
        unit: the time in which the initial rate and its range count, such as the usual time between
            rows: it is kept with the weights.
        initial: rate at the start, a variance in that unit of time. Long at first, so that a model
            that knows nothing yet is not held still.
        rate_range: the range that log r stays within, softly.

    There is one rate for each entry of ``manifold.time_shape``: for each factor of a product, and
    for each dimension of Euclidean space.

    Raises:
        ValueError: if the unit or the initial rate is not positive, or outside of the range.
        NotImplementedError: if the manifold has no exact heat kernel.
    """

    def __init__(
        self,
        manifold: Manifold,
        *,
        unit: float = 1.0,
        initial: float = 1.0,
        rate_range: tuple[float, float] = (1e-8, 1e4),
    ) -> None:
        super().__init__()
        low, high = rate_range
        if not 0 < low < initial < high < math.inf:
            raise ValueError(
                f"expected 0 < rate_range[0] < initial < rate_range[1], got rate_range = "
                f"{rate_range} and initial = {initial}"
            )
        if not 0 < unit < math.inf:
            raise ValueError(f"unit = {unit!r}: expected a positive time")
        z = manifold.base_point()
        heat.log_kernel(manifold, z, z, torch.ones(manifold.time_shape))
        self.manifold = manifold
        self.log_range = (math.log(low), math.log(high))
        raw = torch.tensor(math.log(initial), dtype=torch.float64)
        for _ in range(100):  # against what the soft bound takes away
            raw = raw + math.log(initial) - soft_clamp(raw, *self.log_range)
        start = torch.full(manifold.time_shape, raw.item() / SPEED, dtype=z.dtype)
        self.raw = nn.Parameter(start)
        self.unit: Tensor
        self.register_buffer("unit", torch.tensor(unit, dtype=torch.float64))

    @property
    def rate(self) -> Tensor:
        """r, of shape ``time_shape``: variances per unit of the data's own time."""
        return self._per_unit() / self.unit.to(self.raw.dtype)

    def _per_unit(self) -> Tensor:
        return soft_clamp(SPEED * self.raw, *self.log_range).exp()

    def variances(self, elapsed: Tensor) -> Tensor:
        """r Δ of shape ``(n, *time_shape)`` for times Δ of shape ``(n,)``, in the data's unit."""
        steps = (elapsed.double() / self.unit).to(self.raw.dtype)
        return reshaped(
            steps.unsqueeze(-1) * self._per_unit().reshape(-1), self.manifold.time_shape
        )

    def coupling(self, z: Tensor, elapsed: Tensor, prior: Any) -> Tensor:
        """log q(r Δ_i; z_{i−1}, z_i) / p₀(z_i) for each row, of shape ``(n,)``, in nats.

        Arguments:
            z: points of shape ``(n, *ambient_shape)``, in the order of time.
            elapsed: time since the row before, of shape ``(n,)``; ∞ where there is none, and the
                coupling is 0.
            prior: p₀.
        """
        joined = elapsed[1:].isfinite()
        variances = self.variances(torch.where(joined, elapsed[1:], self.unit.to(elapsed.dtype)))
        before, after = z[:-1], z[1:]
        log_ratio = heat.log_kernel(
            self.manifold, before, after, variances.to(z.dtype)
        ) - prior.log_prob(after)
        first = torch.zeros_like(log_ratio[:1]) if len(z) > 1 else z.new_zeros(len(z))
        return torch.cat([first, torch.where(joined, log_ratio, 0.0)])
