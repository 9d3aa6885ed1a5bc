"""The walk without the leading bias: steps by quadrature, not by samples, where M is curved."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from manifold_ae.distributions import RandomWalk, brownian
from manifold_ae.manifolds import (
    SO3,
    EmbeddedTorus,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    Quotient,
    RealProjective,
    Sphere,
    Spheroid,
    Submanifold,
    SurfaceOfRevolution,
)

Map = Callable[[Tensor], Tensor]


def bean(u: Tensor) -> tuple[Tensor, Tensor]:
    return 2 + u.cos() - 0.2 * (2 * u).cos(), u.sin()


def two_quadrics(x: Tensor) -> Tensor:
    """A surface in ℝ⁴ that is no product, of codimension two."""
    return torch.stack(
        [x.square().sum(-1) - 1, (x.square() * x.new_tensor([1.0, 1.3, -1.1, -0.8])).sum(-1)], -1
    )


ELLIPSOID = Submanifold(
    (3,), level_set=lambda x: (x.square() / x.new_tensor([4.0, 2.25, 1.0])).sum(-1) - 1,
    name="ellipsoid",
)  # fmt: skip
MEETING = Submanifold((4,), level_set=two_quadrics, name="two quadrics")


def gauss(dim: int, count: int) -> tuple[Tensor, Tensor]:
    """Nodes ``(n, dim)`` and weights of the standard normal law."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    grid = np.stack(np.meshgrid(*[nodes] * dim, indexing="ij"), -1).reshape(-1, dim)
    product = np.stack(np.meshgrid(*[weights / weights.sum()] * dim, indexing="ij"), -1)
    return torch.tensor(grid), torch.tensor(product.prod(-1).reshape(-1))


@pytest.fixture
def one_step(monkeypatch) -> Callable[..., Tensor]:
    """Ends of one step of the walk, of all the nodes of a quadrature."""

    def step(M: Manifold, x: Tensor, h: float, corrected: bool, nodes: Tensor) -> Tensor:
        def noise(like: Tensor, shape: tuple[int, ...], generator: object) -> Tensor:
            spread = nodes.reshape(1, len(nodes), *[1] * (len(shape) - 3), nodes.shape[-1])
            return spread.expand(shape)

        monkeypatch.setattr(brownian, "normal_like", noise)
        return RandomWalk(M, x, h, 1, corrected=corrected).rsample((len(nodes),))

    return step


def laplacian(constraints: Map, function: Map) -> Map:
    """Δ_M f from a level set, at a point: tr T∇²f + ⟨N, ∇f⟩, N = −J⁺ tr T D²F."""

    def value(x: Tensor) -> Tensor:
        slopes = torch.func.jacrev(constraints)(x)
        pinv = slopes.mT @ torch.linalg.inv(slopes @ slopes.mT)
        tangent = torch.eye(len(x), dtype=x.dtype) - pinv @ slopes
        bends = torch.func.jacfwd(torch.func.jacrev(constraints))(x)
        normal = -pinv @ torch.einsum("kab,ab->k", bends, tangent)
        second = torch.func.jacfwd(torch.func.jacrev(function))(x)
        return (tangent * second).sum() + normal @ torch.func.jacrev(function)(x)

    return value


def wave(x: Tensor) -> Tensor:
    """A function without symmetries."""
    return torch.sin(x[0]) + x[2].square() * x[1] + 0.7 * x[2]


def tube(x: Tensor) -> Tensor:
    return ((x[:2].square().sum().sqrt() - 3).square() + x[2].square() - 0.36).unsqueeze(0)


def ellipsoid(x: Tensor) -> Tensor:
    return (x.square() / x.new_tensor([4.0, 2.25, 1.0])).sum().unsqueeze(0) - 1


def spheroid(x: Tensor) -> Tensor:
    return (x.square() / x.new_tensor([1.0, 1.0, 2.25])).sum().unsqueeze(0) - 1


