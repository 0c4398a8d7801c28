"""Rows and ranges of other partitions on their way: what a lane asks for, and what has come.

    ROWS   the rows that the run has looked for, all of one partition in one message    ──▶ VALUES
    SCAN   one range each                                                                ──▶ RANGE

What comes is laid out in the heap of the lane as records and versions, so that the procedure reads
it as it reads what is here (`mako.engine.remote`).
"""

from mako.engine.atomics import (
    ld8,
    memcpy,
    st8,
)
from mako.engine.channel import (
    M_KIND,
    M_TRANSACTION,
    M_VIEW,
    MESSAGE_MAX,
    room,
    send,
)
from mako.engine.interactive import fill_record, key_bytes, record_key
from mako.engine.jit import compiled
from mako.engine.lane import (
    A_LEAF_,
    A_LEAF_VERSION,
    A_LENGTH,
    A_NUMBER,
    A_RECORD_,
    A_THERE,
    A_TIMESTAMP,
    A_VALUE,
    B_COUNT,
    B_ROWS,
    G_ITEMS,
    G_LEAVES,
    G_NUMBER,
    G_READS,
    G_ROWS,
    G_THERE,
    L_REFUSED,
    L_TRANSACTION,
    P_ASK,
    R_KEY_,
    R_NUMBER,
    R_SIZE,
    R_TABLE,
    ROWS,
    S_DOWN,
    S_END,
    S_FIRST,
    S_KEYS,
    S_LIMIT,
    S_NUMBER,
    S_TABLE,
    SCAN,
    padded,
)
from mako.engine.layout import (
    C_ENGINE,
    C_MET_PREPARED,
    C_ROWS,
    C_SCANS,
    T_ID,
    T_ROW,
    V_LENGTH,
    V_TIMESTAMP,
    V_VALUE,
    VIEW,
)
from mako.engine.remote import (
    ASKED,
    NO_TABLE,
    PRESENT,
    TOO_LONG,
    UNKNOWN,
    X_LEAF,
    X_LEAF_VERSION,
    X_LOOK,
    X_PARTITION,
    X_RECORD,
    X_SEEN,
    X_SEEN_RECORD,
    X_STATE,
    X_TABLE,
    X_VALUE,
    Y_COUNT,
    Y_DOWN,
    Y_END,
    Y_FIRST,
    Y_LEAF_COUNT,
    Y_LEAVES,
    Y_LIMIT,
    Y_PARTITION,
    Y_READ_COUNT,
    Y_READS,
    Y_ROWS,
    Y_STATE,
    Y_TABLE,
    keep,
    row_at,
    scan_at,
)
from mako.ids import Outcome

COMMITTED = int(Outcome.COMMITTED)
_TOO_LARGE = int(Outcome.TOO_LARGE)
_UNAVAILABLE = int(Outcome.UNAVAILABLE)
IDLE, RUNNING = 0, 1


@compiled
def begin_message(lane: int, message: int, kind: int) -> None:
    """What every message of a lane begins with."""
    st8(message + M_KIND, kind)
    st8(message + M_TRANSACTION, ld8(lane + L_TRANSACTION))
    st8(message + M_VIEW, ld8(ld8(lane + C_ENGINE) + VIEW))


@compiled
def _send_scan(lane: int, number: int, port: int) -> bool:
    part = scan_at(lane, number)
    table = ld8(part + Y_TABLE)
    first_size = key_bytes(table, ld8(part + Y_FIRST))
    end_size = key_bytes(table, ld8(part + Y_END))
    size = S_KEYS + padded(first_size) + padded(end_size)
    message = room(ld8(port + P_ASK), size)
    if message == 0:
        return False
    begin_message(lane, message, SCAN)
    st8(message + S_NUMBER, number)
    st8(message + S_TABLE, ld8(table + T_ID))
    st8(message + S_DOWN, ld8(part + Y_DOWN))
    st8(message + S_LIMIT, ld8(part + Y_LIMIT))
    st8(message + S_FIRST, first_size)
    st8(message + S_END, end_size)
    record_key(table, ld8(part + Y_FIRST), message + S_KEYS)
    record_key(table, ld8(part + Y_END), message + S_KEYS + padded(first_size))
    st8(part + Y_STATE, ASKED)
    send(ld8(port + P_ASK), message, size)
    return True


@compiled
def send_wanted(lane: int, partition: int, port: int) -> bool:
    """Ask a partition for rows and ranges."""
    if not _send_rows(lane, partition, port):
        return False
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_PARTITION) != partition or ld8(part + Y_STATE) != UNKNOWN:
            continue
        if not _send_scan(lane, i, port):
            return False
    return True


