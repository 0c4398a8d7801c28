"""How long an answer to one request may be, and clients that ask for more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import anyio
import pytest

import mako
from mako.engine.engine import Engine
from mako.ids import KEY_BYTES_MAX, VALUE_BYTES_MAX, Status
from mako.server.asking import Asking
from mako.server.backend import LoneBackend
from mako.server.sessions import SCAN_BYTES_MAX, Refused
from mako.server.workers import Crew
from mako.wire.requests import LATEST, Operation
from tests.server.loopback import Loopback
from tests.server.processes import PATIENCE

MIB: Final = 1 << 20


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
        # When this is durable, so is all of that: until then a snapshot may be older.
        with mako.connect(made.address, timeout=PATIENCE) as db:
            db.put(b"filled", b"")
        yield made


def test_a_client_gets_more_than_has_room_in_an_answer(server: Loopback) -> None:
    with mako.connect(server.address, timeout=PATIENCE) as db:
        with db.snapshot() as snapshot:
            assert sizes_of(snapshot.get_many(KEYS)) == SIZES
        with db.transaction() as tx:
            assert sizes_of(tx.get_many(KEYS)) == SIZES
        assert sizes_of(db.get_many(KEYS[2:4])) == SIZES[2:4]
        with pytest.raises(mako.ValueTooLarge, match="in a transaction or at a snapshot"):
            db.get_many(KEYS)
        assert db.get(KEYS[3]) == bytes(SIZES[3]), "the connection is still there"
        assert db._lanes.first.core.connection == 1


def test_a_task_gets_more_than_has_room_in_an_answer(server: Loopback) -> None:
    async def main() -> None:
        async with await mako.aconnect(server.address, timeout=PATIENCE) as db:
            async with db.snapshot() as snapshot:
                assert sizes_of(await snapshot.get_many(KEYS)) == SIZES
            tx = await db.begin()
            assert sizes_of(await tx.get_many(KEYS)) == SIZES
            await tx.abort()

    anyio.run(main)


def test_many_that_ask_for_much_over_one_connection_are_all_answered(server: Loopback) -> None:
    """They were cut when their answers had more than 8 MiB together."""
    with mako.connect(server.address, timeout=PATIENCE) as db:
        core = db._lanes.first.core
        asked = [(0, Operation.GET, (LATEST, db._find("default").number, [KEYS[3]]))] * 20
        assert [sizes_of(call.value) for call in db._ask_each(asked)] == [[SIZES[3]]] * 20
        assert core.connection == 1
