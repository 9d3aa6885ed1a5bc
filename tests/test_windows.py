"""Rows in the order of time, and batches of windows of them."""

import math

import pytest
import torch
from torch.testing import assert_close

from manifold_ae import data as d

INF = math.inf


def laid(n: int, *first: int) -> torch.Tensor:
    """Times since the row before: 1, 2, 3, ... but ∞ at the first rows of trials."""
    elapsed = torch.arange(1.0, n + 1, dtype=torch.float64)
    elapsed[list(first)] = INF
    return elapsed


def test_time_elapses_within_a_trial():
    given = {
        "groups": torch.tensor([1, 0, 1, 0, 1]),
        "times": torch.tensor([0.0, 7, 1.5, 8, 4]).double(),
    }
    order = d.in_order(given, torch.arange(5))
    assert order.tolist() == [1, 3, 0, 2, 4]
    elapsed = d.elapsed_times({k: v[order] for k, v in given.items()}, order)
    assert elapsed.tolist() == [INF, 1, INF, 1.5, 2.5]


def test_without_time_stamps_rows_left_out_are_gaps():
    rows = torch.tensor([0, 1, 4, 5])
    assert d.in_order({}, rows).tolist() == [0, 1, 2, 3]
    assert d.elapsed_times({}, rows).tolist() == [INF, 1, 3, 1]
    # large stamps, whose differences single precision would round away
    stamps = 1.7e12 + torch.arange(4.0, dtype=torch.float64) / 8
    assert d.elapsed_times({"times": stamps}, rows).tolist() == [INF, 0.125, 0.125, 0.125]
    with pytest.raises(ValueError, match="expected times that rise"):
        d.elapsed_times({"times": torch.zeros(4).double()}, rows)


@pytest.mark.parametrize("n", [2, 7, 12, 50])
@pytest.mark.parametrize("window", [2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 6, 11])
def test_an_epoch_has_every_row_once_in_windows_of_neighbours(n, window, batch_size):
    elapsed = laid(n, 0, n // 2)
    source = d.Windows(torch.arange(n), elapsed, window, batch_size, seed=3)
    seen = []
    for k in range(4):
        batches = list(source.epoch(k))
        assert len(batches) == len(source)
        rows = torch.cat([batch["x"] for batch in batches])
        assert rows.sort().values.equal(torch.arange(n))
        seen.append(tuple(rows.tolist()))
        for batch in batches:
            x, since = batch["x"], batch["elapsed"]
            assert since[0] == INF and len(x) <= max(batch_size, window)
            joined = since.isfinite().nonzero().squeeze(-1)
            # who has a row before him is its follower, by the time that it took
            assert (x[joined] - x[joined - 1] == 1).all()
            assert_close(since[joined], elapsed[x[joined]].float(), rtol=0, atol=0)
            assert not torch.isin(x[joined], torch.tensor([0, n // 2])).any()
        lengths = torch.cat([b["elapsed"] for b in batches]).isinf().sum()
        # one start a window, and what trials add; the end of the recording is followed by its start
        assert math.ceil(n / min(window, n)) <= lengths <= math.ceil(n / min(window, n)) + 2
    again = [tuple(torch.cat([b["x"] for b in source.epoch(k)]).tolist()) for k in range(4)]
    assert again == seen
    if n > 12:
        assert len(set(seen)) == 4
        other = torch.cat([b["x"] for b in source.seeded(4).epoch(0)])
        assert tuple(other.tolist()) != seen[0]


@pytest.mark.parametrize("n", [13, 24, 31])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_windows_and_weigh_rows(n, world_size):
    x = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = [d.Windows(x, laid(n, 0), 4, 8, 0, rank, world_size) for rank in range(world_size)]
    alone = d.Windows(x, laid(n, 0), 4, 8 * world_size, 0)
    assert len({len(part) for part in parts}) == 1
    for step, whole in zip(range(len(parts[0])), alone.epoch(2), strict=False):
        own = [list(part.epoch(2))[step]["x"] for part in parts]
        assert torch.cat(own).equal(whole["x"])
        weighed = [v.mean() * part.share(step) for v, part in zip(own, parts, strict=True)]
        assert_close(torch.stack(weighed).mean(), whole["x"].mean())


def test_windows_of_several_seeds_lie_side_by_side():
    batch = {"x": torch.rand(29, 2), "exposure": torch.ones(29)}
    source = d.Windows(batch, laid(29, 0), 5, 10, 0)
    together = d.Together([source, source.seeded(1)])
    shapes = [{k: tuple(v.shape) for k, v in b.items()} for b in together.epoch(0)]
    assert shapes[0] == {"x": (2, 10, 2), "exposure": (2, 10), "elapsed": (2, 10)}
    assert shapes[-1]["elapsed"] == (2, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 1}, "window=1: expected an integer of at least 2"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"elapsed": torch.ones(4)}, r"x\['x'\] has 5 rows: expected 4"),
        ({"elapsed": torch.zeros(5)}, "expected .* positive times, with ∞ for none"),
        ({"elapsed": torch.full((5,), math.nan)}, "expected .* positive times"),
        ({"world_size": 4}, r"5 rows make 3 window\(s\) of 2: expected at least 4"),
        ({"rank": 2}, "rank=2"),
    ],
)
def test_refusals_of_windows(change, message):
    arguments = {"elapsed": torch.ones(5), "window": 2, "batch_size": 4, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        d.Windows(torch.ones(5), **arguments)
