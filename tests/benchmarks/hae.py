"""What homomorphism autoencoders learn, over seeds: the experiments behind docs/results.

    python tests/benchmarks/hae.py torus FILE.json [--seeds 5]         two angles: three kinds of φ
    python tests/benchmarks/hae.py solids FILE.json [--seeds 5]        rotations past what was seen
    python tests/benchmarks/hae.py combinations FILE.json [--seeds 5]  what was never seen together

Every run is written as soon as it ends, and is not made again when the command is repeated, so that
several processes may share the work: ``--only 0/2`` and ``--only 1/2`` take every other run, into
files of their own, which ``merge FILE.json PART.json ...`` joins. One thread a process.
"""

import json
import math
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from manifold_ae import run
from manifold_ae.experiments import HAE
from manifold_ae.run.files import write_json

PI = math.pi
#: Pictures of 16 × 16 pixels, so that all of it is done in an hour.
SMALL = {"world": ("size=16",)}
#: A perceptron sees actions of all sizes, as it does not reach beyond. It is settled by as many
#: transitions as it has weights to settle, and many more: six times the traces, in epochs six
#: times as long, of which there are fewer.
PERCEPTRON = {
    "phi": "mlp", "largest": PI, "traces": 60000, "epochs": 4, "restart_epochs": 1,
}  # fmt: skip
#: Behind a scramble φ has more weights, and nothing but the traces: twice as many.
SOFT = {
    **PERCEPTRON, "blocks": "soft", "size": 4, "phi_hidden": (256, 256), "traces": 120000,
    "epochs": 2,
}  # fmt: skip
#: The errors of pictures are so small that a few 1e-4 rad a step count. What is left of them is the
#: noise of latents, 1e-2 rad of a transition, spread over the 500 weights that settle: it takes
#: about a million transitions to average it away.
MANY = {**SOFT, "traces": 480000, "epochs": 1, "restarts": 2}
#: As Keurti et al. have it, with nothing beside it and no end of its own.
PLAIN = {"phi": "mlp", "phi_activation": "relu", "phi_skip": False, "settle_steps": 0}
#: Large rotations are never seen; the bracket's weight makes up for what they would tell.
SOLID = {
    "data": "solids", "largest": 1.0, "frequency_weight": 0.0, "bracket_weight": 10.0,
    "traces": 8000, "epochs": 15, "restarts": 1,
}  # fmt: skip
UNSEEN = {"data": "sprites", **SMALL, "hold_out": "combinations"}
#: One start of convolutions may wait long before the second axis is learned; trials tell.
CONV = {
    **UNSEEN, "network": "conv", "padding": "circular", "lr": 2e-3, "restarts": 4,
    "restart_epochs": 5,
}  # fmt: skip

#: Experiment → the name of a run → what differs from the defaults.
EXPERIMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "torus": {
        f"{data}, {name}": {"data": data, **SMALL, **changes}
        for data in ("pictures", "sprites")
        for name, changes in {
            "linear φ, blocks given": {},
            "perceptron φ, blocks given": PERCEPTRON,
            "perceptron φ, soft blocks, scrambled": MANY if data == "pictures" else SOFT,
        }.items()
    },
    "solids": {
        "linear φ": SOLID,
        "perceptron φ": {**SOLID, **PLAIN, "bracket_weight": HAE.bracket_weight},
    },
    "sprites": {"defaults": {"data": "sprites"}},
    "combinations": {
        "homomorphism autoencoder": UNSEEN,
        "homomorphism autoencoder, smaller gap": {**UNSEEN, "hold_out_bins": 8},
        "representation given, on the torus": {**UNSEEN, "model": "given", "manifold": "torus:2"},
        "Givens rotations": {**UNSEEN, "model": "givens"},
        "unstructured": {**UNSEEN, "model": "unstructured"},
        "actions ignored": {**UNSEEN, "model": "still"},
        "convolutions": CONV,
        "convolutions, one start": {**CONV, "restarts": 1},
        "convolutions, smaller gap": {**CONV, "hold_out_bins": 8},
        "convolutions, unstructured": {**CONV, "model": "unstructured"},
        "convolutions, actions ignored": {**CONV, "model": "still"},
    },
}
#: What is summarised, of what a run has.
SUMMARY = (
    "mse", "alignment_residual", "alignment_condition", "character_gap", "d_lsbd",
    "equivariance_error", "homomorphism_error", "identity_error", "inverse_error",
    "off_block_energy", "rollout_growth", "seen_error", "held_out_error", "held_out_ratio",
    "held_out_latent_ratio", "held_out_start_ratio",
    "seconds",
)  # fmt: skip


