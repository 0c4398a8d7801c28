"""What becomes of a lane between two runs: a transaction moves in, is parked, and leaves."""

from mako.engine.atomics import (
    ld8,
    lshr,
    memcpy,
    st8,
    store_release,
)
from mako.engine.closing import activate
from mako.engine.commit import rest
from mako.engine.jit import compiled
from mako.engine.lane import (
    H_NOW,
    H_NUMBER,
    L_BEGAN,
    L_DUE,
    L_INDEX,
    L_TRANSACTION,
    L_TRIES,
    LANE_BITS,
)
from mako.engine.layout import (
    C_ENGINE,
    C_FLOOR,
    C_HEAP,
    C_KNOWN,
    C_MESH,
    C_MET_PREPARED,
    C_PARKED_OUTCOMES,
    C_REMOTE_ROWS,
    C_REMOTE_SCANS,
    C_ROWS,
    C_SCANS,
    NONE,
    PARTITION,
    REMOTE_ROW_BYTES,
    REMOTE_SCAN_BYTES,
)
from mako.engine.owner import mixed
from mako.engine.reclaim import reclaim_some
from mako.engine.remote import (
    X_RECORD,
    Y_END,
    Y_FIRST,
    forget_rows,
    row_at,
    scan_at,
)
from mako.engine.transitions import PARKED, give_lane, move
from mako.ids import Outcome

COMMITTED = int(Outcome.COMMITTED)

#: A parked transaction is run again after so many ns, doubled each time up to so many times; where
#: an attempt takes longer than that, as others are far away, up to so many times as long. Who tries
#: again sooner than the others can answer meets the same locks for ever, and is in their way. An
#: attempt that took longer than links do has waited for a leader that was not there: that is over.
PARKED_NS = 4_000
PARKED_DOUBLINGS = 8
PARKED_ATTEMPTS = 4
PARKED_NS_MAX = 500_000_000


@compiled
def note_alone(lane: int, outcome: int) -> None:
    """A transaction that touches no other partition is parked as an attempt here ended so, or,
    COMMITTED, as one did before it moved here and met a prepared lock. Counted in the place of
    COMMITTED: how often one met such a lock."""
    place = lane + C_PARKED_OUTCOMES
    if outcome == COMMITTED or ld8(lane + C_MET_PREPARED) != 0:
        st8(place, ld8(place) + 1)
    if outcome != COMMITTED:
        st8(place + 8 * outcome, ld8(place + 8 * outcome) + 1)


@compiled
def begin_attempt(lane: int) -> None:
    """Another attempt: what comes for earlier ones is not for it."""
    mesh = ld8(lane + C_MESH)
    number = ld8(mesh + H_NUMBER) + 1
    st8(mesh + H_NUMBER, number)
    st8(lane + L_TRANSACTION, (number << LANE_BITS) | ld8(lane + L_INDEX))


@compiled
def take_over(lane: int, home: int) -> None:
    """Have `lane` know what `home` asks for, and `home` no more."""
    known = ld8(home + C_KNOWN)
    rows = ld8(home + C_ROWS)
    scans = ld8(home + C_SCANS)
    memcpy(lane + C_HEAP, home + C_HEAP, known)
    memcpy(lane + C_REMOTE_ROWS, home + C_REMOTE_ROWS, rows * REMOTE_ROW_BYTES)
    memcpy(lane + C_REMOTE_SCANS, home + C_REMOTE_SCANS, scans * REMOTE_SCAN_BYTES)
    forget_rows(lane)
    st8(lane + C_KNOWN, known)
    st8(lane + C_ROWS, rows)
    st8(lane + C_SCANS, scans)
    moved = lane - home
    for i in range(rows):
        row = row_at(lane, i)
        st8(row + X_RECORD, ld8(row + X_RECORD) + moved)
    for i in range(scans):
        part = scan_at(lane, i)
        st8(part + Y_FIRST, ld8(part + Y_FIRST) + moved)
        st8(part + Y_END, ld8(part + Y_END) + moved)
    forget_rows(home)


@compiled
def park(lane: int) -> None:
    """Run it again, a little later, with nothing known."""
    mesh = ld8(lane + C_MESH)
    tries = ld8(lane + L_TRIES)
    attempt_ns = ld8(mesh + H_NOW) - ld8(lane + L_BEGAN)
    st8(lane + L_TRIES, tries + 1)
    begin_attempt(lane)
    far_away = min(PARKED_ATTEMPTS * attempt_ns, PARKED_NS_MAX)
    longest = max(PARKED_NS << PARKED_DOUBLINGS, far_away)
    pause = min(PARKED_NS << min(tries, 30), longest)
    # Up to twice that, and each time something else: who met whom would meet again and again, were
    # their pauses the same, or did they grow in step.
    partition = ld8(ld8(lane + C_ENGINE) + PARTITION)
    drawn = mixed(mixed(0, partition), ld8(lane + L_TRANSACTION))
    pause += pause * lshr(drawn, 56) // 256
    st8(lane + L_DUE, ld8(mesh + H_NOW) + pause)
    forget_rows(lane)
    rest(lane)
    move(lane, PARKED)


@compiled
def leave(lane: int, event: int) -> None:
    """Nothing is held any more, and the lane is free: LEFT, or ABANDONED."""
    store_release(lane + C_FLOOR, NONE)
    forget_rows(lane)
    activate(lane)  # Whoever walks a tree is.
    reclaim_some(lane)
    rest(lane)
    give_lane(lane, event)