@pytest.mark.parametrize(
    ("M", "constraints", "scale"),
    [
        (EmbeddedTorus(), tube, 0.01),
        (Spheroid(), spheroid, 0.02),
        (ELLIPSOID, ellipsoid, 0.005),
        (MEETING, lambda x: two_quadrics(x), 0.005),
    ],
    ids=["torus", "spheroid", "ellipsoid", "codimension two"],
)  # fmt: skip
def test_a_corrected_step_errs_in_third_order(M, constraints, scale, one_step):
    """Against f + (h/2) Δf + (h²/8) Δ²f, Δ from the equation of the set alone."""
    nodes, weights = gauss(M.ambient_shape[0], 12 if M.ambient_shape == (3,) else 7)
    start = [1.0, 1.0, 0.3, 0.6][: M.ambient_shape[0]]
    x = M.projx(torch.tensor(start, dtype=torch.float64))
    first = laplacian(constraints, wave)
    series = wave(x), first(x), laplacian(constraints, first)(x)

    def error(h: float, corrected: bool) -> float:
        exact = series[0] + h / 2 * series[1] + h**2 / 8 * series[2]
        ends = one_step(M, x, h, corrected, nodes)
        return ((weights * torch.vmap(wave)(ends)).sum() - exact).item()

    plain = [error(h, False) for h in (scale, scale / 2)]
    corrected = [error(h, True) for h in (scale, scale / 2)]
    assert plain[0] / plain[1] == pytest.approx(4, rel=0.15)
    assert corrected[0] / corrected[1] == pytest.approx(8, rel=0.15)
    assert abs(corrected[1]) < abs(plain[1]) / 10


