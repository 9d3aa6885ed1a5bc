"""Rows off the manifold, and features predicted from others: with a decoder that made the data."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from manifold_ae import data, models, run
from manifold_ae.experiments import VAE
from manifold_ae.manifolds import FlatTorus
from manifold_ae.models import DeltaVAE, likelihoods
from manifold_ae.models.held_out import predict_held_out
from manifold_ae.models.lattices import lattice
from manifold_ae.numerics import soft_clamp
from manifold_ae.run.evaluation.scores import cosmoothing, off_manifold, score_rows

M = FlatTorus(1)
CELLS = 24
PREFERRED = torch.arange(CELLS) * (2 * math.pi / CELLS)
KAPPA = 2.0


class Places(nn.Module):
    """The population vector: where the counts of tuned cells point to, and a variance."""

    def __init__(self) -> None:
        super().__init__()
        self.location_features = 2
        self.out_features = 3
        self.axes = nn.Parameter(torch.stack([PREFERRED.cos(), PREFERRED.sin()], -1))

    def forward(self, x: Tensor) -> Tensor:
        vector = x.expm1() @ self.axes
        return torch.cat([vector, torch.ones_like(vector[..., :1])], -1)


class LogRates(nn.Module):
    """log λᵢ = a + κ cos(θ − θᵢ)."""

    def __init__(self) -> None:
        super().__init__()
        self.out_features = CELLS
        self.axes = nn.Parameter(KAPPA * torch.stack([PREFERRED.cos(), PREFERRED.sin()]))

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.axes - 0.3


def truth() -> DeltaVAE:
    """The model that made the counts, with an encoder that is near enough for its weights."""
    model = DeltaVAE(
        M, Places(), LogRates(), likelihood=likelihoods.Poisson(CELLS), initial_time=0.06
    )
    model.output = nn.Identity()  # type: ignore[assignment]
    return model


def counts(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = M.random_uniform(n, generator=generator)
    return z, torch.poisson(LogRates()(z).exp().detach(), generator=generator)


def test_rows_off_the_manifold_are_found() -> None:
    """Cells that fire as much as the others, tuned to nothing: power 95 % at 5 % false alarms."""
    generator = torch.Generator().manual_seed(3)
    _, good = counts(500, 0)
    rate = good.mean()
    bad = torch.poisson(rate.expand(200, CELLS), generator=generator)
    found = score_rows(truth(), torch.cat([good, bad]), draws=1500, generator=generator)
    alarm = found.p_value < 0.05
    # Three standard errors of 500 rows.
    assert alarm[:500].double().mean().item() == pytest.approx(0.05, abs=0.03)
    assert alarm[500:].double().mean() > 0.95
    assert found.z_score[500:].mean() < -3
    assert found.z_score[:500].mean().abs() < 0.2
    assert ((found.p_value > 0) & (found.p_value <= 1)).all()


def test_p_values_of_good_rows_are_uniform() -> None:
    _, x = counts(800, 5)
    p = score_rows(truth(), x, generator=torch.Generator().manual_seed(0)).p_value
    gap = (p.sort().values - (torch.arange(800) + 0.5) / 800).abs().max()
    assert gap < 1.63 / math.sqrt(800) * 1.2  # Kolmogorov and Smirnov at 1 %, and the draws' own


def test_held_out_features_by_a_sum_over_a_fine_grid() -> None:
    z, x = counts(20, 1)
    model = truth()
    held = torch.zeros(CELLS, dtype=torch.bool)
    held[::4] = True
    found = predict_held_out(model, x, held)
    theta = torch.linspace(0, 2 * math.pi, 5001, dtype=torch.float64)[:-1, None]
    # The likelihood bends log-rates softly to ±15.
    log_rate = soft_clamp(KAPPA * (theta - PREFERRED).cos() - 0.3, -15.0, 15.0)[:, None]
    terms = x * log_rate - log_rate.exp() - torch.lgamma(x + 1)
    seen, hidden = terms[..., ~held].sum(-1), terms[..., held].sum(-1)
    assert torch.allclose(
        found.log_prob, (seen + hidden).logsumexp(0) - seen.logsumexp(0), atol=1e-4
    )
    mean = (seen.softmax(0).unsqueeze(-1) * log_rate[..., held].exp()).sum(0)
    assert torch.allclose(found.mean, mean, rtol=1e-3)
    # What is hidden is told better than by its mean, and not as well as from the true place.
    exact = LogRates()(z).exp()[:, held].detach()
    assert (found.mean - x[:, held]).square().mean() < (
        x[:, held].mean() - x[:, held]
    ).square().mean()
    assert (found.mean - exact).square().mean() > 0


def trained_on(dataset: data.Dataset, epochs: int) -> run.VAERun:
    """A run on cells of a ring, whose features tell of each other."""
    config = VAE(
        manifold="circle", likelihood="poisson", epochs=epochs, batch_size=64, lr=3e-3,
        encoder_hidden=(32,), decoder_hidden=(32,), device="cpu",
    )  # fmt: skip
    trained = run.train(config, dataset=dataset)
    assert isinstance(trained, run.VAERun)
    found = cosmoothing(trained, folds=3)
    assert 0.1 < found["r2"] < 0.9
    assert 0.02 < found["bits_per_spike"] < 3
    return trained


def test_scores_of_a_run() -> None:
    recording = data.simulate("ring", 400, seed=0)
    dataset = data.from_array(recording.x.numpy(), name="ring")
    trained = trained_on(dataset, 25)
    scores = off_manifold(trained, draws=200, num_samples=20)
    assert scores["rows"]["p_value"].shape == (len(dataset.test),)
    assert scores["part"] == pytest.approx((scores["rows"]["p_value"] < 0.05).mean())
    with pytest.raises(ValueError, match="folds = 1"):
        cosmoothing(trained, folds=1)
    with pytest.raises(ValueError, match="level = 0"):
        off_manifold(trained, level=0)
    assert recording.points is not None
    calibrated = run.calibrate(trained, recording.points, num_samples=100)
    assert 0 < calibrated.coverage < 1
    assert calibrated.refined is not None
    assert f"{100 * calibrated.coverage:.1f}" in calibrated.words
    assert run.calibrate(trained, recording.angles, refined=False).coverage == calibrated.coverage
    with pytest.raises(ValueError, match="have no labels"):
        run.calibrate(trained)
    with pytest.raises(ValueError, match="truth has 10 rows, and the data have 400"):
        run.calibrate(trained, recording.points[:10])


def test_what_cannot_be_scored_is_refused() -> None:
    _, x = counts(4, 0)
    model = truth()
    with pytest.raises(ValueError, match="0 rows"):
        score_rows(model, x[:0])
    with pytest.raises(ValueError, match="and 0 features"):
        predict_held_out(model, x, torch.zeros(CELLS, dtype=torch.bool))
    with pytest.raises(ValueError, match="expected booleans"):
        predict_held_out(model, x, torch.ones(3, dtype=torch.bool))


class Seen(Places):
    """Of values, zero where they are missing, and of which are there, the values alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[..., :CELLS])


