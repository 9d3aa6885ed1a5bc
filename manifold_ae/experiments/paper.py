"""The two tables of the ΔVAE paper: what it published, and the runs that repeat them.

References:
    L. A. Pérez Rey, V. Menkovski and J. W. Portegies, *Diffusion Variational Autoencoders*, 2020,
    section 4, tables 1 and 2. https://arxiv.org/abs/1901.08991
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from manifold_ae.experiments.vae import VAE

__all__ = ["FIGURES", "PRESETS", "SETTING_NAMES", "SPACES", "TABLES", "Job", "Published", "Table"]

#: What the latent spaces are called in pictures and tables; the paper's seven come first.
SPACES = {
    "sphere:2": "S²",
    "embedded-torus": "embedded torus",
    "torus:2": "flat torus",
    "projective:3": "ℝP³",
    "projective:2": "ℝP²",
    "euclidean:3": "ℝ³",
    "euclidean:2": "ℝ²",
    "so3": "SO(3)",
    "klein-bottle": "Klein bottle",
    "sphere:3": "S³",
}

#: By how much the published KL terms are too large. That of the flat torus lacks −log 2π; that of
#: the embedded torus too, and has the volume 8π·ac in place of 4π²·ac.
KL_EXCESS = {"torus:2": math.log(2 * math.pi), "embedded-torus": math.log(4)}

#: The two ways in which every table is made: the paper's, its rate of learning included, and ours.
SETTINGS: dict[str, dict[str, Any]] = {
    "paper's setting": {
        "posterior": "random-walk",
        "walk_steps": 10,
        "divergence": "short-time",
        "time_bound": "paper",
        "lr_schedule": "constant",
        "kl_warmup": 0.0,
        "restarts": 1,
    },
    "exact": {},
}

#: What the settings are called on the command line and in folders.
SETTING_NAMES = {"paper's setting": "paper", "exact": "exact"}

PRESETS = ("quick", "paper")


@dataclass(frozen=True)
class Published:
    """A row of a table of the paper: means and standard deviations over ten runs."""

    log_likelihood: tuple[float, float]
    elbo: tuple[float, float]
    kl: tuple[float, float]
    mse_x100: tuple[float, float]

    def put_right(self, manifold: str) -> "Published":
        """The row with the constants of its KL as they should be."""
        excess = KL_EXCESS.get(manifold, 0.0)
        elbo, kl = self.elbo, self.kl
        return Published(
            self.log_likelihood, (elbo[0] + excess, elbo[1]), (kl[0] - excess, kl[1]), self.mse_x100
        )


@dataclass(frozen=True)
class Job:
    """One run of a table: where it goes below the table's folder, and what it is."""

    folder: str
    config: VAE


