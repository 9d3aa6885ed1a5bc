"""Where rows lie, and how sure that is: by the encoder, or by the model's own posterior."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from manifold_ae.data.seeding import generator_for
from manifold_ae.manifolds import Manifold
from manifold_ae.models import refine
from manifold_ae.models.refinement import rows_at_once
from manifold_ae.numerics import in_parts

if TYPE_CHECKING:
    from manifold_ae.run.vae_run import VAERun

__all__ = ["LEVEL", "described", "encoded"]

#: Of the regions whose radius stands beside a refined posterior.
LEVEL = 0.9


@torch.no_grad()
def encoded(
    run: VAERun,
    x: Tensor,
    known: dict[str, Any],
    *,
    refined: bool,
    batch_size: int,
    progress: bool,
) -> dict[str, np.ndarray]:
    """See ``VAERun.encode``, of raw x and what is known of its rows as the model is given it."""
    parts = _refined(run, x, known, progress) if refined else _by_encoder(run, x, known, batch_size)
    columns = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
    found = described(run.model.manifold, *columns[:2])
    return found | ({"radius": columns[2].numpy()} if refined else {})


def described(manifold: Manifold, points: Tensor, time: Tensor) -> dict[str, np.ndarray]:
    """Posteriors by their points and variances, as arrays."""
    result = {"points": points, "time": time, "standard_deviation": time.sqrt()}
    if manifold.angle_names:
        result["angles"] = manifold.to_angles(points)
    return {name: value.numpy() for name, value in result.items()}


def _by_encoder(
    run: VAERun, x: Tensor, known: dict[str, Any], batch_size: int
) -> Iterator[tuple[Tensor, ...]]:
    for batch, own in in_parts(batch_size, x, known):
        law: Any = run.model.posterior_law(run.scaled(batch), **own)
        yield law.loc, law.time


def _refined(
    run: VAERun, x: Tensor, known: dict[str, Any], progress: bool
) -> Iterator[tuple[Tensor, ...]]:
    M = run.model.manifold
    generator = generator_for("encode", run.config.seed, device=run.device)
    bar = tqdm(total=len(x), unit="row", desc="refine", disable=None if progress else True)
    with bar:
        for batch, own in in_parts(rows_at_once(run.model), x, known):
            found = refine(run.model, run.scaled(batch), generator=generator, **own)
            yield M.projx(found.centre), found.time, found.radius(LEVEL)
            bar.update(len(batch))
