"""The affine representation of scalings and translations, and how small a code can be."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from manifold_ae import data, groups, metrics
from manifold_ae.diffusion import Schedule
from manifold_ae.groups import AffineRepresentation, Defining, ScaleTranslation
from manifold_ae.models import HomomorphismAutoencoder
from manifold_ae.nn import MLP

G = ScaleTranslation(6)


def actions(generator, *shape, dtype=torch.float64, group=G):
    shape = (*shape, group.dim)
    return torch.randn(shape, generator=generator, dtype=dtype, device=generator.device) / 2


def gap(x, y):
    return ((x - y).abs().max() / y.abs().max().clamp_min(1)).item()


@pytest.fixture(params=[None, 7, 4, 2], ids=lambda size: f"size={size}")
def rho(request, dtype, device):
    return AffineRepresentation(G, request.param).to(device=device, dtype=dtype)


# ---- the representation -------------------------------------------------------------------------


def test_it_is_a_homomorphism_whatever_the_projection(rho, generator, dtype, tolerance):
    X, Y = actions(generator, 2, 40, dtype=dtype)
    with torch.no_grad():
        for p in rho.parameters():
            p.mul_(3).add_(1)
    g, h = G.exp(X), G.exp(Y)
    assert gap(rho.of(G.compose(g, h)), rho(X) @ rho(Y)) <= tolerance
    assert gap(rho(-X) @ rho(X), torch.eye(rho.size).to(X)) <= tolerance
    assert torch.equal(rho(torch.zeros_like(X[0])), torch.eye(rho.size).to(X))


def test_matrices_are_exponentials_and_move_latents(rho, generator, dtype, tolerance):
    """ρ = exp φ; ``act`` and ``rollout`` are products with these matrices."""
    X = actions(generator, 5, 8, dtype=dtype)
    z = torch.randn(5, rho.size, generator=generator, dtype=dtype, device=X.device)
    matrices = rho(X)
    assert gap(torch.linalg.matrix_exp(rho.generator(X)), matrices) <= tolerance
    basis = torch.eye(G.dim).to(X)
    assert gap((X @ rho.generator(basis).flatten(1)).unflatten(-1, (rho.size,) * 2),
               rho.generator(X)) <= tolerance  # fmt: skip
    path, moved = [], z
    for matrix, action in zip(matrices.unbind(1), X.unbind(1), strict=True):
        assert gap(rho.act(action, moved), (matrix @ moved.unsqueeze(-1)).squeeze(-1)) <= tolerance
        moved = rho.act(action, moved)
        path.append(moved)
    assert gap(rho.rollout(X, z), torch.stack(path, 1)) <= tolerance


def test_without_a_size_it_is_the_defining_one(generator, dtype, tolerance):
    X = actions(generator, 9, dtype=dtype)
    rho = AffineRepresentation(G)
    assert rho.size == 7 and not list(rho.parameters())
    assert gap(rho(X), Defining(G)(X)) <= tolerance


def test_its_code_is_moved_exactly(rho, generator, dtype, tolerance):
    X = actions(generator, 30, dtype=dtype)
    x = torch.randn(30, 6, generator=generator, dtype=dtype, device=X.device)
    moved = G.act(G.exp(X), x)
    assert gap(rho.act(X, rho.code(x)), rho.code(moved)) <= tolerance


def test_gradients_are_those_of_differences(generator, device):
    rho = AffineRepresentation(G, 4).to(device=device, dtype=torch.float64)
    X, z = actions(generator, 2, 3), torch.randn(2, 4, dtype=torch.float64, device=device)
    X[0, 0] = 0
    X.requires_grad_()
    assert torch.autograd.gradcheck(lambda X, z: rho.rollout(X, z), (X, z.requires_grad_()))


# ---- how small a code can be --------------------------------------------------------------------


def packed(v: torch.Tensor, rows: int) -> torch.Tensor:
    """Translations as a block above the diagonal: N_v of a faithful representation, small."""
    block = v.unflatten(-1, (rows, -1))
    size = rows + block.shape[-1]
    result = v.new_zeros(*v.shape[:-1], size, size)
    result[..., :rows, rows:] = block
    return result


def test_a_faithful_representation_may_be_small_and_still_move_no_code(generator):
    """[[s I, B], [0, I]] with the n numbers of b as the p×q block B: faithful, of size p + q.

    Its fixed vectors of scalings about 0 are (0, q), so codes see B q alone, p numbers of n.
    """
    n, p = G.n, 2
    x = torch.zeros(1, dtype=torch.float64, device=generator.device)

    def rho(g: torch.Tensor) -> torch.Tensor:
        size = p + n // p
        diagonal = torch.ones(*g.shape[:-1], size).to(g)
        diagonal[..., :p] = g[..., :1]
        return torch.diag_embed(diagonal) + packed(g[..., 1:], p)

    g, h = (G.exp(actions(generator, 50)) for _ in range(2))
    assert gap(rho(G.compose(g, h)), rho(g) @ rho(h)) <= 1e-12
    assert rho(g).shape[-1] == 5 < n + 1
    # Faithful: the n directions move n different ways.
    basis = packed(torch.eye(n).to(x), p).flatten(1)
    assert torch.linalg.matrix_rank(basis) == n
    # Every equivariant code is h(x) = ρ(1, x) h(0), with h(0) fixed by scalings about 0.
    scaling = rho(torch.tensor([2.0, *[0.0] * n], dtype=torch.float64, device=x.device))
    values, vectors = torch.linalg.eigh(scaling)
    fixed = vectors[:, (values - 1).abs() < 1e-9]
    for start in (*fixed.mT, fixed @ torch.randn(fixed.shape[-1]).to(x)):
        slopes = packed(torch.eye(n).to(x), p) @ start  # N_e h(0), a row for each direction e
        assert torch.linalg.matrix_rank(slopes) <= p
        ignored = torch.linalg.svd(slopes.mT)[2][-1]  # of these n directions, one is not seen
        shift = torch.cat([torch.ones(1).to(x), ignored])
        assert (rho(shift) @ start - start).abs().max() <= 1e-12


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_code_is_a_sum_of_eigenvectors_of_the_scaling(degree):
    """h(x) = Σ_k N_xᵏ h(0)/k! with A N_xᵏ h(0) = k N_xᵏ h(0), in symmetric powers of (x, 1) too.

    So N_x h(0) = 0 makes all terms vanish but the first, and x is not told from 0.
    """
    rho = groups.TensorProduct(*[Defining(ScaleTranslation(2))] * degree)
    A, *N = rho.generators()
    start = torch.zeros(3**degree, dtype=torch.float64)
    start[-1] = 1  # the last axis of every factor
    assert (A @ start).abs().max() == 0
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    along = torch.einsum("ni,iab->nab", x, torch.stack(N))
    term, summed = start.expand(40, -1), start.expand(40, -1)
    for k in range(1, degree + 1):
        term = torch.einsum("nab,nb->na", along, term) / k
        assert gap(term @ A.mT, k * term) <= 1e-12 and term.abs().max() > 0.1
        summed = summed + term
    shift = torch.cat([torch.ones(40, 1, dtype=torch.float64), x], -1)
    assert gap(rho.of(shift) @ start, summed) <= 1e-12


def test_where_data_and_translations_span_less_a_smaller_code_is_exact(generator):
    """Points and translations of a subspace of r dimensions: (Px, 1) of size r + 1 loses none."""
    r = 3
    drawn = torch.randn(6, r, generator=generator, device=generator.device, dtype=torch.float64)
    basis = torch.linalg.qr(drawn)[0]
    x, v = (torch.randn(20, r).to(basis) @ basis.mT for _ in range(2))
    X = torch.cat([torch.randn(20, 1).to(x) / 2, v], -1)
    rho = AffineRepresentation(G, r + 1).to(basis)
    with torch.no_grad():
        rho.projection.copy_(basis.mT)
    z = rho.act(X, rho.code(x))
    assert gap(z[:, :-1] @ basis.mT, G.act(G.exp(X), x)) <= 1e-12
    # Points that leave it are not told apart.
    away = torch.linalg.svd(basis.mT)[2][-1]
    assert gap(x + away, x) > 0.1
    assert gap(rho.code(x + away), rho.code(x)) <= 1e-12


# ---- pictures of 28 × 28 ------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """The most numbers in any tensor that is made."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor):
                self.numbers = max(self.numbers, x.numel())
        return result


