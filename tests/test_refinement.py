"""The model's own posterior: against the exact one, which a linear decoder on a circle has."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from manifold_ae import metrics, models
from manifold_ae.distributions import HeatKernel
from manifold_ae.manifolds import SO3, EmbeddedTorus, Euclidean, FlatTorus, Product, Sphere
from manifold_ae.models import DeltaVAE, likelihoods
from manifold_ae.run.evaluation.calibration import Regions, as_points, judge, regions


class Constant(nn.Module):
    """An encoder that knows nothing: every row at one place."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_features = features
        self.place = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.place.expand(*x.shape[:-1], -1)


def linear_model(
    M: FlatTorus | Sphere | SO3 | Product, scale: float, variance: float = 1.0
) -> DeltaVAE:
    """x = scale · z + noise: of spheres the posterior is von Mises–Fisher, κ = scale |x|/σ²."""
    size = M.embedding_size
    decoder = nn.Linear(size, size, bias=False).double()
    with torch.no_grad():
        decoder.weight.copy_(scale * torch.eye(size))
    model = DeltaVAE(
        M, Constant(4), decoder, likelihood=likelihoods.Gaussian(size, variance), initial_time=0.5
    )
    model.output = nn.Identity()  # type: ignore[assignment]
    return model.double()


@pytest.mark.parametrize("M", [FlatTorus(1), Sphere(2), SO3(), FlatTorus(2)], ids=repr)
def test_weights_and_the_grid_say_the_same(M: FlatTorus | Sphere | SO3) -> None:
    """From an encoder that is wrong about everything."""
    model = linear_model(M, 2.0)
    generator = torch.Generator().manual_seed(0)
    z = M.random_uniform(4, generator=generator, dtype=torch.float64)
    x = 2 * M.embed(z) + torch.randn(4, M.embedding_size, generator=generator).double()
    own = models.refine(model, x, num_samples=2000, rounds=3, generator=generator)
    grid = M.random_uniform(20_000, generator=generator, dtype=torch.float64)
    exact = models.posterior_on_grid(M, grid, model.log_joint(x, grid[:, None]))
    assert own.effective.min() > 150
    assert M.dist(own.centre, exact.centre).max() < 0.2
    assert torch.allclose(own.radius(0.9), exact.radius(0.9), rtol=0.15)


