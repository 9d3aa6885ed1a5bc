"""Manifolds given by a projection or a level set: against closed forms, and what is refused.

Spheres, the torus of revolution and an ellipsoid are known by other means: their curvatures,
volumes and kernels are the oracles here.
"""

import copy
import math

import geoopt
import pytest
import torch
from scipy.special import ellipeinc, ellipkinc

from manifold_ae import heat
from manifold_ae.distributions import HeatKernel, RandomWalk, RiemannianUniform
from manifold_ae.manifolds import Manifold, Sphere, Submanifold
from manifold_ae.numerics import normalise

AXES = (1.0, 1.5, 2.0)
RADII = (3.0, 0.6)


def ellipsoid_function(x: torch.Tensor) -> torch.Tensor:
    return (x / x.new_tensor(AXES)).square().sum(-1) - 1


def torus_projection(y: torch.Tensor) -> torch.Tensor:
    core = RADII[0] * normalise(y[..., :2])
    core = torch.cat([core, torch.zeros_like(y[..., 2:])], -1)
    return core + RADII[1] * normalise(y - core)


def sphere(d: int, **kwargs) -> Submanifold:
    return Submanifold((d + 1,), normalise, name=f"sphere-{d}", **kwargs)


ELLIPSOID = Submanifold((3,), level_set=ellipsoid_function, name="ellipsoid")
TORUS = Submanifold((3,), torus_projection, name="torus")
SPHERES = {d: sphere(d) for d in (2, 3, 5)}
ALL = (ELLIPSOID, TORUS, *SPHERES.values())
over = pytest.mark.parametrize("manifold", ALL, ids=[M.spec for M in ALL])


def points(manifold: Submanifold, n: int, **kwargs) -> torch.Tensor:
    """Points of the manifold, not uniform."""
    return manifold.projx(2 * torch.randn(n, *manifold.ambient_shape, **kwargs))


def unit_tangents(manifold: Manifold, x: torch.Tensor) -> torch.Tensor:
    u = manifold.proju(x, torch.randn_like(x))
    return u / torch.linalg.vector_norm(u, dim=-1, keepdim=True)


def largest(x: torch.Tensor) -> float:
    return x.detach().abs().max().item()


def ellipsoid_area() -> float:
    c, b, a = AXES
    angle = math.acos(c / a)
    m = a**2 * (b**2 - c**2) / (b**2 * (a**2 - c**2))
    elliptic = ellipeinc(angle, m) * math.sin(angle) ** 2 + ellipkinc(angle, m) * (c / a) ** 2
    return 2 * math.pi * (c**2 + a * b / math.sin(angle) * elliptic)


def ellipsoid_curvature(x: torch.Tensor) -> torch.Tensor:
    """Twice the Gaussian curvature 1/(a²b²c² h²), h = Σ x_i²/a_i⁴."""
    squares = x.new_tensor(AXES).square()
    return 2 / (squares.prod() * (x / squares).square().sum(-1).square())


def torus_curvature(x: torch.Tensor) -> torch.Tensor:
    big, small = RADII
    rho = torch.linalg.vector_norm(x[..., :2], dim=-1)
    return 2 * (rho - big) / small / (small * rho)


CURVATURE = {
    "ellipsoid": ellipsoid_curvature,
    "torus": torus_curvature,
    "sphere-2": lambda x: torch.full_like(x[..., 0], 2.0),
    "sphere-3": lambda x: torch.full_like(x[..., 0], 6.0),
    "sphere-5": lambda x: torch.full_like(x[..., 0], 20.0),
}
VOLUME = {
    "ellipsoid": ellipsoid_area(),
    "torus": 4 * math.pi**2 * RADII[0] * RADII[1],
    **{f"sphere-{d}": Sphere(d).volume for d in SPHERES},
}


# ---- what it is -----------------------------------------------------------------------------


@over
def test_dimension_is_the_rank_of_the_derivative(manifold):
    assert manifold.dim == manifold.ambient_shape[0] - 1


def test_dimension_of_higher_codimension():
    def circle(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[..., 2] - 0.3 * x[..., 0], x.square().sum(-1) - 1], -1)

    M = Submanifold((3,), level_set=circle, name="circle", volume=2 * math.pi)
    x = points(M, 20, dtype=torch.float64)
    assert M.dim == 1
    assert largest(circle(x)) <= 1e-14
    assert largest(M.scalar_curvature(x)) <= 1e-12
    assert largest(M.mean_curvature(x) + x) <= 1e-12


