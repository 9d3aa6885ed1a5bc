"""Commands. torch is imported by those that compute, when they are called."""

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from manifold_ae import __version__
from manifold_ae.experiments import DIVERGENCES, POSTERIORS, VAE

DEFAULTS = VAE()


class _Group(click.Group):
    """Turns the errors that a user can mend into one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, NotImplementedError) as error:
            raise click.ClickException(str(error)) from error
        except RuntimeError as error:
            if type(error).__name__ != "NonFiniteLossError":
                raise
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            raise click.ClickException(
                "stopped; what was saved is kept, and --resume goes on from there"
            ) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="manifold-ae")
def main() -> None:
    """Autoencoders with a latent space of known shape.

    \b
    manifold-ae train vae --manifold sphere:2 --data digits --out runs/sphere
    manifold-ae evaluate runs/sphere
    manifold-ae encode runs/sphere --data recording.npy -o latents.npz
    """


@main.group()
def train() -> None:
    """Train a model."""


def _field(name: str, flag: str | None = None, **options: Any) -> Callable[..., Any]:
    """An option for a field of the configuration; not given, the configuration decides."""
    default = getattr(DEFAULTS, name)
    options.setdefault("type", type(default))
    options["help"] = f"{options['help']}  [default: {default}]"
    return click.option(flag or f"--{name.replace('_', '-')}", name, default=None, **options)


def _vae_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        _field("manifold", help="Latent space; see `list manifolds`."),
        _field("data", help="digits, mnist, torus, or PATH.npy."),
        click.option("--data-dir", type=click.Path(), help="Folder with the four MNIST files."),
        _field("split", type=click.Choice(["random", "blocks"]), help="blocks for recordings."),
        _field("likelihood", help="Observation model; see `list likelihoods`."),
        _field("scaling", help="none, range, standard or max."),
        _field("posterior", type=click.Choice(POSTERIORS), help="Posterior."),
        _field("divergence", type=click.Choice(DIVERGENCES), help="KL term of the loss."),
        _field("time_bound", type=click.Choice(["soft", "paper"]), help="Bound on log t."),
        _field("picture", type=click.Choice(["simple", "fourier"]), help="For --data torus."),
        _field("order", help="Highest Fourier order N of a picture."),
        _field("discount", help="Discount γ of a picture's higher orders."),
        _field("translations", type=click.Choice(["fresh", "fixed"]), help="Of a picture."),
        _field("noise", help="Pixel noise on pictures."),
        _field("epochs", help="Epochs."),
        _field("batch_size", help="Batch size."),
        _field("steps_per_epoch", help="Steps an epoch where data are drawn afresh."),
        _field("lr", help="Learning rate of Adam."),
        _field(
            "lr_schedule",
            type=click.Choice(["constant", "cosine", "one-cycle"]),
            help="Its course.",
        ),
        _field("kl_warmup", help="Part of training over which the KL's weight rises to 1."),
        _field("seed", help="Seed of weights, order and noise."),
        _field("restarts", help="Short trials, the best by training ELBO goes on."),
        _field("restart_epochs", help="Epochs of a trial."),
        _field("num_samples", help="Importance samples for the final log-likelihood."),
        _field("device", help="auto, cpu, cuda or cuda:K."),
        _field("precision", help="32-true, bf16-mixed or 16-mixed."),
        _field("devices", help="Number of devices; only 1 for now."),
        _field("compile", flag="--compile/--no-compile", help="Compile the training step."),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


@train.command("vae")
@_vae_options
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/...]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--config", type=click.Path(path_type=Path, exists=True), help="TOML file.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other field.")
@click.option("--dry-run", is_flag=True, help="Build everything, try one step, write nothing.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def train_vae(
    out: Path | None,
    resume: bool,
    config: Path | None,
    settings: tuple[str, ...],
    dry_run: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a ΔVAE (or, on euclidean:d, a Gaussian VAE), evaluate it and draw it.

    Options come before --set, --set before --config, --config before the defaults. With --resume,
    the run's own configuration stands, and only what says where it runs may change.
    """
    values: dict[str, Any] = {}
    if resume:
        if out is None:
            raise click.UsageError("--resume needs --out, the folder of the run to go on with")
        if not (out / "config.toml").exists():
            raise click.UsageError(f"--resume: {out} holds no run (no config.toml)")
        values |= VAE.read(out / "config.toml")
    if config is not None:
        values |= VAE.read(config)
    values |= dict(VAE.parse_setting(setting) for setting in settings)
    values |= {name: value for name, value in given.items() if value is not None}
    experiment = VAE.from_mapping(values)
    if dry_run:
        _dry_run(experiment)
        return
    out = out or _fresh_folder(experiment)

    from manifold_ae import run

    trained = run.train(experiment, out, resume=resume, progress=not quiet)
    if trained.is_main:
        metrics = trained.finish(progress=not quiet)
        _print_metrics(metrics)
        click.echo(f"run in {out}, pictures in {out / 'figures'}")


