"""The keeper of a database in memory: a compiled loop beside the workers that closes
timestamps and takes what they logged, until it is told to stop.

It stands where a replica has its turns: it drains the rings in the order the log demands (E2:
first the closed timestamp, then the rings) and throws the bytes away, unless a recorder
(`mako.engine.recorder`) takes them.
"""

from mako.engine.atomics import cas, ld8, load_acquire, st8
from mako.engine.closing import close
from mako.engine.jit import compiled
from mako.engine.layout import (
    BUMP,
    CONTEXT_BYTES,
    CONTEXT_COUNT,
    CONTEXTS,
    RECORDING,
    SIZE,
    TOUCHED,
)
from mako.engine.ring import drain
from mako.engine.system import sleep_us

PAGE_BYTES = 4096
#: What stays touched ahead: about half a second of TPC-C at full speed.
AHEAD_OF_BUMP = 64 << 20
#: A turn must stay short, or a log ring fills up meanwhile.
TOUCHED_PER_TURN = 8 << 20


@compiled
def turn(engine: int) -> int:
    """Close once and empty every ring; the closed timestamp."""
    closed = close(engine)
    if load_acquire(engine + RECORDING) != 0:
        return closed
    contexts = ld8(engine + CONTEXTS)
    for i in range(ld8(engine + CONTEXT_COUNT)):
        drain(contexts + i * CONTEXT_BYTES, 0, 0)
    return closed


@compiled
def touch(engine: int, ahead: int, budget: int) -> int:
    """Touch up to `budget` bytes of the `ahead` that will be handed out next; how many it were.

    The kernel finds and clears a page when it is first touched; here that costs the keeper's
    time and not a transaction's. An atomic exchange of 0 for 0 disturbs nobody who got the page
    meanwhile.
    """
    bump = load_acquire(engine + BUMP)
    first = max(ld8(engine + TOUCHED), bump & -PAGE_BYTES)
    end = min(bump + ahead, engine + ld8(engine + SIZE)) & -PAGE_BYTES
    end = min(end, first + budget)
    at = first
    while at < end:
        cas(at, 0, 0)  # Adding 0 would become a load, and pages are made by writes only.
        at += PAGE_BYTES
    st8(engine + TOUCHED, at)
    return at - first


@compiled
def keep(engine: int, stop_word: int, interval_us: int) -> None:
    """Turn every `interval_us` until the word at `stop_word` is not 0."""
    while load_acquire(stop_word) == 0:
        turn(engine)
        touch(engine, AHEAD_OF_BUMP, TOUCHED_PER_TURN)
        sleep_us(interval_us)
    turn(engine)
