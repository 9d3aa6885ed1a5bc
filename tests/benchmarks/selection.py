"""What `select` says of data of known shape: a confusion table over simulated recordings.

    python tests/benchmarks/selection.py [--seeds 10] [--first 0] [--kinds ring ...] [--rows 2000]
        [--output FILE.json]

Seeds are outermost, so that what is there is balanced; every selection is written when it is done,
and what is in FILE with the same settings is kept, so that the same command goes on after a stop.
Constants of the rule and of training were chosen on seeds from 100 on.

An answer is **right** if it is the true class, or undecided with the true class among those that
remain; on noise, if it is "none of these". It is **wrong and sure** if it is one other class.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import common
import torch

from manifold_ae import data, run
from manifold_ae.data import Dataset
from manifold_ae.experiments import Select
from manifold_ae.run.seeds import spread

#: What is simulated → its class.
TRUTH = {
    "ring": "circle",
    "torus": "torus:2",
    "so3": "so3",
    "axis": "projective:2",
    "sheet": "euclidean:2",
    "pictures": "torus:2",
    "noise": "none",
}
MANIFOLDS = (
    "circle", "torus:2", "sphere:2", "projective:2", "so3",
    "euclidean:1", "euclidean:2", "euclidean:3",
)  # fmt: skip


def asked(kind: str, seed: int, rows: int, settings: dict[str, Any]) -> tuple[Select, Dataset]:
    """What is asked of a simulated recording, and the recording."""
    recording = data.simulate(kind, rows, seed=seed)
    config = Select(
        data=f"{kind}.npy",
        likelihood=recording.likelihood,
        manifolds=MANIFOLDS,
        landmarks=0,
        device="cpu",
        seed=seed,
        **settings,
    )
    dataset = data.from_array(
        recording.x, name=f"{kind} {seed}", test_fraction=config.test_fraction, seed=seed
    )
    return config, dataset


def one(kind: str, seed: int, rows: int, settings: dict[str, Any]) -> dict[str, Any]:
    """A selection, and whether it is right."""
    config, dataset = asked(kind, seed, rows, settings)
    started, on_cpu = time.monotonic(), time.process_time()
    found = run.select(config, dataset=dataset)
    answer = found.answer if found.answer != "one" else found.names[0]
    truth = TRUTH[kind]
    right = truth in found.names if truth != "none" else answer == "none" and not found.names
    return {
        "kind": kind,
        "seed": seed,
        "answer": answer,
        "names": list(found.names),
        "right": right,
        "wrong_and_sure": found.answer == "one" and not right,
        "gain": found.structure["gain"],
        "null_gain": found.structure["null_gain"],
        "structure_se": found.structure["se"],
        "behind": {row["name"]: row["behind"] for row in found.rows},
        "behind_se": {row["name"]: row["behind_se"] for row in found.rows},
        "coverage": {row["name"]: row["coverage"] for row in found.rows},
        "hole": {row["name"]: row["hole"] for row in found.rows},
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - on_cpu,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By what was simulated: how often the answer was right, and what it was."""
    table = {}
    for kind, truth in TRUTH.items():
        own = [r for r in runs if r["kind"] == kind]
        if own:
            answers = [r["answer"] for r in own]
            table[kind] = {
                "true class": truth,
                "runs": len(own),
                "right": sum(r["right"] for r in own),
                "wrong and sure": sum(r["wrong_and_sure"] for r in own),
                "answers": [f"{a} {answers.count(a)}" for a in dict.fromkeys(answers)],
                "cpu seconds": spread([r["cpu_seconds"] for r in own]),
            }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--kinds", nargs="+", choices=TRUTH, default=list(TRUTH))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="fields of Select"
    )
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings: dict[str, Any] = {"test_fraction": 0.25}
    settings |= dict(Select.parse_setting(setting) for setting in options.set)
    defaults = Select(manifolds=MANIFOLDS, landmarks=0, **settings).to_mapping()
    for own in ("data", "likelihood"):  # each recording's
        del defaults[own]
    about = {"rows": options.rows, "settings": defaults}
    content: dict[str, Any] = {**about, "machine": common.machine("cpu"), "runs": []}
    if options.output is not None and options.output.exists():
        before = json.loads(options.output.read_text(encoding="utf-8"))
        if any(before.get(key) != value for key, value in about.items()):
            parser.error(f"{options.output} was made with other settings; give another --output")
        content["runs"] = before["runs"]
    done = {(r["kind"], r["seed"]) for r in content["runs"]}
    for seed in range(options.first, options.first + options.seeds):
        for kind in options.kinds:
            if (kind, seed) in done:
                continue
            found = one(kind, seed, options.rows, settings)
            content["runs"].append(found)
            content["table"] = summary(content["runs"])
            print(kind, seed, found["answer"], found["names"], f"{found['cpu_seconds']:.0f} s")
            if options.output is not None:
                common.keep(options.output, content)
    print(json.dumps(summary(content["runs"]), indent=1))


if __name__ == "__main__":
    main()
