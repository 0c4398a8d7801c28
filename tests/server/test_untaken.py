"""What a client does not take, as the hub has it: streams in steps, and no time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import pytest
import trio
import trio.testing

from mako.call_format import PUT
from mako.server import clients, hub
from mako.server.clients import ANSWERS_MAX, TURN_WORK
from mako.server.hub import AHEAD_BYTES_MAX, Hub
from mako.server.sessions import ServedTransaction
from mako.wire.frame import FrameReader
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from mako.wire.requests import (
    LATEST,
    ClientKind,
    Operation,
    Reply,
    frame,
    pack_batch,
    pack_key_call,
    pack_requests,
    unpack_replies,
)
from tests.server.test_deposed import TABLE, World
from tests.server.test_room import Client

MIB: Final = 1 << 20
Stream = trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream]


class Taker:
    """A client of a hub. What the server sends is not sent before it is taken."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hub = Hub(world.backend, world.connections)
        self._reader = FrameReader(16 << 20)
        to_server, from_client = trio.testing.memory_stream_one_way_pair()
        to_client, self._incoming = trio.testing.lockstep_stream_one_way_pair()
        self._outgoing = to_server
        self._stream: Stream = trio.StapledStream(to_client, from_client)

    async def serve(self) -> None:
        await self.hub.serve(self._stream)

    @property
    def served(self) -> hub._Served:
        (served,) = self.world.connections._served
        assert isinstance(served, hub._Served)
        return served

    async def send(self, data: bytes) -> None:
        await self._outgoing.send_all(data)
        await trio.testing.wait_all_tasks_blocked()

    async def ask(self, *requests: list[Any]) -> None:
        await self.send(frame(ClientKind.REQUEST, pack_requests(requests)))

    async def take(self, most: int = 16 << 20) -> list[Reply]:
        """Take some bytes; the replies that they end."""
        data = await self._incoming.receive_some(most)
        await trio.testing.wait_all_tasks_blocked()
        frames = self._reader.feed(data)
        replies = [body for kind, _, body in frames if kind == ClientKind.REPLY]
        return [each for body in replies for each in unpack_replies(bytes(body))]

    async def take_until(self, number: int) -> list[int]:
        """The ids of the replies up to this one."""
        seen: list[int] = []
        while number not in seen:
            seen += [reply.id for reply in await self.take()]
        return seen


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(hub, "OUTPUT_SECONDS_MAX", 600.0)  # It is taken when the test says so.
    made = World()
    # Time is a number there, and goes on by itself here.
    made.now = time.monotonic()
    yield made
    made.backend.close()
    made.crew.close()
    made.engine.close()


def run(world: World, play: Callable[[Taker], Awaitable[None]]) -> None:
    async def main() -> None:
        taker = Taker(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taker.serve)
            await taker.send(
                b"".join(hello_parts(Hello(0, Role.CLIENT, PROCESS_NONE, "test", 1, "t")))
            )
            await taker.take()
            await play(taker)
            nursery.cancel_scope.cancel()

    trio.run(main)


def put(world: World, key: bytes, size: int) -> None:
    from mako.server.asking import Asking

    writes = [["put", TABLE, key, bytes(size)]]
    Asking(world.backend).do(Operation.WRITE, [writes, 0, 0, 0], 0.0)


def get(number: int) -> list[Any]:
    return [number, int(Operation.GET), LATEST, TABLE, [b"key"]]


