"""How a worker reports what has become of what it ran: completions, and latencies.

completion   size | id | outcome | timestamp | mask | result | detail | origin | bytes ...
"""

from mako.engine.atomics import cas, ld8, load_acquire, memcpy, st8, store_release, store_seq
from mako.engine.durability import bucket_of
from mako.engine.jit import compiled
from mako.engine.layout import (
    C_DETAIL,
    C_ENGINE,
    C_HISTOGRAMS,
    C_MASK,
    C_OWN,
    C_RESULT,
    C_TIMESTAMP,
    CLOCK,
    COMPLETION_RING_BYTES,
    D_BYTES,
    D_DETAIL,
    D_ID,
    D_MASK,
    D_ORIGIN,
    D_OUTCOME,
    D_RESULT,
    D_SIZE,
    D_TIMESTAMP,
    FLAG_BYTES,
    HISTOGRAM_BYTES,
    K_COMPLETION_HEAD,
    K_COMPLETION_TAIL,
    K_COMPLETIONS,
    K_FAILED,
    K_FAILED_DETAIL,
    K_LISTENER,
    K_LISTENING,
    K_REQUEST_TAIL,
    Q_ID,
    Q_ORIGIN,
    Q_SIZE,
    RESULT_BYTES,
    RING_SKIP,
)
from mako.engine.system import signal_event
from mako.ids import Outcome

COMMITTED = int(Outcome.COMMITTED)
# Control words of a worker.
STOP, SERVE, DRIVE, DRAIN = 0, 1, 2, 3
# States of it.
IDLE, RUNNING, SLEEPING, STOPPED, WAITING_FOR_LOG = 0, 1, 2, 3, 4


@compiled
def record_latency(tx: int, kind: int, ns: int) -> None:
    counter = tx + C_HISTOGRAMS + kind * HISTOGRAM_BYTES + 8 * bucket_of(ns)
    st8(counter, ld8(counter) + 1)


@compiled
def note_failure(home: int, ran: int, outcome: int) -> None:
    """A transaction of the workload that `home` drives, run in the context `ran`, cannot go on:
    `home` stops."""
    st8(home + K_FAILED_DETAIL, ld8(ran + C_DETAIL))
    store_release(home + K_FAILED, outcome)  # Who sees it sees what it is about, too.


@compiled
def most_completed(request: int) -> int:
    """Bytes that the completion of a request takes at most."""
    return D_BYTES + RESULT_BYTES if ld8(request + Q_ORIGIN) & FLAG_BYTES else D_BYTES


@compiled
def completion_room(tx: int, size: int, kept: int) -> int:
    """Where a completion of `size` bytes goes, or 0 if there is no room now: `kept` bytes are for
    others. It is asked for before a request is run: whatever is committed is reported."""
    head = ld8(tx + K_COMPLETION_HEAD)
    place = head % COMPLETION_RING_BYTES
    skipped = COMPLETION_RING_BYTES - place if COMPLETION_RING_BYTES - place < size else 0
    needed = skipped + size + kept
    if head + needed - load_acquire(tx + K_COMPLETION_TAIL) > COMPLETION_RING_BYTES:
        return 0
    base = ld8(tx + K_COMPLETIONS)
    if skipped != 0:
        st8(base + place, RING_SKIP)
        return base
    return base + place


@compiled
def room_to_serve(tx: int, most: int, kept: int, has_lanes: bool) -> tuple[int, bool]:
    """The same for a request that is about to be run, and whether it may move to a lane then:
    that takes three times as much, its place and what is kept for it."""
    slot = completion_room(tx, most, kept + 2 * most if has_lanes else kept)
    if slot != 0 or kept == 0:
        return slot, has_lanes
    return completion_room(tx, most, kept), False  # Lanes have the room: it may need none.


@compiled
def complete(tx: int, request: int, outcome: int, slot: int) -> None:
    """Report how the oldest request ended at `slot`, which `completion_room` gave; its place is
    free again."""
    report_at(tx, tx, ld8(request + Q_ID), ld8(request + Q_ORIGIN), outcome, slot)
    # The submitter may write there as soon as it sees this.
    release_request(tx, request)


@compiled
def release_request(tx: int, request: int) -> None:
    """The place of the oldest request is free again."""
    store_release(tx + K_REQUEST_TAIL, ld8(tx + K_REQUEST_TAIL) + ld8(request + Q_SIZE))


@compiled
def report_at(tx: int, ran: int, number: int, origin: int, outcome: int, slot: int) -> None:
    """Report at `slot` how a transaction ended that was run in the context `ran`."""
    timestamp = ld8(ran + C_TIMESTAMP)
    if outcome != COMMITTED:
        # What it saw, to be told that it must fail, is durable as soon as this is.
        timestamp = load_acquire(ld8(tx + C_ENGINE) + CLOCK)
    # Of one that ended otherwise there is none: the word is what somebody before it has left.
    result = ld8(ran + C_RESULT) if outcome == COMMITTED else 0
    size = D_BYTES
    if origin & FLAG_BYTES and outcome == COMMITTED and result > 0:
        memcpy(slot + D_BYTES, ran + C_RESULT + 8, result)
        size += (result + 7) & ~7
    st8(slot + D_SIZE, size)
    st8(slot + D_ID, number)
    st8(slot + D_OUTCOME, outcome)
    st8(slot + D_TIMESTAMP, timestamp)
    st8(slot + D_MASK, ld8(ran + C_OWN) | ld8(ran + C_MASK))
    st8(slot + D_RESULT, result)
    st8(slot + D_DETAIL, ld8(ran + C_DETAIL))
    st8(slot + D_ORIGIN, origin)
    head = ld8(tx + K_COMPLETION_HEAD)
    place = head % COMPLETION_RING_BYTES
    if ld8(tx + K_COMPLETIONS) + place != slot:  # It begins again.
        head += COMPLETION_RING_BYTES - place
    store_seq(tx + K_COMPLETION_HEAD, head + size)


@compiled
def wake_listener(tx: int) -> None:
    """Wake who collects, if it sleeps: it sets the word before it looks a last time (M1)."""
    if load_acquire(tx + K_LISTENING) != 0 and cas(tx + K_LISTENING, 1, 0) != 0:
        st8(tx + C_RESULT, 1)
        signal_event(ld8(tx + K_LISTENER), tx + C_RESULT)