@compiled
def _send_rows(lane: int, partition: int, port: int) -> bool:
    size = B_ROWS
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        wanted = ld8(row + X_STATE) == UNKNOWN and ld8(row + X_LOOK) != 0
        if wanted and ld8(row + X_PARTITION) == partition:
            size += R_KEY_ + padded(key_bytes(ld8(row + X_TABLE), ld8(row + X_RECORD)))
    if size == B_ROWS:
        return True
    message = room(ld8(port + P_ASK), min(size, MESSAGE_MAX))
    if message == 0:
        return False
    begin_message(lane, message, ROWS)
    at = message + B_ROWS
    count = 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        wanted = ld8(row + X_STATE) == UNKNOWN and ld8(row + X_LOOK) != 0
        if not wanted or ld8(row + X_PARTITION) != partition:
            continue
        table = ld8(row + X_TABLE)
        record = ld8(row + X_RECORD)
        length = key_bytes(table, record)
        if at + R_KEY_ + padded(length) > message + MESSAGE_MAX:
            break  # The rest is asked for when these have come.
        st8(at + R_NUMBER, i)
        st8(at + R_TABLE, ld8(table + T_ID))
        st8(at + R_SIZE, length)
        record_key(table, record, at + R_KEY_)
        st8(row + X_STATE, ASKED)
        at += R_KEY_ + padded(length)
        count += 1
    st8(message + B_COUNT, count)
    send(ld8(port + P_ASK), message, at - message)
    return True


@compiled
def is_of(table: int, length: int) -> bool:
    """Whether a row that has come is one of the table as it is known here."""
    size = ld8(table + T_ROW)
    return size == 0 or length == size


@compiled
def take_values(lane: int, partition: int, message: int) -> None:
    """Rows have come; those that a partition had no room for are asked for again."""
    at = message + B_ROWS
    waits = False
    for _ in range(ld8(message + B_COUNT)):
        length = ld8(at + A_LENGTH)
        row = row_at(lane, ld8(at + A_NUMBER))
        there = ld8(at + A_THERE)
        if there == PRESENT and not is_of(ld8(row + X_TABLE), length):
            there = NO_TABLE
        st8(row + X_STATE, there)
        if there == UNKNOWN:
            waits = True
        elif there == TOO_LONG:
            st8(lane + L_REFUSED, _TOO_LARGE)
        elif there == NO_TABLE:
            st8(lane + L_REFUSED, _UNAVAILABLE)
        st8(row + X_SEEN_RECORD, ld8(at + A_RECORD_))
        st8(row + X_SEEN, ld8(at + A_TIMESTAMP))
        st8(row + X_LEAF, ld8(at + A_LEAF_))
        st8(row + X_LEAF_VERSION, ld8(at + A_LEAF_VERSION))
        if there == PRESENT:
            version = keep(lane, V_VALUE + length)
            if version == 0:
                st8(row + X_STATE, UNKNOWN)
                st8(lane + L_REFUSED, _TOO_LARGE)
            else:
                st8(version + V_TIMESTAMP, ld8(at + A_TIMESTAMP))
                st8(version + V_LENGTH, length)
                memcpy(version + V_VALUE, at + A_VALUE, length)
                st8(row + X_VALUE, version)
        at += A_VALUE + padded(length)
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        if ld8(row + X_PARTITION) == partition and ld8(row + X_STATE) == ASKED:
            st8(row + X_STATE, UNKNOWN)  # There was no room for it.
    if waits:
        st8(lane + C_MET_PREPARED, 1)


@compiled
def take_range(lane: int, message: int) -> None:
    """A range has come."""
    part = scan_at(lane, ld8(message + G_NUMBER))
    there = ld8(message + G_THERE)
    st8(part + Y_STATE, there)
    if there == PRESENT:
        there = _keep_range(lane, part, message)
    elif there == UNKNOWN:
        st8(lane + C_MET_PREPARED, 1)
    if there == TOO_LONG or there == NO_TABLE:
        st8(part + Y_STATE, UNKNOWN)
        st8(lane + L_REFUSED, _TOO_LARGE if there == TOO_LONG else _UNAVAILABLE)


@compiled
def _keep_range(lane: int, part: int, message: int) -> int:
    """Lay out the rows as records and versions of the heap: PRESENT; TOO_LONG, if there is no room
    for them; NO_TABLE, if they are of another one."""
    table = ld8(part + Y_TABLE)
    count = ld8(message + G_ROWS)
    reads = ld8(message + G_READS) * 16
    leaves = ld8(message + G_LEAVES) * 16
    rows = keep(lane, 16 * count + 16)
    noted = keep(lane, reads + leaves + 16)
    if rows == 0 or noted == 0:
        return TOO_LONG
    at = message + G_ITEMS
    for i in range(count):
        size = ld8(at)
        length = ld8(at + 8)
        if not is_of(table, length):
            return NO_TABLE
        record = keep(lane, size + 32)
        version = keep(lane, V_VALUE + length)
        if record == 0 or version == 0:
            return TOO_LONG
        fill_record(table, record, at + 16, size)
        at += 16 + padded(size)
        st8(version + V_TIMESTAMP, 0)
        st8(version + V_LENGTH, length)
        memcpy(version + V_VALUE, at, length)
        at += padded(length)
        st8(rows + 16 * i, record)
        st8(rows + 16 * i + 8, version)
    memcpy(noted, at, reads + leaves)
    st8(part + Y_COUNT, count)
    st8(part + Y_ROWS, rows)
    st8(part + Y_READS, noted)
    st8(part + Y_READ_COUNT, ld8(message + G_READS))
    st8(part + Y_LEAVES, noted + reads)
    st8(part + Y_LEAF_COUNT, ld8(message + G_LEAVES))
    return PRESENT
