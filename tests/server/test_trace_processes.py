"""`mako trace` on two processes with a partition each, of which one stands still."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import pytest

import mako
from mako.cli import asking
from mako.cli.app import main
from mako.placement import Kind, Placement
from tests.server.procedures import COUNTER
from tests.server.processes import PATIENCE, Cluster

pytestmark = pytest.mark.slow

HASH = Placement(Kind.HASH, 2)
HERE, THERE = (
    next(n for n in range(99) if HASH.partition_of(COUNTER.pack_key(n)) == partition)
    for partition in (0, 1)
)
#: Clients that keep something under way.
CLIENTS: Final = 4


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    names = ("a", "b")
    # A disk that takes its time is no reason to begin another epoch.
    raft = {"election_ticks": 200}
    made = Cluster(tmp_path, names, procedures=["tests.server.procedures"], raft=raft)
    sites = [[f"s{name}:{made.ports[name]}"] for name in names]
    made.write(names, site={"server": sites}, process={f"s{name}": name for name in names})
    try:
        for name in names:
            made.start(name)
        made.line("a", " leads partition=0")
        made.line("b", " leads partition=1")
        yield made
    finally:
        if "b" in made.running:
            made.running["b"].send_signal(signal.SIGCONT)
        made.close()


def load(cluster: Cluster, stands_still: threading.Event, over: threading.Event) -> None:
    """Transactions over both partitions, whose results are early. Once b stands still nothing more
    is asked for: the result that is waited for comes when b goes on, or not at all."""
    with cluster.connect() as db:
        while not over.is_set():
            with suppress(mako.Error, TimeoutError):
                db.submit("move", HERE, THERE, 1).result(timeout=PATIENCE)
                db.submit("add", HERE, 1).result(timeout=PATIENCE)
                continue
            if stands_still.is_set():
                return


def traced(capsys: pytest.CaptureFixture[str], cluster: Cluster, *txn: str) -> tuple[int, Any]:
    status = main(["trace", "-f", str(cluster.file), "-w", "json", *txn])
    return status, json.loads(capsys.readouterr().out)


def test_what_waits_for_a_process_that_stands_still(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ASK_SECONDS", PATIENCE)
    status, found = traced(capsys, cluster)
    assert (status, found["problems"]) == (0, [])
    assert [each["process"] for each in found["partitions"]] == ["a", "b"]
    with cluster.connect(once=True) as db:
        db.run("move", HERE, THERE, 1)
    # Where all that was executed is durable as b is stopped, nothing waits: then once more.
    oldest = next(filter(None, (look_while_stopped(capsys, cluster) for _ in range(20))))
    deadline = time.monotonic() + PATIENCE
    while True:
        status, found = traced(capsys, cluster)
        if not found["problems"] and not any(one["waiting_for"] for one in found["partitions"]):
            break
        assert time.monotonic() < deadline, found
    assert status == 0
    status, one = traced(capsys, cluster, str(oldest["timestamp"]))
    assert one["state"] in ("durable", "discarded", "unknown")


def look_while_stopped(capsys: pytest.CaptureFixture[str], cluster: Cluster) -> Any:
    """Stop b under load, and look; the oldest transaction that waits for it, if any does."""
    stands_still, over = threading.Event(), threading.Event()
    running = [
        threading.Thread(target=load, args=(cluster, stands_still, over)) for _ in range(CLIENTS)
    ]
    for each in running:
        each.start()
    try:
        with cluster.connect(once=True) as db:
            before = db.run("value_of", THERE, partition=1)
            while db.run("value_of", THERE, partition=1) < before + 20:
                assert all(each.is_alive() for each in running)
        stands_still.set()
        cluster.running["b"].send_signal(signal.SIGSTOP)
        with pytest.MonkeyPatch.context() as patch:
            ask_in_vain(patch, cluster.http[1])
            return look(capsys, cluster)
    finally:
        over.set()
        cluster.running["b"].send_signal(signal.SIGCONT)
        for each in running:
            each.join()


def ask_in_vain(patch: pytest.MonkeyPatch, port: int) -> None:
    """Whoever stands still at a port is not waited for; others are as long as it takes."""

    def ask(url: str, timeout: float) -> Any:
        return urlopen(url, timeout=0.1 if f":{port}/" in url else timeout)

    patch.setattr(asking, "urlopen", ask)


def look(capsys: pytest.CaptureFixture[str], cluster: Cluster) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        status, found = traced(capsys, cluster)
        # The leader of partition 0 may begin another epoch, as b does not answer.
        silent, *_, missing = found["problems"]
        assert status == 1
        assert silent.startswith("b does not answer at 127.0.0.1:")
        assert missing == "partition 1: no leader answers"
        # What was executed a moment ago waits for the disk of its own partition, too.
        if len(found["problems"]) == 2:
            (here,) = found["partitions"]
            if all(each["partition"] == 1 for each in here["waiting_for"]):
                break
        assert time.monotonic() < deadline, found
    waits_for = {each["partition"]: each["transactions"] for each in here["waiting_for"]}
    if not waits_for.get(1):
        return None
    # The first ones may be durable everywhere, and not told yet.
    oldest = next(each for each in here["oldest"] if each["waits_for"])
    assert 1 in oldest["mask"]
    assert [each["partition"] for each in oldest["waits_for"]][-1] == 1

    while True:
        assert main(["trace", "-f", str(cluster.file), str(oldest["timestamp"])]) == 1
        out = capsys.readouterr().out
        if "partition 0: no leader answers" not in out:
            break
        assert time.monotonic() < deadline, out
    assert f"Transaction {oldest['timestamp']}, " in out
    assert "waiting for partition 1" in out.splitlines()[0]
    assert "its leader does not answer" in out or "through versions that it wrote" in out
    assert out.endswith("partition 1: no leader answers\n")
    return oldest