def test_dimension_that_varies_is_refused():
    def project(y: torch.Tensor) -> torch.Tensor:
        keep = torch.tensor([1.0, 1.0, 0.0]).to(y)
        return torch.where(y[..., :1] > 0, y * keep, y * keep.flip(0) * keep)

    with pytest.raises(ValueError, match=r"rank 1 to 2.*M\.check"):
        _ = Submanifold((3,), project, name="broken").dim
    with pytest.raises(ValueError, match="rank 3; a submanifold"):
        _ = Submanifold((3,), lambda y: y * 1, name="everything").dim


def test_matrices_as_points(dtype, tolerance):
    """The orthogonal group as zeros of XᵀX − I: two axes of a point, codimension six."""

    def orthogonal(x: torch.Tensor) -> torch.Tensor:
        i, j = torch.triu_indices(3, 3)
        return (x.mT @ x - torch.eye(3, dtype=x.dtype))[..., i, j]

    M = Submanifold((3, 3), level_set=orthogonal, name="O(3)")
    y = torch.linalg.qr(torch.randn(4, 2, 3, 3, dtype=dtype))[0] + 0.1
    x = M.projx(y)
    left, _, right = torch.linalg.svd(y)
    assert M.dim == 3
    assert x.dtype == dtype
    assert largest(x - left @ right) <= 10 * tolerance
    # Half the sum of squares of a rotation's derivative is that of the angle: curvature 3/2 · ½.
    assert largest(M.scalar_curvature(x) - 0.75) <= 1000 * tolerance
    u = M.proju(x, torch.randn_like(x))
    assert largest(x.mT @ u + u.mT @ x) <= 100 * tolerance
    assert M.inner(x, u).shape == (4, 2)
    assert M.inner(x, u, keepdim=True).shape == (4, 2, 1, 1)


def test_equality_is_by_identity_of_the_functions():
    again = Submanifold((3,), torus_projection, name="torus")
    assert again == TORUS
    assert hash(again) == hash(TORUS)
    assert again != Submanifold((3,), torus_projection, name="tube")
    assert sphere(2) != sphere(3)
    assert Submanifold((3,), lambda y: normalise(y)) != Submanifold((3,), lambda y: normalise(y))
    assert copy.deepcopy(TORUS) == TORUS
    assert Submanifold((3,), torus_projection).spec == "torus_projection"
    assert repr(TORUS) == "Submanifold((3,), name='torus')"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((3,),), {}, "got neither"),
        (((3,), normalise), {"level_set": ellipsoid_function}, "got both"),
        (((0,), normalise), {}, "positive integers"),
        (((3,), 3), {}, "project = 3 must be a function"),
        (((3,), normalise), {"dim": 3}, "from 1 to 2"),
        (((3,), normalise), {"volume": -1.0}, "volume = -1.0 must be positive"),
        (((3,), normalise), {"geodesic_steps": 0}, "at least 1"),
        (((3,), normalise), {"geodesic_steps": 1.5}, "must be an integer"),
    ],
)
def test_bad_arguments_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        Submanifold(*arguments, **options)


# ---- closest points -------------------------------------------------------------------------


def test_level_set_finds_the_closest_point(dtype):
    grid = Sphere(2).random_uniform(20000, dtype=dtype) * torch.tensor(AXES, dtype=dtype)
    # Inside, where the closest point is hardest to find, on the axes too, and far outside.
    y = torch.randn(300, 3, dtype=dtype) * torch.tensor([0.2, 1.0, 5.0], dtype=dtype).repeat(
        100
    ).unsqueeze(-1)
    y = torch.cat([y, 0.1 * torch.eye(3, dtype=dtype), 50 * torch.eye(3, dtype=dtype)])
    x = ELLIPSOID.projx(y)
    eps = torch.finfo(dtype).eps
    assert largest(ellipsoid_function(x)) <= 10 * eps
    distance = torch.linalg.vector_norm(y - x, dim=-1)
    assert (distance <= torch.cdist(y, grid).amin(-1) + 100 * eps).all()
    assert largest(ELLIPSOID.projx(x) - x) <= 10 * eps


