"""Connections that are cut anywhere, servers that send on, leaders that lose their lead."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from itertools import count
from typing import Any

import anyio
import pytest

import mako
from mako.client.remote import async_link, link
from mako.client.remote.core import Core
from mako.ids import MILLISECOND_SHIFT, Status
from mako.wire.requests import Operation
from tests.client.remote.conftest import Clock
from tests.client.remote.proxy import Proxy
from tests.engine.running import until
from tests.server import procedures as p
from tests.server.loopback import Loopback
from tests.server.processes import PATIENCE

pytestmark = pytest.mark.usefixtures("patient")

_numbers = count(500_000)


@pytest.mark.parametrize("way", ["up", "down"])
def test_cut_at_every_byte_what_is_run_once_is_run_once(server: Loopback, way: str) -> None:
    """The connection is cut after each number of bytes, and what is done is done once."""
    for cut in range(0, 520, 13):
        key = next(_numbers)
        limits: Any = {way: [cut, cut + 100]}
        with Proxy(server.port, **limits) as proxy, mako.connect(proxy.address, once=True) as db:
            for i in range(1, 4):
                assert db.run(p.add, key, 1) == i, f"cut at {cut}"
        with mako.connect(server.address) as db:
            assert db.run(p.value_of, key) == 3


@pytest.mark.parametrize("way", ["up", "down"])
def test_cut_at_every_byte_without_numbers_nothing_is_run_twice(server: Loopback, way: str) -> None:
    """Without a number a write that may have happened is Unknown, and never sent again."""
    for cut in range(0, 520, 13):
        key = next(_numbers)
        limits: Any = {way: [cut]}
        done, unknown = 0, 0
        with Proxy(server.port, **limits) as proxy, mako.connect(proxy.address) as db:
            for _ in range(3):
                try:
                    db.run(p.add, key, 1)
                    done += 1
                except mako.Unknown:
                    unknown += 1
        assert unknown <= 1
        with mako.connect(server.address) as db:
            value = db.table(p.COUNTER).get((key,))
        happened = 0 if value is None else value["value"]
        assert done <= happened <= done + unknown, f"cut at {cut}"


def test_a_transaction_that_loses_its_server(server: Loopback) -> None:
    with Proxy(server.port, up=[400]) as proxy, mako.connect(proxy.address) as db:
        table = db.table("lost")
        tx = db.begin()

        def put_many() -> None:
            for i in range(100):
                tx.put(f"{i}".encode(), b"v" * 50, table=table)

        with pytest.raises(mako.ConnectionLost) as error:
            put_many()
        assert error.value.retryable
        tx.abort()
        assert table.scan() == []


def test_a_transactional_function_survives_a_cut(server: Loopback) -> None:
    name = f"survives {next(_numbers)}"

    @mako.transactional
    def write(tx: Any, table: Any) -> None:
        for i in range(10):
            tx.put(f"{i}".encode(), b"v", table=table)

    with Proxy(server.port, up=[500]) as proxy, mako.connect(proxy.address) as db:
        table = db.table(name)
        write(db, table)
        assert len(table.scan()) == 10


class Elsewhere:
    """Makes a server's backend say that it does not lead."""

    def __init__(self, server: Loopback, leader: str) -> None:
        self.server = server
        self.leader = leader

    def __enter__(self) -> None:
        self.server.backend.leads = False
        self.server.backend.leader = self.leader

    def __exit__(self, *_: object) -> None:
        self.server.backend.leads = True
        self.server.backend.leader = ""


def test_a_client_is_sent_to_the_leader(clock: Clock) -> None:
    with Loopback(["tests.server.procedures"]) as one, Loopback(["tests.server.procedures"]) as two:
        with Elsewhere(one, two.address), mako.connect(one.address) as db:
            assert db.run(p.add, 1, 1) == 1
        with mako.connect(two.address) as db:
            assert db.run(p.value_of, 1) == 1
        with mako.connect(one.address) as db, pytest.raises(mako.NotFound):
            db.run(p.value_of, 1)
        with (
            Elsewhere(one, ""),
            clock.jumps_after("_not_here"),
            pytest.raises(mako.NotLeader),
        ):
            mako.connect(one.address)
        with Elsewhere(one, ""), mako.connect(one.address, replica=True) as db:
            with db.snapshot() as snapshot:
                assert list(snapshot.scan(table=p.COUNTER)) == []
            with pytest.raises((mako.NotLeader, TimeoutError)):
                db.wait_watermark(1 << 62, timeout=0.1)


