r"""Numerically sound elementary functions: the only home of epsilons and of limits.

Every function here is finite, with finite first and second derivatives, at the points where its
textbook formula is not; each has a test of that limit.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "LAWS",
    "Fused",
    "arc_over_sine",
    "axial_norm",
    "built_once",
    "chord_angle",
    "constant",
    "cos_sqrt",
    "cosh_sqrt",
    "differentiable_once",
    "digamma_difference",
    "exceeds",
    "expm1_defect",
    "expm1_ratio",
    "half_cotangent_defect_sqrt",
    "hidden_by_vmap",
    "log1m_exp",
    "log_gamma_ratio",
    "normalise",
    "power_sum",
    "refuse_second_derivatives",
    "sinc_defect_sqrt",
    "sinc_sqrt",
    "sinhc_slope",
    "sinhc_sqrt",
    "soft_clamp",
    "soft_root",
    "trigamma_difference",
    "with_slopes",
]


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
        if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
            return cls.apply(*arguments)[0]
        return cls._direct.apply(*arguments)


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


def with_slopes(function: Callable[..., tuple[Tensor, ...]], *points: Tensor) -> Tensor:
    """``function(*points)[0]``, differentiable once by the slopes that follow it."""
    return _WithSlopes.of(function, *points)


def _series_where(s: Tensor, threshold: float, coefficients: tuple[float, ...]) -> Tensor:
    """Polynomial in s, by Horner's rule, evaluated at s clipped to the interval where it holds."""
    small = s.clamp(-threshold, threshold)
    result = torch.full_like(small, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result * small + coefficient
    return result


def cos_sqrt(s: Tensor) -> Tensor:
    r"""cos √s for s ≥ 0, smooth at zero: as a function of s it is entire.

    With s = |u|², no square root of zero is ever differentiated.
    """
    threshold = 1e-2
    series = _series_where(s, threshold, (1.0, -1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800))
    return torch.where(s < threshold, series, torch.cos(s.clamp_min(threshold).sqrt()))


def sinc_sqrt(s: Tensor) -> Tensor:
    r"""sin √s / √s for s ≥ 0, smooth at zero."""
    threshold = 1e-2
    series = _series_where(
        s, threshold, (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800)
    )
    root = s.clamp_min(threshold).sqrt()
    return torch.where(s < threshold, series, torch.sin(root) / root)


#: 1/(2k)! and 1/(2k+1)!: ten terms leave 1e-17 out at \|s\| = 1.
_EVEN = tuple(1 / math.factorial(2 * k) for k in range(10))
_ODD = tuple(1 / math.factorial(2 * k + 1) for k in range(10))


def cosh_sqrt(s: Tensor) -> Tensor:
    r"""cosh √s for s ≥ 0 and cos √−s for s < 0: one entire function of s."""
    up, down = s.clamp_min(1.0).sqrt(), (-s).clamp_min(1.0).sqrt()
    far = torch.where(s > 0, torch.cosh(up), torch.cos(down))
    return torch.where(s.abs() < 1.0, _series_where(s, 1.0, _EVEN), far)


def sinhc_sqrt(s: Tensor) -> Tensor:
    r"""sinh √s / √s for s > 0 and sin √−s / √−s for s < 0: one entire function of s."""
    up, down = s.clamp_min(1.0).sqrt(), (-s).clamp_min(1.0).sqrt()
    far = torch.where(s > 0, torch.sinh(up) / up, torch.sin(down) / down)
    return torch.where(s.abs() < 1.0, _series_where(s, 1.0, _ODD), far)


#: Of C = cosh √s and S = sinh √s / √s: (C − S)/s = Σ_k s^k (2k + 2)/(2k + 3)!. Seven terms leave
#: 1e-17 out at \|s\| = 1/4, and four 3e-9.
_SINHC_SLOPE = tuple((2 * k + 2) / math.factorial(2 * k + 3) for k in range(7))


def sinhc_slope(s: Tensor, even: Tensor, odd: Tensor, scale: Tensor) -> Tensor:
    r"""(C − S)/s, an entire function of s: 2 dS/ds, for C = cosh √s and S = sinh √s / √s.

    cos √−s and sin √−s / √−s where s < 0.

    Args:
        s: of shape ``(*)``, as all others.
        even: C, times the scale.
        odd: S, times the scale.
        scale: a common factor, that of the result too.
    """
    kept = _SINHC_SLOPE if s.dtype == torch.float64 else _SINHC_SLOPE[:4]
    quarter, *terms = (constant(x, s.dtype, s.device) for x in (0.25, *kept))
    near = s.abs() < quarter
    small, large = s, s
    if torch.is_grad_enabled():  # what is not selected is to have a finite derivative
        small, large = torch.where(near, s, 0.0), torch.where(near, 1.0, s)
    series = terms[-1]
    for term in reversed(terms[:-1]):
        series = torch.addcmul(term, series, small)
    return torch.where(near, series * scale, (even - odd) / large)


def soft_root(s: Tensor) -> Tensor:
    r"""√(s + ε²) − ε for s ≥ 0, with ε = 10⁻³: a square root with a finite slope at zero, 1/2ε.

    Of a sum of squares it is a norm that is smooth at the origin: within ε of the norm, and zero
    at zero. Written without the difference, which would cancel.
    """
    epsilon = 1e-3
    return s / (torch.sqrt(s + epsilon**2) + epsilon)


#: (1 − sin √s/√s)/s = Σ_k (−s)^k/(2k + 3)!; ten terms leave 1e-22 out at s = 1.
_SINC_DEFECT = tuple((-1) ** k / math.factorial(2 * k + 3) for k in range(10))


def sinc_defect_sqrt(s: Tensor) -> Tensor:
    r"""(1 − sin √s / √s) / s for s ≥ 0, smooth at zero, where it is 1/6."""
    series = _series_where(s, 1.0, _SINC_DEFECT)
    return torch.where(s < 1, series, (1 - sinc_sqrt(s)) / s.clamp_min(1.0))


#: (1 − (√s/2) cot(√s/2))/s = Σ_k |B_2k| s^{k−1}/(2k)!, with Bernoulli's numbers; s^k counts for
#: 40^{−k} at s = 1, and twelve terms leave 1e-19 out.
_BERNOULLI = (
    (1, 6), (1, 30), (1, 42), (1, 30), (5, 66), (691, 2730), (7, 6), (3617, 510),
    (43867, 798), (174611, 330), (854513, 138), (236364091, 2730),
)  # fmt: skip
_HALF_COTANGENT_DEFECT = tuple(
    above / below / math.factorial(2 * k) for k, (above, below) in enumerate(_BERNOULLI, 1)
)


def half_cotangent_defect_sqrt(s: Tensor) -> Tensor:
    r"""(1 − (√s/2) cot(√s/2)) / s for 0 ≤ s < 4π², smooth at zero, where it is 1/12."""
    series = _series_where(s, 1.0, _HALF_COTANGENT_DEFECT)
    far = s.clamp_min(1.0)
    return torch.where(s < 1, series, (1 - cos_sqrt(far / 4) / sinc_sqrt(far / 4)) / far)


#: (e^a − 1)/a = Σ_k a^k/(k + 1)!; these terms leave 1e-19 out at |a| = 1.
_EXPM1_RATIO = tuple(1 / math.factorial(k + 1) for k in range(20))


def expm1_ratio(a: Tensor) -> Tensor:
    r"""φ₁(a) = (eᵃ − 1)/a, positive for every a, smooth at zero, where it is 1."""
    near = a.abs() < 1
    far = torch.where(near, 1.0, a)
    return torch.where(near, _series_where(a, 1.0, _EXPM1_RATIO), torch.expm1(far) / far)


#: (e^a − 1 − a)/a² = Σ_k a^k/(k + 2)!; these terms leave 1e-20 out at |a| = 1.
_EXPM1_DEFECT = tuple(1 / math.factorial(k + 2) for k in range(20))


def expm1_defect(a: Tensor) -> Tensor:
    r"""φ₂(a) = (eᵃ − 1 − a)/a², positive for every a, smooth at zero, where it is 1/2."""
    near = a.abs() < 1
    far = torch.where(near, 1.0, a)
    return torch.where(
        near, _series_where(a, 1.0, _EXPM1_DEFECT), (torch.expm1(far) - far) / far**2
    )


def arc_over_sine(sine_squared: Tensor, cosine: Tensor) -> Tensor:
    r"""θ / sin θ for the angle θ ∈ [0, π] with the given sin²θ and cos θ; 1 at θ = 0.

    At θ = π the ratio diverges; the value returned there is finite but has no meaning, and the
    caller chooses (see ``Sphere.logmap``).
    """
    # arcsin(x)/x = Σ (2k)! / (4^k (k!)² (2k+1)) x^{2k}; six terms reach 1e-16 at the threshold.
    threshold = 1e-3
    coefficients = (1.0, 1 / 6, 3 / 40, 5 / 112, 35 / 1152, 63 / 2816)
    series = _series_where(sine_squared, threshold, coefficients)
    regular = (sine_squared >= threshold) | (cosine < 0)
    floor = torch.finfo(sine_squared.dtype).tiny
    root = torch.where(regular, sine_squared, 1.0).clamp_min(floor).sqrt()
    angle = torch.atan2(root, torch.where(regular, cosine, 0.0))
    return torch.where(regular, angle / root, series)


def chord_angle(x: Tensor, y: Tensor) -> Tensor:
    r"""Angle between unit vectors, 2 atan2(\|x − y\|, \|x + y\|), over the last axis.

    Accurate to rounding from 0 to π (Kahan, "How futile are mindless assessments of roundoff",
    2006, §12), where arccos loses half the digits. The angle has no gradient at 0 and at π; the
    subgradient there is zero.
    """
    difference = torch.linalg.vector_norm(x - y, dim=-1)
    total = torch.linalg.vector_norm(x + y, dim=-1)
    return 2 * torch.atan2(difference, total)


class _Normalise(Fused):
    @staticmethod
    def value(y: Tensor) -> tuple[Tensor, ...]:
        # In float64 nothing that float32 can hold overflows, and the offset, which no float32
        # can cancel, decides for the zero vector alone.
        offset = constant((1e-150,) + (0.0,) * (y.shape[-1] - 1), torch.float64, y.device)
        shifted = y + offset
        norm = torch.linalg.vector_norm(shifted, dim=-1, keepdim=True)
        return (shifted / norm).to(y.dtype), norm

    @staticmethod
    def derivative(gradient: Tensor, y: Tensor, norm: Tensor) -> tuple[Tensor]:
        if torch.is_grad_enabled():  # to be differentiated again
            norm = torch.linalg.vector_norm(y, dim=-1, keepdim=True, dtype=torch.float64)
        # Above the offset, which is the norm of float64's zero vector.
        tiny = max(torch.finfo(y.dtype).tiny, 2e-150)
        inverse = torch.where(norm < tiny, 0.0, 1 / norm.clamp_min(tiny)).to(y.dtype)
        x = y * inverse
        along = (gradient * x).sum(-1, keepdim=True)
        return (torch.addcmul(gradient, along, x, value=-1) * inverse,)


def normalise(y: Tensor) -> Tensor:
    r"""y / \|y\| over the last axis, for vectors of any magnitude that the dtype can hold.

    The zero vector has no direction: every unit vector is equally close to it, and the first
    basis vector is returned, with gradient zero.
    """
    if y.dtype == torch.float64:
        # Scaled by the largest entry, no square underflows or overflows.
        scale = y.detach().abs().amax(-1, keepdim=True)
        y = y / torch.where(scale > 0, scale, 1.0)
    return _Normalise.of(y)


def axial_norm(x: Tensor) -> Tensor:
    r"""√(x₁² + x₂²) of the last axis, at least 10⁻⁷: the distance from the axis of the third.

    Its gradient is zero below; no square overflows. An even function f of the distance is off by no
    more than rounding there, and so is an odd one as the factor f/distance of (x₁, x₂).
    """
    least = 1e-7
    first, second = x[..., 0], x[..., 1]
    below = (first.abs() < least) & (second.abs() < least)
    return torch.hypot(torch.where(below, least, first), torch.where(below, 0.0, second))


class _SoftClamp(Fused):
    @staticmethod
    def value(x: Tensor, middle: Tensor, half: Tensor) -> tuple[Tensor, ...]:
        shift = x - middle
        root = torch.hypot(shift, half)
        return torch.addcmul(middle, shift / root, half), root

    @staticmethod
    def derivative(gradient: Tensor, *saved: Tensor) -> tuple[Tensor | None, ...]:
        x, middle, half, root = saved
        if torch.is_grad_enabled():  # to be differentiated again
            root = torch.hypot(x - middle, half)
        return gradient * (half / root) ** 3, None, None


def soft_clamp(x: Tensor, low: float, high: float) -> Tensor:
    r"""The line bent smoothly into (low, high): m + w/√(1 + (w/h)²), w = x − m.

    Here m is the middle of the interval and h half its length. The slope is 1 in the middle and
    falls off beyond the bounds as \|w/h\|⁻³: not to zero, as a hard clamp's does, nor
    exponentially, so a value that was carried far out comes back.
    """
    middle, half = (low + high) / 2, (high - low) / 2
    like = x.dtype, x.device
    return _SoftClamp.of(x, constant(middle, *like), constant(half, *like))


def built_once(build: Callable[..., Any]) -> Callable[..., Any]:
    """Results of a function kept by its arguments, for the process.

    As ``functools.cache``, but built in a thread of its own: what surrounds the first call
    (inference mode, ``no_grad``, a transform of ``torch.func``, a default device, a tracer) belongs
    to the caller's thread, and must not find its way into what later calls share.
    """
    kept: dict[tuple[Any, ...], Any] = {}

    def build_apart(*key: Any) -> None:
        with ThreadPoolExecutor(1) as thread:
            kept[key] = thread.submit(build, *key).result()

    @wraps(build)
    def get(*key: Any) -> Any:
        if key not in kept:
            torch.compiler.disable(build_apart)(*key)
        return kept[key]

    return get


@built_once
def constant(value: float | tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number or a row of numbers as a tensor, made once: torch converts a float at every use."""
    return torch.tensor(value, dtype=dtype, device=device)


def exceeds(x: Tensor, limit: float) -> Tensor:
    """Whether x > limit by more than rounding: a limit that was computed admits its own figure."""
    return x > limit * (1 + 8 * torch.finfo(x.dtype).eps)


def log1m_exp(s: Tensor) -> Tensor:
    r"""log(1 − e^{−s}) for s > 0, accurate relative to itself at both ends; −∞ at s = 0.

    As a map of s to −log(1 − e^{−s}) it is its own inverse.
    """
    near = torch.log(-torch.expm1(-s.clamp_max(1.0)))
    far = torch.log1p(-torch.exp(-s.clamp_min(1.0)))
    return torch.where(s < 1.0, near, far)


#: Stirling's series: log Γ(x) = (x − ½) log x − x + ½ log 2π + Σ_k c_k x^{1−2k}. From x = 16 on
#: these terms leave 1e-17 out.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
_STIRLING_SLOPE = tuple((1 - 2 * k) * c for k, c in enumerate(_STIRLING, 1))
_STIRLING_CURVATURE = tuple(-2 * k * c for k, c in enumerate(_STIRLING_SLOPE, 1))
_STIRLING_FROM = 16.0


def log_gamma_ratio(x: Tensor, b: float | Tensor) -> Tensor:
    r"""log Γ(x + b) − log Γ(x) for x > 0, b ≥ 0: too large to subtract when x is large."""
    small, x_ = x.clamp_max(_STIRLING_FROM), x.clamp_min(_STIRLING_FROM)
    y_ = x_ + b
    rest = power_sum(y_, _STIRLING, -1.0, -2.0) - power_sum(x_, _STIRLING, -1.0, -2.0)
    large = (x_ - 0.5) * torch.log1p(b / x_) + b * (torch.log(y_) - 1) + rest
    return torch.where(x < _STIRLING_FROM, torch.lgamma(small + b) - torch.lgamma(small), large)


def digamma_difference(x: Tensor, b: float) -> Tensor:
    r"""ψ(x + b) − ψ(x) for x, b > 0: the derivative of ``log_gamma_ratio``, accurate likewise."""
    small, x_ = x.clamp_max(_STIRLING_FROM), x.clamp_min(_STIRLING_FROM)
    y_ = x_ + b
    rest = power_sum(y_, _STIRLING_SLOPE, -2.0, -2.0) - power_sum(x_, _STIRLING_SLOPE, -2.0, -2.0)
    large = torch.log1p(b / x_) + b / (2 * x_ * y_) + rest
    return torch.where(x < _STIRLING_FROM, torch.digamma(small + b) - torch.digamma(small), large)


def trigamma_difference(x: Tensor, b: float) -> Tensor:
    r"""ψ₁(x + b) − ψ₁(x) for x, b > 0: the derivative of ``digamma_difference``.

    Below x = 16 it is as accurate as torch's trigamma, 1e-10; from there on, to rounding.
    """
    small, x_ = x.clamp_max(_STIRLING_FROM), x.clamp_min(_STIRLING_FROM)
    y_ = x_ + b
    curvature = _STIRLING_CURVATURE
    rest = power_sum(y_, curvature, -3.0, -2.0) - power_sum(x_, curvature, -3.0, -2.0)
    large = rest - b / x_ / y_ * (1 + 0.5 / x_ + 0.5 / y_)
    direct = torch.polygamma(1, small + b) - torch.polygamma(1, small)
    return torch.where(x < _STIRLING_FROM, direct, large)


def power_sum(
    x: Tensor, coefficients: tuple[float, ...], start: float = 0.0, step: float = 1.0
) -> Tensor:
    """Σ_k c_k x^{start + k step}, in few operations."""
    exponents = tuple(start + k * step for k in range(len(coefficients)))
    powers = x.unsqueeze(-1) ** constant(exponents, x.dtype, x.device)
    return (powers * constant(coefficients, x.dtype, x.device)).sum(-1)
