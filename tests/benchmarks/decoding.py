"""Decoding error and coverage on simulated cells, beside PCA, circular coordinates and the ideal.

    python tests/benchmarks/decoding.py docs/results/decoding.json [--kinds ring,so3] [--seeds 3]
    python tests/benchmarks/decoding.py docs/results/decoding.json --again    (PCA, circular: anew)
    python tests/benchmarks/decoding.py docs/results/decoding.json --figure docs/decoding.png

Cells are tuned to one angle, to two, or to a pose in space; the gain of rates sets the noise.
Every method sees the counts of the training rows; its coordinates are carried to the true positions
by the isometry found on training rows, and judged on rows that it has not seen, by the mean
geodesic distance. The ideal observer knows the tuning curves: its posterior mean is the limit.
Seeds are outermost; what is in the file already is not computed again, and several processes may
write to one file. About eight minutes of a core a seed for ring and torus, one more for poses.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter
from torch import Tensor

from manifold_ae import data, manifolds, metrics, models, plots, run
from manifold_ae.data import Dataset, Simulation
from manifold_ae.experiments import VAE
from manifold_ae.manifolds import FlatTorus, Manifold
from manifold_ae.run.evaluation.calibration import calibrate

COMMAND = "tests/benchmarks/decoding.py FILE"
#: Settings were tried on seeds below 10 alone.
FIRST_SEED = 10
TEST_ROWS = 500
LEVEL = 0.9
#: Kind → samples to train on, gains, training steps.
KINDS: dict[str, tuple[tuple[int, ...], tuple[float, ...], int]] = {
    "ring": ((100, 300, 1000, 3000, 10_000), (1.0, 0.3, 0.1), 600),
    "torus": ((100, 300, 1000, 3000, 10_000), (1.0, 0.3, 0.1), 900),
    "so3": ((10_000,), (1.0,), 3000),
}
#: An epoch is at most a 150th of training, so that few rows are not gone through a thousand times.
MOST_EPOCHS = 150
#: Points of the ideal observer's grid, on every circle, and of poses.
GRID = {1: 720, 2: 72}
POSES = 8000


def configured(kind: str, manifold: str, n: int, seed: int, steps: int) -> VAE:
    batch = 128 if n >= 1000 else 32
    per_epoch = n / batch
    epochs = max(2, min(MOST_EPOCHS, math.ceil(steps / per_epoch)))
    return VAE(
        manifold=manifold,
        likelihood="poisson",
        epochs=epochs,
        batch_size=batch,
        lr=3e-3,
        lr_schedule="cosine",
        kl_warmup=0.3,
        encoder_hidden=(128, 128),
        decoder_hidden=(128,),
        start="components",
        restarts=6,
        restart_epochs=max(1, min(epochs, math.ceil(steps / 6 / per_epoch))),
        seed=seed,
        device="cpu",
    )


def ideal(M: Manifold, recording: Simulation, dataset: Dataset) -> dict[str, float]:
    """The posterior mean and regions of an observer that knows the tuning curves."""
    assert recording.tuning is not None and recording.points is not None
    if isinstance(M, FlatTorus):
        turns = torch.arange(GRID[M.dim], dtype=torch.float64) * (2 * math.pi / GRID[M.dim])
        grid = M.from_angles(torch.cartesian_prod(*[turns] * M.dim).reshape(-1, M.dim))
    else:
        generator = torch.Generator().manual_seed(0)
        grid = M.random_uniform(POSES, generator=generator, dtype=torch.float64)
    rates = recording.tuning(grid)
    errors, held = [], []
    truth = recording.points[dataset.test_rows].double()
    for x, z in zip(dataset.test.double().split(50), truth.split(50), strict=True):
        log_joint = rates.log() @ x.mT - rates.sum(1, keepdim=True)
        posterior = models.posterior_on_grid(M, grid, log_joint)
        error = M.dist(posterior.centre, z)
        errors.append(error)
        held.append(error <= posterior.radius(LEVEL))
    return {
        "error": torch.cat(errors).mean().item(),
        "coverage": torch.cat(held).double().mean().item(),
    }


#: What stands beside that gives angles.
BESIDE: dict[str, Callable[..., Any]] = {
    "pca": metrics.PrincipalAngles.fit,
    "circular": metrics.CircularCoordinates.fit,
}


def beside(M: Manifold, x: Tensor, at: Tensor, y: Tensor, truth: Tensor) -> dict[str, Any]:
    """Errors of angles that other methods give, of the roots of counts, whose variance is even.

    Arguments:
        x: counts that are fitted to, at points ``at``; y: others, at points ``truth``.
    """
    found: dict[str, Any] = {}
    for name, fit in BESIDE.items():
        try:
            angles = fit(x.sqrt(), M.dim)
        except (ModuleNotFoundError, ValueError) as error:
            found[name] = {"error": None, "why": str(error)}
            continue
        aligned = metrics.align(M, M.from_angles(angles(x.sqrt())), at.double())
        carried = aligned.apply(M.from_angles(angles(y.sqrt())))
        found[name] = {"error": M.dist(carried, truth.double()).mean().item()}
    return found


def components(M: Manifold, recording: Simulation, dataset: Dataset, seed: int) -> dict[str, float]:
    """The error of principal components turned to lie nearest to M, of log(1 + x), no more."""
    assert recording.points is not None
    train, test = dataset.train.double().log1p(), dataset.test.double().log1p()
    generator = torch.Generator().manual_seed(seed)
    features, _ = models.arranged(M, train, generator=generator)
    # They are linear in the data: the map is read off.
    mean, centre = train.mean(0), features.mean(0)
    linear = torch.linalg.lstsq(train - mean, features - centre, driver="gelsd").solution
    truth = recording.points.double()
    aligned = metrics.align(M, M.from_features(features), truth[dataset.train_rows])
    carried = aligned.apply(M.from_features((test - mean) @ linear + centre))
    return {"error": M.dist(carried, truth[dataset.test_rows]).mean().item()}


def learned(config: VAE, recording: Simulation, dataset: Dataset) -> dict[str, dict[str, float]]:
    """The encoder's posterior, and the model's own."""
    trained = run.train(config, dataset=dataset)
    found = calibrate(trained, recording.points, level=LEVEL)
    assert found.refined is not None
    own = found.record()
    return {
        name: {
            "error": figures["mean_error"],
            "coverage": figures["coverage"],
            "radius": figures["mean_radius"],
        }
        for name, figures in (("vae", own), ("vae_refined", found.refined))
    }


def recorded(kind: str, n: int, gain: float, seed: int) -> tuple[Simulation, Dataset, Manifold]:
    recording = data.simulate(kind, n + TEST_ROWS, seed=seed, gain=gain)
    assert recording.manifold is not None
    dataset = data.from_array(
        recording.x.numpy(), name=kind, test_fraction=TEST_ROWS / (n + TEST_ROWS), seed=seed
    )
    return recording, dataset, manifolds.parse(recording.manifold)


def others(M: Manifold, recording: Simulation, dataset: Dataset) -> dict[str, Any]:
    """Of manifolds of angles, ``beside``."""
    if not isinstance(M, FlatTorus):
        return {}
    assert recording.points is not None
    at, truth = (recording.points[rows] for rows in (dataset.train_rows, dataset.test_rows))
    return beside(M, dataset.train, at, dataset.test, truth)


def measure(kind: str, n: int, gain: float, seed: int, steps: int) -> dict[str, Any]:
    recording, dataset, M = recorded(kind, n, gain, seed)
    assert recording.manifold is not None
    start = time.process_time()
    config = configured(kind, recording.manifold, len(dataset.train), seed, steps)
    row: dict[str, Any] = {"kind": kind, "samples": n, "gain": gain, "seed": seed}
    row |= learned(config, recording, dataset)
    row["seconds"] = time.process_time() - start
    row["ideal"] = ideal(M, recording, dataset)
    row["components"] = components(M, recording, dataset, seed)
    return row | others(M, recording, dataset)


def again(path: Path) -> None:
    """What stands beside, anew, for all rows of a file."""
    content = common.read(path)
    for row in content["runs"]:
        recording, dataset, M = recorded(row["kind"], row["samples"], row["gain"], row["seed"])
        row |= others(M, recording, dataset)
        content["summary"] = summary(content["runs"])
        common.keep(path, content)
        print({key: row[key] for key in ("kind", "samples", "gain", "seed", *BESIDE) if key in row})


METHODS = ("vae", "vae_refined", "components", "pca", "circular", "ideal")


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means and spreads over seeds, of every kind, gain and number of samples."""
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["kind"], row["gain"], row["samples"]), []).append(row)
    lines = []
    for (kind, gain, samples), some in sorted(
        cells.items(), key=lambda c: (c[0][0], -c[0][1], c[0][2])
    ):
        line: dict[str, Any] = {"kind": kind, "gain": gain, "samples": samples, "seeds": len(some)}
        for method in METHODS:
            for figure in ("error", "coverage"):
                values = [
                    row[method][figure]
                    for row in some
                    if row.get(method, {}).get(figure) is not None
                ]
                if values:
                    sd = statistics.stdev(values) if len(values) > 1 else None
                    line[f"{method}_{figure}"] = {"mean": statistics.mean(values), "sd": sd}
        lines.append(line)
    return lines


