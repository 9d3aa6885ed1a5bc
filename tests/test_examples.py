"""The examples and the README's program run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str | Path, folder: Path) -> str:
    """What a script prints; it runs in a folder of its own, on one thread."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_demo(tmp_path: Path) -> None:
    script = ROOT / "examples" / "demo.py"
    arguments = ("--epochs", "2", "--manifolds", "sphere:2", "circle")
    (tmp_path / "runs" / "demo" / "1").mkdir(parents=True)
    printed = run(script, *arguments, folder=tmp_path)
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.strip()}
    for name in ("sphere:2", "circle"):
        elbo, kl, mse, log_likelihood, _ = map(float, rows[name])
        assert kl >= 0
        assert 0 < mse < 1
        assert log_likelihood > elbo - 0.5
    # A folder that is there already is left alone.
    assert "runs/demo/2" in printed
    assert not list((tmp_path / "runs" / "demo" / "1").iterdir())
    pictures = {path.name for path in (tmp_path / "runs" / "demo" / "2").glob("*/figures/*.png")}
    assert pictures == {"latents.png", "decoded_grid.png", "reconstructions.png", "curves.png"}


def test_readme_programs(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = ("train_in_python", "with_scikit_learn", "learn_actions")
    for name, program in zip(names, programs, strict=True):
        example = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
        assert example.split('"""', 2)[2].strip() == program.strip()
    printed = run("-c", programs[0], folder=tmp_path)
    agreement = float(printed.rsplit(":", 1)[1])
    assert agreement > 0.95
    printed = run("-c", programs[1], folder=tmp_path)
    # Poisson counts of the same mean rates, tuned to nothing, reach −73.
    assert -50 < float(printed.rsplit(":", 1)[1]) < 0


@pytest.mark.slow
def test_actions_are_learned(tmp_path: Path) -> None:
    printed = run(ROOT / "examples" / "learn_actions.py", folder=tmp_path)
    first, last = map(float, printed.rsplit(":", 1)[1].split())
    assert first < 0.015 and last < 1.2 * first
    assert (tmp_path / "predicted.png").exists()


def test_readme_commands_exist(tmp_path: Path) -> None:
    """Every command line of the README parses, down to its last option."""
    from manifold_ae.cli import main

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^manifold-ae (.*)$", readme, re.MULTILINE)
    assert lines
    for line in lines:
        command, words = main, line.split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        known = {flag for parameter in command.params for flag in parameter.opts}
        unknown = {word for word in words if word.startswith("-")} - known
        assert not unknown, f"manifold-ae {line}: {unknown}"
