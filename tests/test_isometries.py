"""Isometries found from noisy pairs of points: known ones again, and none better by search."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.optimize import minimize
from torch import Tensor

from manifold_ae import metrics
from manifold_ae.groups import finite, rotations
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
from manifold_ae.metrics import distances
from manifold_ae.metrics.isometries.revolution import profile_symmetries
from manifold_ae.metrics.isometries.space_forms import _content, _outer_automorphisms
from tests.catalogue import bean

Map = Callable[[Tensor], Tensor]
N = 300


def clover(u: Tensor) -> tuple[Tensor, Tensor]:
    """A closed profile that a third of a turn carries onto itself, off the axis."""
    r = 1 + 0.1 * (3 * u).cos()
    return 3 + r * u.cos(), r * u.sin()


def orthogonal(rng: np.random.Generator, n: int, sign: int = 0) -> Tensor:
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    if sign and np.linalg.det(q) * sign < 0:
        q[:, 0] *= -1
    return torch.from_numpy(q)


def linear(q: Tensor, shift: Tensor | float = 0.0) -> Map:
    return lambda x: x @ q.mT + shift


def random_signs(rng: np.random.Generator, f: Map) -> Map:
    """Another of the two vectors that a point of ℝPᵈ is."""
    return lambda x: f(x) * torch.from_numpy(rng.choice([-1.0, 1.0], (len(x), 1)))


def torus(rng: np.random.Generator, matrix: list[list[int]]) -> Map:
    M, shift = FlatTorus(len(matrix)), torch.from_numpy(rng.uniform(-3, 3, len(matrix)))
    w = torch.tensor(matrix, dtype=torch.float64)
    return lambda x: M.from_angles(M.to_angles(x) @ w.mT + shift)


def klein(rng: np.random.Generator, sign: int, lift: float) -> Map:
    M, c = KleinBottle(), rng.uniform(-3, 3)

    def moved(x: Tensor) -> Tensor:
        theta, phi = FlatTorus(2).to_angles(x).unbind(-1)
        return M.images(M.from_angles(torch.stack([sign * theta + c, phi + lift], -1)))[1]

    return moved


def poses(rng: np.random.Generator, inverted: bool) -> Map:
    left, right = orthogonal(rng, 3, 1), orthogonal(rng, 3, 1)
    return lambda x: left @ (x.mT if inverted else x) @ right


def cube_poses(rng: np.random.Generator, M: Quotient, normaliser: Tensor) -> Map:
    left = orthogonal(rng, 3, 1)

    def moved(x: Tensor) -> Tensor:
        index = torch.from_numpy(rng.integers(0, M.order, len(x)))
        return M.images(left @ x @ normaliser)[index, torch.arange(len(x))]

    return moved


def turned(rng: np.random.Generator, sign: int, height: int = 1) -> Map:
    angle = rng.uniform(-3, 3)
    c, s = math.cos(angle), math.sin(angle)
    q = torch.tensor([[c, -s * sign, 0], [s, c * sign, 0], [0, 0, height]], dtype=torch.float64)
    return linear(q)


DIHEDRAL = Quotient(SO3(), finite.dihedral(2), name="so3/dihedral")
CUBE = Quotient(SO3(), finite.octahedral(), name="so3/octahedral")
LENS = Quotient(
    Sphere(3),
    [
        np.kron(np.diag([1.0, 0.0]), expm(np.array([[0, -2.0], [2.0, 0]]) * math.pi / 5))
        + np.kron(np.diag([0.0, 1.0]), expm(np.array([[0, -4.0], [4.0, 0]]) * math.pi / 5))
    ],
    name="lens",
)
PAIR = Product(SO3(), Sphere(2), SO3())
FLAT = Product(FlatTorus(1), Sphere(2), Euclidean(1), FlatTorus(1), Euclidean(1))


def exchange(rng: np.random.Generator) -> Map:
    """The two poses of PAIR exchanged, each moved, and the direction turned."""
    first, second, third = poses(rng, False), linear(orthogonal(rng, 3)), poses(rng, True)

    def moved(x: Tensor) -> Tensor:
        a, b, c = PAIR.split(x)
        return PAIR.join([first(c), second(b), third(a)])

    return moved


def joined(rng: np.random.Generator) -> Map:
    """FLAT's two circles as one torus, its two lines as one plane."""
    flat, plane = torus(rng, [[1, 1], [0, -1]]), linear(orthogonal(rng, 2), 0.7)
    direction = linear(orthogonal(rng, 3))

    def moved(x: Tensor) -> Tensor:
        a, b, c, d, e = FLAT.split(x)
        angles, line = flat(torch.cat([a, d], -1)), plane(torch.cat([c, e], -1))
        return FLAT.join([angles[:, :2], direction(b), line[:, :1], angles[:, 2:], line[:, 1:]])

    return moved


