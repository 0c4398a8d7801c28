"""Reads and buffered writes of a transaction, compiled once per kind of key.

A call returns the address of a version, 0 for "not there", or a negative Outcome: the
transaction cannot go on. Reads return installed versions, which nobody ever changes; writes
return versions of the transaction's own, which nobody else sees before it commits. Nothing
shared is touched here: records of inserts are linked when the transaction commits.

A context in snapshot mode (C_MODE holds the timestamp) reads the newest version at or below
it, and notes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mako.engine.ahead import LOOK_UP
from mako.engine.atomics import ld8, load_acquire, memcpy, memset, st8
from mako.engine.index import BYTES_INDEX, LOST, PAIR_INDEX, WORD_INDEX, Index
from mako.engine.jit import compiled, exported, named
from mako.engine.keys import keyed
from mako.engine.layout import (
    C_ENGINE,
    C_HINT_LEAF,
    C_HINT_TABLE,
    C_HINT_VERSION,
    C_INSERTS,
    C_KEY_BUCKETS,
    C_LOG_BYTES,
    C_MODE,
    C_OWN,
    C_PROGRESS,
    CANCELLED,
    DEAD,
    DELETE,
    INSERT,
    LENGTH_MASK,
    LOCKED,
    POINTER,
    POOL_RECORDS,
    POOL_VALUES,
    R_HEAD,
    RETIRE_VALUE,
    SPIN_MAX,
    STABLE,
    TOMBSTONE,
    UPDATE,
    V_LENGTH,
    V_MASK,
    V_PREVIOUS,
    V_TIMESTAMP,
    V_VALUE,
    W_KIND,
    W_LEAF,
    W_LEAF_VERSION,
    W_NEXT_KEY,
    W_RECORD,
    W_TABLE,
    W_VERSION,
)
from mako.engine.memory import allocate, allocate_reserved, release, size_class
from mako.engine.owner import ELSEWHERE
from mako.engine.remote import DELETE_, PUT, READ, WRITE
from mako.engine.retire import reserve_retired, retire
from mako.engine.sets import (
    add_read,
    add_write,
    doomed,
    inherit,
    lacking,
    note_leaf,
    own_write,
    why_doomed,
)
from mako.ids import Outcome

_LOCKED = int(Outcome.LOCKED)
_CHANGED = int(Outcome.CHANGED)
_EXISTS = int(Outcome.EXISTS)
_OUT_OF_MEMORY = int(Outcome.OUT_OF_MEMORY)
_TOO_LARGE = int(Outcome.TOO_LARGE)
_READ_ONLY = int(Outcome.READ_ONLY)
_UNAVAILABLE = int(Outcome.UNAVAILABLE)
KV_BYTES = 8  # lengths and table number around a key and a value in the log


@compiled
def _newest_at(record: int, timestamp: int) -> int:
    """The newest version at or below `timestamp`, or 0.

    It stops at the first such version: what lies behind it may be gone (`retire`).
    """
    version = load_acquire(record + R_HEAD) & POINTER
    while version != 0 and ld8(version + V_TIMESTAMP) > timestamp:
        version = ld8(version + V_PREVIOUS)
    return version


@compiled
def _durable_at(tx: int, record: int, timestamp: int) -> int:
    """The same above the stable timestamp, where a partition that stalls is left out: what waits
    for it is not shown, nor is what lies below that (DESIGN §6). -UNAVAILABLE."""
    for _ in range(SPIN_MAX):
        version = _newest_at(record, timestamp)
        if version == 0:
            return 0
        foreign = ld8(version + V_MASK) & ~ld8(tx + C_OWN)
        if foreign == 0:
            return version
        if lacking(tx, version, foreign) != 0:
            break
        # A version may have been discarded in between, and only then the watermark was raised that
        # lets it pass: so if it is still there it is durable.
        if _newest_at(record, timestamp) == version:
            return version
    return -_UNAVAILABLE


@compiled
def _value_at(tx: int, record: int, timestamp: int) -> int:
    """The value at a snapshot; 0: there is none; or -Outcome."""
    if timestamp <= load_acquire(ld8(tx + C_ENGINE) + STABLE):  # Before the record is looked at.
        version = _newest_at(record, timestamp)
    else:
        version = _durable_at(tx, record, timestamp)
    if version > 0 and ld8(version + V_LENGTH) & TOMBSTONE:
        return 0
    return version


@compiled
def read_record(tx: int, record: int, leaf: int, leaf_version: int) -> int:
    """The value of a record found in the tree; an absent one counts as read, too."""
    snapshot = ld8(tx + C_MODE)
    if snapshot != 0:
        return _value_at(tx, record, snapshot)
    entry = own_write(tx, record)
    if entry != 0:
        kind = ld8(entry + W_KIND)
        return 0 if kind == DELETE or kind == CANCELLED else ld8(entry + W_VERSION)
    head = load_acquire(record + R_HEAD)
    if head & DEAD:
        return -_CHANGED
    version = head & POINTER
    if version == 0:
        add_read(tx, record, 0)
        note_leaf(tx, leaf, leaf_version)
        return 0
    add_read(tx, record, ld8(version + V_TIMESTAMP))
    inherit(tx, version)
    if ld8(version + V_LENGTH) & TOMBSTONE:
        note_leaf(tx, leaf, leaf_version)
        return 0
    return version


@compiled
def free_version(tx: int, version: int) -> None:
    """Give back a version that was never installed."""
    size = V_VALUE + (ld8(version + V_LENGTH) & LENGTH_MASK)
    release(tx, POOL_VALUES, version, size_class(size))


@compiled
def _replace_later(tx: int, version: int) -> None:
    """Give back a version of the transaction's own that another one has replaced, once the
    transaction is over: its procedure may still hold a view of it."""
    if reserve_retired(tx, 1) != 0:
        size = V_VALUE + (ld8(version + V_LENGTH) & LENGTH_MASK)
        retire(tx, version, RETIRE_VALUE, size_class(size), 0, 0)


@compiled
def new_version(tx: int, length: int) -> int:
    """A version of the transaction's own for a value of `length` bytes, or 0."""
    version = allocate(tx, POOL_VALUES, V_VALUE + length)
    if version != 0:
        st8(version + V_LENGTH, length)
    return version


