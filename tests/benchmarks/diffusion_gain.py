"""What is gained by elements: chains distilled to one, over seeds and numbers of traces.

    python tests/benchmarks/diffusion_gain.py one-step FILE.json [--seeds 5]  starts to elements
    python tests/benchmarks/diffusion_gain.py latents FILE.json [--seeds 5]   elements, learned ρ

Every run is written as soon as it ends, and is not made again when the command is repeated. One
thread a process. Steps, rate and weight below were chosen on seed 100.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from common import machine, spread
from diffusion_hae import POINTS
from hae import read
from torch import Tensor, nn
from tqdm import tqdm

from manifold_ae import data, metrics, run
from manifold_ae.data.worlds import Diffusion
from manifold_ae.diffusion import Denoiser, Schedule, ddim_first_order, exact, samplers
from manifold_ae.experiments import HAE
from manifold_ae.experiments import Diffusion as DiffusionTraining
from manifold_ae.models import ElementStep, OneStep, PointStep
from manifold_ae.run.files import write_json

SCHEDULE = Schedule.linear(1000)
#: Of the chains that are distilled.
CALLS = 50
TRACES = (64, 256, 1024, 4096)
SHOWN_CALLS = (1, 2, 5, 10, 50)
LARGEST = 1 / math.sqrt(SCHEDULE.alpha_bar[-1].item())
WIDTH, STEPS, BATCH, RATE, WEIGHT = 64, 1000, 128, 5e-3, 0.01
#: Fresh starts that maps are compared at, and samples that are held against 10,000 data.
FRESH = 10_000


# ---- what is distilled --------------------------------------------------------------------------


def mixture() -> Denoiser:
    return exact.mixture(*data.mixture_parameters(), SCHEDULE)


def moons(count: int = 64) -> Denoiser:
    """Each half circle as Gaussians half a deviation apart: too near to tell from their limit."""
    a = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    both = torch.stack([torch.stack([a.cos(), a.sin()], -1)] * 2)
    both[1] = torch.tensor([1.0, 0.5], dtype=torch.float64) - both[1]
    scale = torch.tensor([0.75, 0.5625 - 1 / math.pi], dtype=torch.float64).add(0.01).sqrt()
    means = (both.flatten(0, 1) - torch.tensor([0.5, 0.25], dtype=torch.float64)) / scale
    return exact.mixture(means, (0.01 / scale.square()).expand_as(means), SCHEDULE)


def learned() -> Denoiser:
    """A network, of 8,000 steps on points drawn afresh."""
    return run.train(DiffusionTraining(data="mixture", device="cpu")).model.eval().denoiser


class Problem(NamedTuple):
    """Data, a denoiser of theirs, and of how many chains it is distilled."""

    data: str
    denoiser: Callable[[], Denoiser]
    traces: tuple[int, ...] = TRACES


PROBLEMS = {
    "eight Gaussians, exact score": Problem("mixture", mixture),
    "two moons, exact score": Problem("moons", moons),
    "eight Gaussians, learned score": Problem("mixture", learned, (1024,)),
}


class Readout(NamedTuple):
    """How a network of so many outputs is read, and whether it is told derivatives."""

    outputs: int
    make: Callable[[nn.Module], OneStep]
    derivatives: bool = False


READOUTS = {
    "end, no group": Readout(2, lambda net: PointStep(net, 2)),
    "element, s = 1/√ᾱ": Readout(2, lambda net: ElementStep(net, 2, LARGEST)),
    "element, s = 1": Readout(2, lambda net: ElementStep(net, 2, 1.0)),
    "element, s learned": Readout(3, lambda net: ElementStep(net, 2, None)),
    "end, with derivatives": Readout(2, lambda net: PointStep(net, 2), True),
}


class Traces(NamedTuple):
    starts: Tensor
    ends: Tensor
    derivatives: Tensor


def traces(denoiser: Denoiser, seed: int, count: int = TRACES[-1]) -> Traces:
    """Starts, ends and derivatives of chains, float32; the first so many are those of fewer."""
    x = normal(count, seed)
    found = ddim_first_order(denoiser, SCHEDULE, x, SCHEDULE.times(CALLS))
    ends = samplers.ddim(denoiser, SCHEDULE, x, SCHEDULE.times(CALLS))
    return Traces(x.float(), ends.detach().float(), found[:, :-1, :-1].float())


def normal(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, generator=generator, dtype=torch.float64)


def distil(readout: Readout, seen: Traces, seed: int) -> OneStep:
    """The network after ``STEPS`` batches of these traces; it begins alike whatever is read."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inner = [nn.Linear(2, WIDTH), nn.SiLU(), *(2 * [None])]
        inner[2:] = [nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()]
        model = readout.make(nn.Sequential(*inner, nn.Linear(WIDTH, readout.outputs)))
    adam = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    course = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=STEPS)
    generator = torch.Generator().manual_seed(seed)
    count = len(seen.starts)
    for _ in range(STEPS):
        rows = torch.randint(count, (BATCH,), generator=generator)
        told = seen.derivatives[rows] if readout.derivatives else None
        loss = model.loss(seen.starts[rows], seen.ends[rows], told, weight=WEIGHT)["loss"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        course.step()
    return model.eval()


# ---- how it is judged ---------------------------------------------------------------------------


class Judge:
    """What samples are held against: data, and the chain's own ends of the same starts."""

    def __init__(self, problem: Problem, denoiser: Denoiser, seed: int) -> None:
        points = data.load(problem.data)
        self.data, self.fresh = points.test.double(), points.train.double()
        self.starts = normal(FRESH, seed + 10_000)
        self.seed = seed
        half = len(self.data) // 2
        self.known = self.data[half:].float()
        #: So far from half of the data lies one in a hundred of the other half.
        self.near = self.gaps(self.data[:half]).quantile(0.99)
        times = SCHEDULE.times
        with torch.no_grad():
            self.made = {
                calls: samplers.ddim(denoiser, SCHEDULE, self.starts, times(calls))
                for calls in SHOWN_CALLS
            }

    def quality(self, samples: Tensor) -> metrics.SampleQuality:
        generator = torch.Generator().manual_seed(self.seed)
        return metrics.sample_quality(samples, self.data, generator=generator)

    def gaps(self, samples: Tensor) -> Tensor:
        """From each to the nearest of half of the data."""
        return torch.cdist(samples.float(), self.known).amin(1)

    def stray(self, samples: Tensor) -> float:
        """The share of samples where there are no data, of which 0.01 are."""
        return (self.gaps(samples[: len(self.known)]) > self.near).double().mean().item()

    def __call__(self, model: OneStep) -> dict[str, float]:
        with torch.no_grad():
            made = model(self.starts.float()).double()
        gap = (made - self.made[CALLS]).square().mean()
        return {
            "distance": self.quality(made).distance,
            "stray": self.stray(made),
            "map_error": gap.sqrt().item(),
        }


def summarise(content: dict[str, Any]) -> None:
    """Tables of the runs, a row a read-out, a column a number of traces."""
    content["machine"] = machine("cpu")
    for name, runs in content["runs"].items():
        found = list(runs["samplers"].values())
        content[f"{name}: DDIM"] = {
            calls: {
                figure: spread([one[calls][figure] for one in found])
                for figure in ("sliced_wasserstein_distance", "share_of_stray_samples")
            }
            for calls in found[0]
        }
        for figure, title in (
            ("distance", "sliced Wasserstein distance"),
            ("stray", "share of stray samples"),
            ("map_error", "root mean squared distance to the chain's own ends"),
        ):
            content[f"{name}: {title}, at one call"] = {
                readout: {
                    f"{count} traces": spread([found[figure] for found in seeds.values()])
                    for count, seeds in counts.items()
                }
                for readout, counts in runs["readouts"].items()
            }


@click.group()
def main() -> None:
    """See the module's docstring."""
    torch.set_num_threads(1)


@main.command("one-step")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--seeds", default=5, show_default=True)
@click.option("--first", default=0, show_default=True, help="The first seed; for a trial, 100.")
@click.option("--problem", "problems", multiple=True, type=click.Choice(list(PROBLEMS)))
def one_step_command(path: Path, seeds: int, first: int, problems: tuple[str, ...]) -> None:
    """Networks from starts to elements, or to ends, of 64 to 4,096 chains."""
    content = read(path)
    for name in problems or PROBLEMS:
        denoiser = PROBLEMS[name].denoiser()
        done = content["runs"].setdefault(name, {"samplers": {}, "readouts": {}})
        for seed in tqdm(range(first, first + seeds), desc=name, unit="seed"):
            judge = Judge(PROBLEMS[name], denoiser, seed)
            seen = traces(denoiser, seed)
            qualities = {calls: judge.quality(made) for calls, made in judge.made.items()}
            done["samplers"][str(seed)] = {
                **{
                    f"{calls} calls": {
                        "sliced_wasserstein_distance": found.distance,
                        "share_of_stray_samples": judge.stray(judge.made[calls]),
                    }
                    for calls, found in qualities.items()
                },
                "data, the floor": {
                    "sliced_wasserstein_distance": qualities[1].floor,
                    "share_of_stray_samples": judge.stray(judge.fresh),
                },
            }
            for readout, how in READOUTS.items():
                for count in PROBLEMS[name].traces:
                    runs = done["readouts"].setdefault(readout, {}).setdefault(str(count), {})
                    if str(seed) in runs:
                        continue
                    started = time.monotonic()
                    few = Traces(*(value[:count] for value in seen))
                    runs[str(seed)] = judge(distil(how, few, seed))
                    runs[str(seed)]["seconds"] = time.monotonic() - started
            summarise(content)
            write_json(path, content)


# ---- a learned representation -------------------------------------------------------------------

#: Scales of elements from the same start to the same end, the last that of the chain.
SCALES = (0.01, 0.1, 0.5, 1.0, 2.0, 10.0, LARGEST)


def latents(seed: int, *, count: int = 200, seen: int = 1024) -> dict[str, float]:
    """Squared error a pixel of the picture at the end, from that at the start and an element."""
    trained = run.train(HAE(seed=seed, device="cpu").replace(**POINTS))
    world = Diffusion(kind="ddim")
    x = normal(count, seed + 10_000)
    chain = samplers.ddim_chain(world.denoiser, world.schedule, x, world.times)
    first, last = (world.render(points.float()) for points in (chain.start, chain.end))
    group = chain.group

    def error(elements: Tensor) -> float:
        guess = trained.rollout(first, group.log(elements).float())[:, -1]
        return (guess - last).square().mean().item()

    def through(end: Tensor, scale: float) -> Tensor:
        kept = torch.full_like(end[:, :1], scale)
        return torch.cat([kept, end - scale * chain.start], -1).unsqueeze(1)

    known = Traces(*(value[:seen] for value in traces(world.denoiser, seed)))
    student = distil(READOUTS["element, s = 1"], known, seed)
    with torch.no_grad():
        guessed = student(x.float()).double()
        seen_again = trained.model.decode(trained.encode(last))
    return {
        "start copied": (first - last).square().mean().item(),
        "end autoencoded": (seen_again - last).square().mean().item(),
        "50 elements": error(chain.elements),
        **{f"s = {scale:.3g}": error(through(chain.end, scale)) for scale in SCALES},
        "s = 1, element distilled": error(through(guessed, 1.0)),
    }


@main.command("latents")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--seeds", default=5, show_default=True)
def latents_command(path: Path, seeds: int) -> None:
    """Pictures of a chain's end by a learned ρ, of elements of several scales."""
    content = read(path)
    for seed in tqdm(range(seeds), unit="run"):
        if str(seed) not in content["runs"]:
            content["runs"][str(seed)] = latents(seed)
        found = list(content["runs"].values())
        content["machine"] = machine("cpu")
        content["squared error a pixel"] = {
            name: {
                "mean": spread([one[name] for one in found]),
                "most": max(one[name] for one in found),
            }
            for name in found[0]
        }
        write_json(path, content)


if __name__ == "__main__":
    main()
