"""The ΔVAE by scikit-learn's conventions: its own checks, then what they do not look at."""

import pickle

import numpy as np
import pytest
import torch
from catalogue import MANIFOLDS, points
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from manifold_ae import data, manifolds, run
from manifold_ae.estimators import DeltaVAE
from manifold_ae.experiments import VAE
from manifold_ae.models import likelihoods

TINY = {
    "encoder_hidden": (4,),
    "decoder_hidden": (4,),
    "epochs": 2,
    "batch_size": 16,
    "num_samples": 2,
    "random_state": 0,
}
#: Checks that do not apply, and why.
_TOGETHER = "score_samples is an estimate, whose samples are drawn for all rows together"
NOT_OURS = {
    "check_methods_sample_order_invariance": _TOGETHER,
    "check_methods_subset_invariance": _TOGETHER,
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [DeltaVAE(**TINY)],
    expected_failed_checks=lambda estimator: NOT_OURS,
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def ring(n: int = 400, cells: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Spike counts of cells tuned to an angle, and the angle."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(-np.pi, np.pi, n)
    preferred = np.linspace(-np.pi, np.pi, cells, endpoint=False)
    rates = 0.2 + 6 * np.exp(2 * (np.cos(angles[:, None] - preferred) - 1))
    return rng.poisson(rates), angles


def small(**parameters):
    return DeltaVAE(**{**TINY, **parameters})


# ---- what is learned ----------------------------------------------------------------------------


def test_the_angle_of_a_ring_is_found_and_its_radius_says_how_well():
    counts, angles = ring()
    vae = DeltaVAE(
        "circle",
        "poisson",
        output="angles",
        encoder_hidden=(64, 64),
        decoder_hidden=(64,),
        epochs=40,
        batch_size=64,
        lr=3e-3,
        random_state=0,
    )
    found, radius = vae.fit(counts).transform(counts, return_uncertainty=True)
    # Up to a shift and the direction of the angle, which mean nothing.
    gaps = np.exp(1j * (found[:, 0] - np.array([[1], [-1]]) * angles))
    middle = gaps.mean(1, keepdims=True)
    errors = np.angle(gaps / middle)[np.abs(middle).argmax()]
    rms = np.sqrt((errors**2).mean())
    assert rms < 0.25
    assert 0.5 < rms / np.sqrt((radius**2).mean()) < 2
    assert vae.inverse_transform(found).min() >= 0


def test_a_search_over_manifolds_keeps_the_one_that_predicts_held_out_rows_best():
    counts, _ = ring(160)
    names = ["circle", "euclidean:1"]
    one = small(likelihood="poisson", epochs=10, lr=1e-2, encoder_hidden=(32,))
    search = GridSearchCV(one, {"manifold": names}, cv=2).fit(counts)
    scores = dict(zip(names, search.cv_results_["mean_test_score"], strict=True))
    assert search.best_params_["manifold"] == max(names, key=scores.__getitem__)
    # By the other route: a fold by hand.
    alone = clone(one).fit(counts[80:]).score(counts[:80])
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(alone)
    assert search.transform(counts).shape == (160, 2)


def test_what_comes_before_it_in_a_pipeline_is_undone_after_it():
    x = ring(60)[0] + 0.5
    pipe = make_pipeline(StandardScaler(), small()).fit(x)
    assert pipe.inverse_transform(pipe.transform(x)).shape == x.shape
    assert np.isfinite(pipe.score(x))
    rooted = make_pipeline(FunctionTransformer(np.sqrt), small(output="angles")).fit(x)
    assert rooted.transform(x).shape == (60, 1)


# ---- units --------------------------------------------------------------------------------------


def test_score_is_of_the_data_in_their_own_unit(generator):
    """A density of 8x is 8^features times as low; and by the model's own, on scaled data."""
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64).numpy()
    one, other = small().fit(x), small().fit(8 * x)
    assert other.score(8 * x) == pytest.approx(one.score(x) - 3 * np.log(8), abs=1e-4)
    scaled = one.run_.scaled(torch.from_numpy(x))
    spread = x.std(0)
    assert torch.allclose(scaled.double(), torch.from_numpy((x - x.mean(0)) / spread), atol=1e-5)
    inside = one.score_samples(x) + np.log(spread).sum()
    again = one.run_.model.log_likelihood(
        scaled, 2, generator=data.seeding.generator_for("score", 0)
    )
    assert inside == pytest.approx(again.numpy(), abs=1e-4)


@pytest.mark.parametrize(("likelihood", "high"), [("poisson", 9), ("bernoulli", 2)])
def test_score_of_what_is_counted_is_a_probability(likelihood, high):
    x = np.random.default_rng(0).integers(0, high, (30, 4))
    scores = small(likelihood=likelihood).fit(x).score_samples(x)
    assert scores.shape == (30,)
    assert (scores < 0).all()


def test_booleans_have_the_likelihood_that_suits_them():
    x = np.random.default_rng(0).random((30, 4)) < 0.5
    assert small().fit(x).config_.likelihood == "bernoulli"


# ---- latents ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manifold", "points", "angles", "radius"),
    [
        ("circle", 2, 1, ()),
        ("torus:2", 4, 2, ()),
        ("so3", 9, 3, ()),
        ("euclidean:2", 2, None, (2,)),
        ("circle*sphere:2", 5, 3, (2,)),
        ("circle*euclidean:1", 3, 1, (2,)),
    ],
)
def test_latents_are_rows_and_lead_back(manifold, points, angles, radius):
    x = np.random.default_rng(0).standard_normal((20, 5))
    vae = small(manifold=manifold, epochs=1).fit(x)
    at, uncertain = vae.transform(x, return_uncertainty=True)
    assert at.shape == (20, points) and uncertain.shape == (20, *radius)
    assert (uncertain > 0).all()
    assert list(vae.get_feature_names_out()) == [f"point_{k}" for k in range(points)]
    back = vae.inverse_transform(at)
    assert back.shape == x.shape
    assert vae.inverse_transform(np.float32(3) * at) == pytest.approx(back, abs=1e-4) or (
        not vae.manifold_.compact or "*" in manifold
    )
    if angles is None:
        with pytest.raises(ValueError, match=r"output = 'angles': .* has none; take 'points'"):
            small(manifold=manifold, output="angles").fit(x)
        return
    vae.set_params(output="angles")
    assert vae.transform(x).shape == (20, angles) == (20, len(vae.get_feature_names_out()))
    if vae.manifold_.dim == angles:
        assert vae.inverse_transform(vae.transform(x)) == pytest.approx(back, abs=1e-3)
    else:
        with pytest.raises(ValueError, match=r"factor Euclidean\(1\) has no angles"):
            vae.inverse_transform(vae.transform(x))


