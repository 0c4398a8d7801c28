"""Undoing speculation: what is above a final watermark vanishes from all tables (DESIGN §8).

    record ─▶ 31 ─▶ 27 ─▶ 14 ─▶ 9        final = 20        record ─▶ 14 ─▶ 9

A version that was replaced by one that vanishes is the head again: it was queued to be freed at
the timestamp of its replacement, above the final watermark, so it is still there, and it must not
be freed now. Three passes:

    1. the tables: chains lose their beginning; the new head is marked, if it was queued
    2. the queues of retired memory: an entry for a marked version, or for a record with a
       tombstone that vanished, is crossed out
    3. the tables again, only for new heads that are tombstones: their record leaves the tree once
       nobody sees it, and is queued for that if it is not queued any more

A record that has no version left gets a tombstone at the final watermark, and leaves the tree as
any deleted one. Nobody else may run: no worker, no session that writes, nobody who reclaims.
Readers at snapshots may, which are at or below the final watermark: they pass over what vanishes,
and it is freed once they have gone.

A table that was created ahead of the log and vanishes, too, is emptied first (`empty_table`): what
is still queued for its records must not meet another table under its number.
"""

from mako.engine.atomics import ld8, prefetch, st8, store_release
from mako.engine.commit import record_bytes, unlink_record
from mako.engine.finding import empty_slot
from mako.engine.jit import compiled
from mako.engine.keys import BYTES_KIND, PAIR_KIND, WORD_KIND
from mako.engine.layout import (
    C_ENGINE,
    C_OWN,
    C_RETIRED_COUNT,
    C_RETIRED_HEAD,
    C_RETIRED_HEAD_AT,
    CONTEXT_BYTES,
    CONTEXT_COUNT,
    CONTEXTS,
    DEAD,
    LENGTH_MASK,
    LINE,
    N_COUNT,
    N_LEVEL,
    N_NEXT,
    NODE_BYTES,
    POINTER,
    POOL_VALUES,
    R_HEAD,
    RETIRE_NOTHING,
    RETIRE_RECORD,
    RETIRE_TOMBSTONE,
    RETIRE_VALUE,
    RETIRED_BLOCK,
    RETIRED_BYTES,
    RETIRED_FIRST,
    RETIRED_NEXT,
    T_KIND,
    T_ROOT,
    TABLE_BYTES,
    TABLE_MAX,
    TABLES,
    TOMBSTONE,
    V_LENGTH,
    V_MASK,
    V_PREVIOUS,
    V_TIMESTAMP,
    V_VALUE,
)
from mako.engine.memory import allocate_reserved, size_class
from mako.engine.retire import reserve_retired, retire

#: Marks in V_LENGTH that no other code sees: the version is a head again; and it is a tombstone
#: whose record may not be queued any more.
RESURRECTED = 1 << 40
UNQUEUED = 1 << 41

_WORD_CHILDREN = WORD_KIND.children
_PAIR_CHILDREN = PAIR_KIND.children
_BYTES_CHILDREN = BYTES_KIND.children


@compiled
def children_of(kind: int) -> int:
    if kind == 1:
        return _WORD_CHILDREN
    if kind == 2:
        return _PAIR_CHILDREN
    return _BYTES_CHILDREN


@compiled
def first_leaf(table: int, children: int) -> int:
    node = ld8(table + T_ROOT)
    while ld8(node + N_LEVEL) != 0:
        node = ld8(node + children)
    return node


@compiled
def ask_for_versions(leaf: int, children: int) -> None:
    """Ask for all records of a leaf, and then for their newest versions: their misses overlap."""
    following = ld8(leaf + N_NEXT)
    if following != 0:
        for line in range(0, NODE_BYTES, LINE):
            prefetch(following + line)
    count = ld8(leaf + N_COUNT)
    for i in range(count):
        prefetch(ld8(leaf + children + 8 * i) + R_HEAD)
    for i in range(count):
        prefetch(ld8(ld8(leaf + children + 8 * i) + R_HEAD) & POINTER)


