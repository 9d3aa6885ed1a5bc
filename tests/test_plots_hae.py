"""Pictures of homomorphism autoencoders show what they were given, and refuse what they cannot."""

import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from manifold_ae import plots
from manifold_ae.data.worlds import Pictures
from manifold_ae.groups import SO3, Affine, Sum, Torus, irrep
from manifold_ae.plots.colours import DIVERGING, PALETTE, cyclic_colours
from manifold_ae.plots.style import in_pi


def panels(figure) -> list:
    """Axes other than keys and scales."""
    return [axes for axes in figure.axes if axes.get_label() not in ("key", "scale")]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def offsets(axes) -> np.ndarray:
    return np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections])


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.round(6).T)]


def render(figure) -> None:
    figure.savefig(io.BytesIO(), format="png", dpi=30)


def middles(axes, columns: int) -> np.ndarray:
    """The middle pixel of every tile of a row."""
    pixels = np.ma.filled(axes.images[0].get_array(), np.nan)
    width = pixels.shape[1] // columns
    return pixels[pixels.shape[0] // 2, width // 2 :: width]


@pytest.fixture
def translated(dtype, generator):
    """Fourier coefficients of a translated picture, and its translations in radians."""
    world = Pictures(size=8)
    states = world.random_states(150, generator=generator, dtype=dtype)
    return world.fourier_encoder()(world.render(states)), world.labels(states), world.waves


# ---- planes -------------------------------------------------------------------------------------


def test_a_plane_shows_a_circle_in_the_colours_of_the_factor_it_follows(translated):
    z, labels, waves = translated
    figure = plots.planes(z, labels, names=("down", "right"))
    grid = np.array(panels(figure), dtype=object).reshape(2, 2)
    for row, wave in enumerate(waves):
        plane = z[:, 2 * row : 2 * row + 2].double().numpy()
        for column, axes in enumerate(grid[row]):
            np.testing.assert_allclose(in_order(offsets(axes)), in_order(plane), atol=1e-6)
            shown = offsets(axes)
            np.testing.assert_allclose(np.linalg.norm(shown, axis=1), 1, atol=1e-4)
            found = axes.collections[0].get_facecolors()[:, :3]
            own = cyclic_colours(np.arctan2(shown[:, 1], shown[:, 0]))
            gap = np.abs(found - own).mean()
            assert (gap < 1e-3) if wave[column] else (gap > 0.1)
    assert [axes.get_title(loc="left") for axes in grid[0]] == [
        "coloured by down", "coloured by right",
    ]  # fmt: skip
    assert [axes.get_ylabel() for axes in grid[:, 0]] == ["z₂", "z₄"]
    assert sum(axes.get_label() == "key" for axes in figure.axes) == 1
    render(figure)


def test_planes_are_square_and_have_one_scale_about_the_origin():
    z = torch.randn(50, 6) * torch.tensor([1.0, 1, 0.1, 0.1, 0, 0])
    figure = plots.planes(z)
    assert len(panels(figure)) == 3
    for axes in panels(figure):
        box = axes.get_position()
        width, height = figure.get_size_inches()
        assert box.width * width == pytest.approx(box.height * height)
        assert axes.get_aspect() == 1
        low, high = axes.get_xlim()
        assert low == -high and axes.get_ylim() == (low, high) == panels(figure)[0].get_xlim()
        assert z.abs().max() < high < 1.2 * z.abs().max()
    render(figure)


def test_blocks_of_three_are_seen_along_three_axes_and_larger_ones_on_principal_axes(generator):
    z = torch.randn(200, 9, generator=generator)
    z[:, 3:8] *= torch.tensor([0.1, 3, 0.1, 2, 0.1])
    figure = plots.planes(z, blocks=(3, 5, 1))
    shown = panels(figure)
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in shown[:3]] == [
        ("z₁", "z₂"), ("z₁", "z₃"), ("z₂", "z₃"),
    ]  # fmt: skip
    energy = np.linalg.eigvalsh(np.cov(z[:, 3:8].T.double()))[::-1]
    first, second = energy[:2] / energy.sum()
    assert shown[3].get_xlabel() == f"first axis of z₄ … z₈, {first:.0%}"
    assert shown[3].get_ylabel() == f"second axis, {second:.0%}"
    np.testing.assert_allclose(np.cov(offsets(shown[3]).T), np.diag(energy[:2]), atol=1e-5)
    assert shown[4].get_xlabel() == "z₉" and shown[4].get_ylabel() == ""
    np.testing.assert_allclose(np.sort(offsets(shown[4])[:, 0]), np.sort(z[:, 8]), atol=1e-6)
    render(figure)


