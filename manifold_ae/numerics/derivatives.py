"""Functions that bring their own derivatives, and derivatives that have none themselves."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor


class Fused(torch.autograd.Function):
    """A function that brings its own derivative: one node of the graph instead of a dozen.

    A subclass has ``constants``, how many of its first arguments are no tensors, and writes

        value(*arguments) -> (result, *kept)
        derivative(gradient, *arguments, *kept) -> a gradient for each tensor among the arguments

    It is called by ``Subclass.of(*arguments)``, which picks between torch's two ways to apply a
    function: the one that ``torch.func`` and ``torch.compile`` take, and the one that costs a
    quarter of it.

    Where the derivative is a value that is looked up, and cannot be differentiated itself,
    ``first_only`` names what it is of; asking for the second is then an error.
    """

    generate_vmap_rule = True
    constants = 0
    first_only = ""
    _direct: Any

    @staticmethod
    def value(*arguments: Any) -> tuple[Tensor, ...]:
        raise NotImplementedError

    @staticmethod
    def derivative(gradient: Tensor, *arguments: Any) -> tuple[Tensor | None, ...]:
        raise NotImplementedError

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        n = cls.constants

        def forward(*arguments: Any) -> tuple[Tensor, ...]:
            return cls.value(*arguments)

        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.mark_non_differentiable(*output[1:])
            ctx.constants = inputs[:n]
            ctx.save_for_backward(*inputs[n:], *output[1:])

        def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
            if cls.first_only:
                refuse_second_derivatives(cls.first_only)
            gradients = cls.derivative(gradient, *ctx.constants, *ctx.saved_tensors)
            if cls.first_only and torch._C._are_functorch_transforms_active():
                points = ctx.saved_tensors[: len(gradients)]
                gradients = tuple(
                    g if g is None else _Last.apply(cls.first_only, g, *points) for g in gradients
                )
            return (None,) * n + gradients

        def direct(ctx: Any, *arguments: Any) -> Tensor:
            value, *kept = cls.value(*arguments)
            ctx.constants = arguments[:n]
            ctx.save_for_backward(*arguments[n:], *kept)
            return value

        cls.forward = staticmethod(forward)
        cls.setup_context = staticmethod(setup_context)
        cls.backward = staticmethod(backward)
        members = {"forward": staticmethod(direct), "backward": staticmethod(backward)}
        cls._direct = type(cls.__name__, (torch.autograd.Function,), members)

    @classmethod
    def of(cls, *arguments: Any) -> Tensor:
        """The function's value at the arguments."""
        if torch._C._are_functorch_transforms_active():
            return cls.apply(*arguments)[0]
        if not torch.compiler.is_compiling():
            return cls._direct.apply(*arguments)
        if torch.is_grad_enabled() and any(
            isinstance(a, Tensor) and a.requires_grad for a in arguments
        ):
            return cls.apply(*arguments)[0]
        # Where no gradient is asked for, the tracer takes forward's one *arguments for a context.
        return cls.value(*arguments)[0]


class _Last(torch.autograd.Function):
    """A derivative at some points, which has none along them.

    ``torch.func`` differentiates with the graph kept in any case: only a second derivative gets
    here. Along the gradient that came in, the derivative is linear, and goes through.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(of: str, derivative: Tensor, *points: Tensor) -> Tensor:
        return derivative.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.of = inputs[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if any(ctx.needs_input_grad[2:]):
            raise RuntimeError(f"{ctx.of} have first derivatives only, torch.func's too")
        return None, gradient, *[None] * (len(ctx.needs_input_grad) - 2)


#: What mostly has its derivatives from a table.
LAWS = "the samplers and divergences of these laws"


class _WithSlopes(Fused):
    """``function(*points)`` returns the value and a slope for every point, all of one shape."""

    constants = 1
    first_only = LAWS

    @staticmethod
    def value(*arguments: Any) -> tuple[Tensor, ...]:
        function, *points = arguments
        return function(*points)

    @staticmethod
    def derivative(gradient: Tensor, *arguments: Any) -> tuple[Tensor | None, ...]:
        slopes = arguments[1 + len(arguments) // 2 :]
        return tuple(gradient * slope for slope in slopes)


def with_slopes(function: Callable[..., tuple[Tensor, ...]], *points: Tensor) -> Tensor:
    """``function(*points)[0]``, differentiable once by the slopes that follow it."""
    return _WithSlopes.of(function, *points)


def hidden_by_vmap(*tensors: Tensor) -> bool:
    """Whether ``torch.func.vmap`` hides the values of a tensor, under other transforms too."""
    inside: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    for tensor in tensors:
        while inside.is_functorch_wrapped_tensor(tensor):
            if inside.is_batchedtensor(tensor):
                return True
            tensor = inside.get_unwrapped(tensor)
    return False


def refuse_second_derivatives(of: str) -> None:
    """Raise in a backward pass that is to be differentiated again, rather than be silently wrong.

    torch.func differentiates with the graph kept in any case, and is let through: see ``_Last``.
    """
    if torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active():
        raise RuntimeError(f"{of} have first derivatives only; create_graph=True is not supported")


@cache
def _once(of: str) -> type[Fused]:
    """The identity, whose derivative is not to be differentiated."""

    class Once(Fused):
        first_only = of

        @staticmethod
        def value(*arguments: Any) -> tuple[Tensor, ...]:
            return (arguments[0].clone(),)

        @staticmethod
        def derivative(gradient: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
            return (gradient,)

    return Once


def differentiable_once(x: Tensor, of: str) -> Tensor:
    """x; a backward pass through it that keeps the graph raises, and names what it is ``of``."""
    return _once(of).of(x)
