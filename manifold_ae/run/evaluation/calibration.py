"""Do a run's regions hold the true positions, where these are known?

The posterior of a row is a heat kernel around a place; its region of level p is the geodesic ball
that holds the part p of it. In simulation the true position is known, up to an isometry, which is
found on training rows (``metrics.align``); on test rows a region that means what it says holds it
in the part p of all cases.

An encoder's posterior can be too narrow or too wide, as it is trained for the bound and on few
data; the model's own, by weights (``models.refine``), knows of no encoder, and is as good as the
decoder. What both leave is the map itself, which may be a little distorted against the true one:
where the posterior is much narrower than that, no region covers.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from manifold_ae import heat
from manifold_ae.data.given import SEEN
from manifold_ae.data.seeding import generator_for
from manifold_ae.distributions import HeatKernel
from manifold_ae.manifolds import Manifold
from manifold_ae.metrics import align_latents
from manifold_ae.metrics.distances import gap
from manifold_ae.models import DeltaVAE, refine

if TYPE_CHECKING:
    from manifold_ae.run.vae_run import VAERun

__all__ = ["Calibration", "Regions", "as_points", "calibrate", "regions"]

#: Draws whose distances stand in for a radial law that is not tabulated.
DRAWS = 2000
#: Rows whose posteriors are refined at once, and the most on which the alignment is found.
ROWS, ALIGNED = 200, 1000


@dataclass(frozen=True)
class Regions:
    """Geodesic balls, one a row: centres ``(n, *ambient_shape)`` and radii ``(n,)``."""

    manifold: Manifold
    centre: Tensor
    radius: Tensor


@dataclass(frozen=True)
class Calibration:
    """What part of the true positions regions hold, and how far off their centres are.

    Attributes:
        level: p, of the regions.
        coverage: the part of the test rows whose region holds the true position.
        coverage_se: its standard error.
        mean_error, median_error: geodesic distances of centres from true positions.
        mean_radius: of the regions.
        refined: the same figures of the model's own posterior; None where it was not asked for.
        isometry: by which latents were carried to true positions, in words.
    """

    level: float
    coverage: float
    coverage_se: float
    mean_error: float
    median_error: float
    mean_radius: float
    refined: dict[str, float] | None
    isometry: str

    def record(self) -> dict[str, Any]:
        """The figures, for ``metrics.json``."""
        return asdict(self)

    @property
    def words(self) -> str:
        """A sentence or two."""
        lines = [
            f"{100 * self.level:.0f} % regions hold {100 * self.coverage:.1f} ± "
            f"{100 * self.coverage_se:.1f} % of the true positions; centres are off by "
            f"{self.mean_error:.3g} in the mean, radii are {self.mean_radius:.3g}."
        ]
        if self.refined is not None:
            lines.append(
                f"Those of the model's own posterior hold {100 * self.refined['coverage']:.1f} %, "
                f"off by {self.refined['mean_error']:.3g}, radii {self.refined['mean_radius']:.3g}."
            )
        lines.append(f"Latents to true positions: {self.isometry}.")
        return " ".join(lines)


def as_points(M: Manifold, truth: Tensor, name: str = "truth") -> Tensor:
    """True positions as points of M, of points ``(n, *ambient_shape)`` or angles ``(n, k)``.

    Raises:
        ValueError: if it is neither.
    """
    truth = torch.as_tensor(truth).double()
    if tuple(truth.shape[1:]) == tuple(M.ambient_shape):
        return truth
    k = len(M.angle_names)
    if k and (truth.shape[1:] == (k,) or (k == 1 and truth.dim() == 1)):
        return M.from_angles(truth.reshape(len(truth), k))
    angles = f", or angles (n, {k}) in radians" if k else ""
    raise ValueError(
        f"{name} has shape {tuple(truth.shape)}: expected points of {M!r}, (n, "
        f"{', '.join(map(str, M.ambient_shape))}){angles}"
    )


@torch.no_grad()
def regions(
    model: DeltaVAE,
    x: Tensor,
    *,
    level: float = 0.9,
    refined: bool = False,
    num_samples: int = 500,
    generator: torch.Generator | None = None,
    **given: Any,
) -> Regions:
    """The region of every row of scaled observations x, on the CPU in float64.

    Arguments:
        refined: of the model's own posterior, by ``num_samples`` weighted points a row.
        given: covariates and exposure of the rows, where the model takes them.
    """
    M = model.manifold
    centres, radii = [], []
    for start in range(0, len(x), ROWS):
        some = {name: value[start : start + ROWS] for name, value in given.items()}
        batch = x[start : start + ROWS]
        if refined:
            own = refine(model, batch, num_samples=num_samples, generator=generator, **some)
            centre, radius = own.centre, own.radius(level)
        else:
            law: Any = model.posterior_law(batch, **some)
            centre, radius = law.loc, _radius(law, level, generator)
        centres.append(centre.cpu().double())
        radii.append(radius.cpu().double())
    return Regions(M, M.projx(torch.cat(centres)), torch.cat(radii))


def _radius(law: Any, level: float, generator: torch.Generator | None) -> Tensor:
    """The radius of the law's region: by its radial law where that is tabulated, else by draws."""
    if isinstance(law, HeatKernel):
        try:
            return heat.radial_quantile(law.manifold, level, law.time)
        except NotImplementedError:
            pass
    draws = law.sample((DRAWS,), generator=generator)
    return gap(law.manifold, draws, law.loc.expand_as(draws)).quantile(level, dim=0)


