"""Formulas of diffusion steps derived once more, by other routes, and inputs that were let through.

The composed element comes from moments of the process, the bound on equivariant codes from the
stabilisers of points, and Gaussian maps from matching the laws of x_t.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from manifold_ae import diffusion
from manifold_ae.diffusion import GaussianAffineLaw, Schedule, compose, exact, samplers
from manifold_ae.groups import Affine, ScaleTranslation
from manifold_ae.models import ElementStep, PointStep

SCHEDULE = Schedule.linear(1000)
DOUBLE = torch.float64


def modes():
    return exact.mixture([[1.0, 1.0], [-1.0, -1.0]], [[0.1, 0.1]] * 2, SCHEDULE)


# ---- the composed element -----------------------------------------------------------------------


@pytest.mark.parametrize("times", [(1000, 0), (1000, 400, 30, 0), (700, 699, 350, 12)])
def test_a_ddim_chain_in_signal_coordinates_is_a_sum_of_predictions(times, generator):
    """With u = x/√ᾱ and τ = √(1/ᾱ − 1), a step is u_s = u_t + (τ_s − τ_t) ε̂: Euler's rule.

    So b = √ᾱ_end Σ (τ_s − τ_t) ε̂_t, and the scale is √(ᾱ_end/ᾱ_start).
    """
    x = torch.randn(20, 2, generator=generator, device=generator.device, dtype=DOUBLE)
    chain = samplers.ddim_chain(modes(), SCHEDULE, x, times)
    bar = SCHEDULE.alpha_bar
    tau = (1 / bar - 1).sqrt()
    total = torch.zeros_like(x)
    for k, (t, s) in enumerate(pairwise(times)):
        total += (tau[s] - tau[t]) * modes()(chain.states[:, k], t)
    scale = (bar[times[-1]] / bar[times[0]]).sqrt()
    torch.testing.assert_close(
        chain.element, torch.cat([scale.expand(20, 1), bar[times[-1]].sqrt() * total], -1),
        rtol=1e-11, atol=1e-11,
    )  # fmt: skip


# ---- the size of an equivariant code ------------------------------------------------------------


def test_points_have_stabilisers_that_a_code_has_to_honour():
    """ρ(s, x − s x) h(x) = h(x): the generator of scalings about x annihilates h(x).

    For the representations by polynomials in x of degree 2, of size 6 for n = 2, the points that
    are told apart are still those that the linear part tells apart.
    """

    def code(x):
        a, b = x.unbind(-1)
        return torch.stack([torch.ones_like(a), a, b, a * a, a * b, b * b], -1)

    def matrix(g):
        """ρ(g) with code(g·x) = ρ(g) code(x), read off at six points."""
        points = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1], [2, 1], [1, 3.0]], dtype=DOUBLE)
        moved = ScaleTranslation(2).act(g, points)
        return torch.linalg.solve(code(points), code(moved)).mT

    x = torch.tensor([0.7, -1.3], dtype=DOUBLE)
    for s in (0.5, 3.0):
        fixing = torch.cat([torch.tensor([s], dtype=DOUBLE), (1 - s) * x])
        found = matrix(fixing)
        torch.testing.assert_close(found @ code(x), code(x))
        # Eigenvalues s⁰, s¹ twice, s² three times; code(x) is of the first.
        wanted = torch.tensor([1.0, s, s, s * s, s * s, s * s], dtype=DOUBLE).sort().values
        torch.testing.assert_close(torch.linalg.eigvals(found).real.sort().values, wanted)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_codes_of_size_n_that_are_equivariant_lose_a_direction(n, generator):
    """Of size n no [A, N_v] = N_v has x ↦ N_x h(0) one to one, where A has eigenvalues 0 and 1.

    N_x h(0) lies in the eigenspace of 1, of at most n − 1 dimensions beside h(0); of size n + 1
    there is room, and (x, 1) fills it.
    """
    for m in (n, n + 1):
        for ones in range(m):
            spectrum = torch.tensor([0.0] * (m - ones) + [1.0] * ones, dtype=DOUBLE)
            basis = torch.randn(m, m, generator=generator, device=generator.device).double()
            A = basis @ torch.diag(spectrum.to(basis)) @ torch.linalg.inv(basis)
            # All N with A N − N A = N: the kernel of a matrix of m² × m².
            eye = torch.eye(m, dtype=DOUBLE, device=basis.device)
            operator = torch.kron(A, eye) - torch.kron(eye, A.mT.contiguous())
            values, space = torch.linalg.svd(operator - torch.eye(m * m).to(basis))[1:]
            ladder = space[values < 1e-8].view(-1, m, m)
            assert len(ladder) == ones * (m - ones)
            start = basis[:, 0]  # A h(0) = 0
            if len(ladder):
                rank = torch.linalg.matrix_rank(ladder @ start, rtol=1e-8)
                assert rank == ones <= m - 1
                assert (rank >= n) == (m == n + 1 and ones == n)


# ---- Gaussian data ------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [0.0, 0.04, 1.0, 9.0])
def test_the_slope_of_a_gaussian_step_comes_of_the_posterior_of_the_data(variance):
    """E[x₀|x_t] by regression: Cov(x₀, x_t)/Var(x_t); then x_s = √ᾱ_s x̂₀ + √(1 − ᾱ_s) ε̂."""
    mean, t, s = 1.5, 600, 250
    late, early = SCHEDULE.alpha_bar[t], SCHEDULE.alpha_bar[s]
    gain = late.sqrt() * variance / (late * variance + 1 - late)

    def step(x):
        clean = mean + gain * (x - late.sqrt() * mean)
        noise = (x - late.sqrt() * clean) / (1 - late).sqrt()
        return early.sqrt() * clean + (1 - early).sqrt() * noise

    x = torch.tensor([[0.0], [1.0], [-40.0]], dtype=DOUBLE)
    g = diffusion.gaussian_step(SCHEDULE, t, s, [mean], [variance])
    torch.testing.assert_close(ScaleTranslation(1, diagonal=True).act(g, x), step(x))
    if variance == 1:  # a rotation of (√ᾱ, √(1 − ᾱ)): its cosine
        angle = torch.acos(late.sqrt()) - torch.acos(early.sqrt())
        torch.testing.assert_close(g[0], torch.cos(angle))


def test_the_chain_of_gaussian_data_in_any_basis_is_that_of_its_axes(generator):
    """Rotating the data rotates the map: R g R⁻¹ of the diagonal element."""
    drawn = torch.randn(3, 3, generator=generator, device=generator.device).double().cpu()
    R = torch.linalg.qr(drawn)[0]
    mean, axes = torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE), torch.tensor([0.1, 1.0, 4.0])
    times = SCHEDULE.times(20)
    diagonal = diffusion.gaussian_chain(SCHEDULE, times, mean, axes)
    whole = diffusion.gaussian_chain(SCHEDULE, times, R @ mean, R @ torch.diag(axes.double()) @ R.T)
    x = torch.randn(10, 3).double()
    straight = ScaleTranslation(3, diagonal=True).act(diagonal, x)
    torch.testing.assert_close(Affine(3).act(whole, x @ R.T), straight @ R.T)


def test_the_law_of_the_end_is_the_data_s_in_the_limit():
    """S → √(λ/(ᾱ_T λ + 1 − ᾱ_T)): the step's error falls as 1/K."""
    bar, gaps = SCHEDULE.alpha_bar[-1], []
    limit = math.sqrt(0.3 / (bar * 0.3 + 1 - bar))
    for calls in (250, 500, 1000):
        g = diffusion.gaussian_chain(SCHEDULE, SCHEDULE.times(calls), [0.0], [0.3])
        gaps.append(abs(g[0].item() - limit))
    assert gaps[0] > 1.5 * gaps[1] > 2.25 * gaps[2] > 0


