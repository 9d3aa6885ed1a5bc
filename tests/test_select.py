"""``select``: candidates, their baselines, the null, the folder; what stands beside the rule."""

import dataclasses
import json
import math
import shlex

import pytest
import torch
from click.testing import CliRunner

from manifold_ae import data, manifolds, plots, run
from manifold_ae.cli import main
from manifold_ae.distributions import HeatKernel, RiemannianUniform, kl_by_factor
from manifold_ae.experiments import VAE, Select
from manifold_ae.metrics import Selection
from manifold_ae.models import DeltaVAE, LatentFree, likelihoods, spread_locations
from manifold_ae.nn import MLP
from manifold_ae.run.selection import candidates_of, next_step
from manifold_ae.run.selection.judging import Judge, shuffled

#: Runs that show how it goes, not which manifold it is: for that, the slow tests.
QUICK = {
    "steps": 6,
    "batch_size": 75,
    "restarts": 1,
    "num_samples": 5,
    "blocks": 10,
    "encoder_hidden": (16,),
    "decoder_hidden": (16,),
    "landmarks": 0,
    "device": "cpu",
    "manifolds": ("circle",),
}


def ring(n=200, **options):
    recording = data.simulate("ring", n, cells=12, **options)
    return data.from_array(recording.x, name="ring", test_fraction=0.25)


def quick(**changes):
    return Select(**{"data": "ring.npy", "likelihood": "poisson", **QUICK, **changes})


# ---- isometry classes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "name"),
    [
        (("circle", "sphere:1", "torus:1", "projective:1"), "circle"),
        (("torus:2", "circle*circle", "sphere:1*projective:1"), "torus:2"),
        (("so3", "projective:3"), "so3"),
        (("euclidean:3", "euclidean:1*euclidean:2"), "euclidean:3"),
        (("sphere:2*circle", "circle*sphere:2"), "circle*sphere:2"),
        (("euclidean:1*circle", "circle*euclidean:1"), "circle*euclidean:1"),
    ],
)
def test_specifications_of_one_class_have_one_name_that_is_read_back(specs, name):
    found = {manifolds.class_name(manifolds.parse(spec)) for spec in specs}
    assert found == {name}
    forms = [manifolds.normal_form(manifolds.parse(spec)) for spec in (*specs, name)]
    assert all(form == forms[0] for form in forms)
    assert manifolds.normal_form(forms[0]) == forms[0]
    betti = [manifolds.parse(spec).betti_numbers() for spec in specs]
    assert all(b == betti[0] for b in betti)


def test_other_spaces_keep_to_themselves():
    specs = ("circle", "torus:2", "sphere:2", "sphere:3", "projective:2", "so3", "klein-bottle")
    assert len({manifolds.class_name(manifolds.parse(spec)) for spec in specs}) == len(specs)


def test_duplicates_are_one_candidate_and_baselines_join():
    found = candidates_of(("circle", "projective:1", "so3", "projective:3", "euclidean:2"))
    asked = {name: specs for name, (_, specs) in found.items()}
    assert asked == {
        "circle": ("circle", "projective:1"),
        "so3": ("so3", "projective:3"),
        "euclidean:2": ("euclidean:2",),
        "euclidean:1": (),
        "euclidean:3": (),
        "euclidean:4": (),
    }


# ---- the model without a latent ---------------------------------------------------------------


def test_without_a_latent_counts_have_the_means_of_their_features():
    x = torch.poisson(torch.tensor([[0.5, 3.0, 9.0]]).expand(500, 3))
    model = LatentFree(likelihoods.Poisson(3)).fit(x)
    rate = x.double().mean(0)
    torch.testing.assert_close(model.likelihood.mean(model.output), rate, rtol=1e-3, atol=1e-3)
    expected = (x * rate.log() - rate - torch.lgamma(x.double() + 1)).sum(1)
    torch.testing.assert_close(model.log_prob(x).mean(), expected.mean(), rtol=1e-6, atol=1e-4)