def test_level_set_of_a_centre_and_of_nothing():
    """At the centre all points may be as close: one of them, not NaN."""
    M = Submanifold((3,), level_set=lambda x: x.square().sum(-1) - 1, name="sphere")
    y = torch.tensor([[2.0, 0, 0], [0, 0.5, 0]])
    assert torch.allclose(M.projx(y), normalise(y))
    assert M.projx(y[:0]).shape == (0, 3)
    assert ELLIPSOID.projx(torch.zeros(3)).abs().tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_derivatives_of_a_level_set_are_those_of_the_projection():
    M = Submanifold((3,), level_set=lambda x: x.square().sum(-1) - 1, name="sphere")
    y = (2 * torch.randn(4, 3, dtype=torch.float64)).requires_grad_()
    w = torch.randn(4, 3, dtype=torch.float64)
    results = []
    for project in (M.projx, normalise):
        (first,) = torch.autograd.grad((project(y) * w).sum(), y, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), y, create_graph=True)
        (third,) = torch.autograd.grad(second.square().sum(), y)
        results.append((first, second, third))
    for found, exact in zip(*results, strict=True):
        assert largest(found - exact) <= 1e-11 * (1 + largest(exact))


def test_level_set_that_does_not_converge_says_so():
    M = Submanifold((2,), level_set=lambda x: x.square().sum(-1) + 1, name="nothing")
    with pytest.raises(RuntimeError, match=r"'nothing': no closest point found for 2 of 2 points"):
        M.projx(torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"maps \(4, 2\) to \(\)"):
        Submanifold((2,), level_set=lambda x: x.sum(), name="sum").projx(torch.ones(4, 2))


def test_projection_that_changes_shape_or_dtype_is_refused():
    with pytest.raises(ValueError, match=r"maps \(5, 3\) of torch.float32 to \(5, 2\)"):
        Submanifold((3,), lambda y: y[..., :2]).projx(torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"of torch.float32 to \(5, 3\) of torch.float64"):
        Submanifold((3,), lambda y: y.double()).projx(torch.ones(5, 3))


# ---- curvature ------------------------------------------------------------------------------


@over
def test_scalar_curvature(manifold):
    x = points(manifold, 50, dtype=torch.float64)
    exact = CURVATURE[manifold.name](x)
    assert largest(manifold.scalar_curvature(x) - exact) <= 1e-11 * largest(exact)
    assert manifold.scalar_curvature(x.reshape(5, 10, -1)).shape == (5, 10)
    assert manifold.scalar_curvature(x[0]).shape == ()
    assert manifold.scalar_curvature(x[:0]).shape == (0,)


@pytest.mark.parametrize("manifold", [ELLIPSOID, TORUS], ids=["ellipsoid", "torus"])
def test_scalar_curvature_has_a_gradient(manifold):
    x = points(manifold, 10, dtype=torch.float64).requires_grad_()
    found, exact = (
        torch.autograd.grad(curvature(x).sum(), x)[0]
        for curvature in (manifold.scalar_curvature, CURVATURE[manifold.name])
    )
    x = x.detach()
    error = manifold.proju(x, found) - manifold.proju(x, exact)
    assert largest(error) <= 1e-9 * (1 + largest(exact))


def test_second_fundamental_form(generator):
    M, x = SPHERES[3], Sphere(3).random_uniform(20, dtype=torch.float64)
    u, v = unit_tangents(M, x), unit_tangents(M, x)
    form = M.second_fundamental_form(x, u, v)
    assert largest(form + (u * v).sum(-1, keepdim=True) * x) <= 1e-14
    # The normal parts of u and v do not count.
    assert largest(M.second_fundamental_form(x, u + x, v) - form) <= 1e-14
    assert largest(M.mean_curvature(x) + x) <= 1e-14
    x = points(TORUS, 20, dtype=torch.float64)
    u, v = unit_tangents(TORUS, x), unit_tangents(TORUS, x)
    a = TORUS.second_fundamental_form(x, u, v)
    assert largest(a - TORUS.second_fundamental_form(x, v, u)) <= 1e-13
    assert largest(TORUS.proju(x, a)) <= 1e-13


def test_chunks_change_nothing(monkeypatch):
    x = points(TORUS, 50, dtype=torch.float64)
    whole = TORUS.scalar_curvature(x)
    monkeypatch.setattr("manifold_ae.manifolds.submanifold.CHUNK", 7 * 27)
    assert torch.equal(TORUS.scalar_curvature(x), whole)


# ---- maps -----------------------------------------------------------------------------------


