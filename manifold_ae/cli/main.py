"""Commands. torch is imported by those that compute, when they are called."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from manifold_ae import __version__
from manifold_ae.cli.reproduce import reproduce
from manifold_ae.cli.select import select
from manifold_ae.cli.train import train
from manifold_ae.experiments import HAE, VAE, Diffusion, Select

#: What a command that was stopped goes on by, of those that save what is done.
GOES_ON = {"train": "--resume", "select": "--resume", "reproduce": "the same command"}


class _Group(click.Group):
    """Turns the errors that a user can mend into one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, NotImplementedError, ModuleNotFoundError) as error:
            raise click.ClickException(str(error)) from error
        except RuntimeError as error:
            if type(error).__name__ != "NonFiniteLossError":
                raise
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            again = GOES_ON.get(ctx.invoked_subcommand or "")
            kept = f"; what was saved is kept, and {again} goes on from there" if again else ""
            raise click.ClickException(f"stopped{kept}") from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="manifold-ae")
def main() -> None:
    """Autoencoders with a latent space of known shape.

    \b
    manifold-ae train vae --manifold sphere:2 --data digits --out runs/sphere
    manifold-ae train hae --data sprites --out runs/sprites
    manifold-ae train diffusion --data mixture --out runs/mixture
    manifold-ae select --data counts.npy --likelihood poisson
    manifold-ae evaluate runs/sphere
    manifold-ae encode runs/sphere --data recording.npy -o latents.npz
    """


main.add_command(train)
main.add_command(reproduce)
main.add_command(select)

_RUN = click.argument("folder", metavar="RUN", type=click.Path(exists=True, path_type=Path))
_DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")


@main.command()
@_RUN
@click.option(
    "--num-samples",
    type=click.IntRange(1),
    help="Importance samples of a ΔVAE, samples of a diffusion model.",
)
@click.option(
    "--topology", is_flag=True, help="Whether a ΔVAE's encoder captures the data's shape."
)
@click.option(
    "--coverage",
    metavar="[TRUTH.npy]",
    is_flag=False,
    flag_value="",
    help="Whether 90 % regions of a ΔVAE hold the true positions, points or angles of all rows; "
    "by itself, the data's labels.",
)
@click.option(
    "--consistency",
    "others",
    metavar="OTHER",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Another run, whose latents of these data are compared; may be given again.",
)
@click.option(
    "--off-manifold", "off", is_flag=True, help="Which test rows a ΔVAE finds too unlikely."
)
@click.option(
    "--cosmoothing", "hold_out", is_flag=True, help="How well features are told from others."
)
@_DEVICE
def evaluate(
    folder: Path,
    num_samples: int | None,
    topology: bool,
    coverage: str | None,
    others: tuple[Path, ...],
    off: bool,
    hold_out: bool,
    device: str,
) -> None:
    """What RUN reaches on its test data: of a ΔVAE the ELBO, KL, MSE and log-likelihood; of an HAE
    the errors of rollouts and of the representation; of a diffusion model the distance of samples
    to data."""
    from manifold_ae import run

    loaded = run.load(folder, device=device)
    answers = run.ask(
        loaded,
        topology=topology,
        coverage=run.read_truth(coverage) if coverage else coverage is not None,
        others={str(other): run.load(other, device=device) for other in others},
        off=off,
        hold_out=hold_out,
    )
    metrics = loaded.evaluate(num_samples=num_samples, progress=True)
    metrics |= run.answered_before(folder, metrics)
    metrics |= {name: answer.record for name, answer in answers.items()}
    run.write_json(folder / "metrics.json", metrics)
    click.echo(loaded.table(metrics))
    for answer in answers.values():
        click.echo(answer.words)


