"""Are the latents of several runs the same coordinates? Distances after pairwise alignment.

Beside the mean distance of latents a and b, row by row after the isometry that carries a nearest to
b, stands what two runs that have nothing in common would give: the same with the rows of a in
random order, which keeps how the latents are spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.metrics.isometries import Aligned, align_latents

__all__ = ["Consistency", "consistency"]

#: Rows that are aligned.
ROWS = 2000


@dataclass(frozen=True)
class Consistency:
    """How far apart runs are, two at a time.

    Attributes:
        names: of the runs.
        distances: mean residual distances ``(runs, runs)``, of row carried to column; zero on the
            diagonal.
        chance: the mean residual distance of latents in random order.
        aligned: of every pair (i, j) with i < j, run i carried to run j.
    """

    names: tuple[str, ...]
    distances: np.ndarray
    chance: float
    aligned: dict[tuple[int, int], Aligned]

    @property
    def mean(self) -> float:
        """The mean over pairs."""
        return float(np.mean([fit.mean_distance for fit in self.aligned.values()]))

    @property
    def ratio(self) -> float:
        """The mean over pairs as a part of what chance gives."""
        return self.mean / self.chance

    def record(self) -> dict[str, Any]:
        """The figures, for ``metrics.json``."""
        return {
            "runs": list(self.names),
            "mean_distance": self.mean,
            "chance": self.chance,
            "distances": self.distances.tolist(),
            "isometries": {
                f"{self.names[i]} to {self.names[j]}": fit.words
                for (i, j), fit in self.aligned.items()
            },
        }

    @property
    def words(self) -> str:
        """A sentence, and a line for every pair."""
        lines = [
            f"{len(self.names)} runs: latents {self.mean:.3g} apart in the mean after alignment, "
            f"{self.chance:.3g} by chance."
        ]
        lines += [
            f"  {self.names[i]} to {self.names[j]}: {fit.mean_distance:.3g}, by {fit.words}"
            for (i, j), fit in self.aligned.items()
        ]
        return "\n".join(lines)


def consistency(
    M: Manifold, latents: Sequence[Tensor], *, names: Sequence[str] | None = None, seed: int = 0
) -> Consistency:
    """How well latents of the same rows agree, two runs at a time, up to isometries of M.

    Arguments:
        latents: of every run, points ``(n, *ambient_shape)``; row i of all belongs to one
            observation. Of more than 2000 rows as many are taken evenly.
        names: of the runs, by default their numbers.
        seed: of the random order, and of the searches.

    Raises:
        ValueError: of fewer than two runs, of another number of names, and as ``align``.
        NotImplementedError: for manifolds whose isometries are not known.
    """
    names = tuple(str(k) for k in range(len(latents))) if names is None else tuple(names)
    if len(latents) < 2 or len(names) != len(latents):
        raise ValueError(
            f"latents of {len(latents)} runs and {len(names)} names: expected two runs or more, "
            "and a name for each"
        )
    rows = {len(z) for z in latents}
    if len(rows) > 1:
        raise ValueError(
            f"latents have {', '.join(map(str, sorted(rows)))} rows: expected the same rows of all "
            "runs"
        )
    n = rows.pop()
    kept = torch.linspace(0, n - 1, min(n, ROWS)).round().long()
    points = [z[kept] for z in latents]
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed))
    aligned, by_chance = {}, []
    distances = np.zeros((len(latents), len(latents)))
    for i, j in combinations(range(len(latents)), 2):
        aligned[i, j] = align_latents(M, points[i], points[j], seed=seed)
        distances[i, j] = distances[j, i] = aligned[i, j].mean_distance
        shuffled = align_latents(M, points[i][order], points[j], seed=seed)
        by_chance.append(shuffled.mean_distance)
    return Consistency(names, distances, float(np.mean(by_chance)), aligned)
