"""MNIST test set, the paper's networks: ELBO, KL, MSE, log-likelihood on four latent spaces.

    python tests/benchmarks/mnist.py --data-dir FOLDER [--output docs/results/mnist.json]

Thirty epochs of batch 640, the exact heat kernel as posterior, Gaussian of unit variance. Pérez
Rey et al. (2019), Table 1, after 500 epochs: S² −739.25 ± 0.09, flat torus −741.37 ± 0.11 (whose
KL lacks −log 2π: −739.53 put right), R² −739.35 ± 0.11, R³ −738.85 ± 0.04.
"""

import argparse
import time
from pathlib import Path

import common
from tqdm import tqdm

from manifold_ae import run
from manifold_ae.experiments import VAE

FIGURES = ("elbo", "kl", "mse", "log_likelihood", "mean_log_time", "seconds")
#: Table 1 of the paper: ELBO, KL, MSE × 100, log-likelihood.
PUBLISHED = {
    "sphere:2": (-739.25, 5.16, 3.48, -738.76),
    "torus:2": (-741.37, 6.42, 3.70, -738.97),
    "euclidean:2": (-739.35, 4.95, 3.56, -738.83),
    "euclidean:3": (-738.85, 5.74, 3.23, -738.27),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder with the four idx files; else downloaded")
    parser.add_argument("--manifolds", default=",".join(PUBLISHED))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--num-samples", type=int, default=100, help="importance samples")
    parser.add_argument("--posterior", default="heat-kernel")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    base = VAE(
        data="mnist",
        data_dir=arguments.data_dir,
        epochs=arguments.epochs,
        batch_size=640,
        lr_schedule="one-cycle",
        posterior=arguments.posterior,
        precision=arguments.precision,
        device=arguments.device,
    )
    dataset = run.delta_vae.load_data(base)
    table: dict[str, dict[str, object]] = {}
    device = ""
    for manifold in tqdm(arguments.manifolds.split(","), desc="manifolds"):
        runs = []
        for seed in range(arguments.seeds):
            started = time.monotonic()
            trained = run.train(base.replace(manifold=manifold, seed=seed), dataset=dataset)
            device = str(trained.device)
            metrics = trained.evaluate(num_samples=arguments.num_samples)
            runs.append({"seed": seed} | {name: metrics[name] for name in FIGURES})
            tqdm.write(f"{manifold} {runs[-1]} whole {time.monotonic() - started:.0f} s")
        table[manifold] = {
            **{name: common.spread([entry[name] for entry in runs]) for name in FIGURES},
            "published": dict(
                zip(("elbo", "kl", "mse_x100", "log_likelihood"), PUBLISHED[manifold], strict=True)
            ),
            "runs": runs,
        }
        common.write(
            arguments.output,
            {
                "command": "python tests/benchmarks/mnist.py --data-dir FOLDER",
                "precision": arguments.precision,
                "machine": common.machine(device),
                "epochs": arguments.epochs,
                "posterior": arguments.posterior,
                "manifolds": table,
            },
        )


if __name__ == "__main__":
    main()