@main.command()
@_RUN
@click.option(
    "--data",
    "path",
    required=True,
    help="PATH.npy, .npz or .csv, or a data set's name; of an HAE, PATH.npz.",
)
@click.option("--covariates", help="What holds those of these rows, if not as in training.")
@click.option("--exposure", help="Likewise.")
@click.option("--groups", help="Likewise, of trials.")
@click.option("--times", help="Likewise, of time stamps.")
@click.option("--smooth", is_flag=True, help="Let the rows before and after tell of each row.")
@click.option(
    "--refined", is_flag=True, help="By the model's own posterior, in place of the encoder's."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Of the motion: variance per unit of time.",
)
@click.option("--points", "count", type=click.IntRange(1), help="To smooth over, about so many.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("latents.npz"),
    show_default=True,
    help="PATH.npz or PATH.csv.",
)
@_DEVICE
def encode(
    folder: Path,
    path: str,
    output: Path,
    device: str,
    **options: Any,
) -> None:
    """Latents of every row of a data file: of a ΔVAE points, angles, posterior times and radii; of
    an HAE those of every observation of the traces. As .npz, or as .csv with a column a number.

    With --refined, points and radii are those of the model's own posterior, whose regions hold what
    they say where the decoder is right; those of the encoder are too small where rows are few.

    With --smooth, rows are in the order of time, and each lies where all of them say, by a motion
    on the manifold, at the rate that makes the rows likeliest, or at --rate.
    """
    if output.suffix not in (".npz", ".csv"):
        raise click.BadParameter(f"{output} ends in neither .npz nor .csv", param_hint="--output")
    from manifold_ae import run

    given = {name: value for name, value in options.items() if value}
    arrays = run.load(folder, device=device).encode_file(path, progress=True, **given)
    save = run.save_table if output.suffix == ".csv" else run.save_arrays
    save(output, arrays)
    shapes = ", ".join(f"{name} {value.shape}" for name, value in arrays.items())
    click.echo(f"{output}: {shapes}")


@main.command()
@_RUN
@_DEVICE
def plot(folder: Path, device: str) -> None:
    """Draw RUN's pictures into its figures/."""
    from manifold_ae import run

    for path in run.load(folder, device=device).draw():
        click.echo(path)


@main.command()
@_RUN
@click.option("-n", "count", type=click.IntRange(1), default=64, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="PATH.npy; of several seeds, in folders seed-S beside it.  [default: RUN/samples.npy]",
)
@click.option("--calls", type=click.IntRange(1), help="Steps, of a diffusion model.")
@click.option("--eta", type=click.FloatRange(0), help="η of its steps: 0 for none of new noise.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@_DEVICE
def sample(
    folder: Path,
    count: int,
    seed: int,
    output: Path | None,
    calls: int | None,
    eta: float | None,
    quiet: bool,
    device: str,
) -> None:
    """New observations from RUN's prior, as an array and a picture.

    Of a diffusion model also a picture of the chain that leads to them.
    """
    from manifold_ae import run

    options = {"calls": calls, "eta": eta}
    given: dict[str, Any] = {k: value for k, value in options.items() if value is not None}
    loaded = run.load(folder, device=device)
    for path in loaded.save_samples(
        count, output or folder / "samples.npy", seed=seed, progress=not quiet, **given
    ):
        click.echo(path)


LISTS = ["manifolds", "data", "worlds", "groups", "likelihoods", "experiments"]


@main.command("list")
@click.argument(
    "what",
    required=False,
    type=click.Choice(LISTS),
)
def list_(what: str | None) -> None:
    """What there is: manifolds, data, worlds, groups, likelihoods, experiments."""
    for heading in [what] if what else LISTS:
        entries = _entries(heading)
        if not what:
            click.secho(heading, bold=True)
        width = max(map(len, entries))
        for name, line in entries.items():
            click.echo(f"  {name:<{width}}  {line}")


def _entries(heading: str) -> dict[str, str]:
    if heading == "experiments":
        entries = {}
        for name, kind in {
            "vae": VAE,
            "hae": HAE,
            "diffusion": Diffusion,
            "select": Select,
        }.items():
            keys = ", ".join(field.name for field in dataclasses.fields(kind))
            entries[name] = f"{(kind.__doc__ or '').splitlines()[0]} Keys: {keys}"
        return entries
    if heading == "manifolds":
        from manifold_ae import manifolds

        return manifolds.names()
    if heading == "data":
        from manifold_ae import data

        return data.names()
    if heading == "worlds":
        from manifold_ae.data import worlds

        return worlds.names()
    if heading == "groups":
        from manifold_ae import groups

        return groups.names()
    from manifold_ae.models import likelihoods

    return likelihoods.names()