@pytest.mark.parametrize("size", [None, 33])
def test_pictures_of_784_pixels_never_make_a_dense_matrix(size):
    """Traces, a step of training and a rollout: nothing is as large as one matrix of 785²."""
    x = torch.rand(4, 28, 28) * 2 - 1
    with Largest() as seen:
        traces = data.diffusion_traces("vp", x, Schedule.linear(), times=(0, 20, 40, 60))
        composed = traces.group.exp(traces.actions.double())
        assert composed.shape == (4, 3, 785)
        rho = AffineRepresentation(traces.group, size)
        hae = HomomorphismAutoencoder(MLP((28, 28), (32,)), MLP(rho.size, (32,)), rho)
        hae.loss(traces.observations, traces.actions)["loss"].backward()
        assert hae.rollout(traces.observations[:, 0], traces.actions).shape == (4, 3, 28, 28)
    assert seen.numbers < 785**2 / 10


def test_it_is_learned_in_a_homomorphism_autoencoder(generator):
    """The code that ρ has is a fixed point of the prediction term, and P has a gradient."""
    x = torch.randn(64, 6, generator=generator, device=generator.device).double()
    traces = data.diffusion_traces("vp", x, Schedule.linear(), times=(0, 100, 200, 300))
    rho = AffineRepresentation(G, 4)
    hae = HomomorphismAutoencoder(MLP(6, (8,)), MLP(4, (8,)), rho).to(x.device)
    loss = hae.loss(traces.observations, traces.actions)
    loss["loss"].backward()
    assert rho.projection.grad.abs().max() > 0
    found = metrics.action_defects(rho, traces.actions)
    assert max(found.homomorphism_of_moves, found.composition, found.inverse) <= 1e-5


