"""What the scripts install into `.venv`, with an interpreter that only notes what it is to do."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

COMMON: Final = Path(__file__).parent.parent.parent / "bash" / "common.sh"
#: Notes `-m` and makes an environment of itself. An environment with `broken` has no pip.
PYTHON: Final = """#!/usr/bin/env bash
[[ $1 == -m ]] || exit 0
echo "$2 ${*: -1}" >>noted
if [[ $2 == venv ]]; then
  rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python && touch .venv/bin/mako
  chmod +x .venv/bin/mako
fi
[[ $2 != pip || ! -e .venv/broken ]]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "bash").mkdir()
    shutil.copy(COMMON, tmp_path / "bash")
    (tmp_path / "pyproject.toml").write_text("one")
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def install(place: Path, *which: str, status: int = 0) -> list[str]:
    """Let scripts install; what the interpreter was told."""
    noted = place / "noted"
    noted.write_text("")
    done = subprocess.run(
        ["bash", "-c", f'source "{place}/bash/common.sh"; {"; ".join(which)}'],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(place / "python")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return noted.read_text().splitlines()


def test_without_an_interpreter_a_line_says_what_to_do(place: Path) -> None:
    (place / "python").unlink()
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (place / name).write_text("#!/bin/sh\nexit 1\n")
        (place / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f'source "{place}/bash/common.sh"; install_mako . run; echo went on'],
        env={"PATH": f"{place}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "apt install python3-venv" in done.stderr


RUN, DEV = "install_mako . run", "install_mako '.[dev]' dev"


def test_the_second_script_adds_what_it_lacks(place: Path) -> None:
    assert install(place, RUN) == ["venv .venv", "pip ."]
    assert install(place, DEV) == ["pip .[dev]"]
    assert install(place, RUN, DEV) == []


def test_an_environment_for_another_declaration_is_made_anew(place: Path) -> None:
    install(place, RUN, DEV)
    (place / "pyproject.toml").write_text("another")
    assert install(place, DEV) == ["venv .venv", "pip .[dev]"]


def test_one_that_was_moved_is_made_anew(place: Path) -> None:
    install(place, RUN)
    shutil.copytree(place, place / "below", ignore=shutil.ignore_patterns("below"))
    assert install(place / "below", DEV) == ["venv .venv", "pip .[dev]"]
    shutil.copytree(place / "below" / ".venv", place / ".venv", dirs_exist_ok=True)
    (place / ".venv" / ".mako-run").unlink()
    assert install(place, RUN) == ["venv .venv", "pip ."]


def test_after_one_that_failed_nothing_is_trusted(place: Path) -> None:
    install(place, RUN)
    (place / ".venv" / "broken").touch()
    assert install(place, DEV, status=2) == ["pip .[dev]"]
    assert install(place, RUN) == ["venv .venv", "pip ."]
