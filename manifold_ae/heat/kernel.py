"""The heat kernel of a manifold, as generic functions that each manifold registers.

A manifold with an exact kernel registers ``log_kernel``; with an exact divergence from the uniform
law, ``kl_uniform``; with an exact one-step sampler, ``brownian_step``. Where nothing is registered
the function says so and names what there is instead.
"""

import inspect
import math
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, get_type_hints

from torch import Tensor

from manifold_ae.manifolds import Manifold

__all__ = [
    "brownian_step",
    "entropy",
    "has_sampler",
    "is_quick",
    "kl_uniform",
    "log_kernel",
    "noise_shape",
]

POINTS, TIMES = ("x", "y", "loc"), ("t", "time")


def require_tensor(name: str, value: Any) -> None:
    """Raise a TypeError unless a point or a time is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} = {value!r} must be a tensor, with the dtype and on the device of the others: "
            "torch.tensor(...) makes one, and distributions.HeatKernel takes numbers for times"
        )


class Generic:
    """A function of which each kind of manifold may register its own, found along its classes.

    As ``functools.singledispatch``, whose search ``torch.compile`` cannot trace. Arguments called
    x, y or loc are points, those called t or time are times, and their shapes are looked at.
    """

    def __init__(self, default: Callable[..., Any]) -> None:
        self._default = default
        self._names = tuple(inspect.signature(default).parameters)[1:]
        self._registered: dict[type, Callable[..., Any]] = {}
        update_wrapper(self, default)

    def register(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Take ``function`` for the manifolds of the kind that annotates its first argument."""
        kind = get_type_hints(function)["manifold"]
        self._registered[kind] = function
        return function

    def dispatch(self, kind: type) -> Callable[..., Any]:
        """What is called for a manifold of a kind."""
        for base in kind.__mro__:
            if base in self._registered:
                return self._registered[base]
        return self._default

    def __call__(self, manifold: Manifold, *arguments: Any, **options: Any) -> Any:
        if not isinstance(manifold, Manifold):
            raise TypeError(
                f"manifold = {manifold!r}: expected a manifold, such as manifolds.Sphere(2)"
            )
        self._check(manifold, *zip(self._names, arguments, strict=False), *options.items())
        return self.dispatch(type(manifold))(manifold, *arguments, **options)

    @staticmethod
    def _check(manifold: Manifold, *given: tuple[str, Any]) -> None:
        for name, value in given:
            if name in POINTS:
                require_tensor(name, value)
                manifold.require_shape(name, value)
            elif name in TIMES:
                require_tensor(name, value)
                manifold.require_time_shape(name, value)


@Generic
def log_kernel(manifold: Manifold, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """log q(t; x, y), the log-density at y of Brownian motion that started at x a time t before.

    Args:
        x, y: points of shape ``(*, *ambient_shape)``, symmetric in their roles.
        t: time (variance), positive, of shape ``(*, *time_shape)``.

    Returns:
        Log-density with respect to Riemannian volume, in nats, of shape ``(*)``.

    Raises:
        NotImplementedError: where the manifold has no exact heat kernel.
    """
    raise NotImplementedError(
        f"{manifold!r} has no exact heat kernel; distributions.RandomWalk samples it "
        "approximately, and on a Submanifold heat.short_time_log_kernel holds for short times, "
        "heat.monte_carlo_log_kernel for any"
    )


@Generic
def kl_uniform(manifold: Manifold, x: Tensor, t: Tensor) -> Tensor:
    """KL(q(t; x, ·) ‖ uniform) in nats, exact, of shape ``(*)``; differentiable in x and t.

    Raises:
        NotImplementedError: where no exact divergence is known.
    """
    raise NotImplementedError(
        f"{manifold!r} has no exact KL to the uniform law; heat.kl_asymptotic holds up to "
        f"t = {manifold.short_time_limit:.3g}, and heat.kl_monte_carlo(q, p, n) estimates it "
        "with a standard error where q has a density and a sampler"
    )


@Generic
def is_quick(manifold: Manifold) -> bool:
    """Whether ``kl_uniform``, where there is one, is a closed form or a table, and not an integral
    at every point: then a training step is better off with log q − log p at its sample.
    """
    return True


@Generic
def entropy(manifold: Manifold, x: Tensor, t: Tensor) -> Tensor:
    """Differential entropy of q(t; x, ·) with respect to volume, in nats, of shape ``(*)``."""
    return math.log(manifold.volume) - kl_uniform(manifold, x, t)


@Generic
def brownian_step(manifold: Manifold, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """A point with exactly the law q(t; x, ·), continuous and differentiable in x and t.

    Args:
        x: start, of shape ``(*, *ambient_shape)``.
        t: time of shape ``(*, *time_shape)``.
        noise: standard normal, of shape ``(*, *noise_shape(manifold))``; x and t are expanded to
            its batch shape.

    Raises:
        NotImplementedError: where no exact sampler is known.
    """
    raise NotImplementedError(
        f"{manifold!r} has no exact sampler; distributions.RandomWalk samples it approximately"
    )


@Generic
def has_sampler(manifold: Manifold) -> bool:
    """Whether ``brownian_step`` is known for a manifold."""
    return brownian_step.dispatch(type(manifold)) is not brownian_step.dispatch(object)


@Generic
def noise_shape(manifold: Manifold) -> tuple[int, ...]:
    """Shape of the normal noise that ``brownian_step`` takes for one point."""
    return manifold.ambient_shape
