"""Transactions over partitions, as the worker that began them sees them (DESIGN §7).

The coordinator is a participant, too: it locks, registers, raises its own clock and validates
before it asks the others. It decides when all have said yes, installs at once (the transaction is
speculative then, and reported), and holds its own closed timestamp below the transaction until all
have installed: so a watermark of the coordinator at or above it says that everybody has it in the
log (I4).

A transaction that another one is in the way of is *parked*: it stays in its lane, holds nothing,
and is run again a little later. How little depends on how often that has happened.

A procedure that failed, or rolled back, commits nothing; yet what it read to find that out has to
be true at one point in time, so the others are asked to validate it, and then told to forget it.
"""

from mako.engine.atomics import (
    call_entry,
    fetch_max,
    ld8,
    load_acquire,
    memcpy,
    shl,
    st8,
    store_release,
)
from mako.engine.clocks import is_too_far, time_of
from mako.engine.closing import activate
from mako.engine.commit import abort, begin, finish, reads_hold, rest, unless_refused, validate
from mako.engine.fetching import take_range, take_values
from mako.engine.jit import compiled, exported
from mako.engine.lane import (
    B_BITS,
    B_CLOCK,
    B_TIMESTAMP,
    B_VOTE,
    COMMITTED_,
    H_CLOSED,
    H_DISTRIBUTED,
    H_INHERITED,
    H_NOW,
    H_OWN,
    H_PARKED,
    H_RAISED,
    H_REFUSED,
    H_SLACK,
    H_UNREACHED,
    HIGHER,
    L_ARGUMENTS,
    L_BEGAN,
    L_BITS,
    L_BODY,
    L_DUE,
    L_ENTRY,
    L_FULL,
    L_HIGHEST,
    L_KEPT,
    L_OTHERS,
    L_OUTCOME,
    L_OVER,
    L_REFUSED,
    L_STATE,
    L_TIMESTAMP,
    L_TRIES,
    L_UNSENT,
    L_WAITING,
    P_PARTITION,
    PREPARING,
    RAISING,
    RANGE,
    READING,
    VALUES,
    VOTE,
)
from mako.engine.layout import (
    C_ARGUMENTS,
    C_DRAFTED,
    C_ENGINE,
    C_FLOOR,
    C_LOOK_FIRST,
    C_MASK,
    C_MESH,
    C_MET_PREPARED,
    C_NOW,
    C_OUTCOME,
    C_OUTCOMES,
    C_OWN,
    C_RESULT,
    C_ROWS,
    C_SCANS,
    C_SEED,
    C_STATE,
    C_TIMESTAMP,
    CLOCK,
)
from mako.engine.parking import begin_attempt, leave, note_alone, park, take_over
from mako.engine.participant import (
    hold,
    install_all,
    lock_all,
)
from mako.engine.preparing import participants_of
from mako.engine.remote import (
    ASKED,
    X_PARTITION,
    X_STATE,
    Y_PARTITION,
    Y_STATE,
    row_at,
    scan_at,
    touched,
)
from mako.engine.rounds import ask, begin_round, send_unsent, unlock, withdraw
from mako.engine.sets import inherit_reads, refuses
from mako.engine.transitions import (
    ADOPTED,
    ANSWERED,
    DECIDED,
    LEFT,
    PREPARED,
    RAISED,
    WITHDRAWN,
    move,
    take_lane,
)
from mako.ids import Outcome

COMMITTED = int(Outcome.COMMITTED)
_LOCKED = int(Outcome.LOCKED)
_PHANTOM = int(Outcome.PHANTOM)
_NOT_FOUND = int(Outcome.NOT_FOUND)
_EXISTS = int(Outcome.EXISTS)
_ROLLED_BACK = int(Outcome.ROLLED_BACK)
_RAISED = int(Outcome.RAISED)
_OUT_OF_MEMORY = int(Outcome.OUT_OF_MEMORY)
_TOO_LARGE = int(Outcome.TOO_LARGE)
_LOG_FULL = int(Outcome.LOG_FULL)
_REMOTE = int(Outcome.REMOTE)
_UNAVAILABLE = int(Outcome.UNAVAILABLE)

#: States of a context, for the watchdog.
IDLE, RUNNING = 0, 1
#: What a lane that is over has to report: nothing, or an Outcome.
OPEN = -1
#: Attempts after which what refuses it is reported.
TRIES_MAX = 100_000
#: Attempts of one transaction that may find the memory full: some thirty milliseconds with the
#: pauses between them, in which what was written over a moment ago is durable, and freed. Then it
#: is told, and its lane is free for those that need no memory there.
FULL_MAX = 32


# --- to lanes and back ------------------------------------------------------------------------


