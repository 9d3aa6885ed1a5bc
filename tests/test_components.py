"""A start from principal components: where it places data, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import Tensor

from manifold_ae import data, manifolds, metrics, run
from manifold_ae.experiments import VAE
from manifold_ae.groups import finite
from manifold_ae.manifolds import Manifold, Quotient
from manifold_ae.models import (
    DeltaVAE,
    LatentFree,
    arranged,
    check_arranges,
    has_arrangement,
    likelihoods,
)
from manifold_ae.models.components import Frame, components_locations
from manifold_ae.run.paper import winding_determinant
from manifold_ae.run.starting import starter
from manifold_ae.run.vae_model import build_model, resolve

NAMES = ("circle", "torus:2", "sphere:2", "so3", "projective:2", "klein-bottle", "circle*sphere:2")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixed(M: Manifold, n: int, features: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Uniform points, and their coordinates carried into more dimensions by orthonormal columns."""
    z = M.random_uniform(n, generator=generator(seed), dtype=torch.float64)
    frame = Frame.of(M)
    u = (M.embed(z) - frame.mean) @ (frame.axes / frame.axes.square().sum(0))
    turn = torch.linalg.qr(
        torch.randn(features, u.shape[1], dtype=torch.float64, generator=generator(seed + 1))
    ).Q
    return z, 3 * u @ turn.T + 1


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_has_components_of_unit_covariance(name):
    M = manifolds.parse(name)
    frame = Frame.of(M)
    z = M.random_uniform(20_000, generator=generator(5), dtype=torch.float64)
    u = (M.embed(z) - frame.mean) @ (frame.axes / frame.axes.square().sum(0))
    covariance = u.T @ u / len(u)
    assert (covariance - torch.eye(len(covariance))).abs().max() < 0.08
    # What is of M already is nearest to itself.
    assert (frame.nearest(u) - u).abs().max() < 1e-6
    assert M.dist(M.from_features(frame.features(u)), z).max() < 1e-5


@pytest.mark.parametrize("name", ["circle", "torus:2", "sphere:2", "so3", "projective:2"])
def test_coordinates_that_were_mixed_are_found_up_to_an_isometry(name):
    M = manifolds.parse(name)
    z, x = mixed(M, 400 if name == "projective:2" else 200)
    f, left_over = arranged(M, x, starts=40, generator=generator())
    found = metrics.align(M, M.from_features(f), z)
    # Components of 200 points are not quite those of all.
    assert found.mean_distance < 0.2
    assert left_over < 0.03


@pytest.mark.parametrize("seed", range(4))
def test_axes_are_arranged_whichever_way_round_their_components_come(seed):
    """No isometry of RP² reflects its five components: starts of either kind have to be tried."""
    M = manifolds.parse("projective:2")
    z, x = mixed(M, 300, seed=seed)
    for sign in (1.0, -1.0):
        f, _ = arranged(M, sign * x, generator=generator(seed))
        assert metrics.align(M, M.from_features(f), z).mean_distance < 0.2


def test_what_is_left_over_tells_a_manifold_from_another():
    torus, sphere = manifolds.parse("torus:2"), manifolds.parse("sphere:3")
    left_over = {
        M: arranged(torus, mixed(M, 200)[1], generator=generator())[1] for M in (torus, sphere)
    }
    # The sphere of three dimensions has as many components, and the torus lies in it.
    assert left_over[torus] < 0.03
    assert left_over[sphere] > 0.08