def masked() -> DeltaVAE:
    """The truth, of rows of which values may be missing."""
    model = truth()
    model.encoder = Seen()
    model.likelihood = models.likelihoods.named("poisson", (CELLS,), masks=True)
    return model


def test_rows_with_gaps_are_compared_with_draws_that_have_the_same() -> None:
    """Few values are likelier than many: beside draws without gaps all would pass."""
    generator = torch.Generator().manual_seed(3)
    _, x = counts(900, 0)
    x[:300, 2:] = math.nan
    x[300:600, ::2] = math.nan
    bad = torch.poisson(x[600:].mean().expand(100, CELLS), generator=generator)
    bad[:, : CELLS // 4] = math.nan
    found = score_rows(masked(), torch.cat([x, bad]), draws=2000, generator=generator)
    for part in found.p_value[:900].split(300):
        assert (part < 0.05).double().mean().item() == pytest.approx(0.05, abs=0.045)
    assert (found.p_value[900:] < 0.05).double().mean() > 0.8


def test_held_out_features_of_rows_with_gaps() -> None:
    """What is missing neither tells nor counts: as if those features were not there."""
    _, x = counts(6, 1)
    held = torch.zeros(CELLS, dtype=torch.bool)
    held[::4] = True
    gaps = x.clone()
    gaps[:, [0, 1]] = math.nan
    found = predict_held_out(masked(), gaps, held)
    z = lattice(M).points.float()
    log_rate = soft_clamp(LogRates()(z), -15.0, 15.0).double()[:, None].detach()
    terms = x * log_rate - log_rate.exp() - torch.lgamma(x + 1)
    terms[..., [0, 1]] = 0.0
    seen, hidden = terms[..., ~held].sum(-1), terms[..., held].sum(-1)
    exact = (seen + hidden).logsumexp(0) - seen.logsumexp(0)
    assert torch.allclose(found.log_prob, exact, atol=1e-4)
    assert torch.isfinite(found.mean).all()


def test_scores_of_a_run_with_gaps() -> None:
    x = data.simulate("ring", 300, seed=0).x.clone()
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.1] = math.nan
    dataset = data.from_array(x.numpy(), name="ring", missing="mask")
    trained = trained_on(dataset, 15)
    scores = off_manifold(trained, draws=200, num_samples=10)
    assert np.isfinite(scores["rows"]["log_likelihood"]).all()
    assert scores["part"] < 0.3
