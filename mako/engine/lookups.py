"""Looking up rows and ranges for transactions of other partitions. Nothing is noted here: the
coordinator keeps what it has seen, and a PREPARE says what has to be true still.

What is locked until another partition has answered is not told: whoever asks waits for a while,
instead of running with what will not be true.
"""

from mako.engine.access import BYTES_ACCESS, PAIR_ACCESS, WORD_ACCESS
from mako.engine.atomics import ld8, load_acquire, memcpy, st8
from mako.engine.channel import (
    M_KIND,
    M_TRANSACTION,
    M_VIEW,
    MESSAGE_MAX,
    room,
    send,
)
from mako.engine.closing import activate
from mako.engine.commit import begin, forget, rest
from mako.engine.index import BYTES_INDEX, LOST, PAIR_INDEX, WORD_INDEX
from mako.engine.interactive import key_bytes, record_key
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
    H_FREE,
    H_OWN,
    H_READ_FOR,
    P_ANSWER,
    P_SENT,
    R_KEY_,
    R_NUMBER,
    R_SIZE,
    R_TABLE,
    RANGE,
    S_DOWN,
    S_END,
    S_FIRST,
    S_KEYS,
    S_LIMIT,
    S_NUMBER,
    S_TABLE,
    VALUES,
    padded,
)
from mako.engine.layout import (
    C_ENGINE,
    C_KEY,
    C_KEY_END,
    C_LEAFSET,
    C_LEAVES,
    C_MESH,
    C_READS,
    C_READSET,
    C_SCAN,
    DEAD,
    LEAF_BYTES,
    LENGTH_MASK,
    PAIR_KEYS,
    POINTER,
    PREPARED,
    R_HEAD,
    READ_BYTES,
    SCAN_BYTES,
    T_KIND,
    T_ROW,
    TABLE_BYTES,
    TABLES,
    TOMBSTONE,
    V_LENGTH,
    V_TIMESTAMP,
    V_VALUE,
    VIEW,
    WORD_KEYS,
)
from mako.engine.remote import ABSENT, NO_TABLE, PRESENT, TOO_LONG, UNKNOWN
from mako.engine.scan import BYTES_SCANNING, PAIR_SCANNING, WORD_SCANNING
from mako.engine.transitions import LENT, give_lane, take_lane
from mako.ids import Outcome

COMMITTED = int(Outcome.COMMITTED)
_TOO_LARGE = int(Outcome.TOO_LARGE)
_word_get, _pair_get, _bytes_get = WORD_INDEX.get, PAIR_INDEX.get, BYTES_INDEX.get
_word_decode = WORD_ACCESS.index.kind.decode
_pair_decode = PAIR_ACCESS.index.kind.decode
_bytes_decode = BYTES_ACCESS.index.kind.decode
_word_up, _word_down = WORD_SCANNING.forward_here, WORD_SCANNING.backward_here
_pair_up, _pair_down = PAIR_SCANNING.forward_here, PAIR_SCANNING.backward_here
_bytes_up, _bytes_down = BYTES_SCANNING.forward_here, BYTES_SCANNING.backward_here


@compiled
def has_keys(table: int, size: int) -> bool:
    """Whether a table is there, with keys of `size` bytes. Processes that are updated one by one do
    not all have a new table at the same time, and a number names no tree before."""
    kind = load_acquire(table + T_KIND)
    if kind == WORD_KEYS:
        return size == 8
    if kind == PAIR_KEYS:
        return size == 16
    return kind != 0


@compiled
def _find(tx: int, table: int, key: int, size: int) -> tuple[int, int, int]:
    kind = ld8(table + T_KIND)
    if kind == 1:
        return _word_get(table, _word_decode(key, size, tx + C_KEY))
    if kind == 2:
        return _pair_get(table, _pair_decode(key, size, tx + C_KEY))
    return _bytes_get(table, _bytes_decode(key, size, tx + C_KEY))