@exported
def write_record(
    tx: int, table: int, record: int, leaf: int, leaf_version: int, key_bytes: int
) -> int:
    """A copy of the record's value that the commit installs; 0 when it has none."""
    if ld8(tx + C_MODE) != 0:
        return -_READ_ONLY
    entry = own_write(tx, record)
    if entry != 0:
        kind = ld8(entry + W_KIND)
        return 0 if kind == DELETE or kind == CANCELLED else ld8(entry + W_VERSION)
    head = load_acquire(record + R_HEAD)
    if head & DEAD:
        return -_CHANGED
    current = head & POINTER
    if current != 0:  # A tombstone, too: if it is undone, the row is there.
        inherit(tx, current)
    if current == 0 or ld8(current + V_LENGTH) & TOMBSTONE:
        add_read(tx, record, 0 if current == 0 else ld8(current + V_TIMESTAMP))
        note_leaf(tx, leaf, leaf_version)
        return 0
    length = ld8(current + V_LENGTH)
    version = new_version(tx, length)
    if version == 0:
        return -_OUT_OF_MEMORY
    memcpy(version + V_VALUE, current + V_VALUE, length)
    seen = ld8(current + V_TIMESTAMP)
    if add_write(tx, record, version, seen, UPDATE, table, 0, 0) == 0:
        free_version(tx, version)
        return -_TOO_LARGE
    st8(tx + C_LOG_BYTES, ld8(tx + C_LOG_BYTES) + KV_BYTES + key_bytes + length)
    return version


