"""Which manifold fits the data? Candidates held to each other, to baselines, and to chance.

The folder of a selection has ``config.toml``, ``selection.json``, ``figures/selection.png``, an
ordinary run folder ``candidates/NAME`` for every candidate with what it reached on held-out rows in
``judged.json`` and ``judged.npz``, and ``shuffled/NAME``, the best candidate on data whose features
were permuted. What is judged is not done again when the selection goes on after a stop.
"""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from manifold_ae import heat, manifolds
from manifold_ae.data import Dataset
from manifold_ae.data.given import SEEN
from manifold_ae.experiments import Select
from manifold_ae.manifolds import Manifold
from manifold_ae.metrics import Candidate, Selection, choose
from manifold_ae.run import advice, delta_vae
from manifold_ae.run.files import prepare_folder, write_json
from manifold_ae.run.selection.judging import Judge, Judged, folder_of, shuffled
from manifold_ae.run.support import clocks

__all__ = ["candidates_of", "next_step", "select", "table"]

#: Candidate → its manifold, and the specifications that ask for it.
Asked = Mapping[str, tuple[Manifold, tuple[str, ...]]]


def candidates_of(specs: Sequence[str]) -> dict[str, tuple[Manifold, tuple[str, ...]]]:
    """The candidates by name: of each isometry class one, and the specifications that ask for it.

    Euclidean baselines of the dimensions of the others and of the next ones come last, with no
    specification unless they were asked for.

    Raises:
        ValueError: for a specification that there is not.
    """
    asked: dict[str, list[str]] = {}
    found: dict[str, Manifold] = {}
    for spec in specs:
        M = manifolds.parse(spec)
        name = manifolds.class_name(M)
        asked.setdefault(name, []).append(spec)
        found[name] = manifolds.normal_form(M)
    dims = {M.dim for M in found.values()}
    for dim in sorted(dims | {d + 1 for d in dims}):
        flat = manifolds.Euclidean(dim)
        found.setdefault(flat.spec, flat)
    return {name: (M, tuple(asked.get(name, ()))) for name, M in found.items()}