@compiled
def _look(tx: int, row: int, at: int, room_left: int) -> int:
    """Write what there is for one row that was asked for to `at`; bytes, or -1: too long.

    A row that is locked until another partition answers is not known (UNKNOWN): whoever asks
    waits, instead of running with what will not be true.
    """
    table = ld8(tx + C_ENGINE) + TABLES + ld8(row + R_TABLE) * TABLE_BYTES
    record, leaf, leaf_version = 0, 0, 0
    is_there = has_keys(table, ld8(row + R_SIZE))
    if is_there:
        record, leaf, leaf_version = _find(tx, table, row + R_KEY_, ld8(row + R_SIZE))
    st8(at + A_NUMBER, ld8(row + R_NUMBER))
    st8(at + A_RECORD_, 0)
    st8(at + A_TIMESTAMP, 0)
    st8(at + A_LEAF_, leaf)
    st8(at + A_LEAF_VERSION, leaf_version)
    st8(at + A_LENGTH, 0)
    st8(at + A_THERE, ABSENT if is_there else NO_TABLE)
    if record == LOST:
        st8(at + A_THERE, UNKNOWN)
        return A_VALUE
    if record == 0:
        return A_VALUE
    head = load_acquire(record + R_HEAD)
    if head & (DEAD | PREPARED):
        st8(at + A_THERE, UNKNOWN)
        return A_VALUE
    version = head & POINTER
    st8(at + A_RECORD_, record)
    if version == 0:
        return A_VALUE
    st8(at + A_TIMESTAMP, ld8(version + V_TIMESTAMP))
    if ld8(version + V_LENGTH) & TOMBSTONE:
        return A_VALUE
    length = ld8(version + V_LENGTH) & LENGTH_MASK
    if A_VALUE + padded(length) > room_left:
        return -1
    st8(at + A_THERE, PRESENT)
    st8(at + A_LEAF_, 0)
    st8(at + A_LENGTH, length)
    memcpy(at + A_VALUE, version + V_VALUE, length)
    return A_VALUE + padded(length)


@compiled
def _values_bytes(tx: int, message: int) -> int:
    """What the answer to a ROWS takes at most."""
    size = B_ROWS + A_VALUE
    row = message + B_ROWS
    for _ in range(ld8(message + B_COUNT)):
        table = ld8(tx + C_ENGINE) + TABLES + ld8(row + R_TABLE) * TABLE_BYTES
        if ld8(table + T_ROW) == 0:  # Of any length.
            return MESSAGE_MAX
        size += A_VALUE + padded(ld8(table + T_ROW))
        row += R_KEY_ + padded(ld8(row + R_SIZE))
    return min(size, MESSAGE_MAX)


@compiled
def on_rows(home: int, port: int, message: int) -> bool:
    """False if there is no room for the answer now."""
    mesh = ld8(home + C_MESH)
    count = ld8(message + B_COUNT)
    most = _values_bytes(home, message)
    answer = room(ld8(port + P_ANSWER), most)
    if answer == 0:
        return False
    activate(home)
    st8(answer + M_KIND, VALUES)
    st8(answer + M_TRANSACTION, ld8(message + M_TRANSACTION))
    st8(answer + M_VIEW, ld8(ld8(home + C_ENGINE) + VIEW))
    row = message + B_ROWS
    at = answer + B_ROWS
    end = answer + most
    sent = 0
    for _ in range(count):
        size = _look(home, row, at, end - at)
        if size < 0:
            if sent > 0:
                break  # It and the others are asked for again.
            st8(at + A_THERE, TOO_LONG)
            size = A_VALUE
        at += size
        sent += 1
        row += R_KEY_ + padded(ld8(row + R_SIZE))
        if at + A_VALUE > end:
            break  # The next one is asked for again.
    st8(answer + B_COUNT, sent)
    send(ld8(port + P_ANSWER), answer, at - answer)
    st8(port + P_SENT, 1)
    st8(mesh + H_READ_FOR, ld8(mesh + H_READ_FOR) + sent)
    return True


@compiled
def _scan(lane: int, message: int, table: int) -> int:
    first = message + S_KEYS
    first_size = ld8(message + S_FIRST)
    end = first + padded(first_size)
    end_size = ld8(message + S_END)
    limit = ld8(message + S_LIMIT)
    down = ld8(message + S_DOWN) != 0
    kind = ld8(table + T_KIND)
    if kind == 1:
        low = _word_decode(first, first_size, lane + C_KEY)
        high = _word_decode(end, end_size, lane + C_KEY_END)
        if down:
            return _word_down(lane, table, low, high, limit)
        return _word_up(lane, table, low, high, limit)
    if kind == 2:
        low_pair = _pair_decode(first, first_size, lane + C_KEY)
        high_pair = _pair_decode(end, end_size, lane + C_KEY_END)
        if down:
            return _pair_down(lane, table, low_pair, high_pair, limit)
        return _pair_up(lane, table, low_pair, high_pair, limit)
    low_string = _bytes_decode(first, first_size, lane + C_KEY)
    high_string = _bytes_decode(end, end_size, lane + C_KEY_END)
    if down:
        return _bytes_down(lane, table, low_string, high_string, limit)
    return _bytes_up(lane, table, low_string, high_string, limit)


@compiled
def _range_bytes(lane: int, table: int, count: int) -> int:
    """What a RANGE with the results of a scan takes, or -1 if it is too long."""
    size = G_ITEMS + 16 * (ld8(lane + C_READS) + ld8(lane + C_LEAVES))
    for i in range(count):
        record = ld8(lane + C_SCAN + i * SCAN_BYTES)
        version = ld8(lane + C_SCAN + i * SCAN_BYTES + 8)
        size += 16 + padded(key_bytes(table, record))
        size += padded(ld8(version + V_LENGTH) & LENGTH_MASK)
        if size > MESSAGE_MAX:
            return -1
    return size if size <= MESSAGE_MAX else -1


