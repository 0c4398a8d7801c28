"""Every guard in the list of mutations is needed: without it some schedule fails.

By hand, all of them with where they were found:

    NUMBA_DISABLE_JIT=1 pytest tests/interpreted/test_mutations.py -rA
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.interpreted.mutant import NONE
from tests.interpreted.mutations import MUTATIONS, Mutation

REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent


def explore(name: str, *arguments: str) -> tuple[int, str]:
    """Explore with the engine of a mutation; (exit status, what it said)."""
    made = subprocess.run(
        [sys.executable, "-m", "tests.interpreted.mutant", name, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=1800,  # Most take some seconds, once others leave them a processor.
        check=False,
    )
    return made.returncode, made.stdout + made.stderr


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_is_noticed(mutation: Mutation) -> None:
    how = ("--all",) if mutation.exhaustive else ("--seeds", str(mutation.seeds))
    arguments = (*mutation.scenarios, *how, "--first-failure")
    status, said = explore(mutation.name, *arguments)
    sys.stdout.write(said)
    assert status == 1, f"no schedule notices that {mutation.name}"
    assert "replay with" in said, "it is noticed by a check, not by a mistake in the mutation"


def test_an_engine_without_mutations_passes() -> None:
    names = sorted({name for mutation in MUTATIONS for name in mutation.scenarios})
    status, said = explore(NONE, *names, "--seeds", "100")
    assert status == 0, said
