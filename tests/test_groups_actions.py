"""Actions of groups on manifolds and on pictures: the axioms, isometry, and exactness."""

import math

import numpy as np
import pytest
import torch
from catalogue import ambient_gap, points

from manifold_ae import groups, manifolds
from manifold_ae.data.torus import PeriodicPicture
from manifold_ae.groups import Action, PeriodicImages

ON_MANIFOLDS = (
    Action(groups.SO2(), manifolds.FlatTorus(1)),
    Action(groups.SO2(), manifolds.Sphere(1)),
    Action(groups.Torus(2), manifolds.FlatTorus(2)),
    Action(groups.Torus(2), manifolds.Sphere(3)),
    Action(groups.SO3(), manifolds.Sphere(2)),
    Action(groups.SO3(), manifolds.SO3()),
    Action(groups.SO3(), manifolds.RealProjective(2)),
    Action(groups.SO(4), manifolds.Sphere(3)),
    Action(groups.SO(4), manifolds.RealProjective(3)),
    Action(groups.Cyclic(5), manifolds.FlatTorus(1)),
    Action(groups.Dihedral(4), manifolds.Sphere(1)),
    Action(groups.Octahedral(), manifolds.Sphere(2)),
    Action(groups.Icosahedral(), manifolds.RealProjective(2)),
    Action(
        groups.Product(groups.Cyclic(3), groups.Dihedral(2)),
        manifolds.FlatTorus(2),
    ),
    Action(
        groups.Product(groups.SO3(), groups.Torus(1)),
        manifolds.Product(manifolds.Sphere(2), manifolds.FlatTorus(1)),
    ),
    Action(
        groups.Product(groups.Tetrahedral(), groups.Cyclic(2)),
        manifolds.Product(manifolds.Sphere(2), manifolds.FlatTorus(1)),
    ),
    Action(groups.SE2(), manifolds.Euclidean(2)),
    Action(groups.SE3(), manifolds.Euclidean(3)),
    Action(groups.SO3(), manifolds.Euclidean(3)),
    Action(groups.Octahedral(), manifolds.Euclidean(3)),
    Action(groups.ScaleTranslation(2), manifolds.Euclidean(2)),
    Action(groups.ScaleTranslation(2, diagonal=True), manifolds.Euclidean(2)),
    Action(groups.Affine(3), manifolds.Euclidean(3)),
    Action(groups.GL(2), manifolds.Euclidean(2)),
)
over_actions = pytest.mark.parametrize("action", ON_MANIFOLDS, ids=repr)


def stretches(group: groups.Group) -> bool:
    return isinstance(group, groups.GL | groups.Affine | groups.ScaleTranslation)


@over_actions
def test_actions_on_manifolds(action, dtype, device, generator, tolerance):
    G, M = action.group, action.space
    like = {"dtype": dtype, "device": device, "generator": generator}
    g, h, x, y = (
        G.random(20, **like),
        G.random(20, **like),
        points(M, 20, **like),
        points(M, **like),
    )
    moved = action(g, x)
    assert moved.dtype == dtype
    assert M.check_point_on_manifold(moved)
    slack = 10 * tolerance * max(1.0, moved.abs().max().item() ** 2)
    together = action(G.compose(g, h), x)
    assert ambient_gap(M, together, action(g, action(h, x))) <= slack * together.abs().max().item()
    assert ambient_gap(M, action(G.identity(dtype=dtype, device=device), x), x) <= tolerance
    assert ambient_gap(M, action(G.inverse(g), moved), x) <= slack * 10
    if not stretches(G):
        assert (M.dist(moved, action(g, y)) - M.dist(x, y)).abs().max() <= 10 * tolerance
    assert action(G.random(3, 1, **like), x).shape == (3, 20, *M.ambient_shape)
    with pytest.raises(ValueError, match="has shape"):
        action(g, x[..., :-1])


