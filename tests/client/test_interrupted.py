"""Interrupts (Ctrl-C, a signal handler that raises) wherever they can come in what a user calls.

Whatever they end, in a `finally` or in a `__del__` too: what was lent is there again, what was
committed stays as it is, and the memory goes when the database is closed.
"""

from __future__ import annotations

import dis
import gc
import itertools
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, cast

import pytest

import mako
from mako import Database
from mako.server.drive import Drive
from tests.client import procedures as p

#: Seconds for whatever takes as long as it takes on a busy machine.
PATIENCE: Final = 120.0
SESSIONS: Final = 4
#: Every so many places of what takes long.
STEP: Final = 17


@pytest.fixture(autouse=True)
def unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in a `__del__` goes no further, and nobody keeps the frames that it ended."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


class Interrupt(BaseException):
    """What a signal handler raises."""


class Interrupter:
    """Raises once, at place number `after` of all that are passed where CPython handles signals:
    when a function begins, after a call, and where a loop goes back."""

    def __init__(self, after: int) -> None:
        self.left = after
        #: What each frame has just done, by its address: to hold frames would hold what they do.
        self._done: dict[int, str] = {}

    def __call__(self, frame: FrameType, event: str, _: object) -> Interrupter | None:
        if frame.f_code.co_filename in (__file__, threading.__file__):
            return None  # The library's own conditions do not bear it.
        frame.f_trace_opcodes = True
        if event == "call":
            self._done[id(frame)] = ""
            self._pass()
        elif event == "opcode":
            done = self._done.get(id(frame), "")
            doing = dis.opname[_bytes_of(frame.f_code)[frame.f_lasti]]
            self._done[id(frame)] = doing
            # A call that has raised is none of these places, and what is half handled would stay.
            if doing != "PUSH_EXC_INFO" and (done.startswith("CALL") or "JUMP_BACKWARD" in done):
                self._pass()
        return self

    def _pass(self) -> None:
        if self.left == 0:
            sys.settrace(None)
            raise Interrupt
        self.left -= 1

    def interrupts(self, act: Callable[[], object]) -> bool:
        """Do it, with the interrupt; False if it ended before that was due."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            act()
        except Interrupt:
            pass
        finally:
            sys.settrace(before)
        return self.left == 0


@cache
def _bytes_of(code: CodeType) -> bytes:
    return code.co_code


def get(db: Database) -> None:
    assert db.get(b"kept") == b"kept"


def put(db: Database) -> None:
    db.put(b"k", b"new" * 10)


def insert(db: Database) -> None:
    with db.transaction() as tx:
        assert tx.delete(b"k")
        tx.put(b"other", b"new" * 10)


def leave_open(db: Database) -> None:
    tx = db.begin()
    tx.put(b"k", b"never")
    tx.get(b"kept")


def read_at_a_snapshot(db: Database) -> None:
    assert list(db.items(b"kept", b"kept\0")) == [(b"kept", b"kept")]


def forget_a_snapshot(db: Database) -> None:
    assert db.snapshot().get(b"kept") == b"kept"


def run(db: Database) -> None:
    db.run(p.add, 1, 1)


def serve(db: Database) -> None:
    with db.start_workers(1) as workers:
        assert workers.count == 1


def wait(db: Database) -> None:
    db.wait_watermark(db.watermark)


def pretouch(db: Database) -> None:
    db.pretouch(1)


def start(db: Database, workers: int = 2) -> Drive:
    """Its transactions are due so seldom that it leaves the processors to others."""
    states = [{"left": 1 << 40}] * workers
    return db.drive(p.ENDLESS_WORKLOAD, workers=workers, states=states, rate=1e-6)


def pause_and_resume(driven: Drive) -> None:
    driven.pause()
    driven.resume()


#: What `drive` has started, and may not have stopped.
DRIVES: Final[list[Drive]] = []


def drive(db: Database) -> None:
    db.run(p.add, 1, 1)
    DRIVES.append(start(db))
    DRIVES[-1].stop()


ACTS: Final = (
    get, put, insert, leave_open, read_at_a_snapshot, forget_a_snapshot, run, serve, wait, pretouch,
    drive,
)  # fmt: skip
#: A drive passes a thousand places, most of them while it zeroes and counts what it measures. How
#: it stops is interrupted at each of them below.
STEPS: Final[dict[Callable[[Database], object], int]] = {drive: 7}
#: By less what is in use differs: contexts keep some pages, and on disk old versions go later.
#: Rings are larger.
SLACK: Final = 1 << 18
PAGE: Final = 4096


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_nothing_is_lost_wherever_it_is_interrupted(act: Callable[[Database], object]) -> None:
    with mako.open(memory="64MiB", sessions=SESSIONS) as db:
        db.create(p.COUNTER)
        db.put(b"kept", b"kept")
        db.put(b"k", b"old")
        act(db)
        engine = db._engine
        number = lost = 0
        while Interrupter(number).interrupts(lambda: act(db)):
            number += STEPS.get(act, 1)
            lost += stop_all(db)
            found = seen(db)
            # All contexts can be had; and what is written now takes nothing that is in use.
            for i, tx in enumerate([db.begin() for _ in range(SESSIONS)]):
                tx.put(b"more%d" % i, b"%d" % number * 20)
                tx.commit()
            assert seen(db) == found
            db.put(b"k", b"old")
            engine.reclaim_idle()
            assert engine.horizon >= engine.stable, "no snapshot holds on to what was before"
        assert number > 10
    assert lost <= 1
    gc.collect()  # An interrupt may leave a cycle of an error and its frames.
    assert engine.over.wait(PATIENCE), "the watchdog may be having a look"


def stop_all(db: Database) -> int:
    """Stop what acts have left running; how many drives nobody could stop but the database: of
    one that is interrupted when `db.drive` has it, and before the user does."""
    check_nobody_shares(db)
    while DRIVES:
        DRIVES.pop().stop()
    db.stop_workers()
    lost = db._crew._threads.running
    db._crew.stop(lost)
    check_nothing_runs(db)
    return int(bool(lost))


def check_nobody_shares(db: Database) -> None:
    """No context is in use by two, nor free while a worker may run in it."""
    contexts = [worker.context for worker in db._crew._threads.running]
    contexts += [lease.context for lease in db._engine._free_contexts]
    assert len(set(contexts)) == len(contexts)


def check_nothing_runs(db: Database) -> None:
    crew, engine = db._crew, db._engine
    assert not crew.works()
    names = {f"mako-worker-{engine.context(i):x}" for i in range(engine.context_count)}
    for thread in threading.enumerate():
        if thread.name in names:  # It has not begun, and finds that it need not.
            thread.join(PATIENCE)
            assert not thread.is_alive(), "nobody knows of this worker"
    if not engine.replicated:
        assert crew._threads._keeper is None
        assert not engine.logging, "nobody would take the log"
        assert not engine.kept


def take_all(db: Database) -> None:
    """All contexts can be had, each once."""
    taken = [db.begin() for _ in range(SESSIONS)]
    assert len({tx._context for tx in taken}) == SESSIONS
    for tx in taken:
        tx.abort()


@pytest.mark.parametrize("act", [Drive.stop, pause_and_resume], ids=lambda act: act.__name__)
def test_a_drive_that_was_interrupted_is_stopped_by_the_next_stop(
    act: Callable[[Drive], object],
) -> None:
    with mako.open(memory="64MiB", sessions=SESSIONS) as db:
        db.create(p.COUNTER)
        db.run(p.add, 1, 1)
        for number in itertools.count():
            driven = start(db)
            interrupted = Interrupter(number).interrupts(lambda: act(driven))  # noqa: B023
            check_nobody_shares(db)
            driven.stop()
            check_nothing_runs(db)
            take_all(db)
            if not interrupted:
                break
        assert number > 10
    assert db._engine.over.wait(PATIENCE), "the watchdog may be having a look"


@pytest.mark.parametrize("act", [Drive.pause, Drive.resume], ids=lambda act: act.__name__)
def test_a_drive_goes_on_after_an_interrupted_pause_or_resume(
    act: Callable[[Drive], object],
) -> None:
    with mako.open(memory="64MiB", sessions=SESSIONS) as db:
        db.create(p.COUNTER)
        db.run(p.add, 1, 1)
        with start(db) as driven:
            for number in itertools.count():
                if act is Drive.resume:
                    driven.pause()
                interrupted = Interrupter(number).interrupts(lambda: act(driven))
                driven.resume()
                check_nobody_shares(db)
                workers = db._crew._threads.running
                assert len(workers) == 2, "one in each of its contexts"
                assert all(worker.is_started for worker in workers)
                if not interrupted:
                    break
        check_nothing_runs(db)
        take_all(db)


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("what", ["drive", "serve"])
def test_a_stop_that_was_interrupted_gives_all_memory_back(
    tmp_path: Path, where: str, what: str
) -> None:
    """By the next one, and not twice."""
    path = tmp_path if where == "disk" else ":memory:"
    with mako.open(path, memory="64MiB", sessions=SESSIONS) as db:
        db.create(p.COUNTER)
        db.run(p.add, 1, 1)

        def begin() -> Callable[[], None]:
            if what == "serve":
                db.start_workers(1)
                return db.stop_workers
            return start(db, workers=1).stop

        begin()()  # The first one has made the row, and what is used again.
        memory = {used(db)}
        # To start a drive takes longer on disk.
        for number in itertools.count(step=3 if where == "disk" else 1):
            stop = begin()
            interrupted = Interrupter(number).interrupts(stop)
            stop()
            check_nothing_runs(db)
            take_all(db)  # While the drive is still there.
            memory.add(used(db))
            if not interrupted:
                break
        assert number > 10
        assert max(memory) - min(memory) < SLACK
        if where == "memory":
            assert len({each % PAGE for each in memory}) == 1, "not a row of a few bytes either"


def used(db: Database) -> int:
    db._engine.reclaim_idle()
    return db._engine.memory_bytes


def seen(db: Database) -> tuple[Any, ...]:
    """What the acts write, and that nothing else has come of it."""
    found = db.get(b"k"), db.get(b"other"), db.get(b"kept")
    assert found[0] in (b"old", b"new" * 10, None)
    assert found[1] in (b"new" * 10, None)
    assert found[2] == b"kept"
    return found


def test_a_commit_that_was_interrupted_is_not_done_again() -> None:
    """It may have been all but told of: what it took is others' by then."""
    with mako.open(memory="32MiB", sessions=SESSIONS) as db:
        number, again = 0, True
        while again:
            tx = db.begin()
            tx.put(b"k%d" % number, b"v")
            tx.delete(b"k%d" % number)
            again = Interrupter(number).interrupts(tx.commit)
            with suppress(mako.Closed):
                tx.commit()
            with suppress(mako.Closed):
                tx.put(b"k%d" % number, b"v")
            tx.abort()
            written = {b"%d/%d" % (number, i): b"%d" % i * 20 for i in range(4)}
            for key, value in written.items():
                db.put(key, value)
            assert {key: db.get(key) for key in written} == written
            number += 1
        assert number > 5