def test_without_a_latent_numbers_have_the_gaussian_of_their_features():
    x = torch.randn(500, 4) * torch.tensor([0.5, 1.0, 2.0, 1.0]) + 1
    model = LatentFree(likelihoods.LearnedGaussian((2, 2))).fit(x.view(-1, 2, 2))
    law = torch.distributions.Normal(x.double().mean(0), x.double().std(0, correction=0))
    expected = law.log_prob(x.double()).sum(1).mean()
    found = model.log_prob(x.view(-1, 2, 2)).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_a_feature_that_never_fires_has_a_finite_likelihood():
    x = torch.poisson(torch.tensor([[0.0, 2.0]]).expand(100, 2))
    assert torch.isfinite(LatentFree(likelihoods.Poisson(2)).fit(x).log_prob(x + 1)).all()


# ---- divergence by factor ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["circle*circle", "sphere:2", "euclidean:3", "sphere:2*euclidean:2", "so3*circle"]
)
def test_divergences_by_factor_add_up(spec):
    M = manifolds.parse(spec)
    prior = M.default_prior()
    loc = prior.sample((5,)).double()
    time = 0.1 + torch.rand(5, *M.time_shape, dtype=torch.float64)
    q = HeatKernel(M, M.projx(loc), time)
    parts = kl_by_factor(q, prior)
    assert parts.shape == (5, max(1, sum(M.time_shape)))
    torch.testing.assert_close(parts.sum(-1), torch.distributions.kl_divergence(q, prior))
    assert (parts > -1e-9).all()


def test_the_part_of_a_factor_is_that_of_its_own_law():
    M = manifolds.parse("sphere:2*circle")
    x = M.random_uniform(3, dtype=torch.float64)
    time = torch.tensor([0.2, 0.7], dtype=torch.float64).expand(3, 2)
    parts = kl_by_factor(HeatKernel(M, x, time), M.default_prior())
    S2 = M.factors[0]
    own = HeatKernel(S2, M.split(x)[0], time[:, 0])
    expected = torch.distributions.kl_divergence(own, RiemannianUniform(S2))
    torch.testing.assert_close(parts[:, 0], expected)


# ---- the start --------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["circle", "so3", "projective:2", "euclidean:2", "torus:2"])
def test_a_start_from_the_data_makes_locations_of_mean_zero_and_unit_covariance(spec):
    M = manifolds.parse(spec)
    x = torch.rand(300, 20)
    model = DeltaVAE(M, MLP(20, (32,)), MLP(M.embedding_size, (8,)))
    before = model.head.linear.weight[M.feature_size :].clone()
    spread_locations(model, lambda: model.posterior(x), generator=torch.Generator().manual_seed(1))
    f = model.head.linear(model.encoder(x))[:, : M.feature_size].double()
    torch.testing.assert_close(f.mean(0), torch.zeros_like(f[0]), atol=1e-4, rtol=0)
    eye = torch.eye(M.feature_size, dtype=torch.float64)
    torch.testing.assert_close(f.T @ f / 300, eye, atol=2e-3, rtol=0)
    assert torch.equal(model.head.linear.weight[M.feature_size :], before)


def test_fewer_features_than_coordinates_leave_the_rest_at_zero():
    M = manifolds.SO3()
    model = DeltaVAE(M, MLP(2, (3,)), MLP(9, (8,)))
    spread_locations(model, lambda: model.posterior(torch.rand(50, 2)))
    assert torch.isfinite(model.head.linear.weight).all()


def test_untrained_encoders_of_a_ring_wind_once_as_a_rule_where_random_ones_do_not():
    angles = torch.arange(200) * (2 * torch.pi / 200)
    recording = data.simulate("ring", 400)
    points = manifolds.FlatTorus(1).from_angles(angles[:, None])
    path = recording.tuning(points)

    def windings(start, seed):
        torch.manual_seed(seed)
        model = DeltaVAE(
            manifolds.FlatTorus(1), MLP(30, (64, 64)), MLP(2, (8,)),
            likelihood=likelihoods.Poisson(30),
        )  # fmt: skip
        if start:
            spread_locations(model, lambda: model.posterior(recording.x))
        with torch.no_grad():
            found = manifolds.FlatTorus(1).to_angles(model.posterior(path).loc)[:, 0]
        turn = found.roll(-1) - found
        return round(torch.atan2(turn.sin(), turn.cos()).sum().item() / (2 * torch.pi))

    spread, random = (
        sum(abs(windings(start, seed)) == 1 for seed in range(10)) for start in (True, False)
    )
    assert spread >= 8 and random <= 4


