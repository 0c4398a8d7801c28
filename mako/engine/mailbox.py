"""The request and completion rings of a worker, seen from outside it (see `worker._serve`).

submitter                              worker
writes a slot, then the head           reads the head, runs, puts a completion
reads the state: asleep? wakes it      writes SLEEPING, reads the head again, sleeps

M1  The submitter writes the head before it reads the state, the worker the state before the
    head: one of the two sees the other, and no request is left behind by a sleeper.
M2  Heads and tails count from the start of the worker. One thread at a time posts, and one
    at a time collects; whoever waits only looks.
"""

from mako.engine.atomics import ld8, load_acquire, pause, st8, store_seq
from mako.engine.closing import close
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_STATE,
    COMPLETION_BYTES,
    K_COMPLETION_HEAD,
    K_COMPLETION_TAIL,
    K_COMPLETIONS,
    K_REQUEST_HEAD,
    K_REQUEST_TAIL,
    K_REQUESTS,
    REQUEST_BYTES,
    REQUEST_SLOTS,
    STABLE,
)
from mako.engine.system import monotonic_ns, sleep_us
from mako.engine.worker import SLEEPING

#: Where the arguments of a request begin in its slot.
REQUEST_ARGUMENTS = 16
#: Arguments that fit a slot.
ARGUMENTS_MAX = (REQUEST_BYTES - REQUEST_ARGUMENTS) // 8
#: Rounds of polling before the waiting thread sleeps between two looks.
_SPINS = 2000
_SLEEP_MAX_US = 1000


@compiled
def open_rings(tx: int, requests: int, completions: int) -> None:
    """Give a worker that does not run yet its rings, both empty."""
    st8(tx + K_REQUESTS, requests)
    st8(tx + K_COMPLETIONS, completions)
    st8(tx + K_REQUEST_HEAD, 0)
    st8(tx + K_REQUEST_TAIL, 0)
    st8(tx + K_COMPLETION_HEAD, 0)
    st8(tx + K_COMPLETION_TAIL, 0)


@compiled
def request_slot(tx: int) -> int:
    """Where the next request goes, or 0 while the ring is full."""
    head = ld8(tx + K_REQUEST_HEAD)
    if head - load_acquire(tx + K_REQUEST_TAIL) >= REQUEST_SLOTS:
        return 0
    return ld8(tx + K_REQUESTS) + head % REQUEST_SLOTS * REQUEST_BYTES


@compiled
def post(tx: int, slot: int, entry: int) -> int:
    """Hand over the request whose arguments are in `slot`; whether its worker must be woken."""
    head = ld8(tx + K_REQUEST_HEAD)
    st8(slot, head)
    st8(slot + 8, entry)
    store_seq(tx + K_REQUEST_HEAD, head + 1)  # M1
    return 1 if load_acquire(tx + C_STATE) == SLEEPING else 0


@compiled
def completion_slot(tx: int) -> int:
    """The oldest completion nobody has collected, or 0."""
    tail = ld8(tx + K_COMPLETION_TAIL)
    if load_acquire(tx + K_COMPLETION_HEAD) == tail:
        return 0
    return ld8(tx + K_COMPLETIONS) + tail % REQUEST_SLOTS * COMPLETION_BYTES


@compiled
def collected(tx: int) -> None:
    """The slot of `completion_slot` is free again."""
    store_seq(tx + K_COMPLETION_TAIL, ld8(tx + K_COMPLETION_TAIL) + 1)


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