@compiled
def replace_version(tx: int, entry: int, length: int, kind: int) -> int:
    """Give an own entry a fresh value of `length` zero bytes and another kind."""
    version = new_version(tx, length)
    if version == 0:
        return -_OUT_OF_MEMORY
    old = ld8(entry + W_VERSION)
    change = length - (ld8(old + V_LENGTH) & LENGTH_MASK)
    _replace_later(tx, old)
    memset(version + V_VALUE, 0, length)
    st8(entry + W_VERSION, version)
    st8(entry + W_KIND, kind)
    st8(tx + C_LOG_BYTES, ld8(tx + C_LOG_BYTES) + change)
    return version


@compiled
def put_record(
    tx: int,
    table: int,
    record: int,
    length: int,
    key_bytes: int,
    may_replace: int,
    leaf: int,
    leaf_version: int,
) -> int:
    """A zeroed value for a record that is in the tree; its present value is not copied."""
    entry = own_write(tx, record)
    if entry != 0:
        kind = ld8(entry + W_KIND)
        gone = kind == DELETE or kind == CANCELLED
        if not gone and may_replace == 0:
            return -_EXISTS
        if kind == DELETE:
            kind = UPDATE
        elif kind == CANCELLED:
            kind = INSERT
        return replace_version(tx, entry, length, kind)
    head = load_acquire(record + R_HEAD)
    if head & DEAD:
        return -_CHANGED
    current = head & POINTER
    seen = 0
    if current != 0:
        seen = ld8(current + V_TIMESTAMP)
        inherit(tx, current)
        if may_replace == 0 and ld8(current + V_LENGTH) & TOMBSTONE == 0:
            add_read(tx, record, seen)
            return -_EXISTS
    version = new_version(tx, length)
    if version == 0:
        return -_OUT_OF_MEMORY
    memset(version + V_VALUE, 0, length)
    if add_write(tx, record, version, seen, UPDATE, table, leaf, leaf_version) == 0:
        free_version(tx, version)
        return -_TOO_LARGE
    st8(tx + C_LOG_BYTES, ld8(tx + C_LOG_BYTES) + KV_BYTES + key_bytes + length)
    return version


@compiled
def cancel_insert(tx: int, entry: int) -> None:
    """Delete an own insert. Linking it would have proved that its key was free and left it
    free of anybody else's; now the leaf has to stay as it was."""
    note_leaf(tx, ld8(entry + W_LEAF), ld8(entry + W_LEAF_VERSION))
    st8(entry + W_KIND, CANCELLED)


@exported
def delete_record(
    tx: int, table: int, record: int, leaf: int, leaf_version: int, key_bytes: int
) -> int:
    """Buffer the delete of a record: 1, or 0 when it has no value."""
    if ld8(tx + C_MODE) != 0:
        return -_READ_ONLY
    entry = own_write(tx, record)
    if entry != 0:
        kind = ld8(entry + W_KIND)
        if kind == DELETE or kind == CANCELLED:
            return 0
        if kind == INSERT:
            cancel_insert(tx, entry)
            return 1
    head = load_acquire(record + R_HEAD)
    if head & DEAD:
        return -_CHANGED
    current = head & POINTER
    if entry == 0:
        seen = 0 if current == 0 else ld8(current + V_TIMESTAMP)
        if current != 0:
            inherit(tx, current)
        if current == 0 or ld8(current + V_LENGTH) & TOMBSTONE:
            add_read(tx, record, seen)
            note_leaf(tx, leaf, leaf_version)
            return 0
    # Even a full memory takes deletes: they are the way out of it.
    version = allocate_reserved(tx, POOL_VALUES, V_VALUE)
    if version == 0:
        return -_OUT_OF_MEMORY
    st8(version + V_LENGTH, TOMBSTONE)
    log_bytes = ld8(tx + C_LOG_BYTES)
    if entry != 0:
        old = ld8(entry + W_VERSION)
        st8(tx + C_LOG_BYTES, log_bytes - (ld8(old + V_LENGTH) & LENGTH_MASK))
        _replace_later(tx, old)
        st8(entry + W_VERSION, version)
        st8(entry + W_KIND, DELETE)
        return 1
    seen = ld8(current + V_TIMESTAMP)
    if add_write(tx, record, version, seen, DELETE, table, 0, 0) == 0:
        free_version(tx, version)
        return -_TOO_LARGE
    st8(tx + C_LOG_BYTES, log_bytes + KV_BYTES + key_bytes)
    return 1