def test_runs_begin_where_their_configuration_says():
    config = VAE(
        manifold="circle", data="ring.npy", likelihood="poisson", epochs=1, encoder_hidden=(16,),
        decoder_hidden=(8,), lr=1e-9, device="cpu", start="spread", num_samples=2,
    )  # fmt: skip
    dataset = ring()
    trained = run.train(config, dataset=dataset)
    x = trained.scaled(dataset.train)
    model = trained.model
    with torch.no_grad():
        f = model.head.linear(model.encoder(model.likelihood.encoder_input(x)))[:, :2]
    torch.testing.assert_close(f.mean(0), torch.zeros(2), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="start = 'spread'"):
        VAE(manifold="torus:2", data="torus", network="circular", start="spread")


# ---- the whole --------------------------------------------------------------------------------


def test_shuffled_data_keep_every_feature_and_lose_what_binds_them():
    dataset = ring(n=2000)
    mixed = shuffled(dataset, 0)
    for part in ("train", "test"):
        a, b = getattr(dataset, part), getattr(mixed, part)
        assert torch.equal(a.sort(0).values, b.sort(0).values)
        assert not torch.equal(a, b)
    before = torch.corrcoef(dataset.train.T).fill_diagonal_(0).abs().max()
    after = torch.corrcoef(mixed.train.T).fill_diagonal_(0).abs().max()
    assert before > 0.4 and after < 0.12
    assert torch.equal(mixed.train, shuffled(dataset, 0).train)


