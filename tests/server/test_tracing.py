"""What a process says of who waits for what: one that runs, with two partitions, over HTTP.

Partition 0 does not hear how far partition 1 is durable, so what depends on it waits there.
"""

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

import mako
from mako.config import load
from mako.placement import Kind, Placement
from mako.server import trace_schema, tracer
from mako.server.events import EventLog
from mako.server.hosting import Hosted
from mako.server.planning import plan_of
from mako.server.process import ServerProcess
from mako.server.running import serve
from mako.server.trace_schema import (
    Found,
    PartitionTrace,
    PartitionWaits,
    ProcessTrace,
    ProcessWaits,
)
from tests.server.http_client import Client, Reply
from tests.server.procedures import COUNTER
from tests.server.processes import free_ports

#: For whatever takes as long as it takes: procedures may have to be compiled.
SECONDS = 300
CONFIG = """
cluster: {{name: traced, id: 9}}
site: {{server: [["s0:{0}"], ["s1:{1}"]]}}
process: {{s0: a, s1: a}}
host: {{a: 127.0.0.1}}
http: {{a: {2}}}
log: memory
procedures: [tests.server.procedures]
memory: 32MiB
"""
HASH = Placement(Kind.HASH, 2)


HERE, THERE = (
    next(n for n in range(99) if HASH.partition_of(COUNTER.pack_key(n)) == partition)
    for partition in (0, 1)
)
KEY = next(key for key in (b"a", b"b", b"c", b"d", b"e") if HASH.partition_of(key) == 0)
T = TypeVar("T")


class Traced:
    """A process, and what it says."""

    def __init__(self, server: ServerProcess, http: int, port: int) -> None:
        self.server = server
        self.http = http
        self.port = port
        self.hear_again: Callable[[], None] = lambda: None

    async def ask(self, path: str) -> Reply:
        """Over a connection of its own: one that is silent for some seconds is cut."""
        async with await trio.open_tcp_stream("127.0.0.1", self.http) as stream:
            return await Client(stream).get(path)

    async def get(self, path: str) -> tuple[int, Any]:
        status, _, body = await self.ask(path)
        return status, json.loads(body) if status == 200 else body.decode()

    async def waits(self, partition: int, query: str = "") -> PartitionWaits:
        status, found = await self.get("/trace" + query)
        assert status == 200, found
        shown = trace_schema.of_json(ProcessWaits, found)
        assert (shown.process, shown.cluster) == ("a", "traced")
        return next(each for each in shown.partitions if each.partition == partition)

    async def trace(self, partition: int, timestamp: int, query: str = "") -> PartitionTrace:
        shown = await eventually(
            partial(self._trace, timestamp, query),
            # A leader says nothing before it has begun its epoch.
            lambda each: partition in (one.partition for one in each.partitions),
        )
        return next(each for each in shown.partitions if each.partition == partition)

    async def _trace(self, timestamp: int, query: str) -> ProcessTrace:
        status, found = await self.get(f"/trace/{timestamp}{query}")
        assert status == 200, found
        shown = trace_schema.of_json(ProcessTrace, found)
        assert shown.timestamp == timestamp
        return shown


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Traced]:
    ports = free_ports(3)
    file = folder / "a.yml"
    file.write_text(CONFIG.format(*ports))
    log = EventLog("a", io.StringIO())
    async with trio.open_nursery() as nursery:
        with trio.fail_after(SECONDS):
            server = await nursery.start(partial(serve, plan_of(load([file]), "a"), log))
        yield Traced(server, ports[2], ports[0])
        nursery.cancel_scope.cancel()


