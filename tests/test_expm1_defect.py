"""(eᵃ − 1 − a)/a² near zero, and where its two formulas meet."""

import math

import pytest
import torch

from manifold_ae.numerics import expm1_defect


def test_expm1_defect_is_smooth_at_zero_and_where_the_series_ends(dtype, device):
    a = torch.tensor([0.0, 1e-30, -1e-8, 0.3, -20.0, 20.0], dtype=dtype, device=device)
    direct = [(math.expm1(b) - b) / (b * b) for b in (0.3, -20.0, 20.0)]
    exact = [0.5, 0.5, 0.5 - 1e-8 / 6, *direct]
    found = expm1_defect(a.requires_grad_())
    assert found.tolist() == pytest.approx(exact, rel=1e-5 if dtype == torch.float32 else 1e-12)
    (slope,) = torch.autograd.grad(found.sum(), a)
    assert slope[0].item() == pytest.approx(1 / 6, rel=1e-6)
    assert torch.isfinite(slope).all()
    ends = torch.tensor([1 - 1e-9, 1 + 1e-9, -1 + 1e-9, -1 - 1e-9], dtype=torch.float64)
    left, right = expm1_defect(ends.to(device)).unflatten(0, (2, 2)).unbind(-1)
    assert torch.allclose(left, right, rtol=1e-8)