def test_shuffled_data_keep_their_gaps():
    dataset = ring()
    holes = torch.rand(dataset.train.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    train = dataset.train.masked_fill(holes, torch.nan)
    mixed = shuffled(dataclasses.replace(dataset, train=train, missing="mask"), 0).train
    assert torch.equal(mixed.isnan(), holes)
    for before, after in zip(train.T, mixed.T, strict=True):
        there = ~before.isnan()
        assert torch.equal(before[there].sort().values, after[there].sort().values)
    assert not torch.equal(mixed[~holes], train[~holes])


def moved(n=400, cells=6, seed=0):
    """Counts that a covariate moves, up and down again, and nothing else; and their log-rates."""
    generator = torch.Generator().manual_seed(seed)
    speed = 2 * torch.rand(n, 1, generator=generator) - 1
    slopes = torch.randn(cells, generator=generator)
    log_rate = 1 + slopes * torch.cos(torch.pi * speed)
    return torch.poisson(log_rate.exp(), generator=generator), speed, log_rate


def parted(x, speed, trained=300):
    rows = torch.arange(len(x))
    known = {
        part: {} if speed is None else {"covariates": speed[own]}
        for part, own in (("train", slice(trained)), ("test", slice(trained, None)))
    }
    return data.Dataset(
        name="moved", train=x[:trained], test=x[trained:], train_rows=rows[:trained],
        test_rows=rows[trained:], train_given=known["train"], test_given=known["test"],
    )  # fmt: skip


def floor_of(dataset, **changes):
    config = quick(steps=240, encoder_hidden=(24,), decoder_hidden=(24,), **changes)
    return Judge(config, dataset, None).floor()


def test_the_floor_decodes_covariates():
    """By the law that the counts were drawn from: nearly as likely, where the covariate is seen."""
    x, speed, log_rate = moved()
    truth = likelihoods.Poisson(6).log_prob(log_rate, x)[300:].double()
    alike, known = floor_of(parted(x, None)), floor_of(parted(x, speed))
    assert alike.mean() < truth.mean() - 1
    assert known.mean() == pytest.approx(truth.mean().item(), abs=0.15)
    # What covariates tell nothing of is no likelier with them.
    idle = parted(x, torch.randn(speed.shape, generator=torch.Generator().manual_seed(1)))
    assert floor_of(idle).mean() == pytest.approx(alike.mean().item(), abs=0.1)


def test_the_floor_takes_covariates_with_exposures_and_gaps():
    x, speed, log_rate = moved()
    exposure = torch.logspace(-0.5, 0.5, 400)[torch.randperm(400)]
    x = torch.poisson(log_rate.exp() * exposure[:, None])
    truth = likelihoods.Poisson(6).log_prob(log_rate, x, exposure)[300:].mean().item()
    dataset = parted(x, speed)
    given = {
        "train_given": {**dataset.train_given, "exposure": exposure[:300]},
        "test_given": {**dataset.test_given, "exposure": exposure[300:]},
    }
    dataset = dataclasses.replace(dataset, **given)
    assert floor_of(dataset).mean() == pytest.approx(truth, abs=0.2)
    holes = torch.rand(dataset.train.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    gaps = dataclasses.replace(
        dataset, train=dataset.train.masked_fill(holes, torch.nan), missing="mask"
    )
    assert floor_of(gaps, missing="mask").mean() == pytest.approx(truth, abs=0.25)


def test_what_covariates_explain_is_no_structure():
    x, speed, _ = moved()
    config = quick(
        steps=120, manifolds=("euclidean:1",), encoder_hidden=(24,), decoder_hidden=(24,)
    )
    blind = run.select(config, dataset=parted(x, None))
    assert blind.structure["gain"] > 3
    seen = run.select(config, dataset=parted(x, speed))
    assert (seen.answer, seen.names) == ("none", ())
    assert seen.structure["gain"] < 0.3


@pytest.mark.slow
def test_a_ring_is_found_behind_what_covariates_explain():
    generator = torch.Generator().manual_seed(0)
    speed = torch.randn(2000, 1, generator=generator)
    angle = 2 * torch.pi * torch.rand(2000, 1, generator=generator)
    log_rate = 1.2 * torch.cos(angle - 2 * torch.pi * torch.arange(20) / 20) + 0.5 * speed
    dataset = parted(torch.poisson(log_rate.exp(), generator=generator), speed, trained=1500)
    config = Select(
        data="ring.npy", likelihood="poisson", manifolds=("circle", "sphere:2"), device="cpu",
        landmarks=0,
    )  # fmt: skip
    assert run.select(config, dataset=dataset).names == ("circle",)


def test_a_selection_keeps_what_it_did_and_goes_on(tmp_path, monkeypatch):
    dataset, config = ring(), quick(restarts=2)
    found = run.select(config, tmp_path, dataset=dataset)
    record = json.loads((tmp_path / "selection.json").read_text())
    assert record["answer"] == found.answer and record["rows"] == {"train": 150, "test": 50}
    assert {row["name"] for row in record["candidates"]} == {
        "circle", "euclidean:1", "euclidean:2",
    }  # fmt: skip
    assert (tmp_path / "figures" / "selection.png").exists()
    best = found.rows[0]["name"].replace(":", "")
    assert (tmp_path / "shuffled" / best / "judged.json").exists()
    loaded = run.load(tmp_path / "candidates" / "circle")
    assert loaded.encode(dataset.test)["angles"].shape == (50, 1)
    with pytest.raises(ValueError, match="holds a run already"):
        run.select(config, tmp_path, dataset=dataset)
    with pytest.raises(ValueError, match="cannot resume"):
        run.select(config.replace(steps=7), tmp_path, dataset=dataset, resume=True)
    # One candidate is missing: it alone is trained.
    (tmp_path / "candidates" / "euclidean2" / "judged.json").unlink()
    trained = []
    train = run.delta_vae.train
    monkeypatch.setattr(
        run.delta_vae, "train", lambda *a, **k: trained.append(a[0].manifold) or train(*a, **k)
    )
    again = run.select(config, tmp_path, dataset=dataset, resume=True)
    assert trained == ["euclidean:2"]
    assert again.record() == found.record()
    fewer = dataclasses.replace(
        dataset, test=dataset.test[:40], test_rows=dataset.test_rows[:40], test_labels=None
    )
    with pytest.raises(ValueError, match="judged on other rows"):
        run.select(config, tmp_path, dataset=fewer, resume=True)


def test_counts_under_a_gaussian_are_called_counts(tmp_path):
    found = run.select(quick(likelihood="gaussian-learned"), dataset=ring())
    assert any("as counts are" in remark for remark in found.remarks)


@pytest.mark.slow
def test_overdispersed_counts_are_called_so():
    config = quick(steps=120, encoder_hidden=(64,), decoder_hidden=(64,))
    assert not any("times as" in line for line in run.select(config, dataset=ring(n=800)).remarks)
    found = run.select(config, dataset=ring(n=800, dispersion=0.6))
    assert any("--likelihood negative-binomial" in remark for remark in found.remarks)


def test_noise_is_none_of_these():
    recording = data.simulate("noise", 200, cells=12)
    dataset = data.from_array(recording.x, name="noise", test_fraction=0.25)
    found = run.select(quick(), dataset=dataset)
    assert (found.answer, found.names) == ("none", ())


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("ring", "circle"), ("sheet", "euclidean:2")])
def test_the_truth_is_found(kind, name):
    recording = data.simulate(kind, 2000, seed=100)
    dataset = data.from_array(recording.x, name=kind, test_fraction=0.25)
    asked = ("circle", "torus:2", "sphere:2", "euclidean:1", "euclidean:2")
    config = Select(data=f"{kind}.npy", likelihood="poisson", manifolds=asked, device="cpu")
    found = run.select(config, dataset=dataset)
    assert name in found.names


