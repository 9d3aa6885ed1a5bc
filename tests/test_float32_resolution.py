"""Arrays whose signal float32 does not hold are refused, with the offset to subtract."""

import numpy as np
import pytest

from manifold_ae.data.arrays import to_float32


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_a_small_spread_on_a_large_offset_is_refused(dtype):
    seconds = (1_700_000_000 + np.arange(20)).astype(dtype)
    x = np.stack([np.arange(20).astype(dtype), seconds], -1)
    with pytest.raises(ValueError, match=r"feature 1.*subtract an offset.*array\.mean\(0\)"):
        to_float32(x, "data")
    kept = to_float32(x - x[0], "data")
    assert kept[:, 1].tolist() == list(range(20))


def test_what_float32_holds_is_taken():
    rng = np.random.default_rng(0)
    constant = np.full((50, 1), 0.1)  # rounded, and nothing lost
    x = np.concatenate([constant, 1e4 + rng.standard_normal((50, 1)), rng.random((50, 1))], 1)
    assert to_float32(x, "data").shape == (50, 3)
    assert to_float32(np.full((5, 2), 2**40), "data")[0, 0].item() == 2**40
    pictures = rng.random((5, 4, 4))
    pictures[:, 1, 2] += 1e9
    with pytest.raises(ValueError, match=r"feature \(1, 2\)"):
        to_float32(pictures, "data")
