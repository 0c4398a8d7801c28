"""Two partitions, each of one replica in a process of its own, which hear of each other."""

import signal
from pathlib import Path

import pytest

from tests.server.processes import Cluster

pytestmark = pytest.mark.slow


def test_a_partition_learns_that_another_one_has_failed(tmp_path: Path) -> None:
    """Its leader says so, its log says so, and its clients go on."""
    cluster = Cluster(tmp_path, ("a", "b"))
    places = [[f"s{name}:{cluster.ports[name]}"] for name in cluster.names]
    cluster.write(cluster.names, site={"server": places})
    learned = "has undone what others lost"
    try:
        for name in cluster.names:
            cluster.start(name)
        for name in cluster.names:
            cluster.line(name, learned)  # That the other one has begun.
        with cluster.connect("a") as db:
            db.put(b"k", b"1")  # It is answered when the other partition has passed it, too.
            cluster.end("b", signal.SIGKILL)
            cluster.start("b")
            assert "versions=0" in cluster.line("a", learned)
            db.put(b"k", b"2")
            assert db[b"k"] == b"2"
        cluster.end("a", signal.SIGKILL)
        cluster.start("a")
        cluster.line("b", learned)
        with cluster.connect("a") as db:
            assert db[b"k"] == b"2"
            db.put(b"k", b"3")
        assert cluster.end("a", signal.SIGTERM) == 0
        assert learned not in cluster.said, "its own log has told it of the epochs of the other one"
    finally:
        cluster.close()
