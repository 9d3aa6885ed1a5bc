r"""The diffusion variational autoencoder (ΔVAE).

Encoder x ↦ (z(x), t(x)), posterior q(· | x) = heat kernel at z(x) after time t(x), prior uniform
(or what the manifold has in its place), observation model p(x | z). Trained by the evidence lower
bound

    ELBO(x) = E_{z ∼ q(·|x)} log p(x | z) − KL(q(· | x) ‖ prior).

Covariates c and an exposure e of an observation, where there are some, stand behind the bar of
both: q(z | x, c, e) and p(x | z, c, e). Of an observation of which values are missing (NaN, under a
likelihood with ``masks``), x is what was observed: the ELBO is that of the observed part alone. Of
one of which nothing was observed it is −KL: training makes its posterior the prior as far as the
encoder can; runs refuse such rows.

With ``posterior=HeatKernel``, and with ``PowerSpherical`` and ``WrappedNormal``, samples and KL
belong to one law, and this is a bound. With
``RandomWalk`` the samples come from the projected walk and the KL from the kernel that it
approximates: not quite a bound, though the paper's practice; by how much depends on t (see
``RandomWalk``). ``posterior_law`` is always the exact law, and ``log_likelihood`` draws from a law
whose density is known.

References:
    L. A. Pérez Rey, V. Menkovski, J. W. Portegies, *Diffusion Variational Autoencoders*, 2019,
    §3, https://arxiv.org/abs/1901.08991
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from manifold_ae import heat
from manifold_ae.distributions import (
    HeatKernel,
    ManifoldDistribution,
    RandomWalk,
    WrappedNormal,
)
from manifold_ae.manifolds import Manifold
from manifold_ae.models.conditioning import extended, known
from manifold_ae.models.divergences import DIVERGENCES
from manifold_ae.models.ends import gives_location, out_features, out_shape
from manifold_ae.models.heads import PosteriorHead
from manifold_ae.models.likelihoods import Gaussian, Likelihood
from manifold_ae.models.sequence import BrownianPrior

__all__ = ["DeltaVAE"]


#: Steps by which evaluation samples a heat kernel that has no exact sampler.
LONG_WALK = 100


class DeltaVAE(nn.Module):
    """A variational autoencoder with a manifold as its latent space.

    Arguments:
        manifold: the latent space M.
        encoder: module from observations ``(*, *event_shape)`` to features ``(*, f)``; f is its
            ``out_features``, or that of its last layer that has one. One with
            ``location_features`` gives the latent's place in its first features, as many as
            ``manifold.feature_size``. What it sees has the shape ``models.encoder_shape``, which is
            ``event_shape`` unless the likelihood, covariates or an exposure add to it.
        decoder: module from embedded latents ``(*, manifold.embedding_size)``, and the covariates
            behind them, to features ``(*, g)``; g likewise. On a quotient it is invariant under the
            group: by an embedding of the quotient where one is known, else because its features are
            averaged over it.
        prior: law on M; ``M.default_prior()`` if none is given.
        posterior: maps ``(M, loc, time, validate_args=False)`` to a law on M: ``HeatKernel``,
            ``PowerSpherical``, ``WrappedNormal``, ``RandomWalk`` or a partial of it.
        likelihood: the observation model; Gaussian of unit variance on the encoder's
            ``event_shape`` if none is given.
        divergence: the KL term of the loss: ``"exact"``; ``"sampled"``, log q(z|x) − log p(z) at
            the posterior's sample, unbiased, where there is a density but no exact KL, or none
            that is quick (``heat.is_quick``; quotients of one's own); ``"short-time"``,
            ``heat.kl_asymptotic``, where there is no density: not a bound then where t is past
            ``M.short_time_limit``.
        covariates: how many covariates an observation has; they are passed to each method that
            needs them, ``(n, c)``, best scaled to about 1.
        exposure: whether the encoder sees the logarithm of an exposure, passed likewise ``(n,)``;
            none passed is an exposure of 1. The rates are multiplied by it in any case.
        motion: a prior along time, for recordings whose rows are in the order of time.
        time_bound, time_range, initial_time: see ``PosteriorHead``.

    The model owns the heads for location and time, and the likelihood's output layer. On
    ``Euclidean(d)`` it is the standard Gaussian VAE, with a variance per dimension.

    Example:
        >>> from manifold_ae.manifolds import Sphere
        >>> from manifold_ae.nn import MLP
        >>> vae = DeltaVAE(Sphere(2), MLP(64, (128,) * 3), MLP(3, (128,) * 2))
        >>> sorted(vae.loss(torch.rand(16, 64)))
        ['elbo', 'kl', 'loss', 'mean_log_time', 'mse']
    """

    def __init__(
        self,
        manifold: Manifold,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: ManifoldDistribution | None = None,
        posterior: Callable[..., ManifoldDistribution] = HeatKernel,
        likelihood: Likelihood | None = None,
        *,
        divergence: str = "exact",
        covariates: int = 0,
        exposure: bool = False,
        motion: BrownianPrior | None = None,
        time_bound: str = "soft",
        time_range: tuple[float, float] = (1e-6, 1e1),
        initial_time: float = 0.02,
    ) -> None:
        super().__init__()
        if divergence not in DIVERGENCES:
            raise ValueError(f"divergence = {divergence!r}: expected {', '.join(DIVERGENCES)}")
        self.divergence = divergence
        if likelihood is None:
            shape = getattr(encoder, "event_shape", None)
            if shape is None:
                raise ValueError(
                    f"{type(encoder).__name__} does not tell its event_shape; pass likelihood=, as "
                    "in likelihood=likelihoods.Gaussian(event_shape)"
                )
            likelihood = Gaussian(shape)
        if covariates < 0:
            raise ValueError(f"covariates = {covariates!r}: expected how many there are")
        if exposure and not likelihood.takes_exposure:
            raise ValueError(
                f"exposure = True: likelihood {likelihood.name!r} has no rate that it could "
                "multiply; take 'poisson' or 'negative-binomial'"
            )
        if motion is not None and motion.manifold != manifold:
            raise ValueError(f"motion is on {motion.manifold!r}: expected one on {manifold!r}")
        self.covariates, self.exposure = covariates, exposure
        self.motion = motion
        features = out_features("encoder", encoder)
        self.manifold = manifold
        self.prior = manifold.default_prior() if prior is None else prior
        self.make_posterior = posterior
        self.encoder = encoder
        self.head = PosteriorHead(
            features,
            manifold,
            given=gives_location(encoder, manifold),
            bound=time_bound,
            time_range=time_range,
            initial=initial_time,
        )
        self.decoder = decoder
        self.likelihood = likelihood
        self.output = likelihood.output_layer(out_shape(decoder))

    # ---- the parts --------------------------------------------------------------------------

    def posterior(
        self, x: Tensor, *, covariates: Tensor | None = None, exposure: Tensor | None = None
    ) -> ManifoldDistribution:
        """q(z | x), of batch shape ``(*)``, for x of shape ``(*, *event_shape)``."""
        location, time = self.head(self._features(x, covariates, exposure))
        return self.make_posterior(self.manifold, location, time, validate_args=False)

    def posterior_law(
        self, x: Tensor, *, covariates: Tensor | None = None, exposure: Tensor | None = None
    ) -> ManifoldDistribution:
        """The exact law that ``posterior`` samples or approximates: with density and KL."""
        return self.posterior(x, covariates=covariates, exposure=exposure).limit

    def decode(
        self, z: Tensor, *, covariates: Tensor | None = None, exposure: Tensor | None = None
    ) -> Tensor:
        """E[x | z] of shape ``(*, *event_shape)``, for z of shape ``(*, *ambient_shape)``."""
        return self.likelihood.mean(self._output(z, covariates), exposure)

    def _features(self, x: Tensor, covariates: Tensor | None, exposure: Tensor | None) -> Tensor:
        batch = x.shape[: x.dim() - len(self.likelihood.event_shape)]
        more = known(covariates, self.covariates, batch)
        if self.exposure:
            ones = x.new_ones(batch)
            log = ones.log() if exposure is None else exposure.log().expand(batch)
            more.append(log.unsqueeze(-1))
        seen = self.likelihood.encoder_input(x)
        return self.encoder(extended(seen, self.likelihood.input_shape, more))

    def _output(self, z: Tensor, covariates: Tensor | None = None) -> Tensor:
        single = self.manifold.sheets == 1
        # A quotient without an embedding: what is decoded is invariant because it is a mean.
        latent = self.manifold.embed(z if single else self.manifold.unfold(z))
        latent = extended(
            latent, latent.shape[-1:], known(covariates, self.covariates, latent.shape[:-1])
        )
        features = self.decoder(latent)
        output = self.output(features if single else features.mean(0))
        # What half precision leaves of an output is judged in full.
        return output if output.dtype == z.dtype else output.to(z.dtype)

    # ---- training ---------------------------------------------------------------------------

    def loss(
        self,
        x: Tensor,
        kl_weight: float = 1.0,
        *,
        covariates: Tensor | None = None,
        exposure: Tensor | None = None,
        elapsed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Named terms, averaged over the batch, with one posterior sample an observation.

        With a prior along time, ``elapsed`` ``(n,)`` says how long after the row before each row of
        x was observed, ∞ where it has none; then the divergence is that from the chain.

        Returns:
            ``loss`` = −E log p(x|z) + kl_weight · KL, the only one with a gradient; ``elbo``
            (always with weight one), ``kl`` in nats; ``mse`` per feature; ``mean_log_time``. Of a
            chain the KL is ``kl`` − ``coupling``, and its ``rate`` stands beside them.
        """
        q = self.posterior(x, covariates=covariates, exposure=exposure)
        z = q.rsample()
        log_prob, mse = self.likelihood.batch_terms(self._output(z, covariates), x, exposure)
        kl = DIVERGENCES[self.divergence](q.limit, self.prior, z).mean()
        chain = self._chain(z, elapsed)
        whole = kl - chain.get("coupling", 0.0)
        loss = kl_weight * whole - log_prob
        with torch.no_grad():
            log_time = q.time.log().mean()  # type: ignore[attr-defined]
            return {
                "loss": loss,
                "elbo": log_prob - whole,
                "kl": kl.detach(),
                "mse": mse.detach(),
                "mean_log_time": log_time,
                **{name: term.detach() for name, term in chain.items()},
            }

    def _chain(self, z: Tensor, elapsed: Tensor | None) -> dict[str, Tensor]:
        """Terms of the prior along time, where there is one."""
        if elapsed is None:
            return {}
        coupling = self._coupling(z, elapsed).mean()
        return {"coupling": coupling, "rate": self.motion.rate.mean()}  # type: ignore[union-attr]

    def _coupling(self, z: Tensor, elapsed: Tensor) -> Tensor:
        if self.motion is None:
            raise ValueError("elapsed: this model has no prior along time; give it a motion")
        return self.motion.coupling(z, elapsed, self.prior)

    def conditional_log_prob(
        self,
        x: Tensor,
        z: Tensor,
        *,
        covariates: Tensor | None = None,
        exposure: Tensor | None = None,
    ) -> Tensor:
        """log p(x | z) in nats, for x and z whose batch shapes broadcast, of that shape."""
        return self.likelihood.log_prob(self._output(z, covariates), x, exposure)

    def forward(self, batch: Tensor | Mapping[str, Tensor], **weights: Any) -> dict[str, Tensor]:
        """``loss`` of a batch: observations, or a mapping with ``x`` and what else is known."""
        if isinstance(batch, Tensor):
            return self.loss(batch, **weights)
        return self.loss(**batch, **weights)

    @torch.no_grad()
    def statistics(self, batch: Tensor | Mapping[str, Tensor]) -> dict[str, float]:
        """Figures on the posterior of a batch, for the report on a loss that is not finite."""
        given = {"x": batch} if isinstance(batch, Tensor) else dict(batch)
        x = given.pop("x")
        features = self._features(x, given.get("covariates"), given.get("exposure"))
        location, time = self.head(features)
        return {
            "largest |x|": torch.nan_to_num(x.abs(), nan=0.0, posinf=math.inf).max().item(),
            "largest |feature|": features.abs().max().item(),
            "non-finite locations": float((~torch.isfinite(location)).sum().item()),
            "shortest time": time.min().item(),
            "longest time": time.max().item(),
        }

    # ---- evaluation -------------------------------------------------------------------------

    def _sampler(self, q: Any) -> ManifoldDistribution:
        """The law itself, or a long walk to it where the heat kernel has no exact sampler."""
        if not isinstance(q, HeatKernel) or heat.has_sampler(self.manifold):
            return q
        return RandomWalk(self.manifold, q.loc, q.time, LONG_WALK, validate_args=False)

    def _proposal(self, q: Any) -> tuple[ManifoldDistribution, ManifoldDistribution]:
        """What importance samples are drawn from, and the law whose density they are taken to have.

        Where the heat kernel has none, the wrapped normal of its place and time, in both roles.
        """
        try:
            q.log_prob(q.loc)
        except NotImplementedError:
            wrapped = WrappedNormal(self.manifold, q.loc, q.time, validate_args=False)
            return wrapped, wrapped
        return self._sampler(q), q

    @torch.no_grad()
    def elbo(
        self,
        x: Tensor,
        *,
        covariates: Tensor | None = None,
        exposure: Tensor | None = None,
        elapsed: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """ELBO, KL and squared error per observation, with one posterior sample each.

        The sample is exact; where the heat kernel has no exact sampler (on the embedded torus, on
        spheres beyond d = 10), the end of a walk of 100 steps. The KL is that of the loss. With
        ``elapsed`` ``(n,)``, as in ``loss``, the ELBO is that under the prior along time.
        """
        q = self.posterior_law(x, covariates=covariates, exposure=exposure)
        z = self._sampler(q).sample(generator=generator)
        output = self._output(z, covariates)
        kl = DIVERGENCES[self.divergence](q, self.prior, z)
        coupling = 0.0 if elapsed is None else self._coupling(z, elapsed)
        return {
            "elbo": self.likelihood.log_prob(output, x, exposure) - kl + coupling,
            "kl": kl,
            "mse": self.likelihood.error(output, x, exposure),
            **self.likelihood.checks(output, x, exposure),
            "mean_log_time": _mean_over_event(q.time.log(), kl.dim()),  # type: ignore[attr-defined]
        }

    def log_joint(
        self,
        x: Tensor,
        z: Tensor,
        *,
        covariates: Tensor | None = None,
        exposure: Tensor | None = None,
    ) -> Tensor:
        """log p(x | z) + log p(z), of the broadcast batch shape of x and of latents z."""
        log_p = self.likelihood.log_prob(self._output(z, covariates), x, exposure)
        return log_p + self.prior.log_prob(z)

    @torch.no_grad()
    def log_likelihood(
        self,
        x: Tensor,
        num_samples: int = 100,
        *,
        covariates: Tensor | None = None,
        exposure: Tensor | None = None,
        generator: torch.Generator | None = None,
        max_elements: int = 2**24,
    ) -> Tensor:
        """log p(x) by importance sampling from the posterior's law, of the batch shape of x.

            log 1/L Σ_l p(x | z_l) p(z_l) / q(z_l | x),  z_l ∼ q(· | x)

        A lower bound in expectation, which rises with L = ``num_samples`` (Burda et al., 2016).
        Where the heat kernel has a density and no exact sampler (on the embedded torus), a walk of
        100 steps takes its place, and the bound holds as far as that is close; where it has no
        density (on spheres beyond d = 10), the wrapped normal is drawn from, and the bound holds.
        At most ``max_elements`` features are decoded at once.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        q = self.posterior_law(x, covariates=covariates, exposure=exposure)
        proposal, law = self._proposal(q)
        batch = max(1, math.prod(q.batch_shape))
        chunk = max(1, max_elements // (batch * math.prod(self.likelihood.event_shape)))
        parts = []
        for start in range(0, num_samples, chunk):
            size = min(chunk, num_samples - start)
            z = proposal.sample((size,), generator=generator)
            log_joint = self.log_joint(x, z, covariates=covariates, exposure=exposure)
            parts.append(torch.logsumexp(log_joint - law.log_prob(z), 0))
        return torch.logsumexp(torch.stack(parts), 0) - math.log(num_samples)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        covariates: Tensor | None = None,
        exposure: Tensor | None = None,
        noise: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """n observations from the model, ``(n, *event_shape)``: means of p(x | z), z ∼ prior.

        With ``noise=True``, draws from p(x | z) instead of its mean. Covariates are ``(n, c)``, or
        ``(c,)`` for all; an exposure is ``(n,)``, or ``()`` for all.
        """
        parameter = next(self.parameters())
        kwargs = {"dtype": parameter.dtype, "device": parameter.device}
        prior: Any = self.prior  # torch's own laws do not say in which dtype and where to draw
        z = prior.draw(n, generator=generator, **kwargs)
        output = self._output(z, covariates)
        if noise:
            return self.likelihood.draw(output, exposure, generator=generator)
        return self.likelihood.mean(output, exposure)


def _mean_over_event(x: Tensor, batch_dims: int) -> Tensor:
    return x.flatten(batch_dims).mean(-1) if x.dim() > batch_dims else x
