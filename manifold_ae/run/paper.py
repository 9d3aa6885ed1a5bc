"""The tables of the ΔVAE paper, run by run; what is done stays done."""

import json
import math
import multiprocessing
import os
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from manifold_ae import data, metrics
from manifold_ae.experiments import VAE
from manifold_ae.experiments.paper import FIGURES, SETTINGS, SPACES, TABLES, Job, Table
from manifold_ae.run import delta_vae
from manifold_ae.run.files import WHERE, begun_with, read_checkpoint, write_json
from manifold_ae.run.seeds import members_of, spread

__all__ = ["collect", "is_one_of_several", "reproduce", "table_text", "winding_determinant"]

#: Columns of a table, by their keys in ``metrics.json``, and the factor that they are shown with.
COLUMNS = {"elbo": 1.0, "log_likelihood": 1.0, "kl": 1.0, "mse": 100.0}


def reproduce(
    name: str,
    folder: Path | str,
    *,
    preset: str = "quick",
    seeds: int | None = None,
    epochs: int | None = None,
    manifolds: Sequence[str] = (),
    settings: Sequence[str] = (),
    data_dir: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: bool = False,
) -> list[Path]:
    """Train, evaluate and draw every run of a table that is not done yet.

    A run that was interrupted goes on from its checkpoint. Started by torchrun, each process takes
    its share of the runs; ``collect`` gathers them. On a GPU the seeds of a cell are trained as one
    computation.

    Arguments:
        name: ``"table1"`` or ``"table2"``.
        folder: where the runs go; the same again to go on.
        preset, seeds, epochs, manifolds, settings: see ``experiments.paper.Table.jobs``.
        workers: processes at once; by default one a core, and one in all on a GPU.

    Returns:
        The folders of the runs that this process was to see to.

    Raises:
        ValueError: for a table that there is not, or a folder with other runs: of another preset,
            or of other numbers of epochs or of seeds that are trained together.
    """
    folder = Path(folder)
    rank, world = _share()
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu and world > 1 and ":" not in device:
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    jobs = table_of(name).jobs(
        preset,
        seeds=seeds,
        epochs=epochs,
        manifolds=manifolds,
        settings=settings,
        together=on_gpu,
        data_dir=data_dir,
        device=device,
    )[rank::world]
    cores = os.cpu_count() or 1
    count = workers if workers is not None else (1 if on_gpu or world > 1 else cores)
    if count < 1:
        raise ValueError(f"workers = {count}: expected at least 1")
    left = [job for job in jobs if not _is_done(job, folder)]
    bar = tqdm(
        total=len(jobs), initial=len(jobs) - len(left), unit="run", disable=not progress, desc=name
    )
    with bar:
        for _ in _carry_out(left, folder, min(count, len(left)), max(1, cores // count)):
            bar.update()
    return [folder / job.folder for job in jobs]


def _is_done(job: Job, folder: Path) -> bool:
    """Whether its runs, one a seed, are there to their end; what is there must be these runs."""
    members = [job]
    if job.config.seeds > 1:
        configs = members_of(job.config)
        members = [Job(f"{job.folder}/seed-{config.seed}", config) for config in configs]
    for some in (job, *members):
        _require_same(some, folder / some.folder)
    return all((folder / some.folder / "metrics.json").exists() for some in members)


def _require_same(job: Job, where: Path) -> None:
    begun = begun_with(where, VAE)
    if begun is None:
        return
    there = begun.to_mapping()
    other = [
        f"{name} = {value!r} (there: {there.get(name)!r})"
        for name, value in job.config.to_mapping().items()
        # What is "auto" has been resolved since.
        if name not in (*WHERE, "data_dir") and value not in ("auto", there.get(name))
    ]
    if other:
        raise ValueError(
            f"{where} holds another run than this table's, with {', '.join(other)}; choose another "
            "--out, or take that folder away"
        )


def _share() -> tuple[int, int]:
    """The number of this process and how many there are, as torchrun says it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def is_one_of_several() -> bool:
    """Whether other processes, started with this one, see to a part of the runs."""
    return _share()[1] > 1


def table_of(name: str) -> Table:
    """The table of that name."""
    if name not in TABLES:
        raise ValueError(f"{name!r}: there is no such table; expected {' or '.join(TABLES)}")
    return TABLES[name]


def _carry_out(jobs: list[Job], folder: Path, workers: int, threads: int) -> Iterator[None]:
    """One after another, or in processes of their own, each with its threads."""
    if workers <= 1:
        yield from (_run(job, folder) for job in jobs)
        return
    # Forked processes would share the locks of the parent's threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=torch.set_num_threads, initargs=(threads,)
    )
    try:
        for done in as_completed([pool.submit(_run, job, folder) for job in jobs]):
            yield done.result()
    finally:
        # After a failure or an interruption, runs that have not begun do not.
        pool.shutdown(cancel_futures=True)


def _run(job: Job, folder: Path) -> None:
    where = folder / job.folder
    begun = (where / "config.toml").exists()
    trained = delta_vae.train(job.config, where, resume=begun, strict=False)
    trained.finish()


def collect(name: str, folder: Path | str) -> dict[str, Any]:
    """The table of the runs below a folder, beside the published one; and the paper's pictures.

    Writes ``table.json`` and, as far as their runs are there, ``figures/*.png``.

    Returns:
        For each column, by latent space: what was published, the same with the constants of its
        KL put right, the paper's setting, and ours; mean and standard deviation over seeds. Of
        the flat torus in table 2, also how many encoders wind once around each angle.

    Raises:
        ValueError: if no run is there, or runs of different lengths are.
    """
    from manifold_ae import plots

    folder, table = Path(folder), table_of(name)
    runs = {
        (setting, manifold): finished(folder / Table.folder(setting, manifold, 0))
        for setting in SETTINGS
        for manifold in SPACES
    }
    measured = {
        cell: [json.loads((path / "metrics.json").read_text(encoding="utf-8")) for path in paths]
        for cell, paths in runs.items()
        if paths
    }
    if not measured:
        raise ValueError(f"{folder} holds no finished run of {name}; run `reproduce {name}` first")
    _require_alike([path for paths in runs.values() for path in paths])
    some = next(path for paths in runs.values() for path in paths)
    first = delta_vae.load(some, read_checkpoint(some), device="cpu")
    content: dict[str, Any] = {
        "title": table.title,
        "seeds": max(map(len, measured.values())),
        "epochs": first.config.epochs,
        "batch_size": first.config.batch_size,
        "importance_samples": first.config.num_samples,
        "machine": _machine(),
        "seconds_of_training": sum(row["seconds"] for rows in measured.values() for row in rows),
    }
    if table.common["data"] == "torus":
        content["winding_determinants_of_the_flat_torus"] = {
            setting: [
                winding_determinant(delta_vae.load(path, read_checkpoint(path), device="cpu"))
                for path in runs[setting, "torus:2"]
            ]
            for setting in SETTINGS
        }
    for key, factor in COLUMNS.items():
        label = key if factor == 1 else f"{key}_x{factor:.0f}"
        content[label] = {
            SPACES[manifold]: _row(table, manifold, key, label, factor, measured)
            for manifold in SPACES
        }
    write_json(folder / "table.json", content)
    for figure, pictures in FIGURES[name].items():
        paths = [(folder / run / "figures" / f"{p}.png", text) for run, p, text in pictures]
        if all(path.exists() for path, _ in paths):
            plots.save(plots.panels(paths), folder / "figures" / f"{figure}.png")
    return content


def _require_alike(folders: list[Path]) -> None:
    """A table of runs of one length, and of as many importance samples."""
    kinds: dict[tuple[int, ...], Path] = {}
    for path in folders:
        config = begun_with(path, VAE)
        if config is not None:
            steps = config.epochs, config.steps_per_epoch, config.batch_size, config.num_samples
            kinds.setdefault(steps, path)
    if len(kinds) > 1:
        listed = "; ".join(f"{path}: {kind}" for kind, path in kinds.items())
        raise ValueError(
            f"runs of several kinds (epochs, steps an epoch, batch, importance samples): {listed}; "
            "gather each kind in a folder of its own"
        )


def finished(some: Path) -> list[Path]:
    """The folders beside that of one run, itself among them, whose runs are done."""
    return sorted(path.parent for path in some.parent.glob("*/metrics.json"))


def _row(
    table: Table,
    manifold: str,
    key: str,
    label: str,
    factor: float,
    measured: dict[tuple[str, str], list[dict[str, Any]]],
) -> dict[str, Any]:
    """One column of a table at one latent space, as published and as measured."""
    row: dict[str, Any] = {}
    published = table.published.get(manifold)
    for name, entry in (
        ("published", published),
        ("published, KL put right", published and published.put_right(manifold)),
    ):
        if entry is not None:
            mean, sd = getattr(entry, label)
            row[name] = {"mean": mean, "sd": sd}
    for setting in SETTINGS:
        if (setting, manifold) in measured:
            # What is not finite is null in a file.
            found = [entry[key] for entry in measured[setting, manifold]]
            row[setting] = spread([math.nan if v is None else v * factor for v in found])
    return row


def winding_determinant(trained: delta_vae.VAERun) -> int | None:
    """Of the simple picture's encoder into the flat torus; None where it is not continuous."""
    picture = data.PeriodicPicture.simple()

    def encode(angles: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(trained.encode(picture.translate(angles))["points"])

    manifold: Any = trained.model.manifold
    try:
        winding = metrics.winding_matrix(encode, manifold, 2)
    except ValueError:
        return None
    found = metrics.degree_from_loops(manifold, winding)
    return None if found is None else found[0]


def _machine() -> dict[str, Any]:
    gpu = torch.cuda.is_available()
    return {
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "torch": torch.__version__,
    }


def table_text(content: dict[str, Any]) -> str:
    """A collected table as lines for people, a block for each column of it."""
    lines = [
        f"{content['title']}: {content['seeds']} seed(s), {content['epochs']} epochs of batch "
        f"{content['batch_size']}, {content['importance_samples']} importance samples"
    ]
    for key, factor in COLUMNS.items():
        label = key if factor == 1 else f"{key}_x{factor:.0f}"
        block = content[label]
        heads = list(dict.fromkeys(name for row in block.values() for name in row))
        lines += ["", f"{label:<16}" + "".join(f"{head:>26}" for head in heads)]
        for space, row in block.items():
            cells = [_cell(row.get(head)) for head in heads]
            lines.append(f"{space:<16}" + "".join(f"{cell:>26}" for cell in cells))
    for setting, found in content.get("winding_determinants_of_the_flat_torus", {}).items():
        if not found:
            continue
        good = sum(abs(d or 0) == 1 for d in found)
        lines.append(f"flat torus, {setting}: {good} of {len(found)} encoders wind once around")
    return "\n".join(lines)


def _cell(value: dict[str, float | None] | None) -> str:
    if value is None:
        return "–"
    tail = "" if value["sd"] is None else f" ± {value['sd']:.2f}"
    return f"{value['mean']:.2f}{tail}"
