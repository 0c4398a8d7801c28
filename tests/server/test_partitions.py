"""Two partitions, each of one replica in a process of its own, which hear of each other."""

import signal
from pathlib import Path

import pytest

import mako
from mako.placement import Kind, Placement
from tests.server.processes import Cluster

pytestmark = pytest.mark.slow

HASH = Placement(Kind.HASH, 2)
KEYS = [
    next(key for key in (b"%d" % n for n in range(99)) if HASH.partition_of(key) == partition)
    for partition in (0, 1)
]


def put(db: mako.RemoteDatabase, value: bytes) -> None:
    """In both partitions: what their logs have begun before is written when that is durable."""
    for key in KEYS:
        db.put(key, value)


def test_a_partition_learns_that_another_one_has_failed(tmp_path: Path) -> None:
    """Its leader says so, its log says so, and its clients go on."""
    # A disk that takes its time is no reason to begin another epoch.
    cluster = Cluster(tmp_path, ("a", "b"), raft={"election_ticks": 200})
    places = [[f"s{name}:{cluster.ports[name]}"] for name in cluster.names]
    cluster.write(cluster.names, site={"server": places})
    learned = "has undone what others lost"
    try:
        for name in cluster.names:
            cluster.start(name)
        for name in cluster.names:
            cluster.line(name, learned)  # That the other one has begun.
        with cluster.connect("a") as db:
            put(db, b"1")
            cluster.end("b", signal.SIGKILL)
            cluster.start("b")
            assert "versions=0" in cluster.line("a", learned)
            put(db, b"2")
            assert db.get_many(KEYS) == [b"2", b"2"]
        cluster.end("a", signal.SIGKILL)
        cluster.start("a")
        cluster.line("b", learned)
        with cluster.connect("a") as db:
            assert db.get_many(KEYS) == [b"2", b"2"]
            put(db, b"3")
        assert cluster.end("a", signal.SIGTERM) == 0
        assert learned not in cluster.said, "its own log has told it of the epochs of the other one"
    finally:
        cluster.close()
