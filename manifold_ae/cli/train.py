"""``train vae``, ``train hae``, ``train diffusion``: options are fields of a configuration."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from manifold_ae.experiments import (
    DIVERGENCES,
    HAE,
    MODELS,
    NETWORKS,
    PADDINGS,
    PHIS,
    POSTERIORS,
    SCHEDULES,
    SPLITS,
    STARTS,
    VAE,
    Configuration,
    Diffusion,
)

__all__ = ["fields", "fresh_folder", "options", "train"]


@click.group()
def train() -> None:
    """Train a model."""


def options(command: Callable[..., Any], options: list[Callable[..., Any]]) -> Callable[..., Any]:
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def fields(kind: type[Configuration]) -> Callable[..., Callable[..., Any]]:
    """Makes options for the fields of a configuration; not given, the configuration decides."""
    defaults = kind()

    def field(name: str, flag: str | None = None, **options: Any) -> Callable[..., Any]:
        default = getattr(defaults, name)
        if "type" not in options:
            options["type"] = str if default is None else type(default)
        options["help"] = f"{options['help']}  [default: {default}]"
        return click.option(flag or f"--{name.replace('_', '-')}", name, default=None, **options)

    return field


SEEDS = "Runs with as many seeds, from --seed on, at once: RUN/seed-S."


def _training(
    field: Callable[..., Callable[..., Any]], score: str | None
) -> list[Callable[..., Any]]:
    """The options that every kind of training has, and those of trials with a score."""
    trials = (
        []
        if score is None
        else [
            field("kl_warmup", help="Part of training over which the KL's weight rises to 1."),
            field("seeds", help=SEEDS),
            field("restarts", help=f"Short trials, of which the best by {score} goes on."),
            field("restart_epochs", help="Epochs of a trial."),
        ]
    )
    return [
        field("epochs", help="Epochs."),
        field("batch_size", help="Batch size."),
        field("lr", help="Learning rate of Adam."),
        field(
            "lr_schedule",
            type=click.Choice(["constant", "cosine", "one-cycle"]),
            help="How the learning rate goes on.",
        ),
        field("seed", help="Seed of weights, order and noise."),
        *trials,
        field("device", help="auto, cpu, cuda or cuda:K."),
        field("precision", help="32-true, bf16-mixed or 16-mixed."),
        field("devices", help="How many of them, each with batches of its own."),
        field("compile", flag="--compile/--no-compile", help="Compile the training step."),
    ]


def _running() -> list[Callable[..., Any]]:
    return [
        click.option(
            "--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/...]"
        ),
        click.option("--resume", is_flag=True, help="Go on with the run in --out."),
        click.option("--config", type=click.Path(path_type=Path, exists=True), help="TOML file."),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other field."
        ),
        click.option(
            "--dry-run", is_flag=True, help="Build everything, try one step, write nothing."
        ),
        click.option("--quiet", is_flag=True, help="No progress bar."),
    ]


def _vae_options(command: Callable[..., Any]) -> Callable[..., Any]:
    field = fields(VAE)
    return options(
        command,
        [
            field(
                "manifold",
                help="Latent space; see `list manifolds`. circle is the name of S¹: sphere:1, "
                "torus:1 and projective:1 are the same space. torus:1*euclidean:1 is an angle and "
                "a nuisance beside it.",
            ),
            field("data", help="digits, mnist, torus, or PATH.npy, PATH.npz, PATH.csv."),
            click.option("--data-dir", type=click.Path(), help="Folder with the four MNIST files."),
            field(
                "covariates",
                help="Known of a row and given to the model: columns of a .csv file as speed,gain, "
                "an array of a .npz file, or another PATH.npy.",
            ),
            field("exposure", help="Likewise: by what the rates of a row's counts are multiplied."),
            field("groups", help="Likewise: the trial or session of a row, for --split groups."),
            field("times", help="Likewise: time stamps, rising within a group."),
            field("labels", help="Likewise: colours of pictures, never seen by the model."),
            field(
                "missing",
                type=click.Choice(["refuse", "mask"]),
                help="What NaN is: an error, or a value that is missing.",
            ),
            field(
                "split",
                type=click.Choice(SPLITS),
                help="blocks of rows, or whole groups, for recordings.",
            ),
            field("likelihood", help="Observation model; see `list likelihoods`."),
            field("scaling", help="none, range, standard or max."),
            field("network", type=click.Choice(NETWORKS), help="Encoder and decoder."),
            field("padding", type=click.Choice(PADDINGS), help="Border, for --network conv."),
            field("start", type=click.Choice(STARTS), help="Where encoders begin."),
            field("posterior", type=click.Choice(POSTERIORS), help="Posterior."),
            field("divergence", type=click.Choice(DIVERGENCES), help="KL term of the loss."),
            field("sequence", help="Rows of a window of a prior along time; 0 for none."),
            field("num_importance", help="Posterior samples of the bound trained; 1 for the ELBO."),
            field("time_bound", type=click.Choice(["soft", "paper"]), help="Bound on log t."),
            field("picture", type=click.Choice(["simple", "fourier"]), help="For --data torus."),
            field("order", help="Highest Fourier order N of a picture."),
            field("discount", help="Discount γ of a picture's higher orders."),
            field("translations", type=click.Choice(["fresh", "fixed"]), help="Of a picture."),
            field("noise", help="Pixel noise on pictures."),
            field("steps_per_epoch", help="Steps an epoch where data are drawn afresh."),
            field("num_samples", help="Importance samples for the final log-likelihood."),
            field(
                "patience",
                help="Stop after so many epochs without a better ELBO of rows that are held out of "
                "training, a tenth, and keep the best weights; 0 for never. With --sequence, of "
                "windows of these rows: hold out stretches of time by --split blocks.",
            ),
            *_training(field, "training ELBO"),
            *_running(),
        ],
    )


def _hae_options(command: Callable[..., Any]) -> Callable[..., Any]:
    field = fields(HAE)
    return options(
        command,
        [
            field("data", help="A world, see `list worlds`, or PATH.npz."),
            click.option(
                "--world",
                multiple=True,
                metavar="KEY=VALUE",
                help="An option of the world, as factors=x,y,hue or size=16.",
            ),
            field("group", help="Group of the actions in PATH.npz; see `list groups`."),
            field("traces", help="Traces drawn to train on."),
            field("steps", help="Actions in a trace."),
            field("largest", help="Largest angle of an action, in radians."),
            field("likelihood", help="Observation model; see `list likelihoods`."),
            field("network", type=click.Choice(NETWORKS[:2]), help="Encoder and decoder."),
            field("padding", type=click.Choice(PADDINGS), help="Border, for --network conv."),
            field("model", type=click.Choice(MODELS), help="What moves latents."),
            field("phi", type=click.Choice(PHIS), help="Map from actions to generators."),
            field("blocks", help="Sizes as 2,2,1; auto, soft or none."),
            field("size", help="Size of the representation, where blocks do not say it."),
            field(
                "orthogonal",
                flag="--orthogonal/--general",
                type=bool,
                help="Kind of matrices; by default orthogonal where the group is compact.",
            ),
            field("free", help="Further latents that no action moves."),
            field("scramble", type=int, help="Seed of a network that hides the actions."),
            field("manifold", help="Latent manifold of a variational model."),
            field("prediction_weight", help="Weight of the prediction term."),
            field("hold_out", help="Of angles, left out of training: combinations or actions."),
            field("horizon", help="Steps of the longest rollout."),
            *_training(field, "training loss"),
            *_running(),
        ],
    )


def _diffusion_options(command: Callable[..., Any]) -> Callable[..., Any]:
    field = fields(Diffusion)
    return options(
        command,
        [
            field("data", help="mixture, moons, s-curve, digits, mnist, torus, or PATH.npy."),
            click.option("--data-dir", type=click.Path(), help="Folder with the four MNIST files."),
            field("split", type=click.Choice(["random", "blocks"]), help="blocks for recordings."),
            field("scaling", help="none, range, standard, max or overall."),
            field("schedule", type=click.Choice(SCHEDULES), help="Of the noise."),
            field("steps", help="Steps of noising, T."),
            field("width", help="Of the denoiser's layers."),
            field("depth", help="Of the denoiser, in blocks."),
            field("ema", help="What a step keeps of the average of the weights."),
            field("steps_per_epoch", help="Steps an epoch, the least in passes over few data."),
            field("calls", help="Calls of the denoiser for a sample."),
            field("eta", help="η of the steps of sampling."),
            field("num_samples", help="Samples held against the data in the end."),
            field("seeds", help=SEEDS),
            *_training(field, None),
            *_running(),
        ],
    )


@train.command("vae")
@_vae_options
def train_vae(**given: Any) -> None:
    """Train a ΔVAE (or, on euclidean:d, a Gaussian VAE), evaluate it and draw it.

    Options come before --set, --set before --config, --config before the defaults. With --resume,
    the run's own configuration stands, and only what says where it runs may change.
    """
    _train(VAE, given, lambda config: f"{Path(config.data).stem}-{config.manifold}")


@train.command("hae")
@_hae_options
def train_hae(**given: Any) -> None:
    """Train a homomorphism autoencoder on traces of observations and actions, evaluate, draw.

    Options come before --set, --set before --config, --config before the defaults. With --resume,
    the run's own configuration stands, and only what says where it runs may change.
    """
    given["world"] = given["world"] or None
    _train(HAE, given, lambda config: f"{Path(config.data).stem}-{config.model}")


@train.command("diffusion")
@_diffusion_options
def train_diffusion(**given: Any) -> None:
    """Train a diffusion model on points, digits or arrays of yours, evaluate it and draw it.

    Options come before --set, --set before --config, --config before the defaults. With --resume,
    the run's own configuration stands, and only what says where it runs may change.
    """
    _train(Diffusion, given, lambda config: f"{Path(config.data).stem}-diffusion")


def _train(kind: type[Any], given: dict[str, Any], name: Callable[[Any], str]) -> None:
    """Build the configuration from what was given, train, evaluate, draw."""
    out, resume, config = given.pop("out"), given.pop("resume"), given.pop("config")
    settings, dry_run, quiet = given.pop("settings"), given.pop("dry_run"), given.pop("quiet")
    values: dict[str, Any] = {}
    if resume:
        if out is None:
            raise click.UsageError("--resume needs --out, the folder of the run to go on with")
        if not (out / "config.toml").exists():
            raise click.UsageError(f"--resume: {out} holds no run (no config.toml)")
        values |= kind.read(out / "config.toml")
    if config is not None:
        values |= kind.read(config)
    values |= dict(kind.parse_setting(setting) for setting in settings)
    values |= {name: value for name, value in given.items() if value is not None}
    experiment = kind.from_mapping(values)

    from manifold_ae import run

    if dry_run:
        click.echo(run.describe(experiment))
        return
    out = out or fresh_folder(name(experiment))
    trained = run.train(experiment, out, resume=resume, progress=not quiet)
    if trained.is_main:
        click.echo(trained.table(trained.finish(progress=not quiet)))
        click.echo(f"run in {out}, pictures in {trained.pictures}")


def fresh_folder(name: str) -> Path:
    """runs/NAME-K with the first K that is free."""
    name = name.replace(":", "").replace("*", "x")
    return next(
        folder
        for k in range(1, sys.maxsize)
        if not (folder := Path("runs") / f"{name}-{k}").exists()
    )