#: Method → its name and colour in the figure.
NAMES = {
    "pca": ("PCA", "#b58900"),
    "circular": ("circular coordinates", "#8a63d2"),
    "components": ("components, turned", "#2a9d5c"),
    "vae": ("ΔVAE, encoder", "#7fb3d5"),
    "vae_refined": ("ΔVAE, own posterior", "#1f6feb"),
    "ideal": ("ideal observer", "#1f2328"),
}


def figure(path: Path, picture: Path) -> None:
    """Error over samples, a panel for every kind and gain."""
    lines = common.read(path)["summary"]
    panels = Figure(figsize=(9.6, 5.4), layout="constrained")
    axes = panels.subplots(2, 3, sharex=True, sharey="row")
    cells = [(kind, gain) for kind in ("ring", "torus") for gain in (1.0, 0.3, 0.1)]
    for ax, (kind, gain) in zip(axes.flat, cells, strict=True):
        own = [line for line in lines if (line["kind"], line["gain"]) == (kind, gain)]
        for method, (name, colour) in NAMES.items():
            some = [(c["samples"], c[f"{method}_error"]) for c in own if f"{method}_error" in c]
            if not some:
                continue
            ideal = method == "ideal"
            ax.errorbar(
                [n for n, _ in some],
                [math.degrees(e["mean"]) for _, e in some],
                [math.degrees(e["sd"] or 0) for _, e in some],
                label=name,
                color=colour,
                linestyle="--" if ideal else "-",
                marker="" if ideal else "o",
                markersize=3.5,
            )
        if not own:
            ax.text(0.5, 0.5, "not measured", ha="center", transform=ax.transAxes)
        in_degrees(ax, f"{kind}, gain {gain:g}")
    for ax in axes[:, 0]:
        ax.set_ylabel("mean error, degrees")
    for ax in axes[-1]:
        ax.set_xlabel("training rows")
    panels.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plots.save(panels, picture)


def in_degrees(ax: Any, title: str) -> None:
    """Axes of errors over training rows, both logarithmic, with plain numbers of degrees."""
    ax.set(xscale="log", yscale="log", xlim=(80, 13_000))
    ax.set_title(title, fontsize=10)
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_locator(FixedLocator([3, 5, 10, 20, 40, 80, 160]))
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--kinds", default="ring,torus,so3")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    if options.figure is not None:
        figure(options.path, options.figure)
        return
    if options.again:
        again(options.path)
        return
    torch.set_num_threads(1)
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        for kind in options.kinds.split(","):
            samples, gains, steps = KINDS[kind]
            for n in samples:
                for gain in gains:
                    own = {"kind": kind, "samples": n, "gain": gain, "seed": seed}
                    if not common.has(options.path, own):
                        row = measure(kind, n, gain, seed, steps)
                        common.add(options.path, row, summary, command=COMMAND)
                        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