def test_homology_stands_beside_where_ripser_is_there(monkeypatch):
    from manifold_ae.metrics import persistence

    config = quick(landmarks=20)
    pytest.importorskip("ripser")
    found = run.select(config, dataset=ring())
    row = next(row for row in found.rows if row["name"] == "circle")
    assert row["expected"] == [1, 1] and len(row["betti"]) == 2
    assert not any("ripser" in remark for remark in found.remarks)

    def missing():
        raise ModuleNotFoundError("ripser")

    monkeypatch.setattr(persistence, "_ripser", missing)
    found = run.select(config, dataset=ring())
    assert all(row["betti"] is None for row in found.rows)
    assert "ripser" in found.remarks[-1]


def test_a_product_with_a_nuisance_is_a_candidate():
    found = run.select(quick(manifolds=("circle*euclidean:1",), steps=2), dataset=ring(n=80))
    row = next(row for row in found.rows if row["name"] == "circle*euclidean:1")
    assert list(row["kl"]) == ["circle", "direction 1"] and row["coverage"] is None


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["klein-bottle", "embedded-torus", "sphere:2*circle", "spheroid"])
def test_other_manifolds_are_candidates(spec):
    found = run.select(quick(manifolds=(spec,), steps=2), dataset=ring(n=80))
    row = next(row for row in found.rows if row["dim"] == manifolds.parse(spec).dim)
    assert row["coverage"] is None or 0 < row["coverage"] <= 1


def test_what_is_known_beside_the_values_goes_to_every_candidate():
    """Exposures that differ a hundredfold are no structure, where they are given."""
    rate = torch.rand(12, generator=torch.Generator().manual_seed(0)) + 0.5
    exposure = torch.logspace(-1, 1, 240)[torch.randperm(240)]
    x = torch.poisson(rate * exposure[:, None])
    rows = torch.arange(240)
    known = {"exposure": exposure}
    dataset = data.Dataset(
        name="bins", train=x[:180], test=x[180:], train_rows=rows[:180], test_rows=rows[180:],
        train_given={name: value[:180] for name, value in known.items()},
        test_given={name: value[180:] for name, value in known.items()},
    )  # fmt: skip
    assert run.select(quick(), dataset=dataset).answer == "none"
    blind = data.Dataset(
        name="bins", train=x[:180], test=x[180:], train_rows=rows[:180], test_rows=rows[180:]
    )  # fmt: skip
    seen = run.select(quick(steps=60, manifolds=("euclidean:1",)), dataset=blind)
    assert seen.structure["gain"] > 1