@over
def test_tangent_projector(manifold):
    x = points(manifold, 20, dtype=torch.float64)
    v = torch.randn_like(x)
    u = manifold.proju(x, v)
    assert largest(manifold.proju(x, u) - u) <= 1e-12
    assert torch.allclose((u * v).sum(-1), manifold.inner(x, u), atol=1e-12)
    assert manifold.check_vector_on_tangent(x, u)
    assert not manifold.check_vector_on_tangent(x, u + manifold.mean_curvature(x))
    y = manifold.retr(x, 0.1 * u)
    assert manifold.check_point_on_manifold(y)
    assert largest(manifold.transp(x, y, u) - manifold.proju(y, u)) == 0
    assert manifold.proju(x[0], v).shape == v.shape


@pytest.mark.parametrize("d", [2, 5])
def test_exponential_map_of_spheres(d):
    M, exact = SPHERES[d], Sphere(d)
    x = exact.random_uniform(20, dtype=torch.float64)
    u = unit_tangents(exact, x)
    assert largest(M.expmap(x, u) - exact.expmap(x, u)) <= 5e-8
    assert largest(M.expmap(x, math.pi * u) + x) <= 1e-5
    assert largest(M.expmap(x, 0 * u) - x) <= 1e-14


def test_exponential_map_is_of_fourth_order():
    errors = []
    for steps in (8, 16, 32):
        M = sphere(2, geodesic_steps=steps)
        x = M.base_point(dtype=torch.float64)
        u = 2 * unit_tangents(Sphere(2), x)
        errors.append(largest(M.expmap(x, u) - Sphere(2).expmap(x, u)))
    assert errors[0] / errors[1] > 12
    assert errors[1] / errors[2] > 12


@pytest.mark.parametrize("manifold", [ELLIPSOID, TORUS], ids=["ellipsoid", "torus"])
def test_exponential_map_follows_geodesics(manifold):
    """Their lengths add up to |u|, and walked back they end where they began."""
    manifold = coarse(manifold)
    x = points(manifold, 5, dtype=torch.float64)
    u = unit_tangents(manifold, x)
    h = 1e-4
    times = torch.cat([torch.linspace(0, 0.5, 7), torch.tensor([0.5 - h, 0.5 + h])]).to(x)
    ends = manifold.expmap(x, times[:, None, None] * u)
    *ends, before, after = ends
    ends, velocity = torch.stack(ends), (after - before) / (2 * h)
    pieces = manifold.dist_nearby(ends[1:], ends[:-1]).sum(0)
    assert largest(pieces - 0.5) <= 2e-5
    assert largest(torch.linalg.vector_norm(velocity, dim=-1) - 1) <= 1e-4
    assert largest(manifold.expmap(ends[-1], -0.5 * velocity) - x) <= 1e-4


def coarse(manifold: Submanifold) -> Submanifold:
    """The same, with few steps to a geodesic."""
    project, level_set, _ = manifold._functions
    return Submanifold(
        (3,), project, level_set=level_set, name=manifold.name, geodesic_steps=8, volume=1.0
    )


def test_exponential_map_has_gradients_at_zero():
    M = coarse(ELLIPSOID)
    x = M.base_point(dtype=torch.float64)
    u = torch.zeros_like(x, requires_grad=True)
    w = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    (slope,) = torch.autograd.grad((M.expmap(x, u) * w).sum(), u)
    assert largest(slope - M.proju(x, w)) <= 1e-12


def test_distance_of_neighbours():
    M = coarse(ELLIPSOID)
    x = points(M, 20, dtype=torch.float64)
    u = unit_tangents(M, x)
    errors = [largest(M.dist_nearby(x, M.expmap(x, r * u)) - r) for r in (0.1, 0.2)]
    assert errors[0] <= 2e-6
    assert errors[1] / errors[0] > 16  # of fifth order; the chord itself is of third
    exact = Sphere(3)
    x, y = exact.base_point(dtype=torch.float64), exact.random_uniform(200, dtype=torch.float64)
    y = y[torch.linalg.vector_norm(y - x, dim=-1) < 0.99]
    assert largest(SPHERES[3].dist_nearby(x, y) - exact.dist(x, y)) <= 1e-14
    with pytest.raises(ValueError, match="too far apart"):
        SPHERES[3].dist_nearby(x, -x)
    # Two points close in space, on opposite sides of the tube.
    thin = Submanifold((3,), lambda y: _thin(y), name="thin")
    with pytest.raises(ValueError, match="too far apart"):
        thin.dist_nearby(torch.tensor([1.01, 0, 0.0]), torch.tensor([0.99, 0, 0.0]))
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(SPHERES[3].dist_nearby(leaf, x), leaf)
    assert torch.isfinite(slope).all()