@pytest.mark.parametrize("manifold", MANIFOLDS, ids=[M.spec for M in MANIFOLDS])
def test_points_come_back_from_their_angles(manifold, generator):
    x = points(manifold, 20, generator=generator, dtype=torch.float64)
    every = getattr(manifold, "factors", (manifold,))
    if not all(factor.angle_names for factor in every):
        with pytest.raises(ValueError, match="has no angles"):
            manifold.from_angles(torch.zeros(20, manifold.dim))
        return
    angles = manifold.to_angles(x)
    assert angles.shape == (20, len(manifold.angle_names))
    assert torch.allclose(manifold.nearest(x, manifold.from_angles(angles)), x, atol=1e-9)
    assert manifold.from_angles(angles.float()).dtype == torch.float32


def test_a_manifold_may_be_given_itself_if_it_has_a_name():
    x = np.random.default_rng(0).standard_normal((20, 3))
    by_value = small(manifold=manifolds.FlatTorus(2))
    by_name = small(manifold="torus:2")
    assert clone(by_value).manifold == manifolds.FlatTorus(2)
    assert np.array_equal(by_value.fit_transform(x), by_name.fit_transform(x))
    for wrong in (
        manifolds.EmbeddedTorus(2.0, 0.5),
        manifolds.Submanifold((3,), manifolds.Sphere(2).projx),
    ):
        with pytest.raises(ValueError, match="has no name that"):
            small(manifold=wrong).fit(x)
    with pytest.raises(ValueError, match="manifold = 3: expected a name"):
        small(manifold=3).fit(x)


# ---- the same again -----------------------------------------------------------------------------


