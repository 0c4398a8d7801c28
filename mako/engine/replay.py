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
from typing import Any, cast

from mako.engine.ahead import ASK, LOOK_UP, fetch_record, fetch_version
from mako.engine.atomics import (
    cas,
    fetch_max,
    ld2,
    ld4,
    ld8,
    ldu8,
    load_acquire,
    load_relaxed,
    memcpy,
    pause,
    prefetch,
    shl,
    st8,
    store_release,
)
from mako.engine.closing import activate, advance_pinned, close, deactivate
from mako.engine.codec import OK, check_body, check_frame, check_header
from mako.engine.finding import (
    F_AT,
    F_HINT,
    F_KEY,
    F_RECORD,
    F_SLOT,
    F_TABLE,
    F_TRANSACTION,
    GROUP,
    H_LEAF,
    H_PLACE,
    H_TABLE,
    H_VERSION,
    fill_slot,
    has_key,
    named_by,
    note_write,
    write_of,
)
from mako.engine.index import BYTES_INDEX, FULL, LINKED, LOST, PAIR_INDEX, WORD_INDEX, Index
from mako.engine.jit import compiled, named
from mako.engine.layout import (
    BYTES_KEYS,
    C_ENGINE,
    C_FLOOR,
    C_KEY,
    C_LINKED,
    C_OWN,
    C_PROGRESS,
    CLOCK,
    DEAD,
    FINDER,
    HORIZON,
    LENGTH_MASK,
    LOCKED,
    N_LAST,
    NODE_STEP,
    POINTER,
    POOL_RECORDS,
    POOL_VALUES,
    R_HEAD,
    RETIRE_TOMBSTONE,
    RETIRE_VALUE,
    SPIN_MAX,
    STABLE,
    T_KIND,
    TOMBSTONE,
    V_LENGTH,
    V_MASK,
    V_PREVIOUS,
    V_TIMESTAMP,
    V_VALUE,
    WORD_KEYS,
)
from mako.engine.memory import allocate_ahead, allocate_reserved, release, size_class
from mako.engine.reclaim import reclaim, reclaim_at_rest
from mako.engine.retire import reserve_retired, retire
from mako.ids import Outcome
from mako.log_format import (
    DEPENDENCIES_BYTES,
    FLAG_DEPENDENCIES,
    FOOTER_BYTES,
    FOOTER_CLOSED,
    HEADER_BYTES,
    HEADER_COUNT,
    HEADER_PARTITION,
    TABLE_DELETE,
    TRANSACTION_BYTES,
    TRANSACTION_FLAGS,
    TRANSACTION_LENGTH,
)

COMMITTED = int(Outcome.COMMITTED)
_LOCKED = int(Outcome.LOCKED)
_OUT_OF_MEMORY = int(Outcome.OUT_OF_MEMORY)

#: Bytes of a row up to which a loop copies it faster than a call.
_SMALL_ROW = 64
#: Retired things that are looked at behind an entry.
_RECLAIMED_PER_ENTRY = 4096

#: What `follow` returns instead of an Outcome.
REFUSED = -1


@compiled(inline=True)
def _logged_version(tx: int, timestamp: int, mask: int, deleted: int, value: int, size: int) -> int:
    """A version with the value of a write, or its tombstone; 0 when memory is full."""
    if deleted:
        # Even a full memory takes deletes: they are the way out of it.
        version = allocate_reserved(tx, POOL_VALUES, V_VALUE)
    else:
        version = allocate_ahead(tx, POOL_VALUES, V_VALUE + size)
    if version != 0:
        st8(version + V_TIMESTAMP, timestamp)
        st8(version + V_PREVIOUS, 0)
        st8(version + V_MASK, mask)
        st8(version + V_LENGTH, TOMBSTONE if deleted else size)
        if size & 7 == 0 and size <= _SMALL_ROW:
            for word in range(0, size, 8):
                st8(version + V_VALUE + word, ldu8(value + word))
        else:
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