def test_a_leader_that_is_deposed_sends_its_clients_on() -> None:
    with Loopback(["tests.server.procedures"]) as one, Loopback(["tests.server.procedures"]) as two:
        with mako.connect(f"{one.address},{two.address}") as db:
            assert db.run(p.add, 1, 1) == 1
            with Elsewhere(one, two.address):
                one.call(one.hub.connections.deposed)
                assert db.run(p.add, 1, 5) == 5  # At the other one, which began with nothing.
            one.call(lambda: one.backend.serving.start(1))
            db.close()
        with mako.connect(one.address) as db:
            assert db.run(p.value_of, 1) == 1


@pytest.mark.parametrize("told", [mako.Discarded, mako.Unknown, None])
def test_what_a_deposed_leader_had_not_made_durable(told: type[mako.Error] | None) -> None:
    """Nothing passes the gate: early results come, and end as whoever leads next decides."""
    with Loopback(["tests.server.procedures"]) as server, mako.connect(server.address) as db:
        db.run(p.add, 1, 1)
        mark = server.backend.serving.watermark
        server.backend.serving.limit = lambda: mark
        server.backend._time_limit = lambda: mark  # type: ignore[method-assign]
        early = [db.submit(p.add, 1, 1) for _ in range(10)]
        assert [each.result() for each in early] == list(range(2, 12))
        assert all(each.timestamp > mark for each in early)
        with pytest.raises(TimeoutError):
            early[-1].wait_durable(0.05)
        tx = db.begin()
        connections = server.hub.connections
        connections._judged_seconds = 3 * PATIENCE  # They are judged here, and not by time.
        with Elsewhere(server, ""):
            server.call(connections.deposed)
            with pytest.raises(TimeoutError):
                early[-1].wait_durable(0.05)
            if told is mako.Discarded:
                server.call(lambda: connections.judge(mark, Status.DISCARDED))
            elif told is mako.Unknown:
                server.call(connections.give_up)
            else:
                server.call(lambda: connections.judge(early[-1].timestamp, Status.DISCARDED))
                mark = early[-1].timestamp
            for each in early:
                if told is None:
                    assert each.wait_durable(PATIENCE) == each.result()
                else:
                    with pytest.raises(told):
                        each.wait_durable(PATIENCE)
            server.call(lambda: server.backend.serving.start(1))
        with pytest.raises(mako.Error):
            tx.commit()


