"""Real processes of a cluster of two partitions: three with a replica of each, and two with one.

Tests share the cluster of three and need not come in this order, nor all in one process of pytest:
each finds it as some others have left it.
"""

import concurrent.futures
import contextlib
import json
import os
import random
import shutil
import signal
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import mako
from mako.cli import membership, watching
from mako.cli.app import main
from mako.placement import Kind, Placement
from tests.server.procedures import COUNTER
from tests.server.processes import NAMES, PATIENCE, Cluster, free_ports
from tests.server.scripts import Scripts

pytestmark = pytest.mark.slow

HASH = Placement(Kind.HASH, 2)


def keys_of(partition: int, count: int) -> list[bytes]:
    found = (b"key %d" % number for number in range(1000))
    return [key for key in found if HASH.partition_of(key) == partition][:count]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(
        tmp_path_factory.mktemp("shards"), shards=2, procedures=["tests.server.procedures"]
    )
    try:
        for name in NAMES:
            made.start(name)
        made.line("a", " leads partition=0")
        made.line("b", " leads partition=1")  # Each that it should lead, at the latest then.
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands wait here for processes that wait for a processor."""
    monkeypatch.setattr(watching, "ASK_SECONDS", PATIENCE)
    for name in ("_REQUEST_SECONDS", "_PROCESS_SECONDS"):
        monkeypatch.setattr(membership, name, PATIENCE)


def settle(cluster: Cluster) -> None:
    """All run, and each leads what it should. Not before: a leadership that moves meanwhile may
    take a transaction along that is not run once."""
    cluster.start_missing()
    cluster.settle("a", "b")


def lead(cluster: Cluster, name: str, *more: str) -> int:
    command = ["replica", "lead", "-f", str(cluster.file), "--timeout", str(PATIENCE)]
    return main([*command, *more, name])


def newest(db: mako.RemoteDatabase) -> int:
    """The watermark of the partition that is ahead: what was acknowledged is not above it."""
    return max(int(db.status(partition=each)["watermark"]) for each in db.partitions)


def test_keys_of_both_partitions_are_written_and_read(cluster: Cluster) -> None:
    settle(cluster)
    keys = sorted(keys_of(0, 20) + keys_of(1, 20))
    with cluster.connect() as db:
        for key in keys:
            db.put(key, b"v" + key)
        assert db.get_many(keys) == [b"v" + key for key in keys]
        assert [key for key, _ in db.items()] == keys
        assert [key for key, _ in db.items(reverse=True)] == keys[::-1]
        with db.transaction() as tx:
            tx.put(keys_of(1, 1)[0], b"in a transaction")
        db.wait_watermark(tx.commit_ts)
        assert db.watermark >= tx.commit_ts
        written = db.watermark
    for name in NAMES:
        with cluster.connect(name, replica=True) as near:
            near.wait_watermark(written)
            assert [key for key, _ in near.items()] == keys


def test_every_partition_is_shown(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    settle(cluster)
    assert main(["status", "-f", str(cluster.file), "-o", "json", "--hash"]) == 0
    rows = json.loads(capsys.readouterr().out)["replicas"]
    assert [(row["process"], row["partition"]) for row in rows] == [
        (name, partition) for name in NAMES for partition in (0, 1)
    ]
    leaders = [(row["process"], row["partition"]) for row in rows if row["role"] == "leader"]
    assert leaders == [("a", 0), ("b", 1)]
    for partition in (0, 1):
        assert len({row["hash"] for row in rows if row["partition"] == partition}) == 1
    url = f"http://127.0.0.1:{cluster.http[0]}"
    with urllib.request.urlopen(f"{url}/status") as answer:
        shown = json.load(answer)["partitions"]
    assert [each["partition"] for each in shown] == [0, 1]
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        roles = next(family for family in families if family.name == "raft_role").samples
    assert [sample.labels["partition"] for sample in roles] == ["0", "1"]


def test_the_leadership_of_one_partition_is_handed_over(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(cluster)
    for name in ("c", "b"):
        assert lead(cluster, name, "--partition", "1") == 0
        assert f"partition 1: {name} leads" in capsys.readouterr().out
        cluster.settle("a", name)


def test_a_partition_goes_on_while_another_one_has_no_leader(cluster: Cluster) -> None:
    settle(cluster)
    here, there = keys_of(0, 1)[0], keys_of(1, 1)[0]
    with cluster.connect(once=True) as db:
        for key in (here, there):
            db.put(key, bytes(8))
        counts = [db.add(key, 1) for key in (here, there) for _ in range(5)]
        assert counts == [1, 2, 3, 4, 5] * 2
        leader = cluster.leader(1)
        others = "".join(name for name in NAMES if name != leader)
        assert cluster.leader(0) in others
        cluster.end(leader, signal.SIGKILL)
        # Those of partition 1 have not even noticed yet.
        for count in range(6, 56):
            assert db.add(here, 1) == count
        with mako.connect(cluster.addresses, timeout=PATIENCE) as another:
            assert another.get_int(here) == 55
        assert [db.add(there, 1) for _ in range(5)] == [6, 7, 8, 9, 10]
        assert cluster.leader(1) in others
        assert cluster.leader(0) in others
        cluster.start_missing()
        written = newest(db)
    hashes: dict[int, set[str]] = {0: set(), 1: set()}
    for name in NAMES:
        with cluster.connect(name, replica=True) as near:
            near.wait_watermark(written, timeout=PATIENCE)
            with near.snapshot() as snapshot:
                table = snapshot.table("default")
                assert (table.get_int(here), table.get_int(there)) == (55, 10)
                for partition, found in hashes.items():
                    found.add(snapshot.state_hash(partition=partition))
    assert [len(found) for found in hashes.values()] == [1, 1]


def test_transactions_go_over_partitions(cluster: Cluster) -> None:
    settle(cluster)
    with cluster.connect() as db:
        for number in range(20):
            assert db.run("move", number, number + 1, 5) == (-5 if number == 0 else 0)
        assert db.run("sum_of", 0, 21, partition=0) == 0
        assert db.run("sum_of", 0, 21, partition=1) == 0
        assert db.run("sum_of", 20, 21, partition=0) == 5
        assert db.run("sum_of", 20, 21, partition=1) == 5


def test_transfers_survive_a_leader(cluster: Cluster) -> None:
    """Every transfer over partitions that was acknowledged is there, whole."""
    settle(cluster)
    accounts, moved = range(100, 116), 0
    stop = threading.Event()

    def run(seed: int) -> int:
        chance, count = random.Random(seed), 0
        with cluster.connect(once=True) as db:
            while not stop.is_set():
                one, other = chance.sample(accounts, 2)
                db.run("move", one, other, chance.randrange(9))
                db.run("add", 200 + seed, 1)
                count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(4) as pool, cluster.connect(once=True) as db:
        for number in accounts:
            db.run("add", number, 100)
        running = [pool.submit(run, seed) for seed in range(4)]
        try:
            leader = cluster.leader(1)
            while sum(db.run("sum_of", 200, 204, partition=p) for p in (0, 1)) < 200:
                check_all_run(running)
            cluster.end(leader, signal.SIGKILL)
            before = db.run("sum_of", 200, 204, partition=0)
            while db.run("sum_of", 200, 204, partition=0) < before + 200:
                check_all_run(running)
        finally:
            stop.set()
        moved = sum(each.result() for each in running)
        assert db.run("sum_of", accounts[0], accounts[-1] + 1, partition=0) == 1600
        assert db.run("sum_of", 200, 204, partition=1) == moved


def check_all_run(running: Sequence[concurrent.futures.Future[int]]) -> None:
    for each in running:
        if each.done():
            pytest.fail(f"it has ended: {each.exception()}")


def test_snapshots_see_transfers_whole(cluster: Cluster) -> None:
    """At every replica, while others move what there is from one partition to the other."""
    settle(cluster)
    accounts = range(300, 316)
    stop = threading.Event()

    def run(seed: int) -> None:
        chance = random.Random(seed)
        with cluster.connect(once=True) as db:
            while not stop.is_set():
                one, other = chance.sample(accounts, 2)
                db.run("move", one, other, chance.randrange(9))

    def seen(db: mako.RemoteDatabase) -> list[int]:
        while True:
            try:
                return look(db)
            except (mako.ConnectionLost, mako.TransactionTooOld):
                continue  # Who could not run in time has lost its lead, or its snapshot.

    def look(db: mako.RemoteDatabase) -> list[int]:
        with db.snapshot(max_staleness=PATIENCE) as snapshot:
            table = snapshot.table(COUNTER)
            rows = dict(table.scan((accounts[0],), (accounts[-1] + 1,)))
            again = table.get_many([(number,) for number in accounts])
            assert list(rows.values()) == again
            assert snapshot.timestamp > 0
        return [row["value"] for row in again]

    with concurrent.futures.ThreadPoolExecutor(2) as pool, cluster.connect(once=True) as db:
        for number in accounts:
            db.run("add", number, 100)
        with db.snapshot() as snapshot:
            written = snapshot.timestamp
        running = [pool.submit(run, seed) for seed in range(2)]
        try:
            for name in ("", *NAMES):
                with cluster.connect(name, replica=bool(name)) as near:
                    near.wait_watermark(written, timeout=PATIENCE)
                    looks = [seen(near) for _ in range(25)]
                    while looks[-1] == looks[0] and not any(each.done() for each in running):
                        looks.append(seen(near))  # Until something has been moved.
                assert {sum(values) for values in looks} == {1600}
                assert len({tuple(values) for values in looks}) > 1, "they were moved meanwhile"
        finally:
            stop.set()
        for each in running:
            each.result()


def test_who_is_told_to_end_hands_over_all_that_it_leads(cluster: Cluster) -> None:
    settle(cluster)
    assert lead(cluster, "a") == 0
    cluster.settle("a", "a")
    keys = [*keys_of(0, 3), *keys_of(1, 3)]
    with cluster.connect() as db:
        db.get_many(keys)
        assert cluster.end("a", signal.SIGTERM) == 0
        for key in keys:
            db.put(key, b"after")
        assert db.get_many(keys) == [b"after"] * 6
    assert "a" not in (cluster.leader(0), cluster.leader(1))
    for name in ("b", "c"):  # They would have it lead both as long as they run.
        cluster.end(name, signal.SIGKILL)


def test_all_that_are_told_to_end_do_not_hand_over_to_each_other(cluster: Cluster) -> None:
    settle(cluster)  # Each could give the other what it has.
    for process in cluster.running.values():
        process.send_signal(signal.SIGTERM)
    stood = 0
    for name in list(cluster.running):
        assert cluster.end(name, signal.SIGTERM) == 0
        stood += cluster.said.rpartition("is told to end")[2].count("is candidate")
    assert stood <= 4, "each partition may have been given to the third process, or elect once more"


# --- The scripts -------------------------------------------------------------------------------

FILE = "config/1c2s1r1p_cluster.yml"


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[tuple[Scripts, list[int]]]:
    """With the shipped configuration of two processes, at ports that are free here."""
    made = Scripts(tmp_path)
    file = made.folder / FILE
    ports = free_ports(4)
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    sites = [site.partition(":")[0] for (site,) in document["site"]["server"]]
    document["site"]["server"] = [
        [f"{site}:{port}"] for site, port in zip(sites, ports[:2], strict=True)
    ]
    http = dict(zip(document["host"], ports[2:], strict=True))
    file.write_text(yaml.safe_dump(document | {"http": http, "memory": "128MiB"}))
    try:
        yield made, ports
    finally:
        for left in (made.folder / "data").glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(left.read_text()), signal.SIGKILL)


def test_a_process_for_each_shard(scripts: tuple[Scripts, list[int]]) -> None:
    made, ports = scripts
    up = made.run("cluster.sh", "up", "--detach", "-f", FILE)
    assert (up.returncode, up.stderr) == (0, "")
    assert up.stdout.splitlines()[2:] == [
        "localhost-0 leads partition 0",
        "localhost-1 leads partition 1",
    ]
    here, there = keys_of(0, 1)[0], keys_of(1, 1)[0]
    # Each knows where the other partition is.
    for port in ports[:2]:
        with mako.connect(f"127.0.0.1:{port}", timeout=PATIENCE) as db:
            db.put(here, b"%d" % port)
            db.put(there, b"%d" % port)
            assert db.get_many([there, here]) == [b"%d" % port] * 2
    with mako.connect(f"127.0.0.1:{ports[1]}", replica=True, timeout=PATIENCE) as near:
        assert near.get(here) == b"%d" % ports[1], "a replica elsewhere, as none is near by"
    folder = made.folder / "backup"
    assert main(["backup", "-f", str(made.folder / FILE), str(folder)]) == 0
    down = made.run("cluster.sh", "down", "-f", FILE)
    assert down.returncode == 0
    assert down.stdout.splitlines() == ["localhost-0: ended", "localhost-1: ended"]
    # Each partition of the backup is of a moment of its own, and they go on together from there.
    data = made.folder / "data"
    shutil.rmtree(data)
    assert main(["restore", "-f", str(made.folder / FILE), "--data", str(data), str(folder)]) == 0
    assert made.run("cluster.sh", "up", "--detach", "-f", FILE).returncode == 0
    with mako.connect(f"127.0.0.1:{ports[0]}", timeout=PATIENCE) as db:
        assert db.get_many([there, here]) == [b"%d" % ports[1]] * 2
        with db.transaction() as tx:
            tx.put(here, b"again")
            tx.put(there, b"again")
        db.wait_watermark(tx.commit_ts)
        assert [value for _, value in db.items()] == [b"again"] * 2
    down = made.run("cluster.sh", "down", "-f", FILE)
    assert (down.returncode, down.stdout) == (0, "localhost-0: ended\nlocalhost-1: ended\n")
