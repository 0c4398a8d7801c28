"""Undoing what depends on another partition, which has lost what was above a final watermark F.

    record ─▶ 31 {0,2} ─▶ 27 {0,2} ─▶ 24 {0} ─▶ 9        partition 2 lost what is above 20
                 goes        goes      stays

A version goes if its timestamp is above F and its mask has the bit of that partition. Whoever
overwrote it inherited the bit and has a greater timestamp, so what goes is the newest part of a
chain (I3 of DESIGN §8). A version further down that should go, too, would mean that a mask was not
inherited: that is checked, as far down as F, and ends the process.

There is one exception: a deposed leader that has not come to the epoch entry behind its own. What
it executed after it had undone this very loss is still in its memory when the log, which it now
follows, brings back what was lost, below that, and then says that it is lost (`ahead`). Versions in
the middle were put there by the replay, which left the queues as they were, and so they are
unlinked and nothing else.

It is `mako.engine.discard` with another question, and the same three passes: chains are cut and
new heads marked, queues of retired memory are brought in line, marks are cleared. What differs:

- A version that stays, and is a head again, may be above F: its place in a queue is found by the
  timestamp of what replaced it.
- The same leader goes on. Records are still locked by transactions that are prepared. If one of
  them wrote over what goes it is doomed itself, and must have been released before.

The first and the third pass go through the entries of the log that hold what is above the stable
timestamp, and through the rings, rather than through all tables: so the time that it takes does
not depend on how much is stored. Nobody else may run but readers at snapshots. F is at or above
the horizon, since it is at or above every watermark that was counted.
"""

from __future__ import annotations

from mako.engine.atomics import ld2, ld4, ld8, ldu8, load_acquire, shl, st8, store_release
from mako.engine.closing import activate, deactivate
from mako.engine.discard import (
    RESURRECTED,
    UNQUEUED,
    ask_for_versions,
    children_of,
    clear_marks,
    first_leaf,
    queued,
)
from mako.engine.index import BYTES_INDEX, LOST, PAIR_INDEX, WORD_INDEX
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_ENGINE,
    C_KEY,
    C_OWN,
    C_RETIRED_COUNT,
    C_RETIRED_HEAD,
    C_RETIRED_HEAD_AT,
    CONTEXT_BYTES,
    CONTEXT_COUNT,
    CONTEXTS,
    DEAD,
    HORIZON,
    LENGTH_MASK,
    LOCKED,
    N_COUNT,
    N_NEXT,
    PAIR_KEYS,
    POINTER,
    POOL_VALUES,
    R_HEAD,
    RETIRE_NOTHING,
    RETIRE_TOMBSTONE,
    RETIRE_VALUE,
    RETIRED_BYTES,
    SPIN_MAX,
    T_KIND,
    TABLE_BYTES,
    TABLE_MAX,
    TABLES,
    TOMBSTONE,
    V_LENGTH,
    V_MASK,
    V_PREVIOUS,
    V_TIMESTAMP,
    V_VALUE,
    WORD_KEYS,
)
from mako.engine.memory import allocate_reserved, size_class
from mako.engine.retire import reserve_retired, retire
from mako.log_format import (
    DEPENDENCIES_BYTES,
    FLAG_DEPENDENCIES,
    KEY_LENGTH_BYTES,
    TABLE_ID_MASK,
    TRANSACTION_BYTES,
    TRANSACTION_COUNT,
    TRANSACTION_FLAGS,
    TRANSACTION_LENGTH,
    VALUE_LENGTH_BYTES,
)
from mako.log_format import TABLE_BYTES as TABLE_FIELD

#: Instead of a number of versions: memory is full, and it is half done.
FULL = -1
#: A mask was not inherited.
NOT_INHERITED = -2
#: A record is locked by a transaction that wrote over what goes.
HELD = -3
#: What goes is at or below the horizon: somebody may have seen it, and what it replaced is gone.
TOO_LATE = -4

_MARKS = RESURRECTED | UNQUEUED
_KNOWN_BITS = LENGTH_MASK | TOMBSTONE | _MARKS

_word_get = WORD_INDEX.get
_pair_get = PAIR_INDEX.get
_bytes_get = BYTES_INDEX.get
_word_decode = WORD_INDEX.kind.decode
_pair_decode = PAIR_INDEX.kind.decode
_bytes_decode = BYTES_INDEX.kind.decode


@compiled
def _goes(version: int, bit: int, final: int) -> bool:
    return ld8(version + V_TIMESTAMP) > final and ld8(version + V_MASK) & bit != 0


