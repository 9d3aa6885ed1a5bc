"""``reproduce``: the tables of the paper."""

from pathlib import Path

import click

from manifold_ae.experiments.paper import PRESETS, SETTING_NAMES, SPACES, TABLES

__all__ = ["reproduce"]


@click.command()
@click.argument("name", type=click.Choice(sorted(TABLES)))
@click.option("--preset", type=click.Choice(PRESETS), default="quick", show_default=True)
@click.option("--seeds", type=click.IntRange(1), help="Runs of each kind, not the preset's.")
@click.option("--epochs", type=click.IntRange(1), help="Of every run, not the preset's.")
@click.option(
    "--manifold",
    "manifolds",
    type=click.Choice(list(SPACES)),
    metavar="NAME",
    multiple=True,
    help=f"Of this latent space alone, of {', '.join(SPACES)}; several times for several.",
)
@click.option(
    "--setting",
    "settings",
    type=click.Choice(list(SETTING_NAMES.values())),
    multiple=True,
    help="In this setting alone.  [default: both]",
)
@click.option("--data-dir", type=click.Path(), help="Folder with the four MNIST files.")
@click.option("--out", type=click.Path(path_type=Path), help="[default: runs/NAME-PRESET]")
@click.option("--workers", type=click.IntRange(1), help="Processes at once; one a core.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option("--collect", "only", is_flag=True, help="Gather the runs that are done; train none.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def reproduce(
    name: str,
    preset: str,
    seeds: int | None,
    epochs: int | None,
    manifolds: tuple[str, ...],
    settings: tuple[str, ...],
    data_dir: str | None,
    out: Path | None,
    workers: int | None,
    device: str,
    only: bool,
    quiet: bool,
) -> None:
    """Tables 1 (MNIST) and 2 (a periodic picture) of the ΔVAE paper, ours beside the published.

    Runs that are done are not done again: what was stopped goes on with the same command. Across
    processes or machines, start it by torchrun with the same --out; then gather by --collect.

    \b
    manifold-ae reproduce table2
    torchrun --nproc-per-node 8 -m manifold_ae reproduce table1 --preset paper --out runs/table1
    manifold-ae reproduce table1 --out runs/table1 --collect
    """
    from manifold_ae import run

    if only and (manifolds or settings):
        raise click.UsageError(
            "--collect gathers all runs that are done: leave --manifold and --setting out"
        )
    folder = out or Path("runs") / f"{name}-{preset}"
    if not only:
        done = run.reproduce(
            name,
            folder,
            preset=preset,
            seeds=seeds,
            epochs=epochs,
            manifolds=manifolds,
            settings=settings,
            data_dir=data_dir,
            device=device,
            workers=workers,
            progress=not quiet,
        )
        if run.is_one_of_several():
            click.echo(
                f"{len(done)} runs done; gather all with: manifold-ae reproduce {name} "
                f"--out {folder} --collect"
            )
            return
    click.echo(run.table_text(run.collect(name, folder)))
    click.echo(f"table in {folder / 'table.json'}, pictures in {folder / 'figures'}")