def _fresh_folder(experiment: VAE) -> Path:
    """runs/DATA-MANIFOLD-K with the first K that is free."""
    data = Path(experiment.data).stem
    name = f"{data}-{experiment.manifold}".replace(":", "").replace("*", "x")
    return next(
        folder
        for k in range(1, sys.maxsize)
        if not (folder := Path("runs") / f"{name}-{k}").exists()
    )


def _dry_run(experiment: VAE) -> None:
    from manifold_ae import run

    click.echo(run.describe(experiment))


def _print_metrics(metrics: dict[str, Any]) -> None:
    names = ("elbo", "kl", "mse", "log_likelihood", "mean_log_time", "seconds")
    width = max(map(len, names))
    for name in names:
        spread = metrics.get(f"{name}_se")
        tail = "" if spread is None else f"  ± {spread:.2g}"
        click.echo(f"{name:>{width}}  {metrics[name]:.6g}{tail}")


_RUN = click.argument("folder", metavar="RUN", type=click.Path(exists=True, path_type=Path))
_DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")


@main.command()
@_RUN
@click.option("--num-samples", type=click.IntRange(1), help="Importance samples an observation.")
@_DEVICE
def evaluate(folder: Path, num_samples: int | None, device: str) -> None:
    """ELBO, KL, MSE and log-likelihood of RUN on its test data."""
    from manifold_ae import run

    loaded = run.load(folder, device=device)
    metrics = loaded.evaluate(num_samples=num_samples, progress=True)
    run.write_json(folder / "metrics.json", metrics)
    _print_metrics(metrics)


@main.command()
@_RUN
@click.option("--data", "path", required=True, help="PATH.npy, or a data set's name.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("latents.npz"))
@_DEVICE
def encode(folder: Path, path: str, output: Path, device: str) -> None:
    """Latent points, angles, posterior times and radii for every row of a data file."""
    from manifold_ae import run

    arrays = run.encode_file(run.load(folder, device=device), path)
    run.save_arrays(output, arrays)
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
@click.option("-o", "--output", type=click.Path(path_type=Path), help="[default: RUN/samples.npy]")
@_DEVICE
def sample(folder: Path, count: int, seed: int, output: Path | None, device: str) -> None:
    """New observations from RUN's prior and decoder, as an array and a picture."""
    from manifold_ae import run

    for path in run.save_samples(
        run.load(folder, device=device), count, output or folder / "samples.npy", seed=seed
    ):
        click.echo(path)


@main.command("list")
@click.argument(
    "what",
    required=False,
    type=click.Choice(["manifolds", "data", "likelihoods", "experiments"]),
)
def list_(what: str | None) -> None:
    """What there is: manifolds, data, likelihoods, experiments."""
    for heading in [what] if what else ["manifolds", "data", "likelihoods", "experiments"]:
        entries = _entries(heading)
        if not what:
            click.secho(heading, bold=True)
        width = max(map(len, entries))
        for name, line in entries.items():
            click.echo(f"  {name:<{width}}  {line}")


def _entries(heading: str) -> dict[str, str]:
    if heading == "experiments":
        fields = {field.name: str(field.default) for field in dataclasses.fields(VAE)}
        return {"vae": f"{(VAE.__doc__ or '').splitlines()[0]} Keys: {', '.join(fields)}"}
    if heading == "manifolds":
        from manifold_ae import manifolds

        return manifolds.names()
    if heading == "data":
        from manifold_ae import data

        return data.names()
    from manifold_ae.models import likelihoods

    return likelihoods.names()
