"""Everything that a GPU is to be measured on, in one command: the tests, then the benchmarks.

    python tests/benchmarks/gpu.py FOLDER [--device cuda] [--data-dir MNIST] [--reference FOLDER]
    python tests/benchmarks/gpu.py FOLDER --device cpu --quick    # whether this script works

FOLDER receives gpu_NAME.json, the result of every part, NAME.log, what it printed, and
gpu_summary.json, how each ended and what it took. A part that fails does not stop the others; the
exit status says whether all succeeded. What needs MNIST, the reference values or DREiMac is left
out, and that is said, where there are none.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import common
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "benchmarks"
SHARED = ROOT.parent / "shared"
#: Tests of a quick run: enough to see that the option arrives.
FEW = ("test_numerics.py", "test_shapes.py")


def parts(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Arguments of Python for every part; none where its data are missing."""
    quick, device = arguments.quick, arguments.device
    tests = [str(ROOT / "tests" / name) for name in FEW] if quick else [str(ROOT / "tests")]

    def script(name: str, *options: str, output: str = "") -> list[str]:
        path = arguments.folder / f"gpu_{output or name}.json"
        return [str(SCRIPTS / f"{name}.py"), *options, "--device", device, "--output", str(path)]

    reference, mnist = Path(arguments.reference), arguments.data_dir
    rounds = ["--rounds", "2"] if quick else []
    tables = arguments.folder / "tables"
    short = ["--seeds", "1", "--epochs", "1"]
    pictures = ["--seeds", "1", "--epochs", "2", "--restarts", "2"] if quick else []
    # Ten pictures of a cell. Toroidal coordinates are a part of their own: they need DREiMac.
    cells = ["--steps", "10", "--cells", "3,0.3,1", "--seeds", "1"] if quick else ["--seeds", "10"]
    few = ["--manifolds", "sphere:2", "--seeds", "1", "--epochs", "1", "--num-samples", "5"]
    return {
        "tests": ["-m", "pytest", "-q", "--device", device, *tests],
        "reference": script("reference", str(reference)) if reference.is_dir() else [],
        "posterior": script("posterior", *rounds),
        "sampler": script("sampler", *["--quick"] * quick),
        "replicas": script("replicas", *["--quick"] * quick),
        "step": script("step", *rounds, *["--no-compile", "--batches", "128"] * quick),
        "simple_picture_single": script(
            "simple_picture", "single", *pictures, output="simple_picture_single"
        ),
        "simple_picture_restarts": script(
            "simple_picture", "restarts", *pictures, output="simple_picture_restarts"
        ),
        "limits": script("limits", "map", "--methods", "published", "restarts", "circular", *cells),
        "cures": script(
            "limits",
            "cures",
            "--seeds",
            "1" if quick else "10",
            *["--steps", "10"] * quick,
            output="limits",
        ),
        "toroidal": script(
            "limits",
            "map",
            "--methods",
            "toroidal",
            "toroidal of components",
            *cells,
            output="limits",
        )
        if importlib.util.find_spec("dreimac")
        else [],
        "mnist": script("mnist", "--data-dir", mnist, *(few if quick else ["--seeds", "1"]))
        if Path(mnist).is_dir()
        else [],
        **{
            name: [
                *("-m", "manifold_ae", "reproduce", name, "--data-dir", mnist),
                *("--out", str(tables / name), "--device", device, "--preset"),
                *(("quick", *short) if quick else ("paper",)),
            ]
            for name in ("table1", "table2")
            if name == "table2" or Path(mnist).is_dir()
        },
        "importance_samples": script(
            "importance_samples", str(tables / "table1"), *["--rows", "20"] * quick
        )
        if Path(mnist).is_dir()
        else [],
    }


def run(name: str, part: list[str], folder: Path) -> int:
    """The exit status of a part; its output goes to the screen and into a log."""
    with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, *part],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            log.write(line)
        return process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data-dir", default=str(SHARED / "data" / "mnist"), help="MNIST")
    parser.add_argument("--reference", default=str(SHARED / "reference"), help="reference values")
    parser.add_argument("--quick", action="store_true", help="a little of everything")
    arguments = parser.parse_args()
    arguments.folder = arguments.folder.resolve()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("this PyTorch sees no GPU; --device cpu --quick tries the script out without one")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    ended: dict[str, dict[str, object]] = {}
    for name, part in parts(arguments).items():
        print(f"== {name}", flush=True)
        begin = time.perf_counter()
        status = run(name, part, arguments.folder) if part else None
        made = arguments.folder / "tables" / name / "table.json"
        if made.exists():
            shutil.copy(made, arguments.folder / f"gpu_paper_{name}.json")
        ended[name] = {
            "ended": {None: "left out: no data, or no package", 0: "well"}.get(
                status, f"with status {status}"
            ),
            "seconds": round(time.perf_counter() - begin, 1),
        }
    summary = {"machine": common.machine(arguments.device), "parts": ended}
    path = arguments.folder / "gpu_summary.json"
    path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    for name, row in ended.items():
        print(f"{name:>10}  {row['seconds']:>7} s  {row['ended']}")
    if failed := [name for name, row in ended.items() if str(row["ended"]).startswith("with")]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
