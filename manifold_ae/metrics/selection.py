r"""Which of several latent manifolds do data speak for? The rule, and the words for what it finds.

Every candidate m has the held-out log-likelihood ℓ_m(i) of every row i, in nats, by importance
sampling. Differences are taken on the same rows, and their standard errors over blocks of rows, as
neighbours in a recording are not independent. In turn:

1. **Structure.** The best candidate has to gain more over the model without a latent than it gains,
   trained in the same way, on data whose features were permuted each on its own: by more than
   ``STRUCTURE`` standard errors. Otherwise: none of these.
2. **Closing up.** A compact manifold that latents do not fill, to ``FILLED`` of its volume or with
   a hole ``HOLE`` times as large as uniform points leave, holds the data as a patch, as a plane
   would. It is set aside if another candidate is no more than ``PATCH`` nats behind it: so much the
   shape of the prior alone may do. Otherwise it is not decided between it and the best of the rest.
3. **Leaders** are those that are behind the best by one standard error at most.
4. **Parsimony.** Of the leaders those of the smallest dimension remain: a manifold lies in many of
   higher dimension, and loses little by it.
5. One that remains is the answer; several are undecided. If what remains is a Euclidean baseline
   that was not asked for, none of the manifolds is the answer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Candidate", "Selection", "block_error", "choose"]

#: Standard errors by which the gain has to exceed that on shuffled data.
STRUCTURE = 3.0
#: Part of the volume below which a manifold is not filled; uniform latents reach 0.95.
FILLED = 0.8
#: Largest hole over that of as many uniform points, above which a manifold is not filled.
HOLE = 2.0
#: Nats an observation, up to which a patch of a manifold may beat what holds the data as well.
PATCH = 0.5


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is known of a trained candidate.

    Arguments:
        name: a specification, the shortest of its isometry class.
        dim: its dimension.
        log_likelihood: of the held-out rows, with shape ``(n,)``, in nats.
        asked: whether it was asked for; else it is a baseline that joined.
        coverage: the part of its volume that latents reach; None where it is not compact.
        hole: the largest hole between latents over that between uniform points; likewise.
        kl: divergence from the prior by factor, in nats.
        betti: Betti numbers of the latents over ℤ/2, None where doubtful or not computed.
        expected: those of the manifold.
    """

    name: str
    dim: int
    log_likelihood: Tensor = field(repr=False)
    asked: bool = True
    coverage: float | None = None
    hole: float | None = None
    kl: Mapping[str, float] = field(default_factory=dict)
    betti: tuple[int | None, ...] | None = None
    expected: tuple[int, ...] | None = None

    @property
    def filled(self) -> bool:
        """Whether the data close up on it; of Euclidean space nothing is asked."""
        reached = self.coverage is None or self.coverage >= FILLED
        return reached and (self.hole is None or self.hole <= HOLE)


@dataclass(frozen=True)
class Selection:
    """An answer.

    Attributes:
        answer: ``"one"``, ``"undecided"`` or ``"none"``.
        names: what remains: the one, or those between which it is not decided; of ``"none"``
            nothing, or the Euclidean baseline that does as well.
        finding: two sentences.
        rows: the table, a mapping a candidate, the best first: ``name``, ``dim``, ``asked``,
            ``log_likelihood`` and its standard error ``se``, ``behind`` the best and ``behind_se``,
            ``coverage``, ``hole``, ``filled``, ``kl``, ``betti``, ``expected``, ``remains``.
        structure: ``gain`` over the model without a latent, ``null_gain`` on shuffled data, and
            ``se`` of their difference, in nats an observation.
        remarks: further sentences, on the likelihood and on what was left out.
    """

    answer: str
    names: tuple[str, ...]
    finding: str
    rows: tuple[dict[str, Any], ...] = field(repr=False)
    structure: Mapping[str, float] = field(repr=False)
    remarks: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return {
            "answer": self.answer,
            "names": list(self.names),
            "finding": self.finding,
            "remarks": list(self.remarks),
            "structure": dict(self.structure),
            "candidates": list(self.rows),
        }


def block_error(values: Tensor, blocks: int) -> float:
    """The standard error of the mean of values ``(n,)``, over contiguous blocks of rows.

    Raises:
        ValueError: unless there are two blocks or more, and as many values.
    """
    if blocks < 2 or values.dim() != 1 or len(values) < blocks:
        raise ValueError(
            f"values of shape {tuple(values.shape)}, blocks = {blocks}: expected (n,) with at "
            "least as many rows as blocks, and at least two of these"
        )
    parts = values.double().tensor_split(blocks)
    sizes = torch.tensor([len(part) for part in parts], dtype=torch.float64)
    sums = torch.stack([part.sum() for part in parts])
    away = sums - sizes * values.double().mean()
    return math.sqrt(away.square().sum().item() * blocks / (blocks - 1)) / len(values)