def _thin(y: torch.Tensor) -> torch.Tensor:
    core = torch.cat([normalise(y[..., :2]), torch.zeros_like(y[..., 2:])], -1)
    return core + 0.01 * normalise(y - core)


def test_no_logarithm_and_no_distance():
    x = TORUS.base_point()
    with pytest.raises(NotImplementedError, match=r"M\.proju\(x, y - x\)"):
        TORUS.logmap(x, x)
    with pytest.raises(NotImplementedError, match=r"M\.dist_nearby"):
        TORUS.dist(x, x)


def test_geoopt_optimises_on_it():
    start = TORUS.base_point(dtype=torch.float64)
    target = torch.tensor([0.3, 3.0, 1.0], dtype=torch.float64)
    z = geoopt.ManifoldParameter(start.clone(), manifold=TORUS)
    optimiser = geoopt.optim.RiemannianAdam([z], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        (z - target).square().sum().backward()
        optimiser.step()
    assert largest(z - TORUS.projx(target)) <= 1e-2


# ---- volume and samples ---------------------------------------------------------------------


SLOW = [pytest.param(M, marks=pytest.mark.slow, id=M.spec) for M in (TORUS, *SPHERES.values())]


@pytest.fixture
def few(monkeypatch):
    """Fewer anchors and samples, for what needs no exact volume."""
    monkeypatch.setattr("manifold_ae.manifolds.tube.ANCHORS", 1024)
    monkeypatch.setattr("manifold_ae.manifolds.tube.SAMPLES", 4096)


@pytest.mark.parametrize("manifold", [pytest.param(ELLIPSOID, id="ellipsoid"), *SLOW])
def test_volume_within_its_standard_error(manifold):
    exact = VOLUME[manifold.name]
    assert manifold.volume == pytest.approx(exact, rel=0.005)
    assert 0 < manifold.volume_error < 0.005 * exact
    assert abs(manifold.volume - exact) < 3.5 * manifold.volume_error
    assert manifold.volume == manifold.volume  # computed once
    assert manifold.compact


@pytest.mark.parametrize("manifold", ALL[1:], ids=[M.spec for M in ALL[1:]])
def test_volume_from_few_samples(manifold, few):
    project, level_set, _ = manifold._functions
    M = Submanifold(manifold.ambient_shape, project, level_set=level_set)
    assert abs(M.volume - VOLUME[manifold.name]) < 3.5 * M.volume_error
    assert M.volume_error < 0.02 * M.volume


def test_volume_is_the_same_every_time_and_given_one_is_taken(few):
    assert sphere(2).volume == sphere(2).volume
    given = sphere(2, volume=4 * math.pi)
    assert given.volume == 4 * math.pi
    assert given.volume_error == 0.0
    state = torch.random.get_rng_state()
    _ = sphere(2).volume
    assert torch.equal(torch.random.get_rng_state(), state)


@over
def test_uniform_samples(manifold, generator, few):
    """Means of coordinates and their squares: closed forms, or weighted by another chart."""
    n = 2000
    x = manifold.random_uniform(n, generator=generator, dtype=torch.float64)
    assert manifold.check_point_on_manifold(x)
    if manifold is TORUS:
        # In the tube angle the density is 1 + (r/R) cos φ: E ρ = R + r²/2R, E z² = r²/2.
        rho = torch.linalg.vector_norm(x[:, :2], dim=-1)
        figures = torch.stack([rho - RADII[0] - RADII[1] ** 2 / (2 * RADII[0]), x[:, 2], x[:, 0]])
        figures = torch.cat([figures, (x[:, 2:] ** 2 - RADII[1] ** 2 / 2).mT])
    elif manifold is ELLIPSOID:
        # Stretched from the sphere, with the factor by which area is stretched as weight.
        y = Sphere(2).random_uniform(200000, generator=generator, dtype=torch.float64)
        axes = y.new_tensor(AXES)
        weight = torch.linalg.vector_norm(y / axes, dim=-1)
        moments = (weight[:, None] * (axes * y) ** 2).mean(0) / weight.mean()
        figures = torch.cat([x.mT, (x**2 - moments).mT])
    else:
        figures = torch.cat([x.mT, (x**2 - 1 / x.shape[-1]).mT])
    error = figures.mean(-1) / (figures.std(-1) / math.sqrt(n))
    assert largest(error) < 4.2


def test_samples_honour_what_they_are_asked(dtype, device, few):
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator(device=device).manual_seed(seed)
        M = SPHERES[2]
        return M.random_uniform(2, 5, generator=generator, dtype=dtype, device=device)

    assert draw(0).shape == (2, 5, 3)
    assert draw(0).dtype == dtype
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert SPHERES[2].random_uniform().shape == (3,)
    assert SPHERES[2].random_uniform(0).shape == (0, 3)
    assert SPHERES[2].random_uniform(1).dtype == torch.get_default_dtype()
    assert SPHERES[2].base_point(dtype=dtype).dtype == dtype
    assert SPHERES[2].check_point_on_manifold(SPHERES[2].base_point(dtype=dtype))


def test_a_sampler_of_ones_own():
    exact = Sphere(2)
    M = sphere(2, volume=exact.volume, sample=exact.random_uniform)
    assert M.random_uniform(4, 3, dtype=torch.float64).shape == (4, 3, 3)
    wrong = sphere(2, volume=exact.volume, sample=lambda n, **kwargs: torch.zeros(n))
    with pytest.raises(ValueError, match=r"shape \(4,\) for n = 4; expected \(4, 3\)"):
        wrong.random_uniform(4)


def test_unbounded_and_thin_manifolds_are_refused(few):
    def plane(y: torch.Tensor) -> torch.Tensor:
        return y * torch.tensor([1.0, 1.0, 0.0]).to(y)

    with pytest.raises(ValueError, match=r"not bounded.*volume=math\.inf"):
        _ = Submanifold((3,), plane, name="plane").volume
    M = Submanifold((3,), plane, name="plane", volume=math.inf)
    assert not M.compact
    with pytest.raises(ValueError, match="infinite volume"):
        M.random_uniform(3)
    with pytest.raises(ValueError, match="do not cover it"):
        _ = Submanifold((3,), _thin, name="thin").volume


# ---- whether it is right --------------------------------------------------------------------


def _oblique(y: torch.Tensor) -> torch.Tensor:
    return torch.stack([y[..., 0] + y[..., 2], y[..., 1], torch.zeros_like(y[..., 2])], -1)


def _radial(y: torch.Tensor) -> torch.Tensor:
    return y / torch.linalg.vector_norm(y / y.new_tensor(AXES), dim=-1, keepdim=True)


def _two_spheres(y: torch.Tensor) -> torch.Tensor:
    """Concentric, of radii 1 and 2, but the inner one chosen up to radius 1.8."""
    radius = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
    return normalise(y) * torch.where(radius < 1.8, 1.0, 2.0).to(y)


def _cube(y: torch.Tensor) -> torch.Tensor:
    largest = y.abs().argmax(-1, keepdim=True)
    return y.clamp(-1, 1).scatter(-1, largest, y.gather(-1, largest).sign())


def _sphere_and_circle(y: torch.Tensor) -> torch.Tensor:
    centre = torch.tensor([4.0, 0, 0]).to(y)
    ring = torch.cat([normalise((y + centre)[..., :2]), torch.zeros_like(y[..., 2:])], -1) - centre
    return torch.where(y[..., :1] > 0, normalise(y - centre) + centre, ring)


def _detached(y: torch.Tensor) -> torch.Tensor:
    return y / torch.linalg.vector_norm(y, dim=-1, keepdim=True).detach()


def _half(y: torch.Tensor) -> torch.Tensor:
    return normalise(y) / (y[..., :1] > 0)


def _not_idempotent(y: torch.Tensor) -> torch.Tensor:
    return (y + normalise(y)) / 2


def _of_the_batch(y: torch.Tensor) -> torch.Tensor:
    return normalise(y + 0.1 * y.sum(0))


WRONG = {
    "not idempotent": (_not_idempotent, {}, "P is not idempotent"),
    "oblique": (_oblique, {}, "projects obliquely"),
    "radial": (_radial, {}, "tangent part"),
    "another is closer": (_two_spheres, {}, "another point of the manifold is closer"),
    "edges": (_cube, {}, "its derivative jumps by 1.4"),
    "rank varies": (_sphere_and_circle, {}, "rank of DP is not constant: 1, 2"),
    "rank is full": (lambda y: 1 * y, {}, "rank of DP is 3 of 3"),
    "rank is not dim": (normalise, {"dim": 1}, "rank of DP is 2, but dim = 1"),
    "detached": (_detached, {}, "autograd's derivative of P differs from a difference quotient"),
    "without a graph": (lambda y: normalise(y).detach(), {}, "cuts the graph"),
    "not finite": (_half, {}, "P(y) is not finite"),
    "shape": (lambda y: y[..., :2], {}, "to (128, 2)"),
    "dtype": (lambda y: normalise(y).double(), {}, "fails in float32"),
    "raises": (lambda y: y @ torch.eye(3), {}, "fails with RuntimeError"),
    "batch": (_of_the_batch, {}, "depends on the others of its batch"),
}
WRONG_LEVEL_SETS = {
    "vanishes to second order": (lambda x: (x.square().sum(-1) - 1) ** 2, "is degenerate"),
    "cone": (lambda x: x[..., 0] ** 2 + x[..., 1] ** 2 - x[..., 2] ** 2, "is degenerate"),
    "nothing": (lambda x: x.square().sum(-1) + 1, "no closest point found"),
}


@pytest.mark.parametrize("case", WRONG)
def test_check_says_what_is_wrong(case):
    project, options, message = WRONG[case]
    report = Submanifold((3,), project, name="mine", **options).check()
    assert not report.ok
    assert any(message in problem for problem in report.problems), report
    assert str(report).startswith("mine: not right\n  - ")


@pytest.mark.parametrize(
    "case",
    ["cone", "nothing", pytest.param("vanishes to second order", marks=pytest.mark.slow)],
)
def test_check_says_what_is_wrong_with_a_level_set(case):
    function, message = WRONG_LEVEL_SETS[case]
    report = Submanifold((3,), level_set=function, name="mine").check()
    assert not report.ok
    assert any(message in problem for problem in report.problems), report


@pytest.mark.parametrize("manifold", [TORUS, SPHERES[5], ELLIPSOID], ids=lambda M: M.spec)
def test_check_finds_nothing_wrong(manifold):
    report = manifold.check()
    assert report.ok, report
    assert report.ranks == (manifold.dim,)
    assert (report.gradient is not None) == (manifold is ELLIPSOID)
    assert "nothing wrong found" in str(report)
    assert "nan" not in str(report)


def test_check_takes_points_and_a_seed():
    y = torch.randn(16, 3, dtype=torch.float64) + 50
    far = Submanifold((3,), lambda y: 50 + normalise(y - 50), name="far")
    assert far.check(y, seed=3).ok
    assert far.check().ok
    assert Submanifold((3,), lambda y: 100 * normalise(y), name="big").check().ok
    # In float32, where it has to be asked for.
    weights = torch.eye(3)
    single = Submanifold((3,), lambda y: normalise(y @ weights), dtype=torch.float32)
    assert single.check().ok, single.check()
    with pytest.raises(ValueError, match="at least 8"):
        far.check(y[:4])


# ---- laws and kernels -----------------------------------------------------------------------


def test_laws():
    x = points(ELLIPSOID, 30)
    time = torch.full((30,), 0.1)
    loc = x.clone().requires_grad_()
    z = RandomWalk(ELLIPSOID, loc, time).rsample()
    z.sum().backward()
    assert ELLIPSOID.check_point_on_manifold(z.detach())
    assert loc.grad is not None
    assert torch.isfinite(loc.grad).all()
    given = sphere(2, volume=4 * math.pi)
    prior = given.default_prior()
    assert isinstance(prior, RiemannianUniform)
    assert prior.entropy().item() == pytest.approx(math.log(4 * math.pi))
    x = given.base_point(dtype=torch.float64)
    time = torch.tensor(0.1, dtype=torch.float64)
    exact = heat.kl_asymptotic(Sphere(2), x, time)
    assert heat.kl_asymptotic(given, x, time).item() == pytest.approx(exact.item(), abs=1e-12)
    with pytest.raises(NotImplementedError, match=r"'sphere-2'.*RandomWalk"):
        HeatKernel(given, x, time).log_prob(x)
    with pytest.raises(NotImplementedError, match=r"kl_asymptotic"):
        torch.distributions.kl_divergence(HeatKernel(given, x, time), prior)


def arc(d: int, chord: float) -> tuple[torch.Tensor, torch.Tensor]:
    x = Sphere(d).base_point(dtype=torch.float64)
    u = torch.zeros_like(x)
    u[1] = 2 * math.asin(chord / 2)
    return x, Sphere(d).expmap(x, u)


@pytest.mark.parametrize("d", [2, 3])
def test_short_time_kernel_of_spheres(d):
    t = torch.tensor([1e-4, 1e-2, 0.1, 0.99 / d], dtype=torch.float64)
    for chord in (0.0, 0.1, 0.5, 0.999):
        x, y = arc(d, chord)
        found = heat.short_time_log_kernel(SPHERES[d], x, y, t)
        error = (found - heat.log_kernel(Sphere(d), x, y, t)).abs()
        # Of fourth order in angle and √t.
        assert (error <= 0.008 * (chord**2 + t) ** 2 + 2e-3 * (d * t) ** 2 + 1e-8).all()
        assert torch.allclose(found, heat.short_time_log_kernel(SPHERES[d], y, x, t), atol=1e-12)


def test_short_time_kernel_of_the_ellipsoid_integrates_to_one():
    """Where curvature varies; by the area element of a stretched sphere."""
    y = Sphere(2).random_uniform(40000, dtype=torch.float64)
    axes = y.new_tensor(AXES)
    area = 4 * math.pi * axes.prod() * torch.linalg.vector_norm(y / axes, dim=-1)
    t = torch.tensor(0.02, dtype=torch.float64)
    y = axes * y
    for x in torch.diag(axes):
        close = torch.linalg.vector_norm(y - x, dim=-1) < 0.6
        density = (
            heat.short_time_log_kernel(ELLIPSOID, x, y[close], t, allow_inaccurate=True).exp()
            * area[close]
        )
        total = density.sum() / len(y)
        error = (density.square().sum().sqrt() / len(y)).item()
        assert total.item() == pytest.approx(1.0, abs=4 * error)


def test_short_time_kernel_refuses_what_is_past_its_range():
    x, y = arc(2, 1.2)
    t = torch.tensor(0.1, dtype=torch.float64)
    with pytest.raises(ValueError, match="too far apart"):
        heat.short_time_log_kernel(SPHERES[2], x, y, t)
    with pytest.raises(ValueError, match="too far apart"):
        heat.short_time_log_kernel(SPHERES[2], x, -x, t)
    with pytest.raises(ValueError, match=r"time = 0.6 is too long .* up to 0.5"):
        heat.short_time_log_kernel(SPHERES[2], x, x, 6 * t)
    with pytest.raises(ValueError, match="must be positive"):
        heat.short_time_log_kernel(SPHERES[2], x, x, -t)
    with pytest.raises(TypeError, match=r"heat\.log_kernel"):
        heat.short_time_log_kernel(Sphere(2), x, x, t)  # type: ignore[arg-type]
    found = heat.short_time_log_kernel(SPHERES[2], x, y, 6 * t, allow_inaccurate=True)
    assert torch.isfinite(found)


def test_monte_carlo_kernel_of_the_sphere(generator):
    x, _ = arc(2, 0.0)
    y = torch.stack([x, arc(2, 0.8)[1]])
    t = torch.tensor(0.3, dtype=torch.float64)
    value, error = heat.monte_carlo_log_kernel(
        SPHERES[2], x, y, t, 8000, steps=6, generator=generator
    )
    exact = heat.log_kernel(Sphere(2), x, y, t)
    assert value.shape == error.shape == (2,)
    assert (error < 0.04).all()
    assert ((value - exact).abs() < 3.5 * error + 0.01).all()
    # One step is the expansion itself.
    once, none = heat.monte_carlo_log_kernel(SPHERES[2], x, y, t / 6, 2, steps=1)
    short = heat.short_time_log_kernel(SPHERES[2], x, y, t / 6)
    assert largest(once - short) <= 1e-12
    assert largest(none) <= 1e-12


def test_monte_carlo_kernel_refuses():
    x, _ = arc(2, 0.0)
    t = torch.tensor(0.5, dtype=torch.float64)
    with pytest.raises(ValueError, match="at least 4 are needed"):
        heat.monte_carlo_log_kernel(SPHERES[2], x, x, t, 10, steps=2)
    with pytest.raises(ValueError, match="none of n = 10 walks came near"):
        heat.monte_carlo_log_kernel(SPHERES[2], x, -x, t / 50, 10)
    with pytest.raises(ValueError, match="at least 2 walks"):
        heat.monte_carlo_log_kernel(SPHERES[2], x, x, t, 1)
    with pytest.raises(ValueError, match="steps must be"):
        heat.monte_carlo_log_kernel(SPHERES[2], x, x, t, 10, steps=0)
