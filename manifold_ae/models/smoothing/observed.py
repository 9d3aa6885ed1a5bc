"""A recording as a chain: what each row says of each point, and how far apart rows are.

The encoder has no part in it: only what Euclidean axes span is taken from where it places the rows.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from manifold_ae.manifolds import Euclidean, Manifold
from manifold_ae.models.delta_vae import DeltaVAE
from manifold_ae.models.lattices import Lattice, lattice
from manifold_ae.numerics import in_parts

__all__ = ["Observed"]

#: Elements of log p(x | z) that are computed at once.
ELEMENTS = 2**22


class Observed:
    """A recording, the points that its rows may be at, and what is said of each at each."""

    def __init__(
        self,
        model: DeltaVAE,
        x: Tensor,
        elapsed: Tensor,
        given: Mapping[str, Tensor | None],
        count: int | None,
    ) -> None:
        M = model.manifold
        if M.dim > 3:
            raise ValueError(
                f"{M!r} has {M.dim} dimensions: smoothing goes over points that cover the "
                "manifold, and they do so up to 3; the encoder's own posterior is all there is "
                "beyond"
            )
        if len(elapsed) != len(x):
            raise ValueError(f"elapsed has {len(elapsed)} rows: expected {len(x)}, as x has")
        known = {name: value for name, value in given.items() if value is not None}
        device = _device_for(x)
        self.steps = _rounded(elapsed.double().cpu())
        self.lattice = _lattice_for(model, x, known, count).to(device)
        self.points = self.lattice.points
        like = next(model.parameters())
        prior: Any = model.prior
        log_prior = prior.log_prob(self.points.to(like)).to(self.points)
        self.log_start = (log_prior + math.log(self.lattice.cell)).log_softmax(0)
        self.emissions = _Emissions(model, self.points.to(like), x, known)
        self._shape = M.time_shape

    def variances(self, rates: Tensor) -> Tensor:
        """Of the step to each row from that before, ``(n, *time_shape)``."""
        products = self.steps.unsqueeze(-1) * rates.reshape(-1)
        return products.reshape(len(self.steps), *self._shape).to(self.points.device)

    def chains(self, variances: Tensor) -> list[tuple[int, int]]:
        """First and last rows of what is joined: an infinite rate, as a gap, joins nothing."""
        joined = variances.reshape(len(variances), -1).isfinite().all(1)
        first = sorted({0, *(~joined).nonzero().squeeze(-1).tolist()})
        return list(zip(first, [*first[1:], len(variances)], strict=True))


class _Emissions:
    """log p(x | y) of some rows at all points.

    What a point decodes to is the same for all rows, unless covariates differ from row to row: then
    it is computed once.
    """

    def __init__(
        self, model: DeltaVAE, points: Tensor, x: Tensor, given: Mapping[str, Tensor]
    ) -> None:
        self.model, self.points, self.x, self.given = model, points, x, given
        self.output = None if "covariates" in given else model._output(points).unsqueeze(1)

    def __call__(self, start: int, end: int) -> Tensor:
        size = math.prod(self.model.likelihood.event_shape) * len(self.points)
        rows = max(1, ELEMENTS // size)
        parts = []
        for k in range(start, end, rows):
            part = slice(k, min(k + rows, end))
            given: dict[str, Any] = {name: value[part] for name, value in self.given.items()}
            parts.append(self._log_prob(self.x[part], given).double().mT)
        return torch.cat(parts)

    def _log_prob(self, x: Tensor, given: dict[str, Any]) -> Tensor:
        """log p(x | y), ``(points, rows)``."""
        shape = self.points.shape
        if self.output is None:
            z = self.points.unsqueeze(1).expand(-1, len(x), *shape[1:])
            return self.model.conditional_log_prob(x, z, **given)
        return self.model.likelihood.log_prob(self.output, x, **given)


def _rounded(elapsed: Tensor) -> Tensor:
    """Times to three digits."""
    finite = elapsed[elapsed.isfinite()]
    if (elapsed <= 0).any() or elapsed.isnan().any():
        raise ValueError("elapsed: expected positive times, with ∞ for the first row of a trial")
    if not len(finite):
        return elapsed
    scale = 10.0 ** (elapsed.log10().floor() - 2)
    return torch.where(elapsed.isfinite(), (elapsed / scale).round() * scale, elapsed)


def _device_for(x: Tensor) -> torch.device:
    # Sums over many states want double precision, which some accelerators lack.
    return x.device if x.device.type != "mps" else torch.device("cpu")


def _lattice_for(
    model: DeltaVAE, x: Tensor, given: Mapping[str, Any], count: int | None
) -> Lattice:
    """Points over M; along Euclidean axes, over where the encoder and the prior place rows."""
    M = model.manifold
    coordinates = _euclidean_coordinates(M, M.base_point().unsqueeze(0))
    if not coordinates.numel():
        return lattice(M, count)
    lows, highs = [], []
    for batch, part in in_parts(4096, x, given):
        q: Any = model.posterior_law(batch, **part)
        place = _euclidean_coordinates(M, q.loc)
        spread = 5 * q.time.sqrt().flatten(1).amax(1, keepdim=True)
        lows.append((place - spread).amin(0))
        highs.append((place + spread).amax(0))
    low = torch.stack(lows).amin(0).double().cpu().clamp(max=-1.0)
    high = torch.stack(highs).amax(0).double().cpu().clamp(min=1.0)
    return lattice(M, count, low=low, high=high)


def _euclidean_coordinates(manifold: Manifold, x: Tensor) -> Tensor:
    """Those coordinates of points (n, …) that are Euclidean, (n, e)."""
    factors = getattr(manifold, "factors", (manifold,))
    parts = manifold.split(x) if hasattr(manifold, "factors") else (x,)  # type: ignore[attr-defined]
    found = [p for f, p in zip(factors, parts, strict=True) if isinstance(f, Euclidean)]
    return torch.cat(found, -1) if found else x.new_empty(len(x), 0)
