r"""What neighbours in time are worth: decoding with and without the prior along time.

    python tests/benchmarks/sequence.py docs/results/sequence.json [--kinds ring,torus] [--seeds 3]
        [--samples 100,1000] [--gains 1,0.3,0.1]
    python tests/benchmarks/sequence.py docs/results/sequence.json --again    (PCA, circular: anew)
    python tests/benchmarks/sequence.py docs/results/sequence.json --figure FILE.png

Cells tuned to a ring or a torus while the position moves as Brownian motion of variance 0.1 rad² a
row, so that a hundred rows go about a circle once; rates times each gain. A model is trained on
one recording without its order, and another with the prior along time in windows of 32 rows,
otherwise alike and with the settings of ``decoding.py``. Both decode a second recording of the same
cells, of 500 rows. What is compared, for each of the two,

- encoder: its place for each row alone;
- row: the mean of the model's own posterior of each row alone;
- smoothed: that of each row given all rows, by ``models.smooth`` at the rate at which the second
  recording is likeliest.

Latents are aligned to the truth by the recording that was trained on alone. The limits are those of
one who knows the tuning and the rate: of each row alone, and given all rows. Errors are mean
geodesic distances in radians; ``rate`` is that of the second recording, ``rate_learned`` that of
the prior in training. Seeds are outermost; what is in the file already is not computed again, and
several processes may write to one file.
"""

import argparse
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import common
import torch
from decoding import BESIDE, KINDS, beside, configured, in_degrees
from matplotlib.figure import Figure
from torch import Tensor

from manifold_ae import data, manifolds, metrics, plots, run
from manifold_ae.data import Dataset, Recording, Simulation
from manifold_ae.manifolds import Manifold
from manifold_ae.models import forward_backward, lattice
from manifold_ae.models.smoothing import moments

#: Settings were tried on seeds below 100 alone.
FIRST_SEED = 100
RATE, WINDOW, HELD = 0.1, 32, 500
SAMPLES = (100, 300, 1000, 3000, 10_000)
#: Of the recording that is trained on, the part that is not, as every data set has one.
TEST_FRACTION = 0.1
POINTS = {"circle": 360, "torus:2": 50**2}
#: What is measured → its name and line in the figure.
COLUMNS = {
    "row": ("own posterior, rows alone", ("C0", "-", "o")),
    "smoothed": ("the same model, smoothed", ("C0", "--", "s")),
    "row_sequence": ("trained along time, rows alone", ("C1", "-", "o")),
    "smoothed_sequence": ("trained along time, smoothed", ("C1", "--", "s")),
    "limit": ("limit of a row", ("0.4", "-", "")),
    "limit_smoothed": ("limit of all rows", ("0.4", "--", "")),
}
ERRORS = ("encoder", "encoder_sequence", *COLUMNS, *BESIDE)


def recording(simulation: Simulation) -> Recording:
    assert simulation.times is not None
    return Recording("rows", simulation.x, {"times": simulation.times})


def limits(M: Manifold, simulation: Simulation) -> dict[str, float]:
    """Errors of one who knows the tuning and the rate."""
    assert simulation.manifold is not None and simulation.points is not None
    assert simulation.tuning is not None
    grid = lattice(M, POINTS[simulation.manifold])
    rates = simulation.tuning(grid.points)
    x = simulation.x.double()
    log_p = x @ rates.log().T - rates.sum(1)
    start = torch.zeros(len(grid)).double()
    variances = torch.full((len(x),), RATE).double()
    parts = forward_backward(grid, lambda i, j: log_p[i:j], variances, start)
    smoothed = torch.cat([gamma for _, gamma, _ in sorted(parts, key=lambda part: part[0])])
    truth = simulation.points.double()
    return {
        name: error(M, moments(M, grid.points, log_gamma)[0], truth)
        for name, log_gamma in (("limit", log_p.log_softmax(1)), ("limit_smoothed", smoothed))
    }


def error(M: Manifold, z: Tensor, truth: Tensor) -> float:
    return M.dist(z.double(), truth.double()).mean().item()


def recorded(
    kind: str, samples: int, gain: float, seed: int
) -> tuple[Simulation, Simulation, Dataset]:
    """A recording to train on, another of the same cells, and the former's data set."""
    options: dict[str, Any] = {"smooth": True, "rate": RATE, "gain": gain}
    first = data.simulate(kind, round(samples / (1 - TEST_FRACTION)), seed=seed, **options)
    second = data.simulate(kind, HELD, seed=seed + 10_000, population=seed, **options)
    dataset = data.from_array(
        first.x, split="blocks", test_fraction=TEST_FRACTION, times=first.times
    )
    return first, second, dataset


def others(first: Simulation, second: Simulation, dataset: Dataset) -> dict[str, float | None]:
    """Errors of what stands beside, which takes each row alone."""
    assert first.manifold is not None and first.points is not None and second.points is not None
    M, at = manifolds.parse(first.manifold), first.points[dataset.train_rows]
    found = beside(M, dataset.train, at, second.x, second.points)
    return {name: one["error"] for name, one in found.items()}


