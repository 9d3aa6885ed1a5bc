"""Files of one's own, `.npz` and `.csv` beside `.npy`: read, checked, split, read likewise."""

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from manifold_ae import data as d
from manifold_ae.data import tables

N = 12
X = np.arange(3.0 * N).reshape(N, 3)
BESIDE = {
    "covariates": np.arange(2.0 * N).reshape(N, 2),
    "exposure": np.arange(1, N + 1),
    "groups": np.repeat([5, 2, 9], 4),
    "times": np.tile(np.arange(4.0), 3),
    "labels": np.arange(N) % 3,
}


def saved(folder: Path, **arrays) -> Path:
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def written(folder: Path, text: str, name: str = "mine.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def table(folder: Path) -> Path:
    """The arrays above as a table, its columns in another order."""
    lines = ["gain,a,speed,b,depth,c,trial,t,kind"]
    for k in range(N):
        speed, gain = BESIDE["covariates"][k]
        a, b, c = X[k]
        trial, t = BESIDE["groups"][k], BESIDE["times"][k]
        lines.append(f"{gain},{a},{speed},{b},{k + 1},{c},{trial},{t},{'abc'[k % 3]}")
    return written(folder, "\n".join(lines) + "\n")


NAMED = {
    "covariates": "speed,gain",
    "exposure": "depth",
    "groups": "trial",
    "times": "t",
    "labels": "kind",
}


# ---- what is read ---------------------------------------------------------------------------


def arrays(folder: Path) -> dict[str, str]:
    for name, value in {"x": X, **BESIDE}.items():
        np.save(folder / f"{name}.npy", value)
    return {part: str(folder / f"{part}.npy") for part in BESIDE}


@pytest.mark.parametrize("kind", ["npy", "npz", "csv"])
def test_files_of_every_kind_hold_the_same(tmp_path, kind):
    named = arrays(tmp_path)
    path, options = {
        "npy": (tmp_path / "x.npy", named),
        "npz": (saved(tmp_path, x=X, **BESIDE), {}),
        "csv": (table(tmp_path), NAMED),
    }[kind]
    found = d.load(path, split="groups", seed=1, **options)
    assert found.name == path.stem and found.missing == "refuse"
    expected = d.from_array(X, split="groups", seed=1, **BESIDE)
    for part in ("train", "test"):
        for name in (part, f"{part}_rows", f"{part}_labels"):
            assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
        given, wanted = getattr(found, f"{part}_given"), getattr(expected, f"{part}_given")
        assert given.keys() == wanted.keys() == BESIDE.keys() - {"labels"}
        for name in wanted:
            assert_close(given[name], wanted[name], rtol=0, atol=0)
    assert_close(found.train, torch.from_numpy(X[found.train_rows]).float())
    assert found.covariates == 2
    # whole trials
    assert set(found.train_given["groups"].tolist()).isdisjoint(found.test_given["groups"].tolist())


def test_keys_of_an_archive_may_be_named(tmp_path):
    path = saved(tmp_path, x=X, speed=BESIDE["covariates"][:, 0], groups=BESIDE["groups"])
    found = d.read(path, covariates="speed")
    assert found.given["covariates"].shape == (N, 1) and set(found.given) == {
        "covariates",
        "groups",
    }
    with pytest.raises(ValueError, match=r"has no 'sped' for covariates.*did you mean 'speed'"):
        d.read(path, covariates="sped")
    with pytest.raises(ValueError, match=r"only a \.csv file has several columns"):
        d.read(path, covariates="speed,groups")


def test_pictures_are_read_from_archives(tmp_path):
    path = saved(tmp_path, x=np.zeros((4, 5, 6), bool))
    found = d.load(path)
    assert found.image_shape == (5, 6) and found.default_likelihood == "bernoulli"


def test_classes_that_are_written_as_floats_keep_their_numbers(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{k}.5,{k}.0" for k in range(12)]
    path.write_text("\n".join(["x,kind", *rows]) + "\n")
    assert d.read(path, labels="kind").labels.tolist() == list(range(12))


def test_python_s_underscores_make_no_number(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2\n1_0,3\n")
    with pytest.raises(ValueError, match="'1_0' in line 3, column 'x'"):
        d.read(path)


def test_labels_are_classes_or_angles(tmp_path):
    text = "a,b,turn,lean,kind\n1,2,0.5,0.25,3\n2,3,1.5,1.25,4\n"
    path = written(tmp_path, text)
    assert d.read(path, labels="kind").labels.tolist() == [3, 4]
    assert d.read(path, labels="turn").labels.tolist() == [[0.5], [1.5]]
    assert d.read(path, labels="turn,lean").labels.tolist() == [[0.5, 0.25], [1.5, 1.25]]
    # what colours may be what a model is given
    both = d.read(path, labels="kind", covariates="kind")
    assert both.x.shape == (2, 4) and both.given["covariates"].tolist() == [[3], [4]]


def test_large_tables_are_read_whole(tmp_path):
    x = np.random.default_rng(0).normal(size=(3000, 7))
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b,c,d,e,f,g", comments="")
    assert np.array_equal(d.read(tmp_path / "x.csv").x.numpy(), x.astype(np.float32))


# ---- the same columns again ---------------------------------------------------------------


def test_another_table_is_read_with_the_same_columns_and_categories(tmp_path):
    first = d.load(written(tmp_path, "a,batch,b,t\n1,B,2,0\n3,A,4,1\n5,C,6,2\n"),
                   covariates="batch,t")  # fmt: skip
    columns = d.Columns.from_mapping(first.columns.to_mapping())
    assert columns == first.columns
    assert columns.features == ("a", "b") and columns.categories == {"batch": ("A", "B", "C")}
    assert first.train_given["covariates"].shape[1] == 4
    again = d.read(written(tmp_path, "t,extra,b,a,batch\n7,x,2,1,C\n8,y,4,3,A\n", "new.csv"),
                   like=columns)  # fmt: skip
    assert again.x.tolist() == [[1, 2], [3, 4]]
    assert again.given["covariates"].tolist() == [[0, 0, 1, 7], [1, 0, 0, 8]]
    with pytest.raises(ValueError, match=r"'D' in line 2, column 'batch': expected one of A, B, C"):
        d.read(written(tmp_path, "a,b,batch,t\n1,2,D,1\n"), like=columns)
    with pytest.raises(ValueError, match=r"no column 'b', a feature .*it has a, B, batch, t; did"):
        d.read(written(tmp_path, "a,B,batch,t\n1,2,A,1\n"), like=columns)
    with pytest.raises(ValueError, match=r"no column 'batch' for covariates: it has a, b, t"):
        d.read(written(tmp_path, "a,b,t\n1,2,1\n"), like=columns)


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_what_no_model_sees_may_be_left_out_of_another_file(tmp_path, kind):
    if kind == "csv":
        like = d.load(table(tmp_path), **NAMED).columns
        other = written(tmp_path, "a,b,c,speed,gain,depth\n1,2,3,4,5,6\n", "new.csv")
        named = "trial"
    else:
        like = d.load(saved(tmp_path, x=X, trial=BESIDE["groups"]), groups="trial").columns
        other, named = saved(tmp_path, x=X), "trial"
    assert "groups" not in d.read(other, like=like).given
    with pytest.raises(ValueError, match="for groups"):
        d.read(other, like=like, groups=named)


def test_arrays_beside_an_array_are_named_anew(tmp_path):
    named = arrays(tmp_path)
    like = d.load(tmp_path / "x.npy", **named).columns
    wanted = r"covariates .* and exposure .*\(--covariates PATH.npy --exposure PATH.npy\)"
    with pytest.raises(ValueError, match=wanted):
        d.read(tmp_path / "x.npy", like=like)
    again = d.read(
        tmp_path / "x.npy", like=like, covariates=named["covariates"], exposure=named["exposure"]
    )
    assert set(again.given) == {"covariates", "exposure"}


# ---- missing values -------------------------------------------------------------------------


def test_values_may_be_missing_where_that_is_said(tmp_path):
    text = "a,b\n1,2\nNA,3\n,4\nnan,5\n6, n/a\n"
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=r"no value in line 3, column 'a', and 4 of its values"):
        d.load(path)
    found = d.read(path, missing="mask")
    assert np.isnan(found.x.numpy()).sum() == 4 and found.x[0].tolist() == [1, 2]
    assert d.load(path, missing="mask").missing == "mask"
    x = X.copy()
    x[3, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=r"1 NaN.*row 3, column 1.*missing='mask'"):
        d.load(tmp_path / "x.npy")
    for path in (tmp_path / "x.npy", saved(tmp_path, x=x)):
        assert d.read(path, missing="mask").x[3].isnan().tolist() == [False, True, False]
    x[4, 1] = np.inf
    with pytest.raises(ValueError, match=r"1 infinite.*row 4"):
        d.from_array(x, missing="mask")
    with pytest.raises(ValueError, match="missing='maks': expected one of refuse, mask; did you"):
        d.load(path, missing="maks")


def test_a_feature_without_any_value_is_refused():
    x = X.copy()
    x[:, 2] = np.nan
    with pytest.raises(ValueError, match="train has no value of feature 2"):
        d.from_array(x, missing="mask")
    with pytest.raises(ValueError, match="train is NaN at"):
        d.Dataset("a", torch.tensor([[math.nan]]), torch.ones(1, 1), *[torch.arange(1)] * 2)


@pytest.mark.parametrize("kind", ["none", "range", "standard", "robust", "max", "overall"])
def test_scalings_are_fitted_to_what_is_there(kind):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.2]) + 7
    # what is left of each feature, as columns of their own
    x[:100] = torch.nan
    fitted = d.Scaling.fit(kind, x, missing="mask")
    expected = d.Scaling.fit(kind, x[100:])
    assert_close(fitted.shift, expected.shift)
    assert_close(fitted.scale, expected.scale)
    x[50, 1] = 7.0  # features of unequal number
    fitted = d.Scaling.fit("standard", x, missing="mask")
    own = torch.cat((x[50:51, 1], x[100:, 1])).double()
    assert_close(fitted.shift[1], own.mean())
    assert_close(fitted.scale[1], own.std(correction=0))
    assert fitted.apply(x).isnan().equal(x.isnan())
    with pytest.raises(ValueError, match="all of them finite"):
        d.Scaling.fit(kind, x)
    with pytest.raises(ValueError, match="some of every feature"):
        d.Scaling.fit(kind, torch.tensor([[1.0, torch.nan]]), missing="mask")


