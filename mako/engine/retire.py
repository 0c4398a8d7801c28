"""Memory that is out of use but may still be seen: a first-in first-out queue per context.

    block   next block | ... | entries
    entry   timestamp | address | what, class | table

An entry with timestamp t is due once every running worker began its transaction at a closed
timestamp of at least t. For a replaced version t is the timestamp of its replacement: who
began at a closed timestamp >= t saw the replacement installed. For memory taken out of a
tree t is one more than the clock showed then: a closed timestamp of that value was computed
after the memory was out of reach.

Nothing here can fail in the middle of a commit: `reserve` makes room first.
"""

from mako.engine.atomics import ld8, load_acquire, st8
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_ENGINE,
    C_RETIRED_COUNT,
    C_RETIRED_HEAD,
    C_RETIRED_HEAD_AT,
    C_RETIRED_TAIL,
    C_RETIRED_TAIL_AT,
    CLOCK,
    POOL_VALUES,
    RETIRED_BLOCK,
    RETIRED_BYTES,
    RETIRED_FIRST,
    RETIRED_NEXT,
)
from mako.engine.memory import allocate_reserved, release, size_class

_PER_BLOCK = (RETIRED_BLOCK - RETIRED_FIRST) // RETIRED_BYTES


@compiled
def reserve_retired(context: int, count: int) -> int:
    """Make room for `count` entries: 1, or 0 when memory is full."""
    block = ld8(context + C_RETIRED_TAIL)
    if block == 0:
        block = allocate_reserved(context, POOL_VALUES, RETIRED_BLOCK)
        if block == 0:
            return 0
        st8(block + RETIRED_NEXT, 0)
        st8(context + C_RETIRED_HEAD, block)
        st8(context + C_RETIRED_HEAD_AT, RETIRED_FIRST)
        st8(context + C_RETIRED_TAIL, block)
        st8(context + C_RETIRED_TAIL_AT, RETIRED_FIRST)
    room = (RETIRED_BLOCK - ld8(context + C_RETIRED_TAIL_AT)) // RETIRED_BYTES
    while room < count and ld8(block + RETIRED_NEXT) != 0:
        block = ld8(block + RETIRED_NEXT)
        room += _PER_BLOCK
    while room < count:
        added = allocate_reserved(context, POOL_VALUES, RETIRED_BLOCK)
        if added == 0:
            return 0
        st8(added + RETIRED_NEXT, 0)
        st8(block + RETIRED_NEXT, added)
        block = added
        room += _PER_BLOCK
    return 1


@compiled
def retire(context: int, address: int, what: int, index: int, timestamp: int, table: int) -> None:
    """Queue `address` of pool or action `what` and size class `index`.

    With timestamp 0 it is taken as unlinked just now. Without room, which `reserve_retired`
    prevents on every path that must not fail, the memory is lost and nothing else happens.
    """
    if timestamp == 0:
        timestamp = load_acquire(ld8(context + C_ENGINE) + CLOCK) + 1
    at = ld8(context + C_RETIRED_TAIL_AT)
    block = ld8(context + C_RETIRED_TAIL)
    if block == 0 or at + RETIRED_BYTES > RETIRED_BLOCK:
        if reserve_retired(context, 1) == 0:
            return
        if block == 0:
            block = ld8(context + C_RETIRED_TAIL)
        else:
            block = ld8(block + RETIRED_NEXT)
        at = RETIRED_FIRST
        st8(context + C_RETIRED_TAIL, block)
    st8(block + at, timestamp)
    st8(block + at + 8, address)
    st8(block + at + 16, what | index << 8)
    st8(block + at + 24, table)
    st8(context + C_RETIRED_TAIL_AT, at + RETIRED_BYTES)
    st8(context + C_RETIRED_COUNT, ld8(context + C_RETIRED_COUNT) + 1)


@compiled
def first_retired(context: int) -> int:
    """Address of the oldest entry, 0 when there is none."""
    if ld8(context + C_RETIRED_COUNT) == 0:
        return 0
    block = ld8(context + C_RETIRED_HEAD)
    at = ld8(context + C_RETIRED_HEAD_AT)
    if at + RETIRED_BYTES > RETIRED_BLOCK:
        following = ld8(block + RETIRED_NEXT)
        release(context, POOL_VALUES, block, size_class(RETIRED_BLOCK))
        block = following
        at = RETIRED_FIRST
        st8(context + C_RETIRED_HEAD, block)
        st8(context + C_RETIRED_HEAD_AT, at)
    return block + at


@compiled
def pop_retired(context: int) -> None:
    """Drop the entry `first_retired` returned."""
    st8(context + C_RETIRED_HEAD_AT, ld8(context + C_RETIRED_HEAD_AT) + RETIRED_BYTES)
    st8(context + C_RETIRED_COUNT, ld8(context + C_RETIRED_COUNT) - 1)