@dataclass(frozen=True)
class Table:
    """A table of the paper, and what repeats it.

    Arguments:
        name: as on the command line.
        title: what it is of.
        published: rows by latent space.
        common: fields of every run.
        presets: by preset, the number of seeds and further fields of every run.
        extra: further runs, for pictures of the paper that show other data; fields by name.
    """

    name: str
    title: str
    published: dict[str, Published]
    common: dict[str, Any]
    presets: dict[str, tuple[int, dict[str, Any]]]
    extra: dict[str, dict[str, Any]]

    def jobs(
        self,
        preset: str = "quick",
        *,
        seeds: int | None = None,
        epochs: int | None = None,
        manifolds: Sequence[str] = (),
        settings: Sequence[str] = (),
        together: bool = False,
        **where: Any,
    ) -> list[Job]:
        """Every run of the table: seeds outermost, then latent spaces, so that what is done early
        spans the table and has both settings beside each other.

        Arguments:
            preset: ``"quick"``, sized for two cores and 20 minutes; or ``"paper"``, its own.
            seeds: how many, in place of the preset's.
            epochs: of every run, in place of the preset's; trials are shortened to fit.
            manifolds: latent spaces, of ``SPACES``; all of them by default. With a part of the
                table go no runs for further pictures.
            settings: ``"paper"``, ``"exact"``; both by default.
            together: whether the seeds of a cell are one job, trained as one computation; their
                runs end in the same folders.
            where: fields that say where it runs, such as ``data_dir`` and ``device``.

        Raises:
            ValueError: for a preset, latent space or setting that there is not, or a number below
                1.
        """
        for name, chosen, known in (
            ("manifolds", manifolds, SPACES),
            ("settings", settings, SETTING_NAMES.values()),
        ):
            for value in chosen:
                if value not in known:
                    raise ValueError(f"{name} has {value!r}: expected of {', '.join(known)}")
        if preset not in PRESETS:
            raise ValueError(f"preset = {preset!r}: expected {' or '.join(PRESETS)}")
        for name, value in (("seeds", seeds), ("epochs", epochs)):
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}: expected at least 1")
        count, fields = self.presets[preset]
        fields = {**self.common, **fields, **where}
        if epochs is not None:
            fields["epochs"] = epochs
        count = seeds or count
        together = together and count > 1
        cells = [
            (setting, manifold)
            for manifold in SPACES
            for setting in SETTINGS
            # On Rᵈ the kernel is a Gaussian: there is nothing to walk or to clamp.
            if (setting == "exact" or not manifold.startswith("euclidean"))
            and (not manifolds or manifold in manifolds)
            and (not settings or SETTING_NAMES[setting] in settings)
        ]
        if not cells:
            raise ValueError(
                f"no run of {self.name} is of {', '.join(manifolds)} in {', '.join(settings)}: on "
                "euclidean spaces there is the exact setting alone"
            )
        found = []
        for seed in range(1 if together else count):
            for setting, manifold in cells:
                folder = PurePosixPath(self.folder(setting, manifold, seed))
                values = fields | SETTINGS[setting] | {"manifold": manifold, "seed": seed}
                if together:
                    folder, values = folder.parent, values | {"seeds": count}
                found.append(Job(str(folder), _config(values)))
        whole = not (manifolds or settings)
        for name, own in self.extra.items() if whole else ():
            values = fields | own | {"seed": 0}
            found.append(Job(f"extra/{name}", _config(values)))
        return found

    @staticmethod
    def folder(setting: str, manifold: str, seed: int) -> str:
        """Where the run of a cell goes, below the table's folder."""
        return f"{SETTING_NAMES[setting]}/{manifold.replace(':', '')}/seed-{seed}"


def _config(values: dict[str, Any]) -> VAE:
    epochs = values["epochs"]
    if values.get("restarts", 1) > 1 and values.get("restart_epochs", 5) > epochs:
        values = values | {"restart_epochs": epochs}
    return VAE.from_mapping({name: v for name, v in values.items() if v is not None})


