"""What can be asked of a trained ΔVAE beside its figures of merit: ``manifold-ae evaluate``.

Every answer has a record, for ``metrics.json``, and words. Of a group of seeds all are asked, and
how consistent they are with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from manifold_ae.data.given import SEEN
from manifold_ae.metrics import Consistency, consistency
from manifold_ae.run.base import Run
from manifold_ae.run.evaluation.calibration import calibrate
from manifold_ae.run.evaluation.scores import cosmoothing, off_manifold
from manifold_ae.run.files import save_arrays
from manifold_ae.run.seeds import SeedsRun
from manifold_ae.run.vae_run import VAERun

__all__ = ["Answer", "ask", "compare", "read_truth"]

#: Rows of which latents are compared.
ROWS = 2000


class Answer(NamedTuple):
    """What ``metrics.json`` keeps, and what is said."""

    record: Any
    words: str


def ask(
    run: Run,
    *,
    topology: bool = False,
    coverage: Tensor | np.ndarray | bool = False,
    others: Mapping[str, Run] | None = None,
    off: bool = False,
    hold_out: bool = False,
) -> dict[str, Answer]:
    """The answers to the questions that are asked, by name.

    Arguments:
        topology: whether the encoder captures the shape of the data; see ``VAERun.topology``.
        coverage: true positions, or True for the labels of the data: whether 90 % regions hold
            them; see ``calibrate``.
        others: runs by name, to whose latents those of this one are compared.
        off: which test rows are off the manifold; of runs with a folder, kept row by row in
            ``off_manifold.npz``.
        hold_out: how well features are predicted from others.

    Raises:
        ValueError: of runs that are no ΔVAE, and as each question says.
        ModuleNotFoundError: as ``VAERun.topology`` does.
    """
    answers = {}
    if topology:
        answers["topology"] = _each(run, "--topology", _topology)
    if not isinstance(coverage, bool) or coverage:
        truth = None if isinstance(coverage, bool) else torch.as_tensor(coverage)
        answers["coverage"] = _each(run, "--coverage", lambda one: _coverage(one, truth))
    runs = {**_members("this run", run), **_all_members(others or {})}
    if others:
        found = compare(runs)
        assert found is not None
        answers["consistency"] = Answer(found.record(), found.words)
    elif len(runs) > 1 and all(isinstance(one, VAERun) for one in runs.values()):
        answers["consistency"] = _unasked(runs)
    if off:
        answers["off_manifold"] = _each(run, "--off-manifold", _off)
    if hold_out:
        answers["cosmoothing"] = _each(run, "--cosmoothing", _held_out)
    return answers


def compare(runs: Mapping[str, Run]) -> Consistency | None:
    """How well the latents of several runs agree on the data of the first, up to isometries.

    Returns:
        None of fewer than two runs.

    Raises:
        ValueError: of runs that are no ΔVAE, are on different manifolds, or take other data.
        NotImplementedError: for manifolds whose isometries are not known.
    """
    if len(runs) < 2:
        return None
    own = {name: _vae(run, "--consistency") for name, run in runs.items()}
    first = next(iter(own.values()))
    dataset, M = first.data(), first.model.manifold
    shape = first.model.likelihood.event_shape
    for name, other in own.items():
        if other.model.manifold != M:
            raise ValueError(
                f"{name} is on {other.model.manifold!r}, the first run on {M!r}: coordinates are "
                "compared on one manifold"
            )
        if other.model.likelihood.event_shape != shape:
            raise ValueError(
                f"{name} was trained on observations of shape {other.model.likelihood.event_shape},"
                f" the first run on {shape}: encode rows that belong together apart, and compare "
                "them by metrics.align(manifold, a, b)"
            )
    # The test rows, and as many to train on as there are few of these.
    x = torch.cat([dataset.test, dataset.train])[:ROWS]
    given: dict[str, Any] = {
        name: torch.cat([dataset.test_given[name], dataset.train_given[name]])[:ROWS]
        for name in SEEN
        if name in dataset.test_given
    }
    for name, other in own.items():
        if torch.isnan(x).any() and not other.model.likelihood.masks:
            raise ValueError(
                f"{name} was trained without --missing mask, and rows of the first run have "
                "missing values: train it with the mask, or compare complete rows by "
                "metrics.align(manifold, a, b)"
            )
    latents = [
        torch.from_numpy(one.encode(x, **_trained_with(name, one, given))["points"])
        for name, one in own.items()
    ]
    return consistency(M, latents, names=list(own))


def _trained_with(name: str, run: VAERun, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of what is known of rows, what this run was trained with."""
    conditions = run.conditions
    wanted = {"covariates": conditions.count > 0, "exposure": conditions.exposure is not None}
    for key, needed in wanted.items():
        if needed and key not in given:
            raise ValueError(
                f"{name} was trained with {key}, and the data of the first run have none: ask "
                "the other way round, for the consistency of the first with it"
            )
    return {key: value for key, value in given.items() if wanted.get(key)}


