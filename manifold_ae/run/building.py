"""A homomorphism autoencoder from its configuration: what moves latents, and the networks."""

from typing import Any

import torch

from manifold_ae import groups, manifolds
from manifold_ae.data.seeding import mix
from manifold_ae.experiments import HAE
from manifold_ae.groups import FiniteGroup, Group, LieGroup
from manifold_ae.models import HomomorphismAutoencoder, likelihoods, transitions
from manifold_ae.nn import MLP

__all__ = ["build_model", "make_representation"]


def automatic_blocks(group: Group) -> tuple[int, ...]:
    """Blocks that suit a group: a plane for a circle, three vectors for SO(3)."""
    if isinstance(group, FiniteGroup):
        factors = getattr(group, "factors", (group,))
        return (2,) * len(factors)
    assert isinstance(group, LieGroup)
    sizes: list[int] = []
    for factor in getattr(group, "factors", (group,)):
        if isinstance(factor, groups.SO3):
            sizes += [3, 3, 3]
        elif factor.is_abelian and factor.is_compact:
            sizes += [2] * factor.dim
        else:
            sizes.append(factor.matrix_size)
    return tuple(sizes)


def make_representation(config: HAE, group: Group) -> Any:
    """What moves latents, by name: a representation, or a ``Transition`` without one."""
    blocks = config.block_sizes()
    automatic = automatic_blocks(group)
    size = config.size or sum(automatic) + config.free
    if config.model == "unstructured":
        return transitions.Unstructured(group, size)
    if config.model == "still":
        return transitions.Still(group, size)
    if config.model == "givens":
        return groups.GivensRepresentation(group, size)
    if config.model == "given":
        if not isinstance(group, groups.Torus):
            return groups.Defining(group)
        return groups.Sum(
            *(
                groups.irrep(group, tuple(int(i == k) for i in range(group.n)))
                for k in range(group.n)
            )
        )
    phi = config.phi
    if phi == "auto":
        phi = "lookup" if isinstance(group, FiniteGroup) else "linear"
    if blocks == "auto" and not config.size:
        blocks = automatic
    return groups.LearnedRepresentation(
        group,
        (config.size or None) if isinstance(blocks, tuple) else size,
        blocks=None if blocks in ("auto", "none") else blocks,
        phi=phi,
        orthogonal=config.orthogonal,
        free=config.free,
        hidden=config.phi_hidden,
        scramble=config.scramble,
    )


def build_model(
    config: HAE, group: Group, event_shape: tuple[int, ...], signal: float
) -> HomomorphismAutoencoder:
    """An untrained model; its initial weights are a function of ``config.seed``.

    Arguments:
        signal: what reconstruction costs to begin with: its weight is 1/signal, so that the other
            weights mean the same on every kind of data.
    """
    manifold = None if config.manifold is None else manifolds.parse(config.manifold)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix("weights", config.seed))
        moves = make_representation(config, group)
        size = moves.size if manifold is None else manifold.embedding_size
        names = ("bracket", "closure", "frequency", "sparsity", "table")
        weights = {name: getattr(config, f"{name}_weight") for name in names}
        known = _penalties_of(moves)
        fast = config.representation_lr or (30.0 if hasattr(moves, "weight") else 1.0)
        return HomomorphismAutoencoder(
            MLP(event_shape, config.encoder_hidden),
            MLP(size, config.decoder_hidden),
            moves,
            likelihoods.named(config.likelihood, event_shape),
            manifold=manifold,
            prediction_weight=config.prediction_weight,
            reconstruction_weight=1.0 / ((config.steps + 1) * signal),
            penalties={name: weights[name] for name in known if weights[name] > 0},
            representation_lr=fast,
            initial_time=config.initial_time,
        )


def _penalties_of(moves: Any) -> tuple[str, ...]:
    """The names of the penalties that what moves latents has in training."""
    if not hasattr(moves, "penalties"):
        return ()
    some = (torch.zeros(1, moves.group.dim),) if getattr(moves, "phi", None) == "mlp" else ()
    return tuple(moves.penalties(*some))
