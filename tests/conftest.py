"""Options and fixtures of all tests.

    --seed N     the seed of every random test; drawn anew when not given, printed on failure
    --seeds N    schedules of each scenario in tests/interpreted, instead of a few
    --rewrite    golden outputs are rewritten instead of compared

With NUMBA_DISABLE_JIT=1 the engine is plain Python. Then only the tests marked `interpreted` and
those in tests/interpreted run; otherwise tests/interpreted is left out, because what it explores
(every atomic as a switching point) does not exist in compiled code.
"""

import os
import random
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
INTERPRETED_FOLDER = Path(__file__).parent / "interpreted"

# The first use of compiled code loads it, and the machine is shared: no example has a deadline,
# nor is it a fault of a strategy that its thread waits for a processor.
settings.register_profile(
    "mako", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mako")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="seed of all random tests")
    parser.addoption("--seeds", type=int, default=None, help="schedules of each scenario")
    parser.addoption("--rewrite", action="store_true", help="rewrite golden outputs")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        drawn = random.SystemRandom().randrange(1 << 32)
        config.option.seed = getattr(config, "workerinput", {}).get("seed", drawn)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give the processes of xdist the seed of the one that starts them."""
    node.workerinput["seed"] = node.config.option.seed


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if collection_path == INTERPRETED_FOLDER and not INTERPRETED else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not INTERPRETED:
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        wanted = INTERPRETED_FOLDER in item.path.parents or item.get_closest_marker("interpreted")
        (kept if wanted else left_out).append(item)
    items[:] = kept
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        replay = f"replay with  pytest '{item.nodeid}' --seed {item.config.option.seed}"
        report.sections.append(("seed", replay))
    return report


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run. A random test builds its `random.Random` from it."""
    value = request.config.getoption("--seed")
    assert isinstance(value, int)
    return value


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether golden outputs are to be rewritten."""
    return bool(request.config.getoption("--rewrite"))