def configuration(experiment: str, name: str, seed: int) -> HAE:
    """Of one run; the scramble is another for each seed."""
    changes = dict(EXPERIMENTS[experiment][name])
    if changes.get("blocks") == "soft":
        changes["scramble"] = seed + 1
    return HAE(seed=seed, device="cpu").replace(**changes)


def read(path: Path) -> dict[str, Any]:
    if path.exists():
        return json.loads(path.read_text())
    return {"machine": f"{platform.machine()}, one thread", "torch": torch.__version__, "runs": {}}


def summarise(content: dict[str, Any], summary: tuple[str, ...] = SUMMARY) -> None:
    """Means and spreads over the seeds, and the largest of every figure, beside the runs.

    A condition number that is infinite, of a run that has not found the true representation, is
    none in the file, and leaves its row without a mean; ``aligned`` counts those that have.
    """
    content["seeds"] = max(len(seeds) for seeds in content["runs"].values())
    content["mean"], content["most"], aligned = {}, {}, {}
    for name, seeds in content["runs"].items():
        if any("alignment_residual" in found for found in seeds.values()):
            aligned[name] = f"{sum(map(is_aligned, seeds.values()))} of {len(seeds)}"
        for key in summary:
            values = [found[key] for found in seeds.values() if key in found]
            if not values:
                continue
            known = all(value is not None and math.isfinite(value) for value in values)
            spread = statistics.stdev(values) if known and len(values) > 1 else None
            mean = {"mean": statistics.fmean(values) if known else None, "sd": spread}
            content["mean"].setdefault(key, {})[name] = mean
            content["most"].setdefault(key, {})[name] = max(values) if known else None
    if aligned:
        content["mean"]["aligned"] = aligned


def is_aligned(found: dict[str, Any]) -> bool:
    """Whether a run has found a representation equivalent to the true one."""
    condition = found.get("alignment_condition")
    return condition is not None and condition < 10 and found["alignment_residual"] < 0.01


@click.group()
def main() -> None:
    """See the module's docstring."""
    torch.set_num_threads(1)


def experiment(which: str) -> None:
    @main.command(which)
    @click.argument("path", type=click.Path(path_type=Path))
    @click.option("--seeds", default=5, show_default=True)
    @click.option("--only", default="0/1", help="Part K/N of the runs.  [default: 0/1]")
    @click.option("--name", "names", multiple=True, help="Only the runs of this name.")
    @click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="For a trial.")
    def command(
        path: Path, seeds: int, only: str, names: tuple[str, ...], settings: tuple[str, ...]
    ) -> None:
        for name in names:
            if name not in EXPERIMENTS[which]:
                known = ", ".join(map(repr, EXPERIMENTS[which]))
                raise click.BadParameter(f"no run {name!r}; there are {known}")
        part, parts = map(int, only.split("/"))
        content = read(path)
        jobs = [(seed, name) for seed in range(seeds) for name in names or EXPERIMENTS[which]]
        for seed, name in tqdm(jobs[part::parts], unit="run"):
            done = content["runs"].setdefault(name, {})
            if str(seed) in done:
                continue
            config = configuration(which, name, seed)
            config = config.replace(**dict(HAE.parse_setting(s) for s in settings))
            started = time.monotonic()
            done[str(seed)] = run.train(config).evaluate()
            done[str(seed)]["wall_seconds"] = time.monotonic() - started
            summarise(content)
            write_json(path, content)

    command.help = f"The experiment {which!r}."


for which in EXPERIMENTS:
    experiment(which)


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("others", nargs=-1, type=click.Path(path_type=Path, exists=True))
def merge(path: Path, others: tuple[Path, ...]) -> None:
    """Join the runs of several files."""
    content = read(path)
    for other in others:
        for name, seeds in read(other)["runs"].items():
            content["runs"].setdefault(name, {}).update(seeds)
    summarise(content)
    write_json(path, content)


if __name__ == "__main__":
    main()
