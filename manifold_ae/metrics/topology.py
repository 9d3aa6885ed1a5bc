"""Does an encoder capture the shape of its data? Everything that tells, and a verdict in words.

Where the factors of the data are known, the encoder is a map of manifolds: ``certify_map`` asks
for its matrix on loops, its degree by two routes, whether it is continuous, and what it reaches.
Where they are not, ``certify_samples`` compares the homology of latents, of data and of the
latent manifold. Either may say that it cannot tell.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from manifold_ae.manifolds import Manifold
from manifold_ae.metrics.continuity import Continuity, continuity
from manifold_ae.metrics.coverage import Coverage, coverage
from manifold_ae.metrics.degree import Degree, degree
from manifold_ae.metrics.persistence import (
    PRIMES,
    Homology,
    betti_of_data,
    betti_of_latents,
    enough_landmarks,
)
from manifold_ae.metrics.winding import degree_from_loops, induced_matrix

__all__ = ["Topology", "certify_map", "certify_samples"]

#: An encoder that turns over more of the data than this is folded.
FOLDED = 0.01
#: Latents that reach less of the volume than this do not fill the manifold.
FILLED = 0.8
#: Latents, and points, by which the volume is estimated that samples reach.
PROBES = 1000

Map = Callable[[Tensor], Tensor]
Betti = dict[int, tuple[int | None, ...]]


@dataclass(frozen=True)
class Topology:
    """A verdict on an encoder.

    Attributes:
        captured: whether it has the topology of the data, or None if that cannot be told.
        words: the verdict, and what it rests on.
        evidence: the figures, by the name of the measure, as JSON holds them.
    """

    captured: bool | None
    words: str
    evidence: dict[str, Any] = field(repr=False)

    def record(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return {"captured": self.captured, "words": self.words, **self.evidence}


def certify_map(
    f: Map,
    source: Manifold,
    target: Manifold,
    *,
    points: int = 4096,
    values: int = 3,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> Topology:
    """Whether an encoder of data with known factors is a homeomorphism, as far as this tells.

    Arguments:
        f: from factors ``(n, *source.ambient_shape)`` to latents ``(n, *target.ambient_shape)``.
        source: where the factors live; compact.
        target: the latent manifold.
        points: of the grid on which jumps are looked for; a quarter of them for the degree and
            for the volume that is reached.
        values: regular values whose preimages are counted.
        dtype: of the points that f is given.

    Raises:
        ValueError: if the source is not compact.
    """
    if not source.compact:
        raise ValueError(f"source = {source!r} is not compact: factors without bounds have no grid")
    common: dict[str, Any] = {"generator": generator, "dtype": dtype}
    jumps = continuity(f, source, target, points=points, **common)
    evidence: dict[str, Any] = {"continuity": _plain(jumps) | {"continuous": jumps.continuous}}
    told = [_say_jumps(jumps)]
    matrix, by_loops = None, None
    try:
        matrix, orders = induced_matrix(lambda x: f(x.to(dtype)), source, target)
        evidence["winding"] = matrix.tolist()
        told.append(f"winding {matrix.tolist()}" + (" modulo two in part" if any(orders) else ""))
        by_loops = degree_from_loops(target, matrix) if source == target else None
    except (ValueError, NotImplementedError) as error:
        evidence["winding"] = None
        told.append(f"no winding: {error}")
    reached = None
    if target.compact:
        x = source.random_uniform(points // 4, **common)
        reached = coverage(target, f(x), points=points // 4, generator=generator)
        evidence["coverage"] = _plain(reached)
        told.append(_say_coverage(reached))
    excluded = _different(source, target)
    if source.dim != target.dim or not target.compact:
        evidence["degree"] = None
        return _verdict(False, f"The encoder is no homeomorphism: {excluded}", told, evidence)
    try:
        turned = degree(
            f, source, target, values=values, starts=points // 4, points=points // 4, **common
        )
    except NotImplementedError as error:
        evidence["degree"] = None
        return _verdict(None, f"The topology cannot be told: {error}", told, evidence)
    evidence["degree"] = _plain(turned)
    told.insert(1, _say_degree(turned))
    captured, head = _judge(source, target, jumps, turned, by_loops, matrix)
    if excluded:
        captured, head = False, f"The encoder is no homeomorphism: {excluded}"
    return _verdict(captured, head, told, evidence)


def certify_samples(
    M: Manifold,
    z: Tensor,
    x: Tensor | None = None,
    *,
    landmarks: int = 200,
    missing: str = "refuse",
    generator: torch.Generator | None = None,
) -> Topology:
    """Whether latents have the homology of their manifold, and of the data, by samples of both.

    As many uniform points of M, seen through as many landmarks, have to show M's own Betti
    numbers: of landmarks there are as many as do, and if none do, nothing can be told.

    Arguments:
        z: latents ``(n, *ambient_shape)``.
        x: the observations ``(n, *shape)`` that they encode.
        landmarks: on which homology is computed, at most; see ``enough_landmarks``.
        missing: ``"mask"`` lets NaN in x stand for a value that is missing; then observations are
            as far apart as the values say that both have, see ``persistence.distances_from``.

    Raises:
        ValueError: if latents or observations are too few, or not finite.
        ModuleNotFoundError: if ripser is not installed.
    """
    enough = enough_landmarks(M, len(z), landmarks, generator=generator) if M.compact else landmarks
    landmarks = landmarks if enough is None else enough
    latents = betti_of_latents(M, z, landmarks=landmarks)
    top = len(latents.betti[2])
    data = None
    if x is not None:
        data = betti_of_data(x, landmarks=landmarks, dimension=top - 1, missing=missing)
    evidence: dict[str, Any] = {"latents": _bars(latents)}
    told = [f"latents have Betti numbers {_say_betti(latents.betti)}"]
    if data is not None:
        evidence["data"] = _bars(data)
        told.append(f"data {_say_betti(data.betti)}, seen at a scale of {data.scale:.3g}")
    if not M.compact:
        return _verdict(*_compare(M, None, latents.betti, data), told, evidence)
    uniform = M.random_uniform(len(z), generator=generator, dtype=torch.float64)
    seen = betti_of_latents(M, uniform, landmarks=landmarks).betti
    known = {p: M.betti_numbers(p) for p in PRIMES}
    expected = {p: seen[p] if betti is None else betti[:top] for p, betti in known.items()}
    some = z[:PROBES]
    reached = coverage(M, some, points=PROBES, generator=generator)
    evidence |= {"coverage": _plain(reached), "manifold": _keyed(expected)}
    told += [f"{M!r} has {_say_betti(expected)}", _say_coverage(reached)]
    if enough is None:
        head = (
            f"The topology cannot be told: of {len(z)} uniform points of {M!r}, as many as there "
            f"are latents, no {landmarks} landmarks or fewer show its Betti numbers: take more "
            "rows, or more landmarks"
        )
        return _verdict(None, head, told, evidence)
    captured, head = _compare(M, expected, latents.betti, data)
    if captured and reached.fraction < FILLED:
        captured, head = False, f"The latents do not fill {M!r}, though they have its homology"
    return _verdict(captured, head, told, evidence)


# ---- verdicts -------------------------------------------------------------------------------


def _judge(
    source: Manifold,
    target: Manifold,
    jumps: Continuity,
    turned: Degree,
    by_loops: tuple[int, int] | None,
    matrix: Tensor | None,
) -> tuple[bool | None, str]:
    if jumps.continuous is False:
        return False, (
            f"The encoder is torn: a jump of {jumps.jumps[-1]:.3g} is left at a step of "
            f"{jumps.steps[-1]:.3g}"
        )
    known = [] if by_loops is None else [by_loops]
    if turned.value is not None:
        if by_loops is not None and not _agree(turned, by_loops):
            return None, (
                f"The topology cannot be told: loops give a degree of {by_loops[0]}, preimages "
                f"{turned.value}"
            )
        known.insert(0, (turned.value, turned.modulus))
    for value, modulus in known:
        if (value % 2 if modulus else abs(value)) != 1:
            return False, _folded(value, modulus, matrix)
    if (turned.reversed or 0) > FOLDED:
        # The differential of a homeomorphism has one sign.
        return False, (
            "The encoder is not one-to-one: it has folds, which turn over "
            f"{turned.reversed:.1%} of the data"
        )
    if turned.value is None:
        return None, f"The topology cannot be told: {turned.reason}"
    if jumps.continuous is None:
        return None, "The topology cannot be told: jumps shrink too slowly to call it continuous"
    if max(turned.preimages) > 1:
        return False, (
            "The encoder covers the latent manifold, but not one-to-one: a latent is that of "
            f"{max(turned.preimages)} data"
        )
    return True, f"The encoder is a homeomorphism of {target!r} as far as this tells"


def _agree(turned: Degree, by_loops: tuple[int, int]) -> bool:
    assert turned.value is not None
    modulus = max(turned.modulus, by_loops[1])
    difference = turned.value - by_loops[0]
    return difference % modulus == 0 if modulus else difference == 0


def _folded(value: int, modulus: int, matrix: Tensor | None) -> str:
    if modulus:
        return "The encoder is no homeomorphism: its degree is even" + _unseen(matrix)
    if value:
        return f"The encoder goes around the latent manifold {abs(value)} times"
    return "The encoder is folded: its degree is zero" + _unseen(matrix)


def _unseen(matrix: Tensor | None) -> str:
    """Which loops of the data go to nothing."""
    if matrix is None or not matrix.numel():
        return ""
    lost = [k + 1 for k, column in enumerate(matrix.T) if not column.any()]
    return "".join(f", and loop {k} of the data is not seen" for k in lost)


def _different(source: Manifold, target: Manifold) -> str:
    """Why no homeomorphism is possible; empty if one may be."""
    if source.dim != target.dim:
        return f"{source!r} has dimension {source.dim}, {target!r} has {target.dim}"
    if not target.compact:
        return f"{source!r} is compact, {target!r} is not"
    for prime in PRIMES:
        ours, theirs = source.betti_numbers(prime), target.betti_numbers(prime)
        if ours is not None and theirs is not None and ours != theirs:
            return f"{source!r} has Betti numbers {ours} over ℤ/{prime}, {target!r} has {theirs}"
    return ""


def _compare(
    M: Manifold, expected: Betti | None, latents: Betti, data: Homology | None
) -> tuple[bool | None, str]:
    """Latents against their manifold, where it is compact, and against the data."""
    if expected is not None and _contradict(latents, expected):
        return False, f"The latents have not the homology of {M!r}"
    if data is not None and _contradict(data.betti, latents if expected is None else expected):
        where = "of the latents" if expected is None else f"of {M!r}"
        return False, f"The data have not the homology {where}, at the scale at which they are seen"
    if not _known(latents):
        return None, "The topology cannot be told: classes of the latents are doubtful"
    if data is None:
        return None, "The latents fill their manifold; of the data nothing is told"
    if not _known(data.betti):
        return None, "The topology cannot be told: the data show none through their noise"
    return (
        True,
        f"Latents and data have the same homology{'' if expected is None else f' as {M!r}'}",
    )


def _contradict(found: Betti, expected: Betti) -> bool:
    """Whether a Betti number that is told is another."""
    return any(
        a is not None and b is not None and a != b
        for p in PRIMES
        for a, b in zip(found[p], expected[p], strict=True)
    )


def _known(betti: Betti) -> bool:
    return all(b is not None for p in PRIMES for b in betti[p])


# ---- words ----------------------------------------------------------------------------------


def _verdict(
    captured: bool | None, head: str, told: list[str], evidence: dict[str, Any]
) -> Topology:
    return Topology(captured, f"{head}: {'; '.join(told)}.", evidence)


def _say_jumps(jumps: Continuity) -> str:
    pairs = [f"{j:.2g} at a step of {h:.2g}" for h, j in zip(jumps.steps, jumps.jumps, strict=True)]
    return f"largest jump {pairs[0]}, {pairs[-1]}"


def _say_degree(turned: Degree) -> str:
    counts = ", ".join(map(str, turned.counts))
    kind = " modulo two" if turned.modulus else ""
    said = f"signed preimages of {len(turned.counts)} values {counts}{kind}"
    if turned.integral is None or turned.standard_error is None:
        return f"degree: {said}"
    return (
        f"degree: {said}; integral of the Jacobian {turned.integral:.3g} ± "
        f"{turned.standard_error:.1g}; {turned.reversed:.1%} of the data turned over"
    )


def _say_coverage(reached: Coverage) -> str:
    return f"{reached.fraction:.0%} of the latent volume reached (95% by uniform points)"


def _say_betti(betti: Betti) -> str:
    said = {
        p: "(" + ", ".join("?" if b is None else str(b) for b in betti[p]) + ")" for p in PRIMES
    }
    if len(set(said.values())) == 1:
        return said[2]
    return " and ".join(f"{text} over ℤ/{p}" for p, text in said.items())


def _plain(value: Any) -> dict[str, Any]:
    """A dataclass as JSON holds it."""
    return {
        name: list(entry) if isinstance(entry, tuple) else entry
        for name, entry in dataclasses.asdict(value).items()
    }


def _keyed(betti: Betti) -> dict[str, list[int | None]]:
    return {str(p): list(numbers) for p, numbers in betti.items()}


def _bars(found: Homology) -> dict[str, Any]:
    return {
        "betti": _keyed(found.betti),
        "scale": found.scale,
        "diameter": found.diameter,
        "landmarks": found.landmarks,
    }
