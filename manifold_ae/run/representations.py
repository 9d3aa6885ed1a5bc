"""What a configuration says is learned: what moves latents, and the model around it."""

import math
from typing import Any

import torch

from manifold_ae import groups, manifolds
from manifold_ae.data.seeding import mix
from manifold_ae.experiments import HAE
from manifold_ae.groups import FiniteGroup, Group, LieGroup
from manifold_ae.models import HomomorphismAutoencoder, likelihoods, transitions
from manifold_ae.run.networks import build_networks

#: The most numbers of a linear φ, and of the brackets of all pairs of its generators: 40 MB and
#: 80 MB in float32.
MOST_NUMBERS, MOST_BRACKETS = 10**7, 2 * 10**7

#: What representations may be penalised for, each by the field NAME_weight.
PENALTIES = ("bracket", "closure", "frequency", "homomorphism", "sparsity", "table")

__all__ = [
    "PENALTIES",
    "automatic_blocks",
    "build_model",
    "is_orthogonal",
    "make_representation",
    "penalties_of",
]


def automatic_blocks(group: Group) -> tuple[int, ...]:
    """Blocks that suit a group: a plane for a circle, three vectors for SO(3).

    For a finite group, room for its smallest faithful representation, by its factors.
    """
    if isinstance(group, FiniteGroup):
        factors = getattr(group, "factors", (group,))
        return tuple(size for factor in factors for size in _faithful_blocks(factor))
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


def _faithful_blocks(group: FiniteGroup) -> tuple[int, ...]:
    """Sizes, at least 2, of the smallest irreducible representation that tells elements apart.

    Of several where none does alone, as of a group that is a product without saying so.
    """
    g = torch.arange(group.order)
    fixed = {}
    for rho in groups.irreps(group):
        trace = rho.of(g).diagonal(dim1=-2, dim2=-1).sum(-1)
        fixed[rho] = (trace - rho.size).abs() < 0.5 * (1 - math.cos(2 * math.pi / group.order))
    sizes: list[int] = []
    left = torch.ones(group.order, dtype=torch.bool)  # what is not told from the identity
    while left.sum() > 1:
        best = min(fixed, key=lambda rho: (int((left & fixed[rho]).sum()), rho.size))
        left &= fixed.pop(best)
        sizes.append(max(2, best.size))
    return tuple(sizes) or (2,)


def is_orthogonal(config: HAE, group: Group) -> bool:
    """Whether ρ is to be orthogonal: by itself where every representation is equivalent to one."""
    return group.is_compact if config.orthogonal is None else config.orthogonal


def make_representation(config: HAE, group: Group) -> Any:
    """What moves latents, by name: a representation, or a ``Transition`` without one."""
    if config.model == "affine":
        return groups.AffineRepresentation(group, config.size or None)
    blocks = config.block_sizes()
    automatic = automatic_blocks(group)
    size = config.size or sum(automatic) + config.free
    if config.model == "unstructured":
        return transitions.Unstructured(group, size)
    if config.model == "still":
        return transitions.Still(group, size)
    _require_small(config, group)
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
        orthogonal=is_orthogonal(config, group),
        free=config.free,
        hidden=config.phi_hidden,
        scramble=config.scramble,
        activation=config.phi_activation,
        skip=config.phi_skip and phi == "mlp",
    )


def _require_small(config: HAE, group: Group) -> None:
    """Refuse matrices in general position that are too many numbers to learn, or to hold."""
    if not isinstance(group, LieGroup):
        return
    blocks, automatic = config.block_sizes(), automatic_blocks(group)
    whole = config.size or sum(automatic) + config.free
    if isinstance(blocks, str):
        own = blocks == "auto" and not config.size and config.model != "givens"
        blocks = automatic if own else (whole - config.free,)
    entries = sum(size * size for size in blocks)
    linear = config.phi != "mlp" or config.phi_skip  # or has a linear part
    rows = (group.dim if linear else 0) + (config.phi_hidden[-1] if config.phi == "mlp" else 0)
    bracketed = config.model == "hae" and linear and not group.is_abelian
    numbers, brackets = rows * entries, group.dim**2 * entries if bracketed else 0
    if numbers <= MOST_NUMBERS and brackets <= MOST_BRACKETS:
        return
    instead = (
        "take model = 'affine', which learns a projection alone, as in --model affine --size 65"
        if isinstance(group, groups.ScaleTranslation) and not group.diagonal
        else "take a smaller size or blocks, or model = 'unstructured'"
    )
    raise ValueError(
        f"matrices of size {sum(blocks)} for {group!r}, of {group.dim} dimensions, have "
        f"{numbers:,} numbers, and their brackets {brackets:,}: expected at most {MOST_NUMBERS:,} "
        f"and {MOST_BRACKETS:,}; {instead}"
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
        weights = {name: getattr(config, f"{name}_weight") for name in PENALTIES}
        known = penalties_of(moves)
        fast = config.representation_lr or (30.0 if hasattr(moves, "weight") else 1.0)
        likelihood = likelihoods.named(config.likelihood, event_shape)
        return HomomorphismAutoencoder(
            *build_networks(config, event_shape, size, seen=likelihood.input_shape),
            moves,
            likelihood,
            manifold=manifold,
            prediction_weight=config.prediction_weight,
            reconstruction_weight=1.0 / ((config.steps + 1) * signal),
            penalties={name: weights[name] for name in known if weights[name] > 0},
            representation_lr=fast,
            initial_time=config.initial_time,
        )


def penalties_of(moves: Any) -> tuple[str, ...]:
    """The names of the penalties that what moves latents has in training."""
    if not hasattr(moves, "penalties"):
        return ()
    if getattr(moves, "phi", None) == "mlp":
        return tuple(moves.penalties(torch.zeros(1, moves.group.dim)))
    return tuple(moves.penalties())
