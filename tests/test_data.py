"""Data: the registry, arrays and what is refused of them, splits, scalings, batches."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from manifold_ae import data as d
from manifold_ae.data import base
from manifold_ae.data.seeding import mix
from manifold_ae.groups import SO3

# the registry


def test_digits_are_scikit_learns_in_two_disjoint_parts():
    from sklearn.datasets import load_digits

    digits = d.load("digits")
    pictures, classes = load_digits(return_X_y=True)
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    assert (digits.shape, digits.features, digits.image_shape) == ((8, 8), 64, (8, 8))
    assert digits.default_likelihood == "gaussian-learned"
    for x, rows, labels in (
        (digits.train, digits.train_rows, digits.train_labels),
        (digits.test, digits.test_rows, digits.test_labels),
    ):
        assert np.array_equal(x.flatten(1).numpy(), np.asarray(pictures)[rows])
        assert labels is not None
        assert np.array_equal(labels.numpy(), np.asarray(classes)[rows])
    rows = torch.cat((digits.train_rows, digits.test_rows))
    assert rows.sort().values.equal(torch.arange(1797))
    assert not torch.equal(digits.test_rows, d.load("digits", seed=1).test_rows)
    assert "train=(1438, 8, 8)" in repr(digits)


def test_every_name_has_a_line_and_options_of_its_own():
    assert {"digits", "mnist", "torus", "PATH.npy"} <= set(d.names())
    assert all(line and "\n" not in line for line in d.names().values())
    assert d.options("digits") == {}
    assert d.options("torus")["order"] == 3
    assert "data_dir" not in d.options("mnist")


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("mnits", {}, "data='mnits': expected one of digits, mixture, mnist.*did you mean 'mnist'"),
        ("MNIST", {}, "did you mean 'mnist'"),
        ("spikes.txt", {}, r"data='spikes.txt': .*PATH\.npy"),
        ("PATH.npy.gz", {}, "expected one of"),
        ("torus", {"ordr": 4}, "ordr=4: torus has no such option; it has picture, order.*'order'"),
        ("digits", {"noise": 1}, "noise=1: digits has no such option; it has none"),
        ("mnist", {"split": "blocks"}, "split='blocks': mnist has a test part of its own"),
        ("torus", {"test_fraction": 0.5}, "test_fraction=0.5: torus has a test part of its own"),
        ("digits", {"split": "block"}, "split='block': .*did you mean 'blocks'"),
        ("digits", {"test_fraction": 1.0}, "test_fraction=1.0: .* strictly between 0 and 1"),
    ],
)
def test_refusals_of_load(spec, options, message):
    with pytest.raises(ValueError, match=message):
        d.load(spec, **options)


def test_a_registered_loader_gets_what_it_asks_for(monkeypatch):
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    seen = {}

    @d.register("coins", "a test's own")
    def load_coins(*, seed, sides=2):
        seen.update(seed=seed, sides=sides)
        return d.from_array(np.eye(4))

    d.load("coins", seed=5, sides=6, data_dir="ignored")
    assert seen == {"seed": 5, "sides": 6}
    with pytest.raises(ValueError, match="registered already"):
        d.register("coins", "again")(load_coins)


def test_parts_that_do_not_fit_are_refused():
    x, rows = torch.zeros(3, 2), torch.arange(3)
    with pytest.raises(ValueError, match=r"train has dtype torch\.float64"):
        d.Dataset("a", x.double(), x, rows, rows)
    with pytest.raises(ValueError, match="test_rows has length 2: expected 3"):
        d.Dataset("a", x, x, rows, rows[:2])
    with pytest.raises(ValueError, match="train_labels has length 1: expected 3"):
        d.Dataset("a", x, x, rows, rows, train_labels=rows[:1])
    with pytest.raises(ValueError, match=r"shape \(1,\): expected \(2,\)"):
        d.Dataset("a", x, x[:, :1], rows, rows)


# arrays


def saved(folder, array, name="mine.npy"):
    np.save(folder / name, array)
    return folder / name


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "i2", ">i4", "i8", "u8", "f2", "f4", ">f4", "f8", "g"]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_real_type_comes_back_in_its_place(tmp_path, dtype, order):
    array = np.asarray(np.arange(60).reshape(10, 2, 3) % 7, dtype=dtype, order=order)
    data = d.load(saved(tmp_path, array))
    assert data.name == "mine"
    assert data.train.dtype == torch.float32
    assert data.train.shape == (8, 2, 3)
    for x, rows in ((data.train, data.train_rows), (data.test, data.test_rows)):
        assert np.array_equal(x.numpy(), array[rows].astype(np.float32))
    assert data.default_likelihood == ("bernoulli" if dtype == "?" else "gaussian-learned")


def test_large_arrays_are_read_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("manifold_ae.data.arrays._CHUNK", 7)
    array = np.random.default_rng(0).normal(size=(25, 3))
    data = d.load(saved(tmp_path, array), split="blocks")
    assert np.array_equal(data.test.numpy(), array[data.test_rows].astype(np.float32))
    array[17, 2] = np.nan
    with pytest.raises(ValueError, match="row 17, column 2"):
        d.load(saved(tmp_path, array))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int64])
def test_tensors_are_arrays_too(dtype):
    x = torch.arange(12).reshape(6, 2).to(dtype).requires_grad_(dtype.is_floating_point)
    data = d.from_array(x)
    assert torch.equal(data.train, x.detach().float()[data.train_rows])


def test_an_array_in_memory_is_copied():
    array = np.zeros((4, 2), np.float32)
    data = d.from_array(array)
    array[:] = 1
    assert data.train.sum() == 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([["a", "b"]] * 3), "elements of type <U1: expected real numbers"),
        (np.ones((3, 2), complex), "elements of type complex128"),
        (np.ones((3, 2), "M8[s]"), "elements of type datetime64"),
        (np.ones(3), r"shape \(3,\): expected \(n, features\) or .*reshape"),
        (np.ones((2, 2, 2, 2)), r"shape \(2, 2, 2, 2\)"),
        (np.ones(()), r"shape \(\)"),
        (np.ones((1, 5)), r"shape \(1, 5\), 1 row\(s\): expected at least 2"),
        (np.ones((0, 5)), r"0 row\(s\)"),
        (np.ones((5, 0)), "expected at least one feature"),
        (np.ones((5, 4, 0)), "expected at least one feature"),
        (np.array([[0, 1], [np.nan, np.inf], [-np.inf, 0]]), r"1 NaN, 2 infinite\).*row 1, column"),
        (np.array([[0, 1], [3, -1e39]]), r"1 beyond float32\), the first \(-1e\+39\) at row 1, "),
        (np.full((2, 2, 2), np.nan), r"8 NaN.*row 0, element \(0, 0\)"),
    ],
)
def test_arrays_that_cannot_be_trained_on_are_refused_from_file_and_memory(
    tmp_path, array, message
):
    with pytest.raises(ValueError, match=f"mine.npy .*{message}|mine has values .*{message}"):
        d.load(saved(tmp_path, array))
    with pytest.raises(ValueError, match=message):
        d.from_array(array)


def test_objects_are_refused_without_unpickling(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    np.save(tmp_path / "bomb.npy", np.array([[Bomb()]] * 3), allow_pickle=True)
    with pytest.raises(ValueError, match="elements of type object"):
        d.load(tmp_path / "bomb.npy")
    assert not (tmp_path / "exploded").exists()


def test_files_that_are_no_npy_files_are_refused(tmp_path):
    path = saved(tmp_path, np.ones((50, 2)))
    whole = path.read_bytes()

    def refused(content, message):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            d.load(path)

    refused(whole[:-1], "is truncated: .* makes 800 bytes, and 799 follow")
    refused(whole[:40], "header that cannot be read")
    refused(whole + b"\0", "goes on after its array")
    refused(b"", "no .npy file by its first bytes")
    refused(b"1.0,2.0\n", "no .npy file by its first bytes")
    refused(whole[:6] + b"\x09" + whole[7:], "header that cannot be read")
    # 8e18 bytes promised: refused by the file's length, before anything is allocated
    absurd = b"(1000000000, 1000000000), }"
    header = whole[:128].replace(b"(50, 2), }" + b" " * (len(absurd) - 10), absurd)
    refused(header + whole[128:], "is truncated: .* makes 8000000000000000000 bytes")
    np.savez(tmp_path / "archive.npz", np.ones((3, 2)))
    refused((tmp_path / "archive.npz").read_bytes(), "is an .npz archive")


def test_a_missing_file_offers_the_nearest(tmp_path):
    saved(tmp_path, np.ones((3, 2)), "spikes.npy")
    with pytest.raises(FileNotFoundError, match=r"spike\.npy does not exist.*'spikes\.npy'"):
        d.load(tmp_path / "spike.npy")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        d.load(tmp_path / "nowhere" / "spikes.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(FileNotFoundError, match="is a folder"):
        d.load(tmp_path / "folder.npy")


def test_counts_are_whole_and_not_negative():
    d.check_counts(torch.tensor([[0.0, 3.0], [1e6, 2.0]]))
    with pytest.raises(ValueError, match=r"x is negative \(-1\) at row 1, column 0, as 2 of its"):
        d.check_counts(torch.tensor([[0.0, 0.5], [-1.0, -2.0]]), "x")
    for bad in (0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"not a whole number .* at row 0, column 1"):
            d.check_counts(torch.tensor([[0.0, bad], [1.0, 2.0]]))


# splits


@pytest.mark.parametrize("how", ["random", "blocks"])
@pytest.mark.parametrize("n", [2, 3, 19, 20, 21, 1000])
@pytest.mark.parametrize("fraction", [0.001, 0.2, 0.5, 0.999])
def test_splits_are_sorted_disjoint_and_cover(how, n, fraction):
    train, test = d.split_rows(n, how, fraction, seed=3)
    assert len(train) >= 1
    assert len(test) >= 1
    assert torch.cat((train, test)).sort().values.equal(torch.arange(n))
    assert train.equal(train.sort().values)
    assert test.equal(test.sort().values)
    if n == 1000:
        assert len(test) == pytest.approx(fraction * n, abs=1)
    again = d.split_rows(n, how, fraction, seed=3)
    assert train.equal(again[0])


def test_blocks_are_contiguous_and_chosen_by_the_seed():
    tests = [d.split_rows(1000, "blocks", 0.2, seed)[1] for seed in range(8)]
    for test in tests:
        blocks = test.reshape(4, 50)
        assert torch.equal(blocks - blocks[:, :1], torch.arange(50).expand(4, 50))
        assert torch.all(blocks[:, 0] % 50 == 0)
    assert len({tuple(test.tolist()) for test in tests}) > 4


def test_one_row_cannot_be_split():
    with pytest.raises(ValueError, match="n=1: expected an integer of at least 2"):
        d.split_rows(1)


# scalings


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["none", "range", "standard", "robust", "max"])
def test_invert_undoes_apply(kind, dtype):
    x = torch.randn(50, 3, 2, generator=torch.Generator().manual_seed(0)).to(dtype) * 7 + 3
    scaling = d.Scaling.fit(kind, x)
    y = scaling.apply(x)
    assert y.dtype == dtype
    torch.testing.assert_close(scaling.invert(y), x)
    # one value is scaled as a batch of them
    torch.testing.assert_close(scaling.apply(x[4]), y[4])


def test_each_kind_does_what_it_says():
    x = torch.tensor([[0.0, -4.0], [1.0, 2.0], [5.0, -1.0]])
    torch.testing.assert_close(d.Scaling.fit("range", x).apply(x), (x + 4) / 9)
    torch.testing.assert_close(d.Scaling.fit("range", x, (-10.0, 10.0)).apply(x), (x + 10) / 20)
    torch.testing.assert_close(d.Scaling.fit("max", x).apply(x), x / 5)
    assert d.Scaling.fit("none", x).apply(x) is x
    y = d.Scaling.fit("standard", x).apply(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(2))
    torch.testing.assert_close(y.square().mean(0), torch.ones(2))


def test_the_robust_scaling_leaves_outliers_out():
    x = 3 + 2 * torch.randn(4000, 70, generator=torch.Generator().manual_seed(0))
    spoilt = x.clone()
    spoilt[::500] = 1e6
    scaling = d.Scaling.fit("robust", spoilt)
    torch.testing.assert_close(scaling.shift, torch.full((70,), 3.0).double(), rtol=0, atol=0.2)
    torch.testing.assert_close(scaling.scale, torch.full((70,), 2.0).double(), rtol=0.1, atol=0)
    quartiles = torch.quantile(spoilt.double(), torch.tensor([0.25, 0.75]).double(), 0)
    torch.testing.assert_close(scaling.scale, (quartiles[1] - quartiles[0]) / 1.3489795003921634)


def test_the_robust_scaling_of_values_half_of_which_are_alike_is_of_the_others():
    x = torch.zeros(100, 2)
    x[:20, 0] = 4.0 * torch.linspace(-1, 1, 20)
    x[20, 0] = 1e6
    scaling = d.Scaling.fit("robust", x)
    assert scaling.shift.tolist() == [0.0, 0.0]
    torch.testing.assert_close(scaling.scale, torch.tensor([3.4, 1.0]).double(), rtol=0.1, atol=0)
    assert d.Scaling.fit("robust", x[:, 0]).scale == scaling.scale[0]


def test_the_standard_scaling_is_exact_on_a_large_mean_over_several_chunks():
    x = 1e5 + torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
    scaling = d.Scaling.fit("standard", x)
    expected = x.double().std(0, correction=0)
    torch.testing.assert_close(scaling.scale, expected, rtol=1e-10, atol=0)
    assert scaling.apply(x).std(0).sub(1).abs().max() < 1e-3


def test_what_has_no_spread_keeps_its_unit():
    # the mean of many 0.1 is off by rounding: that must not be taken for a spread
    x = torch.stack((torch.full((10_007,), 0.1), torch.arange(10_007.0)), -1)
    scaling = d.Scaling.fit("standard", x.double() / 3)
    assert scaling.scale[0] == 1
    torch.testing.assert_close(scaling.apply(torch.tensor([1.1 / 3, 1.0]))[0], torch.tensor(1 / 3))
    for kind in ("range", "max"):
        assert d.Scaling.fit(kind, torch.zeros(3, 2)).apply(torch.ones(2)).equal(torch.ones(2))


@pytest.mark.parametrize("kind", ["none", "range", "standard", "robust", "max"])
def test_scalings_are_saved_and_loaded_as_plain_weights(tmp_path, kind):
    scaling = d.Scaling.fit(kind, torch.randn(20, 4))
    torch.save(scaling.state_dict(), tmp_path / "scaling.pt")
    loaded = d.Scaling.from_state_dict(torch.load(tmp_path / "scaling.pt", weights_only=True))
    assert loaded == scaling
    assert hash(loaded) == hash(scaling)
    assert loaded != d.Scaling("max", torch.tensor(0.0), torch.tensor(17.0))
    assert repr(loaded).startswith(f"Scaling('{kind}', ")


@pytest.mark.parametrize(
    ("kind", "x", "value_range", "message"),
    [
        ("standart", torch.ones(2, 2), None, "kind='standart': .*did you mean 'standard'"),
        ("max", torch.tensor([[math.nan]]), None, "all of them finite"),
        ("max", torch.ones(0, 2), None, r"train has shape \(0, 2\)"),
        ("range", torch.ones(2, 2), (1.0, 0.0), r"value_range=\(1.0, 0.0\)"),
        ("range", torch.tensor([[-3e38], [3e38]]), None, "change the unit"),
        ("standard", torch.tensor([[1e-40], [2e-40]]), None, "change the unit"),
    ],
)
def test_refusals_of_scalings(kind, x, value_range, message):
    with pytest.raises(ValueError, match=message):
        d.Scaling.fit(kind, x, value_range)


def test_values_of_another_shape_are_not_scaled():
    scaling = d.Scaling.fit("standard", torch.randn(9, 4))
    with pytest.raises(ValueError, match=r"shape \(9, 3\): expected \(\*, 4\)"):
        scaling.apply(torch.ones(9, 3))
    with pytest.raises(ValueError, match=r"shape \(9, 1\)"):
        scaling.invert(torch.ones(9, 1))
    with pytest.raises(ValueError, match="expected kind, a string"):
        d.Scaling.from_state_dict({"kind": "max"})


# batches


def epoch(batches, k):
    return [x.tolist() for x in batches.epoch(k)]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def test_an_epoch_has_every_row_once_in_an_order_of_seed_and_epoch():
    x = torch.arange(10)
    batches = d.Shuffled(x, batch_size=4, seed=0)
    orders = {}
    for seed in range(3):
        for k in range(3):
            got = epoch(d.Shuffled(x, 4, seed), k)
            assert [len(b) for b in got] == [4, 4, 2]
            assert sorted(flat(got)) == list(range(10))
            orders[seed, k] = tuple(flat(got))
    # also along the diagonal, where the sum of seed and epoch is the same
    assert len(set(orders.values())) == 9
    list(batches.epoch(0))
    torch.manual_seed(0)
    assert tuple(flat(epoch(batches, 2))) == orders[0, 2]
    assert len(batches) == 3


@pytest.mark.parametrize(
    ("n", "batch_size", "world_size"),
    [(12, 3, 2), (13, 3, 2), (14, 3, 2), (17, 4, 3), (25, 8, 3), (3, 1, 3), (5, 100, 4)],
)
def test_ranks_share_the_batches_of_one_process(n, batch_size, world_size):
    x = torch.arange(n)
    ranks = [d.Shuffled(x, batch_size, 7, r, world_size) for r in range(world_size)]
    together = [epoch(batches, 2) for batches in ranks]
    assert {len(batches) for batches in ranks} == {len(got) for got in together} == {len(ranks[0])}
    alone = epoch(d.Shuffled(x, batch_size * world_size, 7), 2)
    for step, whole in zip(zip(*together, strict=True), alone, strict=False):
        assert flat(step) == whole
        assert all(1 <= len(part) <= batch_size for part in step)
    left = n - sum(len(part) for got in together for part in got)
    assert 0 <= left < world_size
    assert left == 0 or n % (batch_size * world_size) == left


def test_a_random_draw_is_a_function_of_seed_epoch_and_rank():
    def draw(n, generator=None, device=None):
        return torch.rand(n, 2, generator=generator, device=device), torch.zeros(n)

    def run(seed=0, k=0, **options):
        return torch.cat(list(d.Fresh(draw, 5, 3, seed, **options).epoch(k)))

    first = run()
    assert first.shape == (15, 2)
    torch.rand(3)
    assert torch.equal(first, run())
    others = [run(seed=1), run(k=1), run(rank=1, world_size=2)]
    assert not any(torch.isin(other, first).any() for other in others)
    assert torch.equal(run(transform=lambda x: 2 * x), 2 * first)
    assert len(d.Fresh(draw, 5, 3, 0)) == 3


def test_poses_are_those_of_their_labels():
    poses = d.load("poses", order=2, num_train=6, num_test=4, noise=0.1, picture_seed=3)
    assert poses.train.shape == (6, 16, 32) and poses.train_labels.shape == (6, 3)
    R = SO3().exp(poses.train_labels.double())
    shown = d.worlds.Fields(degree=2, seed=3).render(R)
    assert (poses.train - shown).std() == pytest.approx(0.1, rel=0.1)
    batches = list(d.Fresh(poses.draw, 6, 2, seed=0).epoch(0))
    assert not torch.equal(*batches)
    for order in (1, 9):
        with pytest.raises(ValueError, match=f"order={order}"):
            d.load("poses", order=order)


def test_fresh_batches_of_the_torus():
    torus = d.load("torus", size=8, num_train=4, num_test=2)
    assert torus.draw is not None
    batches = list(d.Fresh(torus.draw, 6, 2, seed=0).epoch(0))
    assert [x.shape for x in batches] == [(6, 8, 8)] * 2
    assert not torch.equal(*batches)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(3), 0, 0), "batch_size=0: expected an integer of at least 1"),
        ((torch.ones(3), 2.0, 0), "batch_size=2.0"),
        ((torch.ones(3), 1, 0, 2, 2), "rank=2: expected 0 to 1, with world_size=2"),
        ((torch.ones(3), 1, 0, -1, 2), "rank=-1"),
        ((torch.ones(3), 1, 0, 0, 4), r"shape \(3,\): expected at least 4 row\(s\)"),
        ((torch.ones(0, 2), 1, 0), "expected at least 1 row"),
    ],
)
def test_refusals_of_batches(arguments, message):
    with pytest.raises(ValueError, match=message):
        d.Shuffled(*arguments)


def test_seeds_are_hashed_not_added():
    seeds = {mix("shuffle", seed, k) for seed in range(30) for k in range(30)}
    assert len(seeds) == 900
    assert mix("a", 1) != mix("a", 1, 0)
    assert mix("a", 1) != mix("a", "1")
    assert mix("a", 1) == mix("a", np.arange(2)[1])
    # any other hash changes the batches of every seed, hence runs recorded with this one
    assert mix("shuffle", 0, 0) == 10277749196991277292