def test_results_wait_for_the_gate() -> None:
    """Not one answer is sent, whatever it is, before its timestamp is at or below the limit."""
    with (
        Loopback(["tests.server.procedures"], workers=2) as server,
        mako.connect(server.address) as db,
    ):
        db.run(p.add, 1, 1)
        table = db.table("gate")
        mark = server.backend.serving.watermark
        # What only reads is at the newest timestamp: at the mark, as long as that is the newest.
        until(lambda: time.time_ns() // 1_000_000 > mark >> MILLISECOND_SHIFT)
        server.call(server.engine.tick)
        assert server.engine.clock > mark
        server.backend.serving.limit = lambda: mark
        server.backend._time_limit = lambda: mark  # type: ignore[method-assign]
        asked: list[Any] = [
            lambda: db.run(p.add, 1, 1),
            lambda: db.run(p.value_of, 1),
            lambda: db.run(p.create, 1),
            lambda: table.put(b"k", b"v"),
            lambda: table.get(b"k"),
            lambda: table.get_many([b"k"]),
            lambda: db.write(mako.WriteBatch()),
        ]
        answered = threading.Semaphore(0)

        def ask(what: Any) -> None:
            with contextlib.suppress(mako.Exists):
                what()
            answered.release()

        threads = [threading.Thread(target=ask, args=(what,)) for what in asked]
        for thread in threads:
            thread.start()
        assert not answered.acquire(timeout=0.2)
        server.backend.serving.limit = lambda: (1 << 63) - 1
        server.backend._time_limit = lambda: (1 << 63) - 1  # type: ignore[method-assign]
        server.backend.serving.wake()
        for _ in threads:
            assert answered.acquire(timeout=PATIENCE)
        for thread in threads:
            thread.join()


def test_a_connection_that_ended_while_nobody_used_it_is_no_riddle(server: Loopback) -> None:
    with Proxy(server.port) as proxy, mako.connect(proxy.address) as db:
        db.put(b"idle", b"1")
        for end in proxy._open:
            with contextlib.suppress(OSError):  # The threads between them may be faster.
                end.shutdown(socket.SHUT_RDWR)
        connection = db._lanes.first.link._socket
        assert connection is not None
        assert select.select([connection], [], [], PATIENCE)[0], "the end has arrived"
        db.put(b"idle", b"2")  # It is not sent into the void, so nobody has to ask what became.
        assert db.get(b"idle") == b"2"


def go_silent(proxy: Proxy, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the proxy is silent, and for this connection some hundred milliseconds of that
    are enough; the next one may have to wait for a processor."""
    patience, left = core._silence_max, core.left

    def leave(now: float) -> None:
        core._silence_max = patience
        left(now)

    monkeypatch.setattr(core, "left", leave)
    monkeypatch.setattr(core, "_silence_max", 0.4)
    monkeypatch.setattr(link, "SLEEP_MAX", 0.1)
    monkeypatch.setattr(async_link, "SLEEP_MAX", 0.1)
    proxy.go_silent()


def test_a_server_that_goes_silent_is_left_for_another(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Proxy(server.port) as proxy,
        mako.connect(f"{proxy.address},{server.address}") as db,
    ):
        db.put(b"silent", b"1")
        go_silent(proxy, db._lanes.first.core, monkeypatch)
        assert db.get(b"silent") == b"1"
        assert proxy.connections == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_leave_a_server_that_goes_silent_for_another(
    server: Loopback, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(proxy: Proxy) -> None:
        async with await mako.aconnect(f"{proxy.address},{server.address}") as db:
            await db.put(b"silent", b"2")
            go_silent(proxy, db._lanes.first.core, monkeypatch)
            assert await db.get(b"silent") == b"2"

    with Proxy(server.port) as proxy:
        anyio.run(main, proxy, backend=backend)
        assert proxy.connections == 1


def test_a_transaction_is_of_the_connection_that_began_it(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time its number is noted another thread may have lost that connection and made the
    next one, where the same number is somebody else's transaction."""
    with mako.connect(server.address) as db:
        ask, link = db._ask, db._lanes.first.link
        others = []

        def ask_and_lose(operation: Operation, *arguments: Any, **options: Any) -> Any:
            monkeypatch.undo()
            call = ask(operation, *arguments, **options)
            with link.lock:
                link._lose("cut")
            others.append(db.begin())
            return call

        monkeypatch.setattr(db, "_ask", ask_and_lose)
        tx = db.begin()
        with pytest.raises(mako.ConnectionLost):
            tx.put(b"whose", b"tx")
        others[0].put(b"whose", b"other")
        others[0].commit()
        assert db.get(b"whose") == b"other"


def test_a_transaction_of_a_task_is_of_the_connection_that_began_it(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with await mako.aconnect(server.address) as db:
            ask, link = db._ask, db._lanes.first.link
            others = []

            async def ask_and_lose(operation: Operation, *arguments: Any, **options: Any) -> Any:
                monkeypatch.undo()
                call = await ask(operation, *arguments, **options)
                await link._lose("cut")
                others.append(await db.begin())
                return call

            monkeypatch.setattr(db, "_ask", ask_and_lose)
            tx = await db.begin()
            with pytest.raises(mako.ConnectionLost):
                await tx.put(b"whose", b"tx")
            await others[0].put(b"whose", b"task")
            await others[0].commit()
            assert await db.get(b"whose") == b"task"

    anyio.run(main)
