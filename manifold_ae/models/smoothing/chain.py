r"""A chain of points of M, and messages that pass over it forward and backward.

With points y_k, each for a cell of volume w, the chain p(z_{i+1} | z_i) = q(v_i; z_i, ·) becomes
one of finitely many states,

    T_i(j, k) = q(v_i; y_j, y_k) / Σ_l q(v_i; y_j, y_l),

and messages pass over it in both directions (Rabiner, 1989, §III):

    α_1(k) = p₀(y_k) w · e_1(k),       α_{i+1}(k) = e_{i+1}(k) Σ_j α_i(j) T_i(j, k),
    β_n(k) = 1,                        β_i(j) = Σ_k T_i(j, k) e_{i+1}(k) β_{i+1}(k),

with e_i(k) = p(x_i | y_k). The posterior of row i is γ_i ∝ α_i β_i, and Σ_k α_n(k) is
p(x_1, …, x_n). An infinite v_i starts a new chain.

Logarithms are kept throughout. Sums are formed as matrix products of exp(log α − max), in which
what is below e^{−FLOOR} is raised to that; where posterior mass comes to lie on such a state, the
sum is formed again in logarithms. So the result is that of logarithms, at the cost of products. Of
the messages that pass forward, one in √n is kept; the others are computed again on the way back.

References:
    L. R. Rabiner, *A Tutorial on Hidden Markov Models*, Proceedings of the IEEE, 1989.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from manifold_ae import heat
from manifold_ae.manifolds import SO3, FlatTorus, Manifold, RealProjective, Sphere
from manifold_ae.models.lattices import Lattice

__all__ = ["RESOLVED", "Chain", "forward_backward"]

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
#: A step of the chain shorter than this many spacings is not resolved.
RESOLVED = 0.5
#: Elements of a kernel, or of a sum in logarithms, that are computed at once.
ELEMENTS = 2**22


class Chain:
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
    chain = Chain(lattice)
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
