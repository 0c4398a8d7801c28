"""Reclamation: what was replaced, unlinked or deleted goes back to the free lists.

Each context frees what it retired itself, a little between any two transactions; memory it
has just freed is memory it writes next, while it is still in its cache.
"""

from mako.engine.atomics import cas, ld8, load_acquire, load_relaxed, st8, store_release
from mako.engine.closing import activate, close, deactivate, next_timestamp
from mako.engine.commit import record_bytes, unlink_record
from mako.engine.finding import empty_slot
from mako.engine.jit import compiled, exported
from mako.engine.layout import (
    C_ACTIVE,
    C_ENGINE,
    C_FREE_BYTES,
    C_FULL_SINCE,
    C_FULL_TURNS,
    C_RETIRED_COUNT,
    C_SNAPSHOT,
    CLOCK,
    CONTEXT_BYTES,
    CONTEXT_COUNT,
    CONTEXTS,
    DEAD,
    HORIZON,
    LOCKED,
    NONE,
    POINTER,
    POOL_NODES,
    POOL_RECORDS,
    POOL_VALUES,
    R_HEAD,
    RETIRE_NODE,
    RETIRE_NOTHING,
    RETIRE_RECORD,
    RETIRE_TOMBSTONE,
    RETIRE_VALUE,
    V_TIMESTAMP,
    V_VALUE,
)
from mako.engine.memory import kept_bytes, release, release_surplus, size_class
from mako.engine.retire import first_retired, pop_retired, retire
from mako.engine.system import sleep_us

#: Retired things looked at after each transaction; a delivery of TPC-C retires about 130.
RECLAIM_BUDGET = 192
#: Turns that `make_room` waits for others to free what they may: about 20 ms in all.
ROOM_TURNS = 24
#: The same while transactions that began earlier are under way: the watchdog's ten seconds.
ROOM_TURNS_MAX = 10_000
_ALL = 1 << 20


@compiled
def _remove_record(tx: int, record: int, table: int, timestamp: int) -> None:
    """Take a deleted record out of its tree, unless it was written again since."""
    head = load_acquire(record + R_HEAD)
    version = head & POINTER
    if head & DEAD or version == 0 or ld8(version + V_TIMESTAMP) != timestamp:
        return
    if head & LOCKED or cas(record + R_HEAD, head, head | LOCKED) == 0:
        # Somebody is writing it; should that be aborted, the tombstone is still ours.
        retire(tx, record, RETIRE_TOMBSTONE, 0, timestamp, table)
        return
    if unlink_record(tx, table, record) == 0:
        store_release(record + R_HEAD, head)
        retire(tx, record, RETIRE_TOMBSTONE, 0, timestamp, table)
        return
    store_release(record + R_HEAD, DEAD)
    empty_slot(ld8(tx + C_ENGINE), table, record)
    retire(tx, version, RETIRE_VALUE, size_class(V_VALUE), 0, 0)
    retire(tx, record, RETIRE_RECORD, size_class(record_bytes(table, record)), 0, 0)


@exported
def reclaim(tx: int, budget: int) -> int:
    """Free up to `budget` retired things that nobody can see any more; how many it were."""
    horizon = load_acquire(ld8(tx + C_ENGINE) + HORIZON)
    kept = kept_bytes(ld8(tx + C_ENGINE))
    for done in range(budget):
        entry = first_retired(tx)
        if entry == 0 or ld8(entry) > horizon:
            return done
        timestamp = ld8(entry)
        address = ld8(entry + 8)
        what = ld8(entry + 16) & 255
        index = ld8(entry + 16) >> 8
        table = ld8(entry + 24)
        pop_retired(tx)
        if what == RETIRE_TOMBSTONE:
            _remove_record(tx, address, table, timestamp)
            continue
        if what == RETIRE_NOTHING:
            continue
        pool = POOL_VALUES
        if what == RETIRE_RECORD:
            pool = POOL_RECORDS
        elif what == RETIRE_NODE:
            pool = POOL_NODES
        if ld8(tx + C_FREE_BYTES) < kept:
            release(tx, pool, address, index)
        else:
            release_surplus(tx, pool, address, index)
    return budget


@compiled
def reclaim_some(tx: int) -> None:
    """What is done between two transactions: enough for most of them, and a share of what has
    piled up, so that the queue of one that retires more stays within a multiple of that."""
    reclaim(tx, RECLAIM_BUDGET + (ld8(tx + C_RETIRED_COUNT) >> 3))


@compiled
def reclaim_at_rest(tx: int, budget: int) -> int:
    """`reclaim` for a context between transactions: taking records out of a tree walks it, and
    who walks a tree is active."""
    activate(tx)
    done = reclaim(tx, budget)
    deactivate(tx)
    return done


@compiled
def _pinned_by_snapshot(engine: int, timestamp: int) -> bool:
    """Whether somebody reads at a snapshot older than `timestamp`."""
    contexts = ld8(engine + CONTEXTS)
    for i in range(ld8(engine + CONTEXT_COUNT)):
        if load_acquire(contexts + i * CONTEXT_BYTES + C_SNAPSHOT) < timestamp:
            return True
    return False


@compiled
def _anything_retired(engine: int) -> bool:
    contexts = ld8(engine + CONTEXTS)
    for i in range(ld8(engine + CONTEXT_COUNT)):
        if load_relaxed(contexts + i * CONTEXT_BYTES + C_RETIRED_COUNT) > 0:
            return True
    return False


@compiled
def reclaim_some_at_rest(tx: int) -> None:
    """`reclaim_some` for a context between transactions."""
    reclaim_at_rest(tx, RECLAIM_BUDGET + (ld8(tx + C_RETIRED_COUNT) >> 3))


@compiled
def make_room(tx: int, turn: int) -> bool:
    """After an attempt that found memory full: free what is due; whether to try again.

    What was retired a moment ago is free once everybody who runs has passed a boundary between
    transactions, however long the system lets them wait for a processor, so it pays to wait
    for that; `turn` counts the calls for one transaction. Once it has come to pass, or where
    nobody has anything left to free, or snapshots hold on to it, the memory is truly full.
    """
    engine = ld8(tx + C_ENGINE)
    store_release(tx + C_ACTIVE, NONE)
    if turn == 0:
        st8(tx + C_FULL_SINCE, load_acquire(engine + CLOCK))
        st8(tx + C_FULL_TURNS, 0)
    since = ld8(tx + C_FULL_SINCE)
    next_timestamp(engine)  # What was retired last is due one after the clock of then.
    close(engine)
    freed = reclaim_at_rest(tx, _ALL)
    if turn >= ROOM_TURNS_MAX or not (freed > 0 or _anything_retired(engine)):
        return False
    if load_acquire(engine + HORIZON) >= since or _pinned_by_snapshot(engine, since):
        st8(tx + C_FULL_TURNS, ld8(tx + C_FULL_TURNS) + 1)
        if ld8(tx + C_FULL_TURNS) > ROOM_TURNS:
            return False
    if freed == 0:
        sleep_us(min(20 << min(turn, 10), 1000))
    return True
