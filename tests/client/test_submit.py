"""Procedures handed to workers: results, order, back-pressure, sleep and wake, and the end."""

import gc
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

import mako
from mako import Database
from mako.client.requests import _Mailbox
from mako.engine.completing import SLEEPING
from mako.engine.layout import C_STATE, Q_ARGUMENTS, REQUEST_RING_BYTES
from mako.server.drive import Drive
from mako.server.workers import WorkerThread
from tests.client import procedures as p
from tests.client.endless import Endless
from tests.engine.running import until

#: Seconds for whatever takes as long as it takes on a busy machine.
PATIENCE: Final = 120.0
#: Requests with two arguments that a ring holds.
SLOTS = REQUEST_RING_BYTES // (Q_ARGUMENTS + 16)


@pytest.fixture
def db() -> Iterator[Database]:
    with mako.open(memory="64MiB", sessions=8, procedure_timeout=1.0) as opened:
        opened.create(p.COUNTER)
        yield opened


@pytest.fixture
def patient() -> Iterator[Database]:
    """A database whose watchdog leaves all the time that is needed to fill a ring."""
    with mako.open(memory="64MiB", sessions=8, procedure_timeout=600.0) as opened:
        opened.create(p.COUNTER)
        yield opened


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The eventfds that are written to, each time; they still are."""
    found = []
    write = os.eventfd_write

    def note(event: int, value: int) -> None:
        found.append(event)
        write(event, value)

    monkeypatch.setattr(os, "eventfd_write", note)
    return found


def asleep(db: Database, mailbox: _Mailbox) -> None:
    """Until the worker sleeps. It stays so: nobody gives it anything.

    In the kernel: who says that it sleeps may yet find that it was woken before.
    """
    stat = Path(f"/proc/self/task/{mailbox.worker.thread.native_id}/stat")
    until(
        lambda: (
            db._engine.word(mailbox.context + C_STATE) == SLEEPING
            and stat.read_text().rpartition(")")[2].split()[0] == "S"
        )
    )


@pytest.fixture
def endless(patient: Database) -> Iterator[Endless]:
    """The only worker of `patient` is awake, and has no time for anything else."""
    made = Endless(patient)
    try:
        yield made
    finally:
        if patient._open:
            made.end()


def test_one_worker_starts_by_itself(db: Database) -> None:
    submitted = db.submit(p.add, 1, 5)
    assert submitted.result() == 5
    assert submitted.done()
    assert 0 < submitted.timestamp <= db._engine.clock
    assert submitted.wait_durable() == 5
    assert db.watermark >= submitted.timestamp
    assert "mako-keeper" in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("workers", [1, 2])
def test_thousands_from_several_threads_are_each_run_once(
    db: Database, workers: int, seed: int
) -> None:
    threads, count, keys = 4, 1500, 3
    sums = [0] * keys
    lock = threading.Lock()

    def run(number: int) -> None:
        numbers = random.Random(seed + number)
        handed = []
        for _ in range(count):
            key, amount = numbers.randrange(keys), numbers.randrange(100)
            handed.append(db.submit(p.add, key, amount))
            with lock:
                sums[key] += amount
        for submitted in numbers.sample(handed, len(handed)):
            submitted.result()

    with db.start_workers(workers) as pool:
        assert pool.count == workers
        keeper = db._crew._threads._keeper
        assert keeper is not None
        running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert [db.run(p.value_of, key) for key in range(keys)] == sums
    assert not keeper.is_alive()


def test_nobody_has_to_ask_for_the_results(db: Database) -> None:
    for _ in range(5 * SLOTS // 2):
        db.submit(p.add, 1, 1)
    db.stop_workers()
    assert db.run(p.value_of, 1) == 5 * SLOTS // 2


def test_a_worker_that_falls_asleep_is_woken_20_000_times(db: Database) -> None:
    """Each request finds the worker in another moment of falling asleep."""
    db.submit(p.add, 1, 0).result()
    for i in range(20_000):
        for _ in range(i % 100 * 40):  # From before the worker gives up spinning to after it.
            pass
        assert db.submit(p.add, 1, 1).result(timeout=PATIENCE) == i + 1


def test_a_worker_that_certainly_sleeps_is_woken(db: Database) -> None:
    db.submit(p.add, 1, 0).result()
    (mailbox,) = db._requests._mailboxes
    for i in range(200):
        asleep(db, mailbox)
        assert db.submit(p.add, 1, 1).result(timeout=PATIENCE) == i + 1


def test_a_worker_that_was_not_woken_runs_what_it_was_given_before_it_stops(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C leaves it that comes between the two."""
    db.submit(p.add, 1, 0).result()
    (mailbox,) = db._requests._mailboxes
    asleep(db, mailbox)

    def interrupted(worker: WorkerThread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(WorkerThread, "wake", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.submit(p.add, 1, 1)
    db.stop_workers()
    assert db.run(p.value_of, 1) == 1


def test_a_worker_that_is_awake_is_not_written_to(
    patient: Database, endless: Endless, written: list[int]
) -> None:
    """It finds requests by itself: to wake it for each would cost more than they do."""
    written.clear()
    queued = [patient.submit(p.add, 1, 1) for _ in range(100)]
    assert written == []
    endless.end()
    assert [each.result(timeout=PATIENCE) for each in queued] == list(range(1, 101))


def test_a_worker_that_sleeps_is_written_to_once(db: Database, written: list[int]) -> None:
    db.submit(p.add, 1, 0).result()
    (mailbox,) = db._requests._mailboxes
    for i in range(20):
        asleep(db, mailbox)
        written.clear()
        assert db.submit(p.add, 1, 1).result(timeout=PATIENCE) == i + 1
        assert written == [mailbox.worker.event]


def test_a_full_ring_holds_the_submitter_back(patient: Database, endless: Endless) -> None:
    db = patient
    queued = []

    def fill() -> None:
        while True:
            queued.append(db.submit(p.add, 1, 1, timeout=0.01))

    with pytest.raises(TimeoutError, match="rings are full"):
        fill()
    assert SLOTS - 2 <= len(queued) <= SLOTS
    assert not queued[0].done()
    with pytest.raises(TimeoutError, match="add has not ended"):
        queued[0].result(timeout=0.01)
    with ThreadPoolExecutor(1) as waiting:
        late = waiting.submit(db.submit, p.add, 1, 1)  # Waits for room.
        endless.end()
        assert late.result().result() == len(queued) + 1
    assert endless.submitted.done()


def test_exceptions_are_those_of_run(db: Database) -> None:
    with pytest.raises(mako.NotFound, match="value_of: table counter"):
        db.submit(p.value_of, 1).result()
    db.run(p.insert, 1)
    missing = db.submit(p.insert, 1)
    for _ in range(2):
        with pytest.raises(mako.Exists):
            missing.result()
    with pytest.raises(mako.Exists):
        missing.wait_durable()
    with pytest.raises(mako.RolledBack):
        db.submit(p.add_then_give_up, 1).result()
    with pytest.raises(mako.ProcedureError, match="ValueError: over the limit"):
        db.submit(p.add_then_raise, 1, 0).result()
    assert missing.timestamp == 0
    assert db.submit(p.value_of, 1).result() == 0


def test_stopping_ends_what_was_submitted_first(db: Database) -> None:
    pool = db.start_workers(2)
    free = len(db._engine._free_contexts)
    submitted = [db.submit(p.add, 1, 1) for _ in range(300)]
    pool.stop()
    assert sorted(each.result() for each in submitted) == list(range(1, 301))
    assert len(db._engine._free_contexts) == free + 2
    assert db.submit(p.add, 1, 1).result() == 301


def test_fewer_workers_than_there_are_is_refused(db: Database) -> None:
    with db.start_workers(2):
        assert db.start_workers(2).count == 2
        with pytest.raises(mako.ConfigError, match="stop_workers"):
            db.start_workers(1)


def test_closing_fails_what_has_not_begun(patient: Database, endless: Endless) -> None:
    db = patient
    queued = [db.submit(p.add, 1, 1) for _ in range(20)]
    endless.close(db)
    with pytest.raises(mako.ProcedureTimeout):
        endless.submitted.result()
    for submitted in queued:
        with pytest.raises(mako.Closed, match="was not run"):
            submitted.result()
    assert db._engine.over.wait(PATIENCE), "the watchdog may be having a look"
    with pytest.raises(mako.Closed):
        db.submit(p.add, 1, 1)


@pytest.mark.parametrize("moment", ["crew", "engine"])
def test_no_worker_starts_while_it_is_closed(
    db: Database, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Another thread has found it open. Its worker would live for ever: nobody stops it."""
    part = db._crew if moment == "crew" else db._engine
    close = part.close

    def submit_first() -> None:
        with pytest.raises(mako.Closed, match="open it again"):
            db._requests.submit(p.add, (1, 1), None)
        close()

    monkeypatch.setattr(part, "close", submit_first)
    db.close()
    assert db._requests.count == 0
    assert not db._crew.works()
    assert db._engine.over.wait(PATIENCE), "the watchdog may be having a look"


def test_no_drive_starts_while_it_is_closed(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, workload = db._engine, p.ENDLESS_WORKLOAD
    close = engine.close

    def drive_first() -> None:
        before = set(Path("/proc/self/fd").iterdir())
        with pytest.raises(mako.Closed, match="open it again"):
            Drive(db._crew, workload, workers=1, states=[{"left": 1 << 40}], seed=1, rate=0)
        assert set(Path("/proc/self/fd").iterdir()) == before
        close()

    monkeypatch.setattr(engine, "close", drive_first)
    db.close()
    assert engine.over.wait(PATIENCE), "the watchdog may be having a look"


def test_closing_frees_whoever_waits_in_another_thread(patient: Database, endless: Endless) -> None:
    raised: list[BaseException] = []
    queued = patient.submit(p.add, 1, 1)

    def wait() -> None:
        try:
            queued.result()
        except mako.Closed as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    endless.close(patient)
    thread.join(PATIENCE)
    assert len(raised) == 1


def test_what_is_durable_is_gone_with_the_database(db: Database) -> None:
    submitted = db.submit(p.add, 1, 1)
    assert submitted.result() == 1
    db.close()
    assert db._engine.over.wait(PATIENCE), "the watchdog may be having a look"
    assert submitted.result() == 1
    with pytest.raises(mako.Closed, match="gone"):
        submitted.wait_durable()


def test_a_forgotten_database_stops_its_threads(db: Database) -> None:
    other = mako.open(memory="16MiB", sessions=4)
    other.create(p.COUNTER)
    other.submit(p.add, 1, 1).result()
    (mailbox,) = other._requests._mailboxes
    thread = mailbox.worker.thread
    assert thread.is_alive()
    del mailbox, other
    gc.collect()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_transactions_and_snapshots_go_on_beside_the_workers(db: Database) -> None:
    submitted = [db.submit(p.add, 1, 1) for _ in range(100)]
    table = db.table(p.COUNTER)
    table.put((2,), {"value": 0})
    for i in range(100):
        table.put((2,), {"value": i})
        with db.snapshot() as snapshot:
            assert snapshot.table(table).get((2,)) == {"value": i}
    assert submitted[-1].result() == 100
    assert db.run(p.total, 0, 9) == 199