def test_one_random_state_one_result_and_the_global_ones_stay_where_they_were():
    x = np.random.default_rng(0).standard_normal((40, 3))
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = small().fit(x)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    again = small().fit(x)
    assert np.array_equal(first.transform(x), again.transform(x))
    assert np.array_equal(first.score_samples(x), again.score_samples(x))
    assert first.config_.seed == 0
    drawn = [small(random_state=np.random.RandomState(s)).fit(x).config_.seed for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_pickle_holds_weights_and_no_data():
    rng = np.random.default_rng(0)
    vae = small(manifold="torus:2").fit(rng.standard_normal((2000, 3)))
    x = rng.standard_normal((20, 3))
    kept = pickle.dumps(vae)
    assert len(kept) < 2000 * 3 * 4
    assert b"torch.nn.modules" not in kept
    again = pickle.loads(kept)
    assert np.array_equal(again.transform(x), vae.transform(x))
    assert np.array_equal(again.score_samples(x), vae.score_samples(x))
    assert again.run_.history == vae.run_.history
    assert again.get_params() == vae.get_params()
    unfitted = pickle.loads(pickle.dumps(small()))
    assert unfitted.get_params() == small().get_params()


def test_a_folder_keeps_it_without_a_pickle(tmp_path):
    x = np.random.default_rng(0).standard_normal((40, 3))
    vae = small(manifold="torus:2", settings={"initial_time": 0.05}).fit(x, folder=tmp_path / "a")
    again = DeltaVAE.from_run(tmp_path / "a", output="angles")
    assert np.array_equal(again.set_params(output="points").transform(x), vae.transform(x))
    ours, theirs = again.get_params(), vae.get_params()
    assert ours["settings"]["initial_time"] == 0.05
    # What was left to the data is said.
    resolved = {"likelihood", "scaling", "posterior", "settings"}
    assert {k: v for k, v in ours.items() if k not in resolved} == {
        k: list(v) if isinstance(v, tuple) else v for k, v in theirs.items() if k not in resolved
    }
    # A clone of it, fitted to the same rows, is the same once more.
    assert np.array_equal(clone(again).fit(x).transform(x), vae.transform(x))


def test_a_run_of_the_command_line_becomes_an_estimator(tmp_path):
    counts = ring(50)[0]
    np.save(tmp_path / "counts.npy", counts)
    trained = run.train(
        VAE(
            manifold="circle", data=str(tmp_path / "counts.npy"), likelihood="poisson", epochs=1,
            encoder_hidden=(4,), decoder_hidden=(4,), split="blocks",
        )
    )  # fmt: skip
    vae = DeltaVAE.from_run(trained, output="angles")
    assert trained.dataset is not None
    assert np.array_equal(vae.transform(counts), trained.encode(counts)["angles"])
    assert vae.n_features_in_ == 12
    with pytest.raises(ValueError, match="12 features"):
        vae.transform(counts[:, :3])
    pictures = run.train(
        VAE(epochs=1, encoder_hidden=(4,), decoder_hidden=(4,)),
        dataset=data.from_array(np.random.default_rng(0).random((20, 4, 4))),
    )
    with pytest.raises(ValueError, match=r"observations of shape \(4, 4\)"):
        DeltaVAE.from_run(pictures)


# ---- what is known of rows ----------------------------------------------------------------------


def test_the_models_own_posterior_is_to_be_had_and_the_same_at_each_call():
    x, _ = ring(300)
    vae = small(manifold="circle", likelihood="poisson", output="angles", epochs=15).fit(x)
    found, radius = vae.transform(x[:50], return_uncertainty=True, refined=True)
    again = vae.transform(x[:50], refined=True)
    assert np.array_equal(found, again)
    assert found.shape == (50, 1) and radius.shape == (50,)
    assert not np.array_equal(radius, vae.transform(x[:50], return_uncertainty=True)[1])
    product = small(manifold="torus:1*euclidean:1").fit(x)
    assert product.transform(x[:5], return_uncertainty=True, refined=True)[1].shape == (5, 2)


def test_rows_in_time_may_be_of_several_trials():
    x, _ = ring(80)
    settings = {"sequence": 8}
    kwargs = {"groups": np.repeat(["a", "b"], 40), "times": np.tile(np.arange(40.0), 2)}
    vae = small(manifold="circle", likelihood="poisson", settings=settings).fit(x, **kwargs)
    assert vae.config_.sequence == 8
    assert vae.run_.model.motion is not None
    kwargs["times"][3] = -1.0
    with pytest.raises(ValueError, match="rise from row to row"):
        small(manifold="circle", settings=settings).fit(x, **kwargs)


def test_exposure_and_covariates_are_those_of_their_rows():
    rng = np.random.default_rng(0)
    exposure, speed = rng.uniform(0.5, 2, 60), rng.standard_normal((60, 1))
    counts = rng.poisson(3 * exposure[:, None] * np.exp(0.2 * speed) * np.ones(5))
    known = {"covariates": speed, "exposure": exposure}
    vae = small(likelihood="poisson", epochs=3).fit(counts, **known)
    with pytest.raises(ValueError, match="trained with covariates"):
        vae.transform(counts)
    points = vae.transform(counts, **known)
    assert np.array_equal(points, vae.run_.encode(torch.from_numpy(counts), **known)["points"])
    # Rates are proportional to exposure: twice of it, twice the mean.
    once = vae.inverse_transform(points, **known)
    twice = vae.inverse_transform(points, covariates=speed, exposure=2 * exposure)
    assert twice == pytest.approx(2 * once, rel=1e-4)
    assert np.isfinite(vae.score(counts, **known))
    again = pickle.loads(pickle.dumps(vae))
    assert np.array_equal(again.score_samples(counts, **known), vae.score_samples(counts, **known))


def test_a_feature_that_few_rows_have_is_trained_on(generator):
    """All rows are: no split leaves the only one that has it out."""
    x = torch.randn(40, 12, generator=generator).double().numpy()
    seen = np.eye(40, 12, dtype=bool)
    seen[:, :2] = True
    fitted = small(missing="mask").fit(np.where(seen, x, np.nan))
    assert np.isfinite(fitted.transform(np.where(seen, x, np.nan))).all()
    with pytest.raises(ValueError, match="no value of feature 5"):
        small(missing="mask").fit(np.where(np.arange(12) == 5, np.nan, x))


def test_missing_values_are_left_out_of_the_score(generator):
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64).numpy()
    x[::4, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        small().fit(x)
    one, other = small(missing="mask").fit(x), small(missing="mask").fit(8 * x)
    assert one.transform(x).shape == (40, 2)
    # A change of unit counts for the values that there are.
    change = np.log(8) * (~np.isnan(x)).sum(1)
    assert other.score_samples(8 * x) == pytest.approx(one.score_samples(x) - change, abs=1e-3)
    with pytest.raises(ValueError, match="infinity"):
        one.transform(np.full((2, 3), np.inf))


@pytest.mark.parametrize("name", likelihoods.names())
def test_what_is_counted_has_a_probability_and_no_density(name):
    found = likelihoods.named(name, 3)
    assert not (found.counts and found.density)


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"output": "angle"}, "output = 'angle': expected points or angles"),
        ({"manifold": "circel"}, "did you mean 'circle'"),
        ({"likelihood": "poison"}, "no likelihood 'poison'"),
        ({"likelihood": "poisson"}, "negative"),
        ({"epochs": 0}, "epochs = 0"),
        ({"epochs": "many"}, "epochs = 'many'"),
        ({"kl_warmup": 2.0}, "kl_warmup = 2.0"),
        ({"settings": {"epochs": 3}}, "settings has epochs"),
        ({"settings": {"data": "digits"}}, "settings has data"),
        ({"settings": {"seeds": 3}}, "seeds = 3"),
        ({"settings": {"walk_step": 3}}, "did you mean 'walk_steps'"),
    ],
)
def test_parameters_out_of_range_are_named(parameters, message):
    x = np.random.default_rng(0).standard_normal((20, 3))
    with pytest.raises(ValueError, match=message):
        small(**parameters).fit(x)


def test_latents_that_are_none_are_refused():
    x = np.random.default_rng(0).standard_normal((20, 3))
    vae = small().fit(x)
    with pytest.raises(ValueError, match=r"X has 3 columns: latents of FlatTorus\(1\) as points"):
        vae.inverse_transform(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="NaN"):
        vae.inverse_transform(np.full((4, 2), np.nan))


def test_numbers_of_a_search_may_be_numpys():
    x = np.random.default_rng(0).standard_normal((20, 3))
    given = small(epochs=np.int64(1), lr=np.float64(1e-3), encoder_hidden=[np.int64(4)])
    assert given.fit(x).config_.epochs == 1
    assert given.epochs is given.get_params()["epochs"]


def test_data_frames_pass_their_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ring(30)[0], columns=[f"cell {k}" for k in range(12)])
    vae = small(output="angles").fit(frame)
    assert list(vae.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        vae.transform(frame.rename(columns={"cell 0": "cell 99"}))
    shown = vae.set_output(transform="pandas").transform(frame)
    assert list(shown.columns) == ["angle"]
    assert list(shown.index) == list(frame.index)