@compiled
def _unlink_below(newer: int, bit: int, final: int, horizon: int) -> int:
    """Take what goes out of a chain behind its head; versions that went."""
    gone = 0
    version = ld8(newer + V_PREVIOUS)
    while version != 0 and ld8(version + V_TIMESTAMP) > max(final, horizon):
        older = ld8(version + V_PREVIOUS)
        if _goes(version, bit, final):
            store_release(newer + V_PREVIOUS, older)
            gone += 1
        else:
            newer = version
        version = older
    return gone


@compiled
def _undo_in_record(tx: int, table: int, record: int, bit: int, final: int, ahead: int) -> int:
    """Cut the chain of a record; versions that went, or one of the codes."""
    head = load_acquire(record + R_HEAD)
    version = head & POINTER
    if head & DEAD or version == 0 or ld8(version + V_TIMESTAMP) <= final:
        return 0
    horizon = load_acquire(ld8(tx + C_ENGINE) + HORIZON)
    newest = version
    gone = 0
    while version != 0 and _goes(version, bit, final):
        if ld8(version + V_TIMESTAMP) <= horizon:
            return TOO_LATE
        gone += 1
        version = ld8(version + V_PREVIOUS)
    below = 0
    if ahead and version != 0 and ld8(version + V_TIMESTAMP) > final:
        below = _unlink_below(version, bit, final, horizon)
    older = version
    while older != 0 and ld8(older + V_TIMESTAMP) > max(final, horizon):
        if _goes(older, bit, final):
            return NOT_INHERITED
        older = ld8(older + V_PREVIOUS)
    if gone == 0:
        return below
    if head & LOCKED:
        return HELD
    if reserve_retired(tx, 4) == 0:
        return FULL
    if version == 0:
        # Whoever reads it depends on this partition's log, which says that nothing is there.
        version = allocate_reserved(tx, POOL_VALUES, V_VALUE)
        if version == 0:
            return FULL
        st8(version + V_TIMESTAMP, final)
        st8(version + V_PREVIOUS, 0)
        st8(version + V_MASK, ld8(tx + C_OWN))
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
    return gone + below


@compiled
def _clear_in_record(tx: int, table: int, record: int) -> int:
    """Pass 3 for one record: 1, or 0 when memory is full."""
    version = ld8(record + R_HEAD) & POINTER
    if version == 0:
        return 1
    length = ld8(version + V_LENGTH)
    if length & _MARKS == 0:
        return 1
    if length & UNQUEUED and reserve_retired(tx, 2) == 0:
        return 0
    st8(version + V_LENGTH, length & ~_MARKS)
    if length & UNQUEUED:
        retire(tx, record, RETIRE_TOMBSTONE, 0, ld8(version + V_TIMESTAMP), table)
    return 1


# --- Through the log ---------------------------------------------------------------------------


@compiled
def record_of(tx: int, table: int, key: int, size: int) -> int:
    """The record with a key of the log; 0: there is none."""
    kind = ld8(table + T_KIND)
    record = LOST
    for _ in range(SPIN_MAX):  # Nobody changes the tree: the first time is good.
        if kind == WORD_KEYS:
            record, _, _ = _word_get(table, _word_decode(key, size, tx + C_KEY))
        elif kind == PAIR_KEYS:
            record, _, _ = _pair_get(table, _pair_decode(key, size, tx + C_KEY))
        elif kind == 0:
            record = 0
        else:
            record, _, _ = _bytes_get(table, _bytes_decode(key, size, tx + C_KEY))
        if record != LOST:
            return record
    return 0


@compiled
def undo_logged(
    tx: int, data: int, size: int, partition: int, final: int, ahead: int, clear: int
) -> int:
    """Pass 1, or 3 if `clear`, over the writes of the transactions in the `size` bytes at `data`,
    as they are in an entry or a ring. Versions that went, or one of the codes."""
    engine = ld8(tx + C_ENGINE)
    bit = shl(1, partition)
    gone = 0
    at = data
    while at < data + size:
        count = ld2(at + TRANSACTION_COUNT)
        timestamp = ldu8(at)
        flags = ld2(at + TRANSACTION_FLAGS)
        length = ld4(at + TRANSACTION_LENGTH)
        mask = 0
        at += TRANSACTION_BYTES
        if flags & FLAG_DEPENDENCIES:
            mask = ldu8(at)
            at += DEPENDENCIES_BYTES
        following = at + length
        if timestamp > final and mask & bit != 0:
            for _ in range(count):
                key_size = ld2(at)
                key = at + KEY_LENGTH_BYTES
                value_size = ld4(key + key_size)
                at = key + key_size + VALUE_LENGTH_BYTES + value_size
                table = engine + TABLES + (ld2(at) & TABLE_ID_MASK) * TABLE_BYTES
                at += TABLE_FIELD
                record = record_of(tx, table, key, key_size)
                if record == 0:
                    continue
                if clear:
                    if _clear_in_record(tx, table, record) == 0:
                        return FULL
                else:
                    number = _undo_in_record(tx, table, record, bit, final, ahead)
                    if number < 0:
                        return number
                    gone += number
        at = following
    return gone