@compiled
def adopt(home: int, entry: int, arguments: int, size: int) -> int:
    """Move the transaction that `home` has run, and aborted, to a lane, with the rows it asks for;
    the lane, or 0 if none is free. It is run as soon as they are there."""
    mesh = ld8(home + C_MESH)
    lane = take_lane(mesh, ld8(mesh + H_OWN))
    if lane == 0:
        return 0
    begin_attempt(lane)
    st8(lane + L_ENTRY, entry)
    st8(lane + L_ARGUMENTS, lane + C_ARGUMENTS)
    memcpy(lane + C_ARGUMENTS, arguments, size)
    st8(lane + L_BODY, size)
    st8(lane + L_TRIES, 0)
    st8(lane + L_FULL, 0)
    st8(lane + L_DUE, 0)
    st8(lane + L_BEGAN, ld8(mesh + H_NOW))
    st8(lane + L_OVER, 0)
    st8(lane + L_KEPT, 0)
    st8(lane + L_REFUSED, COMMITTED)
    st8(lane + L_OUTCOME, COMMITTED)
    st8(lane + C_LOOK_FIRST, 0)
    st8(lane + C_NOW, ld8(home + C_NOW))
    st8(lane + C_SEED, ld8(home + C_SEED))
    st8(lane + C_MASK, ld8(home + C_MASK))  # Should it fail before it is run again.
    take_over(lane, home)
    move(lane, ADOPTED)
    ask(lane)
    return lane


@compiled
def adopt_parked(home: int, entry: int, arguments: int, size: int) -> int:
    """Move the transaction that `home` has run, and aborted for a prepared lock, to a lane, where
    it waits; the lane, or 0 if none is free."""
    mesh = ld8(home + C_MESH)
    lane = adopt(home, entry, arguments, size)
    if lane != 0:
        st8(mesh + H_PARKED, ld8(mesh + H_PARKED) + 1)
        note_alone(lane, COMMITTED)
        park(lane)
    return lane


@compiled
def _conflict(lane: int, outcome: int) -> int:
    """It could not go on because of others: park it."""
    mesh = ld8(lane + C_MESH)
    if ld8(lane + C_MET_PREPARED) != 0:
        st8(mesh + H_PARKED, ld8(mesh + H_PARKED) + 1)
        st8(lane + C_MET_PREPARED, 0)
    park(lane)
    return OPEN


@compiled
def _may_try_again(lane: int, outcome: int) -> bool:
    """Whether others were in its way, or there was no room: what was retired may be free soon."""
    if outcome == _OUT_OF_MEMORY:
        st8(lane + L_FULL, ld8(lane + L_FULL) + 1)
        return ld8(lane + L_FULL) <= FULL_MAX
    return COMMITTED < outcome <= _PHANTOM or outcome == _LOG_FULL


@compiled
def _failed(outcome: int) -> bool:
    """Whether the procedure could not go on because of what it read, or did not want to."""
    return (
        outcome == _NOT_FOUND or outcome == _EXISTS or outcome == _ROLLED_BACK or outcome == _RAISED
    )


@compiled
def _has_come(lane: int, partition: int) -> None:
    """Something has come from a partition: go on, unless more is under way."""
    bit = shl(1, partition)
    waits = ld8(lane + L_UNSENT) & bit != 0
    for i in range(ld8(lane + C_ROWS)):
        row = row_at(lane, i)
        if ld8(row + X_PARTITION) == partition and ld8(row + X_STATE) == ASKED:
            waits = True
    for i in range(ld8(lane + C_SCANS)):
        part = scan_at(lane, i)
        if ld8(part + Y_PARTITION) == partition and ld8(part + Y_STATE) == ASKED:
            waits = True
    if not waits:
        st8(lane + L_WAITING, ld8(lane + L_WAITING) & ~bit)
    if ld8(lane + L_WAITING) == 0:
        move(lane, ANSWERED)
        st8(lane + L_DUE, 0)
        if ld8(lane + C_MET_PREPARED) != 0:
            _conflict(lane, _LOCKED)


# --- running and preparing --------------------------------------------------------------------


