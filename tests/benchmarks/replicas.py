"""Several seeds as one computation, against one after another.

    python tests/benchmarks/replicas.py [--device cpu] [--replicas 10] [--rounds 5] [--compile]
        [--output FILE]

A round takes the same steps of K replicas at once, and of K models in turn; both are interleaved,
and the median over rounds of the ratio of their times within a round is reported: above 1 the
replicas are faster. ``mapped`` is one computation, ``one by one`` a loop within the step. On a CPU
it is processor time, which other users of the machine do not lengthen; on a GPU it is time on the
clock, with TF32 and without, and with the mapped loss as a CUDA graph (``graph``, forward and
backward; an error there is reported in its place). With ``--compile`` the mapped loss is also given
to torch.compile (``compiled``), with the largest difference of slopes, of a weight's largest, and
whether the compiler took it whole. ``table_1_minutes`` is what seven latent spaces
of ten runs of 500 epochs of MNIST in batches of 640 would take at that rate.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor, nn

from manifold_ae.manifolds import Sphere
from manifold_ae.models import DeltaVAE
from manifold_ae.nn import MLP
from manifold_ae.replicas import Replicas
from manifold_ae.training import make_optimizer

#: Name → features, layers of the encoder, of the decoder, rows of a batch.
SIZES = {
    "64-64, batch 64": (64, (64, 64), (64,), 64),
    "digits, batch 128": (64, (512,) * 3, (512,) * 2, 128),
    "MNIST, batch 640": (784, (512,) * 3, (512,) * 2, 640),
}
#: Steps of table 1 for one latent space: 500 epochs of 94 steps, for each of seven spaces.
TABLE_STEPS = 7 * 500 * 94


def build(size: str, seed: int) -> nn.Module:
    features, encoder, decoder, _ = SIZES[size]
    torch.manual_seed(seed)
    return DeltaVAE(Sphere(2), MLP(features, encoder), MLP(3, decoder))


def stepper(loss: Callable[[], Tensor], model: nn.Module) -> Callable[[], None]:
    optimizer = make_optimizer(model, 1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def graphed(replicas: Replicas, x: Tensor) -> Callable[[], Tensor]:
    """The mapped loss as a CUDA graph; what is drawn is drawn outside of it."""
    weights: dict[str, float] = {"kl_weight": 1.0}
    tensors = replicas._tensors()
    names, values = list(tensors), list(tensors.values())
    count = len(replicas._drawn(x, weights))

    def loss(batch: Tensor, *rest: Tensor) -> Tensor:
        own = dict(zip(names, rest[count:], strict=True))
        return replicas._map(own, batch, list(rest[:count]), weights)["loss"].sum()

    sample = (x.clone(), *replicas._drawn(x, weights), *values)
    called: Any = torch.cuda.make_graphed_callables(loss, sample)
    return lambda: called(x, *replicas._drawn(x, weights), *values)


def compiled(replicas: Replicas, x: Tensor) -> tuple[Callable[[], Tensor], dict[str, Any]]:
    """The mapped loss by torch.compile, and what is to be known of it."""
    weights: dict[str, float] = {"kl_weight": 1.0}
    names = list(replicas._tensors())

    def loss(values: list[Tensor], batch: Tensor, drawn: list[Tensor]) -> Tensor:
        return replicas._map(dict(zip(names, values, strict=True)), batch, drawn, weights)[
            "loss"
        ].sum()

    def call(by: Callable[..., Tensor]) -> Tensor:
        return by(list(replicas._tensors().values()), x, replicas._drawn(x, weights))

    def slopes(by: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        replicas.begin_epoch(0, 0)
        return torch.autograd.grad(call(by), list(replicas.parameters()))

    parts = torch.compile(loss)
    difference = max(
        ((a - b).abs().max() / b.abs().max()).item()
        for a, b in zip(slopes(parts), slopes(loss), strict=True)
    )
    refused = None
    try:
        call(torch.compile(loss, fullgraph=True, backend="eager"))
    except Exception as error:  # of the compiler's many kinds
        refused = str(error).splitlines()[0]
    return lambda: call(parts), {"difference of slopes": difference, "taken whole": refused or True}


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def measured(
    size: str, replicas: int, rounds: int, device: torch.device, *, compile: bool = False
) -> dict[str, Any]:
    """Milliseconds for a step of all, and the ratios."""
    features, _, _, batch = SIZES[size]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(replicas, batch, features, generator=generator).to(device)
    models = [build(size, seed).to(device) for seed in range(replicas)]
    singles = [
        stepper(lambda m=model, own=own: m(own, kl_weight=1.0)["loss"], model)
        for model, own in zip(models, x, strict=True)
    ]
    together = Replicas(models, range(replicas), mapped=True).to(device)
    looped = Replicas(models, range(replicas), mapped=False).to(device)
    ways: dict[str, Callable[[], None]] = {
        "in turn": lambda: [step() for step in singles] and None,
        "mapped": stepper(lambda: together(x, kl_weight=1.0)["loss"].sum(), together),
        "one by one": stepper(lambda: looped(x, kl_weight=1.0)["loss"].sum(), looped),
    }
    result: dict[str, Any] = {}
    if device.type == "cuda":
        captured = Replicas(models, range(replicas), mapped=True).to(device)
        try:
            ways["graph"] = stepper(graphed(captured, x), captured)
        except RuntimeError as error:
            result["graph_error"] = str(error).splitlines()[0]
    if compile:
        own = Replicas(models, range(replicas), mapped=True).to(device)
        loss, result["compiler"] = compiled(own, x)
        ways["compiled"] = stepper(loss, own)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for way in ways.values():
            way()
    repeats = 20 if device.type == "cuda" else max(1, 640 // batch // 2)
    for _ in range(rounds):
        for name, way in ways.items():
            begin = clock(device)
            for _ in range(repeats):
                way()
            times[name].append((clock(device) - begin) / repeats)
    for name, values in times.items():
        result[name] = {
            "milliseconds": 1e3 * statistics.median(values),
            "ratio": statistics.median(
                a / b for a, b in zip(times["in turn"], values, strict=True)
            ),
        }
        if size.startswith("MNIST"):
            steps = TABLE_STEPS * 10 / replicas
            result[name]["table_1_minutes"] = statistics.median(values) * steps / 60
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--replicas", default="4,10", help="how many, as a list")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--quick", action="store_true", help="few replicas, of the smallest")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    counts = [3] if arguments.quick else list(map(int, arguments.replicas.split(",")))
    rounds = 2 if arguments.quick else arguments.rounds
    result: dict[str, Any] = {
        "command": "python tests/benchmarks/replicas.py" + " --compile" * arguments.compile,
        "machine": common.machine(arguments.device),
    }
    tf32 = (False, True) if device.type == "cuda" else (False,)
    before = torch.backends.cuda.matmul.allow_tf32
    for size in arguments.sizes[: 1 if arguments.quick else None]:
        for allowed, replicas in itertools.product(tf32, counts):
            torch.backends.cuda.matmul.allow_tf32 = allowed
            name = f"{replicas} of {size}" + (", TF32" if allowed else "")
            result[name] = measured(size, replicas, rounds, device, compile=arguments.compile)
    torch.backends.cuda.matmul.allow_tf32 = before
    common.write(arguments.output, result)


if __name__ == "__main__":
    main()