Question = Callable[[VAERun], Answer]


def _topology(run: VAERun) -> Answer:
    found = run.topology()
    return Answer(found.record(), found.words)


def _coverage(run: VAERun, truth: Tensor | None) -> Answer:
    found = calibrate(run, truth)
    return Answer(found.record(), found.words)


def _unasked(runs: Mapping[str, Run]) -> Answer:
    """How consistent seeds are, or why that is not known."""
    try:
        found = compare(runs)
    except NotImplementedError as error:
        return Answer({"unknown": str(error)}, f"Consistency of the seeds is not known: {error}")
    assert found is not None
    return Answer(found.record(), found.words)


def _off(run: VAERun) -> Answer:
    found = off_manifold(run)
    rows = found.pop("rows")
    kept = ""
    if run.folder is not None:
        save_arrays(run.folder / "off_manifold.npz", rows)
        kept = f"; row by row in {run.folder / 'off_manifold.npz'}"
    count = int((rows["p_value"] < found["level"]).sum())
    words = (
        f"{count} of {len(rows['row'])} test rows are less likely than {1 - found['level']:.0%} of "
        f"what the model draws itself ({found['level']:.0%} are expected){kept}."
    )
    return Answer(found, words)


def _held_out(run: VAERun) -> Answer:
    found = cosmoothing(run)
    words = f"Features from the others: R² {found['r2']:.3f}"
    if "bits_per_spike" in found:
        words += f", {found['bits_per_spike']:.3f} bits a count above mean rates"
    return Answer(found, words + ".")


def _each(run: Run, option: str, question: Question) -> Answer:
    """The answer of a run, or of every seed of a group.

    What cannot be told of such a model is an answer too, beside those to other questions.
    """

    def answered(one: Run) -> Answer:
        own = _vae(one, option)
        try:
            return question(own)
        except NotImplementedError as error:
            return Answer({"unknown": str(error)}, f"{option}: not known: {error}.")

    if not isinstance(run, SeedsRun):
        return answered(run)
    found = {name: answered(one) for name, one in _members("", run).items()}
    words = "\n".join(f"{name}: {answer.words}" for name, answer in found.items())
    return Answer({name: answer.record for name, answer in found.items()}, words)


def _members(name: str, run: Run) -> dict[str, Run]:
    if not isinstance(run, SeedsRun):
        return {name: run}
    return {f"{name} seed {seed}".strip(): one for seed, one in run.each()}


def _all_members(runs: Mapping[str, Run]) -> dict[str, Run]:
    return {key: one for name, run in runs.items() for key, one in _members(name, run).items()}


def _vae(run: Run, option: str) -> VAERun:
    if not isinstance(run, VAERun):
        raise ValueError(
            f"{type(run).__name__}: there is no latent manifold to ask about; leave {option} out"
        )
    return run


def read_truth(path: str | Path) -> np.ndarray:
    """True positions in a ``.npy`` file, or in an ``.npz`` file of one array; of any shape.

    Raises:
        ValueError: if it is no such file, or its values are not finite numbers.
    """
    path = Path(path)
    try:
        values = np.load(path, allow_pickle=False)
        if isinstance(values, np.lib.npyio.NpzFile):
            with values as archive:
                if len(archive.files) != 1:
                    raise ValueError(
                        f"it holds {', '.join(sorted(archive.files))}: expected one array"
                    )
                values = archive[archive.files[0]]
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: no array of true positions: {error}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu" or values.size == 0:
        raise ValueError(f"{path}: expected one array of real numbers, the true positions")
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: has values that are not finite")
    return values
