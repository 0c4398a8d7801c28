"""The embedded database on disk: what was committed is there when it is opened again."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
import trio

import mako
from mako import Database
from mako.server import embedded
from mako.server.plan import IDLE_SECONDS
from mako.storage.memory_disk import MemoryDisk
from tests.client import procedures as p
from tests.client.on_disk import crashed, end_without_disk, opened
from tests.engine import test_backpressure as driven
from tests.engine.running import until
from tests.storage.failing import FailingDisk

#: Seconds for whatever takes as long as it takes on a busy machine.
PATIENCE: Final = 120.0
PAIR = mako.Table("pair", id=21, key={"a": 64, "b": 64}, row={"value": "u4"})
STRINGS = mako.BytesTable("strings", id=22)


def open_at(path: Path, **options: Any) -> Database:
    return mako.open(path, memory="32MiB", sessions=8, **options)


def test_a_new_folder_is_made_and_keeps_what_was_put(tmp_path: Path) -> None:
    path = tmp_path / "a" / "data"
    with open_at(path) as db:
        db.put(b"alice", b"100")
        db[b"bob"] = b"7"
        assert db.watermark > 0
    assert {each.name for each in path.iterdir()} == {"state.json", "wal", "snapshots"}
    with open_at(path) as db:
        assert list(db.items()) == [(b"alice", b"100"), (b"bob", b"7")]
        assert db.delete(b"bob")
    with open_at(path) as db:
        assert db.get(b"alice") == b"100"
        assert b"bob" not in db


def test_tables_of_all_kinds_come_back(tmp_path: Path) -> None:
    tables = (p.COUNTER, p.NOTE, PAIR, STRINGS)
    note = {"text": b"hello", "size": 3, "marks": [1, -2, 3, -4]}

    with open_at(tmp_path) as db:
        db.create(*tables)
        with db.transaction() as tx:
            tx.put((7,), {"value": -5}, table=p.COUNTER)
            tx.put((1, 2), note, table=p.NOTE)
            tx.put((1 << 40, 3), {"value": 9}, table=PAIR)
            tx.put(b"a" * 300, b"long" * 1000, table=STRINGS)
        rows = [list(db.table(table).items()) for table in tables]
        assert all(len(each) == 1 for each in rows)
        state = state_of(db)
    with open_at(tmp_path) as db:
        db.create(*tables)
        assert [list(db.table(table).items()) for table in tables] == rows
        assert state_of(db) == state


def state_of(db: Database) -> str:
    with db.snapshot() as snapshot:
        return snapshot.state_hash()


def test_typed_tables_need_their_description_again(tmp_path: Path) -> None:
    with open_at(tmp_path) as db:
        db.create(p.COUNTER)
        assert db.run(p.add, 1, 5) == 5
    other = mako.Table("counter", id=11, key={"id": 32}, row={"value": "i8", "more": "i8"})
    with open_at(tmp_path) as db:
        with pytest.raises(mako.SchemaError, match=r"call db\.create"):
            db.run(p.add, 1, 5)
        with pytest.raises(mako.SchemaError, match="choose another id and name"):
            db.create(other)
        db.create(p.COUNTER)
        assert db.run(p.add, 1, 5) == 10


def test_tables_named_later_keep_their_numbers() -> None:
    disk = MemoryDisk()
    db = opened(disk)
    for name in ("notes", "marks"):
        db.table(name).put(name.encode(), b"1")
    numbers = {name: db.table(name).handle.table.id for name in ("notes", "marks")}
    db = crashed(db, disk)
    db.table("later").put(b"later", b"2")
    db = crashed(db, disk)
    assert {name: db.table(name).handle.table.id for name in numbers} == numbers
    for name in ("notes", "marks", "later"):
        assert [key for key, _ in db.table(name).items()] == [name.encode()]
    db.close()


def test_a_table_that_was_created_survives_without_rows() -> None:
    disk = MemoryDisk()
    db = opened(disk)
    db.create(p.COUNTER)
    db = crashed(db, disk)
    assert db._engine.table_named("counter") is not None
    db.close()


WRITES: dict[str, Callable[[Database], object]] = {
    "put": lambda db: db.put(b"k", b"v"),
    "add": lambda db: db.add(b"n", 3),
    "run": lambda db: db.run(p.add, 1, 5),
    "submit": lambda db: db.submit(p.add, 1, 5).wait_durable(),
    "write": lambda db: db.write(_batch()),
    "delete": lambda db: db.delete(b"gone"),
    "delete range": lambda db: db.__delitem__(slice(b"gone", b"gonf")),
}


def _batch() -> mako.WriteBatch:
    batch = mako.WriteBatch()
    batch.put(b"batch", b"1")
    return batch


@pytest.mark.parametrize("name", WRITES)
def test_whatever_returned_survives_a_power_cut(name: str) -> None:
    disk = MemoryDisk()
    db = opened(disk)
    db.create(p.COUNTER)
    db.put(b"gone", b"")
    WRITES[name](db)
    # The cut comes first: a look at the database might bring something to the disk.
    disk.crash()
    expected = state_of(db)
    end_without_disk(db)
    again = opened(disk)
    assert state_of(again) == expected
    assert (b"gone" in again) == (not name.startswith("delete"))
    again.close()


READS: dict[str, Callable[[Database], object]] = {
    "get": lambda db: db.table(p.COUNTER).get((1,)),
    "run": lambda db: db.run(p.value_of, 1),
    "submit": lambda db: db.submit(p.value_of, 1).wait_durable(),
    "failing run": lambda db: _exists(lambda: db.run(p.insert, 1)),
    "failing submit": lambda db: _exists(db.submit(p.insert, 1).wait_durable),
}


def _exists(act: Callable[[], object]) -> None:
    with pytest.raises(mako.Exists):
        act()


def only_for_who_waits(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on only who waits has the rings looked into, so what is early stays early."""
    replica = db._replica
    assert replica is not None
    monkeypatch.setattr(replica, "works", lambda: False)
    # A turn that has asked before is over, too: this is done between two.
    trio.from_thread.run_sync(lambda: None, trio_token=replica._token)