@compiled(inline=True)
def _put_in_front(tx: int, record: int, version: int) -> int:
    """`put_in_chain` for what is most common, a newer value of a row that is there: 1, or 0 if it
    is anything else, and nothing was done."""
    newest = load_acquire(record + R_HEAD)
    timestamp = ld8(version + V_TIMESTAMP)
    if newest & (DEAD | LOCKED) or newest == 0 or ld8(newest + V_TIMESTAMP) >= timestamp:
        return 0
    if ld8(version + V_LENGTH) & TOMBSTONE:
        return 0
    st8(version + V_PREVIOUS, newest)
    # Who would lock it meanwhile, to take it out of the tree, has changed the head.
    if cas(record + R_HEAD, newest, version) == 0:
        return 0
    retire_version(tx, newest, timestamp)
    return 1


def _make_install(index: Index) -> Callable[..., int]:
    """(tx, table, key, version, hint, slot) -> COMMITTED, LOCKED or OUT_OF_MEMORY; the version is
    installed or given back. `hint` and `slot` are those of `mako.engine.finding`, or 0."""
    kind = index.kind
    get, get_near, link, link_at = index.get, index.get_near, index.link, index.link_at
    record_bytes, fill_record, of_record = kind.record_bytes, kind.fill_record, kind.of_record

    def add_record(
        tx: int,
        table: int,
        key: Any,
        version: int,
        hint: int,
        leaf: int,
        leaf_version: int,
        at: int,
    ) -> int:
        """Link a new record with `version`: 0, the record that came first, LOST or FULL. `at` is
        the place in the leaf, if that covers the key, or -1."""
        size = record_bytes(key)
        record = allocate_ahead(tx, POOL_RECORDS, size)
        if record == 0:
            return FULL
        st8(record + R_HEAD, version)
        fill_record(record, key)
        # The tree keeps the record's own copy of the key.
        own = of_record(record)
        found = LINKED
        if at >= 0 and link_at(leaf, leaf_version, at, own, record):
            st8(hint + H_VERSION, leaf_version + NODE_STEP)
        else:
            found = link(tx, table, own, record, leaf, leaf_version)
            if found == LINKED and hint != 0:
                st8(hint + H_LEAF, ld8(tx + C_LINKED))
                st8(hint + H_VERSION, ld8(tx + C_LINKED + 16))
                st8(hint + H_PLACE, ld8(ld8(tx + C_LINKED) + N_LAST) + 1)
        if found != LINKED:
            store_release(record + R_HEAD, DEAD)
            release(tx, POOL_RECORDS, record, size_class(size))
        elif ld8(version + V_LENGTH) & TOMBSTONE:
            timestamp = ld8(version + V_TIMESTAMP)
            retire(tx, record, RETIRE_TOMBSTONE, 0, timestamp, table)
        return found

    add_record = compiled(named(add_record, f"{kind.name}.add_record"), inline=True)
    look_up = LOOK_UP.get(kind.kind)

    def find_unasked(tx: int, table: int, key: Any) -> tuple[int, int, int]:
        return get(table, key)

    find = look_up or compiled(named(find_unasked, f"{kind.name}.find"))

    def find_hinted(tx: int, table: int, key: Any, hint: int) -> tuple[int, int, int, int]:
        """The record or 0 or LOST, its leaf and the version of that, and the place or -1."""
        if hint != 0 and ld8(hint + H_TABLE) == table and ld8(hint + H_LEAF) != 0:
            leaf = ld8(hint + H_LEAF)
            version = ld8(hint + H_VERSION)
            covers, at, record = get_near(leaf, version, ld8(hint + H_PLACE), key)
            if covers:
                st8(hint + H_PLACE, at + 1)
                return record, leaf, version, at
        record, leaf, version = find(tx, table, key)
        if hint != 0 and record != LOST:
            st8(hint + H_TABLE, table)
            st8(hint + H_LEAF, leaf)
            st8(hint + H_VERSION, version)
            st8(hint + H_PLACE, -1)
        return record, leaf, version, -1

    find_hinted = compiled(named(find_hinted, f"{kind.name}.find_hinted"), inline=True)

    def install(tx: int, table: int, key: Any, version: int, hint: int, slot: int) -> int:
        for _ in range(SPIN_MAX):
            record, leaf, leaf_version, at = find_hinted(tx, table, key, hint)
            if record == LOST:
                continue
            if record == 0:
                record = add_record(tx, table, key, version, hint, leaf, leaf_version, at)
                if record == LINKED:
                    return COMMITTED
                if record == FULL:
                    free_logged(tx, version)
                    return _OUT_OF_MEMORY
            if record != LOST:
                if _put_in_front(tx, record, version):
                    fill_slot(slot, table, record)
                    return COMMITTED
                if put_in_chain(tx, record, version, table) == COMMITTED:
                    return COMMITTED
                pause()
            if hint != 0:
                st8(hint + H_LEAF, 0)  # The record is leaving the tree: look again.
        free_logged(tx, version)
        return _LOCKED

    return cast(Callable[..., int], compiled(named(install, f"{kind.name}.install")))


