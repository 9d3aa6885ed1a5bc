"""How many starts end folded: networks begun at random, spread, or at principal components.

    python tests/benchmarks/starts.py docs/results/starts.json

Eight runs each, of simulated cells as in ``decoding.py`` and with its settings, but without trials:
every start goes to the end (on SO(3) after half of the steps). Where no steps are said, they are
runs at the defaults of ``manifold-ae train vae``, four each. A map counts as folded where the mean
error of the model's own posterior, up to an isometry, is above ``FOLDED`` times that of the ideal
observer or, where that is not known, of the best of all starts. ``told``: of the pairs of a folded
run and one that is not, in so many the training ELBO after a sixth of the steps, by which trials
are judged, was higher for the latter.
"""

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import common
import torch
from decoding import FIRST_SEED, KINDS, TEST_ROWS, configured, ideal

from manifold_ae import data, manifolds, run
from manifold_ae.experiments import VAE
from manifold_ae.run.evaluation.calibration import calibrate

STARTS, COUNT, FOLDED = ("random", "spread", "components"), 8, 1.4
#: At the defaults, with larger networks.
AT_DEFAULTS, FEWER = ("random", "components"), 4
#: Kind, rows, gain, steps; or none, for a run at the defaults.
CELLS: tuple[tuple[str, int, float, int | None], ...] = (
    ("torus", 300, 1.0, 900),
    ("so3", 10_000, 1.0, 1500),
    ("torus", 1000, 0.3, 900),
    ("ring", 800, 1.0, None),
    ("torus", 1000, 1.0, None),
    ("axis", 2000, 1.0, None),
    ("so3", 3000, 1.0, None),
    ("pictures", 1000, 1.0, None),
)


def measure(
    kind: str, n: int, gain: float, steps: int | None, start: str, seed: int
) -> dict[str, Any]:
    recording = data.simulate(kind, n + TEST_ROWS, seed=seed, gain=gain)
    assert recording.manifold is not None
    dataset = data.from_array(
        recording.x.numpy(), name=kind, test_fraction=TEST_ROWS / (n + TEST_ROWS), seed=seed
    )
    limit = None
    if recording.tuning is not None and kind in KINDS:
        limit = ideal(manifolds.parse(recording.manifold), recording, dataset)["error"]
    begin = time.process_time()
    if steps is None:
        likelihood = recording.likelihood
        config = VAE(manifold=recording.manifold, likelihood=likelihood, seed=seed, device="cpu")
    else:
        config = configured(kind, recording.manifold, n, seed, steps)
    config = config.replace(
        start=start,
        restarts=1,
        restart_epochs=VAE.restart_epochs,
        seeds=FEWER if steps is None else COUNT,
    )
    runs = []
    for one in run.train(config, dataset=dataset).runs.values():  # type: ignore[union-attr]
        found = calibrate(one, recording.points).refined
        assert found is not None
        elbo = [row["elbo"] for row in one.history]
        runs.append(
            {
                "error": found["mean_error"],
                "coverage": found["coverage"],
                "elbo": elbo[-1],
                "trial_elbo": elbo[max(1, len(elbo) // 6) - 1],
            }
        )
    row = {"kind": kind, "samples": n, "gain": gain, "steps": steps, "start": start, "ideal": limit}
    return row | {"seconds": time.process_time() - begin, "starts": runs}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def errors(row: dict[str, Any]) -> list[float]:
        return [one["error"] for one in row["starts"]]

    def cell(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[key] for key in ("kind", "samples", "gain", "steps"))

    best: dict[tuple[Any, ...], float] = {}
    for row in rows:
        best[cell(row)] = min(best.get(cell(row), torch.inf), *errors(row))
    lines = []
    for row in rows:
        limit = best[cell(row)] if row["ideal"] is None else row["ideal"]
        bad = [error > FOLDED * limit for error in errors(row)]
        split: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        for folded, one in zip(bad, row["starts"], strict=True):
            split[folded].append(one)
        pairs = list(itertools.product(split[False], split[True]))
        told = [good["trial_elbo"] > folded["trial_elbo"] for good, folded in pairs]
        lines.append(
            {key: row[key] for key in ("kind", "samples", "gain")}
            | {"steps": row["steps"] or "the defaults", "start": row["start"]}
            | {
                "folded": f"{sum(bad)} of {len(bad)}",
                "error": statistics.median(errors(row)),
                "ideal": row["ideal"] or "",
                "told": f"{sum(told)} of {len(told)}" if told else "",
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the recordings")
    parser.add_argument("--defaults", action="store_true", help="only runs at the defaults")
    parser.add_argument("--kinds", default=",".join({cell[0]: None for cell in CELLS}))
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = options.kinds.split(",")
    for (kind, n, gain, steps), start in itertools.product(CELLS, STARTS):
        if options.defaults and steps is not None:
            continue
        if kind not in kinds or (steps is None and start not in AT_DEFAULTS):
            continue
        own = {"kind": kind, "samples": n, "gain": gain, "steps": steps, "start": start}
        if not common.has(options.path, own):
            row = measure(kind, n, gain, steps, start, options.seed)
            common.add(options.path, row, summary, command="tests/benchmarks/starts.py FILE")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
