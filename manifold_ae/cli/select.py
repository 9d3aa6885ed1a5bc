"""``select``: which latent manifold fits the data."""

from pathlib import Path
from typing import Any

import click

from manifold_ae.cli.train import fields, fresh_folder, options
from manifold_ae.experiments import NETWORKS, SPLITS, Select

__all__ = ["select"]


def _options(command: Any) -> Any:
    field = fields(Select)
    return options(
        command,
        [
            click.option("--data", help="PATH.npy, .npz, .csv, or a data set.  [required]"),
            click.option("--data-dir", type=click.Path(), help="Folder with the four MNIST files."),
            click.option(
                "--manifolds",
                metavar="A,B,...",
                help="Candidates; Euclidean baselines join.  "
                f"[default: {','.join(Select().manifolds)}]",
            ),
            field(
                "covariates",
                help="Columns, or a file: known of a row, and no structure; see `train vae`.",
            ),
            field("exposure", help="Likewise: by what the rates of a row are multiplied."),
            field("groups", help="Likewise: the trial of a row."),
            field(
                "missing",
                type=click.Choice(["refuse", "mask"]),
                help="What NaN is: an error, or a value that is missing.",
            ),
            field("split", type=click.Choice(SPLITS), help="blocks for recordings, or groups."),
            field("test_fraction", help="Part of the rows that is held out."),
            field("likelihood", help="Observation model; see `list likelihoods`."),
            field("scaling", help="none, range, standard or max."),
            field("network", type=click.Choice(NETWORKS[:2]), help="Encoder and decoder."),
            field("steps", help="Training steps of a candidate."),
            field("batch_size", help="Batch size."),
            field("lr", help="Learning rate of Adam, at its peak."),
            field("restarts", help="Trials of which the best, by training ELBO, goes on."),
            field("num_samples", help="Importance samples for the log-likelihood of a row."),
            field("landmarks", help="Rows that homology is computed on; 0 for none."),
            field("seed", help="Seed of weights, order and noise."),
            field("device", help="auto, cpu, cuda or cuda:K."),
            click.option("--out", type=click.Path(path_type=Path), help="[default: runs/...]"),
            click.option("--resume", is_flag=True, help="Go on with the selection in --out."),
            click.option(
                "--config", type=click.Path(path_type=Path, exists=True), help="TOML file."
            ),
            click.option(
                "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other field."
            ),
            click.option("--quiet", is_flag=True, help="No progress bar."),
        ],
    )


@click.command("select")
@_options
def select(**given: Any) -> None:
    """Which manifold fits the data: a table, a finding of two sentences, a figure.

    Every candidate is trained in the same way and judged by the log-likelihood of held-out rows,
    beside Euclidean baselines, a model without a latent, and data whose features are shuffled.
    "Undecided" and "none of these" are answers. What was stopped goes on with --resume.

    \b
    manifold-ae select --data counts.npy --likelihood poisson --manifolds circle,torus:2,so3
    """
    out, resume, config = given.pop("out"), given.pop("resume"), given.pop("config")
    settings, quiet = given.pop("settings"), given.pop("quiet")
    values: dict[str, Any] = {}
    if resume:
        if out is None or not (out / "config.toml").exists():
            raise click.UsageError("--resume needs --out, the folder of a selection")
        values |= Select.read(out / "config.toml")
    if config is not None:
        values |= Select.read(config)
    values |= dict(Select.parse_setting(setting) for setting in settings)
    if given["manifolds"] is not None:
        given["manifolds"] = tuple(filter(None, map(str.strip, given["manifolds"].split(","))))
    values |= {name: value for name, value in given.items() if value is not None}
    if "data" not in values:
        raise click.UsageError("Missing option '--data': PATH.npy, or a data set's name")
    asked = Select.from_mapping(values)

    from manifold_ae import run

    out = out or fresh_folder(f"{Path(asked.data).stem}-select")
    chosen = run.select(asked, out, resume=resume, progress=not quiet)
    click.echo(run.selection_table(chosen))
    for sentence in (chosen.finding, *chosen.remarks):
        click.echo(sentence)
    click.echo(f"selection in {out}, picture in {out / 'figures'}")
