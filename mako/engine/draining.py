"""What workers have logged, taken in the order of timestamps and up to the closed one.

      ring of worker 1     10   14   15 │ 21          closed = 20
      ring of worker 2       12    16   │    22
      entry                10 12 14 15 16             closed in its footer = 20

So the log of a partition is sorted by timestamp, and an entry holds all that is at or below its
closed timestamp and nothing above it:

    L1  The timestamps in an entry are above the closed timestamp of the entry before, and at or
        below its own.
    L2  What is at or below the closed timestamp of an entry is in that entry or before it.

Both need that one thread drains, that it closes before it drains (E2), and that the transactions
in a ring are in ascending order: a worker draws a timestamp and logs before it draws the next.

Two rings may have the same timestamp: one of another partition's transaction, which was raised to
it there, and one that was drawn here. Such a tie is taken whole or not at all.
"""

from mako.engine.atomics import ld8, ldu8, load_acquire, memcpy, st8, store_release
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_LOG_BASE,
    C_LOG_HEAD,
    C_LOG_SIZE,
    C_LOG_TAIL,
    CONTEXT_BYTES,
    CONTEXT_COUNT,
    CONTEXTS,
    NONE,
)
from mako.engine.ring import SKIP


@compiled
def next_logged(tx: int) -> int:
    """The timestamp of the oldest transaction in the ring of a context; NONE: it is empty."""
    head = load_acquire(tx + C_LOG_HEAD)
    tail = ld8(tx + C_LOG_TAIL)
    if tail == head:
        return NONE
    capacity = ld8(tx + C_LOG_SIZE)
    base = ld8(tx + C_LOG_BASE)
    place = tail % capacity
    if ld8(base + place) == SKIP:
        tail += capacity - place
        st8(tx + C_LOG_TAIL, tail)
        if tail == head:
            return NONE
        place = 0
    return ldu8(base + place + 8)


@compiled
def _drain_below(tx: int, up_to: int, target: int, room: int) -> tuple[int, int, int]:
    """Move the transactions at or below `up_to` out of one ring: (bytes, transactions, the
    timestamp of the next one, or NONE). What does not fit into `room` stays."""
    head = load_acquire(tx + C_LOG_HEAD)
    tail = ld8(tx + C_LOG_TAIL)
    capacity = ld8(tx + C_LOG_SIZE)
    base = ld8(tx + C_LOG_BASE)
    moved = 0
    count = 0
    following = NONE
    while tail < head:
        place = tail % capacity
        size = ld8(base + place)
        if size == SKIP:
            tail += capacity - place
            continue
        timestamp = ldu8(base + place + 8)
        if timestamp > up_to or moved + size > room:
            following = timestamp
            break
        memcpy(target + moved, base + place + 8, size)
        moved += size
        count += 1
        tail += 8 + ((size + 7) & ~7)
    store_release(tx + C_LOG_TAIL, tail)
    return moved, count, following


@compiled
def _tied_bytes(engine: int, timestamp: int) -> int:
    """What the transactions at `timestamp`, the oldest one there is, take together."""
    contexts = ld8(engine + CONTEXTS)
    total = 0
    for i in range(ld8(engine + CONTEXT_COUNT)):
        tx = contexts + i * CONTEXT_BYTES
        if next_logged(tx) == timestamp:
            total += ld8(ld8(tx + C_LOG_BASE) + ld8(tx + C_LOG_TAIL) % ld8(tx + C_LOG_SIZE))
    return total


@compiled
def _drain_tied(engine: int, timestamp: int, target: int, room: int) -> tuple[int, int]:
    """Move the transactions at `timestamp`: (bytes, transactions)."""
    contexts = ld8(engine + CONTEXTS)
    moved = 0
    transactions = 0
    for i in range(ld8(engine + CONTEXT_COUNT)):
        tx = contexts + i * CONTEXT_BYTES
        if next_logged(tx) == timestamp:
            taken, number, _ = _drain_below(tx, timestamp, target + moved, room - moved)
            moved += taken
            transactions += number
    return moved, transactions


@compiled
def drain_ordered(
    engine: int, closed: int, target: int, room: int, most: int
) -> tuple[int, int, int]:
    """Move everything logged at or below `closed` to `target`, in the order of timestamps:
    (bytes, transactions, closed timestamp of what was moved).

    The last is `closed`, or lower if the rest did not fit into `room`: then call again. A tie that
    is larger than that may take `most` bytes; nothing is moved if that is too little.
    """
    contexts = ld8(engine + CONTEXTS)
    count = ld8(engine + CONTEXT_COUNT)
    moved = 0
    transactions = 0
    while True:
        first = 0
        oldest = NONE
        second = NONE
        for i in range(count):
            timestamp = next_logged(contexts + i * CONTEXT_BYTES)
            if timestamp < oldest:
                second = oldest
                oldest = timestamp
                first = i
            elif timestamp < second:
                second = timestamp
        if oldest > closed:
            return moved, transactions, closed
        if oldest == second:
            left = room - moved if moved != 0 else most
            if _tied_bytes(engine, oldest) > left:
                return moved, transactions, oldest - 1
            taken, number = _drain_tied(engine, oldest, target + moved, left)
            moved += taken
            transactions += number
            continue
        context = contexts + first * CONTEXT_BYTES
        up_to = min(closed, second - 1)
        taken, number, following = _drain_below(context, up_to, target + moved, room - moved)
        moved += taken
        transactions += number
        if following <= up_to:
            return moved, transactions, following - 1


@compiled
def forget_logged(engine: int) -> int:
    """Empty all rings while nobody runs; the number of transactions that were forgotten."""
    contexts = ld8(engine + CONTEXTS)
    forgotten = 0
    for i in range(ld8(engine + CONTEXT_COUNT)):
        context = contexts + i * CONTEXT_BYTES
        head = load_acquire(context + C_LOG_HEAD)
        capacity = ld8(context + C_LOG_SIZE)
        base = ld8(context + C_LOG_BASE)
        tail = ld8(context + C_LOG_TAIL)
        while tail < head:
            place = tail % capacity
            size = ld8(base + place)
            if size == SKIP:
                tail += capacity - place
                continue
            tail += 8 + ((size + 7) & ~7)
            forgotten += 1
        store_release(context + C_LOG_TAIL, tail)
    return forgotten