def test_of_many_planes_those_are_shown_that_vary_most():
    z = torch.randn(40, 24) * torch.arange(12).flip(0).repeat_interleave(2)
    figure = plots.planes(z, torch.arange(40) % 3)
    assert [axes.get_xlabel() for axes in panels(figure)][:2] == ["z₁", "z₃"]
    assert len(panels(figure)) == 8
    assert "8 of 12 planes, those that vary most" in texts(figure)
    assert len(figure.legends) == 1


@pytest.mark.parametrize("blocks", [None, (4,), (1, 3), (2, 1, 1)])
@pytest.mark.parametrize("z", [torch.zeros(5, 4), torch.ones(1, 4)], ids=["collapsed", "single"])
def test_collapsed_and_single_latents_are_drawn(z, blocks):
    render(plots.planes(z, torch.zeros(len(z)), blocks=blocks))


@pytest.mark.parametrize(
    ("latents", "options", "message"),
    [
        (torch.zeros(4), {}, r"latents has shape \(4,\); expected \(n, size\)"),
        (torch.zeros(0, 4), {}, r"latents has shape \(0, 4\)"),
        (torch.full((3, 2), math.nan), {}, r"latents has 6 entries of 6.*encoder"),
        (torch.ones(3, 4), {"blocks": (2, 1)}, r"blocks = \[2, 1\].*add up to 4.*both"),
        (torch.ones(3, 4), {"blocks": (4, 0)}, r"blocks = \[4, 0\]"),
        (torch.ones(3, 4), {"labels": torch.ones(2, 2)}, r"labels has shape \(2, 2\).*3 latents"),
        (torch.ones(3, 4), {"labels": torch.ones(3, 2).int()}, r"dtype int32.*floats \(3, factors"),
        (torch.ones(3, 4), {"labels": torch.ones(3, 0)}, r"labels has shape \(3, 0\)"),
        (torch.ones(3, 4), {"labels": torch.full((3, 1), math.inf)}, r"labels has 3 entries"),
        (torch.ones(3, 4), {"names": ["x"]}, r"names = \['x'\] without labels"),
        (torch.ones(3, 4), {"labels": torch.ones(3, 2), "names": "x"}, r"names.*each of 2 factor"),
    ],
)
def test_bad_latents_are_refused(latents, options, message):
    with pytest.raises(ValueError, match=message):
        plots.planes(latents, options.pop("labels", None), **options)


# ---- representations along a path ---------------------------------------------------------------


