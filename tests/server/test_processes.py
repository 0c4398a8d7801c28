"""Three real processes of a cluster, started, asked, killed and ended like a user does it.

Tests share the cluster and need not come in this order, nor all in one process of pytest: each
finds it as some others have left it.
"""

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

import mako
from mako.cli import watching
from mako.cli.app import main
from mako.client.remote import core
from tests.server.load import Load
from tests.server.processes import NAMES, PATIENCE, Cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"), module="tests.server.patient")
    try:
        made.start_all()
        yield made
    finally:
        made.close()


def one_that_ended(cluster: Cluster) -> str:
    """One of the three does not run; the others do, as far as other tests have left them."""
    ended = [name for name in NAMES if name not in cluster.running]
    if not ended:
        cluster.end(NAMES[-1], signal.SIGKILL)
        return NAMES[-1]
    assert len(ended) == 1
    return ended[0]


def write(cluster: Cluster, key: bytes, value: bytes) -> None:
    """Write it, until all that run have it."""
    with cluster.connect(once=True) as db:
        db.put(key, value)
        written = db.watermark
    for name in list(cluster.running):
        with cluster.connect(name, replica=True) as db:
            db.wait_watermark(written, timeout=PATIENCE)


def test_what_is_durable_is_at_every_replica(cluster: Cluster) -> None:
    cluster.start_missing()
    with cluster.connect(once=True) as db:
        db.put(b"everywhere", b"yes")
        db.add(b"number", 0)
        written = db.watermark
    for name in NAMES:
        with cluster.connect(name, replica=True) as db:
            db.wait_watermark(written, timeout=PATIENCE)
            with db.snapshot() as snapshot:
                assert snapshot.table("default").get(b"everywhere") == b"yes"


def said_at(port: int, path: str, *, wanted: str = "") -> str:
    """What is said at a path, once it is what is `wanted`: a follower may know no leader yet, and
    who had no processor for a while is not well."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                said = str(answer.read().decode())
        except HTTPError as error:
            with error:
                said = error.read().decode()
            assert wanted, said
        if wanted in ("", said):
            return said
        assert time.monotonic() < deadline, said


def test_metrics_status_and_health_over_http(cluster: Cluster) -> None:
    cluster.start_missing()
    for port in cluster.http:

        def get(path: str, wanted: str = "", port: int = port) -> str:
            return said_at(port, path, wanted=wanted)

        assert get("/readyz", "ready\n")
        assert get("/healthz", "well\n")
        families = {
            family.name: family for family in text_string_to_metric_families(get("/metrics"))
        }
        assert families["raft_term"].samples[0].value >= 1
        peers = {each.labels["peer"] for each in families["raft_replication_failures"].samples}
        assert len(peers) == 2
        assert peers < set(NAMES)
        assert {
            "raft_role",
            "raft_commit_index",
            "raft_last_applied",
            "raft_log_size",
            "mako_watermark_lag_seconds",
            "mako_fsync_seconds",
        } <= set(families)
        assert json.loads(get("/status"))["partitions"][0]["members"]["voters"] == [1, 2, 3]


def test_status_asks_all_of_them(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.start_missing()
    monkeypatch.setattr(watching, "ASK_SECONDS", PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while True:
        status = main(["status", "-f", str(cluster.file), "-o", "json"])
        found = json.loads(capsys.readouterr().out)
        assert [row["answers"] for row in found["replicas"]] == [True] * 3
        # The lead may move between two answers.
        roles = sorted(row["role"] for row in found["replicas"])
        if (status, roles) == (0, ["follower", "follower", "leader"]):
            break
        assert time.monotonic() < deadline, found


def test_a_port_in_use_is_said_in_a_line(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start_missing()
    options = ["--data", str(tmp_path)]
    ended = subprocess.run(
        cluster.command("b", *options), capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 2
    assert f"port {cluster.ports['b']} of b is in use" in ended.stderr


def test_a_folder_serves_one_process(cluster: Cluster) -> None:
    cluster.start_missing()
    ended = subprocess.run(cluster.command("b"), capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert "is used by another process" in ended.stderr


def test_a_killed_leader_loses_nothing_that_was_acknowledged(cluster: Cluster) -> None:
    cluster.start_missing()
    acknowledged = 0
    with cluster.connect(once=True) as db:
        for _ in range(30):
            acknowledged = db.add(b"number", 1)
        leader = cluster.leader()
        cluster.end(leader, signal.SIGKILL)
        for _ in range(30):
            acknowledged = db.add(b"number", 1)
        assert acknowledged == 60
        assert cluster.leader() != leader
        cluster.start(leader)
        cluster.line(leader, "is follower")
        written = db.watermark
    hashes = set()
    for name in NAMES:
        with cluster.connect(name, replica=True) as db:
            db.wait_watermark(written, timeout=PATIENCE)
            with db.snapshot() as snapshot:
                assert snapshot.table("default").get_int(b"number") == 60
                hashes.add(snapshot.state_hash())
    assert len(hashes) == 1


def test_who_is_told_to_end_hands_over_and_ends_well(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.start_missing()
    # So long as its server, which is patient, a client waits for the last answers.
    monkeypatch.setattr(core, "PATIENCE", PATIENCE)
    leader = cluster.leader()
    loads = [Load(cluster.addresses, b"load%d" % i, once=False) for i in range(8)]
    try:
        for load in loads:
            load.goes_on()
        assert cluster.end(leader, signal.SIGTERM) == 0
        assert "is told to end" in cluster.said
        for load in loads:
            load.goes_on()
    finally:
        for load in loads:
            load.stop()
    assert all(load.end() > 0 for load in loads), "nobody was left in the dark"
    with cluster.connect(once=True) as db:
        db.put(b"after", b"1")
    assert cluster.leader() != leader


def test_two_thirds_gone_refuse_and_one_more_is_enough(cluster: Cluster) -> None:
    first = one_that_ended(cluster)
    write(cluster, b"before", b"1")
    second = cluster.leader()
    cluster.end(second, signal.SIGKILL)
    (alone,) = cluster.running
    address = f"127.0.0.1:{cluster.ports[alone]}"
    with (
        pytest.raises(mako.Error, match="no server leads"),
        mako.connect(address, timeout=1.0) as db,
    ):
        db.put(b"alone", b"0")
    with (
        mako.connect(address, timeout=PATIENCE, replica=True) as db,
        db.snapshot() as snapshot,
    ):
        assert snapshot.table("default").get(b"before") == b"1"
    cluster.start(first)
    with cluster.connect(once=True) as db:
        db.put(b"after", b"2")
        assert db.get(b"after") == b"2"
        assert db.get(b"alone") is None


def test_a_lost_disk_comes_back_without_a_vote_first(cluster: Cluster) -> None:
    lost = one_that_ended(cluster)
    with cluster.connect(once=True) as db:
        db.put(b"after", b"3")
        written = db.watermark
    folder = cluster.folder / "data" / lost
    folder.rename(cluster.folder / "lost")
    cluster.start(lost)
    cluster.line(lost, "it returns without a vote")
    cluster.line(lost, "is a full member again")
    with cluster.connect(lost, replica=True) as db:
        db.wait_watermark(written, timeout=PATIENCE)
        with db.snapshot() as snapshot:
            assert snapshot.table("default").get(b"after") == b"3"
