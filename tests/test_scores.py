"""Rows off the manifold, and features predicted from others: with a decoder that made the data."""

import math

import pytest
import torch
from torch import Tensor, nn

from manifold_ae import data, models, run
from manifold_ae.experiments import VAE
from manifold_ae.manifolds import FlatTorus
from manifold_ae.models import DeltaVAE, likelihoods
from manifold_ae.models.held_out import predict_held_out
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


def test_scores_of_a_run() -> None:
    recording = data.simulate("ring", 400, seed=0)
    dataset = data.from_array(recording.x.numpy(), name="ring")
    config = VAE(
        manifold="circle", likelihood="poisson", epochs=25, batch_size=64, lr=3e-3,
        encoder_hidden=(32,), decoder_hidden=(32,), device="cpu",
    )  # fmt: skip
    trained = run.train(config, dataset=dataset)
    found = cosmoothing(trained, folds=3)
    assert 0.1 < found["r2"] < 0.9
    assert 0.02 < found["bits_per_spike"] < 3
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
    masked = models.likelihoods.named("poisson", (CELLS,), masks=True)
    model.likelihood = masked
    with pytest.raises(NotImplementedError, match="missing"):
        score_rows(model, x)
