"""What a server process shows of itself: one that runs, asked over HTTP."""

import dataclasses
import io
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

import mako
from mako.config import load
from mako.engine.engine import Engine
from mako.entry import Configuration, NodeId
from mako.net.links import PeerLinks
from mako.raft import Role
from mako.server import hashing, observing
from mako.server.events import EventLog
from mako.server.observing import HASHES_MAX, Observer
from mako.server.planning import plan_of
from mako.server.process import ServerProcess
from mako.server.running import serve
from mako.server.status import (
    PartitionStatus,
    ProcessStatus,
    StateHash,
    hash_of_json,
    of_json,
    to_json,
)
from tests.server.http_client import Client
from tests.server.processes import free_ports

#: For whatever takes as long as it takes.
SECONDS = 120
#: So far ahead of the watermark that the question comes in time, mostly.
AHEAD_MS = 300
CONFIG = """
cluster: {{name: seen, id: 9}}
site: {{server: [["s1:{port}"]]}}
process: {{s1: a}}
host: {{a: 127.0.0.1}}
http: {{a: {http}}}
data: {data}
memory: 32MiB
raft: {{election_ticks: 12000}}
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is late here because somebody else had the processor, or the disk."""
    monkeypatch.setattr(observing, "STALLED_SECONDS", SECONDS)
    monkeypatch.setattr(observing, "READY_LAG_MS", 1000 * SECONDS)
    monkeypatch.setattr(hashing, "WAIT_SECONDS", SECONDS)


class Seen:
    """A process that runs, a client of its HTTP server, and the port of its clients."""

    def __init__(self, server: ServerProcess, http: Client, port: int, http_port: int) -> None:
        self.server = server
        self.http = http
        self.port = port
        self.http_port = http_port

    async def status(self) -> ProcessStatus:
        status, _, body = await self.http.get("/status")
        assert status == 200
        return of_json(json.loads(body))

    async def partition(self) -> PartitionStatus:
        (found,) = (await self.status()).partitions
        return found

    async def metrics(self) -> dict[str, float]:
        """By name; outcomes by name and outcome."""
        status, _, body = await self.http.get("/metrics")
        assert status == 200
        return {
            sample.name + "".join(sample.labels.get(label, "") for label in ("outcome", "le")):
            sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }  # fmt: skip

    async def hash(self) -> str:
        found = await asked_for_hash(self.http)
        assert (await self.partition()).state_hash == found
        return found.hash

    async def until(self, good: Callable[[PartitionStatus], bool]) -> PartitionStatus:
        with trio.fail_after(SECONDS):
            while not good(found := await self.partition()):  # noqa: ASYNC110 - it is polled.
                await trio.sleep(0.02)
        return found

    def put(self, *rows: tuple[bytes, bytes]) -> None:
        with mako.connect(f"127.0.0.1:{self.port}", timeout=SECONDS) as db:
            for key, value in rows:
                db.table("t").put(key, value)


async def asked_for_hash(http: Client) -> StateHash:
    """A hash at a moment that has not passed, of the only partition."""
    with trio.fail_after(SECONDS):
        while True:
            (shown,) = of_json(json.loads((await http.get("/status"))[2])).partitions
            at = shown.watermark + (AHEAD_MS << 20)
            status, _, body = await http.get(f"/hash?partition=0&at={at}")
            if status != HTTPStatus.CONFLICT:
                break
            assert body.endswith(b"has passed that timestamp; ask for a later one\n")
    assert status == HTTPStatus.OK, body
    found = hash_of_json(json.loads(body))
    assert found.timestamp == at
    return found


@asynccontextmanager
async def running(folder: Path, extra: str = "") -> AsyncIterator[Seen]:
    """It stands for election at once, and leads from then on: with the usual time for elections it
    would step down whenever its disk takes a third of a second."""
    port, http = free_ports(2)
    file = folder / "a.yml"
    file.write_text(CONFIG.format(port=port, http=http, data=folder / "data") + extra)
    log = EventLog("a", io.StringIO())
    async with trio.open_nursery() as nursery:
        with trio.fail_after(SECONDS):
            server = await nursery.start(partial(serve, plan_of(load([file]), "a"), log))
            await server.hub_of(0)  # From then on there is a replica.
        (hosted,) = server.hosted.values()
        assert hosted.node is not None
        hosted.node.campaign()
        server.driver.host.touch(hosted.replica.group)
        server.kick()
        async with await trio.open_tcp_stream("127.0.0.1", http) as stream:
            yield Seen(server, Client(stream), port, http)
        nursery.cancel_scope.cancel()