def again(path: Path) -> None:
    """What stands beside, anew, for all rows of a file."""
    content = common.read(path)
    for row in content["runs"]:
        row |= others(*recorded(row["kind"], row["samples"], row["gain"], row["seed"]))
        print({key: row[key] for key in ("kind", "samples", "gain", "seed", *BESIDE)})
        content["summary"] = summary(content["runs"])
        common.keep(path, content)


def one(kind: str, samples: int, gain: float, seed: int) -> dict[str, Any]:
    first, second, dataset = recorded(kind, samples, gain, seed)
    assert first.manifold is not None and first.points is not None and second.points is not None
    M, count = manifolds.parse(first.manifold), POINTS[first.manifold]
    row: dict[str, Any] = {"kind": kind, "samples": samples, "gain": gain, "seed": seed}
    row |= limits(M, second) | others(first, second, dataset)
    common_settings = configured(kind, first.manifold, len(dataset.train), seed, KINDS[kind][2])
    for name, window in (("", 0), ("_sequence", WINDOW)):
        begin = time.process_time()
        config = common_settings.replace(sequence=window, split="blocks")
        trained = run.train(config, dataset=dataset)
        assert isinstance(trained, run.VAERun)
        row[f"seconds{name}"] = time.process_time() - begin
        row[f"elbo{name}"] = trained.history[-1]["elbo"]
        at_training = torch.from_numpy(trained.encode(dataset.train)["points"])
        aligned = metrics.align(M, at_training, first.points[dataset.train_rows])
        rate = trained.rate(recording(second), count=count)
        found = {
            "encoder": trained.encode(second.x),
            "row": trained.smooth(recording(second), rate=math.inf, count=count),
            "smoothed": trained.smooth(recording(second), rate=rate, count=count),
        }
        for way, where in found.items():
            z = aligned.apply(torch.from_numpy(where["points"]))
            row[f"{way}{name}"] = error(M, z, second.points)
        row[f"rate{name}"] = rate
        if window:
            row["rate_learned"] = trained.history[-1]["rate"]
    return row


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means and spreads over seeds, of every kind, gain and number of samples."""
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["kind"], row["gain"], row["samples"]), []).append(row)
    return [
        {"kind": kind, "gain": gain, "samples": samples, "seeds": len(some)}
        | {
            name: common.spread(known)
            for name in (*ERRORS, "rate", "rate_sequence", "rate_learned")
            if (known := [row[name] for row in some if row.get(name) is not None])
        }
        for (kind, gain, samples), some in sorted(
            cells.items(), key=lambda cell: (cell[0][0], -cell[0][1], cell[0][2])
        )
    ]


def figure(path: Path, picture: Path) -> None:
    """Error over rows that were trained on, a panel a kind and gain; bars hold all seeds."""
    content = common.read(path)
    lines = content["summary"]
    panels = Figure(figsize=(9.6, 5.4), layout="constrained")
    axes = panels.subplots(2, 3, sharex=True, sharey="row")
    cells = [(kind, gain) for kind in ("ring", "torus") for gain in (1.0, 0.3, 0.1)]
    for ax, (kind, gain) in zip(axes.flat, cells, strict=True):
        own = [line for line in lines if (line["kind"], line["gain"]) == (kind, gain)]
        for method, (name, (colour, line, marker)) in COLUMNS.items():
            bars: list[list[float]] = [[], []]
            for c in own:
                same = {key: c[key] for key in ("kind", "gain", "samples")}
                seeds = [r[method] for r in content["runs"] if same.items() <= r.items()]
                mean = c[method]["mean"]
                bars[0].append(math.degrees(mean - min(seeds)))
                bars[1].append(math.degrees(max(seeds) - mean))
            ax.errorbar(
                [c["samples"] for c in own],
                [math.degrees(c[method]["mean"]) for c in own],
                bars,
                label=name,
                color=colour,
                linestyle=line,
                marker=marker or None,
                markersize=3.5,
                linewidth=1.2,
            )
        in_degrees(ax, f"{kind}, gain {gain:g}")
    for ax in axes[:, 0]:
        ax.set_ylabel("mean error, degrees")
    for ax in axes[-1]:
        ax.set_xlabel("rows trained on")
    panels.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plots.save(panels, picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--kinds", default="ring,torus")
    parser.add_argument("--samples", default=",".join(map(str, SAMPLES)))
    parser.add_argument("--gains", default="1,0.3,0.1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--again", action="store_true", help="PCA and circular coordinates anew.")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    if options.again:
        again(options.path)
        return
    if options.figure is not None:
        figure(options.path, options.figure)
        return
    torch.set_num_threads(1)
    cells = itertools.product(
        range(options.first_seed, options.first_seed + options.seeds),
        options.kinds.split(","),
        map(int, options.samples.split(",")),
        map(float, options.gains.split(",")),
    )
    for seed, kind, samples, gain in cells:
        own: dict[str, Any] = {"kind": kind, "samples": samples, "gain": gain, "seed": seed}
        if not common.has(options.path, own):
            row = one(**own)
            common.add(options.path, row, summary, command="tests/benchmarks/sequence.py FILE")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