@compiled
def _discard_in_record(tx: int, table: int, record: int, final: int) -> int:
    """Cut the chain of a record; versions that went, or -1 when memory is full."""
    head = ld8(record + R_HEAD)
    version = head & POINTER
    if head & DEAD or version == 0 or ld8(version + V_TIMESTAMP) <= final:
        return 0
    newest = version
    gone = 0
    while version != 0 and ld8(version + V_TIMESTAMP) > final:
        gone += 1
        version = ld8(version + V_PREVIOUS)
    if reserve_retired(tx, 4) == 0:
        return -1
    if version == 0:
        version = allocate_reserved(tx, POOL_VALUES, V_VALUE)
        if version == 0:
            return -1
        st8(version + V_TIMESTAMP, final)
        st8(version + V_PREVIOUS, 0)
        st8(version + V_MASK, ld8(tx + C_OWN))  # That nothing is there is what this log says.
        st8(version + V_LENGTH, TOMBSTONE)
        retire(tx, record, RETIRE_TOMBSTONE, 0, final, table)
    else:
        marks = RESURRECTED
        if ld8(version + V_LENGTH) & TOMBSTONE:
            marks |= UNQUEUED
        st8(version + V_LENGTH, ld8(version + V_LENGTH) | marks)
    store_release(record + R_HEAD, version)
    # The ones between are queued already, by the timestamps of what replaced them.
    size = V_VALUE + (ld8(newest + V_LENGTH) & LENGTH_MASK)
    retire(tx, newest, RETIRE_VALUE, size_class(size), 0, 0)
    return gone


@compiled
def _discard_in_table(tx: int, table: int, final: int) -> int:
    kind = ld8(table + T_KIND)
    children = children_of(kind)
    leaf = first_leaf(table, children)
    gone = 0
    while leaf != 0:
        ask_for_versions(leaf, children)
        for i in range(ld8(leaf + N_COUNT)):
            record = ld8(leaf + children + 8 * i)
            number = _discard_in_record(tx, table, record, final)
            if number < 0:
                return -1
            gone += number
        leaf = ld8(leaf + N_NEXT)
    return gone


@compiled
def queued(block: int, at: int) -> tuple[int, int]:
    """Block and offset of the entry of a queue that is at `at` in `block`, or begins the next."""
    if at + RETIRED_BYTES > RETIRED_BLOCK:
        return ld8(block + RETIRED_NEXT), RETIRED_FIRST
    return block, at


@compiled
def _cross_out(context: int, final: int) -> None:
    """Pass 2 over the queue of one context."""
    block = ld8(context + C_RETIRED_HEAD)
    at = ld8(context + C_RETIRED_HEAD_AT)
    for _ in range(ld8(context + C_RETIRED_COUNT)):
        block, at = queued(block, at)
        entry = block + at
        at += RETIRED_BYTES
        what = ld8(entry + 16) & 255
        address = ld8(entry + 8)
        if what == RETIRE_VALUE and ld8(entry) > final:
            # Not every value is a version; a key that looks like a marked one is lost memory.
            if ld8(address + V_TIMESTAMP) <= final and ld8(address + V_LENGTH) & RESURRECTED:
                st8(entry + 16, RETIRE_NOTHING)
        elif what == RETIRE_TOMBSTONE:
            version = ld8(address + R_HEAD) & POINTER
            if ld8(entry) > final:
                st8(entry + 16, RETIRE_NOTHING)  # The tombstone itself has vanished.
            elif (
                version != 0
                and ld8(version + V_LENGTH) & UNQUEUED
                # A record may be queued for an older tombstone, too, which removes nothing.
                and ld8(version + V_TIMESTAMP) == ld8(entry)
            ):
                st8(version + V_LENGTH, ld8(version + V_LENGTH) & ~UNQUEUED)