@pytest.mark.parametrize("name", READS)
def test_what_is_read_from_another_is_durable_when_the_read_returns(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = MemoryDisk()
    db = opened(disk)
    db.create(p.COUNTER)
    db.start_workers(1)
    only_for_who_waits(db, monkeypatch)
    assert db.submit(p.add, 1, 5).result() == 5
    with db.snapshot() as snapshot:
        assert snapshot.get((1,), table=p.COUNTER) is None, "it is not on disk yet"
    READS[name](db)
    db = crashed(db, disk)
    db.create(p.COUNTER)
    assert db.table(p.COUNTER).get((1,)) == {"value": 5}
    db.close()


def test_that_a_row_is_gone_is_durable_when_it_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = MemoryDisk()
    db = opened(disk)
    db.create(p.COUNTER)
    db.run(p.add, 1, 5)
    db.start_workers(1)
    only_for_who_waits(db, monkeypatch)
    db.submit(p.remove, 1).result()
    with db.snapshot() as snapshot:
        assert snapshot.get((1,), table=p.COUNTER) == {"value": 5}
    assert db.table(p.COUNTER).get((1,)) is None
    db = crashed(db, disk)
    db.create(p.COUNTER)
    assert db.table(p.COUNTER).get((1,)) is None
    db.close()


def test_reads_of_what_is_durable_write_nothing() -> None:
    disk = MemoryDisk()
    db = opened(disk)
    db.create(p.COUNTER)
    db.run(p.add, 1, 5)
    db.put(b"somebody", b"")
    assert db._replica is not None
    before = db._replica._partition.applied
    for _ in range(100):
        assert db.run(p.value_of, 1) == 5
        assert db.table(p.COUNTER).get((1,)) == {"value": 5}
        assert db.get(b"nobody") is None
        assert db.submit(p.value_of, 1).wait_durable() == 5
    assert db._replica._partition.applied == before
    db.close()


def test_what_is_early_becomes_durable_though_nobody_waits() -> None:
    disk = MemoryDisk()
    db = opened(disk)
    db.create(p.COUNTER)
    last = [db.submit(p.add, 1, 1) for _ in range(1000)][-1]
    assert last.result() == 1000
    db._replica._waits.wait(last.timestamp, 0, None, lambda: None)  # type: ignore[union-attr]
    db = crashed(db, disk)
    db.create(p.COUNTER)
    assert db.table(p.COUNTER).get((1,)) == {"value": 1000}
    db.close()


def test_closing_keeps_what_nobody_waited_for(tmp_path: Path) -> None:
    with open_at(tmp_path) as db:
        db.create(p.COUNTER)
        submitted = [db.submit(p.add, 1, 1) for _ in range(500)]
    done = 0
    for each in submitted:
        try:
            done = max(done, each.result())
        except mako.Closed:
            break
    with open_at(tmp_path) as db:
        db.create(p.COUNTER)
        row = db.table(p.COUNTER).get((1,))
        assert (row["value"] if row else 0) == done


def test_threads_share_a_sync() -> None:
    disk = FailingDisk()
    db = opened(disk, sessions=24)
    replica = db._replica
    assert replica is not None
    threads, count = 8, 200

    def until_all_wait() -> None:
        disk.on_sync = None
        until(lambda: len(replica._waits._heap) == threads)

    disk.on_sync = until_all_wait  # Of the first sync; those who come to it later share the next.

    def write(number: int) -> None:
        for i in range(count):
            db.put(b"%d/%d" % (number, i), b"x")

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(threads)))
    entries = replica._partition.applied
    assert entries < threads * count, "one entry for each: nobody shared"
    db = crashed(db, disk)
    assert len(list(db.items())) == threads * count
    db.close()


