r"""Where are translations of periodic pictures captured? Order, discount, noise, and what trains.

    python tests/benchmarks/limits.py map|cures [--cells N,γ,σ ...] [--methods NAME ...] [--seeds 5]
        [--steps S] [--batch-size B] [--output FILE.json]

``map``: pictures of N waves with discount γ under pixel noise σ, each seed another picture; by
default all of N = 3, 6, 10, 16, γ = 0.1, 0.3, 0.5, 0.7 and σ = 0, 0.5, 1. ``cures``: the simple
picture without noise, on which single runs fail. What is already in FILE with the same settings is
kept, so that a run goes on where it was stopped, and single cells can be added.

A run has **captured** the translations if

1. the encoder's windings along loops of noise-free pictures, from four starts, are one matrix with
   determinant ±1 (not asked of toroidal coordinates, which are known on the given pictures alone);
2. so is the matrix W of α = W θ + c, fitted on 256 noisy pictures by ``metrics.align_torus``;
3. the mean distance between decoded and true angles on 1,000 further noisy pictures is at most 0.3
   rad, or twice that of the exact posterior mean of one who knows the picture, and never more
   than 1 (guessing: 2.40).

Toroidal coordinates (DREiMac) have no map to other points: they are given the judged pictures, too.
"""

import argparse
import dataclasses
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor
from tqdm import tqdm

from manifold_ae import data, manifolds, metrics, run
from manifold_ae.data import Dataset, PeriodicPicture
from manifold_ae.experiments import VAE
from manifold_ae.experiments.paper import SETTINGS

ORDERS = (3, 6, 10, 16)
DISCOUNTS = (0.1, 0.3, 0.5, 0.7)
NOISES = (0.0, 0.5, 1.0)
FITTED, JUDGED = 256, 1000
#: Mean distance in radians that counts as small; in units of the exact posterior's; and at most.
SMALL, TIMES, MOST = 0.3, 2.0, 1.0
STARTS = ((0.0, 0.0), (2.0, 1.0), (-1.0, 3.0), (-2.0, -2.0))
LANDMARKS = 200

