"""Pictures of every manifold of the catalogue show its points where they belong, glued as it is."""

import io
import math

import numpy as np
import pytest
import torch
from catalogue import MANIFOLDS, over
from matplotlib.figure import Figure

from manifold_ae import plots
from manifold_ae.groups import rotations
from manifold_ae.manifolds import (
    SO3,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Manifold,
    Product,
    Quotient,
    RealProjective,
    Sphere,
)
from manifold_ae.plots import product, projective
from manifold_ae.plots.charts import cells, charts_of
from manifold_ae.plots.labels import colouring

#: All but those that ``test_plots.py`` draws.
ALL = (
    *(M for M in MANIFOLDS if type(M) not in (Euclidean, FlatTorus, Sphere)),
    RealProjective(5),
    Quotient(Product(SO3(), FlatTorus(1)), [np.diag([*[1.0] * 9, -1.0, -1.0])], name="twisted"),
)


def points_on(manifold: Manifold, n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, *manifold.ambient_shape, generator=generator, dtype=torch.float64)
    return manifold.projx(noise)


def panels(figure: Figure) -> list:
    """Axes other than keys and scales."""
    return [axes for axes in figure.axes if axes.get_label() not in ("key", "scale")]


def offsets(axes, collection: int = 0) -> np.ndarray:
    return np.asarray(axes.collections[collection].get_offsets())


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.round(6).T)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def render(figure: Figure) -> None:
    figure.savefig(io.BytesIO(), format="png", dpi=30)


