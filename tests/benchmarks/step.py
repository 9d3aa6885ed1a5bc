"""Cost of a training step against a plain PyTorch Gaussian VAE, interleaved in one process.

    python tests/benchmarks/step.py [--device cpu] [--rounds 40] [--output FILE.json]

The peer is the textbook VAE with the same layers and the same optimiser, written without this
library. Steps of all contenders alternate, so that drift of the machine's speed cancels in the
ratios; the median over rounds of the ratio within a round is reported. ``loop`` compares the whole
training loop (data, step, logging, checks) with its bare steps.
"""

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from manifold_ae import data, models
from manifold_ae.distributions import HeatKernel, RandomWalk
from manifold_ae.manifolds import FlatTorus, Manifold, Sphere
from manifold_ae.nn import MLP
from manifold_ae.training import Schedule, fit, make_optimizer

FEATURES = 784


class PlainVAE(nn.Module):
    """The standard Gaussian VAE of textbooks, with the paper's layers."""

    def __init__(self, latent: int = 2, width: int = 512) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(FEATURES, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
        )  # fmt: skip
        self.mean, self.log_variance = nn.Linear(width, latent), nn.Linear(width, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, FEATURES),
        )  # fmt: skip

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        error = (x - self.decoder(z)).square().sum(-1)
        log_prob = -0.5 * (error + FEATURES * math.log(2 * math.pi))
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        return {"loss": (kl - log_prob).mean()}


def delta_vae(manifold: Manifold, posterior: Callable[..., HeatKernel | RandomWalk]) -> nn.Module:
    latent = math.prod(manifold.ambient_shape)
    return models.DeltaVAE(
        manifold, MLP(FEATURES, (512,) * 3), MLP(latent, (512,) * 2), posterior=posterior
    )


def stepper(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    def step() -> None:
        loss = model.loss(x)["loss"]  # type: ignore[operator]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def timed(action: Callable[[], None], device: torch.device, repeats: int) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def step_ratios(
    device: torch.device, batch: int, rounds: int, compiled: bool = True
) -> dict[str, object]:
    """Median seconds a step, and ratios to the plain VAE with the same (fused) Adam."""
    x = torch.rand(batch, FEATURES, device=device)
    builds: dict[str, Callable[[], nn.Module]] = {
        "plain, fused Adam": PlainVAE,
        "plain, default Adam": PlainVAE,
        "sphere:2, heat kernel": lambda: delta_vae(Sphere(2), HeatKernel),
        "sphere:2, heat kernel, compiled": lambda: delta_vae(Sphere(2), HeatKernel),
        "sphere:2, walk of 10": lambda: delta_vae(Sphere(2), RandomWalk),
        "torus:2, heat kernel": lambda: delta_vae(FlatTorus(2), HeatKernel),
    }
    steps = {}
    for name, build in builds.items():
        if "compiled" in name and not compiled:
            continue
        torch.manual_seed(0)
        model = build().to(device)
        if "default" in name:
            optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        else:
            optimizer = make_optimizer(model, 1e-3)
        if "compiled" in name:
            model.loss = torch.compile(model.loss)  # type: ignore[assignment]
        steps[name] = stepper(model, x, optimizer)
    for step in steps.values():
        timed(step, device, 5)
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(timed(step, device, 4))
    floor, default = times["plain, fused Adam"], times["plain, default Adam"]
    return {
        name: {
            "milliseconds": 1e3 * statistics.median(values),
            "ratio": statistics.median(a / b for a, b in zip(values, floor, strict=True)),
            "ratio to default Adam": statistics.median(
                a / b for a, b in zip(values, default, strict=True)
            ),
        }
        for name, values in times.items()
    }


def loop_overhead(device: torch.device, batch: int, rounds: int) -> dict[str, float]:
    """The whole loop, over its bare steps on one batch, with the same model and optimiser."""
    x = torch.rand(60 * batch, FEATURES, device=device)
    source = data.Shuffled(x, batch, 0)
    fabric = Fabric(accelerator=device.type, devices=1)
    model = delta_vae(Sphere(2), HeatKernel)
    fit(model, source, epochs=1, schedule=Schedule(), fabric=fabric, progress=False)
    bare_model = delta_vae(Sphere(2), HeatKernel).to(device)
    step = stepper(bare_model, x[:batch], make_optimizer(bare_model, 1e-3))
    ratios = []
    for _ in range(max(3, rounds // 5)):
        bare = timed(step, device, len(source))
        whole = timed(
            lambda: (
                fit(model, source, epochs=1, schedule=Schedule(), fabric=fabric, progress=False)
                and None
            ),
            device,
            1,
        ) / len(source)
        ratios.append(whole / bare)
    return {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batches", default="128,640")
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled step out")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    result: dict[str, object] = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }
    for batch in map(int, arguments.batches.split(",")):
        result[f"step, batch {batch}"] = step_ratios(
            device, batch, arguments.rounds, not arguments.no_compile
        )
        result[f"loop, batch {batch}"] = loop_overhead(device, batch, arguments.rounds)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
