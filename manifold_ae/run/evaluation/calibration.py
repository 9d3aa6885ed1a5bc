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
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from manifold_ae import heat
from manifold_ae.data.given import SEEN
from manifold_ae.data.seeding import generator_for
from manifold_ae.distributions import HeatKernel
from manifold_ae.manifolds import Manifold, Product
from manifold_ae.metrics import align_latents
from manifold_ae.metrics.distances import gap
from manifold_ae.models import DeltaVAE, WeightedPosterior, refine
from manifold_ae.models.refinement import rows_at_once
from manifold_ae.numerics import in_parts

if TYPE_CHECKING:
    from manifold_ae.run.vae_run import VAERun

__all__ = ["Calibration", "Regions", "as_points", "calibrate", "regions"]

#: Angles beyond this, in radians, may be degrees: twice round.
TURN = 4 * math.pi
#: Draws whose distances stand in for a radial law that is not tabulated.
DRAWS = 2000
#: Rows whose posteriors are looked at at once, and the most on which the alignment is found.
ROWS, ALIGNED = 200, 1000


@dataclass(frozen=True)
class Regions:
    """Geodesic balls, one a row: centres ``(n, *ambient_shape)`` and radii ``(n,)``."""

    manifold: Manifold
    centre: Tensor
    radius: Tensor


class Factors(NamedTuple):
    """Those factors of a product that true positions tell of: the manifold, and their numbers."""

    manifold: Manifold
    factors: tuple[int, ...]

    def of(self, whole: Manifold, x: Tensor) -> Tensor:
        """The part of points of the whole, ``(*, *ambient_shape)``."""
        if self.manifold is whole:
            return x
        parts = [whole.split(x)[k] for k in self.factors]  # type: ignore[attr-defined]
        return self.manifold.join(parts) if len(parts) > 1 else parts[0]  # type: ignore[attr-defined]


def with_angles(M: Manifold) -> Factors:
    """The factors that have angles, where others have none, as a nuisance beside an angle."""
    factors = getattr(M, "factors", ())
    held = tuple(k for k, factor in enumerate(factors) if factor.angle_names)
    if not held or len(held) == len(factors):
        return Factors(M, held)
    own = [factors[k] for k in held]
    return Factors(Product(*own) if len(own) > 1 else own[0], held)


@dataclass(frozen=True)
class Calibration:
    """What part of the true positions regions hold, and how far off their centres are.

    Attributes:
        level: p, of the regions.
        coverage: the part of the test rows whose region holds the true position.
        coverage_se: its standard error.
        mean_error, median_error: geodesic distances of centres from true positions.
        mean_radius: of the regions.
        refined: the same figures of the model's own posterior; None where it was not asked for, or
            there is none.
        isometry: by which latents were carried to true positions, in words.
        part: the factors that were judged, of a product of whose others nothing is known.
        unrefined: why there is no posterior of the model's own; None where there is.
    """

    level: float
    coverage: float
    coverage_se: float
    mean_error: float
    median_error: float
    mean_radius: float
    refined: dict[str, float] | None
    isometry: str
    part: str | None = None
    unrefined: str | None = None

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
        if self.unrefined is not None:
            lines.append(f"The model's own posterior is not known: {self.unrefined}.")
        judged = "" if self.part is None else f" of {self.part} alone, all that has angles"
        lines.append(f"Latents to true positions{judged}: {self.isometry}.")
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
        largest = truth.abs().max().item() if truth.numel() else 0.0
        if largest > TURN:
            warnings.warn(
                f"{name} reaches {largest:.6g}, taken as radians: if these are degrees, give "
                "numpy.deg2rad of them",
                stacklevel=2,
            )
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
    part: Factors | None = None,
    num_samples: int = 500,
    generator: torch.Generator | None = None,
    **given: Any,
) -> Regions:
    """The region of every row of scaled observations x, on the CPU in float64.

    Arguments:
        part: the factors of a product whose regions are wanted; by default all of the manifold.
        refined: of the model's own posterior, by ``num_samples`` weighted points a row.
        given: covariates and exposure of the rows, where the model takes them.
    """
    M = model.manifold
    part = Factors(M, ()) if part is None else part
    centres, radii = [], []
    rows = rows_at_once(model, num_samples) if refined else ROWS
    for batch, some in in_parts(rows, x, given):
        if refined:
            own = refine(model, batch, num_samples=num_samples, generator=generator, **some)
            centre, points = part.of(M, own.centre), part.of(M, own.points)
            own = WeightedPosterior(part.manifold, centre, points, own.weights)
            radius = own.radius(level)
        else:
            law: Any = model.posterior_law(batch, **some)
            centre, radius = part.of(M, law.loc), _radius(law, level, part, generator)
        centres.append(centre.cpu().double())
        radii.append(radius.cpu().double())
    return Regions(part.manifold, part.manifold.projx(torch.cat(centres)), torch.cat(radii))