RNG = np.random.default_rng(5)
OCTAHEDRAL = torch.from_numpy(finite.octahedral())
CASES: list[tuple[str, Manifold, Map]] = [
    *[(f"line {s}", Euclidean(1), linear(torch.tensor([[s]]).double(), 0.4)) for s in (1, -1)],
    ("space", Euclidean(3), linear(orthogonal(RNG, 3, -1), torch.ones(3).double())),
    *[
        (f"S{d} {s}", Sphere(d), linear(orthogonal(RNG, d + 1, s)))
        for d in (1, 2, 5)
        for s in (1, -1)
    ],
    *[
        (f"RP{d}", RealProjective(d), random_signs(RNG, linear(orthogonal(RNG, d + 1, -1))))
        for d in (1, 2, 3, 5)
    ],
    *[(f"SO3 {i}", SO3(), poses(RNG, i)) for i in (False, True)],
    *[(f"dihedral {k}", DIHEDRAL, cube_poses(RNG, DIHEDRAL, OCTAHEDRAL[k])) for k in (0, 5, 13)],
    ("octahedral", CUBE, cube_poses(RNG, CUBE, OCTAHEDRAL[0])),
    ("lens", LENS, linear(torch.block_diag(*[orthogonal(RNG, 2, -1)] * 2))),
    *[(f"circle {s}", FlatTorus(1), torus(RNG, [[s]])) for s in (1, -1)],
    ("T2", FlatTorus(2), torus(RNG, [[0, -1], [1, 0]])),
    ("T2 sheared", FlatTorus(2), torus(RNG, [[2, 1], [1, 1]])),
    ("T3", FlatTorus(3), torus(RNG, [[1, 1, 0], [0, 0, 1], [0, -1, 1]])),
    *[
        (f"Klein {s} {d:.0f}", KleinBottle(), klein(RNG, s, d))
        for s in (1, -1)
        for d in (0, math.pi)
    ],
    ("embedded torus", EmbeddedTorus(), turned(RNG, -1, -1)),
    ("spheroid", Spheroid(), turned(RNG, 1, -1)),
    ("bean", SurfaceOfRevolution(bean), turned(RNG, -1)),
    ("product", PAIR, exchange(RNG)),
    ("flat product", FLAT, joined(RNG)),
]  # fmt: skip