@compiled
def run(lane: int) -> int:
    """Run a lane that is READY. What it has to report, or OPEN."""
    st8(lane + L_BEGAN, ld8(ld8(lane + C_MESH) + H_NOW))
    st8(lane + C_MET_PREPARED, 0)
    if ld8(lane + L_REFUSED) != COMMITTED:  # A row is too long, or its table is not there.
        outcome = ld8(lane + L_REFUSED)
        leave(lane, LEFT)
        return outcome
    begin(lane)
    store_release(lane + C_STATE, RUNNING)  # For the watchdog.
    call_entry(ld8(lane + L_ENTRY), lane, ld8(lane + L_ARGUMENTS), lane + C_RESULT)
    store_release(lane + C_STATE, IDLE)
    outcome = ld8(lane + C_OUTCOME)
    if outcome == _REMOTE:
        abort(lane, _REMOTE)
        st8(lane + C_DRAFTED, 0)  # There is room for what comes.
        rest(lane)
        ask(lane)
        return OPEN
    if not touched(lane):
        outcome = finish(lane)
        if outcome == _LOG_FULL:
            abort(lane, outcome)
        if _may_try_again(lane, outcome):
            note_alone(lane, outcome)
            return _conflict(lane, outcome)
        leave(lane, LEFT)
        return outcome
    if outcome != COMMITTED and not _failed(outcome):
        outcome = unless_refused(lane, outcome)
        abort(lane, outcome)
        if _may_try_again(lane, outcome):
            return _conflict(lane, outcome)
        leave(lane, LEFT)
        return outcome
    return _prepare(lane, outcome)


@compiled
def _propose(lane: int, above: int) -> int:
    """A timestamp above `above` and above all that this partition has given; its clock has it."""
    clock = ld8(lane + C_ENGINE) + CLOCK
    mesh = ld8(lane + C_MESH)
    wanted = max(above + 1, time_of(mesh) + ld8(mesh + H_SLACK))
    while True:
        proposal = max(wanted, load_acquire(clock) + 1)
        if fetch_max(clock, proposal) < proposal:
            return proposal


@compiled
def _holds(lane: int) -> int:
    """Step 4 here: validate what was read, or all of it where nothing is locked."""
    outcome = validate(lane) if ld8(lane + L_OUTCOME) == COMMITTED else reads_hold(lane)
    if outcome == COMMITTED:
        inherit_reads(lane)
        st8(lane + L_BITS, ld8(lane + C_OWN) | ld8(lane + C_MASK))
    return outcome


@compiled
def _is_closed(lane: int, partitions: int) -> bool:
    """Whether some of these are out of reach, and counted as such."""
    mesh = ld8(lane + C_MESH)
    if partitions & load_acquire(mesh + H_CLOSED) == 0:
        return False
    st8(mesh + H_UNREACHED, ld8(mesh + H_UNREACHED) + 1)
    return True


@compiled
def _prepare(lane: int, outcome: int) -> int:
    """Lock, hold, propose and validate here, then ask the others."""
    st8(lane + L_OUTCOME, outcome)
    others = participants_of(lane)
    if _is_closed(lane, others) or refuses(lane, ld8(lane + C_MASK)):
        abort(lane, _UNAVAILABLE)
        leave(lane, LEFT)
        return _UNAVAILABLE
    if others == 0:
        abort(lane, _TOO_LARGE)
        leave(lane, LEFT)
        return _TOO_LARGE
    if outcome == COMMITTED:
        locked = lock_all(lane)
        if locked != COMMITTED:
            if _may_try_again(lane, locked):
                return _conflict(lane, locked)
            leave(lane, LEFT)
            return locked
    else:
        store_release(lane + C_FLOOR, load_acquire(ld8(lane + C_ENGINE) + CLOCK))
    proposal = _propose(lane, 0)
    hold(lane, 0, proposal)
    held = _holds(lane)
    if held != COMMITTED:
        unlock(lane, held)
        return _conflict(lane, held)
    rest(lane)
    st8(lane + L_TIMESTAMP, proposal)
    st8(lane + L_HIGHEST, 0)
    st8(lane + L_OTHERS, others)
    begin_round(lane, PREPARED)
    return OPEN


# --- votes and decisions ----------------------------------------------------------------------


@compiled
def _refuse(lane: int, outcome: int) -> int:
    """Somebody's validation failed: everybody forgets it, and it is run again."""
    mesh = ld8(lane + C_MESH)
    st8(mesh + H_REFUSED, ld8(mesh + H_REFUSED) + 1)
    if outcome == _EXISTS:
        st8(lane + C_LOOK_FIRST, 1)
    final = outcome == _TOO_LARGE or outcome == _UNAVAILABLE or ld8(lane + L_TRIES) > TRIES_MAX
    if outcome == _OUT_OF_MEMORY and not _may_try_again(lane, outcome):
        final = True
    withdraw(lane, outcome, 0, 1 if final else 0)
    return outcome if final else OPEN


@compiled
def give_up(lane: int) -> int:
    """Who has to answer is out of reach: an undecided transaction ends. What it has to report."""
    state = ld8(lane + L_STATE)
    if state != READING and state != PREPARING and state != RAISING:
        return OPEN
    return _withdraw_for_good(lane) if _is_closed(lane, ld8(lane + L_WAITING)) else OPEN


