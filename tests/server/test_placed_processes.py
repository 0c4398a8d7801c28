"""Processes that would look for rows where others do not, or where they are not."""

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mako.cli.app import main
from tests.server.processes import NAMES, PATIENCE, Cluster

pytestmark = pytest.mark.slow

OTHER = {"tables": {"words": {"range": ["p"]}}}


def refused(cluster: Cluster, name: str) -> str:
    """The last line of a process that does not start."""
    ended = subprocess.run(cluster.command(name), capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


def test_rows_stay_where_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(tmp_path, ("a",), shards=2)

    def configure(**changes: Any) -> None:
        cluster.write(("a",), **changes)

    cluster.start("a")
    try:
        with cluster.connect() as db:
            db.table("words").put(b"tree", b"1")
        configure(shards=OTHER)
        backup = ["-f", str(cluster.file), str(tmp_path / "backup")]
        assert main(["backup", *backup]) == 0
        assert cluster.end("a", signal.SIGTERM) == 0
        line = refused(cluster, "a")
        assert line.startswith("mako: table words of ")
        assert " is placed by hash, and by range 0x70 in the configuration; " in line

        data = tmp_path / "data"
        shutil.rmtree(data)
        capsys.readouterr()
        assert main(["restore", "--data", str(data), *backup]) == 2
        assert "table words of the backup is placed by hash, and by " in capsys.readouterr().err
        configure()
        assert main(["restore", "--data", str(data), *backup]) == 0
        configure(shards=OTHER)
        assert "table words of " in refused(cluster, "a"), "though it has never run there"

        configure(shards={"tables": {"numbers": "everywhere"}})
        cluster.start("a")
        with cluster.connect() as db:
            assert db.table("words").get(b"tree") == b"1"
        assert cluster.end("a", signal.SIGTERM) == 0
        fewer = Cluster(tmp_path, ("a",), shards=1)
        said = " is of a cluster of 2 partitions, and the configuration has 1; "
        assert said in refused(fewer, "a")
    finally:
        cluster.close()


def test_processes_that_look_elsewhere_do_not_talk(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, shards=2)
    try:
        cluster.start("a")
        cluster.line("a", "listens")
        cluster.write(NAMES, shards=OTHER)
        cluster.start("b")
        cluster.line("b", "would look for the same key in different partitions; give both the same")
        assert cluster.end("b", signal.SIGTERM) == 0
        cluster.write(NAMES)
        cluster.start("b")
        cluster.start("c")
        with cluster.connect() as db:
            db.table("words").put(b"tree", b"1")
    finally:
        cluster.close()