def judge(found: Regions, carried: Tensor, truth: Tensor) -> dict[str, float]:
    """Coverage and errors of regions whose centres, carried to the truth, are ``carried``."""
    error = gap(found.manifold, carried, truth)
    held = (error <= found.radius).double().mean().item()
    return {
        "coverage": held,
        "coverage_se": math.sqrt(held * (1 - held) / len(error)),
        "mean_error": error.mean().item(),
        "median_error": error.median().item(),
        "mean_radius": found.radius.mean().item(),
    }


def calibrate(
    run: VAERun,
    truth: Tensor | None = None,
    *,
    level: float = 0.9,
    refined: bool = True,
    num_samples: int = 500,
) -> Calibration:
    """Whether regions of the test rows hold their true positions.

    Arguments:
        truth: true positions of all rows of the data, in their order there: points
            ``(n, *ambient_shape)`` or angles ``(n, k)``; by default the labels of the data.
        level: p, of the regions.
        refined: whether to judge the model's own posterior too.

    Raises:
        ValueError: if there are no labels, or they are no positions.
        NotImplementedError: for manifolds whose isometries are not known; with ``refined``, for
            those with more than one time.
    """
    if not 0 < level < 1:
        raise ValueError(f"level = {level!r}: expected a probability between 0 and 1")
    run.model.eval()
    dataset, M = run.data(), run.model.manifold
    train, test = _positions(run, truth)
    kept = slice(0, ALIGNED)
    generator = generator_for("calibration", run.config.seed, device=run.device)

    def of(part: str, refined: bool, rows: slice = slice(None)) -> Regions:
        x, known = getattr(dataset, part)[rows], getattr(dataset, f"{part}_given")
        own = {name: known[name][rows] for name in SEEN if name in known}
        return regions(
            run.model,
            run.scaled(x),
            level=level,
            refined=refined,
            num_samples=num_samples,
            generator=generator,
            **run.given(len(x), **own),
        )

    def judged(refined: bool) -> tuple[dict[str, float], str]:
        aligned = align_latents(M, of("train", refined, kept).centre, train[kept])
        found = of("test", refined)
        return judge(found, aligned.apply(found.centre), test), aligned.words

    own, isometry = judged(False)
    return Calibration(
        level=level,
        **own,
        refined=judged(True)[0] if refined else None,
        isometry=isometry,
    )


def _positions(run: VAERun, truth: Tensor | None) -> tuple[Tensor, Tensor]:
    dataset, M = run.data(), run.model.manifold
    if truth is not None:
        points = as_points(M, truth)
        most = int(max(dataset.train_rows.max(), dataset.test_rows.max())) + 1
        if len(points) < most:
            raise ValueError(
                f"truth has {len(points)} rows, and the data have {most}: one is expected for each"
            )
        return points[dataset.train_rows], points[dataset.test_rows]
    if dataset.train_labels is None or dataset.test_labels is None:
        raise ValueError(
            f"data {dataset.name!r} have no labels: give the true positions of all rows, as points "
            "or angles"
        )
    if not dataset.train_labels.is_floating_point():
        raise ValueError(
            f"labels of {dataset.name!r} are classes, not positions: give the true positions of "
            "all rows, as points or angles"
        )
    return as_points(M, dataset.train_labels, "labels"), as_points(M, dataset.test_labels, "labels")
