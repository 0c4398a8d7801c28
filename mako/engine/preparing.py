"""What a coordinator sends a participant to prepare: what was read there, and what is written.

    PREPARE   proposal, participants | reads: record, timestamp | leaves: leaf, version | writes

Records and leaves are addresses of the participant's, which it has given out; they are good for as
long as it leads (a message names the epochs of both), and what they say is compared by timestamp
and version, which are never used twice.
"""

from mako.engine.atomics import (
    ld8,
    memcpy,
    shl,
    st8,
)
from mako.engine.channel import (
    MESSAGE_MAX,
    room,
    send,
)
from mako.engine.fetching import begin_message
from mako.engine.interactive import key_bytes, record_key
from mako.engine.jit import compiled
from mako.engine.lane import (
    B_ITEMS,
    B_LEAVES,
    B_PARTICIPANTS,
    B_PROPOSAL,
    B_READS,
    B_WRITES,
    I_KEY,
    I_KIND,
    I_LENGTH,
    I_SIZE,
    I_TABLE,
    L_OTHERS,
    L_OUTCOME,
    L_TIMESTAMP,
    P_ASK,
    PREPARE,
    padded,
)
from mako.engine.layout import (
    C_OWN,
    C_ROWS,
    C_SCANS,
    DELETE,
    LENGTH_MASK,
    T_ID,
    V_LENGTH,
    V_VALUE,
)
from mako.engine.remote import (
    X_KIND,
    X_LEAF,
    X_LEAF_VERSION,
    X_NEW,
    X_PARTITION,
    X_RECORD,
    X_SEEN,
    X_SEEN_RECORD,
    X_TABLE,
    Y_LEAF_COUNT,
    Y_LEAVES,
    Y_PARTITION,
    Y_READ_COUNT,
    Y_READS,
    is_read,
    is_scanned,
    is_written,
    row_at,
    scan_at,
)
from mako.ids import Outcome

COMMITTED = int(Outcome.COMMITTED)
IDLE, RUNNING = 0, 1


@compiled
def _item_bytes(lane: int, row: int) -> int:
    """What a row takes in a PREPARE at most."""
    size = 0
    if is_read(lane, row):
        size += 32
    if is_written(lane, row):
        size += I_KEY + padded(key_bytes(ld8(row + X_TABLE), ld8(row + X_RECORD)))
        size += padded(ld8(ld8(row + X_NEW) + V_LENGTH) & LENGTH_MASK)
    return size


@compiled
def _prepare_bytes(lane: int, partition: int) -> int:
    size = B_ITEMS
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        if ld8(row + X_PARTITION) == partition:
            size += _item_bytes(lane, row)
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_PARTITION) == partition and is_scanned(lane, part):
            size += 16 * (ld8(part + Y_READ_COUNT) + ld8(part + Y_LEAF_COUNT))
    return size


@compiled
def participants_of(lane: int) -> int:
    """Bits of the partitions that take part, or 0 if there is too much for one of them."""
    bits = 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        if is_read(lane, row) or is_written(lane, row):
            bits |= shl(1, ld8(row + X_PARTITION))
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if is_scanned(lane, part):
            bits |= shl(1, ld8(part + Y_PARTITION))
    for partition in range(64):
        if bits & shl(1, partition) and _prepare_bytes(lane, partition) > MESSAGE_MAX:
            return 0
    return bits


@compiled
def _put_reads(lane: int, partition: int, at: int) -> tuple[int, int]:
    """What was read there, as it was; (where it ends, how many)."""
    count = 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        known = ld8(row + X_PARTITION) == partition and is_read(lane, row)
        if known and ld8(row + X_SEEN_RECORD) != 0:
            st8(at, ld8(row + X_SEEN_RECORD))
            st8(at + 8, ld8(row + X_SEEN))
            at += 16
            count += 1
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_PARTITION) == partition and is_scanned(lane, part):
            size = 16 * ld8(part + Y_READ_COUNT)
            memcpy(at, ld8(part + Y_READS), size)
            at += size
            count += ld8(part + Y_READ_COUNT)
    return at, count


@compiled
def _put_leaves(lane: int, partition: int, at: int) -> tuple[int, int]:
    """The leaves where something was not there, or was scanned; (where it ends, how many)."""
    count = 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        known = ld8(row + X_PARTITION) == partition and is_read(lane, row)
        if known and ld8(row + X_LEAF) != 0:
            st8(at, ld8(row + X_LEAF))
            st8(at + 8, ld8(row + X_LEAF_VERSION))
            at += 16
            count += 1
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_PARTITION) == partition and is_scanned(lane, part):
            size = 16 * ld8(part + Y_LEAF_COUNT)
            memcpy(at, ld8(part + Y_LEAVES), size)
            at += size
            count += ld8(part + Y_LEAF_COUNT)
    return at, count


@compiled
def send_prepare(lane: int, partition: int, port: int) -> bool:
    """False if there is no room now."""
    message = room(ld8(port + P_ASK), _prepare_bytes(lane, partition))
    if message == 0:
        return False
    begin_message(lane, message, PREPARE)
    st8(message + B_PROPOSAL, ld8(lane + L_TIMESTAMP))
    st8(message + B_PARTICIPANTS, ld8(lane + L_OTHERS) | ld8(lane + C_OWN))
    at = message + B_ITEMS
    at, reads = _put_reads(lane, partition, at)
    at, leaves = _put_leaves(lane, partition, at)
    writes = 0
    if ld8(lane + L_OUTCOME) == COMMITTED:
        for i in range(ld8(lane + C_ROWS)):
            row = row_at(lane, i)
            if ld8(row + X_PARTITION) == partition and is_written(lane, row):
                at = _put_item(row, at)
                writes += 1
    st8(message + B_READS, reads)
    st8(message + B_LEAVES, leaves)
    st8(message + B_WRITES, writes)
    send(ld8(port + P_ASK), message, at - message)
    return True


@compiled
def _put_item(row: int, at: int) -> int:
    """One write; where the next one goes."""
    table = ld8(row + X_TABLE)
    record = ld8(row + X_RECORD)
    version = ld8(row + X_NEW)
    size = key_bytes(table, record)
    length = ld8(version + V_LENGTH) & LENGTH_MASK
    if ld8(row + X_KIND) == DELETE:
        length = 0
    st8(at + I_KIND, ld8(row + X_KIND))
    st8(at + I_TABLE, ld8(table + T_ID))
    st8(at + I_SIZE, size)
    st8(at + I_LENGTH, length)
    record_key(table, record, at + I_KEY)
    value = at + I_KEY + padded(size)
    memcpy(value, version + V_VALUE, length)
    return value + padded(length)