def test_a_path_shows_its_matrices_and_the_entries_that_move(dtype):
    rho = Sum(irrep(Torus(2), (1, 0)), irrep(Torus(2), (2, 1)), irrep(Torus(2), (0, 1)))
    s = torch.linspace(0, 2 * math.pi, 97, dtype=dtype)
    figure = plots.representation_path(rho(s[:, None] * torch.tensor([1.0, 0.0], dtype=dtype)), s)
    *maps, curves = panels(figure)
    assert [axes.get_title(loc="left") for axes in maps] == [
        "s = 0", "π/3", "2π/3", "π", "4π/3", "5π/3", "2π",
    ]  # fmt: skip
    for k, axes in enumerate(maps):
        expected = rho(torch.tensor([k * math.pi / 3, 0.0], dtype=torch.float64))
        np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-5)
        assert axes.images[0].get_clim() == pytest.approx((-1, 1), abs=1e-6)
        assert axes.images[0].get_cmap() == DIVERGING
    found = [text.get_text() for text in figure.legends[0].get_texts()]
    entries = ["ρ₁₁, ρ₂₂", "ρ₁₂", "ρ₂₁", "ρ₃₃, ρ₄₄", "ρ₃₄", "ρ₄₃"]
    assert sorted(found) == sorted(entries)
    functions = (np.cos, lambda x: -np.sin(x), np.sin)
    for k, name in enumerate(entries):
        line = curves.lines[found.index(name)]
        expected = functions[k % 3]((1 + k // 3) * s.numpy())
        np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-5)
        assert line.get_color() == PALETTE[found.index(name)]
    assert "28 of 36 entries stand still and have no curve" in texts(figure)
    labels = [label.get_text() for label in curves.get_xticklabels()]
    assert labels == ["0", "π/2", "π", "3π/2", "2π"]
    assert sum(axes.get_label() == "scale" for axes in figure.axes) == 1
    render(figure)


def test_entries_beyond_one_widen_the_scale_and_short_paths_have_plain_numbers():
    s = torch.linspace(0, 1, 30)
    direction = torch.tensor([0.5, -1, 1, 0.2, 1, 3])
    group = Affine(2)
    matrices = group.matrix(group.exp(s[:, None] * direction))
    figure = plots.representation_path(matrices, s, names=("x", "y", "1"))
    *maps, curves = panels(figure)
    limit = float(matrices.abs().max())
    assert limit > 1 and maps[0].images[0].get_clim() == pytest.approx((-limit, limit))
    assert [label.get_text() for label in maps[0].get_yticklabels()] == ["x", "y", "1"]
    assert (
        maps[-1].get_title(loc="left") == "1" and "π" not in curves.get_xticklabels()[-1].get_text()
    )
    low, high = curves.get_ylim()
    assert low < matrices.min() and high > matrices.max()


def test_of_many_curves_those_are_shown_that_move_most(generator):
    Q = torch.linalg.qr(torch.randn(5, 5, generator=generator))[0]
    s = torch.linspace(0, 6, 40)
    matrices = Q @ irrep(SO3(), 2)(s[:, None] * torch.eye(3)[2]) @ Q.mT
    figure = plots.representation_path(matrices, s)
    assert "10 of 25 curves, those that move most" in texts(figure)
    moves = [np.ptp(line.get_ydata()) for line in panels(figure)[-1].lines[:10]]
    assert moves == sorted(moves, reverse=True)


@pytest.mark.parametrize("n", [1, 2, 12])
def test_a_path_that_stands_still_is_drawn(n):
    figure = plots.representation_path(torch.eye(n).expand(2, n, n), [0.0, 1.0])
    assert not figure.legends and len(panels(figure)) == 3
    render(figure)


@pytest.mark.parametrize(
    ("matrices", "parameter", "names", "message"),
    [
        (torch.ones(3, 2), range(3), None, r"matrices has shape \(3, 2\); expected \(k, n, n\)"),
        (torch.ones(3, 2, 3), range(3), None, r"matrices has shape \(3, 2, 3\)"),
        (torch.ones(1, 2, 2), [0], None, r"matrices has shape \(1, 2, 2\).*at least 2"),
        (torch.full((3, 2, 2), math.nan), range(3), None, "12 entries of 12.*representation"),
        (torch.ones(3, 2, 2), range(4), None, r"parameter has shape \(4,\); expected \(3,\)"),
        (torch.ones(3, 2, 2), [0, 2, 1], None, "from 2 to 1 at index 2"),
        (torch.ones(3, 2, 2), [0, math.nan, 1], None, "parameter has 1 entries of 3"),
        (torch.ones(3, 2, 2), range(3), ["a"], r"names = \['a'\]; expected 2"),
    ],
)
def test_bad_paths_are_refused(matrices, parameter, names, message):
    with pytest.raises(ValueError, match=message):
        plots.representation_path(matrices, list(parameter), names=names)


# ---- strips and traversals ----------------------------------------------------------------------


def tiles(values) -> torch.Tensor:
    return torch.as_tensor(values)[:, None, None].expand(-1, 4, 4)


def test_rows_of_strips_stand_one_below_the_other_under_their_steps():
    true = torch.linspace(0, 1, 4)
    rows = [tiles(true), tiles(true / 2), tiles(true / 2)]
    figure = plots.strips(rows, ["true", "predicted", "difference"], columns=[0, 1, 2, 4])
    shown = panels(figure)
    assert [axes.get_yticklabels()[0].get_text() for axes in shown] == [
        "true", "predicted", "difference",
    ]  # fmt: skip
    for axes, row in zip(shown, rows, strict=True):
        np.testing.assert_allclose(middles(axes, 4), row[:, 0, 0])
    assert shown[0].images[0].get_clim() == shown[1].images[0].get_clim() == (0, 1)
    assert shown[2].images[0].get_clim() == (-0.5, 0.5)
    assert texts(figure) == ["Difference: from −0.5 to 0.5", "t = 0", "1", "2", "4"]
    tops = [axes.get_position().y1 for axes in shown]
    assert tops == sorted(tops, reverse=True)
    render(figure)


def test_traces_are_set_apart():
    row = tiles([0.0, 1.0])
    shown = panels(plots.strips([[row, row], [row, 1 - row]], ["true", "predicted"]))
    boxes = [axes.get_position() for axes in shown]
    gaps = [a.y0 - b.y1 for a, b in pairwise(boxes)]
    assert gaps == pytest.approx([0, gaps[1], 0], abs=1e-9) and gaps[1] > 0.01
    np.testing.assert_allclose(middles(shown[3], 2), [1, 0])


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_colours_come_first_or_last_and_their_differences_about_grey(last):
    images = torch.rand(3, 3, 5, 5)
    difference = torch.zeros(3, 3, 5, 5)
    difference[0, 0] = 0.25
    rows = [rows.movedim(1, -1) if last else rows for rows in (images, difference)]
    true, apart = panels(plots.strips(rows, ["true", "difference"]))
    np.testing.assert_allclose(middles(true, 3), images[:, :, 2, 2], atol=1e-6)
    np.testing.assert_allclose(middles(apart, 3)[0], [1, 0.5, 0.5])
    np.testing.assert_allclose(middles(apart, 3)[1], 0.5)


def test_small_differences_stay_pale():
    rows = [tiles([0.0, 1.0]), tiles([1e-6, -1e-6])]
    figure = plots.strips(rows, ["true", "error"], signed=["error"])
    assert panels(figure)[1].images[0].get_clim() == (-0.1, 0.1)
    assert texts(figure) == ["Error: from −0.1 to 0.1"]


def test_features_are_lines_from_left_to_right():
    rows = torch.randn(2, 3, 10)
    shown = panels(plots.strips(list(rows), ["true", "predicted"], columns=["a", "b", "c"]))
    for axes, row in zip(shown, rows, strict=True):
        lines = [line for line in axes.lines if len(line.get_ydata()) == 10]
        for k, line in enumerate(lines):
            np.testing.assert_allclose(line.get_ydata(), row[k])
            assert (np.floor(line.get_xdata()) == k).all()
    assert shown[0].get_ylim() == shown[1].get_ylim()


def test_steps_are_left_out_where_there_is_no_room():
    figure = plots.strips([tiles(torch.rand(60))], ["true"], columns=range(60))
    assert texts(figure)[:2] == ["t = 0", "5"]
    render(figure)


def test_traversals_name_directions_and_amounts():
    s = torch.linspace(-math.pi, math.pi, 5)
    images = torch.rand(2, 5, 1, 4, 4)
    figure = plots.traversals(images, s, ["x", "y"], title="t")
    assert texts(figure) == ["t", "−π", "−π/2", "0", "π/2", "π"]
    for k, axes in enumerate(panels(figure)):
        assert axes.get_yticklabels()[0].get_text() == "xy"[k]
        np.testing.assert_allclose(middles(axes, 5), images[k, :, 0, 2, 2])
    assert panels(figure)[0].images[0].get_clim() == panels(figure)[1].images[0].get_clim()
    render(figure)


IMAGES = torch.rand(3, 4, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.strips([IMAGES], []), r"names = \[\] for 1 rows"),
        (lambda: plots.strips([], []), r"names = \[\] for 0 rows"),
        (lambda: plots.strips([[IMAGES], [IMAGES] * 2], ["a"]), "for 2 rows; expected a name"),
        (lambda: plots.strips([IMAGES, IMAGES[:2]], "ab"), r"row 'b' has shape \(2, 4, 4\)"),
        (lambda: plots.strips([IMAGES[0, 0]], "a"), r"row 'a' has shape \(4,\); expected images"),
        (lambda: plots.strips([torch.ones(2, 2, 4, 4)], "a"), r"row 'a' has shape \(2, 2, 4, 4\)"),
        (lambda: plots.strips([IMAGES * math.nan], "a"), "row 'a' has 48 entries.*model"),
        (lambda: plots.strips([IMAGES], "a", columns=[1]), "columns has length 1.*each of 3"),
        (lambda: plots.traversals(IMAGES[0], range(4), "a"), r"images has shape \(4, 4\)"),
        (lambda: plots.traversals(IMAGES[None], [1.0], "a"), r"amounts has shape \(1,\)"),
        (lambda: plots.traversals(IMAGES[None], [0, 1, math.nan], "a"), "amounts has 1 entries"),
        (lambda: plots.traversals(IMAGES[None], range(3), "ab"), "names.*each of 1 rows"),
    ],
)
def test_bad_strips_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("angle", "text"),
    [(0, "0"), (math.pi, "π"), (-math.pi / 2, "−π/2"), (2.0944, "2π/3"), (-7 * math.pi, "−7π"),
     (math.pi / 5, "0.20π"), (-1.0, "−0.32π"), (math.pi / 12, "π/12")],
)  # fmt: skip
def test_angles_are_written_in_units_of_pi(angle, text):
    assert in_pi(angle) == text