async def test_a_process_is_seen_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as seen:
        await seen.until(lambda each: each.role == "leader" and each.watermark > 0)
        assert (await seen.http.get("/readyz"))[::2] == (200, b"ready\n")
        assert (await seen.http.get("/healthz"))[::2] == (200, b"well\n")
        status = await seen.status()
        assert (status.process, status.cluster, status.cluster_id) == ("a", "seen", 9)
        assert status.uptime_s > 0
        assert status.log_bytes > 0
        (found,) = status.partitions
        assert (found.partition, found.node, found.leader) == (0, 1, "a")
        assert found.leader_address == f"127.0.0.1:{seen.port}"
        assert found.members.voters == (1,)
        assert found.members.learners == ()
        assert 0 < found.applied <= found.commit <= found.last == found.log_entries
        assert found.term == found.epoch == 1
        assert found.watermark <= found.closed


async def test_clients_are_counted_and_told_what_becomes_of_them(tmp_path: Path) -> None:
    """What the process tells its clients reaches those that are connected."""
    async with running(tmp_path) as seen:
        await seen.until(lambda each: each.role == "leader" and each.watermark > 0)
        assert (await seen.status()).connections == 0
        async with await mako.aconnect(f"127.0.0.1:{seen.port}", timeout=SECONDS) as db:
            await db.put(b"k", b"1")
            assert (await seen.status()).connections == 1
            assert (await seen.metrics())["mako_client_connections"] == 1
            (hosted,) = seen.server.hosted.values()
            hosted.connections.drop_all("this is the end of an engine")
            assert len(hosted.connections) == 1, "it is being told"
            assert await db.get(b"k") == b"1"  # It comes back.


async def test_an_election_that_nobody_sees_is_counted(tmp_path: Path) -> None:
    """In memory the only voter is a candidate for less than a turn."""
    async with running(tmp_path, "log: memory\n") as seen:
        await seen.until(lambda each: each.role == "leader")
        assert (await seen.metrics())["raft_elections_total"] == 1


async def test_metrics_follow_what_happens(tmp_path: Path) -> None:
    async with running(tmp_path) as seen:
        await seen.until(lambda each: each.role == "leader" and each.watermark > 0)
        before = await seen.metrics()
        assert before["raft_role"] == 3
        assert before["raft_elections_total"] == 1, "it elected itself"
        rows = [(b"%d" % number, b"x") for number in range(10)]
        await trio.to_thread.run_sync(partial(seen.put, *rows))
        after = await seen.metrics()
        committed = "mako_transactions_totalcommitted"
        assert after[committed] - before[committed] >= len(rows)
        assert after["raft_last_applied"] > before["raft_last_applied"]
        # Each was durable before the next one began.
        assert after["mako_fsync_seconds_count"] - before["mako_fsync_seconds_count"] >= len(rows)
        assert after["mako_fsync_seconds_sum"] > before["mako_fsync_seconds_sum"]
        assert after["mako_log_full"] == 0
        assert abs(after["mako_watermark_seconds"] - before["mako_watermark_seconds"]) < SECONDS
        assert after["mako_memory_limit_bytes"] == 32 << 20
        assert after["mako_info"] == 1
        for name in ("process", "worker"):
            used = f"mako_{name}_cpu_seconds_total"
            assert after[used] > before[used], "who did the work has used time"


async def test_a_leader_counts_whom_it_cannot_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as seen:
        await seen.until(lambda each: each.role == "leader")
        monkeypatch.setitem(seen.server.plan.names, 2, "b")
        observer = observer_of(seen.server)
        line = 'raft_replication_failures_total{partition="0",node="1",peer="b"}'
        assert f"\n{line} 0\n" in observer.metrics()
        seen.server.on_unreachable(2)
        seen.server.on_unreachable(2)
        assert f"\n{line} 2\n" in observer.metrics()
        (hosted,) = seen.server.hosted.values()
        assert hosted.node is not None
        with monkeypatch.context() as patch:
            patch.setattr(hosted.node.state, "role", Role.FOLLOWER)
            seen.server.on_unreachable(2)
        assert f"\n{line} 2\n" in observer.metrics(), "a follower has nobody to reach"


async def test_a_hash_is_of_the_rows_at_its_timestamp(tmp_path: Path) -> None:
    async with running(tmp_path) as seen:
        await seen.until(lambda each: each.role == "leader" and each.watermark > 0)
        empty = await seen.hash()
        assert await seen.hash() == empty, "time alone changes nothing"
        await trio.to_thread.run_sync(seen.put, (b"k", b"1"))
        one = await seen.hash()
        await trio.to_thread.run_sync(seen.put, (b"k", b"2"))
        two = await seen.hash()
        await trio.to_thread.run_sync(seen.put, (b"k", b"1"))
        assert len({empty, one, two}) == 3
        assert await seen.hash() == one, "equal rows, equal hashes"