def choose(
    candidates: Sequence[Candidate],
    floor: Tensor,
    null_gain: Tensor,
    *,
    blocks: int = 20,
) -> Selection:
    """The answer by the rule above.

    Arguments:
        candidates: with log-likelihoods of the same rows, in the order of the recording.
        floor: log-likelihood of these rows without a latent, with shape ``(n,)``.
        null_gain: what the best candidate gains on each row of shuffled data over the model
            without a latent that was fitted to these, with shape ``(n,)``.
        blocks: of rows, for standard errors.

    Raises:
        ValueError: if there is no candidate, names repeat, or numbers of rows differ or are not
            finite.
    """
    _check(candidates, floor, null_gain)
    ranked = sorted(candidates, key=lambda c: -c.log_likelihood.double().mean().item())
    best = ranked[0]
    gain = best.log_likelihood.double() - floor.double()
    structure = {
        "gain": gain.mean().item(),
        "null_gain": null_gain.double().mean().item(),
        "se": math.hypot(block_error(gain, blocks), block_error(null_gain, blocks)),
    }
    behind = {c.name: _behind(best, c) for c in ranked}
    remain = _remaining(ranked, blocks)
    found = structure["gain"] - max(0.0, structure["null_gain"]) > STRUCTURE * structure["se"]
    rows = tuple(
        {
            "name": c.name,
            "dim": c.dim,
            "asked": c.asked,
            "log_likelihood": c.log_likelihood.double().mean().item(),
            "se": block_error(c.log_likelihood, blocks),
            "behind": behind[c.name].mean().item(),
            "behind_se": block_error(behind[c.name], blocks),
            "coverage": c.coverage,
            "hole": c.hole,
            "filled": c.filled,
            "kl": dict(c.kl),
            "betti": None if c.betti is None else list(c.betti),
            "expected": None if c.expected is None else list(c.expected),
            "remains": found and c in remain,
        }
        for c in ranked
    )
    asked = [c for c in remain if c.asked]
    if not found:
        answer, names = "none", ()
    elif not asked:
        answer, names = "none", tuple(c.name for c in remain)
    else:
        answer = "one" if len(remain) == 1 else "undecided"
        names = tuple(c.name for c in remain)
    finding = _finding(answer, remain, ranked, rows, structure, found)
    return Selection(answer, names, finding, rows, structure)


def _remaining(ranked: Sequence[Candidate], blocks: int) -> list[Candidate]:
    """What closing up and parsimony leave of candidates, the best of which comes first."""
    patches = [c for c in ranked if not c.filled]
    rest = [c for c in ranked if c.filled] or list(ranked)
    best = rest[0]
    leaders = [c for c in rest if _behind(best, c).mean() <= block_error(_behind(best, c), blocks)]
    least = min(c.dim for c in leaders)
    remain = [c for c in leaders if c.dim == least]
    if best.filled:
        far = [c for c in patches if _behind(c, best).mean() > PATCH]
        remain = far[:1] + remain
    return remain


def _behind(best: Candidate, other: Candidate) -> Tensor:
    return best.log_likelihood.double() - other.log_likelihood.double()


def _check(candidates: Sequence[Candidate], floor: Tensor, null_gain: Tensor) -> None:
    if not candidates:
        raise ValueError("candidates is empty: expected at least one")
    names = [c.name for c in candidates]
    if len(set(names)) < len(names):
        raise ValueError(f"candidates are named {', '.join(names)}: expected each once")
    given = {c.name: c.log_likelihood for c in candidates} | {"floor": floor}
    for name, values in (given | {"null_gain": null_gain}).items():
        if values.dim() != 1 or len(values) != len(floor):
            raise ValueError(
                f"{name} has a shape of {tuple(values.shape)}: expected ({len(floor)},), a row each"
            )
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} has log-likelihoods that are not finite")


# ---- words ----------------------------------------------------------------------------------

#: What users call a specification, where it has no dimension or one of its own.
WORDS = {
    "circle": "a circle (one angle)",
    "torus:2": "a torus (two angles)",
    "sphere:2": "a sphere (a direction)",
    "projective:2": "a projective plane (an axis without a sign)",
    "so3": "SO(3) (poses in space)",
    "klein-bottle": "a Klein bottle",
    "euclidean:1": "a line",
    "euclidean:2": "a plane",
    "euclidean:3": "three-dimensional space",
}


def _finding(
    answer: str,
    remain: Sequence[Candidate],
    ranked: Sequence[Candidate],
    rows: Sequence[Mapping[str, Any]],
    structure: Mapping[str, float],
    found: bool,
) -> str:
    gained = (
        f"{structure['gain']:.2f} nats an observation above a model without a latent "
        f"({structure['null_gain']:.2f} on shuffled features, ± {structure['se']:.2f})"
    )
    if not found:
        return (
            "None of these: no candidate explains more than it does of features that were shuffled "
            "each on its own, or no more than chance. "
            f"The best candidate, {ranked[0].name}, is {gained}."
        )
    called = " or ".join(WORDS.get(c.name, c.name) for c in remain)
    others = [row for row in rows if not row["remains"]]
    head = {
        "one": f"The data speak for {called}",
        "undecided": f"Undecided: {called}",
        "none": f"None of these: {called}, without any topology, explains the data no worse",
    }[answer]
    first = f"{head}, {gained}."
    if not others:
        return f"{first} There was nothing else to compare with."
    mine = next(row for row in rows if row["remains"])
    above = [row for row in others if row["behind"] < mine["behind"]]
    if not above:
        nearest = next(row for row in others if row["behind"] >= mine["behind"])
        away = nearest["behind"] - mine["behind"]
        return (
            f"{first} Next comes {nearest['name']}, {away:.2f} nats behind (standard error "
            f"{nearest['behind_se']:.2f})."
        )
    top = above[0]
    away = f"{mine['behind'] - top['behind']:.2f} ± {mine['behind_se']:.2f} nats above"
    if not top["filled"]:
        if top["coverage"] < FILLED:
            patch = f"latents reach {top['coverage']:.0%} of it"
        else:
            patch = f"latents leave a hole {top['hole']:.1f} times as large as uniform points do"
        return f"{first} {top['name']} is {away}, but as a patch: {patch}, and do not close up."
    return (
        f"{first} {top['name']}, of dimension {top['dim']}, is {away}, no more than chance, and "
        "holds it as a part."
    )