@compiled
def _meets_prepared(lane: int) -> bool:
    """Whether anything that was read is locked until another partition answers."""
    for i in range(ld8(lane + C_READS)):
        record = ld8(lane + C_READSET + i * READ_BYTES)
        if load_acquire(record + R_HEAD) & PREPARED:
            return True
    return False


@compiled
def _put_range(lane: int, table: int, count: int, at: int) -> int:
    """Write the results of a scan, and what was noted of it; where it ends."""
    for i in range(count):
        record = ld8(lane + C_SCAN + i * SCAN_BYTES)
        version = ld8(lane + C_SCAN + i * SCAN_BYTES + 8)
        size = key_bytes(table, record)
        length = ld8(version + V_LENGTH) & LENGTH_MASK
        st8(at, size)
        st8(at + 8, length)
        record_key(table, record, at + 16)
        at += 16 + padded(size)
        memcpy(at, version + V_VALUE, length)
        at += padded(length)
    reads = ld8(lane + C_READS) * READ_BYTES
    memcpy(at, lane + C_READSET, reads)
    leaves = ld8(lane + C_LEAVES) * LEAF_BYTES
    memcpy(at + reads, lane + C_LEAFSET, leaves)
    return at + reads + leaves


@compiled
def _answer_scan(home: int, lane: int, port: int, message: int) -> bool:
    table = ld8(lane + C_ENGINE) + TABLES + ld8(message + S_TABLE) * TABLE_BYTES
    begin(lane)
    is_there = has_keys(table, ld8(message + S_FIRST)) and has_keys(table, ld8(message + S_END))
    count = _scan(lane, message, table) if is_there else 0
    there = PRESENT
    size = G_ITEMS
    if not is_there:
        there = NO_TABLE
    elif count < 0 or _meets_prepared(lane):
        there = TOO_LONG if count == -_TOO_LARGE else UNKNOWN
    else:
        size = _range_bytes(lane, table, count)
        if size < 0:
            there = TOO_LONG
            size = G_ITEMS
    answer = room(ld8(port + P_ANSWER), size)
    if answer == 0:
        return False
    st8(answer + M_KIND, RANGE)
    st8(answer + M_TRANSACTION, ld8(message + M_TRANSACTION))
    st8(answer + M_VIEW, ld8(ld8(home + C_ENGINE) + VIEW))
    st8(answer + G_NUMBER, ld8(message + S_NUMBER))
    st8(answer + G_THERE, there)
    st8(answer + G_ROWS, 0)
    st8(answer + G_READS, 0)
    st8(answer + G_LEAVES, 0)
    end = answer + G_ITEMS
    if there == PRESENT:
        st8(answer + G_ROWS, count)
        st8(answer + G_READS, ld8(lane + C_READS))
        st8(answer + G_LEAVES, ld8(lane + C_LEAVES))
        end = _put_range(lane, table, count, end)
    send(ld8(port + P_ANSWER), answer, end - answer)
    st8(port + P_SENT, 1)
    mesh = ld8(home + C_MESH)
    st8(mesh + H_READ_FOR, ld8(mesh + H_READ_FOR) + max(count, 0))
    return True


@compiled
def _answer_later(home: int, port: int, message: int) -> bool:
    """The range cannot be told now."""
    answer = room(ld8(port + P_ANSWER), G_ITEMS)
    if answer == 0:
        return False
    st8(answer + M_KIND, RANGE)
    st8(answer + M_TRANSACTION, ld8(message + M_TRANSACTION))
    st8(answer + M_VIEW, ld8(ld8(home + C_ENGINE) + VIEW))
    st8(answer + G_NUMBER, ld8(message + S_NUMBER))
    st8(answer + G_THERE, UNKNOWN)
    st8(answer + G_ROWS, 0)
    st8(answer + G_READS, 0)
    st8(answer + G_LEAVES, 0)
    send(ld8(port + P_ANSWER), answer, G_ITEMS)
    st8(port + P_SENT, 1)
    return True


@compiled
def on_scan(home: int, port: int, message: int) -> bool:
    """False if there is no room for the answer."""
    mesh = ld8(home + C_MESH)
    lane = take_lane(mesh, ld8(mesh + H_FREE) & ~ld8(mesh + H_OWN))
    if lane == 0:  # What would free one may be behind this: whoever asks waits elsewhere.
        return _answer_later(home, port, message)
    done = _answer_scan(home, lane, port, message)
    forget(lane)
    rest(lane)
    give_lane(lane, LENT)
    return done