# --- Through all tables ------------------------------------------------------------------------


@compiled
def _undo_in_table(tx: int, table: int, bit: int, final: int, ahead: int) -> int:
    children = children_of(ld8(table + T_KIND))
    leaf = first_leaf(table, children)
    gone = 0
    while leaf != 0:
        ask_for_versions(leaf, children)
        for i in range(ld8(leaf + N_COUNT)):
            record = ld8(leaf + children + 8 * i)
            number = _undo_in_record(tx, table, record, bit, final, ahead)
            if number < 0:
                return number
            gone += number
        leaf = ld8(leaf + N_NEXT)
    return gone


@compiled
def undo_in_tables(tx: int, bit: int, final: int, ahead: int) -> int:
    """Pass 1 over everything. Versions that went, or one of the codes."""
    engine = ld8(tx + C_ENGINE)
    gone = 0
    for number in range(TABLE_MAX):
        table = engine + TABLES + number * TABLE_BYTES
        if ld8(table + T_KIND) != 0:
            taken = _undo_in_table(tx, table, bit, final, ahead)
            if taken < 0:
                return taken
            gone += taken
    return gone


@compiled
def clear_in_tables(tx: int) -> int:
    """Pass 3 over everything: 0, or FULL."""
    engine = ld8(tx + C_ENGINE)
    for number in range(TABLE_MAX):
        table = engine + TABLES + number * TABLE_BYTES
        if ld8(table + T_KIND) != 0 and clear_marks(tx, table) == 0:
            return FULL
    return 0


# --- Pass 2 ------------------------------------------------------------------------------------


@compiled
def _cross_out_dependent(context: int, final: int) -> None:
    block = ld8(context + C_RETIRED_HEAD)
    at = ld8(context + C_RETIRED_HEAD_AT)
    for _ in range(ld8(context + C_RETIRED_COUNT)):
        block, at = queued(block, at)
        entry = block + at
        at += RETIRED_BYTES
        what = ld8(entry + 16) & 255
        due = ld8(entry)
        address = ld8(entry + 8)
        if what == RETIRE_VALUE and due > final:
            # Not every value is a version; a key that looks like a marked one is lost memory.
            length = ld8(address + V_LENGTH)
            if length & RESURRECTED and length & ~_KNOWN_BITS == 0:
                if ld8(address + V_TIMESTAMP) < due:
                    st8(entry + 16, RETIRE_NOTHING)
        elif what == RETIRE_TOMBSTONE:
            version = ld8(address + R_HEAD) & POINTER
            # One whose tombstone has vanished is passed over when it is due, as if written over.
            if version != 0 and ld8(version + V_TIMESTAMP) == due:
                st8(version + V_LENGTH, ld8(version + V_LENGTH) & ~UNQUEUED)


@compiled
def cross_out_dependent(tx: int, final: int) -> None:
    """Pass 2, over the queues of all contexts."""
    engine = ld8(tx + C_ENGINE)
    contexts = ld8(engine + CONTEXTS)
    for i in range(ld8(engine + CONTEXT_COUNT)):
        _cross_out_dependent(contexts + i * CONTEXT_BYTES, final)


@compiled
def discard_dependent(tx: int, partition: int, final: int, ahead: int) -> int:
    """Remove every version above `final` whose mask has `partition`, from all tables; how many
    they were, or one of the codes."""
    final = max(final, 1)  # Tombstones get it: 0 is the present to `retire`, and nobody draws 1.
    activate(tx)
    gone = undo_in_tables(tx, shl(1, partition), final, ahead)
    if gone > 0:
        cross_out_dependent(tx, final)
        if clear_in_tables(tx) < 0:
            gone = FULL
    deactivate(tx)
    return gone
