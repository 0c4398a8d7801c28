"""A process compiles its procedures before anybody counts on it."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.server.processes import PATIENCE, Cluster

pytestmark = pytest.mark.slow

MODULE = """
import mako

@mako.procedure
def unfit(tx, key):
    names = {"a": [1, "two"]}
    return len(names[key])
"""


def test_procedures_are_loaded_before_it_listens(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ("a",), procedures=["tests.server.procedures"])
    cluster.start("a")
    try:
        assert " count=" in cluster.line("a", "has loaded its procedures")
        cluster.line("a", "listens")
        cluster.line("a", " leads ")
        assert cluster.end("a", signal.SIGTERM) == 0
    finally:
        cluster.close()


def test_a_procedure_that_cannot_be_compiled_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "unfit_procedures.py").write_text(MODULE)
    cluster = Cluster(tmp_path, ("a",), procedures=["unfit_procedures"])
    ended = subprocess.run(
        cluster.command("a"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert ended.returncode == 2
    assert "listens" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("mako: procedures: ")
    assert "unfit" in last
    assert "cannot be compiled" in last


def test_a_process_whose_folder_was_removed_ends_with_a_line(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ("a",))
    cluster.start("a")
    try:
        cluster.line("a", " leads ")
        shutil.rmtree(tmp_path / "data")
        assert "this folder has been removed" in cluster.line("a", "must end")
        process = cluster.running["a"]
        assert process.wait(PATIENCE) == 3
        assert process.stderr is not None
        assert not process.stderr.read(), "no traceback"
    finally:
        cluster.close()
