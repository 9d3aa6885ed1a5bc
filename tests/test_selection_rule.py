"""The rule by which a latent manifold is chosen, on log-likelihoods that are made up."""

import math

import pytest
import torch

from manifold_ae import manifolds, metrics
from manifold_ae.metrics import Candidate, block_error, choose

N = 400
NOISE = torch.randn(N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ROWS = -50 + 3 * NOISE


def candidate(name, behind=0.0, spread=0.2, **known):
    """One that is behind by so many nats, and by noise of its own on every row."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    own = torch.randn(N, generator=generator, dtype=torch.float64)
    values = ROWS - behind + spread * (own - own.mean())
    dim = known.pop("dim", None) or manifolds.parse(name).dim
    return Candidate(name, dim, values, **known)


def answer(*candidates, floor=20.0, null=0.0):
    return choose(candidates, ROWS - floor, null + 0.1 * NOISE)


def test_block_errors_are_the_standard_error_where_rows_are_independent():
    errors = [
        block_error(torch.randn(1000, generator=torch.Generator().manual_seed(k)), 20)
        for k in range(50)
    ]
    assert sum(errors) / 50 == pytest.approx(1 / math.sqrt(1000), rel=0.06)


def test_block_errors_see_that_neighbours_are_alike():
    x = torch.randn(40, generator=torch.Generator().manual_seed(1)).repeat_interleave(25)
    naive = x.std().item() / math.sqrt(1000)
    assert block_error(x, 20) > 3 * naive


def test_block_errors_of_blocks_of_unequal_length_by_hand():
    x = torch.tensor([1.0, 2.0, 4.0])
    # sums 3 and 4 about 2 and 1 times the mean of 7/3
    expected = math.sqrt(2 * ((3 - 14 / 3) ** 2 + (4 - 7 / 3) ** 2)) / 3
    assert block_error(x, 2) == pytest.approx(expected)


@pytest.mark.parametrize("blocks", [1, 0, 11])
def test_block_errors_need_blocks_and_rows(blocks):
    with pytest.raises(ValueError, match="blocks"):
        block_error(torch.zeros(10), blocks)


def test_the_best_is_the_answer_where_others_are_behind():
    found = answer(candidate("torus:2"), candidate("circle", 4.0), candidate("euclidean:3", 0.5))
    assert (found.answer, found.names) == ("one", ("torus:2",))
    assert found.rows[1]["name"] == "euclidean:3"
    assert found.rows[1]["behind"] == pytest.approx(0.5, abs=1e-9)
    assert found.finding.count(". ") == 1 and "a torus (two angles)" in found.finding


def test_within_a_standard_error_the_smaller_dimension_wins():
    found = answer(candidate("torus:2"), candidate("circle", 0.01), candidate("euclidean:2", 0.5))
    assert (found.answer, found.names) == ("one", ("circle",))
    assert "torus:2" in found.finding and "no more than chance" in found.finding


def test_beyond_a_standard_error_it_does_not():
    found = answer(candidate("torus:2"), candidate("circle", 0.05))
    assert found.rows[1]["behind"] > found.rows[1]["behind_se"]
    assert found.names == ("torus:2",)


def test_two_of_the_same_dimension_are_undecided():
    found = answer(candidate("sphere:2", coverage=0.95), candidate("torus:2", 0.005, coverage=0.9))
    assert (found.answer, found.names) == ("undecided", ("sphere:2", "torus:2"))
    assert found.finding.startswith("Undecided")


@pytest.mark.parametrize("known", [{"coverage": 0.5}, {"coverage": 0.9, "hole": 2.5}])
def test_a_patch_is_set_aside_where_another_is_near(known):
    found = answer(candidate("sphere:2", **known), candidate("euclidean:2", 0.3))
    assert (found.answer, found.names) == ("one", ("euclidean:2",))
    assert "as a patch" in found.finding
    assert not found.rows[0]["filled"] and not found.rows[0]["remains"]


def test_a_patch_that_only_leaves_a_hole_is_told_by_it():
    holed = candidate("sphere:2", coverage=0.85, hole=3.5)
    found = answer(holed, candidate("circle", 0.3, coverage=0.95))
    assert (found.answer, found.names) == ("one", ("circle",))
    assert "as a patch: latents leave a hole 3.5 times as large as uniform" in found.finding


def test_a_patch_that_is_far_above_the_rest_is_undecided():
    found = answer(candidate("sphere:2", coverage=0.5), candidate("circle", 3.0))
    assert (found.answer, found.names) == ("undecided", ("sphere:2", "circle"))


def test_patches_alone_are_compared_as_others_are():
    found = answer(candidate("sphere:2", coverage=0.5), candidate("circle", 3.0, coverage=0.6))
    assert (found.answer, found.names) == ("one", ("sphere:2",))


def test_a_patch_does_not_hide_who_leads_among_the_rest():
    found = answer(
        candidate("sphere:2", coverage=0.5),
        candidate("euclidean:2", 0.2),
        candidate("euclidean:3", 0.5),
        candidate("torus:2", 0.205, coverage=0.95),
    )
    assert (found.answer, found.names) == ("undecided", ("euclidean:2", "torus:2"))


def test_a_baseline_that_nobody_asked_for_is_none_of_these():
    found = answer(candidate("euclidean:2", asked=False), candidate("sphere:2", 2.0, coverage=1.0))
    assert (found.answer, found.names) == ("none", ("euclidean:2",))
    assert found.finding.startswith("None of these: a plane")


@pytest.mark.parametrize(("floor", "null"), [(0.05, 0.0), (-0.2, 0.0), (5.0, 4.95)])
def test_without_structure_it_is_none_of_these(floor, null):
    values = ROWS + 0.5 * torch.flip(NOISE, (0,))
    found = choose(
        [candidate("circle"), candidate("euclidean:2", 1.0)], values - floor, null + 0.1 * NOISE
    )
    assert (found.answer, found.names) == ("none", ())
    assert "explains more than it does of features that were shuffled" in found.finding
    assert not any(row["remains"] for row in found.rows)


def test_a_gain_below_that_on_shuffled_data_does_not_help_where_this_is_negative():
    """A null that loses by overfitting does not make a small gain a large one."""
    values = ROWS - 0.04 + 0.5 * torch.flip(NOISE, (0,))
    found = choose([candidate("circle")], values, -3 + 0.1 * NOISE)
    assert found.answer == "none"


def test_noise_is_mistaken_for_structure_seldom():
    """Gains of mean zero are beyond three standard errors once in 740, by 20 blocks 1 in 140."""
    wrong = 0
    for k in range(300):
        generator = torch.Generator().manual_seed(k)
        gains = torch.randn(2, N, generator=generator, dtype=torch.float64)
        one = Candidate("circle", 1, ROWS + gains[0])
        wrong += choose([one], ROWS, gains[1]).answer != "none"
    assert wrong <= 6


def test_the_record_is_plain():
    import json

    found = answer(
        candidate("circle", coverage=0.9, kl={"circle": 2.0}, betti=(1, None), expected=(1, 1)),
        candidate("euclidean:2", 1.0, asked=False),
    )
    record = json.loads(json.dumps(found.record()))
    assert record["names"] == ["circle"]
    assert record["candidates"][0]["betti"] == [1, None]


def test_what_cannot_be_compared_is_refused():
    a = candidate("circle")
    with pytest.raises(ValueError, match="empty"):
        answer()
    with pytest.raises(ValueError, match="each once"):
        answer(a, a)
    with pytest.raises(ValueError, match="a row each"):
        answer(a, Candidate("so3", 3, ROWS[:10]))
    with pytest.raises(ValueError, match="so3 has log-likelihoods that are not finite"):
        answer(a, Candidate("so3", 3, ROWS * math.nan))


# ---- whether the likelihood suits -------------------------------------------------------------


def test_the_kurtosis_is_that_of_the_law():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 3, generator=generator)
    assert metrics.excess_kurtosis(x + 2) == pytest.approx(0, abs=0.1)
    laplace = x * torch.empty(20_000, 3).exponential_(generator=generator).mul(2).sqrt()
    assert metrics.excess_kurtosis(laplace) == pytest.approx(3, abs=0.6)
    laplace[::2] = math.nan
    assert metrics.excess_kurtosis(laplace) == pytest.approx(3, abs=0.9)
    assert metrics.excess_kurtosis(torch.ones(5, 2)) == 0.0
