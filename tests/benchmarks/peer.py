"""An epoch of MNIST, whole loop, beside the hyperspherical VAE of pythae.

    python tests/benchmarks/peer.py --data-dir FOLDER [--output docs/results/peer.json]

The paper's networks on S², the exact heat kernel here, a von Mises–Fisher law there (its ``SVAE``;
C. Chadebec, L. J. Vincent, S. Allassonnière, *Pythae*, 2022, which has to be installed). Epochs of
the two alternate in one process, each through its library's own loop with its own loading of data;
ratios are of one epoch to the next, by the clock and by the processor's time, which other users of
the machine do not lengthen. The floor is what any loop has to pay: the layers alone, as a plain
autoencoder with a squared error and Adam, on pictures that are shuffled in memory. All of it in
float32, and once more ours and the floor with the layers in bfloat16 (``precision =
"bf16-mixed"``), for which pythae has no way on a CPU.
"""

import argparse
import dataclasses
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import torch
from torch import nn
from tqdm import tqdm

from manifold_ae import data, run
from manifold_ae.data import Scaling
from manifold_ae.experiments import VAE
from manifold_ae.nn import MLP
from manifold_ae.training import Schedule, fit, make_fabric

#: What time is measured by.
CLOCKS = {"clock": time.perf_counter, "processor": time.process_time}


def ours(config: VAE, rows: int | None) -> Any:
    """A function that trains for one epoch, and the data once scaled."""
    dataset = run.delta_vae.load_data(config)
    dataset = dataclasses.replace(
        dataset, train=dataset.train[:rows], train_rows=dataset.train_rows[:rows], train_labels=None
    )
    config = run.delta_vae.resolve(config, dataset)
    fabric = make_fabric(config.device, config.precision)
    scaling = Scaling.fit(config.scaling, dataset.train, dataset.value_range)
    model = run.delta_vae.build_model(config, dataset.shape)
    x = scaling.apply(dataset.train)
    source = data.Shuffled(x, config.batch_size, config.seed)
    schedule = Schedule(config.lr)

    def epoch() -> None:
        fit(model, source, epochs=1, schedule=schedule, fabric=fabric, progress=False)

    return epoch, x


def theirs(x: torch.Tensor, batch_size: int, folder: Path) -> Any:
    """A function that trains pythae's SVAE for one epoch, with the same layers."""
    import pythae
    from pythae.data.datasets import BaseDataset
    from pythae.models import SVAE, SVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = MLP((28, 28), (512, 512, 512))
            self.loc, self.log_concentration = nn.Linear(512, 3), nn.Linear(512, 1)

        def forward(self, x: torch.Tensor) -> Any:
            h = self.layers(x)
            return ModelOutput(embedding=self.loc(h), log_concentration=self.log_concentration(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(MLP(3, (512, 512)), nn.Linear(512, 784))

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z).unflatten(-1, (28, 28)))

    logging.disable(logging.INFO)
    model = SVAE(SVAEConfig(input_dim=(28, 28), latent_dim=3), encoder=Encoder(), decoder=Decoder())
    trainer = BaseTrainer(
        model=model,
        train_dataset=BaseDataset(x, torch.zeros(len(x))),
        training_config=BaseTrainerConfig(
            output_dir=str(folder),
            per_device_train_batch_size=batch_size,
            learning_rate=1e-3,
            num_epochs=1,
            no_cuda=True,
        ),
    )
    trainer.prepare_training()
    count = iter(range(1, 10**6))

    def epoch() -> None:
        trainer.callback_handler.on_epoch_begin(
            training_config=trainer.training_config,
            epoch=1,
            train_loader=trainer.train_loader,
            eval_loader=None,
        )
        trainer.train_step(next(count))

    return epoch, getattr(pythae, "__version__", "0.1.2")


def floor(x: torch.Tensor, batch_size: int, mixed: bool) -> Callable[[], None]:
    """A function that trains the layers alone for one epoch."""
    encoder = nn.Sequential(MLP((28, 28), (512, 512, 512)), nn.Linear(512, 3))
    decoder = nn.Sequential(MLP(3, (512, 512)), nn.Linear(512, 784))
    layers = nn.Sequential(encoder, decoder)
    adam = torch.optim.Adam(layers.parameters(), lr=1e-3, fused=True)

    def epoch() -> None:
        for rows in torch.randperm(len(x)).split(batch_size):
            batch = x[rows]
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                output = layers(batch)
            loss = (output.float() - batch.flatten(1)).square().sum(-1).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder with the four idx files; else downloaded")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="of the 60,000 pictures; all by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scratch", type=Path, default=Path("runs/peer"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {}
    for batch_size in (128, 640):
        config = VAE(data="mnist", data_dir=arguments.data_dir, batch_size=batch_size, device="cpu")
        own, x = ours(config, arguments.rows)
        mixed, _ = ours(config.replace(precision="bf16-mixed"), arguments.rows)
        other, version = theirs(x, batch_size, arguments.scratch)
        libraries = {
            "manifold_ae": own,
            "manifold_ae_bf16": mixed,
            "floor": floor(x, batch_size, False),
            "floor_bf16": floor(x, batch_size, True),
            "pythae": other,
        }
        times: dict[str, dict[str, list[float]]] = {
            clock: {name: [] for name in libraries} for clock in CLOCKS
        }
        for step in tqdm(range(arguments.rounds + 1), desc=f"batch {batch_size}"):
            for name, epoch in libraries.items():
                started = {clock: now() for clock, now in CLOCKS.items()}
                epoch()
                if step:  # the first builds tables, and warms up
                    for clock, now in CLOCKS.items():
                        times[clock][name].append(now() - started[clock])
        for clock, measured in times.items():
            found: dict[str, Any] = {
                f"{name}_seconds": common.spread(values) for name, values in measured.items()
            }
            *names, peer = measured
            for name in names:
                pairs = zip(measured[name], measured[peer], strict=True)
                ratios = [a / b for a, b in pairs]
                found[f"{name}_ratio"] = common.spread(ratios)
                found[f"{name}_median_ratio"] = statistics.median(ratios)
            results[f"batch of {batch_size}, {clock}"] = found
    common.write(
        arguments.output,
        {
            "command": "python tests/benchmarks/peer.py --data-dir FOLDER"
            + f" --rows {arguments.rows}" * (arguments.rows is not None)
            + f" --rounds {arguments.rounds} --threads {arguments.threads}",
            "machine": common.machine("cpu"),
            "pythae": version,
            "pictures": len(x),
            "epoch": results,
        },
    )


if __name__ == "__main__":
    main()
