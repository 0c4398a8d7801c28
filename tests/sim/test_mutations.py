"""Wrong lines of the engine: each has its place, and is planted where it cannot do harm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mako.sim.cluster import Mode, run_seed
from mako.sim.mutant import Mutant
from mako.sim.mutations import Edit, MutationError, check, edited, install
from mako.sim.shards.planted import EDITED
from tests.interpreted.mutations import MUTATIONS

ROOT = Path(__file__).resolve().parent.parent.parent
#: One that is over soon.
SEED = 6


@pytest.mark.parametrize("name", sorted(EDITED))
def test_a_bug_of_the_engine_applies(name: str) -> None:
    check(EDITED[name].edits)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_broken_guard_applies(mutation: object) -> None:
    check(mutation.edits)  # type: ignore[attr-defined]


def test_what_is_there_once_is_replaced() -> None:
    edits: list[Edit] = [("lane", "b = 1", "b = 2"), ("mesh", "a = 1", "a = 3")]
    assert edited("lane", "a = 1\nb = 1\n", edits) == "a = 1\nb = 2\n"


@pytest.mark.parametrize(("source", "count"), [("a = 2\n", 0), ("a = 1\na = 1\n", 2)])
def test_an_edit_without_its_place_is_an_error_of_one_line(source: str, count: int) -> None:
    with pytest.raises(MutationError) as found:
        edited("lane", source, [("lane", "\n    a = 1"[5:], "a = 3")])
    text = str(found.value)
    assert f"is {count} times in mako/engine/lane.py" in text
    assert text.endswith("a = 1")
    assert "\n" not in text


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(MutationError, match=r"no mako/engine/lanes\.py"):
        check([("lanes", "a", "b")])


def test_an_engine_that_is_compiled_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    finders = list(sys.meta_path)
    with pytest.raises(MutationError, match="NUMBA_DISABLE_JIT=1"):
        install([])
    assert sys.meta_path == finders


def test_a_module_is_imported_with_its_edits() -> None:
    program = """
from mako.sim.mutations import MutationError, install
install([("lane", "LANES_MAX: Final = 64", "LANES_MAX: Final = 32")])
from mako.engine.lane import LANES_MAX
from mako.engine.mesh import LANES_MAX as elsewhere
print(LANES_MAX, elsewhere)
try:
    install([])
except MutationError as error:
    print(error)
"""
    made = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    numbers, said = made.stdout.splitlines()
    assert numbers == "32 32"
    assert "imported before" in said


def test_a_seed_is_the_same_run_in_an_interpreted_engine() -> None:
    """So a seed that a mutant fails can be run without the bug by compiled code."""
    compiled = run_seed(SEED, mode=Mode.SHARDS)
    with Mutant("") as interpreted:
        outcome = interpreted.run(SEED)
    assert outcome.problem == compiled.problem
    assert outcome.digest == compiled.digest != 0
