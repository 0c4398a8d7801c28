"""The worker kernel: one compiled call for the life of a worker thread, without the GIL.

A worker serves its request ring or drives a workload, as its control word says, until that
says STOP. Between any two transactions it frees what it may, and now and then it moves the
clock and closes. Requests and completions travel in rings of bytes (`mako.engine.mailbox`); a
full completion ring and a full log ring make the worker wait, which is the back-pressure.

    request      size | id | entry | origin | arguments ...
    completion   size | id | outcome | timestamp | mask | result | detail | origin | bytes ...
"""

from mako.engine.atomics import (
    call_entry,
    ld8,
    load_acquire,
    pause,
    st8,
    store_release,
    store_seq,
)
from mako.engine.closing import activate, close, tick
from mako.engine.commit import abort, rest, unless_refused
from mako.engine.completing import (
    DRAIN,
    DRIVE,
    RUNNING,
    SERVE,
    SLEEPING,
    STOP,
    STOPPED,
    complete,
    most_completed,
    note_failure,
    record_latency,
    release_request,
    room_to_serve,
    wake_listener,
)
from mako.engine.coordinator import adopt, adopt_parked
from mako.engine.durability import may_begin, note, settle, unsettled
from mako.engine.jit import compiled, exported
from mako.engine.lane import (
    H_BUSY,
    H_FREE,
    H_KEPT,
    H_NO_LANE,
    H_OWN,
    H_SLEEPS,
    H_TURNED_AWAY,
    L_KEPT,
    L_KIND,
    L_ORIGIN,
    L_REQUEST,
    L_STARTED,
)
from mako.engine.layout import (
    ARGUMENT_BYTES,
    C_CONTROL,
    C_DOOMED,
    C_ENGINE,
    C_GUEST,
    C_MESH,
    C_MET_PREPARED,
    C_NOW,
    C_OUTCOME,
    C_PROGRESS,
    C_RANDOM,
    C_RESULT,
    C_ROWS,
    C_SEED,
    C_STATE,
    C_TIMESTAMP,
    C_WAKE,
    K_COMPLETION_HEAD,
    K_DUE,
    K_EXECUTE,
    K_FAILED,
    K_GENERATE,
    K_INTERVAL,
    K_OFFSET,
    K_RANDOM,
    K_REQUEST_HEAD,
    K_REQUEST_TAIL,
    K_REQUESTS,
    K_ROLLED_BACK,
    K_STARTED,
    K_STATE,
    K_STATE_BYTES,
    Q_ARGUMENTS,
    Q_ENTRY,
    Q_ID,
    Q_ORIGIN,
    Q_SIZE,
    REQUEST_RING_BYTES,
    RING_SKIP,
)
from mako.engine.mesh import has_mail, turn
from mako.engine.reclaim import make_room, reclaim_some, reclaim_some_at_rest
from mako.engine.remote import forget_rows
from mako.engine.running import run_once
from mako.engine.sets import interrupted
from mako.engine.system import monotonic_ns, sleep_us, wait_event
from mako.engine.waiting import commit_when_log_has_room, has_to_turn
from mako.ids import Outcome, Status
from mako.procedure import KINDS_MAX

COMMITTED = int(Outcome.COMMITTED)
_LOCKED = int(Outcome.LOCKED)
_PHANTOM = int(Outcome.PHANTOM)
_ROLLED_BACK = int(Outcome.ROLLED_BACK)
_RAISED = int(Outcome.RAISED)
_LOG_FULL = int(Outcome.LOG_FULL)
_REMOTE = int(Outcome.REMOTE)
_BUSY = int(Status.BUSY)
_TOO_LARGE = int(Outcome.TOO_LARGE)
_OUT_OF_MEMORY = int(Outcome.OUT_OF_MEMORY)
_UNAVAILABLE = int(Outcome.UNAVAILABLE)

#: Transactions between two closings by the worker itself; about 200 microseconds of TPC-C.
#: More often costs a look at every other worker's lines, more seldom colder memory.
CLOSE_EVERY = 32
#: A worker with lanes takes its turn after so many attempts of one request, a power of two.
TRIES_PER_TURN = 16
#: Rounds an idle worker polls before it sleeps in the kernel: some tens of microseconds.
IDLE_SPINS = 2000
#: A worker with nothing to do looks for what other partitions want so often, in microseconds:
#: with transactions over partitions under way, and without.
MESH_NAP_US = 50
#: How long requests wait for a lane; then those that need one are told to come back.
LANE_WAIT_NS = 1_000_000
IDLE_NAP_US = 200


