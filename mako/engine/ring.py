"""The log ring of a context: transactions in log format, written by the worker, drained by one
other thread.

      tail                             head
       v                                v
    +--+--------+--------+--------+-----+---------------------------+
    |  | length | bytes  | length | ... |                           |
    +--+--------+--------+--------+-----+---------------------------+

Head and tail count bytes since the beginning; a place is the count modulo the ring's size. A
transaction lies in one piece, padded to eight bytes after its length; SKIP in place of a
length says that the next one begins at the start of the ring. A full ring stops the worker:
that is the back-pressure.
"""

from mako.engine.atomics import ld8, load_acquire, memcpy, st2, st4, st8, store_release, stu8
from mako.engine.jit import compiled
from mako.engine.keys import BYTES_KIND, PAIR_KIND, WORD_KIND
from mako.engine.layout import (
    C_LOG_BASE,
    C_LOG_BYTES,
    C_LOG_HEAD,
    C_LOG_SIZE,
    C_LOG_TAIL,
    C_LOG_TOTAL,
    C_LOG_TRANSACTIONS,
    C_OWN,
    C_WRITES,
    C_WRITESET,
    CANCELLED,
    DELETE,
    LENGTH_MASK,
    T_ID,
    T_KIND,
    V_LENGTH,
    V_VALUE,
    W_KIND,
    W_RECORD,
    W_TABLE,
    W_VERSION,
    WRITE_BYTES,
)
from mako.log_format import (
    DEPENDENCIES_BYTES,
    FLAG_DEPENDENCIES,
    TABLE_DELETE,
    TRANSACTION_BYTES,
    TRANSACTION_COUNT,
    TRANSACTION_FLAGS,
    TRANSACTION_LENGTH,
)

SKIP = -1
_ENVELOPE = 16  # length word and padding
_encode_word = WORD_KIND.encode
_encode_pair = PAIR_KIND.encode
_encode_bytes = BYTES_KIND.encode
_bytes_length = BYTES_KIND.encoded_bytes

#: From here on the ring is begun again while its first part is free and little else waits. It
#: is enough for some ten milliseconds of TPC-C.
TURN_BACK_AT = 2 << 20
CLOSE_BEHIND = 512 << 10


@compiled
def log_room(tx: int, size: int) -> int:
    """Whether a transaction whose writes take `size` bytes fits now: 1; 0: wait; -1: never."""
    capacity = ld8(tx + C_LOG_SIZE)
    needed = size + TRANSACTION_BYTES + DEPENDENCIES_BYTES + _ENVELOPE
    if needed > capacity >> 1:
        return -1
    head = ld8(tx + C_LOG_HEAD)
    left = capacity - head % capacity
    if left < needed:
        needed += left
    return 1 if head + needed - load_acquire(tx + C_LOG_TAIL) <= capacity else 0


@compiled
def _append_write(entry: int, at: int) -> int:
    """Encode one write at `at`; return where the next one goes."""
    table = ld8(entry + W_TABLE)
    record = ld8(entry + W_RECORD)
    kind = ld8(table + T_KIND)
    if kind == 1:
        st2(at, 8)
        _encode_word(record, at + 2)
        at += 10
    elif kind == 2:
        st2(at, 16)
        _encode_pair(record, at + 2)
        at += 18
    else:
        size = _bytes_length(record)
        st2(at, size)
        _encode_bytes(record, at + 2)
        at += 2 + size
    version = ld8(entry + W_VERSION)
    number = ld8(table + T_ID)
    length = ld8(version + V_LENGTH) & LENGTH_MASK
    st4(at, length)
    memcpy(at + 4, version + V_VALUE, length)
    if ld8(entry + W_KIND) == DELETE:
        number |= TABLE_DELETE
    st2(at + 4 + length, number)
    return at + 6 + length


@compiled
def _may_turn_back(place: int, waiting: int) -> bool:
    """Whether to go on at the beginning of the ring before its end is reached.

    A ring is large for the sake of large transactions and late drainers. While the drainer is
    close behind, using all of it would only push other things out of the caches.
    """
    return waiting <= CLOSE_BEHIND and place - waiting >= TURN_BACK_AT


@compiled
def append_transaction(tx: int, timestamp: int, mask: int) -> None:
    """Append the write set as one transaction; `log_room` has said that it fits."""
    head = ld8(tx + C_LOG_HEAD)
    capacity = ld8(tx + C_LOG_SIZE)
    base = ld8(tx + C_LOG_BASE)
    place = head % capacity
    size = ld8(tx + C_LOG_BYTES) + TRANSACTION_BYTES + DEPENDENCIES_BYTES + _ENVELOPE
    if capacity - place < size:
        st8(base + place, SKIP)
        head += capacity - place
        place = 0
    elif size <= TURN_BACK_AT <= place and _may_turn_back(
        place, head - load_acquire(tx + C_LOG_TAIL)
    ):
        st8(base + place, SKIP)
        head += capacity - place
        place = 0
    start = base + place + 8
    flags = 0
    at = start + TRANSACTION_BYTES
    if mask != ld8(tx + C_OWN):
        flags = FLAG_DEPENDENCIES
        stu8(at, mask)
        at += DEPENDENCIES_BYTES
    first = at
    count = 0
    for i in range(ld8(tx + C_WRITES)):
        entry = tx + C_WRITESET + i * WRITE_BYTES
        if ld8(entry + W_KIND) != CANCELLED:
            at = _append_write(entry, at)
            count += 1
    if count == 0:
        return
    stu8(start, timestamp)
    st2(start + TRANSACTION_COUNT, count)
    st2(start + TRANSACTION_FLAGS, flags)
    st4(start + TRANSACTION_LENGTH, at - first)
    st8(base + place, at - start)
    st8(tx + C_LOG_TRANSACTIONS, ld8(tx + C_LOG_TRANSACTIONS) + 1)
    st8(tx + C_LOG_TOTAL, ld8(tx + C_LOG_TOTAL) + at - start)
    store_release(tx + C_LOG_HEAD, head + 8 + ((at - start + 7) & ~7))


@compiled
def drain(tx: int, target: int, room: int) -> tuple[int, int]:
    """Move whole transactions out of the ring to `target` (0: forget them).

    Return (bytes, transactions) moved. It stops when the ring was empty as it began, or when
    the next one does not fit into `room`.
    """
    head = load_acquire(tx + C_LOG_HEAD)
    tail = ld8(tx + C_LOG_TAIL)
    capacity = ld8(tx + C_LOG_SIZE)
    base = ld8(tx + C_LOG_BASE)
    moved = 0
    count = 0
    while tail < head:
        place = tail % capacity
        size = ld8(base + place)
        if size == SKIP:
            tail += capacity - place
            continue
        if target != 0:
            if moved + size > room:
                break
            memcpy(target + moved, base + place + 8, size)
        moved += size
        count += 1
        tail += 8 + ((size + 7) & ~7)
    store_release(tx + C_LOG_TAIL, tail)
    return moved, count
