"""How many starts end folded: networks begun at random, spread, or at principal components.

    python tests/benchmarks/starts.py docs/results/starts.json

Eight runs each, of simulated cells as in ``decoding.py`` and with its settings, but without trials:
every start goes to the end (on SO(3) after half of the steps). A map counts as folded where the
mean error of the model's own posterior, up to an isometry, is above ``FOLDED`` times that of the
ideal observer. ``told``: of the pairs of a folded run and one that is not, in so many the training
ELBO after a sixth of the steps, by which trials are judged, was higher for the latter.
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
from decoding import TEST_ROWS, configured, ideal

from manifold_ae import data, manifolds, run
from manifold_ae.run.evaluation.calibration import calibrate

SEED, STARTS, COUNT, FOLDED = 10, ("random", "spread", "components"), 8, 1.4
#: Kind, rows, gain, steps.
CELLS = (("torus", 300, 1.0, 900), ("so3", 10_000, 1.0, 1500), ("torus", 1000, 0.3, 900))


def measure(kind: str, n: int, gain: float, steps: int, start: str) -> dict[str, Any]:
    recording = data.simulate(kind, n + TEST_ROWS, seed=SEED, gain=gain)
    assert recording.manifold is not None
    dataset = data.from_array(
        recording.x.numpy(), name=kind, test_fraction=TEST_ROWS / (n + TEST_ROWS), seed=SEED
    )
    limit = ideal(manifolds.parse(recording.manifold), recording, dataset)["error"]
    begin = time.process_time()
    config = configured(kind, recording.manifold, n, SEED, steps)
    config = config.replace(start=start, restarts=1, restart_epochs=1, seeds=COUNT)
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
    row = {"kind": kind, "samples": n, "gain": gain, "start": start, "ideal": limit}
    return row | {"seconds": time.process_time() - begin, "starts": runs}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = []
    for row in rows:
        bad = [one["error"] > FOLDED * row["ideal"] for one in row["starts"]]
        split: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        for folded, one in zip(bad, row["starts"], strict=True):
            split[folded].append(one)
        pairs = list(itertools.product(split[False], split[True]))
        told = [good["trial_elbo"] > folded["trial_elbo"] for good, folded in pairs]
        lines.append(
            {key: row[key] for key in ("kind", "samples", "gain", "start")}
            | {
                "folded": f"{sum(bad)} of {len(bad)}",
                "error": statistics.median(one["error"] for one in row["starts"]),
                "ideal": row["ideal"],
                "told": f"{sum(told)} of {len(told)}" if told else "",
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for (kind, n, gain, steps), start in itertools.product(CELLS, STARTS):
        own = {"kind": kind, "samples": n, "gain": gain, "start": start}
        if not common.has(options.path, own):
            row = measure(kind, n, gain, steps, start)
            common.add(options.path, row, summary, command="tests/benchmarks/starts.py FILE")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
