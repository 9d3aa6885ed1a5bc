"""Pictures show what they were given, where it belongs; and refuse what they cannot show."""

import ast
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from manifold_ae import plots
from manifold_ae.manifolds import EmbeddedTorus, Euclidean, FlatTorus, Manifold, Sphere, Spheroid
from manifold_ae.plots import charts, circle, history, mosaic, sphere
from manifold_ae.plots.colours import (
    MARKERS,
    PALETTE,
    cyclic_colours,
    diverging_colours,
    periodic_colours,
)

MANIFOLDS = [
    *(Sphere(d) for d in (1, 2, 4)),
    *(FlatTorus(d) for d in (1, 2, 3, 6)),
    *(Euclidean(d) for d in (1, 2, 3, 5)),
    EmbeddedTorus(),
    Spheroid(),
]


def points_on(manifold: Manifold, n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return manifold.projx(torch.randn(n, *manifold.ambient_shape, generator=generator))


def panels(figure: Figure) -> list:
    """Axes other than keys and scales."""
    return [axes for axes in figure.axes if axes.get_label() not in ("key", "scale")]


def offsets(axes, collection: int = 0) -> np.ndarray:
    return np.asarray(axes.collections[collection].get_offsets())


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.round(9).T)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def render(figure: Figure) -> None:
    figure.savefig(io.BytesIO(), format="png", dpi=30)


# ---- latent points ------------------------------------------------------------------------------


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=lambda m: m.spec)
def test_every_manifold_has_a_picture_that_renders(manifold):
    figure = plots.latents(manifold, points_on(manifold, 60), np.arange(60) % 10)
    assert isinstance(figure, Figure)
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert texts(figure)[0] == f"{manifold!r}, 60 points"
    render(figure)


def test_torus_points_stand_at_their_angles():
    M = FlatTorus(2)
    x = points_on(M, 200)
    (axes,) = panels(plots.latents(M, x))
    np.testing.assert_allclose(in_order(offsets(axes)), in_order(M.to_angles(x).numpy()), atol=1e-6)


def test_torus_points_near_an_edge_are_repeated_beyond_the_other():
    M = FlatTorus(2)
    x = M.from_angles(torch.tensor([[3.1, 0.5], [0.0, 0.0], [-3.0, 3.0]]))
    (axes,) = panels(plots.latents(M, x))
    ghosts = np.concatenate([offsets(axes, k) for k in range(1, len(axes.collections))])
    turn = 2 * math.pi
    expected = [[3.1 - turn, 0.5], [turn - 3, 3.0], [-3.0, 3 - turn], [turn - 3, 3 - turn]]
    np.testing.assert_allclose(in_order(ghosts), in_order(np.array(expected)), atol=1e-6)
    assert all(ghost.get_alpha() < 0.5 for ghost in axes.collections[1:])


def test_every_point_of_the_sphere_is_on_the_map_and_on_one_globe():
    M = Sphere(2)
    x = points_on(M, 300).numpy()
    front, back, chart = panels(plots.latents(M, x))
    assert len(offsets(front)) + len(offsets(back)) == 300
    longitude, latitude = np.arctan2(x[:, 1], x[:, 0]), np.arcsin(x[:, 2])
    expected = np.stack(sphere.hammer(longitude, latitude), -1)
    np.testing.assert_allclose(in_order(offsets(chart)), in_order(expected), atol=1e-4)
    assert (np.linalg.norm(offsets(front), axis=1) <= 1 + 1e-6).all()