_word_install = _make_install(WORD_INDEX)
_pair_install = _make_install(PAIR_INDEX)
_bytes_install = _make_install(BYTES_INDEX)
_bytes_decode = BYTES_INDEX.kind.decode
_word_ask, _pair_ask = ASK[1], ASK[2]


@compiled(inline=True)
def _install_write(tx: int, write: int) -> int:
    """Install a write of the group; its Outcome."""
    at = ld8(write + F_AT)
    transaction = ld8(write + F_TRANSACTION)
    mask = ld8(tx + C_OWN)
    if ld2(transaction + TRANSACTION_FLAGS) & FLAG_DEPENDENCIES:
        mask = ldu8(transaction + TRANSACTION_BYTES)
    key_size = ld2(at)
    key = at + 2
    size = ld4(key + key_size)
    value = key + key_size + 4
    deleted = ld2(value + size) & TABLE_DELETE
    version = _logged_version(tx, ldu8(transaction), mask, deleted, value, size)
    if version == 0:
        return _OUT_OF_MEMORY
    table = ld8(write + F_TABLE)
    kind = ld8(table + T_KIND)
    if kind == BYTES_KEYS:
        return _bytes_install(tx, table, _bytes_decode(key, key_size, tx + C_KEY), version, 0, 0)
    record = ld8(write + F_RECORD)
    if record > 0 and has_key(record, write) and _put_in_front(tx, record, version):
        return COMMITTED
    hint = ld8(write + F_HINT)
    slot = ld8(write + F_SLOT)
    first = ld8(write + F_KEY)
    if kind == WORD_KEYS:
        return _word_install(tx, table, first, version, hint, slot)
    return _pair_install(tx, table, (first, ld8(write + F_KEY + 8)), version, hint, slot)


@compiled(inline=True)
def _ask_for(tx: int, write: int) -> None:
    """First step of a write: ask for the record that its slot names; or, if there is no hint where
    its leaf is, for that leaf."""
    slot = ld8(write + F_SLOT)
    if slot == 0:
        return
    record = named_by(slot, ld8(write + F_TABLE))
    if record != 0:
        prefetch(record)
    elif ld8(ld8(write + F_HINT) + H_LEAF) == 0:
        table = ld8(write + F_TABLE)
        first = ld8(write + F_KEY)
        if ld8(table + T_KIND) == WORD_KEYS:
            record = -_word_ask(tx, table, first)
        else:
            record = -_pair_ask(tx, table, (first, ld8(write + F_KEY + 8)))
    st8(write + F_RECORD, record)


@compiled(inline=True)
def _install_group(tx: int, finder: int, count: int) -> int:
    """Install the first writes of the ring, each step for all of them, so that their misses
    overlap: leaf or record, then record or newest version, then newest version."""
    if reserve_retired(tx, 4 * count) == 0:
        return _OUT_OF_MEMORY
    for i in range(count):
        _ask_for(tx, write_of(finder, i))
    for i in range(count):
        record = ld8(write_of(finder, i) + F_RECORD)
        if record > 0:
            prefetch(load_relaxed(record + R_HEAD) & POINTER)
        elif record < 0:
            fetch_record(tx, -record)
    for i in range(count):
        record = ld8(write_of(finder, i) + F_RECORD)
        if record < 0:
            fetch_version(-record)
    for i in range(count):
        outcome = _install_write(tx, write_of(finder, i))
        if outcome != COMMITTED:
            return outcome
    reclaim(tx, 2 * count + 2)
    return COMMITTED


