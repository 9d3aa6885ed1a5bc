"""Periodic pictures: the Fourier route against the cosine formula, and what translation means."""

import itertools
import math

import pytest
import torch

from manifold_ae.data import PeriodicPicture, load

SHIFTS = torch.tensor(
    [[0.0, 0.0], [0.3, -1.7], [2.9, 3.1], [math.pi, -math.pi], [6.2, 1e-3]], dtype=torch.float64
)
PICTURES = {
    "simple": PeriodicPicture.simple(size=16),
    "smooth": PeriodicPicture.fourier(order=2, discount=0.3, seed=1, size=16),
    "rough": PeriodicPicture.fourier(order=6, discount=0.9, seed=2, size=20),
}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def by_the_formula(picture, s, r):
    """pic(θ - s, φ - r) at the pixels, as a plain sum of cosines over the published series."""
    angles = torch.arange(picture.size, dtype=torch.float64) * 2 * math.pi / picture.size - math.pi
    theta, phi = torch.meshgrid(angles - s, angles - r, indexing="ij")
    total, order = torch.zeros_like(theta), picture.order
    for k, m in itertools.product(range(-order, order + 1), repeat=2):
        a = complex(picture.coefficients[k + order, m + order])
        wave = k * theta + m * phi
        weight = picture.discount ** (abs(k) + abs(m) - 1)
        total += weight * (a.real * torch.cos(wave) - a.imag * torch.sin(wave))
    return total


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", PICTURES)
def test_translation_is_the_formula_at_shifted_angles(name, dtype):
    picture = PICTURES[name]
    got = picture.translate(SHIFTS.to(dtype))
    expected = torch.stack([by_the_formula(picture, *s) for s in SHIFTS])
    assert got.dtype == dtype
    assert got.shape == (5, picture.size, picture.size)
    assert (got - expected).abs().max() < TOLERANCE[dtype]


def test_the_simple_picture_is_half_the_sum_of_two_cosines():
    shifts = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    x = PeriodicPicture.simple(size=64).translate(shifts)[0]
    theta = torch.arange(64, dtype=torch.float64)[:, None] * 2 * math.pi / 64 - math.pi
    phi = theta.T
    torch.testing.assert_close(x, ((theta - 0.5).cos() + (phi + 1.0).cos()) / 2)


@pytest.mark.parametrize("name", PICTURES)
def test_a_shift_by_whole_pixels_rolls_rows_by_the_first_and_columns_by_the_second(name):
    picture = PICTURES[name]
    pixel = 2 * math.pi / picture.size
    shifts = torch.tensor([[0.0, 0.0], [3 * pixel, -5 * pixel]], dtype=torch.float64)
    still, moved = picture.translate(shifts)
    torch.testing.assert_close(moved, still.roll((3, -5), dims=(0, 1)))
    assert not torch.allclose(moved, still.roll((-5, 3), dims=(0, 1)), atol=1e-3)


def test_translation_is_periodic_in_both_angles():
    picture = PICTURES["rough"]
    turn = torch.tensor([[2 * math.pi, -2 * math.pi]], dtype=torch.float64)
    torch.testing.assert_close(picture.translate(SHIFTS + turn), picture.translate(SHIFTS))


def test_the_orbit_of_the_simple_picture_is_isometric_to_the_flat_torus():
    # |x_s - x_s'|² = size² (2 - cos Δ₁ - cos Δ₂) / 4
    x = PeriodicPicture.simple(size=32).translate(SHIFTS)
    gap = SHIFTS[0] - SHIFTS[1]
    expected = 32**2 * (2 - gap.cos().sum()) / 4
    torch.testing.assert_close((x[0] - x[1]).square().sum(), expected)


@pytest.mark.parametrize(("order", "discount"), [(1, 1.0), (3, 0.3), (10, 0.9)])
def test_the_maximum_is_one_as_a_function_and_the_same_at_every_size(order, discount):
    pictures = [PeriodicPicture.fourier(order, discount, 5, size) for size in (32, 64, 600)]
    assert torch.equal(pictures[0].coefficients, pictures[2].coefficients)
    coarse, _, fine = (p.translate(torch.zeros(2, dtype=torch.float64)).abs() for p in pictures)
    assert coarse.max() <= 1 + 1e-12
    assert 1 - 5e-3 < fine.max() <= 1 + 1e-12


