"""Three real processes of a cluster, started, asked, killed and ended like a user does it."""

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import mako
from mako.cli.app import main
from tests.server.load import Load
from tests.server.processes import NAMES, PATIENCE, Cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.start_all()
        yield made
    finally:
        made.close()


def test_what_is_durable_is_at_every_replica(cluster: Cluster) -> None:
    with cluster.connect() as db:
        db.put(b"everywhere", b"yes")
        db.add(b"number", 0)
        written = db.watermark
    for name in NAMES:
        with cluster.connect(name, replica=True) as db:
            db.wait_watermark(written, timeout=PATIENCE)
            with db.snapshot() as snapshot:
                assert snapshot.table("default").get(b"everywhere") == b"yes"


def test_metrics_status_and_health_over_http(cluster: Cluster) -> None:
    for port in cluster.http:

        def get(path: str, port: int = port) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return str(answer.read().decode())

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
        assert get("/healthz") == "well\n"
        assert get("/readyz") == "ready\n"


def test_status_asks_all_of_them(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "-f", str(cluster.file), "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["answers"] for row in found["replicas"]] == [True] * 3
    assert sorted(row["role"] for row in found["replicas"]) == ["follower", "follower", "leader"]


def test_a_port_in_use_is_said_in_a_line(cluster: Cluster, tmp_path: Path) -> None:
    options = ["--data", str(tmp_path)]
    ended = subprocess.run(
        cluster.command("b", *options), capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 2
    assert f"port {cluster.ports['b']} of b is in use" in ended.stderr


def test_a_folder_serves_one_process(cluster: Cluster) -> None:
    ended = subprocess.run(cluster.command("b"), capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert "is used by another process" in ended.stderr


def test_a_killed_leader_loses_nothing_that_was_acknowledged(cluster: Cluster) -> None:
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


def test_who_is_told_to_end_hands_over_and_ends_well(cluster: Cluster) -> None:
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
    with cluster.connect() as db:
        db.put(b"after", b"1")
    assert cluster.leader() != leader


def test_two_thirds_gone_refuse_and_one_more_is_enough(cluster: Cluster) -> None:
    first, second = [name for name in NAMES if name not in cluster.running] + [cluster.leader()]
    cluster.end(second, signal.SIGKILL)
    (alone,) = cluster.running
    with (
        mako.connect(f"127.0.0.1:{cluster.ports[alone]}", timeout=PATIENCE, replica=True) as db,
        db.snapshot() as snapshot,
    ):
        assert snapshot.table("default").get_int(b"number") == 60
    cluster.start(first)
    with cluster.connect() as db:
        db.put(b"after", b"2")
        assert db.get(b"after") == b"2"


def test_a_lost_disk_comes_back_without_a_vote_first(cluster: Cluster) -> None:
    lost = next(name for name in NAMES if name not in cluster.running)
    folder = cluster.folder / "data" / lost
    folder.rename(cluster.folder / "lost")
    cluster.start(lost)
    cluster.line(lost, "it returns without a vote")
    cluster.line(lost, "is a full member again")
    with cluster.connect(lost, replica=True) as db, db.snapshot() as snapshot:
        assert snapshot.table("default").get(b"after") == b"2"