def test_the_walk_errs_in_second_order_of_the_exact_expectation(one_step):
    """On the embedded torus, f = cos θ · (cos φ, sin φ, cos 2φ); every step by quadrature."""
    M, t, n = EmbeddedTorus(), 0.2, 36
    tube = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    waves = torch.arange(n // 2, dtype=torch.float64)
    nodes, weights = gauss(3, 10)

    def basis(angle: Tensor) -> Tensor:
        turns = angle.unsqueeze(-1) * waves
        return torch.cat([turns.cos(), turns.sin()[..., 1:]], -1)

    to_series = torch.linalg.pinv(basis(tube))
    f = torch.stack([tube.cos(), tube.sin(), (2 * tube).cos()], -1)
    grid = M.from_angles(torch.stack([torch.zeros_like(tube), tube], -1))

    def walked(steps: int, corrected: bool) -> Tensor:
        ends = M.to_angles(one_step(M, grid, t / steps, corrected, nodes))
        values = basis(ends[..., 1]) * (weights[:, None] * ends[..., 0].cos())[..., None]
        step = values.sum(0) @ to_series
        return torch.linalg.matrix_power(step, steps) @ f

    # ∂f/∂t = ½(f''/c² − sin φ f'/(cρ) − f/ρ²) for f(φ) cos θ, by collocation.
    slopes = torch.zeros(n - 1, n - 1, dtype=torch.float64)
    half = n // 2
    for k in range(1, half):
        slopes[half - 1 + k, k], slopes[k, half - 1 + k] = -k, k
    rho = 3 + 0.6 * tube.cos()
    first = basis(tube) @ slopes @ to_series
    generator = first @ first / 0.36 - (tube.sin() / (0.6 * rho)).unsqueeze(-1) * first
    generator = (generator - torch.diag(1 / rho.square())) / 2
    exact = torch.linalg.matrix_exp(t * generator) @ f

    plain = [(walked(steps, False) - exact).abs().max().item() for steps in (4, 8)]
    corrected = [(walked(steps, True) - exact).abs().max().item() for steps in (4, 8, 16)]
    assert corrected[0] / corrected[1] == pytest.approx(4, rel=0.15)
    assert corrected[1] / corrected[2] == pytest.approx(4, rel=0.1)
    assert plain[1] > 10 * corrected[1]


def points(M: Manifold, n: int, generator: torch.Generator) -> Tensor:
    shape = (n, *M.ambient_shape)
    return M.projx(torch.randn(shape, dtype=torch.float64, generator=generator))


CLOSED = [
    Sphere(1), Sphere(4), FlatTorus(2), EmbeddedTorus(), SurfaceOfRevolution(bean), Spheroid(),
    ELLIPSOID, RealProjective(3),
]  # fmt: skip


@pytest.mark.parametrize("M", CLOSED, ids=str)
def test_the_centre_is_the_laplacian_of_the_coordinates(M, generator):
    """Closed forms against the derivatives of the projection, to second order in t."""
    x = points(M, 6, generator)
    t = torch.full((6,), 1e-4, dtype=torch.float64)
    here, there = M.walk_centre(x, t), Manifold.walk_centre(M, x, t)
    torch.testing.assert_close((here - x) / t[0], (there - x) / t[0], rtol=0, atol=3e-4)


def test_the_centre_on_rotations(generator):
    """Its metric is not the ambient one: ΔR = −2R."""
    M = SO3()
    x = M.random_uniform(dtype=torch.float64, generator=generator)
    torch.testing.assert_close(M.walk_centre(x, x.new_tensor(0.2)), x / 1.1)


@pytest.mark.parametrize("M", [*CLOSED, SO3(), MEETING], ids=str)
@pytest.mark.parametrize("t", [1e-12, 1e-2])
def test_the_centre_projects_to_where_it_belongs(M, t, generator):
    x = points(M, 5, generator)
    centre = M.walk_centre(x, torch.full((5,), t, dtype=torch.float64))
    torch.testing.assert_close(M.projx(centre), x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("t", [1.0, 1e3, 1e9])
@pytest.mark.parametrize("M", [EmbeddedTorus(), Spheroid(), Sphere(9), ELLIPSOID], ids=str)
def test_the_centre_stays_below_the_focal_point(M, t, generator):
    """1/κ of the largest curvature towards it: there the projection is still a diffeomorphism."""
    x = points(M, 8, generator)
    centre = M.walk_centre(x, torch.full((8,), t, dtype=torch.float64))
    shift = centre - x
    form = Submanifold(M.ambient_shape, M.projx, name="again").embedding.form(x)
    length = torch.linalg.vector_norm(shift, dim=-1)
    bend = torch.linalg.eigvalsh(torch.einsum("nw,nwuv->nuv", shift, form))[:, -1] / length
    assert bool((length * bend < 1).all())


def mirror() -> Quotient:
    return Quotient(EmbeddedTorus(), [-np.eye(3)], name="half a torus")


@pytest.mark.parametrize(
    "M",
    [
        EmbeddedTorus(), Spheroid(), SurfaceOfRevolution(bean), ELLIPSOID, MEETING, KleinBottle(),
        mirror(), Product(EmbeddedTorus(), Euclidean(2), SO3()), Product(ELLIPSOID, Sphere(1)),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_walks_everywhere_with_gradients(M, dtype, generator):
    noise = torch.randn(M.ambient_shape, dtype=torch.float64, generator=generator)
    loc = M.projx(noise).to(dtype).requires_grad_()
    time = torch.full(M.time_shape, 0.05, dtype=dtype).requires_grad_()
    walk = RandomWalk(M, loc, time, 2, corrected=True)
    z = walk.rsample((3,), generator=generator)
    assert z.dtype == dtype and z.shape == (3, *M.ambient_shape)
    assert M.check_point_on_manifold(z)
    for gradient in torch.autograd.grad(z.sum(), [loc, time]):
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("M", [EmbeddedTorus(), Spheroid(), ELLIPSOID], ids=str)
def test_its_derivative_in_time_is_that_of_its_values(M, generator):
    """With the curvature in the step, third derivatives of the projection."""
    x = points(M, 1, generator)[0]
    time = x.new_tensor(0.1).requires_grad_()

    def end(t: Tensor, loc: Tensor) -> Tensor:
        walk = RandomWalk(M, loc, t, 3, corrected=True)
        return walk.rsample(generator=torch.Generator().manual_seed(3))

    weights = x.new_tensor([0.3, -0.8, 0.5])
    loc = x.clone().requires_grad_()
    slope, spread = torch.autograd.grad((end(time, loc) * weights).sum(), [time, loc])
    step, way = 1e-5, M.proju(x, x.new_tensor([0.6, 0.2, -0.4]))
    numeric = ((end(time + step, x) - end(time - step, x)) * weights).sum() / (2 * step)
    torch.testing.assert_close(slope, numeric.detach(), rtol=1e-5, atol=1e-7)
    ends = [end(time, M.projx(x + sign * step * way)) for sign in (1, -1)]
    numeric = ((ends[0] - ends[1]) * weights).sum() / (2 * step)
    torch.testing.assert_close((spread * way).sum(), numeric.detach(), rtol=1e-5, atol=1e-7)