def test_pictures_are_values():
    same = [PeriodicPicture.fourier(seed=3) for _ in range(2)]
    assert same[0] == same[1]
    assert hash(same[0]) == hash(same[1])
    assert same[0] != PeriodicPicture.fourier(seed=4)
    assert same[0] != PeriodicPicture.fourier(seed=3, size=32)
    given = torch.zeros(3, 3, dtype=torch.complex128)
    given[2, 1] = 1
    picture = PeriodicPicture(given, size=8)
    given[2, 1] = 7
    assert picture.coefficients[2, 1] == 1
    assert repr(picture) == "PeriodicPicture(order=1, discount=1.0, size=8)"


def test_shifts_receive_gradients_even_after_a_call_in_inference_mode():
    picture = PeriodicPicture.fourier(order=2, size=11)
    with torch.inference_mode():
        picture.translate(torch.zeros(1, 2, dtype=torch.float64))
    shifts = SHIFTS[1:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(picture.translate, shifts)


def test_autocast_does_not_blur_pictures():
    picture, shifts = PICTURES["rough"], SHIFTS.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = picture.translate(shifts)
    assert torch.equal(inside, picture.translate(shifts))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PeriodicPicture.fourier(order=0), "order=0: expected an integer of at least 1"),
        (lambda: PeriodicPicture.fourier(discount=0.0), r"discount=0.0: .* in \(0, 1\]"),
        (lambda: PeriodicPicture.fourier(order=8, size=16), "size=16: expected at least 17 pixels"),
        (lambda: PeriodicPicture(torch.zeros(2, 2)), r"coefficients has shape \(2, 2\)"),
        (lambda: PeriodicPicture(torch.full((3, 3), math.nan)), "not finite"),
        (lambda: PICTURES["simple"].translate(torch.zeros(4, 3)), r"shape \(4, 3\): expected"),
        (lambda: PICTURES["simple"].translate(torch.zeros(4, 2).long()), "dtype torch.int64"),
    ],
)
def test_refusals_of_pictures(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def small(**options):
    return load("torus", size=8, **{"num_train": 400, "num_test": 50, **options})


def test_the_data_set_is_translations_by_its_labels():
    data = small(picture="fourier", order=2, discount=0.5, picture_seed=7)
    picture = PeriodicPicture.fourier(order=2, discount=0.5, seed=7, size=8)
    for x, labels in ((data.train, data.train_labels), (data.test, data.test_labels)):
        assert labels is not None
        torch.testing.assert_close(x, picture.translate(labels))
        assert labels.min() >= 0
        assert labels.max() < 2 * math.pi
    assert data.train_labels is not None
    # uniform: the mean of e^{is} is 0 ± 1/√400 a component
    assert torch.polar(torch.ones(400, 2), data.train_labels).mean(0).abs().max() < 0.2
    assert data.image_shape == (8, 8)
    assert data.value_range == (-1.0, 1.0)
    assert set(data.train_rows.tolist()).isdisjoint(data.test_rows.tolist())


def test_translations_are_drawn_by_the_seed_apart_for_training_and_test():
    data, again, other = small(), small(), small(seed=1)
    assert torch.equal(data.train, again.train)
    assert not torch.equal(data.train, other.train)
    assert not torch.equal(data.train[:50], data.test)


def test_fresh_translations_can_be_drawn_and_fixed_ones_cannot():
    data = small(translations="fresh")
    assert data.draw is not None
    x, labels = data.draw(3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(x, PeriodicPicture.simple(8).translate(labels))
    again, _ = data.draw(3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(x, again)
    assert data.draw(2, device="cpu")[0].shape == (2, 8, 8)
    assert small(translations="fixed").draw is None


def test_noise_has_the_standard_deviation_asked_for():
    data = small(noise=0.5)
    assert data.train_labels is not None
    residual = data.train - PeriodicPicture.simple(8).translate(data.train_labels)
    assert residual.std().item() == pytest.approx(0.5, rel=0.02)
    assert data.value_range is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"picture": "simpel"}, "picture='simpel': .*did you mean 'simple'"),
        ({"translations": "none"}, "translations='none': expected one of fresh, fixed"),
        ({"noise": -1.0}, "noise=-1.0: expected a standard deviation"),
        ({"noise": math.nan}, "noise=nan: expected a standard deviation"),
        ({"num_train": 0}, "num_train=0: expected an integer of at least 1"),
        ({"size": 2}, "size=2: expected at least 3 pixels"),
    ],
)
def test_refusals_of_the_data_set(options, message):
    with pytest.raises(ValueError, match=message):
        load("torus", **options)
