"""What the laws on a manifold share: shapes, checks of arguments, sampling with a generator."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from manifold_ae.manifolds import Manifold

__all__ = ["ManifoldDistribution"]


class _OnManifold(constraints.Constraint):
    """Points of a manifold, to a tolerance that grows with the rounding of their dtype."""

    def __init__(self, manifold: Manifold) -> None:
        self.manifold = manifold
        super().__init__()

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return len(self.manifold.ambient_shape)

    def check(self, value: Tensor) -> Tensor:
        deviation = value - self.manifold.projx(value)
        axes = tuple(range(-self.event_dim, 0))
        tolerance = 200 * torch.finfo(value.dtype).eps
        return (deviation.abs() <= tolerance * (1 + value.abs())).all(dim=axes)

    def __repr__(self) -> str:
        return f"OnManifold({self.manifold!r})"


class ManifoldDistribution(Distribution):
    """A law on a manifold: densities are with respect to its Riemannian volume.

    ``validate_args`` follows torch's default (on, unless Python runs with ``-O``); checks read
    values back from the device, so training switches them off, and they are skipped while
    compiling.
    """

    # torch's name; arguments are checked by the constructors.
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}  # type: ignore[assignment]
    has_rsample = True

    def __init__(
        self,
        manifold: Manifold,
        batch_shape: tuple[int, ...] = (),
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.manifold = manifold
        event_shape = torch.Size(manifold.ambient_shape)
        super().__init__(torch.Size(batch_shape), event_shape, validate_args=validate_args)

    @property
    def _checked(self) -> bool:
        # values cannot be looked at where a computation is traced or mapped
        traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
        return bool(self._validate_args) and not traced

    @property
    def support(self) -> constraints.Constraint:  # type: ignore[override]
        return _OnManifold(self.manifold)

    @property
    def limit(self) -> "ManifoldDistribution":
        """The law that samples of this one follow, or tend to; itself, unless it approximates."""
        return self

    def rsample(
        self, sample_shape: Any = (), *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Reparametrised samples, of shape ``(*sample_shape, *batch_shape, *event_shape)``."""
        raise NotImplementedError(f"{type(self).__name__} has no reparametrised sampler")

    def sample(self, sample_shape: Any = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Samples without gradient, of shape ``(*sample_shape, *batch_shape, *event_shape)``."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def draw(
        self,
        n: int,
        *,
        dtype: torch.dtype,
        device: Any,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """n samples without gradient, of a dtype and on a device that the law may not be of."""
        return self.sample((n,), generator=generator).to(dtype=dtype, device=device)

    def _check_value(self, value: Tensor) -> None:
        """Refuse points of another shape or off the manifold, with the first that fails."""
        if not self._checked:
            return
        check_points("value", value, self.manifold)


def check_points(name: str, value: Tensor, manifold: Manifold) -> None:
    """Raise a ValueError unless ``value`` holds finite points of the manifold."""
    rank = len(manifold.ambient_shape)
    if not value.is_floating_point() or value.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} has dtype {value.dtype}; expected float32 or float64")
    if value.dim() < rank or tuple(value.shape[value.dim() - rank :]) != manifold.ambient_shape:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}; points of {manifold!r} have trailing shape "
            f"{manifold.ambient_shape}"
        )
    if not torch.isfinite(value).all():
        raise ValueError(f"{name} holds {int((~torch.isfinite(value)).sum())} non-finite entries")
    bad = ~_OnManifold(manifold).check(value)
    if bad.any():
        point = value[bad].reshape(-1, *manifold.ambient_shape)[0].detach()
        raise ValueError(
            f"{name} holds points off {manifold!r}, the first {point.tolist()}; "
            "M.projx projects onto it"
        )


def check_times(name: str, value: Tensor, manifold: Manifold) -> None:
    """Raise a ValueError unless ``value`` holds positive, finite times of the right shape."""
    rank = len(manifold.time_shape)
    if value.dim() < rank or tuple(value.shape[value.dim() - rank :]) != manifold.time_shape:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}; times on {manifold!r} have trailing shape "
            f"{manifold.time_shape}"
        )
    bad = ~((value > 0) & torch.isfinite(value))
    if bad.any():
        raise ValueError(
            f"{name} must be positive and finite, got {value[bad].flatten()[0].item()}; it is a "
            "variance, the time that Brownian motion has run"
        )


def normal_like(
    x: Tensor, shape: torch.Size | tuple[int, ...], generator: torch.Generator | None
) -> Tensor:
    """Standard normal noise of the given shape, with the dtype and on the device of x."""
    if generator is None:  # torch.compile cannot trace the keyword for a batch of changing size
        return torch.randn(shape, dtype=x.dtype, device=x.device)
    return torch.randn(shape, dtype=x.dtype, device=x.device, generator=generator)