def test_globes_show_east_on_the_right_and_north_up():
    axis_points = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])
    x, y = sphere.orthographic(axis_points, 0.0, 0.0)
    np.testing.assert_allclose(x[:3], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(y[:3], [0, 0, 1], atol=1e-12)
    assert np.isnan(x[3])


def test_the_map_keeps_areas():
    rng = np.random.default_rng(0)
    longitude, latitude = rng.uniform(-3, 3, 50), rng.uniform(-1.4, 1.4, 50)
    h = 1e-5
    east = np.subtract(
        sphere.hammer(longitude + h, latitude), sphere.hammer(longitude - h, latitude)
    )
    north = np.subtract(
        sphere.hammer(longitude, latitude + h), sphere.hammer(longitude, latitude - h)
    )
    area = (east[0] * north[1] - east[1] * north[0]) / (2 * h) ** 2
    np.testing.assert_allclose(area, np.cos(latitude), rtol=1e-6)


@pytest.mark.parametrize("manifold", [FlatTorus(1), Sphere(1)], ids=lambda m: m.spec)
def test_circle_points_keep_their_angle_and_spread_only_outwards(manifold):
    x = points_on(manifold, 400).numpy()
    (axes,) = panels(plots.latents(manifold, x))
    shown = offsets(axes)
    angles = np.sort(np.arctan2(shown[:, 1], shown[:, 0]))
    np.testing.assert_allclose(angles, np.sort(np.arctan2(x[:, 1], x[:, 0])), atol=1e-6)
    radius = np.linalg.norm(shown, axis=1)
    assert (abs(radius - 1) <= circle.BAND + 1e-9).all()
    assert radius.std() > 0.05


def test_spread_is_as_wide_as_points_are_dense():
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.normal(2.9, 0.3, 4000), rng.uniform(-math.pi, math.pi, 2000)])
    offset, density = circle.spread(angles, period=2 * math.pi)
    turned = (angles + math.pi) % (2 * math.pi) - math.pi
    dense = np.abs((turned - 2.9 + math.pi) % (2 * math.pi) - math.pi) < 0.1
    sparse = np.abs(turned) < 0.5
    assert 0.9 < abs(offset[dense]).max() <= 1
    expected = (2000 / (2 * math.pi)) / (
        2000 / (2 * math.pi) + 4000 / (0.3 * math.sqrt(2 * math.pi))
    )
    assert abs(offset[sparse]).max() == pytest.approx(expected, rel=0.35)
    peak = (2000 / (2 * math.pi) + 4000 / (0.3 * math.sqrt(2 * math.pi))) / 6000
    assert density == pytest.approx(peak, rel=0.35)


def test_spread_separates_points_that_coincide():
    offset, _ = circle.spread(np.full(50, 1.0), period=2 * math.pi)
    assert len(np.unique(offset.round(6))) == 50
    offset, _ = circle.spread(np.zeros(50))
    assert len(np.unique(offset.round(6))) == 50


def test_euclidean_points_stand_at_their_coordinates():
    x = points_on(Euclidean(2), 100)
    (axes,) = panels(plots.latents(Euclidean(2), x))
    np.testing.assert_allclose(in_order(offsets(axes)), in_order(x.numpy()), atol=1e-6)
    x = points_on(Euclidean(3), 100).numpy()
    view, *flat = panels(plots.latents(Euclidean(3), x))
    assert view.name == "3d"
    for axes, pair in zip(flat, ([0, 1], [0, 2], [1, 2]), strict=True):
        np.testing.assert_allclose(in_order(offsets(axes)), in_order(x[:, pair]), atol=1e-6)
    x = points_on(Euclidean(1), 100)
    (axes,) = panels(plots.latents(Euclidean(1), x))
    np.testing.assert_allclose(np.sort(offsets(axes)[:, 0]), np.sort(x[:, 0].numpy()), atol=1e-6)


def test_many_dimensions_show_the_pairs_that_vary_most_and_say_so():
    M = Euclidean(7)
    x = points_on(M, 80) * torch.tensor([1.0, 0.1, 3.0, 0.1, 2.0, 0.1, 4.0])
    figure = plots.latents(M, x)
    assert [(a.get_xlabel(), a.get_ylabel()) for a in panels(figure)] == [
        ("z₁", "z₃"), ("z₁", "z₅"), ("z₁", "z₇"), ("z₃", "z₅"), ("z₃", "z₇"), ("z₅", "z₇"),
    ]  # fmt: skip
    assert "6 of 21 pairs, among the four coordinates that vary most" in texts(figure)
    expected = x[:, [0, 2]].numpy()
    np.testing.assert_allclose(in_order(offsets(panels(figure)[0])), in_order(expected), atol=1e-6)
    assert len(panels(plots.latents(FlatTorus(3), points_on(FlatTorus(3), 20)))) == 3


def test_a_new_type_registers_its_picture_and_its_grid():
    class Line(Euclidean):
        pass

    M = Line(1)

    @plots.draw_points.register(Line)
    def _(manifold, points, colours, title):
        figure = Figure()
        figure.text(0, 0, f"{manifold!r} {points.shape} {title}")
        return figure

    @plots.chart_grid.register(Line)
    def _(manifold, size):
        ticks = plots.Ticks("z", 0.0, 1.0, (0.0, 1.0), ("0", "1"))
        return plots.Chart(torch.zeros(1, 1, size or 3, 1), ticks)

    assert texts(plots.latents(M, np.zeros((4, 1)), title="t")) == ["Line(1) (4, 1) t"]
    render(plots.decoded_grid(M, lambda z: z[:, :, None].expand(-1, 5, 5), (5, 5)))


def test_types_without_a_picture_show_pairs_and_without_a_grid_say_what_to_do():
    M = FlatTorus(2)
    labels = plots.points.colouring(None, 30)
    figure = plots.draw_points.dispatch(Manifold)(M, points_on(M, 30).numpy(), labels, "t")
    assert len(panels(figure)) == 6
    with pytest.raises(ValueError, match=r"FlatTorus\(2\).*chart_grid\.register"):
        plots.chart_grid.dispatch(Manifold)(M, None)


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=lambda m: m.spec)
def test_a_single_point_is_drawn(manifold):
    render(plots.latents(manifold, points_on(manifold, 1), [0]))


