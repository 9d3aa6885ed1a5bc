"""Pictures of a run of a homomorphism autoencoder: latents, rollouts, traversals, paths of ρ."""

import math
from typing import Any

import torch

from manifold_ae.groups import LieGroup
from manifold_ae.models import HomomorphismAutoencoder, transitions

__all__ = ["figures_of"]

#: Columns of the metrics that are drawn, and what they are called.
CURVES = {
    "loss": "Loss",
    "mse": "MSE per feature",
    "prediction": "Prediction error of latents",
    "frequency": "Frequency of ρ",
}
#: Steps whose predictions are drawn.
SHOWN_STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
#: Directions of the algebra that are drawn, the first ones, and the largest ρ whose entries are.
SHOWN_DIRECTIONS, SHOWN_SIZE = 8, 32


@torch.no_grad()
def figures_of(run: Any) -> dict[str, Any]:
    """The figures of an ``HAERun``, by the names of their files."""
    from manifold_ae import plots

    source, model = run.traces(), run.model.eval()
    test = source.test[:2000]
    observations = test.observations[:, 0]
    labels = source.labels(None if test.states is None else test.states[:, 0])
    names = None if labels is None or source.world is None else list(source.world.angles)
    z = run.encode(observations)
    title = f"{source.train.name}, {model.group!r}"
    figures: dict[str, Any] = {"curves": plots.curves(run._curves(), panels=CURVES, title=title)}
    figures["latents"] = plots.planes(
        z, labels, blocks=_block_sizes(model), names=names, title=title
    )
    long = run.long_traces()
    predicted = run.rollout(long.observations[:2, 0], long.actions[:2])
    steps = [step for step in SHOWN_STEPS if step <= long.steps]
    after = [step - 1 for step in steps]
    rows = [
        [long.observations[k, steps].numpy(), predicted[k, after].numpy()]
        for k in range(len(predicted))
    ]
    figures["rollout"] = plots.strips(
        rows, ["true", "predicted"], columns=[f"t = {step}" for step in steps], title=title
    )
    group = model.group
    if isinstance(group, LieGroup):
        amounts = torch.linspace(-math.pi, math.pi, 9, device=run.device)
        basis = torch.eye(group.dim, device=run.device)[:SHOWN_DIRECTIONS]
        moved = torch.stack(
            [model.traverse(observations[0].to(run.device), X, amounts) for X in basis]
        )
        figures["traversals"] = plots.traversals(
            moved.cpu(), amounts.cpu(), [f"X{k + 1}" for k in range(len(basis))], title=title
        )
        moves = model.transition
        shown = isinstance(moves, transitions.ByRepresentation)
        if shown and moves.representation.size <= SHOWN_SIZE:
            path = torch.linspace(0, 2 * math.pi, 97, device=run.device)
            for k, X in enumerate(basis):
                figures[f"representation_{k + 1}"] = plots.representation_path(
                    model.representation(path[:, None] * X).cpu(),
                    path.cpu(),
                    title=f"ρ(s X{k + 1})",
                )
    return figures


def _block_sizes(model: HomomorphismAutoencoder) -> list[int] | None:
    """Sizes of the blocks of latents, if there are any; what no action moves is the last."""
    moves = model.transition
    if not isinstance(moves, transitions.ByRepresentation) or moves.columns > 1:
        return None
    sizes = getattr(moves.representation, "block_sizes", None)
    free = getattr(moves.representation, "free", 0)
    return None if sizes is None else [*sizes, free] if free else list(sizes)
