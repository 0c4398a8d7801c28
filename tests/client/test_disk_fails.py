"""A disk that fails or fills up under an embedded database: nothing is acknowledged that is not
on it, everybody is told, and what was acknowledged is there afterwards."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

import mako
from mako import Database
from mako.server import embedded
from mako.storage.errors import DiskFailed
from mako.storage.memory_disk import MemoryDisk
from tests.client import procedures as p
from tests.client.on_disk import SEGMENT_BYTES, crashed, end_without_disk, opened
from tests.storage.failing import FailingDisk

ENDED = "the disk under data failed, and the database has ended: close it"


def begun(disk: MemoryDisk) -> Database:
    db = opened(disk)
    db.create(p.COUNTER)
    db.put(b"before", b"1")
    return db


def rows_after_power_cut(disk: FailingDisk) -> dict[bytes, bytes]:
    disk.syncs_fail = False
    disk.on_write = None
    disk.crash()
    with opened(disk) as db:
        return dict(db.items())


ACTS: dict[str, Callable[[Database], Any]] = {
    "put": lambda db: db.put(b"after", b"2"),
    "run": lambda db: db.run(p.add, 1, 1),
    "submit": lambda db: db.submit(p.add, 1, 1).wait_durable(),
    "create": lambda db: db.create(p.NOTE),
    "close": lambda db: _commit_early_and_close(db),
}


def _commit_early_and_close(db: Database) -> None:
    db._replica.works = lambda: False  # type: ignore[union-attr]  # Nobody looks into the rings.
    db.submit(p.add, 1, 1).result()
    db.close()


@pytest.mark.parametrize("name", ACTS)
def test_whoever_waits_for_a_failed_sync_is_told(name: str) -> None:
    disk = FailingDisk()
    db = begun(disk)
    disk.syncs_fail = True
    with pytest.raises(mako.DatabaseFailed, match=ENDED) as caught:
        ACTS[name](db)
    assert "\n" not in str(caught.value)
    assert "input/output error" in str(caught.value)
    db.close()
    assert rows_after_power_cut(disk) == {b"before": b"1"}


def test_every_further_call_is_told() -> None:
    disk = FailingDisk()
    db = begun(disk)
    waiting = db.begin()
    snapshot = db.snapshot()
    disk.syncs_fail = True
    with pytest.raises(mako.DatabaseFailed):
        db.put(b"after", b"2")
    disk.syncs_fail = False
    for act in (
        lambda: db.get(b"before"),
        lambda: db.put(b"after", b"2"),
        lambda: db.run(p.value_of, 1),
        lambda: db.submit(p.add, 1, 1),
        lambda: db.start_workers(1),
        lambda: db.create(p.NOTE),
        lambda: db.snapshot(),
        lambda: db.watermark,
        lambda: db.wait_watermark(1),
        lambda: waiting.put(b"after", b"2"),
        lambda: waiting.commit(),
        lambda: snapshot.get(b"before"),
    ):
        with pytest.raises(mako.DatabaseFailed, match=ENDED):
            act()
    db.close()
    with pytest.raises(mako.Closed):
        db.get(b"before")
    assert rows_after_power_cut(disk) == {b"before": b"1"}


def test_all_threads_that_wait_are_told_and_nothing_they_wrote_was_acknowledged() -> None:
    disk = FailingDisk()
    db = begun(disk)
    threads = 6
    acknowledged: list[bytes] = []
    told: list[Exception] = []
    running = threading.Barrier(threads)

    def write(number: int) -> None:
        running.wait()
        try:
            for i in range(1_000_000):
                key = b"%d/%d" % (number, i)
                db.put(key, b"x")
                acknowledged.append(key)
                if len(acknowledged) >= 100:
                    disk.syncs_fail = True
        except mako.DatabaseFailed as error:
            told.append(error)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(threads)))
    db.close()
    assert len(told) == threads
    assert len({id(error) for error in told}) == threads, "each has an error of its own"
    rows = rows_after_power_cut(disk)
    assert [key for key in acknowledged if key not in rows] == []


def test_what_workers_were_given_ends_with_the_error() -> None:
    disk = FailingDisk()
    db = begun(disk)
    assert db._replica is not None
    turns = db._replica._thread
    db.start_workers(2)
    disk.syncs_fail = True
    handed = []

    def submit_for_ever() -> None:
        while True:
            handed.append(db.submit(p.add, 1, 1))

    with pytest.raises(mako.DatabaseFailed):
        submit_for_ever()
    for each in handed:
        with pytest.raises(mako.DatabaseFailed):
            each.wait_durable()
    db.stop_workers()
    db.close()
    assert not turns.is_alive()


def test_who_waits_for_a_worker_with_room_is_told_when_none_will_have_any() -> None:
    """It had looked whether the database is well, and then the disk failed."""
    disk = FailingDisk()
    db = begun(disk)
    db.start_workers(1)
    (mailbox,) = db._requests._mailboxes

    def wait(limit_us: int) -> None:
        disk.syncs_fail = True
        with pytest.raises(mako.DatabaseFailed):
            db.put(b"meanwhile", b"x")

    mailbox.shut()  # As one that is full: it has no room for what is submitted.
    mailbox.wait = wait  # type: ignore[method-assign]
    with pytest.raises(mako.DatabaseFailed):
        db.submit(p.add, 1, 1, timeout=30)
    db.close()


def test_a_failed_write_is_the_end_like_a_failed_sync() -> None:
    disk = FailingDisk()
    db = begun(disk)

    def fail(offset: int, length: int) -> None:
        raise DiskFailed("wal: no such device")

    disk.on_write = fail
    with pytest.raises(mako.DatabaseFailed, match="no such device"):
        db.put(b"after", b"2")
    db.close()
    assert rows_after_power_cut(disk) == {b"before": b"1"}


def test_a_disk_that_fails_at_opening_says_so() -> None:
    disk = FailingDisk()
    begun(disk).close()
    disk.syncs_fail = True
    with pytest.raises(mako.DatabaseFailed, match=r"cannot open data: .*input/output error"):
        opened(disk)
    assert rows_after_power_cut(disk) == {b"before": b"1"}


def test_a_fault_of_mako_ends_the_database_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    db = begun(MemoryDisk())
    partition = db._replica._partition  # type: ignore[union-attr]

    def fail() -> None:
        raise AssertionError("an invariant")

    monkeypatch.setattr(partition, "drain", fail)
    with pytest.raises(mako.DatabaseFailed, match="mako failed, and the database has ended"):
        db.put(b"after", b"2")
    db.close()
    assert len(seen) == 1, "the traceback is shown"


# --- Full --------------------------------------------------------------------------------------

#: Four segments, the reserve, and little else.
CAPACITY = 4 * SEGMENT_BYTES + (4 << 20) + (128 << 10)
VALUE = bytes(100_000)


def filled(disk: MemoryDisk) -> tuple[Database, int]:
    """A database whose disk has become full, and how many puts were acknowledged."""
    db = begun(disk)
    for number in range(1000):
        try:
            db.put(b"fill/%d" % number, VALUE)
        except mako.LogFull:
            return db, number
    raise AssertionError("the disk never filled up")


def test_a_full_disk_refuses_growth_and_reads_go_on() -> None:
    disk = MemoryDisk(CAPACITY)
    db, count = filled(disk)
    assert count > 10
    for act in (
        lambda: db.put(b"after", b"2"),
        lambda: db.delete(b"before"),
        lambda: db.run(p.add, 1, 1),
        lambda: db.submit(p.add, 1, 1),
        lambda: db.write(_batch()),
    ):
        with pytest.raises(mako.LogFull, match="the disk of data is full, and nothing was"):
            act()
    assert db.get(b"before") == b"1"
    assert b"after" not in db
    with db.snapshot() as snapshot:
        assert len(list(snapshot.scan())) == count + 1
    db.close()


def _batch() -> mako.WriteBatch:
    batch = mako.WriteBatch()
    batch.put(b"after", b"2")
    return batch


def test_a_full_disk_clears_itself() -> None:
    disk = MemoryDisk(CAPACITY)
    db, count = filled(disk)
    disk.capacity_bytes = 2 * CAPACITY
    db.put(b"after", b"2")
    db.close()
    with opened(disk) as db:
        assert db.get(b"after") == b"2"
        assert len(list(db.items())) == count + 2


def test_what_was_acknowledged_before_the_disk_was_full_is_there() -> None:
    disk = MemoryDisk(CAPACITY)
    db, count = filled(disk)
    disk.crash()
    end_without_disk(db)
    disk.capacity_bytes = 2 * CAPACITY
    with opened(disk) as db:
        assert len(list(db.items())) == count + 1


def test_a_commit_that_a_full_disk_overtakes_waits_for_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = MemoryDisk(CAPACITY)
    db, _ = filled(disk)
    replica = db._replica
    assert replica is not None
    monkeypatch.setattr(replica, "check_growth", lambda: None)
    waits = threading.Event()
    stir = replica.stir

    def stir_and_tell() -> None:
        stir()
        waits.set()

    monkeypatch.setattr(replica, "stir", stir_and_tell)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(db.put, b"late", b"3")
        waits.wait()
        for _ in range(3):
            trio.from_thread.run_sync(replica._turns._turn, trio_token=replica._token)
        assert not late.done()
        disk.capacity_bytes = 2 * CAPACITY
        late.result()
    db = crashed(db, disk)
    assert db.get(b"late") == b"3"
    db.close()


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_somebody_removed_ends_the_database(tmp_path: Path, *, again: bool) -> None:
    db = mako.open(tmp_path / "data", memory="32MiB")
    db.put(b"before", b"1")
    shutil.rmtree(tmp_path / "data")
    if again:  # As who begins anew does: what is written here is not in it.
        (tmp_path / "data").mkdir()
    with pytest.raises(mako.DatabaseFailed, match=r"the disk under .* failed.*has been removed"):
        put_for_ever(db)  # A transaction that grows notices it, or the next tick.
    with suppress(mako.DatabaseFailed):
        db.close()


def put_for_ever(db: Database) -> None:
    for _ in range(1_000_000):
        db.put(b"after", b"2")


def test_a_database_at_rest_ends_if_its_folder_was_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "REST_SECONDS", 0.0)
    disk = FailingDisk()
    db = begun(disk)
    replica = db._replica
    assert replica is not None
    ended = threading.Event()
    tell_database = replica.on_failure

    def tell_all() -> None:
        tell_database()
        ended.set()

    replica.on_failure = tell_all
    rested = threading.Event()
    rests = replica._turns._rests

    def tell() -> bool:
        if resting := rests():
            rested.set()
        return resting

    replica._turns._rests = tell
    replica.stir()  # It may have begun to rest before.
    assert rested.wait(60)
    monkeypatch.undo()
    disk.is_gone = True
    with pytest.raises(mako.DatabaseFailed, match="the disk under data failed"):
        db.put(b"after", b"2")
    assert ended.wait(60)
    with pytest.raises(mako.DatabaseFailed, match="the disk under data failed, and the database"):
        db.get(b"before")
    db.close()


@pytest.mark.parametrize("first", ["put", "close"])
def test_a_folder_that_was_removed_is_noticed_before_the_tick(first: str) -> None:
    disk = FailingDisk()
    db = begun(disk)
    replica = db._replica
    assert replica is not None
    replica._turns._rests = lambda: True
    disk.is_gone = True
    with pytest.raises(mako.DatabaseFailed, match="the disk under data failed: close"):
        ACTS[first](db) if first == "put" else db.close()
    with suppress(mako.DatabaseFailed):
        db.close()
    with pytest.raises(mako.Closed):
        db.get(b"before")
    disk.is_gone = False
    assert rows_after_power_cut(disk) == {b"before": b"1"}