# ---- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AffineRepresentation(groups.SO3(), 3), "expected ScaleTranslation"),
        (lambda: AffineRepresentation(ScaleTranslation(2, diagonal=True)), "with one scale"),
        (lambda: AffineRepresentation(G, 8), "size = 8: expected an integer from 2 to 7"),
        (lambda: AffineRepresentation(G, 1), "size = 1: expected an integer from 2 to 7"),
        (lambda: AffineRepresentation(G, 3.0), "size = 3.0"),  # type: ignore[arg-type]
        (lambda: AffineRepresentation(G, 3)(torch.ones(4)), "X has shape"),
        (lambda: AffineRepresentation(G, 3)(torch.ones(7).double()), "X has dtype torch.float64"),
        (lambda: AffineRepresentation(G, 3).act(torch.ones(7), torch.ones(2)), "z has shape"),
        (lambda: AffineRepresentation(G, 3).code(torch.ones(7)), r"x has shape \(7,\)"),
        (
            lambda: AffineRepresentation(G, 3).rollout(torch.ones(0, 7), torch.ones(3)),
            "one step or more",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_products_without_an_action_are_left_out():
    G = groups.GL(2)
    half = torch.tensor([0.0, -math.pi / 2, math.pi / 2, 0.0], dtype=torch.float64)
    turns = half * torch.tensor([[1.0], [1.0], [0.2]])  # the first two make −I, of no action
    found = metrics.action_defects(Defining(G), torch.stack([turns, 0.3 * turns]))
    assert max(found.homomorphism, found.composition, found.inverse) < 1e-6
    with pytest.raises(ValueError, match="none of the 2 products of neighbours has a principal"):
        metrics.action_defects(Defining(G), turns[None, :2].expand(2, -1, -1))
    back = torch.stack([half, 0.1 * half, 0.9 * half])[None]
    for measure in (metrics.action_defects, metrics.probed_defects):
        moves = groups.LearnedRepresentation(G, blocks=[2], orthogonal=False).double()
        found = measure(moves, back)
        assert found.homomorphism > 0 and found.composition == math.inf