BASE = VAE(
    manifold="torus:2",
    data="torus",
    likelihood="gaussian",
    batch_size=128,
    lr_schedule="one-cycle",
    kl_warmup=0.1,
)
#: Parts of a run: an epoch of the configuration, after which a trial may be judged.
EPOCHS = 10
#: What is trained, and how, as fields of ``VAE``.
TRAINED: dict[str, dict[str, Any]] = {
    "published": SETTINGS["paper's setting"],
    "mlp": {},
    "time 0.3": {"initial_time": 0.3},
    "time 1": {"initial_time": 1.0},
    "restarts": {"restarts": 4, "restart_epochs": EPOCHS // 5},
    "components": {"start": "components"},
    "importance 5": {"num_importance": 5},
    "importance 20": {"num_importance": 20},
    "curriculum": {},
    "circular": {"network": "circular", "batch_size": 32, "lr": 3e-3, "kl_warmup": 0.0},
}
#: Steps of a run, unless ``--steps`` says otherwise.
STEPS = dict.fromkeys(TRAINED, 1000) | {"circular": 100}
#: Not trained: toroidal coordinates of the pictures, or of so many of their principal components.
TOROIDAL: dict[str, int | None] = {"toroidal": None, "toroidal of components": 4}
METHODS = {
    "map": ("published", "restarts", "components", "circular", *TOROIDAL),
    # On one wave there is nothing to grow to.
    "cures": tuple(name for name in TRAINED if name != "curriculum"),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """Which pictures: N waves with discount γ, noise σ on pixels; N = 0 is the simple picture."""

    order: int
    discount: float
    noise: float

    @classmethod
    def parse(cls, text: str) -> "Cell":
        order, discount, noise = text.split(",")
        return cls(int(order), float(discount), float(noise))

    def picture(self, seed: int) -> PeriodicPicture:
        if self.order == 0:
            return PeriodicPicture.simple()
        return PeriodicPicture.fourier(self.order, self.discount, seed)

    def load(self, seed: int) -> Dataset:
        """Pictures to fit on and to judge on as the test part; new ones to train on."""
        own: dict[str, Any] = (
            {"picture": "simple"}
            if self.order == 0
            else {
                "picture": "fourier",
                "order": self.order,
                "discount": self.discount,
                "picture_seed": seed,
            }
        )
        return data.load(
            "torus", seed=seed, noise=self.noise, num_train=64, num_test=FITTED + JUDGED, **own
        )


# ---- the rule --------------------------------------------------------------------------------


def windings(encode: Callable[[Tensor], Tensor], picture: PeriodicPicture) -> Tensor | None:
    """The winding matrix of an encoder of pictures; None if it jumps, or has no single one."""

    def from_start(start: tuple[float, float]) -> Tensor:
        return metrics.winding_matrix(
            lambda angles: encode(picture.translate(angles + torch.tensor(start))),
            manifold,
            2,
            points=128,
        )

    manifold = manifolds.FlatTorus(2)
    try:
        found = [from_start(start) for start in STARTS]
    except ValueError:
        return None
    return found[0] if all(torch.equal(other, found[0]) for other in found) else None


def posterior_mean(picture: PeriodicPicture, x: Tensor, noise: float, *, fine: int = 4) -> Tensor:
    """The circular means of the shift's posterior given x ``(n, h, h)``, if the picture is known.

    With white noise of standard deviation σ and a uniform prior, log p(θ | x) = ⟨x, pic_θ⟩/σ² up to
    a constant, as |pic_θ| is the same for all θ; on a grid of ``fine`` shifts a pixel, by Fourier
    series: as a function of θ this has no waves past N.
    """
    g, top = fine * picture.size, picture.order
    waves = torch.fft.rfft2(x) * torch.fft.rfft2(picture.translate(x.new_zeros(2))).conj()
    padded = waves.new_zeros(len(x), g, g // 2 + 1)
    padded[:, : top + 1, : top + 1] = waves[:, : top + 1, : top + 1]
    padded[:, -top:, : top + 1] = waves[:, -top:, : top + 1]
    log_likely = torch.fft.irfft2(padded, s=(g, g)) * (fine / noise) ** 2
    likely = log_likely.flatten(1).softmax(-1).unflatten(1, (g, g))
    turns = torch.arange(g).to(x) * (2 * math.pi / g)
    return torch.stack(
        [torch.atan2(p @ turns.sin(), p @ turns.cos()) for p in (likely.sum(2), likely.sum(1))], -1
    )


def verdict(
    latent: Tensor, dataset: Dataset, winding: Tensor | None, *, exact: float, sampled: bool
) -> dict[str, Any]:
    """Whether latent angles of the test part capture the shifts: see the rule above.

    Arguments:
        latent: ``(n, 2)``.
        exact: mean distance of the exact posterior mean.
        sampled: whether the angles are known on the given pictures alone, without windings.
    """
    assert dataset.test_labels is not None
    truth = dataset.test_labels
    found = metrics.align_torus(latent[:FITTED], truth[:FITTED])
    known = winding is not None and metrics.degree_from_loops(manifolds.FlatTorus(2), winding)
    determinant = known[0] if known else None
    error = None
    if abs(found.determinant) == 1:
        error = found.errors(latent[FITTED:], truth[FITTED:]).mean().item()
    wound = sampled or (determinant is not None and abs(determinant) == 1)
    allowed = min(max(SMALL, TIMES * exact), MOST)
    return {
        "captured": wound and error is not None and error <= allowed,
        "determinant": determinant,
        "fitted": found.matrix.tolist(),
        "error": error,
    }


def exact_error(cell: Cell, dataset: Dataset, seed: int) -> float:
    """Mean distance of the exact posterior mean; without noise it is zero."""
    if cell.noise == 0:
        return 0.0
    assert dataset.test_labels is not None
    parts = dataset.test[FITTED:].split(100)
    means = [posterior_mean(cell.picture(seed), part, cell.noise) for part in parts]
    away = torch.cat(means) - dataset.test_labels[FITTED:]
    return torch.atan2(away.sin(), away.cos()).norm(dim=-1).mean().item()


# ---- the methods -----------------------------------------------------------------------------


def growing(dataset: Dataset, picture: PeriodicPicture, noise: float, steps: int) -> Dataset:
    """The data with N rising from 1 to its value over the first half of the steps."""
    done = itertools.count()

    def draw(
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> tuple[Tensor, Tensor]:
        source = generator.device if generator is not None else device
        kind = {"generator": generator, "device": source}
        order = min(picture.order, 1 + int(2 * picture.order * next(done) / steps))
        k = torch.arange(-picture.order, picture.order + 1).abs()
        low = (k <= order) & (k[:, None] <= order)
        part = dataclasses.replace(picture, coefficients=picture.coefficients * low)
        shifts = 2 * math.pi * torch.rand(n, 2, **kind)
        x = part.translate(shifts.to(source if device is None else device))
        return x + noise * torch.randn(x.shape, **kind).to(x.device), shifts

    return dataclasses.replace(dataset, draw=draw)


def trained(method: str, cell: Cell, dataset: Dataset, seed: int, config: VAE) -> dict[str, Any]:
    if method == "curriculum":
        steps = config.epochs * config.steps_per_epoch
        dataset = growing(dataset, cell.picture(seed), cell.noise, steps)
    vae = run.train(config, dataset=dataset)
    picture = cell.picture(seed)

    def encode(x: Tensor) -> Tensor:
        return torch.from_numpy(vae.encode(x)["points"])

    last = vae.history[-1]
    latent = torch.from_numpy(vae.encode(dataset.test)["angles"])
    exact = exact_error(cell, dataset, seed)
    judged = verdict(latent, dataset, windings(encode, picture), exact=exact, sampled=False)
    return judged | {"exact_error": exact, "elbo": last["elbo"], "mse": last["mse"]}


def toroidal(
    cell: Cell, dataset: Dataset, seed: int, components: int | None = None
) -> dict[str, Any]:
    """Toroidal coordinates from persistent cohomology, of the noisy pictures themselves.

    Arguments:
        components: how many of the principal components to look at in place of pixels, or None:
            distances between pictures are of noise, 4096 σ² in square, where σ is not small.

    References:
        L. Scoccola, H. Gakhar, J. Bush, N. Schonsheck, T. Rask, L. Zhou and J. A. Perea, *Toroidal
        coordinates: decorrelating circular coordinates with lattice reduction*, 2022.
        https://arxiv.org/abs/2212.07201
    """
    try:
        from dreimac import ToroidalCoords
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "toroidal coordinates need DREiMac: pip install 'manifold-ae[topology]', or choose "
            "other --methods"
        ) from error
    exact = exact_error(cell, dataset, seed)
    seen = dataset.test.flatten(1).double()
    if components is not None:
        seen = seen - seen.mean(0)
        # Of the smaller of the two matrices of products.
        sizes, vectors = torch.linalg.eigh(seen @ seen.mT)
        seen = vectors[:, -components:] * sizes[-components:].sqrt()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The input point cloud has more columns than rows")
        coordinates = ToroidalCoords(seen.numpy(), LANDMARKS)
        refused = []
        # Where classes are short the first way raises a bare Exception, which advises the second.
        for standard in (True, False):
            try:
                found = coordinates.get_coordinates(cocycle_idxs=[0, 1], standard_range=standard)
            except Exception as error:
                refused.append(" ".join(str(error).split()))
            else:
                break
        else:
            return {"captured": False, "error": None, "exact_error": exact, "refused": refused}
    latent = torch.stack([torch.as_tensor(angle) for angle in found], -1)
    judged = verdict(latent, dataset, None, exact=exact, sampled=True)
    return judged | {"exact_error": exact, "standard_range": standard}


def settings(method: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a run is told from others of the same cell and seed by."""
    if method in TOROIDAL:
        return {"method": method, "steps": 0, "batch_size": 0}
    return {
        "method": method,
        "steps": arguments.steps or STEPS[method],
        "batch_size": arguments.batch_size or TRAINED[method].get("batch_size", BASE.batch_size),
    }


def one(told: dict[str, Any], cell: Cell, seed: int, device: str) -> dict[str, Any]:
    """A run, judged."""
    started = time.monotonic()
    dataset = cell.load(seed)
    if told["method"] in TOROIDAL:
        outcome = toroidal(cell, dataset, seed, TOROIDAL[told["method"]])
    else:
        fields = TRAINED[told["method"]] | {
            "seed": seed,
            "device": device,
            "epochs": EPOCHS,
            "steps_per_epoch": max(1, told["steps"] // EPOCHS),
            "batch_size": told["batch_size"],
        }
        outcome = trained(told["method"], cell, dataset, seed, BASE.replace(**fields))
    return (
        told
        | dataclasses.asdict(cell)
        | {"seed": seed}
        | outcome
        | {"seconds": round(time.monotonic() - started, 1)}
    )


# ---- the table -------------------------------------------------------------------------------


def groups(runs: list[dict[str, Any]], *keys: str) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Runs that agree in these keys, in their order."""

    def of(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[key] for key in keys)

    for values, rows in itertools.groupby(sorted(runs, key=of), of):
        yield dict(zip(keys, values, strict=True)), list(rows)


def told_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    errors = [row["error"] for row in rows if row["captured"]]
    return {
        "captured": f"{sum(row['captured'] for row in rows)} of {len(rows)}",
        "mean error where captured": common.spread(errors) if errors else None,
        "exact posterior": common.spread([row["exact_error"] for row in rows]),
        "seconds": common.spread([row["seconds"] for row in rows]),
    }


def summary(runs: list[dict[str, Any]], device: str) -> dict[str, Any]:
    simple = [row for row in runs if row["order"] == 0]
    target = [row for row in runs if (row["order"], row["discount"], row["noise"]) == (10, 0.3, 1)]
    maps = {}
    for told, rows in groups([r for r in runs if r["order"]], "method", "steps", "batch_size"):
        lines = []
        for place, line in groups(rows, "noise", "order"):
            won = {f"γ = {γ}": "–" for γ in sorted({row["discount"] for row in rows})}
            for of, cell in groups(line, "discount"):
                captured = sum(row["captured"] for row in cell)
                won[f"γ = {of['discount']}"] = f"{captured} of {len(cell)}"
            lines.append({"σ": place["noise"], "N": place["order"]} | won)
        name = told["method"]
        if told["steps"]:
            name += f", {told['steps']} steps of {told['batch_size']}"
        maps[name] = lines
    keys = ("method", "steps", "batch_size")
    return {
        "machine": common.machine(device),
        "target, N = 10, γ = 0.3, σ = 1": [t | told_of(rows) for t, rows in groups(target, *keys)],
        "simple picture": [t | told_of(rows) for t, rows in groups(simple, *keys)],
        **maps,
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=list(METHODS))
    parser.add_argument("--cells", type=Cell.parse, nargs="+", metavar="N,γ,σ", help="all of them")
    parser.add_argument("--methods", nargs="+", choices=[*TRAINED, *TOROIDAL])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="from 100 on for tuning")
    parser.add_argument("--steps", type=int, help="of every run, in place of each method's own")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    every = [Cell(*cell) for cell in itertools.product(ORDERS, DISCOUNTS, NOISES)]
    own = {"map": every, "cures": [Cell(0, 1.0, 0.0)]}
    cells = arguments.cells or own[arguments.what]
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    methods = arguments.methods or METHODS[arguments.what]
    runs: list[dict[str, Any]] = []
    if arguments.output is not None and arguments.output.exists():
        runs = json.loads(arguments.output.read_text(encoding="utf-8"))["runs"]
    # Seeds outermost: stopped early, every cell has been tried by as many.
    jobs = [(seed, method, cell) for seed in seeds for method in methods for cell in cells]
    for seed, method, cell in tqdm(jobs, desc=arguments.what):
        told = settings(method, arguments) | dataclasses.asdict(cell) | {"seed": seed}
        if any(told.items() <= row.items() for row in runs):
            continue
        runs.append(one(settings(method, arguments), cell, seed, arguments.device))
        tqdm.write(str(runs[-1]))
        if arguments.output is not None:
            common.keep(arguments.output, summary(runs, arguments.device))
    common.write(arguments.output, summary(runs, arguments.device))


if __name__ == "__main__":
    main()
