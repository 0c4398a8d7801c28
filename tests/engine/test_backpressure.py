"""What happens at the limits of a running engine: a full log ring, a transaction that no ring
can take, a full memory. Workers wait or stop with a message; nothing is lost or half done.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

import pytest

import mako
from mako import log_format
from mako.client.database import Database
from mako.engine import layout
from mako.engine.closing import close, get_word, set_word
from mako.engine.completing import WAITING_FOR_LOG
from mako.engine.engine import Engine
from mako.engine.keeper import turn
from mako.engine.ring import drain
from tests.engine.running import until

#: Some hundred transactions of the workload.
RING_BYTES: Final = 1 << 16
COUNTER: Final = mako.Table("counter", id=1, key={"worker": 8}, row={"value": "i8", "pad": "S80"})
BLOB: Final = mako.Table("blob", id=2, key={"worker": 8, "number": 40}, row={"text": "S1000"})
STATE: Final = mako.Row({"worker": "i8", "number": "i8", "rows": "i8"}, name="state")


@mako.procedure
def load(tx: Any, workers: int) -> int:
    for worker in range(workers):
        tx.insert(COUNTER, (worker,))
    return workers


@mako.function
def draw(random: Any, state: Any) -> int:
    state.number += 1
    return 0


@mako.function
def count(tx: Any, state: Any) -> None:
    counter = tx.write(COUNTER, (state.worker,))
    counter.value += 1


@mako.function
def insert(tx: Any, state: Any) -> None:
    for at in range(state.rows):
        tx.insert(BLOB, (state.worker, state.number * state.rows + at))


COUNT: Final = mako.Workload("count", kinds=("count",), state=STATE, generate=draw, execute=count)
INSERT: Final = mako.Workload(
    "insert", kinds=("insert",), state=STATE, generate=draw, execute=insert
)


@pytest.fixture
def db() -> Iterator[Database]:
    with Database(Engine(32 << 20, contexts=6, ring_bytes=RING_BYTES)) as made:
        made.create(COUNTER, BLOB)
        made.run(load, 2)
        yield made


def states(rows: int = 0) -> list[dict[str, int]]:
    return [{"worker": worker, "number": 0, "rows": rows} for worker in range(2)]


def stop_keeper(db: Database) -> None:
    """Let the keeper end: from now on nobody takes the log but the test."""
    engine = db._engine
    set_word(engine.base + layout.KEEPER, 1)
    # It turns a last time when it ends; then the rings stay as the workers leave them.
    keeper = db._crew._threads._keeper
    assert keeper is not None
    keeper.join()


def waiting(db: Database, contexts: list[int]) -> bool:
    """Whether all these workers wait, and not only still: their rings are full."""
    return all(
        get_word(context + layout.C_STATE) == WAITING_FOR_LOG
        and get_word(context + layout.C_LOG_HEAD) - get_word(context + layout.C_LOG_TAIL)
        > RING_BYTES - 1000
        for context in contexts
    )


def timestamps_in(log: bytes) -> list[int]:
    """The transactions of drained bytes, each checked to be whole."""
    found, at = [], 0
    while at < len(log):
        timestamp, writes, flags, length = struct.unpack_from("<QHHI", log, at)
        assert (writes, flags) == (1, 0)
        found.append(timestamp)
        at += log_format.TRANSACTION_BYTES + length
    assert at == len(log), "a transaction is cut off"
    return found


def take_log(engine: Engine, context: int, buffer: int) -> list[int]:
    """The timestamps of what is in one ring, which is then empty."""
    moved, transactions = drain(context, buffer, RING_BYTES)
    found = timestamps_in(engine.read(buffer, moved))
    assert len(found) == transactions
    return found


def test_workers_wait_for_a_full_log_and_lose_nothing(db: Database) -> None:
    engine = db._engine
    with engine.borrowed() as mine:
        buffer = engine.allocate(mine, RING_BYTES)
        drive = db.drive(COUNT, workers=2, states=states())
        contexts = [worker.context for worker in drive._workers]
        stop_keeper(db)
        already = drive.sample().log_transactions
        logged: dict[int, list[int]] = {context: [] for context in contexts}
        for _ in range(5):
            until(lambda: waiting(db, contexts))
            # Full means full: the next transaction would not fit, and nobody runs on.
            before = drive.sample()
            assert before.log_transactions == before.kinds[0].committed
            assert drive.sample().kinds[0].committed == before.kinds[0].committed
            with db.snapshot() as snapshot:  # Readers do not care.
                values = [row["value"] for _, row in snapshot.table(COUNTER).scan()]
            assert sum(values) == before.kinds[0].committed
            for context in contexts:
                logged[context] += take_log(engine, context, buffer)
        drive.stop()
        for context in contexts:
            logged[context] += take_log(engine, context, buffer)
            assert logged[context] == sorted(set(logged[context]))
        engine.release(mine, buffer, RING_BYTES)
    final = drive.sample()
    assert final.stopped == ""
    # What the keeper took before it ended cannot be counted here; everything later can.
    taken = sum(map(len, logged.values()))
    assert final.log_transactions - already <= taken <= final.log_transactions
    assert final.log_transactions == final.kinds[0].committed
    rows = db.table(COUNTER).scan()
    assert sum(row["value"] for _, row in rows) == final.kinds[0].committed


def test_the_keeper_lets_waiting_workers_go_on(db: Database) -> None:
    drive = db.drive(COUNT, workers=2, states=states())
    contexts = [worker.context for worker in drive._workers]
    stop_keeper(db)
    until(lambda: waiting(db, contexts))
    before = drive.sample().kinds[0].committed
    # A waiting worker has drawn no timestamp, so it holds up no closed timestamp either.
    clock = db._engine.clock
    assert close(db._engine.base) >= clock
    for _ in range(20):
        turn(db._engine.base)
    until(lambda: drive.sample().kinds[0].committed > before)
    drive.stop()
    assert drive.sample().stopped == ""
    db.run(load_more)
    assert len(db.table(COUNTER).scan()) == 3


@mako.procedure
def load_more(tx: Any) -> int:
    tx.insert(COUNTER, (7,))
    return 1


def test_a_transaction_over_half_a_ring_is_refused_whole(db: Database) -> None:
    engine = db._engine
    table = db.table("bytes")
    engine.logging = True
    half = RING_BYTES // 2
    tx = db.begin()
    tx.put(b"small", b"1", table=table)
    tx.put(b"large", bytes(half), table=table)
    with pytest.raises(mako.TransactionTooLarge) as refused:
        tx.commit()
    assert refused.value.retryable is False
    assert table.scan() == []
    table.put(b"large", bytes(half - 200))
    table.put(b"large", bytes(half - 100))
    table.put(b"large", bytes(half - 300))  # Each takes the place of the one before.
    assert len(table.get(b"large")) == half - 300
    engine.logging = False


def test_a_workload_whose_transaction_is_too_large_stops_and_says_so(db: Database) -> None:
    with db.drive(INSERT, workers=2, states=states(rows=40)) as drive:
        until(lambda: drive.sample().stopped)
    assert "insert" in drive.sample().stopped
    assert "split the transaction" in drive.sample().stopped
    assert drive.sample().kinds[0].committed == 0
    assert db.table(BLOB).scan() == []


def test_a_full_memory_stops_the_workers_and_leaves_a_usable_engine(db: Database) -> None:
    with db.drive(INSERT, workers=2, states=states(rows=10)) as drive:
        until(lambda: drive.sample().stopped)
    stopped = drive.sample().stopped
    assert "memory is full" in stopped
    assert "delete rows" in stopped
    blobs = db.table(BLOB)
    keys = [key for key, _ in blobs.scan()]
    # Transactions are there whole or not at all.
    assert len(keys) == 10 * drive.sample().kinds[0].committed
    assert len({key[1] // 10 for key in keys if key[0] == 0}) * 10 == sum(k[0] == 0 for k in keys)
    for key in keys[: len(keys) // 2]:
        assert blobs.delete(key)
    for worker in range(2):
        db.run(load_blobs, worker, 1 << 30, 50)
    assert len(blobs.scan()) == len(keys) - len(keys) // 2 + 100
    with db.drive(COUNT, workers=2, states=states()) as again:
        until(lambda: again.sample().kinds[0].committed > 1000)
    assert again.sample().stopped == ""


@mako.procedure
def load_blobs(tx: Any, worker: int, first: int, count: int) -> int:
    for number in range(first, first + count):
        tx.insert(BLOB, (worker, number))
    return count
