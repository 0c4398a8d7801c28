"""A log that was recorded gives the same bytes again, whoever wrote and wherever it is cut."""

import io
import random
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

import mako
from mako.client import Database
from mako.engine.engine import Engine
from tests.engine.log_reference import Entry, Transaction, decode_log, encode
from tests.engine.log_workload import EDGE, ITEM, KEYS, START, WORKLOAD
from tests.engine.replaying import cut, dump_of, follower, state_at
from tests.engine.running import together, until

SMALL_RING: Final = 1 << 16
#: Transactions a second: what is logged while nobody looks is decoded one by one afterwards.
RATE: Final = 200_000


@pytest.fixture
def db() -> Any:
    with mako.open(memory="64MiB", sessions=10) as made:
        yield made


def dumped(db: Database) -> tuple[bytes, str]:
    file = io.BytesIO()
    with db.snapshot() as snapshot:
        state_hash = snapshot.dump(file)
        assert snapshot.state_hash() == state_hash
    return file.getvalue(), state_hash


def replayed(file: io.BytesIO) -> tuple[bytes, str]:
    file.seek(0)
    with mako.replay(file, memory="64MiB", sessions=4) as other:
        return dumped(other)


def change(db: Database, draw: random.Random, count: int, *, stop: Any = None) -> None:
    """Transactions from Python: a few keys of all three kinds each, some of them deletes."""
    strings = db.table("strings")
    for number in range(count):
        if stop is not None and stop.is_set():
            return

        def attempt(number: int = number) -> None:
            with db.transaction() as tx:
                for _ in range(draw.randint(1, 4)):
                    key = draw.randrange(KEYS)
                    table: Any
                    table, name, value = draw.choice(
                        [
                            (ITEM, (key,), {"version": -number, "text": b"by hand"}),
                            (EDGE, ((1 << 63) + key, 1), {"version": number}),
                            (strings, b"s" * (key % 40), draw.randbytes(key)),
                        ]
                    )
                    if draw.random() < 0.3:
                        tx.delete(name, table=table)
                    else:
                        tx.put(name, value, table=table)

        for _ in range(1000):
            try:
                attempt()
            except mako.Conflict:
                continue
            break


def transactions_of(data: bytes) -> list[Transaction]:
    return [made for entry in decode_log(data) for made in entry.transactions]


def check_format(data: bytes) -> None:
    """What docs/log-format.md says of a log beyond its entries."""
    closed = 0
    described: set[int] = set()
    for entry in decode_log(data):
        assert entry.closed >= closed
        assert entry.stable <= entry.closed
        for made in entry.transactions:
            assert made.timestamp > closed
            assert {write.table for write in made.writes} <= described
        described |= {table.table for table in entry.tables}
        closed = entry.closed


# --- The same bytes ------------------------------------------------------------------------------


def test_a_log_of_workers_and_sessions_gives_the_same_bytes(db: Database, seed: int) -> None:
    file = io.BytesIO()
    ended = threading.Event()
    with db.record_log(file) as log:
        db.create(ITEM, EDGE)
        change(db, random.Random(seed), 50)
        states = [START, START]
        drive = db.drive(WORKLOAD, workers=2, states=states, seed=seed % 1000, rate=RATE)

        def wait() -> None:
            try:
                until(lambda: drive.sample().kinds[0].committed > 20_000)
            finally:
                ended.set()

        together(
            wait,
            lambda: change(db, random.Random(seed + 1), 100_000, stop=ended),
            lambda: change(db, random.Random(seed + 2), 100_000, stop=ended),
        )
        drive.stop()
        change(db, random.Random(seed + 3), 50)
    data = file.getvalue()
    assert log.bytes == len(data)
    made = transactions_of(data)
    # A third of the transactions of the workers find nothing to change.
    assert log.transactions == len(made) > 5_000
    check_format(data)
    dump, state_hash = dumped(db)
    assert dump == dump_of(state_at(made, 1 << 62))
    assert replayed(file) == (dump, state_hash)


def test_the_same_log_cut_elsewhere_and_out_of_order_gives_the_same_bytes(
    db: Database, seed: int
) -> None:
    draw = random.Random(seed)
    file = io.BytesIO()
    with db.record_log(file):
        db.create(ITEM, EDGE)
        change(db, draw, 200)
    dump, _ = dumped(db)
    data = file.getvalue()
    tables = tuple(table for entry in decode_log(data) for table in entry.tables)
    made = transactions_of(data)
    for _ in range(5):
        draw.shuffle(made)
        again = [Entry(tables=tables), *cut(draw, made)]
        assert replayed(io.BytesIO(b"".join(map(encode, again))))[0] == dump


def test_replaying_twice_changes_nothing(db: Database, seed: int) -> None:
    file = io.BytesIO()
    with db.record_log(file):
        db.create(ITEM, EDGE)
        change(db, random.Random(seed), 100)
    data = file.getvalue()
    assert replayed(io.BytesIO(data + data)) == replayed(file) == dumped(db)


def test_a_log_can_be_recorded_again_while_it_is_continued(db: Database, tmp_path: Path) -> None:
    first = tmp_path / "log"
    with db.record_log(first):
        db[b"k"] = b"1"
    with mako.replay(first, memory="16MiB") as other:
        other[b"k"] = b"2"
        assert other[b"k"] == b"2"
        assert db[b"k"] == b"1"


