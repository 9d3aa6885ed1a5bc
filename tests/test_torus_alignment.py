"""Latent angles against true ones, up to GL(d, ℤ) and a shift."""

import math

import pytest
import torch

from manifold_ae.manifolds import FlatTorus
from manifold_ae.metrics import TorusAlignment, align_torus, winding_matrix

MATRICES = [[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[1, 2], [1, 1]], [[2, 3], [-1, -1]]]
SHIFT = torch.tensor([0.7, -2.9])


def angles_of(n, generator, device, dtype=torch.float64, k=2):
    return 2 * math.pi * torch.rand(n, k, dtype=dtype, generator=generator, device=device)


@pytest.mark.parametrize("matrix", MATRICES)
def test_what_was_done_to_the_angles_is_found_and_undone(
    matrix, dtype, device, tolerance, generator
):
    angles = angles_of(200, generator, device, dtype)
    W = torch.tensor(matrix, dtype=dtype, device=device)
    latent = angles @ W.mT + SHIFT.to(W)
    found = align_torus(latent, angles)
    assert found.matrix.tolist() == matrix
    assert abs(found.determinant) == 1
    assert found.concentration == pytest.approx((1.0, 1.0), abs=tolerance)
    torch.testing.assert_close(found.shift, SHIFT.double(), atol=tolerance, rtol=0)
    assert found.errors(latent, angles).max().item() < 10 * tolerance


def test_concentration_is_that_of_the_noise(device, generator):
    angles = angles_of(20_000, generator, device)
    noise = torch.randn(angles.shape, dtype=angles.dtype, generator=generator, device=device)
    found = align_torus(angles + 0.5 * noise, angles)
    # E e^{iσε} = e^{−σ²/2}, with a standard error below 0.003.
    assert found.concentration == pytest.approx((math.exp(-0.125),) * 2, abs=0.015)


@pytest.mark.parametrize("matrix", [*MATRICES, [[1, 0], [1, 0]], [[1, 1], [2, 2]]])
def test_loops_and_characters_give_one_matrix(matrix, device, generator):
    W = torch.tensor(matrix, dtype=torch.float64)
    torus = FlatTorus(2)

    def bent(angles):
        """Homotopic to W, and no homomorphism."""
        angles = angles.double().cpu()
        bend = 0.3 * torch.stack([angles.sum(-1).sin(), angles[:, 0].cos()], -1)
        return torus.from_angles(angles @ W.mT + bend + SHIFT)

    angles = angles_of(1000, generator, device)
    found = align_torus(torus.to_angles(bent(angles)), angles)
    assert found.matrix.tolist() == winding_matrix(bent, torus, 2).tolist() == matrix
    assert found.determinant == round(torch.linalg.det(W).item())


def test_errors_are_distances_on_the_torus(device, generator):
    latent, angles = angles_of(500, generator, device), angles_of(500, generator, device)
    same = TorusAlignment(torch.eye(2, dtype=torch.int64), torch.zeros(2).double(), (1.0, 1.0))
    torus = FlatTorus(2)
    expected = torus.dist(torus.from_angles(latent), torus.from_angles(angles)).cpu()
    torch.testing.assert_close(same.errors(latent, angles), expected)
    # ∫ √(u² + v²) over the unit square is (√2 + ln(1 + √2))/3; the standard error is 0.04.
    guess = math.pi * (math.sqrt(2) + math.log(1 + math.sqrt(2))) / 3
    assert guess == pytest.approx(2.404, abs=1e-3)
    assert expected.mean().item() == pytest.approx(guess, abs=0.15)


def test_a_map_that_is_no_homeomorphism_decodes_nothing(generator, device):
    angles = angles_of(100, generator, device)
    folded = align_torus(angles[:, :1].expand(-1, 2), angles)
    assert folded.determinant == 0
    with pytest.raises(ValueError, match="determinant 0: expected ±1"):
        folded.decode(angles)
    single = align_torus(angles[:, :1], angles)
    assert single.matrix.tolist() == [[1, 0]] and single.determinant == 0


@pytest.mark.parametrize(
    ("latent", "angles", "bound", "message"),
    [
        (torch.zeros(4, 2), torch.zeros(3, 2), 3, "one row for every row"),
        (torch.zeros(4), torch.zeros(4, 2), 3, r"expected \(n, d\) and \(n, k\)"),
        (torch.full((4, 2), torch.nan), torch.zeros(4, 2), 3, "latent has 8 of 8 values"),
        (torch.zeros(0, 2), torch.zeros(0, 2), 3, "nothing to measure"),
        (torch.zeros(4, 2), torch.zeros(4, 2), 0, "bound = 0: expected a positive"),
    ],
)
def test_what_does_not_fit_is_named(latent, angles, bound, message):
    with pytest.raises(ValueError, match=message):
        align_torus(latent, angles, bound=bound)


def test_angles_of_another_torus_are_refused(generator, device):
    angles = angles_of(50, generator, device)
    found = align_torus(angles, angles)
    with pytest.raises(ValueError, match="angles as those of the fit"):
        found.decode(angles[:, :1])
    with pytest.raises(ValueError, match="one row for every row of latent"):
        found.errors(angles, angles[:5])