@compiled
def clear_marks(tx: int, table: int) -> int:
    """Pass 3: 1, or 0 when memory is full."""
    children = children_of(ld8(table + T_KIND))
    leaf = first_leaf(table, children)
    while leaf != 0:
        ask_for_versions(leaf, children)
        for i in range(ld8(leaf + N_COUNT)):
            record = ld8(leaf + children + 8 * i)
            version = ld8(record + R_HEAD) & POINTER
            if version == 0:
                continue
            length = ld8(version + V_LENGTH)
            if length & (RESURRECTED | UNQUEUED) == 0:
                continue
            if length & UNQUEUED and reserve_retired(tx, 2) == 0:
                return 0
            st8(version + V_LENGTH, length & ~(RESURRECTED | UNQUEUED))
            if length & UNQUEUED:
                retire(tx, record, RETIRE_TOMBSTONE, 0, ld8(version + V_TIMESTAMP), table)
        leaf = ld8(leaf + N_NEXT)
    return 1


@compiled
def discard_above(tx: int, final: int) -> int:
    """Remove every version above `final`; how many they were, or -1 when memory is full: then
    it is half done, and the engine of no use any more."""
    engine = ld8(tx + C_ENGINE)
    final = max(final, 1)  # Tombstones get it: 0 is the present to `retire`, and nobody draws 1.
    gone = 0
    full = False
    for number in range(TABLE_MAX):
        table = engine + TABLES + number * TABLE_BYTES
        if ld8(table + T_KIND) != 0:
            taken = _discard_in_table(tx, table, final)
            if taken < 0:
                full = True
                break
            gone += taken
    if gone == 0 and not full:
        return 0
    contexts = ld8(engine + CONTEXTS)
    for i in range(ld8(engine + CONTEXT_COUNT)):
        _cross_out(contexts + i * CONTEXT_BYTES, final)
    for number in range(TABLE_MAX):
        table = engine + TABLES + number * TABLE_BYTES
        if ld8(table + T_KIND) != 0 and clear_marks(tx, table) == 0:
            full = True
    return -1 if full else gone


@compiled
def _cross_out_table(context: int, table: int) -> None:
    """Forget the tombstones of a table in the queue of one context."""
    block = ld8(context + C_RETIRED_HEAD)
    at = ld8(context + C_RETIRED_HEAD_AT)
    for _ in range(ld8(context + C_RETIRED_COUNT)):
        block, at = queued(block, at)
        entry = block + at
        at += RETIRED_BYTES
        if ld8(entry + 16) & 255 == RETIRE_TOMBSTONE and ld8(entry + 24) == table:
            st8(entry + 16, RETIRE_NOTHING)


@compiled
def empty_table(tx: int, table: int) -> None:
    """Take every record out of a table in which nobody sees a row. Who runs is as for
    `discard_above`. The memory of what does not fit into the queue is lost."""
    children = children_of(ld8(table + T_KIND))
    leaf = first_leaf(table, children)
    while ld8(leaf + N_COUNT) > 0:
        record = ld8(leaf + children)
        version = ld8(record + R_HEAD) & POINTER
        if unlink_record(tx, table, record) == 0:
            break  # Nobody holds its leaf: it cannot be.
        store_release(record + R_HEAD, DEAD)
        empty_slot(ld8(tx + C_ENGINE), table, record)
        if version != 0:
            size = V_VALUE + (ld8(version + V_LENGTH) & LENGTH_MASK)
            retire(tx, version, RETIRE_VALUE, size_class(size), 0, 0)
        retire(tx, record, RETIRE_RECORD, size_class(record_bytes(table, record)), 0, 0)
        leaf = first_leaf(table, children)
    engine = ld8(tx + C_ENGINE)
    contexts = ld8(engine + CONTEXTS)
    for i in range(ld8(engine + CONTEXT_COUNT)):
        _cross_out_table(contexts + i * CONTEXT_BYTES, table)
