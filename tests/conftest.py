"""Options and fixtures that every test shares: device, dtype, tolerance, and where chance starts.

``pytest --device cuda`` runs the suite on a GPU; ``--dtype float32`` one half of it. Proofs that
take longer than a few seconds are marked ``slow`` and run with ``-m slow``.
"""

import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
# Import mode "importlib" leaves this folder off the path; ``catalogue`` lies in it.
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

DTYPES = {"float32": torch.float32, "float64": torch.float64}

# The same examples every time: a failure has to be reproducible from its name alone.
settings.register_profile(
    "derandomised",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("derandomised")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("manifold_ae")
    group.addoption("--device", default="cpu", help="where tensors live: cpu, cuda, cuda:1, mps")
    group.addoption(
        "--dtype",
        default="both",
        choices=[*DTYPES, "both"],
        help="floating-point type of the tests that take one",
    )


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        # Workers of pytest-xdist share the cores: with threads of their own they only wait.
        torch.set_num_threads(1)
    name = config.getoption("--device")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise pytest.UsageError(f"--device {name}: no such device here ({reason})") from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    own = any(
        "dtype" in str(mark.args[0]).replace(" ", "").split(",")
        for mark in metafunc.definition.iter_markers("parametrize")
    )
    if "dtype" in metafunc.fixturenames and not own:
        chosen = metafunc.config.getoption("--dtype")
        names = list(DTYPES) if chosen == "both" else [chosen]
        metafunc.parametrize("dtype", [DTYPES[name] for name in names], ids=names)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def tolerance(dtype: torch.dtype) -> float:
    """A hundred roundings of numbers of order one: 1.2e-5 in float32, 2.2e-14 in float64."""
    return 100 * torch.finfo(dtype).eps


def _seed(request: pytest.FixtureRequest) -> int:
    return zlib.crc32(request.node.nodeid.encode())


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """Every test draws from a stream of its own, whatever ran before it."""
    torch.manual_seed(_seed(request))


@pytest.fixture
def generator(request: pytest.FixtureRequest, device: torch.device) -> torch.Generator:
    """A generator on the device, seeded with the name of the test."""
    return torch.Generator(device=device).manual_seed(_seed(request))


@pytest.fixture(autouse=True)
def _global_state_is_left_alone() -> Iterator[None]:
    """Nothing may change a global default of torch: dtype, device, or whether gradients flow."""
    before = (torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled())
    yield
    after = (torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled())
    assert after == before, "a global default of torch was changed"


@pytest.fixture(scope="session")
def reference() -> Any:
    """Reads a file of reference values that lies beside the repository, or skips the test."""

    def read(name: str) -> Any:
        path = TESTS.parents[1] / "shared" / "reference" / name
        if not path.exists():
            pytest.skip(f"reference values {name} are not beside this checkout ({path})")
        return json.loads(path.read_text(encoding="utf-8"))

    return read
