r"""The homomorphism autoencoder (HAE): latents on which actions act linearly.

From transitions (o₁, g₁, o₂, …, g_T, o_{T+1}) it learns an encoder h, a decoder d and a matrix
representation ρ of the actions, such that the latent of the first observation, moved by the
actions, is the latent of every later one. With ẑ_t = ρ(g_{t−1}) ⋯ ρ(g₁) h(o₁), the loss is

    w_rec Σ_{t=1}^{T+1} −log p(o_t | d(ẑ_t)) + w_pred Σ_{t=2}^{T+1} |h(o_t) − ẑ_t|²
        + Σ_k w_k · penalty_k(ρ).                                                        (1)

Reconstruction counts the first observation as well, which the paper leaves out. Keurti et al.
weigh the prediction term (by 400, beside a cross-entropy summed over pixels), Nayak the
reconstruction: here both weights have a name.

With a latent manifold M the encoder gives a law q(z | o₁) on it, ẑ₁ is a sample, and w_rec weighs

    −E_{q(z|o₁)} Σ_t log p(o_t | d(ẑ_t)) + KL(q(· | o₁) ‖ prior),                          (2)

the bound on −log p(o₁, …, o_{T+1} | g₁, …, g_T). On Euclidean(n) that is a Gaussian variational
HAE; on a sphere, a torus or SO(3), a ΔVAE that the group moves. h(o) is then the law's location.

References:
    H. Keurti, H.-R. Pan, M. Besserve, B. Grewe, B. Schölkopf, *Homomorphism Autoencoder: Learning
    Group Structured Representations from Observed Transitions*, ICML 2023, §4,
    https://arxiv.org/abs/2207.12067
    P. K. Nayak, *Constructions for Diffusion that Leverage HAE Guarantees*, §1.3.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from manifold_ae.distributions import HeatKernel, ManifoldDistribution
from manifold_ae.groups import FiniteGroup, Group, LearnedRepresentation
from manifold_ae.manifolds import Manifold
from manifold_ae.models.ends import out_features, out_shape
from manifold_ae.models.heads import PosteriorHead
from manifold_ae.models.inference import infer_action
from manifold_ae.models.keeping import check_keeps, columns_of
from manifold_ae.models.likelihoods import Gaussian, Likelihood
from manifold_ae.models.trace_checks import (
    check_actions,
    check_observations,
    check_takes,
    check_traces,
)
from manifold_ae.models.transitions import ByRepresentation, Still, Transition

__all__ = ["HomomorphismAutoencoder"]

#: Penalties that do not vanish on true representations.
FADING = ("frequency", "sparsity")
#: Those that come in when these have faded. ρ = I is a homomorphism: before, it would hold planes
#: still that have not begun to turn.
RISING = ("homomorphism",)


class HomomorphismAutoencoder(nn.Module):
    """An autoencoder whose latent space carries a representation of the observed actions.

    Arguments:
        encoder: module from observations ``(*, *event_shape)`` to features ``(*, f)``; f is its
            ``out_features``, or that of its last layer that has one. The model owns the linear
            layer from features to latents.
        decoder: module from latents ``(*, size)`` (with a manifold, ``manifold.embedding_size``) to
            features ``(*, g)``, or to maps ``(*, c, h, w)`` of the shape ``out_maps`` that it then
            has; the likelihood owns the layer from there to observations.
        representation: ρ, from actions to matrices ``(*, n, n)``, with ``group`` and ``size``:
            ``groups.LearnedRepresentation``, one of ``groups.representations``; or a
            ``models.transitions.Transition`` in its place.
        likelihood: the observation model; Gaussian of unit variance on the encoder's
            ``event_shape`` if none is given.
        manifold: latent manifold, for (2); none for the deterministic model, whose latents have the
            size of ρ. ρ has to keep the manifold, whatever is learned: an orthogonal one keeps a
            sphere; one of planar blocks, the flat torus; one of size 3, SO3, whose points it
            multiplies on the left.
        posterior: law on the manifold, as in ``DeltaVAE``.
        prediction_weight, reconstruction_weight: w_pred and w_rec of (1).
        penalties: weights of the representation's penalties, by name; see its ``penalties()``.
        representation_lr: how many times faster than the networks the representation learns where
            ``parameter_groups`` is asked. A linear φ has few numbers, which have to settle before
            the encoder has fitted wrong ones.
        initial_time: see ``PosteriorHead``.

    Raises:
        ValueError: if the sizes do not agree, ρ does not keep the manifold, a weight is negative or
            a penalty unknown.

    Example:
        >>> from manifold_ae.groups import LearnedRepresentation, Torus
        >>> from manifold_ae.nn import MLP
        >>> rho = LearnedRepresentation(Torus(2), blocks=[2, 2])
        >>> hae = HomomorphismAutoencoder(MLP(64, (128,)), MLP(4, (128,)), rho)
        >>> sorted(hae.loss(torch.rand(16, 3, 64), torch.rand(16, 2, 2)))
        ['loss', 'mse', 'prediction', 'reconstruction']
        >>> hae.rollout(torch.rand(5, 64), torch.rand(5, 10, 2)).shape
        torch.Size([5, 10, 64])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        representation: Any,
        likelihood: Likelihood | None = None,
        *,
        manifold: Manifold | None = None,
        posterior: Callable[..., ManifoldDistribution] = HeatKernel,
        prediction_weight: float = 1.0,
        reconstruction_weight: float = 1.0,
        penalties: Mapping[str, float] | None = None,
        representation_lr: float = 30.0,
        initial_time: float = 0.02,
    ) -> None:
        super().__init__()
        if likelihood is None:
            shape = getattr(encoder, "event_shape", None)
            if shape is None:
                raise ValueError(
                    f"{type(encoder).__name__} does not tell its event_shape; pass likelihood=, as "
                    "in likelihood=likelihoods.Gaussian(event_shape)"
                )
            likelihood = Gaussian(shape)
        self.penalty_weights = dict(penalties or {})
        weights = {
            "prediction_weight": prediction_weight,
            "reconstruction_weight": reconstruction_weight,
            **self.penalty_weights,
        }
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name} = {weight!r}: expected a finite number of at least 0")
        if not 0 < representation_lr < math.inf:
            raise ValueError(
                f"representation_lr = {representation_lr!r}: expected a factor above 0"
            )
        self.representation_lr = representation_lr
        self.prediction_weight = prediction_weight
        self.reconstruction_weight = reconstruction_weight
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.manifold, self.make_posterior = manifold, posterior
        features = out_features("encoder", encoder)
        if isinstance(representation, Transition):
            self.transition = representation
        elif manifold is None:
            self.transition = ByRepresentation(representation)
        else:
            self.transition = ByRepresentation(representation, columns_of(manifold, representation))
        if manifold is None:
            self.head: nn.Module = nn.Linear(features, self.transition.size)
        else:
            check_keeps(manifold, self.transition)
            self.head = PosteriorHead(features, manifold, initial=initial_time)
        latents = self.transition.size if manifold is None else manifold.embedding_size
        check_takes("encoder", encoder, likelihood.input_shape, "observations")
        check_takes("decoder", decoder, (latents,), "latents")
        self.output = likelihood.output_layer(out_shape(decoder))
        known = self._penalties()
        for name in self.penalty_weights:
            if name not in known:
                listed = ", ".join(known) or "none"
                raise ValueError(
                    f"penalties: {name!r} is unknown; this representation has {listed}"
                )

    @property
    def group(self) -> Group:
        """The group of the actions."""
        return self.transition.group

    @property
    def representation(self) -> Any:
        """ρ.

        Raises:
            AttributeError: if latents are moved by something else.
        """
        return self.transition.representation

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.head.parameters()).dtype

    # ---- the parts --------------------------------------------------------------------------

    def _read(self, o: Tensor) -> Any:
        """h(o), or location and time on the manifold, in the precision of the parameters."""
        check_observations(o, self.likelihood.event_shape, self._dtype)
        features = self.encoder(self.likelihood.encoder_input(o))
        # Half precision would move latents by 1e-2.
        with torch.autocast(o.device.type, enabled=False):
            return self.head(features.to(o.dtype))

    def _unroll(self, z: Tensor, actions: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return self.transition.unroll(z, actions)

    def posterior(self, o: Tensor) -> ManifoldDistribution:
        """q(z | o), of batch shape ``(*)``; with a manifold only."""
        if self.manifold is None:
            raise ValueError("a deterministic model has no posterior; give it a manifold")
        location, time = self._read(o)
        return self.make_posterior(self.manifold, location, time, validate_args=False)

    def encode(self, o: Tensor) -> Tensor:
        """h(o), of shape ``(*, size)``, for observations ``(*, *event_shape)``."""
        found = self._read(o)
        return found if self.manifold is None else self._flat(found[0])

    def decode(self, z: Tensor) -> Tensor:
        """E[o | z] of shape ``(*, *event_shape)``, for latents z ``(*, size)``."""
        return self.likelihood.mean(self._output(z))

    def _flat(self, points: Tensor) -> Tensor:
        assert self.manifold is not None
        return points.flatten(points.dim() - len(self.manifold.ambient_shape))

    def _embed(self, z: Tensor) -> Tensor:
        """What the decoder sees of latents, and where they are compared."""
        if self.manifold is None:
            return z
        return self.manifold.embed(z.unflatten(-1, self.manifold.ambient_shape))

    def _output(self, z: Tensor) -> Tensor:
        return self.output(self.decoder(self._embed(z)))

    # ---- training ---------------------------------------------------------------------------

    def loss(
        self,
        observations: Tensor,
        actions: Tensor,
        kl_weight: float = 1.0,
        fading_weight: float = 1.0,
    ) -> dict[str, Tensor]:
        """Named terms of (1), averaged over the batch.

        Arguments:
            observations: ``(n, T + 1, *event_shape)``.
            actions: ``(n, T, group.dim)``, algebra coordinates; ``(n, T)`` of integers for a finite
                group.
            kl_weight: of the KL term, while it is warmed up.
            fading_weight: of those penalties that a true representation has too, ``frequency`` and
                ``sparsity``, while they fade; ``homomorphism`` counts when it is 0, and where
                neither of them has a weight.

        Returns:
            ``loss``, the only one with a gradient; ``reconstruction`` in nats a trace;
            ``prediction``; ``mse`` per feature of an observation; with a manifold, ``kl``; every
            penalty that has a weight.
        """
        check_traces(observations, actions, self.group, self.likelihood.event_shape, self._dtype)
        terms: dict[str, Tensor] = {}
        if self.manifold is None:
            latents = self.encode(observations)
            path = predicted = self._unroll(latents[:, 0], actions)
        else:
            location, time = self._read(observations)
            latents = self._flat(location)
            q = self.make_posterior(self.manifold, location[:, 0], time[:, 0], validate_args=False)
            terms["kl"] = kl_divergence(q.limit, self.manifold.default_prior()).mean()
            predicted = self._unroll(latents[:, 0], actions)
            path = self._unroll(self._flat(q.rsample()), actions)
        log_prob, error = self.likelihood.batch_terms(self._output(path), observations)
        terms["reconstruction"] = -log_prob * observations.shape[1]
        gap = (self._embed(latents) - self._embed(predicted))[:, 1:]
        terms["prediction"] = gap.square().sum((-1, -2)).mean()
        loss = self.reconstruction_weight * (
            terms["reconstruction"] + kl_weight * terms.get("kl", torch.zeros_like(log_prob))
        )
        if not isinstance(self.transition, Still):
            loss = loss + self.prediction_weight * terms["prediction"]
        if self.penalty_weights:
            penalties = self._penalties(actions, only=tuple(self.penalty_weights))
            for name, weight in self.penalty_weights.items():
                terms[name] = penalties[name]
                loss = loss + weight * self._course(name, fading_weight) * penalties[name]
        return {
            "loss": loss,
            "mse": error.detach(),
            **{name: value.detach() for name, value in terms.items()},
        }

    def _course(self, penalty: str, fading_weight: float) -> float:
        """The part of its weight that a penalty has while others fade."""
        if penalty in FADING:
            return fading_weight
        return 0.0 if penalty in RISING and self.fades and fading_weight > 0 else 1.0

    @property
    def fades(self) -> bool:
        """Whether there are penalties whose weights fade."""
        return any(name in FADING for name in self.penalty_weights)

    def forward(self, batch: tuple[Tensor, Tensor], **weights: float) -> dict[str, Tensor]:
        return self.loss(*batch, **weights)

    @torch.no_grad()
    def statistics(self, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
        """Figures on a batch, for the report on a loss that is not finite."""
        parts = {"observation": batch[0], "action": batch[1], "latent": self.encode(batch[0])}
        return {f"largest |{name}|": x.abs().max().item() for name, x in parts.items()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters for an optimiser, with the factor ``lr_scale`` of their learning rate."""
        given = getattr(self.transition, "representation", None)
        fast = list(given.parameters()) if isinstance(given, nn.Module) else []
        if isinstance(given, LearnedRepresentation):
            fast = given.fast_parameters()
        chosen = {id(parameter) for parameter in fast}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters() if id(p) not in chosen], "lr_scale": 1.0}
        ]
        if fast:
            groups.append({"params": fast, "lr_scale": self.representation_lr})
        return groups

    def _penalties(
        self, actions: Tensor | None = None, only: tuple[str, ...] | None = None
    ) -> dict[str, Tensor]:
        given: Any = getattr(self.transition, "representation", None)
        if not hasattr(given, "penalties"):
            return {}
        if not isinstance(given, LearnedRepresentation):
            return given.penalties()
        if given.phi != "mlp":
            return given.penalties(only=only)
        if actions is None:
            like = next(given.parameters())
            actions = torch.zeros(1, self.group.dim, dtype=like.dtype, device=like.device)
        return given.penalties(actions.flatten(0, -2), only=only)

    # ---- use --------------------------------------------------------------------------------

    @torch.no_grad()
    def rollout(self, o: Tensor, actions: Tensor) -> Tensor:
        """Observations predicted after each of T actions, ``(*, T, *event_shape)``.

        For o ``(*, *event_shape)`` and actions ``(*, T, group.dim)``; they are predicted in latent
        space, and o is all that is ever looked at.
        """
        z = self.encode(o)
        check_actions(actions, tuple(z.shape[:-1]), self.group, self._dtype)
        return self.decode(self._unroll(z, actions)[..., 1:, :])

    def infer_action(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """The action that leads from one observation to another, and how well it does.

        Returns:
            The action minimising |h(after) − ρ(g) h(before)|² ``(*, group.dim)``, or an integer
            ``(*)`` for a finite group; and that least value ``(*)``. Where several actions do
            equally well (a symmetric object), one of them.
        """
        with torch.no_grad():
            return infer_action(self.transition, self.encode(before), self.encode(after))

    @torch.no_grad()
    def traverse(self, o: Tensor, direction: Tensor, amounts: Tensor) -> Tensor:
        """Observations along a line in the algebra: d(ρ(s X) h(o)) ``(*, k, *event_shape)``.

        For observations o ``(*, *event_shape)``, a direction X ``(group.dim,)`` and amounts s
        ``(k,)``.
        """
        if isinstance(self.group, FiniteGroup):
            raise ValueError(
                f"{self.group!r} is finite: it has no algebra to go along; use rollout"
            )
        if tuple(direction.shape) != (self.group.dim,) or amounts.dim() != 1:
            raise ValueError(
                f"direction and amounts of shapes {tuple(direction.shape)} and "
                f"{tuple(amounts.shape)}: expected ({self.group.dim},) and (k,)"
            )
        z = self.encode(o).unsqueeze(-2)
        return self.decode(self.transition.step(z, amounts[:, None] * direction))
