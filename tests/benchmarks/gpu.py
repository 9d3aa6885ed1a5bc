"""Everything that needs a GPU, in one go: the tests on CUDA, then the benchmarks.

    python tests/benchmarks/gpu.py [--data-dir FOLDER] [--quick]

Results go to docs/results/gpu_*.json. It stops at nothing: every part runs, and the exit status
says whether all succeeded.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder with the four MNIST files")
    parser.add_argument("--quick", action="store_true", help="fewer seeds")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this PyTorch sees no GPU: nothing to measure")
    scripts = ROOT / "tests" / "benchmarks"
    parts = {
        "tests": ["-m", "pytest", "-q", "--device", "cuda", str(ROOT / "tests")],
        "step": [
            str(scripts / "step.py"), "--device", "cuda",
            "--output", str(RESULTS / "gpu_step.json"),
        ],
        **{
            f"simple picture, {what}": [
                str(scripts / "simple_picture.py"), what, "--device", "cuda",
                "--output", str(RESULTS / f"gpu_simple_picture_{what}.json"),
                *(["--seeds", "2"] if arguments.quick else []),
            ]
            for what in ("single", "restarts")
        },
    }  # fmt: skip
    if arguments.data_dir:
        parts["mnist"] = [
            str(scripts / "mnist.py"), "--device", "cuda", "--data-dir", arguments.data_dir,
            "--output", str(RESULTS / "gpu_mnist.json"),
            *(["--seeds", "1"] if arguments.quick else []),
        ]  # fmt: skip
    failed = []
    for name, part in parts.items():
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, *part], cwd=ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
