"""Imports point one way: read from the source, without running it.

numerics → groups → manifolds → heat → distributions → models, and so on: the table below says of
every part which others it may look at. What is imported inside a function counts as well; for the
command line alone that makes a difference, as it may load the rest only when a command is called.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import manifold_ae

ROOT = Path(manifold_ae.__file__).parent
GEOMETRY = {"numerics", "groups", "manifolds"}
LAWS = GEOMETRY | {"heat", "distributions"}
MODELS = LAWS | {"nn", "diffusion", "models"}
EVERYTHING = MODELS | {"data", "metrics", "plots", "interop", "training", "replicas", "experiments"}

#: Part → the parts that it may import, at any place.
MAY_IMPORT: dict[str, set[str]] = {
    "numerics": set(),
    "groups": {"numerics"},
    "manifolds": {"numerics", "groups"},
    "heat": GEOMETRY,
    "distributions": GEOMETRY | {"heat"},
    "nn": {"numerics"},
    "diffusion": {"numerics", "groups"},
    "models": MODELS - {"models"},
    "data": GEOMETRY | {"diffusion"},
    "metrics": GEOMETRY,
    "plots": GEOMETRY,
    "interop": GEOMETRY,
    # The loop takes the seeding of epochs from the data, and knows no model.
    "training": {"data"},
    "replicas": {"data", "training"},
    "experiments": set(),
    "run": EVERYTHING,
    "estimators": EVERYTHING | {"run"},
    "cli": EVERYTHING | {"run", "estimators"},
}
#: Of these, what may be imported when the module itself is.
AT_IMPORT: dict[str, set[str]] = {"cli": {"experiments"}}


def parts() -> list[str]:
    found = [path.stem if path.is_file() else path.name for path in ROOT.iterdir()]
    return sorted(n for n in found if not n.startswith("_") and n.isidentifier() and is_part(n))


def is_part(name: str) -> bool:
    return (ROOT / f"{name}.py").is_file() or (ROOT / name / "__init__.py").is_file()


def files(part: str) -> list[Path]:
    single = ROOT / f"{part}.py"
    return [single] if single.is_file() else sorted((ROOT / part).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, bool, int]]:
    """Parts of the library that a file imports: name, whether inside a function, line."""
    package = ("manifold_ae", *path.relative_to(ROOT).parent.parts)

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool, int]]:
        for child in ast.iter_child_nodes(node):
            names: list[str] = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                base = list(package[: len(package) - child.level + 1]) if child.level else []
                base += (child.module or "").split(".") if child.module else []
                names = [".".join([*base, alias.name]) for alias in child.names]
            for name in names:
                head, _, rest = name.partition(".")
                target = rest.split(".")[0]
                if head == "manifold_ae" and is_part(target):
                    yield target, inside, child.lineno
            deeper = inside or isinstance(
                child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
            )
            yield from visit(child, deeper)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False)


def test_every_part_has_its_place_in_the_order():
    assert set(parts()) <= set(MAY_IMPORT), "say in MAY_IMPORT what the new part may look at"


@pytest.mark.parametrize("part", parts())
def test_imports_point_one_way(part):
    wrong = []
    for path in files(part):
        for target, inside, line in imported(path):
            allowed = MAY_IMPORT[part] if inside else AT_IMPORT.get(part, MAY_IMPORT[part])
            if target not in allowed | {part}:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {target}")
    assert not wrong, "; ".join(wrong)


def test_the_table_has_no_cycles():
    """The order that it allows is an order."""
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {p for p, others in MAY_IMPORT.items() if p not in done and others <= done | {p}}
        assert ready, f"a cycle among {set(MAY_IMPORT) - done}"
        done |= ready


#: Subpackages of run → those of its files outside them that may import them when they are imported.
INSIDE_RUN = {"evaluation": {"__init__.py"}, "selection": {"__init__.py"}}


@pytest.mark.parametrize("package", sorted(INSIDE_RUN))
def test_training_knows_nothing_of_what_is_made_of_its_runs(package):
    """Nor do the subpackages know each other; ``VAERun.topology`` asks when it is called."""
    wrong = []
    for path in files("run"):
        place = path.relative_to(ROOT / "run")
        if place.parts[0] == package or str(place) in INSIDE_RUN[package]:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            if any(name.startswith(f"manifold_ae.run.{package}") for name in names):
                wrong.append(f"{place}:{node.lineno}")
    assert not wrong, f"{', '.join(wrong)} import run.{package}"


def dynamic_imports(path: Path) -> list[int]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
    ]


def test_the_one_reference_upwards_is_the_default_prior():
    found = [
        str(path.relative_to(ROOT))
        for part in parts()
        for path in files(part)
        for _ in dynamic_imports(path)
    ]
    assert found == [str(Path("manifolds", "base.py"))]
    source = (ROOT / "manifolds" / "base.py").read_text(encoding="utf-8")
    assert 'import_module("manifold_ae.distributions").default_prior' in source


def test_every_part_is_reachable_from_the_root():
    public = {p for p in parts() if p != "cli"}
    assert public <= set(manifold_ae.__all__)
    assert set(manifold_ae.__all__) <= set(parts())
    assert set(manifold_ae.__all__) <= set(dir(manifold_ae))
    with pytest.raises(AttributeError, match="no attribute 'spheres'"):
        _ = manifold_ae.spheres


@pytest.mark.parametrize(
    "statement",
    [
        "import manifold_ae",
        "import manifold_ae.experiments",
        "from manifold_ae.experiments import VAE; VAE().to_toml()",
        "import manifold_ae.cli",
    ],
)
def test_torch_is_not_loaded_before_it_is_needed(statement):
    code = (
        f"import sys\n{statement}\n"
        "heavy = [m for m in ('torch', 'geoopt', 'matplotlib', 'sklearn') if m in sys.modules]\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT.parent)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
