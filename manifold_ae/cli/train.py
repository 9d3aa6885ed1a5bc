"""``train vae``, ``train hae``, ``train diffusion``: options are fields of a configuration."""

from collections.abc import Callable
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
from manifold_ae.experiments import (
    COURSES,
    DIVERGENCES,
    HAE,
    MODELS,
    NETWORKS,
    PHIS,
    POSTERIORS,
    SCHEDULES,
    STARTS,
    VAE,
    Diffusion,
)

__all__ = ["train"]

SEEDS = "Runs with as many seeds, from --seed on, at once: RUN/seed-S."


class _Train(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.option_name} comes after what is trained: manifold-ae train vae "
                f"{error.option_name} ...; there are {', '.join(self.list_commands(ctx))}",
                ctx,
            ) from None


@click.group(cls=_Train)
def train() -> None:
    """Train a model."""


def _training(
    field: Callable[..., Option], score: str | None, courses: tuple[str, ...] = COURSES
) -> list[Option]:
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
        *described(field, "batch_size", "lr"),
        field("lr_schedule", type=click.Choice(courses), help="How the learning rate goes on."),
        *described(field, "seed"),
        *trials,
        *described(field, "device"),
        field("precision", help="32-true, bf16-mixed or 16-mixed."),
        field("devices", help="How many of them, each with batches of its own."),
        field("compile", flag="--compile/--no-compile", help="Compile the training step."),
    ]


def _vae_options(command: Option) -> Option:
    field = fields(VAE)
    return add(
        command,
        [
            field(
                "manifold",
                help="Latent space; see `list manifolds`. circle is the name of S¹: sphere:1 and "
                "torus:1 are the same space, projective:1 a circle of half its length. "
                "torus:1*euclidean:1 is an angle and a nuisance beside it.",
            ),
            field("data", help="digits, mnist, torus, poses, or PATH.npy, PATH.npz, PATH.csv."),
            data_folder(),
            *described(field, "covariates", "exposure", "groups", "times", "labels", "missing"),
            *described(field, "split", "likelihood", "scaling", "network", "padding"),
            field("start", type=click.Choice(STARTS), help="Where encoders begin."),
            field("posterior", type=click.Choice(POSTERIORS), help="Posterior."),
            field("divergence", type=click.Choice(DIVERGENCES), help="KL term of the loss."),
            field("sequence", help="Rows of a window of a prior along time; 0 for none."),
            field("num_importance", help="Posterior samples of the bound trained; 1 for the ELBO."),
            field("time_bound", type=click.Choice(["soft", "paper"]), help="Bound on log t."),
            field("picture", type=click.Choice(["simple", "fourier"]), help="For --data torus."),
            field("order", help="Highest Fourier order N of a picture, degree of poses."),
            field("discount", help="Discount γ of a picture's higher orders."),
            field(
                "translations",
                type=click.Choice(["fresh", "fixed"]),
                help="Pictures, poses.",
            ),
            field("noise", help="Pixel noise on pictures and poses."),
            field("steps_per_epoch", help="Steps an epoch where data are drawn afresh."),
            field("num_samples", help="Importance samples for the final log-likelihood."),
            field(
                "patience",
                help="Stop after so many epochs without a better ELBO of rows that are held out of "
                "training, a tenth, and keep the best weights; 0 for never. With --sequence, of "
                "windows of these rows: hold out stretches of time by --split blocks.",
            ),
            *_training(field, "training ELBO", ("auto", *COURSES)),
            *running("run"),
        ],
    )


def _hae_options(command: Option) -> Option:
    field = fields(HAE)
    return add(
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
            *described(field, "likelihood"),
            *described(field, "network", type=click.Choice(NETWORKS[:2])),
            *described(field, "padding"),
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
            *running("run"),
        ],
    )


def _diffusion_options(command: Option) -> Option:
    field = fields(Diffusion)
    return add(
        command,
        [
            field("data", help="mixture, moons, s-curve, digits, mnist, torus, or PATH.npy."),
            data_folder(),
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
            *running("run"),
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
    dry_run, quiet = given.pop("dry_run"), given.pop("quiet")
    experiment = kind.from_mapping(configured(kind, given, "run"))
    out, resume = given["out"], given["resume"]

    from manifold_ae import run

    if dry_run:
        click.echo(run.describe(experiment))
        return
    out = out or fresh_folder(name(experiment))
    trained = run.train(experiment, out, resume=resume, progress=not quiet)
    if trained.is_main:
        click.echo(trained.table(trained.finish(progress=not quiet)))
        click.echo(f"run in {out}, pictures in {trained.pictures}")