def _radius(law: Any, level: float, part: Factors, generator: torch.Generator | None) -> Tensor:
    """The radius of the law's region: by its radial law where that is tabulated, else by draws."""
    if isinstance(law, HeatKernel) and part.manifold is law.manifold:
        try:
            return heat.radial_quantile(law.manifold, level, law.time)
        except NotImplementedError:
            pass
    draws, loc = (
        part.of(law.manifold, x) for x in (law.sample((DRAWS,), generator=generator), law.loc)
    )
    return gap(part.manifold, draws, loc.expand_as(draws)).quantile(level, dim=0)


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
            ``(n, *ambient_shape)`` or angles ``(n, k)``; by default the labels of the data. Of a
            product some factors of which have no angles, as a nuisance, angles tell of the others,
            and these are judged alone.
        level: p, of the regions.
        refined: whether to judge the model's own posterior too, where it can be had.

    Raises:
        ValueError: if there are no labels, or they are no positions.
        NotImplementedError: for manifolds whose isometries are not known.
    """
    if not 0 < level < 1:
        raise ValueError(f"level = {level!r}: expected a probability between 0 and 1")
    run.model.eval()
    dataset, M = run.data(), run.model.manifold
    part, train, test = _positions(run, truth)
    kept = slice(0, ALIGNED)
    generator = generator_for("calibration", run.config.seed, device=run.device)

    def of(which: str, refined: bool, rows: slice = slice(None)) -> Regions:
        x, known = getattr(dataset, which)[rows], getattr(dataset, f"{which}_given")
        own = {name: known[name][rows] for name in SEEN if name in known}
        return regions(
            run.model,
            run.scaled(x),
            level=level,
            refined=refined,
            part=part,
            num_samples=num_samples,
            generator=generator,
            **run.given(len(x), **own),
        )

    def judged(refined: bool) -> tuple[dict[str, float], str]:
        aligned = align_latents(part.manifold, of("train", refined, kept).centre, train[kept])
        found = of("test", refined)
        return judge(found, aligned.apply(found.centre), test), aligned.words

    own, isometry = judged(False)
    better, why = None, None
    if refined:
        try:
            better = judged(True)[0]
        except NotImplementedError as error:
            why = str(error)
    return Calibration(
        level=level,
        **own,
        refined=better,
        unrefined=why,
        isometry=isometry,
        part=None if part.manifold is M else repr(part.manifold),
    )


def _positions(run: VAERun, truth: Tensor | None) -> tuple[Factors, Tensor, Tensor]:
    """What is judged, and the true positions of the rows that were trained and are tested on."""
    dataset, M = run.data(), run.model.manifold
    if truth is not None:
        part = _told_of(M, torch.as_tensor(truth))
        points = as_points(part.manifold, truth)
        rows = int(max(dataset.train_rows.max(), dataset.test_rows.max())) + 1
        if len(points) != rows:
            raise ValueError(
                f"truth has {len(points)} rows, and the data have {rows}: one is expected for each"
            )
        return part, points[dataset.train_rows], points[dataset.test_rows]
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
    part = _told_of(M, dataset.train_labels)
    train, test = (
        as_points(part.manifold, labels, "labels")
        for labels in (dataset.train_labels, dataset.test_labels)
    )
    return part, train, test


def _told_of(M: Manifold, truth: Tensor) -> Factors:
    """All of M where positions are its points; else those factors that have angles."""
    whole = tuple(truth.shape[1:]) == tuple(M.ambient_shape)
    return Factors(M, ()) if whole else with_angles(M)