def test_what_is_pending_goes_on_when_the_client_has_taken_something(world: World) -> None:
    async def play(taker: Taker) -> None:
        await taker.ask(*(get(number) for number in range(1, 41)))
        assert taker.served._size <= ANSWERS_MAX + MIB
        assert taker.served.connection.pending > 30
        assert await taker.take_until(40) == list(range(1, 41))
        assert taker.served._size == 0
        assert taker.served._output == []

    put(world, b"key", MIB // 3)
    run(world, play)


def test_a_client_that_takes_pieces_is_not_cut(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has so long for each of them, not for all that there is; and each makes room."""
    sizes: list[int] = []

    async def play(taker: Taker) -> None:
        await taker.ask(get(1))
        before = taker.served._size
        while taker.served._size:
            assert not await taker.take(hub.PIECE_BYTES) or not taker.served._size
            sizes.append(taker.served._size)
        assert sizes == [max(before - hub.PIECE_BYTES * i, 0) for i in range(1, len(sizes) + 1)]

    put(world, b"key", 3 * MIB)
    run(world, play)
    assert len(sizes) == 13


def test_who_is_blocked_by_what_was_pending_is_not_received_from(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not blocked yet when it began to receive."""
    monkeypatch.setattr(clients, "WAITING_MAX", 1)

    async def play(taker: Taker) -> None:
        write = [2, int(Operation.WRITE), [["put", TABLE, b"k", b"v"]], 0, 0, 0]
        await taker.ask(get(1), write)
        assert taker.served.connection.pending == 1
        assert not taker.served.connection.blocked
        assert await taker.take_until(1) == [1]
        assert taker.served.connection.blocked
        await taker.ask([3, int(Operation.PING)])
        assert taker.served._size == 0
        world.limit = world.engine.clock
        world.look()
        assert await taker.take_until(3) == [2, 3]

    put(world, b"key", 2 * MIB)
    run(world, play)


def writes(first: int, count: int, size: int) -> list[list[Any]]:
    return [
        [number, int(Operation.WRITE), [["put", TABLE, b"%d" % number, bytes(size)]], 0, 0, 0]
        for number in range(first, first + count)
    ]


def test_a_client_may_send_though_it_takes_nothing(world: World) -> None:
    """One that sends in the task that would receive can do nothing else meanwhile."""
    world.limit = 1 << 62

    async def play(taker: Taker) -> None:
        await taker.ask(*(get(number) for number in range(1, 5)))
        for each in writes(5, 5, MIB):
            await taker.ask(each)
        connection = taker.served.connection
        assert connection.blocked
        before = connection._taken_at
        assert 3 * MIB < len(taker.served._ahead) < AHEAD_BYTES_MAX
        assert await taker.take_until(9) == list(range(1, 10))
        assert not taker.served._ahead
        assert connection._taken_at > before, "what is pending has waited since then"

    put(world, b"key", 2 * MIB)
    run(world, play)


def test_what_is_read_ahead_has_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.limit = 1 << 62
    monkeypatch.setattr(hub, "AHEAD_BYTES_MAX", MIB)

    async def play(taker: Taker) -> None:
        await taker.ask(get(1), get(2))
        for each in writes(3, 40, 100 << 10):
            await taker.ask(each)
        assert MIB <= len(taker.served._ahead) < MIB + hub.RECEIVE_BYTES
        assert await taker.take_until(42) == list(range(1, 43))

    put(world, b"key", 2 * MIB)
    run(world, play)


def test_behind_something_broken_nothing_is_done(world: World) -> None:
    async def play(taker: Taker) -> None:
        await taker.ask(get(1), get(2))
        call = frame(ClientKind.CALL, pack_batch(1, 0, [pack_key_call(PUT, TABLE, 7, 0, b"a")]))
        await taker.send(call + call + frame(63, b"broken"))
        for each in writes(10, 3, 10):
            await taker.ask(each)
        while len(world.connections):
            await taker.take()
        handle = world.engine.tables[TABLE]
        transaction = ServedTransaction(world.engine, 0.0)
        assert [transaction.get(handle, b"%d" % number) for number in (10, 11, 12)] == [None] * 3
        transaction.abort()

    put(world, b"key", 2 * MIB)
    run(world, play)


def test_what_takes_long_is_begun_though_nothing_comes(world: World) -> None:
    async def play(taker: Taker) -> None:
        await taker.ask([1, int(Operation.SNAPSHOT), -1])
        assert await taker.take_until(1) == [1]
        await taker.ask(get(2), [3, int(Operation.STATE_HASH), 1])
        assert await taker.take_until(3) == [2, 3]

    put(world, b"key", 2 * MIB)
    world.engine.settle()
    run(world, play)


def test_nothing_is_kept_for_who_is_cut(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls under way may still have a lot to say."""
    monkeypatch.setattr(hub, "OUTPUT_BYTES_MAX", 100_000)

    async def play(taker: Taker) -> None:
        served = taker.served
        for _ in range(4):
            served._write(bytes(30_000))
        served._write(b"little")
        assert served._output == []
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.connections) == 0

    run(world, play)


def test_nothing_is_kept_for_who_takes_nothing(world: World) -> None:
    """It is cut as its time is over, and has less to take than may be."""

    async def play(taker: Taker) -> None:
        taker.served.finish("")
        taker.served._write(bytes(30_000))
        assert taker.served._output == []

    run(world, play)


def test_a_job_of_who_ends_is_not_begun(world: World) -> None:
    """There may be nobody left to run it, and its session is given back all the same."""

    async def play(taker: Taker) -> None:
        await taker.ask([1, int(Operation.SNAPSHOT), -1])
        await taker.take()
        served = taker.served
        served.finish("")
        hash_of = pack_requests([[2, int(Operation.STATE_HASH), 1]])
        served.connection.receive(frame(ClientKind.REQUEST, hash_of), time.monotonic())
        served.begin_jobs()
        assert served.connection.has_jobs
        await trio.testing.wait_all_tasks_blocked()
        assert world.engine.sessions == 0

    run(world, play)


def test_a_job_behind_which_something_broken_comes_gives_back_its_session(world: World) -> None:
    async def play(taker: Taker) -> None:
        await taker.ask([1, int(Operation.SNAPSHOT), -1])
        assert [reply.status for reply in await taker.take()] == [0]
        hash_of = frame(ClientKind.REQUEST, pack_requests([[2, int(Operation.STATE_HASH), 1]]))
        await taker.send(hash_of + frame(63, b""))
        await taker.take()
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.connections) == 0
        assert world.engine.sessions == 0

    run(world, play)


def test_pending_requests_of_who_ends_with_a_reason_are_dropped(world: World) -> None:
    async def play(taker: Taker) -> None:
        await taker.ask(get(1), get(2))
        connection = taker.served.connection
        taker.served.finish("the end")
        while len(world.connections):
            await taker.take()
        assert connection.pending == 0

    put(world, b"key", 2 * MIB)
    run(world, play)


def test_reads_that_waited_for_others_are_done_in_turns(world: World) -> None:
    client = Client(world)
    client.put(b"big", 2 * MIB)
    client.ask(client.get(1, 0, b"big"))
    for number in range(2, 5):
        client.ask(client.get(number, 0, *[b"key"] * TURN_WORK))
    world.limit = 1 << 62
    world.look()
    assert client.taken() == [(1, 0)]
    for left in (2, 1, 0):
        world.look()
        assert client.connection.pending == left