@over_actions
def test_actions_have_derivatives(action, generator, device):
    G, M = action.group, action.space
    like = {"dtype": torch.float64, "device": device, "generator": generator}
    x = points(M, **like).requires_grad_()
    if not G.dim:
        g = G.random(generator=generator, device=device)
        assert torch.autograd.gradcheck(lambda x: action(g, x), x, fast_mode=True)
        return
    X = torch.zeros(G.dim, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(lambda X, x: action(G.exp(X), x), (X, x), fast_mode=True)


def test_actions_are_values():
    assert Action(groups.SO3(), manifolds.Sphere(2)) == ON_MANIFOLDS[4]
    assert hash(Action(groups.SO3(), manifolds.Sphere(2))) == hash(ON_MANIFOLDS[4])
    assert ON_MANIFOLDS[4] != ON_MANIFOLDS[5]
    assert repr(ON_MANIFOLDS[4]) == "Action(SO3(), Sphere(2))"


@pytest.mark.parametrize(
    ("group", "space", "message"),
    [
        (groups.SO3(), manifolds.Sphere(3), "vectors of size 3, points here have 4"),
        (groups.Torus(2), manifolds.FlatTorus(3), "vectors of size 4, points here have 6"),
        (groups.SO(4), manifolds.FlatTorus(2), "no action of .* is known; there are"),
        (groups.SO3(), manifolds.KleinBottle(), "no action of"),
        (groups.SO3(), "sphere", "no action of"),
        (groups.Octahedral(), manifolds.FlatTorus(1), "vectors of size 3"),
        (
            groups.FiniteGroup.from_matrices([np.eye(4)[[1, 2, 3, 0]]]),
            manifolds.FlatTorus(2),
            "mix the coordinates of several circles",
        ),
        (
            groups.FiniteGroup.from_matrices([np.array([[1.0, 1.0], [0.0, -1.0]])]),
            manifolds.Sphere(1),
            "not orthogonal",
        ),
        (
            groups.Product(groups.SO3(), groups.SO2()),
            manifolds.Product(manifolds.Sphere(2)),
            "2 factors, the manifold has 1",
        ),
        (groups.Torus(1), PeriodicImages(4, 4), "use Torus"),
        (groups.Product(groups.Cyclic(4), groups.Cyclic(3)), PeriodicImages(4, 4), "Cyclic.4., C"),
    ],
)
def test_actions_that_are_none_are_refused(group, space, message):
    with pytest.raises(ValueError, match=message):
        Action(group, space)


# ---- pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [15, 16])
def test_shifts_of_periodic_pictures_are_exact(size, dtype, generator, tolerance):
    G, shift = groups.Torus(2), Action(groups.Torus(2), PeriodicImages(size, size))
    picture = PeriodicPicture.fourier(order=3, discount=0.9, size=size)
    angles, more = 10 * torch.randn(2, 7, 2, dtype=dtype, generator=generator)
    start = picture.translate(torch.zeros(2, dtype=dtype))
    expected = picture.translate(angles)
    assert (shift(G.exp(angles), start) - expected).abs().max() <= 5 * tolerance
    again = shift(G.exp(more), expected)
    assert (again - picture.translate(angles + more)).abs().max() <= 5 * tolerance


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 3), (9, 1)])
def test_shifts_of_any_picture_of_odd_size(height, width, dtype, generator, tolerance):
    images = PeriodicImages(height, width)
    G, shift = groups.Torus(2), Action(groups.Torus(2), images)
    x = torch.randn(4, height, width, dtype=dtype, generator=generator)
    g, h = G.random(2, 4, dtype=dtype, generator=generator)
    assert (shift(g, shift(h, x)) - shift(G.compose(g, h), x)).abs().max() <= 10 * tolerance
    pixel = torch.tensor([2 * math.pi / height, 4 * math.pi / width], dtype=dtype)
    rolled = x.roll((1, 2), (-2, -1))
    assert (shift(G.exp(pixel), x) - rolled).abs().max() <= 10 * tolerance
    pixels = groups.Product(groups.Cyclic(height), groups.Cyclic(width))
    k = pixels.join([torch.tensor(1 % height), torch.tensor(2 % width)])
    assert torch.equal(Action(pixels, images)(k, x), rolled)


def test_shifts_by_pixels_are_an_action(generator):
    images, G = PeriodicImages(4, 6), groups.Product(groups.Cyclic(4), groups.Cyclic(6))
    shift = Action(G, images)
    x = torch.randn(24, 4, 6, generator=generator)
    g, h = torch.arange(24)[:, None], torch.arange(24)
    assert torch.equal(shift(g, shift(h, x)), shift(G.compose(g, h), x))
    for k in range(24):
        assert torch.equal(shift(torch.tensor(k), x), x.roll((k // 6, k % 6), (1, 2)))


def test_derivatives_of_shifts(generator):
    shift = Action(groups.Torus(2), PeriodicImages(5, 3))
    x = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    angles = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def moved(angles: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return shift(groups.Torus(2).exp(angles), x)

    assert torch.autograd.gradcheck(moved, (angles, x))
    assert torch.autograd.gradgradcheck(moved, (angles, x))


def test_waves_of_the_nyquist_frequency_are_refused(dtype):
    G, images = groups.Torus(2), PeriodicImages(4, 5)
    e = G.identity(dtype=dtype)
    row = torch.zeros(4, 5, dtype=dtype)
    row[0] = 1.0
    with pytest.raises(ValueError, match=r"Nyquist frequency, 2 for 4 pixels.*Cyclic\(4\), Cycl"):
        Action(G, images)(e, row)
    with pytest.raises(ValueError, match="not finite"):
        Action(G, images)(e, row / 0)
    column = torch.zeros(4, 5, dtype=dtype)
    column[:, 0] = 1.0
    assert Action(G, images)(e, column).shape == (4, 5)
    for wrong in (0, 2.0, True):
        with pytest.raises(ValueError, match="PeriodicImages: height must be an integer"):
            PeriodicImages(wrong, 5)
