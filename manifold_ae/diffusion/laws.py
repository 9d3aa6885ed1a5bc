r"""Laws of random steps: a scale, and a translation that is Gaussian.

A noising step is a random element of ``groups.ScaleTranslation(n)``, of the law δ_s ⊗ N(m, v I).
The law of the product of independent elements is their convolution, again of this kind:

    (s₂, m₂, v₂)(s₁, m₁, v₁) = (s₂ s₁, s₂ m₁ + m₂, s₂² v₁ + v₂),        neutral (1, 0, 0).

They form a monoid. Elements of the group are the laws with v = 0, and these alone have inverses:
variances only add up, so that noise, as a law, is not undone by any other.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae.diffusion.schedule import Schedule, require_vectors
from manifold_ae.diffusion.steps import vp_step
from manifold_ae.groups import ScaleTranslation
from manifold_ae.groups.base import require_values

__all__ = ["GaussianAffineLaw"]


@dataclass(frozen=True, eq=False, repr=False)
class GaussianAffineLaw:
    """The law δ_s ⊗ N(m, v I) on ``ScaleTranslation(n)``.

    Args:
        scale: s > 0, of shape ``(*, 1)``, or ``(*, n)`` where every coordinate has its own.
        mean: m, of shape ``(*, n)``.
        variance: v ≥ 0, of shape ``(*, 1)``, or ``(*, n)``.

    Raises:
        ValueError: for other shapes, a scale that is not positive, or a negative variance.

    Example:
        >>> step = GaussianAffineLaw(torch.tensor([0.5]), torch.zeros(2), torch.tensor([0.75]))
        >>> (step @ step).variance
        tensor([0.9375])
    """

    scale: Tensor
    mean: Tensor
    variance: Tensor

    def __post_init__(self) -> None:
        require_vectors("mean", self.mean)
        for name in ("scale", "variance"):
            x = getattr(self, name)
            require_vectors(name, x)
            if x.shape[-1] not in (1, self.n):
                raise ValueError(
                    f"{name} has shape {tuple(x.shape)}: expected (*, 1) or (*, {self.n}), for a "
                    f"mean of shape {tuple(self.mean.shape)}"
                )
        require_values(
            (self.scale > 0).all() & (self.variance >= 0).all(),
            lambda: (
                f"scale from {self.scale.min().item():g} and variance from "
                f"{self.variance.min().item():g}: expected scale > 0 and variance ≥ 0"
            ),
        )

    @classmethod
    def identity(
        cls, n: int, dtype: torch.dtype | None = None, device: Any = None
    ) -> "GaussianAffineLaw":
        """The neutral law, of the identity."""
        return cls.of(ScaleTranslation(n).identity(dtype=dtype, device=device))

    @classmethod
    def of(cls, element: Tensor) -> "GaussianAffineLaw":
        """The law of an element ``(*, n + 1)`` that is not random: a homomorphism."""
        return cls(element[..., :1], element[..., 1:], torch.zeros_like(element[..., :1]))

    @classmethod
    def vp(
        cls,
        schedule: Schedule,
        t: int,
        n: int,
        *,
        s: int | None = None,
        dtype: torch.dtype = torch.float64,
        device: Any = None,
    ) -> "GaussianAffineLaw":
        """The law of ``vp_step`` from time s, t − 1 unless given, to t: (√α, 0, 1 − α).

        Raises:
            ValueError: unless 0 ≤ s < t ≤ T.
        """
        one = torch.ones(n, dtype=torch.float64, device=device)
        element = vp_step(schedule, t, one, s=s)
        variance = element[1:2].square()
        return cls(element[:1].to(dtype), torch.zeros_like(one, dtype=dtype), variance.to(dtype))

    @property
    def n(self) -> int:
        """The dimension of the space that the elements act on."""
        return self.mean.shape[-1]

    @property
    def group(self) -> ScaleTranslation:
        """The group that the law is on."""
        return ScaleTranslation(self.n, diagonal=self.scale.shape[-1] > 1)

    def __matmul__(self, other: "GaussianAffineLaw") -> "GaussianAffineLaw":
        """The law of gh, for independent g of this law and h of the other: h acts first.

        Raises:
            ValueError: if they are of other dimensions.
        """
        if self.n != other.n:
            raise ValueError(
                f"laws on ScaleTranslation({self.n}) and ScaleTranslation({other.n}): expected "
                "both of one group"
            )
        return GaussianAffineLaw(
            self.scale * other.scale,
            self.scale * other.mean + self.mean,
            self.scale.square() * other.variance + self.variance,
        )

    def inverse(self) -> "GaussianAffineLaw":
        """The law that undoes it, where it is not random.

        Raises:
            ValueError: if there is noise: no law undoes it.
        """
        require_values(
            self.variance == 0,
            lambda: (
                f"variance up to {self.variance.max().item():g}: a law with noise has no inverse; "
                "an element that was drawn has, ScaleTranslation(n).inverse(g)"
            ),
        )
        return GaussianAffineLaw(1 / self.scale, -self.mean / self.scale, self.variance)

    def act(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of g·x, for independent x ~ N(mean, variance)."""
        moved = self.scale * mean + self.mean
        return moved, self.scale.square() * variance + self.variance

    def sample(self, *sample_shape: int, generator: torch.Generator | None = None) -> Tensor:
        """Elements drawn from it, of shape ``(*sample_shape, *, *group.element_shape)``."""
        batch = torch.broadcast_shapes(*(x.shape[:-1] for x in (self.scale, self.mean)))
        batch = torch.broadcast_shapes(batch, self.variance.shape[:-1])
        mean = self.mean.expand(*sample_shape, *batch, self.n)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        scale = self.scale.expand(*sample_shape, *batch, self.scale.shape[-1])
        return torch.cat([scale, mean + self.variance.sqrt() * noise], -1)

    def __repr__(self) -> str:
        return f"GaussianAffineLaw({self.group!r}, batch={tuple(self.mean.shape[:-1])})"
