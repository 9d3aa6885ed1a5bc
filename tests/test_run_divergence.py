"""The KL term that a configuration asks for, or that is found for it."""

import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from manifold_ae import run
from manifold_ae.cli.main import main
from manifold_ae.distributions import HeatKernel, PowerSpherical, RandomWalk, WrappedNormal
from manifold_ae.experiments import DIVERGENCES, VAE
from manifold_ae.manifolds import (
    EmbeddedTorus,
    Euclidean,
    FlatTorus,
    Product,
    Quotient,
    Sphere,
    Submanifold,
)
from manifold_ae.models import DeltaVAE, known_divergence
from manifold_ae.models.divergences import DIVERGENCES as TERMS
from manifold_ae.nn import MLP
from manifold_ae.numerics import normalise

#: Looks different from different points, and has no table: the divergence is an integral at each.
GLIDED = Quotient(FlatTorus(2), [np.diag([-1.0, -1.0, 1.0, -1.0])], name="by a glide")


def configuration(manifold: str, **options) -> VAE:
    small = {"encoder_hidden": (32,), "decoder_hidden": (32,), "num_samples": 4, "epochs": 2}
    return VAE(manifold=manifold, **small, **options)


def test_the_choices_are_those_of_the_model():
    assert ("auto", *TERMS) == DIVERGENCES


@pytest.mark.parametrize(
    ("manifold", "posterior", "expected"),
    [
        (Sphere(2), HeatKernel, "exact"),
        (Sphere(20), RandomWalk, "short-time"),
        (Sphere(20), PowerSpherical, "exact"),
        (Sphere(60), WrappedNormal, "sampled"),
        (GLIDED, HeatKernel, "sampled"),
        (EmbeddedTorus(), RandomWalk, "exact"),
        (Product(Sphere(2), Euclidean(2)), HeatKernel, "exact"),
        (Product(Sphere(20), Sphere(2)), RandomWalk, "short-time"),
        (Submanifold((3,), normalise, volume=4 * math.pi), RandomWalk, "short-time"),
    ],
    ids=lambda value: getattr(value, "spec", getattr(value, "__name__", value)),
)
def test_the_first_that_there_is(manifold, posterior, expected):
    assert known_divergence(manifold, posterior) == expected


def test_the_short_time_formula_is_the_heat_kernels_alone():
    with pytest.raises(NotImplementedError, match=r"short-time.*WrappedNormal"):
        known_divergence(EmbeddedTorus(), WrappedNormal)


def test_a_sphere_of_many_dimensions_trains(tmp_path):
    trained = run.train(configuration("sphere:20"), tmp_path / "run")
    config = VAE.from_mapping(VAE.read(tmp_path / "run" / "config.toml"))
    assert (config.posterior, config.divergence) == ("random-walk", "short-time")
    assert trained.model.divergence == "short-time"
    metrics = trained.evaluate()
    assert all(math.isfinite(value) for value in metrics.values())
    assert trained.history[-1]["elbo"] > trained.history[0]["elbo"]
    assert run.load(tmp_path / "run").model.divergence == "short-time"


def test_log_likelihood_without_a_density_is_importance_sampled(generator):
    """Against another proposal, the power spherical law."""
    manifold = Sphere(12)
    torch.manual_seed(0)
    networks = MLP(8, (16,)), MLP(13, (16,))
    wide: dict = {"initial_time": 0.3}
    walk = DeltaVAE(
        manifold, *networks, divergence="short-time", posterior=RandomWalk, **wide
    ).double()
    other = DeltaVAE(manifold, *networks, posterior=PowerSpherical, **wide).double()
    other.load_state_dict(walk.state_dict())
    x = torch.rand(3, 8, dtype=torch.float64)
    both = [model.log_likelihood(x, 20_000, generator=generator) for model in (walk, other)]
    assert (both[0] - both[1]).abs().max() < 0.15  # that of a narrow law is off by more than one


def test_runs_of_before_there_was_a_choice_go_on(tmp_path):
    folder = tmp_path / "run"
    config = configuration("sphere:2")
    run.train(config, folder)
    path = folder / "config.toml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "divergence" not in line), encoding="utf-8")
    again = run.train(config, folder, resume=True)
    assert len(again.history) == 2
    with pytest.raises(ValueError, match="divergence"):
        run.train(config.replace(divergence="sampled"), folder, resume=True)


def test_the_command_line_shows_the_choice():
    def dry(*arguments: str) -> str:
        small = ("--set", "encoder_hidden=[8]", "--set", "decoder_hidden=[8]")
        command = ["train", "vae", "--dry-run", *small, *arguments]
        return CliRunner().invoke(main, command).output

    assert 'divergence = "short-time"' in dry("--manifold", "sphere:20")
    assert 'divergence = "exact"' in dry("--manifold", "sphere:2")
    assert 'divergence = "sampled"' in dry("--divergence", "sampled")
    assert "RandomWalk" in dry("--manifold", "sphere:20", "--divergence", "exact")
