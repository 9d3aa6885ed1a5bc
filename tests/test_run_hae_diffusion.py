"""Homomorphism autoencoders on diffusion steps: runs, and their measures on groups without end."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from manifold_ae import groups, metrics, run
from manifold_ae.data import worlds
from manifold_ae.experiments import HAE
from manifold_ae.groups import Defining, LearnedRepresentation, ScaleTranslation
from manifold_ae.run.representations import is_orthogonal
from manifold_ae.run.traces import load_traces

SCRIPT = Path(__file__).parent / "benchmarks" / "diffusion_hae.py"
TINY = HAE(
    data="diffusion",
    world=("length=6", "size=8"),
    traces=60,
    epochs=1,
    restarts=1,
    restart_epochs=1,
    encoder_hidden=(16,),
    decoder_hidden=(16,),
    num_rollouts=4,
    device="cpu",
)
G = ScaleTranslation(2)


class Shrunk:
    """The truth with every translation a tenth too long: no homomorphism."""

    group: groups.Group = G
    size = 3

    def __call__(self, action: torch.Tensor) -> torch.Tensor:
        matrix = Defining(G)(action).clone()
        matrix[..., :2, 2] *= 1 + 0.1 * action[..., :1]
        return matrix


# ---- runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"world": ("length=6", "size=8", "kind=ddim"), "phi": "mlp", "scramble": 2},
        {"world": ("length=6", "size=8", "kind=ve"), "orthogonal": True},
        {"model": "unstructured"},
        {"data": "gaussian-diffusion", "world": ("length=6", "dim=3")},
    ],
    ids=lambda options: " ".join(options) or "linear",
)
def test_a_run_on_diffusion_steps_goes_all_the_way(options, tmp_path):
    trained = run.train(TINY.replace(**options), tmp_path / "run")
    found = trained.evaluate()
    assert found["rollout"]["horizons"] == (1, 2, 4, 6)
    if options.get("model") == "unstructured":
        assert "homomorphism_error" not in found
        return
    for name in ("homomorphism_error_of_moves", "composition_error", "alignment_residual_of_moves"):
        assert math.isfinite(found[name])
    loaded = run.load(tmp_path / "run", device="cpu")
    assert {**loaded.evaluate(), "seconds": 0} == {**found, "seconds": 0}


@pytest.mark.slow
def test_a_run_on_diffusion_steps_is_drawn(tmp_path):
    trained = run.train(TINY, tmp_path / "run")
    assert all(path.exists() for path in trained.draw())


def test_matrices_are_general_where_the_group_is_not_compact():
    compact = (groups.Torus(2), groups.SO3(), groups.Cyclic(4))
    assert all(is_orthogonal(TINY, group) for group in compact)
    assert not is_orthogonal(TINY, G)
    assert is_orthogonal(TINY.replace(orthogonal=True), G)
    trained = run.train(TINY)
    assert trained.model.representation.orthogonal is False


def test_a_world_without_the_angle_of_an_action_is_not_asked_for_it():
    source = load_traces(TINY.replace(largest=0.1))
    assert source.world is not None
    assert source.train.actions.abs().max() > 0.1


# ---- measures -------------------------------------------------------------------------------


def actions_of(kind: str, n: int = 20) -> torch.Tensor:
    world = worlds.Diffusion(kind=kind, length=10)
    return world.random_actions(n, 10, torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("kind", ["vp", "ve", "ddim"])
def test_a_representation_has_no_defects_over_actions(kind):
    actions = actions_of(kind)
    found = metrics.action_defects(Defining(G), actions)
    assert max(found.homomorphism_of_moves, found.composition, found.inverse) <= 1e-12
    assert found.identity == 0


def test_defects_over_actions_are_what_their_definition_says():
    actions, rho = actions_of("vp"), Shrunk()
    found = metrics.action_defects(rho, actions)
    g, h = actions[:, :-1], actions[:, 1:]
    whole = rho(G.log(G.compose(G.exp(h), G.exp(g))))
    wrong = torch.linalg.matrix_norm(whole - rho(h) @ rho(g)).mean()
    eye = torch.eye(3, dtype=torch.float64)
    assert found.homomorphism == pytest.approx(wrong / torch.linalg.matrix_norm(whole).mean())
    moved = torch.linalg.matrix_norm(whole - eye).mean()
    assert found.homomorphism_of_moves == pytest.approx(wrong / moved)
    assert found.homomorphism_of_moves > found.homomorphism
    composed = actions[0, 0]
    steps = rho(composed)
    for X in actions[0, 1:]:
        composed, steps = G.log(G.compose(G.exp(X), G.exp(composed))), rho(X) @ steps
    alone = metrics.action_defects(rho, actions[:1]).composition
    error = torch.linalg.matrix_norm(rho(composed) - steps)
    assert alone == pytest.approx(error / torch.linalg.matrix_norm(rho(composed)))


def test_the_residual_of_moves_does_not_shrink_with_the_actions():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    wrong = torch.tensor([0.5, 1.0, 1.0], dtype=torch.float64)
    residuals, of_moves = [], []
    for size in (0.2, 0.02):
        true = Defining(G)(size * X)
        found = metrics.align_matrices(Defining(G)(size * X * wrong), true, tolerance=0)
        residuals.append(found.residual)
        of_moves.append(metrics.residual_of_moves(found, true))
    assert residuals[1] < 0.02 * residuals[0]
    assert of_moves[1] == pytest.approx(of_moves[0], rel=0.2)
    perfect = metrics.align_matrices(true, true, tolerance=0)
    assert metrics.residual_of_moves(perfect, true) <= 1e-12


def test_an_overflowing_product_is_infinite_and_no_nan():
    rho = LearnedRepresentation(G, 3, orthogonal=False)
    with torch.no_grad():
        rho.weight.zero_()
        rho.weight[0, 0] = 30.0
    actions = torch.zeros(2, 40, 3)
    actions[..., 0] = 1.0
    assert metrics.action_defects(rho, actions[:, :2]).composition <= 1e-4
    assert metrics.action_defects(rho, actions).composition == math.inf


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"actions has shape \(3, 1, 3\): expected \(n, T, dim\)"):
        metrics.action_defects(Defining(G), torch.ones(3, 1, 3))
    with pytest.raises(ValueError, match="actions do not move"):
        metrics.action_defects(Defining(G), torch.zeros(3, 2, 3))
    with pytest.raises(ValueError, match=r"rho is of Cyclic\(3\), which is finite"):
        metrics.action_defects(Defining(groups.Cyclic(3)), torch.ones(3, 2, 3))
    eye = torch.eye(3, dtype=torch.float64).expand(5, 3, 3)
    found = metrics.align_matrices(eye, eye)
    with pytest.raises(ValueError, match="actions do not move"):
        metrics.residual_of_moves(found, eye)
    with pytest.raises(ValueError, match=r"true has shape \(5, 2, 2\)"):
        metrics.residual_of_moves(found, eye[:, :2, :2])


# ---- what is learned ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_affine_map_of_gaussian_data_is_found_to_rounding(tmp_path):
    """Data are float32: errors are its rounding, 6e-8, and their squares."""
    path = tmp_path / "gaussian.json"
    command = [sys.executable, str(SCRIPT), "gaussian", str(path), "--seeds", "1"]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads(path.read_text())["runs"]["linear encoder, linear φ"]["0"]
    assert found["alignment_residual"] <= 1e-12
    assert found["alignment_residual_of_moves"] <= 1e-10
    assert found["homomorphism_error_of_moves"] <= 1e-6
    assert found["rollout_error"] <= 1e-10


@pytest.mark.slow
def test_diffusion_steps_are_found_from_pictures():
    config = TINY.replace(
        world=(), traces=4000, steps=3, epochs=12, lr=2e-3,
        encoder_hidden=(128, 128), decoder_hidden=(128, 128), num_rollouts=50,
    )  # fmt: skip
    found = run.train(config).evaluate()
    assert found["homomorphism_error"] <= 0.02
    assert found["alignment_residual"] <= 0.02
    assert found["alignment_condition"] < 10
    assert found["rollout"]["relative_to_autoencoding"][-1] <= 2
