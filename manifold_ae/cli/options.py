"""Options of commands: fields of a configuration, each described once, and what every run takes."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from manifold_ae.experiments import NETWORKS, PADDINGS, SPLITS, Configuration

__all__ = [
    "Option",
    "add",
    "configured",
    "data_folder",
    "described",
    "fields",
    "fresh_folder",
    "running",
]

Option = Callable[..., Any]


def add(command: Option, options: list[Option]) -> Option:
    """The command with options, in their order."""
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def fields(kind: type[Configuration]) -> Callable[..., Option]:
    """Makes options for the fields of a configuration; not given, the configuration decides."""
    defaults = kind()

    def field(name: str, flag: str | None = None, **options: Any) -> Option:
        default = getattr(defaults, name)
        if "type" not in options:
            options["type"] = str if default is None else type(default)
        options["help"] = f"{options['help']}  [default: {default}]"
        return click.option(flag or f"--{name.replace('_', '-')}", name, default=None, **options)

    return field


#: What fields are that several configurations have.
ABOUT: dict[str, dict[str, Any]] = {
    "covariates": {
        "help": "Known of a row and given to the model: columns of a .csv file as speed,gain, an "
        "array of a .npz file, or another PATH.npy."
    },
    "exposure": {"help": "Likewise: by what the rates of a row's counts are multiplied."},
    "groups": {"help": "Likewise: the trial or session of a row, for --split groups."},
    "times": {"help": "Likewise: time stamps, rising within a group."},
    "labels": {"help": "Likewise: colours of pictures, never seen by the model."},
    "missing": {
        "type": click.Choice(["refuse", "mask"]),
        "help": "What NaN is: an error, or a value that is missing.",
    },
    "split": {
        "type": click.Choice(SPLITS),
        "help": "blocks of rows, or whole groups, for recordings.",
    },
    "test_fraction": {"help": "Part of the rows that is held out."},
    "likelihood": {"help": "Observation model; see `list likelihoods`."},
    "scaling": {"help": "none, range, standard, robust or max."},
    "network": {"type": click.Choice(NETWORKS), "help": "Encoder and decoder."},
    "padding": {"type": click.Choice(PADDINGS), "help": "Border, for --network conv."},
    "batch_size": {"help": "Batch size."},
    "lr": {"help": "Learning rate of Adam."},
    "seed": {"help": "Seed of weights, order and noise."},
    "device": {"help": "auto, cpu, cuda or cuda:K."},
}


def described(field: Callable[..., Option], *names: str, **changes: Any) -> list[Option]:
    """Options of fields that ``ABOUT`` describes; ``changes`` hold for all of them."""
    return [field(name, **{**ABOUT[name], **changes}) for name in names]


def data_folder() -> Option:
    """``--data-dir``."""
    return click.option("--data-dir", type=click.Path(), help="Folder with the four MNIST files.")


def running(what: str, *, dry_run: bool = True) -> list[Option]:
    """Options of where a run, or a selection, goes and how it is configured."""
    dry = [
        click.option(
            "--dry-run", is_flag=True, help="Build everything, try one step, write nothing."
        )
    ]
    return [
        click.option(
            "--out",
            type=click.Path(path_type=Path),
            help=f"Folder of the {what}.  [default: runs/...]",
        ),
        click.option("--resume", is_flag=True, help=f"Go on with the {what} in --out."),
        click.option("--config", type=click.Path(path_type=Path, exists=True), help="TOML file."),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other field."
        ),
        *(dry if dry_run else []),
        click.option("--quiet", is_flag=True, help="No progress bar."),
    ]


def configured(kind: type[Configuration], given: dict[str, Any], what: str) -> dict[str, Any]:
    """The values of a configuration: options first, then --set, --config and the run's own.

    Takes ``out`` (left in place), ``resume``, ``config`` and ``settings`` out of what was given.
    """
    out, resume, config = given["out"], given["resume"], given.pop("config")
    settings = given.pop("settings")
    values: dict[str, Any] = {}
    if resume:
        if out is None:
            raise click.UsageError(f"--resume needs --out, the folder of the {what} to go on with")
        if not (out / "config.toml").exists():
            raise click.UsageError(f"--resume: {out} holds no {what} (no config.toml)")
        values |= kind.read(out / "config.toml")
    if config is not None:
        values |= kind.read(config)
    values |= dict(kind.parse_setting(setting) for setting in settings)
    own = {name: value for name, value in given.items() if name not in ("out", "resume")}
    return values | {name: value for name, value in own.items() if value is not None}


def fresh_folder(name: str) -> Path:
    """runs/NAME-K with the first K that is free."""
    name = name.replace(":", "").replace("*", "x")
    return next(
        folder
        for k in range(1, sys.maxsize)
        if not (folder := Path("runs") / f"{name}-{k}").exists()
    )
