"""Reclamation: what was replaced, unlinked or deleted goes back to the free lists.

Each context frees what it retired itself, a little between any two transactions; memory it
has just freed is memory it writes next, while it is still in its cache.
"""

from mako.engine.atomics import cas, ld8, load_acquire, store_release
from mako.engine.closing import activate, deactivate
from mako.engine.commit import record_bytes, unlink_record
from mako.engine.jit import compiled, exported
from mako.engine.layout import (
    C_ENGINE,
    C_FREE_BYTES,
    DEAD,
    HORIZON,
    LOCKED,
    POINTER,
    POOL_NODES,
    POOL_RECORDS,
    POOL_VALUES,
    R_HEAD,
    RETIRE_NODE,
    RETIRE_RECORD,
    RETIRE_TOMBSTONE,
    RETIRE_VALUE,
    V_TIMESTAMP,
    V_VALUE,
)
from mako.engine.memory import KEPT_BYTES, release, release_surplus, size_class
from mako.engine.retire import first_retired, pop_retired, retire


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
    retire(tx, version, RETIRE_VALUE, size_class(V_VALUE), 0, 0)
    retire(tx, record, RETIRE_RECORD, size_class(record_bytes(table, record)), 0, 0)


@exported
def reclaim(tx: int, budget: int) -> int:
    """Free up to `budget` retired things that nobody can see any more; how many it were."""
    horizon = load_acquire(ld8(tx + C_ENGINE) + HORIZON)
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
        pool = POOL_VALUES
        if what == RETIRE_RECORD:
            pool = POOL_RECORDS
        elif what == RETIRE_NODE:
            pool = POOL_NODES
        if ld8(tx + C_FREE_BYTES) < KEPT_BYTES:
            release(tx, pool, address, index)
        else:
            release_surplus(tx, pool, address, index)
    return budget


@compiled
def reclaim_at_rest(tx: int, budget: int) -> int:
    """The same for a context between transactions: taking records out of a tree walks it, and
    who walks a tree is active."""
    activate(tx)
    done = reclaim(tx, budget)
    deactivate(tx)
    return done
