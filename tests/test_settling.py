"""The end of a perceptron's training: least squares of what is linear in φ, and its penalty."""

import math

import pytest
import torch

from manifold_ae import groups, run
from manifold_ae.experiments import HAE
from manifold_ae.groups import LearnedRepresentation, Torus, defects
from manifold_ae.models import HomomorphismAutoencoder
from manifold_ae.nn import MLP
from manifold_ae.run import homomorphism as hae_run
from manifold_ae.run import settling
from manifold_ae.training import Checkpoint

KINDS = {
    "linear": {"blocks": [2, 2]},
    "perceptron": {"blocks": [2, 2], "phi": "mlp", "hidden": (8,)},
    "beside a linear map": {"blocks": [2, 2], "phi": "mlp", "hidden": (8, 8), "skip": True},
    "scrambled, soft": {
        "size": 4, "blocks": "soft", "phi": "mlp", "hidden": (8,), "activation": "tanh",
        "skip": True, "scramble": 1,
    },
    "rotations of space": {"blocks": [3, 2], "phi": "mlp", "hidden": (4,)},
    "planes, not orthogonal": {"blocks": [2], "phi": "mlp", "hidden": (4,), "orthogonal": False},
    "not orthogonal": {"blocks": [3], "phi": "mlp", "hidden": (4,), "orthogonal": False},
}  # fmt: skip
TINY = HAE(
    data="pictures", world=("size=8",), traces=60, epochs=1, restarts=1, encoder_hidden=(16,),
    decoder_hidden=(16,), phi="mlp", phi_hidden=(8,), num_rollouts=2, horizon=4, device="cpu",
)  # fmt: skip


def representation(name, dtype, device="cpu", group=None):
    return LearnedRepresentation(group or Torus(2), **KINDS[name]).to(device, dtype)


def model_of(rho):
    return HomomorphismAutoencoder(MLP(6, (8,)), MLP(rho.size, (8,)), rho).to(
        next(rho.parameters())
    )


def rotations(X, weights):
    """Rotations by the integer combinations ``weights`` of angles, ``(*, 2k, 2k)``."""
    angles = X @ torch.tensor(weights).to(X).mT
    blocks = groups.SO2().exp(angles.unsqueeze(-1))
    matrix = X.new_zeros(*X.shape[:-1], 2 * len(weights), 2 * len(weights))
    for k in range(len(weights)):
        matrix[..., 2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = blocks[..., k, :, :]
    return matrix


def exact_traces(n, steps, dtype, generator, noise=0.0):
    """Latents of a flat torus that actions of up to a half turn move, without an encoder."""
    actions = (2 * torch.rand(n, steps, 2, generator=generator, dtype=dtype) - 1) * math.pi
    angles = 2 * math.pi * torch.rand(n, 1, 2, generator=generator, dtype=dtype)
    angles = torch.cat([angles, angles + actions.cumsum(1)], 1)
    z = torch.stack([angles.cos(), angles.sin()], -1).flatten(-2)
    return z + noise * torch.randn(z.shape, generator=generator, dtype=dtype), actions


# ---- the penalty ----------------------------------------------------------------------------


def test_homomorphism_defect_of_planes_has_a_closed_form(dtype, generator):
    """Against 4 (1 − cos) of the angle by which w (X + Y), wrapped, misses w X + w Y."""
    rho = LearnedRepresentation(Torus(2), blocks=[2, 2]).to(dtype)
    weights = torch.tensor([[1.0, 0.3], [-0.7, 2.0]], dtype=dtype)
    rho.weight.data.copy_(weights)
    X, Y = (
        (2 * torch.rand(50, 2, generator=generator, dtype=dtype) - 1) * math.pi for _ in range(2)
    )
    wrapped = torch.remainder(X + Y + math.pi, 2 * math.pi) - math.pi
    missed = (wrapped - X - Y) @ weights.mT
    expected = (4 * (1 - missed.cos())).sum(-1).mean().item()
    assert expected > 1
    assert defects.homomorphism_defect(rho, X, Y).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "rho",
    [groups.Defining(groups.SO3()), groups.irreps(groups.Dihedral(5))[-1]],
    ids=["rotations", "dihedral"],
)
def test_homomorphism_defect_vanishes_at_representations(rho, generator):
    X, Y = (defects.random_actions(rho.group, 40, generator=generator) for _ in range(2))
    assert defects.homomorphism_defect(rho, X, Y).item() < 1e-9


