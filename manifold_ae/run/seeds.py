"""Runs of one configuration with several seeds, trained as one computation.

The folder of such a group holds an ordinary run folder ``seed-S`` for every seed S, beside its own
``config.toml``, ``checkpoint.pt`` (all of them, to go on from), ``metrics.csv`` (a row an epoch and
replica), ``metrics.json`` (means and standard deviations over seeds) and ``figures`` (those of all
seeds side by side).
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from manifold_ae import data
from manifold_ae.experiments import Configuration
from manifold_ae.metrics import Topology
from manifold_ae.replicas import Replicas
from manifold_ae.run.base import Run
from manifold_ae.run.files import answered_before, write_json
from manifold_ae.training import Checkpoint, write_aside, write_metrics

__all__ = ["SeedsRun", "assemble", "extra_of", "load", "members_of", "seeds_line", "spread"]


@dataclass(kw_only=True)
class SeedsRun(Run):
    """Runs that differ by their seeds.

    Arguments:
        runs: seed → the run with it, in a folder of its own.
        lost: seed → why the run with it diverged.
    """

    model: None = None
    runs: dict[int, Run]
    lost: dict[int, str]

    def evaluate(self, *, num_samples: int | None = None, progress: bool = False) -> dict[str, Any]:
        """Means and standard deviations over seeds of the runs' metrics, and those of every run."""
        return self._joined(
            {
                seed: run.evaluate(num_samples=num_samples, progress=progress)
                for seed, run in self.each()
            }
        )

    def table(self, metrics: dict[str, Any]) -> str:
        names = [name for name, value in metrics.items() if set(_dict(value)) == {"mean", "sd"}]
        width = max(map(len, names))
        lines = [f"{'seeds':>{width}}  {', '.join(map(str, self.runs))}"]
        for name in names:
            mean, sd = metrics[name]["mean"], metrics[name]["sd"]
            lines.append(f"{name:>{width}}  {mean:.6g}" + ("" if sd is None else f"  ± {sd:.2g}"))
        lines += [f"{'lost':>{width}}  seed {seed}: {why}" for seed, why in self.lost.items()]
        return "\n".join(lines)

    def load_data(self) -> None:
        self.each()

    def save(self, metrics: dict[str, Any]) -> None:
        """The joined metrics, and of every run its weights, latents and own metrics."""
        for seed, run in self.each():
            run.save(metrics["seeds"][str(seed)])
        folder = self._own_folder()
        write_json(folder / "metrics.json", metrics | answered_before(folder, metrics))

    def save_latents(self) -> None:
        for _, run in self.each():
            run.save_latents()

    def encode_file(self, source: str, *, progress: bool = False, **options: Any) -> dict[str, Any]:
        """What every run makes of a file: the arrays by ``seed-S/NAME``."""
        return {
            f"seed-{seed}/{name}": value
            for seed, run in self.each()
            for name, value in run.encode_file(source, progress=progress, **options).items()
        }

    def save_samples(
        self, n: int, path: Path, *, seed: int = 0, progress: bool = False, **options: Any
    ) -> list[Path]:
        """New observations of every run, under the name of ``path`` in a folder ``seed-S`` there.

        In the folder of the group these are the runs' own folders.
        """
        return [
            made
            for number, run in self.each()
            for made in run.save_samples(
                n,
                path.parent / f"seed-{number}" / path.name,
                seed=seed,
                progress=progress,
                **options,
            )
        ]

    def topology(self, *, points: int = 4096, landmarks: int = 200) -> Topology:
        raise ValueError(
            "a verdict on the topology is of one seed: take run.ask(this, topology=True) for those "
            "of all, or .runs[seed].topology()"
        )

    def draw(self, *, seed: int = 0) -> list[Path]:
        """Every picture of every run, and each kind of all seeds side by side in ``figures/``."""
        from manifold_ae import plots

        folder = self._own_folder() / "figures"
        drawn = {number: run.draw(seed=seed) for number, run in self.each()}
        kinds: dict[str, list[tuple[Path, str]]] = {}
        for number, paths in drawn.items():
            for path in paths:
                kinds.setdefault(path.name, []).append((path, f"Seed {number}"))
        columns = math.ceil(math.sqrt(len(drawn)))
        joint = [
            plots.save(plots.panels(pictures, columns=columns), folder / name)
            for name, pictures in kinds.items()
        ]
        return [*joint, *(path for paths in drawn.values() for path in paths)]

    def each(self) -> list[tuple[int, Run]]:
        """The runs by seed; what the first has loaded of its data serves all."""
        first = next(iter(self.runs.values()))
        first.load_data()
        for run in self.runs.values():
            for name in run.shared:
                setattr(run, name, getattr(first, name))
        return list(self.runs.items())

    def _joined(self, metrics: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
        first = next(iter(metrics.values()))
        joined: dict[str, Any] = {}
        for name in first:
            numbers = [float(own[name]) for own in metrics.values() if _is_number(own.get(name))]
            if len(numbers) == len(metrics):
                joined[name] = spread(numbers)
        joined["seeds"] = {str(seed): own for seed, own in metrics.items()}
        joined["lost"] = {str(seed): why for seed, why in self.lost.items()}
        return joined


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def spread(values: list[float]) -> dict[str, float | None]:
    """Mean and standard deviation over seeds; None of one alone, and where one is not finite."""
    known = len(values) > 1 and all(map(math.isfinite, values))
    sd = statistics.stdev(values) if known else None
    return {"mean": statistics.mean(values), "sd": sd}


# ---- building -------------------------------------------------------------------------------


def members_of(config: Any) -> list[Any]:
    """The configuration of every seed: ``seeds`` of them, from ``seed`` on."""
    return [config.replace(seed=config.seed + k, seeds=1) for k in range(config.seeds)]


def seeds_line(config: Any, build: Callable[[Any], nn.Module], source: Any) -> str:
    """How several seeds would be trained, after one step on a batch of the source; else nothing."""
    if config.seeds == 1:
        return ""
    seeds = [member.seed for member in members_of(config)]
    replicas = Replicas([build(member) for member in members_of(config)], seeds)
    with torch.no_grad():
        replicas(next(iter(data.Together([source.seeded(seed) for seed in seeds]).epoch(0))))
    how = "as one computation"
    if replicas.separately is not None:
        how = f"one after another within a step ({replicas.separately})"
    return f"{len(seeds)} seeds, {seeds[0]} to {seeds[-1]}, {how}\n"


def extra_of(config: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept in the checkpoint: of one seed its own, of several that they are several."""
    if config.seeds == 1:
        return dict(own)
    return {"kind": "seeds", "config": config.to_mapping(), "own": dict(own)}


def assemble(
    config: Any,
    model: Any,
    last: Checkpoint,
    folder: Path | None,
    fabric: Fabric,
    make: Callable[[Any, nn.Module, Checkpoint, Path | None], Run],
) -> Run:
    """The run that was trained, or the group of them; the members' folders are written.

    Arguments:
        make: a run of its configuration, model, checkpoint and folder.
    """
    if config.seeds == 1:
        return make(config, model, last, folder)
    runs: dict[int, Run] = {}
    lost: dict[int, str] = {}
    for k, (member, part) in enumerate(zip(members_of(config), model.split(last), strict=True)):
        if "lost" in part.extra:
            lost[member.seed] = part.extra["lost"][0]
            continue
        extra = {**part.extra["own"], "config": member.to_mapping()}
        if "trials" in part.extra:
            extra["trials"] = part.extra["trials"][k]
        part = dataclasses.replace(part, extra=extra)
        where = None if folder is None else folder / f"seed-{member.seed}"
        if where is not None and fabric.is_global_zero:
            _write(where, member, part)
        runs[member.seed] = make(member, model.model(k), part, where)
    return SeedsRun(
        folder=folder,
        config=config,
        device=fabric.device,
        history=last.history,
        is_main=fabric.is_global_zero,
        runs=runs,
        lost=lost,
    )


def _write(folder: Path, config: Configuration, last: Checkpoint) -> None:
    """A run folder as training alone leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    text = config.to_toml()
    write_aside(
        folder / "config.toml", lambda temporary: temporary.write_text(text, encoding="utf-8")
    )
    write_metrics(folder / "metrics.csv", last.history)
    last.save(folder / "checkpoint.pt")


def load(folder: Path, checkpoint: Checkpoint, *, device: str = "auto") -> SeedsRun:
    """The group of runs that a checkpoint and the folders beside it hold.

    Raises:
        ValueError: if training was stopped before the runs had folders of their own.
    """
    from manifold_ae import run

    first, count = (checkpoint.extra["config"].get(name, 0) for name in ("seed", "seeds"))
    lost = {first + k: why for k, why in checkpoint.extra.get("lost", {}).items()}
    runs: dict[int, Run] = {}
    for seed in range(first, first + count):
        if seed in lost:
            continue
        own = folder / f"seed-{seed}"
        if not (own / "checkpoint.pt").exists():
            raise ValueError(
                f"{folder} holds {count} seeds after {checkpoint.epoch} epoch(s), and no {own} yet:"
                " training was stopped; go on with it by train --resume"
            )
        runs[seed] = run.load(own, device=device)
    some = next(iter(runs.values()))
    return SeedsRun(
        folder=folder,
        config=type(some.config).from_mapping(checkpoint.extra["config"]),
        device=torch.device(some.device),
        history=checkpoint.history,
        runs=runs,
        lost=lost,
    )
