"""The homomorphism autoencoder: its loss by two routes, what it predicts, and what it refuses."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from manifold_ae import groups
from manifold_ae.groups import (
    SE2,
    SO3,
    Cyclic,
    Dihedral,
    FiniteGroup,
    GivensRepresentation,
    Group,
    LearnedRepresentation,
    Product,
    Sum,
    Torus,
    Trivial,
    irrep,
)
from manifold_ae.manifolds import SO3 as Rotations
from manifold_ae.manifolds import (
    Euclidean,
    FlatTorus,
    KleinBottle,
    Manifold,
    RealProjective,
    Sphere,
)
from manifold_ae.models import HomomorphismAutoencoder, likelihoods
from manifold_ae.models.inference import infer_action
from manifold_ae.models.transitions import ByRepresentation, Still, Transition, Unstructured
from manifold_ae.nn import MLP
from manifold_ae.training import NonFiniteLossError, Schedule, fit, make_fabric

FEATURES = 6

#: What moves latents, by the name of the test.
MOVES: dict[str, Callable[[], Any]] = {
    "planes": lambda: LearnedRepresentation(Torus(2), blocks=[2, 2]),
    "free": lambda: LearnedRepresentation(Torus(2), blocks=[2, 2], free=1),
    "soft": lambda: LearnedRepresentation(Torus(2), 5, blocks="soft"),
    "perceptron": lambda: LearnedRepresentation(Torus(2), blocks=[2, 2], phi="mlp", hidden=[8]),
    "rotations": lambda: LearnedRepresentation(SO3(), blocks=[3, 3]),
    "general": lambda: LearnedRepresentation(SO3(), 3, orthogonal=False),
    "lookup": lambda: LearnedRepresentation(
        Product(Cyclic(3), Cyclic(4)), blocks=[2, 2], phi="lookup"
    ),
    "given": lambda: Sum(irrep(SO3(), 1), Trivial(SO3(), 2)),
    "given finite": lambda: groups.Defining(Dihedral(5)),
    "givens": lambda: GivensRepresentation(Torus(2), 4),
    "givens finite": lambda: GivensRepresentation(Cyclic(5), 3),
    "unstructured": lambda: Unstructured(Torus(2), 4, (8,)),
    "unstructured finite": lambda: Unstructured(Cyclic(5), 3, (8,)),
    "still": lambda: Still(Torus(2), 4),
    "still finite": lambda: Still(Cyclic(5), 4),
}
#: Latent manifolds, each with what keeps it.
VARIATIONAL: dict[str, tuple[Manifold, Callable[[], Any]]] = {
    "euclidean": (Euclidean(4), MOVES["planes"]),
    "torus": (FlatTorus(2), MOVES["planes"]),
    "torus still": (FlatTorus(2), MOVES["still"]),
    "sphere": (Sphere(5), MOVES["rotations"]),
    "so3": (Rotations(), lambda: LearnedRepresentation(SO3(), blocks=[3])),
    "so3 given": (Rotations(), lambda: irrep(SO3(), 1)),
    "projective": (RealProjective(3), MOVES["planes"]),
}
every_move = pytest.mark.parametrize("name", list(MOVES))
every_manifold = pytest.mark.parametrize("name", list(VARIATIONAL))


def actions_of(group: Group, *shape: int, **where: Any) -> Tensor:
    """Random actions ``(*shape, dim)``, or integers ``(*shape)``."""
    if isinstance(group, FiniteGroup):
        return groups.defects.random_actions(group, *shape)
    return groups.defects.random_actions(group, *shape, **where)


def traces_of(group: Group, dtype: torch.dtype, n: int = 5, steps: int = 3) -> tuple[Tensor, ...]:
    return torch.rand(n, steps + 1, FEATURES, dtype=dtype), actions_of(group, n, steps, dtype=dtype)


def model_of(
    moves: Any, dtype: torch.dtype = torch.float32, manifold: Manifold | None = None, **options: Any
) -> HomomorphismAutoencoder:
    size = moves.size if manifold is None else manifold.embedding_size
    networks = MLP(FEATURES, (16,)), MLP(size, (12,))
    return HomomorphismAutoencoder(*networks, moves, manifold=manifold, **options).to(dtype)


def moved(hae: HomomorphismAutoencoder, action: Tensor, z: Tensor) -> Tensor:
    """One action on one latent ``(size,)``, the long way."""
    moves = hae.transition
    if not isinstance(moves, ByRepresentation):
        return moves.step(z, action)
    columns = z.view(moves.representation.size, moves.columns)
    return (moves._rho(action, z.dtype) @ columns).flatten()


def by_hand(
    hae: HomomorphismAutoencoder, o: Tensor, actions: Tensor, first: Tensor
) -> dict[str, Tensor]:
    """The terms of the loss from the formula, a trace and a step at a time.

    For a Gaussian of unit variance; ``first`` is ẑ₁ of every trace.
    """
    steps = actions.shape[1]
    reconstruction, prediction = [], []
    for k in range(len(o)):
        z, location = first[k], hae.encode(o[k, 0])
        for t in range(steps + 1):
            if t > 0:
                z, location = (moved(hae, actions[k, t - 1], x) for x in (z, location))
                gap = hae._embed(hae.encode(o[k, t])) - hae._embed(location)
                prediction.append(gap.square().sum())
            error = (o[k, t] - hae.decode(z)).square().sum()
            reconstruction.append((error + FEATURES * math.log(2 * math.pi)) / 2)
    return {
        "reconstruction": torch.stack(reconstruction).sum() / len(o),
        "prediction": torch.stack(prediction).sum() / len(o),
    }


# ---- the loss -----------------------------------------------------------------------------------


@every_move
def test_the_loss_is_the_formula(name, dtype, tolerance):
    weights = {"prediction_weight": 3.0, "reconstruction_weight": 0.25}
    hae = model_of(MOVES[name](), dtype, **weights)
    o, actions = traces_of(hae.group, dtype)
    found = hae.loss(o, actions)
    expected = by_hand(hae, o, actions, hae.encode(o[:, 0]))
    for term, value in expected.items():
        assert found[term].item() == pytest.approx(value.item(), rel=tolerance), term
    still = isinstance(hae.transition, Still)
    total = 0.25 * expected["reconstruction"] + (0 if still else 3.0) * expected["prediction"]
    assert found["loss"].item() == pytest.approx(total.item(), rel=tolerance)
    autoencoded = torch.stack([hae.decode(z) for z in hae._unroll(hae.encode(o[:, 0]), actions)])
    assert found["mse"].item() == pytest.approx((o - autoencoded).square().mean().item(), rel=1e-4)
    assert set(found) == {"loss", "reconstruction", "prediction", "mse"}
    assert [term for term, value in found.items() if value.requires_grad] == ["loss"]


@every_manifold
def test_the_variational_loss_is_the_bound(name, dtype, tolerance):
    manifold, moves = VARIATIONAL[name]
    hae = model_of(moves(), dtype, manifold, prediction_weight=0.5, reconstruction_weight=2.0)
    o, actions = traces_of(hae.group, dtype)
    torch.manual_seed(3)
    found = hae.loss(o, actions, kl_weight=0.7)
    torch.manual_seed(3)
    q = hae.posterior(o[:, 0])
    z = hae._flat(q.rsample())
    expected = by_hand(hae, o, actions, z)
    expected["kl"] = kl_divergence(q.limit, manifold.default_prior()).mean()
    for term, value in expected.items():
        assert found[term].item() == pytest.approx(value.item(), rel=10 * tolerance), term
    total = 2 * (expected["reconstruction"] + 0.7 * expected["kl"])
    if not isinstance(hae.transition, Still):
        total = total + 0.5 * expected["prediction"]
    assert found["loss"].item() == pytest.approx(total.item(), rel=10 * tolerance)
    assert set(found) == {"loss", "reconstruction", "prediction", "mse", "kl"}
    # However far they are rolled out, latents stay on the manifold, and h(o) lies there.
    longer = actions_of(hae.group, 5, 40, dtype=dtype)
    for path in (hae._unroll(z, longer), hae.encode(o)):
        points = path.unflatten(-1, manifold.ambient_shape)
        assert (points - manifold.projx(points)).abs().max() < 10 * tolerance


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian-learned", "poisson"])
def test_other_likelihoods(kind, dtype):
    law = likelihoods.named(kind, FEATURES)
    hae = model_of(MOVES["planes"](), dtype, likelihood=law)
    o, actions = traces_of(hae.group, dtype)
    o = o.mul(4).round() if law.counts else o
    path = hae._output(hae._unroll(hae.encode(o[:, 0]), actions))
    expected = -hae.likelihood.log_prob(path, o).sum(1).mean()
    assert hae.loss(o, actions)["reconstruction"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("rotations", {"bracket", "closure", "frequency"}),
        ("soft", {"bracket", "closure", "frequency", "sparsity"}),
        ("perceptron", {"closure", "frequency", "homomorphism"}),
        ("lookup", {"table"}),
        ("givens", {"frequency"}),
        ("given", set()),
    ],
)
def test_penalties_have_their_weights_and_fade(name, wanted, dtype):
    moves = MOVES[name]()
    weights = {penalty: 0.5 + k for k, penalty in enumerate(sorted(wanted))}
    hae = model_of(moves, dtype, penalties=weights)
    plain = copy.deepcopy(hae)
    plain.penalty_weights = {}
    o, actions = traces_of(hae.group, dtype)
    arguments = (actions.flatten(0, 1),) if name == "perceptron" else ()
    # ``to`` moves modules in place.
    values = moves.penalties(*arguments) if wanted else {}
    assert set(values) == wanted
    without = plain.loss(o, actions)["loss"].item()
    for fading in (1.0, 0.25, 0.0):
        found = hae.loss(o, actions, fading_weight=fading)
        total = without
        for penalty, weight in weights.items():
            assert found[penalty].item() == pytest.approx(values[penalty].item())
            fades = penalty in ("frequency", "sparsity")
            part = fading if fades else float(penalty != "homomorphism" or fading == 0)
            total += weight * part * values[penalty].item()
        assert found["loss"].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name", [*MOVES, *(f"on {name}" for name in VARIATIONAL)])
def test_gradients_are_finite(name, dtype):
    if name in MOVES:
        hae = model_of(MOVES[name](), dtype)
    else:
        manifold, moves = VARIATIONAL[name.removeprefix("on ")]
        hae = model_of(moves(), dtype, manifold)
    hae.penalty_weights = dict.fromkeys(hae._penalties(), 1.0)
    o, actions = traces_of(hae.group, dtype)
    if hae.group.dim:
        actions[0] = 0.0  # where norms and angles have no slope of their own
    hae.loss(o, actions)["loss"].backward()
    for parameter, value in hae.named_parameters():
        assert value.grad is not None, parameter
        assert torch.isfinite(value.grad).all(), parameter


# ---- what it predicts ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rotations", "general", "given", "lookup", "given finite"])
def test_a_rollout_is_the_product_newest_on_the_left(name, dtype, tolerance):
    hae = model_of(MOVES[name](), dtype)
    o, actions = torch.rand(2, 3, FEATURES, dtype=dtype), actions_of(hae.group, 2, 3, 4).long()
    if hae.group.dim:
        actions = actions_of(hae.group, 2, 3, 4, dtype=dtype)
    rho, found = hae.representation, hae.rollout(o, actions)
    assert found.shape == (2, 3, 4, FEATURES)
    product = torch.eye(rho.size, dtype=dtype).expand(2, 3, -1, -1)
    for t in range(4):
        product = hae.transition._rho(actions[:, :, t], dtype) @ product
        expected = hae.decode((product @ hae.encode(o).unsqueeze(-1)).squeeze(-1))
        assert (found[:, :, t] - expected).abs().max() < 30 * tolerance
    single = hae.rollout(o[1, 2], actions[1, 2])
    assert (single - found[1, 2]).abs().max() < 30 * tolerance


@pytest.mark.parametrize("name", ["rotations", "given finite"])
def test_the_order_of_actions_that_do_not_commute_matters(name):
    hae = model_of(MOVES[name]())
    o = torch.rand(FEATURES)
    if hae.group.dim:
        actions = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    else:
        actions = torch.tensor([1, 5])  # a turn and a reflection
    one, other = hae.rollout(o, actions)[-1], hae.rollout(o, actions.flip(0))[-1]
    assert (one - other).abs().max() > 1e-3


@every_move
def test_unrolling_is_stepping(name, dtype, tolerance):
    moves = model_of(MOVES[name](), dtype).transition
    z, actions = torch.randn(3, moves.size, dtype=dtype), actions_of(moves.group, 3, 5, dtype=dtype)
    path = moves.unroll(z, actions)
    assert path.shape == (3, 6, moves.size)
    assert torch.equal(path[:, 0], z)
    loop = Transition.unroll(moves, z, actions)
    assert (path - loop).abs().max() < 30 * tolerance * max(1.0, loop.abs().max().item())
    one = moves.unroll(z[1], actions[1])
    assert (one - path[1]).abs().max() < 30 * tolerance * max(1.0, loop.abs().max().item())
    # Batch axes broadcast, as a traversal needs.
    both = moves.step(z[:, None], actions[0])
    assert both.shape == (3, 5, moves.size)
    one = moves.step(z[2], actions[0, 4])
    assert (both[2, 4] - one).abs().max() < 30 * tolerance * max(1.0, one.abs().max().item())


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_columns_move_together(columns, dtype, tolerance):
    rho = MOVES["rotations"]().to(dtype)
    moves = ByRepresentation(rho, columns)
    assert moves.size == 6 * columns
    z, actions = torch.randn(4, 6, columns, dtype=dtype), actions_of(SO3(), 4, 3, dtype=dtype)
    path = moves.unroll(z.flatten(1), actions).unflatten(-1, (6, columns))
    for t in range(3):
        z = rho(actions[:, t]) @ z
        assert (path[:, t + 1] - z).abs().max() < 30 * tolerance


def test_an_untrained_network_is_told_the_action():
    for moves in (MOVES["unstructured"](), MOVES["unstructured finite"]()):
        z, actions = torch.randn(moves.size), actions_of(moves.group, 2)
        actions = torch.tensor([0, 3]) if not moves.group.dim else actions
        assert (moves.step(z, actions[0]) - moves.step(z, actions[1])).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["planes", "rotations", "given", "unstructured", "still"])
def test_a_traversal_is_a_rollout_along_one_direction(name, dtype, tolerance):
    hae = model_of(MOVES[name](), dtype)
    o = torch.rand(3, FEATURES, dtype=dtype)
    direction = torch.randn(hae.group.dim, dtype=dtype)
    amounts = torch.linspace(-2, 2, 5, dtype=dtype)
    found = hae.traverse(o, direction, amounts)
    assert found.shape == (3, 5, FEATURES)
    for k, s in enumerate(amounts):
        expected = hae.rollout(o, (s * direction).expand(3, 1, -1))[:, 0]
        assert (found[:, k] - expected).abs().max() < 10 * tolerance


# ---- inference of actions -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (2, 3)])
@pytest.mark.parametrize("name", ["planes", "torus given", "rotations", "rotations given", "se2"])
def test_actions_are_recovered(name, shape, dtype):
    rho = {
        "planes": MOVES["planes"],
        "torus given": lambda: Sum(irrep(Torus(2), (1, 1)), irrep(Torus(2), (0, 1))),
        "rotations": MOVES["rotations"],
        "rotations given": lambda: Sum(irrep(SO3(), 1), irrep(SO3(), 2)),
        "se2": lambda: groups.Defining(SE2()),
    }[name]()
    moves = ByRepresentation(rho).to(dtype)
    group: Any = moves.group
    actions = actions_of(group, *shape, dtype=dtype)
    if name == "planes":  # two angles of weight one
        rho.weight.data = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=dtype)
    if name == "rotations":  # twice the vector representation
        basis = irrep(SO3(), 1).generators().to(dtype)
        rho.weight.data = torch.stack([basis[:, 0, 1], basis[:, 0, 2], basis[:, 1, 2]]).repeat(2, 1)
        if shape:  # next to half a turn, where the logarithm changes sign
            actions[0, 0] = torch.tensor([0.0, math.pi - 1e-3, 0.0])
            actions[0, 1] = torch.tensor([0.6, 0.0, 0.8]) * (math.pi - 1e-6)
    z = torch.randn(*shape, moves.size, dtype=dtype)
    if name == "se2":
        z[..., 2] = 1.0  # a point of the plane, in homogeneous coordinates
    after = moves.step(z, actions)
    found, value = infer_action(moves, z, after)
    assert found.shape == actions.shape
    assert value.shape == shape
    accuracy = 2e-3 if dtype == torch.float32 else 1e-6
    assert value.max() < accuracy**2
    assert (moves.step(z, found) - after).abs().max() < accuracy
    if name != "se2":  # one point does not tell a motion of the plane
        assert (group.exp(found) - group.exp(actions)).abs().max() < accuracy
    again = infer_action(moves, z, after)
    assert torch.equal(found, again[0])
    assert torch.equal(value, again[1])


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_elements_of_a_finite_group_are_recovered_exactly(shape, dtype):
    group = Product(Cyclic(5), Cyclic(4))
    moves = ByRepresentation(groups.Defining(group))
    actions = actions_of(group, *shape)
    z = torch.randn(*shape, moves.size, dtype=dtype)
    hae = model_of(groups.Defining(group))
    after = moves.step(z, actions)
    found, value = infer_action(moves, z, after)
    assert torch.equal(found, actions)
    assert found.dtype == torch.int64
    assert value.shape == shape
    assert value.max() < 1e-10
    o = torch.rand(*shape, FEATURES)
    still, _ = hae.infer_action(o, o)
    assert torch.equal(still, torch.zeros_like(still))


@pytest.mark.parametrize("weight", [0.0, 1e-30, 0.37, 60.0])
@pytest.mark.parametrize("name", ["planes", "rotations", "general", "givens", "unstructured"])
def test_a_wrong_representation_gives_a_finite_answer(name, weight, dtype):
    hae = model_of(MOVES[name](), dtype)
    if name == "general":
        weight = min(weight, 3.0)
    for parameter in hae.transition.parameters():
        parameter.data.mul_(weight)
    o = torch.rand(2, 4, FEATURES, dtype=dtype)
    found, value = hae.infer_action(o[0], o[1])
    assert torch.isfinite(found).all()
    z, goal = hae.encode(o[0]), hae.encode(o[1])
    assert (value <= (goal - hae.transition.step(z, 0 * found)).square().sum(-1) * 1.0001).all()
    reached = (goal - hae.transition.step(z, found)).square().sum(-1)
    assert torch.isfinite(reached).all()


def test_inference_is_no_worse_than_a_search_of_a_grid(dtype):
    hae = model_of(MOVES["planes"](), dtype)
    before, after = torch.rand(2, 6, FEATURES, dtype=dtype)
    _, value = hae.infer_action(before, after)
    line = torch.linspace(-math.pi, math.pi, 60, dtype=dtype)
    grid = torch.cartesian_prod(line, line)
    z, goal = hae.encode(before), hae.encode(after)
    tried = (goal[:, None] - hae.transition.step(z[:, None], grid)).square().sum(-1)
    assert (value <= tried.amin(1) + 1e-4).all()


# ---- in training --------------------------------------------------------------------------------


class Batches:
    """A source of a few batches, the same every epoch."""

    def __init__(self, *batches: tuple[Tensor, Tensor]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, k: int) -> Any:
        return iter(self.batches)


@every_move
def test_every_parameter_is_in_one_group(name):
    hae = model_of(MOVES[name](), representation_lr=7.0)
    found = hae.parameter_groups()
    listed = [id(p) for group in found for p in group["params"]]
    assert sorted(listed) == sorted(map(id, hae.parameters()))
    rates = {id(p): group["lr_scale"] for group in found for p in group["params"]}
    own = getattr(hae.transition, "representation", None)
    fast = {id(p) for p in own.parameters()} if isinstance(own, torch.nn.Module) else set()
    assert {key for key, rate in rates.items() if rate == 7.0} == fast


@pytest.mark.parametrize("where", ["observations", "actions"])
def test_values_that_are_not_finite_stop_the_training(where):
    hae = model_of(MOVES["planes"]())
    o, actions = traces_of(hae.group, torch.float32)
    broken = [o.clone(), actions.clone()]
    broken[where == "actions"][1, 1, 0] = math.nan
    source = Batches((o, actions), tuple(broken))
    with pytest.raises(NonFiniteLossError, match=r"at step 2 of 2 in epoch 1.*largest \|latent\|"):
        fit(hae, source, epochs=1, schedule=Schedule(), fabric=make_fabric("cpu"), progress=False)
    with pytest.raises(ValueError, match="not finite"):
        hae.infer_action(broken[0][:, 1] * math.nan, o[:, 2])


@pytest.mark.parametrize("name", ["rotations", "unstructured", "lookup", "on so3"])
def test_half_precision_leaves_latents_alone(name):
    if name == "on so3":
        hae = model_of(irrep(SO3(), 1), manifold=Rotations())
    else:
        hae = model_of(MOVES[name]())
    hae.penalty_weights = dict.fromkeys(hae._penalties(), 1.0)
    o, actions = traces_of(hae.group, torch.float32, steps=8)
    seen: list[torch.dtype] = []
    hae.decoder.register_forward_hook(lambda module, inputs, _: seen.append(inputs[0].dtype))
    torch.manual_seed(0)
    full = hae.loss(o, actions)
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(0)
        half = hae.loss(o, actions)
        assert hae.encode(o).dtype == torch.float32
    assert seen == [torch.float32, torch.float32]
    assert half["loss"].item() == pytest.approx(full["loss"].item(), rel=0.02)
    fabric = make_fabric("cpu", "bf16-mixed")
    last = fit(
        hae, Batches((o, actions)), epochs=3, schedule=Schedule(), fabric=fabric, progress=False
    )
    assert all(math.isfinite(value) for row in last.history for value in row.values())


@pytest.mark.parametrize("name", ["planes", "lookup", "unstructured", "on torus"])
def test_a_state_dict_is_the_whole_model(name):
    manifold = FlatTorus(2) if name == "on torus" else None
    moves = MOVES["planes" if manifold else name]
    first, second = (model_of(moves(), manifold=manifold) for _ in range(2))
    o, actions = traces_of(first.group, torch.float32)
    assert not torch.equal(first.rollout(o[:, 0], actions), second.rollout(o[:, 0], actions))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.rollout(o[:, 0], actions), second.rollout(o[:, 0], actions))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
@pytest.mark.parametrize("name", ["planes", "rotations", "lookup", "given", "on torus"])
def test_the_loss_compiles(name):
    manifold = FlatTorus(2) if name == "on torus" else None
    hae = model_of(MOVES["planes" if manifold else name](), manifold=manifold)
    hae.penalty_weights = dict.fromkeys(hae._penalties(), 1.0)
    o, actions = traces_of(hae.group, torch.float32)
    torch.manual_seed(0)
    plain = hae.loss(o, actions)
    compiled = torch.compile(hae.loss, backend="eager")
    torch.manual_seed(0)
    for term, value in compiled(o, actions).items():
        assert value.item() == pytest.approx(plain[term].item(), rel=1e-4), term
    compiled(o, actions)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in hae.parameters())


@pytest.mark.slow
def test_a_learned_torus_predicts_far_past_what_it_was_trained_on():
    """Two angles, seen as 12 tuning curves: after training on 2 steps, 60 steps stay exact."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.linspace(0, 2 * math.pi, 7)[:6]

    def seen(angles: Tensor) -> Tensor:
        return torch.exp(torch.cos(angles[..., None] - centres)).flatten(-2) / math.e

    actions = (torch.rand(2000, 2, 2, generator=generator) * 2 - 1) * 2
    start = torch.rand(2000, 1, 2, generator=generator) * 2 * math.pi
    o = seen(torch.cat([start, start + actions.cumsum(1)], 1))
    rho = LearnedRepresentation(Torus(2), blocks=[2, 2])
    with torch.no_grad():
        rho.weight.copy_(torch.tensor([[0.8, 0.2], [-0.1, 1.2]]))
    hae = HomomorphismAutoencoder(
        MLP(12, (64,)), MLP(4, (64,)), rho, prediction_weight=2.0, representation_lr=5.0
    )
    source = Batches(*zip(o.split(100), actions.split(100), strict=True))
    schedule = Schedule(3e-3, "cosine")
    fit(hae, source, epochs=25, schedule=schedule, fabric=make_fabric("cpu"), progress=False)
    assert (rho.weight.abs() - torch.eye(2)).abs().max() < 5e-3
    far = (torch.rand(50, 60, 2, generator=generator) * 2 - 1) * 2
    begin = torch.rand(50, 1, 2, generator=generator) * 2 * math.pi
    truth = seen(begin + far.cumsum(1))
    error = (hae.rollout(seen(begin[:, 0]), far) - truth).square().mean()
    assert error < 0.02 * (seen(begin) - truth).square().mean()


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        ((5, 4, FEATURES), (5, 3), r"actions of shape \(5, 3\): expected \(5, T, 2\)"),
        ((5, 4, FEATURES), (5, 3, 3), r"actions of shape \(5, 3, 3\): expected \(5, T, 2\)"),
        ((5, 4, FEATURES), (4, 3, 2), r"actions of shape \(4, 3, 2\): expected \(5, T, 2\)"),
        ((5, 4, FEATURES), (5, 0, 2), r"T at least 1"),
        ((5, 3, FEATURES), (5, 3, 2), r"expected \(5, 4, 6\), one more than the 3 action"),
        ((5, 4, 7), (5, 3, 2), r"observations of shape \(5, 4, 7\)"),
        ((5, 4), (5, 3, 2), r"observations of shape \(5, 4\)"),
        ((0, 4, FEATURES), (0, 3, 2), r"at least one trace"),
    ],
)
def test_wrong_shapes_are_refused(observations, actions, message):
    hae = model_of(MOVES["planes"]())
    with pytest.raises(ValueError, match=message):
        hae.loss(torch.zeros(observations), torch.zeros(actions))