async def eventually(ask: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    with trio.fail_after(SECONDS):
        while not good(found := await ask()):  # noqa: ASYNC110 - it is polled.
            await trio.sleep(0.01)
    return found


@asynccontextmanager
async def deaf(folder: Path) -> AsyncIterator[tuple[Traced, mako.AsyncDatabase]]:
    """Nobody hears the watermark of the other partition any more; with a client."""
    async with (
        running(folder) as traced,
        await mako.aconnect(f"127.0.0.1:{traced.port}", timeout=SECONDS) as db,
    ):
        for number in (HERE, THERE):
            await db.run("add", number, 1)
        await db.put(KEY, b"before")
        with pytest.MonkeyPatch.context() as patch:
            for each in traced.server.hosted.values():
                patch.setattr(each.partition.across, "hear", lambda *_: False)
                # It would be found to stand still: results that wait for it are set aside, without
                # their names, after 0.2 s, and after a second nothing is run that depends on it.
                for name in ("stalled", "still"):
                    patch.setattr(each.partition.across.watermarks, name, lambda *_: 0)
            traced.hear_again = patch.undo
            yield traced, db


def gist(waits: PartitionWaits) -> list[tuple[int, list[int], list[int], int]]:
    return [
        (one.timestamp, one.mask, [lag.partition for lag in one.waits_for], one.writes)
        for one in waits.oldest
    ]


def through(one: Found) -> dict[int, str]:
    return {each.partition: each.how for each in one.through}


def so_many(count: int, other: int) -> Callable[[PartitionWaits], bool]:
    """So many wait, and only for the `other` one: their own has to become durable first."""
    return lambda each: (
        each.waiting == count
        and {lag.partition for one in each.oldest for lag in one.waits_for} == {other}
    )


async def test_what_waits_and_through_which_versions(tmp_path: Path) -> None:
    async with deaf(tmp_path) as (traced, db):
        moved = await db.submit("move", HERE, THERE, 5)
        assert await moved.result() == -4
        added = await db.submit("add", HERE, 1)
        await added.result()
        read = await db.submit("value_of", HERE, partition=0)
        assert await read.result() == -3
        at = [each.timestamp for each in (moved, added, read)]
        waits = await eventually(partial(traced.waits, 0), so_many(3, other=1))
        assert gist(waits) == [
            (at[0], [0, 1], [1], 1),
            (at[1], [0, 1], [1], 1),
            (at[2], [0, 1], [1], 0),
        ]
        assert waits.waiting == 3
        assert [(each.partition, each.transactions) for each in waits.waiting_for][-1] == (1, 3)
        askers = [one.asked_by for one in waits.oldest]
        assert [each and (each.name, each.early) for each in askers] == [
            ("move", True), ("add", True), ("value_of", True),
        ]  # fmt: skip
        over_there = await eventually(partial(traced.waits, 1), so_many(1, other=0))
        assert gist(over_there) == [(at[0], [0, 1], [0], 1)]
        few = await traced.waits(0, "?limit=1")
        assert (gist(few), few.waiting, few.left_out) == (gist(waits)[:1], 3, 2)

        here, there = await traced.trace(0, at[0]), await traced.trace(1, at[0])
        for trace, waits_for in ((here, 1), (there, 0)):
            (one,) = trace.found
            assert (one.state, one.mask, one.writes) == ("waiting", [0, 1], 1)
            assert [each.passed for each in one.partitions] == [waits_for == 1, waits_for == 0]
            assert [(each.partition, each.how) for each in one.through] == [
                (waits_for, "unrecorded")
            ]
        (row,) = here.found[0].rows
        assert (row.table, row.key, row.note) == ("counter", f"number={HERE}", "")
        assert row.before is not None
        assert (row.before.mask, row.before.carries) == ([0], [])
        before = row.before.timestamp

        # The clock may not have gone on between the last two: then they have one timestamp.
        one, *_ = (await traced.trace(0, at[1])).found
        assert through(one) == {1: "overwrote"}
        (row,) = one.rows
        assert row.before is not None
        assert (row.before.timestamp, row.before.mask, row.before.carries) == (at[0], [0, 1], [1])
        assert (row.first, row.versions) == (None, 1)
        assert before < at[0]

        *_, one = (await traced.trace(0, at[2])).found
        assert (one.writes, one.rows) == (0, [])
        assert through(one) == {1: "unrecorded"}
        # The clock of a partition where nothing happens may be behind that of another one.
        nowhere = await eventually(
            partial(traced.trace, 1, at[1]), lambda each: each.verdict != "future"
        )
        assert (nowhere.found, nowhere.verdict) == ([], "none")
        traced.hear_again()
        assert await moved.wait_durable() == -4


async def test_sessions_and_rows_of_any_kind(tmp_path: Path) -> None:
    """A deleted row, and one that is too long to be copied at once."""
    async with deaf(tmp_path) as (traced, db), trio.open_nursery() as nursery:
        moved = await db.submit("move", HERE, THERE, 5)
        await moved.result()

        async def change(value: bytes) -> None:
            async with db.transaction() as tx:
                await tx.get((HERE,), table=COUNTER)
                await (tx.put(KEY, value) if value else tx.delete(KEY))

        for count, value in enumerate((b"x" * 200_000, b""), 2):
            nursery.start_soon(change, value)
            waits = await eventually(partial(traced.waits, 0), so_many(count, other=1))
        long, deleted = waits.oldest[1:]
        assert long.asked_by is not None
        assert (long.asked_by.name, long.asked_by.request) == ("session", 0)
        (one,) = (await traced.trace(0, long.timestamp)).found
        assert through(one) == {1: "unrecorded"}
        (one,) = (await traced.trace(0, deleted.timestamp)).found
        (row,) = one.rows
        assert (row.table, row.key, row.deleted) == ("default", repr(KEY.decode()), True)
        assert row.before is not None
        assert (row.before.timestamp, row.before.carries) == (long.timestamp, [1])
        nursery.cancel_scope.cancel()


async def test_what_is_durable_is_not_kept(tmp_path: Path) -> None:
    async with deaf(tmp_path) as (traced, db):
        moved = await db.submit("move", HERE, THERE, 5)
        await moved.result()
        assert (await traced.trace(0, moved.timestamp)).found
    # The process has ended by now; another one knows nothing of it.
    async with running(tmp_path) as traced:
        await eventually(partial(traced.waits, 0), lambda each: each.role == "leader")
        async with await mako.aconnect(f"127.0.0.1:{traced.port}", timeout=SECONDS) as db:
            await db.run("add", HERE, 1)
            added = await db.submit("add", HERE, 1)
            await added.wait_durable()
        await eventually(partial(traced.waits, 0), lambda each: not each.waiting)
        found = await eventually(
            partial(traced.trace, 0, added.timestamp), lambda each: not each.found
        )
        assert found.verdict == "past"
        assert (await traced.trace(0, moved.timestamp)).verdict == "lost"


async def test_metrics_count_who_waits_for_whom(tmp_path: Path) -> None:
    async with deaf(tmp_path) as (traced, db):
        for _ in range(3):
            await (await db.submit("move", HERE, THERE, 5)).result()
        body = (await traced.ask("/metrics"))[2].decode()
        line = 'mako_waiting_for_watermark{partition="0",node="1",other="1"}'
        assert f"\n{line} 3\n" in body
        epoch = 'mako_recovery_discarded_versions{partition="0",node="1",cause="1",epoch="1"}'
        assert f"\n{epoch} 0\n" in body


async def test_bad_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as traced:
        await eventually(partial(traced.waits, 0), lambda each: each.role == "leader")
        for path in ("/trace/", "/trace/x", "/trace/-1", "/trace/" + "9" * 19, "/trace/1/2"):
            status, text = await traced.get(path)
            assert (status, text.endswith("is no timestamp; see /trace\n")) == (400, True)
        for query in ("limit=0", "limit=x", "limit=1001"):
            for path in ("/trace", "/trace/7"):
                status, text = await traced.get(f"{path}?{query}")
                assert (status, text) == (400, "limit is a number from 1 to 1000\n")
        assert (await traced.trace(0, (1 << 63) - 1)).verdict == "future"
        assert (await traced.trace(0, 7)).verdict in ("lost", "before")
        monkeypatch.setattr(tracer, "LOOKS_MAX", 0)
        for path in ("/trace", "/trace/7"):
            status, text = await traced.get(path)
            assert (status, text.endswith("ask again when they are done\n")) == (503, True)


async def test_who_does_not_lead_has_nothing_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deaf(tmp_path) as (traced, db):
        moved = await db.submit("move", HERE, THERE, 5)
        await moved.result()
        with monkeypatch.context() as patch:
            patch.setattr(Hosted, "serves", False)
            assert (await traced.waits(0)).waiting == 0
            shown = trace_schema.of_json(ProcessTrace, (await traced.get("/trace/7"))[1])
            assert shown.partitions == []
        assert (await traced.waits(0)).waiting == 1