def select(
    config: Select,
    folder: Path | str | None = None,
    *,
    dataset: Dataset | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Selection:
    """Train every candidate, judge it on held-out rows, and choose by ``metrics.choose``.

    Arguments:
        folder: where everything is kept; nothing is written without one.
        dataset: data in memory, in place of what the configuration names.
        resume: go on in a folder that holds the same selection, with what is done in it.

    Raises:
        ValueError: if the configuration does not fit the data, or the folder holds another one, or
            one of other data.
    """
    asked = candidates_of(config.manifolds)
    if dataset is None:
        dataset = delta_vae.load_data(config.candidate("circle", batches=1))
    if len(dataset.test) < config.blocks:
        raise ValueError(
            f"{len(dataset.test)} held-out rows and blocks = {config.blocks}: expected at least "
            "as many rows; give more data, or fewer blocks"
        )
    advice.say(clocks(dataset))
    null = shuffled(dataset, config.seed)
    judge = Judge(config, dataset, _below(folder, "candidates"))
    chance = Judge(config, null, _below(folder, "shuffled"), restarts=1)
    if folder is not None:
        folder = prepare_folder(Path(folder), config, resume)
    judged: dict[str, Judged] = {}
    with tqdm(total=len(asked) + 1, disable=not progress, unit="run", dynamic_ncols=True) as bar:
        for name, (M, _) in asked.items():
            bar.set_postfix_str(name)
            judged[name] = judge(name, M)
            bar.update()
        best = max(judged, key=lambda name: judged[name].log_likelihood.double().mean().item())
        bar.set_postfix_str("shuffled")
        on_null = chance(best, asked[best][0])
        bar.update()
    # Rows in the order of the recording, for blocks of neighbours.
    order = torch.argsort(dataset.test_rows)
    chosen = choose(
        [_candidate(name, asked, judged[name], order) for name in asked],
        judge.floor()[order],
        (on_null.log_likelihood - chance.floor())[order],
        blocks=config.blocks,
    )
    remarks = [*judged[best].record["warnings"], *_remarks(config, asked, judged[best])]
    chosen = dataclasses.replace(chosen, remarks=tuple(remarks))
    if folder is not None:
        about = {
            "data": dataset.name,
            "rows": {"train": len(dataset.train), "test": len(dataset.test)},
            "likelihood": judge.settings.likelihood,
        }
        write_json(Path(folder) / "selection.json", about | chosen.record())
        _draw(chosen, dataset.name, Path(folder))
    return chosen


def _below(folder: Path | str | None, name: str) -> Path | None:
    return None if folder is None else Path(folder) / name


def _candidate(name: str, asked: Asked, judged: Judged, order: torch.Tensor) -> Candidate:
    M, specs = asked[name]
    betti = judged.record["betti"]
    known = M.betti_numbers() if M.compact else None
    return Candidate(
        name=name,
        dim=M.dim,
        log_likelihood=judged.log_likelihood[order],
        asked=bool(specs),
        coverage=judged.record["coverage"],
        hole=judged.record["hole"],
        kl=judged.record["kl"],
        betti=None if betti is None else tuple(betti),
        expected=None if betti is None or known is None else known[: len(betti)],
    )


def _remarks(config: Select, asked: Asked, best: Judged) -> list[str]:
    found = []
    for name, (_, specs) in asked.items():
        if len(specs) > 1:
            one = " and ".join(specs)
            found.append(f"{one} are one space, and were trained once, as {name}.")
    if config.landmarks and best.record["betti"] is None:
        found.append(
            "Topological verdicts are left out: they need ripser, pip install "
            "'manifold-ae[topology]'."
        )
    return found


def _draw(chosen: Selection, name: str, folder: Path) -> None:
    from manifold_ae import plots

    (folder / "figures").mkdir(exist_ok=True)
    figure = plots.selection(chosen.rows, chosen.structure, title=name, subtitle=chosen.finding)
    plots.save(figure, folder / "figures" / "selection.png")


def next_step(chosen: Selection, folder: Path, config: Select) -> str:
    """The command by which coordinates come from the answer, where there is one; else none."""
    if chosen.answer != "one":
        return ""
    M = manifolds.parse(chosen.names[0])
    words = ["manifold-ae", "encode", str(folder / "candidates" / folder_of(chosen.names[0]))]
    words += ["--data", config.data, "-o", "latents.csv"]
    if config.data.endswith(".npy"):  # others hold them, where they were in training
        given = {name: getattr(config, name) for name in SEEN}
        words += [w for name, path in given.items() if path for w in (f"--{name}", path)]
    if heat.has_sampler(M):
        words.append("--refined")
    return f"its coordinates: {shlex.join(words)}"


def table(chosen: Selection) -> str:
    """The table as lines for people; an arrow marks what remains."""
    head = (
        *("", "dim", "log-likelihood", "behind", "KL by factor"),
        *("covered", "hole", "Betti", "of it"),
    )
    lines = [head, *(_line(row) for row in chosen.rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k in (0, 4) else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    mark = "→ " if row["remains"] else "  "
    betti, expected = (
        ",".join("?" if b is None else str(b) for b in row[key] or ())
        for key in ("betti", "expected")
    )
    return (
        mark + row["name"] + ("" if row["asked"] else " (baseline)"),
        str(row["dim"]),
        f"{row['log_likelihood']:.2f} ± {row['se']:.2f}",
        f"{row['behind']:.2f} ± {row['behind_se']:.2f}",
        " ".join(f"{value:.2f}" for value in row["kl"].values()),
        "" if row["coverage"] is None else f"{row['coverage']:.0%}",
        "" if row["hole"] is None else f"{row['hole']:.1f}",
        betti,
        expected,
    )