# ---- what was let through -----------------------------------------------------------------------

ONES = torch.ones(2)
ONE = ElementStep(nn.Linear(2, 2), 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: compose(torch.tensor([[1.0, 2.0], [-1.0, 0.0]])),
            "scales from -1, not positive",
        ),
        (lambda: compose(torch.tensor([[math.nan, 2.0]])), "scales from nan"),
        (lambda: compose(torch.tensor([[1.0, math.nan]])), "product that is not finite"),
        (lambda: compose(torch.full((50, 2), 10.0)), "take float64, or fewer elements"),
        (lambda: compose(torch.ones(2, 3, dtype=torch.int64)), "dtype torch.int64"),
        (
            lambda: diffusion.ddim_step(
                SCHEDULE, torch.tensor([10, 20]), torch.tensor([5, 6]), torch.ones(3, 2)
            ),
            r"times or sizes of shape \(2,\): expected \(2, 2\)",
        ),
        (lambda: diffusion.ve_step(torch.ones(3), torch.ones(2, 2)), r"expected \(3, 2\)"),
        (
            lambda: diffusion.ddim_step(
                SCHEDULE, 9, 5, torch.ones(2), 1.0, torch.ones(2, dtype=DOUBLE)
            ),
            r"noise has shape \(2,\), torch.float64: expected \(2,\), torch.float32",
        ),
        (lambda: diffusion.ve_step("a", torch.ones(2)), "sigma='a'"),  # type: ignore[arg-type]
        (
            lambda: samplers.ddim(lambda x, t: None, SCHEDULE, torch.ones(2), (9, 0)),  # type: ignore[arg-type,return-value]
            "the denoiser returned NoneType at t=9",
        ),
        (
            lambda: diffusion.diffusion_trace("ve", [[1.0]], sigmas=[0.1]),  # type: ignore[arg-type]
            "x is list",
        ),
        (
            lambda: GaussianAffineLaw.identity(2) @ GaussianAffineLaw.identity(3),
            "of one group",
        ),
        (
            lambda: diffusion.published_denoising_matrix(ONES, ONES, -1.0, ONES),
            "variance=-1.0",
        ),
        (
            lambda: ONE.loss(torch.ones(3, 2).double(), torch.ones(3, 2)),
            "x has dtype",
        ),
        (
            lambda: ONE.loss(torch.ones(3, 2), torch.ones(3, 2).double()),
            "y has dtype",
        ),
        (
            lambda: ONE.loss(torch.ones(3, 2), torch.ones(3, 2), torch.ones(3, 2, 2).double()),
            "derivative has dtype torch.float64: expected torch.float32",
        ),
        (lambda: ONE.log_loss(torch.ones(3, 2), torch.ones(3, 3).double()), "element has dtype"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_readout_of_no_parameters_has_a_loss():
    x = torch.ones(3, 2, dtype=DOUBLE)
    assert PointStep(nn.Identity(), 2).loss(x, 2 * x)["loss"] == 1