# --- Recording -----------------------------------------------------------------------------------


def test_a_database_with_rows_is_not_recorded(db: Database, tmp_path: Path) -> None:
    db[b"k"] = b"v"
    with pytest.raises(mako.ConfigError, match="rows already"):
        db.record_log(tmp_path / "log")
    assert not db._engine.logging
    del db[b"k"]
    with db.record_log(tmp_path / "log") as log:
        db[b"k"] = b"v"
    assert log.transactions == 1


def test_a_log_is_recorded_once_at_a_time(db: Database) -> None:
    with db.record_log(io.BytesIO()), pytest.raises(mako.ConfigError, match="already"):
        db.record_log(io.BytesIO())
    db.record_log(io.BytesIO()).close()


def test_recording_begins_before_workers(db: Database) -> None:
    db.create(ITEM, EDGE)
    with (
        db.drive(WORKLOAD, workers=1, states=[START]),
        pytest.raises(mako.ConfigError, match="before"),
    ):
        db.record_log(io.BytesIO())


def test_what_was_committed_before_the_end_is_in_the_log(db: Database) -> None:
    for count in (0, 1, 7):
        with mako.open(memory="16MiB", sessions=4) as made:
            file = io.BytesIO()
            log = made.record_log(file)
            for number in range(count):
                made[b"%d" % number] = b"v"
            log.close()
            made[b"after"] = b"v"
            log.close()
            assert log.transactions == count == len(transactions_of(file.getvalue()))
            assert log.closed > 0
            assert list(decode_log(file.getvalue()))[-1].closed == log.closed


def test_closing_the_database_ends_the_recording() -> None:
    db = mako.open(memory="16MiB", sessions=4)
    file = io.BytesIO()
    log = db.record_log(file)
    db[b"k"] = b"v"
    db.close()
    assert log.transactions == 1
    log.close()
    assert replayed(file)[0].endswith(b"k\x01\0\0\0v")


class Gate(io.BytesIO):
    """A file that takes nothing while its gate is closed, and may break."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def write(self, data: Any) -> int:
        self.gate.wait(60)
        if self.broken:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_slow_file_holds_up_the_workers_and_loses_nothing(seed: int) -> None:
    engine = Engine(32 << 20, contexts=6, ring_bytes=SMALL_RING)
    db = Database(engine)
    file = Gate()
    with db.record_log(file) as log:
        db.create(ITEM, EDGE)
        until(lambda: log.entries >= 1)
        file.gate.clear()
        states = [START, START]
        drive = db.drive(WORKLOAD, workers=2, states=states, seed=seed % 1000, rate=RATE)
        stuck = list[int]()

        def waiting() -> bool:
            stuck.append(drive.sample().kinds[0].committed)
            return len(stuck) > 20 and stuck[-1] == stuck[-10] > 0

        until(waiting)
        # What fits into both rings and into one entry, and not more.
        assert drive.sample().log_bytes <= 4 * SMALL_RING
        file.gate.set()
        until(lambda: drive.sample().kinds[0].committed > stuck[-1] + 5000)
        drive.stop()
    check_format(file.getvalue())
    assert replayed(file) == dumped(db)
    db.close()


def test_a_file_that_breaks_is_told_and_nothing_is_committed_past_the_rings() -> None:
    db = Database(Engine(32 << 20, contexts=4, ring_bytes=SMALL_RING))
    file = Gate()
    log = db.record_log(file)
    file.broken = True
    done = list[int]()

    def fill() -> None:
        for number in range(1000):
            db[b"k"] = b"v" * 1000
            done.append(number)

    with pytest.raises(OSError, match="No space"):
        fill()
    assert len(done) < 200
    with pytest.raises(OSError, match="No space"):
        log.close()
    db[b"k"] = b"after"
    assert db[b"k"] == b"after"
    db.close()


def test_entries_are_cut_where_the_buffer_is_full(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    from mako.engine import recorder

    monkeypatch.setattr(recorder, "BODY_BYTES", 1 << 16)
    db = Database(Engine(32 << 20, contexts=6, ring_bytes=1 << 18))
    file = Gate()
    with db.record_log(file) as log:
        db.table("strings")
        until(lambda: log.entries >= 1)
        file.gate.clear()
        draw = random.Random(seed)
        for number in range(60):
            db.table("strings").put(b"%d" % number, draw.randbytes(3000))
        file.gate.set()
    entries = list(decode_log(file.getvalue()))
    closed = [entry.closed for entry in entries]
    # One turn wrote several entries, and only the last of them is closed further.
    assert sum(1 for one, two in pairwise(closed) if one == two) >= 1
    assert all(len(entry.transactions) * 3000 < 1 << 16 for entry in entries)
    check_format(file.getvalue())
    assert replayed(file) == dumped(db)
    db.close()


def test_no_folder_no_recording(db: Database, tmp_path: Path) -> None:
    with pytest.raises(mako.FileError):
        db.record_log(tmp_path / "missing" / "log")
    assert not db._engine.logging
    with db.record_log(tmp_path / "log"):
        pass


def test_the_follower_of_these_tests_is_empty() -> None:
    engine, replayer = follower()
    assert dumped(Database(engine))[0] == b""
    replayer.end()
    engine.close()
