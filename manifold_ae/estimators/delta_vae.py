"""The ΔVAE by scikit-learn's conventions."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from manifold_ae import data, manifolds, run
from manifold_ae.data.seeding import generator_for
from manifold_ae.estimators.parameters import DATA, named, plain, seed_of, shared
from manifold_ae.experiments import VAE
from manifold_ae.manifolds import Manifold
from manifold_ae.models import likelihoods
from manifold_ae.numerics import in_parts
from manifold_ae.run import VAERun
from manifold_ae.run.delta_vae import load
from manifold_ae.training import Checkpoint

__all__ = ["DeltaVAE"]

#: What latents may be given as.
OUTPUTS = ("points", "angles")
#: Rows whose importance samples are decoded at once.
ROWS = 1024


class DeltaVAE(TransformerMixin, BaseEstimator):
    """Latent coordinates on a manifold, with an uncertainty for each, by a ΔVAE.

    Arguments:
        manifold: the latent space: a name that ``manifolds.parse`` reads, or a manifold that has
            one. ``circle`` is S¹.
        likelihood: what a value is: ``"poisson"`` for counts, ``"gaussian-learned"`` for real
            numbers, ...; ``"auto"`` takes the latter, or Bernoulli for booleans.
        output: ``"points"``, ambient coordinates, which jump nowhere: the thing to compute with; or
            ``"angles"`` in radians, where the manifold has them.
        missing: what NaN is: ``"refuse"``, an error; ``"mask"``, a value that is missing.
        scaling, posterior, encoder_hidden, decoder_hidden, epochs: as in ``experiments.VAE``.
        batch_size, lr, lr_schedule, kl_warmup: likewise.
        restarts, restart_epochs, device: likewise.
        num_samples: importance samples a row, for ``score``.
        settings: further fields of ``experiments.VAE`` by name, as ``{"walk_steps": 20}``.
        random_state: an integer, a ``RandomState``, or None for NumPy's own. With the same one, on
            one CPU, every number comes out the same.
        verbose: whether to show the progress of training.

    Attributes:
        run_: the ``VAERun`` beneath: model, history of training, pictures.
        manifold_: the latent manifold.
        config_: what was trained, every field of it.
        n_features_in_, feature_names_in_: of the data that were fitted.

    All rows that ``fit`` is given are trained on; hold out rows by scikit-learn's own means. A
    single fit can fold the data instead of wrapping it around the manifold. It begins at the
    principal components of the data, turned to lie nearest to the manifold, which guards against
    that, as do ``restarts``.

    A fitted estimator can be pickled, and is read back with the weights that it had; as with all
    pickles, read none that you do not trust. To keep one without pickling, fit into a folder,
    ``fit(X, folder="runs/a")``, and read it back by ``DeltaVAE.from_run("runs/a")``.

    Example:
        >>> rates = 1 + np.cos(np.linspace(0, 6, 40)[:, None] - np.arange(5))
        >>> counts = np.random.default_rng(0).poisson(4 * rates)
        >>> vae = DeltaVAE("circle", "poisson", output="angles", epochs=2, random_state=0)
        >>> vae.fit_transform(counts).shape
        (40, 1)
    """

    __metadata_request__fit = {"folder": UNUSED}  # noqa: RUF012
    __metadata_request__transform = {"return_uncertainty": UNUSED}  # noqa: RUF012

    def __init__(
        self,
        manifold: str | Manifold = "circle",
        likelihood: str = "auto",
        *,
        output: str = "points",
        missing: str = "refuse",
        scaling: str = "auto",
        posterior: str = "auto",
        encoder_hidden: Sequence[int] = (512, 512, 512),
        decoder_hidden: Sequence[int] = (512, 512),
        epochs: int = 100,
        batch_size: int = 128,
        lr: float = 1e-3,
        lr_schedule: str = "constant",
        kl_warmup: float = 0.2,
        restarts: int = 1,
        restart_epochs: int = 5,
        num_samples: int = 100,
        settings: Mapping[str, Any] | None = None,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool | int = False,
    ) -> None:
        self.manifold = manifold
        self.likelihood = likelihood
        self.output = output
        self.missing = missing
        self.scaling = scaling
        self.posterior = posterior
        self.encoder_hidden = encoder_hidden
        self.decoder_hidden = decoder_hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.kl_warmup = kl_warmup
        self.restarts = restarts
        self.restart_epochs = restart_epochs
        self.num_samples = num_samples
        self.settings = settings
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # ---- fitting ----------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        covariates: Any = None,
        exposure: Any = None,
        groups: Any = None,
        times: Any = None,
        folder: Path | str | None = None,
    ) -> Self:
        """Train on all rows of X ``(n, features)``.

        Arguments:
            y: not looked at.
            covariates: ``(n, c)``, what moves the observations and is no latent: a batch, a speed.
                With them, all other methods ask for those of their rows.
            exposure: ``(n,)``, by what rates are multiplied, likewise.
            groups: ``(n,)``, the trial of each row, and
            times: ``(n,)``, its time, where rows follow each other: for
                ``settings={"sequence": W}``, a prior along time, which without them takes all rows
                for one trial, a unit of time apart.
            folder: where to keep the run, if anywhere; see ``from_run``.

        Raises:
            ValueError: if the data do not suit the likelihood, or a parameter is out of its range.
        """
        config = self._configured()
        X = validate_data(self, X, dtype="numeric", ensure_min_samples=2, **self._finite())
        given: data.Beside = {
            "covariates": covariates,
            "exposure": exposure,
            "groups": groups,
            "times": times,
        }
        dataset = data.as_recording(X, name="X", missing=config.missing, **given).training()
        self._take(run.train(config, folder, dataset=dataset, progress=bool(self.verbose)))
        return self

    @classmethod
    def from_run(cls, trained: VAERun | Path | str, **parameters: Any) -> Self:
        """The fitted estimator of a run, or of a run's folder: ``train vae`` makes them too.

        Arguments:
            parameters: of the constructor, where they are not the run's: ``output``, ...

        Raises:
            ValueError: if it is no run of a ΔVAE on rows of features.
        """
        if not isinstance(trained, VAERun):
            trained = run.load(trained)
        if not isinstance(trained, VAERun):
            raise ValueError(
                f"a {type(trained).__name__}: expected the run of one ΔVAE; of several seeds, the "
                "folder of one of them"
            )
        shape = trained.model.likelihood.event_shape
        if len(shape) != 1:
            raise ValueError(
                f"a run on observations of shape {shape}: scikit-learn's rows are (features,); use "
                "the run itself"
            )
        known = trained.config.to_mapping()
        own = {name: known.pop(name) for name in shared(cls._get_param_names())}
        own["random_state"] = known.pop("seed")
        defaults = VAE()
        other = {k: value for k, value in known.items() if value != getattr(defaults, k)}
        # What rows the run was trained on is no matter of an estimator.
        settings = {k: value for k, value in other.items() if k not in DATA}
        made = cls(**{**own, "settings": settings or None, **parameters})
        made.n_features_in_ = shape[0]  # type: ignore[attr-defined]
        made._take(trained)
        return made

    def _configured(self) -> VAE:
        """The parameters as a configuration.

        Raises:
            ValueError: if one is out of its range.
        """
        if self.output not in OUTPUTS:
            raise ValueError(f"output = {self.output!r}: expected {' or '.join(OUTPUTS)}")
        given = dict(self.settings or {})
        clash = sorted(given.keys() & {*self._get_param_names(), "seed", *DATA})
        if clash:
            raise ValueError(
                f"settings has {', '.join(clash)}: parameters of their own, or of the data; give "
                "them there"
            )
        if given.get("seeds", 1) != 1:
            raise ValueError(
                f"settings: seeds = {given['seeds']!r}: an estimator is one model; take restarts, "
                "or fit several"
            )
        values = {name: plain(getattr(self, name)) for name in shared(self._get_param_names())}
        values["manifold"] = named(self.manifold).spec
        values["seed"] = seed_of(self.random_state)
        config = VAE.from_mapping({**values, **given})
        manifold = manifolds.parse(config.manifold)
        if self.output == "angles" and not manifold.angle_names:
            raise ValueError(f"output = 'angles': {manifold!r} has none; take 'points'")
        return config

    def _take(self, trained: VAERun) -> None:
        # The data are not kept: they are the caller's.
        self.run_, self.config_ = replace(trained, dataset=None), trained.config
        self.manifold_ = trained.model.manifold

    # ---- use --------------------------------------------------------------------------------

    def transform(
        self,
        X: Any,
        *,
        covariates: Any = None,
        exposure: Any = None,
        return_uncertainty: bool = False,
        refined: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Where the rows of X ``(n, features)`` lie, and if asked for, how sure that is.

        Arguments:
            covariates: ``(n, c)``, where the rows that were fitted had some; so also ``exposure``.
            refined: by the model's own posterior in place of the encoder's: some milliseconds a
                row, and to be believed where an uncertainty is asked for; see ``VAERun.encode``.

        Returns:
            Points ``(n, k)``, ambient coordinates in one axis (of SO(3) the nine entries of a
            matrix), or angles ``(n, k)`` in radians. With ``return_uncertainty`` also the radius,
            the posterior's standard deviation in every direction: ``(n,)``, in radians on spheres
            and tori; ``(n, d)`` on Euclidean space and, one a factor, on products.
        """
        trained, x = self._fitted(), self._checked(X)
        encoded = trained.encode(x, refined=refined, **_given(covariates, exposure))
        latents = encoded[self.output].reshape(len(encoded["points"]), -1)
        return (latents, encoded["standard_deviation"]) if return_uncertainty else latents

    def inverse_transform(
        self, X: Any, *, covariates: Any = None, exposure: Any = None
    ) -> np.ndarray:
        """Mean observations ``(n, features)``, in the data's unit, at latents ``(n, k)``.

        Latents are as ``transform`` gives them: points, which are projected onto the manifold, or
        angles, where these are all of a point. Without covariates and exposure of their own, these
        are the mean ones of the rows that were trained on.
        """
        trained = self._fitted()
        latents = torch.from_numpy(check_array(X, dtype="float32", input_name="X"))
        expected = self._n_features_out
        if latents.shape[1] != expected:
            raise ValueError(
                f"X has {latents.shape[1]} columns: latents of {self.manifold_!r} as {self.output} "
                f"have {expected}"
            )
        if self.output == "angles":
            z = self.manifold_.from_angles(latents)
        else:
            z = self.manifold_.projx(latents.reshape(-1, *self.manifold_.ambient_shape))
        given = _given(covariates, exposure)
        parts = [trained.decode(part, **own) for part, own in in_parts(ROWS, z, given)]
        return trained.scaling.invert(torch.cat(parts)).numpy()

    def score_samples(self, X: Any, *, covariates: Any = None, exposure: Any = None) -> np.ndarray:
        """log p(x) of every row of X ``(n, features)``, in nats, of shape ``(n,)``.

        A lower bound in expectation, by ``num_samples`` importance samples; the same at each call.
        Of a row with missing values, that of those that there are.
        """
        trained, raw = self._fitted(), self._checked(X)
        x = trained.scaled(raw)
        given = trained.given(len(x), **_given(covariates, exposure))
        generator = generator_for("score", trained.config.seed, device=trained.device)
        parts = [
            trained.model.log_likelihood(part, self.num_samples, generator=generator, **own)
            for part, own in in_parts(ROWS, x, given)
        ]
        return (torch.cat(parts).double().cpu() + self._log_change(raw)).numpy()

    def score(
        self, X: Any, y: Any = None, *, covariates: Any = None, exposure: Any = None
    ) -> float:
        """The mean of ``score_samples``: of held-out rows, what to choose a manifold by."""
        return float(self.score_samples(X, covariates=covariates, exposure=exposure).mean())

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The manifold's names of its angles, or ``point_0``, ``point_1``, ..."""
        check_is_fitted(self, "run_")
        if self.output == "angles":
            return np.array(self.manifold_.angle_names, dtype=object)
        return np.array([f"point_{k}" for k in range(self._n_features_out)], dtype=object)

    @property
    def _n_features_out(self) -> int:
        manifold = self.manifold_
        return (
            len(manifold.angle_names)
            if self.output == "angles"
            else int(np.prod(manifold.ambient_shape))
        )

    def _fitted(self) -> VAERun:
        check_is_fitted(self, "run_")
        if self.output not in OUTPUTS:
            raise ValueError(f"output = {self.output!r}: expected {' or '.join(OUTPUTS)}")
        self.run_.model.eval()
        return self.run_

    def _checked(self, X: Any) -> Tensor:
        """Rows of as many features as were fitted."""
        # A copy: torch takes no array that may not be written to.
        return torch.tensor(validate_data(self, X, dtype="numeric", reset=False, **self._finite()))

    def _finite(self) -> dict[str, Any]:
        """What scikit-learn is to say of NaN: nothing, where it is a missing value."""
        return {"ensure_all_finite": "allow-nan" if self.missing == "mask" else True}

    def _log_change(self, x: Tensor) -> Tensor | float:
        """log |dy/dx| of the scaling x ↦ y, for the density of x; of a probability, nothing."""
        if not self.run_.model.likelihood.density:
            return 0.0
        return -(self.run_.scaling.scale.log() * ~x.isnan()).sum(-1)

    # ---- scikit-learn -----------------------------------------------------------------------

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        known = self.likelihood in likelihoods.names()
        tags.input_tags.allow_nan = self.missing == "mask"
        tags.input_tags.positive_only = known and likelihoods.named(self.likelihood, 1).counts
        tags.transformer_tags.preserves_dtype = ["float32"]  # type: ignore[union-attr]
        tags.non_deterministic = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Parameters and weights: no module is pickled, and no data."""
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        if "run_" in state:
            state["run_"] = _packed(state["run_"].checkpoint())
            del state["config_"], state["manifold_"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state.pop("run_", None)
        super().__setstate__(state)
        if packed is not None:
            self._take(load(None, _unpacked(packed), device=self.device))


def _given(covariates: Any, exposure: Any) -> dict[str, Any]:
    """Those that there are, as tensors that can be cut in rows."""
    both = {"covariates": covariates, "exposure": exposure}
    return {
        name: torch.tensor(np.asarray(value), dtype=torch.float32)
        for name, value in both.items()
        if value is not None
    }


def _packed(checkpoint: Checkpoint) -> bytes:
    file = io.BytesIO()
    torch.save(vars(checkpoint), file)
    return file.getvalue()


def _unpacked(packed: bytes) -> Checkpoint:
    return Checkpoint(**torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True))
