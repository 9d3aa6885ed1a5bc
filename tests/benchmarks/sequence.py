r"""What neighbours in time are worth: decoding error with and without the prior along time.

    python tests/benchmarks/sequence.py [--kinds ring torus] [--gains 0.1 0.3 1] [--seeds 3]
        [--first-seed 100] [--output FILE.json] [--figure FILE.png]

Cells tuned to a ring or a torus while the position moves as Brownian motion of variance 0.02 rad² a
row; rates times each gain. A model is trained on one recording without its order, another with the
prior along time in windows of 32 rows. Both decode a second recording of the same cells, of 1,000
rows: by their encoders, a row at a time, and by ``models.smooth`` at the rate that makes it
likeliest. Latents are aligned to the truth by the recording that was trained on alone. The limits
are those of one who knows the tuning and the rate: the posterior mean of each row on its own, and
given all rows. Errors are mean geodesic distances in degrees; the rate is that of the second
recording, found by smoothing, and that learned in training. What is in FILE already is kept, and
cells are added to it.
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
from torch import Tensor

from manifold_ae import data, manifolds, metrics, run
from manifold_ae.data import Recording, Simulation
from manifold_ae.experiments import VAE
from manifold_ae.models import forward_backward, lattice
from manifold_ae.models.smoothing import moments

RATE, WINDOW, ROWS, HELD = 0.02, 32, 1000, 1000
POINTS = {"circle": 360, "torus:2": 2500}
SETTINGS = VAE(
    likelihood="poisson",
    split="blocks",
    test_fraction=0.1,
    epochs=60,
    encoder_hidden=(64, 64),
    decoder_hidden=(64,),
    lr=2e-3,
    lr_schedule="cosine",
    restarts=3,
    restart_epochs=8,
)
COLUMNS = {
    "encoder": "encoder, rows alone",
    "encoder_sequence": "encoder, trained along time",
    "smoothed": "smoothed, rows alone",
    "smoothed_sequence": "smoothed, trained along time",
    "limit": "limit of a row",
    "limit_smoothed": "limit of all rows",
}


def recording(simulation: Simulation) -> Recording:
    assert simulation.times is not None
    return Recording("rows", simulation.x, {"times": simulation.times})


def limits(simulation: Simulation) -> dict[str, float]:
    """Errors of one who knows the tuning and the rate."""
    assert simulation.manifold is not None and simulation.points is not None
    assert simulation.tuning is not None
    M = manifolds.parse(simulation.manifold)
    grid = lattice(M, POINTS[simulation.manifold])
    rates = simulation.tuning(grid.points)
    x = simulation.x.double()
    log_p = x @ rates.log().T - rates.sum(1)
    start = torch.zeros(len(grid)).double()
    found = {}
    for name, rate in (("limit", math.inf), ("limit_smoothed", RATE)):
        if rate == math.inf:
            log_gamma = log_p.log_softmax(1)
        else:
            variances = torch.full((len(x),), rate).double()
            parts = list(forward_backward(grid, lambda i, j: log_p[i:j], variances, start))
            log_gamma = torch.cat([gamma for _, gamma, _ in sorted(parts, key=lambda p: p[0])])
        found[name] = error(M, moments(M, grid.points, log_gamma)[0], simulation.points.double())
    return found


def error(M: manifolds.Manifold, z: Tensor, truth: Tensor) -> float:
    return math.degrees(M.dist(z, truth).mean().item())


def one(kind: str, gain: float, seed: int) -> dict[str, Any]:
    options: dict[str, Any] = {"smooth": True, "rate": RATE, "gain": gain}
    first = data.simulate(kind, ROWS, seed=seed, **options)
    second = data.simulate(kind, HELD, seed=seed + 10_000, population=seed, **options)
    assert first.manifold is not None and first.points is not None and second.points is not None
    M, count = manifolds.parse(first.manifold), POINTS[first.manifold]
    row: dict[str, Any] = {"kind": kind, "gain": gain, "seed": seed, **limits(second)}
    for name, window in (("", 0), ("_sequence", WINDOW)):
        begin = time.perf_counter()
        config = SETTINGS.replace(manifold=first.manifold, sequence=window, seed=seed)
        dataset = data.from_array(first.x, split="blocks", test_fraction=0.1, times=first.times)
        trained = run.train(config, dataset=dataset)
        assert isinstance(trained, run.VAERun)
        row[f"seconds{name}"] = time.perf_counter() - begin
        row[f"elbo{name}"] = trained.history[-1]["elbo"]
        at_training = torch.from_numpy(trained.encode(first.x)["points"])
        aligned = metrics.align(M, at_training, first.points)
        rate = trained.rate(recording(second), count=count)
        smoothed = trained.smooth(recording(second), rate=rate, count=count)
        for way, found in (("encoder", trained.encode(second.x)), ("smoothed", smoothed)):
            z = aligned.apply(torch.from_numpy(found["points"]))
            row[f"{way}{name}"] = error(M, z, second.points)
        row[f"rate{name}"] = rate
        if window:
            row["rate_learned"] = trained.history[-1]["rate"]
    return row


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    cells = sorted({(row["kind"], row["gain"]) for row in rows})
    return [
        {"kind": kind, "gain": gain}
        | {
            name: common.spread([r[name] for r in rows if (r["kind"], r["gain"]) == (kind, gain)])
            for name in (*COLUMNS, "rate", "rate_sequence", "rate_learned")
        }
        for kind, gain in cells
    ]


def draw(path: Path, table: list[dict[str, Any]]) -> None:
    import matplotlib.pyplot as plt

    from manifold_ae import plots

    kinds = sorted({row["kind"] for row in table})
    figure, axes = plt.subplots(1, len(kinds), figsize=(4.6 * len(kinds), 3.6), squeeze=False)
    styles = {
        "encoder": ("C0", "-", "o"), "encoder_sequence": ("C1", "-", "o"),
        "smoothed": ("C0", "--", "s"), "smoothed_sequence": ("C1", "--", "s"),
        "limit": ("0.4", "-", ""), "limit_smoothed": ("0.4", "--", ""),
    }  # fmt: skip
    for ax, kind in zip(axes[0], kinds, strict=True):
        own = [row for row in table if row["kind"] == kind]
        gains = [row["gain"] for row in own]
        for name, (colour, line, marker) in styles.items():
            means = [row[name]["mean"] for row in own]
            spreads = [0.0 if math.isnan(s := row[name]["sd"]) else s for row in own]
            ax.errorbar(
                gains, means, spreads, color=colour, ls=line, marker=marker or None, ms=4,
                lw=1.2, capsize=2 if marker else 0, label=COLUMNS[name],
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="gain of all rates", title=kind)
        ax.set_xticks(gains, [f"{gain:g}" for gain in gains])
        ax.minorticks_off()
        ticks = [t for t in (1, 2, 5, 10, 20, 50, 100) if ax.get_ylim()[0] < t < ax.get_ylim()[1]]
        ax.set_yticks(ticks, [f"{t}°" for t in ticks])
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("mean error of decoded positions")
    axes[0][-1].legend(frameon=False, fontsize=7)
    figure.tight_layout()
    plots.save(figure, path)


def kept(path: Path | None, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What a file holds of runs with the same settings."""
    if path is None or not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    same = all(content[name] == json.loads(json.dumps(v)) for name, v in settings.items())
    return content["runs"] if same else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=["ring", "torus"])
    parser.add_argument("--gains", nargs="+", type=float, default=[0.1, 0.3, 1.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    settings = {"settings": SETTINGS.to_mapping(), "rows": ROWS, "held": HELD, "rate": RATE}
    rows = kept(given.output, settings)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    for kind, gain, seed in itertools.product(given.kinds, given.gains, seeds):
        if any((row["kind"], row["gain"], row["seed"]) == (kind, gain, seed) for row in rows):
            continue
        rows.append(one(kind, gain, seed))
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()})
        if given.output:
            machine = common.machine("cpu")
            common.keep(
                given.output, {"machine": machine, **settings, "table": summary(rows), "runs": rows}
            )
    if given.figure:
        draw(given.figure, summary(rows))


if __name__ == "__main__":
    main()