@compiled(inline=True)
def _first_write(at: int) -> int:
    """Where the writes of the transaction at `at` begin."""
    if ld2(at + TRANSACTION_FLAGS) & FLAG_DEPENDENCIES:
        return at + TRANSACTION_BYTES + DEPENDENCIES_BYTES
    return at + TRANSACTION_BYTES


@compiled
def apply_transactions(tx: int, entry: int, above: int, up_to: int) -> tuple[int, int, int]:
    """Apply the transactions with above < timestamp <= up_to of an entry that passed all checks:
    (Outcome, transactions applied, writes applied)."""
    engine = ld8(tx + C_ENGINE)
    finder = ld8(engine + FINDER)
    transactions = 0
    writes = 0
    newest = 0
    grouped = 0
    outcome = COMMITTED
    st8(tx + C_PROGRESS, ld8(tx + C_PROGRESS) + 1)
    following = entry + HEADER_BYTES
    for _ in range(ld4(entry + HEADER_COUNT)):
        transaction = following
        at = _first_write(transaction)
        following = at + ld4(transaction + TRANSACTION_LENGTH)
        timestamp = ldu8(transaction)
        if not above < timestamp <= up_to:
            continue
        newest = max(newest, timestamp)
        transactions += 1
        while at < following and outcome == COMMITTED:
            at = note_write(engine, finder, grouped, at, transaction)
            grouped += 1
            writes += 1
            if grouped == GROUP:
                outcome = _install_group(tx, finder, grouped)
                grouped = 0
        if outcome != COMMITTED:
            break
    if outcome == COMMITTED:
        outcome = _install_group(tx, finder, grouped)
    fetch_max(engine + CLOCK, newest)
    return outcome, transactions, writes


@compiled
def follow(
    tx: int, entry: int, size: int, above: int, up_to: int, pin: int
) -> tuple[int, int, int, int]:
    """Check and apply an entry of transactions whose checksum is right, and close what it closes:
    as `apply_transactions`, and the closed timestamp; or REFUSED and nothing was done, and the
    checks one by one say why. `pin` is as in `close_entry`."""
    engine = ld8(tx + C_ENGINE)
    if check_frame(entry, size)[0] != OK or check_header(entry, size)[0] != OK:
        return REFUSED, 0, 0, above
    if shl(1, ld2(entry + HEADER_PARTITION)) != ld8(tx + C_OWN):
        return REFUSED, 0, 0, above
    failed, _, unfit, _ = check_body(entry, size, engine)  # R1
    if failed != OK or unfit != OK:
        return REFUSED, 0, 0, above
    outcome = COMMITTED
    transactions = 0
    writes = 0
    if ld4(entry + HEADER_COUNT) != 0:
        activate(tx)
        outcome, transactions, writes = apply_transactions(tx, entry, above, up_to)
        deactivate(tx)
    closed = above
    if outcome == COMMITTED:
        closed = max(above, ldu8(entry + size - FOOTER_BYTES + FOOTER_CLOSED))
        close_entry(tx, closed, pin)
    return outcome, transactions, writes, closed


@compiled
def close_entry(tx: int, closed: int, pin: int) -> None:
    """An entry is applied, and the log is closed up to `closed`. In a replicated engine that is the
    watermark, which the context `pin` holds; 0: it moves by itself, or somebody else moves it."""
    engine = ld8(tx + C_ENGINE)
    fetch_max(engine + CLOCK, closed)
    store_release(tx + C_FLOOR, closed)  # R2
    close(engine)
    if pin != 0 and closed > ld8(engine + STABLE):
        advance_pinned(pin, closed)
        close(engine)  # The horizon follows the watermark: memory is used again while it is warm.
    reclaim_at_rest(tx, _RECLAIMED_PER_ENTRY)


@compiled
def raise_clock(engine: int, timestamp: int) -> None:
    """Draw no timestamp at or below `timestamp` from now on."""
    fetch_max(engine + CLOCK, timestamp)