# ---- labels -------------------------------------------------------------------------------------


def test_classes_get_the_palette_and_a_legend_in_order():
    M = FlatTorus(2)
    x, labels = points_on(M, 90), torch.arange(90) % 3 * 2
    figure = plots.latents(M, x, labels)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["0", "2", "4"]
    handles = [handle.get_markerfacecolor() for handle in legend.legend_handles]
    assert handles == list(PALETTE[:3])
    (axes,) = panels(figure)
    shown, colours = offsets(axes), axes.collections[0].get_facecolors()[:, :3]
    for point, label in zip(M.to_angles(x).numpy(), labels, strict=True):
        nearest = np.abs(shown - point).sum(1).argmin()
        np.testing.assert_allclose(colours[nearest], to_rgb(PALETTE[int(label) // 2]))


def test_past_ten_classes_markers_differ():
    M = Euclidean(2)
    names = np.array([f"class {k:02d}" for k in range(24)])
    figure = plots.latents(M, points_on(M, 48), names[np.arange(48) % 24])
    handles = figure.legends[0].legend_handles
    assert len(handles) == 24
    looks = {(handle.get_markerfacecolor(), handle.get_marker()) for handle in handles}
    assert len(looks) == 24
    assert len(panels(figure)[0].collections) == 3
    render(figure)


@pytest.mark.parametrize("shape", [(50,), (50, 1)])
def test_one_angle_gets_cyclic_colours_and_a_ring(shape):
    M = FlatTorus(2)
    angle = np.linspace(-9, 9, 50).reshape(shape)
    figure = plots.latents(M, points_on(M, 50), torch.tensor(angle))
    colours = panels(figure)[0].collections[0].get_facecolors()[:, :3]
    np.testing.assert_allclose(in_order(colours), in_order(cyclic_colours(angle.reshape(-1))))
    assert sum(axes.get_label() == "key" for axes in figure.axes) == 1


@pytest.mark.parametrize("count", [2, 3])
def test_two_angles_get_periodic_colours_and_a_square(count):
    M = Sphere(2)
    angles = np.random.default_rng(0).uniform(-3, 3, (50, count))
    figure = plots.latents(M, points_on(M, 50), angles)
    angles = angles[:, :2]
    colours = panels(figure)[2].collections[0].get_facecolors()[:, :3]
    np.testing.assert_allclose(in_order(colours), in_order(periodic_colours(angles)))
    (key,) = [axes for axes in figure.axes if axes.get_label() == "key"]
    image = key.images[0].get_array()
    np.testing.assert_allclose(image[0, 0], periodic_colours([[-math.pi, -math.pi]])[0])
    np.testing.assert_allclose(image[86, 86], periodic_colours([[0.0, 0.0]])[0])
    assert key.images[0].origin == "lower"


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (torch.zeros(5, 3), None, r"points has shape \(5, 3\).*FlatTorus\(2\).*\(n, 4\)"),
        (torch.zeros(4), None, r"points has shape \(4,\)"),
        (torch.zeros(0, 4), None, "nothing to draw"),
        (torch.full((5, 4), math.nan), None, r"20 entries of 20.*\(0, 0\).*encoder"),
        (torch.ones(5, 4), torch.arange(4), r"labels has shape \(4,\) for 5 points"),
        (torch.ones(5, 4), torch.zeros(5, 3, 1), r"labels has shape \(5, 3, 1\).*more \(5, k\)"),
        (torch.ones(5, 4), torch.zeros(5, 2, dtype=torch.int64), "dtype int64"),
        (torch.ones(5, 4), 3, r"labels has shape \(\)"),
        (torch.ones(5, 4), torch.tensor([0.0, 1, math.inf, 0, 0]), r"labels has 1 entries.*\(2,\)"),
        (torch.ones(51, 4), torch.arange(51), "51 classes; at most 50"),
    ],
)
def test_bad_points_and_labels_are_refused(points, labels, message):
    with pytest.raises(ValueError, match=message):
        plots.latents(FlatTorus(2), points, labels)


def test_half_precision_and_gradients_are_no_obstacle():
    M = FlatTorus(2)
    x = points_on(M, 10).to(torch.bfloat16).requires_grad_()
    assert isinstance(plots.latents(M, x), Figure)


# ---- colours ------------------------------------------------------------------------------------

# Simulation of dichromacy in linear sRGB: Machado, Oliveira and Fernandes (2009), table 1.
DICHROMACY = {
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def oklab(srgb, vision=None) -> np.ndarray:
    """Ottosson's OKLab of sRGB colours, as seen with one kind of cone missing or with all."""
    srgb = np.asarray(srgb)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    if vision is not None:
        linear = np.clip(linear @ np.array(DICHROMACY[vision]).T, 0, 1)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    ).T  # fmt: skip
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    ).T  # fmt: skip


