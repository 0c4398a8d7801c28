"""A snapshot of two servers, each of one partition: one moment, while others write to both."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

import mako
from mako.client.remote.async_database import AsyncDatabase
from mako.ids import MILLISECOND_SHIFT
from mako.server.moving import check_move
from mako.wire.requests import Operation
from tests.client.remote.conftest import Clock
from tests.client.remote.test_partitions import keys_of
from tests.engine.running import until
from tests.server.divided import Divided
from tests.server.processes import PATIENCE

pytestmark = pytest.mark.usefixtures("patient")

TABLE = "moments"
HERE, THERE = keys_of(0, 1)[0], keys_of(1, 1)[0]
#: Where a server calls it.
_CHECK_MOVE = "mako.server.asking.check_move"


@pytest.fixture(scope="module")
def divided() -> Iterator[Divided]:
    with Divided() as made:
        for server in made.servers:
            # An answer waits until its millisecond is over, so what comes later has a later
            # timestamp wherever it is.
            server.backend._offset_ms = 1
        yield made


@pytest.fixture
def db(divided: Divided) -> Iterator[mako.RemoteDatabase]:
    with mako.connect(divided.address) as made:
        table = made.table(TABLE)
        table.put(HERE, b"0")
        table.put(THERE, b"0")
        yield made


@pytest.mark.parametrize("whole", [True, False])
def test_what_changes_between_the_openings_is_seen_whole(
    divided: Divided, db: mako.RemoteDatabase, monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    """Both change when partition 0 has a snapshot already, and partition 1 has none."""
    asking = db._lanes.of(1).asking
    request, engine = asking.request, divided.servers[0].engine
    opened: list[int] = []

    def ask(operation: Operation, *arguments: Any, **options: Any) -> Any:
        if operation is Operation.SNAPSHOT:
            until(lambda: engine.sessions == 1)
            with mako.connect(divided.address) as other:
                for key in (HERE, THERE):
                    other.table(TABLE).put(key, b"1")
            opened.append(engine.stable)
        return request(operation, *arguments, **options)

    monkeypatch.setattr(asking, "request", ask)
    if whole:
        with db.snapshot() as snapshot:
            assert snapshot.timestamp >= opened[0]
            assert snapshot.table(TABLE).get_many([HERE, THERE]) == [b"1", b"1"]
            assert [value for _, value in snapshot.table(TABLE).scan()] == [b"1", b"1"]
    else:
        assert [value for _, value in db.table(TABLE).scan()] == [b"1", b"1"]
    assert len(opened) == 1


@contextmanager
def writing(divided: Divided) -> Iterator[None]:
    """Somebody counts in both partitions, first here and then there."""
    stop = threading.Event()

    def write() -> None:
        with mako.connect(divided.address) as other:
            table, number = other.table(TABLE), 0
            while not stop.is_set():
                number += 1
                for key in (HERE, THERE):
                    table.put(key, b"%d" % number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_no_snapshot_is_ahead_there(divided: Divided, db: mako.RemoteDatabase) -> None:
    last = 0
    seen: set[int] = set()
    with writing(divided):
        while len(seen) < 20:
            with db.snapshot(max_staleness=PATIENCE) as snapshot:
                assert snapshot.timestamp >= last, "nor behind one before"
                last = snapshot.timestamp
                table = snapshot.table(TABLE)
                late = int(table.get(THERE))
                assert int(table.get(HERE)) - late in (0, 1)
                seen.add(late)


def test_no_snapshot_of_a_task_is_ahead_there(divided: Divided, db: mako.RemoteDatabase) -> None:
    async def main() -> None:
        async with await mako.aconnect(divided.address) as tasks:
            await look(tasks)

    async def look(tasks: AsyncDatabase) -> None:
        seen: set[int] = set()
        while len(seen) < 20:
            async with tasks.snapshot(max_staleness=PATIENCE) as snapshot:
                late = int(await snapshot.get(THERE, table=TABLE))
                assert int(await snapshot.get(HERE, table=TABLE)) - late in (0, 1)
                assert snapshot.timestamp > 0
                seen.add(late)
            rows = dict(await (await tasks.table(TABLE)).scan())
            assert int(rows[HERE]) - int(rows[THERE]) in (0, 1)

    with writing(divided):
        anyio.run(main, backend="asyncio")


def test_a_partition_that_does_not_come_to_the_moment_is_named(
    divided: Divided, db: mako.RemoteDatabase, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    del db
    one = divided.servers[0]

    def check_late(*given: Any) -> Any:
        move = check_move(*given)
        clock.jump()  # It has been asked for, and from now on it is waited for in vain.
        return move

    def stand_still() -> None:
        """The clock of a partition where nobody works does, unless it leads; and the other one's
        is ahead from the next millisecond on."""
        monkeypatch.setattr(one.backend, "leads", False)
        until(lambda: time.time_ns() // 1_000_000 > one.engine.clock >> MILLISECOND_SHIFT)

    monkeypatch.setattr(_CHECK_MOVE, check_late)

    async def main() -> None:
        async with await mako.aconnect(divided.address) as tasks:
            await tasks.get_many([HERE, THERE])
            stand_still()
            async with tasks.snapshot():
                raise AssertionError("it is never there")

    with mako.connect(divided.address) as made:
        made.get_many([HERE, THERE])
        stand_still()
        with pytest.raises(TimeoutError, match=r"^partition 0 has not come to the moment of the"):
            made.snapshot()
        monkeypatch.setattr(_CHECK_MOVE, check_move)
        monkeypatch.setattr(one.backend, "leads", True)
        with made.snapshot() as snapshot:
            assert len(snapshot.get_many([HERE, THERE], table=TABLE)) == 2
    monkeypatch.setattr(_CHECK_MOVE, check_late)
    with pytest.raises(TimeoutError, match=r"^partition 0 has not come to the moment of the"):
        anyio.run(main, backend="asyncio")
    for server in divided.servers:
        until(lambda server=server: server.engine.sessions == 0)  # type: ignore[misc]


# --- Of some partitions ---------------------------------------------------------------------------


def test_a_snapshot_may_be_of_some_partitions(db: mako.RemoteDatabase) -> None:
    """It says of which, and reads no others."""
    with db.snapshot(partitions=[1]) as snapshot:
        assert snapshot.table(TABLE).get(THERE) == b"0"
        with pytest.raises(mako.SchemaError, match="not of partition 0; name it in `partitions`"):
            snapshot.table(TABLE).get(HERE)
        with pytest.raises(mako.SchemaError, match="not of partition 0"):
            list(snapshot.table(TABLE).scan())
        with pytest.raises(mako.SchemaError, match="not of partition 0"):
            snapshot.state_hash(partition=0)
        assert snapshot.state_hash(partition=1)
    with db.snapshot(partitions=(1, 0, 1)) as snapshot:
        assert snapshot.table(TABLE).get_many([HERE, THERE]) == [b"0", b"0"]


@pytest.mark.parametrize(
    ("partitions", "why"), [([2], "no partition 2"), (["0"], "no partition '0'"), ([], "name one")]
)
def test_partitions_that_are_none_are_refused(
    db: mako.RemoteDatabase, partitions: list[Any], why: str
) -> None:
    with pytest.raises(mako.SchemaError, match=why):
        db.snapshot(partitions=partitions)


def test_a_task_has_one_of_some_partitions(divided: Divided, db: mako.RemoteDatabase) -> None:
    async def main() -> None:
        tasks = await mako.aconnect(divided.address)
        async with tasks, tasks.snapshot(partitions=[0]) as snapshot:
            assert await snapshot.get(HERE, table=TABLE) == b"0"
            with pytest.raises(mako.SchemaError, match="not of partition 1"):
                await snapshot.get(THERE, table=TABLE)

    del db
    anyio.run(main, backend="asyncio")
