"""``select``: which latent manifold fits the data."""

from pathlib import Path
from typing import Any

import click

from manifold_ae.cli.options import (
    Option,
    add,
    configured,
    data_folder,
    described,
    fields,
    fresh_folder,
    running,
)
from manifold_ae.experiments import NETWORKS, Select

__all__ = ["select"]


def _options(command: Option) -> Option:
    field = fields(Select)
    return add(
        command,
        [
            click.option("--data", help="PATH.npy, .npz, .csv, or a data set.  [required]"),
            data_folder(),
            click.option(
                "--manifolds",
                metavar="A,B,...",
                help="Candidates; Euclidean baselines join.  "
                f"[default: {','.join(Select().manifolds)}]",
            ),
            *described(field, "covariates", "exposure", "groups", "times", "labels", "missing"),
            *described(field, "split", "test_fraction", "likelihood", "scaling"),
            *described(field, "network", type=click.Choice(NETWORKS[:2])),
            field("steps", help="Training steps of a candidate."),
            *described(field, "batch_size"),
            field("lr", help="Learning rate of Adam, at its peak."),
            field("restarts", help="Trials of which the best, by training ELBO, goes on."),
            field("num_samples", help="Importance samples for the log-likelihood of a row."),
            field("landmarks", help="Rows that homology is computed on; 0 for none."),
            *described(field, "seed", "device"),
            *running("selection", dry_run=False),
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
    quiet = given.pop("quiet")
    if given["manifolds"] is not None:
        given["manifolds"] = tuple(filter(None, map(str.strip, given["manifolds"].split(","))))
    values = configured(Select, given, "selection")
    out, resume = given["out"], given["resume"]
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
    if step := run.next_step(chosen, out, asked):
        click.echo(step)