def test_homomorphism_defect_passes_over_pairs_without_a_logarithm():
    group = groups.GL(2)
    rho = LearnedRepresentation(group, 2, phi="mlp", hidden=(4,), orthogonal=False).double()
    # A half turn times diag(2, 1) has two negative eigenvalues that differ.
    turn = torch.tensor([0.0, -math.pi, math.pi, 0.0], dtype=torch.float64)
    stretch = torch.tensor([math.log(2.0), 0.0, 0.0, 0.0], dtype=torch.float64)
    some = 0.1 * torch.ones(4, dtype=torch.float64)
    one = defects.homomorphism_defect(rho, some[None], stretch[None])
    both = defects.homomorphism_defect(
        rho, torch.stack([some, turn]), torch.stack([stretch, stretch])
    )
    assert both.item() == pytest.approx(one.item() / 2)
    both.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in rho.parameters())
    with pytest.raises(ValueError, match="needs one action or more"):
        defects.homomorphism_defect(rho, some[:0, None].expand(0, 4), some[:0, None].expand(0, 4))


def test_a_scrambled_perceptron_is_not_told_products(dtype):
    X = torch.rand(6, 2, dtype=dtype)
    assert "homomorphism" in representation("perceptron", dtype).penalties(X)
    assert "homomorphism" not in representation("scrambled, soft", dtype).penalties(X)
    assert "homomorphism" not in representation("linear", dtype).penalties(X)
    rho = representation("perceptron", dtype)
    found = rho.penalties(X, only=("homomorphism",))
    assert found["homomorphism"] == defects.homomorphism_defect(rho, X, X.flip(0))


# ---- what is linear in φ --------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_coefficients_are_what_the_entries_are_made_of(name, dtype, device, generator):
    rho = representation(name, dtype, device)
    X = torch.rand(7, 2, generator=generator, dtype=dtype).to(device)
    torch.testing.assert_close(rho._phi(X), rho.features(X) @ rho.coefficients().mT)


@pytest.mark.parametrize("name", KINDS)
def test_entries_are_linear_in_the_features(name, dtype, device, generator):
    """A change of the coefficients moves the entries by that times the features."""
    rho = representation(name, dtype, device)
    X = torch.rand(7, 2, generator=generator, dtype=dtype).to(device)
    before, f = rho._phi(X).detach(), rho.features(X).detach()
    change = torch.rand(rho.layout.entries, f.shape[-1], generator=generator, dtype=dtype)
    rho.add_to_coefficients(change.to(device))
    torch.testing.assert_close(rho._phi(X).detach(), before + f @ change.to(device).mT)
    z = torch.rand(7, rho.size, generator=generator, dtype=dtype).to(device)
    torch.testing.assert_close(rho.act_by_entries(rho._phi(X), z), rho.act(X, z))


def test_a_perceptron_beside_a_linear_map_starts_as_one(dtype):
    rho = representation("beside a linear map", dtype)
    X = torch.rand(9, 2, dtype=dtype)
    torch.testing.assert_close(rho._phi(X), X @ rho.weight.mT)
    assert [p.shape for p in rho.fast_parameters()] == [rho.weight.shape]
    alone = representation("perceptron", dtype)
    assert len(alone.fast_parameters()) == len(list(alone.parameters()))
    with pytest.raises(ValueError, match="beside a perceptron"):
        LearnedRepresentation(Torus(2), blocks=[2], skip=True)
    with pytest.raises(ValueError, match="activation = 'sine': expected one of relu, tanh"):
        LearnedRepresentation(Torus(2), blocks=[2], phi="mlp", activation="sine")
    with pytest.raises(ValueError, match="nothing that φ is linear in"):
        LearnedRepresentation(groups.Cyclic(3), 2, phi="lookup").features(torch.tensor([0]))


