"""Traces: what is checked, files of a user's own, and what is held out."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manifold_ae import data as d
from manifold_ae.data import worlds
from manifold_ae.groups import SO3, Cyclic, Torus


def make(n: int = 12, steps: int = 3, **options: Any) -> d.Traces:
    generator = torch.Generator().manual_seed(0)
    return worlds.load("sprites", size=8).traces(n, steps, generator=generator, **options)


def grid(n: int = 40, steps: int = 1) -> d.Traces:
    generator = torch.Generator().manual_seed(0)
    return worlds.load("grid-world").traces(n, steps, generator=generator)


# ---- what they are ----------------------------------------------------------------------------


def test_parts_keep_observations_actions_and_states_together():
    traces = make()
    assert (len(traces), traces.steps, traces.shape, traces.features) == (12, 3, (8, 8), 64)
    assert repr(traces) == "Traces('sprites', n=12, steps=3, shape=(8, 8), group=Torus(2))"
    mask = torch.arange(12) % 2 == 0
    for rows in (slice(0, 12, 2), mask, torch.arange(0, 12, 2), list(range(0, 12, 2))):
        part = traces[rows]
        assert part.states is not None and traces.states is not None
        assert torch.equal(part.observations, traces.observations[::2])
        assert torch.equal(part.actions, traces.actions[::2])
        assert torch.equal(part.states, traces.states[::2])
        assert (part.name, part.group) == (traces.name, traces.group)
    window = traces.window(1, 2)
    assert window.states is not None and traces.states is not None
    assert torch.equal(window.observations, traces.observations[:, 1:4])
    assert torch.equal(window.actions, traces.actions[:, 1:3])
    assert torch.equal(window.states, traces.states[:, 1:4])
    assert torch.equal(traces.to("cpu").observations, traces.observations)
    with pytest.raises(AttributeError):
        traces.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("row", [3, torch.tensor(3)])
def test_one_row_number_is_no_part(row):
    with pytest.raises(TypeError, match=r"take traces\[3:\]\[:1\]"):
        make()[row]


@pytest.mark.parametrize(("start", "steps"), [(0, 4), (2, 2), (-1, 1), (0, 0)])
def test_windows_beyond_the_traces_are_refused(start, steps):
    with pytest.raises(ValueError, match=r"start=.*expected at most 3|=-1|steps=0"):
        make().window(start, steps)


def values(*shape: int, fill: float = 0.0) -> torch.Tensor:
    return torch.full(shape, fill)


LONG = torch.zeros(4, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("observations", "actions", "group", "message"),
    [
        (values(4, 3), values(4, 2, 1), Torus(1), r"observations has shape \(4, 3\)"),
        (values(0, 3, 2), values(0, 2, 1), Torus(1), "at least one trace"),
        (values(4, 1, 2), values(4, 0, 1), Torus(1), "at least one trace of two"),
        (values(4, 3, 2), values(4, 3, 1), Torus(1), "after the last observation"),
        (values(4, 3, 2), values(4, 2), Torus(1), r"actions\[:, :, None\]"),
        (values(4, 3, 2), values(4, 2, 2), SO3(), r"expected \(4, 2, 3\), for observ.* SO3"),
        (values(4, 3, 2), values(5, 2, 1), Torus(1), r"expected \(4, 2, 1\)"),
        (values(4, 3, 2), LONG[..., None], Cyclic(5), "one integer a step"),
        (values(4, 3, 2).double(), values(4, 2, 1), Torus(1), r"observations has dtype .*float64"),
        (values(4, 3, 2), values(4, 2, 1).double(), Torus(1), r"actions has dtype .*float64"),
        (
            values(4, 3, 2),
            values(4, 2),
            Cyclic(5),
            r"actions has dtype .*float32: expected .*int64",
        ),
        (values(4, 3, 2), LONG.int(), Cyclic(5), r"int32: expected torch\.int64; convert with"),
        (values(4, 3, 2), LONG + 5, Cyclic(5), r"actions is 5 in trace 0, step 0.*0 … 4 of Cyclic"),
        (values(4, 3, 2), LONG - 1, Cyclic(5), "actions is -1"),
        (values(4, 3, 2, fill=math.nan), values(4, 2, 1), Torus(1), "is nan in trace 0.*24 of its"),
        (values(4, 3, 2), values(4, 2, 1, fill=math.inf), Torus(1), "actions is inf in trace 0"),
        (values(4, 3, 2), values(4, 2, 1), "torus:1", "group='torus:1': expected a group"),
    ],
)
def test_what_are_no_traces_is_refused(observations, actions, group, message):
    with pytest.raises(ValueError, match=message):
        d.Traces(observations, actions, group)


def test_states_belong_to_observations():
    with pytest.raises(ValueError, match=r"states has shape \(4, 2, 1\): expected \(4, 3, ...\)"):
        d.Traces(values(4, 3, 2), values(4, 2, 1), Torus(1), states=values(4, 2, 1))


# ---- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("traces", [make(), grid()])
def test_what_is_saved_is_loaded(traces, tmp_path):
    traces.save(tmp_path / "mine.npz")
    loaded = d.load_traces(tmp_path / "mine.npz", traces.group)
    assert loaded.name == "mine"
    for part in ("observations", "actions", "states"):
        assert torch.equal(getattr(loaded, part), getattr(traces, part))
    with pytest.raises(ValueError, match=r"mine\.npy'.*ends in \.npz"):
        traces.save(tmp_path / "mine.npy")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f2", ">f8", "?"])
def test_files_of_other_types_and_orders_are_read(write, dtype, tmp_path):
    pictures = (np.arange(4 * 3 * 5).reshape(4, 3, 5) % 2).astype(dtype)
    actions = np.asfortranarray(np.linspace(0, 1, 4 * 2 * 2).reshape(4, 2, 2))
    write(tmp_path / "t.npz", observations=np.asfortranarray(pictures), actions=actions, other=1)
    loaded = d.load_traces(tmp_path / "t.npz", Torus(2), name="mine")
    assert torch.equal(loaded.observations, torch.from_numpy(pictures.astype(np.float32)))
    assert torch.equal(loaded.actions, torch.from_numpy(actions.astype(np.float32)))
    assert loaded.states is None
    assert loaded.name == "mine"


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


OBSERVATIONS, ACTIONS = np.zeros((4, 3, 5), np.float32), np.zeros((4, 2, 1), np.float32)
NUMBERS = np.zeros((4, 2), np.int64)
HOLE = np.where(np.arange(60).reshape(4, 3, 5) == 17, np.nan, 0)


@pytest.mark.parametrize(
    ("arrays", "group", "message"),
    [
        ({"actions": ACTIONS}, Torus(1), "has no 'observations', it has actions; save it with"),
        (
            {"observation": OBSERVATIONS, "actions": ACTIONS},
            Torus(1),
            "no 'observations', it has observation, actions; did you mean 'observation'",
        ),
        ({}, Torus(1), "no 'observations', it has nothing"),
        (
            {"observations": HOLE, "actions": ACTIONS},
            Torus(1),
            r"trace 1, step 0, column 2.*unit$",
        ),
        ({"observations": OBSERVATIONS, "actions": ACTIONS + np.inf}, Torus(1), "actions has val"),
        ({"observations": OBSERVATIONS[:3], "actions": ACTIONS}, Torus(1), r"expected \(3, 2, 1\)"),
        ({"observations": OBSERVATIONS, "actions": ACTIONS}, SO3(), r"t\.npz: actions has shape"),
        ({"observations": OBSERVATIONS, "actions": NUMBERS[..., None]}, Torus(1), "is a Lie group"),
        ({"observations": OBSERVATIONS, "actions": NUMBERS * 1.0}, Cyclic(3), "is finite, and its"),
        ({"observations": OBSERVATIONS, "actions": NUMBERS > 0}, Cyclic(3), "type bool"),
        (
            {"observations": OBSERVATIONS, "actions": NUMBERS + 3},
            Cyclic(3),
            "actions is 3 in trace",
        ),
        ({"observations": OBSERVATIONS, "actions": NUMBERS.astype("u8") - 1}, Cyclic(3), "is -1"),
        ({"observations": OBSERVATIONS * 1j, "actions": ACTIONS}, Torus(1), "type complex"),
        ({"observations": OBSERVATIONS.astype("S1"), "actions": ACTIONS}, Torus(1), "no object is"),
        ({"observations": OBSERVATIONS.astype(object), "actions": ACTIONS}, Torus(1), "no object"),
    ],
)
def test_files_that_hold_no_traces_are_refused(arrays, group, message, tmp_path):
    path = tmp_path / "t.npz"
    with np.errstate(invalid="ignore"):
        np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message):
        d.load_traces(path, group)


def test_files_that_are_missing_or_broken_are_named(tmp_path):
    whole = saved(tmp_path / "whole.npz", observations=OBSERVATIONS, actions=ACTIONS)
    with pytest.raises(FileNotFoundError, match=r"whol\.npz does not exist.*did you mean 'whole"):
        d.load_traces(tmp_path / "whol.npz", Torus(1))
    with pytest.raises(FileNotFoundError, match="is a folder"):
        d.load_traces(tmp_path, Torus(1))
    content = whole.read_bytes()
    broken = tmp_path / "broken.npz"
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        broken.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"truncated, or no \.npz file"):
            d.load_traces(broken, Torus(1))
    for place in range(0, len(content), 13):
        spoilt = bytearray(content)
        spoilt[place] ^= 0xFF
        broken.write_bytes(bytes(spoilt))
        try:
            loaded = d.load_traces(broken, Torus(1))
        except ValueError:
            continue
        # In fields that the archive holds twice, or that nothing depends on.
        assert torch.equal(loaded.observations, torch.from_numpy(OBSERVATIONS))
        assert torch.equal(loaded.actions, torch.from_numpy(ACTIONS))
    broken.write_bytes(b"\x93NUMPY" + content)
    np.save(tmp_path / "array.npy", OBSERVATIONS)
    (tmp_path / "array.npy").rename(broken)
    with pytest.raises(ValueError, match=r"no \.npz file"):
        d.load_traces(broken, Torus(1))


def test_absurd_sizes_allocate_nothing(tmp_path):
    header = io.BytesIO()
    absurd = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**6, 10**6)}
    np.lib.format.write_array_header_1_0(header, absurd)
    path = tmp_path / "absurd.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("observations.npy", header.getvalue() + bytes(60))
        archive.writestr("actions.npy", header.getvalue() + bytes(60))
    with pytest.raises(ValueError, match="4000000000000000000000 bytes, and 60 follow the header"):
        d.load_traces(path, Torus(1))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("observations.npy", bytes(100))
        archive.writestr("actions.npy", bytes(100))
    with pytest.raises(ValueError, match="compressed in a way that"):
        d.load_traces(path, Torus(1))


def test_a_directory_that_lies_about_sizes_is_refused(tmp_path):
    path = saved(tmp_path / "t.npz", observations=OBSERVATIONS, actions=ACTIONS)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="is said to hold 4294967294 bytes"):
        d.load_traces(path, Torus(1))


# ---- what is held out -------------------------------------------------------------------------


def test_random_splits_are_disjoint_and_complete():
    traces = make(20, 1)
    train, test = d.split_random(traces, 0.25, seed=1)
    assert (len(train), len(test)) == (15, 5)
    both = torch.cat((train.observations, test.observations))
    assert torch.equal(
        both.sum((1, 2, 3)).sort().values, traces.observations.sum((1, 2, 3)).sort().values
    )
    again, _ = d.split_random(traces, 0.25, seed=1)
    assert torch.equal(train.observations, again.observations)


def test_a_band_of_actions_is_never_seen_in_training():
    traces = make(200, 2)
    train, test = d.hold_out_actions(traces, axis=1, low=0.5, high=1.5)
    inside = [(t.actions[..., 1] >= 0.5) & (t.actions[..., 1] < 1.5) for t in (train, test)]
    assert not inside[0].any()
    assert inside[1].any(1).all()
    assert len(train) + len(test) == 200
    # A uniform action misses the band with probability 1 − 1/2π, two with its square, 0.71.
    assert 0.6 < len(train) / 200 < 0.8
    train, test = d.hold_out_actions(traces, low=2.0, high=10.0)
    assert train.actions.norm(dim=-1).max() < 2
    train, test = d.hold_out_actions(grid(), elements=[7, 8])
    assert not torch.isin(train.actions, torch.tensor([7, 8])).any()
    assert torch.isin(test.actions, torch.tensor([7, 8])).any(1).all()


def test_combinations_are_held_out_and_each_factor_alone_is_not():
    world = worlds.load("sprites", size=8)
    traces = world.traces(600, 1, generator=torch.Generator().manual_seed(3))
    assert traces.states is not None
    values = world.labels(traces.states)
    train, test = d.hold_out_combinations(traces, values, [(0, 1), (3, 3)], bins=(4, 4))
    assert len(train) + len(test) == 600

    def cells(part: d.Traces) -> torch.Tensor:
        assert part.states is not None
        return (world.labels(part.states) * 4 / (2 * math.pi)).long()

    def visits(part: d.Traces) -> torch.Tensor:
        x, y = cells(part).unbind(-1)
        return ((x == 0) & (y == 1)) | ((x == 3) & (y == 3))

    assert not visits(train).any()
    assert visits(test).any(1).all()
    for factor in cells(train).unbind(-1):
        assert len(factor.unique()) == 4
    column, _ = d.hold_out_combinations(traces, values, [(2, None)], bins=(4, 4))
    assert not (cells(column)[..., 0] == 2).any()
    solid = worlds.load("solids", size=8)
    turns = solid.traces(50, 1, generator=torch.Generator().manual_seed(0))
    assert turns.states is not None
    labels = solid.labels(turns.states)
    upper, _ = d.hold_out_combinations(turns, labels, [(None, 1, None)], (1, 2, 1), solid.ranges)
    assert upper.states is not None
    assert solid.labels(upper.states)[..., 1].max() <= math.pi / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": 0, "low": 1.0, "high": 0.5}, "expected low < high"),
        ({"axis": 0, "low": 1.0}, "high=None"),
        ({"axis": 2, "low": 0.0, "high": 1.0}, "axis=2: expected an integer from 0 to 1"),
        ({"axis": 0, "low": 50.0, "high": 60.0}, "nothing is held out"),
        ({"axis": 0, "low": -9.0, "high": 9.0}, "none is left to train on"),
        ({"elements": [1]}, "and no elements"),
    ],
)
def test_bands_that_hold_out_nothing_or_all_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        d.hold_out_actions(make(), **options)
    with pytest.raises(ValueError, match="give elements="):
        d.hold_out_actions(grid(), axis=0, low=0.0, high=1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": values(12, 3, 2)}, r"values has shape \(12, 3, 2\): expected \(12, 4, k\)"),
        ({"values": values(12, 4, 2, fill=7.0)}, "values is 7 for factor 0 at"),
        ({"values": values(12, 4, 2, fill=math.nan)}, "values is nan"),
        ({"bins": (4,)}, r"bins=\(4,\): expected 2"),
        ({"bins": (4, 0)}, "bins=0: expected an integer of at least 1"),
        ({"cells": [(0, 4)]}, r"cells has \(0, 4\): expected 2 bin numbers below \(4, 4\)"),
        ({"cells": [(0,)]}, r"cells has \(0,\)"),
        ({"cells": [(None, None)]}, "expected a bin number beside None"),
        ({"cells": [(0, 0)]}, "none is left to train on"),
        ({"cells": [(1, 1)]}, "nothing is held out"),
        ({"ranges": [(0.0, 1.0)]}, "expected 2 pairs low < high"),
        ({"ranges": [(0.0, 1.0), (1.0, 1.0)]}, "expected 2 pairs low < high"),
    ],
)
def test_combinations_that_are_none_are_refused(changes, message):
    arguments = {"values": values(12, 4, 2), "cells": [(0, 1)], "bins": (4, 4)} | changes
    with pytest.raises(ValueError, match=message):
        d.hold_out_combinations(make(), **arguments)
