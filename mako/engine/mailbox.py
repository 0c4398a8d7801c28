"""The request and completion rings of a worker, seen from outside it (see `worker._serve`).

submitter                              worker
writes a request, then the head        reads the head, runs, puts a completion
reads the state: asleep? wakes it      writes SLEEPING, reads the head again, sleeps

A ring is bytes. Heads and tails count them from the start of the worker, a place is the count
modulo the size of the ring; a record lies in one piece, and RING_SKIP in place of its size says
that it lies at the start of the ring instead.

M1  The submitter writes the head before it reads the state, the worker the state before the
    head: one of the two sees the other, and no request is left behind by a sleeper. Whoever
    collects sleeps the same way: it sets K_LISTENING before it looks a last time.
M2  One thread at a time posts, and one at a time collects; whoever waits only looks.
"""

from mako.engine.atomics import ld8, load_acquire, pause, st8, store_seq
from mako.engine.closing import close
from mako.engine.completing import SLEEPING
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_STATE,
    COMPLETION_RING_BYTES,
    D_SIZE,
    K_COMPLETION_HEAD,
    K_COMPLETION_SEEN,
    K_COMPLETION_TAIL,
    K_COMPLETIONS,
    K_LISTENER,
    K_LISTENING,
    K_REQUEST_FILLED,
    K_REQUEST_HEAD,
    K_REQUEST_TAIL,
    K_REQUESTS,
    Q_ARGUMENTS,
    Q_ENTRY,
    Q_ID,
    Q_ORIGIN,
    Q_SIZE,
    REQUEST_RING_BYTES,
    RING_SKIP,
    STABLE,
)
from mako.engine.system import monotonic_ns, sleep_us

#: Where the arguments of a request begin.
REQUEST_ARGUMENTS = Q_ARGUMENTS
#: Rounds of polling before the waiting thread sleeps between two looks.
_SPINS = 2000
_SLEEP_MAX_US = 1000


@compiled
def open_rings(tx: int, requests: int, completions: int, listener: int) -> None:
    """Give a worker that does not run yet its rings, both empty; `listener` is the eventfd it
    writes when whoever collects is asleep, or -1."""
    st8(tx + K_REQUESTS, requests)
    st8(tx + K_COMPLETIONS, completions)
    st8(tx + K_LISTENER, listener)
    st8(tx + K_LISTENING, 0)
    st8(tx + K_REQUEST_HEAD, 0)
    st8(tx + K_REQUEST_FILLED, 0)
    st8(tx + K_REQUEST_TAIL, 0)
    st8(tx + K_COMPLETION_HEAD, 0)
    st8(tx + K_COMPLETION_TAIL, 0)
    st8(tx + K_COMPLETION_SEEN, 0)


@compiled
def request_slot(tx: int, size: int) -> int:
    """Where the next request goes, of `size` bytes in all, or 0 while the ring is full.

    `size` is a multiple of eight and at most half of the ring. Until it is posted, or taken, the
    next one goes there, too: who gives up before leaves nothing behind.
    """
    filled = ld8(tx + K_REQUEST_FILLED)
    place = filled % REQUEST_RING_BYTES
    skipped = REQUEST_RING_BYTES - place if REQUEST_RING_BYTES - place < size else 0
    if filled + skipped + size - load_acquire(tx + K_REQUEST_TAIL) > REQUEST_RING_BYTES:
        return 0
    base = ld8(tx + K_REQUESTS)
    if skipped != 0:
        st8(base + place, RING_SKIP)
        place = 0
    st8(base + place + Q_SIZE, size)
    return base + place


@compiled
def take_slot(tx: int, slot: int) -> None:
    """The next request goes behind `slot`; the next `publish` hands over what is in it."""
    filled = ld8(tx + K_REQUEST_FILLED)
    skipped = (slot - ld8(tx + K_REQUESTS) - filled) % REQUEST_RING_BYTES
    st8(tx + K_REQUEST_FILLED, filled + skipped + ld8(slot + Q_SIZE))


@compiled
def publish(tx: int) -> int:
    """Hand over every request whose slot was taken; whether the worker must be woken."""
    store_seq(tx + K_REQUEST_HEAD, ld8(tx + K_REQUEST_FILLED))  # M1
    return 1 if load_acquire(tx + C_STATE) == SLEEPING else 0


@compiled
def post(tx: int, slot: int, number: int, entry: int) -> int:
    """Take `slot`, where the arguments of a request are, and hand it over: all of it or, to who is
    interrupted, nothing. Whether the worker must be woken."""
    st8(slot + Q_ID, number)
    st8(slot + Q_ENTRY, entry)
    st8(slot + Q_ORIGIN, 0)
    take_slot(tx, slot)
    return publish(tx)


@compiled
def completion_slot(tx: int) -> int:
    """The oldest completion nobody has collected, or 0."""
    tail = ld8(tx + K_COMPLETION_TAIL)
    if load_acquire(tx + K_COMPLETION_HEAD) == tail:
        return 0
    base = ld8(tx + K_COMPLETIONS)
    place = tail % COMPLETION_RING_BYTES
    if ld8(base + place) == RING_SKIP:
        store_seq(tx + K_COMPLETION_TAIL, tail + COMPLETION_RING_BYTES - place)
        return base
    return base + place


@compiled
def collected(tx: int, slot: int) -> None:
    """The place of the completion `slot` is free again."""
    store_seq(tx + K_COMPLETION_TAIL, ld8(tx + K_COMPLETION_TAIL) + ld8(slot + D_SIZE))


@compiled
def listen(tx: int) -> None:
    """Ask to be woken by the next completions; look once more before sleeping (M1)."""
    store_seq(tx + K_LISTENING, 1)


@compiled
def wait_word_above(address: int, value: int, limit_us: int) -> int:
    """Wait until the word at `address` is above `value` or the time is over; the word."""
    end = monotonic_ns() + 1000 * limit_us
    rounds = 0
    while load_acquire(address) <= value:
        rounds += 1
        if rounds < _SPINS:
            pause()
            continue
        if monotonic_ns() >= end:
            break
        sleep_us(min(10 * (rounds - _SPINS + 1), _SLEEP_MAX_US))
    return load_acquire(address)


@compiled
def wait_stable(engine: int, timestamp: int, limit_us: int) -> int:
    """Wait until everything up to `timestamp` is stable: 1, or 0 if the time is over first."""
    close(engine)
    return 1 if wait_word_above(engine + STABLE, timestamp - 1, limit_us) >= timestamp else 0