def test_wrong_shapes_in_use_are_refused():
    hae, o = model_of(MOVES["planes"]()), torch.zeros(5, FEATURES)
    with pytest.raises(ValueError, match=r"expected \(\*, 6\)"):
        hae.encode(torch.zeros(5, 7))
    with pytest.raises(ValueError, match=r"expected \(T, 2\)"):
        hae.rollout(o[0], torch.zeros(5, 3, 2))
    with pytest.raises(ValueError, match=r"expected \(5, T, 2\)"):
        hae.rollout(o, torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"expected \(2,\) and \(k,\)"):
        hae.traverse(o, torch.zeros(3), torch.zeros(4))
    finite = model_of(MOVES["lookup"]())
    with pytest.raises(ValueError, match="has no algebra"):
        finite.traverse(o, torch.zeros(1), torch.zeros(4))
    with pytest.raises(ValueError, match="give it a manifold"):
        hae.posterior(o)
    with pytest.raises(AttributeError, match="representation"):
        _ = model_of(MOVES["still"]()).representation


def test_dtypes_that_disagree_are_refused():
    hae = model_of(MOVES["planes"](), torch.float64)
    o, actions = traces_of(hae.group, torch.float64)
    for wrong in ((o.float(), actions), (o, actions.float()), (o, actions.long())):
        with pytest.raises(ValueError, match=r"have dtype .*, the model torch\.float64"):
            hae.loss(*wrong)
    for name in ("lookup", "unstructured finite", "givens finite"):
        finite = model_of(MOVES[name]())
        o = torch.rand(2, 3, FEATURES)
        for wrong in (torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.int32)):
            with pytest.raises(ValueError, match="are int64"):
                finite.loss(o, wrong)
        for outside in (-1, 12):
            with pytest.raises(ValueError, match="outside"):
                finite.loss(o, torch.full((2, 2), outside))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalties": {"brakcet": 1.0}}, "'brakcet' is unknown; this representation has bracket"),
        ({"penalties": {"bracket": -1.0}}, r"bracket = -1\.0"),
        ({"penalties": {"bracket": math.nan}}, "bracket = nan"),
        ({"prediction_weight": -0.1}, r"prediction_weight = -0\.1"),
        ({"reconstruction_weight": math.inf}, "reconstruction_weight = inf"),
        ({"representation_lr": 0.0}, r"representation_lr = 0\.0"),
    ],
)
def test_wrong_weights_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        model_of(MOVES["planes"](), **options)