def test_an_arrangement_is_a_function_of_the_generator():
    M = manifolds.parse("torus:2")
    _, x = mixed(M, 100)
    first, again = (arranged(M, x, starts=2, generator=generator(3))[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, arranged(M, x, starts=2, generator=generator(4))[0])


def test_fewer_components_than_the_manifold_has_are_arranged():
    M = manifolds.parse("torus:2")
    angle = torch.linspace(0, 6, 50, dtype=torch.float64)
    f, _ = arranged(M, torch.stack([angle.cos(), angle.sin()], 1), generator=generator())
    assert f.shape == (50, 4)
    assert f.isfinite().all()


def test_an_angle_is_told_from_a_nuisance_beside_it():
    M = manifolds.parse("torus:1*euclidean:1")
    angle = 6.2832 * torch.rand(300, generator=generator(), dtype=torch.float64)
    nuisance = torch.randn(300, generator=generator(1), dtype=torch.float64)
    mix = torch.randn(3, 12, generator=generator(2), dtype=torch.float64)
    x = 1 + torch.stack([angle.cos(), angle.sin(), nuisance], 1) @ mix
    f, left_over = arranged(M, x, generator=generator(3))
    circle, line = M.split(M.from_features(f))
    found = metrics.align(M.factors[0], circle, M.factors[0].from_angles(angle.unsqueeze(-1)))
    assert found.mean_distance < 0.1
    assert torch.corrcoef(torch.stack([line[:, 0], nuisance]))[0, 1].abs() > 0.99
    assert left_over < 0.01


def test_manifolds_whose_features_are_no_coordinates_are_refused():
    M = Quotient(manifolds.SO3(), finite.octahedral())
    assert not has_arrangement(M)
    with pytest.raises(ValueError, match=r"start = 'components' on .*embed it.*'spread'"):
        check_arranges(M)


def test_data_of_ones_own_begin_at_components_where_there_are_any():
    own, digits = data.from_array(torch.randn(30, 4)), data.load("digits")
    config = VAE(epochs=1, likelihood="gaussian")
    assert VAE().start == "auto"
    assert resolve(config, own).start == "components"
    assert resolve(config, digits).start == "random"
    assert resolve(config.replace(start="spread"), own).start == "spread"
    circular = config.replace(network="circular", manifold="torus:2")
    assert resolve(circular, own).start == "random"


def test_translations_are_wound_around_the_torus_before_training():
    """Of pictures that are drawn afresh, as many are looked at as of others."""
    config = VAE(
        manifold="torus:2", data="torus", start="components", epochs=1,
        steps_per_epoch=1, lr=1e-9, encoder_hidden=(128,), decoder_hidden=(8,), device="cpu",
    )  # fmt: skip
    assert abs(winding_determinant(run.train(config, progress=False)) or 0) == 1


def test_rows_that_do_not_vary_begin_at_random(tmp_path):
    config = VAE(
        manifold="circle", likelihood="poisson", encoder_hidden=(4,), decoder_hidden=(4,), epochs=1,
        device="cpu",
    )  # fmt: skip
    for x in (np.zeros((30, 3), int), np.full((30, 3), 2), np.array([[1, 2, 3], [0, 2, 1]])):
        found = run.train(config, dataset=data.from_array(x, test_fraction=0.5), progress=False)
        assert found.config.start == "random"
    asked = config.replace(start="components")
    with pytest.raises(ValueError, match="that do not vary have none; start = 'random'"):
        run.train(asked, tmp_path / "a", dataset=data.from_array(np.zeros((30, 3), int)))
    # Nothing was written.
    assert not (tmp_path / "a").exists()


def test_features_that_do_not_vary_do_not_spoil_the_map():
    angle = 6.2832 * torch.rand(400, generator=generator())
    centres = torch.linspace(0, 6.2832, 7)[:-1]
    x = (angle.unsqueeze(1) - centres).cos().exp()
    x = x + 0.1 * torch.randn(x.shape, generator=generator(1))
    constant = torch.tensor([5.0, -1.0]).expand(400, 2)
    config = VAE(
        manifold="circle", likelihood="gaussian-learned", epochs=8,
        encoder_hidden=(64,), decoder_hidden=(64,), device="cpu",
    )  # fmt: skip
    dataset = data.from_array(torch.cat([x, constant], 1))
    begun = starter(config.replace(start="components"), _of_eight, lambda: dataset.train)(config)
    assert (begun.output.linear.weight[6:] == 0).all()
    assert (begun.output.linear.weight[:6] != 0).any(1).all()
    trained = run.train(config, dataset=dataset, progress=False)
    M = manifolds.parse("circle")
    found = torch.from_numpy(trained.encode(torch.cat([x, constant], 1))["points"])
    assert metrics.align(M, found, M.from_angles(angle.unsqueeze(-1))).mean_distance < 0.3


def _of_eight(config: VAE) -> DeltaVAE:
    return build_model(config.replace(posterior="heat-kernel"), (8,))


def test_what_is_missing_does_not_make_a_feature_vary():
    nan = float("nan")
    x = torch.tensor([[1.0, nan, 0.0], [nan, 2.0, 1.0], [1.0, 2.0, 2.0]])
    floor = LatentFree(likelihoods.LearnedGaussian(3, masks=True)).fit(x)
    assert floor.varies.tolist() == [False, False, True]


def test_a_run_of_before_there_was_a_choice_goes_on_as_it_was(tmp_path):
    dataset = data.from_array(torch.randn(40, 4))
    config = VAE(
        encoder_hidden=(8,), decoder_hidden=(8,), epochs=1, start="random",
        likelihood="gaussian", device="cpu",
    )  # fmt: skip
    first = run.train(config, tmp_path, dataset=dataset, progress=False)
    path = tmp_path / "config.toml"
    lines = path.read_text().splitlines()
    assert 'start = "random"' in lines
    path.write_text("\n".join(line for line in lines if not line.startswith("start")))
    again = config.replace(start="auto")
    resumed = run.train(again, tmp_path, dataset=dataset, resume=True, progress=False)
    assert resumed.config == first.config


@pytest.mark.parametrize("name", NAMES)
def test_named_manifolds_have_an_arrangement(name):
    assert has_arrangement(manifolds.parse(name))


def test_data_that_do_not_vary_are_refused():
    with pytest.raises(ValueError, match="do not vary"):
        arranged(manifolds.parse("circle"), torch.ones(5, 3))


def test_an_encoder_that_gives_the_place_is_refused():
    with pytest.raises(ValueError, match="start = 'components' with network = 'circular'"):
        VAE(manifold="torus:2", data="torus", network="circular", start="components")


def test_an_untrained_encoder_places_counts_about_where_they_belong():
    recording = data.simulate("torus", 400, seed=0)
    assert recording.points is not None
    M = manifolds.FlatTorus(2)
    dataset = data.from_array(recording.x.numpy(), name="torus", test_fraction=0.1)
    errors = {}
    for start in ("components", "spread"):
        config = resolve(
            VAE(
                manifold="torus:2", likelihood="poisson", start=start, encoder_hidden=(64,),
                decoder_hidden=(16,),
            ),
            dataset,
        )  # fmt: skip
        begin = starter(config, lambda config: build_model(config, (50,)), lambda: dataset.train)
        with torch.no_grad():
            z = begin(config).posterior(dataset.train).loc.double()  # type: ignore[attr-defined]
        truth = recording.points[dataset.train_rows].double()
        errors[start] = metrics.align(M, z, truth).mean_distance
    assert errors["components"] < 0.8 < 1.1 < errors["spread"]


def test_components_are_not_those_of_gaps_exposure_or_covariates():
    """Each of the three moves counts more than the angle does."""
    recording = data.simulate("ring", 600, seed=0)
    assert recording.points is not None
    x, exposure = recording.x, torch.exp(torch.randn(600, generator=generator()))
    batch = (torch.arange(600) % 2).float()
    x = torch.poisson(x * exposure[:, None] * (1 + 4 * batch[:, None]), generator=generator(1))
    x[::3, :10] = torch.nan
    dataset = data.from_array(
        x.numpy(), name="ring", missing="mask", covariates=batch[:, None].numpy(),
        exposure=exposure.numpy(), test_fraction=0.1,
    )  # fmt: skip
    config = VAE(
        manifold="circle", likelihood="poisson", encoder_hidden=(64,), decoder_hidden=(16,),
        lr=1e-9, epochs=1, device="cpu",
    )  # fmt: skip
    trained = run.train(config, dataset=dataset, progress=False)
    assert trained.config.start == "components"
    given = {name: dataset.train_given[name] for name in ("covariates", "exposure")}
    z = torch.from_numpy(trained.encode(dataset.train, **given)["points"]).double()
    truth = recording.points[dataset.train_rows].double()
    assert metrics.align(manifolds.FlatTorus(1), z, truth).mean_distance < 0.4


def test_training_repeats_and_goes_on_from_components(tmp_path):
    recording = data.simulate("ring", 120, seed=1)
    dataset = data.from_array(recording.x.numpy(), name="ring")
    config = VAE(
        manifold="circle", likelihood="poisson", start="components", epochs=3, encoder_hidden=(16,),
        decoder_hidden=(16,), restarts=2, restart_epochs=1, device="cpu",
    )  # fmt: skip
    first = run.train(config, tmp_path / "a", dataset=dataset)
    again = run.train(config, tmp_path / "a", dataset=dataset, resume=True)
    other = run.train(config, dataset=dataset)
    for name, value in first.model.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(value, again.model.state_dict()[name])  # type: ignore[union-attr]
        assert torch.equal(value, other.model.state_dict()[name])  # type: ignore[union-attr]


def test_the_head_is_set_by_ridge_regression():
    """Of an encoder that gives the components themselves, the head's places are the arrangement."""
    M = manifolds.FlatTorus(1)
    _, x = mixed(M, 60, features=4)
    config = VAE(
        manifold="circle", likelihood="gaussian", posterior="heat-kernel", encoder_hidden=(4,),
        decoder_hidden=(4,),
    )  # fmt: skip
    model = build_model(config, (4,)).double()
    model.encoder = Itself()
    components_locations(model, x, lambda: model.posterior(x), generator=generator(2))
    f, _ = arranged(M, x, generator=generator(2))
    assert M.dist(model.posterior(x).loc, M.from_features(f)).max() < 0.01  # type: ignore[attr-defined]


class Itself(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x
