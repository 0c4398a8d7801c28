"""Every guard in the list of mutations is needed: without it some schedule fails.

By hand, all of them with where they were found:

    NUMBA_DISABLE_JIT=1 pytest tests/interpreted/test_mutations.py -rA
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from tests.interpreted.mutations import MUTATIONS, Edit, Mutation

REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent


def explore(folder: Path, edits: Iterable[Edit], *arguments: str) -> tuple[int, str]:
    """Explore with a copy of the engine that has `edits`; (exit status, what it said)."""
    shutil.copytree(REPOSITORY / "mako", folder / "mako")
    (folder / "tests").mkdir()
    (folder / "tests" / "__init__.py").touch()  # Before any other folder of that name.
    shutil.copytree(REPOSITORY / "tests" / "interpreted", folder / "tests" / "interpreted")
    for module, old, new in edits:
        source = folder / "mako" / "engine" / f"{module}.py"
        text = source.read_text()
        assert text.count(old) == 1, f"{module}.py has the text to replace once:\n{old}"
        source.write_text(text.replace(old, new))
    made = subprocess.run(
        [sys.executable, "-m", "tests.interpreted.explore", *arguments],
        cwd=folder,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return made.returncode, made.stdout + made.stderr


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    how = ("--all",) if mutation.exhaustive else ("--seeds", str(mutation.seeds))
    arguments = (*mutation.scenarios, *how, "--first-failure")
    status, said = explore(tmp_path, mutation.edits, *arguments)
    sys.stdout.write(said)
    assert status == 1, f"no schedule notices that {mutation.name}"
    assert "replay with" in said, "it is noticed by a check, not by a mistake in the mutation"


def test_an_engine_without_mutations_passes(tmp_path: Path) -> None:
    names = sorted({name for mutation in MUTATIONS for name in mutation.scenarios})
    status, said = explore(tmp_path, (), *names, "--seeds", "100")
    assert status == 0, said
