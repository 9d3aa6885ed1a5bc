"""Runs of the affine representation, whose actions are as many as the pixels of a picture."""

import time

import numpy as np
import pytest
import torch

from manifold_ae import data, groups, metrics, run
from manifold_ae.diffusion import Schedule
from manifold_ae.experiments import HAE
from manifold_ae.groups import AffineRepresentation, LearnedRepresentation, ScaleTranslation
from manifold_ae.models.transitions import ByRepresentation
from manifold_ae.run.representations import make_representation

PICTURES = ScaleTranslation(784)
TINY = HAE(
    model="affine",
    epochs=1,
    restarts=1,
    encoder_hidden=(16,),
    decoder_hidden=(16,),
    num_rollouts=4,
    device="cpu",
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A file of traces of 28×28 pixels."""
    x = torch.rand(20, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    traces = data.diffusion_traces("vp", x, Schedule.linear(), times=(0, 20, 40, 60))
    path = tmp_path_factory.mktemp("traces") / "pictures.npz"
    np.savez(path, observations=traces.observations, actions=traces.actions)
    return str(path)


# ---- runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [9, 40, 0], ids=["small", "large", "whole"])
def test_a_run_on_pictures_of_784_pixels_goes_all_the_way(size, pictures, tmp_path, monkeypatch):
    """No matrix of 785² entries, no measure whose cost grows as size⁶, no figure for each pixel."""
    if size == 0:
        monkeypatch.setattr(AffineRepresentation, "forward", None)
        monkeypatch.setattr(AffineRepresentation, "generators", None)
    config = TINY.replace(data=pictures, group="scale-translation:784", size=size)
    trained = run.train(config, tmp_path / "run")
    found = trained.evaluate()
    assert found["homomorphism_error_of_moves"] <= 1e-5
    assert found["composition_error"] <= 1e-5
    assert ("left_out" in found) == (size != 9) == ("blocks" not in found)
    assert "785 is over 32" in found["left_out"] if size == 0 else True
    loaded = run.load(tmp_path / "run", device="cpu")
    assert {**loaded.evaluate(), "seconds": 0} == {**found, "seconds": 0}


@pytest.mark.slow
@pytest.mark.parametrize("size", [9, 0])
def test_it_is_drawn_in_a_few_pictures(size, pictures, tmp_path):
    config = TINY.replace(data=pictures, group="scale-translation:784", size=size)
    assert len(run.train(config, tmp_path / "run").draw()) == (12 if size else 4)


def test_points_seen_as_blobs_have_the_true_matrices():
    config = TINY.replace(data="diffusion", world=("length=6", "size=8"), traces=60)
    found = run.train(config).evaluate()
    assert found["alignment_residual"] <= 1e-10
    assert found["alignment_condition"] == pytest.approx(1.0, abs=1e-3)
    assert found["blocks"] == [3]


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": 65},
        {"blocks": "soft", "size": 65},
        {"phi": "mlp"},
        {"model": "given"},
        {"model": "givens"},
    ],
    ids=str,
)
def test_matrices_that_are_too_many_numbers_are_refused_at_once(options):
    start = time.process_time()
    with pytest.raises(ValueError, match=r"ScaleTranslation\(784\).*--model affine --size 65"):
        make_representation(HAE(**options), PICTURES)
    assert time.process_time() - start < 1


def test_what_is_small_enough_is_not_refused():
    assert make_representation(HAE(phi="mlp", phi_skip=False, size=20), PICTURES).size == 20
    assert make_representation(HAE(size=16), ScaleTranslation(64)).size == 16
    assert make_representation(HAE(), groups.Torus(40)).size == 80
    assert make_representation(HAE(model="unstructured", size=33), PICTURES).size == 33
    assert make_representation(HAE(model="affine", size=33), PICTURES).size == 33


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phi": "mlp"}, "phi = 'mlp': model = 'affine' does not have it"),
        ({"blocks": "2,1"}, "blocks = '2,1': model = 'affine'"),
        ({"free": 1}, "free = 1: model = 'affine'"),
        ({"scramble": 1}, "scramble = 1: model = 'affine'"),
    ],
)
def test_options_that_it_does_not_have_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HAE(model="affine", **options).check_heeded()


def test_of_another_group_it_says_what_to_take():
    with pytest.raises(ValueError, match=r"SO3\(\): expected ScaleTranslation"):
        make_representation(HAE(model="affine"), groups.SO3())


def test_other_groups_that_are_too_large_name_their_way_out():
    with pytest.raises(ValueError, match=r"GL\(20\).*smaller size or blocks"):
        make_representation(HAE(size=50), groups.GL(20))


# ---- measures without matrices ------------------------------------------------------------------


def wrong(dtype, generator):
    """No homomorphism, but near one."""
    rho = LearnedRepresentation(ScaleTranslation(3), 6, orthogonal=False).to(generator.device)
    with torch.no_grad():
        noise = torch.randn(rho.weight.shape, generator=generator, device=generator.device)
        rho.weight.copy_(0.2 * noise)
    return rho.to(dtype)


def test_defects_by_probes_are_those_of_matrices(dtype, generator):
    rho = wrong(dtype, generator)
    actions = torch.randn(20, 5, 4, generator=generator, device=generator.device).to(dtype) / 4
    true = metrics.action_defects(rho, actions)
    found = metrics.probed_defects(rho, actions, probes=2000, generator=generator)
    for name in ("homomorphism", "homomorphism_of_moves", "composition"):
        assert getattr(true, name) > 0.01
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=0.05)
    few = metrics.probed_defects(rho, actions, generator=generator)
    assert few.homomorphism == pytest.approx(true.homomorphism, rel=0.5)


def test_defects_by_probes_of_a_representation_are_rounding(dtype, generator):
    rho = AffineRepresentation(ScaleTranslation(3), 3).to(generator.device, dtype)
    actions = torch.randn(20, 5, 4, generator=generator, device=generator.device).to(dtype)
    found = metrics.probed_defects(rho, actions, generator=generator)
    near = 100 * torch.finfo(dtype).eps
    assert max(found.homomorphism_of_moves, found.composition, found.inverse) <= near
    assert found.identity == 0


def test_probes_find_an_inverse_and_an_identity_that_are_wrong(generator):
    class Shifted(torch.nn.Module):
        group: groups.Group = ScaleTranslation(2)
        size = 3

        def act(self, action, z):
            return 1.5 * z + 0 * action[..., :1]

    actions = torch.ones(3, 2, 3, device=generator.device)
    found = metrics.probed_defects(Shifted(), actions, generator=generator)
    assert found.identity == pytest.approx(0.5, rel=1e-5)
    assert found.inverse == pytest.approx(1.25, rel=1e-5)
    assert found.homomorphism == pytest.approx(0.5, rel=1e-5)
    assert found.homomorphism_of_moves == pytest.approx(1.5, rel=1e-5)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (lambda rho: metrics.probed_defects(rho, torch.ones(3, 1, 785)), "T at least 2"),
        (lambda rho: metrics.probed_defects(rho, torch.zeros(3, 2, 785)), "actions do not move"),
        (lambda rho: metrics.probed_defects(rho, torch.ones(3, 2, 785), probes=0), "probes=0"),
    ],
)
def test_mistakes_are_named(probe, message):
    with pytest.raises(ValueError, match=message):
        probe(AffineRepresentation(PICTURES))


def test_a_single_step_is_that_of_the_matrix(dtype, generator):
    rho = AffineRepresentation(ScaleTranslation(5), 4).to(generator.device, dtype)
    moves = ByRepresentation(rho)
    X = torch.randn(7, 6, generator=generator, device=generator.device).to(dtype)
    z = torch.randn(7, 4, generator=generator, device=generator.device).to(dtype)
    by_matrix = (moves.matrix(X) @ z.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(moves.step(z, X), by_matrix)
    torch.testing.assert_close(rho.generator(X), torch.einsum("ki,iab->kab", X, rho.generators()))


def test_the_transition_error_is_that_of_matrices(dtype, generator):
    like = {"generator": generator, "device": generator.device}
    z, moved = (torch.randn(30, 4, **like).to(dtype) for _ in range(2))
    matrices = torch.randn(30, 4, 4, **like).to(dtype)
    predicted = (matrices @ z.unsqueeze(-1)).squeeze(-1)
    one = metrics.transition_error(z, moved, predicted)
    assert one == pytest.approx(metrics.equivariance_error(z, moved, matrices), rel=1e-5)
    with pytest.raises(ValueError, match=r"predicted has shape \(4,\)"):
        metrics.transition_error(z, moved, predicted[0])