async def test_a_hash_sees_nothing_newer_than_its_timestamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overtaken by writes before it is computed, it is still of the moment that was named."""
    written = threading.Event()
    compute = hashing._hash

    def compute_late(engine: Engine, context: int, timestamp: int) -> str:
        assert written.wait(SECONDS)
        return compute(engine, context, timestamp)

    # Without a disk that many writes take no time worth mentioning.
    async with running(tmp_path, "log: memory\n") as seen:
        await seen.until(lambda each: each.role == "leader" and each.watermark > 0)
        await trio.to_thread.run_sync(seen.put, (b"k", b"1"))
        before = await seen.hash()
        monkeypatch.setattr(hashing, "_hash", compute_late)
        observer = observer_of(seen.server)
        (hosted,) = seen.server.hosted.values()
        found: list[str] = []

        async def ask() -> None:
            found.append((await observer.state_hash(0, hosted.partition.watermark)).hash)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            # Enough of them for what they replace to be reclaimed, if nobody kept it.
            rows = [(b"k", b"%d" % number) for number in range(2, 200)]
            await trio.to_thread.run_sync(partial(seen.put, *rows))
            written.set()
        assert found == [before]
        assert await seen.hash() != before


async def test_there_is_no_hash_of_the_past_nor_of_tomorrow(tmp_path: Path) -> None:
    async with running(tmp_path) as seen:
        found = await seen.until(lambda each: each.watermark > 0)

        async def refusal(partition: int, at: int) -> tuple[int, bytes]:
            return (await seen.http.get(f"/hash?partition={partition}&at={at}"))[::2]

        status, text = await refusal(0, found.watermark - 1)
        assert (status, text.endswith(b"ask for a later one\n")) == (409, True)
        status, text = await refusal(0, found.watermark + (3_600_000 << 20))
        assert (status, text.endswith(b"ask for less than 5 s\n")) == (400, True)
        status, text = await refusal(7, found.watermark)
        assert (status, text.startswith(b"there is no replica of partition 7")) == (404, True)
        assert (await seen.partition()).state_hash is None


async def test_hashes_without_end_take_nothing_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each needs a context of the engine, and there are fewer of them than connections."""
    compute = hashing._hash
    begun: list[int] = []
    all_asked = threading.Event()

    def compute_late(engine: Engine, context: int, timestamp: int) -> str:
        begun.append(timestamp)
        assert all_asked.wait(SECONDS)
        return compute(engine, context, timestamp)

    monkeypatch.setattr(hashing, "_hash", compute_late)
    async with running(tmp_path) as seen:
        found = await seen.until(lambda each: each.watermark > 0)
        at = found.watermark + (4_000 << 20)
        hashes: list[StateHash] = []
        statuses: list[int] = []

        async def be_first() -> None:
            async with await trio.open_tcp_stream("127.0.0.1", seen.http_port) as stream:
                hashes.append(await asked_for_hash(Client(stream)))

        async def ask() -> None:
            async with await trio.open_tcp_stream("127.0.0.1", seen.http_port) as stream:
                statuses.append((await Client(stream).get(f"/hash?partition=0&at={at}"))[0])

        async with trio.open_nursery() as first:
            for _ in range(HASHES_MAX):
                first.start_soon(be_first)
            with trio.fail_after(SECONDS):
                while len(begun) < HASHES_MAX:  # noqa: ASYNC110 - threads tell nobody.
                    await trio.sleep(0.01)
            async with trio.open_nursery() as nursery:
                for _ in range(60 - HASHES_MAX):
                    nursery.start_soon(ask)
            assert (await seen.http.get("/healthz"))[0] == 200
            assert hashes == []
            all_asked.set()
        assert len(hashes) == HASHES_MAX
        assert statuses == [503] * (60 - HASHES_MAX)
        assert (await seen.http.get("/healthz"))[0] == 200


def sizes_in(folder: Path) -> set[int]:
    """Sizes of snapshots, of which any may go meanwhile."""
    found: set[int] = set()
    for file in folder.glob("*.snap"):
        with suppress(FileNotFoundError):
            found.add(file.stat().st_size)
    return found


async def test_a_snapshot_on_disk_is_seen(tmp_path: Path) -> None:
    async with running(tmp_path, "snapshot: {entries: 3}\n") as seen:
        folder = tmp_path / "data" / "a" / "snapshots"
        index = 0
        while True:  # A newer one may take its place meanwhile.
            sizes = sizes_in(folder)
            found = await seen.until(lambda each: each.snapshot_bytes > 0)
            if found.snapshot_index == index:
                break
            index = found.snapshot_index
        assert 0 < found.snapshot_index <= found.applied
        assert found.snapshot_bytes in sizes

        def asked() -> dict[str, Any]:
            with mako.connect(f"127.0.0.1:{seen.port}", timeout=SECONDS) as db:
                return db.status()

        facts = await trio.to_thread.run_sync(asked)
        assert facts["snapshot_bytes"] > 0, "a client is told, too"
        assert facts["log_bytes"] > 0