def test_a_drive_is_durable_when_its_watermark_says_so() -> None:
    disk = MemoryDisk()
    db = opened(disk)
    db.create(driven.COUNTER, driven.BLOB)
    db.run(driven.load, 1)

    def durable_count() -> int:
        with db.snapshot() as snapshot:
            row = snapshot.get((0,), table=driven.COUNTER)
            return int(row["value"])

    with db.drive(driven.COUNT, workers=1, states=driven.states()[:1]):
        while (seen := durable_count()) < 3000:
            pass
    db = crashed(db, disk)
    db.create(driven.COUNTER)
    assert db.table(driven.COUNTER).get((0,))["value"] >= seen
    db.close()


def test_a_snapshot_sees_everything_acknowledged(tmp_path: Path) -> None:
    with open_at(tmp_path) as db:
        for i in range(20):
            db.put(b"k", b"%d" % i)
            with db.snapshot() as snapshot:
                assert snapshot.get(b"k") == b"%d" % i


def test_waiting_for_the_watermark(tmp_path: Path) -> None:
    with open_at(tmp_path) as db:
        with db.transaction() as tx:
            tx.put(b"a", b"1")
        assert db.watermark >= tx.commit_ts
        db.wait_watermark(tx.commit_ts, timeout=0)
        beyond = db.watermark + (1 << 50)
        with pytest.raises(TimeoutError, match=rf"not reached {beyond}; wait longer"):
            db.wait_watermark(beyond, timeout=0.02)


def test_a_database_that_is_forgotten_lets_go_of_its_folder(tmp_path: Path) -> None:
    db = open_at(tmp_path)
    db.put(b"a", b"1")
    assert db._replica is not None
    thread = db._replica._thread
    del db
    gc.collect()
    thread.join(PATIENCE)  # The collector may have found it there before, which waits for nobody.
    assert not thread.is_alive()
    with open_at(tmp_path) as again:
        assert again.get(b"a") == b"1"


def test_a_database_that_is_forgotten_by_work_done_aside_lets_go_of_its_folder(
    tmp_path: Path,
) -> None:
    """The collector runs in any thread, and the turns wait for this one: it waits not for them."""
    held = [open_at(tmp_path)]
    held[0].put(b"a", b"1")
    replica = held[0]._replica
    assert replica is not None
    collected = threading.Event()

    def forget() -> None:
        held.clear()
        gc.collect()
        collected.set()

    replica._token.run_sync_soon(replica._driver.aside.put, forget, lambda _: None)
    replica.stir()
    assert collected.wait(PATIENCE)
    replica._thread.join(PATIENCE)
    with open_at(tmp_path) as again:
        assert again.get(b"a") == b"1"
    assert replica._abandoned, "it ended there, not here"


def test_a_second_log_is_not_recorded(tmp_path: Path) -> None:
    with (
        open_at(tmp_path / "data") as db,
        pytest.raises(mako.ConfigError, match="cannot record its log"),
    ):
        db.record_log(tmp_path / "log")


def test_everything_is_over_when_it_is_closed(tmp_path: Path) -> None:
    db = open_at(tmp_path)
    tx = db.begin()
    db.close()
    db.close()
    for act in (lambda: db.put(b"a", b"1"), lambda: tx.get(b"a"), lambda: db.wait_watermark(1)):
        with pytest.raises(mako.Closed, match="open it again"):
            act()


