"""Second derivatives, asked of autograd or of torch.func, are right or refused: never wrong."""

import pytest
import torch
from torch import Tensor

from manifold_ae import heat
from manifold_ae.groups import rotations
from manifold_ae.manifolds import SO3, EmbeddedTorus, FlatTorus, KleinBottle, RealProjective, Sphere
from manifold_ae.numerics import differentiable_once, normalise, soft_clamp, with_slopes

LINES = RealProjective(2)
HERE = torch.tensor(0.3, dtype=torch.float64)


def divergence(M):
    return lambda t: heat.kl_uniform(M, M.base_point(dtype=torch.float64), t)


def step(M):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(heat.noise_shape(M), dtype=torch.float64, generator=generator)
    start = M.base_point(dtype=torch.float64)

    def moved(t: Tensor) -> Tensor:
        z = heat.brownian_step(M, start, t, noise).flatten()
        return (z.square() * torch.arange(len(z)) + z).sum()

    return moved


def density(M):
    start = M.base_point(dtype=torch.float64)
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(1)).double()
    y = M.projx(start + noise)
    return lambda t: heat.log_kernel(M, start, y, t)


def along(function, size):
    """Of a curve of tensors, so that the variable is a number."""
    a, b = torch.randn(2, *size, generator=torch.Generator().manual_seed(2)).double()
    w = torch.linspace(-1, 1, a.numel(), dtype=torch.float64).reshape(size)
    return lambda s: (w * function(a + s * b)).sum()


REFUSED = {
    "slopes": lambda t: with_slopes(lambda t: (t.sin(), t.cos()), t),
    "once": lambda t: differentiable_once(t.sin(), "these sines"),
    "torus distance": along(
        lambda x: EmbeddedTorus().dist(
            EmbeddedTorus().projx(x), EmbeddedTorus().base_point(dtype=torch.float64)
        ),
        (3,),
    ),
    **{
        f"divergence on {M!r}": divergence(M)
        for M in (Sphere(2), FlatTorus(2), RealProjective(2), SO3(), KleinBottle(), EmbeddedTorus())
    },
    **{f"step on {M!r}": step(M) for M in (Sphere(2), RealProjective(2))},
}
RIGHT = {
    "normalise": along(normalise, (3,)),
    "soft clamp": along(lambda x: soft_clamp(x, -1, 1.5), (4,)),
    "rotation": along(rotations.exp, (3,)),
    "nearest rotation": along(rotations.nearest_rotation, (3, 3)),
    "leading eigenvector": along(lambda x: LINES.embed(LINES.from_features(x)), (6,)),
    **{f"step on {M!r}": step(M) for M in (FlatTorus(2), KleinBottle())},
    **{
        f"density on {M!r}": density(M)
        for M in (Sphere(2), FlatTorus(2), RealProjective(2), SO3(), KleinBottle())
    },
}
ROUTES = {
    "jacrev twice": lambda f, t: torch.func.jacrev(torch.func.jacrev(f))(t),
    "grad of grad": lambda f, t: (
        torch.func.grad(lambda t: torch.func.grad(f)(t).square())(t) / (2 * torch.func.grad(f)(t))
    ),
    "inside vmap": lambda f, t: torch.func.vmap(torch.func.grad(torch.func.grad(f)))(t[None])[0],
    "autograd": lambda f, t: torch.autograd.functional.hessian(f, t),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_first_derivatives_only_refuses_the_second(name, route):
    if name == "torus distance" and route == "inside vmap":
        pytest.skip("the search for geodesics does not run inside vmap at all")
    with pytest.raises(RuntimeError, match="first derivatives only"):
        ROUTES[route](REFUSED[name], HERE)


@pytest.mark.parametrize("name", [*REFUSED, *RIGHT])
def test_the_first_is_right_by_either_route(name):
    function = {**REFUSED, **RIGHT}[name]
    h = 1e-5
    numeric = (function(HERE + h) - function(HERE - h)) / (2 * h)
    (slope,) = torch.autograd.grad(function(leaf := HERE.clone().requires_grad_()), leaf)
    torch.testing.assert_close(slope, numeric.detach(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(torch.func.grad(function)(HERE), slope)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", RIGHT)
def test_the_others_have_the_right_second_derivative(name, route):
    function, h = RIGHT[name], 1e-4
    first = torch.func.grad(function)
    numeric = (first(HERE + h) - first(HERE - h)) / (2 * h)
    found = ROUTES[route](function, HERE)
    torch.testing.assert_close(found, numeric, rtol=1e-5, atol=1e-6)


def test_along_the_gradient_that_comes_in_it_is_linear():
    """A mixed second derivative that is no second derivative of the law."""

    def weighted(w: Tensor, t: Tensor) -> Tensor:
        return w.square() * with_slopes(lambda t: (t.sin(), t.cos()), t)

    mixed = torch.func.grad(lambda w: torch.func.grad(weighted, 1)(w, HERE))(HERE)
    torch.testing.assert_close(mixed, 2 * HERE * HERE.cos())


def test_what_looks_at_values_says_so_inside_vmap():
    """Also where a gradient is taken inside, which wraps the tensor once more."""
    function = density(EmbeddedTorus())
    for transformed in (function, torch.func.grad(function)):
        with pytest.raises(NotImplementedError, match=r"vmap hides; call it on the whole batch"):
            torch.func.vmap(transformed)(HERE[None])