@pytest.mark.parametrize("name", KINDS)
def test_normal_equations_are_those_of_the_whole_jacobian(name, generator):
    """Against the derivative of every prediction in every coefficient, taken as a whole."""
    rho = representation(name, torch.float64)
    X = torch.rand(11, 2, generator=generator, dtype=torch.float64)
    x, y = torch.rand(2, 11, rho.size, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        U = torch.eye(rho.layout.entries, dtype=torch.float64)
        A, b = settling._matrix(rho, U, X, x, y), settling._right_side(rho, U, X, x, y)
    f = rho.features(X).detach()
    start = rho._phi(X).detach()

    def predictions(change):
        return rho.act_by_entries(start + f @ change.mT, x).flatten()

    zero = torch.zeros(rho.layout.entries, f.shape[-1], dtype=torch.float64)
    J = torch.autograd.functional.jacobian(predictions, zero).flatten(1)
    torch.testing.assert_close(A, J.mT @ J)
    torch.testing.assert_close(b, J.mT @ (y.flatten() - predictions(zero)))


# ---- settling -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "beside a linear map"])
def test_settling_finds_weights_that_are_within_reach(name, dtype, generator):
    """Of latents without error the truth is found to rounding, and homomorphism with it."""
    rho = representation(name, dtype)
    rho.weight.data.copy_(-torch.eye(2) + 0.02 * torch.randn(2, 2, generator=generator))
    z, actions = exact_traces(200, 2, dtype, generator)
    settling.settle(model_of(rho), z, actions, steps=8)
    X = defects.random_actions(rho.group, 100, generator=generator, dtype=dtype)
    truth = rotations(X, [[1, 0], [0, 1]])
    assert (rho(X) - truth).abs().max() < (1e-8 if dtype == torch.float64 else 1e-4)


def test_settling_averages_the_errors_of_latents_away(generator):
    """A scrambled perceptron of forty features ends far below the error of single latents."""
    rho = LearnedRepresentation(
        Torus(1), blocks=[2], phi="mlp", hidden=(40,), activation="tanh", skip=True, scramble=2
    ).double()
    fit = torch.optim.Adam(rho.parameters(), lr=1e-2)
    X = (2 * torch.rand(256, 1, generator=generator, dtype=torch.float64) - 1) * math.pi
    for _ in range(200):
        fit.zero_grad()
        (rho(X) - rotations(X, [[1]])).square().sum((-2, -1)).mean().backward()
        fit.step()
    z, actions = exact_traces(3000, 2, torch.float64, generator, noise=0.03)
    z, actions = z[..., :2], actions[..., :1]

    def error():
        return (rho(X) - rotations(X, [[1]])).square().sum((-2, -1)).mean().sqrt().item()

    before = error()
    settling.settle(model_of(rho), z, actions, steps=2)
    assert error() < before / 2
    assert error() < 0.03 / 4


def test_a_step_that_does_not_better_the_traces_left_out_is_not_taken(generator):
    rho = representation("linear", torch.float64)
    rho.weight.data.copy_(-torch.eye(2))  # entries are above the diagonal
    z, actions = exact_traces(50, 2, torch.float64, generator)
    settling.settle(model_of(rho), z, actions, steps=1)
    assert (rho.weight + torch.eye(2)).abs().max() < 1e-9
    # Observations that say nothing of actions have nothing to teach those left out.
    noise = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    before = rho.weight.detach().clone()
    kept = torch.arange(5) % settling.LEFT_OUT == 0
    error = settling._error(rho, *settling.transitions_of(rho, noise[kept], actions[:5][kept]))
    settling.settle(model_of(rho), noise, actions[:5], steps=3)
    after = settling._error(rho, *settling.transitions_of(rho, noise[kept], actions[:5][kept]))
    assert after <= error
    assert after < error or torch.equal(rho.weight, before)


def test_products_and_inverses_are_transitions_of_a_known_group(generator):
    rho = groups.SO3()
    known = LearnedRepresentation(rho, blocks=[3], phi="mlp", hidden=(4,)).double()
    actions = defects.random_actions(rho, 6, 3, generator=generator, dtype=torch.float64)
    z = [torch.randn(6, 3, generator=generator, dtype=torch.float64)]
    for X in actions.unbind(1):
        z.append((rho.exp(X) @ z[-1].unsqueeze(-1)).squeeze(-1))
    X, x, y = settling.transitions_of(known, torch.stack(z, 1), actions)
    assert len(X) == 6 * (3 + 3 + 2)
    torch.testing.assert_close((rho.exp(X) @ x.unsqueeze(-1)).squeeze(-1), y)
    hidden = LearnedRepresentation(rho, 3, phi="mlp", hidden=(4,), scramble=1).double()
    assert len(settling.transitions_of(hidden, torch.stack(z, 1), actions)[0]) == 6 * 3


def test_what_cannot_settle_is_refused(generator):
    z, actions = exact_traces(8, 2, torch.float32, generator)
    table = LearnedRepresentation(groups.Cyclic(3), 2, phi="lookup")
    assert not settling.can_settle(model_of(table))
    large = LearnedRepresentation(Torus(2), 20, phi="mlp", hidden=(64,))
    assert not settling.can_settle(model_of(large))
    with pytest.raises(ValueError, match="take settle_steps = 0"):
        settling.settle(model_of(large), z, actions, steps=1)
    with pytest.raises(ValueError, match="4 traces: settling takes 5 or more"):
        settling.settle(model_of(representation("linear", torch.float32)), z[:4], actions, steps=1)
    with pytest.raises(ValueError, match="settle_steps = -1: expected 0 or more"):
        TINY.replace(settle_steps=-1)
    with pytest.raises(ValueError, match="settle_steps = 1: model = 'still' does not have it"):
        HAE(model="still", settle_steps=1).check_heeded()


def test_generators_that_nearly_lie_in_the_image_of_the_algebra_are_put_there(generator):
    """Soft blocks that turn two planes in some basis: six entries, of which two directions."""
    rho = LearnedRepresentation(Torus(2), 4, blocks="soft").double()
    basis = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    row, column = torch.triu_indices(4, 4, 1)
    planes = torch.zeros(2, 4, 4, dtype=torch.float64)
    planes[0, 0, 1] = planes[1, 2, 3] = -1
    T = basis @ (planes - planes.mT) @ basis.mT
    rho.weight.data = T[:, row, column].mT.contiguous()
    exact = rho.coefficients()
    X = defects.random_actions(rho.group, 50, generator=generator, dtype=torch.float64)
    U = settling.image(rho, X)
    torch.testing.assert_close(U @ U.mT @ exact, exact)
    assert U.shape == (6, 2)
    rho.weight.data += 0.5 * torch.randn(6, 2, generator=generator, dtype=torch.float64)
    wide = LearnedRepresentation(
        Torus(2), 4, blocks="soft", phi="mlp", hidden=(50,), activation="tanh"
    ).double()
    assert settling.image(wide, 3 * X).shape == (6, 6)


def test_what_is_worse_in_the_end_is_not_kept(generator, monkeypatch):
    rho = representation("beside a linear map", torch.float64)
    before = rho.coefficients()
    z, actions = exact_traces(50, 2, torch.float64, generator)

    def spoil(rho, *given):
        rho.add_to_coefficients(torch.ones_like(before))

    errors = iter([1.0, 2.0])
    monkeypatch.setattr(settling, "_descend", spoil)
    monkeypatch.setattr(settling, "_error", lambda *given, **options: next(errors))
    settling.settle(model_of(rho), z, actions, steps=2)
    torch.testing.assert_close(rho.coefficients(), before, atol=1e-12, rtol=0)


# ---- in a run -------------------------------------------------------------------------------


def test_a_run_settles_once_and_keeps_it(tmp_path):
    plain = run.train(TINY.replace(settle_steps=0))
    settled = run.train(TINY, tmp_path / "run")
    rho, other = settled.model.representation, plain.model.representation
    torch.testing.assert_close(rho.network[0].weight, other.network[0].weight)
    assert not torch.equal(rho.network[-1].weight, other.network[-1].weight)
    again = run.train(TINY, tmp_path / "run", resume=True)
    read = run.load(tmp_path / "run")
    for model in (again.model, read.model):
        for name, value in settled.model.state_dict().items():
            assert torch.equal(model.state_dict()[name], value), name


def test_a_run_from_before_there_was_a_linear_map_is_read_as_it_was(tmp_path):
    before = {"phi_activation": "relu", "phi_skip": False, "settle_steps": 0}
    old = run.train(TINY.replace(**before), tmp_path)
    checkpoint = Checkpoint.load(tmp_path / "checkpoint.pt")
    for name in (*hae_run.BEFORE, "settle_steps"):
        del checkpoint.extra["config"][name]
    checkpoint.save(tmp_path / "checkpoint.pt")
    read = run.load(tmp_path)
    assert not read.model.representation.skip
    o = old.source.test.observations
    rolled = (r.rollout(o[:, 0], old.source.test.actions) for r in (read, old))
    assert torch.equal(*rolled)