@dataclass(frozen=True, slots=True)
class Access:
    """The compiled operations on tables of one kind of key."""

    index: Index
    read: Callable[..., int]  # (tx, table, key) -> version
    write: Callable[..., int]  # (tx, table, key) -> own version, a copy
    put: Callable[..., int]  # (tx, table, key, length, may_replace) -> own version, zeroed
    delete: Callable[..., int]  # (tx, table, key) -> 1 or 0
    find_insert: Callable[..., int]  # (tx, table, key) -> own entry of an unlinked record


def _make_access(index: Index) -> Access:
    kind = index.kind
    get, get_in = index.get, index.get_in
    look_up = LOOK_UP.get(kind.kind)
    if look_up is None:

        def plain(tx: int, table: int, key: Any) -> tuple[int, int, int]:
            return get(table, key)

        look_up = compiled(named(plain, f"{kind.name}.look_up"))
    of_record, hash_key = kind.of_record, kind.key_hash
    record_bytes, fill_record, encoded_bytes = (
        kind.record_bytes,
        kind.fill_record,
        kind.encoded_bytes,
    )
    less = kind.less
    elsewhere = ELSEWHERE[kind.kind]
    read_there, write_there = READ[kind.kind], WRITE[kind.kind]
    put_there, delete_there = PUT[kind.kind], DELETE_[kind.kind]

    def find_insert(tx: int, table: int, key: Any) -> int:
        """The entry of an own record with `key` that is not in the tree yet, or 0."""
        bucket = tx + C_KEY_BUCKETS + 16 * hash_key(key)
        if ld8(bucket) != ld8(tx + C_PROGRESS):
            return 0
        entry = ld8(bucket + 8)
        while entry != 0:
            if ld8(entry + W_TABLE) == table:
                other = of_record(ld8(entry + W_RECORD))
                if not less(other, key) and not less(key, other):
                    break
            entry = ld8(entry + W_NEXT_KEY)
        return entry

    def note_insert(tx: int, entry: int, key: Any) -> None:
        """Make an entry known to `find_insert`."""
        bucket = tx + C_KEY_BUCKETS + 16 * hash_key(key)
        transaction = ld8(tx + C_PROGRESS)
        st8(entry + W_NEXT_KEY, ld8(bucket + 8) if ld8(bucket) == transaction else 0)
        st8(bucket, transaction)
        st8(bucket + 8, entry)

    note_insert = compiled(named(note_insert, f"{kind.name}.note_insert"))
    find_insert = compiled(named(find_insert, f"{kind.name}.find_insert"))

    def read(tx: int, table: int, key: Any) -> int:
        if doomed(tx):
            return -why_doomed(tx)
        partition = elsewhere(tx, table, key)
        if partition >= 0:
            return read_there(tx, table, key, partition)
        record, leaf, leaf_version = look_up(tx, table, key)
        if record == LOST:
            return -_LOCKED
        if record != 0:
            return read_record(tx, record, leaf, leaf_version)
        if ld8(tx + C_MODE) != 0:
            return 0
        entry = find_insert(tx, table, key)
        if entry != 0:
            return 0 if ld8(entry + W_KIND) == CANCELLED else ld8(entry + W_VERSION)
        note_leaf(tx, leaf, leaf_version)
        return 0

    def write(tx: int, table: int, key: Any) -> int:
        if doomed(tx):
            return -why_doomed(tx)
        partition = elsewhere(tx, table, key)
        if partition >= 0:
            return write_there(tx, table, key, partition)
        record, leaf, leaf_version = look_up(tx, table, key)
        if record == LOST:
            return -_LOCKED
        if record != 0:
            size = encoded_bytes(record)
            return write_record(tx, table, record, leaf, leaf_version, size)
        if ld8(tx + C_MODE) != 0:
            return -_READ_ONLY
        entry = find_insert(tx, table, key)
        if entry != 0:
            return 0 if ld8(entry + W_KIND) == CANCELLED else ld8(entry + W_VERSION)
        note_leaf(tx, leaf, leaf_version)
        return 0

    def put(tx: int, table: int, key: Any, length: int, may_replace: int) -> int:
        if doomed(tx):
            return -why_doomed(tx)
        if ld8(tx + C_MODE) != 0:
            return -_READ_ONLY
        partition = elsewhere(tx, table, key)
        if partition >= 0:
            return put_there(tx, table, key, partition, length, may_replace)
        # A run of inserts goes to the leaf of the one before; that saves the descent.
        leaf = ld8(tx + C_HINT_LEAF)
        leaf_version = ld8(tx + C_HINT_VERSION)
        covers = False
        record = 0
        if leaf != 0 and ld8(tx + C_HINT_TABLE) == table:
            covers, record = get_in(leaf, leaf_version, key)
        if not covers:
            record, leaf, leaf_version = get(table, key)
            if record == LOST:
                return -_LOCKED
        st8(tx + C_HINT_TABLE, table)
        st8(tx + C_HINT_LEAF, leaf)
        st8(tx + C_HINT_VERSION, leaf_version)
        if record != 0:
            size = encoded_bytes(record)
            return put_record(tx, table, record, length, size, may_replace, leaf, leaf_version)
        entry = find_insert(tx, table, key)
        if entry != 0:
            if ld8(entry + W_KIND) == INSERT and may_replace == 0:
                return -_EXISTS
            return replace_version(tx, entry, length, INSERT)
        record = allocate(tx, POOL_RECORDS, record_bytes(key))
        if record == 0:
            return -_OUT_OF_MEMORY
        version = new_version(tx, length)
        if version == 0:
            release(tx, POOL_RECORDS, record, size_class(record_bytes(key)))
            return -_OUT_OF_MEMORY
        memset(version + V_VALUE, 0, length)
        st8(record + R_HEAD, LOCKED)
        fill_record(record, key)
        entry = add_write(tx, record, version, 0, INSERT, table, leaf, leaf_version)
        if entry == 0:
            free_version(tx, version)
            st8(record + R_HEAD, DEAD)
            release(tx, POOL_RECORDS, record, size_class(record_bytes(key)))
            return -_TOO_LARGE
        st8(tx + C_INSERTS, ld8(tx + C_INSERTS) + 1)
        note_insert(tx, entry, key)
        log_bytes = ld8(tx + C_LOG_BYTES) + KV_BYTES + encoded_bytes(record) + length
        st8(tx + C_LOG_BYTES, log_bytes)
        return version

    def delete(tx: int, table: int, key: Any) -> int:
        if doomed(tx):
            return -why_doomed(tx)
        partition = elsewhere(tx, table, key)
        if partition >= 0:
            return delete_there(tx, table, key, partition)
        record, leaf, leaf_version = look_up(tx, table, key)
        if record == LOST:
            return -_LOCKED
        if record != 0:
            size = encoded_bytes(record)
            return delete_record(tx, table, record, leaf, leaf_version, size)
        if ld8(tx + C_MODE) != 0:
            return -_READ_ONLY
        entry = find_insert(tx, table, key)
        if entry != 0:
            if ld8(entry + W_KIND) == CANCELLED:
                return 0
            cancel_insert(tx, entry)
            return 1
        note_leaf(tx, leaf, leaf_version)
        return 0

    return Access(
        index=index,
        read=keyed(kind, read, "read"),
        write=keyed(kind, write, "write"),
        put=keyed(kind, put, "put"),
        delete=keyed(kind, delete, "delete"),
        find_insert=find_insert,
    )


WORD_ACCESS = _make_access(WORD_INDEX)
PAIR_ACCESS = _make_access(PAIR_INDEX)
BYTES_ACCESS = _make_access(BYTES_INDEX)
ACCESSES = {access.index.kind.kind: access for access in (WORD_ACCESS, PAIR_ACCESS, BYTES_ACCESS)}