class Recorder:
    """A decoder that keeps its points, and decodes the k-th to an image of value k."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        self.points = points
        index = torch.arange(len(points), dtype=points.dtype)
        return index.reshape(-1, *[1] * len(self.shape)).expand(-1, *self.shape)


# ---- all of them --------------------------------------------------------------------------------


@over(ALL)
def test_every_manifold_has_a_picture(manifold):
    figure = plots.latents(manifold, points_on(manifold, 40), np.arange(40) % 10)
    assert texts(figure)[0].replace("\n", " ").startswith(f"{manifold!r}, 40 points")
    assert figure.legends
    render(figure)


@over(tuple(M for M in ALL if type(M) is not Product))
def test_a_single_point_is_drawn(manifold):
    plots.latents(manifold, points_on(manifold, 1))


@over(ALL)
@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 2), (5,)], ids=["image", "colour", "features"])
def test_every_manifold_has_a_decoded_grid(manifold, shape):
    decode = Recorder(*shape)
    figure = plots.decoded_grid(manifold, decode, shape, size=4, dtype=torch.float64)
    if len(shape) < 3:
        render(figure)
    assert decode.points.shape[1:] == manifold.ambient_shape
    torch.testing.assert_close(decode.points, manifold.projx(decode.points))


@over(tuple(M for M in ALL if isinstance(M, Quotient)))
def test_pictures_of_quotients_do_not_depend_on_the_image_that_stands_for_a_point(manifold):
    x = points_on(manifold, 12)
    other = manifold.images(x)[-1]
    pictures = []
    for points in (x, other):
        figure = plots.latents(manifold, points)
        where = []
        for axes in panels(figure):
            for collection in axes.collections:
                shown = getattr(collection, "_offsets3d", None)
                shown = collection.get_offsets() if shown is None else np.stack(shown, -1)
                where.append(np.asarray(shown))
        pictures.append([in_order(rows) for rows in where])
    for one, two in zip(*pictures, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-6)


# ---- SO(3) and RP3: balls -----------------------------------------------------------------------


def test_rotations_stand_at_their_rotation_vectors():
    omega = torch.tensor([[0.5, 0.0, 0.0], [0.0, -3.0, 0.2], [1.0, 1.0, -2.0]]).double()
    figure = plots.latents(SO3(), rotations.exp(omega))
    view, *flat = panels(figure)
    assert view.name == "3d" and "opposite boundary points" in texts(figure)[1]
    for axes, pair in zip(flat, ([0, 1], [0, 2], [1, 2]), strict=True):
        expected = omega[:, pair].numpy() / math.pi
        np.testing.assert_allclose(in_order(offsets(axes)), in_order(expected), atol=1e-9)


def test_lines_of_rp3_stand_at_their_distance_from_the_first_axis():
    M = RealProjective(3)
    x = points_on(M, 30)
    _, *flat = panels(plots.latents(M, x))
    first, second = (offsets(axes) for axes in flat[:2])
    radius = np.hypot(np.linalg.norm(first, axis=1), second[:, 1]) * math.pi / 2
    distance = M.dist(M.base_point(dtype=x.dtype), x).numpy()
    np.testing.assert_allclose(np.sort(radius), np.sort(distance), atol=1e-9)


@pytest.mark.parametrize("manifold", [SO3(), RealProjective(3)], ids=lambda m: m.spec)
def test_slices_of_a_ball_are_isometric_along_rays_and_glued_at_the_boundary(manifold):
    charts = charts_of(manifold, 9)
    radius = charts[0].across.high
    base = manifold.base_point(dtype=torch.float64)
    for chart in charts:
        middle = cells(9, -radius, radius)
        length = torch.hypot(middle, middle.flip(0)[:, None])
        torch.testing.assert_close(chart.mask[0], length <= radius)
        distance = manifold.dist(base, chart.points[0])
        torch.testing.assert_close(distance[chart.mask[0]], length[chart.mask[0]])
        # One cell more would lie beyond the boundary: there the next row is the opposite one.
        corner = length > radius
        torch.testing.assert_close(distance[corner], 2 * radius - length[corner])


# ---- RP2: a disc --------------------------------------------------------------------------------


def test_the_disc_is_equal_area_and_opposite_points_of_the_rim_are_one():
    rng = np.random.default_rng(0)
    places = torch.tensor(rng.uniform(-0.7, 0.7, (40, 2)))
    x = projective.lambert_inverse(places)
    torch.testing.assert_close(x.square().sum(-1), torch.ones(40).double())
    np.testing.assert_allclose(projective.lambert(x.numpy()), places.numpy(), atol=1e-12)
    jacobian = torch.func.vmap(torch.func.jacrev(projective.lambert_inverse))(places)
    area = torch.linalg.det(jacobian.mT @ jacobian).sqrt()
    torch.testing.assert_close(area, torch.full_like(area, 2.0))  # 2 times π, of the disc
    rim = torch.tensor([[0.6, 0.8], [-0.6, -0.8]]).double()
    one, other = projective.lambert_inverse(rim)
    assert RealProjective(2).dist(one, other) < 1e-7


def test_points_near_the_rim_are_repeated_beyond_it_on_the_other_side():
    x = torch.tensor([[0.6, 0.8, 0.02], [0.0, 0.6, -0.8]])
    (axes,) = panels(plots.latents(RealProjective(2), x))
    shown, ghost = offsets(axes, 0), offsets(axes, 1)
    assert len(shown) == 2 and len(ghost) == 1
    near = shown[np.linalg.norm(shown, axis=1) > 0.9]
    np.testing.assert_allclose(near / np.linalg.norm(near), [[0.6, 0.8]], atol=1e-4)
    np.testing.assert_allclose(ghost / np.linalg.norm(ghost), [[-0.6, -0.8]], atol=1e-4)
    assert 1 < np.linalg.norm(ghost) < 1 + projective.MARGIN


def test_rp1_goes_round_in_half_a_turn():
    angle = torch.tensor([0.3, 0.3 + math.pi, 1.2]).double()
    (axes,) = panels(plots.latents(RealProjective(1), torch.stack([angle.cos(), angle.sin()], -1)))
    shown = np.arctan2(*offsets(axes).T[::-1])
    np.testing.assert_allclose(np.sort(shown), [0.6, 0.6, 2.4], atol=1e-6)
    assert [text.get_text() for text in axes.texts] == ["0", "π/4", "±π/2", "−π/4"]


# ---- the Klein bottle ---------------------------------------------------------------------------


def test_the_klein_bottle_is_glued_upside_down_left_to_right():
    M = KleinBottle()
    x = M.from_angles(torch.tensor([[0.1, 0.5], [3.0, 2.0], [1.5, 3.1]]).double())
    (axes,) = panels(plots.latents(M, x))
    shown, *ghosts = (offsets(axes, k) for k in range(len(axes.collections)))
    np.testing.assert_allclose(in_order(shown), in_order(M.to_angles(x).numpy()), atol=1e-9)
    expected = [[0.1 + math.pi, -0.5], [3.0 - math.pi, -2.0], [1.5, 3.1 - 2 * math.pi]]
    found = np.concatenate(ghosts)
    np.testing.assert_allclose(in_order(found), in_order(np.array(expected)), atol=1e-9)
    # What is drawn twice is one point.
    again = M.from_angles(torch.from_numpy(np.asarray(expected)))
    torch.testing.assert_close(M.dist(x, again), torch.zeros(3).double(), atol=1e-7, rtol=0)


def test_the_grid_of_the_klein_bottle_covers_it_once():
    chart = charts_of(KleinBottle(), 4)[0]
    x = chart.points.flatten(0, 2)
    gaps = KleinBottle().dist(x[:, None], x[None]) + 9 * torch.eye(len(x))
    torch.testing.assert_close(gaps.amin(1), torch.full((32,), math.pi / 4).double())


# ---- quotients and products ---------------------------------------------------------------------


def test_a_quotient_shows_every_point_at_all_of_its_images():
    M = Quotient(Sphere(3), [-np.eye(4)], name="lines")
    x = points_on(M, 15)
    figure = plots.latents(M, x, np.arange(15) % 3)
    assert texts(figure)[0] == "lines, 15 points, each at its 2 images in Sphere(3)"
    shown = offsets(panels(figure)[0])
    assert len(shown) == 30
    np.testing.assert_allclose(in_order(shown), in_order(-shown), atol=1e-9)
    colours = panels(figure)[0].collections[0].get_facecolors()[:, :3]
    order = np.lexsort(shown.round(6).T), np.lexsort(-shown.round(6).T)
    np.testing.assert_allclose(colours[order[0]], colours[order[1]])
    grid = plots.decoded_grid(M, Recorder(2, 2), (2, 2), size=4)
    assert "On Sphere(3), where every point has 2 images" in texts(grid)[1]


def test_a_product_shows_its_factors_as_they_are_shown_alone():
    M = Product(Sphere(2), FlatTorus(1))
    x = points_on(M, 50)
    figure = plots.latents(M, x, np.arange(50) % 10)
    first, second = panels(figure)
    for axes, factor, part in zip((first, second), M.factors, M.split(x), strict=True):
        labels = colouring(np.arange(50) % 10, 50).without_key()
        alone = product._pixels(plots.draw_points(factor, part.numpy(), labels, repr(factor)))
        np.testing.assert_array_equal(axes.images[0].get_array(), alone)
        box = axes.get_position()
        size = figure.get_size_inches() * [box.width, box.height] * 150
        np.testing.assert_allclose(size, alone.shape[1::-1], atol=1e-6)


def test_one_factor_of_a_product_varies_at_a_time():
    M = Product(Sphere(2), FlatTorus(1), Euclidean(4))
    at = points_on(M, 1)[0]
    decode = Recorder(2, 2)
    figure = plots.decoded_grid(M, decode, (2, 2), size=4, at=at, dtype=torch.float64)
    parts, still = M.split(decode.points), M.split(at)
    for k, (start, stop) in enumerate(((0, 8), (8, 12), (12, 28))):
        for j in range(3):
            fixed = (parts[j][start:stop] == still[j]).all()
            assert fixed == (j != k)
    titles = [axes.get_title(loc="left") for axes in panels(figure)]
    assert titles == ["Sphere(2)", "FlatTorus(1)", "Euclidean(4)"]
    plots.decoded_grid(M, decode, (2, 2), size=4, dtype=torch.float64)
    torch.testing.assert_close(M.split(decode.points)[0][9], torch.eye(3).double()[0])


def test_the_point_at_which_others_stay_does_not_move_other_grids():
    M, decode = SO3(), Recorder(2, 2)
    plots.decoded_grid(M, decode, (2, 2), size=3)
    before = decode.points
    plots.decoded_grid(M, decode, (2, 2), size=3, at=points_on(M, 1)[0])
    torch.testing.assert_close(decode.points, before)


def test_features_over_a_circle_of_a_product_are_curves():
    M = Product(FlatTorus(1), RealProjective(2))
    figure = plots.decoded_grid(M, lambda z: z[:, :2], (2,), size=16, dtype=torch.float64)
    curves = panels(figure)[::2]
    assert [len(axes.lines) for axes in curves] == [1, 1]
    for axes, function in zip(curves, (np.cos, np.sin), strict=True):
        line = axes.lines[0]
        np.testing.assert_allclose(line.get_ydata(), function(line.get_xdata()), atol=1e-9)


def test_the_medoid_is_the_point_in_the_middle():
    M = FlatTorus(1)
    x = M.from_angles(torch.tensor([[3.0], [-3.1], [-2.9], [-2.0], [2.7]]))
    torch.testing.assert_close(plots.medoid(M, x), x[1].double())
    torch.testing.assert_close(plots.medoid(M, x.repeat(2000, 1)), x[1].double())


# ---- what is hidden, what is refused ------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 2), (3, 2, 2)])
def test_cells_outside_the_disc_are_not_decoded_and_stay_white(shape):
    decode = Recorder(*shape)
    (axes,) = panels(plots.decoded_grid(RealProjective(2), decode, shape, size=5))
    assert len(decode.points) == 21
    pixels = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
    corner = pixels[: len(pixels) // 5, : len(pixels) // 5]
    assert np.isnan(corner).all() if len(shape) == 2 else (corner == 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda M: plots.decoded_grid(M, Recorder(2, 2), (2, 2), at=torch.zeros(4)),
            r"at has shape \(4,\); expected one point of Product.*\(5,\)",
        ),
        (
            lambda M: plots.decoded_grid(M, Recorder(2, 2), (2, 2), at=torch.full((5,), math.nan)),
            "at has 5 entries of 5 that are not finite",
        ),
        (lambda M: plots.medoid(M, torch.zeros(0, 5)), r"points has shape \(0, 5\)"),
        (lambda M: plots.medoid(M, torch.zeros(3, 4)), r"points has shape \(3, 4\)"),
        (lambda M: plots.medoid(M, torch.full((3, 5), math.inf)), "points has 15 entries"),
    ],
)
def test_bad_points_to_stay_at_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(Product(Sphere(2), FlatTorus(1)))
