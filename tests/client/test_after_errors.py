"""What is left after an error: transactions that cannot commit, workers that failed, and limits."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

import mako
from mako import Database
from mako.engine import layout
from mako.ids import Outcome
from tests.client import procedures as p

PAGE = 4096


class Failing:
    """The calls of a transaction, of which one fails once."""

    def __init__(self, calls: Any, name: str, result: int) -> None:
        self._calls = calls
        self._failing = {name: result}

    def __getattr__(self, name: str) -> Any:
        if name in self._failing:
            result = self._failing.pop(name)
            return lambda *_: result
        return getattr(self._calls, name)


ENDING = [
    (Outcome.LOCKED, mako.Conflict),
    (Outcome.CHANGED, mako.Conflict),
    (Outcome.OUT_OF_MEMORY, mako.OutOfMemory),
    (Outcome.TOO_LARGE, mako.TransactionTooLarge),
]
CALLS: dict[str, Callable[[Any], object]] = {
    "session_get": lambda tx: tx.get(b"b"),
    "session_put": lambda tx: tx.put(b"b", b"2"),
    "session_delete": lambda tx: tx.delete(b"a"),
    "session_scan": lambda tx: list(tx.scan()),
}


@pytest.mark.interpreted
@pytest.mark.parametrize(("outcome", "error"), ENDING, ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("call", CALLS)
def test_after_an_error_a_transaction_does_not_commit(
    db: Database, outcome: Outcome, error: type[Exception], call: str
) -> None:
    db[b"a"] = b"0"
    tx = db.begin()
    tx.put(b"a", b"1")
    result = -2 - outcome if call == "session_get" else -outcome
    calls: Any = Failing(tx._calls, call, result)
    tx._calls = calls
    with pytest.raises(error) as first:
        CALLS[call](tx)
    tx.put(b"c", b"3")
    with pytest.raises(error) as again:
        tx.commit()
    assert str(again.value) == str(first.value)
    assert list(db.items()) == [(b"a", b"0")]
    with pytest.raises(mako.Closed):
        tx.commit()


@pytest.mark.interpreted
def test_what_is_there_already_does_not_end_a_transaction(db: Database) -> None:
    db[b"a"] = b"0"
    with db.transaction() as tx:
        with pytest.raises(mako.Exists):
            tx.insert(b"a", b"1")
        assert not tx.delete(b"b")
        tx.put(b"c", b"3")
    assert list(db.items()) == [(b"a", b"0"), (b"c", b"3")]


@pytest.mark.interpreted
def test_what_is_there_already_is_in_the_table_that_the_error_names(db: Database) -> None:
    """Whatever the last transaction in the same context was about."""
    db.create(p.COUNTER, p.NOTE)
    notes, db[b"a"] = db.table("notes"), b"0"
    notes.put(b"a", b"0")
    counters = db.table(p.COUNTER)
    counters.put((1,), {"value": 0})
    with pytest.raises(mako.NotFound, match="table counter: no row"):
        db.run(p.value_of, 2)
    with pytest.raises(mako.Exists, match=r"^table notes: a row"):
        notes.insert(b"a", b"1")
    with pytest.raises(mako.Exists, match=r"^table counter: a row"):
        counters.insert((1,), {"value": 1})
    with db.transaction() as tx:
        for table, key, value in ((counters, (1,), {"value": 1}), (notes, b"a", b"1")):
            with pytest.raises(mako.Exists, match=f"^table {table.handle.table.name}: a row"):
                tx.insert(key, value, table=table)


@pytest.mark.interpreted
def test_what_a_procedure_met_before_is_not_named_later(db: Database) -> None:
    """An outcome that nothing is noted about says nothing of the last one's table."""
    db.create(p.COUNTER)
    with pytest.raises(mako.NotFound, match="table counter"):
        db.run(p.value_of, 1)
    tx = db.begin()  # In the same context.
    assert "counter" not in str(db._engine.failure(tx._context, int(Outcome.EXISTS)))
    tx.abort()


# --- a set that is full ---------------------------------------------------------------------------


@mako.procedure
def read_often(tx: Any, count: int) -> Any:
    total = 0
    for _ in range(count):
        total += tx.read(p.COUNTER, (1,)).value
    return total


def test_a_procedure_that_reads_too_much_is_told_so(db: Database) -> None:
    db.create(p.COUNTER)
    db.run(p.add, 1, 1)
    assert db.run(read_often, layout.READ_MAX) == layout.READ_MAX
    for count in (layout.READ_MAX + 1, layout.READ_MAX + 2):
        with pytest.raises(mako.TransactionTooLarge) as caught:
            db.run(read_often, count)
        assert not caught.value.retryable
    assert db.run(p.add, 1, 1) == 2


@pytest.mark.interpreted
def test_a_transaction_that_reads_too_much_is_told_so(db: Database) -> None:
    db[b"a"] = b"0"
    tx = db.begin()
    tx.put(b"b", b"1")
    db._engine.set_word(tx._context + layout.C_READS, layout.READ_MAX)
    tx.get(b"a")  # One too many: noticed by the next call.
    for act in (
        lambda: tx.get(b"a"),
        lambda: tx.put(b"c", b"2"),
        lambda: tx.delete(b"a"),
        lambda: list(tx.scan()),
        lambda: list(tx.scan(reverse=True)),
        tx.commit,
    ):
        with pytest.raises(mako.TransactionTooLarge):
            act()
    assert list(db.items()) == [(b"a", b"0")]


# --- workers --------------------------------------------------------------------------------------


def test_the_failure_of_a_worker_is_not_that_of_the_next_one(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.create(p.COUNTER)
    db.run(p.add, 1, 1)
    engine = db._engine
    for number in range(engine.context_count):
        engine.set_word(engine.context(number) + layout.K_FAILED, int(Outcome.OUT_OF_MEMORY))
    waiting: list[threading.Thread] = []
    start = threading.Thread.start

    def later(thread: threading.Thread) -> None:
        if thread.name.startswith("mako-worker"):
            waiting.append(thread)
        else:
            start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", later)
        drive = db.drive(p.ENDLESS_WORKLOAD, workers=2, states=[{"left": 1 << 40}] * 2)
        assert len(waiting) == 2
        assert drive.sample().stopped == ""
    for thread in waiting:
        thread.start()
    drive.stop()
    assert drive.sample().stopped == ""


# --- memory ahead ---------------------------------------------------------------------------------


@pytest.mark.interpreted
def test_memory_is_touched_once_and_no_more_than_there_is() -> None:
    with mako.open(memory="16MiB", sessions=2) as db:
        engine = db._engine
        used = db.memory_bytes
        assert db.pretouch(0) == 0
        assert db.pretouch(100 * PAGE) == 100 * PAGE
        assert db.pretouch(100 * PAGE) == 0
        assert db.pretouch(10 * PAGE) == 0
        assert db.pretouch(150 * PAGE) == 50 * PAGE
        end = engine.base + engine.word(engine.base + layout.SIZE)
        left = end - engine.word(engine.base + layout.BUMP)
        rest = db.pretouch(1 << 40)
        assert left - 2 * PAGE <= rest + 150 * PAGE <= left + PAGE
        assert db.pretouch(1 << 40) == 0
        assert db.memory_bytes == used <= db.memory_reserved
        db[b"a"] = b"still there"
        assert db[b"a"] == b"still there"
    with pytest.raises(mako.Closed):
        db.pretouch(PAGE)
    assert engine.over.is_set()