def test_values_that_are_missing_are_left_out():
    dataset = ring()
    holes = torch.rand(dataset.train.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    train = dataset.train.masked_fill(holes, torch.nan)
    dataset = dataclasses.replace(dataset, train=train, missing="mask")
    found = run.select(quick(missing="mask"), dataset=dataset)
    assert all(math.isfinite(row["log_likelihood"]) for row in found.rows)


def test_data_that_are_drawn_afresh_take_as_many_steps(monkeypatch):
    dataset = ring()

    def draw(n, generator=None, device=None):
        rows = torch.randint(len(dataset.train), (n,), generator=generator)
        return dataset.train[rows], rows

    taken = []
    train = run.delta_vae.train

    def noted(config, *given, **options):
        taken.append(config.epochs * config.steps_per_epoch)
        return train(config, *given, **options)

    monkeypatch.setattr(run.delta_vae, "train", noted)
    run.select(quick(steps=4), dataset=dataclasses.replace(dataset, draw=draw))
    assert taken == [4] * 4


def test_the_picture_names_every_candidate_and_marks_what_remains():
    row = {"dim": 1, "behind": 0.0, "behind_se": 0.0, "coverage": 0.9, "kl": {"circle": 2.0}}
    rows = [
        row | {"name": "circle", "asked": True, "remains": True, "betti": [1, None]},
        row | {"name": "euclidean:2", "asked": False, "remains": False, "betti": None}
        | {"behind": 1.5, "behind_se": 0.2, "coverage": None},
    ]  # fmt: skip
    figure = plots.selection(rows, {"gain": 3.0, "null_gain": 0.0, "se": 0.1}, title="ring")
    axes = figure.axes[0]
    first, second = axes.get_yticklabels()
    assert (first.get_text(), second.get_text()) == ("circle", "euclidean:2 (baseline)")
    assert first.get_fontweight() == "bold" and second.get_fontweight() == "normal"
    low, high = axes.get_xlim()
    assert low < -1.7 and high > 0
    shown = [text.get_text() for text in figure.texts]
    assert "90%" in shown and "(1, ?)" in shown
    with pytest.raises(ValueError, match="rows is empty"):
        plots.selection([], {})


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="held-out rows"):
        run.select(quick(), dataset=ring(n=36))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"manifolds": ()}, "manifolds is empty"),
        ({"manifolds": ("cirle",)}, "did you mean 'circle'"),
        ({"trial": 0.0}, "trial = 0.0"),
        ({"blocks": 1}, "blocks = 1"),
        ({"landmarks": 1}, "landmarks = 1"),
        ({"steps": 0}, "steps = 0"),
        ({"restarts": 0}, "restarts = 0"),
        ({"test_fraction": 1.0}, "test_fraction = 1.0"),
    ],
)
def test_what_is_wrong_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        run.select(quick(**given), dataset=ring())


def test_the_next_step_is_a_command_that_can_be_run(tmp_path):
    def chosen(name, answer="one"):
        return Selection(answer, (name,), "", (), {})

    config = quick(data="my data.npy", covariates="c.npy")
    said = next_step(chosen("torus:2"), tmp_path / "a b", config)
    words = shlex.split(said.removeprefix("its coordinates: "))
    assert words[:3] == ["manifold-ae", "encode", str(tmp_path / "a b" / "candidates" / "torus2")]
    assert words[3:] == [
        "--data", "my data.npy", "-o", "latents.csv", "--covariates", "c.npy", "--refined",
    ]  # fmt: skip
    assert "--refined" not in next_step(chosen("embedded-torus"), tmp_path, config)
    assert next_step(chosen("torus:2", "undecided"), tmp_path, config) == ""


def test_the_command(tmp_path):
    import numpy as np

    np.save(tmp_path / "ring.npy", data.simulate("ring", 200, cells=12).x.numpy())
    runner = CliRunner()
    arguments = ["select", "--data", str(tmp_path / "ring.npy"), "--likelihood", "poisson"]
    arguments += ["--manifolds", "circle, projective:1", "--out", str(tmp_path / "out"), "--quiet"]
    for name, value in QUICK.items():
        if name != "manifolds":
            value = list(value) if isinstance(value, tuple) else value
            arguments += ["--set", f"{name}={value}"]
    result = runner.invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in ("circle", "euclidean:2 (baseline)", "behind"))
    assert "circle and projective:1 are one space" in result.output
    again = runner.invoke(main, ["select", "--out", str(tmp_path / "out"), "--resume", "--quiet"])
    assert again.exit_code == 0, again.output
    assert again.output == result.output
    for wrong, message in (
        (["select"], "Missing option '--data'"),
        (["select", "--data", "nowhere.npy"], "nowhere.npy does not exist"),
        (["select", "--resume"], "--resume needs --out"),
    ):
        failed = runner.invoke(main, wrong)
        assert failed.exit_code != 0 and message in failed.output, failed.output
