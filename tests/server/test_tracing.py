"""What a process says of who waits for what: one that runs, with two partitions, over HTTP.

Partition 0 does not hear how far partition 1 is durable, so what depends on it waits there.
"""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import mako
from mako.config import load
from mako.placement import Kind, Placement
from mako.server import trace_schema
from mako.server.events import EventLog
from mako.server.hosting import Hosted
from mako.server.plan import group_of
from mako.server.planning import plan_of
from mako.server.process import ServerProcess
from mako.server.running import serve
from mako.server.trace_schema import PartitionTrace, PartitionWaits, ProcessTrace, ProcessWaits
from tests.server.http_client import Client
from tests.server.test_observing import free_ports

SECONDS = 60
CONFIG = """
cluster: {{name: traced, id: 9}}
site: {{server: [["s0:{0}"], ["s1:{1}"]]}}
process: {{s0: a, s1: a}}
host: {{a: 127.0.0.1}}
http: {{a: {2}}}
log: memory
memory: 32MiB
"""
HASH = Placement(Kind.HASH, 2)


def keys_of(partition: int, count: int) -> list[bytes]:
    found = (b"key %d" % number for number in range(1000))
    return [key for key in found if HASH.partition_of(key) == partition][:count]


class Traced:
    """A process, and what it says."""

    def __init__(self, server: ServerProcess, http: Client, port: int) -> None:
        self.server = server
        self.http = http
        self.port = port

    def hosted(self, partition: int) -> Hosted:
        return self.server.hosted[group_of(partition)]

    async def get(self, path: str) -> tuple[int, Any]:
        status, _, body = await self.http.get(path)
        return status, json.loads(body) if status == 200 else body.decode()

    async def waits(self, partition: int, query: str = "") -> PartitionWaits:
        status, found = await self.get("/trace" + query)
        assert status == 200, found
        shown = trace_schema.of_json(ProcessWaits, found)
        assert (shown.process, shown.cluster) == ("a", "traced")
        return next(each for each in shown.partitions if each.partition == partition)

    async def trace(self, partition: int, timestamp: int, query: str = "") -> PartitionTrace:
        status, found = await self.get(f"/trace/{timestamp}{query}")
        assert status == 200, found
        shown = trace_schema.of_json(ProcessTrace, found)
        assert shown.timestamp == timestamp
        return next(each for each in shown.partitions if each.partition == partition)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Traced]:
    ports = free_ports(3)
    file = folder / "a.yml"
    file.write_text(CONFIG.format(*ports))
    log = EventLog("a", io.StringIO())
    async with trio.open_nursery() as nursery:
        with trio.fail_after(SECONDS):
            server = await nursery.start(partial(serve, plan_of(load([file]), "a"), log))
        async with await trio.open_tcp_stream("127.0.0.1", ports[2]) as stream:
            yield Traced(server, Client(stream), ports[0])
        nursery.cancel_scope.cancel()


async def test_what_waits_and_through_which_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = keys_of(0, 2), keys_of(1, 1)
    async with running(tmp_path) as traced:
        async with await mako.aconnect(f"127.0.0.1:{traced.port}", timeout=SECONDS) as db:
            await db.put(here[0], b"0")
            await db.put(there[0], b"0")
            assert (await traced.waits(0)).waiting_for == []
            across = traced.hosted(0).partition.across
            monkeypatch.setattr(across, "hear", lambda *_: False)
            print(await traced.get("/trace"))
            async with trio.open_nursery() as nursery:
                async def write(*keys):
                    async with db.transaction() as tx:
                        for key in keys:
                            await tx.put(key, b"1")
                nursery.start_soon(write, here[0], there[0])
                await trio.sleep(1)
                nursery.start_soon(write, here[0])
                await trio.sleep(1)
                print(json.dumps(await traced.get("/trace"),indent=1))
                w=await traced.waits(0)
                for one in w.oldest:
                    print(json.dumps(await traced.get(f"/trace/{one.timestamp}"),indent=1))
                nursery.cancel_scope.cancel()
    return