def distances(lab) -> np.ndarray:
    return np.linalg.norm(lab[:, None] - lab[None], axis=-1)


@pytest.mark.parametrize("vision", [None, *DICHROMACY])
def test_class_colours_differ_to_every_eye(vision):
    lab = oklab([to_rgb(colour) for colour in PALETTE], vision)
    apart = distances(lab)[np.triu_indices(len(PALETTE), 1)].min()
    # matplotlib's own ten have 0.007, 0.023, 0.042 and 0.113.
    assert apart > (0.18 if vision is None else 0.12)
    # Dark enough to be seen on white.
    assert oklab([to_rgb(colour) for colour in PALETTE])[:, 0].max() < 0.88


@pytest.mark.parametrize("vision", [None, *DICHROMACY])
def test_no_two_angles_look_alike_to_any_eye(vision):
    angles = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    chord = np.abs(np.exp(1j * angles)[:, None] - np.exp(1j * angles)[None]) / 2
    ratio = distances(oklab(cyclic_colours(angles), vision)) / np.where(chord > 0, chord, np.inf)
    # matplotlib's twilight reaches 0.04 to 0.07, hsv 0.001 to 0.005.
    assert ratio[~np.eye(60, dtype=bool)].min() > 0.14


def test_cyclic_colours_follow_their_formula():
    lab = oklab(cyclic_colours(np.linspace(0, 2 * math.pi, 50)))
    hue = np.arctan2(lab[:, 2], lab[:, 1])
    np.testing.assert_allclose(np.hypot(lab[:, 1], lab[:, 2]), 0.12, atol=1e-4)
    np.testing.assert_allclose(lab[:, 0], 0.62 + 0.22 * np.cos(hue - math.radians(150)), atol=1e-4)


@pytest.mark.parametrize("vision", [None, *DICHROMACY])
def test_signs_and_sizes_of_values_differ_to_every_eye(vision):
    colours = diverging_colours(np.linspace(-1, 1, 21))
    assert colours.min() > 0 and colours.max() <= 1
    np.testing.assert_allclose(colours[10], 1, atol=1e-6)
    apart = distances(oklab(colours, vision)) / distances(np.linspace(-1, 1, 21)[:, None]).clip(0.1)
    assert apart[~np.eye(21, dtype=bool)].min() > 0.08


def test_periodic_colours_are_periodic_and_smooth_across_the_seam():
    rng = np.random.default_rng(0)
    angles = rng.uniform(-math.pi, math.pi, (100, 2))
    turns = rng.integers(-2, 3, (100, 2)) * 2 * math.pi
    np.testing.assert_allclose(periodic_colours(angles + turns), periodic_colours(angles))
    side = np.linspace(-math.pi, math.pi, 120, endpoint=False)
    grid = periodic_colours(np.stack(np.meshgrid(side, side), -1))
    for axis in (0, 1):
        steps = np.abs(np.diff(grid, axis=axis)).max()
        seam = np.abs(np.take(grid, 0, axis) - np.take(grid, -1, axis)).max()
        assert seam <= 1.01 * steps < 0.04


def test_periodic_colours_stay_inside_the_gamut():
    side = np.linspace(-math.pi, math.pi, 90)
    for colours in (periodic_colours(np.stack(np.meshgrid(side, side), -1)), cyclic_colours(side)):
        assert colours.min() > 0 and colours.max() < 1


def test_periodic_colours_tell_points_of_the_torus_apart():
    quarter = np.arange(4) * math.pi / 2
    lab = oklab(periodic_colours(np.stack(np.meshgrid(quarter, quarter), -1).reshape(-1, 2)))
    assert distances(lab)[~np.eye(16, dtype=bool)].min() > 0.07
    # Injective: colours are as far apart as the points, up to a factor.
    side = np.linspace(0, 2 * math.pi, 20, endpoint=False)
    angles = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    wrapped = (angles[:, None] - angles[None] + math.pi) % (2 * math.pi) - math.pi
    apart = ~np.eye(400, dtype=bool)
    lab = oklab(periodic_colours(angles))
    assert (distances(lab)[apart] / np.linalg.norm(wrapped, axis=-1)[apart]).min() > 0.015


def test_periodic_colours_take_pairs():
    with pytest.raises(ValueError, match=r"angles has shape \(5,\).*cyclic_colours"):
        periodic_colours(np.zeros(5))


