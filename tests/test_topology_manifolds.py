"""Betti numbers and oriented frames of manifolds: against curvature, duality, and products."""

import math

import numpy as np
import pytest
import torch
from catalogue import COMPACT, MANIFOLDS, has, over, tangents

from manifold_ae.groups import finite
from manifold_ae.manifolds import (
    SO3,
    EmbeddedTorus,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Product,
    Quotient,
    RealProjective,
    Sphere,
    Submanifold,
)
from manifold_ae.manifolds.frames import oriented_frame
from manifold_ae.manifolds.quotient_homology import quotient_betti

KNOWN = tuple(M for M in MANIFOLDS if M.betti_numbers() is not None)
FRAMED = tuple(M for M in MANIFOLDS if has(oriented_frame, M))


def euler(betti: tuple[int, ...]) -> int:
    return sum((-1) ** k * b for k, b in enumerate(betti))


@over(KNOWN)
def test_the_euler_characteristic_does_not_depend_on_the_field(manifold):
    numbers = {p: manifold.betti_numbers(p) for p in (2, 3, 5, 7)}
    assert all(len(betti) == manifold.dim + 1 for betti in numbers.values())
    assert all(betti[0] == 1 for betti in numbers.values())
    assert len({euler(betti) for betti in numbers.values()}) == 1


@over(tuple(M for M in KNOWN if M.compact))
def test_poincare_duality(manifold):
    """Over ℤ/2 on all closed manifolds; over other fields on those that can be oriented."""
    assert manifold.betti_numbers(2) == manifold.betti_numbers(2)[::-1]
    for p in (3, 5):
        dual = manifold.betti_numbers(p) == manifold.betti_numbers(p)[::-1]
        assert dual == manifold.orientable


@over(tuple(M for M in COMPACT if M.dim == 2))
def test_gauss_and_bonnet(manifold, generator):
    """χ = ∫ Sc / 4π: curvature knows nothing of homology."""
    x = manifold.random_uniform(4000, generator=generator, dtype=torch.float64)
    curvature = manifold.scalar_curvature(x)
    total = curvature.mean().item() * manifold.volume / (4 * math.pi)
    error = curvature.std().item() * manifold.volume / (4 * math.pi) / 4000**0.5
    assert abs(total - euler(manifold.betti_numbers())) <= 4 * error + 1e-9


def test_torsion_shows_between_primes():
    assert SO3().betti_numbers() == (1, 1, 1, 1)
    assert SO3().betti_numbers(3) == (1, 0, 0, 1)
    assert KleinBottle().betti_numbers() == (1, 2, 1)
    assert KleinBottle().betti_numbers(3) == (1, 1, 0)
    assert RealProjective(2).betti_numbers(3) == (1, 0, 0)
    assert [M.orientable for M in (KleinBottle(), RealProjective(2), RealProjective(3))] == [
        False,
        False,
        True,
    ]
    assert Product(SO3(), KleinBottle()).orientable is False
    assert Euclidean(2).orientable is True


def test_products_by_kuenneth_are_the_torus():
    assert Product(*[FlatTorus(1)] * 4).betti_numbers(3) == FlatTorus(4).betti_numbers(3)
    assert FlatTorus(2).betti_numbers() == EmbeddedTorus().betti_numbers()


@pytest.mark.parametrize(
    ("group", "two", "three", "five"),
    [
        ("cyclic(5)", 1, 0, 1),
        ("dihedral(2)", 2, 0, 0),  # of the quaternion group: ℤ/2 × ℤ/2
        ("tetrahedral()", 0, 1, 0),
        ("octahedral()", 1, 0, 0),
        # Poincaré's homology sphere
        pytest.param("icosahedral()", 0, 0, 0, marks=pytest.mark.slow),
    ],
)
def test_spherical_space_forms(group, two, three, five):
    name, _, size = group.rstrip(")").partition("(")
    elements = getattr(finite, name)(*([int(size)] if size else []))
    acting = np.stack([np.kron(np.eye(3), g.T) for g in elements])
    for prime, rank in ((2, two), (3, three), (5, five)):
        assert quotient_betti(SO3(), acting, prime) == (1, rank, rank, 1)


def test_quotients_of_spheres():
    for d in (2, 3, 5):
        elements = np.stack([np.eye(d + 1), -np.eye(d + 1)])
        for p in (2, 3):
            expected = RealProjective(d).betti_numbers(p)
            assert quotient_betti(Sphere(d), elements, p) == expected
    antipodal = Quotient(Sphere(2), [-np.eye(3)])
    assert (antipodal.betti_numbers(), antipodal.orientable) == ((1, 1, 1), False)
    by_function = Quotient(Sphere(2), [lambda x: -x])
    assert by_function.betti_numbers() is None
    assert by_function.orientable is None


@pytest.mark.parametrize("prime", [1, 4, 2.0, True, -3, "2"])
def test_what_is_no_prime_is_refused(prime):
    with pytest.raises(ValueError, match=r"prime = .*prime number"):
        Sphere(2).betti_numbers(prime)


@over(FRAMED)
def test_frames_are_orthonormal_and_tangent(manifold, dtype, device, generator, tolerance):
    x = manifold.default_prior().sample((50,), generator=generator).to(device=device, dtype=dtype)
    x = manifold.projx(x)
    frame = oriented_frame(manifold, x).transpose(0, 1)
    assert frame.shape == (manifold.dim, 50, *manifold.ambient_shape)
    for k, u in enumerate(frame):
        torch.testing.assert_close(manifold.proju(x, u), u, atol=tolerance, rtol=0)
        for j, v in enumerate(frame):
            expected = torch.full((50,), float(j == k), dtype=dtype, device=device)
            torch.testing.assert_close(
                manifold.inner(x, u, v), expected, atol=10 * tolerance, rtol=0
            )


@over(tuple(M for M in FRAMED if M.compact and M.orientable))
def test_frames_of_near_points_have_one_orientation(manifold, generator):
    x = manifold.random_uniform(200, generator=generator, dtype=torch.float64)
    u = tangents(manifold, x, generator)
    y = manifold.expmap(x, 1e-3 * u)
    here, there = (oriented_frame(manifold, z).transpose(0, 1) for z in (x, y))
    entries = [[manifold.inner(x, manifold.proju(x, b), a) for b in there] for a in here]
    determinant = torch.linalg.det(torch.stack([torch.stack(row, -1) for row in entries], -2))
    torch.testing.assert_close(determinant, torch.ones_like(determinant), atol=1e-2, rtol=0)


def test_a_manifold_without_a_frame_says_so():
    M = Submanifold((3,), lambda y: y / y.norm(dim=-1, keepdim=True), name="mine")
    with pytest.raises(NotImplementedError, match=r"mine.*register"):
        oriented_frame(M, torch.tensor([1.0, 0.0, 0.0]))
    assert M.betti_numbers() is None
