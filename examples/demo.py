"""Handwritten digits on a sphere and on a flat torus: train, compare, draw.

    python examples/demo.py [--epochs 100] [--out runs/demo]

Every call gets a folder of its own, ``runs/demo/1``, ``runs/demo/2``, ...
"""

import argparse
from pathlib import Path

import torch

from manifold_ae import run
from manifold_ae.experiments import VAE

COLUMNS = {
    "ELBO": "elbo",
    "KL": "kl",
    "MSE": "mse",
    "log-likelihood": "log_likelihood",
    "seconds": "seconds",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--manifolds", nargs="+", default=["sphere:2", "torus:2"])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    arguments = parser.parse_args()

    # Networks this small gain little from a second thread, and lose much where it has to wait.
    torch.set_num_threads(1)
    folder = fresh(arguments.out)
    rows = {}
    for name in arguments.manifolds:
        print(f"digits on {name}, {arguments.epochs} epochs")
        config = VAE(
            manifold=name,
            data="digits",
            encoder_hidden=(256, 256, 256),
            decoder_hidden=(256, 256),
            epochs=arguments.epochs,
            lr=2e-3,
            lr_schedule="one-cycle",
            kl_warmup=0.5,
        )
        trained = run.train(config, folder / name.replace(":", ""), progress=True)
        rows[name] = trained.finish(progress=True)

    print("\ntest digits, 8 × 8 pixels; ELBO, KL and log-likelihood in nats, MSE per pixel")
    print(f"{'manifold':<14}" + "".join(f"{title:>16}" for title in COLUMNS))
    for name, metrics in rows.items():
        print(f"{name:<14}" + "".join(f"{metrics[key]:>16.4g}" for key in COLUMNS.values()))
    print(f"\npictures: {folder}/*/figures/*.png")


def fresh(parent: Path) -> Path:
    """The first of parent/1, parent/2, ... that is free; nothing is ever overwritten."""
    k = 1
    while (parent / str(k)).exists():
        k += 1
    return parent / str(k)


if __name__ == "__main__":
    main()
