"""Measures of homomorphism autoencoders: zero where theory says so, and known values elsewhere.

They are computed from tensors on the CPU, but for the last test, which has them where they live.
"""

import json
import math
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from manifold_ae import metrics
from manifold_ae.data.torus import PeriodicPicture
from manifold_ae.groups import (
    SO2,
    SO3,
    Cyclic,
    Dihedral,
    Factor,
    FiniteGroup,
    Group,
    LearnedRepresentation,
    Product,
    Representation,
    Sum,
    Torus,
    irrep,
    irreps,
)
from manifold_ae.groups.defects import random_actions


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> torch.Generator:
    """On the CPU, as what is measured here."""
    return torch.Generator().manual_seed(zlib.crc32(request.node.nodeid.encode()))


def planes(angles: Tensor, *weights: float) -> Tensor:
    """Rotations by the angles ``(n, k)`` times the weights, a plane each: ``(n, 2k, 2k)``."""
    blocks = [SO2().exp(w * angles[:, [j]]) for j, w in enumerate(weights)]
    return together(*blocks)


def together(*parts: Tensor) -> Tensor:
    """The direct sum of matrices ``(n, ·, ·)``."""
    return torch.stack([torch.block_diag(*each) for each in zip(*parts, strict=True)])


def fixed(n: int, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.eye(size, dtype=dtype).repeat(n, 1, 1)


def angles(n: int, k: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return random_actions(Torus(k), n, generator=generator, dtype=dtype)


def orthogonal(n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    return q.to(dtype).contiguous()


def stretched(n: int, condition: float, generator: torch.Generator) -> Tensor:
    """A random matrix of the given condition number."""
    values = torch.linspace(1, condition, n, dtype=torch.float64)
    return orthogonal(n, generator) @ torch.diag(values) @ orthogonal(n, generator)


def circles(*counts: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The grid of angles on a product of circles, of shape ``(*counts, K)``."""
    axes = [2 * math.pi / n * torch.arange(n, dtype=dtype) for n in counts]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def fourier_encoder(picture: PeriodicPicture) -> Callable[[Tensor], Tensor]:
    """The lowest wave in each direction, (cos, sin) of the two shifts: linear in the picture."""
    grid = 2 * math.pi / picture.size * torch.arange(picture.size, dtype=torch.float64) - math.pi
    waves = torch.stack([grid.cos(), grid.sin()])

    def encode(x: Tensor) -> Tensor:
        waves_ = waves.to(x)
        rows, columns = x.mean(-1) @ waves_.mT, x.mean(-2) @ waves_.mT
        return torch.cat([rows, columns], -1)

    return encode


def random_encoder(generator: torch.Generator, size: int, latent: int) -> Callable:
    first = torch.randn(size * size, 64, generator=generator, dtype=torch.float64)
    second = torch.randn(64, latent, generator=generator, dtype=torch.float64)
    return lambda x: torch.tanh(3 * x.double().flatten(-2) @ first) @ second


# ---- rollout --------------------------------------------------------------------------------


class _Turning:
    """A model of turning points of the plane that turns them exactly, and adds to what it draws."""

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z + self.offset

    def rollout(self, o: Tensor, actions: Tensor) -> Tensor:
        turned = SO2().exp(actions.cumsum(1)) @ o[:, None, :, None]
        return self.decode(turned.squeeze(-1))


def turning(n: int, steps: int, generator: torch.Generator, dtype: torch.dtype):
    first = torch.randn(n, 1, 2, generator=generator, dtype=dtype)
    actions = angles(n * steps, 1, generator, dtype).view(n, steps, 1)
    rest = SO2().exp(actions.cumsum(1)) @ first[..., None]
    return torch.cat([first, rest.squeeze(-1)], 1), actions


def test_rollout_errors_by_hand(dtype, generator):
    o = torch.randn(5, 9, 3, 3, generator=generator, dtype=dtype)
    copies = o[:, :1].expand(-1, 8, -1, -1)
    found = metrics.rollout_errors(copies, o, o + 0.5)
    assert found.horizons == (1, 2, 4, 8)
    assert found.relative_to_copying == (1.0,) * 4
    assert found.autoencoding == pytest.approx((0.25,) * 4, rel=1e-5)
    for k, t in enumerate(found.horizons):
        expected = (o[:, 0] - o[:, t]).square().mean().item()
        assert found.prediction[k] == pytest.approx(expected, rel=1e-5)
        assert found.relative_to_autoencoding[k] == pytest.approx(4 * expected, rel=1e-5)


def test_a_model_is_rolled_out_in_batches(dtype, generator, tolerance):
    o, actions = turning(7, 40, generator, dtype)
    found = metrics.evaluate_rollout(_Turning(0.5), o, actions, batch_size=3)
    assert found.horizons == (1, 2, 4, 8, 16, 32)
    assert found.relative_to_autoencoding == pytest.approx((1.0,) * 6, rel=100 * tolerance)
    whole = metrics.rollout_errors(_Turning(0.5).rollout(o[:, 0], actions), o, o + 0.5)
    assert found.copying == pytest.approx(whole.copying)
    assert found.prediction == pytest.approx(whole.prediction)


def test_ratios_to_no_error_are_undefined_and_said_so():
    o = torch.ones(2, 3, 1)
    found = metrics.rollout_errors(o[:, 1:] + 1, o, o)
    assert found.relative_to_copying == found.relative_to_autoencoding == (None, None)
    assert json.loads(json.dumps(found.as_dict()))["relative_to_copying"] == [None, None]
    assert str(found).count("–") == 4


def test_rollouts_that_do_not_fit_are_refused():
    o = torch.zeros(2, 5, 3)
    with pytest.raises(ValueError, match=r"observations has shape \(2, 5, 3\): expected \(2, 6, 3"):
        metrics.rollout_errors(o, o, o)
    with pytest.raises(ValueError, match=r"autoencoded has shape"):
        metrics.rollout_errors(o[:, 1:], o, o[:, 1:])
    with pytest.raises(ValueError, match=r"horizons=\(5, 8\): none is reached"):
        metrics.rollout_errors(o[:, 1:], o, o, horizons=(5, 8))
    with pytest.raises(ValueError, match=r"horizons=\(0,\): expected integers"):
        metrics.rollout_errors(o[:, 1:], o, o, horizons=(0,))
    with pytest.raises(ValueError, match="predicted has 6 of 18 values that are not finite"):
        bad = o[:, 1:].clone()
        bad[:, :, 0] = math.nan  # of the steps 1, 2 and 4
        metrics.rollout_errors(bad, o, o)
    with pytest.raises(ValueError, match="there is nothing to measure"):
        metrics.evaluate_rollout(_Turning(0), torch.zeros(0, 5, 2), torch.zeros(0, 4, 1))
    with pytest.raises(ValueError, match="one more observation than actions"):
        metrics.evaluate_rollout(_Turning(0), torch.zeros(1, 5, 2), torch.zeros(1, 5, 1))
    with pytest.raises(ValueError, match=r"actions has shape \(4,\): expected \(n, T, \*\)"):
        metrics.trace_equivariance(lambda x: x, SO2().exp, torch.zeros(4, 2), torch.zeros(4))


# ---- equivariance ---------------------------------------------------------------------------


def test_a_fourier_encoder_of_a_periodic_picture_is_equivariant(dtype, generator, tolerance):
    picture = PeriodicPicture.fourier(seed=1, size=16)
    encode, factors = fourier_encoder(picture), 2
    moves = angles(60, factors, generator, dtype).view(12, 5, factors)
    states = torch.cat([torch.zeros(12, 1, factors, dtype=dtype), moves.cumsum(1)], 1)
    observations = picture.translate(states)

    def rho(X: Tensor) -> Tensor:
        return planes(X.flatten(0, -2), 1, 1).view(*X.shape[:-1], 4, 4)

    assert metrics.trace_equivariance(encode, rho, observations, moves) <= tolerance**2
    wrong = metrics.trace_equivariance(encode, lambda X: rho(X).mT, observations, moves)
    assert 1 < wrong < 3


def test_equivariance_is_relative_to_the_spread(generator):
    z = torch.randn(4000, 4, generator=generator, dtype=torch.float64)
    other = torch.randn(4000, 4, generator=generator, dtype=torch.float64)
    rho = planes(angles(4000, 2, generator, torch.float64), 1, 3)
    found = metrics.equivariance_error(z, other, rho)
    assert found == pytest.approx(2, rel=0.05)
    q = orthogonal(4, generator)
    for basis, scale in ((q, 1.0), (q, 1e-6), (torch.eye(4), 1e6)):
        basis = scale * basis.double()
        again = metrics.equivariance_error(
            z @ basis.mT, other @ basis.mT, basis @ rho @ basis.inverse()
        )
        assert again == pytest.approx(found, rel=1e-9)
    noisy = (rho @ z[..., None])[..., 0] + 0.1 * other
    spread = (z - z.mean(0)).square().sum(-1).mean()
    expected = 0.01 * other.square().sum(-1).mean() / spread
    assert metrics.equivariance_error(z, noisy, rho) == pytest.approx(expected.item(), rel=1e-9)


def test_a_collapsed_encoder_has_no_equivariance_error(dtype, generator):
    point = torch.randn(3, generator=generator, dtype=dtype).expand(50, 3)
    with pytest.raises(ValueError, match="the encoder has collapsed"):
        metrics.equivariance_error(point, point, fixed(50, 3, dtype))
    with pytest.raises(ValueError, match="collapsed"):
        metrics.equivariance_error(torch.zeros(5, 2), torch.zeros(5, 2), fixed(5, 2).float())
    z = torch.randn(5, 2)
    with pytest.raises(ValueError, match=r"matrices has shape \(5, 3, 3\): expected \(5, 2, 2\)"):
        metrics.equivariance_error(z, z, fixed(5, 3))
    with pytest.raises(ValueError, match="moved has 10 of 10 values that are not finite"):
        metrics.equivariance_error(z, z / 0, fixed(5, 2).float())
    with pytest.raises(ValueError, match="nothing to measure"):
        metrics.equivariance_error(z[:0], z[:0], fixed(0, 2).float())


# ---- D_LSBD ---------------------------------------------------------------------------------


def published_d_lsbd(z: np.ndarray, max_weight: int = 10) -> float:
    """The published estimate, step by step, with rotations applied and means taken."""
    counts = z.shape[:-1]
    total = 0.0
    for k, n in enumerate(counts):
        varying = (z - z.mean(k, keepdims=True)).reshape(-1, z.shape[-1])
        _, s, vt = np.linalg.svd(varying - varying.mean(0), full_matrices=False)
        y = varying @ vt[:2].T / (s[:2] / math.sqrt(len(varying)) * math.sqrt(2))
        theta = 2 * math.pi / n * np.indices(counts)[k].reshape(-1)
        values = []
        for w in range(-max_weight, max_weight + 1):
            cosine, sine = np.cos(w * theta), np.sin(w * theta)
            back = np.stack([cosine * y[:, 0] + sine * y[:, 1], cosine * y[:, 1] - sine * y[:, 0]])
            back = back.T
            values.append(np.square(back - back.mean(0)).sum(-1).mean())
        total += min(values)
    return total


def test_d_lsbd_of_a_fourier_encoder_is_zero_and_of_a_random_one_large(dtype, generator, tolerance):
    picture = PeriodicPicture.fourier(seed=1, size=16)
    x = picture.translate(circles(24, 22, dtype=dtype))
    z = fourier_encoder(picture)(x)
    assert metrics.d_lsbd(z).value <= tolerance
    assert metrics.d_lsbd(z).chosen == (1, 1)
    q = stretched(4, 5, generator).to(dtype)
    shift = torch.randn(4, generator=generator, dtype=torch.float64).to(dtype)
    assert metrics.d_lsbd(1e3 * z @ q + shift).value <= 100 * tolerance
    found = metrics.d_lsbd(random_encoder(generator, 16, 4)(x))
    assert found.value > 0.6
    assert all(0 <= part <= 1 for part in found.factors)


def test_d_lsbd_is_the_published_one_and_unchanged_by_similarities(generator):
    grid = circles(22, 24)
    features = torch.cat([grid.cos(), grid.sin(), (2 * grid).cos(), grid.prod(-1, True).sin()], -1)
    z = torch.tanh(features @ torch.randn(7, 5, generator=generator, dtype=torch.float64))
    found = metrics.d_lsbd(z).value
    assert found == pytest.approx(published_d_lsbd(z.numpy()), abs=1e-12)
    q = orthogonal(5, generator)
    assert metrics.d_lsbd(3 * z @ q + 1).value == pytest.approx(found, abs=1e-12)
    assert metrics.d_lsbd(z.flip(0)).value == pytest.approx(found, abs=1e-12)
    assert metrics.d_lsbd(z.roll(5, 1)).value == pytest.approx(found, abs=1e-12)


def test_d_lsbd_in_closed_form():
    a, b = circles(24, 24).unbind(-1)
    entangled = torch.stack([(a + b).cos(), (a + b).sin()], -1)
    assert metrics.d_lsbd(entangled).value == pytest.approx(2)
    assert metrics.d_lsbd(entangled).mean == pytest.approx(1)
    for size in (0.1, 0.5):
        # e^{ia} + size e^{2ia}: an angle with a second harmonic.
        c, s = a.cos() + size * (2 * a).cos(), a.sin() + size * (2 * a).sin()
        z = torch.stack([c, s, (3 * b).cos(), (3 * b).sin()], -1)
        found = metrics.d_lsbd(z)
        assert found.factors == pytest.approx((size**2 / (1 + size**2), 0), abs=1e-12)
        assert found.chosen == (1, 3)


def test_a_factor_that_the_latents_ignore_contributes_one(dtype, tolerance):
    a = circles(24, 24, dtype=dtype)[..., 0]
    z = torch.stack([a.cos(), a.sin(), 0 * a], -1)
    found = metrics.d_lsbd(z)
    assert found.factors == pytest.approx((0, 1), abs=tolerance)
    assert found.chosen == (1, None)
    faint = 1e-3 * torch.randn(z.shape, dtype=dtype)
    assert metrics.d_lsbd(z + faint).factors[1] > 0.9
    with pytest.raises(ValueError, match="collapsed, and D_LSBD is undefined"):
        metrics.d_lsbd(torch.full((24, 24, 3), 0.1, dtype=dtype))


degree_two = irrep(SO3(), 2)


def test_d_lsbd_of_irreps_that_are_given(dtype, generator, tolerance):
    X = random_actions(SO3(), 300, generator=generator, dtype=dtype)
    given = metrics.GivenFactor(X, [SO3().exp, degree_two])
    v, w = torch.randn(2, 5, generator=generator, dtype=torch.float64).to(dtype)
    for size, orbit in ((3, SO3().exp(X) @ v[:3]), (5, degree_two(X) @ w)):
        q = stretched(size, 3, generator).to(dtype)
        found = metrics.d_lsbd(orbit @ q + 1, [given])
        assert found.value <= 10 * tolerance
        assert found.chosen == ((0,) if size == 3 else (1,))
    # A product of a circle with rotations.
    theta = circles(21, dtype=dtype)[:, 0]
    pair = torch.stack([(2 * theta).cos(), (2 * theta).sin()], -1)
    z = torch.cat(
        [pair[:, None].expand(-1, 300, -1), (SO3().exp(X) @ v[:3]).expand(21, -1, -1)], -1
    )
    z = z @ orthogonal(5, generator, dtype)
    given = metrics.GivenFactor(X, [SO3().exp])
    found = metrics.d_lsbd(z, [None, given])
    assert found.value <= 10 * tolerance
    assert found.chosen == (2, 0)
    squashed = torch.sign(SO3().exp(X) @ v[:3])
    assert 0.05 < metrics.d_lsbd(squashed, [given]).value < 0.5
    unrelated = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    assert metrics.d_lsbd(unrelated, [given]).value > 0.9


def test_dispersion_is_what_d_lsbd_minimises(generator, dtype, tolerance):
    theta = circles(30, dtype=dtype)
    z = torch.cat([theta.cos(), theta.sin()], -1)
    assert metrics.dispersion(z, SO2().exp(theta)) <= tolerance
    assert metrics.dispersion(z, SO2().exp(2 * theta)) == pytest.approx(1)
    bent = z + 0.3 * torch.cat([(2 * theta).cos(), (2 * theta).sin()], -1)
    found = metrics.dispersion(bent, SO2().exp(theta))
    assert found == pytest.approx(metrics.d_lsbd(bent).value, abs=tolerance)
    with pytest.raises(ValueError, match="zero everywhere"):
        metrics.dispersion(torch.zeros(3, 2), fixed(3, 2).float())
    with pytest.raises(ValueError, match=r"matrices has shape \(3, 2, 2\): expected \(4, 2, 2\)"):
        metrics.dispersion(torch.zeros(4, 2), fixed(3, 2).float())


def test_grids_that_do_not_fit_are_refused(generator):
    z = torch.randn(24, 24, 3, generator=generator)
    with pytest.raises(ValueError, match="z has 12 angles on axis 1: expected more than 20"):
        metrics.d_lsbd(z[:, :12])
    assert metrics.d_lsbd(z[:, :12], max_weight=5).value > 0.5
    with pytest.raises(ValueError, match="z has 1 latent dimensions: expected at least 2"):
        metrics.d_lsbd(z[..., :1])
    with pytest.raises(ValueError, match="factors has 1 entries: expected 2"):
        metrics.d_lsbd(z, [None])
    with pytest.raises(ValueError, match="max_weight=0"):
        metrics.d_lsbd(z, max_weight=0)
    with pytest.raises(ValueError, match="not finite"):
        metrics.d_lsbd(z / 0)
    X = torch.zeros(24, 3)
    with pytest.raises(ValueError, match="irreps is empty"):
        metrics.d_lsbd(z, [None, metrics.GivenFactor(X, [])])
    with pytest.raises(ValueError, match="is not orthogonal"):
        metrics.d_lsbd(z, [None, metrics.GivenFactor(X, [lambda X: 2 * SO3().exp(X)])])
    with pytest.raises(ValueError, match=r"gives shape \(23, 3, 3\): expected \(24, s, s\)"):
        metrics.d_lsbd(z, [None, metrics.GivenFactor(X[1:], [SO3().exp])])


# ---- blocks ---------------------------------------------------------------------------------


def torus_generators(*weights: float, fixed_dimensions: int = 0) -> Tensor:
    n = 2 * len(weights) + fixed_dimensions
    generators = torch.zeros(len(weights), n, n, dtype=torch.float64)
    for k, w in enumerate(weights):
        generators[k, 2 * k, 2 * k + 1], generators[k, 2 * k + 1, 2 * k] = -w, w
    return generators


def turned(matrices: Tensor, q: Tensor) -> Tensor:
    return q @ matrices @ q.inverse()


def regular(group: FiniteGroup) -> Tensor:
    """Permutation matrices of the group acting on itself from the left."""
    table = torch.as_tensor(group.table)
    return torch.nn.functional.one_hot(table, group.order).double().mT


def quaternion_group() -> FiniteGroup:
    """±1, ±i, ±j, ±k, whose irrep of size 4 is of quaternionic type."""
    units = [torch.eye(2, dtype=torch.complex128)]
    units += [
        torch.tensor(m, dtype=torch.complex128)
        for m in ([[1j, 0], [0, -1j]], [[0, 1], [-1, 0]], [[0, 1j], [1j, 0]])
    ]
    elements = torch.stack([sign * u for u in units for sign in (1, -1)])
    products = elements[:, None] @ elements
    gaps = (products[:, :, None] - elements).abs().amax((-1, -2))
    return FiniteGroup(gaps.argmin(-1).tolist())


def test_blocks_of_rotated_generators_are_found(dtype, generator, tolerance):
    generators = torus_generators(1, 3, fixed_dimensions=2)
    q = orthogonal(6, generator)
    matrices = turned(generators, q).to(dtype)
    found = metrics.find_blocks(matrices)
    assert found.sizes == (2, 2, 1, 1)
    assert found.off_block <= tolerance**2
    assert found.condition == pytest.approx(1)
    again = metrics.off_block_energy(matrices, found.sizes, found.basis)
    assert again == pytest.approx(found.off_block, abs=tolerance**2)
    # Fewer and larger blocks are possible as well, and other ones are not.
    assert metrics.find_blocks(matrices, sizes=(3, 3)).off_block <= tolerance**2
    assert metrics.find_blocks(matrices, sizes=(2, 4)).sizes == (2, 4)
    assert metrics.find_blocks(matrices, sizes=(2, 1, 1, 1, 1)).off_block > 0.05


def test_one_weak_plane_among_lines_is_all_that_is_lost():
    # Of the energies 1 and 9 of two planes, blocks of sizes 2, 1, 1 leave the smaller outside.
    found = metrics.find_blocks(torus_generators(1, 3), sizes=(2, 1, 1))
    assert found.off_block == pytest.approx(0.1, abs=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_blocks_are_found_through_noise(noise, generator):
    q = orthogonal(5, generator)
    matrices = turned(torus_generators(1, 2, fixed_dimensions=1), q)
    error = noise * torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)
    found = metrics.find_blocks(matrices + error)
    assert found.sizes == (2, 2, 1)
    assert found.off_block <= 4 * noise**2 + 1e-20
    truth = metrics.off_block_energy(matrices + error, (2, 2, 1), q)
    best = metrics.find_blocks(matrices + error, sizes=(2, 2, 1))
    assert best.off_block <= truth + 1e-20


@pytest.mark.parametrize("weights", [(1, 5), (1, 2, 3)])
def test_errors_of_five_percent_hide_no_blocks(weights, generator):
    generators = torus_generators(*weights, fixed_dimensions=2)
    n = generators.shape[-1]
    for _ in range(10):
        error = torch.randn(generators.shape, generator=generator, dtype=torch.float64)
        error *= 0.05 * generators.norm() / error.norm()
        found = metrics.find_blocks(turned(generators + error, orthogonal(n, generator)))
        assert found.sizes == (*[2] * len(weights), 1, 1)


def test_blocks_of_rotations_of_space(generator):
    X = random_actions(SO3(), 200, generator=generator, dtype=torch.float64)
    r, five = SO3().exp(X), degree_two(X)
    for parts, sizes in (
        ((r, r), (3, 3)),
        ((r, five, fixed(200, 1)), (5, 3, 1)),
        ((torch.einsum("nij,nkl->nikjl", r, r).reshape(-1, 9, 9),), (5, 3, 1)),
    ):
        n = sum(sizes)
        matrices = turned(together(*parts), orthogonal(n, generator))
        found = metrics.find_blocks(matrices)
        assert found.sizes == sizes
        assert found.off_block <= 1e-20
        bent = turned(together(*parts), stretched(n, 3, generator))
        general = metrics.find_blocks(bent, orthogonal=False)
        assert general.sizes == sizes
        assert general.off_block <= 1e-20
        assert general.condition < 30


def test_blocks_of_regular_representations(generator):
    symmetric = FiniteGroup(_symmetric_table())
    for group, sizes in (
        (Cyclic(5), (2, 2, 1)),
        (symmetric, (2, 2, 1, 1)),
        (quaternion_group(), (4, 1, 1, 1, 1)),
    ):
        matrices = turned(regular(group), orthogonal(group.order, generator))
        found = metrics.find_blocks(matrices)
        assert found.sizes == sizes
        assert found.off_block <= 1e-20


def _symmetric_table() -> list[list[int]]:
    """The table of the permutations of three things."""
    elements = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0)]
    return [[elements.index(tuple(g[i] for i in h)) for h in elements] for g in elements]


def test_off_block_energy_by_hand_and_errors():
    matrices = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 2.0]]])
    assert metrics.off_block_energy(matrices, (1, 1)) == pytest.approx(0.5)
    assert metrics.off_block_energy(matrices, (2,)) == 0
    assert metrics.off_block_energy(0 * matrices, (1, 1)) == 0
    assert metrics.find_blocks(0 * matrices).sizes == (1, 1)
    assert metrics.find_blocks(torch.eye(3)[None]).sizes == (1, 1, 1)
    with pytest.raises(ValueError, match=r"sizes=\(1, 2\) add up to 3: expected 2"):
        metrics.off_block_energy(matrices, (1, 2))
    with pytest.raises(ValueError, match=r"sizes=\(2, 0\): expected integers of at least 1"):
        metrics.find_blocks(matrices, sizes=(2, 0))
    with pytest.raises(ValueError, match="basis is singular"):
        metrics.off_block_energy(matrices, (1, 1), torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"matrices has shape \(2, 2\)"):
        metrics.find_blocks(matrices[0])
    with pytest.raises(ValueError, match="not finite"):
        metrics.find_blocks(matrices / 0)
    with pytest.raises(ValueError, match="nothing to measure"):
        metrics.find_blocks(matrices[:0])
    with pytest.raises(ValueError, match=r"tolerance=0: expected a fraction"):
        metrics.find_blocks(matrices, tolerance=0)


# ---- alignment ------------------------------------------------------------------------------


def test_a_perfect_representation_in_any_basis_is_aligned(dtype, generator, tolerance):
    truth = planes(angles(300, 2, generator, torch.float64), 1, 1)
    q = orthogonal(4, generator)
    found = metrics.align_matrices(turned(truth, q).to(dtype), truth.to(dtype))
    assert found.residual <= tolerance**2
    assert found.condition == pytest.approx(1, abs=10 * tolerance)
    assert found.character_gap <= tolerance
    assert found.null_dimension == 4
    assert found.counts
    s = stretched(4, 3, generator)
    found = metrics.align_matrices(turned(truth, s).to(dtype), truth.to(dtype))
    assert found.residual <= 10 * tolerance**2
    assert found.condition <= 3 * (1 + 10 * tolerance)
    gap = found.matrix @ truth - turned(truth, s) @ found.matrix
    assert gap.abs().max() <= 100 * tolerance


def test_the_condition_number_is_the_least_there_is(generator):
    # Over diag(a I, b I) in front of a stretching of the first coordinate of each plane by 2 and 3
    # the best is κ = 3; and multiplicities let planes mix.
    truth = planes(angles(200, 2, generator, torch.float64), 1, 2)
    s = torch.diag(torch.tensor([2.0, 1.0, 30.0, 10.0], dtype=torch.float64))
    q = orthogonal(4, generator)
    found = metrics.align_matrices(turned(truth, q @ s), truth)
    assert found.condition == pytest.approx(3, rel=1e-3)
    X = random_actions(SO3(), 200, generator=generator, dtype=torch.float64)
    twice = together(SO3().exp(X), SO3().exp(X))
    mixed = torch.kron(stretched(2, 50, generator), orthogonal(3, generator))
    found = metrics.align_matrices(turned(twice, mixed), twice)
    assert found.condition == pytest.approx(1, abs=1e-6)
    assert found.null_dimension == 4


def test_a_representation_that_ignores_a_factor_does_not_count(generator):
    X = angles(300, 2, generator, torch.float64)
    truth = planes(X, 1, 1)
    ignoring = together(planes(X[:, :1], 1), fixed(300, 2))
    found = metrics.align_matrices(turned(ignoring, orthogonal(4, generator)), truth)
    assert found.residual <= 1e-20  # of a singular A, which is why it does not count
    assert found.condition == math.inf
    assert not found.counts
    assert found.character_gap > 1
    noise = 1e-3 * torch.randn(300, 4, 4, generator=generator, dtype=torch.float64)
    assert not metrics.align_matrices(ignoring + noise, truth).counts
    # Small actions do not hide it.
    small = 0.1 * X
    ignoring = together(planes(small[:, :1], 1), fixed(300, 2))
    assert not metrics.align_matrices(ignoring, planes(small, 1, 1)).counts
    assert not metrics.align_matrices(planes(small, 1, 2), planes(small, 1, 1)).counts


def test_a_weight_that_is_no_integer_leaves_a_residual(generator):
    # The best A for weight w against 1 turns: E |R(θ) − R(wθ)|² / E |R|² = 2 (1 − sinc(w − 1)).
    grid = (2 * math.pi * (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000 - math.pi)[:, None]
    found = metrics.align_matrices(planes(grid, 0.9), planes(grid, 1))
    assert found.residual == pytest.approx(2 * (1 - np.sinc(0.1)), rel=1e-4)
    assert found.counts
    gap = 2 * ((0.9 * grid).cos() - grid.cos()).abs().mean().item()
    assert found.character_gap == pytest.approx(gap)


def test_free_dimensions_neither_help_nor_hurt(generator):
    X = angles(200, 2, generator, torch.float64)
    truth = planes(X, 1, 3)
    larger = turned(together(truth, fixed(200, 2)), orthogonal(6, generator))
    found = metrics.align_matrices(larger, truth)
    assert found.residual <= 1e-20
    assert found.condition == pytest.approx(1)
    assert found.character_gap <= 1e-12
    assert metrics.align_matrices(truth, larger).counts
    assert not metrics.align_matrices(planes(X[:, :1], 1), truth).counts


def test_alignment_is_invariant_deterministic_and_takes_callables(generator):
    X = angles(200, 2, generator, torch.float64)
    truth = planes(X, 1, 2)
    learned = turned(truth, stretched(4, 4, generator))
    learned = learned + 0.02 * torch.randn(200, 4, 4, generator=generator, dtype=torch.float64)
    found = metrics.align_matrices(learned, truth)
    assert 0 < found.residual < 0.01
    assert found == metrics.align(lambda _: learned, lambda _: truth, X)
    p, q = orthogonal(4, generator), orthogonal(4, generator)
    again = metrics.align_matrices(turned(learned, p), turned(truth, q))
    assert again.condition == pytest.approx(found.condition, rel=1e-3)
    assert again.residual == pytest.approx(found.residual, rel=1e-2)
    assert "residual=0.00" in repr(found)
    assert "matrix" not in repr(found)


def test_alignments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one matrix of each for every action"):
        metrics.align_matrices(fixed(3, 2), fixed(4, 2))
    with pytest.raises(ValueError, match="common kernel"):
        metrics.align_matrices(fixed(3, 2), 0 * fixed(3, 2))
    with pytest.raises(ValueError, match="not finite"):
        metrics.align_matrices(fixed(3, 2) / 0, fixed(3, 2))
    with pytest.raises(ValueError, match="nothing to measure"):
        metrics.align_matrices(fixed(0, 2), fixed(0, 2))
    with pytest.raises(ValueError, match="tolerance=2"):
        metrics.align_matrices(fixed(3, 2), fixed(3, 2), tolerance=2)


# ---- homomorphism ---------------------------------------------------------------------------


class _Map:
    """A map of actions with the attributes of a representation, be it one or not."""

    def __init__(self, group: Group, size: int, function: Callable[[Tensor], Tensor]) -> None:
        self.group, self.size, self.function = group, size, function

    def __call__(self, action: Tensor) -> Tensor:
        return self.function(action)


@pytest.mark.parametrize("weight", [0.5, 0.9, 1.0, 2.0])
def test_the_homomorphism_error_of_a_weight_is_known(weight, generator):
    rho = _Map(SO2(), 2, lambda X: SO2().exp(weight * X))
    found = metrics.homomorphism_defects(rho, 20_000, generator=generator, dtype=torch.float64)
    expected = abs(math.sin(math.pi * weight)) / 2
    assert found.homomorphism == pytest.approx(expected, abs=0.01 * (weight % 1 > 0) + 1e-12)
    assert found.inverse <= 1e-12
    assert found.identity == 0


LAWFUL: dict[str, Representation] = {
    "circle": irrep(SO2(), 3),
    "torus": Sum(irrep(Torus(2), (1, 2)), irrep(Torus(2), (0, 1))),
    "rotations": Sum(irrep(SO3(), 1), degree_two),
    "product": Factor(Product(SO2(), SO3()), 1, irrep(SO3(), 1)),
    "cyclic": irrep(Cyclic(5), 2),
    "dihedral": Sum(*irreps(Dihedral(4))),
}


@pytest.mark.parametrize("name", LAWFUL)
def test_representations_have_no_defects(name, dtype, generator, tolerance):
    found = metrics.homomorphism_defects(LAWFUL[name], 100, generator=generator, dtype=dtype)
    assert found.inverse <= 10 * max(tolerance, 1e-5 * (name in ("cyclic", "dihedral")))
    assert found.identity <= max(tolerance, 1e-5 * (name in ("cyclic", "dihedral")))
    # Next to half a turn a logarithm of rotations loses half of the digits.
    assert found.homomorphism <= max(10 * tolerance, 1e-5)


def test_defects_by_hand(generator):
    # ρ(X) = −exp X: ρ(gh) = −gh, ρ(g)ρ(h) = gh.
    found = metrics.homomorphism_defects(_Map(SO3(), 3, lambda X: -SO3().exp(X)), 50)
    assert found.homomorphism == pytest.approx(2)
    assert found.inverse <= 1e-5
    assert found.identity == pytest.approx(2)
    # The constant 2I: |2I − 4I|/|2I|, |4I − I|/|I|, |2I − I|/|I|.
    found = metrics.homomorphism_defects(_Map(SO3(), 3, lambda X: 2 * SO3().exp(0 * X)), 50)
    assert (found.homomorphism, found.inverse, found.identity) == pytest.approx((1, 3, 1))


def test_a_learned_representation_is_measured():
    rho = LearnedRepresentation(SO3(), blocks=[3, 3])
    found = metrics.homomorphism_defects(rho, 200)
    assert found.homomorphism > 0.1
    assert found.inverse <= 1e-5
    assert found.identity <= 1e-6
    X = random_actions(SO3(), 200)
    assert metrics.align(rho, Sum(irrep(SO3(), 1), irrep(SO3(), 1)), X).residual > 0.1
    blocks = metrics.find_blocks(rho(X).detach())
    assert blocks.sizes == (3, 3)
    assert blocks.off_block <= 1e-10


def test_maps_that_cannot_be_measured_are_refused():
    with pytest.raises(ValueError, match="homomorphism error of nan: expected finite matrices"):
        metrics.homomorphism_defects(_Map(SO3(), 3, lambda X: SO3().exp(X) / 0))
    with pytest.raises(ValueError, match="n=0: expected an integer of at least 1"):
        metrics.homomorphism_defects(irrep(SO2(), 1), 0)


# ---- everywhere -----------------------------------------------------------------------------


def test_measures_are_the_same_on_every_device(device, dtype, generator, tolerance):
    X = angles(60, 2, generator, dtype)
    truth = planes(X, 1, 2)
    learned = turned(truth.double(), stretched(4, 2, generator)).to(dtype)
    learned += 0.01 * torch.randn(60, 4, 4, generator=generator, dtype=dtype)
    z = torch.tanh(torch.randn(22, 22, 4, generator=generator, dtype=dtype))
    flat = z.view(-1, 4)[:60]
    o = z[:, :5]

    def measures(*tensors: Tensor) -> list[float]:
        truth, learned, z, flat, o = tensors
        alignment = metrics.align_matrices(learned, truth)
        blocks = metrics.find_blocks(learned, sizes=(2, 2))
        return [
            alignment.residual,
            alignment.condition,
            blocks.off_block,
            metrics.off_block_energy(learned, blocks.sizes, blocks.basis),
            metrics.d_lsbd(z).value,
            metrics.dispersion(flat, truth),
            metrics.equivariance_error(flat, flat.flip(0), truth),
            *metrics.rollout_errors(o[:, 1:], o, 0.5 * o).prediction,
        ]

    here = (truth, learned, z, flat, o)
    found = measures(*(t.to(device) for t in here))
    assert found == pytest.approx(measures(*here), rel=1e-4, abs=100 * tolerance)