def test_counts_may_be_missing():
    d.check_counts(torch.tensor([[1.0, torch.nan]]), missing="mask")
    with pytest.raises(ValueError, match="not a whole number"):
        d.check_counts(torch.tensor([[1.5, torch.nan]]), missing="mask")


# ---- what is wrong with a table -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty: expected a line of column names"),
        ("a,b\n", {}, "has a header and no row"),
        ("a,b\n1,2\n", {}, r"shape \(1, 2\), 1 row"),
        ("a,b\n1,2\n3\n4,5\n", {}, "1 fields in line 3: expected 2"),
        ("a,b\n1,2\n3,4,5\n", {}, "3 fields in line 3: expected 2"),
        ("a,b\n1,2\n\n3,4\n", {}, "nothing in line 3, and rows after it"),
        ("a,b\n1,2\n3,x4\n", {}, r"'x4' in line 3, column 'b': expected a number; name columns"),
        ("1,2\n1,2\n3,4\n", {}, r"starts with numbers \(1, 2, ...\)"),
        ("a;b\n1;2\n3;4\n", {}, "expected commas between columns"),
        (",a\n0,1\n1,2\n", {}, r"no name for column 1.*index=False"),
        ("a,a\n0,1\n1,2\n", {}, "two columns 'a'"),
        ('a,b\n1,"2\n3,4\n', {}, r"cannot be read at line \d"),
        ("a,b\n1,inf\n3,4\n", {}, r"1 infinite.*row 0, column 1"),
        ("a,b\n1,1e39\n3,4\n", {}, r"1 beyond float32"),
        ("a,speed\n1,2\n3,4\n", {"covariates": "sped"}, "no column 'sped' for cov.*'speed'"),
        ("a,b\n1,2\n3,4\n", {"covariates": "a,b"}, "no column of values: all are covariates"),
        ("a,b\n1,2\n3,4\n", {"covariates": "a,,b"}, "expected names, none of them empty"),
        ("a,b\n1,2\n3,4\n", {"covariates": "a,a"}, "none of them empty or there twice"),
        ("a,b\n1,2\n3,4\n", {"exposure": "a,b"}, "exposure=.*expected one name"),
        ("a,b\n1,2\n3,4\n", {"exposure": "b", "times": "b"}, "times='b': this is exposure"),
        ("a,b\n1,2\n3,\n", {"exposure": "b"}, "'' in line 3, column 'b': expected something; only"),
        ("a,b\n1,2\n3,0\n", {"exposure": "b"}, r"exposure.*is 0 at row 1.*positive"),
        ("a,b\n1,2\n3,x\n", {"exposure": "b"}, "'x' in line 3, column 'b': expected a number, as"),
        ("a,b\n1,u\n3,x\n", {"times": "b"}, "'u' in line 2, column 'b': expected a number"),
        ("a,b\n1,2\n3,2\n", {"times": "b"}, "from 2 in row 0 to 2 in row 1"),
        ("a,b\n1,2\n3,x\n", {"covariates": "b"}, "'x' in line 3.*or words in all"),
        ("a,b\n1,2\n3,4\n", {"nonsense": "b"}, "has no such option"),
        ("a,b\n1,2\n3,4\n", {"split": "groups"}, "these data have none: name them by groups"),
        ("a,b\n1,2\n3,2\n", {"split": "groups", "groups": "b"}, "all rows are of one group"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_read_are_refused(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message):
        d.load(written(tmp_path, text), **options)


def test_a_column_of_names_is_no_category(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_CATEGORIES", 3)
    path = written(tmp_path, "a,b\n" + "".join(f"{k},row{k}\n" for k in range(4)))
    with pytest.raises(ValueError, match="4 different words in column 'b': expected at most 3"):
        d.read(path, covariates="b")


def test_a_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "mine.csv").write_bytes(b"a,b\n\xff\xfe\x00,1\n")
    with pytest.raises(ValueError, match="is no text in UTF-8"):
        d.load(tmp_path / "mine.csv")
    with pytest.raises(FileNotFoundError, match=r"min\.csv does not exist.*'mine\.csv'"):
        d.load(tmp_path / "min.csv")
    # as spreadsheets save it: a mark of order in front, lines that end in two characters
    (tmp_path / "mine.csv").write_bytes(b"\xef\xbb\xbfa,b\r\n1,2\r\n3,4\r\n\r\n")
    assert d.read(tmp_path / "mine.csv").columns.features == ("a", "b")


# ---- what is wrong with an archive ----------------------------------------------------------


def test_trials_and_classes_may_be_words(tmp_path):
    groups = np.array(["left", "right"] * (N // 2))
    np.savez(tmp_path / "mine.npz", x=X, groups=groups, labels=groups)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "g.npy", groups)
    beside = {"groups": str(tmp_path / "g.npy"), "labels": str(tmp_path / "g.npy")}
    for found in (
        d.read(tmp_path / "mine.npz"),
        d.read(tmp_path / "x.npy", **beside),
        d.as_recording(X, groups=groups, labels=groups),
        d.as_recording(X, groups=groups.astype(object), labels=groups.tolist()),
    ):
        assert found.given["groups"].tolist() == [0, 1] * (N // 2)
        assert found.labels is not None and found.labels.tolist() == [0, 1] * (N // 2)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"y": X}, "has no 'x', it has y"),
        ({"observations": X, "actions": X}, "holds traces .* manifold-ae train hae"),
        ({"x": X[0]}, r"'x' in mine.npz has shape \(3,\): expected \(n, features\)"),
        ({"x": X[:1]}, "1 row"),
        ({"x": X.astype(str)}, "elements of type <U32: expected real numbers, as no object"),
        ({"x": np.array([[object()]] * 3)}, "elements of type object"),
        ({"x": X, "exposure": np.ones(5)}, "exposure of mine.npz has 5 rows: expected 12"),
        ({"x": X, "exposure": np.ones((N, 1))}, r"shape \(12, 1\): expected \(n,\)"),
        ({"x": X, "exposure": np.full(N, np.nan)}, "exposure of mine.npz.*12 NaN"),
        ({"x": X, "exposure": -np.ones(N)}, r"mine.npz\['exposure'\] is -1 at row 0"),
        ({"x": X, "groups": np.ones(N)}, "float64: expected integers or words, the trial of"),
        ({"x": X, "times": np.zeros(N)}, "goes from 0 in row 0 to 0 in row 1"),
        ({"x": X, "times": np.full(N, np.inf)}, "is inf at row 0"),
        ({"x": X, "times": np.arange(N).astype("M8[s]")}, "elements of type datetime64"),
        ({"x": X, "covariates": np.ones((N, 2, 2))}, r"expected \(n,\) or \(n, features\)"),
        ({"x": X, "covariates": np.ones((N, 0))}, "at least one feature"),
        ({"x": X, "labels": np.ones((N, 2), int)}, "expected integer classes"),
        ({"x": X, "labels": np.full(N, np.nan)}, "labels of mine.npz.*12 NaN"),
    ],
)  # fmt: skip
def test_archives_that_cannot_be_read_are_refused(tmp_path, held, message):
    with pytest.raises(ValueError, match=message):
        d.load(saved(tmp_path, **held))


def test_broken_archives_are_refused(tmp_path):
    path = saved(tmp_path, x=X)
    whole = path.read_bytes()
    for content in (whole[:-30], whole[: len(whole) // 2], b"", b"a,b\n1,2\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"truncated, or no \.npz file .*numpy.savez"):
            d.load(path)
    spoilt = bytearray(whole)
    spoilt[whole.index(b"\x93NUMPY") + 200] ^= 1
    path.write_bytes(spoilt)
    with pytest.raises(ValueError, match=r"truncated, or no \.npz file"):
        d.load(path)
    # 8e18 bytes promised: refused by the file's length, before anything is allocated
    np.save(tmp_path / "x.npy", X)
    array = (tmp_path / "x.npy").read_bytes()
    absurd = b"(1000000000, 1000000000), }"
    array = array.replace(b"(12, 3), }" + b" " * (len(absurd) - 10), absurd)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", array)
    with pytest.raises(ValueError, match=r"makes 8000000000000000000 bytes, and 288 follow"):
        d.load(path)


def test_traces_tell_rows_from_traces(tmp_path):
    from manifold_ae.groups import SO2

    with pytest.raises(ValueError, match=r"holds rows .* manifold-ae train vae"):
        d.load_traces(saved(tmp_path, x=X), SO2())


# ---- splits of trials -----------------------------------------------------------------------


def trials(*lengths: int) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(lengths)) * 7 - 3, torch.tensor(lengths))


@pytest.mark.parametrize("how", ["random", "blocks", "groups"])
@pytest.mark.parametrize("lengths", [(1, 1), (40, 2, 30), (5,) * 30, (300, 1, 1, 1)])
@pytest.mark.parametrize("fraction", [0.001, 0.2, 0.9])
def test_splits_of_trials_cover(how, lengths, fraction):
    groups = trials(*lengths)
    mixed = groups[torch.randperm(len(groups), generator=torch.Generator().manual_seed(0))]
    for of_rows in (groups, mixed):
        train, test = d.split_rows(len(groups), how, fraction, 4, groups=of_rows)
        assert len(train) and len(test)
        assert torch.cat((train, test)).sort().values.equal(torch.arange(len(groups)))
        if how == "groups":
            assert set(of_rows[train].tolist()).isdisjoint(of_rows[test].tolist())


def test_held_out_trials_are_about_the_fraction_and_a_function_of_the_seed():
    groups = trials(*range(1, 41))
    found = [d.split_rows(len(groups), "groups", 0.25, s, groups=groups)[1] for s in range(20)]
    parts = torch.tensor([len(test) / len(groups) for test in found])
    # off by half of the longest trial, at the most
    assert (parts - 0.25).abs().max() <= 20.5 / len(groups)
    assert len({tuple(test.tolist()) for test in found}) == 20
    assert found[3].equal(d.split_rows(len(groups), "groups", 0.25, 3, groups=groups)[1])


def test_blocks_do_not_go_from_one_trial_to_the_next():
    groups = trials(100, 7, 93)
    for seed in range(10):
        test = d.split_rows(200, "blocks", 0.3, seed, groups=groups)[1]
        assert abs(len(test) - 60) <= 6
        # a trial in blocks of 10, of which each is in whole or not at all; the short one in one
        mask = torch.zeros(200, dtype=torch.bool)
        mask[test] = True
        assert all(len(block.unique()) == 1 for block in mask[:100].view(10, 10))
        assert len(mask[100:107].unique()) == 1


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match="groups has 3 rows: expected 4"):
        d.split_rows(4, "blocks", groups=torch.zeros(3, dtype=torch.int64))


# ---- what a first try gets wrong ------------------------------------------------------------


def test_a_column_that_is_no_count_is_named_with_its_row(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("time,a,b\n" + "".join(f"{k / 10},{k},2\n" for k in range(20)))
    dataset = d.load(path)
    assert dataset.columns is not None
    wanted = r"c.csv is not a whole number \(0\.\d\) at row \d+, column 'time'.* by --times"
    with pytest.raises(ValueError, match=wanted) as error:
        d.check_counts(
            dataset.train, "c.csv", rows=dataset.train_rows, columns=dataset.columns.features
        )
    first = int(dataset.train_rows[(dataset.train[:, 0] % 1 != 0).nonzero()[0, 0]])
    assert f"row {first}," in str(error.value)


def test_an_archive_of_other_names_is_told_how_to_be_saved(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, counts=np.ones((5, 3)), angle=np.ones(5))
    with pytest.raises(
        ValueError, match=r"it has counts, angle: .*savez\(path, x=counts, \.\.\.\)"
    ):
        d.load(path)
    np.savez(path, counts=np.ones((5, 3)), others=np.ones((5, 2)))
    with pytest.raises(ValueError, match=r"savez\(path, x=\.\.\., \.\.\.\)"):
        d.load(path)