def test_a_put_that_was_interrupted_is_not_committed_as_zeros() -> None:
    """What it puts is in the transaction before its bytes are."""
    with mako.open(memory="64MiB") as db:
        table = db.table("t")
        tx = db.begin()
        calls = tx._calls

        class Interrupting:
            def __getattr__(self, name: str) -> Any:
                return getattr(calls, name)

            def session_put(self, *given: Any) -> int:
                calls.session_put(*given)
                raise KeyboardInterrupt

        tx._calls = cast(Any, Interrupting())
        with pytest.raises(KeyboardInterrupt):
            tx.put(b"k", b"value", table=table)
        tx._calls = calls
        with pytest.raises(mako.RolledBack):
            tx.commit()
        assert table.get(b"k") is None


@pytest.mark.parametrize("where", [":memory:", "data"])
def test_closing_goes_on_where_it_was_interrupted(tmp_path: Path, where: str) -> None:
    """Workers stop, the memory is given back, and the folder can be opened."""
    path = where if where == ":memory:" else tmp_path / where
    number, again = 0, True
    while again:
        db = mako.open(path, memory="16MiB", sessions=SESSIONS)
        engine = db._engine
        db.start_workers(1)
        db.put(b"k", b"%d" % number)
        again = Interrupter(number).interrupts(db.close)
        db.close()
        gc.collect()
        assert not db._crew.works()
        assert engine.over.wait(PATIENCE), "the watchdog may be having a look"
        number += STEP
    assert number > 50


