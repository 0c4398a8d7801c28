"""The remote database for tasks, on asyncio and on trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import anyio
import pytest

import mako
from tests.client.remote.conftest import Clock
from tests.client.remote.proxy import Proxy
from tests.server import procedures as p
from tests.server.loopback import Loopback
from tests.server.processes import PATIENCE

pytestmark = pytest.mark.usefixtures("patient")

_numbers = count(900_000)
Act = Callable[[mako.AsyncDatabase], Awaitable[None]]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest, server: Loopback) -> Callable[[Act], None]:
    """Runs a coroutine with a database of the server's."""

    async def main(act: Act) -> None:
        async with await mako.aconnect(server.address) as db:
            await act(db)

    return lambda act: anyio.run(main, act, backend=request.param)


def test_keys_counters_and_scans(run: Callable[[Act], None]) -> None:
    async def act(db: mako.AsyncDatabase) -> None:
        table = await db.table(f"akv {next(_numbers)}")
        assert await table.get(b"a") is None
        await table.put(b"a", b"1")
        assert await table.get(b"a") == b"1"
        assert await table.add(b"n", 3) == 3
        assert await table.get_int(b"n") == 3
        with pytest.raises(mako.Exists):
            await table.insert(b"a", b"")
        assert await table.get_many([b"x", b"a"]) == [None, b"1"]
        assert await table.delete(b"a")
        long = bytes(200_000)
        await table.put(b"long", long)
        assert await table.get(b"long") == long
        assert [key for key, _ in await table.scan()] == [b"long", b"n"]
        assert [key for key, _ in await table.scan(reverse=True, limit=1)] == [b"n"]
        typed = await db.table(p.COUNTER)
        greatest = (1 << 64) - 1
        await typed.put((greatest,), {"value": 1})
        assert await typed.scan((greatest,)) == [((greatest,), {"value": 1})]
        await typed.delete((greatest,))

    run(act)


def test_much_is_read_and_written_at_once(run: Callable[[Act], None]) -> None:
    """Who sends may be the task that receives for all others, and the server sends, too."""

    async def act(db: mako.AsyncDatabase) -> None:
        table = await db.table(f"much {next(_numbers)}")
        long = bytes(1_300_000)
        await table.put(b"long", long)
        done = []

        async def read() -> None:
            done.append(await table.get_many([b"long"] * 3) == [long] * 3)

        async def write(number: int) -> None:
            await table.put(b"%d" % (number % 6), long[: 200 << 10])
            done.append(True)

        before = db._lanes.first.core.connection
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(read)
                group.start_soon(write, number)
        assert done == [True] * 24
        assert db._lanes.first.core.connection == before, "it was not lost"

    run(act)


def test_procedures_and_submitted(run: Callable[[Act], None]) -> None:
    async def act(db: mako.AsyncDatabase) -> None:
        key = next(_numbers)
        assert await db.run(p.add, key, 2) == 2
        submitted = [await db.submit("add", key, 1) for _ in range(500)]
        assert sorted([await each.result() for each in submitted]) == list(range(3, 503))
        assert await submitted[0].wait_durable() == await submitted[0].result()
        assert await db.watermark() >= submitted[0].timestamp
        with pytest.raises(mako.Exists):
            await db.run(p.create, key)
        with pytest.raises(mako.Rejected):
            await db.run("nope")

    run(act)


def test_transactions_snapshots_and_batches(run: Callable[[Act], None]) -> None:
    async def act(db: mako.AsyncDatabase) -> None:
        table = await db.table(f"atx {next(_numbers)}")

        @mako.transactional
        async def bump(tx: Any) -> int:
            return int(await tx.add(b"n", 1, table=table))

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(bump, db)
        assert await table.get_int(b"n") == 10
        async with db.transaction() as tx:
            assert await bump(tx) == 11
            await tx.put(b"a", b"1", table=table)
        await db.wait_watermark(tx.commit_ts)
        async with db.snapshot() as snapshot:
            await table.put(b"a", b"2")
            assert await snapshot.get(b"a", table=table) == b"1"
            assert snapshot.staleness < PATIENCE
        with pytest.raises(mako.SchemaError, match="async def"):
            mako.transactional(lambda tx: None)(db)
        batch = mako.WriteBatch()
        batch.put(b"x", b"1", table=table)
        batch.put(b"default", b"1")
        assert await db.write(batch) > 0
        assert await table.get(b"x") == b"1"
        assert await db.get(b"default") == b"1"

    run(act)


def test_many_tasks_travel_together(run: Callable[[Act], None]) -> None:
    async def act(db: mako.AsyncDatabase) -> None:
        key = next(_numbers)
        results = []

        async def one() -> None:
            for _ in range(10):
                value = await db.run(p.add, key, 1)
                results.append(value)

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(one)
        assert sorted(results) == list(range(1, 1001))

    run(act)


def test_a_cancelled_driver_hands_over(run: Callable[[Act], None]) -> None:
    async def act(db: mako.AsyncDatabase) -> None:
        key, link = next(_numbers), db._lanes.first.link
        scope = anyio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await db.wait_watermark((1 << 63) - 1)

        async def cancel() -> None:
            while not link._waiters:
                await anyio.lowlevel.checkpoint()
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancelled)
            while not link._driving:
                await anyio.lowlevel.checkpoint()
            group.start_soon(cancel)  # While somebody sleeps who relies on it.
            for i in range(1, 200):
                assert await db.run(p.add, key, 1) == i
        assert scope.cancelled_caught

    run(act)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cut_connections(server: Loopback, backend: str) -> None:
    async def main() -> None:
        for cut in range(100, 420, 40):
            key = next(_numbers)
            with Proxy(server.port, down=[cut]) as proxy:
                async with await mako.aconnect(proxy.address, once=True) as db:
                    for i in range(1, 4):
                        assert await db.run(p.add, key, 1) == i

    anyio.run(main, backend=backend)


def test_nobody_there(clock: Clock) -> None:
    async def main() -> None:
        with pytest.raises(mako.ConnectionLost):
            await mako.aconnect("127.0.0.1:1")

    with clock.jumps_after("lost"):
        anyio.run(main)
