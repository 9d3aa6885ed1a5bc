"""Degree, loops, continuity and coverage of maps of which they are known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from manifold_ae import metrics
from manifold_ae.manifolds import (
    SO3,
    EmbeddedTorus,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    RealProjective,
    Sphere,
    Submanifold,
)

CIRCLE, TORUS, KLEIN, EMBEDDED = FlatTorus(1), FlatTorus(2), KleinBottle(), EmbeddedTorus()
Map = Callable[[Tensor], Tensor]


def of_angles(M: FlatTorus | KleinBottle | EmbeddedTorus, *rows: tuple[float, ...]) -> Map:
    """A matrix on angles, and a wave on top of it, which changes no degree."""

    def f(x: Tensor) -> Tensor:
        angles = M.to_angles(x)
        wave = 0.2 * torch.sin(angles) if isinstance(M, FlatTorus) else 0.0
        return M.from_angles(angles @ torch.tensor(rows).to(x).T + wave)

    return f


def suspension(k: int) -> Map:
    """Of z ↦ zᵏ, on S²."""

    def f(x: Tensor) -> Tensor:
        angle = torch.atan2(x[..., 1], x[..., 0])
        radius = torch.linalg.vector_norm(x[..., :2], dim=-1)
        return torch.stack(
            [radius * torch.cos(k * angle), radius * torch.sin(k * angle), x[..., 2]], -1
        )

    return f


def stretched(M: Manifold, *weights: float) -> Map:
    return lambda x: M.projx(x * torch.tensor(weights).to(x))


def cap(x: Tensor) -> Tensor:
    """S² squeezed around its pole."""
    return Sphere(2).projx(x + torch.tensor([0.0, 0.0, 2.0]).to(x))


MAPS: dict[str, tuple[Manifold, Map, int]] = {
    "z^-2": (CIRCLE, of_angles(CIRCLE, (-2.0,)), -2),
    "z^3": (CIRCLE, of_angles(CIRCLE, (3.0,)), 3),
    "constant on S1": (CIRCLE, of_angles(CIRCLE, (0.0,)), 0),
    "cat map": (TORUS, of_angles(TORUS, (2.0, 1.0), (1.0, 1.0)), 1),
    "swap": (TORUS, of_angles(TORUS, (0.0, 1.0), (1.0, 0.0)), -1),
    "one angle lost": (TORUS, of_angles(TORUS, (1.0, 0.0), (1.0, 0.0)), 0),
    "tube twice reversed": (EMBEDDED, of_angles(EMBEDDED, (1.0, 0.0), (0.0, -2.0)), -2),
    "antipode of S2": (Sphere(2), torch.neg, -1),
    "antipode of S3": (Sphere(3), torch.neg, 1),
    "suspension": (Sphere(2), suspension(2), 2),
    "suspension reversed": (Sphere(2), suspension(-3), -3),
    "cap": (Sphere(2), cap, 0),
    "square of SO(3)": (SO3(), lambda R: R @ R, 2),
    "inverse of SO(3)": (SO3(), lambda R: R.mT, -1),
    "reflected RP3": (RealProjective(3), stretched(RealProjective(3), 1.0, 1.5, 2.0, -1.0), -1),
    "product": (
        Product(Sphere(2), CIRCLE),
        lambda x: torch.cat([-x[..., :3], of_angles(CIRCLE, (2.0,))(x[..., 3:])], -1),
        -2,
    ),
}
#: Where loops alone decide the degree, at least modulo two; mod 2 it is all there is here.
UNORIENTED: dict[str, tuple[Manifold, Map, int]] = {
    "stretched RP2": (RealProjective(2), stretched(RealProjective(2), 1.0, 2.0, -3.0), 1),
    "constant on RP2": (RealProjective(2), lambda x: cap(0 * x), 0),
    "reflected": (KLEIN, of_angles(KLEIN, (1.0, 0.0), (0.0, -1.0)), 1),
    "glide three times": (KLEIN, of_angles(KLEIN, (3.0, 0.0), (0.0, 1.0)), 1),
    "twice around": (KLEIN, of_angles(KLEIN, (1.0, 0.0), (0.0, 2.0)), 0),
}


def found(name: str, dtype: torch.dtype, generator: torch.Generator) -> metrics.Degree:
    M, f, _ = (MAPS | UNORIENTED)[name]
    return metrics.degree(f, M, M, starts=1024, points=512, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", MAPS)
def test_degrees_by_preimages_and_by_integral(name, generator):
    expected = MAPS[name][2]
    degree = found(name, torch.float64, generator)
    assert degree.value == expected, degree
    assert degree.modulus == 0
    assert set(degree.counts) == {expected}
    assert abs(degree.integral - expected) <= max(3 * degree.standard_error, 1e-6)


@pytest.mark.parametrize("name", ["cat map", "suspension", "inverse of SO(3)", "stretched RP2"])
def test_degrees_in_either_precision(name, dtype, generator):
    assert found(name, dtype, generator).value == (MAPS | UNORIENTED)[name][2]


@pytest.mark.parametrize("name", UNORIENTED)
def test_degrees_modulo_two(name, generator):
    degree = found(name, torch.float64, generator)
    assert (degree.value, degree.modulus) == (UNORIENTED[name][2], 2)
    assert degree.integral is None


@pytest.mark.parametrize("name", MAPS | UNORIENTED)
def test_loops_say_the_same(name):
    M, f, expected = (MAPS | UNORIENTED)[name]
    matrix, _ = metrics.induced_matrix(f, M, M)
    by_loops = metrics.degree_from_loops(M, matrix)
    if by_loops is None:
        assert M in (Sphere(2), Sphere(3), Product(Sphere(2), CIRCLE))
        return
    value, modulus = by_loops
    assert (value - expected) % modulus == 0 if modulus else value == expected


def test_windings_of_tori_and_of_the_klein_bottle():
    def shear(x: Tensor) -> Tensor:
        return KLEIN.from_angles(TORUS.to_angles(x) @ torch.tensor([[2.0, 0.0], [3.0, 1.0]]).to(x))

    matrix, orders = metrics.induced_matrix(MAPS["cat map"][1], TORUS, TORUS)
    assert (matrix.tolist(), orders) == ([[2, 1], [1, 1]], (0, 0))
    # Angles (2θ + 3φ, φ): half turns of the glide are counted, turns of φ modulo two.
    matrix, orders = metrics.induced_matrix(shear, TORUS, KLEIN)
    assert (matrix.tolist(), orders) == ([[4, 6], [0, 1]], (0, 2))
    matrix, orders = metrics.induced_matrix(lambda x: TORUS.rotate(x, x[..., :2]), TORUS, TORUS)
    assert matrix.tolist() == [[1, 0], [0, 1]]


def half_turn(x: Tensor) -> Tensor:
    """θ ↦ θ/2: torn at θ = π."""
    return CIRCLE.from_angles(CIRCLE.to_angles(x) / 2)


def test_a_tear_has_no_degree(generator):
    degree = metrics.degree(half_turn, CIRCLE, CIRCLE, values=8, generator=generator)
    assert degree.value is None
    assert set(degree.counts) == {0, 1}
    assert degree.integral == pytest.approx(0.5)
    assert "preimages of 8 values" in degree.reason
    with pytest.raises(ValueError, match=r"jumps by|is open"):
        metrics.induced_matrix(half_turn, CIRCLE, CIRCLE)


def test_degrees_that_are_not_defined_are_refused():
    with pytest.raises(ValueError, match=r"dimension 2.*1"):
        metrics.degree(lambda x: x, TORUS, CIRCLE)
    with pytest.raises(ValueError, match="not compact"):
        metrics.degree(lambda x: x, TORUS, Euclidean(2))
    with pytest.raises(ValueError, match="orientable"):
        metrics.degree_integral(lambda x: x, KLEIN, KLEIN)
    M = Submanifold((3,), lambda y: y / y.norm(dim=-1, keepdim=True), name="mine", dim=2)
    with pytest.raises(NotImplementedError, match="mine"):
        metrics.induced_matrix(lambda x: x, M, M)


# ---- continuity -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cat map", "suspension", "square of SO(3)", "glide three times"])
def test_continuous_maps_have_jumps_that_shrink(name, dtype, generator):
    M, f, _ = (MAPS | UNORIENTED)[name]
    jumps = metrics.continuity(f, M, M, points=1024, generator=generator, dtype=dtype)
    assert jumps.continuous is True
    assert jumps.jumps[-1] == pytest.approx(jumps.jumps[0] / 16, rel=0.2)


def test_what_is_not_continuous_is_found(generator):
    torn = metrics.continuity(half_turn, CIRCLE, CIRCLE, points=100)
    assert torn.continuous is False
    assert torn.jumps[-1] == pytest.approx(math.pi, abs=0.1)

    def turned_over(R: Tensor) -> Tensor:
        return torch.where(R[..., :1, :1] > 0.3, R, R.mT)

    torn = metrics.continuity(turned_over, SO3(), SO3(), points=4096, generator=generator)
    assert torn.continuous is False

    def steep(x: Tensor) -> Tensor:
        return CIRCLE.from_angles(torch.tanh(x[..., 1:] * 200))

    assert metrics.continuity(steep, CIRCLE, CIRCLE, points=101).continuous is None
    finer = metrics.continuity(steep, CIRCLE, CIRCLE, points=101, refinements=5)
    assert finer.continuous is True
    still = metrics.continuity(
        lambda x: TORUS.from_angles(0 * TORUS.to_angles(x)), TORUS, TORUS, points=100
    )
    assert (still.continuous, still.jumps[0]) == (True, 0.0)
    with pytest.raises(ValueError, match="refinements"):
        metrics.continuity(steep, CIRCLE, CIRCLE, refinements=0)


# ---- coverage -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "M", [Sphere(2), TORUS, SO3(), KLEIN, EMBEDDED, Product(Sphere(2), CIRCLE)]
)
def test_uniform_points_reach_what_uniform_points_reach(M, generator):
    z = M.random_uniform(300, generator=generator)
    assert metrics.coverage(M, z, points=600, generator=generator).fraction == pytest.approx(
        0.95, abs=0.04
    )


def test_half_a_sphere_reaches_half(generator):
    z = Sphere(2).random_uniform(1000, generator=generator)
    half = metrics.coverage(Sphere(2), torch.cat([z[..., :2], z[..., 2:].abs()], -1))
    assert half.fraction == pytest.approx(0.5, abs=0.06)
    assert half.hole == pytest.approx(math.pi / 2, abs=0.1)
    single = metrics.coverage(Sphere(2), z[:1].expand(1000, 3), generator=generator)
    assert single.fraction < 0.02


def test_coverage_refuses_what_has_no_volume_or_no_value():
    with pytest.raises(ValueError, match="not compact"):
        metrics.coverage(Euclidean(2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="not finite"):
        metrics.coverage(CIRCLE, torch.full((5, 2), torch.nan))
