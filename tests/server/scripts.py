"""The scripts of `bash/`, run from a folder of their own as if mako were installed there.

The folder has the scripts, the shipped configurations, and a `.venv` whose commands are those of
the tests: nothing is installed, and what processes leave behind stays there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


class Scripts:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bash", "config"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "pyproject.toml", folder)
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, words in (("python", ""), ("mako", "-m mako ")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
            program.chmod(0o755)
        stamp = 'printf "%s\\n" "$(cksum <pyproject.toml) $PWD" >.venv/.mako-dev'
        subprocess.run(["bash", "-c", stamp], cwd=folder, check=True)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one to its end, from another folder, like somebody who knows its path."""
        return subprocess.run(
            ["bash", str(self.folder / "bash" / script), *arguments],
            cwd=self.folder.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
