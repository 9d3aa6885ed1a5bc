r"""Where each row of a recording lies given all rows: forward and backward over points of M.

With points y_k, each for a cell of volume w, the chain p(z_{i+1} | z_i) = q(v_i; z_i, ·) becomes
one of finitely many states,

    T_i(j, k) = q(v_i; y_j, y_k) / Σ_l q(v_i; y_j, y_l),

and messages pass over it in both directions (Rabiner, 1989, §III):

    α_1(k) = p₀(y_k) w · e_1(k),       α_{i+1}(k) = e_{i+1}(k) Σ_j α_i(j) T_i(j, k),
    β_n(k) = 1,                        β_i(j) = Σ_k T_i(j, k) e_{i+1}(k) β_{i+1}(k),

with e_i(k) = p(x_i | y_k). The posterior of row i is γ_i ∝ α_i β_i, and Σ_k α_n(k) is
p(x_1, …, x_n). An infinite v_i starts a new chain. The encoder has no part in it: only what
Euclidean axes span is taken from where it places the rows.

Logarithms are kept throughout. Sums are formed as matrix products of exp(log α − max), in which
what is below e^{−FLOOR} is raised to that; where posterior mass comes to lie on such a state, the
sum is formed again in logarithms. So the result is that of logarithms, at the cost of products. Of
the messages that pass forward, one in √n is kept; the others are computed again on the way back.

References:
    L. R. Rabiner, *A Tutorial on Hidden Markov Models*, Proceedings of the IEEE, 1989.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae import heat
from manifold_ae.manifolds import SO3, Euclidean, FlatTorus, Manifold, RealProjective, Sphere
from manifold_ae.models.delta_vae import DeltaVAE
from manifold_ae.models.lattices import Lattice, lattice

__all__ = ["Smoothed", "forward_backward", "likeliest_rate", "moments", "smooth"]

#: Messages this far below their greatest, in nats, are not told apart in a matrix product.
FLOOR = 640.0
#: Posterior mass on such states at which the product is not good enough.
TRUSTED = 1e-9
#: How many transitions are kept, of steps of different lengths.
KEPT = 16
#: The greatest distance on manifolds whose kernel is a function of distance (of tori, the circle),
#: and how many of its values are tabulated.
DIAMETERS: dict[type[Manifold], float] = {
    FlatTorus: math.pi,
    Sphere: math.pi,
    SO3: math.pi,
    RealProjective: math.pi / 2,
}
TABLE = 2**14
#: Elements of log p(x | z), or of a kernel, that are computed at once.
ELEMENTS = 2**22
#: A step of the chain shorter than this many spacings is not resolved.
RESOLVED = 0.5
#: Rates that are tried, and halvings of the interval about the best of them.
TRIED, REFINED = 8, 4
#: A variance after which hardly anything is known of where a motion began.
LONGEST = 10.0
#: Iterations of the Fréchet mean.
ITERATIONS = 8


@dataclass(frozen=True, eq=False)
class Smoothed:
    """What a recording says of where each of its rows lies.

    Arguments:
        points: posterior means on the manifold (Fréchet), of shape ``(n, *ambient_shape)``.
        time: posterior variances per direction about them, of shape ``(n, *time_shape)``.
        log_evidence: log p of all rows of each chain, summed, in nats.
        log_marginals: log γ of shape ``(n, points of the lattice)``, if they were kept.
        lattice: the points that it was computed over.
    """

    points: Tensor
    time: Tensor
    log_evidence: float
    log_marginals: Tensor | None
    lattice: Lattice


# ---- the algorithm --------------------------------------------------------------------------


class _Chain:
    """Transitions over the points of a lattice, and messages through them."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self._kept: dict[tuple[float, ...], list[tuple[Tensor, Tensor]]] = {}

    def transitions(self, variance: Tensor) -> list[tuple[Tensor, Tensor]]:
        """log T and T of every axis, ``(k, k)``, for one step of a variance ``time_shape``."""
        key = tuple(variance.flatten().tolist())
        if key not in self._kept:
            if len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            pairs = zip(self.lattice.axes, self.lattice.times(variance), strict=True)
            made = [_log_transition(axis.manifold, axis.points, time) for axis, time in pairs]
            self._kept[key] = [(log_map, log_map.exp()) for log_map in made]
        return self._kept[key]

    def predict(self, log_alpha: Tensor, variance: Tensor) -> "_Message":
        """log Σ_j α(j) T(j, k), of the shape of the lattice."""
        maps = [(log_map.mT, map_.mT) for log_map, map_ in self.transitions(variance)]
        return _Message(log_alpha, maps)

    def step(
        self, message: Tensor | None, emission: Tensor, variance: Tensor, log_start: Tensor
    ) -> tuple[Tensor, float]:
        """α of the next row, normalised, and the logarithm of what it was divided by."""
        emission = emission.reshape(self.lattice.shape)
        if message is None:
            alpha = log_start.reshape(self.lattice.shape) + emission
        else:
            alpha = self.predict(message, variance).beside(emission) + emission
        scale = torch.logsumexp(alpha.flatten(), 0)
        return alpha - scale, scale.item()

    def look_back(self, log_beta: Tensor, variance: Tensor) -> "_Message":
        """log Σ_k T(j, k) β(k), of the shape of the lattice."""
        return _Message(log_beta, self.transitions(variance))


