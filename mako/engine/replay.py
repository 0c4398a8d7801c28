"""Applying entries of the log to an engine (docs/log-format.md, "Applying entries").

Of two writes to a key the one with the greater timestamp wins, whatever the order in the log, so
a chain of versions stays in timestamp order: a write goes in front of the first version that is
older. Nothing is put behind a version at or below the horizon: nobody can look there, and what
was there may be free memory.

    R1  An entry is checked wholly, against the format and the tables, before its first write.
    R2  While an engine follows a log its floor is the closed timestamp of the last entry, so
        `close` publishes that and no more, however far the clock is ahead.
    R3  What was at or below that closed timestamp is in the engine already: it is passed over.
        So an entry may be applied twice, and again after it ran out of memory half-way.
    R4  A delete is remembered as a tombstone, also of a key that is not there, until the closed
        timestamp has passed it: an older write may come later in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mako.engine.ahead import ASK, LOOK_UP, fetch_record, fetch_version
from mako.engine.atomics import (
    cas,
    fetch_max,
    ld2,
    ld4,
    ld8,
    ldu8,
    load_acquire,
    memcpy,
    pause,
    st8,
    store_release,
)
from mako.engine.index import BYTES_INDEX, FULL, LINKED, LOST, PAIR_INDEX, WORD_INDEX, Index
from mako.engine.jit import compiled, named
from mako.engine.keys import keyed
from mako.engine.layout import (
    AHEAD_MAX,
    C_AHEAD_COUNT,
    C_ENGINE,
    C_HINTS,
    C_KEY,
    C_LINKED,
    C_ORDER,
    C_OWN,
    C_PROGRESS,
    CLOCK,
    DEAD,
    HINT_BYTES,
    HINTS,
    HORIZON,
    LENGTH_MASK,
    LOCKED,
    POINTER,
    POOL_RECORDS,
    POOL_VALUES,
    R_HEAD,
    RETIRE_TOMBSTONE,
    RETIRE_VALUE,
    SPIN_MAX,
    T_KIND,
    T_ROW,
    TABLE_BYTES,
    TABLES,
    TOMBSTONE,
    V_LENGTH,
    V_MASK,
    V_PREVIOUS,
    V_TIMESTAMP,
    V_VALUE,
)
from mako.engine.memory import allocate, allocate_reserved, release, size_class
from mako.engine.reclaim import reclaim
from mako.engine.retire import reserve_retired, retire
from mako.ids import Outcome
from mako.log_format import (
    DEPENDENCIES_BYTES,
    FLAG_DEPENDENCIES,
    HEADER_BYTES,
    HEADER_COUNT,
    TABLE_DELETE,
    TABLE_ID_MASK,
    TRANSACTION_BYTES,
    TRANSACTION_COUNT,
    TRANSACTION_FLAGS,
    TRANSACTION_LENGTH,
)

COMMITTED = int(Outcome.COMMITTED)
_LOCKED = int(Outcome.LOCKED)
_OUT_OF_MEMORY = int(Outcome.OUT_OF_MEMORY)

#: Writes for which a replayer has asked ahead, and how many of them are between two steps.
_LEAD = 16
_STEP = 5

#: What `check_tables` found wrong with a write.
NO_TABLE, KEY_SIZE, VALUE_SIZE = 1, 2, 3


@compiled
def check_tables(engine: int, entry: int, size: int) -> tuple[int, int]:
    """Whether the tables of all writes are there and fit them: (0, 0), or (what, offset of the
    write)."""
    at = HEADER_BYTES
    for _ in range(ld4(entry + HEADER_COUNT)):
        flags = ld2(entry + at + TRANSACTION_FLAGS)
        count = ld2(entry + at + TRANSACTION_COUNT)
        at += TRANSACTION_BYTES
        if flags & FLAG_DEPENDENCIES:
            at += DEPENDENCIES_BYTES
        for _ in range(count):
            key_size = ld2(entry + at)
            value_size = ld4(entry + at + 2 + key_size)
            number = ld2(entry + at + 6 + key_size + value_size)
            table = engine + TABLES + (number & TABLE_ID_MASK) * TABLE_BYTES
            kind = ld8(table + T_KIND)
            if kind == 0:
                return NO_TABLE, at
            if kind != 3:
                if key_size != 8 * kind:
                    return KEY_SIZE, at
                if number & TABLE_DELETE == 0 and value_size != ld8(table + T_ROW):
                    return VALUE_SIZE, at
            at += 8 + key_size + value_size
    return 0, 0


@compiled
def logged_version(tx: int, timestamp: int, mask: int, deleted: int, value: int, size: int) -> int:
    """A version with the value of a write, or its tombstone; 0 when memory is full."""
    if deleted:
        # Even a full memory takes deletes: they are the way out of it.
        version = allocate_reserved(tx, POOL_VALUES, V_VALUE)
    else:
        version = allocate(tx, POOL_VALUES, V_VALUE + size)
    if version != 0:
        st8(version + V_TIMESTAMP, timestamp)
        st8(version + V_PREVIOUS, 0)
        st8(version + V_MASK, mask)
        st8(version + V_LENGTH, TOMBSTONE if deleted else size)
        if size != 0:
            memcpy(version + V_VALUE, value, size)
    return version


@compiled
def retire_version(tx: int, version: int, replaced_at: int) -> None:
    """Free `version` once nobody looks at anything older than `replaced_at`."""
    size = V_VALUE + (ld8(version + V_LENGTH) & LENGTH_MASK)
    retire(tx, version, RETIRE_VALUE, size_class(size), replaced_at, 0)


@compiled
def free_logged(tx: int, version: int) -> None:
    """Give back a version that was never installed."""
    size = V_VALUE + (ld8(version + V_LENGTH) & LENGTH_MASK)
    release(tx, POOL_VALUES, version, size_class(size))


@compiled
def put_in_chain(tx: int, record: int, version: int, table: int) -> int:
    """Put `version` where its timestamp belongs in the chain of `record`: COMMITTED, also if it
    is not needed and was given back, or LOCKED if the record is not to be had."""
    timestamp = ld8(version + V_TIMESTAMP)
    head = 0
    for spin in range(SPIN_MAX):
        head = load_acquire(record + R_HEAD)
        if head & DEAD:
            return _LOCKED
        if head & LOCKED == 0 and cas(record + R_HEAD, head, head | LOCKED):
            break
        if spin == SPIN_MAX - 1:
            return _LOCKED
        pause()
    newest = head & POINTER
    if newest == 0 or ld8(newest + V_TIMESTAMP) < timestamp:
        st8(version + V_PREVIOUS, newest)
        tombstone = ld8(version + V_LENGTH) & TOMBSTONE
        store_release(record + R_HEAD, version)
        if newest != 0:
            retire_version(tx, newest, timestamp)
        if tombstone:
            retire(tx, record, RETIRE_TOMBSTONE, 0, timestamp, table)
        return COMMITTED
    horizon = load_acquire(ld8(tx + C_ENGINE) + HORIZON)
    newer = newest
    while ld8(newer + V_TIMESTAMP) > horizon:
        older = ld8(newer + V_PREVIOUS)
        if older == 0 or ld8(older + V_TIMESTAMP) <= timestamp:
            if ld8(newer + V_TIMESTAMP) == timestamp:
                break  # It is there: applied before.
            if older != 0 and ld8(older + V_TIMESTAMP) == timestamp:
                break
            st8(version + V_PREVIOUS, older)
            # Who walks the chain meanwhile sees it with or without the version, both whole.
            store_release(newer + V_PREVIOUS, version)
            retire_version(tx, version, ld8(newer + V_TIMESTAMP))
            store_release(record + R_HEAD, head)
            return COMMITTED
        newer = older
    free_logged(tx, version)
    store_release(record + R_HEAD, head)
    return COMMITTED


@dataclass(frozen=True, slots=True)
class Replaying:
    """(tx, table, key, version) -> COMMITTED, LOCKED or OUT_OF_MEMORY; the version is installed
    or given back."""

    install: Callable[..., int]


def _make_replaying(index: Index) -> Replaying:
    kind = index.kind
    get, get_in, link = index.get, index.get_in, index.link
    record_bytes, fill_record, of_record = kind.record_bytes, kind.fill_record, kind.of_record

    def add_record(
        tx: int, table: int, key: Any, version: int, leaf: int, leaf_version: int
    ) -> int:
        """Link a new record with `version`: 0, the record that came first, LOST or FULL."""
        size = record_bytes(key)
        record = allocate(tx, POOL_RECORDS, size)
        if record == 0:
            return FULL
        st8(record + R_HEAD, version)
        fill_record(record, key)
        # The tree keeps the record's own copy of the key.
        found = link(tx, table, of_record(record), record, leaf, leaf_version)
        if found != LINKED:
            store_release(record + R_HEAD, DEAD)
            release(tx, POOL_RECORDS, record, size_class(size))
        elif ld8(version + V_LENGTH) & TOMBSTONE:
            timestamp = ld8(version + V_TIMESTAMP)
            retire(tx, record, RETIRE_TOMBSTONE, 0, timestamp, table)
        return found

    add_record = compiled(named(add_record, f"{kind.name}.add_record"))
    look_up = LOOK_UP.get(kind.kind)

    def find_unasked(tx: int, table: int, key: Any) -> tuple[int, int, int]:
        return get(table, key)

    find = look_up or compiled(named(find_unasked, f"{kind.name}.find"))

    def install(tx: int, table: int, key: Any, version: int) -> int:
        hint = tx + C_HINTS + (table // TABLE_BYTES) % HINTS * HINT_BYTES
        for _ in range(SPIN_MAX):
            # Writes of one transaction are often neighbours: no descent for those.
            leaf = ld8(hint + 8)
            leaf_version = ld8(hint + 16)
            covers = False
            record = 0
            if ld8(hint) == table:
                covers, record = get_in(leaf, leaf_version, key)
            if not covers:
                record, leaf, leaf_version = find(tx, table, key)
                if record == LOST:
                    continue
                st8(hint, table)
                st8(hint + 8, leaf)
                st8(hint + 16, leaf_version)
            if record == 0:
                record = add_record(tx, table, key, version, leaf, leaf_version)
                if record == LINKED:
                    st8(hint + 8, ld8(tx + C_LINKED))
                    st8(hint + 16, ld8(tx + C_LINKED + 16))
                    return COMMITTED
                if record == FULL:
                    free_logged(tx, version)
                    return _OUT_OF_MEMORY
                if record == LOST:
                    st8(hint, 0)
                    continue
            if put_in_chain(tx, record, version, table) == COMMITTED:
                return COMMITTED
            st8(hint, 0)  # The record is leaving the tree: look again.
            pause()
        free_logged(tx, version)
        return _LOCKED

    return Replaying(install=keyed(kind, install, "install"))


WORD_REPLAYING = _make_replaying(WORD_INDEX)
PAIR_REPLAYING = _make_replaying(PAIR_INDEX)
BYTES_REPLAYING = _make_replaying(BYTES_INDEX)

_word_install = WORD_REPLAYING.install
_pair_install = PAIR_REPLAYING.install
_bytes_install = BYTES_REPLAYING.install
_word_decode = WORD_INDEX.kind.decode
_pair_decode = PAIR_INDEX.kind.decode
_bytes_decode = BYTES_INDEX.kind.decode
_word_ask, _pair_ask = ASK[1], ASK[2]


@compiled
def _apply_write(tx: int, at: int, timestamp: int, mask: int) -> int:
    """Apply the write at address `at`; its Outcome."""
    key_size = ld2(at)
    key = at + 2
    value_size = ld4(key + key_size)
    value = key + key_size + 4
    number = ld2(value + value_size)
    if reserve_retired(tx, 4) == 0:
        return _OUT_OF_MEMORY
    deleted = number & TABLE_DELETE
    version = logged_version(tx, timestamp, mask, deleted, value, value_size)
    if version == 0:
        return _OUT_OF_MEMORY
    table = ld8(tx + C_ENGINE) + TABLES + (number & TABLE_ID_MASK) * TABLE_BYTES
    kind = ld8(table + T_KIND)
    if kind == 1:
        return _word_install(tx, table, _word_decode(key, key_size, tx + C_KEY), version)
    if kind == 2:
        return _pair_install(tx, table, _pair_decode(key, key_size, tx + C_KEY), version)
    return _bytes_install(tx, table, _bytes_decode(key, key_size, tx + C_KEY), version)


@compiled
def _ask_for(tx: int, at: int) -> int:
    """Ask for what the write at `at` will need; where the next one begins.

    A step is taken for three writes at a time: the leaf of this one, the record of an earlier
    one, the newest version of a still earlier one. So their misses overlap.
    """
    key_size = ld2(at)
    key = at + 2
    value_size = ld4(key + key_size)
    after = key + key_size + 4 + value_size + 2
    table = ld8(tx + C_ENGINE) + TABLES + (ld2(after - 2) & TABLE_ID_MASK) * TABLE_BYTES
    kind = ld8(table + T_KIND)
    entry = 0
    if kind == 1:
        entry = _word_ask(tx, table, _word_decode(key, key_size, tx + C_KEY))
    elif kind == 2:
        entry = _pair_ask(tx, table, _pair_decode(key, key_size, tx + C_KEY))
    count = ld8(tx + C_AHEAD_COUNT)
    st8(tx + C_AHEAD_COUNT, count + 1)
    st8(tx + C_ORDER + 8 * (count % AHEAD_MAX), entry)
    if count >= _STEP:
        earlier = ld8(tx + C_ORDER + 8 * ((count - _STEP) % AHEAD_MAX))
        if earlier != 0:
            fetch_record(tx, earlier)
    if count >= 2 * _STEP:
        earlier = ld8(tx + C_ORDER + 8 * ((count - 2 * _STEP) % AHEAD_MAX))
        if earlier != 0:
            fetch_version(earlier)
    return after


@compiled
def _first_write(at: int) -> int:
    """Where the writes of the transaction at `at` begin."""
    if ld2(at + TRANSACTION_FLAGS) & FLAG_DEPENDENCIES:
        return at + TRANSACTION_BYTES + DEPENDENCIES_BYTES
    return at + TRANSACTION_BYTES


@compiled
def _forget_asked(tx: int) -> None:
    """Nothing that was noted for an earlier entry holds for this one."""
    st8(tx + C_PROGRESS, ld8(tx + C_PROGRESS) + 1)
    st8(tx + C_AHEAD_COUNT, 0)
    for i in range(HINTS):
        st8(tx + C_HINTS + i * HINT_BYTES, 0)


@compiled
def apply_transactions(tx: int, entry: int, above: int, up_to: int) -> tuple[int, int, int]:
    """Apply the transactions with above < timestamp <= up_to of an entry that passed all checks:
    (Outcome, transactions applied, writes applied)."""
    engine = ld8(tx + C_ENGINE)
    own = ld8(tx + C_OWN)
    transactions = 0
    writes = 0
    newest = 0
    outcome = COMMITTED
    _forget_asked(tx)
    at = entry + HEADER_BYTES
    count = ld4(entry + HEADER_COUNT)
    # The cursor that runs ahead: transactions and writes left to it, and where it is.
    asked_transactions = count
    asked_writes = 0
    asked = at
    lead = 0
    for _ in range(count):
        timestamp = ldu8(at)
        left = ld2(at + TRANSACTION_COUNT)
        mask = own
        if ld2(at + TRANSACTION_FLAGS) & FLAG_DEPENDENCIES:
            mask = ldu8(at + TRANSACTION_BYTES)
        length = ld4(at + TRANSACTION_LENGTH)
        at = _first_write(at)
        end = at + length
        wanted = above < timestamp <= up_to
        if wanted:
            newest = max(newest, timestamp)
        for _ in range(left):
            while lead < _LEAD and (asked_writes > 0 or asked_transactions > 0):
                if asked_writes == 0:
                    asked_transactions -= 1
                    asked_writes = ld2(asked + TRANSACTION_COUNT)
                    asked = _first_write(asked)
                asked = _ask_for(tx, asked)
                asked_writes -= 1
                lead += 1
            lead -= 1
            if wanted:
                outcome = _apply_write(tx, at, timestamp, mask)
                if outcome != COMMITTED:
                    break
                writes += 1
            at += 8 + ld2(at) + ld4(at + 2 + ld2(at))
        if outcome != COMMITTED:
            break
        if wanted:
            transactions += 1
            reclaim(tx, 2 * left + 2)
        at = end
    # Whoever has this context next asks for rows of its own.
    st8(tx + C_AHEAD_COUNT, 0)
    fetch_max(engine + CLOCK, newest)
    return outcome, transactions, writes


@compiled
def raise_clock(engine: int, timestamp: int) -> None:
    """Draw no timestamp at or below `timestamp` from now on."""
    fetch_max(engine + CLOCK, timestamp)