TABLES = {
    "table1": Table(
        name="table1",
        title="MNIST, not binarised",
        published={
            "sphere:2": Published((-738.76, 0.08), (-739.25, 0.09), (5.16, 0.13), (3.48, 0.05)),
            "embedded-torus": Published(
                (-738.58, 0.08), (-740.97, 0.10), (6.57, 0.01), (3.55, 0.02)
            ),
            "torus:2": Published((-738.97, 0.08), (-741.37, 0.11), (6.42, 0.00), (3.70, 0.02)),
            "projective:3": Published((-738.81, 0.02), (-739.32, 0.03), (5.65, 0.08), (3.37, 0.02)),
            "projective:2": Published((-740.17, 0.35), (-741.19, 0.53), (3.15, 0.56), (4.49, 0.02)),
            "euclidean:3": Published((-738.27, 0.03), (-738.85, 0.04), (5.74, 0.05), (3.23, 0.02)),
            "euclidean:2": Published((-738.83, 0.08), (-739.35, 0.11), (4.95, 0.04), (3.56, 0.04)),
        },
        common={"data": "mnist", "batch_size": 640, "lr_schedule": "one-cycle"},
        presets={
            # In so few steps a KL that sets in early takes posteriors to the prior, for good.
            "quick": (2, {"epochs": 6, "num_samples": 20, "kl_warmup": 0.8}),
            "paper": (10, {"epochs": 500, "num_samples": 100}),
        },
        extra={},
    ),
    "table2": Table(
        name="table2",
        title="translations of the picture (cos θ + cos φ)/2, 64 × 64 pixels",
        published={
            "sphere:2": Published((-3779.75, 2.25), (-3825.11, 4.21), (3.45, 0.01), (2.82, 0.21)),
            "embedded-torus": Published(
                (-3787.34, 11.8), (-3809.33, 23.0), (11.2, 1.20), (1.85, 1.18)
            ),
            "torus:2": Published((-3773.99, 1.70), (-3813.00, 5.16), (6.42, 0.00), (0.90, 0.25)),
            "projective:3": Published(
                (-3774.61, 0.53), (-3821.25, 2.44), (3.70, 0.00), (2.62, 0.12)
            ),
            "projective:2": Published(
                (-3789.13, 8.36), (-3850.19, 33.7), (3.92, 1.97), (4.02, 1.74)
            ),
            "euclidean:3": Published(
                (-3779.67, 4.06), (-3783.03, 5.71), (9.73, 0.45), (0.46, 0.26)
            ),
            "euclidean:2": Published(
                (-3785.64, 5.26), (-3789.60, 6.19), (8.26, 0.53), (0.85, 0.28)
            ),
        },
        common={"data": "torus", "lr_schedule": "one-cycle", "kl_warmup": 0.1},
        presets={
            "quick": (
                2,
                {
                    # Onto a sphere the torus folds after 500 steps or so; many small batches get
                    # there sooner. Trials shorter than 150 steps do not tell a fold.
                    "epochs": 8,
                    "steps_per_epoch": 150,
                    "batch_size": 64,
                    "num_samples": 20,
                    "restarts": 4,
                    "restart_epochs": 1,
                },
            ),
            # Ten thousand pictures count as an epoch.
            "paper": (
                10,
                {
                    "epochs": 500,
                    "steps_per_epoch": 16,
                    "batch_size": 640,
                    "num_samples": 100,
                    "restarts": 8,
                    "restart_epochs": 10,
                },
            ),
        },
        extra={
            "several-waves": {
                "manifold": "torus:2",
                "picture": "fourier",
                "order": 3,
                "discount": 0.3,
            },
            "too-many-waves": {
                "manifold": "torus:2",
                "picture": "fourier",
                "order": 10,
                "discount": 0.5,
            },
        },
    ),
}

#: The paper's pictures: by table and name, panels as (run, picture of it, title). Runs are those of
#: seed 0 in our setting.
FIGURES: dict[str, dict[str, list[tuple[str, str, str]]]] = {
    "table1": {
        "figure1": [
            (Table.folder("exact", "sphere:2", 0), "latents", ""),
            (Table.folder("exact", "embedded-torus", 0), "latents", ""),
        ],
        "figure3": [
            (Table.folder("exact", "projective:3", 0), "latents", ""),
            (Table.folder("exact", "torus:2", 0), "latents", ""),
            (Table.folder("exact", "projective:2", 0), "latents", ""),
            (Table.folder("exact", "euclidean:3", 0), "latents", ""),
        ],
    },
    "table2": {
        "figure4": [
            (Table.folder("exact", "torus:2", 0), "latents", ""),
            (Table.folder("exact", "torus:2", 0), "decoded_grid", ""),
            (Table.folder("exact", "sphere:2", 0), "latents", ""),
            (Table.folder("exact", "sphere:2", 0), "decoded_grid", ""),
        ],
        "figure6": [
            ("extra/several-waves", "latents", "N = 3, γ = 0.3"),
            ("extra/several-waves", "decoded_grid", ""),
        ],
        "figure7": [
            ("extra/too-many-waves", "latents", "N = 10, γ = 0.5"),
            ("extra/too-many-waves", "decoded_grid", ""),
        ],
    },
}