@compiled
def _withdraw_for_good(lane: int) -> int:
    """An undecided transaction ends Unavailable."""
    if ld8(lane + L_STATE) == READING:  # Else it holds something: letting go of that counts it.
        counter = lane + C_OUTCOMES + 8 * _UNAVAILABLE
        st8(counter, ld8(counter) + 1)
    withdraw(lane, _UNAVAILABLE, 0, 1)
    return _UNAVAILABLE


@compiled
def _raise(lane: int) -> int:
    mesh = ld8(lane + C_MESH)
    st8(mesh + H_RAISED, ld8(mesh + H_RAISED) + 1)
    activate(lane)
    timestamp = _propose(lane, ld8(lane + L_HIGHEST))
    hold(lane, 0, timestamp)
    held = _holds(lane)
    rest(lane)
    if held != COMMITTED:
        return _refuse(lane, held)
    st8(lane + L_TIMESTAMP, timestamp)
    st8(lane + L_HIGHEST, 0)
    begin_round(lane, RAISED)
    return OPEN


@compiled
def _decide(lane: int) -> int:
    """All have said yes. What the lane has to report."""
    mesh = ld8(lane + C_MESH)
    outcome = ld8(lane + L_OUTCOME)
    # Also of one that has failed: what it has read, to find that out, has to last.
    st8(lane + C_MASK, ld8(lane + L_BITS) & ~ld8(lane + C_OWN))
    if outcome != COMMITTED:
        unlock(lane, outcome)
        st8(lane + L_UNSENT, ld8(lane + L_OTHERS))
        st8(lane + L_WAITING, ld8(lane + L_OTHERS))
        st8(lane + L_OVER, 1)
        move(lane, WITHDRAWN)
        st8(lane + C_TIMESTAMP, ld8(lane + L_TIMESTAMP))
        send_unsent(lane)
        return outcome
    timestamp = ld8(lane + L_TIMESTAMP)
    mask = ld8(lane + L_BITS)
    activate(lane)
    install_all(lane, timestamp, mask)
    st8(lane + C_TIMESTAMP, timestamp)
    st8(lane + C_OUTCOMES, ld8(lane + C_OUTCOMES) + 1)
    st8(mesh + H_DISTRIBUTED, ld8(mesh + H_DISTRIBUTED) + 1)
    if mask & ~(ld8(lane + L_OTHERS) | ld8(lane + C_OWN)):
        st8(mesh + H_INHERITED, ld8(mesh + H_INHERITED) + 1)
    rest(lane)
    begin_round(lane, DECIDED)
    return COMMITTED


@compiled
def _on_vote(lane: int, partition: int, message: int) -> int:
    state = ld8(lane + L_STATE)
    if state != PREPARING and state != RAISING:
        return OPEN
    bit = shl(1, partition)
    if ld8(message + B_TIMESTAMP) != ld8(lane + L_TIMESTAMP) or not ld8(lane + L_WAITING) & bit:
        return OPEN
    vote = ld8(message + B_VOTE)
    if vote < 0:
        return _refuse(lane, -vote)
    if vote == HIGHER and is_too_far(
        ld8(lane + C_ENGINE), ld8(lane + C_MESH), ld8(message + B_CLOCK), partition
    ):
        return _refuse(lane, _UNAVAILABLE)
    st8(lane + L_WAITING, ld8(lane + L_WAITING) & ~bit)
    if vote == HIGHER:
        st8(lane + L_HIGHEST, max(ld8(lane + L_HIGHEST), ld8(message + B_CLOCK)))
    bits = ld8(lane + L_BITS) | ld8(message + B_BITS)
    if refuses(lane, bits):
        return _withdraw_for_good(lane)
    st8(lane + L_BITS, bits)
    if ld8(lane + L_WAITING) != 0:
        return OPEN
    return _raise(lane) if ld8(lane + L_HIGHEST) != 0 else _decide(lane)


@exported
def on_answer(lane: int, port: int, message: int, kind: int) -> int:
    """Handle an answer to what this lane has asked; what the lane has to report, or OPEN."""
    partition = ld8(port + P_PARTITION)
    bit = shl(1, partition)
    if kind == VALUES:
        if ld8(lane + L_STATE) == READING:
            take_values(lane, partition, message)
            _has_come(lane, partition)
        return OPEN
    if kind == RANGE:
        if ld8(lane + L_STATE) == READING:
            take_range(lane, message)
            _has_come(lane, partition)
        return OPEN
    if kind == VOTE:
        return _on_vote(lane, partition, message)
    if ld8(lane + L_STATE) == COMMITTED_:  # INSTALLED; X4: its floor is where it was.
        st8(lane + L_WAITING, ld8(lane + L_WAITING) & ~bit)
        if ld8(lane + L_WAITING) == 0:
            leave(lane, LEFT)
    return OPEN