class _Message:
    """log Σ_k map(j, k) exp(message(k)): by a product, and in logarithms where that matters."""

    def __init__(self, message: Tensor, maps: list[tuple[Tensor, Tensor]]) -> None:
        self._message, self._maps = message, maps

    def beside(self, other: Tensor) -> Tensor:
        """The sum, good enough where its product with exp(other) has mass."""
        greatest = self._message.max()
        sums = (self._message - greatest).exp()
        for k, (_, map_) in enumerate(self._maps):
            sums = (sums.movedim(k, -1) @ map_.mT).movedim(-1, k)
        least = math.exp(-FLOOR)
        low = sums < least
        result = sums.clamp(min=least).log() + greatest
        if low.any() and (result + other).flatten().softmax(0)[low.flatten()].sum() > TRUSTED:
            return self._exactly()
        return result

    def _exactly(self) -> Tensor:
        message = self._message
        for k, (log_map, _) in enumerate(self._maps):
            message = _log_product(message.movedim(k, -1), log_map).movedim(-1, k)
        return message


def _log_transition(manifold: Manifold, points: Tensor, time: Tensor) -> Tensor:
    """log T (k, k), of rows that sum to one."""
    of_distance = _of_distance(manifold, points, time)
    rows = max(1, ELEMENTS // (8 * len(points)))
    parts = []
    for part in points.split(rows):
        if of_distance is not None:
            parts.append(of_distance(manifold.dist(part.unsqueeze(1), points)))
            continue
        times = time.expand(len(part), len(points), *manifold.time_shape)
        parts.append(heat.log_kernel(manifold, part.unsqueeze(1), points, times))
    return torch.cat(parts).log_softmax(-1)


def _of_distance(
    manifold: Manifold, like: Tensor, time: Tensor
) -> Callable[[Tensor], Tensor] | None:
    """log q as a function of distance alone, from a table, on manifolds where it is one.

    Linear in the square of the distance between the table's entries, in which log q is nearly so.
    """
    longest = DIAMETERS.get(type(manifold))
    if longest is None or (isinstance(manifold, FlatTorus) and manifold.dim > 1):
        return None
    z = manifold.base_point(dtype=like.dtype, device=like.device)
    u = manifold.proju(z, torch.linspace(1, 2, z.numel()).to(z).reshape(z.shape))
    u = u / manifold.inner(z, u).sqrt()
    r = torch.linspace(0, longest, TABLE).to(z)
    y = manifold.expmap(z, r.reshape(-1, *[1] * z.dim()) * u)
    table = heat.log_kernel(manifold, z.expand_as(y), y, time.expand(TABLE))

    def log_q(distance: Tensor) -> Tensor:
        k = (distance * ((TABLE - 1) / longest)).long().clamp(0, TABLE - 2)
        low, high = r[k].square(), r[k + 1].square()
        return torch.lerp(table[k], table[k + 1], (distance.square() - low) / (high - low))

    return log_q


def _log_product(message: Tensor, log_map: Tensor) -> Tensor:
    """log Σ_k exp(log_map(j, k) + message(…, k)), a part at a time."""
    rows = message.reshape(-1, message.shape[-1])
    size = max(1, ELEMENTS // log_map.numel())
    parts = [torch.logsumexp(part.unsqueeze(1) + log_map, -1) for part in rows.split(size)]
    return torch.cat(parts).reshape(*message.shape[:-1], len(log_map))


def forward_backward(
    lattice: Lattice,
    log_emission: Callable[[int, int], Tensor],
    variances: Tensor,
    log_start: Tensor,
) -> Iterator[tuple[int, Tensor, float]]:
    """Posteriors of the rows of one chain, from the last segment to the first.

    Arguments:
        lattice: the points.
        log_emission: ``log_emission(i, j)`` is log p(x | y) of rows i to j − 1, ``(j − i, K)``,
            float64. It is asked for every row twice.
        variances: of the step to each row from that before, ``(n, *time_shape)``, float64; the
            first is not looked at.
        log_start: log p₀(y) w of the first row, ``(K,)``, normalised here.

    Yields:
        The number of the first row of a segment, log γ ``(rows, K)``, and the segment's part of
        log p(x_1, …, x_n).
    """
    n, shape = len(variances), lattice.shape
    segment = max(1, math.isqrt(n))
    starts = list(range(0, n, segment))
    chain = _Chain(lattice)
    log_start = log_start.log_softmax(0)

    def forward(start: int, message: Tensor | None) -> tuple[Tensor, Tensor, list[float]]:
        """Normalised α and emissions of a segment, from what comes before it."""
        emissions = log_emission(start, min(start + segment, n))
        alphas, scales = [], []
        for k, emission in enumerate(emissions):
            message, scale = chain.step(message, emission, variances[start + k], log_start)
            alphas.append(message)
            scales.append(scale)
        return torch.stack(alphas), emissions, scales

    kept: list[Tensor | None] = [None]
    for start in starts[:-1]:
        kept.append(forward(start, kept[-1])[0][-1])
    beta: Tensor | None = None
    after: tuple[Tensor, Tensor] | None = None
    for start, message in zip(reversed(starts), reversed(kept), strict=True):
        alphas, emissions, scales = forward(start, message)
        gammas = []
        for k in reversed(range(len(alphas))):
            if after is None:
                beta = torch.zeros_like(alphas[k])
            else:
                emission, variance = after
                assert beta is not None
                incoming = beta + emission.reshape(shape)
                beta = chain.look_back(incoming, variance).beside(alphas[k])
                beta = beta - beta.max()
            gammas.append((alphas[k] + beta).flatten().log_softmax(0))
            after = emissions[k], variances[start + k]
        yield start, torch.stack(gammas[::-1]), sum(scales)


# ---- of a trained model ---------------------------------------------------------------------


@torch.no_grad()
def smooth(
    model: DeltaVAE,
    x: Tensor,
    elapsed: Tensor,
    *,
    rate: Tensor | float | None = None,
    count: int | None = None,
    covariates: Tensor | None = None,
    exposure: Tensor | None = None,
    keep: bool = False,
) -> Smoothed:
    """The posteriors of the rows of a recording under a trained decoder and a prior along time.

    Arguments:
        model: the model; of its parts the decoder and the likelihood decide.
        x: rows ``(n, *event_shape)`` as the model takes them, in the order of time.
        elapsed: time since the row before, ``(n,)``, ∞ at the start of a trial; as
            ``data.elapsed_times`` returns it. They are rounded to three digits, so that transitions
            are few.
        rate: variance per unit of time, of shape ``time_shape`` or a number for all; by default
            that of the model's own prior along time, which is too large where posteriors are wide
            (see ``likeliest_rate``). ∞ joins nothing: every row is on its own.
        count: about how many points to compute over; see ``lattice``.
        covariates: as in ``DeltaVAE.loss``; so also ``exposure``.
        keep: whether to keep the posteriors themselves, n rows of as many numbers as points.

    Raises:
        ValueError: if there is no rate, or not a positive one; if lengths differ; or on a manifold
            of more than three dimensions, which so few points do not cover.
    """
    task = _Task(model, x, elapsed, {"covariates": covariates, "exposure": exposure}, count)
    M, n = model.manifold, len(x)
    variances = task.variances(_rates(model, rate))
    _warn_unresolved(task.lattice, variances)
    where: dict[str, Any] = {"dtype": torch.float64, "device": task.points.device}
    mean = torch.empty(n, *M.ambient_shape, **where)
    time = torch.empty(n, *M.time_shape, **where)
    marginals = torch.empty(n, len(task.lattice), device=where["device"]) if keep else None
    evidence = 0.0
    for start, end in task.chains(variances):
        for k, log_gamma, part in forward_backward(
            task.lattice,
            lambda i, j, start=start: task.emissions(start + i, start + j),
            variances[start:end],
            task.log_start,
        ):
            rows = slice(start + k, start + k + len(log_gamma))
            mean[rows], time[rows] = moments(M, task.points, log_gamma)
            evidence += part
            if marginals is not None:
                marginals[rows] = log_gamma
    return Smoothed(mean.to(x), time.to(x), evidence, marginals, task.lattice)


@torch.no_grad()
def likeliest_rate(
    model: DeltaVAE,
    x: Tensor,
    elapsed: Tensor,
    *,
    count: int | None = None,
    covariates: Tensor | None = None,
    exposure: Tensor | None = None,
) -> float:
    """The rate of motion, alike in all directions, under which a recording is likeliest.

    The rate of ``BrownianPrior`` is learned with posteriors that are independent from row to row:
    it comes out larger, by about twice their variance over the time between rows, as independent
    samples lie further apart than the latents do. Here the posteriors are those of the chain.

    log p(x_1, …, x_n) is looked at for ``TRIED`` rates, from the least that the
    points resolve to one that joins nothing, and then between the neighbours of the best.

    Arguments are those of ``smooth``.

    Raises:
        ValueError: as ``smooth`` does, and if no row follows another.
    """
    task = _Task(model, x, elapsed, {"covariates": covariates, "exposure": exposure}, count)
    finite = task.steps[task.steps.isfinite()]
    if not len(finite):
        raise ValueError("elapsed: no row follows another, so that nothing tells of a rate")
    usual = finite.median().item()
    least = max(RESOLVED * axis.spacing for axis in task.lattice.axes) ** 2
    shape = model.manifold.time_shape
    # Few states a row, and all rows: kept, as every rate asks for them.
    emissions = task.emissions(0, len(x))
    known: dict[float, float] = {}

    def evidence(log_rate: float) -> float:
        if log_rate not in known:
            rates = torch.full(shape, math.exp(log_rate), dtype=torch.float64)
            variances = task.variances(rates)
            known[log_rate] = 0.0
            for start, end in task.chains(variances):
                chain, message = _Chain(task.lattice), None
                for k in range(start, end):
                    message, scale = chain.step(message, emissions[k], variances[k], task.log_start)
                    known[log_rate] += scale
        return known[log_rate]

    low, high = math.log(least / usual), math.log(max(LONGEST, 4 * least) / usual)
    tried = torch.linspace(low, high, TRIED).tolist()
    best = max(tried, key=evidence)
    width = (high - low) / (TRIED - 1)
    for _ in range(REFINED):
        width /= 2
        near = [best - width, best, best + width]
        best = max((t for t in near if low <= t <= high), key=evidence)
    return math.exp(best)


class _Task:
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


def _rates(model: DeltaVAE, rate: Tensor | float | None) -> Tensor:
    if rate is None:
        if model.motion is None:
            raise ValueError(
                "rate: this model was trained without a prior along time: name the variance per "
                "unit of time by which its latents move, as in rate=0.02"
            )
        rate = model.motion.rate
    rates = torch.as_tensor(rate, dtype=torch.float64).cpu().expand(model.manifold.time_shape)
    if not (rates > 0).all():
        raise ValueError(f"rate = {rate!r}: expected positive variances per unit of time")
    return rates


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
    for k in range(0, len(x), 4096):
        part = {name: value[k : k + 4096] for name, value in given.items()}
        q: Any = model.posterior_law(x[k : k + 4096], **part)
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


def _warn_unresolved(grid: Lattice, variances: Tensor) -> None:
    """Say so where a step is too short for the spacing of the points."""
    finite = variances[variances.reshape(len(variances), -1).isfinite().all(1)]
    if not finite.numel():
        return
    shortest = finite.amin(0)
    for axis, time in zip(grid.axes, grid.times(shortest), strict=True):
        step = math.sqrt(time.item())
        if step < RESOLVED * axis.spacing:
            factor = (RESOLVED * axis.spacing / step) ** axis.manifold.dim
            warnings.warn(
                f"a step of the chain ({step:.2g}) is short for the spacing of {len(axis)} points "
                f"of {axis.manifold!r} ({axis.spacing:.2g}), so that latents move less than they "
                f"should: {math.ceil(factor * len(axis))} points there are enough",
                stacklevel=3,
            )


def moments(manifold: Manifold, points: Tensor, log_gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Fréchet means and variances per direction of weights γ over points.

    From the most probable point, m ← exp_m(Σ_k γ_k log_m y_k), over the points that have weight.

    Arguments:
        points: of shape ``(K, *ambient_shape)``.
        log_gamma: of shape ``(n, K)``.

    Returns:
        Means ``(n, *ambient_shape)`` and variances ``(n, *time_shape)``.
    """
    means, times = [], []
    for part in log_gamma.split(max(1, ELEMENTS // (16 * len(points)))):
        weights = part.softmax(1)
        held = (weights > 1e-12 * weights.amax(1, keepdim=True)).any(0)
        y, w = points[held], weights[:, held] / weights[:, held].sum(1, keepdim=True)
        m = points[weights.argmax(1)]
        shape = (len(m), len(y), *manifold.ambient_shape)
        for _ in range(ITERATIONS):
            v = manifold.logmap(m.unsqueeze(1).expand(shape), y.expand(shape))
            step = torch.einsum("nk,nk...->n...", w, v)
            m = manifold.projx(manifold.expmap(m, step))
            if step.abs().max() < 1e-7:
                break
        means.append(m)
        times.append(_variance(manifold, m, y, w))
    return torch.cat(means), torch.cat(times)


def _variance(manifold: Manifold, m: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """E|log_m y|² per direction, ``(n, *time_shape)``, for m ``(n, …)``, y ``(k, …)``, w (n, k)."""
    factors = getattr(manifold, "factors", None)
    if factors is not None:
        triples = zip(factors, manifold.split(m), manifold.split(y), strict=True)  # type: ignore[attr-defined]
        return torch.cat([_variance(*three, w).reshape(len(m), -1) for three in triples], -1)
    if isinstance(manifold, Euclidean):
        return torch.einsum("nk,nkd->nd", w, (y - m.unsqueeze(1)).square())
    distance = manifold.dist(m.unsqueeze(1), y)
    return (w * distance.square()).sum(1) / manifold.dim
