r"""Denoising matrices as they were published, kept to show why they do not form a group.

Nayak (*Constructions for diffusion that leverage HAE guarantees*, §2.3) writes a denoising step
x_{t−1} = μ + Σ ε as one matrix on (x_t, 1),

    M(x) = [[diag(μ_i/x_i), Σ ε], [0, 1]],

and takes for a group the matrices whose entries do not exceed a constant C. It is none:

- M is not defined where some x_i = 0, and is singular where some μ_i = 0;
- it depends on x: M(x) moves another state to no purpose, and no rule says how M(x) acts on it;
- products and inverses of matrices with bounded entries have larger ones, so that the set is
  neither closed nor has inverses; it contains singular matrices as well;
- a compact group has an exp onto it, where connected, but not one to one: exp(2πJ) = I in SO(2);
- negative ratios μ_i/x_i have no real logarithm of a diagonal kind.

Beside that the last column has the variance Σ as a factor, where a Gaussian of variance Σ has √Σ.
``steps`` has what replaces it. The noising matrices of the same section are right: translations,
``ve_step``.
"""

import torch
from torch import Tensor

from manifold_ae.diffusion.schedule import Schedule, require_vectors
from manifold_ae.groups.base import require_values

__all__ = ["published_denoising_matrix", "published_posterior"]


def published_denoising_matrix(
    x: Tensor, mean: Tensor, variance: float | Tensor, noise: Tensor
) -> Tensor:
    """M(x) as published, of shape ``(*, n + 1, n + 1)``, with M(x) (x, 1) = (μ + Σ ε, 1).

    Args:
        x: the state x_t, of shape ``(*, n)``.
        mean: μ, of the same shape.
        variance: Σ, a number, or of shape ``(*, 1)``.
        noise: ε, of the same shape.

    Raises:
        ValueError: where an entry of x is 0, as the matrix is not defined there; and if shapes
            differ or values are not finite.

    Example:
        >>> one = torch.ones(1)
        >>> published_denoising_matrix(2 * one, 3 * one, 0.5, one)
        tensor([[1.5000, 0.5000],
                [0.0000, 1.0000]])
    """
    for name, value in (("x", x), ("mean", mean), ("noise", noise)):
        require_vectors(name, value)
        if value.shape != x.shape:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}: expected {tuple(x.shape)}, that of x"
            )
    sizes = torch.as_tensor(variance, dtype=torch.float64)
    require_values(
        sizes.isfinite() & (sizes >= 0),
        lambda: f"variance={variance!r}: expected a variance, a finite number of at least 0",
    )
    require_values(
        x != 0,
        lambda: (
            f"x has {int((x == 0).sum())} entries that are 0, where the published matrix, which "
            "divides by them, is not defined; ddpm_step and ddim_step are, everywhere"
        ),
    )
    last = torch.cat([variance * noise, torch.ones_like(noise[..., :1])], -1)
    linear = torch.nn.functional.pad(torch.diag_embed(mean / x), (0, 0, 0, 1))
    return torch.cat([linear, last.unsqueeze(-1)], -1)


def published_posterior(
    schedule: Schedule, t: int, x: Tensor, clean: Tensor
) -> tuple[Tensor, Tensor]:
    r"""μ_q and Σ_q of the law of x_{t−1} given x_t and x₀, as printed there (after Luo, eq. 84).

    μ_q = (√α_t (1 − ᾱ_{t−1}) x_t + √ᾱ_{t−1} (1 − α_t) x₀)/(1 − ᾱ_t),
    Σ_q = (1 − α_t)(1 − ᾱ_{t−1})/(1 − ᾱ_t). This part is right.

    Args:
        schedule: with ᾱ.
        t: from 1 to T.
        x: x_t, of shape ``(*, n)``.
        clean: x₀, of the same shape.

    Returns:
        tuple: μ_q, of shape ``(*, n)``, and Σ_q, a number.

    Raises:
        ValueError: unless 1 ≤ t ≤ T.
    """
    schedule.require_order(t, t - 1)
    late, early = schedule.at(t), schedule.at(t - 1)
    alpha = late / early
    kept, pulled = alpha.sqrt() * (1 - early), early.sqrt() * (1 - alpha)
    mean = (kept.to(x) * x + pulled.to(x) * clean) / (1 - late).to(x)
    return mean, ((1 - alpha) * (1 - early) / (1 - late)).to(x)