class _NoLinks:
    """A process without peers."""

    connected: set[int] = set()  # noqa: RUF012 - nobody changes it.
    counters: dict[int, Any] = {}  # noqa: RUF012


def observer_of(server: ServerProcess) -> Observer:
    return Observer(server, cast(PeerLinks, _NoLinks()), "seen")


async def test_one_that_ends_is_not_ready_and_a_full_disk_is_not_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as seen:
        await seen.until(lambda each: each.role == "leader" and each.watermark > 0)
        observer = observer_of(seen.server)
        assert observer.ready() == (True, "ready")
        seen.server.ending = True
        assert observer.ready() == (False, "is ending")
        seen.server.ending = False
        monkeypatch.setattr(type(seen.server.store), "full", True)
        healthy, text = observer.healthy()
        assert (healthy, text.startswith("the disk is full")) == (False, True)
        assert (await seen.status()).log_full
        assert (await seen.metrics())["mako_log_full"] == 1


async def test_before_the_first_watermark_nothing_lags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as seen:
        await seen.until(lambda each: each.role == "leader" and each.watermark > 0)
        assert "\nmako_watermark_lag_seconds{" in observer_of(seen.server).metrics()
        (hosted,) = seen.server.hosted.values()
        facts = hosted.status() | {"watermark": 0, "watermark_lag_ms": 10**12}
        monkeypatch.setattr(hosted, "status", lambda: facts)
        observer = observer_of(seen.server)
        assert "\nmako_watermark_lag_seconds{" not in observer.metrics()
        assert observer.ready() == (False, "partition 0 has no watermark yet")


async def test_a_follower_without_a_vote_is_shown_as_a_learner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as seen:
        await seen.until(lambda each: each.role == "leader")
        (hosted,) = seen.server.hosted.values()
        node = hosted.node
        assert node is not None
        observer = observer_of(seen.server)

        def role() -> str:
            # All that shows it, without a turn in between that could change it again.
            (shown,) = of_json(json.loads(json.dumps(observer.status()))).partitions
            assert hosted.status()["role"] == shown.role
            return shown.role

        learner = Configuration(frozenset({NodeId(2)}), learners=frozenset({node.id}))
        with monkeypatch.context() as patch:
            patch.setattr(node.state, "role", Role.FOLLOWER)
            assert role() == "follower"
            patch.setattr(node.state, "configuration", learner)
            assert role() == "learner"
            assert "\nraft_role{" in (text := observer.metrics())
            assert text.partition("\nraft_role{")[2].split("\n")[0].endswith("} 4")
        assert role() == "leader"


# --- The schema --------------------------------------------------------------------------------


def example() -> dict[str, Any]:
    partition = {
        each.name: {"int": 1, "str": "x", "bool": False}.get(getattr(each.type, "__name__", ""))
        for each in dataclasses.fields(PartitionStatus)
    }
    partition["members"] = {"voters": [1, 2, 3], "outgoing": [], "learners": [4]}
    partition["state_hash"] = {"timestamp": 5, "hash": "00ff"}
    return {
        "process": "p1", "cluster": "mako", "cluster_id": 1, "version": "0.1.0", "uptime_s": 1.5,
        "connections": 0, "log_bytes": 1, "log_full": False, "partitions": [partition],
    }  # fmt: skip


def test_a_status_survives_json() -> None:
    found = of_json(example())
    assert found.partitions[0].members.voters == (1, 2, 3)
    assert of_json(json.loads(json.dumps(to_json(found)))) == found
    assert of_json(example() | {"later": 1, "uptime_s": 2}).uptime_s == 2.0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"process": None}, "process is None"),
        ({"uptime_s": True}, "uptime_s is True"),
        ({"log_bytes": 1.5}, "log_bytes is 1.5"),
        ({"partitions": {}}, "partitions is not a list"),
        ({"partitions": [1]}, "PartitionStatus is not an object"),
    ],
)
def test_what_is_no_status_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        of_json(example() | change)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"term": "1"}, "term is '1'"),
        ({"state_hash": {"timestamp": 1}}, "hash is missing"),
        ({"members": None}, "members is not an object"),
        ({"members": {"voters": [1], "outgoing": []}}, "members.learners is not a list"),
        ({"members": {"voters": ["1"], "outgoing": [], "learners": []}}, "members.voters"),
    ],
)
def test_a_partition_is_checked_too(change: dict[str, Any], text: str) -> None:
    status = example()
    status["partitions"][0] |= change
    with pytest.raises(ValueError, match=text):
        of_json(status)


def test_anything_else_is_refused() -> None:
    nothing: list[object] = [None, [], "x", {}]
    for found in nothing:
        with pytest.raises(ValueError, match=r"is not an object|is missing"):
            of_json(found)
