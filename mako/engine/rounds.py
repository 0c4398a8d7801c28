"""What a coordinator asks of others, round by round, and how it takes that back (DESIGN §7).

A *round* is something that all participants of a transaction are asked: for rows, to prepare, to
raise, to commit, to forget. What is to be sent is a state, not a queue: who was not sent it for
want of room is sent it at a later turn.
"""

from mako.engine.atomics import ld8, shl, st8, store_release
from mako.engine.channel import room, send
from mako.engine.closing import activate
from mako.engine.commit import abort
from mako.engine.fetching import begin_message, send_wanted
from mako.engine.jit import compiled
from mako.engine.lane import (
    ABORT,
    ABORTING,
    B_MASK,
    B_TIMESTAMP,
    COMMIT,
    COMMITTED_,
    H_WAITING,
    L_BITS,
    L_OTHERS,
    L_OUTCOME,
    L_OVER,
    L_STATE,
    L_TIMESTAMP,
    L_UNSENT,
    L_WAITING,
    P_ASK,
    P_SENT,
    PREPARING,
    RAISE,
    RAISING,
    READING,
    READY,
    SHORT,
    port_of,
)
from mako.engine.layout import C_FLOOR, C_MESH, C_ROWS, C_SCANS, NONE
from mako.engine.parking import leave, park
from mako.engine.participant import unlock_all
from mako.engine.preparing import send_prepare
from mako.engine.remote import (
    UNKNOWN,
    X_LOOK,
    X_PARTITION,
    X_STATE,
    Y_PARTITION,
    Y_STATE,
    row_at,
    scan_at,
)
from mako.engine.transitions import ABANDONED, LEFT, LOOKED, WITHDRAWN, move
from mako.ids import Outcome

COMMITTED = int(Outcome.COMMITTED)
_LOCKED = int(Outcome.LOCKED)
_EXISTS = int(Outcome.EXISTS)

# --- asking ---------------------------------------------------------------------------------------


@compiled
def ask(lane: int) -> None:
    """Ask for the rows that the run has looked for, and wait for them."""
    bits = 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        if ld8(row + X_STATE) == UNKNOWN and ld8(row + X_LOOK) != 0:
            bits |= shl(1, ld8(row + X_PARTITION))
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_STATE) == UNKNOWN:
            bits |= shl(1, ld8(part + Y_PARTITION))
    st8(lane + L_WAITING, bits)
    st8(lane + L_UNSENT, bits)
    if bits != 0:
        move(lane, LOOKED)
        send_unsent(lane)


@compiled
def begin_round(lane: int, event: int) -> None:
    others = ld8(lane + L_OTHERS)
    st8(lane + L_WAITING, others)
    st8(lane + L_UNSENT, others)
    move(lane, event)
    send_unsent(lane)


@compiled
def _send_short(lane: int, port: int, kind: int) -> bool:
    message = room(ld8(port + P_ASK), SHORT)
    if message == 0:
        return False
    begin_message(lane, message, kind)
    st8(message + B_TIMESTAMP, ld8(lane + L_TIMESTAMP))
    st8(message + B_MASK, ld8(lane + L_BITS))
    send(ld8(port + P_ASK), message, SHORT)
    return True


@compiled
def send_unsent(lane: int) -> None:
    """Send what the state of the lane asks for to whom it was not sent yet."""
    mesh = ld8(lane + C_MESH)
    state = ld8(lane + L_STATE)
    unsent = ld8(lane + L_UNSENT)
    for partition in range(64):
        bit = shl(1, partition)
        if not unsent & bit:
            continue
        port = port_of(mesh, partition)
        if state == READING:
            sent = send_wanted(lane, partition, port)
        elif state == PREPARING:
            sent = send_prepare(lane, partition, port)
        elif state == RAISING:
            sent = _send_short(lane, port, RAISE)
        elif state == COMMITTED_:
            sent = _send_short(lane, port, COMMIT)
        else:
            sent = _send_short(lane, port, ABORT)
        if sent:
            unsent &= ~bit
            st8(port + P_SENT, 1)
        else:
            st8(mesh + H_WAITING, ld8(mesh + H_WAITING) + 1)
    st8(lane + L_UNSENT, unsent)
    if state == ABORTING and unsent == 0:
        if ld8(lane + L_OVER) != 0:
            leave(lane, LEFT)
        else:
            park(lane)


# --- taking back ----------------------------------------------------------------------------------


@compiled
def unlock(lane: int, outcome: int) -> None:
    activate(lane)
    if ld8(lane + L_OUTCOME) == COMMITTED:
        unlock_all(lane, outcome)
    else:
        abort(lane, outcome)
    store_release(lane + C_FLOOR, NONE)


@compiled
def withdraw(lane: int, outcome: int, gone: int, final: int) -> None:
    """Forget an attempt that is undecided, here and at all participants but those of the bits
    `gone`. It is run again, unless this is `final`."""
    state = ld8(lane + L_STATE)
    told = 0
    if state == PREPARING or state == RAISING:
        unsent = ld8(lane + L_UNSENT) if state == PREPARING else 0
        unlock(lane, _LOCKED if outcome == _EXISTS else outcome)  # It looks first the next time.
        told = ld8(lane + L_OTHERS) & ~unsent & ~gone
    st8(lane + L_WAITING, 0)
    st8(lane + L_UNSENT, told)
    move(lane, WITHDRAWN)
    st8(lane + L_OVER, final)
    send_unsent(lane)


# --- recovery: no worker runs -------------------------------------------------------------------


@compiled
def interrupt(lane: int, gone: int) -> None:
    """Epochs have begun, those of the partitions of the bits `gone` among them: what is undecided
    is run again, and who is gone has nothing more to say (DESIGN §8)."""
    state = ld8(lane + L_STATE)
    if state == READY or state == READING or state == PREPARING or state == RAISING:
        withdraw(lane, _LOCKED, gone, 0)
    elif state == ABORTING:
        st8(lane + L_UNSENT, ld8(lane + L_UNSENT) & ~gone)
        send_unsent(lane)
    elif state == COMMITTED_:
        # It is in their logs, or it is discarded: at or below their final watermarks, or above.
        st8(lane + L_UNSENT, ld8(lane + L_UNSENT) & ~gone)
        st8(lane + L_WAITING, ld8(lane + L_WAITING) & ~gone)
        if ld8(lane + L_WAITING) == 0:
            leave(lane, LEFT)


@compiled
def abandon(lane: int) -> bool:
    """This leadership is over: whether the transaction has not been reported, and never will have
    an effect."""
    state = ld8(lane + L_STATE)
    if state == PREPARING or state == RAISING:
        unlock(lane, _LOCKED)
    undecided = state == READY or state == READING or state == PREPARING or state == RAISING
    undecided = undecided or (state == ABORTING and ld8(lane + L_OVER) == 0)
    leave(lane, ABANDONED)
    return undecided