def test_still_has_no_penalties():
    with pytest.raises(ValueError, match="this representation has none"):
        model_of(MOVES["still"](), penalties={"bracket": 1.0})


@pytest.mark.parametrize(
    ("manifold", "moves", "message"),
    [
        (Sphere(3), lambda: LearnedRepresentation(Torus(2), 4, orthogonal=False), "off it"),
        (FlatTorus(2), lambda: LearnedRepresentation(SO3(), 4, blocks=None), "off it"),
        (FlatTorus(2), MOVES["givens"], "off it"),
        (FlatTorus(2), MOVES["unstructured"], "off it"),
        (KleinBottle(), MOVES["planes"], "two coordinates of one point"),
        (Sphere(2), MOVES["planes"], "size 4 does not act on points of Sphere"),
        (Rotations(), MOVES["planes"], "expected size 3"),
        (Rotations(), MOVES["still"], "size 4 does not act on"),
    ],
)
def test_what_does_not_keep_the_manifold_is_refused(manifold, moves, message):
    with pytest.raises(ValueError, match=message):
        model_of(moves(), manifold=manifold)


def test_sizes_that_disagree_are_refused():
    rho = MOVES["planes"]()
    with pytest.raises(ValueError, match="event_shape"):
        HomomorphismAutoencoder(torch.nn.Linear(6, 4), MLP(4, (8,)), rho)
    with pytest.raises(ValueError, match="the decoder"):
        HomomorphismAutoencoder(MLP(6, (8,)), torch.nn.Identity(), rho)
    with pytest.raises(ValueError, match=r"the decoder takes .* \(5,\): latents .* \(4,\)"):
        HomomorphismAutoencoder(MLP(6, (8,)), MLP(5, (8,)), rho)
    with pytest.raises(ValueError, match=r"the encoder takes .* \(6,\): observations .* \(2, 3\)"):
        HomomorphismAutoencoder(MLP(6, (8,)), MLP(4, (8,)), rho, likelihoods.Gaussian((2, 3)))


def test_randomness_is_the_seeds_alone():
    """The check of the manifold draws points, and leaves torch's stream alone."""
    before = torch.get_rng_state()
    rho = irrep(SO3(), 1)
    ByRepresentation(rho)
    with torch.random.fork_rng():
        model_of(rho, manifold=Rotations())
    assert torch.equal(before, torch.get_rng_state())
    for first, second in itertools.pairwise(
        infer_action(ByRepresentation(rho), torch.eye(3)[0], torch.eye(3)[1])[0] for _ in range(3)
    ):
        assert torch.equal(first, second)