def test_a_snapshot_replaces_the_log_that_it_covers() -> None:
    disk = MemoryDisk()
    db = opened(disk, snapshot_bytes=2 << 20)
    db.create(p.COUNTER)
    for number in range(400):
        db.put(b"%d" % (number % 50), bytes(50_000) + b"%d" % number)
        db.run(p.add, number % 10, 1)

    def is_cut() -> bool:
        db.put(b"0", b"")  # The record of a cut is written with the next entry.
        return len(segments(db, disk)) <= 4

    # 20 MiB of log, of which two and a segment may stay; ticks take the snapshot and cut the log.
    eventually(db, is_cut)
    # One that is being written, or has just been, is beside the one before it for a while.
    eventually(db, lambda: len(files(db, disk, "snapshots")) == 1)
    assert "wal/0000000000000001.wal" not in segments(db, disk)
    expected = state_of(db)
    db = crashed(db, disk)
    assert state_of(db) == expected
    db.create(p.COUNTER)
    assert db.run(p.add, 0, 1) == 41
    assert db.get(b"49") == bytes(50_000) + b"399"
    db = crashed(db, disk)
    db.create(p.COUNTER)
    assert db.run(p.value_of, 0) == 41
    db.close()


def files(db: Database, disk: MemoryDisk, folder: str) -> list[str]:
    """What is in a folder, seen by the thread that changes it."""
    assert db._replica is not None
    found: list[str] = trio.from_thread.run_sync(disk.list, folder, trio_token=db._replica._token)
    return found


def segments(db: Database, disk: MemoryDisk) -> list[str]:
    return [f"wal/{name}" for name in files(db, disk, "wal") if name.endswith(".wal")]


def eventually(db: Database, condition: Callable[[], bool]) -> None:
    """Have ticks until it is so: an idle database has none. Some of it other threads do, which
    may have to wait for a processor."""
    replica = db._replica
    assert replica is not None

    def tick() -> None:
        replica._driver.tick(replica._now_ms(), round(1000 * trio.current_time()))
        replica._turns._turn()

    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"it did not come about in {PATIENCE:g} s of ticks"
        trio.from_thread.run_sync(tick, trio_token=replica._token)


def test_an_idle_database_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "REST_SECONDS", 0.0)
    db = opened(MemoryDisk())
    db.create(p.COUNTER)
    replica = db._replica
    assert replica is not None

    def look() -> tuple[bool, float]:
        now = trio.current_time()
        due = replica._before_turn(now)
        replica._after_turn()
        return replica._rests(), due - now

    db.put(b"a", b"1")
    rested, wait = trio.from_thread.run_sync(look, trio_token=replica._token)
    assert rested
    assert wait > 1000, "no timer either"
    db.start_workers(1)
    rested, wait = trio.from_thread.run_sync(look, trio_token=replica._token)
    assert not rested
    assert wait <= IDLE_SECONDS + 1e-6, "the rings are looked into"
    db.stop_workers()
    rested, _ = trio.from_thread.run_sync(look, trio_token=replica._token)
    assert rested
    db.put(b"b", b"2")
    db.close()


def test_whoever_starts_workers_has_the_rings_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    db = opened(MemoryDisk())
    db.create(driven.COUNTER, driven.BLOB)
    db.run(driven.load, 1)
    replica = db._replica
    assert replica is not None
    working: list[bool] = []
    stir = replica.stir

    def stir_and_note() -> None:
        working.append(replica.works())
        stir()

    monkeypatch.setattr(replica, "stir", stir_and_note)
    with db.start_workers(1):
        assert working == [True], "a turn comes, and from then on they come by themselves"
    working.clear()
    with db.drive(driven.COUNT, workers=1, states=driven.states()[:1]):
        assert working == [True]
    db.close()


EXITS = {
    "at its end": "db.put(b'a', b'1')",
    "by an exception": "db.put(b'a', b'1'); raise SystemExit(3)",
    "with a worker at work": "db.create(C); db.put(b'a', b'1'); [db.submit(add, 1) for _ in '123']",
    "while it waits": (
        "threading.Thread(target=lambda: [db.put(b'b', b'%d' % i) for i in range(50)]).start();"
        "db.put(b'a', b'1')"
    ),
}


@pytest.mark.parametrize("name", EXITS)
def test_a_program_may_end_without_closing(tmp_path: Path, name: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import mako, sys, threading\n"
        "C = mako.Table('c', id=1, key={'id': 32}, row={'value': 'i8'})\n"
        "@mako.procedure\n"
        "def add(tx, key: int) -> None:\n"
        "    tx.put(C, (key,))\n"
        f"db = mako.open({str(tmp_path / 'data')!r}, memory='32MiB')\n"
        f"{EXITS[name]}\n"
    )
    ended = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=600
    )
    assert ended.stderr == ""
    assert ended.returncode == (3 if "exception" in name else 0)
    with open_at(tmp_path / "data") as db:
        assert db.get(b"a") == b"1"