# ---- errors of rollouts -------------------------------------------------------------------------


def test_rollout_errors_are_medians_with_bands_on_logarithmic_scales():
    horizons = [1, 2, 4, 8]
    own = 1e-3 * np.exp(np.random.default_rng(0).normal(size=(5, 4)))
    figure = plots.rollout_errors(horizons, {"own": own, "copying": np.full(4, 0.1)})
    (axes,) = panels(figure)
    assert axes.get_xscale() == axes.get_yscale() == "log"
    first, second = axes.lines[:2]
    np.testing.assert_allclose(first.get_ydata(), np.median(own, 0))
    np.testing.assert_allclose(second.get_ydata(), 0.1)
    assert to_rgb(first.get_color()) == to_rgb(PALETTE[0]) != to_rgb(second.get_color())
    (band,) = axes.collections
    edges = band.get_paths()[0].vertices
    for k, horizon in enumerate(horizons):
        there = edges[np.isclose(edges[:, 0], horizon), 1]
        assert there.min() == pytest.approx(own[:, k].min())
        assert there.max() == pytest.approx(own[:, k].max())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "8"]
    assert "medians of 5 seeds" in texts(figure)[1]
    render(figure)


def test_names_stand_at_the_ends_of_lines_and_apart():
    errors = {f"model {k}": [1e-3, 1e-3 * (1 + 1e-3 * k)] for k in range(6)} | {"far": [1, 1]}
    figure = plots.rollout_errors([1, 128], errors)
    (axes,) = panels(figure)
    places = {text.get_text(): text.get_position()[1] for text in axes.texts}
    near = [places[f"model {k}"] for k in range(6)]
    inches = figure.get_size_inches()[1] * axes.get_position().height
    assert (np.diff(near) * inches > 0.18).all()
    end = axes.transAxes.inverted().transform(axes.transData.transform((128, 1e-3)))[1]
    assert np.mean(near) == pytest.approx(end, abs=0.01)
    assert places["far"] > 0.9
    render(figure)


@pytest.mark.parametrize(
    ("horizons", "errors", "message"),
    [
        ([], {"a": []}, r"horizons has shape \(0,\)"),
        ([1, 1], {"a": [1, 1]}, r"horizons = \[1, 1\]; expected increasing"),
        ([0, 1], {"a": [1, 1]}, r"horizons = \[0, 1\]"),
        ([1, 2], {}, "errors has 0 names"),
        ([1, 2], {str(k): [1, 1] for k in range(11)}, "errors has 11 names.*several figures"),
        ([1, 2], {"a": [1, 1, 1]}, r"errors\['a'\] has shape \(3,\); expected \(2,\)"),
        ([1, 2], {"a": np.ones((0, 2))}, r"errors\['a'\] has shape \(0, 2\)"),
        ([1, 2], {"a": [1, math.nan]}, r"errors\['a'\] has 1 entries of 2"),
        ([1, 2], {"a": [1, None]}, r"errors\['a'\] has 1 entries of 2"),
        ([1, 2], {"a": [1, 0]}, r"errors\['a'\] holds 0; a logarithmic scale"),
    ],
)
def test_bad_errors_are_refused(horizons, errors, message):
    with pytest.raises(ValueError, match=message):
        plots.rollout_errors(horizons, errors)
