"""What of the answers to requests may wait, and where their size has a limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import anyio
import pytest

import mako
from mako.engine.engine import Engine
from mako.ids import KEY_BYTES_MAX, VALUE_BYTES_MAX, Status
from mako.server.asking import GET_BYTES_MAX, Asking
from mako.server.backend import LoneBackend
from mako.server.clients import ANSWERS_MAX, PENDING_MAX, ClientConnection
from mako.server.sessions import SCAN_BYTES_MAX, Refused
from mako.server.workers import Crew
from mako.wire.hello import PROCESS_NONE, Hello, Role, hello_parts
from mako.wire.requests import (
    LATEST,
    ClientKind,
    Operation,
    frame,
    pack_requests,
    unpack_replies,
)
from tests.server.loopback import Loopback
from tests.server.test_deposed import LOST, OK, TABLE, World

MIB: Final = 1 << 20
#: What one more answer may add to those that wait.
ONE_MORE: Final = GET_BYTES_MAX + (1 << 10)


@pytest.fixture
def asking() -> Iterator[Asking]:
    engine = Engine(96 * MIB, contexts=6)
    crew = Crew(engine, 5.0)
    backend = LoneBackend(crew, {}, workers=0)
    made = Asking(backend)
    yield made
    made.sessions.close_all()
    backend.close()
    crew.close()
    engine.close()


def table_with(asking: Asking, sizes: list[int]) -> tuple[int, list[bytes]]:
    """A table with values of these sizes, and their keys."""
    number = asking.do(Operation.OPEN_TABLE, ["big"], 0.0)[1][0]
    keys = [b"%d" % i for i in range(len(sizes))]
    for key, size in zip(keys, sizes, strict=True):
        asking.do(Operation.WRITE, [[["put", number, key, bytes(size)]], 0, 0, 0], 0.0)
    return number, keys


def sizes_of(values: list[bytes | None]) -> list[int]:
    return [len(value or b"") for value in values]


def test_a_get_answers_as_much_as_has_room_and_at_least_one_value(asking: Asking) -> None:
    number, keys = table_with(asking, [3 * MIB, 3 * MIB, VALUE_BYTES_MAX, 5, 7, VALUE_BYTES_MAX])
    begun = asking.do(Operation.BEGIN, [], 0.0)[1]
    asking._engine.settle()
    snapshot = asking.do(Operation.SNAPSHOT, [-1], 0.0)[1][0]
    for session in (begun, snapshot, LATEST):
        found, left = [], keys
        while left:
            _, values, _ = asking.do(Operation.GET, [session, number, left], 0.0)
            found.append(sizes_of(values))
            left = left[len(values) :]
        assert found == [[3 * MIB], [3 * MIB], [VALUE_BYTES_MAX], [5, 7], [VALUE_BYTES_MAX]]
        assert asking.do(Operation.GET, [session, number, []], 0.0)[1] == []


def test_what_is_read_together_has_room_or_is_refused(asking: Asking) -> None:
    number, keys = table_with(asking, [3 * MIB, MIB, 1])
    _, values, _ = asking.do(Operation.GET, [0, number, keys[:2]], 0.0)
    assert sizes_of(values) == [3 * MIB, MIB]
    with pytest.raises(Refused, match="4 MiB; read them in a transaction") as refused:
        asking.do(Operation.GET, [0, number, keys], 0.0)
    assert refused.value.status == Status.TOO_LONG
    assert asking._engine.sessions == 0


def test_a_page_of_a_scan_is_no_larger_for_its_keys(asking: Asking) -> None:
    number = asking.do(Operation.OPEN_TABLE, ["keys"], 0.0)[1][0]
    keys = [b"%04d" % i + bytes(KEY_BYTES_MAX - 4) for i in range(400)]
    for at in range(0, len(keys), 100):
        writes = [["put", number, key, b""] for key in keys[at : at + 100]]
        asking.do(Operation.WRITE, [writes, 0, 0, 0], 0.0)
    rows, more = asking.do(Operation.SCAN, [LATEST, number, b"", b"9", 512, 0], 0.0)[1]
    assert more
    assert sum(len(key) for key, _ in rows) <= SCAN_BYTES_MAX + KEY_BYTES_MAX
    assert [key for key, _ in rows] == keys[: len(rows)]


# --- A connection ---------------------------------------------------------------------------------


class Client:
    """A connection whose owner sends when the test says so."""

    def __init__(self, backend: LoneBackend) -> None:
        self.written: list[bytes] = []
        self.connection = ClientConnection(backend, self.written.append, 0.0, self.untaken)
        hello = Hello(0, Role.CLIENT, PROCESS_NONE, "test", 1, "test")
        self.connection.receive(b"".join(hello_parts(hello)), 0.0)
        self.written.clear()

    def untaken(self) -> int:
        return sum(map(len, self.written))

    def ask(self, *requests: list[Any]) -> None:
        self.connection.receive(frame(ClientKind.REQUEST, pack_requests(requests)), 0.0)

    def take(self) -> list[int]:
        """Take what was written: the ids that were answered without an error."""
        found = [reply for one in self.written for reply in unpack_replies(one[8:])]
        assert [reply.status for reply in found] == [0] * len(found)
        self.written.clear()
        self.connection.resume(0.0)
        return [reply.id for reply in found]


@pytest.mark.parametrize("in_one_frame", [True, False])
def test_requests_wait_while_the_client_takes_nothing(
    asking: Asking, *, in_one_frame: bool
) -> None:
    number, [key] = table_with(asking, [MIB // 3])
    client = Client(asking._backend)  # type: ignore[arg-type]
    requests = [[i, int(Operation.GET), LATEST, number, [key]] for i in range(1, 41)]
    for some in [requests] if in_one_frame else [[one] for one in requests]:
        client.ask(*some)
    assert client.untaken() <= ANSWERS_MAX + ONE_MORE
    assert not client.connection.blocked, "it may still ask"
    client.ask([50, int(Operation.PING)])
    seen = client.take()
    assert seen[-1] == 50, "who asks whether the server is there is told so"
    seen.remove(50)
    while client.connection.stuck or client.written:
        assert client.untaken() <= ANSWERS_MAX + ONE_MORE
        seen += client.take()
    assert seen == list(range(1, 41)), "in their order"
    client.connection.close()


def test_with_enough_that_waits_nothing_more_is_read(asking: Asking) -> None:
    number, [key] = table_with(asking, [2 * MIB])
    client = Client(asking._backend)  # type: ignore[arg-type]
    get = [int(Operation.GET), LATEST, number, [key, *[b"x" * 1000] * 30]]
    asked = 0
    while not client.connection.blocked:
        asked += 1
        client.ask([asked, *get])
        assert asked < 4 + PENDING_MAX // 30_000
    seen: list[int] = []
    while client.connection.stuck or client.written:
        seen += client.take()
    assert seen == list(range(1, asked + 1))
    assert client.connection._pending_bytes == 0
    client.connection.close()


def test_many_small_requests_with_large_answers_wait_too(asking: Asking) -> None:
    for i in range(200):
        asking.do(Operation.OPEN_TABLE, [f"a table with a rather long name {i}"], 0.0)
    client = Client(asking._backend)  # type: ignore[arg-type]
    client.ask(*([i, int(Operation.DESCRIBE)] for i in range(10_000)))
    assert client.untaken() <= ANSWERS_MAX + ONE_MORE
    client.connection.close()
    client.written.clear()
    client.connection.resume(0.0)
    assert client.written == [], "nobody is answered any more"


# --- The gate -------------------------------------------------------------------------------------


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.backend.close()
    made.crew.close()
    made.engine.close()


def test_answers_that_wait_for_the_gate_count_too(world: World) -> None:
    client = world.client()
    client.ask(1, Operation.WRITE, [["put", TABLE, b"big", bytes(900 << 10)]], 0, 0, 0)
    world.limit = world.engine.clock
    world.look()
    assert client.answers() == [(1, OK, None)]
    world.limit = 0
    for number in range(2, 20):
        client.ask(number, Operation.GET, 0, TABLE, [b"big"])
        assert client.connection._waiting.weight <= ANSWERS_MAX + ONE_MORE
    assert len(client.connection._pending) == 16
    client.ask(30, Operation.PING)
    assert client.answers() == [(30, OK, None)]
    answered = []
    for _ in range(18):
        world.limit = world.engine.clock
        world.look()
        answered += client.answers()
    assert answered == [(number, OK, None) for number in range(2, 20)]
    assert client.connection._waiting.weight == 0


@pytest.mark.parametrize("held", [False, True])
def test_what_is_discarded_makes_room(world: World, *, held: bool) -> None:
    client = world.client()
    client.ask(1, Operation.WRITE, [["put", TABLE, b"big", bytes(MIB)]], 0, 0, 0)
    client.ask(2, Operation.GET, 0, TABLE, [b"big"])
    client.ask(3, Operation.GET, 0, TABLE, [b"big"])
    world.depose()
    assert client.answers() == []
    if not held:
        world.connections.judge(0, Status.DISCARDED)
        assert client.answers() == [(1, LOST, None), (2, LOST, None)]
        world.look()
        assert client.answers() == [(3, int(Status.NOT_LEADER), None)]
    else:
        world.look()
        assert client.answers() == [], "what is held waits, and holds up"
        client.ask(4, Operation.CANCEL, 2)
        assert [answer[0] for answer in client.answers()] == [2, 4, 3]


# --- Clients --------------------------------------------------------------------------------------


SIZES: Final = [3 * MIB, 3 * MIB, 10, VALUE_BYTES_MAX - 10, 2 * MIB, 0]
KEYS: Final = [b"%d" % i for i in range(len(SIZES))]


@pytest.fixture(scope="module")
def server() -> Iterator[Loopback]:
    with Loopback(memory=160 * MIB) as made:

        def fill() -> None:  # No frame of a client has room for so much.
            asking = Asking(made.backend)
            number = asking.do(Operation.OPEN_TABLE, ["default"], 0.0)[1][0]
            for key, size in zip(KEYS, SIZES, strict=True):
                asking.do(Operation.WRITE, [[["put", number, key, bytes(size)]], 0, 0, 0], 0.0)

        made.call(fill)
        yield made


def test_a_client_gets_more_than_has_room_in_an_answer(server: Loopback) -> None:
    with mako.connect(server.address) as db:
        with db.snapshot() as snapshot:
            assert sizes_of(snapshot.get_many(KEYS)) == SIZES
        with db.transaction() as tx:
            assert sizes_of(tx.get_many(KEYS)) == SIZES
        assert sizes_of(db.get_many(KEYS[2:4])) == SIZES[2:4]
        with pytest.raises(mako.Rejected, match="in a transaction or at a snapshot"):
            db.get_many(KEYS)
        assert db.get(KEYS[3]) == bytes(SIZES[3]), "the connection is still there"
        assert db._lanes.first.core.connection == 1


def test_a_task_gets_more_than_has_room_in_an_answer(server: Loopback) -> None:
    async def main() -> None:
        async with await mako.aconnect(server.address) as db:
            async with db.snapshot() as snapshot:
                assert sizes_of(await snapshot.get_many(KEYS)) == SIZES
            tx = await db.begin()
            assert sizes_of(await tx.get_many(KEYS)) == SIZES
            await tx.abort()

    anyio.run(main)


def test_many_that_ask_for_much_over_one_connection_are_all_answered(server: Loopback) -> None:
    """They were cut when their answers had more than 8 MiB together."""
    with mako.connect(server.address) as db:
        core = db._lanes.first.core
        asked = [(0, Operation.GET, (LATEST, db._find("default").number, [KEYS[3]]))] * 20
        assert [sizes_of(call.value) for call in db._ask_each(asked)] == [[SIZES[3]]] * 20
        assert core.connection == 1
