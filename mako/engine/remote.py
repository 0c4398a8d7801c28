"""Rows of other partitions in a transaction: what it knows of them, and what it writes to them.

A run that meets a row which is not here asks for it and ends (REMOTE); it is run again, from the
beginning, when the rows it asked for have come. So rows stay known from run to run, while what a
run has read and written of them is that run's own: its number, C_PROGRESS, is noted beside it.

    rows     table, key, partition, what is there, where and since when; what this run does with it
    heap     keys and values that have come ──▶                 ◀── values that this run writes

What is known looks like what is here: keys lie in records, values in versions, and what the
engine hands out is the address of a version. Nobody but this context sees any of it.

A row is *blind* when it is written and was not read: whether it is there is found out by the
partition that has it, when it locks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mako.engine.atomics import ld8, memcpy, memset, st8
from mako.engine.jit import compiled, named
from mako.engine.keys import BYTES_KIND, PAIR_KIND, WORD_KIND, KeyKind, keyed
from mako.engine.lane import FREE, L_STATE
from mako.engine.layout import (
    C_DRAFT_RUN,
    C_DRAFTED,
    C_HEAP,
    C_KNOWN,
    C_LOOK_FIRST,
    C_MESH,
    C_MODE,
    C_PROGRESS,
    C_REMOTE_ROWS,
    C_REMOTE_SCANS,
    C_ROWS,
    C_SCANS,
    DELETE,
    HEAP_BYTES,
    INSERT,
    LENGTH_MASK,
    REMOTE_ROW_BYTES,
    REMOTE_ROW_MAX,
    REMOTE_SCAN_BYTES,
    UPDATE,
    V_LENGTH,
    V_VALUE,
)
from mako.ids import Outcome

_TOO_LARGE = int(Outcome.TOO_LARGE)
_EXISTS = int(Outcome.EXISTS)
_ELSEWHERE = int(Outcome.ELSEWHERE)
_REMOTE = int(Outcome.REMOTE)

X_TABLE: Final = 0
X_RECORD: Final = 8  # its key, as a record of the heap
X_PARTITION: Final = 16
X_STATE: Final = 24
X_SEEN_RECORD: Final = 32  # the record there, and the timestamp of its newest version; or 0, 0
X_SEEN: Final = 40
X_LEAF: Final = 48  # there, if nothing is there: the leaf and its version; or 0, 0
X_LEAF_VERSION: Final = 56
X_VALUE: Final = 64  # what is there, as a version of the heap
X_READ: Final = 72  # the run that has read it
X_WRITTEN: Final = 80  # the run that writes it
X_KIND: Final = 88  # and how: UPDATE (if it is there or not), INSERT, DELETE
X_NEW: Final = 96
X_LOOK: Final = 104  # 1: it is asked for even where it could be written blindly
# X_STATE:
UNKNOWN: Final = 0
ASKED: Final = 1
ABSENT: Final = 2
PRESENT: Final = 3
TOO_LONG: Final = 4
NO_TABLE: Final = 5  # that partition does not have its table, or not yet

# A range of another partition that was scanned, or shall be.
Y_TABLE: Final = 0
Y_PARTITION: Final = 8
Y_STATE: Final = 16
Y_FIRST: Final = 24  # its ends, as records of the heap
Y_END: Final = 32
Y_LIMIT: Final = 40
Y_DOWN: Final = 48
Y_READ: Final = 56  # the run that has read it
Y_COUNT: Final = 64  # rows
Y_ROWS: Final = 72  # pairs of record and version, of the heap
Y_READS: Final = 80  # pairs of record there and timestamp, how many
Y_READ_COUNT: Final = 88
Y_LEAVES: Final = 96  # pairs of leaf there and version, how many
Y_LEAF_COUNT: Final = 104


@compiled
def row_at(tx: int, i: int) -> int:
    return tx + C_REMOTE_ROWS + i * REMOTE_ROW_BYTES


@compiled
def scan_at(tx: int, i: int) -> int:
    return tx + C_REMOTE_SCANS + i * REMOTE_SCAN_BYTES


@compiled
def forget_rows(tx: int) -> None:
    """Another transaction begins, or this one with nothing known."""
    st8(tx + C_ROWS, 0)
    st8(tx + C_KNOWN, 0)
    st8(tx + C_SCANS, 0)
    st8(tx + C_DRAFTED, 0)


@compiled
def keep(tx: int, size: int) -> int:
    """Room for something known, or 0."""
    size = (size + 15) & ~15
    used = ld8(tx + C_KNOWN)
    if used + size + ld8(tx + C_DRAFTED) > HEAP_BYTES:
        return 0
    st8(tx + C_KNOWN, used + size)
    return tx + C_HEAP + used


@compiled
def _draft(tx: int, length: int) -> int:
    """A version for a value of `length` bytes that this run writes, or 0."""
    if ld8(tx + C_DRAFT_RUN) != ld8(tx + C_PROGRESS):
        st8(tx + C_DRAFT_RUN, ld8(tx + C_PROGRESS))
        st8(tx + C_DRAFTED, 0)
    drafted = ld8(tx + C_DRAFTED) + ((V_VALUE + length + 15) & ~15)
    if drafted + ld8(tx + C_KNOWN) > HEAP_BYTES:
        return 0
    st8(tx + C_DRAFTED, drafted)
    version = tx + C_HEAP + HEAP_BYTES - drafted
    st8(version + V_LENGTH, length)
    return version


@compiled
def is_read(tx: int, row: int) -> bool:
    return ld8(row + X_READ) == ld8(tx + C_PROGRESS)


@compiled
def is_written(tx: int, row: int) -> bool:
    return ld8(row + X_WRITTEN) == ld8(tx + C_PROGRESS)


@compiled
def is_scanned(tx: int, part: int) -> bool:
    return ld8(part + Y_READ) == ld8(tx + C_PROGRESS)


@compiled
def touched(tx: int) -> bool:
    """Whether this run has read or written anything of another partition."""
    for i in range(ld8(tx + C_ROWS)):
        row = row_at(tx, i)
        if is_read(tx, row) or is_written(tx, row):
            return True
    for i in range(ld8(tx + C_SCANS)):
        if is_scanned(tx, scan_at(tx, i)):
            return True
    return False


@compiled
def _write(tx: int, row: int, kind: int, length: int) -> int:
    """Have this run write a value of `length` bytes, zeros; its version, or a negative Outcome."""
    version = _draft(tx, length)
    if version == 0:
        return -_TOO_LARGE
    st8(row + X_WRITTEN, ld8(tx + C_PROGRESS))
    st8(row + X_KIND, kind)
    st8(row + X_NEW, version)
    memset(version + V_VALUE, 0, length)
    return version


@compiled
def _ask(tx: int, row: int) -> int:
    """The row has to come first."""
    if ld8(row + X_STATE) == UNKNOWN:
        st8(row + X_LOOK, 1)
    return -_REMOTE


@compiled
def _is_known(row: int) -> bool:
    return ld8(row + X_STATE) >= ABSENT  # Others end the transaction before it is run.


@compiled
def _gone(row: int) -> bool:
    return ld8(row + X_KIND) == DELETE


@compiled
def _read_row(tx: int, row: int) -> int:
    if is_written(tx, row):
        return 0 if _gone(row) else ld8(row + X_NEW)
    if not _is_known(row):
        return _ask(tx, row)
    st8(row + X_READ, ld8(tx + C_PROGRESS))
    return ld8(row + X_VALUE) if ld8(row + X_STATE) == PRESENT else 0


@compiled
def _write_copy(tx: int, row: int, version: int) -> int:
    """A copy of what is there, which the commit installs."""
    length = ld8(version + V_LENGTH) & LENGTH_MASK
    own = _write(tx, row, UPDATE, length)
    if own > 0:
        memcpy(own + V_VALUE, version + V_VALUE, length)
    return own


@compiled
def _write_row(tx: int, row: int) -> int:
    """A copy of the row that the commit installs; 0 when there is none."""
    version = _read_row(tx, row)
    if version <= 0 or is_written(tx, row):
        return version
    return _write_copy(tx, row, version)


@compiled
def _put_row(tx: int, row: int, length: int, may_replace: int) -> int:
    if ld8(tx + L_STATE) == FREE:  # It has to move to a lane first.
        return -_REMOTE
    if is_written(tx, row):
        if may_replace == 0 and not _gone(row):
            return -_EXISTS
        return _write(tx, row, UPDATE if _gone(row) else ld8(row + X_KIND), length)
    if may_replace != 0:
        return _write(tx, row, UPDATE, length)
    if not _is_known(row):
        if ld8(row + X_LOOK) != 0 or ld8(tx + C_LOOK_FIRST) != 0:
            return _ask(tx, row)
        return _write(tx, row, INSERT, length)
    st8(row + X_READ, ld8(tx + C_PROGRESS))
    if ld8(row + X_STATE) == PRESENT:
        return -_EXISTS
    return _write(tx, row, INSERT, length)


@compiled
def _delete_row(tx: int, row: int) -> int:
    if is_written(tx, row):
        if _gone(row):
            return 0
        if ld8(row + X_KIND) == INSERT:
            if not _is_known(row):  # If it is there, the insert was wrong: look first.
                return _ask(tx, row)
            st8(row + X_WRITTEN, -1)
            return 1
    else:
        version = _read_row(tx, row)
        if version <= 0:
            return version
    own = _write(tx, row, DELETE, 0)
    return 1 if own > 0 else own


@compiled
def _is_draft(tx: int, version: int) -> bool:
    """Whether a run has written it, and no message brought it."""
    return version >= tx + C_HEAP + HEAP_BYTES - ld8(tx + C_DRAFTED)


@compiled
def is_remote(tx: int, record: int) -> bool:
    """Whether a record that a scan has found stands for a row of another partition."""
    return tx + C_HEAP <= record < tx + C_HEAP + HEAP_BYTES


def _make_remote(kind: KeyKind) -> tuple[Callable[..., int], ...]:
    of_record, less = kind.of_record, kind.less
    record_bytes, fill_record = kind.record_bytes, kind.fill_record

    def find(tx: int, table: int, key: Any) -> int:
        """What is known of a row, or 0."""
        for i in range(ld8(tx + C_ROWS)):
            row = row_at(tx, i)
            if ld8(row + X_TABLE) == table:
                other = of_record(ld8(row + X_RECORD))
                if not less(other, key) and not less(key, other):
                    return row
        return 0

    find = compiled(named(find, f"{kind.name}.find_row"))

    def row_of(tx: int, table: int, key: Any, partition: int) -> int:
        """The row of a key, from now on at the latest; or a negative Outcome."""
        row = find(tx, table, key)
        if row != 0:
            return row
        if ld8(tx + C_MODE) != 0 or ld8(tx + C_MESH) == 0:
            return -_ELSEWHERE
        count = ld8(tx + C_ROWS)
        record = keep(tx, record_bytes(key))
        if count >= REMOTE_ROW_MAX or record == 0:
            return -_TOO_LARGE
        fill_record(record, key)
        row = row_at(tx, count)
        memset(row, 0, REMOTE_ROW_BYTES)
        st8(row + X_TABLE, table)
        st8(row + X_RECORD, record)
        st8(row + X_PARTITION, partition)
        st8(row + X_READ, -1)
        st8(row + X_WRITTEN, -1)
        st8(tx + C_ROWS, count + 1)
        return row

    row_of = compiled(named(row_of, f"{kind.name}.row_of"))

    def read(tx: int, table: int, key: Any, partition: int) -> int:
        row = row_of(tx, table, key, partition)
        return row if row < 0 else _read_row(tx, row)

    def write(tx: int, table: int, key: Any, partition: int) -> int:
        row = row_of(tx, table, key, partition)
        return row if row < 0 else _write_row(tx, row)

    def put(tx: int, table: int, key: Any, partition: int, length: int, may_replace: int) -> int:
        row = row_of(tx, table, key, partition)
        return row if row < 0 else _put_row(tx, row, length, may_replace)

    def delete(tx: int, table: int, key: Any, partition: int) -> int:
        row = row_of(tx, table, key, partition)
        return row if row < 0 else _delete_row(tx, row)

    def expect(tx: int, table: int, key: Any, partition: int) -> int:
        """The row will be read: it comes with the first one that is waited for."""
        row = row_of(tx, table, key, partition)
        if row > 0:
            _ask(tx, row)
        return 0

    # A row that a scan of this run has found: what it has read is validated, so that nothing has
    # to be asked for. One that the run has written itself, and does not any more, is gone.

    def write_scanned(tx: int, table: int, key: Any, partition: int, version: int) -> int:
        row = row_of(tx, table, key, partition)
        if row < 0:
            return row
        if is_written(tx, row):
            return _read_row(tx, row)
        return 0 if _is_draft(tx, version) else _write_copy(tx, row, version)

    def delete_scanned(tx: int, table: int, key: Any, partition: int, version: int) -> int:
        row = row_of(tx, table, key, partition)
        if row < 0:
            return row
        if is_written(tx, row):
            return _delete_row(tx, row)
        if _is_draft(tx, version):
            return 0
        own = _write(tx, row, DELETE, 0)
        return 1 if own > 0 else own

    return (
        *(
            keyed(kind, function, f"remote_{function.__name__}")
            for function in (read, write, put, delete, expect, write_scanned, delete_scanned)
        ),
        find,
    )


_MADE = {kind.kind: _make_remote(kind) for kind in (WORD_KIND, PAIR_KIND, BYTES_KIND)}
READ: Final = {kind: made[0] for kind, made in _MADE.items()}
WRITE: Final = {kind: made[1] for kind, made in _MADE.items()}
PUT: Final = {kind: made[2] for kind, made in _MADE.items()}
DELETE_: Final = {kind: made[3] for kind, made in _MADE.items()}
EXPECT: Final = {kind: made[4] for kind, made in _MADE.items()}
WRITE_SCANNED: Final = {kind: made[5] for kind, made in _MADE.items()}
DELETE_SCANNED: Final = {kind: made[6] for kind, made in _MADE.items()}
FIND: Final = {kind: made[7] for kind, made in _MADE.items()}
