"""Is the topology told right? Homology of samples whose shape is known, and encoders of a torus.

    python tests/benchmarks/topology.py samples|encoders [--seeds 5] [--output FILE.json]

``samples``: 2,000 uniform points, seen through 200 landmarks, of manifolds, of a flat sheet, and of
noise in twenty dimensions. ``right`` if every Betti number is told, and right, over ℤ/2 and ℤ/3;
``wrong`` if one is told wrong. ``verdict`` is that on these points as latents, and on the
coordinates that decoders see as data: it tries the landmarks on uniform points first.
``encoders``: single runs of 350 steps on the simple periodic picture, judged by the two angles of
the data, and again by samples alone, as if these were unknown.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import common
import torch
from tqdm import tqdm

from manifold_ae import manifolds, metrics, run
from manifold_ae.experiments import VAE

NAMES = ["circle", "sphere:2", "torus:2", "projective:2", "klein-bottle", "so3", "embedded-torus"]
PRIMES = (2, 3)
VERDICTS = {True: "captured", None: "cannot tell", False: "not captured"}
BASE = VAE(
    manifold="torus:2",
    data="torus",
    likelihood="gaussian",
    batch_size=128,
    steps_per_epoch=50,
    epochs=7,
    lr_schedule="one-cycle",
    kl_warmup=0.1,
)


def verdict(captured: bool | None) -> str:
    return VERDICTS[captured]


def told(found: metrics.Homology, expected: dict[int, tuple[int, ...]]) -> str:
    pairs = [(a, b) for p in PRIMES for a, b in zip(found.betti[p], expected[p], strict=True)]
    if any(a is not None and a != b for a, b in pairs):
        return "wrong"
    return "right" if all(a is not None for a, _ in pairs) else "cannot tell"


def sample(name: str, seed: int) -> tuple[str, str | None]:
    """What is told of the Betti numbers, and the verdict where there is a manifold."""
    generator = torch.Generator().manual_seed(seed)
    if name in NAMES:
        M = manifolds.parse(name)
        z = M.random_uniform(2000, generator=generator, dtype=torch.float64)
        expected = {p: (M.betti_numbers(p) or ())[:3] for p in PRIMES}
        found = metrics.certify_samples(M, z, M.embed(z), generator=generator)
        return told(metrics.betti_of_latents(M, z), expected), verdict(found.captured)
    x = {
        "flat sheet": lambda: torch.rand(2000, 2, generator=generator),
        "noise in 20 dimensions": lambda: torch.randn(2000, 20, generator=generator),
    }[name]()
    return told(metrics.betti_of_data(x), dict.fromkeys(PRIMES, (1, 0, 0))), None


def samples(seeds: range) -> dict[str, Any]:
    rows = {}
    for name in tqdm([*NAMES, "flat sheet", "noise in 20 dimensions"], desc="samples"):
        answers, verdicts = zip(*(sample(name, seed) for seed in seeds), strict=True)
        rows[name] = {key: answers.count(key) for key in ("right", "cannot tell", "wrong")}
        if name in NAMES:
            rows[name] |= {f"verdict: {key}": verdicts.count(key) for key in VERDICTS.values()}
    return {"samples": rows}


def encoder(seed: int, device: str) -> dict[str, Any]:
    trained = run.train(BASE.replace(seed=seed, device=device))
    started = time.monotonic()
    known = trained.topology()
    middle = time.monotonic()
    test = trained.data().test
    by_samples = metrics.certify_samples(
        trained.model.manifold,
        torch.from_numpy(trained.encode(test)["points"]),
        test,
        generator=torch.Generator().manual_seed(seed),
    )
    end = time.monotonic()
    degree = known.evidence["degree"]
    return {
        "seed": seed,
        "by factors": verdict(known.captured),
        "winding": str(known.evidence["winding"]),
        "degree": degree["value"],
        "integral": degree["integral"],
        "reversed": degree["reversed"],
        "jump": known.evidence["continuity"]["jumps"][0],
        "coverage": known.evidence["coverage"]["fraction"],
        "by samples": verdict(by_samples.captured),
        "latents": str(by_samples.evidence["latents"]["betti"]["2"]),
        "data": str(by_samples.evidence["data"]["betti"]["2"]),
        "elbo": trained.evaluate(num_samples=1)["elbo"],
        "seconds by factors": middle - started,
        "seconds by samples": end - middle,
        "words": [known.words, by_samples.words],
    }


def encoders(seeds: range, device: str) -> dict[str, Any]:
    rows = []
    for seed in tqdm(seeds, desc="encoders"):
        rows.append(encoder(seed, device))
        tqdm.write(str(rows[-1]))
    shown = [{key: value for key, value in row.items() if key != "words"} for row in rows]
    return {"encoders": shown, "runs": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["samples", "encoders"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    found = samples(seeds) if arguments.what == "samples" else encoders(seeds, arguments.device)
    command = f"python tests/benchmarks/topology.py {arguments.what}"
    content = {"command": command, "machine": common.machine(arguments.device)}
    common.write(arguments.output, content | found)


if __name__ == "__main__":
    main()