@compiled
def oldest_request(tx: int) -> int:
    """The oldest request that nobody has run, or 0."""
    tail = ld8(tx + K_REQUEST_TAIL)
    if load_acquire(tx + K_REQUEST_HEAD) == tail:
        return 0
    place = tail % REQUEST_RING_BYTES
    if ld8(ld8(tx + K_REQUESTS) + place) == RING_SKIP:
        store_release(tx + K_REQUEST_TAIL, tail + REQUEST_RING_BYTES - place)
        place = 0
    return ld8(tx + K_REQUESTS) + place


@compiled
def set_time(tx: int, now_ns: int) -> None:
    """What time it is for the transaction that comes next."""
    tick(ld8(tx + C_ENGINE), now_ns // 1_000_000)
    st8(tx + C_NOW, now_ns // 1_000_000)
    st8(tx + C_SEED, ld8(tx + C_SEED) ^ now_ns)
    st8(tx + K_STARTED, now_ns)


@compiled
def _run_until_no_conflict(tx: int, entry: int, arguments: int) -> int:
    """Run a requested procedure, again after each conflict, up to being stopped. REMOTE: it has to
    move to a lane."""
    outcome = run_once(tx, entry, arguments, tx + C_RESULT)
    tries = 1
    rooms = 0
    while load_acquire(tx + C_CONTROL) == SERVE:
        if outcome == _LOG_FULL:
            if has_to_turn(tx, outcome):
                return abort(tx, outcome)
            outcome = commit_when_log_has_room(tx)
            if not COMMITTED < outcome <= _PHANTOM:
                break
        if outcome == _OUT_OF_MEMORY and make_room(tx, rooms):
            rooms += 1
        elif COMMITTED < outcome <= _PHANTOM:
            if ld8(tx + C_MET_PREPARED) != 0 or interrupted(tx):
                return outcome
            if tries & (TRIES_PER_TURN - 1) == 0 and has_to_turn(tx, outcome):
                return outcome
            for _ in range(1 << min(tries, 10)):
                pause()
        else:
            break
        outcome = run_once(tx, entry, arguments, tx + C_RESULT)
        tries += 1
    if outcome == _LOG_FULL:  # Told to stop meanwhile.
        outcome = commit_when_log_has_room(tx)
    return outcome


@compiled
def _request_to_lane(tx: int, request: int) -> bool:
    """Move the request that was just run to a lane; False if none is free."""
    size = ld8(request + Q_SIZE) - Q_ARGUMENTS
    if size > ARGUMENT_BYTES:
        return False
    entry = ld8(request + Q_ENTRY)
    if ld8(tx + C_MET_PREPARED) != 0:
        lane = adopt_parked(tx, entry, request + Q_ARGUMENTS, size)
    else:
        lane = adopt(tx, entry, request + Q_ARGUMENTS, size)
    if lane == 0:
        return False
    most = most_completed(request)
    st8(lane + L_REQUEST, ld8(request + Q_ID))
    st8(lane + L_ORIGIN, ld8(request + Q_ORIGIN))
    st8(lane + L_KEPT, most)
    mesh = ld8(tx + C_MESH)
    st8(mesh + H_KEPT, ld8(mesh + H_KEPT) + 2 * most)
    release_request(tx, request)
    return True


@compiled
def _is_to_go_away(mesh: int, now_ns: int) -> bool:
    """Whether no lane has been free for so long that requests which need one are told to come
    back: those behind them may need none, and would wait for other partitions with them."""
    since = ld8(mesh + H_NO_LANE)
    if since == 0 or now_ns < since:  # The clock was set back.
        st8(mesh + H_NO_LANE, now_ns)
        return False
    if now_ns - since < LANE_WAIT_NS:
        return False
    st8(mesh + H_TURNED_AWAY, ld8(mesh + H_TURNED_AWAY) + 1)
    return True


@compiled
def _gave_way(tx: int, outcome: int) -> bool:
    """Whether a transaction has ended for others that wait for this worker: it is run again."""
    return COMMITTED < outcome <= _PHANTOM and interrupted(tx)


@compiled
def serve_oldest(tx: int, now_ns: int) -> bool:
    """Run the oldest request at the time `now_ns`; False if there is no room for it now."""
    request = oldest_request(tx)
    mesh = ld8(tx + C_MESH)
    kept = 0 if mesh == 0 else ld8(mesh + H_KEPT)
    most = most_completed(request)
    slot, may_move = room_to_serve(tx, most, kept, mesh != 0)
    if slot == 0:
        return False
    set_time(tx, now_ns)
    st8(tx + C_MET_PREPARED, 0)
    outcome = _run_until_no_conflict(tx, ld8(request + Q_ENTRY), request + Q_ARGUMENTS)
    if outcome == _REMOTE and ld8(request + Q_SIZE) - Q_ARGUMENTS > ARGUMENT_BYTES:
        forget_rows(tx)
        complete(tx, request, unless_refused(tx, _TOO_LARGE), slot)
        return True
    if outcome == _REMOTE or (mesh != 0 and ld8(tx + C_MET_PREPARED) != 0 and outcome != COMMITTED):
        if may_move and _request_to_lane(tx, request):
            st8(mesh + H_NO_LANE, 0)
            return True
        forget_rows(tx)
        if not _is_to_go_away(mesh, now_ns):
            return False
        complete(tx, request, _BUSY, slot)
        return True
    if mesh != 0 and ld8(tx + C_ROWS) != 0:
        forget_rows(tx)
    if has_to_turn(tx, outcome) or _gave_way(tx, outcome):
        return False
    complete(tx, request, outcome, slot)
    return True


@exported
def turn_both(tx: int, now: int) -> int:
    """Take the turn of this worker, and of the one whose thread this is, with one request of it."""
    done = turn(tx, now)
    guest = ld8(tx + C_GUEST)
    if guest == 0:
        return done
    head = ld8(guest + K_COMPLETION_HEAD)
    st8(guest + K_OFFSET, ld8(tx + K_OFFSET))  # Only who has a thread is told of the wall's steps.
    done += turn(guest, now)
    tail = ld8(guest + K_REQUEST_TAIL)
    if load_acquire(guest + K_REQUEST_HEAD) != tail:
        store_release(guest + C_STATE, RUNNING)
        if serve_oldest(guest, now + ld8(tx + K_OFFSET)):
            done += 1
        store_release(guest + C_STATE, STOPPED)
        close(ld8(guest + C_ENGINE))
    if ld8(guest + K_COMPLETION_HEAD) != head:  # Or who collects would be awake all the time.
        wake_listener(guest)
    reclaim_some_at_rest(guest)
    return done


@compiled
def _wait_until_due(tx: int) -> int:
    """Open loop: wait for the next arrival; when it was due, or -1 if the worker must stop."""
    due = ld8(tx + K_DUE)
    while True:
        left = due - monotonic_ns()
        if left <= 0:
            break
        if load_acquire(tx + C_CONTROL) != DRIVE:
            return -1
        settle(tx, monotonic_ns())
        if ld8(tx + C_MESH) != 0:
            if turn_both(tx, monotonic_ns()) == 0 and left > 100_000:
                rest(tx)
                close(ld8(tx + C_ENGINE))
                sleep_us(20)
        elif left > 200_000:
            rest(tx)
            close(ld8(tx + C_ENGINE))
            sleep_us(min(left // 1000 - 100, 100 if unsettled(tx) else 1000))
        else:
            pause()
    st8(tx + K_DUE, due + ld8(tx + K_INTERVAL))
    return due


@compiled
def _to_lane(tx: int, started: int, kind: int, prepared: int) -> int:
    """Move the transaction of the workload that was just run to a lane, or return 0: none is
    free. `prepared`: it met a lock that is held until another partition answers."""
    size = ld8(tx + K_STATE_BYTES)
    entry = ld8(tx + K_EXECUTE)
    state = ld8(tx + K_STATE)
    if prepared != 0:
        lane = adopt_parked(tx, entry, state, size)
    else:
        lane = adopt(tx, entry, state, size)
    if lane != 0:
        st8(lane + L_STARTED, started)
        st8(lane + L_KIND, kind)
    return lane


@compiled
def _pause_before_retry(tx: int, tries: int) -> None:
    """What is in the way may be held by a lane of this worker, which has to go on for it; and if
    others were in a hurry, this is what they wait for."""
    if ld8(tx + C_MESH) != 0 and (tries & 3 == 3 or interrupted(tx)):
        turn_both(tx, monotonic_ns())
    for _ in range(1 << min(tries, 8)):
        pause()


@compiled
def _when_it_may_begin(tx: int, started: int) -> int:
    """Wait until the transaction that is due at `started` may begin; when it began, -1 to stop."""
    now = started
    while not may_begin(tx, now):
        if load_acquire(tx + C_CONTROL) != DRIVE:
            return -1
        now = _rest_a_little(tx)
        if ld8(tx + K_INTERVAL) == 0:
            started = now  # Nobody was waiting for it.
    return started


@compiled
def _drive_one(tx: int, started: int) -> int:
    """Draw and run a transaction of the workload; when it ended or moved to a lane, -1 to stop."""
    if ld8(tx + K_INTERVAL) != 0:
        started = _wait_until_due(tx)
        if started < 0:
            return -1
    started = _when_it_may_begin(tx, started)
    if started < 0:
        return -1
    state = ld8(tx + K_STATE)
    st8(tx + C_RANDOM, ld8(tx + K_RANDOM))
    st8(tx + C_NOW, (started + ld8(tx + K_OFFSET)) // 1_000_000)
    # Drawing the inputs is watched like a transaction of its own.
    st8(tx + C_OUTCOME, COMMITTED)
    store_release(tx + C_PROGRESS, ld8(tx + C_PROGRESS) + 1)
    if call_entry(ld8(tx + K_GENERATE), tx, state, tx + C_RESULT) != 0:
        if ld8(tx + C_OUTCOME) == _LOCKED:  # It was asked to give way; nothing was begun.
            return monotonic_ns()
        note_failure(tx, tx, ld8(tx + C_OUTCOME))
        return -1
    kind = ld8(tx + C_RESULT)
    if kind < 0 or kind >= KINDS_MAX:  # What is counted of it would lie anywhere.
        note_failure(tx, tx, _RAISED)
        return -1
    st8(tx + K_RANDOM, ld8(tx + C_RANDOM))
    st8(tx + C_SEED, ld8(tx + C_RANDOM))
    entry = ld8(tx + K_EXECUTE)
    tries = 0
    rooms = 0
    while True:
        st8(tx + C_MET_PREPARED, 0)
        outcome = run_once(tx, entry, state, tx + C_RESULT)
        waits = outcome == _LOG_FULL and has_to_turn(tx, outcome)
        if waits:
            abort(tx, outcome)
        elif outcome == _LOG_FULL:
            outcome = commit_when_log_has_room(tx)
        if outcome == COMMITTED or outcome == _ROLLED_BACK:
            break
        if outcome == _REMOTE or ld8(tx + C_MET_PREPARED) != 0:
            if _to_lane(tx, started, kind, ld8(tx + C_MET_PREPARED)) != 0:
                return monotonic_ns()
            forget_rows(tx)
        elif waits:
            _rest_a_little(tx)
        elif outcome == _OUT_OF_MEMORY and make_room(tx, rooms):
            rooms += 1
        elif outcome == _UNAVAILABLE:  # It is counted; the next one may do without who stalls.
            forget_rows(tx)
            return _rest_a_little(tx)
        elif outcome > _PHANTOM:
            if load_acquire(tx + C_CONTROL) == DRIVE:
                note_failure(tx, tx, outcome)
            return -1
        tries += 1
        is_long = waits or rooms > 0 or tries & 63 == 0 or interrupted(tx)
        if is_long and load_acquire(tx + C_CONTROL) != DRIVE:
            return -1
        _pause_before_retry(tx, tries)
    if ld8(tx + C_ROWS) != 0:  # It asked for some, and needed none.
        forget_rows(tx)
    ended = monotonic_ns()
    record_latency(tx, kind, ended - started)
    if outcome == COMMITTED:
        note(tx, ld8(tx + C_TIMESTAMP), started, kind, ended)
    settle(tx, ended)
    if outcome == _ROLLED_BACK:
        counter = tx + K_ROLLED_BACK + 8 * kind
        st8(counter, ld8(counter) + 1)
    return ended


@compiled
def _rest_a_little(tx: int) -> int:
    """Sleep for some tens of microseconds, unless other partitions want something; the time."""
    rest(tx)
    close(ld8(tx + C_ENGINE))
    if ld8(tx + C_MESH) == 0:
        sleep_us(50)
    elif turn_both(tx, monotonic_ns()) == 0:
        sleep_us(20)
    now = monotonic_ns()
    settle(tx, now)
    return now


@compiled
def _wait_for_lane(tx: int, now: int) -> int:
    """Every lane is taken: let them go on, until one is free or the worker must stop; the time."""
    mesh = ld8(tx + C_MESH)
    spins = 0
    while ld8(mesh + H_FREE) & ld8(mesh + H_OWN) == 0 and load_acquire(tx + C_CONTROL) == DRIVE:
        if turn_both(tx, now) == 0:
            spins += 1
            if spins & 255 == 0:
                close(ld8(tx + C_ENGINE))
                settle(tx, now)
            pause()
        now = monotonic_ns()
    return now


@compiled
def _drain(tx: int) -> None:
    """Begin nothing more; go on for others, and with what was begun, up to being stopped."""
    engine = ld8(tx + C_ENGINE)
    while load_acquire(tx + C_CONTROL) != STOP:
        now = monotonic_ns()
        tick(engine, (now + ld8(tx + K_OFFSET)) // 1_000_000)
        rest(tx)
        if turn_both(tx, now) == 0:
            close(engine)
            settle(tx, now)
            sleep_us(20)


@compiled
def _drive(tx: int) -> None:
    engine = ld8(tx + C_ENGINE)
    mesh = ld8(tx + C_MESH)
    now = monotonic_ns()
    count = 0
    while load_acquire(tx + C_CONTROL) == DRIVE:
        if mesh != 0:
            turn_both(tx, now)
            if ld8(mesh + H_FREE) & ld8(mesh + H_OWN) == 0:
                now = _wait_for_lane(tx, now)
        now = _drive_one(tx, now)
        if now < 0 or ld8(tx + K_FAILED) != COMMITTED:
            break
        count += 1
        if count & (CLOSE_EVERY - 1) == 0:
            tick(engine, (now + ld8(tx + K_OFFSET)) // 1_000_000)
            close(engine)
        activate(tx)  # It may have rested, and who walks a tree is active.
        reclaim_some(tx)
    if mesh != 0:
        _drain(tx)


@compiled
def _wait_for_requests(tx: int) -> None:
    """There are none: sleep in the kernel until there are, or for as long as others can wait."""
    close(ld8(tx + C_ENGINE))
    wake_listener(tx)
    reclaim_some_at_rest(tx)
    mesh = ld8(tx + C_MESH)
    if mesh != 0:
        rest(tx)
        if ld8(mesh + H_BUSY) != 0:
            sleep_us(MESH_NAP_US)
            return
        if ld8(mesh + H_SLEEPS) == 0:
            sleep_us(IDLE_NAP_US)
            return
    # Whoever submits writes the head before it looks at the state, and this the other
    # way round: one of the two sees the other.
    tail = ld8(tx + K_REQUEST_TAIL)
    store_seq(tx + C_STATE, SLEEPING)
    nothing = load_acquire(tx + K_REQUEST_HEAD) == tail
    if mesh != 0 and has_mail(tx):
        nothing = False
    if nothing and load_acquire(tx + C_CONTROL) == SERVE:
        wait_event(ld8(tx + C_WAKE), tx + C_RESULT)
    store_release(tx + C_STATE, RUNNING)


@compiled
def _serve(tx: int) -> None:
    engine = ld8(tx + C_ENGINE)
    mesh = ld8(tx + C_MESH)
    idle = 0
    count = 0
    blocked = 0
    while load_acquire(tx + C_CONTROL) == SERVE:
        if mesh != 0:
            now = monotonic_ns()
            if turn(tx, now) != 0:
                idle = 0
            tick(engine, (now + ld8(tx + K_OFFSET)) // 1_000_000)
        tail = ld8(tx + K_REQUEST_TAIL)
        if load_acquire(tx + K_REQUEST_HEAD) == tail:
            idle += 1
            if idle < IDLE_SPINS:
                pause()
                continue
            _wait_for_requests(tx)
            idle = 0
            continue
        idle = 0
        if not serve_oldest(tx, monotonic_ns() + ld8(tx + K_OFFSET)):
            if blocked == 0:
                close(engine)
                wake_listener(tx)
            blocked += 1
            rest(tx)
            sleep_us(20)
            continue
        blocked = 0
        tail = ld8(tx + K_REQUEST_TAIL)
        count += 1
        if (count & (CLOSE_EVERY - 1)) == 0 or load_acquire(tx + K_REQUEST_HEAD) == tail:
            close(engine)
            wake_listener(tx)
        reclaim_some_at_rest(tx)  # It may have rested, waiting for room.
    if mesh != 0:
        _drain(tx)


@compiled
def work(tx: int) -> int:
    """The life of a worker: until its control word says STOP. The outcome that ended it."""
    st8(tx + K_FAILED, COMMITTED)
    store_release(tx + C_STATE, RUNNING)
    control = load_acquire(tx + C_CONTROL)
    if control == DRIVE:
        _drive(tx)
    elif control == SERVE:
        _serve(tx)
    elif control == DRAIN:
        _drain(tx)
    reclaim_some_at_rest(tx)
    store_release(tx + C_STATE, STOPPED)
    return ld8(tx + K_FAILED)


@compiled
def watch(tx: int) -> int:
    """What the watchdog looks at: the transaction that runs, or 0."""
    return ld8(tx + C_PROGRESS) if load_acquire(tx + C_STATE) == RUNNING else 0


@compiled
def doom(tx: int, transaction: int) -> None:
    """Give up on a transaction: its next call of the engine ends it."""
    store_seq(tx + C_DOOMED, transaction)