# ---- decoded grids ------------------------------------------------------------------------------


class Recorder:
    """A decoder that keeps its points, and decodes the k-th to an image of value k."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.points = points
        index = torch.arange(len(points), dtype=points.dtype)
        return index.reshape(-1, *[1] * len(self.shape)).expand(-1, *self.shape)


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=lambda m: m.spec)
@pytest.mark.parametrize("shape", [(4, 6), (3,)])
def test_grids_hold_distinct_points_on_the_manifold(manifold, shape):
    decode = Recorder(*shape)
    figure = plots.decoded_grid(manifold, decode, shape, size=6, dtype=torch.float64)
    z = decode.points
    assert z.dtype == torch.float64 and z.shape[1:] == manifold.ambient_shape
    torch.testing.assert_close(manifold.projx(z), z)
    assert len(np.unique(z.numpy().round(9), axis=0)) == len(z)
    render(figure)


def test_torus_grid_is_one_period_from_the_top_left():
    M, decode = FlatTorus(2), Recorder(4, 4)
    (axes,) = panels(plots.decoded_grid(M, decode, (4, 4), size=8))
    angles = M.to_angles(decode.points).reshape(8, 8, 2)
    step = math.pi / 4
    first = torch.tensor([-math.pi + step / 2, math.pi - step / 2])
    torch.testing.assert_close(angles[0, 0], first)
    torch.testing.assert_close(angles[0, 1] - angles[0, 0], torch.tensor([step, 0.0]))
    torch.testing.assert_close(angles[1, 0] - angles[0, 0], torch.tensor([0.0, -step]))
    assert axes.images[0].get_extent() == pytest.approx([-math.pi, math.pi, -math.pi, math.pi])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["−π", "−π/2", "0", "π/2", "π"]


def test_images_lie_where_their_points_do_on_one_scale():
    (axes,) = panels(plots.decoded_grid(FlatTorus(2), Recorder(4, 4), (4, 4), size=8))
    image = axes.images[0]
    pixels = np.ma.filled(image.get_array(), np.nan)
    tile = pixels.shape[0] // 8
    middles = pixels[tile // 2 :: tile, tile // 2 :: tile]
    np.testing.assert_array_equal(middles, np.arange(64).reshape(8, 8))
    assert np.isnan(pixels[0]).all()
    assert image.get_clim() == (0, 63) and image.get_cmap().name == "viridis"
    assert image.get_interpolation() == "nearest"


def test_saved_grids_show_each_pixel_of_an_image_as_a_whole_square(tmp_path):
    """What was enlarged by a factor k is found in the file as runs of exactly k pixels."""
    board = (torch.arange(8)[:, None] + torch.arange(8)[None]) % 2.0
    figure = plots.samples(board.expand(16, 8, 8), columns=4)
    pixels = figure_pixels(figure)[:, :, 0]
    factor = int(mosaic.TARGET / (4 * 8 * 1.07))
    row = pixels[pixels.shape[0] // 2 + factor // 2] < 128
    edges = np.flatnonzero(np.diff(row.astype(int)))
    runs = np.diff(edges)
    assert (np.isin(runs, [factor]) | (runs > factor)).all() and (runs == factor).sum() > 20


def figure_pixels(figure: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba")
    width, height = figure.bbox.size.astype(int)
    return np.frombuffer(buffer.getvalue(), np.uint8).reshape(height, width, 4)


def test_sphere_grid_has_longitude_across_and_north_up():
    M, decode = Sphere(2), Recorder(4, 4)
    plots.decoded_grid(M, decode, (4, 4))
    z = decode.points.reshape(8, 16, 3)
    assert (z[:-1, :, 2] > z[1:, :, 2]).all() and z[0, 0, 2] < 1
    longitude = torch.atan2(z[..., 1], z[..., 0])
    torch.testing.assert_close(longitude[0, 0], torch.tensor(-math.pi + math.pi / 16))
    torch.testing.assert_close(longitude[:, 3].std(), torch.tensor(0.0))


def test_euclidean_grids_stand_at_quantiles():
    decode = Recorder(4, 4)
    (axes,) = panels(plots.decoded_grid(Euclidean(2), decode, (4, 4), size=10))
    probability = torch.special.ndtr(decode.points).reshape(10, 10, 2)
    torch.testing.assert_close(probability[0, :, 0], torch.linspace(0.05, 0.95, 10))
    torch.testing.assert_close(probability[:, 0, 1], torch.linspace(0.95, 0.05, 10))
    assert axes.get_xticks()[2] == pytest.approx(0.5)
    figure = plots.decoded_grid(Euclidean(3), decode, (4, 4), size=5)
    heights = decode.points.reshape(3, 25, 3)[:, 0, 2]
    torch.testing.assert_close(torch.special.ndtr(heights), torch.tensor([1 / 6, 1 / 2, 5 / 6]))
    titles = [axes.get_title(loc="left") for axes in panels(figure)]
    assert titles == ["z₃ = −0.97", "z₃ = 0", "z₃ = 0.97"]
    clims = {axes.images[0].get_clim() for axes in panels(figure)}
    assert clims == {(0, 74)}


@pytest.mark.parametrize("manifold", [FlatTorus(4), Sphere(3), Euclidean(6)], ids=lambda m: m.spec)
def test_slices_are_named(manifold):
    figure = plots.decoded_grid(manifold, Recorder(4, 4), (4, 4), size=4)
    assert "slice" in texts(figure)[1] and "at 0" in texts(figure)[1]


def test_digits_are_ink_on_white_and_colours_stay():
    M = FlatTorus(1)
    figure = plots.decoded_grid(M, lambda z: torch.sigmoid(9 * z[:, :1, None]), (1, 1), size=9)
    image = panels(figure)[0].images[0]
    assert image.get_cmap().name == "gray_r"
    figure = plots.decoded_grid(M, lambda z: torch.full((len(z), 3, 2, 2), 0.25), (3, 2, 2))
    pixels = panels(figure)[0].images[0].get_array()
    assert pixels.shape[-1] == 3 and set(np.unique(pixels)) == {0.25, 1.0}


def test_few_features_over_the_circle_are_tuning_curves():
    def decode(z):
        return torch.stack([z[:, 0], z[:, 1]], -1)

    (axes,) = panels(plots.decoded_grid(FlatTorus(1), decode, (2,), dtype=torch.float64))
    assert len(axes.lines) == 2
    for line, function in zip(
        sorted(axes.lines, key=lambda line: line.get_ydata().argmax()),
        (np.cos, np.sin),
        strict=True,
    ):
        np.testing.assert_allclose(line.get_ydata(), function(line.get_xdata()), atol=1e-9)
    assert {text.get_text() for text in axes.texts} == {"0", "1"}


def test_many_features_over_the_circle_are_also_a_heat_map_in_order_of_peaks():
    M = FlatTorus(1)
    peaks = torch.rand(40, generator=torch.Generator().manual_seed(0)) * 6.28 - 3.14

    def decode(z):
        return z @ M.from_angles(peaks[:, None]).T

    lines, heat = panels(plots.decoded_grid(M, decode, (40,)))
    assert len(lines.lines) == 40
    found = heat.images[0].get_array().argmax(1)
    assert heat.images[0].get_array().shape == (40, 180) and (np.diff(found) >= 0).all()


def test_features_over_two_dimensions_are_maps_of_those_that_vary_most():
    M, scale = FlatTorus(2), torch.ones(30)
    scale[5:12] = 0.1

    def decode(z):
        return z[:, :1] * scale

    figure = plots.decoded_grid(M, decode, (30,), size=12)
    maps = panels(figure)
    assert len(maps) == 16 and len({axes.images[0].get_clim() for axes in maps}) == 1
    assert "16 of 30 features, those that vary most" in texts(figure)
    names = [axes.get_title(loc="left") for axes in maps]
    assert names[:6] == [f"feature {k}" for k in (0, 1, 2, 3, 4, 12)]
    expected = np.cos(charts.cells(12, -math.pi, math.pi).numpy())
    np.testing.assert_allclose(maps[0].images[0].get_array()[7], expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (1, 3, 3), (3, 3, 3), (1,), (20,)])
@pytest.mark.parametrize("manifold", [FlatTorus(1), FlatTorus(2)], ids=lambda m: m.spec)
def test_a_decoder_that_ignores_its_input_is_drawn(manifold, shape):
    figure = plots.decoded_grid(
        manifold, lambda z: torch.full((len(z), *shape), 2.0), shape, size=4
    )
    render(figure)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (2, 2), "size": 0}, "size = 0"),
        ({"image_shape": (2, 4, 4)}, r"image_shape = \(2, 4, 4\); expected \(height, width\)"),
        ({"image_shape": ()}, r"image_shape = \(\)"),
        ({"image_shape": (0,)}, r"image_shape = \(0,\)"),
        ({"image_shape": (1, 1, 2, 2)}, r"image_shape = \(1, 1, 2, 2\)"),
        ({"image_shape": (5, 5), "size": 3}, r"shape \(9, 2, 2\) for 9.*\(9, 5, 5\)"),
        (
            {
                "image_shape": (2, 2),
                "size": 3,
                "decode": lambda z: torch.full((len(z), 2, 2), math.nan),
            },
            "36 entries of 36",
        ),
    ],
)
def test_bad_grids_are_refused(options, message):
    arguments = {"decode": Recorder(2, 2)} | options
    with pytest.raises(ValueError, match=message):
        plots.decoded_grid(FlatTorus(2), **arguments)


# ---- images -------------------------------------------------------------------------------------


def middles(axes, rows: int, columns: int) -> np.ndarray:
    pixels = np.ma.filled(axes.images[0].get_array(), np.nan)
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    return pixels[height // 2 :: height, width // 2 :: width]


@pytest.mark.parametrize("channels", [(), (1,)])
def test_reconstructions_stand_below_their_originals(channels):
    values = torch.linspace(0, 1, 20)
    before = values.reshape(-1, *[1] * len(channels), 1, 1).expand(-1, *channels, 6, 6)
    figure = plots.reconstructions(
        before, 1 - before, count=15, labels=list("abcdefghijklmnopqrst")
    )
    first, second = panels(figure)
    assert [label.get_text() for label in first.get_yticklabels()] == ["original", "reconstruction"]
    np.testing.assert_allclose(middles(first, 2, 12)[0], values[:12])
    np.testing.assert_allclose(middles(first, 2, 12)[1], 1 - values[:12])
    np.testing.assert_allclose(middles(second, 2, 12)[0, :3], values[12:15])
    assert np.isnan(middles(second, 2, 12)[0, 3:]).all()
    assert [text.get_text() for text in second.texts] == ["m", "n", "o"]
    assert first.images[0].get_clim() == second.images[0].get_clim()
    render(figure)


def test_what_is_missing_of_originals_is_left_blank():
    rows = np.arange(12.0).reshape(2, 6)
    holed = np.where(np.arange(6) == 2, np.nan, rows)
    figure = plots.reconstructions(holed, rows, gaps=True)
    original, rebuilt = panels(figure)[0].lines
    assert np.isnan(original.get_ydata()[2])
    assert np.isfinite(rebuilt.get_ydata()).all()
    pictures = np.where(np.arange(4) == 1, np.nan, np.full((3, 4, 4), 0.5))
    assert plots.reconstructions(pictures, np.full((3, 4, 4), 0.5), gaps=True)
    with pytest.raises(ValueError, match="2 entries of 12 that are not finite"):
        plots.reconstructions(holed, rows)
    with pytest.raises(ValueError, match="1 entries of 12 that are not finite"):
        plots.reconstructions(np.where(rows == 3, np.inf, holed), rows, gaps=True)
    with pytest.raises(ValueError, match="reconstructions has 2 entries"):
        plots.reconstructions(rows, holed, gaps=True)


def test_features_and_their_reconstructions_are_overlaid_lines():
    before = torch.rand(9, 30, generator=torch.Generator().manual_seed(0))
    figure = plots.reconstructions(before, before + 1, count=6)
    assert len(panels(figure)) == 6
    for k, axes in enumerate(panels(figure)):
        np.testing.assert_allclose(axes.lines[0].get_ydata(), before[k])
        np.testing.assert_allclose(axes.lines[1].get_ydata(), before[k] + 1)
    assert len({axes.get_ylim() for axes in panels(figure)}) == 1
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["original", "reconstruction"]
    render(figure)


def test_samples_fill_rows_and_leave_the_rest_white():
    figure = plots.samples(torch.arange(10.0).reshape(-1, 1, 1).expand(-1, 5, 5), columns=4)
    shown = middles(panels(figure)[0], 3, 4)
    np.testing.assert_array_equal(shown.ravel()[:10], np.arange(10))
    assert np.isnan(shown.ravel()[10:]).all()


def test_samples_of_features_are_rows_of_a_heat_map():
    rows = torch.rand(12, 7)
    (axes,) = panels(plots.samples(rows))
    np.testing.assert_allclose(axes.images[0].get_array(), rows)


def test_colours_out_of_range_are_scaled_together():
    images = mosaic.channels_last(np.linspace(-2, 2, 24).reshape(2, 3, 2, 2))
    assert images.shape == (2, 2, 2, 3) and images.min() == 0 and images.max() == 1
    figure = plots.samples(torch.rand(5, 3, 4, 4))
    render(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.samples(torch.zeros(4)), r"images has shape \(4,\)"),
        (lambda: plots.samples(torch.zeros(4, 2, 3, 3)), r"images has shape \(4, 2, 3, 3\)"),
        (lambda: plots.samples(torch.zeros(0, 3, 3)), r"images has shape \(0, 3, 3\)"),
        (lambda: plots.samples(torch.full((2, 3, 3), math.inf)), "images has 18 entries"),
        (lambda: plots.samples(torch.zeros(2, 3, 3), columns=0), "columns = 0"),
        (
            lambda: plots.reconstructions(torch.zeros(4, 3, 3), torch.zeros(4, 2, 2)),
            r"reconstructions has shape \(4, 2, 2\); expected that of originals, \(4, 3, 3\)",
        ),
        (
            lambda: plots.reconstructions(torch.zeros(4, 3), torch.zeros(4, 3), count=0),
            "count = 0",
        ),
        (
            lambda: plots.reconstructions(torch.zeros(4, 3), torch.zeros(4, 3), labels=[1, 2]),
            "labels has length 2; expected one for each of 4",
        ),
    ],
)
def test_bad_images_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- training curves ----------------------------------------------------------------------------


def run(epochs: int = 60) -> dict[str, np.ndarray]:
    epoch = np.arange(1, epochs + 1)
    return {
        "epoch": epoch,
        "elbo": -740 - 9000 * np.exp(-epoch / 1.5) - 20 / epoch,
        "kl": 5 + np.exp(-epoch / 5),
        "mse": 0.03 + 0.1 / epoch**3,
        "mean_log_time": -4 - np.tanh(epoch / 30),
    }


def test_curves_show_every_column_with_test_beside_training():
    metrics = run() | {"test_elbo": run()["elbo"] - 1}
    figure = plots.curves(metrics)
    assert [axes.get_label() for axes in figure.axes] == list(history.PANELS)
    for axes in figure.axes:
        name = axes.get_label()
        assert len(axes.lines) == (2 if name == "elbo" else 1)
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), metrics[name])
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), metrics["epoch"])
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["training", "test"]
    render(figure)


def test_first_epochs_do_not_flatten_the_rest():
    axes = plots.curves(run()).axes
    low, high = axes[0].get_ylim()
    assert -770 < low < -741 and -741 < high < -735
    assert axes[0].texts[0].get_text().endswith("epochs off the scale")
    assert not axes[3].texts
    low, high = axes[3].get_ylim()
    assert low < -4.96 and high > -4.04


def test_curves_read_text_and_bridge_gaps():
    metrics = {
        "epoch": ["1", "2", "3"],
        "elbo": ["-9.0", "", "nan"],
        "kl": [None, 2.0, math.inf],
        "mse": ["", "", ""],
    }
    elbo, kl, mse, mean_log_time = plots.curves(metrics).axes
    assert elbo.lines[0].get_xydata().tolist() == [[1, -9]]
    assert elbo.lines[0].get_marker() == "o"
    assert kl.lines[0].get_xydata().tolist() == [[2, 2]]
    assert mse.texts[0].get_text() == mean_log_time.texts[0].get_text() == "not recorded"
    render(plots.curves(metrics))
    render(plots.curves({"epoch": [], "elbo": []}))
    render(plots.curves({"epoch": range(30), "kl": [1.0] * 29 + [9.0]}))


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"elbo": [1.0]}, r"columns \['elbo'\]; expected 'epoch'"),
        ({"epoch": [1], "seconds": [1.0]}, r"columns \['epoch', 'seconds'\]; expected some of"),
        ({"epoch": [1, 2], "kl": [1.0]}, r"metrics\['kl'\] has length 1; expected 2"),
        ({"epoch": [1], "kl": ["one"]}, r"metrics\['kl'\]\[0\] = 'one'; expected a number"),
        ({"epoch": [1, ""], "kl": [1, 2]}, r"metrics\['epoch'\] = \[1, ''\]"),
    ],
)
def test_bad_metrics_are_refused(metrics, message):
    with pytest.raises(ValueError, match=message):
        plots.curves(metrics)


# ---- files --------------------------------------------------------------------------------------


def test_save_writes_png_of_the_figures_size_and_makes_folders(tmp_path):
    figure = plots.curves(run(3))
    path = plots.save(figure, tmp_path / "figures" / "curves.png")
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(data[k : k + 4], "big") for k in (16, 20))
    assert (width, height) == tuple(round(150 * side) for side in figure.get_size_inches())
    assert plots.save(plots.curves(run(3)), tmp_path / "again.png").read_bytes() == data


def test_a_save_that_fails_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def fail(self, file, **kwargs):
        assert path.read_bytes() == b"old" and file != path
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="no space"):
        plots.save(Figure(), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["picture.png"]
    assert path.read_bytes() == b"old"


def test_save_takes_png_alone(tmp_path):
    with pytest.raises(ValueError, match=r"picture\.pdf.*'\.png'"):
        plots.save(Figure(), tmp_path / "picture.pdf")


def test_pictures_need_no_pyplot():
    for path in Path(plots.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            modules = [getattr(node, "module", None) or "", *names]
            assert not any("pyplot" in module or "pylab" in module for module in modules), path


def test_markers_are_enough():
    assert len(set(MARKERS)) * len(set(PALETTE)) == 50