def test_the_exact_posterior_of_a_circle() -> None:
    """von Mises of κ = scale |x|, around the direction of x."""
    M = FlatTorus(1)
    model = linear_model(M, 3.0)
    x = torch.tensor([[2.0, 0.0], [0.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    found = models.refine(model, x, num_samples=20_000, generator=torch.Generator().manual_seed(0))
    angle = torch.atan2(x[:, 1], x[:, 0])
    assert M.dist(found.centre, M.from_angles(angle[:, None])).max() < 0.02
    kappa = 3.0 * x.norm(dim=-1)
    r = found.radius(0.8)
    s = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    for radius, k in zip(r, kappa, strict=True):
        whole = (k * (math.pi * s).cos()).exp().mean() * math.pi
        part = (k * (radius * s).cos()).exp().mean() * radius
        assert (part / whole).item() == pytest.approx(0.8, abs=0.02)


def test_the_posterior_of_an_angle_beside_a_nuisance_is_that_of_each() -> None:
    """Of a product every factor has a variance of its own; a linear one's is known."""
    M = Product(FlatTorus(1), Euclidean(1))
    model = linear_model(M, 3.0)
    x = torch.tensor([[2.0, 1.0, 1.5], [-1.0, 0.5, -3.0]], dtype=torch.float64)
    found = models.refine(
        model, x, num_samples=20_000, rounds=3, generator=torch.Generator().manual_seed(0)
    )
    circle, line = M.split(found.centre)
    alone = models.refine(
        linear_model(FlatTorus(1), 3.0), x[:, :2], num_samples=20_000,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert found.time.shape == (2, 2)
    assert M.factors[0].dist(circle, alone.centre).max() < 0.02
    assert torch.allclose(found.time[:, 0], alone.time, rtol=0.05)
    # Prior N(0, 1), noise of variance 1, scale 3.
    assert torch.allclose(line[:, 0], 3 * x[:, 2] / 10, atol=0.02)
    assert torch.allclose(found.time[:, 1], torch.tensor(0.1).double(), rtol=0.05)


def test_regions_of_the_ideal_observer_hold_what_they_say() -> None:
    """On a torus, with the decoder that made the data; those of an encoder too sure do not."""
    M, n = FlatTorus(2), 1200
    model = linear_model(M, 3.0)
    generator = torch.Generator().manual_seed(1)
    z = M.random_uniform(n, generator=generator, dtype=torch.float64)
    x = 3 * z + torch.randn(n, 4, generator=generator).double()
    found = regions(model, x, level=0.9, refined=True, generator=generator)
    judged = judge(found, found.centre, z)
    assert judged["coverage"] == pytest.approx(0.9, abs=4 * 0.0087)
    sure = regions(model, x, level=0.9, generator=generator)
    assert judge(sure, sure.centre, z)["coverage"] < 0.6


def test_the_region_of_a_heat_kernel_is_its_radial_quantile() -> None:
    M = Sphere(2)
    model = linear_model(M, 1.0)
    x = torch.randn(4, 3).double()
    law = model.posterior_law(x)
    assert isinstance(law, HeatKernel)
    radius = regions(model, x, level=0.7).radius
    draws = law.sample((20_000,))
    inside = M.dist(draws, law.loc) <= radius.to(draws)
    assert inside.double().mean(0).numpy() == pytest.approx(0.7, abs=0.014)


def test_positions_are_points_or_angles() -> None:
    M = FlatTorus(2)
    angles = torch.rand(5, 2)
    assert torch.equal(as_points(M, angles), M.from_angles(angles.double()))
    assert torch.equal(as_points(M, M.from_angles(angles)), M.from_angles(angles).double())
    assert as_points(FlatTorus(1), torch.rand(5)).shape == (5, 2)
    with pytest.raises(ValueError, match=r"truth has shape \(5, 3\): expected points of FlatTorus"):
        as_points(M, torch.rand(5, 3))
    with pytest.raises(ValueError, match=r"expected points of Euclidean\(2\), \(n, 2\)$"):
        as_points(Euclidean(2), torch.rand(5, 3))


def test_what_cannot_be_refined_is_refused() -> None:
    M = FlatTorus(1)
    model, x = linear_model(M, 1.0), torch.zeros(2, 2).double()
    with pytest.raises(ValueError, match="num_samples = 3"):
        models.refine(model, x, num_samples=3)
    with pytest.raises(ValueError, match="level = 2"):
        models.refine(model, x).radius(2)
    with pytest.raises(ValueError, match=r"log_joint has shape \(3,\)"):
        models.posterior_on_grid(M, M.random_uniform(3), torch.zeros(3))


# ---- baselines ------------------------------------------------------------------------------


def cells(angles: Tensor, each: int = 12) -> Tensor:
    """Cells tuned to each of the angles, without noise."""
    preferred = torch.linspace(0, 2 * math.pi, each + 1, dtype=torch.float64)[:-1]
    return (2 * (angles.unsqueeze(-1) - preferred).cos()).exp().flatten(1)


def test_principal_angles_of_a_ring_are_the_ring() -> None:
    M = FlatTorus(1)
    angles = torch.rand(400, 1, generator=torch.Generator().manual_seed(0)).double() * 6.283
    x = cells(angles)
    found = metrics.PrincipalAngles.fit(x[:300])
    fit = metrics.align(M, M.from_angles(found(x[:300])), M.from_angles(angles[:300]))
    new = fit.apply(M.from_angles(found(x[300:])))
    assert M.dist(new, M.from_angles(angles[300:])).mean() < 0.1
    with pytest.raises(ValueError, match="2 angles take at least 4 rows"):
        metrics.PrincipalAngles.fit(x[:3], 2)
    with pytest.raises(ValueError, match="not finite"):
        metrics.PrincipalAngles.fit(torch.full((5, 5), torch.nan))


def test_circular_coordinates_of_a_ring_and_a_torus() -> None:
    pytest.importorskip("dreimac")
    generator = torch.Generator().manual_seed(0)
    for k in (1, 2):
        M = FlatTorus(k)
        angles = torch.rand(300 * k, k, generator=generator).double() * 6.283
        x = cells(angles)
        found = metrics.CircularCoordinates.fit(x[50:], k, landmarks=100 * k)
        fit = metrics.align(M, M.from_angles(found(x[50:])), M.from_angles(angles[50:]))
        new = fit.apply(M.from_angles(found(x[:50])))
        assert M.dist(new, M.from_angles(angles[:50])).mean() < 0.35


def test_circular_coordinates_without_dreimac_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=r"densest = 1\.5: expected a part of the rows"):
        metrics.CircularCoordinates.fit(torch.rand(20, 4), densest=1.5)
    monkeypatch.setitem(__import__("sys").modules, "dreimac", None)
    with pytest.raises(ModuleNotFoundError, match="topology"):
        metrics.CircularCoordinates.fit(torch.rand(20, 4))


def test_a_radius_that_is_not_tabulated_is_of_draws() -> None:
    """On the embedded torus, whose radial law changes from place to place, by a walk."""
    M = EmbeddedTorus()
    centre = M.random_uniform(3, dtype=torch.float64)
    found = judge(Regions(M, centre, torch.tensor([0.1, 0.1, 0.0])), centre, centre)
    assert found["coverage"] == 1.0
    assert np.isfinite(found["mean_radius"])