def draw(M: Manifold, n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return M.default_prior().draw(n, generator=generator, dtype=torch.float64, device="cpu")  # type: ignore[attr-defined]


def noisy(M: Manifold, x: Tensor, scale: float, seed: int = 1) -> Tensor:
    noise = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
    return M.projx(x + scale * noise)


def gap(M: Manifold, x: Tensor, y: Tensor) -> Tensor:
    return distances.gap(M, x, y)


@pytest.mark.parametrize(("M", "truth"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_a_known_isometry_is_found_from_noisy_points(M: Manifold, truth: Map) -> None:
    n = 100 if isinstance(M, SurfaceOfRevolution) else N  # where a distance takes milliseconds
    x = draw(M, n)
    b = noisy(M, truth(x), 0.15)
    found = metrics.align(M, noisy(M, x, 0.15, 2), b)
    new = draw(M, 30, seed=3)
    # n noisy pairs tell each of some parameters to about 0.3/√n.
    assert gap(M, found.apply(new), truth(new)).mean() < 1.2 / n**0.5
    exact = metrics.align(M, x, truth(x))
    assert exact.mean_distance < 1e-7
    assert gap(M, exact.apply(new), truth(new)).max() < 1e-6
    assert exact.words and found.residuals.shape == (n,)
    single = found.apply(new.float())
    assert single.dtype == torch.float32
    assert gap(M, single.double(), found.apply(new)).max() < 2e-5


# ---- the second route: search by numbers ----------------------------------------------------


def cost(M: Manifold, moved: Tensor, b: Tensor) -> float:
    """(1) of the module: squared chords to the nearest image."""
    return (moved - M.nearest(moved, b)).square().sum().item()


def antisymmetric(v: np.ndarray, n: int) -> np.ndarray:
    a = np.zeros((n, n))
    a[np.triu_indices(n, 1)] = v
    return a - a.T


def searched(f: Callable[[np.ndarray], float], size: int, starts: int = 1) -> float:
    """The least value that a search over parameters finds, from zero and from random starts."""
    draws = np.random.default_rng(0).uniform(-np.pi, np.pi, (1 + starts, size))
    draws[0] = 0
    return min(minimize(f, x, method="BFGS", options={"gtol": 1e-7}).fun for x in draws)


def pairs(M: Manifold, truth: Map, scale: float = 0.4) -> tuple[Tensor, Tensor]:
    x = draw(M, 40, seed=7)
    return x, noisy(M, truth(x), scale, 8)


@pytest.mark.parametrize("M", [Sphere(2), RealProjective(2)], ids=repr)
def test_no_orthogonal_matrix_fits_better(M: Manifold) -> None:
    flip = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    x, b = pairs(M, linear(torch.from_numpy(expm(antisymmetric(np.ones(3) / 2, 3))) @ flip))

    def value(v: np.ndarray, y: Tensor) -> float:
        return cost(M, y @ torch.from_numpy(expm(antisymmetric(v, 3))).mT, b)

    least = min(searched(lambda v, y=y: value(v, y), 3) for y in (x, x @ flip))
    assert cost(M, metrics.align(M, x, b).apply(x), b) == pytest.approx(least, rel=1e-6)


def test_no_motion_of_space_fits_better() -> None:
    M = Euclidean(2)
    x, b = pairs(M, linear(orthogonal(np.random.default_rng(1), 2, -1), 0.5))

    def value(v: np.ndarray, sign: int) -> float:
        c, s = math.cos(v[0]), math.sin(v[0])
        q = torch.tensor([[c, -s * sign], [s, c * sign]], dtype=torch.float64)
        return cost(M, x @ q.mT + torch.from_numpy(v[1:]), b)

    least = min(searched(lambda v, s=s: value(v, s), 3) for s in (1, -1))
    assert cost(M, metrics.align(M, x, b).apply(x), b) == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("M", [SO3(), DIHEDRAL], ids=repr)
def test_no_pair_of_turns_fits_better(M: Manifold) -> None:
    """By quaternions; the isometries of SO(3)/D₂ are L R N with N in the octahedral group.

    From near the truth alone: other starts take seconds, and end higher.
    """
    quotient = isinstance(M, Quotient)
    turn = torch.from_numpy(expm(antisymmetric(np.ones(3) / 3, 3)))
    x, b = pairs(M, linear(turn) if quotient else lambda x: turn @ x.mT @ turn, 0.25)
    images = M.images(b) if isinstance(M, Quotient) else b[None]

    def value(y: Tensor) -> float:
        p, q = rotations.to_quaternion(y), rotations.to_quaternion(images)
        return (2 - 2 * (p * q).sum(-1).abs().amax(0)).sum().item()

    def of(v: np.ndarray, y: Tensor, right: Tensor | None = None) -> float:
        left = torch.from_numpy(expm(antisymmetric(v[:3], 3)))
        return value(
            left @ y @ (torch.from_numpy(expm(antisymmetric(v[3:], 3))) if right is None else right)
        )

    if quotient:
        cosets = {g.abs().round().int().numpy().tobytes(): g for g in OCTAHEDRAL}
        assert len(cosets) == 6
        least = min(searched(lambda v, g=g: of(v, x, g), 3, 0) for g in cosets.values())
    else:
        least = min(searched(lambda v, y=y: of(v, y), 6, 0) for y in (x, x.mT))
    assert value(metrics.align(M, x, b).apply(x)) == pytest.approx(least, rel=1e-6)


def test_no_automorphism_of_the_torus_fits_better() -> None:
    M = FlatTorus(2)
    x, b = pairs(M, torus(np.random.default_rng(4), [[1, 1], [0, 1]]), 0.6)
    alpha, beta = M.to_angles(x), M.to_angles(b)
    least = math.inf
    for rows in itertools.product(range(-2, 3), repeat=4):
        w = torch.tensor(rows).reshape(2, 2).double()
        if abs(round(torch.linalg.det(w).item())) != 1:
            continue
        shift = torch.zeros(2)
        for j in range(2):  # apart, by a fine grid and steps of Newton's method
            difference = beta[:, j] - alpha @ w[j]
            grid = torch.linspace(-math.pi, math.pi, 400, dtype=torch.float64)
            c = grid[(difference - grid[:, None]).cos().sum(1).argmax()].clone()
            for _ in range(8):
                c = c + (difference - c).sin().sum() / (difference - c).cos().sum()
            shift[j] = c
        least = min(least, cost(M, M.from_angles(alpha @ w.mT + shift), b))
    assert cost(M, metrics.align(M, x, b).apply(x), b) == pytest.approx(least, rel=1e-6)


def test_no_isometry_of_the_klein_bottle_fits_better() -> None:
    M = KleinBottle()
    x, b = pairs(M, klein(np.random.default_rng(4), -1, math.pi), 0.4)

    def value(moved: Tensor) -> float:
        return (M.embed(moved) - M.embed(b)).square().sum().item()

    theta, phi = FlatTorus(2).to_angles(x).unbind(-1)
    least = min(
        value(M.from_angles(torch.stack([sign * theta + c, phi + lift], -1)))
        for sign in (1, -1)
        for lift in (0, math.pi)
        for c in np.linspace(-np.pi, np.pi, 200)
    )
    reached = value(metrics.align(M, x, b).apply(x))
    assert least * (1 - 1e-2) < reached <= least


@pytest.mark.parametrize("M", [EmbeddedTorus(), Spheroid()], ids=repr)
def test_no_turn_of_a_surface_fits_better(M: Manifold) -> None:
    x, b = pairs(M, turned(np.random.default_rng(2), -1, -1), 0.3)
    least = math.inf
    for sign, height in itertools.product((1, -1), repeat=2):
        y = x * torch.tensor([1.0, sign, height])
        for c in np.linspace(-np.pi, np.pi, 200):
            q = torch.tensor(
                [[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]]
            )
            least = min(least, cost(M, y @ q.double().mT, b))
    reached = cost(M, metrics.align(M, x, b).apply(x), b)
    assert least * (1 - 1e-2) < reached <= least


def test_no_order_of_the_factors_fits_better() -> None:
    M = Product(Sphere(2), Sphere(2), Sphere(2))
    rng = np.random.default_rng(0)
    x = draw(M, 40)
    turns = [orthogonal(rng, 3) for _ in range(3)]
    parts = M.split(x)
    b = noisy(M, M.join([parts[k] @ q.mT for k, q in zip((2, 0, 1), turns, strict=True)]), 0.5)
    least = math.inf
    for order in itertools.permutations(range(3)):
        moved = []
        for target, k in zip(M.split(b), order, strict=True):
            u, _, vh = torch.linalg.svd(target.mT @ parts[k])
            moved.append(parts[k] @ (u @ vh).mT)
        least = min(least, cost(M, M.join(moved), b))
    assert cost(M, metrics.align(M, x, b).apply(x), b) == pytest.approx(least, rel=1e-9)


# ---- parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "outer"),
    [
        (np.stack([np.eye(3), -np.eye(3)]), 1),
        (finite.dihedral(2), 6),  # Out of Klein's four-group: S₃
        (finite.tetrahedral(), 2),
        (finite.octahedral(), 1),
        (finite.cyclic(5), 2),  # of four, those that keep the trace
    ],
    ids=["±1", "D2", "T", "O", "C5"],
)
def test_outer_automorphisms_are_counted(elements: np.ndarray, outer: int) -> None:
    found = _outer_automorphisms(_content(elements))
    assert len(found) == outer
    assert found[0] == tuple(range(len(elements)))
    for order in found:  # multiplicative
        for i, j in itertools.product(range(len(elements)), repeat=2):
            k = np.abs(elements - elements[i] @ elements[j]).max((1, 2)).argmin()
            assert np.allclose(
                elements[order[i]] @ elements[order[j]], elements[order[k]], atol=1e-6
            )


def test_symmetries_of_profiles() -> None:
    assert profile_symmetries(EmbeddedTorus().profile) == ((1, 0.0), (-1, 0.0))
    assert [flip for flip, _ in profile_symmetries(Spheroid().profile)] == [1, -1]
    assert profile_symmetries(SurfaceOfRevolution(bean).profile) == ((1, 0.0),)
    pear = SurfaceOfRevolution(lambda u: (u.sin() * (1 + 0.1 * u.cos()), u.cos()), poles=True)
    assert profile_symmetries(pear.profile) == ((1, 0.0),)


def test_noise_that_hides_the_matrix_leaves_an_automorphism() -> None:
    """Of one latent angle that is all noise, the best row may be one that is taken already."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.rand(60, 2, generator=generator) * 6.283
    latent = torch.stack(
        [theta[:, 0], theta[:, 0] + 0.3 * torch.randn(60, generator=generator)], -1
    )
    free = metrics.align_torus(latent, theta)
    bound = metrics.align_torus(latent, theta, unimodular=True)
    assert free.determinant == 0
    assert abs(bound.determinant) == 1
    assert sum(bound.concentration) <= sum(free.concentration)


def test_five_angles_are_aligned_by_a_signed_permutation() -> None:
    M = FlatTorus(5)
    x = draw(M, 200)
    order = torch.tensor([3, 0, 4, 1, 2])
    b = M.from_angles(-M.to_angles(x)[:, order])
    found = metrics.align_torus(M.to_angles(b), M.to_angles(x), bound=1, unimodular=True)
    assert torch.equal(found.matrix, -torch.eye(5, dtype=torch.int64)[order])


def test_residuals_of_what_has_nothing_in_common() -> None:
    M = Sphere(2)
    found = metrics.align(M, draw(M, 1000), draw(M, 1000, seed=1))
    assert 1.3 < found.mean_distance < math.pi / 2  # π/2 for given points, less for fitted ones


def test_one_row_and_repeated_rows() -> None:
    for M in (Sphere(2), FlatTorus(2), SO3(), RealProjective(2), Euclidean(2)):
        x, y = draw(M, 1), draw(M, 1, seed=1)
        assert metrics.align(M, x, y).mean_distance < 1e-6
        assert metrics.align(M, torch.cat([x] * 5), torch.cat([y] * 5)).mean_distance < 1e-6


def test_words() -> None:
    M = Sphere(2)
    x = draw(M, 20)
    turn = rotations.exp(torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64))
    assert metrics.align(M, x, x @ turn.mT).words == "turn by 90.0° about (0.00, 0.00, 1.00)"
    assert metrics.align(M, x, -x).words == "x ↦ −x"
    T = FlatTorus(2)
    a = draw(T, 20)
    b = T.from_angles(T.to_angles(a) @ torch.tensor([[1.0, 1], [0, 1]]).double().mT)
    assert metrics.align(T, a, b).words == (
        "angles α ↦ W α + (0.0°, 0.0°) with W = [[1, 1], [0, 1]], an automorphism that is no "
        "isometry"
    )
    assert metrics.align(Sphere(3), *[draw(Sphere(3), 20)] * 2).words == "identity"


def test_bad_input_is_refused() -> None:
    M = Sphere(2)
    x = draw(M, 10)
    with pytest.raises(ValueError, match=r"b has shape \(9, 3\)"):
        metrics.align(M, x, x[:9])
    with pytest.raises(ValueError, match=r"a has shape \(10, 4\)"):
        metrics.align(M, torch.ones(10, 4), x)
    with pytest.raises(ValueError, match="a has 1 of 30 values that are not finite"):
        metrics.align(
            M, x.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(math.nan).double()), x
        )
    with pytest.raises(ValueError, match=r"b lies 0\.979 away from Sphere"):
        metrics.align(M, x, 2 * x)
    with pytest.raises(ValueError, match="nothing to measure"):
        metrics.align(M, x[:0], x[:0])
    with pytest.raises(ValueError, match="expected a tensor"):
        metrics.align(M, x.numpy(), x)  # type: ignore[call-overload]
    unknown = Submanifold((3,), lambda y: y / y.norm(dim=-1, keepdim=True), name="ball")
    with pytest.raises(NotImplementedError, match="isometries are not known"):
        metrics.align(unknown, x, x)
    doubled = Quotient(FlatTorus(2), [np.diag([-1.0, -1.0, 1.0, 1.0])], name="half")
    y = draw(doubled, 5)
    with pytest.raises(NotImplementedError, match="quotients of spheres"):
        metrics.align(doubled, y, y)
    with pytest.raises(ValueError, match="bound = 3 with 9 angles"):
        metrics.align_torus(torch.ones(5, 9), torch.ones(5, 9))
    with pytest.raises(ValueError, match="is square"):
        metrics.align_torus(torch.ones(5, 1), torch.ones(5, 2), unimodular=True)