def test_a_recording_ends_where_it_was_interrupted(tmp_path: Path) -> None:
    """What it has taken out of the rings by then may not be in the file."""
    number, again = 0, True
    while again:
        with mako.open(memory="16MiB", sessions=SESSIONS) as recorded:
            recording = recorded.record_log(tmp_path / "log")
            recorded.put(b"k", b"%d" % number)
            again = Interrupter(number).interrupts(recording.close)
            recording.close()
            assert recorded._engine.recorder is None
            recorded.put(b"k", b"not recorded")
            over = recorded._engine.over
        gc.collect()
        assert over.wait(PATIENCE), "the watchdog may be having a look"
        number += STEP
    assert number > 10
    with mako.replay(tmp_path / "log", memory="16MiB") as replayed:
        assert replayed.get(b"k") == b"%d" % (number - STEP)


def test_a_transaction_of_garbage_can_still_be_used(db: Database) -> None:
    """The collector clears weak references to a cycle before its finalizers run."""

    class Unit:
        def __init__(self) -> None:
            self.tx = db.begin()
            self.me = self

        def __del__(self) -> None:
            # As many as there are: each takes what can be taken back.
            others.extend(db.begin() for _ in range(7))
            self.tx.put(b"k", b"v")
            self.tx.commit()

    others: list[mako.Transaction] = []
    db.put(b"k", b"")
    Unit()
    gc.collect()
    assert len(others) == 7
    for other in others:
        other.abort()
    assert db.get(b"k") == b"v"


def test_memory_goes_though_the_last_session_was_interrupted() -> None:
    db = mako.open(memory="16MiB", sessions=SESSIONS)
    engine = db._engine
    snapshot = db.snapshot()
    db.close()
    assert Interrupter(0).interrupts(snapshot.close)
    assert not engine.over.is_set()
    snapshot.close()
    assert engine.over.is_set()


def test_a_full_log_that_is_not_waited_for_takes_nothing_with_it(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction is still open then, and has memory for what it writes."""
    engine = db._engine

    def interrupt(context: int) -> int:
        raise Interrupt

    def fill() -> None:
        while True:
            db.put(b"k", bytes(100_000))

    db.create(p.COUNTER)
    db.run(p.add, 1, 1)
    db.put(b"k", bytes(1000))
    monkeypatch.setattr(engine, "commit_with_room", interrupt)
    engine.logging = True
    before = engine.memory_bytes
    with pytest.raises(Interrupt):
        fill()
    engine.drop_log()
    engine.logging = False
    db.put(b"k", bytes(1000))
    engine.reclaim_idle()
    assert engine.memory_bytes <= before
