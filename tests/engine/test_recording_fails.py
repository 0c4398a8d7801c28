"""A log that cannot be written, or not in time: who waits for it is told, or tries again."""

import errno
import io
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, cast

import pytest

import mako
from mako.client.database import Database
from mako.client.log import Recording
from mako.engine import layout
from mako.engine.engine import Engine
from mako.engine.interactive import session_abort
from mako.ids import Outcome
from tests.engine.running import DEADLINE_S, until

RING_BYTES: Final = 1 << 16
ROW: Final = mako.Table("row", id=1, key={"number": 32}, row={"value": "i8", "text": "S2000"})
STATE: Final = mako.Row({"number": "i8"}, name="state")


class FullDisk(io.RawIOBase):
    """Takes so many bytes and not one more."""

    def __init__(self, room: int) -> None:
        self._room = room

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)


@mako.procedure
def add(tx: Any, number: int) -> Any:
    row = tx.put(ROW, (number,))
    row.value += 1
    return row.value


@mako.procedure
def increment(tx: Any, number: int) -> Any:
    row = tx.write(ROW, (number,))
    row.value += 1
    return row.value


@mako.function
def draw(random: Any, state: Any) -> int:
    state.number += 1
    return 0


@mako.function
def execute(tx: Any, state: Any) -> None:
    tx.put(ROW, (state.number % 4,)).value = state.number


WORKLOAD: Final = mako.Workload(
    "putting", kinds=("put",), state=STATE, generate=draw, execute=execute
)


@pytest.fixture
def db() -> Iterator[Database]:
    made = Database(Engine(32 << 20, contexts=6, ring_bytes=RING_BYTES))
    made.create(ROW)
    yield made
    made.close()


def pinned(engine: Engine) -> list[int]:
    contexts = [engine.context(i) for i in range(engine.context_count)]
    return [at for at in contexts if engine.word(at + layout.C_ACTIVE) != layout.NONE]


def recording_that_failed(db: Database) -> Recording:
    recording = db.record_log(cast("BinaryIO", FullDisk(10_000)))
    for _ in range(10):
        db.run(add, 1)
    engine = db._engine
    failed = engine.base + layout.RECORDING
    until(lambda: engine.word(failed) == layout.RECORDING_FAILED)
    return recording


@pytest.mark.interpreted
def test_who_meets_a_full_log_is_told_why_it_is_not_written(db: Database) -> None:
    engine = db._engine
    recording = recording_that_failed(db)

    def fill() -> None:
        for _ in range(6 * RING_BYTES // 2000):
            db.run(add, 1)

    with pytest.raises(OSError, match="No space left"):
        fill()
    used = db.memory_bytes
    for _ in range(50):
        with pytest.raises(OSError, match="No space left"):
            db.run(add, 2)
        tx = db.begin()
        tx.put((3,), {"value": 1, "text": b""}, table=ROW)
        with pytest.raises(OSError, match="No space left"):
            tx.commit()
        with pytest.raises(mako.Closed):
            tx.commit()
    assert pinned(engine) == []
    assert db.memory_bytes == used
    with db.snapshot() as snapshot:
        assert [key for key, _ in snapshot.table(ROW).scan()] == [(1,)]
    with pytest.raises(OSError, match="No space left"):
        recording.close()
    assert not engine.logging
    assert db.run(add, 2) == 1


def test_requests_end_though_the_log_is_not_written(db: Database) -> None:
    recording = recording_that_failed(db)
    submitted = [db.submit(add, number % 4) for number in range(100)]
    failed = 0
    for each in submitted:
        try:
            each.result(DEADLINE_S)
        except mako.Error:
            failed += 1
    assert failed > 50
    until(lambda: pinned(db._engine) == [])
    db.stop_workers()
    with pytest.raises(OSError, match="No space left"):
        recording.close()
    assert db.run(add, 5) == 1


def test_a_drive_stops_if_the_log_is_not_written(db: Database) -> None:
    recording = recording_that_failed(db)
    with db.drive(WORKLOAD, workers=2, states=[{"number": 0}, {"number": 1}]) as drive:
        until(lambda: drive.sample().stopped)
    assert "log" in drive.sample().stopped
    assert pinned(db._engine) == []
    with pytest.raises(OSError, match="No space left"):
        recording.close()
    assert db.run(add, 5) == 1


@pytest.mark.interpreted
def test_a_conflict_after_waiting_for_the_log_is_retried(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = db._engine
    db.run(add, 1)
    wait = engine.commit_with_room
    waits: list[Outcome] = []

    def interrupted(context: int) -> int:
        """Somebody else comes first, the first two times."""
        waits.append(Outcome.CHANGED if len(waits) < 2 else Outcome.COMMITTED)
        if waits[-1] is Outcome.CHANGED:
            return int(session_abort(context, int(Outcome.CHANGED)))
        return wait(context)

    monkeypatch.setattr(engine, "commit_with_room", interrupted)
    engine.logging = True
    value = 1
    while not waits:
        value += 1
        assert db.run(increment, 1) == value
    assert waits == [Outcome.CHANGED, Outcome.CHANGED, Outcome.COMMITTED]
    assert db.run(increment, 1) == value + 1
    engine.logging = False


@pytest.mark.parametrize("first", ["workers", "recording"])
def test_nothing_is_logged_once_workers_and_recording_have_ended(db: Database, first: str) -> None:
    engine = db._engine
    file = io.BytesIO()
    recording = db.record_log(file)
    workers = db.start_workers(1)
    assert db.submit(add, 1).result() == 1
    ends = [workers.stop, recording.close]
    for end in ends if first == "workers" else ends[::-1]:
        assert engine.logging
        end()
    assert not engine.logging
    assert not engine.kept
    logged = engine.log_totals
    assert db.run(add, 1) == 1
    assert engine.log_totals == logged
    assert recording.transactions == 1
